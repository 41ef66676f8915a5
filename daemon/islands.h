/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Islands: samples of spilled and imported files that lie behind a hole in the window.
 *
 * A file's samples come into the window in their order, so the newest one that is there tells that all before
 * it have been there, too.  A power cut breaks that: pages reach the disk in any order, and what was not
 * synced yet may be there in part.  The file is there still, since files are removed only after the sync; so
 * what is missing of it has to be taken in again, and what is there must not be.
 *
 *      |  contiguous: the newest one tells  |  hole  | island | hole | island |
 *      first                                begin                             tail
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/window.h"

struct islands;

/* Look at @w, just opened; free of cost where it has no hole. Return: 0 or a negative errno. */
must_check_ int islands_new(const struct window *w, struct islands **ret);
void islands_free(struct islands *s);
DEFINE_CLEANUP(struct islands *, islands_free)

/* Number of the first sample that is missing; the window's tail if none is. */
uint64_t islands_begin(const struct islands *s);

/* Was @id, as the window has it, on an island when the window was opened? */
bool islands_have(const struct islands *s, const struct sample_id *id);
