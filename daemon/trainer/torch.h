/* SPDX-License-Identifier: MIT */
#ifndef AZPAR_TORCH_H
#define AZPAR_TORCH_H

/*
 * torch: the whole boundary between azpar's C and libtorch (torch.cc).
 *
 * Every function returns 0 or a negative errno, never throws and never exits;
 * on failure it describes the error in the caller's @err buffer.  A handle is
 * used by one thread.  Buffers belong to the caller and are not kept.  No handle in a process that forks.
 * Valid C17 and C++17.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define TORCH_NOEXCEPT noexcept
extern "C" {
#else
#define TORCH_NOEXCEPT
#endif

#define TORCH_ERR_MAX 512

struct torch;

enum { TORCH_DEVICE_AUTO, TORCH_DEVICE_CPU, TORCH_DEVICE_CUDA };
enum { TORCH_OPTIMIZER_ADAM, TORCH_OPTIMIZER_SGD };

struct torch_params {
        uint32_t planes, rows, cols, moves; /* of the game */
        uint32_t filters, blocks;
        uint32_t device;    /* TORCH_DEVICE_* */
        uint32_t optimizer; /* TORCH_OPTIMIZER_* */
        uint32_t threads;
        uint64_t seed; /* of the first weights */
        double momentum, weight_decay, gradient_clip, value_weight;
};

struct torch_loss {
        double policy, value, total;
};

/* A fresh network with random weights, on the device. */
int torch_new(const struct torch_params *p, struct torch **ret, char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/* Accepts NULL. */
void torch_free(struct torch *t) TORCH_NOEXCEPT;

/* 1 if it computes on a CUDA device. */
int torch_on_cuda(const struct torch *t) TORCH_NOEXCEPT;

/* All tensors by network_tensors()' order and layout: copied in or out. */
int torch_set_weights(struct torch *t, const float *const *tensors, size_t n_tensors, char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;
int torch_get_weights(struct torch *t, float *const *ret_tensors, size_t n_tensors, char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/* The optimiser's state as bytes. torch_get_optimizer() allocates with malloc(); the caller frees. */
int torch_get_optimizer(struct torch *t, void **ret_bytes, size_t *ret_n, char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;
int torch_set_optimizer(struct torch *t, const void *bytes, size_t n, char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/*
 * One optimiser step on @n samples.
 * @planes: [n][planes][rows][cols]; @policy: [n][moves], each row sums to 1; @value: [n] in [-1, 1]; @weight: [n]
 * Loss: weighted mean over the batch of policy cross-entropy + value_weight * squared error of the value.
 */
int torch_step(struct torch *t, const float *planes, const float *policy, const float *value, const float *weight,
               size_t n, double learning_rate, struct torch_loss *ret, char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/* Evaluate (batch norm's running statistics): logits [n][moves] before softmax, value [n]. */
int torch_forward(struct torch *t, const float *planes, size_t n, float *ret_logits, float *ret_value,
                  char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif
