/* SPDX-License-Identifier: MIT */
/*
 * A cursor over JSON text; see json_scan.h.  Runs in azpard and azparctl.
 *
 * Every function takes its bytes one after the other and refuses at the first wrong one, never later: a text
 * that goes on rightly up to its end "ends", whatever might have followed.
 */
#include "common/base/json_scan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static_assert(JSON_SCAN_DEPTH_MAX <= 64, "one bit of a word for each level");

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

int json_scan_refuse(const struct json_scan *s, const char *at, const char *expected) {
        uint64_t offset = s->offset + (uint64_t) (at - s->text);
        unsigned char c = at < s->end ? (unsigned char) *at : 0;
        char place[64] = "", found[24] = "";

        if (s->field[0] && s->index >= 0)
                (void) snprintf(place, sizeof(place), "%s[%" PRId64 "] at ", s->field, s->index);
        else if (s->field[0])
                (void) snprintf(place, sizeof(place), "%s at ", s->field);
        if (at < s->end && c > ' ' && c < 0x7f)
                (void) snprintf(found, sizeof(found), ", found '%c'", c);
        else if (at < s->end)
                (void) snprintf(found, sizeof(found), ", found byte 0x%02x", c);
        return error_set(s->error, -EBADMSG, "%sbyte %" PRIu64 ": %s expected%s", place, offset, expected,
                         found);
}

/* Strings */

struct bytes {
        char *to;
        size_t n, size;
};

static void put(struct bytes *b, unsigned char c) {
        if (b->n < b->size)
                b->to[b->n] = (char) c;
        b->n++;
}

static void put_utf8(struct bytes *b, uint32_t c) {
        if (c < 0x80) {
                put(b, (unsigned char) c);
                return;
        }
        if (c < 0x800)
                put(b, (unsigned char) (0xc0 | c >> 6));
        else {
                if (c < 0x10000)
                        put(b, (unsigned char) (0xe0 | c >> 12));
                else {
                        put(b, (unsigned char) (0xf0 | c >> 18));
                        put(b, (unsigned char) (0x80 | (c >> 12 & 0x3f)));
                }
                put(b, (unsigned char) (0x80 | (c >> 6 & 0x3f)));
        }
        put(b, (unsigned char) (0x80 | (c & 0x3f)));
}

/*
 * One character of two bytes or more.  The lead byte says how many follow and what the first of them may be,
 * which rules out longer forms than needed, surrogates, and what lies beyond U+10FFFF (RFC 3629, section 4).
 */
static int take_utf8(struct json_scan *s, struct bytes *b) {
        unsigned char lead = (unsigned char) *s->at, low = 0x80, high = 0xbf;
        unsigned n_follow;

        if (lead < 0xc2 || lead > 0xf4)
                return json_scan_refuse(s, s->at, "UTF-8");
        n_follow = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        if (lead == 0xe0)
                low = 0xa0;
        if (lead == 0xed)
                high = 0x9f;
        if (lead == 0xf0)
                low = 0x90;
        if (lead == 0xf4)
                high = 0x8f;
        put(b, lead);
        s->at++;
        for (; n_follow > 0; n_follow--, s->at++, low = 0x80, high = 0xbf) {
                unsigned char c;

                if (s->at == s->end)
                        return JSON_SCAN_E_ENDS;
                c = (unsigned char) *s->at;
                if (c < low || c > high)
                        return json_scan_refuse(s, s->at, "UTF-8");
                put(b, c);
        }
        return 0;
}

static int take_hex4(struct json_scan *s, uint32_t *ret) {
        uint32_t x = 0;

        for (unsigned i = 0; i < 4; i++, s->at++) {
                char c;

                if (s->at == s->end)
                        return JSON_SCAN_E_ENDS;
                c = *s->at;
                if (!is_digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'f'))
                        return json_scan_refuse(s, s->at, "a hexadecimal digit");
                x = x << 4 | (uint32_t) (is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
        }
        *ret = x;
        return 0;
}

/* What follows "\u". */
static int take_unicode(struct json_scan *s, struct bytes *b) {
        const char *begin = s->at;
        uint32_t c, low;
        int r;

        r = take_hex4(s, &c);
        if (r != 0)
                return r;
        if (c >= 0xdc00 && c <= 0xdfff)
                return json_scan_refuse(s, begin, "the first half of a surrogate pair");
        if (c >= 0xd800 && c <= 0xdbff) {
                for (const char *want = "\\u"; *want; want++, s->at++) {
                        if (s->at == s->end)
                                return JSON_SCAN_E_ENDS;
                        if (*s->at != *want)
                                return json_scan_refuse(s, s->at, "the second half of a surrogate pair");
                }
                begin = s->at;
                r = take_hex4(s, &low);
                if (r != 0)
                        return r;
                if (low < 0xdc00 || low > 0xdfff)
                        return json_scan_refuse(s, begin, "the second half of a surrogate pair");
                c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
        }
        put_utf8(b, c);
        return 0;
}

