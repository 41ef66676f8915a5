/* SPDX-License-Identifier: MIT */
/* Checkpoints: exact round trip, damage named with what to do, unfinished ones ignored, the newest kept. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/config.h"
#include "common/base/file.h"
#include "common/model/checkpoint.h"
#include "tests/unit/fixture-network.h"

static char directory[64];
static int state_fd = -1;

static const struct network small = {
        .rules = "tictactoe", .planes = 3, .rows = 3, .cols = 3, .moves = 9, .filters = 8, .blocks = 1
};

static int set_up(void **state) {
        (void) state;
        fixture_directory(directory);
        state_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return state_fd < 0;
}

static int tear_down(void **state) {
        (void) state;
        (void) close(state_fd);
        fixture_remove(directory);
        return 0;
}

static bool exists(const char *path) {
        return faccessat(state_fd, path, F_OK, 0) == 0;
}

static void assert_contains(const char *text, const char *part) {
        if (!strstr(text, part))
                fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static struct checkpoint make(uint64_t step) {
        struct checkpoint c = {
                .step = step,
                .generation = step / 100,
                .samples_trained = (UINT64_C(1) << 53) - 1,
                .samples_allowed = 20123,
                .window_tail = 123456789012,
                .optimizer_kind = OPTIMIZER_SGD,
                .smooth_policy = 0.1,
                .smooth_value = 1.0 / 3.0,
                .smooth_total = 4.9406564584124654e-324,
                .rng = { { UINT64_MAX, 0, (UINT64_C(1) << 53) + 1, 0x9e3779b97f4a7c15u } },
                .network = small,
        };

        return c;
}

static void write_one(uint64_t step, const char *optimizer) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, step);
        struct checkpoint c = make(step);
        struct error e = ERROR_INIT;

        if (checkpoint_write(state_fd, &c, fixture_tensors(w), optimizer, strlen(optimizer), &e) < 0)
                fail_msg("%s", e.text);
}

static void assert_equal(const struct checkpoint *a, const struct checkpoint *b) {
        assert_true(a->step == b->step && a->generation == b->generation);
        assert_true(a->samples_trained == b->samples_trained && a->window_tail == b->window_tail);
        assert_true(a->samples_allowed == b->samples_allowed);
        assert_true(a->optimizer_kind == b->optimizer_kind);
        /* bit for bit, so that NaN is equal to itself */
        assert_memory_equal(&a->smooth_policy, &b->smooth_policy, sizeof(double));
        assert_memory_equal(&a->smooth_value, &b->smooth_value, sizeof(double));
        assert_memory_equal(&a->smooth_total, &b->smooth_total, sizeof(double));
        assert_memory_equal(&a->rng, &b->rng, sizeof(a->rng));
        assert_true(network_equal(&a->network, &b->network));
}

static void test_round_trip(void **state) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, 5);
        cleanup_(safetensors_freep) struct safetensors *s = NULL;
        struct checkpoint c = make(5), found;
        const float *tensors[NETWORK_MAX_TENSORS];
        struct file_map map;
        struct model_info info;
        char path[64], file[128];

        (void) state;
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), -ENOENT);
        c.smooth_total = (double) NAN;
        assert_int_equal(checkpoint_write(state_fd, &c, fixture_tensors(w), "opt\0im", 6, NULL), 0);
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
        assert_string_equal(path, "checkpoints/0000000005");
        assert_equal(&found, &c);
        (void) snprintf(file, sizeof(file), "%s/model.safetensors", path);
        assert_int_equal(model_open(state_fd, file, &small, &s, &info, tensors, NULL), 0);
        assert_int_equal(info.step, 5);
        for (size_t i = 0; i < w->n; i++)
                assert_memory_equal(tensors[i], w->tensors[i], w->list[i].n_elements * sizeof(float));
        (void) snprintf(file, sizeof(file), "%s/optimizer.bin", path);
        assert_int_equal(file_map_open(state_fd, file, &map, NULL), 0);
        assert_int_equal(map.n_bytes, 6);
        assert_memory_equal(map.bytes, "opt\0im", 6);
        file_map_close(&map);
}

static void test_same_step_is_replaced(void **state) {
        struct checkpoint found;
        struct file_map map;
        char path[64];

        (void) state;
        write_one(5, "first");
        write_one(5, "the second");
        assert_int_equal(checkpoint_newest(state_fd, NULL, &found, path, NULL), 0);
        assert_int_equal(file_map_open(state_fd, "checkpoints/0000000005/optimizer.bin", &map, NULL), 0);
        assert_int_equal(map.n_bytes, 10);
        file_map_close(&map);
        assert_false(exists("checkpoints/.tmp-0000000005"));
}

