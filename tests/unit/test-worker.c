/* SPDX-License-Identifier: MIT */
/*
 * azpar-worker as a process, with this test in azpard's place: it makes the shared memory, announces models
 * and drains the lane.  Found as $AZPAR_BUILD/azpar-worker, by default build/release.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sysexits.h>
#include "common/base/clock.h"
#include "common/exchange/sample.h"
#include "common/exchange/segment.h"
#include "common/model/safetensors.h"
#include "tests/unit/fixture-network.h"

#define FILTERS     8
#define DEADLINE_NS (60 * NS_PER_S) /* for one event, under a sanitizer on a busy machine */

/* azpard's side. */
struct stage {
        char directory[64], instance[32];
        int directory_fd, config_fd, wake_fd;
        struct config config;
        struct game *game;
        struct segment *segment;
        struct segment_worker *worker; /* slot 0 */
        pid_t pid;
        uint64_t incarnation;
        uint64_t next_sequence; /* of the running incarnation */
        uint64_t last_generation;
        uint64_t n_samples;
};

static void start_stage(struct stage *stage, const char *const *settings, size_t n_settings) {
        struct error e = ERROR_INIT;

        *stage = (struct stage){ .pid = -1 };
        fixture_directory(stage->directory);
        (void) snprintf(stage->instance, sizeof(stage->instance), "test-worker-%d", (int) getpid());
        stage->directory_fd = open(stage->directory, O_RDONLY | O_DIRECTORY);
        stage->wake_fd = eventfd(0, EFD_NONBLOCK);
        assert_true(stage->directory_fd >= 0 && stage->wake_fd >= 0);
        assert_int_equal(config_read(NULL, settings, n_settings, &stage->config, &e), 0);
        assert_int_equal(config_to_memfd(&stage->config, &stage->config_fd), 0);
        assert_int_equal(game_new(&stage->config, &stage->game, &e), 0);
        (void) segment_unlink(stage->instance);
        if (segment_create(stage->instance, 2, stage->config.service_lane_bytes, stage->game->rules,
                           stage->directory, &stage->segment, &e) < 0)
                fail_msg("segment_create: %s", e.text);
        stage->worker = stage->segment->workers[0];
        atomic_store(&stage->segment->header->n_desired, 2);
}

static void end_stage(struct stage *stage) {
        if (stage->pid > 0) {
                (void) kill(stage->pid, SIGKILL);
                (void) waitpid(stage->pid, NULL, 0);
        }
        (void) segment_unlink(stage->instance);
        segment_free(stage->segment);
        game_free(stage->game);
        (void) close(stage->config_fd);
        (void) close(stage->wake_fd);
        (void) close(stage->directory_fd);
        fixture_remove(stage->directory);
}

/* A copy that survives exec. */
static int inherited(int fd) {
        int copy = fcntl(fd, F_DUPFD, 10);

        assert_true(copy >= 0);
        return copy;
}

static void start_worker(struct stage *stage) {
        const char *build = getenv("AZPAR_BUILD");
        char path[256], incarnation[24], config[12], segment[12], state[12], wake[12];
        const char *arguments[] = { path,        "--slot",      "0",    "--incarnation",
                                    incarnation, "--config-fd", config, "--segment-fd",
                                    segment,     "--state-fd",  state,  "--wake-fd",
                                    wake,        NULL };

        (void) snprintf(path, sizeof(path), "%s/azpar-worker", build ? build : "build/release");
        (void) snprintf(incarnation, sizeof(incarnation), "%" PRIu64, ++stage->incarnation);
        stage->next_sequence = 0;
        stage->pid = fork();
        assert_true(stage->pid >= 0);
        if (stage->pid > 0)
                return;
        (void) snprintf(config, sizeof(config), "%d", inherited(stage->config_fd));
        (void) snprintf(segment, sizeof(segment), "%d", inherited(stage->segment->fd));
        (void) snprintf(state, sizeof(state), "%d", inherited(stage->directory_fd));
        (void) snprintf(wake, sizeof(wake), "%d", inherited(stage->wake_fd));
        (void) execv(path, (char *const *) arguments);
        _exit(99);
}

