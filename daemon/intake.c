/* SPDX-License-Identifier: MIT */
/*
 * Intake; see intake.h.  Process: azpard.
 *
 * A record is copied into private memory before it is looked at, so that the
 * worker cannot change what was checked; the window gets the checked copy.
 * Everything is allocated once, for the largest record that the game allows.
 *
 * A turn ends after its budget, since the same thread serves the control
 * socket and the timers; the caller comes back for the rest.
 *
 * A record is only released when it is in the window or known to be bad.  If the window takes nothing
 * (disk trouble), everything stays in the lanes, and full lanes make the workers wait; that is all the
 * memory it needs.  A worker that dies meanwhile leaves its records to the lane, behind which its successor
 * goes on: so a lane can hold records of several incarnations, the older ones first.
 */
#include "daemon/intake.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/pause_point.h"
#include "common/exchange/sample.h"

/* How far the incarnations in an inherited lane may be ahead of the window: further than processes can be
 * started, and so little that a lane that lies cannot use up the numbers. */
#define INHERIT_AHEAD (UINT64_C(1) << 32)

/* How often the whole window is looked at for an inherited segment: see find_older(). */
#define OLDER_MAX 256

#define LOG_INTERVAL_NS (10 * NS_PER_S) /* between two lines about one slot's bad records */

struct intake_slot {
        struct intake_counts counts;
        struct sample_id newest; /* in the window; incarnation 0: none */
        struct sample_id older;  /* the same of incarnation older_of alone: find_older() */
        uint64_t older_of;       /* 0: none was looked for */
        /* Incarnations that are accepted: that of the oldest record that the lane may hold, and of its
         * worker. */
        uint64_t lowest, highest;
        bool unfinished; /* a dead worker's records may still lie there */
        bool broken;
        uint64_t logged_ns, n_unlogged;
};

struct intake {
        const struct game *game;
        struct window *window;
        unsigned char *record;
        uint32_t record_size;
        uint32_t next_slot; /* whose turn it is */
        unsigned n_broken;
        int error; /* of the last append; 0: it worked */
        int held;
        uint64_t n_taken;
        unsigned n_older; /* times that it may look for one; 0: not inheriting */
        struct sample sample;
        struct window_item items[GAME_MAX_PLIES];
        struct intake_slot slots[SEGMENT_MAX_WORKERS];
        struct sample_id found[SAMPLE_N_SLOTS]; /* in the window, at the start */
};

/*
 * A process with an incarnation below one whose samples are in the window would be taken for its duplicate.
 * The window gives such numbers where a power cut took its header back, and after samples were inherited.
 */
static int raise_incarnation(struct intake *i) {
        uint64_t highest = 0;

        for (size_t k = 0; k < N_ELEMENTS(i->slots); k++)
                highest = MAX(highest, i->slots[k].newest.incarnation);
        return window_raise_incarnation(i->window, highest);
}

int intake_new(const struct game *g, struct window *w, struct intake **ret) {
        cleanup_(intake_freep) struct intake *i = calloc(1, sizeof(*i));
        int r;

        if (!i)
                return -ENOMEM;
        i->game = g;
        i->window = w;
        i->record_size = (uint32_t) sample_record_max_bytes(g);
        i->record = malloc(i->record_size);
        if (!i->record)
                return -ENOMEM;
        r = window_newest(w, i->found, N_ELEMENTS(i->found));
        if (r < 0)
                return r;
        for (size_t k = 0; k < N_ELEMENTS(i->slots); k++)
                i->slots[k].newest = i->found[k];
        r = raise_incarnation(i);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(i);
        return 0;
}

void intake_free(struct intake *i) {
        if (!i)
                return;
        free(i->record);
        free(i);
}

void intake_expect(struct intake *i, uint32_t slot, uint64_t incarnation) {
        struct intake_slot *s = &i->slots[slot];

        assert(slot < SEGMENT_MAX_WORKERS);
        if (!s->unfinished)
                s->lowest = incarnation;
        s->highest = incarnation;
}

static bool is_newer(const struct sample_id *a, const struct sample_id *b) {
        if (a->incarnation != b->incarnation)
                return a->incarnation > b->incarnation;
        return a->sequence > b->sequence;
}

