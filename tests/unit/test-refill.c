/* SPDX-License-Identifier: MIT */
/*
 * Refill: each sample of each file is in the window once, wherever azpard is killed meanwhile; imports;
 * stopping.  By io_uring and by plain calls.
 */
#include "tests/unit/fixture-refill.h"

/* ---- good files ---- */

static void test_own_files(void **state) {
        struct fixture *f = *state;
        const struct refill_counts *c;

        put_own(f, 0, 0, 1, 0, 2, true);
        put_own(f, 3, 5, 2, 40, 3, true);
        put_own(f, 0, 1, 1, 100, 2, true);
        put_own(f, 0, 2, 4, 0, 1, true); /* a successor in the slot */
        settle(f);
        check_all_taken(f);
        c = refill_counts(f->refill);
        assert_int_equal(c->files, 4);
        assert_int_equal(c->samples, f->n_expected);
        assert_int_equal(c->duplicates, 0);
        assert_int_equal(c->rejected, 0);
        assert_true(c->bytes > 0);
        assert_int_equal(window_next_incarnation(f->window), 5);
        assert_null(refill_reading(f->refill, &(uint64_t){ 0 }, &(uint64_t){ 0 }));
}

/* By number in a folder, whatever their times say; the folders by the age of their next file. */
static void test_order(void **state) {
        struct fixture *f = *state;

        put_own(f, 1, 3, 1, 0, 1, true);
        put_own(f, 0, 9, 1, 0, 1, true);
        put_own(f, 0, 10, 1, 100, 1, true);
        put_own(f, 1, 20, 1, 200, 1, true);
        set_age(f, path_of(1, 20), LONG_AGO - 1000);
        set_age(f, path_of(0, 9), LONG_AGO + 1);
        set_age(f, path_of(0, 10), LONG_AGO - 500);
        set_age(f, path_of(1, 3), LONG_AGO);
        /* 1/3 at 0 s is the oldest that may come, then 1/20, then 0/9 and 0/10 */
        f->n_expected = 0;
        put_own(f, 1, 3, 1, 0, 1, true);
        set_age(f, path_of(1, 3), LONG_AGO);
        put_own(f, 1, 20, 1, 200, 1, true);
        set_age(f, path_of(1, 20), LONG_AGO - 1000);
        put_own(f, 0, 9, 1, 0, 1, true);
        set_age(f, path_of(0, 9), LONG_AGO + 1);
        put_own(f, 0, 10, 1, 100, 1, true);
        set_age(f, path_of(0, 10), LONG_AGO - 500);
        settle(f);
        check_all_taken(f);
}

/* More than one sync covers, and files of many pieces. */
static void test_many(void **state) {
        struct fixture *f = *state;

        for (unsigned i = 0; i < 2 * TAKEN_MAX + 5; i++)
                put_own(f, i % 2, i / 2, 1 + i, 0, 1, true);
        put_own(f, 2, 0, 1, 0, 700, true);
        put_own(f, 2, 1, 2, 0, 700, true);
        settle(f);
        check_all_taken(f);
        assert_int_equal(refill_counts(f->refill)->files, 2 * TAKEN_MAX + 7);
        put_own(f, 2, 0, 3, 0, 1, true); /* and again, later */
        settle(f);
        check_all_taken(f);
}

/* A game appears whole: whatever is published ends where a game does. */
static void test_games_are_whole(void **state) {
        struct fixture *f = *state;
        uint64_t tail = 0;

        clock_step_ns = 2 * TURN_NS;
        put_own(f, 0, 0, 1, 0, 20, true);
        tick(f);
        while (n_left(f) > 0) {
                run_once(f);
                if (is_quiet(f))
                        tick(f);
                if (window_tail(f->window) == tail)
                        continue;
                assert_int_equal(f->expected[tail].sample.ply, 0);
                tail = window_tail(f->window);
                assert_true(tail == f->n_expected || f->expected[tail].sample.ply == 0);
                assert_true(n_left(f) == 1); /* never removed before it is durable */
        }
        check_all_taken(f);
}

