/* SPDX-License-Identifier: MIT */
/*
 * Children: back-off and parking as pure functions, then real processes.  This program is its own child:
 * started as a worker or trainer it does what AZPAR_TEST_CHILD says (see child_main()).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "daemon/children.h"

#define EVENT_LIMIT_US   30000000
#define FD_CONFIG        3
#define FD_CHILDREN_LOCK 7 /* where a child has it */

static char self[4096];

struct fixture {
        sd_event *event;
        struct children *children;
        uint64_t beats[CHILDREN_MAX_WORKERS + 1];
        unsigned n_started, n_ended;
        int start_error; /* what before_start() returns */
        int null_fd;
};

static int before_start(void *userdata, struct child *c, struct error *e) {
        struct fixture *f = userdata;

        if (f->start_error)
                return error_set(e, f->start_error, "no incarnation");
        c->incarnation = 100 + f->n_started++;
        return 0;
}

static void ended(void *userdata, struct child *c) {
        struct fixture *f = userdata;

        assert_int_equal(c->pid, 0);
        f->n_ended++;
}

static uint64_t heartbeat(void *userdata, const struct child *c) {
        struct fixture *f = userdata;

        return f->beats[c->number];
}

static const struct children_ops ops = { .before_start = before_start,
                                         .ended = ended,
                                         .heartbeat = heartbeat };

static void open_with(struct fixture *f, uint64_t restart_limit, int lock_fd, const char *behaviour) {
        struct children_options o = { .worker_path = self,
                                      .trainer_path = self,
                                      .n_slots = 4,
                                      .heartbeat_timeout_ns = 30 * NS_PER_S,
                                      .restart_limit = restart_limit };

        *f = (struct fixture){ .null_fd = open("/dev/null", O_RDWR | O_CLOEXEC) };
        assert_true(f->null_fd >= 0);
        o.fds = (struct children_fds){ .config = f->null_fd,
                                       .segment = f->null_fd,
                                       .state = f->null_fd,
                                       .wake = f->null_fd,
                                       .window = f->null_fd,
                                       .children_lock = lock_fd >= 0 ? lock_fd : f->null_fd };
        assert_int_equal(setenv("AZPAR_TEST_CHILD", behaviour, 1), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(children_new(f->event, &o, &ops, f, &f->children), 0);
}

static void close_all(struct fixture *f) {
        children_free(f->children);
        (void) sd_event_unref(f->event);
        (void) close(f->null_fd);
}

static const struct child *trainer(const struct fixture *f) {
        return children_get(f->children, CHILDREN_TRAINER);
}

/* Run the loop until @condition holds; a hang is ended by run-all's limit, or here after EVENT_LIMIT_US
 * without any event. */
#define RUN_UNTIL(f, condition)                                                                              \
        do {                                                                                                 \
                while (!(condition))                                                                         \
                        assert_true(sd_event_run((f)->event, EVENT_LIMIT_US) > 0);                           \
        } while (0)

/* SIGSTOP, and wait until it stands: a SIGTERM after that would else come first. */
static void stop_process(pid_t pid) {
        siginfo_t si;

        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitid(P_PID, (id_t) pid, &si, WSTOPPED | WNOWAIT), 0);
}

static void test_backoff(void **state) {
        struct backoff b = { 0 };
        uint64_t delay = 0, expected = BACKOFF_FIRST_NS;

        (void) state;
        for (int i = 0; i < 20; i++) {
                assert_int_equal(backoff_crashed(&b, 0, false, 1000, &delay), BACKOFF_E_RESTART);
                assert_int_equal(delay, expected);
                expected = expected * 2 > BACKOFF_LONGEST_NS ? BACKOFF_LONGEST_NS : expected * 2;
        }
        assert_int_equal(delay, BACKOFF_LONGEST_NS);
        /* a healthy life makes good for all that */
        assert_int_equal(backoff_crashed(&b, BACKOFF_HEALTHY_NS, false, 1000, &delay), BACKOFF_E_RESTART);
        assert_int_equal(delay, BACKOFF_FIRST_NS);
        assert_int_equal(b.n_crashes, 0);
}

