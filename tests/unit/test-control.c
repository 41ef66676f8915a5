/* SPDX-License-Identifier: MIT */
/*
 * The control socket against a fake azpard: protocol, limits, rights, rude
 * clients.  One thread plays both sides: a client writes, the loop is turned
 * until nothing is left to do, the client reads what is there.  It looks inside,
 * so that a test can make a client's time be over.
 */
#include "daemon/control_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/base/log.h"
#include "common/base/unix_address.h"
#include "common/base/version.h"
#include "daemon/refill.h"

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

#define NOBODY 65534

static char folder[] = "/tmp/azpar-test-control-XXXXXX";
static char path[64];

/* --- the fake azpard --- */

static struct fake {
        unsigned workers, n_status, n_stopped, n_reloads;
        int paused;
        size_t padding;      /* bytes that make the status long */
        bool odd;            /* the status has such as JSON cannot hold */
        int checkpoint_done; /* what checkpoint_done() gives */
        int fail;            /* what the others give */
        int import_fd;       /* that came last; -1: none */
        int import_done;     /* what import_done() gives */
} fake;

static cJSON *fake_status(void *userdata) {
        struct fake *f = userdata;
        cJSON *s = cJSON_CreateObject();
        char *padding = calloc(1, f->padding + 1);

        memset(padding, 'x', f->padding);
        f->n_status++;
        cJSON_AddTrueToObject(s, "ok");
        cJSON_AddNumberToObject(s, "n", f->n_status);
        cJSON_AddStringToObject(s, "padding", f->odd ? "/caf\xc3\xa9/\xff\x7f" : padding);
        free(padding);
        return s;
}

static int fake_set_workers(void *userdata, unsigned n, struct error *e) {
        struct fake *f = userdata;

        if (n > 8)
                return error_set(e, -ERANGE, "%u workers are more than 8 slots", n);
        f->workers = n;
        return 0;
}

static int fake_set_paused(void *userdata, bool paused, struct error *e) {
        struct fake *f = userdata;

        (void) e;
        f->paused = paused;
        return 0;
}

static int fake_checkpoint(void *userdata, uint64_t *ret_request, struct error *e) {
        struct fake *f = userdata;

        *ret_request = 77;
        return f->fail ? error_set(e, f->fail, "there is no trainer") : 0;
}

static int fake_checkpoint_done(void *userdata, uint64_t request, uint64_t *ret_step) {
        struct fake *f = userdata;

        assert_int_equal(request, 77);
        *ret_step = 1234;
        return f->checkpoint_done;
}

static int fake_import(void *userdata, int fd, uint64_t *ret_ticket, struct error *e) {
        struct fake *f = userdata;

        if (f->fail) {
                (void) close(fd);
                return error_set(e, f->fail, "another import is under way");
        }
        f->import_fd = fd;
        *ret_ticket = 88;
        return 0;
}

static int fake_import_done(void *userdata, uint64_t ticket, struct refill_import *ret, struct error *e) {
        struct fake *f = userdata;

        assert_int_equal(ticket, 88);
        *ret = (struct refill_import){ .samples = 5, .duplicates = 6, .rounded = 7 };
        return f->import_done < 0 ? error_set(e, f->import_done, "sample 3 is bad") : f->import_done;
}

static int fake_reload(void *userdata, cJSON **ret_answer, struct error *e) {
        struct fake *f = userdata;

        f->n_reloads++;
        if (f->fail)
                return error_set(e, f->fail, "/etc/azpar/azpar.conf:12: neither [section] nor key = value");
        *ret_answer = cJSON_Parse("{\"ok\":true,\"protocol\":1,\"changed\":[],\"restart\":[]}");
        return 0;
}

static int fake_stop(void *userdata, struct error *e) {
        struct fake *f = userdata;

        (void) e;
        f->n_stopped++;
        return 0;
}

static const struct control_ops fake_ops = { fake_status,      fake_set_workers,     fake_set_paused,
                                             fake_checkpoint,  fake_checkpoint_done, fake_import,
                                             fake_import_done, fake_reload,          fake_stop };

struct house {
        sd_event *event;
        struct control *control;
};

static int open_house(void **state) {
        struct house *h = calloc(1, sizeof(*h));
        struct error e = ERROR_INIT;

        fake = (struct fake){ .paused = -1, .import_fd = -1 };
        if (sd_event_new(&h->event) < 0 ||
            control_new(h->event, path, -1, &fake_ops, &fake, &h->control, &e) < 0) {
                print_error("%s\n", e.text);
                return -1;
        }
        *state = h;
        return 0;
}

static int close_house(void **state) {
        struct house *h = *state;

        control_free(h->control);
        sd_event_unref(h->event);
        free(h);
        return access(path, F_OK) == 0 ? -1 : 0; /* the socket file is gone */
}

/* --- a client --- */

static void turn(struct house *h) {
        while (sd_event_run(h->event, 0) > 0)
                ;
}

static int dial_to(const char *where) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s", where);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        return fd;
}

static int dial(void) {
        return dial_to(path);
}

/* All that there is to read; NULL: the other side has closed. */
static char *hear(int fd) {
        static char heard[1 << 16];
        ssize_t n = recv(fd, heard, sizeof(heard) - 1, 0);

        if (n < 0 && errno == EAGAIN)
                n = 0;
        else if (n <= 0)
                return NULL;
        heard[n] = 0;
        return heard;
}

static char *say(struct house *h, int fd, const char *text) {
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
        turn(h);
        return hear(fd);
}

static size_t n_clients(const struct house *h) {
        size_t n = 0;

        for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
                n += h->control->clients[i] != NULL;
        return n;
}

/* --- tests --- */

