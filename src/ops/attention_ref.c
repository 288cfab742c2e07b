// SPDX-License-Identifier: MIT
// kv_write and attention in plain C, one row at a time over a format's table: the numbers that every kernel must give.
#include "ops/attention.h"

#include <math.h>
#include <stdbool.h>

#include "ops/rows_out.h"

static const float nothing = -INFINITY;

struct fm__attend_heads fm__attend_heads(const struct fm__attr_attention *a)
{
    struct fm__attend_heads h = {a->scale * FM__LOG2E, 0.0f, 0.0f};
    if (a->softcap > 0.0f) h = (struct fm__attend_heads){a->scale, 1.0f / a->softcap, a->softcap * FM__LOG2E};
    return h;
}

// Press et al. (arXiv 2108.12409): a geometric series over the heads; where H is no power of two, the series of the
// next smaller one, then every other term of the next larger one's.
float fm__attend_slope(const struct fm__attr_attention *a, int head, int n_heads)
{
    if (!(a->alibi_max > 0.0f)) return 0.0f;
    int two = 1;
    while (two * 2 <= n_heads) two *= 2;
    double step = head < two ? (double)(head + 1) / two : (double)(2 * (head - two) + 1) / (2 * two);
    return (float)exp2(-(double)a->alibi_max * step) * FM__LOG2E;
}

// The keys lo <= j < hi of a block: those that a row sees.
struct span {
    int lo, hi;
};

// One row's scores of one block: capped, sloped, biased, where seen. Returns the maximum.
static float finish_scores(const struct fm__attend *t, int r, int block, struct span seen, const float *bias, float *s)
{
    float top = nothing;
    for (int j = 0; j < FM__KV_BLOCK; j++) {
        if (j < seen.lo || j >= seen.hi) continue;
        if (t->cap_in != 0.0f) s[j] = fm__tanh(s[j] * t->cap_in) * t->cap_out;
        if (t->alibi) s[j] = fmaf(t->slope[r], (float)(block * FM__KV_BLOCK + j - t->at[r]), s[j]);
        if (bias) s[j] += bias[j];
        top = fmaxf(top, s[j]);
    }
    return top;
}

// Scores to probabilities in place, exactly zero where masked; returns their weighted sum: 16 lanes of four, then a
// tree, as a 512-bit register would.
static float probabilities(float *s, float m, const float *inv, struct span seen, bool coded)
{
    float lanes[16] = {0};
    for (int j = 0; j < FM__KV_BLOCK; j++) {
        s[j] = j < seen.lo || j >= seen.hi ? 0.0f : coded ? fm__exp2_code(s[j] - m) : fm__exp2(s[j] - m);
        if (s[j] != 0.0f) lanes[j % 16] = fmaf(s[j], inv ? inv[j] : 1.0f, lanes[j % 16]);
    }
    return fm__sum16(lanes);
}

void fm__attend_join(const struct fm__attend_state *to, const struct fm__attend_state *from, int n)
{
    float top = fmaxf(*to->m, *from->m), a = fm__exp2(*to->m - top), b = fm__exp2(*from->m - top);
    *to->m = top;
    *to->l = fmaf(*from->l, b, *to->l * a);
    for (int e = 0; e < n; e++) to->o[e] = fmaf(from->o[e], b, to->o[e] * a);
}

void fm__attend_finish(const struct fm__attend_state *row, float sink, float *out, int n)
{
    float inv = fm__attend_inverse(*row->m, *row->l, sink);
    for (int e = 0; e < n; e++) out[e] = fmaf(row->o[e], inv, 0.0f); // the addition makes -0 one zero with 0
}

