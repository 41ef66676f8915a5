/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whole files: replaced atomically, mapped read-only.
 *
 * Paths are relative to a directory descriptor (AT_FDCWD: to the working
 * directory), so that the state directory is opened once.
 */

#include <stddef.h>
#include <stdint.h>
#include "common/base/error.h"

/* A read-only mapping of a whole file; an empty file maps to { NULL, 0 }. */
struct file_map {
        const unsigned char *bytes;
        size_t n_bytes;
};

#define FILE_MAP_NULL ((struct file_map){ NULL, 0 })

/*
 * file_map_open() - map a regular file read-only
 *
 * Anything but a regular file is refused.  The mapping is only safe because
 * azpar's files are replaced by rename and never truncated in place.
 *
 * Return: 0; -ENOENT (and others) with a text.
 */
must_check_ int file_map_open(int dir_fd, const char *path, struct file_map *ret, struct error *e);
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