static void test_commands(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();

        assert_string_equal(say(h, fd, "{\"command\":\"status\"}\n"),
                            "{\"ok\":true,\"n\":1,\"padding\":\"\"}\n");
        assert_string_equal(say(h, fd, "{\"command\":\"version\"}\n"),
                            "{\"ok\":true,\"protocol\":1,\"version\":\"" AZPAR_VERSION "\"}\n");
        assert_string_equal(say(h, fd, " { \"count\" : 3 , \"command\" : \"workers\" } \n"),
                            "{\"ok\":true}\n");
        assert_int_equal(fake.workers, 3);
        assert_string_equal(say(h, fd, "{\"command\":\"pause\"}\n"), "{\"ok\":true}\n");
        assert_int_equal(fake.paused, 1);
        assert_string_equal(say(h, fd, "{\"command\":\"resume\"}\n"), "{\"ok\":true}\n");
        assert_int_equal(fake.paused, 0);
        assert_string_equal(say(h, fd, "{\"command\":\"reload\",\"id\":5}\n"),
                            "{\"ok\":true,\"protocol\":1,\"changed\":[],\"restart\":[],\"id\":5}\n");
        fake.fail = -EINVAL;
        assert_string_equal(say(h, fd, "{\"command\":\"reload\"}\n"),
                            "{\"ok\":false,\"error\":\"/etc/azpar/azpar.conf:12: neither [section] nor key = "
                            "value\",\"code\":\"EINVAL\"}\n");
        assert_int_equal(fake.n_reloads, 2);
        assert_string_equal(say(h, fd, "{\"command\":\"stop\"}\n"), "{\"ok\":true}\n");
        assert_int_equal(fake.n_stopped, 1);
        assert_int_equal(n_clients(h), 1); /* its end is the second answer */
        control_free(TAKE_PTR(h->control));
        assert_null(hear(fd));
}

static void test_errors(void **state) {
        static const struct {
                const char *request, *error;
        } rows[] = {
                { "\n", "the request is not a JSON object" },
                { "garbage\n", "the request is not a JSON object" },
                { "[1,2]\n", "the request is not a JSON object" },
                { "{\"command\":\"status\"\n", "the request is not a JSON object" },
                { "{\"command\":\"status\"}}\n", "the request is not a JSON object" },
                { "{}\n", "the request lacks the key 'command'" },
                { "{\"command\":1}\n", "key 'command' must be a string" },
                { "{\"command\":\"dance\"}\n", "unknown command 'dance'" },
                { "{\"command\":\"\xff\x1b[2J\"}\n", "unknown command '??[2J'" },
                { "{\"command\":\"0123456789012345678901234567890123456789xyz\"}\n",
                  "unknown command '0123456789012345678901234567890123456789...'" },
                { "{\"Command\":\"status\"}\n", "unknown key 'Command' in the request" },
                { "{\"command\":\"status\",\"command\":\"stop\"}\n",
                  "key 'command' stands twice in the request" },
                { "{\"command\":\"status\",\"colour\":1}\n", "unknown key 'colour' in the request" },
                { "{\"command\":\"status\",\"count\":1}\n", "command 'status' takes no 'count'" },
                { "{\"command\":\"workers\"}\n", "command 'workers' needs \\\"count\\\"" },
                { "{\"command\":\"workers\",\"count\":1,\"count\":2}\n",
                  "key 'count' stands twice in the request" },
                { "{\"command\":\"workers\",\"count\":-1}\n",
                  "key 'count' must be a whole number from 0 on" },
                { "{\"command\":\"workers\",\"count\":1.5}\n",
                  "key 'count' must be a whole number from 0 on" },
                { "{\"command\":\"workers\",\"count\":1e300}\n",
                  "key 'count' must be a whole number from 0 on" },
                { "{\"command\":\"workers\",\"count\":\"1\"}\n",
                  "key 'count' must be a whole number from 0 on" },
                { "{\"command\":\"status\",\"protocol\":0}\n",
                  "key 'protocol' must be a whole number from 1 on" },
                { "{\"command\":\"status\",\"protocol\":1.5}\n",
                  "key 'protocol' must be a whole number from 1 on" },
                { "{\"command\":\"status\",\"protocol\":\"1\"}\n",
                  "key 'protocol' must be a whole number from 1 on" },
                { "{\"command\":\"status\",\"protocol\":1,\"protocol\":1}\n",
                  "key 'protocol' stands twice in the request" },
        };
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();

        for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
                char expected[256];

                (void) snprintf(expected, sizeof(expected),
                                "{\"ok\":false,\"error\":\"%s\",\"code\":\"EINVAL\"}\n", rows[i].error);
                assert_string_equal(say(h, fd, rows[i].request), expected);
        }
        assert_string_equal(
                say(h, fd, "{\"command\":\"workers\",\"count\":9}\n"),
                "{\"ok\":false,\"error\":\"9 workers are more than 8 slots\",\"code\":\"ERANGE\"}\n");
        assert_int_equal(fake.workers, 0);
        assert_int_equal(fake.n_status, 0);
        assert_int_equal(fake.n_stopped, 0);
        /* After all that, the same connection is still good. */
        assert_non_null(strstr(say(h, fd, "{\"command\":\"status\"}\n"), "\"ok\":true"));
}

/* Whoever speaks a later protocol is told so, whatever else it says. */
static void test_protocol(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();

        assert_string_equal(say(h, fd, "{\"protocol\":1,\"command\":\"pause\"}\n"), "{\"ok\":true}\n");
        assert_int_equal(fake.paused, 1);
        assert_string_equal(say(h, fd, "{\"colour\":1,\"command\":\"resume\",\"id\":4,\"protocol\":2}\n"),
                            "{\"ok\":false,\"error\":\"protocol 2 is not known here; this azpard speaks 1\","
                            "\"code\":\"EPROTONOSUPPORT\",\"id\":4}\n");
        assert_int_equal(fake.paused, 1);
}

static void test_id(void **state) {
        static const char *const good[] = {
                "0",
                "7",
                "999999999999999",
                "\"x\"",
                "\"a \\\"quoted\\\" one\\\\\"",
                "\"0123456789012345678901234567890123456789012345678901234567890123\"",
        };
        static const char *const bad[] = {
                "-1",
                "1.5",
                "1e15",
                "null",
                "[]",
                "{}",
                "true",
                "\"\"",
                "\"caf\xc3\xa9\"",
                "\"\\n\"",
                "\"01234567890123456789012345678901234567890123456789012345678901234\"",
        };
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        char request[160], expected[256];

        for (size_t i = 0; i < N_ELEMENTS(good); i++) {
                (void) snprintf(request, sizeof(request), "{\"command\":\"pause\",\"id\":%s}\n", good[i]);
                (void) snprintf(expected, sizeof(expected), "{\"ok\":true,\"id\":%s}\n", good[i]);
                assert_string_equal(say(h, fd, request), expected);
                (void) snprintf(request, sizeof(request), "{\"command\":\"dance\",\"id\":%s}\n", good[i]);
                (void) snprintf(expected, sizeof(expected),
                                "{\"ok\":false,\"error\":\"unknown command 'dance'\",\"code\":\"EINVAL\","
                                "\"id\":%s}\n",
                                good[i]);
                assert_string_equal(say(h, fd, request), expected);
        }
        for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
                const char *answer;

                (void) snprintf(request, sizeof(request), "{\"command\":\"resume\",\"id\":%s}\n", bad[i]);
                answer = say(h, fd, request);
                assert_non_null(strstr(answer, "\"error\":\"key 'id' must be a whole number from 0 to "
                                               "999999999999999 or a text of 1 to 64 printable"));
                assert_null(strstr(answer, "\"id\":"));
        }
        assert_int_equal(fake.paused, 1);
        assert_non_null(strstr(say(h, fd, "{\"command\":\"resume\",\"id\":1,\"id\":2}\n"), "stands twice"));
        /* the next one has none */
        assert_string_equal(say(h, fd, "{\"command\":\"pause\"}\n"), "{\"ok\":true}\n");
        /* one that is answered later has its own */
        assert_string_equal(say(h, fd, "{\"command\":\"checkpoint\",\"id\":\"mine\"}\n"), "");
        fake.checkpoint_done = 1;
        control_poll(h->control);
        assert_string_equal(hear(fd), "{\"ok\":true,\"step\":1234,\"id\":\"mine\"}\n");
}

