// SPDX-License-Identifier: MIT
// device/cpu/pack and linear: packing gives the file's bytes back; every kernel at every level this machine runs gives
// the reference's bytes, for odd sizes, strides, extremes, one and two workers, with
// an unreadable page behind every buffer.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cpuinfo.h"
#include "base/pool.h"
#include "device/cpu/linear.h"
#include "device/cpu/pack.h"
#include "ops/linear_ref.h"
#include "support/leaves.h"
#include "tensor/blocks.h"

static const fm_dtype types[] = {FM_F32,  FM_F16,  FM_BF16, FM_Q4_0, FM_Q4_1, FM_Q5_0,   FM_Q5_1,  FM_Q8_0,
                                 FM_Q2_K, FM_Q3_K, FM_Q4_K, FM_Q5_K, FM_Q6_K, FM_IQ4_NL, FM_IQ4_XS};
enum { N_TYPES = sizeof types / sizeof *types };

static uint64_t seed = 1;
static uint32_t random32(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 32);
}
static float random_unit(void)
{
    return (float)(int32_t)random32() * 0x1p-31f;
}

// --- buffers that end where an unreadable page begins ---

struct guarded {
    uint8_t *data, *map;
    size_t map_bytes;
};

static struct guarded guarded_new(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    struct guarded g = {.map_bytes = body + page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + body, page, PROT_NONE), 0);
    g.data = g.map + body - bytes;
    return g;
}

static void guarded_free(struct guarded *g)
{
    munmap(g->map, g->map_bytes);
}

// --- weights ---

// bytes of the binary16 fields of a block; -1 ends
static const int halves[FM_DTYPE_COUNT][3] = {
    [FM_Q4_0] = {0, -1},    [FM_Q4_1] = {0, 2, -1},   [FM_Q5_0] = {0, -1},   [FM_Q5_1] = {0, 2, -1},
    [FM_Q8_0] = {0, -1},    [FM_Q2_K] = {80, 82, -1}, [FM_Q3_K] = {108, -1}, [FM_Q4_K] = {0, 2, -1},
    [FM_Q5_K] = {0, 2, -1}, [FM_Q6_K] = {208, -1},    [FM_IQ4_NL] = {0, -1}, [FM_IQ4_XS] = {0, -1},
};

enum fill { RANDOM, ZEROS, LOWEST, HIGHEST, HUGE_SCALES, FILLS };

// Random codes with sensible scales, or an extreme: all code bits 0 or 1, scales at binary16's end.
static void fill_weights(fm_dtype dtype, uint8_t *rows, size_t bytes, enum fill fill)
{
    const struct fm_dtype_info *info = fm_dtype_info(dtype);
    for (size_t i = 0; i < bytes; i++)
        rows[i] = fill == RANDOM || fill == HUGE_SCALES ? (uint8_t)random32() : fill == HIGHEST ? 0xff : 0;
    if (dtype == FM_I8) { // codes are all there is
        if (fill == LOWEST) memset(rows, 0x80, bytes);
        return;
    }
    for (size_t at = 0; at < bytes; at += (size_t)info->block_bytes) {
        if (info->block_elements == 1) {
            const float f = fill == ZEROS ? 0 : fill == LOWEST ? -1e-30f : fill == HIGHEST ? 3e4f : random_unit();
            fm__quantise_row(dtype, &f, 1, rows + at);
            continue;
        }
        for (const int *h = halves[dtype]; *h >= 0; h++) {
            const float f = fill == ZEROS ? 0 : fill == HUGE_SCALES ? (random32() & 1 ? 65504 : -65504) : random_unit();
            const uint16_t bits = fm__f32_to_f16(f);
            memcpy(rows + at + *h, &bits, 2);
        }
    }
}

