/* SPDX-License-Identifier: MIT */
/* The worker's inference, number by number against the plain network of fixture-reference.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include "tests/unit/fixture-reference.h"
#include "worker/infer.h"

#define TOLERANCE 1e-4 /* what azpar promises for f32: probabilities and value */
#define MAX_BATCH 40   /* two full pieces and a rest */
#define N_PLANES  3

/* Everything that a comparison needs. */
struct bench {
        struct fixture_weights *w;
        struct infer *i;
        float *planes, *logits, *value;
        size_t n_planes;
};

static void bench_init(struct bench *b, const struct network *n, unsigned precision, unsigned max_batch) {
        struct error e = ERROR_INIT;
        struct rng r;

        *b = (struct bench){ .w = fixture_weights_new(n, 11),
                             .n_planes = N_PLANES * (size_t) n->rows * n->cols };
        b->planes = calloc(max_batch * b->n_planes, sizeof(float));
        b->logits = calloc(max_batch * (size_t) n->moves, sizeof(float));
        b->value = calloc(max_batch, sizeof(float));
        assert_true(b->planes && b->logits && b->value);
        rng_seed(&r, 5, 0);
        for (size_t k = 0; k < max_batch * b->n_planes; k++)
                b->planes[k] = rng_below(&r, 3) == 0 ? 1.0f : 0.0f;
        if (infer_new(n, precision, max_batch, &b->i, &e) < 0 ||
            infer_load(b->i, fixture_tensors(b->w), &e) < 0)
                fail_msg("%s", e.text);
}

static void bench_deinit(struct bench *b) {
        fixture_weights_free(b->w);
        infer_free(b->i);
        free(b->planes);
        free(b->logits);
        free(b->value);
}

static void bench_run(struct bench *b, unsigned n) {
        struct error e = ERROR_INIT;

        if (infer_run(b->i, b->planes, n, b->logits, b->value, &e) < 0)
                fail_msg("%s", e.text);
}

/* Largest deviation of place @at from the reference, of probabilities and value; Kullback-Leibler divergence.
 */
static double deviation(const struct bench *b, unsigned at, double *ret_kl) {
        const uint32_t moves = b->w->network.moves;
        double want[GAME_MAX_MOVES], got[GAME_MAX_MOVES], kl = 0.0, worst;

        worst = fabs(reference_run(b->w, b->planes + at * b->n_planes, want) - (double) b->value[at]);
        for (uint32_t m = 0; m < moves; m++)
                got[m] = b->logits[at * moves + m];
        reference_softmax(want, moves);
        reference_softmax(got, moves);
        for (uint32_t m = 0; m < moves; m++) {
                worst = fmax(worst, fabs(want[m] - got[m]));
                kl += want[m] * log(want[m] / got[m]);
        }
        if (ret_kl)
                *ret_kl = kl;
        return worst;
}

/* One move with all of the probability, or a value at its bound, would hide what happens elsewhere. */
static void assert_telling(const struct bench *b, unsigned at) {
        const uint32_t moves = b->w->network.moves;
        double p[GAME_MAX_MOVES];

        for (uint32_t m = 0; m < moves; m++)
                p[m] = b->logits[at * moves + m];
        reference_softmax(p, moves);
        for (uint32_t m = 0; m < moves; m++)
                assert_true(p[m] < 0.95);
        assert_true(fabs((double) b->value[at]) < 0.999);
}

static const struct network tiny = {
        .rules = "tictactoe", .planes = N_PLANES, .rows = 3, .cols = 3, .moves = 9, .filters = 8, .blocks = 1
};
static const struct network middle = {
        .rules = "connect4", .planes = N_PLANES, .rows = 6, .cols = 7, .moves = 7, .filters = 32, .blocks = 4
};
#ifndef __SANITIZE_ADDRESS__
/* not a multiple of any kernel's block */
static const struct network odd = {
        .rules = "odd", .planes = N_PLANES, .rows = 5, .cols = 9, .moves = 45, .filters = 20, .blocks = 2
};
static const struct network large = { .rules = "gomoku",
                                      .planes = N_PLANES,
                                      .rows = 15,
                                      .cols = 15,
                                      .moves = 225,
                                      .filters = 64,
                                      .blocks = 5 };
