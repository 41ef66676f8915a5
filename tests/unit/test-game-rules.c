/* SPDX-License-Identifier: MIT */
/*
 * Rules against what others found: games played by OpenSpiel's random player
 * (tests/data/rules), Connect Four positions solved by Pascal Pons' solver
 * (tests/data/connect4), and known counts of paths and positions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>
#include "common/games/game.h"

#ifdef __SANITIZE_ADDRESS__
#define MAX_PERFT         6
#define MAX_POSITIONS_PLY 7
#define SOLVE_FROM_PLY    28
#else
#define MAX_PERFT         8
#define MAX_POSITIONS_PLY 8
#define SOLVE_FROM_PLY    25
#endif

static struct game *make_game(unsigned name) {
        struct config c = { .game_name = name, .game_size = 15, .game_win_length = 5 };
        struct error e = ERROR_INIT;
        struct game *g;

        assert_int_equal(game_new(&c, &g, &e), 0);
        return g;
}

static char *read_file(const char *path) {
        FILE *f = fopen(path, "re");
        char *text = malloc(1 << 20);
        size_t n;

        if (!f || !text)
                fail_msg("could not read %s", path);
        n = fread(text, 1, (1 << 20) - 1, f);
        assert_int_equal(fclose(f), 0);
        text[n] = '\0';
        return text;
}

/* --- recorded games ------------------------------------------------------ */

static int number(const cJSON *object, const char *key) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

        if (!cJSON_IsNumber(item))
                fail_msg("no number '%s'", key);
        return item->valueint;
}

/* Returns the number of states of which the whole description was compared. */
static unsigned compare_state(const struct game *g, const struct game_state *s, const cJSON *want) {
        const cJSON *legal = cJSON_GetObjectItemCaseSensitive(want, "legal");
        const cJSON *returns = cJSON_GetObjectItemCaseSensitive(want, "returns");
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves);

        if (legal) {
                assert_int_equal(n, cJSON_GetArraySize(legal));
                for (unsigned i = 0; i < n; i++)
                        assert_int_equal(moves[i], cJSON_GetArrayItem(legal, (int) i)->valueint);
        }
        if (!returns)
                return 0; /* the source gives only the move here */
        assert_int_equal(s->over, cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(want, "terminal")));
        if (s->over)
                assert_int_equal(n, 0);
        else
                assert_int_equal(s->to_move, number(want, "player"));
        for (unsigned player = 0; player < 2; player++)
                assert_int_equal(game_value(s, player), cJSON_GetArrayItem(returns, (int) player)->valueint);
        return 1;
}

static void replay_recorded(unsigned name, const char *path, unsigned n_states, unsigned n_compared) {
        cleanup_(game_freep) struct game *g = make_game(name);
        cleanup_(freep) char *text = read_file(path);
        cJSON *json = cJSON_Parse(text);
        const cJSON *want;
        struct game_state s;
        unsigned n = 0, compared = 0;

        assert_non_null(json);
        g->start(g, &s);
        cJSON_ArrayForEach(want, cJSON_GetObjectItemCaseSensitive(json, "states")) {
                n++;
                compared += compare_state(g, &s, want);
                if (cJSON_HasObjectItem(want, "action"))
                        g->apply(g, &s, (uint16_t) number(want, "action"));
        }
        assert_true(s.over);
        assert_int_equal(n, n_states);
        assert_int_equal(compared, n_compared);
        cJSON_Delete(json);
}

static void gomoku_as_recorded(void **state) {
        (void) state;
        replay_recorded(GAME_GOMOKU, "tests/data/rules/gomoku.json", 116, 17);
}

static void tictactoe_as_recorded(void **state) {
        (void) state;
        replay_recorded(GAME_TICTACTOE, "tests/data/rules/tic_tac_toe.json", 8, 7);
}

/* --- Connect Four, solved -------------------------------------------------- */

#define COLUMN_FULL -1000

/* The score of a position that was just won: the stones that the winner had left, from the loser's view. */
static int score_of_end(const struct game_state *s) {
        unsigned ply_before = s->ply - 1u;

        return s->winner < 0 ? 0 : -(int) ((43 - ply_before) / 2);
}

