/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * For the tests of refill: an event loop with all that a refill needs, files for it, and what the window
 * should hold afterwards.
 *
 * refill.c is included with a clock that can be moved, so that looks come when they are wanted, and a turn is
 * one step where that is wanted.
 */
#include "tests/unit/fixture-spill.h"

#include <sys/epoll.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "tests/unit/fixture-disk.h"

static uint64_t clock_ahead_ns, clock_step_ns;

static inline uint64_t test_clock(void) {
        clock_ahead_ns += clock_step_ns;
        return clock_now_ns() + clock_ahead_ns;
}

static unsigned n_logged; /* lines */

#define log_line(...)  (n_logged++, (log_line) (__VA_ARGS__))
#define log_event(...) (n_logged++, (log_event) (__VA_ARGS__))
#define clock_now_ns  test_clock
#include "daemon/refill.c"
#undef clock_now_ns

#define WINDOW_SAMPLES 20000
#define MAX_EXPECTED   20000
#define LONG_AGO       1000000000 /* when files were written, in seconds */
#define EVENT_LIMIT_US 30000000
#define MAX_RUNS       200000

struct expected {
        struct sample sample;
        bool foreign; /* then id.sequence is its place in the file */
};

struct fixture {
        char directory[64];
        int state_fd;
        struct game *game;
        struct window *window;
        sd_event *event;
        struct disk *disk;
        sd_event_source *disk_source;
        struct window_sync *sync;
        struct refill *refill;
        bool allow_uring;
        unsigned n_changed;
        struct expected *expected; /* in the window's order */
        size_t n_expected;
        unsigned n_files; /* made */
        struct sample_id found[SAMPLE_N_SLOTS];
};

static inline int on_disk(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void) source;
        (void) fd;
        (void) events;
        disk_poll(userdata);
        return 0;
}

static inline void count_change(void *userdata) {
        ((struct fixture *) userdata)->n_changed++;
}

/* As azpard starts. */
static inline void start(struct fixture *f) {
        struct refill_options o = {
                .game = f->game, .state_fd = f->state_fd, .changed = count_change, .userdata = f
        };
        struct error e = ERROR_INIT;
        int refused;

        if (window_open(f->state_fd, "window", f->game, WINDOW_SAMPLES, &f->window, &e) < 0)
                fail_msg("%s", e.text);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(window_newest(f->window, f->found, N_ELEMENTS(f->found)), 0);
        assert_int_equal(disk_new(true, f->allow_uring, &f->disk, &refused), 0);
        assert_true(sd_event_add_io(f->event, &f->disk_source, disk_event_fd(f->disk), EPOLLIN, on_disk,
                                    f->disk) >= 0);
        assert_int_equal(window_sync_new(f->event, f->window, UINT64_C(3600) * 1000000, f->disk, &f->sync),
                         0);
        o.window = f->window;
        o.found = f->found;
        o.sync = f->sync;
        o.disk = f->disk;
        if (refill_new(f->event, &o, &f->refill, &e) < 0)
                fail_msg("%s", e.text);
}

/* As azpard is killed: what is on its way ends, and nothing more is done. */
static inline void crash(struct fixture *f) {
        (void) sd_event_source_disable_unref(TAKE_PTR(f->disk_source));
        disk_free(TAKE_PTR(f->disk));
        refill_free(TAKE_PTR(f->refill));
        window_sync_free(TAKE_PTR(f->sync));
        f->event = sd_event_unref(f->event);
        window_free(TAKE_PTR(f->window));
}

static inline int set_up_with(void **state, bool allow_uring) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        clock_step_ns = 0;
        f->allow_uring = allow_uring;
        f->game = fixture_game(GAME_TICTACTOE);
        (void) strcpy(f->directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/test-refill-XXXXXX"
                                                                  : "/tmp/test-refill-XXXXXX");
        f->state_fd = fixture_folder(f->directory);
        f->expected = calloc(MAX_EXPECTED, sizeof(*f->expected));
        assert_non_null(f->expected);
        start(f);
        *state = f;
        return 0;
}

static inline int set_up_uring(void **state) {
        return set_up_with(state, true);
}

static inline int set_up_plain(void **state) {
        return set_up_with(state, false);
}

static inline int tear_down(void **state) {
        struct fixture *f = *state;

        fixture_obey_modes(false);
        crash(f);
        fixture_remove(f->directory);
        (void) close(f->state_fd);
        game_free(f->game);
        free(f->expected);
        free(f);
        return 0;
}

/* ---- files ---- */

static inline const char *path_of(uint64_t folder, uint64_t number) {
        static char paths[4][SPILL_ENTRY_PATH_MAX];
        static unsigned i;

        i = (i + 1) % 4;
        return spill_entry_path(&(struct spill_entry){ .folder = folder, .number = number }, paths[i]);
}

