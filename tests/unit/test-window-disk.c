/* SPDX-License-Identifier: MIT */
/*
 * Replay window on a disk that fails: accesses to the mapping that are real SIGBUS become errors, nothing is
 * published by half, and all goes on where it stood once the disk works.
 *
 * window.c is included for what its interface hides: the steps of opening, into which no disk can be made to
 * fail from outside.
 */
#include "tests/unit/fixture-sample.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/exchange/window.c"
#include "common/exchange/window_file.c"
#include "tests/unit/fixture-disk.h"

#define CAPACITY 50u
#define PAGE     4096u

struct place {
        char path[64];
        int dir_fd;
        struct game *game;
        struct window *w, *reader;
};

static struct window *map_reader(const struct place *p) {
        struct error e = ERROR_INIT;
        struct window *w;

        if (window_map(openat(p->dir_fd, "window", O_RDONLY | O_CLOEXEC), p->game, &w, &e) < 0)
                fail_msg("%s", e.text);
        return w;
}

static int setup(void **state) {
        struct place *p = calloc(1, sizeof(*p));
        struct error e = ERROR_INIT;

        (void) strcpy(p->path, "/tmp/azpar-test-window-disk.XXXXXX");
        if (!mkdtemp(p->path))
                return -1;
        p->dir_fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        p->game = fixture_game(0);
        if (window_open(p->dir_fd, "window", p->game, CAPACITY, &p->w, &e) < 0)
                fail_msg("%s", e.text);
        p->reader = map_reader(p);
        *state = p;
        return 0;
}

static int teardown(void **state) {
        struct place *p = *state;

        window_free(p->w);
        window_free(p->reader);
        (void) unlinkat(p->dir_fd, "window", 0);
        (void) unlinkat(p->dir_fd, "window.tmp", 0);
        (void) close(p->dir_fd);
        (void) rmdir(p->path);
        game_free(p->game);
        free(p);
        return 0;
}

/* Append samples number tail .. tail + n - 1 as one game. Return: what window_append() does. */
static int append(struct window *w, size_t n) {
        size_t size = sample_max_bytes(w->game) + 5;
        cleanup_(freep) unsigned char *bytes = malloc(n * size);
        struct window_item items[GAME_MAX_PLIES];

        for (size_t i = 0; i < n; i++) {
                unsigned char *record = bytes + i * size;
                size_t length, offset;
                struct sample s;
                uint32_t one;

                fixture_sample(w->game, (struct sample_id){ 2, 1, window_tail(w) + i }, &s);
                assert_int_equal(sample_encode_record(w->game, &s, 1, record, size, &length), 0);
                assert_int_equal(sample_record_open(w->game, record, length, &one, &offset, NULL), 0);
                items[i] = (struct window_item){ record + offset, (uint32_t) (length - offset) };
        }
        return window_append(w, items, n);
}

/* Exactly [@first, @tail) is there, and right. */
static void check_all(const struct window *w, uint64_t first, uint64_t tail) {
        struct sample s, want;

        assert_int_equal(window_first(w), first);
        assert_int_equal(window_tail(w), tail);
        for (uint64_t i = first; i < tail; i++) {
                fixture_sample(w->game, (struct sample_id){ 2, 1, i }, &want);
                assert_int_equal(window_read(w, i, &s), 0);
                fixture_assert_equal(w->game, &want, &s);
        }
        assert_int_equal(window_read(w, tail, &s), WINDOW_E_GONE);
}

/* Wherever in header or slots the disk fails. */
static void test_append(void **state) {
        struct place *p = *state;
        uint64_t tail = 0;

        for (uint64_t from = 0; from < p->w->n_mapped_bytes; from += PAGE) {
                struct fixture_disk d;
                unsigned n_refused = 0;
                int r;

                fixture_disk_fail(window_fd(p->w), from, &d);
                for (unsigned i = 0; i < 3 * CAPACITY && n_refused == 0; i++) {
                        r = append(p->w, 9);
                        if (r == 0) {
                                tail += 9;
                                continue;
                        }
                        assert_true(r == -EIO || r == -ENOSPC || r == -EROFS);
                        n_refused++;
                        assert_int_equal(window_tail(p->w), tail);
                        assert_int_equal(window_tail(p->reader), tail);
                        assert_int_equal(append(p->w, 9), r); /* still */
                }
                assert_int_equal(n_refused, 1);
                fixture_disk_work(&d);
                check_all(p->reader, tail - MIN(tail, CAPACITY), tail); /* nothing of it is seen */
                assert_int_equal(append(p->w, 9), 0);
                tail += 9;
                check_all(p->w, tail - MIN(tail, CAPACITY), tail);
                check_all(p->reader, tail - MIN(tail, CAPACITY), tail);
        }
        assert_true(tail > 4 * CAPACITY);
}

