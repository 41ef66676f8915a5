/* SPDX-License-Identifier: MIT */
/*
 * scenarios FOLDER NAME SEED SECONDS: let every call of malloc and of the system that azpard makes in one of
 * the scenarios below fail once; see README.md.  fault.sh makes FOLDER.
 *
 * Two kinds.  A start or a stop is one azpard per fault: it either serves, or ends with a status and a line;
 * then one without faults takes the same directory up.  While running, one azpard meets fault after fault and
 * must not end.  Either way rig_prove() then says that nothing committed was lost.
 *
 * How many calls there are is counted first.  SECONDS 0: each of them fails in each of its ways, and so do
 * the next ones, until one number is beyond the last call.  Otherwise: as many of them as there is time for,
 * in a random order, each in a random one of its ways.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cjson/cJSON.h>
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "tests/fault/rig.h"

#define FAST         100 /* speed of azpard's clock where it must wait for its own timers */
#define ENOUGH       3   /* complaints, then a scenario ends */
#define RESTART_RUNS 200 /* runs of one azpard; the window must not overflow */

static const char status_request[] = "{\"command\":\"status\"}";

struct scenario {
        const char *name;
        uint32_t classes, speed;
        void (*prepare)(struct rig *r); /* once: leaves what each run needs */
        void (*run)(struct rig *r, uint64_t at, uint32_t way);
        void (*end)(struct rig *r);
};

/* ---- shared pieces ---- */

static void want(struct rig *r, uint64_t n_games) {
        for (unsigned i = 0; i < FAULT_SLOTS; i++)
                atomic_fetch_add(&r->control->games_wanted[i], n_games);
}

/* azpard without faults on what is there: it must take everything up, serve, and stop well. */
static void prove_by_restart(struct rig *r) {
        rig_arm(r, 0, r->control->at, r->control->way);
        rig_start(r);
        if (rig_wait(r, "it serves, without faults", rig_is_serving) == -ECHILD)
                rig_complain(r, "it does not start any more, without faults");
        else
                rig_stop(r);
        rig_kill(r);
        (void) rig_prove(r);
}

static void start_cleanly(struct rig *r) {
        (void) rig_disarm(r);
        rig_start(r);
        if (rig_wait(r, "it serves", rig_is_serving) < 0)
                rig_complain(r, "it does not start");
}

/* ---- start ---- */

static void prepare_start_empty(struct rig *r) {
        rig_empty(r);
        if (mkdir(r->state, 0750) < 0)
                rig_complain(r, "mkdir: %s", strerror(errno));
        want(r, 3);
        atomic_store(&r->control->publications_wanted, 1);
        rig_keep(r);
}

static bool is_checkpointed(struct rig *r) {
        char answer[256];

        return rig_ask(r, "{\"command\":\"checkpoint\"}", answer, sizeof(answer));
}

static bool is_committed(struct rig *r) {
        for (unsigned i = 0; i < FAULT_SLOTS; i++)
                if (r->control->games[i] < r->control->games_wanted[i])
                        return false;
        return true;
}

/* A window, a model, a checkpoint, and a segment in which games lie that are not in the window. */
static void prepare_start_killed(struct rig *r) {
        prepare_start_empty(r);
        start_cleanly(r);
        (void) rig_wait(r, "a checkpoint is written", is_checkpointed);
        (void) kill(r->pid, SIGSTOP);
        want(r, 5);
        (void) rig_wait(r, "workers have filled their lanes", is_committed);
        if (rig_n_samples(r) >= rig_n_committed(r))
                rig_complain(r, "nothing lies in the lanes");
        rig_kill(r);
        want(r, 1);
        rig_keep(r);
}

static void run_start(struct rig *r, uint64_t at, uint32_t way) {
        int result;

        rig_bring_back(r);
        rig_arm(r, FAULT_ALL, at, way);
        rig_start(r);
        result = rig_wait(r, "it serves or ends", rig_is_serving);
        if (!rig_disarm(r) && result == -ECHILD)
                rig_complain(r, "nothing failed, and yet it ended");
        if (result == 0) {
                rig_stop(r);
                (void) rig_prove(r);
                return;
        }
        if (result == -ECHILD)
                rig_check_refusal(r);
        rig_kill(r);
        prove_by_restart(r);
}

/* ---- stop ---- */

static void prepare_stop(struct rig *r) {
        prepare_start_empty(r);
        start_cleanly(r);
        rig_stop(r);
        rig_keep(r);
}

