/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A player of a match: says what to play, on any number of boards at once.
 *
 *      random       uniformly random legal moves
 *      plain        search without a network (plain.h)
 *      model:FILE   search with the network in a model file (worker/search.h), as in self-play but without
 *                   noise and temperature, and with a fresh tree for every move
 *
 * A model's search needs the network for each of its leaves.  So that the leaves of all boards form one
 * batch, player_move() says that it waits instead of evaluating, and player_evaluate() then serves all
 * boards.
 */

#include <stdint.h>
#include "common/base/config.h"
#include "common/base/error.h"
#include "common/base/rng.h"
#include "common/games/game.h"

struct player;

enum {
        PLAYER_E_SUCCESS_,
        PLAYER_E_WAITS, /* for player_evaluate(); then call player_move() again */
};

/* What a player is, for reports. */
struct player_info {
        const char *spec;          /* as given; owned by the player */
        uint32_t simulations;      /* 0: it does not search */
        uint64_t generation, step; /* of the model */
        bool is_model;
};

/* Is @spec the description of a player? Return: 0, or -EINVAL with a text. No file is looked at. */
must_check_ int player_check(const char *spec, struct error *e);

/*
 * player_new() - make a player from its description
 * @spec:       "random", "plain" or "model:FILE"
 * @c:          search.cpuct, search.fpu_reduction, search.prove, search.random_symmetry and
 * selfplay.precision hold for a model
 * @n_boards:   boards that it plays on at once
 *
 * Return: 0; -EINVAL: as player_check(), or a model of another game or other rules; what model_open()
 * returns. The text names the player.
 */
must_check_ int player_new(const char *spec, const struct game *g, const struct config *c,
                           uint32_t simulations, unsigned n_boards, struct player **ret, struct error *e);
void player_free(struct player *p);
DEFINE_CLEANUP(struct player *, player_free)

struct player_info player_info(const struct player *p);

/*
 * player_move() - choose a move on board @board
 * @s:          the position (not over), the same until a move is chosen
 * @rng:        that board's random numbers, always the same one
 *
 * Return: 0 with *ret set, or PLAYER_E_WAITS.
 */
must_check_ int player_move(struct player *p, unsigned board, const struct game_state *s, struct rng *rng,
                            uint16_t *ret);

/* Evaluate what all boards wait for, in one batch. Return: 0, or a negative errno with a text. */
must_check_ int player_evaluate(struct player *p, struct error *e);
