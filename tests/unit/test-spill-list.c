/* SPDX-License-Identifier: MIT */
/* The list of spilled files while their worker adds more. */
#include "daemon/spill_list.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <cmocka.h>

#define N_FILES 3000u /* more than readdir() reads at once */
#define FOLDER  3u

static char base[64];
static int state_fd;

static int set_up(void **state) {
        (void) state;
        (void) snprintf(base, sizeof(base), "/tmp/azpar-test-spill-list.XXXXXX");
        assert_non_null(mkdtemp(base));
        state_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(state_fd >= 0);
        assert_int_equal(mkdirat(state_fd, "spill", 0700), 0);
        assert_int_equal(mkdirat(state_fd, "spill/worker_3", 0700), 0);
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk) {
        (void) st;
        (void) type;
        (void) walk;
        return remove(path);
}

static int tear_down(void **state) {
        (void) state;
        (void) close(state_fd);
        return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void add_file(uint64_t number) {
        struct spill_entry entry = { .folder = FOLDER, .number = number };
        char path[SPILL_ENTRY_PATH_MAX];
        int fd = openat(state_fd, spill_entry_path(&entry, path), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
                        0600);

        assert_true(fd >= 0);
        (void) close(fd);
}

/* Take all files of the list, which must have the numbers from @next on without a gap. Return: the next one.
 */
static uint64_t take_all(struct spill_list *l, uint64_t next) {
        struct spill_entry entry;

        while (spill_list_next(l, &entry)) {
                assert_int_equal(entry.folder, FOLDER);
                assert_int_equal(entry.number, next++);
                spill_list_done(l);
        }
        return next;
}

/*
 * A worker adds files while azpard looks, one step at a time.  Whichever of them the list has, none before it
 * may be missing: the samples of an older file that comes later would be taken for known ones.
 */
static void test_files_are_added_meanwhile(void **state) {
        struct error e = ERROR_INIT;
        struct spill_list *l;
        uint64_t n = 0, n_taken;
        unsigned n_steps = 0;
        int r;

        (void) state;
        assert_int_equal(spill_list_new(state_fd, &l), 0);
        while (n < N_FILES)
                add_file(n++);
        while ((r = spill_list_look(l, 0, &e)) == SPILL_LIST_E_MORE) {
                for (unsigned i = 0; i < 20; i++)
                        add_file(n++);
                n_steps++;
        }
        assert_int_equal(r, SPILL_LIST_E_DONE);
        assert_true(n_steps > 50);
        n_taken = take_all(l, 0);
        assert_true(n_taken >= N_FILES && n_taken < n);
        assert_int_equal(spill_list_waiting(l).n_files, 0);
        spill_list_free(l);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_files_are_added_meanwhile, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
