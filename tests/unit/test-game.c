/* SPDX-License-Identifier: MIT */
/*
 * The game interface: lines against a naive checker that looks at the whole
 * board, symmetries, planes, text, refused parameters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/rng.h"
#include "common/games/game.h"

#ifdef __SANITIZE_ADDRESS__
#define EFFORT 1u
#else
#define EFFORT 10u
#endif

static struct config make_config(unsigned name, unsigned size, unsigned win_length, bool exact,
                                 unsigned draw_ply) {
        return (struct config){
                .game_name = name,
                .game_size = size,
                .game_win_length = win_length,
                .game_exact = exact,
                .game_draw_ply = draw_ply,
        };
}

static struct game *make_game(unsigned name, unsigned size, unsigned win_length, bool exact,
                              unsigned draw_ply) {
        struct config c = make_config(name, size, win_length, exact, draw_ply);
        struct error e = ERROR_INIT;
        struct game *g;

        if (game_new(&c, &g, &e) < 0)
                fail_msg("%s", e.text);
        return g;
}

/* One of each kind that the tests below go over. */
#define N_GAMES 6
static struct game *make_game_number(unsigned i) {
        switch (i) {
        case 0:
                return make_game(GAME_TICTACTOE, 15, 5, false, 0);
        case 1:
                return make_game(GAME_CONNECT4, 15, 5, false, 0);
        case 2:
                return make_game(GAME_GOMOKU, 5, 4, false, 0);
        case 3:
                return make_game(GAME_GOMOKU, 8, 5, true, 60);
        case 4:
                return make_game(GAME_GOMOKU, 15, 5, false, 100);
        default:
                return make_game(GAME_GOMOKU, 20, 5, false, 0);
        }
}

/* --- the naive board ------------------------------------------------------ */

struct naive {
        unsigned rows, cols;
        char at[20][20]; /* 0: empty, 1 + player */
};

/* Is there a maximal row of @player's stones of a length that wins, anywhere? Also the length of the longest
 * one. */
static bool naive_wins(const struct naive *b, char stone, unsigned win_length, bool exact,
                       unsigned *ret_longest) {
        static const int d[4][2] = { { 0, 1 }, { 1, 0 }, { 1, 1 }, { 1, -1 } };
        bool wins = false;

        *ret_longest = 0;
        for (int row = 0; row < (int) b->rows; row++)
                for (int col = 0; col < (int) b->cols; col++)
                        for (int i = 0; i < 4; i++) {
                                unsigned n = 0;

                                for (int r = row, c = col;
                                     r < (int) b->rows && c >= 0 && c < (int) b->cols && b->at[r][c] == stone;
                                     r += d[i][0], c += d[i][1])
                                        n++;
                                /* only count from the row's first stone */
                                if (row >= d[i][0] && col >= d[i][1] && col - d[i][1] < (int) b->cols &&
                                    b->at[row - d[i][0]][col - d[i][1]] == stone)
                                        continue;
                                *ret_longest = MAX(*ret_longest, n);
                                wins |= exact ? n == win_length : n >= win_length;
                        }
        return wins;
}

/* --- lines ----------------------------------------------------------------- */

struct tally {
        unsigned won, drawn, overlines;
};

/* One random game; after each move the naive board must agree on everything. */
static void random_game(const struct game *g, struct rng *rng, struct tally *t) {
        struct naive b = { .rows = g->rows, .cols = g->cols };
        struct game_state s;
        unsigned n_empty = g->cells;

        g->start(g, &s);
        for (unsigned ply = 0; !s.over; ply++) {
                uint16_t moves[GAME_MAX_MOVES], move;
                unsigned n = g->legal(g, &s, moves), player = ply % 2, longest;
                bool wins;

                assert_int_equal(s.ply, ply);
                assert_int_equal(s.to_move, player);
                assert_int_equal(s.winner, -1);
                assert_int_equal(n, n_empty);
                move = moves[rng_below(rng, n)];
                assert_int_equal(b.at[move / g->cols][move % g->cols], 0);
                b.at[move / g->cols][move % g->cols] = (char) (1 + player);
                n_empty--;
                g->apply(g, &s, move);

                wins = naive_wins(&b, (char) (1 + player), g->win_length, g->exact, &longest);
                assert_int_equal(s.winner, wins ? (int) player : -1);
                assert_int_equal(s.over, wins || n_empty == 0 || (g->draw_ply && ply + 1 == g->draw_ply));
                t->overlines += !wins && longest > g->win_length;
        }
        assert_true(s.ply <= g->max_plies);
        t->won += s.winner >= 0;
        t->drawn += s.winner < 0;
}