static void run_stop(struct rig *r, uint64_t at, uint32_t way) {
        rig_bring_back(r);
        start_cleanly(r);
        rig_arm(r, FAULT_ALL, at, way);
        want(r, 2);
        if (at % 2)
                (void) kill(r->pid, SIGTERM);
        else
                rig_must(r, "{\"command\":\"stop\"}");
        rig_wait_end(r);
        (void) rig_disarm(r);
        if (r->status != 0)
                rig_check_refusal(r);
        memcpy(r->control->games_wanted, r->control->games, sizeof(r->control->games));
        prove_by_restart(r);
}

/* ---- while running: one azpard for many faults ---- */

static unsigned n_runs_of_this; /* azpard's, since it was started */

static void begin_running(struct rig *r) {
        prepare_start_empty(r);
        start_cleanly(r);
        n_runs_of_this = 0;
}

static void end_running(struct rig *r) {
        (void) rig_disarm(r);
        rig_must(r, status_request);
        rig_stop(r);
        rig_kill(r);
        (void) rig_prove(r);
}

/* After a run: it lives, and has all. @result: of the wait in the run. */
static void check_running(struct rig *r, int result) {
        (void) rig_disarm(r);
        if (result == -ECHILD) {
                rig_complain(r, "a fault while running ended it with wait status %#x", (unsigned) r->status);
                prove_by_restart(r);
                begin_running(r);
                return;
        }
        if (++n_runs_of_this % RESTART_RUNS == 0) {
                end_running(r);
                begin_running(r);
        }
}

static void run_drain(struct rig *r, uint64_t at, uint32_t way) {
        rig_arm(r, FAULT_ALL, at, way);
        want(r, 4);
        check_running(r, rig_wait(r, "committed games are in the window", rig_is_settled));
}

static void run_publish(struct rig *r, uint64_t at, uint32_t way);

static uint64_t generation_wanted;

static bool is_announced(struct rig *r) {
        return rig_generation(r) >= generation_wanted;
}

static void run_publish(struct rig *r, uint64_t at, uint32_t way) {
        generation_wanted = rig_generation(r) + 1;
        rig_arm(r, FAULT_ALL, at, way);
        atomic_fetch_add(&r->control->publications_wanted, 1);
        check_running(r, rig_wait(r, "the new model is announced", is_announced));
}

static void run_checkpoint(struct rig *r, uint64_t at, uint32_t way) {
        char answer[256];

        rig_arm(r, FAULT_ALL, at, way);
        (void) rig_ask(r, "{\"command\":\"checkpoint\"}", answer, sizeof(answer)); /* may be dropped */
        (void) rig_disarm(r);
        check_running(r, rig_wait(r, "a checkpoint is written", is_checkpointed));
}

static bool has_two_workers(struct rig *r) {
        static char answer[1 << 16];
        cleanup_(freep) char *state = NULL;
        cJSON *json, *w;
        unsigned n = 0;

        if (!rig_ask(r, status_request, answer, sizeof(answer)))
                return false;
        json = cJSON_Parse(answer);
        cJSON_ArrayForEach(w, cJSON_GetObjectItem(json, "workers")) n +=
                cJSON_IsNumber(cJSON_GetObjectItem(w, "pid"));
        cJSON_Delete(json);
        return n == FAULT_SLOTS;
}

/* Two clients at once, all that they can ask; any of it may be answered with an error or be dropped. */
static void run_control(struct rig *r, uint64_t at, uint32_t way) {
        static const char *const requests[] = {
                "{\"command\":\"status\"}",
                "{\"command\":\"workers\",\"count\":1}",
                "{\"command\":\"version\"}",
                "{\"command\":\"pause\"}",
                "{\"command\":\"nonsense\"}",
                "{\"command\":\"resume\"}",
                "{\"command\":\"workers\",\"count\":2}",
        };
        int fd[2] = { -1, -1 };
        static char answer[1 << 16];

        rig_arm(r, FAULT_ALL, at, way);
        for (size_t i = 0; i < N_ELEMENTS(requests); i++) {
                int *which = &fd[i % 2];

                if (*which < 0)
                        *which = rig_connect(r);
                if (*which >= 0 && rig_exchange(*which, requests[i], answer, sizeof(answer)) < 0) {
                        (void) close(*which);
                        *which = -1;
                }
        }
        (void) rig_disarm(r);
        for (size_t i = 0; i < N_ELEMENTS(fd); i++)
                fd_closep(&fd[i]);
        if (kill(r->pid, 0) == 0) {
                rig_must(r, "{\"command\":\"workers\",\"count\":2}");
                rig_must(r, "{\"command\":\"resume\"}");
        }
        want(r, 1);
        check_running(r, rig_wait(r, "all is as before", has_two_workers));
        if (r->pid > 0)
                (void) rig_wait(r, "it goes on", rig_is_settled);
}

