/* SPDX-License-Identifier: MIT */
/*
 * The control socket's other end: the first byte says in what pieces the rest is sent, the second what the
 * trainer does about checkpoints.
 *
 * Each line, and what is left at the end, gets one answer, whole and in order, the same whatever the pieces;
 * a refusal has a text and a code; nothing is done that was not answered with "ok"; and nothing is left of
 * the client.
 *
 * It looks inside the module, so that a client can come without a connect().
 */
#include "daemon/control_inside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/base/log.h"
#include "daemon/refill.h"
#include "tests/fuzz/fuzz.h"

#define MAX_LINES   4
#define MAX_ANSWERS (1u << 16)

/* azpard as the socket sees it. */
struct fake {
        unsigned n_workers, n_paused, n_checkpoints, n_stopped, n_status;
        int checkpoint_done;
};

struct talk {
        struct fake fake;
        char answers[MAX_ANSWERS];
        size_t n;
};

static struct fake fake;
static sd_event *event;
static struct control *control;

static cJSON *fake_status(void *userdata) {
        (void) userdata;
        fake.n_status++;
        return cJSON_Parse("{\"ok\":true}");
}

static int fake_set_workers(void *userdata, unsigned n, struct error *e) {
        (void) userdata;
        if (n > 8)
                return error_set(e, -ERANGE, "%u workers are more than 8 slots", n);
        fake.n_workers++;
        return 0;
}

static int fake_set_paused(void *userdata, bool paused, struct error *e) {
        (void) userdata;
        (void) paused;
        (void) e;
        fake.n_paused++;
        return 0;
}

static int fake_checkpoint(void *userdata, uint64_t *ret_request, struct error *e) {
        (void) userdata;
        (void) e;
        *ret_request = ++fake.n_checkpoints;
        return 0;
}

static int fake_checkpoint_done(void *userdata, uint64_t request, uint64_t *ret_step) {
        (void) userdata;
        EXPECT(request == fake.n_checkpoints);
        *ret_step = 1234;
        return fake.checkpoint_done;
}

static int fake_import(void *userdata, int fd, uint64_t *ret_ticket, struct error *e) {
        (void) userdata;
        (void) e;
        (void) close(fd);
        *ret_ticket = 1;
        return 0;
}

static int fake_import_done(void *userdata, uint64_t ticket, struct refill_import *ret, struct error *e) {
        (void) userdata;
        (void) ticket;
        (void) e;
        *ret = (struct refill_import){ .samples = 1 };
        return 1;
}

static int fake_reload(void *userdata, cJSON **ret_answer, struct error *e) {
        (void) userdata;
        *ret_answer = cJSON_Parse("{\"ok\":true,\"protocol\":1,\"changed\":[],\"restart\":[]}");
        return *ret_answer ? 0 : error_set(e, -ENOMEM, "out of memory");
}

static int fake_stop(void *userdata, struct error *e) {
        (void) userdata;
        (void) e;
        fake.n_stopped++;
        return 0;
}

static const struct control_ops fake_ops = { fake_status,      fake_set_workers,     fake_set_paused,
                                             fake_checkpoint,  fake_checkpoint_done, fake_import,
                                             fake_import_done, fake_reload,          fake_stop };

/* So that control_free() also runs, and AddressSanitizer sees what it forgets. */
static void tear_down(void) {
        control_free(control);
        sd_event_unref(event);
}

static void set_up(void) {
        char path[96];

        log_open("fuzz-control", (enum log_level) 0);
        (void) fuzz_folder();
        (void) snprintf(path, sizeof(path), "%s/socket", fuzz_folder_path);
        EXPECT(sd_event_new(&event) >= 0);
        EXPECT(control_new(event, path, -1, &fake_ops, NULL, &control, NULL) == 0);
        EXPECT(atexit(tear_down) == 0);
}

static void turn_loop(void) {
        int r;

        do
                r = sd_event_run(event, 0);
        while (r > 0);
        EXPECT(r == 0);
}

static bool is_connected(void) {
        return control->clients[0];
}

/* Turn the loop and read answers until neither brings anything: a full socket makes azpard wait. */
static void exchange(int fd, struct talk *t) {
        ssize_t n;

        do {
                turn_loop();
                n = recv(fd, t->answers + t->n, sizeof(t->answers) - t->n, MSG_DONTWAIT);
                t->n += n > 0 ? (size_t) n : 0;
                EXPECT(t->n < sizeof(t->answers));
        } while (n > 0);
}

