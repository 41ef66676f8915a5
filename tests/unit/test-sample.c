/* SPDX-License-Identifier: MIT */
/*
 * Samples: exact round trips in every game, an independent reading by msgpack-c's unpacker, and everything
 * that a decoder of foreign bytes has to stand: truncation, mutation, lies about lengths and types.  Inputs
 * lie in blocks of exactly their size, so that AddressSanitizer sees a step beside them.
 */
#include "tests/unit/fixture-sample.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <msgpack.h>

#ifdef __SANITIZE_ADDRESS__
#define N_ROUND_TRIPS 200u
#define N_MUTANTS     20000u
#else
#define N_ROUND_TRIPS 2000u
#define N_MUTANTS     300000u
#endif

/* Encode one sample as it lies in a record; the result is to be freed and has no byte to spare. */
static unsigned char *encode_one(const struct game *g, const struct sample *s, size_t *ret_length) {
        size_t size = sample_record_max_bytes(g), length, offset;
        cleanup_(freep) unsigned char *buf = malloc(size);
        unsigned char *exact;
        uint32_t n;

        assert_int_equal(sample_encode_record(g, s, 1, buf, size, &length), 0);
        assert_int_equal(sample_record_open(g, buf, length, &n, &offset, NULL), 0);
        assert_int_equal(n, 1);
        *ret_length = length - offset;
        exact = malloc(*ret_length);
        memcpy(exact, buf + offset, *ret_length);
        /* alone it is the same, and needs just that room */
        assert_int_equal(sample_encode(g, s, buf, *ret_length, &length), 0);
        assert_int_equal(length, *ret_length);
        assert_memory_equal(buf, exact, length);
        assert_int_equal(sample_encode(g, s, buf, *ret_length - 1, &length), -ENOBUFS);
        assert_true(sample_max_bytes(g) <= SAMPLE_BYTES_MAX);
        return exact;
}

/* In range, in whatever way it came about: what a caller may rely on. */
static void assert_in_bounds(const struct game *g, const struct sample *s) {
        unsigned n_bits = (unsigned) g->planes * g->cells;

        assert_true(s->ply < g->max_plies);
        assert_true(s->n_visits > 0 && s->n_visits <= g->moves);
        for (unsigned i = 0; i < s->n_visits; i++) {
                assert_true(s->visits[i].move < g->moves && s->visits[i].visits > 0);
                assert_true(i == 0 || s->visits[i].move > s->visits[i - 1].move);
        }
        assert_true(s->outcome >= -1 && s->outcome <= 1);
        assert_true(isfinite(s->root_value) && fabsf(s->root_value) <= SAMPLE_VALUE_LIMIT);
        assert_true(isfinite(s->weight) && s->weight >= 0 && s->weight <= SAMPLE_WEIGHT_LIMIT);
        if (n_bits % 8)
                assert_int_equal(s->planes[n_bits / 8] >> n_bits % 8, 0);
}

static void assert_refused(const struct game *g, const unsigned char *bytes, size_t n, const char *text) {
        struct error e = ERROR_INIT;
        struct sample s;
        size_t length;

        assert_int_equal(sample_decode(g, bytes, n, &s, &length, &e), -EBADMSG);
        if (!strstr(e.text, text))
                fail_msg("'%s' does not speak of '%s'", e.text, text);
}

static void test_round_trip(void **state) {
        (void) state;
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);
                struct rng rng;

                rng_seed(&rng, 3, k);
                for (unsigned i = 0; i < N_ROUND_TRIPS; i++) {
                        struct sample_id id = { fixture_uint(&rng, UINT64_MAX),
                                                fixture_uint(&rng, UINT64_MAX),
                                                fixture_uint(&rng, UINT64_MAX) };
                        cleanup_(freep) unsigned char *bytes = NULL;
                        struct sample s, d;
                        struct sample_id only_id;
                        size_t n, length;

                        fixture_sample(g, id, &s);
                        bytes = encode_one(g, &s, &n);
                        assert_true(n <= sample_max_bytes(g));
                        assert_int_equal(sample_decode(g, bytes, n, &d, &length, NULL), 0);
                        assert_int_equal(length, n);
                        fixture_assert_equal(g, &s, &d);
                        assert_int_equal(sample_decode_id(bytes, n, &only_id, NULL), 0);
                        assert_memory_equal(&only_id, &id, sizeof(id));
                }
        }
}

