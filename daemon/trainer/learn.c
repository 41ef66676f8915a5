/* SPDX-License-Identifier: MIT */
/*
 * The network in training; see learn.h.  Runs in azpar-trainer, on one thread (libtorch may use more inside a
 * step).
 *
 * struct checkpoint is the learner's state itself rather than a copy made
 * for saving: what a checkpoint lacks, the learner cannot depend on.
 */
#include "daemon/trainer/learn.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/random.h>
#include "common/base/clock.h"
#include "daemon/trainer/schedule.h"

/* Steps that the smoothed losses look back over. */
#define SMOOTH_STEPS 100

/* Stream number of the trainer's draws; workers' games have theirs under their own seed. */
#define RNG_STREAM 0

struct learner {
        const struct config *config;
        const struct game *game;
        int state_fd;
        enum learner_origin origin;
        const char *warning;

        struct checkpoint state;
        struct torch_handle *torch;
        struct torch_loss loss;
        struct batch *batch;

        /* host copy of all tensors, to be written: pointers into one block */
        size_t n_tensors;
        size_t n_floats;
        float *floats;
        float *tensors[NETWORK_MAX_TENSORS];
};

enum learner_origin learner_origin(const struct learner *l) {
        return l->origin;
}

const char *learner_warning(const struct learner *l) {
        return l->warning;
}

const struct checkpoint *learner_state(const struct learner *l) {
        return &l->state;
}

const struct torch_loss *learner_loss(const struct learner *l) {
        return &l->loss;
}

double learner_rate(const struct learner *l) {
        return schedule_rate(l->config, l->state.step);
}

bool learner_on_cuda(const struct learner *l) {
        return torch_on_cuda(l->torch);
}

/* ---- from file or fresh ---- */

static int torch_start(struct learner *l, uint64_t seed, struct error *e) {
        const struct config *c = l->config;
        const struct network *n = &l->state.network;
        const struct torch_params params = {
                .planes = n->planes,
                .rows = n->rows,
                .cols = n->cols,
                .moves = n->moves,
                .filters = n->filters,
                .blocks = n->blocks,
                .device = c->train_device,
                .optimizer = c->train_optimizer,
                .threads = (uint32_t) c->train_threads,
                .seed = seed,
                .momentum = c->train_momentum,
                .weight_decay = c->train_weight_decay,
                .gradient_clip = c->train_gradient_clip,
                .value_weight = c->train_value_weight,
        };
        char text[TORCH_ERR_MAX];
        int r;

        static_assert((int) TORCH_DEVICE_AUTO == DEVICE_AUTO && (int) TORCH_DEVICE_CPU == DEVICE_CPU &&
                              (int) TORCH_DEVICE_CUDA == DEVICE_CUDA &&
                              (int) TORCH_OPTIMIZER_ADAM == OPTIMIZER_ADAM &&
                              (int) TORCH_OPTIMIZER_SGD == OPTIMIZER_SGD,
                      "torch.h and the configuration number these alike");
        r = torch_new(&params, &l->torch, text);
        if (r < 0)
                return error_set(e, r, "could not make the network: %s", text);
        return 0;
}

static int set_weights(struct learner *l, const char *path, const float *const *tensors, struct error *e) {
        char text[TORCH_ERR_MAX];
        int r;

        r = torch_set_weights(l->torch, tensors, l->n_tensors, text);
        if (r < 0)
                return error_set(e, r, "%s: %s", path, text);
        return 0;
}

/*
 * Generations never repeat, or workers would not take up new weights: go on from the highest that is known.
 * Return: 0 with *ret_found; negative for a file that is there but cannot be used.
 */
static int read_model(struct learner *l, bool use_weights, bool *ret_found, struct error *e) {
        cleanup_(safetensors_freep) struct safetensors *file = NULL;
        const float *tensors[NETWORK_MAX_TENSORS];
        struct model_info info;
        int r;

        *ret_found = false;
        r = model_open(l->state_fd, LEARNER_MODEL, &l->state.network, &file, &info, tensors, e);
        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                struct error reason = *e;

                return error_set(e, r, "%.400s; move that file away to go on without it", reason.text);
        }
        *ret_found = true;
        l->state.generation = MAX(l->state.generation, info.generation);
        if (!use_weights)
                return 0;
        l->state.step = info.step;
        return set_weights(l, LEARNER_MODEL, tensors, e);
}