/* Cut short by somebody: the same, and what was cut off is gone, not wrong. */
static void test_cut_short(void **state) {
        struct place *p = *state;
        off_t size = (off_t) p->w->n_mapped_bytes;
        struct sample s;
        uint64_t tail;

        guard_install();
        while (window_tail(p->w) < p->w->n_slots)
                assert_int_equal(append(p->w, 9), 0);
        tail = window_tail(p->w);
        assert_int_equal(window_tail(p->reader), tail);
        assert_int_equal(ftruncate(window_fd(p->w), 0), 0);
        assert_true(append(p->w, 9) < 0);
        assert_int_equal(window_tail(p->reader), tail); /* as it was last */
        for (uint64_t i = window_first(p->reader); i < tail; i++)
                assert_int_equal(window_read(p->reader, i, &s), WINDOW_E_GONE);
        assert_int_equal(ftruncate(window_fd(p->w), size), 0);
        assert_int_equal(append(p->w, 9), 0);
        assert_int_equal(window_read(p->w, tail, &s), 0);
        assert_int_equal(s.id.sequence, tail);
        assert_int_equal(window_read(p->w, tail - 1, &s), WINDOW_E_GONE);
}

static void test_reader(void **state) {
        struct place *p = *state;
        struct fixture_disk d;
        unsigned n_gone = 0;
        struct sample s;

        for (unsigned i = 0; i < 8; i++)
                assert_int_equal(append(p->w, 9), 0);
        window_free(TAKE_PTR(p->w)); /* so that the reader's mapping is the first */
        fixture_disk_fail(window_fd(p->reader), 2 * (uint64_t) PAGE, &d);
        for (uint64_t i = window_first(p->reader); i < window_tail(p->reader); i++)
                n_gone += window_read(p->reader, i, &s) == WINDOW_E_GONE;
        assert_true(n_gone > 0 && n_gone < CAPACITY); /* the others are read */
        fixture_disk_work(&d);
        check_all(p->reader, 22, 72);
}

static void test_incarnations(void **state) {
        struct place *p = *state;
        struct fixture_disk d;
        uint64_t n;

        assert_int_equal(window_new_incarnation(p->w, &n), 0);
        assert_int_equal(n, 1);
        fixture_disk_fail(window_fd(p->w), 0, &d);
        assert_true(window_new_incarnation(p->w, &n) < 0);
        assert_true(window_raise_incarnation(p->w, 7) < 0);
        fixture_disk_work(&d);
        assert_int_equal(window_new_incarnation(p->w, &n), 0);
        assert_true(n >= 2); /* what was not given may be left out, what was given never comes again */
        assert_int_equal(window_raise_incarnation(p->w, 40), 0);
        window_free(TAKE_PTR(p->w));
        assert_int_equal(window_open(p->dir_fd, "window", p->game, CAPACITY, &p->w, NULL), 0);
        assert_int_equal(window_next_incarnation(p->w), 41);
}

/* What azpard does at start says where the disk fails, and changes nothing. */
static void test_opening(void **state) {
        struct place *p = *state;
        struct sample_id newest[3];
        struct error e = ERROR_INIT;
        struct fixture_disk d;
        struct window *w = NULL;

        for (unsigned i = 0; i < 8; i++)
                assert_int_equal(append(p->w, 9), 0);
        fixture_disk_fail(window_fd(p->w), 2 * (uint64_t) PAGE, &d);
        assert_true(recover(p->w, &e) < 0);
        assert_non_null(strstr(e.text, "at byte "));
        assert_non_null(strstr(e.text, "check the disk"));
        assert_true(window_newest(p->w, newest, N_ELEMENTS(newest)) < 0);
        assert_true(replace_file(p->dir_fd, "window", p->game, CAPACITY + 10, p->w, &w, &e) < 0);
        assert_non_null(strstr(e.text, "could not read sample "));
        assert_int_not_equal(faccessat(p->dir_fd, "window.tmp", F_OK, 0), 0);
        fixture_disk_work(&d);
        assert_int_equal(recover(p->w, &e), 0);
        check_all(p->w, 22, 72);
        assert_int_equal(window_newest(p->w, newest, N_ELEMENTS(newest)), 0);
        assert_int_equal(newest[2].sequence, 71);
        assert_int_equal(window_open(p->dir_fd, "window", p->game, CAPACITY + 10, &w, &e), 0);
        check_all(w, 22, 72);
        window_free(w);
}

