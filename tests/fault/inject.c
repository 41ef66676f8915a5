/* SPDX-License-Identifier: MIT */
/*
 * inject.so: preloaded into azpard, lets the N-th call of malloc or of the system fail; see fault.h.
 *
 * Only the process that is called azpard is touched.  Its children lose LD_PRELOAD; between fork and exec
 * they are still this code, and count as FAULT_CHILD.
 *
 * Each function has a list of ways to fail: errno values that the system may really give there, and SHORT for
 * less than was asked for.  What is wrapped is what azpard and the libraries under it call through their
 * dynamic symbols.  glibc's own calls inside of glibc are not (fopen() opens by itself), so such functions
 * are wrapped as well; malloc is an exception, glibc calls the wrapped one.  liburing makes its system calls
 * by itself; its functions are wrapped, and a request is spoilt by changing it in the ring.
 *
 * A fast clock (control.speed) makes what happens once a second testable: CLOCK_MONOTONIC and the timers that
 * stand on it are scaled together.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/fault/fault.h"

#define EXPORT __attribute__((visibility("default")))
#define SHORT  (-1) /* a way: do less than was asked for */

#define NS_PER_S INT64_C(1000000000)

static struct fault_control *control; /* NULL: not in azpard */
static bool in_child;                 /* forked from azpard */
static int64_t base_ns;               /* when the fast clock began */

