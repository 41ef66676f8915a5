/* SPDX-License-Identifier: MIT */
/* The replay window's origin: whose identities its samples have.  Drawn once, kept for ever, also by files
 * made before. */
#include "tests/unit/fixture-spill.h"

#include "common/exchange/window.h"

#define CAPACITY 50

struct fixture {
        char directory[64];
        int dir_fd;
        struct game *game;
};

static int set_up(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        f->game = fixture_game(GAME_TICTACTOE);
        (void) strcpy(f->directory, "/tmp/test-window-origin-XXXXXX");
        f->dir_fd = fixture_folder(f->directory);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        fixture_remove(f->directory);
        (void) close(f->dir_fd);
        game_free(f->game);
        free(f);
        return 0;
}

static struct window *open_window(const struct fixture *f, const char *name, uint64_t n_samples) {
        struct error e = ERROR_INIT;
        struct window *w;

        if (window_open(f->dir_fd, name, f->game, n_samples, &w, &e) < 0)
                fail_msg("%s", e.text);
        return w;
}

static uint64_t origin_in(const struct fixture *f, const char *name) {
        int fd = openat(f->dir_fd, name, O_RDONLY | O_CLOEXEC);
        uint64_t origin = 0;

        assert_int_equal(pread(fd, &origin, sizeof(origin), offsetof(struct window_header, origin)),
                         sizeof(origin));
        (void) close(fd);
        return origin;
}

static void append_games(const struct fixture *f, struct window *w, unsigned n_games) {
        struct window_item items[9];
        struct sample s[9];

        while (n_games-- > 0) {
                unsigned char bytes[9][SAMPLE_BYTES_MAX];
                unsigned n = fixture_play(f->game, (struct sample_id){ 2, 1, window_tail(w) }, s);

                for (unsigned i = 0; i < n; i++) {
                        size_t length;

                        assert_int_equal(sample_encode(f->game, &s[i], bytes[i], sizeof(bytes[i]), &length),
                                         0);
                        items[i] = (struct window_item){ bytes[i], (uint32_t) length };
                }
                assert_int_equal(window_append(w, items, n), 0);
        }
}

static void test_drawn_once(void **state) {
        struct fixture *f = *state;
        struct window *w = open_window(f, "window", CAPACITY), *other = open_window(f, "other", CAPACITY),
                      *reader;
        uint64_t origin = window_origin(w);
        struct error e = ERROR_INIT;

        assert_true(origin != 0 && window_origin(other) != 0);
        assert_int_not_equal(origin, window_origin(other));
        assert_int_equal(origin_in(f, "window"), origin);
        append_games(f, w, 3);
        assert_int_equal(window_map(openat(f->dir_fd, "window", O_RDONLY | O_CLOEXEC), f->game, &reader, &e),
                         0);
        assert_int_equal(window_origin(reader), origin);
        window_free(reader);
        window_free(w);
        w = open_window(f, "window", CAPACITY);
        assert_int_equal(window_origin(w), origin);
        window_free(w);
        window_free(other);
}

static void test_resize_keeps_it(void **state) {
        static const uint64_t sizes[] = { CAPACITY, 200, 20, 1, 1000 };
        struct fixture *f = *state;
        uint64_t origin = 0;

        for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
                struct window *w = open_window(f, "window", sizes[i]);

                if (i == 0)
                        origin = window_origin(w);
                assert_int_equal(window_origin(w), origin);
                append_games(f, w, 10);
                window_free(w);
                assert_int_equal(origin_in(f, "window"), origin);
        }
}

/* Files made before there were origins get one when they are opened, and it is in the file before it is used.
 */
static void check_made_without(struct fixture *f, unsigned n_games, uint64_t n_samples) {
        struct window *w = open_window(f, "window", CAPACITY);
        uint64_t zero = 0, origin, tail;
        struct sample_id id;
        int fd;

        append_games(f, w, n_games);
        tail = window_tail(w);
        window_free(w);
        fd = openat(f->dir_fd, "window", O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, &zero, sizeof(zero), offsetof(struct window_header, origin)),
                         sizeof(zero));
        (void) close(fd);
        w = open_window(f, "window", n_samples);
        origin = window_origin(w);
        assert_true(origin != 0);
        assert_int_equal(origin_in(f, "window"), origin);
        if (n_samples ==
            CAPACITY) /* it has been synced, as a new file is before it takes the old one's place */
                assert_int_equal(window_durable(w), tail);
        assert_int_equal(window_tail(w), tail);
        assert_int_equal(window_n_damaged(w), 0);
        for (uint64_t i = window_first(w); i < tail; i++) {
                assert_int_equal(window_read_id(w, i, &id), 0);
                assert_true(id.slot == 2 && id.incarnation == 1);
        }
        assert_int_equal(window_read_id(w, tail, &id), WINDOW_E_GONE);
        window_free(w);
        w = open_window(f, "window", n_samples);
        assert_int_equal(window_origin(w), origin);
        window_free(w);
}

static void test_made_without(void **state) {
        check_made_without(*state, 4, CAPACITY);
}

static void test_made_without_and_resized(void **state) {
        check_made_without(*state, 4, 2 * CAPACITY);
}

static void test_made_without_and_empty(void **state) {
        check_made_without(*state, 0, CAPACITY);
}

/* A trainer sees none, and does not mind. */
static void test_reader_of_one_without(void **state) {
        struct fixture *f = *state;
        struct window *w = open_window(f, "window", CAPACITY);
        struct error e = ERROR_INIT;
        uint64_t zero = 0;

        append_games(f, w, 1);
        assert_int_equal(pwrite(window_fd(w), &zero, sizeof(zero), offsetof(struct window_header, origin)),
                         sizeof(zero));
        window_free(w);
        assert_int_equal(window_map(openat(f->dir_fd, "window", O_RDONLY | O_CLOEXEC), f->game, &w, &e), 0);
        assert_int_equal(window_origin(w), 0);
        window_free(w);
}

static void test_read_id(void **state) {
        struct fixture *f = *state;
        struct window *w = open_window(f, "window", CAPACITY);
        struct sample_id id;
        struct sample s;

        assert_int_equal(window_read_id(w, 0, &id), WINDOW_E_GONE);
        append_games(f, w, 20); /* more than it holds */
        assert_true(window_first(w) > 0);
        assert_int_equal(window_read_id(w, window_first(w) - 1, &id), WINDOW_E_GONE);
        assert_int_equal(window_read_id(w, UINT64_MAX, &id), WINDOW_E_GONE);
        for (uint64_t i = window_first(w); i < window_tail(w); i++) {
                assert_int_equal(window_read(w, i, &s), 0);
                assert_int_equal(window_read_id(w, i, &id), 0);
                assert_memory_equal(&id, &s.id, sizeof(id));
                assert_int_equal(id.sequence, i);
        }
        window_free(w);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_drawn_once, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_resize_keeps_it, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_made_without, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_made_without_and_resized, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_made_without_and_empty, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_reader_of_one_without, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_read_id, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
