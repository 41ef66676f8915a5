/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Rig: one azpard with inject.so in it and the children of child.c beside it, a state directory to run on,
 * and what can be asked of them.  For the scenarios; runs in the driver, one thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/base/config.h"
#include "common/games/game.h"
#include "common/model/network.h"
#include "tests/fault/fault.h"

struct rig {
        const char *folder; /* temporary: azpard and its children, azpar.conf, all below */
        char state[512];    /* state directory */
        char template[512]; /* a copy of one, rig_keep() */
        char instance[64];
        char log[512]; /* azpard's stderr since it was started */
        struct fault_control *control, *kept;
        struct config config;
        struct game *game;
        struct network network;
        pid_t pid;          /* of azpard; 0: not running */
        int status;         /* of waitpid(), when it ended */
        bool armed, failed; /* rig_disarm() */
        uint32_t n_ways;    /* that the call has which failed */
        uint64_t n_calls;   /* counted between rig_arm() and rig_disarm() */
        uint64_t n_imports,
                n_imported; /* files, and samples in them, that were imported into this directory */
        unsigned patience_s;
        unsigned n_complaints;
        bool quiet;           /* complaints are counted, not printed: one is expected */
        const char *scenario; /* for complaints */
};

/* @folder holds azpard, azpar-worker, azpar-trainer, inject.so, azpar.conf and an empty folder "disk". */
void rig_init(struct rig *r, const char *folder);

void rig_deinit(struct rig *r);

/* What is wrong goes here: printed with the fault that was in and the end of azpard's log, and counted. */
void rig_complain(struct rig *r, const char *format, ...) printf_(2, 3);

/* The state directory, the segment and the control block: emptied, kept as they are, brought back. */
void rig_empty(struct rig *r);
void rig_keep(struct rig *r);
void rig_bring_back(struct rig *r);

/* Calls of @classes are counted from now on, and number @at fails in its @way'th way; 0: none fails. */
void rig_arm(struct rig *r, uint32_t classes, uint64_t at, uint32_t way);
/* Nothing is counted any more. Return: whether a call has failed since rig_arm(). */
bool rig_disarm(struct rig *r);

void rig_start(struct rig *r);

/*
 * Wait until @is(@r) is true.
 * Return: 0; -ECHILD: azpard has ended meanwhile; -ETIMEDOUT, after a complaint.
 */
int rig_wait(struct rig *r, const char *what, bool (*is)(struct rig *r));

/* Whether azpard has ended, or was not started. */
bool rig_has_ended(struct rig *r);
/* If it has not. */
void rig_signal(struct rig *r, int number);
/* Wait for azpard's end; one that does not end is killed, after a complaint. */
void rig_wait_end(struct rig *r);
/* SIGTERM, and it must end well. */
void rig_stop(struct rig *r);
/* SIGKILL, and its children die with it. */
void rig_kill(struct rig *r);

/* It ended by itself: that must have been with an exit status and a line that says why. */
void rig_check_refusal(struct rig *r);

/* Connect to the control socket. Return: a descriptor or a negative errno. */
int rig_connect(struct rig *r);
/* Send a line on @fd and wait for one. Return: length of the answer; negative errno, also when it is dropped.
 */
int rig_exchange(int fd, const char *request, char *answer, size_t size);
/* Both, on a connection of its own. Return: whether the answer has "ok":true. */
bool rig_ask(struct rig *r, const char *request, char *answer, size_t size);
/* Have azpard take in the file at @path. Return: as rig_ask(). */
bool rig_import(struct rig *r, const char *path, char *answer, size_t size);
/* A request that must work, and soon: nothing fails now. */
void rig_must(struct rig *r, const char *request);

/* Conditions. */
bool rig_is_settled(struct rig *r); /* all wanted games are committed and in the window, models published */
bool rig_is_serving(struct rig *r); /* that, and it answers */
/* Generation that azpard announced to the workers; 0: none or no segment. */
uint64_t rig_generation(struct rig *r);

/*
 * proof.c: everything that was committed is in the window, in order, once, and whole; the model and the
 * newest checkpoint are whole. Complains if not. azpard must not write meanwhile. Return: samples in the
 * window.
 */
uint64_t rig_prove(struct rig *r);
/* Samples in the window's file; 0: there is none. */
uint64_t rig_n_samples(struct rig *r);
/* Samples committed in all, for certain. */
uint64_t rig_n_committed(struct rig *r);
