/* SPDX-License-Identifier: MIT */
/*
 * The worker's inference against libtorch's, number by number for the same weights: policy probabilities and
 * value within 1e-4.  (test-infer.c compares with loops of our own; this one with what the trainer computes.)
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include "daemon/trainer/torch.h"
#include "tests/unit/fixture-reference.h"
#include "worker/infer.h"

#define TOLERANCE 1e-4
#define MAX_BATCH 32
#define N_PLANES  3

static const struct network sizes[] = {
        { .rules = "tictactoe",
          .planes = N_PLANES,
          .rows = 3,
          .cols = 3,
          .moves = 9,
          .filters = 8,
          .blocks = 1 },
        { .rules = "connect4",
          .planes = N_PLANES,
          .rows = 6,
          .cols = 7,
          .moves = 7,
          .filters = 32,
          .blocks = 4 },
        { .rules = "gomoku",
          .planes = N_PLANES,
          .rows = 15,
          .cols = 15,
          .moves = 225,
          .filters = 64,
          .blocks = 5 },
        { .rules = "gomoku",
          .planes = N_PLANES,
          .rows = 15,
          .cols = 15,
          .moves = 225,
          .filters = 128,
          .blocks = 10 },
};

static void torch_freep(struct torch_handle **t) {
        torch_free(*t);
}

static struct torch_handle *make_torch(const struct network *n) {
        const struct torch_params params = { .planes = n->planes,
                                             .rows = n->rows,
                                             .cols = n->cols,
                                             .moves = n->moves,
                                             .filters = n->filters,
                                             .blocks = n->blocks,
                                             .device = TORCH_DEVICE_CPU,
                                             .threads = 1,
                                             .seed = 1 };
        struct torch_handle *t = NULL;
        char err[TORCH_ERR_MAX];

        if (torch_new(&params, &t, err) < 0)
                fail_msg("%s", err);
        return t;
}

/* Largest difference of probabilities and values over @n positions. */
static double difference(const struct network *net, unsigned n, const float *logits, const float *value,
                         const float *other_logits, const float *other_value) {
        double worst = 0.0;

        for (unsigned k = 0; k < n; k++) {
                double a[GAME_MAX_MOVES], b[GAME_MAX_MOVES];

                for (uint32_t m = 0; m < net->moves; m++) {
                        a[m] = logits[k * net->moves + m];
                        b[m] = other_logits[k * net->moves + m];
                }
                reference_softmax(a, net->moves);
                reference_softmax(b, net->moves);
                for (uint32_t m = 0; m < net->moves; m++)
                        worst = fmax(worst, fabs(a[m] - b[m]));
                worst = fmax(worst, fabs((double) value[k] - (double) other_value[k]));
        }
        return worst;
}

static float planes[MAX_BATCH * N_PLANES * 225], logits[2][MAX_BATCH * 225], value[2][MAX_BATCH];

/* How far the two are apart on @n positions. */
static double distance(const struct network *net, struct infer *i, struct torch_handle *t, unsigned n) {
        char err[TORCH_ERR_MAX] = "";
        struct error e = ERROR_INIT;

        if (infer_run(i, planes, n, logits[0], value[0], &e) < 0)
                fail_msg("%s", e.text);
        if (torch_forward(t, planes, n, logits[1], value[1], err) < 0)
                fail_msg("%s", err);
        return difference(net, n, logits[0], value[0], logits[1], value[1]);
}

static void assert_equal(const struct network *net, struct infer *i, struct torch_handle *t) {
        static const unsigned batches[] = { 1, 3, 8, MAX_BATCH };

        for (size_t b = 0; b < N_ELEMENTS(batches) && net->filters * batches[b] <= 1024; b++) {
                const double worst = distance(net, i, t, batches[b]);

                if (worst > TOLERANCE)
                        fail_msg("%s %ux%u, %u positions: off by %g", net->rules, net->filters, net->blocks,
                                 batches[b], worst);
        }
}

/* Both ways: weights of libtorch's in the worker, weights of ours in both. */
static void test_equal_to_libtorch(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 8, 0);
        for (size_t k = 0; k < N_ELEMENTS(planes); k++)
                planes[k] = rng_below(&r, 3) == 0 ? 1.0f : 0.0f;
        for (size_t s = 0; s < N_ELEMENTS(sizes); s++) {
                cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&sizes[s], 1);
                cleanup_(fixture_weights_freep) struct fixture_weights *fresh =
                        fixture_weights_new(&sizes[s], 1);
                cleanup_(torch_freep) struct torch_handle *t = make_torch(&sizes[s]);
                cleanup_(infer_freep) struct infer *i = NULL;
                char err[TORCH_ERR_MAX] = "";

                assert_int_equal(infer_new(&sizes[s], PRECISION_F32, MAX_BATCH, &i, NULL), 0);
                assert_int_equal(torch_get_weights(t, fresh->tensors, fresh->n, err), 0);
                assert_int_equal(infer_load(i, fixture_tensors(fresh), NULL), 0);
                assert_equal(&sizes[s], i, t);
                assert_int_equal(torch_set_weights(t, fixture_tensors(w), w->n, err), 0);
                /* the control: it matters which weights they are */
                assert_true(distance(&sizes[s], i, t, 8) > 100 * TOLERANCE);
                assert_int_equal(infer_load(i, fixture_tensors(w), NULL), 0);
                assert_equal(&sizes[s], i, t);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_equal_to_libtorch) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
