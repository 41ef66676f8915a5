/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Foreign JSON, by cJSON with the gates that cJSON leaves open: it takes control characters, numbers such as
 * "01", \u0000 (which cuts a string short), what follows the value, and a key twice.  Here that is refused.
 */

#include <cjson/cJSON.h>
#include <stdint.h>
#include "common/base/error.h"

#define JSON_MAX_DEPTH 8
/* Whole numbers above this are not exact in JSON's doubles: such values are written as strings. */
#define JSON_UINT_MAX ((UINT64_C(1) << 53) - 1)

static inline void json_freep(cJSON **j) {
        cJSON_Delete(*j);
}

/*
 * Parse @n bytes (limited by the caller) that must be one object; only one thread of a process may use cJSON.
 * Return: 0; -EBADMSG or -ENOMEM with a text.
 */
must_check_ int json_parse_object(const char *text, size_t n, cJSON **ret, struct error *e);

/* A whole number in [0, max], max <= JSON_UINT_MAX. @j may be NULL. Return: 0, or -EBADMSG without a text. */
must_check_ int json_uint(const cJSON *j, uint64_t max, uint64_t *ret);

/* Decimal digits and nothing else, in [0, max]. @text may be NULL. Return: 0, or -EBADMSG without a text. */
must_check_ int json_decimal(const char *text, uint64_t max, uint64_t *ret);

/* @text fit for an error message: cut to the buffer, '?' for what is not printable ASCII. Return: @ret. */
const char *json_printable(const char *text, size_t n_ret, char *ret);
