// SPDX-License-Identifier: MIT
// What the steps of a plan must at least do: bytes that have to be moved and operations that have to be made. With what
// a machine can do (eval/machine.h) that is the bound of each op.
#ifndef FM_EVAL_COST_H
#define FM_EVAL_COST_H

#include "device/plan.h"
#include "eval/machine.h"

struct fm__cost {
    double operations;          // a multiply and an addition are two
    double weight_bytes;        // packed weights, read once
    double cache_bytes;         // keys and values, read once
    double other_bytes;         // activations read and written
    enum fm__machine_kind kind; // which peak its products can reach
};

// Step i of a plan as `rows` rows of one session after `depth` tokens. Windows of local layers are taken into account.
struct fm__cost fm__cost_of(const struct fm__plan *plan, int i, int64_t rows, int64_t depth);

// Seconds that `cost` takes at the least: the longer of its products and its bytes from memory (activations count as
// cached).
double fm__cost_bound(const struct fm__cost *cost, const struct fm__machine *machine);

#endif
