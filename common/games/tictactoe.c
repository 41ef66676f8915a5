/* SPDX-License-Identifier: MIT */
/*
 * Tic-tac-toe: the smallest game, for tests that need all of it.  Runs in
 * workers, the trainer and azpard.
 */
#include "common/games/grid.h"

void tictactoe_init(struct game *g) {
        grid_init(g, 3, 3);
        g->name = "tictactoe";
        g->moves = g->cells;
        g->max_plies = g->cells;
        g->win_length = 3;
        g->legal = grid_legal;
        g->apply = grid_apply;
        g->move_to_text = grid_move_to_text;
        g->move_from_text = grid_move_from_text;
        grid_init_square(g);
        (void) snprintf(g->rules, sizeof(g->rules), "tictactoe:%ux%u:%u", g->rows, g->cols, g->win_length);
}
