/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Finite: whether there is a NaN or an infinity among very many numbers.
 */

#include <stdbool.h>
#include <stddef.h>

/* Are all of @x, @n of them, finite? */
bool finite_all(const float *x, size_t n);
