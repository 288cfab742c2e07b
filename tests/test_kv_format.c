// SPDX-License-Identifier: MIT
// ops/kv_format: what goes into a cache block comes out again, within what the format can hold, and touches nothing
// else.
// test-labels: kernels
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ops/attention.h"
#include "ops/kv_format.h"

static const int shapes[][2] = {{32, 32},   {64, 64}, {80, 80},   {96, 96}, {128, 128},
                                {256, 256}, {20, 36}, {192, 128}, {1, 3}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static float uniform(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) * 0x1p-23f - 1.0f;
}

static void fill(float *x, int n, float scale, uint32_t *seed)
{
    for (int i = 0; i < n; i++) x[i] = scale * uniform(seed);
}

static float largest(const float *x, int n)
{
    float a = 0;
    for (int i = 0; i < n; i++) a = fmaxf(a, fabsf(x[i]));
    return a;
}

// How far a stored element may be from what was written: half a unit in the last place of its type, or half a code of
// 127 of the vector's maximum with the scale's own rounding to 8 bits.
static float tolerance(int format, float x, float top)
{
    switch (format) {
    case FM__KV_F32:
        return 0.0f;
    case FM__KV_F16:
        return fmaxf(fabsf(x) * 0x1p-11f, 0x1p-25f);
    case FM__KV_BF16:
        return fabsf(x) * 0x1p-8f;
    default:
        return top / 127.0f * 0.5f * (1.0f + 0x1p-6f);
    }
}

static void comes_out_as_it_went_in(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int format = 0; format < FM__KV_BUILTIN; format++) {
        const struct fm__kv_format *f = fm__kv_format(format);
        for (int s = 0; s < N_SHAPES; s++) {
            struct fm__kv_dims d = {shapes[s][0], shapes[s][1]};
            size_t bytes = f->block_bytes(&d);
            assert_int_equal(bytes % 64, 0);
            uint8_t *block = aligned_alloc(64, bytes), *before = malloc(bytes);
            float k[256], v[256], k2[256], v2[256];
            for (size_t i = 0; i < bytes; i++) block[i] = (uint8_t)i;
            for (int i = 63; i >= 0; i--) {
                fill(k, d.head_k, i % 3 ? 10.0f : 1e-3f, &seed);
                fill(v, d.head_v, i % 5 ? 0.1f : 100.0f, &seed);
                f->encode(&d, block, i, k, v);
                f->decode(&d, block, i, k2, v2);
                for (int e = 0; e < d.head_k; e++)
                    assert_true(fabsf(k[e] - k2[e]) <= tolerance(format, k[e], largest(k, d.head_k)));
                for (int e = 0; e < d.head_v; e++)
                    assert_true(fabsf(v[e] - v2[e]) <= tolerance(format, v[e], largest(v, d.head_v)));
            }
            memcpy(before, block, bytes); // a second writing of one key leaves the others alone
            f->decode(&d, block, 17, k, v);
            fill(k2, d.head_k, 1, &seed), fill(v2, d.head_v, 1, &seed);
            f->encode(&d, block, 17, k2, v2);
            for (int i = 0; i < 64; i++) {
                float ka[256], va[256], kb[256], vb[256];
                f->decode(&d, before, i, ka, va), f->decode(&d, block, i, kb, vb);
                bool same = !memcmp(ka, kb, sizeof(float) * (size_t)d.head_k) &&
                            !memcmp(va, vb, sizeof(float) * (size_t)d.head_v);
                assert_int_equal(same, i != 17);
            }
            free(block), free(before);
        }
    }
}

static void scores_and_mixes_what_decode_says(void **state)
{
    (void)state;
    uint32_t seed = 2;
    for (int format = 0; format < FM__KV_BUILTIN; format++) {
        const struct fm__kv_format *f = fm__kv_format(format);
        for (int s = 0; s < N_SHAPES; s++) {
            struct fm__kv_dims d = {shapes[s][0], shapes[s][1]};
            uint8_t *block = aligned_alloc(64, f->block_bytes(&d));
            float(*k)[256] = malloc(64 * sizeof *k), (*v)[256] = malloc(64 * sizeof *v);
            float q[3 * 256], scores[3 * 64], p[3 * 64], o[3 * 256], bias[64], inv[64];
            for (int i = 0; i < 64; i++) {
                fill(k[i], d.head_k, 2, &seed), fill(v[i], d.head_v, 2, &seed);
                f->encode(&d, block, i, k[i], v[i]);
                f->decode(&d, block, i, k[i], v[i]);
                inv[i] = 1.0f;
            }
            fill(q, 3 * d.head_k, 1, &seed);
            void *prepared = aligned_alloc(64, 3 * f->query_bytes(&d));
            f->prepare(&d, 3, q, d.head_k, prepared);
            f->score(&d, 3, prepared, block, scores);
            if (f->value_scales) f->value_scales(&d, block, bias, inv);
            for (int i = 0; i < 3 * 64; i++) p[i] = rintf(127.0f * (1.0f + uniform(&seed)));
            f->mix(&d, block, &(struct fm__kv_mix){3, 50, p, o, 256});
            for (int r = 0; r < 3; r++) {
                float q_error = format == FM__KV_INT8 ? largest(q + r * d.head_k, d.head_k) * 0.5f / 127.0f : 0.0f;
                for (int j = 0; j < 64; j++) {
                    double want = 0, size = 0, sum = 0;
                    for (int e = 0; e < d.head_k; e++) {
                        want += (double)q[r * d.head_k + e] * k[j][e];
                        size += fabs((double)q[r * d.head_k + e] * k[j][e]);
                        sum += fabs((double)k[j][e]);
                    }
                    assert_true(fabs(want - scores[r * 64 + j]) <=
                                size * (d.head_k + 4) * 0x1p-24 + sum * q_error * 1.001);
                }
                for (int e = 0; e < d.head_v; e++) {
                    double want = 0, size = 0;
                    for (int j = 0; j < 50; j++) {
                        want += (double)p[r * 64 + j] * v[j][e] * inv[j];
                        size += fabs((double)p[r * 64 + j] * v[j][e] * inv[j]);
                    }
                    assert_true(fabs(want - o[r * 256 + e]) <= size * 52 * 0x1p-24);
                }
            }
            free(block), free(k), free(v), free(prepared);
        }
    }
}

