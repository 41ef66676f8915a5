/* SPDX-License-Identifier: MIT */
/*
 * Handover; see handover.h.  Process: azpard, at start and at stop.
 *
 * A segment that was taken in is cut down to nothing before it loses its name: its memory is free at once,
 * though systemd may keep the descriptor for a moment, so that the next segment fits; and whoever meets it
 * again, an azpard that was killed right after or one that is given the descriptor once more, sees that it
 * holds nothing.
 */
#include "daemon/handover.h"

#include <errno.h>
#include <string.h>
#include "common/base/log.h"
#include "common/base/pause_point.h"
#include "daemon/daemon.h"
#include "daemon/rescue.h"

/* A text of a header that somebody else may have written, up to its end or that of its room. */
static bool text_is(const char *text, size_t room, const char *wanted) {
        return strnlen(text, room) < room && strcmp(text, wanted) == 0;
}

/* Samples of another game or state directory must not be lost because of a wrong option. */
static int check_owner(const struct daemon *d, const struct segment *s, const char *where, const char *remedy,
                       struct error *e) {
        const struct segment_header *h = s->header;

        if (!text_is(h->state_path, sizeof(h->state_path), d->state.path))
                return error_set(
                        e, -EADDRINUSE,
                        "%s holds samples of the state directory '%.200s': start azpard with that one "
                        "once more, or %s to give them up",
                        where, h->state_path, remedy);
        if (!text_is(h->rules, sizeof(h->rules), d->game->rules))
                return error_set(e, -EINVAL,
                                 "%s holds samples of '%.47s', not of '%s': start azpard with that game once "
                                 "more, or %s to give them up",
                                 where, h->rules, d->game->rules, remedy);
        return 0;
}

/* Take in all that lies in the lanes of @s, and then its memory away. */
static int take_in(struct daemon *d, struct segment *s, const char *where, const char *remedy,
                   struct error *e) {
        uint64_t n_samples = 0, n_bytes = 0;
        int r;

        for (uint32_t i = 0; i < s->n_workers; i++)
                n_bytes += lane_used(&s->lanes[i]);
        r = n_bytes > 0 ? check_owner(d, s, where, remedy, e) : 0;
        if (r < 0)
                return r;
        PAUSE_POINT(START_BEFORE_INHERIT);
        r = intake_inherit(d->intake, s, &n_samples);
        if (r == 0 && n_samples > 0)
                r = window_sync(d->window); /* before the only other copy goes */
        if (r < 0)
                return error_errno(
                        e, r,
                        "could not write the replay window; what was committed stays in %s for the "
                        "next start",
                        where);
        log_event(LOG_EVENT_SAMPLES_TAKEN_OVER, LOG_FIELDS(LOG_NUMBER(SAMPLES, n_samples)),
                  "the last azpard did not finish: took over %ju samples from the lanes it left in %s",
                  (uintmax_t) n_samples, where);
        PAUSE_POINT(START_BEFORE_EMPTY);
        segment_empty(s);
        return 0;
}

static int take_stored(struct daemon *d, int fd, struct error *e) {
        cleanup_(segment_freep) struct segment *s = NULL;
        int r;

        if (segment_has_name(fd, d->instance)) { /* found by its name, too: that one is next */
                (void) close(fd);
                return 0;
        }
        r = segment_open_fd(fd, &s, e);
        if (r == -ESTALE || r == -EBADMSG) {
                log_event(LOG_EVENT_SEGMENT_FORGOTTEN, LOG_FIELDS(LOG_TEXT(REASON, e->text)),
                          "%s: given back to systemd and forgotten", e->text);
                return 0;
        }
        return r < 0 ? r : take_in(d, s, "systemd's fd store", "stop the unit", e);
}

static int take_named(struct daemon *d, struct error *e) {
        cleanup_(segment_freep) struct segment *s = NULL;
        char where[OPTIONS_INSTANCE_MAX + 16];
        int r;

        (void) snprintf(where, sizeof(where), "/dev/shm/azpar.%s", d->instance);
        r = segment_open(d->instance, d->state.path, &s, e);
        if (r == -ENOENT)
                return 0;
        if (r == -ESTALE)
                log_event(LOG_EVENT_SEGMENT_REMOVED, LOG_FIELDS(LOG_TEXT(REASON, e->text)), "%s: removed",
                          e->text);
        else if (r == 0)
                r = take_in(d, s, where, "remove the file", e);
        if (r < 0 && r != -ESTALE)
                return r;
        PAUSE_POINT(START_BEFORE_UNLINK);
        r = segment_unlink(d->instance);
        PAUSE_POINT(START_UNLINKED);
        return r < 0 ? error_errno(e, r, "could not remove %s", where) : 0;
}

