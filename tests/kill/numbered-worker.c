/* SPDX-License-Identifier: MIT */
/*
 * Takes azpar-worker's place in the kill test: commits numbered games as fast as the real code lets it, and
 * writes each one down once it is committed.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/exchange/segment.h"
#include "tests/kill/numbered.h"
#include "worker/commit.h"

#define NAP_NS      (200 * UINT64_C(1000))
#define FLUSH_NS    (3 * NS_PER_S) /* as azpar-worker's */
#define SPILLED_MAX 32768u         /* games in the spill's two texts, at most */

struct arguments {
        uint64_t slot, incarnation;
        int config_fd, segment_fd, state_fd, wake_fd;
};

struct worker {
        struct arguments a;
        struct config config;
        struct game *game;
        struct segment *segment;
        struct segment_worker *own;
        struct numbered_shared *shared;
        struct numbered_ledger *ledger;
        struct commit commit;
        uint64_t sequence;
        struct {
                uint64_t sequence;
                unsigned n_samples;
        } spilled[SPILLED_MAX]; /* let go and not committed yet, the oldest first */
        unsigned n_spilled, at; /* at: of the oldest one */
        uint64_t n_left;        /* samples that spill files committed and that are not written down */
        uint64_t n_seen;        /* of the counter of such samples */
        unsigned char *record;
        size_t record_size;
};

static volatile sig_atomic_t terminated;

static void on_sigterm(int signal_number) {
        (void) signal_number;
        terminated = 1;
}

static bool should_stop(const struct worker *w) {
        const struct segment_header *h = w->segment->header;

        return terminated || atomic_load(&h->stop) || w->a.slot >= atomic_load(&h->n_desired);
}

static void beat(struct worker *w) {
        atomic_store(&w->own->state, WORKER_PLAYING);
        atomic_store(&w->own->heartbeat_ns, clock_now_ns());
}

/* It is committed: write that down. */
static void write_down(struct worker *w, uint64_t sequence, unsigned n, bool is_spilled) {
        struct numbered_ledger *l = w->ledger;
        uint64_t i = atomic_load_explicit(&l->n_written, memory_order_relaxed);

        l->entries[i % NUMBERED_ENTRIES] =
                (struct numbered_entry){ w->a.incarnation, sequence, n, is_spilled };
        atomic_store_explicit(&l->n_written, i + 1, memory_order_release);
}

/* For @n games more? */
static bool ledger_has_room(const struct worker *w, unsigned n) {
        return atomic_load_explicit(&w->ledger->n_written, memory_order_relaxed) -
                       atomic_load_explicit(&w->ledger->n_read, memory_order_acquire) + n <=
               NUMBERED_ENTRIES;
}

/* Put the next game into w->record. Return: its samples. */
static unsigned make_game(struct worker *w, size_t *ret_length) {
        unsigned n = numbered_length(w->a.incarnation, w->sequence);
        static struct sample samples[NUMBERED_PLIES];

        for (unsigned i = 0; i < n; i++)
                numbered_sample(w->game, (struct sample_id){ w->a.slot, w->a.incarnation, w->sequence + i },
                                i, &samples[i]);
        if (sample_encode_record(w->game, samples, n, w->record, w->record_size, ret_length) < 0)
                abort();
        return n;
}

/* Go on with spilling, and write down what lies in files now: they hold the games in their order. */
static void poll_spill(struct worker *w, bool flush) {
        uint64_t n_samples;

        if (flush)
                (void) commit_flush(&w->commit);
        else
                commit_poll(&w->commit);
        n_samples = spill_counters(w->commit.spill)->samples;
        w->n_left += n_samples - w->n_seen;
        w->n_seen = n_samples;
        while (w->n_left > 0 && ledger_has_room(w, 2)) { /* one is for the game that waits for the lane */
                write_down(w, w->spilled[w->at].sequence, w->spilled[w->at].n_samples, true);
                w->n_left -= w->spilled[w->at].n_samples;
                w->at = (w->at + 1) % SPILLED_MAX;
                w->n_spilled--;
        }
}

/* The game was taken: by the lane, which has committed it, or by the spill, which has not. */
static void taken(struct worker *w, unsigned n, bool by_lane) {
        unsigned end = (w->at + w->n_spilled) % SPILLED_MAX;

        if (by_lane)
                write_down(w, w->sequence, n, false);
        else {
                if (w->n_spilled == SPILLED_MAX)
                        abort();
                w->spilled[end].sequence = w->sequence;
                w->spilled[end].n_samples = n;
                w->n_spilled++;
        }
        w->sequence += n;
}