/* The longest game of largest samples needs exactly what was said, and one byte less is too little. */
static void test_largest_record_fits_exactly(void **state) {
        (void) state;
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);
                cleanup_(freep) struct sample *s = calloc(g->max_plies, sizeof(*s));
                size_t size = sample_record_max_bytes(g), length, offset;
                cleanup_(freep) unsigned char *buf = malloc(size);
                uint32_t n;

                for (unsigned i = 0; i < g->max_plies; i++) {
                        s[i].id = (struct sample_id){ UINT64_MAX, UINT64_MAX, UINT64_MAX };
                        s[i].generation = UINT64_MAX;
                        s[i].ply = (uint16_t) (g->max_plies - 1);
                        s[i].outcome = -1;
                        s[i].n_visits = g->moves;
                        for (uint16_t m = 0; m < g->moves; m++)
                                s[i].visits[m] = (struct sample_visit){ .move = m, .visits = UINT16_MAX };
                }
                assert_int_equal(sample_encode_record(g, s, g->max_plies, buf, size, &length), 0);
                assert_int_equal(sample_record_open(g, buf, length, &n, &offset, NULL), 0);
                assert_int_equal(n, g->max_plies);
                for (unsigned i = 0; i < n; i++) {
                        struct sample d;
                        size_t used;

                        assert_int_equal(sample_decode(g, buf + offset, length - offset, &d, &used, NULL), 0);
                        /* plies are counted as if the last one needed max_plies itself: at most 2 bytes over
                         */
                        assert_true(used <= sample_max_bytes(g) && used + 2 >= sample_max_bytes(g));
                        offset += used;
                }
                assert_int_equal(offset, length);
                assert_int_equal(sample_encode_record(g, s, g->max_plies, buf, length - 1, &offset),
                                 -ENOBUFS);
        }
}

/* Every buffer that is too small by any amount. */
static void test_encode_into_too_little(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct sample s[3];
        unsigned char big[1024];
        size_t length, unused;

        (void) state;
        for (unsigned i = 0; i < 3; i++)
                fixture_sample(g, (struct sample_id){ 1, 2, i }, &s[i]);
        assert_int_equal(sample_encode_record(g, s, 3, big, sizeof(big), &length), 0);
        for (size_t size = 0; size < length; size++) {
                cleanup_(freep) unsigned char *buf = malloc(size + 1);

                assert_int_equal(sample_encode_record(g, s, 3, buf, size, &unused), -ENOBUFS);
        }
}

