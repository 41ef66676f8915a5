/* SPDX-License-Identifier: MIT */
/* Intake: hand-made lanes, good and bad, and processes killed at any moment, into a window in a temporary
 * directory. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "common/exchange/sample.h"
#include "daemon/intake.h"
#include "tests/unit/fixture-disk.h"

#define N_SLOTS      3
#define LANE_BYTES   65536
#define N_SAMPLES    5000 /* in the window */
#define FOR_EVER_NS  (60 * NS_PER_S)
#define GAME_SAMPLES 5 /* of one hand-made game */

#ifdef __SANITIZE_ADDRESS__
#define N_KILLS 8
#else
#define N_KILLS 40
#endif

struct fixture {
        char directory[64], instance[48];
        int dir_fd;
        struct game *game;
        struct window *window;
        struct segment *segment;
        struct segment *workers[N_SLOTS]; /* each slot as its worker sees it */
        struct intake *intake;
        unsigned char *record;
        size_t record_size;
};

static void open_window(struct fixture *f) {
        struct error e = ERROR_INIT;
        int r = window_open(f->dir_fd, "window", f->game, N_SAMPLES, &f->window, &e);

        if (r < 0)
                fail_msg("%s", e.text);
        assert_int_equal(intake_new(f->game, f->window, &f->intake), 0);
}

static void map_workers(struct fixture *f) {
        struct error e = ERROR_INIT;

        for (uint32_t i = 0; i < N_SLOTS; i++) {
                int fd = fcntl(f->segment->fd, F_DUPFD_CLOEXEC, 3);

                assert_true(fd >= 0);
                if (segment_map_worker(fd, i, &f->workers[i], &e) < 0)
                        fail_msg("%s", e.text);
        }
}

