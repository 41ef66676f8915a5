/* SPDX-License-Identifier: MIT */
#pragma once

/* Cores: how many workers the configuration asks for on this machine, and how many there is to be room for. */

#include "common/base/config.h"

/* selfplay.workers, or one per core that azpard may run on; at most @n_most. */
unsigned cores_n_workers(const struct config *c, unsigned n_most);

/* selfplay.max_workers, or twice the cores; never fewer than selfplay.workers, and at most @n_most. */
unsigned cores_n_slots(const struct config *c, unsigned n_most);