static inline void set_age(const struct fixture *f, const char *path, time_t s) {
        const struct timespec times[2] = { { .tv_sec = s }, { .tv_sec = s } };

        assert_int_equal(utimensat(f->state_fd, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

/* Each file is younger than the one before it. */
static inline void put_text(struct fixture *f, const char *path, const char *text, size_t n) {
        fixture_write_file(f->state_fd, path, text, n);
        set_age(f, path, LONG_AGO + f->n_files++);
}

static inline void put_samples(struct fixture *f, const char *path, const struct sample *samples, size_t n,
                               uint64_t origin) {
        size_t n_bytes;
        char *text = fixture_batch_text(f->game, samples, n, origin, &n_bytes);

        put_text(f, path, text, n_bytes);
        free(text);
}

static inline void expect(struct fixture *f, const struct sample *samples, size_t n, bool foreign) {
        for (size_t i = 0; i < n; i++) {
                struct expected *x = &f->expected[f->n_expected++];

                assert_true(f->n_expected <= MAX_EXPECTED);
                x->sample = samples[i];
                x->foreign = foreign;
                if (foreign)
                        x->sample.id.sequence = i;
                else
                        x->sample.id.slot += SAMPLE_SLOT_SPILLED;
        }
}

/* @n_games of worker @first.slot. Return: samples, in @ret with room for them. */
static inline size_t make_games(const struct fixture *f, struct sample_id first, unsigned n_games,
                                struct sample *ret) {
        size_t n = 0;

        while (n_games-- > 0) {
                unsigned k = fixture_play(f->game, first, ret + n);

                first.sequence += k;
                n += k;
        }
        return n;
}

/* A file as a worker of this window writes it. Return: samples in it. */
static inline size_t put_own(struct fixture *f, uint64_t folder, uint64_t number, uint64_t incarnation,
                             uint64_t sequence, unsigned n_games, bool is_expected) {
        struct sample *samples = calloc((size_t) n_games * 9 + 1, sizeof(*samples));
        size_t n;

        assert_non_null(samples);
        n = make_games(f, (struct sample_id){ folder, incarnation, sequence }, n_games, samples);
        put_samples(f, path_of(folder, number), samples, n, window_origin(f->window));
        if (is_expected)
                expect(f, samples, n, false);
        free(samples);
        return n;
}

/* A file of another window's worker. */
static inline size_t put_foreign(struct fixture *f, uint64_t folder, uint64_t number, unsigned seed,
                                 bool is_expected) {
        struct sample samples[3 * 9];
        size_t n = make_games(f, (struct sample_id){ 7, 1, seed }, 3, samples);

        put_samples(f, path_of(folder, number), samples, n, window_origin(f->window) ^ 1);
        if (is_expected)
                expect(f, samples, n, true);
        return n;
}

static inline bool is_there(const struct fixture *f, uint64_t folder, uint64_t number) {
        return fixture_exists(f->state_fd, path_of(folder, number));
}

static inline size_t n_left(const struct fixture *f) {
        size_t n = 0;

        for (unsigned folder = 0; folder < 8; folder++) {
                char path[64];

                (void) snprintf(path, sizeof(path), "spill/worker_%u", folder);
                n += fixture_n_names(f->state_fd, path);
        }
        return n;
}

/* ---- the window ---- */

/* It holds what is expected, once, in that order; but for what comes from lanes. */
static inline void check_window(const struct fixture *f) {
        struct sample s;

        assert_int_equal(window_tail(f->window), f->n_expected);
        for (uint64_t i = 0; i < f->n_expected; i++) {
                const struct expected *x = &f->expected[i];

                assert_int_equal(window_read(f->window, i, &s), 0);
                fixture_assert_same_content(f->game, &x->sample, &s);
                assert_int_equal(s.id.sequence, x->sample.id.sequence);
                if (x->foreign)
                        assert_true(s.id.slot == SAMPLE_SLOT_IMPORTED && s.id.incarnation != 0);
                else
                        assert_true(s.id.slot == x->sample.id.slot &&
                                    s.id.incarnation == x->sample.id.incarnation);
        }
}

/* ---- running ---- */

static inline bool is_quiet(const struct fixture *f) {
        int enabled;

        assert_true(sd_event_source_get_enabled(f->refill->turn, &enabled) >= 0);
        return enabled == SD_EVENT_OFF && disk_n_pending(f->disk) == 0;
}

static inline void run_once(struct fixture *f) {
        assert_true(sd_event_run(f->event, EVENT_LIMIT_US) >= 0);
}

static inline void run_until_quiet(struct fixture *f) {
        for (unsigned i = 0; !is_quiet(f); i++) {
                assert_true(i < MAX_RUNS);
                run_once(f);
        }
}

/* Ten seconds go by. */
static inline void tick(struct fixture *f) {
        clock_ahead_ns += 10 * NS_PER_S;
        refill_tick(f->refill);
}

/* Time goes by until nothing more happens. */
static inline void settle(struct fixture *f) {
        for (unsigned i = 0; i < 4; i++) {
                tick(f);
                run_until_quiet(f);
        }
}

static inline void run_until_step(struct fixture *f, enum step step) {
        for (unsigned i = 0; f->refill->step != step; i++) {
                assert_true(i < MAX_RUNS);
                if (is_quiet(f))
                        tick(f);
                run_once(f);
        }
}

/* All is in, the files are gone, and nothing is wrong. */
static inline void check_all_taken(struct fixture *f) {
        check_window(f);
        assert_int_equal(n_left(f), 0);
        if (refill_counts(f->refill)->files > 0) /* by this process: then it made sure of them */
                assert_int_equal(window_durable(f->window), f->n_expected);
        assert_int_equal(refill_waiting(f->refill).n_files, 0);
        if (refill_error(f->refill))
                fail_msg("%s", refill_error(f->refill));
}

/* clang-format off */
#define BOTH(test)                                                               \
        { #test " by io_uring", test, set_up_uring, tear_down, NULL },           \
        { #test " by plain calls", test, set_up_plain, tear_down, NULL }
/* clang-format on */
