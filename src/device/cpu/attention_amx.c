// SPDX-License-Identifier: MIT
// Attention over int8 blocks with AMX tiles: 16 rows times 16 keys (or 16 value columns) times 64 bytes an instruction.
// What stands between the products is that of attention_int8_zmm.h, so the bytes are those of VNNI. Tiles are loaded
// while the vector units work on the block before.
#include <immintrin.h>
#include <stdint.h>

#define DOT4(acc, u, s) _mm512_dpbusd_epi32(acc, u, s)
#include "device/cpu/attention_int8_zmm.h"

#include "base/cpuinfo.h"

// Tiles 0-3: sums. 4: queries or probabilities, 5: keys or values. 6, 7: 4 and 5 for the last k_pad % 64 elements.
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_a_row[16];
    uint8_t rows[16];
};

FM_ALWAYS void configure(int n_rows, int k_tail)
{
    struct tile_config c = {.palette = 1};
    for (int i = 0; i < 6; i++) c.bytes_a_row[i] = 64, c.rows[i] = i == 5 ? 16 : (uint8_t)n_rows;
    if (k_tail) {
        c.bytes_a_row[6] = (uint16_t)k_tail, c.rows[6] = (uint8_t)n_rows;
        c.bytes_a_row[7] = 64, c.rows[7] = (uint8_t)(k_tail / 4);
    }
    // not the intrinsic: gcc 12 does not see that it reads c
    __asm__ volatile("ldtilecfg %0" : : "m"(c));
}

// gcc 12's tile loads do not say that they read memory either.
FM_ALWAYS void stores_before_tiles(void)
{
    __asm__ volatile("" : : : "memory");
}

// s [16, 64] i32; excess [16, 16]: what the dots start from.
FM_ALWAYS void tile_scores(const struct fm__attend *t, const struct int8_tile *g, const void *block, const void *excess,
                           int32_t *s)
{
    const char *q = t->prepared, *keys = block;
    const size_t group = (size_t)16 * g->k_pad;
    int e = 0;
    stores_before_tiles();
    _tile_loadd(0, excess, 64);
    _tile_loadd(1, excess, 64);
    _tile_loadd(2, excess, 64);
    _tile_loadd(3, excess, 64);
    for (; e + 64 <= g->k_pad; e += 64) {
        _tile_loadd(4, q + e, g->query_bytes);
        _tile_loadd(5, keys + e * 16, 64);
        _tile_dpbsud(0, 4, 5);
        _tile_loadd(5, keys + group + e * 16, 64);
        _tile_dpbsud(1, 4, 5);
        _tile_loadd(5, keys + 2 * group + e * 16, 64);
        _tile_dpbsud(2, 4, 5);
        _tile_loadd(5, keys + 3 * group + e * 16, 64);
        _tile_dpbsud(3, 4, 5);
    }
    if (e < g->k_pad) {
        _tile_loadd(6, q + e, g->query_bytes);
        _tile_loadd(7, keys + e * 16, 64);
        _tile_dpbsud(0, 6, 7);
        _tile_loadd(7, keys + group + e * 16, 64);
        _tile_dpbsud(1, 6, 7);
        _tile_loadd(7, keys + 2 * group + e * 16, 64);
        _tile_dpbsud(2, 6, 7);
        _tile_loadd(7, keys + 3 * group + e * 16, 64);
        _tile_dpbsud(3, 6, 7);
    }
    _tile_stored(0, s, FM__KV_BLOCK * 4);
    _tile_stored(1, s + 16, FM__KV_BLOCK * 4);
    _tile_stored(2, s + 32, FM__KV_BLOCK * 4);
    _tile_stored(3, s + 48, FM__KV_BLOCK * 4);
}

FM_ALWAYS void tile_mix(const struct int8_tile *g, const uint8_t *p, const void *block, int32_t *o)
{
    const char *values = (const char *)block + g->values_at;
    const size_t stride = (size_t)4 * g->v_pad;
    int e = 0;
    stores_before_tiles();
    _tile_loadd(4, p, FM__KV_BLOCK);
    for (; e + 64 <= g->v_pad; e += 64) {
        _tile_zero(0);
        _tile_loadd(5, values + e * 4, stride);
        _tile_dpbusd(0, 4, 5);
        _tile_zero(1);
        _tile_loadd(5, values + e * 4 + 64, stride);
        _tile_dpbusd(1, 4, 5);
        _tile_zero(2);
        _tile_loadd(5, values + e * 4 + 128, stride);
        _tile_dpbusd(2, 4, 5);
        _tile_zero(3);
        _tile_loadd(5, values + e * 4 + 192, stride);
        _tile_dpbusd(3, 4, 5);
        _tile_stored(0, o + e, stride);
        _tile_stored(1, o + e + 16, stride);
        _tile_stored(2, o + e + 32, stride);
        _tile_stored(3, o + e + 48, stride);
    }
    for (; e < g->v_pad; e += 16) {
        _tile_zero(0);
        _tile_loadd(5, values + e * 4, stride);
        _tile_dpbusd(0, 4, 5);
        _tile_stored(0, o + e, stride);
    }
}

// Products run a step ahead of the vector units or a step behind them, so that nobody waits for the other:
//   scores of block i + 1 | o joined with block i - 1 | probabilities of i | mix of i | maxima of i + 1
static void attend_tile(const struct fm__kv_format *f, const struct fm__attend *t)
{
    if (t->n_rows <= FEW_ROWS) { // measured: no faster with tiles, memory is what they wait for
        attend_int8(f, t);
        return;
    }
    struct zmm_scratch *w = (struct zmm_scratch *)t->scratch;
    struct int8_tile g = int8_begin(f, t);
    const struct block_list list = blocks_to_visit(t);
    struct int8_block now = {0, 0, w->s[0], (uint8_t *)w->p, &w->factors[0]};
    struct int8_block next = {0, 0, w->s[1], (uint8_t *)w->p, &w->factors[1]};
    for (int r = 0; r < t->n_rows; r++)
        _mm512_store_si512(w->excess[r], _mm512_set1_epi32(-query_tail(&g, t->prepared, r).excess));
    configure(t->n_rows, g.k_pad % 64);
    if (list.n) {
        now.b = list.b[0];
        tile_scores(t, &g, t->blocks[now.b], w->excess, (int32_t *)now.s);
        block_scores_done(t, &g, w, now, list.masked[0]);
        join_maxima(w, &g.state, g.log2_top, now.f);
    }
    for (int i = 0; i < list.n; i++) {
        const bool more = i + 1 < list.n;
        next.b = more ? list.b[i + 1] : 0;
        if (more) tile_scores(t, &g, t->blocks[next.b], w->excess, (int32_t *)next.s);
        if (i) int8_join(t, &g, w, next); // its factors are still those of block i - 1
        block_probabilities(t, &g, w, now, list.masked[i]);
        join_sums(w, &g.state, now.f);
        tile_mix(&g, now.p, t->blocks[now.b], (int32_t *)w->ob);
        if (more) {
            block_scores_done(t, &g, w, next, list.masked[i + 1]);
            join_maxima(w, &g.state, g.log2_top, next.f);
        }
        const struct int8_block done = now;
        now = next, next = done;
    }
    _tile_release();
    if (list.n) int8_join(t, &g, w, next);
    end_rows(t, &g.state);
}

const struct fm__attend_level fm__attend_amx = {
    .cpu_level = FM__CPU_AMX,
    .formats[FM__KV_INT8] = {.attend = attend_tile},
};
