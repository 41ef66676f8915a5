/* SPDX-License-Identifier: MIT */
/*
 * Notify; see notify.h.  Process: azpard.
 *
 * The messages are those of sd_notify(3), but sent by ourselves: sd_notify() waits when the receiver's queue
 * is full, which without systemd's own settings is after ten messages, and azpard must not stand still
 * because somebody does not read.  The socket is not connected: systemd may make its own anew when it
 * re-executes.
 *
 * RELOADING and the READY after it go out in messages of their own, since systemd looks at each message's
 * fields in an order of its own.
 */
#include "daemon/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include "common/base/clock.h"
#include "common/base/log.h"

#define MESSAGE_MAX    (NOTIFY_STATUS_MAX + 256)
#define STEP_NS        NS_PER_S
#define FLUSH_NS       NS_PER_S
#define FLUSH_PAUSE_NS (10 * NS_PER_MS)
#define WATCHDOG_MIN_US                                                                                      \
        UINT64_C(3000000) /* below it the tick is not often enough for two signs of life per interval */

/* ---- what systemd gives ---- */

static void close_passed(int fd, const char *name, const char *why) {
        log_event(LOG_EVENT_SYSTEMD_TROUBLE, LOG_NO_FIELDS,
                  "descriptor %d, passed by systemd as '%.64s', %s: closed", fd, name, why);
        (void) close(fd);
}

static void take_passed(struct notify *n, int fd, const char *name) {
        if (strcmp(name, NOTIFY_SEGMENT) == 0 && n->n_segments < NOTIFY_SEGMENTS_MAX)
                n->segments[n->n_segments++] = fd;
        else if (strcmp(name, NOTIFY_SEGMENT) == 0)
                close_passed(fd, name, "is one too many");
        else if (strcmp(name, NOTIFY_CONTROL) != 0)
                close_passed(fd, name, "is neither '" NOTIFY_CONTROL "' nor '" NOTIFY_SEGMENT "'");
        else if (n->control_fd >= 0)
                close_passed(fd, name, "is a second one");
        else
                n->control_fd = fd;
}

static int take_descriptors(struct notify *n, struct error *e) {
        char **names = NULL;
        int n_fds = sd_listen_fds_with_names(1, &names);

        if (n_fds < 0)
                return error_errno(
                        e, n_fds,
                        "could not take up passed descriptors by LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID");
        for (int i = 0; i < n_fds; i++) {
                take_passed(n, SD_LISTEN_FDS_START + i, names[i]);
                free(names[i]);
        }
        free(names);
        return 0;
}

/* An address that cannot be used must not keep azpard from its work. */
static int take_address(struct notify *n, struct error *e) {
        const char *address = getenv("NOTIFY_SOCKET");
        size_t room = sizeof(((struct sockaddr_un *) NULL)->sun_path);

        if (!address || !*address)
                return 0;
        if ((address[0] != '/' && address[0] != '@') || !address[1] || strlen(address) >= room)
                log_event(
                        LOG_EVENT_SYSTEMD_TROUBLE, LOG_NO_FIELDS,
                        "NOTIFY_SOCKET '%.120s' is no address of a Unix socket: nobody is told how azpard is",
                        address);
        else {
                n->address = strdup(address);
                if (!n->address)
                        return error_set(e, -ENOMEM, "out of memory");
        }
        (void) unsetenv("NOTIFY_SOCKET");
        return 0;
}

int notify_init(struct notify *n, struct error *e) {
        int r, result;

        *n = NOTIFY_NULL;
        result = take_descriptors(n, e);
        r = take_address(n, result == 0 ? e : NULL);
        if (result == 0)
                result = r;
        r = sd_watchdog_enabled(1, &n->watchdog_us);
        if (r < 0)
                log_event(LOG_EVENT_SYSTEMD_TROUBLE, LOG_NO_FIELDS,
                          "WATCHDOG_USEC or WATCHDOG_PID is wrong: %s; no watchdog is fed", strerror(-r));
        if (r <= 0)
                n->watchdog_us = 0;
        return result;
}