static const struct network original = { .rules = "gomoku",
                                         .planes = N_PLANES,
                                         .rows = 15,
                                         .cols = 15,
                                         .moves = 225,
                                         .filters = 128,
                                         .blocks = 10 };
#endif

static const struct {
        const struct network *network;
        unsigned max_batch, n_compared; /* the reference is slow */
} sizes[] = {
        { &tiny, MAX_BATCH, MAX_BATCH }, { &middle, MAX_BATCH, 6 },
#ifndef __SANITIZE_ADDRESS__
        { &odd, MAX_BATCH, 10 },         { &large, 8, 2 },          { &original, 3, 1 },
#endif
};

/* All batch sizes that fit, a few positions of each. */
static void test_f32_is_the_network(void **state) {
        static const unsigned batches[] = { 1, 2, 3, 5, 8, 13, 16, 17, 32, MAX_BATCH };

        (void) state;
        for (size_t s = 0; s < N_ELEMENTS(sizes); s++) {
                struct bench b;

                bench_init(&b, sizes[s].network, PRECISION_F32, sizes[s].max_batch);
                assert_int_equal(infer_precision(b.i), PRECISION_F32);
                for (size_t k = 0; k < N_ELEMENTS(batches) && batches[k] <= sizes[s].max_batch; k++) {
                        const unsigned n = batches[k],
                                       step = (n + sizes[s].n_compared - 1) / sizes[s].n_compared;

                        (void) memset(b.logits, 0, n * sizes[s].network->moves * sizeof(float));
                        bench_run(&b, n);
                        for (unsigned at = n - 1; at < n; at -= step) {
                                assert_telling(&b, at);
                                if (deviation(&b, at, NULL) > TOLERANCE)
                                        fail_msg("%s %ux%u: place %u of %u is off by %g", b.w->network.rules,
                                                 b.w->network.filters, b.w->network.blocks, at, n,
                                                 deviation(&b, at, NULL));
                        }
                }
                bench_deinit(&b);
        }
}

/* Each tensor matters, and as in the reference: none is forgotten, folded twice, or taken for another. */
static void test_every_tensor_counts(void **state) {
        struct bench b;

        (void) state;
        bench_init(&b, &tiny, PRECISION_F32, 4);
        for (size_t t = 0; t < b.w->n; t++) {
                const size_t n_bytes = b.w->list[t].n_elements * sizeof(float);
                cleanup_(freep) float *before = malloc(n_bytes);
                double stale = 0.0, fresh = 0.0;

                assert_non_null(before);
                (void) memcpy(before, b.w->tensors[t], n_bytes);
                for (uint64_t k = 0; k < b.w->list[t].n_elements; k++)
                        b.w->tensors[t][k] = b.w->tensors[t][k] * 1.2f + (k % 2 ? 0.06f : 0.05f);
                /* the control: with the old weights, the results are far from the changed reference */
                bench_run(&b, 4);
                for (unsigned at = 0; at < 4; at++)
                        stale = fmax(stale, deviation(&b, at, NULL));
                assert_int_equal(infer_load(b.i, fixture_tensors(b.w), NULL), 0);
                bench_run(&b, 4);
                for (unsigned at = 0; at < 4; at++)
                        fresh = fmax(fresh, deviation(&b, at, NULL));
                if (stale < 5 * TOLERANCE || fresh > TOLERANCE)
                        fail_msg("%s: off by %g before, %g after", b.w->list[t].name, stale, fresh);
                (void) memcpy(b.w->tensors[t], before, n_bytes);
                assert_int_equal(infer_load(b.i, fixture_tensors(b.w), NULL), 0);
        }
        bench_deinit(&b);
}

/*
 * bf16 has 8 bits of significand.  Measured with such random networks: divergence up to 2e-5, value off by up
 * to 0.01; the bounds leave room for other kernels.
 */