static void packing_gives_the_files_bytes_back(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 256}, {15, 512}, {16, 256}, {17, 768}, {33, 256}};
    for (int t = 0; t < N_TYPES; t++) {
        const fm_dtype dtype = types[t];
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const int64_t O = sizes[i][0], K = sizes[i][1] + (fm_dtype_info(dtype)->block_elements == 1 ? 3 : 0);
            const size_t row = fm_dtype_row_bytes(dtype, K), bytes = row * (size_t)O;
            struct guarded file = guarded_new(bytes), packed = guarded_new(fm__pack_bytes(dtype, O, K));
            struct guarded back = guarded_new(bytes);
            fill_weights(dtype, file.data, bytes, RANDOM);
            memset(packed.data, 0xa5, fm__pack_bytes(dtype, O, K));
            // in two steps, as a loader does
            const int64_t first = O > 16 ? 16 : O;
            fm__pack_rows(dtype, K, 0, first, file.data, packed.data);
            if (O > first) fm__pack_rows(dtype, K, first, O - first, file.data + row * (size_t)first, packed.data);
            fm__unpack_rows(dtype, K, 0, O, packed.data, back.data);
            assert_memory_equal(back.data, file.data, bytes);
            fm__unpack_rows(dtype, K, O - 1, 1, packed.data, back.data);
            assert_memory_equal(back.data, file.data + row * (size_t)(O - 1), row);
            float *want = malloc((size_t)K * 4), *got = malloc((size_t)K * 4);
            fm__dequantise_row(dtype, file.data + row * (size_t)(O - 1), K, want);
            fm__packed_dequantise_row(dtype, K, packed.data, O - 1, got);
            assert_memory_equal(want, got, (size_t)K * 4);
            free(want);
            free(got);
            // as small as the file's 16 rows
            if (O % 16 == 0 && dtype != FM_BF16) assert_int_equal(fm__pack_bytes(dtype, O, K), bytes);
            guarded_free(&file);
            guarded_free(&packed);
            guarded_free(&back);
        }
        assert_int_equal(fm__pack_bytes(dtype, INT64_MAX / 2, 1024), 0);
        assert_int_equal(fm__pack_bytes(dtype, 0, 256), 0);
    }
    assert_int_equal(fm__pack_bytes(FM_Q4_K, 16, 128), 0);
    assert_int_equal(fm__pack_bytes(FM_Q8A, 16, 128), 0);
}

// --- one call ---

struct problem {
    int64_t N, O, K;
    fm_dtype dtype, act;
    enum fill fill;
    int bias, residual, in_place; // in_place: y is the residual
    int wide;                     // rows of x and y lie further apart than they are long
    int turned;                   // W is [K, O]
};

struct operands {
    struct guarded x, w, packed, bias, residual, scale, y;
    size_t x_stride, y_stride;
};

static void fill_x(const struct problem *p, struct operands *o)
{
    float *row = malloc((size_t)p->K * 4);
    for (int64_t n = 0; n < p->N; n++) {
        const float scale = p->fill == HUGE_SCALES ? 1e20f : n % 5 == 3 ? 1e-20f : 1;
        for (int64_t k = 0; k < p->K; k++) row[k] = n % 7 == 6 || k / 32 % 6 == 5 ? 0 : random_unit() * scale;
        if (p->fill == HIGHEST)
            for (int64_t k = 0; k < p->K; k++) row[k] = k & 1 ? 1 : -1;
        fm__quantise_row(p->act, row, p->K, o->x.data + (size_t)n * o->x_stride);
    }
    free(row);
}

static void operands_new(const struct problem *p, struct operands *o)
{
    const int64_t w_rows = p->turned ? p->K : p->O, w_columns = p->turned ? p->O : p->K;
    const size_t x_row = fm_dtype_row_bytes(p->act, p->K), w_row = fm_dtype_row_bytes(p->dtype, w_columns);
    o->x_stride = x_row + (p->wide ? 64 : 0);
    o->y_stride = (size_t)p->O * 4 + (p->wide ? 20 : 0);
    o->x = guarded_new(o->x_stride * (size_t)(p->N - 1) + x_row);
    o->w = guarded_new(w_row * (size_t)w_rows);
    o->packed = guarded_new(fm__pack_bytes(p->dtype, w_rows, w_columns));
    o->bias = guarded_new((size_t)p->O * 4);
    o->scale = guarded_new((size_t)p->O * 4);
    o->residual = guarded_new(o->y_stride * (size_t)(p->N - 1) + (size_t)p->O * 4);
    o->y = guarded_new(o->y_stride * (size_t)(p->N - 1) + (size_t)p->O * 4);
    fill_weights(p->dtype, o->w.data, w_row * (size_t)w_rows, p->fill);
    fm__pack_rows(p->dtype, w_columns, 0, w_rows, o->w.data, o->packed.data);
    fill_x(p, o);
    for (int64_t i = 0; i < p->O; i++) ((float *)o->bias.data)[i] = random_unit();
    for (int64_t i = 0; i < p->O; i++) ((float *)o->scale.data)[i] = random_unit();
    for (int64_t n = 0; n < p->N; n++)
        for (int64_t i = 0; i < p->O; i++)
            ((float *)(o->residual.data + (size_t)n * o->y_stride))[i] = random_unit() * 10;
}

