/* SPDX-License-Identifier: MIT */
/*
 * azpar.conf; see config.h.  Runs in every process.
 *
 * libinih splits the text; this file gives it lines from memory, so that it
 * knows the number of the line it is at and can refuse what inih would take
 * silently: lines longer than its buffer, zero bytes, a key twice in a file.
 *
 * Everything is read twice.  The first pass finds the profile, whose values
 * then become the defaults under all other keys, so that the order of the keys
 * does not matter; the second pass sets the keys.
 */
#include "common/base/config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum key_type {
        KEY_UINT,
        KEY_REAL,
        KEY_BOOL,
        KEY_CHOICE,
};

/* What the program needs of a row and a reader of the table does not. */
struct key_place {
        enum key_type type;
        size_t offset;
        double default_number;
};

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const struct config_key config_keys[] = {
#define UINT(s, k, d, lo, hi, r, help)    { #s, #k, "integer", TEXT(d), help, lo, hi, NULL, CONFIG_##r },
#define REAL(s, k, d, lo, hi, r, help)    { #s, #k, "number", TEXT(d), help, lo, hi, NULL, CONFIG_##r },
#define BOOL(s, k, d, r, help)            { #s, #k, "boolean", (d) ? "yes" : "no", help, 0, 0, NULL, CONFIG_##r },
#define CHOICE(s, k, d, choices, r, help) { #s, #k, "choice", d, help, 0, 0, choices, CONFIG_##r },
#include "common/base/config_keys.inc"
#undef UINT
#undef REAL
#undef BOOL
#undef CHOICE
};

const size_t n_config_keys = N_ELEMENTS(config_keys);
static_assert(N_ELEMENTS(config_keys) == CONFIG_N_KEYS, "one row per key");

static const struct key_place places[] = {
#define UINT(s, k, d, ...) { KEY_UINT, offsetof(struct config, s##_##k), (double) (d) },
#define REAL(s, k, d, ...) { KEY_REAL, offsetof(struct config, s##_##k), d },
#define BOOL(s, k, d, ...) { KEY_BOOL, offsetof(struct config, s##_##k), d },
#define CHOICE(s, k, ...)  { KEY_CHOICE, offsetof(struct config, s##_##k), 0 },
#include "common/base/config_keys.inc"
#undef UINT
#undef REAL
#undef BOOL
#undef CHOICE
};

/* Where a value comes from, for messages, and the state of one pass over one source. */
struct source {
        const char *name; /* file name, or "--set" */
        const char *next, *end;
        unsigned line; /* 0: not a file of lines */
        bool seen[N_ELEMENTS(places)];
        struct config *config;
        struct error *error;
        int result;
        unsigned result_line;
};

static void *field(struct config *c, size_t i) {
        return (char *) c + places[i].offset;
}

static const void *const_field(const struct config *c, size_t i) {
        return (const char *) c + places[i].offset;
}

/* Place of @word in "a|b|c", or -1. */
static int choice_number(const char *choices, const char *word) {
        size_t n = strlen(word);
        int number = 0;

        for (const char *p = choices;; p++, number++) {
                const char *bar = strchrnul(p, '|');

                if ((size_t) (bar - p) == n && memcmp(p, word, n) == 0)
                        return number;
                if (!*bar)
                        return -1;
                p = bar;
        }
}

/* Word number @n of "a|b|c", to print with "%.*s". */
static const char *choice_word(const char *choices, unsigned n, int *ret_length) {
        for (; n > 0; n--)
                choices = strchr(choices, '|') + 1;
        *ret_length = (int) (strchrnul(choices, '|') - choices);
        return choices;
}

static int parse_bool(const char *text) {
        static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off",
                                                                                       "0" };

        for (size_t i = 0; i < N_ELEMENTS(yes); i++) {
                if (strcasecmp(text, yes[i]) == 0)
                        return 1;
                if (strcasecmp(text, no[i]) == 0)
                        return 0;
        }
        return -1;
}

/* "FILE:LINE: section.key" or "--set: section.key" in front of what is wrong. */
static int refuse(struct source *s, const char *section, const char *key, const char *reason) {
        if (s->line)
                return error_set(s->error, -EINVAL, "%s:%u: %s.%s: %s", s->name, s->line, section, key,
                                 reason);
        return error_set(s->error, -EINVAL, "%s %s.%s: %s", s->name, section, key, reason);
}