/* Serve until nothing more happens; a checkpoint that is waited for is written or fails. */
static void serve_all(int fd, struct talk *t, int outcome) {
        exchange(fd, t);
        while (is_connected() && control->clients[0]->waits) {
                control_poll(control);
                EXPECT(control->clients[0]->waits);
                fake.checkpoint_done = outcome;
                control_poll(control);
                fake.checkpoint_done = 0;
                EXPECT(!is_connected() || !control->clients[0]->waits);
                exchange(fd, t);
        }
}

static void talk(const uint8_t *bytes, size_t n, size_t n_piece, int outcome, struct talk *ret) {
        int fds[2];

        fake = (struct fake){ 0 };
        ret->n = 0;
        EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
        control_admit(control, fds[1], &(struct ucred){ .uid = geteuid() });
        EXPECT(is_connected());
        for (size_t at = 0; at < n && is_connected();) {
                ssize_t sent = send(fds[0], bytes + at, MIN(n_piece, n - at), MSG_NOSIGNAL);

                EXPECT(sent > 0);
                at += (size_t) sent;
                serve_all(fds[0], ret, outcome);
        }
        if (is_connected()) {
                EXPECT(shutdown(fds[0], SHUT_WR) == 0);
                serve_all(fds[0], ret, outcome);
        }
        (void) close(fds[0]);
        turn_loop();
        EXPECT(!is_connected());
        ret->fake = fake;
}

/* One answer, parsed. Return: whether it is "ok". */
static bool check_answer(const char *line, size_t n) {
        cJSON *answer = cJSON_ParseWithLength(line, n);
        const cJSON *ok = cJSON_GetObjectItemCaseSensitive(answer, "ok");
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "error"));
        const char *code = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "code"));
        bool is_ok = cJSON_IsTrue(ok);

        EXPECT(cJSON_IsBool(ok));
        EXPECT(is_ok ? !text && !code : text && *text && code && *code == 'E');
        for (size_t i = 0; i < n; i++)
                EXPECT(line[i] >= ' ' && line[i] <= '~');
        cJSON_Delete(answer);
        return is_ok;
}

/* The answers to @n bytes of requests. */
static void check_talk(const struct talk *t, const uint8_t *bytes, size_t n, int outcome) {
        size_t n_answers = 0, n_ok = 0, n_lines = 0, n_line = 0, n_nul = 0;
        bool too_long = false, has_nul = false;
        const char *at = t->answers, *end = t->answers + t->n;
        const struct fake *f = &t->fake;

        for (; at < end; n_answers++) {
                const char *newline = memchr(at, '\n', (size_t) (end - at));

                EXPECT(newline);
                n_ok += check_answer(at, (size_t) (newline - at));
                at = newline + 1;
        }
        for (size_t i = 0; i < n && !too_long; i++) {
                n_line++;
                has_nul =
                        has_nul || bytes[i] == 0 || (n_line >= 6 && memcmp(bytes + i - 5, "\\u0000", 6) == 0);
                if (bytes[i] == '\n') {
                        n_lines++;
                        n_nul += has_nul;
                        has_nul = false;
                        n_line = 0;
                }
                too_long = n_line == CONTROL_REQUEST_MAX;
        }
        if (n_line > 0 && !too_long) { /* without a newline, but nothing comes any more */
                n_lines++;
                n_nul += has_nul;
        }
        EXPECT(n_answers == n_lines + too_long);
        /* "version" asks nobody */
        EXPECT(n_ok >= f->n_workers + f->n_paused + f->n_stopped + f->n_status +
                               (outcome > 0 ? f->n_checkpoints : 0));
        EXPECT(n_ok <= n_lines - n_nul);
}

/* Bytes of the first @n_lines lines: more of them take long and show nothing new. */
static size_t upto_line(const uint8_t *bytes, size_t n, size_t n_lines) {
        for (size_t i = 0; i < n; i++)
                if (bytes[i] == '\n' && --n_lines == 0)
                        return i + 1;
        return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        static struct talk whole, pieces;
        size_t n_piece;
        int outcome, fd;

        if (n < 2)
                return 0;
        if (!control)
                set_up();
        fd = fuzz_next_fd();
        n_piece = bytes[0];
        outcome = bytes[1] & 1 ? 1 : -EIO;
        bytes += 2;
        n = upto_line(bytes, n - 2, MAX_LINES);
        talk(bytes, n, n, outcome, &whole);
        check_talk(&whole, bytes, n, outcome);
        if (n_piece > 0 && n_piece < n && n / n_piece < 16) {
                talk(bytes, n, n_piece, outcome, &pieces);
                EXPECT(whole.n == pieces.n && memcmp(whole.answers, pieces.answers, whole.n) == 0);
                EXPECT(memcmp(&whole.fake, &pieces.fake, sizeof(fake)) == 0);
        }
        EXPECT(fuzz_next_fd() == fd);
        return 0;
}
