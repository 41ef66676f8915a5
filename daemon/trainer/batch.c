/* SPDX-License-Identifier: MIT */
/*
 * Batches of samples; see batch.h.  Runs in azpar-trainer.
 *
 * One generator makes all draws, in a fixed order and a fixed number per sample (two, or one without
 * augmentation), so its four words in a checkpoint are all that a resumed run needs.
 */
#include "daemon/trainer/batch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/*
 * Draws per place before a source counts as empty.  While azpard overwrites the oldest samples a draw meets
 * one of them once in a long while; only a window that is damaged nearly everywhere gets here.
 */
#define DRAWS_PER_PLACE 16

int batch_new(const struct game *g, uint32_t n, struct batch **ret) {
        cleanup_(batch_freep) struct batch *b = calloc(1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        b->game = g;
        b->n = n;
        b->planes = calloc((size_t) n * g->planes * g->cells, sizeof(float));
        b->policy = calloc((size_t) n * g->moves, sizeof(float));
        b->value = calloc(n, sizeof(float));
        b->weight = calloc(n, sizeof(float));
        if (!b->planes || !b->policy || !b->value || !b->weight)
                return -ENOMEM;
        *ret = TAKE_PTR(b);
        return 0;
}

void batch_free(struct batch *b) {
        if (!b)
                return;
        free(b->planes);
        free(b->policy);
        free(b->value);
        free(b->weight);
        free(b);
}

bool batch_usable(const struct sample *s) {
        return s->n_visits > 0 && s->weight > 0;
}

void batch_set(struct batch *b, uint32_t i, const struct sample *s, unsigned symmetry) {
        const struct game *g = b->game;
        float *policy = b->policy + (size_t) i * g->moves;
        uint32_t total = 0;

        assert(i < b->n && symmetry < g->n_symmetries && batch_usable(s));
        game_unpack_planes(g, s->planes, symmetry, b->planes + (size_t) i * g->planes * g->cells);
        for (unsigned j = 0; j < s->n_visits; j++)
                total += s->visits[j].visits;
        memset(policy, 0, g->moves * sizeof(float));
        for (unsigned j = 0; j < s->n_visits; j++)
                policy[g->move_map[symmetry][s->visits[j].move]] =
                        (float) s->visits[j].visits / (float) total;
        b->value[i] = s->outcome;
        b->weight[i] = s->weight;
}

int batch_draw(struct batch *b, const struct batch_source *source, bool augment, struct rng *rng,
               uint64_t *gone) {
        uint64_t n = source->tail - source->first;
        uint64_t draws = (uint64_t) DRAWS_PER_PLACE * b->n;
        struct sample s;

        assert(n <= UINT32_MAX);
        if (n == 0)
                return BATCH_E_NO_SAMPLES;
        for (uint32_t i = 0; i < b->n; draws--) {
                uint64_t number = source->first + rng_below(rng, (uint32_t) n);
                unsigned symmetry = augment ? rng_below(rng, b->game->n_symmetries) : 0;

                if (draws == 0)
                        return BATCH_E_NO_SAMPLES;
                if (source->read(source->context, number, &s) != 0 || !batch_usable(&s))
                        (*gone)++;
                else
                        batch_set(b, i++, &s, symmetry);
        }
        return 0;
}
