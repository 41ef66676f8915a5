/* SPDX-License-Identifier: MIT */
/* The cursor over JSON: what it takes, what it refuses and where, and that pieces make no difference. */
#include "common/base/json_scan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Pass over the value in the first @n bytes, in a block without a byte to spare. Return: result, and bytes
 * used. */
static int pass(const char *text, size_t n, size_t *ret_used, struct error *e) {
        cleanup_(freep) char *exact = malloc(n > 0 ? n : 1);
        struct json_scan s = { .at = exact,
                               .end = exact + n,
                               .text = exact,
                               .offset = 1000,
                               .field = "",
                               .index = -1,
                               .error = e };
        int r;

        memcpy(exact, text, n);
        r = json_scan_value(&s);
        *ret_used = (size_t) (s.at - s.text);
        return r;
}

/* @text is a value and nothing else; every piece of it may go on. */
static void assert_value(const char *text) {
        size_t n = strlen(text), used;
        struct error e = ERROR_INIT;

        if (pass(text, n, &used, &e) < 0)
                fail_msg("%s: %s", text, e.text);
        assert_int_equal(used, n);
        for (size_t cut = 0; cut < n; cut++)
                assert_int_equal(pass(text, cut, &used, &e), JSON_SCAN_E_ENDS);
}

/* @text is refused at byte @at, and as soon as that is there. */
static void assert_refused(const char *text, size_t n, size_t at, const char *expected) {
        struct error e = ERROR_INIT;
        char place[32];
        size_t used;

        (void) snprintf(place, sizeof(place), "byte %zu:", 1000 + at);
        for (size_t cut = 0; cut <= n; cut++) {
                int r = pass(text, cut, &used, &e);

                if (r != (cut > at ? -EBADMSG : JSON_SCAN_E_ENDS))
                        fail_msg("%.*s gives %d", (int) cut, text, r);
                if (cut > at && (!strstr(e.text, place) || !strstr(e.text, expected)))
                        fail_msg("%.*s: %s", (int) cut, text, e.text);
        }
}

static void passes_over_values(void **state) {
        static const char *const values[] = {
                "\"\"",
                "\"a\\\"b\"",
                "\"\\u00e9\\ud83d\\ude00\\/\"",
                "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbf\xf4\x8f\xbf\xbf\"",
                "true",
                "false",
                "null",
                "[]",
                "[ ]",
                "{}",
                "{\t}",
                "[1,2 , 3]",
                "[[],{},[{}],\"\"]",
                " {\"a\":1,\"a\":[true,null]}",
                "{\"\":{\"\":{}},\"b\":[0,-1.5e+3]}",
                "[-0,0.0,1E2,1e-2,123456789012345678901234567890,1e999]"
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(values); i++)
                assert_value(values[i]);
}

