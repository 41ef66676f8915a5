/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Weights: one set of them as oneDNN's kernels want it.  Batch norm is folded into the convolutions, and each layer
 * is put once into the type and layout that the kernels have chosen.  Process: azpar-worker, azpar-match.
 */

#include <stddef.h>
#include "common/base/error.h"
#include "common/model/network.h"
#include "worker/onednn.h"

/* the convolutions of both heads as one: policy's channels, then the value's */
#define WEIGHTS_HEAD_CHANNELS (NETWORK_POLICY_CHANNELS + 1)

/* Operations that have weights.  The two convolutions of a block run once per block, each time with other weights. */
enum weights_op {
        OP_INPUT,
        OP_FIRST,
        OP_SECOND,
        OP_HEADS,
        OP_POLICY,
        OP_VALUE,
        WEIGHTS_N_OPS,
};

struct weights_layer {
        dnnl_memory_t weights, bias;
};

struct weights {
        struct onednn_pages pages;
        struct weights_layer *layers; /* input, 2 per block, heads, policy_fc, value_fc1 */
        size_t n_layers;
        float value_fc2[NETWORK_VALUE_HIDDEN];
        float value_fc2_bias;
};

/* The weights of @op, [out][in]... of a convolution in @type, [out][in] of a fully connected layer; any layout. */
dnnl_memory_desc_t weights_describe(const struct network *n, enum weights_op op, dnnl_data_type_t type);

/*
 * weights_new() - take up a model's tensors
 * @descs:   [WEIGHTS_N_OPS], the layouts that the kernels have chosen
 * @tensors: in network_tensors() order; not kept
 *
 * Return: 0; -ERANGE: they overflow with their batch norm; another negative errno; each with a text.
 */
must_check_ int weights_new(const struct onednn *o, const struct network *n, const dnnl_memory_desc_t *descs,
                            const float *const *tensors, struct weights **ret, struct error *e);
void weights_free(struct weights *w);
DEFINE_CLEANUP(struct weights *, weights_free)
