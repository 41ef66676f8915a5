/* SPDX-License-Identifier: MIT */
/* safetensors: what is written reads back exactly; a file that lies is refused with its reason; no bytes
 * crash the reader. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "common/model/json.h"
#include "common/model/safetensors.h"
#include "tests/unit/fixture-network.h"

#ifdef __SANITIZE_ADDRESS__
#define N_MUTATIONS 4000
#else
#define N_MUTATIONS 20000
#endif

static char directory[64];
static int directory_fd = -1;

static int set_up(void **state) {
        (void) state;
        fixture_directory(directory);
        directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return directory_fd < 0;
}

static int tear_down(void **state) {
        (void) state;
        (void) close(directory_fd);
        fixture_remove(directory);
        return 0;
}

static void put_file(const char *name, const void *bytes, size_t n) {
        cleanup_(fd_closep) int fd =
                openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(file_write_all(fd, bytes, n), 0);
}

static unsigned char *get_file(const char *name, size_t *ret_n) {
        struct file_map map;
        unsigned char *bytes;

        assert_int_equal(file_map_open(directory_fd, name, &map, NULL), 0);
        bytes = malloc(map.n_bytes);
        assert_non_null(bytes);
        (void) memcpy(bytes, map.bytes, map.n_bytes);
        *ret_n = map.n_bytes;
        file_map_close(&map);
        return bytes;
}

/* The length, @header, and @n_data bytes of zeros, aligned as a mapping would be. The caller frees. */
static unsigned char *make_file(const char *header, size_t n_data, size_t *ret_n) {
        uint64_t n_header = strlen(header);
        unsigned char *bytes = calloc(1, 8 + n_header + n_data);

        assert_non_null(bytes);
        (void) memcpy(bytes, &n_header, 8);
        (void) memcpy(bytes + 8, header, n_header);
        *ret_n = 8 + n_header + n_data;
        return bytes;
}

static void assert_contains(const char *text, const char *part) {
        if (!strstr(text, part))
                fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static const struct network small = {
        .rules = "tictactoe", .planes = 3, .rows = 3, .cols = 3, .moves = 9, .filters = 8, .blocks = 1
};

static void write_small(const char *name, uint64_t seed) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, seed);
        const struct model_info info = {
                .generation = 7, .step = 700, .unix_us = UINT64_MAX, .network = small
        };
        struct error e = ERROR_INIT;

        if (model_write(directory_fd, name, &info, fixture_tensors(w), &e) < 0)
                fail_msg("%s", e.text);
}

static void test_round_trip(void **state) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, 1);
        const struct model_info info = {
                .generation = 3, .step = MODEL_STEP_MAX, .unix_us = 1700000000000000, .network = small
        };
        const float *tensors[NETWORK_MAX_TENSORS];

        (void) state;
        assert_int_equal(model_write(directory_fd, "m", &info, fixture_tensors(w), NULL), 0);
        for (int any = 0; any < 2; any++) {
                cleanup_(safetensors_freep) struct safetensors *s = NULL;
                struct model_info found = { 0 };
                struct error e = ERROR_INIT;

                if (model_open(directory_fd, "m", any ? NULL : &small, &s, &found, tensors, &e) < 0)
                        fail_msg("%s", e.text);
                assert_int_equal(found.generation, 3);
                assert_true(found.step == MODEL_STEP_MAX);
                assert_int_equal(found.unix_us, 1700000000000000);
                assert_true(network_equal(&found.network, &small));
                for (size_t i = 0; i < w->n; i++)
                        assert_memory_equal(tensors[i], w->tensors[i], w->list[i].n_elements * sizeof(float));
                assert_string_equal(safetensors_metadata(s, "format"), "azpar");
                assert_null(safetensors_metadata(s, "no such key"));
        }
}