static void operands_free(struct operands *o)
{
    guarded_free(&o->x);
    guarded_free(&o->w);
    guarded_free(&o->packed);
    guarded_free(&o->bias);
    guarded_free(&o->residual);
    guarded_free(&o->scale);
    guarded_free(&o->y);
}

static struct fm_tensor matrix(fm_dtype dtype, int64_t rows, int64_t columns, size_t stride, void *data)
{
    struct fm_tensor t = {.dtype = dtype, .rank = 2, .dims = {rows, columns}, .data = data};
    fm_tensor_set_contiguous(&t);
    t.strides[0] = (int64_t)stride;
    return t;
}

struct run {
    fm__kernel_fn *kernel;
    struct fm__call *call;
    struct fm__pool *pool;
};
enum { MAX_WORKERS = 3 };
static struct guarded scratch[MAX_WORKERS]; // made once: a call may find anything in it
static struct fm__pool *pools[MAX_WORKERS];

static void enter(void *context, int index, int count)
{
    struct run *run = context;
    struct fm__worker worker = {.index = index, .count = count, .pool = run->pool, .scratch = scratch[index].data};
    run->kernel(run->call, &worker);
}

static void run_workers(const struct fm__linear_kernel *k, struct fm__call *call, int count)
{
    struct fm_error err;
    struct guarded workspace = {0};
    for (int i = 0; i < MAX_WORKERS; i++) {
        if (scratch[i].data) continue;
        scratch[i] = guarded_new(FM__WORKER_SCRATCH);
        memset(scratch[i].data, 0x7f, FM__WORKER_SCRATCH);
        assert_ok(fm__pool_new(i + 1, &pools[i], &err), err);
    }
    if (k->workspace) {
        call->workspace_bytes = fm__align_up(k->workspace(call, count), 64);
        workspace = guarded_new(call->workspace_bytes);
        memset(workspace.data, 0x7f, call->workspace_bytes);
        call->workspace = workspace.data;
    }
    fm__pool_run(pools[count - 1], enter, &(struct run){k->run, call, pools[count - 1]});
    if (k->workspace) guarded_free(&workspace);
}

// y as bytes [N][O], from the kernel or (NULL) the reference
static float *product(const struct problem *p, struct operands *o, const struct fm__linear_kernel *kernel, int layout,
                      int count)
{
    atomic_int_fast64_t next = 0;
    struct fm__call call = {.n_in = p->dtype == FM_I8 ? 5 : 4, .n_out = 1, .rows = p->N, .next = &next};
    const size_t y_bytes = o->y_stride * (size_t)(p->N - 1) + (size_t)p->O * 4;
    if (p->in_place)
        memcpy(o->y.data, o->residual.data, y_bytes);
    else
        memset(o->y.data, 0x7f, y_bytes);
    call.in[0] = matrix(p->act, p->N, p->K, o->x_stride, o->x.data);
    const int64_t w_columns = p->turned ? p->O : p->K;
    call.attrs = &(const union fm__attrs){.linear = {.transpose_w = p->turned}};
    call.in[1] = matrix(p->dtype, p->turned ? p->K : p->O, w_columns, fm_dtype_row_bytes(p->dtype, w_columns),
                        layout == FM_LAYOUT_ROWS ? o->w.data : o->packed.data);
    call.in[1].layout = layout;
    call.in[2] = (struct fm_tensor){.dtype = FM_DTYPE_COUNT};
    call.in[3] = call.in[2];
    if (p->bias) call.in[2] = (struct fm_tensor){.dtype = FM_F32, .rank = 1, .dims = {p->O}, .data = o->bias.data};
    if (p->residual || p->in_place)
        call.in[3] = matrix(FM_F32, p->N, p->O, o->y_stride, p->in_place ? o->y.data : o->residual.data);
    call.in[4] = (struct fm_tensor){.dtype = FM_F32, .rank = 1, .dims = {p->O}, .data = o->scale.data};
    call.out[0] = matrix(FM_F32, p->N, p->O, o->y_stride, o->y.data);
    if (kernel)
        run_workers(kernel, &call, count);
    else
        fm__ref_linear(&call);
    float *y = malloc((size_t)(p->N * p->O) * 4);
    for (int64_t n = 0; n < p->N; n++) memcpy(y + n * p->O, o->y.data + (size_t)n * o->y_stride, (size_t)p->O * 4);
    return y;
}

