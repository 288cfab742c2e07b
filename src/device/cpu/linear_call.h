// SPDX-License-Identifier: MIT
// What all linear kernels share: the call's operands read once, pieces of weights in packed order, and the last step.
#ifndef FM_DEVICE_CPU_LINEAR_CALL_H
#define FM_DEVICE_CPU_LINEAR_CALL_H

#include <stdbool.h>
#include <string.h>

#include "device/cpu/pack.h"
#include "device/cpu/worker.h"

struct linear {
    int64_t N, O, K; // rows and outputs of y, length of a sum
    bool turned;     // outputs are W's columns, and sums run over its rows
    bool x_turned;   // rows of the product are x's columns; x and W have the same type. Sums in slabs (ops/slabs.h)
    const uint8_t *x, *w, *residual; // residual NULL: none
    const float *bias;               // NULL: none
    const float *scale;              // of I8 weights, by output
    uint8_t *y;
    size_t x_stride, w_stride, residual_stride, y_stride; // bytes a row
    fm_dtype dtype;                                       // of w
    int packed;
    size_t group_bytes; // of 16 packed rows
    int64_t n_panels;   // groups of 16 outputs
};

static inline void linear_read(const struct fm__call *c, struct linear *l)
{
    const struct fm_tensor *x = &c->in[0], *w = &c->in[1], *y = &c->out[0];
    const struct fm_tensor *bias = c->n_in > 2 ? &c->in[2] : NULL, *residual = c->n_in > 3 ? &c->in[3] : NULL;
    memset(l, 0, sizeof *l);
    l->turned = c->attrs && c->attrs->linear.transpose_w;
    l->N = y->dims[0];
    l->O = w->dims[l->turned];
    l->K = w->dims[!l->turned];
    l->x = x->data;
    l->w = w->data;
    l->y = y->data;
    l->x_stride = (size_t)x->strides[0];
    l->w_stride = (size_t)w->strides[0];
    l->y_stride = (size_t)y->strides[0];
    if (bias) l->bias = bias->data;
    if (c->n_in > 4) l->scale = c->in[4].data;
    if (residual && residual->data) {
        l->residual = residual->data;
        l->residual_stride = (size_t)residual->strides[0];
    }
    l->dtype = w->dtype;
    l->packed = w->layout == FM__LAYOUT_PACK16;
    l->group_bytes = fm__pack_group_bytes(w->dtype, w->dims[1]);
    l->n_panels = (l->O + 15) / 16;
}

// dW = dy^T x as a product of dy's columns with x's: rows of W are its rows.
static inline void linear_dw_read(const struct fm__call *c, struct linear *l)
{
    const struct fm_tensor *x = &c->in[0], *dy = &c->in[1], *dw = &c->out[0];
    const bool keeps = c->n_in > 2 && fm__keeps(c, 3); // linear_dw_add: what stood there is a residual
    *l = (struct linear){
        .residual = keeps ? dw->data : NULL,
        .residual_stride = (size_t)dw->strides[0],
        .N = dw->dims[0],
        .O = dw->dims[1],
        .K = x->dims[0],
        .turned = true,
        .x_turned = true,
        .x = dy->data,
        .w = x->data,
        .y = dw->data,
        .x_stride = (size_t)dy->strides[0],
        .w_stride = (size_t)x->strides[0],
        .y_stride = (size_t)dw->strides[0],
        .dtype = x->dtype,
        .n_panels = (dw->dims[1] + 15) / 16,
    };
}

// The worker's share of the rows, [first, end): multiples of 32 but for the last.
struct linear_share {
    int64_t first, end;
};
static inline struct linear_share linear_share(const struct linear *l, const struct fm__worker *worker)
{
    const int64_t n = ((l->N + worker->count - 1) / worker->count + 31) / 32 * 32, first = n * worker->index;
    return (struct linear_share){first, first + n < l->N ? first + n : l->N};
}

// The way of a worker through a product, in items of a few panels times some rows. Many rows are shared among workers
// by rows (own): what a worker wrote in one step is in its own cache in the next. Fewer than LINEAR_OWN_ROWS a worker
// are shared by panels, each item by who comes first, or each panel would be unpacked too often.
enum { LINEAR_OWN_ROWS = 64 };
struct linear_walk {
    const struct fm__call *call;
    bool own;
    struct linear_share rows;
    int64_t next, n_wide, wide, item_rows; // an own item's number; items side by side; panels and rows of an item
    int64_t n_panels;                      // of all
};
struct linear_item {
    int64_t p, row, n_rows;
    int n_panels;
};

