/* SPDX-License-Identifier: MIT */
/*
 * torch: the network and its training on libtorch, behind the C header torch.h.
 *
 * Runs in azpar-trainer (and in tests that compare our numbers with libtorch's).
 * The only file of azpar that knows libtorch.
 *
 * It keeps to the C++ frontend that is the same from libtorch 1.13 to 2.x (torch::nn, torch::optim,
 * archives). Nothing that libtorch throws gets out: guard() turns every exception into a negative errno and
 * the first line of its text.
 *
 * Memory format: images and convolution weights are channels-last.  oneDNN, which computes the convolutions,
 * works that way inside, and with plain NCHW tensors spends a part of each step on reordering them;
 * tests/bench/bench-train measures the difference.
 *
 * First weights are libtorch's own defaults, as in the original: Kaiming uniform
 * with a = sqrt(5) for convolutions and linear layers, that is uniform in
 * +-1/sqrt(fan_in), also for biases; batch norm 1 and 0.
 *
 * On one thread of a CPU everything here is a fixed sequence of fixed operations: equal seeds, weights and
 * batches give equal bits.  That is what exact resuming (P6) stands on.
 */
#include "daemon/trainer/torch.h"

#include <torch/torch.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

namespace nn = torch::nn;

constexpr auto channels_last = torch::MemoryFormat::ChannelsLast;

/* Sizes of the heads; those of common/model/network.h, which test-torch compares with these. */
constexpr int64_t policy_channels = 2, value_hidden = 256;

/* What a caller can ask for at most; far above the configuration's limits, far below overflow. */
constexpr uint32_t dim_max = 4096;

int fail(char *err, int negative_errno, const char *text) noexcept {
        (void) std::snprintf(err, TORCH_ERR_MAX, "%.*s", (int) std::strcspn(text, "\n"), text);
        return negative_errno;
}

/* libtorch throws c10::Error for everything; want of memory passes by itself, so callers want to know. */
int errno_of(const char *text) noexcept {
        for (const char *sign : { "allocation failed", "allocate memory", "out of memory" })
                if (std::strstr(text, sign))
                        return -ENOMEM;
        return -EIO;
}

/* Run @f, which returns 0 or calls fail(); nothing is thrown past this function. */
template <typename F> int guard(char *err, F &&f) noexcept {
        try {
                return f();
        } catch (const std::bad_alloc &) {
                return fail(err, -ENOMEM, "out of memory");
        } catch (const c10::Error &e) {
                return fail(err, errno_of(e.what_without_backtrace()), e.what_without_backtrace());
        } catch (const std::exception &e) {
                return fail(err, -EIO, e.what());
        } catch (...) {
                return fail(err, -EIO, "libtorch threw what is not a std::exception");
        }
}

nn::Conv2d conv(int64_t in, int64_t out, int64_t side) {
        return nn::Conv2d(nn::Conv2dOptions(in, out, side).padding(side / 2));
}

/* Convolution and batch norm, which always come together. */
struct Layer {
        nn::Conv2d conv{ nullptr };
        nn::BatchNorm2d bn{ nullptr };

        Layer() = default;
        Layer(int64_t in, int64_t out, int64_t side) : conv(::conv(in, out, side)), bn(out) {
        }

        torch::Tensor operator()(const torch::Tensor &x) {
                return bn(conv(x));
        }

        /* In the order of network_tensors(). */
        void tensors(std::vector<torch::Tensor> &ret) const {
                ret.insert(ret.end(), { conv->weight, conv->bias, bn->weight, bn->bias, bn->running_mean,
                                        bn->running_var });
        }
};

struct Output {
        torch::Tensor logits, value;
};

/* The residual tower with two heads that common/model/network.h describes. */
class NetworkImpl : public nn::Module {
        Layer input, policy, value;
        std::vector<std::pair<Layer, Layer>> blocks;
        nn::Linear policy_fc{ nullptr }, value_fc1{ nullptr }, value_fc2{ nullptr };

