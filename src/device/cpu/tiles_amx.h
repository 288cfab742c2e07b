// SPDX-License-Identifier: MIT
// AMX tile shapes as constants. They are static data on purpose: GCC 12 drops stores to a local configuration, because
// its _tile_loadconfig does not say that it reads memory.
#ifndef FM_DEVICE_CPU_TILES_AMX_H
#define FM_DEVICE_CPU_TILES_AMX_H

#include <immintrin.h>
#include <stdint.h>

// Palette 1: bytes a row and rows of each of eight tiles. Intel SDM, LDTILECFG.
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

// Tiles 0-3: sums, m rows of 16; 4, 5: m rows of `bytes`; 6, 7: bytes / 4 rows of 16 quads (or pairs).
#define TILE_SHAPES(m, bytes)                              \
    {                                                      \
        1, 0, {0}, {64, 64, 64, 64, bytes, bytes, 64, 64}, \
        {                                                  \
            m, m, m, m, m, m, (bytes) / 4, (bytes) / 4     \
        }                                                  \
    }
// by m, 1 … 16
#define TILE_SHAPES_16(bytes)                                                                              \
    {                                                                                                      \
        TILE_SHAPES(1, bytes), TILE_SHAPES(2, bytes), TILE_SHAPES(3, bytes), TILE_SHAPES(4, bytes),        \
            TILE_SHAPES(5, bytes), TILE_SHAPES(6, bytes), TILE_SHAPES(7, bytes), TILE_SHAPES(8, bytes),    \
            TILE_SHAPES(9, bytes), TILE_SHAPES(10, bytes), TILE_SHAPES(11, bytes), TILE_SHAPES(12, bytes), \
            TILE_SHAPES(13, bytes), TILE_SHAPES(14, bytes), TILE_SHAPES(15, bytes), TILE_SHAPES(16, bytes) \
    }

static inline void tiles_load(const struct tile_config *config)
{
    __asm__ volatile("" ::: "memory");
    _tile_loadconfig(config);
}

#endif
