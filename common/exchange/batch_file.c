/* SPDX-License-Identifier: MIT */
/*
 * Reading batch files; batch_file.h has the format.  Runs in azpard (spilled files) and azparctl (import).
 *
 * A sample is read from its '{' to its '}' in one go.  If the text ends before, all of it is read again when
 * there is more: pieces are many times larger than a sample, and a parser that could stop anywhere would be
 * slower always, to be quicker then.
 *
 * Nine tenths of a file are the numbers 0 and 1, written "0", "1", "0.0" or "1.0", with a comma and no space
 * behind them. Eight of these are compared and taken at once; whatever does not look so goes number by
 * number.
 */
#include "common/exchange/batch_file.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "common/base/crc32c.h"
#include "common/base/json_scan.h"
#include "common/exchange/shares.h"

#define KEY_MAX         16   /* bytes; no key of ours is as long */
#define SUM_TOLERANCE   1e-3 /* of all shares, to 1: what single precision loses over 400 moves is 1e-5 */
#define SHARE_TOLERANCE 1e-6 /* a share beside its visits: single precision is off by 6e-8 at most */

/* Where the reader is between two samples. */
enum { AT_START, BEFORE_FIRST, BEFORE_SAMPLE, BEHIND_SAMPLE, AT_END };

/* One sample on its way. */
struct reading {
        const struct game *game;
        struct json_scan *scan;
        struct sample *sample;
        uint64_t origin;
        uint32_t crc;
        unsigned n_shares; /* above 0 */
        uint16_t moves[GAME_MAX_MOVES];
        double shares[GAME_MAX_MOVES];
};

struct key {
        const char *name, *field; /* as in the text, as in messages */
        int (*read)(struct reading *r);
        bool is_optional;
};

/* Numbers 0 and 1 */

#define BITS_SHORT UINT64_C(0x0001000100010001) /* what may differ in "0,0,0,0," */
#define BITS_LONG  UINT64_C(0x0000000100000001) /* in "0.0,0.0," */

static inline uint64_t load(const char *p) {
        uint64_t x;

        memcpy(&x, p, sizeof(x));
        return le64toh(x);
}

/* Eight times "0," or "1,". Return: whether there are, with bit i of *ret set if the i-th is 1. */
static inline bool see_eight_short(const char *p, unsigned char *ret) {
        const uint64_t zeros = UINT64_C(0x2c302c302c302c30);
        uint64_t a = load(p) ^ zeros, b = load(p + 8) ^ zeros;

        if ((a | b) & ~BITS_SHORT)
                return false;
        /* the factor puts bits 0, 16, 32, 48 next to each other, at bit 48 */
        *ret = (unsigned char) ((a * UINT64_C(0x0001000200040008) >> 48 & 0xf) |
                                (b * UINT64_C(0x0001000200040008) >> 44 & 0xf0));
        return true;
}

/* Eight times "0.0," or "1.0,". */
static inline bool see_eight_long(const char *p, unsigned char *ret) {
        const uint64_t zeros = UINT64_C(0x2c302e302c302e30);
        uint64_t a = load(p) ^ zeros, b = load(p + 8) ^ zeros, c = load(p + 16) ^ zeros,
                 d = load(p + 24) ^ zeros;

        if ((a | b | c | d) & ~BITS_LONG)
                return false;
        a |= b << 2 | c << 4 | d << 6; /* even ones from bit 0 on, odd ones from bit 32 on */
        *ret = (unsigned char) (a | a >> 31);
        return true;
}

/* Eight such numbers in a row, each with its comma. Return: their bytes; 0: something else. */
static inline size_t see_eight(const struct json_scan *s, unsigned char *ret) {
        size_t n = (size_t) (s->end - s->at);

        if (n >= 32 && s->at[1] == '.')
                return see_eight_long(s->at, ret) ? 32 : 0;
        return n >= 16 && see_eight_short(s->at, ret) ? 16 : 0;
}

static inline bool ends_number(char c) {
        return c == ',' || c == ']' || json_scan_is_space(c);
}

