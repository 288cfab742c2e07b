// SPDX-License-Identifier: MIT
// Integer products on AMX tiles, in bf16: an 8-bit integer is a bf16 exactly, products and sums of 32 of them stay
// below 2^24 and are exact in f32 in any order. So a tile product of a 32-block gives the same number as an integer
// one, already converted, in the same time (a tile row of 64 bytes is 32 bf16). What is left for the vector unit is a
// multiplication by both scales and the sum in tensor/q8a.h's order; and the minimums' chain, a small f32 product done
// apart, because vector units run at half speed beside busy tiles (measured on Sapphire Rapids: 64 FMA take 9.7 ns
// alone, 19.3 among tiles).
//
// The rows are turned once for all outputs into the workspace, by the workers that need them or all together:
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
    PASS = 8,        // units whose sums wait for the vector unit
    ITEM_PANELS = 2, // groups of 16 outputs that share a pass over the rows
    ITEM_ROWS = 256, // rows of one item
    BEST_K = 192,    // columns at a time: two panels (12 KB), sixteen rows (6 KB), sums of a pass (12 KB) stay in L1
    CHUNK_K = 256,   // at most: a K-quant's block
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
    float (*ring)[PASS][256];
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

// A pass: a few units of 16 rows times two panels. Tiles first, sums afterwards: stores of tiles and vector
// instructions do not overlap, and interleaving them costs more than it hides (docs/benchmarks-notes.md).
struct pass {
    const uint8_t *x;               // codes of the rows
    const float *d, *s;             // [unit][16 rows]
    const uint16_t *w[ITEM_PANELS]; // bf16 panels
    const float *dw[ITEM_PANELS], *mw[ITEM_PANELS];
    int n;                    // units
    float (*ring)[PASS][256]; // [panel]: sums of a unit, [16 rows][16]
};

// Unit u of panel i, of rows in tile `tx`, into tile t, which is zero; meanwhile tile `done` is stored: a store right
// behind the product it waits for would take as long again.
#define PRODUCT(t, tx, tw, i, u, done)                                      \
    {                                                                       \
        _tile_loadd(tw, (const uint8_t *)p->w[i] + 1024 / n_sub * (u), 64); \
        _tile_dpbf16ps(t, tx, tw);                                          \
        if ((u) > 0) _tile_stored(done, p->ring[i][(u)-1], 64);             \
        _tile_zero(done);                                                   \
    }
#define UNIT(t0, t1, tx, u, done0, done1)                                                          \
    {                                                                                              \
        _tile_loadd(tx, p->x + (n_sub == 1 ? 1024 * (u) : 1024 * ((u) / 2) + 32 * ((u) % 2)), 64); \
        PRODUCT(t0, tx, 6, 0, u, done0)                                                            \
        PRODUCT(t1, tx, 7, 1, u, done1)                                                            \
    }

INLINE void products(const struct pass *p, int n_sub)
{
    const int n = p->n;
    _tile_zero(0);
    _tile_zero(1);
    UNIT(0, 1, 4, 0, 2, 3)
    for (int u = 1; u < n; u += 2) {
        UNIT(2, 3, 5, u, 0, 1)
        if (u + 1 == n) {
            _tile_stored(2, p->ring[0][u], 64);
            _tile_stored(3, p->ring[1][u], 64);
            return;
        }
        UNIT(0, 1, 4, u + 1, 2, 3)
    }
    _tile_stored(0, p->ring[0][n - 1], 64);
    _tile_stored(1, p->ring[1][n - 1], 64);
}

INLINE void load_16(const float *from, __m512 *sum)
{
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) sum[r] = _mm512_load_ps(from + 16 * r);
}
INLINE void store_16(const __m512 *sum, float *to)
{
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) _mm512_store_ps(to + 16 * r, sum[r]);
}

// acc[16][16] += the units of a panel, scaled
INLINE void add_units(const struct pass *p, int panel, float *acc)
{
    __m512 sum[16];
    load_16(acc, sum);
    for (int u = 0; u < p->n; u++) {
        const __m512 scale = _mm512_load_ps(p->dw[panel] + 16 * u);
        const float *d = p->d + 16 * u, *t = p->ring[panel][u];
#pragma GCC unroll 16
        for (int r = 0; r < 16; r++)
            sum[r] = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(d[r])), _mm512_load_ps(t + 16 * r), sum[r]);
    }
    store_16(sum, acc);
}

// low[16][16] += the units of a panel: the chain of minimums
INLINE void add_minimums(const struct pass *p, int panel, float *low)
{
    __m512 sum[16];
    load_16(low, sum);
    for (int u = 0; u < p->n; u++) {
        const __m512 m = _mm512_load_ps(p->mw[panel] + 16 * u);
        const float *s = p->s + 16 * u;
#pragma GCC unroll 16
        for (int r = 0; r < 16; r++) sum[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(s[r]), sum[r]);
    }
    store_16(sum, low);
}

