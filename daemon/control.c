/* SPDX-License-Identifier: MIT */
/*
 * The control socket; see control.h.  Runs in azpard, on its one loop.
 *
 * No client can make azpard wait or grow.  Sockets are non-blocking, and each
 * wake-up takes one request of one client off its socket, so that somebody who
 * pipelines thousands of them gets no more of the loop than anybody else.  The
 * line is found by peeking, what follows it stays in the kernel: azpard holds at
 * most one request and one answer per client.  A client whose answer has not left
 * is not read from; one that neither sends a whole request nor reads its answer
 * for 30 s is dropped.  A client that waits for a checkpoint, an import, or for azpard's end
 * after "stop", is one to which azpard owes something: it may wait longer.
 *
 * What a client may do is decided by SO_PEERCRED, which the kernel fills in at
 * connect(): the socket's mode says who may look, the user id who may change.
 */
#include "daemon/control.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include "common/base/log.h"
#include "common/base/unix_address.h"
#include "common/base/version.h"
#include "daemon/refill.h"

#define CHECKPOINT_S 600               /* how long a client waits for a checkpoint */
#define IMPORT_S     86400             /* ... and for an import: files of many gigabytes may come */
#define ACCEPT_US    UINT64_C(1000000) /* pause when the process is out of descriptors */
#define E_LATER      1                 /* of a command: it is answered later */

struct client {
        struct control *control;
        sd_event_source *io, *timer;
        int fd;
        struct ucred peer;
        char in[CONTROL_REQUEST_MAX]; /* an incomplete request */
        size_t n_in;
        char *out; /* an answer that did not leave at once, from n_sent on; NULL: none */
        size_t n_out, n_sent;
        int passed_fd;               /* came with the request; -1: none */
        uint64_t ticket;             /* of the checkpoint or import that it waits for */
        const struct command *waits; /* for that command's end; NULL: it does not */
        bool stops;                  /* asked azpard to stop: the connection's end is the answer */
        bool ends;                   /* to be closed when its answer is out */
};

struct control {
        sd_event *event;
        const struct control_ops *ops;
        void *userdata;
        char *path;
        int fd;
        bool bound; /* the file at path is ours */
        sd_event_source *io, *retry;
        struct client *clients[CONTROL_MAX_CLIENTS];
};

struct request {
        const struct command *command;
        bool has_count;
        unsigned count;
};