/* What follows the backslash. */
static int take_escape(struct json_scan *s, struct bytes *b) {
        static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char *letter;

        if (s->at == s->end)
                return JSON_SCAN_E_ENDS;
        if (*s->at == 'u') {
                s->at++;
                return take_unicode(s, b);
        }
        letter = *s->at ? strchr(letters, *s->at) : NULL;
        if (!letter)
                return json_scan_refuse(s, s->at, "an escape");
        put(b, (unsigned char) meant[letter - letters]);
        s->at++;
        return 0;
}

int json_scan_string(struct json_scan *s, char *ret, size_t size, size_t *ret_n) {
        struct bytes b = { .to = ret, .n = 0, .size = size };
        int r = json_scan_space(s);

        s->value = s->at;
        if (r == 0)
                r = json_scan_byte(s, '"', "'\"'");
        while (r == 0) {
                unsigned char c;

                if (s->at == s->end)
                        return JSON_SCAN_E_ENDS;
                c = (unsigned char) *s->at;
                if (c == '"') {
                        s->at++;
                        *ret_n = b.n;
                        return 0;
                }
                if (c < ' ')
                        return json_scan_refuse(s, s->at, "an escape of the control character");
                if (c >= 0x80) {
                        r = take_utf8(s, &b);
                        continue;
                }
                s->at++;
                if (c == '\\')
                        r = take_escape(s, &b);
                else
                        put(&b, c);
        }
        return r;
}

/* Numbers */

/* Digits of a number, collected on the way. */
struct digits {
        uint64_t value;
        unsigned n; /* significant ones */
        int64_t exponent;
};

static void add_digit(struct digits *d, char c, bool is_fraction) {
        if (d->n < 19) {
                d->value = d->value * 10 + (uint64_t) (c - '0');
                d->n += d->value > 0;
                d->exponent -= is_fraction;
        } else {
                d->n += d->n < 20;
                d->exponent += !is_fraction;
        }
}

/* One digit at least. */
static int take_digits(struct json_scan *s, struct digits *d, bool is_fraction) {
        if (s->at == s->end)
                return JSON_SCAN_E_ENDS;
        if (!is_digit(*s->at))
                return json_scan_refuse(s, s->at, "a digit");
        for (; s->at < s->end && is_digit(*s->at); s->at++)
                add_digit(d, *s->at, is_fraction);
        return 0;
}

/* What follows "e". */
static int take_exponent(struct json_scan *s, struct digits *d) {
        bool is_negative;
        int64_t x = 0;

        if (s->at == s->end)
                return JSON_SCAN_E_ENDS;
        is_negative = *s->at == '-';
        if (*s->at == '-' || *s->at == '+')
                s->at++;
        if (s->at == s->end)
                return JSON_SCAN_E_ENDS;
        if (!is_digit(*s->at))
                return json_scan_refuse(s, s->at, "a digit");
        for (; s->at < s->end && is_digit(*s->at); s->at++)
                if (x < INT64_C(1) << 50)
                        x = x * 10 + (*s->at - '0');
        d->exponent += is_negative ? -x : x;
        return 0;
}

int json_scan_number(struct json_scan *s, struct decimal *ret) {
        struct digits d = { 0 };
        const char *begin;
        bool is_negative;
        int r;

        r = json_scan_space(s);
        if (r != 0)
                return r;
        s->value = s->at;
        is_negative = *s->at == '-';
        s->at += is_negative;
        begin = s->at;
        if (s->at == s->end)
                return JSON_SCAN_E_ENDS;
        if (!is_digit(*s->at))
                return json_scan_refuse(s, s->at, is_negative ? "a digit" : "a number");
        if (*s->at == '0') {
                s->at++;
                if (s->at < s->end && is_digit(*s->at))
                        return json_scan_refuse(s, s->at, "no digit after a leading 0");
        } else
                r = take_digits(s, &d, false);
        if (r == 0 && s->at < s->end && *s->at == '.') {
                s->at++;
                r = take_digits(s, &d, true);
        }
        if (r == 0 && s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
                s->at++;
                r = take_exponent(s, &d);
        }
        if (r != 0)
                return r;
        if (s->at == s->end)
                return JSON_SCAN_E_ENDS; /* it may go on */
        *ret = (struct decimal){
                .text = begin,
                .n_text = (size_t) (s->at - begin),
                .digits = d.value,
                .exponent = (int32_t) MAX(INT64_C(-1000000), MIN(INT64_C(1000000), d.exponent)),
                .is_negative = is_negative,
                .is_long = d.n > 19,
        };
        return 0;
}

