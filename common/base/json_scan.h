/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A cursor over JSON text, for readers that know what they want: strict (RFC 8259), no tree, no allocation.
 *
 * The text may end anywhere, because more of it is still to come: then a function says JSON_SCAN_E_ENDS, and
 * its caller starts again from a place of its choice once there is more.  What is wrong is refused at its
 * first wrong byte, so the same text gets the same answer whatever pieces it comes in.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/decimal.h"
#include "common/base/error.h"

#define JSON_SCAN_DEPTH_MAX 64 /* of arrays and objects in a value that is passed over */

struct json_scan {
        const char *at, *end; /* what is left */
        const char *text;     /* where the text begins ... */
        uint64_t offset;      /* ... which is this byte of the file, for messages */
        const char *value;    /* where the string or number begins that was read last, for messages */
        const char *field;    /* what is being read, for messages: "board", or "" */
        int64_t index;        /* which element of it; -1: no element */
        struct error *error;
};

enum {
        JSON_SCAN_E_SUCCESS_,
        JSON_SCAN_E_ENDS, /* the text ends in the middle */
};

/* All functions below return 0, JSON_SCAN_E_ENDS, or -EBADMSG with a text. */

/* Refuse what stands at @at: "FIELD[INDEX] at byte N: EXPECTED expected, found 'x'". Return: -EBADMSG. */
int json_scan_refuse(const struct json_scan *s, const char *at, const char *expected);

/* The same of the string or number that was read last: it is well-formed, but not what is expected. */
static inline int json_scan_refuse_value(const struct json_scan *s, const char *expected) {
        return json_scan_refuse(s, s->value, expected);
}

static inline bool json_scan_is_space(char c) {
        return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Pass over white space up to a byte that is there. */
must_check_ static inline int json_scan_space(struct json_scan *s) {
        while (s->at < s->end && json_scan_is_space(*s->at))
                s->at++;
        return s->at < s->end ? 0 : JSON_SCAN_E_ENDS;
}

/* White space, then the byte @c; @expected is its name in the message. */
must_check_ static inline int json_scan_byte(struct json_scan *s, char c, const char *expected) {
        int r = json_scan_space(s);

        if (r != 0)
                return r;
        if (*s->at != c)
                return json_scan_refuse(s, s->at, expected);
        s->at++;
        return 0;
}

/* Behind '[' or '{': whether @close, ']' or '}', follows; if so, it is taken. */
must_check_ static inline int json_scan_is_empty(struct json_scan *s, char close, bool *ret) {
        int r = json_scan_space(s);

        if (r != 0)
                return r;
        *ret = *s->at == close;
        s->at += *ret;
        return 0;
}

/* Behind an element: whether ',' follows, else @close must; either is taken. */
must_check_ static inline int json_scan_is_more(struct json_scan *s, char close, bool *ret) {
        int r = json_scan_space(s);

        if (r != 0)
                return r;
        if (*s->at != ',' && *s->at != close)
                return json_scan_refuse(s, s->at, close == ']' ? "',' or ']'" : "',' or '}'");
        *ret = *s->at == ',';
        s->at++;
        return 0;
}

/*
 * A string, after white space, with escapes undone; UTF-8 is checked, and half of a surrogate pair is
 * refused. The first
 * @size bytes go to @ret. Return: as all, with *ret_n the length of the whole string.
 */
must_check_ int json_scan_string(struct json_scan *s, char *ret, size_t size, size_t *ret_n);

/* A number, after white space; @ret->text points into the text. */
must_check_ int json_scan_number(struct json_scan *s, struct decimal *ret);

/* A number, after white space, as the nearest double. What is too large for one is refused, and what is too
 * long. */
must_check_ int json_scan_f64(struct json_scan *s, double *ret);

/* An integer from 0 to @max, after white space, written in digits only. */
must_check_ int json_scan_u64(struct json_scan *s, uint64_t max, uint64_t *ret);

/* Any value, after white space: checked and passed over. */
must_check_ int json_scan_value(struct json_scan *s);
