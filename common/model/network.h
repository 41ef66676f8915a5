/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The network's description: the original's residual tower with two heads
 * (Silver et al. 2017, figure 2), any filters and blocks, any game.  It gives
 * the list of named tensors that trainer, model file and workers agree on.
 *
 *   conv_input  3x3, planes -> F, padding 1, bias; bn_input; ReLU
 *   res_block_i conv1 3x3 F -> F, bias; bn1; ReLU; conv2; bn2; + input; ReLU
 *   policy_conv 1x1 F -> 2, bias; policy_bn; ReLU; policy_fc  2 * cells -> moves   (logits)
 *   value_conv  1x1 F -> 1, bias; value_bn;  ReLU; value_fc1  cells -> 256; ReLU; value_fc2 256 -> 1; tanh
 *
 * Batch norm: eps 1e-5, momentum 0.1.  All tensors are F32, row-major; convolutions are [out][in][h][w],
 * linear layers [out][in]; the planes enter as [n][planes][rows][cols], and heads are flattened in the order
 * (channel, row, col). Names: conv_input.weight, bn_input.{weight,bias,running_mean,running_var},
 * res_block_0.conv1.weight, res_block_0.bn1.weight, ..., policy_fc.bias, ...
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/games/game.h"

#define NETWORK_VALUE_HIDDEN    256
#define NETWORK_POLICY_CHANNELS 2
#define NETWORK_BN_EPSILON      1e-5f
#define NETWORK_MAX_BLOCKS      40
#define NETWORK_NAME_MAX        48
/* 2 (conv) + 4 (bn) for the input, 2 x that per block, 6 + 2 for the policy head, 6 + 4 for the value head */
#define NETWORK_MAX_TENSORS (6 + NETWORK_MAX_BLOCKS * 12 + 8 + 10)

struct network {
        char rules[GAME_RULES_MAX];
        uint32_t planes, rows, cols, moves;
        uint32_t filters, blocks;
};

struct network_tensor {
        char name[NETWORK_NAME_MAX];
        uint32_t n_dims;
        uint32_t dims[4];
        uint64_t n_elements;
};

void network_init(struct network *n, const struct game *g, uint32_t filters, uint32_t blocks);

/* All tensors in their fixed order. @ret has NETWORK_MAX_TENSORS. Return: how many. */
size_t network_tensors(const struct network *n, struct network_tensor *ret);

/* The same rules, board and size: weights of one fit the other. */
bool network_equal(const struct network *a, const struct network *b);
