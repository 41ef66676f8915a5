/* SPDX-License-Identifier: MIT */
/*
 * azpard's children in the fault tests: without search, network and libtorch, so that a run takes a few
 * milliseconds; with azpar's own lanes, samples, model and checkpoint files.  By the name it is called by:
 *
 *   azpar-worker    commits games of samples that follow from their identities, through its lane or as spill
 *                   files, until control.games_wanted are there, and notes in control.incarnations what it
 * committed azpar-trainer   publishes a model of zeros as often as control.publications_wanted, saves when
 * azpard asks
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <fcntl.h>
#include <errno.h>
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/exchange/segment.h"
#include "common/model/checkpoint.h"
#include "tests/fault/fault.h"
#include "tests/unit/fixture-sample.h"
#include "worker/spill.h"

#define NAP_NS (NS_PER_MS / 2)

struct child {
        struct fault_control *control;
        struct config config;
        struct game *game;
        struct segment *segment;
        struct spill *spill; /* NULL: none was made yet */
        uint64_t slot, incarnation;
        int config_fd, segment_fd, state_fd, wake_fd, window_fd;
};

static _Noreturn void give_up(const char *what, const struct error *e) {
        (void) fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what,
                       e && e->text[0] ? e->text : strerror(errno));
        _exit(EXIT_FAILURE);
}

