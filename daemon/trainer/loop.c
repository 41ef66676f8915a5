/* SPDX-License-Identifier: MIT */
/*
 * The trainer's loop; see loop.h.  Runs in azpar-trainer.
 *
 * While there is nothing to do it naps: the window has no way to wake a reader, and 100 looks a second cost
 * nothing.
 *
 * A checkpoint is due after a number of steps or of minutes, whichever comes first: what a crash costs should
 * not depend on how long a step is.  A run that came from no checkpoint writes one before its first step, so
 * that a crash never leads to another first network and a second slack (P6).
 */
#include "daemon/trainer/loop.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/pause_point.h"
#include "daemon/trainer/limiter.h"

#define NAP_NS   (10 * NS_PER_MS)
#define RETRY_NS (2 * NS_PER_S)
#define TELL_NS  (3600 * NS_PER_S)

/* Samples of the window that are asked for the generation that searched them. */
#define N_GENERATION_SAMPLES 4096

/* Publications or checkpoints. */
struct attempt {
        bool done;              /* one has worked (or none is needed yet) */
        int failed;             /* negative errno of the last one, 0 if it worked */
        uint64_t step;          /* of the last one that worked */
        uint64_t done_ns;       /* when that was */
        uint64_t not_before_ns; /* when to try again after a failure */
};

struct loop {
        const struct loop_params *p;
        const struct config *config;
        const struct segment_header *header;
        struct segment_trainer *page;
        struct learner *learner;
        struct limiter limiter;
        struct batch_source source;

        uint64_t gone;
        uint64_t min_samples;
        struct attempt publish, save;
        bool prune_failed;
        uint64_t told_ns; /* when the log last told of a checkpoint; 0: never */
};

/* Relaxed throughout: see segment.h on counters. */
static void put(_Atomic uint64_t *where, uint64_t value) {
        atomic_store_explicit(where, value, memory_order_relaxed);
}

static void put_double(_Atomic uint64_t *where, double value) {
        put(where, segment_double_bits(value));
}

static bool is_set(const _Atomic uint32_t *word) {
        return atomic_load_explicit(word, memory_order_relaxed) != 0;
}

static void set_state(struct loop *l, enum trainer_state state) {
        atomic_store_explicit(&l->page->state, (uint32_t) state, memory_order_relaxed);
        heart_progress(l->p->heart);
}

/* ---- what the page tells ---- */

static void tell(struct loop *l) {
        const struct checkpoint *s = learner_state(l->learner);

        log_set_fields(LOG_FIELDS(LOG_NUMBER(STEP, s->step)));
        put(&l->page->step, s->step);
        put(&l->page->samples_trained, s->samples_trained);
        put(&l->page->samples_inserted, l->limiter.inserted);
        put(&l->page->samples_allowed, limiter_allowed(&l->limiter));
        put(&l->page->gone, l->gone);
        put_double(&l->page->learning_rate, learner_rate(l->learner));
        put_double(&l->page->smooth_policy, s->smooth_policy);
        put_double(&l->page->smooth_value, s->smooth_value);
        put_double(&l->page->smooth_total, s->smooth_total);
}

static void tell_loss(struct loop *l) {
        const struct torch_loss *loss = learner_loss(l->learner);

        put_double(&l->page->loss_policy, loss->policy);
        put_double(&l->page->loss_value, loss->value);
        put_double(&l->page->loss_total, loss->total);
}

