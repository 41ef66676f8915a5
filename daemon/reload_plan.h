/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reload plan: what a configuration that is read again would change, without changing anything.
 *
 *   new configuration    as a start of azpard would read it now
 *   running one          what azpard and its children have now
 *   plan                 the new values of the keys that can change while azpard runs, the running values of
 *                        the others, and which keys are which
 *
 * Everything that can fail is in the making of the plan: carrying it out cannot (reload.h), so a reload is
 * whole or not at all.
 */

#include <stddef.h>
#include "common/base/config.h"
#include "common/base/error.h"

/* What a start could choose and a running azpard cannot choose any more. */
struct reload_limits {
        unsigned n_slots; /* for workers, in the shared memory */
};

/* Where a configuration is read from; borrowed. */
struct reload_source {
        const char *path; /* NULL: no file */
        const char *const *settings;
        size_t n_settings;
};

/* A key whose value in the new configuration is not the running one. */
struct reload_change {
        const struct config_key *key;
        char from[CONFIG_VALUE_MAX], to[CONFIG_VALUE_MAX];
        enum config_reload reload; /* CONFIG_RESTART: the running value stays */
};

struct reload_plan {
        struct config config; /* to be in effect */
        int config_fd;        /* the same for children; -1: no value changes */
        unsigned reload;      /* enum config_reload of all values that change, or-ed */
        size_t n_taken, n_left; /* changes that are taken up, and those that need a restart */
        struct reload_change changes[CONFIG_N_KEYS]; /* both, in the order of the table */
};

#define RELOAD_PLAN_NULL ((struct reload_plan){ .config_fd = -1 })

/*
 * reload_plan_make() - read the configuration again and compare it with @running
 *
 * The new configuration is checked as at a start, and the one that would be in effect as children check it.
 *
 * Return: 0; negative errno with a text, and @ret untouched.
 */
must_check_ int reload_plan_make(const struct config *running, const struct reload_limits *limits,
                                 const struct reload_source *source, struct reload_plan *ret, struct error *e);
void reload_plan_deinit(struct reload_plan *p);