/* One of "0", "1", "0.0", "1.0" with what ends it. Return: its bytes without that; 0: something else. */
static inline size_t see_one(const struct json_scan *s, unsigned *ret) {
        const char *p = s->at;
        size_t n = (size_t) (s->end - p);

        if (n < 4 || (p[0] | 1) != '1')
                return 0;
        *ret = p[0] & 1;
        if (ends_number(p[1]))
                return 1;
        return p[1] == '.' && p[2] == '0' && ends_number(p[3]) ? 3 : 0;
}

/* Arrays of known length */

/* Behind the @i-th of @n numbers: a comma, or the end behind the last. */
static inline int take_separator(struct reading *rd, unsigned i, unsigned n) {
        struct json_scan *s = rd->scan;
        char want = i + 1 < n ? ',' : ']', expected[64];
        int r;

        if (s->at < s->end && *s->at == want) {
                s->at++;
                return 0;
        }
        r = json_scan_space(s);
        if (r != 0)
                return r;
        if (*s->at != want) {
                (void) snprintf(expected, sizeof(expected), "'%c' after number %u of %u", want, i + 1, n);
                return json_scan_refuse(s, s->at, expected);
        }
        s->at++;
        return 0;
}

/* The i-th number of the board. */
static inline int take_bit(struct reading *rd, unsigned *ret) {
        struct json_scan *s = rd->scan;
        double x;
        size_t n;
        int r;

        r = json_scan_space(s);
        if (r != 0)
                return r;
        n = see_one(s, ret);
        if (n > 0) {
                s->at += n;
                return 0;
        }
        r = json_scan_f64(s, &x);
        if (r != 0)
                return r;
        if (x != 0 && x != 1)
                return json_scan_refuse_value(s, "0 or 1");
        *ret = x != 0;
        return 0;
}

static int read_board(struct reading *rd) {
        unsigned n = (unsigned) rd->game->planes * rd->game->cells, i = 0, bit = 0;
        unsigned char *planes = rd->sample->planes;
        struct json_scan *s = rd->scan;
        int r = json_scan_byte(s, '[', "'['");

        memset(planes, 0, GAME_PLANES_BYTES(rd->game));
        while (r == 0 && i < n) {
                size_t n_bytes = 0;

                /* the last one has no comma */
                while (i % 8 == 0 && i + 8 < n && (n_bytes = see_eight(s, &planes[i / 8])) > 0) {
                        s->at += n_bytes;
                        i += 8;
                }
                s->index = i;
                r = take_bit(rd, &bit);
                if (r == 0) {
                        planes[i / 8] |= (unsigned char) (bit << i % 8);
                        r = take_separator(rd, i, n);
                }
                i++;
        }
        return r;
}

static inline int take_share(struct reading *rd, double *ret) {
        struct json_scan *s = rd->scan;
        unsigned bit;
        size_t n;
        int r;

        r = json_scan_space(s);
        if (r != 0)
                return r;
        n = see_one(s, &bit);
        if (n > 0) {
                s->at += n;
                *ret = bit;
                return 0;
        }
        r = json_scan_f64(s, ret);
        if (r != 0)
                return r;
        if (!(*ret >= 0 && *ret <= 1))
                return json_scan_refuse_value(s, "a share from 0 to 1");
        return 0;
}

static int read_policy(struct reading *rd) {
        unsigned n = rd->game->moves, i = 0;
        struct json_scan *s = rd->scan;
        double sum = 0, share = 0;
        const char *begin;
        int r = json_scan_byte(s, '[', "'['");

        begin = s->at - 1;
        while (r == 0 && i < n) {
                unsigned char ones;
                size_t n_bytes;

                while (i + 8 < n && (n_bytes = see_eight(s, &ones)) > 0 && ones == 0) {
                        s->at += n_bytes;
                        i += 8;
                }
                s->index = i;
                r = take_share(rd, &share);
                if (r != 0)
                        return r;
                if (share > 0) {
                        rd->moves[rd->n_shares] = (uint16_t) i;
                        rd->shares[rd->n_shares++] = share;
                        sum += share;
                }
                r = take_separator(rd, i++, n);
        }
        s->index = -1;
        if (r == 0 && !(fabs(sum - 1) <= SUM_TOLERANCE))
                return json_scan_refuse(s, begin, "a sum of 1");
        return r;
}

