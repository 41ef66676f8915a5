/* SPDX-License-Identifier: MIT */
/*
 * What the way of a game from the worker to the replay window costs.
 *
 *   lane       small records (tictactoe) between two processes on a core each: encode and write on the one
 * side, read, decode, append and release on the other, with sleeping and waking cpu        CPU time of the
 * same steps for Gomoku 15x15, games of 60 plies, 100 visits over 20 moves json       CPU time of the same
 * samples as JSON files, 10 games each, written and read back recovery   window_open() of 500,000 samples of
 * Gomoku 15x15, in the page cache
 *
 * Rows "metric<TAB>value".  Files go to $TMPDIR or /tmp.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "common/base/clock.h"
#include "common/base/rng.h"
#include "common/exchange/sample.h"
#include "common/exchange/segment.h"
#include "common/exchange/window.h"
#include "tests/bench/json-files.h"

#define N_ROUNDS        5 /* the median counts */
#define LANE_BYTES      (4u << 20)
#define WINDOW_SAMPLES  100000u
#define RECORD_BYTES    (1u << 19)
#define N_SMALL_SAMPLES 2000000u
#define N_CPU_PASSES    20u
#define N_RECOVERED     500000u
#define N_GAMES         40u
#define PLIES           60u
#define GAMES_PER_FILE  10u
#define BOARD           675u
#define POLICY          225u

static char folder[256];
static char instance[32];
static int dir_fd = -1;

static void die(const char *what, const struct error *e) {
        (void) fprintf(stderr, "bench-exchange: %s: %s\n", what, e && e->text[0] ? e->text : strerror(errno));
        exit(1);
}

static void row(const char *metric, double value) {
        (void) printf("%s\t%.6g\n", metric, value);
        (void) fflush(stdout);
}

static double cpu_s(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static double median(double *x, size_t n) {
        for (size_t i = 1; i < n; i++)
                for (size_t k = i; k > 0 && x[k] < x[k - 1]; k--) {
                        double swap = x[k];

                        x[k] = x[k - 1];
                        x[k - 1] = swap;
                }
        return x[n / 2];
}

/* Run on the @n-th of the processors that this process may use. */
static void pin(unsigned n) {
        cpu_set_t allowed, one;

        if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || CPU_COUNT(&allowed) < 2)
                return;
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
                if (CPU_ISSET(cpu, &allowed) && n-- == 0)
                        CPU_SET(cpu, &one);
        (void) sched_setaffinity(0, sizeof(one), &one);
}

/* Games */

struct played {
        struct sample samples[PLIES];
        unsigned n;
};

static void record_visits(const struct game *g, const struct game_state *s, struct rng *r,
                          struct sample *ret) {
        uint16_t legal[GAME_MAX_MOVES];
        unsigned n = g->legal(g, s, legal), n_left = 100;
        unsigned n_visited = n < 20 ? n : 20;

        /* of each move in turn: is it among those still to be chosen? (Knuth, algorithm S) */
        for (unsigned i = 0, left = n_visited; i < n && left > 0; i++) {
                unsigned visits = left == 1 ? n_left : 1 + rng_below(r, 2 * (n_left - left + 1) / left);

                if (rng_below(r, n - i) >= left)
                        continue;
                visits = visits > n_left - (left - 1) ? n_left - (left - 1) : visits;
                ret->visits[ret->n_visits++] =
                        (struct sample_visit){ .move = legal[i], .visits = (uint16_t) visits };
                n_left -= visits;
                left--;
        }
}

/* A game of random moves, at most PLIES, with the samples that self-play would make of it. */
static void play(const struct game *g, struct rng *r, struct played *ret) {
        struct game_state s;

        memset(ret, 0, sizeof(*ret));
        g->start(g, &s);
        while (!s.over && ret->n < PLIES) {
                struct sample *a = &ret->samples[ret->n++];

                a->id.incarnation = 1;
                a->generation = 1000;
                a->root_value = (float) (2 * rng_double(r) - 1);
                a->weight = 1;
                a->outcome = (int8_t) (ret->n % 2 ? 1 : -1);
                a->ply = s.ply;
                g->encode(g, &s, a->planes);
                record_visits(g, &s, r, a);
                g->apply(g, &s, a->visits[rng_below(r, a->n_visits)].move);
        }
}