static void lines_in_random_games(void **state) {
        static const unsigned sizes[] = { 5, 6, 7, 8, 9, 11, 15, 19, 20 };
        struct tally t = { 0 };
        struct rng rng;

        (void) state;
        rng_seed(&rng, 1, 0);
        for (size_t i = 0; i < N_ELEMENTS(sizes); i++)
                for (unsigned win_length = 3; win_length <= 6 && win_length <= sizes[i]; win_length++)
                        for (unsigned exact = 0; exact < 2; exact++) {
                                unsigned draw_ply = rng_below(&rng, 2) ? sizes[i] * sizes[i] * 3 / 4 : 0;
                                cleanup_(game_freep) struct game *g =
                                        make_game(GAME_GOMOKU, sizes[i], win_length, exact, draw_ply);

                                for (unsigned k = 0; k < EFFORT * 400 / g->cells + 1; k++)
                                        random_game(g, &rng, &t);
                        }
        print_message("%u won, %u drawn, %u positions with a row too long\n", t.won, t.drawn, t.overlines);
        assert_true(t.won > 50 && t.drawn > 10 && t.overlines > 10);
}

/*
 * Put stones of the second player on the cells @line, in the order given; the first player's go on cells
 * elsewhere that make no line. Return: false if there was no room for them.
 */
static bool play_line(const struct game *g, struct game_state *s, const uint16_t *line, unsigned n) {
        struct naive b = { .rows = g->rows, .cols = g->cols };
        unsigned longest;

        for (unsigned i = 0; i < n; i++)
                b.at[line[i] / g->cols][line[i] % g->cols] = 2;
        g->start(g, s);
        for (unsigned i = 0; i < n; i++) {
                unsigned cell = (i * 7) % g->cells;

                for (unsigned tried = 0;; tried++, cell = (cell + 1) % g->cells) {
                        char *at = &b.at[cell / g->cols][cell % g->cols];

                        if (tried == g->cells)
                                return false;
                        if (*at)
                                continue;
                        *at = 1;
                        (void) naive_wins(&b, 1, g->win_length, false, &longest);
                        if (longest < g->win_length)
                                break;
                        *at = 0;
                }
                g->apply(g, s, (uint16_t) cell);
                assert_false(s->over);
                g->apply(g, s, line[i]);
                if (i + 1 < n)
                        assert_false(s->over);
        }
        return true;
}

/* Rows of @length from every cell in every direction, with each of its stones as the last one. */
static unsigned all_lines(const struct game *g, unsigned length, bool want_win) {
        static const int d[4][2] = { { 0, 1 }, { 1, 0 }, { 1, 1 }, { 1, -1 } };
        unsigned n_played = 0;

        for (unsigned start = 0; start < g->cells * 4u; start++) {
                int row = (int) (start / 4 / g->cols), col = (int) (start / 4 % g->cols);
                int d_row = d[start % 4][0], d_col = d[start % 4][1], k = (int) length - 1;

                if (row + k * d_row >= g->rows || col + k * d_col >= g->cols || col + k * d_col < 0)
                        continue;
                for (unsigned last = 0; last < length; last++) {
                        uint16_t line[20];
                        struct game_state s;

                        for (unsigned i = 0; i < length; i++) {
                                unsigned j = (last + 1 + i) % length;

                                line[i] = (uint16_t) ((row + (int) j * d_row) * g->cols + col +
                                                      (int) j * d_col);
                        }
                        /* a row that is too long must not be a winning one before its last stone */
                        if (length > g->win_length &&
                            (last >= g->win_length || length - 1 - last >= g->win_length))
                                continue;
                        if (!play_line(g, &s, line, length))
                                continue;
                        n_played++;
                        assert_int_equal(s.over, want_win);
                        assert_int_equal(s.winner, want_win ? 1 : -1);
                }
        }
        return n_played;
}

