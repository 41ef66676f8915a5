/* SPDX-License-Identifier: MIT */
/*
 * search.c against a second implementation that shares nothing with it (pointers, recursion, proof by looking
 * at the whole tree again, double precision), against brute force over the rules, and against its own
 * promises.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "worker/search.h"

#ifdef __SANITIZE_ADDRESS__
#define SCALE(n) ((n) / 4)
#else
#define SCALE(n) (n)
#endif

static const struct search_options plain = {
        .simulations = 100,
        .cpuct = 1.5f,
        .noise_alpha = 0.3f,
        .tree_reuse = false,
        .prove = false,
};

/* ---- games and evaluators ---- */

static struct game *make_game(const char *const *settings, size_t n) {
        struct config c;
        struct game *g;

        assert_int_equal(config_read(NULL, settings, n, &c, NULL), 0);
        assert_int_equal(game_new(&c, &g, NULL), 0);
        return g;
}

static struct game *make_tictactoe(void) {
        return make_game((const char *const[]){ "game.name=tictactoe" }, 1);
}

static struct game *make_connect4(void) {
        return make_game((const char *const[]){ "game.name=connect4" }, 1);
}

static struct game *make_gomoku7(void) {
        return make_game((const char *const[]){ "game.name=gomoku", "game.size=7", "game.win_length=4" }, 3);
}

/* Fills @logits and returns the value seen from the side to move. */
typedef float evaluator(const struct game *g, const struct game_state *p, float *logits);

static float nothing_known(const struct game *g, const struct game_state *p, float *logits) {
        (void) p;
        memset(logits, 0, g->moves * sizeof(*logits));
        return 0.0f;
}

static uint64_t hash_position(const struct game *g, const struct game_state *p) {
        unsigned char planes[GAME_MAX_PLANES_BYTES];
        uint64_t h = 14695981039346656037u;

        g->encode(g, p, planes);
        for (size_t i = 0; i < GAME_PLANES_BYTES(g); i++)
                h = (h ^ planes[i]) * 1099511628211u;
        return h ^ p->to_move;
}

/* Arbitrary numbers that depend on the position alone. */
static float arbitrary(const struct game *g, const struct game_state *p, float *logits) {
        struct rng rng;

        rng_seed(&rng, hash_position(g, p), 0);
        for (unsigned i = 0; i < g->moves; i++)
                logits[i] = (float) (6.0 * rng_double(&rng) - 3.0);
        return (float) (1.8 * rng_double(&rng) - 0.9);
}

static int minimax(const struct game *g, const struct game_state *p) {
        uint16_t moves[GAME_MAX_MOVES];
        int best = -1;

        if (p->over)
                return game_value(p, p->to_move);
        for (unsigned i = 0, n = g->legal(g, p, moves); i < n && best < 1; i++) {
                struct game_state next = *p;

                g->apply(g, &next, moves[i]);
                best = MAX(best, -minimax(g, &next));
        }
        return best;
}

static float perfect(const struct game *g, const struct game_state *p, float *logits) {
        (void) nothing_known(g, p, logits);
        return (float) minimax(g, p);
}

static float upside_down(const struct game *g, const struct game_state *p, float *logits) {
        return -perfect(g, p, logits);
}

static float not_a_number(const struct game *g, const struct game_state *p, float *logits) {
        (void) arbitrary(g, p, logits);
        logits[p->ply % g->moves] = p->ply % 2 ? NAN : INFINITY;
        return p->ply % 3 ? NAN : -INFINITY;
}

static void run_search(const struct game *g, struct search *s, evaluator *evaluate) {
        float logits[GAME_MAX_MOVES];

        while (search_descend(s) == SEARCH_E_LEAF) {
                float value = evaluate(g, search_leaf(s), logits);

                search_expand(s, logits, value);
        }
}

static uint32_t sum_visits(const struct sample_visit *visits, unsigned n) {
        uint32_t sum = 0;

        for (unsigned i = 0; i < n; i++)
                sum += visits[i].visits;
        return sum;
}

