/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * azpar.conf: INI (libinih) checked against the table in config_keys.inc.
 *
 * azpard reads the file; children get the effective configuration as text on
 * an inherited descriptor and read it with the same parser, so every process
 * sees the same checked values.  Whatever is wrong is reported as
 * "FILE:LINE: section.key: reason, allowed range".
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/error.h"

#define CONFIG_FILE_MAX (1u << 20) /* bytes; a larger file is refused */

/* A section's values are plain fields: config.search_cpuct, config.game_name. */
struct config {
#define UINT(section, key, ...)   uint64_t section##_##key;
#define REAL(section, key, ...)   double section##_##key;
#define BOOL(section, key, ...)   bool section##_##key;
#define CHOICE(section, key, ...) unsigned section##_##key;
#include "common/base/config_keys.inc"
#undef UINT
#undef REAL
#undef BOOL
#undef CHOICE
};

enum {
        CONFIG_N_KEYS = 0
#define UINT(...)   +1
#define REAL(...)   +1
#define BOOL(...)   +1
#define CHOICE(...) +1
#include "common/base/config_keys.inc"
#undef UINT
#undef REAL
#undef BOOL
#undef CHOICE
};

/* Values of the CHOICE keys, in the order of their lists. */
enum { PROFILE_AZPAR, PROFILE_ORIGINAL };
enum { GAME_GOMOKU, GAME_CONNECT4, GAME_TICTACTOE };
enum { PRECISION_AUTO, PRECISION_F32, PRECISION_BF16 };
enum { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA };
enum { OPTIMIZER_ADAM, OPTIMIZER_SGD };
enum { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_STEP };

/* What a reload does for a changed value to be in effect; one or more of them. */
enum config_reload {
        CONFIG_NOW = 1,     /* tells azpard's own parts */
        CONFIG_WORKERS = 2, /* starts the workers anew */
        CONFIG_TRAINER = 4, /* starts the trainer anew */
        CONFIG_NOW_TRAINER = CONFIG_NOW | CONFIG_TRAINER,
        CONFIG_RESTART = 8, /* nothing: only a restart of azpard can */
};

/* One row of the table, for --help, the manual's check and --dump-config. */
struct config_key {
        const char *section, *key, *type, *default_text, *help;
        double min, max;     /* UINT and REAL */
        const char *choices; /* CHOICE */
        enum config_reload reload;
};

extern const struct config_key config_keys[];
extern const size_t n_config_keys;

#define CONFIG_VALUE_MAX 32 /* bytes of a value as text, with the final 0 */

/* "at once", "starts the workers anew", ...; the manual and --dump-config have it after "reload: ". */
const char *config_reload_text(enum config_reload reload);

/* The value of config_keys[@i] in @c as config_read() reads it back. */
void config_value_text(const struct config *c, size_t i, char ret[CONFIG_VALUE_MAX]);
bool config_value_equal(const struct config *a, const struct config *b, size_t i);
/* Give @to the value that config_keys[@i] has in @from. */
void config_value_copy(struct config *to, const struct config *from, size_t i);

/* All keys at the defaults of the profile `azpar`. */
void config_defaults(struct config *c);

/*
 * config_read() - defaults, then the file, then @settings ("section.key=value"), last one wins
 * @path:       file to read; NULL: none.  Files in PATH.d with names ending in .conf follow in the order of
 *              their names, if that directory exists.
 *
 * A profile named anywhere sets the defaults under all other keys, whatever the order.
 *
 * Return: 0; negative errno with the text "FILE:LINE: ..." (settings: "--set: ...") and @ret untouched.
 */
must_check_ int config_read(const char *path, const char *const *settings, size_t n_settings,
                            struct config *ret, struct error *e);

/* Same from a descriptor that config_dump() wrote to (read from its beginning, left open). */
must_check_ int config_read_fd(int fd, struct config *ret, struct error *e);

/* Write @c as a commented azpar.conf that reads back to exactly @c. */
void config_dump(const struct config *c, FILE *out);

/* A memfd, sealed, that holds config_dump()'s text. Return: 0 or a negative errno. */
must_check_ int config_to_memfd(const struct config *c, int *ret_fd);