static void lines_everywhere(void **state) {
        static const unsigned sizes[] = { 5, 6, 9, 15, 20 };

        (void) state;
        for (size_t i = 0; i < (EFFORT > 1 ? N_ELEMENTS(sizes) : 3); i++)
                for (unsigned exact = 0; exact < 2; exact++) {
                        cleanup_(game_freep) struct game *g = make_game(GAME_GOMOKU, sizes[i], 4, exact, 0);
                        unsigned size = sizes[i],
                                 want = 4 * (2 * size * (size - 3) + 2 * (size - 3) * (size - 3));

                        assert_int_equal(all_lines(g, 4, true), want);
                        assert_true(all_lines(g, 5, !exact) > size);
                        assert_true(all_lines(g, 3, false) > size);
                }
}

/* A row must not go on at the other edge of the board. */
static void lines_do_not_wrap(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_GOMOKU, 7, 4, false, 0);
        static const uint16_t lines[][4] = {
                { 5, 6, 7, 8 },     /* end of the first row, start of the second */
                { 12, 13, 14, 15 }, /* the same further down */
                { 5, 13, 14, 22 },  /* falling diagonal over the right edge */
                { 1, 7, 13, 19 },   /* rising diagonal over the left edge: 13 and 19 are on the right */
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(lines); i++) {
                struct game_state s;

                assert_true(play_line(g, &s, lines[i], 4));
                assert_false(s.over);
        }
}

/* The last ply can still win: the draw comes after it. */
static void win_at_draw_ply(void **state) {
        cleanup_(game_freep) struct game *g = make_game(GAME_GOMOKU, 6, 4, false, 8);
        static const uint16_t line[] = { 12, 13, 14, 15 }, short_of_it[] = { 12, 13, 14, 16 };
        struct game_state s;

        (void) state;
        assert_int_equal(g->max_plies, 8);
        assert_true(play_line(g, &s, line, 4));
        assert_true(s.over && s.ply == 8 && s.winner == 1);
        assert_int_equal(game_value(&s, 0), -1);
        assert_int_equal(game_value(&s, 1), 1);
        assert_true(play_line(g, &s, short_of_it, 4));
        assert_true(s.over && s.ply == 8 && s.winner == -1);
        assert_int_equal(game_value(&s, 0), 0);
}

/* --- symmetries ------------------------------------------------------------ */

static void check_bijection(const uint16_t *map, const uint16_t *inverse, unsigned n) {
        bool hit[GAME_MAX_CELLS] = { false };

        for (unsigned i = 0; i < n; i++) {
                assert_true(map[i] < n);
                assert_false(hit[map[i]]);
                hit[map[i]] = true;
                assert_int_equal(inverse[map[i]], i);
        }
}

static void symmetries_are_bijections(void **state) {
        (void) state;
        for (unsigned i = 0; i < N_GAMES; i++) {
                cleanup_(game_freep) struct game *g = make_game_number(i);

                assert_int_equal(g->n_symmetries, g->rows == g->cols ? 8 : 2);
                for (unsigned s = 0; s < g->n_symmetries; s++) {
                        check_bijection(g->cell_map[s], g->cell_map[g->inverse[s]], g->cells);
                        check_bijection(g->move_map[s], g->move_map[g->inverse[s]], g->moves);
                        for (unsigned t = 0; t < s; t++)
                                assert_memory_not_equal(g->cell_map[s], g->cell_map[t],
                                                        g->cells * sizeof(g->cell_map[s][0]));
                }
                for (unsigned cell = 0; cell < g->cells; cell++)
                        assert_int_equal(g->cell_map[0][cell], cell);
                for (unsigned move = 0; move < g->moves; move++)
                        assert_int_equal(g->move_map[0][move], move);
        }
}

/* @mapped is @s under @symmetry: planes, legal moves and outcome. */
static void check_mapped(const struct game *g, const struct game_state *s, const struct game_state *mapped,
                         unsigned symmetry) {
        unsigned char bits[GAME_MAX_PLANES_BYTES], mapped_bits[GAME_MAX_PLANES_BYTES];
        float planes[GAME_MAX_PLANES * GAME_MAX_CELLS], mapped_planes[GAME_MAX_PLANES * GAME_MAX_CELLS];
        uint16_t moves[GAME_MAX_MOVES], mapped_moves[GAME_MAX_MOVES];
        bool legal[GAME_MAX_MOVES] = { false };
        unsigned n = g->legal(g, s, moves);

        g->encode(g, s, bits);
        g->encode(g, mapped, mapped_bits);
        game_unpack_planes(g, bits, symmetry, planes);
        game_unpack_planes(g, mapped_bits, 0, mapped_planes);
        assert_memory_equal(planes, mapped_planes, sizeof(float) * g->planes * g->cells);

        assert_int_equal(g->legal(g, mapped, mapped_moves), n);
        for (unsigned i = 0; i < n; i++)
                legal[mapped_moves[i]] = true;
        for (unsigned i = 0; i < n; i++)
                assert_true(legal[g->move_map[symmetry][moves[i]]]);
        assert_int_equal(s->over, mapped->over);
        assert_int_equal(s->winner, mapped->winner);
        assert_int_equal(s->to_move, mapped->to_move);
}