        Layer add(const std::string &name, Layer layer) {
                register_module(name + "_conv", layer.conv);
                register_module(name + "_bn", layer.bn);
                return layer;
        }

      public:
        explicit NetworkImpl(const torch_params &p) {
                int64_t f = p.filters, cells = (int64_t) p.rows * p.cols;

                input = add("input", Layer(p.planes, f, 3));
                for (uint32_t i = 0; i < p.blocks; i++) {
                        std::string name = "block_" + std::to_string(i);
                        Layer first = add(name + "_1", Layer(f, f, 3));

                        blocks.emplace_back(first, add(name + "_2", Layer(f, f, 3)));
                }
                policy = add("policy", Layer(f, policy_channels, 1));
                policy_fc = register_module("policy_fc", nn::Linear(policy_channels * cells, p.moves));
                value = add("value", Layer(f, 1, 1));
                value_fc1 = register_module("value_fc1", nn::Linear(cells, value_hidden));
                value_fc2 = register_module("value_fc2", nn::Linear(value_hidden, 1));
                for (auto &parameter : parameters())
                        if (parameter.dim() == 4)
                                parameter.set_data(parameter.contiguous(channels_last));
        }

        /* @planes: [n][planes][rows][cols]; logits [n][moves], value [n]. */
        Output forward(const torch::Tensor &planes) {
                auto x = torch::relu(input(planes.contiguous(channels_last)));

                for (auto &block : blocks)
                        x = torch::relu(block.second(torch::relu(block.first(x))) + x);
                auto p = torch::relu(policy(x)).flatten(1);
                auto v = torch::relu(value(x)).flatten(1);
                return { policy_fc(p), torch::tanh(value_fc2(torch::relu(value_fc1(v)))).squeeze(1) };
        }

        /* All tensors in the order of network_tensors(). */
        std::vector<torch::Tensor> tensors() const {
                std::vector<torch::Tensor> ret;

                input.tensors(ret);
                for (const auto &block : blocks) {
                        block.first.tensors(ret);
                        block.second.tensors(ret);
                }
                policy.tensors(ret);
                ret.insert(ret.end(), { policy_fc->weight, policy_fc->bias });
                value.tensors(ret);
                ret.insert(ret.end(),
                           { value_fc1->weight, value_fc1->bias, value_fc2->weight, value_fc2->bias });
                return ret;
        }
};
TORCH_MODULE(Network);

/*
 * Two groups: weights of convolutions and linear layers, which decay, and the rest, which does not.  Batch
 * norm's scales and all biases have one dimension.
 */
template <typename Optimizer, typename Options>
std::unique_ptr<torch::optim::Optimizer> make_optimizer(const Network &network, Options options,
                                                        double weight_decay) {
        std::vector<torch::Tensor> decayed, others;
        std::vector<torch::optim::OptimizerParamGroup> groups;

        for (const auto &parameter : network->parameters())
                (parameter.dim() > 1 ? decayed : others).push_back(parameter);
        groups.emplace_back(decayed, std::make_unique<Options>(Options(options).weight_decay(weight_decay)));
        groups.emplace_back(others, std::make_unique<Options>(options));
        return std::make_unique<Optimizer>(groups, options);
}

/* The learning rates given here are never used: torch_step() sets the step's own. */
std::unique_ptr<torch::optim::Optimizer> make_optimizer(const Network &network, const torch_params &p) {
        if (p.optimizer == TORCH_OPTIMIZER_SGD)
                return make_optimizer<torch::optim::SGD>(
                        network, torch::optim::SGDOptions(1e-3).momentum(p.momentum), p.weight_decay);
        return make_optimizer<torch::optim::Adam>(network, torch::optim::AdamOptions(1e-3), p.weight_decay);
}

/* An optimiser's key of a parameter: the tensor's address, as text up to libtorch 2.0 and as pointer later.
 */
