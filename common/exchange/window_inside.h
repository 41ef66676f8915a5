/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The inside of a replay window, for window.c (what is done with one) and window_file.c (making and opening
 * its file) alone: the handle, slots, and guarded access to the mapping.
 */

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/statvfs.h>
#include "common/base/crc32c.h"
#include "common/base/guard.h"
#include "common/base/pause_point.h"
#include "common/exchange/window.h"

#define SLOT_HEADER_BYTES 16
#define SLOT_WORD         sizeof(uint64_t)
#define NOT_A_NUMBER      UINT64_MAX

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
        uint64_t claimed; /* tail that the header had when the damaged were counted */
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

static inline uint32_t slot_bytes_of(const struct game *g) {
        size_t n = SLOT_HEADER_BYTES + sample_max_bytes(g);

        n = (n + SLOT_WORD - 1) & ~(SLOT_WORD - 1);
        assert(n <= SLOT_MAX_BYTES);
        return (uint32_t) n;
}

/* To be called for each sample that is looked at, @n_done of @n_all: window_on_progress(). */
void window_progress(uint64_t n_done, uint64_t n_all);

/* Slots */

/* The checksum that belongs into @image: over what is in use, with itself as 0. */
static inline uint32_t image_crc(union slot_image *image) {
        uint32_t old = image->crc, crc;

        image->crc = 0;
        crc = crc32c(image->words, SLOT_HEADER_BYTES + (size_t) image->length);
        image->crc = old;
        return crc;
}

static inline _Atomic uint64_t *slot_words(const struct window *w, uint64_t number) {
        return (_Atomic uint64_t *) (void *) (w->slots + (number % w->n_slots) * w->slot_bytes);
}

static inline size_t n_words(uint32_t length) {
        return (SLOT_HEADER_BYTES + (size_t) length + SLOT_WORD - 1) / SLOT_WORD;
}

/* Copy the slot of @number out. Return: whether it held that number from the copy's begin to its end. */
static inline bool slot_copy(const struct window *w, uint64_t number, union slot_image *ret) {
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
static inline bool slot_load(const struct window *w, uint64_t number, union slot_image *ret) {
        return slot_copy(w, number, ret) && image_crc(ret) == ret->crc;
}

/* Write w->image to its slot. */
static inline void slot_store(struct window *w) {
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

static inline int guarded(const struct window *w, int (*f)(void *), void *context) {
        return guard_run(w->header, w->n_mapped_bytes, f, context);
}

struct slot_access {
        const struct window *window;
        uint64_t number;
        union slot_image *image;
};

static inline int load_slot(void *context) {
        struct slot_access *a = context;

        return slot_load(a->window, a->number, a->image) ? 0 : WINDOW_E_GONE;
}

/* Return: 0 with the slot of @number in @ret; WINDOW_E_GONE; -EIO. */
static inline int read_slot(const struct window *w, uint64_t number, union slot_image *ret) {
        struct slot_access a = { .window = w, .number = number, .image = ret };

        return guarded(w, load_slot, &a);
}

static inline int store_image(void *context) {
        struct window *w = context;

        w->image.crc = image_crc(&w->image);
        slot_store(w);
        w->tail++;
        return 0;
}

/* After -EIO from the mapping, which has no errno of its own: what it probably was. */
static inline int find_reason(const struct window *w) {
        struct statvfs fs;

        if (fstatvfs(w->fd, &fs) < 0)
                return -EIO;
        if (fs.f_flag & ST_RDONLY)
                return -EROFS;
        return fs.f_bavail == 0 ? -ENOSPC : -EIO;
}

static inline int store_tail(void *context) {
        struct window *w = context;

        /* release: pairs with the acquire in window_tail(); the whole game appears with this store */
        atomic_store_explicit(&w->header->tail, w->tail, memory_order_release);
        return 0;
}

/* Publish what was appended. Return: 0 or -EIO. */
static inline int publish_tail(struct window *w) {
        int r = guarded(w, store_tail, w);

        if (r == 0)
                atomic_store_explicit(&w->published, w->tail, memory_order_release);
        return r;
}

static inline uint64_t first_below(const struct window *w, uint64_t tail) {
        return MAX(w->floor, tail - MIN(tail, window_capacity(w)));
}

/* Marks, under guard but for the first two */

static inline uint32_t mark_crc(struct window_mark m) {
        m.crc = 0;
        return crc32c(&m, sizeof(m));
}

static inline bool mark_is_sound(const struct window_mark *m, uint64_t tail) {
        return m->number != 0 && m->number <= tail && m->crc == mark_crc(*m);
}

static inline struct window_mark *window_marks(const struct window *w) {
        return (struct window_mark *) (void *) ((unsigned char *) w->header + WINDOW_MARKS_OFFSET);
}

struct marks_copy {
        const struct window *window;
        struct window_mark *ret; /* [WINDOW_MARKS] */
};

static inline int copy_marks(void *context) {
        struct marks_copy *c = context;

        memcpy(c->ret, window_marks(c->window), WINDOW_MARKS * sizeof(*c->ret));
        return 0;
}
