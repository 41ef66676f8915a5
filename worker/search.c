/* SPDX-License-Identifier: MIT */
/*
 * PUCT on arrays; see search.h for what it computes.  Process: azpar-worker, azpar-match.
 *
 * The tree lies in two arrays of an arena: nodes, and edges (moves), all edges of a node side by side, so
 * that the choice of a move reads memory in order.  Children are u32 indices.  A node is made together with
 * its edges when its evaluation arrives, which gives the invariant that everything else here stands on:
 *
 *      a child's index is higher than its parent's, and edge blocks lie in the order of their nodes
 *
 * So the subtree that search_advance() keeps can be slid down in place in one pass, parents before their
 * children: no second arena, no recursion, no free list.
 *
 * An upper bound of the arena follows from what `simulations` counts: a kept root with v visits has at most v
 * nodes and runs at most simulations - (v - 1) further simulations, each of which makes at most one node.
 *
 * Noise is written into the root's priors in place.  It is never mixed twice, since a node becomes the root
 * only once and noisy priors leave the tree with the old root.
 *
 * Positions are not kept in nodes (a game_state is larger than a node): a simulation replays its moves from
 * the root.
 */
#include "worker/search.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#define NO_NODE UINT32_MAX

struct node {
        double value_sum; /* of all values that came here, seen from this node's side to move */
        uint32_t visits;  /* its own evaluation and every simulation through it */
        uint32_t parent;  /* node; the root's is unused */
        uint32_t first_edge;
        uint16_t parent_edge; /* place among the parent's edges */
        uint16_t n_edges;     /* 0: the game is over here */
        uint16_t n_open;      /* edges that are not proven */
        int8_t best_proven;   /* highest value of the proven edges, seen from here; -1 if there are none */
        int8_t proven;        /* -1, 0, 1 seen from here, SEARCH_NOT_PROVEN */
};

struct edge {
        float prior;
        float value_sum; /* of the values that came back, seen from the node that the edge leaves */
        uint32_t visits;
        uint32_t child; /* NO_NODE before the first visit */
        uint16_t move;
        int8_t proven; /* of the child, seen from the node that the edge leaves */
};

struct search {
        const struct game *game;
        struct search_options o;

        struct game_state root;
        struct rng *rng; /* the caller's */

        /* the position that the running simulation has come to, and the edge that led there */
        struct game_state leaf;
        uint32_t leaf_parent, leaf_edge; /* node, place among its edges; unused at the root */
        bool waiting;                    /* for the leaf's evaluation */

        uint32_t n_nodes, n_edges; /* node 0 is the root; n_nodes is 0 until the root is evaluated */
        uint32_t max_nodes, max_edges;
        struct node *nodes;
        struct edge *edges;
        uint32_t *moved; /* search_advance()'s: new index of each node */

        uint64_t n_simulations, n_evaluations;
};

void search_options_init(struct search_options *o, const struct config *c) {
        *o = (struct search_options){
                .simulations = (uint32_t) c->search_simulations,
                .cpuct = (float) c->search_cpuct,
                .fpu_reduction = (float) c->search_fpu_reduction,
                .noise_alpha = (float) c->search_root_noise_alpha,
                .noise_weight = (float) c->search_root_noise_weight,
                .temperature_plies = (uint32_t) c->search_temperature_plies,
                .tree_reuse = c->search_tree_reuse,
                .prove = c->search_prove,
                .random_symmetry = c->search_random_symmetry,
        };
}

int search_new(const struct game *g, const struct search_options *o, struct search **ret) {
        cleanup_(search_freep) struct search *s = NULL;

        assert(o->simulations >= 1 && o->simulations <= UINT16_MAX);
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->game = g;
        s->o = *o;
        s->max_nodes = o->simulations + 1;
        s->max_edges = s->max_nodes * g->moves;
        s->nodes = malloc(s->max_nodes * sizeof(*s->nodes));
        s->edges = malloc(s->max_edges * sizeof(*s->edges));
        s->moved = malloc(s->max_nodes * sizeof(*s->moved));
        if (!s->nodes || !s->edges || !s->moved)
                return -ENOMEM;
        *ret = TAKE_PTR(s);
        return 0;
}

