/* SPDX-License-Identifier: MIT */
/*
 * Runs: what azpard is made to do while one of its calls fails; see runs.h.
 *
 * Two kinds.  A start or a stop is one azpard per fault: it either serves, or ends with a status and a line;
 * then one without faults takes the same directory up.  While running, one azpard meets fault after fault and
 * must not end.  Either way rig_prove() then says that nothing committed was lost.
 */
#include "tests/fault/runs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cjson/cJSON.h>
#include "common/base/clock.h"
#include "common/exchange/batch_file.h"
#include "common/exchange/spill_folder.h"
#include "tests/unit/fixture-sample.h"

#define RESTART_RUNS 200 /* runs of one azpard; the window must not overflow */

static const char status_request[] = "{\"command\":\"status\"}";

/* ---- shared pieces ---- */

void runs_want(struct rig *r, uint64_t n_games) {
        for (unsigned i = 0; i < FAULT_SLOTS; i++)
                atomic_fetch_add(&r->control->games_wanted[i], n_games);
}

/* azpard without faults on what is there: it must take everything up, serve, and stop well. */
void runs_prove_by_restart(struct rig *r) {
        rig_start(r);
        if (rig_wait(r, "it serves, without faults", rig_is_serving) == -ECHILD)
                rig_complain(r, "it does not start any more, without faults");
        else
                rig_stop(r);
        rig_kill(r);
        (void) rig_prove(r);
}

/* azpard's descriptors: how many, and what they are. */
struct fds {
        unsigned n;
        char what[4096];
};

static struct fds fds_at_begin;

static void list_fds(struct rig *r, struct fds *ret) {
        char path[64];
        struct dirent *entry;
        DIR *d;

        *ret = (struct fds){ 0 };
        (void) snprintf(path, sizeof(path), "/proc/%d/fd", (int) r->pid);
        d = opendir(path);
        while (d && (entry = readdir(d))) {
                char link[128];
                ssize_t n = readlinkat(dirfd(d), entry->d_name, link, sizeof(link) - 1);
                size_t at = strlen(ret->what);

                if (n < 0)
                        continue; /* "." and ".."; or it was closed meanwhile */
                link[n] = 0;
                (void) snprintf(ret->what + at, sizeof(ret->what) - at, " %s=%s", entry->d_name, link);
                ret->n++;
        }
        if (d)
                (void) closedir(d);
}

void runs_start(struct rig *r) {
        (void) rig_disarm(r);
        rig_start(r);
        if (rig_wait(r, "it serves", rig_is_serving) < 0)
                rig_complain(r, "it does not start");
        list_fds(r, &fds_at_begin);
}

/* ---- start ---- */

void runs_prepare_empty(struct rig *r) {
        rig_empty(r);
        if (mkdir(r->state, 0750) < 0)
                rig_complain(r, "mkdir: %s", strerror(errno));
        runs_want(r, 3);
        atomic_store(&r->control->publications_wanted, 1);
        rig_keep(r);
}

static bool is_checkpointed(struct rig *r) {
        char answer[256];

        return rig_ask(r, "{\"command\":\"checkpoint\"}", answer, sizeof(answer));
}

bool runs_is_committed(struct rig *r) {
        for (unsigned i = 0; i < FAULT_SLOTS; i++)
                if (r->control->games[i] < r->control->games_wanted[i])
                        return false;
        return true;
}

/* A window, a model, a checkpoint, and a segment in which games lie that are not in the window. */
void runs_prepare_killed(struct rig *r) {
        runs_prepare_empty(r);
        runs_start(r);
        (void) rig_wait(r, "a checkpoint is written", is_checkpointed);
        (void) kill(r->pid, SIGSTOP);
        runs_want(r, 5);
        (void) rig_wait(r, "workers have filled their lanes", runs_is_committed);
        atomic_store(&r->control->spill, 1);
        runs_want(r, 2);
        (void) rig_wait(r, "workers have spilled", runs_is_committed);
        atomic_store(&r->control->spill, 0);
        if (rig_n_samples(r) >= rig_n_committed(r))
                rig_complain(r, "nothing lies in the lanes");
        rig_kill(r);
        runs_want(r, 1);
        rig_keep(r);
}

