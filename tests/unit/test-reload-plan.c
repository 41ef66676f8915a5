/* SPDX-License-Identifier: MIT */
/* What a reload would change: each key on its own, keys that hold each other, and what is refused whole. */
#include "daemon/reload_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "daemon/cores.h"

static char path[] = "/tmp/azpar-test-reload-XXXXXX";
static const struct reload_limits limits = { .n_slots = 4 };

static int make_file(void **state) {
        int fd = mkstemp(path);

        (void) state;
        return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
        (void) state;
        return unlink(path);
}

static void write_file(const char *text) {
        FILE *f = fopen(path, "w");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static struct config running_config(const char *text, const char *setting) {
        struct error e = ERROR_INIT;
        struct config c;

        write_file(text);
        if (config_read(path, &setting, setting ? 1 : 0, &c, &e) != 0)
                fail_msg("%s", e.text);
        return c;
}

/* A plan for the file with @text and the setting @setting (NULL: none). */
static struct reload_plan plan(const struct config *running, const char *text, const char *setting) {
        const struct reload_source source = { .path = path,
                                              .settings = &setting,
                                              .n_settings = setting ? 1 : 0 };
        struct reload_plan p = RELOAD_PLAN_NULL;
        struct error e = ERROR_INIT;

        write_file(text);
        if (reload_plan_make(running, &limits, &source, &p, &e) != 0)
                fail_msg("%s", e.text);
        return p;
}

static void assert_change(const struct reload_plan *p, size_t i, const char *key, const char *from,
                          const char *to, enum config_reload reload) {
        assert_true(i < p->n_taken + p->n_left);
        assert_string_equal(p->changes[i].key->key, key);
        assert_string_equal(p->changes[i].from, from);
        assert_string_equal(p->changes[i].to, to);
        assert_int_equal(p->changes[i].reload, reload);
}

static void test_nothing(void **state) {
        struct config running = running_config("[replay]\nratio = 4\n", NULL);
        struct reload_plan p = plan(&running, "# another text\n[replay]\nratio=4.000\n", NULL);

        (void) state;
        assert_int_equal(p.n_taken + p.n_left, 0);
        assert_int_equal(p.reload, 0);
        assert_int_equal(p.config_fd, -1);
        assert_memory_equal(&p.config, &running, sizeof(running));
        reload_plan_deinit(&p);
}

static void test_some(void **state) {
        struct config running = running_config("[network]\nfilters = 8\n[search]\nsimulations = 10\n", NULL),
                      c;
        struct reload_plan p = plan(&running,
                                    "[network]\nfilters = 16\n[search]\nsimulations = 20\nprove = no\n"
                                    "[replay]\nratio = 0.5\n",
                                    NULL);
        struct error e = ERROR_INIT;

        (void) state;
        assert_int_equal(p.n_taken, 3);
        assert_int_equal(p.n_left, 1);
        assert_int_equal(p.reload, CONFIG_WORKERS | CONFIG_NOW | CONFIG_TRAINER);
        assert_change(&p, 0, "filters", "8", "16", CONFIG_RESTART);
        assert_change(&p, 1, "simulations", "10", "20", CONFIG_WORKERS);
        assert_change(&p, 2, "prove", "yes", "no", CONFIG_WORKERS);
        assert_change(&p, 3, "ratio", "4", "0.5", CONFIG_NOW_TRAINER);
        /* what children are to get: the old value where it stays, the new ones elsewhere */
        assert_int_equal(config_read_fd(p.config_fd, &c, &e), 0);
        assert_memory_equal(&c, &p.config, sizeof(c));
        assert_int_equal(c.network_filters, 8);
        assert_int_equal(c.search_simulations, 20);
        assert_false(c.search_prove);
        assert_true(c.replay_ratio == 0.5);
        assert_true(fcntl(p.config_fd, F_GETFD) & FD_CLOEXEC);
        reload_plan_deinit(&p);
}

/* Every key of the table on its own: another value is taken up, or stays and is said to. */
static void test_each_key(void **state) {
        struct config running = running_config("", NULL);
        unsigned n_left = 0;

        (void) state;
        running.replay_min_samples = 200; /* so that no other key is in the way of a low one */
        running.selfplay_workers = 1;
        running.selfplay_max_workers = 4;
        for (size_t i = 0; i < n_config_keys; i++) {
                const struct config_key *k = &config_keys[i];
                char text[256], value[CONFIG_VALUE_MAX];
                const char *bar = k->choices ? strchr(k->choices, '|') : NULL;
                struct reload_plan p;

                if (k->choices)
                        (void) snprintf(value, sizeof(value), "%.*s", (int) strcspn(bar + 1, "|"), bar + 1);
                else if (strcmp(k->type, "boolean") == 0)
                        (void) snprintf(value, sizeof(value), "%s",
                                        strcmp(k->default_text, "yes") == 0 ? "no" : "yes");
                else if (strcmp(k->key, "workers") == 0)
                        (void) snprintf(value, sizeof(value), "3");
                else if (strcmp(k->key, "window") == 0)
                        (void) snprintf(value, sizeof(value), "1000");
                else
                        (void) snprintf(value, sizeof(value), "%.17g", k->max);
                if (strcmp(k->key, "profile") == 0 || strcmp(k->key, "min_samples") == 0 ||
                    strcmp(k->key, "win_length") == 0)
                        continue; /* each has a test of its own, or depends on another key */
                (void) snprintf(text, sizeof(text), "[replay]\nmin_samples = 200\n[selfplay]\n%s%s",
                                strcmp(k->key, "workers") ? "workers = 1\n" : "",
                                strcmp(k->key, "max_workers") ? "max_workers = 4\n" : "");
                (void) snprintf(text + strlen(text), sizeof(text) - strlen(text), "[%s]\n%s = %s\n",
                                k->section, k->key, value);
                p = plan(&running, text, NULL);
                if (p.n_taken + p.n_left != 1)
                        fail_msg("%s.%s = %s: %zu changes", k->section, k->key, value, p.n_taken + p.n_left);
                assert_ptr_equal(p.changes[0].key, k);
                assert_int_equal(p.n_left, k->reload == CONFIG_RESTART);
                assert_int_equal(config_value_equal(&p.config, &running, i), k->reload == CONFIG_RESTART);
                assert_int_equal(p.config_fd >= 0, k->reload != CONFIG_RESTART);
                n_left += p.n_left > 0;
                reload_plan_deinit(&p);
        }
        assert_true(n_left >= 8);
}

/* The command line wins, also over a file that has changed. */
static void test_settings_win(void **state) {
        struct config running = running_config("[replay]\nratio = 2\n", "replay.ratio=3");
        struct reload_plan p = plan(&running, "[replay]\nratio = 5\n", "replay.ratio=3");

        (void) state;
        assert_int_equal(p.n_taken + p.n_left, 0);
        reload_plan_deinit(&p);
        p = plan(&running, "[replay]\nratio = 5\n", NULL); /* negative control */
        assert_change(&p, 0, "ratio", "3", "5", CONFIG_NOW_TRAINER);
        reload_plan_deinit(&p);
}

static void test_profile(void **state) {
        struct config running = running_config("", NULL);
        struct reload_plan p = plan(&running, "[search]\nprofile = original\nprove = yes\n", NULL);
        bool seen = false;

        (void) state;
        for (size_t i = 0; i < p.n_taken + p.n_left; i++) {
                const struct config_key *k = p.changes[i].key;

                assert_string_not_equal(k->key, "prove");
                seen |= strcmp(k->key, "profile") == 0;
                assert_int_equal(p.changes[i].reload == CONFIG_RESTART, k->reload == CONFIG_RESTART);
        }
        assert_true(seen);
        assert_int_equal(p.config.search_profile, PROFILE_ORIGINAL);
        assert_int_equal(p.config.network_filters, running.network_filters);
        assert_int_equal(p.config.game_draw_ply, 0);
        assert_false(p.config.search_tree_reuse);
        assert_true(p.config.search_prove);
        reload_plan_deinit(&p);
}

/* Values that are only possible together with one that cannot change. */
static void test_keys_that_hold_each_other(void **state) {
        struct config running =
                running_config("[replay]\nwindow = 5000\n[selfplay]\nworkers = 2\nmax_workers = 4\n", NULL);
        struct reload_plan p = plan(
                &running,
                "[replay]\nwindow = 9000\nmin_samples = 6000\n[selfplay]\nworkers = 6\nmax_workers = 8\n",
                NULL);

        (void) state;
        assert_int_equal(p.n_taken, 0);
        assert_int_equal(p.n_left, 4);
        assert_int_equal(p.config_fd, -1);
        assert_memory_equal(&p.config, &running, sizeof(running));
        reload_plan_deinit(&p);
        /* as many as there is room for */
        p = plan(&running,
                 "[replay]\nwindow = 9000\nmin_samples = 5000\n[selfplay]\nworkers = 4\nmax_workers = 8\n",
                 NULL);
        assert_int_equal(p.n_taken, 2);
        assert_int_equal(p.n_left, 2);
        assert_int_equal(p.config.selfplay_workers, 4);
        assert_int_equal(p.config.replay_min_samples, 5000);
        reload_plan_deinit(&p);
}

static void test_refused(void **state) {
        static const struct {
                const char *text, *error;
        } rows[] = {
                { "[replay]\nratio = 5\nratio = 6\n", ":3: replay.ratio: set twice" },
                { "[replay]\nratio = 5\nnonsense\n", ":3: neither [section] nor key = value" },
                { "[replay]\nratio = 5\n[search]\ncpuct = -1\n", ":4: search.cpuct: '-1'" },
                { "[replay]\nratio = 5\n[game]\nsize = 5\nwin_length = 9\n", "win_length" },
                { "[replay]\nratio = 5\nmin_samples = 200000\n", "training would never start" },
        };
        const struct reload_source source = { .path = path };
        struct config running = running_config("", NULL);

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                struct reload_plan p = RELOAD_PLAN_NULL, before = p;
                struct error e = ERROR_INIT;

                write_file(rows[i].text);
                assert_int_equal(reload_plan_make(&running, &limits, &source, &p, &e), -EINVAL);
                if (!strstr(e.text, rows[i].error))
                        fail_msg("'%s' is not in '%s'", rows[i].error, e.text);
                assert_memory_equal(&p, &before, sizeof(p));
        }
}