/* Wait for the worker's end. Return: exit status. */
static int end_of_worker(struct stage *stage) {
        int status;

        assert_int_equal(waitpid(stage->pid, &status, 0), stage->pid);
        stage->pid = -1;
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void write_model(struct stage *stage, uint64_t generation, uint32_t filters) {
        const uint32_t blocks = (uint32_t) stage->config.network_blocks;
        struct model_info info = { .generation = generation };
        cleanup_(fixture_weights_freep) struct fixture_weights *weights = NULL;

        network_init(&info.network, stage->game, filters, blocks);
        weights = fixture_weights_new(&info.network, generation);
        assert_int_equal(
                model_write(stage->directory_fd, "model.safetensors", &info, fixture_tensors(weights), NULL),
                0);
}

static void announce(struct stage *stage, uint64_t generation) {
        atomic_store(&stage->segment->header->generation_ns, clock_now_ns());
        atomic_store(&stage->segment->header->generation, generation);
}

/* Read what is in the lane and check it. Return: number of records. */
static unsigned drain(struct stage *stage) {
        static unsigned char record[1 << 20];
        static struct sample s;
        uint32_t length, n;
        uint64_t next;
        unsigned n_records = 0;
        int r;

        while ((r = lane_read(&stage->segment->lanes[0], record, sizeof(record), &length, &next)) == 0) {
                size_t offset, used;

                assert_int_equal(sample_record_open(stage->game, record, length, &n, &offset, NULL), 0);
                for (uint32_t i = 0; i < n; i++, offset += used) {
                        assert_int_equal(
                                sample_decode(stage->game, record + offset, length - offset, &s, &used, NULL),
                                0);
                        assert_int_equal(s.id.slot, 0);
                        assert_int_equal(s.id.incarnation, stage->incarnation);
                        assert_int_equal(s.id.sequence, stage->next_sequence++);
                        stage->last_generation = s.generation;
                        stage->n_samples++;
                }
                lane_release(&stage->segment->lanes[0], next);
                n_records++;
        }
        assert_int_equal(r, LANE_E_EMPTY);
        return n_records;
}

/* Wait until CONDITION holds; the lane is drained meanwhile if DRAINING. */
#define wait_for(stage, draining, condition)                                                                 \
        do {                                                                                                 \
                uint64_t end_ns_ = clock_now_ns() + DEADLINE_NS;                                             \
                while (!(condition)) {                                                                       \
                        if (draining)                                                                        \
                                (void) drain(stage);                                                         \
                        if (clock_now_ns() > end_ns_)                                                        \
                                fail_msg("waited in vain for " #condition);                                  \
                        clock_sleep_ns(NS_PER_MS);                                                           \
                }                                                                                            \
        } while (0)

/* Without spilling: drain() wants all games in the lane, however long it was not emptied. */
static const char *const tiny[] = {
        "game.name=tictactoe",      "network.filters=8",     "network.blocks=1",
        "service.lane_bytes=65536", "search.simulations=20", "service.spill_max=0"
};

static void test_models_are_taken_up_or_refused(void **state) {
        struct stage stage;
        uint64_t beat;

        (void) state;
        start_stage(&stage, tiny, N_ELEMENTS(tiny));
        start_worker(&stage);

        /* without a model: alive and idle */
        wait_for(&stage, true, (beat = atomic_load(&stage.worker->heartbeat_ns)) != 0);
        wait_for(&stage, true, atomic_load(&stage.worker->heartbeat_ns) != beat);
        assert_int_equal(atomic_load(&stage.worker->state), WORKER_STARTING);
        assert_int_equal(stage.n_samples, 0);

        write_model(&stage, 4, FILTERS);
        announce(&stage, 4);
        wait_for(&stage, true, stage.n_samples > 100);
        assert_int_equal(stage.last_generation, 4);
        assert_int_equal(atomic_load(&stage.worker->generation), 4);
        assert_true(atomic_load(&stage.worker->evaluations) > 0);
        wait_for(&stage, true, atomic_load(&stage.worker->games) > 0); /* counted after the batch */

        /* a model that lies is refused, the worker plays on with the one it has */
        static const char lie[] = "not a model at all, but long enough to look at";
        const struct file_part part = { lie, sizeof(lie) };

        assert_int_equal(file_replace(stage.directory_fd, "model.safetensors", &part, 1, NULL), 0);
        announce(&stage, 5);
        wait_for(&stage, true, atomic_load(&stage.worker->refused) == 1);
        assert_true(stage.worker->refused_text[0] != '\0');
        stage.n_samples = 0;
        wait_for(&stage, true, stage.n_samples > 100);
        assert_int_equal(stage.last_generation, 4);

        /* one of another network as well */
        write_model(&stage, 6, 2 * FILTERS);
        announce(&stage, 6);
        wait_for(&stage, true, atomic_load(&stage.worker->refused) == 2);

        write_model(&stage, 7, FILTERS);
        announce(&stage, 7);
        wait_for(&stage, true, atomic_load(&stage.worker->generation) == 7);
        wait_for(&stage, true, stage.last_generation == 7);
        assert_true(atomic_load(&stage.worker->lag_ns) > 0);
        assert_int_equal(atomic_load(&stage.worker->refused), 2);

        atomic_store(&stage.segment->header->stop, 1);
        assert_int_equal(end_of_worker(&stage), 0);
        (void) drain(&stage);
        end_stage(&stage);
}

static void limit_files(struct stage *stage, rlim_t n) {
        struct rlimit limit;

        assert_int_equal(prlimit(stage->pid, RLIMIT_NOFILE, NULL, &limit), 0);
        limit.rlim_cur = n;
        assert_int_equal(prlimit(stage->pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

/* What hindered it passes, the model is the same: it is tried again, without being announced again. */
static void test_passing_errors_pass(void **state) {
        struct stage stage;
        uint64_t beat;

        (void) state;
        start_stage(&stage, tiny, N_ELEMENTS(tiny));
        start_worker(&stage);
        /* It beats once in the middle of its start, which needs descriptors, and then when it has started. */
        wait_for(&stage, true, (beat = atomic_load(&stage.worker->heartbeat_ns)) != 0);
        wait_for(&stage, true, atomic_load(&stage.worker->heartbeat_ns) != beat);

        /* too many open files, at the very first model */
        limit_files(&stage, 3);
        write_model(&stage, 1, FILTERS);
        announce(&stage, 1);
        wait_for(&stage, true, atomic_load(&stage.worker->refused) == 1);
        assert_non_null(strstr(stage.worker->refused_text, strerror(EMFILE)));
        assert_int_equal(atomic_load(&stage.worker->generation), 0);
        limit_files(&stage, 100);
        wait_for(&stage, true, atomic_load(&stage.worker->generation) == 1);
        assert_int_equal(atomic_load(&stage.worker->refused), 1);
        wait_for(&stage, true, stage.n_samples > 0);

        /* a file that is not there, then is */
        assert_int_equal(unlinkat(stage.directory_fd, "model.safetensors", 0), 0);
        announce(&stage, 2);
        wait_for(&stage, true, atomic_load(&stage.worker->refused) == 2);
        write_model(&stage, 2, FILTERS);
        wait_for(&stage, true, stage.last_generation == 2);

        atomic_store(&stage.segment->header->stop, 1);
        assert_int_equal(end_of_worker(&stage), 0);
        (void) drain(&stage);
        end_stage(&stage);
}

/* Within one batch, however long it takes. */
static void test_heart_beats_within_a_batch(void **state) {
        static const char *const slow[] = { "game.name=gomoku",       "network.filters=128",
                                            "network.blocks=6",       "selfplay.games=128",
                                            "selfplay.precision=f32", "service.lane_bytes=4194304" };
        uint64_t batches, beats[3];
        struct stage stage;
        unsigned tries = 0; /* a batch may end while we look, but not always */

        (void) state;
        start_stage(&stage, slow, N_ELEMENTS(slow));
        write_model(&stage, 1, 128);
        announce(&stage, 1);
        start_worker(&stage);
        wait_for(&stage, true, atomic_load(&stage.worker->batches) > 0);
        do {
                assert_true(tries++ < 20);
                batches = atomic_load(&stage.worker->batches);
                for (size_t i = 0; i < N_ELEMENTS(beats); i++) {
                        uint64_t last = i > 0 ? beats[i - 1] : 0;

                        wait_for(&stage, true, (beats[i] = atomic_load(&stage.worker->heartbeat_ns)) != last);
                }
        } while (atomic_load(&stage.worker->batches) != batches);

        assert_int_equal(kill(stage.pid, SIGKILL), 0);
        end_stage(&stage);
}

/* Standing still, its heart beats. */
static void test_pause_and_throttle(void **state) {
        struct stage stage;
        uint64_t beat, batches;

        (void) state;
        start_stage(&stage, tiny, N_ELEMENTS(tiny));
        write_model(&stage, 1, FILTERS);
        announce(&stage, 1);
        start_worker(&stage);
        wait_for(&stage, true, stage.n_samples > 0);
        atomic_store(&stage.segment->header->pause, 1);
        wait_for(&stage, true, atomic_load(&stage.worker->state) == WORKER_PAUSED);
        batches = atomic_load(&stage.worker->batches);
        beat = atomic_load(&stage.worker->heartbeat_ns);
        wait_for(&stage, true, atomic_load(&stage.worker->heartbeat_ns) != beat);
        assert_int_equal(atomic_load(&stage.worker->batches), batches);
        atomic_store(&stage.segment->header->pause, 0);
        atomic_store(&stage.segment->header->throttle, 1);
        wait_for(&stage, true, atomic_load(&stage.worker->state) == WORKER_THROTTLED);
        atomic_store(&stage.segment->header->throttle, 0);
        wait_for(&stage, true, atomic_load(&stage.worker->batches) > batches);

        atomic_store(&stage.segment->header->stop, 1);
        assert_int_equal(end_of_worker(&stage), 0);
        (void) drain(&stage);
        end_stage(&stage);
}

static void test_full_lane(void **state) {
        struct stage stage;
        uint64_t beat, value;

        (void) state;
        start_stage(&stage, tiny, N_ELEMENTS(tiny));
        write_model(&stage, 1, FILTERS);
        announce(&stage, 1);
        start_worker(&stage);
        wait_for(&stage, false, atomic_load(&stage.worker->state) == WORKER_WAITING);
        assert_true(lane_used(&stage.segment->lanes[0]) > 50000);
        assert_true(atomic_load(&stage.worker->lane_waits) > 0);
        beat = atomic_load(&stage.worker->heartbeat_ns);
        wait_for(&stage, false, atomic_load(&stage.worker->heartbeat_ns) != beat);

        /* nothing was lost: drain() checks that sequence numbers are contiguous */
        (void) drain(&stage);
        stage.n_samples = 0;
        wait_for(&stage, true, stage.n_samples > 3000);

        /* a sleeping consumer is woken; it may sleep only when no game came between the last look and its
         * word */
        while (read(stage.wake_fd, &value, sizeof(value)) > 0)
                ;
        wait_for(&stage, false, (drain(&stage), segment_consumer_may_sleep(stage.segment)));
        wait_for(&stage, false, read(stage.wake_fd, &value, sizeof(value)) == sizeof(value));

        /* stopping does not need room */
        wait_for(&stage, false, atomic_load(&stage.worker->state) == WORKER_WAITING);
        assert_int_equal(kill(stage.pid, SIGTERM), 0);
        assert_int_equal(end_of_worker(&stage), 0);
        end_stage(&stage);
}

/* Killed at any moment, a worker leaves whole records, and its successor goes on in the slot. */
static void test_killed_again_and_again(void **state) {
        struct stage stage;
        struct rng rng;

        (void) state;
        rng_seed(&rng, 1, 1);
        start_stage(&stage, tiny, N_ELEMENTS(tiny));
        write_model(&stage, 1, FILTERS);
        announce(&stage, 1);
        for (unsigned i = 0; i < 5; i++) {
                stage.n_samples = 0;
                start_worker(&stage);
                wait_for(&stage, true, stage.n_samples > 200 + rng_below(&rng, 200));
                assert_int_equal(kill(stage.pid, SIGKILL), 0);
                assert_int_equal(waitpid(stage.pid, NULL, 0), stage.pid);
                (void) drain(&stage);
                assert_int_equal(atomic_load(&stage.worker->incarnation), stage.incarnation);
        }
        start_worker(&stage);
        atomic_store(&stage.segment->header->n_desired, 0);
        assert_int_equal(end_of_worker(&stage), 0);
        end_stage(&stage);
}

static void test_what_can_never_work(void **state) {
        struct stage stage;

        (void) state;
        start_stage(&stage, tiny, N_ELEMENTS(tiny));
        (void) snprintf(stage.segment->header->rules, sizeof(stage.segment->header->rules), "go");
        start_worker(&stage);
        assert_int_equal(end_of_worker(&stage), EX_CONFIG);
        end_stage(&stage);

        /* a game that does not fit its lane */
        start_stage(&stage, (const char *const[]){ "service.lane_bytes=65536" }, 1);
        start_worker(&stage);
        assert_int_equal(end_of_worker(&stage), EX_CONFIG);
        end_stage(&stage);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_models_are_taken_up_or_refused),
                cmocka_unit_test(test_passing_errors_pass),
                cmocka_unit_test(test_heart_beats_within_a_batch),
                cmocka_unit_test(test_pause_and_throttle),
                cmocka_unit_test(test_full_lane),
                cmocka_unit_test(test_killed_again_and_again),
                cmocka_unit_test(test_what_can_never_work),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
