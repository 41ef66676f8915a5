/* SPDX-License-Identifier: MIT */
/*
 * Lane: the way of a finished game from a worker to azpard.
 *
 * A worker's process runs lane_write(), azpard's all others; lane.h draws the
 * record.  No lock, no system call, no allocation: a process that is killed
 * anywhere in here leaves nothing behind that another one would wait for.
 *
 * Two release/acquire pairs carry everything:
 *
 *   tail: lane_write() -> lane_read()      the bytes of a record are there before it is published
 *   head: lane_release() -> lane_write()   the bytes are copied out before they are overwritten
 *
 * Rejected: a header that the consumer can use in place (its bytes could change
 * between check and use), a commit flag per record (a successor would have to
 * search for the end of what its predecessor committed), several producers per
 * lane (a dead one would leave a reserved hole that blocks the others).
 */
#include "common/exchange/lane.h"

#include <errno.h>
#include <string.h>
#include "common/base/crc32c.h"
#include "common/base/pause_point.h"

/*
 * What precedes a payload, as one 64-bit word: length in the low half, checksum in the high one.  Records
 * start at multiples of 8 and so does the end of the data: the word never wraps and is read in one load.
 */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lane.h draws the record little-endian");

static _Atomic uint64_t *header_at(const struct lane *l, uint64_t position) {
        return (_Atomic uint64_t *) (void *) (l->data + (position & (l->size - 1)));
}

/* Both indices at once come from the other side's memory: is what they say possible? */
static bool indices_are_sound(const struct lane *l, uint64_t head, uint64_t tail) {
        return tail - head <= l->size && head % LANE_RECORD_ALIGN == 0 && tail % LANE_RECORD_ALIGN == 0;
}

/* Copy @n bytes, at most l->size, to @position; they may wrap around the end. */
static void put_bytes(struct lane *l, uint64_t position, const void *bytes, uint64_t n) {
        uint64_t at = position & (l->size - 1);
        uint64_t n_first = MIN(n, l->size - at);

        memcpy(l->data + at, bytes, n_first);
        if (n_first < n)
                PAUSE_POINT(LANE_MIDDLE);
        memcpy(l->data, (const unsigned char *) bytes + n_first, n - n_first);
}

static void get_bytes(const struct lane *l, uint64_t position, unsigned char *ret, uint64_t n) {
        uint64_t at = position & (l->size - 1);
        uint64_t n_first = MIN(n, l->size - at);

        memcpy(ret, l->data + at, n_first);
        memcpy(ret + n_first, l->data, n - n_first);
}

int lane_write(struct lane *l, const void *payload, uint32_t n) {
        static const unsigned char zeros[LANE_RECORD_ALIGN] = { 0 };
        uint64_t need = lane_record_bytes(n);
        uint64_t tail, head;

        if (need > l->size)
                return -EMSGSIZE;
        /* relaxed: this process is the only one that stores tail, and its predecessor in the slot is dead */
        tail = atomic_load_explicit(&l->shared->tail, memory_order_relaxed);
        /* acquire: pairs with the release in lane_release(); what is overwritten below has been copied out */
        head = atomic_load_explicit(&l->shared->head, memory_order_acquire);
        if (!indices_are_sound(l, head, tail))
                return LANE_E_BROKEN;
        if (l->size - (tail - head) < need)
                return LANE_E_FULL;

        PAUSE_POINT(LANE_BEFORE_HEADER);
        /* relaxed: published by tail, like the payload */
        atomic_store_explicit(header_at(l, tail), n | (uint64_t) crc32c(payload, n) << 32,
                              memory_order_relaxed);
        PAUSE_POINT(LANE_AFTER_HEADER);
        put_bytes(l, tail + LANE_HEADER_BYTES, payload, n);
        put_bytes(l, tail + LANE_HEADER_BYTES + n, zeros, need - LANE_HEADER_BYTES - n);

        PAUSE_POINT(LANE_BEFORE_TAIL);
        /* release: pairs with the acquire in lane_read(); this store is the commit (P1) */
        atomic_store_explicit(&l->shared->tail, tail + need, memory_order_release);
        PAUSE_POINT(LANE_AFTER_TAIL);
        return 0;
}

int lane_read(struct lane *l, unsigned char *buf, uint32_t size, uint32_t *ret_length, uint64_t *ret_next) {
        uint64_t head, tail, header;
        uint32_t length;

        if (l->broken)
                return LANE_E_BROKEN;
        /* relaxed: only azpard stores head.  A worker could (it maps the page), so it is checked all the same
         */
        head = atomic_load_explicit(&l->shared->head, memory_order_relaxed);
        /* acquire: pairs with the release in lane_write() */
        tail = atomic_load_explicit(&l->shared->tail, memory_order_acquire);
        if (!indices_are_sound(l, head, tail)) {
                l->broken = true;
                return LANE_E_BROKEN;
        }
        if (head == tail)
                return LANE_E_EMPTY;

        /* relaxed: ordered by tail; one load, so that what is checked is what is used */
        header = atomic_load_explicit(header_at(l, head), memory_order_relaxed);
        length = (uint32_t) header;
        if (length > size || lane_record_bytes(length) > tail - head) {
                l->broken = true;
                return LANE_E_BROKEN;
        }
        get_bytes(l, head + LANE_HEADER_BYTES, buf, length);
        *ret_length = length;
        *ret_next = head + lane_record_bytes(length);
        return crc32c(buf, length) == (uint32_t) (header >> 32) ? 0 : LANE_E_BAD_DATA;
}

void lane_release(struct lane *l, uint64_t next) {
        /* release: pairs with the acquire in lane_write(); the record was copied before its bytes are given
         * away */
        atomic_store_explicit(&l->shared->head, next, memory_order_release);
}

uint64_t lane_reset(struct lane *l) {
        uint64_t n_dropped = lane_used(l);
        uint64_t tail = atomic_load_explicit(&l->shared->tail, memory_order_relaxed);

        /*
         * relaxed, all of it: no producer lives, and the next one is forked later.  Killed between the
         * stores, this leaves a lane that is still broken or sound, and is done again.
         */
        tail &= ~(uint64_t) (LANE_RECORD_ALIGN - 1);
        atomic_store_explicit(&l->shared->tail, tail, memory_order_relaxed);
        atomic_store_explicit(&l->shared->head, tail, memory_order_relaxed);
        l->broken = false;
        return n_dropped;
}

uint64_t lane_used(const struct lane *l) {
        /* acquire, so that a caller that saw a record may go on to lane_read() without a second look */
        uint64_t tail = atomic_load_explicit(&l->shared->tail, memory_order_acquire);
        /* relaxed: the caller's own index, or a number to look at */
        uint64_t head = atomic_load_explicit(&l->shared->head, memory_order_relaxed);

        return MIN(tail - head, l->size);
}
