/* SPDX-License-Identifier: MIT */
/*
 * selfplay.c with an evaluation that is a hash of the position: records are decoded and the games in them
 * played again by the rules, so that planes, visits, outcomes and signs are checked against the game itself.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include "common/model/safetensors.h"
#include "tests/unit/fixture-network.h"
#include "worker/evaluate.h"
#include "worker/selfplay.h"

#define MAX_RECORDS 4000
#define MAX_BATCH   16

struct record {
        unsigned char *bytes;
        size_t n_bytes;
};

/* What self-play runs on here. */
struct stage {
        struct game *game;
        unsigned n_batch, n_symmetries_asked;
        float logits[MAX_BATCH][GAME_MAX_MOVES], values[MAX_BATCH];
        size_t n_records;
        struct record records[MAX_RECORDS];
        int commit_result, run_result;
        struct evaluate *network; /* instead of the hash, where it is not NULL */
};

static uint64_t hash_position(const struct game *g, const struct game_state *p) {
        unsigned char planes[GAME_MAX_PLANES_BYTES];
        uint64_t h = 14695981039346656037u;

        g->encode(g, p, planes);
        for (size_t i = 0; i < GAME_PLANES_BYTES(g); i++)
                h = (h ^ planes[i]) * 1099511628211u;
        return h ^ p->to_move;
}

static unsigned stage_add(void *context, const struct game_state *p, struct rng *rng) {
        struct stage *stage = context;
        unsigned i = stage->n_batch++;
        struct rng numbers;

        assert_true(i < MAX_BATCH);
        assert_false(p->over);
        if (stage->network)
                return evaluate_add(stage->network, p, rng);
        if (rng) {
                stage->n_symmetries_asked++;
                (void) rng_below(rng, stage->game->n_symmetries);
        }
        rng_seed(&numbers, hash_position(stage->game, p), 0);
        for (unsigned k = 0; k < stage->game->moves; k++)
                stage->logits[i][k] = (float) (4.0 * rng_double(&numbers) - 2.0);
        stage->values[i] = (float) (1.8 * rng_double(&numbers) - 0.9);
        return i;
}

static int stage_run(void *context, struct error *e) {
        struct stage *stage = context;

        stage->n_batch = 0;
        if (stage->network)
                return evaluate_run(stage->network, e);
        return stage->run_result < 0 ? error_set(e, stage->run_result, "out of order") : 0;
}

static const float *stage_logits(void *context, unsigned i) {
        struct stage *stage = context;

        return stage->network ? evaluate_logits(stage->network, i) : stage->logits[i];
}

static float stage_value(void *context, unsigned i) {
        struct stage *stage = context;

        return stage->network ? evaluate_value(stage->network, i) : stage->values[i];
}

static int stage_commit(void *context, const unsigned char *bytes, size_t n_bytes, struct error *e) {
        struct stage *stage = context;
        struct record *r = &stage->records[stage->n_records];

        if (stage->commit_result != 0)
                return stage->commit_result < 0 ? error_set(e, stage->commit_result, "no room")
                                                : stage->commit_result;
        assert_true(stage->n_records++ < MAX_RECORDS);
        r->bytes = test_malloc(n_bytes);
        r->n_bytes = n_bytes;
        memcpy(r->bytes, bytes, n_bytes);
        return 0;
}

static struct stage *stage_new(const char *game) {
        struct stage *stage = test_calloc(1, sizeof(*stage));
        const char *settings[] = { game, "game.size=7", "game.win_length=4" };
        struct config c;

        assert_int_equal(config_read(NULL, settings, strstr(game, "gomoku") ? 3 : 1, &c, NULL), 0);
        assert_int_equal(game_new(&c, &stage->game, NULL), 0);
        return stage;
}

static void stage_free(struct stage *stage) {
        for (size_t i = 0; i < stage->n_records; i++)
                test_free(stage->records[i].bytes);
        evaluate_free(stage->network);
        game_free(stage->game);
        test_free(stage);
}
DEFINE_CLEANUP(struct stage *, stage_free)

static const struct selfplay_options usual = {
        .search = { .simulations = 30,
                    .cpuct = 1.5f,
                    .noise_alpha = 0.3f,
                    .noise_weight = 0.25f,
                    .temperature_plies = 8,
                    .tree_reuse = true,
                    .prove = true,
                    .random_symmetry = true },
        .games = 4,
        .seed = 42,
        .slot = 3,
        .incarnation = 9,
};

static struct selfplay *selfplay_on(struct stage *stage, const struct selfplay_options *o) {
        const struct selfplay_ops ops = { .context = stage,
                                          .add = stage_add,
                                          .run = stage_run,
                                          .logits = stage_logits,
                                          .value = stage_value,
                                          .commit = stage_commit };
        struct selfplay *p;

