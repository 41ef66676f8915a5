/* SPDX-License-Identifier: MIT */
/*
 * From shares to visits; see shares.h.  Runs in azpard and azparctl.
 *
 * In double precision, a share that is p / q with q at most 65535 lies within 2^-54 of it, and 2^-54 < 1 / (2
 * q^2), so p / q is a convergent of its continued fraction (Legendre; Hardy and Wright, theorem 184): a few
 * divisions find it or rule it out.  The total is the least common multiple of all q; once it is found, the
 * rest only confirm it.
 *
 * In single precision that holds for small q alone, so there all totals are tried in turn against the
 * smallest share, which is the choosiest: an addition in 64-bit fixed point and a comparison each.
 */
#include "common/exchange/shares.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include "common/base/decimal.h"

/* x >= 0 to the nearest integer; below 2^51. */
static inline double nearest(double x) {
        return (x + 0x1p52) - 0x1p52;
}

static uint32_t gcd(uint32_t a, uint32_t b) {
        while (b != 0) {
                uint32_t rest = a % b;

                a = b;
                b = rest;
        }
        return a;
}

/* The q of the fraction p / q in lowest terms, q at most SHARES_TOTAL_MAX, that is exactly @x; 0: there is
 * none. */
static uint32_t denominator(double x) {
        double p = 0, q = 1, p_before = 1, q_before = 0, rest = x;

        while (p / q != x) {
                double inverse = 1 / rest, a = floor(inverse), p_next, q_next;

                /* also where rest is 0, and the inverse infinite */
                if (!(a <= SHARES_TOTAL_MAX))
                        return 0;
                rest = inverse - a;
                p_next = a * p + p_before;
                q_next = a * q + q_before;
                if (q_next > SHARES_TOTAL_MAX)
                        return 0;
                p_before = p;
                q_before = q;
                p = p_next;
                q = q_next;
        }
        return (uint32_t) q;
}

/* The smallest total of which all shares are exact ratios in double precision; 0: there is none. */
static uint32_t find_f64(const double *shares, unsigned n, uint16_t *ret_visits) {
        uint32_t total = 1, sum = 0;

        for (unsigned i = 0; i < n; i++) {
                uint32_t q;

                if (nearest(shares[i] * total) / total == shares[i])
                        continue;
                q = denominator(shares[i]);
                if (q == 0)
                        return 0;
                /* both are at most 65535, so the product fits */
                total = total / gcd(total, q) * q;
                if (total > SHARES_TOTAL_MAX)
                        return 0;
        }
        for (unsigned i = 0; i < n; i++) {
                ret_visits[i] = (uint16_t) nearest(shares[i] * total);
                sum += ret_visits[i];
        }
        return sum == total ? total : 0;
}

/* Whether all are ratios of @total in single precision, and the visits add up to it. */
static bool fits_f32(const double *shares, unsigned n, uint32_t total, uint16_t *ret_visits) {
        uint32_t sum = 0;

        for (unsigned i = 0; i < n; i++) {
                double visits = nearest(shares[i] * total);

                if ((float) visits / (float) total != (float) shares[i])
                        return false;
                ret_visits[i] = (uint16_t) visits;
                sum += ret_visits[i];
        }
        return sum == total;
}

/* The same in single precision. */
static bool find_f32(const double *shares, unsigned n, uint16_t *ret_visits) {
        uint64_t step, product = 0, tolerance_step, tolerance = 0;
        double smallest = 1;

        for (unsigned i = 0; i < n; i++)
                smallest = fmin(smallest, shares[i]);
        if (smallest < 0.5 / SHARES_TOTAL_MAX || (float) smallest >= 1)
                return false;
        /*
         * Times 2^64, what is before the point falls out: product is the fraction of smallest * total.  The
         * share is off by half a step, 2^-24 of it, at most.
         */
        step = (uint64_t) ((double) (float) smallest * 0x1p64);
        tolerance_step = (step >> 24) + 1;
        for (uint32_t total = 1; total <= SHARES_TOTAL_MAX; total++) {
                product += step;
                tolerance += tolerance_step;
                if (product + tolerance <= 2 * tolerance && fits_f32(shares, n, total, ret_visits))
                        return true;
        }
        return false;
}

static bool are_printed_f32(const double *shares, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                if (decimal_f32_as_f64((float) shares[i]) != shares[i])
                        return false;
        return true;
}

/* All shares as parts of 65535, which is also their sum: what one loses by rounding, those behind it get. */
static void round_all(const double *shares, unsigned n, uint16_t *ret_visits) {
        double sum = 0, so_far = 0, given = 0;
        uint32_t common = 0;

        for (unsigned i = 0; i < n; i++)
                sum += shares[i];
        for (unsigned i = 0; i < n; i++) {
                double upto;

                so_far += shares[i];
                upto = nearest(so_far / sum * SHARES_TOTAL_MAX);
                ret_visits[i] = (uint16_t) (upto - given);
                common = gcd(common, ret_visits[i]);
                given = upto;
        }
        for (unsigned i = 0; i < n; i++)
                ret_visits[i] = (uint16_t) (ret_visits[i] / common);
}

enum shares_kind shares_to_visits(const double *shares, unsigned n, uint16_t *ret_visits) {
        assert(n > 0 && n <= GAME_MAX_MOVES);
        if (find_f64(shares, n, ret_visits) > 0)
                return SHARES_ARE_F64;
        if (find_f32(shares, n, ret_visits))
                return are_printed_f32(shares, n) ? SHARES_ARE_F32 : SHARES_ROUNDED;
        round_all(shares, n, ret_visits);
        return SHARES_ROUNDED;
}
