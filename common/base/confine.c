/* SPDX-License-Identifier: MIT */
/*
 * The table of what confined processes may do, and its way into the kernel; see confine.h.  Processes:
 * azpar-worker, azpar-trainer.
 *
 * The table is generous with what harms nobody, so that another libtorch, C library or driver finds what it
 * looks for.  Names that an architecture or libseccomp does not know are left out.
 *
 * Order of the checks: libseccomp sorts the calls into a binary tree, and the kernel (5.11 and later)
 * remembers which calls are allowed whatever their arguments, so the calls of a busy worker cost little.
 *
 * When adding a call: to the group whose comment says why it is needed, or to one of its own;
 * tests/unit/test-confine.c tries what must work and what must not.
 */
#include "common/base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a row is for. */
enum {
        WORKER = 1 << CONFINE_WORKER,
        TRAINER = 1 << CONFINE_TRAINER,
        GPU = 1 << CONFINE_TRAINER_GPU,
        ALL = WORKER | TRAINER | GPU,
        /* any of them, in a build with a leak checker; and in one without */
        SANITIZER = 1 << 8,
        PLAIN = 1 << 9,
};

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- the table: calls that are allowed or refused whatever their arguments ---- */

#define GROUP_MAX 40

struct group {
        unsigned roles;
        int error; /* 0: allowed */
        const char *names[GROUP_MAX];
};