static const char *describe(const struct problem *p, const char *kernel, int layout)
{
    static char text[200];
    snprintf(text, sizeof text, "%s %s %s%s N=%d O=%d K=%d fill=%d bias=%d residual=%d in_place=%d wide=%d", kernel,
             fm_dtype_info(p->dtype)->name, layout ? "packed" : "rows", p->turned ? " turned" : "", (int)p->N,
             (int)p->O, (int)p->K, p->fill, p->bias, p->residual, p->in_place, p->wide);
    return text;
}

static void compare(const struct problem *p, struct operands *o, const float *want, const struct fm__linear_kernel *k,
                    int layout, int count)
{
    float *got = product(p, o, k, layout, count);
    for (int64_t i = 0; i < p->N * p->O; i++)
        if (memcmp(got + i, want + i, 4) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: y[%d, %d] is %a, want %a", describe(p, k->name, layout), (int)(i / p->O), (int)(i % p->O),
                     got[i], want[i]);
    free(got);
}

// Every kernel this machine runs, both layouts.
static int check(const struct problem *p)
{
    struct operands o;
    int n = 0;
    operands_new(p, &o);
    float *want = product(p, &o, NULL, FM_LAYOUT_ROWS, 1);
    fm__kernel_fn *last = NULL;
    for (int level = 0; level < FM__CPU_LEVELS; level++) {
        if (!fm__cpu_has(level)) continue;
        // as for this many rows, and as for a large batch: thresholds may not hide a kernel
        for (int large = 0; large < 2; large++) {
            const struct fm__linear_kernel k = fm__linear_kernel(p->dtype, p->act, level, large ? 512 : p->N);
            if (!k.run || k.run == last) continue;
            last = k.run;
            compare(p, &o, want, &k, FM__LAYOUT_PACK16, 1);
            compare(p, &o, want, &k, FM_LAYOUT_ROWS, 2);
            if (p->turned) compare(p, &o, want, &k, FM__LAYOUT_PACK16, 3);
            n++;
        }
    }
#if defined(__x86_64__) // chosen only where it is faster
    const struct fm__linear_kernel dot = {.name = "linear_bf16_bf16", .run = fm__linear_bf16_bf16};
    if (p->act == FM_BF16 && fm__cpu_has(FM__CPU_BF16)) compare(p, &o, want, &dot, FM__LAYOUT_PACK16, 2);
#endif
    free(want);
    operands_free(&o);
    return n;
}

static const int64_t batches[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 33, 49, 63}; // from 48 on AMX
static const int64_t outputs[] = {1, 15, 16, 17, 33, 48};

static void sizes(fm_dtype act)
{
    for (int t = 0; t < (act == FM_Q8R ? 1 : N_TYPES); t++) {
        const fm_dtype dtype = act == FM_Q8R ? FM_I8 : types[t];
        const int block = act == FM_Q8R ? 32 : fm_dtype_info(dtype)->block_elements;
        if (act == FM_Q8A && block < 32) continue;
        int n_kernels = 0;
        for (size_t n = 0; n < sizeof batches / sizeof *batches; n++)
            for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
                const int variant = (int)(n + i);
                const int64_t K = block * (1 + variant % (block == 256 ? 2 : 5)) + (block == 1 ? 37 * variant : 0);
                n_kernels = check(&(struct problem){.N = batches[n],
                                                    .O = outputs[i],
                                                    .K = K,
                                                    .dtype = dtype,
                                                    .act = act,
                                                    .fill = variant % 4 ? RANDOM : (enum fill)(variant / 4 % FILLS),
                                                    .bias = variant & 1,
                                                    .residual = variant >> 1 & 1,
                                                    .in_place = variant % 5 == 4,
                                                    .wide = variant % 3 == 1});
            }
        if (!n_kernels)
            printf("skipped: no %s kernel for %s on this machine\n", fm_dtype_info(act)->name,
                   fm_dtype_info(dtype)->name);
    }
}

static void integer_products(void **state)
{
    (void)state;
    sizes(FM_Q8A);
}

static void float_products(void **state)
{
    (void)state;
    sizes(FM_F32);
}

static void bf16_products(void **state)
{
    (void)state;
    sizes(FM_BF16);
}