// n things in equal parts, multiples of `unit`, none larger than `most` (a multiple too).
static inline int64_t linear_part(int64_t n, int64_t most, int64_t unit)
{
    const int64_t n_parts = (n + most - 1) / most, part = n_parts ? (n + n_parts - 1) / n_parts : most;
    return (part + unit - 1) / unit * unit;
}

static inline struct linear_walk linear_walk(const struct linear *l, const struct fm__call *call,
                                             const struct fm__worker *worker, int64_t wide, int64_t item_rows)
{
    const bool own = l->N >= LINEAR_OWN_ROWS * worker->count;
    const struct linear_share rows = own ? linear_share(l, worker) : (struct linear_share){0, l->N};
    return (struct linear_walk){.call = call,
                                .own = own,
                                .rows = rows,
                                .n_wide = (l->n_panels + wide - 1) / wide,
                                .wide = wide,
                                .n_panels = l->n_panels,
                                .item_rows = linear_part(rows.end - rows.first, item_rows, 32)};
}

// Panels of an item: a multiple of `few`, up to `most`. Where workers share panels, narrow items make even shares.
// Turned blocks must stay whole: 16 panels.
static inline int64_t linear_wide(const struct linear *l, const struct fm__worker *worker, int64_t most, int64_t few)
{
    if (l->turned && (l->packed || fm_dtype_info(l->dtype)->block_elements > 1)) return most;
    return l->N >= LINEAR_OWN_ROWS * worker->count ? linear_part(l->n_panels, most / few * few, few) : few;
}

// False when nothing is left.
static inline bool linear_next(struct linear_walk *w, struct linear_item *item)
{
    const int64_t i = w->own ? w->next++ : fm__take(w->call, 1);
    item->p = i % w->n_wide * w->wide;
    item->n_panels = (int)(w->n_panels - item->p < w->wide ? w->n_panels - item->p : w->wide);
    item->row = w->rows.first + i / w->n_wide * w->item_rows;
    item->n_rows = w->rows.end - item->row < w->item_rows ? w->rows.end - item->row : w->item_rows;
    return item->n_rows > 0;
}

// Register tiles exist for 1, 2, 4 and `most` rows: which (3: most) takes the next of `left` rows, and its rows.
static inline int linear_tile_of(int64_t left, int64_t most, int64_t *step)
{
    const int size = left >= most ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
    *step = size == 3 ? most : 1 << size;
    return size;
}

// A run of bytes asked for into L2.
static inline void linear_expect(const uint8_t *at, int64_t bytes)
{
    for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + b, 0, 2);
}

// Row i of the part of W, in rows order, that n terms from term k on of n_panels panels need. Asked for one by one
// while a part before is computed: rows are pages apart, which no prefetcher of the machine's own bridges.
static inline void linear_expect_w(const struct linear *l, int64_t p, int n_panels, int64_t k, int64_t n, int64_t i)
{
    const int64_t width = 16 * n_panels, row = l->turned ? k + i : 16 * p + i;
    const int64_t size = (int64_t)fm_dtype_info(l->dtype)->block_bytes;
    if (l->packed || fm_dtype_info(l->dtype)->block_elements > 1 || k >= l->K) return;
    if (i >= (l->turned ? n : width) || row >= (l->turned ? l->K : l->O)) return;
    linear_expect(l->w + (size_t)row * l->w_stride + (size_t)((l->turned ? 16 * p : k) * size),
                  (l->turned ? width : n) * size);
}

// The lines of y that rows of n_panels panels go to, asked for while there is something to compute.
static inline void linear_expect_y(const struct linear *l, int64_t p, int n_panels, int64_t row, int64_t n_rows)
{
    for (int64_t r = row; r < row + n_rows; r++)
        for (int i = 0; i < n_panels; i++) __builtin_prefetch(l->y + (size_t)r * l->y_stride + 64 * (p + i), 1);
}