/* clang-format off */
static const struct group groups[] = {
        /* Memory: malloc, mappings of the model, window and segment; the JIT's pages, first written, then
         * executed; NUMA placement and protection keys, which allocators may use. */
        { ALL, 0, { "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync",
                    "membarrier", "mlock", "mlock2", "mlockall", "munlock", "munlockall", "memfd_create",
                    "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind", "pkey_alloc",
                    "pkey_free", "pkey_mprotect" } },
        /* Threads: the trainer's heartbeat, OpenMP and libtorch's pools; clone(2) is in the other table. */
        { ALL, 0, { "futex", "futex_waitv", "set_robust_list", "rseq", "set_tid_address", "exit",
                    "exit_group", "sched_yield", "sched_getaffinity", "sched_setaffinity",
                    "sched_getparam", "sched_getscheduler", "sched_getattr", "sched_get_priority_max",
                    "sched_get_priority_min", "sched_rr_get_interval", "getpriority", "getcpu",
                    "arch_prctl" } },
        /* Signals to oneself: SIGTERM's and SIGBUS' handlers, abort(). */
        { ALL, 0, { "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend",
                    "rt_sigtimedwait", "sigaltstack", "signalfd", "signalfd4", "pause", "restart_syscall" } },
        /* Time, where the vDSO does not do it, and naps between two looks at the control words. */
        { ALL, 0, { "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday",
                    "time", "times", "alarm", "getitimer", "setitimer", "timer_create", "timer_settime",
                    "timer_gettime", "timer_getoverrun", "timer_delete", "timerfd_create",
                    "timerfd_settime", "timerfd_gettime" } },
        /* Who and where am I: libraries ask for cores, memory, limits and seeds. */
        { ALL, 0, { "getpid", "gettid", "getppid", "getpgid", "getpgrp", "getsid", "getuid", "geteuid",
                    "getgid", "getegid", "getresuid", "getresgid", "getgroups", "capget", "getrlimit",
                    "getrusage", "sysinfo", "uname", "getrandom" } },
        /* Files: which ones may be written is Landlock's. */
        { ALL, 0, { "open", "openat", "openat2", "creat", "stat", "lstat", "newfstatat", "statx",
                    "statfs", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getcwd",
                    "getdents", "getdents64", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat",
                    "rename", "renameat", "renameat2", "utimensat", "umask" } },
        /* What is open: files, the configuration's memfd, the eventfd that wakes azpard, standard error. */
        { ALL, 0, { "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64",
                    "pwritev", "pwritev2", "lseek", "close", "close_range", "dup", "dup2", "dup3",
                    "fstat", "fstatfs", "flock", "fsync", "fdatasync", "syncfs", "sync_file_range",
                    "ftruncate", "truncate", "fallocate", "fadvise64", "readahead", "sendfile",
                    "copy_file_range" } },
        /* Waiting for several of them. */
        { ALL, 0, { "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
                    "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "pipe", "pipe2" } },
        /* The journal: datagrams with fields, large ones as a memfd; socket(2) is in the other table. */
        { ALL, 0, { "connect", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg",
                    "shutdown", "getsockopt", "setsockopt", "getsockname", "getpeername" } },
        /* Spilling, through the ring that was made before. */
        { WORKER, 0, { "io_uring_enter" } },
        /* CUDA and ROCm: services such as NVIDIA's MPS, files in /dev/shm, priorities of driver threads. */
        { GPU, 0, { "bind", "listen", "accept", "accept4", "fchmod", "setpriority", "sched_setparam",
                    "sched_setscheduler", "sched_setattr" } },
        /* The leak checker: a process of its own stops our threads and reads them. */
        { SANITIZER, 0, { "ptrace", "wait4", "process_vm_readv" } },

        /* Never: other programs and processes. */
        { ALL, EPERM, { "execve", "execveat", "fork", "vfork", "process_vm_writev", "process_madvise",
                        "process_mrelease", "kcmp", "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
                        "tkill", "setpgid", "setsid" } },
        { PLAIN, EPERM, { "ptrace", "process_vm_readv" } },
        /* Never: other rights. */
        { ALL, EPERM, { "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid",
                        "setfsgid", "setgroups", "capset", "keyctl", "add_key", "request_key",
                        "personality", "chroot", "unshare", "setns", "chown", "fchown", "lchown",
                        "fchownat" } },
        /* Never: another view of the file system. */
        { ALL, EPERM, { "mount", "umount2", "pivot_root", "open_tree", "move_mount", "mount_setattr",
                        "fsopen", "fsconfig", "fsmount", "fspick", "open_by_handle_at",
                        "name_to_handle_at", "mknod", "mknodat", "link", "linkat", "symlink",
                        "symlinkat", "quotactl", "quotactl_fd", "swapon", "swapoff", "fanotify_init" } },
        /* Never: the kernel's engine room, where its holes are. */
        { ALL, EPERM, { "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_register",
                        "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
                        "modify_ldt", "iopl", "ioperm", "lookup_dcookie", "memfd_secret", "syslog",
                        "acct", "reboot" } },
        /* Never: the machine's clock and name. */
        { ALL, EPERM, { "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "sethostname",
                        "setdomainname", "vhangup" } },
};

/* ---- the table: calls that depend on their arguments ---- */

#define OWN_PID       UINT64_C(0xffffffffffffffff) /* stands for our process, as a value to compare with */
#define N_CONDITIONS  2
#define LOW           UINT64_C(0xffffffff)

/* A call is allowed if one of its rows fits; else it gets the error of the row that fits, or ENOSYS. */
struct checked {
        unsigned roles;
        int error; /* 0: allowed */
        const char *name;
        struct scmp_arg_cmp conditions[N_CONDITIONS]; /* all of them; value 0 of op: none */
};

#define EQUALS(n, value)       { .arg = (n), .op = SCMP_CMP_EQ, .datum_a = (value) }
#define DIFFERS(n, value)      { .arg = (n), .op = SCMP_CMP_NE, .datum_a = (value) }
#define MASKED(n, mask, value) { .arg = (n), .op = SCMP_CMP_MASKED_EQ, .datum_a = (mask), .datum_b = (value) }

#define NAMESPACES                                                                                           \
        (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |        \
         CLONE_NEWNET)
#define SOCK_TYPE_MASK 0xf
#define IOC_TYPE_MASK  0xff00 /* of an ioctl's number: whose it is */

static const struct checked checked[] = {
        /* Threads, no processes, no namespaces.  clone3(2) has its flags in memory, which a filter cannot
         * read: ENOSYS, and the C library takes clone(2). */
        { ALL, 0, "clone", { MASKED(0, CLONE_THREAD | NAMESPACES, CLONE_THREAD) } },
        { PLAIN, EPERM, "clone", { MASKED(0, CLONE_THREAD, 0) } },
        { SANITIZER, 0, "clone", { MASKED(0, CLONE_THREAD | CLONE_VM | NAMESPACES, CLONE_VM) } },

        /* Signals to ourselves: abort(), raise(), the second SIGBUS. */
        { ALL, 0, "kill", { EQUALS(0, OWN_PID) } },
        { ALL, EPERM, "kill", { DIFFERS(0, OWN_PID) } },
        { ALL, 0, "tgkill", { EQUALS(0, OWN_PID) } },
        { ALL, EPERM, "tgkill", { DIFFERS(0, OWN_PID) } },
        { ALL, 0, "rt_sigqueueinfo", { EQUALS(0, OWN_PID) } },
        { ALL, EPERM, "rt_sigqueueinfo", { DIFFERS(0, OWN_PID) } },
        { ALL, 0, "rt_tgsigqueueinfo", { EQUALS(0, OWN_PID) } },
        { ALL, EPERM, "rt_tgsigqueueinfo", { DIFFERS(0, OWN_PID) } },

        /* Our own limits: those of azpard are not ours. */
        { ALL, 0, "prlimit64", { EQUALS(0, 0) } },
        { ALL, 0, "prlimit64", { EQUALS(0, OWN_PID) } },

        /* The journal takes datagrams.  azpard's control socket is a stream; our user may command there. */
        { WORKER | TRAINER, 0, "socket", { EQUALS(0, AF_UNIX), MASKED(1, SOCK_TYPE_MASK, SOCK_DGRAM) } },
        { GPU, 0, "socket", { EQUALS(0, AF_UNIX) } },
        { ALL, EAFNOSUPPORT, "socket", { DIFFERS(0, AF_UNIX) } },
        { ALL, 0, "socketpair", { EQUALS(0, AF_UNIX) } },

        /* Names of threads and mappings, and looking. */
        { ALL, 0, "prctl", { EQUALS(0, PR_SET_NAME) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_GET_NAME) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_SET_VMA) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_SET_TIMERSLACK) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_GET_TIMERSLACK) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_SET_THP_DISABLE) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_GET_THP_DISABLE) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_GET_DUMPABLE) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_GET_PDEATHSIG) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_SET_NO_NEW_PRIVS) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_GET_NO_NEW_PRIVS) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_GET_SECCOMP) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_CAPBSET_READ) } },
        { ALL, 0, "prctl", { EQUALS(0, PR_SVE_GET_VL) } }, /* oneDNN's kernels on aarch64 */
        /* ... and ends with them: one that stays holds on to a dead process for ever. */
        { SANITIZER, 0, "prctl", { EQUALS(0, PR_SET_PDEATHSIG) } },
        { SANITIZER, 0, "prctl", { EQUALS(0, PR_SET_DUMPABLE) } },
        { SANITIZER, 0, "prctl", { EQUALS(0, PR_SET_PTRACER) } },

        /* Not F_SETOWN and F_SETSIG, which would send signals to others. */
        { ALL, 0, "fcntl", { EQUALS(1, F_DUPFD) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_DUPFD_CLOEXEC) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_GETFD) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_SETFD) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_GETFL) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_SETFL) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_GETLK) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_SETLK) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_SETLKW) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_OFD_GETLK) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_OFD_SETLK) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_OFD_SETLKW) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_ADD_SEALS) } },
        { ALL, 0, "fcntl", { EQUALS(1, F_GET_SEALS) } },

        /* isatty(), and what stdio asks; not TIOCSTI and TIOCLINUX, which type into the user's terminal. */
        { ALL, 0, "ioctl", { MASKED(1, LOW, TCGETS) } },
        { ALL, 0, "ioctl", { MASKED(1, LOW, TIOCGWINSZ) } },
        { ALL, 0, "ioctl", { MASKED(1, LOW, FIONREAD) } },
        { ALL, 0, "ioctl", { MASKED(1, LOW, FIONBIO) } },
        { ALL, 0, "ioctl", { MASKED(1, LOW, TIOCOUTQ) } }, /* SIOCOUTQ: what the journal has not read yet */
        { ALL, 0, "ioctl", { MASKED(1, LOW, FIOCLEX) } },
        { ALL, 0, "ioctl", { MASKED(1, LOW, FIONCLEX) } },

        /* The drivers' own: NVIDIA ('F', and unified memory, whose numbers are below 256 or begin at
         * 0x30000000), AMD's kfd ('K'), DRM ('d'). */
        { GPU, 0, "ioctl", { MASKED(1, IOC_TYPE_MASK, 'F' << 8) } },
        { GPU, 0, "ioctl", { MASKED(1, IOC_TYPE_MASK, 'K' << 8) } },
        { GPU, 0, "ioctl", { MASKED(1, IOC_TYPE_MASK, 'd' << 8) } },
        { GPU, 0, "ioctl", { MASKED(1, LOW - 0xff, 0) } },
        { GPU, 0, "ioctl", { MASKED(1, LOW - 0xff, 0x30000000) } },
};
/* clang-format on */

