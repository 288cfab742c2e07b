// SPDX-License-Identifier: MIT
// Products of bf16 rows on AMX tiles, whose arithmetic is the one that all levels share (ops/linear_ref.h). Packed BF16
// weights are tiles where they lie; others are turned to bf16 once an item.
#include "device/cpu/vec_avx512.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_call.h"
#include "device/cpu/linear_codes.inc"
#include "device/cpu/linear_panel.inc"
#include "device/cpu/tiles_gemm.h"

enum { STEP = 32, TILES = 2 * GEMM_PIECE_STEPS * GEMM_TILE };

// f32 [n][16] to pairs [16][16][2] a tile; the last tile is filled up with zeros
static void panel_pairs(const float *panel, int64_t n, uint8_t *to)
{
    const int64_t end = (n + STEP - 1) / STEP * STEP;
    for (int64_t k = 0; k < end; k += 2, to += 64) {
        const vi even = k < n ? vi_bf16_of(vf_load(panel + 16 * k)) : vi_zero();
        const vi odd = k + 1 < n ? vi_bf16_of(vf_load(panel + 16 * k + 16)) : vi_zero();
        vb_store(to, vi_or(vi_shr(even, 16), odd));
    }
}

static const uint8_t *bf16_panel(const struct gemm *g, int64_t p, int64_t step, int64_t n, uint8_t *to)
{
    const struct linear *l = g->l;
    uint8_t *space = g->scratch + TILES;
    float *panel = (float *)(space + PANEL_SPACE);
    const int64_t first = STEP * step, end = first + STEP * n < l->K ? first + STEP * n : l->K;
    if (l->dtype == FM_BF16 && l->packed && first + STEP * n <= l->K)
        return l->w + (size_t)p * l->group_bytes + (size_t)step * GEMM_TILE;
    for (int64_t k = first; k < end; k += PANEL_K) {
        const int64_t piece = end - k < PANEL_K ? end - k : PANEL_K;
        panel_pairs(f32_panel(l, p, k, piece, space, panel), piece, to + (k - first) * 32);
    }
    return to;
}

DEFINE_GEMM_BLOCK(bf16_block, _tile_dpbf16ps)

static void bf16_finish(const struct gemm *g, int64_t p, int64_t row, int64_t n_rows, void *sums)
{
    linear_finish(g->l, p, row, n_rows, &(struct linear_sums){sums, NULL, GEMM_WIDTH});
}

size_t fm__linear_bf16_amx_workspace(const struct fm__call *largest, int n_workers)
{
    (void)n_workers;
    return gemm_workspace(largest->in[0].dims[0], (size_t)largest->in[0].dims[1] * 2);
}

void fm__linear_bf16_amx(const struct fm__call *call, struct fm__worker *worker)
{
    struct linear l;
    linear_read(call, &l);
    if (l.N < FM__LINEAR_TILE_ROWS || call->workspace_bytes < fm__linear_bf16_amx_workspace(call, worker->count)) {
        fm__linear_bf16_avx512(call, worker);
        return;
    }
    const struct gemm g = {
        .l = &l,
        .rows = call->workspace,
        .n_steps = (l.K + STEP - 1) / STEP,
        .row_bytes = (size_t)l.K * 2,
        .scratch = worker->scratch,
        .sums = worker->scratch + TILES + PANEL_SPACE + 64 * PANEL_K,
    };
    gemm_run(&g, call, worker, &(struct gemm_kind){bf16_panel, bf16_block, bf16_finish});
}
