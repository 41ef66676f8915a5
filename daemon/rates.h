/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Rates: the workers' and the trainer's counters, added up over their
 * processes, and how fast they grew in about the last ten seconds.
 *
 * The counters lie in shared memory and are foreign: a jump that no worker can
 * make is left out, and one that falls starts anew.
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/segment.h"

enum rate { RATE_GAMES, RATE_SAMPLES, RATE_SIMULATIONS, RATE_EVALUATIONS, RATE_SPILLED, RATE_N_ };

#define RATES_ALL SEGMENT_MAX_WORKERS /* in place of a slot: the sum of all */

struct rates;

must_check_ int rates_new(struct rates **ret);
void rates_free(struct rates *r);
DEFINE_CLEANUP(struct rates *, rates_free)

/* Bring the totals up to date with the counters of @s. */
void rates_refresh(struct rates *r, const struct segment *s);

/* The same, and remember them for the rates: to be called about once a second. */
void rates_tick(struct rates *r, const struct segment *s, uint64_t now_ns);

/* Take up the last of a dead worker's counters. The next process in the slot counts from 0. */
void rates_finish_slot(struct rates *r, const struct segment *s, uint32_t slot);

/* Since azpard started. @slot may be RATES_ALL. */
uint64_t rates_total(const struct rates *r, uint32_t slot, enum rate which);
double rates_per_s(const struct rates *r, uint32_t slot, enum rate which);

/* Training steps per second. */
double rates_steps_per_s(const struct rates *r);