static unsigned legal_mask(const struct game *g, const struct game_state *s) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves), mask = 0;

        for (unsigned i = 0; i < n; i++)
                mask |= 1u << moves[i];
        return mask;
}

/* Exact score by plain alpha-beta, without any knowledge beyond the rules. */
static int solve(const struct game *g, const struct game_state *s, int alpha, int beta) {
        static const uint16_t order[7] = { 3, 2, 4, 1, 5, 0, 6 };
        unsigned mask = legal_mask(g, s);

        if (s->over)
                return score_of_end(s);
        for (unsigned i = 0; i < 7; i++) {
                struct game_state next = *s;
                int score;

                if (!(mask >> order[i] & 1))
                        continue;
                g->apply(g, &next, order[i]);
                score = -solve(g, &next, -beta, -alpha);
                if (score >= beta)
                        return score;
                alpha = MAX(alpha, score);
        }
        return alpha;
}

/* What two plies of looking ahead say: the best score if a win is there, the worst if the reply wins, else 0.
 */
static int look_ahead(const struct game *g, const struct game_state *s) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves);

        if (s->over)
                return score_of_end(s);
        for (unsigned i = 0; i < n; i++) {
                struct game_state next = *s;

                g->apply(g, &next, moves[i]);
                if (next.over && next.winner >= 0)
                        return -score_of_end(&next);
        }
        return 0;
}

static unsigned n_wins, n_losses, n_full, n_solved;

static void check_column(const struct game *g, const struct game_state *s, uint16_t col, int want) {
        struct game_state next = *s;
        bool can = legal_mask(g, s) >> col & 1;
        int seen;

        assert_int_equal(want != COLUMN_FULL, can);
        n_full += !can;
        if (!can)
                return;
        g->apply(g, &next, col);
        if (s->ply >= SOLVE_FROM_PLY) {
                n_solved++;
                assert_int_equal(-solve(g, &next, -100, 100), want);
                return;
        }
        seen = -look_ahead(g, &next);
        n_wins += seen > 0;
        n_losses += seen < 0;
        if (seen != 0) {
                assert_int_equal(seen, want);
                return;
        }
        /* nothing ends within two plies: an outcome must be further away than that */
        assert_true(want < (43 - s->ply) / 2);
        assert_true(want > -(42 - s->ply) / 2);
}

static void connect4_as_solved(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_CONNECT4);
        cleanup_(freep) char *text = read_file("tests/data/connect4/oracle.tsv");
        char *rest = text, *line;
        unsigned n_lines = 0;

        (void) state;
        while ((line = strsep(&rest, "\n")) && *line) {
                struct game_state s;
                char moves[64];
                int score, column[7];

                assert_int_equal(sscanf(line, "%63[1-7] %d %d %d %d %d %d %d %d", moves, &score, &column[0],
                                        &column[1], &column[2], &column[3], &column[4], &column[5],
                                        &column[6]),
                                 9);
                n_lines++;
                g->start(g, &s);
                for (const char *m = moves; *m; m++) {
                        char move[2] = { *m, '\0' };

                        assert_true(legal_mask(g, &s) >> (*m - '1') & 1);
                        g->apply(g, &s, g->move_from_text(g, move));
                        assert_false(s.over);
                }
                for (uint16_t col = 0; col < 7; col++)
                        check_column(g, &s, col, column[col]);
        }
        assert_int_equal(n_lines, 500);
        print_message("%u columns win at once, %u lose at once, %u are full, %u solved to the end\n", n_wins,
                      n_losses, n_full, n_solved);
        assert_true(n_wins > 100 && n_losses > 100 && n_full > 100 && n_solved > 100);
}

/* --- counts --------------------------------------------------------------- */

static uint64_t count_paths(const struct game *g, const struct game_state *s, unsigned depth) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves);
        uint64_t paths = 0;

        if (depth == 0)
                return 1;
        for (unsigned i = 0; i < n; i++) {
                struct game_state next = *s;

                g->apply(g, &next, moves[i]);
                paths += count_paths(g, &next, depth - 1);
        }
        return paths;
}

