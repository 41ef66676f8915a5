/* SPDX-License-Identifier: MIT */
/*
 * Replay window: what goes in comes out, over wrap-around, restart and resizing; what a power cut or somebody
 * else left is recovered or refused; a reader that the writer overtakes gets all or nothing.
 *
 * window.c is included, for two things that its interface rightly hides: one slot hammered by two threads,
 * and the path for file systems that cannot allocate.
 */
#include "tests/unit/fixture-sample.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/exchange/window.c"
#include "common/exchange/window_file.c"

#if defined(__SANITIZE_THREAD__)
#define N_SLOT_COPIES  5000u
#define N_THREAD_GAMES 1000u
#define N_POWER_CUTS   10u
#elif defined(__SANITIZE_ADDRESS__)
#define N_SLOT_COPIES  20000u
#define N_THREAD_GAMES 3000u
#define N_POWER_CUTS   50u
#else
#define N_SLOT_COPIES  300000u
#define N_THREAD_GAMES 10000u
#define N_POWER_CUTS   300u
#endif

#define CAPACITY 50u

struct place {
        char path[64];
        int dir_fd;
        struct game *game;
};

static int setup_in(const char *folder, void **state) {
        struct place *p = calloc(1, sizeof(*p));

        (void) snprintf(p->path, sizeof(p->path), "%s/azpar-test-window.XXXXXX", folder);
        if (!mkdtemp(p->path)) {
                free(p);
                return -1;
        }
        p->dir_fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        p->game = fixture_game(0);
        *state = p;
        return p->dir_fd < 0 ? -1 : 0;
}

static int setup_on_disk(void **state) {
        return setup_in("/tmp", state);
}

/* For tests that make many files, which a disk would take its time to sync. */
static int setup(void **state) {
        return setup_in("/dev/shm", state) < 0 ? setup_on_disk(state) : 0;
}

static int teardown(void **state) {
        static const char *const names[] = { "window", "window.tmp", "copy", "other" };
        struct place *p = *state;

        for (size_t i = 0; i < N_ELEMENTS(names); i++)
                if (unlinkat(p->dir_fd, names[i], 0) < 0 && errno == EISDIR)
                        (void) unlinkat(p->dir_fd, names[i], AT_REMOVEDIR);
        (void) close(p->dir_fd);
        (void) rmdir(p->path);
        game_free(p->game);
        free(p);
        return 0;
}

static struct window *open_window(const struct place *p, const char *name, uint64_t n_samples) {
        struct error e = ERROR_INIT;
        struct window *w;

        if (window_open(p->dir_fd, name, p->game, n_samples, &w, &e) < 0)
                fail_msg("%s", e.text);
        return w;
}

/* The sample that these tests put under number @number in timeline @timeline. */
static void numbered(const struct game *g, uint64_t number, uint64_t timeline, struct sample *ret) {
        fixture_sample(g, (struct sample_id){ number % 3, timeline, number }, ret);
}

/* What append_game() marks, if not NULL. */
static const struct sample_id *mark;

/* Append samples number tail .. tail + n - 1 as one game. */
static void append_game(struct window *w, size_t n, uint64_t timeline) {
        size_t size = sample_max_bytes(w->game) + 5;
        cleanup_(freep) unsigned char *bytes = malloc(n * size);
        struct window_item items[GAME_MAX_PLIES];

        for (size_t i = 0; i < n; i++) {
                unsigned char *record = bytes + i * size;
                size_t length, offset;
                struct sample s;
                uint32_t one;

                numbered(w->game, window_tail(w) + i, timeline, &s);
                assert_int_equal(sample_encode_record(w->game, &s, 1, record, size, &length), 0);
                assert_int_equal(sample_record_open(w->game, record, length, &one, &offset, NULL), 0);
                items[i] = (struct window_item){ record + offset, (uint32_t) (length - offset) };
        }
        assert_int_equal(mark ? window_append_spilled(w, items, n, mark) : window_append(w, items, n), 0);
}

static void append_marked(struct window *w, size_t n, uint64_t slot, uint64_t incarnation,
                          uint64_t sequence) {
        struct sample_id id = { SAMPLE_SLOT_SPILLED + slot, incarnation, sequence };

        mark = &id;
        append_game(w, n, 1);
        mark = NULL;
}

/* What was taken in last through the spill files of @slot. */
static struct sample_id newest_spilled(const struct window *w, uint64_t slot) {
        struct sample_id ids[SAMPLE_N_SLOTS];

        assert_int_equal(window_newest(w, ids, N_ELEMENTS(ids)), 0);
        return ids[SAMPLE_SLOT_SPILLED + slot];
}

static void append_up_to(struct window *w, uint64_t tail, uint64_t timeline) {
        while (window_tail(w) < tail)
                append_game(w, MIN(tail - window_tail(w), 1 + window_tail(w) % 9), timeline);
}

/* Return: whether @number is there; if so, it is the right one. */
static bool check_number(const struct window *w, uint64_t number, uint64_t timeline) {
        struct sample want, s;
        int r = window_read(w, number, &s);

        if (r == WINDOW_E_GONE)
                return false;
        assert_int_equal(r, 0);
        numbered(w->game, number, timeline, &want);
        fixture_assert_equal(w->game, &want, &s);
        return true;
}

