/* SPDX-License-Identifier: MIT */
/*
 * seeds CORPUS: write the inputs that the fuzz targets start from into CORPUS/<target>/: sound ones, made by
 * azpar's own writers, and bad ones of kinds that are known, named after what is wrong with them.  What
 * libFuzzer adds has a hash for its name.
 *
 * The module is included and not linked, for a state.json without a network's weights.
 */
#include "common/model/checkpoint.c"

#include "common/exchange/sample.h"
#include "tests/fuzz/fuzz.h"

static struct {
        unsigned char bytes[1u << 17];
        size_t n;
} out;
static const char *corpus;

static void put(const void *bytes, size_t n) {
        EXPECT(n <= sizeof(out.bytes) - out.n);
        memcpy(out.bytes + out.n, bytes, n);
        out.n += n;
}

static void put_text(const char *text) {
        put(text, strlen(text));
}

static void put_uint(uint64_t x, size_t n_bytes) {
        put(&x, n_bytes);
}

/* One byte each. */
#define PUT(...) put((const unsigned char[]){ __VA_ARGS__ }, sizeof((const unsigned char[]){ __VA_ARGS__ }))

static void save(const char *target, const char *name) {
        char path[PATH_MAX];
        int fd;

        (void) snprintf(path, sizeof(path), "%s/%s", corpus, target);
        EXPECT(mkdir(path, 0755) == 0 || errno == EEXIST);
        (void) snprintf(path, sizeof(path), "%s/%s/%s", corpus, target, name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        EXPECT(fd >= 0 && file_write_all(fd, out.bytes, out.n) == 0 && close(fd) == 0);
        out.n = 0;
}

/* --- lane records --- */

static struct game *new_game(unsigned name, unsigned size, unsigned draw_ply) {
        struct config c;
        struct game *g = NULL;

        config_defaults(&c);
        c.game_name = name;
        c.game_size = size;
        c.game_draw_ply = draw_ply;
        EXPECT(game_new(&c, &g, NULL) == 0);
        return g;
}

static struct sample make_sample(const struct game *g, uint64_t slot, uint64_t incarnation,
                                 uint64_t sequence) {
        struct sample s = { .id = { slot, incarnation, sequence }, .generation = 7, .weight = 1.0f };

        s.root_value = -0.25f;
        s.outcome = -1;
        s.planes[0] = 0x11;
        for (unsigned i = 0; i < 3; i++)
                s.visits[s.n_visits++] = (struct sample_visit){ (uint16_t) (i * (g->moves - 1) / 2),
                                                                (uint16_t) (1 + i * 300) };
        return s;
}

/* A record of @n samples that begins with sequence @sequence. Return: where it begins. */
static size_t put_record(const struct game *g, uint64_t slot, uint64_t incarnation, uint64_t sequence,
                         size_t n) {
        static struct sample samples[9];
        size_t begin = out.n, length = 0;

        for (size_t i = 0; i < n; i++)
                samples[i] = make_sample(g, slot, incarnation, sequence + i);
        EXPECT(sample_encode_record(g, samples, n, out.bytes + out.n, sizeof(out.bytes) - out.n, &length) ==
               0);
        out.n += length;
        return begin;
}

/* A sound sample of tic-tac-toe but for its integers, each in nine bytes: too long for a slot of the window.
 */
static void put_wide_sample(const struct game *g) {
        static const unsigned char head[] = { SAMPLE_SCHEMA, 0, 1, 2, 3 }; /* slot, incarnation ... */
        size_t n_rules = strlen(g->rules);

        PUT(0x91, 0x9c);
        for (size_t i = 0; i < N_ELEMENTS(head); i++)
                PUT(0xcf, 0, 0, 0, 0, 0, 0, 0, head[i]);
        PUT(0xa0 | n_rules);
        put(g->rules, n_rules);
        PUT(0xcf, 0, 0, 0, 0, 0, 0, 0, 4, 0xc4, GAME_PLANES_BYTES(g));
        for (size_t i = 0; i < GAME_PLANES_BYTES(g); i++)
                PUT(0);
        PUT(0xdc, 0, 2 * g->moves);
        for (unsigned i = 0; i < g->moves; i++)
                PUT(0xcf, 0, 0, 0, 0, 0, 0, 0, i, 0xcf, 0, 0, 0, 0, 0, 0, 0, 1);
        PUT(0xca, 0, 0, 0, 0, 0, 0xca, 0, 0, 0, 0);
}

static void make_samples(void) {
        struct game *games[4] = { new_game(GAME_TICTACTOE, 15, 0), new_game(GAME_CONNECT4, 15, 0),
                                  new_game(GAME_GOMOKU, 5, 20), new_game(GAME_GOMOKU, 20, 0) };
        static const char *const names[4] = { "tictactoe", "connect4", "gomoku-5x5", "gomoku-20x20" };
        static const struct {
                const char *name;
                int from_end; /* where a byte is changed */
                unsigned char byte;
        } changes[] = {
                { "weight-not-a-number", 3, 0xff },
                { "outcome-of-2", 6, 0x02 },
                { "root-value-of-infinity", 10, 0x7f },
        };
        size_t at;

        for (unsigned i = 0; i < 4; i++) {
                PUT(i);
                (void) put_record(games[i], i, UINT64_MAX >> (16 * i), 1000 * i, 1 + 2 * i);
                save("sample", names[i]);
        }
        for (size_t i = 0; i < N_ELEMENTS(changes); i++) {
                PUT(0);
                (void) put_record(games[0], 0, 1, 0, 1);
                out.bytes[out.n - (size_t) changes[i].from_end] = changes[i].byte;
                save("sample", changes[i].name);
        }
        PUT(0, 0xdd, 0xff, 0xff, 0xff, 0xff);
        save("sample", "array-that-asks-for-96-gb");
        PUT(0);
        (void) put_record(games[0], 0, 1, 0, 1);
        PUT(0xc0);
        save("sample", "bytes-after-the-last");
        PUT(0);
        at = put_record(games[0], 0, 1, 0, 1);
        out.bytes[at] = 0x92;
        save("sample", "one-sample-less-than-said");
        PUT(0, 0x91, 0x9c, 0xcf, 0, 0, 0, 0, 0, 0, 0, 1, 0xcf, 0, 0, 0, 0, 0, 0, 0, 1);
        save("sample", "wide-integers-cut-off");
        PUT(0);
        put_wide_sample(games[0]);
        save("sample", "wide-integers");
        for (unsigned i = 0; i < 4; i++)
                game_free(games[i]);
}

static void make_lanes(void) {
        struct game *g = new_game(GAME_TICTACTOE, 15, 0);
        size_t at;

        PUT(0, 3, 1, 0, 8, 200, 0x80, 2, 7, 5);
        save("lane", "honest-games");
        for (unsigned i = 0; i < 7; i++)
                PUT(0, 8, i, 0x80, 8, i);
        PUT(5);
        save("lane", "full-and-around");
        PUT(0, 3, 1, 0x80, 2, 7, 15, 0, 1, 1, 7);
        save("lane", "azpard-dies-before-release");
        PUT(0, 3, 1, 6, 0, 2, 1, 6, 0, 1, 1, 0x86);
        save("lane", "workers-die");
        PUT(1, 3, 1, 20, 0, 0xc1, 0, 1, 1, 5);
        save("lane", "bent-game");
        PUT(3, 0, 0, 16, 0, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 5, 6, 0, 1, 1);
        save("lane", "length-lies");
        PUT(3, 0, 0, 16, 0, 8, 1, 0, 0, 0, 0xff, 0, 0, 0, 5, 0, 1, 1);
        save("lane", "checksum-wrong");
        PUT(4, 0);
        put_uint(UINT64_MAX - 7, 8);
        PUT(5, 0, 1, 1, 6, 0, 1, 1, 5);
        save("lane", "tail-before-head");
        PUT(4, 1);
        put_uint(4097, 8);
        PUT(5, 0, 1, 1, 7);
        save("lane", "head-not-aligned");
        /* sequence 2^64 - 1, then 0 as its successor, then the same once more */
        for (unsigned i = 0; i < 2; i++) {
                PUT(2, 0);
                at = put_record(g, 0, 1, UINT64_MAX, 2);
                out.bytes[at - 1] = (unsigned char) (out.n - at);
                PUT(5);
        }
        save("lane", "sequence-wraps");
        PUT(2, 0);
        at = put_record(g, 0, 1 << 30, 5, 1);
        out.bytes[at - 1] = (unsigned char) (out.n - at);
        PUT(7, 0, 1, 1, 7);
        save("lane", "incarnation-from-the-future");
        game_free(g);
}

/* --- the window's file: see fuzz-window.c for the program --- */

static void put_slot(uint64_t number, unsigned seed) {
        PUT(0, 0);
        put_uint(number, 2);
        put_uint(seed, 1);
}

static void put_counter(unsigned which, uint64_t value) {
        PUT(2, which, 0xf0);
        put_uint(value, 8);
}

/* Header bytes at @offset, with the checksum made right. */
static void put_header(unsigned offset, uint64_t value, unsigned n_bytes) {
        PUT(5 + 8, offset, n_bytes);
        put_uint(value, n_bytes);
}

static void begin_window(unsigned size, unsigned n_samples) {
        PUT(size, 5);
        for (unsigned i = 0; i < n_samples; i++)
                put_slot(i, 64 * i + i);
        put_counter(0, n_samples);
}

static void make_windows(void) {
        static const struct {
                const char *name;
                unsigned offset, n_bytes;
                uint64_t value;
        } headers[] = {
                { "magic-of-another", 0, 8, 0x0102030405060708 },
                { "version-2", 8, 4, 2 },
                { "slots-of-no-bytes", 12, 4, 0 },
                { "slots-too-many", 16, 8, UINT64_MAX },
                { "slots-whose-size-overflows", 16, 8, UINT64_C(1) << 61 },
                { "slots-too-few", 16, 8, 16 },
                { "rules-of-another-game", 24, 4, 0x61616161 },
                { "rules-with-escapes", 24, 4, 0x0a6d5b1b },
        };

        for (size_t i = 0; i < N_ELEMENTS(headers); i++) {
                begin_window(0, 3);
                put_header(headers[i].offset, headers[i].value, headers[i].n_bytes);
                save("window", headers[i].name);
        }
        begin_window(0, 0);
        save("window", "empty");
        begin_window(0, 3);
        save("window", "sound");
        begin_window(3, 5);
        save("window", "shrinks");
        begin_window(6, 5);
        save("window", "grows");
        begin_window(0, 3);
        put_counter(0, 9);
        save("window", "tail-ahead-of-slots");
        begin_window(0, 5);
        put_counter(0, 4);
        save("window", "slot-beyond-tail");
        begin_window(0, 3);
        PUT(4, 1, 0, 20, 1, 0xff);
        save("window", "damaged-inside");
        begin_window(0, 3);
        PUT(4 + 8, 1, 0, 12, 4, 0xff, 0xff, 0xff, 0xff);
        save("window", "length-of-slot-changed");
        begin_window(0, 3);
        PUT(6, 0, 0x18);
        save("window", "cut-short");
        begin_window(0, 3);
        PUT(6, 40, 0);
        save("window", "cut-in-the-header");
        begin_window(0, 3);
        PUT(7, 8);
        save("window", "bytes-behind-the-end");
        begin_window(0, 0);
        put_counter(0, UINT64_MAX - 1);
        put_counter(1, UINT64_MAX - 1);
        save("window", "numbers-used-up");
        begin_window(0, 1);
        put_counter(2, UINT64_MAX);
        save("window", "incarnations-used-up");
        begin_window(0, 1);
        put_counter(2, 0);
        save("window", "incarnation-of-0");
        begin_window(0, 2);
        put_counter(1, 5);
        save("window", "first-behind-tail");
}

/* --- configuration --- */

static void put_dump(const struct config *c) {
        char *text = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&text, &n);

        EXPECT(f);
        config_dump(c, f);
        EXPECT(fclose(f) == 0);
        /* without the comments, which are most of it */
        for (char *state, *line = strtok_r(text, "\n", &state); line; line = strtok_r(NULL, "\n", &state))
                if (*line != '#') {
                        put_text(line);
                        put_text("\n");
                }
        free(text);
}