static void check_object(const struct game *g, const msgpack_object *o, const struct sample *s) {
        const msgpack_object *f = o->via.array.ptr;
        unsigned n_policy;

        assert_int_equal(o->type, MSGPACK_OBJECT_ARRAY);
        assert_int_equal(o->via.array.size, 12);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(f[i].type, MSGPACK_OBJECT_POSITIVE_INTEGER);
        assert_int_equal(f[0].via.u64, SAMPLE_SCHEMA);
        assert_int_equal(f[1].via.u64, s->id.slot);
        assert_int_equal(f[2].via.u64, s->id.incarnation);
        assert_int_equal(f[3].via.u64, s->id.sequence);
        assert_int_equal(f[4].via.u64, s->generation);
        assert_int_equal(f[5].type, MSGPACK_OBJECT_STR);
        assert_int_equal(f[5].via.str.size, strlen(g->rules));
        assert_memory_equal(f[5].via.str.ptr, g->rules, strlen(g->rules));
        assert_int_equal(f[6].via.u64, s->ply);
        assert_int_equal(f[7].type, MSGPACK_OBJECT_BIN);
        assert_int_equal(f[7].via.bin.size, GAME_PLANES_BYTES(g));
        assert_memory_equal(f[7].via.bin.ptr, s->planes, GAME_PLANES_BYTES(g));
        assert_int_equal(f[8].type, MSGPACK_OBJECT_ARRAY);
        n_policy = f[8].via.array.size;
        assert_int_equal(n_policy, 2 * s->n_visits);
        for (unsigned i = 0; i < s->n_visits; i++) {
                assert_int_equal(f[8].via.array.ptr[2 * i].via.u64, s->visits[i].move);
                assert_int_equal(f[8].via.array.ptr[2 * i + 1].via.u64, s->visits[i].visits);
        }
        assert_int_equal(f[9].type, MSGPACK_OBJECT_FLOAT32);
        assert_true((float) f[9].via.f64 == s->root_value);
        assert_true(f[10].via.i64 == s->outcome);
        assert_true((float) f[11].via.f64 == s->weight);
}

/* What we write, read by somebody else: msgpack-c's own unpacker. */
static void test_independent_reader_agrees(void **state) {
        (void) state;
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);
                cleanup_(freep) struct sample *s = calloc(g->max_plies, sizeof(*s));
                size_t size = sample_record_max_bytes(g), length, offset = 0;
                cleanup_(freep) unsigned char *buf = malloc(size);
                msgpack_unpacked u;

                for (unsigned i = 0; i < g->max_plies; i++)
                        fixture_sample(g, (struct sample_id){ k, i * 1000, UINT64_MAX >> i % 64 }, &s[i]);
                assert_int_equal(sample_encode_record(g, s, g->max_plies, buf, size, &length), 0);
                msgpack_unpacked_init(&u);
                assert_int_equal(msgpack_unpack_next(&u, (const char *) buf, length, &offset),
                                 MSGPACK_UNPACK_SUCCESS);
                assert_int_equal(offset, length);
                assert_int_equal(u.data.via.array.size, g->max_plies);
                for (unsigned i = 0; i < g->max_plies; i++)
                        check_object(g, &u.data.via.array.ptr[i], &s[i]);
                msgpack_unpacked_destroy(&u);
        }
}

/* A record by hand, from the schema in sample.h: fixes the format against a mistake made on both sides. */
static void test_bytes_are_as_described(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        struct sample s = { .id = { 3, 200, 70000 },
                            .generation = 5,
                            .root_value = 0.5f,
                            .weight = 1,
                            .outcome = -1,
                            .ply = 2,
                            .n_visits = 2 };
        unsigned char want[256], buf[256];
        size_t n = 0, length;

        (void) state;
        s.planes[0] = 0x01;
        s.planes[1] = 0x42;
        s.visits[0] = (struct sample_visit){ .move = 4, .visits = 100 };
        s.visits[1] = (struct sample_visit){ .move = 8, .visits = 300 };
#define PUT(...)                                                                                             \
        do {                                                                                                 \
                const unsigned char b[] = { __VA_ARGS__ };                                                   \
                memcpy(want + n, b, sizeof(b));                                                              \
                n += sizeof(b);                                                                              \
        } while (0)
        PUT(0x91, 0x9c, 0x01, 0x03, 0xcc, 0xc8, 0xce, 0x00, 0x01, 0x11, 0x70, 0x05);
        PUT((unsigned char) (0xa0 + strlen(g->rules)));
        assert_true(strlen(g->rules) < 32);
        memcpy(want + n, g->rules, strlen(g->rules));
        n += strlen(g->rules);
        PUT(0x02, 0xc4, 0x04, 0x01, 0x42, 0x00, 0x00);
        PUT(0x94, 0x04, 0x64, 0x08, 0xcd, 0x01, 0x2c);
        PUT(0xca, 0x3f, 0x00, 0x00, 0x00, 0xff, 0xca, 0x3f, 0x80, 0x00, 0x00);
#undef PUT
        assert_int_equal(GAME_PLANES_BYTES(g), 4);
        assert_int_equal(sample_encode_record(g, &s, 1, buf, sizeof(buf), &length), 0);
        assert_int_equal(length, n);
        assert_memory_equal(buf, want, n);
}

