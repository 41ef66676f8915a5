/* SPDX-License-Identifier: MIT */
/*
 * Matches: who moves first, whose point it is, openings, the interval, the
 * report; plain search beats random moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <cjson/cJSON.h>
#include "common/base/rng.h"
#include "common/games/game.h"
#include "worker/match/match.h"
#include "worker/match/report.h"

#ifdef __SANITIZE_ADDRESS__
#define N_STRENGTH_GAMES 20
#else
#define N_STRENGTH_GAMES 100
#endif

static struct config make_config(unsigned name) {
        struct config c;

        config_defaults(&c);
        c.game_name = name;
        c.game_size = 6;
        c.game_win_length = 4;
        return c;
}

struct setup {
        struct game *game;
        struct match_options options;
};

static struct setup make_setup(unsigned name, const char *first, const char *second, uint64_t n_games) {
        struct config c = make_config(name);
        struct setup s = { .options = { .n_games = n_games, .opening_plies = 2, .seed = 7 } };
        unsigned n_boards = match_n_boards(n_games);
        struct error e = ERROR_INIT;

        if (game_new(&c, &s.game, &e) < 0 ||
            player_new(first, s.game, &c, 100, n_boards, &s.options.players[0], &e) < 0 ||
            player_new(second, s.game, &c, 100, n_boards, &s.options.players[1], &e) < 0)
                fail_msg("%s", e.text);
        s.options.game = s.game;
        return s;
}

static void setup_deinit(struct setup *s) {
        player_free(s->options.players[0]);
        player_free(s->options.players[1]);
        game_free(s->game);
}

static struct match_result run(const struct match_options *o) {
        struct match_result r;
        struct error e = ERROR_INIT;

        if (match_run(o, &r, &e) < 0)
                fail_msg("%s", e.text);
        return r;
}

/* --- accounting --------------------------------------------------------------- */

/* What two random players do, move by move as match.h says it: the seed's streams, the colours, the openings.
 */
static struct match_result expected_of_random(const struct game *g, uint64_t n_games, unsigned opening_plies,
                                              uint64_t seed) {
        struct match_result r = { 0 };

        for (uint64_t number = 0; number < n_games; number++) {
                struct rng opening, playing;
                struct game_state s;
                uint16_t moves[GAME_MAX_MOVES];
                unsigned first_color = number & 1;

                rng_seed(&opening, seed, number / 2 * 2);
                rng_seed(&playing, seed, number * 2 + 1);
                do
                        for (g->start(g, &s); s.ply < opening_plies && !s.over;)
                                g->apply(g, &s, moves[rng_below(&opening, g->legal(g, &s, moves))]);
                while (s.over);
                while (!s.over)
                        g->apply(g, &s, moves[rng_below(&playing, g->legal(g, &s, moves))]);
                if (s.winner < 0)
                        r.by_color[first_color].draws++;
                else if ((unsigned) s.winner == first_color)
                        r.by_color[first_color].wins++;
                else
                        r.by_color[first_color].losses++;
                r.n_plies += s.ply;
        }
        return r;
}

static void random_against_random(void **state) {
        static const unsigned games[] = { GAME_TICTACTOE, GAME_CONNECT4, GAME_GOMOKU };
        static const unsigned openings[] = { 0, 2, 6 };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(games); i++) {
                struct setup s = make_setup(games[i], "random", "random", 300);
                struct match_result r, want;

                s.options.opening_plies = openings[i];
                r = run(&s.options);
                want = expected_of_random(s.game, 300, openings[i], 7);
                assert_memory_equal(&r, &want, sizeof(r));
                assert_int_equal(match_n_games(&r.by_color[0]), 150);
                assert_int_equal(match_n_games(&r.by_color[1]), 150);
                /* who moves first has the better of it, so the colours were not mixed up */
                assert_true(match_score(&r.by_color[0]) > match_score(&r.by_color[1]));
                setup_deinit(&s);
        }
}

static void two_games_of_a_pair_share_the_opening(void **state) {
        struct setup s = make_setup(GAME_TICTACTOE, "random", "random", 2);
        struct match_result r;

        (void) state;
        /* with one empty cell left, and nobody winning on it or both games alike, a pair always comes out
         * even */
        s.options.opening_plies = 8;
        for (uint64_t seed = 0; seed < 200; seed++) {
                s.options.seed = seed;
                r = run(&s.options);
                assert_int_equal(r.n_plies, 18);
                assert_int_equal(r.by_color[0].wins, r.by_color[1].losses);
                assert_int_equal(r.by_color[0].losses, r.by_color[1].wins);
                assert_int_equal(r.by_color[0].draws, r.by_color[1].draws);
        }
        setup_deinit(&s);
}