/* A position that is not over, after at most @max_plies random moves. */
static void random_position(const struct game *g, struct rng *rng, unsigned max_plies,
                            struct game_state *ret) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n_plies = rng_below(rng, max_plies + 1);
        struct game_state p;

        g->start(g, &p);
        *ret = p;
        for (unsigned i = 0; i < n_plies; i++) {
                unsigned n = g->legal(g, &p, moves);

                g->apply(g, &p, moves[rng_below(rng, n)]);
                if (p.over)
                        return;
                *ret = p;
        }
}

/* ---- the second implementation ---- */

struct naive {
        struct game_state position;
        bool expanded;
        unsigned n_moves;
        uint16_t moves[GAME_MAX_MOVES];
        double priors[GAME_MAX_MOVES];
        struct naive *children[GAME_MAX_MOVES];
        double visits, sum; /* sum of values seen from this node's side to move */
};

static struct naive *naive_new(const struct game_state *p) {
        struct naive *n = test_calloc(1, sizeof(*n));

        n->position = *p;
        return n;
}

static void naive_free(struct naive *n) {
        for (unsigned i = 0; i < n->n_moves; i++)
                if (n->children[i])
                        naive_free(n->children[i]);
        test_free(n);
}

/* Is the value of @n certain? Looks at everything below it. */
static bool naive_known(const struct naive *n, int *ret) {
        int best = -1;
        bool all = true;

        if (n->position.over) {
                *ret = game_value(&n->position, n->position.to_move);
                return true;
        }
        for (unsigned i = 0; i < n->n_moves; i++) {
                int value;

                if (n->children[i] && naive_known(n->children[i], &value))
                        best = MAX(best, -value);
                else
                        all = false;
        }
        *ret = best;
        return best == 1 || (all && n->expanded);
}

static void naive_expand(const struct game *g, struct naive *n, float *ret_value) {
        float logits[GAME_MAX_MOVES];
        double sum = 0.0;

        *ret_value = arbitrary(g, &n->position, logits);
        n->n_moves = g->legal(g, &n->position, n->moves);
        for (unsigned i = 0; i < n->n_moves; i++)
                sum += n->priors[i] = exp(logits[n->moves[i]]);
        for (unsigned i = 0; i < n->n_moves; i++)
                n->priors[i] /= sum;
        n->expanded = true;
}

static void naive_noise(const struct search_options *o, struct naive *n, struct rng *rng) {
        float noise[GAME_MAX_MOVES];

        if (o->noise_weight == 0.0f)
                return;
        rng_dirichlet(rng, o->noise_alpha, n->n_moves, noise);
        for (unsigned i = 0; i < n->n_moves; i++)
                n->priors[i] = (1.0 - o->noise_weight) * n->priors[i] + o->noise_weight * noise[i];
}

static unsigned naive_select(const struct search_options *o, const struct naive *n) {
        double highest = -1e9, sum = 0.0;
        unsigned best = 0;

        for (unsigned i = 0; i < n->n_moves; i++)
                sum += n->children[i] ? n->children[i]->visits : 0.0;
        for (unsigned i = 0; i < n->n_moves; i++) {
                const struct naive *child = n->children[i];
                double q = o->fpu_reduction == 0.0f ? 0.0 : fmax(-1.0, n->sum / n->visits - o->fpu_reduction);
                int value;

                if (child)
                        q = -child->sum / child->visits;
                if (child && o->prove && naive_known(child, &value)) {
                        q = -value;
                        if (value == 1)
                                continue; /* lost for us */
                }
                q += o->cpuct * n->priors[i] * sqrt(fmax(sum, 1.0)) / (1.0 + (child ? child->visits : 0.0));
                if (q > highest) {
                        highest = q;
                        best = i;
                }
        }
        return best;
}

