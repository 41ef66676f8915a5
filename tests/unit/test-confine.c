/* SPDX-License-Identifier: MIT */
/*
 * Confine: in a process of its own that is confined, what must not work fails with the expected error, and
 * what azpar and its libraries do works.  What must not work is tried without confinement as well: there it
 * fails otherwise or not at all, so that it is confine() which is seen here.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "common/base/confine.h"
#include "common/base/disk.h"
#include "common/base/file.h"
#include "common/base/guard.h"

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static char state_path[64], other_path[64];
static int state_fd;
static long landlock_abi; /* below 1: the kernel has none for us */

static int make_folders(void **state) {
        (void) state;
        (void) strcpy(state_path, "/tmp/test-confine-XXXXXX");
        (void) strcpy(other_path, "/tmp/test-confine-XXXXXX");
        if (!mkdtemp(state_path) || !mkdtemp(other_path))
                return -1;
        state_fd = open(state_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        landlock_abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* its version */);
        return state_fd < 0 ? -1 : 0;
}

static int remove_folders(void **state) {
        char command[256];

        (void) state;
        (void) close(state_fd);
        (void) snprintf(command, sizeof(command), "rm -r '%s' '%s'", state_path, other_path);
        return system(command);
}

/* ---- a process of its own ---- */

/* In it: what does not hold ends it, with a word. */
#define require(condition)                                                                                   \
        do {                                                                                                 \
                if (!(condition)) {                                                                          \
                        (void) fprintf(stderr, "line %d: not so: %s (errno %s)\n", __LINE__, #condition,     \
                                       strerrorname_np(errno));                                              \
                        _exit(1);                                                                            \
                }                                                                                            \
        } while (0)

static int in_child(void (*f)(int argument), int argument) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                f(argument);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

#define NOT_CONFINED -1 /* beside the roles */

static void confine_as(int role) {
        struct error e = ERROR_INIT;

        if (role == NOT_CONFINED)
                return;
        if (confine((enum confine_role) role, state_fd, &e) < 0) {
                (void) fprintf(stderr, "confine: %s\n", e.text);
                _exit(1);
        }
}

/* ---- what must not work ---- */

/* Arguments with which the kernel says something else, or yes, and nothing happens. */
struct attempt {
        const char *name;
        long number;
        long arguments[6];
        int error;       /* when confined */
        bool only_root;  /* others get EPERM from the kernel itself */
        unsigned unless; /* roles that may */
};

#define PARENT   LONG_MIN /* stands for the parent's process id */
#define OURSELF  (LONG_MIN + 1)
#define PTR(p)   ((long) (intptr_t) (p))
#define ALLOW(r) (1u << (r))

