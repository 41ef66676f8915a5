/* SPDX-License-Identifier: MIT */
/*
 * Refill in trouble: files that are not what they should be, or change, and disks that fail.  Nothing is
 * lost, nothing comes twice, and all goes on by itself.  By io_uring and by plain calls.
 */
#include "tests/unit/fixture-refill.h"

/* ---- what is no batch file ---- */

static void check_rejected(struct fixture *f, uint64_t folder, uint64_t number, const char *reason) {
        char name[SPILL_FOLDER_NAME_MAX], path[256];
        char *text;
        size_t n;

        spill_folder_name(number, name);
        (void) snprintf(path, sizeof(path), "spill/rejected/worker_%u-%s", (unsigned) folder, name);
        assert_true(fixture_exists(f->state_fd, path));
        (void) snprintf(path, sizeof(path), "spill/rejected/worker_%u-%s.reason", (unsigned) folder, name);
        text = fixture_read_file(f->state_fd, path, &n);
        if (!strstr(text, reason))
                fail_msg("'%s' is not in: %s", reason, text);
        free(text);
        assert_false(is_there(f, folder, number));
}

static void test_rejected(void **state) {
        struct fixture *f = *state;
        uint64_t origin = window_origin(f->window);
        struct sample s[4 * 9];
        struct game *other;
        size_t n, n_bytes;
        char *text;

        n = make_games(f, (struct sample_id){ 0, 1, 0 }, 3, s);
        put_own(f, 0, 0, 1, 0, 3, true);
        put_samples(f, path_of(1, 0), s, n, origin); /* of worker 0 */
        s[n - 1].id.sequence = s[n - 2].id.sequence;
        put_samples(f, path_of(0, 1), s, n, origin);
        s[n - 1].id.sequence++;
        s[n - 1].id.incarnation = UINT64_C(1) << 40;
        put_samples(f, path_of(0, 2), s, n, origin);
        for (size_t i = 0; i < n; i++)
                s[i].id.incarnation = 0;
        put_samples(f, path_of(0, 3), s, n, origin);
        n = make_games(f, (struct sample_id){ 0, 1, 1000 }, 2, s);
        text = fixture_batch_text(f->game, s, n, origin, &n_bytes);
        put_text(f, path_of(0, 4), text, n_bytes - 40); /* cut short */
        free(text);
        put_text(f, path_of(0, 5), "", 0);
        put_text(f, path_of(0, 6), "[1]", 3);
        other = fixture_game(GAME_CONNECT4);
        (void) fixture_play(other, (struct sample_id){ 0, 1, 0 }, s);
        text = fixture_batch_text(other, s, 1, origin, &n_bytes);
        put_text(f, path_of(0, 7), text, n_bytes);
        free(text);
        game_free(other);
        n = make_games(f, (struct sample_id){ 0, 1, 0 }, 2, s);
        text = fixture_batch_text(f->game, s, n, origin, &n_bytes);
        for (char *at = text; (at = strstr(at, "\"origin\":\"")) && at < text + n_bytes - 2000; at += 10)
                at[10] = at[10] == '0' ? '1' : '0'; /* all but the last ones are another's */
        put_text(f, path_of(0, 8), text, n_bytes);
        free(text);
        put_own(f, 0, 9, 1, 5000, 1, true); /* and all goes on */
        settle(f);
        check_window(f);
        check_rejected(f, 1, 0, "made by worker 0, not 1");
        check_rejected(f, 0, 1, "does not follow");
        check_rejected(f, 0, 2, "is impossible");
        check_rejected(f, 0, 3, "incarnation 0 is impossible");
        check_rejected(f, 0, 4, "byte");
        check_rejected(f, 0, 5, "byte");
        check_rejected(f, 0, 6, "byte");
        check_rejected(f, 0, 7, "byte");
        check_rejected(f, 0, 8, "samples of this window and others in one file");
        assert_int_equal(refill_counts(f->refill)->rejected, 9);
        assert_int_equal(refill_counts(f->refill)->files, 2);
        check_all_taken(f);

        /* the name is taken in rejected/ as well */
        put_text(f, path_of(0, 5), "", 0);
        settle(f);
        assert_true(fixture_exists(f->state_fd, "spill/rejected/worker_0-batch_000005.json.1"));
        assert_true(fixture_exists(f->state_fd, "spill/rejected/worker_0-batch_000005.json.1.reason"));
}

