/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The network once more, straight from its description in network.h: loops in double, nothing folded, no
 * library.  What the worker and the trainer compute is compared with this.
 */

#include "tests/unit/fixture-network.h"

/* [in][rows][cols] -> [out][rows][cols] with a side x side kernel, padded with zeros to keep the size; then
 * batch norm. */
static inline void reference_conv(const struct network *n, const float *const *t, uint32_t out, uint32_t in,
                                  int side, const double *x, double *y) {
        const int rows = (int) n->rows, cols = (int) n->cols, pad = side / 2;
        const size_t cells = (size_t) rows * (size_t) cols;

        for (uint32_t o = 0; o < out; o++)
                for (int r = 0; r < rows; r++)
                        for (int c = 0; c < cols; c++) {
                                double sum = t[1][o];

                                for (uint32_t i = 0; i < in; i++)
                                        for (int dr = -pad; dr <= pad; dr++)
                                                for (int dc = -pad; dc <= pad; dc++) {
                                                        const size_t w =
                                                                ((size_t) o * in + i) *
                                                                        (size_t) (side * side) +
                                                                (size_t) ((dr + pad) * side + dc + pad);

                                                        if (r + dr < 0 || r + dr >= rows || c + dc < 0 ||
                                                            c + dc >= cols)
                                                                continue;
                                                        sum += (double) t[0][w] *
                                                               x[i * cells +
                                                                 (size_t) ((r + dr) * cols + c + dc)];
                                                }
                                y[o * cells + (size_t) (r * cols + c)] =
                                        (sum - t[4][o]) / sqrt((double) t[5][o] + 1e-5) * t[2][o] + t[3][o];
                        }
}

static inline void reference_relu(double *x, size_t n) {
        for (size_t i = 0; i < n; i++)
                x[i] = x[i] > 0.0 ? x[i] : 0.0;
}

static inline void reference_linear(const float *const *t, uint32_t out, size_t in, const double *x,
                                    double *y) {
        for (uint32_t o = 0; o < out; o++) {
                y[o] = t[1][o];
                for (size_t i = 0; i < in; i++)
                        y[o] += (double) t[0][o * in + i] * x[i];
        }
}

/* One position: @planes [planes][rows][cols] -> @ret_logits [moves]. Return: the value. */
static inline double reference_run(const struct fixture_weights *w, const float *planes, double *ret_logits) {
        const struct network *n = &w->network;
        const float *const *t = fixture_tensors(w);
        const size_t cells = (size_t) n->rows * n->cols, size = cells * MAX(n->filters, n->planes);
        double *a = calloc(3 * size, sizeof(double)), *b = a + size, *c = b + size;
        double hidden[NETWORK_VALUE_HIDDEN], value;

        if (!a)
                abort();
        for (size_t i = 0; i < n->planes * cells; i++)
                b[i] = planes[i];
        reference_conv(n, t, n->filters, n->planes, 3, b, a);
        reference_relu(a, n->filters * cells);
        for (uint32_t k = 0; k < n->blocks; k++) {
                reference_conv(n, t += 6, n->filters, n->filters, 3, a, b);
                reference_relu(b, n->filters * cells);
                reference_conv(n, t += 6, n->filters, n->filters, 3, b, c);
                for (size_t i = 0; i < n->filters * cells; i++)
                        a[i] += c[i];
                reference_relu(a, n->filters * cells);
        }
        reference_conv(n, t += 6, NETWORK_POLICY_CHANNELS, n->filters, 1, a, b);
        reference_relu(b, NETWORK_POLICY_CHANNELS * cells);
        reference_linear(t += 6, n->moves, NETWORK_POLICY_CHANNELS * cells, b, ret_logits);
        reference_conv(n, t += 2, 1, n->filters, 1, a, b);
        reference_relu(b, cells);
        reference_linear(t += 6, NETWORK_VALUE_HIDDEN, cells, b, hidden);
        reference_relu(hidden, NETWORK_VALUE_HIDDEN);
        reference_linear(t += 2, 1, NETWORK_VALUE_HIDDEN, hidden, &value);
        free(a);
        return tanh(value);
}

/* Probabilities from logits, in place. */
static inline void reference_softmax(double *x, size_t n) {
        double highest = -INFINITY, sum = 0.0;

        for (size_t i = 0; i < n; i++)
                highest = fmax(highest, x[i]);
        for (size_t i = 0; i < n; i++)
                sum += x[i] = exp(x[i] - highest);
        for (size_t i = 0; i < n; i++)
                x[i] /= sum;
}