static int read_value(struct reading *rd) {
        double x;
        int r = json_scan_f64(rd->scan, &x);

        if (r != 0)
                return r;
        if (x != -1 && x != 0 && x != 1)
                return json_scan_refuse_value(rd->scan, "-1, 0 or 1");
        rd->sample->outcome = (int8_t) x;
        return 0;
}

/* What stands below the key azpar */

static int read_version(struct reading *rd) {
        uint64_t version;
        int r = json_scan_u64(rd->scan, UINT64_MAX, &version);

        if (r == 0 && version != BATCH_FILE_VERSION)
                return json_scan_refuse_value(rd->scan, "version 1");
        return r;
}

static int read_origin(struct reading *rd) {
        uint64_t origin = 0;
        char text[16];
        size_t n;
        int r;

        r = json_scan_string(rd->scan, text, sizeof(text), &n);
        if (r != 0)
                return r;
        for (size_t i = 0; i < MIN(n, sizeof(text)); i++) {
                bool is_digit = text[i] >= '0' && text[i] <= '9';

                if (!is_digit && (text[i] < 'a' || text[i] > 'f'))
                        n = 0;
                origin = origin << 4 | (uint64_t) (is_digit ? text[i] - '0' : text[i] - 'a' + 10);
        }
        if (n != sizeof(text) || origin == 0)
                return json_scan_refuse_value(rd->scan, "16 of 0123456789abcdef, not all 0,");
        rd->origin = origin;
        return 0;
}

static int read_rules(struct reading *rd) {
        char text[GAME_RULES_MAX], expected[GAME_RULES_MAX + 16];
        size_t n;
        int r;

        r = json_scan_string(rd->scan, text, sizeof(text), &n);
        if (r != 0)
                return r;
        if (n != strlen(rd->game->rules) || memcmp(text, rd->game->rules, n) != 0) {
                (void) snprintf(expected, sizeof(expected), "\"%s\"", rd->game->rules);
                return json_scan_refuse_value(rd->scan, expected);
        }
        return 0;
}

static int read_slot(struct reading *rd) {
        return json_scan_u64(rd->scan, BATCH_FILE_MAX_SLOTS - 1, &rd->sample->id.slot);
}

static int read_incarnation(struct reading *rd) {
        return json_scan_u64(rd->scan, UINT64_MAX, &rd->sample->id.incarnation);
}

static int read_sequence(struct reading *rd) {
        return json_scan_u64(rd->scan, UINT64_MAX, &rd->sample->id.sequence);
}

static int read_generation(struct reading *rd) {
        return json_scan_u64(rd->scan, UINT64_MAX, &rd->sample->generation);
}

static int read_ply(struct reading *rd) {
        uint64_t ply = 0;
        int r = json_scan_u64(rd->scan, rd->game->max_plies - 1u, &ply);

        rd->sample->ply = (uint16_t) ply;
        return r;
}

static int read_crc(struct reading *rd) {
        uint64_t crc = 0;
        int r = json_scan_u64(rd->scan, UINT32_MAX, &crc);

        rd->crc = (uint32_t) crc;
        return r;
}

static int read_f32(struct json_scan *s, float low, float high, float *ret) {
        char expected[64];
        double x;
        int r;

        r = json_scan_f64(s, &x);
        if (r != 0)
                return r;
        *ret = fabs(x) < 1e6 ? (float) x : NAN;
        if (!(*ret >= low && *ret <= high)) {
                (void) snprintf(expected, sizeof(expected), "a number from %d to %d", (int) low, (int) high);
                return json_scan_refuse_value(s, expected);
        }
        return 0;
}

static int read_root_value(struct reading *rd) {
        return read_f32(rd->scan, -SAMPLE_VALUE_LIMIT, SAMPLE_VALUE_LIMIT, &rd->sample->root_value);
}

static int read_weight(struct reading *rd) {
        return read_f32(rd->scan, 0, SAMPLE_WEIGHT_LIMIT, &rd->sample->weight);
}

