/* SPDX-License-Identifier: MIT */
/*
 * The replay window's file; window.h draws it.
 *
 * azpard opens and writes, the trainer maps and reads.  What each of them may
 * meet, and why that is no harm:
 *
 * SIGKILL while a game is appended: its slots were not published, so they are
 * not in the window; the lane still has the game.
 *
 * Power cut: pages reach the disk in any order.  Every slot has its number and a
 * checksum, so what is whole is known without trusting the order; the header's
 * tail is only an upper bound, and the window ends after the newest whole slot
 * below it.  What was synced is whole and stays in the window, since a slot is only
 * overwritten by what pushes its sample out.
 *
 * A reader that the writer overtakes: the copy in a slot is a seqlock without a
 * counter, as each slot's number already never repeats.  The writer first stores
 * NOT_A_NUMBER, then the content, then the number; the reader takes the number,
 * the content, the number again.  All are 64-bit atomics, with release and
 * acquire on the content: that keeps content stores behind the first number store,
 * and content loads before the last number load (Boehm, "Can seqlocks get along with
 * programming language memory models?", 2012, section 4), costs plain moves on x86,
 * and needs no fences, which ThreadSanitizer does not know.  The checksum on top is
 * for the disk and for stray writes, not for this.
 *
 * Another size asks for a new file: it is made beside the old one, synced, and
 * renamed over it, so that the old one is whole until the new one is.
 */
#include "common/exchange/window.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "common/base/crc32c.h"
#include "common/base/file.h"

#define SLOT_HEADER_BYTES 16
#define SLOT_WORD         sizeof(uint64_t)
#define NOT_A_NUMBER      UINT64_MAX

/* What a user can do about a file that is refused. */
#define ADVICE "move it away to start with an empty one"

/* Of the largest game: 20 x 20 with a policy over all cells. */
#define SLOT_MAX_BYTES 4096
#define MAX_SLOTS      ((uint64_t) INT64_MAX / SLOT_MAX_BYTES - 1) /* so that no size below overflows */

/* A slot in private memory, as it lies in the file. */
union slot_image {
        struct {
                uint64_t number;
                uint32_t crc;
                uint32_t length;
                unsigned char sample[SLOT_MAX_BYTES - SLOT_HEADER_BYTES];
        };
        uint64_t words[SLOT_MAX_BYTES / SLOT_WORD];
};

static_assert(offsetof(union slot_image, sample) == SLOT_HEADER_BYTES, "a slot's header is 16 bytes");
static_assert(sizeof(union slot_image) == SLOT_MAX_BYTES, "no padding");

struct window {
        int fd;
        const struct game *game;
        struct window_header *header; /* read-only in the trainer */
        unsigned char *slots;
        size_t n_mapped_bytes;
        uint64_t n_slots; /* private copies, checked once */
        uint32_t slot_bytes;
        uint64_t n_damaged;
        uint64_t tail;          /* azpard: the writer's own, never read back */
        union slot_image image; /* azpard: where a slot is put together */
};

static uint32_t slot_bytes_of(const struct game *g) {
        size_t n = SLOT_HEADER_BYTES + sample_max_bytes(g);

        n = (n + SLOT_WORD - 1) & ~(SLOT_WORD - 1);
        assert(n <= SLOT_MAX_BYTES);
        return (uint32_t) n;
}

/* Slots */

/* The checksum that belongs into @image: over what is in use, with itself as 0. */
static uint32_t image_crc(union slot_image *image) {
        uint32_t old = image->crc, crc;

        image->crc = 0;
        crc = crc32c(image->words, SLOT_HEADER_BYTES + (size_t) image->length);
        image->crc = old;
        return crc;
}

static _Atomic uint64_t *slot_words(const struct window *w, uint64_t number) {
        return (_Atomic uint64_t *) (void *) (w->slots + (number % w->n_slots) * w->slot_bytes);
}

static size_t n_words(uint32_t length) {
        return (SLOT_HEADER_BYTES + (size_t) length + SLOT_WORD - 1) / SLOT_WORD;
}

