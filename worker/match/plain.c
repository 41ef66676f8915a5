/* SPDX-License-Identifier: MIT */
/*
 * UCT with random rollouts; see plain.h.  Process: azpar-match.
 *
 * Each simulation adds one node, so the arena holds simulations + 1 of them and
 * no search allocates.  A node's children are a list in the order in which they
 * were tried: a new one is drawn uniformly from the moves without a child, and
 * only when there is none left UCB1 chooses.  Legal moves are computed anew on
 * the way down; beside the rollout that costs next to nothing.
 */
#include "worker/match/plain.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#define NO_NODE UINT32_MAX

struct node {
        uint32_t first_child, last_child, next; /* places in the arena, NO_NODE: none */
        uint32_t visits;
        double reward; /* sum, seen from the player who made `move` */
        uint16_t move;
        uint16_t n_children;
};

struct plain {
        const struct game *game;
        uint32_t simulations, n_nodes;
        struct node *nodes; /* [simulations + 1], nodes[0] is the root */
        uint32_t *path;     /* [max_plies + 1] */
};

int plain_new(const struct game *g, uint32_t simulations, struct plain **ret) {
        cleanup_(plain_freep) struct plain *p = calloc(1, sizeof(*p));

        assert(simulations > 0);
        if (!p)
                return -ENOMEM;
        p->game = g;
        p->simulations = simulations;
        p->nodes = calloc((size_t) simulations + 1, sizeof(*p->nodes));
        p->path = calloc((size_t) g->max_plies + 1, sizeof(*p->path));
        if (!p->nodes || !p->path)
                return -ENOMEM;
        *ret = TAKE_PTR(p);
        return 0;
}

void plain_free(struct plain *p) {
        if (!p)
                return;
        free(p->nodes);
        free(p->path);
        free(p);
}

static uint32_t plain_add(struct plain *p, uint16_t move) {
        assert(p->n_nodes <= p->simulations);
        p->nodes[p->n_nodes] = (struct node){
                .first_child = NO_NODE,
                .last_child = NO_NODE,
                .next = NO_NODE,
                .move = move,
        };
        return p->n_nodes++;
}

/* Give @parent a child for one of its @moves that has none, drawn uniformly. */
static uint32_t plain_try_new(struct plain *p, uint32_t parent, const uint16_t *moves, unsigned n_moves,
                              struct rng *rng) {
        struct node *n = &p->nodes[parent];
        bool tried[GAME_MAX_MOVES] = { false };
        unsigned skip = rng_below(rng, n_moves - n->n_children), i = 0;
        uint32_t child;

        for (uint32_t c = n->first_child; c != NO_NODE; c = p->nodes[c].next)
                tried[p->nodes[c].move] = true;
        for (;; i++) {
                assert(i < n_moves);
                if (!tried[moves[i]] && skip-- == 0)
                        break;
        }
        child = plain_add(p, moves[i]);
        if (n->first_child == NO_NODE)
                n->first_child = child;
        else
                p->nodes[n->last_child].next = child;
        n->last_child = child;
        n->n_children++;
        return child;
}

/* UCB1: mean + sqrt(2 ln(parent's visits) / visits). */
static uint32_t plain_select(const struct plain *p, uint32_t parent) {
        double two_log = 2 * log(p->nodes[parent].visits), best = -1;
        uint32_t chosen = NO_NODE;

        for (uint32_t c = p->nodes[parent].first_child; c != NO_NODE; c = p->nodes[c].next) {
                const struct node *n = &p->nodes[c];
                double bound = n->reward / n->visits + sqrt(two_log / n->visits);

                if (bound > best) {
                        best = bound;
                        chosen = c;
                }
        }
        return chosen;
}

static void rollout(const struct game *g, struct game_state *s, struct rng *rng) {
        uint16_t moves[GAME_MAX_MOVES];

        while (!s->over)
                g->apply(g, s, moves[rng_below(rng, g->legal(g, s, moves))]);
}

static void plain_simulate(struct plain *p, const struct game_state *position, struct rng *rng) {
        const struct game *g = p->game;
        struct game_state s = *position;
        unsigned depth = 0, player = position->to_move;
        bool new = false;

        p->path[0] = 0;
        while (!s.over && !new) {
                uint16_t moves[GAME_MAX_MOVES];
                unsigned n_moves = g->legal(g, &s, moves);
                uint32_t at = p->path[depth];

                new = p->nodes[at].n_children < n_moves;
                at = new ? plain_try_new(p, at, moves, n_moves, rng) : plain_select(p, at);
                g->apply(g, &s, p->nodes[at].move);
                p->path[++depth] = at;
        }
        rollout(g, &s, rng);

        /* path[i] was reached by a move of the root's player for odd i, of the other one for even i */
        for (unsigned i = 0; i <= depth; i++) {
                p->nodes[p->path[i]].visits++;
                p->nodes[p->path[i]].reward += (1 + game_value(&s, i % 2 ? player : !player)) / 2.0;
        }
}

uint16_t plain_choose(struct plain *p, const struct game_state *position, struct rng *rng) {
        const struct node *best;

        assert(!position->over);
        p->n_nodes = 0;
        (void) plain_add(p, GAME_NO_MOVE);
        for (uint32_t i = 0; i < p->simulations; i++)
                plain_simulate(p, position, rng);

        best = &p->nodes[p->nodes[0].first_child];
        for (uint32_t c = best->next; c != NO_NODE; c = p->nodes[c].next) {
                const struct node *n = &p->nodes[c];

                if (n->visits > best->visits || (n->visits == best->visits && n->reward > best->reward))
                        best = n;
        }
        return best->move;
}