/* What other readers rely on: aligned data, entries in the order of their data, metadata of strings. */
static void test_written_form(void **state) {
        cleanup_(freep) unsigned char *bytes = NULL;
        cleanup_(json_freep) cJSON *header = NULL;
        const cJSON *j;
        uint64_t n_header;
        double at = 0.0;
        size_t n;

        (void) state;
        write_small("m", 1);
        bytes = get_file("m", &n);
        (void) memcpy(&n_header, bytes, 8);
        assert_int_equal(n_header % 8, 0);
        assert_int_equal(json_parse_object((char *) bytes + 8, n_header, &header, NULL), 0);
        cJSON_ArrayForEach(j, header) {
                const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(j, "data_offsets"), *m;

                if (strcmp(j->string, "__metadata__") == 0) {
                        cJSON_ArrayForEach(m, j) assert_true(cJSON_IsString(m));
                        continue;
                }
                assert_true(cJSON_GetArrayItem(offsets, 0)->valuedouble == at);
                at = cJSON_GetArrayItem(offsets, 1)->valuedouble;
        }
        assert_true(at == (double) (n - 8 - n_header));
}

/* A file that another program wrote: other types, no metadata, entries in any order, an empty tensor. */
#define FOREIGN                                                                                              \
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[8,16]},"                                \
        "\"a\":{\"data_offsets\":[0,8],\"dtype\":\"BF16\",\"shape\":[4]},"                                   \
        "\"none\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[8,8]},"                               \
        "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[16,24]}}"

static void test_foreign_file_reads(void **state) {
        const struct network_tensor want = { .name = "b", .n_dims = 2, .dims = { 1, 2 }, .n_elements = 2 };
        const struct network_tensor other = { .name = "b", .n_dims = 2, .dims = { 2, 1 }, .n_elements = 2 };
        const struct network_tensor wrong_type = { .name = "a", .n_dims = 1, .dims = { 4 }, .n_elements = 4 };

        (void) state;
        for (size_t misaligned = 0; misaligned < 2; misaligned++) {
                cleanup_(freep) unsigned char *bytes = NULL;
                cleanup_(safetensors_freep) struct safetensors *s = NULL;
                struct error e = ERROR_INIT;
                char header[sizeof(FOREIGN) + 16];
                size_t n;

                (void) snprintf(header, sizeof(header), "%-*s",
                                (int) ((sizeof(FOREIGN) + 7) / 8 * 8 + misaligned), FOREIGN);
                bytes = make_file(header, 24, &n);
                if (safetensors_parse(bytes, n, "f", &s, &e) < 0)
                        fail_msg("%s", e.text);
                assert_ptr_equal(safetensors_f32(s, &want, &e), misaligned ? NULL : bytes + n - 16);
                assert_string_equal(e.text,
                                    misaligned ? "f: tensor 'b': data is not aligned to 4 bytes" : "");
                assert_null(safetensors_f32(s, &other, &e));
                assert_string_equal(e.text, "f: tensor 'b': is F32 [1, 2], expected F32 [2, 1]");
                assert_null(safetensors_f32(s, &wrong_type, &e));
                assert_string_equal(e.text, "f: tensor 'a': is BF16 [4], expected F32 [4]");
        }
}

