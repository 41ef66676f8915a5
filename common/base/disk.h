/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Disk I/O that nobody waits for: requests go to io_uring, and what came of them is told by a callback out of
 * disk_poll().  Used by workers (spilling) and by azpard (syncing the window, taking spilled files back).
 *
 * Where the kernel refuses io_uring, as containers often do, each request is carried out at once by the plain
 * call, and its callback comes out of the next disk_poll() all the same: the callers have one way to write.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/base/error.h"

struct disk;

/* A request, in the caller's memory until its callback has begun; what it points to as well. */
struct disk_request {
        /* @result: what the call returned (bytes, a descriptor, 0), or a negative errno. May start requests. */
        void (*done)(struct disk_request *r, int result);

        /* disk.c alone */
        struct disk_request *next;
        int result;
};

/*
 * disk_new() - a queue of requests
 * @with_event: make an eventfd for an event loop: disk_event_fd()
 * @allow_uring: false: do without io_uring, as where it is refused
 * @ret_refused: 0, or the negative errno with which the kernel refused io_uring; the caller says so once
 *
 * Return: 0 or a negative errno.
 */
must_check_ int disk_new(bool with_event, bool allow_uring, struct disk **ret, int *ret_refused);

/* Wait until nothing is pending, callbacks included. */
void disk_drain(struct disk *d);

/* Waits for what is on its way; its callbacks never come.  Accepts NULL. */
void disk_free(struct disk *d);
DEFINE_CLEANUP(struct disk *, disk_free)

/* Readable when disk_poll() has something to tell; -1 without @with_event. */
int disk_event_fd(const struct disk *d);
bool disk_uses_uring(const struct disk *d);

/* Make the callbacks of what is done.  Never waits. */
void disk_poll(struct disk *d);

/* Requests whose callback has not come yet. */
unsigned disk_n_pending(const struct disk *d);

/* As openat(2) (close-on-exec in any case), pread(2), pwrite(2), fsync(2) or fdatasync(2), renameat2(2), unlinkat(2). */
void disk_open(struct disk *d, struct disk_request *r, int dir_fd, const char *path, int flags, mode_t mode);
void disk_read(struct disk *d, struct disk_request *r, int fd, void *bytes, size_t n, uint64_t offset);
void disk_write(struct disk *d, struct disk_request *r, int fd, const void *bytes, size_t n, uint64_t offset);
void disk_sync(struct disk *d, struct disk_request *r, int fd, bool only_data);
void disk_rename(struct disk *d, struct disk_request *r, int old_dir_fd, const char *old_path, int new_dir_fd,
                 const char *new_path, unsigned flags);
void disk_unlink(struct disk *d, struct disk_request *r, int dir_fd, const char *path);
