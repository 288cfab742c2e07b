// SPDX-License-Identifier: MIT
// Plain int8 products on AMX tiles: packed I8 weights are tiles where they lie.
#define FM__RAW_CODES
#include "device/cpu/vec_avx512.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_call.h"
#include "device/cpu/linear_i8.h"
#include "device/cpu/tiles_gemm.h"

enum { STEP = 64 };

static const uint8_t *i8_panel(const struct gemm *g, int64_t p, int64_t step, int64_t n, uint8_t *to)
{
    const struct linear *l = g->l;
    const int64_t k = STEP * step, columns = l->K - k < STEP * n ? l->K - k : STEP * n;
    if (l->packed && columns == STEP * n) return linear_columns(l, p, k, columns, to);
    memset(to, 0, (size_t)n * GEMM_TILE);
    const uint8_t *from = linear_columns(l, p, k, columns, to);
    if (from != to) memcpy(to, from, (size_t)columns * 16);
    return to;
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
        .row_bytes = (size_t)l.K,
        .scratch = worker->scratch,
        .sums = worker->scratch + 2 * GEMM_PIECE_STEPS * GEMM_TILE,
    };
    gemm_run(&g, call, worker, &(struct gemm_kind){i8_panel, i8_block, finish});
}