#define ENTRY(name, type, shape, begin, end)                                                                 \
        "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_lies_are_refused(void **state) {
        static const struct {
                const char *header;
                size_t n_data;
                const char *reason;
        } lies[] = {
                { "", 0, "does not begin with '{'" },
                { "[]", 0, "does not begin with '{'" },
                { " {}", 0, "does not begin with '{'" },
                { "{", 0, "does not begin with '{'" },
                { "{ ", 0, "JSON is malformed near byte" },
                { "{\"a\"}", 0, "JSON is malformed near byte" },
                { "{} x", 0, "something follows the JSON object at byte 3" },
                { "{}{}", 0, "something follows the JSON object at byte 2" },
                { "{}\x01", 0, "control character 0x01 at byte 2" },
                { "{\"a\nb\":1}", 0, "control character 0x0a at byte 3" },
                { "{\"a\\u0000b\":1}", 0, "\\u0000 in a string at byte 3" },
                { "{\"a\":[[[[[[[[1]]]]]]]]}", 0, "nested deeper than 8" },
                { "{\"a\":1,\"a\":2}", 0, "key 'a' is there twice" },
                { "{\"\\u001b[31m\":1}", 0, "tensor '?[31m': its entry is not an object" },
                { "{\"a\":{}}", 0, "tensor 'a': dtype is missing" },
                { "{\"a\":{\"dtype\":4}}", 0, "tensor 'a': dtype is missing or not a string" },
                { "{" ENTRY("a", "F31", "[1]", "0", "4") "}", 4, "tensor 'a': unknown dtype 'F31'" },
                { "{\"a\":{\"dtype\":\"F32\"}}", 0, "tensor 'a': shape is missing" },
                { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, "key 'dtype' is there twice" },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, "tensor 'a': data_offsets is missing" },
                { "{" ENTRY("a", "F32", "[-1]", "0", "4") "}", 4, "dimension 0 is not a whole number" },
                { "{" ENTRY("a", "F32", "[1,1.5]", "0", "4") "}", 4, "dimension 1 is not a whole number" },
                { "{" ENTRY("a", "F32", "[\"1\"]", "0", "4") "}", 4, "dimension 0 is not a whole number" },
                { "{" ENTRY("a", "F32", "[9007199254740992]", "0", "4") "}", 4,
                  "dimension 0 is not a whole number" },
                { "{" ENTRY("a", "F32", "[1e999]", "0", "4") "}", 4, "dimension 0 is not a whole number" },
                { "{" ENTRY("a", "F32", "[01]", "0", "4") "}", 4, "malformed number" },
                { "{" ENTRY("a", "F32", "[1.]", "0", "4") "}", 4, "malformed number" },
                { "{" ENTRY("a", "F32", "[4294967296,4294967296]", "0", "0") "}", 0,
                  "the product of the dimensions overflows" },
                { "{" ENTRY("a", "F32", "[4611686018427387904]", "0", "0") "}", 0,
                  "dimension 0 is not a whole number" },
                { "{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "more than 8 dimensions" },
                { "{" ENTRY("a", "F32", "[1]", "-4", "0") "}", 4, "data_offsets are not whole numbers" },
                { "{" ENTRY("a", "F32", "[1]", "0", "4.5") "}", 4, "data_offsets are not whole numbers" },
                { "{" ENTRY("a", "F32", "[1]", "4", "0") "}", 4,
                  "data_offsets are not in order: 4 before 0" },
                { "{" ENTRY("a", "F32", "[1]", "0", "4,8") "}", 4,
                  "data_offsets is missing or not an array of two" },
                { "{" ENTRY("a", "F32", "[2]", "0", "8") "}", 4,
                  "tensor 'a': ends at byte 8, but the file has only 4 bytes of data" },
                { "{" ENTRY("policy_fc.weight", "F32", "[7,84]", "64", "1064") "}", 4000,
                  "tensor 'policy_fc.weight': 1000 bytes at 64, but F32 [7, 84] needs 2352" },
                { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4,
                  "keys besides dtype, shape and data_offsets" },
                { "{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("b", "F32", "[2]", "4", "12") "}", 12,
                  "tensor 'b': begins at byte 4, but the tensors before it end at 8 (they overlap)" },
                { "{" ENTRY("a", "F32", "[1]", "0", "4") "," ENTRY("b", "F32", "[1]", "0", "4") "}", 4,
                  "(they overlap)" },
                { "{" ENTRY("a", "F32", "[1]", "0", "4") "," ENTRY("b", "F32", "[1]", "8", "12") "}", 12,
                  "tensor 'b': begins at byte 8, but the tensors before it end at 4 (a hole)" },
                { "{" ENTRY("a", "F32", "[1]", "4", "8") "}", 8,
                  "tensor 'a': begins at byte 4, but the tensors before it end at 0 (a hole)" },
                { "{" ENTRY("a", "F32", "[1]", "0", "4") "}", 5,
                  "5 bytes of data, but the tensors end at 4" },
                { "{}", 1, "1 bytes of data, but the tensors end at 0" },
                { "{\"__metadata__\":[]}", 0, "__metadata__ is not an object" },
                { "{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: 'a' is not a string" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(lies); i++) {
                cleanup_(freep) unsigned char *bytes = NULL;
                cleanup_(safetensors_freep) struct safetensors *s = NULL;
                struct error e = ERROR_INIT;
                size_t n;

                bytes = make_file(lies[i].header, lies[i].n_data, &n);
                if (safetensors_parse(bytes, n, "f", &s, &e) != -EBADMSG)
                        fail_msg("taken: %s", lies[i].header);
                assert_memory_equal(e.text, "f: ", 3);
                assert_contains(e.text, lies[i].reason);
        }
}

