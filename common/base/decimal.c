/* SPDX-License-Identifier: MIT */
/*
 * Decimal text and binary numbers; see decimal.h.  Runs in every process.
 *
 * Reading: a number of at most 53 bits times or over a power of ten that a double holds exactly (10^22) is
 * one rounding, which the processor does right (Clinger, "How to read floating point numbers accurately",
 * 1990).  A quotient of up to 19 digits and 10^20 is worked out in 128 bits: its remainder says on which side
 * of the middle it lies.  That covers what a double between 1e-4 and 1 is printed as.  All else goes to
 * strtod(), as digits with an exponent: without a point there is nothing that a locale could change.
 *
 * Printing: x = M / 2^e.  With k digits, m = round(M 10^p / 2^e) in 128 bits, and m / 10^p reads back as x if
 * it is less than half a step from it: |m 2^e - M 10^p| < 10^p / 2, all integers.  k goes from what every
 * number of that precision can stand (15 or 6) to what tells all apart (17 or 9).  Grisu, Ryu and their
 * tables are faster yet, but this is 0.15 microseconds, in a page.  Where 128 bits do not suffice, snprintf()
 * gives the digits.
 */
#include "common/base/decimal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* pedantic compilers want to be told that this is meant */
__extension__ typedef unsigned __int128 u128;

static_assert(__DBL_MANT_DIG__ == 53 && __FLT_MANT_DIG__ == 24 && __FLT_EVAL_METHOD__ == 0,
              "IEEE 754, and no hidden bits in between");

#define MAX_EXACT_POWER 22 /* 10^22 is the last that a double holds exactly: 5^22 < 2^53 */
#define MAX_WIDE_POWER  20 /* u128 / 10^20 leaves 60 bits at least: 53, one to round by, and some */

static const double powers_f64[MAX_EXACT_POWER + 1] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                        1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                        1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

static const uint64_t powers_u64[20] = {
        UINT64_C(1),
        UINT64_C(10),
        UINT64_C(100),
        UINT64_C(1000),
        UINT64_C(10000),
        UINT64_C(100000),
        UINT64_C(1000000),
        UINT64_C(10000000),
        UINT64_C(100000000),
        UINT64_C(1000000000),
        UINT64_C(10000000000),
        UINT64_C(100000000000),
        UINT64_C(1000000000000),
        UINT64_C(10000000000000),
        UINT64_C(100000000000000),
        UINT64_C(1000000000000000),
        UINT64_C(10000000000000000),
        UINT64_C(100000000000000000),
        UINT64_C(1000000000000000000),
        UINT64_C(10000000000000000000),
};

/* 10^p, p at most 38. */
static u128 power_u128(unsigned p) {
        return p < 20 ? powers_u64[p] : (u128) powers_u64[19] * powers_u64[p - 19];
}

/* Reading */

/* @n / 10^@p, rounded to the nearest double; n > 0, p at most MAX_WIDE_POWER. */
static double divide_wide(uint64_t n, unsigned p) {
        unsigned shift = 64 + (unsigned) __builtin_clzll(n);
        u128 dividend = (u128) n << shift, divisor = power_u128(p), quotient = dividend / divisor;
        /* a double takes 53 bits of 64; the bit after all of them stands for what was left over */
        unsigned n_bits = quotient >> 64 ? 128 - (unsigned) __builtin_clzll((uint64_t) (quotient >> 64))
                                         : 64 - (unsigned) __builtin_clzll((uint64_t) quotient);
        unsigned drop = n_bits > 62 ? n_bits - 62 : 0;
        bool is_inexact = quotient * divisor != dividend || (quotient & (((u128) 1 << drop) - 1)) != 0;
        uint64_t rounded = (uint64_t) (quotient >> drop) << 1 | is_inexact;

        return ldexp((double) rounded, (int) drop - 1 - (int) shift);
}

