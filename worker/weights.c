/* SPDX-License-Identifier: MIT */
/*
 * Weights; see weights.h.  Process: azpar-worker, azpar-match.
 *
 * Batch norm disappears into the convolutions: with s = gamma / sqrt(var + eps), w' = w * s and
 * b' = (b - mean) * s + beta.
 */
#include "worker/weights.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/finite.h"

/* A set that is being made. */
struct making {
        const struct onednn *onednn;
        const struct network *network;
        const dnnl_memory_desc_t *descs;
        const float *const *tensors;
        float *plain; /* room for the largest layer in plain layout */
        struct weights *weights;
};

/* Convolution or fully connected. */
static dnnl_memory_desc_t shape(const struct network *n, enum weights_op op, dnnl_data_type_t type,
                                dnnl_format_tag_t conv_tag, dnnl_format_tag_t linear_tag) {
        const uint32_t cells = n->rows * n->cols;

        switch (op) {
        case OP_INPUT:
                return onednn_tensor(type, conv_tag, n->filters, n->planes, 3, 3);
        case OP_HEADS:
                return onednn_tensor(type, conv_tag, WEIGHTS_HEAD_CHANNELS, n->filters, 1, 1);
        case OP_POLICY:
                return onednn_matrix(linear_tag, n->moves, NETWORK_POLICY_CHANNELS * cells);
        case OP_VALUE:
                return onednn_matrix(linear_tag, NETWORK_VALUE_HIDDEN, cells);
        default:
                return onednn_tensor(type, conv_tag, n->filters, n->filters, 3, 3);
        }
}

dnnl_memory_desc_t weights_describe(const struct network *n, enum weights_op op, dnnl_data_type_t type) {
        return shape(n, op, type, dnnl_format_tag_any, dnnl_format_tag_any);
}

/* As in a model's tensors. */
static dnnl_memory_desc_t describe_plain(const struct network *n, enum weights_op op) {
        return shape(n, op, dnnl_f32, dnnl_oihw, dnnl_ab);
}

/* Which operation runs layer @k. */
static enum weights_op layer_op(const struct network *n, size_t k) {
        const size_t n_tower = 1 + 2 * (size_t) n->blocks;

        if (k == 0)
                return OP_INPUT;
        if (k < n_tower)
                return k % 2 == 1 ? OP_FIRST : OP_SECOND;
        return k == n_tower ? OP_HEADS : k == n_tower + 1 ? OP_POLICY : OP_VALUE;
}

/* ---- memory ---- */

void weights_free(struct weights *w) {
        if (!w)
                return;
        for (size_t k = 0; w->layers && k < w->n_layers; k++) {
                onednn_memory_drop(&w->layers[k].weights);
                onednn_memory_drop(&w->layers[k].bias);
        }
        free(w->layers);
        onednn_unmap(&w->pages);
        free(w);
}

