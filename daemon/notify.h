/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Notify: everything that azpard tells systemd, and everything that it gets from it.
 *
 *   tells     READY, RELOADING, STOPPING, STATUS, WATCHDOG, EXTEND_TIMEOUT_USEC; the shared memory's
 *             descriptor for the fd store                                          (NOTIFY_SOCKET)
 *   gets      the control socket, the stored shared memory           (LISTEN_FDS, LISTEN_FDNAMES)
 *             how often it wants a sign of life                                     (WATCHDOG_USEC)
 *
 * Without systemd there is none of it, and all functions do nothing.
 *
 * Nothing here waits: systemd's socket may be full, and its process may hang.  What could not be said then is
 * said by the next notify_tick(): no state and no descriptor is forgotten, only the newest STATUS counts, and a
 * sign of life or a request for patience is worthless later.
 *
 * systemd's timeouts.  While azpard starts and stops, each message asks for more time than is left until the
 * next one: that lasts as long as azpard goes on, and ends with it.  What is one call of the kernel and can
 * take long (making a file durable on a slow disk) asks for NOTIFY_LONG_US beforehand.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/attr.h"
#include "common/base/error.h"

#define NOTIFY_CONTROL "control" /* FileDescriptorName= of the control socket */
#define NOTIFY_SEGMENT "segment" /* FDNAME= of the shared memory */

#define NOTIFY_SEGMENTS_MAX 8
#define NOTIFY_STATUS_MAX   512
#define NOTIFY_QUEUE_MAX    4

#define NOTIFY_SHORT_US UINT64_C(30000000)  /* while there is a tick or a step again and again */
#define NOTIFY_LONG_US  UINT64_C(300000000) /* for one call of the kernel that waits for a disk */

/* Where azpard is, for timeouts. */
enum notify_stage { NOTIFY_STARTING, NOTIFY_RUNNING, NOTIFY_STOPPING };

struct notify {
        int fd; /* to send from; -1: none yet */
        char *address;        /* NOTIFY_SOCKET; NULL: there is nobody to tell */
        enum notify_stage stage;
        uint64_t watchdog_us; /* 0: systemd expects no sign of life */
        int control_fd;       /* passed; -1: none */
        int segments[NOTIFY_SEGMENTS_MAX]; /* stored, from n_segments - 1 down */
        unsigned n_segments;

        /* not said yet */
        char queue[NOTIFY_QUEUE_MAX][64]; /* changes of state, in their order */
        unsigned n_queue;
        char status[NOTIFY_STATUS_MAX]; /* "": said */
        bool forget;                    /* what is stored */
        int store_fd;                   /* borrowed; -1: none. After forgetting. */
        int error;                      /* of the last message; 0: it was said */
        uint64_t stepped_ns;            /* the last notify_step() that was said */
};

#define NOTIFY_NULL ((struct notify){ .fd = -1, .control_fd = -1, .store_fd = -1 })

/*
 * notify_init() - take up the environment and the passed descriptors
 *
 * To be called first in main(), before anything opens a descriptor.  Takes all of it out of the environment,
 * so that no child believes that it is meant.  Descriptors with an unknown name are closed, with a warning
 * each.
 *
 * Return: 0, also without systemd; a negative errno with a text: LISTEN_FDS says something impossible.
 */
must_check_ int notify_init(struct notify *n, struct error *e);
void notify_deinit(struct notify *n);

/* The descriptor passed as control socket, now the caller's and not yet looked at; -1: none was passed. */
int notify_take_control(struct notify *n);

/* A stored descriptor of shared memory, now the caller's, as foreign as any file; -1: there is none (any more). */
int notify_take_segment(struct notify *n);

/*
 * Say what a start or a stop does next, and ask for @patience_us for it.
 * @text: as in STATUS; begins with "starting: " or "stopping: "
 */
void notify_phase(struct notify *n, uint64_t patience_us, const char *text);

/* The same within a phase, for something that is called often: says it once a second. @text is followed by the share of
 * @n_all that is @n_done. */
void notify_step(struct notify *n, const char *text, uint64_t n_done, uint64_t n_all);

/* Samples can flow. */
void notify_ready(struct notify *n, const char *status);

/*
 * A reload begins; it has ended, whatever came of it.  Ahead of READY nothing is said, since systemd would take
 * the end of the reload for that.
 */
void notify_reloading(struct notify *n);
void notify_reloaded(struct notify *n, const char *status);

/* azpard stops, whoever wanted it. */
void notify_stopping(struct notify *n, const char *status);

/* STATUS, to be said with the next tick. */
void notify_status(struct notify *n, const char *status);

/*
 * notify_tick() - to be called by the loop about once a second
 * @alive:    feed the watchdog
 * @progress: a start or a stop gets on: ask for more time
 *
 * Says it, and what could not be said before.
 */
void notify_tick(struct notify *n, bool alive, bool progress);

/*
 * How often the watchdog has to be fed beside the ticks, in microseconds; 0: they are enough.
 */
uint64_t notify_watchdog_us(const struct notify *n);

/* Only feed the watchdog. */
void notify_watchdog(struct notify *n);

/* Have systemd keep @fd, the shared memory, should azpard die. It must stay open until notify_forget_segment(). */
void notify_store_segment(struct notify *n, int fd);

/* What systemd keeps is not needed any more; also what a predecessor left there. */
void notify_forget_segment(struct notify *n);

/* Before azpard exits: wait for up to a second until systemd has room for what is not said yet. */
void notify_flush(struct notify *n);
