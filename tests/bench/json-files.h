/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The exchange that azpar replaces, for comparison: batches of samples as JSON files (ORIGINAL format: an
 * array of
 * {"board", "policy", "value"}), by nlohmann-json.
 */

#include <stddef.h>

#ifdef __cplusplus
#define NOEXCEPT_ noexcept
extern "C" {
#else
#define NOEXCEPT_
#endif

struct json_sample {
        const double *board,
                *policy; /* doubles, whose shortest text is the shortest file: good for the baseline */
        double value;
};

/*
 * Write @n samples to the file @path, read them back, delete it.  @ret_sum: of all numbers read, so that the
 * work cannot be left out.  Return: bytes of the file; 0: failed.
 */
size_t json_files_round_trip(const struct json_sample *samples, size_t n, size_t n_board, size_t n_policy,
                             const char *path, double *ret_sum) NOEXCEPT_;

#ifdef __cplusplus
}
#endif
