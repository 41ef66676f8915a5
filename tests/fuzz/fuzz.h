/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the fuzz targets share.  A target is one LLVMFuzzerTestOneInput(), linked with libFuzzer by `make
 * fuzz` and with replay.c, which runs the corpus, by `make check`.
 *
 * EXPECT() is not assert(): it must work whatever the caller's CFLAGS say.
 */

#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "common/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define EXPECT(x)                                                                                            \
        do {                                                                                                 \
                if (!(x)) {                                                                                  \
                        (void) fprintf(stderr, "%s:%d: expected: %s\n", __FILE__, __LINE__, #x);             \
                        abort();                                                                             \
                }                                                                                            \
        } while (0)

/* For our own loops over bytes: libFuzzer is to look at azpar's comparisons, not at these. */
#ifdef __clang__
#define FUZZ_UNSEEN __attribute__((__no_sanitize__("coverage")))
#else
#define FUZZ_UNSEEN
#endif

/* What is left of an input that is read as a program; beyond its end everything is 0. */
struct fuzz_input {
        const uint8_t *at;
        size_t n;
};

/* At most @n bytes. Return: how many there are. */
FUZZ_UNSEEN static inline size_t fuzz_take(struct fuzz_input *in, size_t n, const uint8_t **ret) {
        n = n < in->n ? n : in->n;
        *ret = in->at;
        in->at += n;
        in->n -= n;
        return n;
}

/* A little-endian number of @n_bytes. */
FUZZ_UNSEEN static inline uint64_t fuzz_uint(struct fuzz_input *in, size_t n_bytes) {
        const uint8_t *p;
        uint64_t x = 0;
        size_t n = fuzz_take(in, n_bytes, &p);

        while (n > 0)
                x = x << 8 | p[--n];
        return x;
}

/* A refusal says why: one line that is not empty, and that no foreign byte has got into if @is_ascii. */
FUZZ_UNSEEN static inline void fuzz_expect_text(const struct error *e, bool is_ascii) {
        size_t n = strnlen(e->text, sizeof(e->text));

        EXPECT(n > 0 && n < sizeof(e->text));
        for (size_t i = 0; i < n; i++)
                EXPECT(is_ascii ? e->text[i] >= ' ' && e->text[i] <= '~' : e->text[i] != '\n');
}

/* The number that the next descriptor will have: grows if one leaks. */
static inline int fuzz_next_fd(void) {
        int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

        EXPECT(fd >= 0 && close(fd) == 0);
        return fd;
}

/*
 * A copy of the input that ends where the process's memory ends: libraries from the distribution are not
 * instrumented, so that AddressSanitizer does not see what they read behind it.
 */
static inline const uint8_t *fuzz_guarded(const uint8_t *bytes, size_t n) {
        static uint8_t *end;
        const size_t size = 1u << 21, page = 4096;

        if (!end) {
                uint8_t *p =
                        mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

                EXPECT(p != MAP_FAILED && mprotect(p + size, page, PROT_NONE) == 0);
                end = p + size;
        }
        EXPECT(n <= size);
        if (n > 0)
                memcpy(end - n, bytes, n);
        return end - n;
}

static char fuzz_folder_path[64];

static inline int fuzz_remove_one(const char *path, const struct stat *st, int type, struct FTW *walk) {
        (void) st;
        (void) type;
        (void) walk;
        return remove(path);
}

static inline void fuzz_remove_folder(void) {
        (void) nftw(fuzz_folder_path, fuzz_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A folder in memory for what needs a path, removed at exit. Return: its descriptor, made once. */
static inline int fuzz_folder(void) {
        static int fd = -1;

        if (fd >= 0)
                return fd;
        (void) snprintf(fuzz_folder_path, sizeof(fuzz_folder_path), "%s/azpar-fuzz-XXXXXX",
                        access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        EXPECT(mkdtemp(fuzz_folder_path));
        EXPECT(atexit(fuzz_remove_folder) == 0);
        fd = open(fuzz_folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        EXPECT(fd >= 0);
        return fd;
}