static void test_help(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        cleanup_(cJSON_Deletep) cJSON *answer = cJSON_Parse(say(h, fd, "{\"command\":\"help\",\"id\":1}\n"));
        const cJSON *limits = cJSON_GetObjectItem(answer, "limits"), *item;
        unsigned n = 0;

        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(answer, "ok")));
        assert_int_equal(cJSON_GetObjectItem(answer, "protocol")->valuedouble, CONTROL_PROTOCOL);
        assert_int_equal(cJSON_GetObjectItem(answer, "id")->valuedouble, 1);
        assert_int_equal(cJSON_GetObjectItem(limits, "clients")->valuedouble, CONTROL_MAX_CLIENTS);
        assert_int_equal(cJSON_GetObjectItem(limits, "request_bytes")->valuedouble, CONTROL_REQUEST_MAX);
        assert_int_equal(cJSON_GetObjectItem(limits, "share_percent")->valuedouble, 1);
        assert_int_equal(cJSON_GetObjectItem(limits, "idle_s")->valuedouble, 30);
        /* every command that it names is one */
        cJSON_ArrayForEach(item, cJSON_GetObjectItem(answer, "commands")) {
                const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(item, "command"));
                char request[64];

                assert_true(cJSON_IsTrue(cJSON_GetObjectItem(item, "allowed")));
                (void) snprintf(request, sizeof(request), "{\"command\":\"%s\",\"odd\":1}\n", name);
                assert_non_null(strstr(say(h, fd, request), "unknown key 'odd'"));
                n++;
        }
        assert_in_range(n, 9, 100);
}

static void test_nul_byte(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        static const char request[] = "{\"command\":\"stop\"}\0{\n";

        assert_int_equal(send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL), sizeof(request) - 1);
        turn(h);
        assert_non_null(strstr(hear(fd), "NUL byte"));
        assert_non_null(strstr(say(h, fd, "{\"command\":\"stop\\u0000x\"}\n"), "\"ok\":false"));
        assert_non_null(strstr(say(h, fd, "{\"command\\u0000x\":\"stop\"}\n"), "\"ok\":false"));
        assert_int_equal(fake.n_stopped, 0);
}

static void test_deep_nesting(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        char request[CONTROL_REQUEST_MAX];

        memset(request, '[', sizeof(request));
        memcpy(request, "{\"a\":", 5);
        request[sizeof(request) - 2] = '\n';
        request[sizeof(request) - 1] = 0;
        assert_non_null(strstr(say(h, fd, request), "not a JSON object"));
}

/* A path may hold any bytes. */
static void test_answers_are_ascii(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();

        fake.odd = true;
        assert_string_equal(say(h, fd, "{\"command\":\"status\"}\n"),
                            "{\"ok\":true,\"n\":1,\"padding\":\"/caf?\?/?\?\"}\n");
}

/* A request in pieces; several in one piece, answered in their order. */
static void test_pieces(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        const char *request = "{\"command\":\"pause\"}\n";

        for (const char *p = request; p[1]; p++) {
                char piece[2] = { *p, 0 };

                assert_string_equal(say(h, fd, piece), "");
        }
        assert_int_equal(fake.paused, -1);
        assert_string_equal(say(h, fd, "\n"), "{\"ok\":true}\n");
        assert_int_equal(fake.paused, 1);
        assert_string_equal(
                say(h, fd, "{\"command\":\"status\"}\n{\"command\":\"resume\"}\n{\"command\":\"status\"}\n{"),
                "{\"ok\":true,\"n\":1,\"padding\":\"\"}\n{\"ok\":true}\n{\"ok\":true,\"n\":2,\"padding\":"
                "\"\"}\n");
        assert_int_equal(fake.paused, 0);
}

/* One wake-up serves one request of a client, however many it has sent. */
static void test_fairness(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int greedy = dial(), modest = -1;

        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(send(greedy, "{\"command\":\"status\"}\n", 21, 0), 21);
        assert_int_equal(sd_event_run(h->event, 0), 1); /* accepts */
        modest = dial();
        assert_int_equal(send(modest, "{\"command\":\"pause\"}\n", 20, 0), 20);
        while (fake.paused < 0)
                assert_int_equal(sd_event_run(h->event, 0), 1);
        assert_in_range(fake.n_status, 0, 10);
        turn(h);
        assert_int_equal(fake.n_status, 100);
}

