/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Runs of azpard with one fault each, and what prepares them.  A run arms the rig, makes azpard do one thing,
 * disarms it, and complains about whatever is not as it must be.
 */

#include "tests/fault/rig.h"

#define RUNS_QUICK 20  /* speed of azpard's clock: its seconds need not be ours */
#define RUNS_FAST  100 /* the same, where a run waits for its timers */

/* @n_games more from each worker. */
void runs_want(struct rig *r, uint64_t n_games);
bool runs_is_committed(struct rig *r);
/* Start azpard on what is there, without faults; it must serve. */
void runs_start(struct rig *r);
/* The same, and it must stop well; then the proof. */
void runs_prove_by_restart(struct rig *r);

/* Starts: an empty directory; one that a killed azpard left, with games in the lanes that are not in the
 * window. */
void runs_prepare_empty(struct rig *r);
void runs_prepare_killed(struct rig *r);
void runs_start_once(struct rig *r, uint64_t at, uint32_t way);

void runs_prepare_stop(struct rig *r);
void runs_stop_once(struct rig *r, uint64_t at, uint32_t way);  /* by SIGTERM */
void runs_stop_asked(struct rig *r, uint64_t at, uint32_t way); /* on the control socket */

/* While running. */
void runs_begin(struct rig *r);
void runs_begin_reload(struct rig *r);
void runs_drain(struct rig *r, uint64_t at, uint32_t way);
void runs_spill(struct rig *r, uint64_t at, uint32_t way);
void runs_import(struct rig *r, uint64_t at, uint32_t way);
void runs_publish(struct rig *r, uint64_t at, uint32_t way);
void runs_checkpoint(struct rig *r, uint64_t at, uint32_t way);
void runs_control(struct rig *r, uint64_t at, uint32_t way);
void runs_reload(struct rig *r, uint64_t at, uint32_t way);
void runs_children(struct rig *r, uint64_t at, uint32_t way);
void runs_ticks(struct rig *r, uint64_t at, uint32_t way);
void runs_end(struct rig *r);
