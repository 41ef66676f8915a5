/* SPDX-License-Identifier: MIT */
/*
 * libtorch behind torch.h: order and layout of the tensors against the network
 * in plain C, and one training step against arithmetic done by hand.
 */
#include "daemon/trainer/torch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include "tests/unit/fixture-reference.h"

enum { ROWS = 4, COLS = 5, CELLS = ROWS * COLS, PLANES = 3, MOVES = 6, BATCH = 8, BLOCKS = 2 };

static struct torch_params params(uint32_t optimizer) {
        return (struct torch_params){
                .planes = PLANES,
                .rows = ROWS,
                .cols = COLS,
                .moves = MOVES,
                .filters = 8,
                .blocks = BLOCKS,
                .device = TORCH_DEVICE_CPU,
                .optimizer = optimizer,
                .threads = 1,
                .seed = 7,
                .value_weight = 1,
        };
}

static struct torch_handle *new_handle(const struct torch_params *p) {
        struct torch_handle *t = NULL;
        char text[TORCH_ERR_MAX] = "";

        if (torch_new(p, &t, text) != 0)
                fail_msg("%s", text);
        return t;
}

static struct fixture_weights *new_weights(const struct torch_params *p, uint64_t seed) {
        struct network n = fixture_network("test", p->rows, p->cols, p->moves, p->filters, p->blocks);

        return fixture_weights_new(&n, seed);
}

static void set_weights(struct torch_handle *t, const struct fixture_weights *w) {
        char text[TORCH_ERR_MAX] = "";

        if (torch_set_weights(t, fixture_tensors(w), w->n, text) != 0)
                fail_msg("%s", text);
}

static void get_weights(struct torch_handle *t, struct fixture_weights *w) {
        char text[TORCH_ERR_MAX] = "";

        if (torch_get_weights(t, w->tensors, w->n, text) != 0)
                fail_msg("%s", text);
}

struct data {
        float planes[BATCH * PLANES * CELLS], policy[BATCH * MOVES], value[BATCH], weight[BATCH];
};

static void make_data(struct data *d, uint64_t seed) {
        struct rng r;

        rng_seed(&r, seed, 1);
        for (unsigned i = 0; i < N_ELEMENTS(d->planes); i++)
                d->planes[i] = (float) rng_below(&r, 2);
        for (unsigned i = 0; i < BATCH; i++) {
                rng_dirichlet(&r, 0.5, MOVES, d->policy + i * MOVES);
                d->value[i] = (float) rng_below(&r, 3) - 1;
                d->weight[i] = (float) (0.5 + rng_double(&r));
        }
}

static struct torch_loss step(struct torch_handle *t, const struct data *d, double rate) {
        struct torch_loss loss;
        char text[TORCH_ERR_MAX] = "";

        if (torch_step(t, d->planes, d->policy, d->value, d->weight, BATCH, rate, &loss, text) != 0)
                fail_msg("%s", text);
        return loss;
}

static bool equal_weights(const struct fixture_weights *a, const struct fixture_weights *b) {
        for (size_t i = 0; i < a->n; i++)
                if (memcmp(a->tensors[i], b->tensors[i], a->list[i].n_elements * sizeof(float)) != 0)
                        return false;
        return true;
}

/* A tensor in another order, layout or shape than network_tensors() has it gives other numbers here. */
static void test_forward(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_ADAM);
        struct torch_handle *t = new_handle(&p);
        struct fixture_weights *w = new_weights(&p, 3);
        float logits[BATCH * MOVES], value[BATCH];
        double expected[MOVES], expected_value;
        struct data d;
        char text[TORCH_ERR_MAX] = "";

        (void) state;
        make_data(&d, 1);
        set_weights(t, w);
        assert_int_equal(torch_forward(t, d.planes, BATCH, logits, value, text), 0);
        for (int i = 0; i < BATCH; i++) {
                expected_value = reference_run(w, d.planes + i * PLANES * CELLS, expected);
                for (int m = 0; m < MOVES; m++)
                        assert_true(fabs(logits[i * MOVES + m] - expected[m]) < 1e-4);
                assert_true(fabs(value[i] - expected_value) < 1e-4);
        }
        assert_true(fabs(logits[0] - logits[MOVES]) > 1e-2); /* it does depend on the planes */
        fixture_weights_free(w);
        torch_free(t);
}

static void test_weights_exact(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_ADAM);
        struct torch_handle *t = new_handle(&p);
        struct fixture_weights *w = new_weights(&p, 4), *back = new_weights(&p, 5);
        char text[TORCH_ERR_MAX] = "";

        (void) state;
        assert_false(equal_weights(w, back));
        set_weights(t, w);
        get_weights(t, back);
        assert_true(equal_weights(w, back));
        assert_int_equal(torch_set_weights(t, fixture_tensors(w), w->n - 1, text), -EINVAL);
        assert_non_null(strstr(text, "number of tensors"));
        assert_int_equal(torch_get_weights(t, w->tensors, w->n + 1, text), -EINVAL);
        fixture_weights_free(w);
        fixture_weights_free(back);
        torch_free(t);
}

