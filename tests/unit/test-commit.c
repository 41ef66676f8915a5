/* SPDX-License-Identifier: MIT */
/*
 * Commit: the lane first, then spilling, then waiting; each record goes one way, whole.
 *
 * commit.c is included with a clock that stands still until it is told.
 */
#include "tests/unit/fixture-spill.h"

#include <sys/eventfd.h>
#include "common/base/clock.h"
#include "common/base/log.h"

static unsigned n_began, n_ended; /* lines that say so */

static void count_event(enum log_event event) {
        n_began += event == LOG_EVENT_SPILLING_BEGAN;
        n_ended += event == LOG_EVENT_SPILLING_ENDED;
}

static uint64_t test_now_ns = NS_PER_S;

static uint64_t test_clock(void) {
        return test_now_ns;
}

#define clock_now_ns          test_clock
#define log_event(event, ...) (count_event(event), (log_event) (event, __VA_ARGS__))
#include "worker/commit.c"
#undef clock_now_ns

#define LANE_BYTES  65536
#define MAX_GAMES   4000
#define AFTER_S     0.5
#define AFTER_NS    (NS_PER_S / 2)
#define SPILL_BYTES UINT64_C(1000000000)

struct fixture {
        char directory[64], instance[48];
        int state_fd, wake_fd;
        struct game *game;
        struct segment *segment, *worker; /* as azpard sees it, and as the worker does */
        struct commit commit;
        unsigned char *record, *copy;
        size_t record_size;
        unsigned n_games; /* taken */
        uint64_t first[MAX_GAMES + 1];
        unsigned char came[MAX_GAMES]; /* how often a game did */
};

static void begin(struct fixture *f, double spill_after, uint64_t spill_max) {
        struct error e = ERROR_INIT;

        if (f->commit.spill)
                commit_deinit(&f->commit);
        if (commit_init(&f->commit, f->game, f->worker, 1, f->state_fd, f->wake_fd, spill_after, spill_max,
                        &e) < 0)
                fail_msg("%s", e.text);
}

static int set_up(void **state) {
        static unsigned n;
        struct fixture *f = calloc(1, sizeof(*f));
        struct error e = ERROR_INIT;

        assert_non_null(f);
        f->game = fixture_game(GAME_TICTACTOE);
        (void) strcpy(f->directory, "/tmp/test-commit-XXXXXX");
        f->state_fd = fixture_folder(f->directory);
        f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_true(f->wake_fd >= 0);
        (void) snprintf(f->instance, sizeof(f->instance), "test-commit-%d-%u", (int) getpid(), n++);
        if (segment_create(f->instance, 2, LANE_BYTES, f->game->rules, f->directory, &f->segment, &e) < 0)
                fail_msg("%s", e.text);
        f->segment->header->origin = 77;
        atomic_store(&f->segment->header->n_desired, 1);
        if (segment_map_worker(fcntl(f->segment->fd, F_DUPFD_CLOEXEC, 3), 1, &f->worker, &e) < 0)
                fail_msg("%s", e.text);
        f->record_size = sample_record_max_bytes(f->game);
        f->record = malloc(f->record_size);
        f->copy = malloc(f->record_size);
        assert_true(f->record && f->copy);
        begin(f, AFTER_S, SPILL_BYTES);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        commit_deinit(&f->commit);
        segment_free(f->worker);
        segment_free(f->segment);
        (void) segment_unlink(f->instance);
        fixture_remove(f->directory);
        (void) close(f->state_fd);
        (void) close(f->wake_fd);
        game_free(f->game);
        free(f->record);
        free(f->copy);
        free(f);
        return 0;
}

