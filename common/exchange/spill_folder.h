/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where spill files lie: spill/worker_<N>/batch_<NNNNNN>.json of the state directory, the names of the program that
 * azpar replaces, so that a whole data folder of its can be dropped in.
 *
 *   spill/worker_3/batch_000017.json.tmp   being written by worker 3
 *   spill/worker_3/batch_000017.json       committed; azpard takes it in and removes it
 *   spill/rejected/                        what azpard could not read, each with a .reason
 *
 * Workers write, azpard reads and removes; azparctl reads other folders of the same form.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/error.h"

#define SPILL_FOLDER            "spill"
#define SPILL_FOLDER_REJECTED   "spill/rejected"
#define SPILL_FOLDER_TEMPORARY  ".tmp"
#define SPILL_FOLDER_NAME_MAX   64
#define SPILL_FOLDER_NUMBER_MAX UINT64_C(999999999999999999) /* what a name can say */

/* "worker_3", "batch_000017.json" */
void spill_folder_worker(uint64_t slot, char ret[SPILL_FOLDER_NAME_MAX]);
void spill_folder_name(uint64_t number, char ret[SPILL_FOLDER_NAME_MAX]);

/* Is @name just what the above make of a number of at most 18 digits? Gives it. */
bool spill_folder_parse_worker(const char *name, uint64_t *ret);
bool spill_folder_parse_name(const char *name, uint64_t *ret);

/* Open worker @slot's folder, making it durably where it is missing. Return: a descriptor or a negative errno. */
must_check_ int spill_folder_make(int state_fd, uint64_t slot);

/* Remove the temporary files in folder @fd; nobody may be writing one. Return: 0 or a negative errno. */
must_check_ int spill_folder_clean(int fd);

/* The same in all workers' folders of the state directory; none of them may be running. */
must_check_ int spill_folder_clean_all(int state_fd);

struct spill_folder_content {
        uint64_t n_files, n_bytes;
        uint64_t next_number; /* above all that are there */
};

/* Is @fd still the folder that spill_folder_make() would open?  Somebody may have removed it or moved it away. */
bool spill_folder_is_in_place(int state_fd, uint64_t slot, int fd);

/* Look at all files of folder @fd. Return: 0; -EOVERFLOW: no number is above theirs; another negative errno. */
must_check_ int spill_folder_look(int fd, struct spill_folder_content *ret);