/* The function that we stand in front of. */
#define REAL(name)                                                                                           \
        __extension__({                                                                                      \
                static __typeof__(name) *real_;                                                              \
                if (!real_)                                                                                  \
                        *(void **) &real_ = dlsym(RTLD_NEXT, #name);                                         \
                real_;                                                                                       \
        })

/* ---- whether, and how ---- */

static void play_trick(uint32_t trick) {
        if (trick == FAULT_TRICK_CRASH)
                abort();
        while (trick == FAULT_TRICK_HANG)
                (void) syscall(SYS_pause);
}

/*
 * Count a call.  Return: 0: it goes through; SHORT; an errno to fail with. @ways: @n of them.
 */
static int due(unsigned class, const char *name, const int *ways, size_t n) {
        struct fault_control *c = control;
        uint64_t at, call;
        uint32_t trick, way;

        if (!c)
                return 0;
        if (in_child)
                class = FAULT_CHILD;
        /* acquire: pairs with the driver's release; the other words are those that go with these classes */
        if (!(atomic_load_explicit(&c->classes, memory_order_acquire) & class))
                return 0;
        call = 1 + atomic_fetch_add(&c->n_calls, 1);
        at = atomic_load(&c->at);
        way = atomic_load(&c->way);
        if (call != at)
                return 0;
        atomic_store(&c->n_ways, (uint32_t) n);
        (void) snprintf(c->failed_name, sizeof(c->failed_name), "%s", name);
        trick = atomic_load(&c->trick);
        atomic_store(&c->failed_errno, trick || ways[way % n] == SHORT ? 0 : ways[way % n]);
        atomic_fetch_add(&c->n_failed, 1);
        play_trick(trick);
        return ways[way % n];
}

#define DUE(class, name, ...)                                                                                \
        due(class, name, (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

/* A function that gives -1 with errno. */
#define WRAP(class, type, name, parameters, arguments, ...)                                                  \
        EXPORT type name parameters {                                                                        \
                int error_ = DUE(class, #name, __VA_ARGS__);                                                 \
                if (error_) {                                                                                \
                        errno = error_;                                                                      \
                        return (type) -1;                                                                    \
                }                                                                                            \
                return REAL(name) arguments;                                                                 \
        }

/* The same, for one that gives NULL. */
#define WRAP_POINTER(class, type, name, parameters, arguments, ...)                                          \
        EXPORT type name parameters {                                                                        \
                int error_ = DUE(class, #name, __VA_ARGS__);                                                 \
                if (error_) {                                                                                \
                        errno = error_;                                                                      \
                        return NULL;                                                                         \
                }                                                                                            \
                return REAL(name) arguments;                                                                 \
        }

/* The same, for one that gives the negative errno, or with @sign 1 the positive one. */
#define WRAP_ERRNO(class, sign, name, parameters, arguments, ...)                                            \
        EXPORT int name parameters {                                                                         \
                int error_ = DUE(class, #name, __VA_ARGS__);                                                 \
                return error_ ? (sign) *error_ : REAL(name) arguments;                                       \
        }

/* ---- memory ---- */

/* clang-format off */
WRAP_POINTER(FAULT_ALLOC, void *, malloc, (size_t n), (n), ENOMEM)
WRAP_POINTER(FAULT_ALLOC, void *, calloc, (size_t n, size_t size), (n, size), ENOMEM)
WRAP_POINTER(FAULT_ALLOC, void *, realloc, (void *p, size_t n), (p, n), ENOMEM)
/* clang-format on */

/* ---- what the event loop watches ---- */

#define WATCH_FDS    64 /* azpard has not so many of them here */
#define WATCH_RECENT 24

/*
 * An event of something that the loop does not watch any more would have libsystemd read what it has freed.
 * It might not notice: so it is looked for, with what led to it.
 */
static void *watched[WATCH_FDS]; /* by descriptor: what libsystemd gets back with its events */
static struct { int fd, operation; } recent[WATCH_RECENT];
static unsigned n_operations;

static void watch(int fd, int operation, void *data) {
        if (!control || in_child || fd < 0 || fd >= WATCH_FDS || (operation == EPOLL_CTL_DEL && !watched[fd]))
                return;
        watched[fd] = operation == EPOLL_CTL_DEL ? NULL : data;
        recent[n_operations % WATCH_RECENT].fd = fd;
        recent[n_operations++ % WATCH_RECENT].operation = operation;
}

static bool is_watched(const void *data) {
        for (size_t i = 0; i < WATCH_FDS; i++)
                if (watched[i] == data)
                        return true;
        return false;
}

/* Return: @n, or it does not return. */
static int check_events(const struct epoll_event *events, int n) {
        static const char *const names[] = {
                [EPOLL_CTL_ADD] = "add", [EPOLL_CTL_DEL] = "remove", [EPOLL_CTL_MOD] = "change"
        };

        if (!control || in_child)
                return n;
        for (int i = 0; i < n; i++) {
                if (is_watched(events[i].data.ptr))
                        continue;
                (void) fprintf(stderr, "inject.so: an event of what is not watched any more, after these:");
                for (unsigned k = n_operations > WATCH_RECENT ? n_operations - WATCH_RECENT : 0;
                     k < n_operations; k++)
                        (void) fprintf(stderr, " %s %d,", names[recent[k % WATCH_RECENT].operation],
                                       recent[k % WATCH_RECENT].fd);
                (void) fprintf(stderr, " now events %#x\n", events[i].events);
                abort();
        }
        return n;
}

/* ---- files ---- */

static mode_t mode_of(int flags, va_list args) {
        return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...) {
        int error = DUE(FAULT_FILE, "open", EMFILE, EIO, ENOMEM);
        va_list args;
        mode_t mode;

        va_start(args, flags);
        mode = mode_of(flags, args);
        va_end(args);
        if (error) {
                errno = error;
                return -1;
        }
        return REAL(open)(path, flags, mode);
}

EXPORT int openat(int fd, const char *path, int flags, ...) {
        int error = DUE(FAULT_FILE, "openat", EMFILE, EIO, ENOMEM);
        va_list args;
        mode_t mode;

        va_start(args, flags);
        mode = mode_of(flags, args);
        va_end(args);
        if (error) {
                errno = error;
                return -1;
        }
        return REAL(openat)(fd, path, flags, mode);
}

EXPORT int fcntl(int fd, int command, ...) {
        int error = DUE(FAULT_FILE, "fcntl", EMFILE, EPERM);
        va_list args;
        long argument;

        va_start(args, command);
        argument = va_arg(args, long);
        va_end(args);
        if (error) {
                errno = error;
                return -1;
        }
        return REAL(fcntl)(fd, command, argument);
}

enum kind { KIND_FILE, KIND_LOG, KIND_EVENT };

static enum kind kind_of(int fd) {
        struct stat st;

        if (fd == STDERR_FILENO)
                return KIND_LOG;
        if (syscall(SYS_fstat, fd, &st) < 0 || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode))
                return KIND_FILE;
        return KIND_EVENT; /* eventfd, timerfd, signalfd */
}

static size_t less(size_t n) {
        return n > 64 ? n / 2 : n > 1 ? 1 : n;
}

#define WAYS_READ  EIO, SHORT, EINTR
#define WAYS_WRITE ENOSPC, SHORT, EIO, EINTR

static int due_read(int fd, const char *name) {
        if (control && kind_of(fd) == KIND_EVENT)
                return DUE(FAULT_NET, "read of an event", EAGAIN, EINTR);
        return DUE(FAULT_FILE, name, WAYS_READ);
}

EXPORT ssize_t read(int fd, void *bytes, size_t n) {
        int error = due_read(fd, "read");

        if (error > 0) {
                errno = error;
                return -1;
        }
        return REAL(read)(fd, bytes, error == SHORT ? less(n) : n);
}

EXPORT ssize_t pread(int fd, void *bytes, size_t n, off_t at) {
        int error = due_read(fd, "pread");

        if (error > 0) {
                errno = error;
                return -1;
        }
        return REAL(pread)(fd, bytes, error == SHORT ? less(n) : n, at);
}

static int due_write(int fd, const char *name) {
        enum kind kind = control ? kind_of(fd) : KIND_FILE;

        if (kind == KIND_LOG)
                return DUE(FAULT_FILE, "write of a log line", EIO, SHORT, EPIPE);
        if (kind == KIND_EVENT)
                return DUE(FAULT_NET, "write of an event", EAGAIN, EINTR);
        return DUE(FAULT_FILE, name, WAYS_WRITE);
}

EXPORT ssize_t write(int fd, const void *bytes, size_t n) {
        int error = due_write(fd, "write");

        if (error > 0) {
                errno = error;
                return -1;
        }
        return REAL(write)(fd, bytes, error == SHORT ? less(n) : n);
}

EXPORT ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
        int error = due_write(fd, "pwrite");

        if (error > 0) {
                errno = error;
                return -1;
        }
        return REAL(pwrite)(fd, bytes, error == SHORT ? less(n) : n, at);
}

/* The descriptor is closed all the same, as Linux does it. */
EXPORT int close(int fd) {
        int error = DUE(FAULT_FILE, "close", EIO, EINTR);
        int r = REAL(close)(fd);

        watch(fd, EPOLL_CTL_DEL, NULL);
        if (!error)
                return r;
        errno = error;
        return -1;
}

EXPORT int fclose(FILE *f) {
        int error = DUE(FAULT_FILE, "fclose", ENOSPC, EIO);
        int r = REAL(fclose)(f);

        if (!error)
                return r;
        errno = error;
        return EOF;
}

EXPORT char *fgets(char *line, int n, FILE *f) {
        int error = DUE(FAULT_FILE, "fgets", EIO);

        if (!error)
                return REAL(fgets)(line, n, f);
        f->_flags |= 0x20; /* what ferror() looks at */
        errno = error;
        return NULL;
}

static bool is_window(int fd) {
        char link[64], path[1024] = "";

        (void) snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        (void) syscall(SYS_readlink, link, path, sizeof(path) - 1);
        return strstr(path, "/window");
}

EXPORT void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
        int error = DUE(FAULT_FILE, "mmap", ENOMEM, ENODEV);

        if (error) {
                errno = error;
                return MAP_FAILED;
        }
        if (control && atomic_load(&control->trick) == FAULT_TRICK_SWALLOW && fd >= 0 && is_window(fd))
                flags = (flags & ~MAP_SHARED) | MAP_PRIVATE;
        return REAL(mmap)(at, n, protection, flags, fd, offset);
}

/* clang-format off */
WRAP(FAULT_FILE, int, munmap, (void *at, size_t n), (at, n), ENOMEM)
WRAP(FAULT_FILE, int, madvise, (void *at, size_t n, int advice), (at, n, advice), EAGAIN)
WRAP(FAULT_FILE, int, msync, (void *at, size_t n, int flags), (at, n, flags), EIO, ENOMEM)
WRAP(FAULT_FILE, int, fsync, (int fd), (fd), EIO, ENOSPC)
WRAP(FAULT_FILE, int, fdatasync, (int fd), (fd), EIO, ENOSPC)
WRAP(FAULT_FILE, int, ftruncate, (int fd, off_t n), (fd, n), EIO, ENOSPC)
WRAP(FAULT_FILE, int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
     ENOSPC, EOPNOTSUPP, EINTR, EIO)
WRAP_ERRNO(FAULT_FILE, 1, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n), ENOSPC, EINTR, EIO)
WRAP(FAULT_FILE, int, renameat, (int from_fd, const char *from, int to_fd, const char *to),
     (from_fd, from, to_fd, to), ENOSPC, EIO)
WRAP(FAULT_FILE, int, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
     (from_fd, from, to_fd, to, flags), ENOSPC, EIO)
WRAP(FAULT_FILE, int, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags),
     (from_fd, from, to_fd, to, flags), ENOSPC, EIO)
WRAP(FAULT_FILE, int, unlink, (const char *path), (path), EIO, EROFS)
WRAP(FAULT_FILE, int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), EIO, EROFS)
WRAP(FAULT_FILE, int, mkdir, (const char *path, mode_t mode), (path, mode), ENOSPC, EROFS)
WRAP(FAULT_FILE, int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode), ENOSPC, EROFS)
WRAP(FAULT_FILE, int, fstat, (int fd, struct stat *st), (fd, st), EIO, ENOMEM)
WRAP(FAULT_FILE, int, lstat, (const char *path, struct stat *st), (path, st), EIO, ENOMEM)
WRAP(FAULT_FILE, int, stat, (const char *path, struct stat *st), (path, st), EIO, ENOMEM)
WRAP(FAULT_FILE, int, fstatat, (int fd, const char *path, struct stat *st, int flags), (fd, path, st, flags),
     EIO, ENOMEM)