/* What is no regular file must neither hang azpard nor hold up the others. */
static void test_irregular(void **state) {
        struct fixture *f = *state;

        put_own(f, 0, 4, 1, 0, 1, true);
        fixture_make_parents(f->state_fd, path_of(1, 0));
        assert_int_equal(mkdirat(f->state_fd, path_of(0, 0), 0755), 0);
        assert_int_equal(mkfifoat(f->state_fd, path_of(0, 1), 0644), 0);
        assert_int_equal(symlinkat("batch_000004.json", f->state_fd, path_of(0, 2)), 0);
        assert_int_equal(symlinkat("/nowhere", f->state_fd, path_of(0, 3)), 0);
        for (unsigned i = 0; i < 4; i++)
                set_age(f, path_of(0, i), LONG_AGO);
        settle(f);
        check_all_taken(f);
        for (unsigned i = 0; i < 4; i++)
                check_rejected(f, 0, i, "not a regular file");
}

/* A file that somebody is copying here is not set aside for being half there. */
static void test_growing(void **state) {
        struct fixture *f = *state;
        struct sample s[2 * 9];
        size_t n = make_games(f, (struct sample_id){ 7, 1, 3 }, 2, s), n_bytes;
        char *text = fixture_batch_text(f->game, s, n, 5, &n_bytes);

        fixture_write_file(f->state_fd, path_of(0, 0), text, n_bytes / 2); /* right now */
        settle(f);
        assert_true(is_there(f, 0, 0));
        assert_int_equal(refill_counts(f->refill)->rejected, 0);
        assert_int_equal(window_tail(f->window), 0);
        fixture_write_file(f->state_fd, path_of(0, 0), text, n_bytes);
        settle(f);
        expect(f, s, n, true);
        check_all_taken(f);
        free(text);
}

/* rejected/ cannot be made: told, the folder waits, the others do not, and then it can. */
static void test_nowhere_to_set_aside(void **state) {
        struct fixture *f = *state;

        put_text(f, path_of(0, 0), "no", 2);
        put_own(f, 1, 0, 1, 0, 1, true);
        put_own(f, 0, 1, 1, 0, 1, true);
        fixture_write_file(f->state_fd, "spill/rejected", "", 0);
        settle(f);
        assert_non_null(refill_error(f->refill));
        assert_non_null(strstr(refill_error(f->refill), "rejected"));
        assert_non_null(strstr(refill_error(f->refill), "worker_0/batch_000000.json"));
        assert_true(is_there(f, 0, 0) && is_there(f, 0, 1) && !is_there(f, 1, 0));
        assert_int_equal(unlinkat(f->state_fd, "spill/rejected", 0), 0);
        settle(f);
        check_all_taken(f);
        check_rejected(f, 0, 0, "byte");
}

/* ---- files that change ---- */

/* Another file takes a file's name while it is read: both come in. */
static void check_replaced(struct fixture *f, enum step when, bool is_good) {
        clock_step_ns = 2 * TURN_NS;
        if (is_good)
                put_own(f, 0, 0, 1, 0, 2, true);
        else
                put_text(f, path_of(0, 0), "no", 2);
        run_until_step(f, when);
        put_own(f, 5, 0, 1, 500, 2, false);
        assert_int_equal(unlinkat(f->state_fd, path_of(5, 0), 0), 0);
        put_own(f, 0, 77, 1, 500, 2, true);
        assert_int_equal(renameat(f->state_fd, path_of(0, 77), f->state_fd, path_of(0, 0)), 0);
        clock_step_ns = 0;
        settle(f);
        check_all_taken(f);
        assert_int_equal(refill_counts(f->refill)->rejected, 0);
}

static void test_replaced_while_checked(void **state) {
        check_replaced(*state, STEP_CHECK, true);
}

static void test_replaced_while_taken(void **state) {
        check_replaced(*state, STEP_TAKE, true);
}

static void test_replaced_before_removal(void **state) {
        check_replaced(*state, STEP_SYNC, true);
}

static void test_bad_one_replaced(void **state) {
        check_replaced(*state, STEP_CHECK, false);
}

