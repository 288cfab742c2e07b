// SPDX-License-Identifier: MIT
#include "device/cpu/layouts.h"

#include <string.h>

#include "base/cpuinfo.h"
#include "device/cpu/pack.h"
#include "tensor/blocks.h"

int fm__cpu_layout(const struct fm_tensor *w, int level)
{
    return level != FM__CPU_REF && w->rank == 2 && fm__pack_bytes(w->dtype, w->dims[0], w->dims[1]) ? FM__LAYOUT_PACK16
                                                                                                    : FM_LAYOUT_ROWS;
}

size_t fm__cpu_packed_bytes(const struct fm_tensor *w)
{
    return w->layout == FM__LAYOUT_PACK16 ? fm__pack_bytes(w->dtype, w->dims[0], w->dims[1]) : fm_tensor_bytes(w);
}

void fm__cpu_pack(const struct fm_tensor *w, int64_t row0, int64_t n, const void *file_rows)
{
    if (w->layout == FM__LAYOUT_PACK16)
        fm__pack_rows(w->dtype, w->dims[1], row0, n, file_rows, w->data);
    else
        memcpy((char *)w->data + row0 * w->strides[0], file_rows, (size_t)(n * w->strides[0]));
}

void fm__cpu_unpack(const struct fm_tensor *w, int64_t row0, int64_t n, void *file_rows)
{
    if (w->layout == FM__LAYOUT_PACK16)
        fm__unpack_rows(w->dtype, w->dims[1], row0, n, w->data, file_rows);
    else
        memcpy(file_rows, (const char *)w->data + row0 * w->strides[0], (size_t)(n * w->strides[0]));
}

// The same at every level, ref included: results do not depend on the machine.
fm_dtype fm__cpu_activation(const struct fm_tensor *w, int level)
{
    (void)level;
    if (w->dtype == FM_I8) return FM_Q8R;
    return fm__is_weight_type(w->dtype) && fm_dtype_info(w->dtype)->block_elements >= 32 ? FM_Q8A : FM_F32;
}
