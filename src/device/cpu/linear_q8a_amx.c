// SPDX-License-Identifier: MIT
// Integer products on AMX tiles, in bf16: an 8-bit integer is a bf16 exactly, products and sums of 32 of them stay
// below 2^24 and are exact in f32 in any order. So a tile product of a 32-block gives the same number as an integer
// one, already converted, in the same time (a tile row of 64 bytes is 32 bf16). What is left for the vector unit is a
// multiplication by both scales and the sum in tensor/q8a.h's order; and the minimums' chain, a small f32 product done
// apart, because vector units run at half speed beside busy tiles (measured on Sapphire Rapids: 64 FMA take 9.7 ns
// alone, 19.3 among tiles).
//
// The rows are turned once for all outputs, by all workers together, into the workspace:
//   codes [row / 16][32-block][16 rows][32 bf16], columns of a quad in the order 0 2 1 3
//   d, s  [row / 16][unit][16 rows]               a unit is a sub-block: 32 or 16 columns
// A panel of 16 outputs is unpacked to [32-block][16 pairs][16 outputs][2], pairs (0, 2) and (1, 3) of each quad.
#define FM__RAW_CODES
#include "device/cpu/vec_avx512.h"

#include "device/cpu/linear.h"
#include "device/cpu/linear_call.h"
#include "device/cpu/linear_codes.inc"
#include "device/cpu/tiles_amx.h"

enum {
    ITEM_PANELS = 3, // groups of 16 outputs that share a pass over the rows
    ITEM_ROWS = 256, // rows of one item
    CHUNK_K = 256,   // columns at a time: three panels (24 KB) and sixteen rows (8 KB) stay in L1
};

static const struct tile_config configs[2][16] = {TILE_SHAPES_16(64), TILE_SHAPES_16(32)};

static const struct {
    fill_fn *fill;
    int per_block, bits, n_sub, has_min, offset;
} kernels[FM_DTYPE_COUNT] = {
#define ENTRY(TYPE, name, per_block, bits, n_sub, has_min, offset) \
    [FM_##TYPE] = {fill_##name, per_block, bits, n_sub, has_min, offset},
    CODE_TYPES(ENTRY)
#undef ENTRY
};

struct work {
    const struct linear *l;
    int n_sub, has_min;
    int64_t n_units;          // a row
    uint8_t *codes;           // of the rows, turned
    float *d, *s;             // likewise
    uint8_t *packed;          // scratch: a piece of a group in packed order
    struct panel raw;         // codes of one panel, a byte each
    uint16_t *w[ITEM_PANELS]; // bf16 panels
    float *dw[ITEM_PANELS], *mw[ITEM_PANELS];
    float *acc, *low; // [panel][ITEM_ROWS][16]
};

// --- rows to bf16 ---

static int64_t rounded_rows(int64_t N)
{
    return (N + 15) / 16 * 16;
}

size_t fm__linear_q8a_amx_workspace(const struct fm__call *largest, int n_workers)
{
    const size_t rows = (size_t)rounded_rows(largest->in[0].dims[0]), K = (size_t)largest->in[0].dims[1];
    (void)n_workers;
    return rows * K * 2 + rows * (K / 16) * 4 * 2;
}

// 32 codes of a byte to bf16, quads in the order 0 2 1 3
static __m512i codes_to_bf16(const uint8_t *q)
{
    const __m256i order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    const __m256i v = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)q), order);
    const __m512 low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(v)));
    const __m512 high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(v, 1)));
    // the upper halves of 32 floats whose lower halves are zero
    static const uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                     33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(_mm512_castps_si512(low), _mm512_loadu_si512(odd), _mm512_castps_si512(high));
}

// rows r … r + 15; missing ones become zeros
static void turn_rows(const struct work *k, int64_t r)
{
    const struct linear *l = k->l;
    const int64_t n_blocks = l->K / 32;
    for (int i = 0; i < 16; i++) {
        uint8_t *codes = k->codes + (size_t)(r * l->K * 2 + i * 64);
        float *d = k->d + r * k->n_units + i, *s = k->s + r * k->n_units + i;
        if (r + i >= l->N) {
            for (int64_t b = 0; b < n_blocks; b++) memset(codes + 1024 * b, 0, 64);
            for (int64_t u = 0; u < k->n_units; u++) d[16 * u] = s[16 * u] = 0;
            continue;
        }
        const uint8_t *x = l->x + (size_t)(r + i) * l->x_stride;
        const float *xd = fm__q8a_d(x, l->K), *xs = fm__q8a_s(x, l->K);
        const int16_t *xh = fm__q8a_h(x, l->K);
        for (int64_t b = 0; b < n_blocks; b++) {
            _mm512_storeu_si512(codes + 1024 * b, codes_to_bf16(x + 32 * b));
            for (int u = 0; u < k->n_sub; u++) {
                const int64_t at = b * k->n_sub + u;
                d[16 * at] = xd[b];
                if (k->has_min) s[16 * at] = k->n_sub == 1 ? xs[b] : xd[b] * (float)xh[at];
            }
        }
    }
}

