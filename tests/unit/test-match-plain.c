/* SPDX-License-Identifier: MIT */
/*
 * The plain player: uniform where it has nothing to go by, finds wins in one,
 * blocks losses in one, and with enough simulations does not lose tic-tac-toe to
 * exhaustive search.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include "common/base/rng.h"
#include "common/games/game.h"
#include "worker/match/plain.h"

#ifdef __SANITIZE_ADDRESS__
#define N_POSITIONS 20
#else
#define N_POSITIONS 100
#endif

static struct game *make_game(unsigned name) {
        struct config c;
        struct error e = ERROR_INIT;
        struct game *g;

        config_defaults(&c);
        c.game_name = name;
        assert_int_equal(game_new(&c, &g, &e), 0);
        return g;
}

static struct plain *make_plain(const struct game *g, uint32_t simulations) {
        struct plain *p;

        assert_int_equal(plain_new(g, simulations, &p), 0);
        return p;
}

/* With a single simulation the one move that is tried is drawn uniformly. */
static void one_simulation_is_uniform(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);
        cleanup_(plain_freep) struct plain *p = make_plain(g, 1);
        unsigned n[9] = { 0 };
        struct game_state s;
        struct rng rng;

        (void) state;
        rng_seed(&rng, 1, 0);
        g->start(g, &s);
        g->apply(g, &s, 4);
        for (unsigned i = 0; i < 8000; i++)
                n[plain_choose(p, &s, &rng)]++;
        assert_int_equal(n[4], 0);
        for (unsigned i = 0; i < 9; i++)
                if (i != 4)
                        assert_in_range(n[i], 850, 1150); /* five standard deviations of 30 */
}

/* Moves that win at once for the side to move. Return: how many. */
static unsigned wins_in_one(const struct game *g, const struct game_state *s, bool ret_wins[GAME_MAX_MOVES]) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves), n_wins = 0;

        (void) memset(ret_wins, 0, sizeof(bool) * GAME_MAX_MOVES);
        for (unsigned i = 0; i < n; i++) {
                struct game_state next = *s;

                g->apply(g, &next, moves[i]);
                if (next.winner >= 0) {
                        ret_wins[moves[i]] = true;
                        n_wins++;
                }
        }
        return n_wins;
}

/* Moves after which the opponent has no win in one. Return: how many. */
static unsigned blocks(const struct game *g, const struct game_state *s, bool ret_blocks[GAME_MAX_MOVES]) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves), n_blocks = 0;

        (void) memset(ret_blocks, 0, sizeof(bool) * GAME_MAX_MOVES);
        for (unsigned i = 0; i < n; i++) {
                bool wins[GAME_MAX_MOVES];
                struct game_state next = *s;

                g->apply(g, &next, moves[i]);
                if (wins_in_one(g, &next, wins) == 0) {
                        ret_blocks[moves[i]] = true;
                        n_blocks++;
                }
        }
        return n_blocks;
}

struct tally {
        unsigned n_wins, won, n_blocks, blocked;
};

/* Positions of random games: where one can win at once, and where one cannot but has to block. */
static struct tally play_positions(const struct game *g, uint32_t simulations) {
        cleanup_(plain_freep) struct plain *p = make_plain(g, simulations);
        struct tally t = { 0 };
        struct rng rng;

        rng_seed(&rng, 2, 0);
        while (t.n_wins < N_POSITIONS || t.n_blocks < N_POSITIONS) {
                struct game_state s;

                for (g->start(g, &s); !s.over;) {
                        bool good[GAME_MAX_MOVES];
                        uint16_t moves[GAME_MAX_MOVES];
                        unsigned n = g->legal(g, &s, moves);

                        if (wins_in_one(g, &s, good) > 0) {
                                t.n_wins++;
                                t.won += good[plain_choose(p, &s, &rng)];
                        } else if (blocks(g, &s, good) == 1 && n > 1) {
                                t.n_blocks++;
                                t.blocked += good[plain_choose(p, &s, &rng)];
                        }
                        g->apply(g, &s, moves[rng_below(&rng, n)]);
                }
        }
        print_message("%s, %u simulations: %u of %u wins in one, %u of %u blocks\n", g->name, simulations,
                      t.won, t.n_wins, t.blocked, t.n_blocks);
        return t;
}

