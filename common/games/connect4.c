/* SPDX-License-Identifier: MIT */
/*
 * Connect Four: six rows, seven columns; a move is a column, the stone falls to
 * its lowest empty cell; four in a row win.  Runs in workers, the trainer and
 * azpard.
 *
 * Row 0 is the top one, as printed: a column is full when its cell there is taken.
 */
#include "common/games/grid.h"

#define CONNECT4_ROWS 6
#define CONNECT4_COLS 7

static unsigned connect4_legal(const struct game *g, const struct game_state *s, uint16_t *ret) {
        const struct grid *b = grid_of_const(s);
        unsigned n = 0;

        (void) g;
        if (s->over)
                return 0;
        for (uint16_t col = 0; col < CONNECT4_COLS; col++)
                if (grid_empty(b, col))
                        ret[n++] = col;
        return n;
}

static void connect4_apply(const struct game *g, struct game_state *s, uint16_t move) {
        const struct grid *b = grid_of_const(s);
        unsigned cell = move;

        assert(move < CONNECT4_COLS && grid_empty(b, move));
        while (cell + CONNECT4_COLS < g->cells && grid_empty(b, cell + CONNECT4_COLS))
                cell += CONNECT4_COLS;
        grid_place(g, s, cell);
}

/* Columns from "1", as players number them. */
static void connect4_move_to_text(const struct game *g, uint16_t move, char ret[8]) {
        assert(move < g->moves);
        ret[0] = (char) ('1' + move);
        ret[1] = '\0';
}

static uint16_t connect4_move_from_text(const struct game *g, const char *text) {
        unsigned move = (unsigned) text[0] - '1';

        if (move >= g->moves || text[1] != '\0')
                return GAME_NO_MOVE;
        return (uint16_t) move;
}

void connect4_init(struct game *g) {
        grid_init(g, CONNECT4_ROWS, CONNECT4_COLS);
        g->name = "connect4";
        g->moves = CONNECT4_COLS;
        g->max_plies = g->cells;
        g->win_length = 4;
        g->legal = connect4_legal;
        g->apply = connect4_apply;
        g->move_to_text = connect4_move_to_text;
        g->move_from_text = connect4_move_from_text;
        g->n_symmetries = 2;
        for (unsigned i = 0; i < 2; i++) {
                g->inverse[i] = (uint8_t) i;
                for (unsigned cell = 0; cell < g->cells; cell++) {
                        unsigned row = cell / g->cols, col = cell % g->cols;

                        g->cell_map[i][cell] = (uint16_t) (row * g->cols + (i ? g->cols - 1 - col : col));
                }
                for (unsigned col = 0; col < g->cols; col++)
                        g->move_map[i][col] = (uint16_t) (i ? g->cols - 1 - col : col);
        }
        (void) snprintf(g->rules, sizeof(g->rules), "connect4:%ux%u:%u", g->rows, g->cols, g->win_length);
}