template <typename Key> Key state_key(const torch::Tensor &parameter) {
        if constexpr (std::is_same_v<Key, std::string>) {
                std::ostringstream text;

                text << static_cast<const void *>(parameter.unsafeGetTensorImpl());
                return text.str();
        } else {
                return parameter.unsafeGetTensorImpl();
        }
}

using Key = std::decay_t<decltype(std::declval<torch::optim::Optimizer>().state().begin()->first)>;

/* All parameters of the optimiser in their fixed order. */
std::vector<torch::Tensor> optimized(torch::optim::Optimizer &optimizer) {
        std::vector<torch::Tensor> ret;

        for (const auto &group : optimizer.param_groups())
                ret.insert(ret.end(), group.params().begin(), group.params().end());
        return ret;
}

torch::Tensor on_host(const torch::Tensor &tensor) {
        return tensor.detach().to(torch::kCPU).contiguous();
}

/*
 * The moments of each parameter under its number.  Optimizer::save() would put addresses of this process into
 * the file, as keys whose form changed between libtorch 2.0 and 2.1, and hyperparameters, which come from the
 * configuration.
 */
void save_state(torch::optim::Optimizer &optimizer, uint32_t kind, torch::serialize::OutputArchive &archive) {
        auto parameters = optimized(optimizer);

        archive.write("kind", c10::IValue((int64_t) kind));
        archive.write("n_parameters", c10::IValue((int64_t) parameters.size()));
        for (size_t i = 0; i < parameters.size(); i++) {
                auto found = optimizer.state().find(state_key<Key>(parameters[i]));
                std::string number = std::to_string(i);

                if (found == optimizer.state().end())
                        continue;
                if (kind == TORCH_OPTIMIZER_SGD) {
                        auto &sgd = static_cast<torch::optim::SGDParamState &>(*found->second);

                        archive.write("momentum_" + number, on_host(sgd.momentum_buffer()));
                } else {
                        auto &adam = static_cast<torch::optim::AdamParamState &>(*found->second);

                        archive.write("step_" + number, c10::IValue(adam.step()));
                        archive.write("exp_avg_" + number, on_host(adam.exp_avg()));
                        archive.write("exp_avg_sq_" + number, on_host(adam.exp_avg_sq()));
                }
        }
}

/* @name as a tensor like @parameter, in its memory format and on its device. Throws if it is not one. */
torch::Tensor read_like(torch::serialize::InputArchive &archive, const std::string &name,
                        const torch::Tensor &parameter) {
        torch::NoGradGuard no_grad;
        torch::Tensor tensor;

        archive.read(name, tensor);
        TORCH_CHECK(tensor.sizes() == parameter.sizes() && tensor.dtype() == torch::kFloat32,
                    "optimiser state of another network: the shapes differ");
        return torch::empty_like(parameter).copy_(tensor);
}

int64_t read_integer(torch::serialize::InputArchive &archive, const std::string &name) {
        c10::IValue value;

        archive.read(name, value);
        return value.toInt();
}

/* What save_state() wrote, into an optimiser that has made no step. Throws if it is another one's. */
void load_state(torch::optim::Optimizer &optimizer, uint32_t kind, torch::serialize::InputArchive &archive) {
        auto parameters = optimized(optimizer);
        auto names = archive.keys();

        TORCH_CHECK(read_integer(archive, "kind") == kind, "state of another kind of optimiser");
        TORCH_CHECK(read_integer(archive, "n_parameters") == (int64_t) parameters.size(),
                    "optimiser state of another network: the number of parameters differs");
        if (names.size() == 2) /* before the first step, or plain SGD: there are no moments */
                return;
        for (size_t i = 0; i < parameters.size(); i++) {
                const auto &parameter = parameters[i];
                auto &state = optimizer.state()[state_key<Key>(parameter)];
                std::string number = std::to_string(i);

                if (kind == TORCH_OPTIMIZER_SGD) {
                        auto sgd = std::make_unique<torch::optim::SGDParamState>();

                        sgd->momentum_buffer(read_like(archive, "momentum_" + number, parameter));
                        state = std::move(sgd);
                } else {
                        auto adam = std::make_unique<torch::optim::AdamParamState>();

                        adam->step(read_integer(archive, "step_" + number));
                        adam->exp_avg(read_like(archive, "exp_avg_" + number, parameter));
                        adam->exp_avg_sq(read_like(archive, "exp_avg_sq_" + number, parameter));
                        state = std::move(adam);
                }
        }
}

