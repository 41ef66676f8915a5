/* SPDX-License-Identifier: MIT */
/*
 * The list of games, and what works on any game's planes.  Runs in workers,
 * the trainer and azpard.
 *
 * When adding a game: its file beside this one, its init in grid.h (or a header
 * of its own), a case here, a word of game.name in config_keys.inc with its
 * place in enum GAME_..., its traces or counts in tests/unit/test-game-rules.c.
 */
#include "common/games/game.h"

#include <assert.h>
#include <errno.h>
#include "common/games/grid.h"

int game_new(const struct config *c, struct game **ret, struct error *e) {
        cleanup_(game_freep) struct game *g = calloc(1, sizeof(*g));
        int r = 0;

        if (!g)
                return error_set(e, -ENOMEM, "out of memory for the game");
        switch (c->game_name) {
        case GAME_GOMOKU:
                r = gomoku_init(g, c, e);
                break;
        case GAME_CONNECT4:
                connect4_init(g);
                break;
        case GAME_TICTACTOE:
                tictactoe_init(g);
                break;
        default:
                return error_set(e, -EINVAL, "game.name: there is no game number %u", c->game_name);
        }
        if (r < 0)
                return r;
        assert(g->cells <= GAME_MAX_CELLS && g->moves <= GAME_MAX_MOVES && g->planes <= GAME_MAX_PLANES);
        assert(g->max_plies <= GAME_MAX_PLIES);
        *ret = TAKE_PTR(g);
        return 0;
}

void game_free(struct game *g) {
        free(g);
}

void game_unpack_planes(const struct game *g, const unsigned char *bits, unsigned symmetry, float *ret) {
        const uint16_t *map = g->cell_map[symmetry];
        size_t bit = 0;

        assert(symmetry < g->n_symmetries);
        for (unsigned plane = 0; plane < g->planes; plane++, ret += g->cells)
                for (unsigned cell = 0; cell < g->cells; cell++, bit++)
                        ret[map[cell]] = (float) ((bits[bit / 8] >> (bit % 8)) & 1);
}
