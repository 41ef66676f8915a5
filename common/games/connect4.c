/* SPDX-License-Identifier: MIT */
/*
 * Connect Four: six rows, seven columns; a move is a column, the stone falls to
 * its lowest empty cell; four in a row win.  Runs in workers, the trainer and
 * azpard.
 *
 * Row 0 is the top one, as printed: a column is full when its cell there is taken.  The board is one word of
 * the bitboards, so the whole of it is shifted over itself to find four in a row.
 */
#include "common/games/grid.h"

#define CONNECT4_ROWS 6
#define CONNECT4_COLS 7

/* Bits of a board: the first column, columns 1 to 4, and columns 4 to 7. */
#define FIRST_COLUMN UINT64_C(0x810204081)
#define LEFT_FOUR    (FIRST_COLUMN * 0xf)
#define RIGHT_FOUR   (FIRST_COLUMN * 0x78)

static_assert(CONNECT4_ROWS * CONNECT4_COLS <= 64, "the board is one word");

/* By stones of either player. */
static uint64_t taken(const struct game_state *s) {
        const struct grid *b = grid_of_const(s);

        return b->stones[0][0] | b->stones[1][0];
}

static unsigned connect4_legal(const struct game *g, const struct game_state *s, uint16_t *ret) {
        unsigned n = 0;

        (void) g;
        if (s->over)
                return 0;
        for (uint16_t col = 0; col < CONNECT4_COLS; col++)
                if (!(taken(s) >> col & 1))
                        ret[n++] = col;
        return n;
}

/* Where four stones begin that lie @step cells apart, perhaps beyond the end of a row. */
static uint64_t four(uint64_t stones, unsigned step) {
        uint64_t two = stones & stones >> step;

        return two & two >> 2 * step;
}

/* Across, down, down to the right, down to the left; none may begin where it would leave the board's side. */
static bool has_four(uint64_t stones) {
        return ((four(stones, 1) & LEFT_FOUR) | four(stones, CONNECT4_COLS) |
                (four(stones, CONNECT4_COLS + 1) & LEFT_FOUR) |
                (four(stones, CONNECT4_COLS - 1) & RIGHT_FOUR)) != 0;
}

static void connect4_apply(const struct game *g, struct game_state *s, uint16_t move) {
        unsigned player = s->to_move;
        uint64_t empty;

        assert(!s->over && move < CONNECT4_COLS);
        empty = FIRST_COLUMN << move & ~taken(s);
        assert(empty != 0);
        grid_place(s, 63 - (unsigned) __builtin_clzll(empty)); /* the lowest one */
        grid_settle(g, s, has_four(grid_of(s)->stones[player][0]));
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