/* Copy the slot of @number out. Return: whether it held that number from the copy's begin to its end. */
static bool slot_copy(const struct window *w, uint64_t number, union slot_image *ret) {
        _Atomic uint64_t *from = slot_words(w, number);
        uint64_t *to = ret->words;

        /* acquire, all: see the file's head; pair with the releases in slot_store() */
        to[0] = atomic_load_explicit(&from[0], memory_order_acquire);
        if (to[0] != number)
                return false;
        to[1] = atomic_load_explicit(&from[1], memory_order_acquire);
        /* from the private copy, once: the bytes behind it are foreign */
        if (ret->length > w->slot_bytes - SLOT_HEADER_BYTES)
                return false;
        for (size_t i = 2; i < n_words(ret->length); i++)
                to[i] = atomic_load_explicit(&from[i], memory_order_acquire);
        /* relaxed: ordered by the acquires above */
        return atomic_load_explicit(&from[0], memory_order_relaxed) == number;
}

/* The same, and the checksum is right. */
static bool slot_load(const struct window *w, uint64_t number, union slot_image *ret) {
        return slot_copy(w, number, ret) && image_crc(ret) == ret->crc;
}

/* Write w->image to its slot. */
static void slot_store(struct window *w) {
        _Atomic uint64_t *to = slot_words(w, w->image.number);
        const uint64_t *from = w->image.words;

        /* relaxed: the releases below keep it in front of them */
        atomic_store_explicit(&to[0], NOT_A_NUMBER, memory_order_relaxed);
        for (size_t i = 1; i < n_words(w->image.length); i++)
                atomic_store_explicit(&to[i], from[i], memory_order_release);
        atomic_store_explicit(&to[0], from[0], memory_order_release);
}

/* Making a file */

static uint64_t file_bytes(uint64_t n_slots, uint32_t slot_bytes) {
        return WINDOW_HEADER_BYTES + n_slots * slot_bytes;
}

static void make_header(const struct game *g, uint64_t n_slots, struct window_header *ret) {
        memset(ret, 0, sizeof(*ret));
        ret->magic = WINDOW_MAGIC;
        ret->version = WINDOW_VERSION;
        ret->slot_bytes = slot_bytes_of(g);
        ret->n_slots = n_slots;
        memcpy(ret->rules, g->rules, sizeof(ret->rules));
        ret->constant_crc = crc32c(ret, offsetof(struct window_header, constant_crc));
        atomic_init(&ret->next_incarnation, 1);
}

