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
 * Values inside a node are seen from that node's side to move.  At each node the simulation takes the move
 * with the highest
 *
 *      Q + cpuct * sqrt(sum of visits, at least 1) * prior / (1 + visits)
 *
 * (the lowest such move if several are equal), where Q is the mean of the values that came back through the
 * move, seen from the node's side to move; for a move without visits it is 0, a draw, or, if fpu_reduction >
 * 0, the node's own mean value less fpu_reduction, but not below -1.  "At least 1" makes the very first
 * choice follow the prior.
 *
 * What `simulations` counts: a search ends when the visits of the root's moves add up to it.  The root's own
 * evaluation is not among them.  With tree_reuse the visits that a kept subtree brings along count, as in Lc0
 * and KataGo (AlphaGo Zero ran the full number anew): each move is then chosen from, and each policy target
 * made of, the same number of visits as with a fresh tree, for about 40 % fewer evaluations.  Running the
 * full number anew was tried (Connect Four, rollouts as evaluation, noise on, targets judged by a search 30
 * times as long): at equal evaluations a move the targets' regret was the same (62 against 100: 0.137 and
 * 0.133; 98 against 160: 0.111 and 0.112, each
 * +- 0.004), so it is the bound of the arena that decides: no tree is ever larger than simulations + 1 nodes.
 *
 * With `prove`, finished positions are proven, and a node whose best reply is known becomes proven itself
 * (Winands, Björnsson and Saito 2008, "Monte-Carlo tree search solver"): a win if some move is a proven loss
 * for the opponent, else the best of its moves once all of them are proven.  A move that is proven lost is
 * not tried again, and the search ends as soon as the root is proven.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/config.h"
#include "common/base/error.h"
#include "common/base/rng.h"
#include "common/exchange/sample.h"
#include "common/games/game.h"

struct search_options {
        uint32_t simulations; /* 1 .. 65535 */
        float cpuct, fpu_reduction;
        float noise_alpha, noise_weight;
        uint32_t temperature_plies;
        bool tree_reuse, prove;
        bool random_symmetry; /* for the caller, who evaluates */
};

void search_options_init(struct search_options *o, const struct config *c);

struct search;

enum {
        SEARCH_E_DONE,     /* 0: the simulations are used up, or the root is proven */
        SEARCH_E_LEAF = 1, /* search_leaf() waits for its evaluation */
};

#define SEARCH_NOT_PROVEN 2

/* @g must outlive the search; @o is copied. Return: 0 or -ENOMEM. */
must_check_ int search_new(const struct game *g, const struct search_options *o, struct search **ret);

/* Accepts NULL. */
void search_free(struct search *s);
DEFINE_CLEANUP(struct search *, search_free)

/*
 * Start a new tree at @position (not over), with fresh noise when noise_weight > 0. @rng is used until the
 * next call of search_begin() or search_advance() and owned by the caller; it may be NULL without noise.
 */
void search_begin(struct search *s, const struct game_state *position, struct rng *rng);

/*
 * Run simulations until a leaf needs the network. Return: SEARCH_E_DONE or SEARCH_E_LEAF; the latter again
 * until search_expand() is called.
 */
int search_descend(struct search *s);

/* The leaf's position; valid until search_expand(). */
const struct game_state *search_leaf(const struct search *s);

/*
 * Expand the leaf and pass the value up.
 * @logits:     [moves], in the board's own orientation (the caller undid any symmetry)
 * @value:      in [-1, 1], seen from the leaf's side to move
 *
 * Softmax is over the legal moves only.  Numbers that are not finite (weights can make a network overflow)
 * count as equal priors and a value of 0.
 */
void search_expand(struct search *s, const float *logits, float value);

/*
 * The policy target: visits of the root's moves, ascending by move, zero ones left out.
 * @ret:        room for g->moves
 *
 * With `prove`, what is known for sure wins over the counts: moves proven worse than the root's proven value
 * are left out, and if the root is not proven, those that are proven lost.  So a proven win has visits on the
 * winning move alone, and the sum may be below `simulations`.  If nothing remains (every move that was tried
 * is lost, others were not tried), the untried move with the highest prior gets one visit.  Call after a
 * search is done.
 *
 * Return: how many, at least 1.
 */
unsigned search_visits(const struct search *s, struct sample_visit *ret);

/* Mean value of the root seen from its side to move; proven: exactly -1, 0 or 1. */
float search_value(const struct search *s);

/* -1, 0, 1: proven for the side to move; SEARCH_NOT_PROVEN. */
int search_proven(const struct search *s);

/*
 * The move to play, of those in search_visits(): in proportion to visits while the position's ply is below
 * temperature_plies, then the most visited one (the lowest of several).  A proven win so is always
 * played, and a proven loss only if nothing else is left.
 */
uint16_t search_choose(const struct search *s, struct rng *rng);

/*
 * Go to the position after the legal @move: keeps its subtree with tree_reuse, with noise mixed anew into its
 * root's clean priors, else starts anew. The new position must not be over. @rng as in search_begin().
 */
void search_advance(struct search *s, uint16_t move, struct rng *rng);

/* Counters since search_new(): simulations run, and evaluations used (the roots' own are among these only).
 */
uint64_t search_n_simulations(const struct search *s);
uint64_t search_n_evaluations(const struct search *s);
