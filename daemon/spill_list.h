/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Spill list: which spilled files wait to be taken back, and which is next.
 *
 * Looking is done in steps, since after a day without azpard there may be very many files.  The next file is the
 * oldest one, but never a file before another one of the same folder with a lower number: a worker's samples ascend
 * from file to file, and that order is what they are recognised by.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"
#include "common/exchange/spill_folder.h"

#define SPILL_ENTRY_PATH_MAX (3 * SPILL_FOLDER_NAME_MAX)

struct spill_list;

struct spill_entry {
        uint64_t folder; /* worker_<folder> */
        uint64_t number; /* batch_<number>.json */
        uint64_t n_bytes;
        uint64_t unix_us; /* when it was last written */
};

/* What the last look found, less what was done since. */
struct spill_waiting {
        uint64_t n_files, n_bytes;
        uint64_t oldest_unix_us; /* 0: there is none */
        uint64_t n_ignored;      /* names in the folders that are none of ours */
};

enum {
        SPILL_LIST_E_DONE, /* 0 */
        SPILL_LIST_E_MORE, /* the time was up */
};

/* @state_fd: borrowed. Return: 0 or a negative errno. */
must_check_ int spill_list_new(int state_fd, struct spill_list **ret);
void spill_list_free(struct spill_list *l);
DEFINE_CLEANUP(struct spill_list *, spill_list_free)

/*
 * spill_list_look() - go on with looking for files, or begin to
 *
 * Return: SPILL_LIST_E_DONE: the list is that of now; SPILL_LIST_E_MORE; a negative errno with a text: a folder could
 * not be read, and the list is that of the others; or none could, and it is as it was.
 */
must_check_ int spill_list_look(struct spill_list *l, uint64_t budget_ns, struct error *e);

/* The next file; not removed from the list. Return: whether there is one. */
bool spill_list_next(const struct spill_list *l, struct spill_entry *ret);

/* The next file is gone: taken in or set aside. */
void spill_list_done(struct spill_list *l);

/* The next file cannot be read now: nothing more of its folder until the next look. */
void spill_list_block(struct spill_list *l);

struct spill_waiting spill_list_waiting(const struct spill_list *l);

/* "spill/worker_3/batch_000017.json", relative to the state directory. Return: @ret. */
const char *spill_entry_path(const struct spill_entry *entry, char ret[SPILL_ENTRY_PATH_MAX]);
