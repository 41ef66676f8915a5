/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Pause points: PAUSE_POINT(LANE_BEFORE_TAIL) names a place at which the kill test can end or stop the
 * process that passes it.  The names are in pause_points.inc.
 *
 * Without -DAZPAR_PAUSE_POINTS (the Makefile's VARIANT=pause) it is nothing at all.  With it, the
 * environment's AZPAR_PAUSE_FILE names a file that holds a struct pause_table, which the test and all
 * processes that it starts map: the test arms one point, and the process that passes it for the k-th time
 * sends itself the signal.
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

enum pause_point {
        PAUSE_NONE,
#define POINT(name, way, text) PAUSE_##name,
#include "common/base/pause_points.inc"
#undef POINT
        PAUSE_N_POINTS_,
};

struct pause_table {
        /* written by the test; point last (release), pairs with the acquire in pause_point_pass() */
        _Atomic uint32_t point;      /* enum pause_point; PAUSE_NONE: none is armed. Cleared by who fires. */
        _Atomic uint32_t signal;     /* SIGKILL or SIGSTOP */
        _Atomic uint32_t generation; /* of this arming */
        /* counted down by whoever passes the armed point; who takes it to 0 fires */
        _Atomic int32_t n_left;
        /* written by who fires, the generation last (release), before the signal */
        _Atomic uint32_t fired_pid;
        _Atomic uint32_t fired_generation;
};

static_assert(ATOMIC_INT_LOCK_FREE == 2, "a lock inside an atomic does not cross processes");

#ifdef AZPAR_PAUSE_POINTS
#define PAUSE_POINT(name) pause_point_pass(PAUSE_##name)
#else
#define PAUSE_POINT(name) ((void) 0)
#endif

/* NULL: there is no AZPAR_PAUSE_FILE. */
extern struct pause_table *pause_table;

/* The armed point is passed: fire if it is our turn. */
void pause_point_reached(void);

static inline void pause_point_pass(enum pause_point p) {
        /* acquire: pairs with the test's release, so that signal and n_left are of this arming */
        if (pause_table && atomic_load_explicit(&pause_table->point, memory_order_acquire) == p)
                pause_point_reached();
}
