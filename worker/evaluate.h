/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Evaluate: collects positions into one batch, in random symmetries if asked, runs the network and gives
 * logits and value back in the board's own orientation.  Also owns the model file: takes up new weights between two batches.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/base/rng.h"
#include "common/games/game.h"
#include "worker/infer.h"

struct evaluate;

must_check_ int evaluate_new(const struct game *g, const struct network *n, unsigned precision, unsigned max_batch,
                             struct evaluate **ret, struct error *e);
void evaluate_free(struct evaluate *v);
DEFINE_CLEANUP(struct evaluate *, evaluate_free)

/* Map, check and take up a model file. On failure (text says why) the weights in use stay. */
must_check_ int evaluate_load(struct evaluate *v, int dir_fd, const char *path, uint64_t *ret_generation, struct error *e);

/* As infer_on_layer(): a sign of life within evaluate_run() and evaluate_load(). */
void evaluate_on_layer(struct evaluate *v, void (*call)(void *context), void *context);

unsigned evaluate_precision(const struct evaluate *v);

/* Add a position to the batch, under a random symmetry if @rng is not NULL. Return: its place in the batch. */
unsigned evaluate_add(struct evaluate *v, const struct game_state *s, struct rng *rng);

/* Evaluate all that was added; afterwards results can be read, and the next evaluate_add() starts a new batch. */
must_check_ int evaluate_run(struct evaluate *v, struct error *e);

/* Results of place @i: logits [moves] in the board's own orientation, valid until the next call for the same @v. */
const float *evaluate_logits(struct evaluate *v, unsigned i);
float evaluate_value(const struct evaluate *v, unsigned i);
