/* SPDX-License-Identifier: MIT */
/* azpar's side of bench-json; see json-azpar.h. */
#include "tests/bench/json-azpar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/decimal.h"
#include "common/base/rng.h"
#include "common/exchange/batch_file.h"

#define N_GAMES 50u
#define PLIES   60u
#define VISITED 20u
#define VISITS  100u

static struct game *new_game(void) {
        struct error e = ERROR_INIT;
        struct game *g;

        if (game_from_rules("gomoku:15x15:5:freestyle:draw0", &g, &e) < 0) {
                (void) fprintf(stderr, "bench-json: %s\n", e.text);
                exit(1);
        }
        return g;
}

/* VISITS over VISITED of the legal moves. */
static void record_visits(const struct game *g, const struct game_state *s, struct rng *r,
                          struct sample *ret) {
        uint16_t legal[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, legal), n_left = VISITS, left = n < VISITED ? n : VISITED;

        /* of each move in turn: is it among those still to be chosen? (Knuth, algorithm S) */
        for (unsigned i = 0; i < n && left > 0; i++) {
                unsigned visits = left == 1 ? n_left : 1 + rng_below(r, 2 * (n_left - left + 1) / left);

                if (rng_below(r, n - i) >= left)
                        continue;
                visits = MIN(visits, n_left - (left - 1));
                ret->visits[ret->n_visits++] = (struct sample_visit){ legal[i], (uint16_t) visits };
                n_left -= visits;
                left--;
        }
}

/* The positions of a game of random moves. Return: how many. */
static unsigned play(const struct game *g, struct rng *r, uint64_t *sequence, struct sample *ret) {
        struct game_state s;
        unsigned n = 0;

        g->start(g, &s);
        while (!s.over && n < PLIES) {
                struct sample *a = &ret[n++];

                memset(a, 0, sizeof(*a));
                a->id = (struct sample_id){ 3, 17, (*sequence)++ };
                a->generation = 42;
                a->root_value = (float) (2 * rng_double(r) - 1);
                a->weight = 1;
                a->outcome = (int8_t) (n % 2 ? 1 : -1);
                a->ply = s.ply;
                g->encode(g, &s, a->planes);
                record_visits(g, &s, r, a);
                g->apply(g, &s, a->visits[rng_below(r, a->n_visits)].move);
        }
        return n;
}

/* As a Rust program with serde_json prints a number: with a fraction always. */
static size_t print_original(double x, char *ret) {
        size_t n = decimal_print_f64(x, ret);

        if (memchr(ret, '.', n) || memchr(ret, 'e', n))
                return n;
        memcpy(ret + n, ".0", 2);
        return n + 2;
}

static size_t write_original(const struct game *g, const struct sample *s, char *ret) {
        double policy[GAME_MAX_MOVES] = { 0 };
        char *to = ret;

        for (unsigned i = 0; i < s->n_visits; i++)
                policy[s->visits[i].move] = s->visits[i].visits / (double) VISITS;
        to = stpcpy(to, "{\"board\":[");
        for (unsigned i = 0; i < (unsigned) g->planes * g->cells; i++, *to++ = ',')
                to += print_original(s->planes[i / 8] >> i % 8 & 1, to);
        to = stpcpy(to - 1, "],\"policy\":[");
        for (unsigned i = 0; i < g->moves; i++, *to++ = ',')
                to += print_original(policy[i], to);
        to = stpcpy(to - 1, "],\"value\":");
        to += print_original(s->outcome, to);
        *to++ = '}';
        return (size_t) (to - ret);
}

char *json_azpar_make(size_t n_bytes, int is_spill, size_t n_padding, size_t *ret_n) {
        cleanup_(game_freep) struct game *g = new_game();
        cleanup_(freep) struct sample *samples = calloc(PLIES, sizeof(*samples));
        /* the original's numbers are longer by two at most */
        size_t max = batch_file_sample_max_bytes(g) + 2 * ((size_t) g->planes * g->cells + g->moves), n = 0;
        char *text = malloc(n_bytes + PLIES * (max + 2) + 2 + n_padding);
        uint64_t sequence = 0;
        struct rng r;

        if (!samples || !text)
                abort();
        rng_seed(&r, 1, 0);
        text[n++] = '[';
        while (n < n_bytes) {
                unsigned n_samples = play(g, &r, &sequence, samples);

                for (unsigned i = 0; i < n_samples; i++) {
                        n += is_spill ? batch_file_write_sample(g, &samples[i], 0x0123456789abcdef, false,
                                                                text + n)
                                      : write_original(g, &samples[i], text + n);
                        text[n++] = ',';
                        if (is_spill)
                                text[n++] = '\n';
                }
        }
        n -= is_spill ? 2 : 1; /* no comma behind the last one */
        text[n++] = ']';
        memset(text + n, 0, n_padding);
        *ret_n = n;
        return text;
}

static void add(const struct game *g, const struct sample *s, struct json_totals *t) {
        unsigned ones = 0, total = 0;

        for (size_t i = 0; i < GAME_PLANES_BYTES(g); i++)
                ones += (unsigned) __builtin_popcount(s->planes[i]);
        for (unsigned i = 0; i < s->n_visits; i++)
                total += s->visits[i].visits;
        for (unsigned i = 0; i < s->n_visits; i++)
                t->policy += s->visits[i].visits / (double) total;
        t->board += ones;
        t->value += s->outcome;
        t->n_samples++;
}

int json_azpar_read(const char *text, size_t n, struct json_totals *ret) {
        cleanup_(game_freep) struct game *g = new_game();
        struct json_totals totals = { 0 };
        struct error e = ERROR_INIT;
        struct batch_file_reader r;
        struct batch_file_item item;
        size_t at = 0, used;
        int x;

        batch_file_reader_init(&r, g);
        do {
                size_t window = MIN(n - at, BATCH_FILE_SAMPLE_MAX);

                x = batch_file_read(&r, text + at, window, at + window == n, &used, &item, &e);
                if (x < 0) {
                        (void) fprintf(stderr, "bench-json: %s\n", e.text);
                        return -1;
                }
                if (x == 0)
                        add(g, &item.sample, &totals);
                at += used;
        } while (x != BATCH_FILE_E_END);
        *ret = totals;
        return 0;
}
