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
 *
 * Games are appended as games: a run of samples with ascending plies (and, where there are identities,
 * ascending sequence numbers without a hole) appears in the window with one store.
 */
#include "daemon/refill.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/pause_point.h"
#include "common/exchange/segment.h"
#include "daemon/batch_pass.h"
#include "daemon/imports.h"
#include "daemon/set_aside.h"

#define TURN_NS            (NS_PER_MS / 2) /* a quarter of what lanes get */
#define PRIORITY           10              /* of its event source: as lanes and clients, in turn with them */
#define LOOK_NS            NS_PER_S
#define LOOK_AGAIN_NS      (5 * NS_PER_S)      /* with files left from the last look */
#define WAIT_NS            (5 * NS_PER_S)      /* after a file that could not be removed */
#define TAKEN_MAX          WINDOW_MARKS        /* so that each of their folders keeps its mark */
#define TAKEN_BYTES_MAX    (UINT64_C(8) << 20) /* and one file more */
#define RATE_TICKS         11
#define INCARNATIONS_AHEAD (UINT64_C(1) << 32) /* as in intake.c */

enum step { STEP_REST, STEP_LOOK, STEP_CHECK, STEP_TAKE, STEP_SYNC, STEP_REMOVE };
enum kind { KIND_UNKNOWN, KIND_OWN, KIND_FOREIGN };

/* The file at hand. */
struct file {
        int fd;
        bool is_import;           /* of a client; else a spilled one */
        struct spill_entry entry; /* spilled */
        char path[SPILL_ENTRY_PATH_MAX];
        struct stat st;
        enum kind kind;
        uint64_t name;            /* foreign: the samples' incarnation */
        uint64_t incarnation_end; /* own: they are below */
        uint64_t n_seen;          /* samples, in this pass, and the last one's identity: */
        struct sample_id last;
        struct sample_id newest; /* of its folder, or of this foreign file, in the window: if has_newest */
        bool has_newest;
        struct refill_import result;
};

/* Spilled files whose samples are in the window, but not yet durable. */
struct taken {
        struct spill_entry entry;
        struct stat st;
};

/* The game that is being put together. */
struct gathering {
        unsigned char *bytes; /* room for the largest record */
        size_t n_bytes;
        struct window_item items[GAME_MAX_PLIES];
        size_t n;
        struct sample_id last;
        uint16_t last_ply;
};

struct refill {
        struct refill_options o;
        sd_event_source *turn;
        struct spill_list *list;
        struct batch_pass *pass;
        struct disk_request request;
        enum step step;
        bool stopped;
        struct file file;
        struct batch_file_item item; /* read, and not taken yet: if has_item */
        struct sample_id item_id;    /* as its worker or its file numbers it */
        bool has_item, item_is_new, at_end;
        struct gathering game;
        struct taken taken[TAKEN_MAX]; /* to be removed, from the last one on */
        unsigned n_taken;
        char remove_path[SPILL_ENTRY_PATH_MAX];
        uint64_t taken_bytes;
        uint64_t sync_up_to; /* SYNC waits for that tail */
        uint64_t wait_ns;    /* nothing is begun before */
        uint64_t looked_ns;