static void test_parking(void **state) {
        struct backoff b = { 0 };
        uint64_t delay = 0;

        (void) state;
        for (int i = 0; i < 4; i++)
                assert_int_equal(backoff_crashed(&b, BACKOFF_HEALTHY_NS - 1, false, 5, &delay),
                                 BACKOFF_E_RESTART);
        assert_int_equal(backoff_crashed(&b, BACKOFF_HEALTHY_NS - 1, false, 5, &delay), BACKOFF_E_PARK);

        b = (struct backoff){ 0 };
        for (int i = 0; i < 100; i++) /* crashes, but never at once */
                assert_int_equal(backoff_crashed(&b, BACKOFF_HEALTHY_NS, false, 5, &delay),
                                 BACKOFF_E_RESTART);
        assert_int_equal(backoff_crashed(&b, BACKOFF_HEALTHY_NS, true, 5, &delay), BACKOFF_E_PARK);
}

static void test_crash_at_once_is_parked(void **state) {
        struct fixture f;

        (void) state;
        open_with(&f, 3, -1, "exit 1");
        children_set_workers(f.children, 1);
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_RUNNING);
        RUN_UNTIL(&f, children_get(f.children, 0)->phase == CHILD_PARKED);
        assert_int_equal(f.n_started, 3);
        assert_int_equal(f.n_ended, 3);
        assert_int_equal(children_get(f.children, 0)->n_restarts, 2);
        assert_string_equal(children_get(f.children, 0)->last_exit, "exit status 1");
        assert_int_equal(children_n_running(f.children), 0);

        /* asked for again, it gets a new chance, and is parked once more */
        children_unpark(f.children);
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_RUNNING);
        RUN_UNTIL(&f, children_get(f.children, 0)->phase == CHILD_PARKED);
        assert_int_equal(f.n_started, 6);
        close_all(&f);
}

static void test_hopeless_is_parked_at_once(void **state) {
        struct fixture f;

        (void) state;
        open_with(&f, 100, -1, "exit 78");
        children_start_trainer(f.children);
        RUN_UNTIL(&f, trainer(&f)->phase == CHILD_PARKED);
        assert_int_equal(f.n_started, 1);
        assert_string_equal(trainer(&f)->last_exit, "exit status 78");
        close_all(&f);
}

static void test_disk_trouble_never_parks(void **state) {
        static const char *const behaviours[] = { "exit 75", "signal 7" };
        struct fixture f;

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(behaviours); i++) {
                open_with(&f, 2, -1, behaviours[i]);
                children_start_trainer(f.children);
                RUN_UNTIL(&f, f.n_started == 5);
                assert_int_not_equal(trainer(&f)->phase, CHILD_PARKED);
                assert_non_null(strstr(trainer(&f)->last_exit, i == 0 ? "disk or memory" : "signal 7"));
                close_all(&f);
        }
}

static void test_missing_program(void **state) {
        struct fixture f;

        (void) state;
        open_with(&f, 2, -1, "wait");
        close_all(&f);
        (void) strcat(self, ".missing");
        open_with(&f, 2, -1, "wait");
        self[strlen(self) - strlen(".missing")] = '\0';
        children_set_workers(f.children, 1);
        RUN_UNTIL(&f, children_get(f.children, 0)->phase == CHILD_PARKED);
        assert_string_equal(children_get(f.children, 0)->last_exit, "exit status 127");
        close_all(&f);
}

static void test_arguments_and_descriptors(void **state) {
        struct fixture f;
        int leak = open("/dev/null", O_RDONLY); /* not close-on-exec: must not get through all the same */

        (void) state;
        assert_true(leak >= 0);
        open_with(&f, 1, -1, "inspect");
        children_set_workers(f.children, 2);
        children_start_trainer(f.children);
        RUN_UNTIL(&f, children_n_running(f.children) == 0);
        assert_string_equal(children_get(f.children, 0)->last_exit, "exit status 42");
        assert_string_equal(children_get(f.children, 1)->last_exit, "exit status 42");
        assert_string_equal(trainer(&f)->last_exit, "exit status 42");
        close_all(&f);
        (void) close(leak);
}

