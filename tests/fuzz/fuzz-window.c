/* SPDX-License-Identifier: MIT */
/*
 * The replay window's file: the input is a program that damages a sound one, in its header, its slots or its
 * length, with right and with wrong checksums.  Then azpard opens it.
 *
 * A refused file says why and is not touched.  An accepted one gives exactly the samples that a second reader
 * here finds whole in the bytes; takes a game, under the next numbers; shows the trainer the same; and is the
 * same when it is opened again.
 *
 * The module is included and not linked, for smaller files: games of at most 16 plies instead of 400.
 */
#include "common/exchange/sample.h"
#undef GAME_MAX_PLIES
#define GAME_MAX_PLIES 16
#include "common/exchange/window.c"
#include "common/exchange/window_file.c"

#include "tests/fuzz/fuzz.h"

#define N_SAMPLES      3 /* of the file that is damaged */
#define N_SLOTS        (N_SAMPLES + GAME_MAX_PLIES)
#define MAX_SLOT_BYTES 512
#define MAX_TOUCHED    N_SLOTS
#define MAX_FILE       (WINDOW_HEADER_BYTES + (N_SLOTS + 1) * MAX_SLOT_BYTES)

/* The file as it will be written: zeros but for the header and what was touched. */
static struct {
        _Alignas(64) unsigned char bytes[MAX_FILE];
        size_t n;
        uint32_t touched[MAX_TOUCHED]; /* slots */
        size_t n_touched;
} file;

static struct game *game;
static int folder_fd;
static unsigned char sound_header[WINDOW_HEADER_BYTES];
static uint32_t slot_bytes;

static struct window_header *header(void) {
        return (struct window_header *) (void *) file.bytes;
}

static unsigned char *slot(uint64_t i) {
        return file.bytes + WINDOW_HEADER_BYTES + i * slot_bytes;
}

static void set_up(void) {
        struct window *w = NULL;
        struct config c;

        config_defaults(&c);
        c.game_name = GAME_TICTACTOE;
        EXPECT(game_new(&c, &game, NULL) == 0);
        folder_fd = fuzz_folder();
        EXPECT(window_open(folder_fd, "window", game, N_SAMPLES, &w, NULL) == 0);
        EXPECT(pread(window_fd(w), sound_header, sizeof(sound_header), 0) == sizeof(sound_header));
        window_free(w);
        memcpy(&slot_bytes, sound_header + offsetof(struct window_header, slot_bytes), sizeof(slot_bytes));
        EXPECT(slot_bytes <= MAX_SLOT_BYTES);
}

FUZZ_UNSEEN static void begin(void) {
        for (size_t i = 0; i < file.n_touched; i++)
                memset(slot(file.touched[i]), 0, slot_bytes);
        file.n_touched = 0;
        memcpy(file.bytes, sound_header, sizeof(sound_header));
        file.n = WINDOW_HEADER_BYTES + (size_t) N_SLOTS * slot_bytes;
}

/* Slot @i, to be written to; NULL: too many are already. */
FUZZ_UNSEEN static unsigned char *touch(uint64_t i) {
        i %= N_SLOTS;
        for (size_t k = 0; k < file.n_touched; k++)
                if (file.touched[k] == i)
                        return slot(i);
        if (file.n_touched == MAX_TOUCHED)
                return NULL;
        file.touched[file.n_touched++] = (uint32_t) i;
        return slot(i);
}

/* One encoded sample that is valid for @game. Return: its length. */
FUZZ_UNSEEN static size_t make_sample(uint64_t seed, uint64_t sequence, unsigned char *ret, size_t size) {
        static struct sample s;
        static unsigned char record[1024];
        size_t length = 0, offset = 0;
        uint32_t n;

        s = (struct sample){ .id = { seed % 5, 1 + seed / 64, sequence },
                             .generation = seed,
                             .weight = 1.0f,
                             .ply = (uint16_t) (seed % 9),
                             .n_visits = (uint16_t) (1 + seed % 9) };
        for (uint16_t i = 0; i < s.n_visits; i++)
                s.visits[i] = (struct sample_visit){ i, (uint16_t) (1 + seed * i) };
        EXPECT(sample_encode_record(game, &s, 1, record, sizeof(record), &length) == 0);
        EXPECT(sample_record_open(game, record, length, &n, &offset, NULL) == 0);
        EXPECT(length - offset <= size);
        memcpy(ret, record + offset, length - offset);
        return length - offset;
}