static void connect4_paths(void **state) {
        static const uint64_t want[] = { 1, 7, 49, 343, 2401, 16807, 117649, 823536, 5673234 };
        cleanup_(game_freep) struct game *g = make_game(GAME_CONNECT4);
        struct game_state s;

        (void) state;
        g->start(g, &s);
        for (unsigned depth = 0; depth <= MAX_PERFT; depth++)
                assert_int_equal(count_paths(g, &s, depth), want[depth]);
}

static uint64_t count_games(const struct game *g, const struct game_state *s) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, moves);
        uint64_t games = s->over;

        for (unsigned i = 0; i < n; i++) {
                struct game_state next = *s;

                g->apply(g, &next, moves[i]);
                games += count_games(g, &next);
        }
        return games;
}

static void tictactoe_games(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);
        struct game_state s;

        (void) state;
        g->start(g, &s);
        assert_int_equal(count_games(g, &s), 255168);
}

/* A position and its planes, which tell positions of one ply apart (equal positions have equal bytes too:
 * asserted). */
struct seen {
        unsigned char planes[16];
        struct game_state s;
};

static int compare_seen(const void *a, const void *b) {
        return memcmp(a, b, sizeof(((const struct seen *) a)->planes));
}

/* Sort @all and drop what is there twice. Return: how many are left. */
static size_t unique(struct seen *all, size_t n) {
        size_t kept = 0;

        qsort(all, n, sizeof(*all), compare_seen);
        for (size_t i = 0; i < n; i++) {
                if (kept > 0 && compare_seen(&all[kept - 1], &all[i]) == 0) {
                        assert_memory_equal(&all[kept - 1].s, &all[i].s, sizeof(all[i].s));
                        continue;
                }
                all[kept++] = all[i];
        }
        return kept;
}

/* Positions one ply on from @now, each once. */
static size_t next_positions(const struct game *g, const struct seen *now, size_t n_now, struct seen **ret) {
        struct seen *next = calloc(n_now * g->moves, sizeof(*next));
        size_t n = 0;

        assert_non_null(next);
        assert_true(GAME_PLANES_BYTES(g) <= sizeof(next->planes));
        for (size_t i = 0; i < n_now; i++) {
                uint16_t moves[GAME_MAX_MOVES];
                unsigned n_moves = g->legal(g, &now[i].s, moves);

                for (unsigned m = 0; m < n_moves; m++, n++) {
                        next[n].s = now[i].s;
                        g->apply(g, &next[n].s, moves[m]);
                        g->encode(g, &next[n].s, next[n].planes);
                }
        }
        *ret = next;
        return unique(next, n);
}

/* Compare with @want_by_ply as far as it goes. Return: distinct positions of plies 0 to @max_ply. */
static uint64_t count_positions(const struct game *g, unsigned max_ply, const uint64_t *want_by_ply) {
        struct seen *now = calloc(1, sizeof(*now)), *next;
        size_t n = 1;
        uint64_t total = 0;

        assert_non_null(now);
        g->start(g, &now->s);
        for (unsigned ply = 0; ply <= max_ply; ply++) {
                if (want_by_ply)
                        assert_int_equal(n, want_by_ply[ply]);
                total += n;
                if (ply == max_ply)
                        break;
                n = next_positions(g, now, n, &next);
                free(now);
                now = next;
        }
        free(now);
        return total;
}

static void connect4_positions(void **state) {
        static const uint64_t want[] = { 1, 7, 49, 238, 1120, 4263, 16422, 54859, 184275 };
        cleanup_(game_freep) struct game *g = make_game(GAME_CONNECT4);

        (void) state;
        (void) count_positions(g, MAX_POSITIONS_PLY, want);
}

static void tictactoe_positions(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE);

        (void) state;
        assert_int_equal(count_positions(g, 9, NULL), 5478);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(gomoku_as_recorded),  cmocka_unit_test(tictactoe_as_recorded),
                cmocka_unit_test(connect4_as_solved),  cmocka_unit_test(connect4_paths),
                cmocka_unit_test(tictactoe_games),     cmocka_unit_test(connect4_positions),
                cmocka_unit_test(tictactoe_positions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
