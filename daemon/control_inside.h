/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the pieces of the control socket know of each other; everybody else takes control.h.
 *
 * control.c listens and accepts, control_client.c is one connection: bytes, time, answers; control_commands.c
 * is what a request asks for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include "daemon/control.h"

struct control_command;

struct control_client {
        struct control *control;
        sd_event_source *io, *timer;
        int fd;
        struct ucred peer;
        char in[CONTROL_REQUEST_MAX]; /* an incomplete request */
        size_t n_in;
        char *out; /* an answer that did not leave at once, from n_sent on; NULL: none */
        size_t n_out, n_sent;
        int passed_fd;                       /* came with the request; -1: none */
        uint64_t ticket;                     /* of the checkpoint or import that it waits for */
        const struct control_command *waits; /* for that command's end; NULL: it does not */
        bool stops;                          /* asked azpard to stop: the connection's end is the answer */
        bool ends;                           /* to be closed when its answer is out */
};

struct control {
        sd_event *event;
        const struct control_ops *ops;
        void *userdata;
        char *path;
        int fd;
        bool bound; /* the file at path is ours */
        sd_event_source *io, *retry;
        struct control_client *clients[CONTROL_MAX_CLIENTS];
};

/* --- control_client.c --- */

/*
 * control_client_new() - serve a connection
 * @slot:       a free place of @control
 * @fd:         taken over, also on failure
 *
 * Return: 0 or a negative errno.
 */
must_check_ int control_client_new(struct control *control, struct control_client **slot, int fd);

/* Close it and leave its place. */
void control_client_free(struct control_client *c);

/* Look whether what the client waits for is done, and answer it then; the client may be gone after that. */
void control_client_poll(struct control_client *c);

/* --- control_commands.c --- */

#define CONTROL_E_LATER 1 /* answered later: c->waits is set */

/*
 * control_request() - do what one request asks for
 * @line:       the request without its newline, @n bytes and a NUL
 * @ret_answer: the answer, a refusal just as well, owned by the caller; NULL: out of memory
 *
 * Return: 0 or CONTROL_E_LATER.
 */
must_check_ int control_request(struct control_client *c, const char *line, size_t n, cJSON **ret_answer);

/* The same for the command that @c waits for. */
must_check_ int control_request_poll(struct control_client *c, cJSON **ret_answer);

/* The answer to one that waited for too long. */
cJSON *control_request_late(struct control_client *c);

/* For how long a client may wait for the command's end. */
uint64_t control_patience_us(const struct control_command *command);

/* An answer that says no. NULL: out of memory. */
cJSON *control_refusal(int negative_errno, const char *text);