// --- weights to bf16 ---

// bf16 of the integers from - offset on
static __m512i integers(int from, int offset)
{
    uint16_t table[32];
    for (int i = 0; i < 32; i++) table[i] = fm__f32_to_bf16((float)(from + i - offset));
    return _mm512_loadu_si512(table);
}

// words of signed integers of 8 bits to bf16
static __m512i bytes_to_bf16(__m512i v)
{
    const __m512 even = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(v, 16), 16));
    const __m512 odd = _mm512_cvtepi32_ps(_mm512_srai_epi32(v, 16));
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(even), 16),
                           _mm512_and_si512(_mm512_castps_si512(odd), _mm512_set1_epi32((int)0xffff0000)));
}

static void panel_to_bf16(const uint8_t *codes, int64_t n_blocks, int bits, int offset, uint16_t *to)
{
    const __m512i t0 = integers(0, offset), t1 = integers(32, offset), low = _mm512_set1_epi16(0xff);
    if (bits == 8) {
        for (int64_t i = 0; i < 8 * n_blocks; i++, codes += 64, to += 64) {
            const __m512i v = _mm512_loadu_si512(codes);
            const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), odd = _mm512_srai_epi16(v, 8);
            _mm512_storeu_si512(to, bytes_to_bf16(even));
            _mm512_storeu_si512(to + 32, bytes_to_bf16(odd));
        }
        return;
    }
    for (int64_t i = 0; i < 8 * n_blocks; i++, codes += 64, to += 64) {
        const __m512i v = _mm512_loadu_si512(codes), even = _mm512_and_si512(v, low), odd = _mm512_srli_epi16(v, 8);
        _mm512_storeu_si512(to, _mm512_permutex2var_epi16(t0, even, t1));
        _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi16(t0, odd, t1));
    }
}

// --- products ---

// The sums of unit u into the ring; past the end: harmless, not used.
#define PRODUCT(tile, u)                                                                          \
    {                                                                                             \
        const int64_t unit = (u) < n ? (u) : n - 1;                                               \
        _tile_zero(tile);                                                                         \
        _tile_loadd(4, x + (n_sub == 1 ? 1024 * unit : 1024 * (unit / 2) + 32 * (unit % 2)), 64); \
        _tile_loadd(6, (const uint8_t *)w + 1024 / n_sub * unit, 64);                             \
        _tile_dpbf16ps(tile, 4, 6);                                                               \
        _tile_stored(tile, ring[tile], 64);                                                       \
    }
// … scaled and added to the 16 rows' sums
#define ADD(tile, u)                                                                                             \
    {                                                                                                            \
        const __m512 scale = _mm512_load_ps(dw + 16 * (u));                                                      \
        const float *dx = d + 16 * (u);                                                                          \
        _Pragma("GCC unroll 16") for (int r = 0; r < 16; r++) sum[r] =                                           \
            _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(dx[r])), _mm512_load_ps(ring[tile][r]), sum[r]); \
    }

// acc[16][16] += n units of 16 rows times a panel
INLINE void sixteen_rows(const uint16_t *w, const float *dw, int64_t n, int n_sub, const uint8_t *x, const float *d,
                         float *acc)
{
    float ring[4][16][16] __attribute__((aligned(64)));
    __m512 sum[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) sum[r] = _mm512_load_ps(acc + 16 * r);
    PRODUCT(0, 0)
    PRODUCT(1, 1)
    for (int64_t u = 0; u < n; u += 4) {
        PRODUCT(2, u + 2)
        ADD(0, u)
        if (u + 1 == n) break;
        PRODUCT(3, u + 3)
        ADD(1, u + 1)
        if (u + 2 == n) break;
        PRODUCT(0, u + 4)
        ADD(2, u + 2)
        if (u + 3 == n) break;
        PRODUCT(1, u + 5)
        ADD(3, u + 3)
    }
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) _mm512_store_ps(acc + 16 * r, sum[r]);
}

static void units_of_32(const uint16_t *w, const float *dw, int64_t n, const uint8_t *x, const float *d, float *acc)
{
    sixteen_rows(w, dw, n, 1, x, d, acc);
}

static void units_of_16(const uint16_t *w, const float *dw, int64_t n, const uint8_t *x, const float *d, float *acc)
{
    sixteen_rows(w, dw, n, 2, x, d, acc);
}

// low[16][16] += n units: the chain of minimums
static void minimums(const float *mw, int64_t n, const float *s, float *low)
{
    __m512 sum[16];
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) sum[r] = _mm512_load_ps(low + 16 * r);
    for (int64_t u = 0; u < n; u++, mw += 16, s += 16) {
        const __m512 m = _mm512_load_ps(mw);
#pragma GCC unroll 16
        for (int r = 0; r < 16; r++) sum[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(s[r]), sum[r]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) _mm512_store_ps(low + 16 * r, sum[r]);
}

