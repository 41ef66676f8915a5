/* SPDX-License-Identifier: MIT */
/* What a reload would change; see reload_plan.h.  Process: azpard. */
#include "daemon/reload_plan.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/games/game.h"

/* As main.c does it at a start. */
static int read_anew(const struct reload_source *s, struct config *ret, struct error *e) {
        cleanup_(game_freep) struct game *game = NULL;
        struct config c;
        int r;

        r = config_read(s->path, s->settings, s->n_settings, &c, e);
        if (r == 0)
                r = game_new(&c, &game, e);
        if (r == 0)
                *ret = c;
        return r;
}

static bool is_key(const struct config_key *k, const char *section, const char *key) {
        return strcmp(k->section, section) == 0 && strcmp(k->key, key) == 0;
}

/*
 * Whether the key @k keeps its running value: because the table says so, or because the new value is only
 * possible together with another key that keeps its own.
 */
static bool stays(const struct config_key *k, const struct config *running, const struct config *new,
                  const struct reload_limits *limits) {
        if (k->reload == CONFIG_RESTART)
                return true;
        if (is_key(k, "selfplay", "workers"))
                return new->selfplay_workers > limits->n_slots;
        if (is_key(k, "replay", "min_samples"))
                return new->replay_min_samples > running->replay_window;
        return false;
}

static void compare(const struct config *running, const struct config *new,
                    const struct reload_limits *limits, struct reload_plan *ret) {
        ret->config = *running;
        for (size_t i = 0; i < n_config_keys; i++) {
                const struct config_key *k = &config_keys[i];
                struct reload_change *change;

                if (config_value_equal(running, new, i))
                        continue;
                change = &ret->changes[ret->n_taken + ret->n_left];
                *change = (struct reload_change){ .key = k, .reload = k->reload };
                config_value_text(running, i, change->from);
                config_value_text(new, i, change->to);
                if (stays(k, running, new, limits)) {
                        change->reload = CONFIG_RESTART;
                        ret->n_left++;
                        continue;
                }
                config_value_copy(&ret->config, new, i);
                ret->reload |= k->reload;
                ret->n_taken++;
        }
}

/* The configuration for children, read back as they will do it. */
static int make_fd(struct reload_plan *p, struct error *e) {
        struct config c;
        int r;

        r = config_to_memfd(&p->config, &p->config_fd);
        if (r < 0)
                return error_errno(e, r, "could not keep the configuration for children");
        return config_read_fd(p->config_fd, &c, e);
}

int reload_plan_make(const struct config *running, const struct reload_limits *limits,
                     const struct reload_source *source, struct reload_plan *ret, struct error *e) {
        cleanup_(reload_plan_deinit) struct reload_plan p = RELOAD_PLAN_NULL;
        struct config new;
        int r;

        r = read_anew(source, &new, e);
        if (r < 0)
                return r;
        compare(running, &new, limits, &p);
        if (p.n_taken > 0) {
                r = make_fd(&p, e);
                if (r < 0)
                        return r;
        }
        *ret = p;
        p.config_fd = -1;
        return 0;
}

void reload_plan_deinit(struct reload_plan *p) {
        fd_closep(&p->config_fd);
        p->config_fd = -1;
}
