/* SPDX-License-Identifier: MIT */
/*
 * Gomoku: stones on any empty cell of a square board, win_length in a row wins.
 * Runs in workers, the trainer and azpard.
 *
 * Freestyle: more than win_length in a row wins too.  Exact: a longer row does
 * not win, for both players alike, and the game goes on.  draw_ply ends a game
 * that nobody has won by then as a draw; a win with that very stone counts.
 */
#include "common/games/grid.h"

#include <errno.h>

#define GOMOKU_MIN_SIZE 5
#define GOMOKU_MAX_SIZE 20

int gomoku_init(struct game *g, const struct config *c, struct error *e) {
        uint64_t size = c->game_size, win_length = c->game_win_length, draw_ply = c->game_draw_ply;

        if (size < GOMOKU_MIN_SIZE || size > GOMOKU_MAX_SIZE)
                return error_set(e, -EINVAL, "game.size: %ju is not between %d and %d", (uintmax_t) size,
                                 GOMOKU_MIN_SIZE, GOMOKU_MAX_SIZE);
        if (win_length < 3 || win_length > size)
                return error_set(
                        e, -EINVAL,
                        "game.win_length: %ju in a row do not fit the board, game.size is %ju (between 3 "
                        "and game.size)",
                        (uintmax_t) win_length, (uintmax_t) size);
        if (draw_ply > 0 && draw_ply < 2 * win_length - 1)
                return error_set(e, -EINVAL,
                                 "game.draw_ply: nobody can have game.win_length = %ju in a row after %ju "
                                 "plies (0, or "
                                 "at least %ju)",
                                 (uintmax_t) win_length, (uintmax_t) draw_ply,
                                 (uintmax_t) (2 * win_length - 1));

        grid_init(g, (uint16_t) size, (uint16_t) size);
        g->name = "gomoku";
        g->moves = g->cells;
        /* the full board ends the game anyway: one game has one text */
        g->draw_ply = (uint16_t) (draw_ply >= g->cells ? 0 : draw_ply);
        g->max_plies = g->draw_ply > 0 ? g->draw_ply : g->cells;
        g->win_length = (uint16_t) win_length;
        g->exact = c->game_exact;
        g->legal = grid_legal;
        g->apply = grid_apply;
        g->move_to_text = grid_move_to_text;
        g->move_from_text = grid_move_from_text;
        grid_init_square(g);
        (void) snprintf(g->rules, sizeof(g->rules), "gomoku:%ux%u:%u:%s:draw%u", g->rows, g->cols,
                        g->win_length, g->exact ? "exact" : "freestyle", g->draw_ply);
        return 0;
}
