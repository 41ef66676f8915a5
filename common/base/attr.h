/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Attributes and ownership.  A variable that owns something is declared with
 * cleanup_(x_freep) and handed over with TAKE_PTR or TAKE_FD; there is no goto
 * for cleanup in azpar.  Used by every process.
 */

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup_(f)        __attribute__((__cleanup__(f)))
#define must_check_        __attribute__((__warn_unused_result__))
#define printf_(fmt, args) __attribute__((__format__(__printf__, fmt, args)))

/* Number of elements of an array (not of a pointer). */
#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define TAKE_PTR(p)                                                                                          \
        __extension__({                                                                                      \
                __typeof__(p) *pp_ = &(p);                                                                   \
                __typeof__(p) v_ = *pp_;                                                                     \
                *pp_ = NULL;                                                                                 \
                v_;                                                                                          \
        })

#define TAKE_FD(fd)                                                                                          \
        __extension__({                                                                                      \
                int *fdp_ = &(fd);                                                                           \
                int fd_ = *fdp_;                                                                             \
                *fdp_ = -1;                                                                                  \
                fd_;                                                                                         \
        })

/* For cleanup_(): free what a `T *` variable points to. */
static inline void freep(void *p) {
        free(*(void **) p);
}

/* For cleanup_(): close a descriptor unless it is negative. */
static inline void fd_closep(int *fd) {
        if (*fd >= 0)
                (void) close(*fd);
}

/* Makes xp() for cleanup_() out of a destructor `void x(T *)` that accepts NULL. */
#define DEFINE_CLEANUP(type, f)                                                                              \
        static inline void f##p(type *p) {                                                                   \
                f(*p);                                                                                       \
        }
