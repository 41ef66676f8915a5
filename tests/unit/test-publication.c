/* SPDX-License-Identifier: MIT */
/* Publication: a good model is announced, a bad one leaves the last good generation in place. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>
#include "common/base/clock.h"
#include "daemon/publication.h"

/* Only the header and the trainer's page are needed: private memory does. */
static struct segment_header header;
static struct segment_trainer trainer;
static struct segment segment = { .header = &header, .trainer = &trainer };

struct fixture {
        char directory[64];
        int dir_fd;
        struct network network;
        struct publication publication;
};

static int set_up(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));
        struct error e = ERROR_INIT;
        struct config c;
        struct game *g;

        assert_non_null(f);
        config_defaults(&c);
        c.game_name = GAME_TICTACTOE;
        assert_int_equal(game_new(&c, &g, &e), 0);
        network_init(&f->network, g, 8, 1);
        game_free(g);
        (void) strcpy(f->directory, "/tmp/test-publication-XXXXXX");
        assert_non_null(mkdtemp(f->directory));
        f->dir_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(f->dir_fd >= 0);
        atomic_store(&header.generation, 0);
        atomic_store(&header.generation_ns, 0);
        atomic_store(&trainer.published_generation, 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        struct fixture *f = *state;

        (void) unlinkat(f->dir_fd, PUBLICATION_PATH, 0);
        (void) rmdir(f->directory);
        (void) close(f->dir_fd);
        free(f);
        return 0;
}

static void write_model(struct fixture *f, uint64_t generation, uint64_t age_s) {
        struct network_tensor list[NETWORK_MAX_TENSORS];
        struct model_info info = { .generation = generation,
                                   .unix_us = clock_unix_us() - age_s * 1000000,
                                   .network = f->network };
        size_t n = network_tensors(&f->network, list);
        float *tensors[NETWORK_MAX_TENSORS];
        struct error e = ERROR_INIT;

        for (size_t i = 0; i < n; i++) {
                tensors[i] = calloc(list[i].n_elements, sizeof(float));
                assert_non_null(tensors[i]);
        }
        if (model_write(f->dir_fd, PUBLICATION_PATH, &info, (const float *const *) tensors, &e) < 0)
                fail_msg("%s", e.text);
        for (size_t i = 0; i < n; i++)
                free(tensors[i]);
}

static void write_garbage(struct fixture *f) {
        int fd = openat(f->dir_fd, PUBLICATION_PATH, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, "garbage", 7), 7);
        (void) close(fd);
}

static void test_start_without_a_model(void **state) {
        struct fixture *f = *state;
        struct error e = ERROR_INIT;

        assert_int_equal(publication_init(&f->publication, f->dir_fd, &f->network, &e), 0);
        publication_announce(&f->publication, &segment);
        assert_int_equal(atomic_load(&header.generation), 0);
        assert_int_equal(publication_age_ns(&f->publication, clock_now_ns()), 0);
        assert_false(publication_poll(&f->publication, &segment, true)); /* nothing published */

        write_model(f, 1, 0);
        atomic_store(&trainer.published_generation, 1);
        assert_true(publication_poll(&f->publication, &segment, true));
        assert_int_equal(atomic_load(&header.generation), 1);
        assert_true(atomic_load(&header.generation_ns) > 0);
        assert_false(publication_poll(&f->publication, &segment, true)); /* once is enough */
        assert_int_equal(f->publication.n_announced, 1);
}

static void test_start_with_a_model(void **state) {
        struct fixture *f = *state;
        struct error e = ERROR_INIT;
        uint64_t age;

        write_model(f, 17, 60);
        assert_int_equal(publication_init(&f->publication, f->dir_fd, &f->network, &e), 0);
        publication_announce(&f->publication, &segment);
        assert_int_equal(atomic_load(&header.generation), 17);
        age = publication_age_ns(&f->publication, clock_now_ns());
        assert_true(age >= 60 * NS_PER_S && age < 120 * NS_PER_S);
}