/* Check who wrote the sample, and that it follows the one before it in the record. */
static int check_identity(const struct intake_slot *s, uint32_t slot, const struct sample_id *id,
                          const struct sample_id *before, struct error *e) {
        if (id->slot != slot)
                return error_set(e, -EBADMSG, "identity names slot %ju", (uintmax_t) id->slot);
        if (id->incarnation < s->lowest || id->incarnation > s->highest || id->incarnation == 0)
                return error_set(e, -EBADMSG, "identity names incarnation %ju, not the lane's worker",
                                 (uintmax_t) id->incarnation);
        /* nothing follows the last number: it would make the newest sample one that is old */
        if (before && (id->incarnation != before->incarnation || before->sequence == UINT64_MAX ||
                       id->sequence != before->sequence + 1))
                return error_set(e, -EBADMSG, "sequence %ju does not follow %ju", (uintmax_t) id->sequence,
                                 (uintmax_t) before->sequence);
        return 0;
}

/*
 * Check the whole record in i->record before any of it is used, and list in i->items what the window does not
 * have yet.
 */
static int check_record(struct intake *i, uint32_t slot, uint32_t n_bytes, size_t *ret_n_items,
                        uint32_t *ret_n_samples, struct sample_id *ret_last, struct error *e) {
        struct intake_slot *s = &i->slots[slot];
        struct sample_id before = { 0 };
        uint32_t n_samples = 0;
        size_t at = 0, n_items = 0, length = 0;
        const struct sample_id *newest;
        int r;

        r = sample_record_open(i->game, i->record, n_bytes, &n_samples, &at, e);
        if (r < 0)
                return r;
        if (n_samples == 0 || n_samples > N_ELEMENTS(i->items) || at > n_bytes)
                return error_set(e, -EBADMSG, "%ju samples in one game", (uintmax_t) n_samples);
        for (uint32_t k = 0; k < n_samples; k++) {
                r = sample_decode(i->game, i->record + at, n_bytes - at, &i->sample, &length, e);
                if (r == 0)
                        r = check_identity(s, slot, &i->sample.id, k ? &before : NULL, e);
                if (r < 0) {
                        error_prefix(e, "sample %ju at byte %zu", (uintmax_t) k, at);
                        return r;
                }
                newest = i->sample.id.incarnation == s->older_of ? &s->older : &s->newest;
                if (is_newer(&i->sample.id, newest))
                        i->items[n_items++] =
                                (struct window_item){ .bytes = i->record + at, .n_bytes = (uint32_t) length };
                before = i->sample.id;
                at += length;
        }
        if (at != n_bytes)
                return error_set(e, -EBADMSG, "%zu bytes after the last sample", n_bytes - at);
        *ret_n_items = n_items;
        *ret_n_samples = n_samples;
        *ret_last = before;
        return 0;
}

/* A worker that writes garbage writes a lot of it: count all, log some. */
static void count_bad(struct intake *i, uint32_t slot, const char *why) {
        struct intake_slot *s = &i->slots[slot];
        uint64_t now = clock_now_ns();

        s->counts.bad_records++;
        s->n_unlogged++;
        if (s->logged_ns && now - s->logged_ns < LOG_INTERVAL_NS)
                return;
        log_event(LOG_EVENT_RECORDS_SKIPPED,
                  LOG_FIELDS(LOG_NUMBER(WORKER, slot), LOG_NUMBER(RECORDS, s->n_unlogged),
                             LOG_TEXT(REASON, why)),
                  "lane %ju: skipped %ju bad record%s, the last one: %s", (uintmax_t) slot,
                  (uintmax_t) s->n_unlogged, s->n_unlogged == 1 ? "" : "s", why);
        s->logged_ns = now;
        s->n_unlogged = 0;
}