/* ---- seccomp ---- */

static bool is_for(unsigned row_roles, enum confine_role role) {
        return row_roles & (1u << role | (SANITIZED ? SANITIZER : PLAIN));
}

/* One row into the filter; a call that this machine or libseccomp does not know is none. */
static int add_rule(scmp_filter_ctx filter, int error, const char *name, unsigned n_conditions,
                    const struct scmp_arg_cmp *conditions) {
        int number = seccomp_syscall_resolve_name(name);

        if (number < 0)
                return 0;
        return seccomp_rule_add_array(filter, error ? SCMP_ACT_ERRNO((uint32_t) error) : SCMP_ACT_ALLOW,
                                      number, n_conditions, conditions);
}

static int add_group(scmp_filter_ctx filter, const struct group *g) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < GROUP_MAX && g->names[i]; i++)
                r = add_rule(filter, g->error, g->names[i], 0, NULL);
        return r;
}

static int add_checked(scmp_filter_ctx filter, const struct checked *c) {
        struct scmp_arg_cmp conditions[N_CONDITIONS];
        unsigned n = 0;

        for (; n < N_CONDITIONS && c->conditions[n].op != 0; n++) {
                conditions[n] = c->conditions[n];
                if (conditions[n].datum_a == OWN_PID)
                        conditions[n].datum_a = (uint64_t) getpid();
        }
        return add_rule(filter, c->error, c->name, n, conditions);
}

