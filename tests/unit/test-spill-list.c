/* SPDX-License-Identifier: MIT */
/* The list of spilled files, and the names and folders that it stands on. */
#include "tests/unit/fixture-spill.h"

#include "common/base/clock.h"
#include "daemon/spill_list.h"

#define LONG_AGO 1000000000
#define MANY     3000

struct fixture {
        char directory[64];
        int state_fd;
        struct spill_list *list;
};

static int set_up(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void) strcpy(f->directory, "/tmp/test-spill-list-XXXXXX");
        f->state_fd = fixture_folder(f->directory);
        assert_int_equal(spill_list_new(f->state_fd, &f->list), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        fixture_obey_modes(false);
        spill_list_free(f->list);
        fixture_remove(f->directory);
        (void) close(f->state_fd);
        free(f);
        return 0;
}

static void put(const struct fixture *f, uint64_t folder, uint64_t number, int age_s, size_t n_bytes) {
        struct spill_entry entry = { .folder = folder, .number = number };
        struct timespec times[2] = { { .tv_sec = LONG_AGO - age_s, .tv_nsec = 5000 },
                                     { .tv_sec = LONG_AGO - age_s, .tv_nsec = 5000 } };
        char path[SPILL_ENTRY_PATH_MAX];
        char *text = calloc(1, n_bytes + 1);

        fixture_write_file(f->state_fd, spill_entry_path(&entry, path), text, n_bytes);
        assert_int_equal(utimensat(f->state_fd, path, times, 0), 0);
        free(text);
}

static void look(const struct fixture *f) {
        struct error e = ERROR_INIT;
        int r;

        do
                r = spill_list_look(f->list, NS_PER_S, &e);
        while (r == SPILL_LIST_E_MORE);
        if (r < 0)
                fail_msg("%s", e.text);
}

static void assert_next(const struct fixture *f, uint64_t folder, uint64_t number) {
        struct spill_entry entry;

        assert_true(spill_list_next(f->list, &entry));
        assert_int_equal(entry.folder, folder);
        assert_int_equal(entry.number, number);
        assert_true(spill_list_next(f->list, &entry)); /* asking changes nothing */
        assert_int_equal(entry.number, number);
}

static void assert_none(const struct fixture *f) {
        struct spill_entry entry;

        assert_false(spill_list_next(f->list, &entry));
}

static void test_nothing(void **state) {
        struct fixture *f = *state;

        assert_none(f);
        look(f); /* there is no folder at all */
        assert_none(f);
        spill_list_done(f->list);
        spill_list_block(f->list);
        assert_int_equal(spill_list_waiting(f->list).n_files, 0);
        assert_int_equal(spill_list_waiting(f->list).oldest_unix_us, 0);
        assert_int_equal(mkdirat(f->state_fd, "spill", 0755), 0);
        look(f);
        assert_none(f);
        spill_list_free(NULL);
}

static void test_order(void **state) {
        struct fixture *f = *state;

        put(f, 0, 5, 10, 1);
        put(f, 0, 6, 99, 20); /* older than the one before it, and after it all the same */
        put(f, 0, 1000000, 98, 300);
        put(f, 12, 0, 20, 4000);
        put(f, 12, 1, 5, 50000);
        assert_none(f); /* not looked yet */
        look(f);
        assert_int_equal(spill_list_waiting(f->list).n_files, 5);
        assert_int_equal(spill_list_waiting(f->list).n_bytes, 54321);
        assert_int_equal(spill_list_waiting(f->list).oldest_unix_us, (LONG_AGO - 20) * UINT64_C(1000000) + 5);
        assert_next(f, 12, 0);
        spill_list_done(f->list);
        assert_next(f, 0, 5);
        assert_int_equal(spill_list_waiting(f->list).n_files, 4);
        assert_int_equal(spill_list_waiting(f->list).n_bytes, 50321);
        spill_list_done(f->list);
        assert_next(f, 0, 6);
        spill_list_done(f->list);
        assert_next(f, 0, 1000000);
        spill_list_done(f->list);
        assert_next(f, 12, 1);
        spill_list_done(f->list);
        assert_none(f);
        assert_int_equal(spill_list_waiting(f->list).n_files, 0);
        assert_int_equal(spill_list_waiting(f->list).n_bytes, 0);
        look(f); /* nobody removed them */
        assert_int_equal(spill_list_waiting(f->list).n_files, 5);
}

static void test_block(void **state) {
        struct fixture *f = *state;

        put(f, 1, 0, 30, 1);
        put(f, 1, 1, 29, 1);
        put(f, 2, 0, 20, 1);
        look(f);
        assert_next(f, 1, 0);
        spill_list_block(f->list);
        assert_next(f, 2, 0);
        spill_list_done(f->list);
        assert_none(f);
        assert_int_equal(spill_list_waiting(f->list).n_files, 2);
        assert_int_equal(spill_list_waiting(f->list).oldest_unix_us, (LONG_AGO - 30) * UINT64_C(1000000) + 5);
        look(f);
        assert_next(f, 1, 0);
}