static struct played *play_games(const struct game *g, unsigned n) {
        struct played *games = calloc(n, sizeof(*games));
        struct rng r;

        if (!games)
                die("no memory", NULL);
        rng_seed(&r, 1, 0);
        for (unsigned i = 0; i < n; i++) {
                do
                        play(g, &r, &games[i]);
                while (strcmp(g->name, "gomoku") == 0 &&
                       games[i].n < PLIES); /* a random one may be won early */
        }
        return games;
}

static struct game *new_game(unsigned name) {
        struct error e = ERROR_INIT;
        struct config c;
        struct game *g;

        config_defaults(&c);
        c.game_name = name;
        if (game_new(&c, &g, &e) < 0)
                die("game", &e);
        return g;
}

/* The steps */

static size_t encode(const struct game *g, struct played *p, uint64_t *sequence, unsigned char *record) {
        size_t length;

        for (unsigned i = 0; i < p->n; i++)
                p->samples[i].id.sequence = (*sequence)++;
        if (sample_encode_record(g, p->samples, p->n, record, RECORD_BYTES, &length) < 0)
                die("encode", NULL);
        return length;
}

/* Take one record in, as azpard does. Return: samples; 0: the lane is empty. */
static uint32_t take_in(const struct game *g, struct lane *l, struct window *w, unsigned char *record,
                        uint64_t *sequence) {
        struct window_item items[GAME_MAX_PLIES];
        struct error e = ERROR_INIT;
        struct sample s;
        uint32_t length, n;
        size_t at, used;
        uint64_t next;
        int r = lane_read(l, record, RECORD_BYTES, &length, &next);

        if (r == LANE_E_EMPTY)
                return 0;
        if (r != 0 || sample_record_open(g, record, length, &n, &at, &e) < 0)
                die("lane", &e);
        for (uint32_t i = 0; i < n; i++, at += used) {
                if (sample_decode(g, record + at, length - at, &s, &used, &e) < 0)
                        die("decode", &e);
                if (s.id.sequence != (*sequence)++)
                        die("a sample is missing", NULL);
                items[i] = (struct window_item){ record + at, (uint32_t) used };
        }
        if (window_append(w, items, n) < 0)
                die("append", NULL);
        lane_release(l, next);
        return n;
}

static struct window *open_window(const struct game *g, uint64_t n_samples) {
        struct error e = ERROR_INIT;
        struct window *w;

        if (window_open(dir_fd, "window", g, n_samples, &w, &e) < 0)
                die("window", &e);
        return w;
}

static struct segment *make_segment(const struct game *g) {
        struct error e = ERROR_INIT;
        struct segment *s;

        (void) snprintf(instance, sizeof(instance), "bench-%d", (int) getpid());
        if (segment_create(instance, 1, LANE_BYTES, g->rules, folder, &s, &e) < 0)
                die("segment", &e);
        (void) segment_unlink(instance);
        return s;
}

/* Two processes */

static void produce(const struct game *g, struct segment *all, int wake_fd) {
        struct played *games = play_games(g, N_GAMES);
        unsigned char *record = malloc(RECORD_BYTES);
        struct error e = ERROR_INIT;
        struct segment *s;
        uint64_t sequence = 0;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(1);
        if (!record || segment_map_worker(dup(all->fd), 0, &s, &e) < 0)
                die("worker", &e);
        for (unsigned i = 0; sequence < N_SMALL_SAMPLES; i = (i + 1) % N_GAMES) {
                size_t length = encode(g, &games[i], &sequence, record);

                while (lane_write(&s->lanes[0], record, (uint32_t) length) == LANE_E_FULL)
                        (void) sched_yield();
                segment_wake_consumer(s, wake_fd);
        }
        exit(0);
}

