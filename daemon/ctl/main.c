/* SPDX-License-Identifier: MIT */
/*
 * azparctl: ask azpard, tell azpard.
 *
 * One table of options and one of commands give parser and --help.  Every
 * request is a connection of its own, so a watch outlives a restart of azpard.
 * Exit status: 0, 1 (azpard is not there or refused), 2 (usage).
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "common/base/log.h"
#include "common/base/version.h"
#include "daemon/ctl/client.h"
#include "daemon/ctl/export.h"
#include "daemon/ctl/import.h"
#include "daemon/ctl/show.h"
#include "daemon/ctl/watch.h"

#define EXIT_USAGE 2

struct call {
        const char *argument; /* of the command; NULL: none */
        const char *state, *socket, *instance;
        char socket_path[PATH_MAX];
        double interval_s;
        bool json, keep;
};

struct command {
        const char *name, *argument, *help;
        int (*run)(struct call *c, struct error *e);
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

/* --- what is asked --- */

/* One request on a connection of its own; @ret_fd, if not NULL, takes the connection over. */
static int ask(const struct call *c, const char *request, int timeout_ms, int *ret_fd, char **ret_line,
               cJSON **ret_answer, struct error *e) {
        cleanup_(fd_closep) int fd = -1;
        int r;

        r = client_open(c->socket_path, &fd, e);
        if (r == 0)
                r = client_ask(fd, request, timeout_ms, ret_line, ret_answer, e);
        if (r == 0 && ret_fd)
                *ret_fd = TAKE_FD(fd);
        return r;
}

/* Ask, and with --json print the answer as it came. */
static int ask_simply(const struct call *c, const char *request, int timeout_ms, cJSON **ret_answer,
                      struct error *e) {
        cleanup_(freep) char *line = NULL;
        int r;

