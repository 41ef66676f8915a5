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

#define NAP_NS (200 * UINT64_C(1000))

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
        uint64_t sequence;
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
static void write_down(struct worker *w, uint64_t sequence, unsigned n) {
        struct numbered_ledger *l = w->ledger;
        uint64_t i = atomic_load_explicit(&l->n_written, memory_order_relaxed);

        l->entries[i % NUMBERED_ENTRIES] = (struct numbered_entry){ w->a.incarnation, sequence, n };
        atomic_store_explicit(&l->n_written, i + 1, memory_order_release);
}

static bool ledger_has_room(const struct worker *w) {
        return atomic_load_explicit(&w->ledger->n_written, memory_order_relaxed) -
                       atomic_load_explicit(&w->ledger->n_read, memory_order_acquire) <
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

/* Return: 0 or a negative errno with a text. */
static int commit_game(struct worker *w, struct error *e) {
        uint32_t pace_us = atomic_load(&w->shared->pace_us);
        size_t length;
        unsigned n = make_game(w, &length);
        int r;

        while ((r = lane_write(&w->segment->lanes[w->a.slot], w->record, (uint32_t) length)) == LANE_E_FULL) {
                if (should_stop(w))
                        return 0;
                beat(w);
                clock_sleep_ns(NAP_NS);
        }
        if (r != 0)
                return error_set(e, -EBADMSG, "lane_write() gave %d", r);
        segment_wake_consumer(w->segment, w->a.wake_fd);
        write_down(w, w->sequence, n);
        w->sequence += n;
        if (pace_us > 0)
                clock_sleep_ns(pace_us * UINT64_C(1000));
        return 0;
}

static int play(struct worker *w, struct error *e) {
        int r = 0;

        while (r == 0 && !should_stop(w)) {
                const struct segment_header *h = w->segment->header;

                beat(w);
                if (atomic_load(&h->pause) || atomic_load(&w->shared->hold) || !ledger_has_room(w))
                        clock_sleep_ns(NAP_NS);
                else
                        r = commit_game(w, e);
        }
        return r;
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
        return 0;
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
        if (worker_init(&w, &e) == 0 && play(&w, &e) == 0)
                return EXIT_SUCCESS;
        log_error("%s", e.text);
        return EXIT_FAILURE;
}
