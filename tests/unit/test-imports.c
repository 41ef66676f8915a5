/* SPDX-License-Identifier: MIT */
/* Imported files, recognised by their content for as long as the window holds something of them; and their
 * reading. */
#include "tests/unit/fixture-spill.h"

#include "common/exchange/window.h"
#include "daemon/batch_pass.h"
#include "daemon/imports.h"

#define N_NAMES 1000

struct fixture {
        char directory[64];
        int dir_fd;
        struct game *game;
        struct window *window;
        struct disk *disk;
        unsigned n_ready;
};

static int set_up_with(void **state, bool allow_uring) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error e = ERROR_INIT;
        int refused;

        assert_non_null(f);
        f->game = fixture_game(GAME_TICTACTOE);
        (void) strcpy(f->directory, "/tmp/test-imports-XXXXXX");
        f->dir_fd = fixture_folder(f->directory);
        if (window_open(f->dir_fd, "window", f->game, 100, &f->window, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(disk_new(false, allow_uring, &f->disk, &refused), 0);
        *state = f;
        return 0;
}

static int set_up(void **state) {
        return set_up_with(state, true);
}

static int set_up_plain(void **state) {
        return set_up_with(state, false);
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        disk_free(f->disk);
        window_free(f->window);
        fixture_remove(f->directory);
        (void) close(f->dir_fd);
        game_free(f->game);
        free(f);
        return 0;
}

/* ---- imports ---- */

static void append(const struct fixture *f, struct sample_id id) {
        unsigned char bytes[SAMPLE_BYTES_MAX];
        struct sample s[9];
        struct window_item item = { .bytes = bytes };
        size_t length;

        (void) fixture_play(f->game, id, s);
        assert_int_equal(sample_encode(f->game, &s[0], bytes, sizeof(bytes), &length), 0);
        item.n_bytes = (uint32_t) length;
        assert_int_equal(window_append(f->window, &item, 1), 0);
}

static void test_found_by_name(void **state) {
        struct fixture *f = *state;
        struct imports *m;
        struct rng r;
        uint64_t sequence;

        assert_int_equal(imports_new(f->window, &m), 0);
        assert_false(imports_find(m, 1, 0, &sequence));
        rng_seed(&r, 1, 1);
        for (unsigned i = 0; i < N_NAMES; i++)
                imports_note(m, rng_u64(&r), i, 10000 + i);
        rng_seed(&r, 1, 1);
        for (unsigned i = 0; i < N_NAMES; i++) {
                uint64_t name = rng_u64(&r);

                assert_true(imports_find(m, name, 10000 + i, &sequence));
                assert_int_equal(sequence, i);
                assert_false(imports_find(m, name, 10001 + i, &sequence)); /* it has left the window */
                assert_false(imports_find(m, name + 1, 0, &sequence));
        }
        imports_note(m, 7, 3, 20000);
        imports_note(m, 7, 9, 20001);
        assert_true(imports_find(m, 7, 20001, &sequence));
        assert_int_equal(sequence, 9);
        imports_note(m, 7, 2, 90000); /* gone, and from the beginning again */
        assert_true(imports_find(m, 7, 90000, &sequence));
        assert_int_equal(sequence, 2);
        imports_free(m);
        imports_free(NULL);
}

static void test_from_window(void **state) {
        struct fixture *f = *state;
        struct imports *m;
        uint64_t sequence, first;

        append(f, (struct sample_id){ SAMPLE_SLOT_IMPORTED, 100, 0 }); /* will leave the window */
        for (unsigned i = 0; i < 10; i++)
                append(f, (struct sample_id){ SAMPLE_SLOT_IMPORTED, 200, i });
        for (unsigned i = 0; i < 5; i++)
                append(f, (struct sample_id){ SAMPLE_SLOT_IMPORTED_F32, 300, i });
        for (unsigned i = 0; i < 80; i++)
                append(f, (struct sample_id){ SAMPLE_SLOT_SPILLED + 1, 400, i });
        for (unsigned i = 0; i < 10; i++)
                append(f, (struct sample_id){ 1, 500, i });
        first = window_first(f->window);
        assert_int_equal(first, 6);
        assert_int_equal(imports_new(f->window, &m), 0);
        assert_false(imports_find(m, 100, first, &sequence));
        assert_true(imports_find(m, 200, first, &sequence));
        assert_int_equal(sequence, 9);
        assert_true(imports_find(m, 300, first, &sequence));
        assert_int_equal(sequence, 4);
        assert_false(imports_find(m, 400, first, &sequence));
        assert_false(imports_find(m, 500, first, &sequence));
        imports_free(m);
}

/* ---- reading ---- */

static void ready(void *userdata) {
        ((struct fixture *) userdata)->n_ready++;
}

/* Read all of @fd. Return: what batch_pass_next() says at last. */
static int read_all(struct fixture *f, struct batch_pass *p, int fd, const struct sample *want, size_t n_want,
                    struct error *e) {
        struct batch_file_item item;
        uint64_t last = 0;
        size_t n = 0;
        int r;

        batch_pass_begin(p, fd);
        for (;;) {
                unsigned before = f->n_ready;

                r = batch_pass_next(p, &item, e);
                if (r == BATCH_PASS_E_WAIT) {
                        assert_int_equal(batch_pass_next(p, &item, e), BATCH_PASS_E_WAIT); /* still */
                        disk_drain(f->disk);
                        assert_int_equal(f->n_ready, before + 1);
                        continue;
                }
                if (r != 0)
                        break;
                assert_true(n < n_want);
                fixture_assert_equal(f->game, &want[n++], &item.sample);
                assert_true(batch_pass_offset(p) > last);
                last = batch_pass_offset(p);
        }
        if (r == BATCH_PASS_E_END)
                assert_int_equal(n, n_want);
        return r;
}

static void test_reading(void **state) {
        struct fixture *f = *state;
        struct sample *samples = calloc(4009, sizeof(*samples));
        struct error e = ERROR_INIT;
        struct batch_pass *p;
        size_t n = 0, n_bytes;
        uint64_t name;
        char *text;
        int fd;

        assert_non_null(samples);
        while (n < 4000)
                n += fixture_play(f->game, (struct sample_id){ 0, 1, n }, samples + n);
        text = fixture_batch_text(f->game, samples, n, 5, &n_bytes);
        assert_true(n_bytes > BATCH_FILE_SAMPLE_MAX); /* more than one buffer */
        fixture_write_file(f->dir_fd, "file", text, n_bytes);
        assert_int_equal(batch_pass_new(f->game, f->disk, ready, f, &p), 0);
        fd = openat(f->dir_fd, "file", O_RDWR | O_CLOEXEC);
        assert_int_equal(read_all(f, p, fd, samples, n, &e), BATCH_PASS_E_END);
        assert_int_equal(batch_pass_offset(p), n_bytes);
        name = batch_pass_name(p);
        assert_true(name != 0);
        assert_int_equal(read_all(f, p, fd, samples, n, &e),
                         BATCH_PASS_E_END); /* again, from its beginning */
        assert_int_equal(batch_pass_name(p), name);
        assert_int_equal(pwrite(fd, " ", 1, (off_t) n_bytes), 1); /* the same samples */
        assert_int_equal(read_all(f, p, fd, samples, n, &e), BATCH_PASS_E_END);
        assert_int_not_equal(batch_pass_name(p), name);
        assert_int_equal(ftruncate(fd, (off_t) n_bytes - 3), 0);
        assert_int_equal(read_all(f, p, fd, samples, n, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "byte"));
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(read_all(f, p, fd, samples, n, &e), -EBADMSG);
        (void) close(fd);
        fd = openat(f->dir_fd, "file", O_WRONLY | O_CLOEXEC);
        assert_int_equal(read_all(f, p, fd, samples, n, &e), -EBADF);
        assert_non_null(strstr(e.text, "could not read it at byte 0"));
        (void) close(fd);
        fixture_write_file(f->dir_fd, "file", text, n_bytes); /* what failed does not stay */
        fd = openat(f->dir_fd, "file", O_RDONLY | O_CLOEXEC);
        assert_int_equal(read_all(f, p, fd, samples, n, &e), BATCH_PASS_E_END);
        assert_int_equal(batch_pass_name(p), name);
        (void) close(fd);
        batch_pass_free(p);
        free(text);
        free(samples);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_found_by_name, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_from_window, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_reading, set_up, tear_down),
                { "test_reading by plain calls", test_reading, set_up_plain, tear_down, NULL },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
