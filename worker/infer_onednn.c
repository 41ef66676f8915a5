/* SPDX-License-Identifier: MIT */
/*
 * Inference by oneDNN; see infer.h.  Process: azpar-worker, azpar-match.
 *
 * Eight operations make one evaluation; the two convolutions of a block run
 * once per block, each time with other weights:
 *
 *      planes -> [to kernel's layout] -> input conv -> A
 *      A -> first conv -> B -> second conv, added to A in place -> A      per block
 *      A -> both heads' 1x1 convs as one of 3 channels -> [to plain layout] -> channels 0, 1 | channel 2
 *      channels 0, 1 -> policy_fc -> logits          channel 2 -> value_fc1 -> value_fc2 and tanh in C
 *
 * Batch norm has disappeared into the convolutions (weights.c); ReLU and the residual addition are
 * post-operations of theirs.  In bf16, the tower computes in bf16 with f32 sums; the heads leave in f32 and
 * the fully connected layers stay f32: they are 1 % of the work.
 *
 * A batch is cut into pieces of 16 positions and a rest.  Primitives are built for a few sizes of pieces,
 * each when it first occurs (1 to 5 ms); the rest runs in the next larger size, filled up with zeros (no
 * position's arithmetic reads another's).  A set of primitives for every size would cost up to 1.2 MB of code
 * each; pieces of more than 16 gain nothing, since with packed weights and prebuilt primitives the speed
 * depends little on the batch from 8 on (make bench). The first set asks oneDNN which layout of the weights
 * it wants; the others have to take the same, so that weights are packed once.  Activations of all sizes live
 * in the same memory.
 *
 * Rejected: Winograd (dnnl_convolution_winograd, f32 and AVX-512 only).  Measured at 15x15 it is 1.3 to 1.7
 * times as fast as the direct convolution, but its weights are four times as large (47 MB for 128 filters x
 * 10 blocks, where a whole worker may have 25), take 115 ms to pack instead of 10, have a layout that depends
 * on the batch, and some sizes (32 filters on 6x7) are not implemented.
 */
#include "worker/infer.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/finite.h"
#include "worker/onednn.h"
#include "worker/weights.h"

#define MAX_PIECE 16
#define N_PLANS   8

/* Operations without weights. */
enum {
        OP_ENTER = WEIGHTS_N_OPS, /* planes into the layout of the input convolution; may be missing */
        OP_LEAVE,                 /* head channels into plain layout; may be missing */
        N_OPS,
};

enum slot { PLANES, ENTERED, TOWER_A, TOWER_B, HEADS, PLAIN, POLICY_IN, VALUE_IN, LOGITS, HIDDEN, N_SLOTS };

static const struct {
        enum slot src, dst;
} op_io[N_OPS] = {
        [OP_ENTER] = { PLANES, ENTERED },    [OP_INPUT] = { ENTERED, TOWER_A },
        [OP_FIRST] = { TOWER_A, TOWER_B },   [OP_SECOND] = { TOWER_B, TOWER_A },
        [OP_HEADS] = { TOWER_A, HEADS },     [OP_LEAVE] = { HEADS, PLAIN },
        [OP_POLICY] = { POLICY_IN, LOGITS }, [OP_VALUE] = { VALUE_IN, HIDDEN },
};

/* Sizes of pieces: at most a third of a piece is unused. */
static const unsigned plan_sizes[N_PLANS] = { 1, 2, 3, 4, 6, 8, 12, MAX_PIECE };

/* The primitives for pieces of one size. */
struct plan {
        unsigned n;                /* positions; 0: not built */
        const unsigned char *base; /* where in memory its slots are; NULL: nowhere yet */
        dnnl_primitive_t ops[N_OPS];
        dnnl_memory_desc_t slot_desc[N_SLOTS];
        dnnl_memory_desc_t scratch_desc[N_OPS];
        dnnl_memory_t slots[N_SLOTS];
        dnnl_memory_t scratch[N_OPS];
};

struct infer {
        struct network network;
        unsigned precision, max_batch;
        dnnl_data_type_t type; /* of the tower */
        struct onednn onednn;
        dnnl_memory_desc_t weights_desc[WEIGHTS_N_OPS]; /* as the first plan wants them */
        struct plan plans[N_PLANS];                     /* for plan_sizes */
        struct onednn_pages activations; /* shared by the plans: they run one after the other */
        struct weights *weights;         /* NULL before the first infer_load() */
        void (*on_layer)(void *context); /* or NULL */
        void *on_layer_context;
};

/* ---- primitives ---- */