/* Return: 0 or a negative errno with a text. */
static int commit_game(struct worker *w, struct error *e) {
        _Atomic uint64_t *tail = &w->segment->lanes[w->a.slot].shared->tail;
        uint32_t pace_us = atomic_load(&w->shared->pace_us);
        uint64_t before = atomic_load(tail);
        size_t length;
        unsigned n = make_game(w, &length);
        int r;

        while ((r = commit_record(&w->commit, w->record, length, e)) == COMMIT_E_WAIT) {
                if (should_stop(w))
                        return 0;
                beat(w);
                clock_sleep_ns(NAP_NS);
                poll_spill(w, false);
        }
        if (r < 0)
                return r;
        taken(w, n, atomic_load(tail) != before);
        if (pace_us > 0)
                clock_sleep_ns(pace_us * UINT64_C(1000));
        return 0;
}

static int play(struct worker *w, struct error *e) {
        int r = 0;

        while (r == 0 && !should_stop(w)) {
                bool hold = atomic_load(&w->segment->header->pause) || atomic_load(&w->shared->hold);

                beat(w);
                poll_spill(w, hold);
                atomic_store(&w->ledger->idle, hold && spill_is_idle(w->commit.spill) && w->n_left == 0);
                if (hold || !ledger_has_room(w, 1))
                        clock_sleep_ns(NAP_NS);
                else
                        r = commit_game(w, e);
        }
        return r;
}

static void finish_spilling(struct worker *w) {
        uint64_t end = clock_now_ns() + FLUSH_NS;

        while (!commit_flush(&w->commit) && clock_now_ns() < end) {
                beat(w);
                clock_sleep_ns(NAP_NS);
        }
        poll_spill(w, true);
}

static int worker_init(struct worker *w, struct error *e) {
        int r;

        w->shared = numbered_map();
        if (!w->shared || w->a.slot >= NUMBERED_SLOTS)
                return error_set(e, -EINVAL, "no AZPAR_KILL_FILE, or too many slots");
        w->ledger = &w->shared->ledgers[w->a.slot];
        r = config_read_fd(w->a.config_fd, &w->config, e);
        if (r == 0)
                r = game_new(&w->config, &w->game, e);
        if (r == 0)
                r = segment_map_worker(w->a.segment_fd, (uint32_t) w->a.slot, &w->segment, e);
        if (r < 0)
                return r;
        w->own = w->segment->workers[w->a.slot];
        w->record_size = sample_record_max_bytes(w->game);
        w->record = malloc(w->record_size);
        if (!w->record)
                return error_errno(e, -ENOMEM, "record");
        atomic_store(&w->own->incarnation, w->a.incarnation);
        atomic_store(&w->own->generation, 1);
        return commit_init(&w->commit, w->game, w->segment, (uint32_t) w->a.slot, w->a.state_fd, w->a.wake_fd,
                           w->config.service_spill_after, w->config.service_spill_max, e);
}

static void parse_arguments(int argc, char **argv, struct arguments *ret) {
        static const char *const names[] = { "slot",       "incarnation", "config-fd",
                                             "segment-fd", "state-fd",    "wake-fd" };
        struct option options[N_ELEMENTS(names) + 1] = { 0 };
        uint64_t values[N_ELEMENTS(names)] = { 0 };
        int c;

        for (size_t i = 0; i < N_ELEMENTS(names); i++)
                options[i] = (struct option){ names[i], required_argument, NULL, (int) i };
        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (c >= (int) N_ELEMENTS(names))
                        exit(EX_CONFIG);
                values[c] = strtoull(optarg, NULL, 10);
        }
        *ret = (struct arguments){ .slot = values[0],
                                   .incarnation = values[1],
                                   .config_fd = (int) values[2],
                                   .segment_fd = (int) values[3],
                                   .state_fd = (int) values[4],
                                   .wake_fd = (int) values[5] };
}

int main(int argc, char **argv) {
        struct sigaction terminate = { .sa_handler = on_sigterm };
        static struct worker w;
        struct error e = ERROR_INIT;

        log_open("numbered-worker", LOG_LEVEL_INFO);
        parse_arguments(argc, argv, &w.a);
        (void) sigaction(SIGTERM, &terminate, NULL);
        if (worker_init(&w, &e) == 0 && play(&w, &e) == 0) {
                finish_spilling(&w);
                commit_deinit(&w.commit);
                return EXIT_SUCCESS;
        }
        log_error("%s", e.text);
        return EXIT_FAILURE;
}