static void make_configs(void) {
        static const struct {
                const char *name, *text;
        } texts[] = {
                { "empty", "" },
                { "comments", "# a\n; b\n\n[search] ; c\ncpuct = 2 ; d\n" },
                { "profile-original", "[search]\nprofile = original\ncpuct=1.25\n[game]\nname: connect4\n" },
                { "settings",
                  "[game]\nsize = 9\n\x1egame.size=7\nsearch.profile=original\ntrain.augment=no\n" },
                { "settings-broken", "\x1egame.size\n.=\nx.y=z\ngame.size=99\ngame..=1" },
                { "key-twice", "[game]\nsize = 9\nsize = 10\n" },
                { "continued-line", "[game]\nsize = 9\n  10\n" },
                { "byte-order-mark", "\xef\xbb\xbf[game]\nsize=6\n" },
                { "no-section", "size = 9\n" },
                { "section-not-closed", "[game\nsize = 9\n" },
                { "section-very-long",
                  "[0123456789012345678901234567890123456789012345678901234567890]\nsize=9\n" },
                { "carriage-returns", "[game]\r\nsize = 9\r\n" },
                { "number-hexadecimal", "[search]\ncpuct = 0x1p3\n" },
                { "number-not-a-number", "[search]\ncpuct = nan\n" },
                { "number-infinite", "[search]\ncpuct = 1e999\n" },
                { "number-negative-zero", "[search]\nfpu_reduction = -0\n" },
                { "number-denormal", "[search]\nfpu_reduction = 4.9406564584124654e-324\n" },
                { "number-overflows", "[game]\nsize = 18446744073709551625\n" },
                { "number-of-2-to-53", "[selfplay]\nseed = 9007199254740992\n" },
                { "escape-sequence", "[game]\nname = \x1b[31mred\x1b[0m\n" },
                { "together-impossible", "[replay]\nwindow = 100\nmin_samples = 101\n" },
                { "win-length-over-board", "[game]\nsize = 5\nwin_length = 10\n" },
        };
        struct config c;

        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                put_text(texts[i].text);
                save("config", texts[i].name);
        }
        config_defaults(&c);
        put_dump(&c);
        save("config", "all-keys");
        put_text("[game]\nsize = 9\0\n");
        PUT(0, '\n');
        save("config", "zero-byte");
        put_text("[game]\nname = ");
        for (unsigned i = 0; i < 300; i++)
                PUT('x');
        save("config", "line-too-long");
}

