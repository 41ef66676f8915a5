/* SPDX-License-Identifier: MIT */
/*
 * Two bitboards on a rectangle of at most 400 cells.  Runs in workers, the
 * trainer and azpard.
 *
 * Only the last stone can complete a line, so a win is looked for through that
 * stone alone: at most four lines, whatever the size of the board.  (Shifting
 * whole bitboards finds wins without branches, but costs seven words per shift
 * on a 20x20 board, and an overline needs a second look.  Connect Four, which
 * is one word, does it.)
 */
#include "common/games/grid.h"

#include <string.h>

static void grid_start(const struct game *g, struct game_state *ret) {
        (void) g;
        (void) memset(ret, 0, sizeof(*ret));
        ret->winner = -1;
}

/* Stones of @player in a row, @step cells apart from the neighbour of @cell on; at most @room. */
static unsigned grid_run(const struct grid *b, unsigned player, unsigned cell, int step, unsigned room) {
        unsigned n = 0;

        while (n < room && grid_has(b, player, cell += (unsigned) step))
                n++;
        return n;
}

static bool grid_completes_line(const struct game *g, const struct grid *b, unsigned player, unsigned cell) {
        unsigned up = cell / g->cols, down = g->rows - 1u - up, left = cell % g->cols,
                 right = g->cols - 1u - left;
        const struct {
                int step;
                unsigned ahead, behind; /* room up to the edges of the board */
        } lines[] = {
                { 1, right, left },
                { g->cols, down, up },
                { g->cols + 1, MIN(down, right), MIN(up, left) },
                { g->cols - 1, MIN(down, left), MIN(up, right) },
        };

        for (size_t i = 0; i < N_ELEMENTS(lines); i++) {
                unsigned n = 1 + grid_run(b, player, cell, lines[i].step, lines[i].ahead) +
                             grid_run(b, player, cell, -lines[i].step, lines[i].behind);

                if (g->exact ? n == g->win_length : n >= g->win_length)
                        return true;
        }
        return false;
}

unsigned grid_legal(const struct game *g, const struct game_state *s, uint16_t *ret) {
        const struct grid *b = grid_of_const(s);
        unsigned n = 0;

        if (s->over)
                return 0;
        for (unsigned first = 0; first < g->cells; first += 64) {
                uint64_t empty = ~(b->stones[0][first / 64] | b->stones[1][first / 64]);

                if (g->cells - first < 64)
                        empty &= (UINT64_C(1) << (g->cells - first)) - 1;
                for (; empty != 0; empty &= empty - 1)
                        ret[n++] = (uint16_t) (first + (unsigned) __builtin_ctzll(empty));
        }
        return n;
}

void grid_apply(const struct game *g, struct game_state *s, uint16_t move) {
        unsigned player = s->to_move;

        assert(!s->over && move < g->cells && grid_empty(grid_of(s), move));
        grid_place(s, move);
        grid_settle(g, s, grid_completes_line(g, grid_of(s), player, move));
}

/* Or @n_bits of @words into @ret from bit @at on. */
static void grid_put_bits(unsigned char *ret, size_t at, const uint64_t *words, size_t n_bits) {
        for (size_t i = 0; i < n_bits; i += 8) {
                unsigned byte = (words[i / 64] >> (i % 64)) & 0xff;
                size_t to = (at + i) / 8, shift = (at + i) % 8;

                if (n_bits - i < 8)
                        byte &= (1u << (n_bits - i)) - 1;
                ret[to] |= (unsigned char) (byte << shift);
                /* the high part is empty where the planes end, so this stays inside @ret */
                if (byte >> (8 - shift) != 0)
                        ret[to + 1] |= (unsigned char) (byte >> (8 - shift));
        }
}

static void grid_encode(const struct game *g, const struct game_state *s, unsigned char *ret) {
        static const uint64_t ones[GRID_WORDS] = { [0 ... GRID_WORDS - 1] = UINT64_MAX };
        const struct grid *b = grid_of_const(s);

        (void) memset(ret, 0, GAME_PLANES_BYTES(g));
        grid_put_bits(ret, 0, b->stones[s->to_move], g->cells);
        grid_put_bits(ret, g->cells, b->stones[!s->to_move], g->cells);
        if (s->to_move == 0)
                grid_put_bits(ret, 2 * (size_t) g->cells, ones, g->cells);
}

/* "h8": column letters from the left, row numbers from the bottom, as on a renju board (with the letter i).
 */
void grid_move_to_text(const struct game *g, uint16_t move, char ret[8]) {
        assert(move < g->cells);
        (void) snprintf(ret, 8, "%c%u", 'a' + move % g->cols, (unsigned) (g->rows - move / g->cols) & 0xff);
}

uint16_t grid_move_from_text(const struct game *g, const char *text) {
        unsigned col = (unsigned) (text[0] | 0x20) - 'a', number = 0;

        if (col >= g->cols || text[1] < '1' || text[1] > '9')
                return GAME_NO_MOVE;
        for (size_t i = 1; text[i] != '\0'; i++) {
                if (text[i] < '0' || text[i] > '9' || i > 2)
                        return GAME_NO_MOVE;
                number = number * 10 + (unsigned) (text[i] - '0');
        }
        if (number > g->rows)
                return GAME_NO_MOVE;
        return (uint16_t) ((g->rows - number) * g->cols + col);
}

static void grid_print(const struct game *g, const struct game_state *s, FILE *out) {
        const struct grid *b = grid_of_const(s);

        for (unsigned row = 0; row < g->rows; row++) {
                (void) fprintf(out, "%2u ", g->rows - row);
                for (unsigned col = 0; col < g->cols; col++) {
                        unsigned cell = row * g->cols + col;

                        (void) fprintf(out, " %c",
                                       grid_has(b, 0, cell)   ? 'X'
                                       : grid_has(b, 1, cell) ? 'O'
                                                              : '.');
                }
                (void) fputc('\n', out);
        }
        (void) fputs("   ", out);
        for (unsigned col = 0; col < g->cols; col++)
                (void) fprintf(out, " %c", (g->moves == g->cells ? 'a' : '1') + col);
        (void) fputc('\n', out);
}

void grid_init(struct game *g, uint16_t rows, uint16_t cols) {
        g->rows = rows;
        g->cols = cols;
        g->cells = (uint16_t) (rows * cols);
        g->planes = GRID_PLANES;
        g->start = grid_start;
        g->encode = grid_encode;
        g->print = grid_print;
}

/* Bits of the symmetry's number: 1 mirrors the columns, 2 the rows, 4 then swaps rows and columns. */
static uint16_t square_map(unsigned size, unsigned symmetry, unsigned cell) {
        unsigned row = cell / size, col = cell % size;

        if (symmetry & 1)
                col = size - 1 - col;
        if (symmetry & 2)
                row = size - 1 - row;
        return (uint16_t) (symmetry & 4 ? col * size + row : row * size + col);
}

void grid_init_square(struct game *g) {
        /* mirrors undo themselves; after a swap the mirrored columns are mirrored rows */
        static const uint8_t inverse[8] = { 0, 1, 2, 3, 4, 6, 5, 7 };

        assert(g->rows == g->cols && g->moves == g->cells);
        g->n_symmetries = 8;
        for (unsigned i = 0; i < 8; i++) {
                g->inverse[i] = inverse[i];
                for (unsigned cell = 0; cell < g->cells; cell++)
                        g->cell_map[i][cell] = g->move_map[i][cell] = square_map(g->rows, i, cell);
        }
}
