/* SPDX-License-Identifier: MIT */
/* The trainer's heartbeat: it beats by itself, and its patience fits every legal step. */
#include "daemon/trainer/heart.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void wait_for_beats(const struct segment_trainer *page, int n) {
        for (; n > 0; n--) {
                uint64_t last = page->heartbeat_ns;

                while (page->heartbeat_ns == last)
                        (void) sched_yield();
        }
}

static void test_beats(void **state) {
        static struct segment_trainer page;
        struct error e = ERROR_INIT;
        struct heart *h = NULL;
        uint64_t begin = clock_now_ns(), last;

        (void) state;
        assert_int_equal(heart_new(&page, &h, &e), 0);
        wait_for_beats(&page, 2); /* the main thread says nothing, as while libtorch is loaded */
        assert_true(page.heartbeat_ns > begin && page.heartbeat_ns <= clock_now_ns());
        heart_progress(h);
        heart_step(h);
        wait_for_beats(&page, 2);
        heart_free(h);
        last = page.heartbeat_ns;
        heart_free(NULL);
        assert_int_equal(page.heartbeat_ns, last);
}

static void test_patience(void **state) {
        const uint64_t minute = 60 * NS_PER_S;

        (void) state;
        assert_int_equal(heart_patience_ns(0), HEART_MAX_NS); /* the first step, and loading before it */
        assert_int_equal(heart_patience_ns(1), HEART_MIN_NS); /* short steps say nothing of a slow disk */
        assert_int_equal(heart_patience_ns(35 * minute), HEART_STEPS * 35 * minute);
        assert_int_equal(heart_patience_ns(10 * 60 * minute), HEART_MAX_NS);
        assert_int_equal(heart_patience_ns(UINT64_MAX), HEART_MAX_NS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_beats),
                cmocka_unit_test(test_patience),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
