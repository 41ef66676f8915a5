/* SPDX-License-Identifier: MIT */
/* Samples of files into the window: what is recognised, what is refused, and that games come whole and once.
 */
#include "tests/unit/fixture-spill.h"

#include "common/exchange/window.h"
#include "daemon/file_intake.h"
#include "tests/unit/fixture-disk.h"

#define WINDOW_SAMPLES 1000
#define N_GAMES        4
#define WORKER         2
#define OTHER          UINT64_C(5) /* a window that is not ours */

struct fixture {
        char directory[64];
        int dir_fd;
        struct game *game;
        struct window *window;
        struct file_intake *intake;
        struct file_intake_done done;
        struct sample samples[N_GAMES * 9];
        size_t n, ends[N_GAMES]; /* of each game */
        struct error error;
};

/* As azpard starts. */
static void start(struct fixture *f) {
        struct sample_id found[SAMPLE_N_SLOTS];

        if (window_open(f->dir_fd, "window", f->game, WINDOW_SAMPLES, &f->window, &f->error) < 0)
                fail_msg("%s", f->error.text);
        assert_int_equal(window_newest(f->window, found, N_ELEMENTS(found)), 0);
        assert_int_equal(file_intake_new(f->game, f->window, found, &f->intake), 0);
        f->done = (struct file_intake_done){ 0 };
}

static void stop(struct fixture *f) {
        file_intake_free(f->intake);
        window_free(f->window);
}

static int set_up(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->game = fixture_game(GAME_TICTACTOE);
        (void) strcpy(f->directory, "/tmp/test-file-intake-XXXXXX");
        f->dir_fd = fixture_folder(f->directory);
        start(f);
        for (unsigned i = 0; i < N_GAMES; i++) {
                f->n += fixture_play(f->game, (struct sample_id){ WORKER, 1, f->n }, f->samples + f->n);
                f->ends[i] = f->n;
        }
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        stop(f);
        fixture_remove(f->directory);
        (void) close(f->dir_fd);
        game_free(f->game);
        free(f);
        return 0;
}

static struct batch_file_item item_of(const struct sample *s, uint64_t origin) {
        return (struct batch_file_item){ .sample = *s, .origin = origin };
}

/* The first pass over the @n samples. Return: of the last call. */
static int check(struct fixture *f, const struct sample *samples, size_t n, uint64_t origin, uint64_t name) {
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++) {
                struct batch_file_item item = item_of(&samples[i], origin);

                r = file_intake_check(f->intake, &item, &f->error);
        }
        return r == 0 ? file_intake_begin_taking(f->intake, name, &f->error) : r;
}

/* The next sample of the second pass. Return: of the last call. */
static int take(struct fixture *f, const struct sample *sample, uint64_t origin) {
        struct batch_file_item item = item_of(sample, origin);

        if (file_intake_identify(f->intake, &item, &f->error) < 0)
                fail_msg("%s", f->error.text);
        return file_intake_take(f->intake, &item, &f->done);
}

/* Both passes over a file that has begun. Gives how many samples were new, and checks that all others were
 * not. */
static uint64_t take_all(struct fixture *f, const struct sample *samples, size_t n, uint64_t origin,
                         uint64_t name) {
        const struct file_intake_done before = f->done;

        if (check(f, samples, n, origin, name) < 0)
                fail_msg("%s", f->error.text);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(take(f, &samples[i], origin), 0);
        assert_int_equal(file_intake_end(f->intake, &f->done), 0);
        assert_int_equal(f->done.samples - before.samples + f->done.duplicates - before.duplicates, n);
        return f->done.samples - before.samples;
}

static uint64_t take_own(struct fixture *f, const struct sample *samples, size_t n) {
        file_intake_begin_spilled(f->intake, WORKER);
        return take_all(f, samples, n, window_origin(f->window), 1);
}

static uint64_t take_import(struct fixture *f, uint64_t origin, uint64_t name) {
        file_intake_begin_import(f->intake);
        return take_all(f, f->samples, f->n, origin, name);
}

/* The window's sample @at is @want, under the identity of @slot, @incarnation and @sequence. */
static void check_sample(struct fixture *f, uint64_t at, const struct sample *want, uint64_t slot,
                         uint64_t incarnation, uint64_t sequence) {
        struct sample s;

        assert_int_equal(window_read(f->window, at, &s), 0);
        fixture_assert_same_content(f->game, want, &s);
        assert_int_equal(s.id.slot, slot);
        assert_int_equal(s.id.incarnation, incarnation);
        assert_int_equal(s.id.sequence, sequence);
}

/* A worker's own samples count by identity, in whatever file they lie, also for a successor. */
static void test_own(void **state) {
        struct fixture *f = *state;

        assert_int_equal(take_own(f, f->samples, f->ends[1]), f->ends[1]);
        assert_int_equal(take_own(f, f->samples, f->ends[1]), 0);
        assert_int_equal(take_own(f, f->samples, f->ends[2]), f->ends[2] - f->ends[1]);
        stop(f);
        start(f);
        assert_int_equal(take_own(f, f->samples, f->ends[2]), 0);
        assert_int_equal(take_own(f, f->samples + f->ends[0], f->n - f->ends[0]), f->n - f->ends[2]);
        assert_int_equal(window_tail(f->window), f->n);
        for (size_t i = 0; i < f->n; i++)
                check_sample(f, i, &f->samples[i], SAMPLE_SLOT_SPILLED + WORKER, 1, i);
}

