/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * For tests and benches of the model's files and arithmetic: networks with random weights whose batch norms
 * do something (statistics far from 0 and 1), and a temporary directory.
 */

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/rng.h"
#include "common/model/network.h"

struct fixture_weights {
        struct network network;
        size_t n;
        struct network_tensor list[NETWORK_MAX_TENSORS];
        float *tensors[NETWORK_MAX_TENSORS];
};

static inline struct network fixture_network(const char *rules, uint32_t rows, uint32_t cols, uint32_t moves,
                                             uint32_t filters, uint32_t blocks) {
        struct network n = {
                .planes = 3, .rows = rows, .cols = cols, .moves = moves, .filters = filters, .blocks = blocks
        };

        (void) snprintf(n.rules, sizeof(n.rules), "%s", rules);
        return n;
}

static inline bool fixture_ends_with(const char *text, const char *end) {
        size_t n = strlen(text), k = strlen(end);

        return n >= k && strcmp(text + n - k, end) == 0;
}

/* Weights by He et al. 2015 and damped blocks, so that values keep their size through the tower. */
static inline float fixture_value(const struct network_tensor *t, struct rng *r) {
        if (fixture_ends_with(t->name, "running_var"))
                return (float) (0.5 + 1.5 * rng_double(r));
        if (fixture_ends_with(t->name, ".bn2.weight"))
                return (float) (0.1 + 0.4 * rng_double(r));
        if (strstr(t->name, "bn") && fixture_ends_with(t->name, ".weight"))
                return (float) (0.5 + rng_double(r));
        if (t->n_dims == 1)
                return (float) (0.2 * rng_normal(r));
        return (float) (rng_normal(r) * sqrt(2.0 / (double) (t->n_elements / t->dims[0])));
}

static inline struct fixture_weights *fixture_weights_new(const struct network *n, uint64_t seed) {
        struct fixture_weights *w = calloc(1, sizeof(*w));
        struct rng r;

        if (!w)
                abort();
        rng_seed(&r, seed, 0);
        w->network = *n;
        w->n = network_tensors(n, w->list);
        for (size_t i = 0; i < w->n; i++) {
                w->tensors[i] = malloc(w->list[i].n_elements * sizeof(float));
                if (!w->tensors[i])
                        abort();
                for (uint64_t k = 0; k < w->list[i].n_elements; k++)
                        w->tensors[i][k] = fixture_value(&w->list[i], &r);
        }
        return w;
}

static inline void fixture_weights_free(struct fixture_weights *w) {
        if (!w)
                return;
        for (size_t i = 0; i < w->n; i++)
                free(w->tensors[i]);
        free(w);
}

static inline void fixture_weights_freep(struct fixture_weights **w) {
        fixture_weights_free(*w);
}

/* A tensor by its name. */
static inline float *fixture_tensor(struct fixture_weights *w, const char *name) {
        for (size_t i = 0; i < w->n; i++)
                if (strcmp(w->list[i].name, name) == 0)
                        return w->tensors[i];
        abort();
}

/* As the functions of model.safetensors want them. */
static inline const float *const *fixture_tensors(const struct fixture_weights *w) {
        return (const float *const *) w->tensors;
}

/* A directory of its own below /tmp; @ret has 64 bytes. */
static inline void fixture_directory(char *ret) {
        (void) snprintf(ret, 64, "/tmp/azpar-test-XXXXXX");
        if (!mkdtemp(ret))
                abort();
}

static inline int fixture_remove_one(const char *path, const struct stat *st, int type, struct FTW *walk) {
        (void) st;
        (void) type;
        (void) walk;
        return remove(path);
}

static inline void fixture_remove(const char *directory) {
        (void) nftw(directory, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
