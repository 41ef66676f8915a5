/* SPDX-License-Identifier: MIT */
/*
 * Samples to msgpack and back; sample.h has the schema.
 *
 * Workers encode, azpard decodes each sample once to check it, the trainer
 * decodes what it draws.
 *
 * Encoding goes through msgpack-c's packer into the caller's buffer.  Decoding
 * does not go through its unpacker: that one builds any tree that the bytes
 * ask for, and allocates by lengths from the wire ("dd ff ff ff ff" asks for
 * 96 GB).  Here a cursor walks over the bytes, each field says which type it
 * wants and which values, and the first that differs ends the walk with the
 * field's name, the offset and what was found.  Nothing is ever skipped, so
 * there is no nesting to follow either.
 */
#include "common/exchange/sample.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <msgpack.h>

#define N_FIELDS 12

static_assert(GAME_MAX_MOVES * 2 <= UINT16_MAX && GAME_MAX_PLIES <= UINT16_MAX,
              "an array 16 is the largest header");
/* array header, version, five integers, rules, planes, policy's header, pairs, floats and outcome */
static_assert(SAMPLE_BYTES_MAX >= 1 + 1 + 5 * 9 + 2 + GAME_RULES_MAX + 2 + GAME_MAX_PLANES_BYTES + 3 +
                                          6 * GAME_MAX_MOVES + 11,
              "every game's sample fits");
static_assert(GAME_RULES_MAX <= UINT8_MAX && GAME_MAX_PLANES_BYTES <= UINT8_MAX, "str 8 and bin 8 hold them");

/* Sizes */

static size_t uint_bytes(uint64_t x) {
        return x < 128 ? 1 : x <= UINT8_MAX ? 2 : x <= UINT16_MAX ? 3 : x <= UINT32_MAX ? 5 : 9;
}

static size_t array_header_bytes(size_t n) {
        return n < 16 ? 1 : 3;
}

static size_t str_bytes(size_t n) {
        return (n < 32 ? 1 : 2) + n;
}

/* The bytes of all moves of @g as integers: one each, a second from 128 on, a third from 256 on. */
static size_t all_moves_bytes(const struct game *g) {
        size_t n = g->moves;

        return n + (n > 128 ? n - 128 : 0) + (n > 256 ? n - 256 : 0);
}

/* Each field at its longest, in the order of the schema. */
size_t sample_max_bytes(const struct game *g) {
        size_t n = array_header_bytes(N_FIELDS) + uint_bytes(SAMPLE_SCHEMA);

        n += 4 * uint_bytes(UINT64_MAX); /* slot, incarnation, sequence, generation */
        n += str_bytes(strlen(g->rules));
        n += uint_bytes(g->max_plies);
        n += 2 + GAME_PLANES_BYTES(g); /* bin 8 */
        n += array_header_bytes(2 * (size_t) g->moves);
        n += all_moves_bytes(g) + g->moves * uint_bytes(UINT16_MAX);
        return n + 5 + 1 + 5; /* root value, outcome, weight */
}

size_t sample_record_max_bytes(const struct game *g) {
        return array_header_bytes(g->max_plies) + g->max_plies * sample_max_bytes(g);
}

/* Encoding */

struct sink {
        unsigned char *bytes;
        size_t n, size;
};

/* msgpack-c's callback: not 0 stops the packer. */
static int sink_write(void *data, const char *bytes, size_t n) {
        struct sink *s = data;

        unsigned char *to = s->bytes + s->n;

        if (n > s->size - s->n)
                return -1;
        s->n += n;
        /* what integers and floats come in, without a call for each of about 50 in a sample: a third of the
         * time */
        switch (n) {
        case 1:
                *to = (unsigned char) *bytes;
                return 0;
        case 2:
                memcpy(to, bytes, 2);
                return 0;
        case 3:
                memcpy(to, bytes, 3);
                return 0;
        case 5:
                memcpy(to, bytes, 5);
                return 0;
        default:
                memcpy(to, bytes, n);
                return 0;
        }
}

static bool float_in(float x, float low, float high) {
        return x >= low && x <= high; /* false for NaN */
}

static void assert_sound(const struct game *g, const struct sample *s) {
        assert(s->ply < g->max_plies);
        assert(s->n_visits > 0 && s->n_visits <= g->moves);
        assert(s->outcome >= -1 && s->outcome <= 1);
        assert(float_in(s->root_value, -SAMPLE_VALUE_LIMIT, SAMPLE_VALUE_LIMIT));
        assert(float_in(s->weight, 0, SAMPLE_WEIGHT_LIMIT));
        for (unsigned i = 0; i < s->n_visits; i++) {
                assert(s->visits[i].visits > 0 && s->visits[i].move < g->moves);
                assert(i == 0 || s->visits[i].move > s->visits[i - 1].move);
        }
}

