/* SPDX-License-Identifier: MIT */
/* Whole files; see file.h. */
#include "common/base/file.h"
#include "common/base/pause_point.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Open a regular file. Return: its descriptor, or a negative errno with a text. */
static int open_regular(int dir_fd, const char *path, size_t *ret_n_bytes, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        struct stat st;

        /* O_NONBLOCK: a FIFO of that name must not hang us */
        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s'", path);
        if (fstat(fd, &st) < 0)
                return error_errno(e, -errno, "could not stat '%s'", path);
        if (!S_ISREG(st.st_mode))
                return error_set(e, -EINVAL, "'%s' is not a regular file", path);
        *ret_n_bytes = (size_t) st.st_size;
        return TAKE_FD(fd);
}

int file_map_open(int dir_fd, const char *path, struct file_map *ret, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        size_t n;
        void *p;

        fd = open_regular(dir_fd, path, &n, e);
        if (fd < 0)
                return fd;
        if (n == 0) {
                *ret = FILE_MAP_NULL;
                return 0;
        }
        p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return error_errno(e, -errno, "could not map '%s'", path);
        *ret = (struct file_map){ .bytes = p, .n_bytes = n };
        return 0;
}

/* Return: 0; -EAGAIN: the file has less; negative errno. */
static int read_all(int fd, unsigned char *bytes, size_t n) {
        while (n > 0) {
                ssize_t n_read = read(fd, bytes, n);

                if (n_read < 0 && errno == EINTR)
                        continue;
                if (n_read < 0)
                        return -errno;
                if (n_read == 0)
                        return -EAGAIN;
                bytes += n_read;
                n -= (size_t) n_read;
        }
        return 0;
}

int file_read(int dir_fd, const char *path, uint64_t max, struct file_map *ret, struct error *e) {
        cleanup_(file_map_close) struct file_map copy = FILE_MAP_NULL;
        cleanup_(fd_closep) int fd = -1;
        size_t n;
        void *p;
        int r;

        fd = open_regular(dir_fd, path, &n, e);
        if (fd < 0)
                return fd;
        if (n > max)
                return error_set(e, -EBADMSG, "'%s' is %zu bytes, at most %" PRIu64 " expected", path, n,
                                 max);
        if (n == 0) {
                *ret = FILE_MAP_NULL;
                return 0;
        }
        /* A mapping as well, so that file_map_close() frees either; and large copies leave no hole behind. */
        p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
                return error_errno(e, -errno, "could not hold the %zu bytes of '%s'", n, path);
        copy = (struct file_map){ .bytes = p, .n_bytes = n };
        r = read_all(fd, p, n);
        if (r == -EAGAIN)
                return error_set(e, r, "'%s' became shorter while it was read", path);
        if (r < 0)
                return error_errno(e, r, "could not read '%s'", path);
        *ret = copy;
        copy = FILE_MAP_NULL;
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
        PAUSE_POINT(FILE_CREATED);
        for (size_t i = 0; i < n_parts; i++) {
                int r = file_write_all(fd, parts[i].bytes, parts[i].n_bytes);

                if (r < 0)
                        return error_errno(e, r, "could not write '%s'", path);
                PAUSE_POINT(FILE_MIDDLE);
        }
        PAUSE_POINT(FILE_BEFORE_SYNC);
        if (fsync(fd) < 0)
                return error_errno(e, -errno, "could not sync '%s'", path);
        PAUSE_POINT(FILE_BEFORE_RENAME);
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
        PAUSE_POINT(FILE_RENAMED);
        return file_sync_directory(dir_fd, path, e);
}

DIR *file_list(int fd) {
        cleanup_(fd_closep) int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = again < 0 ? NULL : fdopendir(again);

        if (dir)
                (void) TAKE_FD(again);
        return dir;
}
