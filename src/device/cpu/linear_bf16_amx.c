// SPDX-License-Identifier: MIT
// Products of bf16 rows on AMX tiles, whose arithmetic is the one that all levels share (ops/linear_ref.h). Packed BF16
// weights are tiles where they lie; others are turned to bf16 once an item.
#include "device/cpu/vec_avx512.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_call.h"
#include "device/cpu/linear_codes.inc"
#include "device/cpu/linear_panel.inc"
#include "device/cpu/tiles_gemm.h"
#include "ops/slabs.h"

enum { STEP = 32 };
_Static_assert((int)PANEL_K == STEP * (int)GEMM_PIECE_STEPS && (int)PANEL_K == (int)FM__SLAB_ROWS, "a piece is a slab");

struct bf16_space {
    uint8_t space[PIECE_SPACE];
    float panels[GEMM_PANELS][16 * PANEL_K]; // tiles, once they are made
};
_Static_assert(GEMM_SUMS_BYTES + sizeof(struct bf16_space) <= FM__WORKER_SCRATCH, "scratch of a worker");

// f32 [n][16] to pairs [16][16][2] a tile, which may lie in the same place; the last tile is filled up with zeros
static void panel_pairs(const float *panel, int64_t n, uint8_t *to)
{
    const int64_t end = (n + STEP - 1) / STEP * STEP;
    for (int64_t k = 0; k < end; k += 2, to += 64) {
        const vi even = k < n ? vi_bf16_of(vf_load(panel + 16 * k)) : vi_zero();
        const vi odd = k + 1 < n ? vi_bf16_of(vf_load(panel + 16 * k + 16)) : vi_zero();
        vb_store(to, vi_or(vi_shr(even, 16), odd));
    }
}

// a's 16 elements as bf16, then b's. The instruction takes subnormals for zeros, though one may round up to a normal.
INLINE vi bf16_of_two(vf a, vf b)
{
    enum { SUBNORMAL = 0x20 };
    if (__builtin_expect(_mm512_fpclass_ps_mask(a, SUBNORMAL) | _mm512_fpclass_ps_mask(b, SUBNORMAL), 0)) {
        const __m256i low = _mm512_cvtepi32_epi16(vi_shr(vi_bf16_of(a), 16));
        return _mm512_inserti64x4(_mm512_castsi256_si512(low), _mm512_cvtepi32_epi16(vi_shr(vi_bf16_of(b), 16)), 1);
    }
    return (vi)_mm512_cvtne2ps_pbh(b, a);
}

// The first n of 16 columns.
INLINE __mmask16 columns(int64_t n)
{
    return n >= 16 ? 0xffff : n > 0 ? (__mmask16)((1 << n) - 1) : 0;
}

// 16 elements each of a row and of the next one as pairs: a line of a tile. n_rows of them exist.
INLINE vi pair_line(const uint8_t *row, size_t stride, int64_t n_rows, __mmask16 mask, enum format format)
{
    static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __mmask16 first = n_rows > 0 ? mask : 0, second = n_rows > 1 ? mask : 0;
    vi both;
    if (format == OF_F32)
        both = bf16_of_two(_mm512_maskz_loadu_ps(first, row), _mm512_maskz_loadu_ps(second, row + stride));
    else
        both = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi16(first, row)),
                                  _mm256_maskz_loadu_epi16(second, row + stride), 1);
    return _mm512_permutexvar_epi16(vb_load(order), both);
}

// Tiles of a piece of turned plain rows: a line is a pair of W's rows.
INLINE void turned_tiles(const struct piece *t, enum format format, float (*to)[16 * PANEL_K])
{
    const struct linear *l = t->l;
    const int64_t size = format == OF_F32 ? 4 : 2;
    for (int64_t i = 0; i < (t->n + STEP - 1) / STEP * STEP; i += 2) {
        const uint8_t *row = l->w + (size_t)(t->k + i) * l->w_stride + (size_t)(16 * t->p * size);
        for (int j = 0; j < t->n_panels; j++, row += 16 * size)
            vb_store(to[j] + 8 * i, pair_line(row, l->w_stride, t->n - i, columns(l->O - 16 * (t->p + j)), format));
    }
}

