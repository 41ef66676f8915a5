/* SPDX-License-Identifier: MIT */
/* azpard's command line; see options.h. */
#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One row of the table gives parser and --help. */
#define OPTIONS_TABLE                                                                                        \
        X('c', "config", "FILE",                                                                             \
          "configuration to read (default " OPTIONS_CONFIG_FOLDER "/azpar.conf, or NAME.conf there, if it "  \
          "exists)")                                                                                         \
        X('d', "state", "DIR",                                                                               \
          "state directory, made if missing (default $STATE_DIRECTORY, or one in /var/lib/azpar)")           \
        X('i', "instance", "NAME", "name in /dev/shm (default \"default\"; with --state one made from DIR)") \
        X('s', "socket", "PATH",                                                                             \
          "control socket (default DIR/control.sock with --state, else /run/azpar/NAME.sock)")               \
        X('S', "set", "SECTION.KEY=VALUE", "set one key, as if at the end of the file; may be repeated")     \
        X('C', "check", NULL, "check the configuration and exit: 0, or 78 if it is wrong")                   \
        X('D', "dump-config", NULL, "print the configuration in effect with every key explained, and exit")  \
        X('h', "help", NULL, "print this and exit")                                                          \
        X('V', "version", NULL, "print the version and exit")

static const struct option long_options[] = {
#define X(letter, name, argument, help) { name, (argument) ? required_argument : no_argument, NULL, letter },
        OPTIONS_TABLE
#undef X
        { NULL, 0, NULL, 0 },
};

static const struct {
        const char *name, *argument, *help;
} help_rows[] = {
#define X(letter, name, argument, help) { name, argument, help },
        OPTIONS_TABLE
#undef X
};

void options_print_help(void) {
        (void) printf("azpard [OPTION]...: train a board-game network by self-play\n\n");
        for (size_t i = 0; i < N_ELEMENTS(help_rows); i++) {
                char left[40];

                (void) snprintf(left, sizeof(left), "--%s %s", help_rows[i].name,
                                help_rows[i].argument ? help_rows[i].argument : "");
                (void) printf("  %-26s %s\n", left, help_rows[i].help);
        }
        (void) printf("\nIt stays in the foreground. All keys of the configuration: azpard --dump-config, "
                      "azpar.conf(5).\n"
                      "Exit status: 0 stopped or checked, 1 failed, 64 wrong command line, 78 wrong "
                      "configuration.\n");
}

void options_deinit(struct options *o) {
        free((void *) (uintptr_t) o->settings);
        o->settings = NULL;
}

static bool instance_is_named_well(const char *name) {
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

        return *name && *name != '.' && strlen(name) < OPTIONS_INSTANCE_MAX && !name[strspn(name, allowed)];
}

void options_config_path(const char *instance, char ret[OPTIONS_CONFIG_PATH_MAX]) {
        bool is_default = !instance || strcmp(instance, "default") == 0;

        (void) snprintf(ret, OPTIONS_CONFIG_PATH_MAX, OPTIONS_CONFIG_FOLDER "/%s.conf",
                        is_default ? "azpar" : instance);
}

/* Take up one option; @settings has room for all of argv. */
static void take(struct options *o, const char **settings, int letter) {
        switch (letter) {
        case 'c':
                o->config = optarg;
                break;
        case 'd':
                o->state = optarg;
                break;
        case 'i':
                o->instance = optarg;
                break;
        case 's':
                o->socket = optarg;
                break;
        case 'S':
                settings[o->n_settings++] = optarg;
                break;
        case 'C':
                o->task = OPTIONS_CHECK;
                break;
        case 'D':
                o->task = OPTIONS_DUMP_CONFIG;
                break;
        case 'h':
                o->task = OPTIONS_HELP;
                break;
        case 'V':
                o->task = OPTIONS_VERSION;
                break;
        default:
                break;
        }
}

