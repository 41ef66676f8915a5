/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Clocks.  Everything that measures a duration or a timeout uses clock_now_ns();
 * clock_unix_us() is for people and file names only, since it may jump.
 */

#include <stdint.h>
#include <time.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

/* CLOCK_MONOTONIC: the same for all processes of this boot. */
static inline uint64_t clock_now_ns(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * NS_PER_S + (uint64_t) t.tv_nsec;
}

/* Microseconds since 1970. */
static inline uint64_t clock_unix_us(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_REALTIME, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

static inline void clock_sleep_ns(uint64_t ns) {
        struct timespec t = { .tv_sec = (time_t) (ns / NS_PER_S), .tv_nsec = (long) (ns % NS_PER_S) };

        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}