static void test_names(void **state) {
        static const char *const ignored[] = {
                "spill/worker_01/batch_000000.json", "spill/worker_x/batch_000000.json",
                "spill/worker_1/batch_0.json",       "spill/worker_1/batch_0000001.json",
                "spill/worker_1/batch_000002.json~", "spill/worker_1/Batch_000002.json",
                "spill/worker_1/batch_-00002.json",  "spill/worker_1/batch_1000000000000000000.json",
        };
        static const char *const known[] = { "spill/worker_1/batch_000003.json.tmp", "spill/rejected/x" };
        struct fixture *f = *state;

        for (size_t i = 0; i < N_ELEMENTS(ignored); i++)
                fixture_write_file(f->state_fd, ignored[i], "", 0);
        for (size_t i = 0; i < N_ELEMENTS(known); i++)
                fixture_write_file(f->state_fd, known[i], "", 0);
        fixture_write_file(f->state_fd, "spill/worker_3", "", 0);                  /* no folder */
        assert_int_equal(symlinkat("worker_1", f->state_fd, "spill/worker_4"), 0); /* never followed */
        put(f, 1, 4, 0, 1);
        put(f, UINT64_C(999999999999999999), UINT64_C(999999999999999999), 1, 1);
        look(f);
        assert_next(f, UINT64_C(999999999999999999), UINT64_C(999999999999999999));
        spill_list_done(f->list);
        assert_next(f, 1, 4);
        spill_list_done(f->list);
        assert_none(f);
        assert_int_equal(spill_list_waiting(f->list).n_ignored, N_ELEMENTS(ignored));
}

/* In steps; meanwhile, and if it cannot be finished, the old list stands. */
static void test_many_in_steps(void **state) {
        struct fixture *f = *state;
        struct error e = ERROR_INIT;
        unsigned n_steps = 0;
        char path[128];
        int r;

        put(f, 9, 9, 1000, 1);
        look(f);
        for (unsigned i = 0; i < MANY; i++)
                put(f, i % 3, i / 3, (int) (i % 7), 2);
        while ((r = spill_list_look(f->list, 0, &e)) == SPILL_LIST_E_MORE) {
                assert_next(f, 9, 9);
                assert_int_equal(spill_list_waiting(f->list).n_files, 1);
                n_steps++;
        }
        assert_int_equal(r, 0);
        assert_in_range(n_steps, MANY / 100, MANY);
        assert_int_equal(spill_list_waiting(f->list).n_files, MANY + 1);
        for (uint64_t next[10] = { 0 }, i = 0; i < MANY + 1; i++) {
                struct spill_entry entry;

                assert_true(spill_list_next(f->list, &entry));
                if (i == 0)
                        assert_int_equal(entry.folder, 9);
                else
                        assert_int_equal(entry.number, next[entry.folder]++);
                spill_list_done(f->list);
        }
        assert_none(f);

        /* a folder goes in the middle of a look: its files are gone or listed, and the others there */
        assert_int_equal(spill_list_look(f->list, 0, &e), SPILL_LIST_E_MORE);
        (void) snprintf(path, sizeof(path), "%s/spill/worker_1", f->directory);
        fixture_remove(path);
        look(f);
        assert_true(spill_list_waiting(f->list).n_files >= MANY / 3 * 2 + 1);
        assert_int_equal(spill_list_look(f->list, 0, &e), SPILL_LIST_E_MORE);
        (void) snprintf(path, sizeof(path), "%s/spill", f->directory);
        fixture_remove(path);
        look(f);
        look(f);
        assert_none(f);
}

/* Freed in the middle of a look. */
static void test_freed(void **state) {
        struct fixture *f = *state;

        for (unsigned i = 0; i < 100; i++)
                put(f, 0, i, 0, 0);
        assert_int_equal(spill_list_look(f->list, 0, NULL), SPILL_LIST_E_MORE);
}

/* A folder that cannot be read is told, and the others are listed. */
static void test_unreadable(void **state) {
        struct fixture *f = *state;
        struct error e = ERROR_INIT;

        put(f, 0, 0, 0, 1);
        put(f, 1, 0, 1, 1);
        put(f, 2, 0, 2, 1);
        assert_int_equal(fchmodat(f->state_fd, "spill/worker_1", 0, 0), 0);
        fixture_obey_modes(true);
        assert_int_equal(spill_list_look(f->list, NS_PER_S, &e), -EACCES);
        assert_non_null(strstr(e.text, "spill/worker_1"));
        assert_next(f, 2, 0);
        spill_list_done(f->list);
        assert_next(f, 0, 0);
        spill_list_done(f->list);
        assert_none(f);
        fixture_obey_modes(false);
        assert_int_equal(fchmodat(f->state_fd, "spill/worker_1", 0755, 0), 0);
        assert_int_equal(spill_list_look(f->list, NS_PER_S, &e), 0);
        assert_int_equal(spill_list_waiting(f->list).n_files, 3);

        /* none at all: the list stays */
        assert_int_equal(fchmodat(f->state_fd, "spill", 0, 0), 0);
        fixture_obey_modes(true);
        assert_int_equal(spill_list_look(f->list, NS_PER_S, &e), -EACCES);
        fixture_obey_modes(false);
        assert_int_equal(spill_list_waiting(f->list).n_files, 3);
        assert_int_equal(fchmodat(f->state_fd, "spill", 0755, 0), 0);
}

/*
 * A worker adds files while azpard looks, one step at a time.  Whichever of them the list has, none before it
 * may be missing: the samples of an older file that comes later would be taken for known ones.
 */
static void test_files_are_added_meanwhile(void **state) {
        struct fixture *f = *state;
        struct spill_entry entry;
        struct error e = ERROR_INIT;
        uint64_t n = 0, n_taken = 0;
        unsigned n_steps = 0;
        int r;

        while (n < MANY)
                put(f, 3, n++, 0, 1);
        while ((r = spill_list_look(f->list, 0, &e)) == SPILL_LIST_E_MORE) {
                for (unsigned i = 0; i < 20; i++)
                        put(f, 3, n++, 0, 1);
                n_steps++;
        }
        assert_int_equal(r, SPILL_LIST_E_DONE);
        assert_true(n_steps > 50);
        for (; spill_list_next(f->list, &entry); spill_list_done(f->list))
                assert_int_equal(entry.number, n_taken++);
        assert_true(n_taken >= MANY && n_taken < n);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_block, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_many_in_steps, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_files_are_added_meanwhile, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_freed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_unreadable, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
