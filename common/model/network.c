/* SPDX-License-Identifier: MIT */
/* The network's description; see network.h.  One list for every process, so that orders cannot differ. */
#include "common/model/network.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void network_init(struct network *n, const struct game *g, uint32_t filters, uint32_t blocks) {
        *n = (struct network){
                .planes = g->planes,
                .rows = g->rows,
                .cols = g->cols,
                .moves = g->moves,
                .filters = filters,
                .blocks = blocks,
        };
        (void) snprintf(n->rules, sizeof(n->rules), "%s", g->rules);
}

/* The list under construction. */
struct list {
        struct network_tensor *tensors;
        size_t n;
};

static void add(struct list *l, const char *layer, const char *part, uint32_t n_dims, ...) {
        struct network_tensor *t;
        va_list dims;

        assert(l->n < NETWORK_MAX_TENSORS && n_dims <= N_ELEMENTS(t->dims));
        t = &l->tensors[l->n++];
        *t = (struct network_tensor){ .n_dims = n_dims, .n_elements = 1 };
        (void) snprintf(t->name, sizeof(t->name), "%s.%s", layer, part);
        va_start(dims, n_dims);
        for (uint32_t i = 0; i < n_dims; i++) {
                t->dims[i] = va_arg(dims, uint32_t);
                t->n_elements *= t->dims[i];
        }
        va_end(dims);
}

/* A convolution with its batch norm: six tensors. */
static void add_conv(struct list *l, const char *conv, const char *bn, uint32_t out, uint32_t in,
                     uint32_t side) {
        add(l, conv, "weight", 4, out, in, side, side);
        add(l, conv, "bias", 1, out);
        add(l, bn, "weight", 1, out);
        add(l, bn, "bias", 1, out);
        add(l, bn, "running_mean", 1, out);
        add(l, bn, "running_var", 1, out);
}

static void add_linear(struct list *l, const char *name, uint32_t out, uint32_t in) {
        add(l, name, "weight", 2, out, in);
        add(l, name, "bias", 1, out);
}

size_t network_tensors(const struct network *n, struct network_tensor *ret) {
        struct list l = { .tensors = ret };
        uint32_t cells = n->rows * n->cols;

        assert(n->blocks <= NETWORK_MAX_BLOCKS);
        add_conv(&l, "conv_input", "bn_input", n->filters, n->planes, 3);
        for (uint32_t i = 0; i < n->blocks; i++)
                for (uint32_t k = 1; k <= 2; k++) {
                        char conv[32], bn[32];

                        (void) snprintf(conv, sizeof(conv), "res_block_%u.conv%u", i, k);
                        (void) snprintf(bn, sizeof(bn), "res_block_%u.bn%u", i, k);
                        add_conv(&l, conv, bn, n->filters, n->filters, 3);
                }
        add_conv(&l, "policy_conv", "policy_bn", NETWORK_POLICY_CHANNELS, n->filters, 1);
        add_linear(&l, "policy_fc", n->moves, NETWORK_POLICY_CHANNELS * cells);
        add_conv(&l, "value_conv", "value_bn", 1, n->filters, 1);
        add_linear(&l, "value_fc1", NETWORK_VALUE_HIDDEN, cells);
        add_linear(&l, "value_fc2", 1, NETWORK_VALUE_HIDDEN);
        return l.n;
}

bool network_equal(const struct network *a, const struct network *b) {
        return strcmp(a->rules, b->rules) == 0 && a->planes == b->planes && a->rows == b->rows &&
               a->cols == b->cols && a->moves == b->moves && a->filters == b->filters &&
               a->blocks == b->blocks;
}
