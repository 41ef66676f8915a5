/* SPDX-License-Identifier: MIT */
/* Whole files; see file.h. */
#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int file_map_open(int dir_fd, const char *path, struct file_map *ret, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        struct stat st;
        void *p;

        /* O_NONBLOCK: a FIFO of that name must not hang us */
        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s'", path);
        if (fstat(fd, &st) < 0)
                return error_errno(e, -errno, "could not stat '%s'", path);
        if (!S_ISREG(st.st_mode))
                return error_set(e, -EINVAL, "'%s' is not a regular file", path);
        if (st.st_size == 0) {
                *ret = FILE_MAP_NULL;
                return 0;
        }
        p = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return error_errno(e, -errno, "could not map '%s'", path);
        *ret = (struct file_map){ .bytes = p, .n_bytes = (size_t) st.st_size };
        return 0;
}

void file_map_close(struct file_map *m) {
        if (m->bytes)
                (void) munmap((void *) (uintptr_t) m->bytes, m->n_bytes);
        *m = FILE_MAP_NULL;
}

int file_write_all(int fd, const void *bytes, size_t n) {
        const unsigned char *p = bytes;

        while (n > 0) {
                ssize_t written = write(fd, p, n);

                if (written < 0 && errno == EINTR)
                        continue;
                if (written < 0)
                        return -errno;
                if (written == 0)
                        return -EIO;
                p += written;
                n -= (size_t) written;
        }
        return 0;
}

int file_sync_directory(int dir_fd, const char *path, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        char folder[PATH_MAX];
        const char *slash = strrchr(path, '/');
        int n = slash ? (int) (slash - path) : 0;

        if (slash == path)
                (void) snprintf(folder, sizeof(folder), "/");
        else if (snprintf(folder, sizeof(folder), "%.*s", slash ? n : 1, slash ? path : ".") >=
                 (int) sizeof(folder))
                return error_set(e, -ENAMETOOLONG, "path '%s' is too long", path);
        fd = openat(dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_errno(e, -errno, "could not open the directory of '%s'", path);
        if (fsync(fd) < 0)
                return error_errno(e, -errno, "could not sync the directory of '%s'", path);
        return 0;
}

/* Create, fill and sync the temporary file; the caller removes it if this fails. */
static int write_durably(int dir_fd, const char *path, const struct file_part *parts, size_t n_parts,
                         struct error *e) {
        cleanup_(fd_closep) int fd = -1;

        fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0)
                return error_errno(e, -errno, "could not create '%s'", path);
        for (size_t i = 0; i < n_parts; i++) {
                int r = file_write_all(fd, parts[i].bytes, parts[i].n_bytes);

                if (r < 0)
                        return error_errno(e, r, "could not write '%s'", path);
        }
        if (fsync(fd) < 0)
                return error_errno(e, -errno, "could not sync '%s'", path);
        return 0;
}

int file_replace(int dir_fd, const char *path, const struct file_part *parts, size_t n_parts,
                 struct error *e) {
        char temporary[PATH_MAX];
        int r;

        if (snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= (int) sizeof(temporary))
                return error_set(e, -ENAMETOOLONG, "path '%s' is too long", path);
        r = write_durably(dir_fd, temporary, parts, n_parts, e);
        if (r == 0 && renameat(dir_fd, temporary, dir_fd, path) < 0)
                r = error_errno(e, -errno, "could not rename '%s' to '%s'", temporary, path);
        if (r < 0) {
                (void) unlinkat(dir_fd, temporary, 0);
                return r;
        }
        return file_sync_directory(dir_fd, path, e);
}