/* Exactly [@first, @tail) is there, and right. */
static void check_all(const struct window *w, uint64_t first, uint64_t tail) {
        assert_int_equal(window_first(w), first);
        assert_int_equal(window_tail(w), tail);
        for (uint64_t i = first; i < tail; i++)
                assert_true(check_number(w, i, 1));
        assert_false(check_number(w, tail, 1));
        assert_false(check_number(w, tail + w->n_slots, 1));
        assert_false(check_number(w, UINT64_MAX, 1));
        if (first > 0)
                assert_false(check_number(w, first - 1, 1));
}

static bool exists(const struct place *p, const char *name) {
        return faccessat(p->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_new_file(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);
        struct stat st;

        check_all(w, 0, 0);
        assert_int_equal(window_capacity(w), CAPACITY);
        assert_int_equal(window_n_damaged(w), 0);
        assert_int_equal(fstat(window_fd(w), &st), 0);
        assert_int_equal(st.st_size, 4096 + (CAPACITY + GAME_MAX_PLIES) * (uint64_t) slot_bytes_of(p->game));
        assert_true((uint64_t) st.st_blocks * 512 >= (uint64_t) st.st_size); /* no holes: no SIGBUS later */
        assert_int_equal(st.st_mode & 07777, 0640);
        assert_int_equal(fcntl(window_fd(w), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_false(exists(p, "window.tmp"));
}

/* The picture in window.h, for the first two slots. */
static void test_file_is_as_drawn(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);
        uint32_t slot_bytes = slot_bytes_of(p->game), crc = 0, length;
        unsigned char b[4096 + 512], slot[512];
        uint64_t number, tail;

        append_game(w, 2, 1);
        assert_int_equal(pread(window_fd(w), b, sizeof(b), 0), sizeof(b));
        assert_memory_equal(b, "azrwnd1\0\1\0\0\0", 12);
        assert_memory_equal(b + 12, &slot_bytes, 4);
        assert_string_equal((const char *) b + 24, p->game->rules);
        memcpy(&tail, b + 128, 8);
        assert_int_equal(tail, 2);
        memcpy(&number, b + 4096 + slot_bytes, 8);
        memcpy(&length, b + 4096 + slot_bytes + 12, 4);
        assert_int_equal(number, 1);
        assert_int_equal(b[4096 + slot_bytes + 16], 0x9c); /* the sample itself */
        assert_true(16 + length <= slot_bytes);
        memcpy(slot, b + 4096 + slot_bytes, 16 + length);
        memcpy(&crc, slot + 8, 4);
        memset(slot + 8, 0, 4);
        assert_int_equal(crc, crc32c(slot, 16 + length));
}

static void test_wraps_and_reopens(void **state) {
        const struct place *p = *state;
        uint64_t tail = 0;

        for (unsigned round = 0; round < 12; round++) {
                cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

                assert_int_equal(window_n_damaged(w), 0);
                check_all(w, tail > CAPACITY ? tail - CAPACITY : 0, tail);
                for (unsigned i = 0; i < 20; i++)
                        append_game(w, (tail * 7 + i) % 10, 1); /* also games of nothing */
                tail = window_tail(w);
                check_all(w, tail > CAPACITY ? tail - CAPACITY : 0, tail);
        }
        assert_true(tail > 2 * (CAPACITY + GAME_MAX_PLIES));
}

/* The longest game there may be in the smallest window: only the last sample is in it. */
static void test_longest_game_in_smallest_window(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", 1);

        append_game(w, GAME_MAX_PLIES, 1);
        check_all(w, GAME_MAX_PLIES - 1, GAME_MAX_PLIES);
        append_game(w, GAME_MAX_PLIES, 1);
        check_all(w, 2 * GAME_MAX_PLIES - 1, 2 * GAME_MAX_PLIES);
}

static void test_every_game(void **state) {
        struct place *p = *state;

        for (unsigned k = 0; k < FIXTURE_N_GAMES; k++) {
                cleanup_(window_freep) struct window *w = NULL;

                game_free(p->game);
                p->game = fixture_game(k);
                (void) unlinkat(p->dir_fd, "window", 0);
                w = open_window(p, "window", 300);
                append_up_to(w, 900, 1);
                check_all(w, 600, 900);
        }
}

static void test_resize_keeps_the_newest(void **state) {
        static const uint64_t sizes[] = { CAPACITY, 200, 20, 1, 1000, 90 };
        const struct place *p = *state;
        uint64_t first = 0, tail = 0, incarnation = 0, n;

        for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
                cleanup_(window_freep) struct window *w = NULL;

                /* what a predecessor killed while resizing leaves */
                assert_int_equal(
                        file_replace(p->dir_fd, "window.tmp", &(struct file_part){ "x", 1 }, 1, NULL), 0);
                w = open_window(p, "window", sizes[i]);
                assert_false(exists(p, "window.tmp"));
                first = MAX(first, tail > sizes[i] ? tail - sizes[i] : 0);
                check_all(w, first, tail);
                assert_int_equal(window_capacity(w), sizes[i]);
                assert_int_equal(window_new_incarnation(w, &n), 0);
                assert_int_equal(n, ++incarnation);
                append_up_to(w, tail + 120, 1);
                tail += 120;
                first = MAX(first, tail > sizes[i] ? tail - sizes[i] : 0);
                check_all(w, first, tail);
        }
}

static void test_incarnations_are_never_used_twice(void **state) {
        const struct place *p = *state;
        uint64_t last = 0;

        for (unsigned i = 0; i < 10; i++) {
                cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

                for (unsigned k = 0; k < 5; k++) {
                        uint64_t n;

                        assert_int_equal(window_new_incarnation(w, &n), 0);
                        assert_true(n > last);
                        last = n;
                }
        }
        assert_int_equal(last, 50);
}

static void test_incarnations_are_raised(void **state) {
        const struct place *p = *state;
        uint64_t n;

        {
                cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

                assert_int_equal(window_raise_incarnation(w, 0), 0);
                assert_int_equal(window_next_incarnation(w), 1);
                assert_int_equal(window_raise_incarnation(w, 41), 0);
                assert_int_equal(window_raise_incarnation(w, 7), 0); /* never back */
                assert_int_equal(window_raise_incarnation(w, UINT64_MAX), -ERANGE);
                assert_int_equal(window_raise_incarnation(w, WINDOW_MAX_INCARNATION), -ERANGE);
        }
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

        assert_int_equal(window_next_incarnation(w), 42);
        assert_int_equal(window_new_incarnation(w, &n), 0);
        assert_int_equal(n, 42);
        assert_int_equal(window_next_incarnation(w), 43);
}

static void test_newest(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);
        struct sample_id ids[4];

        assert_int_equal(window_newest(w, ids, 4), 0);
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(ids[i].incarnation, 0);
        append_up_to(w, 30, 7);
        append_up_to(w, 60, 8);
        append_up_to(w, 65, 2); /* an older incarnation may come later */
        assert_int_equal(window_newest(w, ids, 2), 0);
        for (unsigned i = 0; i < 2; i++) { /* slot is number % 3 */
                assert_int_equal(ids[i].slot, i);
                assert_int_equal(ids[i].incarnation, 8);
                assert_int_equal(ids[i].sequence, 57 + i);
        }
        assert_int_equal(window_newest(w, ids, 4), 0);
        assert_int_equal(ids[2].sequence, 59);
        assert_int_equal(ids[3].incarnation, 0);
        /* of one process alone */
        assert_int_equal(window_newest_of(w, 2, 7, &ids[0]), 0);
        assert_int_equal(ids[0].incarnation, 7);
        assert_int_equal(ids[0].sequence, 29);
        assert_int_equal(window_newest_of(w, 2, 9, &ids[0]), 0);
        assert_int_equal(ids[0].incarnation, 0);
        assert_int_equal(window_newest_of(w, 3, 7, &ids[0]), 0);
        assert_int_equal(ids[0].incarnation, 0);
        append_up_to(w, 65 + 60, 3); /* what has left the window is not known any more */
        assert_int_equal(window_newest(w, ids, 3), 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(ids[i].incarnation, 3);
}

struct steps {
        uint64_t n, n_done, n_all;
};

static void count_step(void *userdata, uint64_t n_done, uint64_t n_all) {
        struct steps *s = userdata;

        s->n++;
        s->n_done = n_done;
        s->n_all = n_all;
}

/* Who waits while a large window is checked is told how far that is. */
static void test_progress(void **state) {
        const struct place *p = *state;
        const uint64_t n_samples = 20000;
        struct steps s = { 0 };
        struct sample_id ids[4];
        struct window *w;

        window_free(open_window(p, "window", n_samples));
        window_on_progress(count_step, &s);
        w = open_window(p, "window", n_samples);
        assert_in_range(s.n, 3, 100);
        assert_int_equal(s.n_all, n_samples + GAME_MAX_PLIES);
        assert_in_range(s.n_done, n_samples / 2, s.n_all);
        append_up_to(w, 9000, 1);
        s = (struct steps){ 0 };
        assert_int_equal(window_newest(w, ids, 4), 0);
        assert_int_equal(s.n_all, 9000);
        assert_in_range(s.n_done, 4500, 8999);
        window_on_progress(NULL, NULL);
        s = (struct steps){ 0 };
        assert_int_equal(window_newest(w, ids, 4), 0);
        assert_int_equal(s.n, 0);
        window_free(w);
}

static void test_trainer_maps_read_only(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY), *reader = NULL;
        struct error e = ERROR_INIT;
        int fd = dup(window_fd(w)), pipe_fds[2];

        append_up_to(w, 30, 1);
        assert_int_equal(window_map(fd, p->game, &reader, &e), 0);
        check_all(reader, 0, 30);
        append_up_to(w, 700, 1);
        check_all(reader, 700 - CAPACITY, 700);

        assert_int_equal(pipe(pipe_fds), 0);
        assert_int_equal(window_map(pipe_fds[0], p->game, &reader, &e), -EBADMSG);
        assert_int_equal(fcntl(pipe_fds[0], F_GETFD), -1); /* taken over all the same */
        (void) close(pipe_fds[1]);
}

