/* SPDX-License-Identifier: MIT */
/* Evaluate: results come back in the board's own orientation, whatever the symmetry; models are taken up or
 * refused whole. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/model/safetensors.h"
#include "tests/unit/fixture-reference.h"
#include "worker/evaluate.h"

#define MAX_BATCH 64

static char directory[64];
static int directory_fd = -1;

static int set_up(void **state) {
        (void) state;
        fixture_directory(directory);
        directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return directory_fd < 0;
}

static int tear_down(void **state) {
        (void) state;
        (void) close(directory_fd);
        fixture_remove(directory);
        return 0;
}

/* A game of the configuration, and a model of it in the file "m". */
static struct game *make_game(unsigned name, uint64_t size, struct fixture_weights **ret_weights,
                              uint64_t generation) {
        struct config c;
        struct game *g = NULL;
        struct network n;
        struct model_info info = { .generation = generation };
        struct error e = ERROR_INIT;

        config_defaults(&c);
        c.game_name = name;
        c.game_size = size;
        if (game_new(&c, &g, &e) < 0)
                fail_msg("%s", e.text);
        network_init(&n, g, 8, 1);
        *ret_weights = fixture_weights_new(&n, generation);
        info.network = n;
        if (model_write(directory_fd, "m", &info, fixture_tensors(*ret_weights), &e) < 0)
                fail_msg("%s", e.text);
        return g;
}

/* A position some random moves from the start, not over. */
static void random_position(const struct game *g, struct rng *r, struct game_state *ret) {
        uint16_t moves[GAME_MAX_MOVES];

        g->start(g, ret);
        for (uint32_t k = rng_below(r, 5); k > 0; k--) {
                struct game_state next = *ret;

                g->apply(g, &next, moves[rng_below(r, g->legal(g, &next, moves))]);
                if (next.over)
                        return;
                *ret = next;
        }
}

/*
 * For each position the logits must be those of the reference for one of the board's symmetries, turned back
 * by hand with the maps: cell c stands at cell_map[s][c], move m is move_map[s][m].  Return: which.
 */
static unsigned find_symmetry(const struct fixture_weights *w, const struct game *g,
                              const struct game_state *position, const float *logits, float value) {
        unsigned char bits[GAME_MAX_PLANES_BYTES];
        float planes[GAME_MAX_PLANES * GAME_MAX_CELLS];
        double want[GAME_MAX_MOVES];

        g->encode(g, position, bits);
        for (unsigned s = 0; s < g->n_symmetries; s++) {
                double worst;

                for (unsigned p = 0; p < g->planes; p++)
                        for (unsigned c = 0; c < g->cells; c++) {
                                const unsigned bit = p * g->cells + c;

                                planes[p * g->cells + g->cell_map[s][c]] =
                                        (float) ((bits[bit / 8] >> (bit % 8)) & 1);
                        }
                worst = fabs(reference_run(w, planes, want) - (double) value);
                for (unsigned m = 0; m < g->moves; m++)
                        worst = fmax(worst, fabs(want[g->move_map[s][m]] - (double) logits[m]));
                if (worst < 1e-4)
                        return s;
        }
        fail_msg("logits of no symmetry");
        return 0;
}

static void test_symmetries_are_undone(void **state) {
        static const struct {
                unsigned name;
                uint64_t size;
        } games[] = { { GAME_TICTACTOE, 0 }, { GAME_CONNECT4, 0 }, { GAME_GOMOKU, 5 } };

        (void) state;
        for (size_t k = 0; k < N_ELEMENTS(games); k++) {
                cleanup_(fixture_weights_freep) struct fixture_weights *w = NULL;
                cleanup_(game_freep) struct game *g =
                        make_game(games[k].name, games[k].size ? games[k].size : 15, &w, 3);
                cleanup_(evaluate_freep) struct evaluate *v = NULL;
                struct game_state positions[MAX_BATCH];
                bool seen[GAME_MAX_SYMMETRIES] = { false };
                struct rng r;
                uint64_t generation = 0;

                assert_int_equal(evaluate_new(g, &w->network, PRECISION_F32, MAX_BATCH, &v, NULL), 0);
                assert_int_equal(evaluate_precision(v), PRECISION_F32);
                assert_int_equal(evaluate_load(v, directory_fd, "m", &generation, NULL), 0);
                assert_int_equal(generation, 3);
                rng_seed(&r, 3, k);
                for (unsigned i = 0; i < MAX_BATCH; i++) {
                        random_position(g, &r, &positions[i]);
                        assert_int_equal(evaluate_add(v, &positions[i], i % 4 ? &r : NULL), i);
                }
                assert_int_equal(evaluate_run(v, NULL), 0);
                for (unsigned i = 0; i < MAX_BATCH; i++) {
                        unsigned s = find_symmetry(w, g, &positions[i], evaluate_logits(v, i),
                                                   evaluate_value(v, i));

                        seen[s] = true;
                        /* without a generator it is the board itself */
                        if (i % 4 == 0)
                                assert_int_equal(s, 0);
                }
                /* all symmetries occur: the start is found under number 0, the others are not */
                for (unsigned s = 0; s < g->n_symmetries; s++)
                        assert_true(seen[s]);
        }
}

