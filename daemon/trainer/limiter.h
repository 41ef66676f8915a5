/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * limiter: how many samples may be trained for those that were inserted.
 *
 * Runs in azpar-trainer.  It keeps one number, the samples that may still be
 * trained: every sample that enters the window adds `ratio`, every sample
 * trained takes one away.  So over a whole run, with n samples inserted:
 *
 *         trained <= ratio * n + slack
 *
 * The other direction, workers that outrun the trainer, is azpard's to slow down
 * (throttle_workers).
 *
 * After a start:
 *
 *   fresh      slack, and `ratio` for each sample that the window holds already (imported ones
 *              as well as those that were played before the trainer was ready)
 *   resumed    what the checkpoint had left, and `ratio` for each sample that was inserted since then
 *
 * So stopping and starting is no way to a second slack, and since the number never is below zero nor a
 * function of anything but the checkpoint and what came later, no memory can block a
 * trainer: whatever is inserted lets it go on (P6; reverb issue 103 is the counterexample).
 *
 * The number is bounded by twice the slack plus `ratio` times the window: samples that have left the window
 * unused cannot be trained any more.  A small window, ratio and slack would make that less than one step, and
 * nothing could ever be trained; so two steps are the least bound.
 */

#include <stdbool.h>
#include <stdint.h>

struct limiter {
        double ratio;
        double max;        /* bound of allowed */
        double allowed;    /* samples that may be trained now */
        uint64_t tail;     /* of the window, when it was looked at last */
        uint64_t inserted; /* samples counted since the start */
};

/* replay.ratio, replay.slack and train.batch of the configuration. */
struct limiter_rule {
        double ratio;
        uint64_t slack, batch;
};

/* What the window is like: window_first(), window_tail(), window_capacity(). */
struct limiter_window {
        uint64_t first, tail, capacity;
};

/* A fresh run. */
void limiter_start(struct limiter *l, const struct limiter_rule *rule, const struct limiter_window *w);

/*
 * A resumed run: @allowed and @tail are those of the checkpoint.  The window's tail may be behind @tail: a
 * power cut took its newest samples, which were counted before, or the whole window was lost.  Then nothing
 * is new yet; what is inserted from now on is.
 */
void limiter_resume(struct limiter *l, const struct limiter_rule *rule, const struct limiter_window *w,
                    uint64_t allowed, uint64_t tail);

/* Count what was inserted: @tail is window_tail() now. */
void limiter_insert(struct limiter *l, uint64_t tail);

/* Take @n trained samples away. Return: false, with nothing taken, if so many are not allowed. */
bool limiter_take(struct limiter *l, uint64_t n);

/* Samples that may be trained now, rounded down. */
uint64_t limiter_allowed(const struct limiter *l);
