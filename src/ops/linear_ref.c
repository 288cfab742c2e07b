// SPDX-License-Identifier: MIT
#include "ops/linear_ref.h"

#include <float.h>
#include <math.h>

#include "ops/slabs.h"
#include "tensor/blocks.h"
#include "tensor/q8a.h"
#include "tensor/q8r.h"

// W's row as f32 through a window of 256 elements: a whole number of blocks of every type.
enum { WINDOW = 256, BLOCK = 32 };

static float dot_f32(const float *x, const struct fm_tensor *w, const char *w_row, int64_t K)
{
    float sum = 0, window[WINDOW];
    for (int64_t k = 0; k < K; k += WINDOW) {
        int64_t n = K - k < WINDOW ? K - k : WINDOW;
        fm__dequantise_row(w->dtype, w_row + fm_dtype_row_bytes(w->dtype, k), n, window);
        for (int64_t i = 0; i < n; i++) sum = fmaf(x[k + i], window[i], sum);
    }
    return sum;
}

// A multiply-add as bf16 dot instructions perform it: one rounding, subnormal operands are zeros, and so is a result
// that is below the smallest normal number after rounding (its sign stays). Products of bf16 are exact in double, so
// the sum there is on the right side of that border.
static float flush(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0, x) : x;
}

static float fma_flushed(float a, float b, float c)
{
    a = flush(a), b = flush(b), c = flush(c);
    const double exact = (double)a * (double)b + (double)c;
    return fabs(exact) < FLT_MIN * (1 - 0x1p-25) ? copysignf(0, (float)exact) : fmaf(a, b, c);
}

// What a block of 32 terms adds to a sum.
static float joined(float sum, const float chain[2])
{
    return flush(sum + flush(chain[0] + chain[1]));
}

static float dot_bf16(const uint16_t *x, const struct fm_tensor *w, const char *w_row, int64_t K)
{
    float sum = 0, window[WINDOW];
    for (int64_t k = 0; k < K; k++) {
        if (k % WINDOW == 0) {
            const int64_t n = K - k < WINDOW ? K - k : WINDOW;
            fm__dequantise_row(w->dtype, w_row + fm_dtype_row_bytes(w->dtype, k), n, window);
        }
        if (k % BLOCK) continue;
        float chain[2] = {0, 0};
        for (int64_t i = k; i < k + BLOCK; i++) { // beyond K: zeros
            const float xi = i < K ? fm__bf16_to_f32(x[i]) : 0;
            const float wi = i < K ? fm__bf16_to_f32(fm__f32_to_bf16(window[i % WINDOW])) : 0;
            chain[i % 2] = fma_flushed(xi, wi, chain[i % 2]);
        }
        sum = joined(sum, chain);
    }
    return sum;
}

// W of plain int8: x q8r, or f32 where a plan leaves activations alone.
static float dot_i8(const struct fm_tensor *x, const void *x_row, const int8_t *w, float scale)
{
    const int64_t K = x->dims[1];
    const int8_t *codes = x_row;
    const float *values = x_row;
    int32_t sum = 0;
    float chain = 0;
    if (x->dtype == FM_F32) {
        for (int64_t k = 0; k < K; k++) chain = fmaf(values[k], (float)w[k] * scale, chain);
        return chain;
    }
    for (int64_t k = 0; k < K; k++) sum += codes[k] * w[k];
    return (float)sum * (fm__q8r_d(codes, K) * scale);
}

static float dot(const struct fm__call *c, int64_t n, int64_t o)
{
    const struct fm_tensor *x = &c->in[0], *w = &c->in[1];
    const void *x_row = (const char *)x->data + n * x->strides[0];
    const char *w_row = (const char *)w->data + o * w->strides[0];
    const int64_t K = x->dims[1];
    if (w->dtype == FM_I8) return dot_i8(x, x_row, (const int8_t *)w_row, ((const float *)c->in[4].data)[o]);
    if (x->dtype == FM_Q8A) return fm__q8a_dot(w->dtype, w_row, x_row, K);
    return x->dtype == FM_BF16 ? dot_bf16(x_row, w, w_row, K) : dot_f32(x_row, w, w_row, K);
}

// y = x W: sums over W's rows, whose elements are dequantised one window of columns at a time.
struct transposed {
    const struct fm_tensor *w;
    int64_t column, n;
    float sums[WINDOW];
};

static void window_of(const struct transposed *t, int64_t o, float *to)
{
    const char *row = (const char *)t->w->data + o * t->w->strides[0];
    fm__dequantise_row(t->w->dtype, row + fm_dtype_row_bytes(t->w->dtype, t->column), t->n, to);
}

static void times_w(struct transposed *t, const float *x)
{
    float window[WINDOW];
    for (int64_t o = 0; o < t->w->dims[0]; o++) {
        window_of(t, o, window);
        for (int64_t i = 0; i < t->n; i++) t->sums[i] = fmaf(x[o], window[i], t->sums[i]);
    }
}

static void times_w_bf16(struct transposed *t, const uint16_t *x)
{
    const int64_t O = t->w->dims[0];
    float window[WINDOW];
    for (int64_t o = 0; o < O; o += BLOCK) {
        float chains[WINDOW][2] = {0};
        for (int64_t j = o; j < o + BLOCK; j++) { // beyond the last row: zeros
            const float xj = j < O ? fm__bf16_to_f32(x[j]) : 0;
            if (j < O) window_of(t, j, window);
            for (int64_t i = 0; i < t->n; i++) {
                const float wi = j < O ? fm__bf16_to_f32(fm__f32_to_bf16(window[i])) : 0;
                chains[i][j % 2] = fma_flushed(xj, wi, chains[i][j % 2]);
            }
        }
        for (int64_t i = 0; i < t->n; i++) t->sums[i] = joined(t->sums[i], chains[i]);
    }
}

// Row n of a tensor, NULL of none.
static void *row_of(const struct fm_tensor *t, int64_t n)
{
    return t && t->data ? (char *)t->data + n * t->strides[0] : NULL;
}

static void transposed(const struct fm__call *c)
{
    const struct fm_tensor *x = &c->in[0], *w = &c->in[1], *y = &c->out[0];
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
    for (int64_t n = 0; n < y->dims[0]; n++) {
        const float *residual = row_of(c->n_in > 3 ? &c->in[3] : NULL, n);
        float *to = row_of(y, n);
        for (int64_t k = 0; k < w->dims[1]; k += WINDOW) {
            struct transposed t = {.w = w, .column = k, .n = w->dims[1] - k < WINDOW ? w->dims[1] - k : WINDOW};
            if (x->dtype == FM_BF16)
                times_w_bf16(&t, row_of(x, n));
            else
                times_w(&t, row_of(x, n));
            for (int64_t i = 0; i < t.n; i++) {
                if (bias) t.sums[i] += bias[k + i];
                if (residual) t.sums[i] += residual[k + i];
                to[k + i] = t.sums[i];
            }
        }
    }
}

void fm__ref_linear(const struct fm__call *c)
{
    if (c->attrs && c->attrs->linear.transpose_w) {
        transposed(c);
        return;
    }
    const struct fm_tensor *y = &c->out[0];
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
    for (int64_t n = 0; n < y->dims[0]; n++) {
        float *y_row = row_of(y, n);
        const float *r_row = row_of(c->n_in > 3 ? &c->in[3] : NULL, n);
        for (int64_t o = 0; o < y->dims[1]; o++) {
            float sum = dot(c, n, o);
            if (bias) sum += bias[o];
            if (r_row) sum += r_row[o];
            y_row[o] = sum;
        }
    }
}

// A slab's sum of dy[n][o] x[n][k], from its first row on; strides in elements.
static float slab_f32(const float *dy, const float *x, int64_t n, int64_t dy_stride, int64_t x_stride)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum = fmaf(dy[i * dy_stride], x[i * x_stride], sum);
    return sum;
}

static float slab_bf16(const uint16_t *dy, const uint16_t *x, int64_t n, int64_t dy_stride, int64_t x_stride)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        float chain[2] = {0, 0};
        for (int64_t j = i; j < i + BLOCK; j++) {
            const float a = j < n ? fm__bf16_to_f32(dy[j * dy_stride]) : 0;
            const float b = j < n ? fm__bf16_to_f32(x[j * x_stride]) : 0;
            chain[j % 2] = fma_flushed(a, b, chain[j % 2]);
        }
        sum = joined(sum, chain);
    }
    return sum;
}

void fm__ref_linear_dw(const struct fm__call *c)
{
    const struct fm_tensor *x = &c->in[0], *dy = &c->in[1], *dw = &c->out[0];
    const int64_t N = x->dims[0], size = x->dtype == FM_F32 ? 4 : 2;
    const bool keeps = c->n_in > 2 && fm__keeps(c, 3); // linear_dw_add
    for (int64_t o = 0; o < dw->dims[0]; o++)
        for (int64_t k = 0; k < dw->dims[1]; k++) {
            float total = 0;
            for (int64_t n = 0, end; n < N; n = end) {
                const char *a = (const char *)row_of(dy, n) + o * size, *b = (const char *)row_of(x, n) + k * size;
                end = fm__slab_end(n, N);
                total += x->dtype == FM_F32 ? slab_f32((const float *)a, (const float *)b, end - n,
                                                       dy->strides[0] / size, x->strides[0] / size)
                                            : slab_bf16((const uint16_t *)a, (const uint16_t *)b, end - n,
                                                        dy->strides[0] / size, x->strides[0] / size);
            }
            float *out = (float *)row_of(dw, o) + k;
            *out = keeps ? total + *out : total;
        }
}
