/* SPDX-License-Identifier: MIT */
/*
 * Checkpoints; see checkpoint.h for the layout.
 *
 * The trainer writes, loads and prunes them; azpard checks the newest one at start.
 * It is checked on copies of its files, never on mappings: azpard must outlive
 * files that somebody writes over in place.
 *
 * Durability: each file is written and synced inside .tmp-<step>, then that
 * directory is synced, then renamed, then the directory above is synced.  So
 * a checkpoint with its final name is whole after a power cut, and what is
 * found under .tmp- is a leftover.  Removing goes the same way backwards: first
 * renamed to .tmp-, then emptied, so a kill half-way leaves no half checkpoint under a final name.
 *
 * state.json, which guards the other files by size and checksum, guards itself:
 *
 *      {"crc32c":"e3069283",<rest of the object>
 *
 * where the checksum is over <rest>.  Counters are JSON numbers (they stay below 2^53, which is checked); the
 * words of the random state use all 64 bits and are strings.
 */
#include "common/model/checkpoint.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/crc32c.h"
#include "common/base/file.h"
#include "common/base/pause_point.h"
#include "common/model/json.h"

#define FOLDER          "checkpoints"
#define STATE_FORMAT    "azpar-checkpoint"
#define STATE_MAX       (64u << 10) /* bytes of state.json; ours has about 1000 */
#define CRC_PREFIX      "{\"crc32c\":\"00000000\","
#define N_CRC_PREFIX    (sizeof(CRC_PREFIX) - 1)
#define STEP_DIGITS     10
#define NAME_BYTES      24 /* of a checkpoint's directory: a 64-bit number may have 20 digits */
#define TEMPORARY_BYTES 48 /* the same with what TEMPORARY puts in front */
#define TEMPORARY       ".tmp-"
#define N_TEMPORARY     10
#define MAX_LISTED      100000

/* The files that state.json vouches for. */
static const char *const guarded[] = { "model.safetensors", "optimizer.bin" };

/* The step if @name is a checkpoint's: exactly ten digits. */
static bool step_of(const char *name, uint64_t *ret) {
        return strlen(name) == STEP_DIGITS && json_decimal(name, MODEL_STEP_MAX, ret) == 0;
}

