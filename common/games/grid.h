/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the games on a rectangular board share: two bitboards, lines of stones,
 * planes, symmetries of the square, text.  Internal to common/games.
 *
 * Cell (row, col) is number row * cols + col; row 0 is the top one as printed.
 */

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "common/games/game.h"

#define GRID_WORDS  ((GAME_MAX_CELLS + 63) / 64)
#define GRID_PLANES 3

/*
 * A game_state's bytes: bit `cell` of stones[player].  There is nothing else (no last move, no history), so
 * two ways to the same position give the same bytes.  may_alias: the bytes are declared as unsigned char.
 */
struct grid {
        uint64_t stones[2][GRID_WORDS];
} __attribute__((__may_alias__));

static_assert(sizeof(struct grid) <= GAME_STATE_BYTES, "the board does not fit a game_state");

static inline struct grid *grid_of(struct game_state *s) {
        return (struct grid *) s->bytes;
}

static inline const struct grid *grid_of_const(const struct game_state *s) {
        return (const struct grid *) s->bytes;
}

static inline bool grid_has(const struct grid *b, unsigned player, unsigned cell) {
        return (b->stones[player][cell / 64] >> (cell % 64)) & 1;
}

static inline bool grid_empty(const struct grid *b, unsigned cell) {
        return !grid_has(b, 0, cell) && !grid_has(b, 1, cell);
}

/* Set size, planes and the functions that are the same for every game here. */
void grid_init(struct game *g, uint16_t rows, uint16_t cols);

/* Fill in the eight symmetries of a square board on which moves are cells. */
void grid_init_square(struct game *g);

/* Put a stone of the side to move on the empty @cell; grid_settle() has to follow. */
static inline void grid_place(struct game_state *s, unsigned cell) {
        grid_of(s)->stones[s->to_move][cell / 64] |= UINT64_C(1) << (cell % 64);
        s->ply++;
        s->to_move = (uint8_t) !s->to_move;
}

/* Whether the stone just placed ends the game: it has @won, or g->max_plies are reached. */
static inline void grid_settle(const struct game *g, struct game_state *s, bool won) {
        s->over = won || s->ply >= g->max_plies;
        if (won)
                s->winner = (int8_t) !s->to_move;
}

/*
 * struct game's functions for games in which a move is any empty cell, and a stone wins that completes a line
 * of g->win_length (or more, unless g->exact).
 */
unsigned grid_legal(const struct game *g, const struct game_state *s, uint16_t *ret);
void grid_apply(const struct game *g, struct game_state *s, uint16_t move);
void grid_move_to_text(const struct game *g, uint16_t move, char ret[8]);
uint16_t grid_move_from_text(const struct game *g, const char *text);

/* The games of this folder; @g is all zeros. Return: 0 or -EINVAL with a text. */
must_check_ int gomoku_init(struct game *g, const struct config *c, struct error *e);
void connect4_init(struct game *g);
void tictactoe_init(struct game *g);
