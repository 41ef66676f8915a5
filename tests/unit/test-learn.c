/* SPDX-License-Identifier: MIT */
/*
 * From file or fresh, train on samples, save: a fixed set is learned by heart, and a run that was stopped is
 * bit for bit the run that was not.
 */
#include "daemon/trainer/learn.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <cmocka.h>
#include "daemon/trainer/torch.h"
#include "tests/unit/fixture-network.h"
#include "tests/unit/fixture-samples.h"

enum { N_SAMPLES = 64 };

struct setup {
        struct config config;
        struct game *game;
        struct sample *samples;
        char path[64];
        int fd; /* the state directory */
};

static void open_setup(struct setup *s) {
        fixture_directory(s->path);
        s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(s->fd >= 0);
}

static void setup(struct setup *s) {
        struct config *c = &s->config;

        config_defaults(c);
        c->game_name = GAME_TICTACTOE;
        c->network_filters = 8;
        c->network_blocks = 1;
        c->train_device = DEVICE_CPU;
        c->train_batch = 16;
        c->train_seed = 5;
        c->train_learning_rate = 0.01;
        s->game = fixture_game(c);
        s->samples = fixture_samples(s->game, N_SAMPLES, 1);
        open_setup(s);
}

static void teardown(struct setup *s) {
        (void) close(s->fd);
        fixture_remove(s->path);
        free(s->samples);
        game_free(s->game);
}

static struct learner *open_learner(const struct setup *s) {
        struct learner *l = NULL;
        struct error e = ERROR_INIT;

        if (learner_open(&s->config, s->game, s->fd, &l, &e) != 0)
                fail_msg("%s", e.text);
        return l;
}

static void train(struct learner *l, const struct setup *s, uint64_t n_steps) {
        struct error e = ERROR_INIT;

        if (learner_train(l, s->samples, N_SAMPLES, n_steps, &e) != 0)
                fail_msg("%s", e.text);
}

static void save(struct learner *l) {
        struct error e = ERROR_INIT;

        if (learner_save(l, 4321, 99, &e) != 0 || learner_prune(l, &e) != 0)
                fail_msg("%s", e.text);
}

static void publish(struct learner *l) {
        struct error e = ERROR_INIT;

        if (learner_publish(l, &e) != 0)
                fail_msg("%s", e.text);
}

/* Whether the newest checkpoints of two directories hold the same weights, state and draws to come. */
static bool equal_checkpoints(const struct setup *a, const struct setup *b) {
        const struct setup *s[2] = { a, b };
        struct safetensors *files[2];
        const float *tensors[2][NETWORK_MAX_TENSORS];
        struct network_tensor list[NETWORK_MAX_TENSORS];
        struct checkpoint c[2];
        char path[128], folder[64];
        struct error e = ERROR_INIT;
        bool equal = true;
        size_t n;

        for (int i = 0; i < 2; i++) {
                memset(&c[i], 0, sizeof(c[i]));
                if (checkpoint_newest(s[i]->fd, NULL, &c[i], folder, &e) != 0)
                        fail_msg("%s", e.text);
                (void) snprintf(path, sizeof(path), "%s/model.safetensors", folder);
                if (model_open(s[i]->fd, path, NULL, &files[i], NULL, tensors[i], &e) != 0)
                        fail_msg("%s", e.text);
        }
        n = network_tensors(&c[0].network, list);
        for (size_t i = 0; i < n; i++)
                equal = equal &&
                        memcmp(tensors[0][i], tensors[1][i], list[i].n_elements * sizeof(float)) == 0;
        equal = equal && c[0].step == c[1].step && c[0].samples_trained == c[1].samples_trained &&
                c[0].smooth_policy == c[1].smooth_policy && c[0].smooth_value == c[1].smooth_value &&
                c[0].smooth_total == c[1].smooth_total && memcmp(&c[0].rng, &c[1].rng, sizeof(c[0].rng)) == 0;
        safetensors_free(files[0]);
        safetensors_free(files[1]);
        return equal;
}

/* ---- train on samples ---- */

static double mean_entropy(const struct setup *s) {
        double sum = 0;

        for (int i = 0; i < N_SAMPLES; i++) {
                double total = 0;

                for (int k = 0; k < s->samples[i].n_visits; k++)
                        total += s->samples[i].visits[k].visits;
                for (int k = 0; k < s->samples[i].n_visits; k++) {
                        double p = s->samples[i].visits[k].visits / total;

                        sum -= p * log(p);
                }
        }
        return sum / N_SAMPLES;
}

