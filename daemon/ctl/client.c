/* SPDX-License-Identifier: MIT */
/*
 * azparctl's side of the control socket; see client.h.
 *
 * What comes back is foreign: its length is limited, it must be an object with
 * "ok", and texts lose their control characters before they reach a terminal.
 */
#include "daemon/ctl/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/time.h>
#include "common/base/clock.h"
#include "common/base/unix_address.h"
#include "daemon/control.h"

static int no_azpard(struct error *e, int negative_errno, const char *path) {
        if (negative_errno == -EACCES)
                return error_errno(e, negative_errno,
                                   "could not open '%s': it is for azpard's user and group", path);
        return error_set(e, negative_errno, "no azpard answers on '%s': %s; is it running?", path,
                         strerror(-negative_errno));
}

int client_open(const char *path, int *ret_fd, struct error *e) {
        const struct timeval patience = { .tv_sec = CLIENT_TIMEOUT_MS / 1000 };
        cleanup_(unix_address_deinit) struct unix_address a = UNIX_ADDRESS_NULL;
        cleanup_(fd_closep) int fd = -1;
        int r;

        r = unix_address_init(&a, path, e);
        if (r == -ENOENT || r == -ENOTDIR)
                return no_azpard(e, r, path);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return error_errno(e, -errno, "could not make a socket");
        /* Should azpard hang, its queue of connections fills, and connect() would wait for ever. */
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        if (connect(fd, (const struct sockaddr *) &a.sun, a.n_bytes) < 0)
                return no_azpard(e, errno == EAGAIN ? -ETIMEDOUT : -errno, path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

void client_make_printable(char *text) {
        for (; *text; text++)
                if (*text < ' ' || *text > '~')
                        *text = '?';
}

/*
 * The line and its end at once, so that azpard wakes for it once.  A refusal to read (azpard is full) comes
 * with an answer that explains it: a failed send is no end yet.
 */
static void send_request(int fd, const char *request) {
        size_t n = strlen(request), at = 0;

        while (at <= n) {
                struct iovec parts[] = {
                        { .iov_base = (char *) (uintptr_t) request + at, .iov_len = n - at },
                        { .iov_base = (char[]){ '\n' }, .iov_len = 1 },
                };
                struct msghdr message = { .msg_iov = parts, .msg_iovlen = N_ELEMENTS(parts) };
                ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);

                if (sent < 0 && errno == EINTR)
                        continue;
                if (sent < 0)
                        return;
                at += (size_t) sent;
        }
}

/* Wait until there is something to read. Return: 0 or a negative errno; -ETIMEDOUT after @deadline_ns (0:
 * none). */
static int wait_readable(int fd, uint64_t deadline_ns) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        for (;;) {
                uint64_t now = clock_now_ns();
                int n;

                if (deadline_ns && now >= deadline_ns)
                        return -ETIMEDOUT;
                n = poll(&p, 1, deadline_ns ? (int) ((deadline_ns - now) / NS_PER_MS) + 1 : -1);
                if (n > 0)
                        return 0;
                if (n < 0 && errno != EINTR)
                        return -errno;
        }
}

/* Return: bytes received, at least 1; negative errno. */
static ssize_t receive_some(int fd, char *to, size_t room, uint64_t deadline_ns) {
        for (;;) {
                int r = wait_readable(fd, deadline_ns);
                ssize_t n;

                if (r < 0)
                        return r;
                n = recv(fd, to, room, MSG_DONTWAIT);
                if (n >= 0)
                        return n > 0 ? n : -ECONNRESET;
                if (errno != EAGAIN && errno != EINTR)
                        return -errno;
        }
}

/* Return: 0 with a line; negative errno with a text. */
static int receive_line(int fd, int timeout_ms, char **ret, struct error *e) {
        uint64_t deadline = timeout_ms < 0 ? 0 : clock_now_ns() + (uint64_t) timeout_ms * NS_PER_MS;
        cleanup_(freep) char *line = malloc(CONTROL_OUTPUT_MAX);
        size_t n = 0;

        if (!line)
                return error_set(e, -ENOMEM, "out of memory");
        while (n < CONTROL_OUTPUT_MAX) {
                ssize_t got = receive_some(fd, line + n, CONTROL_OUTPUT_MAX - n, deadline);
                char *newline;

                if (got == -ETIMEDOUT)
                        return error_set(e, -ETIMEDOUT, "azpard did not answer within %d s",
                                         timeout_ms / 1000);
                if (got < 0)
                        return error_set(e, (int) got, "azpard closed the connection without an answer");
                newline = memchr(line + n, '\n', (size_t) got);
                n += (size_t) got;
                if (newline) {
                        *newline = 0;
                        *ret = TAKE_PTR(line);
                        return 0;
                }
        }
        return error_set(e, -EMSGSIZE, "azpard's answer is longer than %u bytes", CONTROL_OUTPUT_MAX);
}

/* An answer that says no: azpard's text is the error. */
static int refused(const cJSON *answer, struct error *e) {
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(answer, "error");
        int r;

        if (!cJSON_IsString(text))
                return error_set(e, -EREMOTEIO, "azpard refused without a reason");
        r = error_set(e, -EREMOTEIO, "%s", text->valuestring);
        if (e)
                client_make_printable(e->text);
        return r;
}

int client_ask(int fd, const char *request, int timeout_ms, char **ret_line, cJSON **ret_answer,
               struct error *e) {
        send_request(fd, request);
        return client_answer(fd, timeout_ms, ret_line, ret_answer, e);
}

int client_send_file(int fd, const char *request, int file_fd, struct error *e) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = { 0 };
        struct iovec part = { .iov_base = (char *) (uintptr_t) request, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        struct cmsghdr *h = CMSG_FIRSTHDR(&message);
        ssize_t n;

        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), &file_fd, sizeof(int));
        do /* the file goes with the first byte */
                n = sendmsg(fd, &message, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return error_errno(e, -errno, "could not hand the file to azpard");
        send_request(fd, request + 1);
        return 0;
}

int client_wait(int fd, int timeout_ms, struct error *e) {
        int r = wait_readable(fd, clock_now_ns() + (uint64_t) timeout_ms * NS_PER_MS);

        if (r == -ETIMEDOUT)
                return 0;
        return r < 0 ? error_errno(e, r, "could not wait for azpard") : 1;
}

int client_answer(int fd, int timeout_ms, char **ret_line, cJSON **ret_answer, struct error *e) {
        cleanup_(freep) char *line = NULL;
        cJSON *answer;
        int r;

        r = receive_line(fd, timeout_ms, &line, e);
        if (r < 0)
                return r;
        answer = cJSON_ParseWithOpts(line, NULL, true);
        if (cJSON_IsObject(answer) && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok"))) {
                *ret_line = TAKE_PTR(line);
                *ret_answer = answer;
                return 0;
        }
        if (cJSON_IsObject(answer))
                r = refused(answer, e);
        else
                r = error_set(e, -EBADMSG, "what azpard answered is no JSON object");
        cJSON_Delete(answer);
        return r;
}

int client_wait_end(int fd, struct error *e) {
        for (;;) {
                char rest[256];
                ssize_t n = recv(fd, rest, sizeof(rest), 0);

                if (n == 0 || (n < 0 && errno == ECONNRESET))
                        return 0;
                if (n < 0 && errno != EINTR)
                        return error_errno(e, -errno, "could not wait for azpard's end");
        }
}
