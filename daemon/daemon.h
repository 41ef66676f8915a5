/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Daemon: everything that azpard owns, and its event loop.
 *
 * main.c fills a struct daemon step by step in the order of a start, then
 * calls daemon_run(), which returns when azpard was asked to stop and its
 * children are gone; daemon_finish() puts down what must survive.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "common/base/config.h"
#include "common/base/disk.h"
#include "common/base/error.h"
#include "common/exchange/segment.h"
#include "common/exchange/window.h"
#include "common/games/game.h"
#include "common/model/network.h"
#include "daemon/children.h"
#include "daemon/control.h"
#include "daemon/intake.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/publication.h"
#include "daemon/rates.h"
#include "daemon/refill.h"
#include "daemon/statedir.h"
#include "daemon/throttle.h"
#include "daemon/trouble.h"
#include "daemon/usage.h"
#include "daemon/window_sync.h"

struct daemon {
        /* filled by main.c, in this order */
        struct notify notify;
        const struct options *options; /* borrowed */
        const char *config_path;       /* that was read last; NULL: there was none */
        struct config config;
        int config_fd; /* for children */
        struct game *game;
        struct network network;
        struct statedir state;
        struct window *window;
        int window_read_fd; /* the window's file, read-only: for the trainer */
        struct publication publication;
        uint64_t checkpoint_ns; /* when checkpoint_step last changed, by clock_now_ns(); 0: no checkpoint */
        uint64_t checkpoint_step;
        struct intake *intake;
        char instance[OPTIONS_INSTANCE_MAX];
        struct segment *segment; /* ours: its name is removed at the end */

        /* made by daemon_open() */
        sd_event *event;
        int wake_fd; /* workers and trainer write to it */
        struct children *children;
        struct control *control;
        struct disk *disk;
        struct window_sync *sync;
        struct refill *refill;
        struct rates *rates;
        struct usage usage;
        struct throttle throttle;
        struct trouble trouble;
        sd_event_source *drain; /* take in from the lanes */
        sd_event_source *wake, *tick, *watchdog, *grace, *deadline, *disk_source;
        sd_event_source *signals[3];

        uint64_t started_ns;
        uint64_t n_ticks;
        uint64_t n_taken;   /* records that the lanes gave so far */
        unsigned n_desired; /* workers */
        bool ready, stopping;
        bool has_terminal;            /* that can hang up: see on_hangup() */
        bool interrupted, terminated; /* a SIGINT, a SIGTERM came */
};

#define DAEMON_INIT                                                                                          \
        ((struct daemon){ .notify = NOTIFY_NULL,                                                             \
                          .config_fd = -1,                                                                   \
                          .state = STATEDIR_INIT,                                                            \
                          .window_read_fd = -1,                                                              \
                          .wake_fd = -1 })

/*
 * daemon_open() - make the event loop and all that lives in it; starts no child yet
 *
 * From here on SIGTERM, SIGINT, SIGHUP and SIGCHLD are blocked and handled by the loop.
 *
 * Return: 0 or a negative errno with a text.
 */
must_check_ int daemon_open(struct daemon *d, const char *socket_path, struct error *e);

/* Run @n workers from now on; at most segment->n_workers. */
void daemon_set_workers(struct daemon *d, unsigned n);

/* Start the children and serve until asked to stop. Return: 0 or a negative errno with a text. */
must_check_ int daemon_run(struct daemon *d, struct error *e);

/*
 * With all children gone: drain the lanes, make the window durable, remove the segment's name and the socket.
 * Where the disk does not let us, the segment stays for the next azpard.
 */
must_check_ int daemon_finish(struct daemon *d, struct error *e);

/* Also of one that is half open. */
void daemon_deinit(struct daemon *d);