void runs_start_once(struct rig *r, uint64_t at, uint32_t way) {
        int result;

        rig_bring_back(r);
        rig_arm(r, FAULT_ALL, at, way);
        rig_start(r);
        result = rig_wait(r, "it serves or ends", rig_is_serving);
        if (!rig_disarm(r) && result == -ECHILD)
                rig_complain(r, "nothing failed, and yet it ended");
        if (result == 0) {
                rig_stop(r);
                (void) rig_prove(r);
                return;
        }
        if (result == -ECHILD)
                rig_check_refusal(r);
        rig_kill(r);
        runs_prove_by_restart(r);
}

/* ---- stop ---- */

void runs_prepare_stop(struct rig *r) {
        runs_prepare_empty(r);
        runs_start(r);
        rig_stop(r);
        rig_keep(r);
}

static void stop_once(struct rig *r, uint64_t at, uint32_t way, bool by_signal) {
        char answer[256];

        rig_bring_back(r);
        runs_start(r);
        rig_arm(r, FAULT_ALL, at, way);
        runs_want(r, 2);
        /* A client may be dropped for the fault. */
        if (by_signal || !rig_ask(r, "{\"command\":\"stop\"}", answer, sizeof(answer)))
                rig_signal(r, SIGTERM);
        rig_wait_end(r);
        (void) rig_disarm(r);
        if (r->status != 0)
                rig_check_refusal(r);
        memcpy(r->control->games_wanted, r->control->games, sizeof(r->control->games));
        runs_prove_by_restart(r);
}

void runs_stop_once(struct rig *r, uint64_t at, uint32_t way) {
        stop_once(r, at, way, true);
}

void runs_stop_asked(struct rig *r, uint64_t at, uint32_t way) {
        stop_once(r, at, way, false);
}

/* ---- while running: one azpard for many faults ---- */

static unsigned n_runs_of_this; /* azpard's, since it was started */
static bool has_no_more_fds(struct rig *r) {
        struct fds now;

        list_fds(r, &now);
        return now.n <= fds_at_begin.n;
}

static void check_fds(struct rig *r) {
        struct fds now;

        if (rig_wait(r, "it has no more descriptors than it began with", has_no_more_fds) == 0)
                return;
        list_fds(r, &now);
        (void) printf("at the beginning:%s\nnow:%s\n", fds_at_begin.what, now.what);
}

void runs_begin(struct rig *r) {
        runs_prepare_empty(r);
        runs_start(r);
        n_runs_of_this = 0;
}

void runs_end(struct rig *r) {
        (void) rig_disarm(r);
        rig_must(r, status_request);
        check_fds(r);
        rig_stop(r);
        rig_kill(r);
        (void) rig_prove(r);
}

/* After a run: it lives, and has all. @result: of the wait in the run. */
static void check_running(struct rig *r, int result) {
        (void) rig_disarm(r);
        if (result == -ECHILD) {
                rig_complain(r, "a fault while running ended it with wait status %#x", (unsigned) r->status);
                runs_prove_by_restart(r);
                runs_begin(r);
                return;
        }
        if (++n_runs_of_this % RESTART_RUNS == 0) {
                runs_end(r);
                runs_begin(r);
        }
}

void runs_drain(struct rig *r, uint64_t at, uint32_t way) {
        rig_arm(r, FAULT_ALL, at, way);
        runs_want(r, 4);
        check_running(r, rig_wait(r, "committed games are in the window", rig_is_settled));
}

static uint64_t generation_wanted;

static bool is_announced(struct rig *r) {
        return rig_generation(r) >= generation_wanted;
}

/* Nothing lies in the workers' spill folders any more. */
static bool is_spill_empty(struct rig *r) {
        bool empty = true;

        for (unsigned i = 0; i < FAULT_SLOTS; i++) {
                struct spill_folder_content content = { 0 };
                cleanup_(fd_closep) int fd = -1;
                char path[600];

                (void) snprintf(path, sizeof(path), "%s/spill/worker_%u", r->state, i);
                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                empty = empty && (fd < 0 || (spill_folder_look(fd, &content) == 0 && content.n_files == 0));
        }
        return empty && rig_is_settled(r);
}

