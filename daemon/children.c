/* SPDX-License-Identifier: MIT */
/*
 * Children; see children.h.  Process: azpard.
 *
 * fork and exec rather than posix_spawn: PR_SET_PDEATHSIG and the check for a
 * parent that died in between have to run in the child.  azpard has one thread
 * and has never touched libtorch or OpenMP, so a fork is safe at any time.
 *
 * A child's end arrives through its pidfd, never by its number, so a pid that
 * was given to somebody else meanwhile is never signalled.  The pidfd is watched as
 * a file rather than with sd_event_add_child_pidfd(): that one miscounts its sources when it
 * runs out of memory, and aborts at a later one's end (systemd 252).
 */
#include "daemon/children.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include "common/base/log.h"
#include "common/base/pause_point.h"

/* Where a child finds its descriptors; contiguous, so that the rest is closed with one call. */
enum { FD_CONFIG = 3, FD_SEGMENT, FD_STATE, FD_WAKE, FD_CHILDREN_LOCK, FD_WINDOW, FD_END };

#define EXEC_FAILED   127 /* as a shell says it */
#define WATCH_LATE_NS (3 * NS_PER_S)
#define CHILD_NICE    5 /* more than azpard */
#define MAX_ARGUMENTS 16

/*
 * Of 1000, added to what azpard has: when memory runs out, a worker goes first, whose games in play are all
 * that is lost, then the trainer, which goes on from its checkpoint, and azpard last.
 */
#define OOM_TRAINER 250
#define OOM_WORKER  500
#define OOM_MAX     1000

struct children {
        sd_event *event;
        struct children_ops ops;
        void *userdata;
        char worker_path[PATH_MAX], trainer_path[PATH_MAX];
        struct children_fds fds;
        unsigned n_slots;
        unsigned n_desired;
        uint64_t heartbeat_timeout_ns, restart_limit;
        uint64_t watched_ns; /* last call of children_watch() */
        bool stopping;
        struct child all[CHILDREN_MAX_WORKERS + 1];
};

uint64_t backoff_delay(struct backoff *b) {
        b->delay_ns = b->delay_ns == 0 ? BACKOFF_FIRST_NS : MIN(2 * b->delay_ns, BACKOFF_LONGEST_NS);
        return b->delay_ns;
}

int backoff_crashed(struct backoff *b, uint64_t healthy_ns, bool hopeless, uint64_t limit,
                    uint64_t *ret_delay_ns) {
        if (healthy_ns >= BACKOFF_HEALTHY_NS)
                *b = (struct backoff){ 0 };
        else
                b->n_crashes++;
        if (hopeless || b->n_crashes >= limit)
                return BACKOFF_E_PARK;
        *ret_delay_ns = backoff_delay(b);
        return BACKOFF_E_RESTART;
}

static bool is_trainer(const struct child *c) {
        return c->number == CHILDREN_TRAINER;
}

/* "trainer" or "worker 3", for log lines. */
static const char *child_name(const struct child *c, char buf[24]) {
        if (is_trainer(c))
                (void) snprintf(buf, 24, "trainer");
        else
                (void) snprintf(buf, 24, "worker %u", c->number);
        return buf;
}

/* For LOG_FIELDS(). */
#define WORKER_OF(c) LOG_NUMBER_IF(!is_trainer(c), WORKER, (c)->number)

int children_find_program(const char *name, char *ret, size_t size, struct error *e) {
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        char *slash;

        if (n > 0) {
                self[n] = '\0';
                slash = strrchr(self, '/');
                if (slash && snprintf(ret, size, "%.*s/%s", (int) (slash - self), self, name) < (int) size &&
                    access(ret, X_OK) == 0)
                        return 0;
        }
        if (snprintf(ret, size, "%s/%s", AZPAR_LIBEXECDIR, name) < (int) size && access(ret, X_OK) == 0)
                return 0;
        return error_set(
                e, -ENOENT,
                "could not find program '%s' beside azpard or in '%s'; build or install all of azpar", name,
                AZPAR_LIBEXECDIR);
}