void notify_deinit(struct notify *n) {
        fd_closep(&n->fd);
        fd_closep(&n->control_fd);
        while (n->n_segments > 0)
                fd_closep(&n->segments[--n->n_segments]);
        free(n->address);
        *n = NOTIFY_NULL;
}

int notify_take_control(struct notify *n) {
        return TAKE_FD(n->control_fd);
}

int notify_take_segment(struct notify *n) {
        return n->n_segments > 0 ? n->segments[--n->n_segments] : -1;
}

/* ---- messages ---- */

static socklen_t make_address(const char *address, struct sockaddr_un *ret) {
        size_t n = strlen(address);

        memset(ret, 0, sizeof(*ret));
        ret->sun_family = AF_UNIX;
        memcpy(ret->sun_path, address, n);
        if (address[0] != '@')
                return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n + 1);
        ret->sun_path[0] = '\0'; /* an abstract name ends without a 0 */
        return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n);
}

/* Send @text, with descriptor @fd unless it is -1. Return: 0 or a negative errno. */
static int send_message(struct notify *n, const char *text, int fd) {
        struct sockaddr_un address;
        struct iovec iov = { .iov_base = (char *) (uintptr_t) text, .iov_len = strlen(text) };
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = { 0 };
        struct msghdr m = { .msg_name = &address, .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t sent;

        if (n->fd < 0)
                n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (n->fd < 0)
                return -errno;
        m.msg_namelen = make_address(n->address, &address);
        if (fd >= 0) {
                m.msg_control = control.bytes;
                m.msg_controllen = sizeof(control.bytes);
                CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
                CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
                CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(int));
        }
        do
                sent = sendmsg(n->fd, &m, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        return sent < 0 ? -errno : 0;
}

/* The same, telling once what is wrong. */
static int tell(struct notify *n, const char *text, int fd) {
        int r = send_message(n, text, fd);

        if (r < 0 && r != n->error) {
                log_event(LOG_EVENT_SYSTEMD_TROUBLE, LOG_NO_FIELDS,
                          "could not tell systemd how azpard is: %s", strerror(-r));
                n->error = r;
        }
        return r;
}

static void tell_of_descriptors(struct notify *n) {
        if (n->forget && tell(n, "FDSTOREREMOVE=1\nFDNAME=" NOTIFY_SEGMENT, -1) == 0)
                n->forget = false;
        if (!n->forget && n->store_fd >= 0 && tell(n, "FDSTORE=1\nFDNAME=" NOTIFY_SEGMENT, n->store_fd) == 0)
                n->store_fd = -1;
}

static void pop(struct notify *n) {
        memmove(n->queue[0], n->queue[1], sizeof(n->queue) - sizeof(n->queue[0]));
        n->n_queue--;
}

/* All that is to be said; @more is worth it only now. */
static void say(struct notify *n, const char *more) {
        char text[MESSAGE_MAX] = "";
        size_t length = 0;

        if (!n->address)
                return;
        tell_of_descriptors(n);
        while (n->n_queue > 1) {
                if (tell(n, n->queue[0], -1) < 0)
                        return;
                pop(n);
        }
        if (n->n_queue > 0)
                length += (size_t) snprintf(text + length, sizeof(text) - length, "%s\n", n->queue[0]);
        if (n->status[0])
                length += (size_t) snprintf(text + length, sizeof(text) - length, "STATUS=%s\n", n->status);
        (void) snprintf(text + length, sizeof(text) - length, "%s", more);
        if (!text[0] || tell(n, text, -1) < 0)
                return;
        if (n->n_queue > 0)
                pop(n);
        n->status[0] = '\0';
}

/*
 * Somebody has not read for long.  What is in the middle is then the end of a reload and the beginning of the
 * next one: without them it is one reload.
 */
static void change_state(struct notify *n, const char *line) {
        if (n->n_queue == NOTIFY_QUEUE_MAX) {
                memmove(n->queue[1], n->queue[3], sizeof(n->queue[0]));
                n->n_queue -= 2;
        }
        (void) snprintf(n->queue[n->n_queue++], sizeof(n->queue[0]), "%s", line);
}

/* A line break in it would be the beginning of another field, and systemd refuses what is no UTF-8. */
static void set_status(struct notify *n, const char *text) {
        size_t i = 0;

        for (; text[i] && i < sizeof(n->status) - 1; i++)
                n->status[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
        n->status[i] = '\0';
}

static void ask_for_time(const struct notify *n, uint64_t patience_us, char ret[64]) {
        ret[0] = '\0';
        if (n->stage != NOTIFY_RUNNING)
                (void) snprintf(ret, 64, "EXTEND_TIMEOUT_USEC=%" PRIu64 "\n", patience_us);
}

/* ---- what azpard says ---- */

void notify_phase(struct notify *n, uint64_t patience_us, const char *text) {
        char more[64];

        set_status(n, text);
        ask_for_time(n, patience_us, more);
        say(n, more);
}

void notify_step(struct notify *n, const char *text, uint64_t n_done, uint64_t n_all) {
        uint64_t now_ns = clock_now_ns();
        char status[128];

        if (now_ns - n->stepped_ns < STEP_NS)
                return;
        n->stepped_ns = now_ns;
        (void) snprintf(status, sizeof(status), "%.100s, %.0f %%", text,
                        n_all > 0 ? 100.0 * (double) n_done / (double) n_all : 0.0);
        notify_phase(n, NOTIFY_SHORT_US, status);
}

void notify_ready(struct notify *n, const char *status) {
        n->stage = NOTIFY_RUNNING;
        change_state(n, "READY=1");
        set_status(n, status);
        say(n, "");
}

void notify_reloading(struct notify *n) {
        char line[64];

        if (n->stage != NOTIFY_RUNNING)
                return;
        (void) snprintf(line, sizeof(line), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_now_ns() / 1000);
        change_state(n, line);
        set_status(n, "reloading the configuration");
        say(n, "");
}

void notify_reloaded(struct notify *n, const char *status) {
        if (n->stage != NOTIFY_RUNNING)
                return;
        change_state(n, "READY=1");
        set_status(n, status);
        say(n, "");
}

void notify_stopping(struct notify *n, const char *status) {
        char more[64];

        n->stage = NOTIFY_STOPPING;
        change_state(n, "STOPPING=1");
        set_status(n, status);
        ask_for_time(n, NOTIFY_SHORT_US, more);
        say(n, more);
}

void notify_status(struct notify *n, const char *status) {
        set_status(n, status);
}

void notify_tick(struct notify *n, bool alive, bool progress) {
        char more[64 + sizeof("WATCHDOG=1\n")] = "";

        if (progress)
                ask_for_time(n, NOTIFY_SHORT_US, more);
        if (alive && n->watchdog_us > 0)
                (void) strcat(more, "WATCHDOG=1\n");
        say(n, more);
}

uint64_t notify_watchdog_us(const struct notify *n) {
        return n->address && n->watchdog_us < WATCHDOG_MIN_US ? n->watchdog_us / 3 : 0;
}

void notify_watchdog(struct notify *n) {
        say(n, "WATCHDOG=1\n");
}

void notify_store_segment(struct notify *n, int fd) {
        n->store_fd = fd;
        say(n, "");
}

void notify_forget_segment(struct notify *n) {
        n->store_fd = -1;
        n->forget = true;
        say(n, "");
}

void notify_flush(struct notify *n) {
        uint64_t begin_ns = clock_now_ns();

        for (say(n, ""); n->address && (n->n_queue > 0 || n->forget || n->store_fd >= 0); say(n, "")) {
                if (clock_now_ns() - begin_ns > FLUSH_NS)
                        return;
                clock_sleep_ns(FLUSH_PAUSE_NS);
        }
}