/* Games come as spill files, which azpard takes in and removes. */
void runs_spill(struct rig *r, uint64_t at, uint32_t way) {
        atomic_store(&r->control->spill, 1);
        rig_arm(r, FAULT_ALL, at, way);
        runs_want(r, 2);
        check_running(r,
                      rig_wait(r, "spilled games are in the window, and their files gone", is_spill_empty));
}

#define IMPORT_SAMPLES 5

/* A batch file with samples that no other has. */
static void write_import(struct rig *r, const char *path) {
        static char text[BATCH_FILE_SAMPLE_MAX];
        static struct sample s;
        FILE *f = fopen(path, "we");

        for (uint64_t i = 0; f && i < IMPORT_SAMPLES; i++) {
                fixture_sample(r->game, (struct sample_id){ 0, 1000000 + r->n_imports, i }, &s);
                memset(s.planes, 0, sizeof(s.planes)); /* stones stand on one cell each: none does */
                (void) fputs(i == 0 ? "[" : ",\n", f);
                (void) fwrite(text, 1, batch_file_write_sample(r->game, &s, 0, false, text), f);
        }
        if (!f || fputs("]\n", f) < 0 || fclose(f) != 0)
                rig_complain(r, "could not write '%s'", path);
}

static bool is_imported(struct rig *r) {
        char path[600], answer[512] = "";

        (void) snprintf(path, sizeof(path), "%s/import.json", r->folder);
        return rig_import(r, path, answer, sizeof(answer));
}

/* A client hands a file over; if that fails, it does so again. */
void runs_import(struct rig *r, uint64_t at, uint32_t way) {
        char path[600];
        int result;

        (void) snprintf(path, sizeof(path), "%s/import.json", r->folder);
        write_import(r, path);
        rig_arm(r, FAULT_ALL, at, way);
        (void) is_imported(r); /* may be dropped or refused */
        (void) rig_disarm(r);
        result = rig_wait(r, "the file is imported", is_imported);
        r->n_imports++;
        r->n_imported += IMPORT_SAMPLES;
        check_running(r, result);
}

void runs_publish(struct rig *r, uint64_t at, uint32_t way) {
        generation_wanted = rig_generation(r) + 1;
        rig_arm(r, FAULT_ALL, at, way);
        atomic_fetch_add(&r->control->publications_wanted, 1);
        check_running(r, rig_wait(r, "the new model is announced", is_announced));
}

void runs_checkpoint(struct rig *r, uint64_t at, uint32_t way) {
        char answer[256];

        rig_arm(r, FAULT_ALL, at, way);
        (void) rig_ask(r, "{\"command\":\"checkpoint\"}", answer, sizeof(answer)); /* may be dropped */
        (void) rig_disarm(r);
        check_running(r, rig_wait(r, "a checkpoint is written", is_checkpointed));
}

static bool has_two_workers(struct rig *r) {
        static char answer[1 << 16];
        cJSON *json, *w;
        unsigned n = 0;

        if (!rig_ask(r, status_request, answer, sizeof(answer)))
                return false;
        json = cJSON_Parse(answer);
        cJSON_ArrayForEach(w, cJSON_GetObjectItem(json, "workers")) n +=
                cJSON_IsNumber(cJSON_GetObjectItem(w, "pid"));
        cJSON_Delete(json);
        return n == FAULT_SLOTS;
}