static void test_foreign_files(void **state) {
        struct fixture *f = *state;
        size_t n = put_foreign(f, 0, 0, 1, true);

        put_foreign(f, 700, 0, 2, true); /* any folder will do */
        put_foreign(f, 0, 1, 1, false);  /* the same samples again */
        settle(f);
        check_all_taken(f);
        assert_int_equal(refill_counts(f->refill)->duplicates, n);
        n = put_foreign(f, 0, 0, 2, false);
        crash(f);
        start(f);
        settle(f);
        check_all_taken(f);
        assert_int_equal(refill_counts(f->refill)->duplicates, n);
        assert_int_equal(refill_counts(f->refill)->samples, 0);
}

static void test_nothing_in_it(void **state) {
        struct fixture *f = *state;

        put_text(f, path_of(0, 0), "[]", 2);
        put_text(f, path_of(0, 1), " [ ]\n", 5);
        settle(f);
        check_all_taken(f);
        assert_int_equal(refill_counts(f->refill)->files, 2);
}

/* ---- crashes ---- */

static void put_scenario(struct fixture *f) {
        f->n_expected = 0;
        put_own(f, 0, 0, 1, 0, 3, true);
        put_foreign(f, 1, 0, 5, true);
        put_own(f, 0, 1, 1, 200, 2, true);
        put_own(f, 2, 7, 3, 0, 1, true);
        put_own(f, 0, 2, 2, 0, 2, true);
}

/* A new window, and so new files. */
static void begin_anew(struct fixture *f) {
        char path[128];

        crash(f);
        assert_int_equal(unlinkat(f->state_fd, "window", 0), 0);
        (void) snprintf(path, sizeof(path), "%s/spill", f->directory);
        if (fixture_exists(f->state_fd, "spill"))
                fixture_remove(path);
        start(f);
}

/* @n turns of the loop, each of one step. Return: whether that was not all. */
static bool run_steps(struct fixture *f, unsigned n) {
        clock_step_ns = 2 * TURN_NS;
        while (n-- > 0) {
                if (is_quiet(f)) {
                        if (n_left(f) == 0)
                                return false;
                        tick(f);
                }
                run_once(f);
        }
        clock_step_ns = 0;
        return true;
}

/* Killed after each step there is; the next one takes the rest. */
static void test_crash_at_every_step(void **state) {
        struct fixture *f = *state;
        unsigned n_partial = 0, n_all = 0, at = 0;
        bool goes_on = true;

        for (; goes_on; at++) {
                begin_anew(f);
                put_scenario(f);
                goes_on = run_steps(f, at);
                clock_step_ns = 0;
                n_partial += window_tail(f->window) > 0 && window_tail(f->window) < f->n_expected;
                n_all += window_tail(f->window) == f->n_expected && n_left(f) > 0 && n_left(f) < 5;
                crash(f);
                start(f);
                settle(f);
                check_all_taken(f);
        }
        assert_true(at > 100); /* that were steps of one sample each */
        assert_true(n_partial > 10);
        assert_true(n_all > 0); /* in the middle of removing */
}

/* Killed again and again. */
static void test_many_crashes(void **state) {
        struct fixture *f = *state;
        struct rng rng;

        rng_seed(&rng, 1, 2);
        for (unsigned round = 0; round < 10; round++) {
                begin_anew(f);
                put_scenario(f);
                while (run_steps(f, rng_below(&rng, 500))) { /* all files in one go, or none is removed */
                        crash(f);
                        start(f);
                }
                clock_step_ns = 0;
                settle(f);
                check_all_taken(f);
        }
}

/* Files that a power cut brought back, or somebody: no sample comes twice. */
static void test_files_come_back(void **state) {
        struct fixture *f = *state;

        for (unsigned round = 0; round < 3; round++) {
                put_scenario(f);
                settle(f);
                check_all_taken(f);
                if (round == 1) {
                        crash(f);
                        start(f);
                }
        }
        assert_int_equal(refill_counts(f->refill)->duplicates, f->n_expected);
}

