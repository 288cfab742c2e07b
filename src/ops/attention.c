// SPDX-License-Identifier: MIT
// attention: y = softmax(scale * q k^T) v over each row's own session, causal (ops/attention.h says the order of
// every sum).  q f32 [N, H*E], cache i8 [pages, bytes], rows i32 [N, 4], pages i32 [S, P], sinks f32 [H] (optional)
// -> [N, H*E'] f32 or q8a.
#include "ops/attention.h"
#include "base/error.h"
#include "ops/kv_format.h"
#include "ops/op.h"
#include "ops/rows_out.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_attention *a = &s->attrs->attention;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_F32));
    FM_TRY(fm__want_dtype(s, 1, FM_I8));
    FM_TRY(fm__want_dtype(s, 2, FM_I32));
    FM_TRY(fm__want_dim(s, 2, 1, FM__ROW_FIELDS));
    FM_TRY(fm__want_dtype(s, 3, FM_I32));
    FM_TRY(fm__want_rank(s, 3, 2));
    int64_t heads = a->head_k > 0 ? s->in[0]->dims[1] / a->head_k : 0;
    if (heads < 1 || heads * a->head_k != s->in[0]->dims[1] || a->n_kv < 1 || heads % a->n_kv || a->head_v < 1)
        return fm__fail(s->err, FM_E_SHAPE,
                        "attention: q rows of %lld, heads of %d over %d kv heads: want whole groups",
                        (long long)s->in[0]->dims[1], a->head_k, a->n_kv);
    if (!fm__kv_format(a->kv_format))
        return fm__fail(s->err, FM_E_ARG, "attention: cache format %d, want a registered one", a->kv_format);
    if (s->n_in > 4 && s->in[4]) {
        FM_TRY(fm__want_dtype(s, 4, FM_F32));
        FM_TRY(fm__want_dim(s, 4, 0, heads));
    }
    FM_TRY(fm__shape_rows_out(s, 0, FM_F32));
    s->out[0].dtype = (fm_dtype)a->out_dtype;
    s->out[0].dims[1] = heads * a->head_v;
    return FM_OK;
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_attention *a = &attrs->attention;
    fprintf(to, " format=%s scale=%g n_kv=%d head_k=%d head_v=%d", fm__kv_format(a->kv_format)->name, (double)a->scale,
            a->n_kv, a->head_k, a->head_v);
    if (a->window) fprintf(to, " window=%d", a->window);
    if (a->softcap > 0) fprintf(to, " softcap=%g", (double)a->softcap);
    if (a->alibi_max > 0) fprintf(to, " alibi=%g", (double)a->alibi_max);
    fm__print_out_dtype(a->out_dtype, to);
}

const struct fm__op fm__op_attention = {
    .name = "attention",
    .doc = "y = softmax(scale * q k^T + mask) v",
    .min_in = 4,
    .max_in = 5,
    .n_out = 1,
    .shape = shape,
    .reference = fm__ref_attention,
    .workspace = fm__ref_attention_workspace,
    .print = print,
};
