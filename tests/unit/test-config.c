/* SPDX-License-Identifier: MIT */
/* azpar.conf: values, messages, profiles, dump and back. */
#include "common/base/config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

static char folder[] = "/tmp/azpar-test-config-XXXXXX";

static int make_folder(void **state) {
        (void) state;
        return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
        char command[128];

        (void) state;
        (void) snprintf(command, sizeof(command), "rm -r '%s'", folder);
        return system(command);
}

static const char *write_file(const char *name, const char *text, size_t n) {
        static char path[256];
        FILE *f;

        (void) snprintf(path, sizeof(path), "%s/%s", folder, name);
        f = fopen(path, "w");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
        return path;
}

static int read_string(const char *text, struct config *c, struct error *e) {
        return config_read(write_file("azpar.conf", text, strlen(text)), NULL, 0, c, e);
}

static void test_defaults(void **state) {
        struct config c;
        struct error e = ERROR_INIT;

        (void) state;
        assert_int_equal(config_read(NULL, NULL, 0, &c, &e), 0);
        assert_int_equal(c.game_name, GAME_GOMOKU);
        assert_int_equal(c.game_size, 15);
        assert_int_equal(c.search_simulations, 100);
        assert_true(c.search_tree_reuse);
        assert_true(c.train_learning_rate == 0.001);
}

static void test_values(void **state) {
        struct config c;
        struct error e = ERROR_INIT;

        (void) state;
        assert_int_equal(
                read_string("# comment\n[game]\nname = connect4\n[search]\nsimulations=7\ncpuct = 2.5 ; why\n"
                            "prove = off\n[train]\nlearning_rate = 1e-3\n",
                            &c, &e),
                0);
        assert_int_equal(c.game_name, GAME_CONNECT4);
        assert_int_equal(c.search_simulations, 7);
        assert_true(c.search_cpuct == 2.5);
        assert_false(c.search_prove);
        assert_int_equal(c.game_size, 15); /* untouched */
}

static void test_settings_win(void **state) {
        const char *settings[] = { "search.simulations=8", "search.simulations=9" };
        const char *path = write_file("azpar.conf", "[search]\nsimulations=7\n", 23 - 1);
        struct config c;
        struct error e = ERROR_INIT;

        (void) state;
        assert_int_equal(config_read(path, settings, 2, &c, &e), 0);
        assert_int_equal(c.search_simulations, 9);
}

static void test_profile_is_a_set_of_defaults(void **state) {
        struct config c;
        struct error e = ERROR_INIT;

        (void) state;
        /* the profile comes last and still does not undo the key before it */
        assert_int_equal(read_string("[network]\nblocks = 3\n[search]\nprofile = original\n", &c, &e), 0);
        assert_int_equal(c.network_blocks, 3);
        assert_int_equal(c.network_filters, 128);
        assert_int_equal(c.game_draw_ply, 100);
        assert_false(c.search_tree_reuse);
        assert_false(c.search_prove);
        assert_false(c.search_random_symmetry);
        assert_int_equal(c.search_simulations, 100);
        assert_true(c.search_cpuct == 1.5);
        assert_true(c.search_root_noise_alpha == 0.3 && c.search_root_noise_weight == 0.25);
        assert_int_equal(c.search_temperature_plies, 30);
}

static void test_drop_ins(void **state) {
        char path[256];
        struct config c;
        struct error e = ERROR_INIT;

        (void) state;
        (void) snprintf(path, sizeof(path), "%s/azpar.conf.d", folder);
        assert_int_equal(mkdir(path, 0755), 0);
        (void) write_file("azpar.conf.d/20.conf", "[search]\nsimulations=20\n", 24);
        (void) write_file("azpar.conf.d/10.conf", "[search]\nsimulations=10\ncpuct=3\n", 32);
        (void) write_file("azpar.conf.d/30.off", "[search]\nsimulations=30\n", 24);
        assert_int_equal(read_string("[search]\nsimulations=7\n", &c, &e), 0);
        assert_int_equal(c.search_simulations, 20);
        assert_true(c.search_cpuct == 3.0);
        (void) write_file("azpar.conf.d/20.conf", "[search]\nsimulations=0\n", 23);
        assert_int_equal(read_string("[search]\nsimulations=7\n", &c, &e), -EINVAL);
        assert_non_null(strstr(
                e.text, "azpar.conf.d/20.conf:2: search.simulations: '0' is not an integer from 1 to 65535"));
        (void) snprintf(path, sizeof(path), "rm -r '%s/azpar.conf.d'", folder);
        assert_int_equal(system(path), 0);
}

