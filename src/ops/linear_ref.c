// SPDX-License-Identifier: MIT
#include "ops/linear_ref.h"

#include <float.h>
#include <math.h>

#include "tensor/blocks.h"
#include "tensor/q8a.h"
#include "tensor/q8r.h"

// W's row as f32 through a window of 256 elements: a whole number of blocks of every type.
enum { WINDOW = 256 };

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

static float dot_bf16(const uint16_t *x, const struct fm_tensor *w, const char *w_row, int64_t K)
{
    float sum = 0, window[WINDOW];
    for (int64_t k = 0; k < K; k++) {
        if (k % WINDOW == 0) {
            const int64_t n = K - k < WINDOW ? K - k : WINDOW;
            fm__dequantise_row(w->dtype, w_row + fm_dtype_row_bytes(w->dtype, k), n, window);
        }
        if (k % 32) continue;
        float chain[2] = {0, 0};
        for (int64_t i = k; i < k + 32; i++) { // beyond K: zeros
            const float xi = i < K ? fm__bf16_to_f32(x[i]) : 0;
            const float wi = i < K ? fm__bf16_to_f32(fm__f32_to_bf16(window[i % WINDOW])) : 0;
            chain[i % 2] = fma_flushed(xi, wi, chain[i % 2]);
        }
        sum = flush(sum + flush(chain[0] + chain[1]));
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

// y = x W: a chain over W's rows, whose elements are dequantised one window of columns at a time.
static void times_w(const float *x, const struct fm_tensor *w, int64_t column, int64_t n, float *sums)
{
    float window[WINDOW];
    for (int64_t i = 0; i < n; i++) sums[i] = 0;
    for (int64_t o = 0; o < w->dims[0]; o++) {
        const char *row = (const char *)w->data + o * w->strides[0];
        fm__dequantise_row(w->dtype, row + fm_dtype_row_bytes(w->dtype, column), n, window);
        for (int64_t i = 0; i < n; i++) sums[i] = fmaf(x[o], window[i], sums[i]);
    }
}

static void transposed(const struct fm__call *c)
{
    const struct fm_tensor *w = &c->in[1];
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL, *residual = c->n_in > 3 ? c->in[3].data : NULL;
    int64_t O = w->dims[0], K = w->dims[1];
    float sums[WINDOW];
    for (int64_t n = 0; n < c->out[0].dims[0]; n++)
        for (int64_t k = 0; k < K; k += WINDOW) {
            int64_t width = K - k < WINDOW ? K - k : WINDOW;
            times_w((const float *)c->in[0].data + n * O, w, k, width, sums);
            for (int64_t i = 0; i < width; i++) {
                if (bias) sums[i] += bias[k + i];
                if (residual) sums[i] += residual[n * K + k + i];
                ((float *)c->out[0].data)[n * K + k + i] = sums[i];
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
    const struct fm_tensor *residual = c->n_in > 3 && c->in[3].data ? &c->in[3] : NULL;
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL;
    for (int64_t n = 0; n < y->dims[0]; n++) {
        float *y_row = (float *)((char *)y->data + n * y->strides[0]);
        const float *r_row = residual ? (const float *)((const char *)residual->data + n * residual->strides[0]) : NULL;
        for (int64_t o = 0; o < y->dims[1]; o++) {
            float sum = dot(c, n, o);
            if (bias) sum += bias[o];
            if (r_row) sum += r_row[o];
            y_row[o] = sum;
        }
    }
}
