/* SPDX-License-Identifier: MIT */
/*
 * Plays a match; see match.h.  Process: azpar-match.
 *
 * A board plays one game after the other: number 2k and 2k + 1 start from the
 * same opening, in the odd one the second player moves first.  All random
 * numbers of a game come from its own number and the seed, not from its
 * board, so that results do not depend on how many games are in play.
 */
#include "worker/match/match.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#define OPENING_TRIES 1000
#define Z_95          1.959963984540054 /* two-sided 95 % quantile of the standard normal distribution */

struct board {
        bool playing;
        uint64_t number; /* of the game */
        struct game_state position;
        struct rng rng;
};

struct match {
        const struct match_options *options;
        uint64_t n_started;
        struct match_result result;
        struct board boards[MATCH_MAX_BOARDS];
};

unsigned match_n_boards(uint64_t n_games) {
        return (unsigned) MIN(n_games, MATCH_MAX_BOARDS);
}

/* Random moves; a game that ends in them is no opening, then another one is drawn. */
static int match_opening(const struct match_options *o, uint64_t pair, struct game_state *ret,
                         struct error *e) {
        const struct game *g = o->game;
        struct rng rng;

        rng_seed(&rng, o->seed, 2 * pair);
        for (unsigned tries = 0; tries < OPENING_TRIES; tries++) {
                g->start(g, ret);
                while (!ret->over && ret->ply < o->opening_plies) {
                        uint16_t moves[GAME_MAX_MOVES];

                        g->apply(g, ret, moves[rng_below(&rng, g->legal(g, ret, moves))]);
                }
                if (!ret->over)
                        return 0;
        }
        return error_set(e, -EINVAL, "openings of %u plies: no random one leaves %s open, take fewer plies",
                         o->opening_plies, g->rules);
}

static int board_start(struct match *m, struct board *b, struct error *e) {
        b->number = m->n_started++;
        b->playing = true;
        rng_seed(&b->rng, m->options->seed, 2 * b->number + 1);
        return match_opening(m->options, b->number / 2, &b->position, e);
}

static void board_finish(struct match *m, struct board *b) {
        unsigned color = b->number % 2; /* of the first player */
        struct match_tally *t = &m->result.by_color[color];
        int value = game_value(&b->position, color);

        t->wins += value > 0;
        t->draws += value == 0;
        t->losses += value < 0;
        m->result.n_plies += b->position.ply;
        b->playing = false;
        if (m->options->progress)
                m->options->progress(m->options->userdata, &m->result);
}

/* Play on board @i until a player waits for its network or no game is left. Return: 0 or a negative errno. */
static int board_play(struct match *m, unsigned i, struct error *e) {
        const struct match_options *o = m->options;
        struct board *b = &m->boards[i];

        for (;;) {
                uint16_t move;
                int r;

                if (!b->playing) {
                        if (m->n_started >= o->n_games)
                                return 0;
                        r = board_start(m, b, e);
                        if (r < 0)
                                return r;
                }
                r = player_move(o->players[b->position.to_move ^ b->number % 2], i, &b->position, &b->rng,
                                &move);
                if (r == PLAYER_E_WAITS)
                        return 0;
                o->game->apply(o->game, &b->position, move);
                if (b->position.over)
                        board_finish(m, b);
        }
}

int match_run(const struct match_options *o, struct match_result *ret, struct error *e) {
        cleanup_(freep) struct match *m = calloc(1, sizeof(*m));
        unsigned n_boards = match_n_boards(o->n_games), n_playing;

        assert(o->n_games % 2 == 0 && o->n_games <= MATCH_MAX_GAMES);
        if (!m)
                return error_set(e, -ENOMEM, "out of memory for the match");
        m->options = o;
        do {
                n_playing = 0;
                for (unsigned i = 0; i < n_boards; i++) {
                        int r = board_play(m, i, e);

                        if (r < 0)
                                return r;
                        n_playing += m->boards[i].playing;
                }
                for (unsigned i = 0; i < 2; i++) {
                        int r = player_evaluate(o->players[i], e);

                        if (r < 0)
                                return r;
                }
        } while (n_playing > 0);
        *ret = m->result;
        return 0;
}

struct match_tally match_total(const struct match_result *r) {
        return (struct match_tally){
                .wins = r->by_color[0].wins + r->by_color[1].wins,
                .draws = r->by_color[0].draws + r->by_color[1].draws,
                .losses = r->by_color[0].losses + r->by_color[1].losses,
        };
}

uint64_t match_n_games(const struct match_tally *t) {
        return t->wins + t->draws + t->losses;
}

double match_score(const struct match_tally *t) {
        uint64_t n = match_n_games(t);

        return n == 0 ? 0.5 : ((double) t->wins + (double) t->draws / 2) / (double) n;
}

void match_interval(const struct match_tally *t, double *ret_low, double *ret_high) {
        double n = (double) match_n_games(t), score = match_score(t), z2 = Z_95 * Z_95, middle, half;

        if (n == 0) {
                *ret_low = 0;
                *ret_high = 1;
                return;
        }
        middle = (score + z2 / (2 * n)) / (1 + z2 / n);
        half = Z_95 / (1 + z2 / n) * sqrt(score * (1 - score) / n + z2 / (4 * n * n));
        *ret_low = MAX(0.0, middle - half);
        *ret_high = MIN(1.0, middle + half);
}