/* Bad files */

struct content {
        unsigned char *bytes;
        size_t n;
};

static void content_free(struct content *c) {
        free(c->bytes);
}

static struct content content_of(const struct place *p, const char *name) {
        struct file_map m = FILE_MAP_NULL;
        struct content c;

        assert_int_equal(file_map_open(p->dir_fd, name, &m, NULL), 0);
        c.n = m.n_bytes;
        c.bytes = malloc(c.n + 1);
        if (c.n > 0)
                memcpy(c.bytes, m.bytes, c.n);
        file_map_close(&m);
        return c;
}

static void put_content(const struct place *p, const char *name, const unsigned char *bytes, size_t n) {
        cleanup_(fd_closep) int fd = openat(p->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

        assert_true(fd >= 0);
        assert_int_equal(file_write_all(fd, bytes, n), 0);
}

/* The file is refused with @errno_wanted and a text that names it and says @text, and stays as it is. */
static void check_refused(const struct place *p, const struct content *c, int errno_wanted,
                          const char *text) {
        cleanup_(content_free) struct content after = { NULL, 0 };
        struct error e = ERROR_INIT;
        struct window *w;
        int fd;

        put_content(p, "other", c->bytes, c->n);
        assert_int_equal(window_open(p->dir_fd, "other", p->game, CAPACITY, &w, &e), errno_wanted);
        if (!strstr(e.text, text) || !strstr(e.text, "'other'"))
                fail_msg("'%s' does not speak of '%s'", e.text, text);
        after = content_of(p, "other");
        assert_int_equal(after.n, c->n);
        assert_memory_equal(after.bytes, c->bytes, c->n);
        assert_false(exists(p, "other.tmp"));
        fd = openat(p->dir_fd, "other", O_RDONLY | O_CLOEXEC);
        if (!strstr(text, "counters")) /* those are azpard's business alone */
                assert_int_equal(window_map(fd, p->game, &w, &e), errno_wanted);
}

static struct content sound_content(const struct place *p) {
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

        append_up_to(w, 600, 1);
        return content_of(p, "window");
}

static void patch(struct content *c, size_t at, uint64_t value, size_t n, bool fix_crc) {
        uint32_t crc;

        memcpy(c->bytes + at, &value, n);
        crc = crc32c(c->bytes, 72);
        if (fix_crc)
                memcpy(c->bytes + 72, &crc, 4);
}

static void test_lying_headers_are_refused(void **state) {
        static const struct {
                size_t at, n;
                uint64_t value;
                bool fix_crc;
                int errno_wanted;
                const char *text;
        } cases[] = {
                { 0, 8, 0, true, -EBADMSG, "not a replay window" },
                { 8, 4, 2, true, -EPROTO, "layout version 2" },
                { 8, 4, 0, false, -EPROTO, "layout version 0" },
                { 12, 4, 8, true, -EBADMSG, "slots of 8 bytes" },
                { 12, 4, 0, true, -EBADMSG, "slots of 0 bytes" },
                { 12, 4, 8, false, -EBADMSG, "checksum" },
                { 16, 8, CAPACITY + GAME_MAX_PLIES + 1, true, -EBADMSG, "its header speaks of" },
                { 16, 8, 0, true, -EBADMSG, "its header speaks of" },
                { 16, 8, GAME_MAX_PLIES, true, -EBADMSG, "its header speaks of" },
                { 16, 8, UINT64_MAX, true, -EBADMSG, "its header speaks of" },
                { 16, 8, UINT64_C(1) << 61, true, -EBADMSG, "its header speaks of" },
                { 24, 4, 0x6f6f6f, true, -EINVAL, "it holds samples of 'ooo'" },
                { 24, 1, 0, true, -EINVAL, "it holds samples of ''" },
                { 24, 4, 0x0a6d1b, true, -EINVAL, "it holds samples of '?m?'" },
                { 72, 4, 0, false, -EBADMSG, "checksum" },
                { 136, 8, 601, false, -EBADMSG, "counters are impossible" },
                { 128, 8, UINT64_MAX, false, -EBADMSG, "counters are impossible" },
                { 144, 8, 0, false, -EBADMSG, "counters are impossible" },
                { 144, 8, WINDOW_MAX_INCARNATION + 1, false, -EBADMSG, "counters are impossible" },
        };
        const struct place *p = *state;
        cleanup_(content_free) struct content sound = sound_content(p);

        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                cleanup_(content_free) struct content c = { malloc(sound.n), sound.n };

                memcpy(c.bytes, sound.bytes, sound.n);
                patch(&c, cases[i].at, cases[i].value, cases[i].n, cases[i].fix_crc);
                check_refused(p, &c, cases[i].errno_wanted, cases[i].text);
        }
        memset(sound.bytes + 24, 'x', 48);
        patch(&sound, 24, 'x', 1, true);
        check_refused(p, &sound, -EBADMSG, "names no game");
}