/* --- control requests --- */

static void make_requests(void) {
        static const struct {
                const char *name, *text;
        } texts[] = {
                { "status", "{\"command\":\"status\"}\n" },
                { "version", "{\"command\":\"version\"}\n" },
                { "workers",
                  "{\"command\":\"workers\",\"count\":3}\n{\"command\":\"workers\",\"count\":9}\n" },
                { "pause-resume", "{\"command\":\"pause\"}\n{\"command\":\"resume\"}\n" },
                { "checkpoint", "{\"command\":\"checkpoint\"}\n{\"command\":\"version\"}\n" },
                { "stop-and-more", "{\"command\":\"stop\"}\n{\"command\":\"status\"}\n" },
                { "not-finished", "{\"command\":\"status\"}\n{\"comm" },
                { "empty-lines", "\n\n\n" },
                { "no-object", "[]\n\"status\"\nnull\n1\n{\n" },
                { "key-twice", "{\"command\":\"pause\",\"command\":\"stop\"}\n" },
                { "key-unknown", "{\"command\":\"status\",\"\xff\x1b[31m\":1}\n" },
                { "key-ends-in-nul", "{\"command\\u0000x\":\"stop\"}\n{\"command\":\"stop\\u0000x\"}\n" },
                { "command-no-string", "{\"command\":{\"a\":[1]}}\n" },
                { "count-negative", "{\"command\":\"workers\",\"count\":-1}\n" },
                { "count-not-whole", "{\"command\":\"workers\",\"count\":1.5}\n" },
                { "count-huge", "{\"command\":\"workers\",\"count\":1e999}\n" },
                { "count-not-taken", "{\"command\":\"stop\",\"count\":1}\n" },
                { "surrogate-alone", "{\"command\":\"\\ud800\"}\n" },
                { "something-follows", "{\"command\":\"stop\"}{\"command\":\"stop\"}\n" },
                { "help", "{\"command\":\"help\",\"id\":\"a\\\"b\"}\n" },
                { "id", "{\"id\":12,\"command\":\"dance\"}\n{\"id\":1e99,\"command\":\"status\"}\n" },
                { "id-later", "{\"command\":\"checkpoint\",\"id\":\"x\",\"protocol\":1}" },
                { "protocol", "{\"protocol\":2,\"id\":1}\n{\"protocol\":0}\n" },
                { "no-newline", "{\"command\":\"version\"}\n{\"command\":\"pause\"}" },
        };

        for (size_t i = 0; i < N_ELEMENTS(texts); i++) {
                PUT(i % 3 * 5, i % 2);
                put_text(texts[i].text);
                save("control", texts[i].name);
        }
        PUT(0, 1);
        put_text("{\"command\":");
        for (unsigned i = 0; i < 2000; i++)
                PUT('[');
        PUT('\n');
        save("control", "nested-deeply");
        PUT(200, 1);
        put_text("{\"command\":\"version\"}\n");
        for (unsigned i = 0; i < 4100; i++)
                PUT('x');
        save("control", "too-long");
        PUT(0, 1);
        put_text("{\"command\":\"status\"");
        while (out.n < 2 + 4094)
                PUT(' ');
        put_text("}\n");
        save("control", "as-long-as-it-may-be");
}

