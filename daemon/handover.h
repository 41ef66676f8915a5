/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Handover: what one azpard leaves in shared memory, and the next one takes up.
 *
 * Samples that are committed and not in the window lie in the lanes of the segment.  It outlives azpard by its
 * name in /dev/shm, and under systemd also by a descriptor in the fd store, which nobody can remove by
 * mistake.
 */

#include "common/base/error.h"

struct daemon;

/*
 * handover_take() - take in what a predecessor left, and remove its segment
 *
 * Both the stored segment and the one with the name, which usually are one and the same.  What is stored and
 * no segment of ours is given up with a warning; what has the name and is none is an error, since it is in the
 * way.
 *
 * Return: 0, also where there was none; a negative errno with a text: it stays where it is.
 */
must_check_ int handover_take(struct daemon *d, struct error *e);

/*
 * handover_leave() - with all children gone: take in what is left in the lanes, and remove the segment
 *
 * Where the disk does not let us, the segment stays for the next azpard.
 *
 * Return: 0 or a negative errno with a text.
 */
must_check_ int handover_leave(struct daemon *d, struct error *e);