// Values that no model should have must not become undefined behaviour or spoil a neighbour.
static void survives_extremes(void **state)
{
    (void)state;
    const float bad[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-45f, 3e38f, -3e38f, 1e-30f};
    struct fm__kv_dims d = {16, 16};
    for (int format = 0; format < FM__KV_BUILTIN; format++) {
        const struct fm__kv_format *f = fm__kv_format(format);
        uint8_t *block = aligned_alloc(64, f->block_bytes(&d));
        _Alignas(64) unsigned char prepared[256];
        memset(block, 0, f->block_bytes(&d));
        float x[16] = {0}, k[16], v[16], scores[64], one[16], p[64] = {0}, o[16];
        for (int e = 0; e < 16; e++) one[e] = 1.0f;
        f->encode(&d, block, 0, one, one);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            for (int e = 0; e < 16; e++) x[e] = e % 2 ? bad[i] : 1.0f;
            f->encode(&d, block, 1, x, x);
            f->decode(&d, block, 1, k, v);
            f->prepare(&d, 1, x, 16, prepared);
            f->score(&d, 1, prepared, block, scores);
            f->prepare(&d, 1, one, 16, prepared);
            f->score(&d, 1, prepared, block, scores);
            assert_true(fabsf(scores[0] - 16.0f) < 0.2f);
            p[0] = 200.0f;
            f->mix(&d, block, &(struct fm__kv_mix){1, 1, p, o, 16});
            assert_true(o[3] > 0 && o[3] < 1e6f);
            if (format == FM__KV_F16 && !isnan(bad[i])) assert_true(isfinite(k[1]) && isfinite(v[1]));
        }
        free(block);
    }
}

static void table_finds_names(void **state)
{
    (void)state;
    assert_int_equal(fm__kv_format_by_name("f32"), FM__KV_F32);
    assert_int_equal(fm__kv_format_by_name("F16"), FM__KV_F16);
    assert_int_equal(fm__kv_format_by_name("q8_0"), FM__KV_INT8);
    assert_int_equal(fm__kv_format_by_name("int8"), FM__KV_INT8);
    assert_int_equal(fm__kv_format_by_name("q4_0"), -1);
    assert_int_equal(fm__kv_format_by_name(NULL), -1);
    assert_null(fm__kv_format(-1));
    assert_null(fm__kv_format(FM__KV_BUILTIN));
    assert_int_equal(fm__kv_page_bytes(FM__KV_F16, 3, 64, 64), 3 * 64 * 128 * 2);
    assert_int_equal(fm__kv_page_bytes(FM__KV_INT8, 3, 64, 64), 3 * (64 * 128 + 512));
    assert_int_equal(fm__kv_page_bytes(99, 3, 64, 64), 0);
    assert_int_equal(fm__kv_page_bytes(FM__KV_F16, 3, 64, 1 << 20), 0);
    assert_int_equal(fm__kv_page_bytes(FM__KV_F16, -1, 64, 64), 0);
}

// The exponential that every level shares: its error, and its edges.
static void exp2_is_exact_enough(void **state)
{
    (void)state;
    assert_true(fm__exp2(0.0f) == 1.0f && fm__exp2(-3.0f) == 0.125f && fm__exp2(-126.0f) == 0x1p-126f);
    assert_true(fm__exp2(-126.01f) == 0.0f && fm__exp2(-INFINITY) == 0.0f && fm__exp2(NAN) == 0.0f);
    for (float x = -126.0f; x <= 8.0f; x += 0.00137f) // polynomial 0.92e-7, plus six roundings of half an ulp
        assert_true(fabs(fm__exp2(x) / exp2((double)x) - 1.0) < 1e-7 + 3 * 0x1p-24);
    for (float x = -12.0f; x <= 12.0f; x += 0.0011f) assert_true(fabs(fm__tanh(x) - tanh((double)x)) < 4 * 0x1p-24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_out_as_it_went_in), cmocka_unit_test(scores_and_mixes_what_decode_says),
        cmocka_unit_test(survives_extremes),       cmocka_unit_test(table_finds_names),
        cmocka_unit_test(exp2_is_exact_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
