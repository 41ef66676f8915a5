/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The game interface: two players, perfect information, moves numbered from 0,
 * boards of planes x rows x cols.
 *
 * A struct game is one game with its rules fixed (board size, win length); it
 * is constant after game_new() and may be used by any thread.  A position is a
 * struct game_state: the fields below plus bytes that only the game reads.
 * It is copied by assignment and holds no pointers.
 *
 * Players are 0 (moves first) and 1.  "Side to move" is state.to_move.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/config.h"
#include "common/base/error.h"

#define GAME_MAX_CELLS      400 /* 20 x 20 */
#define GAME_MAX_MOVES      400
#define GAME_MAX_PLANES     4
#define GAME_MAX_PLIES      400
#define GAME_MAX_SYMMETRIES 8
#define GAME_RULES_MAX      48
#define GAME_STATE_BYTES    128
#define GAME_PLANES_BYTES(game) ((((size_t) (game)->planes * (game)->cells) + 7) / 8)
#define GAME_MAX_PLANES_BYTES ((GAME_MAX_PLANES * GAME_MAX_CELLS + 7) / 8)
#define GAME_NO_MOVE UINT16_MAX

struct game_state {
        uint16_t ply;     /* moves made since the start */
        uint8_t to_move;  /* 0 or 1; at the end: who would have been next */
        bool over;
        int8_t winner;    /* 0 or 1; -1: nobody (drawn, or not over) */
        uint8_t unused[3];
        _Alignas(8) unsigned char bytes[GAME_STATE_BYTES]; /* the game's own */
};

struct game {
        char rules[GAME_RULES_MAX]; /* name and all parameters, e.g. "gomoku:15x15:5:freestyle:draw0"; equal text, equal game */
        const char *name;           /* "gomoku" */
        uint16_t rows, cols, cells; /* cells = rows * cols */
        uint16_t moves;             /* size of the policy */
        uint16_t planes;            /* input planes */
        uint16_t max_plies;         /* no game is longer */
        uint16_t n_symmetries;      /* including the identity, which is number 0 */

        /*
         * Symmetry s takes cell c to cell_map[s][c] and move m to move_map[s][m].
         * inverse[s] undoes s.
         */
        uint16_t cell_map[GAME_MAX_SYMMETRIES][GAME_MAX_CELLS];
        uint16_t move_map[GAME_MAX_SYMMETRIES][GAME_MAX_MOVES];
        uint8_t inverse[GAME_MAX_SYMMETRIES];

        /* parameters that only the game's own file reads */
        uint16_t win_length, draw_ply;
        bool exact;

        /* the position before the first move */
        void (*start)(const struct game *g, struct game_state *ret);

        /* Legal moves in ascending order, none when the game is over. @ret has room for g->moves. Return: how many. */
        unsigned (*legal)(const struct game *g, const struct game_state *s, uint16_t *ret);

        /* Make a legal @move; an illegal one is our own bug and asserts. */
        void (*apply)(const struct game *g, struct game_state *s, uint16_t move);

        /*
         * Input planes as bits, as in the original: own stones, opponent's stones, all ones if the side to
         * move is player 0.  Bit (plane * cells + cell) is (ret[bit / 8] >> (bit % 8)) & 1; the unused bits
         * of the last byte are 0.  @ret has GAME_PLANES_BYTES(g).
         */
        void (*encode)(const struct game *g, const struct game_state *s, unsigned char *ret);

        /* A move as people write it ("h8", "4"), at most 8 bytes with the final 0, and back (GAME_NO_MOVE: not a move). */
        void (*move_to_text)(const struct game *g, uint16_t move, char ret[8]);
        uint16_t (*move_from_text)(const struct game *g, const char *text);

        /* The board, a row per line. */
        void (*print)(const struct game *g, const struct game_state *s, FILE *out);
};

/* Make the game that the configuration names. Return: 0, or -EINVAL with a text (e.g. win_length longer than the board). */
must_check_ int game_new(const struct config *c, struct game **ret, struct error *e);

/*
 * Make the game with the text @rules as its struct game.rules, e.g. for a file that says what it holds. A game has one
 * text: "gomoku:15x15:5:freestyle:draw0" is one, "gomoku:15x15:05:freestyle:draw0" is none.
 *
 * Return: 0; -EINVAL with a text; -ENOMEM.
 */
must_check_ int game_from_rules(const char *rules, struct game **ret, struct error *e);
void game_free(struct game *g);
DEFINE_CLEANUP(struct game *, game_free)

/* Value of a finished position for @player: +1 won, -1 lost, 0 drawn. */
static inline int game_value(const struct game_state *s, unsigned player) {
        return s->winner < 0 ? 0 : (s->winner == (int8_t) player ? 1 : -1);
}

/*
 * Unpack the bits of encode() to floats 0 and 1 under symmetry @symmetry: the value of cell c goes to
 * cell_map[symmetry][c].  @ret: [planes][rows][cols].
 */
void game_unpack_planes(const struct game *g, const unsigned char *bits, unsigned symmetry, float *ret);