static int set_uint(struct source *s, size_t i, const char *text) {
        const struct config_key *k = &config_keys[i];
        char reason[256], *end;
        unsigned long long u;

        errno = 0;
        u = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end || errno || (double) u < k->min || (double) u > k->max) {
                (void) snprintf(reason, sizeof(reason), "'%.60s' is not an integer from %.0f to %.0f", text,
                                k->min, k->max);
                return refuse(s, k->section, k->key, reason);
        }
        *(uint64_t *) field(s->config, i) = u;
        return 0;
}

static int set_real(struct source *s, size_t i, const char *text) {
        const struct config_key *k = &config_keys[i];
        char reason[256], *end;
        double d;

        d = strtod(text, &end);
        if (end == text || *end || !isfinite(d) || d < k->min || d > k->max) {
                (void) snprintf(reason, sizeof(reason), "'%.60s' is not a number from %g to %g", text, k->min,
                                k->max);
                return refuse(s, k->section, k->key, reason);
        }
        *(double *) field(s->config, i) = d;
        return 0;
}

static int set_bool(struct source *s, size_t i, const char *text) {
        const struct config_key *k = &config_keys[i];
        char reason[256];
        int b = parse_bool(text);

        if (b < 0) {
                (void) snprintf(reason, sizeof(reason), "'%.60s' is neither yes nor no", text);
                return refuse(s, k->section, k->key, reason);
        }
        *(bool *) field(s->config, i) = b;
        return 0;
}

static int set_choice(struct source *s, size_t i, const char *text) {
        const struct config_key *k = &config_keys[i];
        char reason[256];
        int n = choice_number(k->choices, text);

        if (n < 0) {
                (void) snprintf(reason, sizeof(reason), "'%.60s' is not one of %s", text, k->choices);
                return refuse(s, k->section, k->key, reason);
        }
        *(unsigned *) field(s->config, i) = (unsigned) n;
        return 0;
}

static int set_key(struct source *s, const char *section, const char *key, const char *text) {
        static int (*const setters[])(struct source *, size_t, const char *) = {
                [KEY_UINT] = set_uint,
                [KEY_REAL] = set_real,
                [KEY_BOOL] = set_bool,
                [KEY_CHOICE] = set_choice,
        };

        for (size_t i = 0; i < n_config_keys; i++) {
                if (strcmp(config_keys[i].section, section) != 0 || strcmp(config_keys[i].key, key) != 0)
                        continue;
                if (s->line && s->seen[i])
                        return refuse(s, section, key,
                                      "set twice in this file (or the line is indented, which continues the "
                                      "value before it)");
                s->seen[i] = true;
                return setters[places[i].type](s, i, text);
        }
        return refuse(s, section, key, "unknown key; azpard --dump-config lists all of them");
}

/* libinih's handler: 1 goes on, 0 is an error. */
static int handle(void *userdata, const char *section, const char *name, const char *value) {
        struct source *s = userdata;

        if (s->result == 0) {
                s->result = set_key(s, section, name, value ? value : "");
                s->result_line = s->line;
        }
        return s->result == 0;
}

/* libinih's reader, in the place of fgets(). */
static char *next_line(char *buffer, int size, void *stream) {
        struct source *s = stream;
        const char *newline;
        size_t n;

        if (s->next == s->end || s->result < 0)
                return NULL;
        s->line++;
        newline = memchr(s->next, '\n', (size_t) (s->end - s->next));
        n = newline ? (size_t) (newline + 1 - s->next) : (size_t) (s->end - s->next);
        if (n >= (size_t) size) {
                s->result = error_set(s->error, -EINVAL, "%s:%u: line of %zu bytes, at most %d allowed",
                                      s->name, s->line, n, size - 1);
                return NULL;
        }
        if (memchr(s->next, '\0', n)) {
                s->result = error_set(s->error, -EINVAL, "%s:%u: zero byte in the line", s->name, s->line);
                return NULL;
        }
        memcpy(buffer, s->next, n);
        buffer[n] = '\0';
        s->next += n;
        return buffer;
}

