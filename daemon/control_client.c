/* SPDX-License-Identifier: MIT */
/*
 * One connection of the control socket: bytes, time, answers.  Process: azpard, on its one loop.
 *
 * No client can make azpard wait or grow.  Sockets are non-blocking, and each
 * wake-up takes one request of one client off its socket, so that somebody who
 * pipelines thousands of them gets no more of the loop than anybody else.  The
 * line is found by peeking, what follows it stays in the kernel: azpard holds at
 * most one request and one answer per client.  A client whose answer has not left
 * is not read from; one that neither sends a whole request nor reads its answer
 * for 30 s is dropped.  A client that waits for a checkpoint, an import, or for azpard's end
 * after "stop", is one to which azpard owes something: it may wait longer.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include "common/base/clock.h"
#include "daemon/control_inside.h"

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

void control_client_free(struct control_client *c) {
        struct control *control = c->control;

        for (size_t i = 0; i < N_ELEMENTS(control->clients); i++)
                if (control->clients[i] == c)
                        control->clients[i] = NULL;
        (void) sd_event_source_disable_unref(c->io);
        (void) sd_event_source_disable_unref(c->timer);
        fd_closep(&c->fd);
        fd_closep(&c->passed_fd);
        free(c->out);
        free(c);
}

/* What the client may do next decides what its socket is watched for. Return: 0 or a negative errno. */
static int client_watch(struct control_client *c) {
        bool deaf = c->waits || (c->stops && c->ended); /* only the end of the connection is of interest */
        uint32_t events = c->out ? EPOLLOUT : deaf ? 0 : EPOLLIN;
        uint64_t patience = c->waits ? control_patience_us(c->waits) : CONTROL_IDLE_US;
        int r = sd_event_source_set_io_events(c->io, events);

        if (r < 0)
                return r;
        if (c->stops && !c->out)
                return sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        r = sd_event_source_set_time_relative(c->timer, patience);
        return r < 0 ? r : sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Return: 0 (something may be left); negative errno: the client is to be dropped. */
static int client_flush(struct control_client *c) {
        while (c->n_sent < c->n_out) {
                ssize_t n =
                        send(c->fd, c->out + c->n_sent, c->n_out - c->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                c->n_sent += (size_t) n;
                c->active_ns = clock_now_ns();
        }
        free(c->out);
        c->out = NULL;
        c->n_out = c->n_sent = 0;
        return c->ends ? -ECONNABORTED : 0;
}

/* Answers are ASCII, whatever stands in a path: not all paths are UTF-8, but all JSON is. */
static void make_ascii(char *text) {
        for (; *text; text++)
                if (*text < ' ' || *text > '~')
                        *text = '?';
}

/* Takes @answer, which may be NULL: no memory. Return: 0; negative errno: the client is to be dropped. */
static int client_answer(struct control_client *c, cJSON *answer) {
        cleanup_(cJSON_Deletep) cJSON *owned = answer;
        cleanup_(freep) char *text = owned ? cJSON_PrintUnformatted(owned) : NULL;
        size_t n = text ? strlen(text) : 0;
        char *line;

        assert(!c->out); /* who has an answer pending is not read from */
        if (!text || n + 1 > CONTROL_OUTPUT_MAX)
                return -ENOMEM;
        make_ascii(text);
        line = realloc(text, n + 2);
        if (!line)
                return -ENOMEM;
        line[n] = '\n';
        text = NULL;
        c->out = line;
        c->n_out = n + 1;
        return client_flush(c);
}

/* Run, answer. Return: 0; negative errno: the client is to be dropped. */
static int client_request(struct control_client *c, const char *line, size_t n) {
        cJSON *answer = NULL;
        int r = control_request(c, line, n, &answer);

        c->active_ns = clock_now_ns();
        fd_closep(&c->passed_fd); /* what was not taken */
        c->passed_fd = -1;
        return r == CONTROL_E_LATER ? 0 : client_answer(c, answer);
}

/*
 * recv() that also takes a descriptor, the last one that comes. Strangers' never get here: to close one can
 * take as long as whoever made it likes (FUSE). Return: as recv(), or a negative errno.
 */
static ssize_t receive_with_fd(struct control_client *c, char *to, size_t n) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec part = { .iov_base = to, .iov_len = n };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = c->trusted ? control.bytes : NULL,
                .msg_controllen =
                        c->trusted ? CMSG_LEN(sizeof(int)) : 0, /* the kernel drops what does not fit */
        };
        ssize_t got = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (got < 0)
                return -errno;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
                if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS ||
                    h->cmsg_len != CMSG_LEN(sizeof(int)))
                        continue;
                fd_closep(&c->passed_fd);
                memcpy(&c->passed_fd, CMSG_DATA(h), sizeof(int));
        }
        return got;
}