static void refuses_openings_that_end_the_game(void **state) {
        struct setup s = make_setup(GAME_TICTACTOE, "random", "random", 2);
        struct match_result r;
        struct error e = ERROR_INIT;

        (void) state;
        s.options.opening_plies = 9;
        assert_int_equal(match_run(&s.options, &r, &e), -EINVAL);
        assert_non_null(strstr(e.text, "9"));
        setup_deinit(&s);
}

static void count_calls(void *userdata, const struct match_result *so_far) {
        uint64_t *n = userdata;
        struct match_tally t = match_total(so_far);

        assert_int_equal(match_n_games(&t), ++*n);
}

static void progress_after_each_game(void **state) {
        struct setup s = make_setup(GAME_CONNECT4, "random", "random", 150);
        uint64_t n = 0;

        (void) state;
        s.options.progress = count_calls;
        s.options.userdata = &n;
        (void) run(&s.options);
        assert_int_equal(n, 150);
        setup_deinit(&s);
}

static void seed_fixes_the_games(void **state) {
        struct setup s = make_setup(GAME_CONNECT4, "plain", "random", 40);
        struct match_result first = run(&s.options), again = run(&s.options), other;

        (void) state;
        assert_memory_equal(&first, &again, sizeof(first));
        s.options.seed++;
        other = run(&s.options);
        assert_memory_not_equal(&first, &other, sizeof(first));
        setup_deinit(&s);
}

/* --- score and interval ------------------------------------------------------- */

static void score_counts_draws_half(void **state) {
        (void) state;
        assert_float_equal(match_score(&(struct match_tally){ 3, 4, 3 }), 0.5, 1e-12);
        assert_float_equal(match_score(&(struct match_tally){ 8, 0, 2 }), 0.8, 1e-12);
        assert_float_equal(match_score(&(struct match_tally){ 0, 1, 3 }), 0.125, 1e-12);
        assert_float_equal(match_score(&(struct match_tally){ 0 }), 0.5, 1e-12);
}

/* Numbers of an independent calculator for Wilson's interval. */
static void interval_is_wilsons(void **state) {
        static const struct {
                struct match_tally t;
                double low, high;
        } want[] = {
                { { 8, 0, 2 }, 0.4901625, 0.9433178 },
                { { 0, 0, 10 }, 0, 0.2775328 },
                { { 10, 0, 0 }, 0.7224672, 1 },
                { { 50, 0, 50 }, 0.4038315, 0.5961685 },
                { { 30, 40, 30 }, 0.4038315, 0.5961685 },
                { { 97, 1, 2 }, 0.9226360, 0.9922202 },
                { { 0, 0, 0 }, 0, 1 },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(want); i++) {
                double low, high;

                match_interval(&want[i].t, &low, &high);
                assert_float_equal(low, want[i].low, 1e-6);
                assert_float_equal(high, want[i].high, 1e-6);
        }
}

/* --- players ------------------------------------------------------------------ */

static void plain_beats_random(void **state) {
        static const unsigned games[] = { GAME_TICTACTOE, GAME_CONNECT4 };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(games); i++)
                for (unsigned place = 0; place < 2; place++) {
                        struct setup s = make_setup(games[i], place ? "random" : "plain",
                                                    place ? "plain" : "random", N_STRENGTH_GAMES);
                        struct match_result r = run(&s.options);
                        struct match_tally t = match_total(&r);
                        uint64_t won = place ? t.losses : t.wins, lost = place ? t.wins : t.losses;

                        print_message("%s: plain wins %ju, loses %ju of %u\n", s.game->name, (uintmax_t) won,
                                      (uintmax_t) lost, N_STRENGTH_GAMES);
                        if (games[i] == GAME_CONNECT4)
                                assert_true(won >= 0.95 * N_STRENGTH_GAMES);
                        else
                                assert_true(won >= 0.75 * N_STRENGTH_GAMES &&
                                            lost <= 0.05 * N_STRENGTH_GAMES);
                        setup_deinit(&s);
                }
}