/* Moments of the other kind of optimiser mean nothing to this one. */
static int read_optimizer(struct learner *l, const char *folder, struct error *e) {
        cleanup_(file_map_close) struct file_map map = FILE_MAP_NULL;
        char path[128], text[TORCH_ERR_MAX];
        int r;

        if (l->state.optimizer_kind != l->config->train_optimizer) {
                l->warning =
                        "the checkpoint is of another train.optimizer: weights go on, moments start afresh";
                l->state.optimizer_kind = l->config->train_optimizer;
                return 0;
        }
        (void) snprintf(path, sizeof(path), "%s/optimizer.bin", folder);
        r = file_map_open(l->state_fd, path, &map, e);
        if (r < 0)
                return r;
        r = torch_set_optimizer(l->torch, map.bytes, map.n_bytes, text);
        if (r < 0)
                return error_set(
                        e, r == -ENOMEM ? r : -EBADMSG,
                        "%s: %s; move the directory '%s' away to resume from the checkpoint before it", path,
                        text, folder);
        return 0;
}

static int resume(struct learner *l, const char *folder, struct error *e) {
        cleanup_(safetensors_freep) struct safetensors *file = NULL;
        const float *tensors[NETWORK_MAX_TENSORS];
        char path[128];
        bool found;
        int r;

        (void) snprintf(path, sizeof(path), "%s/" LEARNER_MODEL, folder);
        r = model_open(l->state_fd, path, &l->state.network, &file, NULL, tensors, e);
        if (r < 0)
                return r;
        r = set_weights(l, path, tensors, e);
        if (r < 0)
                return r;
        r = read_optimizer(l, folder, e);
        if (r < 0)
                return r;
        l->origin = LEARNER_RESUMED;
        return read_model(l, false, &found, e);
}

static int start(struct learner *l, uint64_t seed, struct error *e) {
        bool found;
        int r;

        rng_seed(&l->state.rng, seed, RNG_STREAM);
        l->state.optimizer_kind = l->config->train_optimizer;
        r = read_model(l, true, &found, e);
        if (r < 0)
                return r;
        l->origin = found ? LEARNER_FROM_MODEL : LEARNER_FRESH;
        return 0;
}

static int make_buffers(struct learner *l, struct error *e) {
        struct network_tensor tensors[NETWORK_MAX_TENSORS];
        float *next;

        l->n_tensors = network_tensors(&l->state.network, tensors);
        for (size_t i = 0; i < l->n_tensors; i++)
                l->n_floats += tensors[i].n_elements;
        l->floats = calloc(l->n_floats, sizeof(float));
        if (!l->floats || batch_new(l->game, (uint32_t) l->config->train_batch, &l->batch) < 0)
                return error_set(e, -ENOMEM, "no memory for a batch of %" PRIu64 " samples (train.batch)",
                                 l->config->train_batch);
        next = l->floats;
        for (size_t i = 0; i < l->n_tensors; i++) {
                l->tensors[i] = next;
                next += tensors[i].n_elements;
        }
        return 0;
}

