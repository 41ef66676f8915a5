/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A progress bar on stderr, redrawn in place; nothing at all where stderr is no terminal.
 *
 *      [#########...........] 45%  1.20 GB of 2.67 GB, 35.1 MB/s, 42 s left
 */

#include <stdbool.h>
#include <stdint.h>

struct progress {
        uint64_t total, begin_ns, drawn_ns;
        const char *unit; /* "B", or "": bare numbers */
        bool shows;
};

void progress_begin(struct progress *p, uint64_t total, const char *unit);

/* Draws at most some ten times a second. */
void progress_show(struct progress *p, uint64_t done);

/* Clear the line, for what is to be said; the next progress_show() draws it again. */
void progress_clear(struct progress *p);
