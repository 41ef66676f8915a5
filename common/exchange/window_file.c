/* SPDX-License-Identifier: MIT */
/*
 * The replay window's file: made, opened, recovered, copied; window.h draws it, window.c's head says what may
 * have happened to it.  Processes: azpard; the trainer and azparctl map it.
 *
 * Another size asks for a new file: it is made beside the old one, synced, and
 * renamed over it, so that the old one is whole until the new one is.
 */
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
#include "common/base/file.h"
#include "common/exchange/window.h"
#include "common/exchange/window_inside.h"

/* What a user can do about a file that is refused. */
#define ADVICE "move it away to start with an empty one"

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
 * enough.  Zeros are written even where the blocks are allocated: ext4 marks allocated blocks as not written
 * yet, and if the first write to one fails it may write it again without taking back the mark ("potential
 * data loss", it says): the next sync succeeds, and after a mount the block reads as zeros.
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
        if (r == 0 || r == -EOPNOTSUPP)
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
        struct window_mark marks[WINDOW_MARKS];
        struct window_header h;
        int r;

        for (uint64_t i = first; i < tail; i++) {
                window_progress(i - first, tail - first);
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
        if (r == 0)
                r = guarded(from, copy_marks, &(struct marks_copy){ .window = from, .ret = marks });
        if (r == 0 && pwrite(to->fd, marks, sizeof(marks), WINDOW_MARKS_OFFSET) != sizeof(marks))
                r = -EIO;
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
                return refuse_other_game(&h, g, e);
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
                window_progress(number - c->first, c->tail - c->first);
                if (!slot_load(w, number, &w->image))
                        c->tail = number;
        }
        for (uint64_t i = 0; i < w->n_slots; i++) {
                _Atomic uint64_t *words = slot_words(w, i);
                uint64_t number;

                c->at = i;
                window_progress(i, w->n_slots);
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

static int store_origin(void *context) {
        struct window *w = context;

        w->header->origin = w->origin;
        return 0;
}

/*
 * A mark beyond the tail is of a game that never appeared, or was lost with the power: it must not come true
 * when the tail reaches its number with other games.
 */
static int clear_marks(void *context) {
        struct census *c = context;
        struct window_mark *all = window_marks(c->window);

        for (size_t i = 0; i < WINDOW_MARKS; i++) {
                if (all[i].number == 0 || mark_is_sound(&all[i], c->window->tail))
                        continue;
                memset(&all[i], 0, sizeof(all[i]));
                c->n_wiped++;
        }
        return 0;
}

/* Bring @w, just mapped, to what is whole in it. */
static int recover(struct window *w, struct error *e) {
        uint64_t upper = w->tail, tail = MIN(upper, WINDOW_MAX_TAIL), next = w->next_incarnation;
        struct census c = { .window = w,
                            .first = MAX(w->floor, tail - MIN(tail, window_capacity(w))),
                            .tail = tail,
                            .synced = w->durable };
        int r;

        if (w->floor > tail || upper == NOT_A_NUMBER || next == 0 || next > WINDOW_MAX_INCARNATION)
                return error_set(e, -EBADMSG,
                                 "the header's counters are impossible (first %" PRIu64 ", tail %" PRIu64
                                 ", next incarnation %" PRIu64 "); " ADVICE,
                                 w->floor, upper, next);
        (void) madvise(w->header, w->n_mapped_bytes, MADV_SEQUENTIAL);
        r = guarded(w, check_slots, &c);
        (void) madvise(w->header, w->n_mapped_bytes, MADV_NORMAL);
        if (r < 0)
                return error_errno(e, find_reason(w),
                                   "could not read or repair it at byte %" PRIu64
                                   "; check the disk and its file system, or " ADVICE,
                                   WINDOW_HEADER_BYTES + c.at * w->slot_bytes);
        w->n_damaged = tail - c.first - c.n_in_window;
        w->claimed = tail;
        w->tail = MIN(tail, MAX(c.end, w->floor));
        w->durable = MIN(w->durable, w->tail);
        r = guarded(w, clear_marks, &c);
        if (r < 0)
                return error_errno(e, find_reason(w), "could not repair its header");
        if (w->tail == upper && c.n_wiped == 0 && w->origin != 0)
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

int window_copy(const struct window *w, uint64_t n, int dir_fd, const char *path, struct error *e) {
        cleanup_(window_freep) struct window *copy = NULL;

        return replace_file(dir_fd, path, w->game, n, w, &copy, e);
}

static int restore_image(void *context) {
        slot_store(context);
        return 0;
}

static int restore_bounds(void *context) {
        struct window *w = context;

        /* relaxed: nobody else is there yet */
        atomic_store_explicit(&w->header->first, w->floor, memory_order_relaxed);
        return store_tail(w);
}

int window_restore(struct window *w, const struct window *copy, uint64_t *ret_n_samples) {
        uint64_t tail = window_tail(copy), before = w->tail;
        uint64_t first = MAX(window_first(copy), tail - MIN(tail, window_capacity(w)));

        *ret_n_samples = 0;
        if (before > tail)
                return WINDOW_E_GONE;
        for (uint64_t i = first; i < tail; i++) {
                if (i < before && read_slot(w, i, &w->image) == 0)
                        continue;
                if (read_slot(copy, i, &w->image) != 0)
                        continue;
                if (guarded(w, restore_image, w) < 0)
                        return find_reason(w);
                ++*ret_n_samples;
                w->n_damaged -= i < w->claimed && w->n_damaged > 0;
        }
        if (before < first) /* another file than the copy was made of */
                w->floor = first;
        w->tail = tail;
        if (guarded(w, restore_bounds, w) < 0) {
                w->tail = before;
                return find_reason(w);
        }
        atomic_store_explicit(&w->published, tail, memory_order_release);
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