static void test_header_size_lies(void **state) {
        static const struct {
                uint64_t n_header;
                size_t n;
                const char *reason;
        } lies[] = {
                { 2, 0, "file is 0 bytes" },
                { 2, 7, "file is 7 bytes" },
                { 2, 8, "header is 2 bytes, but the file has only 0 after its length" },
                { 3, 10, "header is 3 bytes, but the file has only 2 after its length" },
                { SAFETENSORS_HEADER_MAX + 1, 10, "header is 1048577 bytes, at most 1048576 allowed" },
                { UINT64_MAX, 10, "header is 18446744073709551615 bytes, at most" },
                { UINT64_MAX - 7, 10, "at most" },
        };
        unsigned char bytes[10] = "........{}";

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(lies); i++) {
                cleanup_(safetensors_freep) struct safetensors *s = NULL;
                struct error e = ERROR_INIT;

                (void) memcpy(bytes, &lies[i].n_header, 8);
                assert_int_equal(safetensors_parse(bytes, lies[i].n, "f", &s, &e), -EBADMSG);
                assert_contains(e.text, lies[i].reason);
        }
        /* the control: the same bytes with the truth */
        (void) memcpy(bytes, &(uint64_t){ 2 }, 8);
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        assert_int_equal(safetensors_parse(bytes, sizeof(bytes), "f", &s, NULL), 0);
}

/* Counts, not bytes, that lie: more tensors than allowed, and very deep nesting. */
static void test_counts_are_limited(void **state) {
        cleanup_(freep) char *header = calloc(1, SAFETENSORS_HEADER_MAX + 1);
        struct error e = ERROR_INIT;
        size_t at = 1, n;

        (void) state;
        assert_non_null(header);
        header[0] = '{';
        for (int i = 0; i <= SAFETENSORS_MAX_TENSORS + 1; i++)
                at += (size_t) sprintf(header + at, "\"%d\":{},", i);
        header[at - 1] = '}';
        for (int round = 0; round < 2; round++) {
                cleanup_(freep) unsigned char *bytes = make_file(header, 0, &n);
                cleanup_(safetensors_freep) struct safetensors *s = NULL;

                assert_int_equal(safetensors_parse(bytes, n, "f", &s, &e), -EBADMSG);
                assert_contains(e.text, round == 0 ? "1026 tensors, at most 1024" : "nested deeper");
                (void) memset(header, '[', SAFETENSORS_HEADER_MAX);
                (void) memcpy(header, "{\"a\":", 5);
        }
}

static void assert_refused(const char *name, const struct network *want, int code, const char *reason) {
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        struct error e = ERROR_INIT;

        assert_int_equal(model_open(directory_fd, name, want, &s, NULL, NULL, &e), code);
        assert_contains(e.text, reason);
        assert_contains(e.text, name);
        assert_null(s);
        if (!want)
                return;
        e = ERROR_INIT;
        assert_int_equal(model_check(directory_fd, name, want, NULL, &e), code);
        assert_contains(e.text, reason);
}

