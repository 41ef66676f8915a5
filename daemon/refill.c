/* SPDX-License-Identifier: MIT */
/*
 * Refill; see refill.h.  Process: azpard.
 *
 * A file is read twice: first all of it is checked, so that a damaged one is set aside whole, then it is
 * taken in. The second reading comes from the page cache.  Turns of TURN_NS take turns with those of the
 * lanes, which are longer: lanes that never run empty must not keep files waiting for ever.  While the disk
 * reads or syncs there is none.
 *
 *      REST -> LOOK -> REST -> CHECK -> TAKE -> REST ... -> SYNC -> REMOVE ... -> REST
 *
 * Syncing costs more than taking in a small file, so several are taken in before one sync lets all of them be
 * removed.
 */
#include "daemon/refill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/pause_point.h"
#include "daemon/batch_pass.h"
#include "daemon/file_intake.h"
#include "daemon/set_aside.h"

#define TURN_NS         (NS_PER_MS / 2) /* a quarter of what lanes get */
#define PRIORITY        10              /* of its event source: as lanes and clients, in turn with them */
#define LOOK_NS         NS_PER_S
#define LOOK_AGAIN_NS   (5 * NS_PER_S)      /* with files left from the last look */
#define WAIT_NS         (5 * NS_PER_S)      /* after a file that could not be removed */
#define TAKEN_MAX       WINDOW_MARKS        /* so that each of their folders keeps its mark */
#define TAKEN_BYTES_MAX (UINT64_C(8) << 20) /* and one file more */
#define RATE_TICKS      11

enum step { STEP_REST, STEP_LOOK, STEP_CHECK, STEP_TAKE, STEP_SYNC, STEP_REMOVE };

/* The file at hand. */
struct file {
        int fd;
        bool is_import;           /* of a client; else a spilled one */
        struct spill_entry entry; /* spilled */
        char path[SPILL_ENTRY_PATH_MAX];
        struct stat st;
        struct refill_import result;
};

/* Spilled files whose samples are in the window, but not yet durable. */
struct taken {
        struct spill_entry entry;
        struct stat st;
};

struct refill {
        struct refill_options o;
        sd_event_source *turn;
        struct spill_list *list;
        struct batch_pass *pass;
        struct file_intake *intake;
        struct disk_request request;
        enum step step;
        bool stopped;
        struct file file;
        struct batch_file_item item; /* read, and not taken yet: if has_item */
        bool has_item, at_end;
        struct taken taken[TAKEN_MAX]; /* to be removed, from the last one on */
        unsigned n_taken;
        char remove_path[SPILL_ENTRY_PATH_MAX];
        uint64_t taken_bytes;
        uint64_t sync_up_to; /* SYNC waits for that tail */
        uint64_t wait_ns;    /* nothing is begun before */
        uint64_t looked_ns;

        int import_fd;      /* waits for its turn; -1: none */
        uint64_t n_imports; /* the last one's ticket */
        bool import_ended;
        int import_error;
        struct refill_import import_result;
        struct error import_text;

        struct refill_counts counts;
        struct error failed; /* "": nothing */
        struct error logged; /* the last one that was */
        bool failed_since;   /* ... since the last look began */
        struct {
                uint64_t ns, samples;
        } ring[RATE_TICKS];
        unsigned n_ring;
};

/* ---- turns ---- */

/* Take a turn when the loop has nothing else to do. */
static void go_on(struct refill *r) {
        if (r->stopped)
                return;
        if (sd_event_source_set_time_relative(r->turn, 0) < 0 ||
            sd_event_source_set_enabled(r->turn, SD_EVENT_ONESHOT) < 0)
                return; /* the tick tries again */
}

static void on_ready(void *userdata) {
        go_on(userdata);
}

/* Several things that fail are told once, and not in turn with every look. */
static void note_failure(struct refill *r, const struct error *e) {
        if (!r->failed_since && strcmp(r->logged.text, e->text) != 0) {
                log_event(LOG_EVENT_REFILL_FAILED, LOG_FIELDS(LOG_TEXT(REASON, e->text)), "%s; trying again",
                          e->text);
                r->logged = *e;
        }
        r->failed = *e;
        r->failed_since = true;
}

/* ---- the end of a file ---- */

static void close_file(struct refill *r) {
        fd_closep(&r->file.fd);
        r->file = (struct file){ .fd = -1 };
        r->has_item = r->at_end = false;
        r->step = STEP_REST;
}

