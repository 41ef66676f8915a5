/* SPDX-License-Identifier: MIT */
/*
 * A lane record's payload: the first byte picks the game, the rest is decoded.
 *
 * What is accepted fits a window slot, decodes the same from exactly its bytes and not from one less, and
 * encodes to something that is no longer and decodes to the same.  What is refused says why.
 */
#include <errno.h>
#include "common/base/config.h"
#include "common/exchange/sample.h"
#include "tests/fuzz/fuzz.h"

static const struct game *game_of(unsigned i) {
        static struct game *games[4];
        static const struct {
                unsigned name, size, draw_ply;
        } kinds[4] = { { GAME_TICTACTOE, 15, 0 },
                       { GAME_CONNECT4, 15, 0 },
                       { GAME_GOMOKU, 5, 20 },
                       { GAME_GOMOKU, 20, 0 } };
        struct config c;

        i %= 4;
        if (!games[i]) {
                config_defaults(&c);
                c.game_name = kinds[i].name;
                c.game_size = kinds[i].size;
                c.game_draw_ply = kinds[i].draw_ply;
                EXPECT(game_new(&c, &games[i], NULL) == 0);
        }
        return games[i];
}

static void expect_equal(const struct game *g, const struct sample *a, const struct sample *b) {
        EXPECT(memcmp(&a->id, &b->id, sizeof(a->id)) == 0);
        EXPECT(a->generation == b->generation && a->outcome == b->outcome && a->ply == b->ply);
        /* the bits: 0 and -0 are two values */
        EXPECT(memcmp(&a->root_value, &b->root_value, sizeof(float)) == 0);
        EXPECT(memcmp(&a->weight, &b->weight, sizeof(float)) == 0);
        EXPECT(memcmp(a->planes, b->planes, GAME_PLANES_BYTES(g)) == 0);
        EXPECT(a->n_visits == b->n_visits);
        EXPECT(memcmp(a->visits, b->visits, a->n_visits * sizeof(a->visits[0])) == 0);
}

/* @s has come out of the @n bytes at @bytes. */
static void check_accepted(const struct game *g, const struct sample *s, const uint8_t *bytes, size_t n) {
        static unsigned char record[8192];
        static struct sample again;
        struct sample_id id;
        size_t length, n_record, offset;
        uint32_t n_samples;

        EXPECT(n <= sample_max_bytes(g));
        EXPECT(s->ply < g->max_plies && s->n_visits > 0 && s->n_visits <= g->moves);
        EXPECT(sample_decode_id(bytes, n, &id, NULL) == 0 && memcmp(&id, &s->id, sizeof(id)) == 0);
        EXPECT(sample_decode(g, bytes, n, &again, &length, NULL) == 0 && length == n);
        expect_equal(g, s, &again);
        EXPECT(sample_decode(g, bytes, n - 1, &again, &length, NULL) == -EBADMSG);

        EXPECT(sample_encode_record(g, s, 1, record, sizeof(record), &n_record) == 0);
        EXPECT(sample_record_open(g, record, n_record, &n_samples, &offset, NULL) == 0 && n_samples == 1);
        EXPECT(n_record - offset <= n);
        EXPECT(sample_decode(g, record + offset, n_record - offset, &again, &length, NULL) == 0);
        EXPECT(length == n_record - offset);
        expect_equal(g, s, &again);
}

static void run(const struct game *g, const uint8_t *bytes, size_t n) {
        static struct sample s;
        struct error e = ERROR_INIT;
        uint32_t n_samples = 0;
        size_t at = 0, length = 0;
        int r;

        r = sample_record_open(g, bytes, n, &n_samples, &at, &e);
        if (r == 0)
                EXPECT(n_samples > 0 && n_samples <= g->max_plies && at <= n);
        for (uint32_t i = 0; r == 0 && i < n_samples; i++) {
                r = sample_decode(g, bytes + at, n - at, &s, &length, &e);
                if (r < 0)
                        break;
                EXPECT(length > 0 && length <= n - at);
                check_accepted(g, &s, bytes + at, length);
                at += length;
        }
        if (r == 0)
                return;
        EXPECT(r == -EBADMSG);
        fuzz_expect_text(&e, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        if (n > 0)
                run(game_of(bytes[0]), bytes + 1, n - 1);
        return 0;
}