/* Samples per second through one lane into @w. */
static double run_lane(const struct game *g, struct window *w, unsigned char *record) {
        cleanup_(segment_freep) struct segment *s = make_segment(g);
        cleanup_(fd_closep) int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        struct pollfd p = { .fd = wake_fd, .events = POLLIN };
        uint64_t sequence = 0, begin = 0, n;
        pid_t pid = fork();
        int status;

        if (pid < 0)
                die("fork", NULL);
        if (pid == 0)
                produce(g, s, wake_fd);
        while (sequence < N_SMALL_SAMPLES) {
                if (take_in(g, &s->lanes[0], w, record, &sequence) > 0) {
                        if (begin == 0)
                                begin = clock_now_ns(); /* the producer is up */
                        continue;
                }
                if (!segment_consumer_may_sleep(s))
                        continue;
                if (poll(&p, 1, 10000) != 1)
                        die("the producer is silent", NULL);
                segment_consumer_woke(s);
                (void) !read(wake_fd, &n, sizeof(n));
        }
        n = clock_now_ns() - begin;
        if (waitpid(pid, &status, 0) != pid || status != 0)
                die("the producer failed", NULL);
        return (double) sequence / ((double) n * 1e-9);
}

static void bench_lane(unsigned char *record) {
        cleanup_(game_freep) struct game *g = new_game(GAME_TICTACTOE);
        cleanup_(window_freep) struct window *w = open_window(g, WINDOW_SAMPLES);
        double rates[N_ROUNDS];

        pin(0);
        for (unsigned i = 0; i < N_ROUNDS; i++)
                rates[i] = run_lane(g, w, record);
        row("exchange-lane-samples-per-s", median(rates, N_ROUNDS));
        (void) unlinkat(dir_fd, "window", 0);
}

/* CPU time, beside JSON */

/* Seconds of CPU per sample from encode to window. */
static double run_cpu(const struct game *g, struct segment *s, struct window *w, struct played *games,
                      unsigned char *record, double *ret_bytes) {
        uint64_t n_out = 0, n_in = 0, n_bytes = 0;
        double begin = cpu_s();

        for (unsigned pass = 0; pass < N_CPU_PASSES; pass++)
                for (unsigned i = 0; i < N_GAMES; i++) {
                        size_t length = encode(g, &games[i], &n_out, record);

                        n_bytes += length;
                        if (lane_write(&s->lanes[0], record, (uint32_t) length) != 0)
                                die("lane", NULL);
                        (void) take_in(g, &s->lanes[0], w, record, &n_in);
                }
        *ret_bytes = (double) n_bytes / (double) n_out;
        return (cpu_s() - begin) / (double) n_out;
}

struct json_batch {
        struct json_sample samples[N_GAMES * PLIES];
        double board[N_GAMES * PLIES][BOARD], policy[N_GAMES * PLIES][POLICY];
        size_t n;
};

static struct json_batch *make_batch(const struct played *games) {
        struct json_batch *b = calloc(1, sizeof(*b));

        if (!b)
                die("no memory", NULL);
        for (unsigned i = 0; i < N_GAMES; i++)
                for (unsigned k = 0; k < games[i].n; k++, b->n++) {
                        const struct sample *s = &games[i].samples[k];

                        for (unsigned bit = 0; bit < BOARD; bit++)
                                b->board[b->n][bit] = s->planes[bit / 8] >> bit % 8 & 1;
                        for (unsigned v = 0; v < s->n_visits; v++)
                                b->policy[b->n][s->visits[v].move] = s->visits[v].visits / 100.0;
                        b->samples[b->n] =
                                (struct json_sample){ b->board[b->n], b->policy[b->n], s->outcome };
                }
        return b;
}