static int parse_text(const char *name, const char *text, size_t n, struct config *c, struct error *e) {
        struct source s = { .name = name, .next = text, .end = text + n, .config = c, .error = e };
        int line = ini_parse_stream(next_line, &s, handle, &s);

        if (line == -2)
                return error_errno(e, -ENOMEM, "could not read '%s'", name);
        /* inih goes on after a line that it cannot split, and tells the first bad one: the earlier complaint
         * counts */
        if (s.result < 0 && (line <= 0 || (unsigned) line >= s.result_line))
                return s.result;
        if (line != 0)
                return error_set(e, -EINVAL, "%s:%d: neither [section] nor key = value", name, line);
        return 0;
}

/* Read at most CONFIG_FILE_MAX bytes from the beginning of @fd. */
static int read_text(int fd, const char *name, char **ret, size_t *ret_n, struct error *e) {
        cleanup_(freep) char *text = malloc(CONFIG_FILE_MAX + 1);
        size_t n = 0;

        if (!text)
                return error_errno(e, -ENOMEM, "could not read '%s'", name);
        for (;;) {
                ssize_t r = pread(fd, text + n, CONFIG_FILE_MAX + 1 - n, (off_t) n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return error_errno(e, -errno, "could not read '%s'", name);
                if (r == 0)
                        break;
                n += (size_t) r;
                if (n > CONFIG_FILE_MAX)
                        return error_set(e, -EFBIG, "'%s' is larger than %u bytes", name, CONFIG_FILE_MAX);
        }
        *ret = TAKE_PTR(text);
        *ret_n = n;
        return 0;
}

static int parse_file(int dir_fd, const char *path, const char *name, struct config *c, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        cleanup_(freep) char *text = NULL;
        struct stat st;
        size_t n;
        int r;

        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return error_errno(e, -errno, "could not open configuration '%s'", name);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return error_set(e, -EINVAL, "configuration '%s' is not a regular file", name);
        r = read_text(fd, name, &text, &n, e);
        return r < 0 ? r : parse_text(name, text, n, c, e);
}

static int is_drop_in(const struct dirent *d) {
        size_t n = strlen(d->d_name);

        return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".conf") == 0;
}

static int parse_drop_ins(const char *path, struct config *c, struct error *e) {
        char folder[PATH_MAX], name[2 * PATH_MAX];
        cleanup_(fd_closep) int fd = -1;
        struct dirent **entries;
        int n, r = 0;

        if (snprintf(folder, sizeof(folder), "%s.d", path) >= (int) sizeof(folder))
                return error_set(e, -ENAMETOOLONG, "path '%s' is too long", path);
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
                return 0;
        if (fd < 0)
                return error_errno(e, -errno, "could not open '%s'", folder);
        n = scandirat(fd, ".", &entries, is_drop_in, alphasort);
        if (n < 0)
                return error_errno(e, -errno, "could not list '%s'", folder);
        for (int i = 0; i < n; i++) {
                (void) snprintf(name, sizeof(name), "%s/%s", folder, entries[i]->d_name);
                if (r == 0)
                        r = parse_file(fd, entries[i]->d_name, name, c, e);
                free(entries[i]);
        }
        free(entries);
        return r;
}

static int parse_setting(const char *setting, struct config *c, struct error *e) {
        struct source s = { .name = "--set", .config = c, .error = e };
        const char *dot = strchr(setting, '.'), *equals = strchr(setting, '=');
        char section[32], key[64];

        if (!dot || !equals || dot > equals || (size_t) (dot - setting) >= sizeof(section) ||
            (size_t) (equals - dot) > sizeof(key))
                return error_set(e, -EINVAL, "--set %s: 'section.key=value' expected", setting);
        (void) snprintf(section, sizeof(section), "%.*s", (int) (dot - setting), setting);
        (void) snprintf(key, sizeof(key), "%.*s", (int) (equals - dot - 1), dot + 1);
        return set_key(&s, section, key, equals + 1);
}

static int parse_all(const char *path, const char *const *settings, size_t n_settings, struct config *c,
                     struct error *e) {
        int r = 0;

        if (path) {
                r = parse_file(AT_FDCWD, path, path, c, e);
                if (r == 0)
                        r = parse_drop_ins(path, c, e);
        }
        for (size_t i = 0; r == 0 && i < n_settings; i++)
                r = parse_setting(settings[i], c, e);
        return r;
}