static int pack_sample(msgpack_packer *pk, const struct game *g, const struct sample *s) {
        size_t n_rules = strlen(g->rules), n_planes = GAME_PLANES_BYTES(g);
        int r;

        assert_sound(g, s);
        r = msgpack_pack_array(pk, N_FIELDS);
        r |= msgpack_pack_uint32(pk, SAMPLE_SCHEMA);
        r |= msgpack_pack_uint64(pk, s->id.slot);
        r |= msgpack_pack_uint64(pk, s->id.incarnation);
        r |= msgpack_pack_uint64(pk, s->id.sequence);
        r |= msgpack_pack_uint64(pk, s->generation);
        r |= msgpack_pack_str(pk, n_rules);
        r |= msgpack_pack_str_body(pk, g->rules, n_rules);
        r |= msgpack_pack_uint16(pk, s->ply);
        r |= msgpack_pack_bin(pk, n_planes);
        r |= msgpack_pack_bin_body(pk, s->planes, n_planes);
        r |= msgpack_pack_array(pk, 2 * (size_t) s->n_visits);
        for (unsigned i = 0; i < s->n_visits; i++) {
                r |= msgpack_pack_uint16(pk, s->visits[i].move);
                r |= msgpack_pack_uint16(pk, s->visits[i].visits);
        }
        r |= msgpack_pack_float(pk, s->root_value);
        r |= msgpack_pack_int8(pk, s->outcome);
        r |= msgpack_pack_float(pk, s->weight);
        return r ? -ENOBUFS : 0;
}

int sample_encode_record(const struct game *g, const struct sample *samples, size_t n, unsigned char *buf,
                         size_t size, size_t *ret_length) {
        struct sink sink = { .bytes = buf, .n = 0, .size = size };
        msgpack_packer pk;
        int r;

        assert(n > 0 && n <= g->max_plies);
        msgpack_packer_init(&pk, &sink, sink_write);
        r = msgpack_pack_array(&pk, n) ? -ENOBUFS : 0;
        for (size_t i = 0; i < n && r == 0; i++)
                r = pack_sample(&pk, g, &samples[i]);
        if (r < 0)
                return r;
        *ret_length = sink.n;
        return 0;
}

int sample_encode(const struct game *g, const struct sample *s, unsigned char *buf, size_t size,
                  size_t *ret_length) {
        struct sink sink = { .bytes = buf, .n = 0, .size = size };
        msgpack_packer pk;
        int r;

        msgpack_packer_init(&pk, &sink, sink_write);
        r = pack_sample(&pk, g, s);
        if (r < 0)
                return r;
        *ret_length = sink.n;
        return 0;
}

/* Decoding */

struct cursor {
        const unsigned char *bytes;
        size_t at, n; /* at <= n */
        struct error *error;
};

static int refuse(const struct cursor *c, size_t at, const char *field, const char *reason) {
        if (at >= c->n)
                return error_set(c->error, -EBADMSG, "%s at offset %zu: bytes end there, %s expected", field,
                                 at, reason);
        return error_set(c->error, -EBADMSG, "%s at offset %zu: %s expected, bytes start with %02x", field,
                         at, reason, c->bytes[at]);
}

/* The value of @n big-endian bytes at @p. */
static inline uint64_t big_endian(const unsigned char *p, size_t n) {
        uint64_t x = 0;

        for (size_t i = 0; i < n; i++)
                x = x << 8 | p[i];
        return x;
}

/*
 * Take an unsigned integer of any msgpack width; the type byte is one of positive fixint (00..7f) and
 * uint 8, 16, 32, 64 (cc, cd, ce, cf).  Return: whether there was one, whole.
 */
static inline bool take_uint(struct cursor *c, uint64_t *ret) {
        size_t n_bytes;
        unsigned char type;

        if (c->at >= c->n)
                return false;
        type = c->bytes[c->at];
        if (type < 0x80) {
                *ret = type;
                c->at++;
                return true;
        }
        if (type < 0xcc || type > 0xcf)
                return false;
        n_bytes = (size_t) 1 << (type - 0xcc);
        if (c->n - c->at - 1 < n_bytes)
                return false;
        *ret = big_endian(c->bytes + c->at + 1, n_bytes);
        c->at += 1 + n_bytes;
        return true;
}

static int read_uint(struct cursor *c, const char *field, uint64_t max, uint64_t *ret) {
        size_t at = c->at;

        if (!take_uint(c, ret))
                return refuse(c, at, field, "an unsigned integer");
        if (*ret > max)
                return error_set(c->error, -EBADMSG,
                                 "%s at offset %zu: %" PRIu64 ", at most %" PRIu64 " expected", field, at,
                                 *ret, max);
        return 0;
}

