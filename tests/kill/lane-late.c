/* SPDX-License-Identifier: MIT */
/* The lane with the commit before the checksum: the kill test must find it out. */
#define STORE_BUFFER_KEEPS_HEADER 1
#include "tests/kill/store-buffer-lane.h"