WRAP(FAULT_FILE, int, fstatvfs, (int fd, struct statvfs *fs), (fd, fs), EIO, ENOMEM)
WRAP(FAULT_FILE, int, flock, (int fd, int operation), (fd, operation), ENOLCK, EINTR)
WRAP(FAULT_FILE, int, access, (const char *path, int mode), (path, mode), EIO, ENOMEM)
WRAP(FAULT_FILE, int, faccessat, (int fd, const char *path, int mode, int flags), (fd, path, mode, flags),
     EIO, ENOMEM)
WRAP(FAULT_FILE, ssize_t, readlink, (const char *path, char *to, size_t n), (path, to, n), EIO, ENOMEM)
WRAP_POINTER(FAULT_FILE, char *, realpath, (const char *path, char *to), (path, to), EIO, ENOMEM)
WRAP_POINTER(FAULT_FILE, DIR *, opendir, (const char *path), (path), EMFILE, ENOMEM)
WRAP_POINTER(FAULT_FILE, DIR *, fdopendir, (int fd), (fd), ENOMEM)
WRAP_POINTER(FAULT_FILE, struct dirent *, readdir, (DIR *dir), (dir), EIO)
WRAP(FAULT_FILE, int, scandirat,
     (int fd, const char *path, struct dirent ***list, int (*choose)(const struct dirent *),
      int (*compare)(const struct dirent **, const struct dirent **)),
     (fd, path, list, choose, compare), ENOMEM, EMFILE, EIO)
