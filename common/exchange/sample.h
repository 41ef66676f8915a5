/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A training sample and its msgpack form.
 *
 * Written by workers (sample_encode, with msgpack-c), read by azpard (check)
 * and the trainer.  One sample is one msgpack array, in this order:
 *
 *   0 schema version (SAMPLE_SCHEMA)     uint
 *   1 slot                               uint   } identity: unique for ever
 *   2 incarnation                        uint   }
 *   3 sequence                           uint   }
 *   4 model generation that searched it  uint
 *   5 rules                              str    struct game's rules text
 *   6 ply                                uint
 *   7 planes                             bin    GAME_PLANES_BYTES
 *   8 policy                             array of 2 n uints, n > 0: move, visits, move, visits ...;
 *                                               moves ascending, visits > 0
 *   9 root value                         float 32, seen from the side to move, -1 .. 1 (SAMPLE_VALUE_LIMIT)
 *  10 outcome                            int -1, 0, 1: final result seen from the side to move
 *  11 weight                             float 32, 0 .. SAMPLE_WEIGHT_LIMIT
 *
 * A lane record and so the unit of commitment is a msgpack array of the
 * samples of one whole game (never half a game).
 *
 * The decoder knows this schema and accepts nothing else: it allocates nothing,
 * and no length from the wire is used before it is compared with what the game
 * allows and with the bytes that are there (P8).
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/games/game.h"

#define SAMPLE_SCHEMA 1u

#define SAMPLE_VALUE_LIMIT  1.001f /* a mean of values in -1 .. 1 may be off by rounding */
#define SAMPLE_WEIGHT_LIMIT 1000.0f

struct sample_id {
        uint64_t slot;        /* worker slot */
        uint64_t incarnation; /* of the worker process, never used twice */
        uint64_t sequence;    /* from 0, contiguous within an incarnation */
};

struct sample_visit {
        uint16_t move;
        uint16_t visits; /* 1 .. 65535 */
};

struct sample {
        struct sample_id id;
        uint64_t generation;
        float root_value;
        float weight;
        int8_t outcome;
        uint16_t ply;
        uint16_t n_visits;
        unsigned char planes[GAME_MAX_PLANES_BYTES];
        struct sample_visit visits[GAME_MAX_MOVES];
};

/*
 * Largest encoded size of one sample of @g, in bytes: what a window slot must hold. sample_decode()
 * accepts no larger one.
 */
size_t sample_max_bytes(const struct game *g);

/* For buffers: no game's sample is larger; see sample_max_bytes(). */
#define SAMPLE_BYTES_MAX 4096u

/* Largest encoded size of one game's record: g->max_plies samples. */
size_t sample_record_max_bytes(const struct game *g);

/*
 * Encode the @n samples (1 .. g->max_plies) of one finished game into @buf of @size bytes.
 *
 * Samples are this process's own work: what sample_decode() would refuse is a bug here, and asserts.
 *
 * Return: 0 and the length; -ENOBUFS if @size is too small (never with sample_record_max_bytes()).
 */
must_check_ int sample_encode_record(const struct game *g, const struct sample *samples, size_t n,
                                     unsigned char *buf, size_t size, size_t *ret_length);

/* One sample alone, as it lies in a record and in a window slot; else as sample_encode_record(). */
must_check_ int sample_encode(const struct game *g, const struct sample *s, unsigned char *buf, size_t size,
                              size_t *ret_length);

/*
 * Decode and check one sample at the start of @bytes.  Everything is checked: types, lengths, ranges, rules
 * text, planes' unused bits, moves ascending and below g->moves, finite numbers in range.
 *
 * Return: 0 with *ret filled and *ret_length set to the bytes used; -EBADMSG with a text that gives the
 * field and the offset, and *ret in no sensible state.
 */
must_check_ int sample_decode(const struct game *g, const unsigned char *bytes, size_t n, struct sample *ret,
                              size_t *ret_length, struct error *e);

/*
 * Only the identity at the start of a sample that has been checked before (by checksum). Return as
 * sample_decode().
 */
must_check_ int sample_decode_id(const unsigned char *bytes, size_t n, struct sample_id *ret,
                                 struct error *e);

/*
 * Read a record's header: how many samples follow (1 .. g->max_plies) and where the first one starts. The
 * caller decodes that many, and checks that the record ends there. Return as sample_decode().
 */
must_check_ int sample_record_open(const struct game *g, const unsigned char *bytes, size_t n,
                                   uint32_t *ret_n_samples, size_t *ret_offset, struct error *e);
