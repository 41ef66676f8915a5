/* SPDX-License-Identifier: MIT */
/* Writing batch files; batch_file.h has the format.  Runs in workers (spill) and azparctl (export). */
#include "common/exchange/batch_file.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "common/base/crc32c.h"
#include "common/base/decimal.h"

/* Everything but the numbers of the arrays: keys, brackets, rules and the other fields at their longest. */
#define FIXED_BYTES 512u

#define VISIT_BYTES (3 + 1 + 5 + 1) /* "399,65535," */

size_t batch_file_sample_max_bytes(const struct game *g) {
        return FIXED_BYTES + (size_t) g->planes * g->cells * 2 + g->moves * (size_t) (DECIMAL_PRINT_MAX + 1) +
               g->moves * (size_t) VISIT_BYTES;
}

/* Where the text goes on. */
struct out {
        char *at;
};

#define put_text(o, text) put_bytes(o, text, sizeof("" text) - 1)

static inline void put_bytes(struct out *o, const char *bytes, size_t n) {
        memcpy(o->at, bytes, n);
        o->at += n;
}

static void put_u64(struct out *o, uint64_t x) {
        o->at += decimal_print_u64(x, o->at);
}

/* Instead of the comma behind the last number. */
static void put_end(struct out *o) {
        o->at[-1] = ']';
}

static void put_board(struct out *o, const struct game *g, const struct sample *s) {
        unsigned n = (unsigned) g->planes * g->cells;

        put_text(o, "{\"board\":[");
        for (unsigned i = 0; i < n; i++) {
                *o->at++ = (char) ('0' + (s->planes[i / 8] >> i % 8 & 1));
                *o->at++ = ',';
        }
        put_end(o);
}

static uint32_t total_visits(const struct sample *s) {
        uint32_t total = 0;

        for (unsigned i = 0; i < s->n_visits; i++)
                total += s->visits[i].visits;
        return total;
}

static void put_policy(struct out *o, const struct game *g, const struct sample *s, bool shares_are_f32) {
        uint32_t total = total_visits(s);
        unsigned next = 0;

        put_text(o, ",\"policy\":[");
        for (unsigned move = 0; move < g->moves; move++) {
                uint16_t visits;

                if (next == s->n_visits || s->visits[next].move != move) {
                        put_text(o, "0,");
                        continue;
                }
                visits = s->visits[next++].visits;
                o->at += shares_are_f32 ? decimal_print_f32((float) visits / (float) total, o->at)
                                        : decimal_print_f64(visits / (double) total, o->at);
                *o->at++ = ',';
        }
        put_end(o);
}

static void put_origin(struct out *o, uint64_t origin) {
        for (int shift = 60; shift >= 0; shift -= 4)
                *o->at++ = "0123456789abcdef"[origin >> shift & 0xf];
}

static uint32_t sample_crc(const struct game *g, const struct sample *s) {
        unsigned char bytes[SAMPLE_BYTES_MAX];
        size_t n;
        int r = sample_encode(g, s, bytes, sizeof(bytes), &n);

        assert(r == 0);
        return crc32c(bytes, n);
}

static void put_azpar(struct out *o, const struct game *g, const struct sample *s, uint64_t origin) {
        static_assert(BATCH_FILE_VERSION == 1, "the text below says so");

        put_text(o, ",\"azpar\":{\"version\":1,\"origin\":\"");
        put_origin(o, origin);
        put_text(o, "\",\"slot\":");
        put_u64(o, s->id.slot);
        put_text(o, ",\"incarnation\":");
        put_u64(o, s->id.incarnation);
        put_text(o, ",\"sequence\":");
        put_u64(o, s->id.sequence);
        put_text(o, ",\"generation\":");
        put_u64(o, s->generation);
        put_text(o, ",\"rules\":\""); /* letters, digits and colons: nothing to escape */
        put_bytes(o, g->rules, strlen(g->rules));
        put_text(o, "\",\"ply\":");
        put_u64(o, s->ply);
        put_text(o, ",\"visits\":[");
        for (unsigned i = 0; i < s->n_visits; i++) {
                put_u64(o, s->visits[i].move);
                *o->at++ = ',';
                put_u64(o, s->visits[i].visits);
                *o->at++ = ',';
        }
        put_end(o);
        put_text(o, ",\"root_value\":");
        o->at += decimal_print_f32(s->root_value, o->at);
        put_text(o, ",\"weight\":");
        o->at += decimal_print_f32(s->weight, o->at);
        put_text(o, ",\"crc\":");
        put_u64(o, sample_crc(g, s));
        *o->at++ = '}';
}

size_t batch_file_write_sample(const struct game *g, const struct sample *s, uint64_t origin,
                               bool shares_are_f32, char *ret) {
        struct out o = { .at = ret };

        assert(s->n_visits > 0 && s->id.slot < BATCH_FILE_MAX_SLOTS);
        put_board(&o, g, s);
        put_policy(&o, g, s, shares_are_f32);
        put_text(&o, ",\"value\":");
        if (s->outcome < 0)
                *o.at++ = '-';
        *o.at++ = s->outcome != 0 ? '1' : '0';
        if (origin != 0)
                put_azpar(&o, g, s, origin);
        *o.at++ = '}';
        assert((size_t) (o.at - ret) <= batch_file_sample_max_bytes(g));
        return (size_t) (o.at - ret);
}