/* What is too large for a model of that network is not even read. */
static void test_too_large_for_its_network(void **state) {
        struct error e = ERROR_INIT;

        (void) state;
        put_file("large", "", 0);
        {
                cleanup_(fd_closep) int fd = openat(directory_fd, "large", O_WRONLY | O_CLOEXEC);

                assert_int_equal(ftruncate(fd, INT64_C(1) << 40), 0);
        }
        assert_int_equal(model_check(directory_fd, "large", &small, NULL, &e), -EBADMSG);
        assert_contains(e.text, "'large' is 1099511627776 bytes, at most ");
}

static void test_not_a_model(void **state) {
        struct network other = small;

        (void) state;
        assert_refused("absent", NULL, -ENOENT, "could not open");
        assert_refused(".", NULL, -EINVAL, "not a regular file");
        put_file("empty", "", 0);
        assert_refused("empty", NULL, -EBADMSG, "file is 0 bytes");
        put_file("plain", "\2\0\0\0\0\0\0\0{}", 10);
        assert_refused("plain", NULL, -EBADMSG, "is not an azpar model: metadata 'format' is 'missing'");
        write_small("m", 1);
        other.filters = 16;
        assert_refused("m", &other, -EINVAL,
                       "is for tictactoe with 8x1 (filters x blocks), not for tictactoe with 16x1");
}

/* Write the small model with one string of its metadata changed to one of the same length. */
static void put_changed(const char *name, const char *from, const char *to) {
        cleanup_(freep) unsigned char *bytes = NULL;
        unsigned char *at;
        size_t n;

        assert_int_equal(strlen(from), strlen(to));
        write_small("m", 1);
        bytes = get_file("m", &n);
        at = memmem(bytes, n, from, strlen(from));
        assert_non_null(at);
        (void) memcpy(at, to, strlen(to));
        put_file(name, bytes, n);
}

static void test_metadata_is_checked(void **state) {
        static const struct {
                const char *from, *to, *reason;
        } lies[] = {
                { "\"azpar\"", "\"other\"", "metadata 'format' is 'other', expected 'azpar'" },
                { "\"version\":\"1\"", "\"version\":\"2\"",
                  "metadata 'version' is '2', expected a number in [1, 1]" },
                { "\"filters\":\"8\"", "\"filters\":\"7\"",
                  "metadata 'filters' is '7', expected a number in [8, 512]" },
                { "\"blocks\":\"1\"", "\"blocks\":\"0\"",
                  "metadata 'blocks' is '0', expected a number in [1, 40]" },
                { "\"blocks\":\"1\"", "\"blocks\":\"x\"", "metadata 'blocks' is 'x'" },
                { "\"blocks\":\"1\"", "\"blockz\":\"1\"", "metadata 'blocks' is 'missing'" },
                { "\"blocks\":\"1\"", "\"blocks\":\"2\"", "tensor 'res_block_1.conv1.weight': is missing" },
                { "\"step\":\"700\"", "\"step\":\"-70\"", "metadata 'step' is '-70'" },
                { "\"rules\":\"tictactoe\"", "\"rulez\":\"tictactoe\"", "metadata 'rules' is missing" },
                { "\"moves\":\"9\"", "\"moves\":\"8\"",
                  "tensor 'policy_fc.weight': is F32 [9, 18], expected F32 [8, 18]" },
                { "\"value_fc2.bias\"", "\"value_fc2.bize\"", "tensor 'value_fc2.bias': is missing" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(lies); i++) {
                put_changed("changed", lies[i].from, lies[i].to);
                assert_refused("changed", NULL, -EBADMSG, lies[i].reason);
        }
}

/* Counters that nobody could count on from: refused when read, with the range, and never written. */
static void test_counters_are_bounded(void **state) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, 1);
        static const struct {
                const char *from, *to, *reason;
        } lies[] = {
                { "\"step\":\"700\",\"unix_us\":\"18446744073709551615\"",
                  "\"step\":\"10000000000\",\"unix_us\":\"184467440737\"",
                  "metadata 'step' is '10000000000', expected a number in [0, 9999999999]" },
                { "\"generation\":\"7\",\"step\":\"700\",\"unix_us\":\"18446744073709551615\"",
                  "\"generation\":\"4503599627370497\",\"step\":\"700\",\"unix_us\":\"18446\"",
                  "metadata 'generation' is '4503599627370497', expected a number in [0, 4503599627370496]" },
        };
        const struct model_info largest = { .generation = MODEL_GENERATION_MAX,
                                            .step = MODEL_STEP_MAX,
                                            .network = small };
        struct model_info info = largest;

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(lies); i++) {
                put_changed("changed", lies[i].from, lies[i].to);
                assert_refused("changed", NULL, -EBADMSG, lies[i].reason);
        }
        assert_int_equal(model_write(directory_fd, "largest", &info, fixture_tensors(w), NULL), 0);
        info.step++;
        assert_int_equal(model_write(directory_fd, "larger", &info, fixture_tensors(w), NULL), -EOVERFLOW);
        info = largest;
        info.generation++;
        assert_int_equal(model_write(directory_fd, "larger", &info, fixture_tensors(w), NULL), -EOVERFLOW);
        assert_int_equal(faccessat(directory_fd, "larger", F_OK, 0), -1);
}