static void end_import(struct refill *r, int result, const struct error *e) {
        r->import_ended = true;
        r->import_error = result;
        r->import_result = r->file.result;
        r->import_text = e ? *e : ERROR_INIT;
        close_file(r);
        r->o.changed(r->o.userdata);
}

/* It cannot be read or removed now; its folder has to wait. */
static void fail_file(struct refill *r, int negative_errno, struct error *e) {
        if (r->file.is_import) {
                end_import(r, negative_errno, e);
                return;
        }
        error_prefix(e, "spilled file '%s'", r->file.path);
        note_failure(r, e);
        spill_list_block(r->list);
        close_file(r);
}

/* It is no batch file of this game. */
static void reject_file(struct refill *r, const struct error *why) {
        struct error e = ERROR_INIT;
        int s;

        if (r->file.is_import) {
                end_import(r, -EBADMSG, why);
                return;
        }
        if (set_aside_is_growing(r->file.fd, &r->file.st)) { /* the next look will tell */
                spill_list_block(r->list);
                close_file(r);
                return;
        }
        s = set_aside(r->o.state_fd, &r->file.entry, &r->file.st, why->text, &e);
        if (s < 0) {
                fail_file(r, s, &e);
                return;
        }
        if (s == 0) {
                log_event(LOG_EVENT_FILE_REJECTED,
                          LOG_FIELDS(LOG_TEXT(FILE, r->file.path), LOG_TEXT(REASON, why->text)),
                          "spilled file '%s' set aside: %s", r->file.path, why->text);
                r->counts.rejected++;
        }
        spill_list_done(r->list); /* what lies there now comes with the next look */
        close_file(r);
}

/* ---- removing what was taken in ---- */

static void remove_next(struct refill *r);

static void removed(struct disk_request *request, int result) {
        struct refill *r = (struct refill *) (void *) ((char *) request - offsetof(struct refill, request));
        struct error e = ERROR_INIT;
        char path[SPILL_ENTRY_PATH_MAX];

        PAUSE_POINT(REFILL_REMOVED);
        r->n_taken--;
        if (result < 0 && result != -ENOENT) {
                /* its samples will be recognised when it is read again */
                (void) error_errno(&e, result, "could not remove spilled file '%s'",
                                   spill_entry_path(&r->taken[r->n_taken].entry, path));
                note_failure(r, &e);
                r->wait_ns = clock_now_ns() + WAIT_NS;
        } else
                r->counts.files++;
        remove_next(r);
}

