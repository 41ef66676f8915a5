/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * For tests and benches of the trainer: samples of random games, with random visits on the legal moves, as
 * self-play would write them.
 */

#include <stdlib.h>
#include <string.h>
#include "common/base/config.h"
#include "common/base/rng.h"
#include "common/exchange/sample.h"
#include "common/games/game.h"

static inline struct game *fixture_game(const struct config *c) {
        struct game *g = NULL;

        if (game_new(c, &g, NULL) < 0)
                abort();
        return g;
}

/* The sample of position @s, with visits that add up to 100 or a few more. */
static inline void fixture_sample(const struct game *g, const struct game_state *s, struct rng *r,
                                  struct sample *ret) {
        uint16_t legal[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, legal);
        float share[GAME_MAX_MOVES];

        memset(ret, 0, sizeof(*ret));
        ret->weight = 1;
        ret->generation = 1;
        ret->ply = s->ply;
        ret->n_visits = (uint16_t) n;
        g->encode(g, s, ret->planes);
        rng_dirichlet(r, 0.5, n, share);
        for (unsigned i = 0; i < n; i++)
                ret->visits[i] = (struct sample_visit){ legal[i], (uint16_t) (1 + 100 * share[i]) };
}

/*
 * Play one random game. @ret has room for g->max_plies samples. Return: how many; the outcome is in each of
 * them.
 */
static inline unsigned fixture_play(const struct game *g, struct rng *r, struct sample *ret) {
        uint16_t legal[GAME_MAX_MOVES];
        uint8_t mover[GAME_MAX_PLIES];
        struct game_state s;
        unsigned n = 0;

        g->start(g, &s);
        while (!s.over) {
                unsigned n_legal = g->legal(g, &s, legal);

                fixture_sample(g, &s, r, &ret[n]);
                mover[n++] = s.to_move;
                g->apply(g, &s, legal[rng_below(r, n_legal)]);
        }
        for (unsigned i = 0; i < n; i++)
                ret[i].outcome = (int8_t) game_value(&s, mover[i]);
        return n;
}

/* @n samples of random games; to be freed. */
static inline struct sample *fixture_samples(const struct game *g, size_t n, uint64_t seed) {
        struct sample *ret = calloc(n + g->max_plies, sizeof(*ret));
        struct rng r;

        if (!ret)
                abort();
        rng_seed(&r, seed, 0);
        for (size_t done = 0; done < n;)
                done += fixture_play(g, &r, ret + done);
        for (size_t i = 0; i < n; i++)
                ret[i].id = (struct sample_id){ .incarnation = 1, .sequence = i };
        return ret;
}
