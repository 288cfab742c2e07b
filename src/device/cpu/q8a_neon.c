// SPDX-License-Identifier: MIT
// Rows to q8a in 128 bits: see q8a_avx2.c.
#include <arm_neon.h>

#include "device/cpu/linear.h"

void fm__q8a_quantise_row_neon(const float *x, int64_t K, void *dst)
{
    int8_t *q = dst;
    float *d = (float *)fm__q8a_d(dst, K), *s = (float *)fm__q8a_s(dst, K);
    int16_t *h = (int16_t *)fm__q8a_h(dst, K);
    for (int64_t b = 0; b < K / 32; b++, x += 32, q += 32) {
        float32x4_t v[8], peaks = vdupq_n_f32(0);
        for (int i = 0; i < 8; i++) {
            v[i] = vld1q_f32(x + 4 * i);
            peaks = vmaxq_f32(peaks, vabsq_f32(v[i]));
        }
        const float peak = vmaxvq_f32(peaks);
        const bool zero = peak < 0x1p-100f;
        const float32x4_t inverse = vdupq_n_f32(zero ? 0 : 127 / peak);
        int sum[2];
        for (int half = 0; half < 2; half++) {
            int32x4_t c[4];
            for (int i = 0; i < 4; i++) c[i] = vcvtnq_s32_f32(vmulq_f32(v[4 * half + i], inverse)); // rounds to even
            const int16x8_t words0 = vcombine_s16(vmovn_s32(c[0]), vmovn_s32(c[1]));
            const int16x8_t words1 = vcombine_s16(vmovn_s32(c[2]), vmovn_s32(c[3]));
            vst1q_s8(q + 16 * half, vcombine_s8(vmovn_s16(words0), vmovn_s16(words1)));
            sum[half] = vaddvq_s16(vaddq_s16(words0, words1)); // 16 codes of 127 at most
            h[2 * b + half] = (int16_t)sum[half];
        }
        d[b] = zero ? 0 : peak / 127;
        s[b] = d[b] * (float)(sum[0] + sum[1]);
    }
}