/* Return: the value that goes up, seen from the side to move of @n. */
static double naive_simulate(const struct game *g, const struct search_options *o, struct naive *n) {
        float evaluated;
        double value;
        int known;

        if (n->position.over || (o->prove && naive_known(n, &known))) {
                (void) naive_known(n, &known);
                value = known;
        } else if (!n->expanded) {
                naive_expand(g, n, &evaluated);
                value = evaluated;
        } else {
                unsigned i = naive_select(o, n);

                if (!n->children[i]) {
                        struct game_state next = n->position;

                        g->apply(g, &next, n->moves[i]);
                        n->children[i] = naive_new(&next);
                }
                value = -naive_simulate(g, o, n->children[i]);
                if (o->prove && naive_known(n, &known))
                        value = known;
        }
        n->visits++;
        n->sum += value;
        return value;
}

static void naive_run(const struct game *g, const struct search_options *o, struct naive *root,
                      struct rng *rng) {
        int value;

        if (!root->expanded)
                (void) naive_simulate(g, o, root);
        naive_noise(o, root, rng);
        while (root->visits - 1 < o->simulations && !(o->prove && naive_known(root, &value)))
                (void) naive_simulate(g, o, root);
}

static void assert_same(const struct search_options *o, const struct search *s, const struct naive *root) {
        struct sample_visit visits[GAME_MAX_MOVES];
        unsigned n = search_visits(s, visits), k = 0;
        int value = SEARCH_NOT_PROVEN, of_child;
        bool known = o->prove && naive_known(root, &value);

        assert_int_equal(search_proven(s), known ? value : SEARCH_NOT_PROVEN);
        assert_float_equal(search_value(s), known ? value : root->sum / root->visits, 1e-5);
        for (unsigned i = 0; i < root->n_moves; i++) {
                const struct naive *child = root->children[i];
                bool child_known = child && o->prove && naive_known(child, &of_child);

                if (!child || (known ? !child_known || of_child != -value : child_known && of_child == 1))
                        continue;
                assert_true(k < n);
                assert_int_equal(visits[k].move, root->moves[i]);
                assert_int_equal(visits[k].visits, (int) child->visits);
                k++;
        }
        if (k == 0) {
                /* all that were tried are lost */
                assert_int_equal(visits[0].visits, 1);
                for (unsigned i = 0; i < root->n_moves; i++)
                        if (root->moves[i] == visits[0].move)
                                assert_null(root->children[i]);
                k = 1;
        }
        assert_int_equal(k, n);
}

/* Play a game by the most visited move with both implementations. Return: how many evaluations the search
 * used. */
static uint64_t compare_game(const struct game *g, const struct search_options *o, uint64_t seed,
                             unsigned random_plies) {
        cleanup_(search_freep) struct search *s = NULL;
        struct rng rng, naive_rng, other;
        struct game_state p;
        struct naive *root;

        rng_seed(&other, seed, 0);
        rng_seed(&rng, seed, 1);
        naive_rng = rng;
        random_position(g, &other, random_plies, &p);
        assert_int_equal(search_new(g, o, &s), 0);
        search_begin(s, &p, &rng);
        root = naive_new(&p);
        for (;;) {
                uint16_t move;
                unsigned i = 0;

                run_search(g, s, arbitrary);
                naive_run(g, o, root, &naive_rng);
                assert_same(o, s, root);
                move = search_choose(s, &other);
                g->apply(g, &p, move);
                while (root->moves[i] != move)
                        i++;
                if (p.over)
                        break;
                search_advance(s, move, &rng);
                struct naive *next = o->tree_reuse ? root->children[i] : NULL;
                if (next)
                        root->children[i] = NULL;
                naive_free(root);
                root = next ? next : naive_new(&p);
        }
        naive_free(root);
        return search_n_evaluations(s);
}

static void test_same_as_naive(void **state) {
        cleanup_(game_freep) struct game *tictactoe = make_tictactoe(), *connect4 = make_connect4(),
                                         *gomoku = make_gomoku7();
        const struct game *games[] = { tictactoe, connect4, gomoku };

        (void) state;
        for (unsigned bits = 0; bits < 16; bits++) {
                struct search_options o = plain;

                o.prove = bits & 1;
                o.tree_reuse = bits & 2;
                o.noise_weight = bits & 4 ? 0.25f : 0.0f;
                o.fpu_reduction = bits & 8 ? 0.3f : 0.0f;
                for (unsigned i = 0; i < 3; i++) {
                        o.simulations = 40 + 17 * i;
                        for (uint64_t seed = 0; seed < (i < 2 ? SCALE(8u) : SCALE(4u)); seed++)
                                assert_true(compare_game(games[i], &o, 100 * bits + seed, i < 2 ? 4 : 20) >
                                            0);
                }
        }
}