/* ReLU for all that have weights but the policy's logits; the scratchpad is ours. */
static int make_attr(enum weights_op op, dnnl_primitive_attr_t *ret, struct error *e) {
        cleanup_(onednn_attr_drop) dnnl_primitive_attr_t attr = NULL;
        dnnl_post_ops_t post = NULL;
        dnnl_status_t status;

        status = dnnl_primitive_attr_create(&attr);
        if (status == dnnl_success)
                status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
        if (status == dnnl_success)
                status = dnnl_post_ops_create(&post);
        if (status == dnnl_success && op == OP_SECOND)
                status = dnnl_post_ops_append_sum(post, 1.0f);
        if (status == dnnl_success && op != OP_POLICY)
                status = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
        if (status == dnnl_success)
                status = dnnl_primitive_attr_set_post_ops(attr, post); /* copies */
        if (post)
                (void) dnnl_post_ops_destroy(post);
        if (status == dnnl_success)
                *ret = TAKE_PTR(attr);
        return onednn_check(status, "describe an operation", e);
}

static dnnl_status_t make_conv_desc(enum weights_op op, const struct plan *p,
                                    const dnnl_memory_desc_t *weights, dnnl_primitive_attr_t attr,
                                    dnnl_engine_t engine, dnnl_primitive_desc_t *ret) {
        const dnnl_dim_t pad = op == OP_HEADS ? 0 : 1;
        const dnnl_dims_t strides = { 1, 1 }, padding = { pad, pad };
        const dnnl_memory_desc_t bias = onednn_vector((uint32_t) weights->dims[0]);
        dnnl_convolution_desc_t conv;
        dnnl_status_t status;

        status = dnnl_convolution_forward_desc_init(&conv, dnnl_forward_inference, dnnl_convolution_direct,
                                                    &p->slot_desc[op_io[op].src], weights, &bias,
                                                    &p->slot_desc[op_io[op].dst], strides, padding, padding);
        return status == dnnl_success ? dnnl_primitive_desc_create(ret, &conv, attr, engine, NULL) : status;
}

static dnnl_status_t make_linear_desc(enum weights_op op, const struct plan *p,
                                      const dnnl_memory_desc_t *weights, dnnl_primitive_attr_t attr,
                                      dnnl_engine_t engine, dnnl_primitive_desc_t *ret) {
        const dnnl_memory_desc_t bias = onednn_vector((uint32_t) weights->dims[0]);
        dnnl_inner_product_desc_t linear;
        dnnl_status_t status;

        status = dnnl_inner_product_forward_desc_init(&linear, dnnl_forward_inference,
                                                      &p->slot_desc[op_io[op].src], weights, &bias,
                                                      &p->slot_desc[op_io[op].dst]);
        return status == dnnl_success ? dnnl_primitive_desc_create(ret, &linear, attr, engine, NULL) : status;
}

/*
 * Build an operation with weights.  Where the plan's slots or the weights are
 * still open (format any), oneDNN's choice is filled in, for those who share them.
 */
static int build_op(struct infer *i, struct plan *p, enum weights_op op, struct error *e) {
        cleanup_(onednn_attr_drop) dnnl_primitive_attr_t attr = NULL;
        cleanup_(onednn_desc_drop) dnnl_primitive_desc_t d = NULL;
        dnnl_status_t status;
        int r;

        r = make_attr(op, &attr, e);
        if (r < 0)
                return r;
        if (op == OP_POLICY || op == OP_VALUE)
                status = make_linear_desc(op, p, &i->weights_desc[op], attr, i->onednn.engine, &d);
        else
                status = make_conv_desc(op, p, &i->weights_desc[op], attr, i->onednn.engine, &d);
        r = onednn_check(status,
                         i->precision == PRECISION_BF16 ? "compute this network in bf16 on this CPU"
                                                        : "compute this network on this CPU",
                         e);
        if (r < 0)
                return r;
        i->weights_desc[op] = *dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0);
        p->slot_desc[op_io[op].src] = *dnnl_primitive_desc_query_md(d, dnnl_query_src_md, 0);
        p->slot_desc[op_io[op].dst] = *dnnl_primitive_desc_query_md(d, dnnl_query_dst_md, 0);
        p->scratch_desc[op] = *dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0);
        return onednn_check(dnnl_primitive_create(&p->ops[op], d), "build an operation", e);
}

/* A change of layout between two slots, unless they have the same. */
static int build_reorder(struct infer *i, struct plan *p, unsigned op, struct error *e) {
        const dnnl_memory_desc_t *src = &p->slot_desc[op_io[op].src], *dst = &p->slot_desc[op_io[op].dst];

        if (dnnl_memory_desc_equal(src, dst))
                return 0;
        return onednn_reorder(&i->onednn, src, dst, &p->ops[op], &p->scratch_desc[op], e);
}