// … of f32 in rows order: 32 columns of 16 rows are turned pair by pair.
static void row_tiles(const struct piece *t, float (*to)[16 * PANEL_K])
{
    const struct linear *l = t->l;
    for (int j = 0; j < t->n_panels; j++)
        for (int64_t i = 0; i < t->n; i += STEP) {
            _Alignas(64) float pairs[16][16];
            for (int r = 0; r < 16; r++) {
                const int64_t o = 16 * (t->p + j) + r, n = o < l->O ? t->n - i : 0;
                const float *row = (const float *)(l->w + (size_t)o * l->w_stride) + t->k + i;
                vb_store(pairs[r], bf16_of_two(_mm512_maskz_loadu_ps(columns(n), row),
                                               _mm512_maskz_loadu_ps(columns(n - 16), row + 16)));
            }
            turn_16(pairs, 64, to[j] + 8 * i, 16);
        }
}

static void bf16_panels(const struct gemm *g, const struct gemm_piece *piece, const uint8_t **w)
{
    const struct linear *l = g->l;
    struct bf16_space *to = g->space;
    const int64_t k = STEP * piece->step, n = l->K - k < STEP * piece->n ? l->K - k : STEP * piece->n;
    const struct piece t = {l, piece->p, k, n, piece->n_panels};
    for (int j = 0; j < t.n_panels; j++) w[j] = (uint8_t *)to->panels[j];
    if (l->packed && l->dtype == FM_BF16 && !l->turned && n == STEP * piece->n) {
        for (int j = 0; j < t.n_panels; j++)
            w[j] = l->w + (size_t)(t.p + j) * l->group_bytes + (size_t)piece->step * GEMM_TILE;
    } else if (!l->packed && l->dtype == FM_F32 && !l->turned) {
        row_tiles(&t, to->panels);
    } else if (!l->packed && l->dtype == FM_F32) {
        turned_tiles(&t, OF_F32, to->panels);
    } else if (!l->packed && l->dtype == FM_BF16 && l->turned) {
        turned_tiles(&t, OF_BF16, to->panels);
    } else {
        piece_panels(&t, to->space, to->panels[0]);
        for (int j = 0; j < t.n_panels; j++) panel_pairs(to->panels[j], n, (uint8_t *)to->panels[j]);
    }
}

// Columns r … r + 15 of x to tiles, whose rows they are.
static void turn_columns(const struct gemm *g, int64_t r)
{
    const struct linear *l = g->l;
    _Alignas(64) float pairs[16][16], *to = (float *)(g->rows + (size_t)(r * g->n_steps) * 64);
    for (int64_t s = 0; s < g->n_steps; s++, to += GEMM_TILE / 4) {
        for (int i = 0; i < 16; i++) {
            const int64_t n = STEP * s + 2 * i;
            const uint8_t *row = l->x + (size_t)n * l->x_stride + 2 * r;
            vb_store(pairs[i], pair_line(row, l->x_stride, l->K - n, columns(l->N - r), OF_BF16));
        }
        turn_16(pairs, 64, to, 16);
    }
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

size_t fm__linear_dw_bf16_amx_workspace(const struct fm__call *largest, int n_workers)
{
    (void)n_workers;
    return gemm_workspace(largest->in[1].dims[1], (size_t)largest->in[1].dims[0] * 2);
}

static void run(const struct fm__call *call, struct fm__worker *worker, const struct linear *l)
{
    const struct gemm g = {
        .l = l,
        .rows = call->workspace,
        .n_steps = (l->K + STEP - 1) / STEP,
        .step_terms = STEP,
        .row_bytes = (size_t)l->K * 2,
        .space = worker->scratch + GEMM_SUMS_BYTES,
        .sums = worker->scratch,
    };
    gemm_run(&g, call, worker,
             &(struct gemm_kind){l->x_turned ? turn_columns : gemm_turn, bf16_panels, bf16_block, bf16_finish});
}

void fm__linear_bf16_amx(const struct fm__call *call, struct fm__worker *worker)
{
    struct linear l;
    linear_read(call, &l);
    if (l.N < FM__LINEAR_TILE_ROWS || call->workspace_bytes < fm__linear_bf16_amx_workspace(call, worker->count))
        fm__linear_bf16_avx512(call, worker);
    else
        run(call, worker, &l);
}

void fm__linear_dw_bf16_amx(const struct fm__call *call, struct fm__worker *worker)
{
    struct linear l;
    linear_dw_read(call, &l);
    if (call->workspace_bytes < fm__linear_dw_bf16_amx_workspace(call, worker->count))
        fm__linear_dw_bf16_avx512(call, worker);
    else
        run(call, worker, &l);
}