int learner_open(const struct config *c, const struct game *g, int state_fd, struct learner **ret,
                 struct error *e) {
        cleanup_(learner_freep) struct learner *l = calloc(1, sizeof(*l));
        struct network network;
        uint64_t seed = c->train_seed;
        char folder[64];
        bool found;
        int r;

        if (!l)
                return error_set(e, -ENOMEM, "out of memory");
        l->config = c;
        l->game = g;
        l->state_fd = state_fd;
        network_init(&network, g, (uint32_t) c->network_filters, (uint32_t) c->network_blocks);
        r = checkpoint_newest(state_fd, &network, &l->state, folder, e);
        if (r < 0 && r != -ENOENT)
                return r;
        found = r == 0;
        l->state.network = network;
        if (seed == 0 && getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
                return error_errno(e, -errno, "could not draw a seed");
        r = torch_start(l, seed, e);
        if (r < 0)
                return r;
        r = make_buffers(l, e);
        if (r < 0)
                return r;
        r = found ? resume(l, folder, e) : start(l, seed, e);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

void learner_free(struct learner *l) {
        if (!l)
                return;
        torch_free(l->torch);
        batch_free(l->batch);
        free(l->floats);
        free(l);
}

/* ---- train ---- */

/*
 * Exponential mean with weight 1 / SMOOTH_STEPS; a plain mean over the first steps, so that the start is not
 * held near a made-up first value.
 */
static void smooth(double *mean, double x, uint64_t step) {
        *mean += (x - *mean) / (double) MIN(step, SMOOTH_STEPS);
}

int learner_step(struct learner *l, const struct batch_source *source, uint64_t *gone, struct error *e) {
        struct checkpoint *s = &l->state;
        struct batch *b = l->batch;
        char text[TORCH_ERR_MAX];
        int r;

        r = batch_draw(b, source, l->config->train_augment, &s->rng, gone);
        if (r != 0)
                return r;
        r = torch_step(l->torch, b->planes, b->policy, b->value, b->weight, b->n, learner_rate(l), &l->loss,
                       text);
        if (r < 0)
                return error_set(e, r, "step %" PRIu64 ": %s%s", s->step, text,
                                 r == -EDOM ? ": lower train.learning_rate or set train.gradient_clip" : "");
        s->step++;
        s->samples_trained += b->n;
        smooth(&s->smooth_policy, l->loss.policy, s->step);
        smooth(&s->smooth_value, l->loss.value, s->step);
        smooth(&s->smooth_total, l->loss.total, s->step);
        return 0;
}

static int read_array(const void *context, uint64_t number, struct sample *ret) {
        const struct sample *samples = context;

        *ret = samples[number];
        return 0;
}

int learner_train(struct learner *l, const struct sample *samples, size_t n_samples, uint64_t n_steps,
                  struct error *e) {
        const struct batch_source source = { .context = samples, .tail = n_samples, .read = read_array };
        uint64_t gone = 0;
        int r = 0;

        for (uint64_t i = 0; i < n_steps && r == 0; i++)
                r = learner_step(l, &source, &gone, e);
        return r;
}

/* ---- save ---- */

/* Copy the weights out. A network with a value that is not finite must not replace one that works. */
static int copy_weights(struct learner *l, struct error *e) {
        char text[TORCH_ERR_MAX];
        int r;

        r = torch_get_weights(l->torch, l->tensors, l->n_tensors, text);
        if (r < 0)
                return error_set(e, r, "could not copy the weights: %s", text);
        for (size_t i = 0; i < l->n_floats; i++)
                if (!isfinite(l->floats[i]))
                        return error_set(e, -EDOM,
                                         "step %" PRIu64
                                         ": a weight is not finite: lower train.learning_rate "
                                         "or set train.gradient_clip",
                                         l->state.step);
        return 0;
}

int learner_save(struct learner *l, uint64_t window_tail, uint64_t allowed, struct error *e) {
        cleanup_(freep) void *optimizer = NULL;
        char text[TORCH_ERR_MAX];
        size_t n_bytes;
        int r;

        r = copy_weights(l, e);
        if (r < 0)
                return r;
        r = torch_get_optimizer(l->torch, &optimizer, &n_bytes, text);
        if (r < 0)
                return error_set(e, r, "could not copy the optimiser's state: %s", text);
        l->state.window_tail = window_tail;
        l->state.samples_allowed = allowed;
        return checkpoint_write(l->state_fd, &l->state, (const float *const *) l->tensors, optimizer, n_bytes,
                                e);
}

int learner_prune(const struct learner *l, struct error *e) {
        return checkpoint_prune(l->state_fd, l->config->train_keep, e);
}

void learner_raise_generation(struct learner *l, uint64_t generation) {
        if (generation <= MODEL_GENERATION_MAX)
                l->state.generation = MAX(l->state.generation, generation);
}

int learner_publish(struct learner *l, struct error *e) {
        struct model_info info = {
                .generation = l->state.generation + 1,
                .step = l->state.step,
                .unix_us = clock_unix_us(),
                .network = l->state.network,
        };
        int r;

        r = copy_weights(l, e);
        if (r < 0)
                return r;
        r = model_write(l->state_fd, LEARNER_MODEL, &info, (const float *const *) l->tensors, e);
        if (r < 0)
                return r;
        l->state.generation = info.generation;
        return 0;
}