/* Between the two readings it becomes what would have been refused: nothing of that gets in. */
static void test_changed_between_readings(void **state) {
        struct fixture *f = *state;
        struct sample s[2 * 9];
        size_t n = make_games(f, (struct sample_id){ 200, 9, 0 }, 2, s);

        clock_step_ns = 2 * TURN_NS;
        put_own(f, 0, 0, 1, 0, 2, false);
        run_until_step(f, STEP_TAKE);
        put_samples(f, path_of(0, 0), s, n, window_origin(f->window)); /* the same inode */
        clock_step_ns = 0;
        settle(f);
        check_all_taken(f);
        check_rejected(f, 0, 0, "made by worker 200, not 0");
}

static void test_removed_while_read(void **state) {
        struct fixture *f = *state;

        clock_step_ns = 2 * TURN_NS;
        put_own(f, 0, 0, 1, 0, 2, true);
        put_own(f, 0, 1, 1, 100, 2, true);
        run_until_step(f, STEP_TAKE);
        assert_int_equal(unlinkat(f->state_fd, path_of(0, 0), 0), 0);
        clock_step_ns = 0;
        settle(f);
        check_all_taken(f); /* it was open */
}

static void test_removed_before_read(void **state) {
        struct fixture *f = *state;
        char path[128];

        clock_step_ns = 2 * TURN_NS;
        for (unsigned i = 0; i < 20; i++)
                put_own(f, 0, i, 1 + i, 0, 1, false);
        tick(f);
        while (refill_waiting(f->refill).n_files == 0)
                run_once(f);
        (void) snprintf(path, sizeof(path), "%s/spill/worker_0", f->directory);
        fixture_remove(path);
        clock_step_ns = 0;
        put_own(f, 1, 0, 1, 0, 1, true);
        settle(f);
        assert_true(window_tail(f->window) >= f->n_expected); /* the first one may have been open */
        assert_int_equal(n_left(f), 0);
        assert_null(refill_error(f->refill));
}

/* ---- disks that fail ---- */

/* A file that cannot be read holds up its folder alone, and comes in its turn when it can. */
static void test_unreadable(void **state) {
        struct fixture *f = *state;

        put_own(f, 1, 0, 1, 0, 1, true);
        put_own(f, 0, 0, 1, 0, 1, true);
        put_own(f, 0, 1, 1, 100, 1, true);
        assert_int_equal(fchmodat(f->state_fd, path_of(0, 0), 0, 0), 0);
        fixture_obey_modes(true);
        settle(f);
        assert_true(is_there(f, 0, 0) && is_there(f, 0, 1) && !is_there(f, 1, 0));
        assert_non_null(refill_error(f->refill));
        assert_non_null(strstr(refill_error(f->refill), "worker_0/batch_000000.json': could not open it"));
        fixture_obey_modes(false);
        assert_int_equal(fchmodat(f->state_fd, path_of(0, 0), 0644, 0), 0);
        settle(f);
        check_all_taken(f);
}

/* Several of them: the log has one line of it, and not one with each look. */
static void test_unreadable_in_two_folders(void **state) {
        struct fixture *f = *state;
        unsigned logged = n_logged;

        for (unsigned folder = 0; folder < 3; folder++) {
                put_own(f, folder, 0, 1, 0, 1, true);
                assert_int_equal(fchmodat(f->state_fd, path_of(folder, 0), 0, 0), 0);
        }
        fixture_obey_modes(true);
        for (unsigned i = 0; i < 5; i++)
                settle(f);
        assert_int_equal(n_logged, logged + 1);
        assert_non_null(refill_error(f->refill));
        fixture_obey_modes(false);
        for (unsigned folder = 0; folder < 3; folder++)
                assert_int_equal(fchmodat(f->state_fd, path_of(folder, 0), 0644, 0), 0);
        settle(f);
        check_all_taken(f);
        assert_int_equal(n_logged, logged + 2); /* and that it works again */
}

