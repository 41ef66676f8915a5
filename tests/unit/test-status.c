/* SPDX-License-Identifier: MIT */
/* Status: every name of the contract is there, whatever the shared counters say, and the state follows its
 * causes. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "daemon/status.h"

#define N_SLOTS 4

struct fixture {
        char directory[64], instance[48];
        int dir_fd;
        struct config config;
        struct game *game;
        struct window *window;
        struct segment *segment;
        struct intake *intake;
        sd_event *event;
        struct children *children;
        struct disk *disk;
        struct window_sync *sync;
        struct refill *refill;
        struct rates *rates;
        struct publication publication;
        struct usage usage;
        struct status_sources sources;
};

static int before_start(void *userdata, struct child *c, struct error *e) {
        (void) userdata;
        (void) c;
        return error_set(e, -ENOSPC, "disk full");
}

static void ended(void *userdata, struct child *c) {
        (void) userdata;
        (void) c;
}

static uint64_t heartbeat(void *userdata, const struct child *c) {
        (void) userdata;
        (void) c;
        return 0;
}

static const struct children_ops ops = { .before_start = before_start,
                                         .ended = ended,
                                         .heartbeat = heartbeat };

/* The test plays the processes: it writes what children.c would know about them. */
static struct child *child(struct fixture *f, unsigned number) {
        return (struct child *) (uintptr_t) children_get(f->children, number);
}

static void run(struct fixture *f, unsigned number) {
        child(f, number)->phase = CHILD_RUNNING;
        child(f, number)->pid = 1000 + (pid_t) number;
        child(f, number)->first_beat_ns = child(f, number)->last_beat_ns = clock_now_ns();
}

static void nothing_changed(void *userdata) {
        (void) userdata;
}