/* Room for all layers, one behind the other. */
static int make_room(const struct making *m, struct error *e) {
        struct weights *w = m->weights;
        size_t at = 0;
        int r;

        w->n_layers = 4 + 2 * (size_t) m->network->blocks;
        w->layers = calloc(w->n_layers, sizeof(*w->layers));
        if (!w->layers)
                return error_errno(e, -ENOMEM, "could not hold weights");
        for (size_t k = 0; k < w->n_layers; k++) {
                const dnnl_memory_desc_t *d = &m->descs[layer_op(m->network, k)];

                at += onednn_aligned(dnnl_memory_desc_get_size(d)) +
                      onednn_aligned((size_t) d->dims[0] * sizeof(float));
        }
        r = onednn_map(&w->pages, at, e);
        if (r < 0)
                return r;
        at = 0;
        for (size_t k = 0; k < w->n_layers; k++) {
                const dnnl_memory_desc_t *d = &m->descs[layer_op(m->network, k)];
                const dnnl_memory_desc_t bias = onednn_vector((uint32_t) d->dims[0]);
                const dnnl_engine_t engine = m->onednn->engine;
                struct weights_layer *layer = &w->layers[k];
                dnnl_status_t status;

                status = dnnl_memory_create(&layer->weights, d, engine, w->pages.bytes + at);
                at += onednn_aligned(dnnl_memory_desc_get_size(d));
                if (status == dnnl_success)
                        status = dnnl_memory_create(&layer->bias, &bias, engine, w->pages.bytes + at);
                at += onednn_aligned((size_t) d->dims[0] * sizeof(float));
                r = onednn_check(status, "describe memory", e);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- from tensors to layers ---- */

/* Convolution and batch norm, six tensors at @t, into plain folded weights [n_out][n_in] and bias [n_out]. */
static void fold(const float *const *t, size_t n_out, size_t n_in, float *ret_weights, float *ret_bias) {
        const float *w = t[0], *b = t[1], *gamma = t[2], *beta = t[3], *mean = t[4], *var = t[5];

        for (size_t o = 0; o < n_out; o++) {
                const double scale = gamma[o] / sqrt((double) var[o] + (double) NETWORK_BN_EPSILON);
                const float s = (float) scale;

                ret_bias[o] = (float) (((double) b[o] - mean[o]) * scale + beta[o]);
                for (size_t k = 0; k < n_in; k++)
                        ret_weights[o * n_in + k] = w[o * n_in + k] * s;
        }
}

/* Layer @k in plain layout and f32: folded, or copied. */
static void plain_layer(const struct network *n, size_t k, const float *const *t, float *ret_weights,
                        float *ret_bias) {
        const size_t heads = 1 + 2 * (size_t) n->blocks, cells = (size_t) n->rows * n->cols;
        const float *const *h =
                t + 6 * heads; /* policy_conv (6), policy_fc (2), value_conv (6), value_fc1 (2) */

        if (k < heads) {
                fold(t + 6 * k, n->filters, 9 * (size_t) (k == 0 ? n->planes : n->filters), ret_weights,
                     ret_bias);
        } else if (k == heads) {
                fold(h, NETWORK_POLICY_CHANNELS, n->filters, ret_weights, ret_bias);
                fold(h + 8, 1, n->filters, ret_weights + NETWORK_POLICY_CHANNELS * (size_t) n->filters,
                     ret_bias + NETWORK_POLICY_CHANNELS);
        } else if (k == heads + 1) {
                (void) memcpy(ret_weights, h[6], n->moves * NETWORK_POLICY_CHANNELS * cells * sizeof(float));
                (void) memcpy(ret_bias, h[7], n->moves * sizeof(float));
        } else {
                (void) memcpy(ret_weights, h[14], NETWORK_VALUE_HIDDEN * cells * sizeof(float));
                (void) memcpy(ret_bias, h[15], NETWORK_VALUE_HIDDEN * sizeof(float));
        }
}

/* Plain weights of layer @k into the type and layout of the kernels. */
static int pack(const struct making *m, size_t k, const dnnl_memory_desc_t *plain, struct error *e) {
        cleanup_(onednn_primitive_drop) dnnl_primitive_t reorder = NULL;
        cleanup_(onednn_memory_drop) dnnl_memory_t src = NULL, scratch = NULL;
        const struct onednn *o = m->onednn;
        dnnl_memory_desc_t scratch_desc;
        dnnl_status_t status;
        int r;

        r = onednn_reorder(o, plain, &m->descs[layer_op(m->network, k)], &reorder, &scratch_desc, e);
        if (r < 0)
                return r;
        status = dnnl_memory_create(&src, plain, o->engine, m->plain);
        if (status == dnnl_success)
                status = dnnl_memory_create(&scratch, &scratch_desc, o->engine, DNNL_MEMORY_ALLOCATE);
        if (status == dnnl_success)
                status = dnnl_primitive_execute(
                        reorder, o->stream, 3,
                        (dnnl_exec_arg_t[]){ { DNNL_ARG_FROM, src },
                                             { DNNL_ARG_TO, m->weights->layers[k].weights },
                                             { DNNL_ARG_SCRATCHPAD, scratch } });
        if (status == dnnl_success)
                status = dnnl_stream_wait(o->stream);
        return onednn_check(status, "pack weights", e);
}

static int take_up_layer(const struct making *m, size_t k, struct error *e) {
        const dnnl_memory_desc_t plain = describe_plain(m->network, layer_op(m->network, k));
        void *bias = NULL;
        int r;

        r = onednn_check(dnnl_memory_get_data_handle(m->weights->layers[k].bias, &bias), "find memory", e);
        if (r < 0)
                return r;
        plain_layer(m->network, k, m->tensors, m->plain, bias);
        /* finite ones may be too large once folded, or in bf16, whose range is that of f32 */
        if (!finite_all(m->plain, dnnl_memory_desc_get_size(&plain) / sizeof(float)) ||
            !finite_all(bias, (size_t) plain.dims[0]))
                return error_set(e, -ERANGE, "weights of layer %zu overflow with their batch norm", k);
        return pack(m, k, &plain, e);
}

static int take_up_layers(struct making *m, struct error *e) {
        cleanup_(onednn_unmap) struct onednn_pages plain = { 0 };
        size_t n_largest = 0;
        int r;

        for (unsigned op = 0; op < WEIGHTS_N_OPS; op++) {
                const dnnl_memory_desc_t d = describe_plain(m->network, op);

                n_largest = MAX(n_largest, dnnl_memory_desc_get_size(&d));
        }
        r = onednn_map(&plain, n_largest, e);
        m->plain = (float *) (void *) plain.bytes;
        for (size_t k = 0; r == 0 && k < m->weights->n_layers; k++)
                r = take_up_layer(m, k, e);
        return r;
}

int weights_new(const struct onednn *o, const struct network *n, const dnnl_memory_desc_t *descs,
                const float *const *tensors, struct weights **ret, struct error *e) {
        cleanup_(weights_freep) struct weights *w = calloc(1, sizeof(*w));
        struct making m = { .onednn = o, .network = n, .descs = descs, .tensors = tensors, .weights = w };
        const float *const *last = tensors + 6 * (1 + 2 * (size_t) n->blocks) + 16;
        int r;

        if (!w)
                return error_errno(e, -ENOMEM, "could not hold weights");
        r = make_room(&m, e);
        if (r == 0)
                r = take_up_layers(&m, e);
        if (r < 0)
                return r;
        (void) memcpy(w->value_fc2, last[0], sizeof(w->value_fc2));
        w->value_fc2_bias = last[1][0];
        *ret = TAKE_PTR(w);
        return 0;
}