/* One move with its visits; @next_move: moves below it came before. */
static int read_pair(struct reading *rd, uint64_t next_move, struct sample_visit *ret) {
        struct json_scan *s = rd->scan;
        uint64_t move, visits;
        int r;

        r = json_scan_u64(s, rd->game->moves - 1u, &move);
        if (r == 0 && move < next_move)
                return json_scan_refuse_value(s, "a move above the one before");
        if (r == 0)
                r = json_scan_byte(s, ',', "',' and visits");
        s->index++;
        if (r == 0)
                r = json_scan_u64(s, UINT16_MAX, &visits);
        if (r == 0 && visits == 0)
                return json_scan_refuse_value(s, "visits, 1 or more,");
        if (r == 0)
                *ret = (struct sample_visit){ .move = (uint16_t) move, .visits = (uint16_t) visits };
        return r;
}

static int read_visits(struct reading *rd) {
        struct sample_visit *visits = rd->sample->visits;
        struct json_scan *s = rd->scan;
        bool is_more = true;
        unsigned n = 0;
        int r = json_scan_byte(s, '[', "'['");

        /* moves ascend and stay below game->moves, so there are never more than fit */
        for (; r == 0 && is_more; n++) {
                s->index = 2 * (int64_t) n;
                r = read_pair(rd, n > 0 ? visits[n - 1].move + 1u : 0, &visits[n]);
                if (r == 0)
                        r = json_scan_is_more(s, ']', &is_more);
        }
        rd->sample->n_visits = (uint16_t) n;
        return r;
}

/* Objects */

/* One key with its value. @seen: a bit for each of @keys. */
static int read_member(struct reading *rd, const struct key *keys, size_t n_keys, unsigned *seen) {
        struct json_scan *s = rd->scan;
        char name[KEY_MAX], expected[KEY_MAX + 24];
        const struct key *key = NULL;
        size_t n;
        int r;

        r = json_scan_string(s, name, sizeof(name), &n);
        if (r != 0)
                return r;
        for (size_t i = 0; i < n_keys && !key; i++)
                if (n < sizeof(name) && strlen(keys[i].name) == n && memcmp(keys[i].name, name, n) == 0)
                        key = &keys[i];
        if (key && *seen >> (key - keys) & 1) {
                (void) snprintf(expected, sizeof(expected), "no second key '%s'", key->name);
                return json_scan_refuse_value(s, expected);
        }
        r = json_scan_byte(s, ':', "':'");
        if (r != 0)
                return r;
        if (!key)
                return json_scan_value(s);
        *seen |= 1u << (key - keys);
        s->field = key->field;
        return key->read(rd);
}

/* @field: of the object itself, for messages. */
static int read_object(struct reading *rd, const struct key *keys, size_t n_keys, const char *field) {
        struct json_scan *s = rd->scan;
        char expected[KEY_MAX + 16];
        bool is_empty, is_more;
        unsigned seen = 0;
        int r;

        r = json_scan_byte(s, '{', "'{'");
        if (r == 0)
                r = json_scan_is_empty(s, '}', &is_empty);
        if (r != 0)
                return r;
        is_more = !is_empty;
        while (is_more) {
                r = read_member(rd, keys, n_keys, &seen);
                if (r != 0)
                        return r;
                s->field = field;
                s->index = -1;
                r = json_scan_is_more(s, '}', &is_more);
                if (r != 0)
                        return r;
        }
        for (size_t i = 0; i < n_keys; i++)
                if (!(seen >> i & 1) && !keys[i].is_optional) {
                        (void) snprintf(expected, sizeof(expected), "a key '%s'", keys[i].name);
                        return json_scan_refuse(s, s->at - 1, expected);
                }
        return 0;
}

static int read_azpar(struct reading *rd) {
        static const struct key keys[] = {
                { "version", "azpar.version", read_version, false },
                { "origin", "azpar.origin", read_origin, false },
                { "slot", "azpar.slot", read_slot, false },
                { "incarnation", "azpar.incarnation", read_incarnation, false },
                { "sequence", "azpar.sequence", read_sequence, false },
                { "generation", "azpar.generation", read_generation, false },
                { "rules", "azpar.rules", read_rules, false },
                { "ply", "azpar.ply", read_ply, false },
                { "visits", "azpar.visits", read_visits, false },
                { "root_value", "azpar.root_value", read_root_value, false },
                { "weight", "azpar.weight", read_weight, false },
                { "crc", "azpar.crc", read_crc, false },
        };

        return read_object(rd, keys, N_ELEMENTS(keys), "azpar");
}

