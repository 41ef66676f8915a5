/* SPDX-License-Identifier: MIT */
/* The audit; see audit.h. */
#include "tests/kill/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "common/base/clock.h"

#define MAX_INCARNATIONS 65536u
#define SLOT_MASK        255u /* what is above says by which way the sample came */
#define MAX_COMPLAINTS   10u
#define BURSTS_PER_S     5u /* workers may commit at once what is allowed for a fifth of a second */

/* A set of sequence numbers. */
struct set {
        uint64_t *words;
        uint64_t n_words;
};

/* Where a spilled sample was seen. */
struct place {
        uint64_t incarnation, sequence, number;
};

struct places {
        struct place *all;
        size_t n, n_allocated;
};

struct audit {
        unsigned first_slot; /* whose ledger is read first */
        struct window *window;
        const struct game *game;
        struct numbered_shared *shared;
        uint64_t next;         /* number in the window */
        struct sample_id last; /* of the game that is being seen */
        unsigned n_left;       /* samples of that game that must follow at once */
        uint64_t start;        /* the oldest one that was looked at: its game may have left in part */
        uint64_t holes_from, holes_end;    /* see audit_allow_holes() */
        uint64_t rate, n_allowed, rate_ns; /* rate 0: as many as there are */
        uint64_t read[NUMBERED_SLOTS];
        struct audit_counts counts;
        unsigned n_complaints;
        struct places spilled_seen, spilled_written; /* .number of those is not used */
        struct set seen[MAX_INCARNATIONS], written[MAX_INCARNATIONS];
};

static bool set_has(const struct set *s, uint64_t i) {
        return i / 64 < s->n_words && (s->words[i / 64] >> i % 64 & 1);
}

static void set_add(struct set *s, uint64_t i) {
        if (i / 64 >= s->n_words) {
                uint64_t n = MAX(2 * s->n_words, i / 64 + 64);
                uint64_t *words = realloc(s->words, n * sizeof(*words));

                if (!words)
                        abort();
                memset(words + s->n_words, 0, (n - s->n_words) * sizeof(*words));
                s->words = words;
                s->n_words = n;
        }
        s->words[i / 64] |= UINT64_C(1) << i % 64;
}

static void add_place(struct places *p, uint64_t incarnation, uint64_t sequence, uint64_t number) {
        if (p->n == p->n_allocated) {
                p->n_allocated = MAX(2 * p->n_allocated, 1024);
                p->all = reallocarray(p->all, p->n_allocated, sizeof(*p->all));
                if (!p->all)
                        abort();
        }
        p->all[p->n++] = (struct place){ incarnation, sequence, number };
}

int audit_new(const struct game *g, int window_fd, struct numbered_shared *shared, struct audit **ret,
              struct error *e) {
        struct audit *a = calloc(1, sizeof(*a));
        int r;

        if (!a)
                return error_errno(e, -ENOMEM, "audit");
        a->game = g;
        a->shared = shared;
        r = window_map(window_fd, g, &a->window, e);
        if (r < 0) {
                free(a);
                return r;
        }
        a->next = a->start = window_first(a->window);
        *ret = a;
        return 0;
}

void audit_free(struct audit *a) {
        if (!a)
                return;
        for (size_t i = 0; i < MAX_INCARNATIONS; i++) {
                free(a->seen[i].words);
                free(a->written[i].words);
        }
        free(a->spilled_seen.all);
        free(a->spilled_written.all);
        window_free(a->window);
        free(a);
}

static void torn(struct audit *a, uint64_t number, const struct sample_id *id, const char *what) {
        a->counts.torn++;
        if (a->n_complaints++ < MAX_COMPLAINTS)
                (void) fprintf(stderr,
                               "torn: number %" PRIu64 " in the window, slot %" PRIu64
                               ", incarnation %" PRIu64 ", sequence %" PRIu64 ": %s\n",
                               number, id->slot, id->incarnation, id->sequence, what);
}

/* The game before the holes, those in them, what is taken again for them from a spill file, and the oldest
 * one. */
static bool may_be_half(const struct audit *a, uint64_t number, const struct sample_id *id) {
        return (a->start > 0 && number < a->start + NUMBERED_PLIES) ||
               (a->holes_end > 0 && ((number >= a->holes_from && number <= a->holes_end) ||
                                     id->slot > SLOT_MASK || a->last.slot > SLOT_MASK));
}