/* All others count by their file's name and their place in it. */
static void test_foreign(void **state) {
        struct fixture *f = *state;

        assert_int_equal(take_import(f, OTHER, 77), f->n);
        assert_int_equal(take_import(f, OTHER, 77), 0);
        file_intake_begin_spilled(f->intake, 9999); /* of anybody's name, in a folder of any name */
        assert_int_equal(take_all(f, f->samples, f->n, OTHER, 78), f->n);
        stop(f);
        start(f);
        assert_int_equal(take_import(f, OTHER, 77), 0);
        assert_int_equal(take_import(f, OTHER, 78), 0);
        assert_int_equal(take_import(f, OTHER, 79), f->n);
        assert_int_equal(window_tail(f->window), 3 * f->n);
        for (size_t i = 0; i < 3 * f->n; i++)
                check_sample(f, i, &f->samples[i % f->n], SAMPLE_SLOT_IMPORTED, 77 + i / f->n, i % f->n);
}

/* What a client brings of this very window is passed over: it is there, or has been. */
static void test_export(void **state) {
        struct fixture *f = *state;

        assert_int_equal(take_import(f, window_origin(f->window), 77), 0);
        assert_int_equal(f->done.duplicates, f->n);
        assert_int_equal(window_tail(f->window), 0);
        assert_int_equal(take_own(f, f->samples, f->n), f->n);
}

/* A game is in the window when its last sample is known, not before; of a file that is given up there is no
 * half. */
static void test_games_are_whole(void **state) {
        struct fixture *f = *state;
        uint64_t origin = window_origin(f->window);
        unsigned n_games = 0;

        file_intake_begin_spilled(f->intake, WORKER);
        assert_int_equal(check(f, f->samples, f->n, origin, 1), 0);
        for (size_t i = 0; i < f->n; i++) {
                if (i == f->ends[n_games])
                        n_games++;
                assert_int_equal(take(f, &f->samples[i], origin), 0);
                assert_int_equal(window_tail(f->window), n_games ? f->ends[n_games - 1] : 0);
        }
        assert_int_equal(n_games, N_GAMES - 1);
        assert_int_equal(take_own(f, f->samples, f->ends[1]), 0);
        assert_int_equal(window_tail(f->window), f->ends[N_GAMES - 2]);
        assert_int_equal(take_own(f, f->samples, f->n), f->n - f->ends[N_GAMES - 2]);
}

static void check_refused(struct fixture *f, uint64_t folder, const struct sample *samples, size_t n,
                          const char *why) {
        file_intake_begin_spilled(f->intake, folder);
        assert_int_equal(check(f, samples, n, window_origin(f->window), 1), -EBADMSG);
        if (!strstr(f->error.text, why))
                fail_msg("'%s' is not in: %s", why, f->error.text);
}

/* What no worker of this window can have written there. */
static void test_refused(void **state) {
        struct fixture *f = *state;
        struct sample *s = calloc(f->n, sizeof(*s));
        struct batch_file_item item;

        assert_non_null(s);
        check_refused(f, WORKER + 1, f->samples, f->n, "sample 0: made by worker 2, not 3");
        check_refused(f, UINT64_MAX, f->samples, f->n, "sample 0: made by worker 2, not");
        (void) memcpy(s, f->samples, f->n * sizeof(*s));
        s[1].id.sequence = 0;
        check_refused(f, WORKER, s, f->n, "sample 1: identity (1, 0) does not follow (1, 0) before it");
        s[1].id = (struct sample_id){ WORKER, 0, 1 };
        check_refused(f, WORKER, s, f->n, "sample 1: incarnation 0 is impossible");
        s[1].id.incarnation = UINT64_C(1) << 40;
        check_refused(f, WORKER, s, f->n, "sample 1: incarnation 1099511627776 is impossible");
        file_intake_begin_spilled(f->intake, WORKER);
        assert_int_equal(check(f, f->samples, f->n, window_origin(f->window), 1), 0);
        item = item_of(&f->samples[0], OTHER);
        assert_int_equal(file_intake_identify(f->intake, &item, &f->error), -EBADMSG);
        assert_non_null(strstr(f->error.text, "samples of this window and others in one file"));
        assert_int_equal(window_tail(f->window), 0);
        assert_int_equal(take_own(f, f->samples, f->n), f->n);
        free(s);
}

/* The disk fails: the same sample again and again, until it works. */
static void test_window_fails(void **state) {
        struct fixture *f = *state;
        uint64_t origin = window_origin(f->window);
        struct fixture_disk d;

        file_intake_begin_spilled(f->intake, WORKER);
        assert_int_equal(check(f, f->samples, f->n, origin, 1), 0);
        fixture_disk_fail(window_fd(f->window), WINDOW_HEADER_BYTES, &d);
        for (size_t i = 0; i < f->ends[0]; i++)
                assert_int_equal(take(f, &f->samples[i], origin), 0);
        for (size_t i = f->ends[0]; i < f->n; i++) {
                struct batch_file_item item = item_of(&f->samples[i], origin);

                assert_int_equal(file_intake_identify(f->intake, &item, &f->error), 0);
                if (i == f->ends[0]) {
                        assert_true(file_intake_take(f->intake, &item, &f->done) < 0);
                        assert_true(file_intake_take(f->intake, &item, &f->done) < 0);
                        assert_true(f->done.samples == 0 && f->done.duplicates == 0);
                        fixture_disk_work(&d);
                }
                assert_int_equal(file_intake_take(f->intake, &item, &f->done), 0);
        }
        assert_int_equal(file_intake_end(f->intake, &f->done), 0);
        assert_true(f->done.samples == f->n && f->done.duplicates == 0);
        assert_int_equal(window_tail(f->window), f->n);
        for (size_t i = 0; i < f->n; i++)
                check_sample(f, i, &f->samples[i], SAMPLE_SLOT_SPILLED + WORKER, 1, i);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_own, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_foreign, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_export, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_games_are_whole, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_window_fails, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
