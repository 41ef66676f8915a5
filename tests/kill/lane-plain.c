/* SPDX-License-Identifier: MIT */
/* The real lane on a machine with a store buffer: must work. */
#include "tests/kill/store-buffer-lane.h"
