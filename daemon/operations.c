/* SPDX-License-Identifier: MIT */
/* What clients of the control socket may ask; see operations.h.  Process: azpard, on its one loop. */
#include "daemon/operations.h"

#include <errno.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "daemon/daemon.h"
#include "daemon/status.h"

static cJSON *do_status(void *userdata) {
        struct daemon *d = userdata;
        struct status_sources s = daemon_sources(d);

        rates_refresh(d->rates, d->segment);
        return status_build(&s, clock_now_ns());
}

static int refuse_when_stopping(const struct daemon *d, struct error *e) {
        return d->stopping ? error_set(e, -ESHUTDOWN, "azpard is stopping") : 0;
}

static int do_set_workers(void *userdata, unsigned n, struct error *e) {
        struct daemon *d = userdata;
        int r = refuse_when_stopping(d, e);

        if (r < 0)
                return r;
        if (n > d->segment->n_workers)
                return error_set(e, -ERANGE,
                                 "%u workers: at most %u can be set while running (selfplay.max_workers)", n,
                                 d->segment->n_workers);
        daemon_set_workers(d, n);
        log_event(LOG_EVENT_WORKERS_CHANGED, LOG_FIELDS(LOG_NUMBER(WORKERS, n)),
                  "number of workers: %u from now on", n);
        return 0;
}

static int do_set_paused(void *userdata, bool paused, struct error *e) {
        struct daemon *d = userdata;
        int r = refuse_when_stopping(d, e);

        if (r < 0)
                return r;
        atomic_store_explicit(&d->segment->header->pause, paused, memory_order_release);
        if (!paused)
                children_unpark(d->children);
        log_event(paused ? LOG_EVENT_PAUSED : LOG_EVENT_RESUMED, LOG_NO_FIELDS, "%s",
                  paused ? "paused" : "resumed");
        return 0;
}

static int do_checkpoint(void *userdata, uint64_t *ret_request, struct error *e) {
        struct daemon *d = userdata;
        const struct child *trainer = children_get(d->children, CHILDREN_TRAINER);
        int r = refuse_when_stopping(d, e);

        if (r < 0)
                return r;
        if (trainer->phase == CHILD_PARKED)
                return error_set(e, -ECHILD, "the trainer is parked: %s", trainer->last_exit);
        *ret_request = 1 + atomic_fetch_add_explicit(&d->segment->header->checkpoint_request, 1,
                                                     memory_order_release);
        return 0;
}

static int do_checkpoint_done(void *userdata, uint64_t request, uint64_t *ret_step) {
        struct daemon *d = userdata;
        const struct segment_trainer *t = d->segment->trainer;

        /* Acquire: pairs with the trainer's release, so that checkpoint_step is of that checkpoint or a later
         * one. */
        if (atomic_load_explicit(&t->checkpoint_done, memory_order_acquire) >= request) {
                *ret_step = atomic_load_explicit(&t->checkpoint_step, memory_order_relaxed);
                return 1;
        }
        return children_get(d->children, CHILDREN_TRAINER)->phase == CHILD_PARKED ? -ECHILD : 0;
}

static int do_import(void *userdata, int fd, uint64_t *ret_ticket, struct error *e) {
        cleanup_(fd_closep) int owned_fd = fd;
        struct daemon *d = userdata;
        int r = refuse_when_stopping(d, e);

        return r < 0 ? r : refill_import(d->refill, TAKE_FD(owned_fd), ret_ticket, e);
}

static int do_import_done(void *userdata, uint64_t ticket, struct refill_import *ret, struct error *e) {
        const struct daemon *d = userdata;

        return refill_import_done(d->refill, ticket, ret, e);
}

static int do_reload(void *userdata, cJSON **ret_answer, struct error *e) {
        return daemon_reload(userdata, ret_answer, e);
}

static int do_stop(void *userdata, struct error *e) {
        (void) e;
        daemon_stop(userdata, "asked on the control socket");
        return 0;
}

const struct control_ops operations = {
        .status = do_status,
        .set_workers = do_set_workers,
        .set_paused = do_set_paused,
        .checkpoint = do_checkpoint,
        .checkpoint_done = do_checkpoint_done,
        .import = do_import,
        .import_done = do_import_done,
        .reload = do_reload,
        .stop = do_stop,
};
