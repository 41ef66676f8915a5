/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Replay window: a circular file of samples, preallocated and mapped.
 *
 *   writer: azpard alone        reader: the trainer (read-only mapping)
 *
 * Fixed-size slots (the largest sample of the game) rather than packed records:
 * any sample is found by its number, the size in samples is exact, and a file
 * that is allocated whole at start cannot meet a full disk (SIGBUS) later.
 *
 *   page 0   struct window_header, and from byte WINDOW_MARKS_OFFSET on WINDOW_MARKS of struct window_mark
 *   page 1.. n_slots slots, each
 *
 *      0        8         12       16            16 + length    slot_bytes
 *      +--------+---------+--------+-------------+-------------+
 *      | number | crc32c  | length | one sample, as in sample.h | unused
 *      +--------+---------+--------+-------------+-------------+
 *
 * Samples are numbered from 0 for ever; number i lies in slot i % n_slots.  The
 * checksum is that of the slot's first 16 + length bytes with crc32c itself as 0.  window_append() writes all
 * samples of a game and then publishes them with one release store to header.tail: that is what makes a game
 * appear as a whole, and what a recovery after SIGKILL relies on.
 *
 * A reader copies a slot and checks number and checksum of the copy, so it
 * never sees a torn sample although the writer may be overtaking it.
 *
 * n_slots is window size + GAME_MAX_PLIES: a game being written overwrites
 * only slots that have left the window already.  slot_bytes is a multiple of 8.
 */

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/sample.h"

#define WINDOW_MAGIC        UINT64_C(0x31646e77727a61) /* "azrwnd1" */
#define WINDOW_VERSION      1u
#define WINDOW_HEADER_BYTES 4096

/*
 * The counters of a file have no checksum, since each changes by a single store.  Above these they cannot have
 * been counted to, and there might be nothing to count on to: a checkpoint keeps the tail as a JSON number,
 * which is exact up to 2^53.  A tail above is as good as this one, being only an upper bound for what is whole.
 */
#define WINDOW_MAX_TAIL        (UINT64_C(1) << 52)
#define WINDOW_MAX_INCARNATION (UINT64_C(1) << 62)

struct window_header {
        /* set when the file is made, constant afterwards */
        uint64_t magic;
        uint32_t version;
        uint32_t slot_bytes;
        uint64_t n_slots;
        char rules[GAME_RULES_MAX];
        uint32_t constant_crc; /* crc32c of the bytes above */
        uint32_t unused;
        uint64_t origin; /* random, not 0: names whose identities those of the samples are; 0 in older files */

        /* written by azpard alone */
        _Alignas(64) _Atomic uint64_t tail; /* samples ever appended; release, see window_tail() */
        _Atomic uint64_t first;             /* samples below this number were never in this file */
        _Atomic uint64_t next_incarnation;  /* given to the next worker process, from 1 */
        _Atomic uint64_t synced;            /* samples below it are on the disk: stored after a sync */
};

/* What the window took in last of one way that is no lane; see window_append_spilled(). */
struct window_mark {
        uint64_t number; /* the tail that it made */
        uint32_t slot;
        uint32_t crc; /* crc32c of all else, with itself as 0 */
        uint64_t incarnation, sequence;
};

/* One for each way of which files may wait for their removal; azpard lets fewer of them wait. */
#define WINDOW_MARKS        64
#define WINDOW_MARKS_OFFSET 256 /* in the header's page; 0 in older files */

struct window; /* private handle of either side */

enum {
        WINDOW_E_SUCCESS_,
        WINDOW_E_GONE, /* that number has left the window, or its slot is damaged (after a power cut) */
};

static_assert(offsetof(struct window_header, constant_crc) == 72 &&
                      offsetof(struct window_header, origin) == 80 &&
                      offsetof(struct window_header, tail) == 128 &&
                      offsetof(struct window_header, synced) == 152 &&
                      sizeof(struct window_header) <= WINDOW_MARKS_OFFSET && sizeof(struct window_mark) == 32 &&
                      WINDOW_MARKS_OFFSET + WINDOW_MARKS * sizeof(struct window_mark) <= WINDOW_HEADER_BYTES,
              "file layout changed: bump WINDOW_VERSION");

/*
 * window_open() - open or make the window file for writing (azpard)
 *
 * Missing: makes it, with room for @n_samples, all blocks allocated (-ENOSPC says how much is needed).
 * Present: checks header and every slot; slots that do not check out after a power cut are left out of the
 * window (a damaged end shortens it, damaged ones inside are counted).  Another size: rewritten with the
 * newest samples that fit, atomically.  Another game, version or a damaged header: -EINVAL, -EPROTO or
 * -EBADMSG with a text that says what to do; the file is not touched.  A disk that fails: the negative errno,
 * with the place.  @g must outlive the window.
 */
must_check_ int window_open(int dir_fd, const char *path, const struct game *g, uint64_t n_samples,
                            struct window **ret, struct error *e);

/*
 * Have @f called again and again while window_open() and window_newest() look at samples, which can take minutes on a slow
 * disk. For the whole process; NULL: no more.
 */
void window_on_progress(void (*f)(void *userdata, uint64_t n_done, uint64_t n_all), void *userdata);

/* The rules text of the game whose samples the window file @fd holds. Return: 0 or a negative errno with a text. */
must_check_ int window_read_rules(int fd, char ret[GAME_RULES_MAX], struct error *e);

/*
 * Map the file behind an inherited descriptor read-only (trainer). Checks the header as window_open() does.
 * @fd is taken over, also on failure.
 */
