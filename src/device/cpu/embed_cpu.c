// SPDX-License-Identifier: MIT
// embed on packed weights: each row is put together from its group. Rows are shared out one by one.
#include "device/cpu/embed_cpu.h"

#include "device/cpu/pack.h"
#include "tensor/blocks.h"

void fm__embed_cpu(const struct fm__call *call, struct fm__worker *worker)
{
    const struct fm_tensor *w = &call->in[0];
    const int32_t *tokens = call->in[1].data;
    const int64_t N = call->out[0].dims[0], D = w->dims[1];
    (void)worker;
    for (int64_t n; (n = fm__take(call, 1)) < N;) {
        float *y = (float *)call->out[0].data + n * D;
        if (w->layout == FM__LAYOUT_PACK16)
            fm__packed_dequantise_row(w->dtype, D, w->data, tokens[n], y);
        else
            fm__dequantise_row(w->dtype, (const char *)w->data + tokens[n] * w->strides[0], D, y);
    }
}