/* clang-format off */
static const struct attempt attempts[] = {
        /* other programs and processes */
        { "execve", SYS_execve, { 0, 0, 0 }, EPERM, false, 0 },
        { "execveat", SYS_execveat, { -1, 0, 0, 0, 0 }, EPERM, false, 0 },
#if !SANITIZED
        { "ptrace", SYS_ptrace, { 3 /* PEEKUSER */, -1, 0, 0 }, EPERM, false, 0 },
        { "process_vm_readv", SYS_process_vm_readv, { OURSELF, 0, 0, 0, 0, 0 }, EPERM, false, 0 },
#endif
        { "process_vm_writev", SYS_process_vm_writev, { OURSELF, 0, 0, 0, 0, 0 }, EPERM, false, 0 },
        { "pidfd_open", SYS_pidfd_open, { PARENT, 0 }, EPERM, false, 0 },
        { "pidfd_getfd", SYS_pidfd_getfd, { -1, 0, 0 }, EPERM, false, 0 },
        { "pidfd_send_signal", SYS_pidfd_send_signal, { -1, 0, 0, 0 }, EPERM, false, 0 },
        { "clone3", SYS_clone3, { 0, 0 }, ENOSYS, false, 0 },
        { "setpgid", SYS_setpgid, { 0, 0 }, EPERM, false, 0 },
        { "kill parent", SYS_kill, { PARENT, 0 }, EPERM, false, 0 },
        { "kill group", SYS_kill, { 0, 0 }, EPERM, false, 0 },
        { "kill all", SYS_kill, { -2147483648L, 0 }, EPERM, false, 0 },
        { "tkill", SYS_tkill, { PARENT, 0 }, EPERM, false, 0 },
        { "tgkill parent", SYS_tgkill, { PARENT, PARENT, 0 }, EPERM, false, 0 },
        { "rt_sigqueueinfo parent", SYS_rt_sigqueueinfo, { PARENT, 0, 0 }, EPERM, false, 0 },
        { "prlimit64 parent", SYS_prlimit64, { PARENT, RLIMIT_NOFILE, 0, 0 }, ENOSYS, false, 0 },
        { "F_SETOWN parent", SYS_fcntl, { 0, F_SETOWN, 0 }, ENOSYS, false, 0 },
        { "F_SETSIG", SYS_fcntl, { 0, F_SETSIG, 0 }, ENOSYS, false, 0 },

        /* other rights */
        { "setuid", SYS_setuid, { -1 }, EPERM, false, 0 },
        { "setgid", SYS_setgid, { -1 }, EPERM, false, 0 },
        { "setresuid", SYS_setresuid, { -1, -1, -1 }, EPERM, false, 0 },
        { "setresgid", SYS_setresgid, { -1, -1, -1 }, EPERM, false, 0 },
        { "setgroups", SYS_setgroups, { -1, 0 }, EPERM, true, 0 },
        { "capset", SYS_capset, { 0, 0 }, EPERM, false, 0 },
        { "keyctl", SYS_keyctl, { -1, 0, 0, 0, 0 }, EPERM, false, 0 },
        { "add_key", SYS_add_key, { 0, 0, 0, 0, 0 }, EPERM, false, 0 },
        { "personality", SYS_personality, { 0xffffffff }, EPERM, false, 0 },
        { "unshare", SYS_unshare, { 1 }, EPERM, false, 0 },
        { "setns", SYS_setns, { -1, 0 }, EPERM, false, 0 },
        { "chroot", SYS_chroot, { 0 }, EPERM, false, 0 },
        { "fchown", SYS_fchown, { -1, 0, 0 }, EPERM, false, 0 },
        { "PR_SET_SECUREBITS", SYS_prctl, { PR_SET_SECUREBITS, -1, 0, 0, 0 }, ENOSYS, false, 0 },
        { "PR_SET_MM", SYS_prctl, { PR_SET_MM, -1, 0, 0, 0 }, ENOSYS, false, 0 },

        /* another view of the file system */
        { "mount", SYS_mount, { 0, 0, 1, 0, 0 }, EPERM, true, 0 },
        { "umount2", SYS_umount2, { 0, 0 }, EPERM, true, 0 },
        { "pivot_root", SYS_pivot_root, { 0, 0 }, EPERM, true, 0 },
        { "open_tree", SYS_open_tree, { -1, 0, 0 }, EPERM, false, 0 },
        { "move_mount", SYS_move_mount, { -1, 0, -1, 0, -1 }, EPERM, true, 0 },
        { "fsopen", SYS_fsopen, { 0, 0 }, EPERM, true, 0 },
        { "open_by_handle_at", SYS_open_by_handle_at, { -1, 0, 0 }, EPERM, true, 0 },
        { "name_to_handle_at", SYS_name_to_handle_at, { -1, 0, 0, 0, 0 }, EPERM, false, 0 },
        { "mknodat", SYS_mknodat, { -1, 0, S_IFCHR, 0 }, EPERM, true, 0 },
        { "linkat", SYS_linkat, { -1, 0, -1, 0, 0 }, EPERM, false, 0 },
        { "symlinkat", SYS_symlinkat, { 0, -1, 0 }, EPERM, false, 0 },

        /* the kernel's engine room */
        { "bpf", SYS_bpf, { -1, 0, 0 }, EPERM, true, 0 },
        { "perf_event_open", SYS_perf_event_open, { 0, 0, 0, 0, -1 }, EPERM, true, 0 },
        { "userfaultfd", SYS_userfaultfd, { 0x1234 }, EPERM, true, 0 },
        { "io_uring_setup", SYS_io_uring_setup, { 0, 0 }, EPERM, true, 0 },
        { "io_uring_register", SYS_io_uring_register, { -1, 0, 0, 0 }, EPERM, true, 0 },
        { "io_uring_enter", SYS_io_uring_enter, { -1, 0, 0, 0, 0, 0 }, ENOSYS, false, ALLOW(CONFINE_WORKER) },
        { "init_module", SYS_init_module, { 0, 0, 0 }, EPERM, true, 0 },
        { "finit_module", SYS_finit_module, { -1, 0, 0 }, EPERM, true, 0 },
        { "delete_module", SYS_delete_module, { 0, 0 }, EPERM, true, 0 },
        { "kexec_load", SYS_kexec_load, { 0, 1 << 20, 0, 0 }, EPERM, true, 0 },
        { "reboot", SYS_reboot, { 0, 0, 0, 0 }, EPERM, true, 0 },
        { "clock_settime", SYS_clock_settime, { CLOCK_REALTIME, 0 }, EPERM, false, 0 },
        { "adjtimex", SYS_adjtimex, { 0 }, EPERM, false, 0 },
        { "sethostname", SYS_sethostname, { 0, -1 }, EPERM, true, 0 },
        { "shmget", SYS_shmget, { 0, 0, 0 }, ENOSYS, false, 0 },
#ifdef SYS_iopl
        { "iopl", SYS_iopl, { 4 }, EPERM, false, 0 },
        { "modify_ldt", SYS_modify_ldt, { 0, 0, 0 }, EPERM, false, 0 },
#endif

        /* the network, azpard's control socket, the terminal */
        { "internet socket", SYS_socket, { AF_INET, SOCK_STREAM, 0 }, EAFNOSUPPORT, false, 0 },
        { "internet datagrams", SYS_socket, { AF_INET, SOCK_DGRAM, 0 }, EAFNOSUPPORT, false, 0 },
        { "netlink", SYS_socket, { AF_NETLINK, SOCK_RAW, 0 }, EAFNOSUPPORT, false, 0 },
        { "local stream", SYS_socket, { AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0 }, ENOSYS, false,
          ALLOW(CONFINE_TRAINER_GPU) },
        { "bind", SYS_bind, { -1, 0, 0 }, ENOSYS, false, ALLOW(CONFINE_TRAINER_GPU) },
        { "TIOCSTI", SYS_ioctl, { -1, TIOCSTI, 0 }, ENOSYS, false, 0 },
        { "TIOCLINUX", SYS_ioctl, { -1, TIOCLINUX, 0 }, ENOSYS, false, 0 },
        { "ioctl of NVIDIA", SYS_ioctl, { -1, _IOWR('F', 42, int), 0 }, ENOSYS, false, ALLOW(CONFINE_TRAINER_GPU) },
        { "ioctl of NVIDIA's unified memory", SYS_ioctl, { -1, 0x30000001, 0 }, ENOSYS, false,
          ALLOW(CONFINE_TRAINER_GPU) },
};
/* clang-format on */

