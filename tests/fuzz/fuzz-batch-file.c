/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a batch file of tic-tac-toe and of Gomoku 5x5.  Whatever pieces it comes in, the samples and
 * the message are the same; and what is accepted can be written, and then reads as the same sample.
 */
#include "common/exchange/batch_file.h"

#include <stdlib.h>
#include <string.h>
#include "common/base/crc32c.h"
#include "common/base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* An assertion that no NDEBUG takes away, and that says which. */
#define must(x) ((x) ? (void) 0 : must_failed(__LINE__, #x))

static void must_failed(int line, const char *what) {
        (void) fprintf(stderr, "fuzz-batch-file.c:%d: %s\n", line, what);
        abort();
}

static struct game *new_game(const char *rules) {
        struct error e = ERROR_INIT;
        struct game *g = NULL;

        must(game_from_rules(rules, &g, &e) == 0);
        return g;
}

static bool is_equal(const struct game *g, const struct sample *a, const struct sample *b) {
        return a->id.slot == b->id.slot && a->id.incarnation == b->id.incarnation &&
               a->id.sequence == b->id.sequence && a->generation == b->generation &&
               memcmp(&a->root_value, &b->root_value, sizeof(float)) == 0 &&
               memcmp(&a->weight, &b->weight, sizeof(float)) == 0 && a->outcome == b->outcome &&
               a->ply == b->ply && a->n_visits == b->n_visits &&
               memcmp(a->planes, b->planes, GAME_PLANES_BYTES(g)) == 0 &&
               memcmp(a->visits, b->visits, a->n_visits * sizeof(a->visits[0])) == 0;
}

/* What has come of a text so far: the last sample, and how it ended. */
struct progress {
        struct batch_file_reader reader;
        struct batch_file_item item;
        size_t at, window;
        int r;
        struct error error;
};

/* Up to the next sample or the end, @rng's number of bytes more at a time (NULL: all at once). */
static void go_on(struct progress *p, const char *text, size_t n, struct rng *rng) {
        do {
                char *exact;
                size_t used = 0;

                if (p->r == BATCH_FILE_E_MORE || !rng)
                        p->window += rng ? 1 + rng_below(rng, rng_below(rng, 4) ? 16 : 1024) : n;
                p->window = MIN(p->window, n - p->at);
                /* a block of its own, so that a step beyond its end is seen */
                exact = malloc(p->window > 0 ? p->window : 1);
                must(exact != NULL);
                memcpy(exact, text + p->at, p->window);
                p->r = batch_file_read(&p->reader, exact, p->window, p->at + p->window == n, &used, &p->item,
                                       &p->error);
                free(exact);
                must(used <= p->window);
                must(p->r != BATCH_FILE_E_MORE || p->at + p->window < n);
                p->at += used;
                p->window -= used;
                must(p->reader.offset == p->at);
        } while (p->r == BATCH_FILE_E_MORE);
}

/* What was accepted is written, and reads as the same. */
static void check_comes_back(const struct game *g, const struct batch_file_item *item) {
        size_t max = batch_file_sample_max_bytes(g), n = 0;
        struct progress p = { .error = ERROR_INIT };
        char *text = malloc(max + 2);

        must(text != NULL);
        text[n++] = '[';
        n += batch_file_write_sample(g, &item->sample, item->origin, item->shares_are_f32, text + n);
        must(n <= max + 1);
        text[n++] = ']';
        batch_file_reader_init(&p.reader, g);
        go_on(&p, text, n, NULL);
        must(p.r == 0);
        must(is_equal(g, &p.item.sample, &item->sample));
        must(p.item.origin == item->origin);
        must(p.item.shares_are_f32 == item->shares_are_f32 && !p.item.is_rounded);
        go_on(&p, text, n, NULL);
        must(p.r == BATCH_FILE_E_END && p.at == n);
        free(text);
}

static void check(const struct game *g, const char *text, size_t n) {
        struct progress whole = { .error = ERROR_INIT }, pieces = { .error = ERROR_INIT };
        struct rng rng;

        rng_seed(&rng, crc32c(text, n), n);
        batch_file_reader_init(&whole.reader, g);
        batch_file_reader_init(&pieces.reader, g);
        do {
                go_on(&whole, text, n, NULL);
                go_on(&pieces, text, n, &rng);
                must(whole.r == pieces.r);
                must(strcmp(whole.error.text, pieces.error.text) == 0);
                must((whole.r < 0) == (whole.error.text[0] != '\0'));
                if (whole.r >= 0)
                        must(whole.at == pieces.at);
                if (whole.r != 0)
                        continue;
                must(is_equal(g, &whole.item.sample, &pieces.item.sample));
                must(whole.item.origin == pieces.item.origin);
                must(whole.item.shares_are_f32 == pieces.item.shares_are_f32);
                must(whole.item.is_rounded == pieces.item.is_rounded);
                check_comes_back(g, &whole.item);
        } while (whole.r == 0);
        must(whole.r < 0 || whole.at == n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        static struct game *games[2];

        if (!games[0]) {
                games[0] = new_game("tictactoe:3x3:3");
                games[1] = new_game("gomoku:5x5:4:freestyle:draw0");
        }
        for (unsigned i = 0; i < 2; i++)
                check(games[i], n > 0 ? (const char *) bytes : "", n);
        return 0;
}
