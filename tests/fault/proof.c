/* SPDX-License-Identifier: MIT */
/*
 * The proof that nothing was lost, doubled or torn; see rig.h.
 *
 * Workers note for each incarnation what they certainly committed and what they may have committed (they may
 * be killed in between).  Their samples follow from their identities.  So of each incarnation the window must
 * hold the samples 0 .. n - 1 in this order, each equal to what it must be, with n between the two notes;
 * that needs a window from which nothing has been pushed out yet, which is asserted.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "common/exchange/window.h"
#include "common/model/checkpoint.h"
#include "tests/fault/rig.h"
#include "tests/unit/fixture-sample.h"

static struct window *open_window(struct rig *r) {
        struct window *w = NULL;
        char path[600];
        int fd;

        (void) snprintf(path, sizeof(path), "%s/window", r->state);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || window_map(fd, r->game, &w, NULL) < 0)
                return NULL;
        return w;
}

uint64_t rig_n_samples(struct rig *r) {
        cleanup_(window_freep) struct window *w = open_window(r);

        return w ? window_tail(w) : 0;
}

uint64_t rig_n_committed(struct rig *r) {
        uint64_t n = 0;

        for (size_t i = 0; i < FAULT_INCARNATIONS; i++)
                n += atomic_load(&r->control->incarnations[i].committed);
        return n;
}

static bool is_equal(const struct game *g, const struct sample *a, const struct sample *b) {
        return a->generation == b->generation && a->outcome == b->outcome && a->ply == b->ply &&
               a->n_visits == b->n_visits && memcmp(&a->root_value, &b->root_value, sizeof(float)) == 0 &&
               memcmp(&a->weight, &b->weight, sizeof(float)) == 0 &&
               memcmp(a->planes, b->planes, GAME_PLANES_BYTES(g)) == 0 &&
               memcmp(a->visits, b->visits, a->n_visits * sizeof(a->visits[0])) == 0;
}

/* What the window has. */
struct found {
        struct sample_id *ids; /* slots as in the worker */
        size_t n;
        struct sample_id *imported; /* incarnation: the file */
        size_t n_imported;
};

static void note_sample(struct rig *r, const struct window *w, uint64_t number, struct found *f) {
        static struct sample s, expected;
        struct sample_id id;

        if (window_read(w, number, &s) != 0) {
                rig_complain(r, "sample %" PRIu64 " of the window is damaged", number);
                return;
        }
        id = s.id;
        if (id.slot >= SAMPLE_SLOT_IMPORTED) {
                f->imported[f->n_imported++] = id;
                return;
        }
        id.slot %= SAMPLE_SLOT_SPILLED;
        fixture_sample(r->game, id, &expected);
        if (!is_equal(r->game, &s, &expected))
                rig_complain(r, "sample %" PRIu64 " is not what was committed", number);
        f->ids[f->n++] = id;
}

static int compare_ids(const void *a, const void *b) {
        const struct sample_id *x = a, *y = b;

        if (x->incarnation != y->incarnation)
                return x->incarnation < y->incarnation ? -1 : 1;
        return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* The samples from @i on that belong to @incarnation. Return: where the next one's begin. */
static size_t prove_incarnation(struct rig *r, const struct found *f, size_t i, uint64_t incarnation) {
        const struct fault_incarnation *told = &r->control->incarnations[incarnation];
        uint64_t n = 0;

        for (; i < f->n && f->ids[i].incarnation == incarnation; i++, n++)
                if (f->ids[i].sequence != n) {
                        rig_complain(r, "sample %" PRIu64 " of incarnation %" PRIu64 " is %s", n, incarnation,
                                     f->ids[i].sequence < n ? "there twice" : "missing");
                        return f->n;
                }
        if (n < told->committed || n > told->intended)
                rig_complain(r,
                             "the window has %" PRIu64 " samples of incarnation %" PRIu64
                             ", which committed %" PRIu64,
                             n, incarnation, told->committed);
        return i;
}

/* All of each file's samples are there, once. */
static void prove_imports(struct rig *r, const struct found *f) {
        uint64_t n_files = 0;

        for (size_t i = 0; i < f->n_imported; i++) {
                const struct sample_id *id = &f->imported[i];
                bool is_first = i == 0 || id->incarnation != id[-1].incarnation;

                n_files += is_first;
                if (id->sequence != (is_first ? 0 : id[-1].sequence + 1)) {
                        rig_complain(r, "sample %" PRIu64 " of an imported file, or the one before it, is %s",
                                     id->sequence, is_first ? "missing" : "missing or there twice");
                        return;
                }
        }
        if (n_files != r->n_imports || f->n_imported != r->n_imported)
                rig_complain(r,
                             "%zu samples of %" PRIu64 " imported files are there, %" PRIu64 " of %" PRIu64
                             " expected",
                             f->n_imported, n_files, r->n_imported, r->n_imports);
}

static uint64_t prove_window(struct rig *r) {
        cleanup_(window_freep) struct window *w = open_window(r);
        struct found f = { 0 };
        unsigned n_complaints = r->n_complaints;
        uint64_t tail;
        size_t k = 0;

        if (!w) {
                rig_complain(r, "the window cannot be read");
                return 0;
        }
        tail = window_tail(w);
        assert(window_first(w) == 0);
        f.ids = calloc(tail + 1, sizeof(*f.ids));
        f.imported = calloc(tail + 1, sizeof(*f.imported));
        assert(f.ids && f.imported);
        for (uint64_t i = 0; i < tail && r->n_complaints < n_complaints + 3; i++)
                note_sample(r, w, i, &f);
        qsort(f.ids, f.n, sizeof(*f.ids), compare_ids);
        for (uint64_t i = 0; i < FAULT_INCARNATIONS && r->n_complaints == n_complaints; i++)
                k = prove_incarnation(r, &f, k, i);
        if (k < f.n && r->n_complaints == n_complaints)
                rig_complain(r, "the window names incarnation %" PRIu64, f.ids[k].incarnation);
        qsort(f.imported, f.n_imported, sizeof(*f.imported), compare_ids);
        if (r->n_complaints == n_complaints)
                prove_imports(r, &f);
        free(f.ids);
        free(f.imported);
        return tail;
}

static void prove_files(struct rig *r) {
        struct error e = ERROR_INIT;
        struct checkpoint c;
        struct model_info info;
        char path[64], temporary[600];
        int fd = open(r->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

        error = model_check(fd, "model.safetensors", &r->network, &info, &e);
        if (error < 0 && !(error == -ENOENT && r->control->publications == 0))
                rig_complain(r, "the model is not whole: %s", e.text);
        error = checkpoint_newest(fd, &r->network, &c, path, &e);
        if (error < 0 && error != -ENOENT)
                rig_complain(r, "the checkpoint is not whole: %s", e.text);
        if (faccessat(fd, "spill/rejected", F_OK, 0) == 0)
                rig_complain(r, "a spilled file was set aside");
        (void) snprintf(temporary, sizeof(temporary), "%s/window.tmp", r->state);
        if (access(temporary, F_OK) == 0)
                rig_complain(r, "window.tmp was left behind");
        (void) close(fd);
}

uint64_t rig_prove(struct rig *r) {
        uint64_t n = prove_window(r);

        prove_files(r);
        return n;
}
