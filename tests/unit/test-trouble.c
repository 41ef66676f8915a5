/* SPDX-License-Identifier: MIT */
/* Trouble: told at once and once, again only for another reason and not too often, over only after a while.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "common/base/log.h"

static enum log_event last_event;
static unsigned n_told;

#define log_event(event, fields, ...)                                                                        \
        (n_told++, last_event = (event), (log_event) (event, fields, __VA_ARGS__))
#include "daemon/trouble.c"

/* One tick of a second. Return: how many lines it gave. */
static unsigned tick(struct trouble *t, uint64_t *now_ns, const char *reason) {
        unsigned before = n_told;

        *now_ns += NS_PER_S;
        trouble_update(t, reason, *now_ns);
        return n_told - before;
}

static unsigned ticks(struct trouble *t, uint64_t *now_ns, unsigned n, const char *reason) {
        unsigned before = n_told;

        while (n-- > 0)
                (void) tick(t, now_ns, reason);
        return n_told - before;
}

static void test_once(void **state) {
        struct trouble t = { .is_on = false };
        uint64_t now_ns = 0;

        (void) state;
        assert_int_equal(ticks(&t, &now_ns, 1000, ""), 0);
        assert_int_equal(tick(&t, &now_ns, "disk full"), 1);
        assert_int_equal(last_event, LOG_EVENT_DEGRADED);
        assert_int_equal(ticks(&t, &now_ns, 1000, "disk full"), 0);
        assert_int_equal(ticks(&t, &now_ns, 10, ""), 0);
        assert_int_equal(tick(&t, &now_ns, ""), 1);
        assert_int_equal(last_event, LOG_EVENT_RECOVERED);
        assert_int_equal(ticks(&t, &now_ns, 1000, ""), 0);
        assert_int_equal(tick(&t, &now_ns, "disk full"), 1); /* another one, though the reason is the same */
        assert_int_equal(last_event, LOG_EVENT_DEGRADED);
}

/* It comes and goes: one trouble. */
static void test_flapping(void **state) {
        struct trouble t = { .is_on = false };
        uint64_t now_ns = 0;

        (void) state;
        assert_int_equal(tick(&t, &now_ns, "trainer is being restarted"), 1);
        for (int i = 0; i < 100; i++) {
                assert_int_equal(ticks(&t, &now_ns, 9, ""), 0);
                assert_int_equal(tick(&t, &now_ns, "trainer is being restarted"), 0);
        }
        assert_int_equal(ticks(&t, &now_ns, 100, ""), 1);
        assert_int_equal(last_event, LOG_EVENT_RECOVERED);
}

static void test_other_reason(void **state) {
        struct trouble t = { .is_on = false };
        uint64_t now_ns = 0;

        (void) state;
        assert_int_equal(tick(&t, &now_ns, "1 of 4 workers parked"), 1);
        assert_int_equal(ticks(&t, &now_ns, 59, "2 of 4 workers parked"), 0);
        assert_int_equal(tick(&t, &now_ns, "2 of 4 workers parked"), 1);
        assert_int_equal(ticks(&t, &now_ns, 1000, "2 of 4 workers parked"), 0);
        /* in turn: once a minute at most */
        for (int i = 0; i < 300; i++) {
                (void) tick(&t, &now_ns, "a");
                (void) tick(&t, &now_ns, "b");
        }
        assert_in_range(n_told, 10, 20);
}

static int forget(void **state) {
        (void) state;
        n_told = 0;
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_once, forget),
                cmocka_unit_test_setup(test_flapping, forget),
                cmocka_unit_test_setup(test_other_reason, forget),
        };

        log_open("test-trouble", LOG_LEVEL_ERROR);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
