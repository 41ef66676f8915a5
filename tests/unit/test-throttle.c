/* SPDX-License-Identifier: MIT */
/* Throttle: on above the slack, off below half of it, never because of the past, and never for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/base/attr.h"
#include "daemon/throttle.h"

static void test_hysteresis(void **state) {
        struct throttle t = { .ratio = 4.0, .slack = 1000.0 };

        (void) state;
        assert_false(throttle_update(&t, TRAINER_TRAINING, 50000, 0)); /* gathered before training began */
        assert_false(throttle_update(&t, TRAINER_TRAINING, 50250, 0)); /* behind by 1000: just allowed */
        assert_true(throttle_update(&t, TRAINER_TRAINING, 50251, 0));
        assert_true(throttle_update(&t, TRAINER_TRAINING, 50251, 500)); /* by 504 */
        assert_false(throttle_update(&t, TRAINER_TRAINING, 50251, 600));
        assert_false(throttle_update(&t, TRAINER_TRAINING, 50351, 600)); /* by 804, on the way up */
        assert_true(throttle_update(&t, TRAINER_TRAINING, 50451, 600));
}

static void test_counts_anew(void **state) {
        struct throttle t = { .ratio = 1.0, .slack = 10.0 };

        (void) state;
        (void) throttle_update(&t, TRAINER_TRAINING, 0, 1000);
        assert_true(throttle_update(&t, TRAINER_TRAINING, 100, 1000));
        /* the trainer went back to a checkpoint: what it did since is gone, and so is the debt */
        assert_false(throttle_update(&t, TRAINER_TRAINING, 100, 900));
        assert_true(throttle_update(&t, TRAINER_TRAINING, 200, 900));
        throttle_reset(&t);
        assert_false(throttle_update(&t, TRAINER_TRAINING, 200, 900));
        /* a foreign count beyond all sense turns nothing on */
        assert_false(throttle_update(&t, TRAINER_TRAINING, 300, UINT64_MAX));
}

/*
 * A trainer with its rate limiter (see limiter.h) and workers that insert @n_per_tick samples unless they
 * have to wait. @tells: it says so when it waits. Return: batches trained in 10,000 ticks.
 */
static unsigned run(double ratio, uint64_t slack, uint64_t batch, uint64_t n_per_tick, bool tells) {
        double allowed = 0, most = 2.0 * (double) MAX(slack, batch);
        uint64_t inserted = 1000, trained = 0;
        unsigned n_batches = 0;
        struct throttle t;

        throttle_init(&t, ratio, slack, batch);
        for (int tick = 0; tick < 10000; tick++) {
                bool waits = tells && allowed < (double) batch;

                if (!throttle_update(&t, waits ? TRAINER_LIMITED : TRAINER_TRAINING, inserted, trained)) {
                        inserted += n_per_tick;
                        allowed = MIN(allowed + ratio * (double) n_per_tick, most);
                }
                if (allowed < (double) batch)
                        continue;
                allowed -= (double) batch;
                trained += batch;
                n_batches++;
        }
        return n_batches;
}

/* Whatever is set: never do both sides wait for each other. */
static void test_never_for_ever(void **state) {
        static const uint64_t slacks[] = { 1, 500, 1023, 1024, 2048, 100000 };
        static const double ratios[] = { 0.1, 1.0, 4.0, 100.0 };
        static const uint64_t speeds[] = { 1, 7, 500, 100000 };

        (void) state;
        assert_true(run(4.0, 500, 1024, 10, false) > 100); /* both stood still after two batches */
        for (size_t r = 0; r < N_ELEMENTS(ratios); r++)
                for (size_t i = 0; i < N_ELEMENTS(slacks); i++)
                        for (size_t n = 0; n < N_ELEMENTS(speeds); n++) {
                                double due = 10000 * ratios[r] * (double) speeds[n] / 1024;

                                assert_true(run(ratios[r], slacks[i], 1024, speeds[n], true) >=
                                            (unsigned) MIN(due / 2, 4000));
                        }
}

static void test_trainer_that_waits(void **state) {
        struct throttle t;

        (void) state;
        throttle_init(&t, 1.0, 1000, 10);
        assert_false(throttle_update(&t, TRAINER_TRAINING, 0, 0));
        assert_true(throttle_update(&t, TRAINER_TRAINING, 2000, 0));
        assert_false(throttle_update(&t, TRAINER_PAUSED, 2000, 0));
        assert_true(throttle_update(&t, TRAINER_SAVING, 2000, 0));   /* a pause forgives nothing */
        assert_false(throttle_update(&t, TRAINER_LIMITED, 2000, 0)); /* it waits for workers */
        assert_false(throttle_update(&t, TRAINER_TRAINING, 2500, 0));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_hysteresis),
                cmocka_unit_test(test_counts_anew),
                cmocka_unit_test(test_never_for_ever),
                cmocka_unit_test(test_trainer_that_waits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
