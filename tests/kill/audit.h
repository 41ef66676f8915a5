/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Audit: follows the tail of a replay window and the workers' ledgers, and counts what must not be.
 *
 * It maps the window's file read-only, as the trainer does, so it outlives every azpard.  Each sample that
 * appears is compared with the one that its identity calls for; each one that a worker wrote down must
 * appear, and none twice.
 */

#include <stdint.h>
#include "common/exchange/window.h"
#include "tests/kill/numbered.h"

struct audit;

struct audit_counts {
        uint64_t samples; /* seen in the window */
        uint64_t written_down;
        uint64_t missing; /* written down and not seen (yet): at the end, lost */
        uint64_t twice;
        uint64_t torn;      /* unreadable, of another content than its identity says, or half a game */
        uint64_t spilled;   /* of samples: came by way of a spill file */
        uint64_t holes;     /* unreadable, where audit_allow_holes() said so */
        uint64_t overtaken; /* left the window unseen: the test was too slow, and proves nothing */
        uint64_t slots[NUMBERED_SLOTS]; /* samples seen of each */
};

/* @shared may be NULL: there are no ledgers. Return: 0 or a negative errno with a text. */
must_check_ int audit_new(const struct game *g, int window_fd, struct numbered_shared *shared,
                          struct audit **ret, struct error *e);
void audit_free(struct audit *a);
DEFINE_CLEANUP(struct audit *, audit_free)

/*
 * Let workers commit @n samples a second on average: as fast as they can, and then they wait.  azpard
 * recognises what a spill file brought for as long as the window holds it, so that should be longer than some
 * starts of azpard take.
 */
void audit_set_rate(struct audit *a, uint64_t n);

/* Look at what is new in the window and in the ledgers. */
void audit_poll(struct audit *a);

/*
 * After a power cut: the samples from number @from on that are there now need not all be there, nor the whole
 * of their games; but each of them is whole, and what comes later is as always.
 */
void audit_allow_holes(struct audit *a, uint64_t from);

/* Do not look at samples below number @first. */
void audit_skip_to(struct audit *a, uint64_t first);

/*
 * Of the spilled samples that were written down: how many are not in @copy, although @first is the oldest
 * number that a copy of this window as it is now has to hold?  Their files were durable, and are removed only
 * when they are durable in the window.
 */
uint64_t audit_spilled_missing(const struct audit *a, const struct audit *copy, uint64_t first);

/* Forget which ones were spilled so far. */
void audit_forget_spilled(struct audit *a);

/* First number in the window, and number after the last one. */
uint64_t audit_first(const struct audit *a);
uint64_t audit_tail(const struct audit *a);

/* Are the workers of the first @n slots held and idle, and all they wrote down is read? */
bool audit_is_idle(const struct audit *a, unsigned n);

const struct audit_counts *audit_counts(const struct audit *a);

/* Say on stderr which samples are missing, a few of them. */
void audit_print_missing(const struct audit *a);
