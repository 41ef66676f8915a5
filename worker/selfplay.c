/* SPDX-License-Identifier: MIT */
/*
 * Games in play; see selfplay.h.  Process: azpar-worker.
 *
 * A game keeps its samples decoded until it ends, since only then their outcome is known.  Memory for the
 * longest game is taken at the start; the kernel backs only what is used.
 *
 * Identities are given when a game is committed, not when its samples are made: games end in another order
 * than they begin, and azpard recognises duplicates by sequence numbers that only grow from record to record.
 */
#include "worker/selfplay.h"

#include <assert.h>
#include <errno.h>
#include "common/exchange/sample.h"

struct game_in_play {
        struct search *search;
        struct game_state position;
        struct rng rng;
        uint64_t generation; /* newest that evaluated for the running search */
        unsigned place;      /* in the batch */
        unsigned n_samples;
        struct sample *samples; /* [max_plies] */
        uint8_t *to_move;       /* [max_plies], of each sample */
};

struct selfplay {
        const struct game *game;
        struct selfplay_options o;
        struct selfplay_ops ops;

        uint64_t worker_seed;
        uint64_t n_started; /* number of the next game */
        uint64_t sequence;  /* of the next sample */
        uint64_t generation;
        struct selfplay_counters counters; /* but those that the searches count */

        unsigned char *record;
        size_t record_size;
        struct game_in_play *games;
};

static void start_game(struct selfplay *p, struct game_in_play *a) {
        rng_seed(&a->rng, p->worker_seed, p->n_started++);
        a->n_samples = 0;
        p->game->start(p->game, &a->position);
        search_begin(a->search, &a->position, &a->rng);
}

int selfplay_new(const struct game *g, const struct selfplay_options *o, const struct selfplay_ops *ops,
                 struct selfplay **ret) {
        cleanup_(selfplay_freep) struct selfplay *p = NULL;
        struct rng rng;

        assert(o->games > 0);
        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        p->game = g;
        p->o = *o;
        p->ops = *ops;
        rng_seed(&rng, o->seed, o->slot);
        rng_seed(&rng, rng_u64(&rng), o->incarnation);
        p->worker_seed = rng_u64(&rng);
        p->record_size = sample_record_max_bytes(g);
        p->record = malloc(p->record_size);
        p->games = calloc(o->games, sizeof(*p->games));
        if (!p->record || !p->games)
                return -ENOMEM;
        for (uint32_t i = 0; i < o->games; i++) {
                struct game_in_play *a = &p->games[i];

                a->samples = malloc(g->max_plies * sizeof(*a->samples));
                a->to_move = malloc(g->max_plies);
                if (!a->samples || !a->to_move || search_new(g, &o->search, &a->search) < 0)
                        return -ENOMEM;
                start_game(p, a);
        }
        *ret = TAKE_PTR(p);
        return 0;
}

void selfplay_free(struct selfplay *p) {
        if (!p)
                return;
        for (uint32_t i = 0; p->games && i < p->o.games; i++) {
                search_free(p->games[i].search);
                free(p->games[i].samples);
                free(p->games[i].to_move);
        }
        free(p->games);
        free(p->record);
        free(p);
}

void selfplay_set_generation(struct selfplay *p, uint64_t generation) {
        p->generation = generation;
}

static void record_sample(struct selfplay *p, struct game_in_play *a) {
        struct sample *s = &a->samples[a->n_samples];

        assert(a->n_samples < p->game->max_plies);
        s->id = (struct sample_id){ .slot = p->o.slot, .incarnation = p->o.incarnation };
        s->generation = a->generation;
        s->root_value = search_value(a->search);
        s->weight = 1.0f;
        s->ply = a->position.ply;
        s->n_visits = (uint16_t) search_visits(a->search, s->visits);
        p->game->encode(p->game, &a->position, s->planes);
        a->to_move[a->n_samples++] = a->position.to_move;
}

/* The game is over: give its samples their outcome and identity, and hand them on. */
static int commit_game(struct selfplay *p, struct game_in_play *a, struct error *e) {
        size_t n_bytes;
        int r;

        for (unsigned i = 0; i < a->n_samples; i++) {
                a->samples[i].outcome = (int8_t) game_value(&a->position, a->to_move[i]);
                a->samples[i].id.sequence = p->sequence++;
        }
        r = sample_encode_record(p->game, a->samples, a->n_samples, p->record, p->record_size, &n_bytes);
        if (r < 0)
                return error_errno(e, r, "could not encode a game of %u samples", a->n_samples);
        r = p->ops.commit(p->ops.context, p->record, n_bytes, e);
        if (r != 0)
                return r;
        p->counters.games++;
        p->counters.samples += a->n_samples;
        return 0;
}

/* The search is done: make its move. */
static int make_move(struct selfplay *p, struct game_in_play *a, struct error *e) {
        uint16_t move;
        int r;

        record_sample(p, a);
        move = search_choose(a->search, &a->rng);
        p->game->apply(p->game, &a->position, move);
        p->counters.plies++;
        if (!a->position.over) {
                search_advance(a->search, move, &a->rng);
                return 0;
        }
        r = commit_game(p, a, e);
        if (r == 0)
                start_game(p, a);
        return r;
}

int selfplay_step(struct selfplay *p, struct error *e) {
        int r;

        for (uint32_t i = 0; i < p->o.games; i++) {
                struct game_in_play *a = &p->games[i];

                /* ends: a new game always begins with a leaf */
                while (search_descend(a->search) == SEARCH_E_DONE) {
                        r = make_move(p, a, e);
                        if (r != 0)
                                return r;
                }
                a->place = p->ops.add(p->ops.context, search_leaf(a->search),
                                      p->o.search.random_symmetry ? &a->rng : NULL);
        }
        r = p->ops.run(p->ops.context, e);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < p->o.games; i++) {
                struct game_in_play *a = &p->games[i];

                search_expand(a->search, p->ops.logits(p->ops.context, a->place),
                              p->ops.value(p->ops.context, a->place));
                a->generation = p->generation;
        }
        p->counters.batches++;
        return 0;
}

void selfplay_counters(const struct selfplay *p, struct selfplay_counters *ret) {
        *ret = p->counters;
        for (uint32_t i = 0; i < p->o.games; i++) {
                ret->simulations += search_n_simulations(p->games[i].search);
                ret->evaluations += search_n_evaluations(p->games[i].search);
        }
}
