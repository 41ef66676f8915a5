/* SPDX-License-Identifier: MIT */
/*
 * The model player: the leaves of many boards in one batch give the games that
 * one board at a time gives; other games' models are refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "common/model/safetensors.h"
#include "tests/unit/fixture-network.h"
#include "worker/match/match.h"

#define SIMULATIONS 12

static char directory[64];

static struct config make_config(unsigned name) {
        struct config c;

        config_defaults(&c);
        c.game_name = name;
        c.selfplay_precision = PRECISION_F32;
        return c;
}

static struct game *make_game(unsigned name) {
        struct config c = make_config(name);
        struct error e = ERROR_INIT;
        struct game *g;

        assert_int_equal(game_new(&c, &g, &e), 0);
        return g;
}

/* Write random weights for @g; the player's description goes to @ret. */
static void write_model(const struct game *g, uint64_t seed, char ret[128]) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = NULL;
        struct model_info info = { .generation = 10 + seed, .step = 100, .unix_us = 1 };
        struct error e = ERROR_INIT;

        network_init(&info.network, g, 16, 1);
        w = fixture_weights_new(&info.network, seed);
        (void) snprintf(ret, 128, "model:%s/%s-%ju", directory, g->name, (uintmax_t) seed);
        if (model_write(AT_FDCWD, ret + strlen("model:"), &info, fixture_tensors(w), &e) < 0)
                fail_msg("%s", e.text);
}

static struct player *make_player(const char *spec, const struct game *g, const struct config *c,
                                  unsigned n_boards) {
        struct error e = ERROR_INIT;
        struct player *p;

        if (player_new(spec, g, c, SIMULATIONS, n_boards, &p, &e) < 0)
                fail_msg("%s", e.text);
        return p;
}

static uint16_t move_alone(struct player *p, const struct game_state *s, struct rng *rng) {
        struct error e = ERROR_INIT;
        uint16_t move;

        while (player_move(p, 0, s, rng, &move) == PLAYER_E_WAITS)
                assert_int_equal(player_evaluate(p, &e), 0);
        return move;
}

/* The games of match_run(), one after the other. */
static struct match_result one_by_one(const struct match_options *o, struct player *const players[2]) {
        const struct game *g = o->game;
        struct match_result r = { 0 };

        for (uint64_t number = 0; number < o->n_games; number++) {
                struct rng opening, playing;
                uint16_t moves[GAME_MAX_MOVES];
                struct game_state s;
                unsigned color = number & 1;
                int value;

                rng_seed(&opening, o->seed, number & ~UINT64_C(1));
                rng_seed(&playing, o->seed, 2 * number + 1);
                g->start(g, &s);
                for (unsigned i = 0; i < o->opening_plies; i++)
                        g->apply(g, &s, moves[rng_below(&opening, g->legal(g, &s, moves))]);
                while (!s.over)
                        g->apply(g, &s, move_alone(players[s.to_move == color ? 0 : 1], &s, &playing));
                value = game_value(&s, color);
                r.by_color[color].wins += value == 1;
                r.by_color[color].draws += value == 0;
                r.by_color[color].losses += value == -1;
                r.n_plies += s.ply;
        }
        return r;
}

static void one_batch_or_one_by_one(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_CONNECT4);
        struct config c = make_config(GAME_CONNECT4);
        char first[128], second[128];

        (void) state;
        write_model(g, 1, first);
        write_model(g, 2, second);
        for (unsigned random_opponent = 0; random_opponent < 2; random_opponent++) {
                const char *opponent = random_opponent ? "random" : second;
                /* more games than boards, so that boards start new games while others are in theirs */
                struct match_options o = {
                        .game = g, .n_games = MATCH_MAX_BOARDS + 6, .opening_plies = 3, .seed = 5
                };
                cleanup_(player_freep) struct player *a = make_player(first, g, &c,
                                                                      match_n_boards(o.n_games)),
                                                     *b = make_player(opponent, g, &c,
                                                                      match_n_boards(o.n_games)),
                                                     *a1 = make_player(first, g, &c, 1),
                                                     *b1 = make_player(opponent, g, &c, 1);
                struct match_result r, want = one_by_one(&o, (struct player *[2]){ a1, b1 });
                struct error e = ERROR_INIT;

                o.players[0] = a;
                o.players[1] = b;
                assert_int_equal(match_run(&o, &r, &e), 0);
                assert_memory_equal(&r, &want, sizeof(r));
                assert_int_equal(match_n_games(&r.by_color[0]) + match_n_games(&r.by_color[1]), o.n_games);
        }
}

