/* SPDX-License-Identifier: MIT */
/*
 * azpard's status for people; see show.h.  Used by azparctl's status and watch.
 *
 * Fields are named by their path ("loss.policy") and read one by one with a
 * fallback, never through a parsed struct: azpard may be older or newer than
 * azparctl, and what is missing must cost its own place on the screen only.
 */
#include "daemon/ctl/show.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include "common/base/attr.h"
#include "daemon/ctl/client.h"
#include "daemon/ctl/human.h"

#define PATH_MAX_BYTES 64
#define WORDS_MAX      160

struct words {
        char text[WORDS_MAX];
};

/* The item at @path, keys divided by dots; NULL if any of them is missing. */
static const cJSON *item(const cJSON *root, const char *path) {
        while (cJSON_IsObject(root)) {
                size_t n = strcspn(path, ".");
                char key[PATH_MAX_BYTES];

                (void) snprintf(key, sizeof(key), "%.*s", (int) n, path);
                root = cJSON_GetObjectItemCaseSensitive(root, key);
                if (!path[n])
                        return root;
                path += n + 1;
        }
        return NULL;
}

/* NAN, which is shown as "-", if there is no such number. */
static double number(const cJSON *root, const char *path) {
        const cJSON *i = item(root, path);

        return cJSON_IsNumber(i) ? i->valuedouble : NAN;
}

static struct human count(const cJSON *root, const char *path) {
        return human_number(number(root, path));
}

static struct human bytes(const cJSON *root, const char *path) {
        return human_bytes(number(root, path));
}

static struct human seconds(const cJSON *root, const char *path) {
        return human_duration(number(root, path));
}

static struct human milliseconds(const cJSON *root, const char *path) {
        return human_duration(number(root, path) / 1000);
}

/* A number that must not be rounded: a pid, a slot, a generation. */
static struct human exact(const cJSON *root, const char *path) {
        double d = number(root, path);
        struct human h = { "-" };

        if (isfinite(d))
                (void) snprintf(h.text, sizeof(h.text), "%.0f", d);
        return h;
}

static struct human loss(const cJSON *root, const char *path) {
        double d = number(root, path);
        struct human h = { "-" };

        if (isfinite(d))
                (void) snprintf(h.text, sizeof(h.text), "%.4g", d);
        return h;
}

static struct human percent(double share) {
        struct human h = { "-" };

        if (isfinite(share))
                (void) snprintf(h.text, sizeof(h.text), "%.0f%%", 100 * share);
        return h;
}

/* "-" if there is no such string. */
static struct words string(const cJSON *root, const char *path) {
        const cJSON *i = item(root, path);
        struct words w = { "-" };

        if (cJSON_IsString(i) && i->valuestring[0])
                (void) snprintf(w.text, sizeof(w.text), "%s", i->valuestring);
        client_make_printable(w.text);
        return w;
}

static bool has_string(const cJSON *root, const char *path) {
        const cJSON *i = item(root, path);

        return cJSON_IsString(i) && i->valuestring[0];
}

printf_(3, 4) static void row(FILE *out, const char *label, const char *format, ...) {
        va_list args;

        (void) fprintf(out, "%-11s", label);
        va_start(args, format);
        (void) vfprintf(out, format, args);
        va_end(args);
        (void) fputc('\n', out);
}

static void show_service(const cJSON *s, FILE *out) {
        (void) fprintf(out, "azpard %s, instance %s, pid %s, running for %s\n", string(s, "version").text,
                       string(s, "instance").text, exact(s, "pid").text, seconds(s, "uptime_s").text);
        if (has_string(s, "reason"))
                row(out, "state", "%s: %s", string(s, "state").text, string(s, "reason").text);
        else
                row(out, "state", "%s", string(s, "state").text);
        row(out, "game", "%s", string(s, "rules").text);
        row(out, "directory", "%s", string(s, "state_directory").text);
}

static void show_learning(const cJSON *s, FILE *out) {
        row(out, "model", "generation %s, %s old; workers behind: %s, lag %s (greatest %s)",
            exact(s, "generation").text, seconds(s, "generation_age_s").text,
            count(s, "lag.workers_behind").text, milliseconds(s, "lag.last_ms").text,
            milliseconds(s, "lag.max_ms").text);
        row(out, "training", "step %s, %s steps/s, %s samples, learning rate %s", exact(s, "step").text,
            count(s, "steps_per_s").text, count(s, "samples_trained").text, loss(s, "learning_rate").text);
        if (cJSON_IsObject(item(s, "loss")))
                row(out, "loss", "policy %s, value %s, total %s; smoothed %s, %s, %s",
                    loss(s, "loss.policy").text, loss(s, "loss.value").text, loss(s, "loss.total").text,
                    loss(s, "loss.smooth_policy").text, loss(s, "loss.smooth_value").text,
                    loss(s, "loss.smooth_total").text);
        else
                row(out, "loss", "none yet");
        row(out, "limiter", "%s trained per sample inserted, target %s; %s may be trained now%s",
            count(s, "limiter.ratio").text, count(s, "limiter.target_ratio").text,
            count(s, "limiter.allowed").text,
            cJSON_IsTrue(item(s, "limiter.throttle")) ? "; workers wait for the trainer" : "");
        row(out, "published", "%s times, the last in %s, %s ago", count(s, "publish.count").text,
            milliseconds(s, "publish.last_ms").text, seconds(s, "publish.age_s").text);
        row(out, "checkpoint", "step %s, %s old", exact(s, "checkpoint.step").text,
            seconds(s, "checkpoint.age_s").text);
}

/* Shown when there is or was something to show. */
static void show_spill(const cJSON *s, FILE *out) {
        if (!(number(s, "spill.files") > 0 || number(s, "spill.spilled_samples") > 0 ||
              number(s, "spill.taken_files") > 0 || number(s, "spill.rejected") > 0))
                return;
        row(out, "spill", "%s files wait (%s, the oldest %s old); samples in %s/s, out %s/s; %s taken in",
            count(s, "spill.files").text, bytes(s, "spill.bytes").text, seconds(s, "spill.oldest_age_s").text,
            count(s, "spill.in_samples_per_s").text, count(s, "spill.out_samples_per_s").text,
            count(s, "spill.taken_samples").text);
        if (number(s, "spill.rejected") > 0)
                (void) fprintf(out, "           %s files set aside in spill/rejected\n",
                               count(s, "spill.rejected").text);
}

static void show_samples(const cJSON *s, FILE *out) {
        row(out, "window", "%s of %s samples (%s), %s inserted, %s damaged", count(s, "window.samples").text,
            count(s, "window.capacity").text,
            percent(number(s, "window.samples") / number(s, "window.capacity")).text,
            count(s, "window.inserted").text, count(s, "window.damaged").text);
        row(out, "per second", "%s samples, %s games, %s simulations, %s evaluations",
            count(s, "rates.samples_per_s").text, count(s, "rates.games_per_s").text,
            count(s, "rates.simulations_per_s").text, count(s, "rates.evaluations_per_s").text);
        row(out, "so far", "%s samples, %s games, %s simulations, %s evaluations",
            count(s, "totals.samples").text, count(s, "totals.games").text,
            count(s, "totals.simulations").text, count(s, "totals.evaluations").text);
        row(out, "intake", "%s records; bad %s, duplicates %s, lanes reset %s (%s)",
            count(s, "intake.records").text, count(s, "intake.bad_records").text,
            count(s, "intake.duplicates").text, count(s, "intake.lanes_reset").text,
            bytes(s, "intake.reset_bytes").text);
        show_spill(s, out);
        row(out, "disk", "%s, of it the window %s; %s free", bytes(s, "disk.state_bytes").text,
            bytes(s, "disk.window_bytes").text, bytes(s, "disk.free_bytes").text);
}

static void show_trainer(const cJSON *s, FILE *out) {
        row(out, "trainer", "pid %s, %s on %s, restarts %s, last exit %s, heard of %s ago, memory %s",
            exact(s, "trainer.pid").text, string(s, "trainer.state").text, string(s, "trainer.device").text,
            count(s, "trainer.restarts").text, string(s, "trainer.last_exit").text,
            seconds(s, "trainer.heartbeat_age_s").text, bytes(s, "trainer.pss_bytes").text);
}

static void show_worker(const cJSON *w, FILE *out) {
        (void) fprintf(out, "%4s %7s %-10s %8s %8s %8s %6s %8s %5s %8s %8s\n", exact(w, "slot").text,
                       exact(w, "pid").text, string(w, "state").text, count(w, "games_per_s").text,
                       count(w, "simulations_per_s").text, count(w, "evaluations_per_s").text,
                       exact(w, "generation").text, milliseconds(w, "lag_ms").text,
                       percent(number(w, "lane_used") / number(w, "lane_bytes")).text,
                       count(w, "restarts").text, bytes(w, "pss_bytes").text);
        if (has_string(w, "refused_reason"))
                (void) fprintf(out, "     refused a model: %s\n", string(w, "refused_reason").text);
        if (number(w, "bad_records") > 0)
                (void) fprintf(out, "     wrote bad records: %s\n", count(w, "bad_records").text);
        if (number(w, "restarts") > 0)
                (void) fprintf(out, "     last exit: %s\n", string(w, "last_exit").text);
}

static void show_workers(const cJSON *s, FILE *out) {
        const cJSON *workers = item(s, "workers"), *w;

        row(out, "workers", "%d, wanted %s", cJSON_IsArray(workers) ? cJSON_GetArraySize(workers) : 0,
            count(s, "workers_desired").text);
        (void) fprintf(out, "%4s %7s %-10s %8s %8s %8s %6s %8s %5s %8s %8s\n", "slot", "pid", "state",
                       "games/s", "sims/s", "evals/s", "model", "lag", "lane", "restarts", "memory");
        if (cJSON_IsArray(workers))
                cJSON_ArrayForEach(w, workers) show_worker(w, out);
}

void show_status(const cJSON *status, FILE *out) {
        show_service(status, out);
        show_learning(status, out);
        show_samples(status, out);
        show_trainer(status, out);
        show_workers(status, out);
}

/* Return: how many there were. */
static int show_changes(const cJSON *answer, const char *list, FILE *out) {
        const cJSON *changes = item(answer, list), *c;
        int n = 0;

        if (cJSON_IsArray(changes))
                cJSON_ArrayForEach(c, changes) {
                        (void) fprintf(out, "%s: %s -> %s: %s\n", string(c, "key").text,
                                       string(c, "from").text, string(c, "to").text,
                                       string(c, "effect").text);
                        n++;
                }
        return n;
}

void show_reload(const cJSON *answer, FILE *out) {
        int n_changed = show_changes(answer, "changed", out), n_left = show_changes(answer, "restart", out);

        if (n_changed + n_left == 0)
                (void) fprintf(out, "nothing has changed\n");
}
