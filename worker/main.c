/* SPDX-License-Identifier: MIT */
/*
 * azpar-worker: plays games against itself and commits their samples to its lane.
 *
 * Started by azpard, which gives it everything as descriptors: the configuration (a memfd), the shared
 * memory, the state directory (for model.safetensors) and the eventfd that wakes azpard.  It runs one thread,
 * a loop of batches; between two of them it looks at azpard's control words (stop, pause, throttle, desired
 * workers, generation) and beats its heart, which it also does after each layer of the network: one batch of
 * a large network can take minutes.
 *
 * What it reads from the header is one process's word for another, so nothing worse than waiting follows from
 * any value.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/confine.h"
#include "common/base/journal.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/exchange/segment.h"
#include "common/games/game.h"
#include "worker/commit.h"
#include "worker/evaluate.h"
#include "worker/selfplay.h"

#define MODEL_PATH "model.safetensors"

/*
 * How long the worker sleeps between two looks at what it waits for.  A full lane is emptied within
 * microseconds of azpard's waking up; new weights are to be taken up within 50 ms of a pause's end.  Both
 * cost under 0.1 % of a core.
 */
#define LANE_POLL_NS    (2 * NS_PER_MS)
#define CONTROL_POLL_NS (5 * NS_PER_MS)

/* At the end, for what was spilled; below azpard's patience of 5 s. */
#define FLUSH_NS (3 * NS_PER_S)

/* Between two tries of weights that could not be had for a reason that may pass, such as too many open files.
 */
#define MODEL_RETRY_NS NS_PER_S

struct arguments {
        uint64_t slot, incarnation;
        int config_fd, segment_fd, state_fd, wake_fd;
};

struct worker {
        struct config config;
        struct game *game;
        struct segment *segment;
        struct evaluate *evaluate;
        struct selfplay *selfplay;
        struct commit commit;

        const struct segment_header *header; /* of segment */
        struct segment_worker *own;          /* of segment: our slot */
        uint64_t slot;
        int state_fd, wake_fd; /* inherited, open as long as the process lives */

        uint64_t announced;   /* the header's generation that was tried last */
        uint64_t retry_ns;    /* when to try it again; 0: it is settled */
        struct error refusal; /* of that generation; empty: none yet */
        bool has_weights;
};

static volatile sig_atomic_t terminated;

static void on_sigterm(int signal_number) {
        (void) signal_number;
        terminated = 1;
}

static void worker_deinit(struct worker *w) {
        selfplay_free(w->selfplay);
        commit_deinit(&w->commit);
        evaluate_free(w->evaluate);
        segment_free(w->segment);
        game_free(w->game);
}

/* Relaxed throughout: see segment.h on counters. */
static void put(_Atomic uint64_t *where, uint64_t value) {
        atomic_store_explicit(where, value, memory_order_relaxed);
}

static void beat(void *context) {
        struct worker *w = context;

        put(&w->own->heartbeat_ns, clock_now_ns());
}

static void set_state(struct worker *w, enum worker_state state) {
        atomic_store_explicit(&w->own->state, (uint32_t) state, memory_order_relaxed);
        beat(w);
}

static bool is_set(const _Atomic uint32_t *word) {
        return atomic_load_explicit(word, memory_order_relaxed) != 0;
}

static bool should_stop(const struct worker *w) {
        return terminated || is_set(&w->header->stop) ||
               w->slot >= atomic_load_explicit(&w->header->n_desired, memory_order_relaxed);
}

/* ---- weights ---- */

/* What is wrong with the file stays wrong until another one is announced; anything else may pass. */
static bool is_the_models_fault(int r) {
        return r == -EBADMSG || r == -EINVAL || r == -ERANGE || r == -EDOM;
}

/* Said and counted once, however often the same thing goes wrong with the same generation. */
static void refuse_model(struct worker *w, int r, const struct error *e) {
        if (!is_the_models_fault(r))
                w->retry_ns = clock_now_ns() + MODEL_RETRY_NS;
        if (strcmp(e->text, w->refusal.text) == 0)
                return;
        w->refusal = *e;
        log_event(LOG_EVENT_WORKER_REFUSED_WEIGHTS,
                  LOG_FIELDS(LOG_NUMBER(GENERATION, w->announced), LOG_TEXT(REASON, e->text)),
                  "refused model of generation %" PRIu64 ": %s%s", w->announced, e->text,
                  w->has_weights ? "; the weights in use stay" : "");
        (void) snprintf(w->own->refused_text, sizeof(w->own->refused_text), "%.*s",
                        (int) sizeof(w->own->refused_text) - 1, e->text);
        /* release: pairs with azpard's acquire, which reads the text after it sees the count */
        atomic_fetch_add_explicit(&w->own->refused, 1, memory_order_release);
}