/* ---- wins and losses in one ---- */

/* Moves that win at once. */
static unsigned wins_in_one(const struct game *g, const struct game_state *p, bool *ret) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned found = 0;

        memset(ret, 0, g->moves * sizeof(*ret));
        for (unsigned i = 0, n = g->legal(g, p, moves); i < n; i++) {
                struct game_state next = *p;

                g->apply(g, &next, moves[i]);
                ret[moves[i]] = next.over && next.winner == p->to_move;
                found += ret[moves[i]];
        }
        return found;
}

/* Moves after which the opponent does not win at once. Return: how many there are; @ret_n_legal: of how many.
 */
static unsigned blocks_in_one(const struct game *g, const struct game_state *p, bool *ret,
                              unsigned *ret_n_legal) {
        uint16_t moves[GAME_MAX_MOVES];
        bool wins[GAME_MAX_MOVES];
        unsigned found = 0;

        memset(ret, 0, g->moves * sizeof(*ret));
        *ret_n_legal = g->legal(g, p, moves);
        for (unsigned i = 0; i < *ret_n_legal; i++) {
                struct game_state next = *p;

                g->apply(g, &next, moves[i]);
                ret[moves[i]] = next.over || wins_in_one(g, &next, wins) == 0;
                found += ret[moves[i]];
        }
        return found;
}

static void find_in_one(const struct game *g, const struct search_options *o, unsigned max_plies,
                        unsigned n_wanted) {
        cleanup_(search_freep) struct search *s = NULL;
        unsigned n_wins = 0, n_blocks = 0, n_legal;
        struct sample_visit visits[GAME_MAX_MOVES];
        bool good[GAME_MAX_MOVES];
        struct game_state p;
        struct rng rng;

        rng_seed(&rng, 7, 0);
        assert_int_equal(search_new(g, o, &s), 0);
        while (n_wins < n_wanted || n_blocks < n_wanted) {
                unsigned n_good;
                bool win;

                random_position(g, &rng, max_plies, &p);
                win = wins_in_one(g, &p, good) > 0;
                if (!win) {
                        n_good = blocks_in_one(g, &p, good, &n_legal);
                        if (n_good == 0 || n_good == n_legal)
                                continue;
                }
                if ((win ? n_wins : n_blocks) >= n_wanted)
                        continue;
                n_wins += win;
                n_blocks += !win;
                search_begin(s, &p, NULL);
                run_search(g, s, nothing_known);
                assert_true(good[search_choose(s, &rng)]);
                if (!win || !o->prove)
                        continue;
                assert_int_equal(search_proven(s), 1);
                assert_int_equal(search_visits(s, visits), 1);
                assert_true(good[visits[0].move]);
                assert_float_equal(search_value(s), 1.0, 0.0);
        }
}

static void test_wins_and_blocks_in_one(void **state) {
        cleanup_(game_freep) struct game *tictactoe = make_tictactoe(), *connect4 = make_connect4(),
                                         *gomoku = make_gomoku7();

        (void) state;
        for (unsigned prove = 0; prove < 2; prove++) {
                struct search_options o = plain;

                o.prove = prove;
                o.simulations = 400;
                find_in_one(tictactoe, &o, 7, SCALE(100));
                find_in_one(connect4, &o, 30, SCALE(200));
                o.simulations = 5000;
                find_in_one(gomoku, &o, 40, SCALE(40));
        }
}

/* ---- tictactoe in full ---- */