/* ---- imports ---- */

static uint64_t begin_import_of(struct fixture *f, const char *path) {
        struct error e = ERROR_INIT;
        uint64_t ticket;

        if (refill_import(f->refill, openat(f->state_fd, path, O_RDONLY | O_CLOEXEC), &ticket, &e) < 0)
                fail_msg("%s", e.text);
        return ticket;
}

/* Return: what refill_import_done() says at last. */
static int end_of_import(struct fixture *f, uint64_t ticket, struct refill_import *ret, struct error *e) {
        unsigned before = f->n_changed;
        int r;

        for (unsigned i = 0; (r = refill_import_done(f->refill, ticket, ret, e)) == 0; i++) {
                assert_true(i < MAX_RUNS);
                if (is_quiet(f))
                        tick(f);
                run_once(f);
        }
        assert_true(f->n_changed > before);
        return r;
}

static void check_import(struct fixture *f, const char *path, uint64_t samples, uint64_t duplicates) {
        struct refill_import result;
        struct error e = ERROR_INIT;

        if (end_of_import(f, begin_import_of(f, path), &result, &e) != 1)
                fail_msg("%s", e.text);
        assert_int_equal(result.samples, samples);
        assert_int_equal(result.duplicates, duplicates);
        assert_int_equal(window_durable(f->window), window_tail(f->window));
        assert_true(fixture_exists(f->state_fd, path)); /* the client's own business */
}

static void test_import(void **state) {
        struct fixture *f = *state;
        struct sample s[5 * 9];
        size_t n = make_games(f, (struct sample_id){ 3, 1, 0 }, 5, s);

        put_samples(f, "other", s, n, 17);
        put_samples(f, "plain", s + 20, n - 20, 0);
        put_samples(f, "own", s, n, window_origin(f->window));
        expect(f, s, n, true);
        check_import(f, "other", n, 0);
        check_window(f);
        check_import(f, "other", 0, n);
        check_import(f, "own", 0, n); /* an export of this very window */
        check_window(f);
        check_import(f, "plain", n - 20, 0);
        check_import(f, "plain", 0, n - 20);
        crash(f);
        start(f);
        check_import(f, "other", 0, n);
        check_import(f, "plain", 0, n - 20);
        assert_int_equal(window_tail(f->window), 2 * n - 20);
        assert_int_equal(refill_counts(f->refill)->duplicates, 2 * n - 20);
}

/* Policies that are no ratio of visits are taken to the nearest one, and counted. */
static void test_rounded(void **state) {
        static const char text[] =
                "[{\"board\":[1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,1,1,1,1,1,1,1,1,1],"
                "\"policy\":[0,0.25,0,0,0,0,0,0,0.75],\"value\":-1},"
                "{\"board\":[1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,1,1,1,1,1,1,1,1,1],"
                "\"policy\":[0,0.3333,0,0.00012345678,0,0,0,0,0.66657654322],\"value\":1}]";
        struct fixture *f = *state;
        struct refill_import result;
        struct error e = ERROR_INIT;

        put_text(f, "rounded", text, strlen(text));
        assert_int_equal(end_of_import(f, begin_import_of(f, "rounded"), &result, &e), 1);
        assert_int_equal(result.samples, 2);
        assert_int_equal(result.rounded, 1);
        put_text(f, path_of(0, 0), text, strlen(text));
        settle(f);
        assert_int_equal(window_tail(f->window), 2); /* the same file, spilled */
        assert_int_equal(n_left(f), 0);
}