static void test_file_is_gone(void **state) {
        const struct reload_source source = { .path = "/tmp/azpar-test-reload-none.conf" }, none = { 0 };
        struct config running = running_config("", NULL);
        struct reload_plan p = RELOAD_PLAN_NULL;
        struct error e = ERROR_INIT;

        (void) state;
        assert_int_equal(reload_plan_make(&running, &limits, &source, &p, &e), -ENOENT);
        assert_non_null(strstr(e.text, source.path));
        assert_int_equal(reload_plan_make(&running, &limits, &none, &p, &e), 0); /* no file at all is fine */
        assert_int_equal(p.n_taken + p.n_left, 0);
        reload_plan_deinit(&p);
}

static void test_cores(void **state) {
        struct config c;
        unsigned n;

        (void) state;
        config_defaults(&c);
        n = cores_n_workers(&c, 256);
        assert_true(n >= 1);
        assert_int_equal(cores_n_slots(&c, 256), MIN(2 * n, 256u));
        assert_int_equal(cores_n_workers(&c, 1), 1);
        c.selfplay_workers = 200;
        assert_int_equal(cores_n_workers(&c, 256), 200);
        assert_true(cores_n_slots(&c, 256) >= 200);
        c.selfplay_max_workers = 201;
        assert_int_equal(cores_n_slots(&c, 256), 201);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing),  cmocka_unit_test(test_some),
                cmocka_unit_test(test_each_key), cmocka_unit_test(test_settings_win),
                cmocka_unit_test(test_profile),  cmocka_unit_test(test_keys_that_hold_each_other),
                cmocka_unit_test(test_refused),  cmocka_unit_test(test_file_is_gone),
                cmocka_unit_test(test_cores),
        };

        return cmocka_run_group_tests(tests, make_file, remove_file);
}