WRAP_POINTER(FAULT_FILE, FILE *, fopen, (const char *path, const char *mode), (path, mode), EMFILE, ENOMEM)
WRAP_POINTER(FAULT_FILE, FILE *, fdopen, (int fd, const char *mode), (fd, mode), ENOMEM)
WRAP(FAULT_FILE, int, memfd_create, (const char *name, unsigned flags), (name, flags), EMFILE, ENOMEM)
WRAP(FAULT_FILE, int, shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode),
     EMFILE, ENOSPC, EACCES)
WRAP(FAULT_FILE, int, shm_unlink, (const char *name), (name), EIO, EACCES)
WRAP(FAULT_FILE, ssize_t, getrandom, (void *bytes, size_t n, unsigned flags), (bytes, n, flags), EINTR, EAGAIN)
/* clang-format on */

/* The names that programs with 64-bit offsets use, libsystemd for one. */
EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));
EXPORT int openat64(int fd, const char *path, int flags, ...) __attribute__((alias("openat")));
EXPORT int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
EXPORT FILE *fopen64(const char *path, const char *mode) __attribute__((alias("fopen")));
EXPORT void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset)
        __attribute__((alias("mmap")));
EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) __attribute__((alias("pwrite")));

/* ---- io_uring ---- */

/* Make the newest request that waits to be submitted fail when it is carried out, or do half of it. */
static void spoil_request(struct io_uring *ring, bool shorten) {
        struct io_uring_sqe *sqe;

        if (ring->sq.sqe_tail == ring->sq.sqe_head)
                return;
        sqe = &ring->sq.sqes[(ring->sq.sqe_tail - 1) & *ring->sq.kring_mask];
        if (!shorten)
                sqe->fd = -1;
        else if (sqe->opcode == IORING_OP_WRITE || sqe->opcode == IORING_OP_READ)
                sqe->len = (uint32_t) less(sqe->len);
}

