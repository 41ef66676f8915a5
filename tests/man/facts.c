/* SPDX-License-Identifier: MIT */
/*
 * What the manual's tables must say, from the compiler that builds azpar: rows of
 *
 *      field<TAB>STRUCT<TAB>OFFSET<TAB>BYTES<TAB>TYPE<TAB>NAME
 *      game<TAB>RULES<TAB>PLANES<TAB>CELLS<TAB>MOVES<TAB>PLIES
 *      window<TAB>RULES<TAB>SAMPLE<TAB>SLOT<TAB>BYTES OF 100000
 *      value<TAB>NAME<TAB>NUMBER
 *
 * fields.awk finds the fields; tests/man/check compares.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/exchange/segment.h"
#include "common/exchange/window_inside.h"
#include "common/games/game.h"

static const struct {
        const char *owner;
        size_t offset, n_bytes;
        const char *type;
        bool is_array;
        const char *name;
} fields[] = {
#define ROW(s, type, name, is_array)                                                                         \
        { #s, offsetof(struct s, name), sizeof(((struct s *) NULL)->name), type, is_array, #name },
#define FIELD(s, type, name) ROW(s, type, name, false)
#define ARRAY(s, type, name) ROW(s, type, name, true)
#include "tests/man/fields.inc"
};

static void print_fields(void) {
        for (size_t i = 0; i < N_ELEMENTS(fields); i++) {
                (void) printf("field\t%s\t%zu\t%zu\t%s", fields[i].owner, fields[i].offset, fields[i].n_bytes,
                              fields[i].type);
                if (fields[i].is_array)
                        (void) printf("[%zu]", fields[i].n_bytes);
                (void) printf("\t%s\n", fields[i].name);
        }
        (void) printf("field\tslot\t%zu\t8\tu64\tnumber\n", offsetof(union slot_image, number));
        (void) printf("field\tslot\t%zu\t4\tu32\tcrc\n", offsetof(union slot_image, crc));
        (void) printf("field\tslot\t%zu\t4\tu32\tlength\n", offsetof(union slot_image, length));
        (void) printf("field\tslot\t%zu\tlength\t\tsample\n", offsetof(union slot_image, sample));
}

static int print_game(const char *rules, uint64_t draw_ply) {
        cleanup_(game_freep) struct game *g = NULL;
        struct error e = ERROR_INIT;
        uint64_t n_window;

        if (game_from_rules(rules, &g, &e) < 0) {
                (void) fprintf(stderr, "%s\n", e.text);
                return EXIT_FAILURE;
        }
        (void) printf("game\t%s\t%u\t%u\t%u\t%u\n", g->rules, g->planes, g->cells, g->moves, g->max_plies);
        n_window = WINDOW_HEADER_BYTES + (UINT64_C(100000) + GAME_MAX_PLIES) * slot_bytes_of(g);
        if (draw_ply == 0)
                (void) printf("window\t%s\t%zu\t%" PRIu32 "\t%" PRIu64 "\n", g->rules, sample_max_bytes(g),
                              slot_bytes_of(g), n_window);
        if (g->rows == 20)
                (void) printf("value\tRECORD_MAX\t%zu\n", sample_record_max_bytes(g));
        return 0;
}

int main(void) {
        static const struct {
                const char *rules;
                uint64_t draw_ply;
        } games[] = {
                { "tictactoe:3x3:3", 0 },
                { "connect4:6x7:4", 0 },
                { "gomoku:9x9:5:freestyle:draw0", 0 },
                { "gomoku:15x15:5:freestyle:draw0", 0 },
                { "gomoku:15x15:5:freestyle:draw100", 100 },
                { "gomoku:19x19:5:freestyle:draw0", 0 },
                { "gomoku:20x20:5:freestyle:draw0", 0 },
        };

        print_fields();
        for (size_t i = 0; i < N_ELEMENTS(games); i++)
                if (print_game(games[i].rules, games[i].draw_ply) != 0)
                        return EXIT_FAILURE;
        return EXIT_SUCCESS;
}