/* The next game. Return: what commit_record() does. */
static int commit_game(struct fixture *f) {
        struct sample samples[9];
        struct error e = ERROR_INIT;
        size_t length;
        unsigned n;
        int r;

        assert_true(f->n_games < MAX_GAMES);
        n = fixture_play(f->game, (struct sample_id){ 1, 1, f->first[f->n_games] }, samples);
        assert_int_equal(sample_encode_record(f->game, samples, n, f->record, f->record_size, &length), 0);
        r = commit_record(&f->commit, f->record, length, &e);
        if (r < 0)
                fail_msg("%s", e.text);
        if (r == 0) {
                f->first[f->n_games + 1] = f->first[f->n_games] + n;
                f->n_games++;
        }
        return r;
}

static void fill_lane(struct fixture *f) {
        int r;

        while ((r = commit_game(f)) == 0)
                ;
        assert_int_equal(r, COMMIT_E_WAIT);
}

static unsigned game_of(const struct fixture *f, uint64_t sequence) {
        for (unsigned i = 0; i < f->n_games; i++)
                if (f->first[i] == sequence)
                        return i;
        fail_msg("sequence %ju is no game's first", (uintmax_t) sequence);
        return 0;
}

/* As azpard does: what is in the lane. Return: games. */
static unsigned drain_lane(struct fixture *f) {
        struct lane *lane = &f->segment->lanes[1];
        uint32_t length, n_samples;
        struct sample s, want[9];
        unsigned n_games = 0;
        uint64_t next;

        while (lane_read(lane, f->copy, (uint32_t) f->record_size, &length, &next) == 0) {
                size_t at, used;
                unsigned game = 0;

                assert_int_equal(sample_record_open(f->game, f->copy, length, &n_samples, &at, NULL), 0);
                for (uint32_t i = 0; i < n_samples; i++, at += used) {
                        assert_int_equal(sample_decode(f->game, f->copy + at, length - at, &s, &used, NULL),
                                         0);
                        if (i == 0) {
                                game = game_of(f, s.id.sequence);
                                assert_int_equal(fixture_play(f->game,
                                                              (struct sample_id){ 1, 1, f->first[game] },
                                                              want),
                                                 n_samples);
                        }
                        fixture_assert_equal(f->game, &want[i], &s);
                }
                f->came[game]++;
                n_games++;
                lane_release(lane, next);
        }
        return n_games;
}

static void flush(struct fixture *f) {
        uint64_t begin_ns = clock_now_ns();

        while (!commit_flush(&f->commit))
                assert_true(clock_now_ns() - begin_ns < 30 * NS_PER_S);
}

/* What lies in files. Return: games. */
static unsigned read_spilled(struct fixture *f) {
        struct batch_file_item *items = calloc(20000, sizeof(*items));
        struct sample want[9];
        unsigned n_games = 0, n_want = 0, at = 0;

        assert_non_null(items);
        for (unsigned i = 0;; i++) {
                char path[64];
                size_t n;

                (void) snprintf(path, sizeof(path), "spill/worker_1/batch_%06u.json", i);
                if (!fixture_exists(f->state_fd, path))
                        break;
                n = fixture_read_batch(f->game, f->state_fd, path, items, 20000);
                for (size_t k = 0; k < n; k++) {
                        if (at == n_want) {
                                unsigned game = game_of(f, items[k].sample.id.sequence);

                                f->came[game]++;
                                n_games++;
                                n_want = fixture_play(f->game, (struct sample_id){ 1, 1, f->first[game] },
                                                      want);
                                at = 0;
                        }
                        assert_int_equal(items[k].origin, 77);
                        fixture_assert_equal(f->game, &want[at++], &items[k].sample);
                }
        }
        assert_int_equal(at, n_want);
        free(items);
        return n_games;
}

static void check_each_once(const struct fixture *f) {
        for (unsigned i = 0; i < f->n_games; i++)
                assert_int_equal(f->came[i], 1);
}