void fm__attend_ref(const struct fm__kv_format *f, const struct fm__attend *t)
{
    float *s = (float *)t->scratch, *ob = s + FM__ATTEND_ROWS * FM__KV_BLOCK;
    float bias[FM__KV_BLOCK], inv[FM__KV_BLOCK], mb[FM__ATTEND_ROWS], lb[FM__ATTEND_ROWS];
    for (int r = 0; r < t->n_rows; r++) {
        t->m[r] = nothing, t->l[r] = 0.0f;
        for (int e = 0; e < t->dims.head_v; e++) t->o[r * t->o_stride + e] = 0.0f;
    }
    for (int b = 0; b < FM__ATTEND_BLOCKS; b++) {
        struct span seen[FM__ATTEND_ROWS];
        int n_keys = 0;
        for (int r = 0; r < t->n_rows; r++) {
            const int lo = t->first[r] - b * FM__KV_BLOCK, hi = t->last[r] - b * FM__KV_BLOCK;
            seen[r] = (struct span){lo > 0 ? lo : 0, hi < FM__KV_BLOCK ? hi : FM__KV_BLOCK};
            if (seen[r].lo < seen[r].hi && seen[r].hi > n_keys) n_keys = seen[r].hi;
        }
        if (!n_keys) continue;
        f->score(&t->dims, t->n_rows, t->prepared, t->blocks[b], s);
        if (f->value_scales) f->value_scales(&t->dims, t->blocks[b], bias, inv);
        for (int r = 0; r < t->n_rows; r++) {
            float *sr = s + r * FM__KV_BLOCK;
            mb[r] = finish_scores(t, r, b, seen[r], f->value_scales ? bias : NULL, sr) - f->log2_top;
            lb[r] = probabilities(sr, mb[r], f->value_scales ? inv : NULL, seen[r], f->log2_top > 0.0f);
        }
        f->mix(&t->dims, t->blocks[b], &(struct fm__kv_mix){t->n_rows, n_keys, s, ob, t->o_stride});
        for (int r = 0; r < t->n_rows; r++)
            fm__attend_join(&(struct fm__attend_state){&t->m[r], &t->l[r], t->o + r * t->o_stride},
                            &(struct fm__attend_state){&mb[r], &lb[r], ob + r * t->o_stride}, t->dims.head_v);
    }
}

int fm__attend_n_heads(const struct fm__call *call)
{
    int64_t width = 1;
    for (int i = 1; i < call->in[0].rank; i++) width *= call->in[0].dims[i];
    return (int)(width / call->attrs->attention.head_k);
}

// --- the ops --------------------------------------------------------------------------------------------------------

static const int32_t *row_of(const struct fm_tensor *rows, int64_t i)
{
    return (const int32_t *)((const char *)rows->data + i * rows->strides[0]);
}

// The block of kv head h that holds key `kv` of a slot.
static char *block_at(const struct fm_tensor *cache, const struct fm_tensor *pages, int slot, int64_t kv,
                      size_t head_offset)
{
    int32_t page = ((const int32_t *)((const char *)pages->data + slot * pages->strides[0]))[kv / FM__KV_BLOCK];
    return (char *)cache->data + page * cache->strides[0] + head_offset;
}

void fm__ref_kv_write(const struct fm__call *call)
{
    const struct fm__attr_attention *a = &call->attrs->attention;
    const struct fm__kv_format *f = fm__kv_format(a->kv_format);
    const struct fm__kv_dims d = {a->head_k, a->head_v};
    for (int64_t i = 0; i < call->rows; i++) {
        const int32_t *row = row_of(&call->in[3], i);
        const float *k = (const float *)((const char *)call->in[1].data + i * call->in[1].strides[0]);
        const float *v = (const float *)((const char *)call->in[2].data + i * call->in[2].strides[0]);
        for (int h = 0; h < a->n_kv; h++)
            f->encode(&d,
                      block_at(&call->out[0], &call->in[4], row[FM__ROW_SLOT], row[FM__ROW_KV], h * f->block_bytes(&d)),
                      row[FM__ROW_KV] % FM__KV_BLOCK, k + h * d.head_k, v + h * d.head_v);
    }
}