EXPORT int io_uring_submit(struct io_uring *ring) {
        int error = DUE(FAULT_FILE, "io_uring_submit", EBADF, EAGAIN, SHORT, ENOMEM);

        if (error == EBADF || error == SHORT)
                spoil_request(ring, error == SHORT);
        else if (error)
                return -error;
        return REAL(io_uring_submit)(ring);
}

/* clang-format off */
WRAP_ERRNO(FAULT_FILE, -1, io_uring_queue_init, (unsigned n, struct io_uring *ring, unsigned flags),
           (n, ring, flags), ENOMEM, ENOSYS, EPERM, EMFILE)
WRAP_ERRNO(FAULT_FILE, -1, io_uring_register_eventfd, (struct io_uring *ring, int fd), (ring, fd), ENOMEM)
/* clang-format on */

/* ---- sockets and the event loop ---- */

EXPORT ssize_t recv(int fd, void *bytes, size_t n, int flags) {
        int error = DUE(FAULT_NET, "recv", SHORT, EAGAIN, ECONNRESET, EINTR, ENOMEM);

        if (error > 0) {
                errno = error;
                return -1;
        }
        return REAL(recv)(fd, bytes, error == SHORT ? less(n) : n, flags);
}

EXPORT ssize_t send(int fd, const void *bytes, size_t n, int flags) {
        int error = DUE(FAULT_NET, "send", SHORT, EAGAIN, EPIPE, EINTR, ENOBUFS);

        if (error > 0) {
                errno = error;
                return -1;
        }
        return REAL(send)(fd, bytes, error == SHORT ? less(n) : n, flags);
}

