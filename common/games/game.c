/* SPDX-License-Identifier: MIT */
/*
 * The list of games, and what works on any game's planes.  Runs in workers,
 * the trainer and azpard.
 *
 * When adding a game: its file beside this one, its init in grid.h (or a header
 * of its own), a case in game_new() and, with the parameters of its rules text,
 * in config_from_rules(), a word of game.name in config_keys.inc with its
 * place in enum GAME_..., its traces or counts in tests/unit/test-game-rules.c.
 */
#include "common/games/game.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
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

/*
 * The configuration of a game with the text @rules, if there is such a game; whether there is, its own text
 * tells, so this looks no closer than it must.  Five digits hold every parameter and overflow nothing.
 */
static bool config_from_rules(const char *rules, struct config *ret) {
        unsigned rows, cols, win_length, draw_ply;
        char style[10];

        config_defaults(ret);
        if (strncmp(rules, "connect4:", 9) == 0)
                ret->game_name = GAME_CONNECT4;
        else if (strncmp(rules, "tictactoe:", 10) == 0)
                ret->game_name = GAME_TICTACTOE;
        else if (sscanf(rules, "gomoku:%5ux%5u:%5u:%9[a-z]:draw%5u", &rows, &cols, &win_length, style,
                        &draw_ply) == 5) {
                ret->game_name = GAME_GOMOKU;
                ret->game_size = rows;
                ret->game_win_length = win_length;
                ret->game_exact = strcmp(style, "exact") == 0;
                ret->game_draw_ply = draw_ply;
        } else
                return false;
        return true;
}

/* For messages: what comes from a file is shown only if it cannot harm a terminal or a log. */
static bool is_printable(const char *text) {
        return text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789:")] == '\0' &&
               strlen(text) < GAME_RULES_MAX;
}

int game_from_rules(const char *rules, struct game **ret, struct error *e) {
        cleanup_(game_freep) struct game *g = NULL;
        const char *shown = is_printable(rules) ? rules : "(not shown)";
        struct config c;
        int r;

        if (!config_from_rules(rules, &c))
                return error_set(e, -EINVAL, "rules '%s': there is no such game", shown);
        r = game_new(&c, &g, e);
        if (r < 0) {
                error_prefix(e, "rules '%s'", shown);
                return r;
        }
        if (strcmp(g->rules, rules) != 0)
                return error_set(e, -EINVAL, "rules '%s': there is no such game; the nearest is '%s'", shown,
                                 g->rules);
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
