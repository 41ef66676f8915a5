/* SPDX-License-Identifier: MIT */
/*
 * scenarios FOLDER NAME SEED SECONDS: let every call of malloc and of the system that azpard makes in one of
 * the scenarios below fail once; see README.md.  fault.sh makes FOLDER.
 *
 * How many calls there are is counted first.  SECONDS 0: each of them fails in each of its ways, and so do
 * the next ones, until one number is beyond the last call.  Otherwise: as many of them as there is time for,
 * in a random order, each in a random one of its ways.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "tests/fault/checks.h"
#include "tests/fault/runs.h"

#define ENOUGH 3 /* complaints, then a scenario ends */

struct scenario {
        const char *name;
        uint32_t speed;
        void (*prepare)(
                struct rig *r); /* once: leaves what each run needs; if there are no runs, it is all */
        void (*run)(struct rig *r, uint64_t at, uint32_t way);
        void (*end)(struct rig *r);
};

/* ---- the order of things ---- */

struct plan {
        struct rig *rig;
        const struct scenario *scenario;
        struct rng rng;
        uint64_t n_calls, n_failed;
};

/* Return: how many ways the call has; 0: it was beyond the last one. */
static uint32_t try_one(struct plan *p, uint64_t at, uint32_t way) {
        p->scenario->run(p->rig, at, way);
        p->n_failed += p->rig->failed;
        return p->rig->n_ways;
}

static void try_all(struct plan *p) {
        uint32_t n_ways;

        for (uint64_t at = 1; p->rig->n_complaints < ENOUGH; at++) {
                n_ways = try_one(p, at, 0);
                for (uint32_t way = 1; way < n_ways; way++)
                        (void) try_one(p, at, way);
                /* The number of calls differs a little from run to run. */
                if (n_ways == 0 && at > p->n_calls)
                        return;
        }
}

static void try_some(struct plan *p, uint64_t seconds) {
        uint64_t deadline = clock_now_ns() + seconds * NS_PER_S, n = p->n_calls;
        uint64_t *order = calloc(n + 1, sizeof(*order));

        for (uint64_t i = 0; order && i < n; i++) { /* Fisher and Yates, from the inside */
                uint64_t k = rng_below(&p->rng, (uint32_t) i + 1);

                order[i] = order[k];
                order[k] = i + 1;
        }
        for (uint64_t i = 0; order && i < n && p->rig->n_complaints < ENOUGH; i++) {
                if (clock_now_ns() > deadline)
                        break;
                (void) try_one(p, order[i], rng_below(&p->rng, 60));
        }
        free(order);
}

static void work_through(struct rig *r, const struct scenario *s, uint64_t seed, uint64_t seconds) {
        struct plan p = { .rig = r, .scenario = s };
        uint64_t begin = clock_now_ns();

        rng_seed(&p.rng, seed, 0);
        r->scenario = s->name;
        atomic_store(&r->control->speed, s->speed);
        s->prepare(r);
        if (!s->run)
                return;
        s->run(r, 0, 0);
        p.n_calls = r->n_calls;
        if (seconds == 0)
                try_all(&p);
        else
                try_some(&p, seconds);
        if (s->end)
                s->end(r);
        rig_kill(r);
        (void) printf("%-13s %5ju faults injected, %ju calls counted, %.1f s\n", s->name,
                      (uintmax_t) p.n_failed, (uintmax_t) p.n_calls,
                      (double) (clock_now_ns() - begin) / NS_PER_S);
        if (p.n_failed == 0)
                rig_complain(r, "not one fault was injected");
}

static const struct scenario scenarios[] = {
        { "start-empty", RUNS_QUICK, runs_prepare_empty, runs_start_once, NULL },
        { "start-killed", RUNS_QUICK, runs_prepare_killed, runs_start_once, NULL },
        { "stop", RUNS_QUICK, runs_prepare_stop, runs_stop_once, NULL },
        { "stop-asked", RUNS_QUICK, runs_prepare_stop, runs_stop_asked, NULL },
        { "drain", RUNS_FAST, runs_begin, runs_drain, runs_end },
        { "spill", RUNS_FAST, runs_begin, runs_spill, runs_end },
        { "import", RUNS_FAST, runs_begin, runs_import, runs_end },
        { "publish", RUNS_FAST, runs_begin, runs_publish, runs_end },
        { "checkpoint", RUNS_FAST, runs_begin, runs_checkpoint, runs_end },
        { "control", RUNS_FAST, runs_begin, runs_control, runs_end },
        { "reload", 4 * RUNS_FAST, runs_begin_reload, runs_reload, runs_end },
        { "children", 4 * RUNS_FAST, runs_begin, runs_children, runs_end },
        { "ticks", RUNS_FAST, runs_begin, runs_ticks, runs_end },
        { "controls", RUNS_QUICK, checks_controls, NULL, NULL },
        { "clocks", RUNS_FAST, checks_clocks, NULL, NULL },
};

int main(int argc, char **argv) {
        struct rig r;
        unsigned n = 0;

        if (argc != 5) {
                (void) fprintf(stderr, "usage: scenarios FOLDER NAME SEED SECONDS\n");
                return 2;
        }
        rig_init(&r, argv[1]);
        for (size_t i = 0; i < N_ELEMENTS(scenarios); i++) {
                if (strcmp(argv[2], "all") != 0 && strcmp(argv[2], scenarios[i].name) != 0)
                        continue;
                work_through(&r, &scenarios[i], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
                n++;
        }
        rig_deinit(&r);
        if (n == 0)
                (void) fprintf(stderr, "scenarios: no scenario '%s'\n", argv[2]);
        return n == 0 || r.n_complaints > 0;
}
