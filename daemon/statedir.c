/* SPDX-License-Identifier: MIT */
/* The state directory; see statedir.h.  Process: azpard. */
#include "daemon/statedir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "common/base/clock.h"
#include "common/base/file.h"

#define LOCK_POLL_NS    (20 * NS_PER_MS)
#define PID_TEXT_MAX    32
#define USE_MAX_DEPTH   4      /* state directory, checkpoints, one checkpoint: 3 */
#define USE_MAX_ENTRIES 100000 /* a directory that somebody filled must not hold us up */

/* For a process that azpard had forked and that has not given up its descriptors yet. */
#define LOCK_GRACE_NS (5 * NS_PER_S)

/* Like mkdir -p -m 0750, parents with the usual mode. */
static int make_directories(const char *path, struct error *e) {
        char part[PATH_MAX];
        size_t n = strlen(path);

        if (n >= sizeof(part))
                return error_set(e, -ENAMETOOLONG, "state directory '%.60s...': path too long", path);
        (void) memcpy(part, path, n + 1);
        while (n > 1 && part[n - 1] == '/')
                part[--n] = '\0';
        for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdir(part, 0755) < 0 && errno != EEXIST)
                        return error_errno(e, -errno, "could not make '%s' for state directory '%s'", part,
                                           path);
                *slash = '/';
        }
        if (mkdir(part, 0750) < 0 && errno != EEXIST)
                return error_errno(e, -errno, "could not make state directory '%s'", path);
        return 0;
}

int statedir_open(struct statedir *s, const char *path, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        int r;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
                r = make_directories(path, e);
                if (r < 0)
                        return r;
                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        if (fd < 0)
                return error_errno(e, -errno, "could not open state directory '%s'", path);
        if (!realpath(path, s->path))
                return error_errno(e, -errno, "could not resolve state directory '%s'", path);
        if (faccessat(fd, ".", R_OK | W_OK | X_OK, AT_EACCESS) < 0)
                return error_errno(
                        e, -errno,
                        "state directory '%s' is not writable; let its owner run azpard or give another "
                        "one with --state",
                        s->path);
        s->fd = TAKE_FD(fd);
        return 0;
}

void statedir_deinit(struct statedir *s) {
        fd_closep(&s->children_lock_fd);
        fd_closep(&s->lock_fd);
        fd_closep(&s->fd);
        *s = STATEDIR_INIT;
}

static int open_lock(const struct statedir *s, const char *name, struct error *e) {
        int fd = openat(s->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);

        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s/%s'", s->path, name);
        return fd;
}

/* The azpard that has, or had, the lock @fd; @ret is "" if it has not said yet. */
static void read_owner(int fd, char ret[PID_TEXT_MAX]) {
        int n = (int) pread(fd, ret, PID_TEXT_MAX - 1, 0);

        ret[MAX(n, 0)] = '\0';
        ret[strspn(ret, "0123456789")] = '\0';
}

static bool is_dead(const char *pid_text) {
        pid_t pid = (pid_t) strtol(pid_text, NULL, 10);

        return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

int statedir_lock(struct statedir *s, struct error *e) {
        cleanup_(fd_closep) int fd = open_lock(s, "lock", e);
        uint64_t begin = clock_now_ns();
        char pid[PID_TEXT_MAX];
        int n, r;

        if (fd < 0)
                return fd;
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return error_errno(e, -errno, "could not lock '%s/lock'", s->path);
                read_owner(fd, pid);
                /*
                 * One that was killed just after a fork is dead, and the child, which finds that out before
                 * all else, may not have run yet: its copy of the descriptor still holds the lock.
                 */
                if (!is_dead(pid) || clock_now_ns() - begin >= LOCK_GRACE_NS)
                        return error_set(e, -EBUSY, "state directory '%s' is in use by azpard (pid %s)",
                                         s->path, *pid ? pid : "unknown");
                clock_sleep_ns(LOCK_POLL_NS);
        }
        n = snprintf(pid, sizeof(pid), "%d\n", (int) getpid());
        if (ftruncate(fd, 0) < 0)
                return error_errno(e, -errno, "could not write '%s/lock'", s->path);
        r = file_write_all(fd, pid, (size_t) n);
        if (r < 0)
                return error_errno(e, r, "could not write '%s/lock'", s->path);
        s->lock_fd = TAKE_FD(fd);
        return 0;
}

int statedir_lock_children(struct statedir *s, uint64_t timeout_ns, struct error *e) {
        cleanup_(fd_closep) int fd = open_lock(s, "children.lock", e);
        uint64_t begin = clock_now_ns();

        if (fd < 0)
                return fd;
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return error_errno(e, -errno, "could not lock '%s/children.lock'", s->path);
                if (clock_now_ns() - begin >= timeout_ns)
                        return error_set(
                                e, -EBUSY,
                                "state directory '%s': children of a killed azpard still live after %.0f s; "
                                "end them (fuser '%s/children.lock' shows them)",
                                s->path, (double) timeout_ns / NS_PER_S, s->path);
                clock_sleep_ns(LOCK_POLL_NS);
        }
        s->children_lock_fd = TAKE_FD(fd);
        return 0;
}

static void add_use(int dir_fd, unsigned depth, unsigned *n_left, uint64_t *bytes) {
        DIR *dir = fdopendir(dir_fd);
        struct dirent *d;

        if (!dir) {
                (void) close(dir_fd);
                return;
        }
        while (*n_left > 0 && (d = readdir(dir))) {
                struct stat st;

                if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
                        continue;
                (*n_left)--;
                if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue; /* renamed or removed meanwhile */
                *bytes += (uint64_t) st.st_blocks * 512;
                if (S_ISDIR(st.st_mode) && depth + 1 < USE_MAX_DEPTH) {
                        int fd = openat(dirfd(dir), d->d_name,
                                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                        if (fd >= 0)
                                add_use(fd, depth + 1, n_left, bytes);
                }
        }
        (void) closedir(dir);
}

int statedir_use(const struct statedir *s, struct statedir_use *ret) {
        struct statedir_use use = { 0 };
        unsigned n_left = USE_MAX_ENTRIES;
        struct statvfs fs;
        int fd;

        if (fstatvfs(s->fd, &fs) < 0)
                return -errno;
        /* not a dup(): the copy would share its place in the directory */
        fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        add_use(fd, 0, &n_left, &use.state_bytes);
        use.free_bytes = (uint64_t) fs.f_bavail * fs.f_frsize;
        *ret = use;
        return 0;
}