static void refuses_other_players(void **state) {
        static const char *const bad[] = {
                "", "Random", "plain ", "plain:100", "model", "model.safetensors"
        };
        struct config c = make_config(GAME_CONNECT4);
        cleanup_(game_freep) struct game *g = NULL;
        struct error e = ERROR_INIT;

        (void) state;
        assert_int_equal(game_new(&c, &g, &e), 0);
        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                struct player *p = NULL;

                assert_int_equal(player_check(bad[i], &e), -EINVAL);
                assert_int_equal(player_new(bad[i], g, &c, 1, 1, &p, &e), -EINVAL);
                assert_null(p);
                assert_non_null(strstr(e.text, bad[i]));
                assert_null(strchr(e.text, '\n'));
        }
}

/* --- report ------------------------------------------------------------------- */

static double number(const cJSON *object, const char *key) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

        if (!cJSON_IsNumber(item))
                fail_msg("no number '%s'", key);
        return item->valuedouble;
}

static void report_of(const struct report *r, int (*print)(const struct report *, FILE *), char *text,
                      size_t n) {
        FILE *f = fmemopen(text, n, "w");

        assert_non_null(f);
        assert_int_equal(print(r, f), 0);
        assert_int_equal(fclose(f), 0);
}

static void reports_what_was_played(void **state) {
        struct setup s = make_setup(GAME_CONNECT4, "plain", "random", 10);
        struct match_result result = { .by_color = { { 3, 1, 1 }, { 2, 0, 3 } }, .n_plies = 255 };
        struct report report = { .options = &s.options, .result = &result, .seconds = 1.5 };
        char text[2000] = "";
        const cJSON *part;
        cJSON *json;

        (void) state;
        report_of(&report, report_json, text, sizeof(text));
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
        json = cJSON_Parse(text);
        assert_non_null(json);
        assert_string_equal(cJSON_GetObjectItem(json, "rules")->valuestring, "connect4:6x7:4");
        assert_int_equal(number(json, "games"), 10);
        assert_int_equal(number(json, "wins"), 5);
        assert_int_equal(number(json, "draws"), 1);
        assert_int_equal(number(json, "losses"), 4);
        assert_float_equal(number(json, "score"), 0.55, 1e-9);
        assert_float_equal(number(json, "average_plies"), 25.5, 1e-9);
        assert_int_equal(number(json, "opening_plies"), 2);
        assert_int_equal(number(json, "seed"), 7);
        part = cJSON_GetObjectItem(json, "interval");
        assert_int_equal(cJSON_GetArraySize(part), 2);
        assert_true(cJSON_GetArrayItem(part, 0)->valuedouble < 0.55 &&
                    cJSON_GetArrayItem(part, 1)->valuedouble > 0.55);
        part = cJSON_GetObjectItem(json, "second_to_move");
        assert_int_equal(number(part, "wins"), 2);
        assert_int_equal(number(part, "losses"), 3);
        part = cJSON_GetObjectItem(json, "first");
        assert_string_equal(cJSON_GetObjectItem(part, "player")->valuestring, "plain");
        assert_int_equal(number(part, "simulations"), 100);
        assert_null(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "second"), "simulations"));
        cJSON_Delete(json);

        (void) memset(text, 0, sizeof(text));
        report_of(&report, report_text, text, sizeof(text));
        assert_non_null(strstr(text, "score 0.550, 95 % interval 0."));
        assert_non_null(strstr(text, "25.5 plies a game"));
        setup_deinit(&s);
}

/* A full disk is an error, not half a report. */
static void report_that_cannot_be_written(void **state) {
        struct setup s = make_setup(GAME_CONNECT4, "random", "random", 2);
        struct match_result result = { .by_color = { { 1, 0, 0 }, { 1, 0, 0 } }, .n_plies = 20 };
        struct report report = { .options = &s.options, .result = &result };
        FILE *full = fopen("/dev/full", "we");

        (void) state;
        assert_non_null(full);
        assert_int_equal(report_json(&report, full), -EIO);
        assert_int_equal(report_text(&report, full), -EIO);
        (void) fclose(full);
        setup_deinit(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(random_against_random),
                cmocka_unit_test(two_games_of_a_pair_share_the_opening),
                cmocka_unit_test(refuses_openings_that_end_the_game),
                cmocka_unit_test(progress_after_each_game),
                cmocka_unit_test(seed_fixes_the_games),
                cmocka_unit_test(score_counts_draws_half),
                cmocka_unit_test(interval_is_wilsons),
                cmocka_unit_test(plain_beats_random),
                cmocka_unit_test(refuses_other_players),
                cmocka_unit_test(reports_what_was_played),
                cmocka_unit_test(report_that_cannot_be_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
