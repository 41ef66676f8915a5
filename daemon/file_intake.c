/* SPDX-License-Identifier: MIT */
/*
 * File intake; see file_intake.h.  Process: azpard.
 *
 * Games are appended as games: a run of samples with ascending plies (and, where there are identities,
 * ascending sequence numbers without a hole) appears in the window with one store.
 */
#include "daemon/file_intake.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include "common/base/pause_point.h"
#include "common/exchange/segment.h"
#include "daemon/imports.h"

#define INCARNATIONS_AHEAD (UINT64_C(1) << 32) /* as in intake.c */

enum kind { KIND_UNKNOWN, KIND_OWN, KIND_FOREIGN };

/* The file at hand. */
struct file {
        bool is_import;  /* of a client; else a spilled one */
        uint64_t folder; /* spilled */
        enum kind kind;
        uint64_t name;            /* foreign: the samples' incarnation */
        uint64_t incarnation_end; /* own: they are below */
        uint64_t n_seen;          /* samples, in this pass, and the last one's identity: */
        struct sample_id last;
        struct sample_id newest; /* of its folder, or of this foreign file, in the window: if has_newest */
        bool has_newest;
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

struct file_intake {
        const struct game *game;
        struct window *window;
        struct sample_id newest[SEGMENT_MAX_WORKERS]; /* spilled, in the window; incarnation 0: none */
        struct imports *imports;
        struct file file;
        struct sample_id id; /* of the sample at hand, as its worker or its file numbers it */
        bool is_new;         /* it is not in the window yet */
        struct gathering gathering;
};

/* ---- what is in a file ---- */

static bool is_newer(const struct sample_id *a, const struct sample_id *b) {
        if (a->incarnation != b->incarnation)
                return a->incarnation > b->incarnation;
        return a->sequence > b->sequence;
}

static void begin(struct file_intake *f, const struct file *file) {
        f->file = *file;
        f->file.incarnation_end = window_next_incarnation(f->window) + INCARNATIONS_AHEAD;
        f->gathering.n = f->gathering.n_bytes = 0;
}

void file_intake_begin_spilled(struct file_intake *f, uint64_t folder) {
        begin(f, &(struct file){ .folder = folder });
}

void file_intake_begin_import(struct file_intake *f) {
        begin(f, &(struct file){ .is_import = true });
}

/* A sample of this window's own workers must lie in its worker's folder, after the one before it. */
static int check_own(const struct file *file, const struct sample_id *id, struct error *e) {
        if (file->is_import)
                return 0; /* passed over: see make_identity() */
        if (id->slot != file->folder || id->slot >= SEGMENT_MAX_WORKERS)
                return error_set(e, -EBADMSG, "sample %ju: made by worker %ju, not %ju",
                                 (uintmax_t) file->n_seen, (uintmax_t) id->slot, (uintmax_t) file->folder);
        if (id->incarnation == 0 || id->incarnation >= file->incarnation_end)
                return error_set(e, -EBADMSG, "sample %ju: incarnation %ju is impossible",
                                 (uintmax_t) file->n_seen, (uintmax_t) id->incarnation);
        if (file->n_seen > 0 && !is_newer(id, &file->last))
                return error_set(
                        e, -EBADMSG, "sample %ju: identity (%ju, %ju) does not follow (%ju, %ju) before it",
                        (uintmax_t) file->n_seen, (uintmax_t) id->incarnation, (uintmax_t) id->sequence,
                        (uintmax_t) file->last.incarnation, (uintmax_t) file->last.sequence);
        return 0;
}

int file_intake_check(struct file_intake *f, const struct batch_file_item *item, struct error *e) {
        struct file *file = &f->file;
        bool is_own = item->origin == window_origin(f->window);
        enum kind kind = is_own ? KIND_OWN : KIND_FOREIGN;
        int r = 0;

        if (file->kind != KIND_UNKNOWN && file->kind != kind)
                return error_set(e, -EBADMSG,
                                 "sample %ju: samples of this window and others in one file; import the "
                                 "others alone",
                                 (uintmax_t) file->n_seen);
        file->kind = kind;
        if (is_own)
                r = check_own(file, &item->sample.id, e);
        file->last = item->sample.id;
        file->n_seen++;
        return r;
}

/* What of the file is in the window already? */
int file_intake_begin_taking(struct file_intake *f, uint64_t name, struct error *e) {
        struct file *file = &f->file;
        int r;

        file->name = name;
        file->n_seen = 0;
        if (file->kind == KIND_OWN && !file->is_import) {
                r = window_raise_incarnation(f->window, file->last.incarnation);
                if (r < 0)
                        return error_errno(e, r, "could not note its incarnation");
                file->incarnation_end = window_next_incarnation(f->window);
                file->newest = f->newest[file->folder];
                file->has_newest = file->newest.incarnation != 0;
                return 0;
        }
        if (file->kind == KIND_UNKNOWN)
                file->kind = KIND_FOREIGN; /* no sample: none of ours */
        file->has_newest = imports_find(f->imports, name, window_first(f->window), &file->newest.sequence);
        return 0;
}

/* ---- into the window ---- */

/* The identity that @item gets in the window; *ret: as its worker or its file numbers it. Return: is it new
 * there? */
static bool make_identity(const struct file *file, struct batch_file_item *item, struct sample_id *ret) {
        struct sample_id *id = &item->sample.id;
        uint64_t index = file->n_seen - 1;
        bool is_f32;

        if (file->kind == KIND_OWN && file->is_import)
                return false; /* an export of this very window */
        if (file->kind == KIND_OWN) {
                *ret = *id;
                id->slot += SAMPLE_SLOT_SPILLED;
                return !file->has_newest || is_newer(id, &file->newest);
        }
        is_f32 = item->shares_are_f32 || id->slot == SAMPLE_SLOT_IMPORTED_F32;
        *id = (struct sample_id){ .slot = is_f32 ? SAMPLE_SLOT_IMPORTED_F32 : SAMPLE_SLOT_IMPORTED,
                                  .incarnation = file->name,
                                  .sequence = index };
        *ret = *id;
        return !file->has_newest || index > file->newest.sequence;
}

int file_intake_identify(struct file_intake *f, struct batch_file_item *item, struct error *e) {
        int r = file_intake_check(f, item, e);

        if (r < 0)
                return r;
        f->is_new = make_identity(&f->file, item, &f->id);
        return 0;
}

/* Return: 0 or a negative errno: nothing of the game is in the window, and it is kept. */
static int append_game(struct file_intake *f, struct file_intake_done *done) {
        struct gathering *g = &f->gathering;
        struct file *file = &f->file;
        struct sample_id last = g->last;
        int r;

        if (g->n == 0)
                return 0;
        last.slot += SAMPLE_SLOT_SPILLED;
        r = window_append_spilled(f->window, g->items, g->n, file->kind == KIND_OWN ? &last : NULL);
        if (r < 0)
                return r;
        PAUSE_POINT(REFILL_APPENDED);
        if (file->kind == KIND_OWN)
                f->newest[file->folder] = g->last;
        else
                imports_note(f->imports, file->name, g->last.sequence, window_tail(f->window) - 1);
        done->samples += g->n;
        g->n = g->n_bytes = 0;
        return 0;
}

static bool continues_game(const struct gathering *g, const struct game *game, const struct sample *s) {
        return g->n > 0 && g->n < game->max_plies && s->ply > g->last_ply &&
               s->id.incarnation == g->last.incarnation && s->id.sequence == g->last.sequence + 1;
}

static void gather(struct gathering *g, const struct game *game, const struct sample *s,
                   const struct sample_id *id) {
        size_t size = sample_record_max_bytes(game), length = 0;
        int r;

        r = sample_encode(game, s, g->bytes + g->n_bytes, size - g->n_bytes, &length);
        assert(r == 0); /* at most max_plies of them, each checked */
        g->items[g->n++] =
                (struct window_item){ .bytes = g->bytes + g->n_bytes, .n_bytes = (uint32_t) length };
        g->n_bytes += length;
        g->last = *id;
        g->last_ply = s->ply;
}

int file_intake_take(struct file_intake *f, const struct batch_file_item *item,
                     struct file_intake_done *done) {
        int r = 0;

