/* SPDX-License-Identifier: MIT */
/*
 * The trainer's loop as azpard sees it: a window that fills, control words, and the page that tells.  The
 * loop runs in a thread; the test waits for what the page says.
 */
#include "daemon/trainer/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <cmocka.h>
#include "daemon/trainer/torch.h"
#include "tests/unit/fixture-network.h"
#include "tests/unit/fixture-samples.h"

enum { BATCH = 16, SLACK = 64, RATIO = 2, MIN_SAMPLES = 40 };

struct setup {
        struct config config;
        struct game *game;
        char path[64];
        int fd, wake_fd;
        struct window *window;
        struct segment_header header;
        struct segment_trainer page;
        struct segment segment;
        volatile sig_atomic_t terminated;
        struct rng rng;
        uint64_t sequence;

        pthread_t thread;
        struct learner *learner;
        struct heart *heart;
        struct error error;
        int result;
};

static void setup(struct setup *s) {
        struct config *c = &s->config;

        memset(s, 0, sizeof(*s));
        config_defaults(c);
        c->game_name = GAME_TICTACTOE;
        c->network_filters = 8;
        c->network_blocks = 1;
        c->replay_ratio = RATIO;
        c->replay_slack = SLACK;
        c->replay_min_samples = MIN_SAMPLES;
        c->train_device = DEVICE_CPU;
        c->train_batch = BATCH;
        c->train_seed = 5;
        c->train_publish_interval = 4;
        c->train_checkpoint_interval = 1000;
        s->game = fixture_game(c);
        fixture_directory(s->path);
        s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(s->fd >= 0);
        s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_true(s->wake_fd >= 0);
        assert_int_equal(window_open(s->fd, "window", s->game, 10000, &s->window, &s->error), 0);
        s->segment = (struct segment){ .header = &s->header, .trainer = &s->page };
        rng_seed(&s->rng, 3, 0);
}

static void teardown(struct setup *s) {
        window_free(s->window);
        (void) close(s->fd);
        (void) close(s->wake_fd);
        fixture_remove(s->path);
        game_free(s->game);
}

/* Append one random game as azpard does. Return: its samples. */
static uint64_t append_game_of(struct setup *s, uint64_t generation) {
        struct sample game[16];
        unsigned n = fixture_play(s->game, &s->rng, game);
        size_t size = sample_record_max_bytes(s->game), length, offset, n_bytes;
        unsigned char *record = malloc(size);
        struct window_item items[16];
        struct sample decoded;
        uint32_t n_found;

        assert_non_null(record);
        for (unsigned i = 0; i < n; i++) {
                game[i].id = (struct sample_id){ .incarnation = 1, .sequence = s->sequence++ };
                game[i].generation = generation;
        }
        assert_int_equal(sample_encode_record(s->game, game, n, record, size, &length), 0);
        assert_int_equal(sample_record_open(s->game, record, length, &n_found, &offset, &s->error), 0);
        for (unsigned i = 0; i < n_found; i++, offset += n_bytes) {
                assert_int_equal(sample_decode(s->game, record + offset, length - offset, &decoded, &n_bytes,
                                               &s->error),
                                 0);
                items[i] = (struct window_item){ record + offset, (uint32_t) n_bytes };
        }
        assert_int_equal(window_append(s->window, items, n_found), 0);
        free(record);
        return n_found;
}

static uint64_t append_game(struct setup *s) {
        return append_game_of(s, 1);
}

static void *run(void *context) {
        struct setup *s = context;
        const struct loop_params p = {
                .config = &s->config,
                .segment = &s->segment,
                .window = s->window,
                .learner = s->learner,
                .heart = s->heart,
                .wake_fd = s->wake_fd,
                .terminated = &s->terminated,
        };

        s->result = loop_run(&p, &s->error);
        return NULL;
}

static void start(struct setup *s) {
        assert_int_equal(heart_new(&s->page, &s->heart, &s->error), 0);
        if (learner_open(&s->config, s->game, s->fd, &s->learner, &s->error) != 0)
                fail_msg("%s", s->error.text);
        assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
}