#define BF16_DIVERGENCE 1e-3
#define BF16_TOLERANCE  0.05

static void test_bf16_is_near(void **state) {
        (void) state;
        for (size_t s = 0; s < N_ELEMENTS(sizes); s++) {
                struct error e = ERROR_INIT;
                struct infer *probe = NULL;
                struct bench b;

                if (infer_new(sizes[s].network, PRECISION_BF16, 1, &probe, &e) == -ENOTSUP)
                        skip();
                infer_free(probe);
                bench_init(&b, sizes[s].network, PRECISION_BF16, sizes[s].max_batch);
                assert_int_equal(infer_precision(b.i), PRECISION_BF16);
                bench_run(&b, sizes[s].max_batch);
                for (unsigned at = 0; at < sizes[s].n_compared; at++) {
                        double kl, worst = deviation(&b, at, &kl);

                        if (kl > BF16_DIVERGENCE || worst > BF16_TOLERANCE)
                                fail_msg("%ux%u: place %u: divergence %g, off by %g", b.w->network.filters,
                                         b.w->network.blocks, at, kl, worst);
                }
                /* the control: no other network is that near */
                fixture_weights_free(b.w);
                b.w = fixture_weights_new(sizes[s].network, 12);
                assert_true(deviation(&b, 0, NULL) > BF16_TOLERANCE);
                bench_deinit(&b);
        }
}

/* The same place with other neighbours and other rests: bit for bit. */
static void test_neighbours_do_not_matter(void **state) {
        (void) state;
        for (unsigned precision = PRECISION_F32; precision <= PRECISION_BF16; precision++) {
                const size_t moves = middle.moves;
                float logits[7], value;
                struct infer *probe = NULL;
                struct bench b;

                if (infer_new(&middle, precision, 1, &probe, NULL) == -ENOTSUP)
                        continue;
                infer_free(probe);
                bench_init(&b, &middle, precision, MAX_BATCH);
                /* 5 runs in a piece of 6: what a larger batch left behind in the sixth place must not show */
                bench_run(&b, 5);
                (void) memcpy(logits, b.logits + 4 * moves, sizeof(logits));
                value = b.value[4];
                bench_run(&b, MAX_BATCH);
                for (size_t k = 0; k < 4 * b.n_planes; k++)
                        b.planes[k] = 1.0f - b.planes[k];
                bench_run(&b, 5);
                assert_memory_equal(logits, b.logits + 4 * moves, sizeof(logits));
                assert_true(value == b.value[4]);
                /* the same position at another place of the same batch */
                (void) memcpy(b.planes, b.planes + 4 * b.n_planes, b.n_planes * sizeof(float));
                bench_run(&b, 5);
                assert_memory_equal(logits, b.logits, sizeof(logits));
                assert_true(value == b.value[0]);
                /* control: the neighbours themselves did change */
                assert_memory_not_equal(logits, b.logits + moves, sizeof(logits));
                bench_deinit(&b);
        }
}

/* Whatever the size of the batch, a position's result is the same up to rounding. */
static void test_batch_size_does_not_matter(void **state) {
        (void) state;
        for (unsigned precision = PRECISION_F32; precision <= PRECISION_BF16; precision++) {
                const double tolerance = precision == PRECISION_F32 ? 1e-4 : 0.1;
                float logits[7], value;
                struct infer *probe = NULL;
                struct bench b;

                if (infer_new(&middle, precision, 1, &probe, NULL) == -ENOTSUP)
                        continue;
                infer_free(probe);
                bench_init(&b, &middle, precision, MAX_BATCH);
                bench_run(&b, 1);
                (void) memcpy(logits, b.logits, sizeof(logits));
                value = b.value[0];
                for (unsigned n = 2; n <= MAX_BATCH; n++) {
                        bench_run(&b, n);
                        for (uint32_t m = 0; m < middle.moves; m++)
                                assert_true(fabs((double) logits[m] - (double) b.logits[m]) < tolerance);
                        assert_true(fabs((double) value - (double) b.value[0]) < tolerance);
                }
                bench_deinit(&b);
        }
}

