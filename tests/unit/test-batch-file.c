/* SPDX-License-Identifier: MIT */
/*
 * Batch files: exact round trips in every game, with the key azpar and without, files as other programs write
 * them, any pieces, and what happens to a file with any one byte changed or missing.
 */
#include "tests/unit/fixture-batch-file.h"

#include <math.h>

#ifdef __SANITIZE_ADDRESS__
#define EFFORT    1u
#define BYTE_STEP 7u /* of all values of a byte, to one in that many */
#else
#define EFFORT    10u
#define BYTE_STEP 1u
#endif

/* Games */

static struct game *gomoku(unsigned size) {
        char rules[GAME_RULES_MAX];
        struct game *g;

        (void) snprintf(rules, sizeof(rules), "gomoku:%ux%u:5:freestyle:draw0", size, size);
        assert_int_equal(game_from_rules(rules, &g, NULL), 0);
        return g;
}

/* All kinds of games, then gomoku of all sizes. */
#define N_ALL_GAMES (FIXTURE_N_GAMES + 16)
static struct game *any_game(unsigned i) {
        return i < FIXTURE_N_GAMES ? fixture_game(i) : gomoku(5 + i - FIXTURE_N_GAMES);
}

/* Visits on the legal moves with exactly the sum @total. */
static void spread_visits(const struct game *g, const struct game_state *state, struct rng *r, uint32_t total,
                          struct sample *ret) {
        uint16_t legal[GAME_MAX_MOVES];
        unsigned n = g->legal(g, state, legal);

        for (unsigned i = 0; i < n && total > 0; i++) {
                uint32_t visits = i + 1 == n ? total : rng_below(r, 1 + 3 * total / (n - i));

                visits = MIN(visits, total);
                if (visits > 0)
                        ret->visits[ret->n_visits++] = (struct sample_visit){ legal[i], (uint16_t) visits };
                total -= visits;
        }
}

/* One random game, with @total visits a move, as the original would know it. Return: samples in @ret. */
static unsigned play(const struct game *g, struct rng *r, uint32_t total, struct sample *ret) {
        uint8_t mover[GAME_MAX_PLIES];
        struct game_state s;
        unsigned n = 0;

        g->start(g, &s);
        while (!s.over) {
                struct sample *a = &ret[n];

                memset(a, 0, sizeof(*a));
                mover[n++] = s.to_move;
                a->ply = s.ply;
                a->weight = 1;
                g->encode(g, &s, a->planes);
                spread_visits(g, &s, r, total, a);
                g->apply(g, &s, a->visits[rng_below(r, a->n_visits)].move);
        }
        for (unsigned i = 0; i < n; i++) {
                ret[i].outcome = (int8_t) game_value(&s, mover[i]);
                ret[i].root_value = ret[i].outcome;
        }
        return n;
}

static uint32_t gcd(uint32_t a, uint32_t b) {
        return b == 0 ? a : gcd(b, a % b);
}

/* In the smallest numbers, as they come back without the key azpar. */
static void reduce(struct sample *s) {
        uint32_t d = 0;

        for (unsigned i = 0; i < s->n_visits; i++)
                d = gcd(d, s->visits[i].visits);
        for (unsigned i = 0; i < s->n_visits; i++)
                s->visits[i].visits = (uint16_t) (s->visits[i].visits / d);
}

/* Round trips */

static void comes_back_exactly_with_the_key(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 31, 0);
        for (unsigned k = 0; k < N_ALL_GAMES; k++) {
                cleanup_(game_freep) struct game *g = any_game(k);

                for (unsigned i = 0; i < 20 * EFFORT; i++) {
                        struct sample_id id = { rng_below(&r, BATCH_FILE_MAX_SLOTS),
                                                fixture_uint(&r, UINT64_MAX), fixture_uint(&r, UINT64_MAX) };
                        cleanup_(text_free) struct text t = { 0 };
                        cleanup_(result_free) struct result got = { 0 };
                        uint64_t origin = 1 + fixture_uint(&r, UINT64_MAX - 1);
                        struct sample s;

                        fixture_sample(g, id, &s);
                        if (i % 8 == 1)
                                s.root_value = -0.0f;
                        if (i % 8 == 2)
                                s.root_value = nextafterf(ldexpf(1, -(int) rng_below(&r, 149)), 2);
                        s.root_value = MIN(s.root_value, 1);
                        text_add(&t, "[");
                        text_add_sample(&t, g, &s, origin, i % 2);
                        text_add(&t, "]\n");
                        got = read_whole(g, t.bytes, t.n);
                        if (got.r < 0)
                                fail_msg("%s: %s", g->rules, got.e.text);
                        assert_int_equal(got.n, 1);
                        fixture_assert_equal(g, &got.items[0].sample, &s);
                        assert_true(got.items[0].origin == origin);
                        assert_false(got.items[0].shares_are_f32 || got.items[0].is_rounded);
                }
        }
}

