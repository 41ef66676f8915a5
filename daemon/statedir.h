/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state directory and its two locks.
 *
 *   lock            flock by azpard alone, its pid inside: a second azpard finds it taken and leaves at once.
 *   children.lock   flock by azpard on a descriptor that its children inherit: it is free only when azpard
 * and all of its children are dead, so whoever gets it never races with a killed predecessor's workers.
 */

#include <limits.h>
#include <stdint.h>
#include "common/base/error.h"

struct statedir {
        char path[PATH_MAX]; /* resolved */
        int fd;
        int lock_fd;
        int children_lock_fd;
};

#define STATEDIR_INIT ((struct statedir){ .fd = -1, .lock_fd = -1, .children_lock_fd = -1 })

/*
 * statedir_open() - open the state directory, making it (0750) and its parents if they are missing
 *
 * Return: 0 or a negative errno with a text that names the directory.
 */
must_check_ int statedir_open(struct statedir *s, const char *path, struct error *e);
void statedir_deinit(struct statedir *s);

/* Take `lock`. Return: 0; -EBUSY: another azpard has it, and the text gives its pid; or another negative
 * errno. */
must_check_ int statedir_lock(struct statedir *s, struct error *e);

/*
 * statedir_lock_children() - take `children.lock`, waiting up to @timeout_ns
 *
 * Return: 0; -EBUSY: children of a killed predecessor still live; or another negative errno.
 */
must_check_ int statedir_lock_children(struct statedir *s, uint64_t timeout_ns, struct error *e);

struct statedir_use {
        uint64_t state_bytes; /* that the directory's files take on disk */
        uint64_t free_bytes;  /* left to us on that file system */
};

/* Look it up on disk: walks the directory, so not for a reply's path. */
must_check_ int statedir_use(const struct statedir *s, struct statedir_use *ret);
