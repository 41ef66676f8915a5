/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * heart: tells azpard that the trainer lives.
 *
 * Runs in azpar-trainer, as a thread of its own, from before the first call of libtorch until the end.  A
 * training step cannot be interrupted and may be long (128x10 on 15x15 with a batch of 256 takes about 10 s
 * on one core of 117 GFLOP/s, 256x20 on 19x19 with one of 4096 more than half an hour), and so may be loading
 * libtorch's CUDA libraries or a checkpoint from a slow disk: longer than the silence after which azpard
 * calls a child crashed.  So this thread beats for the main one.
 *
 * A stopped or frozen process has a stopped heart, so what is left for it to find out is a main thread that
 * hangs: inside libtorch, the GPU's driver or a file system.  For that the main thread tells its progress,
 * and the heart falls silent when there was none for HEART_STEPS times the longest step so far, and
 * HEART_MIN_NS at least.  Before the first step has ended nobody knows how long one is, and a bound that is
 * too short would kill a legal configuration again and again: it is then HEART_MAX_NS, which is also the most
 * at any time.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attr.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/exchange/segment.h"

#define HEART_STEPS  20
#define HEART_MIN_NS (15 * 60 * NS_PER_S)
#define HEART_MAX_NS (24 * 3600 * NS_PER_S)

struct heart;

/* Begin to beat in @page, which must outlive the heart. Return: 0 or a negative errno with a text. */
must_check_ int heart_new(struct segment_trainer *page, struct heart **ret, struct error *e);

/* Stop and free. */
void heart_free(struct heart *h);
DEFINE_CLEANUP(struct heart *, heart_free)

/* The main thread got somewhere. */
void heart_progress(struct heart *h);

/* It has ended a training step that began at the last progress: that is how long one takes. */
void heart_step(struct heart *h);

/* How long the main thread may be without progress if the longest step took @longest_step_ns (0: none yet).
 */
uint64_t heart_patience_ns(uint64_t longest_step_ns);
