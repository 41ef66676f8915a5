/* SPDX-License-Identifier: MIT */
#ifndef AZPAR_PLAIN_NETWORK_HH
#define AZPAR_PLAIN_NETWORK_HH

/*
 * The network of common/model/network.h in straight libtorch code, as one would write it first: what azpar is
 * measured against, in training (plain-torch.cc) and in self-play (bench-baseline.cc).
 */

#include <torch/torch.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace nn = torch::nn;

struct Block : nn::Module {
        nn::Conv2d conv1, conv2;
        nn::BatchNorm2d bn1, bn2;

        explicit Block(int64_t f)
            : conv1(nn::Conv2dOptions(f, f, 3).padding(1)), conv2(nn::Conv2dOptions(f, f, 3).padding(1)),
              bn1(f), bn2(f) {
                register_module("conv1", conv1);
                register_module("conv2", conv2);
                register_module("bn1", bn1);
                register_module("bn2", bn2);
        }

        torch::Tensor forward(torch::Tensor x) {
                auto y = torch::relu(bn1(conv1(x)));
                return torch::relu(bn2(conv2(y)) + x);
        }
};

struct Net : nn::Module {
        nn::Conv2d conv_input, policy_conv, value_conv;
        nn::BatchNorm2d bn_input, policy_bn, value_bn;
        nn::Linear policy_fc, value_fc1, value_fc2;
        std::vector<std::shared_ptr<Block>> blocks;

        Net(int64_t planes, int64_t cells, int64_t moves, int64_t f, int64_t n_blocks)
            : conv_input(nn::Conv2dOptions(planes, f, 3).padding(1)), policy_conv(nn::Conv2dOptions(f, 2, 1)),
              value_conv(nn::Conv2dOptions(f, 1, 1)), bn_input(f), policy_bn(2), value_bn(1),
              policy_fc(2 * cells, moves), value_fc1(cells, 256), value_fc2(256, 1) {
                register_module("conv_input", conv_input);
                register_module("bn_input", bn_input);
                for (int64_t i = 0; i < n_blocks; i++)
                        blocks.push_back(register_module("res_block_" + std::to_string(i),
                                                         std::make_shared<Block>(f)));
                register_module("policy_conv", policy_conv);
                register_module("policy_bn", policy_bn);
                register_module("policy_fc", policy_fc);
                register_module("value_conv", value_conv);
                register_module("value_bn", value_bn);
                register_module("value_fc1", value_fc1);
                register_module("value_fc2", value_fc2);
        }

        std::pair<torch::Tensor, torch::Tensor> forward(torch::Tensor x) {
                x = torch::relu(bn_input(conv_input(x)));
                for (auto &block : blocks)
                        x = block->forward(x);
                auto p = torch::relu(policy_bn(policy_conv(x))).flatten(1);
                auto v = torch::relu(value_bn(value_conv(x))).flatten(1);
                p = torch::log_softmax(policy_fc(p), 1);
                v = torch::tanh(value_fc2(torch::relu(value_fc1(v))));
                return { p, v };
        }
};

#endif