static void test_start_with_a_bad_model(void **state) {
        struct fixture *f = *state;
        struct network other = f->network;
        struct error e = ERROR_INIT;

        write_garbage(f);
        assert_true(publication_init(&f->publication, f->dir_fd, &f->network, &e) < 0);
        assert_non_null(strstr(e.text, PUBLICATION_PATH));
        assert_non_null(strstr(e.text, "move the file away"));
        write_model(f, 3, 0);
        other.filters = 16; /* another network than the configuration's */
        assert_true(publication_init(&f->publication, f->dir_fd, &other, &e) < 0);
        assert_null(strstr(e.text, "move the file away")); /* the checkpoint is of the same network */
        assert_non_null(strstr(e.text, "another state directory"));
        write_model(f, 0, 0); /* a generation that would mean "none yet" */
        assert_true(publication_init(&f->publication, f->dir_fd, &f->network, &e) < 0);
}

static void test_bad_publication(void **state) {
        struct fixture *f = *state;
        struct error e = ERROR_INIT;

        write_model(f, 5, 0);
        assert_int_equal(publication_init(&f->publication, f->dir_fd, &f->network, &e), 0);
        publication_announce(&f->publication, &segment);
        write_garbage(f);
        atomic_store(&trainer.published_generation, 6);
        assert_false(publication_poll(&f->publication, &segment, true));
        assert_int_equal(atomic_load(&header.generation), 5);
        assert_int_equal(f->publication.n_refused, 1);
        assert_true(f->publication.refused_reason[0]);
        assert_false(publication_poll(&f->publication, &segment, true)); /* refused once, not at every look */
        assert_int_equal(f->publication.n_refused, 1);

        write_model(f, 7, 0);
        atomic_store(&trainer.published_generation, 7);
        assert_true(publication_poll(&f->publication, &segment, true));
        assert_int_equal(atomic_load(&header.generation), 7);
        assert_false(f->publication.refused_reason[0]);
}

/* No descriptor is left when the first model comes: it is announced as soon as there is one again. */
static void test_passing_error(void **state) {
        struct fixture *f = *state;
        struct rlimit limit, none;
        struct error e = ERROR_INIT;

        assert_int_equal(publication_init(&f->publication, f->dir_fd, &f->network, &e), 0);
        write_model(f, 1, 0);
        atomic_store(&trainer.published_generation, 1);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        none = (struct rlimit){ .rlim_cur = 0, .rlim_max = limit.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        for (int i = 0; i < 3; i++) {
                assert_false(publication_poll(&f->publication, &segment, true));
                assert_non_null(strstr(f->publication.refused_reason, "Too many open files"));
        }
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(f->publication.n_refused, 0);
        assert_false(publication_poll(&f->publication, &segment, false)); /* not at every wake-up */
        assert_true(publication_poll(&f->publication, &segment, true));
        assert_int_equal(atomic_load(&header.generation), 1);
        assert_false(f->publication.refused_reason[0]);
        assert_false(publication_poll(&f->publication, &segment, true));
}

/* Copy the file @from over the model in place, again and again, as `cp` does. */
static _Noreturn void write_over(const struct fixture *f, const char *from) {
        struct file_map content;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (file_map_open(f->dir_fd, from, &content, NULL) < 0)
                _exit(1);
        for (;;) {
                int fd = openat(f->dir_fd, PUBLICATION_PATH, O_WRONLY | O_TRUNC | O_CLOEXEC);

                if (fd < 0 || file_write_all(fd, content.bytes, content.n_bytes) < 0)
                        _exit(1);
                (void) close(fd);
        }
}

/* Whatever a look finds then is good or refused; azpard lives.  (Mapped, the file ended it with SIGBUS.) */
static void test_written_over_in_place(void **state) {
        struct fixture *f = *state;
        unsigned n_good = 0, n_bad = 0;
        struct error e = ERROR_INIT;
        int status;
        pid_t pid;

        f->network.filters = 128; /* large enough that writing it takes a while */
        write_model(f, 5, 0);
        assert_int_equal(linkat(f->dir_fd, PUBLICATION_PATH, f->dir_fd, "from", 0), 0);
        write_model(f, 5, 0); /* another file with the same content */
        assert_int_equal(publication_init(&f->publication, f->dir_fd, &f->network, &e), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                write_over(f, "from");
        for (uint64_t i = 6; n_good < 5 || n_bad < 20; i++) {
                atomic_store(&trainer.published_generation, i);
                if (publication_poll(&f->publication, &segment, true))
                        n_good++;
                else
                        n_bad++;
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        (void) unlinkat(f->dir_fd, "from", 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_start_without_a_model, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_start_with_a_model, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_start_with_a_bad_model, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_bad_publication, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_passing_error, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_written_over_in_place, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
