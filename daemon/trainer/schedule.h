/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * schedule: the learning rate as a function of the step and nothing else, so that a resumed run continues it
 * exactly. Runs in azpar-trainer.
 *
 *   constant   learning_rate
 *   cosine     falls along half a cosine from learning_rate to schedule_factor of it at schedule_steps, and
 * stays there (Loshchilov and Hutter 2017, "SGDR", equation 5, one period) step       is multiplied by
 * schedule_factor each schedule_steps
 *
 * During the first warmup_steps the rate is also multiplied by (step + 1) / warmup_steps.
 */

#include <stdint.h>
#include "common/base/config.h"

/* Learning rate of step number @step, counted from 0. */
double schedule_rate(const struct config *c, uint64_t step);
