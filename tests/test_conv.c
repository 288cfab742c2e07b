// SPDX-License-Identifier: MIT
// device/cpu/conv and the kernels of pools, norms over channels and losses: the reference's bytes for images of odd
// sizes, strides and paddings, batches of several slabs, any number of threads.
// test-labels: kernels
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cpuinfo.h"
#include "ops/conv.h"
#include "ops/op.h"
#include "support/run_kernels.h"

static uint64_t seed = 1;
static float random_unit(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(uint32_t)(seed >> 32) * 0x1p-31f;
}

static struct fm_tensor tensor(int64_t d0, int64_t d1)
{
    struct fm_tensor t = {.dtype = FM_F32, .rank = d1 ? 2 : 1, .dims = {d0, d1}};
    fm_tensor_set_contiguous(&t);
    t.data = malloc(fm_tensor_bytes(&t));
    for (int64_t i = 0; i < fm_tensor_elements(&t); i++) ((float *)t.data)[i] = random_unit();
    return t;
}

static int n_compared;

// Tensors of the call are its own: freed here.
static void compare(enum fm__op_id op, struct fm__call *call, const char *what)
{
    call->rows = call->in[0].dims[0];
    n_compared += test_compare_kernels(op, call, NULL, what);
    for (int i = 0; i < call->n_in; i++) free(call->in[i].data);
    for (int i = 0; i < call->n_out; i++) free(call->out[i].data);
}

static void expect_runs(int at_least)
{
    if (fm__cpu_has(FM__CPU_AVX2) || fm__cpu_has(FM__CPU_NEON)) assert_true(n_compared >= at_least);
    n_compared = 0;
}

static void convolve(const struct fm__attr_conv *a, int64_t n, int64_t n_out)
{
    const union fm__attrs attrs = {.conv = *a};
    const struct fm__conv g = fm__conv_of(a);
    const int64_t X = g.channels * g.pixels, Y = n_out * g.places;
    char what[96];
    snprintf(what, sizeof what, "%d x %d x %d, kernel %d x %d, stride %d, padding %d, %d images to %d", a->channels,
             a->height, a->width, a->kernel_h, a->kernel_w, a->stride, a->padding, (int)n, (int)n_out);
    compare(FM__OP_CONV2D,
            &(struct fm__call){.n_in = 3,
                               .n_out = 1,
                               .attrs = &attrs,
                               .in = {tensor(n, X), tensor(n_out, g.taps), tensor(n_out, 0)},
                               .out = {tensor(n, Y)}},
            what);
    compare(
        FM__OP_CONV2D_DX,
        &(struct fm__call){
            .n_in = 2, .n_out = 1, .attrs = &attrs, .in = {tensor(n_out, g.taps), tensor(n, Y)}, .out = {tensor(n, X)}},
        what);
    compare(FM__OP_CONV2D_DW,
            &(struct fm__call){.n_in = 2,
                               .n_out = 2,
                               .attrs = &attrs,
                               .in = {tensor(n, X), tensor(n, Y)},
                               .out = {tensor(n_out, g.taps), tensor(n_out, 0)}},
            what);
}

static void convolutions(void **state)
{
    (void)state;
    static const struct fm__attr_conv sizes[] = {
        {1, 28, 28, 3, 3, 1, 1, 0}, {3, 9, 7, 3, 3, 1, 0, 0}, {5, 8, 8, 5, 3, 2, 2, 0},  {2, 5, 5, 5, 5, 1, 0, 0},
        {17, 4, 4, 1, 1, 1, 0, 0},  {4, 6, 5, 2, 2, 3, 1, 0}, {8, 14, 3, 3, 3, 1, 2, 0},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        convolve(&sizes[i], 1, 1 + (int64_t)i);
        convolve(&sizes[i], 19, 9 + (int64_t)i); // two slabs and a part
    }
    convolve(&sizes[1], 3, 70);
    expect_runs(100);
}

