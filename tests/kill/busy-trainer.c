/* SPDX-License-Identifier: MIT */
/*
 * Takes azpar-trainer's place in most rounds of the kill test: the real loop (daemon/trainer/loop.h) with the
 * real writers of models and checkpoints, and a learner that computes nothing, so that it publishes and saves
 * hundreds of times a second.  A file's content follows from its step, and what was durable is written down:
 * a trainer that finds less, or something else, when it starts says so in the shared file.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/rng.h"
#include "daemon/trainer/loop.h"
#include "tests/kill/numbered.h"

#define STEP_NS (500 * UINT64_C(1000))

struct learner {
        const struct config *config;
        int state_fd;
        struct checkpoint state;
        enum learner_origin origin;
        struct torch_loss loss;
        struct network_tensor list[NETWORK_MAX_TENSORS];
        float *tensors[NETWORK_MAX_TENSORS];
        size_t n_tensors;
};

static struct numbered_shared *shared;
static volatile sig_atomic_t terminated;

static void on_sigterm(int signal_number) {
        (void) signal_number;
        terminated = 1;
}

/* ---- a learner whose weights are its step ---- */

static float weight_at(uint64_t step, size_t tensor, uint64_t i) {
        return (float) ((step * 31 + tensor * 7 + i) % 1009) / 1009;
}

static void set_weights(struct learner *l) {
        for (size_t t = 0; t < l->n_tensors; t++)
                for (uint64_t i = 0; i < l->list[t].n_elements; i++)
                        l->tensors[t][i] = weight_at(l->state.step, t, i);
}

/* Is the model at @path whole, and of one step? Return: its generation; 0: it is not there or not right. */
static uint64_t check_model(const struct learner *l, const char *path, uint64_t *ret_step) {
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        const float *tensors[NETWORK_MAX_TENSORS];
        struct error e = ERROR_INIT;
        struct model_info info;

        if (model_open(l->state_fd, path, &l->state.network, &s, &info, tensors, &e) < 0) {
                log_error("%s", e.text);
                return 0;
        }
        for (size_t t = 0; t < l->n_tensors; t++)
                for (uint64_t i = 0; i < l->list[t].n_elements; i++)
                        if (tensors[t][i] != weight_at(info.step, t, i))
                                return 0;
        *ret_step = info.step;
        return info.generation;
}

/* Is all there that a trainer before us made durable? */
static void check_files(const struct learner *l, const char *folder) {
        uint64_t published = atomic_load(&shared->published_generation), step = 0, generation;
        char path[128];
        bool bad = l->state.step < atomic_load(&shared->saved_step);

        if (l->origin == LEARNER_RESUMED) {
                (void) snprintf(path, sizeof(path), "%s/model.safetensors", folder);
                bad = bad || check_model(l, path, &step) == 0 || step != l->state.step;
        }
        generation = faccessat(l->state_fd, LEARNER_MODEL, F_OK, 0) == 0
                             ? check_model(l, LEARNER_MODEL, &step)
                             : 0;
        bad = bad || generation < published;
        if (!bad)
                return;
        log_error("step %" PRIu64 ", saved was %" PRIu64 "; generation %" PRIu64 ", published was %" PRIu64,
                  l->state.step, atomic_load(&shared->saved_step), generation, published);
        atomic_fetch_add(&shared->n_lost_files, 1);
}

int learner_open(const struct config *c, const struct game *g, int state_fd, struct learner **ret,
                 struct error *e) {
        struct learner *l = calloc(1, sizeof(*l));
        struct network network;
        char folder[64];
        int r;

        if (!l)
                return error_errno(e, -ENOMEM, "learner");
        l->config = c;
        l->state_fd = state_fd;
        network_init(&network, g, (uint32_t) c->network_filters, (uint32_t) c->network_blocks);
        l->n_tensors = network_tensors(&network, l->list);
        for (size_t t = 0; t < l->n_tensors; t++)
                l->tensors[t] = malloc(l->list[t].n_elements * sizeof(float));
        r = checkpoint_newest(state_fd, &network, &l->state, folder, e);
        if (r < 0 && r != -ENOENT)
                return r;
        l->origin = r == 0 ? LEARNER_RESUMED : LEARNER_FRESH;
        l->state.network = network;
        l->state.optimizer_kind = OPTIMIZER_ADAM;
        if (l->origin == LEARNER_FRESH)
                rng_seed(&l->state.rng, 1, 1);
        check_files(l, folder);
        *ret = l;
        return 0;
}