        assert_int_equal(selfplay_new(stage->game, o, &ops, &p), 0);
        return p;
}

static void play_on(struct stage *stage, const struct selfplay_options *o, size_t n_games) {
        cleanup_(selfplay_freep) struct selfplay *p = selfplay_on(stage, o);

        selfplay_set_generation(p, 5);
        while (stage->n_records < n_games)
                assert_int_equal(selfplay_step(p, NULL), 0);
}

/* Play until @n_games are committed. */
static struct stage *play(const char *game, const struct selfplay_options *o, size_t n_games) {
        struct stage *stage = stage_new(game);

        play_on(stage, o, n_games);
        return stage;
}

/* The same with a small network of random weights. */
static struct stage *play_with_network(const char *game, unsigned precision, const struct selfplay_options *o,
                                       size_t n_games) {
        cleanup_(fixture_weights_freep) struct fixture_weights *weights = NULL;
        struct stage *stage = stage_new(game);
        cleanup_(fd_closep) int directory_fd = -1;
        struct model_info info = { .generation = 1 };
        char directory[64];
        uint64_t generation;

        fixture_directory(directory);
        directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        network_init(&info.network, stage->game, 16, 2);
        weights = fixture_weights_new(&info.network, 1);
        assert_int_equal(model_write(directory_fd, "m", &info, fixture_tensors(weights), NULL), 0);
        assert_int_equal(evaluate_new(stage->game, &info.network, precision, o->games, &stage->network, NULL),
                         0);
        assert_int_equal(evaluate_load(stage->network, directory_fd, "m", &generation, NULL), 0);
        fixture_remove(directory);
        play_on(stage, o, n_games);
        return stage;
}

/* Decode record @i. Return: number of samples. @ret: room for GAME_MAX_PLIES. */
static unsigned decode(const struct stage *stage, size_t i, struct sample *ret) {
        const struct record *r = &stage->records[i];
        size_t offset, length;
        uint32_t n;

        assert_int_equal(sample_record_open(stage->game, r->bytes, r->n_bytes, &n, &offset, NULL), 0);
        for (uint32_t k = 0; k < n; k++) {
                assert_int_equal(sample_decode(stage->game, r->bytes + offset, r->n_bytes - offset, &ret[k],
                                               &length, NULL),
                                 0);
                offset += length;
        }
        assert_int_equal(offset, r->n_bytes);
        return n;
}

static bool has_planes(const struct game *g, const struct game_state *p, const unsigned char *want) {
        unsigned char planes[GAME_MAX_PLANES_BYTES];

        g->encode(g, p, planes);
        return memcmp(planes, want, GAME_PLANES_BYTES(g)) == 0;
}

/* Find the move of @from that leads to @planes, or, at the end (NULL), one that ends the game with the
 * @outcome. */
static void replay_move(const struct game *g, struct game_state *p, const unsigned char *planes,
                        int outcome) {
        uint16_t moves[GAME_MAX_MOVES];

        for (unsigned i = 0, n = g->legal(g, p, moves); i < n; i++) {
                struct game_state next = *p;

                g->apply(g, &next, moves[i]);
                if (planes ? !next.over && has_planes(g, &next, planes)
                           : next.over && game_value(&next, p->to_move) == outcome) {
                        *p = next;
                        return;
                }
        }
        fail_msg("no move leads from ply %u to the next sample", p->ply);
}

/* Counts of what was seen, so that no check passes for want of cases. */
struct seen {
        unsigned won, lost, drawn, proven_won, proven_lost;
};

static void check_visits(const struct game *g, const struct selfplay_options *o, const struct game_state *p,
                         const struct sample *s) {
        uint16_t moves[GAME_MAX_MOVES];
        unsigned n_legal = g->legal(g, p, moves), k = 0;
        uint32_t sum = 0;

        assert_true(s->n_visits > 0);
        for (unsigned i = 0; i < s->n_visits; i++) {
                while (k < n_legal && moves[k] != s->visits[i].move)
                        k++;
                assert_true(k < n_legal);
                sum += s->visits[i].visits;
        }
        assert_true(sum > 0 && sum <= o->search.simulations);
        if (!o->search.prove)
                assert_int_equal(sum, o->search.simulations);
}

