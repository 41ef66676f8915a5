/* SPDX-License-Identifier: MIT */
/* Usage: a process's memory as the kernel counts it. That azpard looks at its children's is seen end to end.
 */
#include <errno.h>
#include <fcntl.h>
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

/* Of this process. */
static void read_memory(struct usage_memory *ret) {
        char text[USAGE_TEXT_MAX + 1];
        ssize_t n;
        int fd;

        fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        n = read(fd, text, USAGE_TEXT_MAX);
        assert_true(n > 0 && n < USAGE_TEXT_MAX); /* all of it at once */
        text[n] = 0;
        assert_int_equal(usage_parse_memory(text, ret), 0);
        (void) close(fd);
}

static void test_memory(void **state) {
        struct usage_memory before, after;
        void *p;

        (void) state;
        read_memory(&before);
        assert_true(before.pss_bytes > 0 && before.private_dirty_bytes > 0);
        p = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(p != MAP_FAILED);
        (void) memset(p, 1, BLOCK);
        read_memory(&after);
        assert_true(after.private_dirty_bytes >= before.private_dirty_bytes + BLOCK);
        /* less than that where another process has come to share our libraries meanwhile */
        assert_true(after.pss_bytes >= before.pss_bytes + BLOCK / 2);
        (void) munmap(p, BLOCK);
}

static void test_other_text(void **state) {
        static const char *const texts[] = {
                "", /* of a process that has ended */
                "56e0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 4 kB\nPss: 3 kB\n",
                "56e0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 4 kB\nPss_Dirty: 3 kB\nPrivate_Dirty: 2 kB\n",
                "56e0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 4 kB\nPss: much\nPrivate_Dirty: 2 kB\n",
        };
        struct usage_memory m = { .pss_bytes = 1, .private_dirty_bytes = 2 };

        (void) state;
        for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
                assert_int_equal(usage_parse_memory(texts[i], &m), -EPROTO);
        assert_int_equal(m.pss_bytes, 1);
        assert_int_equal(m.private_dirty_bytes, 2);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_memory),
                cmocka_unit_test(test_other_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