// y = x W: W's columns are whole blocks, its rows any number; several pieces of 256 and items of more than 288 rows.
static void turned_products(fm_dtype act)
{
    static const int64_t lengths[] = {1, 15, 16, 17, 33, 48, 289, 530};
    for (int t = 0; t < N_TYPES; t++) {
        const int block = fm_dtype_info(types[t])->block_elements;
        for (size_t n = 0; n < sizeof batches / sizeof *batches; n++)
            for (size_t i = n % 2; i < sizeof lengths / sizeof *lengths; i += 2) {
                const int variant = (int)(n + i);
                check(&(struct problem){.N = batches[n],
                                        .O = block * (1 + variant % 3) + (block == 1 ? 37 * variant : 0),
                                        .K = lengths[i],
                                        .dtype = types[t],
                                        .act = act,
                                        .fill = variant % 4 ? RANDOM : (enum fill)(variant / 4 % FILLS),
                                        .bias = variant & 1,
                                        .residual = variant >> 1 & 1,
                                        .in_place = variant % 5 == 4,
                                        .wide = variant % 3 == 1,
                                        .turned = 1});
            }
        check(&(struct problem){
            .N = 301, .O = block == 1 ? 47 : block, .K = 20, .dtype = types[t], .act = act, .turned = 1});
    }
}

static void transposed_float_products(void **state)
{
    (void)state;
    turned_products(FM_F32);
}

// --- gradients of weights ---

struct gradient {
    int64_t N, O, K;
    fm_dtype act;
    size_t x_stride, dy_stride, dw_stride;
    struct guarded x, dy, dw;
};

static void fill_rows(const struct gradient *g, struct guarded *to, int64_t n_columns, size_t stride)
{
    float *row = malloc((size_t)n_columns * 4);
    for (int64_t n = 0; n < g->N; n++) {
        for (int64_t i = 0; i < n_columns; i++) row[i] = n % 7 == 6 ? 0 : random_unit() * (n % 5 == 3 ? 1e-20f : 1);
        fm__quantise_row(g->act, row, n_columns, to->data + (size_t)n * stride);
    }
    free(row);
}

static void weight_gradient(struct gradient *g, const struct fm__linear_kernel *kernel, int count)
{
    atomic_int_fast64_t next = 0;
    struct fm__call call = {.n_in = 2, .n_out = 1, .rows = g->N, .next = &next};
    call.in[0] = matrix(g->act, g->N, g->K, g->x_stride, g->x.data);
    call.in[1] = matrix(g->act, g->N, g->O, g->dy_stride, g->dy.data);
    call.out[0] = matrix(FM_F32, g->O, g->K, g->dw_stride, g->dw.data);
    memset(g->dw.data, 0x7f, g->dw_stride * (size_t)(g->O - 1) + (size_t)g->K * 4);
    if (kernel)
        run_workers(kernel, &call, count);
    else
        fm__ref_linear_dw(&call);
}

static void check_gradient(int64_t N, int64_t O, int64_t K, fm_dtype act, int wide)
{
    const size_t x_row = fm_dtype_row_bytes(act, K), dy_row = fm_dtype_row_bytes(act, O), dw_row = (size_t)K * 4;
    struct gradient g = {N,   O,   K,  act, x_row + (wide ? 20 : 0), dy_row + (wide ? 12 : 0), dw_row + (wide ? 8 : 0),
                         {0}, {0}, {0}};
    g.x = guarded_new(g.x_stride * (size_t)(N - 1) + x_row);
    g.dy = guarded_new(g.dy_stride * (size_t)(N - 1) + dy_row);
    g.dw = guarded_new(g.dw_stride * (size_t)(O - 1) + dw_row);
    fill_rows(&g, &g.x, K, g.x_stride);
    fill_rows(&g, &g.dy, O, g.dy_stride);
    const size_t bytes = g.dw_stride * (size_t)(O - 1) + dw_row;
    uint8_t *want = malloc(bytes);
    weight_gradient(&g, NULL, 1);
    memcpy(want, g.dw.data, bytes);
    for (int level = 0; level < FM__CPU_LEVELS; level++) {
        const struct fm__linear_kernel k = fm__linear_dw_kernel(act, level);
        if (!fm__cpu_has(level) || !k.run) continue;
        for (int count = 1; count <= 3; count++) {
            weight_gradient(&g, &k, count);
            if (memcmp(g.dw.data, want, bytes))
                fail_msg("%s N=%d O=%d K=%d wide=%d: other bytes with %d workers", k.name, (int)N, (int)O, (int)K, wide,
                         count);
        }
    }
    free(want);
    guarded_free(&g.x);
    guarded_free(&g.dy);
    guarded_free(&g.dw);
}