/* First and tail agree, but nobody could count on from there. */
static void test_numbers_are_bounded(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content c = sound_content(p);

        patch(&c, 128, WINDOW_MAX_TAIL + 1, 8, false);
        patch(&c, 136, WINDOW_MAX_TAIL + 1, 8, false);
        check_refused(p, &c, -EBADMSG, "counters are impossible");
        patch(&c, 128, UINT64_MAX - 1, 8, false);
        patch(&c, 136, UINT64_MAX - 1, 8, false);
        check_refused(p, &c, -EBADMSG, "counters are impossible");
}

static void test_other_sizes_are_refused(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content sound = sound_content(p);

        for (size_t n = 0; n < sound.n; n += n < 200 ? 1 : 997) {
                struct content c = { sound.bytes, n };

                check_refused(p, &c, -EBADMSG,
                              n < sizeof(struct window_header) ? "too short" : "header speaks");
        }
        sound.bytes = realloc(sound.bytes, sound.n + 1);
        sound.bytes[sound.n++] = 0;
        check_refused(p, &sound, -EBADMSG, "header speaks");
}

static void test_garbage_is_refused(void **state) {
        const struct place *p = *state;
        unsigned char garbage[9000];
        struct rng rng;

        rng_seed(&rng, 5, 0);
        for (size_t n = 0; n <= sizeof(garbage); n += n < 300 ? 1 : 701) {
                struct content c = { garbage, n };

                for (size_t i = 0; i < n; i++)
                        garbage[i] = (unsigned char) rng_u64(&rng);
                check_refused(p, &c, -EBADMSG,
                              n < sizeof(struct window_header) ? "too short" : "not a replay window");
        }
}