        if (!f->is_new || !continues_game(&f->gathering, f->game, &item->sample))
                r = append_game(f, done);
        if (r < 0)
                return r;
        if (f->is_new)
                gather(&f->gathering, f->game, &item->sample, &f->id);
        else
                done->duplicates++;
        return 0;
}

int file_intake_end(struct file_intake *f, struct file_intake_done *done) {
        return append_game(f, done);
}

/* ---- the object ---- */

/* What the window holds of spilled and imported files. */
static int find_newest(struct file_intake *f, const struct sample_id *found) {
        bool has_imports =
                found[SAMPLE_SLOT_IMPORTED].incarnation || found[SAMPLE_SLOT_IMPORTED_F32].incarnation;
        uint64_t highest = 0;
        int r;

        for (unsigned i = 0; i < SEGMENT_MAX_WORKERS; i++) {
                f->newest[i] = found[SAMPLE_SLOT_SPILLED + i];
                highest = MAX(highest, f->newest[i].incarnation);
        }
        r = highest ? window_raise_incarnation(f->window, highest) : 0;
        return r < 0 ? r : imports_new(has_imports ? f->window : NULL, &f->imports);
}

int file_intake_new(const struct game *g, struct window *w, const struct sample_id *found,
                    struct file_intake **ret) {
        cleanup_(file_intake_freep) struct file_intake *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return -ENOMEM;
        f->game = g;
        f->window = w;
        f->gathering.bytes = malloc(sample_record_max_bytes(g));
        if (!f->gathering.bytes)
                return -ENOMEM;
        r = find_newest(f, found);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

void file_intake_free(struct file_intake *f) {
        if (!f)
                return;
        imports_free(f->imports);
        free(f->gathering.bytes);
        free(f);
}
