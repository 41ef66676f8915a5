/* SPDX-License-Identifier: MIT */
/*
 * azpard: owner of the replay window, the shared memory and the children.
 *
 * The whole program at once: main() reads the command line and the
 * configuration, start() takes hold of everything in the order below, each
 * step checking what it finds before the next one touches anything,
 * daemon_run() serves, daemon_finish() puts everything down.
 *
 *   game            the rules that everything below must agree with
 *   state directory made if missing, locked against a second azpard
 *   children.lock   waits for the children of a predecessor that was killed
 *   window          made, or checked slot by slot; given back what the disk did not take last time
 *   weights         model.safetensors, if there is one
 *   checkpoint      the newest, if there is one
 *   segment         a killed predecessor's is drained into the window first, whether systemd has kept it or
 *                   its name has
 *   loop, socket    and then trainer and workers
 *
 * A failure on the way is one line that names object, reason and remedy; files
 * that were found damaged stay as they are.
 *
 * SIGKILL at any moment loses nothing: what is committed lies in a lane of the
 * segment or in the window, both outlive us, and the next start takes it up.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include "common/base/clock.h"
#include "common/base/journal.h"
#include "common/base/log.h"
#include "common/base/pause_point.h"
#include "common/base/version.h"
#include "common/exchange/sample.h"
#include "common/model/checkpoint.h"
#include "daemon/cores.h"
#include "daemon/daemon.h"
#include "daemon/handover.h"
#include "daemon/rescue.h"

#define CHILDREN_LOCK_TIMEOUT_NS (10 * NS_PER_S)

/* Large windows on slow disks take minutes to look at. */
static void on_window_progress(void *userdata, uint64_t n_done, uint64_t n_all) {
        struct daemon *d = userdata;

        notify_step(&d->notify, "starting: checking the replay window", n_done, n_all);
}

