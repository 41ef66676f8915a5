/* SPDX-License-Identifier: MIT */
/*
 * Evaluate: between search and inference; see evaluate.h.  Process: azpar-worker, azpar-match.
 *
 * A position is unpacked into its place of the batch in a random symmetry, and
 * the policy is turned back when it is read: with symmetry s, what the board
 * calls move m is the network's move move_map[s][m].  The value has no
 * orientation.  A network is not symmetric by itself; over the many evaluations
 * of a search, random symmetries average that out (Silver et al. 2017, methods).
 */
#include "worker/evaluate.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "common/model/safetensors.h"

struct evaluate {
        const struct game *game;
        struct network network;
        struct infer *infer;
        unsigned max_batch;
        unsigned n_added;   /* in the batch that is being collected */
        unsigned n_results; /* of the last one, as long as no new one was begun */
        size_t n_planes;    /* floats of one position */
        float *planes;      /* [max_batch][n_planes] */
        float *logits;      /* [max_batch][moves], as the network sees the board */
        float *value;       /* [max_batch] */
        uint8_t *symmetry;  /* [max_batch] */
        float *turned;      /* [moves]: what evaluate_logits() returned last */
};

void evaluate_free(struct evaluate *v) {
        if (!v)
                return;
        infer_free(v->infer);
        free(v->planes);
        free(v->logits);
        free(v->value);
        free(v->symmetry);
        free(v->turned);
        free(v);
}

int evaluate_new(const struct game *g, const struct network *n, unsigned precision, unsigned max_batch,
                 struct evaluate **ret, struct error *e) {
        cleanup_(evaluate_freep) struct evaluate *v = calloc(1, sizeof(*v));
        int r;

        assert(n->planes == g->planes && n->rows == g->rows && n->cols == g->cols && n->moves == g->moves);
        if (!v)
                return error_errno(e, -ENOMEM, "could not prepare evaluations");
        v->game = g;
        v->network = *n;
        v->max_batch = max_batch;
        v->n_planes = (size_t) g->planes * g->cells;
        v->planes = calloc(max_batch * v->n_planes, sizeof(float));
        v->logits = calloc(max_batch * (size_t) g->moves, sizeof(float));
        v->value = calloc(max_batch, sizeof(float));
        v->symmetry = calloc(max_batch, sizeof(*v->symmetry));
        v->turned = calloc(g->moves, sizeof(float));
        if (!v->planes || !v->logits || !v->value || !v->symmetry || !v->turned)
                return error_errno(e, -ENOMEM, "could not prepare evaluations of %u positions", max_batch);
        r = infer_new(n, precision, max_batch, &v->infer, e);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(v);
        return 0;
}

int evaluate_load(struct evaluate *v, int dir_fd, const char *path, uint64_t *ret_generation,
                  struct error *e) {
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        const float *tensors[NETWORK_MAX_TENSORS];
        struct model_info info;
        int r;

        r = model_open(dir_fd, path, &v->network, &s, &info, tensors, e);
        if (r < 0)
                return r;
        r = infer_load(v->infer, tensors, e);
        if (r < 0) {
                error_prefix(e, "%s", path);
                return r;
        }
        *ret_generation = info.generation;
        return 0;
}

void evaluate_on_layer(struct evaluate *v, void (*call)(void *context), void *context) {
        infer_on_layer(v->infer, call, context);
}

unsigned evaluate_precision(const struct evaluate *v) {
        return infer_precision(v->infer);
}

unsigned evaluate_add(struct evaluate *v, const struct game_state *s, struct rng *rng) {
        unsigned char bits[GAME_MAX_PLANES_BYTES];
        const unsigned i = v->n_added;

        assert(i < v->max_batch);
        v->n_results = 0;
        v->symmetry[i] = rng ? (uint8_t) rng_below(rng, v->game->n_symmetries) : 0;
        v->game->encode(v->game, s, bits);
        game_unpack_planes(v->game, bits, v->symmetry[i], v->planes + i * v->n_planes);
        v->n_added++;
        return i;
}

int evaluate_run(struct evaluate *v, struct error *e) {
        const unsigned n = v->n_added;
        int r;

        v->n_added = 0;
        if (n == 0)
                return 0;
        r = infer_run(v->infer, v->planes, n, v->logits, v->value, e);
        if (r < 0)
                return r;
        v->n_results = n;
        return 0;
}

const float *evaluate_logits(struct evaluate *v, unsigned i) {
        const float *seen = v->logits + i * (size_t) v->game->moves;
        const uint16_t *map;

        assert(i < v->n_results);
        if (v->symmetry[i] == 0)
                return seen;
        map = v->game->move_map[v->symmetry[i]];
        for (unsigned m = 0; m < v->game->moves; m++)
                v->turned[m] = seen[map[m]];
        return v->turned;
}

float evaluate_value(const struct evaluate *v, unsigned i) {
        assert(i < v->n_results);
        return v->value[i];
}
