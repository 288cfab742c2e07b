// SPDX-License-Identifier: MIT
// What the optimisers' ops share: their knobs, and the check that operands have one shape.
#ifndef FM_OPS_OPTIMISER_H
#define FM_OPS_OPTIMISER_H

#include "base/error.h"
#include "ops/op.h"

// The knobs, f32 [4], the same for every optimiser: what changes from step to step is data. ADAM1 and ADAM2 are
// 1 - beta1^t and 1 - beta2^t; SCALE multiplies every gradient: 1 / micro-batches times the clip.
enum { FM__KNOB_RATE, FM__KNOB_ADAM1, FM__KNOB_ADAM2, FM__KNOB_SCALE, FM__KNOBS };

static inline fm_status fm__want_knobs(const struct fm__shape *s, int i)
{
    FM_TRY(fm__want_dtype(s, i, FM_F32));
    FM_TRY(fm__want_rank(s, i, 1));
    return fm__want_dim(s, i, 0, FM__KNOBS);
}

// Sums over micro-batches: input i is keep (fm__keeps).
static inline fm_status fm__want_keep(const struct fm__shape *s, int i)
{
    if (s->n_in <= i || !s->in[i]) return FM_OK;
    FM_TRY(fm__want_dtype(s, i, FM_F32));
    FM_TRY(fm__want_rank(s, i, 1));
    return fm__want_dim(s, i, 0, 1);
}

// Inputs [first, first + n): of one dtype and of input 0's dims.
static inline fm_status fm__want_alike(const struct fm__shape *s, int first, int n, fm_dtype dtype)
{
    for (int i = first; i < first + n; i++) {
        FM_TRY(fm__want_dtype(s, i, dtype));
        FM_TRY(fm__want_rank(s, i, s->in[0]->rank));
        for (int d = 0; d < s->in[0]->rank; d++) FM_TRY(fm__want_dim(s, i, d, s->in[0]->dims[d]));
    }
    return FM_OK;
}

#endif
