/* SPDX-License-Identifier: MIT */
/* Command line: what is given, what follows from it, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "daemon/options.h"

/* Parse a command line of words between single spaces. The options point into a buffer that the next call
 * reuses. */
static int parse(struct options *o, struct error *e, const char *line) {
        static char words[256];
        static char *argv[32];
        int argc = 0;

        (void) snprintf(words, sizeof(words), "%s", line);
        for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
                argv[argc++] = word;
        argv[argc] = NULL;
        return options_parse(argc, argv, o, e);
}

static void test_all_options(void **state) {
        struct error e = ERROR_INIT;
        struct options o;

        (void) state;
        assert_int_equal(
                parse(&o, &e,
                      "azpard --config x.conf --state=dir --instance one --set a.b=c --socket s --set d.e=f"),
                0);
        assert_int_equal(o.task, OPTIONS_RUN);
        assert_string_equal(o.config, "x.conf");
        assert_string_equal(o.state, "dir");
        assert_string_equal(o.instance, "one");
        assert_string_equal(o.socket, "s");
        assert_int_equal(o.n_settings, 2);
        assert_string_equal(o.settings[0], "a.b=c");
        assert_string_equal(o.settings[1], "d.e=f");
        options_deinit(&o);
        assert_int_equal(parse(&o, &e, "azpard --dump-config"), 0);
        assert_int_equal(o.task, OPTIONS_DUMP_CONFIG);
        options_deinit(&o);
}

static void test_refused(void **state) {
        struct error e = ERROR_INIT;
        struct options o;

        (void) state;
        assert_int_equal(parse(&o, &e, "azpard --stat x --nonsense"), -EINVAL);
        assert_non_null(strstr(e.text, "'--nonsense'"));
        assert_int_equal(parse(&o, &e, "azpard --state"), -EINVAL);
        assert_non_null(strstr(e.text, "needs a value"));
        assert_int_equal(parse(&o, &e, "azpard start"), -EINVAL);
        assert_non_null(strstr(e.text, "'start'"));
}

static void test_paths(void **state) {
        char path[PATH_MAX], instance[OPTIONS_INSTANCE_MAX], other[OPTIONS_INSTANCE_MAX];
        struct options o = { 0 };
        struct error e = ERROR_INIT;

        (void) state;
        (void) unsetenv("STATE_DIRECTORY");
        (void) unsetenv("RUNTIME_DIRECTORY");
        assert_int_equal(options_state_path(&o, path, &e), 0);
        assert_string_equal(path, "/var/lib/azpar/default");
        assert_int_equal(options_socket_path(&o, path, "default", path, &e), 0);
        assert_string_equal(path, "/run/azpar/default.sock");

        (void) setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
        (void) setenv("RUNTIME_DIRECTORY", "/run/one:/run/two", 1);
        assert_int_equal(options_state_path(&o, path, &e), 0);
        assert_string_equal(path, "/var/lib/one");
        assert_int_equal(options_socket_path(&o, path, "default", path, &e), 0);
        assert_string_equal(path, "/run/one/default.sock");
        options_instance(&o, path, instance);
        assert_string_equal(instance, "default");

        o.state = "x";
        assert_int_equal(options_state_path(&o, path, &e), 0);
        assert_string_equal(path, "x");
        assert_int_equal(options_socket_path(&o, "/real/x", "i", path, &e), 0);
        assert_string_equal(path, "/real/x/control.sock");
        options_instance(&o, "/real/x", instance);
        options_instance(&o, "/real/y", other);
        assert_int_equal(strncmp(instance, "state-", 6), 0);
        assert_string_not_equal(instance, other);
        options_instance(&o, "/real/x", other);
        assert_string_equal(instance, other);
        (void) unsetenv("STATE_DIRECTORY");
        (void) unsetenv("RUNTIME_DIRECTORY");
}

static void test_instance_names(void **state) {
        static const char *const bad[] = {
                "", ".", ".x", "a/b", "a%", "../x", "x\n", "123456789012345678901234567890123456789012345678"
        };
        char instance[OPTIONS_INSTANCE_MAX], line[128];
        struct error e = ERROR_INIT;
        struct options o;

        (void) state;
        assert_int_equal(parse(&o, &e, "azpard --instance gomoku-15.b"), 0);
        options_instance(&o, "/x", instance);
        assert_string_equal(instance, "gomoku-15.b");
        options_deinit(&o);
        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                (void) snprintf(line, sizeof(line), "azpard --instance=%s", bad[i]);
                assert_int_equal(parse(&o, &e, line), -EINVAL);
                assert_non_null(strstr(e.text, "is not 1 to 47 letters"));
        }
}

/* Each instance has a configuration of its own. */
static void test_config_paths(void **state) {
        char path[OPTIONS_CONFIG_PATH_MAX];
        struct error e = ERROR_INIT;
        struct options o;

        (void) state;
        options_config_path(NULL, path);
        assert_string_equal(path, "/etc/azpar/azpar.conf");
        options_config_path("default", path);
        assert_string_equal(path, "/etc/azpar/azpar.conf");
        options_config_path("gomoku-15.b", path);
        assert_string_equal(path, "/etc/azpar/gomoku-15.b.conf");

        /* one that is not there is none, and one that is given is the only one */
        assert_int_equal(parse(&o, &e, "azpard --instance no-such-instance-anywhere"), 0);
        assert_null(o.config);
        assert_string_equal(o.default_config, "/etc/azpar/no-such-instance-anywhere.conf");
        options_deinit(&o);
        assert_int_equal(parse(&o, &e, "azpard --instance one --config here.conf"), 0);
        assert_string_equal(o.config, "here.conf");
        options_deinit(&o);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_all_options),  cmocka_unit_test(test_refused),
                cmocka_unit_test(test_paths),        cmocka_unit_test(test_instance_names),
                cmocka_unit_test(test_config_paths),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
