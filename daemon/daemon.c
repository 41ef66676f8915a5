/* SPDX-License-Identifier: MIT */
/*
 * azpard's event loop; see daemon.h.  Process: azpard, its only thread.
 *
 * Nothing here waits: the lanes are drained in turns of TURN_NS, the window is
 * synced by io_uring, and what takes the kernel long (memory and disk use) is
 * looked up by the tick, not by whoever asks for it.
 *
 * Going to sleep: whoever publishes a record writes to the eventfd only if
 * azpard said that it sleeps.  It says so in the prepare callback, which the
 * loop calls last before it waits, and looks at the lanes once more after
 * that; see segment_consumer_may_sleep().  It does not say so for AGAIN_US after
 * it found something: in a busy system the lanes are drained 50 times a second,
 * however many games end, and nobody pays for wake-ups (with 1,200 games of
 * tictactoe a second that was 1,070 wake-ups and 44 ms of CPU time a second).
 *
 * Disk trouble: while the window cannot be written or synced, records stay in the lanes, and both are tried
 * again every second.  The lanes are what workers wait at, and the segment is what the next azpard
 * takes up if this one is stopped before the disk works again.
 *
 * Stopping: header.stop and SIGTERM to all children; workers leave at once,
 * the trainer saves first.  Lanes are drained meanwhile, so nobody is stuck at a
 * full one.  The loop ends with the last child.
 */
#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/pause_point.h"
#include "daemon/handover.h"
#include "daemon/operations.h"
#include "daemon/reload.h"

#define TURN_NS         (2 * NS_PER_MS)
#define DRAIN_PRIORITY  CONTROL_PRIORITY /* after everything else that waits */
#define AGAIN_US        20000
#define RETRY_US        1000000 /* after the window took nothing */
#define TICK_US         1000000
#define NOTIFY_TICKS    5
#define LOOP_FAILURES   10 /* in a row, and it is given up */
#define LOOP_PAUSE_NS   (100 * NS_PER_MS)
#define WORKER_GRACE_US 5000000 /* for a batch to end; what a worker had committed is safe anyway */

static_assert(CHILDREN_MAX_WORKERS == SEGMENT_MAX_WORKERS, "one child per slot");

struct status_sources daemon_sources(const struct daemon *d) {
        return (struct status_sources){
                .instance = d->instance,
                .state_path = d->state.path,
                .config = &d->config,
                .segment = d->segment,
                .children = d->children,
                .intake = d->intake,
                .window = d->window,
                .sync = d->sync,
                .refill = d->refill,
                .disk = d->disk,
                .publication = &d->publication,
                .rates = d->rates,
                .usage = &d->usage,
                .started_ns = d->started_ns,
                .checkpoint_ns = d->checkpoint_ns,
                .n_desired = d->n_desired,
                .stopping = d->stopping,
        };
}

