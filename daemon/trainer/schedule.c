/* SPDX-License-Identifier: MIT */
/* Learning-rate schedules; see schedule.h.  Runs in azpar-trainer. */
#include "daemon/trainer/schedule.h"

#include <math.h>

static double cosine(double steps, double factor, double step) {
        double done = fmin(step / steps, 1.0);

        return factor + (1.0 - factor) * 0.5 * (1.0 + cos(M_PI * done));
}

static double share(const struct config *c, uint64_t step) {
        switch (c->train_schedule) {
        case SCHEDULE_COSINE:
                return cosine((double) c->train_schedule_steps, c->train_schedule_factor, (double) step);
        case SCHEDULE_STEP:
                return pow(c->train_schedule_factor, (double) (step / c->train_schedule_steps));
        default:
                return 1.0;
        }
}

double schedule_rate(const struct config *c, uint64_t step) {
        double rate = c->train_learning_rate * share(c, step);

        if (step < c->train_warmup_steps)
                rate *= (double) (step + 1) / (double) c->train_warmup_steps;
        return rate;
}