void search_free(struct search *s) {
        if (!s)
                return;
        free(s->nodes);
        free(s->edges);
        free(s->moved);
        free(s);
}

/* Mix fresh noise into the root's priors. */
static void mix_noise(struct search *s) {
        struct edge *edges = s->edges + s->nodes[0].first_edge;
        uint32_t n = s->nodes[0].n_edges;
        float w = s->o.noise_weight;
        float noise[GAME_MAX_MOVES];

        if (w <= 0.0f)
                return;
        rng_dirichlet(s->rng, s->o.noise_alpha, n, noise);
        for (uint32_t i = 0; i < n; i++)
                edges[i].prior = (1.0f - w) * edges[i].prior + w * noise[i];
}

void search_begin(struct search *s, const struct game_state *position, struct rng *rng) {
        assert(!position->over);
        s->root = *position;
        s->rng = rng;
        s->waiting = false;
        s->n_nodes = 0;
        s->n_edges = 0;
}

/* Place of the move to follow from @n, which is neither over nor proven. */
static uint32_t select_edge(const struct search *s, const struct node *n) {
        const struct edge *edges = s->edges + n->first_edge;
        float explore = s->o.cpuct * sqrtf((float) MAX(n->visits - 1, 1));
        float best = -INFINITY, unvisited = 0.0f;
        uint32_t best_i = 0;

        if (s->o.fpu_reduction > 0.0f)
                unvisited = fmaxf((float) (n->value_sum / n->visits) - s->o.fpu_reduction, -1.0f);
        for (uint32_t i = 0; i < n->n_edges; i++) {
                const struct edge *a = &edges[i];
                float q, score;

                if (a->proven == -1)
                        continue;
                q = a->visits > 0 ? a->value_sum / (float) a->visits : unvisited;
                score = q + explore * a->prior / (float) (1 + a->visits);
                if (score > best) {
                        best = score;
                        best_i = i;
                }
        }
        return best_i;
}

/* The edge that leads to node @i. */
static struct edge *edge_to(struct search *s, uint32_t i) {
        const struct node *n = &s->nodes[i];

        return &s->edges[s->nodes[n->parent].first_edge + n->parent_edge];
}

/* Edge @a of @n leads to what is now proven to be worth @value for @n's side to move: maybe @n is proven,
 * too. */
static void prove(struct node *n, struct edge *a, int value) {
        a->proven = (int8_t) value;
        a->value_sum = (float) value * (float) a->visits;
        n->n_open--;
        n->best_proven = (int8_t) MAX(n->best_proven, value);
        if (value == 1 || n->n_open == 0)
                n->proven = n->best_proven;
}

/*
 * Pass @value, seen from the side to move of node @i, up from @i to the root.  Where a node is proven, its
 * proven value goes on instead: the last move tried may be a loss although the node is known to be drawn.
 */
static void pass_up(struct search *s, uint32_t i, float value) {
        struct node *n = &s->nodes[i];

        n->visits++;
        n->value_sum += value;
        while (i > 0) {
                struct edge *a = edge_to(s, i);
                struct node *parent = &s->nodes[n->parent];

                value = -value;
                a->visits++;
                a->value_sum += value;
                parent->visits++;
                if (s->o.prove && n->proven != SEARCH_NOT_PROVEN && a->proven == SEARCH_NOT_PROVEN)
                        prove(parent, a, -n->proven);
                if (parent->proven != SEARCH_NOT_PROVEN)
                        value = parent->proven;
                parent->value_sum += value;
                i = n->parent;
                n = parent;
        }
}

