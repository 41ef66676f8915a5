/* SPDX-License-Identifier: MIT */
/*
 * Decimal text: everything printed reads back, by strtod() too; nothing shorter would; everything read is
 * what strtod() reads; all of it in a locale with a decimal comma as well.
 */
#include "common/base/decimal.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/json_scan.h"
#include "common/base/rng.h"

#ifdef __SANITIZE_ADDRESS__
#define N_NUMBERS 50000u
#else
#define N_NUMBERS 500000u
#endif

/* The number at the start of @text, as azpar reads it. */
static int read_back(const char *text, double *ret) {
        char copy[4096];
        size_t n = strlen(text);
        struct json_scan s = { .at = copy, .end = copy + n + 1, .text = copy, .field = "", .index = -1 };

        assert_true(n + 1 < sizeof(copy));
        memcpy(copy, text, n);
        copy[n] = ','; /* a number is over where something else begins */
        return json_scan_f64(&s, ret);
}

static void assert_reads(const char *text, double want) {
        double got;

        if (read_back(text, &got) != 0 || memcmp(&got, &want, sizeof(got)) != 0)
                fail_msg("'%s' does not read as %a", text, want);
}

static size_t n_digits(const char *text) {
        size_t n = 0;

        for (; *text && *text != 'e'; text++)
                n += *text >= '0' && *text <= '9' && (n > 0 || *text != '0');
        return n;
}

/* Of the shortest text of any width that C's own functions print and read back. */
static size_t fewest_digits(double x, bool is_f32) {
        char text[64];
        int k = 1;

        for (; k < 17; k++) {
                (void) snprintf(text, sizeof(text), "%.*e", k - 1, x);
                if (is_f32 ? strtof(text, NULL) == (float) x : strtod(text, NULL) == x)
                        break;
        }
        return (size_t) k;
}

static void check_f64(double x) {
        char text[DECIMAL_PRINT_MAX + 1];
        size_t n = decimal_print_f64(x, text);

        assert_true(n < DECIMAL_PRINT_MAX);
        text[n] = '\0';
        assert_reads(text, x);
        if (strtod(text, NULL) != x)
                fail_msg("'%s' is not %a", text, x);
}

static void check_f32(float x) {
        char text[DECIMAL_PRINT_MAX + 1];
        size_t n = decimal_print_f32(x, text);
        double back;

        assert_true(n < DECIMAL_PRINT_MAX);
        text[n] = '\0';
        assert_int_equal(read_back(text, &back), 0);
        if (strtof(text, NULL) != x || (float) back != x || decimal_f32_as_f64(x) != back)
                fail_msg("'%s' is not %a", text, (double) x);
}

/* The least digits: integers keep their zeros and are left out. */
static void check_shortest(double x) {
        char text[DECIMAL_PRINT_MAX + 1];
        float f = (float) x;

        text[decimal_print_f64(x, text)] = '\0';
        if (x != floor(x) && n_digits(text) != fewest_digits(fabs(x), false))
                fail_msg("'%s' is not the shortest of %a", text, x);
        text[decimal_print_f32(f, text)] = '\0';
        if (f != floorf(f) && n_digits(text) > fewest_digits((double) fabsf(f), true))
                fail_msg("'%s' is not the shortest of %a", text, (double) f);
}

static double any_double(struct rng *r) {
        double x;

        do {
                uint64_t bits = rng_u64(r);

                memcpy(&x, &bits, sizeof(x));
        } while (!isfinite(x));
        return x;
}

static double any_share(struct rng *r) {
        uint32_t total = 1 + rng_below(r, 1u << (1 + rng_below(r, 25)));

        return (1 + rng_below(r, total)) / (double) total;
}

static void prints_what_reads_back(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 11, 0);
        for (unsigned i = 0; i < N_NUMBERS; i++) {
                double x = i % 4 == 0 ? any_double(&r) : any_share(&r);

                check_f64(x);
                if (fabs(x) < 3e38)
                        check_f32((float) x);
                if (i % 16 < 2)
                        check_shortest(fabs(x) < 3e38 && fabs(x) > 1e-37 ? x : 0.1);
        }
        /* next to powers of two and of ten, where steps change, and what has fewer bits */
        for (int e = -1074; e < 1023; e++)
                for (int k = -1; k <= 1; k++) {
                        double x = ldexp(1, e);

                        check_f64(k < 0 ? nextafter(x, 0) : k > 0 ? nextafter(x, INFINITY) : x);
                        if (e >= -149 && e < 127)
                                check_f32(k < 0   ? nextafterf((float) x, 0)
                                          : k > 0 ? nextafterf((float) x, INFINITY)
                                                  : (float) x);
                }
        for (int e = -30; e < 30; e++) {
                check_f64(pow(10, e));
                check_f64(nextafter(pow(10, e), 0));
                check_shortest(pow(10, e));
        }
}

static void prints_as_described(void **state) {
        static const struct {
                double x;
                const char *f64, *f32;
        } cases[] = {
                { 0.0, "0", "0" },
                { -0.0, "-0", "-0" },
                { 1.0, "1", "1" },
                { -1.0, "-1", "-1" },
                { 1000.0, "1000", "1000" },
                { 0.13, "0.13", "0.13" },
                { 0.5, "0.5", "0.5" },
                { 1.0 / 3, "0.3333333333333333", "0.33333334" },
                { 2.0 / 3, "0.6666666666666666", "0.6666667" },
                { 1e-5, "0.00001", "0.00001" },
                { 1e-6, "1e-6", "1e-6" },
                { 1.5e-7, "1.5e-7", "1.5e-7" },
                { -1.25e30, "-1.25e30", "-1.25e30" },
                { 999999.0, "999999", "999999" },
                { 1234567.0, "1234567", "1234567" },
                { 2.2250738585072014e-308, "2.2250738585072014e-308", "0" },
                { 1.7976931348623157e308, "1.7976931348623157e308", NULL },
        };
        char text[DECIMAL_PRINT_MAX + 1];

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                text[decimal_print_f64(cases[i].x, text)] = '\0';
                assert_string_equal(text, cases[i].f64);
                if (!cases[i].f32)
                        continue;
                text[decimal_print_f32((float) cases[i].x, text)] = '\0';
                assert_string_equal(text, cases[i].f32);
        }
        text[decimal_print_u64(UINT64_MAX, text)] = '\0';
        assert_string_equal(text, "18446744073709551615");
        text[decimal_print_u64(0, text)] = '\0';
        assert_string_equal(text, "0");
}

