/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Games and samples for the tests of the exchange: one game of each kind, and samples that follow from their
 * identity, so that a reader can tell what it should have got.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include "common/base/rng.h"
#include "common/exchange/sample.h"
#include "common/games/game.h"

#define FIXTURE_N_GAMES 6

static inline struct game *fixture_game(unsigned i) {
        static const struct {
                unsigned name, size, win_length, draw_ply;
                bool exact;
        } kinds[FIXTURE_N_GAMES] = {
                { GAME_TICTACTOE, 15, 5, 0, false }, { GAME_CONNECT4, 15, 5, 0, false },
                { GAME_GOMOKU, 5, 4, 0, false },     { GAME_GOMOKU, 8, 5, 60, true },
                { GAME_GOMOKU, 15, 5, 100, false },  { GAME_GOMOKU, 20, 5, 0, true },
        };
        struct config c;
        struct error e = ERROR_INIT;
        struct game *g;

        config_defaults(&c);
        c.game_name = kinds[i].name;
        c.game_size = kinds[i].size;
        c.game_win_length = kinds[i].win_length;
        c.game_draw_ply = kinds[i].draw_ply;
        c.game_exact = kinds[i].exact;
        if (game_new(&c, &g, &e) < 0)
                fail_msg("%s", e.text);
        return g;
}

/* An integer of random size, so that every width in msgpack turns up. */
static inline uint64_t fixture_uint(struct rng *r, uint64_t max) {
        uint64_t x = rng_u64(r) >> rng_below(r, 64);

        return x <= max ? x : rng_u64(r) % (max + 1);
}

/* A sound sample of @g with identity @id; all else follows from the identity. */
static inline void fixture_sample(const struct game *g, struct sample_id id, struct sample *ret) {
        unsigned n_bits = (unsigned) g->planes * g->cells, density;
        struct rng r;

        rng_seed(&r, id.slot * 1000003 + id.incarnation, id.sequence);
        memset(ret, 0, sizeof(*ret));
        ret->id = id;
        ret->generation = fixture_uint(&r, UINT64_MAX);
        ret->root_value = (float) (2 * rng_double(&r) - 1);
        ret->weight = (float) (rng_below(&r, 5)) * 0.25f;
        ret->outcome = (int8_t) ((int) rng_below(&r, 3) - 1);
        ret->ply = (uint16_t) rng_below(&r, g->max_plies);
        for (unsigned i = 0; i < n_bits; i++)
                ret->planes[i / 8] |= (unsigned char) (rng_below(&r, 2) << i % 8);
        density = 1 + rng_below(&r, 100);
        for (uint16_t move = 0; move < g->moves; move++)
                if (rng_below(&r, 100) < density)
                        ret->visits[ret->n_visits++] = (struct sample_visit){
                                .move = move,
                                .visits = (uint16_t) (1 + fixture_uint(&r, UINT16_MAX - 1)),
                        };
        if (ret->n_visits == 0)
                ret->visits[ret->n_visits++] =
                        (struct sample_visit){ .move = (uint16_t) (g->moves - 1), .visits = 1 };
}

/* All that is in use of two samples is equal. */
static inline void fixture_assert_equal(const struct game *g, const struct sample *a,
                                        const struct sample *b) {
        assert_memory_equal(&a->id, &b->id, sizeof(a->id));
        assert_int_equal(a->generation, b->generation);
        assert_memory_equal(&a->root_value, &b->root_value, sizeof(float));
        assert_memory_equal(&a->weight, &b->weight, sizeof(float));
        assert_int_equal(a->outcome, b->outcome);
        assert_int_equal(a->ply, b->ply);
        assert_memory_equal(a->planes, b->planes, GAME_PLANES_BYTES(g));
        assert_int_equal(a->n_visits, b->n_visits);
        assert_memory_equal(a->visits, b->visits, a->n_visits * sizeof(a->visits[0]));
}
