/* SPDX-License-Identifier: MIT */
/* Rescue: what a disk does not take when azpard stops is put back at the next start, once, into that window.
 */
#include "tests/unit/fixture-sample.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/crc32c.h"
#include "daemon/rescue.h"

#define CAPACITY 50u

struct place {
        char path[64], instance[48], left[128];
        int dir_fd;
        struct game *game;
        struct window *w;
};

static void open_window(struct place *p) {
        struct error e = ERROR_INIT;

        if (window_open(p->dir_fd, "window", p->game, CAPACITY, &p->w, &e) < 0)
                fail_msg("%s", e.text);
}

static int setup(void **state) {
        struct place *p = calloc(1, sizeof(*p));

        (void) strcpy(p->path, "/tmp/azpar-test-rescue.XXXXXX");
        if (!mkdtemp(p->path))
                return -1;
        (void) snprintf(p->instance, sizeof(p->instance), "test-rescue-%d", (int) getpid());
        (void) snprintf(p->left, sizeof(p->left), "/dev/shm/azpar.%s.%08x.window", p->instance,
                        (unsigned) crc32c(p->path, strlen(p->path)));
        p->dir_fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        p->game = fixture_game(0);
        open_window(p);
        *state = p;
        return 0;
}

static int teardown(void **state) {
        struct place *p = *state;

        window_free(p->w);
        (void) unlink(p->left);
        (void) unlinkat(p->dir_fd, "window", 0);
        (void) close(p->dir_fd);
        (void) rmdir(p->path);
        game_free(p->game);
        free(p);
        return 0;
}

static void append(struct window *w, const struct game *g, unsigned n) {
        size_t size = sample_max_bytes(g) + 5, length, offset;
        cleanup_(freep) unsigned char *record = malloc(size);

        for (unsigned i = 0; i < n; i++) {
                struct window_item item;
                struct sample s;
                uint32_t one;

                fixture_sample(g, (struct sample_id){ 2, 1, window_tail(w) }, &s);
                assert_int_equal(sample_encode_record(g, &s, 1, record, size, &length), 0);
                assert_int_equal(sample_record_open(g, record, length, &one, &offset, NULL), 0);
                item = (struct window_item){ record + offset, (uint32_t) (length - offset) };
                assert_int_equal(window_append(w, &item, 1), 0);
        }
}

static int save(struct place *p) {
        struct error e = ERROR_INIT;
        int r = rescue_save(p->w, p->instance, p->path, &e);

        if (r < 0)
                print_message("%s\n", e.text);
        return r;
}

static int take(struct place *p, uint64_t *ret_n, struct error *e) {
        return rescue_take(p->w, p->game, p->instance, p->path, ret_n, e);
}

/* The window as it was before its newest samples: a new file in its place. */
static void lose(struct place *p, unsigned n) {
        window_free(TAKE_PTR(p->w));
        (void) unlinkat(p->dir_fd, "window", 0);
        open_window(p);
        append(p->w, p->game, n);
}

static void test_saved_and_taken(void **state) {
        struct place *p = *state;
        struct error e = ERROR_INIT;
        struct sample s;
        uint64_t n = 7;

        assert_int_equal(take(p, &n, &e), 0); /* nothing was left */
        assert_int_equal(n, 0);
        append(p->w, p->game, 20);
        assert_int_equal(window_sync(p->w), 0);
        assert_int_equal(save(p), 0); /* all is durable */
        assert_int_not_equal(access(p->left, F_OK), 0);

        append(p->w, p->game, 15);
        assert_int_equal(save(p), 0);
        assert_int_equal(access(p->left, F_OK), 0);
        lose(p, 20);
        assert_int_equal(take(p, &n, &e), 0);
        assert_int_equal(n, 15);
        assert_int_not_equal(access(p->left, F_OK), 0);
        assert_int_equal(window_tail(p->w), 35);
        assert_int_equal(window_durable(p->w), 35);
        for (uint64_t i = 0; i < 35; i++) {
                assert_int_equal(window_read(p->w, i, &s), 0);
                assert_int_equal(s.id.sequence, i);
        }
        assert_int_equal(take(p, &n, &e), 0);
        assert_int_equal(n, 0);
}

/* More than the window holds, and nothing of it durable. */
static void test_all_of_it(void **state) {
        struct place *p = *state;
        struct error e = ERROR_INIT;
        uint64_t n;

        append(p->w, p->game, 3 * CAPACITY);
        assert_int_equal(save(p), 0);
        lose(p, 0);
        assert_int_equal(take(p, &n, &e), 0);
        assert_int_equal(n, CAPACITY);
        assert_int_equal(window_first(p->w), 2 * CAPACITY);
        assert_int_equal(window_tail(p->w), 3 * CAPACITY);
}

static void expect_refused(struct place *p, int r, const char *text) {
        struct error e = ERROR_INIT;
        uint64_t n, tail = window_tail(p->w);

        assert_int_equal(take(p, &n, &e), r);
        if (!strstr(e.text, text) || !strstr(e.text, p->left))
                fail_msg("'%s' does not say '%s'", e.text, text);
        assert_int_equal(access(p->left, F_OK), 0); /* it is still there */
        assert_int_equal(window_tail(p->w), tail);
}

static void test_refused(void **state) {
        struct place *p = *state;
        struct game *mine = p->game;
        int fd;

        append(p->w, p->game, 20);
        assert_int_equal(save(p), 0);
        append(p->w, p->game, 1);
        expect_refused(p, -ESTALE, "has gone on without");
        p->game = fixture_game(1);
        expect_refused(p, -EINVAL, "it holds samples of");
        game_free(p->game);
        p->game = mine;
        fd = open(p->left, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "garbage", 7), 7);
        (void) close(fd);
        expect_refused(p, -EBADMSG, "too short");
        if (geteuid() == 0) {
                assert_int_equal(chown(p->left, 65534, 65534), 0);
                expect_refused(p, -EPERM, "is not ours");
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_saved_and_taken, setup, teardown),
                cmocka_unit_test_setup_teardown(test_all_of_it, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