/* --- models --- */

/* A file of @header and @n_data bytes of zeros, with the header's true length in front. */
static void put_file(const char *text, size_t n_data) {
        put_uint(strlen(text), 8);
        put_text(text);
        for (size_t i = 0; i < n_data; i++)
                PUT(0);
}

#define F32_2(begin, end) "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" #begin "," #end "]}"

static void make_bad_files(void) {
        static const struct {
                const char *name, *header;
                unsigned n_data;
        } files[] = {
                { "two-tensors", "{\"a\":" F32_2(0, 8) ",\"b\":" F32_2(8, 16) "}", 16 },
                { "no-tensors", "{}", 0 },
                { "empty-tensors",
                  "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
                  "\"b\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}}",
                  8 },
                { "overlap", "{\"a\":" F32_2(0, 8) ",\"b\":" F32_2(4, 12) "}", 12 },
                { "same-bytes-twice", "{\"a\":" F32_2(0, 8) ",\"b\":" F32_2(0, 8) "}", 8 },
                { "hole", "{\"a\":" F32_2(0, 8) ",\"b\":" F32_2(12, 20) "}", 20 },
                { "hole-at-the-beginning", "{\"a\":" F32_2(8, 16) "}", 16 },
                { "bytes-behind-the-end", "{\"a\":" F32_2(0, 8) "}", 100 },
                { "offsets-behind-the-end", "{\"a\":" F32_2(0, 8) "}", 4 },
                { "offsets-backwards", "{\"a\":" F32_2(8, 0) "}", 8 },
                { "offsets-negative", "{\"a\":" F32_2(-8, 0) "}", 8 },
                { "offsets-of-2-to-64", "{\"a\":" F32_2(18446744073709551608, 18446744073709551616) "}", 8 },
                { "offsets-not-whole", "{\"a\":" F32_2(0.5, 8.5) "}", 8 },
                { "offsets-of-three",
                  "{\"a\":"
                  "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}",
                  8 },
                { "key-twice", "{\"a\":" F32_2(0, 8) ",\"a\":" F32_2(8, 16) "}", 16 },
                { "key-twice-by-escape", "{\"a\":" F32_2(0, 8) ",\"\\u0061\":" F32_2(8, 16) "}", 16 },
                { "key-twice-by-nul", "{\"a\":" F32_2(0, 8) ",\"a\\u0000b\":" F32_2(8, 16) "}", 16 },
                { "field-twice",
                  "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"U8\",\"shape\":[8],"
                  "\"data_offsets\":[0,8]}}",
                  8 },
                { "field-unknown", "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8],\"x\":1}}",
                  8 },
                { "dtype-unknown", "{\"a\":{\"dtype\":\"F3\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8 },
                { "dtype-a-number", "{\"a\":{\"dtype\":4,\"shape\":[2],\"data_offsets\":[0,8]}}", 8 },
                { "dtype-smaller-than-data",
                  "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8 },
                { "shape-overflows",
                  "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,1073741824,4],"
                  "\"data_offsets\":[0,0]}}",
                  0 },
                { "shape-overflows-to-fit",
                  "{\"a\":{\"dtype\":\"F32\",\"shape\":[3,6148914691236517206],"
                  "\"data_offsets\":[0,8]}}",
                  8 },
                { "shape-overflows-then-0",
                  "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,0],"
                  "\"data_offsets\":[0,0]}}",
                  0 },
                { "shape-of-many",
                  "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],"
                  "\"data_offsets\":[0,1]}}",
                  1 },
                { "shape-negative", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1,-2],\"data_offsets\":[0,8]}}",
                  8 },
                { "shape-of-1e999", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1e999],\"data_offsets\":[0,8]}}",
                  8 },
                { "name-not-ascii", "{\"\xc3\xa9\x1b[31m\":" F32_2(0, 8) "}", 8 },
                { "name-not-utf-8", "{\"\xff\xfe\":{\"dtype\":\"\xff\"}}", 8 },
                { "name-escapes", "{\"\\u001b[31m\\n\":{\"dtype\":\"\\u001b\\n\"}}", 8 },
                { "name-empty", "{\"\":" F32_2(0, 8) "}", 8 },
                { "metadata-of-numbers", "{\"__metadata__\":{\"a\":1}}", 0 },
                { "metadata-an-array", "{\"__metadata__\":[]}", 0 },
                { "header-an-array", "[{\"a\":" F32_2(0, 8) "}]", 8 },
                { "header-with-spaces", "{\"a\":" F32_2(0, 8) "}      ", 8 },
                { "header-begins-with-space", " {\"a\":" F32_2(0, 8) "}", 8 },
                { "header-and-more", "{\"a\":" F32_2(0, 8) "}{}", 8 },
                { "header-with-comment", "{\"a\":" F32_2(0, 8) "/* */}", 8 },
                { "header-not-closed", "{\"a\":" F32_2(0, 8), 8 },
                { "number-01", "{\"a\":" F32_2(00, 08) "}", 8 },
        };

        for (size_t i = 0; i < N_ELEMENTS(files); i++) {
                put_file(files[i].header, files[i].n_data);
                save("safetensors", files[i].name);
        }
        PUT(1, 2, 3);
        save("safetensors", "file-shorter-than-length");
        put_uint(UINT64_MAX, 8);
        put_text("{}");
        save("safetensors", "header-of-2-to-64");
        put_uint(UINT64_MAX - 7, 8);
        put_text("{}");
        save("safetensors", "header-length-overflows");
        put_uint(SAFETENSORS_HEADER_MAX + 1, 8);
        put_text("{}");
        save("safetensors", "header-over-the-limit");
        put_uint(3, 8);
        put_text("{}");
        save("safetensors", "header-longer-than-file");
        put_uint(0, 8);
        save("safetensors", "header-of-0");
        put_uint(12000, 8);
        for (unsigned i = 0; i < 2000; i++)
                put_text("{\"a\":[");
        save("safetensors", "nested-deeply");
}