static int open_window(struct daemon *d, struct error *e) {
        uint64_t n_rescued = 0;
        int r;

        notify_phase(&d->notify, NOTIFY_LONG_US, "starting: opening the replay window");
        window_on_progress(on_window_progress, d);
        r = window_open(d->state.fd, "window", d->game, d->config.replay_window, &d->window, e);
        if (r < 0)
                return r;
        notify_phase(&d->notify, NOTIFY_LONG_US, "starting: looking for samples that the disk did not take");
        r = rescue_take(d->window, d->game, d->instance, d->state.path, &n_rescued, e);
        if (r < 0)
                return r;
        if (n_rescued > 0)
                log_event(LOG_EVENT_SAMPLES_TAKEN_OVER, LOG_FIELDS(LOG_NUMBER(SAMPLES, n_rescued)),
                          "replay window: put %ju samples back that the last azpard could not bring to the "
                          "disk",
                          (uintmax_t) n_rescued);
        if (window_n_damaged(d->window) > 0)
                log_event(LOG_EVENT_WINDOW_DAMAGED,
                          LOG_FIELDS(LOG_NUMBER(SAMPLES, window_n_damaged(d->window))),
                          "replay window: %ju damaged samples left out",
                          (uintmax_t) window_n_damaged(d->window));
        d->window_read_fd = openat(d->state.fd, "window", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (d->window_read_fd < 0)
                return error_errno(e, -errno, "could not open 'window' again");
        r = intake_new(d->game, d->window, &d->intake);
        return r < 0 ? error_errno(e, r, "could not prepare for samples") : 0;
}

/* Check the newest checkpoint as the trainer will load it. Return: 0, also without any; negative errno. */
static int check_checkpoint(struct daemon *d, struct checkpoint *ret, struct error *e) {
        uint64_t now_s = clock_unix_us() / 1000000;
        char path[64];
        struct stat st;
        int r;

        *ret = (struct checkpoint){ 0 };
        r = checkpoint_newest(d->state.fd, &d->network, ret, path, e);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        d->checkpoint_step = ret->step;
        d->checkpoint_ns = clock_now_ns();
        if (fstatat(d->state.fd, path, &st, 0) == 0 && st.st_mtime > 0 && (uint64_t) st.st_mtime < now_s) {
                uint64_t age_ns = (now_s - (uint64_t) st.st_mtime) * NS_PER_S;

                /* The clock of durations starts with the machine: an older checkpoint counts as made then. */
                d->checkpoint_ns = d->checkpoint_ns > age_ns ? d->checkpoint_ns - age_ns : 1;
        }
        return 0;
}

/* What an earlier run left in the state directory, or nothing. */
static int open_files(struct daemon *d, struct checkpoint *ret, struct error *e) {
        int r;

        r = open_window(d, e);
        if (r < 0)
                return r;
        PAUSE_POINT(START_WINDOW_OPEN);
        notify_phase(&d->notify, NOTIFY_LONG_US, "starting: checking the weights and the newest checkpoint");
        r = publication_init(&d->publication, d->state.fd, &d->network, e);
        if (r < 0)
                return r;
        return check_checkpoint(d, ret, e);
}

/* Show where a resumed trainer will stand, until it says so itself. */
static void show_checkpoint(struct segment_trainer *t, const struct checkpoint *c) {
        atomic_store_explicit(&t->step, c->step, memory_order_relaxed);
        atomic_store_explicit(&t->checkpoint_step, c->step, memory_order_relaxed);
        atomic_store_explicit(&t->samples_trained, c->samples_trained, memory_order_relaxed);
}

static int open_segment(struct daemon *d, const struct checkpoint *c, struct error *e) {
        unsigned n_slots;
        /* A record must fit its lane whole. */
        uint64_t least = 2 * lane_record_bytes(sample_record_max_bytes(d->game)), lane_bytes = 65536;
        int r;

        n_slots = cores_n_slots(&d->config, SEGMENT_MAX_WORKERS);
        d->n_desired = cores_n_workers(&d->config, n_slots);
        while (lane_bytes < MAX(d->config.service_lane_bytes, least))
                lane_bytes *= 2;
        notify_phase(&d->notify, NOTIFY_LONG_US,
                     "starting: taking in what the last azpard left in shared memory");
        r = handover_take(d, e);
        if (r < 0)
                return r;
        r = segment_create(d->instance, n_slots, lane_bytes, d->game->rules, d->state.path, &d->segment, e);
        if (r < 0)
                return r;
        notify_store_segment(&d->notify, d->segment->fd); /* no worker is there yet */
        d->segment->header->origin = window_origin(d->window);
        show_checkpoint(d->segment->trainer, c);
        publication_announce(&d->publication, d->segment);
        return 0;
}

/* /run/azpar may not be there when no systemd made it; failing to make it shows when the socket is bound. */
static void make_runtime_directory(const struct options *o) {
        if (!o->socket && !o->state && !getenv("RUNTIME_DIRECTORY"))
                (void) mkdir("/run/azpar", 0755);
}

static int start(struct daemon *d, const struct options *o, struct error *e) {
        char state_path[PATH_MAX], socket_path[PATH_MAX];
        struct checkpoint checkpoint;
        int r;

        r = options_state_path(o, state_path, e);
        if (r < 0)
                return r;
        r = statedir_open(&d->state, state_path, e);
        if (r < 0)
                return r;
        options_instance(o, d->state.path, d->instance);
        log_set_fields(LOG_FIELDS(LOG_TEXT(INSTANCE, d->instance)));
        if (setenv(LOG_INSTANCE_VARIABLE, d->instance, 1) < 0) /* for children */
                return error_errno(e, -errno, "could not set " LOG_INSTANCE_VARIABLE);
        r = options_socket_path(o, d->state.path, d->instance, socket_path, e);
        if (r < 0)
                return r;
        r = statedir_lock(&d->state, e);
        if (r < 0)
                return r;
        notify_phase(&d->notify, NOTIFY_SHORT_US, "starting: waiting for the last azpard's children to end");
        r = statedir_lock_children(&d->state, CHILDREN_LOCK_TIMEOUT_NS, e);
        if (r < 0)
                return r;
        r = open_files(d, &checkpoint, e);
        if (r < 0) {
                error_prefix(e, "state directory '%s'", d->state.path);
                return r;
        }
        r = open_segment(d, &checkpoint, e);
        if (r < 0)
                return r;
        make_runtime_directory(o);
        return daemon_open(d, socket_path, e);
}

static int configure(struct daemon *d, const struct options *o, struct error *e) {
        int r;

        d->options = o;
        d->config_path = o->config;
        r = config_read(o->config, o->settings, o->n_settings, &d->config, e);
        if (r < 0)
                return r;
        r = game_new(&d->config, &d->game, e);
        if (r < 0)
                return r;
        network_init(&d->network, d->game, (uint32_t) d->config.network_filters,
                     (uint32_t) d->config.network_blocks);
        r = config_to_memfd(&d->config, &d->config_fd);
        return r < 0 ? error_errno(e, r, "could not keep the configuration for children") : 0;
}

static int run(struct daemon *d, const struct options *o) {
        struct error e = ERROR_INIT;
        uint64_t n_samples;
        int r;

        r = start(d, o, &e);
        if (r < 0) {
                log_event(LOG_EVENT_FAILED, LOG_FIELDS(LOG_TEXT(REASON, e.text)), "%s", e.text);
                /* Nothing was committed to a segment that no worker has seen. */
                if (d->segment) {
                        (void) segment_unlink(d->instance);
                        notify_forget_segment(&d->notify);
                        notify_flush(&d->notify);
                }
                return EXIT_FAILURE;
        }
        n_samples = window_tail(d->window) - window_first(d->window);
        log_event(LOG_EVENT_STARTED,
                  LOG_FIELDS(LOG_NUMBER(WORKERS, d->n_desired), LOG_NUMBER(SAMPLES, n_samples)),
                  "azpard %s: %s in '%s', instance %s, %u workers, %ju samples in the window", AZPAR_VERSION,
                  d->game->rules, d->state.path, d->instance, d->n_desired, (uintmax_t) n_samples);
        r = daemon_run(d, &e);
        if (r == 0)
                r = daemon_finish(d, &e);
        if (r < 0)
                log_event(LOG_EVENT_FAILED, LOG_FIELDS(LOG_TEXT(REASON, e.text)), "%s", e.text);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        cleanup_(options_deinit) struct options o = { 0 };
        cleanup_(daemon_deinit) struct daemon d = DAEMON_INIT;
        struct error e = ERROR_INIT;

        log_open("azpard", LOG_LEVEL_INFO);
        log_to_journal(JOURNAL_SOCKET);
        (void) signal(SIGPIPE, SIG_IGN); /* a client or a log reader that went away must not end us */
        if (notify_init(&d.notify, &e) < 0) {
                log_event(LOG_EVENT_FAILED, LOG_FIELDS(LOG_TEXT(REASON, e.text)), "%s", e.text);
                return EXIT_FAILURE;
        }
        if (options_parse(argc, argv, &o, &e) < 0) {
                log_event(LOG_EVENT_FAILED, LOG_FIELDS(LOG_TEXT(REASON, e.text)), "%s", e.text);
                return EX_USAGE;
        }
        if (o.instance || !o.state) /* start() knows the others' */
                log_set_fields(LOG_FIELDS(LOG_TEXT(INSTANCE, o.instance ? o.instance : "default")));
        if (o.task == OPTIONS_HELP) {
                options_print_help();
                return EXIT_SUCCESS;
        }
        if (o.task == OPTIONS_VERSION) {
                (void) printf("azpard %s\n", AZPAR_VERSION);
                return EXIT_SUCCESS;
        }
        if (configure(&d, &o, &e) < 0) {
                log_event(LOG_EVENT_CONFIG_REFUSED, LOG_FIELDS(LOG_TEXT(REASON, e.text)), "%s", e.text);
                return EX_CONFIG;
        }
        if (o.task == OPTIONS_CHECK) {
                (void) printf("%s: ok\n", o.config ? o.config : "azpar.conf");
                return EXIT_SUCCESS;
        }
        if (o.task == OPTIONS_DUMP_CONFIG) {
                config_dump(&d.config, stdout);
                return EXIT_SUCCESS;
        }
        return run(&d, &o);
}
