// SPDX-License-Identifier: MIT
// Plain int8 products on AMX tiles: packed I8 weights are tiles where they lie.
#define FM__RAW_CODES
#include "device/cpu/vec_avx512.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_call.h"
#include "device/cpu/linear_i8.h"
#include "device/cpu/tiles_gemm.h"

enum { STEP = 64 };

static void i8_panels(const struct gemm *g, const struct gemm_piece *piece, const uint8_t **w)
{
    const struct linear *l = g->l;
    uint8_t *to = g->space;
    const int64_t k = STEP * piece->step, n = l->K - k < STEP * piece->n ? l->K - k : STEP * piece->n;
    for (int j = 0; j < piece->n_panels; j++, to += GEMM_PIECE_STEPS * GEMM_TILE) {
        w[j] = linear_columns(l, piece->p + j, k, n, to);
        if (n == STEP * piece->n) continue; // else the last tile is filled up with zeros
        if (w[j] != to) memcpy(to, w[j], (size_t)n * 16);
        memset(to + n * 16, 0, (size_t)(STEP * piece->n - n) * 16);
        w[j] = to;
    }
}

DEFINE_GEMM_BLOCK(i8_block, _tile_dpbssd)

static void finish(const struct gemm *g, int64_t p, int64_t row, int64_t n_rows, void *sums)
{
    i8_finish(g->l, p, row, n_rows, sums, GEMM_WIDTH);
}

size_t fm__linear_i8_amx_workspace(const struct fm__call *largest, int n_workers)
{
    (void)n_workers;
    return gemm_workspace(largest->in[0].dims[0], (size_t)largest->in[0].dims[1]);
}

void fm__linear_i8_amx(const struct fm__call *call, struct fm__worker *worker)
{
    struct linear l;
    linear_read(call, &l);
    if (l.N < FM__LINEAR_TILE_ROWS || call->workspace_bytes < fm__linear_i8_amx_workspace(call, worker->count)) {
        fm__linear_i8_vnni(call, worker);
        return;
    }
    const struct gemm g = {
        .l = &l,
        .rows = call->workspace,
        .n_steps = (l.K + STEP - 1) / STEP,
        .step_terms = STEP,
        .row_bytes = (size_t)l.K,
        .space = worker->scratch + GEMM_SUMS_BYTES,
        .sums = worker->scratch,
    };
    gemm_run(&g, call, worker, &(struct gemm_kind){gemm_turn, i8_panels, i8_block, finish});
}
