// SPDX-License-Identifier: MIT
// Peak loops of AMX: four 16×16 accumulators over two tiles of each operand, all in registers.
#include <immintrin.h>
#include <string.h>

#include "eval/machine.h"

struct config { // as LDTILECFG wants it
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

// Static, and a barrier before its use: gcc 12 does not see that the instruction reads it, and would drop the stores
// into a local one.
static const struct config all_tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

static void begin(void)
{
    static const unsigned char zeroes[64 * 16];
    __asm__ volatile("" ::"m"(all_tiles) : "memory");
    _tile_loadconfig(&all_tiles);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zeroes, 64);
    _tile_loadd(5, zeroes, 64);
    _tile_loadd(6, zeroes, 64);
    _tile_loadd(7, zeroes, 64);
}

static float end(void)
{
    float out[16 * 16];
    memset(out, 0, sizeof out);
    _tile_stored(0, out, 64);
    _tile_release();
    return out[0];
}

float fm__machine_int8_amx(int64_t iterations)
{
    begin();
    for (int64_t i = 0; i < iterations; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    return end();
}

float fm__machine_bf16_amx(int64_t iterations)
{
    begin();
    for (int64_t i = 0; i < iterations; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    return end();
}