/* Whether there is a model to try; notes that it is tried. */
static bool has_new_model(struct worker *w) {
        /* acquire: pairs with azpard's release; generation_ns is the one stored before it */
        uint64_t announced = atomic_load_explicit(&w->header->generation, memory_order_acquire);

        if (announced != w->announced)
                w->refusal = ERROR_INIT;
        else if (w->retry_ns == 0 || clock_now_ns() < w->retry_ns)
                return false;
        w->announced = announced;
        w->retry_ns = 0;
        return true;
}

/* Take up the announced model if it is new. */
static void take_up_model(struct worker *w) {
        uint64_t generation, lag_ns;
        struct error e = ERROR_INIT;
        int r;

        if (!has_new_model(w))
                return;
        r = evaluate_load(w->evaluate, w->state_fd, MODEL_PATH, &generation, &e);
        if (r < 0) {
                refuse_model(w, r, &e);
                return;
        }
        selfplay_set_generation(w->selfplay, generation);
        log_set_fields(LOG_FIELDS(LOG_NUMBER(GENERATION, generation)));
        put(&w->own->generation, generation);
        if (w->has_weights) { /* at the start there was nothing to lag behind */
                lag_ns = clock_now_ns() -
                         atomic_load_explicit(&w->header->generation_ns, memory_order_relaxed);
                put(&w->own->lag_ns, lag_ns);
                if (lag_ns > atomic_load_explicit(&w->own->max_lag_ns, memory_order_relaxed))
                        put(&w->own->max_lag_ns, lag_ns);
        }
        w->has_weights = true;
}

/* ---- self-play stands on these ---- */

static unsigned add_position(void *context, const struct game_state *s, struct rng *rng) {
        struct worker *w = context;

        return evaluate_add(w->evaluate, s, rng);
}

static int run_batch(void *context, struct error *e) {
        struct worker *w = context;

        return evaluate_run(w->evaluate, e);
}

static const float *logits_at(void *context, unsigned i) {
        struct worker *w = context;

        return evaluate_logits(w->evaluate, i);
}

static float value_at(void *context, unsigned i) {
        struct worker *w = context;

        return evaluate_value(w->evaluate, i);
}

/* Let a game's record go, waiting while nobody takes it. */
static int commit_game(void *context, const unsigned char *record, size_t n_bytes, struct error *e) {
        struct worker *w = context;
        int r;

        for (;;) {
                if (should_stop(w))
                        return SELFPLAY_E_STOP;
                r = commit_record(&w->commit, record, n_bytes, e);
                if (r != COMMIT_E_WAIT)
                        return r;
                set_state(w, WORKER_WAITING);
                clock_sleep_ns(LANE_POLL_NS);
                commit_poll(&w->commit);
        }
}

/* ---- the loop ---- */

static void publish_counters(struct worker *w) {
        struct selfplay_counters c;

        selfplay_counters(w->selfplay, &c);
        put(&w->own->games, c.games);
        put(&w->own->plies, c.plies);
        put(&w->own->samples, c.samples);
        put(&w->own->simulations, c.simulations);
        put(&w->own->evaluations, c.evaluations);
        put(&w->own->batches, c.batches);
}

/* Play until asked to stop. Return: 0 or a negative errno with a text. */
static int play(struct worker *w, struct error *e) {
        int r;

        while (!should_stop(w)) {
                bool paused = is_set(&w->header->pause);

                take_up_model(w);
                commit_poll(&w->commit);
                if (paused || !w->has_weights || is_set(&w->header->throttle)) {
                        set_state(w, paused           ? WORKER_PAUSED
                                     : w->has_weights ? WORKER_THROTTLED
                                                      : WORKER_STARTING);
                        clock_sleep_ns(CONTROL_POLL_NS);
                        continue;
                }
                set_state(w, WORKER_PLAYING);
                r = selfplay_step(w->selfplay, e);
                if (r < 0)
                        return r;
                publish_counters(w);
                if (r == SELFPLAY_E_STOP)
                        break;
        }
        return 0;
}

/* What was spilled and does not lie in a file yet: azpard gives us some seconds, then it kills. */
static void finish_spilling(struct worker *w) {
        const struct spill_counters *c = spill_counters(w->commit.spill);
        uint64_t begin_ns = clock_now_ns();
        const char *why;

        while (!commit_flush(&w->commit)) {
                if (clock_now_ns() - begin_ns >= FLUSH_NS) {
                        why = c->full    ? "service.spill_max is reached"
                              : c->error ? strerror(-c->error)
                                         : "the disk is too slow";
                        log_event(LOG_EVENT_SPILL_LOST, LOG_FIELDS(LOG_TEXT(REASON, why)),
                                  "worker %" PRIu64 ": its last spilled games are given up: %s", w->slot,
                                  why);
                        return;
                }
                beat(w);
                clock_sleep_ns(LANE_POLL_NS);
        }
}