int handover_take(struct daemon *d, struct error *e) {
        bool any_stored = false;
        int fd, r;

        /* Stored ones first: a name that leads elsewhere was given to something younger. */
        while ((fd = notify_take_segment(&d->notify)) >= 0) {
                any_stored = true;
                r = take_stored(d, fd, e);
                if (r < 0)
                        return r;
        }
        r = take_named(d, e);
        if (r == 0 && any_stored)
                notify_forget_segment(&d->notify);
        return r;
}

/* ---- at the end ---- */

/*
 * Take in what is left in the lanes. First all else is made durable: what the disk does not take now is
 * better kept in the segment. Return: 0 or a negative errno with a text.
 */
static int empty_lanes(struct daemon *d, struct error *e) {
        int r;

        PAUSE_POINT(FINISH_BEFORE_DRAIN);
        notify_phase(&d->notify, NOTIFY_LONG_US, "stopping: waiting for the disk to take the replay window");
        r = window_sync(d->window);
        if (r < 0)
                return error_errno(e, r, "could not sync the replay window at the end");
        intake_hold(d->intake, 0);
        for (uint32_t slot = 0; slot < d->segment->n_workers; slot++) {
                notify_step(&d->notify, "stopping: taking in what lies in shared memory", slot,
                            d->segment->n_workers);
                r = intake_finish_slot(d->intake, d->segment, slot);
                if (r < 0)
                        return error_errno(e, r, "could not write the replay window at the end");
        }
        PAUSE_POINT(FINISH_BEFORE_SYNC);
        notify_phase(&d->notify, NOTIFY_LONG_US, "stopping: waiting for the disk to take the last samples");
        r = window_sync(d->window);
        return r < 0 ? error_errno(e, r, "could not sync the replay window at the end") : 0;
}

/* The disk has not got all that was committed: the next azpard gets another try. */
static void keep_segment(const struct daemon *d) {
        uint64_t n_bytes = 0, n_samples = window_tail(d->window) - window_durable(d->window);
        struct error e = ERROR_INIT;

        for (uint32_t slot = 0; slot < d->segment->n_workers; slot++)
                n_bytes += lane_used(&d->segment->lanes[slot]);
        if (segment_has_name(d->segment->fd, d->instance))
                log_event(LOG_EVENT_SAMPLES_KEPT, LOG_FIELDS(LOG_NUMBER(BYTES, n_bytes)),
                          "%ju bytes of samples stay in /dev/shm/azpar.%s for the next start",
                          (uintmax_t) n_bytes, d->instance);
        else
                log_event(LOG_EVENT_SAMPLES_KEPT, LOG_FIELDS(LOG_NUMBER(BYTES, n_bytes)),
                          "/dev/shm/azpar.%s is gone: %ju bytes of samples are left to systemd's fd store, "
                          "which keeps them over a restart and not over a stop",
                          d->instance, (uintmax_t) n_bytes);
        if (rescue_save(d->window, d->instance, d->state.path, &e) < 0)
                log_event(LOG_EVENT_SAMPLES_NOT_DURABLE,
                          LOG_FIELDS(LOG_NUMBER(SAMPLES, n_samples), LOG_TEXT(REASON, e.text)),
                          "%ju samples of the replay window are not on the disk and lost when it is "
                          "unmounted: %s",
                          (uintmax_t) n_samples, e.text);
        else if (n_samples > 0)
                log_event(LOG_EVENT_SAMPLES_KEPT, LOG_FIELDS(LOG_NUMBER(SAMPLES, n_samples)),
                          "so do the %ju samples that the replay window has but not the disk",
                          (uintmax_t) n_samples);
}

int handover_leave(struct daemon *d, struct error *e) {
        int r = empty_lanes(d, e);

        if (r < 0) {
                keep_segment(d);
                return r;
        }
        PAUSE_POINT(FINISH_BEFORE_UNLINK);
        r = segment_unlink(d->instance);
        PAUSE_POINT(FINISH_UNLINKED);
        notify_forget_segment(&d->notify);
        if (r == -ENOENT) {
                log_event(LOG_EVENT_SEGMENT_GONE, LOG_NO_FIELDS,
                          "/dev/shm/azpar.%s was removed while azpard ran; nothing is lost by that",
                          d->instance);
                return 0;
        }
        return r < 0 ? error_errno(e, r, "could not remove /dev/shm/azpar.%s", d->instance) : 0;
}