/* A folder that cannot be looked into holds up no other. */
static void test_unreadable_folder(void **state) {
        struct fixture *f = *state;

        put_own(f, 1, 0, 1, 0, 1, true);
        put_own(f, 0, 0, 1, 0, 1, true);
        assert_int_equal(fchmodat(f->state_fd, "spill/worker_0", 0, 0), 0);
        fixture_obey_modes(true);
        settle(f);
        fixture_obey_modes(false);
        assert_int_equal(fchmodat(f->state_fd, "spill/worker_0", 0755, 0), 0);
        assert_true(is_there(f, 0, 0) && !is_there(f, 1, 0));
        assert_non_null(refill_error(f->refill));
        assert_non_null(strstr(refill_error(f->refill), "spill/worker_0"));
        settle(f);
        check_all_taken(f);
}

/* A file that cannot be removed is told, tried again, and never taken in twice. */
static void test_unremovable(void **state) {
        struct fixture *f = *state;
        unsigned logged;

        put_own(f, 0, 0, 1, 0, 1, true);
        put_own(f, 1, 0, 1, 0, 1, true);
        put_own(f, 0, 1, 1, 100, 1, true);
        put_foreign(f, 0, 2, 1, true);
        assert_int_equal(fchmodat(f->state_fd, "spill/worker_0", 0555, 0), 0);
        fixture_obey_modes(true);
        settle(f);
        check_window(f);
        assert_true(is_there(f, 0, 0) && is_there(f, 0, 1) && is_there(f, 0, 2) && !is_there(f, 1, 0));
        assert_non_null(refill_error(f->refill));
        assert_non_null(strstr(refill_error(f->refill), "could not remove spilled file 'spill/worker_0/"));
        logged = n_logged;
        settle(f);
        settle(f);
        assert_int_equal(n_logged, logged); /* said once, for weeks if need be */
        fixture_obey_modes(false);
        assert_int_equal(fchmodat(f->state_fd, "spill/worker_0", 0755, 0), 0);
        settle(f);
        check_all_taken(f);
        assert_int_equal(refill_counts(f->refill)->files, 4);
}

static void test_window_fails(void **state) {
        struct fixture *f = *state;
        struct fixture_disk d;

        clock_step_ns = 2 * TURN_NS;
        put_own(f, 0, 0, 1, 0, 3, true);
        put_foreign(f, 1, 0, 1, true);
        tick(f);
        while (window_tail(f->window) == 0)
                run_once(f);
        fixture_disk_fail(window_fd(f->window), WINDOW_HEADER_BYTES, &d);
        clock_step_ns = 0;
        settle(f);
        assert_true(window_tail(f->window) < f->n_expected);
        assert_non_null(refill_error(f->refill));
        assert_non_null(
                strstr(refill_error(f->refill), "could not write spilled samples to the replay window"));
        fixture_disk_work(&d);
        settle(f);
        check_all_taken(f);
}

static void test_sync_fails(void **state) {
        struct fixture *f = *state;
        int fd = window_fd(f->window), good = fcntl(fd, F_DUPFD_CLOEXEC, 3), ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_true(dup3(ends[0], fd, O_CLOEXEC) >= 0); /* fdatasync of a pipe: EINVAL */
        put_own(f, 0, 0, 1, 0, 1, true);
        settle(f);
        assert_int_equal(window_sync_error(f->sync), -EINVAL);
        check_window(f); /* it is in, but not durable */
        assert_true(is_there(f, 0, 0));
        assert_true(dup3(good, fd, O_CLOEXEC) >= 0);
        while (window_sync_error(f->sync)) /* by window_sync's own timer */
                run_once(f);
        run_until_quiet(f);
        settle(f);
        check_all_taken(f);
        (void) close(good);
        (void) close(ends[0]);
        (void) close(ends[1]);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                BOTH(test_rejected),
                BOTH(test_irregular),
                BOTH(test_growing),
                BOTH(test_nowhere_to_set_aside),
                BOTH(test_replaced_while_checked),
                BOTH(test_replaced_while_taken),
                BOTH(test_replaced_before_removal),
                BOTH(test_bad_one_replaced),
                BOTH(test_changed_between_readings),
                BOTH(test_removed_while_read),
                BOTH(test_removed_before_read),
                BOTH(test_unreadable),
                BOTH(test_unreadable_in_two_folders),
                BOTH(test_unreadable_folder),
                BOTH(test_unremovable),
                BOTH(test_window_fails),
                BOTH(test_sync_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