static int on_work(sd_event_source *source, uint64_t usec, void *userdata) {
        unsigned *n = userdata;
        int r = sd_event_source_set_time_relative(source, 0);

        (void) usec;
        (*n)++;
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Lanes that never run empty (daemon.c) and a client that never stops asking are served in turn. */
static void test_busy_loop(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        sd_event_source *work = NULL;
        unsigned n_worked = 0;

        assert_true(sd_event_add_time_relative(h->event, &work, CLOCK_MONOTONIC, 0, 1, on_work, &n_worked) >=
                    0);
        assert_true(sd_event_source_set_priority(work, CONTROL_PRIORITY) >= 0);
        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(send(fd, "{\"command\":\"status\"}\n", 21, 0), 21);
        for (unsigned turns = 0; fake.n_status < 100 && turns < 1000; turns++)
                assert_int_equal(sd_event_run(h->event, 0), 1);
        sd_event_source_disable_unref(work);
        assert_int_equal(fake.n_status, 100);
        assert_in_range(n_worked, 80, 120);
}

static void test_longest_request(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        char request[CONTROL_REQUEST_MAX + 1];

        memset(request, ' ', sizeof(request));
        memcpy(request, "{\"command\":\"pause\"}", 19);
        request[CONTROL_REQUEST_MAX - 1] = '\n';
        request[CONTROL_REQUEST_MAX] = 0;
        assert_string_equal(say(h, fd, request), "{\"ok\":true}\n"); /* just fits */
        request[CONTROL_REQUEST_MAX - 1] = ' ';
        assert_string_equal(
                say(h, fd, request),
                "{\"ok\":false,\"error\":\"the request is longer than 4096 bytes\",\"code\":\"EMSGSIZE\"}\n");
        assert_null(hear(fd));
        assert_int_equal(n_clients(h), 0);
}

static const struct ucred stranger = { .pid = 1, .uid = NOBODY, .gid = NOBODY };
static const struct ucred other_stranger = { .pid = 1, .uid = NOBODY - 1, .gid = NOBODY };

/* A client as if @peer had connected. Return: its end. */
static int admitted(struct house *h, const struct ucred *peer) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        control_admit(h->control, fds[1], peer);
        return fds[0];
}

static bool is_displaced(int fd) {
        const char *heard = hear(fd);

        if (heard && !*heard)
                return false;
        assert_non_null(heard);
        assert_string_equal(heard,
                            "{\"ok\":false,\"error\":\"displaced: all 64 places are taken, and you were idle "
                            "for longest\",\"code\":\"EBUSY\"}\n");
        assert_null(hear(fd));
        return true;
}

/* Those who come later displace those who have been idle for longest. */
static void test_too_many_clients(void **state) {
        struct house *h = *state;
        int fds[CONTROL_MAX_CLIENTS + 5];

        for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++) {
                fds[i] = dial();
                turn(h);
        }
        assert_int_equal(n_clients(h), CONTROL_MAX_CLIENTS);
        /* 0 to 2 have asked something since */
        for (size_t i = 0; i < 3; i++)
                assert_non_null(strstr(say(h, fds[i], "{\"command\":\"status\"}\n"), "\"ok\":true"));
        for (size_t i = CONTROL_MAX_CLIENTS; i < N_ELEMENTS(fds); i++) {
                fds[i] = dial();
                turn(h);
        }
        assert_int_equal(n_clients(h), CONTROL_MAX_CLIENTS);
        for (size_t i = 0; i < N_ELEMENTS(fds); i++) {
                assert_int_equal(is_displaced(fds[i]), i >= 3 && i < 8);
                if (i < 3 || i >= 8)
                        assert_non_null(strstr(say(h, fds[i], "{\"command\":\"status\"}\n"), "\"ok\":true"));
        }
        for (size_t i = 0; i < N_ELEMENTS(fds); i++)
                (void) close(fds[i]);
        turn(h);
        assert_int_equal(n_clients(h), 0);
}

/* Whoever holds most places loses one; those who may change something lose none to others. */
static void test_displaced_by_user(void **state) {
        const struct ucred own = { .uid = geteuid() };
        struct house *h = *state;
        int own_fd = admitted(h, &own), modest = admitted(h, &other_stranger), fds[CONTROL_MAX_CLIENTS + 3];
        size_t n = 0;

        while (n < CONTROL_MAX_CLIENTS - 2)
                fds[n++] = admitted(h, &stranger);
        assert_false(is_displaced(fds[0]));
        fds[n++] = admitted(h, &stranger); /* of its own */
        assert_true(is_displaced(fds[0]));
        fds[n++] = admitted(h, &other_stranger); /* of whoever has most */
        assert_true(is_displaced(fds[1]));
        fds[n++] = admitted(h, &own);
        assert_true(is_displaced(fds[2]));
        fds[n++] = admitted(h, &(struct ucred){ .uid = 0 });
        assert_true(is_displaced(fds[3]));
        assert_false(is_displaced(own_fd)); /* though idle for longest */
        assert_false(is_displaced(modest));
        assert_int_equal(n_clients(h), CONTROL_MAX_CLIENTS);
        for (size_t i = 4; i < n; i++) {
                assert_false(is_displaced(fds[i]));
                (void) close(fds[i]);
        }
        for (size_t i = 0; i < 4; i++)
                (void) close(fds[i]);
        (void) close(own_fd);
        (void) close(modest);
        turn(h);
        assert_int_equal(n_clients(h), 0);
}

/* Whoever has fewer places than the newcomer loses none to it. */
static void test_displaced_at_par(void **state) {
        struct house *h = *state;
        int fds[2][CONTROL_MAX_CLIENTS / 2], a, b;

        for (size_t i = 0; i < CONTROL_MAX_CLIENTS / 2; i++) {
                fds[0][i] = admitted(h, &stranger);
                fds[1][i] = admitted(h, &other_stranger);
        }
        a = admitted(h, &other_stranger); /* 32 to 33: one of its own */
        assert_false(is_displaced(fds[0][0]));
        assert_true(is_displaced(fds[1][0]));
        b = admitted(h, &stranger);
        assert_true(is_displaced(fds[0][0]));
        for (size_t i = 0; i < CONTROL_MAX_CLIENTS / 2; i++) {
                (void) close(fds[0][i]);
                (void) close(fds[1][i]);
        }
        (void) close(a);
        (void) close(b);
        turn(h);
}

/* Who is owed an answer keeps the place, unless all are; a stranger gets none among the trusted. */
static void test_displaced_last(void **state) {
        const struct ucred own = { .uid = geteuid() };
        struct house *h = *state;
        int fds[CONTROL_MAX_CLIENTS], late, idle;

        for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++) {
                fds[i] = admitted(h, &own);
                if (i == CONTROL_MAX_CLIENTS - 1)
                        break;
                assert_string_equal(say(h, fds[i], "{\"command\":\"checkpoint\",\"id\":5}\n"), "");
        }
        idle = fds[CONTROL_MAX_CLIENTS - 1];
        late = admitted(h, &stranger);
        assert_string_equal(hear(late),
                            "{\"ok\":false,\"error\":\"all 64 places are taken by root and azpard's own "
                            "user\",\"code\":\"EBUSY\"}\n");
        assert_null(hear(late));
        (void) close(late);
        late = admitted(h, &own);
        assert_true(is_displaced(idle));
        assert_string_equal(say(h, late, "{\"command\":\"checkpoint\"}\n"), "");
        (void) close(idle);
        idle = admitted(h, &own); /* now that all wait */
        assert_string_equal(hear(fds[0]),
                            "{\"ok\":false,\"error\":\"displaced: all 64 places are taken, and you were "
                            "idle for longest\",\"code\":\"EBUSY\",\"id\":5}\n");
        fake.checkpoint_done = 1;
        control_poll(h->control);
        assert_string_equal(hear(fds[1]), "{\"ok\":true,\"step\":1234,\"id\":5}\n");
        for (size_t i = 0; i < CONTROL_MAX_CLIENTS - 1; i++)
                (void) close(fds[i]);
        (void) close(late);
        (void) close(idle);
        turn(h);
        assert_int_equal(n_clients(h), 0);
}

