// SPDX-License-Identifier: MIT
// The table of linear kernels: a later line that fits replaces an earlier one.
#include "device/cpu/linear.h"

#include "base/cpuinfo.h"
#include "tensor/blocks.h"

struct entry {
    int level, dw;
    fm_dtype act;
    int64_t min_rows; // below it the one before was measured to be faster
    const char *name;
    fm__kernel_fn *run;
    size_t (*workspace)(const struct fm__call *largest, int n_workers);
    bool (*pays)(void); // NULL: yes
};

#define KERNEL(level, act, min_rows, name)                                    \
    {                                                                         \
        FM__CPU_##level, 0, FM_##act, min_rows, #name, fm__##name, NULL, NULL \
    }
#define KERNEL_DW(level, act, name)                                    \
    {                                                                  \
        FM__CPU_##level, 1, FM_##act, 0, #name, fm__##name, NULL, NULL \
    }
static const struct entry table[] = {
#if defined(__x86_64__)
    KERNEL(AVX2, F32, 0, linear_f32_avx2),
    KERNEL(AVX512, F32, 0, linear_f32_avx512),
    KERNEL_DW(AVX2, F32, linear_dw_f32_avx2),
    KERNEL_DW(AVX512, F32, linear_dw_f32_avx512),
    KERNEL(AVX2, Q8A, 0, linear_q8a_avx2),
    KERNEL(AVX512, Q8A, 0, linear_q8a_avx512),
    KERNEL(VNNI, Q8A, 0, linear_q8a_vnni),
    {FM__CPU_AMX, 0, FM_Q8A, FM__LINEAR_AMX_ROWS, "linear_q8a_amx", fm__linear_q8a_amx, fm__linear_q8a_amx_workspace,
     NULL},
    KERNEL(AVX2, BF16, 0, linear_bf16_avx2),
    KERNEL(AVX512, BF16, 0, linear_bf16_avx512),
    {FM__CPU_BF16, 0, FM_BF16, 0, "linear_bf16_bf16", fm__linear_bf16_bf16, NULL, fm__linear_bf16_pays},
    {FM__CPU_AMX, 0, FM_BF16, FM__LINEAR_TILE_ROWS, "linear_bf16_amx", fm__linear_bf16_amx,
     fm__linear_bf16_amx_workspace, NULL},
    KERNEL_DW(AVX2, BF16, linear_dw_bf16_avx2),
    KERNEL_DW(AVX512, BF16, linear_dw_bf16_avx512),
    {FM__CPU_BF16, 1, FM_BF16, 0, "linear_dw_bf16_bf16", fm__linear_dw_bf16_bf16, NULL, fm__linear_bf16_pays},
    {FM__CPU_AMX, 1, FM_BF16, 0, "linear_dw_bf16_amx", fm__linear_dw_bf16_amx, fm__linear_dw_bf16_amx_workspace, NULL},
    KERNEL(AVX2, Q8R, 0, linear_i8_avx2),
    KERNEL(AVX512, Q8R, 0, linear_i8_avx512),
    KERNEL(VNNI, Q8R, 0, linear_i8_vnni),
    {FM__CPU_AMX, 0, FM_Q8R, FM__LINEAR_TILE_ROWS, "linear_i8_amx", fm__linear_i8_amx, fm__linear_i8_amx_workspace,
     NULL},
#elif defined(__aarch64__)
    KERNEL(NEON, F32, 0, linear_f32_neon),
    KERNEL_DW(NEON, F32, linear_dw_f32_neon),
    KERNEL(NEON, Q8A, 0, linear_q8a_neon),
    KERNEL(DOTPROD, Q8A, 0, linear_q8a_dotprod),
    KERNEL(I8MM, Q8A, 0, linear_q8a_i8mm),
#endif
    {0},
};

// Levels of one architecture are ordered; ref is below all.
static int allowed(int needed, int level)
{
    return (needed >= FM__CPU_NEON) == (level >= FM__CPU_NEON) && needed <= level;
}

static struct fm__linear_kernel choose(int dw, fm_dtype act, int level, int64_t n_rows)
{
    struct fm__linear_kernel kernel = {0};
    for (const struct entry *e = table; e->name; e++) {
        if (e->dw != dw || e->act != act || !allowed(e->level, level) || n_rows < e->min_rows) continue;
        if (e->pays && !e->pays()) continue;
        kernel.name = e->name;
        kernel.run = e->run;
        kernel.workspace = e->workspace;
    }
    return kernel;
}

struct fm__linear_kernel fm__linear_kernel(fm_dtype dtype, fm_dtype act, int level, int64_t n_rows)
{
    const struct fm__linear_kernel none = {0};
    if (act == FM_Q8R ? dtype != FM_I8 : !fm__is_weight_type(dtype)) return none;
    if (act == FM_Q8A && fm_dtype_info(dtype)->block_elements < 32) return none;
    return choose(0, act, level, n_rows);
}

struct fm__linear_kernel fm__linear_dw_kernel(fm_dtype act, int level)
{
    return choose(1, act, level, 0);
}

fm__q8a_quantise_fn *fm__q8a_quantiser(int level)
{
#if defined(__x86_64__)
    if (allowed(FM__CPU_AVX512, level)) return fm__q8a_quantise_row_avx512;
    if (allowed(FM__CPU_AVX2, level)) return fm__q8a_quantise_row_avx2;
#elif defined(__aarch64__)
    if (allowed(FM__CPU_NEON, level)) return fm__q8a_quantise_row_neon;
#endif
    (void)level;
    return fm__q8a_quantise_row;
}

fm__q8r_quantise_fn *fm__q8r_quantiser(int level)
{
#if defined(__x86_64__)
    if (allowed(FM__CPU_AVX512, level)) return fm__q8r_quantise_row_avx512;
    if (allowed(FM__CPU_AVX2, level)) return fm__q8r_quantise_row_avx2;
#endif
    (void)level;
    return fm__q8r_quantise_row;
}