static void test_import_errors(void **state) {
        struct fixture *f = *state;
        struct refill_import result;
        struct error e = ERROR_INIT;
        struct sample s[2 * 9];
        size_t n = make_games(f, (struct sample_id){ 3, 1, 0 }, 2, s), n_bytes;
        char *text = fixture_batch_text(f->game, s, n, 17, &n_bytes);
        uint64_t ticket, next;
        int ends[2];

        put_text(f, "half", text, n_bytes / 2);
        ticket = begin_import_of(f, "half");
        assert_int_equal(refill_import_done(f->refill, ticket, &result, &e), 0);
        assert_int_equal(refill_import(f->refill, openat(f->state_fd, "half", O_RDONLY), &next, &e), -EBUSY);
        assert_non_null(strstr(e.text, "another import"));
        e = ERROR_INIT;
        assert_int_equal(end_of_import(f, ticket, &result, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "byte"));
        assert_int_equal(refill_import_done(f->refill, ticket, &result, &e), -EBADMSG); /* asked again */
        assert_int_equal(window_tail(f->window), 0);
        assert_true(fixture_exists(f->state_fd, "half"));

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(refill_import(f->refill, ends[0], &next, &e), -EINVAL);
        assert_int_equal(fcntl(ends[0], F_GETFD), -1); /* taken over */
        (void) close(ends[1]);
        assert_true(refill_import(f->refill, -1, &next, &e) < 0);

        /* opened for writing alone: no read works */
        assert_int_equal(
                refill_import(f->refill, openat(f->state_fd, "half", O_WRONLY | O_CLOEXEC), &next, &e), 0);
        assert_int_equal(end_of_import(f, next, &result, &e), -EBADF);
        assert_int_equal(refill_import_done(f->refill, ticket, &result, &e), -ESTALE);
        put_text(f, "whole", text, n_bytes);
        check_import(f, "whole", n, 0);
        free(text);
        assert_int_equal(refill_counts(f->refill)->rejected, 0);
        assert_null(refill_error(f->refill)); /* none of azpard's own */
}

/* An import comes between spilled files, which were there before it or come meanwhile. */
static void test_import_beside_spilled(void **state) {
        struct fixture *f = *state;
        struct refill_import result;
        struct error e = ERROR_INIT;
        struct sample s[5 * 9];
        size_t n = make_games(f, (struct sample_id){ 3, 1, 0 }, 5, s), n_own = 0;

        put_samples(f, "other", s, n, 17);
        for (int step = STEP_LOOK; step <= STEP_REMOVE; step++) {
                begin_anew(f);
                clock_step_ns = 2 * TURN_NS;
                n_own = put_own(f, 0, 0, 1, 0, 2, false);
                n_own += put_own(f, 0, 1, 1, 100, 2, false);
                run_until_step(f, (enum step) step);
                assert_int_equal(end_of_import(f, begin_import_of(f, "other"), &result, &e), 1);
                assert_int_equal(result.samples, n);
                assert_int_equal(result.duplicates, 0);
                clock_step_ns = 0;
                settle(f);
                assert_int_equal(n_left(f), 0);
                assert_int_equal(window_tail(f->window), n + n_own);
                assert_int_equal(refill_counts(f->refill)->files, 3);
                assert_int_equal(refill_counts(f->refill)->samples, n + n_own);
                assert_int_equal(refill_counts(f->refill)->duplicates, 0);
        }
}

/* Killed in the middle of an import, which the client then asks for again. */
static void test_import_crash(void **state) {
        struct fixture *f = *state;
        struct refill_import result;
        struct error e = ERROR_INIT;
        struct sample s[5 * 9];
        size_t n = make_games(f, (struct sample_id){ 3, 1, 0 }, 5, s);
        unsigned n_partial = 0, at;

        put_samples(f, "other", s, n, 17);
        expect(f, s, n, true);
        for (at = 0; at < 200; at++) {
                uint64_t ticket, before;

                begin_anew(f);
                ticket = begin_import_of(f, "other");
                clock_step_ns = 2 * TURN_NS;
                for (unsigned i = 0; i < at && refill_import_done(f->refill, ticket, &result, &e) == 0; i++)
                        run_once(f);
                clock_step_ns = 0;
                before = window_tail(f->window);
                n_partial += before > 0 && before < n;
                crash(f);
                start(f);
                check_import(f, "other", n - before, before);
                check_window(f);
        }
        assert_true(n_partial > 3);
}

/* ---- the end ---- */