        struct sample_id newest[SEGMENT_MAX_WORKERS]; /* spilled, in the window; incarnation 0: none */
        struct imports *imports;

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
        r->game.n = r->game.n_bytes = 0;
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

/* ---- what is in a file ---- */

static bool is_newer(const struct sample_id *a, const struct sample_id *b) {
        if (a->incarnation != b->incarnation)
                return a->incarnation > b->incarnation;
        return a->sequence > b->sequence;
}

/* A sample of this window's own workers must lie in its worker's folder, after the one before it. */
static int check_own(struct refill *r, const struct sample_id *id, struct error *e) {
        struct file *f = &r->file;

        if (f->is_import)
                return 0; /* skipped: see take_item() */
        if (id->slot != f->entry.folder || id->slot >= SEGMENT_MAX_WORKERS)
                return error_set(e, -EBADMSG, "sample %ju: made by worker %ju, not %ju",
                                 (uintmax_t) f->n_seen, (uintmax_t) id->slot, (uintmax_t) f->entry.folder);
        if (id->incarnation == 0 || id->incarnation >= f->incarnation_end)
                return error_set(e, -EBADMSG, "sample %ju: incarnation %ju is impossible",
                                 (uintmax_t) f->n_seen, (uintmax_t) id->incarnation);
        if (f->n_seen > 0 && !is_newer(id, &f->last))
                return error_set(e, -EBADMSG,
                                 "sample %ju: identity (%ju, %ju) does not follow (%ju, %ju) before it",
                                 (uintmax_t) f->n_seen, (uintmax_t) id->incarnation, (uintmax_t) id->sequence,
                                 (uintmax_t) f->last.incarnation, (uintmax_t) f->last.sequence);
        return 0;
}

/* In either pass: nobody promises that the file stays as it is. */
static int check_item(struct refill *r, const struct batch_file_item *item, struct error *e) {
        struct file *f = &r->file;
        bool is_own = item->origin == window_origin(r->o.window);
        enum kind kind = is_own ? KIND_OWN : KIND_FOREIGN;
        int s = 0;

        if (f->kind != KIND_UNKNOWN && f->kind != kind)
                return error_set(e, -EBADMSG,
                                 "sample %ju: samples of this window and others in one file; import the "
                                 "others alone",
                                 (uintmax_t) f->n_seen);
        f->kind = kind;
        if (is_own)
                s = check_own(r, &item->sample.id, e);
        f->last = item->sample.id;
        f->n_seen++;
        return s;
}

/* The first pass is over, and the file is good: what of it is in the window already? */
static int begin_taking(struct refill *r, struct error *e) {
        struct file *f = &r->file;
        int s = 0;

        f->name = batch_pass_name(r->pass);
        f->n_seen = 0;
        if (f->kind == KIND_OWN && !f->is_import) {
                s = window_raise_incarnation(r->o.window, f->last.incarnation);
                f->incarnation_end = window_next_incarnation(r->o.window);
                f->newest = r->newest[f->entry.folder];
                f->has_newest = f->newest.incarnation != 0;
        } else {
                f->kind = f->kind == KIND_UNKNOWN ? KIND_FOREIGN : f->kind; /* no sample: none of ours */
                f->has_newest =
                        imports_find(r->imports, f->name, window_first(r->o.window), &f->newest.sequence);
        }
        if (s < 0)
                return error_errno(e, s, "could not note its incarnation");
        PAUSE_POINT(REFILL_CHECKED);
        batch_pass_begin(r->pass, f->fd);
        r->step = STEP_TAKE;
        return 0;
}

/* ---- into the window ---- */

/* Return: 0 or a negative errno: nothing of the game is in the window, and it is kept. */
static int append_game(struct refill *r) {
        struct gathering *g = &r->game;
        struct file *f = &r->file;
        struct sample_id last = g->last;
        int s;

        if (g->n == 0)
                return 0;
        last.slot += SAMPLE_SLOT_SPILLED;
        s = window_append_spilled(r->o.window, g->items, g->n, f->kind == KIND_OWN ? &last : NULL);
        if (s < 0)
                return s;
        PAUSE_POINT(REFILL_APPENDED);
        if (f->kind == KIND_OWN)
                r->newest[f->entry.folder] = g->last;
        else
                imports_note(r->imports, f->name, g->last.sequence, window_tail(r->o.window) - 1);
        r->counts.samples += g->n;
        f->result.samples += g->n;
        g->n = g->n_bytes = 0;
        return 0;
}

static bool continues_game(const struct gathering *g, const struct game *game, const struct sample *s) {
        return g->n > 0 && g->n < game->max_plies && s->ply > g->last_ply &&
               s->id.incarnation == g->last.incarnation && s->id.sequence == g->last.sequence + 1;
}

static void gather(struct refill *r, const struct sample *s, const struct sample_id *id) {
        struct gathering *g = &r->game;
        size_t size = sample_record_max_bytes(r->o.game), length = 0;
        int e;

        e = sample_encode(r->o.game, s, g->bytes + g->n_bytes, size - g->n_bytes, &length);
        assert(e == 0); /* at most max_plies of them, each checked */
        g->items[g->n++] =
                (struct window_item){ .bytes = g->bytes + g->n_bytes, .n_bytes = (uint32_t) length };
        g->n_bytes += length;
        g->last = *id;
        g->last_ply = s->ply;
}

/* The identity that @item gets in the window. Return: false: the window has it already. */
static bool identify(struct refill *r, struct batch_file_item *item, struct sample_id *ret_id) {
        struct file *f = &r->file;
        struct sample_id *id = &item->sample.id;
        uint64_t index = f->n_seen - 1;
        bool is_f32;

        if (f->kind == KIND_OWN && f->is_import)
                return false; /* an export of this very window */
        if (f->kind == KIND_OWN) {
                *ret_id = *id;
                id->slot += SAMPLE_SLOT_SPILLED;
                return !f->has_newest || is_newer(id, &f->newest);
        }
        is_f32 = item->shares_are_f32 || id->slot == SAMPLE_SLOT_IMPORTED_F32;
        *id = (struct sample_id){ .slot = is_f32 ? SAMPLE_SLOT_IMPORTED_F32 : SAMPLE_SLOT_IMPORTED,
                                  .incarnation = f->name,
                                  .sequence = index };
        *ret_id = *id;
        return !f->has_newest || index > f->newest.sequence;
}

/* The item at hand into the game at hand. Return: 0 or a negative errno: come again with the same item. */
static int take_item(struct refill *r) {
        int s = 0;

        if (!r->item_is_new || !continues_game(&r->game, r->o.game, &r->item.sample))
                s = append_game(r);
        if (s < 0)
                return s;
        if (r->item_is_new)
                gather(r, &r->item.sample, &r->item_id);
        else {
                r->counts.duplicates++;
                r->file.result.duplicates++;
        }
        r->has_item = false;
        return 0;
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
        f->incarnation_end = window_next_incarnation(r->o.window) + INCARNATIONS_AHEAD;
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

static int check(struct refill *r) {
        struct error e = ERROR_INIT;
        int s;

        s = batch_pass_next(r->pass, &r->item, &e);
        if (s == BATCH_PASS_E_WAIT)
                return WAIT;
        if (s == 0) {
                s = check_item(r, &r->item, &e);
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

/* All samples have been seen, and the last game waits to be appended. */
static int end_taking(struct refill *r) {
        int s = append_game(r);

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
                        s = check_item(r, &r->item, &e);
                if (s < 0) { /* it was good a moment ago */
                        error_prefix(&e, "it changed while it was read");
                        if (s == -EBADMSG)
                                reject_file(r, &e);
                        else
                                fail_file(r, s, &e);
                        return GO_ON;
                }
                r->has_item = true;
                r->item_is_new = identify(r, &r->item, &r->item_id);
        }
        s = take_item(r);
        return s < 0 ? wait_for_window(r, s) : GO_ON;
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

/* What the window holds of spilled and imported files. */
static int find_newest(struct refill *r) {
        const struct sample_id *found = r->o.found;
        uint64_t highest = 0;
        int s;

        for (unsigned i = 0; i < SEGMENT_MAX_WORKERS; i++) {
                r->newest[i] = found[SAMPLE_SLOT_SPILLED + i];
                highest = MAX(highest, r->newest[i].incarnation);
        }
        s = highest ? window_raise_incarnation(r->o.window, highest) : 0;
        if (s < 0)
                return s;
        return imports_new(found[SAMPLE_SLOT_IMPORTED].incarnation ||
                                           found[SAMPLE_SLOT_IMPORTED_F32].incarnation
                                   ? r->o.window
                                   : NULL,
                           &r->imports);
}

static int make(struct refill *r, sd_event *event) {
        int s;

        r->game.bytes = malloc(sample_record_max_bytes(r->o.game));
        if (!r->game.bytes)
                return -ENOMEM;
        s = find_newest(r);
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
        imports_free(r->imports);
        free(r->game.bytes);
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
