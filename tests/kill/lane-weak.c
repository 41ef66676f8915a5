/* SPDX-License-Identifier: MIT */
/* The lane with its release stores weakened: the kill test must find it out. */
#define STORE_BUFFER_WEAK
#include "tests/kill/store-buffer-lane.h"
