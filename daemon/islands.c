/* SPDX-License-Identifier: MIT */
/* Islands; see islands.h.  Process: azpard. */
#include "daemon/islands.h"

#include <errno.h>
#include <stdlib.h>

struct islands {
        struct sample_id *all; /* sorted */
        size_t n, n_allocated;
        uint64_t begin;
};

static int add(struct islands *s, const struct sample_id *id) {
        if (s->n == s->n_allocated) {
                size_t n = s->n ? 2 * s->n : 1024;
                struct sample_id *all = reallocarray(s->all, n, sizeof(*all));

                if (!all)
                        return -ENOMEM;
                s->all = all;
                s->n_allocated = n;
        }
        s->all[s->n++] = *id;
        return 0;
}

static int compare(const void *a, const void *b) {
        const struct sample_id *x = a, *y = b;

        if (x->slot != y->slot)
                return x->slot < y->slot ? -1 : 1;
        if (x->incarnation != y->incarnation)
                return x->incarnation < y->incarnation ? -1 : 1;
        return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static int find(struct islands *s, const struct window *w) {
        uint64_t tail = window_tail(w);
        struct sample_id id;
        int r;

        for (uint64_t i = window_first(w); i < tail; i++) {
                r = window_read_id(w, i, &id);
                if (r < 0)
                        return r;
                if (r > 0) {
                        s->begin = MIN(s->begin, i);
                        continue;
                }
                if (i < s->begin || id.slot < SAMPLE_SLOT_SPILLED)
                        continue;
                r = add(s, &id);
                if (r < 0)
                        return r;
        }
        if (s->n > 0)
                qsort(s->all, s->n, sizeof(*s->all), compare);
        return 0;
}

int islands_new(const struct window *w, struct islands **ret) {
        cleanup_(islands_freep) struct islands *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        s->begin = window_tail(w);
        r = window_n_damaged(w) > 0 ? find(s, w) : 0;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

void islands_free(struct islands *s) {
        if (!s)
                return;
        free(s->all);
        free(s);
}

uint64_t islands_begin(const struct islands *s) {
        return s->begin;
}

bool islands_have(const struct islands *s, const struct sample_id *id) {
        return s->n > 0 && bsearch(id, s->all, s->n, sizeof(*s->all), compare);
}