static int start_timer(sd_event_source *timer, uint64_t delay_us) {
        int r = sd_event_source_set_time_relative(timer, delay_us);

        return r < 0 ? r : sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

/* ---- systemd ---- */

static void make_status_line(const struct daemon *d, char ret[NOTIFY_STATUS_MAX]) {
        struct status_sources s = daemon_sources(d);

        status_line(&s, ret, NOTIFY_STATUS_MAX);
}

/* READY: workers play, and there are weights to play with. */
static void check_ready(struct daemon *d) {
        char line[NOTIFY_STATUS_MAX];

        if (d->ready || d->stopping || d->publication.info.generation == 0)
                return;
        d->ready = true;
        make_status_line(d, line);
        notify_ready(&d->notify, line);
        log_event(LOG_EVENT_READY,
                  LOG_FIELDS(LOG_NUMBER(GENERATION, d->publication.info.generation),
                             LOG_NUMBER(WORKERS, d->n_desired)),
                  "ready: generation %ju, %u workers", (uintmax_t) d->publication.info.generation,
                  d->n_desired);
}

/* A child that hangs is killed by the tick; only one that cannot die holds us up. */
static bool is_alive(const struct daemon *d) {
        return !children_stuck(d->children, clock_now_ns());
}

/* Does a start or a stop get on? For a start, the first trainer is at work; it is killed if it hangs. */
static bool gets_on(const struct daemon *d) {
        const struct child *trainer = children_get(d->children, CHILDREN_TRAINER);

        return d->stopping || (trainer->phase == CHILD_RUNNING && trainer->n_restarts == 0);
}

static void tell_systemd(struct daemon *d) {
        char line[NOTIFY_STATUS_MAX];
        bool alive = is_alive(d);

        /* While it starts or stops, somebody waits and looks. */
        if (d->n_ticks++ % NOTIFY_TICKS == 0 || !d->ready || d->stopping) {
                make_status_line(d, line);
                notify_status(&d->notify, line);
        }
        notify_tick(&d->notify, alive, alive && gets_on(d));
}

static int on_watchdog(sd_event_source *source, uint64_t usec, void *userdata) {
        struct daemon *d = userdata;

        (void) usec;
        if (is_alive(d))
                notify_watchdog(&d->notify);
        return start_timer(source, notify_watchdog_us(&d->notify));
}

/* ---- stopping ---- */

static void leave_if_alone(struct daemon *d) {
        if (d->stopping && children_n_running(d->children) == 0)
                (void) sd_event_exit(d->event, 0);
}

static int on_grace(sd_event_source *source, uint64_t usec, void *userdata) {
        struct daemon *d = userdata;

        (void) source;
        (void) usec;
        if (children_n_workers_running(d->children) > 0)
                log_event(LOG_EVENT_STOP_LATE, LOG_FIELDS(LOG_NUMBER(SECONDS, WORKER_GRACE_US / 1000000)),
                          "%u workers did not stop in time: killing them",
                          children_n_workers_running(d->children));
        children_kill_workers(d->children);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        struct daemon *d = userdata;

        (void) source;
        (void) usec;
        log_event(LOG_EVENT_STOP_LATE, LOG_FIELDS(LOG_NUMBER(SECONDS, d->config.service_stop_timeout)),
                  "the trainer did not save within service.stop_timeout (%.4g s): killing it; the last "
                  "checkpoint stays",
                  d->config.service_stop_timeout);
        children_kill_all(d->children);
        return 0;
}

void daemon_stop(struct daemon *d, const char *why) {
        char line[NOTIFY_STATUS_MAX];

        if (d->stopping)
                return;
        log_event(LOG_EVENT_STOPPING, LOG_FIELDS(LOG_TEXT(REASON, why)), "stopping: %s", why);
        d->stopping = true;
        refill_stop(d->refill);
        make_status_line(d, line);
        notify_stopping(&d->notify, line);
        atomic_store_explicit(&d->segment->header->stop, 1, memory_order_release);
        children_stop(d->children);
        if (start_timer(d->grace, WORKER_GRACE_US) < 0 ||
            start_timer(d->deadline, (uint64_t) (d->config.service_stop_timeout * 1e6)) < 0)
                children_kill_all(d->children); /* without timers we might wait for ever */
        leave_if_alone(d);
}

/*
 * Who sends SIGTERM or SIGINT a second time is impatient.  Different ones come together by themselves: a
 * terminal that hangs up sends SIGHUP twice, a supervisor SIGTERM after somebody's ^C or azparctl stop.
 */
static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct daemon *d = userdata;
        bool *came_before = si->ssi_signo == SIGINT    ? &d->interrupted
                            : si->ssi_signo == SIGTERM ? &d->terminated
                                                       : NULL;
        bool impatient = came_before && *came_before;
        char why[64];

        (void) source;
        if (came_before)
                *came_before = true;
        (void) snprintf(why, sizeof(why), "SIG%s", sigabbrev_np((int) si->ssi_signo));
        if (impatient) {
                log_event(LOG_EVENT_STOP_FORCED, LOG_FIELDS(LOG_TEXT(REASON, why)),
                          "%s again: not waiting for the trainer's checkpoint", why);
                children_kill_all(d->children);
        } else if (d->stopping)
                log_notice("%s: stopping already, the trainer saves", why);
        else
                daemon_stop(d, why);
        return 0;
}

/* ---- a new configuration ---- */

int daemon_reload(struct daemon *d, cJSON **ret_answer, struct error *e) {
        char line[NOTIFY_STATUS_MAX];
        int r;

        notify_reloading(&d->notify);
        r = reload_run(d, ret_answer, e);
        make_status_line(d, line);
        notify_reloaded(&d->notify, line); /* also if it was refused: azpard goes on as before */
        return r;
}

/*
 * SIGHUP has two meanings.  For who started azpard in a terminal, the terminal is gone, and azpard goes as
 * well; for a service, which has none, it asks for a reload.
 */
static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        struct error e = ERROR_INIT;
        struct daemon *d = userdata;

        if (d->has_terminal || d->stopping)
                return on_signal(source, si, userdata);
        (void) !daemon_reload(d, NULL, &e); /* it has said how it went */
        return 0;
}

