/* SPDX-License-Identifier: MIT */
/*
 * Samples per second of the trainer's step (drawing and decoding from a window included) beside the same
 * network in straight libtorch code on a batch that is ready in memory; Connect Four, 64 filters x 5 blocks,
 * batch 256.
 *
 * Both with one and with two threads, a step of each in turn, so that whatever else the machine does meets
 * both alike; by the median of the steps' times.  Rows "metric<TAB>value".  Argument: seconds per number of
 * threads (10).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/exchange/window.h"
#include "daemon/trainer/learn.h"
#include "tests/bench/plain-torch.h"
#include "tests/unit/fixture-network.h"
#include "tests/unit/fixture-samples.h"

#define MAX_THREADS 2
#define N_SAMPLES   10000
#define MAX_STEPS   10000

struct times {
        double ns[MAX_STEPS];
        size_t n;
};

struct bench {
        struct config config;
        struct game *game;
        struct window *window;
        char path[64];
        int fd;
        double seconds;
};

static void must(int r, const struct error *e) {
        if (r == 0)
                return;
        (void) fprintf(stderr, "bench-train: %s\n", e->text);
        exit(1);
}

static int compare(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

static double median(struct times *t) {
        qsort(t->ns, t->n, sizeof(t->ns[0]), compare);
        return t->ns[t->n / 2];
}

/* Append the samples one by one, each encoded as a record of its own. */
static void fill(struct bench *b) {
        struct sample *samples = fixture_samples(b->game, N_SAMPLES, 1), ignored;
        size_t size = sample_record_max_bytes(b->game), length, offset, n_bytes;
        unsigned char *record = malloc(size);
        struct error e = ERROR_INIT;
        struct window_item item;
        uint32_t n;

        if (!record)
                abort();
        for (size_t i = 0; i < N_SAMPLES; i++) {
                must(sample_encode_record(b->game, &samples[i], 1, record, size, &length), &e);
                must(sample_record_open(b->game, record, length, &n, &offset, &e), &e);
                must(sample_decode(b->game, record + offset, length - offset, &ignored, &n_bytes, &e), &e);
                item = (struct window_item){ record + offset, (uint32_t) n_bytes };
                must(window_append(b->window, &item, 1), &e);
        }
        free(record);
        free(samples);
}

static void bench_init(struct bench *b) {
        struct error e = ERROR_INIT;
        struct config *c = &b->config;

        config_defaults(c);
        c->game_name = GAME_CONNECT4;
        c->network_filters = 64;
        c->network_blocks = 5;
        c->train_batch = 256;
        c->train_device = DEVICE_CPU;
        c->train_seed = 1;
        b->game = fixture_game(c);
        fixture_directory(b->path);
        b->fd = open(b->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        must(b->fd < 0, &e);
        must(window_open(b->fd, "window", b->game, N_SAMPLES, &b->window, &e), &e);
        fill(b);
}

static void bench_deinit(struct bench *b) {
        window_free(b->window);
        (void) close(b->fd);
        fixture_remove(b->path);
        game_free(b->game);
}

static int read_window(const void *context, uint64_t number, struct sample *ret) {
        return window_read(context, number, ret);
}

/* Time of one step each, appended to their times. */
static void measure(struct learner *l, const struct batch_source *source, struct plain_torch *p, int threads,
                    struct times *azpar, struct times *plain) {
        struct error e = ERROR_INIT;
        uint64_t gone = 0, begin = clock_now_ns(), middle;

        must(learner_step(l, source, &gone, &e), &e);
        middle = clock_now_ns();
        (void) plain_torch_step(p, threads);
        azpar->ns[azpar->n++] = (double) (middle - begin);
        plain->ns[plain->n++] = (double) (clock_now_ns() - middle);
}

static void run(struct bench *b, unsigned threads, double *ret_azpar, double *ret_plain) {
        const struct batch_source source = { b->window, window_first(b->window), window_tail(b->window),
                                             read_window };
        const struct config *c = &b->config;
        const struct game *g = b->game;
        static struct times azpar, plain;
        struct learner *l = NULL;
        struct error e = ERROR_INIT;
        struct plain_torch *p;
        uint64_t begin = clock_now_ns();

        b->config.train_threads = threads;
        must(learner_open(&b->config, b->game, b->fd, &l, &e), &e);
        p = plain_torch_new(g->planes, g->rows, g->cols, g->moves, (int64_t) c->network_filters,
                            (int64_t) c->network_blocks, (int64_t) c->train_batch);
        azpar.n = plain.n = 0;
        measure(l, &source, p, (int) threads, &azpar, &plain); /* the first one is slower: memory, kernels */
        for (azpar.n = plain.n = 0;
             azpar.n < MAX_STEPS && (double) (clock_now_ns() - begin) < b->seconds * (double) NS_PER_S;) {
                measure(l, &source, p, (int) threads, &azpar, &plain);
        }
        *ret_azpar = (double) c->train_batch / (median(&azpar) / (double) NS_PER_S);
        *ret_plain = (double) c->train_batch / (median(&plain) / (double) NS_PER_S);
        plain_torch_free(p);
        learner_free(l);
}

int main(int argc, char **argv) {
        struct bench b = { .seconds = argc > 1 ? atof(argv[1]) : 10 };
        double best[2] = { 0, 0 };

        bench_init(&b);
        for (unsigned threads = 1; threads <= MAX_THREADS; threads++) {
                double azpar, plain;

                run(&b, threads, &azpar, &plain);
                (void) printf("train-azpar-64x5-6x7-threads-%u\t%.0f\n", threads, azpar);
                (void) printf("train-plain-64x5-6x7-threads-%u\t%.0f\n", threads, plain);
                best[0] = MAX(best[0], azpar);
                best[1] = MAX(best[1], plain);
        }
        bench_deinit(&b);
        (void) printf("train-azpar-64x5-6x7\t%.0f\ntrain-plain-64x5-6x7\t%.0f\n", best[0], best[1]);
        return 0;
}