int json_scan_f64(struct json_scan *s, double *ret) {
        struct decimal d;
        int r = json_scan_number(s, &d);

        if (r != 0)
                return r;
        r = decimal_to_double(&d, ret);
        if (r == DECIMAL_E_LARGE)
                return json_scan_refuse(s, d.text, "a number below 1.8e308");
        if (r == DECIMAL_E_LONG)
                return json_scan_refuse(s, d.text, "a number of at most 1024 bytes");
        return 0;
}

int json_scan_u64(struct json_scan *s, uint64_t max, uint64_t *ret) {
        const char *begin;
        char expected[64];
        uint64_t x = 0;
        int r;

        r = json_scan_space(s);
        if (r != 0)
                return r;
        s->value = begin = s->at;
        if (!is_digit(*begin))
                return json_scan_refuse(s, begin, "an unsigned integer");
        for (; s->at < s->end && is_digit(*s->at); s->at++) {
                unsigned digit = (unsigned) (*s->at - '0');

                if (s->at == begin + 1 && *begin == '0')
                        return json_scan_refuse(s, s->at, "no digit after a leading 0");
                if (x > max / 10 || x * 10 > max - digit || digit > max) {
                        (void) snprintf(expected, sizeof(expected), "at most %" PRIu64, max);
                        return json_scan_refuse(s, begin, expected);
                }
                x = x * 10 + digit;
        }
        if (s->at == s->end)
                return JSON_SCAN_E_ENDS;
        if (*s->at == '.' || *s->at == 'e' || *s->at == 'E')
                return json_scan_refuse(s, s->at, "an integer in digits only");
        *ret = x;
        return 0;
}

/* Any value */

static int take_word(struct json_scan *s, const char *word) {
        for (; *word; word++, s->at++) {
                if (s->at == s->end)
                        return JSON_SCAN_E_ENDS;
                if (*s->at != *word)
                        return json_scan_refuse(s, s->at, "a value");
        }
        return 0;
}

/* What is neither array nor object; there is a byte. */
static int take_scalar(struct json_scan *s) {
        struct decimal number;
        size_t n;

        switch (*s->at) {
        case '"':
                return json_scan_string(s, NULL, 0, &n);
        case 't':
                return take_word(s, "true");
        case 'f':
                return take_word(s, "false");
        case 'n':
                return take_word(s, "null");
        case '-':
        case '0' ... '9':
                return json_scan_number(s, &number);
        default:
                return json_scan_refuse(s, s->at, "a value");
        }
}

static int take_key(struct json_scan *s) {
        size_t n;
        int r = json_scan_string(s, NULL, 0, &n);

        return r != 0 ? r : json_scan_byte(s, ':', "':'");
}

/* Arrays and objects that are open: bit 0 of are_objects says what the innermost one is. */
struct nest {
        unsigned depth;
        uint64_t are_objects;
};

/* Behind '[' or '{': up to its first value, or, if it is empty, over it. */
static int enter(struct json_scan *s, struct nest *nest, bool is_object, bool *ret_is_empty) {
        int r;

        if (nest->depth == JSON_SCAN_DEPTH_MAX)
                return json_scan_refuse(s, s->at - 1, "a nesting of at most 64");
        r = json_scan_is_empty(s, is_object ? '}' : ']', ret_is_empty);
        if (r != 0 || *ret_is_empty)
                return r;
        nest->depth++;
        nest->are_objects = nest->are_objects << 1 | is_object;
        return is_object ? take_key(s) : 0;
}

/* Behind a value: up to the next one, or out of all that is open. */
static int leave(struct json_scan *s, struct nest *nest) {
        bool is_more = false;
        int r = 0;

        while (r == 0 && nest->depth > 0 && !is_more) {
                bool is_object = nest->are_objects & 1;

                r = json_scan_is_more(s, is_object ? '}' : ']', &is_more);
                if (r == 0 && is_more)
                        return is_object ? take_key(s) : 0;
                nest->depth--;
                nest->are_objects >>= 1;
        }
        return r;
}

int json_scan_value(struct json_scan *s) {
        struct nest nest = { 0 };
        int r;

        do {
                bool is_complete = true;

                r = json_scan_space(s);
                if (r != 0)
                        return r;
                if (*s->at == '[' || *s->at == '{') {
                        bool is_object = *s->at++ == '{';

                        r = enter(s, &nest, is_object, &is_complete);
                } else
                        r = take_scalar(s);
                if (r == 0 && is_complete)
                        r = leave(s, &nest);
        } while (r == 0 && nest.depth > 0);
        return r;
}