/* Positions that occur twice have two targets, which nobody can learn: one target for all of them. */
static void make_consistent(struct setup *s) {
        for (int i = 0; i < N_SAMPLES; i++)
                for (int k = 0; k < i; k++)
                        if (memcmp(s->samples[i].planes, s->samples[k].planes, GAME_PLANES_BYTES(s->game)) ==
                            0)
                                s->samples[i] = s->samples[k];
}

static void test_overfit(void **state) {
        struct setup s;
        struct learner *l;
        double entropy;

        (void) state;
        setup(&s);
        make_consistent(&s);
        entropy = mean_entropy(&s);
        s.config.network_filters = 16;
        s.config.train_augment = false;
        s.config.train_weight_decay = 0;
        s.config.train_batch = N_SAMPLES;
        l = open_learner(&s);
        train(l, &s, 10);
        assert_true(learner_state(l)->smooth_policy > entropy + 0.3); /* it has yet to learn */
        train(l, &s, 500);
        if (learner_state(l)->smooth_policy > entropy + 0.06 || learner_state(l)->smooth_value > 0.03)
                fail_msg("policy %g, its targets' entropy %g, value %g", learner_state(l)->smooth_policy,
                         entropy, learner_state(l)->smooth_value);
        assert_true(learner_state(l)->step == 510 && learner_state(l)->samples_trained == 510 * N_SAMPLES);
        learner_free(l);
        teardown(&s);
}

static void test_no_samples(void **state) {
        struct error e = ERROR_INIT;
        struct learner *l;
        struct setup s;

        (void) state;
        setup(&s);
        l = open_learner(&s);
        assert_int_equal(learner_train(l, s.samples, 0, 1, &e), BATCH_E_NO_SAMPLES);
        for (int i = 0; i < N_SAMPLES; i++)
                s.samples[i].weight = 0;
        assert_int_equal(learner_train(l, s.samples, N_SAMPLES, 1, &e), BATCH_E_NO_SAMPLES);
        assert_int_equal(learner_state(l)->step, 0);
        learner_free(l);
        teardown(&s);
}

static void test_diverged(void **state) {
        struct error e = ERROR_INIT;
        struct learner *l;
        struct setup s;

        (void) state;
        setup(&s);
        s.config.train_optimizer = OPTIMIZER_SGD;
        s.config.train_learning_rate = 1e30;
        l = open_learner(&s);
        assert_int_equal(learner_train(l, s.samples, N_SAMPLES, 10, &e), -EDOM);
        assert_non_null(strstr(e.text, "train.learning_rate"));
        learner_free(l);
        teardown(&s);
}

/* ---- resume ---- */

/* Steps 0 to 12 at once, and with a stop after @k, each in a directory of its own. */
static void check_resume(unsigned optimizer, uint64_t k) {
        struct setup whole, stopped;
        struct learner *l;

        setup(&whole);
        whole.config.train_optimizer = optimizer;
        whole.config.train_schedule = SCHEDULE_COSINE;
        whole.config.train_schedule_steps = 20;
        whole.config.train_warmup_steps = 6;
        whole.config.train_gradient_clip = 0.5;
        stopped = whole;
        open_setup(&stopped);

        l = open_learner(&whole);
        assert_int_equal(learner_origin(l), LEARNER_FRESH);
        train(l, &whole, 12);
        save(l);
        learner_free(l);

        l = open_learner(&stopped);
        train(l, &stopped, k);
        save(l);
        learner_free(l);
        assert_true(!equal_checkpoints(&whole, &stopped));
        stopped.config.train_seed++; /* a resumed run has its draws from the checkpoint, not from a seed */
        l = open_learner(&stopped);
        assert_int_equal(learner_origin(l), LEARNER_RESUMED);
        assert_null(learner_warning(l));
        assert_int_equal(learner_state(l)->step, k);
        assert_true(learner_state(l)->window_tail == 4321 && learner_state(l)->samples_allowed == 99);
        train(l, &stopped, 12 - k);
        save(l);
        learner_free(l);
        assert_true(equal_checkpoints(&whole, &stopped));

        (void) close(stopped.fd);
        fixture_remove(stopped.path);
        teardown(&whole);
}

static void test_resume_is_exact(void **state) {
        (void) state;
        check_resume(OPTIMIZER_ADAM, 5);
        check_resume(OPTIMIZER_SGD, 5);
        check_resume(OPTIMIZER_ADAM, 0);
}

