/* SPDX-License-Identifier: MIT */
/* Names of spill files and folders: one name for a number, and making, cleaning, looking. */
#include "tests/unit/fixture-spill.h"

struct fixture {
        char directory[64];
        int state_fd;
};

static int set_up(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void) strcpy(f->directory, "/tmp/test-spill-folder-XXXXXX");
        f->state_fd = fixture_folder(f->directory);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        fixture_remove(f->directory);
        (void) close(f->state_fd);
        free(f);
        return 0;
}

static void test_names(void **state) {
        static const uint64_t numbers[] = { 0,
                                            1,
                                            9,
                                            10,
                                            999999,
                                            100000,
                                            1000000,
                                            1000001,
                                            99999999,
                                            UINT64_C(123456789012345),
                                            SPILL_FOLDER_NUMBER_MAX };
        static const char *const wrong[] = {
                "",
                "batch_",
                "batch_.json",
                "batch_00000.json",
                "batch_0000000.json",
                "batch_0100000.json",
                "batch_000000.jso",
                "batch_000000.json ",
                "batch_000000.jsonx",
                "xbatch_000000.json",
                "batch_+00001.json",
                "batch_ 00001.json",
                "batch_00000a.json",
                "batch_000000.JSON",
                "batch_1000000000000000000.json",
                "batch_99999999999999999999999999.json",
                "worker_",
                "worker_00",
                "worker_-1",
                "worker_1 ",
                "worker_1x",
                "worker_1000000000000000000",
        };
        char name[SPILL_FOLDER_NAME_MAX];
        uint64_t n;

        (void) state;
        spill_folder_name(17, name);
        assert_string_equal(name, "batch_000017.json");
        for (size_t i = 0; i < N_ELEMENTS(numbers); i++) {
                spill_folder_name(numbers[i], name);
                n = ~numbers[i];
                assert_true(spill_folder_parse_name(name, &n));
                assert_int_equal(n, numbers[i]);
                assert_false(spill_folder_parse_worker(name, &n));
                spill_folder_worker(numbers[i], name);
                assert_true(spill_folder_parse_worker(name, &n));
                assert_int_equal(n, numbers[i]);
                assert_false(spill_folder_parse_name(name, &n));
        }
        for (size_t i = 0; i < N_ELEMENTS(wrong); i++) {
                assert_false(spill_folder_parse_name(wrong[i], &n));
                assert_false(spill_folder_parse_worker(wrong[i], &n));
        }
        spill_folder_name(UINT64_MAX, name); /* it fits, and nobody reads it */
        assert_false(spill_folder_parse_name(name, &n));
}

static void test_make(void **state) {
        struct fixture *f = *state;
        struct stat st;
        int fd, again;

        fd = spill_folder_make(f->state_fd, 3);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fstatat(f->state_fd, "spill/worker_3", &st, 0), 0);
        assert_int_equal(st.st_mode & 0027, 0);
        assert_true(spill_folder_is_in_place(f->state_fd, 3, fd));
        assert_false(spill_folder_is_in_place(f->state_fd, 4, fd));
        again = spill_folder_make(f->state_fd, 3);
        assert_true(again >= 0);
        assert_true(spill_folder_is_in_place(f->state_fd, 3, again));
        assert_int_equal(renameat(f->state_fd, "spill/worker_3", f->state_fd, "spill/worker_4"), 0);
        assert_false(spill_folder_is_in_place(f->state_fd, 3, fd));
        assert_true(spill_folder_is_in_place(f->state_fd, 4, fd));
        assert_int_equal(symlinkat("worker_4", f->state_fd, "spill/worker_3"), 0);
        assert_false(spill_folder_is_in_place(f->state_fd, 3, fd));
        assert_true(spill_folder_make(f->state_fd, 3) < 0); /* a link is never followed */
        fixture_write_file(f->state_fd, "spill/worker_5", "", 0);
        assert_true(spill_folder_make(f->state_fd, 5) < 0);
        (void) close(fd);
        (void) close(again);
}

static void test_look(void **state) {
        struct fixture *f = *state;
        struct spill_folder_content content = { 0 };
        int fd = spill_folder_make(f->state_fd, 0);

        assert_int_equal(spill_folder_look(fd, &content), 0);
        assert_true(content.n_files == 0 && content.n_bytes == 0 && content.next_number == 0);
        fixture_write_file(f->state_fd, "spill/worker_0/batch_000007.json", "1234567", 7);
        fixture_write_file(f->state_fd, "spill/worker_0/batch_000003.json", "123", 3);
        fixture_write_file(f->state_fd, "spill/worker_0/batch_000009.json.tmp", "123", 3);
        fixture_write_file(f->state_fd, "spill/worker_0/batch_11.json", "123", 3);
        for (unsigned i = 0; i < 2; i++) { /* it is read from its beginning each time */
                assert_int_equal(spill_folder_look(fd, &content), 0);
                assert_int_equal(content.n_files, 2);
                assert_int_equal(content.n_bytes, 10);
                assert_int_equal(content.next_number, 8);
        }
        fixture_write_file(f->state_fd, "spill/worker_0/batch_999999999999999999.json", "1", 1);
        assert_int_equal(spill_folder_look(fd, &content), -EOVERFLOW);
        assert_int_equal(content.n_files, 2); /* as it was */
        (void) close(fd);
}

static void test_clean(void **state) {
        static const char *const stay[] = { "batch_000000.json", "batch_1.json.tmp", "x.tmp", ".tmp" };
        static const char *const go[] = { "batch_000000.json.tmp", "batch_123456789.json.tmp" };
        struct fixture *f = *state;
        int fd;

        assert_int_equal(spill_folder_clean_all(f->state_fd), 0); /* nothing is there */
        for (unsigned folder = 0; folder < 3; folder++) {
                char path[128];

                for (size_t i = 0; i < N_ELEMENTS(stay); i++) {
                        (void) snprintf(path, sizeof(path), "spill/worker_%u/%s", folder, stay[i]);
                        fixture_write_file(f->state_fd, path, "", 0);
                }
                for (size_t i = 0; i < N_ELEMENTS(go); i++) {
                        (void) snprintf(path, sizeof(path), "spill/worker_%u/%s", folder, go[i]);
                        fixture_write_file(f->state_fd, path, "", 0);
                }
        }
        fd = spill_folder_make(f->state_fd, 0);
        assert_int_equal(spill_folder_clean(fd), 0);
        assert_int_equal(fixture_n_names(f->state_fd, "spill/worker_0"), N_ELEMENTS(stay));
        assert_int_equal(fixture_n_names(f->state_fd, "spill/worker_1"), N_ELEMENTS(stay) + N_ELEMENTS(go));
        (void) close(fd);
        /* one that cannot be cleaned is told, and the others are cleaned all the same */
        assert_int_equal(mkdirat(f->state_fd, "spill/worker_1/batch_000005.json.tmp", 0755), 0);
        assert_true(spill_folder_clean_all(f->state_fd) < 0);
        assert_int_equal(fixture_n_names(f->state_fd, "spill/worker_2"), N_ELEMENTS(stay));
        assert_int_equal(unlinkat(f->state_fd, "spill/worker_1/batch_000005.json.tmp", AT_REMOVEDIR), 0);
        assert_int_equal(spill_folder_clean_all(f->state_fd), 0);
        assert_int_equal(fixture_n_names(f->state_fd, "spill/worker_1"), N_ELEMENTS(stay));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test_setup_teardown(test_make, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_look, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_clean, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
