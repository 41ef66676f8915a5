/* SPDX-License-Identifier: MIT */
/*
 * Players; see player.h.  Process: azpar-match.
 *
 * A model has one search per board and one evaluator for all of them.  The
 * searches start anew for each move: what a player with N simulations is worth
 * should not depend on how much of its last tree the opponent's reply left.
 */
#include "worker/match/player.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include "common/model/safetensors.h"
#include "worker/evaluate.h"
#include "worker/match/plain.h"
#include "worker/search.h"

#define MODEL_PREFIX "model:"

enum player_kind {
        PLAYER_RANDOM,
        PLAYER_PLAIN,
        PLAYER_MODEL,
};

/* A model's search on one board. */
struct thought {
        struct search *search;
        bool searching;
        bool waiting;   /* for the evaluation of its leaf */
        unsigned place; /* in the batch */
};

struct player {
        enum player_kind kind;
        char *spec;
        const struct game *game;
        uint32_t simulations;

        struct plain *plain; /* one for all boards: it keeps nothing between moves */

        struct model_info model;
        struct evaluate *evaluate;
        bool random_symmetry;
        unsigned n_boards, n_waiting;
        struct thought *thoughts; /* [n_boards] */
};

static int player_init_model(struct player *p, const char *path, const struct config *c, struct error *e) {
        cleanup_(safetensors_freep) struct safetensors *file = NULL;
        const struct network *n = &p->model.network;
        struct search_options o;
        struct network want;
        int r;

        r = model_open(AT_FDCWD, path, NULL, &file, &p->model, NULL, e);
        if (r < 0)
                return r;
        if (strcmp(n->rules, p->game->rules) != 0)
                return error_set(e, -EINVAL, "'%s' is a model of the game %s, the match is configured for %s",
                                 path, n->rules, p->game->rules);
        /* any size of network may play, but what the file says of planes and moves has to be the game's */
        network_init(&want, p->game, n->filters, n->blocks);
        if (!network_equal(n, &want))
                return error_set(e, -EINVAL,
                                 "'%s' has %" PRIu32 " planes of %" PRIu32 " x %" PRIu32 " and %" PRIu32
                                 " moves, the game %s has %" PRIu32 " of %" PRIu32 " x %" PRIu32
                                 " and %" PRIu32,
                                 path, n->planes, n->rows, n->cols, n->moves, p->game->rules, want.planes,
                                 want.rows, want.cols, want.moves);
        r = evaluate_new(p->game, n, (unsigned) c->selfplay_precision, p->n_boards, &p->evaluate, e);
        if (r < 0)
                return r;
        r = evaluate_load(p->evaluate, AT_FDCWD, path, &p->model.generation, e);
        if (r < 0)
                return r;

        search_options_init(&o, c);
        o.simulations = p->simulations;
        o.noise_weight = 0;
        o.temperature_plies = 0;
        o.tree_reuse = false;
        p->random_symmetry = o.random_symmetry;
        p->thoughts = calloc(p->n_boards, sizeof(*p->thoughts));
        if (!p->thoughts)
                return error_set(e, -ENOMEM, "out of memory");
        for (unsigned i = 0; i < p->n_boards; i++) {
                r = search_new(p->game, &o, &p->thoughts[i].search);
                if (r < 0)
                        return error_errno(e, r, "could not make a search");
        }
        return 0;
}

int player_check(const char *spec, struct error *e) {
        size_t n = strlen(MODEL_PREFIX);

        if (strcmp(spec, "random") == 0 || strcmp(spec, "plain") == 0)
                return 0;
        if (strncmp(spec, MODEL_PREFIX, n) == 0 && spec[n] != '\0')
                return 0;
        return error_set(e, -EINVAL, "there is no player '%s': random, plain or model:FILE", spec);
}

static int player_init(struct player *p, const struct config *c, struct error *e) {
        int r = player_check(p->spec, e);

        if (r < 0)
                return r;
        if (strcmp(p->spec, "random") == 0) {
                p->kind = PLAYER_RANDOM;
                p->simulations = 0;
                return 0;
        }
        if (strcmp(p->spec, "plain") == 0) {
                p->kind = PLAYER_PLAIN;
                return plain_new(p->game, p->simulations, &p->plain) < 0
                               ? error_set(e, -ENOMEM, "out of memory")
                               : 0;
        }
        p->kind = PLAYER_MODEL;
        return player_init_model(p, p->spec + strlen(MODEL_PREFIX), c, e);
}

int player_new(const char *spec, const struct game *g, const struct config *c, uint32_t simulations,
               unsigned n_boards, struct player **ret, struct error *e) {
        cleanup_(player_freep) struct player *p = calloc(1, sizeof(*p));
        int r;

        assert(simulations > 0 && n_boards > 0);
        if (!p)
                return error_set(e, -ENOMEM, "out of memory");
        p->game = g;
        p->simulations = simulations;
        p->n_boards = n_boards;
        p->spec = strdup(spec);
        if (!p->spec)
                return error_set(e, -ENOMEM, "out of memory");
        r = player_init(p, c, e);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

void player_free(struct player *p) {
        if (!p)
                return;
        for (unsigned i = 0; p->thoughts && i < p->n_boards; i++)
                search_free(p->thoughts[i].search);
        free(p->thoughts);
        evaluate_free(p->evaluate);
        plain_free(p->plain);
        free(p->spec);
        free(p);
}

struct player_info player_info(const struct player *p) {
        return (struct player_info){
                .spec = p->spec,
                .simulations = p->simulations,
                .is_model = p->kind == PLAYER_MODEL,
                .generation = p->model.generation,
                .step = p->model.step,
        };
}

static int player_think(struct player *p, unsigned board, const struct game_state *s, struct rng *rng,
                        uint16_t *ret) {
        struct thought *t = &p->thoughts[board];

        assert(board < p->n_boards && !t->waiting);
        if (!t->searching) {
                search_begin(t->search, s, rng);
                t->searching = true;
        }
        if (search_descend(t->search) == SEARCH_E_LEAF) {
                t->place = evaluate_add(p->evaluate, search_leaf(t->search), p->random_symmetry ? rng : NULL);
                t->waiting = true;
                p->n_waiting++;
                return PLAYER_E_WAITS;
        }
        t->searching = false;
        *ret = search_choose(t->search, rng);
        return 0;
}

int player_move(struct player *p, unsigned board, const struct game_state *s, struct rng *rng,
                uint16_t *ret) {
        uint16_t moves[GAME_MAX_MOVES];

        switch (p->kind) {
        case PLAYER_RANDOM:
                *ret = moves[rng_below(rng, p->game->legal(p->game, s, moves))];
                return 0;
        case PLAYER_PLAIN:
                *ret = plain_choose(p->plain, s, rng);
                return 0;
        case PLAYER_MODEL:
                return player_think(p, board, s, rng, ret);
        }
        assert(!"a kind that player_init() does not set");
        return 0;
}

int player_evaluate(struct player *p, struct error *e) {
        int r;

        if (p->n_waiting == 0)
                return 0;
        r = evaluate_run(p->evaluate, e);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < p->n_boards; i++) {
                struct thought *t = &p->thoughts[i];

                if (!t->waiting)
                        continue;
                search_expand(t->search, evaluate_logits(p->evaluate, t->place),
                              evaluate_value(p->evaluate, t->place));
                t->waiting = false;
        }
        p->n_waiting = 0;
        return 0;
}
