/* SPDX-License-Identifier: MIT */
/* What is known of spilled samples in a window with holes, as a power cut leaves them. */
#include "daemon/islands.h"

#include "tests/unit/fixture-sample.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include "common/exchange/window.h"

#define CAPACITY 1000u
#define N_SAMPLES                                                                                            \
        60u /* numbers 0 .. 59: those that are multiples of 3 came by a lane, the others from a spill file   \
             */
#define HOLE   31u
#define HOLE_2 42u

static struct game *game;
static char folder[64];
static int dir_fd;

static struct sample_id id_of(uint64_t number) {
        return (struct sample_id){ .slot = number % 3 ? SAMPLE_SLOT_SPILLED + number % 3 : 0,
                                   .incarnation = 7,
                                   .sequence = number };
}

static int set_up(void **state) {
        (void) state;
        (void) snprintf(folder, sizeof(folder), "/tmp/azpar-test-islands.XXXXXX");
        assert_non_null(mkdtemp(folder));
        dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(dir_fd >= 0);
        game = fixture_game(0);
        return 0;
}

static int tear_down(void **state) {
        (void) state;
        game_free(game);
        assert_int_equal(unlinkat(dir_fd, "window", 0), 0);
        assert_int_equal(close(dir_fd), 0);
        assert_int_equal(rmdir(folder), 0);
        return 0;
}

static struct window *open_window(void) {
        struct error e = ERROR_INIT;
        struct window *w;

        if (window_open(dir_fd, "window", game, CAPACITY, &w, &e) < 0)
                fail_msg("%s", e.text);
        return w;
}

static void fill_window(void) {
        unsigned char *buf = malloc(sample_record_max_bytes(game));
        struct window *w = open_window();
        struct sample s;
        size_t length;

        assert_non_null(buf);
        for (uint64_t i = 0; i < N_SAMPLES; i++) {
                fixture_sample(game, id_of(i), &s);
                assert_int_equal(sample_encode(game, &s, buf, sample_record_max_bytes(game), &length), 0);
                assert_int_equal(window_append(w, &(struct window_item){ buf, (uint32_t) length }, 1), 0);
        }
        window_free(w);
        free(buf);
}

/* As if its page had never reached the disk. */
static void lose(uint64_t number) {
        uint64_t nothing[2] = { 0 };
        struct stat st;
        int fd = openat(dir_fd, "window", O_RDWR | O_CLOEXEC);
        off_t slot_bytes;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        slot_bytes = (st.st_size - WINDOW_HEADER_BYTES) / (CAPACITY + GAME_MAX_PLIES);
        assert_int_equal(
                pwrite(fd, nothing, sizeof(nothing), WINDOW_HEADER_BYTES + (off_t) number * slot_bytes),
                sizeof(nothing));
        assert_int_equal(close(fd), 0);
}

static bool has(const struct islands *s, uint64_t number) {
        struct sample_id id = id_of(number);

        return islands_have(s, &id);
}

static void test_whole(void **state) {
        struct islands *s;
        struct window *w;

        (void) state;
        fill_window();
        w = open_window();
        assert_int_equal(islands_new(w, &s), 0);
        assert_int_equal(islands_begin(s), N_SAMPLES);
        for (uint64_t i = 0; i < N_SAMPLES; i++)
                assert_false(has(s, i));
        islands_free(s);
        window_free(w);
}

static void test_holes(void **state) {
        struct islands *s;
        struct window *w;

        (void) state;
        fill_window();
        lose(HOLE);
        lose(HOLE_2);
        w = open_window();
        assert_int_equal(window_n_damaged(w), 2);
        assert_int_equal(islands_new(w, &s), 0);
        assert_int_equal(islands_begin(s), HOLE);
        for (uint64_t i = 0; i < N_SAMPLES + 10; i++)
                assert_int_equal(has(s, i), i > HOLE && i < N_SAMPLES && i != HOLE_2 && i % 3 != 0);
        islands_free(s);
        window_free(w);
}

/* Only the end is missing: nothing lies behind it. */
static void test_end(void **state) {
        struct islands *s;
        struct window *w;

        (void) state;
        fill_window();
        lose(N_SAMPLES - 1);
        w = open_window();
        assert_int_equal(islands_new(w, &s), 0);
        assert_int_equal(islands_begin(s), N_SAMPLES - 1);
        assert_false(has(s, N_SAMPLES - 2));
        islands_free(s);
        window_free(w);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_whole, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_holes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_end, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
