/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Inference: the network of network.h on the CPU, by oneDNN (infer_onednn.c).
 *
 * Batch norm is folded into the convolutions, weights are reordered once into
 * the layout that the chosen kernels want, and primitives are built once per
 * batch size.  One thread.  Process: azpar-worker, azpar-match.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/config.h"
#include "common/base/error.h"
#include "common/model/network.h"

struct infer;

/*
 * infer_new() - prepare for batches of up to @max_batch positions; no weights yet
 * @precision:  PRECISION_AUTO takes bf16 where the CPU has instructions for it (emulated, it would be slower than f32)
 */
must_check_ int infer_new(const struct network *n, unsigned precision, unsigned max_batch, struct infer **ret,
                          struct error *e);
void infer_free(struct infer *i);
DEFINE_CLEANUP(struct infer *, infer_free)

/*
 * infer_load() - take up weights
 * @tensors:    in network_tensors() order; not kept after the call
 *
 * On failure the weights in use stay.  Return: 0; -ERANGE: they overflow with their batch norm folded in; -EDOM: they give
 * no finite result on a board without stones.
 */
must_check_ int infer_load(struct infer *i, const float *const *tensors, struct error *e);

/*
 * infer_on_layer() - have @call made after each layer of infer_run(), with @context; NULL: nobody
 *
 * A batch of a large network takes many seconds: this is for whoever has to show that it is alive meanwhile.
 */
void infer_on_layer(struct infer *i, void (*call)(void *context), void *context);

/* PRECISION_F32 or PRECISION_BF16. */
unsigned infer_precision(const struct infer *i);

/*
 * infer_run() - evaluate @n positions, 1 <= n <= max_batch
 * @planes:     [n][planes][rows][cols], f32
 * @ret_logits: [n][moves], before any softmax
 * @ret_value:  [n], in [-1, 1], from the view of the side to move
 *
 * A position's result does not depend on what else is in the batch, bit for bit; on the batch's size, up to rounding.
 * Return: 0; -EDOM: a result is not finite.
 */
must_check_ int infer_run(struct infer *i, const float *planes, unsigned n, float *ret_logits, float *ret_value,
                          struct error *e);
