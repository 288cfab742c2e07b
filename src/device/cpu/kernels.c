// SPDX-License-Identifier: MIT
// Which kernel serves a call. Later (higher) levels overwrite earlier ones; what none takes runs the reference.
#include "device/cpu/kernels.h"

#include "device/cpu/embed_cpu.h"
#include "device/cpu/linear.h"

static struct fm__kernel linear(const struct fm__call *c, int level)
{
    if (c->attrs && c->attrs->linear.transpose_w) return (struct fm__kernel){0};
    const struct fm__linear_kernel k = fm__linear_kernel(c->in[1].dtype, c->in[0].dtype, level, c->in[0].dims[0]);
    return (struct fm__kernel){.name = k.name, .run = k.run};
}

struct fm__kernel fm__kernel_select(enum fm__op_id op, const struct fm__call *largest, int level)
{
    switch (op) {
    case FM__OP_LINEAR:
        return linear(largest, level);
    case FM__OP_EMBED:
        return level ? (struct fm__kernel){.name = "embed", .run = fm__embed_cpu} : (struct fm__kernel){0};
    default:
        return (struct fm__kernel){0};
    }
}
