/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A disk that fails under a mapped file, and works again: pages of the mapping are replaced by such of an
 * empty file, where any access is a real SIGBUS, and later put back.  What the file holds stays.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "common/base/guard.h"

struct fixture_disk {
        int fd; /* of the file */
        unsigned char *at;
        size_t n_bytes;
        off_t offset;
        int protection;
};

/*
 * Let accesses fail from byte @offset of the file behind @fd to its end, in this process's first mapping that
 * is writable if @fd is.
 */
static inline void fixture_disk_fail(int fd, uint64_t offset, struct fixture_disk *ret) {
        char line[512], path[256], link[64], access[8];
        unsigned long from = 0, to = 0, at = 0;
        FILE *maps = fopen("/proc/self/maps", "re");
        int empty = memfd_create("empty", MFD_CLOEXEC), skip = 0;
        char writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR ? 'w' : '-';
        ssize_t n;

        guard_install(); /* cmocka has a handler of its own for each test */
        (void) snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        assert_true(n > 0 && maps && empty >= 0);
        path[n] = '\0';
        do {
                assert_non_null(fgets(line, sizeof(line), maps)); /* it is mapped */
                line[strcspn(line, "\n")] = '\0';
                assert_int_equal(sscanf(line, "%lx-%lx %7s %lx %*s %*s %n", &from, &to, access, &at, &skip),
                                 4);
        } while (strcmp(line + skip, path) != 0 || access[1] != writable || at > offset ||
                 offset - at >= to - from);
        (void) fclose(maps);
        *ret = (struct fixture_disk){
                .fd = fd,
                .at = (unsigned char *) from + (offset - at), /* NOLINT(performance-no-int-to-ptr) */
                .n_bytes = to - from - (offset - at),
                .offset = (off_t) offset,
                .protection = PROT_READ | (access[1] == 'w' ? PROT_WRITE : 0),
        };
        assert_ptr_equal(mmap(ret->at, ret->n_bytes, ret->protection, MAP_SHARED | MAP_FIXED, empty, 0),
                         ret->at);
        (void) close(empty);
}

static inline void fixture_disk_work(const struct fixture_disk *d) {
        assert_ptr_equal(mmap(d->at, d->n_bytes, d->protection, MAP_SHARED | MAP_FIXED, d->fd, d->offset),
                         d->at);
}