/* A batch ends with evaluate_run(); the next one starts at place 0. */
static void test_batches(void **state) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = NULL;
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE, 15, &w, 1);
        cleanup_(evaluate_freep) struct evaluate *v = NULL;
        struct game_state a, b;
        float first, second;
        uint64_t generation;

        (void) state;
        assert_int_equal(evaluate_new(g, &w->network, PRECISION_F32, 2, &v, NULL), 0);
        assert_int_equal(evaluate_load(v, directory_fd, "m", &generation, NULL), 0);
        assert_int_equal(evaluate_run(v, NULL), 0); /* nothing to do */
        g->start(g, &a);
        b = a;
        g->apply(g, &b, 4);
        assert_int_equal(evaluate_add(v, &a, NULL), 0);
        assert_int_equal(evaluate_add(v, &b, NULL), 1);
        assert_int_equal(evaluate_run(v, NULL), 0);
        first = evaluate_value(v, 0);
        second = evaluate_value(v, 1);
        assert_true(first != second);
        assert_int_equal(evaluate_add(v, &b, NULL), 0);
        assert_int_equal(evaluate_run(v, NULL), 0);
        assert_true(fabs((double) evaluate_value(v, 0) - (double) second) < 1e-5);
}

/* New weights take effect; refused ones leave the old ones in use, with the reason. */
static void test_loading(void **state) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = NULL, *w2 = NULL, *other = NULL;
        cleanup_(game_freep) struct game *g = make_game(GAME_TICTACTOE, 15, &w, 1), *g2 = NULL, *g3 = NULL;
        cleanup_(evaluate_freep) struct evaluate *v = NULL;
        struct game_state s;
        struct error e = ERROR_INIT;
        uint64_t generation = 0;
        float first;

        (void) state;
        assert_int_equal(evaluate_new(g, &w->network, PRECISION_F32, 1, &v, NULL), 0);
        assert_int_equal(evaluate_load(v, directory_fd, "m", &generation, NULL), 0);
        g->start(g, &s);
        (void) evaluate_add(v, &s, NULL);
        assert_int_equal(evaluate_run(v, NULL), 0);
        first = evaluate_value(v, 0);
        assert_int_equal(evaluate_load(v, directory_fd, "absent", &generation, &e), -ENOENT);
        assert_non_null(strstr(e.text, "absent"));
        assert_int_equal(file_replace(directory_fd, "m", &(struct file_part){ "garbage", 7 }, 1, NULL), 0);
        assert_int_equal(evaluate_load(v, directory_fd, "m", &generation, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "m: file is 7 bytes"));
        g2 = make_game(GAME_CONNECT4, 15, &other, 2);
        assert_int_equal(evaluate_load(v, directory_fd, "m", &generation, &e), -EINVAL);
        assert_int_equal(generation, 1);
        (void) evaluate_add(v, &s, NULL);
        assert_int_equal(evaluate_run(v, NULL), 0);
        assert_true(evaluate_value(v, 0) == first);
        g3 = make_game(GAME_TICTACTOE, 15, &w2, 9);
        assert_int_equal(evaluate_load(v, directory_fd, "m", &generation, &e), 0);
        assert_int_equal(generation, 9);
        (void) evaluate_add(v, &s, NULL);
        assert_int_equal(evaluate_run(v, NULL), 0);
        assert_true(evaluate_value(v, 0) != first);
        assert_int_equal(find_symmetry(w2, g3, &s, evaluate_logits(v, 0), evaluate_value(v, 0)), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_symmetries_are_undone),
                cmocka_unit_test(test_batches),
                cmocka_unit_test(test_loading),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
