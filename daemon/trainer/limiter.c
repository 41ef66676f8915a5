/* SPDX-License-Identifier: MIT */
/* Samples trained per sample inserted; see limiter.h for the rule and its reasons.  Runs in azpar-trainer. */
#include "daemon/trainer/limiter.h"

#include "common/base/attr.h"

static void add(struct limiter *l, uint64_t inserted) {
        l->inserted += inserted;
        l->allowed = MIN(l->allowed + l->ratio * (double) inserted, l->max);
}

static void init(struct limiter *l, double ratio, uint64_t slack, const struct limiter_window *w) {
        *l = (struct limiter){
                .ratio = ratio,
                .max = 2 * (double) slack + ratio * (double) w->capacity,
                .tail = w->tail,
        };
}

void limiter_start(struct limiter *l, double ratio, uint64_t slack, const struct limiter_window *w) {
        init(l, ratio, slack, w);
        l->allowed = (double) slack;
        add(l, w->tail - w->first);
}

void limiter_resume(struct limiter *l, double ratio, uint64_t slack, const struct limiter_window *w,
                    uint64_t allowed, uint64_t tail) {
        init(l, ratio, slack, w);
        l->allowed = MIN((double) allowed, l->max);
        add(l, w->tail >= tail ? w->tail - tail : w->tail - w->first);
}

void limiter_insert(struct limiter *l, uint64_t tail) {
        if (tail <= l->tail)
                return;
        add(l, tail - l->tail);
        l->tail = tail;
}

bool limiter_take(struct limiter *l, uint64_t n) {
        if (l->allowed < (double) n)
                return false;
        l->allowed -= (double) n;
        return true;
}

uint64_t limiter_allowed(const struct limiter *l) {
        return (uint64_t) l->allowed;
}