/* Two clients at once, all that they can ask; any of it may be answered with an error or be dropped. */
void runs_control(struct rig *r, uint64_t at, uint32_t way) {
        static const char *const requests[] = {
                "{\"command\":\"status\"}",
                "{\"command\":\"workers\",\"count\":1}",
                "{\"command\":\"version\",\"protocol\":1,\"id\":7}",
                "{\"command\":\"help\",\"id\":\"me\"}",
                "{\"command\":\"pause\"}",
                "{\"command\":\"nonsense\"}",
                "{\"command\":\"resume\"}",
                "{\"command\":\"workers\",\"count\":2}",
        };
        int fd[2] = { -1, -1 };
        static char answer[1 << 16];

        rig_arm(r, FAULT_ALL, at, way);
        for (size_t i = 0; i < N_ELEMENTS(requests); i++) {
                int *which = &fd[i % 2];

                if (*which < 0)
                        *which = rig_connect(r);
                if (*which >= 0 && rig_exchange(*which, requests[i], answer, sizeof(answer)) < 0) {
                        (void) close(*which);
                        *which = -1;
                }
        }
        (void) rig_disarm(r);
        for (size_t i = 0; i < N_ELEMENTS(fd); i++)
                fd_closep(&fd[i]);
        if (!rig_has_ended(r)) {
                rig_must(r, "{\"command\":\"workers\",\"count\":2}");
                rig_must(r, "{\"command\":\"resume\"}");
        }
        runs_want(r, 1);
        check_running(r, rig_wait(r, "all is as before", has_two_workers));
        if (r->pid > 0)
                (void) rig_wait(r, "it goes on", rig_is_settled);
}

static pid_t pid_of(struct rig *r, const char *name) {
        static char answer[1 << 16];
        cJSON *json, *child;
        pid_t pid = 0;

        if (!rig_ask(r, status_request, answer, sizeof(answer)))
                return 0;
        json = cJSON_Parse(answer);
        child = strcmp(name, "trainer") == 0 ? cJSON_GetObjectItem(json, "trainer")
                                             : cJSON_GetArrayItem(cJSON_GetObjectItem(json, "workers"), 0);
        pid = (pid_t) cJSON_GetNumberValue(cJSON_GetObjectItem(child, "pid"));
        cJSON_Delete(json);
        return pid > 1 ? pid : 0;
}

/* A worker and the trainer are killed; others must come, whatever fails on the way. */
void runs_children(struct rig *r, uint64_t at, uint32_t way) {
        pid_t worker = pid_of(r, "worker"), trainer = pid_of(r, "trainer");

        if (worker == 0 || trainer == 0) {
                rig_complain(r, "the status names no pid");
                return;
        }
        generation_wanted = rig_generation(r) + 1;
        rig_arm(r, FAULT_ALL, at, way);
        (void) kill(worker, SIGKILL);
        (void) kill(trainer, SIGKILL);
        runs_want(r, 1);
        atomic_fetch_add(&r->control->publications_wanted, 1);
        check_running(r, rig_wait(r, "all is there again", rig_is_serving));
        if (r->pid > 0)
                (void) rig_wait(r, "both workers and the trainer live", has_two_workers);
}

/* ---- reload ---- */

/* Of the configuration: one number stands for all of it, in azpard (replay.ratio) and in children. */
#define RATIO 8 /* numbers in 1 of replay.ratio, which is at most 1000 */
static uint64_t configured;

static void write_configuration(struct rig *r, uint64_t number) {
        char folder[600], path[640];
        FILE *f;

        (void) snprintf(folder, sizeof(folder), "%s/azpar.conf.d", r->folder);
        (void) mkdir(folder, 0750);
        (void) snprintf(path, sizeof(path), "%s/10.conf", folder);
        f = fopen(path, "we");
        if (!f ||
            fprintf(f,
                    "[replay]\nratio = %.3f\n[search]\nsimulations = %ju\n[train]\npublish_interval = %ju\n",
                    (double) number / RATIO, (uintmax_t) number, (uintmax_t) number) < 0 ||
            fclose(f) != 0)
                rig_complain(r, "could not write '%s'", path);
}

/* What azpard itself goes by; 0: it does not say. */
static uint64_t number_in_azpard(struct rig *r) {
        static char answer[1 << 16];
        cJSON *json;
        double number;

        if (!rig_ask(r, status_request, answer, sizeof(answer)))
                return 0;
        json = cJSON_Parse(answer);
        number = cJSON_GetNumberValue(
                cJSON_GetObjectItem(cJSON_GetObjectItem(json, "limiter"), "target_ratio"));
        cJSON_Delete(json);
        return number > 0 ? (uint64_t) (number * RATIO) : 0;
}

