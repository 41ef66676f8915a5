/* SPDX-License-Identifier: MIT */
/*
 * ledger CONFIG STATE WINDOW NAME: what workers had committed when a copy of their segment was made, and what
 * became of it, for the boot test.
 *
 * /dev/shm/azpar.NAME is the copy, and used up: its lanes are read to their end.  Each sample in them has to
 * be in the replay window, once, whoever brought it there.  A window that has dropped old samples proves
 * nothing, and is an error.
 *
 * Prints {"committed":N,"missing":N,"twice":N}; without a WINDOW ("") all are missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/base/config.h"
#include "common/exchange/segment.h"
#include "common/exchange/window.h"

#define COMMITTED_MAX 1000000

struct ledger {
        struct game *game;
        struct sample_id *ids; /* committed */
        uint64_t n, twice, missing;
};

static int by_identity(const void *a, const void *b) {
        const struct sample_id *x = a, *y = b;

        if (x->slot != y->slot)
                return x->slot < y->slot ? -1 : 1;
        if (x->incarnation != y->incarnation)
                return x->incarnation < y->incarnation ? -1 : 1;
        return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

/* One record: the samples of a game. */
static int note_record(struct ledger *l, const unsigned char *bytes, size_t length, struct error *e) {
        struct sample s;
        uint32_t n_samples;
        size_t offset, n;
        int r;

        r = sample_record_open(l->game, bytes, length, &n_samples, &offset, e);
        for (uint32_t i = 0; r == 0 && i < n_samples; i++) {
                r = sample_decode(l->game, bytes + offset, length - offset, &s, &n, e);
                if (r < 0)
                        break;
                offset += n;
                if (l->n == COMMITTED_MAX)
                        return error_set(e, -EOVERFLOW, "more than %d samples in the lanes", COMMITTED_MAX);
                l->ids[l->n++] = s.id;
        }
        return r;
}

static int note_lane(struct ledger *l, struct lane *lane, unsigned char *buf, uint32_t size,
                     struct error *e) {
        uint64_t next;
        uint32_t length;
        int r;

        while ((r = lane_read(lane, buf, size, &length, &next)) == 0) {
                r = note_record(l, buf, length, e);
                if (r < 0)
                        return r;
                lane_release(lane, next);
        }
        return r == LANE_E_EMPTY ? 0 : error_set(e, -EBADMSG, "a lane of the copy is damaged (%d)", r);
}

static int note_all(struct ledger *l, const char *name, const char *state, struct error *e) {
        cleanup_(segment_freep) struct segment *s = NULL;
        cleanup_(freep) unsigned char *buf = NULL;
        size_t size = sample_record_max_bytes(l->game);
        int r;

        r = segment_open(name, state, &s, e);
        if (r < 0)
                return r;
        buf = malloc(size);
        l->ids = calloc(COMMITTED_MAX, sizeof(*l->ids));
        if (!buf || !l->ids)
                return error_errno(e, -ENOMEM, "no room for the ledger");
        for (uint32_t i = 0; r == 0 && i < s->n_workers; i++)
                r = note_lane(l, &s->lanes[i], buf, (uint32_t) size, e);
        qsort(l->ids, l->n, sizeof(*l->ids), by_identity);
        return r;
}

/* Strike off what is in the window. */
static int compare(struct ledger *l, const char *window_path, struct error *e) {
        cleanup_(window_freep) struct window *w = NULL;
        cleanup_(fd_closep) int fd = -1;
        cleanup_(freep) unsigned char *seen = calloc(l->n + 1, 1);
        const struct sample_id *found;
        struct sample s;
        int r;

        if (!seen)
                return error_errno(e, -ENOMEM, "no room for the ledger");
        fd = open(window_path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s'", window_path);
        r = window_map(fd, l->game, &w, e);
        if (r < 0)
                return r;
        for (uint64_t i = 0, n = window_tail(w); i < n; i++) {
                if (window_read(w, i, &s) != 0)
                        return error_set(e, -EBADMSG, "sample %" PRIu64 " has left the window, or is damaged",
                                         i);
                found = bsearch(&s.id, l->ids, l->n, sizeof(*l->ids), by_identity);
                if (!found)
                        continue;
                l->twice += seen[found - l->ids];
                l->missing -= !seen[found - l->ids];
                seen[found - l->ids] = 1;
        }
        return 0;
}

static int run(char **argv, struct error *e) {
        cleanup_(game_freep) struct game *game = NULL;
        cleanup_(freep) struct sample_id *ids = NULL;
        struct ledger l = { 0 };
        struct config c;
        int r;

        r = config_read(argv[1], NULL, 0, &c, e);
        if (r == 0)
                r = game_new(&c, &game, e);
        l.game = game;
        if (r == 0)
                r = note_all(&l, argv[4], argv[2], e);
        ids = l.ids;
        l.missing = l.n;
        if (r == 0 && *argv[3])
                r = compare(&l, argv[3], e);
        if (r < 0)
                return r;
        (void) printf("{\"committed\":%" PRIu64 ",\"missing\":%" PRIu64 ",\"twice\":%" PRIu64 "}\n", l.n,
                      l.missing, l.twice);
        return 0;
}

int main(int argc, char **argv) {
        struct error e = ERROR_INIT;

        if (argc != 5)
                return 2;
        if (run(argv, &e) == 0)
                return 0;
        (void) fprintf(stderr, "ledger: %s\n", e.text);
        return 1;
}