/* The digits and the exponent for strtod(); see the file's head. */
static int read_long(const struct decimal *d, double *ret) {
        char copy[DECIMAL_TEXT_MAX + 32];
        int64_t exponent = d->exponent;
        size_t n = 0;

        if (d->is_long) {
                if (d->n_text > DECIMAL_TEXT_MAX)
                        return DECIMAL_E_LONG;
                /* d->exponent counts from the 19th digit on; here from the last one */
                for (size_t i = 0, n_digits = 0; i < d->n_text && (d->text[i] | 0x20) != 'e'; i++) {
                        if (d->text[i] == '.' || (n_digits == 0 && d->text[i] == '0'))
                                continue;
                        copy[n++] = d->text[i];
                        if (++n_digits > 19)
                                exponent--;
                }
        } else
                n = decimal_print_u64(d->digits, copy);
        (void) snprintf(copy + n, sizeof(copy) - n, "e%lld", (long long) exponent);
        *ret = strtod(copy, NULL);
        return isinf(*ret) ? DECIMAL_E_LARGE : 0;
}

int decimal_to_double(const struct decimal *d, double *ret) {
        unsigned p = (unsigned) abs(d->exponent);
        double x;
        int r;

        if (d->digits == 0)
                x = 0; /* whatever the exponent, and however many zeros */
        else if (!d->is_long && d->digits <= UINT64_C(1) << 53 && p <= MAX_EXACT_POWER)
                x = d->exponent < 0 ? (double) d->digits / powers_f64[p] : (double) d->digits * powers_f64[p];
        else if (!d->is_long && d->exponent < 0 && p <= MAX_WIDE_POWER)
                x = divide_wide(d->digits, p);
        else {
                r = read_long(d, &x);
                if (r != 0)
                        return r;
        }
        *ret = d->is_negative ? -x : x;
        return 0;
}

/* Printing */

/* What a number looks like: digits * 10^exponent, the last digit not 0 unless it is the only one. */
struct shown {
        uint64_t digits;
        int exponent;
};

static struct shown shown_without_zeros(uint64_t digits, int exponent) {
        while (digits % 10 == 0 && digits > 0) {
                digits /= 10;
                exponent++;
        }
        return (struct shown){ digits, exponent };
}

/*
 * The fewest of @min to @max digits that give back @x = @mantissa / 2^@e.  @mantissa has all @n_bits of the
 * precision. Return: whether 128 bits were enough.
 */
static bool shorten(double x, uint64_t mantissa, unsigned n_bits, int e, int min, int max,
                    struct shown *ret) {
        /* of a power of two the step below is half as wide: stay within that */
        unsigned narrow = mantissa == UINT64_C(1) << (n_bits - 1) ? 4 : 2;
        int magnitude =
                (int) floor(log10(x)); /* may be one off next to a power of ten: one digit more or less */

        for (int k = min; k <= max; k++) {
                int p = k - 1 - magnitude;
                u128 scaled, digits, below, half, limit;

                if (p < 0 || p > 38 || e < 1 || e > 126 || n_bits + (unsigned) p * 10 / 3 + 1 > 127)
                        return false;
                scaled = mantissa * power_u128((unsigned) p);
                half = (u128) 1 << (e - 1);
                digits = scaled >> e;
                below = scaled & ((half << 1) - 1);
                if (below > half || (below == half && (digits & 1))) {
                        digits++;
                        below = (half << 1) - below;
                }
                /* a text for single precision may be read by way of a double, whose rounding must not reach
                 * the middle */
                limit = power_u128((unsigned) p);
                if (n_bits < 53)
                        limit -= limit >> 28;
                if (below * narrow < limit) {
                        *ret = shown_without_zeros((uint64_t) digits, -p);
                        return true;
                }
        }
        return false;
}

/* The same by snprintf() and strtod(), for the numbers that are left. */
static struct shown shorten_slowly(double x, bool is_f32) {
        struct shown s = { 0, 0 };

