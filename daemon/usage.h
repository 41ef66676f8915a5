/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Usage: memory of the children and room on disk, looked up now and then and
 * remembered, since the kernel takes milliseconds for it and a status reply must not wait.
 */

#include <stdint.h>
#include "common/base/error.h"
#include "daemon/children.h"
#include "daemon/statedir.h"

struct usage_memory {
        uint64_t pss_bytes; /* its share of shared pages included */
        uint64_t private_dirty_bytes;
};

struct usage {
        struct usage_memory memory[CHILDREN_MAX_WORKERS + 1]; /* by child number; 0: not known */
        struct statedir_use disk;
        uint64_t window_bytes;                        /* that the window's file takes on disk */
        uint64_t disk_ns;                             /* when disk was looked up; 0: never */
        uint64_t memory_ns[CHILDREN_MAX_WORKERS + 1]; /* when memory was looked up */
        unsigned next_child;
};

/* To be called about once a second: looks up each thing every ten seconds, a young child's memory more often.
 */
void usage_tick(struct usage *u, const struct children *s, const struct statedir *state, int window_fd,
                uint64_t now_ns);

/* The memory of process @pid. Return: 0 or a negative errno. */
must_check_ int usage_read_memory(pid_t pid, struct usage_memory *ret);