/* An extra tensor, with everything else as it must be. */
static void test_extra_tensor(void **state) {
        cleanup_(freep) unsigned char *bytes = NULL, *more = NULL;
        char extra[72]; /* a multiple of 8 keeps the data aligned */
        uint64_t n_header;
        size_t n;

        (void) state;
        (void) snprintf(extra, sizeof(extra), "%-71s",
                        "\"extra\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},");
        write_small("m", 1);
        bytes = get_file("m", &n);
        more = malloc(n + sizeof(extra));
        assert_non_null(more);
        (void) memcpy(&n_header, bytes, 8);
        n_header += sizeof(extra);
        extra[sizeof(extra) - 1] = ' ';
        (void) memcpy(more, &n_header, 8);
        more[8] = '{';
        (void) memcpy(more + 9, extra, sizeof(extra));
        (void) memcpy(more + 9 + sizeof(extra), bytes + 9, n - 9);
        put_file("extra", more, n + sizeof(extra));
        assert_refused("extra", NULL, -EBADMSG, "37 tensors, but the network has only 36");
}

static void test_values_are_checked(void **state) {
        static const struct {
                const char *tensor;
                uint64_t element;
                float value;
                const char *reason;
        } bad[] = {
                { "policy_fc.weight", 3, NAN,
                  "tensor 'policy_fc.weight': element 3 is nan, which is not finite" },
                { "res_block_0.conv2.weight", 575, INFINITY, "element 575 is inf, which is not finite" },
                { "conv_input.bias", 7, -INFINITY, "element 7 is -inf, which is not finite" },
                { "policy_bn.running_var", 1, -0.5f,
                  "tensor 'policy_bn.running_var': element 1 is -0.5, which is not a variance" },
                { "bn_input.running_var", 2, NAN, "which is not a variance" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, 1);
                cleanup_(freep) unsigned char *bytes = NULL;
                const struct model_info info = { .network = small };
                struct error e = ERROR_INIT;
                float *x = &fixture_tensor(w, bad[i].tensor)[bad[i].element];
                float mark = 12345.678f;
                unsigned char *at;
                size_t n;

                *x = bad[i].value;
                assert_int_equal(unlinkat(directory_fd, "v", 0) < 0 && errno != ENOENT, 0);
                assert_int_equal(model_write(directory_fd, "v", &info, fixture_tensors(w), &e), -EDOM);
                assert_contains(e.text, bad[i].reason);
                assert_int_equal(faccessat(directory_fd, "v", F_OK, 0), -1);
                /* the same in a file that somebody else wrote */
                *x = mark;
                assert_int_equal(model_write(directory_fd, "v", &info, fixture_tensors(w), NULL), 0);
                bytes = get_file("v", &n);
                at = memmem(bytes, n, &mark, sizeof(mark));
                assert_non_null(at);
                (void) memcpy(at, &bad[i].value, sizeof(float));
                put_file("v", bytes, n);
                assert_refused("v", &small, -EBADMSG, bad[i].reason);
        }
}