/* Play @side by search against every reply. Return: how many games were lost. */
static unsigned play_all_replies(const struct game *g, struct search *s, evaluator *evaluate, unsigned side,
                                 const struct game_state *p) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n, lost = 0;
        struct rng rng;

        if (p->over)
                return p->winner == (int8_t) (1 - side);
        n = g->legal(g, p, moves);
        if (p->to_move == side) {
                rng_seed(&rng, 1, 0);
                search_begin(s, p, NULL);
                run_search(g, s, evaluate);
                moves[0] = search_choose(s, &rng);
                n = 1;
        }
        for (unsigned i = 0; i < n; i++) {
                struct game_state next = *p;

                g->apply(g, &next, moves[i]);
                if (p->to_move == side && evaluate == perfect)
                        assert_int_equal(-minimax(g, &next), minimax(g, p));
                lost += play_all_replies(g, s, evaluate, side, &next);
        }
        return lost;
}

static unsigned n_lost(const struct game *g, const struct search_options *o, evaluator *evaluate) {
        cleanup_(search_freep) struct search *s = NULL;
        struct game_state start;

        assert_int_equal(search_new(g, o, &s), 0);
        g->start(g, &start);
        return play_all_replies(g, s, evaluate, 0, &start) + play_all_replies(g, s, evaluate, 1, &start);
}

static void test_tictactoe_is_never_lost(void **state) {
        cleanup_(game_freep) struct game *g = make_tictactoe();
        struct search_options o = plain;

        (void) state;
        o.simulations = 60;
        assert_int_equal(n_lost(g, &o, perfect), 0);
        o.prove = true;
        assert_int_equal(n_lost(g, &o, perfect), 0);
        /* the evaluation is worth nothing, but it can be searched to the end */
        o.simulations = 20000;
        assert_int_equal(n_lost(g, &o, nothing_known), 0);
        /* negative control: this one does lose */
        o.simulations = 9;
        assert_true(n_lost(g, &o, upside_down) > 0);
}

static void test_proofs_are_true(void **state) {
        cleanup_(game_freep) struct game *g = make_tictactoe();
        cleanup_(search_freep) struct search *s = NULL;
        struct search_options o = plain;
        unsigned seen[3] = { 0 };
        struct game_state p;
        struct rng rng;

        (void) state;
        o.prove = true;
        o.simulations = 20000;
        rng_seed(&rng, 11, 0);
        assert_int_equal(search_new(g, &o, &s), 0);
        for (unsigned i = 0; i < 200; i++) {
                random_position(g, &rng, 8, &p);
                search_begin(s, &p, NULL);
                run_search(g, s, arbitrary);
                if (search_proven(s) == SEARCH_NOT_PROVEN)
                        continue; /* near the start of the game */
                assert_int_equal(search_proven(s), minimax(g, &p));
                assert_float_equal(search_value(s), (float) minimax(g, &p), 0.0);
                seen[1 + search_proven(s)]++;
        }
        assert_true(seen[0] > 10 && seen[1] > 10 && seen[2] > 10);
}

/* ---- promises ---- */

/* Play a whole game with temperature, noise, reuse. */
static unsigned play(const struct game *g, const struct search_options *o, uint64_t seed, uint16_t *ret_moves,
                     uint64_t *ret_evaluations) {
        cleanup_(search_freep) struct search *s = NULL;
        struct sample_visit visits[GAME_MAX_MOVES];
        struct game_state p;
        struct rng rng;

        rng_seed(&rng, seed, 0);
        g->start(g, &p);
        assert_int_equal(search_new(g, o, &s), 0);
        search_begin(s, &p, &rng);
        for (;;) {
                uint64_t before = search_n_simulations(s);
                unsigned n;

                run_search(g, s, arbitrary);
                n = search_visits(s, visits);
                assert_true(n > 0);
                for (unsigned i = 1; i < n; i++)
                        assert_true(visits[i - 1].move < visits[i].move);
                if (!o->prove)
                        assert_int_equal(sum_visits(visits, n), o->simulations);
                assert_true(sum_visits(visits, n) <= o->simulations);
                assert_true(search_n_simulations(s) - before <= o->simulations);
                assert_true(fabsf(search_value(s)) <= 1.0f);
                ret_moves[p.ply] = search_choose(s, &rng);
                g->apply(g, &p, ret_moves[p.ply]);
                if (p.over)
                        break;
                search_advance(s, ret_moves[p.ply - 1], &rng);
        }
        *ret_evaluations = search_n_evaluations(s);
        return p.ply;
}

