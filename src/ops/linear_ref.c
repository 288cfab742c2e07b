// SPDX-License-Identifier: MIT
#include "ops/linear_ref.h"

#include <math.h>

#include "tensor/blocks.h"

// W's row as f32 through a window of 256 elements: a whole number of blocks of every type.
enum { WINDOW = 256 };

static float dot(const float *x, const struct fm_tensor *w, const char *w_row, int64_t k_len)
{
    float sum = 0, window[WINDOW];
    for (int64_t k = 0; k < k_len; k += WINDOW) {
        int64_t n = k_len - k < WINDOW ? k_len - k : WINDOW;
        fm__dequantise_row(w->dtype, w_row + fm_dtype_row_bytes(w->dtype, k), n, window);
        for (int64_t i = 0; i < n; i++) sum = fmaf(x[k + i], window[i], sum);
    }
    return sum;
}

void fm__ref_linear(const struct fm__call *c)
{
    const struct fm_tensor *w = &c->in[1];
    const float *bias = c->n_in > 2 ? c->in[2].data : NULL, *residual = c->n_in > 3 ? c->in[3].data : NULL;
    int64_t n_out = c->out[0].dims[1], k_len = c->in[0].dims[1];
    for (int64_t n = 0; n < c->out[0].dims[0]; n++) {
        const float *x = (const float *)c->in[0].data + n * k_len;
        float *y = (float *)c->out[0].data + n * n_out;
        for (int64_t o = 0; o < n_out; o++) {
            y[o] = dot(x, w, (const char *)w->data + o * w->strides[0], k_len);
            if (bias) y[o] += bias[o];
            if (residual) y[o] += residual[n * n_out + o];
        }
    }
}
