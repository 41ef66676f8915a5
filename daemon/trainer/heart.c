/* SPDX-License-Identifier: MIT */
/* The trainer's heartbeat; see heart.h.  Runs in azpar-trainer: two functions on the main thread, the beat on
 * its own. */
#include "daemon/trainer/heart.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define BEAT_NS (200 * NS_PER_MS)

struct heart {
        pthread_t thread;
        pthread_mutex_t mutex;
        pthread_cond_t stopped;
        bool stop; /* under mutex */

        /* written by the main thread; relaxed: each is read for itself, and an old value costs one beat */
        _Atomic uint64_t progress_ns;
        _Atomic uint64_t longest_step_ns;
        struct segment_trainer *page;
};

static uint64_t get(const _Atomic uint64_t *from) {
        return atomic_load_explicit(from, memory_order_relaxed);
}

static void put(_Atomic uint64_t *where, uint64_t value) {
        atomic_store_explicit(where, value, memory_order_relaxed);
}

uint64_t heart_patience_ns(uint64_t longest_step_ns) {
        if (longest_step_ns == 0 || longest_step_ns > HEART_MAX_NS / HEART_STEPS)
                return HEART_MAX_NS;
        return MAX(HEART_STEPS * longest_step_ns, HEART_MIN_NS);
}

void heart_progress(struct heart *h) {
        put(&h->progress_ns, clock_now_ns());
}

void heart_step(struct heart *h) {
        uint64_t took = clock_now_ns() - get(&h->progress_ns);

        put(&h->longest_step_ns, MAX(get(&h->longest_step_ns), took));
        heart_progress(h);
}

static struct timespec beat_deadline(void) {
        uint64_t ns = clock_now_ns() + BEAT_NS;

        return (struct timespec){ .tv_sec = (time_t) (ns / NS_PER_S), .tv_nsec = (long) (ns % NS_PER_S) };
}

static void *beat(void *context) {
        struct heart *h = context;

        (void) pthread_mutex_lock(&h->mutex);
        while (!h->stop) {
                struct timespec deadline = beat_deadline();
                uint64_t progress = get(&h->progress_ns);
                uint64_t now = clock_now_ns(); /* after the load, so never before progress */

                if (now - progress < heart_patience_ns(get(&h->longest_step_ns)))
                        put(&h->page->heartbeat_ns, now);
                (void) pthread_cond_timedwait(&h->stopped, &h->mutex, &deadline);
        }
        (void) pthread_mutex_unlock(&h->mutex);
        return NULL;
}

int heart_new(struct segment_trainer *page, struct heart **ret, struct error *e) {
        struct heart *h = calloc(1, sizeof(*h));
        pthread_condattr_t monotonic;
        int r;

        if (!h)
                return error_set(e, -ENOMEM, "out of memory");
        h->page = page;
        heart_progress(h);
        r = pthread_condattr_init(&monotonic);
        if (r == 0)
                r = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        if (r == 0)
                r = pthread_cond_init(&h->stopped, &monotonic);
        if (r == 0)
                r = pthread_mutex_init(&h->mutex, NULL);
        if (r == 0)
                r = pthread_create(&h->thread, NULL, beat, h);
        if (r != 0) {
                free(h);
                return error_errno(e, -r, "could not start the heartbeat");
        }
        *ret = h;
        return 0;
}

void heart_free(struct heart *h) {
        if (!h)
                return;
        (void) pthread_mutex_lock(&h->mutex);
        h->stop = true;
        (void) pthread_cond_signal(&h->stopped);
        (void) pthread_mutex_unlock(&h->mutex);
        (void) pthread_join(h->thread, NULL);
        (void) pthread_cond_destroy(&h->stopped);
        (void) pthread_mutex_destroy(&h->mutex);
        free(h);
}