/* ---- start ---- */

/* What a predecessor in the slot left is not ours. */
static void reset_counters(struct worker *w, uint64_t incarnation) {
        struct segment_worker *own = w->own;
        _Atomic uint64_t *counters[] = {
                &own->generation,      &own->lag_ns,        &own->max_lag_ns, &own->refused,
                &own->games,           &own->plies,         &own->samples,    &own->simulations,
                &own->evaluations,     &own->batches,       &own->lane_waits, &own->spilled_files,
                &own->spilled_samples, &own->spilled_bytes,
        };

        for (size_t i = 0; i < N_ELEMENTS(counters); i++)
                put(counters[i], 0);
        memset(own->refused_text, 0, sizeof(own->refused_text));
        atomic_store_explicit(&own->spill_errno, 0, memory_order_relaxed);
        atomic_store_explicit(&own->spill_full, 0, memory_order_relaxed);
        atomic_store_explicit(&own->precision, evaluate_precision(w->evaluate), memory_order_relaxed);
        set_state(w, WORKER_STARTING);
        put(&own->incarnation, incarnation);
}

static int map_slot(struct worker *w, int segment_fd, struct error *e) {
        uint64_t needed = lane_record_bytes(sample_record_max_bytes(w->game));
        int r;

        r = segment_map_worker(segment_fd, (uint32_t) w->slot, &w->segment, e);
        if (r < 0)
                return r;
        w->header = w->segment->header;
        w->own = w->segment->workers[w->slot];
        if (strncmp(w->header->rules, w->game->rules, sizeof(w->header->rules)) != 0)
                return error_set(e, -EINVAL, "the shared memory is for another game than '%s'",
                                 w->game->rules);
        if (needed > w->segment->lane_bytes)
                return error_set(e, -EINVAL,
                                 "service.lane_bytes: %" PRIu64
                                 " is too small for '%s', whose longest game may "
                                 "take %" PRIu64,
                                 w->segment->lane_bytes, w->game->rules, needed);
        return 0;
}

static int start_selfplay(struct worker *w, uint64_t incarnation, struct error *e) {
        const struct selfplay_ops ops = { .context = w,
                                          .add = add_position,
                                          .run = run_batch,
                                          .logits = logits_at,
                                          .value = value_at,
                                          .commit = commit_game };
        struct selfplay_options o = { .games = (uint32_t) w->config.selfplay_games,
                                      .seed = w->config.selfplay_seed,
                                      .slot = w->slot,
                                      .incarnation = incarnation };
        int r;

        search_options_init(&o.search, &w->config);
        if (o.seed == 0 && getrandom(&o.seed, sizeof(o.seed), 0) != sizeof(o.seed))
                return error_errno(e, -errno, "could not draw a seed");
        r = selfplay_new(w->game, &o, &ops, &w->selfplay);
        if (r < 0)
                return error_errno(e, r, "could not make %u games of %u simulations", o.games,
                                   o.search.simulations);
        return 0;
}

/* From here on weights are read, which somebody else may have written. */
static void confine_worker(const struct worker *w) {
        struct error e = ERROR_INIT;

        if (w->config.service_confine && confine(CONFINE_WORKER, w->state_fd, &e) < 0)
                log_event(LOG_EVENT_NOT_CONFINED, LOG_FIELDS(LOG_TEXT(REASON, e.text)),
                          "worker %" PRIu64 ": not confined: %s", w->slot, e.text);
}

/* Make everything from the arguments. Return: 0 or a negative errno with a text. */
static int worker_init(struct worker *w, const struct arguments *a, struct error *e) {
        struct network network;
        int r;

        w->slot = a->slot;
        w->state_fd = a->state_fd;
        w->wake_fd = a->wake_fd;
        r = config_read_fd(a->config_fd, &w->config, e);
        (void) close(a->config_fd);
        if (r < 0)
                return r;
        r = game_new(&w->config, &w->game, e);
        if (r < 0)
                return r;
        r = map_slot(w, a->segment_fd, e);
        if (r < 0)
                return r;
        network_init(&network, w->game, (uint32_t) w->config.network_filters,
                     (uint32_t) w->config.network_blocks);
        r = evaluate_new(w->game, &network, w->config.selfplay_precision, (unsigned) w->config.selfplay_games,
                         &w->evaluate, e);
        if (r < 0)
                return r;
        evaluate_on_layer(w->evaluate, beat, w);
        reset_counters(w, a->incarnation);
        r = commit_init(&w->commit, w->game, w->segment, (uint32_t) w->slot, w->state_fd, w->wake_fd,
                        w->config.service_spill_after, w->config.service_spill_max, e);
        if (r < 0)
                return r;
        r = start_selfplay(w, a->incarnation, e);
        if (r < 0)
                return r;
        confine_worker(w); /* after the ring for spilling was made */
        return 0;
}