/* From the model file alone: the weights and the step go on, the moments do not, so it is another run. */
static void test_from_model(void **state) {
        struct setup a, b;
        struct learner *l;

        (void) state;
        setup(&a);
        b = a;
        open_setup(&b);
        l = open_learner(&a);
        train(l, &a, 8);
        save(l);
        learner_free(l);

        l = open_learner(&b);
        train(l, &b, 4);
        publish(l);
        learner_free(l);
        l = open_learner(&b);
        assert_int_equal(learner_origin(l), LEARNER_FROM_MODEL);
        assert_true(learner_state(l)->step == 4 && learner_state(l)->generation == 1);
        train(l, &b, 4);
        save(l);
        assert_false(equal_checkpoints(&a, &b));
        learner_free(l);
        (void) close(b.fd);
        fixture_remove(b.path);
        teardown(&a);
}

static void test_seeds(void **state) {
        struct setup a, b;
        struct learner *l;

        (void) state;
        setup(&a);
        b = a;
        open_setup(&b);
        a.config.train_seed = b.config.train_seed = 0; /* a new one for each */
        l = open_learner(&a);
        save(l);
        learner_free(l);
        l = open_learner(&b);
        save(l);
        learner_free(l);
        assert_false(equal_checkpoints(&a, &b));
        (void) close(b.fd);
        fixture_remove(b.path);
        teardown(&a);
}

static void test_other_optimizer(void **state) {
        struct learner *l;
        struct setup s;

        (void) state;
        setup(&s);
        l = open_learner(&s);
        train(l, &s, 3);
        save(l);
        learner_free(l);
        s.config.train_optimizer = OPTIMIZER_SGD;
        l = open_learner(&s);
        assert_int_equal(learner_origin(l), LEARNER_RESUMED);
        assert_non_null(learner_warning(l));
        train(l, &s, 3);
        save(l);
        learner_free(l);
        l = open_learner(&s); /* from now on it is SGD's */
        assert_null(learner_warning(l));
        assert_int_equal(learner_state(l)->step, 6);
        learner_free(l);
        teardown(&s);
}

/* ---- publish ---- */

static uint64_t published(const struct setup *s, uint64_t *ret_step) {
        struct safetensors *file;
        struct model_info info;
        struct error e = ERROR_INIT;

        if (model_open(s->fd, LEARNER_MODEL, NULL, &file, &info, NULL, &e) != 0)
                fail_msg("%s", e.text);
        safetensors_free(file);
        *ret_step = info.step;
        return info.generation;
}

/* Generations grow over every way to start; one that was in a file never comes again. */
static void test_generations(void **state) {
        struct learner *l;
        struct setup s;
        uint64_t step;

        (void) state;
        setup(&s);
        l = open_learner(&s);
        publish(l);
        assert_true(published(&s, &step) == 1 && step == 0);
        train(l, &s, 2);
        save(l);
        train(l, &s, 1);
        publish(l);
        publish(l);
        assert_true(published(&s, &step) == 3 && step == 3);
        learner_raise_generation(l, 2); /* no way back */
        learner_raise_generation(l, MODEL_GENERATION_MAX + 1);
        assert_int_equal(learner_state(l)->generation, 3);
        learner_free(l); /* killed: the checkpoint knows generation 1 only */
        l = open_learner(&s);
        assert_true(learner_state(l)->step == 2 && learner_state(l)->generation == 3);
        publish(l);
        assert_true(published(&s, &step) == 4 && step == 2);
        save(l);
        learner_free(l);
        assert_int_equal(unlinkat(s.fd, LEARNER_MODEL, 0), 0);
        l = open_learner(&s);
        assert_int_equal(learner_state(l)->generation, 4);
        learner_free(l);
        teardown(&s);
}

static bool has(const struct setup *s, const char *path) {
        return faccessat(s->fd, path, F_OK, 0) == 0;
}

static void test_keep(void **state) {
        struct learner *l;
        struct setup s;

        (void) state;
        setup(&s);
        s.config.train_keep = 2;
        l = open_learner(&s);
        for (int i = 0; i < 3; i++) {
                train(l, &s, 1);
                save(l);
        }
        assert_false(has(&s, "checkpoints/0000000001"));
        assert_true(has(&s, "checkpoints/0000000002") && has(&s, "checkpoints/0000000003"));
        learner_free(l);
        teardown(&s);
}

/* ---- what is refused ---- */