/* The whole sample */

/* Ones among the first @n bits. */
static unsigned count_ones(const unsigned char *bits, size_t n) {
        unsigned count = 0;

        for (size_t i = 0; i < n / 8; i++)
                count += (unsigned) __builtin_popcount(bits[i]);
        if (n % 8)
                count += (unsigned) __builtin_popcount(bits[n / 8] & ((1u << n % 8) - 1));
        return count;
}

/* Without the key azpar: the rest from what there is. */
static int complete(struct reading *rd, struct batch_file_item *item) {
        struct sample *s = rd->sample;
        uint16_t visits[GAME_MAX_MOVES];
        enum shares_kind kind;
        unsigned ply;

        ply = count_ones(s->planes, 2 * (size_t) rd->game->cells);
        if (ply >= rd->game->max_plies)
                return error_set(rd->scan->error, -EBADMSG, "board: %u stones, at most %u expected", ply,
                                 rd->game->max_plies - 1u);
        s->id = (struct sample_id){ 0 };
        s->generation = 0;
        s->ply = (uint16_t) ply;
        s->root_value = s->outcome;
        s->weight = 1;
        s->n_visits = 0;
        kind = shares_to_visits(rd->shares, rd->n_shares, visits);
        for (unsigned i = 0; i < rd->n_shares; i++)
                if (visits[i] > 0)
                        s->visits[s->n_visits++] =
                                (struct sample_visit){ .move = rd->moves[i], .visits = visits[i] };
        item->shares_are_f32 = kind == SHARES_ARE_F32;
        item->is_rounded = kind == SHARES_ROUNDED;
        return 0;
}

/* Whether the policy says the same as the visits below the key azpar. */
static int check_shares(const struct reading *rd) {
        const struct sample *s = rd->sample;
        uint32_t total = 0;
        unsigned i = 0, k = 0;

        for (unsigned v = 0; v < s->n_visits; v++)
                total += s->visits[v].visits;
        while (i < rd->n_shares || k < s->n_visits) {
                unsigned move_i = i < rd->n_shares ? rd->moves[i] : GAME_NO_MOVE;
                unsigned move_k = k < s->n_visits ? s->visits[k].move : GAME_NO_MOVE,
                         move = MIN(move_i, move_k);
                double share = move == move_i ? rd->shares[i++] : 0;
                double want = move == move_k ? s->visits[k++].visits / (double) total : 0;

                if (fabs(share - want) > SHARE_TOLERANCE)
                        return error_set(rd->scan->error, -EBADMSG,
                                         "policy[%u]: %g, but by azpar.visits it is %g", move, share, want);
        }
        return 0;
}

/* With it: it must say the same as the other keys, and all of it what its checksum says. */
static int verify(const struct reading *rd) {
        unsigned char bytes[SAMPLE_BYTES_MAX];
        uint32_t crc;
        size_t n;
        int r;

        r = check_shares(rd);
        if (r < 0)
                return r;
        r = sample_encode(rd->game, rd->sample, bytes, sizeof(bytes), &n);
        assert(r == 0);
        crc = crc32c(bytes, n);
        if (crc != rd->crc)
                return error_set(rd->scan->error, -EBADMSG,
                                 "azpar.crc: %" PRIu32 ", but the sample's is %" PRIu32, rd->crc, crc);
        return 0;
}

static int read_sample(const struct game *g, struct json_scan *s, struct batch_file_item *ret) {
        static const struct key keys[] = {
                { "board", "board", read_board, false },
                { "policy", "policy", read_policy, false },
                { "value", "value", read_value, false },
                { "azpar", "azpar", read_azpar, true },
        };
        struct reading rd;
        int r;

        /* not all of it: it is large, and most is written before it is read */
        rd.game = g;
        rd.scan = s;
        rd.sample = &ret->sample;
        rd.origin = 0;
        rd.n_shares = 0;
        r = read_object(&rd, keys, N_ELEMENTS(keys), "");
        if (r != 0)
                return r;
        ret->origin = rd.origin;
        ret->shares_are_f32 = ret->is_rounded = false;
        return rd.origin != 0 ? verify(&rd) : complete(&rd, ret);
}