static void test_killed_is_restarted(void **state) {
        struct fixture f;
        pid_t pid;

        (void) state;
        open_with(&f, 5, -1, "wait");
        children_set_workers(f.children, 2);
        pid = children_get(f.children, 1)->pid;
        assert_int_equal(kill(pid, SIGKILL), 0);
        RUN_UNTIL(&f, children_get(f.children, 1)->n_restarts == 1);
        assert_string_equal(children_get(f.children, 1)->last_exit, "signal 9 (Killed)");
        assert_int_equal(children_get(f.children, 1)->phase, CHILD_RUNNING);
        assert_int_not_equal(children_get(f.children, 1)->pid, pid);
        /* the other one did not notice */
        assert_int_equal(children_get(f.children, 0)->n_restarts, 0);
        assert_int_equal(children_n_workers_running(f.children), 2);
        close_all(&f);
}

/* Trace @pid, say so, and let go only when told: what a debugger, strace or a leak checker does. */
static pid_t start_tracer(pid_t pid, int *ret_control) {
        int pair[2];
        pid_t tracer;
        char byte;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        tracer = fork();
        assert_true(tracer >= 0);
        if (tracer == 0) {
                (void) close(pair[0]);
                byte = ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0;
                if (write(pair[1], &byte, 1) == 1)
                        (void) !read(pair[1], &byte, 1);
                _exit(0);
        }
        (void) close(pair[1]);
        assert_int_equal(read(pair[0], &byte, 1), 1);
        *ret_control = pair[0];
        if (byte)
                return tracer;
        (void) close(pair[0]);
        (void) waitpid(tracer, NULL, 0);
        return -1;
}

static char process_state(pid_t pid) {
        char path[64], state = '?';
        FILE *f;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        f = fopen(path, "r");
        if (!f)
                return state;
        (void) !fscanf(f, "%*d (%*[^)]) %c", &state);
        (void) fclose(f);
        return state;
}

/*
 * A dead child that somebody traces is announced, but cannot be reaped before the tracer lets go; it must not
 * be forgotten then.
 */
static void test_killed_under_a_tracer(void **state) {
        struct fixture f;
        pid_t pid, tracer;
        int control;

        (void) state;
        open_with(&f, 5, -1, "wait");
        children_set_workers(f.children, 1);
        pid = children_get(f.children, 0)->pid;
        tracer = start_tracer(pid, &control);
        if (tracer < 0) {
                close_all(&f);
                skip(); /* not allowed to trace here */
        }
        children_kill(f.children, 0);
        while (process_state(pid) != 'Z')
                (void) sched_yield();
        while (sd_event_run(f.event, 0) > 0)
                ;
        assert_int_equal(f.n_ended, 0); /* the tracer holds it: else this tests nothing */
        (void) close(control);
        assert_int_equal(waitpid(tracer, NULL, 0), tracer);
        children_watch(f.children, clock_now_ns());
        RUN_UNTIL(&f, f.n_ended == 1);
        close_all(&f);
}

static void test_start_that_fails(void **state) {
        struct fixture f;

        (void) state;
        open_with(&f, 2, -1, "wait");
        f.start_error = -ENOSPC;
        children_set_workers(f.children, 1);
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_BACKOFF);
        assert_string_equal(children_get(f.children, 0)->last_exit, "not started: no incarnation");
        /* more often than a crash may happen, and still it is not parked */
        RUN_UNTIL(&f, children_get(f.children, 0)->n_restarts == 3);
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_BACKOFF);
        assert_int_equal(children_get(f.children, 0)->backoff.n_crashes, 0);
        f.start_error = 0;
        RUN_UNTIL(&f, children_get(f.children, 0)->phase == CHILD_RUNNING);
        close_all(&f);
}

