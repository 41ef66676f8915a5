/* SPDX-License-Identifier: MIT */
/* Workers and cores; see cores.h.  Process: azpard. */
#include "daemon/cores.h"

#include <sched.h>

static unsigned count_cores(void) {
        cpu_set_t set;

        return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned) MAX(CPU_COUNT(&set), 1) : 1;
}

unsigned cores_n_workers(const struct config *c, unsigned n_most) {
        return MIN(c->selfplay_workers ? (unsigned) c->selfplay_workers : count_cores(), n_most);
}

unsigned cores_n_slots(const struct config *c, unsigned n_most) {
        unsigned n = c->selfplay_max_workers ? (unsigned) c->selfplay_max_workers : 2 * count_cores();

        return MIN(MAX(n, (unsigned) c->selfplay_workers), n_most);
}
