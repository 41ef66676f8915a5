/* SPDX-License-Identifier: MIT */
/*
 * Window sync; see window_sync.h.  Process: azpard.
 *
 * The timer runs only while there is something to sync, so that an azpard that is paused sleeps.
 *
 * One request at most is on its way; who asks meanwhile gets another one after it.  fdatasync covers the
 * pages that were written through the mapping as well.  After an error it is tried again every second, or
 * more often where replay.sync_interval says so; window_sync_end() makes sure that a success then means all
 * of it.
 */
#include "daemon/window_sync.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include "common/base/log.h"
#include "common/base/pause_point.h"

#define RETRY_US UINT64_C(1000000)

struct window_sync {
        struct window *window;
        struct disk *disk;
        struct disk_request request;
        uint64_t interval_us;
        int error;
        bool in_flight, again;
        bool armed; /* the timer runs */
        sd_event_source *timer;
        void (*notify)(void *userdata);
        void *userdata;
};

static void begin_sync(struct window_sync *s) {
        window_sync_begin(s->window);
        s->in_flight = true;
        s->again = false;
        disk_sync(s->disk, &s->request, window_fd(s->window), true);
        PAUSE_POINT(SYNC_ASKED);
}

static bool is_needed(const struct window_sync *s) {
        return s->error || window_tail(s->window) != window_durable(s->window);
}

static void arm(struct window_sync *s) {
        int r = sd_event_source_set_time_relative(s->timer,
                                                  s->error ? MIN(s->interval_us, RETRY_US) : s->interval_us);

        if (r >= 0)
                r = sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
        s->armed = r >= 0; /* if it is not, window_sync_look() tries again */
}

static void done(struct disk_request *request, int result) {
        struct window_sync *s =
                (struct window_sync *) (void *) ((char *) request - offsetof(struct window_sync, request));

        PAUSE_POINT(SYNC_DONE);
        s->in_flight = false;
        result = window_sync_end(s->window, result);
        if (result < 0 && result != s->error)
                log_event(LOG_EVENT_WINDOW_FAILED,
                          LOG_FIELDS(LOG_TEXT(REASON, "could not sync the replay window"),
                                     LOG_NUMBER(ERRNO, -result)),
                          "could not sync the replay window: %s; trying again every %.4g s",
                          strerror(-result), (double) MIN(s->interval_us, RETRY_US) / 1e6);
        if (result == 0 && s->error)
                log_event(LOG_EVENT_WINDOW_RECOVERED, LOG_NO_FIELDS, "replay window: syncing works again");
        s->error = result;
        if (s->error) {
                arm(s); /* the interval may be an hour */
                return;
        }
        if (s->again && window_tail(s->window) != window_durable(s->window))
                begin_sync(s);
        if (s->notify)
                s->notify(s->userdata);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        struct window_sync *s = userdata;

        (void) source;
        (void) usec;
        s->armed = false;
        if (!s->in_flight && is_needed(s))
                begin_sync(s);
        return 0;
}

void window_sync_look(struct window_sync *s) {
        if (!s->armed && !s->in_flight && is_needed(s))
                arm(s);
}

int window_sync_new(sd_event *event, struct window *w, uint64_t interval_us, struct disk *disk,
                    struct window_sync **ret) {
        cleanup_(window_sync_freep) struct window_sync *s = calloc(1, sizeof(*s));
        int r;

        assert(interval_us > 0);
        if (!s)
                return -ENOMEM;
        s->window = w;
        s->disk = disk;
        s->request.done = done;
        s->interval_us = interval_us;
        r = sd_event_add_time_relative(event, &s->timer, CLOCK_MONOTONIC, interval_us, 0, on_timer, s);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

void window_sync_free(struct window_sync *s) {
        if (!s)
                return;
        s->timer = sd_event_source_disable_unref(s->timer);
        free(s);
}

void window_sync_set_interval(struct window_sync *s, uint64_t interval_us) {
        assert(interval_us > 0);
        s->interval_us = interval_us;
        if (s->armed)
                arm(s);
}

void window_sync_request(struct window_sync *s) {
        if (s->in_flight)
                s->again = true;
        else if (!s->error)
                begin_sync(s);
}

void window_sync_notify(struct window_sync *s, void (*notify)(void *userdata), void *userdata) {
        s->notify = notify;
        s->userdata = userdata;
}

int window_sync_error(const struct window_sync *s) {
        return s->error;
}