static void test_seed(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_ADAM), q = p;
        struct torch_handle *a = new_handle(&p), *b = new_handle(&p), *c;
        struct fixture_weights *wa = new_weights(&p, 1), *wb = new_weights(&p, 2), *wc = new_weights(&p, 3);

        (void) state;
        q.seed++;
        c = new_handle(&q);
        get_weights(a, wa);
        get_weights(b, wb);
        get_weights(c, wc);
        assert_true(equal_weights(wa, wb));
        assert_false(equal_weights(wa, wc));
        fixture_weights_free(wa);
        fixture_weights_free(wb);
        fixture_weights_free(wc);
        torch_free(a);
        torch_free(b);
        torch_free(c);
}

/* With last layers of zeros the network says 0 everywhere, so the losses are known. */
static void test_loss(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_SGD);
        struct torch_handle *t;
        struct fixture_weights *w = new_weights(&p, 6);
        struct torch_loss loss;
        double sum = 0, value = 0;
        struct data d;

        (void) state;
        p.value_weight = 0.25;
        t = new_handle(&p);
        memset(fixture_tensor(w, "policy_fc.weight"), 0,
               NETWORK_POLICY_CHANNELS * CELLS * MOVES * sizeof(float));
        memset(fixture_tensor(w, "policy_fc.bias"), 0, MOVES * sizeof(float));
        memset(fixture_tensor(w, "value_fc2.weight"), 0, NETWORK_VALUE_HIDDEN * sizeof(float));
        memset(fixture_tensor(w, "value_fc2.bias"), 0, sizeof(float));
        set_weights(t, w);
        make_data(&d, 2);
        for (int i = 0; i < BATCH; i++) {
                sum += d.weight[i];
                value += d.weight[i] * d.value[i] * d.value[i];
        }
        loss = step(t, &d, 0);
        assert_true(fabs(loss.policy - log(MOVES)) < 1e-5);
        assert_true(fabs(loss.value - value / sum) < 1e-5);
        assert_true(fabs(loss.total - loss.policy - 0.25 * loss.value) < 1e-5);
        fixture_weights_free(w);
        torch_free(t);
}

/* ---- one step of SGD, by hand ---- */

/* The weights after one step from @w. */
static struct fixture_weights *stepped(const struct torch_params *p, const struct fixture_weights *w,
                                       const struct data *d, double rate) {
        struct torch_handle *t = new_handle(p);
        struct fixture_weights *ret = new_weights(p, 1);

        set_weights(t, w);
        (void) step(t, d, rate);
        get_weights(t, ret);
        torch_free(t);
        return ret;
}

static bool is_running(const struct network_tensor *t) {
        return strstr(t->name, "running_") != NULL;
}

/* The gradient at @w: with rate 1 and nothing else, a step subtracts it. */
static struct fixture_weights *gradient(const struct torch_params *p, const struct fixture_weights *w,
                                        const struct data *d) {
        struct fixture_weights *g = stepped(p, w, d, 1.0);

        for (size_t i = 0; i < g->n; i++)
                for (uint64_t k = 0; k < g->list[i].n_elements; k++)
                        g->tensors[i][k] = w->tensors[i][k] - g->tensors[i][k];
        return g;
}

/* Central differences of the total loss say what the gradient has to be. */
static void test_gradient(void **state) {
        static const char *const names[] = { "conv_input.weight", "res_block_1.conv2.weight",
                                             "bn_input.bias",     "policy_fc.weight",
                                             "policy_fc.bias",    "value_fc1.weight",
                                             "value_fc2.bias",    "res_block_0.bn1.weight" };
        struct torch_params p = params(TORCH_OPTIMIZER_SGD);
        struct fixture_weights *w = new_weights(&p, 8), *g;
        struct torch_handle *t;
        struct data d;

        (void) state;
        p.value_weight = 0.5;
        t = new_handle(&p);
        make_data(&d, 3);
        g = gradient(&p, w, &d);
        for (size_t i = 0; i < N_ELEMENTS(names); i++) {
                float *x = fixture_tensor(w, names[i]), kept = x[0], h = 4e-3f;
                double up, down, slope;

                x[0] = kept + h;
                set_weights(t, w);
                up = step(t, &d, 0).total;
                x[0] = kept - h;
                set_weights(t, w);
                down = step(t, &d, 0).total;
                x[0] = kept;
                slope = (up - down) / (2 * h);
                if (fabs(slope - fixture_tensor(g, names[i])[0]) > 0.01 + 0.03 * fabs(slope))
                        fail_msg("%s: slope %g, gradient %g", names[i], slope,
                                 fixture_tensor(g, names[i])[0]);
        }
        fixture_weights_free(w);
        fixture_weights_free(g);
        torch_free(t);
}