/* The count of a fixarray (90..9f), array 16 (dc) or array 32 (dd), not above @max. */
static int read_array(struct cursor *c, const char *field, uint64_t max, uint64_t *ret) {
        size_t at = c->at, left = c->n - at;
        unsigned char type = left ? c->bytes[at] : 0;

        if ((type & 0xf0) == 0x90) {
                *ret = type & 0x0f;
                c->at += 1;
        } else if ((type == 0xdc && left >= 3) || (type == 0xdd && left >= 5)) {
                size_t n_bytes = type == 0xdc ? 2 : 4;

                *ret = big_endian(c->bytes + at + 1, n_bytes);
                c->at += 1 + n_bytes;
        } else
                return refuse(c, at, field, "an array");
        if (*ret > max)
                return error_set(c->error, -EBADMSG,
                                 "%s at offset %zu: array of %" PRIu64 ", at most %" PRIu64 " expected",
                                 field, at, *ret, max);
        return 0;
}

/*
 * The bytes of a str or bin of exactly @n bytes.  @type_8 is the type byte with an 8-bit length (d9, c4), the
 * one with 16 bits is @type_8 + 1; 32 bits are never needed for what fits here.
 */
static int read_bytes(struct cursor *c, const char *field, unsigned char type_8, size_t n,
                      const unsigned char **ret) {
        size_t at = c->at, left = c->n - at, n_header, length;
        unsigned char type = left ? c->bytes[at] : 0;
        bool is_str = type_8 == 0xd9;

        if (is_str && (type & 0xe0) == 0xa0) {
                n_header = 1;
                length = type & 0x1f;
        } else if (left >= 2 && type == type_8) {
                n_header = 2;
                length = c->bytes[at + 1];
        } else if (left >= 3 && type == type_8 + 1) {
                n_header = 3;
                length = (size_t) big_endian(c->bytes + at + 1, 2);
        } else
                return refuse(c, at, field, is_str ? "a string" : "binary data");
        if (length != n)
                return error_set(c->error, -EBADMSG, "%s at offset %zu: %zu bytes, %zu expected", field, at,
                                 length, n);
        if (left - n_header < n)
                return refuse(c, c->n, field, is_str ? "more of a string" : "more of binary data");
        *ret = c->bytes + at + n_header;
        c->at += n_header + n;
        return 0;
}

/* A float 32 (ca) within [@low, @high], so never NaN or infinite. */
static int read_float(struct cursor *c, const char *field, float low, float high, float *ret) {
        union {
                uint32_t u;
                float f;
        } x;
        size_t at = c->at;

        if (c->n - at < 5 || c->bytes[at] != 0xca)
                return refuse(c, at, field, "a 32-bit float");
        x.u = (uint32_t) big_endian(c->bytes + at + 1, 4);
        if (!float_in(x.f, low, high))
                return error_set(c->error, -EBADMSG, "%s at offset %zu: %g, %g to %g expected", field, at,
                                 (double) x.f, (double) low, (double) high);
        *ret = x.f;
        c->at += 5;
        return 0;
}

/* -1, 0 or 1, each one byte. */
static int read_outcome(struct cursor *c, int8_t *ret) {
        unsigned char type = c->at < c->n ? c->bytes[c->at] : 0x80;

        if (type > 1 && type != 0xff)
                return refuse(c, c->at, "outcome", "-1, 0 or 1");
        *ret = (int8_t) type;
        c->at++;
        return 0;
}

static int read_head(struct cursor *c, struct sample_id *ret) {
        uint64_t n_fields, schema;
        size_t at = c->at;
        int r;

        r = read_array(c, "sample", N_FIELDS, &n_fields);
        if (r < 0)
                return r;
        if (n_fields != N_FIELDS)
                return error_set(c->error, -EBADMSG, "sample at offset %zu: %" PRIu64 " fields, %d expected",
                                 at, n_fields, N_FIELDS);
        at = c->at;
        r = read_uint(c, "schema version", UINT64_MAX, &schema);
        if (r < 0)
                return r;
        if (schema != SAMPLE_SCHEMA)
                return error_set(c->error, -EBADMSG, "schema version at offset %zu: %" PRIu64 ", %u expected",
                                 at, schema, SAMPLE_SCHEMA);
        r = read_uint(c, "slot", UINT64_MAX, &ret->slot);
        if (r == 0)
                r = read_uint(c, "incarnation", UINT64_MAX, &ret->incarnation);
        if (r == 0)
                r = read_uint(c, "sequence", UINT64_MAX, &ret->sequence);
        return r;
}