/* Strangers get so much of azpard and then wait; root does not; and then it goes on. */
static void test_pace(void **state) {
        const struct ucred own = { .uid = geteuid() };
        struct house *h = *state;
        cleanup_(fd_closep) int fd = admitted(h, &stranger), trusted = admitted(h, &own), late = -1;
        unsigned n_asked = 0, n_before;
        uint64_t until, now;

        for (; !h->control->resting; n_asked++) { /* that is, until azpard has had enough of it */
                assert_int_equal(send(fd, "{\"command\":\"status\"}\n", 21, MSG_NOSIGNAL), 21);
                while (fake.n_status == n_asked && !h->control->resting)
                        assert_true(sd_event_run(h->event, UINT64_MAX) > 0);
                assert_non_null(hear(fd));
                assert_in_range(n_asked, 0, 100000);
        }
        assert_in_range(n_asked, 20, 100000);
        /* It rests until then; for ever, while we look, for we may be kept from it for longer than that. */
        assert_true(sd_event_source_get_time(h->control->resume, &until) >= 0);
        assert_true(sd_event_now(h->event, CLOCK_MONOTONIC, &now) >= 0);
        assert_true(until >= now + CONTROL_REST_NS / 1000);
        assert_true(sd_event_source_set_time(h->control->resume, UINT64_MAX) >= 0);
        n_before = fake.n_status;
        assert_int_equal(send(fd, "{\"command\":\"status\"}\n", 21, MSG_NOSIGNAL), 21);
        late = dial();
        assert_non_null(strstr(say(h, trusted, "{\"command\":\"pause\"}\n"), "\"ok\":true"));
        assert_true(h->control->resting);
        assert_int_equal(fake.n_status, n_before);
        assert_int_equal(n_clients(h), 2);
        assert_true(sd_event_source_set_time(h->control->resume, until) >= 0);
        while (h->control->resting) /* the loop sleeps meanwhile */
                assert_true(sd_event_run(h->event, UINT64_MAX) > 0);
        turn(h);
        assert_non_null(strstr(hear(fd), "\"ok\":true"));
        assert_int_equal(fake.n_status, n_before + 1);
        assert_int_equal(n_clients(h), 3);
}

/* A client that never reads is not read from either, and holds up nobody. */
static void test_deaf_client(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int deaf = dial(), other = dial();
        size_t n = 0, n_asked = 200;
        unsigned n_served;
        char *heard;

        fake.padding = 30000;
        for (size_t i = 0; i < n_asked; i++)
                assert_int_equal(send(deaf, "{\"command\":\"status\"}\n", 21, 0), 21);
        turn(h);
        n_served = fake.n_status;
        assert_in_range(n_served, 1, n_asked - 1); /* it stopped where the socket was full */
        fake.padding = 0;
        assert_non_null(strstr(say(h, other, "{\"command\":\"status\"}\n"), "\"ok\":true"));
        /* When it reads at last, it gets every answer whole. */
        for (turn(h); *(heard = hear(deaf)); turn(h))
                for (; *heard; heard++)
                        n += *heard == '\n';
        assert_int_equal(n, n_asked);
        assert_int_equal(fake.n_status, n_asked + 1);
}

static void test_idle_client(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial(), stopper = -1;

        turn(h);
        assert_int_equal(n_clients(h), 1);
        assert_true(sd_event_source_set_time_relative(h->control->clients[0]->timer, 0) >= 0);
        assert_int_equal(sd_event_run(h->event, UINT64_MAX), 1);
        assert_null(hear(fd));
        assert_int_equal(n_clients(h), 0);
        /* Who waits for the end is not idle. */
        stopper = dial();
        assert_string_equal(say(h, stopper, "{\"command\":\"stop\"}\n"), "{\"ok\":true}\n");
        assert_true(sd_event_source_set_time_relative(h->control->clients[0]->timer, 0) >= 0);
        assert_int_equal(sd_event_run(h->event, 1000), 0);
        assert_int_equal(n_clients(h), 1);
}

/* A request that trickles in has 30 s in all, not 30 s for each byte. */
static void test_trickling_client(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        uint64_t first, then;

        assert_string_equal(say(h, fd, "{"), "");
        assert_true(sd_event_source_get_time(h->control->clients[0]->timer, &first) >= 0);
        for (unsigned i = 0; i < 5; i++) {
                assert_string_equal(say(h, fd, " "), "");
                assert_true(sd_event_source_get_time(h->control->clients[0]->timer, &then) >= 0);
                assert_int_equal(then, first);
        }
        assert_non_null(strstr(say(h, fd, "}\n"), "lacks"));
        assert_true(sd_event_source_get_time(h->control->clients[0]->timer, &then) >= 0);
        assert_true(then > first);
}

static void test_checkpoint(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int a = dial(), b = dial(), gone = dial();

        assert_string_equal(say(h, a, "{\"command\":\"checkpoint\"}\n{\"command\":\"pause\"}\n"), "");
        assert_string_equal(say(h, b, "{\"command\":\"checkpoint\"}\n"), "");
        assert_string_equal(say(h, gone, "{\"command\":\"checkpoint\"}\n"), "");
        assert_int_equal(n_clients(h), 3);
        fd_closep(&gone);
        gone = -1;
        turn(h);
        assert_int_equal(n_clients(h), 2);
        control_poll(h->control);
        assert_string_equal(hear(a), "");
        assert_int_equal(fake.paused, -1); /* answers keep the order of the requests */
        fake.checkpoint_done = 1;
        control_poll(h->control);
        turn(h);
        assert_string_equal(hear(a), "{\"ok\":true,\"step\":1234}\n{\"ok\":true}\n");
        assert_string_equal(hear(b), "{\"ok\":true,\"step\":1234}\n");
        assert_int_equal(fake.paused, 1);
        /* Done at once. */
        assert_string_equal(say(h, a, "{\"command\":\"checkpoint\"}\n"), "{\"ok\":true,\"step\":1234}\n");
        fake.checkpoint_done = -EIO;
        assert_non_null(strstr(say(h, a, "{\"command\":\"checkpoint\"}\n"), "\"code\":\"EIO\""));
        fake.fail = -ESRCH;
        assert_string_equal(say(h, a, "{\"command\":\"checkpoint\"}\n"),
                            "{\"ok\":false,\"error\":\"there is no trainer\",\"code\":\"ESRCH\"}\n");
}

