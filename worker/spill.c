/* SPDX-License-Identifier: MIT */
/*
 * Spilling; see spill.h.  Process: azpar-worker.
 *
 * Two texts: one is filled by spill_add() while the other is written.  A file is begun when there are as many
 * games as the program that azpar replaces puts into one, or as many bytes as make a write worth while, or
 * when the oldest game has waited for a second.
 *
 * One file at a time, each step begun by the callback of the one before it:
 *
 *      REST -> OPEN -> WRITE (as often as the disk takes less) -> SYNC -> RENAME -> SYNC_FOLDER -> REST
 *
 * Whatever fails leads back to REST with the text kept, and the whole file is tried again after a second, in
 * a new folder if somebody took ours away: a full disk costs memory of one text and time, never a game.  The
 * rename never replaces a file (RENAME_NOREPLACE): one that is there holds samples that azpard has not taken
 * yet.
 *
 * How much lies in the folder is only counted up, since azpard takes files away without telling; it is looked
 * up when the count reaches the limit.
 */
#include "worker/spill.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "common/base/clock.h"
#include "common/base/disk.h"
#include "common/base/pause_point.h"
#include "common/exchange/batch_file.h"
#include "common/exchange/spill_folder.h"

#define FILE_GAMES   10
#define FILE_BYTES   (UINT32_C(1) << 18)
#define FILE_AGE_NS  NS_PER_S
#define TEXT_BYTES   (UINT32_C(1) << 20)
#define RETRY_NS     NS_PER_S
#define BRACKETS_MAX 4 /* "[" or ",\n" before a sample, "]\n" behind the last one */

enum step { STEP_REST, STEP_OPEN, STEP_WRITE, STEP_SYNC, STEP_RENAME, STEP_SYNC_FOLDER };

struct text {
        char *bytes;
        size_t n;
        unsigned n_games, n_samples;
        uint64_t begun_ns; /* when its first game came */
};

struct spill {
        const struct game *game;
        uint64_t slot, origin;
        size_t text_bytes;
        int state_fd, folder_fd; /* folder_fd -1: it could not be made yet */
        struct disk *disk;

        struct text filling, writing;
        enum step step;
        struct disk_request request;
        int file_fd;
        size_t n_written;
        uint64_t number; /* of the next file */
        unsigned rename_flags;
        char name[SPILL_FOLDER_NAME_MAX], temporary[SPILL_FOLDER_NAME_MAX + 8];

        bool folder_dirty;     /* its last sync failed */
        bool freed;            /* nothing more is to be begun */
        uint64_t folder_bytes; /* at most so much lies in the folder */
        uint64_t looked_ns;    /* when that was looked up last */
        uint64_t retry_ns;     /* nothing is tried before */
        struct spill_counters counters;
        struct sample sample;
};

static void done(struct disk_request *request, int result);

/* ---- the folder ---- */

/* What lies in the folder: bytes, and the next number.  Temporary files are a dead predecessor's. */
static int look_into_folder(struct spill *s) {
        struct spill_folder_content content;
        int r;

        r = spill_folder_look(s->folder_fd, &content);
        if (r < 0)
                return r;
        s->folder_bytes = content.n_bytes;
        s->number = MAX(s->number, content.next_number);
        s->looked_ns = clock_now_ns();
        return 0;
}

static int open_folder(struct spill *s) {
        int r;

        if (s->folder_fd >= 0 && spill_folder_is_in_place(s->state_fd, s->slot, s->folder_fd) &&
            s->number <= SPILL_FOLDER_NUMBER_MAX)
                return 0;
        fd_closep(&s->folder_fd);
        s->folder_fd = -1;
        s->number = 0;
        r = spill_folder_make(s->state_fd, s->slot);
        if (r < 0)
                return r;
        s->folder_fd = r;
        r = spill_folder_clean(s->folder_fd);
        if (r == 0)
                r = look_into_folder(s);
        if (r < 0) {
                fd_closep(&s->folder_fd);
                s->folder_fd = -1;
        }
        return r;
}

/* ---- one file ---- */

/* The disk refused: keep the text, and try again later. */
static void give_up(struct spill *s, int negative_errno) {
        if (s->file_fd >= 0 && s->folder_fd >= 0)
                (void) unlinkat(s->folder_fd, s->temporary, 0); /* else the successor cleans up */
        fd_closep(&s->file_fd);
        s->file_fd = -1;
        s->counters.error = negative_errno;
        s->retry_ns = clock_now_ns() + RETRY_NS;
        s->step = STEP_REST;
}

