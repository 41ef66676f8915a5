/* SPDX-License-Identifier: MIT */
/*
 * Status; see status.h.  Process: azpard.
 *
 * Most numbers were written by other processes into shared memory.  They are
 * shown, never believed: each is brought into a range that JSON can hold, a
 * state that has no name is "unknown", and nothing is divided by one of them unchecked.
 *
 * The names are a contract with azparctl and with whatever else reads the
 * socket.  When adding one, add it to azparctl(1) and azpar-protocol(7) as well.
 */
#include "daemon/status.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/version.h"
#include "daemon/control.h"

#define INTEGER_MAX 9007199254740992.0 /* 2^53: larger ones would be rounded by readers */

static const char *const trainer_states[TRAINER_N_STATES_] = {
        [TRAINER_STARTING] = "starting", [TRAINER_FILLING] = "filling", [TRAINER_TRAINING] = "training",
        [TRAINER_LIMITED] = "limited",   [TRAINER_SAVING] = "saving",   [TRAINER_PAUSED] = "paused",
};
static const char *const worker_states[WORKER_N_STATES_] = {
        [WORKER_STARTING] = "starting", [WORKER_PLAYING] = "playing",     [WORKER_WAITING] = "waiting",
        [WORKER_PAUSED] = "paused",     [WORKER_THROTTLED] = "throttled",
};

/* Relaxed throughout: each word is shown for itself, and nothing is concluded from one about another. */
#define LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)

static double load_double(const _Atomic uint64_t *bits) {
        return segment_bits_double(atomic_load_explicit(bits, memory_order_relaxed));
}

/* ---- pieces of JSON; a failed allocation shows in *ok, so that the callers read as a list ---- */

struct object {
        cJSON *json;
        bool *ok;
};

static void put(struct object o, const char *name, cJSON *item) {
        if (!item || !o.json || !cJSON_AddItemToObject(o.json, name, item)) {
                cJSON_Delete(item);
                *o.ok = false;
        }
}

static void put_number(struct object o, const char *name, double x) {
        put(o, name, isfinite(x) ? cJSON_CreateNumber(x) : cJSON_CreateNull());
}

static void put_count(struct object o, const char *name, uint64_t n) {
        put_number(o, name, fmin((double) n, INTEGER_MAX));
}

