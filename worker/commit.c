/* SPDX-License-Identifier: MIT */
/* A record's way out; see commit.h.  Process: azpar-worker. */
#include "worker/commit.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/exchange/sample.h"

#define CALM_NS (60 * NS_PER_S) /* without spilling, and it has ended */

int commit_init(struct commit *c, const struct game *game, struct segment *s, uint32_t slot, int state_fd,
                int wake_fd, double spill_after_s, uint64_t spill_max, struct error *e) {
        int refused = 0, r;

        *c = (struct commit){
                .segment = s,
                .own = s->workers[slot],
                .lane = &s->lanes[slot],
                .slot = slot,
                .wake_fd = wake_fd,
                .spill_after_ns = (uint64_t) (spill_after_s * NS_PER_S),
                .spill_max = spill_max,
        };
        r = spill_new(game, state_fd, slot, s->header->origin, &c->spill, &refused);
        if (r < 0)
                return error_errno(e, r, "could not prepare for spilling");
        if (refused < 0)
                log_event(LOG_EVENT_URING_REFUSED, LOG_FIELDS(LOG_NUMBER(ERRNO, -refused)),
                          "worker %" PRIu32 ": io_uring is not available (%s): spill files are written by "
                          "plain calls, which games wait for",
                          slot, strerror(-refused));
        return 0;
}

void commit_deinit(struct commit *c) {
        spill_free(c->spill);
        c->spill = NULL;
}

/* What this worker may spill: an equal share. */
static uint64_t spill_share(const struct commit *c) {
        /* relaxed: a limit, and any value of it is safe */
        uint32_t n = atomic_load_explicit(&c->segment->header->n_desired, memory_order_relaxed);

        return c->spill_max / MAX(n, 1u);
}

/* Relaxed throughout: see segment.h on counters. */
static void publish_counters(struct commit *c) {
        const struct spill_counters *s = spill_counters(c->spill);

        atomic_store_explicit(&c->own->spilled_files, s->files, memory_order_relaxed);
        atomic_store_explicit(&c->own->spilled_samples, s->samples, memory_order_relaxed);
        atomic_store_explicit(&c->own->spilled_bytes, s->bytes, memory_order_relaxed);
        atomic_store_explicit(&c->own->spill_errno, (uint32_t) -s->error, memory_order_relaxed);
        atomic_store_explicit(&c->own->spill_full, s->full, memory_order_relaxed);
}

/* Said once for as long as it does not stop for a while: a lane that is full again and again is one trouble.
 */
static void note_spilling(struct commit *c) {
        if (!c->spilled_ns) {
                c->spilled_before = spill_counters(c->spill)->samples;
                log_event(LOG_EVENT_SPILLING_BEGAN, LOG_NO_FIELDS,
                          "worker %" PRIu32 ": its lane has been full for %.4g s; games go to spill files",
                          c->slot, (double) c->spill_after_ns / NS_PER_S);
        }
        c->spilled_ns = clock_now_ns();
}

static void note_calm(struct commit *c) {
        uint64_t n_samples = spill_counters(c->spill)->samples - c->spilled_before;

        if (!c->spilled_ns || c->full_since_ns || clock_now_ns() - c->spilled_ns < CALM_NS)
                return;
        c->spilled_ns = 0;
        log_event(LOG_EVENT_SPILLING_ENDED, LOG_FIELDS(LOG_NUMBER(SAMPLES, n_samples)),
                  "worker %" PRIu32 ": spilling has ended, %" PRIu64 " samples went to files", c->slot,
                  n_samples);
}

void commit_poll(struct commit *c) {
        note_calm(c);
        if (spill_is_idle(c->spill))
                return;
        spill_poll(c->spill, spill_share(c), false);
        publish_counters(c);
}

bool commit_flush(struct commit *c) {
        spill_poll(c->spill, spill_share(c), true);
        publish_counters(c);
        return spill_is_idle(c->spill);
}

/* The lane had no room: has it had none for long enough? */
static bool should_spill(struct commit *c) {
        uint64_t now_ns = clock_now_ns();

        if (!c->full_since_ns) {
                c->full_since_ns = now_ns;
                (void) atomic_fetch_add_explicit(&c->own->lane_waits, 1, memory_order_relaxed);
        }
        return c->spill_max > 0 && now_ns - c->full_since_ns >= c->spill_after_ns;
}

int commit_record(struct commit *c, const unsigned char *record, size_t n_bytes, struct error *e) {
        int r;

        r = lane_write(c->lane, record, (uint32_t) n_bytes);
        if (r == LANE_E_BROKEN)
                return error_set(e, -EBADMSG, "its lane's indices lie");
        if (r < 0)
                return error_errno(e, r, "could not write a record of %zu bytes to its lane", n_bytes);
        if (r == 0) {
                c->full_since_ns = 0;
                segment_wake_consumer(c->segment, c->wake_fd);
                return 0;
        }
        if (!should_spill(c))
                return COMMIT_E_WAIT;
        r = spill_add(c->spill, record, n_bytes, e);
        if (r < 0)
                return r;
        if (r == 0)
                note_spilling(c);
        commit_poll(c);
        return r == SPILL_E_FULL ? COMMIT_E_WAIT : 0;
}