/* The checksum that the slot at @p claims to have; its length is at most what a slot holds. */
FUZZ_UNSEEN static uint32_t slot_crc(const unsigned char *p, uint32_t length) {
        unsigned char copy[MAX_SLOT_BYTES];

        memcpy(copy, p, 16 + (size_t) length);
        memset(copy + 8, 0, 4);
        return crc32c(copy, 16 + (size_t) length);
}

static void fix_slot(unsigned char *p) {
        uint32_t length, crc;

        memcpy(&length, p + 12, 4);
        length %= slot_bytes - 16 + 1;
        memcpy(p + 12, &length, 4);
        crc = slot_crc(p, length);
        memcpy(p + 8, &crc, 4);
}

/* A number that belongs into a slot, near the beginning or anywhere. */
static uint64_t read_number(struct fuzz_input *in) {
        uint64_t kind = fuzz_uint(in, 1);

        return kind < 0xf0 ? fuzz_uint(in, 2) : kind < 0xf8 ? fuzz_uint(in, 8) : -fuzz_uint(in, 2);
}

static void put_sample(struct fuzz_input *in) {
        uint64_t number = read_number(in);
        unsigned char *p = touch(number);
        uint32_t length;

        if (!p)
                return;
        length = (uint32_t) make_sample(fuzz_uint(in, 1), number, p + 16, slot_bytes - 16);
        memcpy(p, &number, 8);
        memcpy(p + 12, &length, 4);
        fix_slot(p);
}

/* Bytes over a slot; then with a right checksum or not. */
static void patch_slot(struct fuzz_input *in, bool fix) {
        unsigned char *p = touch(fuzz_uint(in, 2));
        size_t at = fuzz_uint(in, 1) % slot_bytes, n = fuzz_uint(in, 1);
        const uint8_t *bytes;

        if (!p)
                return;
        n = fuzz_take(in, MIN(n, slot_bytes - at), &bytes);
        memcpy(p + at, bytes, n);
        if (fix)
                fix_slot(p);
}

static void patch_header(struct fuzz_input *in, bool fix) {
        size_t at = fuzz_uint(in, 1), n = fuzz_uint(in, 1);
        const uint8_t *bytes;
        uint32_t crc;

        n = fuzz_take(in, n, &bytes);
        memcpy(file.bytes + at, bytes, n);
        crc = crc32c(file.bytes, offsetof(struct window_header, constant_crc));
        if (fix)
                memcpy(file.bytes + offsetof(struct window_header, constant_crc), &crc, sizeof(crc));
}

/* The counters have no checksum. */
static void set_counter(struct fuzz_input *in) {
        struct window_header *h = header();
        _Atomic uint64_t *const counters[] = { &h->tail, &h->first, &h->next_incarnation, &h->synced };
        uint64_t which = fuzz_uint(in, 1) % N_ELEMENTS(counters);

        atomic_store(counters[which], read_number(in));
}

static void step(struct fuzz_input *in) {
        uint64_t op = fuzz_uint(in, 1);

        switch (op % 8) {
        case 0:
        case 1:
                put_sample(in);
                break;
        case 2:
        case 3:
                set_counter(in);
                break;
        case 4:
                patch_slot(in, op & 8);
                break;
        case 5:
                patch_header(in, op & 8);
                break;
        case 6:
                file.n = fuzz_uint(in, 2) % (file.n + 1);
                break;
        case 7:
                file.n += fuzz_uint(in, 1);
                file.n = MIN(sizeof(file.bytes), file.n);
                break;
        }
}

