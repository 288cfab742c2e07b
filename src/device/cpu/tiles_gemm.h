// SPDX-License-Identifier: MIT
// The driver of plain products on AMX tiles: bf16 into f32 and int8 into int32 differ in one instruction. A step is 64
// bytes of a row (32 bf16, 64 int8); a tile of weights is a step of 16 outputs, 16 lines of 64 bytes, which is how
// pack.h lays these types out.
//
// The rows are turned once for all outputs into the workspace: [row / 16][step][16 rows][64].
// An item is two panels of outputs and ITEM_ROWS rows. Per piece of PIECE_STEPS steps, blocks of 32 rows × 32 outputs
// are 2 × 2 tiles: four products for four loads, the panels (16 KB) and the rows (16 KB) in L1, the sums carried in
// scratch.
#ifndef FM_DEVICE_CPU_TILES_GEMM_H
#define FM_DEVICE_CPU_TILES_GEMM_H

#include "device/cpu/linear_call.h"
#include "device/cpu/tiles_amx.h"

enum { GEMM_PIECE_STEPS = 8, GEMM_ITEM_ROWS = 512, GEMM_TILE = 1024, GEMM_WIDTH = 32 };

struct gemm {
    const struct linear *l;
    uint8_t *rows;
    int64_t n_steps;
    size_t row_bytes; // of x, without what follows its elements
    uint8_t *scratch; // | two panels | space of the panel source | and apart: sums |
    void *sums;       // [GEMM_ITEM_ROWS][GEMM_WIDTH] f32 or int32
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

// rows r … r + 15; missing ones, and columns beyond the last, become zeros
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

// The tiles of n steps of panel p: in place, or written to `to`.
typedef const uint8_t *gemm_panel_fn(const struct gemm *g, int64_t p, int64_t step, int64_t n, uint8_t *to);
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
    gemm_panel_fn *panel;
    gemm_block_fn *block;
    gemm_finish_fn *finish;
};

// Rows [row, row + n_rows) of two panels from p on (the second may not exist: its sums mean nothing).
static inline void gemm_item(const struct gemm *g, const struct gemm_kind *k, int64_t p, int64_t row, int64_t n_rows)
{
    const size_t strip = (size_t)g->n_steps * GEMM_TILE;
    const int n_panels = p + 1 < g->l->n_panels ? 2 : 1;
    for (int64_t s = 0; s < g->n_steps; s += GEMM_PIECE_STEPS) {
        const bool last = s + GEMM_PIECE_STEPS >= g->n_steps;
        const int64_t n = last ? g->n_steps - s : GEMM_PIECE_STEPS;
        const uint8_t *w[2];
        w[0] = w[1] = k->panel(g, p, s, n, g->scratch);
        if (n_panels == 2) w[1] = k->panel(g, p + 1, s, n, g->scratch + GEMM_PIECE_STEPS * GEMM_TILE);
        for (int64_t r = 0; r < n_rows; r += 32) {
            const int64_t n_here = n_rows - r < 32 ? n_rows - r : 32;
            float *sums = (float *)g->sums + GEMM_WIDTH * r;
            if (last) linear_expect_y(g->l, p, n_panels, row + r, n_here);
            k->block(g->rows + (size_t)((row + r) / 16) * strip + (size_t)s * GEMM_TILE, strip, w, n, s == 0, sums);
            for (int i = 0; i < n_panels && last; i++) k->finish(g, p + i, row + r, n_here, sums + 16 * i);
        }
    }
}

// Turns the rows, its own or together with the others, and takes items.
static inline void gemm_run(const struct gemm *g, const struct fm__call *call, struct fm__worker *worker,
                            const struct gemm_kind *k)
{
    const struct linear_share share = linear_share(g->l, worker);
    struct linear_walk walk = linear_walk(g->l, call, worker, 2, GEMM_ITEM_ROWS);
    for (int64_t r = share.first; r < gemm_rows(share.end); r += 16) gemm_turn(g, r);
    if (!walk.own && worker->count > 1) fm__worker_barrier(worker);
    tiles_load(&gemm_tiles);
    for (struct linear_item i; linear_next(&walk, &i);) gemm_item(g, k, i.p, i.row, i.n_rows);
    _tile_release();
}

#endif
