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
 * tail is only an upper bound.  What was synced is whole and stays in the window, since a slot is only
 * overwritten by what pushes its sample out.  Of what was not, the window keeps what stands before the first
 * hole: azpard recognises spilled samples by the newest one that is there, so none may be missing below it.
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
 *
 * A disk that fails, a file system that became read-only, somebody who cuts the
 * file short: every access to the mapping runs under guard_run().  An append that
 * could not be made has published nothing, and is made again under the same numbers.
 *
 * A sync that fails: the kernel takes the pages that it could not write for clean
 * (it reports the error once, to one caller), so the next sync would succeed without them,
 * and the old content would come back when memory is short.  So after a failure all that is
 * not known to be durable is made dirty again: see mark_dirty().
 */
#include "common/exchange/window.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "common/base/crc32c.h"
#include "common/base/file.h"
#include "common/base/guard.h"
#include "common/base/pause_point.h"

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
        bool writable;
        uint64_t n_slots; /* private copies, checked once */
        uint32_t slot_bytes;
        uint64_t origin;
        uint64_t floor; /* header.first */
        uint64_t n_damaged;
        /* azpard: what it has published; trainer: what it saw last, for when the header cannot be read */
        _Atomic uint64_t published;

        /* azpard alone */
        uint64_t tail; /* of what is being appended */
        uint64_t next_incarnation;
        uint64_t durable;           /* samples below it are on the disk */
        uint64_t syncing;           /* the tail when the sync on its way began */
        uint64_t n_failed;          /* syncs, of all or of the header alone */
        uint64_t n_failed_at_begin; /* of the sync on its way */
        bool suspect;               /* pages that no sync will write may differ from the disk */
        union slot_image image;     /* where a slot is put together */
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
        PAUSE_POINT(SLOT_MIDDLE);
        atomic_store_explicit(&to[0], from[0], memory_order_release);
}

/* Guarded access: what follows is the only way to the mapping for all below */

static int guarded(const struct window *w, int (*f)(void *), void *context) {
        return guard_run(w->header, w->n_mapped_bytes, f, context);
}

struct slot_access {
        const struct window *window;
        uint64_t number;
        union slot_image *image;
};

static int load_slot(void *context) {
        struct slot_access *a = context;

        return slot_load(a->window, a->number, a->image) ? 0 : WINDOW_E_GONE;
}

/* Return: 0 with the slot of @number in @ret; WINDOW_E_GONE; -EIO. */
static int read_slot(const struct window *w, uint64_t number, union slot_image *ret) {
        struct slot_access a = { .window = w, .number = number, .image = ret };

        return guarded(w, load_slot, &a);
}

static int store_image(void *context) {
        struct window *w = context;

        w->image.crc = image_crc(&w->image);
        slot_store(w);
        w->tail++;
        return 0;
}

