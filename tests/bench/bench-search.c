/* SPDX-License-Identifier: MIT */
/*
 * What the search costs beside the network: evaluations per CPU second of self-play (one core) against those
 * of the bare network at the same batch size, in turns within one run, and simulations per second when
 * evaluations cost nothing.
 *
 * Rows "metric<TAB>value".  Usage: bench-search [SECONDS]: per measurement, default 2.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/model/safetensors.h"
#include "tests/unit/fixture-network.h"
#include "worker/evaluate.h"
#include "worker/selfplay.h"

#define N_ROUNDS  5 /* the median counts */
#define MAX_GAMES 64

struct setup {
        const char *name;
        const char *game;
        uint32_t filters, blocks;
};

static const struct setup setups[] = {
        { "gomoku15-128x10", "game.name=gomoku", 128, 10 },
        { "connect4-64x5", "game.name=connect4", 64, 5 },
        { "connect4-32x4", "game.name=connect4", 32, 4 },
};

struct stage {
        struct game *game;
        struct config config;
        struct evaluate *evaluate;
        struct infer *infer;
        float *planes, *logits, values[MAX_GAMES];
        unsigned n_batch;
        double seconds;
};

static void die(const char *what, const struct error *e) {
        (void) fprintf(stderr, "bench-search: %s: %s\n", what, e->text);
        exit(EXIT_FAILURE);
}