/* ---- in the child, between fork and exec ---- */

/* One with SIGTERM blocked would never end when it is told to. */
static int child_set_signals(void) {
        struct sigaction sa = { .sa_handler = SIG_DFL };
        sigset_t none;

        for (int sig = 1; sig < NSIG; sig++)
                (void) sigaction(sig, &sa, NULL); /* the ones that cannot be set stay as they are */
        /* Whoever reads our log may go away: that must not end who writes a line. */
        sa.sa_handler = SIG_IGN;
        (void) sigaction(SIGPIPE, &sa, NULL);
        (void) sigemptyset(&none);
        return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/*
 * They use all the time that there is: azpard, azparctl and whoever else wants something go first. On two
 * cores full of this and of other work, azparctl status took 8.5 ms (median of 300, and of four such rounds),
 * and with this 4.2 ms; 10 and 19 gave 3.8 and 3.3 ms, and would let others push self-play aside.
 */
static void child_give_way(void) {
        (void) !nice(CHILD_NICE);
}

/* Where the kernel does not let us, it chooses by size alone. */
static void child_offer_to_oom_killer(const struct child *c) {
        cleanup_(fd_closep) int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
        char text[16] = "";
        int n;

        if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
                return;
        n = atoi(text) + (is_trainer(c) ? OOM_TRAINER : OOM_WORKER);
        n = snprintf(text, sizeof(text), "%d", MIN(n, OOM_MAX));
        (void) !pwrite(fd, text, (size_t) n, 0);
}

/* Put the descriptors where the arguments say and close all others. */
static int child_set_fds(const struct children *s, const struct child *c) {
        int from[FD_END - FD_CONFIG] = { s->fds.config,        s->fds.segment,
                                         s->fds.state,         s->fds.wake,
                                         s->fds.children_lock, is_trainer(c) ? s->fds.window : -1 };
        int n = is_trainer(c) ? FD_END : FD_WINDOW;
        int null_fd = open("/dev/null", O_RDONLY);

        if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
                return -errno;
        /* First out of the way, so that no dup2() closes one that is still needed. */
        for (int i = 0; i < n - FD_CONFIG; i++) {
                from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, FD_END);
                if (from[i] < 0)
                        return -errno;
        }
        for (int i = 0; i < n - FD_CONFIG; i++) {
                if (dup2(from[i], FD_CONFIG + i) < 0)
                        return -errno;
        }
        return close_range((unsigned) n, ~0u, 0) < 0 ? -errno : 0;
}

static void child_set_environment(const struct child *c) {
        static const char *const ours_alone[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                                  "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES" };

        for (size_t i = 0; i < N_ELEMENTS(ours_alone); i++)
                (void) unsetenv(ours_alone[i]);
        if (is_trainer(c))
                return;
        (void) setenv("OMP_NUM_THREADS", "1", 1);
        (void) setenv("OPENBLAS_NUM_THREADS", "1", 1);
}

static void child_exec(const struct children *s, const struct child *c) {
        static const char *const digits[FD_END] = { "0", "1", "2", "3", "4", "5", "6", "7", "8" };
        char slot[16], incarnation[32];
        char *argv[MAX_ARGUMENTS] = { NULL };
        int n = 0;

        (void) snprintf(slot, sizeof(slot), "%u", c->number);
        (void) snprintf(incarnation, sizeof(incarnation), "%ju", (uintmax_t) c->incarnation);
#define ARGUMENTS(name, value)                                                                               \
        ((void) (argv[n++] = (char *) (uintptr_t) (name)), (void) (argv[n++] = (char *) (uintptr_t) (value)))
        argv[n++] = (char *) (uintptr_t) (is_trainer(c) ? "azpar-trainer" : "azpar-worker");
        if (!is_trainer(c)) {
                ARGUMENTS("--slot", slot);
                ARGUMENTS("--incarnation", incarnation);
        }
        ARGUMENTS("--config-fd", digits[FD_CONFIG]);
        ARGUMENTS("--segment-fd", digits[FD_SEGMENT]);
        ARGUMENTS("--state-fd", digits[FD_STATE]);
        if (is_trainer(c))
                ARGUMENTS("--window-fd", digits[FD_WINDOW]);
        ARGUMENTS("--wake-fd", digits[FD_WAKE]);
#undef ARGUMENTS
        assert(n < MAX_ARGUMENTS);
        (void) execv(is_trainer(c) ? s->trainer_path : s->worker_path, argv);
}