static void test_silent_is_killed(void **state) {
        uint64_t now = clock_now_ns();
        struct fixture f;

        (void) state;
        open_with(&f, 5, -1, "wait");
        children_set_workers(f.children, 2);
        stop_process(children_get(f.children, 0)->pid);
        /* worker 1 beats, worker 0 does so only at first; the watch after its end would see it */
        for (int i = 0; i < 40 && !children_get(f.children, 0)->killed_ns; i++) {
                f.beats[1]++;
                f.beats[0] += i < 3;
                children_watch(f.children, now += NS_PER_S);
        }
        assert_true(children_get(f.children, 0)->killed_ns > 0);
        assert_int_equal(children_get(f.children, 1)->killed_ns, 0);
        assert_false(children_stuck(f.children, clock_now_ns()));
        assert_true(children_stuck(f.children, clock_now_ns() + 31 * NS_PER_S));
        RUN_UNTIL(&f, f.n_ended == 1);
        assert_string_equal(children_get(f.children, 0)->last_exit, "silent for 30 s");
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_BACKOFF);
        close_all(&f);
}

static void test_own_pause_is_excused(void **state) {
        uint64_t now = clock_now_ns();
        struct fixture f;

        (void) state;
        open_with(&f, 5, -1, "wait");
        children_set_workers(f.children, 1);
        children_watch(f.children, now += NS_PER_S);
        children_watch(f.children, now += 600 * NS_PER_S); /* we stood still for ten minutes */
        assert_int_equal(children_get(f.children, 0)->killed_ns, 0);
        for (int i = 0; i < 35; i++)
                children_watch(f.children, now += NS_PER_S);
        assert_true(children_get(f.children, 0)->killed_ns > 0);
        close_all(&f);
}

static void test_number_of_workers(void **state) {
        struct fixture f;
        int ends[2];
        char byte;

        (void) state;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        open_with(&f, 5, ends[1], "wait for a signal");
        children_set_workers(f.children, 3);
        assert_int_equal(children_n_workers_running(f.children), 3);
        for (int i = 0; i < 3; i++) /* each tells when it is ready for signals */
                assert_int_equal(read(ends[0], &byte, 1), 1);
        children_set_workers(f.children, 1);
        /* header.n_desired would make them leave; here a signal does */
        assert_int_equal(kill(children_get(f.children, 2)->pid, SIGUSR1), 0);
        RUN_UNTIL(&f, f.n_ended == 1);
        assert_int_equal(children_get(f.children, 2)->phase, CHILD_OFF);
        /* wanted again before it left: it is started again at once and nothing counts as a crash */
        children_set_workers(f.children, 2);
        assert_int_equal(kill(children_get(f.children, 1)->pid, SIGUSR1), 0);
        RUN_UNTIL(&f, f.n_ended == 2);
        assert_int_equal(children_get(f.children, 1)->phase, CHILD_RUNNING);
        assert_int_equal(children_get(f.children, 1)->backoff.n_crashes, 0);
        close_all(&f);
        (void) close(ends[0]);
        (void) close(ends[1]);
}

static void test_stop(void **state) {
        struct fixture f;

        (void) state;
        open_with(&f, 5, -1, "wait for a signal");
        children_set_workers(f.children, 3);
        children_start_trainer(f.children);
        assert_int_equal(children_n_running(f.children), 4);
        children_stop(f.children);
        RUN_UNTIL(&f, children_n_running(f.children) == 0);
        assert_int_equal(f.n_ended, 4);
        children_set_workers(f.children, 3); /* too late */
        assert_int_equal(children_n_running(f.children), 0);
        close_all(&f);
}

/* ---- renewal ---- */

/* A descriptor to a file that holds @letter, as a configuration. */
static int config_file(char letter) {
        int fd = memfd_create("config", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, &letter, 1), 1);
        return fd;
}

/* Wait until a child has told which configuration it has got. */
static char read_letter(int fd) {
        char letter;

        assert_int_equal(read(fd, &letter, 1), 1);
        return letter;
}

/* Let all that run beat, and watch. */
static void beat_and_watch(struct fixture *f) {
        for (unsigned i = 0; i < N_ELEMENTS(f->beats); i++)
                f->beats[i]++;
        children_watch(f->children, clock_now_ns());
}

static unsigned n_in_renewal(const struct fixture *f, enum child_renewal renewal) {
        unsigned n = 0;

        for (unsigned i = 0; i < 4; i++)
                n += children_get(f->children, i)->renewal == renewal;
        return n;
}