static int open_folder(int state_fd, DIR **ret, struct error *e) {
        int fd = openat(state_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s'", FOLDER);
        *ret = fdopendir(fd);
        if (!*ret) {
                int r = -errno;

                (void) close(fd);
                return error_errno(e, r, "could not list '%s'", FOLDER);
        }
        return 0;
}

/* Next entry but "." and "..". Return: 1 with *ret, 0 at the end, negative errno. */
static int next_entry(DIR *d, const char **ret) {
        const struct dirent *entry;

        do {
                errno = 0;
                entry = readdir(d);
                if (!entry)
                        return -errno;
        } while (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
        *ret = entry->d_name;
        return 1;
}

/* The whole numbers of state.json: one table for reading and writing, so that what is written can be read. */
static const struct number {
        const char *key;
        uint64_t max;
        size_t offset; /* in struct checkpoint */
} numbers[] = {
        { "step", MODEL_STEP_MAX, offsetof(struct checkpoint, step) },
        { "generation", MODEL_GENERATION_MAX, offsetof(struct checkpoint, generation) },
        { "samples_trained", JSON_UINT_MAX, offsetof(struct checkpoint, samples_trained) },
        { "samples_allowed", JSON_UINT_MAX, offsetof(struct checkpoint, samples_allowed) },
        { "window_tail", JSON_UINT_MAX, offsetof(struct checkpoint, window_tail) },
};

/* ---- writing state.json ---- */

/*
 * Numbers are printed here: cJSON compares with a tolerance what it has printed with 15 digits, so that a
 * double may come back as its neighbour.  A loss that is not known yet is NaN here and null there.
 */
static bool add_double(cJSON *state, const char *key, double value) {
        char text[32];

        if (!isfinite(value))
                return cJSON_AddNullToObject(state, key);
        (void) snprintf(text, sizeof(text), "%.17g", value);
        return cJSON_AddRawToObject(state, key, text);
}

static bool add_uint(cJSON *state, const char *key, uint64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIu64, value);
        return cJSON_AddRawToObject(state, key, text);
}

static bool add_hex_file(cJSON *files, const char *name, const unsigned char *bytes, size_t n) {
        cJSON *f = cJSON_AddObjectToObject(files, name);
        char text[16];

        (void) snprintf(text, sizeof(text), "%08x", crc32c(bytes, n));
        return f && add_uint(f, "bytes", n) && cJSON_AddStringToObject(f, "crc32c", text);
}

static int add_files(cJSON *state, int dir_fd, struct error *e) {
        cJSON *files = cJSON_AddObjectToObject(state, "files");

        for (size_t i = 0; i < N_ELEMENTS(guarded); i++) {
                struct file_map map = FILE_MAP_NULL;
                bool ok;
                int r;

                r = file_map_open(dir_fd, guarded[i], &map, e);
                if (r < 0)
                        return r;
                ok = map.n_bytes <= INT_MAX; /* crc32c()'s limit */
                if (!ok)
                        r = error_set(e, -EFBIG, "'%s' is %zu bytes, at most %d allowed", guarded[i],
                                      map.n_bytes, INT_MAX);
                else if (!files || !add_hex_file(files, guarded[i], map.bytes, map.n_bytes))
                        r = error_errno(e, -ENOMEM, "could not describe '%s'", guarded[i]);
                file_map_close(&map);
                if (r < 0)
                        return r;
        }
        return 0;
}

static uint64_t number_of(const struct checkpoint *c, const struct number *n) {
        return *(const uint64_t *) (const void *) ((const unsigned char *) c + n->offset);
}

/* A run counts on from what files say, so these are foreign numbers. */
static int check_numbers(const struct checkpoint *c, struct error *e) {
        for (size_t i = 0; i < N_ELEMENTS(numbers); i++)
                if (number_of(c, &numbers[i]) > numbers[i].max)
                        return error_set(e, -EOVERFLOW,
                                         "could not write a checkpoint: '%s' is %" PRIu64 ", at most %" PRIu64
                                         " allowed",
                                         numbers[i].key, number_of(c, &numbers[i]), numbers[i].max);
        return 0;
}

static bool add_numbers(cJSON *state, const struct checkpoint *c) {
        bool ok = add_uint(state, "version", CHECKPOINT_VERSION);

        for (size_t i = 0; i < N_ELEMENTS(numbers); i++)
                ok = ok && add_uint(state, numbers[i].key, number_of(c, &numbers[i]));
        return ok && add_double(state, "smooth_policy", c->smooth_policy) &&
               add_double(state, "smooth_value", c->smooth_value) &&
               add_double(state, "smooth_total", c->smooth_total);
}

static bool add_network(cJSON *state, const struct network *n) {
        cJSON *o = cJSON_AddObjectToObject(state, "network");

        return o && cJSON_AddStringToObject(o, "rules", n->rules) && add_uint(o, "planes", n->planes) &&
               add_uint(o, "rows", n->rows) && add_uint(o, "cols", n->cols) &&
               add_uint(o, "moves", n->moves) && add_uint(o, "filters", n->filters) &&
               add_uint(o, "blocks", n->blocks);
}

static bool add_rng(cJSON *state, const struct rng *rng) {
        cJSON *words = cJSON_AddArrayToObject(state, "rng");

        for (size_t i = 0; words && i < N_ELEMENTS(rng->s); i++) {
                char text[24];

                (void) snprintf(text, sizeof(text), "%" PRIu64, rng->s[i]);
                if (!cJSON_AddItemToArray(words, cJSON_CreateString(text)))
                        return false;
        }
        return words;
}

static int write_state(int dir_fd, const struct checkpoint *c, struct error *e) {
        cleanup_(json_freep) cJSON *state = cJSON_CreateObject();
        cleanup_(freep) char *text = NULL;
        char prefix[N_CRC_PREFIX + 1];
        const char *kind = c->optimizer_kind == OPTIMIZER_ADAM ? "adam" : "sgd";
        int r;

        if (!state || !cJSON_AddStringToObject(state, "format", STATE_FORMAT) || !add_numbers(state, c) ||
            !cJSON_AddStringToObject(state, "optimizer", kind) || !add_rng(state, &c->rng) ||
            !add_network(state, &c->network))
                return error_errno(e, -ENOMEM, "could not write state.json");
        r = add_files(state, dir_fd, e);
        if (r < 0)
                return r;
        text = cJSON_PrintUnformatted(state);
        if (!text)
                return error_errno(e, -ENOMEM, "could not write state.json");
        /* the checksum stands where the object's opening brace was */
        (void) snprintf(prefix, sizeof(prefix), "{\"crc32c\":\"%08x\",", crc32c(text + 1, strlen(text + 1)));
        return file_replace(dir_fd, "state.json",
                            (struct file_part[]){ { prefix, N_CRC_PREFIX }, { text + 1, strlen(text + 1) } },
                            2, e);
}

/* ---- writing and removing directories ---- */

/* Remove a directory with the files in it, if it is there.  azpar makes none inside: one there is refused. */
static int remove_directory(int folder_fd, const char *name, struct error *e) {
        cleanup_(closedirp) DIR *d = NULL;
        const char *entry;
        int fd, r;

        fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return 0;
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s/%s' to remove it", FOLDER, name);
        d = fdopendir(fd);
        if (!d) {
                r = -errno;
                (void) close(fd);
                return error_errno(e, r, "could not list '%s/%s'", FOLDER, name);
        }
        while ((r = next_entry(d, &entry)) > 0) {
                if (unlinkat(fd, entry, 0) < 0)
                        return error_errno(e, -errno, "could not remove '%s/%s/%s'", FOLDER, name, entry);
                PAUSE_POINT(PRUNE_MIDDLE);
        }
        if (r < 0)
                return error_errno(e, r, "could not list '%s/%s'", FOLDER, name);
        if (unlinkat(folder_fd, name, AT_REMOVEDIR) < 0)
                return error_errno(e, -errno, "could not remove '%s/%s'", FOLDER, name);
        return 0;
}

static int sync_folder(int folder_fd, struct error *e) {
        PAUSE_POINT(CHECKPOINT_RENAMED);
        return fsync(folder_fd) < 0 ? error_errno(e, -errno, "could not sync '%s'", FOLDER) : 0;
}

/* Give the finished directory its final name; one of the same step that is there already makes room. */
static int put_in_place(int folder_fd, const char *temporary, const char *name, struct error *e) {
        char old[TEMPORARY_BYTES];
        int r;

        if (renameat(folder_fd, temporary, folder_fd, name) == 0)
                return sync_folder(folder_fd, e);
        if (errno != EEXIST && errno != ENOTEMPTY)
                return error_errno(e, -errno, "could not rename '%s/%s' to '%s'", FOLDER, temporary, name);
        if (renameat2(folder_fd, temporary, folder_fd, name, RENAME_EXCHANGE) == 0) {
                r = sync_folder(folder_fd, e);
                if (r < 0)
                        return r;
                /* the new one is in place: an old one that stays is for checkpoint_prune() to tell */
                (void) remove_directory(folder_fd, temporary, NULL);
                return 0;
        }
        /* a file system that cannot exchange: aside with the old one first */
        (void) snprintf(old, sizeof(old), TEMPORARY "old-%s", name);
        if (renameat(folder_fd, name, folder_fd, old) < 0 ||
            renameat(folder_fd, temporary, folder_fd, name) < 0)
                return error_errno(e, -errno, "could not replace '%s/%s'", FOLDER, name);
        r = sync_folder(folder_fd, e);
        if (r < 0)
                return r;
        (void) remove_directory(folder_fd, old, NULL);
        return 0;
}

static int write_files(int dir_fd, const struct checkpoint *c, const float *const *tensors,
                       const void *optimizer, size_t n_optimizer_bytes, struct error *e) {
        const struct model_info info = { .generation = c->generation,
                                         .step = c->step,
                                         .unix_us = clock_unix_us(),
                                         .network = c->network };
        int r;

        r = model_write(dir_fd, "model.safetensors", &info, tensors, e);
        if (r < 0)
                return r;
        r = file_replace(dir_fd, "optimizer.bin", &(struct file_part){ optimizer, n_optimizer_bytes }, 1, e);
        if (r < 0)
                return r;
        return write_state(dir_fd, c, e);
}

/* .tmp-0000001000, .tmp-0000001000-1 ... */
static void temporary_name(const char *name, int i, char ret[TEMPORARY_BYTES]) {
        (void) snprintf(ret, TEMPORARY_BYTES, i == 0 ? TEMPORARY "%s" : TEMPORARY "%s-%d", name, i);
}

/* An empty directory to write @name in. A leftover of that name makes room, or another name is taken. */
static int make_temporary(int folder_fd, const char *name, char ret[TEMPORARY_BYTES], struct error *e) {
        int r = 0;

        for (int i = 0; i < N_TEMPORARY; i++) {
                temporary_name(name, i, ret);
                r = remove_directory(folder_fd, ret, e);
                if (r < 0)
                        continue;
                return mkdirat(folder_fd, ret, 0750) < 0
                               ? error_errno(e, -errno, "could not create '%s/%s'", FOLDER, ret)
                               : 0;
        }
        return r;
}

static int write_directory(int folder_fd, const char *name, const struct checkpoint *c,
                           const float *const *tensors, const void *optimizer, size_t n_optimizer_bytes,
                           struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        int r;

        fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s/%s'", FOLDER, name);
        r = write_files(fd, c, tensors, optimizer, n_optimizer_bytes, e);
        if (r < 0) {
                error_prefix(e, "%s/%s", FOLDER, name);
                return r;
        }
        if (fsync(fd) < 0)
                return error_errno(e, -errno, "could not sync '%s/%s'", FOLDER, name);
        return 0;
}

int checkpoint_write(int state_fd, const struct checkpoint *c, const float *const *tensors,
                     const void *optimizer, size_t n_optimizer_bytes, struct error *e) {
        cleanup_(fd_closep) int folder_fd = -1;
        char name[NAME_BYTES], temporary[TEMPORARY_BYTES];
        int r;

        assert(c->optimizer_kind == OPTIMIZER_ADAM || c->optimizer_kind == OPTIMIZER_SGD);
        r = check_numbers(c, e);
        if (r < 0)
                return r;
        if (mkdirat(state_fd, FOLDER, 0750) < 0) {
                if (errno != EEXIST)
                        return error_errno(e, -errno, "could not create '%s'", FOLDER);
        } else if (fsync(state_fd) < 0) {
                return error_errno(e, -errno, "could not sync the directory of '%s'", FOLDER);
        }
        folder_fd = openat(state_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder_fd < 0)
                return error_errno(e, -errno, "could not open '%s'", FOLDER);
        (void) snprintf(name, sizeof(name), "%010" PRIu64, c->step);
        r = make_temporary(folder_fd, name, temporary, e);
        if (r < 0)
                return r;
        PAUSE_POINT(CHECKPOINT_MADE);
        r = write_directory(folder_fd, temporary, c, tensors, optimizer, n_optimizer_bytes, e);
        if (r < 0) {
                (void) remove_directory(folder_fd, temporary, NULL);
                return r;
        }
        PAUSE_POINT(CHECKPOINT_BEFORE_RENAME);
        return put_in_place(folder_fd, temporary, name, e);
}

/* ---- reading ---- */

static int read_uint(const cJSON *state, const char *key, uint64_t max, uint64_t *ret, struct error *e) {
        if (json_uint(cJSON_GetObjectItemCaseSensitive(state, key), max, ret) < 0)
                return error_set(e, -EBADMSG, "'%s' is not a whole number in [0, %" PRIu64 "]", key, max);
        return 0;
}

static int read_double(const cJSON *state, const char *key, double *ret, struct error *e) {
        const cJSON *j = cJSON_GetObjectItemCaseSensitive(state, key);

        if (!cJSON_IsNull(j) && !(cJSON_IsNumber(j) && isfinite(j->valuedouble)))
                return error_set(e, -EBADMSG, "'%s' is not a finite number or null", key);
        *ret = cJSON_IsNull(j) ? (double) NAN : j->valuedouble;
        return 0;
}

static int read_numbers(const cJSON *state, struct checkpoint *c, struct error *e) {
        const struct {
                const char *key;
                double *ret;
        } reals[] = {
                { "smooth_policy", &c->smooth_policy },
                { "smooth_value", &c->smooth_value },
                { "smooth_total", &c->smooth_total },
        };
        int r;

        for (size_t i = 0; i < N_ELEMENTS(numbers); i++) {
                void *number = (unsigned char *) c + numbers[i].offset;

                r = read_uint(state, numbers[i].key, numbers[i].max, number, e);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < N_ELEMENTS(reals); i++) {
                r = read_double(state, reals[i].key, reals[i].ret, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_rng(const cJSON *state, struct rng *ret, struct error *e) {
        const cJSON *words = cJSON_GetObjectItemCaseSensitive(state, "rng");

        for (int i = 0; i < (int) N_ELEMENTS(ret->s); i++)
                if (!cJSON_IsArray(words) || cJSON_GetArraySize(words) != N_ELEMENTS(ret->s) ||
                    json_decimal(cJSON_GetStringValue(cJSON_GetArrayItem(words, i)), UINT64_MAX, &ret->s[i]) <
                            0)
                        return error_set(e, -EBADMSG, "'rng' is not an array of %zu decimal strings",
                                         N_ELEMENTS(ret->s));
        return 0;
}

static int read_network(const cJSON *state, struct network *ret, struct error *e) {
        const cJSON *o = cJSON_GetObjectItemCaseSensitive(state, "network");
        const char *rules = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "rules"));
        const struct {
                const char *key;
                uint32_t *ret;
        } sizes[] = {
                { "planes", &ret->planes }, { "rows", &ret->rows },       { "cols", &ret->cols },
                { "moves", &ret->moves },   { "filters", &ret->filters }, { "blocks", &ret->blocks },
        };

        if (!rules || strlen(rules) >= sizeof(ret->rules))
                return error_set(e, -EBADMSG, "'network' has no fitting 'rules'");
        (void) json_printable(rules, sizeof(ret->rules), ret->rules);
        for (size_t i = 0; i < N_ELEMENTS(sizes); i++) {
                uint64_t v;
                int r = read_uint(o, sizes[i].key, GAME_MAX_CELLS + 512, &v, e);

                if (r < 0)
                        return r;
                *sizes[i].ret = (uint32_t) v;
        }
        return 0;
}

static int read_optimizer(const cJSON *state, uint64_t *ret, struct error *e) {
        const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(state, "optimizer"));

        if (!kind || (strcmp(kind, "adam") != 0 && strcmp(kind, "sgd") != 0))
                return error_set(e, -EBADMSG, "'optimizer' is neither adam nor sgd");
        *ret = strcmp(kind, "adam") == 0 ? OPTIMIZER_ADAM : OPTIMIZER_SGD;
        return 0;
}

static int parse_state(const struct file_map *map, cJSON **ret, struct error *e) {
        const char *text = (const char *) map->bytes;
        char prefix[N_CRC_PREFIX + 1];
        const char *format;
        uint64_t version;
        int r;

        if (map->n_bytes < N_CRC_PREFIX)
                return error_set(e, -EBADMSG, "file is %zu bytes, at least %zu expected", map->n_bytes,
                                 N_CRC_PREFIX);
        (void) snprintf(prefix, sizeof(prefix), "{\"crc32c\":\"%08x\",",
                        crc32c(text + N_CRC_PREFIX, map->n_bytes - N_CRC_PREFIX));
        if (memcmp(prefix, text, N_CRC_PREFIX) != 0)
                return error_set(e, -EBADMSG,
                                 "does not have the checksum that it names (it may not be edited)");
        r = json_parse_object(text, map->n_bytes, ret, e);
        if (r < 0)
                return r;
        format = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(*ret, "format"));
        if (!format || strcmp(format, STATE_FORMAT) != 0)
                return error_set(e, -EBADMSG, "is not an azpar checkpoint's");
        r = read_uint(*ret, "version", JSON_UINT_MAX, &version, e);
        if (r < 0)
                return r;
        if (version != CHECKPOINT_VERSION)
                return error_set(e, -EBADMSG, "is of version %" PRIu64 ", this azpar reads version %u",
                                 version, CHECKPOINT_VERSION);
        return 0;
}