static const struct network tiny = {
        .rules = "tiny", .planes = 1, .rows = 1, .cols = 1, .moves = 1, .filters = 8, .blocks = 1
};

/* The model @map with @text where its header has @old. */
static void save_model(const struct file_map *map, const char *old, const char *text, const char *name) {
        const unsigned char *at = memmem(map->bytes, map->n_bytes, old, strlen(old));
        uint64_t n_header;

        EXPECT(at);
        memcpy(&n_header, map->bytes, sizeof(n_header));
        put_uint(n_header + strlen(text) - strlen(old), 8);
        put(map->bytes + 8, (size_t) (at - map->bytes) - 8);
        put_text(text);
        put(at + strlen(old), (size_t) (map->bytes + map->n_bytes - at) - strlen(old));
        save("safetensors", name);
}

static void make_models(void) {
        static struct network_tensor list[NETWORK_MAX_TENSORS];
        static const float *tensors[NETWORK_MAX_TENSORS];
        static float values[8192];
        struct model_info info = { .generation = 3, .step = 77, .unix_us = 1, .network = tiny };
        struct file_map map = FILE_MAP_NULL;
        size_t n = network_tensors(&tiny, list);

        for (size_t i = 0; i < n; i++) {
                EXPECT(list[i].n_elements <= N_ELEMENTS(values));
                tensors[i] = values;
        }
        EXPECT(model_write(fuzz_folder(), "model", &info, tensors, NULL) == 0);
        EXPECT(file_map_open(fuzz_folder(), "model", &map, NULL) == 0);
        put(map.bytes, map.n_bytes);
        save("safetensors", "model");
        put(map.bytes, map.n_bytes);
        out.bytes[out.n - 1] = 0x7f;
        out.bytes[out.n - 2] = 0x80;
        save("safetensors", "model-with-infinity");
        put(map.bytes, map.n_bytes - 4);
        save("safetensors", "model-cut-off");
        save_model(&map, "\"rows\":\"1\",\"cols\":\"1\"", "\"rows\":\"21\",\"cols\":\"20\"",
                   "model-board-too-large");
        save_model(&map, "\"rules\":\"tiny\"", "\"rules\":\"\"", "model-without-rules");
        save_model(&map, "\"conv_input.weight\"",
                   "\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"conv_input.weight\"",
                   "model-with-one-tensor-more");
        file_map_close(&map);
}

