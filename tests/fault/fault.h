/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the programs of the fault tests share: one file, mapped by all, that $AZPAR_FAULT names.
 *
 *   driver     says which call fails and how, and how many games the workers commit
 *   inject.so  in azpard: counts calls, lets one fail, and says which one it was
 *   child      as azpar-worker: notes what it committed; as azpar-trainer: publishes and saves when told to
 */

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#define FAULT_ENVIRONMENT "AZPAR_FAULT"
#define FAULT_SLOTS       2
#define FAULT_NAME_MAX    32

/* Bits of fault_control.classes: which calls are counted. */
enum {
        FAULT_ALLOC = 1 << 0,   /* malloc, calloc, realloc */
        FAULT_FILE = 1 << 1,    /* files, folders, mappings, shared memory */
        FAULT_NET = 1 << 2,     /* sockets and what the event loop stands on */
        FAULT_PROCESS = 1 << 3, /* processes and signals */
        FAULT_CHILD = 1 << 4,   /* all of these in a child, between fork and exec */
        FAULT_ALL = (1 << 5) - 1,
};

/* fault_control.trick: what happens at the call instead of its failure; the negative controls. */
enum {
        FAULT_TRICK_NONE,
        FAULT_TRICK_CRASH,   /* azpard dies of SIGABRT */
        FAULT_TRICK_HANG,    /* azpard stands still */
        FAULT_TRICK_SWALLOW, /* nothing that is stored into the window's mapping reaches the file */
};

/* Of one process in a worker's slot. Samples that were certainly committed, and those that may have been. */
struct fault_incarnation {
        _Atomic uint64_t committed; /* stored after the commit */
        _Atomic uint64_t intended;  /* stored before it */
};

#define FAULT_INCARNATIONS 16384

struct fault_control {
        /* driver */
        _Atomic uint32_t classes; /* 0: nothing is counted; stored last, with release */
        _Atomic uint32_t way;     /* the call fails in the way'th of its ways, modulo how many it has */
        _Atomic uint32_t trick;
        _Atomic uint64_t at;    /* the call that fails, counted from 1; 0: none */
        _Atomic uint32_t speed; /* how many times faster azpard's clock runs */
        _Atomic uint32_t flips; /* 1: realtime is right at every other call only */
        _Atomic int64_t realtime_shift_ns;
        _Atomic uint64_t games_wanted[FAULT_SLOTS]; /* to be committed in a slot, in all */
        _Atomic uint64_t publications_wanted;
        _Atomic uint32_t spill; /* 1: games go into spill files, one each, not into the lane */

        /* inject.so */
        _Atomic uint64_t n_calls;
        _Atomic uint64_t n_failed;
        _Atomic int32_t failed_errno;     /* 0: short, or a trick */
        _Atomic uint32_t n_ways;          /* that the call has */
        char failed_name[FAULT_NAME_MAX]; /* stored before n_failed grows */

        /* children */
        _Atomic uint64_t games[FAULT_SLOTS];
        _Atomic uint64_t publications;
        _Atomic uint64_t
                configured[FAULT_SLOTS + 1]; /* search.simulations as each child has it, the trainer last */
        struct fault_incarnation incarnations[FAULT_INCARNATIONS];
};