static void test_newest_and_prune(void **state) {
        struct checkpoint found;
        char path[64];

        (void) state;
        assert_int_equal(checkpoint_prune(state_fd, 1, NULL), 0); /* nothing there at all */
        for (uint64_t step = 8; step <= 11; step++)
                write_one(step, "x");
        /* a leftover of a killed trainer, later than all others, and things that are not ours */
        assert_int_equal(mkdirat(state_fd, "checkpoints/.tmp-0000000099", 0700), 0);
        assert_int_equal(close(openat(state_fd, "checkpoints/.tmp-0000000099/model.safetensors",
                                      O_WRONLY | O_CREAT | O_CLOEXEC, 0600)),
                         0);
        assert_int_equal(mkdirat(state_fd, "checkpoints/best-0000000099", 0700), 0);
        assert_int_equal(mkdirat(state_fd, "checkpoints/99", 0700), 0);
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
        assert_int_equal(found.step, 11);
        assert_int_equal(checkpoint_prune(state_fd, 2, NULL), 0);
        assert_true(exists("checkpoints/0000000011") && exists("checkpoints/0000000010"));
        assert_false(exists("checkpoints/0000000009") || exists("checkpoints/0000000008"));
        assert_false(exists("checkpoints/.tmp-0000000099"));
        assert_true(exists("checkpoints/best-0000000099") && exists("checkpoints/99"));
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
        assert_int_equal(found.step, 11);
        assert_int_equal(checkpoint_prune(state_fd, 100, NULL), 0);
        assert_true(exists("checkpoints/0000000010"));
}

static void test_other_network(void **state) {
        struct network other = small;
        struct checkpoint found;
        struct error e = ERROR_INIT;
        char path[64];

        (void) state;
        write_one(7, "x");
        other.blocks = 2;
        assert_int_equal(checkpoint_newest(state_fd, &other, &found, path, &e), -EINVAL);
        assert_contains(e.text, "checkpoints/0000000007: is for tictactoe with 8x1 (filters x blocks), but "
                                "the configuration asks for "
                                "tictactoe with 8x2");
}

static void damage(const char *path, long at, const char *bytes) {
        cleanup_(fd_closep) int fd = openat(state_fd, path, O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        if (!bytes)
                assert_int_equal(ftruncate(fd, at), 0);
        else
                assert_int_equal(pwrite(fd, bytes, strlen(bytes), at), strlen(bytes));
}

static void test_damage_is_named(void **state) {
        static const struct {
                const char *file;
                long at;
                const char *bytes; /* NULL: cut there */
                const char *reason;
        } cases[] = {
                { "optimizer.bin", 2, "X", "optimizer.bin: crc32c is " },
                { "optimizer.bin", 3, NULL, "optimizer.bin: file is 3 bytes, state.json says 9" },
                { "model.safetensors", 3000, "X", "model.safetensors: crc32c is " },
                { "model.safetensors", 3000, NULL, "model.safetensors: file is 3000 bytes" },
                { "state.json", 60, "5", "state.json: does not have the checksum that it names" },
                { "state.json", 12, "00000000", "state.json: does not have the checksum that it names" },
                { "state.json", 0, NULL, "state.json: file is 0 bytes" },
                { "state.json", 100, NULL, "state.json: does not have the checksum" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                struct checkpoint found = { 0 };
                struct error e = ERROR_INIT;
                char path[64], file[128];

                write_one(3, "before it");
                write_one(4, "optimizer");
                assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
                (void) snprintf(file, sizeof(file), "checkpoints/0000000004/%s", cases[i].file);
                damage(file, cases[i].at, cases[i].bytes);
                found.step = 0;
                assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, &e), -EBADMSG);
                assert_int_equal(found.step, 0);
                assert_memory_equal(e.text, "checkpoints/0000000004: ", 24);
                assert_contains(e.text, cases[i].reason);
                assert_contains(e.text, "move the directory 'checkpoints/0000000004' away to resume from the "
                                        "checkpoint before it");
                /* and doing so helps */
                assert_int_equal(renameat(state_fd, "checkpoints/0000000004", state_fd, "away"), 0);
                assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
                assert_int_equal(found.step, 3);
                assert_int_equal(renameat(state_fd, "away", state_fd, "checkpoints/0000000004"), 0);
        }
}

static void test_missing_files(void **state) {
        static const char *const files[] = { "optimizer.bin", "model.safetensors", "state.json" };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(files); i++) {
                struct checkpoint found;
                struct error e = ERROR_INIT;
                char path[64], file[128];

                write_one(4, "optimizer");
                (void) snprintf(file, sizeof(file), "checkpoints/0000000004/%s", files[i]);
                assert_int_equal(unlinkat(state_fd, file, 0), 0);
                assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, &e), -EBADMSG);
                assert_contains(e.text, files[i]);
                assert_contains(e.text, "it is damaged");
        }
}

/* A directory of one step under the name of another one: its own state.json gives it away. */
static void test_renamed_directory(void **state) {
        struct checkpoint found;
        struct error e = ERROR_INIT;
        char path[64];

        (void) state;
        write_one(4, "optimizer");
        assert_int_equal(renameat(state_fd, "checkpoints/0000000004", state_fd, "checkpoints/0000000005"), 0);
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, &e), -EBADMSG);
        assert_contains(e.text, "step is 4, unlike the directory's name");
}