static int add_table(scmp_filter_ctx filter, enum confine_role role) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < N_ELEMENTS(groups); i++)
                if (is_for(groups[i].roles, role))
                        r = add_group(filter, &groups[i]);
        for (size_t i = 0; r == 0 && i < N_ELEMENTS(checked); i++)
                if (is_for(checked[i].roles, role))
                        r = add_checked(filter, &checked[i]);
        return r;
}

/*
 * TSYNC: threads that a library has started already get the filter as well.
 * SSB: kernels before 5.16 switch off a kind of speculation in processes with a filter, which slows down all
 * that they compute; that is against code of strangers in the same process, and there is none here.
 *
 * SYSRAWRC: the kernel's own errno.
 */
static int set_attributes(scmp_filter_ctx filter) {
        static const struct {
                enum scmp_filter_attr name;
                uint32_t value;
        } attributes[] = {
                { SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS) },
                { SCMP_FLTATR_CTL_TSYNC, 1 },
                { SCMP_FLTATR_CTL_SSB, 1 },
                { SCMP_FLTATR_CTL_OPTIMIZE, 2 },
                { SCMP_FLTATR_API_SYSRAWRC, 1 },
        };

        for (size_t i = 0; i < N_ELEMENTS(attributes); i++) {
                int r = seccomp_attr_set(filter, attributes[i].name, attributes[i].value);

                if (r < 0 && r != -EOPNOTSUPP) /* an old kernel has no TSYNC or no SSB */
                        return r;
        }
        return 0;
}

static void filter_freep(scmp_filter_ctx *filter) {
        if (*filter)
                seccomp_release(*filter);
}

