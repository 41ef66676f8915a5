/* SPDX-License-Identifier: MIT */
#ifndef AZPAR_TORCH_H
#define AZPAR_TORCH_H

/*
 * torch: the whole boundary between azpar's C and libtorch (torch.cc).
 *
 * Every function returns 0 or a negative errno, never throws and never exits;
 * on failure it describes the error in the caller's @err buffer.  A handle is
 * used by one thread.  Buffers belong to the caller and are not kept.  No handle in a process that forks.
 * (The handle is not called struct torch because C++ has a namespace of that name.)
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

struct torch_handle;

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

/*
 * A fresh network with random weights, on the device.  Equal seeds give equal weights.
 *
 * Return: 0; -EINVAL: sizes out of range, or device cuda without one; -ENOMEM; -EIO: libtorch's own error.
 */
int torch_new(const struct torch_params *p, struct torch_handle **ret,
              char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/* Accepts NULL. */
void torch_free(struct torch_handle *t) TORCH_NOEXCEPT;

/* 1 if it computes on a CUDA device. */
int torch_on_cuda(const struct torch_handle *t) TORCH_NOEXCEPT;

/* All tensors by network_tensors()' order and layout: copied in or out. -EINVAL: @n_tensors is another
 * number. */
int torch_set_weights(struct torch_handle *t, const float *const *tensors, size_t n_tensors,
                      char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;
int torch_get_weights(struct torch_handle *t, float *const *ret_tensors, size_t n_tensors,
                      char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/*
 * The optimiser's moments as bytes: libtorch's archive of tensors named after the number of the parameter.
 * torch_get_optimizer() allocates with malloc(); the caller frees.  When torch_set_optimizer() fails, the
 * optimiser is as it was.
 */
int torch_get_optimizer(struct torch_handle *t, void **ret_bytes, size_t *ret_n,
                        char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;
int torch_set_optimizer(struct torch_handle *t, const void *bytes, size_t n,
                        char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/*
 * One optimiser step on @n samples, at least 2 (batch norm takes a variance over them).
 * @planes: [n][planes][rows][cols]; @policy: [n][moves], each row sums to 1; @value: [n] in [-1, 1]; @weight:
 * [n], at least 0, not all 0
 * @learning_rate: per step; the rest comes from torch_params
 * @ret:    losses before the step, unweighted by value_weight except in total
 *
 * Loss: weighted mean over the batch of policy cross-entropy + value_weight * squared error of the value.
 * The L2 penalty is added to the gradient (not to the losses) after the gradient was clipped.
 *
 * Return: 0; -EINVAL; -EDOM: the loss is not finite, and the weights are as they were (batch norm's running
 * statistics are not); -ENOMEM; -EIO.
 */
int torch_step(struct torch_handle *t, const float *planes, const float *policy, const float *value,
               const float *weight, size_t n, double learning_rate, struct torch_loss *ret,
               char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

/* Evaluate (batch norm's running statistics): logits [n][moves] before softmax, value [n]; @n > 0. */
int torch_forward(struct torch_handle *t, const float *planes, size_t n, float *ret_logits, float *ret_value,
                  char err[TORCH_ERR_MAX]) TORCH_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif
