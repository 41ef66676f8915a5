/* SPDX-License-Identifier: MIT */
/*
 * Reloading the configuration; see reload.h.  Process: azpard.
 *
 * First everything that can fail: the plan (reload_plan.h) and the answer.  Then what cannot: values are
 * handed to the parts that use them, and children are signalled.  A child that cannot be started then is no
 * failure of the reload, it is tried again as any other (children.h).
 *
 * Children read their configuration when they start, from a memfd.  Those that need none of the changed
 * values keep running with the old one; whenever one of them is started again, for whatever reason, it gets
 * the new.
 */
#include "daemon/reload.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include "common/base/log.h"
#include "daemon/cores.h"
#include "daemon/daemon.h"
#include "daemon/reload_plan.h"

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

static const char *source_path(const struct daemon *d) {
        const char *later = d->options->default_config;

        if (d->config_path)
                return d->config_path;
        return access(later, F_OK) == 0 ? later : NULL;
}

/* ---- the answer ---- */

static bool add_change(cJSON *list, const struct reload_change *change) {
        cJSON *item = cJSON_CreateObject();
        char name[64];

        if (!item || !cJSON_AddItemToArray(list, item)) {
                cJSON_Delete(item);
                return false;
        }
        (void) snprintf(name, sizeof(name), "%s.%s", change->key->section, change->key->key);
        return cJSON_AddStringToObject(item, "key", name) &&
               cJSON_AddStringToObject(item, "from", change->from) &&
               cJSON_AddStringToObject(item, "to", change->to) &&
               cJSON_AddStringToObject(item, "effect", config_reload_text(change->reload));
}

static cJSON *make_answer(const struct reload_plan *p) {
        cleanup_(cJSON_Deletep) cJSON *answer = cJSON_CreateObject();
        cJSON *changed, *restart;

        if (!answer || !cJSON_AddTrueToObject(answer, "ok") ||
            !cJSON_AddNumberToObject(answer, "protocol", CONTROL_PROTOCOL))
                return NULL;
        changed = cJSON_AddArrayToObject(answer, "changed");
        restart = cJSON_AddArrayToObject(answer, "restart");
        if (!changed || !restart)
                return NULL;
        for (size_t i = 0; i < p->n_taken + p->n_left; i++) {
                const struct reload_change *c = &p->changes[i];

                if (!add_change(c->reload == CONFIG_RESTART ? restart : changed, c))
                        return NULL;
        }
        return TAKE_PTR(answer);
}

/* ---- taking up ---- */

/* azpard's own parts. @old: what they have */
static void tell_own(struct daemon *d, const struct config *old) {
        const struct config *c = &d->config;

        if (c->replay_ratio != old->replay_ratio || c->replay_slack != old->replay_slack ||
            c->train_batch != old->train_batch)
                throttle_init(&d->throttle, c->replay_ratio, c->replay_slack, c->train_batch);
        if (!c->replay_throttle_workers) {
                throttle_reset(&d->throttle);
                /* relaxed: as the tick does it */
                atomic_store_explicit(&d->segment->header->throttle, 0, memory_order_relaxed);
        }
        if (c->replay_sync_interval != old->replay_sync_interval)
                window_sync_set_interval(d->sync, (uint64_t) (c->replay_sync_interval * 1e6));
        children_set_limits(d->children, (uint64_t) (c->service_heartbeat_timeout * NS_PER_S),
                            c->service_restart_limit);
        /* replay.min_samples and service.stop_timeout are looked up when they are needed */
}

static void take_up(struct daemon *d, struct reload_plan *p) {
        const struct config old = d->config;

        d->config = p->config;
        children_set_config(d->children, p->config_fd);
        fd_closep(&d->config_fd);
        d->config_fd = TAKE_FD(p->config_fd);
        tell_own(d, &old);
        if (p->reload & CONFIG_WORKERS)
                children_renew_workers(d->children);
        if (d->config.selfplay_workers != old.selfplay_workers)
                daemon_set_workers(d, cores_n_workers(&d->config, d->segment->n_workers));
        if (p->reload & CONFIG_TRAINER)
                children_renew_trainer(d->children);
}

/* ---- what is said ---- */

static void log_changes(const struct reload_plan *p, const char *path) {
        for (size_t i = 0; i < p->n_taken + p->n_left; i++) {
                const struct reload_change *c = &p->changes[i];
                bool waits = c->reload == CONFIG_RESTART;
                char name[64];

                (void) snprintf(name, sizeof(name), "%s.%s", c->key->section, c->key->key);
                log_event(waits ? LOG_EVENT_CONFIG_WAITS : LOG_EVENT_CONFIG_CHANGED,
                          LOG_FIELDS(LOG_TEXT(KEY, name)), "%s: %s -> %s: %s%s", name, c->from, c->to,
                          config_reload_text(c->reload), waits ? "; the old value stays in effect" : "");
        }
        if (p->n_taken + p->n_left == 0)
                log_event(LOG_EVENT_CONFIG_RELOADED, LOG_NO_FIELDS, "reloaded %s: nothing has changed", path);
        else
                log_event(LOG_EVENT_CONFIG_RELOADED, LOG_NO_FIELDS,
                          "reloaded %s: %zu changes taken up%s%s, %zu need a restart of azpard", path,
                          p->n_taken, p->reload & CONFIG_WORKERS ? ", workers are started anew" : "",
                          p->reload & CONFIG_TRAINER ? ", the trainer is started anew" : "", p->n_left);
}

/* For an answer, which is printable ASCII; the log has it as it is. */
static void make_printable(char *text) {
        for (; *text; text++) {
                if (*text < ' ' || *text > '~')
                        *text = '?';
        }
}

static int prepare(const struct daemon *d, const char *path, struct reload_plan *ret, cJSON **ret_answer,
                   struct error *e) {
        const struct reload_limits limits = { .n_slots = d->segment->n_workers };
        const struct reload_source source = { .path = path,
                                              .settings = d->options->settings,
                                              .n_settings = d->options->n_settings };
        int r;

        if (d->stopping)
                return error_set(e, -ESHUTDOWN, "azpard is stopping");
        r = reload_plan_make(&d->config, &limits, &source, ret, e);
        if (r < 0 || !ret_answer)
                return r;
        *ret_answer = make_answer(ret);
        return *ret_answer ? 0 : error_set(e, -ENOMEM, "out of memory");
}

int reload_run(struct daemon *d, cJSON **ret_answer, struct error *e) {
        cleanup_(reload_plan_deinit) struct reload_plan p = RELOAD_PLAN_NULL;
        const char *path = source_path(d);
        int r;

        r = prepare(d, path, &p, ret_answer, e);
        if (r < 0) {
                log_event(LOG_EVENT_CONFIG_REFUSED, LOG_FIELDS(LOG_TEXT(REASON, e->text)),
                          "not reloaded, the old configuration stays in effect: %s", e->text);
                make_printable(e->text);
                return r;
        }
        d->config_path = path;
        if (p.n_taken > 0)
                take_up(d, &p);
        log_changes(&p, path ? path : "without a file");
        return 0;
}