// Panels p … of rows [row, row + n_rows).
static void item(const struct work *k, int64_t p, int64_t row, int64_t n_rows)
{
    const struct linear *l = k->l;
    const fm_dtype type = l->dtype;
    const int width = 32 / k->n_sub, block = kernels[type].per_block * 32;
    const int n_panels = l->n_panels - p < ITEM_PANELS ? (int)(l->n_panels - p) : ITEM_PANELS;
    memset(k->acc, 0, sizeof *k->acc * ITEM_PANELS * ITEM_ROWS * 16);
    if (k->has_min) memset(k->low, 0, sizeof *k->low * ITEM_PANELS * ITEM_ROWS * 16);
    for (int64_t c = 0; c < l->K; c += CHUNK_K) {
        const int64_t n = l->K - c < CHUNK_K ? l->K - c : CHUNK_K;
        for (int i = 0; i < n_panels; i++) {
            struct panel raw = {k->raw.codes, k->dw[i], k->mw[i]};
            kernels[type].fill(linear_columns(l, p + i, c, n, k->packed), n / block, &raw);
            panel_to_bf16(raw.codes, n / 32, kernels[type].bits, kernels[type].offset, k->w[i]);
        }
        for (int64_t r = 0; r < n_rows && k->has_min; r += 16)
            for (int i = 0; i < n_panels; i++)
                minimums(k->mw[i], n / width, k->s + ((row + r) * k->n_units + c / width * 16),
                         k->low + (i * ITEM_ROWS + r) * 16);
        for (int64_t r = 0; r < n_rows; r += 16) {
            const uint8_t *x = k->codes + (size_t)((row + r) * l->K * 2 + c * 32);
            const float *d = k->d + ((row + r) * k->n_units + c / width * 16);
            for (int i = 0; i < n_panels; i++)
                (k->n_sub == 1 ? units_of_32 : units_of_16)(k->w[i], k->dw[i], n / width, x, d,
                                                            k->acc + (i * ITEM_ROWS + r) * 16);
        }
    }
    for (int i = 0; i < n_panels; i++)
        linear_finish(l, p + i, row, n_rows, k->acc + i * ITEM_ROWS * 16,
                      k->has_min ? k->low + i * ITEM_ROWS * 16 : NULL, 16);
}

static void work_init(struct work *k, const struct linear *l, const struct fm__call *call, unsigned char *scratch)
{
    enum { SUBS = CHUNK_K / 16 * 16 };
    k->l = l;
    k->n_sub = kernels[l->dtype].n_sub;
    k->has_min = kernels[l->dtype].has_min;
    k->n_units = l->K / 32 * k->n_sub;
    k->codes = call->workspace;
    k->d = (float *)(k->codes + (size_t)(rounded_rows(l->N) * l->K) * 2);
    k->s = k->d + rounded_rows(l->N) * k->n_units;
    k->acc = (float *)scratch;
    k->low = k->acc + ITEM_PANELS * ITEM_ROWS * 16;
    uint8_t *at = (uint8_t *)(k->low + ITEM_PANELS * ITEM_ROWS * 16);
    for (int i = 0; i < ITEM_PANELS; i++) {
        k->w[i] = (uint16_t *)at;
        k->dw[i] = (float *)(at + 32 * CHUNK_K);
        k->mw[i] = k->dw[i] + SUBS;
        at = (uint8_t *)(k->mw[i] + SUBS);
    }
    k->raw.codes = at;
    k->packed = at + 16 * CHUNK_K;
}

void fm__linear_q8a_amx(const struct fm__call *call, struct fm__worker *worker)
{
    struct linear l;
    struct work k;
    linear_read(call, &l);
    if (l.N < FM__LINEAR_AMX_ROWS || call->workspace_bytes < fm__linear_q8a_amx_workspace(call, worker->count)) {
        fm__linear_q8a_vnni(call, worker);
        return;
    }
    work_init(&k, &l, call, worker->scratch);
    for (int64_t r = 16 * worker->index; r < l.N; r += 16 * worker->count) turn_rows(&k, r);
    if (worker->count > 1) fm__worker_barrier(worker);
    const int64_t n_wide = (l.n_panels + ITEM_PANELS - 1) / ITEM_PANELS;
    const int64_t n_items = (l.N + ITEM_ROWS - 1) / ITEM_ROWS * n_wide;
    tiles_load(&configs[k.n_sub - 1][15]);
    for (int64_t i; (i = fm__take(call, 1)) < n_items;) {
        const int64_t row = i / n_wide * ITEM_ROWS;
        item(&k, i % n_wide * ITEM_PANELS, row, l.N - row < ITEM_ROWS ? l.N - row : ITEM_ROWS);
    }
    _tile_release();
}