must_check_ int window_map(int fd, const struct game *g, struct window **ret, struct error *e);

void window_free(struct window *w);
DEFINE_CLEANUP(struct window *, window_free)

/* The descriptor (close-on-exec), to be inherited by the trainer; owned by the window. */
int window_fd(const struct window *w);

/*
 * First number in the window, number after the last one (acquire), and size in samples.  Where the trainer
 * cannot read the header, the first two are what they were last time.
 */
uint64_t window_first(const struct window *w);
uint64_t window_tail(const struct window *w);
uint64_t window_capacity(const struct window *w);

/*
 * Whose identities those of the samples are: a random number that a file keeps for ever.  (slot, incarnation, sequence)
 * of another origin mean other samples.
 */
uint64_t window_origin(const struct window *w);

/* Samples that window_open() found damaged, inside the window or at its end. */
uint64_t window_n_damaged(const struct window *w);

/* An encoded sample in the caller's memory. */
struct window_item {
        const unsigned char *bytes;
        uint32_t n_bytes;
};

/*
 * Append the @n samples of one game (n <= GAME_MAX_PLIES, each at most sample_max_bytes() as sample_decode()
 * makes sure), then publish them all at once (azpard).
 *
 * Return: 0; -EIO, -EROFS, -ENOSPC: the file's memory could not be had (the kernel does not say why, so this
 * is what it looks like); nothing is published, and the same can be tried again.
 */
must_check_ int window_append(struct window *w, const struct window_item *items, size_t n);

/*
 * The same for a game out of a spill file: also remembers that @last (slot: SAMPLE_SLOT_SPILLED + the worker's) and all
 * before it of its way were taken in, for window_newest(), when the samples themselves have left the window.  That is
 * kept for the WINDOW_MARKS ways that were used last.
 */
must_check_ int window_append_spilled(struct window *w, const struct window_item *items, size_t n,
                                      const struct sample_id *last);

/*
 * Copy sample @number out and decode it.
 * Return: 0; WINDOW_E_GONE, also where the disk cannot give it.
 */
must_check_ int window_read(const struct window *w, uint64_t number, struct sample *ret);

/* Only the identity of sample @number. Return: 0, WINDOW_E_GONE, or a negative errno: it cannot be read. */
must_check_ int window_read_id(const struct window *w, uint64_t number, struct sample_id *ret);

/*
 * Make a window file of its own from the newest @n samples, under their numbers, in place of @path.
 * Return: 0 or a negative errno with a text.
 */
must_check_ int window_copy(const struct window *w, uint64_t n, int dir_fd, const char *path,
                            struct error *e);

/*
 * window_restore() - put samples back that were copied by window_copy() (azpard, before anybody else maps it)
 *
 * For a window that a file system took back to an earlier state: what is missing in its place comes there
 * again.
 *
 * Return: 0 with the number of samples put back; WINDOW_E_GONE: @w has gone on without them; a negative
 * errno.
 */
must_check_ int window_restore(struct window *w, const struct window *copy, uint64_t *ret_n_samples);

/*
 * For each worker slot below @n_slots, the identity of its newest sample (by incarnation, then sequence) in
 * the window: lets azpard recognise what a predecessor appended but did not release in the lane.  Also what
 * window_append_spilled() remembers. ret[i].incarnation is 0 where there is none.
 * Return: 0; -EIO: the window could not be read.
 */
must_check_ int window_newest(const struct window *w, struct sample_id *ret, size_t n_slots);

/*
 * The newest sample in the window of one process: @ret->sequence. @ret->incarnation is 0 if there is none. Looks at the whole
 * window.
 * Return: 0; -EIO: the window could not be read.
 */
must_check_ int window_newest_of(const struct window *w, uint32_t slot, uint64_t incarnation,
                                 struct sample_id *ret);

/*
 * A number that no worker process had before, durable before it is returned (azpard).
 * Return: 0, -ERANGE: no number is left; negative errno.
 */
must_check_ int window_new_incarnation(struct window *w, uint64_t *ret);

/* The number that window_new_incarnation() gives next (azpard). */
uint64_t window_next_incarnation(const struct window *w);

/*
 * Numbers up to @used have been given, whatever this file knows of it: by an azpard with a window that was
 * lost (azpard).
 * Return: 0, -ERANGE: that is no number that was ever given; negative errno.
 */
must_check_ int window_raise_incarnation(struct window *w, uint64_t used);

/*
 * Make everything appended so far durable and wait for it (azpard, at stop). While running, azpard gives
 * window_fd() to io_uring for an fdatasync instead, which covers the mapping's dirty pages as well; the order
 * in which slots and header reach the disk does not matter, since window_open() checks every slot.
 * Return: 0 or a negative errno (EIO, ENOSPC).
 */
must_check_ int window_sync(struct window *w);

/*
 * Around such an fdatasync by the caller, of which one at most is on its way: call the first before it, and
 * the second with its result, 0 or a negative errno (azpard).
 *
 * After a failure, what is not durable yet is made dirty again, which the kernel does not do by itself: it
 * forgets that those pages differ from the disk, and the next sync succeeds without them.
 *
 * Return: 0: what was in the window at the begin is durable; or a negative errno.
 */
void window_sync_begin(struct window *w);
must_check_ int window_sync_end(struct window *w, int result);

/* Samples below this number are known to be durable: all that a sync of this process has covered (azpard). */
uint64_t window_durable(const struct window *w);