/* A game as it comes back without the key, written once more, is the same text. */
static void check_without_key(const struct game *g, const struct sample *samples, unsigned n, bool is_f32) {
        cleanup_(text_free) struct text t = { 0 }, again = { 0 };
        cleanup_(result_free) struct result got = { 0 };

        for (unsigned i = 0; i < n; i++) {
                text_add(&t, i == 0 ? "[" : ",\n");
                text_add_sample(&t, g, &samples[i], 0, is_f32);
        }
        text_add(&t, "]\n");
        assert_null(memmem(t.bytes, t.n, "azpar", 5));
        got = read_whole(g, t.bytes, t.n);
        if (got.r < 0)
                fail_msg("%s: %s", g->rules, got.e.text);
        assert_int_equal(got.n, n);
        for (unsigned i = 0; i < n; i++) {
                struct sample want = samples[i];

                reduce(&want);
                fixture_assert_equal(g, &got.items[i].sample, &want);
                assert_true(got.items[i].origin == 0 && !got.items[i].is_rounded);
                assert_true(is_f32 || !got.items[i].shares_are_f32);
                text_add(&again, i == 0 ? "[" : ",\n");
                text_add_sample(&again, g, &got.items[i].sample, 0, got.items[i].shares_are_f32);
        }
        text_add(&again, "]\n");
        assert_int_equal(again.n, t.n);
        assert_memory_equal(again.bytes, t.bytes, t.n);
}

static void comes_back_exactly_without_the_key(void **state) {
        static const uint32_t totals[] = { 1, 100, 137, 800, 4093, 65535 };
        cleanup_(freep) struct sample *samples = calloc(GAME_MAX_PLIES, sizeof(*samples));
        struct rng r;

        (void) state;
        rng_seed(&r, 32, 0);
        for (unsigned k = 0; k < N_ALL_GAMES; k++) {
                cleanup_(game_freep) struct game *g = any_game(k);

                for (unsigned i = 0; i < N_ELEMENTS(totals); i++) {
                        unsigned n = play(g, &r, totals[i], samples);

                        check_without_key(g, samples, n, false);
                        if (totals[i] <= 4096) /* above, a smaller total may be printed alike */
                                check_without_key(g, samples, n, true);
                }
        }
}

/* As others write */

/* By C's own functions: the shortest that reads back in double or single precision, always with a fraction or
 * exponent. */
static void add_number(struct text *t, double x, bool is_f32) {
        char text[64];

        for (int k = 1; k <= 17; k++) {
                (void) snprintf(text, sizeof(text), "%.*g", k, x);
                if (is_f32 ? strtof(text, NULL) == (float) x : strtod(text, NULL) == x)
                        break;
        }
        text_add(t, strpbrk(text, ".e") ? "%s" : "%s.0", text);
}

static void add_foreign(struct text *t, const struct game *g, const struct sample *s, bool is_f32,
                        const char *comma) {
        double shares[GAME_MAX_MOVES] = { 0 };
        uint32_t total = 0;

        for (unsigned i = 0; i < s->n_visits; i++)
                total += s->visits[i].visits;
        for (unsigned i = 0; i < s->n_visits; i++)
                shares[s->visits[i].move] = is_f32 ? (double) ((float) s->visits[i].visits / (float) total)
                                                   : s->visits[i].visits / (double) total;
        text_add(t, "{\"value\":%d.0%s\"policy\":[", s->outcome, comma);
        for (unsigned i = 0; i < g->moves; i++) {
                text_add(t, "%s", i == 0 ? "" : comma);
                add_number(t, shares[i], is_f32);
        }
        text_add(t, "]%s\"game\":{\"id\":[7,null]}%s\"board\":[", comma, comma);
        for (unsigned i = 0; i < (unsigned) g->planes * g->cells; i++)
                text_add(t, "%s%d.0", i == 0 ? "" : comma, s->planes[i / 8] >> i % 8 & 1);
        text_add(t, "]}");
}

