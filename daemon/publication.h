/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Publication: a model that the trainer wrote is checked here, then announced to the workers.
 *
 *   trainer: model.safetensors, then trainer.published_generation, then the eventfd
 *   azpard:  checks the file, then header.generation
 *   workers: see another generation between two batches and map the file
 *
 * What does not check out is counted and shown; the last good generation stays.  What cannot be read (no
 * descriptor or memory left, a disk error) is not refused by that: it is looked at again until it can.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/segment.h"
#include "common/model/safetensors.h"

#define PUBLICATION_PATH "model.safetensors"

struct publication {
        int state_fd;                        /* borrowed */
        struct network network;              /* that a model has to have */
        struct model_info info;              /* of the file that was checked last; generation 0: none */
        uint64_t seen;                       /* published_generation that was looked at last */
        bool again;                          /* ... and could not be read */
        uint64_t announced_ns;               /* 0: nothing yet */
        uint64_t age_ns;                     /* of the model when it was announced */
        uint64_t told_ns;                    /* when the log last said that there are new weights; 0: never */
        uint64_t n_announced, n_refused;     /* by this process */
        char refused_reason[ERROR_TEXT_MAX]; /* or why it could not be read; "": the last one was good */
};

/*
 * publication_init() - check the model that an earlier run left, if any
 *
 * Return: 0, also when there is none (info.generation is 0 then); a negative errno with a text that says what
 * to do.
 */
must_check_ int publication_init(struct publication *p, int state_fd, const struct network *want,
                                 struct error *e);

/* Tell the workers of the model in p->info, if any. */
void publication_announce(struct publication *p, struct segment *s);

/*
 * publication_poll() - look whether the trainer published, and check and announce it
 * @again: try once more to read what could not be read before; to be given about once a second
 *
 * Return: true if there is a new generation.
 */
bool publication_poll(struct publication *p, struct segment *s, bool again);

/* How long ago the announced model was made. */
uint64_t publication_age_ns(const struct publication *p, uint64_t now_ns);