/* At least the share @rate of @n, give or take two: there are few under a sanitizer. */
static bool reaches(unsigned k, unsigned n, double rate) {
        return k + 2 >= rate * n;
}

/*
 * Not all of them: this search proves nothing, so a hundred simulations on seven columns sometimes miss that
 * only one of them blocks, and of two moves that both win in the end it need not take the shorter way.
 */
static void wins_and_blocks_in_connect4(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_CONNECT4);
        struct tally t;

        (void) state;
        t = play_positions(g, 1);
        assert_false(reaches(t.won, t.n_wins, 0.5) || reaches(t.blocked, t.n_blocks, 0.5));
        t = play_positions(g, 100);
        assert_true(reaches(t.won, t.n_wins, 0.97) && reaches(t.blocked, t.n_blocks, 0.7));
        t = play_positions(g, 1000);
        assert_true(reaches(t.won, t.n_wins, 0.99) && reaches(t.blocked, t.n_blocks, 0.97));
}

static void wins_and_blocks_in_tictactoe(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);
        struct tally t = play_positions(g, 300);

        (void) state;
        assert_true(reaches(t.won, t.n_wins, 0.95) && reaches(t.blocked, t.n_blocks, 0.97));
}

/* Value of a position for its side to move, by trying everything. */
static int exhaustive(const struct game *g, const struct game_state *s) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves);
        int best = -1;

        if (s->over)
                return game_value(s, s->to_move);
        for (unsigned i = 0; i < n && best < 1; i++) {
                struct game_state next = *s;

                g->apply(g, &next, moves[i]);
                best = MAX(best, -exhaustive(g, &next));
        }
        return best;
}

/* One of the best moves. */
static uint16_t perfect_move(const struct game *g, const struct game_state *s, struct rng *rng) {
        uint16_t moves[GAME_MAX_MOVES], good[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves), n_good = 0;
        int best = -1;

        for (unsigned i = 0; i < n; i++) {
                struct game_state next = *s;
                int value;

                g->apply(g, &next, moves[i]);
                value = -exhaustive(g, &next);
                if (value > best) {
                        best = value;
                        n_good = 0;
                }
                if (value == best)
                        good[n_good++] = moves[i];
        }
        return good[rng_below(rng, n_good)];
}

/* Games lost against a perfect player out of @n_games. */
static unsigned losses_to_perfect(uint32_t simulations, unsigned n_games) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);
        cleanup_(plain_freep) struct plain *p = make_plain(g, simulations);
        unsigned n_lost = 0;
        struct rng rng;

        rng_seed(&rng, 3, 0);
        for (unsigned i = 0; i < n_games; i++) {
                unsigned player = i % 2;
                struct game_state s;

                for (g->start(g, &s); !s.over;) {
                        uint16_t move =
                                s.to_move == player ? plain_choose(p, &s, &rng) : perfect_move(g, &s, &rng);

                        g->apply(g, &s, move);
                }
                n_lost += game_value(&s, player) < 0;
                assert_true(game_value(&s, player) <= 0);
        }
        return n_lost;
}

static void does_not_lose_tictactoe(void **state) {
        (void) state;
        assert_int_equal(losses_to_perfect(3000, N_POSITIONS / 5), 0);
        assert_true(losses_to_perfect(1, 20) > 5); /* the opponent does punish mistakes */
}

static void same_seed_same_moves(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_GOMOKU);
        uint16_t moves[2][10];

        (void) state;
        for (unsigned i = 0; i < 2; i++) {
                cleanup_(plain_freep) struct plain *p = make_plain(g, 50);
                struct game_state s;
                struct rng rng;

                rng_seed(&rng, 4, 0);
                g->start(g, &s);
                for (unsigned k = 0; k < 10; k++) {
                        moves[i][k] = plain_choose(p, &s, &rng);
                        g->apply(g, &s, moves[i][k]);
                }
        }
        assert_memory_equal(moves[0], moves[1], sizeof(moves[0]));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_simulation_is_uniform),    cmocka_unit_test(wins_and_blocks_in_connect4),
                cmocka_unit_test(wins_and_blocks_in_tictactoe), cmocka_unit_test(does_not_lose_tictactoe),
                cmocka_unit_test(same_seed_same_moves),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