/* ---- plans ---- */

static dnnl_memory_desc_t image(const struct infer *i, dnnl_data_type_t type, dnnl_format_tag_t tag,
                                unsigned n, uint32_t channels) {
        return onednn_tensor(type, tag, n, channels, i->network.rows, i->network.cols);
}

static void plan_deinit(struct plan *p) {
        for (int k = 0; k < N_OPS; k++) {
                onednn_primitive_drop(&p->ops[k]);
                onednn_memory_drop(&p->scratch[k]);
        }
        for (int k = 0; k < N_SLOTS; k++)
                onednn_memory_drop(&p->slots[k]);
        *p = (struct plan){ 0 };
}

static void describe_slots(const struct infer *i, struct plan *p, unsigned n) {
        const struct network *net = &i->network;
        const uint32_t cells = net->rows * net->cols;

        p->slot_desc[PLANES] = image(i, dnnl_f32, dnnl_nchw, n, net->planes);
        p->slot_desc[ENTERED] = image(i, i->type, dnnl_format_tag_any, n, net->planes);
        p->slot_desc[TOWER_A] = image(i, i->type, dnnl_format_tag_any, n, net->filters);
        p->slot_desc[TOWER_B] = p->slot_desc[TOWER_A];
        p->slot_desc[HEADS] = image(i, dnnl_f32, dnnl_format_tag_any, n, WEIGHTS_HEAD_CHANNELS);
        p->slot_desc[PLAIN] = image(i, dnnl_f32, dnnl_nchw, n, WEIGHTS_HEAD_CHANNELS);
        p->slot_desc[POLICY_IN] = onednn_matrix(dnnl_ab, n, NETWORK_POLICY_CHANNELS * cells);
        p->slot_desc[VALUE_IN] = onednn_matrix(dnnl_ab, n, cells);
        p->slot_desc[LOGITS] = onednn_matrix(dnnl_ab, n, net->moves);
        p->slot_desc[HIDDEN] = onednn_matrix(dnnl_ab, n, NETWORK_VALUE_HIDDEN);
}

static int build_ops(struct infer *i, struct plan *p, struct error *e) {
        /* the convolutions of the blocks are nearly all of the work: they choose first, the others follow */
        static const enum weights_op order[] = {
                OP_SECOND, OP_FIRST, OP_INPUT, OP_HEADS, OP_POLICY, OP_VALUE
        };
        int r;

        for (size_t k = 0; k < N_ELEMENTS(order); k++) {
                r = build_op(i, p, order[k], e);
                if (r < 0)
                        return r;
        }
        r = build_reorder(i, p, OP_ENTER, e);
        if (r < 0)
                return r;
        return build_reorder(i, p, OP_LEAVE, e);
}

/* Memory objects without memory. */
static int build_memories(struct infer *i, struct plan *p, struct error *e) {
        dnnl_status_t status = dnnl_success;

        for (int k = 0; status == dnnl_success && k < N_SLOTS; k++)
                status = dnnl_memory_create(&p->slots[k], &p->slot_desc[k], i->onednn.engine,
                                            DNNL_MEMORY_NONE);
        for (int k = 0; status == dnnl_success && k < N_OPS; k++)
                if (p->ops[k])
                        status = dnnl_memory_create(&p->scratch[k], &p->scratch_desc[k], i->onednn.engine,
                                                    DNNL_MEMORY_NONE);
        return onednn_check(status, "describe memory", e);
}

/* Give every slot its bytes; the scratchpads of all operations are the same ones. */
static int place_memories(struct infer *i, struct plan *p, struct error *e) {
        size_t at = 0, n_scratch = 1, offsets[N_SLOTS];
        dnnl_status_t status = dnnl_success;
        int r;

        if (p->base && p->base == i->activations.bytes)
                return 0;
        for (int k = 0; k < N_SLOTS; k++) {
                offsets[k] = at;
                at += onednn_aligned(dnnl_memory_desc_get_size(&p->slot_desc[k]));
        }
        for (int k = 0; k < N_OPS; k++)
                n_scratch = MAX(n_scratch, p->ops[k] ? dnnl_memory_desc_get_size(&p->scratch_desc[k]) : 0);
        if (at + n_scratch > i->activations.n_bytes) {
                onednn_unmap(&i->activations);
                r = onednn_map(&i->activations, at + n_scratch, e);
                if (r < 0)
                        return r;
        }
        for (int k = 0; status == dnnl_success && k < N_SLOTS; k++)
                status = dnnl_memory_set_data_handle(p->slots[k], i->activations.bytes + offsets[k]);
        for (int k = 0; status == dnnl_success && k < N_OPS; k++)
                if (p->ops[k])
                        status = dnnl_memory_set_data_handle(p->scratch[k], i->activations.bytes + at);
        p->base = status == dnnl_success ? i->activations.bytes : NULL;
        return onednn_check(status, "place memory", e);
}