static long resolve(long argument) {
        return argument == PARENT ? getppid() : argument == OURSELF ? getpid() : argument;
}

static bool is_refused(const struct attempt *a) {
        long r, b[6];

        for (size_t i = 0; i < N_ELEMENTS(b); i++)
                b[i] = resolve(a->arguments[i]);
        errno = 0;
        r = syscall(a->number, b[0], b[1], b[2], b[3], b[4], b[5]);
        return r == -1 && errno == a->error;
}

static void try_all(int role) {
        bool good = true;

        confine_as(role);
        for (size_t i = 0; i < N_ELEMENTS(attempts); i++) {
                const struct attempt *a = &attempts[i];
                bool expected = role != NOT_CONFINED && !(a->unless & 1u << role);

                if (role == NOT_CONFINED && a->only_root && geteuid() != 0)
                        continue;
                if (is_refused(a) == expected)
                        continue;
                (void) fprintf(stderr, "%s: errno %s\n", a->name, strerrorname_np(errno));
                good = false;
        }
        require(good);
}

static void test_refused(void **state) {
        (void) state;
        assert_int_equal(in_child(try_all, NOT_CONFINED), 0);
        assert_int_equal(in_child(try_all, CONFINE_WORKER), 0);
        assert_int_equal(in_child(try_all, CONFINE_TRAINER), 0);
        assert_int_equal(in_child(try_all, CONFINE_TRAINER_GPU), 0);
}

static void try_processes(int role) {
        confine_as(role);
        require(fork() < 0 && errno == (SANITIZED ? ENOSYS : EPERM));
        require(vfork() < 0 && errno == EPERM);
        require(system("exit 7") != 7 << 8);
        require(syscall(SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_NEWNET, 0, 0, 0, 0) < 0 &&
                errno == ENOSYS);
}