static void test_whole_games(void **state) {
        cleanup_(game_freep) struct game *connect4 = make_connect4();
        cleanup_(game_freep) struct game *gomoku = make_game(NULL, 0);
        uint16_t moves[2][GAME_MAX_PLIES];
        uint64_t evaluations[2];

        (void) state;
        for (unsigned bits = 0; bits < 8; bits++) {
                struct search_options o = plain;
                unsigned n;

                o.noise_weight = 0.25f;
                o.temperature_plies = 10;
                o.tree_reuse = bits & 1;
                o.prove = bits & 2;
                o.simulations = bits & 4 ? 1 : 120;
                n = play(connect4, &o, 5, moves[0], &evaluations[0]);
                assert_int_equal(play(connect4, &o, 5, moves[1], &evaluations[1]), n);
                assert_memory_equal(moves[0], moves[1], n * sizeof(moves[0][0]));
                assert_int_equal(evaluations[0], evaluations[1]);
                (void) play(gomoku, &o, bits, moves[0], &evaluations[0]);
        }
}

static void test_another_seed_plays_differently(void **state) {
        cleanup_(game_freep) struct game *g = make_connect4();
        uint16_t moves[2][GAME_MAX_PLIES] = { 0 };
        struct search_options o = plain;
        uint64_t evaluations;

        (void) state;
        o.noise_weight = 0.25f;
        (void) play(g, &o, 1, moves[0], &evaluations);
        (void) play(g, &o, 2, moves[1], &evaluations);
        assert_memory_not_equal(moves[0], moves[1], sizeof(moves[0]));
}

static void test_reuse_saves_evaluations(void **state) {
        cleanup_(game_freep) struct game *g = make_gomoku7();
        uint16_t moves[GAME_MAX_PLIES];
        struct search_options o = plain;
        uint64_t fresh, reused;
        unsigned n;

        (void) state;
        n = play(g, &o, 1, moves, &fresh);
        /* a root and every simulation that did not meet the end of the game */
        assert_true(fresh > n * 50u && fresh <= n * 101u);
        o.tree_reuse = true;
        (void) play(g, &o, 1, moves, &reused);
        assert_true(reused < fresh);
}

static void test_original_profile(void **state) {
        const char *settings[] = { "search.profile=original" };
        struct search_options o;
        struct config c;

        (void) state;
        assert_int_equal(config_read(NULL, settings, 1, &c, NULL), 0);
        search_options_init(&o, &c);
        assert_int_equal(o.simulations, 100);
        assert_float_equal(o.cpuct, 1.5, 0.0);
        assert_float_equal(o.fpu_reduction, 0.0, 0.0);
        assert_float_equal(o.noise_alpha, 0.3f, 0.0);
        assert_float_equal(o.noise_weight, 0.25, 0.0);
        assert_int_equal(o.temperature_plies, 30);
        assert_false(o.tree_reuse || o.prove || o.random_symmetry);
}

static void test_numbers_that_are_not_finite(void **state) {
        cleanup_(game_freep) struct game *g = make_connect4();
        cleanup_(search_freep) struct search *s = NULL;
        struct sample_visit visits[GAME_MAX_MOVES];
        struct search_options o = plain;
        struct game_state p;

        (void) state;
        assert_int_equal(search_new(g, &o, &s), 0);
        g->start(g, &p);
        search_begin(s, &p, NULL);
        run_search(g, s, not_a_number);
        assert_int_equal(sum_visits(visits, search_visits(s, visits)), o.simulations);
        assert_float_equal(search_value(s), 0.0, 1e-6);
}