static void check_game(const struct stage *stage, const struct selfplay_options *o,
                       const struct sample *samples, unsigned n, struct seen *seen) {
        const struct game *g = stage->game;
        struct game_state p;

        g->start(g, &p);
        for (unsigned i = 0; i < n; i++) {
                const struct sample *s = &samples[i];
                unsigned mover = p.to_move;

                assert_int_equal(s->ply, i);
                assert_true(has_planes(g, &p, s->planes));
                check_visits(g, o, &p, s);
                assert_true(fabsf(s->root_value) <= 1.0f);
                assert_float_equal(s->weight, 1.0, 0.0);
                if (o->search.prove && fabsf(s->root_value) == 1.0f) {
                        /* what is proven comes true: the sign of one is the sign of the other */
                        assert_int_equal(s->outcome, (int) s->root_value);
                        seen->proven_won += s->root_value > 0;
                        seen->proven_lost += s->root_value < 0;
                }
                replay_move(g, &p, i + 1 < n ? samples[i + 1].planes : NULL, s->outcome);
                if (i + 1 < n)
                        assert_int_equal(samples[i + 1].outcome,
                                         p.to_move == mover ? s->outcome : -s->outcome);
                seen->won += s->outcome > 0;
                seen->lost += s->outcome < 0;
                seen->drawn += s->outcome == 0;
        }
        assert_true(p.over);
}

static struct sample decoded[GAME_MAX_PLIES];

static struct seen check_all(const char *game, const struct selfplay_options *o, size_t n_games) {
        cleanup_(stage_freep) struct stage *stage = play(game, o, n_games);
        struct seen seen = { 0 };
        uint64_t sequence = 0;

        for (size_t i = 0; i < stage->n_records; i++) {
                unsigned n = decode(stage, i, decoded);

                check_game(stage, o, decoded, n, &seen);
                for (unsigned k = 0; k < n; k++) {
                        assert_int_equal(decoded[k].id.slot, o->slot);
                        assert_int_equal(decoded[k].id.incarnation, o->incarnation);
                        assert_int_equal(decoded[k].id.sequence, sequence++);
                        assert_int_equal(decoded[k].generation, 5);
                }
        }
        assert_true(o->search.random_symmetry ? stage->n_symmetries_asked > 0
                                              : stage->n_symmetries_asked == 0);
        return seen;
}

static void test_records_are_true_games(void **state) {
        struct selfplay_options o = usual;
        struct seen seen;

        (void) state;
        seen = check_all("game.name=tictactoe", &o, 300);
        assert_true(seen.won > 0 && seen.lost > 0 && seen.drawn > 0 && seen.proven_won > 0 &&
                    seen.proven_lost > 0);
        seen = check_all("game.name=connect4", &o, 60);
        assert_true(seen.won > 0 && seen.lost > 0 && seen.proven_won > 0 && seen.proven_lost > 0);
        o.search.simulations = 200;
        seen = check_all("game.name=gomoku", &o, 10);
        assert_true(seen.won > 0 && seen.lost > 0 && seen.proven_won > 0);
}

/* With everything off that the original does not have. */
static void test_records_of_the_original(void **state) {
        struct selfplay_options o = usual;
        struct seen seen;

        (void) state;
        o.search.prove = o.search.tree_reuse = o.search.random_symmetry = false;
        seen = check_all("game.name=tictactoe", &o, 100);
        assert_true(seen.won > 0 && seen.lost > 0 && seen.drawn > 0);
        seen = check_all("game.name=connect4", &o, 20);
        assert_true(seen.won > 0 && seen.lost > 0);
}

static bool same_records(const struct stage *a, const struct stage *b, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (a->records[i].n_bytes != b->records[i].n_bytes ||
                    memcmp(a->records[i].bytes, b->records[i].bytes, a->records[i].n_bytes) != 0)
                        return false;
        return true;
}

static void test_a_seed_fixes_the_games(void **state) {
        cleanup_(stage_freep) struct stage *first = play("game.name=connect4", &usual, 20);
        cleanup_(stage_freep) struct stage *again = play("game.name=connect4", &usual, 20);
        struct selfplay_options o = usual;

        (void) state;
        assert_true(same_records(first, again, 20));
        o.seed++;
        cleanup_(stage_freep) struct stage *other = play("game.name=connect4", &o, 20);
        assert_false(same_records(first, other, 20));
}

/* Are the samples of record @i of @a, but for their identity, also those of some record of @b? */
static bool is_among(const struct stage *a, size_t i, const struct stage *b) {
        static struct sample of_b[GAME_MAX_PLIES];
        unsigned n = decode(a, i, decoded);

        for (size_t k = 0; k < b->n_records; k++) {
                unsigned j = 0;

                if (decode(b, k, of_b) != n)
                        continue;
                while (j < n && decoded[j].root_value == of_b[j].root_value &&
                       decoded[j].outcome == of_b[j].outcome && decoded[j].n_visits == of_b[j].n_visits &&
                       memcmp(decoded[j].visits, of_b[j].visits,
                              of_b[j].n_visits * sizeof(of_b[j].visits[0])) == 0)
                        j++;
                if (j == n)
                        return true;
        }
        return false;
}