static bool has_terminal(void) {
        cleanup_(fd_closep) int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);

        return fd >= 0; /* it can be opened only by who has one */
}

/* ---- lanes ---- */

static void kill_broken(struct daemon *d) {
        for (uint32_t slot = 0; slot < d->segment->n_workers; slot++) {
                if (intake_is_broken(d->intake, slot))
                        children_kill(d->children, slot);
        }
}

/*
 * Look into the lanes in @delay_us.  A timer, not a deferred source: sd-event counts a deferred one as having
 * waited for ever, and lanes that never run empty would shut out clients, which have the same priority.
 */
static int drain_in(struct daemon *d, uint64_t delay_us) {
        return start_timer(d->drain, delay_us);
}

static int on_drain(sd_event_source *source, uint64_t usec, void *userdata) {
        struct daemon *d = userdata;
        uint64_t before = d->n_taken;
        int r;

        (void) source;
        (void) usec;
        intake_hold(d->intake, window_sync_error(d->sync));
        r = intake_turn(d->intake, d->segment, TURN_NS);
        d->n_taken = intake_n_taken(d->intake);
        if (intake_n_broken(d->intake) > 0)
                kill_broken(d);
        if (r == INTAKE_E_MORE)
                return drain_in(d, 0);
        if (r == INTAKE_E_FAILED)
                return drain_in(d, RETRY_US);
        /* A broken lane never looks empty: until its worker is dead, look now and then, not all the time. */
        return d->n_taken != before || intake_n_broken(d->intake) > 0 ? drain_in(d, AGAIN_US) : 0;
}

static int on_wake(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct daemon *d = userdata;
        eventfd_t n;

        (void) source;
        (void) events;
        (void) eventfd_read(fd, &n);
        if (publication_poll(&d->publication, d->segment, false))
                check_ready(d);
        control_poll(d->control);
        return 0; /* before_sleep() sees what is in the lanes */
}

static int before_sleep(sd_event_source *source, void *userdata) {
        struct daemon *d = userdata;
        int enabled = SD_EVENT_OFF, r;

        (void) source;
        window_sync_look(d->sync);
        r = sd_event_source_get_enabled(d->drain, &enabled);
        if (r < 0 || enabled != SD_EVENT_OFF)
                return MIN(r, 0); /* we will look by ourselves */
        if (segment_consumer_may_sleep(d->segment))
                return 0;
        return drain_in(d, 0);
}

static int on_disk(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct daemon *d = userdata;

        (void) source;
        (void) fd;
        (void) events;
        disk_poll(d->disk);
        return 0;
}

/* ---- the tick ---- */

static void follow_checkpoints(struct daemon *d, uint64_t now_ns) {
        /* Relaxed: only shown. */
        uint64_t step = atomic_load_explicit(&d->segment->trainer->checkpoint_step, memory_order_relaxed);

        if (step == d->checkpoint_step)
                return;
        d->checkpoint_step = step;
        d->checkpoint_ns = now_ns;
}

static void follow_throttle(struct daemon *d) {
        const struct segment_trainer *t = d->segment->trainer;
        const struct child *c = children_get(d->children, CHILDREN_TRAINER);
        bool on = false;

        if (!d->config.replay_throttle_workers)
                return;
        /* Relaxed, all: a decision that is made anew every second. */
        if (c->phase == CHILD_RUNNING && c->first_beat_ns)
                on = throttle_update(&d->throttle, atomic_load_explicit(&t->state, memory_order_relaxed),
                                     window_tail(d->window),
                                     atomic_load_explicit(&t->samples_trained, memory_order_relaxed));
        else
                throttle_reset(&d->throttle);
        atomic_store_explicit(&d->segment->header->throttle, on, memory_order_relaxed);
}

static void follow_trouble(struct daemon *d, uint64_t now_ns) {
        struct status_sources s = daemon_sources(d);
        char reason[STATUS_REASON_MAX];

        if (d->stopping)
                return;
        (void) status_is_degraded(&s, reason);
        trouble_update(&d->trouble, reason, now_ns);
}