static int finish(struct setup *s) {
        assert_int_equal(pthread_join(s->thread, NULL), 0);
        learner_free(s->learner);
        heart_free(s->heart);
        atomic_store(&s->header.stop, 0);
        s->terminated = 0;
        return s->result;
}

#define WAIT_FOR(condition)                                                                                  \
        while (!(condition))                                                                                 \
        (void) sched_yield()

/* The step at which everything that @inserted samples allow is used up. */
static uint64_t last_step(uint64_t inserted) {
        return (SLACK + RATIO * inserted) / BATCH;
}

static void wait_for_limit(struct setup *s, uint64_t inserted) {
        WAIT_FOR(s->page.step == last_step(inserted) && s->page.state == TRAINER_LIMITED);
}

/* The page is told again at least once from now on: naps tell the window's tail as the limiter counts it. */
static void wait_for_look(struct setup *s, uint64_t inserted) {
        WAIT_FOR(s->page.samples_inserted == inserted);
}

static void wait_for_beats(struct setup *s, int n) {
        for (; n > 0; n--) {
                uint64_t last = s->page.heartbeat_ns;

                WAIT_FOR(s->page.heartbeat_ns != last);
        }
}

/* Start it, and let it use up what the first samples allow. Return: their number. */
static uint64_t start_and_use_up(struct setup *s) {
        uint64_t inserted = 0;

        start(s);
        while (inserted < MIN_SAMPLES)
                inserted += append_game(s);
        wait_for_limit(s, inserted);
        return inserted;
}

static void test_a_day(void **state) {
        struct checkpoint c;
        struct setup s;
        uint64_t inserted = 0, step, woken = 0;
        char folder[64];

        (void) state;
        setup(&s);
        start(&s);
        WAIT_FOR(s.page.published_generation == 1); /* at once, so that workers can play */
        WAIT_FOR(s.page.state == TRAINER_FILLING);  /* after what is due at the start */
        assert_int_equal(s.page.step, 0);
        assert_int_equal(read(s.wake_fd, &woken, sizeof(woken)), sizeof(woken));
        assert_int_equal(woken, 2); /* published, and the first checkpoint */

        while (inserted < MIN_SAMPLES)
                inserted += append_game(&s);
        wait_for_limit(&s, inserted);
        assert_int_equal(s.page.samples_trained, last_step(inserted) * BATCH);
        assert_int_equal(s.page.samples_allowed, SLACK + RATIO * inserted - s.page.samples_trained);
        assert_true(segment_bits_double(s.page.smooth_policy) > 0.1);
        assert_true(segment_bits_double(s.page.learning_rate) == s.config.train_learning_rate);
        WAIT_FOR(s.page.published_step == last_step(inserted) / 4 * 4);

        s.header.pause = 1;
        WAIT_FOR(s.page.state == TRAINER_PAUSED);
        step = s.page.step;
        for (int i = 0; i < 10; i++)
                inserted += append_game(&s);
        wait_for_look(&s, inserted);
        wait_for_beats(&s, 2);
        assert_true(s.page.step == step && s.page.state == TRAINER_PAUSED);
        s.header.checkpoint_request = 7; /* also while paused */
        WAIT_FOR(s.page.checkpoint_done == 7);
        assert_int_equal(s.page.checkpoint_step, step);
        s.header.pause = 0;
        wait_for_limit(&s, inserted);
        assert_true(s.page.step > step);

        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        assert_int_equal(checkpoint_newest(s.fd, NULL, &c, folder, &s.error), 0);
        assert_true(c.step == last_step(inserted) && c.window_tail == inserted);
        teardown(&s);
}

/* Started again, it goes on with what was left: no second slack, no waiting for more than its share. */
static void test_again(void **state) {
        uint64_t inserted, step;
        struct setup s;

        (void) state;
        setup(&s);
        inserted = start_and_use_up(&s);
        s.terminated = 1; /* SIGTERM is as good as a word */
        assert_int_equal(finish(&s), 0);
        step = last_step(inserted);

        start(&s);
        WAIT_FOR(s.page.state == TRAINER_LIMITED);
        wait_for_beats(&s, 2);
        assert_int_equal(s.page.step, step);
        for (int i = 0; i < 5; i++)
                inserted += append_game(&s);
        wait_for_limit(&s, inserted);
        assert_true(s.page.step > step);
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        teardown(&s);
}

