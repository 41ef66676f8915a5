/* SPDX-License-Identifier: MIT */
/* Publication of models; see publication.h.  Process: azpard. */
#include "daemon/publication.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/pause_point.h"

#define TELL_NS (3600 * NS_PER_S)

static int check_file(const struct publication *p, struct model_info *ret, struct error *e) {
        struct model_info info;
        int r;

        r = model_check(p->state_fd, PUBLICATION_PATH, &p->network, &info, e);
        if (r < 0)
                return r;
        if (info.generation == 0)
                return error_set(e, -EBADMSG, "'%s': generation is 0", PUBLICATION_PATH);
        *ret = info;
        return 0;
}

int publication_init(struct publication *p, int state_fd, const struct network *want, struct error *e) {
        int r;

        *p = (struct publication){ .state_fd = state_fd, .network = *want };
        r = check_file(p, &p->info, e);
        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                /* Of another network is one thing, damaged is another: only then does the checkpoint help. */
                const char *advice =
                        r == -EINVAL
                                ? "use the network that it was made with, or another state directory"
                                : "move the file away: the newest checkpoint is published again at start";
                char reason[ERROR_TEXT_MAX];

                (void) snprintf(reason, sizeof(reason), "%s", e->text);
                return error_set(e, r, "%.380s; %s", reason, advice);
        }
        return 0;
}

void publication_announce(struct publication *p, struct segment *s) {
        uint64_t now_us = clock_unix_us();

        if (p->info.generation == 0)
                return;
        PAUSE_POINT(ANNOUNCE_BEFORE);
        log_set_fields(LOG_FIELDS(LOG_NUMBER(GENERATION, p->info.generation)));
        p->announced_ns = clock_now_ns();
        p->age_ns = now_us > p->info.unix_us ? (now_us - p->info.unix_us) * 1000 : 0;
        /* Relaxed: the store of the generation publishes this one. */
        atomic_store_explicit(&s->header->generation_ns, p->announced_ns, memory_order_relaxed);
        PAUSE_POINT(ANNOUNCE_MIDDLE);
        /* Release: pairs with the workers' acquire, so that they measure the lag from generation_ns. */
        atomic_store_explicit(&s->header->generation, p->info.generation, memory_order_release);
}

/*
 * The file could not be read, or is not what it should be; only in the second case there is no use in looking
 * again before the trainer publishes.
 */
static void refuse(struct publication *p, uint64_t published, int r, const struct error *e) {
        bool changed = strcmp(p->refused_reason, e->text) != 0;

        p->again = r != -EBADMSG && r != -EINVAL;
        p->n_refused += !p->again;
        (void) snprintf(p->refused_reason, sizeof(p->refused_reason), "%s", e->text);
        if (!p->again)
                log_event(LOG_EVENT_WEIGHTS_REFUSED,
                          LOG_FIELDS(LOG_NUMBER(GENERATION, published), LOG_TEXT(REASON, e->text)),
                          "refused generation %ju: %s", (uintmax_t) published, e->text);
        else if (changed)
                log_event(LOG_EVENT_WEIGHTS_UNREADABLE,
                          LOG_FIELDS(LOG_NUMBER(GENERATION, published), LOG_TEXT(REASON, e->text)),
                          "could not check generation %ju, trying again: %s", (uintmax_t) published, e->text);
}

/* The first one, and then so often that one sees it goes on. */
static void tell_announced(struct publication *p) {
        if (p->told_ns && p->announced_ns - p->told_ns < TELL_NS)
                return;
        p->told_ns = p->announced_ns;
        log_event(LOG_EVENT_WEIGHTS_ANNOUNCED, LOG_FIELDS(LOG_NUMBER(GENERATION, p->info.generation)),
                  "new weights: generation %ju at step %ju, %ju published since azpard started",
                  (uintmax_t) p->info.generation, (uintmax_t) p->info.step, (uintmax_t) p->n_announced);
}

bool publication_poll(struct publication *p, struct segment *s, bool again) {
        /* Acquire: pairs with the trainer's release after the rename, so that the file is there. */
        uint64_t published = atomic_load_explicit(&s->trainer->published_generation, memory_order_acquire);
        struct error e = ERROR_INIT;
        struct model_info info;
        int r;

        if (published == 0 || (published == p->seen && !(p->again && again)))
                return false;
        p->seen = published;
        r = check_file(p, &info, &e);
        if (r < 0) {
                refuse(p, published, r, &e);
                return false;
        }
        p->again = false;
        if (p->refused_reason[0])
                log_event(LOG_EVENT_WEIGHTS_RECOVERED, LOG_FIELDS(LOG_NUMBER(GENERATION, info.generation)),
                          "generation %ju is good again", (uintmax_t) info.generation);
        p->refused_reason[0] = '\0';
        p->info = info;
        p->n_announced++;
        publication_announce(p, s);
        tell_announced(p);
        return true;
}

uint64_t publication_age_ns(const struct publication *p, uint64_t now_ns) {
        return p->announced_ns ? p->age_ns + (now_ns - p->announced_ns) : 0;
}