/* Seconds of CPU per sample to write and read the files. */
static double run_json(const struct json_batch *b, double *ret_bytes) {
        size_t n_per_file = GAMES_PER_FILE * PLIES, n_bytes = 0;
        char path[300];
        double begin = cpu_s(), sum;

        (void) snprintf(path, sizeof(path), "%s/batch_000000.json", folder);
        for (size_t at = 0; at < b->n; at += n_per_file) {
                size_t n = json_files_round_trip(b->samples + at, n_per_file, BOARD, POLICY, path, &sum);

                if (n == 0 || sum < (double) n_per_file) /* each position has a stone or a plane of ones, and
                                                            a policy */
                        die("json", NULL);
                n_bytes += n;
        }
        *ret_bytes = (double) n_bytes / (double) b->n;
        return (cpu_s() - begin) / (double) b->n;
}

static void bench_cpu(unsigned char *record) {
        cleanup_(game_freep) struct game *g = new_game(GAME_GOMOKU);
        cleanup_(freep) struct played *games = play_games(g, N_GAMES);
        cleanup_(freep) struct json_batch *batch = make_batch(games);
        cleanup_(segment_freep) struct segment *s = make_segment(g);
        double ours[N_ROUNDS], json[N_ROUNDS], bytes, json_bytes;

        for (unsigned i = 0; i < N_ROUNDS; i++) {
                /* a new window each time: the first touch of its pages counts */
                cleanup_(window_freep) struct window *w = open_window(g, WINDOW_SAMPLES);

                ours[i] = run_cpu(g, s, w, games, record, &bytes);
                json[i] = run_json(batch, &json_bytes);
                (void) unlinkat(dir_fd, "window", 0);
        }
        row("exchange-cpu-ms-per-1000-samples", median(ours, N_ROUNDS) * 1e6);
        row("exchange-json-cpu-ms-per-1000-samples", median(json, N_ROUNDS) * 1e6);
        row("exchange-cpu-ratio-to-json", ours[N_ROUNDS / 2] / json[N_ROUNDS / 2]);
        row("exchange-bytes-per-sample", bytes);
        row("exchange-json-bytes-per-sample", json_bytes);
}

/* Recovery */

static void bench_recovery(unsigned char *record) {
        cleanup_(game_freep) struct game *g = new_game(GAME_GOMOKU);
        cleanup_(freep) struct played *games = play_games(g, N_GAMES);
        cleanup_(segment_freep) struct segment *s = make_segment(g);
        struct window *w = open_window(g, N_RECOVERED);
        uint64_t n_out = 0, n_in = 0;
        double seconds[N_ROUNDS];

        for (unsigned i = 0; n_in < N_RECOVERED; i = (i + 1) % N_GAMES) {
                if (lane_write(&s->lanes[0], record, (uint32_t) encode(g, &games[i], &n_out, record)) != 0)
                        die("lane", NULL);
                (void) take_in(g, &s->lanes[0], w, record, &n_in);
        }
        window_free(w);
        for (unsigned i = 0; i < N_ROUNDS; i++) {
                uint64_t begin = clock_now_ns();

                w = open_window(g, N_RECOVERED);
                seconds[i] = (double) (clock_now_ns() - begin) * 1e-9;
                if (window_tail(w) - window_first(w) != N_RECOVERED || window_n_damaged(w) != 0)
                        die("recovery", NULL);
                window_free(w);
        }
        row("exchange-recovery-500k-samples-s", median(seconds, N_ROUNDS));
        (void) unlinkat(dir_fd, "window", 0);
}

int main(void) {
        const char *tmp = getenv("TMPDIR");
        cleanup_(freep) unsigned char *record = malloc(RECORD_BYTES);

        (void) snprintf(folder, sizeof(folder), "%s/azpar-bench-exchange.XXXXXX", tmp ? tmp : "/tmp");
        if (!record || !mkdtemp(folder))
                die("temporary directory", NULL);
        dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0)
                die("temporary directory", NULL);
        bench_lane(record);
        bench_cpu(record);
        bench_recovery(record);
        (void) rmdir(folder);
        return 0;
}
