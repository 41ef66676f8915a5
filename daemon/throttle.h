/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Throttle: when to let the workers wait for a trainer that falls behind
 * replay.ratio (replay.throttle_workers).
 *
 * Counted from where a trainer's process began to train, or last had nothing left
 * that it was allowed to train: neither the samples gathered before that nor an
 * earlier run's imbalance can block anybody.
 *
 * Workers that wait for the trainer while the trainer waits for them would do so for
 * ever.  The trainer steps once a whole batch is allowed, so the slack is at least
 * two batches: what is allowed while workers wait is never less than one.  And a
 * trainer that says that it waits is never behind, whatever the counts say.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/exchange/segment.h"

struct throttle {
        double ratio; /* samples to be trained per sample inserted */
        double slack; /* samples trained by which the trainer may fall behind */
        bool counting, on;
        uint64_t base_inserted, base_trained;
};

/* @slack: as configured; @batch: samples of a training step. */
void throttle_init(struct throttle *t, double ratio, uint64_t slack, uint64_t batch);

/* The trainer does not run: workers go on, and the counting starts anew with it. */
void throttle_reset(struct throttle *t);

/*
 * throttle_update() - decide anew
 * @trainer: enum trainer_state of a trainer that runs; foreign
 * @inserted, @trained: samples ever inserted into the window and ever trained; the latter is foreign
 *
 * Return: true if workers should wait.  On above the slack, off again below half of it.
 */
bool throttle_update(struct throttle *t, uint32_t trainer, uint64_t inserted, uint64_t trained);