/* Append what check_record() listed. Return: 0 or a negative errno; what changed is said once. */
static int append(struct intake *i, size_t n_items) {
        int r = window_append(i->window, i->items, n_items);

        if (r < 0 && r != i->error)
                log_event(LOG_EVENT_WINDOW_FAILED,
                          LOG_FIELDS(LOG_TEXT(REASON, "could not write the replay window"),
                                     LOG_NUMBER(ERRNO, -r)),
                          "could not write the replay window: %s; samples wait in the lanes, and it is tried "
                          "again every second",
                          strerror(-r));
        else if (r == 0 && i->error)
                log_event(LOG_EVENT_WINDOW_RECOVERED, LOG_NO_FIELDS, "replay window: writing works again");
        i->error = r;
        return r;
}

/*
 * Where another azpard ran on this window while systemd kept the segment that is inherited now, the window
 * has samples of later processes in the same slot.  Those of a process come in their order all the same, so
 * what of it is in the window already is told by its own newest one.
 *
 * Return: 0, or a negative errno: the window cannot be read, and the record must stay in the lane.
 */
static int find_older(struct intake *i, uint32_t slot, uint32_t n_bytes) {
        struct intake_slot *s = &i->slots[slot];
        struct sample_id first;
        uint32_t n_samples = 0;
        size_t at = 0;
        int r;

        if (sample_record_open(i->game, i->record, n_bytes, &n_samples, &at, NULL) < 0 || at > n_bytes ||
            sample_decode_id(i->record + at, n_bytes - at, &first, NULL) < 0)
                return 0; /* check_record() says what is wrong */
        if (first.incarnation == 0 || first.incarnation >= s->newest.incarnation ||
            first.incarnation == s->older_of)
                return 0;
        i->n_older--;
        r = window_newest_of(i->window, slot, first.incarnation, &s->older);
        s->older_of = r == 0 ? first.incarnation : 0;
        return r;
}

/* Return: 0: done with it, taken in or counted as bad; a negative errno: it must stay in the lane. */
static int take_record(struct intake *i, uint32_t slot, uint32_t n_bytes) {
        struct intake_slot *s = &i->slots[slot];
        struct error e = ERROR_INIT;
        struct sample_id last = { 0 };
        uint32_t n_samples = 0;
        size_t n_items = 0;
        int r;

        r = i->n_older > 0 ? find_older(i, slot, n_bytes) : 0;
        if (r < 0)
                return r;
        if (check_record(i, slot, n_bytes, &n_items, &n_samples, &last, &e) < 0) {
                count_bad(i, slot, e.text);
                return 0;
        }
        r = n_items ? append(i, n_items) : 0;
        if (r < 0)
                return r;
        s->lowest = last.incarnation; /* older ones cannot follow */
        s->counts.duplicates += n_samples - n_items;
        if (n_items == 0)
                return 0;
        if (is_newer(&last, &s->newest))
                s->newest = last;
        else
                s->older = last;
        s->counts.records++;
        s->counts.samples += n_items;
        return 0;
}

/*
 * One record of one lane. Return: 0, LANE_E_EMPTY; LANE_E_BROKEN: nothing more can be read here; a negative
 * errno: the window takes nothing now.
 */
static int take_one(struct intake *i, struct segment *seg, uint32_t slot) {
        struct intake_slot *s = &i->slots[slot];
        uint32_t n_bytes = 0;
        uint64_t next = 0;
        int r;

        if (s->broken)
                return LANE_E_BROKEN;
        if (i->held)
                return lane_used(&seg->lanes[slot]) ? i->held : LANE_E_EMPTY;
        r = lane_read(&seg->lanes[slot], i->record, i->record_size, &n_bytes, &next);
        switch (r) {
        case 0:
                PAUSE_POINT(TAKE_READ);
                r = take_record(i, slot, n_bytes);
                if (r < 0)
                        return r;
                i->n_taken++;
                PAUSE_POINT(TAKE_BEFORE_RELEASE);
                lane_release(&seg->lanes[slot], next);
                PAUSE_POINT(TAKE_RELEASED);
                return 0;
        case LANE_E_BAD_DATA:
                i->n_taken++;
                count_bad(i, slot, "checksum is wrong");
                lane_release(&seg->lanes[slot], next);
                return 0;
        case LANE_E_EMPTY:
                return LANE_E_EMPTY;
        default:
                log_event(LOG_EVENT_LANE_BROKEN, LOG_FIELDS(LOG_NUMBER(WORKER, slot)),
                          "lane %ju: its framing or indices lie; nothing more is read from it",
                          (uintmax_t) slot);
                s->broken = true;
                i->n_broken++;
                return LANE_E_BROKEN;
        }
}