static void test_refusals(void **state) {
        static const struct {
                const char *text, *expected;
        } cases[] = {
                { "[search]\n\nsimulation = 5\n", "azpar.conf:3: search.simulation: unknown key" },
                { "[serch]\nsimulations = 5\n", "azpar.conf:2: serch.simulations: unknown key" },
                { "simulations = 5\n", "azpar.conf:1: .simulations: unknown key" },
                { "[search]\nsimulations = -5\n",
                  "azpar.conf:2: search.simulations: '-5' is not an integer from 1 to 65535" },
                { "[search]\nsimulations = 5.5\n", "'5.5' is not an integer from 1 to 65535" },
                { "[search]\nsimulations =\n", "'' is not an integer" },
                { "[search]\nsimulations = 99999999999999999999999\n", "is not an integer from 1 to 65535" },
                { "[search]\ncpuct = nan\n", "'nan' is not a number from 0 to 100" },
                { "[search]\ncpuct = 1.5x\n", "'1.5x' is not a number from 0 to 100" },
                { "[search]\nprove = maybe\n", "'maybe' is neither yes nor no" },
                { "[game]\nname = go\n", "'go' is not one of gomoku|connect4|tictactoe" },
                { "[game]\nname = gomoku|connect4\n", "is not one of" },
                { "[game]\nname = connect4\nname = gomoku\n", "azpar.conf:3: game.name: set twice" },
                { "[search]\nsimulations\n", "azpar.conf:2: neither [section] nor key = value" },
                { "[search\nsimulations = 1\n", "azpar.conf:1: neither [section] nor key = value" },
                { "[replay]\nwindow = 100\nmin_samples = 101\n",
                  "replay.min_samples (101) is larger than replay.window (100)" },
                { "[selfplay]\nworkers = 3\nmax_workers = 2\n",
                  "selfplay.workers (3) is larger than selfplay.max_workers (2)" },
        };
        struct config c;
        struct error e;

        (void) state;
        memset(&c, 0x5a, sizeof(c));
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                e = ERROR_INIT;
                assert_int_equal(read_string(cases[i].text, &c, &e), -EINVAL);
                if (!strstr(e.text, cases[i].expected))
                        fail_msg("'%s' expected in '%s'", cases[i].expected, e.text);
                assert_null(strchr(e.text, '\n'));
        }
        for (size_t i = 0; i < sizeof(c); i++)
                assert_int_equal(((unsigned char *) &c)[i], 0x5a); /* untouched by failures */
}

static void test_files_that_are_no_text(void **state) {
        char big[600], *huge;
        struct config c;
        struct error e = ERROR_INIT;

        (void) state;
        memset(big, 'x', sizeof(big));
        big[0] = '#';
        assert_int_equal(config_read(write_file("long", big, sizeof(big)), NULL, 0, &c, &e), -EINVAL);
        assert_non_null(strstr(e.text, "long:1: line of 600 bytes"));
        assert_int_equal(config_read(write_file("zero", "[game]\0name=go\n", 15), NULL, 0, &c, &e), -EINVAL);
        assert_non_null(strstr(e.text, "zero:1: zero byte"));
        huge = calloc(1, CONFIG_FILE_MAX + 1);
        assert_non_null(huge);
        memset(huge, '\n', CONFIG_FILE_MAX + 1);
        assert_int_equal(config_read(write_file("huge", huge, CONFIG_FILE_MAX + 1), NULL, 0, &c, &e), -EFBIG);
        free(huge);
        assert_int_equal(config_read("/does/not/exist", NULL, 0, &c, &e), -ENOENT);
        assert_string_equal(e.text,
                            "could not open configuration '/does/not/exist': No such file or directory");
        assert_int_equal(config_read("/", NULL, 0, &c, &e), -EINVAL);
}

static void test_bad_settings(void **state) {
        static const char *const cases[] = { "",           "simulations=5",        "search.simulations",
                                             "search=5.5", "search.simulations=x", "x.y=1" };
        struct config c;
        struct error e;

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
                assert_int_equal(config_read(NULL, &cases[i], 1, &c, &e), -EINVAL);
                assert_non_null(strstr(e.text, "--set"));
        }
}

