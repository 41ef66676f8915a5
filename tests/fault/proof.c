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

/* @next: sample expected next of each incarnation. */
static void prove_sample(struct rig *r, const struct window *w, uint64_t number, uint64_t *next) {
        static struct sample s, expected;

        if (window_read(w, number, &s) != 0) {
                rig_complain(r, "sample %" PRIu64 " of the window is damaged", number);
                return;
        }
        fixture_sample(r->game, s.id, &expected);
        if (!is_equal(r->game, &s, &expected))
                rig_complain(r, "sample %" PRIu64 " is not what was committed", number);
        if (s.id.incarnation >= FAULT_INCARNATIONS || s.id.sequence != next[s.id.incarnation]) {
                rig_complain(r,
                             "sample %" PRIu64 " of the window is number %" PRIu64 " of incarnation %" PRIu64
                             ", not the one expected: one is missing or there twice",
                             number, s.id.sequence, s.id.incarnation);
                return;
        }
        next[s.id.incarnation]++;
}

static uint64_t prove_window(struct rig *r) {
        cleanup_(window_freep) struct window *w = open_window(r);
        static uint64_t next[FAULT_INCARNATIONS];
        unsigned n_complaints = r->n_complaints;
        uint64_t tail;

        if (!w) {
                rig_complain(r, "the window cannot be read");
                return 0;
        }
        memset(next, 0, sizeof(next));
        tail = window_tail(w);
        assert(window_first(w) == 0);
        for (uint64_t i = 0; i < tail && r->n_complaints < n_complaints + 3; i++)
                prove_sample(r, w, i, next);
        for (size_t i = 0; i < FAULT_INCARNATIONS && r->n_complaints == n_complaints; i++) {
                const struct fault_incarnation *told = &r->control->incarnations[i];

                if (next[i] < told->committed || next[i] > told->intended)
                        rig_complain(r,
                                     "the window has %" PRIu64
                                     " samples of incarnation %zu, which committed %" PRIu64,
                                     next[i], i, told->committed);
        }
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