        for (int k = is_f32 ? 6 : 15; k <= (is_f32 ? 9 : 17); k++) {
                char text[64];
                uint64_t digits = 0;
                struct decimal d;
                double back;

                /* the point may look like anything: only digits count, up to the exponent */
                (void) snprintf(text, sizeof(text), "%.*e", k - 1, x);
                for (const char *c = text; *c != 'e'; c++)
                        if (*c >= '0' && *c <= '9')
                                digits = digits * 10 + (uint64_t) (*c - '0');
                s = shown_without_zeros(digits, atoi(strchr(text, 'e') + 1) - (k - 1));
                d = (struct decimal){ .digits = s.digits, .exponent = s.exponent };
                if (decimal_to_double(&d, &back) == 0 && (is_f32 ? (float) back == (float) x : back == x))
                        break;
        }
        return s;
}

/* @x finite and above 0. */
static struct shown show(double x, bool is_f32) {
        unsigned n_bits = is_f32 ? 24 : 53;
        struct shown s;
        double fraction;
        int e;

        fraction = frexp(x, &e);
        /* subnormal numbers have fewer bits; they are rare */
        if (x >= (is_f32 ? (double) __FLT_MIN__ : __DBL_MIN__) &&
            shorten(x, (uint64_t) ldexp(fraction, (int) n_bits), n_bits, (int) n_bits - e, is_f32 ? 6 : 15,
                    is_f32 ? 9 : 17, &s))
                return s;
        return shorten_slowly(x, is_f32);
}

size_t decimal_print_u64(uint64_t x, char *ret) {
        char text[20];
        size_t n = 0;

        do
                text[sizeof(text) - ++n] = (char) ('0' + x % 10);
        while ((x /= 10) > 0);
        memcpy(ret, text + sizeof(text) - n, n);
        return n;
}

/* @n digits with a point after the first @n_before of them, which may be none or less. */
static size_t print_fixed(const char *digits, size_t n, int n_before, char *ret) {
        size_t at = 0;

        if (n_before <= 0) {
                memcpy(ret, "0.", 2);
                memset(ret + 2, '0', (size_t) -n_before);
                at = 2 + (size_t) -n_before;
                memcpy(ret + at, digits, n);
                return at + n;
        }
        memcpy(ret, digits, MIN(n, (size_t) n_before));
        if (n <= (size_t) n_before) {
                memset(ret + n, '0', (size_t) n_before - n);
                return (size_t) n_before;
        }
        at = (size_t) n_before;
        ret[at] = '.';
        memcpy(ret + at + 1, digits + at, n - at);
        return n + 1;
}

static size_t print(double x, bool is_f32, char *ret) {
        char digits[20];
        struct shown s;
        size_t n, at = 0;
        int n_before;

        assert(isfinite(x));
        if (signbit(x))
                ret[at++] = '-';
        x = fabs(x);
        if (x < 1e6 && x == (double) (uint32_t) x)
                return at + decimal_print_u64((uint32_t) x, ret + at);
        s = show(x, is_f32);
        n = decimal_print_u64(s.digits, digits);
        n_before = (int) n + s.exponent;
        if (n_before > -5 && n_before <= 17)
                return at + print_fixed(digits, n, n_before, ret + at);
        at += print_fixed(digits, n, 1, ret + at);
        ret[at++] = 'e';
        if (n_before - 1 < 0)
                ret[at++] = '-';
        return at + decimal_print_u64((uint64_t) abs(n_before - 1), ret + at);
}

size_t decimal_print_f64(double x, char *ret) {
        return print(x, false, ret);
}

size_t decimal_print_f32(float x, char *ret) {
        return print((double) x, true, ret);
}

double decimal_f32_as_f64(float x) {
        struct decimal d = { 0 };
        double back = 0;
        struct shown s;

        assert(isfinite(x));
        if (x == 0)
                return (double) x;
        s = show(fabs((double) x), true);
        d = (struct decimal){ .digits = s.digits, .exponent = s.exponent, .is_negative = signbit(x) != 0 };
        return decimal_to_double(&d, &back) == 0 ? back : (double) x;
}