static void test_renew_workers(void **state) {
        struct fixture f;
        int ends[2], config = config_file('a'), config_b = config_file('b');
        pid_t old[4];

        (void) state;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        open_with(&f, 5, ends[1], "tell its configuration");
        children_set_config(f.children, config);
        children_set_workers(f.children, 4);
        for (int i = 0; i < 4; i++) {
                assert_int_equal(read_letter(ends[0]), 'a');
                old[i] = children_get(f.children, i)->pid;
        }
        beat_and_watch(&f);
        children_set_config(f.children, config_b);
        (void) close(config);
        children_renew_workers(f.children);
        children_renew_workers(f.children); /* once more is the same */
        assert_int_equal(n_in_renewal(&f, CHILD_RENEWAL_UNDER_WAY), 2);
        assert_int_equal(n_in_renewal(&f, CHILD_RENEWAL_DUE), 2);
        RUN_UNTIL(&f, f.n_ended == 2);
        assert_int_equal(read_letter(ends[0]), 'b');
        assert_int_equal(read_letter(ends[0]), 'b');
        /* without a sign of life of these two, the others go on */
        children_watch(f.children, clock_now_ns());
        assert_int_equal(n_in_renewal(&f, CHILD_RENEWAL_UNDER_WAY), 2);
        for (int i = 2; i < 4; i++)
                assert_int_equal(children_get(f.children, i)->pid, old[i]);
        beat_and_watch(&f);
        RUN_UNTIL(&f, f.n_ended == 4);
        assert_int_equal(read_letter(ends[0]), 'b');
        assert_int_equal(read_letter(ends[0]), 'b');
        beat_and_watch(&f);
        assert_int_equal(n_in_renewal(&f, CHILD_RENEWAL_NONE), 4);
        for (int i = 0; i < 4; i++) {
                const struct child *c = children_get(f.children, i);

                assert_int_equal(c->phase, CHILD_RUNNING);
                assert_int_not_equal(c->pid, old[i]);
                assert_int_equal(c->n_restarts, 0);
                assert_int_equal(c->backoff.n_crashes, 0);
        }
        assert_int_equal(f.n_started, 8);
        close_all(&f);
        (void) close(ends[0]);
        (void) close(ends[1]);
        (void) close(config_b);
}

/* One worker has no other to go on meanwhile, and is renewed all the same; one that is not wanted is not. */
static void test_renew_few_workers(void **state) {
        struct fixture f;
        int ends[2];

        (void) state;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        open_with(&f, 5, ends[1], "tell its configuration");
        children_set_workers(f.children, 1);
        (void) read_letter(ends[0]);
        children_renew_workers(f.children);
        RUN_UNTIL(&f, f.n_ended == 1);
        (void) read_letter(ends[0]);
        assert_int_equal(f.n_started, 2);
        assert_int_equal(children_get(f.children, 1)->phase, CHILD_OFF);
        /* a second configuration reaches the process that has just started with the first */
        children_renew_workers(f.children);
        RUN_UNTIL(&f, f.n_ended == 2);
        (void) read_letter(ends[0]);
        /* a number of workers in the middle of it: who is above leaves for good */
        beat_and_watch(&f);
        children_renew_workers(f.children);
        children_set_workers(f.children, 0);
        RUN_UNTIL(&f, f.n_ended == 3);
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_OFF);
        assert_int_equal(n_in_renewal(&f, CHILD_RENEWAL_NONE), 4);
        assert_int_equal(f.n_started, 3);
        close_all(&f);
        (void) close(ends[0]);
        (void) close(ends[1]);
}