/* Threads between operations have no work here, and the number can be set once per process only. */
void set_threads(uint32_t threads) {
        static std::once_flag once;

        std::call_once(once, [] { at::set_num_interop_threads(1); });
        torch::set_num_threads((int) threads);
}

torch::Device choose_device(uint32_t device) {
        bool cuda = device != TORCH_DEVICE_CPU && torch::cuda::is_available();

        return cuda ? torch::Device(torch::kCUDA, 0) : torch::Device(torch::kCPU);
}

} // namespace

struct torch_handle {
        torch_params params;
        torch::Device device;
        Network network;
        std::unique_ptr<torch::optim::Optimizer> optimizer;

        /* The caller's floats as a tensor on the device; on the CPU without a copy. */
        torch::Tensor input(const float *floats, torch::IntArrayRef shape) const {
                auto tensor = torch::from_blob(const_cast<float *>(floats), shape, torch::kFloat32);

                return device.is_cuda() ? tensor.pin_memory().to(device, true) : tensor;
        }

        torch::Tensor images(const float *planes, int64_t n) const {
                return input(planes, { n, params.planes, params.rows, params.cols });
        }
};

namespace {

void copy_out(const torch::Tensor &tensor, float *ret) {
        auto host = on_host(tensor);

        std::memcpy(ret, host.data_ptr<float>(), (size_t) host.numel() * sizeof(float));
}

bool params_valid(const torch_params &p) {
        for (uint32_t dim : { p.planes, p.rows, p.cols, p.moves, p.filters, p.blocks, p.threads })
                if (dim == 0 || dim > dim_max)
                        return false;
        return p.device <= TORCH_DEVICE_CUDA && p.optimizer <= TORCH_OPTIMIZER_SGD;
}

/* Losses of one batch, to be differentiated: policy, value, total. */
std::vector<torch::Tensor> losses(const Output &out, const torch::Tensor &policy, const torch::Tensor &value,
                                  const torch::Tensor &weight, double value_weight) {
        auto share = weight / weight.sum();
        auto policy_loss = -((policy * torch::log_softmax(out.logits, 1)).sum(1) * share).sum();
        auto value_loss = ((out.value - value).square() * share).sum();

        return { policy_loss, value_loss, policy_loss + value_weight * value_loss };
}

} // namespace

int torch_new(const torch_params *p, torch_handle **ret, char err[TORCH_ERR_MAX]) noexcept {
        return guard(err, [&] {
                if (!params_valid(*p))
                        return fail(err, -EINVAL, "network sizes or options out of range");
                if (p->device == TORCH_DEVICE_CUDA && !torch::cuda::is_available())
                        return fail(err, -EINVAL, "device cuda: this libtorch finds no CUDA device");
                set_threads(p->threads);
                torch::manual_seed(p->seed);

                Network network(*p);
                auto device = choose_device(p->device);

                network->to(device);
                *ret = new torch_handle{ *p, device, network, make_optimizer(network, *p) };
                return 0;
        });
}

void torch_free(torch_handle *t) noexcept {
        delete t;
}

int torch_on_cuda(const torch_handle *t) noexcept {
        return t->device.is_cuda();
}

