/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Batch pass: read an open batch file from its beginning to its end, sample by sample, without waiting for the disk
 * and in constant memory.  The file's text is foreign (common/exchange/batch_file.h checks it).
 */

#include <stdint.h>
#include "common/base/disk.h"
#include "common/base/error.h"
#include "common/exchange/batch_file.h"

struct batch_pass;

enum {
        BATCH_PASS_E_SUCCESS_,
        BATCH_PASS_E_WAIT, /* the disk is reading; ready() is called when there is more */
        BATCH_PASS_E_END,  /* the array is closed, and so is the file */
};

/*
 * @g, @disk: must outlive @ret, but @disk is to be freed first if a read may be on its way
 * @ready:    the wait is over
 *
 * Return: 0 or a negative errno.
 */
must_check_ int batch_pass_new(const struct game *g, struct disk *disk, void (*ready)(void *userdata),
                               void *userdata, struct batch_pass **ret);
void batch_pass_free(struct batch_pass *p);
DEFINE_CLEANUP(struct batch_pass *, batch_pass_free)

/* Begin anew with @fd, borrowed until the end; never while the last call said WAIT. */
void batch_pass_begin(struct batch_pass *p, int fd);

/*
 * batch_pass_next() - the next sample
 *
 * Return: 0; BATCH_PASS_E_WAIT; BATCH_PASS_E_END; -EBADMSG: it is no batch file, the text says where; another negative
 * errno: it could not be read.
 */
must_check_ int batch_pass_next(struct batch_pass *p, struct batch_file_item *ret, struct error *e);

/* Bytes taken so far; after the end also a name for the content (of crc64(), below 2^53, never 0). */
uint64_t batch_pass_offset(const struct batch_pass *p);
uint64_t batch_pass_name(const struct batch_pass *p);
