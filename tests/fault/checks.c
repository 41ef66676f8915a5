/* SPDX-License-Identifier: MIT */
/* Negative controls and clock jumps; see checks.h. */
#include "tests/fault/checks.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cjson/cJSON.h>
#include "common/base/clock.h"
#include "common/exchange/window.h"
#include "tests/fault/runs.h"

/* ---- negative controls ---- */

static unsigned n_complaints_before;

/* From here on a complaint is expected. */
static void expect(struct rig *r) {
        n_complaints_before = r->n_complaints;
        r->quiet = true;
}

static void must_have_complained(struct rig *r, const char *about) {
        bool has = r->n_complaints > n_complaints_before;

        rig_kill(r);
        r->quiet = false;
        r->n_complaints = n_complaints_before;
        if (has)
                (void) printf("found out, as it must be: %s\n", about);
        else
                rig_complain(r, "not found out: %s", about);
}

static void control_trick(struct rig *r, uint32_t trick, const char *about) {
        unsigned patience_s = r->patience_s;

        expect(r);
        r->patience_s = trick == FAULT_TRICK_HANG ? 2 : patience_s;
        runs_prepare_empty(r);
        atomic_store(&r->kept->trick, trick);
        runs_start_once(r, 100, 0); /* before there are children */
        r->patience_s = patience_s;
        must_have_complained(r, about);
}

/* azpard stores into the window's mapping, but nothing reaches the file. */
static void control_swallow(struct rig *r) {
        runs_prepare_empty(r);
        rig_bring_back(r);
        atomic_store(&r->control->trick, FAULT_TRICK_SWALLOW);
        rig_start(r);
        (void) rig_wait(r, "games are committed", runs_is_committed);
        rig_stop(r);
        expect(r);
        (void) rig_prove(r);
        must_have_complained(r, "a window whose writes were swallowed");
}

static int open_window_file(struct rig *r) {
        char path[600];

        (void) snprintf(path, sizeof(path), "%s/window", r->state);
        return open(path, O_RDWR | O_CLOEXEC);
}

/* One bit of the fifth sample. */
static void flip_bit(struct rig *r) {
        cleanup_(fd_closep) int fd = open_window_file(r);
        struct window_header h;
        unsigned char byte = 0;
        off_t at;

        if (pread(fd, &h, sizeof(h), 0) != sizeof(h))
                rig_complain(r, "the window's header cannot be read");
        at = WINDOW_HEADER_BYTES + 4 * (off_t) h.slot_bytes + 40;
        if (pread(fd, &byte, 1, at) != 1)
                rig_complain(r, "the window cannot be read");
        byte ^= 1;
        if (pwrite(fd, &byte, 1, at) != 1)
                rig_complain(r, "the window cannot be written");
}

/* The window's end moves by @n samples: the last one is lost, or what was never written is in. */
static void move_tail(struct rig *r, int n) {
        cleanup_(fd_closep) int fd = open_window_file(r);
        uint64_t tail = 0;
        off_t at = offsetof(struct window_header, tail);

        if (pread(fd, &tail, sizeof(tail), at) != sizeof(tail))
                rig_complain(r, "the window cannot be read");
        tail += (uint64_t) n;
        if (pwrite(fd, &tail, sizeof(tail), at) != sizeof(tail))
                rig_complain(r, "the window cannot be written");
}

