/* SPDX-License-Identifier: MIT */
/*
 * azparctl's side of the connection: answers good and bad, an azpard that is
 * not there, full, or gone.  The peer is a socketpair whose other end was
 * filled before, so that one thread is enough.
 */
#include "daemon/ctl/client.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <cmocka.h>
#include "daemon/control.h"

static char folder[] = "/tmp/azpar-test-client-XXXXXX";

/* Ask over a connection whose peer says @bytes and closes. */
static int ask_peer(const char *bytes, size_t n, char **ret_line, cJSON **ret_answer, struct error *e) {
        int fds[2], big = 1 << 21, r;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        (void) setsockopt(fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
        assert_int_equal(send(fds[1], bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL), n);
        assert_int_equal(close(fds[1]), 0);
        r = client_ask(fds[0], "{\"command\":\"status\"}", CLIENT_TIMEOUT_MS, ret_line, ret_answer, e);
        assert_int_equal(close(fds[0]), 0);
        return r;
}

static void test_answer(void **state) {
        static const char text[] = "{\"ok\":true,\"step\":5}\n";
        struct error e = ERROR_INIT;
        cJSON *answer = NULL;
        char *line = NULL;

        (void) state;
        assert_int_equal(ask_peer(text, strlen(text), &line, &answer, &e), 0);
        assert_string_equal(line, "{\"ok\":true,\"step\":5}");
        assert_true(cJSON_GetObjectItem(answer, "step")->valuedouble == 5);
        cJSON_Delete(answer);
        free(line);
}

static void test_bad_answers(void **state) {
        static const struct {
                const char *bytes;
                int result;
                const char *text;
        } rows[] = {
                { "{\"ok\":false,\"error\":\"no \\u001b[2J way\"}\n", -EREMOTEIO, "no ?[2J way" },
                { "{\"ok\":false}\n", -EREMOTEIO, "azpard refused without a reason" },
                { "{}\n", -EREMOTEIO, "azpard refused without a reason" },
                { "{\"ok\":1,\"error\":5}\n", -EREMOTEIO, "azpard refused without a reason" },
                { "\n", -EBADMSG, "what azpard answered is no JSON object" },
                { "[true]\n", -EBADMSG, "what azpard answered is no JSON object" },
                { "{\"ok\":true}x\n", -EBADMSG, "what azpard answered is no JSON object" },
                { "{\"ok\":true}", -ECONNRESET, "azpard closed the connection without an answer" },
                { "", -ECONNRESET, "azpard closed the connection without an answer" },
        };

        (void) state;
        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                struct error e = ERROR_INIT;
                cJSON *answer = NULL;
                char *line = NULL;

                assert_int_equal(ask_peer(rows[i].bytes, strlen(rows[i].bytes), &line, &answer, &e),
                                 rows[i].result);
                assert_string_equal(e.text, rows[i].text);
                assert_null(answer);
                assert_null(line);
        }
}

static void test_endless_answer(void **state) {
        char *bytes = malloc(CONTROL_OUTPUT_MAX);
        struct error e = ERROR_INIT;
        cJSON *answer = NULL;
        char *line = NULL;
        int r;

        (void) state;
        if (geteuid() != 0) { /* the socket's buffer is too small for it */
                free(bytes);
                skip();
        }
        memset(bytes, 'x', CONTROL_OUTPUT_MAX);
        r = ask_peer(bytes, CONTROL_OUTPUT_MAX, &line, &answer, &e);
        free(bytes);
        assert_int_equal(r, -EMSGSIZE);
        assert_non_null(strstr(e.text, "longer than 1048576 bytes"));
}

static void test_silent_azpard(void **state) {
        struct error e = ERROR_INIT;
        cJSON *answer = NULL;
        char *line = NULL;
        int fds[2];

        (void) state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(client_ask(fds[0], "{}", 1, &line, &answer, &e), -ETIMEDOUT);
        assert_non_null(strstr(e.text, "did not answer"));
        /* The request is there, with its newline. */
        char request[8] = "";
        assert_int_equal(recv(fds[1], request, sizeof(request), MSG_DONTWAIT), 3);
        assert_string_equal(request, "{}\n");
        assert_int_equal(close(fds[1]), 0);
        assert_int_equal(client_wait_end(fds[0], &e), 0);
        assert_int_equal(close(fds[0]), 0);
}

static void test_nobody(void **state) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client = -1;
        struct error e = ERROR_INIT;
        char expected[256];

        (void) state;
        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%.60s/s", folder);
        assert_int_equal(client_open(a.sun_path, &client, &e), -ENOENT);
        (void) snprintf(expected, sizeof(expected),
                        "no azpard answers on '%s': No such file or directory; is it running?", a.sun_path);
        assert_string_equal(e.text, expected);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(client_open(a.sun_path, &client, &e), -ECONNREFUSED);
        (void) snprintf(expected, sizeof(expected),
                        "no azpard answers on '%s': Connection refused; is it running?", a.sun_path);
        assert_string_equal(e.text, expected);
        assert_int_equal(listen(fd, 1), 0);
        assert_int_equal(client_open(a.sun_path, &client, &e), 0);
        assert_int_equal(close(client), 0);
        assert_int_equal(close(fd), 0);
        assert_int_equal(unlink(a.sun_path), 0);
        /* A directory that is not there, so deep that it needs the long way. */
        (void) snprintf(expected, sizeof(expected), "/none/%0120d/s", 1);
        assert_int_equal(client_open(expected, &client, &e), -ENOENT);
        assert_non_null(strstr(e.text, "is it running?"));
}

static int make_folder(void **state) {
        (void) state;
        return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
        (void) state;
        return rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answer),         cmocka_unit_test(test_bad_answers),
                cmocka_unit_test(test_endless_answer), cmocka_unit_test(test_silent_azpard),
                cmocka_unit_test(test_nobody),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