static _Noreturn void child_main(const struct children *s, const struct child *c, pid_t parent) {
        char name[24];
        int r;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it died before that call */
                _exit(EXEC_FAILED);
        (void) setpgid(0, 0);
        child_set_environment(c);
        child_offer_to_oom_killer(c);
        child_give_way();
        r = child_set_signals();
        if (r == 0)
                r = child_set_fds(s, c);
        if (r == 0) {
                PAUSE_POINT(CHILD_BEFORE_EXEC);
                child_exec(s, c);
                r = -errno;
        }
        log_error("could not start %s: %s", child_name(c, name), strerror(-r));
        _exit(EXEC_FAILED);
}

/* ---- in azpard ---- */

static void child_start(struct child *c);

static int on_restart(sd_event_source *source, uint64_t usec, void *userdata) {
        struct child *c = userdata;

        (void) source;
        (void) usec;
        c->n_restarts++;
        child_start(c);
        return 0;
}

static bool is_wanted(const struct child *c) {
        return !c->children->stopping && (is_trainer(c) || c->number < c->children->n_desired);
}

static uint64_t healthy_ns(const struct child *c) {
        return c->first_beat_ns ? c->last_beat_ns - c->first_beat_ns : 0;
}

/* Start it again in @delay_ns; c->last_exit says what happened. @started: it ran, and crashed. */
static void child_back_off(struct child *c, bool started, uint64_t delay_ns) {
        char name[24];
        int r;

        r = sd_event_source_set_time_relative(c->restart, delay_ns / 1000);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->restart, SD_EVENT_ONESHOT);
        if (r < 0) {
                c->phase = CHILD_PARKED;
                log_event(LOG_EVENT_CHILD_PARKED,
                          LOG_FIELDS(LOG_TEXT(CHILD, child_name(c, name)), WORKER_OF(c),
                                     LOG_TEXT(REASON, c->last_exit)),
                          "%s parked: no timer for its next start: %s; `azparctl resume` tries again",
                          child_name(c, name), strerror(-r));
                return;
        }
        c->phase = CHILD_BACKOFF;
        log_event(started ? LOG_EVENT_CHILD_CRASHED : LOG_EVENT_CHILD_NOT_STARTED,
                  LOG_FIELDS(LOG_TEXT(CHILD, child_name(c, name)), WORKER_OF(c),
                             LOG_TEXT(REASON, c->last_exit)),
                  "%s: %s; starting it again in %.1f s", child_name(c, name), c->last_exit,
                  (double) delay_ns / NS_PER_S);
}

/* The child crashed; c->last_exit says how. */
static void child_crashed(struct child *c, bool hopeless) {
        uint64_t delay_ns = 0;
        char name[24];
        int r;

        r = backoff_crashed(&c->backoff, healthy_ns(c), hopeless, c->children->restart_limit, &delay_ns);
        if (r == BACKOFF_E_RESTART) {
                child_back_off(c, true, delay_ns);
                return;
        }
        c->phase = CHILD_PARKED;
        if (hopeless)
                log_event(LOG_EVENT_CHILD_PARKED,
                          LOG_FIELDS(LOG_TEXT(CHILD, child_name(c, name)), WORKER_OF(c),
                                     LOG_TEXT(REASON, c->last_exit)),
                          "%s parked: %s, so another start cannot help; `azparctl resume` tries again",
                          child_name(c, name), c->last_exit);
        else
                log_event(LOG_EVENT_CHILD_PARKED,
                          LOG_FIELDS(LOG_TEXT(CHILD, child_name(c, name)), WORKER_OF(c),
                                     LOG_TEXT(REASON, c->last_exit)),
                          "%s parked after %ju crashes at once in a row, the last one: %s; `azparctl resume` "
                          "tries again",
                          child_name(c, name), (uintmax_t) c->backoff.n_crashes, c->last_exit);
}