static int set_up(void **state) {
        static unsigned n;
        struct fixture *f = calloc(1, sizeof(*f));
        struct error e = ERROR_INIT;
        struct config c;

        assert_non_null(f);
        config_defaults(&c);
        c.game_name = GAME_TICTACTOE;
        assert_int_equal(game_new(&c, &f->game, &e), 0);
        (void) strcpy(f->directory, "/tmp/test-intake-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        f->dir_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dir_fd >= 0);
        (void) snprintf(f->instance, sizeof(f->instance), "test-intake-%d-%u", (int) getpid(), n++);
        if (segment_create(f->instance, N_SLOTS, LANE_BYTES, f->game->rules, f->directory, &f->segment, &e) <
            0)
                fail_msg("%s", e.text);
        map_workers(f);
        open_window(f);
        f->record_size = sample_record_max_bytes(f->game);
        f->record = malloc(f->record_size);
        assert_non_null(f->record);
        for (uint32_t i = 0; i < N_SLOTS; i++)
                intake_expect(f->intake, i, i + 1);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        intake_free(f->intake);
        window_free(f->window);
        for (size_t i = 0; i < N_SLOTS; i++)
                segment_free(f->workers[i]);
        segment_free(f->segment);
        (void) segment_unlink(f->instance);
        (void) unlinkat(f->dir_fd, "window", 0);
        (void) rmdir(f->directory);
        (void) close(f->dir_fd);
        game_free(f->game);
        free(f->record);
        free(f);
        return 0;
}

/* Samples of one game: moves 0, 1, 2 ..., identities from @first on. */
static void make_samples(const struct game *g, struct sample_id first, size_t n, struct sample *ret) {
        struct game_state s;

        g->start(g, &s);
        for (size_t i = 0; i < n; i++) {
                ret[i] = (struct sample){
                        .id = first, .generation = 7, .weight = 1.0f, .ply = s.ply, .n_visits = 2
                };
                ret[i].id.sequence += i;
                ret[i].visits[0] = (struct sample_visit){ .move = (uint16_t) i, .visits = 60 };
                ret[i].visits[1] = (struct sample_visit){ .move = (uint16_t) (i + 1), .visits = 40 };
                g->encode(g, &s, ret[i].planes);
                g->apply(g, &s, (uint16_t) i);
        }
}

/* A game's record in f->record. Return: its length. */
static size_t make_record(struct fixture *f, struct sample_id first, size_t n) {
        struct sample samples[GAME_SAMPLES];
        size_t length = 0;

        assert_true(n <= GAME_SAMPLES);
        make_samples(f->game, first, n, samples);
        assert_int_equal(sample_encode_record(f->game, samples, n, f->record, f->record_size, &length), 0);
        return length;
}

static void write_bytes(struct fixture *f, uint32_t slot, const void *bytes, size_t n) {
        assert_int_equal(lane_write(&f->workers[slot]->lanes[slot], bytes, (uint32_t) n), 0);
}

/* Commit a game of @n samples as slot's worker of incarnation @incarnation. */
static void write_game(struct fixture *f, uint32_t slot, uint64_t incarnation, uint64_t sequence, size_t n) {
        struct sample_id id = { .slot = slot, .incarnation = incarnation, .sequence = sequence };

        write_bytes(f, slot, f->record, make_record(f, id, n));
}

static void drain(struct fixture *f) {
        assert_int_equal(intake_turn(f->intake, f->segment, FOR_EVER_NS), INTAKE_E_DONE);
}

static uint64_t n_in_window(const struct fixture *f) {
        return window_tail(f->window) - window_first(f->window);
}

static void test_games_of_all_lanes(void **state) {
        struct fixture *f = *state;
        struct sample got, expected[GAME_SAMPLES];

        write_game(f, 0, 1, 0, 5);
        write_game(f, 2, 3, 0, 4);
        write_game(f, 0, 1, 5, 3);
        drain(f);
        assert_int_equal(n_in_window(f), 12);
        assert_int_equal(intake_counts(f->intake).records, 3);
        assert_int_equal(intake_counts(f->intake).samples, 12);
        assert_int_equal(intake_slot_counts(f->intake, 0)->samples, 8);
        assert_int_equal(intake_counts(f->intake).bad_records, 0);
        assert_int_equal(intake_counts(f->intake).duplicates, 0);
        assert_true(segment_consumer_may_sleep(f->segment));

        /* as written, in the order of the game */
        make_samples(f->game, (struct sample_id){ .slot = 0, .incarnation = 1 }, 5, expected);
        for (uint64_t i = 0; i < 5; i++) {
                assert_int_equal(window_read(f->window, window_first(f->window) + i, &got), 0);
                assert_int_equal(got.id.sequence, i);
                assert_int_equal(got.generation, 7);
                assert_int_equal(got.ply, i);
                assert_memory_equal(got.planes, expected[i].planes, GAME_PLANES_BYTES(f->game));
                assert_int_equal(got.visits[1].visits, 40);
        }
}

static void test_turn_is_bounded_and_fair(void **state) {
        struct fixture *f = *state;

        for (unsigned i = 0; i < 10; i++)
                write_game(f, 0, 1, 5 * i, 5);
        write_game(f, 1, 2, 0, 5);
        assert_int_equal(intake_turn(f->intake, f->segment, 0), INTAKE_E_MORE);
        assert_int_equal(intake_turn(f->intake, f->segment, 0), INTAKE_E_MORE);
        /* the short lane had its turn although the long one is not empty */
        assert_int_equal(intake_slot_counts(f->intake, 0)->records, 1);
        assert_int_equal(intake_slot_counts(f->intake, 1)->records, 1);
        drain(f);
        assert_int_equal(n_in_window(f), 55);
}

/* Each bad record is counted, and what follows it is taken in. */
static void expect_bad(struct fixture *f, uint32_t slot) {
        uint64_t bad = intake_slot_counts(f->intake, slot)->bad_records, samples = n_in_window(f);

        drain(f);
        assert_int_equal(intake_slot_counts(f->intake, slot)->bad_records, bad + 1);
        assert_int_equal(n_in_window(f), samples);
}

static void test_bad_records(void **state) {
        struct sample_id id = { .slot = 0, .incarnation = 1, .sequence = 100 };
        struct sample samples[GAME_SAMPLES];
        struct fixture *f = *state;
        unsigned char junk[256];
        size_t n;

        (void) memset(junk, 0xdd, sizeof(junk)); /* msgpack: arrays of 0xdddddddd elements */
        write_bytes(f, 0, junk, sizeof(junk));
        expect_bad(f, 0);
        write_bytes(f, 0, junk, 0); /* nothing at all */
        expect_bad(f, 0);
        junk[0] = 0x90; /* a game without samples */
        write_bytes(f, 0, junk, 1);
        expect_bad(f, 0);
        n = make_record(f, id, 5); /* cut short */
        write_bytes(f, 0, f->record, n - 1);
        expect_bad(f, 0);
        f->record[n] = 0; /* one byte too many */
        write_bytes(f, 0, f->record, n + 1);
        expect_bad(f, 0);

        make_samples(f->game, id, 5, samples); /* sequence with a hole */
        samples[4].id.sequence++;
        assert_int_equal(sample_encode_record(f->game, samples, 5, f->record, f->record_size, &n), 0);
        write_bytes(f, 0, f->record, n);
        expect_bad(f, 0);

        write_game(f, 0, 1, 200, 5);
        drain(f);
        assert_int_equal(n_in_window(f), 5);
        assert_int_equal(intake_counts(f->intake).samples, 5);
}

/* Sequence 0 does not follow 2^64 - 1: it would be the newest one, and all others would come in twice. */
static void test_sequence_does_not_wrap(void **state) {
        struct sample_id last = { .slot = 0, .incarnation = 1, .sequence = UINT64_MAX };
        struct fixture *f = *state;

        for (unsigned i = 0; i < 2; i++) {
                write_bytes(f, 0, f->record, make_record(f, last, 2));
                expect_bad(f, 0);
        }
        write_game(f, 0, 1, 0, 5);
        drain(f);
        assert_int_equal(n_in_window(f), 5);
}

static void test_foreign_identities(void **state) {
        struct sample_id other_slot = { .slot = 1, .incarnation = 1 };
        struct fixture *f = *state;

        write_bytes(f, 0, f->record, make_record(f, other_slot, 5));
        expect_bad(f, 0);
        write_game(f, 0, 2, 0, 5); /* another process's incarnation */
        expect_bad(f, 0);
        write_game(f, 0, UINT64_MAX, 0, 5); /* would make all later samples look like duplicates */
        expect_bad(f, 0);
        write_game(f, 0, 0, 0, 5);
        expect_bad(f, 0);
        write_game(f, 0, 1, 0, 5);
        drain(f);
        assert_int_equal(n_in_window(f), 5);
}

static void test_checksum(void **state) {
        struct fixture *f = *state;
        struct lane *lane = &f->segment->lanes[0];

        write_game(f, 0, 1, 0, 5);
        write_game(f, 0, 1, 5, 5);
        lane->data[LANE_HEADER_BYTES + 3] ^= 1;
        drain(f);
        assert_int_equal(intake_slot_counts(f->intake, 0)->bad_records, 1);
        assert_int_equal(lane_used(lane), 0);
        assert_int_equal(n_in_window(f), 5); /* the record behind it */
}

static void test_broken_lane(void **state) {
        struct fixture *f = *state;
        struct lane_shared *shared = f->segment->lanes[0].shared;

        write_game(f, 0, 1, 0, 5);
        drain(f);
        /* a tail that lies beyond what the lane can hold */
        atomic_fetch_add(&shared->tail, 10 * LANE_BYTES);
        write_game(f, 1, 2, 0, 5);
        drain(f);
        assert_true(intake_is_broken(f->intake, 0));
        assert_int_equal(intake_n_broken(f->intake), 1);
        assert_int_equal(n_in_window(f), 10); /* the other lane is unharmed */
        drain(f);                             /* and no turn hangs at the broken one */

        assert_int_equal(intake_finish_slot(f->intake, f->segment, 0), 0); /* its worker is dead */
        assert_false(intake_is_broken(f->intake, 0));
        assert_int_equal(intake_n_broken(f->intake), 0);
        assert_int_equal(intake_counts(f->intake).lanes_reset, 1);
        assert_true(intake_counts(f->intake).reset_bytes > 0);
        assert_true(segment_consumer_may_sleep(f->segment));
        intake_expect(f->intake, 0, 9);
        write_game(f, 0, 9, 0, 5);
        drain(f);
        assert_int_equal(n_in_window(f), 15);
}

static void test_framing_that_lies(void **state) {
        struct fixture *f = *state;

        write_game(f, 0, 1, 0, 5);
        (void) memset(f->segment->lanes[0].data, 0xff, 4); /* the length */
        drain(f);
        assert_true(intake_is_broken(f->intake, 0));
        assert_int_equal(intake_finish_slot(f->intake, f->segment, 0), 0);
        assert_int_equal(n_in_window(f), 0);
}

static void test_dead_worker_leaves_records(void **state) {
        struct fixture *f = *state;

        write_game(f, 1, 2, 0, 5);
        write_game(f, 1, 2, 5, 5);
        assert_int_equal(intake_finish_slot(f->intake, f->segment, 1), 0);
        assert_int_equal(n_in_window(f), 10);
        assert_int_equal(lane_used(&f->segment->lanes[1]), 0);
        assert_int_equal(intake_counts(f->intake).lanes_reset, 0);
}

/* What another azpard did with this window. */
static void append_as(struct fixture *f, struct sample_id first, size_t n) {
        size_t length = make_record(f, first, n), at = 0, n_bytes = 0;
        struct window_item items[GAME_SAMPLES];
        struct error e = ERROR_INIT;
        struct sample s;
        uint32_t count;

        assert_int_equal(sample_record_open(f->game, f->record, length, &count, &at, &e), 0);
        for (size_t i = 0; i < n; i++, at += n_bytes) {
                assert_int_equal(sample_decode(f->game, f->record + at, length - at, &s, &n_bytes, &e), 0);
                items[i] = (struct window_item){ .bytes = f->record + at, .n_bytes = (uint32_t) n_bytes };
        }
        assert_int_equal(window_append(f->window, items, n), 0);
}

static uint64_t inherit(struct fixture *f) {
        uint64_t n_samples = 0;

        assert_int_equal(intake_inherit(f->intake, f->segment, &n_samples), 0);
        return n_samples;
}

/* azpard is killed between window_append() and lane_release(): its successor sees the record again. */
static void test_duplicates_after_a_crash(void **state) {
        struct fixture *f = *state;
        uint64_t head;

        write_game(f, 0, 1, 0, 5);
        drain(f);
        head = atomic_load(&f->segment->lanes[0].shared->head);
        write_game(f, 0, 1, 5, 5);
        drain(f);
        atomic_store(&f->segment->lanes[0].shared->head, head); /* not released */
        write_game(f, 0, 1, 10, 5);
        write_game(f, 1, 2, 0, 5);
        assert_int_equal(n_in_window(f), 10);

        intake_free(f->intake);
        window_free(f->window);
        open_window(f);
        assert_int_equal(inherit(f), 10);
        assert_int_equal(intake_counts(f->intake).duplicates, 5);
        assert_int_equal(intake_counts(f->intake).bad_records, 0);
        assert_int_equal(n_in_window(f), 20);
}

/* The window was lost, the lanes were not: all of it is taken in, and no number is given twice. */
static void test_inherit_into_a_new_window(void **state) {
        struct fixture *f = *state;
        uint64_t incarnation;

        write_game(f, 0, 1, 0, 5);
        write_game(f, 0, 4, 0, 5); /* by the next process in that slot */
        write_game(f, 1, 7, 35, 5);
        write_game(f, 2, UINT64_MAX, 0, 5); /* nobody can have had that number */
        assert_int_equal(window_next_incarnation(f->window), 1);
        assert_int_equal(inherit(f), 15);
        assert_int_equal(intake_counts(f->intake).bad_records, 1);
        assert_int_equal(window_next_incarnation(f->window), 8);
        /* afterwards nothing is accepted until somebody is expected */
        write_game(f, 0, 4, 5, 5);
        expect_bad(f, 0);
        /* who comes next is not taken for a duplicate */
        assert_int_equal(window_new_incarnation(f->window, &incarnation), 0);
        intake_expect(f->intake, 1, incarnation);
        write_game(f, 1, incarnation, 0, 5);
        drain(f);
        assert_int_equal(n_in_window(f), 20);
}

/*
 * systemd kept a segment while another azpard, started by hand, ran on the same window: that one's processes
 * have higher numbers, and what the segment holds is neither lost for that nor taken in twice.
 */
static void test_inherit_after_another(void **state) {
        struct fixture *f = *state;
        uint64_t head = atomic_load(&f->segment->lanes[0].shared->head);

        intake_expect(f->intake, 0, 3);
        write_game(f, 0, 3, 0, 5);
        drain(f);
        atomic_store(&f->segment->lanes[0].shared->head, head); /* killed before it was released */
        write_game(f, 0, 3, 5, 5);
        write_game(f, 0, 3, 10, 5);
        write_game(f, 0, 4, 0, 5); /* of a process of which the window has nothing */
        write_game(f, 1, 2, 0, 5);
        append_as(f, (struct sample_id){ .slot = 0, .incarnation = 9 }, 5);

        intake_free(f->intake);
        window_free(f->window);
        open_window(f);
        assert_int_equal(inherit(f), 20);
        assert_int_equal(intake_counts(f->intake).duplicates, 5);
        assert_int_equal(intake_counts(f->intake).bad_records, 0);
        assert_int_equal(n_in_window(f), 30);
        assert_true(window_next_incarnation(f->window) > 9);

        /* killed while it did so: all of it once more */
        atomic_store(&f->segment->lanes[0].shared->head, head);
        intake_free(f->intake);
        window_free(f->window);
        open_window(f);
        assert_int_equal(inherit(f), 0);
        assert_int_equal(intake_counts(f->intake).duplicates, 20);
        assert_int_equal(n_in_window(f), 30);
}

/* A power cut took the window's header back, or azpard was killed while it inherited. */
static void test_samples_ahead_of_the_header(void **state) {
        struct fixture *f = *state;

        intake_expect(f->intake, 2, 9);
        write_game(f, 2, 9, 0, 5);
        drain(f);
        assert_int_equal(window_next_incarnation(f->window), 1);
        intake_free(f->intake);
        window_free(f->window);
        open_window(f);
        assert_int_equal(window_next_incarnation(f->window), 10);
}

/* The window takes nothing: records stay in their lanes, and go in once each when it works again. */
static void test_failing_window(void **state) {
        struct fixture *f = *state;
        struct fixture_disk disk;
        uint64_t used, n_taken;

        write_game(f, 0, 1, 0, 5);
        drain(f);
        fixture_disk_fail(window_fd(f->window), 0, &disk);
        write_game(f, 0, 1, 5, 5);
        write_bytes(f, 1, f->record, 7); /* a bad one does not get stuck */
        write_game(f, 1, 2, 0, 4);
        used = lane_used(&f->segment->lanes[0]);
        n_taken = intake_n_taken(f->intake);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(intake_turn(f->intake, f->segment, FOR_EVER_NS), INTAKE_E_FAILED);
        assert_true(intake_error(f->intake) < 0);
        assert_int_equal(lane_used(&f->segment->lanes[0]), used);
        assert_true(lane_used(&f->segment->lanes[1]) > 0);
        assert_int_equal(intake_counts(f->intake).samples, 5);
        assert_true(intake_n_taken(f->intake) <= n_taken + 1); /* waiting is no progress */
        assert_false(segment_consumer_may_sleep(f->segment));

        fixture_disk_work(&disk);
        drain(f);
        assert_int_equal(intake_error(f->intake), 0);
        assert_int_equal(n_in_window(f), 14);
        assert_int_equal(intake_counts(f->intake).duplicates, 0);
        assert_int_equal(intake_counts(f->intake).bad_records, 1);
        assert_int_equal(lane_used(&f->segment->lanes[0]), 0);
}

/* Workers die while the window takes nothing: all of their records are accepted later, and nobody else's. */
static void test_successors_in_a_full_lane(void **state) {
        struct fixture *f = *state;
        struct fixture_disk disk;
        struct sample s;

        write_game(f, 0, 1, 0, 5);
        fixture_disk_fail(window_fd(f->window), 0, &disk);
        assert_true(intake_finish_slot(f->intake, f->segment, 0) < 0);
        intake_expect(f->intake, 0, 4);
        intake_expect(f->intake, 0, 6); /* 4 was never started */
        write_game(f, 0, 6, 0, 4);
        assert_true(intake_finish_slot(f->intake, f->segment, 0) < 0);
        intake_expect(f->intake, 0, 8);
        write_game(f, 0, 8, 0, 3);
        write_game(f, 0, 9, 0, 5); /* to come: refused */
        write_game(f, 0, 1, 5, 5); /* older than what came before: refused */
        write_game(f, 0, 8, 3, 2);

        fixture_disk_work(&disk);
        drain(f);
        assert_int_equal(n_in_window(f), 14);
        assert_int_equal(intake_counts(f->intake).bad_records, 2);
        for (uint64_t i = 0; i < 14; i++) {
                assert_int_equal(window_read(f->window, i, &s), 0);
                assert_int_equal(s.id.incarnation, i < 5 ? 1 : i < 9 ? 6 : 8);
        }
        assert_int_equal(intake_finish_slot(f->intake, f->segment, 0), 0);
        write_game(f, 0, 8, 5, 5); /* its worker is gone, and nothing was left */
        expect_bad(f, 0);
        intake_expect(f->intake, 0, 12); /* from here on that one alone again */
        write_game(f, 0, 8, 5, 5);
        expect_bad(f, 0);
        write_game(f, 0, 12, 0, 5);
        drain(f);
        assert_int_equal(n_in_window(f), 19);
}

/* What cannot be made durable is not taken in. */
static void test_hold(void **state) {
        struct fixture *f = *state;

        write_game(f, 0, 1, 0, 5);
        intake_hold(f->intake, -ENOSPC);
        assert_int_equal(intake_turn(f->intake, f->segment, FOR_EVER_NS), INTAKE_E_FAILED);
        assert_int_equal(intake_finish_slot(f->intake, f->segment, 0), -ENOSPC);
        assert_int_equal(intake_finish_slot(f->intake, f->segment, 1), 0); /* it is empty */
        assert_int_equal(n_in_window(f), 0);
        intake_hold(f->intake, 0);
        intake_expect(f->intake, 0, 5);
        write_game(f, 0, 5, 0, 5);
        drain(f);
        assert_int_equal(n_in_window(f), 10);
}

/* azpard starts while the window takes nothing: the segment that it was to take up is as it was. */
static void test_inherit_with_a_failing_window(void **state) {
        struct fixture *f = *state;
        struct fixture_disk disk;
        uint64_t n_samples;

        write_game(f, 0, 1, 0, 5);
        write_game(f, 2, 3, 0, 4);
        intake_free(f->intake);
        window_free(f->window);
        open_window(f);
        fixture_disk_fail(window_fd(f->window), 0, &disk);
        assert_true(intake_inherit(f->intake, f->segment, &n_samples) < 0);
        fixture_disk_work(&disk);
        intake_free(f->intake);
        window_free(f->window);
        open_window(f);
        assert_int_equal(inherit(f), 9);
        assert_int_equal(window_next_incarnation(f->window), 4);
}

/*
 * One process plays worker and azpard: commits a game, sometimes takes in, and tells after each game; it is
 * killed at whatever instruction it is then.
 */
static void commit_until_killed(struct fixture *f, uint64_t incarnation, int tell_fd) {
        intake_expect(f->intake, 0, incarnation);
        for (uint64_t sequence = 0;; sequence += 5) {
                struct sample_id id = { .slot = 0, .incarnation = incarnation, .sequence = sequence };
                size_t n = make_record(f, id, 5);

                while (lane_write(&f->workers[0]->lanes[0], f->record, (uint32_t) n) == LANE_E_FULL)
                        drain(f);
                if (sequence % 3 == 0)
                        drain(f);
                if (write(tell_fd, "x", 1) != 1)
                        _exit(1);
        }
}

/* P1: whatever was committed is in the window exactly once. */
static void test_killed_at_any_moment(void **state) {
        struct fixture *f = *state;
        uint64_t next_sequence = 0, last_incarnation = 0, checked = 0;
        struct sample s;

        for (unsigned k = 0; k < N_KILLS; k++) {
                uint64_t incarnation, next, n_told = 0;
                unsigned n_wanted = 1 + k % 7;
                int ends[2], status;
                char bytes[64];
                ssize_t n;
                pid_t pid;

                assert_int_equal(window_new_incarnation(f->window, &incarnation), 0);
                assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0)
                        commit_until_killed(f, incarnation, ends[1]);
                (void) close(ends[1]);
                while (n_told < n_wanted) {
                        n = read(ends[0], bytes, 1);
                        assert_int_equal(n, 1);
                        n_told++;
                }
                assert_int_equal(kill(pid, SIGKILL), 0);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status));
                while ((n = read(ends[0], bytes, sizeof(bytes))) > 0)
                        n_told += (uint64_t) n;
                (void) close(ends[0]);

                intake_free(f->intake);
                window_free(f->window);
                open_window(f);
                assert_int_equal(window_new_incarnation(f->window, &next), 0);
                assert_true(next > incarnation);
                (void) inherit(f);
                assert_int_equal(intake_counts(f->intake).bad_records, 0);
                assert_int_equal(window_n_damaged(f->window), 0);

                /* what came in since the last round is this incarnation's, without a hole and without a
                 * repeat */
                checked = MAX(checked, window_first(f->window));
                for (; checked < window_tail(f->window); checked++) {
                        assert_int_equal(window_read(f->window, checked, &s), 0);
                        if (s.id.incarnation != last_incarnation) {
                                last_incarnation = s.id.incarnation;
                                next_sequence = checked == window_first(f->window) ? s.id.sequence : 0;
                        }
                        assert_int_equal(s.id.incarnation, incarnation);
                        assert_int_equal(s.id.sequence, next_sequence);
                        next_sequence++;
                }
                /* all that was told is there; one more may have been committed and not told */
                assert_true(next_sequence == 5 * n_told || next_sequence == 5 * (n_told + 1));
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_games_of_all_lanes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_turn_is_bounded_and_fair, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_bad_records, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_sequence_does_not_wrap, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_foreign_identities, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_checksum, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_broken_lane, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_framing_that_lies, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_dead_worker_leaves_records, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_duplicates_after_a_crash, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_inherit_into_a_new_window, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_inherit_after_another, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_samples_ahead_of_the_header, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_failing_window, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_successors_in_a_full_lane, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_hold, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_inherit_with_a_failing_window, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_killed_at_any_moment, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
