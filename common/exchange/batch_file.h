/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Batch files: samples as JSON text, in the format of the program that azpar replaces.
 *
 *   [{"board":[0,1, ...],"policy":[0,0.13, ...],"value":-1,"azpar":{...}},
 *    ...]
 *
 *   board    planes * cells numbers 0 or 1, plane by plane, row-major, as game->encode() gives them
 *   policy   moves numbers, visits / total; 0 where a move has no visits; their sum is 1 to within 0.001
 *   value    -1, 0 or 1: the final outcome seen from the side to move
 *   azpar    what the other keys cannot say; older readers ignore it:
 *            {"version":1,"origin":"0123456789abcdef","slot":3,"incarnation":17,"sequence":4242,"generation":42,
 *             "rules":"gomoku:15x15:5:freestyle:draw0","ply":12,"visits":[0,13,7,87],"root_value":0.125,
 *             "weight":1,"crc":305419896}
 *            visits: move, visits, move, visits ..., moves ascending, only those visited; with it a sample
 * comes back exactly. crc: crc32c of the sample's msgpack form (sample.h), so a damaged digit is found.
 *
 * Written by workers (spill) and azparctl (export), read by azpard (spilled and imported files).  Keys may
 * come in any order; unknown ones are checked as JSON (at most 64 levels deep) and ignored.  With the key
 * azpar, all of its fields are needed, and board, policy and value must say the same.  A sample without it
 * gets its ply from the number of stones, generation 0, root value = value, weight 1, identity 0, and visits
 * that give exactly the shares that stand there, in the smallest numbers, if there are such with a total of
 * at most 65535; else visits that come near, and the item says so (shares.h).
 *
 * The reader is strict (RFC 8259, UTF-8 without a byte order mark, no half surrogate pairs, no duplicates of
 * the keys above), trusts nothing, allocates nothing and works on pieces: a file of any size streams through
 * a buffer of BATCH_FILE_SAMPLE_MAX bytes.  Numbers are read to the nearest double, whatever the locale; one
 * with more than 19 significant digits may be DECIMAL_TEXT_MAX bytes long (decimal.h).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/sample.h"

#define BATCH_FILE_VERSION    1u                  /* of the key azpar; others are refused */
#define BATCH_FILE_SAMPLE_MAX (UINT32_C(1) << 20) /* bytes of one sample's text; a longer one is refused */
#define BATCH_FILE_MAX_SLOTS  1024u               /* slots are below */

/* One sample as it stood in a file. */
struct batch_file_item {
        struct sample sample;
        uint64_t origin;     /* window_origin() of the run that made it; 0: it has no key azpar */
        bool shares_are_f32; /* no key azpar: the policy's numbers are shares in single precision, not in
                                double */
        bool is_rounded;     /* no key azpar: the policy's numbers are no ratio of visits, and were rounded */
};

struct batch_file_reader {
        const struct game *game;
        uint64_t offset;    /* bytes used so far, for messages */
        uint64_t n_samples; /* given out so far */
        unsigned state;     /* private */
};

enum {
        BATCH_FILE_E_SUCCESS_,
        BATCH_FILE_E_MORE, /* @text ends in the middle: come again with *ret_used bytes dropped, and more
                              behind */
        BATCH_FILE_E_END,  /* the array is closed, and only white space follows it */
};

/* @g must outlive @r. */
void batch_file_reader_init(struct batch_file_reader *r, const struct game *g);

/*
 * batch_file_read() - the next sample of a file
 * @text:     the file's text from the first byte on that was not used yet, @n bytes
 * @is_last:  the file ends with @text
 * @ret_used: bytes that were used, to be dropped by the caller; set for 0, MORE and END
 *
 * The same file gives the same samples and the same message, whatever pieces it comes in.  Samples are
 * counted from 0 in messages, as elements and bytes are.  After -EBADMSG and END the reader is done.
 *
 * Return: 0 with *ret filled; BATCH_FILE_E_MORE (never if @is_last; with *ret_used 0 never if @n >=
 * BATCH_FILE_SAMPLE_MAX, so a buffer of that size never stands still); BATCH_FILE_E_END; -EBADMSG with a text
 * such as "sample 12 (byte 34567): board[5] at byte 34601: 0 or 1 expected, found '2'".
 */
must_check_ int batch_file_read(struct batch_file_reader *r, const char *text, size_t n, bool is_last,
                                size_t *ret_used, struct batch_file_item *ret, struct error *e);

/* Largest text that batch_file_write_sample() makes for a sample of @g; below BATCH_FILE_SAMPLE_MAX for every
 * game. */
size_t batch_file_sample_max_bytes(const struct game *g);

/*
 * batch_file_write_sample() - one sample as a JSON object, without comma or newline
 * @origin: 0: without the key azpar (as the original writes it)
 * @shares_are_f32: print the policy's shares as the shortest numbers that are exact in single, not double
 * precision
 * @ret:    room for batch_file_sample_max_bytes() bytes; not terminated by a NUL
 *
 * What sample_encode() or the slot's limit would not allow is a bug of the caller, and asserts.  The text is
 * the same in every locale.  The caller writes "[" before the first, ",\n" between two and "]\n" after the
 * last one.
 *
 * Return: bytes written.
 */
size_t batch_file_write_sample(const struct game *g, const struct sample *s, uint64_t origin,
                               bool shares_are_f32, char *ret);
