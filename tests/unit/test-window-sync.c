/* SPDX-License-Identifier: MIT */
/* Window sync: what was appended becomes durable by itself, by io_uring and without it; errors are kept and
 * tried again. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <cmocka.h>
#include "common/exchange/sample.h"
#include "daemon/window_sync.h"

#define INTERVAL_US    1000
#define EVENT_LIMIT_US 30000000

struct fixture {
        char directory[64];
        int dir_fd;
        struct game *game;
        struct window *window;
        sd_event *event;
        struct disk *disk;
        sd_event_source *disk_source;
};

static int on_disk(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        (void) source;
        (void) fd;
        (void) events;
        disk_poll(userdata);
        return 0;
}

static void open_disk(struct fixture *f, bool allow_uring) {
        int refused;

        assert_int_equal(disk_new(true, allow_uring, &f->disk, &refused), 0);
        assert_true(sd_event_add_io(f->event, &f->disk_source, disk_event_fd(f->disk), EPOLLIN, on_disk,
                                    f->disk) >= 0);
}

static int set_up(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error e = ERROR_INIT;
        struct config c;

        assert_non_null(f);
        config_defaults(&c);
        c.game_name = GAME_TICTACTOE;
        assert_int_equal(game_new(&c, &f->game, &e), 0);
        (void) strcpy(f->directory, "/tmp/test-window-sync-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        f->dir_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dir_fd >= 0);
        if (window_open(f->dir_fd, "window", f->game, 1000, &f->window, &e) < 0)
                fail_msg("%s", e.text);
        assert_true(sd_event_new(&f->event) >= 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        (void) sd_event_source_disable_unref(f->disk_source);
        disk_free(f->disk);
        (void) sd_event_unref(f->event);
        window_free(f->window);
        (void) unlinkat(f->dir_fd, "window", 0);
        (void) rmdir(f->directory);
        (void) close(f->dir_fd);
        game_free(f->game);
        free(f);
        return 0;
}

static void append(struct fixture *f) {
        static uint64_t sequence;
        struct sample s = { .id = { .incarnation = 1, .sequence = sequence++ },
                            .n_visits = 1,
                            .weight = 1.0f };
        unsigned char record[4096];
        size_t length = 0, offset = 0;
        struct error e = ERROR_INIT;
        struct game_state start;
        struct window_item item;
        uint32_t n = 0;

        f->game->start(f->game, &start);
        f->game->encode(f->game, &start, s.planes);
        s.visits[0] = (struct sample_visit){ .move = 4, .visits = 100 };
        assert_int_equal(sample_encode_record(f->game, &s, 1, record, sizeof(record), &length), 0);
        assert_int_equal(sample_record_open(f->game, record, length, &n, &offset, &e), 0);
        item = (struct window_item){ .bytes = record + offset, .n_bytes = (uint32_t) (length - offset) };
        assert_int_equal(window_append(f->window, &item, 1), 0);
}

static void run_until_durable(struct fixture *f, struct window_sync *s) {
        while (window_durable(f->window) != window_tail(f->window)) {
                window_sync_look(s);
                assert_true(sd_event_run(f->event, EVENT_LIMIT_US) > 0);
        }
}

static void check_both_ways(struct fixture *f, bool allow_uring) {
        struct window_sync *s;

        open_disk(f, allow_uring);
        if (!allow_uring)
                assert_false(disk_uses_uring(f->disk));
        assert_int_equal(window_sync_new(f->event, f->window, INTERVAL_US, f->disk, &s), 0);
        append(f);
        assert_int_equal(window_durable(f->window), 0);
        run_until_durable(f, s);
        append(f);
        append(f);
        assert_true(window_durable(f->window) < window_tail(f->window));
        run_until_durable(f, s);
        assert_int_equal(window_durable(f->window), 3);
        /* with nothing to sync nothing wakes the loop, however short the interval is */
        window_sync_look(s);
        assert_int_equal(sd_event_run(f->event, 20 * INTERVAL_US), 0);
        append(f);
        window_sync_look(s);
        assert_true(sd_event_run(f->event, EVENT_LIMIT_US) > 0);
        run_until_durable(f, s);
        assert_int_equal(window_sync_error(s), 0);
        disk_drain(f->disk);
        window_sync_free(s);
}

static void count_call(void *userdata) {
        ++*(unsigned *) userdata;
}

/* Who cannot wait for the interval asks. */
static void test_request(void **state) {
        struct fixture *f = *state;
        struct window_sync *s;
        unsigned n_calls = 0;

        open_disk(f, true);
        assert_int_equal(window_sync_new(f->event, f->window, UINT64_C(3600) * 1000000, f->disk, &s), 0);
        window_sync_notify(s, count_call, &n_calls);
        append(f);
        window_sync_request(s);
        append(f);
        window_sync_request(s); /* while one is on its way: another one after it */
        run_until_durable(f, s);
        assert_int_equal(window_durable(f->window), 2);
        assert_true(n_calls >= 1);
        disk_drain(f->disk);
        window_sync_free(s);
}

/* A shorter interval counts at once, also for what waits for the longer one already. */
static void test_interval(void **state) {
        struct fixture *f = *state;
        struct window_sync *s;

        open_disk(f, true);
        assert_int_equal(window_sync_new(f->event, f->window, UINT64_C(3600) * 1000000, f->disk, &s), 0);
        append(f);
        window_sync_look(s);
        assert_int_equal(sd_event_run(f->event, 0), 0); /* negative control: an hour to wait */
        window_sync_set_interval(s, INTERVAL_US);
        run_until_durable(f, s);
        append(f);
        run_until_durable(f, s);
        assert_int_equal(window_durable(f->window), 2);
        disk_drain(f->disk);
        window_sync_free(s);
}

static void test_io_uring(void **state) {
        check_both_ways(*state, true); /* plain where the kernel refuses it */
}

static void test_plain(void **state) {
        check_both_ways(*state, false);
}

/* A descriptor that cannot be synced, in place of a failing disk; then the disk works again. */
static void check_error(struct fixture *f, bool allow_uring) {
        int fd = window_fd(f->window), good = fcntl(fd, F_DUPFD_CLOEXEC, 3), ends[2];
        struct window_sync *s;

        assert_true(good >= 0);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_true(dup3(ends[0], fd, O_CLOEXEC) >= 0); /* fdatasync of a pipe: EINVAL */
        open_disk(f, allow_uring);
        assert_int_equal(window_sync_new(f->event, f->window, INTERVAL_US, f->disk, &s), 0);
        append(f);
        while (window_sync_error(s) == 0) {
                window_sync_look(s);
                assert_true(sd_event_run(f->event, EVENT_LIMIT_US) > 0);
        }
        assert_int_equal(window_sync_error(s), -EINVAL);
        assert_int_equal(window_durable(f->window), 0);
        assert_true(dup3(good, fd, O_CLOEXEC) >= 0);
        run_until_durable(f, s);
        assert_int_equal(window_sync_error(s), 0);
        disk_drain(f->disk);
        window_sync_free(s);
        (void) close(good);
        (void) close(ends[0]);
        (void) close(ends[1]);
}

static void test_error_with_io_uring(void **state) {
        check_error(*state, true);
}

static void test_error_plain(void **state) {
        check_error(*state, false);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_request, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_interval, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_io_uring, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_plain, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_error_with_io_uring, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_error_plain, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