static void refuses_at_the_first_wrong_byte(void **state) {
        static const struct {
                const char *text;
                size_t at;
                const char *expected;
        } cases[] = {
                { "}", 0, "a value" },
                { "\xef\xbb\xbf[]", 0, "a value" },
                { "'a'", 0, "a value" },
                { "NaN", 0, "a value" },
                { "nil", 1, "a value" },
                { "truth", 3, "a value" },
                { "[1 2]", 3, "',' or ']'" },
                { "[1,]", 3, "a value" },
                { "[,1]", 1, "a value" },
                { "[1}", 2, "',' or ']'" },
                { "{]", 1, "'\"'" },
                { "{1:2}", 1, "'\"'" },
                { "{\"a\",1}", 4, "':'" },
                { "{\"a\":1,}", 7, "'\"'" },
                { "{\"a\":1]", 6, "',' or '}'" },
                { "[01]", 2, "leading 0" },
                { "[-]", 2, "a digit" },
                { "[+1]", 1, "a value" },
                { "[.5]", 1, "a value" },
                { "[1.]", 3, "a digit" },
                { "[1.e2]", 3, "a digit" },
                { "[1e]", 3, "a digit" },
                { "[1e+]", 4, "a digit" },
                { "[1e1.5]", 4, "',' or ']'" },
                { "[0x1]", 2, "',' or ']'" },
                { "[-Infinity]", 2, "a digit" },
                { "\"\t\"", 1, "control character" },
                { "\"\n", 1, "found byte 0x0a" },
                { "\"\\x\"", 2, "an escape" },
                { "\"\\u12g4\"", 5, "hexadecimal" },
                { "\"\\ud800\"", 7, "second half" },
                { "\"\\ud800\\n\"", 8, "second half" },
                { "\"\x80\"", 1, "UTF-8" },
                { "\"\xc0\x80\"", 1, "UTF-8" },
                { "\"\xc3\"", 2, "UTF-8" },
                { "\"\xe0\x9f\xbf\"", 2, "UTF-8" },
                { "\"\xed\xa0\x80\"", 2, "UTF-8" },
                { "\"\xf0\x8f\xbf\xbf\"", 2, "UTF-8" },
                { "\"\xf4\x90\x80\x80\"", 2, "UTF-8" },
                { "\"\xf5\x80\x80\x80\"", 1, "UTF-8" },
                { "\"\xe2\x82\xc3\"", 3, "UTF-8" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                assert_refused(cases[i].text, strlen(cases[i].text), cases[i].at, cases[i].expected);
        assert_refused("\"\0\"", 3, 1, "found byte 0x00");
        assert_refused("\"\\\0\"", 4, 2, "an escape");
}

/* Halves of a pair are refused where the half begins, when all of it is there. */
static void refuses_half_pairs(void **state) {
        struct error e = ERROR_INIT;
        size_t used;

        (void) state;
        assert_int_equal(pass("\"\\udc00\"", 8, &used, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "byte 1003: the first half"));
        assert_int_equal(pass("\"\\ud800\\ud800\"", 14, &used, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "byte 1009: the second half"));
}

static void nests_to_its_limit(void **state) {
        char text[2 * JSON_SCAN_DEPTH_MAX + 1];

        (void) state;
        memset(text, '[', JSON_SCAN_DEPTH_MAX);
        memset(text + JSON_SCAN_DEPTH_MAX, ']', JSON_SCAN_DEPTH_MAX);
        text[2 * JSON_SCAN_DEPTH_MAX] = '\0';
        assert_value(text);
        memset(text, '[', JSON_SCAN_DEPTH_MAX + 1);
        assert_refused(text, JSON_SCAN_DEPTH_MAX + 1, JSON_SCAN_DEPTH_MAX, "a nesting of at most 64");
}

/* A level that was remembered wrongly would ask for the other bracket. */
static void nests_by_turns(void **state) {
        char text[8 * JSON_SCAN_DEPTH_MAX];
        size_t n = 0;

        (void) state;
        for (size_t i = 0; i < JSON_SCAN_DEPTH_MAX / 2; i++, n += 5)
                memcpy(text + n, "[{\"\":", 5);
        text[n++] = '0';
        for (size_t i = 0; i < JSON_SCAN_DEPTH_MAX / 2; i++, n += 2)
                memcpy(text + n, "}]", 2);
        text[n] = '\0';
        assert_value(text);
        text[n - 2] = ']';
        assert_refused(text, n, n - 2, "',' or '}'");
}

static struct json_scan scan(const char *text) {
        return (struct json_scan){
                .at = text, .end = text + strlen(text), .text = text, .field = "x", .index = 7
        };
}

static void undoes_escapes(void **state) {
        static const char want[] =
                "a\"\\/\b\f\n\r\t\0\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf";
        struct json_scan s = scan(
                " \"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u007F\\u00e9\\u20AC\\ud83d\\uDE00\\udbff\\udfff\"");
        char got[64], few[4] = { 0 };
        size_t n;

        (void) state;
        assert_int_equal(json_scan_string(&s, got, sizeof(got), &n), 0);
        assert_int_equal(n, sizeof(want) - 1);
        assert_memory_equal(got, want, n);
        assert_ptr_equal(s.at, s.end);
        /* too long: cut, but its length is told */
        s = scan("\"abcdef\"");
        assert_int_equal(json_scan_string(&s, few, 3, &n), 0);
        assert_int_equal(n, 6);
        assert_memory_equal(few, "abc\0", 4);
}

static void reads_integers(void **state) {
        static const struct {
                const char *text;
                uint64_t max;
                int64_t want; /* -1: refused */
        } cases[] = {
                { "0,", 0, 0 },
                { "1,", 0, -1 },
                { " 65535,", 65535, 65535 },
                { "65536,", 65535, -1 },
                { "655350,", 65535, -1 },
                { "9223372036854775807,", INT64_MAX, INT64_MAX },
                { "9223372036854775808,", INT64_MAX, -1 },
                { "18446744073709551616,", UINT64_MAX, -1 },
                { "99999999999999999999,", UINT64_MAX, -1 },
                { "01,", 100, -1 },
                { "00,", 100, -1 },
                { "-1,", 100, -1 },
                { "-0,", 100, -1 },
                { "1.0,", 100, -1 },
                { "1e1,", 100, -1 },
                { "\"1\",", 100, -1 },
        };
        struct json_scan s;
        uint64_t x;

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                s = scan(cases[i].text);
                assert_int_equal(json_scan_u64(&s, cases[i].max, &x), cases[i].want < 0 ? -EBADMSG : 0);
                if (cases[i].want >= 0)
                        assert_int_equal(x, cases[i].want);
        }
        s = scan("18446744073709551615,");
        assert_int_equal(json_scan_u64(&s, UINT64_MAX, &x), 0);
        assert_true(x == UINT64_MAX);
        s = scan("12");
        assert_int_equal(json_scan_u64(&s, 100, &x), JSON_SCAN_E_ENDS);
}

static void names_field_and_element(void **state) {
        struct error e = ERROR_INIT;
        struct json_scan s = scan("   ?");

        (void) state;
        s.error = &e;
        assert_int_equal(json_scan_value(&s), -EBADMSG);
        assert_string_equal(e.text, "x[7] at byte 3: a value expected, found '?'");
        s.index = -1;
        assert_int_equal(json_scan_value(&s), -EBADMSG);
        assert_string_equal(e.text, "x at byte 3: a value expected, found '?'");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(passes_over_values), cmocka_unit_test(refuses_at_the_first_wrong_byte),
                cmocka_unit_test(refuses_half_pairs), cmocka_unit_test(nests_to_its_limit),
                cmocka_unit_test(nests_by_turns),     cmocka_unit_test(undoes_escapes),
                cmocka_unit_test(reads_integers),     cmocka_unit_test(names_field_and_element),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