/* The plan for a piece of @n positions, at most MAX_PIECE, ready to run; built when first asked for. */
static int plan_get(struct infer *i, unsigned n, struct plan **ret, struct error *e) {
        struct plan *p;
        size_t k = 0;
        int r;

        while (plan_sizes[k] < n)
                k++;
        *ret = p = &i->plans[k];
        if (p->n == plan_sizes[k])
                return place_memories(i, p, e);
        describe_slots(i, p, plan_sizes[k]);
        r = build_ops(i, p, e);
        if (r == 0)
                r = build_memories(i, p, e);
        if (r < 0) {
                plan_deinit(p);
                return r;
        }
        p->n = plan_sizes[k];
        return place_memories(i, p, e);
}

static int execute(const struct infer *i, struct plan *p, unsigned op, const struct weights_layer *layer,
                   struct error *e) {
        const dnnl_exec_arg_t args[] = {
                { DNNL_ARG_SRC, p->slots[op_io[op].src] },
                { DNNL_ARG_DST, p->slots[op_io[op].dst] },
                { DNNL_ARG_SCRATCHPAD, p->scratch[op] },
                { DNNL_ARG_WEIGHTS, layer ? layer->weights : NULL },
                { DNNL_ARG_BIAS, layer ? layer->bias : NULL },
        };
        dnnl_status_t status = dnnl_primitive_execute(p->ops[op], i->onednn.stream, layer ? 5 : 3, args);

        if (layer && i->on_layer)
                i->on_layer(i->on_layer_context);
        return onednn_check(status, "evaluate", e);
}

/* ---- the object ---- */

void infer_free(struct infer *i) {
        if (!i)
                return;
        for (int k = 0; k < N_PLANS; k++)
                plan_deinit(&i->plans[k]);
        onednn_unmap(&i->activations);
        weights_free(i->weights);
        onednn_deinit(&i->onednn);
        free(i);
}

/*
 * Whether bf16 pays: not if emulated, and on Intel only with AMX.  Measured, bf16 against f32 at 128 filters
 * on 15x15: AMX 8.2x, AVX512_BF16 on AMD (Zen 4) 2.0x, AVX512_BF16 on Intel
 * (Sapphire Rapids without its AMX) 0.62x.
 */