static void reads_what_others_write(void **state) {
        static const char *const commas[] = { ",", ", ", "\r\n\t,\r\n" };
        static const uint32_t totals[] = { 100, 137, 1600 };
        cleanup_(freep) struct sample *samples = calloc(GAME_MAX_PLIES, sizeof(*samples));
        struct rng r;

        (void) state;
        rng_seed(&r, 33, 0);
        for (unsigned k = 0; k < FIXTURE_N_GAMES * 18; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k / 18);
                cleanup_(text_free) struct text t = { 0 };
                cleanup_(result_free) struct result got = { 0 };
                unsigned n = play(g, &r, totals[k / 6 % 3], samples);

                for (unsigned i = 0; i < n; i++) {
                        text_add(&t, "%s", i == 0 ? " [ " : commas[k % 3]);
                        add_foreign(&t, g, &samples[i], k / 3 % 2, commas[k % 3]);
                }
                text_add(&t, " ] \n ");
                got = read_whole(g, t.bytes, t.n);
                if (got.r < 0)
                        fail_msg("%s: %s", g->rules, got.e.text);
                assert_int_equal(got.n, n);
                for (unsigned i = 0; i < n; i++) {
                        reduce(&samples[i]);
                        fixture_assert_equal(g, &got.items[i].sample, &samples[i]);
                        assert_false(got.items[i].is_rounded);
                }
        }
}

/* The text itself, from the description in batch_file.h: against a mistake on both sides. */
static void writes_as_described(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct sample s = { .id = { 3, 17, 4242 },
                            .generation = 42,
                            .root_value = 0.125f,
                            .weight = 1,
                            .outcome = -1,
                            .ply = 2,
                            .n_visits = 2 };
        cleanup_(text_free) struct text t = { 0 };

        (void) state;
        s.planes[0] = 0x01;
        s.planes[1] = 0x04;
        s.planes[2] = 0xfc;
        s.planes[3] = 0x07;
        s.visits[0] = (struct sample_visit){ 2, 13 };
        s.visits[1] = (struct sample_visit){ 8, 87 };
        text_add_sample(&t, g, &s, ORIGIN, false);
        text_add(&t, "%c", 0);
        assert_string_equal(
                t.bytes, "{\"board\":[1,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1],"
                         "\"policy\":[0,0,0.13,0,0,0,0,0,0.87],\"value\":-1,\"azpar\":{\"version\":1,"
                         "\"origin\":\"0123456789abcdef\",\"slot\":3,\"incarnation\":17,\"sequence\":4242,"
                         "\"generation\":42,\"rules\":\"tictactoe:3x3:3\",\"ply\":2,\"visits\":[2,13,8,87],"
                         "\"root_value\":0.125,\"weight\":1,\"crc\":4092567407}}");
}

static void largest_samples_fit(void **state) {
        (void) state;
        for (unsigned k = 0; k < N_ALL_GAMES; k++) {
                cleanup_(game_freep) struct game *g = any_game(k);
                cleanup_(text_free) struct text t = { 0 };
                struct sample s = { .id = { 1023, UINT64_MAX, UINT64_MAX },
                                    .generation = UINT64_MAX,
                                    .root_value = -0.12345678e-30f,
                                    .weight = 123.45678f,
                                    .outcome = -1 };

                s.ply = (uint16_t) (g->max_plies - 1);
                s.n_visits = g->moves;
                for (uint16_t m = 0; m < g->moves; m++)
                        s.visits[m] = (struct sample_visit){ m, (uint16_t) (m == 1 ? 1 : UINT16_MAX - m) };
                text_add_sample(&t, g, &s, UINT64_MAX, false);
                text_add_sample(&t, g, &s, UINT64_MAX, true);
                assert_true(batch_file_sample_max_bytes(g) < BATCH_FILE_SAMPLE_MAX / 16);
        }
}

/* Pieces */

/* A file of random samples of @g with and without the key. */
static void make_file(const struct game *g, struct rng *r, unsigned n, struct text *ret) {
        cleanup_(freep) struct sample *samples = calloc(GAME_MAX_PLIES, sizeof(*samples));
        unsigned n_played = play(g, r, 100 + rng_below(r, 60), samples);

        for (unsigned i = 0; i < n; i++) {
                struct sample s;

                text_add(ret, i == 0 ? "[" : i % 2 ? "," : " ,\n");
                fixture_sample(g, (struct sample_id){ i, rng_u64(r), i }, &s);
                if (i % 3 == 0)
                        text_add_sample(ret, g, &s, ORIGIN + i, i % 2);
                else if (i % 3 == 1)
                        text_add_sample(ret, g, &samples[i % n_played], 0, i % 2);
                else
                        add_foreign(ret, g, &samples[i % n_played], i % 2, i % 4 ? "," : ", ");
        }
        text_add(ret, n > 0 ? " ]\n" : "[ ] ");
}

