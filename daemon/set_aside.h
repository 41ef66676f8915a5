/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Set aside: a spilled file that is no batch file goes to spill/rejected/ under a name that says where it lay, with
 * the reason beside it.
 */

#include <stdbool.h>
#include <sys/stat.h>
#include "common/base/error.h"
#include "daemon/spill_list.h"

/* Is it the same file, unchanged? */
bool set_aside_is_same(const struct stat *a, const struct stat *b);

/*
 * Is the file that @fd is, and that was @st when its reading began, written at this moment, as by who copies files here?
 * What does not parse may be half of it then.  @fd may be -1: no.
 */
bool set_aside_is_growing(int fd, const struct stat *st);

enum {
        SET_ASIDE_E_SUCCESS_,
        SET_ASIDE_E_GONE, /* another file lies there by now, or none */
};

/*
 * set_aside() - move @entry's file, whatever it is, and write why
 * @st: what was read
 *
 * Return: 0; SET_ASIDE_E_GONE: nothing was done; a negative errno with a text.
 */
must_check_ int set_aside(int state_fd, const struct spill_entry *entry, const struct stat *st, const char *reason,
                          struct error *e);