static void test_renew_trainer(void **state) {
        struct fixture f;
        pid_t pid;

        (void) state;
        open_with(&f, 5, -1,
                  "wait"); /* SIGTERM ends it by itself, as before a trainer has come to catch it */
        children_start_trainer(f.children);
        pid = trainer(&f)->pid;
        children_renew_trainer(f.children);
        RUN_UNTIL(&f, f.n_ended == 1);
        assert_string_equal(trainer(&f)->last_exit, "signal 15 (Terminated)");
        assert_int_equal(trainer(&f)->phase, CHILD_RUNNING);
        assert_int_not_equal(trainer(&f)->pid, pid);
        assert_int_equal(trainer(&f)->n_restarts, 0);
        assert_int_equal(trainer(&f)->renewal, CHILD_RENEWAL_UNDER_WAY);
        beat_and_watch(&f);
        assert_int_equal(trainer(&f)->renewal, CHILD_RENEWAL_NONE);
        /* the same signal from somebody else is a crash */
        assert_int_equal(kill(trainer(&f)->pid, SIGTERM), 0);
        RUN_UNTIL(&f, f.n_ended == 2);
        assert_int_equal(trainer(&f)->backoff.n_crashes, 1);
        assert_int_equal(trainer(&f)->phase, CHILD_BACKOFF);
        /* one that waits for its next start need not wait any more */
        children_renew_trainer(f.children);
        assert_int_equal(trainer(&f)->phase, CHILD_RUNNING);
        assert_int_equal(trainer(&f)->backoff.n_crashes, 0);
        assert_int_equal(trainer(&f)->n_restarts, 1);
        close_all(&f);
}

static void test_renew_with_a_crash(void **state) {
        uint64_t now = clock_now_ns();
        struct fixture f;

        (void) state;
        open_with(&f, 5, -1, "wait");
        children_set_workers(f.children, 2);
        children_start_trainer(f.children);
        beat_and_watch(&f);
        /* killed on the way */
        stop_process(trainer(&f)->pid);
        children_renew_trainer(f.children);
        assert_int_equal(kill(trainer(&f)->pid, SIGKILL), 0);
        RUN_UNTIL(&f, f.n_ended == 1);
        assert_int_equal(trainer(&f)->phase, CHILD_BACKOFF);
        assert_int_equal(trainer(&f)->backoff.n_crashes, 1);
        assert_int_equal(trainer(&f)->renewal, CHILD_RENEWAL_NONE);
        /* hangs and never ends */
        stop_process(children_get(f.children, 0)->pid);
        children_renew_workers(f.children);
        assert_int_equal(children_get(f.children, 1)->renewal, CHILD_RENEWAL_DUE);
        for (int i = 0; i < 40 && !children_get(f.children, 0)->killed_ns; i++) {
                f.beats[1]++;
                children_watch(f.children, now += NS_PER_S);
        }
        assert_true(children_get(f.children, 0)->killed_ns > 0);
        RUN_UNTIL(&f, children_get(f.children, 0)->phase == CHILD_BACKOFF);
        assert_int_equal(children_get(f.children, 0)->backoff.n_crashes, 1);
        /* which does not hold up the other one */
        children_watch(f.children, now);
        assert_int_equal(children_get(f.children, 1)->renewal, CHILD_RENEWAL_UNDER_WAY);
        close_all(&f);
}

static void test_renew_the_parked(void **state) {
        struct fixture f;

        (void) state;
        open_with(&f, 100, -1, "exit 78");
        children_set_workers(f.children, 1);
        children_start_trainer(f.children);
        RUN_UNTIL(&f,
                  trainer(&f)->phase == CHILD_PARKED && children_get(f.children, 0)->phase == CHILD_PARKED);
        children_renew_trainer(f.children); /* the other one stays as it is */
        assert_int_equal(trainer(&f)->phase, CHILD_RUNNING);
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_PARKED);
        RUN_UNTIL(&f, trainer(&f)->phase == CHILD_PARKED);
        children_renew_workers(f.children);
        assert_int_equal(children_get(f.children, 0)->phase, CHILD_RUNNING);
        RUN_UNTIL(&f, children_get(f.children, 0)->phase == CHILD_PARKED);
        close_all(&f);
}

