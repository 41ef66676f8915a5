/* SPDX-License-Identifier: MIT */
/*
 * The network of common/model/network.h and its training step in straight libtorch code: plain NCHW tensors,
 * one optimiser over all parameters, the batch ready in memory.  See plain-torch.h.
 */
#include "tests/bench/plain-torch.h"

#include "tests/bench/plain-network.hh"

struct plain_torch {
        Net net;
        torch::optim::Adam optimizer;
        torch::Tensor planes, policy, value;
};

struct plain_torch *plain_torch_new(int64_t planes, int64_t rows, int64_t cols, int64_t moves,
                                    int64_t filters, int64_t blocks, int64_t n) {
        Net net(planes, rows * cols, moves, filters, blocks);
        auto parameters = net.parameters();

        return new plain_torch{ net, torch::optim::Adam(parameters, torch::optim::AdamOptions(1e-3)),
                                torch::randint(0, 2, { n, planes, rows, cols }).to(torch::kFloat32),
                                torch::softmax(torch::randn({ n, moves }), 1),
                                torch::randint(-1, 2, { n }).to(torch::kFloat32) };
}

void plain_torch_free(struct plain_torch *p) {
        delete p;
}

double plain_torch_step(struct plain_torch *p, int threads) {
        if (torch::get_num_threads() != threads)
                torch::set_num_threads(threads);
        p->net.train();
        p->optimizer.zero_grad();
        auto [policy, value] = p->net.forward(p->planes);
        auto loss = -(p->policy * policy).sum(1).mean() + torch::mse_loss(value.squeeze(1), p->value);
        loss.backward();
        p->optimizer.step();
        return loss.item<double>();
}