// Columns [k, k + n) of W's rows 16 p … 16 p + 15, packed; k and n are whole packed blocks but for a row's end. A
// matrix in rows order is packed into `space` on the way.
static inline const uint8_t *linear_columns(const struct linear *l, int64_t p, int64_t k, int64_t n, uint8_t *space)
{
    const int64_t block = k / fm__pack_block_elements(l->dtype);
    if (l->packed) return l->w + (size_t)p * l->group_bytes + (size_t)block * fm__pack_block_bytes(l->dtype);
    const size_t at = (size_t)block * (fm__pack_block_bytes(l->dtype) / 16);
    const int64_t left = (l->turned ? l->K : l->O) - 16 * p;
    const int n_rows = left < 16 ? (int)left : 16;
    fm__pack_columns(l->dtype, l->w + (size_t)(16 * p) * l->w_stride + at, l->w_stride, n_rows, n, space);
    return space;
}

// 16 sums, added to in one go: whole registers, whatever the level.
static inline void add_16(float *sum, const float *p, int n)
{
    if (n == 16) {
        float more[16];
        memcpy(more, p, sizeof more);
        for (int i = 0; i < 16; i++) sum[i] = sum[i] + more[i];
    } else {
        for (int i = 0; i < n; i++) sum[i] = sum[i] + p[i];
    }
}

// Operands of a few rows and panels whose sums are in registers: acc += n columns (or quads of them) of rows x, panels
// w.
struct linear_tile {
    const uint8_t *w, *x;
    size_t w_stride, x_stride; // bytes from panel to panel, from row to row
    int64_t n;
    void *acc;
};

// A table `tiles` of them for 1, 2, 4 and F32_ROWS rows by 1 … F32_PANELS panels, made of an INLINE function of these.
typedef void sum_tile_fn(const struct linear_tile *t);
#define DEFINE_SUM_TILE(of, label, n_rows, n_panels)                   \
    static void of##_##label##_##n_panels(const struct linear_tile *t) \
    {                                                                  \
        of(n_rows, n_panels, t);                                       \
    }
#define DEFINE_SUM_TILES(of, n_panels)  \
    DEFINE_SUM_TILE(of, 1, 1, n_panels) \
    DEFINE_SUM_TILE(of, 2, 2, n_panels) \
    DEFINE_SUM_TILE(of, 4, 4, n_panels) \
    DEFINE_SUM_TILE(of, all, F32_ROWS, n_panels)
#define SUM_TILES(of, n_panels)                                                      \
    {                                                                                \
        of##_1_##n_panels, of##_2_##n_panels, of##_4_##n_panels, of##_all_##n_panels \
    }
#if F32_PANELS == 3
#define SUM_TILES_OF(of)    \
    DEFINE_SUM_TILES(of, 1) \
    DEFINE_SUM_TILES(of, 2) \
    DEFINE_SUM_TILES(of, 3) \
    static sum_tile_fn *const tiles[3][4] = {SUM_TILES(of, 1), SUM_TILES(of, 2), SUM_TILES(of, 3)};
#else
#define SUM_TILES_OF(of)    \
    DEFINE_SUM_TILES(of, 1) \
    static sum_tile_fn *const tiles[1][4] = {SUM_TILES(of, 1)};
#endif

// What a kernel hands over: sums of rows of a panel, `stride` floats a row.
struct linear_sums {
    const float *acc, *low; // low NULL: none
    int64_t stride;
};

// Rows [row, row + n_rows) of panel p: y = acc (+ low) (+ bias) (+ residual).
static inline void linear_finish(const struct linear *l, int64_t p, int64_t row, int64_t n_rows,
                                 const struct linear_sums *sums)
{
    const int64_t o = 16 * p;
    const int n = l->O - o < 16 ? (int)(l->O - o) : 16;
    for (int64_t r = 0; r < n_rows; r++) {
        float *y = (float *)(l->y + (size_t)(row + r) * l->y_stride) + o;
        float sum[16];
        memcpy(sum, sums->acc + r * sums->stride, sizeof sum);
        if (sums->low) add_16(sum, sums->low + r * sums->stride, 16);
        if (l->bias) add_16(sum, l->bias + o, n);
        if (l->residual) add_16(sum, (const float *)(l->residual + (size_t)(row + r) * l->residual_stride) + o, n);
        if (n == 16)
            memcpy(y, sum, sizeof sum);
        else
            memcpy(y, sum, (size_t)n * sizeof *sum);
    }
}

#endif