static const struct option long_options[] = {
        { "slot", required_argument, NULL, 's' },
        { "incarnation", required_argument, NULL, 'i' },
        { "config-fd", required_argument, NULL, 'c' },
        { "segment-fd", required_argument, NULL, 'g' },
        { "state-fd", required_argument, NULL, 'd' },
        { "wake-fd", required_argument, NULL, 'w' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },
        { NULL, 0, NULL, 0 },
};

static const char help[] =
        "azpar-worker --slot N --incarnation I --config-fd C --segment-fd G --state-fd S --wake-fd W\n"
        "Plays games against itself for azpard(8), which starts it.\n";

/* A decimal number of at most @max, all of @text. */
static bool parse_number(const char *text, uint64_t max, uint64_t *ret) {
        char *end;

        if (*text < '0' || *text > '9')
                return false;
        errno = 0;
        *ret = strtoull(text, &end, 10);
        return errno == 0 && *end == '\0' && *ret <= max;
}

static bool parse_fd(const char *text, int *ret) {
        uint64_t n;

        if (!parse_number(text, INT32_MAX, &n) || fcntl((int) n, F_GETFD) < 0)
                return false;
        *ret = (int) n;
        return true;
}

/* Return: -1 to go on, else an exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *ret) {
        unsigned seen = 0;
        int c, index = 0;

        while ((c = getopt_long(argc, argv, "", long_options, &index)) != -1) {
                bool good = false;

                switch (c) {
                case 's':
                        good = parse_number(optarg, SEGMENT_MAX_WORKERS - 1, &ret->slot);
                        break;
                case 'i':
                        good = parse_number(optarg, UINT64_MAX, &ret->incarnation);
                        break;
                case 'c':
                        good = parse_fd(optarg, &ret->config_fd);
                        break;
                case 'g':
                        good = parse_fd(optarg, &ret->segment_fd);
                        break;
                case 'd':
                        good = parse_fd(optarg, &ret->state_fd);
                        break;
                case 'w':
                        good = parse_fd(optarg, &ret->wake_fd);
                        break;
                case 'h':
                        (void) fputs(help, stdout);
                        return 0;
                case 'v':
                        (void) puts("azpar-worker " AZPAR_VERSION);
                        return 0;
                default:
                        return EX_CONFIG; /* getopt has said why */
                }
                if (!good) {
                        log_error("--%s: '%s' is not a good value", long_options[index].name, optarg);
                        return EX_CONFIG;
                }
                seen |= 1u << index;
        }
        if (seen != 0x3f || optind < argc) {
                log_error("wrong arguments; usage: %s", help);
                return EX_CONFIG;
        }
        return -1;
}

int main(int argc, char **argv) {
        cleanup_(worker_deinit) struct worker w = { .state_fd = -1, .wake_fd = -1 };
        struct sigaction terminate = { .sa_handler = on_sigterm };
        struct arguments arguments = { 0 };
        struct error e = ERROR_INIT;
        const char *why;
        int r;

        log_open("azpar-worker", LOG_LEVEL_INFO);
        log_to_journal(JOURNAL_SOCKET);
        r = parse_arguments(argc, argv, &arguments);
        if (r >= 0)
                return r;
        log_set_fields(LOG_FIELDS(LOG_NUMBER(WORKER, arguments.slot)));
        /* SIGINT is for azpard, which then asks its children to stop */
        if (signal(SIGINT, SIG_IGN) == SIG_ERR || sigaction(SIGTERM, &terminate, NULL) < 0) {
                log_error("could not set up signals: %s", strerror(errno));
                return EXIT_FAILURE;
        }
        r = worker_init(&w, &arguments, &e);
        if (r == 0) {
                r = play(&w, &e);
                finish_spilling(&w);
        }
        if (r == 0)
                return EXIT_SUCCESS;
        why = e.text[0] ? e.text : strerror(-r);
        log_event(LOG_EVENT_WORKER_FAILED, LOG_FIELDS(LOG_TEXT(REASON, why)), "worker %" PRIu64 ": %s",
                  arguments.slot, why);
        return r == -EINVAL ? EX_CONFIG : EXIT_FAILURE;
}
