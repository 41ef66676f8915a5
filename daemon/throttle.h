/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Throttle: when to let the workers wait for a trainer that falls behind
 * replay.ratio (replay.throttle_workers).
 *
 * Counted from where a trainer's process began to train, so that neither the
 * samples gathered before that nor an earlier run's imbalance can block anybody.
 */

#include <stdbool.h>
#include <stdint.h>

struct throttle {
        double ratio; /* samples to be trained per sample inserted */
        double slack; /* samples trained by which the trainer may fall behind */
        bool counting, on;
        uint64_t base_inserted, base_trained;
};

/* The trainer does not train: workers go on, and the counting starts anew with it. */
void throttle_reset(struct throttle *t);

/*
 * throttle_update() - decide anew
 * @inserted, @trained: samples ever inserted into the window and ever trained; the latter is foreign
 *
 * Return: true if workers should wait.  On above the slack, off again below half of it.
 */
bool throttle_update(struct throttle *t, uint64_t inserted, uint64_t trained);