static void test_not_a_file_is_refused(void **state) {
        const struct place *p = *state;
        struct error e = ERROR_INIT;
        struct window *w;

        assert_int_equal(mkdirat(p->dir_fd, "other", 0700), 0);
        assert_int_equal(window_open(p->dir_fd, "other", p->game, CAPACITY, &w, &e), -EISDIR);
        assert_int_equal(unlinkat(p->dir_fd, "other", AT_REMOVEDIR), 0);
        assert_int_equal(mkfifoat(p->dir_fd, "other", 0600), 0);
        assert_int_equal(window_open(p->dir_fd, "other", p->game, CAPACITY, &w, &e), -EBADMSG);
        assert_int_equal(unlinkat(p->dir_fd, "other", 0), 0);
        assert_int_equal(symlinkat("window", p->dir_fd, "other"), 0);
        assert_int_equal(window_open(p->dir_fd, "other", p->game, CAPACITY, &w, &e), -ELOOP);
        assert_int_equal(window_open(p->dir_fd, "window", p->game, 0, &w, &e), -EINVAL);
        assert_int_equal(window_open(p->dir_fd, "window", p->game, UINT64_MAX, &w, &e), -EINVAL);
        assert_int_equal(window_open(-1, "window", p->game, 1, &w, &e), -EBADF);
        assert_false(exists(p, "window"));
}

/* Two of what is free cannot be had: nothing is left behind, and a window that is there stays. */
static void test_no_room(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = NULL;
        struct error e = ERROR_INIT;
        struct statvfs fs;
        uint64_t n;
        int r;

        assert_int_equal(fstatvfs(p->dir_fd, &fs), 0);
        n = 2 * (uint64_t) fs.f_bfree * fs.f_frsize / slot_bytes_of(p->game) + 1;
        for (unsigned i = 0; i < 2; i++) {
                r = window_open(p->dir_fd, "window", p->game, n, &w, &e);
                assert_true(r == -ENOSPC || r == -EFBIG);
                assert_non_null(strstr(e.text, "window"));
                if (r == -ENOSPC) {
                        assert_non_null(strstr(e.text, " bytes needed, "));
                        assert_non_null(strstr(e.text, " free"));
                }
                assert_false(exists(p, "window.tmp"));
                assert_int_equal(exists(p, "window"), i);
                w = open_window(p, "window", CAPACITY);
                append_up_to(w, 70, 1);
                check_all(w, 20, 70);
                window_free(TAKE_PTR(w));
        }
}

static void test_zeros_where_nothing_allocates(void **state) {
        const struct place *p = *state;
        cleanup_(fd_closep) int fd = openat(p->dir_fd, "other", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct stat st;

        assert_int_equal(write_zeros(fd, 200001), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, 200001);
        assert_true((uint64_t) st.st_blocks * 512 >= 200001);
}

/* Power cuts */

static size_t slot_at(const struct place *p, uint64_t number) {
        return 4096 + (number % (CAPACITY + GAME_MAX_PLIES)) * slot_bytes_of(p->game);
}

static struct window *open_content(const struct place *p, const struct content *c) {
        put_content(p, "copy", c->bytes, c->n);
        return open_window(p, "copy", CAPACITY);
}

/* Marks */

/* The samples of a spill file leave the window, and are known all the same. */
static void test_mark_outlives_its_samples(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

        assert_int_equal(newest_spilled(w, 3).incarnation, 0);
        append_marked(w, 5, 3, 7, 98);
        append_marked(w, 2, 3, 7, 99);
        append_marked(w, 2, 255, 8, 1);
        append_up_to(w, 2000, 1);
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(newest_spilled(w, 3).incarnation, 7);
                assert_int_equal(newest_spilled(w, 3).sequence, 99);
                assert_int_equal(newest_spilled(w, 255).incarnation, 8);
                assert_int_equal(newest_spilled(w, 4).incarnation, 0);
                window_free(TAKE_PTR(w));
                w = open_window(p, "window",
                                i % 2 ? CAPACITY : 2 * CAPACITY); /* also in a file of another size */
        }
}

/* Killed after the mark and before the tail: the game never appeared, and its mark must not come true later.
 */