static bool has(const struct setup *s, const char *path) {
        return faccessat(s->fd, path, F_OK, 0) == 0;
}

/* The newest checkpoint in full. */
static struct checkpoint newest(const struct setup *s) {
        struct checkpoint c;
        struct error e = ERROR_INIT;
        char folder[64];

        if (checkpoint_newest(s->fd, NULL, &c, folder, &e) != 0)
                fail_msg("%s", e.text);
        return c;
}

/* A crash before the first checkpoint would draw another network and grant the slack again: there is none. */
static void test_first_checkpoint(void **state) {
        struct checkpoint c;
        struct setup s;

        (void) state;
        setup(&s);
        start(&s);
        WAIT_FOR(s.page.state == TRAINER_FILLING); /* after what is due at the start */
        c = newest(&s);
        assert_true(c.step == 0 && c.generation == 1 && c.window_tail == 0 && c.samples_allowed == SLACK);
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        start(&s);
        WAIT_FOR(s.page.published_generation == 2);
        assert_int_equal(learner_origin(s.learner), LEARNER_RESUMED);
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        teardown(&s);
}

/* Minutes are as good as steps, but time alone, without a step, makes no checkpoint. */
static void test_minutes(void **state) {
        uint64_t inserted;
        struct setup s;

        (void) state;
        setup(&s);
        s.config.train_checkpoint_minutes = 1e-9;
        inserted = start_and_use_up(&s);
        WAIT_FOR(s.page.checkpoint_step == last_step(inserted)); /* nobody asked, and 1000 steps are far */
        assert_int_equal(newest(&s).step, last_step(inserted));
        s.header.pause = 1;
        WAIT_FOR(s.page.state == TRAINER_PAUSED);
        assert_int_equal(renameat(s.fd, "checkpoints", s.fd, "away"), 0);
        for (int i = 0; i < 2; i++) { /* between two looks it would have saved */
                inserted += append_game(&s);
                wait_for_look(&s, inserted);
        }
        assert_false(has(&s, "checkpoints"));
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        teardown(&s);
}

/* An old checkpoint that cannot be removed costs a warning; training and saving go on. */
static void test_stray_directory(void **state) {
        uint64_t inserted;
        struct setup s;

        (void) state;
        setup(&s);
        s.config.train_checkpoint_interval = 1;
        s.config.train_keep = 1;
        assert_int_equal(mkdirat(s.fd, "checkpoints", 0700), 0);
        assert_int_equal(mkdirat(s.fd, "checkpoints/.tmp-0000000009", 0700), 0);
        assert_int_equal(mkdirat(s.fd, "checkpoints/.tmp-0000000009/stray", 0700), 0);
        inserted = start_and_use_up(&s);
        WAIT_FOR(s.page.checkpoint_step == last_step(inserted));
        assert_int_equal(s.page.save_errno, 0);
        assert_false(has(&s, "checkpoints/0000000000"));
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        assert_true(has(&s, "checkpoints/.tmp-0000000009/stray"));
        teardown(&s);
}

/* The model file is gone, the checkpoint older: a number that workers played with still never comes again. */
static void test_generation_of_samples(void **state) {
        struct setup s;

        (void) state;
        setup(&s);
        start(&s);
        WAIT_FOR(s.page.published_generation == 1);
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        assert_int_equal(newest(&s).generation, 1);
        assert_int_equal(unlinkat(s.fd, LEARNER_MODEL, 0), 0);
        s.page.published_generation = 0;
        (void) append_game_of(&s, 41);
        (void) append_game_of(&s, 40);
        (void) append_game_of(&s, UINT64_MAX); /* never published by anyone */
        start(&s);
        WAIT_FOR(s.page.published_generation != 0);
        assert_int_equal(s.page.published_generation, 42);
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        teardown(&s);
}

