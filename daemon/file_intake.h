/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * File intake: the samples of batch files into the replay window, game by game, each exactly once.
 *
 * A file comes twice, sample by sample: first all of it is checked, then it is taken.  What the window has already
 * is recognised:
 *
 *   a file of this window's own workers   by identity: a folder's files bring ascending (incarnation, sequence), and
 *                                         in the window they are marked by SAMPLE_SLOT_SPILLED
 *   any other file                        by its content: its samples are numbered in the file's order under a
 *                                         name made from its text, SAMPLE_SLOT_IMPORTED
 *
 *      begin_... -> check, check, ... -> begin_taking -> identify, take, identify, take, ... -> end
 *
 * A file may be given up anywhere: the next one begins anew.
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/batch_file.h"
#include "common/exchange/window.h"

struct file_intake;

/* What has been done with samples. */
struct file_intake_done {
        uint64_t samples;    /* came into the window */
        uint64_t duplicates; /* were there before */
};

/*
 * @g, @w: must outlive @ret
 * @found: the newest sample of each slot in the window, as window_newest() gives them; not kept
 *
 * Return: 0 or a negative errno.
 */
must_check_ int file_intake_new(const struct game *g, struct window *w, const struct sample_id *found,
                                struct file_intake **ret);
void file_intake_free(struct file_intake *f);
DEFINE_CLEANUP(struct file_intake *, file_intake_free)

/* The next file: spilled, in the folder of worker @folder, whatever a folder is called; or a client's, in none. */
void file_intake_begin_spilled(struct file_intake *f, uint64_t folder);
void file_intake_begin_import(struct file_intake *f);

/*
 * file_intake_check() - the next sample, which is only looked at
 *
 * Return: 0; -EBADMSG: it cannot be where it is, the text says why.
 */
must_check_ int file_intake_check(struct file_intake *f, const struct batch_file_item *item, struct error *e);

/*
 * file_intake_begin_taking() - all of the file is good, and comes again from its first sample on
 * @name: of its content, as batch_pass_name() makes it
 *
 * Return: 0 or a negative errno with a text.
 */
must_check_ int file_intake_begin_taking(struct file_intake *f, uint64_t name, struct error *e);

/*
 * file_intake_identify() - the next sample, checked again; gets the identity that it will have in the window
 *
 * Return as file_intake_check(): nobody promises that the file stays as it is.
 */
must_check_ int file_intake_identify(struct file_intake *f, struct batch_file_item *item, struct error *e);

/*
 * file_intake_take() - take the sample that was identified
 * @item: as it was left by file_intake_identify()
 * @done: what this did is added
 *
 * Samples come into the window when their game is whole, which shows with the next one, or with the file's end.
 *
 * Return: 0, or a negative errno: the window could not be written, and nothing has changed.
 */
must_check_ int file_intake_take(struct file_intake *f, const struct batch_file_item *item,
                                 struct file_intake_done *done);

/* All samples have been taken; the last game into the window. @done and return as file_intake_take(). */
must_check_ int file_intake_end(struct file_intake *f, struct file_intake_done *done);
