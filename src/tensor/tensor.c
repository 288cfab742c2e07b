// SPDX-License-Identifier: MIT
// Element type table and tensor views: arithmetic on shapes only, nothing is allocated.
#include "fathom/tensor.h"

#include <string.h>
#include <strings.h>

#include "base/alloc.h"

static const struct fm_dtype_info dtypes[FM_DTYPE_COUNT] = {
#define X(name, text, elements, bytes, gguf) [FM_##name] = {text, elements, bytes, gguf},
#include "fathom/dtype.def"
#undef X
};

const struct fm_dtype_info *fm_dtype_info(fm_dtype dtype)
{
    static const struct fm_dtype_info invalid = {"invalid", 1, 0, -1};
    return (unsigned)dtype < FM_DTYPE_COUNT ? &dtypes[dtype] : &invalid;
}

fm_dtype fm_dtype_from_gguf(int gguf_type)
{
    for (int i = 0; i < FM_DTYPE_COUNT; i++)
        if (dtypes[i].gguf_type == gguf_type && gguf_type >= 0) return (fm_dtype)i;
    return FM_DTYPE_COUNT;
}

fm_dtype fm_dtype_from_name(const char *name)
{
    for (int i = 0; i < FM_DTYPE_COUNT; i++)
        if (!strcasecmp(dtypes[i].name, name)) return (fm_dtype)i;
    return FM_DTYPE_COUNT;
}

size_t fm_dtype_row_bytes(fm_dtype dtype, int64_t n)
{
    const struct fm_dtype_info *info = fm_dtype_info(dtype);
    size_t bytes;
    if (n < 0 || n % info->block_elements) return 0;
    return fm__mul_size((size_t)(n / info->block_elements), (size_t)info->block_bytes, &bytes) ? bytes : 0;
}

int64_t fm_tensor_elements(const struct fm_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

size_t fm_tensor_bytes(const struct fm_tensor *t)
{
    if (t->rank == 0) return fm_dtype_row_bytes(t->dtype, 1);
    size_t bytes = fm_dtype_row_bytes(t->dtype, t->dims[t->rank - 1]);
    for (int i = 0; i < t->rank - 1; i++)
        if (t->dims[i] < 0 || !fm__mul_size(bytes, (size_t)t->dims[i], &bytes)) return 0;
    return bytes;
}

void fm_tensor_set_contiguous(struct fm_tensor *t)
{
    const struct fm_dtype_info *info = fm_dtype_info(t->dtype);
    int64_t stride = info->block_bytes;
    for (int i = t->rank - 1; i >= 0; i--) {
        t->strides[i] = stride;
        stride *= i == t->rank - 1 ? t->dims[i] / info->block_elements : t->dims[i];
    }
}
