/* SPDX-License-Identifier: MIT */
/* Batches: planes and policy turn together, draws are uniform and repeatable, what cannot be used is passed
 * over. */
#include "daemon/trainer/batch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "tests/unit/fixture-samples.h"

static struct game *new_game(unsigned name) {
        struct config c;

        config_defaults(&c);
        c.game_name = name;
        c.game_size = 7;
        c.game_win_length = 4;
        return fixture_game(&c);
}

static struct batch *new_batch(const struct game *g, uint32_t n) {
        struct batch *b = NULL;

        assert_int_equal(batch_new(g, n, &b), 0);
        return b;
}

/*
 * A game played with turned moves must give the turned planes, and the policy must have each move's share at
 * the turned move: the rules of the game judge, not the maps that the batch uses.
 */
static void check_symmetries(unsigned name) {
        cleanup_(game_freep) struct game *g = new_game(name);
        cleanup_(batch_freep) struct batch *turned = new_batch(g, 1);
        cleanup_(batch_freep) struct batch *played = new_batch(g, 1);
        uint16_t legal[GAME_MAX_MOVES];
        struct game_state a, b;
        struct sample sa, sb;
        struct rng r;

        rng_seed(&r, 11, name);
        for (unsigned symmetry = 0; symmetry < g->n_symmetries; symmetry++) {
                g->start(g, &a);
                g->start(g, &b);
                while (!a.over) {
                        unsigned n = g->legal(g, &a, legal), total = 0;
                        uint16_t move = legal[rng_below(&r, n)];

                        fixture_sample(g, &a, &r, &sa);
                        fixture_sample(g, &b, &r, &sb);
                        batch_set(turned, 0, &sa, symmetry);
                        batch_set(played, 0, &sb, 0);
                        assert_memory_equal(turned->planes, played->planes,
                                            (size_t) g->planes * g->cells * sizeof(float));
                        for (unsigned i = 0; i < n; i++)
                                total += sa.visits[i].visits;
                        for (unsigned i = 0; i < n; i++) {
                                uint16_t to = g->move_map[symmetry][sa.visits[i].move];

                                assert_true(fabs(turned->policy[to] - (double) sa.visits[i].visits / total) <
                                            1e-6);
                                assert_true(played->policy[to] > 0); /* legal there as well */
                        }
                        g->apply(g, &a, move);
                        g->apply(g, &b, g->move_map[symmetry][move]);
                }
        }
}

static void test_symmetries(void **state) {
        (void) state;
        check_symmetries(GAME_GOMOKU);
        check_symmetries(GAME_CONNECT4);
        check_symmetries(GAME_TICTACTOE);
}

static void test_targets(void **state) {
        cleanup_(game_freep) struct game *g = new_game(GAME_CONNECT4);
        cleanup_(batch_freep) struct batch *b = new_batch(g, 3);
        struct sample s = {
                .weight = 0.5f, .outcome = -1, .n_visits = 2, .visits = { { 1, 30 }, { 4, 10 } }
        };
        const float expected[] = { 0, 0.75f, 0, 0, 0.25f, 0, 0 };

        (void) state;
        b->policy[g->moves + 2] = 9; /* of the batch before */
        batch_set(b, 1, &s, 0);
        assert_memory_equal(b->policy + g->moves, expected, sizeof(expected));
        assert_true(b->value[1] == -1 && b->weight[1] == 0.5f);
        assert_true(b->value[0] == 0 && b->weight[2] == 0); /* only its own place */
        assert_true(batch_usable(&s));
        s.weight = 0;
        assert_false(batch_usable(&s));
        s.weight = 1;
        s.n_visits = 0;
        assert_false(batch_usable(&s));
}

/* Samples that say their own number as the only move's visits, some of them gone. */
struct numbered {
        unsigned n_reads;
        uint64_t first_there;
        unsigned counts[64];
};

