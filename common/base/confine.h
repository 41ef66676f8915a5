/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Confine: a worker and the trainer give up for good what they do not need.
 *
 * Both parse what others wrote (weights, checkpoints, samples) with large libraries.  Should such bytes ever
 * take a process over, it is still held by three things that nothing in it can undo:
 *
 *   no_new_privs   no program that it could start gives it more rights
 *   seccomp        it has only the system calls of the table in confine.c: threads, but no processes and no
 *                  programs; datagrams to local sockets such as the journal's, but no network, and no
 *                  stream, so that it cannot command azpard over the control socket; no signals to others
 *   Landlock       it opens files for writing in the state directory alone (and /dev/null), and looks into
 *                  no other process (/proc/PID/mem), where the kernel has Landlock (5.13 and later); from 6.7
 *                  on no TCP, from 6.12 on no signals and no abstract sockets outside.  Reading is not
 *                  limited: libraries look at /proc, /sys, /etc, and load others that may lie anywhere.
 *
 * What is left to it: all of the state directory and of the shared memory (which azpard checks as foreign
 * bytes), reading what its user may read, and the machine's time and memory.  Memory may be made executable
 * after it was written, since oneDNN's JIT (in libtorch as well) compiles its kernels at run time.
 *
 * What is not in the table gets ENOSYS, as from a kernel that does not have it: the C library and others then
 * take their older way (clone3 -> clone, faccessat2 -> faccessat), and a run of weeks does not die of a call
 * that a new version makes.  What must be refused for sure is named too, and gets EPERM.
 *
 * io_uring does its work beside the filter: a ring could open files and connect sockets that the filter
 * refuses to its process.  Hence a worker makes its ring before it is confined, disk.c restricts the ring to
 * the six operations that azpar uses, and no other ring can be made afterwards.  Landlock holds for what the
 * ring does as well.  The trainer has none.
 *
 * azpar-match and azparctl are not confined: both are commands that a person runs with the person's own
 * rights on files that the person names, reading and writing wherever these lie, and end after minutes.
 * azpard must start processes; the unit's sandbox is for it.
 *
 * Under a sanitizer what the leak checker needs to stop the threads is allowed as well.
 */

#include <stdbool.h>
#include "common/base/error.h"

enum confine_role {
        CONFINE_WORKER,
        CONFINE_TRAINER,
        CONFINE_TRAINER_GPU, /* as well: the drivers' device nodes, ioctls and local sockets */
};

/* Whether this machine has the device nodes of a GPU driver (NVIDIA, AMD) in /dev. */
bool confine_finds_gpu(void);

/*
 * confine() - to be called once, before the first foreign byte is read
 * @state_fd: the state directory
 *
 * The filter holds for all threads, whenever they were started.  Landlock holds for the calling thread and
 * those that it starts, so there should be no others yet; ones that a library started when it was loaded
 * (OpenBLAS' pool) have the filter alone.
 *
 * Takes a few milliseconds, nearly all of it in libseccomp.
 *
 * Return: 0; a negative errno with a text: the kernel refused a part; what could be done is done, and the
 * process can go on.
 */
must_check_ int confine(enum confine_role role, int state_fd, struct error *e);
