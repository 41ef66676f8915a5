/* SPDX-License-Identifier: MIT */
/* Visits from shares: against the fractions that they were made of, and against a search that tries
 * everything. */
#include "common/exchange/shares.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/base/decimal.h"
#include "common/base/rng.h"

#ifdef __SANITIZE_ADDRESS__
#define N_POLICIES 2000u
#else
#define N_POLICIES 20000u
#endif

static uint32_t gcd(uint32_t a, uint32_t b) {
        return b == 0 ? a : gcd(b, a % b);
}

/* Random visits above 0 with the sum @total. */
static void make_visits(struct rng *r, uint32_t total, unsigned n, uint32_t *ret) {
        uint32_t left = total;

        for (unsigned i = 0; i < n; i++) {
                uint32_t most = left - (n - 1 - i); /* the others need one each */

                ret[i] = i + 1 == n ? left : 1 + rng_below(r, MIN(most, 2 * (left / (n - i)) + 1));
                ret[i] = MIN(ret[i], most);
                left -= ret[i];
        }
}

static uint32_t common_divisor(const uint32_t *visits, unsigned n) {
        uint32_t d = 0;

        for (unsigned i = 0; i < n; i++)
                d = gcd(d, visits[i]);
        return d;
}

static void check_found(const uint32_t *visits, unsigned n, const double *shares, enum shares_kind want) {
        uint32_t d = common_divisor(visits, n);
        uint16_t got[GAME_MAX_MOVES];
        enum shares_kind kind = shares_to_visits(shares, n, got);

        if (kind != want)
                fail_msg("kind %d, not %d, share 0: %.17g", (int) kind, (int) want, shares[0]);
        for (unsigned i = 0; i < n; i++)
                if (got[i] != visits[i] / d)
                        fail_msg("share %u, %.17g: %u visits, not %u / %u", i, shares[i], got[i], visits[i],
                                 d);
}

/* Whether all shares printed in single precision are ratios in double as well, by @total or its divisors. */
static bool are_both(const uint32_t *visits, unsigned n, uint32_t total) {
        for (unsigned i = 0; i < n; i++)
                if (decimal_f32_as_f64((float) visits[i] / (float) total) != visits[i] / (double) total)
                        return false;
        return true;
}

static void check_policy(const uint32_t *visits, unsigned n, uint32_t total) {
        double shares[GAME_MAX_MOVES] = { 0 };

        for (unsigned i = 0; i < n; i++)
                shares[i] = visits[i] / (double) total;
        check_found(visits, n, shares, SHARES_ARE_F64);
        /* above 4096 there may be smaller ones that are printed alike */
        if (total > 4096)
                return;
        for (unsigned i = 0; i < n; i++)
                shares[i] = decimal_f32_as_f64((float) visits[i] / (float) total);
        check_found(visits, n, shares, are_both(visits, n, total) ? SHARES_ARE_F64 : SHARES_ARE_F32);
}

static void finds_any_two(void **state) {
        (void) state;
        for (uint32_t total = 1; total <= 300; total++)
                for (uint32_t a = 1; a <= total; a++) {
                        uint32_t visits[2] = { a, total - a };

                        check_policy(visits, a < total ? 2 : 1, total);
                }
}

static void finds_random_policies(void **state) {
        unsigned n_f32 = 0;
        struct rng r;

        (void) state;
        rng_seed(&r, 21, 0);
        for (unsigned i = 0; i < N_POLICIES; i++) {
                uint32_t total = 1 + rng_below(&r, i % 2 ? SHARES_TOTAL_MAX : 2000), visits[GAME_MAX_MOVES];
                unsigned n = 1 + rng_below(&r, MIN(total, i % 3 ? 30u : 400u));

                make_visits(&r, total, n, visits);
                check_policy(visits, n, total);
                n_f32 += total <= 4096 && !are_both(visits, n, total);
        }
        assert_true(n_f32 > N_POLICIES / 10); /* single precision was really asked for */
}

/* The largest totals, of which neighbours are the closest. */
static void finds_the_largest(void **state) {
        (void) state;
        for (uint32_t total = SHARES_TOTAL_MAX - 200; total <= SHARES_TOTAL_MAX; total++)
                for (uint32_t a = 1; a < total; a += 1 + a / 7) {
                        uint32_t visits[2] = { a, total - a };

                        check_policy(visits, 2, total);
                }
}