static void games_under_symmetry(void **state) {
        struct rng rng;

        (void) state;
        rng_seed(&rng, 2, 0);
        for (unsigned i = 0; i < N_GAMES * EFFORT; i++) {
                cleanup_(game_freep) struct game *g = make_game_number(i % N_GAMES);
                struct game_state s[GAME_MAX_SYMMETRIES];

                for (unsigned k = 0; k < g->n_symmetries; k++)
                        g->start(g, &s[k]);
                while (!s[0].over) {
                        uint16_t moves[GAME_MAX_MOVES];
                        uint16_t move = moves[rng_below(&rng, g->legal(g, &s[0], moves))];

                        for (unsigned k = 0; k < g->n_symmetries; k++) {
                                g->apply(g, &s[k], g->move_map[k][move]);
                                check_mapped(g, &s[0], &s[k], k);
                        }
                }
        }
}

/* --- planes, moves, text ---------------------------------------------------- */

/* The planes of the original (own stones, the opponent's, ones for the first player), from the moves alone.
 */
static void planes_of_random_games(void **state) {
        struct rng rng;

        (void) state;
        rng_seed(&rng, 3, 0);
        for (unsigned i = 0; i < N_GAMES * EFFORT; i++) {
                cleanup_(game_freep) struct game *g = make_game_number(i % N_GAMES);
                signed char owner[GAME_MAX_CELLS];
                struct game_state s;

                (void) memset(owner, -1, sizeof(owner));
                g->start(g, &s);
                for (;;) {
                        unsigned char bits[GAME_MAX_PLANES_BYTES + 1];
                        uint16_t moves[GAME_MAX_MOVES], move;
                        unsigned n_bits = 3u * g->cells, cell;

                        assert_int_equal(g->planes, 3);
                        (void) memset(bits, 0xa5, sizeof(bits));
                        g->encode(g, &s, bits);
                        assert_int_equal(bits[GAME_PLANES_BYTES(g)], 0xa5); /* not a byte more */
                        for (unsigned k = 0; k < GAME_PLANES_BYTES(g) * 8; k++) {
                                bool bit = bits[k / 8] >> (k % 8) & 1, want;

                                if (k >= n_bits)
                                        want = false;
                                else if (k >= 2u * g->cells)
                                        want = s.ply % 2 == 0;
                                else
                                        want = owner[k % g->cells] ==
                                               (k < g->cells ? s.ply % 2 : !(s.ply % 2));
                                assert_int_equal(bit, want);
                        }
                        if (s.over)
                                break;
                        move = moves[rng_below(&rng, g->legal(g, &s, moves))];
                        cell = move;
                        if (g->moves != g->cells) /* a stone falls */
                                for (cell = g->cells - g->cols + move; owner[cell] >= 0;)
                                        cell -= g->cols;
                        owner[cell] = (signed char) (s.ply % 2);
                        g->apply(g, &s, move);
                }
        }
}

static void text_round_trip(void **state) {
        static const char *const bad[] = { "",
                                           "a",
                                           "1a",
                                           "a0",
                                           "a01",
                                           "a1 ",
                                           " a1",
                                           "a-1",
                                           "a+1",
                                           "`1",
                                           "{1",
                                           "a99",
                                           "a100",
                                           "z1",
                                           "0",
                                           "8",
                                           "11",
                                           "-",
                                           "1 ",
                                           "a1x",
                                           "a:1",
                                           "\xe1"
                                           "1",
                                           "aa1" };

        (void) state;
        for (unsigned i = 0; i < N_GAMES; i++) {
                cleanup_(game_freep) struct game *g = make_game_number(i);

                for (uint16_t move = 0; move < g->moves; move++) {
                        char text[8];

                        (void) memset(text, 'x', sizeof(text));
                        g->move_to_text(g, move, text);
                        assert_non_null(memchr(text, '\0', sizeof(text)));
                        assert_int_equal(g->move_from_text(g, text), move);
                }
                for (size_t k = 0; k < N_ELEMENTS(bad); k++)
                        if (g->move_from_text(g, bad[k]) != GAME_NO_MOVE)
                                fail_msg("%s takes '%s' for a move", g->name, bad[k]);
        }
}

