/* SPDX-License-Identifier: MIT */
/* Numbered games; see numbered.h. */
#include "tests/kill/numbered.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "common/base/rng.h"

struct numbered_shared *numbered_map(void) {
        const char *path = getenv("AZPAR_KILL_FILE");
        cleanup_(fd_closep) int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
        void *p;

        if (fd < 0)
                return NULL;
        p = mmap(NULL, sizeof(struct numbered_shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return p == MAP_FAILED ? NULL : p;
}

unsigned numbered_length(uint64_t incarnation, uint64_t sequence) {
        struct rng r;

        rng_seed(&r, incarnation, sequence);
        return 1 + rng_below(&r, NUMBERED_PLIES);
}

/* A position after @ply random moves in which the game goes on. */
static void random_position(const struct game *g, struct rng *r, unsigned ply, struct game_state *ret) {
        uint16_t legal[GAME_MAX_MOVES];

        do {
                g->start(g, ret);
                while (!ret->over && ret->ply < ply)
                        g->apply(g, ret, legal[rng_below(r, g->legal(g, ret, legal))]);
        } while (ret->over);
}

void numbered_sample(const struct game *g, struct sample_id id, unsigned ply, struct sample *ret) {
        uint16_t legal[GAME_MAX_MOVES];
        struct game_state s;
        unsigned n_legal;
        struct rng r;

        rng_seed(&r, id.incarnation ^ UINT64_C(0x6b696c6c), id.sequence);
        random_position(g, &r, ply, &s);
        n_legal = g->legal(g, &s, legal);
        memset(ret, 0, offsetof(struct sample, visits));
        ret->id = id;
        ret->ply = (uint16_t) ply;
        ret->generation = 1 + rng_below(&r, 7);
        ret->root_value = (float) rng_below(&r, 20001) / 10000 - 1;
        ret->weight = 1;
        ret->outcome = (int8_t) ((int) rng_below(&r, 3) - 1);
        ret->n_visits = (uint16_t) n_legal;
        g->encode(g, &s, ret->planes);
        for (unsigned i = 0; i < n_legal; i++)
                ret->visits[i] =
                        (struct sample_visit){ legal[i], (uint16_t) (1 + rng_below(&r, UINT16_MAX)) };
}

bool numbered_equal(const struct sample *a, const struct sample *b) {
        return a->id.incarnation == b->id.incarnation && a->id.sequence == b->id.sequence &&
               a->ply == b->ply && a->generation == b->generation &&
               memcmp(&a->root_value, &b->root_value, sizeof(float)) == 0 &&
               memcmp(&a->weight, &b->weight, sizeof(float)) == 0 && a->outcome == b->outcome &&
               a->n_visits == b->n_visits && memcmp(a->planes, b->planes, sizeof(a->planes)) == 0 &&
               memcmp(a->visits, b->visits, a->n_visits * sizeof(a->visits[0])) == 0;
}
