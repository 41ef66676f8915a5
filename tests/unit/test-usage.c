/* SPDX-License-Identifier: MIT */
/* Usage: a process's memory as the kernel counts it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/usage.h"

#define BLOCK (16u << 20)

static void test_memory(void **state) {
        struct usage_memory before, after;
        void *p;

        (void) state;
        assert_int_equal(usage_read_memory(getpid(), &before), 0);
        assert_true(before.pss_bytes > 0 && before.private_dirty_bytes > 0);
        p = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(p != MAP_FAILED);
        (void) memset(p, 1, BLOCK);
        assert_int_equal(usage_read_memory(getpid(), &after), 0);
        assert_true(after.private_dirty_bytes >= before.private_dirty_bytes + BLOCK);
        /* less than that where another process has come to share our libraries meanwhile */
        assert_true(after.pss_bytes >= before.pss_bytes + BLOCK / 2);
        (void) munmap(p, BLOCK);
}

static void test_no_such_process(void **state) {
        struct usage_memory m;

        (void) state;
        assert_int_equal(usage_read_memory(0, &m), -ENOENT);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_memory),
                cmocka_unit_test(test_no_such_process),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