static void weight_gradients(fm_dtype act)
{
    static const int64_t rows[] = {1, 7, 31, 32, 33, 255, 256, 257, 530}, sizes[] = {1, 9, 16, 35, 48};
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            check_gradient(rows[n], sizes[i], sizes[(i + n) % 5], act, (int)(i + n) % 2);
    check_gradient(40, 301, 270, act, 1); // items of more than 288 rows and 256 outputs, workers with rows of their own
    check_gradient(300, 150, 70, act, 0);
}

static void transposed_bf16_products(void **state)
{
    (void)state;
    turned_products(FM_BF16);
}

static void bf16_weight_gradients(void **state)
{
    (void)state;
    weight_gradients(FM_BF16);
}

static void float_weight_gradients(void **state)
{
    (void)state;
    weight_gradients(FM_F32);
}

static void int8_products(void **state)
{
    (void)state;
    sizes(FM_Q8R);
    for (int fill = 0; fill < FILLS; fill++) {
        check(&(struct problem){.N = 45, .O = 33, .K = 160, .dtype = FM_I8, .act = FM_Q8R, .fill = (enum fill)fill});
        check(&(struct problem){.N = 3, .O = 7, .K = 1 << 17, .dtype = FM_I8, .act = FM_Q8R, .fill = (enum fill)fill});
    }
}

// Products around the smallest normal number: what is flushed, and when.
static void bf16_subnormals(void **state)
{
    (void)state;
    struct problem p = {.N = 35, .O = 40, .K = 200, .dtype = FM_BF16, .act = FM_BF16};
    struct operands o;
    operands_new(&p, &o);
    for (int64_t i = 0; i < p.N * p.K; i++) // 2^-67 … 2^-60, now and then a subnormal
        ((uint16_t *)o.x.data)[i] = (uint16_t)((random32() & 0x807f) | (random32() % 9 ? 60 + random32() % 8 : 0) << 7);
    for (int64_t i = 0; i < p.O * p.K; i++)
        ((uint16_t *)o.w.data)[i] = (uint16_t)((random32() & 0x807f) | (random32() % 9 ? 60 + random32() % 8 : 0) << 7);
    fm__pack_rows(FM_BF16, p.K, 0, p.O, o.w.data, o.packed.data);
    float *want = product(&p, &o, NULL, FM_LAYOUT_ROWS, 1);
    int n_flushed = 0;
    for (int64_t i = 0; i < p.N * p.O; i++) n_flushed += want[i] == 0;
    assert_true(n_flushed < p.N * p.O);
    for (int level = 0; level < FM__CPU_LEVELS; level++) {
        const struct fm__linear_kernel k = fm__linear_kernel(FM_BF16, FM_BF16, level, p.N);
        if (fm__cpu_has(level) && k.run) compare(&p, &o, want, &k, FM__LAYOUT_PACK16, 2);
    }
    free(want);
    operands_free(&o);
}

// Subnormal weights that round up to the smallest normal bf16 count, others do not.
static void bf16_of_subnormals(void **state)
{
    (void)state;
    for (int turned = 0; turned < 2; turned++) {
        struct problem p = {.N = 35, .O = 40, .K = 200, .dtype = FM_F32, .act = FM_BF16, .turned = turned};
        struct operands o;
        operands_new(&p, &o);
        const int64_t w_rows = turned ? p.K : p.O, w_columns = turned ? p.O : p.K;
        for (int64_t i = 0; i < p.N * p.K; i++)
            ((uint16_t *)o.x.data)[i] = (uint16_t)((random32() & 0x807f) | (240 + random32() % 4) << 7);
        for (int64_t i = 0; i < w_rows * w_columns; i++)
            ((uint32_t *)o.w.data)[i] = 0x7f0000 | (random32() & 0x8000ffff);
        fm__pack_rows(FM_F32, w_columns, 0, w_rows, o.w.data, o.packed.data);
        float *want = product(&p, &o, NULL, FM_LAYOUT_ROWS, 1);
        for (int level = 0; level < FM__CPU_LEVELS; level++) {
            const struct fm__linear_kernel k = fm__linear_kernel(FM_F32, FM_BF16, level, p.N);
            if (!fm__cpu_has(level) || !k.run) continue;
            compare(&p, &o, want, &k, FM_LAYOUT_ROWS, 2);
            compare(&p, &o, want, &k, FM__LAYOUT_PACK16, 1);
        }
        float most = 0;
        for (int64_t i = 0; i < p.N * p.O; i++) most = fmaxf(most, fabsf(want[i]));
        assert_true(most > 1e-4f);
        free(want);
        operands_free(&o);
    }
}

