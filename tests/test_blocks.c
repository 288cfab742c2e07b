// SPDX-License-Identifier: MIT
// tensor/blocks, tensor/half: decoding equals the gguf package's bit for bit, encoding is near and stable, 16-bit
// floats round as they should for every pattern.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/blocks.h"
#include "tensor/q8a.h"

static void decodes_as_the_gguf_package(void **state)
{
    (void)state;
    size_t size, at = 0;
    uint8_t *file = test_read_file(test_data("blocks.bin"), &size);
    int n_types = 0;
    while (at < size) {
        int32_t head[3];
        memcpy(head, file + at, sizeof head);
        at += sizeof head;
        const fm_dtype dtype = fm_dtype_from_gguf(head[0]);
        const int n = head[1];
        assert_int_equal(fm_dtype_row_bytes(dtype, n), head[2]);
        float *got = malloc((size_t)n * 4);
        uint8_t *odd = malloc((size_t)head[2] + 1); // blocks at an odd address
        memcpy(odd + 1, file + at, (size_t)head[2]);
        assert_true(fm__dequantise_row(dtype, odd + 1, n, got));
        at += (size_t)head[2];
        if (memcmp(got, file + at, (size_t)n * 4)) {
            for (int i = 0; i < n; i++) {
                float want;
                memcpy(&want, file + at + 4 * (size_t)i, 4);
                if (memcmp(&want, got + i, 4))
                    fail_msg("%s: element %d is %a, want %a", fm_dtype_info(dtype)->name, i, got[i], want);
            }
        }
        at += (size_t)n * 4;
        free(got);
        free(odd);
        n_types++;
    }
    assert_int_equal(n_types, 14);
    free(file);
}

// Largest error of a level: half a step of the range a block spans, in units of the block's largest magnitude, with
// room for the rounding of scales to binary16 and to integers.
static const struct {
    fm_dtype dtype;
    float bound;
} bounds[] = {
    {FM_F32, 0},
    {FM_F16, 0x1p-11f},
    {FM_BF16, 0x1p-8f},
    {FM_Q8_0, 0.5f / 127 * 1.01f},
    {FM_Q4_0, 1.01f / 8}, // the code +8 is missing: a whole step at the far end
    {FM_Q4_1, 1.02f / 15},
    {FM_Q5_0, 1.01f / 16},
    {FM_Q5_1, 1.02f / 31},
    {FM_Q2_K, 2.f / 3 * 0.5f + 2.f / 15},
    {FM_Q3_K, 1.f / 4 + 1.f / 32},
    {FM_Q4_K, 1.f / 15 + 1.f / 63},
    {FM_Q5_K, 1.f / 31 + 1.f / 63},
    {FM_Q6_K, 1.f / 32 + 1.f / 128},
    {FM_IQ4_NL, 14.f / 127 + 0.01f},
    {FM_IQ4_XS, 14.f / 127 + 1.f / 32},
};

static void encodes_within_half_a_step(void **state)
{
    (void)state;
    enum { N = 4096 };
    static float x[N], y[N];
    static uint8_t bytes[N * 4], again[N * 4];
    uint32_t seed = 7;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = ((float)(seed >> 8) * 0x1p-23f - 1.f) * (float)(1 + i / 256);
        if (i / 256 == 3) x[i] = 0;
        if (i / 256 == 4) x[i] = fabsf(x[i]);
        if (i / 256 == 5) x[i] = -fabsf(x[i]) - 1;
    }
    for (size_t t = 0; t < sizeof bounds / sizeof *bounds; t++) {
        const fm_dtype dtype = bounds[t].dtype;
        const char *name = fm_dtype_info(dtype)->name;
        assert_true(fm__quantise_row(dtype, x, N, bytes));
        assert_true(fm__dequantise_row(dtype, bytes, N, y));
        for (int b = 0; b < N / 256; b++) {
            float peak = 0;
            for (int i = 0; i < 256; i++) peak = fmaxf(peak, fabsf(x[256 * b + i]));
            for (int i = 256 * b; i < 256 * b + 256; i++)
                if (!(fabsf(x[i] - y[i]) <= bounds[t].bound * peak))
                    fail_msg("%s: element %d: %g became %g", name, i, x[i], y[i]);
        }
        fm__quantise_row(dtype, x, N, again);
        assert_memory_equal(bytes, again, fm_dtype_row_bytes(dtype, N));
    }
    assert_false(fm__quantise_row(FM_I32, x, N, bytes));
    assert_false(fm__dequantise_row(FM_I64, bytes, N, y));
    assert_false(fm__is_weight_type(FM_Q8A));
    assert_false(fm__is_weight_type(FM_DTYPE_COUNT));
}