static void text_as_documented(void **state) {
        cleanup_(game_freep) struct game *gomoku = make_game_number(4), *connect4 = make_game_number(1);
        char text[8];

        (void) state;
        gomoku->move_to_text(gomoku, 0, text);
        assert_string_equal(text, "a15");
        gomoku->move_to_text(gomoku, 224, text);
        assert_string_equal(text, "o1");
        assert_int_equal(gomoku->move_from_text(gomoku, "H8"), 7 * 15 + 7);
        assert_int_equal(gomoku->move_from_text(gomoku, "p1"), GAME_NO_MOVE);
        assert_int_equal(gomoku->move_from_text(gomoku, "a16"), GAME_NO_MOVE);
        connect4->move_to_text(connect4, 6, text);
        assert_string_equal(text, "7");
}

static void prints_the_board(void **state) {
        cleanup_(game_freep) struct game *g = make_game_number(0);
        char text[200] = "";
        FILE *f = fmemopen(text, sizeof(text), "w");
        struct game_state s;

        (void) state;
        assert_non_null(f);
        g->start(g, &s);
        g->apply(g, &s, 0);
        g->apply(g, &s, 5);
        g->print(g, &s, f);
        assert_int_equal(fclose(f), 0);
        assert_string_equal(text, " 3  X . .\n 2  . . O\n 1  . . .\n    a b c\n");
}

/* --- parameters -------------------------------------------------------------- */

