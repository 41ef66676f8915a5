/* SPDX-License-Identifier: MIT */
/* Rates: counters of several processes added up, foreign jumps left out, growth per second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "daemon/rates.h"

/* A segment in private memory is enough here. */
static struct segment_worker workers[2];
static struct segment_trainer trainer;
static struct segment segment = { .n_workers = 2,
                                  .trainer = &trainer,
                                  .workers = { &workers[0], &workers[1] } };

static int set_up(void **state) {
        for (int i = 0; i < 2; i++) {
                atomic_store(&workers[i].games, 0);
                atomic_store(&workers[i].samples, 0);
                atomic_store(&workers[i].simulations, 0);
                atomic_store(&workers[i].evaluations, 0);
        }
        atomic_store(&trainer.step, 0);
        return rates_new((struct rates **) state);
}

static int tear_down(void **state) {
        rates_free(*state);
        return 0;
}

static void test_growth_per_second(void **state) {
        struct rates *r = *state;
        uint64_t now = 5 * NS_PER_S;

        assert_float_equal(rates_per_s(r, 0, RATE_GAMES), 0.0, 0.0); /* nothing known yet */
        rates_tick(r, &segment, now);
        assert_float_equal(rates_per_s(r, 0, RATE_GAMES), 0.0, 0.0);
        for (int i = 0; i < 25; i++) { /* more than the ring holds */
                atomic_fetch_add(&workers[0].games, 3);
                atomic_fetch_add(&workers[1].games, 4);
                atomic_fetch_add(&trainer.step, 10);
                rates_tick(r, &segment, now += NS_PER_S);
        }
        assert_float_equal(rates_per_s(r, 0, RATE_GAMES), 3.0, 1e-9);
        assert_float_equal(rates_per_s(r, 1, RATE_GAMES), 4.0, 1e-9);
        assert_float_equal(rates_per_s(r, RATES_ALL, RATE_GAMES), 7.0, 1e-9);
        assert_float_equal(rates_per_s(r, RATES_ALL, RATE_SAMPLES), 0.0, 0.0);
        assert_float_equal(rates_steps_per_s(r), 10.0, 1e-9);
        assert_int_equal(rates_total(r, RATES_ALL, RATE_GAMES), 175);
        for (int i = 0; i < 5; i++) /* silence for half of the ring */
                rates_tick(r, &segment, now += NS_PER_S);
        assert_float_equal(rates_per_s(r, RATES_ALL, RATE_GAMES), 3.5, 1e-9);
        for (int i = 0; i < 5; i++)
                rates_tick(r, &segment, now += NS_PER_S);
        assert_float_equal(rates_per_s(r, RATES_ALL, RATE_GAMES), 0.0, 0.0);
}

static void test_totals_between_ticks(void **state) {
        struct rates *r = *state;

        rates_tick(r, &segment, NS_PER_S);
        atomic_store(&workers[1].samples, 9);
        rates_refresh(r, &segment);
        rates_refresh(r, &segment);
        assert_int_equal(rates_total(r, RATES_ALL, RATE_SAMPLES), 9);
        assert_float_equal(rates_per_s(r, 1, RATE_SAMPLES), 0.0, 0.0);
        rates_tick(r, &segment, 2 * NS_PER_S);
        assert_float_equal(rates_per_s(r, 1, RATE_SAMPLES), 9.0, 1e-9);
}

static void test_next_process_counts_from_zero(void **state) {
        struct rates *r = *state;

        atomic_store(&workers[0].samples, 100);
        rates_tick(r, &segment, NS_PER_S);
        atomic_store(&workers[0].samples, 110); /* its last words, after the tick */
        rates_finish_slot(r, &segment, 0);
        atomic_store(&workers[0].samples, 0);
        atomic_store(&workers[0].samples, 150); /* the next one, already past its predecessor */
        rates_tick(r, &segment, 2 * NS_PER_S);
        assert_int_equal(rates_total(r, 0, RATE_SAMPLES), 260);
        atomic_store(&workers[0].samples, 5); /* falls without any warning */
        rates_tick(r, &segment, 3 * NS_PER_S);
        atomic_store(&workers[0].samples, 7);
        rates_tick(r, &segment, 4 * NS_PER_S);
        assert_int_equal(rates_total(r, 0, RATE_SAMPLES), 262);
}

static void test_foreign_jumps(void **state) {
        struct rates *r = *state;

        atomic_store(&workers[1].evaluations, UINT64_MAX);
        rates_tick(r, &segment, NS_PER_S);
        atomic_store(&workers[1].evaluations, 12);
        rates_tick(r, &segment, 2 * NS_PER_S);
        atomic_store(&workers[1].evaluations, 20);
        rates_tick(r, &segment, 3 * NS_PER_S);
        assert_int_equal(rates_total(r, RATES_ALL, RATE_EVALUATIONS), 8);
}

static void test_resumed_step_is_not_work(void **state) {
        struct rates *r = *state;

        atomic_store(&trainer.step, 123456);
        rates_tick(r, &segment, NS_PER_S);
        rates_tick(r, &segment, 2 * NS_PER_S);
        assert_float_equal(rates_steps_per_s(r), 0.0, 0.0);
        atomic_store(&trainer.step, 123000); /* back to its checkpoint */
        rates_tick(r, &segment, 3 * NS_PER_S);
        assert_float_equal(rates_steps_per_s(r), 0.0, 0.0);
        atomic_store(&trainer.step, 123030);
        rates_tick(r, &segment, 4 * NS_PER_S);
        assert_float_equal(rates_steps_per_s(r), 10.0, 1e-9);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_growth_per_second, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_totals_between_ticks, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_next_process_counts_from_zero, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_foreign_jumps, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_resumed_step_is_not_work, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