static void test_mark_beyond_the_tail(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content c = { NULL, 0 };
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);
        uint64_t tail;

        append_up_to(w, 100, 1);
        append_marked(w, 3, 1, 7, 10);
        tail = window_tail(w);
        append_marked(w, 4, 1, 7, 14);
        append_marked(w, 4, 2, 7, 30);
        window_free(TAKE_PTR(w));
        c = content_of(p, "window");
        patch(&c, 128, tail, 8, false);
        w = open_content(p, &c);
        assert_int_equal(window_tail(w), tail);
        assert_int_equal(newest_spilled(w, 1).incarnation,
                         0); /* nor is the one before it there: it was replaced */
        assert_int_equal(newest_spilled(w, 2).incarnation, 0);
        append_up_to(w, tail + 50, 1);
        assert_int_equal(newest_spilled(w, 2).incarnation, 0);
        window_free(TAKE_PTR(w));
        w = open_window(p, "copy", CAPACITY);
        assert_int_equal(newest_spilled(w, 2).incarnation, 0);
}

static void test_torn_mark(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

        append_marked(w, 3, 1, 7, 10);
        window_free(TAKE_PTR(w));
        for (size_t at = 0; at < sizeof(struct window_mark); at++) {
                cleanup_(content_free) struct content c = content_of(p, "window");

                assert_true(c.bytes[WINDOW_MARKS_OFFSET] != 0);
                c.bytes[WINDOW_MARKS_OFFSET + at] ^= 1;
                w = open_content(p, &c);
                assert_int_equal(newest_spilled(w, 0).incarnation, 0);
                assert_int_equal(newest_spilled(w, 1).incarnation, 0);
                window_free(TAKE_PTR(w));
        }
}

/* With more ways than marks, the one that was used longest ago goes. */
static void test_marks_of_many(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);

        for (uint64_t slot = 0; slot < WINDOW_MARKS; slot++)
                append_marked(w, 1, slot, 7, slot);
        append_marked(w, 1, 0, 7, 100);
        append_marked(w, 1, 200, 7, 100);
        append_up_to(w, 2000, 1);
        for (uint64_t slot = 0; slot < WINDOW_MARKS; slot++)
                assert_int_equal(newest_spilled(w, slot).incarnation, slot == 1 ? 0 : 7);
        assert_int_equal(newest_spilled(w, 0).sequence, 100);
        assert_int_equal(newest_spilled(w, 200).sequence, 100);
}

static void test_lost_end_shortens(void **state) {
        const struct place *p = *state;

        for (uint64_t n_lost = 1; n_lost <= CAPACITY; n_lost += 7) {
                cleanup_(content_free) struct content c = sound_content(p); /* 550 .. 599 in it */
                cleanup_(window_freep) struct window *w = NULL;
                uint64_t tail = 600 - n_lost;

                for (uint64_t i = tail; i < 600; i++)
                        memset(c.bytes + slot_at(p, i), 0, slot_bytes_of(p->game));
                w = open_content(p, &c);
                check_all(w, tail - CAPACITY, tail); /* older ones come back in: they were still there */
                assert_int_equal(window_n_damaged(w), n_lost);
                append_up_to(w, 700, 1);
                window_free(TAKE_PTR(w));
                w = open_window(p, "copy", CAPACITY);
                assert_int_equal(window_n_damaged(w), 0);
                check_all(w, 650, 700);
        }
}

static void test_damage_inside_is_left_out(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content c = sound_content(p);
        cleanup_(window_freep) struct window *w = NULL;
        uint32_t length = UINT32_MAX;

        patch(&c, 152, 600, 8, false); /* all of it was synced: the disk has forgotten */
        memset(c.bytes + slot_at(p, 560), 0, slot_bytes_of(p->game));
        c.bytes[slot_at(p, 561) + 30] ^= 0x40;              /* a flipped bit */
        memcpy(c.bytes + slot_at(p, 563) + 12, &length, 4); /* a length beyond everything */
        memcpy(c.bytes + slot_at(p, 565), c.bytes + slot_at(p, 100),
               slot_bytes_of(p->game)); /* an older sample */
        w = open_content(p, &c);
        assert_int_equal(window_n_damaged(w), 4);
        assert_int_equal(window_first(w), 550);
        assert_int_equal(window_tail(w), 600);
        for (uint64_t i = 550; i < 600; i++)
                assert_int_equal(check_number(w, i, 1), i != 560 && i != 561 && i != 563 && i != 565);
}

/*
 * Of what was not synced, the window ends before the first hole: what is recognised by the newest sample of
 * its kind (spilled files) must not be taken to be there because a later one is.
 */
static void test_hole_beyond_the_sync_ends_the_window(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content c = sound_content(p), after = { NULL, 0 };
        cleanup_(window_freep) struct window *w = NULL;

        patch(&c, 152, 562, 8, false);
        memset(c.bytes + slot_at(p, 560), 0, slot_bytes_of(p->game)); /* was synced: damage */
        memset(c.bytes + slot_at(p, 563), 0, slot_bytes_of(p->game)); /* was not: the end */
        memset(c.bytes + slot_at(p, 570), 0, slot_bytes_of(p->game));
        w = open_content(p, &c);
        assert_int_equal(window_tail(w), 563);
        assert_int_equal(window_n_damaged(w), 1 + 37);
        for (uint64_t i = window_first(w); i < 563; i++)
                assert_int_equal(check_number(w, i, 1), i != 560);
        window_free(TAKE_PTR(w));

        after = content_of(p, "copy");
        patch(&after, 128, 600, 8, false); /* nor does a header that runs ahead bring the rest back */
        w = open_content(p, &after);
        assert_int_equal(window_tail(w), 563);
        append_up_to(w, 600, 2);
        assert_int_equal(window_sync(w), 0);
        assert_int_equal(window_durable(w), 600);
        window_free(TAKE_PTR(w));
        w = open_window(p, "copy", CAPACITY);
        assert_int_equal(window_tail(w), 600);
        assert_int_equal(window_durable(w), 600); /* the header knows */
}