static void describe_exit(struct child *c, const siginfo_t *si) {
        const char *what;

        if (c->silent)
                (void) snprintf(c->last_exit, sizeof(c->last_exit), "silent for %.4g s",
                                (double) c->children->heartbeat_timeout_ns / NS_PER_S);
        else if (si->si_code == CLD_EXITED && si->si_status == EX_TEMPFAIL)
                (void) snprintf(c->last_exit, sizeof(c->last_exit), "exit status %d (disk or memory trouble)",
                                si->si_status);
        else if (si->si_code == CLD_EXITED)
                (void) snprintf(c->last_exit, sizeof(c->last_exit), "exit status %d", si->si_status);
        else {
                what = sigdescr_np(si->si_status);
                (void) snprintf(c->last_exit, sizeof(c->last_exit), "signal %d (%s)", si->si_status,
                                what ? what : "unknown");
        }
}

/* It could not work where it was, through no fault of its own, and it may pass: see children.h. */
static bool is_excused(const siginfo_t *si) {
        return si->si_code == CLD_EXITED ? si->si_status == EX_TEMPFAIL : si->si_status == SIGBUS;
}

/* It ended as it was told to.  By SIGTERM itself if it had not come so far as to catch it. */
static bool is_clean(const struct child *c, const siginfo_t *si) {
        if (si->si_code == CLD_EXITED)
                return si->si_status == 0;
        return c->renewal == CHILD_RENEWAL_UNDER_WAY && si->si_code == CLD_KILLED && si->si_status == SIGTERM;
}

static void child_ended(struct child *c, const siginfo_t *si) {
        bool clean = is_clean(c, si), renewed = c->told_to_finish && clean;

        describe_exit(c, si);
        if (!renewed || !is_wanted(c))
                c->renewal = CHILD_RENEWAL_NONE;
        c->source = sd_event_source_disable_unref(c->source);
        c->pidfd = (fd_closep(&c->pidfd), -1);
        c->pid = 0;
        c->phase = CHILD_OFF;
        c->children->ops.ended(c->children->userdata, c);
        if (!is_wanted(c))
                return;
        if (renewed)
                child_start(c); /* it was told to leave, and is wanted again */
        else if (is_excused(si))
                child_back_off(c, true, MIN(backoff_delay(&c->backoff), BACKOFF_EXCUSED_NS));
        else
                child_crashed(c, si->si_code == CLD_EXITED && si->si_status == EX_CONFIG);
}

/*
 * See whether it has ended. Return: true if it had.
 *
 * A dead child that somebody traces (a debugger, strace, a leak checker) looks ended to poll(), but not to
 * waitid() yet: so the watch is for one event, and the tick looks again.
 */
static bool child_reap(struct child *c) {
        siginfo_t si = { .si_pid = 0 };

        if (waitid(P_PIDFD, (id_t) c->pidfd, &si, WEXITED | WNOHANG) < 0 || si.si_pid == 0)
                return false;
        child_ended(c, &si);
        return true;
}

static int on_pidfd(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void) source;
        (void) fd;
        (void) events;
        (void) child_reap(userdata);
        return 0;
}

/* Watch a process that was just forked. */
static int child_adopt(struct child *c, pid_t pid) {
        cleanup_(fd_closep) int pidfd = -1;
        int r;

        pidfd = pidfd_open(pid, 0);
        if (pidfd < 0)
                return -errno;
        r = sd_event_add_io(c->children->event, &c->source, pidfd, EPOLLIN, on_pidfd, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->source, SD_EVENT_ONESHOT);
        if (r < 0) {
                c->source = sd_event_source_disable_unref(c->source);
                return r;
        }
        c->pidfd = TAKE_FD(pidfd);
        c->pid = pid;
        c->phase = CHILD_RUNNING;
        return 0;
}

