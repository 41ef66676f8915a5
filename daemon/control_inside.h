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

/* What a request called itself, for its answer. */
struct control_id {
        enum { CONTROL_ID_NONE, CONTROL_ID_NUMBER, CONTROL_ID_TEXT } kind;
        double number;
        char text[CONTROL_ID_MAX + 1];
};

struct control_client {
        struct control *control;
        sd_event_source *io, *timer;
        int fd;
        struct ucred peer;
        bool trusted;                 /* root or azpard's own user; see control.c */
        uint64_t active_ns;           /* when it last came, asked something, or took from its answer */
        char in[CONTROL_REQUEST_MAX]; /* an incomplete request */
        size_t n_in;
        char *out; /* an answer that did not leave at once, from n_sent on; NULL: none */
        size_t n_out, n_sent;
        int passed_fd;                       /* came with the request; -1: none */
        uint64_t ticket;                     /* of the checkpoint or import that it waits for */
        struct control_id id;                /* of the request that is or was answered last */
        const struct control_command *waits; /* for that command's end; NULL: it does not */
        bool stops;                          /* asked azpard to stop: the connection's end is the answer */
        bool ended;                          /* nothing more comes from it */
        bool ends;                           /* to be closed when its answer is out */
};

struct control {
        sd_event *event;
        const struct control_ops *ops;
        void *userdata;
        char *path;
        int fd;
        bool bound; /* the file at path is ours */
        sd_event_source *io, *resume;
        bool resting;                 /* until resume, only those who are trusted and in already are served */
        uint64_t debt_ns, debt_at_ns; /* what others cost, less what has been paid off, and as of when */
        struct control_client *clients[CONTROL_MAX_CLIENTS];
};

/* --- control.c --- */

/* Serve the connection @fd, taken over, of @peer, if there is or can be made a place for it. */
void control_admit(struct control *c, int fd, const struct ucred *peer);

/* May change something, and is not paced. */
bool control_trusts(const struct ucred *peer);

/* The processor time that azpard has used. */
uint64_t control_cpu_ns(void);

/* What was done since control_cpu_ns() gave @begin_ns was done for somebody who is not trusted. */
void control_charge(struct control *c, uint64_t begin_ns);

/* --- control_client.c --- */

/*
 * control_client_new() - serve a connection, and what it has sent already
 * @slot:       a free place of @control
 * @fd:         taken over, also on failure
 * @peer:       who is at its other end
 *
 * Return: 0, and the client may be gone again; or a negative errno.
 */
must_check_ int control_client_new(struct control *control, struct control_client **slot, int fd,
                                   const struct ucred *peer);

/* Close it and leave its place. */
void control_client_free(struct control_client *c);

/* The same because somebody else needs the place; the client is told if its socket takes it. */
void control_client_displace(struct control_client *c);

/* Does azpard owe it an answer? */
bool control_client_waits(const struct control_client *c);

/* Serve it, or leave alone what it sends. Return: 0 or a negative errno. */
must_check_ int control_client_enable(struct control_client *c, bool enable);

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

/* The answer to one that waits no more: it took too long, or the place is needed. */
cJSON *control_request_late(struct control_client *c);
cJSON *control_request_displaced(struct control_client *c);

/* For how long a client may wait for the command's end. */
uint64_t control_patience_us(const struct control_command *command);

/* An answer that says no. NULL: out of memory. */
cJSON *control_refusal(int negative_errno, const char *text);
