/* SPDX-License-Identifier: MIT */
/* Setting a file aside; see set_aside.h.  Process: azpard. */
#include "daemon/set_aside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/pause_point.h"

#define GROWING_US UINT64_C(5000000) /* who copies a file is not silent for so long */

bool set_aside_is_same(const struct stat *a, const struct stat *b) {
        /* the time too: a number of an inode is soon used again */
        return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
               a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

bool set_aside_is_growing(int fd, const struct stat *st) {
        uint64_t now_us = clock_unix_us(), written_us;
        struct stat now;

        if (fd < 0 || fstat(fd, &now) < 0)
                return false;
        if (!set_aside_is_same(st, &now))
                return true;
        /* the clock may jump, or have jumped: then it is not */
        written_us = (uint64_t) now.st_mtim.tv_sec * 1000000 + (uint64_t) now.st_mtim.tv_nsec / 1000;
        return now_us >= written_us && now_us - written_us < GROWING_US;
}

/* "spill/rejected/worker_3-batch_000017.json", with a number behind it if there is one already. */
static int name_rejected(int state_fd, const struct spill_entry *entry, char ret[PATH_MAX]) {
        char folder[SPILL_FOLDER_NAME_MAX], name[SPILL_FOLDER_NAME_MAX];

        spill_folder_worker(entry->folder, folder);
        spill_folder_name(entry->number, name);
        (void) snprintf(ret, PATH_MAX, SPILL_FOLDER_REJECTED "/%s-%s", folder, name);
        for (unsigned n = 1; faccessat(state_fd, ret, F_OK, AT_SYMLINK_NOFOLLOW) == 0; n++)
                (void) snprintf(ret, PATH_MAX, SPILL_FOLDER_REJECTED "/%s-%s.%u", folder, name, n);
        return errno == ENOENT ? 0 : -errno;
}

/* Its reason first, so that no file is there without one. */
int set_aside(int state_fd, const struct spill_entry *entry, const struct stat *st, const char *reason,
              struct error *e) {
        char from[SPILL_ENTRY_PATH_MAX], path[PATH_MAX], reason_path[PATH_MAX + 8];
        struct file_part parts[] = { { from, 0 }, { ": ", 2 }, { reason, strlen(reason) }, { "\n", 1 } };
        struct stat now;
        int r;

        parts[0].n_bytes = strlen(spill_entry_path(entry, from));
        if (mkdirat(state_fd, SPILL_FOLDER_REJECTED, 0750) < 0 && errno != EEXIST)
                return error_errno(e, -errno, "could not make '" SPILL_FOLDER_REJECTED "'");
        r = name_rejected(state_fd, entry, path);
        if (r < 0)
                return error_errno(e, r, "could not look into '" SPILL_FOLDER_REJECTED "'");
        if (fstatat(state_fd, from, &now, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? SET_ASIDE_E_GONE : error_errno(e, -errno, "could not stat it");
        if (!set_aside_is_same(st, &now))
                return SET_ASIDE_E_GONE;
        (void) snprintf(reason_path, sizeof(reason_path), "%s.reason", path);
        r = file_replace(state_fd, reason_path, parts, N_ELEMENTS(parts), e);
        if (r < 0)
                return r;
        PAUSE_POINT(REJECT_REASON);
        if (renameat(state_fd, from, state_fd, path) < 0)
                return error_errno(e, -errno, "could not move it to '%s'", path);
        PAUSE_POINT(REJECT_MOVED);
        return file_sync_directory(state_fd, path, e);
}