static bool bf16_pays(void) {
        const unsigned isa = dnnl_get_effective_cpu_isa();

        if ((isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx)
                return true;
        return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16 &&
               !__builtin_cpu_is("intel");
}

int infer_new(const struct network *n, unsigned precision, unsigned max_batch, struct infer **ret,
              struct error *e) {
        cleanup_(infer_freep) struct infer *i = calloc(1, sizeof(*i));
        struct plan *p;
        int r;

        assert(max_batch > 0);
        if (!i)
                return error_errno(e, -ENOMEM, "could not prepare the network");
        i->network = *n;
        i->max_batch = max_batch;
        i->precision = precision != PRECISION_AUTO ? precision : bf16_pays() ? PRECISION_BF16 : PRECISION_F32;
        i->type = i->precision == PRECISION_BF16 ? dnnl_bf16 : dnnl_f32;
        r = onednn_init(&i->onednn, e);
        if (r < 0)
                return r;
        for (unsigned op = 0; op < WEIGHTS_N_OPS; op++)
                i->weights_desc[op] = weights_describe(n, op, i->type);
        r = plan_get(i, MIN(max_batch, MAX_PIECE), &p, e);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(i);
        return 0;
}

void infer_on_layer(struct infer *i, void (*call)(void *context), void *context) {
        i->on_layer = call;
        i->on_layer_context = context;
}

unsigned infer_precision(const struct infer *i) {
        return i->precision;
}

static void *slot_bytes(struct plan *p, enum slot slot) {
        void *handle = NULL;
        dnnl_status_t status = dnnl_memory_get_data_handle(p->slots[slot], &handle);

        assert(status == dnnl_success && handle);
        return handle;
}

/* The planes into the tower, through it, and the heads' channels in plain layout. */
static int run_tower(struct infer *i, struct plan *p, struct error *e) {
        const struct weights_layer *layer = i->weights->layers;
        int r = 0;

        if (p->ops[OP_ENTER])
                r = execute(i, p, OP_ENTER, NULL, e);
        if (r == 0)
                r = execute(i, p, OP_INPUT, layer++, e);
        for (uint32_t k = 0; r == 0 && k < 2 * i->network.blocks; k++)
                r = execute(i, p, k % 2 == 0 ? OP_FIRST : OP_SECOND, layer++, e);
        if (r == 0)
                r = execute(i, p, OP_HEADS, layer, e);
        if (r == 0 && p->ops[OP_LEAVE])
                r = execute(i, p, OP_LEAVE, NULL, e);
        return r;
}

/* The fully connected layers of both heads; results of the first @n positions. */
static int run_heads(struct infer *i, struct plan *p, unsigned n, float *ret_logits, float *ret_value,
                     struct error *e) {
        const struct weights_layer *layer = &i->weights->layers[2 + 2 * (size_t) i->network.blocks];
        const size_t cells = (size_t) i->network.rows * i->network.cols, moves = i->network.moves;
        const float *heads = slot_bytes(p, p->ops[OP_LEAVE] ? PLAIN : HEADS), *hidden = slot_bytes(p, HIDDEN);
        float *policy_in = slot_bytes(p, POLICY_IN), *value_in = slot_bytes(p, VALUE_IN);
        int r;

        for (unsigned k = 0; k < p->n; k++) {
                const float *from = heads + k * WEIGHTS_HEAD_CHANNELS * cells;

                (void) memcpy(policy_in + k * NETWORK_POLICY_CHANNELS * cells, from,
                              NETWORK_POLICY_CHANNELS * cells * sizeof(float));
                (void) memcpy(value_in + k * cells, from + NETWORK_POLICY_CHANNELS * cells,
                              cells * sizeof(float));
        }
        r = execute(i, p, OP_POLICY, &layer[0], e);
        if (r == 0)
                r = execute(i, p, OP_VALUE, &layer[1], e);
        if (r < 0)
                return r;
        (void) memcpy(ret_logits, slot_bytes(p, LOGITS), n * moves * sizeof(float));
        for (unsigned k = 0; k < n; k++) {
                float sum = i->weights->value_fc2_bias;

                for (size_t h = 0; h < NETWORK_VALUE_HIDDEN; h++)
                        sum += i->weights->value_fc2[h] * hidden[k * NETWORK_VALUE_HIDDEN + h];
                ret_value[k] = tanhf(sum);
        }
        return 0;
}

int infer_run(struct infer *i, const float *planes, unsigned n, float *ret_logits, float *ret_value,
              struct error *e) {
        const size_t n_planes = (size_t) i->network.planes * i->network.rows * i->network.cols;
        const size_t moves = i->network.moves;
        unsigned n_piece;

        assert(n > 0 && n <= i->max_batch && i->weights);
        for (unsigned done = 0; done < n; done += n_piece) {
                struct plan *p;
                float *entry;
                int r;

                n_piece = MIN(n - done, MAX_PIECE);
                r = plan_get(i, n_piece, &p, e);
                if (r < 0)
                        return r;
                entry = slot_bytes(p, p->ops[OP_ENTER] ? PLANES : ENTERED);
                (void) memcpy(entry, planes + done * n_planes, n_piece * n_planes * sizeof(float));
                (void) memset(entry + n_piece * n_planes, 0, (p->n - n_piece) * n_planes * sizeof(float));
                r = run_tower(i, p, e);
                if (r == 0)
                        r = run_heads(i, p, n_piece, ret_logits + done * moves, ret_value + done, e);
                if (r < 0)
                        return r;
        }
        /* weights that are finite can still lead there, and a NaN would go through all of a search unseen */
        if (!finite_all(ret_logits, n * moves) || !finite_all(ret_value, n))
                return error_set(e, -EDOM, "the network's output is not finite: its weights are too large");
        return 0;
}

/* Finite weights can still lead to what is not finite: one trial, of a board without stones, will tell. */
static int try_weights(struct infer *i, struct error *e) {
        float planes[GAME_MAX_PLANES * GAME_MAX_CELLS] = { 0.0f }, logits[GAME_MAX_MOVES], value;

        return infer_run(i, planes, 1, logits, &value, e);
}

int infer_load(struct infer *i, const float *const *tensors, struct error *e) {
        cleanup_(weights_freep) struct weights *w = NULL, *old = NULL;
        int r;

        r = weights_new(&i->onednn, &i->network, i->weights_desc, tensors, &w, e);
        if (r < 0)
                return r;
        old = i->weights;
        i->weights = w;
        r = try_weights(i, e);
        if (r < 0) {
                i->weights = TAKE_PTR(old);
                return r;
        }
        w = NULL;
        return 0;
}