static void test_every_truncation_is_refused(void **state) {
        (void) state;
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);

                for (unsigned i = 0; i < 20; i++) {
                        cleanup_(freep) unsigned char *bytes = NULL;
                        struct sample s;
                        size_t n;

                        fixture_sample(g, (struct sample_id){ 9, 300, i }, &s);
                        bytes = encode_one(g, &s, &n);
                        for (size_t cut = 0; cut < n; cut++) {
                                cleanup_(freep) unsigned char *less = malloc(cut ? cut : 1);

                                memcpy(less, bytes, cut);
                                assert_refused(g, less, cut, "offset");
                        }
                }
        }
}

static void test_every_byte_changed_to_every_value(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        cleanup_(freep) unsigned char *bytes = NULL;
        unsigned n_accepted = 0, n_refused = 0;
        struct sample s;
        size_t n;

        (void) state;
        fixture_sample(g, (struct sample_id){ 3, 200, 70000 }, &s);
        bytes = encode_one(g, &s, &n);
        for (size_t i = 0; i < n; i++) {
                unsigned char old = bytes[i];

                for (unsigned x = 0; x < 256; x++) {
                        struct error e = ERROR_INIT;
                        struct sample d;
                        size_t length;
                        int r;

                        bytes[i] = (unsigned char) x;
                        r = sample_decode(g, bytes, n, &d, &length, &e);
                        if (r == 0) {
                                assert_true(length <= n);
                                assert_in_bounds(g, &d);
                                n_accepted++;
                        } else {
                                assert_int_equal(r, -EBADMSG);
                                assert_true(strlen(e.text) > 10);
                                n_refused++;
                        }
                }
                bytes[i] = old;
        }
        /* some bytes are free (identity, planes, floats), most are not */
        assert_true(n_accepted > n && n_refused > n_accepted);
}

/* Several changes at once, insertions by shifting, all games. */
static void test_mutants(void **state) {
        (void) state;
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *g = fixture_game(k);
                cleanup_(freep) unsigned char *bytes = NULL, *mutant = NULL;
                struct sample s;
                struct rng rng;
                size_t n;

                rng_seed(&rng, 4, k);
                fixture_sample(g, (struct sample_id){ 1, 2, k }, &s);
                bytes = encode_one(g, &s, &n);
                mutant = malloc(n);
                for (unsigned round = 0; round < N_MUTANTS / FIXTURE_N_GAMES; round++) {
                        struct sample d;
                        size_t length, at = rng_below(&rng, (uint32_t) n);

                        memcpy(mutant, bytes, n);
                        if (round % 4 == 0)
                                memmove(mutant + at, bytes + at / 2, n - at);
                        for (unsigned i = rng_below(&rng, 4) + 1; i > 0; i--)
                                mutant[rng_below(&rng, round % 2 ? (uint32_t) n : (uint32_t) MIN(n, 50))] =
                                        (unsigned char) rng_u64(&rng);
                        if (sample_decode(g, mutant, n, &d, &length, NULL) == 0) {
                                assert_true(length <= n);
                                assert_in_bounds(g, &d);
                        }
                }
        }
}

/* A sample in pieces, of which one is replaced by something nasty. */
enum {
        HEAD,
        SCHEMA,
        SLOT,
        INCARNATION,
        SEQUENCE,
        GENERATION,
        RULES,
        PLY,
        PLANES,
        POLICY,
        VALUE,
        OUTCOME,
        WEIGHT,
        N_PIECES
};

