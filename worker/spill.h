/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Spill: where a worker's games go while azpard does not empty its lane.
 *
 *      record -> JSON text in memory -> batch_NNNNNN.json.tmp -> fsync -> rename
 *
 * The files lie in spill/worker_<slot>/ of the state directory and are what common/exchange/batch_file.h describes.
 * The rename is the commit (P1): what a killed worker had not renamed was never committed, and azpard never looks at
 * a temporary name.  All of the disk's work is asynchronous (common/base/disk.h): no call here waits for it, so the
 * other games go on while it works.
 *
 * Files of a worker become visible one after the other, in the order of their numbers and so of their samples'
 * sequence numbers: azpard recognises what it had already by that order.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/games/game.h"

struct spill;

struct spill_counters {
        uint64_t files, samples, bytes; /* of files that were renamed into place */
        int error;                      /* negative errno of the last try, which is repeated; 0: it worked */
        bool full;                      /* at the limit: nothing is written until azpard has taken files back */
};

enum {
        SPILL_E_SUCCESS_,
        SPILL_E_FULL, /* no room for it in memory: the disk works, fails, or is at the limit; come again */
};

/*
 * spill_new() - make ready to spill: the folder, and nothing of a predecessor's half-written files in it
 * @g:        must outlive @ret
 * @state_fd: the state directory, borrowed
 * @origin:   window_origin(), for the files
 *
 * A folder that cannot be made now is tried again when it is needed.
 *
 * Return: 0 or a negative errno.  *ret_refused: as disk_new().
 */
must_check_ int spill_new(const struct game *g, int state_fd, uint64_t slot, uint64_t origin, struct spill **ret,
                          int *ret_refused);

/* What was not renamed yet is dropped, after what is on its way has ended. Accepts NULL. */
void spill_free(struct spill *s);
DEFINE_CLEANUP(struct spill *, spill_free)

/*
 * spill_add() - take a game's record (sample.h), whole
 *
 * It is committed later, in its turn: see spill_poll().
 *
 * Return: 0; SPILL_E_FULL: it was not taken; a negative errno with a text.
 */
must_check_ int spill_add(struct spill *s, const unsigned char *record, size_t n_bytes, struct error *e);

/*
 * spill_poll() - go on with what there is to write; never waits
 * @max_bytes: of this worker's files together; once there are so many, no file is begun
 * @flush:     write also what is too little for a file of its own by now
 */
void spill_poll(struct spill *s, uint64_t max_bytes, bool flush);

/* Everything that was added is committed and durable, and no request is on its way. */
bool spill_is_idle(const struct spill *s);

const struct spill_counters *spill_counters(const struct spill *s);
