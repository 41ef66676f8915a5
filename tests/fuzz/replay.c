/* SPDX-License-Identifier: MIT */
/*
 * replay FOLDER: run a fuzz target over every file of its corpus, without libFuzzer.  Part of `make check`:
 * what fuzzing found once is tried in every build and under every sanitizer.
 */
#include <dirent.h>
#include <errno.h>
#include "common/base/file.h"
#include "tests/fuzz/fuzz.h"

static int is_input(const struct dirent *d) {
        return d->d_name[0] != '.';
}

int main(int argc, char **argv) {
        struct dirent **entries;
        int n, fd;

        if (argc != 2) {
                (void) fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
                return 2;
        }
        fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        n = fd < 0 ? -1 : scandirat(fd, ".", &entries, is_input, alphasort);
        if (n <= 0) {
                (void) fprintf(stderr, "no inputs in '%s': %s\n", argv[1], n < 0 ? strerror(errno) : "empty");
                return 1;
        }
        for (int i = 0; i < n; i++) {
                struct file_map input = FILE_MAP_NULL;
                struct error e = ERROR_INIT;
                uint8_t *copy;

                /* before it runs, so that a crash has a name */
                (void) fprintf(stderr, "%s/%s\n", argv[1], entries[i]->d_name);
                if (file_map_open(fd, entries[i]->d_name, &input, &e) < 0) {
                        (void) fprintf(stderr, "%s\n", e.text);
                        return 1;
                }
                /* on the heap and of the exact size, where AddressSanitizer sees a read behind it */
                copy = malloc(input.n_bytes ? input.n_bytes : 1);
                EXPECT(copy);
                if (input.n_bytes > 0)
                        memcpy(copy, input.bytes, input.n_bytes);
                (void) LLVMFuzzerTestOneInput(copy, input.n_bytes);
                free(copy);
                file_map_close(&input);
                free(entries[i]);
        }
        free(entries);
        (void) close(fd);
        (void) printf("%d inputs\n", n);
        return 0;
}