static void begin_file(struct spill *s) {
        int r;

        r = open_folder(s);
        if (r < 0) {
                give_up(s, r);
                return;
        }
        spill_folder_name(s->number, s->name);
        (void) snprintf(s->temporary, sizeof(s->temporary), "%s" SPILL_FOLDER_TEMPORARY, s->name);
        s->step = STEP_OPEN;
        disk_open(s->disk, &s->request, s->folder_fd, s->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
                  0640);
}

static void write_more(struct spill *s) {
        s->step = STEP_WRITE;
        disk_write(s->disk, &s->request, s->file_fd, s->writing.bytes + s->n_written,
                   s->writing.n - s->n_written, s->n_written);
        PAUSE_POINT(SPILL_WRITE_ASKED);
}

static void rename_file(struct spill *s) {
        while (s->rename_flags == 0 && faccessat(s->folder_fd, s->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                spill_folder_name(++s->number, s->name);
        s->step = STEP_RENAME;
        PAUSE_POINT(SPILL_BEFORE_RENAME);
        disk_rename(s->disk, &s->request, s->folder_fd, s->temporary, s->folder_fd, s->name, s->rename_flags);
        PAUSE_POINT(SPILL_RENAME_ASKED);
}

/* The name is taken, or this file system knows no RENAME_NOREPLACE. Return: whether there is another way. */
static bool rename_otherwise(struct spill *s, int result) {
        if (s->rename_flags == 0 || (result != -EEXIST && result != -EINVAL) ||
            s->number == SPILL_FOLDER_NUMBER_MAX)
                return false;
        if (result == -EINVAL)
                s->rename_flags = 0; /* nobody but us makes files here: looking first does as well */
        else
                spill_folder_name(++s->number, s->name);
        rename_file(s);
        return true;
}

static void sync_folder(struct spill *s) {
        s->step = STEP_SYNC_FOLDER;
        disk_sync(s->disk, &s->request, s->folder_fd, false);
}

/* The memory behind a text that is not needed for now. */
static void give_back(const struct spill *s, struct text *t) {
        (void) madvise(t->bytes, s->text_bytes, MADV_DONTNEED);
}

/* It lies in place, so its games are committed. */
static void renamed(struct spill *s) {
        PAUSE_POINT(SPILL_RENAMED);
        s->counters.error = 0;
        s->counters.files++;
        s->counters.samples += s->writing.n_samples;
        s->counters.bytes += s->writing.n;
        s->folder_bytes += s->writing.n;
        s->number++;
        s->writing.n = s->writing.n_games = s->writing.n_samples = 0;
        fd_closep(&s->file_fd);
        s->file_fd = -1;
        sync_folder(s);
}

/* The file is in place, whatever @result says; but not before the folder is synced will a power cut leave it
 * there. */
static void synced_folder(struct spill *s, int result) {
        s->counters.error = MIN(result, 0);
        s->folder_dirty = result < 0;
        if (s->folder_dirty)
                s->retry_ns = clock_now_ns() + RETRY_NS;
        s->step = STEP_REST;
        if (spill_is_idle(s)) {
                give_back(s, &s->filling);
                give_back(s, &s->writing);
        }
}

static void wrote(struct spill *s, int n) {
        if (n == 0) {
                give_up(s, -EIO);
                return;
        }
        s->n_written += (size_t) n;
        if (s->n_written < s->writing.n) {
                write_more(s);
                return;
        }
        PAUSE_POINT(SPILL_BEFORE_SYNC);
        s->step = STEP_SYNC;
        disk_sync(s->disk, &s->request, s->file_fd, false);
}

static void done(struct disk_request *request, int result) {
        struct spill *s = (struct spill *) (void *) ((char *) request - offsetof(struct spill, request));

        if (s->freed) {
                if (s->step == STEP_OPEN)
                        s->file_fd = MAX(result, -1);
                return;
        }
        if (s->step == STEP_RENAME && rename_otherwise(s, result))
                return;
        if (s->step == STEP_SYNC_FOLDER) {
                synced_folder(s, result);
                return;
        }
        if (result < 0) {
                give_up(s, result);
                return;
        }
        if (s->step == STEP_OPEN) {
                s->file_fd = result;
                PAUSE_POINT(SPILL_CREATED);
                s->n_written = 0;
                write_more(s);
        } else if (s->step == STEP_WRITE)
                wrote(s, result);
        else if (s->step == STEP_SYNC)
                rename_file(s);
        else
                renamed(s);
}

/* ---- for the worker ---- */

/* Backed by memory only while there is something to spill: see give_back(). */
static int map_text(const struct spill *s, struct text *t) {
        void *bytes = mmap(NULL, s->text_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (bytes == MAP_FAILED)
                return -errno;
        t->bytes = bytes;
        return 0;
}

static void unmap_text(const struct spill *s, const struct text *t) {
        if (t->bytes)
                (void) munmap(t->bytes, s->text_bytes);
}

int spill_new(const struct game *g, int state_fd, uint64_t slot, uint64_t origin, struct spill **ret,
              int *ret_refused) {
        cleanup_(spill_freep) struct spill *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->game = g;
        s->slot = slot;
        s->origin = origin;
        s->state_fd = state_fd;
        s->folder_fd = s->file_fd = -1;
        s->request.done = done;
        s->rename_flags = RENAME_NOREPLACE;
        s->text_bytes = MAX(TEXT_BYTES, g->max_plies * (batch_file_sample_max_bytes(g) + BRACKETS_MAX));
        r = map_text(s, &s->filling);
        if (r == 0)
                r = map_text(s, &s->writing);
        if (r < 0)
                return r;
        r = disk_new(false, true, &s->disk, ret_refused);
        if (r < 0)
                return r;
        (void) open_folder(s); /* tried again when it is needed, and the reason told then */
        *ret = TAKE_PTR(s);
        return 0;
}

void spill_free(struct spill *s) {
        if (!s)
                return;
        s->freed = true;
        if (s->disk)
                disk_drain(s->disk);
        disk_free(s->disk);
        fd_closep(&s->file_fd);
        fd_closep(&s->folder_fd);
        unmap_text(s, &s->filling);
        unmap_text(s, &s->writing);
        free(s);
}

int spill_add(struct spill *s, const unsigned char *record, size_t n_bytes, struct error *e) {
        struct text *t = &s->filling;
        size_t n_before = t->n, at, length;
        uint32_t n_samples;
        int r;

        r = sample_record_open(s->game, record, n_bytes, &n_samples, &at, e);
        if (r < 0)
                return r;
        if (s->text_bytes - t->n < n_samples * (batch_file_sample_max_bytes(s->game) + BRACKETS_MAX))
                return SPILL_E_FULL;
        if (t->n == 0)
                t->begun_ns = clock_now_ns();
        for (uint32_t i = 0; i < n_samples; i++) {
                r = sample_decode(s->game, record + at, n_bytes - at, &s->sample, &length, e);
                if (r < 0) {
                        t->n = n_before; /* never half a game */
                        return r;
                }
                at += length;
                if (t->n == 0)
                        t->bytes[t->n++] = '[';
                else {
                        t->bytes[t->n++] = ',';
                        t->bytes[t->n++] = '\n';
                }
                t->n += batch_file_write_sample(s->game, &s->sample, s->origin, false, t->bytes + t->n);
        }
        t->n_games++;
        t->n_samples += n_samples;
        return 0;
}

/* Is there room for a file?  Looks it up when the count says no, about once a second. */
static bool is_below(struct spill *s, uint64_t max_bytes) {
        if (s->folder_bytes >= max_bytes && s->folder_fd >= 0 && clock_now_ns() - s->looked_ns >= RETRY_NS)
                (void) look_into_folder(s);
        return s->folder_bytes < max_bytes;
}

/* Turn to what was filled meanwhile, closing its array. */
static void take_filled(struct spill *s) {
        struct text empty = s->writing;

        s->filling.bytes[s->filling.n++] = ']';
        s->filling.bytes[s->filling.n++] = '\n';
        s->writing = s->filling;
        s->filling = empty;
}

void spill_poll(struct spill *s, uint64_t max_bytes, bool flush) {
        uint64_t now_ns;

        disk_poll(s->disk);
        if (s->step != STEP_REST || spill_is_idle(s))
                return;
        now_ns = clock_now_ns();
        if (now_ns < s->retry_ns)
                return;
        if (s->folder_dirty) {
                sync_folder(s);
                return;
        }
        if (s->writing.n == 0 && !flush && s->filling.n_games < FILE_GAMES && s->filling.n < FILE_BYTES &&
            now_ns - s->filling.begun_ns < FILE_AGE_NS)
                return;
        s->counters.full = !is_below(s, max_bytes);
        if (s->counters.full)
                return;
        if (s->writing.n == 0)
                take_filled(s);
        begin_file(s);
}

bool spill_is_idle(const struct spill *s) {
        return s->step == STEP_REST && s->writing.n == 0 && s->filling.n == 0 && !s->folder_dirty;
}

const struct spill_counters *spill_counters(const struct spill *s) {
        return &s->counters;
}