static void put_text(struct object o, const char *name, const char *text) {
        put(o, name, text && *text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

static void put_ms(struct object o, const char *name, uint64_t ns) {
        put_number(o, name, (double) ns / NS_PER_MS);
}

/* Seconds from @then_ns to @now_ns; null where @then_ns is 0, "never". */
static void put_age(struct object o, const char *name, uint64_t then_ns, uint64_t now_ns) {
        double age = now_ns > then_ns ? (double) (now_ns - then_ns) / NS_PER_S : 0.0;

        put_number(o, name, then_ns ? age : NAN);
}

static struct object put_object(struct object o, const char *name) {
        struct object inner = { .json = cJSON_CreateObject(), .ok = o.ok };

        put(o, name, inner.json);
        if (!*o.ok)
                inner.json = NULL; /* it may be gone */
        return inner;
}

/* Foreign text may be torn and hold any byte: plain ASCII is shown, anything else as '?'. */
static void put_foreign_text(struct object o, const char *name, const char *text, size_t size) {
        char copy[SEGMENT_REASON_MAX];
        size_t n = 0;

        for (; n < MIN(size, sizeof(copy)) - 1 && text[n]; n++)
                copy[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
        copy[n] = '\0';
        put_text(o, name, copy);
}

/* ---- state ---- */

static const char *child_state(const struct child *c, const char *const *names, unsigned n_names,
                               uint32_t state) {
        switch (c->phase) {
        case CHILD_OFF:
                return "off";
        case CHILD_BACKOFF:
                return "restarting";
        case CHILD_PARKED:
                return "parked";
        case CHILD_RUNNING:
                break;
        }
        if (!c->first_beat_ns)
                return "starting";
        return state < n_names ? names[state] : "unknown";
}

/* Workers that should play and do not. Return: false if there are none worth a word. */
static bool find_idle_workers(const struct status_sources *s, char *reason) {
        unsigned n_parked = 0, n_restarting = 0, first = 0;
        const struct child *c;

        for (unsigned i = s->n_desired; i-- > 0;) {
                c = children_get(s->children, i);
                n_parked += c->phase == CHILD_PARKED;
                n_restarting += c->phase == CHILD_BACKOFF;
                /* a parked one says more than one that is about to come back */
                if (c->phase == CHILD_PARKED || (c->phase == CHILD_BACKOFF && n_parked == 0))
                        first = i;
        }
        /* Some worker being restarted is everyday life; all of them is not. */
        if (n_parked == 0 && (n_restarting == 0 || n_restarting < s->n_desired))
                return false;
        c = children_get(s->children, first);
        (void) snprintf(reason, STATUS_REASON_MAX, "%u of %u workers %s, worker %u: %s",
                        n_parked ? n_parked : n_restarting, s->n_desired,
                        n_parked ? "parked" : "being restarted", first, c->last_exit);
        return true;
}

/* Workers that cannot spill as they should, or files that cannot be taken back. Return: false: all is well.
 */
static bool find_spill_trouble(const struct status_sources *s, char *reason) {
        const char *refill = refill_error(s->refill);

        for (uint32_t i = 0; i < s->segment->n_workers; i++) {
                const struct segment_worker *w = s->segment->workers[i];
                int error = (int) MIN(LOAD(w->spill_errno), (uint32_t) INT_MAX);

                if (children_get(s->children, i)->phase != CHILD_RUNNING)
                        continue;
                if (error)
                        (void) snprintf(reason, STATUS_REASON_MAX,
                                        "worker %u could not write spill files: %s", (unsigned) i,
                                        strerror(error));
                else if (LOAD(w->spill_full))
                        (void) snprintf(
                                reason, STATUS_REASON_MAX,
                                "worker %u waits: its spill files are at the limit (service.spill_max)",
                                (unsigned) i);
                if (reason[0])
                        return true;
        }
        if (refill)
                (void) snprintf(reason, STATUS_REASON_MAX, "%.*s", STATUS_REASON_MAX - 1, refill);
        return refill;
}

bool status_is_degraded(const struct status_sources *s, char ret_reason[STATUS_REASON_MAX]) {
        const struct child *trainer = children_get(s->children, CHILDREN_TRAINER);
        int save_errno = (int) MIN(LOAD(s->segment->trainer->save_errno), (uint32_t) INT_MAX);

        ret_reason[0] = '\0';
        if (intake_error(s->intake))
                (void) snprintf(ret_reason, STATUS_REASON_MAX, "could not write the replay window: %s",
                                strerror(-intake_error(s->intake)));
        else if (window_sync_error(s->sync))
                (void) snprintf(ret_reason, STATUS_REASON_MAX, "could not sync the replay window: %s",
                                strerror(-window_sync_error(s->sync)));
        else if (trainer->phase == CHILD_PARKED)
                (void) snprintf(ret_reason, STATUS_REASON_MAX, "trainer is parked: %s", trainer->last_exit);
        else if (trainer->phase == CHILD_BACKOFF)
                (void) snprintf(ret_reason, STATUS_REASON_MAX, "trainer is being restarted: %s",
                                trainer->last_exit);
        else if (save_errno)
                (void) snprintf(ret_reason, STATUS_REASON_MAX, "the trainer could not save: %s",
                                strerror(save_errno));
        else if (!find_idle_workers(s, ret_reason) && !find_spill_trouble(s, ret_reason) &&
                 s->publication->refused_reason[0])
                (void) snprintf(ret_reason, STATUS_REASON_MAX, "published weights refused: %.220s",
                                s->publication->refused_reason);
        return ret_reason[0];
}

/* What a start waits for. */
static const char *starting(const struct status_sources *s, char *reason) {
        (void) snprintf(reason, STATUS_REASON_MAX, "%s",
                        LOAD(s->segment->header->generation) == 0 ? "waiting for the trainer's first weights"
                                                                  : "waiting for the trainer");
        return "starting";
}

/* What a stop waits for. */
static const char *stopping(const struct status_sources *s, char *reason) {
        unsigned n_workers = children_n_workers_running(s->children);

        if (children_get(s->children, CHILDREN_TRAINER)->phase == CHILD_RUNNING)
                (void) snprintf(reason, STATUS_REASON_MAX, "waiting for the trainer to save");
        else if (n_workers > 0)
                (void) snprintf(reason, STATUS_REASON_MAX, "waiting for %u workers to end", n_workers);
        return "stopping";
}

const char *status_state(const struct status_sources *s, char ret_reason[STATUS_REASON_MAX]) {
        uint64_t n_samples = window_tail(s->window) - window_first(s->window);
        uint32_t trainer = LOAD(s->segment->trainer->state);

        ret_reason[0] = '\0';
        if (s->stopping)
                return stopping(s, ret_reason);
        if (status_is_degraded(s, ret_reason))
                return "degraded";
        if (LOAD(s->segment->header->pause))
                return "paused";
        if (!children_get(s->children, CHILDREN_TRAINER)->first_beat_ns)
                return starting(s, ret_reason);
        switch (trainer) {
        case TRAINER_FILLING:
                (void) snprintf(ret_reason, STATUS_REASON_MAX, "%ju of %ju samples that training starts with",
                                (uintmax_t) n_samples, (uintmax_t) s->config->replay_min_samples);
                return "filling";
        case TRAINER_LIMITED:
                (void) snprintf(ret_reason, STATUS_REASON_MAX,
                                "the trainer waits for new samples (replay.ratio)");
                return "limited";
        case TRAINER_TRAINING:
        case TRAINER_SAVING:
                return "training";
        case TRAINER_PAUSED:
                return "paused";
        default:
                return starting(s, ret_reason);
        }
}

/* ---- sections ---- */

static void put_training(struct object o, const struct status_sources *s) {
        const struct segment_trainer *t = s->segment->trainer;
        double total = load_double(&t->loss_total);
        struct object loss;

        put_count(o, "step", LOAD(t->step));
        put_number(o, "steps_per_s", rates_steps_per_s(s->rates));
        put_count(o, "samples_trained", LOAD(t->samples_trained));
        put_number(o, "learning_rate", load_double(&t->learning_rate));
        /* A cross-entropy is never exactly 0: no step has been made by this trainer yet. */
        if (LOAD(t->step) == 0 || total == 0.0) {
                put(o, "loss", cJSON_CreateNull());
                return;
        }
        loss = put_object(o, "loss");
        put_number(loss, "policy", load_double(&t->loss_policy));
        put_number(loss, "value", load_double(&t->loss_value));
        put_number(loss, "total", total);
        put_number(loss, "smooth_policy", load_double(&t->smooth_policy));
        put_number(loss, "smooth_value", load_double(&t->smooth_value));
        put_number(loss, "smooth_total", load_double(&t->smooth_total));
}

static void put_window(struct object o, const struct status_sources *s) {
        const struct segment_trainer *t = s->segment->trainer;
        uint64_t inserted = LOAD(t->samples_inserted), trained = LOAD(t->samples_trained);
        uint64_t tail = window_tail(s->window);
        struct object w = put_object(o, "window"), l = put_object(o, "limiter");

        put_count(w, "samples", tail - window_first(s->window));
        put_count(w, "capacity", window_capacity(s->window));
        put_count(w, "inserted", tail);
        put_count(w, "damaged", window_n_damaged(s->window));
        put_count(w, "durable", window_durable(s->window));
        put_number(l, "target_ratio", s->config->replay_ratio);
        put_number(l, "ratio", tail ? (double) trained / (double) tail : 0.0);
        put_count(l, "inserted", inserted);
        put_count(l, "trained", trained);
        put_count(l, "allowed", LOAD(t->samples_allowed));
        put(l, "throttle", cJSON_CreateBool(LOAD(s->segment->header->throttle) != 0));
}

static void put_rates(struct object o, const struct rates *r, uint32_t slot) {
        put_number(o, "samples_per_s", rates_per_s(r, slot, RATE_SAMPLES));
        put_number(o, "games_per_s", rates_per_s(r, slot, RATE_GAMES));
        put_number(o, "simulations_per_s", rates_per_s(r, slot, RATE_SIMULATIONS));
        put_number(o, "evaluations_per_s", rates_per_s(r, slot, RATE_EVALUATIONS));
}

static void put_totals(struct object o, const struct status_sources *s) {
        struct object rates = put_object(o, "rates"), totals = put_object(o, "totals");

        put_rates(rates, s->rates, RATES_ALL);
        put_count(totals, "games", rates_total(s->rates, RATES_ALL, RATE_GAMES));
        put_count(totals, "samples", rates_total(s->rates, RATES_ALL, RATE_SAMPLES));
        put_count(totals, "simulations", rates_total(s->rates, RATES_ALL, RATE_SIMULATIONS));
        put_count(totals, "evaluations", rates_total(s->rates, RATES_ALL, RATE_EVALUATIONS));
}

static void put_weights(struct object o, const struct status_sources *s, uint64_t now_ns) {
        const struct segment_trainer *t = s->segment->trainer;
        uint64_t generation = LOAD(s->segment->header->generation), last_ns = 0, max_ns = 0, behind = 0;
        struct object lag = put_object(o, "lag"), publish = put_object(o, "publish"),
                      checkpoint = put_object(o, "checkpoint");

        for (uint32_t i = 0; i < s->segment->n_workers; i++) {
                const struct segment_worker *w = s->segment->workers[i];

                if (children_get(s->children, i)->phase != CHILD_RUNNING)
                        continue;
                behind += LOAD(w->generation) != generation;
                last_ns = MAX(last_ns, LOAD(w->lag_ns));
                max_ns = MAX(max_ns, LOAD(w->max_lag_ns));
        }
        put_count(lag, "workers_behind", behind);
        put_ms(lag, "last_ms", last_ns);
        put_ms(lag, "max_ms", max_ns);
        put_count(publish, "count", s->publication->n_announced);
        put_ms(publish, "last_ms", LOAD(t->publish_ns));
        put_age(publish, "age_s", s->publication->announced_ns, now_ns);
        put_count(publish, "refused", s->publication->n_refused);
        put_text(publish, "refused_reason", s->publication->refused_reason);
        put_count(checkpoint, "step", LOAD(t->checkpoint_step));
        put_age(checkpoint, "age_s", s->checkpoint_ns, now_ns);
}

static void put_child(struct object o, const struct status_sources *s, const struct child *c,
                      const char *state, uint64_t now_ns) {
        const struct usage_memory *memory = &s->usage->memory[c->number];

        if (c->pid > 0)
                put_count(o, "pid", (uint64_t) c->pid);
        else
                put(o, "pid", cJSON_CreateNull());
        put_text(o, "state", state);
        put_count(o, "restarts", c->n_restarts);
        put_text(o, "last_exit", c->last_exit);
        put_age(o, "heartbeat_age_s", c->phase == CHILD_RUNNING ? c->last_beat_ns : 0, now_ns);
        put_count(o, "pss_bytes", memory->pss_bytes);
        put_count(o, "private_dirty_bytes", memory->private_dirty_bytes);
}

static void put_worker(struct object o, const struct status_sources *s, uint32_t slot, uint64_t now_ns) {
        const struct child *c = children_get(s->children, slot);
        const struct segment_worker *w = s->segment->workers[slot];
        uint32_t precision = LOAD(w->precision);

        put_count(o, "slot", slot);
        put_child(o, s, c, child_state(c, worker_states, WORKER_N_STATES_, LOAD(w->state)), now_ns);
        put_text(o, "precision",
                 precision == PRECISION_F32    ? "f32"
                 : precision == PRECISION_BF16 ? "bf16"
                                               : NULL);
        put_count(o, "incarnation", c->incarnation);
        put_count(o, "generation", LOAD(w->generation));
        put_ms(o, "lag_ms", LOAD(w->lag_ns));
        put_ms(o, "max_lag_ms", LOAD(w->max_lag_ns));
        put_count(o, "games", rates_total(s->rates, slot, RATE_GAMES));
        put_count(o, "samples", rates_total(s->rates, slot, RATE_SAMPLES));
        put_rates(o, s->rates, slot);
        put_count(o, "lane_used", lane_used(&s->segment->lanes[slot]));
        put_count(o, "lane_bytes", s->segment->lane_bytes);
        put_count(o, "lane_waits", LOAD(w->lane_waits));
        put_count(o, "spilled_samples", rates_total(s->rates, slot, RATE_SPILLED));
        put_count(o, "bad_records", intake_slot_counts(s->intake, slot)->bad_records);
        put_count(o, "refused", LOAD(w->refused));
        put_foreign_text(o, "refused_reason", w->refused_text, sizeof(w->refused_text));
}

static void put_workers(struct object o, const struct status_sources *s, uint64_t now_ns) {
        cJSON *list = cJSON_CreateArray();

        put_count(o, "workers_desired", s->n_desired);
        put(o, "workers", list);
        for (uint32_t slot = 0; *o.ok && slot < s->segment->n_workers; slot++) {
                struct object w;

                if (slot >= s->n_desired && children_get(s->children, slot)->phase == CHILD_OFF)
                        continue;
                w = (struct object){ .json = cJSON_CreateObject(), .ok = o.ok };
                if (!w.json || !cJSON_AddItemToArray(list, w.json)) {
                        cJSON_Delete(w.json);
                        *o.ok = false;
                        return;
                }
                put_worker(w, s, slot, now_ns);
        }
}

static void put_trainer(struct object o, const struct status_sources *s, uint64_t now_ns) {
        const struct segment_trainer *t = s->segment->trainer;
        const struct child *c = children_get(s->children, CHILDREN_TRAINER);
        struct object trainer = put_object(o, "trainer");

        put_child(trainer, s, c, child_state(c, trainer_states, TRAINER_N_STATES_, LOAD(t->state)), now_ns);
        put_text(trainer, "device", LOAD(t->on_cuda) ? "cuda" : "cpu");
        put_count(trainer, "gone", LOAD(t->gone));
}

static void put_intake(struct object o, const struct status_sources *s) {
        struct intake_counts c = intake_counts(s->intake);
        struct object intake = put_object(o, "intake"), disk = put_object(o, "disk");

        put_count(intake, "records", c.records);
        put_count(intake, "samples", c.samples);
        put_count(intake, "bad_records", c.bad_records);
        put_count(intake, "duplicates", c.duplicates);
        put_count(intake, "reset_bytes", c.reset_bytes);
        put_count(intake, "lanes_reset", c.lanes_reset);
        put_count(disk, "state_bytes", s->usage->disk.state_bytes);
        put_count(disk, "window_bytes", s->usage->window_bytes);
        put_count(disk, "free_bytes", s->usage->disk.free_bytes);
        put(disk, "io_uring", cJSON_CreateBool(disk_uses_uring(s->disk)));
}

static void put_spill(struct object o, const struct status_sources *s) {
        const struct refill_counts *c = refill_counts(s->refill);
        struct spill_waiting w = refill_waiting(s->refill);
        uint64_t now_us = clock_unix_us(), n_done = 0, n_bytes = 0;
        const char *reading = refill_reading(s->refill, &n_done, &n_bytes);
        struct object spill = put_object(o, "spill"), r;

        put_count(spill, "files", w.n_files);
        put_count(spill, "bytes", w.n_bytes);
        /* files of the future are as new as can be: a clock was set back */
        put_number(spill, "oldest_age_s",
                   w.oldest_unix_us ? (double) (now_us - MIN(w.oldest_unix_us, now_us)) / 1e6 : NAN);
        put_count(spill, "ignored", w.n_ignored);
        put_number(spill, "in_samples_per_s", rates_per_s(s->rates, RATES_ALL, RATE_SPILLED));
        put_number(spill, "out_samples_per_s", refill_samples_per_s(s->refill));
        put_count(spill, "spilled_samples", rates_total(s->rates, RATES_ALL, RATE_SPILLED));
        put_count(spill, "taken_files", c->files);
        put_count(spill, "taken_samples", c->samples);
        put_count(spill, "taken_bytes", c->bytes);
        put_count(spill, "duplicates", c->duplicates);
        put_count(spill, "rejected", c->rejected);
        put_text(spill, "error", refill_error(s->refill));
        if (!reading) {
                put(spill, "reading", cJSON_CreateNull());
                return;
        }
        r = put_object(spill, "reading");
        put_text(r, "file", reading);
        put_count(r, "done_bytes", n_done);
        put_count(r, "bytes", n_bytes);
}

cJSON *status_build(const struct status_sources *s, uint64_t now_ns) {
        char reason[STATUS_REASON_MAX];
        bool ok = true;
        struct object o = { .json = cJSON_CreateObject(), .ok = &ok };

        put_count(o, "protocol", CONTROL_PROTOCOL);
        put(o, "ok", cJSON_CreateTrue());
        put_text(o, "version", AZPAR_VERSION);
        put_text(o, "instance", s->instance);
        put_count(o, "pid", (uint64_t) getpid());
        put_text(o, "state", status_state(s, reason));
        put_text(o, "reason", reason);
        put_age(o, "uptime_s", s->started_ns, now_ns);
        put_text(o, "state_directory", s->state_path);
        put_text(o, "rules", s->segment->header->rules);
        put_count(o, "generation", LOAD(s->segment->header->generation));
        put_number(o, "generation_age_s",
                   s->publication->announced_ns
                           ? (double) publication_age_ns(s->publication, now_ns) / NS_PER_S
                           : NAN);
        put_training(o, s);
        put_window(o, s);
        put_totals(o, s);
        put_weights(o, s, now_ns);
        put_workers(o, s, now_ns);
        put_trainer(o, s, now_ns);
        put_intake(o, s);
        put_spill(o, s);
        if (ok)
                return o.json;
        cJSON_Delete(o.json);
        return NULL;
}

/* 999, 12.3k, 1.2M */
static const char *short_count(uint64_t n, char buf[16]) {
        if (n < 10000)
                (void) snprintf(buf, 16, "%u", (unsigned) n);
        else if (n < 1000000)
                (void) snprintf(buf, 16, "%.1fk", (double) n / 1e3);
        else
                (void) snprintf(buf, 16, "%.1fM", (double) n / 1e6);
        return buf;
}

void status_line(const struct status_sources *s, char *ret, size_t size) {
        double loss = load_double(&s->segment->trainer->smooth_total);
        char reason[STATUS_REASON_MAX], count[16], loss_text[32] = "";
        const char *state = status_state(s, reason);
        bool is_plain = strcmp(state, "training") == 0;

        if (isfinite(loss) && loss > 0.0)
                (void) snprintf(loss_text, sizeof(loss_text), ", loss %.3g", loss);
        (void) snprintf(ret, size, "%s%s%s%sgeneration %ju, %s samples, %.1f games/s%s",
                        is_plain ? "" : state, *reason ? ", " : "", reason, is_plain ? "" : ": ",
                        (uintmax_t) LOAD(s->segment->header->generation),
                        short_count(window_tail(s->window), count),
                        rates_per_s(s->rates, RATES_ALL, RATE_GAMES), loss_text);
}
