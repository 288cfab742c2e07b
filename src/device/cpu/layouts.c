// SPDX-License-Identifier: MIT
#include "device/cpu/layouts.h"

#include <string.h>

int fm__cpu_layout(const struct fm_tensor *w, int level)
{
    (void)w, (void)level;
    return FM_LAYOUT_ROWS;
}

size_t fm__cpu_packed_bytes(const struct fm_tensor *w)
{
    return fm_tensor_bytes(w);
}

void fm__cpu_pack(const struct fm_tensor *w, int64_t row0, int64_t n, const void *file_rows)
{
    memcpy((char *)w->data + row0 * w->strides[0], file_rows, (size_t)(n * w->strides[0]));
}

void fm__cpu_unpack(const struct fm_tensor *w, int64_t row0, int64_t n, void *file_rows)
{
    memcpy(file_rows, (const char *)w->data + row0 * w->strides[0], (size_t)(n * w->strides[0]));
}

fm_dtype fm__cpu_activation(const struct fm_tensor *w, int level)
{
    (void)w, (void)level;
    return FM_F32;
}