/* The smallest total for which all are the shares' single-precision ratios; by trying everything. 0: none. */
static uint32_t search_f32(const double *shares, unsigned n, uint16_t *ret) {
        for (uint32_t total = 1; total <= SHARES_TOTAL_MAX; total++) {
                uint32_t sum = 0;
                bool all = true;

                for (unsigned i = 0; i < n && all; i++) {
                        uint32_t v = (uint32_t) lrint(shares[i] * total);

                        all = (float) v / (float) total == (float) shares[i];
                        ret[i] = (uint16_t) v;
                        sum += v;
                }
                if (all && sum == total)
                        return total;
        }
        return 0;
}

static void finds_the_smallest_in_single_precision(void **state) {
        unsigned n_smaller = 0;
        struct rng r;

        (void) state;
        rng_seed(&r, 22, 0);
        for (unsigned i = 0; i < 500; i++) {
                uint32_t total = 4097 + rng_below(&r, SHARES_TOTAL_MAX - 4096), visits[8], found;
                unsigned n = 2 + rng_below(&r, 3);
                uint16_t want[8], got[8];
                double shares[8];

                make_visits(&r, total, n, visits);
                for (unsigned k = 0; k < n; k++)
                        shares[k] = decimal_f32_as_f64((float) visits[k] / (float) total);
                if (shares_to_visits(shares, n, got) == SHARES_ARE_F64)
                        continue;
                found = search_f32(shares, n, want);
                assert_true(found > 0 && found <= total);
                assert_memory_equal(got, want, n * sizeof(got[0]));
                n_smaller += found < total / common_divisor(visits, n);
        }
        assert_true(n_smaller > 0); /* there are such cases */
}

/* Single precision written as the double that it is: no exact text, but the visits are found. */
static void finds_floats_in_disguise(void **state) {
        const uint32_t visits[3] = { 17, 20, 100 };
        double shares[3];

        (void) state;
        for (unsigned i = 0; i < 3; i++)
                shares[i] = (double) ((float) visits[i] / 137.0f);
        check_found(visits, 3, shares, SHARES_ROUNDED);
}

static void rounds_the_rest(void **state) {
        struct rng r;

        (void) state;
        rng_seed(&r, 23, 0);
        for (unsigned i = 0; i < 200; i++) {
                unsigned n = 1 + rng_below(&r, GAME_MAX_MOVES), total = 0, n_left;
                double shares[GAME_MAX_MOVES], again[GAME_MAX_MOVES];
                uint16_t got[GAME_MAX_MOVES], back[GAME_MAX_MOVES];
                float noise[GAME_MAX_MOVES];
                uint32_t d = 0;

                rng_dirichlet(&r, 0.3, n, noise);
                for (unsigned k = 0; k < n; k++)
                        shares[k] = fmin(fmax((double) noise[k], 1e-12) * (1 + 1e-4 * rng_double(&r)), 1);
                if (n == 1)
                        shares[0] = 0.99987654321;
                assert_int_equal(shares_to_visits(shares, n, got), SHARES_ROUNDED);
                for (unsigned k = 0; k < n; k++) {
                        total += got[k];
                        d = gcd(d, got[k]);
                }
                assert_int_equal(d, 1);
                assert_true(total > 0 && total <= SHARES_TOTAL_MAX);
                for (unsigned k = 0; k < n; k++)
                        assert_true(fabs(got[k] / (double) total - shares[k]) <
                                    1.01 / SHARES_TOTAL_MAX + 2e-4 * shares[k]);
                /* what came of it is a ratio now, and stays as it is */
                n_left = 0;
                for (unsigned k = 0; k < n; k++)
                        if (got[k] > 0) {
                                again[n_left] = got[k] / (double) total;
                                got[n_left++] = got[k];
                        }
                assert_int_equal(shares_to_visits(again, n_left, back), SHARES_ARE_F64);
                assert_memory_equal(back, got, n_left * sizeof(got[0]));
        }
}

/* Ratios that do not add up are none. */
static void wants_the_whole(void **state) {
        const double shares[3] = { 0.25, 0.25, 0.4995 };
        uint16_t got[3];

        (void) state;
        assert_int_equal(shares_to_visits(shares, 3, got), SHARES_ROUNDED);
        assert_true(fabs(got[0] / (double) (got[0] + got[1] + got[2]) - 0.25 / 0.9995) < 2e-5);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(finds_any_two),
                cmocka_unit_test(finds_random_policies),
                cmocka_unit_test(finds_the_largest),
                cmocka_unit_test(finds_the_smallest_in_single_precision),
                cmocka_unit_test(finds_floats_in_disguise),
                cmocka_unit_test(rounds_the_rest),
                cmocka_unit_test(wants_the_whole),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