/* EPOLL_CTL_DEL needs nothing, and cannot fail for a descriptor that is in the set. */
EXPORT int epoll_ctl(int fd, int operation, int on, struct epoll_event *event) {
        int error = operation == EPOLL_CTL_DEL ? 0 : DUE(FAULT_NET, "epoll_ctl", ENOMEM, ENOSPC);
        int r;

        if (error) {
                errno = error;
                return -1;
        }
        r = REAL(epoll_ctl)(fd, operation, on, event);
        if (r == 0)
                watch(on, operation, event ? event->data.ptr : NULL);
        return r;
}

EXPORT int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
        int error = DUE(FAULT_NET, "epoll_wait", EINTR);

        if (error) {
                errno = error;
                return -1;
        }
        return check_events(events, REAL(epoll_wait)(fd, events, n, timeout));
}

EXPORT int epoll_pwait2(int fd, struct epoll_event *events, int n, const struct timespec *timeout,
                        const sigset_t *set) {
        int error = DUE(FAULT_NET, "epoll_pwait2", EINTR);

        if (error) {
                errno = error;
                return -1;
        }
        return check_events(events, REAL(epoll_pwait2)(fd, events, n, timeout, set));
}

/* clang-format off */
WRAP(FAULT_NET, int, socket, (int domain, int type, int protocol), (domain, type, protocol), EMFILE, ENOBUFS)
WRAP(FAULT_NET, int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), ENOMEM, EADDRINUSE)
WRAP(FAULT_NET, int, listen, (int fd, int n), (fd, n), ENOBUFS)
WRAP(FAULT_NET, int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags),
     EMFILE, ECONNABORTED, EAGAIN, EINTR, ENOMEM)
WRAP(FAULT_NET, int, connect, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), ENOMEM, EINTR)
WRAP(FAULT_NET, int, getsockopt, (int fd, int level, int option, void *value, socklen_t *n),
     (fd, level, option, value, n), ENOBUFS)
WRAP(FAULT_NET, ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags), EAGAIN, ECONNRESET, EINTR, ENOMEM)
WRAP(FAULT_NET, ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags),
     EAGAIN, EINTR, ENOBUFS)
WRAP(FAULT_NET, int, epoll_create1, (int flags), (flags), EMFILE, ENOMEM)
WRAP(FAULT_NET, int, timerfd_create, (int clock, int flags), (clock, flags), EMFILE, ENOMEM)
WRAP(FAULT_NET, int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), EMFILE, ENOMEM)
WRAP(FAULT_NET, int, eventfd, (unsigned n, int flags), (n, flags), EMFILE, ENOMEM)
WRAP(FAULT_NET, int, eventfd_read, (int fd, eventfd_t *n), (fd, n), EAGAIN, EINTR)
WRAP(FAULT_NET, int, eventfd_write, (int fd, eventfd_t n), (fd, n), EAGAIN, EINTR)

/* ---- processes ---- */

WRAP(FAULT_PROCESS, int, execv, (const char *path, char *const *argv), (path, argv), ENOMEM, EIO)
WRAP(FAULT_PROCESS, int, dup2, (int from, int to), (from, to), EMFILE, EINTR)
WRAP(FAULT_PROCESS, int, close_range, (unsigned first, unsigned last, int flags), (first, last, flags), ENOMEM)
WRAP(FAULT_PROCESS, int, pidfd_open, (pid_t pid, unsigned flags), (pid, flags), EMFILE, ENOMEM)
WRAP(FAULT_PROCESS, int, pidfd_send_signal, (int fd, int number, siginfo_t *info, unsigned flags),
     (fd, number, info, flags), EPERM)
WRAP(FAULT_PROCESS, int, kill, (pid_t pid, int number), (pid, number), EPERM)
WRAP(FAULT_PROCESS, int, setpgid, (pid_t pid, pid_t group), (pid, group), EPERM)
WRAP(FAULT_PROCESS, int, waitid, (idtype_t type, id_t id, siginfo_t *info, int options),
     (type, id, info, options), EINTR)
