/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Intake: from the workers' lanes into the replay window, each sample exactly once.
 *
 *      lane_read() -> check every sample -> drop what the window has -> window_append() -> lane_release()
 *
 * SIGKILL between the last two leaves a record in the lane that is in the
 * window as well; the successor recognises it by its identity, since a lane
 * gives its samples in ascending (incarnation, sequence).
 *
 * Where the window cannot be written, records stay in the lanes, and nothing is lost by waiting: a turn ends
 * with INTAKE_E_FAILED, to be tried again later.
 *
 * A lane's bytes are foreign.  A record that does not check out is counted and
 * skipped; a lane whose framing lies is left alone until its worker is dead,
 * and emptied then.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/segment.h"
#include "common/exchange/window.h"
#include "common/games/game.h"

struct intake;

struct intake_counts {
        uint64_t records; /* games taken in */
        uint64_t samples;
        uint64_t bad_records; /* skipped: checksum, schema or identity wrong */
        uint64_t duplicates;  /* samples that the window had already */
        uint64_t reset_bytes; /* thrown away with a broken lane */
        uint64_t lanes_reset;
};

enum {
        INTAKE_E_DONE,   /* 0: every lane is empty, or broken */
        INTAKE_E_MORE,   /* the turn's time was up */
        INTAKE_E_FAILED, /* the window takes nothing, or intake is held: try again in a while, not at once */
};

/*
 * @g and @w must outlive @ret.  Incarnations that @w gives are above all that it holds from here on.
 * Return: 0 or a negative errno.
 */
must_check_ int intake_new(const struct game *g, struct window *w, struct intake **ret);
void intake_free(struct intake *i);
DEFINE_CLEANUP(struct intake *, intake_free)

/*
 * From now on, @slot's lane is written by process @incarnation alone; samples of any other are refused, but
 * for what intake_finish_slot() had to leave there.
 */
void intake_expect(struct intake *i, uint32_t slot, uint64_t incarnation);

/* Take in from all lanes of @s, one record of each in turn, for about @budget_ns. */
must_check_ int intake_turn(struct intake *i, struct segment *s, uint64_t budget_ns);

/*
 * Take in all that a dead worker left in its lane, and empty a broken one.
 *
 * Return: 0; negative errno: the window takes nothing, or intake is held. The rest stays in the lane, which
 * can be given to the next process all the same: it is taken in before what that one writes.
 */
must_check_ int intake_finish_slot(struct intake *i, struct segment *s, uint32_t slot);

/*
 * intake_inherit() - take in all that a dead predecessor of azpard left in its segment
 *
 * Also what incarnations wrote that the window does not know of: it may be another one, since the
 * predecessor's was lost.  The window will not give their numbers again.
 *
 * Return: 0 with the number of samples taken in; a negative errno: the window cannot be written, and the
 * segment must be kept for another try.
 */
must_check_ int intake_inherit(struct intake *i, struct segment *s, uint64_t *ret_n_samples);

/*
 * While @error is not 0, take nothing in: what is in the window cannot be made durable, and what waits in the
 * lanes is safe from that. It is what intake_finish_slot() and intake_inherit() return then.
 */
void intake_hold(struct intake *i, int error);

/* 0, or the negative errno of the last attempt to write the window. */
int intake_error(const struct intake *i);

/* Records that left the lanes so far, taken in or bad. */
uint64_t intake_n_taken(const struct intake *i);

/*
 * What intake_new() found in the window: for each of the SAMPLE_N_SLOTS the newest identity (see window_newest()). Looking
 * at all of a large window takes a while, and whoever else starts wants to know as well.
 */
const struct sample_id *intake_found(const struct intake *i);

/* Its worker has to be killed. */
bool intake_is_broken(const struct intake *i, uint32_t slot);
unsigned intake_n_broken(const struct intake *i);

const struct intake_counts *intake_slot_counts(const struct intake *i, uint32_t slot);
struct intake_counts intake_counts(const struct intake *i);
