/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Window sync: an fdatasync of the replay window every replay.sync_interval (P3), by io_uring, so that a slow
 * disk never stalls azpard's loop.  Where the kernel refuses io_uring, as containers often do, a plain
 * fdatasync after one warning.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "common/base/error.h"
#include "common/exchange/window.h"

struct window_sync;

/*
 * window_sync_new() - sync @w for as long as @event runs
 * @w:          must outlive @ret
 * @allow_uring: false: plain fdatasync, without the warning
 *
 * Return: 0 or a negative errno.
 */
must_check_ int window_sync_new(sd_event *event, struct window *w, uint64_t interval_us, bool allow_uring,
                                struct window_sync **ret);
void window_sync_free(struct window_sync *s);
DEFINE_CLEANUP(struct window_sync *, window_sync_free)

/* 0, or the negative errno of the last sync; it is tried again every second, or every interval if that is
 * less.
 */
int window_sync_error(const struct window_sync *s);

/* Samples [0, n) are durable. */
uint64_t window_sync_tail(const struct window_sync *s);

bool window_sync_uses_uring(const struct window_sync *s);