/* @got must be w - rate * (scale * g + decay * w) on weights, without decay on the rest, and untouched
 * statistics aside. */
static void check_step(const struct fixture_weights *w, const struct fixture_weights *g,
                       const struct fixture_weights *got, double rate, double scale, double decay) {
        for (size_t i = 0; i < w->n; i++) {
                double own_decay = w->list[i].n_dims > 1 ? decay : 0;

                if (is_running(&w->list[i]))
                        continue;
                for (uint64_t k = 0; k < w->list[i].n_elements; k++) {
                        double x = w->tensors[i][k];
                        double expected = x - rate * (scale * g->tensors[i][k] + own_decay * x);

                        if (fabs(got->tensors[i][k] - expected) > 2e-5)
                                fail_msg("%s[%u]: %g, expected %g", w->list[i].name, (unsigned) k,
                                         got->tensors[i][k], expected);
                }
        }
}

static double norm(const struct fixture_weights *g) {
        double sum = 0;

        for (size_t i = 0; i < g->n; i++)
                for (uint64_t k = 0; k < g->list[i].n_elements && !is_running(&g->list[i]); k++)
                        sum += (double) g->tensors[i][k] * g->tensors[i][k];
        return sqrt(sum);
}

static void test_decay_and_clip(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_SGD), q;
        struct fixture_weights *w = new_weights(&p, 9), *g, *got;
        struct data d;
        double n;

        (void) state;
        make_data(&d, 4);
        g = gradient(&p, w, &d);
        n = norm(g);
        assert_true(n > 0.1); /* or there is nothing to clip */
        got = stepped(&p, w, &d, 0.5);
        check_step(w, g, got, 0.5, 1, 0);
        fixture_weights_free(got);

        q = p;
        q.weight_decay = 0.1;
        got = stepped(&q, w, &d, 0.5);
        check_step(w, g, got, 0.5, 1, 0.1);
        fixture_weights_free(got);

        q.gradient_clip = n / 4;
        got = stepped(&q, w, &d, 0.5);
        check_step(w, g, got, 0.5, 0.25, 0.1); /* the decay is not clipped */
        fixture_weights_free(got);

        q.gradient_clip = n * 4;
        got = stepped(&q, w, &d, 0.5);
        check_step(w, g, got, 0.5, 1, 0.1);
        fixture_weights_free(got);
        fixture_weights_free(w);
        fixture_weights_free(g);
}

/* Two steps: the second one goes along momentum * first gradient + second gradient. */
static void test_momentum(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_SGD), q = p;
        struct fixture_weights *w = new_weights(&p, 10), *g1, *g2, *w1, *got = new_weights(&p, 1);
        struct torch_handle *t;
        struct data d;

        (void) state;
        q.momentum = 0.9;
        t = new_handle(&q);
        make_data(&d, 5);
        g1 = gradient(&p, w, &d);
        w1 = stepped(&p, w, &d, 0.1);
        g2 = gradient(&p, w1, &d);
        set_weights(t, w);
        (void) step(t, &d, 0.1);
        (void) step(t, &d, 0.1);
        get_weights(t, got);
        for (size_t i = 0; i < g2->n; i++)
                for (uint64_t k = 0; k < g2->list[i].n_elements; k++)
                        g2->tensors[i][k] += 0.9f * g1->tensors[i][k];
        check_step(w1, g2, got, 0.1, 1, 0);
        torch_free(t);
        fixture_weights_free(w);
        fixture_weights_free(w1);
        fixture_weights_free(g1);
        fixture_weights_free(g2);
        fixture_weights_free(got);
}

/* ---- the optimiser's state ---- */

/* Six steps at once, and three, save, load into a new handle, three: the same bits. */
static void check_resume(uint32_t optimizer) {
        struct torch_params p = params(optimizer), q;
        struct torch_handle *whole, *first, *second, *forgetful;
        struct fixture_weights *a = new_weights(&p, 1), *b = new_weights(&p, 2);
        char text[TORCH_ERR_MAX] = "";
        void *bytes = NULL;
        struct data d;
        size_t n = 0;

        p.momentum = 0.9;
        p.weight_decay = 1e-3;
        q = p;
        q.seed++; /* its own first weights must not matter */
        whole = new_handle(&p);
        first = new_handle(&p);
        second = new_handle(&q);
        forgetful = new_handle(&q);
        make_data(&d, 6);
        for (int i = 0; i < 6; i++)
                (void) step(whole, &d, 0.01);
        for (int i = 0; i < 3; i++)
                (void) step(first, &d, 0.01);
        get_weights(first, a);
        assert_int_equal(torch_get_optimizer(first, &bytes, &n, text), 0);
        set_weights(second, a);
        set_weights(forgetful, a);
        if (torch_set_optimizer(second, bytes, n, text) != 0)
                fail_msg("%s", text);
        for (int i = 0; i < 3; i++) {
                (void) step(second, &d, 0.01);
                (void) step(forgetful, &d, 0.01);
        }
        get_weights(whole, a);
        get_weights(second, b);
        assert_true(equal_weights(a, b));
        get_weights(forgetful, b);
        assert_false(equal_weights(a, b)); /* the moments do matter */
        free(bytes);
        torch_free(whole);
        torch_free(first);
        torch_free(second);
        torch_free(forgetful);
        fixture_weights_free(a);
        fixture_weights_free(b);
}

