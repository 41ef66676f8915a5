/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whole files: replaced atomically, mapped read-only or read into memory.
 *
 * Paths are relative to a directory descriptor (AT_FDCWD: to the working
 * directory), so that the state directory is opened once.
 */

#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"

/* A whole file, mapped read-only or copied; an empty file is { NULL, 0 }. */
struct file_map {
        const unsigned char *bytes;
        size_t n_bytes;
};

#define FILE_MAP_NULL ((struct file_map){ NULL, 0 })

/*
 * file_map_open() - map a regular file read-only
 *
 * Anything but a regular file is refused.  azpar replaces its files by rename; if somebody else writes over
 * the file in place, the mapping changes, and what was cut off kills its reader with SIGBUS.  A process that
 * must outlive that takes file_read().
 *
 * Return: 0; -ENOENT (and others) with a text.
 */
must_check_ int file_map_open(int dir_fd, const char *path, struct file_map *ret, struct error *e);

/*
 * file_read() - copy a regular file of at most @max bytes into private memory
 *
 * Whatever happens to the file afterwards, the copy stays.
 *
 * Return: 0; -EBADMSG: it is larger; -EAGAIN: it became shorter meanwhile; what file_map_open() returns; each
 * with a text.
 */
must_check_ int file_read(int dir_fd, const char *path, uint64_t max, struct file_map *ret, struct error *e);

/* Of either; does nothing with FILE_MAP_NULL. */
void file_map_close(struct file_map *m);

/* One piece of a file to be written. */
struct file_part {
        const void *bytes;
        size_t n_bytes;
};

/*
 * file_replace() - replace a file atomically and durably
 *
 * Writes @parts one after the other to "PATH.tmp", fsyncs, renames over @path
 * and fsyncs the directory: a reader or a power cut sees the old content or
 * the new, whole.
 *
 * Return: 0 or a negative errno with a text; on failure @path is untouched and the temporary file is gone.
 */
must_check_ int file_replace(int dir_fd, const char *path, const struct file_part *parts, size_t n_parts,
                             struct error *e);

/* Write all of @n bytes to @fd, however often the kernel writes less. Return: 0 or a negative errno. */
must_check_ int file_write_all(int fd, const void *bytes, size_t n);

/* fsync() the directory that holds @path. */
must_check_ int file_sync_directory(int dir_fd, const char *path, struct error *e);

/* The entries of the directory @fd from the first one on, which a dup() of it would not give. Return: NULL with errno. */
DIR *file_list(int fd);
static inline void closedirp(DIR **dir) {
        if (*dir)
                (void) closedir(*dir);
}
