/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Guard: access to a mapped file that may fail.
 *
 * A store or load in a mapped file for which the kernel cannot get the page (a disk that fails, a file system
 * that was made read-only or has no room for a copy on write, somebody who cut the file short) is no error
 * code but the signal SIGBUS, which kills the process.  guard_run() turns it into -EIO.
 *
 * Only for what happens inside the memory that was named, in the thread that runs: any other SIGBUS is a
 * bug and kills the process as before, with a core.
 */

#include <stddef.h>
#include "common/base/attr.h"

/*
 * Install the handler again where somebody put another one in its place (test frameworks do). What was there
 * gets what is not ours.
 */
void guard_install(void);

/*
 * guard_run() - call @f(@context), which works on the mapping at @memory
 *
 * @f may be left for good at any access to that memory: it must hold nothing then (locks, allocations,
 * descriptors), and its caller must be able to live with half of it done.  Calls may be nested, for
 * several mappings.
 *
 * About 10 ns; the first call of a process installs the handler.
 *
 * Return: what @f returned; -EIO: it was left since memory of the mapping could not be had.
 */
must_check_ int guard_run(const void *memory, size_t n_bytes, int (*f)(void *context), void *context);