/* After -EIO from the mapping, which has no errno of its own: what it probably was. */
static int find_reason(const struct window *w) {
        struct statvfs fs;

        if (fstatvfs(w->fd, &fs) < 0)
                return -EIO;
        if (fs.f_flag & ST_RDONLY)
                return -EROFS;
        return fs.f_bavail == 0 ? -ENOSPC : -EIO;
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

static int draw_origin(uint64_t *ret, struct error *e) {
        do
                if (getrandom(ret, sizeof(*ret), 0) != sizeof(*ret))
                        return error_errno(e, -errno, "could not draw an origin");
        while (*ret == 0);
        return 0;
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

/* By the file, not by the mapping: an error has its errno that way. Return: 0 or a negative errno. */
static int write_header(int fd, const struct window_header *h) {
        ssize_t n;

        do
                n = pwrite(fd, h, sizeof(*h), 0);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        return n == (ssize_t) sizeof(*h) ? 0 : -EIO;
}

/*
 * Have a copy-on-write file system (btrfs) write this empty file in place: otherwise each store needs room
 * anew, whatever is allocated, and meets a full disk after all.  Others do not know the flag, and need none.
 */
static void forbid_copy_on_write(int fd) {
        int flags = 0;

        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
                return;
        flags |= FS_NOCOW_FL;
        (void) ioctl(fd, FS_IOC_SETFLAGS, &flags);
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

/* Map @fd, whose header is @h; takes @fd over if it succeeds. */
static int window_new(int fd, bool writable, const struct game *g, const struct window_header *h,
                      struct window **ret, struct error *e) {
        cleanup_(window_freep) struct window *w = NULL;
        void *p;

        w = calloc(1, sizeof(*w));
        if (!w)
                return error_errno(e, -ENOMEM, "could not open the replay window");
        w->fd = -1;
        w->game = g;
        w->writable = writable;
        w->n_slots = h->n_slots;
        w->slot_bytes = h->slot_bytes;
        w->n_mapped_bytes = file_bytes(h->n_slots, h->slot_bytes);
        w->origin = h->origin;
        w->floor = h->first;
        w->tail = h->tail;
        atomic_init(&w->published, h->tail);
        w->next_incarnation = h->next_incarnation;
        /* a file without an origin was made before this was noted: its holes are taken as they are */
        w->durable = h->origin ? MIN(h->synced, h->tail) : h->tail;
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
        struct window_header header;
        int r;

        make_header(g, n_samples + GAME_MAX_PLIES, &header);
        r = draw_origin(&header.origin, e);
        if (r < 0)
                return r;
        fd = openat(dir_fd, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (fd < 0)
                return error_errno(e, -errno, "could not create '%s'", temporary);
        forbid_copy_on_write(fd);
        r = allocate_blocks(fd, temporary, file_bytes(header.n_slots, header.slot_bytes), e);
        if (r < 0)
                return r;
        r = write_header(fd, &header);
        if (r < 0)
                return error_errno(e, r, "could not write '%s'", temporary);
        r = window_new(fd, true, g, &header, ret, e);
        if (r < 0)
                return r;
        (void) TAKE_FD(fd);
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

/*
 * Give @to what @from knows: the newest samples that fit, under the numbers that they have.
 * Return: 0 or a negative errno with a text.
 */
static int copy_samples(const struct window *from, struct window *to, struct error *e) {
        uint64_t tail = window_tail(from);
        uint64_t first = MAX(window_first(from), tail - MIN(tail, window_capacity(to)));
        struct window_header h;
        int r;

        for (uint64_t i = first; i < tail; i++) {
                r = read_slot(from, i, &to->image);
                if (r < 0)
                        return error_errno(e, r, "could not read sample %" PRIu64 " of the old size", i);
                if (r == 0 && guarded(to, store_image, to) < 0)
                        return error_errno(e, find_reason(to),
                                           "could not write sample %" PRIu64 " of the new size", i);
        }
        make_header(from->game, to->n_slots, &h);
        h.origin = from->origin;
        /* nobody else has the new file yet */
        atomic_init(&h.first, first);
        atomic_init(&h.tail, tail);
        atomic_init(&h.next_incarnation, from->next_incarnation);
        atomic_init(&h.synced, tail); /* it is, before the file gets its name */
        r = write_header(to->fd, &h);
        if (r < 0)
                return error_errno(e, r, "could not write the header of the new size");
        to->origin = from->origin;
        to->floor = first;
        to->tail = tail;
        to->next_incarnation = from->next_incarnation;
        to->n_damaged = from->n_damaged;
        to->durable = tail;
        atomic_store_explicit(&to->published, tail, memory_order_relaxed);
        return 0;
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
        if (r == 0 && old)
                r = copy_samples(old, w, e);
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

/* Read a window file's header, and check that it is one. */
static int read_header(int fd, struct window_header *ret, uint64_t *ret_n_bytes, struct error *e) {
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
        *ret = h;
        *ret_n_bytes = (uint64_t) st.st_size;
        return 0;
}

/* Check the header of the window file @fd against its size and @g: all that the mapping's use relies on. */
static int check_file(int fd, const struct game *g, struct window_header *ret, struct error *e) {
        uint32_t slot_bytes = slot_bytes_of(g);
        struct window_header h;
        uint64_t n_bytes;
        int r;

        r = read_header(fd, &h, &n_bytes, e);
        if (r < 0)
                return r;
        if (strcmp(h.rules, g->rules) != 0)
                return error_set(e, -EINVAL,
                                 "it holds samples of '%s', but the game is '%s'; use another state "
                                 "directory or " ADVICE,
                                 h.rules, g->rules);
        if (h.slot_bytes != slot_bytes)
                return error_set(e, -EBADMSG, "slots of %" PRIu32 " bytes, %" PRIu32 " expected; " ADVICE,
                                 h.slot_bytes, slot_bytes);
        if (h.n_slots <= GAME_MAX_PLIES || h.n_slots > MAX_SLOTS ||
            file_bytes(h.n_slots, slot_bytes) != n_bytes)
                return error_set(e, -EBADMSG,
                                 "%" PRIu64 " bytes long, but its header speaks of %" PRIu64
                                 " slots of %" PRIu32 " bytes; " ADVICE,
                                 n_bytes, h.n_slots, slot_bytes);
        *ret = h;
        return 0;
}

int window_read_rules(int fd, char ret[GAME_RULES_MAX], struct error *e) {
        struct window_header h;
        uint64_t n_bytes;
        int r = read_header(fd, &h, &n_bytes, e);

        if (r < 0)
                return r;
        memcpy(ret, h.rules, sizeof(h.rules));
        return 0;
}

/* What check_slots() works on and finds. */
struct census {
        struct window *window;
        uint64_t first, tail; /* [first, tail) is the window as the header has it */
        uint64_t synced;      /* what is missing from here on ends the window */
        volatile uint64_t at; /* slot being looked at: also known where that ends it */
        uint64_t end;         /* number after the newest whole sample below the tail; 0: none */
        uint64_t n_in_window;
        uint64_t n_wiped;
};

/*
 * Look at every slot, under guard, and end the window before the first one that is missing beyond what was
 * synced.
 *
 * What is whole but not below the tail was being appended when azpard died.  The lane still has that game and
 * brings it again, maybe under other numbers; so it is wiped here, lest a later power cut brings up both.
 */
static int check_slots(void *context) {
        struct census *c = context;
        struct window *w = c->window;

        for (uint64_t number = MAX(c->first, c->synced); number < c->tail; number++) {
                c->at = number % w->n_slots;
                if (!slot_load(w, number, &w->image))
                        c->tail = number;
        }
        for (uint64_t i = 0; i < w->n_slots; i++) {
                _Atomic uint64_t *words = slot_words(w, i);
                uint64_t number;

                c->at = i;
                /* relaxed, here and below: nobody else is there yet */
                number = atomic_load_explicit(&words[0], memory_order_relaxed);
                if (number % w->n_slots != i || !slot_load(w, number, &w->image))
                        continue;
                if (number >= c->tail) {
                        atomic_store_explicit(&words[0], NOT_A_NUMBER, memory_order_relaxed);
                        c->n_wiped++;
                        continue;
                }
                c->end = MAX(c->end, number + 1);
                c->n_in_window += number >= c->first;
        }
        return 0;
}

static int store_tail(void *context) {
        struct window *w = context;

        /* release: pairs with the acquire in window_tail(); the whole game appears with this store */
        atomic_store_explicit(&w->header->tail, w->tail, memory_order_release);
        return 0;
}

/* Publish what was appended. Return: 0 or -EIO. */
static int publish_tail(struct window *w) {
        int r = guarded(w, store_tail, w);

        if (r == 0)
                atomic_store_explicit(&w->published, w->tail, memory_order_release);
        return r;
}

static int store_synced(void *context) {
        struct window *w = context;

        /* relaxed: azpard alone reads it, and only when it opens the file */
        atomic_store_explicit(&w->header->synced, w->durable, memory_order_relaxed);
        return 0;
}

static int store_origin(void *context) {
        struct window *w = context;

        w->header->origin = w->origin;
        return 0;
}

/* Bring @w, just mapped, to what is whole in it. */
static int recover(struct window *w, struct error *e) {
        uint64_t tail = w->tail, next = w->next_incarnation;
        struct census c = { .window = w,
                            .first = MAX(w->floor, tail - MIN(tail, window_capacity(w))),
                            .tail = tail,
                            .synced = w->durable };
        int r;

        if (w->floor > tail || tail == NOT_A_NUMBER || next == 0)
                return error_set(e, -EBADMSG,
                                 "the header's counters are impossible (first %" PRIu64 ", tail %" PRIu64
                                 ", next incarnation %" PRIu64 "); " ADVICE,
                                 w->floor, tail, next);
        (void) madvise(w->header, w->n_mapped_bytes, MADV_SEQUENTIAL);
        r = guarded(w, check_slots, &c);
        (void) madvise(w->header, w->n_mapped_bytes, MADV_NORMAL);
        if (r < 0)
                return error_errno(e, find_reason(w),
                                   "could not read or repair it at byte %" PRIu64
                                   "; check the disk and its file system, or " ADVICE,
                                   WINDOW_HEADER_BYTES + c.at * w->slot_bytes);
        w->n_damaged = tail - c.first - c.n_in_window;
        w->tail = MIN(tail, MAX(c.end, w->floor));
        w->durable = MIN(w->durable, w->tail);
        if (w->tail == tail && c.n_wiped == 0 && w->origin != 0)
                return 0;
        if (w->origin == 0) { /* made before there were any */
                r = draw_origin(&w->origin, e);
                if (r < 0)
                        return r;
                r = guarded(w, store_origin, w);
        }
        if (r == 0)
                r = publish_tail(w);
        if (r < 0)
                return error_errno(e, find_reason(w), "could not write its header");
        r = window_sync(w);
        return r < 0 ? error_errno(e, r, "could not sync it") : 0;
}

int window_open(int dir_fd, const char *path, const struct game *g, uint64_t n_samples, struct window **ret,
                struct error *e) {
        cleanup_(window_freep) struct window *w = NULL;
        cleanup_(fd_closep) int fd = -1;
        struct window_header h;
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
        r = check_file(fd, g, &h, e);
        if (r == 0)
                r = window_new(fd, true, g, &h, &w, e);
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
        struct window_header h;
        int r;

        r = check_file(owned_fd, g, &h, e);
        if (r == 0)
                r = window_new(owned_fd, false, g, &h, ret, e);
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

struct tail_access {
        const struct window *window;
        uint64_t tail;
};

static int load_tail(void *context) {
        struct tail_access *a = context;

        /* acquire: pairs with the release in store_tail(); all slots below it are written */
        a->tail = atomic_load_explicit(&a->window->header->tail, memory_order_acquire);
        return 0;
}

uint64_t window_tail(const struct window *w) {
        struct tail_access a = { .window = w };

        if (!w->writable && guarded(w, load_tail, &a) == 0) {
                /* relaxed: for this process, which has acquired it; not const, all windows are made here */
                atomic_store_explicit(&((struct window *) (uintptr_t) w)->published, a.tail,
                                      memory_order_relaxed);
                return a.tail;
        }
        /* acquire: pairs with the release in publish_tail(), for azpard's own threads in tests */
        return atomic_load_explicit(&w->published, memory_order_acquire);
}

uint64_t window_capacity(const struct window *w) {
        return w->n_slots - GAME_MAX_PLIES;
}

static uint64_t first_below(const struct window *w, uint64_t tail) {
        return MAX(w->floor, tail - MIN(tail, window_capacity(w)));
}

uint64_t window_first(const struct window *w) {
        return first_below(w, window_tail(w));
}

uint64_t window_origin(const struct window *w) {
        return w->origin;
}

uint64_t window_n_damaged(const struct window *w) {
        return w->n_damaged;
}

struct append {
        struct window *window;
        const struct window_item *items;
        size_t n;
};

static int append_items(void *context) {
        const struct append *a = context;
        struct window *w = a->window;

        for (size_t i = 0; i < a->n; i++) {
                union slot_image *image = &w->image;
                uint32_t length = a->items[i].n_bytes;

                assert(length <= w->slot_bytes - SLOT_HEADER_BYTES);
                image->number = w->tail;
                image->length = length;
                memcpy(image->sample, a->items[i].bytes, length);
                memset(image->sample + length, 0, n_words(length) * SLOT_WORD - SLOT_HEADER_BYTES - length);
                (void) store_image(w);
                PAUSE_POINT(APPEND_BETWEEN);
        }
        PAUSE_POINT(APPEND_BEFORE_TAIL);
        return store_tail(w);
}

int window_append(struct window *w, const struct window_item *items, size_t n) {
        struct append a = { .window = w, .items = items, .n = n };
        uint64_t before = w->tail;

        assert(n <= GAME_MAX_PLIES);
        if (guarded(w, append_items, &a) < 0) {
                w->tail = before;
                return find_reason(w);
        }
        /* release: pairs with the acquire in window_tail() */
        atomic_store_explicit(&w->published, w->tail, memory_order_release);
        return 0;
}

int window_read(const struct window *w, uint64_t number, struct sample *ret) {
        uint64_t tail = window_tail(w);
        union slot_image image;
        size_t length;

        if (number >= tail || number < first_below(w, tail))
                return WINDOW_E_GONE;
        if (read_slot(w, number, &image) != 0)
                return WINDOW_E_GONE;
        if (sample_decode(w->game, image.sample, image.length, ret, &length, NULL) < 0 ||
            length != image.length)
                return WINDOW_E_GONE;
        return 0;
}

int window_read_id(const struct window *w, uint64_t number, struct sample_id *ret) {
        uint64_t tail = window_tail(w);
        union slot_image image;
        int r;

        if (number >= tail || number < first_below(w, tail))
                return WINDOW_E_GONE;
        r = read_slot(w, number, &image);
        if (r != 0)
                return r;
        return sample_decode_id(image.sample, image.length, ret, NULL) < 0 ? WINDOW_E_GONE : 0;
}

int window_newest(const struct window *w, struct sample_id *ret, size_t n_slots) {
        uint64_t tail = window_tail(w);
        struct sample_id id;
        int r;

        memset(ret, 0, n_slots * sizeof(*ret));
        for (uint64_t i = first_below(w, tail); i < tail; i++) {
                struct sample_id *newest;

                r = window_read_id(w, i, &id);
                if (r < 0)
                        return r;
                if (r > 0 || id.slot >= n_slots)
                        continue;
                newest = &ret[id.slot];
                if (id.incarnation > newest->incarnation ||
                    (id.incarnation == newest->incarnation && id.sequence >= newest->sequence))
                        *newest = id;
        }
        return 0;
}

uint64_t window_next_incarnation(const struct window *w) {
        return w->next_incarnation;
}

/* Making it durable */

/* Store what is there in every page that may differ from the disk, so that the next sync writes it. */
static int mark_dirty(void *context) {
        struct window *w = context;
        uint64_t first = MAX(w->durable, w->tail - MIN(w->tail, w->n_slots));
        size_t last_word = w->slot_bytes / SLOT_WORD - 1;

        /* relaxed, all: a value that is there already is ordered already, and azpard alone writes */
        for (uint64_t i = first; i < w->tail; i++) {
                _Atomic uint64_t *words = slot_words(w, i);

                atomic_store_explicit(&words[0], atomic_load_explicit(&words[0], memory_order_relaxed),
                                      memory_order_relaxed);
                atomic_store_explicit(&words[last_word],
                                      atomic_load_explicit(&words[last_word], memory_order_relaxed),
                                      memory_order_relaxed);
        }
        return store_tail(w);
}

static void sync_failed(struct window *w) {
        w->n_failed++;
        w->suspect = guarded(w, mark_dirty, w) < 0;
}

void window_sync_begin(struct window *w) {
        if (w->suspect)
                w->suspect = guarded(w, mark_dirty, w) < 0;
        w->syncing = w->tail;
        w->n_failed_at_begin = w->n_failed;
}

int window_sync_end(struct window *w, int result) {
        /* An error that was told to set_next_incarnation() meanwhile is not told to this sync again. */
        if (result == 0 && (w->suspect || w->n_failed != w->n_failed_at_begin))
                result = -EIO;
        if (result < 0)
                sync_failed(w);
        else {
                w->durable = w->syncing;
                (void) !guarded(w, store_synced, w); /* then it is known to be less than it is */
        }
        return result;
}

uint64_t window_durable(const struct window *w) {
        return w->durable;
}

int window_sync(struct window *w) {
        window_sync_begin(w);
        return window_sync_end(w, fdatasync(w->fd) < 0 ? -errno : 0);
}

static int store_next_incarnation(void *context) {
        struct window *w = context;

        /* relaxed: azpard alone reads and writes it */
        atomic_store_explicit(&w->header->next_incarnation, w->next_incarnation, memory_order_relaxed);
        return 0;
}

static int set_next_incarnation(struct window *w, uint64_t next) {
        int r;

        w->next_incarnation = next;
        if (guarded(w, store_next_incarnation, w) < 0)
                return find_reason(w);
        /* only the header's page: what a worker's start has to wait for must not grow with the window */
        if (msync(w->header, WINDOW_HEADER_BYTES, MS_SYNC) == 0)
                return 0;
        r = -errno;
        sync_failed(w);
        return r;
}

int window_new_incarnation(struct window *w, uint64_t *ret) {
        uint64_t incarnation = window_next_incarnation(w);
        int r;

        r = set_next_incarnation(w, incarnation + 1);
        if (r < 0)
                return r;
        PAUSE_POINT(INCARNATION_WRITTEN);
        *ret = incarnation;
        return 0;
}

int window_raise_incarnation(struct window *w, uint64_t used) {
        if (used < window_next_incarnation(w))
                return 0;
        return used == UINT64_MAX ? -ERANGE : set_next_incarnation(w, used + 1);
}