static struct fault_control *map_control(void) {
        const char *path = getenv(FAULT_ENVIRONMENT);
        int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *p = mmap(NULL, sizeof(struct fault_control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (fd < 0 || p == MAP_FAILED)
                give_up("$" FAULT_ENVIRONMENT, NULL);
        (void) close(fd);
        return p;
}

static volatile sig_atomic_t terminated;

static void on_sigterm(int signal_number) {
        (void) signal_number;
        terminated = 1;
}

static bool is_set(const _Atomic uint32_t *word) {
        return atomic_load_explicit(word, memory_order_acquire) != 0;
}

static void put(_Atomic uint64_t *where, uint64_t value) {
        atomic_store_explicit(where, value, memory_order_relaxed);
}

/* ---- worker ---- */

/* Into a file of its own, and wait until that has its name. */
static void spill_record(struct child *c, const unsigned char *record, size_t n_bytes) {
        struct error e = ERROR_INIT;
        int refused = 0;

        if (!c->spill &&
            spill_new(c->game, c->state_fd, c->slot, c->segment->header->origin, &c->spill, &refused) < 0)
                give_up("spill_new", NULL);
        if (spill_add(c->spill, record, n_bytes, &e) != 0)
                give_up("spill_add", &e);
        while (!spill_is_idle(c->spill)) {
                spill_poll(c->spill, UINT64_MAX, true);
                put(&c->segment->workers[c->slot]->heartbeat_ns, clock_now_ns());
                clock_sleep_ns(NAP_NS / 10);
        }
}

/* One game from sample @sequence on, of 1 to 9 samples. Return: how many; 0: the lane is full. */
static uint64_t commit_game(struct child *c, uint64_t sequence) {
        struct fault_incarnation *told = &c->control->incarnations[c->incarnation];
        static struct sample samples[GAME_MAX_PLIES];
        static unsigned char record[1 << 16];
        size_t n = 1 + sequence % c->game->max_plies, n_bytes = 0;
        int r;

        for (size_t i = 0; i < n; i++) {
                struct sample_id id = { c->slot, c->incarnation, sequence + i };

                fixture_sample(c->game, id, &samples[i]);
        }
        if (sample_encode_record(c->game, samples, n, record, sizeof(record), &n_bytes) < 0)
                give_up("a record does not fit", NULL);
        atomic_store(&told->intended, sequence + n);
        if (is_set(&c->control->spill)) {
                spill_record(c, record, n_bytes);
                atomic_store(&told->committed, sequence + n);
                return n;
        }
        r = lane_write(&c->segment->lanes[c->slot], record, (uint32_t) n_bytes);
        if (r == LANE_E_FULL)
                return 0;
        if (r != 0)
                give_up("lane_write", NULL);
        atomic_store(&told->committed, sequence + n);
        segment_wake_consumer(c->segment, c->wake_fd);
        return n;
}

static void run_worker(struct child *c) {
        struct segment_worker *own;
        uint64_t sequence = 0;
        struct error e = ERROR_INIT;

        if (c->incarnation >= FAULT_INCARNATIONS)
                give_up("too many incarnations", NULL);
        if (segment_map_worker(c->segment_fd, (uint32_t) c->slot, &c->segment, &e) < 0)
                give_up("segment", &e);
        own = c->segment->workers[c->slot];
        put(&own->incarnation, c->incarnation);
        atomic_store(&c->control->configured[c->slot], c->config.search_simulations);
        while (!terminated && !is_set(&c->segment->header->stop) && c->slot < c->segment->header->n_desired) {
                bool paused = is_set(&c->segment->header->pause);
                uint64_t n = 0;

                put(&own->heartbeat_ns, clock_now_ns());
                atomic_store(&own->state, paused ? WORKER_PAUSED : WORKER_PLAYING);
                if (!paused && c->control->games[c->slot] < c->control->games_wanted[c->slot])
                        n = commit_game(c, sequence);
                sequence += n;
                if (n > 0)
                        atomic_fetch_add(&c->control->games[c->slot], 1);
                else
                        clock_sleep_ns(NAP_NS);
        }
}

/* ---- trainer ---- */

struct trainer {
        struct child *child;
        struct segment_trainer *page;
        struct network network;
        const float *tensors[NETWORK_MAX_TENSORS];
        struct checkpoint checkpoint;
};

static void wake(const struct child *c) {
        const uint64_t one = 1;

        while (write(c->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
                ;
}

static void publish(struct trainer *t) {
        struct model_info info = { .network = t->network, .unix_us = clock_unix_us() };
        struct error e = ERROR_INIT;

        info.generation = ++t->checkpoint.generation;
        info.step = t->checkpoint.step;
        if (model_write(t->child->state_fd, "model.safetensors", &info, t->tensors, &e) < 0)
                give_up("model", &e);
        atomic_store_explicit(&t->page->published_generation, info.generation, memory_order_release);
        wake(t->child);
}

static void save(struct trainer *t, uint64_t request) {
        struct error e = ERROR_INIT;

        t->checkpoint.step++;
        if (checkpoint_write(t->child->state_fd, &t->checkpoint, t->tensors, "optimizer", 9, &e) < 0 ||
            checkpoint_prune(t->child->state_fd, 2, &e) < 0)
                give_up("checkpoint", &e);
        put(&t->page->checkpoint_step, t->checkpoint.step);
        atomic_store_explicit(&t->page->checkpoint_done, request, memory_order_release);
        wake(t->child);
}

/* Go on where a predecessor stood. */
static void resume(struct trainer *t) {
        struct model_info info;
        char path[64];
        int r = checkpoint_newest(t->child->state_fd, &t->network, &t->checkpoint, path, NULL);

        if (r < 0 && r != -ENOENT)
                give_up("checkpoint", NULL);
        if (r == -ENOENT)
                t->checkpoint = (struct checkpoint){ .network = t->network };
        if (model_check(t->child->state_fd, "model.safetensors", &t->network, &info, NULL) == 0)
                t->checkpoint.generation = info.generation;
        put(&t->page->checkpoint_step, t->checkpoint.step);
}

static void run_trainer(struct child *c) {
        struct trainer t = { .child = c };
        struct network_tensor tensors[NETWORK_MAX_TENSORS];
        struct error e = ERROR_INIT;
        size_t n;

        if (segment_map_trainer(c->segment_fd, &c->segment, &e) < 0)
                give_up("segment", &e);
        t.page = c->segment->trainer;
        network_init(&t.network, c->game, (uint32_t) c->config.network_filters,
                     (uint32_t) c->config.network_blocks);
        n = network_tensors(&t.network, tensors);
        for (size_t i = 0; i < n; i++) {
                t.tensors[i] = calloc(tensors[i].n_elements, sizeof(float));
                if (!t.tensors[i])
                        give_up("tensors", NULL);
        }
        resume(&t);
        atomic_store(&t.page->state, TRAINER_TRAINING);
        atomic_store(&c->control->configured[FAULT_SLOTS], c->config.search_simulations);
        while (!terminated && !is_set(&c->segment->header->stop)) {
                uint64_t request = c->segment->header->checkpoint_request;

                put(&t.page->heartbeat_ns, clock_now_ns());
                if (c->control->publications < c->control->publications_wanted) {
                        publish(&t);
                        atomic_fetch_add(&c->control->publications, 1);
                } else if (t.page->checkpoint_done != request)
                        save(&t, request);
                else
                        clock_sleep_ns(NAP_NS);
        }
        save(&t, c->segment->header->checkpoint_request);
}

/* ---- start ---- */

static void parse(struct child *c, int argc, char **argv) {
        static const struct option options[] = {
                { "slot", required_argument, NULL, 's' },
                { "incarnation", required_argument, NULL, 'i' },
                { "config-fd", required_argument, NULL, 'c' },
                { "segment-fd", required_argument, NULL, 'g' },
                { "state-fd", required_argument, NULL, 'd' },
                { "window-fd", required_argument, NULL, 'o' },
                { "wake-fd", required_argument, NULL, 'w' },
                { NULL, 0, NULL, 0 },
        };
        int o;

        while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                uint64_t value = optarg ? strtoull(optarg, NULL, 10) : 0;

                switch (o) {
                case 's':
                        c->slot = value;
                        break;
                case 'i':
                        c->incarnation = value;
                        break;
                case 'c':
                        c->config_fd = (int) value;
                        break;
                case 'g':
                        c->segment_fd = (int) value;
                        break;
                case 'd':
                        c->state_fd = (int) value;
                        break;
                case 'o':
                        c->window_fd = (int) value;
                        break;
                case 'w':
                        c->wake_fd = (int) value;
                        break;
                default:
                        give_up("wrong arguments", NULL);
                }
        }
}

int main(int argc, char **argv) {
        struct child c = { .control = map_control() };
        struct error e = ERROR_INIT;

        (void) sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_sigterm }, NULL);
        parse(&c, argc, argv);
        if (config_read_fd(c.config_fd, &c.config, &e) < 0 || game_new(&c.config, &c.game, &e) < 0)
                give_up("configuration", &e);
        if (strcmp(program_invocation_short_name, "azpar-trainer") == 0)
                run_trainer(&c);
        else
                run_worker(&c);
        spill_free(c.spill);
        segment_free(c.segment);
        game_free(c.game);
        return EXIT_SUCCESS;
}