/* A game's samples lie side by side, from the first to the last. */
static void check_game(struct audit *a, uint64_t number, const struct sample *s) {
        bool goes_on = a->n_left > 0 && s->ply > 0 && s->id.slot == a->last.slot &&
                       s->id.incarnation == a->last.incarnation && s->id.sequence == a->last.sequence + 1;

        if (((a->n_left > 0) != goes_on || (a->n_left == 0 && s->ply > 0)) && !may_be_half(a, number, &s->id))
                torn(a, number, &s->id, "half a game");
        if (goes_on)
                a->n_left--;
        else
                a->n_left = s->ply == 0 ? numbered_length(s->id.incarnation, s->id.sequence) - 1 : 0;
        a->last = s->id;
}

static void twice(struct audit *a, uint64_t number, const struct sample_id *id) {
        a->counts.twice++;
        if (a->n_complaints++ >= MAX_COMPLAINTS)
                return;
        (void) fprintf(stderr,
                       "twice: number %" PRIu64 ", slot %" PRIu64 ", incarnation %" PRIu64
                       ", sequence %" PRIu64,
                       number, id->slot, id->incarnation, id->sequence);
        for (size_t i = 0; i < a->spilled_seen.n; i++)
                if (a->spilled_seen.all[i].incarnation == id->incarnation &&
                    a->spilled_seen.all[i].sequence == id->sequence)
                        (void) fprintf(stderr, ", and number %" PRIu64 ", spilled",
                                       a->spilled_seen.all[i].number);
        (void) fprintf(stderr, "\n");
}

static void see(struct audit *a, uint64_t number, const struct sample *s) {
        uint64_t slot = s->id.slot & SLOT_MASK;
        struct sample want;

        a->counts.samples++;
        a->counts.spilled += s->id.slot != slot;
        if (s->id.incarnation >= MAX_INCARNATIONS || slot >= NUMBERED_SLOTS || s->ply >= NUMBERED_PLIES) {
                torn(a, number, &s->id, "nobody wrote such a sample");
                return;
        }
        a->counts.slots[slot]++;
        numbered_sample(a->game, s->id, s->ply, &want);
        if (!numbered_equal(s, &want))
                torn(a, number, &s->id, "content of another one");
        check_game(a, number, s);
        if (set_has(&a->seen[s->id.incarnation], s->id.sequence)) {
                twice(a, number, &s->id);
                return;
        }
        set_add(&a->seen[s->id.incarnation], s->id.sequence);
        if (s->id.slot != slot)
                add_place(&a->spilled_seen, s->id.incarnation, s->id.sequence, number);
        if (set_has(&a->written[s->id.incarnation], s->id.sequence))
                a->counts.missing--;
}

static void follow_window(struct audit *a) {
        uint64_t tail = window_tail(a->window);
        struct sample s;

        if (tail < a->next)
                torn(a, tail, &a->last, "the window's tail went back");
        for (; a->next < tail; a->next++) {
                memset(s.planes, 0, sizeof(s.planes));
                if (window_read(a->window, a->next, &s) == 0)
                        see(a, a->next, &s);
                else if (a->next >= a->holes_from && a->next < a->holes_end)
                        a->counts.holes++;
                else if (a->next < window_first(a->window)) {
                        a->counts.overtaken++;
                        a->start = a->next + 1;
                        a->n_left = 0;
                } else
                        torn(a, a->next, &a->last, "unreadable; the one before it is named");
        }
}

void audit_set_rate(struct audit *a, uint64_t n) {
        a->rate = n;
        a->n_allowed = 0;
        a->rate_ns = clock_now_ns();
}

/* May the workers go on?  What they could have done while nobody took it does not count for long. */
static bool is_in_time(struct audit *a) {
        uint64_t now = clock_now_ns(), passed_ms = (now - a->rate_ns) / NS_PER_MS;

        if (a->rate == 0)
                return true;
        if (passed_ms > 0) {
                a->n_allowed = MIN(a->n_allowed + passed_ms * a->rate / 1000, a->rate / BURSTS_PER_S);
                a->rate_ns = now;
        }
        return a->n_allowed > 0;
}