static void test_dump_reads_back(void **state) {
        const char *settings[] = { "search.profile=original",         "search.cpuct=0.1",
                                   "replay.ratio=3.3333333333333335", "game.name=tictactoe",
                                   "train.seed=9007199254740991",     "replay.throttle_workers=yes" };
        struct config c, back;
        struct error e = ERROR_INIT;
        int fd;

        (void) state;
        assert_int_equal(config_read(NULL, settings, N_ELEMENTS(settings), &c, &e), 0);
        assert_int_equal(config_to_memfd(&c, &fd), 0);
        memset(&back, 0, sizeof(back));
        assert_int_equal(config_read_fd(fd, &back, &e), 0);
        assert_memory_equal(&c, &back, sizeof(c));
        assert_int_equal(write(fd, "x", 1), -1); /* sealed */
        (void) close(fd);
        /* the control: another configuration does not compare equal */
        settings[1] = "search.cpuct=0.2";
        assert_int_equal(config_read(NULL, settings, N_ELEMENTS(settings), &back, &e), 0);
        assert_memory_not_equal(&c, &back, sizeof(c));
}

/* Each row's default lies in its own range, and reads back through the parser. */
static void test_table(void **state) {
        struct config defaults, c;
        struct error e = ERROR_INIT;

        (void) state;
        config_defaults(&defaults);
        for (size_t i = 0; i < n_config_keys; i++) {
                const struct config_key *k = &config_keys[i];
                char setting[256];
                const char *s = setting;

                (void) snprintf(setting, sizeof(setting), "%s.%s=%s", k->section, k->key, k->default_text);
                if (config_read(NULL, &s, 1, &c, &e) != 0)
                        fail_msg("%s", e.text);
                assert_memory_equal(&c, &defaults, sizeof(c));
                assert_true(strlen(k->help) > 0);
        }
}

/* Whether the C or C++ text @text takes the value of @name ("section_key") out of a configuration. */
static bool takes_value(const char *text, const char *name) {
        size_t n = strlen(name);

        for (const char *p = text; (p = strstr(p, name)); p += n) {
                if (p > text && (p[-1] == '.' || p[-1] == '>') && !isalnum((unsigned char) p[n]) &&
                    p[n] != '_')
                        return true;
        }
        return false;
}

/* Which keys the sources right in @source take: all of @ret_takes that are taken are set. */
static void look_through(const char *source, bool ret_takes[CONFIG_N_KEYS]) {
        static char text[1 << 20];
        struct dirent *entry;
        DIR *d = opendir(source);
        unsigned n_files = 0;

        assert_non_null(d);
        while ((entry = readdir(d))) {
                size_t n = strlen(entry->d_name);
                char path[512], name[128];
                FILE *f;

                if (n < 3 ||
                    (strcmp(entry->d_name + n - 2, ".c") != 0 && strcmp(entry->d_name + n - 3, ".cc") != 0))
                        continue;
                (void) snprintf(path, sizeof(path), "%s/%s", source, entry->d_name);
                f = fopen(path, "r");
                assert_non_null(f);
                n = fread(text, 1, sizeof(text) - 1, f);
                text[n] = '\0';
                (void) fclose(f);
                n_files++;
                for (size_t i = 0; i < n_config_keys; i++) {
                        (void) snprintf(name, sizeof(name), "%s_%s", config_keys[i].section,
                                        config_keys[i].key);
                        ret_takes[i] |= takes_value(text, name);
                }
        }
        (void) closedir(d);
        assert_true(n_files > 0);
}

/* The column `reload` names all processes whose sources take the value, and no other. */
static void test_reload_column(void **state) {
        bool daemon[CONFIG_N_KEYS] = { false }, worker[CONFIG_N_KEYS] = { false },
             trainer[CONFIG_N_KEYS] = { false };

        (void) state;
        look_through("daemon", daemon);
        look_through("worker", worker);
        look_through("daemon/trainer", trainer);
        for (size_t i = 0; i < n_config_keys; i++) {
                const struct config_key *k = &config_keys[i];
                unsigned found = (daemon[i] ? CONFIG_NOW : 0) | (worker[i] ? CONFIG_WORKERS : 0) |
                                 (trainer[i] ? CONFIG_TRAINER : 0);

                if (k->reload == CONFIG_RESTART)
                        continue;
                if (strcmp(k->key, "profile") == 0) { /* only says what the others' defaults are */
                        assert_int_equal(found, 0);
                        assert_int_equal(k->reload, CONFIG_NOW);
                } else if (k->reload != found)
                        fail_msg("%s.%s: the table says '%s', the sources: %s%s%s", k->section, k->key,
                                 config_reload_text(k->reload), daemon[i] ? "azpard " : "",
                                 worker[i] ? "worker " : "", trainer[i] ? "trainer" : "");
        }
}

