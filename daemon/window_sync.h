/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Window sync: an fdatasync of the replay window every replay.sync_interval (P3), and sooner for who waits for it,
 * by common/base/disk.h, so that a slow disk never stalls azpard's loop.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "common/base/disk.h"
#include "common/base/error.h"
#include "common/exchange/window.h"

struct window_sync;

/*
 * window_sync_new() - sync @w for as long as @event runs and window_sync_look() is called
 * @w, @disk: must outlive @ret, but @disk is to be freed first if a sync may be on its way
 *
 * Return: 0 or a negative errno.
 */
must_check_ int window_sync_new(sd_event *event, struct window *w, uint64_t interval_us, struct disk *disk,
                                struct window_sync **ret);
void window_sync_free(struct window_sync *s);
DEFINE_CLEANUP(struct window_sync *, window_sync_free)

/* Before the loop sleeps: have what was appended synced within the interval. Costs nothing where it is under way. */
void window_sync_look(struct window_sync *s);

/* Take another interval from now on. */
void window_sync_set_interval(struct window_sync *s, uint64_t interval_us);

/* Sync what has been appended by now as soon as the disk can; while syncing fails, at the next interval. */
void window_sync_request(struct window_sync *s);

/* Call @done after each sync that worked. */
void window_sync_notify(struct window_sync *s, void (*done)(void *userdata), void *userdata);

/* 0, or the negative errno of the last sync; it is tried again every second, or every interval if that is less. */
int window_sync_error(const struct window_sync *s);
