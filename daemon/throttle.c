/* SPDX-License-Identifier: MIT */
/* Throttling the workers; see throttle.h.  Process: azpard. */
#include "daemon/throttle.h"

void throttle_init(struct throttle *t, double ratio, uint64_t slack, uint64_t batch) {
        *t = (struct throttle){ .ratio = ratio, .slack = (double) MAX(slack, 2 * batch) };
}

void throttle_reset(struct throttle *t) {
        t->counting = t->on = false;
}

bool throttle_update(struct throttle *t, uint32_t trainer, uint64_t inserted, uint64_t trained) {
        double behind;

        if (trainer != TRAINER_TRAINING && trainer != TRAINER_SAVING) {
                /* paused, everybody is, and the counting goes on afterwards */
                if (trainer != TRAINER_PAUSED)
                        throttle_reset(t);
                return false;
        }
        if (!t->counting || trained < t->base_trained || inserted < t->base_inserted) {
                t->counting = true;
                t->on = false;
                t->base_inserted = inserted;
                t->base_trained = trained;
        }
        behind = (double) (inserted - t->base_inserted) * t->ratio - (double) (trained - t->base_trained);
        t->on = behind > (t->on ? t->slack / 2.0 : t->slack);
        return t->on;
}
