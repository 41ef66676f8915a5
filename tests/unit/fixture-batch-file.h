/* SPDX-License-Identifier: MIT */
#pragma once

/* For the tests of batch files: a text that grows, and reading it whole or in pieces. */

#include "tests/unit/fixture-sample.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/exchange/batch_file.h"

#define ORIGIN UINT64_C(0x0123456789abcdef)

/* A file's text that grows. */
struct text {
        char *bytes;
        size_t n, size;
};

static inline void text_free(struct text *t) {
        free(t->bytes);
}

static inline char *text_room(struct text *t, size_t n) {
        if (t->size - t->n < n) {
                t->size = 2 * (t->n + n);
                t->bytes = realloc(t->bytes, t->size);
                assert_non_null(t->bytes);
        }
        return t->bytes + t->n;
}

static inline void printf_(2, 3) text_add(struct text *t, const char *format, ...) {
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(text_room(t, 4096), 4096, format, args);
        va_end(args);
        assert_true(n >= 0 && n < 4096);
        t->n += (size_t) n;
}

static inline void text_add_sample(struct text *t, const struct game *g, const struct sample *s,
                                   uint64_t origin, bool is_f32) {
        size_t max = batch_file_sample_max_bytes(g),
               n = batch_file_write_sample(g, s, origin, is_f32, text_room(t, max));

        assert_true(n <= max);
        t->n += n;
}

/* What came out of a file. */
struct result {
        struct batch_file_item *items;
        size_t n;
        int r; /* BATCH_FILE_E_END or an error */
        struct error e;
};

static inline void result_free(struct result *r) {
        free(r->items);
}

/* One call: @text has the file's bytes from *at to @end of @n. */
static inline int read_next(struct batch_file_reader *r, const char *text, size_t *at, size_t end, size_t n,
                            struct batch_file_item *item, struct error *e) {
        uint64_t n_samples = r->n_samples;
        size_t window = end - *at, used = 0;
        int x = batch_file_read(r, text, window, end == n, &used, item, e);

        if (x < 0)
                return x;
        assert_true(used <= window);
        assert_true(x != BATCH_FILE_E_MORE || end < n);
        assert_true(x != BATCH_FILE_E_MORE || used > 0 || window < BATCH_FILE_SAMPLE_MAX);
        *at += used;
        assert_int_equal(r->offset, *at);
        assert_int_equal(r->n_samples, n_samples + (x == 0));
        return x;
}

/*
 * Read all of it, a random number of bytes up to @max_step more at a time (@rng NULL: at once), each time in
 * a block without a byte to spare.
 */
static inline struct result read_file(const struct game *g, const char *text, size_t n, struct rng *rng,
                                      uint32_t max_step) {
        struct result ret = { .r = BATCH_FILE_E_MORE, .e = ERROR_INIT };
        size_t at = 0, begin = 0, end = 0, size = 0;
        cleanup_(freep) char *block = NULL;
        struct batch_file_reader r;

        batch_file_reader_init(&r, g);
        do {
                if (ret.r == BATCH_FILE_E_MORE) {
                        end += rng ? 1 + rng_below(rng, max_step) : n;
                        end = MIN(end, n);
                        free(block);
                        block = malloc(end > at ? end - at : 1);
                        memcpy(block, text + at, end - at);
                        begin = at;
                }
                if (ret.n == size) {
                        size = 2 * size + 8;
                        ret.items = realloc(ret.items, size * sizeof(ret.items[0]));
                }
                ret.r = read_next(&r, block + (at - begin), &at, end, n, &ret.items[ret.n], &ret.e);
                ret.n += ret.r == 0;
        } while (ret.r == 0 || ret.r == BATCH_FILE_E_MORE);
        if (ret.r == BATCH_FILE_E_END)
                assert_int_equal(at, n);
        return ret;
}

static inline struct result read_whole(const struct game *g, const char *text, size_t n) {
        return read_file(g, text, n, NULL, 0);
}

static inline void assert_items_equal(const struct game *g, const struct batch_file_item *a,
                                      const struct batch_file_item *b) {
        fixture_assert_equal(g, &a->sample, &b->sample);
        assert_true(a->origin == b->origin);
        assert_int_equal(a->shares_are_f32, b->shares_are_f32);
        assert_int_equal(a->is_rounded, b->is_rounded);
}

static inline void assert_results_equal(const struct game *g, const struct result *a,
                                        const struct result *b) {
        assert_int_equal(a->r, b->r);
        assert_int_equal(a->n, b->n);
        assert_string_equal(a->e.text, b->e.text);
        for (size_t i = 0; i < a->n; i++)
                assert_items_equal(g, &a->items[i], &b->items[i]);
}
