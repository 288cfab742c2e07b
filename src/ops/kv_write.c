// SPDX-License-Identifier: MIT
// kv_write: stores this step's keys and values in the cache; returns the cache's next version.
//   cache i8 [pages, bytes], k f32 [N, K*E], v f32 [N, K*E'], rows i32 [N, 4], pages i32 [S, P] -> cache.
#include "base/error.h"
#include "ops/attention.h"
#include "ops/kv_format.h"
#include "ops/op.h"

static fm_status shape(struct fm__shape *s)
{
    const struct fm__attr_attention *a = &s->attrs->attention;
    FM_TRY(fm__want_rank(s, 0, 2));
    FM_TRY(fm__want_dtype(s, 0, FM_I8));
    FM_TRY(fm__want_dtype(s, 1, FM_F32));
    FM_TRY(fm__want_dtype(s, 2, FM_F32));
    FM_TRY(fm__want_dim(s, 1, 1, (int64_t)a->n_kv * a->head_k));
    FM_TRY(fm__want_dim(s, 2, 1, (int64_t)a->n_kv * a->head_v));
    FM_TRY(fm__want_dtype(s, 3, FM_I32));
    FM_TRY(fm__want_dim(s, 3, 1, FM__ROW_FIELDS));
    FM_TRY(fm__want_dtype(s, 4, FM_I32));
    FM_TRY(fm__want_rank(s, 4, 2));
    if (!fm__kv_format(a->kv_format))
        return fm__fail(s->err, FM_E_ARG, "kv_write: cache format %d, want a registered one", a->kv_format);
    fm__shape_like(s, 0, 0);
    s->out[0].dtype = FM_I8;
    return FM_OK;
}

static void print(const union fm__attrs *attrs, FILE *to)
{
    const struct fm__attr_attention *a = &attrs->attention;
    fprintf(to, " format=%s n_kv=%d head_k=%d head_v=%d", fm__kv_format(a->kv_format)->name, a->n_kv, a->head_k,
            a->head_v);
}

const struct fm__op fm__op_kv_write = {
    .name = "kv_write",
    .doc = "cache' = cache with k, v at each row's place",
    .min_in = 5,
    .max_in = 5,
    .n_out = 1,
    .alias = {1},
    .shape = shape,
    .reference = fm__ref_kv_write,
    .print = print,
};