/* All of them are durable. */
static void remove_next(struct refill *r) {
        struct stat st;

        while (r->n_taken > 0) {
                const struct taken *t = &r->taken[r->n_taken - 1];

                /* Somebody may have put another file in its place, which comes in its turn. */
                (void) spill_entry_path(&t->entry, r->remove_path);
                if (fstatat(r->o.state_fd, r->remove_path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                    set_aside_is_same(&st, &t->st)) {
                        r->step = STEP_REMOVE;
                        disk_unlink(r->o.disk, &r->request, r->o.state_fd, r->remove_path);
                        PAUSE_POINT(REFILL_REMOVE_ASKED);
                        return;
                }
                r->n_taken--;
        }
        r->taken_bytes = 0;
        r->step = STEP_REST;
        go_on(r);
}

/* The file's samples are in the window: note it, to be removed when they are durable. */
static void note_taken(struct refill *r) {
        const struct file *f = &r->file;

        if (f->result.rounded > 0)
                log_event(LOG_EVENT_POLICIES_ROUNDED,
                          LOG_FIELDS(LOG_TEXT(FILE, f->path), LOG_NUMBER(SAMPLES, f->result.rounded)),
                          "'%s': the policies of %ju samples are no ratios of visits and were rounded",
                          f->path, (uintmax_t) f->result.rounded);
        r->counts.bytes += (uint64_t) f->st.st_size;
        r->taken_bytes += (uint64_t) f->st.st_size;
        r->taken[r->n_taken++] = (struct taken){ .entry = f->entry, .st = f->st };
        spill_list_done(r->list);
        close_file(r);
        PAUSE_POINT(REFILL_TAKEN);
}

/* ---- steps: each gives GO_ON, or WAIT when something else calls go_on() ---- */

enum { GO_ON, WAIT };

#define NO_FILE "it is not a regular file"

static int open_file(struct refill *r, int fd, struct error *e) {
        struct file *f = &r->file;

        f->fd = fd;
        if (fstat(fd, &f->st) < 0)
                return error_errno(e, -errno, "could not stat it");
        if (!S_ISREG(f->st.st_mode))
                return error_set(e, -EBADMSG, NO_FILE);
        /* io_uring gives up on a read that would wait for the disk if the file was opened to not wait */
        if (fcntl(fd, F_SETFL, 0) < 0)
                return error_errno(e, -errno, "could not make reads of it wait");
        if (f->is_import)
                file_intake_begin_import(r->intake);
        else
                file_intake_begin_spilled(r->intake, f->entry.folder);
        batch_pass_begin(r->pass, fd);
        r->step = STEP_CHECK;
        return 0;
}

static int begin_import(struct refill *r) {
        struct error e = ERROR_INIT;
        int s;

        r->file.is_import = true;
        (void) snprintf(r->file.path, sizeof(r->file.path), "import");
        s = open_file(r, TAKE_FD(r->import_fd), &e);
        if (s < 0)
                end_import(r, s, &e);
        return GO_ON;
}

/* A link and a socket are never opened, and whatever they are, they must not hold up what comes after them.
 */
static int could_not_open(struct refill *r, int positive_errno, struct error *e) {
        struct file *f = &r->file;

        if (fstatat(r->o.state_fd, f->path, &f->st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(f->st.st_mode))
                return error_set(e, -EBADMSG, NO_FILE);
        return error_errno(e, -positive_errno, "could not open it");
}

static int begin_spilled(struct refill *r) {
        struct error e = ERROR_INIT;
        int fd, s;

        (void) spill_entry_path(&r->file.entry, r->file.path);
        /* O_NONBLOCK: a FIFO of that name must not hang us */
        fd = openat(r->o.state_fd, r->file.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        s = fd < 0 ? could_not_open(r, errno, &e) : open_file(r, fd, &e);
        if (s == -ENOENT) { /* somebody took it away */
                spill_list_done(r->list);
                close_file(r);
        } else if (s == -EBADMSG)
                reject_file(r, &e);
        else if (s < 0)
                fail_file(r, s, &e);
        return GO_ON;
}

/* Sync now, and remove what was taken in? */
static bool should_sync(const struct refill *r, bool has_next) {
        return r->n_taken == TAKEN_MAX || r->taken_bytes >= TAKEN_BYTES_MAX ||
               (r->n_taken > 0 && (!has_next || r->import_fd >= 0));
}

static int rest(struct refill *r) {
        uint64_t now_ns = clock_now_ns();
        struct spill_entry next;
        bool has_next = spill_list_next(r->list, &next);

        if (should_sync(r, has_next)) {
                r->sync_up_to = window_tail(r->o.window);
                r->step = STEP_SYNC;
                return GO_ON;
        }
        if (r->import_fd >= 0)
                return begin_import(r);
        if (now_ns < r->wait_ns)
                return WAIT;
        if (r->n_taken == 0 &&
            (!r->looked_ns || now_ns - r->looked_ns >= (has_next ? LOOK_AGAIN_NS : LOOK_NS))) {
                r->step = STEP_LOOK;
                return GO_ON;
        }
        /* While the window cannot be made durable, the files are the better place. */
        if (!has_next || window_sync_error(r->o.sync))
                return WAIT;
        r->file.entry = next;
        return begin_spilled(r);
}

static int look(struct refill *r) {
        struct error e = ERROR_INIT;
        bool failed;
        int s = spill_list_look(r->list, TURN_NS, &e);

        if (s == SPILL_LIST_E_MORE)
                return GO_ON;
        failed = r->failed_since;
        r->failed_since = false;
        if (s < 0)
                note_failure(r, &e);
        else if (!failed && r->failed.text[0]) {
                log_event(LOG_EVENT_REFILL_RECOVERED, LOG_NO_FIELDS, "spilled files are taken in again");
                r->failed = r->logged = ERROR_INIT;
        }
        r->looked_ns = clock_now_ns();
        r->step = STEP_REST;
        return GO_ON;
}

/* The first pass is over, and the file is good. */
static int begin_taking(struct refill *r, struct error *e) {
        int s = file_intake_begin_taking(r->intake, batch_pass_name(r->pass), e);

        if (s < 0)
                return s;
        PAUSE_POINT(REFILL_CHECKED);
        batch_pass_begin(r->pass, r->file.fd);
        r->step = STEP_TAKE;
        return 0;
}

static int check(struct refill *r) {
        struct error e = ERROR_INIT;
        int s;

        s = batch_pass_next(r->pass, &r->item, &e);
        if (s == BATCH_PASS_E_WAIT)
                return WAIT;
        if (s == 0) {
                s = file_intake_check(r->intake, &r->item, &e);
                r->file.result.rounded += r->item.is_rounded;
        } else if (s == BATCH_PASS_E_END)
                s = begin_taking(r, &e);
        if (s == -EBADMSG)
                reject_file(r, &e);
        else if (s < 0)
                fail_file(r, s, &e);
        return GO_ON;
}

/* The window cannot be written: the tick tries again with the same sample, and the status shows it. */
static int wait_for_window(struct refill *r, int negative_errno) {
        struct error e = ERROR_INIT;

        (void) error_errno(&e, negative_errno, "could not write spilled samples to the replay window");
        note_failure(r, &e);
        return WAIT;
}

static void count(struct refill *r, const struct file_intake_done *done) {
        r->counts.samples += done->samples;
        r->counts.duplicates += done->duplicates;
        r->file.result.samples += done->samples;
        r->file.result.duplicates += done->duplicates;
}

/* All samples have been seen, and the last game waits to be appended. */
static int end_taking(struct refill *r) {
        struct file_intake_done done = { 0 };
        int s = file_intake_end(r->intake, &done);

        count(r, &done);
        if (s < 0)
                return wait_for_window(r, s);
        if (!r->file.is_import) {
                note_taken(r);
                return GO_ON;
        }
        r->sync_up_to = window_tail(r->o.window);
        r->step = STEP_SYNC;
        return GO_ON;
}

static int take(struct refill *r) {
        struct file_intake_done done = { 0 };
        struct error e = ERROR_INIT;
        int s;

        if (!r->has_item) {
                s = r->at_end ? BATCH_PASS_E_END : batch_pass_next(r->pass, &r->item, &e);
                if (s == BATCH_PASS_E_WAIT)
                        return WAIT;
                r->at_end = s == BATCH_PASS_E_END;
                if (r->at_end)
                        return end_taking(r);
                if (s == 0)
                        s = file_intake_identify(r->intake, &r->item, &e);
                if (s < 0) { /* it was good a moment ago */
                        error_prefix(&e, "it changed while it was read");
                        if (s == -EBADMSG)
                                reject_file(r, &e);
                        else
                                fail_file(r, s, &e);
                        return GO_ON;
                }
                r->has_item = true;
        }
        s = file_intake_take(r->intake, &r->item, &done);
        count(r, &done);
        if (s < 0)
                return wait_for_window(r, s);
        r->has_item = false;
        return GO_ON;
}

static int sync_window(struct refill *r) {
        if (window_durable(r->o.window) < r->sync_up_to) {
                window_sync_request(r->o.sync);
                return WAIT; /* until window_sync's callback, or the tick */
        }
        if (r->file.is_import) {
                r->counts.files++;
                r->counts.bytes += (uint64_t) r->file.st.st_size;
                end_import(r, 0, NULL);
        }
        PAUSE_POINT(REFILL_SYNCED);
        remove_next(r);
        return WAIT; /* it goes on by itself */
}

static int step(struct refill *r) {
        switch (r->step) {
        case STEP_REST:
                return rest(r);
        case STEP_LOOK:
                return look(r);
        case STEP_CHECK:
                return check(r);
        case STEP_TAKE:
                return take(r);
        case STEP_SYNC:
                return sync_window(r);
        case STEP_REMOVE:
                return WAIT;
        }
        return WAIT;
}

static int on_turn(sd_event_source *source, uint64_t usec, void *userdata) {
        struct refill *r = userdata;
        uint64_t begin_ns = clock_now_ns();

        (void) source;
        (void) usec;
        while (!r->stopped) {
                if (step(r) == WAIT)
                        return 0;
                if (clock_now_ns() - begin_ns >= TURN_NS) {
                        go_on(r);
                        return 0;
                }
        }
        return 0;
}

/* ---- for the rest of azpard ---- */

static int make(struct refill *r, sd_event *event) {
        int s;

        s = file_intake_new(r->o.game, r->o.window, r->o.found, &r->intake);
        if (s == 0)
                s = spill_list_new(r->o.state_fd, &r->list);
        if (s == 0)
                s = batch_pass_new(r->o.game, r->o.disk, on_ready, r, &r->pass);
        if (s == 0)
                s = sd_event_add_time_relative(event, &r->turn, CLOCK_MONOTONIC, 0, 1, on_turn, r);
        if (s >= 0)
                s = sd_event_source_set_priority(r->turn, PRIORITY);
        return MIN(s, 0);
}

int refill_new(sd_event *event, const struct refill_options *o, struct refill **ret, struct error *e) {
        cleanup_(refill_freep) struct refill *r = calloc(1, sizeof(*r));
        int s;

        if (!r)
                return error_errno(e, -ENOMEM, "could not prepare for spilled files");
        r->o = *o;
        r->request.done = removed;
        r->file.fd = r->import_fd = -1;
        s = make(r, event);
        if (s < 0)
                return error_errno(e, s, "could not prepare for spilled files");
        s = spill_folder_clean_all(o->state_fd);
        if (s < 0)
                log_event(LOG_EVENT_SPILL_LEFTOVERS, LOG_FIELDS(LOG_NUMBER(ERRNO, -s)),
                          "could not remove half-written spill files: %s", strerror(-s));
        window_sync_notify(o->sync, on_ready, r);
        *ret = TAKE_PTR(r);
        return 0;
}

void refill_free(struct refill *r) {
        if (!r)
                return;
        r->turn = sd_event_source_disable_unref(r->turn);
        fd_closep(&r->file.fd);
        fd_closep(&r->import_fd);
        batch_pass_free(r->pass);
        spill_list_free(r->list);
        file_intake_free(r->intake);
        free(r);
}

void refill_tick(struct refill *r) {
        memmove(&r->ring[1], &r->ring[0], (RATE_TICKS - 1) * sizeof(r->ring[0]));
        r->ring[0].ns = clock_now_ns();
        r->ring[0].samples = r->counts.samples;
        r->n_ring = MIN(r->n_ring + 1, RATE_TICKS);
        go_on(r);
}

void refill_stop(struct refill *r) {
        r->stopped = true;
        r->o.changed(r->o.userdata); /* nobody need wait for an import any more */
}

int refill_import(struct refill *r, int fd, uint64_t *ret_ticket, struct error *e) {
        cleanup_(fd_closep) int owned_fd = fd;
        struct stat st;

        if (r->import_fd >= 0 || r->file.is_import)
                return error_set(e, -EBUSY, "another import is under way");
        if (fstat(owned_fd, &st) < 0)
                return error_errno(e, -errno, "could not stat the file to import");
        if (!S_ISREG(st.st_mode))
                return error_set(e, -EINVAL, "what is to be imported is not a regular file");
        r->import_fd = TAKE_FD(owned_fd);
        r->import_ended = false;
        *ret_ticket = ++r->n_imports;
        go_on(r);
        return 0;
}

int refill_import_done(const struct refill *r, uint64_t ticket, struct refill_import *ret, struct error *e) {
        if (ticket != r->n_imports)
                return error_set(e, -ESTALE, "another import has come since");
        if (!r->import_ended)
                return r->stopped ? error_set(e, -ESHUTDOWN, "azpard is stopping") : 0;
        if (r->import_error < 0) {
                if (e)
                        *e = r->import_text;
                return r->import_error;
        }
        *ret = r->import_result;
        return 1;
}

const struct refill_counts *refill_counts(const struct refill *r) {
        return &r->counts;
}

struct spill_waiting refill_waiting(const struct refill *r) {
        return spill_list_waiting(r->list);
}

double refill_samples_per_s(const struct refill *r) {
        unsigned oldest = r->n_ring - 1;

        if (r->n_ring < 2 || r->ring[0].ns == r->ring[oldest].ns)
                return 0.0;
        return (double) (r->ring[0].samples - r->ring[oldest].samples) * NS_PER_S /
               (double) (r->ring[0].ns - r->ring[oldest].ns);
}

const char *refill_reading(const struct refill *r, uint64_t *ret_n_done, uint64_t *ret_n_bytes) {
        if (r->step != STEP_CHECK && r->step != STEP_TAKE)
                return NULL;
        /* each of the two readings is half of it */
        *ret_n_done =
                (batch_pass_offset(r->pass) + (r->step == STEP_TAKE ? (uint64_t) r->file.st.st_size : 0)) / 2;
        *ret_n_bytes = (uint64_t) r->file.st.st_size;
        return r->file.path;
}

const char *refill_error(const struct refill *r) {
        return r->failed.text[0] ? r->failed.text : NULL;
}
