/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Commit: the way of a finished game's record out of a worker.
 *
 *      the lane has room                      -> lane          committed at once
 *      it has been full for spill_after       -> spill         committed when its file is renamed into place
 *      neither lane nor spill take it         -> the worker waits
 *
 * A record goes one of the two ways, whole, and never both.
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/segment.h"
#include "worker/spill.h"

struct commit {
        struct segment *segment;
        struct segment_worker *own; /* of segment, like lane */
        struct lane *lane;
        int wake_fd;
        uint32_t slot;
        struct spill *spill;
        uint64_t spill_after_ns, spill_max;
        uint64_t full_since_ns;  /* that the lane has been full without a break; 0: it is not */
        uint64_t spilled_ns;     /* when a record was spilled last; 0: it is said that spilling has ended */
        uint64_t spilled_before; /* samples that lay in spill files when it began */
};

enum {
        COMMIT_E_SUCCESS_,
        COMMIT_E_WAIT, /* it was not taken; come again in a moment */
};

/*
 * commit_init() - the ways out of worker @slot, whose part of @s is mapped
 * @game, @state_fd: as for spill_new()
 * @spill_after_s, @spill_max: as in the configuration; @spill_max is what all workers may use together
 *
 * Return: 0 or a negative errno with a text; commit_deinit() in either case.
 */
must_check_ int commit_init(struct commit *c, const struct game *game, struct segment *s, uint32_t slot, int state_fd,
                            int wake_fd, double spill_after_s, uint64_t spill_max, struct error *e);
void commit_deinit(struct commit *c);

/*
 * commit_record() - let a record go, without waiting
 *
 * Return: 0: it is out of the caller's hands; COMMIT_E_WAIT; a negative errno with a text.
 */
must_check_ int commit_record(struct commit *c, const unsigned char *record, size_t n_bytes, struct error *e);

/* Go on with spilling; to be called between two batches, and while waiting. */
void commit_poll(struct commit *c);

/* Towards the end: write what is left, whatever it is. Return: whether all is out. */
bool commit_flush(struct commit *c);
