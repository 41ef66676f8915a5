/* SPDX-License-Identifier: MIT */
/*
 * azpar.conf: the input is the file's text, and behind a byte 0x1e the --set options, one a line.
 *
 * What is accepted comes back exactly from its own dump, and gives a game or a reason why not.  What is
 * refused says why and leaves the result alone.
 *
 * The module is included and not linked, for a smaller limit.
 */
#include "common/base/config.h"

/* Buffers of 1 MiB, which AddressSanitizer has to mark, would take most of the time. */
#undef CONFIG_FILE_MAX
#define CONFIG_FILE_MAX 8192u
#include "common/base/config.c"

#include "common/exchange/sample.h"
#include "common/games/game.h"
#include "tests/fuzz/fuzz.h"

#define MAX_SETTINGS 8

static int text_fd = -1;

/* The configuration's text, to be read by descriptor or by path. */
static const char *write_text(const uint8_t *bytes, size_t n) {
        static char path[64];

        if (text_fd < 0) {
                text_fd = memfd_create("azpar.conf", MFD_CLOEXEC);
                EXPECT(text_fd >= 0);
                (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", text_fd);
        }
        EXPECT(ftruncate(text_fd, 0) == 0);
        EXPECT(pwrite(text_fd, bytes, n, 0) == (ssize_t) n);
        return path;
}

/* Split @text, which is changed. Return: how many. */
static size_t split_lines(char *text, const char *ret[MAX_SETTINGS]) {
        size_t n = 0;
        char *state;

        for (char *s = strtok_r(text, "\n", &state); s && n < MAX_SETTINGS; s = strtok_r(NULL, "\n", &state))
                ret[n++] = s;
        return n;
}

static void check_accepted(const struct config *c) {
        cleanup_(game_freep) struct game *g = NULL;
        cleanup_(fd_closep) int fd = -1;
        struct error e = ERROR_INIT;
        struct config again;
        int r;

        EXPECT(config_to_memfd(c, &fd) == 0);
        memset(&again, 0xff, sizeof(again));
        EXPECT(config_read_fd(fd, &again, &e) == 0);
        EXPECT(memcmp(c, &again, sizeof(*c)) == 0);

        r = game_new(c, &g, &e);
        EXPECT(r == 0 || r == -EINVAL);
        if (r < 0)
                fuzz_expect_text(&e, true);
        else
                EXPECT(g->max_plies > 0 && g->max_plies <= GAME_MAX_PLIES &&
                       sample_max_bytes(g) <= 4096 - 16);
}

/* A refusal: has a text, and left @c as it @was. */
static void check_refused(int r, const struct config *c, const struct config *was, const struct error *e) {
        EXPECT(r < 0);
        fuzz_expect_text(e, false);
        EXPECT(memcmp(c, was, sizeof(*c)) == 0);
}

/* As azpard reads it: by its path, twice, and with settings. */
static void read_by_path(const char *path, const char *const *settings, size_t n_settings,
                         const struct config *by_fd) {
        struct config was, by_path;
        struct error e = ERROR_INIT;
        int r;

        memset(&was, 0xa5, sizeof(was));
        by_path = was;
        r = config_read(path, settings, n_settings, &by_path, &e);
        if (r < 0)
                check_refused(r, &by_path, &was, &e);
        else if (!by_fd || memcmp(by_fd, &by_path, sizeof(was)) != 0) {
                check_accepted(&by_path);
                /* settings only add, and only a profile changes what the text means */
                EXPECT(!by_fd || n_settings > 0 || by_path.search_profile != PROFILE_AZPAR);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        const uint8_t *separator = n > 0 ? memchr(bytes, 0x1e, n) : NULL;
        size_t n_text = separator ? (size_t) (separator - bytes) : n, n_settings = 0;
        const char *settings[MAX_SETTINGS], *path = write_text(bytes, n_text);
        struct config by_fd, was;
        cleanup_(freep) char *lines = NULL;
        struct error e = ERROR_INIT;
        int fd = fuzz_next_fd(), r;

        memset(&was, 0xa5, sizeof(was));
        by_fd = was;
        r = config_read_fd(text_fd, &by_fd, &e);
        if (r == 0)
                check_accepted(&by_fd);
        else
                check_refused(r, &by_fd, &was, &e);
        if (separator) {
                lines = strndup((const char *) separator + 1, n - n_text - 1);
                EXPECT(lines);
                n_settings = split_lines(lines, settings);
        }
        /* it takes long: for one length in four, and all with settings */
        if (n_settings > 0 || n_text % 4 == 0)
                read_by_path(path, settings, n_settings, r == 0 ? &by_fd : NULL);
        EXPECT(fuzz_next_fd() == fd);
        return 0;
}