/* After a power cut took the window's end, what is left of it is not granted again. */
static void test_shorter_window(void **state) {
        uint64_t inserted;
        struct checkpoint c;
        struct setup s;

        (void) state;
        setup(&s);
        inserted = start_and_use_up(&s);
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        c = newest(&s);
        window_free(s.window);
        assert_int_equal(unlinkat(s.fd, "window", 0), 0);
        assert_int_equal(window_open(s.fd, "window", s.game, 10000, &s.window, &s.error), 0);
        inserted = append_game(&s);
        s.page.published_generation = 0;
        start(&s);
        WAIT_FOR(s.page.state == TRAINER_FILLING);
        assert_int_equal(s.page.samples_allowed, c.samples_allowed);
        assert_int_equal(newest(&s).window_tail, inserted); /* what comes now counts from here */
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        teardown(&s);
}

/*
 * Start it, and take all descriptors away from the process, as if a disk had no blocks. Return: samples
 * inserted, all of them used up; *ret: what to give back.
 */
static uint64_t start_and_take_away(struct setup *s, struct rlimit *ret) {
        struct rlimit none;
        uint64_t inserted;

        s->config.train_publish_interval = 1000;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, ret), 0);
        inserted = start_and_use_up(s);
        none = *ret;
        none.rlim_cur = 0;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        return inserted;
}

/* Saving fails, and training goes on. Return: samples inserted, with those that were @inserted before. */
static uint64_t train_unsaved(struct setup *s, uint64_t inserted) {
        WAIT_FOR(s->page.save_errno == EMFILE);
        for (int i = 0; i < 5; i++)
                inserted += append_game(s);
        wait_for_limit(s, inserted);
        return inserted;
}

/* Nothing can be saved: training goes on, and saving works again later. */
static void test_saving_fails(void **state) {
        struct rlimit limit;
        uint64_t inserted;
        struct setup s;

        (void) state;
        setup(&s);
        inserted = start_and_take_away(&s, &limit);
        s.header.checkpoint_request = 1;
        (void) train_unsaved(&s, inserted);
        assert_int_equal(s.page.checkpoint_done, 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        WAIT_FOR(s.page.checkpoint_done == 1);
        WAIT_FOR(s.page.save_errno == 0);
        s.header.stop = 1;
        assert_int_equal(finish(&s), 0);
        teardown(&s);
}

/*
 * Asked to leave by a signal, with azpard not stopping, while nothing can be saved: it stays until it can be,
 * and the next process goes on with all that was learned meanwhile.
 */
static void test_leaves_when_saved(void **state) {
        struct rlimit limit;
        uint64_t inserted, step;
        struct setup s;

        (void) state;
        setup(&s);
        inserted = start_and_take_away(&s, &limit);
        s.terminated = 1;
        step = last_step(train_unsaved(&s, inserted));
        assert_int_not_equal(s.page.checkpoint_step, step); /* else leaving at once would lose nothing */
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(finish(&s), 0);
        assert_int_equal(newest(&s).step, step);
        teardown(&s);
}

/* What does not pass by itself ends it, with a text. */
static void test_gives_up(void **state) {
        struct setup s;
        int fd;

        (void) state;
        setup(&s);
        start(&s);
        WAIT_FOR(s.page.state == TRAINER_FILLING);
        assert_int_equal(renameat(s.fd, "checkpoints", s.fd, "away"), 0);
        fd = openat(s.fd, "checkpoints", O_CREAT | O_WRONLY | O_CLOEXEC, 0600); /* where a folder has to be */
        assert_true(fd >= 0);
        (void) close(fd);
        s.header.checkpoint_request = 1;
        assert_true(finish(&s) < 0);
        assert_non_null(strstr(s.error.text, "checkpoints"));
        teardown(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_day),
                cmocka_unit_test(test_again),
                cmocka_unit_test(test_first_checkpoint),
                cmocka_unit_test(test_minutes),
                cmocka_unit_test(test_stray_directory),
                cmocka_unit_test(test_generation_of_samples),
                cmocka_unit_test(test_shorter_window),
                cmocka_unit_test(test_saving_fails),
                cmocka_unit_test(test_leaves_when_saved),
                cmocka_unit_test(test_gives_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
