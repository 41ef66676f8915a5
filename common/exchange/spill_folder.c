/* SPDX-License-Identifier: MIT */
/* The folders of spill files; see spill_folder.h.  Processes: azpard, azpar-worker, azparctl. */
#include "common/exchange/spill_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/file.h"

#define DIGITS_MAX 18 /* so that every number fits 64 bits */

void spill_folder_name(uint64_t number, char ret[SPILL_FOLDER_NAME_MAX]) {
        (void) snprintf(ret, SPILL_FOLDER_NAME_MAX, "batch_%06" PRIu64 ".json", number);
}

void spill_folder_worker(uint64_t slot, char ret[SPILL_FOLDER_NAME_MAX]) {
        (void) snprintf(ret, SPILL_FOLDER_NAME_MAX, "worker_%" PRIu64, slot);
}

/* The number at @digits, if what makes names gives just @name for it: there is one name for a number. */
static bool parse(const char *name, const char *digits, void (*make)(uint64_t n, char *ret), uint64_t *ret) {
        char canonical[SPILL_FOLDER_NAME_MAX];
        size_t n_digits = strspn(digits, "0123456789");

        if (n_digits == 0 || n_digits > DIGITS_MAX)
                return false;
        *ret = strtoull(digits, NULL, 10);
        make(*ret, canonical);
        return strcmp(name, canonical) == 0;
}

bool spill_folder_parse_worker(const char *name, uint64_t *ret) {
        return strncmp(name, "worker_", 7) == 0 && parse(name, name + 7, spill_folder_worker, ret);
}

bool spill_folder_parse_name(const char *name, uint64_t *ret) {
        return strncmp(name, "batch_", 6) == 0 && parse(name, name + 6, spill_folder_name, ret);
}

/* mkdirat() and, if that made it, what makes it survive a power cut. */
static int make_one(int dir_fd, const char *path) {
        if (mkdirat(dir_fd, path, 0750) < 0)
                return errno == EEXIST ? 0 : -errno;
        return file_sync_directory(dir_fd, path, NULL);
}

int spill_folder_make(int state_fd, uint64_t slot) {
        char name[SPILL_FOLDER_NAME_MAX], path[2 * SPILL_FOLDER_NAME_MAX];
        int fd, r;

        spill_folder_worker(slot, name);
        (void) snprintf(path, sizeof(path), SPILL_FOLDER "/%s", name);
        r = make_one(state_fd, SPILL_FOLDER);
        if (r == 0)
                r = make_one(state_fd, path);
        if (r < 0)
                return r;
        fd = openat(state_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

bool spill_folder_is_in_place(int state_fd, uint64_t slot, int fd) {
        char name[SPILL_FOLDER_NAME_MAX], path[2 * SPILL_FOLDER_NAME_MAX];
        struct stat there, ours;

        spill_folder_worker(slot, name);
        (void) snprintf(path, sizeof(path), SPILL_FOLDER "/%s", name);
        return fstatat(state_fd, path, &there, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &ours) == 0 &&
               there.st_ino == ours.st_ino && there.st_dev == ours.st_dev;
}

int spill_folder_clean(int fd) {
        cleanup_(closedirp) DIR *dir = file_list(fd);
        const struct dirent *d;

        if (!dir)
                return -errno;
        for (errno = 0; (d = readdir(dir)); errno = 0) {
                size_t n = strlen(d->d_name), n_suffix = strlen(SPILL_FOLDER_TEMPORARY);
                char name[SPILL_FOLDER_NAME_MAX];
                uint64_t number;

                if (n <= n_suffix || n >= sizeof(name) ||
                    strcmp(d->d_name + n - n_suffix, SPILL_FOLDER_TEMPORARY) != 0)
                        continue;
                (void) snprintf(name, sizeof(name), "%.*s", (int) (n - n_suffix), d->d_name);
                if (spill_folder_parse_name(name, &number) && unlinkat(fd, d->d_name, 0) < 0)
                        return -errno;
        }
        return -errno;
}

int spill_folder_clean_all(int state_fd) {
        cleanup_(fd_closep) int fd = openat(state_fd, SPILL_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        cleanup_(closedirp) DIR *dir = fd < 0 ? NULL : file_list(fd);
        const struct dirent *d;
        uint64_t slot;
        int result = 0;

        if (!dir)
                return errno == ENOENT ? 0 : -errno;
        for (errno = 0; (d = readdir(dir)); errno = 0) {
                cleanup_(fd_closep) int worker_fd = -1;
                int r;

                if (!spill_folder_parse_worker(d->d_name, &slot))
                        continue;
                worker_fd = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                r = worker_fd < 0 ? -errno : spill_folder_clean(worker_fd);
                if (r < 0)
                        result = r; /* the others all the same */
        }
        return errno ? -errno : result;
}

int spill_folder_look(int fd, struct spill_folder_content *ret) {
        cleanup_(closedirp) DIR *dir = file_list(fd);
        struct spill_folder_content content = { 0 };
        const struct dirent *d;

        if (!dir)
                return -errno;
        for (errno = 0; (d = readdir(dir)); errno = 0) {
                uint64_t number;
                struct stat st;

                if (!spill_folder_parse_name(d->d_name, &number) ||
                    fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue; /* taken away meanwhile */
                content.n_files++;
                content.n_bytes += (uint64_t) st.st_size;
                content.next_number = MAX(content.next_number, number + 1);
        }
        if (errno)
                return -errno;
        if (content.next_number > SPILL_FOLDER_NUMBER_MAX)
                return -EOVERFLOW;
        *ret = content;
        return 0;
}
