/* SPDX-License-Identifier: MIT */
/*
 * The control socket; see control.h.  Runs in azpard, on its one loop.
 *
 * Here: listening and accepting.  A connection is in control_client.c, what requests ask for in
 * control_commands.c.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/log.h"
#include "common/base/unix_address.h"
#include "daemon/control_inside.h"

#define ACCEPT_US UINT64_C(1000000) /* pause when the process is out of descriptors */

void control_poll(struct control *c) {
        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++)
                if (c->clients[i])
                        control_client_poll(c->clients[i]);
}

/* --- connections --- */

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
                r = control_client_new(c, &c->clients[i], client_fd);
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

/* Return: the option's value, or a negative errno. */
static int socket_option(int fd, int name) {
        int value = 0;
        socklen_t n = sizeof(value);

        return getsockopt(fd, SOL_SOCKET, name, &value, &n) < 0 ? -errno : value;
}

/* What systemd hands over is what the unit file says, and that may be anything. */
static int check_passed(const struct control *c, struct error *e) {
        int flags;

        if (socket_option(c->fd, SO_DOMAIN) != AF_UNIX || socket_option(c->fd, SO_TYPE) != SOCK_STREAM ||
            socket_option(c->fd, SO_ACCEPTCONN) != 1)
                return error_set(
                        e, -EINVAL,
                        "descriptor %d, passed as control socket '%s', is no Unix stream socket that "
                        "listens (ListenStream=)",
                        c->fd, c->path);
        flags = fcntl(c->fd, F_GETFL);
        if (flags < 0 || fcntl(c->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
            fcntl(c->fd, F_SETFD, FD_CLOEXEC) < 0)
                return error_errno(e, -errno, "could not set up the passed control socket '%s'", c->path);
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

int control_new(struct sd_event *event, const char *socket_path, int listen_fd, const struct control_ops *ops,
                void *userdata, struct control **ret, struct error *e) {
        cleanup_(fd_closep) int owned_fd = listen_fd;
        cleanup_(control_freep) struct control *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return error_set(e, -ENOMEM, "out of memory");
        c->fd = TAKE_FD(owned_fd);
        c->event = sd_event_ref(event);
        c->ops = ops;
        c->userdata = userdata;
        c->path = strdup(socket_path);
        if (!c->path)
                return error_set(e, -ENOMEM, "out of memory");
        r = c->fd >= 0 ? check_passed(c, e) : listen_at(c, e);
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
                        control_client_free(c->clients[i]);
        (void) sd_event_source_disable_unref(c->io);
        (void) sd_event_source_disable_unref(c->retry);
        fd_closep(&c->fd);
        if (c->bound)
                (void) unlink(c->path);
        (void) sd_event_unref(c->event);
        free(c->path);
        free(c);
}