int options_parse(int argc, char **argv, struct options *ret, struct error *e) {
        cleanup_(freep) const char **settings = calloc((size_t) argc + 1, sizeof(*settings));
        struct options o = { .task = OPTIONS_RUN };
        int letter;

        if (!settings)
                return error_set(e, -ENOMEM, "out of memory");
        optind = 0; /* start anew, also when called twice */
        opterr = 0;
        while ((letter = getopt_long(argc, argv, "+:", long_options, NULL)) != -1) {
                if (letter == ':')
                        return error_set(e, -EINVAL, "option '%s' needs a value", argv[optind - 1]);
                if (letter == '?')
                        return error_set(e, -EINVAL, "unknown option '%s'; see azpard --help",
                                         argv[optind - 1]);
                take(&o, settings, letter);
        }
        if (optind < argc)
                return error_set(e, -EINVAL, "'%s' is not an option; see azpard --help", argv[optind]);
        if (o.instance && !instance_is_named_well(o.instance))
                return error_set(
                        e, -EINVAL,
                        "instance name '%.60s' is not 1 to %d letters, digits, '_', '-' or '.' (not first)",
                        o.instance, OPTIONS_INSTANCE_MAX - 1);
        o.settings = TAKE_PTR(settings);
        *ret = o;
        options_config_path(o.instance, ret->default_config);
        if (!o.config && access(ret->default_config, F_OK) == 0)
                ret->config = ret->default_config;
        return 0;
}

/* systemd separates several directories with colons; the first one is ours. */
static size_t first_directory(const char *list) {
        return list ? strcspn(list, ":") : 0;
}

static int put_path(char ret[PATH_MAX], struct error *e, const char *format, ...) printf_(3, 4);
static int put_path(char ret[PATH_MAX], struct error *e, const char *format, ...) {
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(ret, PATH_MAX, format, args);
        va_end(args);
        return n < PATH_MAX ? 0 : error_set(e, -ENAMETOOLONG, "path '%.60s...' is too long", ret);
}

int options_state_path(const struct options *o, char ret[PATH_MAX], struct error *e) {
        const char *list = getenv("STATE_DIRECTORY");
        int n = (int) MIN(first_directory(list), (size_t) PATH_MAX);

        if (o->state && !*o->state)
                return error_set(e, -EINVAL, "--state needs the path of a directory");
        if (o->state)
                return put_path(ret, e, "%s", o->state);
        if (n > 0)
                return put_path(ret, e, "%.*s", n, list);
        return put_path(ret, e, "/var/lib/azpar/%s", o->instance ? o->instance : "default");
}

/* FNV-1a, 64 bits: short, and good enough to tell a user's few state directories apart. */
static uint64_t hash_text(const char *text) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        for (; *text; text++)
                h = (h ^ (unsigned char) *text) * UINT64_C(0x100000001b3);
        return h;
}

void options_instance(const struct options *o, const char *state_path, char ret[OPTIONS_INSTANCE_MAX]) {
        if (!o->instance && o->state)
                (void) snprintf(ret, OPTIONS_INSTANCE_MAX, "state-%016jx", (uintmax_t) hash_text(state_path));
        else
                (void) snprintf(ret, OPTIONS_INSTANCE_MAX, "%s", o->instance ? o->instance : "default");
}

int options_socket_path(const struct options *o, const char *state_path, const char *instance,
                        char ret[PATH_MAX], struct error *e) {
        const char *list = getenv("RUNTIME_DIRECTORY");
        int n = (int) MIN(first_directory(list), (size_t) PATH_MAX);

        if (o->socket)
                return put_path(ret, e, "%s", o->socket);
        if (o->state)
                return put_path(ret, e, "%s/control.sock", state_path);
        if (n > 0)
                return put_path(ret, e, "%.*s/%s.sock", n, list, instance);
        return put_path(ret, e, "/run/azpar/%s.sock", instance);
}
