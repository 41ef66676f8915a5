/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Search: PUCT (Silver et al. 2017, "Mastering the game of Go without human
 * knowledge"; the form with one evaluation per simulation and no rollouts) on
 * arrays, one arena per game in play, no allocation after search_new().
 *
 * The caller owns the network, so that the leaves of many searches can form one batch:
 *
 *      search_begin(s, position)
 *      while (search_descend(s) == SEARCH_E_LEAF) {     ends simulations at known values by itself
 *              evaluate *search_leaf(s)                 with the leaves of other games
 *              search_expand(s, logits, value)
 *      }
 *      search_visits(), search_value(), search_advance(move)
 *
 * Values inside a node are seen from that node's side to move.  PUCT:
 *      Q + cpuct * prior * sqrt(sum of visits) / (1 + visits)
 *
 * With `prove`, finished positions are proven, and a node whose best reply is known becomes proven itself
 * (Winands, Björnsson and Saito 2008, "Monte-Carlo tree search solver"): a win if some move is a proven loss for the
 * opponent, else the best of its moves once all of them are proven.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/config.h"
#include "common/base/error.h"
#include "common/base/rng.h"
#include "common/exchange/sample.h"
#include "common/games/game.h"

struct search_options {
        uint32_t simulations;
        float cpuct, fpu_reduction;
        float noise_alpha, noise_weight;
        uint32_t temperature_plies;
        bool tree_reuse, prove, random_symmetry;
};

void search_options_init(struct search_options *o, const struct config *c);

struct search;

enum {
        SEARCH_E_DONE,     /* 0: the simulations are used up, or the root is proven */
        SEARCH_E_LEAF = 1, /* search_leaf() waits for its evaluation */
};

must_check_ int search_new(const struct game *g, const struct search_options *o, struct search **ret);
void search_free(struct search *s);
DEFINE_CLEANUP(struct search *, search_free)

/* Start a new tree at @position (not over), with fresh noise when noise_weight > 0. @rng is used until the next call and owned by the caller. */
void search_begin(struct search *s, const struct game_state *position, struct rng *rng);

/* Run simulations until a leaf needs the network. Return: SEARCH_E_DONE or SEARCH_E_LEAF. */
int search_descend(struct search *s);

/* The leaf's position; valid until search_expand(). */
const struct game_state *search_leaf(const struct search *s);

/*
 * Expand the leaf and pass the value up.
 * @logits:     [moves], in the board's own orientation (the caller undid any symmetry)
 * @value:      in [-1, 1], seen from the leaf's side to move
 */
void search_expand(struct search *s, const float *logits, float value);

/* Visits of the root's moves, ascending by move, zero ones left out. @ret has room for g->moves. Return: how many. */
unsigned search_visits(const struct search *s, struct sample_visit *ret);

/* Mean value of the root seen from its side to move; proven: exactly -1, 0 or 1. */
float search_value(const struct search *s);

/* -1, 0, 1: proven for the side to move; 2: not. */
int search_proven(const struct search *s);

/*
 * The move to play: in proportion to visits while the position's ply is below temperature_plies, then the most visited one; a
 * proven win is always played and a proven loss only if nothing else is left.
 */
uint16_t search_choose(const struct search *s, struct rng *rng);

/* Go to the position after @move: keeps its subtree with tree_reuse, else starts anew. The position must not be over. */
void search_advance(struct search *s, uint16_t move, struct rng *rng);

/* Counters since search_new(): simulations, and those of them that asked for an evaluation. */
uint64_t search_n_simulations(const struct search *s);
uint64_t search_n_evaluations(const struct search *s);
