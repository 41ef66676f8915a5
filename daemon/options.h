/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * azpard's command line, and the names and paths that follow from it.
 *
 * A systemd unit passes none of them: STATE_DIRECTORY and RUNTIME_DIRECTORY
 * come from the environment.  Anybody else says --state DIR, and then
 * everything but /dev/shm lies in DIR.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include "common/base/error.h"

#define OPTIONS_CONFIG_FOLDER   "/etc/azpar"
#define OPTIONS_INSTANCE_MAX    48 /* bytes with the final 0 */
#define OPTIONS_CONFIG_PATH_MAX (OPTIONS_INSTANCE_MAX + 32)

enum options_task { OPTIONS_RUN, OPTIONS_CHECK, OPTIONS_DUMP_CONFIG, OPTIONS_HELP, OPTIONS_VERSION };

struct options {
        enum options_task task;
        const char *config; /* file to read; NULL: none. May be default_config, so this struct stays where it is. */
        char default_config[OPTIONS_CONFIG_PATH_MAX];
        const char *state;  /* as on the command line; NULL: not given */
        const char *instance;
        const char *socket;
        const char *const *settings; /* "section.key=value", owned */
        size_t n_settings;
};

/*
 * options_parse() - read the command line
 *
 * The strings stay argv's.  Without --config, options_config_path() is taken if it exists.
 *
 * Return: 0; -EINVAL with a text.
 */
must_check_ int options_parse(int argc, char **argv, struct options *ret, struct error *e);
void options_deinit(struct options *o);

/* The configuration of @instance (NULL: not given): "azpar.conf" for the default one, else "NAME.conf". */
void options_config_path(const char *instance, char ret[OPTIONS_CONFIG_PATH_MAX]);

/* The text of --help, on stdout. */
void options_print_help(void);

/* Where the state directory is: --state, STATE_DIRECTORY, or one below /var/lib/azpar. */
must_check_ int options_state_path(const struct options *o, char ret[PATH_MAX], struct error *e);

/*
 * The instance's name: --instance, else "default", else (with --state) one made from @state_path, so that two
 * state directories do not meet in /dev/shm.
 * @state_path: the resolved path of the state directory
 */
void options_instance(const struct options *o, const char *state_path, char ret[OPTIONS_INSTANCE_MAX]);

/* Where the control socket goes. */
must_check_ int options_socket_path(const struct options *o, const char *state_path, const char *instance,
                                    char ret[PATH_MAX], struct error *e);