static void test_lane_first(void **state) {
        struct fixture *f = *state;

        for (unsigned round = 0; round < 5; round++) {
                fill_lane(f);
                test_now_ns += AFTER_NS - 1;
                assert_int_equal(commit_game(f), COMMIT_E_WAIT); /* not yet */
                (void) drain_lane(f);
                test_now_ns += 10 * AFTER_NS;
                assert_int_equal(commit_game(f), 0);
        }
        (void) drain_lane(f);
        flush(f);
        assert_int_equal(read_spilled(f), 0);
        check_each_once(f);
        assert_int_equal(atomic_load(&f->segment->workers[1]->lane_waits), 5); /* once each time */
        assert_int_equal(atomic_load(&f->segment->workers[1]->spilled_files), 0);
}

/* Full for long enough without a break: to files, until the lane has room. */
static void test_spills(void **state) {
        struct fixture *f = *state;
        unsigned in_lane, spilled;

        fill_lane(f);
        in_lane = f->n_games;
        test_now_ns += AFTER_NS;
        for (unsigned i = 0; i < 300; i++) /* at once, from the first one on */
                while (commit_game(f) != 0)
                        flush(f);
        assert_int_equal(drain_lane(f), in_lane);
        spilled = f->n_games - in_lane;
        assert_int_equal(commit_game(f), 0); /* room again */
        assert_int_equal(drain_lane(f), 1);
        flush(f);
        assert_int_equal(read_spilled(f), spilled);
        check_each_once(f);
        assert_true(atomic_load(&f->segment->workers[1]->spilled_files) > 0);
        assert_int_equal(atomic_load(&f->segment->workers[1]->spilled_samples),
                         f->first[in_lane + spilled] - f->first[in_lane]);
        assert_true(atomic_load(&f->segment->workers[1]->spilled_bytes) > 0);
        assert_int_equal(atomic_load(&f->segment->workers[1]->spill_errno), 0);

        /* the break counts: full again, and it waits again */
        fill_lane(f);
        assert_int_equal(commit_game(f), COMMIT_E_WAIT);
        (void) drain_lane(f);
}

/* Said when it begins, and when there was none for a minute; not each time that the lane is full. */
static void test_spilling_is_told(void **state) {
        struct fixture *f = *state;
        unsigned began = n_began, ended = n_ended;

        for (unsigned round = 0; round < 3; round++) {
                fill_lane(f);
                assert_int_equal(n_began, began + (round > 0));
                test_now_ns += AFTER_NS;
                assert_int_equal(commit_game(f), 0);
                assert_int_equal(n_began, began + 1);
                (void) drain_lane(f);
                assert_int_equal(commit_game(f), 0); /* by the lane */
                test_now_ns += CALM_NS - AFTER_NS - 1;
                commit_poll(&f->commit);
        }
        assert_int_equal(n_ended, ended);
        test_now_ns += AFTER_NS + 1;
        commit_poll(&f->commit);
        assert_int_equal(n_ended, ended + 1);
        test_now_ns += 100 * CALM_NS;
        commit_poll(&f->commit);
        assert_int_equal(n_ended, ended + 1);

        fill_lane(f);
        test_now_ns += AFTER_NS;
        assert_int_equal(commit_game(f), 0);
        assert_int_equal(n_began, began + 2);
        /* it does not end while the lane is full, whether or not there is a game to commit */
        test_now_ns += 100 * CALM_NS;
        commit_poll(&f->commit);
        assert_int_equal(n_ended, ended + 1);
        (void) drain_lane(f);
        flush(f);
}

/* Both ways in turn, in any order: nothing is lost or twice. */
static void test_mixed(void **state) {
        struct fixture *f = *state;
        unsigned in_lane = 0;
        struct rng r;

        begin(f, 0, SPILL_BYTES); /* without waiting at all */
        rng_seed(&r, 5, 5);
        while (f->n_games < 2000) {
                if (commit_game(f) == COMMIT_E_WAIT)
                        flush(f);
                commit_poll(&f->commit);
                if (rng_below(&r, 400) == 0)
                        in_lane += drain_lane(f);
        }
        in_lane += drain_lane(f);
        flush(f);
        assert_int_equal(read_spilled(f) + in_lane, f->n_games);
        assert_in_range(in_lane, 10, f->n_games - 10);
        check_each_once(f);
}

