// SPDX-License-Identifier: MIT
// Which kernels of attention_rows serve a call, and the workspace of its gradient.
#include "device/cpu/attention_rows_cpu.h"

#include "base/cpuinfo.h"
#include "ops/attention_rows.h"

static int fits(int head)
{
    return head % 16 == 0 && head >= 16 && head <= FM__ROWS_MAX_HEAD;
}

struct fm__rows_kernels fm__rows_kernels(const struct fm__call *largest, int level)
{
    const struct fm__attr_attention *a = &largest->attrs->attention;
    const struct fm__rows_kernels none = {NULL, NULL};
    if (!fits(a->head_k) || !fits(a->head_v)) return none;
#if defined(__x86_64__)
    if (level >= FM__CPU_AVX512) return fm__rows_avx512;
    if (level >= FM__CPU_AVX2) return fm__rows_avx2;
#elif defined(__aarch64__)
    if (level >= FM__CPU_NEON) return fm__rows_neon;
#endif
    return none;
}

size_t fm__rows_gradient_workspace(const struct fm__call *largest, int n_workers)
{
    const struct fm__rows_attention t = fm__rows_attention(largest);
    const size_t head_k = (size_t)t.a->head_k, head_v = (size_t)t.a->head_v, n = (size_t)t.n_rows;
    const size_t padded = (n + FM__ROWS_TILE - 1) / FM__ROWS_TILE * FM__ROWS_TILE;
    const size_t worker = padded * (3 * head_k + 2 * head_v + 2);
    const size_t heads = t.group > 1 ? (size_t)t.n_heads * n * (head_k + head_v) : 0;
    return ((size_t)n_workers * worker + heads) * sizeof(float);
}
