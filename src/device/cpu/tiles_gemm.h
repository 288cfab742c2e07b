// SPDX-License-Identifier: MIT
// The driver of plain products on AMX tiles: bf16 into f32 and int8 into int32 differ in one instruction. A step is 64
// bytes of a row (32 bf16, 64 int8); a tile of weights is a step of 16 outputs, 16 lines of 64 bytes, which is how
// pack.h lays these types out.
//
// The rows are turned once for all outputs into the workspace: [row / 16][step][16 rows][64].
// An item is GEMM_PANELS panels of outputs and ITEM_ROWS rows. Per piece of PIECE_STEPS steps the rows (256 KB) and the
// panels (128 KB) are in L2, two panels (16 KB) and 32 rows (16 KB) in L1; blocks of 32 rows × 32 outputs are 2 × 2
// tiles: four products for four loads. The sums are carried in scratch. Those of a gradient go in slabs (ops/slabs.h),
// which are the pieces: each starts from 0 and is added to what was before.
#ifndef FM_DEVICE_CPU_TILES_GEMM_H
#define FM_DEVICE_CPU_TILES_GEMM_H

#include "device/cpu/linear_call.h"
#include "device/cpu/tiles_amx.h"

enum { GEMM_PIECE_STEPS = 8, GEMM_ITEM_ROWS = 512, GEMM_TILE = 1024, GEMM_WIDTH = 32, GEMM_PANELS = 16 };

struct gemm {
    const struct linear *l;
    uint8_t *rows;
    int64_t n_steps;
    int64_t step_terms;
    size_t row_bytes; // of x, without what follows its elements
    void *space;      // of the panel source
    void *sums;       // [GEMM_PANELS / 2][GEMM_ITEM_ROWS][GEMM_WIDTH] f32 or int32
};
enum { GEMM_SUMS_BYTES = GEMM_PANELS / 2 * GEMM_ITEM_ROWS * GEMM_WIDTH * 4 };

// Steps [step, step + n) of n_panels panels from panel p on.
struct gemm_piece {
    int64_t p, step, n;
    int n_panels;
};

static const struct tile_config gemm_tiles = TILE_SHAPES(16, 64);

static inline int64_t gemm_rows(int64_t N)
{
    return (N + 31) / 32 * 32;
}

static inline size_t gemm_workspace(int64_t N, size_t row_bytes)
{
    return (size_t)gemm_rows(N) * ((row_bytes + 63) / 64 * 64);
}

// Rows r … r + 15 to tiles; missing ones, and columns beyond the last, become zeros.
typedef void gemm_turn_fn(const struct gemm *g, int64_t r);
static inline void gemm_turn(const struct gemm *g, int64_t r)
{
    const struct linear *l = g->l;
    for (int64_t i = r; i < r + 16; i++) {
        uint8_t *to = g->rows + ((size_t)(r * g->n_steps) + (size_t)(i - r)) * 64;
        const uint8_t *x = l->x + (size_t)i * l->x_stride;
        size_t left = i < l->N ? g->row_bytes : 0;
        for (int64_t s = 0; s < g->n_steps; s++, to += GEMM_TILE, x += 64) {
            const size_t n = left < 64 ? left : 64;
            if (n < 64) memset(to, 0, 64);
            if (n) memcpy(to, x, n);
            left -= n;
        }
    }
}

// Where the tiles of each panel of a piece lie.
typedef void gemm_panels_fn(const struct gemm *g, const struct gemm_piece *piece, const uint8_t **w);
// sums[32][32] = (first ? 0 : sums) + two strips of rows times two panels
typedef void gemm_block_fn(const uint8_t *x, size_t strip, const uint8_t *const w[2], int64_t n, int first, void *sums);

#define DEFINE_GEMM_BLOCK(name, DOT)                                                                              \
    static void name(const uint8_t *x, size_t strip, const uint8_t *const w[2], int64_t n, int first, void *sums) \
    {                                                                                                             \
        enum { STRIDE = 4 * GEMM_WIDTH };                                                                         \
        uint8_t *to = sums;                                                                                       \
        const uint8_t *w0 = w[0], *w1 = w[1];                                                                     \
        if (first) {                                                                                              \
            _tile_zero(0);                                                                                        \
            _tile_zero(1);                                                                                        \
            _tile_zero(2);                                                                                        \
            _tile_zero(3);                                                                                        \
        } else {                                                                                                  \
            _tile_loadd(0, to, STRIDE);                                                                           \
            _tile_loadd(1, to + 64, STRIDE);                                                                      \
            _tile_loadd(2, to + 16 * STRIDE, STRIDE);                                                             \
            _tile_loadd(3, to + 16 * STRIDE + 64, STRIDE);                                                        \
        }                                                                                                         \
        for (int64_t s = 0; s < n; s++, x += GEMM_TILE, w0 += GEMM_TILE, w1 += GEMM_TILE) {                       \
            _tile_loadd(6, w0, 64);                                                                               \
            _tile_loadd(4, x, 64);                                                                                \
            DOT(0, 4, 6);                                                                                         \
            _tile_loadd(7, w1, 64);                                                                               \
            DOT(1, 4, 7);                                                                                         \
            _tile_loadd(5, x + strip, 64);                                                                        \
            DOT(2, 5, 6);                                                                                         \
            DOT(3, 5, 7);                                                                                         \
        }                                                                                                         \
        _tile_stored(0, to, STRIDE);                                                                              \
        _tile_stored(1, to + 64, STRIDE);                                                                         \
        _tile_stored(2, to + 16 * STRIDE, STRIDE);                                                                \
        _tile_stored(3, to + 16 * STRIDE + 64, STRIDE);                                                           \
    }

