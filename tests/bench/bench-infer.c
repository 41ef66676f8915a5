/* SPDX-License-Identifier: MIT */
/*
 * Evaluations per second of the worker's inference on one core, and the time to take up new weights: medians
 * over REPEATS runs, rows "metric<TAB>value".  Arguments: seconds per run (0.3) and a part of the names to
 * restrict it to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/model/safetensors.h"
#include "tests/unit/fixture-network.h"
#include "worker/infer.h"

#define REPEATS   5
#define MAX_BATCH 32

static const struct {
        const char *name;
        uint32_t rows, cols, moves, filters, blocks;
} sizes[] = {
        { "128x10-15x15", 15, 15, 225, 128, 10 },
        { "64x5-15x15", 15, 15, 225, 64, 5 },
        { "64x5-6x7", 6, 7, 7, 64, 5 },
        { "32x4-6x7", 6, 7, 7, 32, 4 },
};

static int compare(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

static double median(double *x) {
        qsort(x, REPEATS, sizeof(*x), compare);
        return x[REPEATS / 2];
}

static void must(int r, const struct error *e) {
        if (r == 0)
                return;
        (void) fprintf(stderr, "bench-infer: %s\n", e->text);
        exit(1);
}

/* CPU time of this thread: what a core gives, also on a machine that has other things to do. */
static uint64_t cpu_ns(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * NS_PER_S + (uint64_t) t.tv_nsec;
}

/* Evaluations per second over about @seconds. */
static double rate(struct infer *i, const float *planes, unsigned n, float *logits, float *value,
                   double seconds) {
        struct error e = ERROR_INIT;
        uint64_t begin = cpu_ns(), now;
        uint64_t n_done = 0;

        do {
                must(infer_run(i, planes, n, logits, value, &e), &e);
                n_done += n;
                now = cpu_ns();
        } while ((double) (now - begin) < seconds * (double) NS_PER_S);
        return (double) n_done * (double) NS_PER_S / (double) (now - begin);
}

/* Milliseconds to map, check and take up a model file, as a worker does between two batches. */
static double take_up(struct infer *i, const struct fixture_weights *w) {
        const struct model_info info = { .network = w->network };
        const float *tensors[NETWORK_MAX_TENSORS];
        char directory[64], path[128];
        double x[REPEATS];
        struct error e = ERROR_INIT;

        fixture_directory(directory);
        (void) snprintf(path, sizeof(path), "%s/model.safetensors", directory);
        must(model_write(AT_FDCWD, path, &info, fixture_tensors(w), &e), &e);
        for (int k = 0; k < REPEATS; k++) {
                cleanup_(safetensors_freep) struct safetensors *s = NULL;
                uint64_t begin = cpu_ns();

                must(model_open(AT_FDCWD, path, &w->network, &s, NULL, tensors, &e), &e);
                must(infer_load(i, tensors, &e), &e);
                x[k] = (double) (cpu_ns() - begin) / (double) NS_PER_MS;
        }
        fixture_remove(directory);
        return median(x);
}

static void bench(struct infer *i, const struct fixture_weights *w, const char *name, double seconds) {
        const size_t n_planes = 3 * (size_t) w->network.rows * w->network.cols;
        static const unsigned batches[] = { 1, 8, 32 };
        cleanup_(freep) float *planes = calloc(MAX_BATCH * n_planes, sizeof(float));
        cleanup_(freep) float *logits = calloc((size_t) MAX_BATCH * w->network.moves, sizeof(float));
        float value[MAX_BATCH];
        double x[REPEATS];
        struct rng r;

        if (!planes || !logits)
                abort();
        rng_seed(&r, 1, 1);
        for (size_t k = 0; k < MAX_BATCH * n_planes; k++)
                planes[k] = (float) rng_below(&r, 2);
        (void) printf("infer-take-up-ms-%s\t%.2f\n", name, take_up(i, w));
        for (size_t b = 0; b < N_ELEMENTS(batches); b++) {
                (void) rate(i, planes, batches[b], logits, value, 0.0); /* builds the primitives */
                for (int k = 0; k < REPEATS; k++)
                        x[k] = rate(i, planes, batches[b], logits, value, seconds);
                (void) printf("infer-evals-per-s-%s-batch%u\t%.1f\n", name, batches[b], median(x));
                (void) fflush(stdout);
        }
}

static void bench_size(size_t at, unsigned precision, double seconds, const char *only) {
        const struct network n = fixture_network("bench", sizes[at].rows, sizes[at].cols, sizes[at].moves,
                                                 sizes[at].filters, sizes[at].blocks);
        cleanup_(fixture_weights_freep) struct fixture_weights *w = NULL;
        cleanup_(infer_freep) struct infer *i = NULL;
        struct error e = ERROR_INIT;
        char name[64];
        int r;

        (void) snprintf(name, sizeof(name), "%s-%s", sizes[at].name,
                        precision == PRECISION_F32 ? "f32" : "bf16");
        if (!strstr(name, only))
                return;
        r = infer_new(&n, precision, MAX_BATCH, &i, &e);
        if (r == -ENOTSUP)
                return;
        must(r, &e);
        w = fixture_weights_new(&n, 1);
        bench(i, w, name, seconds);
}

int main(int argc, char **argv) {
        for (size_t at = 0; at < N_ELEMENTS(sizes); at++)
                for (unsigned precision = PRECISION_F32; precision <= PRECISION_BF16; precision++)
                        bench_size(at, precision, argc > 1 ? atof(argv[1]) : 0.3, argc > 2 ? argv[2] : "");
        return 0;
}
