/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Checkpoints: directories checkpoints/<step, 10 digits>/ with
 *
 *   model.safetensors   weights
 *   optimizer.bin       libtorch's archive of the optimiser, opaque here
 *   state.json          the rest of what makes resuming exact (P6), and the others' sizes and crc32c
 *
 * A checkpoint is written to checkpoints/.tmp-<step>/, synced, and renamed, so one that has its final name is
 * whole.  azpard checks the newest one at start (without libtorch); the trainer writes, loads and
 * prunes them.
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/base/rng.h"
#include "common/model/safetensors.h"

#define CHECKPOINT_VERSION 1u

struct checkpoint {
        uint64_t step;
        uint64_t generation;      /* last one published */
        uint64_t samples_trained; /* in all */
        uint64_t samples_allowed; /* what the rate limiter would still have let be trained */
        uint64_t window_tail;     /* samples in the window's history at this step */
        uint64_t optimizer_kind;  /* OPTIMIZER_ADAM, OPTIMIZER_SGD */
        double smooth_policy, smooth_value, smooth_total;
        struct rng rng; /* of the trainer's draws */
        struct network network;
};

/*
 * checkpoint_newest() - find and check the newest checkpoint
 *
 * Return: 0 with *ret and its directory's name ("checkpoints/0000001000"); -ENOENT: there is none; -EBADMSG
 * (damaged: names file, reason and what to do: move that directory away to resume from the one before);
 * -EINVAL: it is of another network.
 */
must_check_ int checkpoint_newest(int state_fd, const struct network *want, struct checkpoint *ret,
                                  char ret_path[64], struct error *e);

/*
 * checkpoint_write() - write a checkpoint durably and atomically
 * @optimizer:  bytes of optimizer.bin
 *
 * One of the same step is replaced.
 *
 * Return: 0; -EOVERFLOW: a counter is larger than checkpoint_newest() would accept; -EDOM as model_write(); a
 * negative errno of the file system.  With a text, and the checkpoints before are whole.
 */
must_check_ int checkpoint_write(int state_fd, const struct checkpoint *c, const float *const *tensors,
                                 const void *optimizer, size_t n_optimizer_bytes, struct error *e);

/*
 * Remove all but the newest @keep (at least 1), and leftovers of unfinished ones.  What is not a directory
 * with a checkpoint's or leftover's name is not looked at.
 *
 * Return: 0, or the negative errno with the text of the first thing that could not be removed; all others
 * are.
 */
must_check_ int checkpoint_prune(int state_fd, uint64_t keep, struct error *e);