// Ends rows [row, row + n_rows) of panel p; sums: the first one's, GEMM_WIDTH elements of 4 bytes a row.
typedef void gemm_finish_fn(const struct gemm *g, int64_t p, int64_t row, int64_t n_rows, void *sums);

struct gemm_kind {
    gemm_turn_fn *turn;
    gemm_panels_fn *panels;
    gemm_block_fn *block;
    gemm_finish_fn *finish;
};

// sums[32][32] += a slab's, or become these
static inline void gemm_add_slab(float *sums, const float *slab, bool first)
{
    for (int i = 0; i < 32 * GEMM_WIDTH; i += VL)
        vf_store(sums + i, vf_add(first ? vf_zero() : vf_load(sums + i), vf_load(slab + i)));
}

// A piece of two panels (the second may not exist: its sums mean nothing) times the rows of an item.
static inline void gemm_pair(const struct gemm *g, const struct gemm_kind *k, const struct gemm_piece *pair,
                             const struct linear_item *item, const uint8_t *const w[2])
{
    _Alignas(64) float slab[32 * GEMM_WIDTH];
    const size_t strip = (size_t)g->n_steps * GEMM_TILE;
    const int64_t terms = g->step_terms;
    const bool first = pair->step == 0, last = pair->step + pair->n >= g->n_steps;
    float *sums = (float *)g->sums + (pair->p - item->p) / 2 * GEMM_ITEM_ROWS * GEMM_WIDTH;
    for (int64_t r = 0; r < item->n_rows; r += 32, sums += 32 * GEMM_WIDTH) {
        const int64_t n_here = item->n_rows - r < 32 ? item->n_rows - r : 32;
        const uint8_t *x = g->rows + (size_t)((item->row + r) / 16) * strip + (size_t)pair->step * GEMM_TILE;
        const int64_t block = (pair->p - item->p) / 2 * (GEMM_ITEM_ROWS / 32) + r / 32;
        for (int64_t i = 2 * block; i < 2 * block + 2; i++) // W's next part has more rows than x blocks of 32
            linear_expect_w(g->l, item->p, item->n_panels, (pair->step + pair->n) * terms, GEMM_PIECE_STEPS * terms, i);
        if (last) linear_expect_y(g->l, pair->p, pair->n_panels, item->row + r, n_here);
        if (g->l->x_turned) {
            k->block(x, strip, w, pair->n, true, slab);
            gemm_add_slab(sums, slab, first);
        } else {
            k->block(x, strip, w, pair->n, first, sums);
        }
        for (int i = 0; i < pair->n_panels && last; i++)
            k->finish(g, pair->p + i, item->row + r, n_here, sums + 16 * i);
    }
}

static inline void gemm_item(const struct gemm *g, const struct gemm_kind *k, const struct linear_item *item)
{
    const uint8_t *w[GEMM_PANELS];
    const int n_panels = item->n_panels;
    for (int64_t s = 0; s < g->n_steps; s += GEMM_PIECE_STEPS) {
        const int64_t n = g->n_steps - s < GEMM_PIECE_STEPS ? g->n_steps - s : GEMM_PIECE_STEPS;
        k->panels(g, &(struct gemm_piece){item->p, s, n, n_panels}, w);
        for (int j = 0; j < n_panels; j += 2) {
            const int both = n_panels - j < 2 ? 1 : 2;
            gemm_pair(g, k, &(struct gemm_piece){item->p + j, s, n, both}, item,
                      (const uint8_t *[]){w[j], w[j + both - 1]});
        }
    }
}

// Turns the rows, its own or together with the others, and takes items.
static inline void gemm_run(const struct gemm *g, const struct fm__call *call, struct fm__worker *worker,
                            const struct gemm_kind *k)
{
    const struct linear_share share = linear_share(g->l, worker);
    const int64_t wide = linear_wide(g->l, worker, GEMM_PANELS, 2);
    struct linear_walk walk = linear_walk(g->l, call, worker, wide, GEMM_ITEM_ROWS);
    for (int64_t r = share.first; r < gemm_rows(share.end); r += 16) k->turn(g, r);
    if (!walk.own && worker->count > 1) fm__worker_barrier(worker);
    tiles_load(&gemm_tiles);
    for (struct linear_item i; linear_next(&walk, &i);) gemm_item(g, k, &i);
    _tile_release();
}

#endif
