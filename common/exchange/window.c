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
 * Marks: a spilled sample that is in the window is recognised by it when its file is read again, but it may
 * leave the window before azpard got round to removing the file, when azpard is killed again and again.  So
 * the header also keeps what was taken in last of each folder whose file is still there.  A mark is written
 * before the tail that makes its game appear, names that tail, and counts only if the window reaches it.
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
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "common/exchange/window_inside.h"

#define PROGRESS_SAMPLES 4096 /* a fraction of a second on a slow disk */

static void (*progress)(void *userdata, uint64_t n_done, uint64_t n_all);
static void *progress_userdata;

void window_on_progress(void (*f)(void *userdata, uint64_t n_done, uint64_t n_all), void *userdata) {
        progress = f;
        progress_userdata = userdata;
}

void window_progress(uint64_t n_done, uint64_t n_all) {
        if (progress && n_done % PROGRESS_SAMPLES == 0)
                progress(progress_userdata, n_done, n_all);
}

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
        const struct sample_id *mark; /* NULL: none */
};

/* Where @slot has its mark, or else the place that was used longest ago. */
static struct window_mark *place_of_mark(struct window *w, uint64_t slot) {
        struct window_mark *all = window_marks(w), *oldest = all;

        for (size_t i = 0; i < WINDOW_MARKS; i++) {
                if (all[i].slot == slot)
                        return &all[i];
                if (all[i].number < oldest->number)
                        oldest = &all[i];
        }
        return oldest;
}

/* Killed in the middle of this, the mark has a wrong checksum. */
static void store_mark(struct window *w, const struct sample_id *id) {
        struct window_mark m = { .number = w->tail,
                                 .slot = (uint32_t) id->slot,
                                 .incarnation = id->incarnation,
                                 .sequence = id->sequence };

        m.crc = mark_crc(m);
        *place_of_mark(w, id->slot) = m;
}

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
        if (a->mark)
                store_mark(w, a->mark);
        PAUSE_POINT(APPEND_BEFORE_TAIL);
        return store_tail(w);
}

int window_append(struct window *w, const struct window_item *items, size_t n) {
        return window_append_spilled(w, items, n, NULL);
}

int window_append_spilled(struct window *w, const struct window_item *items, size_t n,
                          const struct sample_id *last) {
        struct append a = { .window = w, .items = items, .n = n, .mark = last };
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

static void note_newest(struct sample_id *ret, size_t n_slots, const struct sample_id *id) {
        struct sample_id *newest = id->slot < n_slots ? &ret[id->slot] : NULL;

        if (newest && (id->incarnation > newest->incarnation ||
                       (id->incarnation == newest->incarnation && id->sequence >= newest->sequence)))
                *newest = *id;
}

int window_newest(const struct window *w, struct sample_id *ret, size_t n_slots) {
        struct window_mark marks[WINDOW_MARKS];
        struct marks_copy copy = { .window = w, .ret = marks };
        uint64_t tail = window_tail(w);
        struct sample_id id;
        int r;

        memset(ret, 0, n_slots * sizeof(*ret));
        for (uint64_t i = first_below(w, tail), first = i; i < tail; i++) {
                window_progress(i - first, tail - first);
                r = window_read_id(w, i, &id);
                if (r < 0)
                        return r;
                if (r == 0)
                        note_newest(ret, n_slots, &id);
        }
        r = guarded(w, copy_marks, &copy);
        for (size_t i = 0; r == 0 && i < WINDOW_MARKS; i++) {
                id = (struct sample_id){ marks[i].slot, marks[i].incarnation, marks[i].sequence };
                if (mark_is_sound(&marks[i], tail))
                        note_newest(ret, n_slots, &id);
        }
        return r;
}

int window_newest_of(const struct window *w, uint32_t slot, uint64_t incarnation, struct sample_id *ret) {
        uint64_t tail = window_tail(w);
        struct sample_id id;

        *ret = (struct sample_id){ .slot = slot };
        for (uint64_t i = first_below(w, tail), first = i; i < tail; i++) {
                int r;

                window_progress(i - first, tail - first);
                r = window_read_id(w, i, &id);
                if (r < 0)
                        return r;
                if (r == 0 && id.slot == slot && id.incarnation == incarnation &&
                    (ret->incarnation == 0 || id.sequence > ret->sequence))
                        *ret = id;
        }
        return 0;
}

uint64_t window_next_incarnation(const struct window *w) {
        return w->next_incarnation;
}

/* Making it durable */

static int store_synced(void *context) {
        struct window *w = context;

        /* relaxed: azpard alone reads it, and only when it opens the file */
        atomic_store_explicit(&w->header->synced, w->durable, memory_order_relaxed);
        return 0;
}

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

        if (incarnation == WINDOW_MAX_INCARNATION)
                return -ERANGE;
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
        return used >= WINDOW_MAX_INCARNATION ? -ERANGE : set_next_incarnation(w, used + 1);
}
