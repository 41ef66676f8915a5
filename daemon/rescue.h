/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Rescue: samples that the disk does not take when azpard stops.
 *
 * What the last sync of the window did not cover lies in memory alone, as dirty pages of a file on a disk
 * that fails; when that is unmounted to be repaired they are gone.  So they are copied to
 * /dev/shm/azpar.<instance>.<checksum of the state directory's path>.window, a window file with just these
 * samples, and the next start puts them back into their slots.
 */

#include "common/base/error.h"
#include "common/exchange/window.h"

/* Copy what is not durable in @w, if anything. Return: 0 or a negative errno with a text. */
must_check_ int rescue_save(const struct window *w, const char *instance, const char *state_path,
                            struct error *e);

/*
 * Put back what rescue_save() left, if anything, make it durable and remove the copy.
 * Return: 0 with the number of samples that @w did not have; a negative errno with a text: the copy is still
 * there.
 */
must_check_ int rescue_take(struct window *w, const struct game *g, const char *instance,
                            const char *state_path, uint64_t *ret_n_samples, struct error *e);
