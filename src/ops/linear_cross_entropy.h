// SPDX-License-Identifier: MIT
// The arithmetic of linear_cross_entropy and of its gradients, which the CPU's kernels follow to the bit.
//
// The vocabulary is cut in slabs of FM__LCE_SLAB rows of W, ascending, fixed by V alone; only rows with a target are
// computed. A slab's logits are what linear gives (ops/linear_ref.h), soft-capped where asked. A row's sum of
// exponentials is formed slab by slab (16 lanes in double) and joined left to right; dx is the sum over slabs, in
// order, of one chain a slab (transposed linear with dx as the residual); dW is linear_dw of the rows with a target.
// x bf16: all products are linear's of bf16 rows; gradients of logits are rounded to bf16 for theirs. Loss, lse, dx and
// dW stay f32.
#ifndef FM_OPS_LINEAR_CROSS_ENTROPY_H
#define FM_OPS_LINEAR_CROSS_ENTROPY_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "ops/call.h"
#include "ops/functions.h"

enum { FM__LCE_SLAB = 1024 }; // rows of W: 4 KB of logits a row, W's slab stays in a core's cache

// log sum exp so far: top + log(sum).
struct fm__lce_sum {
    float top;
    double sum;
    double logits; // their sum, for smoothing
};
#define FM__LCE_NOTHING ((struct fm__lce_sum){-INFINITY, 0, 0})

static inline void fm__lce_join(struct fm__lce_sum *all, struct fm__lce_sum slab)
{
    if (slab.top > all->top) {
        all->sum = all->sum * fm__fn_exp(all->top - slab.top) + slab.sum;
        all->top = slab.top;
    } else {
        all->sum += slab.sum * fm__fn_exp(slab.top - all->top);
    }
    all->logits += slab.logits;
}

static inline double fm__lce_value(const struct fm__lce_sum *all)
{
    return all->top + log(all->sum);
}

// What the loss takes from log sum exp: the target's logit, or a mixture with the mean of all (arXiv 1512.00567).
static inline double fm__lce_own(double target, double logits, int64_t V, float smoothing)
{
    return smoothing == 0 ? target : (1.0 - smoothing) * target + smoothing * logits / (double)V;
}

// How one row's logits of a slab become their gradients.
struct fm__lce_row {
    float lse, scale; // scale: dloss times the row's weight
    float hit, even;  // what the target's probability, and every one, is too high by, times scale
    float cap;        // 0: none
    int64_t target;   // its column in this slab; outside [0, n): elsewhere
};

// Of row n, and the slab that begins at `begin`, in a call of a gradient.
static inline struct fm__lce_row fm__lce_row(const struct fm__call *c, int64_t n, int64_t begin)
{
    const float *weights = c->n_in > 5 ? c->in[5].data : NULL;
    const float scale = ((const float *)c->in[4].data)[n] * (weights ? weights[n] : 1.0f);
    return (struct fm__lce_row){.lse = ((const float *)c->in[3].data)[n],
                                .scale = scale,
                                .hit = scale * (1.0f - c->attrs->loss.smoothing),
                                .even = scale * (c->attrs->loss.smoothing / (float)c->in[1].dims[0]),
                                .cap = c->attrs->loss.softcap,
                                .target = ((const int32_t *)c->in[2].data)[n] - begin};
}

// x = cap tanh(x / cap), where cap is not 0.
void fm__lce_cap(float *x, int64_t n, float cap);
// The largest of n capped logits (no NaN is), the sum of exp(x - largest), and theirs.
struct fm__lce_sum fm__lce_slab_sum(const float *x, int64_t n);
// In place: capped logits y -> (scale exp(y - lse) - even - (i == target) hit) (1 - (y / cap)^2).
void fm__lce_slab_grad(float *y, int64_t n, const struct fm__lce_row *row);

// The target's own element of the above, from its logit.
static inline float fm__lce_target_grad(float y, const struct fm__lce_row *row)
{
    const float d = row->scale * fm__fn_exp(y - row->lse) - row->even - row->hit, t = y / row->cap;
    return row->cap != 0 ? d * fmaf(-t, t, 1.0f) : d;
}

// Rows with a target in [0, V): their numbers to index[], which has room for N. Returns how many.
int64_t fm__lce_rows(const int32_t *targets, int64_t N, int64_t V, int32_t *index);

// A contiguous matrix over `data`.
struct fm_tensor fm__lce_matrix(fm_dtype dtype, const void *data, int64_t n_rows, int64_t n_columns);

// The reference of both gradients: dx, and dW where the call has a second output.
void fm__lce_gradient(const struct fm__call *call);
size_t fm__lce_gradient_workspace(const struct fm__call *call);

struct fm__shape;
fm_status fm__lce_want_operands(const struct fm__shape *s); // x and W
fm_status fm__lce_gradient_shape(struct fm__shape *s);
double fm__lce_flops(const struct fm__call *call); // of one product with all of W
void fm__lce_print(const union fm__attrs *attrs, FILE *to);

#endif