/* The first player threatens 0-1-2; the evaluation likes the second player's move 8, and the reply 2. */
static float blunder(const struct game *g, const struct game_state *p, float *logits) {
        memset(logits, 0, g->moves * sizeof(*logits));
        logits[8] = 9.0f;
        logits[5] = 5.0f;
        if (p->ply == 4)
                logits[2] = 20.0f;
        return -1.0f + (float) p->to_move;
}

static void test_lost_moves_are_no_target(void **state) {
        cleanup_(game_freep) struct game *g = make_tictactoe();
        cleanup_(search_freep) struct search *s = NULL;
        struct search_options o = plain;
        struct sample_visit visits[GAME_MAX_MOVES];
        struct game_state p;
        struct rng rng;

        (void) state;
        rng_seed(&rng, 1, 0);
        g->start(g, &p);
        g->apply(g, &p, 0);
        g->apply(g, &p, 4);
        g->apply(g, &p, 1);
        o.simulations = 2;
        o.prove = true;
        assert_int_equal(search_new(g, &o, &s), 0);
        search_begin(s, &p, NULL);
        run_search(g, s, blunder);
        /* both simulations went to 8, which is now known to be lost; 5 is next by its prior */
        assert_int_equal(search_n_simulations(s), 2);
        assert_int_equal(search_proven(s), SEARCH_NOT_PROVEN);
        assert_int_equal(search_visits(s, visits), 1);
        assert_int_equal(visits[0].move, 5);
        assert_int_equal(visits[0].visits, 1);
        assert_int_equal(search_choose(s, &rng), 5);

        /* negative control: without proofs they are the target */
        search_free(TAKE_PTR(s));
        o.prove = false;
        assert_int_equal(search_new(g, &o, &s), 0);
        search_begin(s, &p, NULL);
        run_search(g, s, blunder);
        assert_int_equal(search_visits(s, visits), 1);
        assert_int_equal(visits[0].move, 8);
        assert_int_equal(visits[0].visits, 2);
}

/* Every legal move is played about as often as its share of the visits says. */
static void test_temperature(void **state) {
        cleanup_(game_freep) struct game *g = make_connect4();
        cleanup_(search_freep) struct search *s = NULL;
        struct sample_visit visits[GAME_MAX_MOVES];
        unsigned n, count[GAME_MAX_MOVES] = { 0 }, most = 0;
        struct search_options o = plain;
        const unsigned n_draws = 20000;
        struct game_state p;
        struct rng rng;

        (void) state;
        rng_seed(&rng, 3, 0);
        o.temperature_plies = 1;
        assert_int_equal(search_new(g, &o, &s), 0);
        g->start(g, &p);
        search_begin(s, &p, NULL);
        run_search(g, s, arbitrary);
        n = search_visits(s, visits);
        assert_true(n > 2);
        for (unsigned i = 0; i < n_draws; i++)
                count[search_choose(s, &rng)]++;
        for (unsigned i = 0; i < n; i++) {
                double share = visits[i].visits / 100.0;

                /* four standard deviations of a binomial */
                assert_true(fabs(count[visits[i].move] - share * n_draws) <=
                            4.0 * sqrt(n_draws * share * (1.0 - share)));
        }
        g->apply(g, &p, visits[0].move);
        search_begin(s, &p, NULL);
        run_search(g, s, arbitrary);
        n = search_visits(s, visits);
        for (unsigned i = 1; i < n; i++)
                if (visits[i].visits > visits[most].visits)
                        most = i;
        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(search_choose(s, &rng), visits[most].move);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same_as_naive),
                cmocka_unit_test(test_wins_and_blocks_in_one),
                cmocka_unit_test(test_tictactoe_is_never_lost),
                cmocka_unit_test(test_proofs_are_true),
                cmocka_unit_test(test_whole_games),
                cmocka_unit_test(test_another_seed_plays_differently),
                cmocka_unit_test(test_reuse_saves_evaluations),
                cmocka_unit_test(test_original_profile),
                cmocka_unit_test(test_numbers_that_are_not_finite),
                cmocka_unit_test(test_lost_moves_are_no_target),
                cmocka_unit_test(test_temperature),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