static void test_failed_load_keeps_weights(void **state) {
        struct error e = ERROR_INIT;
        float logits[9];
        struct bench b;

        (void) state;
        bench_init(&b, &tiny, PRECISION_F32, 1);
        bench_run(&b, 1);
        (void) memcpy(logits, b.logits, sizeof(logits));
        fixture_tensor(b.w, "res_block_0.bn2.weight")[3] = 1e38f;
        fixture_tensor(b.w, "res_block_0.bn2.running_var")[3] = 0.0f;
        assert_int_equal(infer_load(b.i, fixture_tensors(b.w), &e), -ERANGE);
        assert_non_null(strstr(e.text, "overflow with their batch norm"));
        bench_run(&b, 1);
        assert_memory_equal(logits, b.logits, sizeof(logits));
        bench_deinit(&b);
}

/* Weights can be finite and lead to what is not: on any board, which the load notices, or on some. */
static void test_output_that_is_not_finite(void **state) {
        struct error e = ERROR_INIT;
        float logits[9];
        struct bench b;

        (void) state;
        bench_init(&b, &tiny, PRECISION_F32, 1);
        bench_run(&b, 1);
        (void) memcpy(logits, b.logits, sizeof(logits));
        for (int k = 0; k < 8; k++)
                fixture_tensor(b.w, "bn_input.bias")[k] = 1e38f;
        assert_int_equal(infer_load(b.i, fixture_tensors(b.w), &e), -EDOM);
        assert_non_null(strstr(e.text, "not finite"));
        bench_run(&b, 1);
        assert_memory_equal(logits, b.logits, sizeof(logits));
        for (int k = 0; k < 8; k++)
                fixture_tensor(b.w, "bn_input.bias")[k] = 0.0f;
        for (int k = 0; k < 8 * 27; k++)
                fixture_tensor(b.w, "conv_input.weight")[k] = 1e37f;
        assert_int_equal(infer_load(b.i, fixture_tensors(b.w), &e), 0);
        e = ERROR_INIT;
        assert_int_equal(infer_run(b.i, b.planes, 1, b.logits, b.value, &e), -EDOM);
        assert_non_null(strstr(e.text, "not finite"));
        bench_deinit(&b);
}

static void count(void *context) {
        (*(unsigned *) context)++;
}

/* Layers of each piece, however large the batch: input, two per block, heads, one fully connected per head.
 */
static void test_each_layer_is_a_sign_of_life(void **state) {
        const unsigned n_layers = 1 + 2 * middle.blocks + 1 + 2;
        unsigned n_calls = 0;
        struct bench b;

        (void) state;
        bench_init(&b, &middle, PRECISION_F32, MAX_BATCH);
        infer_on_layer(b.i, count, &n_calls);
        bench_run(&b, 1);
        assert_int_equal(n_calls, n_layers);
        bench_run(&b, MAX_BATCH);
        assert_int_equal(n_calls, (1 + 3) * n_layers);
        infer_on_layer(b.i, NULL, NULL);
        bench_run(&b, 1);
        assert_int_equal(n_calls, (1 + 3) * n_layers);
        bench_deinit(&b);
}

static void test_auto_precision(void **state) {
        cleanup_(infer_freep) struct infer *i = NULL;

        (void) state;
        assert_int_equal(infer_new(&tiny, PRECISION_AUTO, 8, &i, NULL), 0);
        assert_true(infer_precision(i) == PRECISION_F32 || infer_precision(i) == PRECISION_BF16);
        infer_free(NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_f32_is_the_network),
                cmocka_unit_test(test_every_tensor_counts),
                cmocka_unit_test(test_bf16_is_near),
                cmocka_unit_test(test_neighbours_do_not_matter),
                cmocka_unit_test(test_batch_size_does_not_matter),
                cmocka_unit_test(test_failed_load_keeps_weights),
                cmocka_unit_test(test_output_that_is_not_finite),
                cmocka_unit_test(test_each_layer_is_a_sign_of_life),
                cmocka_unit_test(test_auto_precision),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
