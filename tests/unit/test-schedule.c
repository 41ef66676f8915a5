/* SPDX-License-Identifier: MIT */
/* Learning rates at the places where their formulas have known values. */
#include "daemon/trainer/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct config config(unsigned schedule) {
        struct config c;

        config_defaults(&c);
        c.train_learning_rate = 0.02;
        c.train_schedule = schedule;
        c.train_schedule_steps = 1000;
        c.train_schedule_factor = 0.1;
        return c;
}

static void check(const struct config *c, uint64_t step, double expected) {
        if (fabs(schedule_rate(c, step) - expected) > 1e-12)
                fail_msg("step %u: %.15g, expected %.15g", (unsigned) step, schedule_rate(c, step), expected);
}

static void test_constant(void **state) {
        struct config c = config(SCHEDULE_CONSTANT);

        (void) state;
        check(&c, 0, 0.02);
        check(&c, 123456789, 0.02);
}

static void test_cosine(void **state) {
        struct config c = config(SCHEDULE_COSINE);

        (void) state;
        check(&c, 0, 0.02);
        check(&c, 500, 0.02 * (0.1 + 0.9 * 0.5));
        check(&c, 250, 0.02 * (0.1 + 0.9 * 0.5 * (1 + sqrt(0.5))));
        check(&c, 1000, 0.002);
        check(&c, 1000000, 0.002);
        for (uint64_t step = 0; step < 1000; step++)
                assert_true(schedule_rate(&c, step + 1) < schedule_rate(&c, step));
}

static void test_step(void **state) {
        struct config c = config(SCHEDULE_STEP);

        (void) state;
        check(&c, 0, 0.02);
        check(&c, 999, 0.02);
        check(&c, 1000, 0.002);
        check(&c, 2999, 0.0002);
}

static void test_warmup(void **state) {
        struct config c = config(SCHEDULE_CONSTANT);

        (void) state;
        c.train_warmup_steps = 10;
        check(&c, 0, 0.002);
        check(&c, 4, 0.01);
        check(&c, 9, 0.02);
        check(&c, 10, 0.02);
        c.train_schedule = SCHEDULE_STEP;
        c.train_schedule_steps = 5;
        check(&c, 6, 0.02 * 0.1 * 0.7);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_constant),
                cmocka_unit_test(test_cosine),
                cmocka_unit_test(test_step),
                cmocka_unit_test(test_warmup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
