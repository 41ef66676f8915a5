/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Imports: the files without an identity of ours that the window holds samples of, named by their content, so that
 * one that is read again is not taken in twice.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/window.h"

struct imports;

/* Those that @w holds now; NULL: it is known to hold none. Return: 0 or a negative errno. */
must_check_ int imports_new(const struct window *w, struct imports **ret);
void imports_free(struct imports *m);
DEFINE_CLEANUP(struct imports *, imports_free)

/* Sample @sequence of file @name lies in the window under @number; the newest of that file. */
void imports_note(struct imports *m, uint64_t name, uint64_t sequence, uint64_t number);

/*
 * Is a sample of file @name still in the window, which begins at @first?  Gives the sequence of the last one: all
 * before it have been there.
 */
bool imports_find(const struct imports *m, uint64_t name, uint64_t first, uint64_t *ret_sequence);
