// SPDX-License-Identifier: MIT
#include "ops/rows_out.h"

#include <string.h>

#include "base/error.h"
#include "tensor/blocks.h"

fm_status fm__shape_rows_out(struct fm__shape *s, int in, int dtype)
{
    int64_t last = s->in[in]->dims[s->in[in]->rank - 1];
    if (dtype != FM_F32 && dtype != FM_F16 && dtype != FM_BF16 && dtype != FM_Q8A && dtype != FM_Q8R)
        return fm__fail(s->err, FM_E_SHAPE, "%s: output type %s, want f32, f16, bf16, q8a or q8r", s->op,
                        fm_dtype_info((fm_dtype)dtype)->name);
    if (last % fm_dtype_info((fm_dtype)dtype)->block_elements)
        return fm__fail(s->err, FM_E_SHAPE, "%s: rows of %lld elements, want a multiple of %d for %s", s->op,
                        (long long)last, fm_dtype_info((fm_dtype)dtype)->block_elements,
                        fm_dtype_info((fm_dtype)dtype)->name);
    fm__shape_like(s, 0, in);
    s->out[0].dtype = (fm_dtype)dtype;
    return FM_OK;
}

void fm__store_row(const float *row, int64_t n, const struct fm_tensor *out, int64_t i)
{
    char *to = (char *)out->data + (size_t)i * fm_dtype_row_bytes(out->dtype, n);
    if (out->dtype == FM_F32)
        memcpy(to, row, (size_t)n * sizeof *row);
    else
        fm__quantise_row(out->dtype, row, n, to);
}

void fm__print_out_dtype(int dtype, FILE *to)
{
    if (dtype != FM_F32) fprintf(to, " out=%s", fm_dtype_info((fm_dtype)dtype)->name);
}