/* A file of before an origin and a mark of what was synced: holes stay holes, and it gets both. */
static void test_older_file(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content c = sound_content(p), after = { NULL, 0 };
        cleanup_(window_freep) struct window *w = NULL;
        uint64_t origin;

        patch(&c, 80, 0, 8, false);
        patch(&c, 152, 0, 8, false);
        memset(c.bytes + slot_at(p, 563), 0, slot_bytes_of(p->game));
        w = open_content(p, &c);
        assert_int_equal(window_tail(w), 600);
        assert_int_equal(window_n_damaged(w), 1);
        origin = window_origin(w);
        assert_true(origin != 0);
        window_free(TAKE_PTR(w));
        after = content_of(p, "copy");
        assert_memory_equal(after.bytes + 80, &origin, 8);
        w = open_window(p, "copy", CAPACITY / 2); /* another size: another file of the same origin */
        assert_int_equal(window_origin(w), origin);
        window_free(TAKE_PTR(w));
        w = open_window(p, "copy", CAPACITY / 2);
        assert_int_equal(window_origin(w), origin);
        assert_int_equal(window_durable(w), 600);
}

static void test_header_ahead_of_slots(void **state) {
        static const uint64_t ahead[] = { 1, 49, 50, 51, 400, 450, 100000, UINT64_C(1) << 62 };
        const struct place *p = *state;

        for (size_t i = 0; i < N_ELEMENTS(ahead); i++) {
                cleanup_(content_free) struct content c = sound_content(p);
                cleanup_(window_freep) struct window *w = NULL;

                patch(&c, 128, 600 + ahead[i], 8, false);
                w = open_content(p, &c);
                check_all(w, 550, 600);
                assert_int_equal(window_n_damaged(w), MIN(ahead[i], CAPACITY));
        }
}

/*
 * A killed azpard leaves slots that it had not published; they are not in the window, and not even a power
 * cut after the next game may bring them up.
 */
static void test_unpublished_never_appears(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content c = sound_content(p), after = { NULL, 0 };
        cleanup_(window_freep) struct window *w = NULL;

        patch(&c, 128, 595, 8, false); /* 595 .. 599 were being written */
        w = open_content(p, &c);
        check_all(w, 545, 595);
        assert_int_equal(window_n_damaged(w), 0);
        window_free(TAKE_PTR(w));

        after = content_of(p, "copy");
        patch(&after, 128, 600, 8, false); /* the next game's header reached the disk, its slots did not */
        w = open_content(p, &after);
        check_all(w, 545, 595);
}

static void test_all_slots_lost(void **state) {
        const struct place *p = *state;
        cleanup_(content_free) struct content c = sound_content(p);
        cleanup_(window_freep) struct window *w = NULL;

        memset(c.bytes + 4096, 0, c.n - 4096);
        w = open_content(p, &c);
        assert_int_equal(window_n_damaged(w), CAPACITY);
        assert_int_equal(window_first(w), window_tail(w));
        append_up_to(w, 30, 1);
        check_all(w, 0, 30);
}

/*
 * Pages reach the disk in any order: each page of the file is either as it was at the last sync or as it was
 * at the power cut, some sector-wise mixed.  All that was synced and not pushed out is there, nothing is
 * wrong.
 */
static void test_power_cut(void **state) {
        const struct place *p = *state;
        struct rng rng;

        rng_seed(&rng, 6, 0);
        for (unsigned round = 0; round < N_POWER_CUTS; round++) {
                uint64_t synced = rng_below(&rng, 1200),
                         end = synced + 1 + rng_below(&rng, round % 3 ? 60 : 1000);
                uint64_t n_slots = CAPACITY + GAME_MAX_PLIES, oldest = end > n_slots ? end - n_slots : 0;
                cleanup_(content_free) struct content old = { NULL, 0 }, new = { NULL, 0 };
                cleanup_(window_freep) struct window *w = NULL;

                (void) unlinkat(p->dir_fd, "window", 0);
                w = open_window(p, "window", CAPACITY);
                append_up_to(w, synced, 1);
                assert_int_equal(window_sync(w), 0);
                old = content_of(p, "window");
                append_up_to(w, end, 1);
                new = content_of(p, "window");
                window_free(TAKE_PTR(w));
                for (size_t at = 0; at < old.n; at += 512)
                        if (at % 4096 == 0 ? rng_below(&rng, 2) : rng_below(&rng, 20) == 0) {
                                size_t end_at = at % 4096 == 0 ? at + 4096 : at + 512;

                                memcpy(old.bytes + at, new.bytes + at, MIN(end_at, old.n) - at);
                        }
                w = open_content(p, &old);
                assert_true(window_tail(w) <= end);
                assert_true(window_tail(w) >= synced || synced <= oldest);
                for (uint64_t i = window_first(w); i < window_tail(w); i++)
                        if (!check_number(w, i, 1))
                                assert_false(i < synced && i >= oldest);
        }
}

