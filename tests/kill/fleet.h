/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Fleet: one azpard with its children, started, watched and killed from outside.
 *
 * Programs lie in one folder: azpard finds azpar-worker and azpar-trainer beside itself.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/base/pause_point.h"
#include "common/exchange/segment.h"
#include "tests/kill/numbered.h"

#define FLEET_CHILDREN_MAX 32
#define FLEET_PATH_MAX     512

struct fleet_child {
        pid_t pid;
        bool is_trainer;
};

struct fleet {
        char programs[FLEET_PATH_MAX]; /* folder with azpard, azpar-worker, azpar-trainer */
        char folder[FLEET_PATH_MAX];   /* for everything that is written: configuration, log, state/ */
        char state[FLEET_PATH_MAX];    /* folder/state */
        char instance[64];
        char pause_file[FLEET_PATH_MAX], kill_file[FLEET_PATH_MAX]; /* for the environment; "": none */
        pid_t pid;                                                  /* azpard's; 0: it does not run */
        uint64_t n_started;
};

/*
 * Make @folder, and the configuration in it from @settings (the text of an azpar.conf).
 * Return: 0 or a negative errno with a text.
 */
must_check_ int fleet_init(struct fleet *f, const char *programs, const char *folder, const char *settings,
                           struct error *e);

/* Start azpard; does not wait for it. Return: 0 or a negative errno with a text. */
must_check_ int fleet_start(struct fleet *f, struct error *e);

/* Has azpard ended? Then it is reaped, *ret_status is as from waitpid(), and f->pid is 0. */
bool fleet_has_ended(struct fleet *f, int *ret_status);

/* Its children that live. Return: how many. */
unsigned fleet_children(const struct fleet *f, struct fleet_child ret[FLEET_CHILDREN_MAX]);

/* 'R', 'S', 'T', ... as in /proc; 'X': there is none. */
char fleet_process_state(pid_t pid);

/* Bytes that wait in the lanes of the segment that is there now. Return: -ENOENT: there is none. */
int64_t fleet_bytes_in_lanes(const struct fleet *f);

/* Files in state/@folder with names that end in @end; -1: there is no such folder. */
int fleet_count_files(const struct fleet *f, const char *folder, const char *end);

/* Lines in the log that say what must not happen, but for those with @except in them; prints the first ones.
 */
unsigned fleet_count_complaints(const struct fleet *f, const char *except);

/* The last lines of the log, to stderr. */
void fleet_print_log(const struct fleet *f);

/* A file of @n_bytes zeros in the folder, mapped for all. Return: NULL: failed; @ret_path has FLEET_PATH_MAX
 * bytes. */
void *fleet_share(const struct fleet *f, const char *name, size_t n_bytes, char *ret_path);

/* The status' window.durable: samples that a power cut leaves. Return: -1: azpard does not answer. */
int64_t fleet_durable(const struct fleet *f);
