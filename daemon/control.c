/* SPDX-License-Identifier: MIT */
/*
 * The control socket; see control.h.  Runs in azpard, on its one loop.
 *
 * Here: listening, accepting, and how much of azpard others may have.  A connection is in control_client.c,
 * what requests ask for in control_commands.c.
 *
 * Places: a limit alone would let whoever takes all places keep everybody out, root as well.  So a newcomer
 * always gets in, and displaces somebody (find_place()): of the user who has most places the client that was
 * idle for longest, which costs only those who take many.
 *
 * Pace: coming and going in a tight loop costs azpard more than any request, and no limit per client can see
 * it.  So what is done for all who are not trusted is counted together, in processor time; whatever they do,
 * it is paid off at one part in CONTROL_SHARE of the time, and beyond a burst they are left alone until it
 * is. Connections that wait to be accepted are nobody's yet and have to wait as well.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/unix_address.h"
#include "daemon/control_inside.h"

#define ACCEPT_NS      NS_PER_S /* pause when the process is out of descriptors */
#define ACCEPT_AT_ONCE 16       /* more wait for the loop's next turn */
#define RESUME_LATE_US 1000
#define WAKE_NS        UINT64_C(10000) /* what the loop does besides, for somebody to be served */

void control_poll(struct control *c) {
        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++)
                if (c->clients[i])
                        control_client_poll(c->clients[i]);
}

/* --- pace --- */

uint64_t control_cpu_ns(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * NS_PER_S + (uint64_t) t.tv_nsec;
}

static void enable_strangers(struct control *c, bool enable) {
        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++)
                if (c->clients[i] && !c->clients[i]->trusted &&
                    control_client_enable(c->clients[i], enable) < 0)
                        control_client_free(c->clients[i]);
}

/* Accept nobody for @ns; with @strangers, also serve none of those that have no special rights. */
static void rest(struct control *c, uint64_t ns, bool strangers) {
        if (sd_event_source_set_time_relative(c->resume, ns / 1000) < 0 ||
            sd_event_source_set_enabled(c->resume, SD_EVENT_ONESHOT) < 0)
                return; /* better no rest than one without an end */
        (void) sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
        c->resting = true;
        if (strangers)
                enable_strangers(c, false);
}

static int on_resume(sd_event_source *s, uint64_t us, void *userdata) {
        struct control *c = userdata;

        (void) s;
        (void) us;
        c->resting = false;
        enable_strangers(c, true);
        if (sd_event_source_set_enabled(c->io, SD_EVENT_ON) < 0)
                rest(c, ACCEPT_NS, false);
        return 0;
}

void control_charge(struct control *c, uint64_t begin_ns) {
        uint64_t now_ns = clock_now_ns(), paid_ns = (now_ns - c->debt_at_ns) / CONTROL_SHARE;

        c->debt_ns -= MIN(c->debt_ns, paid_ns);
        c->debt_ns += control_cpu_ns() - begin_ns + WAKE_NS;
        c->debt_at_ns = now_ns;
        if (c->debt_ns > CONTROL_BURST_NS && !c->resting)
                rest(c, CONTROL_REST_NS + (c->debt_ns - CONTROL_BURST_NS) * CONTROL_SHARE, true);
}

/* --- places --- */

bool control_trusts(const struct ucred *peer) {
        return peer->uid == 0 || peer->uid == geteuid();
}

/* How many places @client's user would have with the newcomer @uid; 0 for those who are trusted. */
static size_t n_places(const struct control *c, const struct control_client *client, uid_t uid) {
        size_t n = client->peer.uid == uid;

        if (client->trusted)
                return 0;
        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++)
                n += c->clients[i] && c->clients[i]->peer.uid == client->peer.uid;
        return n;
}

/* Is @a, whose user has @n_a places, to be displaced rather than @b, whose has @n_b? */
static bool is_lesser(const struct control_client *a, size_t n_a, const struct control_client *b,
                      size_t n_b) {
        if (a->trusted != b->trusted)
                return !a->trusted;
        if (control_client_waits(a) != control_client_waits(b))
                return !control_client_waits(a);
        return n_a != n_b ? n_a > n_b : a->active_ns < b->active_ns;
}

/* A place for the newcomer @peer, emptied if need be. NULL: there is none. */
static struct control_client **find_place(struct control *c, const struct ucred *peer) {
        struct control_client **lesser = NULL;
        size_t n_lesser = 0;

        for (size_t i = 0; i < N_ELEMENTS(c->clients); i++) {
                size_t n;

                if (!c->clients[i])
                        return &c->clients[i];
                n = n_places(c, c->clients[i], peer->uid);
                if (lesser && !is_lesser(c->clients[i], n, *lesser, n_lesser))
                        continue;
                lesser = &c->clients[i];
                n_lesser = n;
        }
        if ((*lesser)->trusted && !control_trusts(peer))
                return NULL;
        control_client_displace(*lesser);
        return lesser;
}

void control_admit(struct control *c, int fd, const struct ucred *peer) {
        static const char full[] =
                "{\"ok\":false,\"error\":\"all 64 places are taken by root and azpard's own "
                "user\",\"code\":\"EBUSY\"}\n";
        struct control_client **place = find_place(c, peer);
        int r;

        if (!place) {
                (void) send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
                (void) close(fd);
                return;
        }
        r = control_client_new(c, place, fd, peer);
        if (r < 0)
                log_event(LOG_EVENT_CONTROL_FAILED, LOG_FIELDS(LOG_NUMBER(ERRNO, -r)),
                          "could not serve a control connection: %s", strerror(-r));
}
static_assert(CONTROL_MAX_CLIENTS == 64, "the message above says so");

/* Return: 1 if there may be more; 0; a negative errno: it could not, and would not the next time either. */
static int accept_one(struct control *c) {
        uint64_t begin_ns = control_cpu_ns();
        struct ucred peer;
        socklen_t n = sizeof(peer);
        int fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
                return -errno;
        if (fd < 0)
                return errno != EAGAIN; /* it has gone again */
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0) {
                (void) close(fd);
                return 1;
        }
        control_admit(c, fd, &peer);
        if (!control_trusts(&peer))
                control_charge(c, begin_ns);
        return 1;
}

static int on_connection(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct control *c = userdata;
        int r = 1;

        (void) s;
        (void) fd;
        (void) revents;
        for (unsigned i = 0; i < ACCEPT_AT_ONCE && r > 0 && !c->resting; i++)
                r = accept_one(c);
        if (r < 0) {
                /* The connection stays in the queue and would wake the loop without end. */
                log_event(LOG_EVENT_CONTROL_FAILED, LOG_FIELDS(LOG_NUMBER(ERRNO, -r)),
                          "could not accept a control connection: %s", strerror(-r));
                rest(c, ACCEPT_NS, false);
        }
        return 0;
}

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
        if (listen(c->fd, CONTROL_BACKLOG) < 0)
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
                r = sd_event_add_time_relative(c->event, &c->resume, CLOCK_MONOTONIC, 0, RESUME_LATE_US,
                                               on_resume, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->resume, SD_EVENT_OFF);
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
        c->debt_at_ns = clock_now_ns();
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
        (void) sd_event_source_disable_unref(c->resume);
        fd_closep(&c->fd);
        if (c->bound)
                (void) unlink(c->path);
        (void) sd_event_unref(c->event);
        free(c->path);
        free(c);
}
