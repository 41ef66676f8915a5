/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Children: start, watch and restart the workers and the trainer.
 *
 *        start                first heartbeat
 *   OFF -------> RUNNING ----------------------> RUNNING, healthy
 *    ^            |  ^                             |
 *    |   told to  |  | after the back-off          | crash or silence
 *    +-- finish --+  +-------- BACKOFF <-----------+
 *                                 |  crashed at once too often in a row, or exit status 78
 *                                 +-----> PARKED ---> RUNNING when asked for again
 *
 * A child has crashed when it ends without being told to, whatever its exit
 * status, and when its heartbeat does not move for heartbeat_timeout_ns (then it
 * is killed first): a stopped process counts as crashed as well.  One that could not be started at all (no
 * process or descriptor left, no incarnation) has not crashed: it is tried again for ever.  So is one that
 * the disk or the machine did not let work: it says so with exit status 75 (EX_TEMPFAIL), or SIGBUS says it,
 * which is what a mapped file on a failing disk gives.
 *
 * Renewal: a child whose configuration has changed ends by SIGTERM and is started again at once.  That is no
 * crash; one that ends in any other way meanwhile has crashed, and one that neither ends nor beats is killed.
 *
 *   NONE ----> DUE ----> UNDER_WAY: SIGTERM, its end, the next process's first heartbeat ----> NONE
 *
 * At most half of the workers are under way at a time, so that self-play goes on.
 *
 * Children are forked and executed with the descriptors below at fixed numbers
 * and no others, in a process group of their own, and die with azpard.  When memory runs out, the kernel takes workers
 * first, then the trainer, and azpard last (oom_score_adj).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include "common/base/clock.h"
#include "common/base/error.h"

#define CHILDREN_MAX_WORKERS   256
#define CHILDREN_TRAINER       CHILDREN_MAX_WORKERS /* the trainer's number beside the workers' slots */
#define CHILDREN_LAST_EXIT_MAX 64

#define BACKOFF_FIRST_NS   (100 * NS_PER_MS)
#define BACKOFF_LONGEST_NS (30 * NS_PER_S)
#define BACKOFF_EXCUSED_NS                                                                                   \
        (5 * NS_PER_S) /* longest, where it was not its fault: it should be back soon after */
#define BACKOFF_HEALTHY_NS (10 * NS_PER_S) /* who lived that long did not crash at once */

/* How often a child crashed at once, and how long to wait before the next start. */
struct backoff {
        uint64_t n_crashes; /* at once, in a row */
        uint64_t delay_ns;  /* before the last restart */
};

enum {
        BACKOFF_E_RESTART, /* 0: after *ret_delay_ns */
        BACKOFF_E_PARK,    /* do not start it again by itself */
};

/* How long to wait before the next try, longer each time. */
uint64_t backoff_delay(struct backoff *b);

/*
 * backoff_crashed() - what to do with a child that crashed
 * @healthy_ns: from its first to its last sign of life
 * @hopeless:   it said that what it was given can never work
 * @limit:      crashes at once in a row that park it
 */
must_check_ int backoff_crashed(struct backoff *b, uint64_t healthy_ns, bool hopeless, uint64_t limit,
                                uint64_t *ret_delay_ns);

enum child_phase { CHILD_OFF, CHILD_RUNNING, CHILD_BACKOFF, CHILD_PARKED };
enum child_renewal { CHILD_RENEWAL_NONE, CHILD_RENEWAL_DUE, CHILD_RENEWAL_UNDER_WAY };

/* What is known about a child; for others to read. */
struct child {
        unsigned number; /* slot, or CHILDREN_TRAINER */
        enum child_phase phase;
        pid_t pid;            /* 0: not running */
        uint64_t incarnation; /* of the worker's process; set by ops.before_start() */
        uint64_t n_restarts;
        char last_exit[CHILDREN_LAST_EXIT_MAX]; /* "": it has not ended yet */
        uint64_t started_ns;
        uint64_t first_beat_ns; /* 0: no sign of life yet */
        uint64_t last_beat_ns;  /* when the heartbeat last moved, by our clock */

        /* children.c alone */
        struct children *children;
        struct backoff backoff;
        uint64_t beat; /* as last seen: foreign, only compared */
        uint64_t killed_ns;
        enum child_renewal renewal;
        bool told_to_finish; /* its end is not a crash */
        bool silent;
        int pidfd; /* -1: not running */
        sd_event_source *source, *restart;
};

struct children_ops {
        /* Make ready for a new process, e.g. give it an incarnation. Return: 0 or a negative errno with a
         * text. */
        int (*before_start)(void *userdata, struct child *c, struct error *e);
        /* It is dead; called before it is decided whether it is started again. */
        void (*ended)(void *userdata, struct child *c);
        /* Its heartbeat word. */
        uint64_t (*heartbeat)(void *userdata, const struct child *c);
};

/* Descriptors that children inherit; owned by the caller, who keeps them open. */
struct children_fds {
        int config, segment, state, wake, window, children_lock;
};

struct children_options {
        const char *worker_path, *trainer_path; /* copied */
        struct children_fds fds;
        unsigned n_slots;
        uint64_t heartbeat_timeout_ns;
        uint64_t restart_limit;
};

struct children;

must_check_ int children_new(sd_event *event, const struct children_options *o,
                             const struct children_ops *ops, void *userdata, struct children **ret);
/* Kills what still lives and waits for its end. */
void children_free(struct children *s);
DEFINE_CLEANUP(struct children *, children_free)

/* Where a program of azpar lies: beside our own executable, else in LIBEXECDIR. Return: 0; -ENOENT with a
 * text. */
must_check_ int children_find_program(const char *name, char *ret, size_t size, struct error *e);

/* Start the trainer, and keep it running; a parked one gets a new chance. */
void children_start_trainer(struct children *s);

/*
 * Keep workers in the slots below @n running; parked ones get a new chance.  Those above are expected to
 * finish by themselves (header.n_desired).
 */
void children_set_workers(struct children *s, unsigned n);

/* Give parked children a new chance. */
void children_unpark(struct children *s);

/* What a changed configuration changes for children_watch() and for crashes from now on. */
void children_set_limits(struct children *s, uint64_t heartbeat_timeout_ns, uint64_t restart_limit);

/* Give @fd to the children that are started from now on; children_fds.config until then may be closed. */
void children_set_config(struct children *s, int fd);

/*
 * children_renew_trainer() - start the trainer anew, for a new configuration
 *
 * One that runs gets SIGTERM, upon which it saves; one that waits for its next start or is parked is started
 * now, with all crashes forgotten.
 */
void children_renew_trainer(struct children *s);

/* The same for all workers that are wanted, at most half of them at a time. */
void children_renew_workers(struct children *s);

/* Compare heartbeats, kill who is silent. To be called about once a second. */
void children_watch(struct children *s, uint64_t now_ns);

/* SIGKILL a child that does harm; counts as a crash. @number: slot or CHILDREN_TRAINER. */
void children_kill(struct children *s, unsigned number);

/* Restart nobody any more and send SIGTERM to all. */
void children_stop(struct children *s);
void children_kill_workers(struct children *s);
void children_kill_all(struct children *s);

unsigned children_n_running(const struct children *s);
unsigned children_n_workers_running(const struct children *s);

/* A child that was killed and does not die, so that only a person can help. */
bool children_stuck(const struct children *s, uint64_t now_ns);

const struct child *children_get(const struct children *s, unsigned number);
