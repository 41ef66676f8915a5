/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The control socket: azparctl and whoever else speaks its protocol ask azpard.
 *
 * A Unix stream socket, mode 0660.  One JSON object per line in both directions; azpar-protocol(7) is the
 * contract, azparctl and tests/e2e/31-protocol.sh are held to it.  Requests of one client are answered in their
 * order.  Whoever can open the socket may look; only root and azpard's own user may change (SO_PEERCRED).
 */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"

struct sd_event; /* so that azparctl takes the constants without libsystemd */
struct control;
struct refill_import;

#define CONTROL_PROTOCOL      1
#define CONTROL_MAX_CLIENTS   64
#define CONTROL_BACKLOG       256        /* connections that wait to be accepted */
#define CONTROL_REQUEST_MAX   4096       /* bytes of a request with its newline */
#define CONTROL_OUTPUT_MAX    (1u << 20) /* bytes of an answer with its newline */
#define CONTROL_ID_MAX        64         /* bytes of a request's id that is a text */
#define CONTROL_ID_NUMBER_MAX 999999999999999.0 /* what cJSON prints with all of its digits */
#define CONTROL_PRIORITY      10         /* of its event sources: children, timers and signals come first */
#define CONTROL_IDLE_US       30000000   /* a client that neither asks nor reads for that long is dropped */

/* Clients other than root and azpard's own user get this part of azpard's time, and so much of it at once. */
#define CONTROL_SHARE    100 /* one in so many */
#define CONTROL_BURST_NS UINT64_C(20000000)
#define CONTROL_REST_NS  UINT64_C(100000000) /* how long they wait, then, at the least */

/* What azpard does for a client.  Those that return int give 0 or a negative errno with a text. */
struct control_ops {
        /* The status, new and owned by the caller; NULL: out of memory. */
        cJSON *(*status)(void *userdata);
        /* Run @n workers; more than there are slots is refused. */
        int (*set_workers)(void *userdata, unsigned n, struct error *e);
        int (*set_paused)(void *userdata, bool paused, struct error *e);
        /* Ask the trainer for a checkpoint; @ret_request names the request to checkpoint_done(). */
        int (*checkpoint)(void *userdata, uint64_t *ret_request, struct error *e);
        /* 1: written, at @ret_step; 0: not yet; negative errno: failed. */
        int (*checkpoint_done)(void *userdata, uint64_t request, uint64_t *ret_step);
        /* Take in the batch file @fd (taken over); @ret_ticket names the request to import_done(). */
        int (*import)(void *userdata, int fd, uint64_t *ret_ticket, struct error *e);
        /* 1: durable; 0: not yet; negative errno with a text: refused or failed. */
        int (*import_done)(void *userdata, uint64_t ticket, struct refill_import *ret, struct error *e);
        /* Read the configuration again; *ret_answer is the whole answer, new and owned by the caller. */
        int (*reload)(void *userdata, cJSON **ret_answer, struct error *e);
        /* Begin to stop; returns at once. */
        int (*stop)(void *userdata, struct error *e);
};

/*
 * control_new() - listen on @socket_path
 * @event:      the loop that serves it; must outlive @ret
 * @listen_fd:  a Unix stream socket that listens there already, as systemd passes one; taken over, also on
 *              failure. Its file is systemd's: neither made nor changed nor removed here. -1: none.
 * @ops:        kept, not copied
 *
 * Without @listen_fd, a socket file on which nobody listens is replaced; one on which somebody listens is -EADDRINUSE.
 *
 * Return: 0 or a negative errno with a text that names the path.
 */
must_check_ int control_new(struct sd_event *event, const char *socket_path, int listen_fd,
                            const struct control_ops *ops, void *userdata, struct control **ret,
                            struct error *e);

/* To be called when a checkpoint or an import may be done: answers the clients that wait for one. */
void control_poll(struct control *c);

/* Closes all connections and removes the socket file, if it was made here; NULL is fine. */
void control_free(struct control *c);
DEFINE_CLEANUP(struct control *, control_free)