void config_defaults(struct config *c) {
        memset(c, 0, sizeof(*c));
        for (size_t i = 0; i < n_config_keys; i++) {
                switch (places[i].type) {
                case KEY_UINT:
                        *(uint64_t *) field(c, i) = (uint64_t) places[i].default_number;
                        break;
                case KEY_REAL:
                        *(double *) field(c, i) = places[i].default_number;
                        break;
                case KEY_BOOL:
                        *(bool *) field(c, i) = places[i].default_number != 0;
                        break;
                case KEY_CHOICE:
                        *(unsigned *) field(c, i) =
                                (unsigned) choice_number(config_keys[i].choices, config_keys[i].default_text);
                        break;
                }
        }
}

/*
 * The original's settings, where azpar's own defaults differ or might come to
 * differ: a new tree for each move, nothing proven, no symmetries, drawn at
 * 100 plies, 128 filters x 10 blocks, Adam at 0.001 without weight decay.
 */
static void profile_original(struct config *c) {
        c->search_profile = PROFILE_ORIGINAL;
        c->game_draw_ply = 100;
        c->network_filters = 128;
        c->network_blocks = 10;
        c->search_simulations = 100;
        c->search_cpuct = 1.5;
        c->search_fpu_reduction = 0.0;
        c->search_root_noise_alpha = 0.3;
        c->search_root_noise_weight = 0.25;
        c->search_temperature_plies = 30;
        c->search_tree_reuse = false;
        c->search_prove = false;
        c->search_random_symmetry = false;
        c->replay_window = 100000;
        c->train_optimizer = OPTIMIZER_ADAM;
        c->train_learning_rate = 0.001;
        c->train_schedule = SCHEDULE_CONSTANT;
        c->train_warmup_steps = 0;
        c->train_weight_decay = 0.0;
        c->train_gradient_clip = 0.0;
        c->train_value_weight = 1.0;
        c->train_augment = false;
}

static void profile_defaults(struct config *c, unsigned profile) {
        config_defaults(c);
        if (profile == PROFILE_ORIGINAL)
                profile_original(c);
}

/* What no single key's range can say. */
static int check_together(const struct config *c, const char *name, struct error *e) {
        if (c->replay_min_samples > c->replay_window)
                return error_set(e, -EINVAL,
                                 "%s: replay.min_samples (%ju) is larger than replay.window (%ju): training "
                                 "would never start",
                                 name, (uintmax_t) c->replay_min_samples, (uintmax_t) c->replay_window);
        if (c->selfplay_max_workers && c->selfplay_workers > c->selfplay_max_workers)
                return error_set(e, -EINVAL,
                                 "%s: selfplay.workers (%ju) is larger than selfplay.max_workers (%ju)", name,
                                 (uintmax_t) c->selfplay_workers, (uintmax_t) c->selfplay_max_workers);
        return 0;
}

int config_read(const char *path, const char *const *settings, size_t n_settings, struct config *ret,
                struct error *e) {
        struct config first, c;
        int r;

        config_defaults(&first);
        r = parse_all(path, settings, n_settings, &first, e);
        if (r < 0)
                return r;
        profile_defaults(&c, first.search_profile);
        r = parse_all(path, settings, n_settings, &c, e);
        if (r == 0)
                r = check_together(&c, path ? path : "settings", e);
        if (r == 0)
                *ret = c;
        return r;
}

int config_read_fd(int fd, struct config *ret, struct error *e) {
        cleanup_(freep) char *text = NULL;
        struct config c;
        size_t n;
        int r;

        r = read_text(fd, "inherited configuration", &text, &n, e);
        if (r < 0)
                return r;
        /* A dump names every key, so the profile's defaults do not shine through and one pass is enough. */
        config_defaults(&c);
        r = parse_text("inherited configuration", text, n, &c, e);
        if (r == 0)
                r = check_together(&c, "inherited configuration", e);
        if (r == 0)
                *ret = c;
        return r;
}

/* The shortest decimal that reads back to exactly @d. */
static void real_text(double d, char ret[CONFIG_VALUE_MAX]) {
        for (int precision = 6; precision <= 17; precision++) {
                (void) snprintf(ret, CONFIG_VALUE_MAX, "%.*g", precision, d);
                if (strtod(ret, NULL) == d)
                        break;
        }
}