/* azpard looks at the page when its eventfd says so. */
static void wake(struct loop *l) {
        const uint64_t one = 1;

        /* a full counter (EAGAIN) wakes as well, and azpard looks once a second in any case */
        while (write(l->p->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
                ;
}

/* ---- publish and save ---- */

/*
 * After a publication or checkpoint that gave @r: tell, and say once that it is tried again.
 * Return: 0 to go on, or @r.
 */
static int take_result(struct loop *l, struct attempt *a, int r, const struct error *e) {
        bool failed_before = a->failed != 0;

        a->failed = r;
        a->not_before_ns = r < 0 ? clock_now_ns() + RETRY_NS : 0;
        atomic_store_explicit(&l->page->save_errno,
                              (uint32_t) - (l->save.failed ? l->save.failed : l->publish.failed),
                              memory_order_relaxed);
        if (r == 0) {
                a->done = true;
                a->step = learner_state(l->learner)->step;
                a->done_ns = clock_now_ns();
                if (failed_before)
                        log_event(LOG_EVENT_SAVE_RECOVERED, LOG_NO_FIELDS,
                                  "saving works again at step %" PRIu64, a->step);
                return 0;
        }
        if (!error_passes(r))
                return r; /* this process cannot go on */
        if (!failed_before)
                log_event(LOG_EVENT_SAVE_FAILED, LOG_FIELDS(LOG_TEXT(REASON, e->text)),
                          "%s; training goes on, and it is tried again every few seconds", e->text);
        return 0;
}

/* Return: 0 or a negative errno with a text. */
static int publish(struct loop *l, struct error *e) {
        const struct checkpoint *s = learner_state(l->learner);
        uint64_t begin = clock_now_ns();
        int r;

        r = learner_publish(l->learner, e);
        if (r < 0)
                return r;
        PAUSE_POINT(PUBLISH_BEFORE_TELL);
        put(&l->page->publish_ns, clock_now_ns() - begin);
        put(&l->page->published_step, s->step);
        /* release: pairs with azpard's acquire, which then opens the file */
        atomic_store_explicit(&l->page->published_generation, s->generation, memory_order_release);
        PAUSE_POINT(PUBLISH_BEFORE_WAKE);
        wake(l);
        return 0;
}

static uint64_t asked_checkpoint(const struct loop *l) {
        return atomic_load_explicit(&l->header->checkpoint_request, memory_order_relaxed);
}

/* A checkpoint too many is no reason to stop, nor to say so more than once until removing works again. */
static void prune(struct loop *l) {
        struct error e = ERROR_INIT;
        bool failed = learner_prune(l->learner, &e) < 0;

        if (failed && !l->prune_failed)
                log_event(LOG_EVENT_CHECKPOINT_LEFT, LOG_FIELDS(LOG_TEXT(REASON, e.text)),
                          "the checkpoint is written, but an older one or a leftover stays: %s", e.text);
        l->prune_failed = failed;
}

/* The first one, those that somebody waits for, and else so often that one sees it goes on. */
static void tell_saved(struct loop *l, bool asked) {
        const struct checkpoint *s = learner_state(l->learner);
        uint64_t now_ns = clock_now_ns();

        if (l->told_ns && !asked && now_ns - l->told_ns < TELL_NS)
                return;
        l->told_ns = now_ns;
        log_event(LOG_EVENT_CHECKPOINT_WRITTEN,
                  LOG_FIELDS(LOG_NUMBER(STEP, s->step), LOG_NUMBER(GENERATION, s->generation)),
                  "checkpoint at step %" PRIu64 ", generation %" PRIu64, s->step, s->generation);
}

/* Return: 0 or a negative errno with a text. */
static int save(struct loop *l, struct error *e) {
        uint64_t request = asked_checkpoint(l);
        bool asked = request != atomic_load_explicit(&l->page->checkpoint_done, memory_order_relaxed);
        int r;

        set_state(l, TRAINER_SAVING);
        r = learner_save(l->learner, l->limiter.tail, limiter_allowed(&l->limiter), e);
        if (r < 0)
                return r;
        PAUSE_POINT(CHECKPOINT_BEFORE_TELL);
        prune(l);
        put(&l->page->checkpoint_step, learner_state(l->learner)->step);
        /* release: pairs with azpard's acquire, which then reads checkpoint_step */
        atomic_store_explicit(&l->page->checkpoint_done, request, memory_order_release);
        wake(l);
        tell_saved(l, asked || *l->p->terminated || is_set(&l->header->stop));
        return 0;
}

/* @interval in steps; @interval_ns counts only where a step was made since. */
static bool is_due(const struct attempt *a, uint64_t step, uint64_t interval, uint64_t interval_ns) {
        uint64_t now = clock_now_ns();
        bool is_old = step != a->step && now - a->done_ns >= interval_ns;

        return (!a->done || step - a->step >= interval || is_old) && now >= a->not_before_ns;
}

/* Publish and save what is due. Return: 0 or a negative errno with a text. */
static int publish_and_save(struct loop *l, struct error *e) {
        uint64_t step = learner_state(l->learner)->step;
        bool asked =
                asked_checkpoint(l) != atomic_load_explicit(&l->page->checkpoint_done, memory_order_relaxed);
        int r;

        if (is_due(&l->publish, step, l->config->train_publish_interval, UINT64_MAX)) {
                r = take_result(l, &l->publish, publish(l, e), e);
                if (r < 0)
                        return r;
        }
        if (is_due(&l->save, step, asked ? 0 : l->config->train_checkpoint_interval,
                   (uint64_t) (l->config->train_checkpoint_minutes * 60 * NS_PER_S)))
                return take_result(l, &l->save, save(l, e), e);
        return 0;
}

/* ---- train ---- */

static int read_window(const void *context, uint64_t number, struct sample *ret) {
        return window_read(context, number, ret);
}

/* What to do now: train, or stand still for the reason that the state tells. */
static enum trainer_state choose(struct loop *l) {
        if (is_set(&l->header->pause))
                return TRAINER_PAUSED;
        if (l->source.tail - l->source.first < l->min_samples)
                return TRAINER_FILLING;
        return limiter_allowed(&l->limiter) < l->config->train_batch ? TRAINER_LIMITED : TRAINER_TRAINING;
}

/* One step, or a nap. Return: 0 or a negative errno with a text. */
static int work(struct loop *l, struct error *e) {
        enum trainer_state state;
        int r;

        l->source.first = window_first(l->p->window);
        l->source.tail = window_tail(l->p->window);
        limiter_insert(&l->limiter, l->source.tail);
        state = choose(l);
        set_state(l, state);
        if (state == TRAINER_TRAINING) {
                r = learner_step(l->learner, &l->source, &l->gone, e);
                if (r < 0)
                        return r;
                if (r == 0) {
                        heart_step(l->p->heart);
                        (void) limiter_take(&l->limiter, l->config->train_batch);
                        tell_loss(l);
                        tell(l);
                        return 0;
                }
        }
        tell(l);
        clock_sleep_ns(NAP_NS);
        return 0;
}

/*
 * Asked to leave while azpard runs on: for a new configuration, or by a person.  There is time, so what was
 * learned is not given up for a disk that is full at the moment: training goes on until it could be saved.
 * Return: 0 and whether it was, or a negative errno with a text.
 */
static int leave(struct loop *l, bool *ret_left, struct error *e) {
        int r;

        *ret_left = false;
        if (clock_now_ns() < l->save.not_before_ns)
                return 0;
        r = take_result(l, &l->save, save(l, e), e);
        *ret_left = r == 0 && l->save.failed == 0;
        return r;
}

static int run(struct loop *l, struct error *e) {
        bool left = false;
        int r;

        while (!is_set(&l->header->stop)) {
                if (*l->p->terminated) {
                        r = leave(l, &left, e);
                        if (r < 0 || left)
                                return r;
                }
                r = publish_and_save(l, e);
                if (r < 0)
                        return r;
                r = work(l, e);
                if (r < 0)
                        return r;
        }
        return save(l, e);
}

static void start_limiter(struct loop *l) {
        const struct config *c = l->config;
        const struct checkpoint *s = learner_state(l->learner);
        const struct limiter_rule rule = {
                .ratio = c->replay_ratio,
                .slack = c->replay_slack,
                .batch = c->train_batch,
        };
        const struct limiter_window w = {
                .first = window_first(l->p->window),
                .tail = window_tail(l->p->window),
                .capacity = window_capacity(l->p->window),
        };

        if (learner_origin(l->learner) == LEARNER_RESUMED)
                limiter_resume(&l->limiter, &rule, &w, s->samples_allowed, s->window_tail);
        else
                limiter_start(&l->limiter, &rule, &w);
}

/*
 * Generations never repeat.  The model file knows the last one, but it may be gone, and the checkpoint is
 * older; what the window's newest samples were searched with has been published in any case.
 */
static void raise_generation(struct loop *l) {
        uint64_t tail = window_tail(l->p->window);
        uint64_t first = MAX(window_first(l->p->window), tail - MIN(tail, N_GENERATION_SAMPLES));

        for (uint64_t i = first; i < tail; i++) {
                struct sample s;

                if (window_read(l->p->window, i, &s) == 0)
                        learner_raise_generation(l->learner, s.generation);
        }
}

/* Whether the checkpoint that it came from, if any, is what a crash right now would go on from. */
static bool is_saved(const struct loop *l) {
        return learner_origin(l->learner) == LEARNER_RESUMED &&
               learner_state(l->learner)->window_tail <= l->limiter.tail;
}

int loop_run(const struct loop_params *p, struct error *e) {
        struct loop l = {
                .p = p,
                .config = p->config,
                .header = p->segment->header,
                .page = p->segment->trainer,
                .learner = p->learner,
                .source = { .context = p->window, .read = read_window },
                .min_samples = MIN(p->config->replay_min_samples, window_capacity(p->window)),
        };

        start_limiter(&l);
        l.save = (struct attempt){ .done = is_saved(&l),
                                   .step = learner_state(l.learner)->step,
                                   .done_ns = clock_now_ns() };
        raise_generation(&l);
        set_state(&l, TRAINER_STARTING);
        atomic_store_explicit(&l.page->on_cuda, learner_on_cuda(l.learner), memory_order_relaxed);
        tell(&l);
        return run(&l, e);
}