static void run_pass(const struct pass *p, int n_sub, float *acc, float *low)
{
    if (n_sub == 1)
        products(p, 1);
    else
        products(p, 2);
    for (int i = 0; i < ITEM_PANELS; i++) add_units(p, i, acc + i * ITEM_ROWS * 16);
    for (int i = 0; i < ITEM_PANELS && low; i++) add_minimums(p, i, low + i * ITEM_ROWS * 16);
}

// Columns [c, c + n) of panels p, p + 1, unpacked. A last odd panel stands twice.
static void unpack_panels(const struct work *k, int64_t p, int64_t c, int64_t n)
{
    const fm_dtype type = k->l->dtype;
    for (int i = 0; i < ITEM_PANELS; i++) {
        const int64_t panel = p + i < k->l->n_panels ? p + i : p;
        struct panel raw = {k->raw.codes, k->dw[i], k->mw[i]};
        kernels[type].fill(linear_columns(k->l, panel, c, n, k->packed), n / (kernels[type].per_block * 32), &raw);
        panel_to_bf16(raw.codes, n / 32, kernels[type].bits, kernels[type].offset, k->w[i]);
    }
}

// Chunk c … of 16 rows and both panels; n_units of it.
static void sixteen_rows(const struct work *k, int64_t row, int64_t c, int64_t n_units, float *acc, float *low)
{
    const int width = 32 / k->n_sub;
    for (int64_t u = 0; u < n_units; u += PASS) {
        const int64_t at = row * k->n_units + (c / width + u) * 16;
        struct pass pass = {.x = k->codes + (size_t)(row * k->l->K * 2 + (c + u * width) * 32),
                            .d = k->d + at,
                            .s = k->s + at,
                            .n = (int)(n_units - u < PASS ? n_units - u : PASS),
                            .ring = k->ring};
        for (int i = 0; i < ITEM_PANELS; i++) {
            pass.w[i] = k->w[i] + 16 * width * u;
            pass.dw[i] = k->dw[i] + 16 * u;
            pass.mw[i] = k->mw[i] + 16 * u;
        }
        run_pass(&pass, k->n_sub, acc, low);
    }
}

// Columns of a chunk: whole packed blocks, chunks of about one size.
static int64_t chunk_columns(const struct linear *l)
{
    const int64_t block = kernels[l->dtype].per_block * 32, largest = block < BEST_K ? BEST_K / block * block : block;
    const int64_t n = (l->K + largest - 1) / largest;
    return ((l->K + n - 1) / n + block - 1) / block * block;
}

// The weights that come next, while the tiles work.
static void expect_weights(const struct linear *l, int64_t p)
{
    if (!l->packed || p >= l->n_panels) return;
    const int64_t n = l->n_panels - p < ITEM_PANELS ? l->n_panels - p : ITEM_PANELS;
    const char *w = (const char *)l->w + (size_t)p * l->group_bytes;
    for (size_t at = 0; at < (size_t)n * l->group_bytes; at += 64) __builtin_prefetch(w + at, 0, 2);
}

// Panels p, p + 1 of rows [row, row + n_rows).
static void item(const struct work *k, int64_t p, int64_t row, int64_t n_rows)
{
    const struct linear *l = k->l;
    const int64_t chunk = chunk_columns(l);
    expect_weights(l, p + ITEM_PANELS);
    for (int64_t c = 0; c < l->K; c += chunk) {
        const bool last = c + chunk >= l->K;
        const int64_t n = last ? l->K - c : chunk;
        unpack_panels(k, p, c, n);
        for (int64_t r = 0; r < n_rows; r += 16) {
            const int64_t n_here = n_rows - r < 16 ? n_rows - r : 16;
            float *acc = k->acc + r * 16, *low = k->has_min ? k->low + r * 16 : NULL;
            for (int i = 0; i < ITEM_PANELS && c == 0; i++) {
                memset(acc + i * ITEM_ROWS * 16, 0, 256 * sizeof *acc);
                if (low) memset(low + i * ITEM_ROWS * 16, 0, 256 * sizeof *low);
            }
            if (last) linear_expect_y(l, p, ITEM_PANELS, row + r, n_here);
            sixteen_rows(k, row + r, c, n / (32 / k->n_sub), acc, low);
            for (int i = 0; i < ITEM_PANELS && last && p + i < l->n_panels; i++) {
                const struct linear_sums sums = {acc + i * ITEM_ROWS * 16, low ? low + i * ITEM_ROWS * 16 : NULL, 16};
                linear_finish(l, p + i, row + r, n_here, &sums);
            }
        }
    }
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
    k->ring = (float(*)[PASS][256])(k->low + ITEM_PANELS * ITEM_ROWS * 16);
    uint8_t *at = (uint8_t *)(k->ring + ITEM_PANELS);
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
    const struct linear_share own = linear_share(&l, worker);
    struct linear_walk walk = linear_walk(&l, call, worker, ITEM_PANELS, ITEM_ROWS);
    for (int64_t r = own.first; r < own.end; r += 16) turn_rows(&k, r);
    if (!walk.own && worker->count > 1) fm__worker_barrier(worker);
    tiles_load(&configs[k.n_sub - 1][15]);
    for (struct linear_item i; linear_next(&walk, &i);) item(&k, i.p, i.row, i.n_rows);
    _tile_release();
}