static int write_zeros(int fd, uint64_t n_bytes) {
        static const unsigned char zeros[1 << 16] = { 0 };

        for (uint64_t at = 0; at < n_bytes;) {
                ssize_t n = pwrite(fd, zeros, MIN(sizeof(zeros), n_bytes - at), (off_t) at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                at += (uint64_t) n;
        }
        return 0;
}

static int refuse_for_room(const char *path, uint64_t n_bytes, const struct statvfs *fs, struct error *e) {
        return error_set(e, -ENOSPC,
                         "no room for the replay window '%s': %" PRIu64 " bytes needed, %" PRIu64
                         " free; make room or lower replay.window",
                         path, n_bytes, (uint64_t) fs->f_bavail * fs->f_frsize);
}

/*
 * Give the new, empty file @fd all of its blocks, so that no store to its mapping can fail later.  What is
 * free is looked at first: some file systems hand out all that they have before they say that it is not
 * enough.
 */
static int allocate_blocks(int fd, const char *path, uint64_t n_bytes, struct error *e) {
        struct statvfs fs;
        int r;

        if (fstatvfs(fd, &fs) < 0)
                return error_errno(e, -errno, "could not ask for the room left for '%s'", path);
        if (n_bytes / fs.f_frsize >= fs.f_bavail)
                return refuse_for_room(path, n_bytes, &fs, e);
        do
                r = fallocate(fd, 0, 0, (off_t) n_bytes) < 0 ? -errno : 0;
        while (r == -EINTR);
        if (r == -EOPNOTSUPP)
                r = write_zeros(fd, n_bytes);
        if (r == -ENOSPC && fstatvfs(fd, &fs) == 0)
                return refuse_for_room(path, n_bytes, &fs, e);
        if (r < 0)
                return error_errno(e, r, "could not allocate %" PRIu64 " bytes for the replay window '%s'",
                                   n_bytes, path);
        return 0;
}

static int window_new(int fd, bool writable, const struct game *g, uint64_t n_slots, struct window **ret,
                      struct error *e) {
        cleanup_(window_freep) struct window *w = NULL;
        uint32_t slot_bytes = slot_bytes_of(g);
        void *p;

        w = calloc(1, sizeof(*w));
        if (!w)
                return error_errno(e, -ENOMEM, "could not open the replay window");
        w->fd = -1;
        w->game = g;
        w->n_slots = n_slots;
        w->slot_bytes = slot_bytes;
        w->n_mapped_bytes = file_bytes(n_slots, slot_bytes);
        p = mmap(NULL, w->n_mapped_bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return error_errno(e, -errno, "could not map the replay window");
        w->header = p;
        w->slots = (unsigned char *) p + WINDOW_HEADER_BYTES;
        w->fd = fd;
        *ret = TAKE_PTR(w);
        return 0;
}

/*
 * Make the file @temporary for @n_samples and map it; publish_file() gives it its name.
 * Leftovers of a killed predecessor are overwritten.
 */
static int make_file(int dir_fd, const char *temporary, const struct game *g, uint64_t n_samples,
                     struct window **ret, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        uint64_t n_slots = n_samples + GAME_MAX_PLIES;
        struct window_header header;
        struct window *w;
        int r;

        fd = openat(dir_fd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0)
                return error_errno(e, -errno, "could not create '%s'", temporary);
        r = allocate_blocks(fd, temporary, file_bytes(n_slots, slot_bytes_of(g)), e);
        if (r < 0)
                return r;
        r = window_new(fd, true, g, n_slots, &w, e);
        if (r < 0)
                return r;
        (void) TAKE_FD(fd);
        make_header(g, n_slots, &header);
        memcpy(w->header, &header, sizeof(header));
        *ret = w;
        return 0;
}

/* Make @w, complete in @temporary, durable, and then the file @path. */
static int publish_file(int dir_fd, const char *temporary, const char *path, struct window *w,
                        struct error *e) {
        if (fsync(w->fd) < 0)
                return error_errno(e, -errno, "could not sync '%s'", temporary);
        if (renameat(dir_fd, temporary, dir_fd, path) < 0)
                return error_errno(e, -errno, "could not rename '%s' to '%s'", temporary, path);
        return file_sync_directory(dir_fd, path, e);
}

static void append_image(struct window *w) {
        w->image.crc = image_crc(&w->image);
        slot_store(w);
        w->tail++;
}

/* Give @to what @from knows: the newest samples that fit, under the numbers that they have. */
static void copy_samples(const struct window *from, struct window *to) {
        uint64_t tail = window_tail(from);
        uint64_t first = MAX(window_first(from), tail - MIN(tail, window_capacity(to)));

        for (uint64_t i = first; i < tail; i++)
                if (slot_load(from, i, &to->image))
                        append_image(to);
        to->tail = tail;
        /* relaxed, all: nobody else has the new file yet */
        atomic_store_explicit(&to->header->first, first, memory_order_relaxed);
        atomic_store_explicit(&to->header->tail, tail, memory_order_relaxed);
        atomic_store_explicit(&to->header->next_incarnation,
                              atomic_load_explicit(&from->header->next_incarnation, memory_order_relaxed),
                              memory_order_relaxed);
}

/* A file for @n_samples with what is in @old (NULL: nothing), in place of @path. */
static int replace_file(int dir_fd, const char *path, const struct game *g, uint64_t n_samples,
                        const struct window *old, struct window **ret, struct error *e) {
        cleanup_(window_freep) struct window *w = NULL;
        char temporary[PATH_MAX];
        int r;

        if (snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= (int) sizeof(temporary))
                return error_set(e, -ENAMETOOLONG, "path '%s' is too long", path);
        r = make_file(dir_fd, temporary, g, n_samples, &w, e);
        if (r == 0 && old) {
                copy_samples(old, w);
                w->n_damaged = old->n_damaged;
        }
        if (r == 0)
                r = publish_file(dir_fd, temporary, path, w, e);
        if (r < 0) {
                (void) unlinkat(dir_fd, temporary, 0);
                return r;
        }
        *ret = TAKE_PTR(w);
        return 0;
}

/* Opening a file */

/* The file's rules are foreign bytes: whatever they are, the text stays one printable line. */
static int refuse_other_game(const struct window_header *h, const struct game *g, struct error *e) {
        char shown[GAME_RULES_MAX] = "";

        for (size_t i = 0; i + 1 < sizeof(shown) && h->rules[i]; i++)
                shown[i] = h->rules[i] >= ' ' && h->rules[i] <= '~' ? h->rules[i] : '?';
        return error_set(
                e, -EINVAL,
                "it holds samples of '%s', but the game is '%s'; use another state directory or " ADVICE,
                shown, g->rules);
}

/* Check the header of the window file @fd against its size and @g: all that the mapping's use relies on. */
static int check_file(int fd, const struct game *g, uint64_t *ret_n_slots, struct error *e) {
        uint32_t slot_bytes = slot_bytes_of(g);
        struct window_header h;
        struct stat st;
        ssize_t n;

        if (fstat(fd, &st) < 0)
                return error_errno(e, -errno, "could not stat it");
        if (!S_ISREG(st.st_mode))
                return error_set(e, -EBADMSG, "not a regular file");
        n = pread(fd, &h, sizeof(h), 0);
        if (n < 0)
                return error_errno(e, -errno, "could not read it");
        if (n < (ssize_t) sizeof(h))
                return error_set(e, -EBADMSG, "%jd bytes are too short for a replay window; " ADVICE,
                                 (intmax_t) st.st_size);
        if (h.magic != WINDOW_MAGIC)
                return error_set(e, -EBADMSG, "not a replay window; " ADVICE);
        if (h.version != WINDOW_VERSION)
                return error_set(e, -EPROTO, "layout version %" PRIu32 ", this azpar reads %u; " ADVICE,
                                 h.version, WINDOW_VERSION);
        if (h.constant_crc != crc32c(&h, offsetof(struct window_header, constant_crc)))
                return error_set(e, -EBADMSG, "the header's checksum is wrong; " ADVICE);
        if (strnlen(h.rules, sizeof(h.rules)) == sizeof(h.rules))
                return error_set(e, -EBADMSG, "the header names no game; " ADVICE);
        if (strcmp(h.rules, g->rules) != 0)
                return refuse_other_game(&h, g, e);
        if (h.slot_bytes != slot_bytes)
                return error_set(e, -EBADMSG, "slots of %" PRIu32 " bytes, %" PRIu32 " expected; " ADVICE,
                                 h.slot_bytes, slot_bytes);
        if (h.n_slots <= GAME_MAX_PLIES || h.n_slots > MAX_SLOTS ||
            file_bytes(h.n_slots, slot_bytes) != (uint64_t) st.st_size)
                return error_set(e, -EBADMSG,
                                 "%jd bytes long, but its header speaks of %" PRIu64 " slots of %" PRIu32
                                 " bytes; " ADVICE,
                                 (intmax_t) st.st_size, h.n_slots, slot_bytes);
        *ret_n_slots = h.n_slots;
        return 0;
}

/* What check_slots() finds. */
struct census {
        uint64_t end; /* number after the newest whole sample below the tail; 0: none */
        uint64_t n_in_window;
        uint64_t n_wiped;
};

/*
 * Look at every slot; [@first, @tail) is the window as the header has it.
 *
 * What is whole but not below @tail was being appended when azpard died.  The lane still has that game and
 * brings it again, maybe under other numbers; so it is wiped here, lest a later power cut brings up both.
 */
static struct census check_slots(struct window *w, uint64_t first, uint64_t tail) {
        struct census c = { .end = 0, .n_in_window = 0, .n_wiped = 0 };

        for (uint64_t i = 0; i < w->n_slots; i++) {
                _Atomic uint64_t *words = slot_words(w, i);
                /* relaxed, here and below: nobody else is there yet */
                uint64_t number = atomic_load_explicit(&words[0], memory_order_relaxed);

                if (number % w->n_slots != i || !slot_load(w, number, &w->image))
                        continue;
                if (number >= tail) {
                        atomic_store_explicit(&words[0], NOT_A_NUMBER, memory_order_relaxed);
                        c.n_wiped++;
                        continue;
                }
                c.end = MAX(c.end, number + 1);
                c.n_in_window += number >= first;
        }
        return c;
}

/* Bring @w, just mapped, to what is whole in it. */
static int recover(struct window *w, struct error *e) {
        /* relaxed, all: nobody else is there yet */
        uint64_t upper = atomic_load_explicit(&w->header->tail, memory_order_relaxed);
        uint64_t tail = MIN(upper, WINDOW_MAX_TAIL);
        uint64_t floor = atomic_load_explicit(&w->header->first, memory_order_relaxed);
        uint64_t next = atomic_load_explicit(&w->header->next_incarnation, memory_order_relaxed);
        uint64_t first = MAX(floor, tail - MIN(tail, window_capacity(w)));
        struct census c;
        int r;

        if (floor > tail || upper == NOT_A_NUMBER || next == 0 || next > WINDOW_MAX_INCARNATION)
                return error_set(e, -EBADMSG,
                                 "the header's counters are impossible (first %" PRIu64 ", tail %" PRIu64
                                 ", next incarnation %" PRIu64 "); " ADVICE,
                                 floor, upper, next);
        (void) madvise(w->header, w->n_mapped_bytes, MADV_SEQUENTIAL);
        c = check_slots(w, first, tail);
        (void) madvise(w->header, w->n_mapped_bytes, MADV_NORMAL);
        w->n_damaged = tail - first - c.n_in_window;
        w->tail = MIN(tail, MAX(c.end, floor));
        if (w->tail == upper && c.n_wiped == 0)
                return 0;
        atomic_store_explicit(&w->header->tail, w->tail, memory_order_relaxed);
        r = window_sync(w);
        return r < 0 ? error_errno(e, r, "could not sync it") : 0;
}

int window_open(int dir_fd, const char *path, const struct game *g, uint64_t n_samples, struct window **ret,
                struct error *e) {
        cleanup_(window_freep) struct window *w = NULL;
        cleanup_(fd_closep) int fd = -1;
        uint64_t n_slots;
        int r;

        if (n_samples == 0 || n_samples > MAX_SLOTS - GAME_MAX_PLIES)
                return error_set(e, -EINVAL, "a replay window of %" PRIu64 " samples is impossible",
                                 n_samples);
        /* O_NONBLOCK: a FIFO of that name must not hang us */
        fd = openat(dir_fd, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT)
                return replace_file(dir_fd, path, g, n_samples, NULL, ret, e);
        if (fd < 0)
                return error_errno(e, -errno, "could not open the replay window '%s'", path);
        r = check_file(fd, g, &n_slots, e);
        if (r == 0)
                r = window_new(fd, true, g, n_slots, &w, e);
        if (r == 0) {
                (void) TAKE_FD(fd);
                r = recover(w, e);
        }
        if (r < 0) {
                error_prefix(e, "replay window '%s'", path);
                return r;
        }
        if (window_capacity(w) != n_samples)
                return replace_file(dir_fd, path, g, n_samples, w, ret, e);
        *ret = TAKE_PTR(w);
        return 0;
}

int window_map(int fd, const struct game *g, struct window **ret, struct error *e) {
        cleanup_(fd_closep) int owned_fd = fd;
        uint64_t n_slots;
        int r;

        r = check_file(owned_fd, g, &n_slots, e);
        if (r == 0)
                r = window_new(owned_fd, false, g, n_slots, ret, e);
        if (r < 0) {
                error_prefix(e, "replay window");
                return r;
        }
        (void) TAKE_FD(owned_fd);
        return 0;
}

void window_free(struct window *w) {
        if (!w)
                return;
        if (w->header)
                (void) munmap(w->header, w->n_mapped_bytes);
        fd_closep(&w->fd);
        free(w);
}

/* Use */

int window_fd(const struct window *w) {
        return w->fd;
}

uint64_t window_tail(const struct window *w) {
        /* acquire: pairs with the release in window_append(); all slots below it are written */
        return atomic_load_explicit(&w->header->tail, memory_order_acquire);
}

uint64_t window_capacity(const struct window *w) {
        return w->n_slots - GAME_MAX_PLIES;
}

uint64_t window_first(const struct window *w) {
        uint64_t tail = window_tail(w);
        /* relaxed: constant while the file is mapped */
        uint64_t floor = atomic_load_explicit(&w->header->first, memory_order_relaxed);

        return MAX(floor, tail - MIN(tail, window_capacity(w)));
}

uint64_t window_n_damaged(const struct window *w) {
        return w->n_damaged;
}

void window_append(struct window *w, const struct window_item *items, size_t n) {
        assert(n <= GAME_MAX_PLIES);
        for (size_t i = 0; i < n; i++) {
                union slot_image *image = &w->image;
                uint32_t length = items[i].n_bytes;

                assert(length <= w->slot_bytes - SLOT_HEADER_BYTES);
                image->number = w->tail;
                image->length = length;
                memcpy(image->sample, items[i].bytes, length);
                memset(image->sample + length, 0, n_words(length) * SLOT_WORD - SLOT_HEADER_BYTES - length);
                append_image(w);
        }
        /* release: pairs with the acquire in window_tail(); the whole game appears with this store */
        atomic_store_explicit(&w->header->tail, w->tail, memory_order_release);
}

int window_read(const struct window *w, uint64_t number, struct sample *ret) {
        union slot_image image;
        size_t length;

        if (number >= window_tail(w) || number < window_first(w))
                return WINDOW_E_GONE;
        if (!slot_load(w, number, &image))
                return WINDOW_E_GONE;
        if (sample_decode(w->game, image.sample, image.length, ret, &length, NULL) < 0 ||
            length != image.length)
                return WINDOW_E_GONE;
        return 0;
}

void window_newest(const struct window *w, struct sample_id *ret, size_t n_slots) {
        uint64_t tail = window_tail(w);
        union slot_image image;
        struct sample_id id;

        memset(ret, 0, n_slots * sizeof(*ret));
        for (uint64_t i = window_first(w); i < tail; i++) {
                struct sample_id *newest;

                if (!slot_load(w, i, &image) || sample_decode_id(image.sample, image.length, &id, NULL) < 0 ||
                    id.slot >= n_slots)
                        continue;
                newest = &ret[id.slot];
                if (id.incarnation > newest->incarnation ||
                    (id.incarnation == newest->incarnation && id.sequence >= newest->sequence))
                        *newest = id;
        }
}

uint64_t window_next_incarnation(const struct window *w) {
        /* relaxed, here and below: azpard alone reads and writes it */
        return atomic_load_explicit(&w->header->next_incarnation, memory_order_relaxed);
}

static int set_next_incarnation(struct window *w, uint64_t next) {
        atomic_store_explicit(&w->header->next_incarnation, next, memory_order_relaxed);
        /* only the header's page: what a worker's start has to wait for must not grow with the window */
        return msync(w->header, WINDOW_HEADER_BYTES, MS_SYNC) < 0 ? -errno : 0;
}

int window_new_incarnation(struct window *w, uint64_t *ret) {
        uint64_t incarnation = window_next_incarnation(w);
        int r;

        if (incarnation == WINDOW_MAX_INCARNATION)
                return -ERANGE;
        r = set_next_incarnation(w, incarnation + 1);
        if (r < 0)
                return r;
        *ret = incarnation;
        return 0;
}

int window_raise_incarnation(struct window *w, uint64_t used) {
        if (used < window_next_incarnation(w))
                return 0;
        return used >= WINDOW_MAX_INCARNATION ? -ERANGE : set_next_incarnation(w, used + 1);
}

int window_sync(struct window *w) {
        return fdatasync(w->fd) < 0 ? -errno : 0;
}