/* ---- durability ---- */

/* Bytes of the window's mapping that the kernel counts as not written yet. */
static uint64_t n_dirty(const struct window *w) {
        cleanup_(freep) char *line = NULL;
        FILE *smaps = fopen("/proc/self/smaps", "re");
        unsigned long from = 0, to, at = 0, kb;
        uint64_t sum = 0;
        size_t size = 0;

        assert_non_null(smaps);
        while (getline(&line, &size, smaps) > 0) {
                if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
                        at = from;
                else if (at == (uintptr_t) w->header && (sscanf(line, "Shared_Dirty: %lu kB", &kb) == 1 ||
                                                         sscanf(line, "Private_Dirty: %lu kB", &kb) == 1))
                        sum += kb * 1024;
        }
        (void) fclose(smaps);
        return sum;
}

static void test_failed_sync_is_not_forgotten(void **state) {
        struct place *p = *state;

        window_free(TAKE_PTR(p->reader)); /* its mapping may be merged with the writer's */
        for (unsigned i = 0; i < 8; i++)
                assert_int_equal(append(p->w, 9), 0);
        assert_int_equal(window_sync(p->w), 0);
        assert_int_equal(window_durable(p->w), 72);
        if (n_dirty(p->w) > 0) {
                print_message("this file system is never clean\n");
                skip();
        }
        assert_int_equal(append(p->w, 9), 0);
        window_sync_begin(p->w);
        assert_int_equal(fdatasync(window_fd(p->w)), 0);
        assert_int_equal(n_dirty(p->w), 0); /* as the kernel leaves it after an error, too */
        assert_int_equal(window_sync_end(p->w, -EIO), -EIO);
        assert_int_equal(window_durable(p->w), 72);
        assert_true(n_dirty(p->w) >= 9 * (uint64_t) p->w->slot_bytes / PAGE * PAGE + PAGE);
        check_all(p->w, 31, 81);
        assert_int_equal(window_sync(p->w), 0);
        assert_int_equal(window_durable(p->w), 81);
        assert_int_equal(n_dirty(p->w), 0);
}

/* A sync that succeeds proves nothing if an error was told to somebody else, or the pages could not be had.
 */
static void test_success_that_proves_nothing(void **state) {
        struct place *p = *state;
        struct fixture_disk d;
        uint64_t n;
        int fd, ends[2];

        assert_int_equal(append(p->w, 9), 0);
        window_sync_begin(p->w);
        sync_failed(p->w); /* as set_next_incarnation() calls it */
        assert_int_equal(window_sync_end(p->w, 0), -EIO);
        assert_int_equal(window_durable(p->w), 0);

        fixture_disk_fail(window_fd(p->w), 0, &d);
        window_sync_begin(p->w);
        assert_int_equal(window_sync_end(p->w, -EIO), -EIO); /* cannot be made dirty */
        window_sync_begin(p->w);
        assert_int_equal(window_sync_end(p->w, 0), -EIO);
        fixture_disk_work(&d);
        window_sync_begin(p->w);
        assert_int_equal(window_sync_end(p->w, 0), 0);
        assert_int_equal(window_durable(p->w), 9);

        /* window_sync() tells what fdatasync() says */
        assert_int_equal(append(p->w, 9), 0);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        fd = p->w->fd;
        p->w->fd = ends[0];
        assert_int_equal(window_sync(p->w), -EINVAL);
        p->w->fd = fd;
        assert_int_equal(window_durable(p->w), 9);
        assert_int_equal(window_sync(p->w), 0);
        assert_int_equal(window_durable(p->w), 18);
        assert_int_equal(window_new_incarnation(p->w, &n), 0);
        (void) close(ends[0]);
        (void) close(ends[1]);
}

/* ---- copy and restore ---- */

static struct window *copy_of(const struct place *p, uint64_t n) {
        struct error e = ERROR_INIT;
        struct window *copy;