static int read_state(const cJSON *state, struct checkpoint *ret, struct error *e) {
        int r;

        r = read_numbers(state, ret, e);
        if (r < 0)
                return r;
        r = read_optimizer(state, &ret->optimizer_kind, e);
        if (r < 0)
                return r;
        r = read_rng(state, &ret->rng, e);
        if (r < 0)
                return r;
        return read_network(state, &ret->network, e);
}

/* Compare a file with what state.json says of it. */
static int check_file(int dir_fd, const cJSON *state, const char *name, struct error *e) {
        const cJSON *f =
                cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(state, "files"), name);
        const char *want = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(f, "crc32c"));
        struct file_map map = FILE_MAP_NULL;
        char found[16], shown[16];
        uint64_t n_bytes;
        int r;

        if (!want || json_uint(cJSON_GetObjectItemCaseSensitive(f, "bytes"), INT_MAX, &n_bytes) < 0)
                return error_set(e, -EBADMSG, "state.json does not describe '%s'", name);
        r = file_read(dir_fd, name, n_bytes, &map, e);
        if (r < 0)
                return r;
        if (map.n_bytes != n_bytes) {
                r = error_set(e, -EBADMSG, "%s: file is %zu bytes, state.json says %" PRIu64, name,
                              map.n_bytes, n_bytes);
        } else {
                (void) snprintf(found, sizeof(found), "%08x", crc32c(map.bytes, map.n_bytes));
                if (strcmp(found, want) != 0)
                        r = error_set(e, -EBADMSG, "%s: crc32c is %s, state.json says %s", name, found,
                                      json_printable(want, sizeof(shown), shown));
        }
        file_map_close(&map);
        return r;
}