struct piece {
        const void *bytes;
        size_t n;
};

#define PIECE(s) ((struct piece){ "" s, sizeof(s) - 1 })

static void check_with(const struct game *g, unsigned which, struct piece nasty, const char *text) {
        unsigned char rules[64] = { (unsigned char) (0xa0 + strlen(g->rules)) };
        struct piece pieces[N_PIECES] = {
                [HEAD] = PIECE("\x9c"),
                [SCHEMA] = PIECE("\x01"),
                [SLOT] = PIECE("\x00"),
                [INCARNATION] = PIECE("\xcc\xff"),
                [SEQUENCE] = PIECE("\xcf\x00\x00\x00\x00\x00\x00\x00\x01"),
                [GENERATION] = PIECE("\xce\x00\x01\x00\x00"),
                [RULES] = { rules, 1 + strlen(g->rules) },
                [PLY] = PIECE("\x08"),
                [PLANES] = PIECE("\xc4\x04\xff\xff\xff\x07"),
                [POLICY] = PIECE("\x94\x00\x01\x08\xcd\xff\xff"),
                [VALUE] = PIECE("\xca\xbf\x80\x00\x00"),
                [OUTCOME] = PIECE("\x01"),
                [WEIGHT] = PIECE("\xca\x00\x00\x00\x00"),
        };
        cleanup_(freep) unsigned char *bytes = NULL;
        struct error e = ERROR_INIT;
        struct sample s;
        size_t n = 0, at = 0, length;

        memcpy(rules + 1, g->rules, strlen(g->rules));
        if (text)
                pieces[which] = nasty;
        for (unsigned i = 0; i < N_PIECES; i++)
                n += pieces[i].n;
        bytes = malloc(n);
        for (unsigned i = 0; i < N_PIECES; at += pieces[i].n, i++)
                memcpy(bytes + at, pieces[i].bytes, pieces[i].n);
        if (text)
                assert_refused(g, bytes, n, text);
        else if (sample_decode(g, bytes, n, &s, &length, &e) < 0)
                fail_msg("%s", e.text);
}

