/* SPDX-License-Identifier: MIT */
#pragma once

/* What azpar-match prints about a match: lines for people, or one JSON object. */

#include <stdint.h>
#include <stdio.h>
#include "worker/match/match.h"

struct report {
        const struct match_options *options;
        const struct match_result *result;
        double seconds;
};

/* Lines for people. Return: 0, or a negative errno if @out could not be written. */
must_check_ int report_text(const struct report *r, FILE *out);

/*
 * One object on one line: rules, first, second ({player, simulations, generation, step}), games, wins, draws,
 * losses, score, interval ([low, high]), first_to_move and second_to_move ({wins, draws, losses}, of the
 * first player when it made the first or the second move), average_plies, opening_plies, seed, seconds.
 * Return as report_text().
 */
must_check_ int report_json(const struct report *r, FILE *out);