/* The file */

void batch_file_reader_init(struct batch_file_reader *r, const struct game *g) {
        assert(g->planes >= 2); /* the stones of either side, by which plies are counted */
        *r = (struct batch_file_reader){ .game = g, .state = AT_START };
}

/* What may stand where the reader is. */
static const char *const expected_at[] = {
        [AT_START] = "'['",        [BEFORE_FIRST] = "'{' or ']'",
        [BEFORE_SAMPLE] = "'{'",   [BEHIND_SAMPLE] = "',' or ']'",
        [AT_END] = "nothing more",
};

/* Up to the '{' of the next sample. Return as json_scan_value(). */
static int find_sample(struct json_scan *s, unsigned *state) {
        for (;;) {
                int r = json_scan_space(s);

                if (r != 0)
                        return r;
                if (*s->at == '{' && (*state == BEFORE_FIRST || *state == BEFORE_SAMPLE))
                        return 0;
                if (*s->at == '[' && *state == AT_START)
                        *state = BEFORE_FIRST;
                else if (*s->at == ',' && *state == BEHIND_SAMPLE)
                        *state = BEFORE_SAMPLE;
                else if (*s->at == ']' && (*state == BEFORE_FIRST || *state == BEHIND_SAMPLE))
                        *state = AT_END;
                else
                        return json_scan_refuse(s, s->at, expected_at[*state]);
                s->at++;
        }
}

/* The text ended within a sample that begins at @begin. */
static int ends_within(const struct batch_file_reader *r, const struct json_scan *s, const char *begin,
                       bool is_last) {
        if ((size_t) (s->end - begin) >= BATCH_FILE_SAMPLE_MAX)
                return error_set(s->error, -EBADMSG, "longer than %" PRIu32 " bytes", BATCH_FILE_SAMPLE_MAX);
        if (is_last)
                return error_set(s->error, -EBADMSG, "the file ends in the middle, at byte %" PRIu64,
                                 r->offset + (uint64_t) (s->end - s->text));
        return BATCH_FILE_E_MORE;
}

/* Leave what was used behind. */
static void use(struct batch_file_reader *r, const struct json_scan *s, const char *upto, size_t *ret_used) {
        *ret_used = (size_t) (upto - s->text);
        r->offset += *ret_used;
}

int batch_file_read(struct batch_file_reader *r, const char *text, size_t n, bool is_last, size_t *ret_used,
                    struct batch_file_item *ret, struct error *e) {
        struct json_scan s = { .at = text,
                               .end = text + n,
                               .text = text,
                               .offset = r->offset,
                               .field = "",
                               .index = -1,
                               .error = e };
        const char *begin;
        int x;

        x = find_sample(&s, &r->state);
        if (x < 0)
                return x;
        if (x == JSON_SCAN_E_ENDS) {
                if (is_last && r->state != AT_END)
                        return error_set(e, -EBADMSG, "byte %" PRIu64 ": the file ends, %s expected",
                                         r->offset + n, expected_at[r->state]);
                use(r, &s, s.end, ret_used);
                return is_last ? BATCH_FILE_E_END : BATCH_FILE_E_MORE;
        }
        begin = s.at;
        if (s.end - begin > BATCH_FILE_SAMPLE_MAX)
                s.end = begin + BATCH_FILE_SAMPLE_MAX;
        x = read_sample(r->game, &s, ret);
        if (x == JSON_SCAN_E_ENDS)
                x = ends_within(r, &s, begin, is_last);
        if (x < 0) {
                error_prefix(e, "sample %" PRIu64 " (byte %" PRIu64 ")", r->n_samples,
                             r->offset + (uint64_t) (begin - text));
                return x;
        }
        use(r, &s, x == 0 ? s.at : begin, ret_used);
        if (x == 0) {
                r->state = BEHIND_SAMPLE;
                r->n_samples++;
        }
        return x;
}
