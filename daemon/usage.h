/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Usage: memory of the children and room on disk, looked up now and then and
 * remembered, since the kernel takes milliseconds for it and a status reply must not wait.
 * For the trainer's memory, with libtorch in it, it takes ten: that is read by way of
 * io_uring, so that the event loop does not wait either.
 */

#include <stdbool.h>
#include <stdint.h>
#include "common/base/disk.h"
#include "common/base/error.h"
#include "daemon/children.h"
#include "daemon/statedir.h"

#define USAGE_TEXT_MAX 4096 /* of /proc/PID/smaps_rollup, which has 700 bytes or so */

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

        /* usage.c alone: the look at one child's memory */
        const struct children *children;
        struct disk *reader;
        struct disk_request request;
        const struct child *child; /* NULL: none is being looked at */
        pid_t pid;                 /* its process, when the look began */
        bool paused;
        int fd;
        char text[USAGE_TEXT_MAX + 1];
        unsigned next_child;
};

/* @reader: reads the memory, and tells of it by disk_poll(). Both have to outlive @u. */
void usage_init(struct usage *u, const struct children *s, struct disk *reader);

/* After disk_free() of its reader. */
void usage_deinit(struct usage *u);

/*
 * To be called about once a second: looks up each thing every ten seconds, a young child's memory more often, and
 * that of one that has paused for long less often.
 */
void usage_tick(struct usage *u, const struct statedir *state, int window_fd, bool paused, uint64_t now_ns);

/* The memory of a process, by the @text of its /proc/PID/smaps_rollup. Return: 0 or -EPROTO. */
must_check_ int usage_parse_memory(const char *text, struct usage_memory *ret);