        assert_int_equal(window_copy(p->w, n, p->dir_fd, "copy", &e), 0);
        assert_int_equal(window_map(openat(p->dir_fd, "copy", O_RDONLY | O_CLOEXEC), p->game, &copy, &e), 0);
        (void) unlinkat(p->dir_fd, "copy", 0);
        return copy;
}

/* What a file system does that forgot what was written since the last sync, page by page as it likes. */
static void forget(struct place *p, const void *before, unsigned keep_every) {
        struct error e = ERROR_INIT;
        size_t n = p->w->n_mapped_bytes;

        for (size_t at = 0; at < n; at += PAGE)
                if (keep_every == 0 || at / PAGE % keep_every != 0)
                        memcpy((unsigned char *) p->w->header + at, (const unsigned char *) before + at,
                               MIN(PAGE, n - at));
        window_free(TAKE_PTR(p->w));
        if (window_open(p->dir_fd, "window", p->game, CAPACITY, &p->w, &e) < 0)
                fail_msg("%s", e.text);
}

static void test_restore(void **state) {
        static const unsigned keeps[] = { 0, 2, 3, 5 };
        struct place *p = *state;
        cleanup_(freep) void *before = malloc(p->w->n_mapped_bytes);
        uint64_t tail, n;

        for (size_t k = 0; k < N_ELEMENTS(keeps); k++) {
                cleanup_(window_freep) struct window *copy = NULL;

                for (unsigned i = 0; i < 20; i++)
                        assert_int_equal(append(p->w, 9), 0);
                memcpy(before, p->w->header, p->w->n_mapped_bytes);
                for (unsigned i = 0; i < 4; i++)
                        assert_int_equal(append(p->w, 9), 0);
                tail = window_tail(p->w);
                copy = copy_of(p, 36);
                check_all(copy, tail - 36, tail);
                forget(p, before, keeps[k]);
                assert_int_equal(window_restore(p->w, copy, &n), 0);
                assert_true(n > 0 && n <= 36);
                check_all(p->w, tail - CAPACITY, tail);
                assert_int_equal(window_n_damaged(p->w), 0);
                assert_int_equal(window_restore(p->w, copy, &n), 0); /* again: killed before it was removed */
                assert_int_equal(n, 0);
                check_all(p->w, tail - CAPACITY, tail);
                window_free(TAKE_PTR(p->w)); /* and it is all in the file */
                assert_int_equal(window_open(p->dir_fd, "window", p->game, CAPACITY, &p->w, NULL), 0);
                check_all(p->w, tail - CAPACITY, tail);
        }
}

/* Into an empty window, a smaller one, and one that has gone on. */
static void test_restore_elsewhere(void **state) {
        struct place *p = *state;
        cleanup_(window_freep) struct window *copy = NULL, *w = NULL;
        struct fixture_disk d;
        uint64_t n;

        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(append(p->w, 9), 0);
        copy = copy_of(p, 36);
        assert_int_equal(window_open(p->dir_fd, "other", p->game, CAPACITY, &w, NULL), 0);
        fixture_disk_fail(window_fd(w), 0, &d);
        assert_true(window_restore(w, copy, &n) < 0);
        fixture_disk_work(&d);
        assert_int_equal(window_restore(w, copy, &n), 0);
        assert_int_equal(n, 36);
        check_all(w, 144, 180);
        assert_int_equal(append(w, 9), 0);
        assert_int_equal(window_restore(w, copy, &n), WINDOW_E_GONE);
        check_all(w, 144, 189);
        window_free(TAKE_PTR(w));
        (void) unlinkat(p->dir_fd, "other", 0);

        assert_int_equal(window_open(p->dir_fd, "other", p->game, 10, &w, NULL), 0);
        assert_int_equal(window_restore(w, copy, &n), 0);
        assert_int_equal(n, 10);
        check_all(w, 170, 180);
        (void) unlinkat(p->dir_fd, "other", 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_append, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cut_short, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reader, setup, teardown),
                cmocka_unit_test_setup_teardown(test_incarnations, setup, teardown),
                cmocka_unit_test_setup_teardown(test_opening, setup, teardown),
                cmocka_unit_test_setup_teardown(test_failed_sync_is_not_forgotten, setup, teardown),
                cmocka_unit_test_setup_teardown(test_success_that_proves_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_restore, setup, teardown),
                cmocka_unit_test_setup_teardown(test_restore_elsewhere, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
