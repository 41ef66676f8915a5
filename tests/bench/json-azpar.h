/* SPDX-License-Identifier: MIT */
#pragma once

/* azpar's side of bench-json, in C. */

#include <stddef.h>

#ifdef __cplusplus
#define NOEXCEPT_ noexcept
extern "C" {
#else
#define NOEXCEPT_
#endif

/* What has been read of a file; equal for all readers, but for the rounding of policy. */
struct json_totals {
        size_t n_samples;
        double board, policy, value; /* sums of the numbers */
};

/*
 * A batch file of at least @n_bytes with samples of Gomoku 15x15, games of 60 plies, 100 visits over 20
 * moves.
 * @is_spill: as azpar's workers write it; else as the original does, with "0.0" and "1.0" for numbers without
 * a fraction. Return: the text, to be freed, followed by @n_padding zeros that *ret_n does not count.
 */
char *json_azpar_make(size_t n_bytes, int is_spill, size_t n_padding, size_t *ret_n) NOEXCEPT_;

/* Read it by batch_file_read(), through a window of BATCH_FILE_SAMPLE_MAX bytes as azpard does. Return: 0;
 * -1: failed. */
int json_azpar_read(const char *text, size_t n, struct json_totals *ret) NOEXCEPT_;

#ifdef __cplusplus
}
#endif