static void test_nasty_fields(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        static const struct {
                unsigned which;
                struct piece nasty;
                const char *text;
        } cases[] = {
                { HEAD, { "\xdd\xff\xff\xff\xff", 5 }, "sample at offset 0: array of 4294967295" },
                { HEAD, { "\xdc\xff\xff", 3 }, "sample at offset 0: array of 65535" },
                { HEAD, { "\x9b", 1 }, "11 fields" },
                { HEAD, { "\x8c", 1 }, "an array expected, bytes start with 8c" },
                { HEAD, { "\x91\x91\x91\x91\x91\x91\x91\x91", 8 }, "1 fields" },
                { SCHEMA, { "\x02", 1 }, "schema version at offset 1: 2, 1 expected" },
                { SCHEMA, { "\x00", 1 }, "schema version" },
                { SCHEMA, { "\xc0", 1 }, "schema version" },
                { SLOT,
                  { "\xff", 1 },
                  "slot at offset 2: an unsigned integer expected, bytes start with ff" },
                { SLOT, { "\xd0\x05", 2 }, "slot" },
                { SLOT, { "\xca\x00\x00\x00\x00", 5 }, "slot" },
                { SLOT, { "\x91\x01", 2 }, "slot" },
                { INCARNATION,
                  { "\xa1"
                    "1",
                    2 },
                  "incarnation at offset 3" },
                { SEQUENCE, { "\xc1", 1 }, "sequence at offset 5" },
                { GENERATION, { "\xc3", 1 }, "generation at offset 14" },
                { RULES, { "\xdb\xff\xff\xff\xff", 5 }, "rules at offset 19: a string expected" },
                { RULES, { "\xda\xff\xff", 3 }, "rules at offset 19: 65535 bytes" },
                { RULES, { "\xd9\xff", 2 }, "rules at offset 19: 255 bytes" },
                { RULES, { "\xa0", 1 }, "rules at offset 19: 0 bytes" },
                { RULES, { "\xc4\x01x", 3 }, "a string expected" },
                { PLY, { "\x09", 1 }, "at most 8 expected" },
                { PLY, { "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9 }, "ply" },
                { PLANES, { "\xc6\xff\xff\xff\xff", 5 }, "planes" },
                { PLANES, { "\xc5\xff\xff", 3 }, "65535 bytes, 4 expected" },
                { PLANES, { "\xc4\x05\x00\x00\x00\x00\x00", 7 }, "5 bytes, 4 expected" },
                { PLANES, { "\xc4\x03\x00\x00\x00", 5 }, "3 bytes, 4 expected" },
                { PLANES, { "\xa4\x00\x00\x00\x00", 5 }, "binary data expected" },
                { PLANES, { "\xc4\x04\x00\x00\x00\x08", 6 }, "unused bits" },
                { PLANES, { "\xc4\x04\x00\x00\x00\x80", 6 }, "unused bits" },
                { POLICY, { "\x90", 1 }, "pairs" },
                { POLICY, { "\x93\x00\x01\x08", 4 }, "array of 3, pairs" },
                { POLICY, { "\xdc\x00\x13", 3 }, "array of 19, at most 18" },
                { POLICY, { "\xdd\xff\xff\xff\xff", 5 }, "array of 4294967295" },
                { POLICY, { "\x82\x00\x01\x08\x01", 5 }, "an array expected" },
                { POLICY, { "\x94\x08\x01\x00\x01", 5 }, "move at" },
                { POLICY, { "\x94\x04\x01\x04\x01", 5 }, "4, 5 to 8 expected" },
                { POLICY, { "\x92\x09\x01", 3 }, "9, 0 to 8 expected" },
                { POLICY, { "\x92\xcf\x00\x00\x00\x01\x00\x00\x00\x00\x01", 11 }, "move" },
                { POLICY, { "\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 }, "move" },
                { POLICY, { "\x92\xff\x01", 3 }, "move" },
                { POLICY, { "\x92\x00\x00", 3 }, "visits" },
                { POLICY, { "\x92\x00\xce\x00\x01\x00\x00", 7 }, "65536, 1 to 65535 expected" },
                { POLICY, { "\x92\x00\xff", 3 }, "visits" },
                { VALUE, { "\xca\x7f\xc0\x00\x00", 5 }, "root value" }, /* NaN */
                { VALUE, { "\xca\xff\xc0\x00\x00", 5 }, "root value" },
                { VALUE, { "\xca\x7f\x80\x00\x00", 5 }, "root value" }, /* infinity */
                { VALUE, { "\xca\x40\x00\x00\x00", 5 }, "2, -1.001 to 1.001 expected" },
                { VALUE, { "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", 9 }, "a 32-bit float expected" },
                { VALUE, { "\x00", 1 }, "a 32-bit float expected" },
                { OUTCOME, { "\x02", 1 }, "outcome" },
                { OUTCOME, { "\xfe", 1 }, "outcome" },
                { OUTCOME, { "\xd0\xff", 2 }, "outcome" },
                { WEIGHT, { "\xca\xbf\x80\x00\x00", 5 }, "weight" }, /* -1 */
                { WEIGHT, { "\xca\x7f\xc0\x00\x00", 5 }, "weight" },
                { WEIGHT, { "\xca\x7f\x7f\xff\xff", 5 }, "weight" },
                { WEIGHT, { "\xca\x00\x00\x00", 4 }, "weight" },
        };

        (void) state;
        check_with(g, 0, PIECE(""), NULL); /* without a change it is fine */
        for (size_t i = 0; i < N_ELEMENTS(cases); i++)
                check_with(g, cases[i].which, cases[i].nasty, cases[i].text);
}

/* Every field in its widest integer form is msgpack too, but must not outgrow a slot of the window. */
static void test_too_wide_is_refused(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        unsigned char bytes[1024] = {
                0x9c, 0x01, 0x00, 0x00, 0x00, 0x00, (unsigned char) (0xa0 + strlen(g->rules))
        };
        size_t n = 7;

        (void) state;
        memcpy(bytes + n, g->rules, strlen(g->rules));
        n += strlen(g->rules);
        memcpy(bytes + n, "\x00\xc4\x04\x00\x00\x00\x00\xdc\x00\x12", 10);
        n += 10;
        for (unsigned i = 0; i < 18; i++, n += 9) {
                memset(bytes + n, 0, 9);
                bytes[n] = 0xcf;
                bytes[n + 8] = (unsigned char) (i % 2 ? 1 : i / 2);
        }
        memcpy(bytes + n, "\xca\x00\x00\x00\x00\x00\xca\x00\x00\x00\x00", 11);
        n += 11;
        assert_true(n > sample_max_bytes(g));
        assert_refused(g, bytes, n, "at most");
}

static void test_record_headers(void **state) {
        cleanup_(game_freep) struct game *g = fixture_game(0);
        static const struct {
                struct piece bytes;
                uint32_t n_samples; /* 0: refused */
        } cases[] = {
                { { "\x91", 1 }, 1 },
                { { "\x99", 1 }, 9 },
                { { "\xdc\x00\x09", 3 }, 9 },
                { { "\xdd\x00\x00\x00\x02", 5 }, 2 },
                { { "\x90", 1 }, 0 },
                { { "\x9a", 1 }, 0 },
                { { "\xdd\xff\xff\xff\xff", 5 }, 0 },
                { { "\xdc\xff\xff", 3 }, 0 },
                { { "\xdc\x00", 2 }, 0 },
                { { "\xdd\x00\x00\x00", 4 }, 0 },
                { { "", 0 }, 0 },
                { { "\x81", 1 }, 0 },
                { { "\xc0", 1 }, 0 },
                { { "\x01", 1 }, 0 },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                size_t n = cases[i].bytes.n, offset;
                cleanup_(freep) unsigned char *bytes = malloc(n ? n : 1);
                struct error e = ERROR_INIT;
                uint32_t n_samples;
                int r;

                memcpy(bytes, cases[i].bytes.bytes, n);
                r = sample_record_open(g, bytes, n, &n_samples, &offset, &e);
                if (cases[i].n_samples == 0) {
                        assert_int_equal(r, -EBADMSG);
                        assert_non_null(strstr(e.text, "record at offset 0"));
                        continue;
                }
                assert_int_equal(r, 0);
                assert_int_equal(n_samples, cases[i].n_samples);
                assert_int_equal(offset, n);
        }
}

/* A sample of another game is named as such. */
static void test_other_rules_are_refused(void **state) {
        cleanup_(game_freep) struct game *a = fixture_game(3);
        cleanup_(freep) unsigned char *bytes = NULL;
        struct sample s;
        size_t n;

        (void) state;
        fixture_sample(a, (struct sample_id){ 1, 2, 3 }, &s);
        bytes = encode_one(a, &s, &n);
        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(game_freep) struct game *b = fixture_game(k);

                if (k != 3)
                        assert_refused(b, bytes, n, "rules");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bytes_are_as_described),
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_independent_reader_agrees),
                cmocka_unit_test(test_largest_record_fits_exactly),
                cmocka_unit_test(test_encode_into_too_little),
                cmocka_unit_test(test_every_truncation_is_refused),
                cmocka_unit_test(test_every_byte_changed_to_every_value),
                cmocka_unit_test(test_mutants),
                cmocka_unit_test(test_nasty_fields),
                cmocka_unit_test(test_too_wide_is_refused),
                cmocka_unit_test(test_record_headers),
                cmocka_unit_test(test_other_rules_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
