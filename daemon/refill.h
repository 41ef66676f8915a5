/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Refill: spilled files back into the replay window, each sample exactly once; and files that a client imports.
 *
 *      oldest file -> check all of it -> window_append(), game by game -> durable -> remove the file -> next one
 *
 * One file at a time.  SIGKILL between append and removal leaves a file whose samples are in the window; the
 * successor recognises them: file_intake.h has by what.
 *
 * So a file that is there twice, or is imported again, counts once for as long as the window holds it.  What is no
 * batch file of the game is set aside in spill/rejected/ with a .reason, and the rest goes on.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "common/base/disk.h"
#include "common/base/error.h"
#include "common/exchange/window.h"
#include "daemon/spill_list.h"
#include "daemon/window_sync.h"

struct refill;

struct refill_options {
        const struct game *game;
        struct window *window;
        struct window_sync *sync;
        struct disk *disk; /* to be freed before the refill */
        int state_fd;
        const struct sample_id *found; /* intake_found(): used by refill_new() alone */
        /* An import may have ended. */
        void (*changed)(void *userdata);
        void *userdata;
};

struct refill_counts {
        uint64_t files, samples, bytes; /* taken in, since azpard started */
        uint64_t duplicates;            /* samples that the window had already */
        uint64_t rejected;              /* files set aside */
};

/* All of @o must outlive @ret but for the disk. Return: 0 or a negative errno with a text. */
must_check_ int refill_new(sd_event *event, const struct refill_options *o, struct refill **ret, struct error *e);
void refill_free(struct refill *r);
DEFINE_CLEANUP(struct refill *, refill_free)

/* Look for files, and try again what failed: to be called about once a second. */
void refill_tick(struct refill *r);

/* Take in nothing more: azpard stops. */
void refill_stop(struct refill *r);

/* What came of an import. */
struct refill_import {
        uint64_t samples, duplicates, rounded; /* rounded: samples whose policy was no ratio of visits */
};

/*
 * refill_import() - take in a file that a client has opened
 * @fd: taken over, also on failure; a regular file, read from its beginning
 *
 * Return: 0 with a ticket for refill_import_done(); -EBUSY: another one is under way; a negative errno with a text.
 */
must_check_ int refill_import(struct refill *r, int fd, uint64_t *ret_ticket, struct error *e);

/* Return: 1: its samples are durable; 0: not yet; a negative errno with a text: none or only some were taken in. */
must_check_ int refill_import_done(const struct refill *r, uint64_t ticket, struct refill_import *ret,
                                   struct error *e);

/* For the status. */
const struct refill_counts *refill_counts(const struct refill *r);
struct spill_waiting refill_waiting(const struct refill *r);
double refill_samples_per_s(const struct refill *r); /* over about ten seconds */

/* The file that is being read, and how far. NULL: none. */
const char *refill_reading(const struct refill *r, uint64_t *ret_n_done, uint64_t *ret_n_bytes);

/* What keeps files from being taken in, in words; NULL: nothing. It is tried again. */
const char *refill_error(const struct refill *r);