/* --- checkpoints --- */

/* @text where our text has @old, in a file whose checksum the target makes right. */
static void save_state(const char *state, const char *old, const char *text, const char *name) {
        const char *at = strstr(state, old);

        EXPECT(at);
        PUT(1);
        put(state, (size_t) (at - state));
        put_text(text);
        put_text(at + strlen(old));
        save("checkpoint", name);
}

static void make_checkpoints(void) {
        static const struct {
                const char *old, *text, *name;
        } changes[] = {
                { "\"step\":1000", "\"step\":1001", "step-of-another" },
                { "\"step\":1000", "\"step\":1e3", "step-with-exponent" },
                { "\"step\":1000", "\"step\":1000,\"step\":1000", "step-twice" },
                { "\"step\":1000", "\"step\":\"1000\"", "step-a-string" },
                { "\"generation\":10", "\"generation\":9007199254740993", "generation-too-large" },
                { "\"samples_trained\":4096", "\"samples_trained\":-1", "counter-negative" },
                { "\"window_tail\":5000", "\"window_tail\":0.5", "counter-not-whole" },
                { "\"smooth_policy\":0.5", "\"smooth_policy\":1e999", "loss-infinite" },
                { "\"smooth_policy\":0.5", "\"smooth_policy\":-0.0", "loss-of-minus-0" },
                { "\"smooth_value\":null", "\"smooth_value\":4.9406564584124654e-324", "loss-denormal" },
                { "\"smooth_value\":null", "\"smooth_value\":[]", "loss-an-array" },
                { "\"18446744073709551615\"", "\"18446744073709551616\"", "rng-overflows" },
                { "\"18446744073709551615\"", "18446744073709551615", "rng-a-number" },
                { "\"adam\"", "\"adam\\u001b[31m\"", "optimizer-unknown" },
                { "\"rules\":\"tiny\"", "\"rules\":\"\\u001b[31m\\n\"", "rules-with-escapes" },
                { "\"filters\":8", "\"filters\":4294967296", "filters-too-many" },
                { "\"bytes\":5", "\"bytes\":18446744073709551615", "file-too-large" },
                { "\"bytes\":5", "\"bytes\":6", "file-of-another-size" },
                { "\"optimizer.bin\"", "\"../../etc/passwd\"", "file-of-another-name" },
                { "\"files\":{", "\"files\":{\"x\":{},", "file-too-many" },
                { "\"bytes\":5,\"crc32c\":\"", "\"bytes\":5,\"crc32c\":\"\\u001b[31m", "crc-with-escapes" },
        };
        struct checkpoint c = {
                .step = 1000, .generation = 10, .samples_trained = 4096, .window_tail = 5000
        };
        char state[4096] = "";
        struct file_map map = FILE_MAP_NULL;

        c.optimizer_kind = OPTIMIZER_ADAM;
        c.smooth_policy = 0.5;
        c.smooth_value = c.smooth_total = (double) NAN;
        c.rng.s[0] = UINT64_MAX;
        c.network = tiny;
        for (size_t i = 0; i < N_ELEMENTS(guarded); i++)
                EXPECT(file_replace(fuzz_folder(), guarded[i], &(struct file_part){ "azpar", 5 }, 1, NULL) ==
                       0);
        EXPECT(write_state(fuzz_folder(), &c, NULL) == 0);
        EXPECT(file_map_open(fuzz_folder(), "state.json", &map, NULL) == 0 && map.n_bytes < sizeof(state));
        memcpy(state, map.bytes, map.n_bytes);
        file_map_close(&map);
        save_state(state, "\"step\"", "\"step\"", "sound");
        PUT(0);
        put_text(state);
        out.bytes[out.n - 5] ^= 1;
        save("checkpoint", "checksum-wrong");
        PUT(1 + 8);
        put_text(state);
        save("checkpoint", "file-of-other-bytes");
        PUT(1 + 2);
        put_text(state);
        save("checkpoint", "directory-of-another-step");
        PUT(0);
        put_text(state);
        save("checkpoint", "sound-as-written");
        for (size_t i = 0; i < N_ELEMENTS(changes); i++)
                save_state(state, changes[i].old, changes[i].text, changes[i].name);
}

int main(int argc, char **argv) {
        if (argc != 2) {
                (void) fprintf(stderr, "usage: %s CORPUS\n", argv[0]);
                return 2;
        }
        corpus = argv[1];
        make_samples();
        make_lanes();
        make_windows();
        make_configs();
        make_requests();
        make_bad_files();
        make_models();
        make_checkpoints();
        return 0;
}
