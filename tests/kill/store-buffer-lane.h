/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * lane.c once more, unchanged, on a machine that keeps plain stores back: its memcpy() goes into a store
 * buffer, and only a release store empties that first.  x86 has no such buffer, so a release store that was
 * weakened to relaxed would go unnoticed there; on this machine it does what it may do on others: the tail
 * overtakes the bytes.
 *
 *   STORE_BUFFER_WEAK             every release is relaxed
 *   STORE_BUFFER_KEEPS_HEADER 1   the header with the checksum is stored after the commit
 *   neither                       must work like the real one, or the other two would prove nothing
 *
 * Only for a worker: what lane_read() copies would go into the buffer as well.
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/pause_point.h"
#include "common/exchange/lane.h"

#ifndef STORE_BUFFER_KEEPS_HEADER
#define STORE_BUFFER_KEEPS_HEADER 0
#endif

#define STORE_BUFFER_ENTRIES 8
#define STORE_BUFFER_NS      (20 * UINT64_C(1000)) /* that stores are kept back at most, once the tail is out */

static struct {
        unsigned n;
        struct {
                void *to;
                const void *from;
                uint64_t word; /* from NULL: this */
                uint64_t n_bytes;
        } entries[STORE_BUFFER_ENTRIES];
} store_buffer;

/* All but the first @n_kept, which stay. */
static void store_buffer_drain(unsigned n_kept) {
        for (unsigned i = n_kept; i < store_buffer.n; i++) {
                const void *from = store_buffer.entries[i].from;

                memcpy(store_buffer.entries[i].to, from ? from : &store_buffer.entries[i].word,
                       store_buffer.entries[i].n_bytes);
        }
        store_buffer.n = MIN(store_buffer.n, n_kept);
}

static void store_buffer_put(void *to, const void *from, uint64_t word, uint64_t n_bytes) {
        unsigned i = store_buffer.n++;

        assert(i < STORE_BUFFER_ENTRIES);
        store_buffer.entries[i].to = to;
        store_buffer.entries[i].from = from;
        store_buffer.entries[i].word = word;
        store_buffer.entries[i].n_bytes = n_bytes;
}

/* Other processors see the store to the tail for a while before they see what is in the buffer. */
static void store_buffer_linger(void) {
        uint64_t end = clock_now_ns() + STORE_BUFFER_NS;

        while (store_buffer.n > 0 && clock_now_ns() < end)
                ;
        store_buffer_drain(0);
}

/* An atomic store of lane.c: of a record's header, which lane_write() stores first, or of an index. */
static void store_buffer_store(_Atomic uint64_t *to, uint64_t value, bool is_header, memory_order order) {
        if (is_header) {
                store_buffer_put((void *) (uintptr_t) to, NULL, value, sizeof(value));
                return;
        }
        if (order == memory_order_release)
                store_buffer_drain(STORE_BUFFER_KEEPS_HEADER);
        atomic_store_explicit(to, value, memory_order_release);
        store_buffer_linger();
}

#define memcpy(to, from, n) store_buffer_put(to, from, 0, n)
#undef atomic_store_explicit
#define atomic_store_explicit(to, x, order) store_buffer_store(to, x, (#to)[0] == 'h', order)
#ifdef STORE_BUFFER_WEAK
#define memory_order_release memory_order_relaxed
#endif
#include "common/exchange/lane.c"