/* No prefix of a good file is taken for a good file. Copies, so that ASan sees a read behind the end. */
static void test_every_truncation(void **state) {
        cleanup_(freep) unsigned char *bytes = NULL;
        size_t n, n_header = 0, step;

        (void) state;
        write_small("m", 1);
        bytes = get_file("m", &n);
        (void) memcpy(&n_header, bytes, 8);
        for (size_t k = 0; k < n; k += step) {
                cleanup_(freep) unsigned char *copy = malloc(k ? k : 1);
                cleanup_(safetensors_freep) struct safetensors *s = NULL;

                assert_non_null(copy);
                (void) memcpy(copy, bytes, k);
                assert_int_equal(safetensors_parse(copy, k, "f", &s, NULL), -EBADMSG);
                /* inside the data only the count differs */
                step = k < n_header + 64 || n - k < 64 ? 1 : 31;
        }
}

/* Cut short or changed anywhere in the header, a file is read or refused, never worse. */
static void test_mutations(void **state) {
        cleanup_(freep) unsigned char *bytes = NULL;
        static const char spice[] = "{}[]\",:0123456789eE.-\\u\n \0\xff";
        size_t n, n_header = 0, n_taken = 0;
        struct rng r;

        (void) state;
        write_small("m", 1);
        bytes = get_file("m", &n);
        (void) memcpy(&n_header, bytes, 8);
        rng_seed(&r, 1, 2);
        for (int i = 0; i < N_MUTATIONS; i++) {
                cleanup_(freep) unsigned char *copy = malloc(n);
                cleanup_(safetensors_freep) struct safetensors *s = NULL;
                struct error e = ERROR_INIT;
                uint32_t n_changes = 1 + rng_below(&r, 4);

                assert_non_null(copy);
                (void) memcpy(copy, bytes, n);
                for (uint32_t k = 0; k < n_changes; k++)
                        copy[rng_below(&r, (uint32_t) n_header + 8)] =
                                rng_below(&r, 2) ? (unsigned char) spice[rng_below(&r, sizeof(spice))]
                                                 : (unsigned char) rng_u64(&r);
                if (safetensors_parse(copy, n, "f", &s, &e) == 0)
                        n_taken++;
                else
                        assert_memory_equal(e.text, "f: ", 3);
        }
        /* changes of names and of metadata are none of the format's business; most others are */
        assert_in_range(n_taken, 1, N_MUTATIONS / 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_written_form),
                cmocka_unit_test(test_foreign_file_reads),
                cmocka_unit_test(test_lies_are_refused),
                cmocka_unit_test(test_header_size_lies),
                cmocka_unit_test(test_counts_are_limited),
                cmocka_unit_test(test_not_a_model),
                cmocka_unit_test(test_metadata_is_checked),
                cmocka_unit_test(test_counters_are_bounded),
                cmocka_unit_test(test_extra_tensor),
                cmocka_unit_test(test_values_are_checked),
                cmocka_unit_test(test_every_truncation),
                cmocka_unit_test(test_mutations),
                cmocka_unit_test(test_too_large_for_its_network),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