static void test_no_processes(void **state) {
        (void) state;
        assert_int_equal(in_child(try_processes, CONFINE_WORKER), 0);
        assert_int_equal(in_child(try_processes, CONFINE_TRAINER), 0);
}

/* ---- what must work ---- */

static void *exit_thread(void *context) {
        require(prctl(PR_SET_NAME, "test") == 0);
        return context;
}

/* More than one at a time, with the attributes that libraries set. */
static void try_threads(int role) {
        pthread_t threads[8];
        pthread_attr_t attributes;
        cpu_set_t cpus;
        void *result;

        confine_as(role);
        require(sched_getaffinity(0, sizeof(cpus), &cpus) == 0);
        require(pthread_attr_init(&attributes) == 0);
        require(pthread_attr_setaffinity_np(&attributes, sizeof(cpus), &cpus) == 0);
        require(pthread_attr_setstacksize(&attributes, 1 << 20) == 0);
        for (size_t i = 0; i < N_ELEMENTS(threads); i++)
                require(pthread_create(&threads[i], i % 2 ? &attributes : NULL, exit_thread, &cpus) == 0);
        for (size_t i = 0; i < N_ELEMENTS(threads); i++)
                require(pthread_join(threads[i], &result) == 0 && result == &cpus);
        require(pthread_attr_destroy(&attributes) == 0);
}

/* As a JIT compiler does. */
static void try_code(int role) {
#if defined(__x86_64__)
        static const unsigned char code[] = { 0xb8, 0x2a, 0, 0, 0, 0xc3 }; /* mov eax, 42; ret */
#elif defined(__aarch64__)
        static const unsigned char code[] = { 0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6 };
#else
#error "code that returns 42 is needed for this architecture"
#endif
        union {
                void *bytes;
                int (*call)(void);
        } u;

        confine_as(role);
        u.bytes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        require(u.bytes != MAP_FAILED);
        (void) memcpy(u.bytes, code, sizeof(code));
        __builtin___clear_cache(u.bytes, (char *) u.bytes + sizeof(code));
        require(mprotect(u.bytes, 4096, PROT_READ | PROT_EXEC) == 0);
        require(u.call() == 42);
        require(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                MAP_FAILED);
}

