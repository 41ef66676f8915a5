/* SPDX-License-Identifier: MIT */
#pragma once

/* What is checked beside failing calls; each complains to the rig. */

#include "tests/fault/rig.h"

/* Negative controls: azpards that crash, hang or lose, and windows that were tampered with, must be found
 * out. */
void checks_controls(struct rig *r);

/* The clock of the day jumps by decades, before the start and while running: nobody must care. */
void checks_clocks(struct rig *r);
