/* SPDX-License-Identifier: MIT */
/*
 * audit CONFIG WINDOW: read all of a replay window and prove "exactly once" from the samples' identities, for
 * the end-to-end tests.
 *
 * Within an incarnation samples are numbered without holes, and azpard appends them in that order.  So with
 * the window as it is: each sample of an incarnation must be the successor of the one before it, and the
 * first one must be number 0 unless older samples have left the window.  A sample inserted twice or never
 * breaks that.
 *
 * Prints {"samples":N,"incarnations":N,"twice":N,"missing":N}.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/base/config.h"
#include "common/exchange/window.h"

#define MAX_INCARNATIONS 65536

struct tally {
        uint64_t samples, incarnations, twice, missing;
};

/* @next: for each incarnation the number expected next, plus 1; 0: not seen yet. */
static void count_sample(struct tally *t, const struct sample *s, bool complete,
                         uint64_t next[static MAX_INCARNATIONS]) {
        uint64_t i = s->id.incarnation, expected;

        if (i >= MAX_INCARNATIONS) {
                t->missing++;
                return;
        }
        t->samples++;
        t->incarnations += next[i] == 0;
        expected = next[i] ? next[i] - 1 : complete ? 0 : s->id.sequence;
        if (s->id.sequence > expected)
                t->missing += s->id.sequence - expected;
        if (s->id.sequence < expected)
                t->twice++;
        else
                next[i] = s->id.sequence + 2;
}

static int audit(const char *config_path, const char *window_path, struct error *e) {
        static uint64_t next[MAX_INCARNATIONS];
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
        for (uint64_t i = window_first(w); i < window_tail(w); i++) {
                if (window_read(w, i, &s) != 0)
                        return error_set(e, -EBADMSG, "sample %" PRIu64 " is damaged", i);
                count_sample(&t, &s, window_first(w) == 0, next);
        }
        (void) printf("{\"samples\":%" PRIu64 ",\"incarnations\":%" PRIu64 ",\"twice\":%" PRIu64
                      ",\"missing\":%" PRIu64 "}\n",
                      t.samples, t.incarnations, t.twice, t.missing);
        return 0;
}

int main(int argc, char **argv) {
        struct error e = ERROR_INIT;

        if (argc != 3)
                return 2;
        if (audit(argv[1], argv[2], &e) == 0)
                return 0;
        (void) fprintf(stderr, "audit: %s\n", e.text);
        return 1;
}