static int read_directory(int state_fd, const char *path, uint64_t step, struct checkpoint *ret,
                          struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        cleanup_(json_freep) cJSON *state = NULL;
        struct file_map map = FILE_MAP_NULL;
        int r;

        fd = openat(state_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_errno(e, -errno, "could not open it");
        r = file_read(fd, "state.json", STATE_MAX, &map, e);
        if (r < 0)
                return r;
        r = parse_state(&map, &state, e);
        file_map_close(&map);
        if (r == 0)
                r = read_state(state, ret, e);
        if (r == 0 && ret->step != step)
                r = error_set(e, -EBADMSG, "step is %" PRIu64 ", unlike the directory's name", ret->step);
        if (r < 0) {
                error_prefix(e, "state.json");
                return r;
        }
        for (size_t i = 0; r == 0 && i < N_ELEMENTS(guarded); i++)
                r = check_file(fd, state, guarded[i], e);
        return r;
}

static int find_newest(int state_fd, uint64_t *ret_step, struct error *e) {
        cleanup_(closedirp) DIR *d = NULL;
        const char *entry;
        bool found = false;
        int r;

        r = open_folder(state_fd, &d, e);
        if (r < 0)
                return r;
        while ((r = next_entry(d, &entry)) > 0) {
                uint64_t step;

                if (!step_of(entry, &step) || (found && step < *ret_step))
                        continue;
                *ret_step = step;
                found = true;
        }
        if (r < 0)
                return error_errno(e, r, "could not list '%s'", FOLDER);
        return found ? 0 : error_set(e, -ENOENT, "there is no checkpoint in '%s'", FOLDER);
}

/* What makes a checkpoint damaged, rather than this machine unable to read it. */
static bool is_damage(int r) {
        return r == -EBADMSG || r == -ENOENT || r == -EINVAL || r == -ENOTDIR || r == -ELOOP;
}

int checkpoint_newest(int state_fd, const struct network *want, struct checkpoint *ret, char ret_path[64],
                      struct error *e) {
        struct checkpoint c = { 0 };
        char path[64];
        uint64_t step = 0;
        int r;

        r = find_newest(state_fd, &step, e);
        if (r < 0)
                return r;
        (void) snprintf(path, sizeof(path), FOLDER "/%010" PRIu64, step);
        r = read_directory(state_fd, path, step, &c, e);
        if (r < 0) {
                struct error reason = e ? *e : ERROR_INIT;

                if (!is_damage(r)) {
                        error_prefix(e, "%s", path);
                        return r;
                }
                return error_set(e, -EBADMSG,
                                 "%s: %.300s; it is damaged: move the directory '%s' away to resume from "
                                 "the checkpoint before it",
                                 path, reason.text, path);
        }
        if (want && !network_equal(&c.network, want))
                return error_set(
                        e, -EINVAL,
                        "%s: is for %s with %ux%u (filters x blocks), but the configuration asks for %s "
                        "with %ux%u: configure that, or use another state directory",
                        path, c.network.rules, c.network.filters, c.network.blocks, want->rules,
                        want->filters, want->blocks);
        (void) memcpy(ret_path, path, sizeof(path));
        *ret = c;
        return 0;
}

/* ---- pruning ---- */

static int compare_steps(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x < y) - (x > y);
}