static void refuse(const struct setup *s, int expected, const char *words) {
        struct learner *l = NULL;
        struct error e = ERROR_INIT;

        assert_int_equal(learner_open(&s->config, s->game, s->fd, &l, &e), expected);
        assert_null(l);
        if (!strstr(e.text, words) || strchr(e.text, '\n'))
                fail_msg("'%s' lacks '%s'", e.text, words);
}

static void damage(const struct setup *s, const char *path, off_t offset) {
        unsigned char byte;
        int fd = openat(s->fd, path, O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, offset), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
        (void) close(fd);
}

static void test_refused(void **state) {
        static const char optimizer[] = "checkpoints/0000000002/optimizer.bin";
        struct learner *l;
        struct stat before, after;
        struct setup s;

        (void) state;
        setup(&s);
        l = open_learner(&s);
        train(l, &s, 1);
        publish(l);
        s.config.network_filters = 12; /* another network than the model file's */
        refuse(&s, -EINVAL, "model.safetensors");
        s.config.network_filters = 8;
        train(l, &s, 1);
        save(l);
        learner_free(l);

        s.config.network_blocks = 2; /* nor the checkpoint's */
        refuse(&s, -EINVAL, "checkpoints/0000000002");
        s.config.network_blocks = 1;

        damage(&s, optimizer, 1000);
        refuse(&s, -EBADMSG, "optimizer.bin");
        damage(&s, optimizer, 1000); /* back again */
        l = open_learner(&s);
        learner_free(l);

        damage(&s, LEARNER_MODEL, 9);
        assert_int_equal(fstatat(s.fd, LEARNER_MODEL, &before, 0), 0);
        refuse(&s, -EBADMSG, "move that file away");
        assert_int_equal(fstatat(s.fd, LEARNER_MODEL, &after, 0), 0);
        assert_true(before.st_ino == after.st_ino); /* nothing was overwritten */
        assert_int_equal(unlinkat(s.fd, LEARNER_MODEL, 0), 0);
        l = open_learner(&s);
        learner_free(l);
        teardown(&s);
}

/* A model file at the end of all counting: an error that says so, and nothing is overwritten. */
static void test_no_generation_left(void **state) {
        struct fixture_weights *w;
        struct model_info info = { .generation = MODEL_GENERATION_MAX, .step = MODEL_STEP_MAX };
        struct error e = ERROR_INIT;
        struct learner *l;
        struct setup s;
        uint64_t step;

        (void) state;
        setup(&s);
        network_init(&info.network, s.game, 8, 1);
        w = fixture_weights_new(&info.network, 1);
        assert_int_equal(model_write(s.fd, LEARNER_MODEL, &info, fixture_tensors(w), &e), 0);
        l = open_learner(&s);
        assert_int_equal(learner_publish(l, &e), -EOVERFLOW);
        assert_true(published(&s, &step) == MODEL_GENERATION_MAX && step == MODEL_STEP_MAX);
        save(l); /* the step's last number */
        train(l, &s, 1);
        assert_int_equal(learner_save(l, 0, 0, &e), -EOVERFLOW);
        learner_free(l);
        fixture_weights_free(w);
        teardown(&s);
}

/* A checkpoint whose optimiser bytes are whole but make no sense to libtorch. */
static void test_senseless_optimizer(void **state) {
        struct fixture_weights *w;
        struct checkpoint c = { .step = 3 };
        struct error e = ERROR_INIT;
        struct setup s;

        (void) state;
        setup(&s);
        network_init(&c.network, s.game, 8, 1);
        w = fixture_weights_new(&c.network, 1);
        rng_seed(&c.rng, 1, 1);
        assert_int_equal(checkpoint_write(s.fd, &c, fixture_tensors(w), "nonsense", 8, &e), 0);
        refuse(&s, -EBADMSG, "checkpoints/0000000003/optimizer.bin");
        refuse(&s, -EBADMSG, "move the directory");
        fixture_weights_free(w);
        teardown(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_overfit),
                cmocka_unit_test(test_no_samples),
                cmocka_unit_test(test_diverged),
                cmocka_unit_test(test_resume_is_exact),
                cmocka_unit_test(test_from_model),
                cmocka_unit_test(test_seeds),
                cmocka_unit_test(test_other_optimizer),
                cmocka_unit_test(test_generations),
                cmocka_unit_test(test_no_generation_left),
                cmocka_unit_test(test_keep),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_senseless_optimizer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
