/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * lane.c once more, under other names and with every release weakened to relaxed: what ThreadSanitizer has to
 * complain about in test-lane, so that its silence about the real one means something.
 */

#include <stdatomic.h>
#include "common/exchange/lane.h"

int weak_lane_write(struct lane *l, const void *payload, uint32_t n);
int weak_lane_read(struct lane *l, unsigned char *buf, uint32_t size, uint32_t *ret_length, uint64_t *ret_next);
void weak_lane_release(struct lane *l, uint64_t next);
uint64_t weak_lane_reset(struct lane *l);
uint64_t weak_lane_used(const struct lane *l);

#define memory_order_release memory_order_relaxed
#define lane_write           weak_lane_write
#define lane_read            weak_lane_read
#define lane_release         weak_lane_release
#define lane_reset           weak_lane_reset
#define lane_used            weak_lane_used
#include "common/exchange/lane.c"
#undef memory_order_release
#undef lane_write
#undef lane_read
#undef lane_release
#undef lane_reset
#undef lane_used
