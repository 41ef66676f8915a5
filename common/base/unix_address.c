/* SPDX-License-Identifier: MIT */
/*
 * Addresses of Unix sockets; see unix_address.h.
 *
 * The way through /proc/self/fd was chosen over chdir(), which would move the
 * whole process, and over refusing long paths, which users meet in temporary
 * folders of CI machines.  Used by azpard and azparctl.
 */
#include "common/base/unix_address.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static int open_directory_of(const char *path, const char *slash, struct error *e) {
        char directory[PATH_MAX];
        size_t n = slash ? (size_t) (slash - path) + 1 : 0; /* with its slash, so that "/x" gives "/" */
        int fd;

        if (n >= sizeof(directory))
                return error_set(e, -ENAMETOOLONG, "path of socket '%.64s...' is too long", path);
        memcpy(directory, path, n);
        directory[n] = 0;
        fd = open(n ? directory : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? error_errno(e, -errno, "could not open '%s'", n ? directory : ".") : fd;
}

int unix_address_init(struct unix_address *ret, const char *path, struct error *e) {
        const size_t room = sizeof(ret->sun.sun_path);
        const char *slash = strrchr(path, '/');
        struct unix_address a = UNIX_ADDRESS_NULL;
        int n;

        a.sun.sun_family = AF_UNIX;
        if (!path[0])
                return error_set(e, -EINVAL, "the path of the socket is empty");
        if (strlen(path) < room) {
                n = snprintf(a.sun.sun_path, room, "%s", path);
        } else {
                a.directory_fd = open_directory_of(path, slash, e);
                if (a.directory_fd < 0)
                        return a.directory_fd;
                n = snprintf(a.sun.sun_path, room, "/proc/self/fd/%d/%s", a.directory_fd,
                             slash ? slash + 1 : path);
                if (n < 0 || (size_t) n >= room) {
                        unix_address_deinit(&a);
                        return error_set(e, -ENAMETOOLONG, "name of socket '%.64s...' is too long",
                                         slash ? slash + 1 : path);
                }
        }
        a.n_bytes = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + (size_t) n + 1);
        *ret = a;
        return 0;
}

void unix_address_deinit(struct unix_address *a) {
        fd_closep(&a->directory_fd);
        a->directory_fd = -1;
}