/* Make the node of s->leaf, without edges. Return: its index. */
static uint32_t add_node(struct search *s) {
        uint32_t i = s->n_nodes++;

        assert(i < s->max_nodes);
        s->nodes[i] = (struct node){
                .parent = s->leaf_parent,
                .parent_edge = (uint16_t) s->leaf_edge,
                .first_edge = s->n_edges,
                .best_proven = -1,
                .proven = SEARCH_NOT_PROVEN,
        };
        if (i > 0)
                edge_to(s, i)->child = i;
        return i;
}

/* Run one simulation. Return: true if it ended at a known value, false if s->leaf must be evaluated. */
static bool simulate(struct search *s) {
        uint32_t i = 0;

        s->leaf = s->root;
        while (s->nodes[i].proven == SEARCH_NOT_PROVEN) {
                uint32_t place = select_edge(s, &s->nodes[i]);
                const struct edge *a = &s->edges[s->nodes[i].first_edge + place];

                s->game->apply(s->game, &s->leaf, a->move);
                if (a->child == NO_NODE) {
                        s->leaf_parent = i;
                        s->leaf_edge = place;
                        if (!s->leaf.over)
                                return false;
                        i = add_node(s);
                        s->nodes[i].proven = (int8_t) game_value(&s->leaf, s->leaf.to_move);
                        break;
                }
                i = a->child;
        }
        pass_up(s, i, s->nodes[i].proven);
        return true;
}

int search_descend(struct search *s) {
        const struct node *root = &s->nodes[0];

        if (s->n_nodes == 0) {
                s->leaf = s->root;
                s->waiting = true;
        }
        while (!s->waiting) {
                if (root->proven != SEARCH_NOT_PROVEN || root->visits > s->o.simulations)
                        return SEARCH_E_DONE;
                s->waiting = !simulate(s);
                s->n_simulations++;
        }
        return SEARCH_E_LEAF;
}

const struct game_state *search_leaf(const struct search *s) {
        assert(s->waiting);
        return &s->leaf;
}

/* Priors of @n edges: softmax of their moves' logits. */
static void set_priors(struct edge *edges, unsigned n, const float *logits) {
        float highest = -INFINITY, sum = 0.0f;

        for (unsigned i = 0; i < n; i++)
                highest = fmaxf(highest, logits[edges[i].move]);
        for (unsigned i = 0; i < n; i++) {
                edges[i].prior = expf(logits[edges[i].move] - highest);
                sum += edges[i].prior;
        }
        /* Each summand is at most 1 and the highest is 1; anything else came from a number that is not
         * finite. */
        if (!(sum >= 1.0f)) {
                for (unsigned i = 0; i < n; i++)
                        edges[i].prior = 1.0f;
                sum = (float) n;
        }
        for (unsigned i = 0; i < n; i++)
                edges[i].prior /= sum;
}

void search_expand(struct search *s, const float *logits, float value) {
        uint16_t moves[GAME_MAX_MOVES];
        struct edge *edges = s->edges + s->n_edges;
        uint32_t i = add_node(s);
        unsigned n = s->game->legal(s->game, &s->leaf, moves);

        assert(s->waiting && n > 0 && s->n_edges + n <= s->max_edges);
        for (unsigned k = 0; k < n; k++)
                edges[k] = (struct edge){ .move = moves[k], .child = NO_NODE, .proven = SEARCH_NOT_PROVEN };
        set_priors(edges, n, logits);
        s->nodes[i].n_edges = (uint16_t) n;
        s->nodes[i].n_open = (uint16_t) n;
        s->n_edges += n;
        s->n_evaluations++;
        s->waiting = false;
        if (i == 0)
                mix_noise(s);
        pass_up(s, i, isfinite(value) ? fminf(fmaxf(value, -1.0f), 1.0f) : 0.0f);
}

/*
 * May the root's edge @a be played? Not if it is proven to be worse than what the root can have for sure.
 */
static bool is_candidate(const struct node *root, const struct edge *a) {
        if (root->proven != SEARCH_NOT_PROVEN)
                return a->proven == root->proven;
        return a->proven != -1;
}