static void test_checkpoint_never_written(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();

        assert_string_equal(say(h, fd, "{\"command\":\"checkpoint\"}\n"), "");
        assert_true(sd_event_source_set_time_relative(h->control->clients[0]->timer, 0) >= 0);
        assert_int_equal(sd_event_run(h->event, UINT64_MAX), 1);
        assert_non_null(strstr(hear(fd), "\"code\":\"ETIMEDOUT\""));
        assert_string_equal(say(h, fd, "{\"command\":\"pause\"}\n"), "{\"ok\":true}\n");
}

/* @text, with @n of the descriptors @fds on its first byte. */
static char *say_with(struct house *h, int fd, const char *text, const int *fds, size_t n) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(4 * sizeof(int))];
        } control = { 0 };
        struct iovec part = { .iov_base = (char *) (uintptr_t) text, .iov_len = strlen(text) };
        struct msghdr m = { .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        *c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                               .cmsg_type = SCM_RIGHTS,
                               .cmsg_len = CMSG_LEN(n * sizeof(int)) };
        memcpy(CMSG_DATA(c), fds, n * sizeof(int));
        assert_int_equal(sendmsg(fd, &m, MSG_NOSIGNAL), strlen(text));
        turn(h);
        return hear(fd);
}

static unsigned n_descriptors(void) {
        unsigned n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static bool is_same_file(int a, int b) {
        struct stat x, y;

        assert_int_equal(fstat(a, &x), 0);
        assert_int_equal(fstat(b, &y), 0);
        return x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

static void test_import(void **state) {
        static const char request[] = "{\"command\":\"import\"}\n";
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial(), file = open("/dev/null", O_RDONLY), other = open("/", O_RDONLY);
        const int one[] = { file }, four[] = { file, other, other, other };
        unsigned before;

        assert_string_equal(say(h, fd, request),
                            "{\"ok\":false,\"error\":\"command 'import' needs the file's "
                            "descriptor with it\",\"code\":\"EINVAL\"}\n");
        before = n_descriptors();
        assert_string_equal(say_with(h, fd, request, one, 1), "");
        assert_true(is_same_file(fake.import_fd, file));
        assert_true(fcntl(fake.import_fd, F_GETFD) & FD_CLOEXEC);
        control_poll(h->control);
        assert_string_equal(hear(fd), ""); /* it is not done */
        fake.import_done = 1;
        control_poll(h->control);
        assert_string_equal(hear(fd), "{\"ok\":true,\"samples\":5,\"duplicates\":6,\"rounded\":7}\n");
        (void) close(fake.import_fd);
        fake.import_done = -EBADMSG;
        assert_string_equal(say_with(h, fd, request, one, 1),
                            "{\"ok\":false,\"error\":\"sample 3 is bad\",\"code\":\"EBADMSG\"}\n");
        (void) close(fake.import_fd);
        fake.fail = -EBUSY;
        assert_string_equal(say_with(h, fd, request, one, 1),
                            "{\"ok\":false,\"error\":\"another import is under "
                            "way\",\"code\":\"EBUSY\"}\n");
        fake.fail = 0;
        /* more than one: the first counts, and none stays open here */
        fake.import_done = 1;
        assert_non_null(strstr(say_with(h, fd, request, four, 4), "\"ok\":true"));
        assert_true(is_same_file(fake.import_fd, file));
        (void) close(fake.import_fd);
        assert_int_equal(n_descriptors(), before);
}

/* What strangers send along never gets into azpard. */
static void test_strangers_descriptors(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int file = open("/dev/null", O_RDONLY), fd = admitted(h, &stranger);
        const int one[] = { file };
        unsigned before = n_descriptors();

        assert_string_equal(say_with(h, fd, "{", one, 1), "");
        assert_int_equal(n_descriptors(), before);
        assert_non_null(strstr(say_with(h, fd, "\"command\":\"status\"}\n", one, 1), "\"ok\":true"));
        assert_non_null(strstr(say_with(h, fd, "{\"command\":\"import\"}\n", one, 1), "\"code\":\"EPERM\""));
        assert_int_equal(n_descriptors(), before);
}

/* A descriptor is nothing that other commands, pieces of requests or half-sent ones could use or leak. */
static void test_stray_descriptors(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int file = open("/dev/null", O_RDONLY);
        const int one[] = { file };
        unsigned before = n_descriptors();
        int fd = dial();

        assert_string_equal(say_with(h, fd, "{\"command\":\"status\"}\n", one, 1),
                            "{\"ok\":false,\"error\":\"command 'status' takes no file descriptor\",\"code\":"
                            "\"EINVAL\"}\n");
        assert_string_equal(say_with(h, fd, "garbage\n", one, 1),
                            "{\"ok\":false,\"error\":\"the request is not a "
                            "JSON object\",\"code\":\"EINVAL\"}\n");
        assert_int_equal(n_descriptors(), before + 2); /* the connection's two ends */
        for (int i = 0; i < 3; i++)
                assert_string_equal(say_with(h, fd, "{", one, 1), "");
        assert_int_equal(n_descriptors(), before + 3);
        (void) close(fd);
        turn(h);
        assert_int_equal(n_descriptors(), before);
}

/* `printf request | nc -N`: what was asked is done and answered, then the connection ends. */
static void test_half_closed(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial(), later = dial();

        assert_int_equal(send(fd, "{\"command\":\"pause\"}\n{\"comm", 26, 0), 26);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        assert_int_equal(send(later, "{\"command\":\"checkpoint\"}\n", 25, 0), 25);
        assert_int_equal(shutdown(later, SHUT_WR), 0);
        turn(h);
        assert_string_equal(hear(fd),
                            "{\"ok\":true}\n{\"ok\":false,\"error\":\"the request is not a JSON object\","
                            "\"code\":\"EINVAL\"}\n");
        assert_null(hear(fd));
        assert_int_equal(n_clients(h), 1);
        fake.checkpoint_done = 1;
        control_poll(h->control);
        turn(h);
        assert_non_null(strstr(hear(later), "1234"));
        assert_null(hear(later));
        assert_int_equal(n_clients(h), 0);
}

/* `echo -n request | socat`: the end of what comes is also the end of a request, be it answered at once or
 * not. */
static void test_no_newline(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial(), later = dial(), long_one = dial();
        char request[CONTROL_REQUEST_MAX];

        assert_string_equal(say(h, fd, "{\"command\":\"pause\"}"), "");
        assert_int_equal(fake.paused, -1);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        turn(h);
        assert_string_equal(hear(fd), "{\"ok\":true}\n");
        assert_null(hear(fd));
        assert_int_equal(fake.paused, 1);
        assert_string_equal(say(h, later, "{\"command\":\"checkpoint\"}"), "");
        assert_int_equal(shutdown(later, SHUT_WR), 0);
        turn(h);
        assert_string_equal(hear(later), "");
        assert_int_equal(n_clients(h), 2);
        fake.checkpoint_done = 1;
        control_poll(h->control);
        assert_non_null(strstr(hear(later), "1234"));
        turn(h);
        assert_null(hear(later));
        /* as long as one can be */
        memset(request, ' ', sizeof(request));
        memcpy(request, "{\"command\":\"resume\"}", 20);
        request[sizeof(request) - 1] = 0;
        assert_string_equal(say(h, long_one, request), "");
        assert_int_equal(shutdown(long_one, SHUT_WR), 0);
        turn(h);
        assert_string_equal(hear(long_one), "{\"ok\":true}\n");
        assert_int_equal(n_clients(h), 0);
}

/* `echo '{"command":"stop"}' | socat`: the connection ends with azpard, and not before. */
static void test_half_closed_stop(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        int gone = dial();

        assert_string_equal(say(h, fd, "{\"command\":\"stop\"}\n"), "{\"ok\":true}\n");
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        assert_string_equal(say(h, gone, "{\"command\":\"stop\"}"), "");
        assert_int_equal(shutdown(gone, SHUT_WR), 0);
        turn(h);
        assert_string_equal(hear(gone), "{\"ok\":true}\n");
        assert_string_equal(hear(fd), "");
        assert_int_equal(n_clients(h), 2);
        (void) close(gone);
        turn(h);
        assert_int_equal(n_clients(h), 1);
        control_free(TAKE_PTR(h->control));
        assert_null(hear(fd));
}

/* Who has gone without waiting for the answer has still asked. */
static void test_gone(void **state) {
        struct house *h = *state;
        int fd = dial();

        assert_int_equal(send(fd, "{\"command\":\"pause\"}\n", 20, 0), 20);
        (void) close(fd);
        turn(h);
        assert_int_equal(fake.paused, 1);
        assert_int_equal(n_clients(h), 0);
}

static void test_strangers(void **state) {
        static const char *const changes[] = { "\"workers\",\"count\":1", "\"pause\"",  "\"resume\"",
                                               "\"checkpoint\"",          "\"reload\"", "\"stop\"" };
        struct house *h = *state;
        cleanup_(fd_closep) int fd = -1;

        if (geteuid() != 0)
                skip();
        assert_int_equal(chmod(path, 0666), 0);
        assert_int_equal(seteuid(NOBODY), 0);
        fd = dial(); /* the kernel notes the user id here */
        assert_int_equal(seteuid(0), 0);
        for (size_t i = 0; i < N_ELEMENTS(changes); i++) {
                char request[64];

                (void) snprintf(request, sizeof(request), "{\"command\":%s}\n", changes[i]);
                assert_non_null(strstr(say(h, fd, request),
                                       "you are user id 65534, which may only look\",\"code\":\"EPERM\""));
        }
        assert_int_equal(fake.workers, 0);
        assert_int_equal(fake.paused, -1);
        assert_int_equal(fake.n_reloads, 0);
        assert_int_equal(fake.n_stopped, 0);
        assert_non_null(strstr(say(h, fd, "{\"command\":\"help\"}\n"), "\"changes\":true,\"allowed\":false"));
        /* azpard's own user may, also when that is not root. */
        fd_closep(&fd);
        assert_int_equal(seteuid(NOBODY), 0);
        fd = dial();
        assert_string_equal(say(h, fd, "{\"command\":\"pause\"}\n"), "{\"ok\":true}\n");
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(fake.paused, 1);
}

/* Out of descriptors: the connection waits, the loop does not spin. */
static void test_no_descriptors(void **state) {
        struct house *h = *state;
        cleanup_(fd_closep) int fd = dial();
        struct rlimit before, none;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = (struct rlimit){ .rlim_cur = 3, .rlim_max = before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        turn(h); /* would not return if the loop were woken again and again */
        assert_int_equal(n_clients(h), 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(sd_event_source_set_time_relative(h->control->resume, 0) >= 0);
        while (n_clients(h) == 0)
                assert_true(sd_event_run(h->event, UINT64_MAX) > 0);
        assert_non_null(strstr(say(h, fd, "{\"command\":\"status\"}\n"), "\"ok\":true"));
}

static void test_socket_file(void **state) {
        struct house *h = *state;
        struct control *second = NULL;
        struct error e = ERROR_INIT;
        struct stat st;
        char file[160], text[256];
        int fd;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0660);
        /* Somebody listens. */
        assert_int_equal(control_new(h->event, path, -1, &fake_ops, &fake, &second, &e), -EADDRINUSE);
        (void) snprintf(text, sizeof(text), "somebody answers on control socket '%s' already", path);
        assert_string_equal(e.text, text);
        assert_int_equal(access(path, F_OK), 0);
        assert_null(second);
        /* A file that is no socket stays where it is. */
        (void) snprintf(file, sizeof(file), "%s/file", folder);
        fd = open(file, O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        (void) close(fd);
        assert_int_equal(control_new(h->event, file, -1, &fake_ops, &fake, &second, &e), -EEXIST);
        assert_non_null(strstr(e.text, "is no socket"));
        assert_int_equal(unlink(file), 0);
        /* No such directory. */
        (void) snprintf(file, sizeof(file), "%s/none/socket", folder);
        assert_int_equal(control_new(h->event, file, -1, &fake_ops, &fake, &second, &e), -ENOENT);
        assert_non_null(strstr(e.text, file));
}

/* What a killed azpard left behind is replaced. */
static void test_stale_socket(void **state) {
        struct house *h = *state;
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        struct control *c = NULL;
        struct error e = ERROR_INIT;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s/stale", folder);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        (void) close(fd);
        assert_int_equal(access(a.sun_path, F_OK), 0);
        assert_int_equal(control_new(h->event, a.sun_path, -1, &fake_ops, &fake, &c, &e), 0);
        control_free(c);
        assert_int_equal(access(a.sun_path, F_OK), -1);
}

/* sockaddr_un has room for 107 bytes; state directories may lie deeper. */
static void test_long_path(void **state) {
        struct house *h = *state;
        cleanup_(unix_address_deinit) struct unix_address a = UNIX_ADDRESS_NULL;
        cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct control *c = NULL;
        struct error e = ERROR_INIT;
        char deep[256], too_long[400];

        (void) snprintf(deep, sizeof(deep), "%s/%0150d", folder, 1);
        assert_int_equal(mkdir(deep, 0700), 0);
        (void) strcat(deep, "/control.sock");
        assert_int_equal(control_new(h->event, deep, -1, &fake_ops, &fake, &c, &e), 0);
        assert_int_equal(access(deep, F_OK), 0);
        assert_int_equal(unix_address_init(&a, deep, &e), 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &a.sun, a.n_bytes), 0);
        assert_non_null(strstr(say(h, fd, "{\"command\":\"status\"}\n"), "\"ok\":true"));
        control_free(c);
        assert_int_equal(access(deep, F_OK), -1);
        *strrchr(deep, '/') = 0;
        assert_int_equal(rmdir(deep), 0);
        (void) snprintf(too_long, sizeof(too_long), "%s/%0200d", folder, 1);
        assert_int_equal(control_new(h->event, too_long, -1, &fake_ops, &fake, &c, &e), -ENAMETOOLONG);
        assert_non_null(strstr(e.text, "too long"));
        assert_int_equal(control_new(h->event, "", -1, &fake_ops, &fake, &c, &e), -EINVAL);
}

/* As systemd passes it: bound and listening, and still in use when azpard is gone. */
static void test_passed_socket(void **state) {
        struct house *h = *state;
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        cleanup_(fd_closep) int systemd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1;
        struct control *c = NULL;
        struct error e = ERROR_INIT;
        struct stat st;
        unsigned before;

        (void) snprintf(a.sun_path, sizeof(a.sun_path), "%s/passed", folder);
        assert_int_equal(bind(systemd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(chmod(a.sun_path, 0606), 0);
        assert_int_equal(listen(systemd, 5), 0);
        before = n_descriptors();
        for (int i = 0; i < 2; i++) { /* the second one takes up what the first has left */
                assert_int_equal(control_new(h->event, a.sun_path, dup(systemd), &fake_ops, &fake, &c, &e),
                                 0);
                assert_true(fcntl(c->fd, F_GETFL) & O_NONBLOCK);
                assert_true(fcntl(c->fd, F_GETFD) & FD_CLOEXEC);
                fd = dial_to(a.sun_path);
                assert_non_null(strstr(say(h, fd, "{\"command\":\"status\"}\n"), "\"ok\":true"));
                control_free(c);
                assert_null(hear(fd));
                fd = (fd_closep(&fd), -1);
                assert_int_equal(n_descriptors(), before);
                assert_int_equal(stat(a.sun_path, &st), 0);
                assert_int_equal(st.st_mode & 0777, 0606);
        }
        assert_int_equal(unlink(a.sun_path), 0);
}

/* What a unit file can get wrong. */
static void test_passed_nonsense(void **state) {
        struct house *h = *state;
        const int fds[] = { open("/dev/null", O_RDONLY), socket(AF_UNIX, SOCK_STREAM, 0),
                            socket(AF_UNIX, SOCK_DGRAM, 0), socket(AF_UNIX, SOCK_SEQPACKET, 0),
                            socket(AF_INET, SOCK_STREAM, 0) };
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        struct control *c = NULL;

        assert_int_equal(bind(fds[3], (struct sockaddr *) &a, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(fds[3], 5), 0);
        assert_true(fds[4] < 0 || listen(fds[4], 5) == 0); /* a kernel may be without */
        for (size_t i = 0; i < N_ELEMENTS(fds); i++) {
                struct error e = ERROR_INIT;

                if (fds[i] < 0)
                        continue;
                assert_int_equal(control_new(h->event, "/none", fds[i], &fake_ops, &fake, &c, &e), -EINVAL);
                assert_non_null(strstr(e.text, "passed as control socket '/none', is no Unix stream socket"));
                assert_int_equal(fcntl(fds[i], F_GETFD), -1); /* taken over all the same */
        }
}

static int make_folder(void **state) {
        (void) state;
        log_open("test-control", LOG_LEVEL_ERROR);
        if (!mkdtemp(folder) || chmod(folder, 0755) < 0)
                return -1;
        (void) snprintf(path, sizeof(path), "%s/control.sock", folder);
        return 0;
}

static int remove_folder(void **state) {
        (void) state;
        return rmdir(folder); /* fails if anything was left in it */
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_house, close_house)
        const struct CMUnitTest tests[] = {
                TEST(test_commands),
                TEST(test_errors),
                TEST(test_protocol),
                TEST(test_id),
                TEST(test_help),
                TEST(test_nul_byte),
                TEST(test_deep_nesting),
                TEST(test_answers_are_ascii),
                TEST(test_pieces),
                TEST(test_fairness),
                TEST(test_busy_loop),
                TEST(test_longest_request),
                TEST(test_too_many_clients),
                TEST(test_displaced_by_user),
                TEST(test_displaced_at_par),
                TEST(test_displaced_last),
                TEST(test_pace),
                TEST(test_deaf_client),
                TEST(test_idle_client),
                TEST(test_trickling_client),
                TEST(test_checkpoint),
                TEST(test_checkpoint_never_written),
                TEST(test_half_closed),
                TEST(test_no_newline),
                TEST(test_half_closed_stop),
                TEST(test_gone),
                TEST(test_strangers),
                TEST(test_no_descriptors),
                TEST(test_socket_file),
                TEST(test_stale_socket),
                TEST(test_long_path),
                TEST(test_passed_socket),
                TEST(test_passed_nonsense),
                TEST(test_import),
                TEST(test_strangers_descriptors),
                TEST(test_stray_descriptors),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