static void pieces_make_no_difference(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 34, 0);
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);
                cleanup_(result_free) struct result whole = { 0 };
                cleanup_(text_free) struct text t = { 0 };
                /* byte by byte is quadratic in the length of a sample */
                static const uint32_t steps[] = { 1, 1, 3, 64, 1000, 70000 };

                make_file(g, &r, 7, &t);
                whole = read_whole(g, t.bytes, t.n);
                assert_int_equal(whole.r, BATCH_FILE_E_END);
                assert_int_equal(whole.n, 7);
                for (unsigned i = k < 3 ? 0 : 2; i < N_ELEMENTS(steps); i++) {
                        cleanup_(result_free) struct result pieces = read_file(g, t.bytes, t.n, &r, steps[i]);

                        assert_results_equal(g, &whole, &pieces);
                }
        }
}

static void empty_files(void **state) {
        static const struct {
                const char *text, *error; /* NULL: no samples, and no error */
        } cases[] = {
                { "[]", NULL },
                { " [ \n\t\r ] ", NULL },
                { "", "byte 0: the file ends, '[' expected" },
                { "  ", "byte 2: the file ends, '[' expected" },
                { "[", "byte 1: the file ends, '{' or ']' expected" },
                { "[]]", "byte 2: nothing more expected, found ']'" },
                { "[] x", "byte 3: nothing more expected, found 'x'" },
                { "[],", "byte 2: nothing more expected, found ','" },
                { "[,]", "byte 1: '{' or ']' expected, found ','" },
                { "{}", "byte 0: '[' expected, found '{'" },
                { "\xef\xbb\xbf[]", "byte 0: '[' expected, found byte 0xef" },
                { "[[", "byte 1: '{' or ']' expected, found '['" },
        };
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct rng r;

        (void) state;
        rng_seed(&r, 35, 0);
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                cleanup_(result_free) struct result whole =
                        read_whole(g, cases[i].text, strlen(cases[i].text));
                cleanup_(result_free) struct result pieces =
                        read_file(g, cases[i].text, strlen(cases[i].text), &r, 1);

                assert_results_equal(g, &whole, &pieces);
                assert_int_equal(whole.n, 0);
                assert_int_equal(whole.r, cases[i].error ? -EBADMSG : BATCH_FILE_E_END);
                assert_string_equal(whole.e.text, cases[i].error ? cases[i].error : "");
        }
}

/* A buffer of BATCH_FILE_SAMPLE_MAX bytes is enough for anything, and nothing longer is taken even if it is
 * there. */
static void samples_have_a_limit(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct rng r;

        (void) state;
        rng_seed(&r, 36, 0);
        for (int over = 0; over <= 1; over++) {
                cleanup_(result_free) struct result whole = { 0 }, pieces = { 0 };
                cleanup_(text_free) struct text t = { 0 }, one = { 0 };
                struct sample s;

                fixture_sample(g, (struct sample_id){ 1, 2, 3 }, &s);
                text_add_sample(&one, g, &s, ORIGIN, false);
                text_add(&t, "[");
                memset(text_room(&t, 3 << 20), ' ', 3 << 20); /* between samples there may be any number */
                t.n += 3 << 20;
                memcpy(text_room(&t, one.n), one.bytes, one.n - 1);
                t.n += one.n - 1;
                memset(text_room(&t, BATCH_FILE_SAMPLE_MAX), ' ', BATCH_FILE_SAMPLE_MAX);
                t.n += BATCH_FILE_SAMPLE_MAX - one.n + (unsigned) over;
                text_add(&t, "}]");
                whole = read_whole(g, t.bytes, t.n);
                pieces = read_file(g, t.bytes, t.n, &r, 300000);
                assert_results_equal(g, &whole, &pieces);
                if (over) {
                        assert_int_equal(whole.r, -EBADMSG);
                        assert_string_equal(whole.e.text,
                                            "sample 0 (byte 3145729): longer than 1048576 bytes");
                } else {
                        assert_int_equal(whole.r, BATCH_FILE_E_END);
                        fixture_assert_equal(g, &whole.items[0].sample, &s);
                }
        }
}

/* Damage */