static int load_filter(enum confine_role role, struct error *e) {
        cleanup_(filter_freep) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
        int r;

        if (!filter)
                return error_errno(e, -ENOMEM, "could not make a system-call filter");
        r = set_attributes(filter);
        if (r == 0)
                r = add_table(filter, role);
        if (r < 0)
                return error_errno(e, r, "could not make a system-call filter");
        errno = 0;
        r = seccomp_load(filter);
        if (r == -EFAULT && errno != 0)
                r = -errno; /* libseccomp does not pass on EPERM among others; the kernel's word is still
                               there */
        if (r != 0)         /* above 0: a thread that could not be had */
                return error_errno(e, r < 0 ? r : -ESRCH, "the kernel refused a system-call filter");
        return 0;
}

/* ---- Landlock: Debian 12 has its oldest header only, and no functions ---- */

#define FS_READ             (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_ABI_1            ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define FS_REFER            (UINT64_C(1) << 13) /* ABI 2 */
#define FS_TRUNCATE         (UINT64_C(1) << 14) /* ABI 3 */
#define FS_IOCTL_DEV        (UINT64_C(1) << 15) /* ABI 5 */
#define NET_BIND_TCP        (UINT64_C(1) << 0)  /* ABI 4 */
#define NET_CONNECT_TCP     (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_UNIX (UINT64_C(1) << 0) /* ABI 6 */
#define SCOPE_SIGNAL        (UINT64_C(1) << 1)

#define FS_CHANGE_FILE (LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)
#define FS_CHANGE                                                                                            \
        (FS_CHANGE_FILE | FS_REFER | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |        \
         LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG)

struct ruleset {
        uint64_t fs, net, scoped;
};

/* All that is denied where no rule allows it, as far as a kernel of @abi knows. */
static struct ruleset make_ruleset(long abi, size_t *ret_bytes) {
        struct ruleset s = { .fs = FS_ABI_1 & ~(uint64_t) FS_READ };

        if (abi >= 2)
                s.fs |= FS_REFER;
        if (abi >= 3)
                s.fs |= FS_TRUNCATE;
        if (abi >= 4)
                s.net = NET_BIND_TCP | NET_CONNECT_TCP;
        if (abi >= 5)
                s.fs |= FS_IOCTL_DEV;
        if (abi >= 6)
                s.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
        *ret_bytes = abi >= 6 ? sizeof(s) : abi >= 4 ? offsetof(struct ruleset, scoped) : sizeof(s.fs);
        return s;
}

static int allow_below(int ruleset_fd, int fd, uint64_t rights) {
        struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = fd };

        return syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno
                                                                                                    : 0;
}

/* The same for what may not be there. */
static int allow_path(int ruleset_fd, const char *path, uint64_t rights) {
        cleanup_(fd_closep) int fd = open(path, O_PATH | O_CLOEXEC);

        return fd < 0 ? 0 : allow_below(ruleset_fd, fd, rights);
}

/* Where the kernel has no Landlock, or none for us, we do without. */
static int restrict_files(enum confine_role role, int state_fd, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        struct ruleset s;
        size_t n_bytes;
        long abi;
        int r;

        abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        if (abi < 1)
                return 0;
        s = make_ruleset(abi, &n_bytes);
        fd = (int) syscall(SYS_landlock_create_ruleset, &s, n_bytes, 0);
        r = fd < 0 ? -errno : 0;
        if (r == 0)
                r = allow_below(fd, state_fd, FS_CHANGE & s.fs);
        if (r == 0)
                r = allow_path(fd, "/dev/null", FS_CHANGE_FILE & s.fs);
        if (r == 0 && role == CONFINE_TRAINER_GPU)
                r = allow_path(fd, "/dev", (FS_CHANGE | FS_IOCTL_DEV) & s.fs);
        if (r == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
                r = -errno;
        return r < 0 ? error_errno(e, r, "the kernel refused Landlock rules") : 0;
}

/* ---- both ---- */

bool confine_finds_gpu(void) {
        return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/kfd", F_OK) == 0;
}

int confine(enum confine_role role, int state_fd, struct error *e) {
        int files, calls;

        /* Without this an unprivileged process gets neither. */
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_errno(e, -errno, "could not set no_new_privs");
        files = restrict_files(role, state_fd, e);
        calls = load_filter(role, e);
        return calls < 0 ? calls : files;
}
