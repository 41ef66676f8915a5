/* SPDX-License-Identifier: MIT */
/* Samples trained per sample inserted; see limiter.h for the rule and its reasons.  Runs in azpar-trainer. */
#include "daemon/trainer/limiter.h"

#include "common/base/attr.h"

static void add(struct limiter *l, uint64_t inserted) {
        l->inserted += inserted;
        l->allowed = MIN(l->allowed + l->ratio * (double) inserted, l->max);
}

static void init(struct limiter *l, const struct limiter_rule *rule, const struct limiter_window *w) {
        double max = 2 * (double) rule->slack + rule->ratio * (double) w->capacity;

        *l = (struct limiter){
                .ratio = rule->ratio,
                .max = MAX(max, 2 * (double) rule->batch),
                .tail = w->tail,
        };
}

void limiter_start(struct limiter *l, const struct limiter_rule *rule, const struct limiter_window *w) {
        init(l, rule, w);
        l->allowed = (double) rule->slack;
        add(l, w->tail - w->first);
}

void limiter_resume(struct limiter *l, const struct limiter_rule *rule, const struct limiter_window *w,
                    uint64_t allowed, uint64_t tail) {
        init(l, rule, w);
        l->allowed = MIN((double) allowed, l->max);
        add(l, w->tail > tail ? w->tail - tail : 0);
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