static int read_position(struct cursor *c, const struct game *g, struct sample *ret) {
        size_t n_rules = strlen(g->rules), n_planes = GAME_PLANES_BYTES(g), at = c->at;
        unsigned n_bits = (unsigned) g->planes * g->cells;
        const unsigned char *p;
        uint64_t ply;
        int r;

        r = read_bytes(c, "rules", 0xd9, n_rules, &p);
        if (r < 0)
                return r;
        if (memcmp(p, g->rules, n_rules) != 0)
                return error_set(c->error, -EBADMSG, "rules at offset %zu: not '%s'", at, g->rules);
        r = read_uint(c, "ply", g->max_plies - 1u, &ply);
        if (r < 0)
                return r;
        ret->ply = (uint16_t) ply;
        r = read_bytes(c, "planes", 0xc4, n_planes, &p);
        if (r < 0)
                return r;
        if (n_bits % 8 != 0 && p[n_planes - 1] >> (n_bits % 8) != 0)
                return error_set(c->error, -EBADMSG, "planes at offset %zu: unused bits are set", c->at - 1);
        memcpy(ret->planes, p, n_planes);
        return 0;
}

static int read_policy(struct cursor *c, const struct game *g, struct sample *ret) {
        size_t at = c->at;
        uint64_t n;
        int next_move = 0, r;

        r = read_array(c, "policy", 2 * (uint64_t) g->moves, &n);
        if (r < 0)
                return r;
        if (n == 0 || n % 2 != 0)
                return error_set(c->error, -EBADMSG,
                                 "policy at offset %zu: array of %" PRIu64
                                 ", pairs of move and visits expected",
                                 at, n);
        for (unsigned i = 0; i < n / 2; i++) {
                uint64_t move, visits;

                at = c->at;
                if (!take_uint(c, &move))
                        return refuse(c, at, "move", "an unsigned integer");
                if (move >= g->moves || (int) move < next_move)
                        return error_set(c->error, -EBADMSG,
                                         "move at offset %zu: %" PRIu64 ", %d to %d expected", at, move,
                                         next_move, g->moves - 1);
                at = c->at;
                if (!take_uint(c, &visits))
                        return refuse(c, at, "visits", "an unsigned integer");
                if (visits == 0 || visits > UINT16_MAX)
                        return error_set(c->error, -EBADMSG,
                                         "visits at offset %zu: %" PRIu64 ", 1 to %d expected", at, visits,
                                         UINT16_MAX);
                ret->visits[i] =
                        (struct sample_visit){ .move = (uint16_t) move, .visits = (uint16_t) visits };
                next_move = (int) move + 1;
        }
        ret->n_visits = (uint16_t) (n / 2);
        return 0;
}

int sample_decode(const struct game *g, const unsigned char *bytes, size_t n, struct sample *ret,
                  size_t *ret_length, struct error *e) {
        struct cursor c = { .bytes = bytes, .at = 0, .n = n, .error = e };
        int r;

        r = read_head(&c, &ret->id);
        if (r == 0)
                r = read_uint(&c, "generation", UINT64_MAX, &ret->generation);
        if (r == 0)
                r = read_position(&c, g, ret);
        if (r == 0)
                r = read_policy(&c, g, ret);
        if (r == 0)
                r = read_float(&c, "root value", -SAMPLE_VALUE_LIMIT, SAMPLE_VALUE_LIMIT, &ret->root_value);
        if (r == 0)
                r = read_outcome(&c, &ret->outcome);
        if (r == 0)
                r = read_float(&c, "weight", 0, SAMPLE_WEIGHT_LIMIT, &ret->weight);
        if (r < 0)
                return r;
        /* integers wider than they need be could outgrow a slot of the window */
        if (c.at > sample_max_bytes(g))
                return error_set(e, -EBADMSG, "sample of %zu bytes, at most %zu expected", c.at,
                                 sample_max_bytes(g));
        *ret_length = c.at;
        return 0;
}

int sample_decode_id(const unsigned char *bytes, size_t n, struct sample_id *ret, struct error *e) {
        struct cursor c = { .bytes = bytes, .at = 0, .n = n, .error = e };

        return read_head(&c, ret);
}

int sample_record_open(const struct game *g, const unsigned char *bytes, size_t n, uint32_t *ret_n_samples,
                       size_t *ret_offset, struct error *e) {
        struct cursor c = { .bytes = bytes, .at = 0, .n = n, .error = e };
        uint64_t n_samples;
        int r;

        r = read_array(&c, "record", g->max_plies, &n_samples);
        if (r < 0)
                return r;
        if (n_samples == 0)
                return error_set(e, -EBADMSG, "record at offset 0: no samples");
        *ret_n_samples = (uint32_t) n_samples;
        *ret_offset = c.at;
        return 0;
}
