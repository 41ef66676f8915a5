/* SPDX-License-Identifier: MIT */
/*
 * A checkpoint's state.json beside two small files that it vouches for.  The first byte: bit 0 makes the
 * checksum of the text right, bits 1 and 2 pick the directory's step, bit 3 gives the files other bytes.
 *
 * What is accepted is written again and comes back the same, bit for bit.  What is refused says why, names
 * the checkpoint and what to do.
 *
 * The module is included and not linked, so that state.json can be written without a network's weights.
 */
#include "common/model/checkpoint.c"

#include "tests/fuzz/fuzz.h"

static const char *const steps[4] = { "0000001000", "0000000000", "9999999999", "0000001001" };
static int folders[4], directories[4]; /* a state directory each, with the one checkpoint in it */

static void write_file(int dir_fd, const char *name, const void *bytes, size_t n) {
        int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        EXPECT(fd >= 0 && file_write_all(fd, bytes, n) == 0 && close(fd) == 0);
}

static void write_guarded(int dir_fd, const char *text) {
        for (size_t i = 0; i < N_ELEMENTS(guarded); i++)
                write_file(dir_fd, guarded[i], text, strlen(text));
}

static int make_directory(int at, const char *name) {
        int fd;

        EXPECT(mkdirat(at, name, 0700) == 0);
        fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        EXPECT(fd >= 0);
        return fd;
}

static void set_up(void) {
        for (size_t i = 0; i < N_ELEMENTS(steps); i++) {
                int fd;

                folders[i] = make_directory(fuzz_folder(), steps[i]);
                fd = make_directory(folders[i], FOLDER);
                directories[i] = make_directory(fd, steps[i]);
                (void) close(fd);
                write_guarded(directories[i], "azpar");
        }
}

static void expect_equal(const struct checkpoint *a, const struct checkpoint *b) {
        for (size_t i = 0; i < N_ELEMENTS(numbers); i++)
                EXPECT(number_of(a, &numbers[i]) == number_of(b, &numbers[i]));
        EXPECT(a->optimizer_kind == b->optimizer_kind && network_equal(&a->network, &b->network));
        EXPECT(memcmp(&a->rng, &b->rng, sizeof(a->rng)) == 0);
        /* the bits, so that NaN is equal to itself */
        EXPECT(memcmp(&a->smooth_policy, &b->smooth_policy, sizeof(double)) == 0);
        EXPECT(memcmp(&a->smooth_value, &b->smooth_value, sizeof(double)) == 0);
        EXPECT(memcmp(&a->smooth_total, &b->smooth_total, sizeof(double)) == 0);
}

static void check_accepted(unsigned k, const struct checkpoint *c) {
        struct checkpoint again;
        struct network other = c->network;
        struct error e = ERROR_INIT;
        char path[64];

        EXPECT(check_numbers(c, NULL) == 0);
        EXPECT(write_state(directories[k], c, &e) == 0);
        EXPECT(checkpoint_newest(folders[k], &c->network, &again, path, &e) == 0);
        expect_equal(c, &again);
        other.filters++;
        EXPECT(checkpoint_newest(folders[k], &other, &again, path, &e) == -EINVAL);
        fuzz_expect_text(&e, true);
}

/* The text alone, where a read behind its end is seen. */
static void check_json(const uint8_t *text, size_t n) {
        cleanup_(json_freep) cJSON *j = NULL;
        struct error e = ERROR_INIT;
        int r = json_parse_object((const char *) fuzz_guarded(text, n), n, &j, &e);

        EXPECT(r == 0 ? cJSON_IsObject(j) : r == -EBADMSG);
        if (r < 0)
                fuzz_expect_text(&e, true);
}

static void run(unsigned flags, const uint8_t *bytes, size_t n) {
        unsigned k = flags >> 1 & 3;
        struct checkpoint c;
        struct error e = ERROR_INIT;
        uint8_t *text = malloc(n + 1);
        char path[64] = "";
        int r;

        EXPECT(text);
        memcpy(text, bytes, n);
        if (flags & 1 && n >= N_CRC_PREFIX) {
                char prefix[N_CRC_PREFIX + 1];

                (void) snprintf(prefix, sizeof(prefix), "{\"crc32c\":\"%08x\",",
                                crc32c(text + N_CRC_PREFIX, n - N_CRC_PREFIX));
                memcpy(text, prefix, N_CRC_PREFIX);
        }
        write_file(directories[k], "state.json", text, n);
        if (flags & 8)
                write_guarded(directories[k], "zebra");
        check_json(text, n);
        free(text);
        memset(&c, 0xa5, sizeof(c));
        r = checkpoint_newest(folders[k], NULL, &c, path, &e);
        if (r == 0) {
                EXPECT(strcmp(path + strlen(FOLDER) + 1, steps[k]) == 0);
                check_accepted(k, &c);
        } else {
                EXPECT(r == -EBADMSG && strstr(e.text, steps[k]) && !*path);
                fuzz_expect_text(&e, true);
        }
        if (flags & 8)
                write_guarded(directories[k], "azpar");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        int fd;

        if (n == 0 || n > STATE_MAX + 64)
                return 0;
        if (!folders[0])
                set_up();
        fd = fuzz_next_fd();
        run(bytes[0], bytes + 1, n - 1);
        EXPECT(fuzz_next_fd() == fd);
        return 0;
}
