/* SPDX-License-Identifier: MIT */
/* Throttle: on above the slack, off below half of it, and never because of the past. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "daemon/throttle.h"

static void test_hysteresis(void **state) {
        struct throttle t = { .ratio = 4.0, .slack = 1000.0 };

        (void) state;
        assert_false(throttle_update(&t, 50000, 0)); /* gathered before training began */
        assert_false(throttle_update(&t, 50250, 0)); /* behind by 1000: just allowed */
        assert_true(throttle_update(&t, 50251, 0));
        assert_true(throttle_update(&t, 50251, 500)); /* by 504 */
        assert_false(throttle_update(&t, 50251, 600));
        assert_false(throttle_update(&t, 50351, 600)); /* by 804, on the way up */
        assert_true(throttle_update(&t, 50451, 600));
}

static void test_counts_anew(void **state) {
        struct throttle t = { .ratio = 1.0, .slack = 10.0 };

        (void) state;
        (void) throttle_update(&t, 0, 1000);
        assert_true(throttle_update(&t, 100, 1000));
        /* the trainer went back to a checkpoint: what it did since is gone, and so is the debt */
        assert_false(throttle_update(&t, 100, 900));
        assert_true(throttle_update(&t, 200, 900));
        throttle_reset(&t);
        assert_false(throttle_update(&t, 200, 900));
        /* a foreign count beyond all sense turns nothing on */
        assert_false(throttle_update(&t, 300, UINT64_MAX));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_hysteresis),
                cmocka_unit_test(test_counts_anew),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