static void every_truncation_is_refused(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 37, 0);
        for (unsigned k = 0; k < 3; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);
                cleanup_(result_free) struct result whole = { 0 };
                cleanup_(text_free) struct text t = { 0 };
                size_t n_seen = 0, last = 0;

                make_file(g, &r, 4, &t);
                whole = read_whole(g, t.bytes, t.n);
                assert_int_equal(whole.n, 4);
                t.n--; /* without the newline it is whole as well */
                for (size_t cut = 0; cut < t.n; cut++) {
                        cleanup_(result_free) struct result got = read_whole(g, t.bytes, cut);

                        assert_int_equal(got.r, -EBADMSG);
                        assert_non_null(strstr(got.e.text, "the file ends"));
                        assert_true(got.n == n_seen || got.n == n_seen + 1);
                        n_seen = got.n;
                        for (size_t i = 0; i < got.n; i++)
                                assert_items_equal(g, &got.items[i], &whole.items[i]);
                        last = got.n;
                }
                assert_int_equal(last, 4);
        }
}

/* With the key azpar, nothing but the origin, which has no checksum, can change unseen. */
static void no_byte_changes_unseen(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        cleanup_(text_free) struct text t = { 0 };
        unsigned n_accepted = 0, n_refused = 0;
        struct sample s;

        (void) state;
        fixture_sample(g, (struct sample_id){ 3, 200, 70000 }, &s);
        text_add(&t, "[");
        text_add_sample(&t, g, &s, ORIGIN, false);
        text_add(&t, "]");
        for (size_t i = 0; i < t.n; i++) {
                char old = t.bytes[i];

                for (unsigned x = (unsigned) i % BYTE_STEP; x < 256; x += BYTE_STEP) {
                        cleanup_(result_free) struct result got = { 0 };

                        t.bytes[i] = (char) x;
                        got = read_whole(g, t.bytes, t.n);
                        if (got.r == BATCH_FILE_E_END && got.n == 1 && got.items[0].origin != 0) {
                                fixture_assert_equal(g, &got.items[0].sample, &s);
                                n_accepted += (char) x != old;
                        } else if (got.r == BATCH_FILE_E_END) {
                                /* the key itself is another one now */
                                assert_int_equal(got.n, 1);
                                assert_true(memmem(t.bytes, t.n, "\"azpar\"", 7) == NULL);
                        } else {
                                assert_true(strlen(got.e.text) > 10);
                                n_refused++;
                        }
                }
                t.bytes[i] = old;
        }
        assert_true(n_accepted > 100 / BYTE_STEP && n_refused > 50 * n_accepted);
}

/* Several changes at once: no crash, and pieces still make no difference. */
static void mutants(void **state) {
        unsigned n_accepted = 0;
        struct rng r;

        (void) state;
        rng_seed(&r, 38, 0);
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);
                cleanup_(text_free) struct text t = { 0 };

                make_file(g, &r, 3, &t);
                for (unsigned round = 0; round < 300 * EFFORT; round++) {
                        cleanup_(result_free) struct result whole = { 0 }, pieces = { 0 };
                        cleanup_(freep) char *mutant = malloc(t.n);
                        size_t at = rng_below(&r, (uint32_t) t.n), from = rng_below(&r, (uint32_t) t.n);

                        memcpy(mutant, t.bytes, t.n);
                        if (round % 3 == 0)
                                memmove(mutant + at, t.bytes + from, MIN(t.n - at, MIN(t.n - from, 20)));
                        for (unsigned i = rng_below(&r, 3); i > 0; i--)
                                mutant[rng_below(&r, (uint32_t) t.n)] =
                                        "0123456789.,-eE[]{}\":\\ \n"[rng_below(&r, 24)];
                        whole = read_whole(g, mutant, t.n);
                        pieces = read_file(g, mutant, t.n, &r, 2000);
                        assert_results_equal(g, &whole, &pieces);
                        n_accepted += whole.r == BATCH_FILE_E_END;
                }
        }
        assert_true(n_accepted > 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(comes_back_exactly_with_the_key),
                cmocka_unit_test(comes_back_exactly_without_the_key),
                cmocka_unit_test(reads_what_others_write),
                cmocka_unit_test(writes_as_described),
                cmocka_unit_test(largest_samples_fit),
                cmocka_unit_test(pieces_make_no_difference),
                cmocka_unit_test(empty_files),
                cmocka_unit_test(samples_have_a_limit),
                cmocka_unit_test(every_truncation_is_refused),
                cmocka_unit_test(no_byte_changes_unseen),
                cmocka_unit_test(mutants),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