static void extremes(void **state)
{
    (void)state;
    for (int t = 0; t < N_TYPES; t++)
        for (int fill = 0; fill < FILLS; fill++)
            for (int n = 0; n < 3; n++) {
                struct problem p = {.N = (int[]){1, 12, 56}[n],
                                    .O = 33,
                                    .K = 512,
                                    .dtype = types[t],
                                    .act = FM_F32,
                                    .fill = (enum fill)fill};
                check(&p);
                p.act = FM_BF16;
                check(&p);
                p.act = FM_Q8A;
                if (fm_dtype_info(types[t])->block_elements >= 32) check(&p);
            }
}

// columns in several pieces, and items of many rows
static void large(void **state)
{
    (void)state;
    static const fm_dtype some[] = {FM_Q4_1, FM_Q6_K, FM_Q8_0, FM_F16};
    for (size_t t = 0; t < sizeof some / sizeof *some; t++) {
        const fm_dtype act = some[t] == FM_F16 ? FM_F32 : FM_Q8A;
        check(&(struct problem){.N = 13, .O = 20, .K = 3328, .dtype = some[t], .act = act, .bias = 1});
        check(&(struct problem){.N = 531, .O = 17, .K = 256, .dtype = some[t], .act = act, .in_place = 1});
        check(&(struct problem){.N = 2, .O = 16, .K = 40960, .dtype = some[t], .act = act});
    }
}

static void row_quantisers_agree(void **state)
{
    (void)state;
    for (int64_t K = 32; K <= 352; K += 32) {
        const size_t bytes = fm_dtype_row_bytes(FM_Q8R, K);
        struct guarded x = guarded_new((size_t)K * 4), want = guarded_new(bytes), got = guarded_new(bytes);
        for (int round = 0; round < 20; round++) {
            float *v = (float *)x.data;
            for (int64_t i = 0; i < K; i++) {
                v[i] = random_unit() * (round == 1 ? 1e38f : round == 2 ? 1e-30f : round == 3 ? 1e-44f : 1);
                if (round == 4) v[i] = 0;
                if (round == 5) v[i] = (float)((int)(random32() % 255) - 127) * 0.5f; // many ties
            }
            fm__q8r_quantise_row(v, K, want.data);
            for (int level = 0; level < FM__CPU_LEVELS; level++) {
                if (!fm__cpu_has(level)) continue;
                memset(got.data, 0x55, bytes);
                fm__q8r_quantiser(level)(v, K, got.data);
                assert_memory_equal(got.data, want.data, bytes);
            }
            // and back: off by half a step at most, beside the product's own rounding
            float back[352];
            fm__q8r_dequantise_row(want.data, K, back);
            for (int64_t i = 0; i < K; i++)
                if (round != 3) assert_true(fabsf(back[i] - v[i]) <= fm__q8r_d(want.data, K) * (0.5f + 127 * 0x1p-22f));
        }
        guarded_free(&x);
        guarded_free(&want);
        guarded_free(&got);
    }
}

// --- through the device: the graph casts to bf16 itself, the plan casts to q8r for weights of int8 ---

enum { GRAPH_N = 40, GRAPH_K = 96, GRAPH_O = 33 };

static struct fm__graph *two_products(void)
{
    struct fm__graph *g = fm__graph_new();
    const int64_t dims[] = {GRAPH_O, GRAPH_K}, o = GRAPH_O;
    const union fm__attrs bf16 = {.cast = {.dtype = FM_BF16}};
    const fm__val x = fm__graph_leaf(g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, GRAPH_K});
    const fm__val w = fm__graph_leaf(g, FM__WEIGHT, "w", FM_F32, 2, dims);
    const fm__val codes = fm__graph_leaf(g, FM__WEIGHT, "codes", FM_I8, 2, dims);
    const fm__val scale = fm__graph_leaf(g, FM__WEIGHT, "scale", FM_F32, 1, &o);
    const fm__val cast = fm__graph_add(g, FM__OP_CAST, 1, &x, &bf16);
    const fm__val a = fm__graph_add(g, FM__OP_LINEAR, 2, (fm__val[]){cast, w}, NULL);
    const fm__val b = fm__graph_add(g, FM__OP_LINEAR, 5, (fm__val[]){x, codes, FM__NONE, FM__NONE, scale}, NULL);
    fm__graph_output(g, a, "a");
    fm__graph_output(g, b, "b");
    return g;
}

