/* SPDX-License-Identifier: MIT */
/* The rate limiter: the ratio holds whatever the order of inserts and steps, and starting again neither gives
 * nor blocks. */
#include "daemon/trainer/limiter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "common/base/rng.h"

#define RULE(r, s) (&(struct limiter_rule){ .ratio = (r), .slack = (s), .batch = 1 })

static const struct limiter_window empty = { 0, 0, 100000 };

static uint64_t train_all(struct limiter *l, uint64_t batch) {
        uint64_t trained = 0;

        while (limiter_take(l, batch))
                trained += batch;
        return trained;
}

static void test_start(void **state) {
        const struct limiter_window full = { 50, 1050, 1000 };
        struct limiter l;

        (void) state;
        limiter_start(&l, RULE(4, 200), &empty);
        assert_int_equal(limiter_allowed(&l), 200);
        assert_int_equal(l.inserted, 0);
        limiter_start(&l, RULE(4, 200), &full); /* what is there already counts */
        assert_int_equal(limiter_allowed(&l), 200 + 4 * 1000);
        assert_int_equal(l.inserted, 1000);
}

static void test_take(void **state) {
        struct limiter l;

        (void) state;
        limiter_start(&l, RULE(0.5, 100), &empty);
        assert_true(limiter_take(&l, 100));
        assert_false(limiter_take(&l, 1));
        limiter_insert(&l, 1);
        assert_false(limiter_take(&l, 1)); /* a half */
        assert_int_equal(limiter_allowed(&l), 0);
        limiter_insert(&l, 2);
        assert_true(limiter_take(&l, 1));
        assert_false(limiter_take(&l, 1));
        limiter_insert(&l, 2); /* nothing new */
        limiter_insert(&l, 1); /* nor from a window that goes backwards */
        assert_false(limiter_take(&l, 1));
}

/* Both bounds of the ratio, for a trainer that always takes what it may. */
static void test_ratio(void **state) {
        enum { BATCH = 256, SLACK = 2000 };
        const double ratio = 3.7;
        uint64_t tail = 0, trained = 0;
        struct limiter l;
        struct rng r;

        (void) state;
        rng_seed(&r, 5, 0);
        limiter_start(&l, RULE(ratio, SLACK), &empty);
        for (int i = 0; i < 10000; i++) {
                tail += rng_below(&r, 60);
                limiter_insert(&l, tail);
                trained += train_all(&l, BATCH);
                assert_true((double) trained <= ratio * (double) tail + SLACK);
                assert_true((double) trained > ratio * (double) tail + SLACK - BATCH - 1);
        }
        assert_int_equal(l.inserted, tail);
}

/* A trainer that is slower than the workers: what it may catch up with is bounded. */
static void test_bound(void **state) {
        const struct limiter_window w = { 0, 0, 1000 };
        struct limiter l;

        (void) state;
        limiter_start(&l, RULE(4, 200), &w);
        limiter_insert(&l, 1000000);
        assert_int_equal(limiter_allowed(&l), 2 * 200 + 4 * 1000);
        limiter_resume(&l, RULE(4, 200), &w, UINT64_MAX, 0);
        assert_int_equal(limiter_allowed(&l), 2 * 200 + 4 * 1000);
}

/* Stopped and started after every step, it trains as much as when left alone. */
static void test_resume_is_the_same_run(void **state) {
        enum { BATCH = 100 };
        struct limiter_window w = empty;
        uint64_t trained = 0, trained_alone = 0;
        struct limiter l, alone;

        (void) state;
        limiter_start(&l, RULE(4, 1000), &w);
        limiter_start(&alone, RULE(4, 1000), &w);
        for (int i = 0; i < 1000; i++) {
                uint64_t allowed, tail;

                w.tail += 10;
                limiter_insert(&l, w.tail);
                limiter_insert(&alone, w.tail);
                trained += train_all(&l, BATCH);
                trained_alone += train_all(&alone, BATCH);
                allowed = limiter_allowed(&l);
                tail = l.tail;
                w.tail += 5; /* while it is away */
                limiter_resume(&l, RULE(4, 1000), &w, allowed, tail);
        }
        limiter_insert(&alone, w.tail);
        trained += train_all(&l, BATCH);
        trained_alone += train_all(&alone, BATCH);
        assert_int_equal(trained, trained_alone);
        assert_int_equal(trained, 1000 + 4 * 15 * 1000);
}

/* Nothing that a checkpoint can say blocks: new samples always help. */
static void test_resume_never_blocks(void **state) {
        static const uint64_t tails[] = { 0, 500, 1000, 1001, UINT64_MAX };
        const struct limiter_window w = { 0, 1000, 1000 };
        struct limiter l;

        (void) state;
        for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
                limiter_resume(&l, RULE(2, 0), &w, 0, tails[i]);
                (void) train_all(&l, 10);
                assert_false(limiter_take(&l, 10));
                limiter_insert(&l, 1005);
                assert_true(limiter_take(&l, 10));
        }
}

/* A power cut took the window's newest samples: they were counted before, and the others as well. */
static void test_resume_behind_the_checkpoint(void **state) {
        const struct limiter_window w = { 0, 990, 1000 };
        struct limiter l;

        (void) state;
        limiter_resume(&l, RULE(2, 100), &w, 7, 1000);
        assert_int_equal(limiter_allowed(&l), 7);
        assert_int_equal(l.inserted, 0);
        limiter_insert(&l, 991);
        assert_int_equal(limiter_allowed(&l), 9);
        limiter_resume(&l, RULE(2, 100), &w, 7, 989); /* control: one that is new */
        assert_int_equal(limiter_allowed(&l), 9);
}

/* Whatever is configured, enough samples allow a step. */
static void test_a_step_fits(void **state) {
        const struct limiter_rule rule = { .ratio = 0.01, .slack = 1, .batch = 256 };
        const struct limiter_window w = { 0, 0, 20000 }; /* 2 * 1 + 0.01 * 20000 is less than a step */
        struct limiter l;

        (void) state;
        limiter_start(&l, &rule, &w);
        limiter_insert(&l, 25400);
        assert_false(limiter_take(&l, rule.batch));
        limiter_insert(&l, 25500);
        assert_true(limiter_take(&l, rule.batch));
        limiter_insert(&l, 1000000);
        assert_int_equal(limiter_allowed(&l), 2 * rule.batch);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_start),
                cmocka_unit_test(test_take),
                cmocka_unit_test(test_ratio),
                cmocka_unit_test(test_bound),
                cmocka_unit_test(test_resume_is_the_same_run),
                cmocka_unit_test(test_resume_never_blocks),
                cmocka_unit_test(test_resume_behind_the_checkpoint),
                cmocka_unit_test(test_a_step_fits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