static void test_single_values(void **state) {
        const char *const settings[] = {
                "replay.ratio=0.1", "search.profile=original",     "train.schedule=step",
                "search.prove=no",  "train.seed=9007199254740991", "train.learning_rate=0.30000000000000004"
        };
        static const struct {
                const char *section, *key, *text;
        } wanted[] = {
                { "replay", "ratio", "0.1" },
                { "search", "profile", "original" },
                { "train", "schedule", "step" },
                { "search", "prove", "no" },
                { "train", "seed", "9007199254740991" },
                { "train", "learning_rate", "0.30000000000000004" },
        };
        struct config defaults, c, copy;
        struct error e = ERROR_INIT;
        size_t n_found = 0;

        (void) state;
        config_defaults(&defaults);
        assert_int_equal(config_read(NULL, settings, N_ELEMENTS(settings), &c, &e), 0);
        copy = defaults;
        for (size_t i = 0; i < n_config_keys; i++) {
                char text[CONFIG_VALUE_MAX];

                config_value_text(&c, i, text);
                for (size_t j = 0; j < N_ELEMENTS(wanted); j++) {
                        if (strcmp(wanted[j].section, config_keys[i].section) != 0 ||
                            strcmp(wanted[j].key, config_keys[i].key) != 0)
                                continue;
                        assert_string_equal(text, wanted[j].text);
                        assert_false(config_value_equal(&c, &defaults, i));
                        n_found++;
                }
                config_value_copy(&copy, &c, i);
                assert_true(config_value_equal(&copy, &c, i));
        }
        assert_int_equal(n_found, N_ELEMENTS(wanted));
        assert_memory_equal(&copy, &c, sizeof(c));
}

/* The manual has each key in its section with the range and the default of the table, and no other key. */
static void test_manual(void **state) {
        static char text[1 << 20];
        FILE *f = fopen("man/azpar.conf.5", "r");
        size_t n, n_items = 0;

        (void) state;
        assert_non_null(f);
        n = fread(text, 1, sizeof(text) - 1, f);
        text[n] = '\0';
        (void) fclose(f);
        for (size_t i = 0; i < n_config_keys; i++) {
                const struct config_key *k = &config_keys[i];
                char wanted[256];
                const char *section, *item, *next, *found;

                (void) snprintf(wanted, sizeof(wanted), "\n.Ss [%s]\n", k->section);
                section = strstr(text, wanted);
                (void) snprintf(wanted, sizeof(wanted), "\n.It Cm %s\n", k->key);
                item = section ? strstr(section + 1, wanted) : NULL;
                next = section ? strstr(section + 1, "\n.Ss [") : NULL;
                if (!item || (next && item > next))
                        fail_msg("man/azpar.conf.5 lacks %s.%s", k->section, k->key);
                (void) snprintf(wanted, sizeof(wanted), "default %s.\n", k->default_text);
                found = strstr(item, wanted);
                next = strstr(item + 1, "\n.It Cm ");
                if (!found || (next && found > next))
                        fail_msg("man/azpar.conf.5: %s.%s: default %s not given", k->section, k->key,
                                 k->default_text);
                (void) snprintf(wanted, sizeof(wanted), "\nReload: %s.\n", config_reload_text(k->reload));
                found = strstr(item, wanted);
                if (!found || (next && found > next))
                        fail_msg("man/azpar.conf.5: %s.%s: 'Reload: %s.' not given", k->section, k->key,
                                 config_reload_text(k->reload));
        }
        for (const char *p = text; (p = strstr(p, "\n.It Cm ")); p++)
                n_items++;
        assert_int_equal(n_items, n_config_keys);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_settings_win),
                cmocka_unit_test(test_profile_is_a_set_of_defaults),
                cmocka_unit_test(test_drop_ins),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_files_that_are_no_text),
                cmocka_unit_test(test_bad_settings),
                cmocka_unit_test(test_dump_reads_back),
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_single_values),
                cmocka_unit_test(test_reload_column),
                cmocka_unit_test(test_manual),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