/* Threads */

/*
 * One slot, written again and again, and read meanwhile: a copy that the seqlock lets through has the right
 * checksum, without a look at it.
 */
struct hammer {
        struct window *w;
        _Atomic uint64_t number; /* a recent one */
        _Atomic bool done;
};

static void *hammer_slot(void *data) {
        struct hammer *h = data;
        union slot_image *image = &h->w->image;

        for (uint64_t i = 1; !atomic_load_explicit(&h->done, memory_order_relaxed); i++) {
                image->number = i * h->w->n_slots;
                image->length = (uint32_t) (8 + i * 8 % 80);
                memset(image->sample, (int) (i & 0xff), image->length);
                image->crc = image_crc(image);
                slot_store(h->w);
                atomic_store_explicit(&h->number, image->number, memory_order_relaxed);
                if (i % 64 == 0) /* so that a slow reader gets through as well */
                        (void) sched_yield();
        }
        return NULL;
}

static void test_slot_is_never_torn(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", CAPACITY);
        struct hammer h = { .w = w, .number = w->n_slots };
        uint64_t n_whole = 0, n_not = 0;
        union slot_image image;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, hammer_slot, &h), 0);
        while (n_whole < N_SLOT_COPIES || n_not < N_SLOT_COPIES / 100) {
                if (!slot_copy(w, atomic_load_explicit(&h.number, memory_order_relaxed), &image)) {
                        n_not++;
                        continue;
                }
                n_whole++;
                assert_int_equal(image.crc, image_crc(&image));
        }
        atomic_store(&h.done, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        print_message("%ju copies whole, %ju overtaken\n", (uintmax_t) n_whole, (uintmax_t) n_not);
}

static void *append_games(void *data) {
        struct window *w = data;

        for (unsigned i = 0; i < N_THREAD_GAMES; i++)
                append_game(w, 1 + i % 9, 1);
        return NULL;
}

/* A reader at the edge where samples leave: right or gone. Games appear whole, since the tail moves by games.
 */
static void test_reader_beside_writer(void **state) {
        const struct place *p = *state;
        cleanup_(window_freep) struct window *w = open_window(p, "window", 1);
        uint64_t n_read = 0, end = 0;
        pthread_t thread;

        for (unsigned i = 0; i < N_THREAD_GAMES; i++)
                end += 1 + i % 9;
        assert_int_equal(pthread_create(&thread, NULL, append_games, w), 0);
        while (window_tail(w) < end) {
                uint64_t first = window_first(w);

                n_read += check_number(w, first, 1);
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        check_all(w, end - 1, end);
        print_message("%ju samples read beside the writer\n", (uintmax_t) n_read);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_new_file, setup_on_disk, teardown),
                cmocka_unit_test_setup_teardown(test_file_is_as_drawn, setup, teardown),
                cmocka_unit_test_setup_teardown(test_wraps_and_reopens, setup_on_disk, teardown),
                cmocka_unit_test_setup_teardown(test_longest_game_in_smallest_window, setup, teardown),
                cmocka_unit_test_setup_teardown(test_every_game, setup, teardown),
                cmocka_unit_test_setup_teardown(test_resize_keeps_the_newest, setup_on_disk, teardown),
                cmocka_unit_test_setup_teardown(test_incarnations_are_raised, setup, teardown),
                cmocka_unit_test_setup_teardown(test_incarnations_are_never_used_twice, setup_on_disk,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_newest, setup, teardown),
                cmocka_unit_test_setup_teardown(test_progress, setup, teardown),
                cmocka_unit_test_setup_teardown(test_trainer_maps_read_only, setup, teardown),
                cmocka_unit_test_setup_teardown(test_lying_headers_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_numbers_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_other_sizes_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_garbage_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_a_file_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_room, setup_on_disk, teardown),
                cmocka_unit_test_setup_teardown(test_zeros_where_nothing_allocates, setup_on_disk, teardown),
                cmocka_unit_test_setup_teardown(test_lost_end_shortens, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damage_inside_is_left_out, setup, teardown),
                cmocka_unit_test_setup_teardown(test_marks_of_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_torn_mark, setup, teardown),
                cmocka_unit_test_setup_teardown(test_mark_beyond_the_tail, setup, teardown),
                cmocka_unit_test_setup_teardown(test_mark_outlives_its_samples, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hole_beyond_the_sync_ends_the_window, setup, teardown),
                cmocka_unit_test_setup_teardown(test_older_file, setup, teardown),
                cmocka_unit_test_setup_teardown(test_header_ahead_of_slots, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unpublished_never_appears, setup, teardown),
                cmocka_unit_test_setup_teardown(test_all_slots_lost, setup, teardown),
                cmocka_unit_test_setup_teardown(test_power_cut, setup, teardown),
                cmocka_unit_test_setup_teardown(test_slot_is_never_torn, setup, teardown),
                cmocka_unit_test_setup_teardown(test_reader_beside_writer, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