static int read_numbered(const void *context, uint64_t number, struct sample *ret) {
        struct numbered *n = (struct numbered *) (uintptr_t) context;

        n->n_reads++;
        assert_true(number >= 100 && number < 164);
        if (number < n->first_there)
                return 1;
        n->counts[number - 100]++;
        *ret = (struct sample){ .weight = 1, .n_visits = 1, .visits = { { 3, 7 } } };
        return 0;
}

static void test_draw(void **state) {
        cleanup_(game_freep) struct game *g = new_game(GAME_CONNECT4);
        cleanup_(batch_freep) struct batch *b = new_batch(g, 64);
        struct numbered n = { .first_there = 0 };
        const struct batch_source source = { &n, 100, 164, read_numbered };
        uint64_t gone = 0;
        unsigned middle = 0;
        double chi2 = 0;
        struct rng r;

        (void) state;
        rng_seed(&r, 1, 0);
        for (int i = 0; i < 200; i++) {
                assert_int_equal(batch_draw(b, &source, true, &r, &gone), 0);
                for (unsigned k = 0; k < b->n; k++)
                        middle += b->policy[k * g->moves + 3] == 1; /* the middle column stays */
        }
        assert_int_equal(gone, 0);
        assert_int_equal(middle, 200 * 64);
        for (unsigned i = 0; i < 64; i++)
                chi2 += pow(n.counts[i] - 200.0, 2) / 200;
        assert_true(chi2 < 103.4); /* 99.9 % point at 63 degrees of freedom */
        assert_true(chi2 > 30);    /* nor suspiciously even: drawn with replacement */
}

static void test_gone(void **state) {
        cleanup_(game_freep) struct game *g = new_game(GAME_CONNECT4);
        cleanup_(batch_freep) struct batch *b = new_batch(g, 64);
        struct numbered n = { .first_there = 132 };
        struct batch_source source = { &n, 100, 164, read_numbered };
        uint64_t gone = 0;
        struct rng r;

        (void) state;
        rng_seed(&r, 1, 0);
        assert_int_equal(batch_draw(b, &source, false, &r, &gone), 0);
        assert_true(gone > 20 && gone == n.n_reads - 64);
        n.first_there = 164; /* all of them */
        assert_int_equal(batch_draw(b, &source, false, &r, &gone), BATCH_E_NO_SAMPLES);
        source.tail = source.first;
        assert_int_equal(batch_draw(b, &source, false, &r, &gone), BATCH_E_NO_SAMPLES);
}

/* Every symmetry comes, and the same generator state gives the same batch. */
static void test_augment(void **state) {
        cleanup_(game_freep) struct game *g = new_game(GAME_TICTACTOE);
        cleanup_(batch_freep) struct batch *a = new_batch(g, 256);
        cleanup_(batch_freep) struct batch *b = new_batch(g, 256);
        struct numbered n = { .first_there = 0 };
        const struct batch_source source = { &n, 100, 164, read_numbered };
        unsigned at[GAME_MAX_MOVES] = { 0 };
        uint64_t gone = 0;
        struct rng r, again;

        (void) state;
        rng_seed(&r, 2, 0);
        again = r;
        assert_int_equal(batch_draw(a, &source, true, &r, &gone), 0);
        assert_int_equal(batch_draw(b, &source, true, &again, &gone), 0);
        assert_memory_equal(a->policy, b->policy, a->n * g->moves * sizeof(float));
        assert_memory_equal(&r, &again, sizeof(r));
        for (unsigned i = 0; i < a->n; i++)
                for (unsigned m = 0; m < g->moves; m++)
                        at[m] += a->policy[i * g->moves + m] == 1;
        /* move 3 is the middle of a side, of which there are four */
        assert_true(at[1] > 30 && at[3] > 30 && at[5] > 30 && at[7] > 30);
        assert_int_equal(at[1] + at[3] + at[5] + at[7], 256);
        assert_int_equal(batch_draw(b, &source, false, &r, &gone), 0);
        for (unsigned i = 0; i < b->n; i++)
                assert_true(b->policy[i * g->moves + 3] == 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_symmetries), cmocka_unit_test(test_targets),
                cmocka_unit_test(test_draw),       cmocka_unit_test(test_gone),
                cmocka_unit_test(test_augment),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
