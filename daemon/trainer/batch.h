/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * batch: samples become the arrays that a training step takes.  Runs in azpar-trainer.
 *
 * Planes and policy are turned by the same symmetry; the policy's target is
 * each move's share of the visits, the value's target the final outcome, both
 * seen from the side to move.
 */

#include <stdint.h>
#include "common/base/rng.h"
#include "common/exchange/sample.h"
#include "common/games/game.h"

struct batch {
        const struct game *game; /* not owned */
        uint32_t n;
        float *planes; /* [n][planes][rows][cols] */
        float *policy; /* [n][moves], each row sums to 1 */
        float *value;  /* [n], -1, 0 or 1 */
        float *weight; /* [n], above 0 */
};

/* Samples first .. tail - 1, at most UINT32_MAX of them. */
struct batch_source {
        const void *context;
        uint64_t first, tail;

        /* Copy sample @number out. Return: 0, or another number if it is not there any more. */
        int (*read)(const void *context, uint64_t number, struct sample *ret);
};

enum {
        BATCH_E_SUCCESS_,
        BATCH_E_NO_SAMPLES, /* the source is empty, or nearly all that was drawn could not be used */
};

/* Room for @n samples of @g, which must outlive it. Return: 0 or -ENOMEM. */
must_check_ int batch_new(const struct game *g, uint32_t n, struct batch **ret);
void batch_free(struct batch *b);
DEFINE_CLEANUP(struct batch *, batch_free)

/* Make place @i of the batch from @s, turned by @symmetry. @s is usable (batch_usable()). */
void batch_set(struct batch *b, uint32_t i, const struct sample *s, unsigned symmetry);

/* Whether a sample teaches anything: it has visits and a weight above 0. */
bool batch_usable(const struct sample *s);

/*
 * batch_draw() - fill the batch with samples drawn uniformly, with replacement
 * @augment:    turn each one by a random symmetry
 * @gone:       grows by the draws that could not be used
 *
 * Return: 0, BATCH_E_NO_SAMPLES.
 */
must_check_ int batch_draw(struct batch *b, const struct batch_source *source, bool augment, struct rng *rng,
                           uint64_t *gone);