static void test_never(void **state) {
        struct fixture *f = *state;

        begin(f, 0, 0);
        fill_lane(f);
        test_now_ns += 1000 * NS_PER_S;
        assert_int_equal(commit_game(f), COMMIT_E_WAIT);
        assert_true(commit_flush(&f->commit));
        assert_int_equal(drain_lane(f), f->n_games);
        assert_int_equal(read_spilled(f), 0);
        assert_int_equal(atomic_load(&f->segment->workers[1]->spill_full), 0);
}

/* An equal share of the limit for each worker that azpard wants, as it is now. */
static void test_share(void **state) {
        struct fixture *f = *state;
        unsigned in_lane;

        begin(f, 0, 100);
        atomic_store(&f->segment->header->n_desired, 0);
        assert_int_equal(spill_share(&f->commit), 100);
        atomic_store(&f->segment->header->n_desired, 4);
        assert_int_equal(spill_share(&f->commit), 25);
        atomic_store(&f->segment->header->n_desired, 101);
        assert_int_equal(spill_share(&f->commit), 0);
        fill_lane(f); /* and what fits into memory */
        assert_false(commit_flush(&f->commit));
        assert_int_equal(atomic_load(&f->segment->workers[1]->spill_full), 1);
        assert_int_equal(commit_game(f), COMMIT_E_WAIT);
        in_lane = drain_lane(f);
        assert_int_equal(read_spilled(f), 0);
        begin(f, 0, 100); /* what was only in memory is lost with it: none of it was committed */
        assert_int_equal(read_spilled(f), 0);
        assert_in_range(in_lane, 1, f->n_games - 1);
        atomic_store(&f->segment->header->n_desired, 1);
        fill_lane(f);
        assert_false(commit_flush(&f->commit));
        while (fixture_n_names(f->state_fd, "spill/worker_1") == 0) /* the disk may still be at it */
                assert_false(commit_flush(&f->commit));
}

/* What keeps it from being written is in the segment, for azpard to say. */
static void test_error_is_shown(void **state) {
        struct fixture *f = *state;
        char path[128];

        (void) snprintf(path, sizeof(path), "%s/spill", f->directory);
        fixture_remove(path);
        fixture_write_file(f->state_fd, "spill", "", 0);
        begin(f, 0, SPILL_BYTES);
        fill_lane(f);
        assert_false(commit_flush(&f->commit));
        assert_int_equal(atomic_load(&f->segment->workers[1]->spill_errno), ENOTDIR);
        assert_int_equal(unlinkat(f->state_fd, "spill", 0), 0);
        flush(f);
        assert_int_equal(atomic_load(&f->segment->workers[1]->spill_errno), 0);
        (void) drain_lane(f);
        (void) read_spilled(f);
        check_each_once(f);
}

/* azpard sleeps: a record in the lane wakes it. */
static void test_wakes(void **state) {
        struct fixture *f = *state;
        eventfd_t n;

        assert_true(segment_consumer_may_sleep(f->segment));
        assert_int_equal(commit_game(f), 0);
        assert_int_equal(eventfd_read(f->wake_fd, &n), 0);
}

static void test_bad_record(void **state) {
        struct fixture *f = *state;
        struct error e = ERROR_INIT;

        begin(f, AFTER_S, SPILL_BYTES);
        fill_lane(f);
        test_now_ns += 1000 * NS_PER_S; /* it would be spilled now */
        f->record[0] = 0xc1;            /* no msgpack at all */
        assert_true(commit_record(&f->commit, f->record, f->record_size, &e) < 0);
        assert_true(strlen(e.text) > 0);
        assert_true(commit_record(&f->commit, f->record, LANE_BYTES + 1, &e) < 0); /* can never fit */
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_lane_first, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_spills, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_spilling_is_told, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_mixed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_never, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_share, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_error_is_shown, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_wakes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_bad_record, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