static bool is_paused(const struct daemon *d) {
        return atomic_load_explicit(&d->segment->header->pause, memory_order_relaxed); /* our own word */
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata) {
        struct daemon *d = userdata;
        uint64_t now_ns = clock_now_ns();

        (void) usec;
        children_watch(d->children, now_ns);
        rates_tick(d->rates, d->segment, now_ns);
        usage_tick(&d->usage, &d->state, window_fd(d->window), is_paused(d), now_ns);
        follow_checkpoints(d, now_ns);
        follow_throttle(d);
        /* Also in case that the trainer was killed before it woke us. */
        if (publication_poll(&d->publication, d->segment, true))
                check_ready(d);
        control_poll(d->control);
        disk_poll(d->disk); /* what the kernel did not take at once */
        refill_tick(d->refill);
        follow_trouble(d, now_ns);
        tell_systemd(d);
        return start_timer(source, TICK_US);
}

/* ---- what the children need from us ---- */

static int child_before_start(void *userdata, struct child *c, struct error *e) {
        struct daemon *d = userdata;
        int r;

        if (c->number == CHILDREN_TRAINER) {
                throttle_reset(&d->throttle);
                return 0;
        }
        r = window_new_incarnation(d->window, &c->incarnation);
        if (r < 0)
                return error_errno(e, r, "no incarnation");
        intake_expect(d->intake, c->number, c->incarnation);
        return 0;
}

static void child_ended(void *userdata, struct child *c) {
        struct daemon *d = userdata;
        struct segment_worker *w;

        /* SIGTERM ends only a trainer that is about to begin: it has learned nothing yet. */
        if (c->number == CHILDREN_TRAINER && d->stopping && !c->killed_ns &&
            strcmp(c->last_exit, "exit status 0") != 0 && strncmp(c->last_exit, "signal 15", 9) != 0)
                log_event(
                        LOG_EVENT_STEPS_LOST,
                        LOG_FIELDS(LOG_TEXT(REASON, c->last_exit), LOG_NUMBER(STEP, d->checkpoint_step)),
                        "the trainer could not save at the end (%s): what it learned since the checkpoint at "
                        "step %ju is lost",
                        c->last_exit, (uintmax_t) d->checkpoint_step);
        if (c->number != CHILDREN_TRAINER) {
                /* What cannot be taken in now stays in front of what its successor writes. */
                intake_hold(d->intake, window_sync_error(d->sync));
                PAUSE_POINT(FINISH_SLOT_BEFORE);
                (void) !intake_finish_slot(d->intake, d->segment, c->number);
                PAUSE_POINT(FINISH_SLOT_AFTER);
                rates_finish_slot(d->rates, d->segment, c->number);
                /* At once, since what was taken up must not be there at the next tick: the counters start at
                 * 0 for the next process.  The lane goes on where it is. */
                w = d->segment->workers[c->number];
                (void) memset((unsigned char *) w + offsetof(struct segment_worker, heartbeat_ns), 0,
                              sizeof(*w) - offsetof(struct segment_worker, heartbeat_ns));
        }
        leave_if_alone(d);
}

static uint64_t child_heartbeat(void *userdata, const struct child *c) {
        struct daemon *d = userdata;
        const _Atomic uint64_t *beat = c->number == CHILDREN_TRAINER
                                               ? &d->segment->trainer->heartbeat_ns
                                               : &d->segment->workers[c->number]->heartbeat_ns;

        /* Relaxed: only compared with what it was. */
        return atomic_load_explicit(beat, memory_order_relaxed);
}

static const struct children_ops children_ops = {
        .before_start = child_before_start,
        .ended = child_ended,
        .heartbeat = child_heartbeat,
};

/* ---- opening and closing ---- */