// One row and head against all keys it sees.
static void attend_row(const struct fm__call *call, int64_t i, int h, int n_heads, float *out)
{
    const struct fm__attr_attention *a = &call->attrs->attention;
    const struct fm__kv_format *f = fm__kv_format(a->kv_format);
    const struct fm__attend_heads heads = fm__attend_heads(a);
    const struct fm__kv_dims d = {a->head_k, a->head_v};
    void *prepared = (char *)call->workspace + FM__ATTEND_SCRATCH;
    float q[FM__ATTEND_MAX_HEAD], o[FM__ATTEND_MAX_HEAD] = {0}, oc[FM__ATTEND_MAX_HEAD], m = nothing, l = 0, mc, lc;
    const int32_t *row = row_of(&call->in[2], i);
    int32_t kv = row[FM__ROW_KV], first = a->window > 0 && kv >= a->window ? kv - a->window + 1 : 0;

    for (int e = 0; e < d.head_k; e++)
        q[e] = ((const float *)((const char *)call->in[0].data + i * call->in[0].strides[0]))[h * d.head_k + e] *
               heads.q_scale;
    f->prepare(&d, 1, q, d.head_k, prepared);
    struct fm__attend t = {.dims = d,
                           .n_rows = 1,
                           .prepared = prepared,
                           .m = &mc,
                           .l = &lc,
                           .o = oc,
                           .o_stride = FM__ATTEND_MAX_HEAD,
                           .cap_in = heads.cap_in,
                           .cap_out = heads.cap_out,
                           .alibi = a->alibi_max > 0,
                           .slope = {fm__attend_slope(a, h, n_heads)},
                           .scratch = call->workspace};
    for (int32_t c = first / FM__KV_CHUNK; c * FM__KV_CHUNK <= kv; c++) {
        int32_t base = c * FM__KV_CHUNK;
        t.first[0] = first > base ? first - base : 0;
        t.last[0] = kv + 1 - base < FM__KV_CHUNK ? kv + 1 - base : FM__KV_CHUNK;
        t.at[0] = kv - base;
        for (int b = t.first[0] / FM__KV_BLOCK; b * FM__KV_BLOCK < t.last[0]; b++)
            t.blocks[b] = block_at(&call->in[1], &call->in[3], row[FM__ROW_SLOT], base + b * FM__KV_BLOCK,
                                   (size_t)(h / (n_heads / a->n_kv)) * f->block_bytes(&d));
        fm__attend_ref(f, &t);
        fm__attend_join(&(struct fm__attend_state){&m, &l, o}, &(struct fm__attend_state){&mc, &lc, oc}, d.head_v);
    }
    float sink = call->n_in > 4 && call->in[4].data ? ((const float *)call->in[4].data)[h] * FM__LOG2E : nothing;
    fm__attend_finish(&(struct fm__attend_state){&m, &l, o}, sink, out, d.head_v);
}

// Scratch of a tile, one prepared query, one f32 row of the output.
size_t fm__ref_attention_workspace(const struct fm__call *call)
{
    const struct fm__attr_attention *a = &call->attrs->attention;
    const struct fm__kv_dims d = {a->head_k, a->head_v};
    return FM__ATTEND_SCRATCH + fm__kv_format(a->kv_format)->query_bytes(&d) +
           sizeof(float) * (size_t)fm__attend_n_heads(call) * (size_t)a->head_v;
}

void fm__ref_attention(const struct fm__call *call)
{
    const struct fm__attr_attention *a = &call->attrs->attention;
    const struct fm__kv_dims d = {a->head_k, a->head_v};
    const struct fm_tensor *out = &call->out[0];
    int n_heads = fm__attend_n_heads(call);
    float *buffer =
        (float *)((char *)call->workspace + FM__ATTEND_SCRATCH + fm__kv_format(a->kv_format)->query_bytes(&d));
    for (int64_t i = 0; i < call->rows; i++) {
        float *row = out->dtype == FM_F32 ? (float *)((char *)out->data + i * out->strides[0]) : buffer;
        for (int h = 0; h < n_heads; h++) attend_row(call, i, h, n_heads, row + h * a->head_v);
        if (row == buffer) fm__store_row(row, (int64_t)n_heads * a->head_v, out, i);
    }
}
