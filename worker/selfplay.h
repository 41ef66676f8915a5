/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Self-play: many games in play at once, so that the leaves of all their
 * searches form one batch for the network.
 *
 *      selfplay_step(): each game descends to a leaf -> one batch -> each game expands its leaf
 *
 * A game whose search is done makes its move on the way, which records a sample; a finished game gets its
 * outcome, is encoded and handed to commit() as one record, and another one takes its place.
 *
 * Samples carry the newest model generation that evaluated a position of their search: with tree_reuse, or
 * when new weights arrive in the middle of a search, older ones may have taken part.
 *
 * Everything random in a game (noise, moves, symmetries) comes from the game's own stream, which follows from
 * (seed, slot, incarnation, number of the game in this process).  So the same seed, weights and settings give
 * the same games, in whatever order they end.  (It is the network that ties them to the number of games in
 * play: its kernels round differently for another size of batch.)  The incarnation takes part so that a
 * restarted worker goes on with new games instead of playing the old ones again; it counts up from 1 in a
 * fresh window, so fresh runs with one seed are the same.
 */

#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/base/rng.h"
#include "common/games/game.h"
#include "worker/search.h"

struct selfplay_options {
        struct search_options search;
        uint32_t games; /* in play */
        uint64_t seed;
        uint64_t slot, incarnation; /* identity of the samples */
};

/* What self-play stands on: the network (as in evaluate.h), and where records go. */
struct selfplay_ops {
        void *context;
        unsigned (*add)(void *context, const struct game_state *s, struct rng *rng);
        int (*run)(void *context, struct error *e);
        const float *(*logits)(void *context, unsigned i);
        float (*value)(void *context, unsigned i);

        /*
         * Take the record of one finished game (sample.h), whole, waiting for room if need be. Return: 0;
         * SELFPLAY_E_STOP to end selfplay_step() at once, the record is then dropped; a negative errno with a
         * text.
         */
        int (*commit)(void *context, const unsigned char *record, size_t n_bytes, struct error *e);
};

enum {
        SELFPLAY_E_SUCCESS_,
        SELFPLAY_E_STOP, /* commit() asked to stop; nothing more may be played */
};

struct selfplay_counters {
        uint64_t games, plies, samples; /* of committed games; plies also of those in play */
        uint64_t simulations, evaluations, batches;
};

struct selfplay;

/* @g must outlive it; @o and @ops are copied. Return: 0 or -ENOMEM. */
must_check_ int selfplay_new(const struct game *g, const struct selfplay_options *o,
                             const struct selfplay_ops *ops, struct selfplay **ret);

/* Accepts NULL. */
void selfplay_free(struct selfplay *p);
DEFINE_CLEANUP(struct selfplay *, selfplay_free)

/* The model generation that evaluates from the next batch on. */
void selfplay_set_generation(struct selfplay *p, uint64_t generation);

/* Play on by one batch of evaluations, one of each game. Return: 0, SELFPLAY_E_STOP, or a negative errno with
 * a text. */
must_check_ int selfplay_step(struct selfplay *p, struct error *e);

void selfplay_counters(const struct selfplay *p, struct selfplay_counters *ret);
