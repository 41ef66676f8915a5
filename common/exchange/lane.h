/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Lane: single-producer single-consumer byte ring in shared memory, one per worker slot.
 *
 *   producer: the worker process that holds the slot       consumer: azpard
 *
 * A record in the ring:
 *
 *      0        4        8                      8 + length      padded to 8
 *      +--------+--------+----------------------+-----------+
 *      | length | crc32c | payload ...          | 0 ...     |   little-endian
 *      +--------+--------+----------------------+-----------+
 *
 * head and tail count bytes since the segment was made and never wrap; only addressing
 * masks them, and a record may wrap around the end of the data.  The producer
 * writes the whole record, then publishes it with one release store to tail:
 * that store is the commit (P1).  What a dead producer left unpublished is
 * never seen, and its successor in the slot goes on at tail.
 *
 * azpard trusts neither tail nor the bytes: see lane_read().
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attr.h"
#include "common/base/error.h"

#define LANE_LINE         64
#define LANE_RECORD_ALIGN 8
#define LANE_HEADER_BYTES 8

struct lane_shared {
        /* written by the producer alone (and by lane_reset, when no producer lives) */
        _Alignas(LANE_LINE) _Atomic uint64_t tail;
        /* written by the consumer alone */
        _Alignas(LANE_LINE) _Atomic uint64_t head;
};

static_assert(sizeof(struct lane_shared) == 2 * LANE_LINE, "shared layout changed: bump SEGMENT_VERSION");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock inside an atomic does not cross processes");

/* One side's private handle. */
struct lane {
        struct lane_shared *shared;
        unsigned char *data;
        uint64_t size; /* bytes of data, a power of two; private, never re-read from the segment */
        bool broken;   /* consumer: LANE_E_BROKEN was found; stays until lane_reset() */
};

enum {
        LANE_E_SUCCESS_,
        LANE_E_FULL,     /* producer: no room until the consumer moves on */
        LANE_E_EMPTY,    /* consumer: nothing published */
        LANE_E_BAD_DATA, /* consumer: the record's checksum is wrong; lane_release() skips this record */
        LANE_E_BROKEN,   /* the indices or the framing lie: lane_reset(), after the producer's death */
};

/* Bytes that a payload of @n bytes takes in the ring. */
static inline uint64_t lane_record_bytes(uint64_t n) {
        return (LANE_HEADER_BYTES + n + LANE_RECORD_ALIGN - 1) & ~(uint64_t) (LANE_RECORD_ALIGN - 1);
}

/*
 * lane_write() - append and commit one record, all or nothing (producer)
 *
 * Return: 0, LANE_E_FULL, LANE_E_BROKEN, or -EMSGSIZE if it can never fit.
 */
must_check_ int lane_write(struct lane *l, const void *payload, uint32_t n);

/*
 * lane_read() - copy the oldest record out (consumer)
 * @buf:        private memory for the payload, @size bytes; filled before it is checked, so that the producer
 *              cannot change what was checked
 * @ret_length: payload bytes
 * @ret_next:   pass to lane_release() once the payload is safe elsewhere
 *
 * A length larger than @size or than what is published is LANE_E_BROKEN, and stays so until lane_reset().
 * After LANE_E_BAD_DATA the bytes in @buf are what was there, for a report.
 *
 * Return: 0, LANE_E_EMPTY, LANE_E_BAD_DATA (*ret_next set), LANE_E_BROKEN.
 */
must_check_ int lane_read(struct lane *l, unsigned char *buf, uint32_t size, uint32_t *ret_length,
                          uint64_t *ret_next);

/* Give the space up to @next back to the producer (consumer). */
void lane_release(struct lane *l, uint64_t next);

/*
 * Throw everything away: head = tail, both made sound again. Consumer, and only while no producer lives.
 * Return: bytes dropped, as lane_used() counts them.
 */
uint64_t lane_reset(struct lane *l);

/* Published bytes that wait for the consumer; at most l->size, whatever the indices say. Either side. */
uint64_t lane_used(const struct lane *l);
