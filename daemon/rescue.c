/* SPDX-License-Identifier: MIT */
/* Rescue; see rescue.h.  Process: azpard, at stop and at start. */
#include "daemon/rescue.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/crc32c.h"

#define FOLDER          "/dev/shm"
#define RESCUE_NAME_MAX 128

/* Two state directories may be given the same instance; of the segment's name the second is refused, too. */
static void make_name(const char *instance, const char *state_path, char ret[RESCUE_NAME_MAX]) {
        (void) snprintf(ret, RESCUE_NAME_MAX, "azpar.%s.%08" PRIx32 ".window", instance,
                        crc32c(state_path, strlen(state_path)));
}

static int open_folder(struct error *e) {
        int fd = open(FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? error_errno(e, -errno, "could not open '" FOLDER "'") : fd;
}

int rescue_save(const struct window *w, const char *instance, const char *state_path, struct error *e) {
        uint64_t n = window_tail(w) - MIN(window_tail(w), window_durable(w));
        cleanup_(fd_closep) int folder = -1;
        char name[RESCUE_NAME_MAX];

        n = MIN(n, window_capacity(w));
        if (n == 0)
                return 0;
        folder = open_folder(e);
        if (folder < 0)
                return folder;
        make_name(instance, state_path, name);
        return window_copy(w, n, folder, name, e);
}

/* Open the file; a stranger may have put it there. Return: the descriptor, -ENOENT, or a negative errno with
 * a text. */
static int open_own(int folder, const char *name, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        struct stat st;

        fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
                return error_errno(e, -errno, "could not open '" FOLDER "/%s'", name);
        if (fstat(fd, &st) < 0)
                return error_errno(e, -errno, "could not stat '" FOLDER "/%s'", name);
        if (st.st_uid != geteuid())
                return error_set(e, -EPERM, "'" FOLDER "/%s' is not ours: remove it", name);
        return TAKE_FD(fd);
}

static int put_back(struct window *w, const struct window *copy, uint64_t *ret_n_samples, struct error *e) {
        int r = window_restore(w, copy, ret_n_samples);

        if (r > 0)
                return error_set(
                        e, -ESTALE,
                        "the replay window has gone on without these samples: remove the file to give "
                        "them up");
        if (r == 0)
                r = window_sync(w); /* before the only other copy goes */
        return r < 0 ? error_errno(e, r, "could not write its samples to the replay window") : 0;
}

int rescue_take(struct window *w, const struct game *g, const char *instance, const char *state_path,
                uint64_t *ret_n_samples, struct error *e) {
        cleanup_(window_freep) struct window *copy = NULL;
        cleanup_(fd_closep) int folder = -1;
        char name[RESCUE_NAME_MAX];
        int fd, r;

        *ret_n_samples = 0;
        folder = open_folder(e);
        if (folder < 0)
                return folder;
        make_name(instance, state_path, name);
        fd = open_own(folder, name, e);
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return fd;
        r = window_map(fd, g, &copy, e);
        if (r == 0)
                r = put_back(w, copy, ret_n_samples, e);
        if (r < 0) {
                error_prefix(e, "'" FOLDER "/%s'", name);
                return r;
        }
        if (unlinkat(folder, name, 0) < 0)
                return error_errno(e, -errno, "could not remove '" FOLDER "/%s'", name);
        return 0;
}
