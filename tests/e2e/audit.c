/* SPDX-License-Identifier: MIT */
/*
 * audit CONFIG WINDOW [INCARNATION]: read all of a replay window and prove "exactly once" from the samples'
 * identities, for the end-to-end tests.
 *
 * Within an incarnation samples are numbered without holes.  They come through the lane and through spill
 * files, each way in ascending order.  So with the window as it is: each number of an incarnation must be
 * there once, from 0 to the highest, unless older samples have left the window.  Then numbers below the first
 * one of the lane may be missing.
 *
 * Prints {"samples":N,"incarnations":N,"spilled":N,"imported":N,"twice":N,"missing":N}; with INCARNATION,
 * only how many samples that one has.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/base/config.h"
#include "common/exchange/window.h"

struct tally {
        uint64_t samples, incarnations, spilled, imported, twice, missing;
};

static int by_identity(const void *a, const void *b) {
        const struct sample_id *x = a, *y = b;

        if (x->incarnation != y->incarnation)
                return x->incarnation < y->incarnation ? -1 : 1;
        return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

/* @ids: of one incarnation, ascending. */
static void count_incarnation(struct tally *t, const struct sample_id *ids, size_t n, bool complete) {
        uint64_t first = UINT64_MAX; /* below it samples may have left the window */

        for (size_t i = 0; i < n && first == UINT64_MAX; i++)
                if (ids[i].slot < SAMPLE_SLOT_SPILLED)
                        first = ids[i].sequence;
        t->incarnations++;
        t->missing += complete ? ids[0].sequence : 0;
        for (size_t i = 1; i < n; i++) {
                t->twice += ids[i].sequence == ids[i - 1].sequence;
                if (ids[i].sequence > ids[i - 1].sequence + 1 && (complete || ids[i].sequence > first))
                        t->missing += ids[i].sequence - ids[i - 1].sequence - 1;
        }
}

static void count(struct tally *t, struct sample_id *ids, size_t n, bool complete) {
        qsort(ids, n, sizeof(*ids), by_identity);
        for (size_t i = 0, end; i < n; i = end) {
                for (end = i + 1; end < n && ids[end].incarnation == ids[i].incarnation; end++)
                        ;
                if (ids[i].slot >= SAMPLE_SLOT_IMPORTED)
                        t->imported += end - i;
                else
                        count_incarnation(t, ids + i, end - i, complete);
        }
}

/* How many of the samples one process has made. */
static void print_one(const struct sample_id *ids, uint64_t n, uint64_t incarnation) {
        uint64_t count = 0;

        for (uint64_t i = 0; i < n; i++)
                count += ids[i].incarnation == incarnation && ids[i].slot < SAMPLE_SLOT_IMPORTED;
        (void) printf("%" PRIu64 "\n", count);
}

static int audit(const char *config_path, const char *window_path, const char *incarnation, struct error *e) {
        cleanup_(freep) struct sample_id *ids = NULL;
        uint64_t first, n;
        cleanup_(fd_closep) int fd = -1;
        cleanup_(window_freep) struct window *w = NULL;
        cleanup_(game_freep) struct game *g = NULL;
        struct tally t = { 0 };
        struct config c;
        struct sample s;
        int r;

        r = config_read(config_path, NULL, 0, &c, e);
        if (r == 0)
                r = game_new(&c, &g, e);
        if (r < 0)
                return r;
        fd = open(window_path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s'", window_path);
        r = window_map(fd, g, &w, e);
        if (r < 0)
                return r;
        first = window_first(w);
        n = window_tail(w) - first;
        ids = calloc(n + 1, sizeof(*ids));
        if (!ids)
                return error_errno(e, -ENOMEM, "could not hold the identities");
        for (uint64_t i = 0; i < n; i++) {
                if (window_read(w, first + i, &s) != 0)
                        return error_set(e, -EBADMSG, "sample %" PRIu64 " is damaged", first + i);
                ids[i] = s.id;
                t.spilled += s.id.slot >= SAMPLE_SLOT_SPILLED && s.id.slot < SAMPLE_SLOT_IMPORTED;
        }
        if (incarnation) {
                print_one(ids, n, strtoull(incarnation, NULL, 10));
                return 0;
        }
        t.samples = n;
        count(&t, ids, n, first == 0);
        (void) printf("{\"samples\":%" PRIu64 ",\"incarnations\":%" PRIu64 ",\"spilled\":%" PRIu64
                      ",\"imported\":%" PRIu64 ",\"twice\":%" PRIu64 ",\"missing\":%" PRIu64 "}\n",
                      t.samples, t.incarnations, t.spilled, t.imported, t.twice, t.missing);
        return 0;
}

int main(int argc, char **argv) {
        struct error e = ERROR_INIT;

        if (argc < 3 || argc > 4)
                return 2;
        if (audit(argv[1], argv[2], argv[3], &e) == 0)
                return 0;
        (void) fprintf(stderr, "audit: %s\n", e.text);
        return 1;
}
