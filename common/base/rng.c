/* SPDX-License-Identifier: MIT */
/* Random numbers; see rng.h. */
#include "common/base/rng.h"

#include <assert.h>
#include <math.h>

static uint64_t splitmix64(uint64_t *x) {
        uint64_t z = (*x += 0x9e3779b97f4a7c15u);

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

void rng_seed(struct rng *r, uint64_t seed, uint64_t stream) {
        /* The stream is hashed before it meets the seed, so that (1, 2) and (2, 1) differ. */
        uint64_t x = stream;
        uint64_t y = seed ^ splitmix64(&x);

        for (int i = 0; i < 4; i++)
                r->s[i] = splitmix64(&y);
}

static uint64_t rotate_left(uint64_t x, int k) {
        return (x << k) | (x >> (64 - k));
}

uint64_t rng_u64(struct rng *r) {
        uint64_t *s = r->s;
        uint64_t result = rotate_left(s[1] * 5, 7) * 9;
        uint64_t t = s[1] << 17;

        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate_left(s[3], 45);
        return result;
}

uint32_t rng_below(struct rng *r, uint32_t n) {
        uint64_t m;

        assert(n > 0);
        m = (uint64_t) (uint32_t) (rng_u64(r) >> 32) * n;
        if ((uint32_t) m < n) {
                uint32_t threshold = -n % n;

                while ((uint32_t) m < threshold)
                        m = (uint64_t) (uint32_t) (rng_u64(r) >> 32) * n;
        }
        return (uint32_t) (m >> 32);
}

double rng_double(struct rng *r) {
        return (double) (rng_u64(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r) {
        double u = 1.0 - rng_double(r); /* (0, 1]: log(0) must not happen */
        double v = rng_double(r);

        return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

/* Logarithm of a Gamma(alpha, 1) draw: for small alpha the draw itself often underflows to zero. */
static double log_gamma_draw(struct rng *r, double alpha) {
        double boost = 0.0, d, c;

        if (alpha < 1.0) {
                boost = log(1.0 - rng_double(r)) / alpha;
                alpha += 1.0;
        }
        d = alpha - 1.0 / 3.0;
        c = 1.0 / sqrt(9.0 * d);
        for (;;) {
                double x = rng_normal(r);
                double v = 1.0 + c * x;
                double u;

                if (v <= 0.0)
                        continue;
                v = v * v * v;
                u = 1.0 - rng_double(r);
                if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
                        return log(d * v) + boost;
        }
}

void rng_dirichlet(struct rng *r, double alpha, uint32_t n, float *ret) {
        double highest = -INFINITY, sum = 0.0;

        assert(alpha > 0.0 && n > 0);
        for (uint32_t i = 0; i < n; i++) {
                ret[i] = (float) log_gamma_draw(r, alpha);
                highest = fmax(highest, ret[i]);
        }
        for (uint32_t i = 0; i < n; i++)
                sum += exp(ret[i] - highest);
        for (uint32_t i = 0; i < n; i++)
                ret[i] = (float) (exp(ret[i] - highest) / sum);
}