static void test_stop(void **state) {
        struct fixture *f = *state;
        struct refill_import result;
        struct error e = ERROR_INIT;
        struct sample s[9];
        size_t n = make_games(f, (struct sample_id){ 3, 1, 0 }, 1, s);

        for (int step = STEP_LOOK; step <= STEP_REMOVE; step++) {
                unsigned n_changed;
                uint64_t ticket;

                begin_anew(f);
                put_samples(f, "other", s, n, 17);
                clock_step_ns = 2 * TURN_NS;
                put_scenario(f);
                run_until_step(f, (enum step) step);
                ticket = begin_import_of(f, "other");
                n_changed = f->n_changed;
                refill_stop(f->refill);
                assert_true(f->n_changed > n_changed); /* who waits for an import is told */
                assert_int_equal(refill_import_done(f->refill, ticket, &result, &e), -ESHUTDOWN);
                disk_drain(f->disk);
                for (unsigned i = 0; i < 3; i++) {
                        uint64_t tail = window_tail(f->window);

                        tick(f);
                        assert_true(sd_event_run(f->event, 0) >= 0);
                        disk_drain(f->disk);
                        assert_int_equal(window_tail(f->window), tail);
                }
                clock_step_ns = 0;
                crash(f);
                start(f);
                settle(f);
                check_all_taken(f);
        }
}

/* Half-written files of dead workers are removed at the start, and no others. */
static void test_temporary_files(void **state) {
        struct fixture *f = *state;

        crash(f);
        fixture_write_file(f->state_fd, "spill/worker_0/batch_000000.json.tmp", "[", 1);
        fixture_write_file(f->state_fd, "spill/worker_5/batch_000009.json.tmp", "[", 1);
        fixture_write_file(f->state_fd, "spill/worker_5/mine.tmp", "[", 1);
        fixture_write_file(f->state_fd, "spill/other/batch_000009.json.tmp", "[", 1);
        start(f);
        settle(f);
        assert_int_equal(fixture_n_names(f->state_fd, "spill/worker_0"), 0);
        assert_int_equal(fixture_n_names(f->state_fd, "spill/worker_5"), 1);
        assert_int_equal(fixture_n_names(f->state_fd, "spill/other"), 1);
        assert_int_equal(refill_waiting(f->refill).n_files, 0);
        assert_int_equal(refill_waiting(f->refill).n_ignored, 1); /* "other" */
}

static void test_progress_and_rate(void **state) {
        struct fixture *f = *state;
        uint64_t done = 0, bytes = 0, last = 0;
        unsigned n_seen = 0;

        clock_step_ns = 2 * TURN_NS;
        put_own(f, 0, 0, 1, 0, 200, true);
        assert_true(refill_samples_per_s(f->refill) == 0);
        tick(f);
        while (n_left(f) > 0) {
                const char *path = refill_reading(f->refill, &done, &bytes);

                if (path) {
                        assert_string_equal(path, "spill/worker_0/batch_000000.json");
                        assert_true(done >= last && done <= bytes);
                        n_seen += done > last;
                        last = done;
                }
                if (is_quiet(f))
                        tick(f);
                run_once(f);
        }
        assert_true(n_seen > 100);
        assert_true(last > bytes * 9 / 10);
        tick(f);
        assert_true(refill_samples_per_s(f->refill) > 0);
        for (unsigned i = 0; i < RATE_TICKS; i++)
                tick(f);
        assert_true(refill_samples_per_s(f->refill) == 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                BOTH(test_own_files),
                BOTH(test_order),
                BOTH(test_many),
                BOTH(test_games_are_whole),
                BOTH(test_foreign_files),
                BOTH(test_nothing_in_it),
                BOTH(test_crash_at_every_step),
                BOTH(test_many_crashes),
                BOTH(test_files_come_back),
                BOTH(test_import),
                BOTH(test_rounded),
                BOTH(test_import_errors),
                BOTH(test_import_beside_spilled),
                BOTH(test_import_crash),
                BOTH(test_stop),
                BOTH(test_temporary_files),
                BOTH(test_progress_and_rate),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