static pid_t pid_of(struct rig *r, const char *name) {
        static char answer[1 << 16];
        cJSON *json, *child;
        pid_t pid = 0;

        if (!rig_ask(r, status_request, answer, sizeof(answer)))
                return 0;
        json = cJSON_Parse(answer);
        child = strcmp(name, "trainer") == 0 ? cJSON_GetObjectItem(json, "trainer")
                                             : cJSON_GetArrayItem(cJSON_GetObjectItem(json, "workers"), 0);
        pid = (pid_t) cJSON_GetNumberValue(cJSON_GetObjectItem(child, "pid"));
        cJSON_Delete(json);
        return pid > 1 ? pid : 0;
}

/* A worker and the trainer are killed; others must come, whatever fails on the way. */
static void run_children(struct rig *r, uint64_t at, uint32_t way) {
        pid_t worker = pid_of(r, "worker"), trainer = pid_of(r, "trainer");

        if (worker == 0 || trainer == 0) {
                rig_complain(r, "the status names no pid");
                return;
        }
        generation_wanted = rig_generation(r) + 1;
        rig_arm(r, FAULT_ALL, at, way);
        (void) kill(worker, SIGKILL);
        (void) kill(trainer, SIGKILL);
        want(r, 1);
        atomic_fetch_add(&r->control->publications_wanted, 1);
        check_running(r, rig_wait(r, "all is there again", rig_is_serving));
        if (r->pid > 0)
                (void) rig_wait(r, "both workers and the trainer live", has_two_workers);
}

static uint64_t ticks_until_ns;

static bool has_ticked(struct rig *r) {
        return atomic_load(&r->control->n_failed) > 0 || clock_now_ns() > ticks_until_ns;
}

/* Nothing but time passes: what azpard does every second, every 5 and every 10, and its syncs of the window.
 */
static void run_ticks(struct rig *r, uint64_t at, uint32_t way) {
        rig_arm(r, FAULT_ALL, at, way);
        want(r, 1);
        ticks_until_ns = clock_now_ns() + 12 * NS_PER_S / FAST;
        check_running(r, rig_wait(r, "twelve of its seconds pass", has_ticked));
        if (r->pid > 0)
                rig_must(r, status_request);
}

/* ---- the order of things ---- */

struct plan {
        struct rig *rig;
        const struct scenario *scenario;
        struct rng rng;
        uint64_t n_calls, n_tried, n_failed;
};

/* Return: how many ways the call has; 0: it was beyond the last one. */
static uint32_t try_one(struct plan *p, uint64_t at, uint32_t way) {
        const struct fault_control *c = p->rig->control;

        p->scenario->run(p->rig, at, way);
        p->n_tried++;
        if (c->at != at || c->n_failed == 0)
                return 0;
        p->n_failed++;
        return c->n_ways;
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
        s->run(r, 0, 0);
        p.n_calls = r->control->n_calls;
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
        { "start-empty", FAULT_ALL, 1, prepare_start_empty, run_start, NULL },
        { "start-killed", FAULT_ALL, 1, prepare_start_killed, run_start, NULL },
        { "stop", FAULT_ALL, 1, prepare_stop, run_stop, NULL },
        { "drain", FAULT_ALL, FAST, begin_running, run_drain, end_running },
        { "publish", FAULT_ALL, FAST, begin_running, run_publish, end_running },
        { "checkpoint", FAULT_ALL, FAST, begin_running, run_checkpoint, end_running },
        { "control", FAULT_ALL, FAST, begin_running, run_control, end_running },
        { "children", FAULT_ALL, FAST, begin_running, run_children, end_running },
        { "ticks", FAULT_ALL, FAST, begin_running, run_ticks, end_running },
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
        rig_empty(&r);
        if (n == 0)
                (void) fprintf(stderr, "scenarios: no scenario '%s'\n", argv[2]);
        return n == 0 || r.n_complaints > 0;
}