        r = ask(c, request, timeout_ms, NULL, &line, ret_answer, e);
        if (r == 0 && c->json)
                (void) puts(line);
        return r;
}

/* The status as text: azpard's line with --json, else for people. */
static int draw_status(void *userdata, char **ret_text, struct error *e) {
        const struct call *c = userdata;
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        cleanup_(freep) char *line = NULL;
        size_t n;
        FILE *out;
        int r;

        r = ask(c, "{\"command\":\"status\"}", CLIENT_TIMEOUT_MS, NULL, &line, &answer, e);
        if (r < 0)
                return r;
        if (c->json) {
                *ret_text = TAKE_PTR(line);
                return 0;
        }
        out = open_memstream(ret_text, &n);
        if (!out)
                return error_set(e, -ENOMEM, "out of memory");
        show_status(answer, out);
        return fclose(out) == 0 ? 0 : error_set(e, -ENOMEM, "out of memory");
}

static int run_status(struct call *c, struct error *e) {
        cleanup_(freep) char *text = NULL;
        int r = draw_status(c, &text, e);

        if (r < 0)
                return r;
        (void) fputs(text, stdout);
        if (c->json)
                (void) putchar('\n');
        return 0;
}

static int run_watch(struct call *c, struct error *e) {
        cleanup_(freep) char *text = NULL;
        int r = draw_status(c, &text, e); /* a wrong path is an error, not a screen */

        return r < 0 ? r : watch_run(c->interval_s, draw_status, c, e);
}

static int run_version(struct call *c, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        const cJSON *version;
        int r;

        r = ask_simply(c, "{\"command\":\"version\"}", CLIENT_TIMEOUT_MS, &answer, e);
        if (r < 0 || c->json)
                return r;
        version = cJSON_GetObjectItemCaseSensitive(answer, "version");
        if (cJSON_IsString(version))
                client_make_printable(version->valuestring);
        (void) printf("azparctl %s, azpard %s\n", AZPAR_VERSION,
                      cJSON_IsString(version) ? version->valuestring : "-");
        return 0;
}

static int run_workers(struct call *c, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        char request[64], *end;
        unsigned long n;

        errno = 0;
        n = strtoul(c->argument, &end, 10);
        if (errno || *end || c->argument[0] < '0' || c->argument[0] > '9' || n > INT_MAX)
                return error_set(e, -EINVAL, "'%s' is not a number of workers", c->argument);
        (void) snprintf(request, sizeof(request), "{\"command\":\"workers\",\"count\":%lu}", n);
        return ask_simply(c, request, CLIENT_TIMEOUT_MS, &answer, e);
}

static int run_pause(struct call *c, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;

        return ask_simply(c, "{\"command\":\"pause\"}", CLIENT_TIMEOUT_MS, &answer, e);
}

static int run_resume(struct call *c, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;

        return ask_simply(c, "{\"command\":\"resume\"}", CLIENT_TIMEOUT_MS, &answer, e);
}

static int run_checkpoint(struct call *c, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        const cJSON *step;
        int r;

        r = ask_simply(c, "{\"command\":\"checkpoint\"}", CLIENT_NO_TIMEOUT, &answer, e);
        step = r == 0 ? cJSON_GetObjectItemCaseSensitive(answer, "step") : NULL;
        if (cJSON_IsNumber(step) && !c->json)
                (void) printf("checkpoint at step %.0f\n", step->valuedouble);
        return r;
}

static int run_import(struct call *c, struct error *e) {
        const struct import_options o = {
                .socket_path = c->socket_path, .folder = c->argument, .keep = c->keep, .json = c->json
        };

        return import_run(&o, e);
}

/* Where the window lies: azpard says it, and without one --state does. */
static int find_window(const struct call *c, char ret[PATH_MAX], struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        cleanup_(freep) char *line = NULL;
        const cJSON *directory;
        int n, r;

        r = c->state ? 0 : ask(c, "{\"command\":\"status\"}", CLIENT_TIMEOUT_MS, NULL, &line, &answer, e);
        if (r < 0)
                return r;
        directory = cJSON_GetObjectItemCaseSensitive(answer, "state_directory");
        if (!c->state && !cJSON_IsString(directory))
                return error_set(e, -EBADMSG, "azpard does not say where its state directory is");
        n = snprintf(ret, PATH_MAX, "%s/window", c->state ?: directory->valuestring);
        return n < PATH_MAX ? 0 : error_set(e, -ENAMETOOLONG, "the path of the window is too long");
}

static int run_export(struct call *c, struct error *e) {
        char window[PATH_MAX];
        const struct export_options o = { .window = window, .folder = c->argument, .json = c->json };
        int r = find_window(c, window, e);

        return r < 0 ? r : export_run(&o, e);
}

static int run_reload(struct call *c, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        int r = ask_simply(c, "{\"command\":\"reload\"}", CLIENT_TIMEOUT_MS, &answer, e);

        if (r == 0 && !c->json)
                show_reload(answer, stdout);
        return r;
}

static int run_stop(struct call *c, struct error *e) {
        cleanup_(cJSON_Deletep) cJSON *answer = NULL;
        cleanup_(freep) char *line = NULL;
        cleanup_(fd_closep) int fd = -1;
        int r;

        r = ask(c, "{\"command\":\"stop\"}", CLIENT_TIMEOUT_MS, &fd, &line, &answer, e);
        if (r == 0)
                r = client_wait_end(fd, e);
        if (r == 0 && c->json)
                (void) puts(line);
        return r;
}

/* clang-format off */
static const struct command commands[] = {
        { "status",     NULL, "show what azpard, its trainer and its workers do",          run_status     },
        { "watch",      NULL, "the same, redrawn every --interval seconds until ^C",       run_watch      },
        { "workers",    "N",  "run N workers",                                             run_workers    },
        { "pause",      NULL, "let workers and trainer stand still",                       run_pause      },
        { "resume",     NULL, "let them go on",                                            run_resume     },
        { "checkpoint", NULL, "write a checkpoint now; returns when it is written",        run_checkpoint },
        { "import",     "DIR", "take in the batch files of DIR; --keep leaves them there",  run_import     },
        { "export",     "DIR", "write the replay window as batch files to DIR",             run_export     },
        { "reload",     NULL, "read the configuration again; say what changes and what cannot", run_reload },
        { "stop",       NULL, "save and stop azpard; returns when it is gone",             run_stop       },
        { "version",    NULL, "show the versions of azparctl and azpard",                  run_version    },
};
/* clang-format on */

/* --- the command line --- */

enum { OPT_STATE, OPT_SOCKET, OPT_INSTANCE, OPT_INTERVAL, OPT_KEEP, OPT_JSON, OPT_HELP, OPT_VERSION };

/* clang-format off */
static const struct {
        const char *name, *argument, *help;
} options[] = {
        [OPT_STATE]    = { "state",    "DIR",  "the azpard that was started with --state DIR" },
        [OPT_SOCKET]   = { "socket",   "PATH", "the azpard whose control socket is PATH" },
        [OPT_INSTANCE] = { "instance", "NAME", "the service's instance NAME (default: default)" },
        [OPT_INTERVAL] = { "interval", "S",    "watch: seconds between drawings (default: 1)" },
        [OPT_KEEP]     = { "keep",     NULL,   "import: leave the files where they are" },
        [OPT_JSON]     = { "json",     NULL,   "print azpard's answer as it is, one line of JSON" },
        [OPT_HELP]     = { "help",     NULL,   "print this help" },
        [OPT_VERSION]  = { "version",  NULL,   "print azparctl's version" },
};
/* clang-format on */

static int print_help(void) {
        (void) puts("usage: azparctl [OPTION]... COMMAND\n\ncommands:");
        for (size_t i = 0; i < N_ELEMENTS(commands); i++)
                (void) printf("  %-10s %-5s %s\n", commands[i].name, commands[i].argument ?: "",
                              commands[i].help);
        (void) puts("\noptions:");
        for (size_t i = 0; i < N_ELEMENTS(options); i++)
                (void) printf("  --%-10s %-5s %s\n", options[i].name, options[i].argument ?: "",
                              options[i].help);
        return EXIT_SUCCESS;
}

printf_(1, 2) static int usage(const char *format, ...) {
        char text[ERROR_TEXT_MAX];
        va_list args;

        va_start(args, format);
        (void) vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        log_error("%s; see azparctl --help", text);
        return EXIT_USAGE;
}

/* Where the control socket is. Return: 0 or EXIT_USAGE. */
static int find_socket(struct call *c) {
        const char *name = c->instance ?: "default";
        int n;

        if (!!c->state + !!c->socket + !!c->instance > 1)
                return usage("--state, --socket and --instance exclude each other");
        if (c->socket)
                n = snprintf(c->socket_path, sizeof(c->socket_path), "%s", c->socket);
        else if (c->state)
                n = snprintf(c->socket_path, sizeof(c->socket_path), "%s/control.sock", c->state);
        else
                n = snprintf(c->socket_path, sizeof(c->socket_path), "/run/azpar/%s.sock", name);
        if (!name[0] || strchr(name, '/'))
                return usage("'%s' is no name of an instance", name);
        return n >= 0 && (size_t) n < sizeof(c->socket_path) ? 0
                                                             : usage("the path of the socket is too long");
}

/* Return: 0, or EXIT_USAGE. */
static int parse_interval(const char *text, struct call *c) {
        char *end;

        c->interval_s = strtod(text, &end);
        if (end == text || *end ||
            !(c->interval_s >= WATCH_INTERVAL_MIN_S && c->interval_s <= WATCH_INTERVAL_MAX_S))
                return usage("--interval: '%s' is not a number of seconds from %g to %g", text,
                             WATCH_INTERVAL_MIN_S, WATCH_INTERVAL_MAX_S);
        return 0;
}

/* Return: 0 with the place of the command in argv; EXIT_USAGE; -1: all is done. */
static int parse_options(int argc, char **argv, struct call *c) {
        struct option long_options[N_ELEMENTS(options) + 1] = { { NULL, 0, NULL, 0 } };
        int o, r = 0;

        for (size_t i = 0; i < N_ELEMENTS(options); i++)
                long_options[i] =
                        (struct option){ .name = options[i].name,
                                         .has_arg = options[i].argument ? required_argument : no_argument,
                                         .val = (int) i };
        while (r == 0 && (o = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
                switch (o) {
                case OPT_STATE:
                        c->state = optarg;
                        break;
                case OPT_SOCKET:
                        c->socket = optarg;
                        break;
                case OPT_INSTANCE:
                        c->instance = optarg;
                        break;
                case OPT_INTERVAL:
                        r = parse_interval(optarg, c);
                        break;
                case OPT_KEEP:
                        c->keep = true;
                        break;
                case OPT_JSON:
                        c->json = true;
                        break;
                case OPT_HELP:
                        (void) print_help();
                        return -1;
                case OPT_VERSION:
                        (void) puts("azparctl " AZPAR_VERSION);
                        return -1;
                default:
                        return EXIT_USAGE; /* getopt has said why */
                }
        }
        return r;
}

static const struct command *find_command(const char *name) {
        for (size_t i = 0; i < N_ELEMENTS(commands); i++)
                if (strcmp(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

/* The command with its argument. Return: 0 or EXIT_USAGE. */
static int parse_command(int argc, char **argv, struct call *c, const struct command **ret) {
        const struct command *command;

        if (optind >= argc)
                return usage("a command is missing");
        command = find_command(argv[optind]);
        if (!command)
                return usage("unknown command '%s'", argv[optind]);
        if (command->argument && optind + 1 < argc)
                c->argument = argv[optind + 1];
        if (command->argument && !c->argument)
                return usage("command '%s' needs %s", command->name, command->argument);
        if (optind + 1 + !!command->argument < argc)
                return usage("command '%s': '%s' is too much", command->name,
                             argv[optind + 1 + !!command->argument]);
        *ret = command;
        return 0;
}

int main(int argc, char **argv) {
        struct call call = { .interval_s = 1 };
        const struct command *command = NULL;
        struct error e = ERROR_INIT;
        int r;

        log_open("azparctl", LOG_LEVEL_INFO);
        r = parse_options(argc, argv, &call);
        if (r == 0)
                r = find_socket(&call);
        if (r == 0)
                r = parse_command(argc, argv, &call, &command);
        if (r != 0)
                return r < 0 ? EXIT_SUCCESS : r;
        r = command->run(&call, &e);
        if (r < 0) {
                log_error("%s", e.text);
                return EXIT_FAILURE;
        }
        if (fflush(stdout) == EOF) {
                log_error("could not write: %s", strerror(errno));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
