/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Errors with a text.
 *
 * A function returns a negative errno for what is fatal to it, 0 for success,
 * and a positive X_E_REASON for an outcome that its caller must handle.  Where
 * an errno alone could not tell a user what to do, the function also takes a
 * struct error and describes object, place and reason in it; libraries never
 * log, the caller that decides logs once.
 */

#include <stdbool.h>
#include "common/base/attr.h"

#define ERROR_TEXT_MAX 512

struct error {
        char text[ERROR_TEXT_MAX];
};

#define ERROR_INIT ((struct error){ .text = "" })

/*
 * error_set() - describe a failure in one line
 * @e:          where to put the text; may be NULL
 * @negative_errno: what to return, below zero
 *
 * Return: @negative_errno, so that `return error_set(e, -EINVAL, "...")` works.
 */
int error_set(struct error *e, int negative_errno, const char *format, ...) printf_(3, 4);

/*
 * error_errno() - like error_set(), with ": " and the system's text for the errno appended
 */
int error_errno(struct error *e, int negative_errno, const char *format, ...) printf_(3, 4);

/*
 * error_passes() - whether @negative_errno is the disk's or the machine's trouble
 *
 * A disk that is full, failing or read-only, descriptors or memory that ran out: whoever meets it is not at
 * fault, and the same thing may well work later.
 */
bool error_passes(int negative_errno);

/*
 * error_prefix() - put "prefix: " in front of the text that a callee left
 */
void error_prefix(struct error *e, const char *format, ...) printf_(2, 3);
