/* SPDX-License-Identifier: MIT */
/*
 * Window sync; see window_sync.h.  Process: azpard.
 *
 * One request at most is on its way.  Its completion arrives through an eventfd
 * in the event loop.  fdatasync covers the pages that were written through the
 * mapping as well.  After an error it is tried again every second, or more often where
 * replay.sync_interval says so; window_sync_end() makes sure that a success then means all of it.
 */
#include "daemon/window_sync.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include "common/base/log.h"
#include "common/base/pause_point.h"

#define RING_ENTRIES 4
#define RETRY_US     UINT64_C(1000000)

struct window_sync {
        struct window *window;
        uint64_t interval_us;
        int error;
        bool in_flight;
        bool has_ring;
        struct io_uring ring;
        int event_fd;
        sd_event_source *timer, *completion;
};

static void completed(struct window_sync *s, int result) {
        PAUSE_POINT(SYNC_DONE);
        s->in_flight = false;
        result = window_sync_end(s->window, result);
        if (result == 0) {
                if (s->error)
                        log_notice("replay window: syncing works again");
                s->error = 0;
                return;
        }
        if (result != s->error)
                log_error("could not sync the replay window: %s; trying again every %.4g s",
                          strerror(-result), (double) MIN(s->interval_us, RETRY_US) / 1e6);
        s->error = result;
}

static int on_completion(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        struct window_sync *s = userdata;
        struct io_uring_cqe *cqe;
        eventfd_t n;

        (void) source;
        (void) events;
        (void) eventfd_read(fd, &n);
        while (io_uring_peek_cqe(&s->ring, &cqe) == 0) {
                int result = cqe->res;

                io_uring_cqe_seen(&s->ring, cqe);
                completed(s, result);
        }
        return 0;
}

static void begin_sync(struct window_sync *s) {
        struct io_uring_sqe *sqe = NULL;
        int r;

        window_sync_begin(s->window);
        if (s->has_ring)
                sqe = io_uring_get_sqe(&s->ring);
        if (sqe) {
                io_uring_prep_fsync(sqe, window_fd(s->window), IORING_FSYNC_DATASYNC);
                r = io_uring_submit(&s->ring);
                PAUSE_POINT(SYNC_ASKED);
                if (r >= 0)
                        s->in_flight = true;
                else
                        completed(s, r);
                return;
        }
        completed(s, fdatasync(window_fd(s->window)) < 0 ? -errno : 0);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct window_sync *s = userdata;
        int r;

        (void) usec;
        if (!s->in_flight && (s->error || window_tail(s->window) != window_durable(s->window)))
                begin_sync(s);
        r = sd_event_source_set_time_relative(source,
                                              s->error ? MIN(s->interval_us, RETRY_US) : s->interval_us);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int open_ring(struct window_sync *s, sd_event *event) {
        int r;

        r = io_uring_queue_init(RING_ENTRIES, &s->ring, 0);
        if (r < 0)
                return r;
        s->has_ring = true;
        s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->event_fd < 0)
                return -errno;
        r = io_uring_register_eventfd(&s->ring, s->event_fd);
        if (r < 0)
                return r;
        return sd_event_add_io(event, &s->completion, s->event_fd, EPOLLIN, on_completion, s);
}

static void close_ring(struct window_sync *s) {
        struct io_uring_cqe *cqe;

        s->completion = sd_event_source_disable_unref(s->completion);
        /* An error is told once: not to wait for it would let the next sync pass without what it was about.
         */
        while (s->in_flight) {
                int r = io_uring_wait_cqe(&s->ring, &cqe);

                if (r == -EINTR)
                        continue;
                completed(s, r < 0 ? r : cqe->res);
        }
        if (s->has_ring)
                io_uring_queue_exit(&s->ring);
        s->has_ring = false;
        fd_closep(&s->event_fd);
        s->event_fd = -1;
}

int window_sync_new(sd_event *event, struct window *w, uint64_t interval_us, bool allow_uring,
                    struct window_sync **ret) {
        cleanup_(window_sync_freep) struct window_sync *s = calloc(1, sizeof(*s));
        int r;

        assert(interval_us > 0);
        if (!s)
                return -ENOMEM;
        s->window = w;
        s->interval_us = interval_us;
        s->event_fd = -1;
        r = allow_uring ? open_ring(s, event) : 0;
        if (r < 0) {
                log_warning("io_uring is not available (%s): the replay window is synced by plain fdatasync",
                            strerror(-r));
                close_ring(s);
        }
        r = sd_event_add_time_relative(event, &s->timer, CLOCK_MONOTONIC, interval_us, 0, on_timer, s);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

void window_sync_free(struct window_sync *s) {
        if (!s)
                return;
        close_ring(s);
        s->timer = sd_event_source_disable_unref(s->timer);
        free(s);
}

int window_sync_error(const struct window_sync *s) {
        return s->error;
}

uint64_t window_sync_tail(const struct window_sync *s) {
        return window_durable(s->window);
}

bool window_sync_uses_uring(const struct window_sync *s) {
        return s->has_ring;
}