/* Keep the first of several errors: what follows it is often its consequence. */
static void keep_first(int r, const struct error *reason, int *first, struct error *e) {
        if (r >= 0 || *first < 0)
                return;
        *first = r;
        if (e)
                *e = *reason;
}

static bool is_directory(int folder_fd, const char *name) {
        struct stat st;

        return fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/*
 * Steps of all checkpoints, newest first, to be freed by the caller; leftovers are removed on the way, and
 * one that resists is told in *failed.
 */
static int list_and_clean(DIR *d, uint64_t **ret, size_t *ret_n, int *failed, struct error *e) {
        cleanup_(freep) uint64_t *steps = NULL;
        size_t n = 0, n_room = 0;
        const char *entry;
        int r;

        while ((r = next_entry(d, &entry)) > 0) {
                struct error reason = ERROR_INIT;
                uint64_t step;

                if (!is_directory(dirfd(d), entry))
                        continue;
                if (strncmp(entry, TEMPORARY, strlen(TEMPORARY)) == 0)
                        keep_first(remove_directory(dirfd(d), entry, &reason), &reason, failed, e);
                if (!step_of(entry, &step))
                        continue;
                if (n == MAX_LISTED)
                        return error_set(e, -EFBIG, "more than %d checkpoints in '%s'", MAX_LISTED, FOLDER);
                if (n == n_room) {
                        uint64_t *more = realloc(steps, (n_room = n_room * 2 + 16) * sizeof(*steps));

                        if (!more)
                                return error_errno(e, -ENOMEM, "could not list '%s'", FOLDER);
                        steps = more;
                }
                steps[n++] = step;
        }
        if (r < 0)
                return error_errno(e, r, "could not list '%s'", FOLDER);
        if (n > 0)
                qsort(steps, n, sizeof(*steps), compare_steps);
        *ret_n = n;
        *ret = TAKE_PTR(steps);
        return 0;
}

static int remove_checkpoint(int folder_fd, uint64_t step, struct error *e) {
        char name[NAME_BYTES], temporary[TEMPORARY_BYTES];

        (void) snprintf(name, sizeof(name), "%010" PRIu64, step);
        for (int i = 0; i < N_TEMPORARY; i++) {
                temporary_name(name, i, temporary);
                if (renameat(folder_fd, name, folder_fd, temporary) == 0) {
                        PAUSE_POINT(PRUNE_RENAMED);
                        return remove_directory(folder_fd, temporary, e);
                }
                if (errno != ENOTEMPTY && errno != EEXIST) /* a leftover that resists has that name */
                        break;
        }
        return error_errno(e, -errno, "could not rename '%s/%s'", FOLDER, name);
}

int checkpoint_prune(int state_fd, uint64_t keep, struct error *e) {
        cleanup_(closedirp) DIR *d = NULL;
        cleanup_(freep) uint64_t *steps = NULL;
        size_t n = 0;
        int r, failed = 0;

        assert(keep > 0);
        r = open_folder(state_fd, &d, e);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        r = list_and_clean(d, &steps, &n, &failed, e);
        if (r < 0)
                return r;
        for (size_t i = keep; i < n; i++) {
                struct error reason = ERROR_INIT;

                keep_first(remove_checkpoint(dirfd(d), steps[i], &reason), &reason, &failed, e);
        }
        return failed;
}
