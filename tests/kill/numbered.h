/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Numbered games: samples that follow from their identity alone, so that whoever reads one can tell what it
 * has to be, and the ledger in which workers write down what they committed.
 *
 * A worker's games are one after the other: game at sequence q has numbered_length() samples, the next one
 * begins behind it.  A sample's ply is its place in the game.
 *
 * The shared file (AZPAR_KILL_FILE) outlives every process but the test:
 *
 *   worker: commits a game, then writes its entry, then n_written      test: reads the entries, then n_read
 *
 * A worker that is killed between commit and entry leaves one game that is committed and not written down: it
 * may be in the window or not yet, but never half and never twice.
 */

#include <stdatomic.h>
#include <stdint.h>
#include "common/exchange/sample.h"
#include "common/games/game.h"

#define NUMBERED_SLOTS 8u
#define NUMBERED_PLIES 16u /* samples of the longest game */
#define NUMBERED_ENTRIES                                                                                     \
        512u /* games that a worker may be ahead of the test, so that the window is never overtaken */

struct numbered_entry {
        uint64_t incarnation, sequence;
        uint32_t n_samples;
        uint32_t is_spilled; /* 1: by a spill file */
};

struct numbered_ledger {
        _Alignas(64) _Atomic uint64_t
                n_written; /* by the slot's worker; release, pairs with the test's acquire */
        _Alignas(64) _Atomic uint64_t n_read; /* by the test; release, pairs with the worker's acquire */
        _Atomic uint32_t
                idle; /* by the worker: it is held, and all that it let go is committed and written down */
        struct numbered_entry entries[NUMBERED_ENTRIES];
};

struct numbered_shared {
        struct numbered_ledger ledgers[NUMBERED_SLOTS];
        _Alignas(64) _Atomic uint32_t
                hold;             /* by the test: workers commit nothing new, and write out what they have */
        _Atomic uint32_t pace_us; /* by the test: how long a worker rests after each game */
        /* by busy-trainer, after the call that made it durable returned */
        _Alignas(64) _Atomic uint64_t saved_step, published_generation;
        _Atomic uint64_t n_saved, n_published;
        _Atomic uint64_t n_lost_files; /* it found an older checkpoint or model than that, or other content */
};

/* Map the file that AZPAR_KILL_FILE names. Return: it, or NULL. */
struct numbered_shared *numbered_map(void);

/* Samples of the game that begins at @sequence: 1 .. NUMBERED_PLIES. */
unsigned numbered_length(uint64_t incarnation, uint64_t sequence);

/* Sample number @ply of its game, with identity @id. */
void numbered_sample(const struct game *g, struct sample_id id, unsigned ply, struct sample *ret);

/* Are both the same, all but the slot, which says which way it came? */
bool numbered_equal(const struct sample *a, const struct sample *b);
