/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * loop: what azpar-trainer does all day: train while the rate limiter lets it, publish, save, and obey
 * azpard's control words, all of it told in the trainer's page of the segment.
 *
 * Between two steps it looks at the header: stop, pause, checkpoint_request.  What it reads there
 * is another process's word, so nothing worse than waiting or saving follows from any value.
 *
 * A publication or checkpoint that fails (disk full, P4) is no reason to stop:
 * training goes on, the page says why (save_errno), and it is tried again a few seconds later.  Only at the
 * end, when there is no later, does it make loop_run() fail.
 */

#include <signal.h>
#include "common/base/config.h"
#include "common/base/error.h"
#include "common/exchange/segment.h"
#include "common/exchange/window.h"
#include "daemon/trainer/heart.h"
#include "daemon/trainer/learn.h"

/* Everything is borrowed and outlives loop_run(). */
struct loop_params {
        const struct config *config;
        const struct segment *segment; /* header and trainer are used */
        const struct window *window;
        struct learner *learner;
        struct heart *heart;
        int wake_fd;                             /* azpard's eventfd */
        const volatile sig_atomic_t *terminated; /* set by a signal handler: leave once it is saved */
};

/*
 * loop_run() - publish at once, then train until asked to stop, then save
 *
 * header.stop is azpard's own end: one try to save, and azpard's patience is limited.  *terminated alone is for
 * a new configuration: while the checkpoint cannot be written, training goes on and nothing is given up.
 *
 * Return: 0 after the last checkpoint; a negative errno with a text.
 */
must_check_ int loop_run(const struct loop_params *p, struct error *e);