static int child_fork(struct child *c, struct error *e) {
        struct children *s = c->children;
        pid_t parent = getpid(), pid;
        int r;

        r = s->ops.before_start(s->userdata, c, e);
        if (r < 0)
                return r;
        pid = fork();
        if (pid < 0)
                return error_errno(e, -errno, "fork");
        if (pid == 0)
                child_main(s, c, parent);
        PAUSE_POINT(CHILD_FORKED);
        r = child_adopt(c, pid);
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
                return error_errno(e, r, "could not watch it");
        }
        return 0;
}

static void child_start(struct child *c) {
        struct error e = ERROR_INIT;
        uint64_t now = clock_now_ns();
        int r;

        assert(c->pid == 0);
        (void) sd_event_source_set_enabled(c->restart, SD_EVENT_OFF);
        c->told_to_finish = c->silent = false;
        if (c->renewal == CHILD_RENEWAL_DUE)
                c->renewal = CHILD_RENEWAL_NONE; /* this start does it */
        c->killed_ns = c->first_beat_ns = 0;
        c->started_ns = c->last_beat_ns = now;
        r = child_fork(c, &e);
        if (r < 0) {
                /* Not its fault but the machine's or ours, and it may pass: that never parks it. */
                (void) snprintf(c->last_exit, sizeof(c->last_exit), "not started: %.48s", e.text);
                c->renewal = CHILD_RENEWAL_NONE;
                child_back_off(c, false, MIN(backoff_delay(&c->backoff), BACKOFF_EXCUSED_NS));
                return;
        }
        c->beat = c->children->ops.heartbeat(c->children->userdata, c);
}

/* Start it if it does not run; a new chance for one that is parked. */
static void child_want(struct child *c) {
        if (c->phase == CHILD_RUNNING || c->phase == CHILD_BACKOFF)
                return;
        if (c->phase == CHILD_PARKED)
                c->n_restarts++;
        c->backoff = (struct backoff){ 0 };
        child_start(c);
}

static void child_signal(struct child *c, int sig) {
        if (c->phase != CHILD_RUNNING)
                return;
        if (sig == SIGKILL && !c->killed_ns)
                c->killed_ns = clock_now_ns();
        (void) pidfd_send_signal(c->pidfd, sig, NULL, 0);
}

/* ---- renewal ---- */

static void child_finish(struct child *c) {
        c->renewal = CHILD_RENEWAL_UNDER_WAY;
        c->told_to_finish = true;
        child_signal(c, SIGTERM);
}

/* Tell as many workers to finish as may be under way at a time; called again by each children_watch(). */
static void renew_next(struct children *s) {
        unsigned n_under_way = 0, n_most = MAX(s->n_desired / 2, 1u);

        for (unsigned i = 0; i < s->n_desired; i++)
                n_under_way += s->all[i].renewal == CHILD_RENEWAL_UNDER_WAY;
        for (unsigned i = 0; i < s->n_desired && n_under_way < n_most; i++) {
                if (s->all[i].renewal != CHILD_RENEWAL_DUE)
                        continue;
                child_finish(&s->all[i]);
                n_under_way++;
        }
}

/* It needs a new process; the caller decides when. */
static void child_renew(struct child *c) {
        switch (c->phase) {
        case CHILD_OFF:
                return;
        case CHILD_RUNNING:
                break;
        case CHILD_BACKOFF:
        case CHILD_PARKED:
                c->n_restarts++;
                c->backoff = (struct backoff){ 0 };
                child_start(c);
                return;
        }
        if (c->killed_ns)
                return; /* it dies, and its successor gets what is new in any case */
        if (c->renewal == CHILD_RENEWAL_UNDER_WAY && c->told_to_finish)
                return; /* so does the successor of one that is about to end */
        c->renewal = CHILD_RENEWAL_DUE;
}

/* The timer of its back-offs, made beforehand: a child must not stay away because there was no memory then.
 */