/* What the configuration says that azpard holds for children. It must be one. */
static uint64_t number_for_children(struct rig *r) {
        char folder[64], path[400], target[64];
        struct error e = ERROR_INIT;
        struct dirent *entry;
        uint64_t number = 0;
        unsigned n = 0;
        DIR *d;

        (void) snprintf(folder, sizeof(folder), "/proc/%d/fd", (int) r->pid);
        d = opendir(folder);
        while (d && (entry = readdir(d))) {
                cleanup_(fd_closep) int fd = -1;
                struct config c;
                ssize_t length;

                (void) snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
                length = readlink(path, target, sizeof(target) - 1);
                target[MAX(length, 0)] = '\0';
                if (strncmp(target, "/memfd:azpar.conf", strlen("/memfd:azpar.conf")) != 0)
                        continue;
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0 || config_read_fd(fd, &c, &e) < 0 ||
                    c.search_simulations != c.train_publish_interval)
                        rig_complain(r, "the configuration for children is broken: %s", e.text);
                else
                        number = c.search_simulations;
                n++;
        }
        if (d)
                (void) closedir(d);
        if (n != 1)
                rig_complain(r, "%u configurations for children are open", n);
        return number;
}

static bool are_children_configured(struct rig *r) {
        for (unsigned i = 0; i <= FAULT_SLOTS; i++)
                if (atomic_load(&r->control->configured[i]) != configured)
                        return false;
        return rig_is_settled(r);
}

void runs_begin_reload(struct rig *r) {
        configured = 100;
        write_configuration(r, configured);
        runs_begin(r);
}

static const char reload_request[] = "{\"command\":\"reload\"}";

/* In azpard and for children it is the old configuration or the new one. Return: whether it is the new one.
 */
static bool is_reloaded(struct rig *r, bool answered) {
        uint64_t inside = number_in_azpard(r), outside = number_for_children(r);

        if (inside != outside || (inside != configured && inside != configured - 1))
                rig_complain(r, "azpard has configuration %ju and gives children %ju, of %ju and %ju",
                             (uintmax_t) inside, (uintmax_t) outside, (uintmax_t) configured - 1,
                             (uintmax_t) configured);
        if (answered && inside != configured)
                rig_complain(r, "the reload was answered with ok, and the old configuration is in effect");
        return inside == configured;
}

/*
 * A new configuration for azpard, workers and trainer. If a fault is in the way, the old one stays whole, and
 * a second reload without faults brings the new one; else all have it without any more ado.
 */
void runs_reload(struct rig *r, uint64_t at, uint32_t way) {
        char answer[4096];
        bool answered;
        int result;

        write_configuration(r, ++configured);
        rig_arm(r, FAULT_ALL, at, way);
        answered = rig_ask(r, reload_request, answer, sizeof(answer));
        runs_want(r, 1);
        if (answered) /* with the fault still in, children end and start */
                result = rig_wait(r, "all children have the new configuration", are_children_configured);
        else
                result = rig_has_ended(r) ? -ECHILD : 0;
        (void) rig_disarm(r);
        if (result == 0 && !is_reloaded(r, answered))
                rig_must(r, reload_request);
        if (result == 0)
                result = rig_wait(r, "all children have the new configuration", are_children_configured);
        check_running(r, result);
}

static uint64_t ticks_until_ns;

static bool has_ticked(struct rig *r) {
        return atomic_load(&r->control->n_failed) > 0 || clock_now_ns() > ticks_until_ns;
}

/* Nothing but time passes: what azpard does every second, every 5 and every 10, and its syncs of the window.
 */
void runs_ticks(struct rig *r, uint64_t at, uint32_t way) {
        rig_arm(r, FAULT_ALL, at, way);
        runs_want(r, 1);
        ticks_until_ns = clock_now_ns() + 12 * NS_PER_S / RUNS_FAST;
        check_running(r, rig_wait(r, "twelve of its seconds pass", has_ticked));
        if (r->pid > 0)
                rig_must(r, status_request);
}
