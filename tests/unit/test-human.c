/* SPDX-License-Identifier: MIT */
/* Numbers as people read them: units, rounding at their borders, what is no number. */
#include "daemon/ctl/human.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/base/attr.h"

struct row {
        double number;
        const char *text;
};

static void test_number(void **state) {
        static const struct row rows[] = {
                { 0, "0" },          { 7, "7" },         { 999, "999" },      { 999.4, "999" },
                { 999.5, "1.00k" },  { 1000, "1k" },     { 1234, "1.23k" },   { 12345, "12.3k" },
                { 99949, "99.9k" },  { 99950, "100k" },  { 123456, "123k" },  { 999499, "999k" },
                { 999500, "1.00M" }, { 1.2e9, "1.20G" }, { 0.1234, "0.123" }, { 0.9996, "1.00" },
                { 9.994, "9.99" },   { 9.996, "10.0" },  { 12.34, "12.3" },   { 99.96, "100" },
                { -1234, "-1.23k" }, { 1e300, "a lot" }, { 5e15, "5P" },      { 1e-9, "0.000" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(rows); i++)
                assert_string_equal(human_number(rows[i].number).text, rows[i].text);
        assert_string_equal(human_number(NAN).text, "-");
        assert_string_equal(human_number(INFINITY).text, "-");
}

static void test_bytes(void **state) {
        static const struct row rows[] = {
                { 0, "0 B" },           { 999, "999 B" },       { 1000, "1 kB" },
                { 3400000, "3.40 MB" }, { 34.56e9, "34.6 GB" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(rows); i++)
                assert_string_equal(human_bytes(rows[i].number).text, rows[i].text);
        assert_string_equal(human_bytes(NAN).text, "-");
}

static void test_duration(void **state) {
        static const struct row rows[] = {
                { 0, "0 s" },
                { 0.00085, "0.850 ms" },
                { 0.0123, "12.3 ms" },
                { 0.9991, "999 ms" },
                { 0.9996, "1.00 s" },
                { 4.123, "4.12 s" },
                { 42.9, "42 s" },
                { 59.999, "59 s" },
                { 60, "1 min 0 s" },
                { 192, "3 min 12 s" },
                { 3599.9, "59 min 59 s" },
                { 3600, "1 h 0 min" },
                { 18180, "5 h 3 min" },
                { 86399, "23 h 59 min" },
                { 187200, "2 d 4 h" },
                { 1e300, "ages" },
                { -1, "-" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(rows); i++)
                assert_string_equal(human_duration(rows[i].number).text, rows[i].text);
        assert_string_equal(human_duration(NAN).text, "-");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_number),
                cmocka_unit_test(test_bytes),
                cmocka_unit_test(test_duration),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
