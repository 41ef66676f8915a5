/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Status: what azpard knows, as the JSON object that azparctl and others read,
 * and as the one line that systemd shows.
 *
 * It only reads: from memory, never from disk or /proc, so a reply takes well under a millisecond.
 */

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/config.h"
#include "common/base/error.h"
#include "common/exchange/segment.h"
#include "common/exchange/window.h"
#include "daemon/children.h"
#include "daemon/intake.h"
#include "daemon/publication.h"
#include "daemon/rates.h"
#include "daemon/refill.h"
#include "daemon/usage.h"
#include "daemon/window_sync.h"

/* Where the status comes from; all borrowed. */
struct status_sources {
        const char *instance, *state_path;
        const struct config *config;
        const struct segment *segment;
        const struct children *children;
        const struct intake *intake;
        const struct window *window;
        const struct window_sync *sync;
        const struct disk *disk;
        const struct refill *refill;
        const struct publication *publication;
        const struct rates *rates;
        const struct usage *usage;
        uint64_t started_ns;
        uint64_t checkpoint_ns; /* when checkpoint_step last changed; 0: no checkpoint */
        unsigned n_desired;
        bool stopping;
};

#define STATUS_REASON_MAX 256

/*
 * status_state() - the state in one word: starting, filling, training, limited, paused, degraded or stopping
 * @ret_reason: why; "" where the word says it all
 */
const char *status_state(const struct status_sources *s, char ret_reason[STATUS_REASON_MAX]);

/* Whether something keeps azpar from all of its work, and what; @ret_reason "" if nothing does. */
bool status_is_degraded(const struct status_sources *s, char ret_reason[STATUS_REASON_MAX]);

/* The whole status, new and owned by the caller. NULL: out of memory. */
cJSON *status_build(const struct status_sources *s, uint64_t now_ns);

/* "generation 42, 1.2M samples, 14.3 games/s, loss 2.31"; in front of it the state, unless it is "training" */
void status_line(const struct status_sources *s, char *ret, size_t size);