int torch_set_weights(torch_handle *t, const float *const *tensors, size_t n_tensors,
                      char err[TORCH_ERR_MAX]) noexcept {
        return guard(err, [&] {
                torch::NoGradGuard no_grad;
                auto own = t->network->tensors();

                if (n_tensors != own.size())
                        return fail(err, -EINVAL,
                                    "weights of another network: the number of tensors differs");
                for (size_t i = 0; i < n_tensors; i++)
                        own[i].copy_(torch::from_blob(const_cast<float *>(tensors[i]), own[i].sizes(),
                                                      torch::kFloat32));
                return 0;
        });
}

int torch_get_weights(torch_handle *t, float *const *ret_tensors, size_t n_tensors,
                      char err[TORCH_ERR_MAX]) noexcept {
        return guard(err, [&] {
                auto own = t->network->tensors();

                if (n_tensors != own.size())
                        return fail(err, -EINVAL,
                                    "weights of another network: the number of tensors differs");
                for (size_t i = 0; i < n_tensors; i++)
                        copy_out(own[i], ret_tensors[i]);
                return 0;
        });
}

int torch_get_optimizer(torch_handle *t, void **ret_bytes, size_t *ret_n, char err[TORCH_ERR_MAX]) noexcept {
        return guard(err, [&] {
                torch::serialize::OutputArchive archive;
                std::ostringstream out;

                save_state(*t->optimizer, t->params.optimizer, archive);
                archive.save_to(out);
                std::string text = out.str();
                void *bytes = std::malloc(text.size());

                if (!bytes)
                        return fail(err, -ENOMEM, "out of memory");
                std::memcpy(bytes, text.data(), text.size());
                *ret_bytes = bytes;
                *ret_n = text.size();
                return 0;
        });
}

int torch_set_optimizer(torch_handle *t, const void *bytes, size_t n, char err[TORCH_ERR_MAX]) noexcept {
        return guard(err, [&] {
                auto fresh = make_optimizer(t->network, t->params);
                torch::serialize::InputArchive archive;

                archive.load_from(static_cast<const char *>(bytes), n, torch::Device(torch::kCPU));
                load_state(*fresh, t->params.optimizer, archive);
                t->optimizer = std::move(fresh);
                return 0;
        });
}

int torch_step(torch_handle *t, const float *planes, const float *policy, const float *value,
               const float *weight, size_t n, double learning_rate, torch_loss *ret,
               char err[TORCH_ERR_MAX]) noexcept {
        return guard(err, [&] {
                auto size = (int64_t) n;

                if (n < 2)
                        return fail(err, -EINVAL, "a batch needs at least 2 samples");
                t->network->train();
                auto parts = losses(t->network->forward(t->images(planes, size)),
                                    t->input(policy, { size, t->params.moves }), t->input(value, { size }),
                                    t->input(weight, { size }), t->params.value_weight);
                auto numbers = torch::stack(parts).detach().to(torch::kCPU);
                const float *loss = numbers.data_ptr<float>();

                if (!std::isfinite(loss[2]))
                        return fail(err, -EDOM, "the loss is not finite");
                t->optimizer->zero_grad();
                parts[2].backward();
                if (t->params.gradient_clip > 0)
                        nn::utils::clip_grad_norm_(t->network->parameters(), t->params.gradient_clip);
                for (auto &group : t->optimizer->param_groups())
                        group.options().set_lr(learning_rate);
                t->optimizer->step();
                *ret = { loss[0], loss[1], loss[2] };
                return 0;
        });
}

int torch_forward(torch_handle *t, const float *planes, size_t n, float *ret_logits, float *ret_value,
                  char err[TORCH_ERR_MAX]) noexcept {
        return guard(err, [&] {
                torch::NoGradGuard no_grad;

                if (n == 0)
                        return fail(err, -EINVAL, "an empty batch");
                t->network->eval();
                auto out = t->network->forward(t->images(planes, (int64_t) n));

                copy_out(out.logits, ret_logits);
                copy_out(out.value, ret_value);
                return 0;
        });
}