/*
 * Nothing more comes, but answers may still be read: `echo -n REQUEST | socat - UNIX:...`. What stands
 * without a newline is the last request. A request that was cut off is not taken for a whole one: no object
 * ends in the middle. Return: 0; negative errno: the client is to be dropped.
 */
static int client_end(struct control_client *c) {
        size_t n = c->n_in;

        if (n == 0 && !c->stops)
                return -ECONNRESET;
        c->ended = true;
        c->n_in = 0;
        if (n == 0)
                return 0;
        c->in[n] = 0; /* a full buffer is no request any more */
        return client_request(c, c->in, n);
}

/*
 * Take what is there up to the end of one request off the socket, and no more.
 * Return: 0; negative errno: the client is to be dropped.
 */
static int client_receive(struct control_client *c) {
        char *at = c->in + c->n_in, *newline;
        ssize_t n = recv(c->fd, at, sizeof(c->in) - c->n_in, MSG_PEEK | MSG_DONTWAIT);
        size_t n_line;

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                return client_end(c);
        newline = memchr(at, '\n', (size_t) n);
        if (newline)
                n = newline - at + 1;
        n = receive_with_fd(c, at, (size_t) n);
        if (n <= 0)
                return n < 0 ? (int) n : -ECONNRESET;
        c->n_in += (size_t) n;
        if (newline && newline < at + n) { /* a descriptor may cut what is read at once */
                n_line = c->n_in - 1;
                c->in[n_line] = 0;
                c->n_in = 0;
                return client_request(c, c->in, n_line);
        }
        if (c->n_in < sizeof(c->in))
                return 0;
        c->ends = true;
        return client_answer(c, control_refusal(-EMSGSIZE, "the request is longer than 4096 bytes"));
}
static_assert(CONTROL_REQUEST_MAX == 4096, "the message above says so");

/* The socket is ready for @revents. The client may be gone after that. */
static void client_serve(struct control_client *c, uint32_t revents) {
        size_t n_in = c->n_in;
        int r;

        if (revents & EPOLLOUT)
                r = client_flush(c);
        else if (revents & EPOLLIN)
                r = client_receive(c);
        else
                r = -ECONNRESET; /* hung up */
        /* A piece of a request does not buy more time. */
        if (r == 0 && (c->n_in == 0 || c->out || n_in == 0))
                r = client_watch(c);
        if (r < 0)
                control_client_free(c);
}

static int on_client_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct control_client *c = userdata;
        struct control *control = c->control;
        bool trusted = c->trusted;
        uint64_t begin_ns = trusted ? 0 : control_cpu_ns();

        (void) s;
        (void) fd;
        client_serve(c, revents);
        if (!trusted)
                control_charge(control, begin_ns);
        return 0;
}

static int on_client_timer(sd_event_source *s, uint64_t us, void *userdata) {
        struct control_client *c = userdata;
        int r = -ETIMEDOUT;

        (void) s;
        (void) us;
        if (c->waits)
                r = client_answer(c, control_request_late(c));
        if (r == 0)
                r = client_watch(c);
        if (r < 0)
                control_client_free(c);
        return 0;
}

void control_client_poll(struct control_client *c) {
        cJSON *answer = NULL;
        int r;

        if (!c->waits || control_request_poll(c, &answer) == CONTROL_E_LATER)
                return;
        r = client_answer(c, answer);
        if (r == 0)
                r = client_watch(c);
        if (r < 0)
                control_client_free(c);
}

bool control_client_waits(const struct control_client *c) {
        return c->waits || c->stops;
}

int control_client_enable(struct control_client *c, bool enable) {
        return sd_event_source_set_enabled(c->io, enable ? SD_EVENT_ON : SD_EVENT_OFF);
}

void control_client_displace(struct control_client *c) {
        if (!c->out) /* a line in the middle of another one would be of no use */
                (void) !client_answer(c, control_request_displaced(c));
        control_client_free(c);
}

int control_client_new(struct control *control, struct control_client **slot, int fd,
                       const struct ucred *peer) {
        struct control_client *c = calloc(1, sizeof(*c));
        int r;

        if (!c) {
                (void) close(fd);
                return -ENOMEM;
        }
        c->control = control;
        c->fd = fd;
        c->passed_fd = -1;
        c->peer = *peer;
        c->trusted = control_trusts(peer);
        c->active_ns = clock_now_ns();
        r = sd_event_add_io(control->event, &c->io, fd, EPOLLIN, on_client_io, c);
        if (r >= 0)
                r = sd_event_source_set_priority(c->io, CONTROL_PRIORITY);
        if (r >= 0)
                r = sd_event_add_time_relative(control->event, &c->timer, CLOCK_MONOTONIC, CONTROL_IDLE_US, 0,
                                               on_client_timer, c);
        if (r < 0) {
                control_client_free(c);
                return r;
        }
        *slot = c;
        /* Who connects also asks, mostly at once: that spares a turn of the loop, in which lanes may be
         * drained. */
        client_serve(c, EPOLLIN);
        return 0;
}