unsigned search_visits(const struct search *s, struct sample_visit *ret) {
        const struct node *root = &s->nodes[0];
        const struct edge *edges = s->edges + root->first_edge, *untried = NULL;
        unsigned n = 0;

        assert(s->n_nodes > 0);
        for (const struct edge *a = edges; a < edges + root->n_edges; a++) {
                if (!is_candidate(root, a))
                        continue;
                if (a->visits > 0)
                        ret[n++] = (struct sample_visit){ .move = a->move, .visits = (uint16_t) a->visits };
                else if (!untried || a->prior > untried->prior)
                        untried = a;
        }
        if (n == 0) {
                assert(untried); /* a root that is not proven has a move that is not lost */
                ret[n++] = (struct sample_visit){ .move = untried->move, .visits = 1 };
        }
        return n;
}

float search_value(const struct search *s) {
        const struct node *root = &s->nodes[0];

        assert(s->n_nodes > 0);
        if (root->proven != SEARCH_NOT_PROVEN)
                return root->proven;
        return (float) (root->value_sum / root->visits);
}

int search_proven(const struct search *s) {
        return s->n_nodes > 0 ? s->nodes[0].proven : SEARCH_NOT_PROVEN;
}

uint16_t search_choose(const struct search *s, struct rng *rng) {
        struct sample_visit visits[GAME_MAX_MOVES];
        unsigned n = search_visits(s, visits), best = 0;
        uint32_t sum = 0, drawn;

        if (s->root.ply >= s->o.temperature_plies) {
                for (unsigned i = 1; i < n; i++)
                        if (visits[i].visits > visits[best].visits)
                                best = i;
                return visits[best].move;
        }
        for (unsigned i = 0; i < n; i++)
                sum += visits[i].visits;
        drawn = rng_below(rng, sum);
        while (drawn >= visits[best].visits)
                drawn -= visits[best++].visits;
        return visits[best].move;
}

/* The root's child after @move, or NO_NODE. */
static uint32_t find_child(const struct search *s, uint16_t move) {
        const struct node *root = &s->nodes[0];

        for (uint32_t i = 0; s->n_nodes > 0 && i < root->n_edges; i++)
                if (s->edges[root->first_edge + i].move == move)
                        return s->edges[root->first_edge + i].child;
        return NO_NODE;
}

/* Make node @top the root and slide its subtree down to the start of the arena. */
static void keep_subtree(struct search *s, uint32_t top) {
        uint32_t n_nodes = 0, n_edges = 0;

        memset(s->moved, 0xff, s->n_nodes * sizeof(*s->moved)); /* NO_NODE */
        for (uint32_t i = top; i < s->n_nodes; i++) {
                struct node n = s->nodes[i];
                uint32_t parent = i == top ? 0 : s->moved[n.parent];

                if (parent == NO_NODE)
                        continue; /* not below top: nor is what lies below it */
                memmove(s->edges + n_edges, s->edges + n.first_edge, n.n_edges * sizeof(*s->edges));
                n.first_edge = n_edges;
                n.parent = parent;
                n_edges += n.n_edges;
                s->moved[i] = n_nodes++;
                s->nodes[s->moved[i]] = n;
                if (i != top)
                        edge_to(s, s->moved[i])->child = s->moved[i];
        }
        s->n_nodes = n_nodes;
        s->n_edges = n_edges;
}

void search_advance(struct search *s, uint16_t move, struct rng *rng) {
        uint32_t child = s->o.tree_reuse ? find_child(s, move) : NO_NODE;
        struct game_state position = s->root;

        s->game->apply(s->game, &position, move);
        if (child == NO_NODE) {
                search_begin(s, &position, rng);
                return;
        }
        assert(!position.over);
        keep_subtree(s, child);
        s->root = position;
        s->rng = rng;
        s->waiting = false;
        mix_noise(s);
}

uint64_t search_n_simulations(const struct search *s) {
        return s->n_simulations;
}

uint64_t search_n_evaluations(const struct search *s) {
        return s->n_evaluations;
}
