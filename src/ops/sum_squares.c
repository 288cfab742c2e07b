// SPDX-License-Identifier: MIT
// sum_squares: y = the sum of x^2 over all elements, in double (order: ops/sum_squares.h), rounded once.
//   x f32 [...] -> f32 [1]. Infinite beyond f32: whoever clips by it sees that too.
#include "ops/sum_squares.h"

#include "base/error.h"
#include "ops/functions.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    s->out[0].dtype = FM_F32;
    s->out[0].rank = 1;
    s->out[0].dims[0] = 1;
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const int64_t n = fm_tensor_elements(&c->in[0]);
    double total = 0;
    for (int64_t piece = 0; piece < fm__squares_pieces(c); piece++) {
        const int64_t at = piece * FM__SQUARES_PIECE, end = n - at < FM__SQUARES_PIECE ? n : at + FM__SQUARES_PIECE;
        double lanes[16] = {0};
        for (int64_t i = at; i < end; i++) {
            const double x = ((const float *)c->in[0].data)[i];
            lanes[(i - at) % 16] += x * x;
        }
        total += fm__fn_sum16(lanes);
    }
    *(float *)c->out[0].data = (float)total;
}

static double flops(const struct fm__call *c)
{
    return 2.0 * (double)fm_tensor_elements(&c->in[0]);
}

const struct fm__op fm__op_sum_squares = {
    .name = "sum_squares",
    .doc = "y = sum of x^2",
    .min_in = 1,
    .max_in = 1,
    .n_out = 1,
    .shape = shape,
    .flops = flops,
    .reference = reference,
};