/* A command gives 0 with or without an answer of its own, E_LATER, or a negative errno with a text. */
struct command {
        const char *name;
        bool changes; /* only for root and azpard's own user */
        bool counts;  /* takes "count" */
        bool takes_fd;
        int (*run)(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e);
        /* of one that answers later: is it done?  Returns as run(). */
        int (*poll)(struct client *c, cJSON **ret_answer, struct error *e);
        uint64_t patience_s;
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

static void client_free(struct client *c) {
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

/* --- answers --- */

/* {"ok":true}, or NULL when there is no memory. */
static cJSON *answer_ok(void) {
        cJSON *answer = cJSON_CreateObject();

        if (answer && !cJSON_AddTrueToObject(answer, "ok")) {
                cJSON_Delete(answer);
                return NULL;
        }
        return answer;
}

static cJSON *answer_error(int negative_errno, const char *text) {
        cleanup_(cJSON_Deletep) cJSON *answer = cJSON_CreateObject();
        const char *code = strerrorname_np(-negative_errno);

        if (!answer || !cJSON_AddFalseToObject(answer, "ok") ||
            !cJSON_AddStringToObject(answer, "error", text) ||
            !cJSON_AddStringToObject(answer, "code", code ? code : "EINVAL"))
                return NULL;
        return TAKE_PTR(answer);
}

/* What the client may do next decides what its socket is watched for. Return: 0 or a negative errno. */
static int client_watch(struct client *c) {
        uint32_t events = c->out ? EPOLLOUT : c->waits ? 0 : EPOLLIN;
        uint64_t patience = c->waits ? c->waits->patience_s * 1000000 : CONTROL_IDLE_US;
        int r = sd_event_source_set_io_events(c->io, events);

        if (r < 0)
                return r;
        if (c->stops && !c->out)
                return sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        r = sd_event_source_set_time_relative(c->timer, patience);
        return r < 0 ? r : sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

/* Return: 0 (something may be left); negative errno: the client is to be dropped. */
static int client_flush(struct client *c) {
        while (c->n_sent < c->n_out) {
                ssize_t n =
                        send(c->fd, c->out + c->n_sent, c->n_out - c->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                c->n_sent += (size_t) n;
        }
        free(c->out);
        c->out = NULL;
        c->n_out = c->n_sent = 0;
        return c->ends ? -ECONNABORTED : 0;
}

/* Takes @answer, which may be NULL: no memory. Return: 0; negative errno: the client is to be dropped. */
static int client_answer(struct client *c, cJSON *answer) {
        cleanup_(cJSON_Deletep) cJSON *owned = answer;
        cleanup_(freep) char *text = owned ? cJSON_PrintUnformatted(owned) : NULL;
        size_t n = text ? strlen(text) : 0;
        char *line;

        assert(!c->out); /* who has an answer pending is not read from */
        if (!text || n + 1 > CONTROL_OUTPUT_MAX)
                return -ENOMEM;
        line = realloc(text, n + 2);
        if (!line)
                return -ENOMEM;
        line[n] = '\n';
        text = NULL;
        c->out = line;
        c->n_out = n + 1;
        return client_flush(c);
}

/* --- commands --- */

static int run_status(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        (void) r;
        *ret_answer = c->control->ops->status(c->control->userdata);
        return *ret_answer ? 0 : error_set(e, -ENOMEM, "out of memory");
}

static int run_version(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = answer_ok();

        (void) c;
        (void) r;
        if (!answer || !cJSON_AddNumberToObject(answer, "protocol", CONTROL_PROTOCOL) ||
            !cJSON_AddStringToObject(answer, "version", AZPAR_VERSION))
                return error_set(e, -ENOMEM, "out of memory");
        *ret_answer = TAKE_PTR(answer);
        return 0;
}

static int run_workers(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        (void) ret_answer;
        if (!r->has_count)
                return error_set(e, -EINVAL, "command 'workers' needs \"count\"");
        return c->control->ops->set_workers(c->control->userdata, r->count, e);
}

static int run_pause(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        (void) r;
        (void) ret_answer;
        return c->control->ops->set_paused(c->control->userdata, true, e);
}

static int run_resume(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        (void) r;
        (void) ret_answer;
        return c->control->ops->set_paused(c->control->userdata, false, e);
}

static int run_stop(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        int s = c->control->ops->stop(c->control->userdata, e);

        (void) r;
        (void) ret_answer;
        c->stops = s == 0;
        return s;
}

/* 0 with an answer, E_LATER while it is being written, or a negative errno with a text. */
static int poll_checkpoint(struct client *c, cJSON **ret_answer, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        uint64_t step = 0;
        int r = c->control->ops->checkpoint_done(c->control->userdata, c->ticket, &step);

        if (r == 0)
                return E_LATER;
        if (r < 0)
                return error_errno(e, r, "the checkpoint was not written");
        answer = answer_ok();
        if (!answer || !cJSON_AddNumberToObject(answer, "step", (double) step))
                return error_set(e, -ENOMEM, "out of memory");
        *ret_answer = TAKE_PTR(answer);
        return 0;
}

static int run_checkpoint(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        int s = c->control->ops->checkpoint(c->control->userdata, &c->ticket, e);

        (void) r;
        return s < 0 ? s : poll_checkpoint(c, ret_answer, e);
}

/* As poll_checkpoint(). */
static int poll_import(struct client *c, cJSON **ret_answer, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        struct refill_import done = { 0 };
        int r = c->control->ops->import_done(c->control->userdata, c->ticket, &done, e);

        if (r <= 0)
                return r < 0 ? r : E_LATER;
        answer = answer_ok();
        if (!answer || !cJSON_AddNumberToObject(answer, "samples", (double) done.samples) ||
            !cJSON_AddNumberToObject(answer, "duplicates", (double) done.duplicates) ||
            !cJSON_AddNumberToObject(answer, "rounded", (double) done.rounded))
                return error_set(e, -ENOMEM, "out of memory");
        *ret_answer = TAKE_PTR(answer);
        return 0;
}

static int run_import(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        int s;

        (void) r;
        if (c->passed_fd < 0)
                return error_set(e, -EINVAL, "command 'import' needs the file's descriptor with it");
        s = c->control->ops->import(c->control->userdata, TAKE_FD(c->passed_fd), &c->ticket, e);
        return s < 0 ? s : poll_import(c, ret_answer, e);
}

/* clang-format off */
static const struct command commands[] = {
        /* name, changes, counts, takes_fd, run, poll, patience_s */
        { "status",     false, false, false, run_status,     NULL,            0            },
        { "version",    false, false, false, run_version,    NULL,            0            },
        { "workers",    true,  true,  false, run_workers,    NULL,            0            },
        { "pause",      true,  false, false, run_pause,      NULL,            0            },
        { "resume",     true,  false, false, run_resume,     NULL,            0            },
        { "checkpoint", true,  false, false, run_checkpoint, poll_checkpoint, CHECKPOINT_S },
        { "import",     true,  false, true,  run_import,     poll_import,     IMPORT_S     },
        { "stop",       true,  false, false, run_stop,       NULL,            0            },
};
/* clang-format on */

/* --- requests --- */

/* @text as it can stand in a message: at most 40 bytes, printable ASCII. */
static const char *printable(char ret[static 44], const char *text) {
        size_t n = 0;

        for (; text[n] && n < 40; n++)
                ret[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
        (void) snprintf(ret + n, 4, "%s", text[n] ? "..." : "");
        return ret;
}

static int parse_command(const cJSON *item, struct request *ret, struct error *e) {
        char shown[44];

        if (ret->command)
                return error_set(e, -EINVAL, "key 'command' stands twice in the request");
        if (!cJSON_IsString(item))
                return error_set(e, -EINVAL, "key 'command' must be a string");
        for (size_t i = 0; i < N_ELEMENTS(commands); i++)
                if (strcmp(commands[i].name, item->valuestring) == 0)
                        ret->command = &commands[i];
        return ret->command
                       ? 0
                       : error_set(e, -EINVAL, "unknown command '%s'", printable(shown, item->valuestring));
}

static int parse_count(const cJSON *item, struct request *ret, struct error *e) {
        double count = item->valuedouble;

        if (ret->has_count)
                return error_set(e, -EINVAL, "key 'count' stands twice in the request");
        if (!cJSON_IsNumber(item) || !(count >= 0 && count <= INT32_MAX) ||
            count != (double) (unsigned) count)
                return error_set(e, -EINVAL, "key 'count' must be a whole number from 0 on");
        ret->has_count = true;
        ret->count = (unsigned) count;
        return 0;
}

/* @line: the request without its newline, @n bytes and a NUL. */
static int parse_request(const char *line, size_t n, struct request *ret, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *root = NULL;
        const cJSON *item;
        char shown[44];
        int r;

        if (memchr(line, 0, n))
                return error_set(e, -EINVAL, "the request holds a NUL byte");
        /* cJSON would take "stop\u0000x" for "stop"; a backslash in front makes it no more of a command */
        if (strstr(line, "\\u0000"))
                return error_set(e, -EINVAL, "the request holds \\u0000");
        root = cJSON_ParseWithOpts(line, NULL, true);
        if (!cJSON_IsObject(root))
                return error_set(e, -EINVAL, "the request is not a JSON object");
        cJSON_ArrayForEach(item, root) {
                if (strcmp(item->string, "command") == 0)
                        r = parse_command(item, ret, e);
                else if (strcmp(item->string, "count") == 0)
                        r = parse_count(item, ret, e);
                else
                        r = error_set(e, -EINVAL, "unknown key '%s' in the request",
                                      printable(shown, item->string));
                if (r < 0)
                        return r;
        }
        if (!ret->command)
                return error_set(e, -EINVAL, "the request lacks the key 'command'");
        if (ret->has_count && !ret->command->counts)
                return error_set(e, -EINVAL, "command '%s' takes no 'count'", ret->command->name);
        return 0;
}

static int run_request(struct client *c, const struct request *r, cJSON **ret_answer, struct error *e) {
        if (!r->command->changes)
                return r->command->run(c, r, ret_answer, e);
        if (c->peer.uid != 0 && c->peer.uid != geteuid())
                return error_set(e, -EPERM,
                                 "'%s' is for root and user id %u; you are user id %u, which may only look",
                                 r->command->name, (unsigned) geteuid(), (unsigned) c->peer.uid);
        /* an import asks for every file of thousands */
        log_line(r->command->takes_fd ? LOG_LEVEL_DEBUG : LOG_LEVEL_NOTICE,
                 "'%s' asked for by user id %u, pid %d", r->command->name, (unsigned) c->peer.uid,
                 (int) c->peer.pid);
        return r->command->run(c, r, ret_answer, e);
}

/* Parse, run, answer. Return: 0; negative errno: the client is to be dropped. */
static int client_request(struct client *c, const char *line, size_t n) {
        struct request request = { .command = NULL };
        struct error e = ERROR_INIT;
        cJSON *answer = NULL;
        int r;

        r = parse_request(line, n, &request, &e);
        if (r == 0 && c->passed_fd >= 0 && !request.command->takes_fd)
                r = error_set(&e, -EINVAL, "command '%s' takes no file descriptor", request.command->name);
        if (r == 0)
                r = run_request(c, &request, &answer, &e);
        fd_closep(&c->passed_fd); /* what was not taken */
        c->passed_fd = -1;
        if (r == E_LATER) {
                c->waits = request.command;
                return 0;
        }
        if (r < 0)
                answer = answer_error(r, e.text);
        else if (!answer)
                answer = answer_ok();
        return client_answer(c, answer);
}

/* recv() that also takes a descriptor, the last one that comes. Return: as recv(), or a negative errno. */
static ssize_t receive_with_fd(struct client *c, char *to, size_t n) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec part = { .iov_base = to, .iov_len = n };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = CMSG_LEN(sizeof(int)), /* the kernel closes those that do not fit */
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
 * Take what is there up to the end of one request off the socket, and no more.
 * Return: 0; negative errno: the client is to be dropped.
 */
static int client_receive(struct client *c) {
        char *at = c->in + c->n_in, *newline;
        ssize_t n = recv(c->fd, at, sizeof(c->in) - c->n_in, MSG_PEEK | MSG_DONTWAIT);
        size_t n_line;

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                return -ECONNRESET;
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
        return client_answer(c, answer_error(-EMSGSIZE, "the request is longer than 4096 bytes"));
}
static_assert(CONTROL_REQUEST_MAX == 4096, "the message above says so");

static int on_client_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct client *c = userdata;
        size_t n_in = c->n_in;
        int r;

        (void) s;
        (void) fd;
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
                client_free(c);
        return 0;
}

static int on_client_timer(sd_event_source *s, uint64_t us, void *userdata) {
        struct client *c = userdata;
        int r = -ETIMEDOUT;

        (void) s;
        (void) us;
        if (c->waits) {
                char text[128];

                (void) snprintf(text, sizeof(text), "'%s' was not done within %ju s", c->waits->name,
                                (uintmax_t) c->waits->patience_s);
                c->waits = NULL;
                r = client_answer(c, answer_error(-ETIMEDOUT, text));
        }
        if (r == 0)
                r = client_watch(c);
        if (r < 0)
                client_free(c);
        return 0;
}

void control_poll(struct control *c) {
        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++) {
                struct client *client = c->clients[i];
                struct error e = ERROR_INIT;
                cJSON *answer = NULL;
                int r;

                if (!client || !client->waits)
                        continue;
                r = client->waits->poll(client, &answer, &e);
                if (r == E_LATER)
                        continue;
                client->waits = NULL;
                r = client_answer(client, r < 0 ? answer_error(r, e.text) : answer);
                if (r == 0)
                        r = client_watch(client);
                if (r < 0)
                        client_free(client);
        }
}

/* --- connections --- */

/* Takes @fd, also on failure. */
static int client_new(struct control *control, struct client **slot, int fd) {
        struct client *c = calloc(1, sizeof(*c));
        socklen_t n = sizeof(c->peer);
        int r;

        if (!c) {
                (void) close(fd);
                return -ENOMEM;
        }
        c->control = control;
        c->fd = fd;
        c->passed_fd = -1;
        r = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &n) < 0 ? -errno : 0;
        if (r == 0)
                r = sd_event_add_io(control->event, &c->io, fd, EPOLLIN, on_client_io, c);
        if (r >= 0)
                r = sd_event_source_set_priority(c->io, CONTROL_PRIORITY);
        if (r >= 0)
                r = sd_event_add_time_relative(control->event, &c->timer, CLOCK_MONOTONIC, CONTROL_IDLE_US, 0,
                                               on_client_timer, c);
        if (r < 0)
                client_free(c);
        else
                *slot = c;
        return r < 0 ? r : 0;
}

static int on_retry(sd_event_source *s, uint64_t us, void *userdata) {
        struct control *c = userdata;

        (void) s;
        (void) us;
        return sd_event_source_set_enabled(c->io, SD_EVENT_ON);
}

/* Out of descriptors or memory: the connection stays in the queue and would wake the loop without end. */
static int rest_from_accepting(struct control *c, int negative_errno) {
        int r;

        log_warning("could not accept a control connection: %s", strerror(-negative_errno));
        r = sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_time_relative(c->retry, ACCEPT_US);
        return r < 0 ? r : sd_event_source_set_enabled(c->retry, SD_EVENT_ONESHOT);
}

static int on_connection(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        static const char full[] = "{\"ok\":false,\"error\":\"16 clients are connected, and that is the "
                                   "limit\",\"code\":\"EBUSY\"}\n";
        struct control *c = userdata;
        int client_fd, r;

        (void) s;
        (void) revents;
        client_fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client_fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
                return rest_from_accepting(c, -errno);
        if (client_fd < 0)
                return 0; /* it has gone again */
        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++) {
                if (c->clients[i])
                        continue;
                r = client_new(c, &c->clients[i], client_fd);
                if (r < 0)
                        log_warning("could not serve a control connection: %s", strerror(-r));
                return 0;
        }
        (void) send(client_fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void) close(client_fd);
        return 0;
}
static_assert(CONTROL_MAX_CLIENTS == 16, "the message above says so");

/* Remove a socket file that a killed azpard left behind. */
static int remove_stale(const char *path, const struct unix_address *a, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0 : error_errno(e, -errno, "could not look at '%s'", path);
        if (!S_ISSOCK(st.st_mode))
                return error_set(e, -EEXIST,
                                 "'%s' is in the way of the control socket and is no socket; move it away",
                                 path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return error_errno(e, -errno, "could not make a socket");
        if (connect(fd, (const struct sockaddr *) &a->sun, a->n_bytes) == 0 || errno == EAGAIN)
                return error_set(e, -EADDRINUSE, "somebody answers on control socket '%s' already", path);
        if (errno != ECONNREFUSED)
                return error_errno(e, -errno, "could not try control socket '%s'", path);
        if (unlink(path) < 0)
                return error_errno(e, -errno, "could not remove stale control socket '%s'", path);
        return 0;
}

static int listen_at(struct control *c, struct error *e) {
        cleanup_(unix_address_deinit) struct unix_address a = UNIX_ADDRESS_NULL;
        mode_t mask;
        int r;

        r = unix_address_init(&a, c->path, e);
        if (r == 0)
                r = remove_stale(c->path, &a, e);
        if (r < 0)
                return r;
        c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (c->fd < 0)
                return error_errno(e, -errno, "could not make a socket");
        mask = umask(0117); /* the file is born with mode 0660 */
        r = bind(c->fd, (const struct sockaddr *) &a.sun, a.n_bytes) < 0 ? -errno : 0;
        (void) umask(mask);
        if (r < 0)
                return error_errno(e, r, "could not bind control socket '%s'", c->path);
        c->bound = true;
        if (listen(c->fd, 2 * CONTROL_MAX_CLIENTS) < 0)
                return error_errno(e, -errno, "could not listen on control socket '%s'", c->path);
        return 0;
}

static int serve(struct control *c, struct error *e) {
        int r = sd_event_add_io(c->event, &c->io, c->fd, EPOLLIN, on_connection, c);

        if (r >= 0)
                r = sd_event_source_set_priority(c->io, CONTROL_PRIORITY);
        if (r >= 0)
                r = sd_event_add_time_relative(c->event, &c->retry, CLOCK_MONOTONIC, ACCEPT_US, 0, on_retry,
                                               c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->retry, SD_EVENT_OFF);
        return r < 0 ? error_errno(e, r, "could not serve control socket '%s'", c->path) : 0;
}

int control_new(struct sd_event *event, const char *socket_path, const struct control_ops *ops,
                void *userdata, struct control **ret, struct error *e) {
        cleanup_(control_freep) struct control *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return error_set(e, -ENOMEM, "out of memory");
        c->fd = -1;
        c->event = sd_event_ref(event);
        c->ops = ops;
        c->userdata = userdata;
        c->path = strdup(socket_path);
        if (!c->path)
                return error_set(e, -ENOMEM, "out of memory");
        r = listen_at(c, e);
        if (r == 0)
                r = serve(c, e);
        if (r == 0)
                *ret = TAKE_PTR(c);
        return r;
}

void control_free(struct control *c) {
        if (!c)
                return;
        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++)
                if (c->clients[i])
                        client_free(c->clients[i]);
        (void) sd_event_source_disable_unref(c->io);
        (void) sd_event_source_disable_unref(c->retry);
        fd_closep(&c->fd);
        if (c->bound)
                (void) unlink(c->path);
        (void) sd_event_unref(c->event);
        free(c->path);
        free(c);
}
