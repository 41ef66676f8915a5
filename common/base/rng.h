/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Random numbers with a state of four words that can be saved and restored:
 * xoshiro256** 1.0 (Blackman and Vigna, "Scrambled linear pseudorandom number
 * generators", 2021), seeded by splitmix64 as its authors advise.  Everything
 * random in azpar (noise, temperature, symmetries, the trainer's draws) comes
 * from here, so that a seed fixes a run.
 */

#include <stdint.h>

struct rng {
        uint64_t s[4];
};

/* Start a stream: equal (@seed, @stream) give equal numbers, others independent ones. */
void rng_seed(struct rng *r, uint64_t seed, uint64_t stream);

uint64_t rng_u64(struct rng *r);

/* Uniform in [0, n), without bias (Lemire 2019); n > 0. */
uint32_t rng_below(struct rng *r, uint32_t n);

/* Uniform in [0, 1), 53 bits. */
double rng_double(struct rng *r);

/* Standard normal (Box-Muller, one of the pair is thrown away so that the state stays four words). */
double rng_normal(struct rng *r);

/*
 * Symmetric Dirichlet(alpha) over @n entries: non-negative, sum 1, written to @ret.
 * By gamma draws (Marsaglia and Tsang 2000); alpha > 0, n > 0.
 */
void rng_dirichlet(struct rng *r, double alpha, uint32_t n, float *ret);