int intake_turn(struct intake *i, struct segment *s, uint64_t budget_ns) {
        uint64_t begin = clock_now_ns();
        uint32_t n_idle = 0;
        int r;

        while (n_idle < s->n_workers) {
                if (i->next_slot >= s->n_workers)
                        i->next_slot = 0;
                r = take_one(i, s, i->next_slot++);
                if (r < 0)
                        return INTAKE_E_FAILED;
                if (r > 0) {
                        n_idle++;
                        continue;
                }
                n_idle = 0;
                if (clock_now_ns() - begin >= budget_ns)
                        return INTAKE_E_MORE;
        }
        return INTAKE_E_DONE;
}

int intake_finish_slot(struct intake *i, struct segment *seg, uint32_t slot) {
        struct intake_slot *s = &i->slots[slot];
        uint64_t n_bytes;
        int r;

        assert(slot < seg->n_workers);
        do
                r = take_one(i, seg, slot);
        while (r == 0);
        s->unfinished = r < 0;
        if (r < 0)
                return r;
        s->lowest = s->highest = 0;
        if (r != LANE_E_BROKEN)
                return 0;
        n_bytes = lane_reset(&seg->lanes[slot]);
        s->counts.reset_bytes += n_bytes;
        s->counts.lanes_reset++;
        s->broken = false;
        i->n_broken--;
        log_event(LOG_EVENT_LANE_EMPTIED, LOG_FIELDS(LOG_NUMBER(WORKER, slot), LOG_NUMBER(BYTES, n_bytes)),
                  "lane %ju: emptied, %ju bytes lost", (uintmax_t) slot, (uintmax_t) n_bytes);
        return 0;
}

int intake_inherit(struct intake *i, struct segment *s, uint64_t *ret_n_samples) {
        uint64_t before = intake_counts(i).samples, next = window_next_incarnation(i->window);
        int r = 0;

        i->n_older = OLDER_MAX;
        for (uint32_t slot = 0; r == 0 && slot < s->n_workers; slot++) {
                i->slots[slot].lowest = 1;
                i->slots[slot].highest = next + INHERIT_AHEAD;
                i->slots[slot].older_of = 0;
                r = intake_finish_slot(i, s, slot);
        }
        i->n_older = 0;
        for (uint32_t slot = 0; slot < s->n_workers; slot++)
                i->slots[slot].older_of = 0;
        if (r < 0)
                return r;
        *ret_n_samples = intake_counts(i).samples - before;
        return raise_incarnation(i);
}

void intake_hold(struct intake *i, int error) {
        i->held = error;
}

int intake_error(const struct intake *i) {
        return i->error;
}

uint64_t intake_n_taken(const struct intake *i) {
        return i->n_taken;
}

const struct sample_id *intake_found(const struct intake *i) {
        return i->found;
}

bool intake_is_broken(const struct intake *i, uint32_t slot) {
        assert(slot < SEGMENT_MAX_WORKERS);
        return i->slots[slot].broken;
}

unsigned intake_n_broken(const struct intake *i) {
        return i->n_broken;
}

const struct intake_counts *intake_slot_counts(const struct intake *i, uint32_t slot) {
        assert(slot < SEGMENT_MAX_WORKERS);
        return &i->slots[slot].counts;
}

struct intake_counts intake_counts(const struct intake *i) {
        struct intake_counts sum = { 0 };

        for (size_t k = 0; k < SEGMENT_MAX_WORKERS; k++) {
                const struct intake_counts *c = &i->slots[k].counts;

                sum.records += c->records;
                sum.samples += c->samples;
                sum.bad_records += c->bad_records;
                sum.duplicates += c->duplicates;
                sum.reset_bytes += c->reset_bytes;
                sum.lanes_reset += c->lanes_reset;
        }
        return sum;
}
