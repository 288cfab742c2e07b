// SPDX-License-Identifier: MIT
// Which kernel serves a call. Ops with a driver of their own choose for themselves (`chosen`); the streaming ops have a
// table a level, and a higher level overwrites the lower ones. What none takes runs the reference.
#include "device/cpu/kernels.h"

#include "device/cpu/adapt.h"
#include "device/cpu/attention_cpu.h"
#include "device/cpu/attention_rows_cpu.h"
#include "device/cpu/conv.h"
#include "device/cpu/linear.h"
#include "device/cpu/loss.h"
#include "device/cpu/pack.h"
#include "device/cpu/small.h"
#include "ops/adapt.h"
#include "ops/sum_squares.h"

typedef struct fm__kernel choose_fn(const struct fm__call *largest, int level);

static struct fm__kernel choose_linear(const struct fm__call *largest, int level)
{
    const struct fm__linear_kernel k =
        fm__linear_kernel(largest->in[1].dtype, largest->in[0].dtype, level, largest->in[0].dims[0]);
    return (struct fm__kernel){.name = k.name, .run = k.run, .workspace = k.workspace};
}

static struct fm__kernel choose_linear_dw(const struct fm__call *largest, int level)
{
    const struct fm__linear_kernel k = fm__linear_dw_kernel(largest->in[0].dtype, level);
    return (struct fm__kernel){.name = k.name, .run = k.run, .workspace = k.workspace};
}

static struct fm__kernel choose_attention(const struct fm__call *largest, int level)
{
    (void)largest;
    return (struct fm__kernel){fm__cpu_level_name(level), fm__cpu_attention(level), fm__cpu_attention_workspace};
}

static struct fm__kernel choose_kv_write(const struct fm__call *largest, int level)
{
    (void)largest;
    return (struct fm__kernel){fm__cpu_level_name(level), fm__cpu_kv_write(level), NULL};
}

static struct fm__kernel choose_attention_rows(const struct fm__call *largest, int level)
{
    return (struct fm__kernel){fm__cpu_level_name(level), fm__rows_kernels(largest, level).attend, NULL};
}

static struct fm__kernel choose_attention_rows_grad(const struct fm__call *largest, int level)
{
    return (struct fm__kernel){fm__cpu_level_name(level), fm__rows_kernels(largest, level).gradient,
                               fm__rows_gradient_workspace};
}

int fm__adapt_fits(const struct fm__call *largest)
{
    const struct fm_tensor *b = &largest->in[FM__ADAPT_B], *a = &largest->in[FM__ADAPT_A];
    const bool packed = b->layout == FM__LAYOUT_PACK16 &&
                        (largest->n_in <= FM__ADAPT_A || a->dtype == FM_DTYPE_COUNT || a->layout == FM__LAYOUT_PACK16);
    return packed && largest->in[FM__ADAPT_SPANS].dims[0] <= FM__ADAPT_MOST &&
           b->dims[1] <= FM__WORKER_SCRATCH / (8 * (int64_t)sizeof(float)) - 16;
}

static struct fm__kernel choose_adapt(const struct fm__call *largest, int level)
{
    if (!fm__adapt_fits(largest)) return (struct fm__kernel){0};
#if defined(__x86_64__)
    if (level >= FM__CPU_AVX512) return (struct fm__kernel){.name = "avx512", .run = fm__adapt_avx512};
    if (level >= FM__CPU_AVX2) return (struct fm__kernel){.name = "avx2", .run = fm__adapt_avx2};
#elif defined(__aarch64__)
    if (level >= FM__CPU_NEON) return (struct fm__kernel){.name = "neon", .run = fm__adapt_neon};
#endif
    return (struct fm__kernel){0};
}

// Ascending for each op; a level stands here when its architecture is this one.
static const struct {
    int level;
    const char *name;
    fm__kernel_fn *const *kernels;
} small[] = {
    {FM__CPU_REF, "plain", fm__small_plain},
#if defined(__x86_64__)
    {FM__CPU_AVX2, "avx2", fm__small_avx2},  {FM__CPU_AVX512, "avx512", fm__small_avx512},
    {FM__CPU_AVX2, "avx2", fm__optim_avx2},  {FM__CPU_AVX512, "avx512", fm__optim_avx512},
#elif defined(__aarch64__)
    {FM__CPU_NEON, "neon", fm__small_neon},
    {FM__CPU_NEON, "neon", fm__optim_neon},
#endif
};

static struct fm__kernel of_tables(enum fm__op_id op, int level)
{
    struct fm__kernel kernel = {0};
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        if (level >= small[i].level && small[i].kernels[op])
            kernel = (struct fm__kernel){small[i].name, small[i].kernels[op], fm__small_workspace[op]};
    return kernel;
}

static size_t squares_workspace(const struct fm__call *largest, int n_workers)
{
    (void)n_workers;
    return (size_t)fm__squares_pieces(largest) * sizeof(double);
}

static struct fm__kernel choose_sum_squares(const struct fm__call *largest, int level)
{
    (void)largest;
    struct fm__kernel kernel = of_tables(FM__OP_SUM_SQUARES, level);
    kernel.workspace = squares_workspace;
    return kernel;
}

static choose_fn *const chosen[FM__OP_COUNT] = {
    [FM__OP_LINEAR] = choose_linear,
    [FM__OP_LINEAR_DW] = choose_linear_dw,
    [FM__OP_LINEAR_DW_ADD] = choose_linear_dw,
    [FM__OP_ATTENTION] = choose_attention,
    [FM__OP_KV_WRITE] = choose_kv_write,
    [FM__OP_ATTENTION_ROWS] = choose_attention_rows,
    [FM__OP_ATTENTION_ROWS_GRAD] = choose_attention_rows_grad,
    [FM__OP_SUM_SQUARES] = choose_sum_squares,
    [FM__OP_ADAPT] = choose_adapt,
    [FM__OP_CONV2D] = fm__conv2d_kernel,
    [FM__OP_CONV2D_DX] = fm__conv2d_dx_kernel,
    [FM__OP_CONV2D_DW] = fm__conv2d_dw_kernel,
    [FM__OP_LINEAR_CROSS_ENTROPY] = fm__linear_cross_entropy_kernel,
    [FM__OP_LINEAR_CROSS_ENTROPY_GRAD] = fm__linear_cross_entropy_kernel,
    [FM__OP_LINEAR_CROSS_ENTROPY_DX] = fm__linear_cross_entropy_kernel,
};

struct fm__kernel fm__kernel_select(enum fm__op_id op, const struct fm__call *largest, int level)
{
    if (chosen[op]) return chosen[op](largest, level);
    return fm__small_fits(op, largest) ? of_tables(op, level) : (struct fm__kernel){0};
}