/* Without noise and temperature, and with symmetries off, nothing is left to chance. */
static void plays_without_noise(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_CONNECT4);
        struct config c = make_config(GAME_CONNECT4);
        uint16_t want = GAME_NO_MOVE;
        struct game_state s;
        char spec[128];

        (void) state;
        c.search_random_symmetry = false;
        write_model(g, 3, spec);
        g->start(g, &s);
        for (uint64_t seed = 0; seed < 30; seed++) {
                cleanup_(player_freep) struct player *p = make_player(spec, g, &c, 1);
                struct rng rng;
                uint16_t move;

                rng_seed(&rng, seed, 0);
                move = move_alone(p, &s, &rng);
                if (seed > 0)
                        assert_int_equal(move, want);
                want = move;
        }
}

static void says_what_it_is(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);
        struct config c = make_config(GAME_TICTACTOE);
        char spec[128];

        (void) state;
        write_model(g, 4, spec);
        cleanup_(player_freep) struct player *p = make_player(spec, g, &c, 1);
        struct player_info i = player_info(p);

        assert_true(i.is_model);
        assert_string_equal(i.spec, spec);
        assert_int_equal(i.simulations, SIMULATIONS);
        assert_int_equal(i.generation, 14);
        assert_int_equal(i.step, 100);
}

static void refuse(const char *spec, unsigned name, int want, const char *word1, const char *word2) {
        cleanup_(game_freep) struct game *g = make_game(name);
        struct config c = make_config(name);
        struct player *p = NULL;
        struct error e = ERROR_INIT;

        assert_int_equal(player_new(spec, g, &c, 1, 1, &p, &e), want);
        assert_null(p);
        assert_non_null(strstr(e.text, word1));
        assert_non_null(strstr(e.text, word2));
        assert_null(strchr(e.text, '\n'));
}

static void refuses_models_of_other_games(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);
        char spec[128], none[160];

        (void) state;
        write_model(g, 5, spec);
        refuse(spec, GAME_CONNECT4, -EINVAL, "tictactoe:3x3:3", "connect4:6x7:4");
        refuse(spec, GAME_GOMOKU, -EINVAL, "tictactoe:3x3:3", "gomoku:15x15:5:freestyle:draw0");
        (void) snprintf(none, sizeof(none), "%s-none", spec);
        refuse(none, GAME_TICTACTOE, -ENOENT, "-none", "");
        refuse("model:tests/data/connect4/oracle.tsv", GAME_CONNECT4, -EBADMSG, "oracle.tsv", "");
}

/* The game's name is right, but the network wants other planes or moves than the game has. */
static void refuses_networks_of_other_shapes(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);
        struct game others[3] = { *g, *g, *g };
        struct config c = make_config(GAME_TICTACTOE);
        char spec[128];

        (void) state;
        others[1].planes = 4;
        others[2].moves = 10;
        write_model(&others[0], 6, spec);
        player_free(make_player(spec, g, &c, 1));
        write_model(&others[1], 6, spec);
        refuse(spec, GAME_TICTACTOE, -EINVAL, "has 4 planes", "tictactoe:3x3:3 has 3 of");
        write_model(&others[2], 6, spec);
        refuse(spec, GAME_TICTACTOE, -EINVAL, "and 10 moves", "of 3 x 3 and 9");
}

static int make_directory(void **state) {
        (void) state;
        fixture_directory(directory);
        return 0;
}

static int remove_directory(void **state) {
        (void) state;
        fixture_remove(directory);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_batch_or_one_by_one),
                cmocka_unit_test(plays_without_noise),
                cmocka_unit_test(says_what_it_is),
                cmocka_unit_test(refuses_models_of_other_games),
                cmocka_unit_test(refuses_networks_of_other_shapes),
        };

        return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