enum learner_origin learner_origin(const struct learner *l) {
        return l->origin;
}

const struct checkpoint *learner_state(const struct learner *l) {
        return &l->state;
}

const struct torch_loss *learner_loss(const struct learner *l) {
        return &l->loss;
}

double learner_rate(const struct learner *l) {
        (void) l;
        return 0.001;
}

bool learner_on_cuda(const struct learner *l) {
        (void) l;
        return false;
}

int learner_step(struct learner *l, const struct batch_source *source, uint64_t *gone, struct error *e) {
        struct sample s;

        (void) e;
        for (unsigned i = 0; i < 8; i++) {
                uint64_t n = source->first + rng_u64(&l->state.rng) % (source->tail - source->first);

                *gone += source->read(source->context, n, &s) != 0;
        }
        l->state.step++;
        l->state.samples_trained += l->config->train_batch;
        clock_sleep_ns(STEP_NS);
        return 0;
}

int learner_save(struct learner *l, uint64_t window_tail, uint64_t allowed, struct error *e) {
        uint64_t optimizer[512];
        int r;

        set_weights(l);
        for (size_t i = 0; i < N_ELEMENTS(optimizer); i++)
                optimizer[i] = l->state.step + i;
        l->state.window_tail = window_tail;
        l->state.samples_allowed = allowed;
        r = checkpoint_write(l->state_fd, &l->state, (const float *const *) l->tensors, optimizer,
                             sizeof(optimizer), e);
        if (r == 0) {
                atomic_store(&shared->saved_step, l->state.step);
                atomic_fetch_add(&shared->n_saved, 1);
        }
        return r;
}

int learner_prune(const struct learner *l, struct error *e) {
        return checkpoint_prune(l->state_fd, l->config->train_keep, e);
}

void learner_raise_generation(struct learner *l, uint64_t generation) {
        l->state.generation =
                MAX(l->state.generation, MAX(generation, atomic_load(&shared->published_generation)));
}

int learner_publish(struct learner *l, struct error *e) {
        const struct model_info info = { .generation = l->state.generation + 1,
                                         .step = l->state.step,
                                         .unix_us = clock_unix_us(),
                                         .network = l->state.network };
        int r;

        set_weights(l);
        r = model_write(l->state_fd, LEARNER_MODEL, &info, (const float *const *) l->tensors, e);
        if (r == 0) {
                l->state.generation = info.generation;
                atomic_store(&shared->published_generation, info.generation);
                atomic_fetch_add(&shared->n_published, 1);
        }
        return r;
}

/* ---- the process ---- */

static int run(const int fds[5], struct error *e) {
        static struct config config;
        struct segment *segment;
        struct learner *learner;
        struct window *window;
        struct heart *heart;
        struct game *game;
        int r;

        r = config_read_fd(fds[0], &config, e);
        if (r == 0)
                r = game_new(&config, &game, e);
        if (r == 0)
                r = segment_map_trainer(fds[1], &segment, e);
        if (r == 0)
                r = heart_new(segment->trainer, &heart, e);
        if (r == 0)
                r = window_map(fds[3], game, &window, e);
        if (r == 0)
                r = learner_open(&config, game, fds[2], &learner, e);
        if (r == 0)
                r = loop_run(&(struct loop_params){ .config = &config,
                                                    .segment = segment,
                                                    .window = window,
                                                    .learner = learner,
                                                    .heart = heart,
                                                    .wake_fd = fds[4],
                                                    .terminated = &terminated },
                             e);
        return r;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "config-fd", required_argument, NULL, 0 }, { "segment-fd", required_argument, NULL, 1 },
                { "state-fd", required_argument, NULL, 2 },  { "window-fd", required_argument, NULL, 3 },
                { "wake-fd", required_argument, NULL, 4 },   { NULL, 0, NULL, 0 },
        };
        struct sigaction terminate = { .sa_handler = on_sigterm };
        struct error e = ERROR_INIT;
        int fds[5] = { -1, -1, -1, -1, -1 }, c, r;

        log_open("busy-trainer", LOG_LEVEL_INFO);
        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (c > 4)
                        return EX_CONFIG;
                fds[c] = atoi(optarg);
        }
        (void) sigaction(SIGTERM, &terminate, NULL);
        shared = numbered_map();
        if (!shared)
                return EX_CONFIG;
        r = run(fds, &e);
        if (r == 0)
                return EXIT_SUCCESS;
        log_error("%s", e.text);
        return r == -EBADMSG || r == -EINVAL ? EX_CONFIG : EXIT_FAILURE;
}