/* Over what the run before left: blocks that are given back and taken again are most of the time. */
static void write_file(void) {
        int fd = openat(folder_fd, "window", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        EXPECT(fd >= 0 && pwrite(fd, file.bytes, file.n, 0) == (ssize_t) file.n);
        EXPECT(ftruncate(fd, (off_t) file.n) == 0 && close(fd) == 0);
}

static void check_untouched(void) {
        static unsigned char found[MAX_FILE];
        int fd = openat(folder_fd, "window", O_RDONLY | O_CLOEXEC);
        struct stat st;

        EXPECT(fd >= 0 && fstat(fd, &st) == 0 && (size_t) st.st_size == file.n);
        EXPECT(pread(fd, found, file.n, 0) == (ssize_t) file.n && close(fd) == 0);
        EXPECT(memcmp(found, file.bytes, file.n) == 0);
}

/* The second reader: is sample @number whole in the file, and where? */
FUZZ_UNSEEN static const unsigned char *whole_sample(uint64_t number, uint32_t *ret_length) {
        const unsigned char *p = slot(number % N_SLOTS);
        uint64_t found;
        uint32_t crc, length;

        memcpy(&found, p, 8);
        memcpy(&crc, p + 8, 4);
        memcpy(&length, p + 12, 4);
        if (found != number || length > slot_bytes - 16 || slot_crc(p, length) != crc)
                return NULL;
        *ret_length = length;
        return p + 16;
}

/* Number after the newest whole sample below @tail, by looking at what was touched. */
FUZZ_UNSEEN static uint64_t whole_end(uint64_t tail) {
        uint64_t end = 0, number;
        uint32_t length;

        for (size_t i = 0; i < file.n_touched; i++) {
                memcpy(&number, slot(file.touched[i]), 8);
                if (number < tail && number % N_SLOTS == file.touched[i] && whole_sample(number, &length))
                        end = MAX(end, number + 1);
        }
        return end;
}

FUZZ_UNSEEN static void expect_equal(const struct sample *a, const struct sample *b) {
        EXPECT(memcmp(&a->id, &b->id, sizeof(a->id)) == 0 && a->generation == b->generation);
        EXPECT(a->ply == b->ply && a->outcome == b->outcome && a->n_visits == b->n_visits);
        EXPECT(memcmp(a->visits, b->visits, a->n_visits * sizeof(a->visits[0])) == 0);
        EXPECT(memcmp(a->planes, b->planes, GAME_PLANES_BYTES(game)) == 0);
}

/* @w gives of the file what is whole in it, and nothing else. */
FUZZ_UNSEEN static void check_samples(const struct window *w) {
        static struct sample found, wanted;
        struct sample_id newest[8];
        uint64_t first = window_first(w), tail = window_tail(w);

        EXPECT(window_newest(w, newest, N_ELEMENTS(newest)) == 0);
        for (uint64_t i = first; i < tail; i++) {
                uint32_t n = 0;
                size_t length = 0;
                const unsigned char *p = whole_sample(i, &n);
                bool there = p && sample_decode(game, p, n, &wanted, &length, NULL) == 0 && length == n;

                EXPECT(window_read(w, i, &found) == (there ? 0 : WINDOW_E_GONE));
                if (!there)
                        continue;
                expect_equal(&found, &wanted);
                if (found.id.slot < N_ELEMENTS(newest))
                        EXPECT(newest[found.id.slot].incarnation >= found.id.incarnation);
        }
        EXPECT(tail == 0 || window_read(w, tail, &found) == WINDOW_E_GONE);
        EXPECT(first == 0 || window_read(w, first - 1, &found) == WINDOW_E_GONE);
}

/* What was found in the file, from its own header. */
static void check_opened(const struct window *w, uint64_t n_samples) {
        uint64_t tail = MIN(atomic_load(&header()->tail), WINDOW_MAX_TAIL),
                 floor = atomic_load(&header()->first);
        uint64_t first = MAX(floor, tail - MIN(tail, (uint64_t) N_SAMPLES)), n_whole = 0;
        /* what is missing beyond what was synced is the end; older files do not know what was */
        uint64_t synced = header()->origin ? atomic_load(&header()->synced) : tail, cut = tail, new_tail,
                 new_first;
        uint32_t length;

        for (uint64_t i = MAX(first, synced); i < cut; i++)
                if (!whole_sample(i, &length))
                        cut = i;
        for (uint64_t i = first; i < cut; i++)
                n_whole += whole_sample(i, &length) != NULL;
        new_tail = MIN(tail, MAX(whole_end(cut), floor));
        new_first = MAX(floor, new_tail - MIN(new_tail, (uint64_t) N_SAMPLES));
        if (n_samples < N_SAMPLES)
                new_first = MAX(new_first, new_tail - MIN(new_tail, n_samples));
        EXPECT(window_capacity(w) == n_samples);
        EXPECT(window_tail(w) == new_tail && window_first(w) == new_first);
        EXPECT(window_n_damaged(w) == tail - first - n_whole);
        check_samples(w);
}

/* Add a game of 1 to 9 samples and read it back. */
static void check_append(struct window *w, uint64_t seed) {
        static unsigned char bytes[9][MAX_SLOT_BYTES];
        static struct sample found, wanted;
        struct window_item items[9];
        uint64_t tail = window_tail(w), n = 1 + seed % 9;
        size_t length;

        for (uint64_t i = 0; i < n; i++)
                items[i] = (struct window_item){ bytes[i], (uint32_t) make_sample(seed, i, bytes[i],
                                                                                  sizeof(bytes[i])) };
        EXPECT(window_append(w, items, n) == 0);
        EXPECT(window_tail(w) == tail + n && window_tail(w) > tail);
        EXPECT(window_tail(w) - window_first(w) <= window_capacity(w));
        for (uint64_t i = n - MIN(n, window_capacity(w)); i < n; i++) {
                EXPECT(window_read(w, tail + i, &found) == 0);
                EXPECT(sample_decode(game, bytes[i], items[i].n_bytes, &wanted, &length, NULL) == 0);
                expect_equal(&found, &wanted);
        }
}

/* Another reader of the same file finds the same. */
FUZZ_UNSEEN static void check_same(const struct window *a, const struct window *b) {
        static struct sample x, y;
        uint64_t first = window_first(a), tail = window_tail(a);

        EXPECT(window_first(b) == first && window_tail(b) == tail &&
               window_capacity(b) == window_capacity(a));
        EXPECT(window_next_incarnation(a) == window_next_incarnation(b));
        for (uint64_t i = first; i < tail; i++) {
                int r = window_read(a, i, &x);

                EXPECT(window_read(b, i, &y) == r);
                if (r == 0)
                        expect_equal(&x, &y);
        }
}

static void use(struct window *w, uint64_t n_samples, uint64_t seed) {
        cleanup_(window_freep) struct window *mapped = NULL, *again = NULL;
        uint64_t incarnation = 0, next = window_next_incarnation(w);

        check_opened(w, n_samples);
        check_append(w, seed);
        if (next == WINDOW_MAX_INCARNATION)
                EXPECT(window_new_incarnation(w, &incarnation) == -ERANGE);
        else {
                EXPECT(window_new_incarnation(w, &incarnation) == 0 && incarnation == next && next > 0);
                EXPECT(window_next_incarnation(w) == next + 1 && next + 1 > next);
        }
        EXPECT(window_map(fcntl(window_fd(w), F_DUPFD_CLOEXEC, 0), game, &mapped, NULL) == 0);
        check_same(w, mapped);
        if (window_tail(w) > WINDOW_MAX_TAIL)
                return;
        EXPECT(window_open(folder_fd, "window", game, n_samples, &again, NULL) == 0);
        check_same(w, again);
}

static void run(struct fuzz_input *in) {
        static const uint64_t sizes[] = { N_SAMPLES, N_SAMPLES, N_SAMPLES, 1, 2, 4, 50, N_SAMPLES };
        cleanup_(window_freep) struct window *w = NULL;
        uint64_t n_samples = sizes[fuzz_uint(in, 1) % N_ELEMENTS(sizes)], seed = fuzz_uint(in, 1);
        struct error e = ERROR_INIT;
        int r;

        while (in->n > 0)
                step(in);
        write_file();
        r = window_open(folder_fd, "window", game, n_samples, &w, &e);
        if (r == 0) {
                use(w, n_samples, seed);
                return;
        }
        EXPECT(r == -EBADMSG || r == -EINVAL || r == -EPROTO);
        EXPECT(strstr(e.text, "'window'"));
        fuzz_expect_text(&e, true);
        check_untouched();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        struct fuzz_input in = { bytes, n };
        int fd;

        if (!game)
                set_up();
        fd = fuzz_next_fd();
        begin();
        run(&in);
        EXPECT(fuzz_next_fd() == fd);
        return 0;
}
