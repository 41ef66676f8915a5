/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Numbers to decimal text and back, exactly, fast, and whatever the locale is.
 *
 * A number is printed as the shortest text that reads back to it, and read as the nearest double; half a step
 * between two goes to the even one.  Neither allocates.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/attr.h"

/* Bytes of the longest text that is printed: sign, 17 digits, point, exponent "e-324". */
#define DECIMAL_PRINT_MAX 32

/*
 * A number of more than 19 significant digits is converted up to this length of its text, and refused beyond.
 * 767 digits give any double, and any middle between two, exactly, so whoever prints numbers stays below.
 */
#define DECIMAL_TEXT_MAX 1024

/* A number as it stands in a text, taken apart by who knows the grammar. */
struct decimal {
        const char *text; /* digits, point, exponent, without the sign */
        size_t n_text;
        uint64_t digits;  /* the value is digits * 10^exponent, if it is not long */
        int32_t exponent; /* held within -1000000 .. 1000000 */
        bool is_negative;
        bool is_long; /* more than 19 significant digits: only the text has all of them */
};

enum {
        DECIMAL_E_SUCCESS_,
        DECIMAL_E_LARGE, /* no double is that large */
        DECIMAL_E_LONG,  /* longer than DECIMAL_TEXT_MAX */
};

/* The nearest double; what is too small for one is 0.  Return: 0 or DECIMAL_E_... */
must_check_ int decimal_to_double(const struct decimal *d, double *ret);

/*
 * Print a finite number. @ret: room for DECIMAL_PRINT_MAX bytes, not terminated by a NUL. The text is a
 * number of JSON too, and has neither point nor exponent if it is an integer below 1e6.  decimal_print_f32():
 * the shortest that reads back in single precision, be it directly or through the nearest double.  Return:
 * bytes.
 */
size_t decimal_print_f64(double x, char *ret);
size_t decimal_print_f32(float x, char *ret);

/* The double that decimal_print_f32()'s text stands for. */
double decimal_f32_as_f64(float x);

/* @x in decimal, at most 20 bytes. Return: bytes. */
size_t decimal_print_u64(uint64_t x, char *ret);