// q8a: half a step of max / 127 per block of 32; an exact peak; sums as stored; rows below the smallest scale are zero
static void q8a_rows(void **state)
{
    (void)state;
    enum { K = 96 };
    float x[K], y[K];
    uint32_t row[K / 32 * 11];
    for (int i = 0; i < K; i++)
        x[i] = i < 32 ? sinf((float)i * 1.7f) * 3 : i < 64 ? 1e-32f : i == 70 ? -1e30f : (float)i;
    assert_int_equal(fm_dtype_row_bytes(FM_Q8A, K), sizeof row);
    assert_true(fm__quantise_row(FM_Q8A, x, K, row));
    assert_true(fm__dequantise_row(FM_Q8A, row, K, y));
    const int8_t *q = (const int8_t *)row;
    for (int b = 0; b < 3; b++) {
        float peak = 0;
        int sum[2] = {0, 0};
        for (int i = 32 * b; i < 32 * b + 32; i++) {
            peak = fmaxf(peak, fabsf(x[i]));
            sum[i / 16 % 2] += q[i];
        }
        if (b == 1) peak = 0;
        for (int i = 32 * b; i < 32 * b + 32 && b != 1; i++) assert_true(fabsf(x[i] - y[i]) <= peak / 254 * 1.0001f);
        assert_true(fm__q8a_d(row, K)[b] == peak / 127);
        assert_true(fm__q8a_s(row, K)[b] == peak / 127 * (float)(sum[0] + sum[1]));
        assert_int_equal(fm__q8a_h(row, K)[2 * b], sum[0]);
        assert_int_equal(fm__q8a_h(row, K)[2 * b + 1], sum[1]);
    }
    assert_int_equal(q[70], -127);
    for (int i = 32; i < 64; i++) assert_int_equal(q[i], 0);
}

// the codes that integer products use are those that dequantise_row decodes
static void codes_decode_alike(void **state)
{
    (void)state;
    size_t size, at = 0;
    uint8_t *file = test_read_file(test_data("blocks.bin"), &size);
    int n_types = 0;
    while (at < size) {
        int32_t head[3];
        memcpy(head, file + at, sizeof head);
        at += sizeof head;
        const fm_dtype dtype = fm_dtype_from_gguf(head[0]);
        const int elements = fm_dtype_info(dtype)->block_elements;
        struct fm__codes c;
        n_types += fm__block_codes(dtype, file + at, 0, &c);
        for (int i = 0; i < head[1] && elements > 1; i++) {
            float want, got;
            memcpy(&want, file + at + (size_t)head[2] + 4 * (size_t)i, 4);
            const uint8_t *block = file + at + fm_dtype_row_bytes(dtype, i / elements * elements);
            assert_true(fm__block_codes(dtype, block, i % elements / 32, &c));
            got = c.dw[i % 32 / c.n] * (float)c.c[i % 32];
            if (c.has_min) got = got + c.mw[i % 32 / c.n];
            assert_true(got == want);
        }
        at += (size_t)head[2] + (size_t)head[1] * 4;
    }
    assert_int_equal(n_types, 12);
    free(file);
}

static void f16_is_exact_for_every_pattern(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = fm__f16_to_f32((uint16_t)h);
        if (isnan(f)) {
            assert_int_equal(fm__f32_to_f16(f) & 0x7fff, (h & 0x7fff) | 0x200);
            continue;
        }
        const int exponent = h >> 10 & 31, fraction = h & 0x3ff;
        if (exponent < 31) {
            const double want = ldexp(exponent ? 1024 + fraction : fraction, (exponent ? exponent : 1) - 25);
            assert_true((h & 0x8000 ? -want : want) == f);
        }
        assert_int_equal(fm__f32_to_f16(f), h);
        if ((h & 0x7fff) >= 0x7bff) continue;
        // halfway to the next: to even; a hair above: up; a hair below: down
        const float next = fm__f16_to_f32((uint16_t)(h + 1)), mid = (float)(((double)f + next) / 2);
        assert_int_equal(fm__f32_to_f16(mid), h + (h & 1));
        assert_int_equal(fm__f32_to_f16(nextafterf(mid, next)), h + 1);
        assert_int_equal(fm__f32_to_f16(nextafterf(mid, f)), h);
    }
    assert_int_equal(fm__f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(fm__f32_to_f16(65520.f), 0x7c00);
    assert_int_equal(fm__f32_to_f16(-INFINITY), 0xfc00);
}

static void bf16_rounds_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const float f = fm__bf16_to_f32((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(fm__bf16_to_f32(fm__f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(fm__f32_to_bf16(f), h);
        if ((h & 0x7fff) >= 0x7f80) continue;
        assert_int_equal(fm__f32_to_bf16(fm__bits_f32(h << 16 | 0x8000)), h + (h & 1));
        assert_int_equal(fm__f32_to_bf16(fm__bits_f32(h << 16 | 0x8001)), h + 1);
        assert_int_equal(fm__f32_to_bf16(fm__bits_f32(h << 16 | 0x7fff)), h);
    }
    assert_true(isnan(fm__bf16_to_f32(fm__f32_to_bf16(fm__bits_f32(0x7f800001)))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_as_the_gguf_package),
        cmocka_unit_test(encodes_within_half_a_step),
        cmocka_unit_test(q8a_rows),
        cmocka_unit_test(codes_decode_alike),
        cmocka_unit_test(f16_is_exact_for_every_pattern),
        cmocka_unit_test(bf16_rounds_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