static void test_games_do_not_depend_on_each_other(void **state) {
        struct selfplay_options o = usual;

        (void) state;
        o.games = 1;
        cleanup_(stage_freep) struct stage *alone = play("game.name=connect4", &o, 12);
        o.games = 7;
        cleanup_(stage_freep) struct stage *together = play("game.name=connect4", &o, 40);
        for (size_t i = 0; i < 12; i++)
                assert_true(is_among(alone, i, together));

        /* negative control: another process in the slot, or another slot, plays other games */
        o.incarnation++;
        cleanup_(stage_freep) struct stage *next = play("game.name=connect4", &o, 40);
        o.incarnation--;
        o.slot++;
        cleanup_(stage_freep) struct stage *neighbour = play("game.name=connect4", &o, 40);
        for (size_t i = 0; i < 12; i++)
                assert_false(is_among(alone, i, next) || is_among(alone, i, neighbour));
}

static void test_with_a_network(void **state) {
        (void) state;
        for (unsigned precision = PRECISION_AUTO; precision <= PRECISION_F32; precision++) {
                cleanup_(stage_freep) struct stage *first =
                        play_with_network("game.name=connect4", precision, &usual, 12);
                cleanup_(stage_freep) struct stage *again =
                        play_with_network("game.name=connect4", precision, &usual, 12);
                assert_true(same_records(first, again, 12));
        }
}

static void test_generation_that_searched(void **state) {
        cleanup_(stage_freep) struct stage *stage = stage_new("game.name=connect4");
        cleanup_(selfplay_freep) struct selfplay *p = selfplay_on(stage, &usual);
        bool mixed = false;

        (void) state;
        selfplay_set_generation(p, 3);
        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(selfplay_step(p, NULL), 0);
        selfplay_set_generation(p, 7);
        while (stage->n_records < 20)
                assert_int_equal(selfplay_step(p, NULL), 0);
        for (size_t i = 0; i < stage->n_records; i++) {
                unsigned n = decode(stage, i, decoded);

                for (unsigned k = 0; k < n; k++) {
                        assert_true(decoded[k].generation == 3 || decoded[k].generation == 7);
                        assert_true(k == 0 || decoded[k].generation >= decoded[k - 1].generation);
                }
                mixed |= decoded[0].generation == 3 && decoded[n - 1].generation == 7;
        }
        assert_true(mixed);
        assert_int_equal(decoded[0].generation, 7);
}

static void test_counters(void **state) {
        cleanup_(stage_freep) struct stage *stage = stage_new("game.name=tictactoe");
        cleanup_(selfplay_freep) struct selfplay *p = selfplay_on(stage, &usual);
        struct selfplay_counters c;
        uint64_t n_samples = 0;

        (void) state;
        for (unsigned i = 0; i < 500; i++)
                assert_int_equal(selfplay_step(p, NULL), 0);
        for (size_t i = 0; i < stage->n_records; i++)
                n_samples += decode(stage, i, decoded);
        selfplay_counters(p, &c);
        assert_int_equal(c.batches, 500);
        assert_int_equal(c.evaluations, 500 * usual.games);
        assert_int_equal(c.games, stage->n_records);
        assert_int_equal(c.samples, n_samples);
        assert_true(c.plies >= c.samples && c.plies <= c.samples + usual.games * stage->game->max_plies);
        assert_true(c.simulations >= c.evaluations - c.plies - usual.games);
}

static void test_failures_go_up(void **state) {
        cleanup_(stage_freep) struct stage *stage = stage_new("game.name=tictactoe");
        cleanup_(selfplay_freep) struct selfplay *p = selfplay_on(stage, &usual);
        struct error e = ERROR_INIT;
        int r;

        (void) state;
        stage->commit_result = SELFPLAY_E_STOP;
        while ((r = selfplay_step(p, &e)) == 0)
                ;
        assert_int_equal(r, SELFPLAY_E_STOP);
        assert_int_equal(stage->n_records, 0);

        selfplay_free(TAKE_PTR(p));
        stage->n_batch = 0;
        p = selfplay_on(stage, &usual);
        stage->commit_result = -EIO;
        while ((r = selfplay_step(p, &e)) == 0)
                ;
        assert_int_equal(r, -EIO);
        assert_string_equal(e.text, "no room");

        selfplay_free(TAKE_PTR(p));
        stage->n_batch = 0;
        p = selfplay_on(stage, &usual);
        stage->run_result = -ENOMEM;
        assert_int_equal(selfplay_step(p, &e), -ENOMEM);
        assert_string_equal(e.text, "out of order");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_records_are_true_games),
                cmocka_unit_test(test_records_of_the_original),
                cmocka_unit_test(test_a_seed_fixes_the_games),
                cmocka_unit_test(test_games_do_not_depend_on_each_other),
                cmocka_unit_test(test_with_a_network),
                cmocka_unit_test(test_generation_that_searched),
                cmocka_unit_test(test_counters),
                cmocka_unit_test(test_failures_go_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
