/* SPDX-License-Identifier: MIT */
/*
 * Imported files; see imports.h.  Process: azpard.
 *
 * A sorted array: files are few beside samples, and one is added only when its first game is appended.
 */
#include "daemon/imports.h"

#include <errno.h>
#include <string.h>
#include "common/base/log.h"

struct import {
        uint64_t name, sequence, number;
};

struct imports {
        struct import *all; /* by name */
        size_t n, n_allocated;
};

/* Where @name is, or belongs. */
static size_t place_of(const struct imports *m, uint64_t name) {
        size_t low = 0, high = m->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (m->all[middle].name < name)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static int insert(struct imports *m, size_t at, const struct import *import) {
        if (m->n == m->n_allocated) {
                size_t n = m->n ? 2 * m->n : 64;
                struct import *all = reallocarray(m->all, n, sizeof(*all));

                if (!all)
                        return -ENOMEM;
                m->all = all;
                m->n_allocated = n;
        }
        memmove(&m->all[at + 1], &m->all[at], (m->n - at) * sizeof(*m->all));
        m->all[at] = *import;
        m->n++;
        return 0;
}

static int note(struct imports *m, uint64_t name, uint64_t sequence, uint64_t number) {
        struct import import = { .name = name, .sequence = sequence, .number = number };
        size_t at = place_of(m, name);

        if (at == m->n || m->all[at].name != name)
                return insert(m, at, &import);
        /* not the highest: it may come again from its beginning once the window holds nothing more of it */
        m->all[at].sequence = sequence;
        m->all[at].number = number;
        return 0;
}

int imports_new(const struct window *w, struct imports **ret) {
        cleanup_(imports_freep) struct imports *m = calloc(1, sizeof(*m));
        uint64_t tail = w ? window_tail(w) : 0;
        struct sample_id id;
        int r;

        if (!m)
                return -ENOMEM;
        for (uint64_t i = w ? window_first(w) : 0; i < tail; i++) {
                r = window_read_id(w, i, &id);
                if (r < 0)
                        return r;
                if (r > 0 || id.slot < SAMPLE_SLOT_IMPORTED)
                        continue;
                r = note(m, id.incarnation, id.sequence, i);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(m);
        return 0;
}

void imports_free(struct imports *m) {
        if (!m)
                return;
        free(m->all);
        free(m);
}

void imports_note(struct imports *m, uint64_t name, uint64_t sequence, uint64_t number) {
        if (note(m, name, sequence, number) < 0)
                log_event(LOG_EVENT_IMPORT_FORGOTTEN, LOG_NO_FIELDS,
                          "out of memory: an imported file may not be recognised before azpard is started "
                          "again");
}

bool imports_find(const struct imports *m, uint64_t name, uint64_t first, uint64_t *ret_sequence) {
        size_t at = place_of(m, name);

        if (at == m->n || m->all[at].name != name || m->all[at].number < first)
                return false;
        *ret_sequence = m->all[at].sequence;
        return true;
}