static void test_resume(void **state) {
        (void) state;
        check_resume(TORCH_OPTIMIZER_ADAM);
        check_resume(TORCH_OPTIMIZER_SGD);
}

static void refuse_optimizer(struct torch_handle *t, const void *bytes, size_t n) {
        char text[TORCH_ERR_MAX] = "";

        assert_true(torch_set_optimizer(t, bytes, n, text) < 0);
        assert_true(text[0] != '\0' && !strchr(text, '\n'));
}

static void test_bad_optimizer(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_ADAM), wide = p, deep = p,
                            sgd = params(TORCH_OPTIMIZER_SGD);
        struct torch_handle *t = new_handle(&p), *other;
        char text[TORCH_ERR_MAX] = "";
        void *bytes = NULL;
        struct data d;
        size_t n = 0;

        (void) state;
        make_data(&d, 7);
        (void) step(t, &d, 0.01);
        assert_int_equal(torch_get_optimizer(t, &bytes, &n, text), 0);
        assert_int_equal(torch_set_optimizer(t, bytes, n, text), 0);

        wide.filters *= 2;
        deep.blocks++;
        sgd.momentum = 0.9;
        for (const struct torch_params **q = (const struct torch_params *[]){ &wide, &deep, &sgd, NULL }; *q;
             q++) {
                other = new_handle(*q);
                refuse_optimizer(other, bytes, n);
                (void) step(other, &d, 0.01); /* and it is still good */
                torch_free(other);
        }
        refuse_optimizer(t, bytes, 0);
        refuse_optimizer(t, bytes, n / 2);
        refuse_optimizer(t, "PK\003\004 not an archive", 20);
        memset((char *) bytes + n - 512, 0xff, 512);
        refuse_optimizer(t, bytes, n);
        (void) step(t, &d, 0.01);
        free(bytes);
        torch_free(t);
}

/* ---- what is refused ---- */

static void test_refused(void **state) {
        struct torch_params p = params(TORCH_OPTIMIZER_ADAM), bad = p;
        struct torch_handle *t = new_handle(&p), *none = NULL;
        struct fixture_weights *before = new_weights(&p, 1), *after = new_weights(&p, 2);
        char text[TORCH_ERR_MAX] = "";
        struct torch_loss loss;
        struct data d;

        (void) state;
        make_data(&d, 8);
        assert_int_equal(torch_step(t, d.planes, d.policy, d.value, d.weight, 1, 0.1, &loss, text), -EINVAL);
        assert_non_null(strstr(text, "at least 2"));
        assert_int_equal(torch_forward(t, d.planes, 0, d.policy, d.value, text), -EINVAL);
        bad.filters = 0;
        assert_int_equal(torch_new(&bad, &none, text), -EINVAL);
        bad = p;
        bad.moves = UINT32_MAX;
        assert_int_equal(torch_new(&bad, &none, text), -EINVAL);
        assert_null(none);

        get_weights(t, before);
        d.value[3] = NAN;
        assert_int_equal(torch_step(t, d.planes, d.policy, d.value, d.weight, BATCH, 0.1, &loss, text),
                         -EDOM);
        get_weights(t, after);
        for (size_t i = 0; i < before->n; i++)
                if (!is_running(&before->list[i]))
                        assert_memory_equal(before->tensors[i], after->tensors[i],
                                            before->list[i].n_elements * sizeof(float));
        memset(d.weight, 0, sizeof(d.weight));
        assert_int_equal(torch_step(t, d.planes, d.policy, d.value, d.weight, BATCH, 0.1, &loss, text),
                         -EDOM);
        fixture_weights_free(before);
        fixture_weights_free(after);
        torch_free(t);
        torch_free(NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_forward),       cmocka_unit_test(test_weights_exact),
                cmocka_unit_test(test_seed),          cmocka_unit_test(test_loss),
                cmocka_unit_test(test_gradient),      cmocka_unit_test(test_decay_and_clip),
                cmocka_unit_test(test_momentum),      cmocka_unit_test(test_resume),
                cmocka_unit_test(test_bad_optimizer), cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
