// SPDX-License-Identifier: MIT
// The table of ops and the vocabulary of shape rules.
#include "ops/op.h"

#include "base/error.h"
#include "tensor/blocks.h"

const struct fm__op *fm__op(enum fm__op_id id)
{
    static const struct fm__op *const ops[FM__OP_COUNT] = {
#define X(id, symbol) [FM__OP_##id] = &fm__op_##symbol,
#include "ops/ops.def"
#undef X
    };
    return ops[id];
}

fm_status fm__want_rank(const struct fm__shape *s, int i, int rank)
{
    if (s->in[i]->rank == rank) return FM_OK;
    return fm__fail(s->err, FM_E_SHAPE, "%s: input %d (%s): rank %d, want %d", s->op, i, s->in[i]->name, s->in[i]->rank,
                    rank);
}

fm_status fm__want_dtype(const struct fm__shape *s, int i, fm_dtype dtype)
{
    if (s->in[i]->dtype == dtype) return FM_OK;
    return fm__fail(s->err, FM_E_SHAPE, "%s: input %d (%s): dtype %s, want %s", s->op, i, s->in[i]->name,
                    fm_dtype_info(s->in[i]->dtype)->name, fm_dtype_info(dtype)->name);
}

fm_status fm__want_weight_type(const struct fm__shape *s, int i)
{
    if (fm__is_weight_type(s->in[i]->dtype)) return FM_OK;
    return fm__fail(s->err, FM_E_SHAPE, "%s: input %d (%s): dtype %s, want a type of weights", s->op, i, s->in[i]->name,
                    fm_dtype_info(s->in[i]->dtype)->name);
}

fm_status fm__want_dim(const struct fm__shape *s, int i, int d, int64_t size)
{
    if (s->in[i]->dims[d] == size) return FM_OK;
    return fm__fail(s->err, FM_E_SHAPE, "%s: input %d (%s): dim %d is %lld, want %lld", s->op, i, s->in[i]->name, d,
                    (long long)s->in[i]->dims[d], (long long)size);
}

void fm__shape_like(struct fm__shape *s, int out, int in)
{
    s->out[out].dtype = FM_F32;
    s->out[out].rank = s->in[in]->rank;
    for (int d = 0; d < s->in[in]->rank; d++) s->out[out].dims[d] = s->in[in]->dims[d];
}

size_t fm__row_workspace(const struct fm__call *call)
{
    return (size_t)call->in[0].dims[call->in[0].rank - 1] * sizeof(float);
}