static int child_init(struct child *c) {
        int r;

        r = sd_event_add_time_relative(c->children->event, &c->restart, CLOCK_MONOTONIC, 0, 1000, on_restart,
                                       c);
        return r < 0 ? r : sd_event_source_set_enabled(c->restart, SD_EVENT_OFF);
}

int children_new(sd_event *event, const struct children_options *o, const struct children_ops *ops,
                 void *userdata, struct children **ret) {
        cleanup_(children_freep) struct children *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        assert(o->n_slots <= CHILDREN_MAX_WORKERS);
        if (strlen(o->worker_path) >= sizeof(s->worker_path) ||
            strlen(o->trainer_path) >= sizeof(s->trainer_path))
                return -ENAMETOOLONG;
        (void) strcpy(s->worker_path, o->worker_path);
        (void) strcpy(s->trainer_path, o->trainer_path);
        s->event = sd_event_ref(event);
        s->ops = *ops;
        s->userdata = userdata;
        s->fds = o->fds;
        s->n_slots = o->n_slots;
        s->heartbeat_timeout_ns = o->heartbeat_timeout_ns;
        s->restart_limit = o->restart_limit;
        for (unsigned i = 0; i < N_ELEMENTS(s->all); i++) {
                s->all[i].number = i;
                s->all[i].children = s;
                s->all[i].pidfd = -1;
        }
        for (unsigned i = 0; i < N_ELEMENTS(s->all); i++) {
                int r = i < s->n_slots || i == CHILDREN_TRAINER ? child_init(&s->all[i]) : 0;

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(s);
        return 0;
}

void children_free(struct children *s) {
        if (!s)
                return;
        children_kill_all(s);
        for (unsigned i = 0; i < N_ELEMENTS(s->all); i++) {
                struct child *c = &s->all[i];

                c->restart = sd_event_source_disable_unref(c->restart);
                c->source = sd_event_source_disable_unref(c->source);
                if (c->pid == 0)
                        continue;
                while (waitid(P_PIDFD, (id_t) c->pidfd, NULL, WEXITED) < 0 && errno == EINTR)
                        ;
                fd_closep(&c->pidfd);
        }
        (void) sd_event_unref(s->event);
        free(s);
}

void children_start_trainer(struct children *s) {
        if (!s->stopping)
                child_want(&s->all[CHILDREN_TRAINER]);
}

void children_set_workers(struct children *s, unsigned n) {
        assert(n <= s->n_slots);
        if (s->stopping)
                return;
        s->n_desired = n;
        for (unsigned i = 0; i < s->n_slots; i++) {
                struct child *c = &s->all[i];

                if (i < n) {
                        child_want(c);
                        continue;
                }
                (void) sd_event_source_set_enabled(c->restart, SD_EVENT_OFF);
                if (c->phase != CHILD_RUNNING)
                        c->phase = CHILD_OFF;
                if (!c->told_to_finish)
                        c->renewal = CHILD_RENEWAL_NONE;
                c->told_to_finish = true;
        }
}

void children_unpark(struct children *s) {
        for (unsigned i = 0; i < N_ELEMENTS(s->all); i++) {
                if (s->all[i].phase == CHILD_PARKED && is_wanted(&s->all[i]))
                        child_want(&s->all[i]);
        }
}

void children_set_limits(struct children *s, uint64_t heartbeat_timeout_ns, uint64_t restart_limit) {
        s->heartbeat_timeout_ns = heartbeat_timeout_ns;
        s->restart_limit = restart_limit;
}

void children_set_config(struct children *s, int fd) {
        s->fds.config = fd;
}

void children_renew_trainer(struct children *s) {
        struct child *c = &s->all[CHILDREN_TRAINER];

        if (s->stopping)
                return;
        child_renew(c);
        if (c->renewal == CHILD_RENEWAL_DUE)
                child_finish(c);
}

void children_renew_workers(struct children *s) {
        if (s->stopping)
                return;
        for (unsigned i = 0; i < s->n_desired; i++)
                child_renew(&s->all[i]);
        renew_next(s);
}

void children_watch(struct children *s, uint64_t now_ns) {
        uint64_t since = s->watched_ns ? now_ns - s->watched_ns : 0;
        /* If we ourselves stood still (stopped, starved), the silence is not the children's. */
        uint64_t excused = since > WATCH_LATE_NS ? since : 0;

        s->watched_ns = now_ns;
        for (unsigned i = 0; i < N_ELEMENTS(s->all); i++) {
                struct child *c = &s->all[i];
                uint64_t beat;
                char name[24];

                if (c->phase != CHILD_RUNNING)
                        continue;
                if (child_reap(c))
                        continue;
                if (c->killed_ns) { /* again, in case that the first signal failed to be sent */
                        child_signal(c, SIGKILL);
                        continue;
                }
                if (c->renewal == CHILD_RENEWAL_UNDER_WAY && c->told_to_finish)
                        child_signal(c, SIGTERM); /* likewise */
                beat = s->ops.heartbeat(s->userdata, c);
                if (beat != c->beat) {
                        c->beat = beat;
                        c->last_beat_ns = now_ns;
                        if (!c->first_beat_ns)
                                c->first_beat_ns = now_ns;
                        if (c->renewal == CHILD_RENEWAL_UNDER_WAY && !c->told_to_finish)
                                c->renewal = CHILD_RENEWAL_NONE;
                        continue;
                }
                c->last_beat_ns = MIN(c->last_beat_ns + excused, now_ns);
                if (now_ns - c->last_beat_ns <= s->heartbeat_timeout_ns)
                        continue;
                log_event(LOG_EVENT_CHILD_HUNG,
                          LOG_FIELDS(LOG_TEXT(CHILD, child_name(c, name)), WORKER_OF(c),
                                     LOG_NUMBER(CHILD_PID, c->pid),
                                     LOG_NUMBER(SECONDS, (now_ns - c->last_beat_ns) / NS_PER_S)),
                          "%s (pid %d) has been silent for %.4g s: killing it", child_name(c, name),
                          (int) c->pid, (double) (now_ns - c->last_beat_ns) / NS_PER_S);
                c->silent = true;
                child_signal(c, SIGKILL);
        }
        renew_next(s);
}

void children_kill(struct children *s, unsigned number) {
        assert(number < N_ELEMENTS(s->all));
        child_signal(&s->all[number], SIGKILL);
}

void children_stop(struct children *s) {
        s->stopping = true;
        for (unsigned i = 0; i < N_ELEMENTS(s->all); i++) {
                struct child *c = &s->all[i];

                if (c->restart)
                        (void) sd_event_source_set_enabled(c->restart, SD_EVENT_OFF);
                c->told_to_finish = true;
                c->renewal = CHILD_RENEWAL_NONE;
                if (c->phase != CHILD_RUNNING)
                        c->phase = CHILD_OFF;
                child_signal(c, SIGTERM);
        }
}

void children_kill_workers(struct children *s) {
        for (unsigned i = 0; i < s->n_slots; i++)
                child_signal(&s->all[i], SIGKILL);
}

void children_kill_all(struct children *s) {
        children_kill_workers(s);
        child_signal(&s->all[CHILDREN_TRAINER], SIGKILL);
}

unsigned children_n_workers_running(const struct children *s) {
        unsigned n = 0;

        for (unsigned i = 0; i < s->n_slots; i++)
                n += s->all[i].phase == CHILD_RUNNING;
        return n;
}

unsigned children_n_running(const struct children *s) {
        return children_n_workers_running(s) + (s->all[CHILDREN_TRAINER].phase == CHILD_RUNNING);
}

bool children_stuck(const struct children *s, uint64_t now_ns) {
        for (unsigned i = 0; i < N_ELEMENTS(s->all); i++) {
                const struct child *c = &s->all[i];

                if (c->phase == CHILD_RUNNING && c->killed_ns &&
                    now_ns - c->killed_ns > s->heartbeat_timeout_ns)
                        return true;
        }
        return false;
}

const struct child *children_get(const struct children *s, unsigned number) {
        assert(number < N_ELEMENTS(s->all));
        return &s->all[number];
}
