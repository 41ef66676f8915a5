/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Trouble: the log lines that say when azpard's state becomes `degraded`, and when it is over.
 *
 * They are for whoever is to be told by an alert, so there are few of them: a child that crashes once a
 * minute, or a disk that fails and works in turn, is one trouble, and not over before azpard was well for a
 * while.
 */

#include <stdbool.h>
#include <stdint.h>
#include "daemon/status.h"

#define TROUBLE_CALM_NS   (10 * NS_PER_S) /* without any, and it is over */
#define TROUBLE_REPEAT_NS (60 * NS_PER_S) /* between two lines while it lasts */

struct trouble {
        bool is_on;
        uint64_t since_ns;            /* when it began */
        uint64_t calm_ns;             /* when it was last found to be gone; 0: it is there */
        uint64_t told_ns;             /* of the last line */
        char told[STATUS_REASON_MAX]; /* which had this reason */
};

/* Once a tick. @reason: why the state is degraded; "": it is not. */
void trouble_update(struct trouble *t, const char *reason, uint64_t now_ns);