static int add_signals(struct daemon *d) {
        static const int numbers[N_ELEMENTS(d->signals)] = { SIGTERM, SIGINT, SIGHUP };
        sigset_t set;
        int r;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGCHLD);
        for (size_t i = 0; i < N_ELEMENTS(numbers); i++)
                (void) sigaddset(&set, numbers[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        d->has_terminal = has_terminal();
        for (size_t i = 0; i < N_ELEMENTS(numbers); i++) {
                r = sd_event_add_signal(d->event, &d->signals[i], numbers[i],
                                        numbers[i] == SIGHUP ? on_hangup : on_signal, d);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Without these we would go on blind: their failure ends the loop, and the next start takes up what is there.
 */
static int need_sources(struct daemon *d) {
        sd_event_source *all[] = { d->wake, d->drain, d->tick };

        for (size_t i = 0; i < N_ELEMENTS(all); i++) {
                int r = sd_event_source_set_exit_on_failure(all[i], 1);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* For daemon_stop(), which must not have to kill the trainer because there is no memory left for timers. */
static int add_stop_timers(struct daemon *d) {
        int r;

        r = sd_event_add_time_relative(d->event, &d->grace, CLOCK_MONOTONIC, 0, 0, on_grace, d);
        if (r >= 0)
                r = sd_event_source_set_enabled(d->grace, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(d->event, &d->deadline, CLOCK_MONOTONIC, 0, 0, on_deadline, d);
        return r < 0 ? r : sd_event_source_set_enabled(d->deadline, SD_EVENT_OFF);
}

static int add_sources(struct daemon *d) {
        int r;

        r = add_signals(d);
        if (r < 0)
                return r;
        r = sd_event_add_io(d->event, &d->wake, d->wake_fd, EPOLLIN, on_wake, d);
        if (r < 0)
                return r;
        r = sd_event_source_set_prepare(d->wake, before_sleep);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(d->event, &d->drain, CLOCK_MONOTONIC, 0, 1, on_drain, d);
        if (r < 0)
                return r;
        r = sd_event_source_set_priority(d->drain, DRAIN_PRIORITY);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(d->event, &d->tick, CLOCK_MONOTONIC, TICK_US, 0, on_tick, d);
        if (r < 0)
                return r;
        r = add_stop_timers(d);
        if (r < 0)
                return r;
        r = need_sources(d);
        if (r < 0 || notify_watchdog_us(&d->notify) == 0)
                return r;
        return sd_event_add_time_relative(d->event, &d->watchdog, CLOCK_MONOTONIC, 0, 1, on_watchdog, d);
}

static int add_children(struct daemon *d, struct error *e) {
        char worker[PATH_MAX], trainer[PATH_MAX];
        struct children_options o = {
                .worker_path = worker,
                .trainer_path = trainer,
                .fds = { .config = d->config_fd,
                         .segment = d->segment->fd,
                         .state = d->state.fd,
                         .wake = d->wake_fd,
                         .window = d->window_read_fd,
                         .children_lock = d->state.children_lock_fd },
                .n_slots = d->segment->n_workers,
                .heartbeat_timeout_ns = (uint64_t) (d->config.service_heartbeat_timeout * NS_PER_S),
                .restart_limit = d->config.service_restart_limit,
        };
        int r;

        r = children_find_program("azpar-worker", worker, sizeof(worker), e);
        if (r < 0)
                return r;
        r = children_find_program("azpar-trainer", trainer, sizeof(trainer), e);
        if (r < 0)
                return r;
        r = children_new(d->event, &o, &children_ops, d, &d->children);
        return r < 0 ? error_errno(e, r, "could not prepare for children") : 0;
}

static int open_disk(struct daemon *d) {
        int refused = 0, r;

        r = disk_new(true, true, &d->disk, &refused);
        if (r < 0)
                return r;
        if (refused < 0)
                log_event(LOG_EVENT_URING_REFUSED, LOG_FIELDS(LOG_NUMBER(ERRNO, -refused)),
                          "io_uring is not available (%s): azpard waits for its disk where it must read or "
                          "sync",
                          strerror(-refused));
        r = sd_event_add_io(d->event, &d->disk_source, disk_event_fd(d->disk), EPOLLIN, on_disk, d);
        if (r < 0)
                return r;
        return window_sync_new(d->event, d->window, (uint64_t) (d->config.replay_sync_interval * 1e6),
                               d->disk, &d->sync);
}

static void import_changed(void *userdata) {
        struct daemon *d = userdata;

        if (d->control)
                control_poll(d->control);
}

static int open_refill(struct daemon *d, struct error *e) {
        const struct refill_options o = {
                .game = d->game,
                .window = d->window,
                .sync = d->sync,
                .disk = d->disk,
                .state_fd = d->state.fd,
                .found = intake_found(d->intake),
                .changed = import_changed,
                .userdata = d,
        };

        return refill_new(d->event, &o, &d->refill, e);
}

int daemon_open(struct daemon *d, const char *socket_path, struct error *e) {
        int r;

        d->started_ns = clock_now_ns();
        throttle_init(&d->throttle, d->config.replay_ratio, d->config.replay_slack, d->config.train_batch);
        d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (d->wake_fd < 0)
                return error_errno(e, -errno, "could not make an eventfd");
        r = sd_event_new(&d->event);
        if (r >= 0)
                r = add_sources(d);
        if (r >= 0)
                r = rates_new(&d->rates);
        if (r >= 0)
                r = open_disk(d);
        if (r < 0)
                return error_errno(e, r, "could not set up the event loop");
        r = open_refill(d, e);
        if (r == 0)
                r = add_children(d, e);
        if (r < 0)
                return r;
        usage_init(&d->usage, d->children, d->disk);
        return control_new(d->event, socket_path, notify_take_control(&d->notify), &operations, d,
                           &d->control, e);
}

/*
 * Run the loop to its end, like sd_event_loop().  That would end azpard when the loop itself lacks memory or
 * a timer for once; all that it watches is still there, so it is tried again.  What does not pass ends
 * azpard, and the next one takes up what is there.
 */
static int run_loop(struct daemon *d) {
        unsigned n_failures = 0;
        int r, code = 0;

        while (sd_event_get_state(d->event) != SD_EVENT_FINISHED) {
                r = sd_event_run(d->event, UINT64_MAX);
                if (r >= 0) {
                        n_failures = 0;
                        continue;
                }
                if (++n_failures == LOOP_FAILURES)
                        return r;
                log_event(LOG_EVENT_LOOP_FAILED, LOG_FIELDS(LOG_NUMBER(ERRNO, -r)),
                          "event loop: %s; trying again", strerror(-r));
                clock_sleep_ns(LOOP_PAUSE_NS);
                /* A timer that could not be armed is not armed again before one of them is changed. */
                (void) sd_event_source_set_time_relative(d->tick, 0);
        }
        r = sd_event_get_exit_code(d->event, &code);
        return r < 0 ? r : code;
}

void daemon_set_workers(struct daemon *d, unsigned n) {
        d->n_desired = n;
        atomic_store_explicit(&d->segment->header->n_desired, n, memory_order_release);
        children_set_workers(d->children, n);
}

int daemon_run(struct daemon *d, struct error *e) {
        int r;

        atomic_store_explicit(&d->segment->header->n_desired, d->n_desired, memory_order_release);
        PAUSE_POINT(START_BEFORE_CHILDREN);
        rates_tick(d->rates, d->segment, clock_now_ns());
        children_start_trainer(d->children);
        children_set_workers(d->children, d->n_desired);
        check_ready(d);
        tell_systemd(d); /* what a start now waits for, also when the first tick is too late for that */
        r = run_loop(d);
        return r < 0 ? error_errno(e, r, "event loop") : 0;
}

int daemon_finish(struct daemon *d, struct error *e) {
        uint64_t n_samples, step;
        int r;

        d->control = (control_free(d->control), NULL);
        notify_phase(&d->notify, NOTIFY_LONG_US, "stopping: waiting for the disk");
        disk_drain(d->disk);
        d->refill = (refill_free(d->refill), NULL);
        d->sync = (window_sync_free(d->sync), NULL);
        r = handover_leave(d, e);
        n_samples = window_tail(d->window) - window_first(d->window);
        /* Relaxed: nobody else is left. */
        step = atomic_load_explicit(&d->segment->trainer->checkpoint_step, memory_order_relaxed);
        log_event(LOG_EVENT_STOPPED, LOG_FIELDS(LOG_NUMBER(SAMPLES, n_samples), LOG_NUMBER(STEP, step)),
                  "stopped: %ju samples in the window, checkpoint at step %ju", (uintmax_t) n_samples,
                  (uintmax_t) step);
        notify_flush(&d->notify);
        return r;
}

void daemon_deinit(struct daemon *d) {
        sd_event_source **all[] = { &d->drain,    &d->wake,       &d->tick,       &d->watchdog,  &d->grace,
                                    &d->deadline, &d->signals[0], &d->signals[1], &d->signals[2] };

        control_free(d->control);
        children_free(d->children);
        d->disk_source = sd_event_source_disable_unref(d->disk_source); /* before its descriptor is closed */
        disk_free(d->disk); /* before those that it would call back */
        usage_deinit(&d->usage);
        refill_free(d->refill);
        window_sync_free(d->sync);
        for (size_t i = 0; i < N_ELEMENTS(all); i++)
                (void) sd_event_source_disable_unref(*all[i]);
        (void) sd_event_unref(d->event);
        rates_free(d->rates);
        fd_closep(&d->wake_fd);
        segment_free(d->segment);
        intake_free(d->intake);
        fd_closep(&d->window_read_fd);
        window_free(d->window);
        statedir_deinit(&d->state);
        game_free(d->game);
        fd_closep(&d->config_fd);
        notify_deinit(&d->notify);
        *d = DAEMON_INIT;
}