void config_value_text(const struct config *c, size_t i, char ret[CONFIG_VALUE_MAX]) {
        const void *value = const_field(c, i);
        const char *word;
        int n;

        switch (places[i].type) {
        case KEY_UINT:
                (void) snprintf(ret, CONFIG_VALUE_MAX, "%ju", (uintmax_t) * (const uint64_t *) value);
                break;
        case KEY_REAL:
                real_text(*(const double *) value, ret);
                break;
        case KEY_BOOL:
                (void) snprintf(ret, CONFIG_VALUE_MAX, "%s", *(const bool *) value ? "yes" : "no");
                break;
        case KEY_CHOICE:
                word = choice_word(config_keys[i].choices, *(const unsigned *) value, &n);
                (void) snprintf(ret, CONFIG_VALUE_MAX, "%.*s", n, word);
                break;
        }
}

static size_t value_bytes(size_t i) {
        static const size_t bytes[] = {
                [KEY_UINT] = sizeof(uint64_t),
                [KEY_REAL] = sizeof(double),
                [KEY_BOOL] = sizeof(bool),
                [KEY_CHOICE] = sizeof(unsigned),
        };

        return bytes[places[i].type];
}

bool config_value_equal(const struct config *a, const struct config *b, size_t i) {
        if (places[i].type == KEY_REAL) /* 0 and -0 are one value */
                return *(const double *) const_field(a, i) == *(const double *) const_field(b, i);
        return memcmp(const_field(a, i), const_field(b, i), value_bytes(i)) == 0;
}

void config_value_copy(struct config *to, const struct config *from, size_t i) {
        memcpy(field(to, i), const_field(from, i), value_bytes(i));
}

const char *config_reload_text(enum config_reload reload) {
        switch (reload) {
        case CONFIG_NOW:
                return "at once";
        case CONFIG_WORKERS:
                return "starts the workers anew";
        case CONFIG_TRAINER:
                return "starts the trainer anew";
        case CONFIG_NOW_TRAINER:
                return "at once, and starts the trainer anew";
        case CONFIG_RESTART:
                break;
        }
        return "needs a restart of azpard";
}

static void dump_key(const struct config *c, size_t i, FILE *out) {
        const struct config_key *k = &config_keys[i];
        char value[CONFIG_VALUE_MAX];

        (void) fprintf(out, "\n# %s\n", k->help);
        switch (places[i].type) {
        case KEY_UINT:
                (void) fprintf(out, "# integer, %.0f to %.0f", k->min, k->max);
                break;
        case KEY_REAL:
                (void) fprintf(out, "# number, %g to %g", k->min, k->max);
                break;
        case KEY_BOOL:
                (void) fprintf(out, "# yes or no");
                break;
        case KEY_CHOICE:
                (void) fprintf(out, "# one of %s", k->choices);
                break;
        }
        config_value_text(c, i, value);
        (void) fprintf(out, ", default %s\n# reload: %s\n%s = %s\n", k->default_text,
                       config_reload_text(k->reload), k->key, value);
}

void config_dump(const struct config *c, FILE *out) {
        bool done[N_ELEMENTS(places)] = { false };

        (void) fprintf(out, "# azpar.conf: see azpar.conf(5)\n");
        /* A section may be spread over the table; inih would take a second [section], people would not like
         * it. */
        for (size_t i = 0; i < n_config_keys; i++) {
                if (done[i])
                        continue;
                (void) fprintf(out, "\n[%s]\n", config_keys[i].section);
                for (size_t j = i; j < n_config_keys; j++) {
                        if (strcmp(config_keys[i].section, config_keys[j].section) != 0)
                                continue;
                        dump_key(c, j, out);
                        done[j] = true;
                }
        }
}

int config_to_memfd(const struct config *c, int *ret_fd) {
        cleanup_(fd_closep) int fd = memfd_create("azpar.conf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int copy, r;
        FILE *out;

        if (fd < 0)
                return -errno;
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0)
                return -errno;
        out = fdopen(copy, "w");
        if (!out) {
                r = -errno;
                (void) close(copy);
                return r;
        }
        config_dump(c, out);
        if (fclose(out) != 0)
                return -errno;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}