static void run_graph(const char *device, const struct fm_device_opts *opts, const float *x, const int8_t *codes,
                      float *y)
{
    struct fm_error err;
    struct test_leaves leaves;
    test_leaves_init(&leaves, device, opts);
    struct fm__graph *g = two_products();
    test_leaves_add(&leaves, "codes", FM_I8, 2, (int64_t[]){GRAPH_O, GRAPH_K}, codes);
    test_leaves_fill(&leaves, g, 0.5f);
    const struct fm__plan_opts plan_opts = {
        .device = leaves.device, .rows = GRAPH_N, .bind = test_leaves_bind, .bind_context = &leaves};
    struct fm__plan *plan;
    assert_ok(fm__plan_new(g, &plan_opts, &plan, &err), err);
    const void *inputs[] = {x};
    assert_ok(fm__plan_run(plan, GRAPH_N, inputs, &err), err);
    for (int i = 0; i < 2; i++)
        memcpy(y + i * GRAPH_N * GRAPH_O, fm__plan_output(plan, i), sizeof(float) * GRAPH_N * GRAPH_O);
    fm__plan_free(plan);
    fm__graph_free(g);
    test_leaves_deinit(&leaves);
}

static void graphs_run_both(void **state)
{
    (void)state;
    static float x[GRAPH_N * GRAPH_K], want[2 * GRAPH_N * GRAPH_O], got[2 * GRAPH_N * GRAPH_O];
    static int8_t codes[GRAPH_O * GRAPH_K];
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = random_unit();
    for (size_t i = 0; i < sizeof codes; i++) codes[i] = (int8_t)random32();
    run_graph("cpu", NULL, x, codes, want); // level ref
    double sum = 0;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) sum += fabs(want[i]);
    assert_true(sum > 1);
    for (int level = 0; level < FM__CPU_LEVELS; level++) {
        if (!fm__cpu_has(level)) continue;
        run_graph("cpu", &(struct fm_device_opts){.threads = 2, .level = fm__cpu_level_name(level)}, x, codes, got);
        assert_memory_equal(got, want, sizeof want);
    }
}

static void quantisers_agree(void **state)
{
    (void)state;
    for (int64_t K = 32; K <= 352; K += 32) {
        struct guarded x = guarded_new((size_t)K * 4), want = guarded_new(fm__q8a_row_bytes(K)),
                       got = guarded_new(fm__q8a_row_bytes(K));
        for (int round = 0; round < 20; round++) {
            float *v = (float *)x.data;
            for (int64_t i = 0; i < K; i++) {
                v[i] = random_unit() * (round == 1 ? 1e38f : round == 2 ? 1e-30f : round == 3 ? 1e-44f : 1);
                if (round == 4) v[i] = 0;
                if (round == 5) v[i] = (float)(int)(random32() % 255 - 127) * 0.5f; // many ties
            }
            fm__q8a_quantise_row(v, K, want.data);
            for (int level = 0; level < FM__CPU_LEVELS; level++) {
                if (!fm__cpu_has(level)) continue;
                memset(got.data, 0x55, fm__q8a_row_bytes(K));
                fm__q8a_quantiser(level)(v, K, got.data);
                assert_memory_equal(got.data, want.data, fm__q8a_row_bytes(K));
            }
        }
        guarded_free(&x);
        guarded_free(&want);
        guarded_free(&got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_gives_the_files_bytes_back),
        cmocka_unit_test(quantisers_agree),
        cmocka_unit_test(row_quantisers_agree),
        cmocka_unit_test(bf16_products),
        cmocka_unit_test(bf16_subnormals),
        cmocka_unit_test(bf16_of_subnormals),
        cmocka_unit_test(int8_products),
        cmocka_unit_test(graphs_run_both),
        cmocka_unit_test(integer_products),
        cmocka_unit_test(float_products),
        cmocka_unit_test(transposed_float_products),
        cmocka_unit_test(float_weight_gradients),
        cmocka_unit_test(transposed_bf16_products),
        cmocka_unit_test(bf16_weight_gradients),
        cmocka_unit_test(extremes),
        cmocka_unit_test(large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
