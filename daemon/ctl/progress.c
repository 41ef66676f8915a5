/* SPDX-License-Identifier: MIT */
/* A progress bar; see progress.h.  Used by azparctl. */
#include "daemon/ctl/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/base/attr.h"
#include "common/base/clock.h"
#include "daemon/ctl/human.h"

#define BAR_CHARACTERS 20
#define DRAW_NS        (100 * NS_PER_MS)

void progress_begin(struct progress *p, uint64_t total, const char *unit) {
        *p = (struct progress){
                .total = total, .unit = unit, .begin_ns = clock_now_ns(), .shows = isatty(STDERR_FILENO)
        };
}

static struct human amount(const struct progress *p, double n) {
        return p->unit[0] ? human_bytes(n) : human_number(n);
}

void progress_show(struct progress *p, uint64_t done) {
        static const char marks[] = "####################", rest[] = "....................";
        uint64_t now_ns = clock_now_ns();
        double share, rate, left_s;
        int n;

        if (!p->shows || (p->drawn_ns && now_ns - p->drawn_ns < DRAW_NS))
                return;
        p->drawn_ns = now_ns;
        share = p->total ? (double) MIN(done, p->total) / (double) p->total : 1.0;
        rate = (double) done * NS_PER_S / (double) MAX(now_ns - p->begin_ns, UINT64_C(1));
        left_s = rate > 0 ? (double) (p->total - MIN(done, p->total)) / rate : 0;
        n = (int) (share * BAR_CHARACTERS);
        (void) fprintf(stderr, "\r\033[K[%.*s%.*s] %.0f%%  %s of %s, %s/s, %s left", n, marks,
                       BAR_CHARACTERS - n, rest, 100 * share, amount(p, (double) done).text,
                       amount(p, (double) p->total).text, amount(p, rate).text, human_duration(left_s).text);
        (void) fflush(stderr);
}

void progress_clear(struct progress *p) {
        if (!p->shows || !p->drawn_ns)
                return;
        (void) fputs("\r\033[K", stderr);
        (void) fflush(stderr);
        p->drawn_ns = 0;
}