WRAP(FAULT_PROCESS, pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options), EINTR)
WRAP(FAULT_PROCESS, int, sigprocmask, (int how, const sigset_t *set, sigset_t *old), (how, set, old), EINVAL)
WRAP(FAULT_PROCESS, int, sigaction, (int number, const struct sigaction *set, struct sigaction *old),
     (number, set, old), EINVAL)
WRAP(FAULT_PROCESS, int, sched_getaffinity, (pid_t pid, size_t n, cpu_set_t *set), (pid, n, set), EPERM)
/* clang-format on */

/* libsystemd makes some calls that glibc had no function for; of these, what has to do with our children. */
EXPORT long syscall(long number, ...) {
        long a[6];
        va_list args;
        int error = 0;

        va_start(args, number);
        for (size_t i = 0; i < 6; i++)
                a[i] = va_arg(args, long);
        va_end(args);
        if (number == SYS_pidfd_send_signal)
                error = DUE(FAULT_PROCESS, "pidfd_send_signal", EPERM);
        if (error) {
                errno = error;
                return -1;
        }
        return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

EXPORT pid_t fork(void) {
        int error = DUE(FAULT_PROCESS, "fork", EAGAIN, ENOMEM);
        pid_t pid;

        if (error) {
                errno = error;
                return -1;
        }
        pid = REAL(fork)();
        if (pid == 0)
                in_child = true;
        return pid;
}

/* ---- clocks ---- */

static int64_t to_ns(const struct timespec *t) {
        return t->tv_sec * NS_PER_S + t->tv_nsec;
}

static struct timespec to_timespec(int64_t ns) {
        return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

static int64_t speed(void) {
        return control && !in_child ? atomic_load(&control->speed) : 1;
}

static bool is_scaled(clockid_t clock) {
        return clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ret) {
        static bool odd;
        int r = REAL(clock_gettime)(clock, ret);

        if (r < 0 || !control)
                return r;
        if (is_scaled(clock))
                *ret = to_timespec(base_ns + (to_ns(ret) - base_ns) * speed());
        if (clock == CLOCK_REALTIME) {
                odd = !odd && atomic_load(&control->flips);
                if (!odd)
                        *ret = to_timespec(to_ns(ret) + atomic_load(&control->realtime_shift_ns));
        }
        return r;
}

EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *left) {
        struct timespec shorter = to_timespec(to_ns(t) / speed());

        return REAL(clock_nanosleep)(clock, flags, &shorter, left);
}

/* Timers of the loop are absolute; a time that the fast clock has passed long ago is the first one there is.
 */
EXPORT int timerfd_settime(int fd, int flags, const struct itimerspec *t, struct itimerspec *old) {
        int error = DUE(FAULT_NET, "timerfd_settime", ENOMEM);
        struct itimerspec scaled = *t;
        int64_t ns = to_ns(&t->it_value);

        if (error) {
                errno = error;
                return -1;
        }
        if (ns > 0 && speed() > 1 && (flags & TFD_TIMER_ABSTIME))
                scaled.it_value = to_timespec(ns > base_ns ? base_ns + (ns - base_ns) / speed() : 1);
        return REAL(timerfd_settime)(fd, flags, &scaled, old);
}

/* ---- start ---- */

__attribute__((constructor)) static void start(void) {
        const char *path = getenv(FAULT_ENVIRONMENT);
        struct timespec now;
        long fd;
        void *p;

        if (!path || strcmp(program_invocation_short_name, "azpard") != 0)
                return;
        (void) REAL(clock_gettime)(CLOCK_MONOTONIC, &now);
        base_ns = to_ns(&now);
        (void) unsetenv("LD_PRELOAD");
        fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        p = REAL(mmap)(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, (int) fd, 0);
        if (fd < 0 || p == MAP_FAILED) {
                (void) fprintf(stderr, "inject.so: could not map '%s'\n", path);
                abort();
        }
        (void) syscall(SYS_close, fd);
        control = p;
}
