/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Plain: Monte-Carlo tree search without a network, the fixed opponent that a
 * network is measured against.
 *
 * UCT (Kocsis and Szepesvari 2006, "Bandit based Monte-Carlo planning") with one
 * uniformly random rollout a simulation and a fresh tree for every move.
 * Rewards are 1 for a win, 1/2 for a draw, 0 for a loss, and the exploration
 * constant is sqrt(2), as UCB1 (Auer et al. 2002) has it for rewards in [0, 1].
 */

#include <stdint.h>
#include "common/base/error.h"
#include "common/base/rng.h"
#include "common/games/game.h"

struct plain;

/* @g must outlive it; @simulations at least 1. Return: 0 or -ENOMEM. */
must_check_ int plain_new(const struct game *g, uint32_t simulations, struct plain **ret);
void plain_free(struct plain *p);
DEFINE_CLEANUP(struct plain *, plain_free)

/* Search @position (not over). Return: the most visited move; of equal ones the better, then the one tried
 * first. */
uint16_t plain_choose(struct plain *p, const struct game_state *position, struct rng *rng);