/* A counter that came from some file may be anything: too large a one is an error with a text. */
static void test_counters_are_bounded(void **state) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, 1);
        struct checkpoint c = make(MODEL_STEP_MAX), found;
        struct error e = ERROR_INIT;
        char path[64];

        (void) state;
        c.generation = MODEL_GENERATION_MAX;
        assert_int_equal(checkpoint_write(state_fd, &c, fixture_tensors(w), "x", 1, NULL), 0);
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
        assert_true(found.step == MODEL_STEP_MAX && found.generation == MODEL_GENERATION_MAX);
        c.step++;
        assert_int_equal(checkpoint_write(state_fd, &c, fixture_tensors(w), "x", 1, &e), -EOVERFLOW);
        assert_contains(e.text, "'step' is 10000000000, at most 9999999999 allowed");
        c = make(7);
        c.generation = MODEL_GENERATION_MAX + 1;
        assert_int_equal(checkpoint_write(state_fd, &c, fixture_tensors(w), "x", 1, NULL), -EOVERFLOW);
        c = make(7);
        c.window_tail = UINT64_MAX;
        assert_int_equal(checkpoint_write(state_fd, &c, fixture_tensors(w), "x", 1, &e), -EOVERFLOW);
        assert_contains(e.text, "'window_tail' is 18446744073709551615");
        assert_false(exists("checkpoints/0000000007"));
}

/* Something that cannot be removed is told, and is in the way of nothing else. */
static void test_prune_goes_on(void **state) {
        struct checkpoint found;
        struct error e = ERROR_INIT;
        char path[64];

        (void) state;
        for (uint64_t step = 5; step <= 8; step++)
                write_one(step, "x");
        assert_int_equal(mkdirat(state_fd, "checkpoints/.tmp-0000000001", 0700), 0);
        assert_int_equal(mkdirat(state_fd, "checkpoints/.tmp-0000000001/somebody's", 0700), 0);
        assert_int_equal(mkdirat(state_fd, "checkpoints/0000000006/somebody's", 0700), 0);
        assert_int_equal(mkdirat(state_fd, "checkpoints/.tmp-0000000002", 0700), 0);
        /* files: neither checkpoint nor leftover, and not counted as one that is kept */
        assert_int_equal(
                close(openat(state_fd, "checkpoints/0000000009", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
        assert_int_equal(
                close(openat(state_fd, "checkpoints/.tmp-file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
        assert_true(checkpoint_prune(state_fd, 1, &e) < 0);
        assert_contains(e.text, "could not remove 'checkpoints/.tmp-000000000");
        assert_contains(e.text, "somebody's");
        assert_true(exists("checkpoints/0000000008"));
        assert_false(exists("checkpoints/0000000007") || exists("checkpoints/0000000006") ||
                     exists("checkpoints/0000000005") || exists("checkpoints/.tmp-0000000002"));
        assert_true(exists("checkpoints/0000000009") && exists("checkpoints/.tmp-file"));
        assert_int_equal(unlinkat(state_fd, "checkpoints/0000000009", 0), 0);

        /* where it has the name that the next one is written or removed under */
        assert_int_equal(mkdirat(state_fd, "checkpoints/.tmp-0000000009", 0700), 0);
        assert_int_equal(mkdirat(state_fd, "checkpoints/.tmp-0000000009/somebody's", 0700), 0);
        write_one(9, "x");
        write_one(9, "x");
        write_one(10, "x");
        assert_true(checkpoint_prune(state_fd, 1, NULL) < 0);
        assert_false(exists("checkpoints/0000000009") || exists("checkpoints/.tmp-0000000009-1"));
        assert_true(exists("checkpoints/.tmp-0000000009/somebody's"));
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
        assert_int_equal(found.step, 10);
}

/* A failed write leaves neither a checkpoint nor a leftover, and the ones before stay. */
static void test_failed_write(void **state) {
        cleanup_(fixture_weights_freep) struct fixture_weights *w = fixture_weights_new(&small, 1);
        struct checkpoint c = make(6), found;
        struct error e = ERROR_INIT;
        char path[64];

        (void) state;
        write_one(5, "x");
        fixture_tensor(w, "policy_fc.bias")[0] = (float) NAN;
        assert_int_equal(checkpoint_write(state_fd, &c, fixture_tensors(w), "x", 1, &e), -EDOM);
        assert_contains(e.text, "tensor 'policy_fc.bias': element 0 is nan");
        assert_false(exists("checkpoints/0000000006") || exists("checkpoints/.tmp-0000000006"));
        assert_int_equal(checkpoint_newest(state_fd, &small, &found, path, NULL), 0);
        assert_int_equal(found.step, 5);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(test_round_trip),           TEST(test_same_step_is_replaced),
                TEST(test_newest_and_prune),     TEST(test_other_network),
                TEST(test_damage_is_named),      TEST(test_missing_files),
                TEST(test_renamed_directory),    TEST(test_failed_write),
                TEST(test_counters_are_bounded), TEST(test_prune_goes_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