static void test_renew_and_stop(void **state) {
        struct fixture f;

        (void) state;
        open_with(&f, 5, -1, "wait");
        children_set_workers(f.children, 3);
        children_start_trainer(f.children);
        children_renew_workers(f.children);
        children_renew_trainer(f.children);
        children_stop(f.children);
        RUN_UNTIL(&f, children_n_running(f.children) == 0);
        assert_int_equal(f.n_started, 4);
        children_renew_workers(f.children); /* too late */
        children_renew_trainer(f.children);
        assert_int_equal(children_n_running(f.children), 0);
        close_all(&f);
}

static void test_limits(void **state) {
        uint64_t now = clock_now_ns();
        struct fixture f;

        (void) state;
        open_with(&f, 5, -1, "wait");
        children_set_workers(f.children, 1);
        children_set_limits(f.children, 2 * NS_PER_S, 1);
        children_watch(f.children, now += NS_PER_S);
        children_watch(f.children, now += NS_PER_S);
        assert_int_equal(children_get(f.children, 0)->killed_ns, 0);
        for (int i = 0; i < 3; i++)
                children_watch(f.children, now += NS_PER_S);
        assert_true(children_get(f.children, 0)->killed_ns > 0);
        RUN_UNTIL(&f, children_get(f.children, 0)->phase == CHILD_PARKED);
        assert_string_equal(children_get(f.children, 0)->last_exit, "silent for 2 s");
        close_all(&f);
}

/* Children die with azpard, and then nobody holds children.lock any more. */
static void test_children_die_with_their_parent(void **state) {
        int ends[2], status;
        struct fixture f;
        pid_t pid;
        char byte;

        (void) state;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                open_with(&f, 5, ends[1], "tell and wait");
                children_set_workers(f.children, 2);
                (void) close(ends[1]);
                for (;;)
                        (void) pause();
        }
        (void) close(ends[1]);
        /* both have started, with the pipe inherited as children.lock is */
        assert_int_equal(read(ends[0], &byte, 1), 1);
        assert_int_equal(read(ends[0], &byte, 1), 1);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(read(ends[0], &byte, 1), 0); /* would wait for ever if one lived on */
        (void) close(ends[0]);
}

/* ---- the child's side ---- */

static bool has_argument(int argc, char **argv, const char *name, const char *value) {
        for (int i = 1; i + 1 < argc; i += 2) {
                if (strcmp(argv[i], name) == 0)
                        return !value || strcmp(argv[i + 1], value) == 0;
        }
        return false;
}

/* What the kernel adds to a process's size when it looks for one to kill. */
static int oom_score_adj(void) {
        FILE *f = fopen("/proc/self/oom_score_adj", "re");
        int n = 0;

        if (!f || fscanf(f, "%d", &n) != 1)
                n = INT_MIN;
        if (f)
                (void) fclose(f);
        return n;
}

/* Exit status 42 if everything is as promised, else the number of what is not. */
static int inspect(int argc, char **argv) {
        bool is_worker = has_argument(argc, argv, "--slot", NULL);
        int death = 0, last = is_worker ? 7 : 8;
        struct sigaction pipe_action;
        sigset_t mask;

        if (is_worker && (!has_argument(argc, argv, "--incarnation", NULL) ||
                          has_argument(argc, argv, "--window-fd", NULL)))
                return 1;
        if (!has_argument(argc, argv, "--config-fd", "3") || !has_argument(argc, argv, "--segment-fd", "4") ||
            !has_argument(argc, argv, "--state-fd", "5") || !has_argument(argc, argv, "--wake-fd", "6"))
                return 2;
        if (!is_worker && !has_argument(argc, argv, "--window-fd", "8"))
                return 3;
        for (int fd = 3; fd < 64; fd++) {
                if ((fcntl(fd, F_GETFD) >= 0) != (fd <= last))
                        return 4;
        }
        if (prctl(PR_GET_PDEATHSIG, &death) < 0 || death != SIGKILL)
                return 5;
        if (getpgrp() != getpid())
                return 6;
        if (is_worker && (!getenv("OMP_NUM_THREADS") || !getenv("OPENBLAS_NUM_THREADS")))
                return 7;
        if (getenv("NOTIFY_SOCKET"))
                return 8;
        if (sigprocmask(SIG_SETMASK, NULL, &mask) < 0 || sigismember(&mask, SIGTERM) ||
            sigismember(&mask, SIGCHLD))
                return 9;
        if (sigaction(SIGPIPE, NULL, &pipe_action) < 0 || pipe_action.sa_handler != SIG_IGN)
                return 10;
        if (oom_score_adj() != MIN(atoi(getenv("AZPAR_TEST_OOM")) + (is_worker ? 500 : 250), 1000))
                return 11;
        if (getpriority(PRIO_PROCESS, 0) != MIN(atoi(getenv("AZPAR_TEST_NICE")) + 5, 19))
                return 12;
        return 42;
}

