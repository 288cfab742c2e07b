// SPDX-License-Identifier: MIT
// The calls of a plan with addresses filled in, and the list of numbers that change from run to run. What devices that
// run kernels by calling C functions (cpu, sim) share.
#ifndef FM_DEVICE_CALLS_H
#define FM_DEVICE_CALLS_H

#include <stdatomic.h>

#include "device/plan.h"

struct fm__calls {
    struct fm__call *calls; // one a step
    atomic_int_fast64_t *counters;
    int n;
    int64_t **row_dims; // the numbers that are the live row count
    int n_row_dims;
    struct fm__input_slot {
        void **data;
        int32_t input;
    } * inputs; // addresses of host-visible inputs
    int n_inputs;
};

fm_status fm__calls_init(struct fm__calls *c, const struct fm__plan *plan, struct fm_error *err);
void fm__calls_deinit(struct fm__calls *c);
// Before a run: live rows, input addresses (run->inputs may be NULL on closed devices), counters to zero.
void fm__calls_set(struct fm__calls *c, const struct fm__run *run);

#endif
