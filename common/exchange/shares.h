/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * From the shares of a policy back to the visits that they were made of.
 *
 * Files of the original say which share of the visits each move got, in double or in single precision; azpar
 * keeps visits. A total of visits below 65536 can be found again: fractions with such denominators are
 * further apart than doubles are.  In single precision that holds up to a total of 4096; above, it is the
 * smallest one that fits.
 */

#include <stdint.h>
#include "common/games/game.h"

#define SHARES_TOTAL_MAX 65535u

enum shares_kind {
        SHARES_ARE_F64, /* each share is exactly (double) visits / total */
        SHARES_ARE_F32, /* each share is what (float) visits / total is printed as */
        SHARES_ROUNDED, /* neither */
};

/*
 * shares_to_visits() - the visits that @n shares stand for, with the smallest total
 * @shares:     above 0, at most 1, with a sum of about 1
 * @n:          1 .. GAME_MAX_MOVES
 * @ret_visits: @n numbers from 0 to 65535; 0 only if rounded
 *
 * What is no ratio becomes the visits of which it is the ratio in single precision, if there are such, and
 * else about as many of 65535.  Visits have no common divisor, and at least one of them is not 0.
 *
 * At most some 100 microseconds, if there is no small total; a total of T costs T * 0.6 ns for shares in
 * single precision.
 */
enum shares_kind shares_to_visits(const double *shares, unsigned n, uint16_t *ret_visits);
