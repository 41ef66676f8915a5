/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * For the tests of spilling and taking back: a state directory, whole games that follow from their identity,
 * and batch files written and read.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/rng.h"
#include "common/exchange/batch_file.h"
#include "common/exchange/sample.h"
#include "common/exchange/spill_folder.h"
#include "common/games/game.h"

#define FIXTURE_NOBODY 65534

static inline struct game *fixture_game(unsigned name) {
        struct error e = ERROR_INIT;
        struct config c;
        struct game *g;

        config_defaults(&c);
        c.game_name = name;
        if (game_new(&c, &g, &e) < 0)
                fail_msg("%s", e.text);
        return g;
}

/* Fills @path, a template for mkdtemp(). Return: a descriptor of the new folder, which everybody may write.
 */
static inline int fixture_folder(char *path) {
        int fd;

        assert_non_null(mkdtemp(path));
        assert_int_equal(chmod(path, 0777), 0);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

static inline int fixture_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

static inline void fixture_remove(const char *path) {
        assert_int_equal(nftw(path, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/*
 * From now on file modes count for us, or no longer: root becomes nobody for the file system alone.
 */
static inline void fixture_obey_modes(bool on) {
        if (geteuid() == 0)
                (void) setfsuid(on ? FIXTURE_NOBODY : 0);
}

/*
 * One random game, the same for the same identity: samples @first, and with ascending sequence numbers.
 * @ret has room for g->max_plies samples. Return: how many.
 */
static inline unsigned fixture_play(const struct game *g, struct sample_id first, struct sample *ret) {
        uint16_t legal[GAME_MAX_MOVES];
        uint8_t mover[GAME_MAX_PLIES];
        struct game_state s;
        unsigned n = 0;
        struct rng r;

        rng_seed(&r, first.slot * 1000003 + first.incarnation, first.sequence);
        for (g->start(g, &s); !s.over; n++) {
                unsigned n_legal = g->legal(g, &s, legal);

                memset(&ret[n], 0, sizeof(ret[n]));
                ret[n].id = first;
                ret[n].id.sequence += n;
                ret[n].generation = rng_below(&r, 1000);
                ret[n].root_value = (float) (2 * rng_double(&r) - 1);
                ret[n].weight = 0.25f * (float) rng_below(&r, 5);
                ret[n].ply = s.ply;
                ret[n].n_visits = (uint16_t) n_legal;
                for (unsigned i = 0; i < n_legal; i++)
                        ret[n].visits[i] =
                                (struct sample_visit){ legal[i], (uint16_t) (1 + rng_below(&r, 200)) };
                g->encode(g, &s, ret[n].planes);
                mover[n] = s.to_move;
                g->apply(g, &s, legal[rng_below(&r, n_legal)]);
        }
        for (unsigned i = 0; i < n; i++)
                ret[i].outcome = (int8_t) game_value(&s, mover[i]);
        return n;
}

/* All that is in use of two samples is equal, the identity aside. */
static inline void fixture_assert_same_content(const struct game *g, const struct sample *a,
                                               const struct sample *b) {
        assert_int_equal(a->generation, b->generation);
        assert_memory_equal(&a->root_value, &b->root_value, sizeof(float));
        assert_memory_equal(&a->weight, &b->weight, sizeof(float));
        assert_int_equal(a->outcome, b->outcome);
        assert_int_equal(a->ply, b->ply);
        assert_memory_equal(a->planes, b->planes, GAME_PLANES_BYTES(g));
        assert_int_equal(a->n_visits, b->n_visits);
        assert_memory_equal(a->visits, b->visits, a->n_visits * sizeof(a->visits[0]));
}

static inline void fixture_assert_equal(const struct game *g, const struct sample *a,
                                        const struct sample *b) {
        assert_int_equal(a->id.slot, b->id.slot);
        assert_int_equal(a->id.incarnation, b->id.incarnation);
        assert_int_equal(a->id.sequence, b->id.sequence);
        fixture_assert_same_content(g, a, b);
}

/* The folders on the way to "spill/worker_3/x" that are missing. */
static inline void fixture_make_parents(int dir_fd, const char *path) {
        char part[256];

        for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
                (void) snprintf(part, sizeof(part), "%.*s", (int) (slash - path), path);
                if (mkdirat(dir_fd, part, 0777) == 0)
                        assert_int_equal(fchmodat(dir_fd, part, 0777, 0), 0);
                else
                        assert_int_equal(errno, EEXIST);
        }
}

static inline void fixture_write_file(int dir_fd, const char *path, const char *text, size_t n) {
        int fd;

        fixture_make_parents(dir_fd, path);
        fd = openat(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, n), n);
        (void) close(fd);
}

/* The text of a batch file of @n samples, as workers write it; to be freed. */
static inline char *fixture_batch_text(const struct game *g, const struct sample *samples, size_t n,
                                       uint64_t origin, size_t *ret_n) {
        char *text = malloc(n * (batch_file_sample_max_bytes(g) + 2) + 3);
        size_t at = 0;

        assert_non_null(text);
        text[at++] = '[';
        for (size_t i = 0; i < n; i++) {
                if (i > 0) {
                        text[at++] = ',';
                        text[at++] = '\n';
                }
                at += batch_file_write_sample(g, &samples[i], origin, false, text + at);
        }
        text[at++] = ']';
        text[at++] = '\n';
        *ret_n = at;
        return text;
}

static inline void fixture_write_batch(const struct game *g, int dir_fd, const char *path,
                                       const struct sample *samples, size_t n, uint64_t origin) {
        size_t n_bytes;
        char *text = fixture_batch_text(g, samples, n, origin, &n_bytes);

        fixture_write_file(dir_fd, path, text, n_bytes);
        free(text);
}

/* The whole text of a file; to be freed. */
static inline char *fixture_read_file(int dir_fd, const char *path, size_t *ret_n) {
        int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
        struct stat st;
        char *text;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        text = calloc(1, (size_t) st.st_size + 1);
        assert_non_null(text);
        assert_int_equal(read(fd, text, (size_t) st.st_size), st.st_size);
        (void) close(fd);
        *ret_n = (size_t) st.st_size;
        return text;
}

/* All samples of a batch file, in its order. Return: how many; @max is too few for none of ours. */
static inline size_t fixture_read_batch(const struct game *g, int dir_fd, const char *path,
                                        struct batch_file_item *ret, size_t max) {
        struct error e = ERROR_INIT;
        struct batch_file_reader reader;
        size_t n, at = 0, n_used, n_items = 0;
        char *text = fixture_read_file(dir_fd, path, &n);
        int r;

        batch_file_reader_init(&reader, g);
        for (;; n_items++) {
                assert_true(n_items < max);
                r = batch_file_read(&reader, text + at, n - at, true, &n_used, &ret[n_items], &e);
                if (r < 0)
                        fail_msg("%s: %s", path, e.text);
                at += n_used;
                if (r == BATCH_FILE_E_END)
                        break;
        }
        free(text);
        return n_items;
}

static inline bool fixture_exists(int dir_fd, const char *path) {
        return faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Names in a folder, "." and ".." aside; 0 if it is not there. */
static inline size_t fixture_n_names(int dir_fd, const char *path) {
        int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *d;
        size_t n = 0;

        while (dir && (d = readdir(dir)))
                n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
        if (dir)
                (void) closedir(dir);
        return n;
}
