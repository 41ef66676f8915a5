/* SPDX-License-Identifier: MIT */
#ifndef AZPAR_PLAIN_TORCH_H
#define AZPAR_PLAIN_TORCH_H

/*
 * What azpar's trainer is measured against: the same network in straight libtorch code, as one would write it
 * first (plain-torch.cc).  Valid C17 and C++17.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct plain_torch;

/* A fresh network for @planes x @rows x @cols and @moves, one batch of @n random samples, Adam. */
struct plain_torch *plain_torch_new(int64_t planes, int64_t rows, int64_t cols, int64_t moves,
                                    int64_t filters, int64_t blocks, int64_t n);
void plain_torch_free(struct plain_torch *p);

/* One training step on the batch with @threads threads. Return: the loss, so that nothing can be left out. */
double plain_torch_step(struct plain_torch *p, int threads);

#ifdef __cplusplus
}
#endif

#endif
