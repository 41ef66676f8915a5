/* SPDX-License-Identifier: MIT */
/* Rates; see rates.h.  Process: azpard. */
#include "daemon/rates.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "common/base/clock.h"

#define RING_TICKS  11             /* snapshots: ten intervals of a second */
#define SHORTEST_NS (NS_PER_S / 2) /* a rate over less than that is noise */
#define JUMP_MAX                                                                                             \
        UINT64_C(1000000000) /* growth between two ticks; the fastest counter makes some millions            \
                              */

struct snapshot {
        uint64_t ns;
        uint64_t steps;
        uint64_t totals[SEGMENT_MAX_WORKERS + 1][RATE_N_];
};

struct rates {
        uint64_t last[SEGMENT_MAX_WORKERS][RATE_N_]; /* as read from shared memory */
        uint64_t last_step;
        struct snapshot now;
        struct snapshot ring[RING_TICKS];
        unsigned n_ring, next;
};

int rates_new(struct rates **ret) {
        struct rates *r = calloc(1, sizeof(*r));

        if (!r)
                return -ENOMEM;
        *ret = r;
        return 0;
}

void rates_free(struct rates *r) {
        free(r);
}

/* What the counter gained since it was @*last. */
static uint64_t gained(uint64_t *last, uint64_t value) {
        uint64_t n = value >= *last ? value - *last : 0;

        *last = value;
        return n <= JUMP_MAX ? n : 0;
}

static void take_slot(struct rates *r, const struct segment *s, uint32_t slot) {
        const struct segment_worker *w = s->workers[slot];
        /* Relaxed: each counter is shown for itself. */
        uint64_t values[RATE_N_] = {
                [RATE_GAMES] = atomic_load_explicit(&w->games, memory_order_relaxed),
                [RATE_SAMPLES] = atomic_load_explicit(&w->samples, memory_order_relaxed),
                [RATE_SIMULATIONS] = atomic_load_explicit(&w->simulations, memory_order_relaxed),
                [RATE_EVALUATIONS] = atomic_load_explicit(&w->evaluations, memory_order_relaxed),
                [RATE_SPILLED] = atomic_load_explicit(&w->spilled_samples, memory_order_relaxed),
        };

        for (unsigned k = 0; k < RATE_N_; k++) {
                uint64_t n = gained(&r->last[slot][k], values[k]);

                r->now.totals[slot][k] += n;
                r->now.totals[RATES_ALL][k] += n;
        }
}

void rates_refresh(struct rates *r, const struct segment *s) {
        for (uint32_t slot = 0; slot < s->n_workers; slot++)
                take_slot(r, s, slot);
}

void rates_tick(struct rates *r, const struct segment *s, uint64_t now_ns) {
        uint64_t step = atomic_load_explicit(&s->trainer->step, memory_order_relaxed);

        rates_refresh(r, s);
        /* The first step that is seen is where a resumed trainer stands, not what it did. */
        if (r->n_ring > 0)
                r->now.steps += gained(&r->last_step, step);
        else
                r->last_step = step;
        r->now.ns = now_ns;
        r->ring[r->next] = r->now;
        r->next = (r->next + 1) % RING_TICKS;
        r->n_ring = MIN(r->n_ring + 1, RING_TICKS);
}

void rates_finish_slot(struct rates *r, const struct segment *s, uint32_t slot) {
        assert(slot < s->n_workers);
        take_slot(r, s, slot);
        (void) memset(r->last[slot], 0, sizeof(r->last[slot]));
}

uint64_t rates_total(const struct rates *r, uint32_t slot, enum rate which) {
        assert(slot <= RATES_ALL);
        return r->now.totals[slot][which];
}

static const struct snapshot *oldest(const struct rates *r) {
        return &r->ring[r->n_ring < RING_TICKS ? 0 : r->next];
}

static const struct snapshot *newest(const struct rates *r) {
        return &r->ring[(r->next + RING_TICKS - 1) % RING_TICKS];
}

/* Growth per second of a total that was @from in the oldest snapshot and is @to in the newest. */
static double per_s(const struct rates *r, uint64_t from, uint64_t to) {
        uint64_t since = newest(r)->ns - oldest(r)->ns;

        if (r->n_ring < 2 || since < SHORTEST_NS)
                return 0.0;
        return (double) (to - from) * NS_PER_S / (double) since;
}

double rates_per_s(const struct rates *r, uint32_t slot, enum rate which) {
        assert(slot <= RATES_ALL);
        return per_s(r, oldest(r)->totals[slot][which], newest(r)->totals[slot][which]);
}

double rates_steps_per_s(const struct rates *r) {
        return per_s(r, oldest(r)->steps, newest(r)->steps);
}