static void pools(void **state)
{
    (void)state;
    for (int kind = FM__POOL_MAX; kind <= FM__POOL_MEAN; kind++) {
        const union fm__attrs attrs = {.conv = {6, 13, 11, 3, 2, 2, 1, kind}};
        const struct fm__conv g = fm__conv_of(&attrs.conv);
        const int64_t X = g.channels * g.pixels, Y = g.channels * g.places;
        compare(
            FM__OP_POOL2D,
            &(struct fm__call){.n_in = 1, .n_out = 1, .attrs = &attrs, .in = {tensor(30, X)}, .out = {tensor(30, Y)}},
            "pool2d");
        compare(
            FM__OP_POOL2D_GRAD,
            &(struct fm__call){
                .n_in = 2, .n_out = 1, .attrs = &attrs, .in = {tensor(30, X), tensor(30, Y)}, .out = {tensor(30, X)}},
            "pool2d_grad");
    }
    expect_runs(12);
}

static void norms(void **state)
{
    (void)state;
    const union fm__attrs attrs = {.channels = {.channels = 12, .groups = 4, .eps = 1e-5f, .momentum = 0.1f}};
    struct fm__call batch = {.n_in = 5,
                             .n_out = 3,
                             .attrs = &attrs,
                             .in = {tensor(300, 12 * 49), tensor(12, 0), tensor(12, 0), tensor(12, 0), tensor(12, 0)},
                             .out = {tensor(300, 12 * 49), tensor(12, 0), tensor(12, 0)}};
    compare(FM__OP_BATCHNORM, &batch, "batchnorm");
    struct fm__call group = {.n_in = 3,
                             .n_out = 1,
                             .attrs = &attrs,
                             .in = {tensor(300, 12 * 49), tensor(12, 0), tensor(12, 0)},
                             .out = {tensor(300, 12 * 49)}};
    compare(FM__OP_GROUPNORM, &group, "groupnorm");
    for (int is_group = 0; is_group <= 1; is_group++)
        compare(is_group ? FM__OP_GROUPNORM_GRAD : FM__OP_BATCHNORM_GRAD,
                &(struct fm__call){.n_in = 3,
                                   .n_out = 3,
                                   .attrs = &attrs,
                                   .in = {tensor(300, 12 * 49), tensor(12, 0), tensor(300, 12 * 49)},
                                   .out = {tensor(300, 12 * 49), tensor(12, 0), tensor(12, 0)}},
                is_group ? "groupnorm_grad" : "batchnorm_grad");
    expect_runs(12);
}

static void losses(void **state)
{
    (void)state;
    for (int kind = FM__LOSS_MSE; kind <= FM__LOSS_KL; kind++) {
        const union fm__attrs attrs = {.loss = {.kind = kind, .temperature = 1.5f}};
        compare(FM__OP_ROW_LOSS,
                &(struct fm__call){.n_in = 3,
                                   .n_out = 1,
                                   .attrs = &attrs,
                                   .in = {tensor(40, 1000), tensor(40, 1000), tensor(40, 0)},
                                   .out = {tensor(40, 0)}},
                "row_loss");
        compare(FM__OP_ROW_LOSS_GRAD,
                &(struct fm__call){.n_in = 4,
                                   .n_out = 1,
                                   .attrs = &attrs,
                                   .in = {tensor(40, 1000), tensor(40, 1000), tensor(40, 0), tensor(40, 0)},
                                   .out = {tensor(40, 1000)}},
                "row_loss_grad");
    }
    const union fm__attrs attrs = {.loss = {.temperature = 0.5f}};
    struct fm__call forward = {.n_in = 3,
                               .n_out = 2,
                               .attrs = &attrs,
                               .in = {tensor(40, 100), tensor(40, 100), tensor(40, 0)},
                               .out = {tensor(40, 0), tensor(40, 2)}};
    ((float *)forward.in[2].data)[7] = 0; // takes no part
    compare(FM__OP_CONTRASTIVE, &forward, "contrastive");
    compare(FM__OP_CONTRASTIVE_GRAD,
            &(struct fm__call){.n_in = 5,
                               .n_out = 2,
                               .attrs = &attrs,
                               .in = {tensor(40, 100), tensor(40, 100), tensor(40, 2), tensor(40, 0), tensor(40, 0)},
                               .out = {tensor(40, 100), tensor(40, 100)}},
            "contrastive_grad");
    expect_runs(24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions),
        cmocka_unit_test(pools),
        cmocka_unit_test(norms),
        cmocka_unit_test(losses),
    };
    return cmocka_run_group_tests_name("conv", tests, test_kernels_setup, test_kernels_teardown);
}
