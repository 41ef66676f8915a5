/* SPDX-License-Identifier: MIT */
/*
 * Finite; see finite.h.
 *
 * Every weight of every model is looked at by every worker, so this is a loop that the compiler turns into
 * vector code: x - x is 0 for a finite x and NaN otherwise.
 */
#include "common/base/finite.h"

#include <math.h>
#include "common/base/attr.h"

bool finite_all(const float *x, size_t n) {
        float sum[16] = { 0.0f };
        bool finite = true;
        size_t i = 0;

        for (; i + N_ELEMENTS(sum) <= n; i += N_ELEMENTS(sum))
                for (size_t k = 0; k < N_ELEMENTS(sum); k++)
                        sum[k] += x[i + k] - x[i + k];
        for (; i < n; i++)
                finite = finite && isfinite(x[i]);
        for (size_t k = 0; k < N_ELEMENTS(sum); k++)
                finite = finite && sum[k] == 0.0f;
        return finite;
}