/* The last sample once more, as a well-formed one with a number of its own. */
static void append_again(struct rig *r) {
        cleanup_(window_freep) struct window *w = NULL;
        static struct sample s;
        static unsigned char record[4096];
        struct window_item item = { .bytes = record + 1 }; /* behind the array's header of one byte */
        cleanup_(fd_closep) int fd = open(r->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct error e = ERROR_INIT;
        size_t n_bytes = 0;

        if (window_open(fd, "window", r->game, r->config.replay_window, &w, &e) < 0 ||
            window_read(w, window_tail(w) - 1, &s) != 0 ||
            sample_encode_record(r->game, &s, 1, record, sizeof(record), &n_bytes) < 0) {
                rig_complain(r, "the last sample cannot be read: %s", e.text);
                return;
        }
        item.n_bytes = (uint32_t) n_bytes - 1;
        if (window_append(w, &item, 1) < 0)
                rig_complain(r, "the window cannot be written");
}

static void control_tampered(struct rig *r, void (*tamper)(struct rig *r), const char *about) {
        unsigned before = r->n_complaints;

        rig_bring_back(r);
        (void) rig_prove(r);
        if (r->n_complaints > before)
                return;
        tamper(r);
        expect(r);
        (void) rig_prove(r);
        must_have_complained(r, about);
}

static void lose_last(struct rig *r) {
        move_tail(r, -1);
}

static void gain_one(struct rig *r) {
        move_tail(r, 1);
}

void checks_controls(struct rig *r) {
        control_trick(r, FAULT_TRICK_CRASH, "an azpard that crashes at start");
        control_trick(r, FAULT_TRICK_HANG, "an azpard that hangs at start");
        control_swallow(r);
        runs_prepare_stop(r);
        control_tampered(r, flip_bit, "a flipped bit in the window");
        control_tampered(r, lose_last, "a window that lost its last sample");
        control_tampered(r, gain_one, "a window with one sample too many");
        control_tampered(r, append_again, "a window that has a sample twice");
}

/* ---- clocks ---- */

#define YEAR_NS (INT64_C(365) * 86400 * (int64_t) NS_PER_S)

static double number(const cJSON *object, const char *name) {
        const cJSON *item = cJSON_GetObjectItem(object, name);

        return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* A duration that azpard measured: not negative, and not a matter of years. */
static void check_age(struct rig *r, const cJSON *object, const char *name) {
        double age = number(object, name);

        if (age < 0 || age > 86400)
                rig_complain(r, "%s is %g", name, age);
}

static void check_child(struct rig *r, const cJSON *child) {
        check_age(r, child, "heartbeat_age_s");
        if (number(child, "restarts") != 0)
                rig_complain(r, "a child was restarted");
}

static void check_status(struct rig *r) {
        static char answer[1 << 16];
        cJSON *json, *child;

        if (!rig_ask(r, "{\"command\":\"status\"}", answer, sizeof(answer))) {
                rig_complain(r, "no status");
                return;
        }
        json = cJSON_Parse(answer);
        check_age(r, json, "uptime_s");
        check_age(r, cJSON_GetObjectItem(json, "publish"), "age_s");
        check_age(r, cJSON_GetObjectItem(json, "checkpoint"), "age_s");
        check_child(r, cJSON_GetObjectItem(json, "trainer"));
        cJSON_ArrayForEach(child, cJSON_GetObjectItem(json, "workers")) check_child(r, child);
        if (number(json, "generation_age_s") < 0)
                rig_complain(r, "the model will be made in the future");
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(json, "state")), "training") != 0)
                rig_complain(r, "the state is %s", cJSON_GetObjectItem(json, "state")->valuestring);
        cJSON_Delete(json);
}

/* azpard works for a few of its seconds, and all is as it should be. */
static void work(struct rig *r) {
        runs_ticks(r, 0, 0);
        runs_publish(r, 0, 0);
        runs_checkpoint(r, 0, 0);
        check_status(r);
}

static void jump(struct rig *r, int64_t shift_ns, bool flips) {
        atomic_store(&r->control->realtime_shift_ns, shift_ns);
        atomic_store(&r->control->flips, flips);
}

void checks_clocks(struct rig *r) {
        static const struct {
                const char *name;
                int64_t shift_ns;
                bool flips;
        } jumps[] = {
                { "30 years back", -30 * YEAR_NS, false },
                { "30 years ahead", 30 * YEAR_NS, false },
                { "back and forth at every look", 30 * YEAR_NS, true },
                { "an hour back", INT64_C(-3600) * (int64_t) NS_PER_S, false },
        };

        for (size_t i = 0; i < N_ELEMENTS(jumps); i++) {
                runs_prepare_empty(r);
                runs_start(r);
                work(r);
                jump(r, jumps[i].shift_ns, jumps[i].flips); /* while it runs */
                work(r);
                rig_stop(r);
                runs_start(r); /* and with a clock that is wrong from the start, on files from another time */
                work(r);
                jump(r, 0, false);
                work(r);
                runs_end(r);
                (void) printf("clock jumped %s: nobody cared\n", jumps[i].name);
        }
}
