/* SPDX-License-Identifier: MIT */
/* When azpard becomes degraded and when that is over; see trouble.h.  Process: azpard. */
#include "daemon/trouble.h"

#include <stdio.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/log.h"

static void tell(struct trouble *t, const char *reason, uint64_t now_ns) {
        (void) snprintf(t->told, sizeof(t->told), "%s", reason);
        t->told_ns = now_ns;
        log_event(LOG_EVENT_DEGRADED, LOG_FIELDS(LOG_TEXT(REASON, reason)), "degraded: %s", reason);
}

void trouble_update(struct trouble *t, const char *reason, uint64_t now_ns) {
        if (*reason) {
                t->calm_ns = 0;
                if (!t->is_on) {
                        t->is_on = true;
                        t->since_ns = now_ns;
                        tell(t, reason, now_ns);
                } else if (strcmp(t->told, reason) != 0 && now_ns - t->told_ns >= TROUBLE_REPEAT_NS)
                        tell(t, reason, now_ns);
                return;
        }
        if (!t->is_on)
                return;
        if (!t->calm_ns)
                t->calm_ns = now_ns;
        if (now_ns - t->calm_ns < TROUBLE_CALM_NS)
                return;
        t->is_on = false;
        log_event(LOG_EVENT_RECOVERED,
                  LOG_FIELDS(LOG_TEXT(REASON, t->told),
                             LOG_NUMBER(SECONDS, (t->calm_ns - t->since_ns) / NS_PER_S)),
                  "no longer degraded; it lasted %.0f s, the last reason told: %s",
                  (double) (t->calm_ns - t->since_ns) / NS_PER_S, t->told);
}