static void try_memory(int role) {
        const size_t n = 64 << 20;
        char *p;
        int fd;

        confine_as(role);
        p = malloc(n);
        require(p);
        (void) memset(p, 1, n);
        p = realloc(p, 2 * n);
        require(p);
        free(p);
        p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        require(p != MAP_FAILED && (madvise(p, n, MADV_HUGEPAGE) == 0 || errno == EINVAL));
        require(madvise(p, n, MADV_DONTNEED) == 0 && mremap(p, n, n / 2, 0) == p);
        fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        require(fd >= 0 && ftruncate(fd, 8192) == 0);
        require(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
        require(fcntl(fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW));
        require(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
}

static int touch(void *context) {
        *(volatile char *) context = 1;
        return 0;
}

static volatile sig_atomic_t n_signals;

static void count_signal(int signal_number) {
        (void) signal_number;
        n_signals++;
}

/* A page that is not there; signals to oneself. */
static void try_signals(int role) {
        struct sigaction sa = { .sa_handler = count_signal };
        int fd = memfd_create("test", MFD_CLOEXEC);
        char *p;

        confine_as(role);
        require(ftruncate(fd, 4096) == 0);
        p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        require(p != MAP_FAILED && ftruncate(fd, 0) == 0);
        guard_install();
        require(guard_run(p, 4096, touch, p) == -EIO);
        require(sigaction(SIGUSR1, &sa, NULL) == 0);
        require(raise(SIGUSR1) == 0 && kill(getpid(), SIGUSR1) == 0 && n_signals == 2);
}

/* Time, chance, waiting, limits: the small change of all libraries. */
static void try_small_calls(int role) {
        struct rlimit limit;
        struct rusage usage;
        struct epoll_event event = { .events = EPOLLIN };
        char bytes[16], name[17];
        cpu_set_t cpus;
        int fd, epoll_fd;

        confine_as(role);
        clock_sleep_ns(1000);
        require(getrandom(bytes, sizeof(bytes), 0) == sizeof(bytes));
        require(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &(struct timespec){ 0 }) == 0);
        fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        require(fd >= 0 && epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
        require(epoll_wait(epoll_fd, &event, 1, -1) == 1);
        require(getrlimit(RLIMIT_STACK, &limit) == 0 && getrusage(RUSAGE_SELF, &usage) == 0);
        require(prctl(PR_GET_NAME, name) == 0 && sched_getaffinity(0, sizeof(cpus), &cpus) == 0);
        require(sched_yield() == 0 && sysconf(_SC_NPROCESSORS_ONLN) > 0 && sysconf(_SC_PHYS_PAGES) > 0);
        require(fcntl(fd, F_DUPFD_CLOEXEC, 20) >= 20 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
        require(isatty(fd) == 0 && errno == ENOTTY);
        require(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
        require(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2);
}

#define WORKS(f)                                                                                             \
        static void test_##f(void **state) {                                                                 \
                (void) state;                                                                                \
                assert_int_equal(in_child(f, CONFINE_WORKER), 0);                                            \
                assert_int_equal(in_child(f, CONFINE_TRAINER), 0);                                           \
                assert_int_equal(in_child(f, CONFINE_TRAINER_GPU), 0);                                       \
        }

WORKS(try_threads)
WORKS(try_code)
WORKS(try_memory)
WORKS(try_signals)
WORKS(try_small_calls)

static void abort_confined(int role) {
        (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* no core */
        confine_as(role);
        (void) signal(SIGABRT, SIG_DFL);
        abort();
}

static void test_abort(void **state) {
        int status;

        (void) state;
        status = in_child(abort_confined, CONFINE_WORKER);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- threads that are there already ---- */

struct old_thread {
        sem_t go;
        int error;
};

static void *try_exec(void *context) {
        struct old_thread *t = context;

        while (sem_wait(&t->go) < 0)
                ;
        (void) syscall(SYS_execve, 0, 0, 0);
        t->error = errno;
        return NULL;
}

static void try_old_thread(int role) {
        struct old_thread t = { .error = 0 };
        pthread_t thread;

        require(sem_init(&t.go, 0, 0) == 0 && pthread_create(&thread, NULL, try_exec, &t) == 0);
        confine_as(role);
        require(sem_post(&t.go) == 0 && pthread_join(thread, NULL) == 0);
        require(t.error == EPERM);
}

static void test_threads_that_run_already(void **state) {
        (void) state;
        assert_int_equal(in_child(try_old_thread, CONFINE_TRAINER), 0);
}

/* ---- the journal ---- */

static int bind_socket(const char *name, int type) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%.40s/%s", other_path, name);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

/* One without a file, so that permissions of files do not hold for it. */
static struct sockaddr_un abstract_address(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void) strcpy(address.sun_path + 1, other_path);
        return address;
}

/* As sd_journal_sendv() does: fields in a datagram, or a sealed memfd where they are many. */
static void try_journal(int role) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct iovec field = { .iov_base = (char[]){ "MESSAGE=test\n" }, .iov_len = 13 };
        struct msghdr message = {
                .msg_name = &address, .msg_namelen = sizeof(address), .msg_iov = &field, .msg_iovlen = 1
        };
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        int fd, memory, n_unread;

        confine_as(role);
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%.40s/journal", other_path);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        require(fd >= 0);
        require(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ 8 << 20 }, sizeof(int)) == 0);
        require(sendmsg(fd, &message, MSG_NOSIGNAL) == 13);
        require(ioctl(fd, SIOCOUTQ, &n_unread) == 0 && n_unread > 0);
        memory = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        require(memory >= 0 && write(memory, "MESSAGE=large\n", 14) == 14);
        require(fcntl(memory, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
        (void) memset(&control, 0, sizeof(control));
        control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                           .cmsg_type = SCM_RIGHTS,
                                           .cmsg_len = CMSG_LEN(sizeof(int)) };
        (void) memcpy(CMSG_DATA(&control.header), &memory, sizeof(int));
        message.msg_iovlen = 0;
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        require(sendmsg(fd, &message, MSG_NOSIGNAL) == 0);
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%.40s/control", other_path);
        require(connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0 && errno == EPROTOTYPE);
        address = abstract_address();
        require(connect(fd, (struct sockaddr *) &address, sizeof(address)) == (landlock_abi < 6 ? 0 : -1));
}

static void test_journal(void **state) {
        struct sockaddr_un address = abstract_address();
        int journal, control, abstract;
        char bytes[64];

        (void) state;
        journal = bind_socket("journal", SOCK_DGRAM);
        control = bind_socket("control", SOCK_STREAM);
        assert_int_equal(listen(control, 1), 0);
        abstract = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(abstract >= 0);
        assert_int_equal(bind(abstract, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(in_child(try_journal, CONFINE_WORKER), 0);
        assert_int_equal(recv(journal, bytes, sizeof(bytes), 0), 13);
        assert_memory_equal(bytes, "MESSAGE=test\n", 13);
        (void) close(journal);
        (void) close(control);
        (void) close(abstract);
}

/* ---- files ---- */

/* What spilling, publishing and saving do. */
static void try_state_directory(int role) {
        const struct file_part part = { "content", 7 };
        struct file_map map;
        struct error e = ERROR_INIT;

        confine_as(role);
        require(file_replace(state_fd, "file", &part, 1, &e) == 0);
        require(file_map_open(state_fd, "file", &map, &e) == 0 && map.n_bytes == 7);
        file_map_close(&map);
        require(mkdirat(state_fd, "one", 0750) == 0 && mkdirat(state_fd, "two", 0750) == 0);
        require(renameat(state_fd, "file", state_fd, "one/file") == 0 || landlock_abi == 1);
        require(renameat2(state_fd, "one", state_fd, "two", RENAME_EXCHANGE) == 0);
        require(unlinkat(state_fd, "two/file", 0) == 0 || landlock_abi == 1);
        require(unlinkat(state_fd, "one", AT_REMOVEDIR) == 0);
        require(unlinkat(state_fd, "two", AT_REMOVEDIR) == 0);
}

WORKS(try_state_directory)

static int open_other(const char *name, int flags) {
        char path[128];

        (void) snprintf(path, sizeof(path), "%.60s/%s", other_path, name);
        return open(path, flags | O_CLOEXEC, 0600);
}

/* Elsewhere: reading alone, also through what is not a file of its own. */
static void try_elsewhere(int role) {
        char path[64], memory[32], link[64];

        confine_as(role);
        errno = 0;
        require(open_other("there", O_RDONLY) >= 0);
        require(open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC) >= 0);
        require(open("/proc/self/maps", O_RDONLY | O_CLOEXEC) >= 0);
        require(open("/dev/null", O_RDWR | O_CLOEXEC) >= 0);
        require(open_other("there", O_WRONLY) < 0 && errno == EACCES);
        require(open_other("there", O_RDWR | O_TRUNC) < 0 && errno == EACCES);
        require(open_other("new", O_WRONLY | O_CREAT) < 0 && errno == EACCES);
        (void) snprintf(path, sizeof(path), "%.50s/there", other_path);
        require(unlink(path) < 0 && errno == EACCES);
        require((truncate(path, 0) < 0 && errno == EACCES) || landlock_abi < 3);
        (void) snprintf(link, sizeof(link), "%.50s/link", state_path);
        require(open(link, O_WRONLY | O_CLOEXEC) < 0 && errno == EACCES);
        (void) snprintf(memory, sizeof(memory), "/proc/%d/mem", (int) getppid());
        require(open(memory, O_RDONLY | O_CLOEXEC) < 0 && open(memory, O_RDWR | O_CLOEXEC) < 0);
        require((open("/dev/zero", O_RDWR | O_CLOEXEC) >= 0) == (role == CONFINE_TRAINER_GPU));
}

static void write_elsewhere(int role) {
        char memory[32];

        confine_as(role);
        (void) snprintf(memory, sizeof(memory), "/proc/%d/mem", (int) getppid());
        require(open_other("there", O_RDWR) >= 0);
        require(open(memory, O_RDONLY | O_CLOEXEC) >= 0 || geteuid() != 0);
}

static void test_elsewhere(void **state) {
        char path[128];
        int fd;

        (void) state;
        if (landlock_abi < 1) {
                print_message("this kernel has no Landlock\n");
                skip();
        }
        fd = open_other("there", O_WRONLY | O_CREAT);
        assert_true(fd >= 0);
        (void) close(fd);
        (void) snprintf(path, sizeof(path), "%.60s/there", other_path);
        assert_int_equal(symlinkat(path, state_fd, "link"), 0);
        assert_int_equal(in_child(write_elsewhere, NOT_CONFINED), 0);
        assert_int_equal(in_child(try_elsewhere, CONFINE_WORKER), 0);
        assert_int_equal(in_child(try_elsewhere, CONFINE_TRAINER), 0);
        assert_int_equal(in_child(try_elsewhere, CONFINE_TRAINER_GPU), 0);
}

/* ---- io_uring ---- */

struct call {
        struct disk_request request;
        int result;
};

static void told(struct disk_request *r, int result) {
        struct call *c = (struct call *) (void *) r;

        c->result = result;
}

static int disk_opens(struct disk *d, int dir_fd, const char *path) {
        struct call c = { .request.done = told };

        disk_open(d, &c.request, dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        disk_drain(d);
        return c.result;
}

/* The ring that was there works on, in the state directory alone; there is no other. */
static void try_ring(int role) {
        cleanup_(disk_freep) struct disk *ring = NULL, *second = NULL;
        struct call c = { .request.done = told };
        char path[128];
        int refused, fd;

        require(disk_new(false, true, &ring, &refused) == 0);
        confine_as(role);
        fd = disk_opens(ring, state_fd, "spilled");
        require(fd >= 0);
        disk_write(ring, &c.request, fd, "bytes", 5, 0);
        disk_drain(ring);
        require(c.result == 5);
        disk_rename(ring, &c.request, state_fd, "spilled", state_fd, "renamed", 0);
        disk_drain(ring);
        require(c.result == 0);
        disk_unlink(ring, &c.request, state_fd, "renamed");
        disk_drain(ring);
        require(c.result == 0);
        (void) snprintf(path, sizeof(path), "%.60s/through-the-ring", other_path);
        require(disk_opens(ring, AT_FDCWD, path) == -EACCES || landlock_abi < 1);
        require(disk_new(false, true, &second, &refused) == 0);
        require(refused == -EPERM && !disk_uses_uring(second));
        require(disk_opens(second, state_fd, "plainly") >= 0);
}

static void test_ring(void **state) {
        cleanup_(disk_freep) struct disk *d = NULL;
        int refused;

        (void) state;
        assert_int_equal(disk_new(false, true, &d, &refused), 0);
        if (refused < 0) {
                print_message("this kernel has no io_uring for us\n");
                skip();
        }
        assert_int_equal(in_child(try_ring, CONFINE_WORKER), 0);
}

/* ---- where it is refused ---- */

/* As some containers do: no filters for processes in it. */
static void refuse_filters(int also_landlock) {
        struct sock_filter instructions[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 4, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, also_landlock ? SYS_landlock_create_ruleset : SYS_seccomp,
                         3, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_SECCOMP, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { .len = N_ELEMENTS(instructions), .filter = instructions };

        require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void try_refused(int also_landlock) {
        struct error e = ERROR_INIT;
        int r;

        refuse_filters(also_landlock);
        r = confine(CONFINE_WORKER, state_fd, &e);
        require(r == -EPERM &&
                strcmp(e.text, "the kernel refused a system-call filter: Operation not permitted") == 0);
        require(syscall(SYS_execve, 0, 0, 0) < 0 && errno == EFAULT); /* it goes on, not confined */
        require((open_other("refused", O_WRONLY | O_CREAT) >= 0) == (also_landlock || landlock_abi < 1));
}

static void test_refused_by_the_kernel(void **state) {
        (void) state;
        assert_int_equal(in_child(try_refused, false), 0);
        assert_int_equal(in_child(try_refused, true), 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_no_processes),
                cmocka_unit_test(test_try_threads),
                cmocka_unit_test(test_try_code),
                cmocka_unit_test(test_try_memory),
                cmocka_unit_test(test_try_signals),
                cmocka_unit_test(test_try_small_calls),
                cmocka_unit_test(test_abort),
                cmocka_unit_test(test_threads_that_run_already),
                cmocka_unit_test(test_journal),
                cmocka_unit_test(test_try_state_directory),
                cmocka_unit_test(test_elsewhere),
                cmocka_unit_test(test_ring),
                cmocka_unit_test(test_refused_by_the_kernel),
        };

        return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