static void rules_say_everything(void **state) {
        static const struct {
                unsigned name, size, win_length;
                bool exact;
                unsigned draw_ply;
                const char *rules;
        } games[] = {
                { GAME_GOMOKU, 15, 5, false, 0, "gomoku:15x15:5:freestyle:draw0" },
                { GAME_GOMOKU, 15, 5, false, 100, "gomoku:15x15:5:freestyle:draw100" },
                { GAME_GOMOKU, 15, 5, true, 0, "gomoku:15x15:5:exact:draw0" },
                { GAME_GOMOKU, 15, 6, false, 0, "gomoku:15x15:6:freestyle:draw0" },
                { GAME_GOMOKU, 20, 10, true, 399, "gomoku:20x20:10:exact:draw399" },
                { GAME_GOMOKU, 5, 5, false, 25, "gomoku:5x5:5:freestyle:draw0" }, /* 25: full anyway */
                { GAME_CONNECT4, 15, 5, false, 0, "connect4:6x7:4" },
                { GAME_CONNECT4, 9, 4, true, 9, "connect4:6x7:4" }, /* these keys are gomoku's */
                { GAME_TICTACTOE, 15, 5, false, 0, "tictactoe:3x3:3" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(games); i++) {
                cleanup_(game_freep) struct game *g = make_game(
                        games[i].name, games[i].size, games[i].win_length, games[i].exact, games[i].draw_ply);

                assert_string_equal(g->rules, games[i].rules);
                assert_memory_equal(g->rules, g->name, strlen(g->name));
                assert_int_equal(g->cells, g->rows * g->cols);
                assert_true(g->max_plies <= g->cells);
        }
}

static void refuses_what_cannot_be(void **state) {
        static const struct {
                unsigned name, size, win_length, draw_ply;
                const char *key1, *key2;
        } bad[] = {
                { GAME_GOMOKU, 5, 6, 0, "game.win_length", "game.size" },
                { GAME_GOMOKU, 9, 10, 0, "game.win_length", "game.size" },
                { GAME_GOMOKU, 9, 2, 0, "game.win_length", "2" },
                { GAME_GOMOKU, 4, 4, 0, "game.size", "4" },
                { GAME_GOMOKU, 21, 5, 0, "game.size", "21" },
                { GAME_GOMOKU, 15, 5, 8, "game.draw_ply", "game.win_length" },
                { 99, 15, 5, 0, "game.name", "99" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                struct config c =
                        make_config(bad[i].name, bad[i].size, bad[i].win_length, false, bad[i].draw_ply);
                struct error e = ERROR_INIT;
                struct game *g = NULL;

                assert_int_equal(game_new(&c, &g, &e), -EINVAL);
                assert_null(g);
                assert_non_null(strstr(e.text, bad[i].key1));
                assert_non_null(strstr(e.text, bad[i].key2));
                assert_null(strchr(e.text, '\n'));
        }
}

static void assert_made_from_its_text(const struct game *g) {
        cleanup_(game_freep) struct game *again = NULL;
        struct error e = ERROR_INIT;

        if (game_from_rules(g->rules, &again, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(again->rules, g->rules);
        assert_string_equal(again->name, g->name);
        assert_int_equal(again->moves, g->moves);
        assert_int_equal(again->max_plies, g->max_plies);
        assert_int_equal(again->win_length, g->win_length);
        assert_int_equal(again->draw_ply, g->draw_ply);
        assert_int_equal(again->exact, g->exact);
        assert_memory_equal(again->move_map, g->move_map, sizeof(g->move_map));
}

/* Every game that a configuration can ask for, but for draw_ply, of which there are some. */
static void rules_make_the_game(void **state) {
        static const unsigned draw_plies[] = { 0, 39, 100, 399 };

        (void) state;
        for (unsigned name = GAME_CONNECT4; name <= GAME_TICTACTOE; name++) {
                cleanup_(game_freep) struct game *g = make_game(name, 15, 5, false, 0);

                assert_made_from_its_text(g);
        }
        for (unsigned size = 5; size <= 20; size++)
                for (unsigned win_length = 3; win_length <= MIN(size, 10u); win_length++)
                        for (unsigned i = 0; i < 2 * N_ELEMENTS(draw_plies); i++) {
                                cleanup_(game_freep) struct game *g =
                                        make_game(GAME_GOMOKU, size, win_length, i % 2, draw_plies[i / 2]);

                                assert_made_from_its_text(g);
                        }
}

static void refuses_other_rules(void **state) {
        static const char *const bad[] = {
                "",
                "gomoku",
                "gomoku:15x15:5:freestyle",
                "gomoku:15x15:5:freestyle:draw",
                "gomoku:15x15:5:freestyle:draw0 ",
                "gomoku:15x15:5:freestyle:draw00",
                "gomoku:15x15:5:freestyle:draw-0",
                "gomoku:15x15:5:freestyle:draw225", /* is spelt draw0 */
                "gomoku:15x15:5:freestyle:draw100000",
                "gomoku:15x16:5:freestyle:draw0",
                "gomoku:015x15:5:freestyle:draw0",
                "gomoku: 15x15:5:freestyle:draw0",
                "gomoku:4x4:4:freestyle:draw0",
                "gomoku:21x21:5:freestyle:draw0",
                "gomoku:4294967311x15:5:freestyle:draw0",
                "gomoku:15x15:16:freestyle:draw0",
                "gomoku:15x15:5:freestylefree:draw0",
                "gomoku:15x15:5:renju:draw0",
                "gomoku:15x15:5:freestyle:draw8",
                "Gomoku:15x15:5:freestyle:draw0",
                "connect4:",
                "connect4:7x6:4",
                "connect4:6x7:4:draw0",
                "tictactoe:3x3:3\n",
                "chess:8x8",
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                struct error e = ERROR_INIT;
                struct game *g = NULL;

                if (game_from_rules(bad[i], &g, &e) != -EINVAL)
                        fail_msg("'%s' is taken for a game", bad[i]);
                assert_null(g);
                assert_non_null(strstr(e.text, "rules '"));
                assert_null(strchr(e.text, '\n'));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lines_in_random_games),     cmocka_unit_test(lines_everywhere),
                cmocka_unit_test(lines_do_not_wrap),         cmocka_unit_test(win_at_draw_ply),
                cmocka_unit_test(symmetries_are_bijections), cmocka_unit_test(games_under_symmetry),
                cmocka_unit_test(planes_of_random_games),    cmocka_unit_test(text_round_trip),
                cmocka_unit_test(text_as_documented),        cmocka_unit_test(prints_the_board),
                cmocka_unit_test(rules_say_everything),      cmocka_unit_test(refuses_what_cannot_be),
                cmocka_unit_test(rules_make_the_game),       cmocka_unit_test(refuses_other_rules),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