static void follow_ledger(struct audit *a, unsigned slot) {
        struct numbered_ledger *l = &a->shared->ledgers[slot];
        uint64_t n_written = atomic_load_explicit(&l->n_written, memory_order_acquire);

        for (; a->read[slot] < n_written && is_in_time(a); a->read[slot]++) {
                struct numbered_entry *entry = &l->entries[a->read[slot] % NUMBERED_ENTRIES];

                a->n_allowed -= MIN(a->n_allowed, entry->n_samples);
                for (uint64_t i = entry->sequence; i < entry->sequence + entry->n_samples; i++) {
                        set_add(&a->written[entry->incarnation], i);
                        a->counts.written_down++;
                        if (entry->is_spilled)
                                add_place(&a->spilled_written, entry->incarnation, i, 0);
                        a->counts.missing += !set_has(&a->seen[entry->incarnation], i);
                }
        }
        /* release: pairs with the worker's acquire; the entries are read */
        atomic_store_explicit(&l->n_read, a->read[slot], memory_order_release);
}

void audit_poll(struct audit *a) {
        follow_window(a);
        /* in turn, so that no worker takes all that the rate allows */
        a->first_slot++;
        for (unsigned i = 0; a->shared && i < NUMBERED_SLOTS; i++)
                follow_ledger(a, (a->first_slot + i) % NUMBERED_SLOTS);
}

void audit_allow_holes(struct audit *a, uint64_t from) {
        a->holes_from = from;
        a->holes_end = window_tail(a->window);
}

void audit_skip_to(struct audit *a, uint64_t first) {
        a->next = a->start = MAX(a->next, first);
}

static int compare_places(const void *a, const void *b) {
        const struct place *x = a, *y = b;

        if (x->incarnation != y->incarnation)
                return x->incarnation < y->incarnation ? -1 : 1;
        return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

uint64_t audit_spilled_missing(const struct audit *a, const struct audit *copy, uint64_t first) {
        uint64_t n = 0;

        qsort(a->spilled_seen.all, a->spilled_seen.n, sizeof(struct place), compare_places);
        for (size_t i = 0; i < a->spilled_written.n; i++) {
                const struct place *p = &a->spilled_written.all[i];
                const struct place *seen =
                        bsearch(p, a->spilled_seen.all, a->spilled_seen.n, sizeof(*p), compare_places);

                if (set_has(&copy->seen[p->incarnation], p->sequence) || (seen && seen->number < first))
                        continue;
                /* seen and forgotten before its worker's word of it was read: that was long before the cut */
                if (!seen && set_has(&a->seen[p->incarnation], p->sequence))
                        continue;
                if (n++ < MAX_COMPLAINTS)
                        (void) fprintf(stderr,
                                       "spilled and missing: incarnation %" PRIu64 ", sequence %" PRIu64
                                       ", number %" PRId64 "\n",
                                       p->incarnation, p->sequence, seen ? (int64_t) seen->number : -1);
        }
        return n;
}

void audit_forget_spilled(struct audit *a) {
        a->spilled_seen.n = a->spilled_written.n = 0;
}

uint64_t audit_first(const struct audit *a) {
        return window_first(a->window);
}

uint64_t audit_tail(const struct audit *a) {
        return window_tail(a->window);
}

bool audit_is_idle(const struct audit *a, unsigned n) {
        for (unsigned slot = 0; slot < n; slot++) {
                const struct numbered_ledger *l = &a->shared->ledgers[slot];

                if (!atomic_load(&l->idle) || atomic_load(&l->n_written) != a->read[slot])
                        return false;
        }
        return true;
}

const struct audit_counts *audit_counts(const struct audit *a) {
        return &a->counts;
}

void audit_print_missing(const struct audit *a) {
        unsigned n = 0;

        for (uint64_t i = 0; i < MAX_INCARNATIONS; i++)
                for (uint64_t k = 0; k < 64 * a->written[i].n_words && n < MAX_COMPLAINTS; k++)
                        if (set_has(&a->written[i], k) && !set_has(&a->seen[i], k)) {
                                (void) fprintf(stderr,
                                               "missing: incarnation %" PRIu64 ", sequence %" PRIu64 "\n", i,
                                               k);
                                n++;
                        }
}
