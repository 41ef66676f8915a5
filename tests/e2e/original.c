/* SPDX-License-Identifier: MIT */
/*
 * original CONFIG DIR WORKERS FILES GAMES float|double SEED: write a data folder as the program that azpar
 * replaces does, for the end-to-end tests: DIR/worker_<N>/batch_<NNNNNN>.json with the samples of GAMES
 * random games each.
 *
 * It shares nothing with common/exchange/batch_file.c: shares are divided in single or double precision and
 * printed with as many digits as that needs, all zeros and ones are "0.0" and "1.0".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/config.h"
#include "common/base/rng.h"
#include "common/games/game.h"

static bool is_float;

/* The shortest of all decimals that give @share again. */
static void print_share(FILE *out, unsigned visits, unsigned total) {
        double d = (double) visits / total;
        float f = (float) visits / (float) total;
        char text[40];

        if (visits == 0) {
                (void) fputs("0.0", out);
                return;
        }
        for (int digits = 1; digits <= 17; digits++) {
                (void) snprintf(text, sizeof(text), "%.*g", digits, is_float ? (double) f : d);
                if (is_float ? strtof(text, NULL) == f : strtod(text, NULL) == d)
                        break;
        }
        (void) fprintf(out, "%s%s", text, strcspn(text, ".e") == strlen(text) ? ".0" : "");
}

static void print_sample(FILE *out, const struct game *g, const struct game_state *s, struct rng *rng,
                         int value) {
        unsigned char planes[GAME_MAX_PLANES_BYTES];
        uint16_t moves[GAME_MAX_MOVES];
        unsigned visits[GAME_MAX_MOVES] = { 0 }, n = g->legal(g, s, moves), total = 100 - rng_below(rng, 3);

        g->encode(g, s, planes);
        for (unsigned i = 0; i < total; i++)
                visits[moves[MIN(rng_below(rng, n), rng_below(rng, n))]]++;
        (void) fputs("{\"board\":[", out);
        for (unsigned i = 0; i < (unsigned) g->planes * g->cells; i++)
                (void) fprintf(out, "%s%s", i ? "," : "", planes[i / 8] >> (i % 8) & 1 ? "1.0" : "0.0");
        (void) fputs("],\"policy\":[", out);
        for (unsigned i = 0; i < g->moves; i++) {
                (void) fputs(i ? "," : "", out);
                print_share(out, visits[i], total);
        }
        (void) fprintf(out, "],\"value\":%d.0}", value);
}

static void print_game(FILE *out, const struct game *g, struct rng *rng, bool *is_first) {
        int winner = (int) rng_below(rng, 3);
        uint16_t moves[GAME_MAX_MOVES];
        struct game_state s;

        for (g->start(g, &s); !s.over; g->apply(g, &s, moves[rng_below(rng, g->legal(g, &s, moves))])) {
                (void) fputs(*is_first ? "" : ",", out);
                *is_first = false;
                print_sample(out, g, &s, rng, winner == 2 ? 0 : winner == s.to_move ? 1 : -1);
        }
}

static int write_file(const struct game *g, const char *path, unsigned n_games, struct rng *rng) {
        FILE *out = fopen(path, "w");
        bool is_first = true;

        if (!out)
                return -errno;
        (void) fputc('[', out);
        for (unsigned i = 0; i < n_games; i++)
                print_game(out, g, rng, &is_first);
        (void) fputc(']', out);
        return fclose(out) == 0 ? 0 : -errno;
}

int main(int argc, char **argv) {
        cleanup_(game_freep) struct game *g = NULL;
        struct error e = ERROR_INIT;
        struct config c;
        struct rng rng;
        char path[4096];
        int r = 0;

        if (argc != 8)
                return 2;
        is_float = strcmp(argv[6], "float") == 0;
        rng_seed(&rng, strtoull(argv[7], NULL, 10), 0);
        if (config_read(argv[1], NULL, 0, &c, &e) < 0 || game_new(&c, &g, &e) < 0) {
                (void) fprintf(stderr, "original: %s\n", e.text);
                return 1;
        }
        (void) mkdir(argv[2], 0755);
        for (int w = 0; w < atoi(argv[3]); w++) {
                (void) snprintf(path, sizeof(path), "%s/worker_%d", argv[2], w);
                (void) mkdir(path, 0755);
                for (int f = 0; f < atoi(argv[4]) && r == 0; f++) {
                        (void) snprintf(path, sizeof(path), "%s/worker_%d/batch_%06d.json", argv[2], w, f);
                        r = write_file(g, path, (unsigned) atoi(argv[5]), &rng);
                }
        }
        if (r < 0)
                (void) fprintf(stderr, "original: '%s': %s\n", path, strerror(-r));
        return r < 0;
}