static volatile sig_atomic_t asked;

static void on_ask(int sig) {
        (void) sig;
        asked = 1;
}

static int child_main(int argc, char **argv) {
        const char *behaviour = getenv("AZPAR_TEST_CHILD");
        struct sigaction sa = { .sa_handler = on_ask };
        sigset_t block, before;
        int status;

        if (!behaviour)
                return 99;
        if (sscanf(behaviour, "exit %d", &status) == 1)
                return status;
        if (sscanf(behaviour, "signal %d", &status) == 1) {
                (void) signal(status, SIG_DFL); /* a sanitizer has put its own handler there */
                (void) raise(status);
        }
        if (strcmp(behaviour, "inspect") == 0)
                return inspect(argc, argv);
        if (strcmp(behaviour, "tell and wait") == 0 && write(FD_CHILDREN_LOCK, "x", 1) != 1)
                return 98;
        if (strcmp(behaviour, "wait for a signal") == 0 || strcmp(behaviour, "tell its configuration") == 0) {
                char letter = 'x';

                (void) sigemptyset(&block);
                (void) sigaddset(&block, SIGUSR1);
                (void) sigaddset(&block, SIGTERM);
                (void) sigprocmask(SIG_BLOCK, &block, &before);
                (void) sigaction(SIGUSR1, &sa, NULL);
                (void) sigaction(SIGTERM, &sa, NULL);
                if (strcmp(behaviour, "tell its configuration") == 0)
                        (void) !pread(FD_CONFIG, &letter, 1, 0);
                if (write(FD_CHILDREN_LOCK, &letter, 1) != 1)
                        return 98;
                while (!asked)
                        (void) sigsuspend(&before);
                return 0;
        }
        for (;;)
                (void) pause();
}

int main(int argc, char **argv) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_backoff),
                cmocka_unit_test(test_parking),
                cmocka_unit_test(test_crash_at_once_is_parked),
                cmocka_unit_test(test_hopeless_is_parked_at_once),
                cmocka_unit_test(test_disk_trouble_never_parks),
                cmocka_unit_test(test_missing_program),
                cmocka_unit_test(test_arguments_and_descriptors),
                cmocka_unit_test(test_killed_is_restarted),
                cmocka_unit_test(test_killed_under_a_tracer),
                cmocka_unit_test(test_start_that_fails),
                cmocka_unit_test(test_silent_is_killed),
                cmocka_unit_test(test_own_pause_is_excused),
                cmocka_unit_test(test_number_of_workers),
                cmocka_unit_test(test_stop),
                cmocka_unit_test(test_renew_workers),
                cmocka_unit_test(test_renew_few_workers),
                cmocka_unit_test(test_renew_trainer),
                cmocka_unit_test(test_renew_with_a_crash),
                cmocka_unit_test(test_renew_the_parked),
                cmocka_unit_test(test_renew_and_stop),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_children_die_with_their_parent),
        };
        char oom[16], nice_value[16];
        sigset_t set;

        if (argc > 1)
                return child_main(argc, argv);
        if (readlink("/proc/self/exe", self, sizeof(self) - 32) < 0)
                return 1;
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) setenv("NOTIFY_SOCKET", "/nowhere", 1);
        (void) snprintf(oom, sizeof(oom), "%d", oom_score_adj());
        (void) setenv("AZPAR_TEST_OOM", oom, 1);
        (void) snprintf(nice_value, sizeof(nice_value), "%d", getpriority(PRIO_PROCESS, 0));
        (void) setenv("AZPAR_TEST_NICE", nice_value, 1);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