static double cpu_seconds(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

static double median(double *x, size_t n) {
        qsort(x, n, sizeof(*x), compare_doubles);
        return x[n / 2];
}

static void row(const char *setup, const char *metric, double value) {
        (void) printf("search.%s.%s\t%.4g\n", setup, metric, value);
        (void) fflush(stdout);
}

/* ---- evaluations: by the network, and for nothing ---- */

static unsigned network_add(void *context, const struct game_state *s, struct rng *rng) {
        return evaluate_add(((struct stage *) context)->evaluate, s, rng);
}

static int network_run(void *context, struct error *e) {
        return evaluate_run(((struct stage *) context)->evaluate, e);
}

static const float *network_logits(void *context, unsigned i) {
        return evaluate_logits(((struct stage *) context)->evaluate, i);
}

static float network_value(void *context, unsigned i) {
        return evaluate_value(((struct stage *) context)->evaluate, i);
}

/* One of a few prepared answers, by the position's bytes: nearly as cheap as nothing, but the trees still
 * branch. */
static unsigned free_add(void *context, const struct game_state *s, struct rng *rng) {
        struct stage *stage = context;
        uint64_t h = s->ply, word;

        (void) rng;
        for (size_t i = 0; i < 64; i += sizeof(word)) {
                memcpy(&word, s->bytes + i, sizeof(word));
                h = (h ^ word) * 0x9e3779b97f4a7c15u;
        }
        stage->values[stage->n_batch] = (float) (int8_t) (h >> 56) / 128.0f;
        return stage->n_batch++;
}

static int free_run(void *context, struct error *e) {
        (void) e;
        ((struct stage *) context)->n_batch = 0;
        return 0;
}

static const float *free_logits(void *context, unsigned i) {
        struct stage *stage = context;

        return stage->logits + (size_t) i * stage->game->moves;
}

static float free_value(void *context, unsigned i) {
        return ((struct stage *) context)->values[i];
}

static int drop_record(void *context, const unsigned char *record, size_t n_bytes, struct error *e) {
        (void) context;
        (void) record;
        (void) n_bytes;
        (void) e;
        return 0;
}

/* ---- measurements ---- */

static struct selfplay *new_selfplay(struct stage *stage, bool for_free) {
        struct selfplay_options o = { .games = (uint32_t) stage->config.selfplay_games, .seed = 1 };
        struct selfplay_ops ops = { stage,          network_add,   network_run,
                                    network_logits, network_value, drop_record };
        struct selfplay *p;

        if (for_free)
                ops = (struct selfplay_ops){
                        stage, free_add, free_run, free_logits, free_value, drop_record
                };
        search_options_init(&o.search, &stage->config);
        if (selfplay_new(stage->game, &o, &ops, &p) < 0)
                die("selfplay_new", &(struct error){ .text = "out of memory" });
        return p;
}

/* Play for a while. Return: evaluations per CPU second; @ret_simulations likewise. */
static double play(struct stage *stage, struct selfplay *p, double *ret_simulations) {
        struct selfplay_counters before, after;
        struct error e = ERROR_INIT;
        double begin = cpu_seconds(), seconds;

        selfplay_counters(p, &before);
        do {
                for (unsigned i = 0; i < 16; i++)
                        if (selfplay_step(p, &e) != 0)
                                die("selfplay_step", &e);
                seconds = cpu_seconds() - begin;
        } while (seconds < stage->seconds);
        selfplay_counters(p, &after);
        *ret_simulations = (double) (after.simulations - before.simulations) / seconds;
        return (double) (after.evaluations - before.evaluations) / seconds;
}

/* The network alone. Return: evaluations per CPU second. */
static double infer_alone(struct stage *stage) {
        unsigned n = (unsigned) stage->config.selfplay_games;
        double begin = cpu_seconds(), seconds;
        struct error e = ERROR_INIT;
        uint64_t count = 0;

        do {
                for (unsigned i = 0; i < 16; i++, count += n)
                        if (infer_run(stage->infer, stage->planes, n, stage->logits, stage->values, &e) < 0)
                                die("infer_run", &e);
                seconds = cpu_seconds() - begin;
        } while (seconds < stage->seconds);
        return (double) count / seconds;
}

static void load_weights(struct stage *stage, const struct setup *s) {
        cleanup_(fixture_weights_freep) struct fixture_weights *weights = NULL;
        unsigned n = (unsigned) stage->config.selfplay_games;
        struct model_info info = { .generation = 1 };
        cleanup_(fd_closep) int directory_fd = -1;
        struct error e = ERROR_INIT;
        char directory[64];
        uint64_t generation;

        network_init(&info.network, stage->game, s->filters, s->blocks);
        weights = fixture_weights_new(&info.network, 1);
        fixture_directory(directory);
        directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (model_write(directory_fd, "model.safetensors", &info, fixture_tensors(weights), &e) < 0 ||
            evaluate_new(stage->game, &info.network, PRECISION_AUTO, n, &stage->evaluate, &e) < 0 ||
            evaluate_load(stage->evaluate, directory_fd, "model.safetensors", &generation, &e) < 0 ||
            infer_new(&info.network, PRECISION_AUTO, n, &stage->infer, &e) < 0 ||
            infer_load(stage->infer, fixture_tensors(weights), &e) < 0)
                die(s->name, &e);
        fixture_remove(directory);
}

static void measure_network(struct stage *stage, const struct setup *s) {
        cleanup_(selfplay_freep) struct selfplay *p = NULL;
        double playing[N_ROUNDS], alone[N_ROUNDS], ratio[N_ROUNDS], simulations[N_ROUNDS];

        load_weights(stage, s);
        p = new_selfplay(stage, false);
        for (size_t i = 0; i < N_ROUNDS; i++) {
                alone[i] = infer_alone(stage);
                playing[i] = play(stage, p, &simulations[i]);
                ratio[i] = playing[i] / alone[i];
        }
        row(s->name, "precision_bf16", evaluate_precision(stage->evaluate) == PRECISION_BF16);
        row(s->name, "evaluations_per_cpu_s_network_alone", median(alone, N_ROUNDS));
        row(s->name, "evaluations_per_cpu_s_selfplay", median(playing, N_ROUNDS));
        row(s->name, "simulations_per_cpu_s_selfplay", median(simulations, N_ROUNDS));
        row(s->name, "selfplay_share_of_network_alone", median(ratio, N_ROUNDS));
}

static void measure_free(struct stage *stage, const char *name) {
        cleanup_(selfplay_freep) struct selfplay *p = new_selfplay(stage, true);
        double simulations[N_ROUNDS];

        for (size_t i = 0; i < N_ROUNDS; i++)
                (void) play(stage, p, &simulations[i]);
        row(name, "simulations_per_cpu_s_free_evaluation", median(simulations, N_ROUNDS));
}

static void measure(const struct setup *s, double seconds, bool network) {
        struct stage stage = { .seconds = seconds };
        struct error e = ERROR_INIT;
        struct rng rng;
        size_t n;

        rng_seed(&rng, 1, 1);
        if (config_read(NULL, &s->game, 1, &stage.config, &e) < 0 ||
            game_new(&stage.config, &stage.game, &e) < 0)
                die(s->name, &e);
        n = stage.config.selfplay_games * stage.game->moves;
        stage.logits = calloc(n, sizeof(float));
        stage.planes =
                calloc(stage.config.selfplay_games * stage.game->planes * stage.game->cells, sizeof(float));
        if (!stage.logits || !stage.planes)
                die(s->name, &(struct error){ .text = "out of memory" });
        for (size_t i = 0; i < n; i++)
                stage.logits[i] = (float) rng_normal(&rng);
        measure_free(&stage, s->name);
        if (network)
                measure_network(&stage, s);
        evaluate_free(stage.evaluate);
        infer_free(stage.infer);
        game_free(stage.game);
        free(stage.logits);
        free(stage.planes);
}

int main(int argc, char **argv) {
        double seconds = argc > 1 ? atof(argv[1]) : 2.0;

        for (size_t i = 0; i < N_ELEMENTS(setups); i++)
                measure(&setups[i], seconds, true);
        return EXIT_SUCCESS;
}