static int set_up(void **state) {
        static unsigned n;
        struct fixture *f = calloc(1, sizeof(*f));
        struct refill_options refill = { .changed = nothing_changed };
        int refused;
        struct children_options o = { .worker_path = "/bin/false",
                                      .trainer_path = "/bin/false",
                                      .n_slots = N_SLOTS,
                                      .heartbeat_timeout_ns = NS_PER_S,
                                      .restart_limit = 1 };
        struct error e = ERROR_INIT;

        assert_non_null(f);
        config_defaults(&f->config);
        f->config.game_name = GAME_CONNECT4;
        assert_int_equal(game_new(&f->config, &f->game, &e), 0);
        (void) strcpy(f->directory, "/tmp/test-status-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        f->dir_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dir_fd >= 0);
        (void) snprintf(f->instance, sizeof(f->instance), "test-status-%d-%u", (int) getpid(), n++);
        if (segment_create(f->instance, N_SLOTS, 65536, f->game->rules, f->directory, &f->segment, &e) < 0 ||
            window_open(f->dir_fd, "window", f->game, 1000, &f->window, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(intake_new(f->game, f->window, &f->intake), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(children_new(f->event, &o, &ops, f, &f->children), 0);
        assert_int_equal(disk_new(true, true, &f->disk, &refused), 0);
        assert_int_equal(window_sync_new(f->event, f->window, 1000000, f->disk, &f->sync), 0);
        refill.game = f->game;
        refill.window = f->window;
        refill.sync = f->sync;
        refill.disk = f->disk;
        refill.state_fd = f->dir_fd;
        refill.found = intake_found(f->intake);
        assert_int_equal(refill_new(f->event, &refill, &f->refill, &e), 0);
        assert_int_equal(rates_new(&f->rates), 0);
        f->sources = (struct status_sources){
                .instance = f->instance,
                .state_path = f->directory,
                .config = &f->config,
                .segment = f->segment,
                .children = f->children,
                .intake = f->intake,
                .window = f->window,
                .sync = f->sync,
                .disk = f->disk,
                .refill = f->refill,
                .publication = &f->publication,
                .rates = f->rates,
                .usage = &f->usage,
                .started_ns = clock_now_ns(),
                .n_desired = 2,
        };
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        for (unsigned i = 0; i <= CHILDREN_MAX_WORKERS; i++) { /* there are no such processes */
                child(f, i)->phase = CHILD_OFF;
                child(f, i)->pid = 0;
        }
        children_free(f->children);
        disk_free(f->disk);
        refill_free(f->refill);
        window_sync_free(f->sync);
        (void) sd_event_unref(f->event);
        rates_free(f->rates);
        intake_free(f->intake);
        window_free(f->window);
        segment_free(f->segment);
        (void) segment_unlink(f->instance);
        (void) unlinkat(f->dir_fd, "window", 0);
        (void) rmdir(f->directory);
        (void) close(f->dir_fd);
        game_free(f->game);
        free(f);
        return 0;
}

/* "a.b.c", or "workers.0.x" for elements of an array. NULL: not there. */
static const cJSON *find(const cJSON *o, const char *path) {
        char copy[128];
        char *save = NULL;

        (void) snprintf(copy, sizeof(copy), "%s", path);
        for (char *name = strtok_r(copy, ".", &save); name && o; name = strtok_r(NULL, ".", &save))
                o = cJSON_IsArray(o) ? cJSON_GetArrayItem(o, atoi(name))
                                     : cJSON_GetObjectItemCaseSensitive(o, name);
        return o;
}

static double number(const cJSON *o, const char *path) {
        const cJSON *item = find(o, path);

        if (!cJSON_IsNumber(item))
                fail_msg("%s is not a number", path);
        return item->valuedouble;
}

static const char *text(const cJSON *o, const char *path) {
        const cJSON *item = find(o, path);

        if (!cJSON_IsString(item))
                fail_msg("%s is not a string", path);
        return item->valuestring;
}

static const char *const contract[] = {
        "protocol",
        "ok",
        "version",
        "instance",
        "pid",
        "state",
        "reason",
        "uptime_s",
        "state_directory",
        "rules",
        "generation",
        "generation_age_s",
        "step",
        "steps_per_s",
        "samples_trained",
        "learning_rate",
        "loss.policy",
        "loss.value",
        "loss.total",
        "loss.smooth_policy",
        "loss.smooth_value",
        "loss.smooth_total",
        "window.samples",
        "window.capacity",
        "window.inserted",
        "window.damaged",
        "limiter.target_ratio",
        "limiter.ratio",
        "limiter.inserted",
        "limiter.trained",
        "limiter.allowed",
        "limiter.throttle",
        "rates.samples_per_s",
        "rates.games_per_s",
        "rates.simulations_per_s",
        "rates.evaluations_per_s",
        "totals.games",
        "totals.samples",
        "totals.simulations",
        "totals.evaluations",
        "lag.workers_behind",
        "lag.last_ms",
        "lag.max_ms",
        "publish.count",
        "publish.last_ms",
        "publish.age_s",
        "checkpoint.step",
        "checkpoint.age_s",
        "workers_desired",
        "workers.0.slot",
        "workers.0.pid",
        "workers.0.state",
        "workers.0.precision",
        "workers.0.incarnation",
        "workers.0.generation",
        "workers.0.lag_ms",
        "workers.0.max_lag_ms",
        "workers.0.restarts",
        "workers.0.last_exit",
        "workers.0.heartbeat_age_s",
        "workers.0.games",
        "workers.0.samples",
        "workers.0.games_per_s",
        "workers.0.samples_per_s",
        "workers.0.simulations_per_s",
        "workers.0.evaluations_per_s",
        "workers.0.lane_used",
        "workers.0.lane_bytes",
        "workers.0.lane_waits",
        "workers.0.spilled_samples",
        "workers.0.bad_records",
        "workers.0.refused",
        "workers.0.refused_reason",
        "workers.0.pss_bytes",
        "workers.0.private_dirty_bytes",
        "trainer.pid",
        "trainer.state",
        "trainer.device",
        "trainer.restarts",
        "trainer.last_exit",
        "trainer.heartbeat_age_s",
        "trainer.pss_bytes",
        "trainer.private_dirty_bytes",
        "intake.records",
        "intake.samples",
        "intake.bad_records",
        "intake.duplicates",
        "intake.reset_bytes",
        "intake.lanes_reset",
        "spill.files",
        "spill.bytes",
        "spill.ignored",
        "spill.in_samples_per_s",
        "spill.out_samples_per_s",
        "spill.spilled_samples",
        "spill.taken_files",
        "spill.taken_samples",
        "spill.taken_bytes",
        "spill.duplicates",
        "spill.rejected",
        "disk.state_bytes",
        "disk.window_bytes",
        "disk.free_bytes",
};

static void set_double(_Atomic uint64_t *bits, double x) {
        atomic_store(bits, segment_double_bits(x));
}

static void test_contract(void **state) {
        struct fixture *f = *state;
        struct segment_trainer *t = f->segment->trainer;
        cJSON *o;

        run(f, 0);
        run(f, CHILDREN_TRAINER);
        atomic_store(&t->state, TRAINER_TRAINING);
        atomic_store(&t->step, 12);
        set_double(&t->loss_total, 2.5);
        set_double(&t->smooth_total, 2.25);
        atomic_store(&f->segment->workers[0]->state, WORKER_PLAYING);
        atomic_store(&f->segment->workers[0]->precision, PRECISION_BF16);
        atomic_store(&f->segment->workers[0]->lag_ns, 3 * NS_PER_MS);
        atomic_store(&f->segment->header->generation, 42);
        o = status_build(&f->sources, clock_now_ns());
        assert_non_null(o);
        for (size_t i = 0; i < N_ELEMENTS(contract); i++) {
                if (!find(o, contract[i]))
                        fail_msg("%s is missing", contract[i]);
        }
        assert_null(find(o, "loss.nonsense")); /* find() can fail */
        assert_int_equal(number(o, "protocol"), 1);
        assert_string_equal(text(o, "instance"), f->instance);
        assert_string_equal(text(o, "rules"), f->game->rules);
        assert_string_equal(text(o, "state"), "training");
        assert_true(cJSON_IsNull(find(o, "reason")));
        assert_int_equal(number(o, "generation"), 42);
        assert_int_equal(number(o, "step"), 12);
        assert_float_equal(number(o, "loss.smooth_total"), 2.25, 1e-12);
        assert_int_equal(number(o, "window.capacity"), 1000);
        assert_int_equal(number(o, "workers_desired"), 2);
        assert_int_equal(cJSON_GetArraySize(find(o, "workers")), 2);
        assert_string_equal(text(o, "workers.0.state"), "playing");
        assert_string_equal(text(o, "workers.0.precision"), "bf16");
        assert_float_equal(number(o, "workers.0.lag_ms"), 3.0, 1e-12);
        assert_string_equal(text(o, "workers.1.state"), "off");
        assert_true(cJSON_IsNull(find(o, "workers.1.pid")));
        assert_int_equal(number(o, "lag.workers_behind"), 1);
        assert_string_equal(text(o, "trainer.device"), "cpu");
        cJSON_Delete(o);
}

static void test_before_the_first_step(void **state) {
        struct fixture *f = *state;
        cJSON *o = status_build(&f->sources, clock_now_ns());

        assert_string_equal(text(o, "state"), "starting");
        assert_true(cJSON_IsNull(find(o, "loss")));
        assert_true(cJSON_IsNull(find(o, "generation_age_s")));
        assert_true(cJSON_IsNull(find(o, "publish.age_s")));
        assert_true(cJSON_IsNull(find(o, "checkpoint.age_s")));
        assert_float_equal(number(o, "limiter.ratio"), 0.0, 0.0);
        cJSON_Delete(o);
}

/* All of the shared memory that others write holds the worst that it can hold. */
static void test_foreign_counters(void **state) {
        static const unsigned char patterns[] = { 0xff, 0x7f, 0x80, 0xf0 };
        struct fixture *f = *state;

        run(f, 0);
        run(f, CHILDREN_TRAINER);
        for (size_t i = 0; i < N_ELEMENTS(patterns); i++) {
                char line[512];
                cJSON *o, *back;
                char *printed;

                (void) memset(f->segment->trainer, patterns[i], sizeof(*f->segment->trainer));
                (void) memset(f->segment->workers[0], patterns[i], sizeof(*f->segment->workers[0]));
                set_double(&f->segment->trainer->smooth_value, NAN);
                set_double(&f->segment->trainer->learning_rate, -INFINITY);
                for (uint64_t k = 1; k < 4; k++)
                        rates_tick(f->rates, f->segment, k * NS_PER_S);
                o = status_build(&f->sources, clock_now_ns());
                assert_non_null(o);
                printed = cJSON_PrintUnformatted(o);
                assert_non_null(printed);
                assert_null(strstr(printed, "nan"));
                assert_null(strstr(printed, "inf"));
                for (const char *p = printed; *p; p++)
                        assert_true(*p >= ' ' && *p <= '~');
                back = cJSON_Parse(printed);
                assert_non_null(back);
                assert_string_equal(text(back, "workers.0.state"), "unknown");
                assert_true(number(back, "workers.0.lane_used") <= number(back, "workers.0.lane_bytes"));
                assert_true(cJSON_IsNull(find(back, "learning_rate")));
                cJSON_Delete(back);
                cJSON_free(printed);
                cJSON_Delete(o);
                status_line(&f->sources, line, sizeof(line));
                assert_null(strstr(line, "nan"));
        }
}

static void expect_state(struct fixture *f, const char *word, const char *reason_part) {
        char reason[STATUS_REASON_MAX];

        assert_string_equal(status_state(&f->sources, reason), word);
        if (!strstr(reason, reason_part))
                fail_msg("'%s' does not mention '%s'", reason, reason_part);
}

static void test_states(void **state) {
        struct fixture *f = *state;
        struct segment_trainer *t = f->segment->trainer;

        expect_state(f, "starting", "the trainer's first weights");
        atomic_store(&f->segment->header->generation, 1);
        expect_state(f, "starting", "waiting for the trainer");
        atomic_store(&f->segment->header->generation, 0);
        run(f, CHILDREN_TRAINER);
        atomic_store(&t->state, TRAINER_FILLING);
        expect_state(f, "filling", "0 of 2000 samples");
        atomic_store(&t->state, TRAINER_LIMITED);
        expect_state(f, "limited", "waits");
        atomic_store(&t->state, TRAINER_SAVING);
        expect_state(f, "training", "");
        atomic_store(&f->segment->header->pause, 1);
        expect_state(f, "paused", "");

        (void) strcpy(f->publication.refused_reason, "tensor 'x' is not finite");
        expect_state(f, "degraded", "tensor 'x' is not finite");
        child(f, 1)->phase = CHILD_PARKED;
        (void) strcpy(child(f, 1)->last_exit, "exit status 78");
        expect_state(f, "degraded", "1 of 2 workers parked, worker 1: exit status 78");
        child(f, 0)->phase = CHILD_BACKOFF; /* about to come back: no news */
        (void) strcpy(child(f, 0)->last_exit, "signal 9 (Killed)");
        expect_state(f, "degraded", "1 of 2 workers parked, worker 1: exit status 78");
        child(f, 1)->phase = CHILD_BACKOFF;
        expect_state(f, "degraded", "2 of 2 workers being restarted, worker 0: signal 9 (Killed)");
        child(f, 1)->phase = CHILD_RUNNING;
        expect_state(f, "degraded", "tensor");
        child(f, 0)->phase = CHILD_RUNNING;
        child(f, 1)->phase = CHILD_PARKED;
        f->sources.n_desired = 1; /* the parked one is not wanted any more */
        expect_state(f, "degraded", "tensor");
        atomic_store(&t->save_errno, ENOSPC);
        expect_state(f, "degraded", "No space left");
        child(f, CHILDREN_TRAINER)->phase = CHILD_PARKED;
        expect_state(f, "degraded", "trainer is parked");
        f->sources.stopping = true;
        child(f, 0)->phase = CHILD_RUNNING;
        child(f, 1)->phase = CHILD_OFF;
        expect_state(f, "stopping", "1 workers");
        child(f, CHILDREN_TRAINER)->phase = CHILD_RUNNING;
        expect_state(f, "stopping", "the trainer");
}

static void test_line(void **state) {
        struct fixture *f = *state;
        char line[256];

        run(f, CHILDREN_TRAINER);
        atomic_store(&f->segment->trainer->state, TRAINER_TRAINING);
        atomic_store(&f->segment->header->generation, 42);
        set_double(&f->segment->trainer->smooth_total, 2.314);
        status_line(&f->sources, line, sizeof(line));
        assert_string_equal(line, "generation 42, 0 samples, 0.0 games/s, loss 2.31");
        atomic_store(&f->segment->trainer->state, TRAINER_FILLING);
        status_line(&f->sources, line, sizeof(line));
        assert_string_equal(line, "filling, 0 of 2000 samples that training starts with: generation 42, "
                                  "0 samples, 0.0 games/s, loss 2.31");
        atomic_store(&f->segment->header->pause, 1);
        status_line(&f->sources, line, sizeof(line));
        assert_string_equal(line, "paused: generation 42, 0 samples, 0.0 games/s, loss 2.31");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_contract, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_before_the_first_step, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_foreign_counters, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_states, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_line, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
