// SPDX-License-Identifier: MIT
// What the vocabularies of all widths (vec_avx2.h, vec_avx512.h, vec_neon.h) share.
#ifndef FM_DEVICE_CPU_VEC_COMMON_H
#define FM_DEVICE_CPU_VEC_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

INLINE int load_word(const void *p)
{
    int v;
    memcpy(&v, p, 4);
    return v;
}

// activations: codes of a row are `stride` bytes from those of the row before
struct row_codes {
    const int8_t *at;
    size_t stride;
};

#endif
