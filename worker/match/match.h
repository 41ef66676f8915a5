/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Match: many games between two players, and their score.
 *
 * Players choose the same move in the same position (or nearly so), so games
 * are told apart by their openings: the first plies are random.  Each opening
 * is played twice with the colours swapped, so that neither player profits from a
 * good one, nor from having the first move.
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/games/game.h"
#include "worker/match/player.h"

#define MATCH_MAX_GAMES 1000000
#define MATCH_MAX_BOARDS                                                                                     \
        64 /* games in play at once: larger batches are no faster (evaluations per second level off at 8) */

/* Seen from the first player. */
struct match_tally {
        uint64_t wins, draws, losses;
};

struct match_result {
        struct match_tally by_color[2]; /* [0]: the first player made the first move, [1]: the second move */
        uint64_t n_plies;               /* of all games, openings included */
};

struct match_options {
        const struct game *game;
        struct player *players[2]; /* made for match_n_boards() boards */
        uint64_t n_games;          /* even */
        unsigned opening_plies;
        uint64_t seed;
        /* called after each game; may be NULL */
        void (*progress)(void *userdata, const struct match_result *so_far);
        void *userdata;
};

/* Games in play at once in a match of @n_games. */
unsigned match_n_boards(uint64_t n_games);

/*
 * match_run() - play a match
 *
 * The same options and players give the same games, whatever the number of boards.
 *
 * Return: 0; -EINVAL: no opening of so many plies leaves the game open; what player_evaluate() returns.
 */
must_check_ int match_run(const struct match_options *o, struct match_result *ret, struct error *e);

struct match_tally match_total(const struct match_result *r);
uint64_t match_n_games(const struct match_tally *t);

/* Points per game in [0, 1]: 1 for a win, 1/2 for a draw; 0.5 if no game was played. */
double match_score(const struct match_tally *t);

/*
 * 95 % interval of the score by Wilson's formula (Wilson 1927).  It is made for wins and losses; with draws
 * the score varies less than that, so the interval is too wide rather than too narrow.
 */
void match_interval(const struct match_tally *t, double *ret_low, double *ret_high);
