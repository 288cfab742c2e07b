// SPDX-License-Identifier: MIT
// Streaming kernels without vector code of their own: copies of rows, one number everywhere, and angles in double. For
// every machine. And what workspace streaming kernels want.
#include <string.h>

#include "device/cpu/pack.h"
#include "device/cpu/small.h"
#include "ops/channels.h"
#include "ops/contrastive.h"
#include "ops/op.h"
#include "ops/pool2d.h"
#include "ops/rope.h"
#include "ops/row_loss.h"
#include "tensor/blocks.h"

// Gradients of norms: mean and 1 / sqrt(...), two doubles for each run of as many elements as there are weights.
static size_t norm_rows(const struct fm__call *largest, int n_workers)
{
    (void)n_workers;
    return (size_t)(fm_tensor_elements(&largest->in[0]) / largest->in[1].dims[0]) * 2 * sizeof(double);
}

static size_t groupnorm_grad_workspace(const struct fm__call *largest, int n_workers)
{
    (void)n_workers;
    return fm__op(FM__OP_GROUPNORM_GRAD)->workspace(largest);
}

fm__workspace_fn *const fm__small_workspace[FM__OP_COUNT] = {
    [FM__OP_RMSNORM_GRAD] = norm_rows,
    [FM__OP_LAYERNORM_GRAD] = norm_rows,
    [FM__OP_GROUPNORM_GRAD] = groupnorm_grad_workspace,
};

int fm__small_fits(enum fm__op_id op, const struct fm__call *largest)
{
    const struct fm_tensor *y = &largest->out[0];
    if (y->dtype == FM_F32 && op != FM__OP_ROPE && op != FM__OP_ROPE_ANGLES) return 1;
    return y->dims[y->rank - 1] <= FM__WORKER_SCRATCH / (2 * (int)sizeof(float));
}

static void embed(const struct fm__call *c, struct fm__worker *w)
{
    (void)w;
    const struct fm_tensor *weight = &c->in[0];
    const int32_t *tokens = c->in[1].data;
    int64_t len = weight->dims[1], begin, end;
    while (fm__take_rows(c, c->out[0].dims[0], len, &begin, &end))
        for (int64_t n = begin; n < end; n++) {
            float *y = (float *)c->out[0].data + n * len;
            if (weight->layout == FM__LAYOUT_PACK16)
                fm__packed_dequantise_row(weight->dtype, len, weight->data, tokens[n], y);
            else
                fm__dequantise_row(weight->dtype, (const char *)weight->data + tokens[n] * weight->strides[0], len, y);
        }
}

static void gather_rows(const struct fm__call *c, struct fm__worker *w)
{
    (void)w;
    const int32_t *index = c->in[1].data;
    int64_t len = c->in[0].dims[1], begin, end;
    while (fm__take_rows(c, c->in[1].dims[0], len, &begin, &end))
        for (int64_t n = begin; n < end; n++)
            memcpy((float *)c->out[0].data + n * len, (const float *)c->in[0].data + index[n] * len,
                   (size_t)len * sizeof(float));
}

static void slice(const struct fm__call *c, struct fm__worker *w)
{
    (void)w;
    const struct fm__attr_slice *a = &c->attrs->slice;
    int64_t begin, end;
    while (fm__take_rows(c, c->in[0].dims[0], a->count, &begin, &end))
        for (int64_t n = begin; n < end; n++)
            memcpy((float *)c->out[0].data + n * a->count,
                   (const float *)c->in[0].data + n * c->in[0].dims[1] + a->begin, (size_t)a->count * sizeof(float));
}

static void pad(const struct fm__call *c, struct fm__worker *w)
{
    (void)w;
    const struct fm__attr_slice *a = &c->attrs->slice;
    const size_t before = (size_t)a->begin * sizeof(float), count = (size_t)a->count * sizeof(float);
    int64_t begin, end;
    while (fm__take_rows(c, c->in[0].dims[0], a->total, &begin, &end))
        for (int64_t n = begin; n < end; n++) {
            char *y = (char *)((float *)c->out[0].data + n * a->total);
            memset(y, 0, before);
            memcpy(y + before, (const float *)c->in[0].data + n * a->count, count);
            memset(y + before + count, 0, (size_t)a->total * sizeof(float) - before - count);
        }
}

static void broadcast(const struct fm__call *c, struct fm__worker *w)
{
    (void)w;
    const int64_t total = fm_tensor_elements(&c->out[0]);
    float s = *(const float *)c->in[1].data, *y = c->out[0].data;
    if (c->attrs->sum.mean) s /= (float)total;
    int64_t begin, end;
    while (fm__take_rows(c, total, 1, &begin, &end))
        for (int64_t i = begin; i < end; i++) y[i] = s;
}