/* Random texts of up to 40 digits, of which strtod() knows the value. */
static void reads_as_strtod(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 12, 0);
        for (unsigned i = 0; i < N_NUMBERS; i++) {
                unsigned n_before = rng_below(&r, 3) ? 1 : 1 + rng_below(&r, 20),
                         n_behind = rng_below(&r, 21);
                char text[80];
                size_t n = 0;

                text[n++] = (char) (n_before == 1 ? '0' + rng_below(&r, 10) : '1' + rng_below(&r, 9));
                for (unsigned k = 1; k < n_before; k++)
                        text[n++] = (char) ('0' + rng_below(&r, 10));
                if (n_behind > 0)
                        text[n++] = '.';
                for (unsigned k = 0; k < n_behind; k++)
                        text[n++] = (char) ('0' + rng_below(&r, 10));
                text[n] = '\0';
                if (rng_below(&r, 3) == 0)
                        (void) sprintf(text + n, "%c%d", rng_below(&r, 2) ? 'e' : 'E',
                                       (int) rng_below(&r, 60) - 30);
                assert_reads(text, strtod(text, NULL));
        }
}

/* Exactly between two doubles, and the least bit beside that. */
static void reads_middles(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 13, 0);
        for (unsigned i = 0; i < 20000; i++) {
                /* 0.5 .. 1 in 53 bits, and half a step more: 54 digits behind the point */
                uint64_t mantissa = (UINT64_C(1) << 52 | rng_u64(&r) >> 12) * 2 + 1;
                unsigned e = 54 + rng_below(&r, 12);
                char text[128];
                size_t n;

                (void) snprintf(text, sizeof(text), "%.*Lf", (int) e,
                                ldexpl((long double) mantissa, -(int) e));
                assert_reads(text, strtod(text, NULL));
                n = strlen(text);
                memcpy(text + n, "0001", 5);
                assert_reads(text, strtod(text, NULL));
                text[n] = '\0';
                text[n - 1]--; /* it is a 5 */
                assert_reads(text, strtod(text, NULL));
        }
        assert_reads("9007199254740993", 9007199254740992.0);
        assert_reads("9007199254740993.0000000000000000000000000001", 9007199254740994.0);
        assert_reads("9007199254740995", 9007199254740996.0);
}

static void reads_extremes(void **state) {
        char text[3000];
        double x;

        (void) state;
        assert_reads("0e999999999999999999999", 0.0);
        assert_reads("-0.0", -0.0);
        assert_reads("1e-999999999999999999999", 0.0);
        assert_reads("1.7976931348623157e308", 1.7976931348623157e308);
        assert_reads("1.7976931348623158e308", 1.7976931348623157e308);
        assert_reads("5e-324", 5e-324);
        assert_reads("2e-324", 0.0);
        assert_int_equal(read_back("1.7976931348623159e308", &x), -EBADMSG);
        assert_int_equal(read_back("1e309", &x), -EBADMSG);
        assert_int_equal(read_back("-1e999999999999999999999", &x), -EBADMSG);
        /* many zeros and an exponent that undoes them */
        memset(text, '0', sizeof(text));
        memcpy(text, "0.", 2);
        memcpy(text + 2002, "1e2001", 7);
        assert_reads(text, 1.0);
        /* as long as may be, and a byte more */
        memset(text, '3', DECIMAL_TEXT_MAX + 1);
        memcpy(text, "0.", 2);
        text[DECIMAL_TEXT_MAX] = '\0';
        assert_reads(text, 1.0 / 3);
        text[DECIMAL_TEXT_MAX] = '3';
        text[DECIMAL_TEXT_MAX + 1] = '\0';
        assert_int_equal(read_back(text, &x), -EBADMSG);
}

/* All of the above with a decimal comma. */
static void any_locale(void **state) {
        char folder[] = "/tmp/azpar-test-XXXXXX", command[128], text[32];

        assert_non_null(mkdtemp(folder));
        (void) snprintf(command, sizeof(command), "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>/dev/null",
                        folder);
        (void) !system(command); /* it warns by its exit status */
        assert_int_equal(setenv("LOCPATH", folder, 1), 0);
        if (!setlocale(LC_ALL, "de_DE.UTF-8"))
                fail_msg("no German locale: is the package locales installed?");
        (void) snprintf(text, sizeof(text), "%.1f", 0.5);
        assert_string_equal(text, "0,5"); /* else this test would show nothing */
        prints_as_described(state);
        reads_extremes(state);
        check_f64(1e-300);
        check_f32(1e-30f);
        assert_reads("0.1234567890123456789012345", 0.12345678901234568);
        assert_non_null(setlocale(LC_ALL, "C"));
        (void) snprintf(command, sizeof(command), "rm -r %s", folder);
        assert_int_equal(system(command), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(prints_what_reads_back), cmocka_unit_test(prints_as_described),
                cmocka_unit_test(reads_as_strtod),        cmocka_unit_test(reads_middles),
                cmocka_unit_test(reads_extremes),         cmocka_unit_test(any_locale),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
