/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * learn: the network in training, from first weights to checkpoint.
 *
 * Runs in azpar-trainer.  The original's three functions and what a service needs on top:
 *
 *   learner_open()     from file or fresh
 *   learner_train()    train on samples
 *   learner_save()     save: a checkpoint, from which learner_open() goes on exactly
 *   learner_publish()  write model.safetensors for the workers
 *
 * A learner is a function of its checkpoint and of the samples it is given: on one CPU thread, a run that is
 * saved, closed and opened again gives bit for bit the weights of one that is not (P6).
 *
 * It has no clock, no shared memory and no limiter; those are the loop's (loop.h).
 */

#include <stdint.h>
#include "common/base/config.h"
#include "common/base/error.h"
#include "common/games/game.h"
#include "common/model/checkpoint.h"
#include "daemon/trainer/batch.h"
#include "daemon/trainer/torch.h"

#define LEARNER_MODEL "model.safetensors"

enum learner_origin {
        LEARNER_FRESH,
        LEARNER_FROM_MODEL, /* a model file but no checkpoint: its weights and step, everything else fresh */
        LEARNER_RESUMED,    /* from the newest checkpoint */
};

struct learner;

/*
 * learner_open() - from file or fresh
 * @c, @g:      must outlive the learner
 * @state_fd:   the state directory, which must outlive the learner
 *
 * A checkpoint of the other kind of optimiser resumes with fresh moments (learner_warning() says so). Nothing
 * in the state directory is touched.
 *
 * Return: 0; -EBADMSG (a file is damaged; nothing is overwritten) and -EINVAL (one is of another network, or
 * a device that is not there) need the user; -ENOMEM; -EIO.  All with a text.
 */
must_check_ int learner_open(const struct config *c, const struct game *g, int state_fd, struct learner **ret,
                             struct error *e);
void learner_free(struct learner *l);
DEFINE_CLEANUP(struct learner *, learner_free)

enum learner_origin learner_origin(const struct learner *l);

/* What the user should know about how it was opened; NULL: nothing. */
const char *learner_warning(const struct learner *l);

/* Step, generation, samples trained, smoothed losses. Constant until the next call that is not const. */
const struct checkpoint *learner_state(const struct learner *l);

/* What the last learner_step() was like: losses, and the learning rate that the next one has. */
const struct torch_loss *learner_loss(const struct learner *l);
double learner_rate(const struct learner *l);
bool learner_on_cuda(const struct learner *l);

/*
 * learner_step() - one training step on samples drawn from @source
 * @gone:       grows by the draws that could not be used
 *
 * Return: 0; BATCH_E_NO_SAMPLES (no step was made); negative errno with a text; -EDOM: the loss is not
 * finite.
 */
must_check_ int learner_step(struct learner *l, const struct batch_source *source, uint64_t *gone,
                             struct error *e);

/*
 * learner_train() - train on samples: @n_steps steps on batches drawn from @samples
 *
 * Return: as learner_step().
 */
must_check_ int learner_train(struct learner *l, const struct sample *samples, size_t n_samples,
                              uint64_t n_steps, struct error *e);

/*
 * learner_save() - write a checkpoint
 * @window_tail, @allowed: the window's tail and the limiter's number at this step
 *
 * Return: 0 or a negative errno with a text; the older checkpoints are whole in any case. -EDOM: the weights
 * are not finite; -EOVERFLOW: a counter is larger than a checkpoint may have.
 */
must_check_ int learner_save(struct learner *l, uint64_t window_tail, uint64_t allowed, struct error *e);

/* Remove all checkpoints but the newest train.keep. Return: as checkpoint_prune(). */
must_check_ int learner_prune(const struct learner *l, struct error *e);

/*
 * A generation that was published before, as someone saw: later ones are above it.  One that no file may have
 * never was published, and is not believed.
 */
void learner_raise_generation(struct learner *l, uint64_t generation);

/* Write model.safetensors with the next generation. Return: as learner_save(); on failure the generation
 * stays. */
must_check_ int learner_publish(struct learner *l, struct error *e);