static void positions(const struct fm__call *c, struct fm__worker *w)
{
    (void)w;
    const int32_t *rows = c->in[0].data;
    int64_t begin, end;
    while (fm__take_rows(c, c->in[0].dims[0], FM__ROW_FIELDS, &begin, &end))
        for (int64_t n = begin; n < end; n++) ((int32_t *)c->out[0].data)[n] = rows[n * FM__ROW_FIELDS + FM__ROW_POS];
}

// About 40 ns an angle: rows are worth sharing from a few on.
static void rope_angles(const struct fm__call *c, struct fm__worker *w)
{
    const struct fm__attr_rope *a = &c->attrs->rope;
    const float *factors = c->n_in > 1 ? c->in[1].data : NULL;
    double *frequencies = (double *)w->scratch;
    int known = 0;
    int64_t begin, end;
    while (fm__take_rows(c, c->out[0].dims[0], (int64_t)a->n_rot * 64, &begin, &end))
        for (int64_t n = begin; n < end; n++) {
            const int32_t *row = (const int32_t *)c->in[0].data + n * FM__ROW_FIELDS;
            float *y = (float *)c->out[0].data + n * a->n_rot;
            for (; known < a->n_rot / 2; known++) frequencies[known] = fm__rope_frequency(a, known, factors);
            fm__rope_turn(a, frequencies, row[FM__ROW_POS], y);
        }
}

// Ops whose rows (channels, groups) do not meet: the reference's own loop, a run of them at a time. `cost`: elements of
// work in one, as fm__take_rows counts them.
#define SHARED(name, function, n, cost)                                              \
    static void name(const struct fm__call *c, struct fm__worker *w)                 \
    {                                                                                \
        (void)w;                                                                     \
        int64_t begin, end;                                                          \
        while (fm__take_rows(c, (n), (cost), &begin, &end)) function(c, begin, end); \
    }
SHARED(row_loss, fm__row_loss_rows, c->in[0].dims[0], 16 * c->in[0].dims[1])
SHARED(row_loss_grad, fm__row_loss_grad_rows, c->in[0].dims[0], 16 * c->in[0].dims[1])
SHARED(contrastive, fm__contrastive_rows, c->in[0].dims[0], 4 * fm_tensor_elements(&c->in[0]))
SHARED(contrastive_grad, fm__contrastive_grad_rows, c->in[0].dims[0], 4 * fm_tensor_elements(&c->in[0]))
SHARED(pool2d, fm__pool2d_rows, c->in[0].dims[0], 2 * c->in[0].dims[1])
SHARED(pool2d_grad, fm__pool2d_grad_rows, c->in[0].dims[0], 2 * c->in[0].dims[1])
SHARED(batchnorm, fm__batchnorm_channels, c->in[1].dims[0], FM__SMALL_CHUNK)
SHARED(batchnorm_grad, fm__batchnorm_grad_channels, c->in[1].dims[0], FM__SMALL_CHUNK)
SHARED(batchnorm_fixed, fm__batchnorm_fixed_rows, c->in[0].dims[0], c->in[0].dims[1])
SHARED(groupnorm, fm__groupnorm_rows, c->in[0].dims[0], 2 * c->in[0].dims[1])

SHARED(groupnorm_grad, fm__groupnorm_grad_groups, c->attrs->channels.groups, FM__SMALL_CHUNK)

fm__kernel_fn *const fm__small_plain[FM__OP_COUNT] = {
    [FM__OP_EMBED] = embed,
    [FM__OP_GATHER_ROWS] = gather_rows,
    [FM__OP_SLICE] = slice,
    [FM__OP_PAD] = pad,
    [FM__OP_BROADCAST] = broadcast,
    [FM__OP_POSITIONS] = positions,
    [FM__OP_ROPE_ANGLES] = rope_angles,
    [FM__OP_ROW_LOSS] = row_loss,
    [FM__OP_ROW_LOSS_GRAD] = row_loss_grad,
    [FM__OP_CONTRASTIVE] = contrastive,
    [FM__OP_CONTRASTIVE_GRAD] = contrastive_grad,
    [FM__OP_POOL2D] = pool2d,
    [FM__OP_POOL2D_GRAD] = pool2d_grad,
    [FM__OP_BATCHNORM] = batchnorm,
    [FM__OP_BATCHNORM_GRAD] = batchnorm_grad,
    [FM__OP_BATCHNORM_FIXED] = batchnorm_fixed,
    [FM__OP_GROUPNORM] = groupnorm,
    [FM__OP_GROUPNORM_GRAD] = groupnorm_grad,
};
