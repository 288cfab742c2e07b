// SPDX-License-Identifier: MIT
// Log-softmax by two passes in blocks of 16 that the compiler turns into vectors; the sum is f64 a block.
#include "eval/score.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 16 };

// exp(x) = 2^n · exp(r), r in [-ln2/2, ln2/2]; Taylor to degree 6 leaves 1.2e-7 · 2^-3 at the ends. ln2 in two pieces
// (Cody & Waite 1980) keeps r exact. Rounding by adding 1.5·2^23.
static inline float exp_negative(float x)
{
    float clamped = x < -87.0F ? -87.0F : x;
    float n = (clamped * 1.44269504F + 12582912.0F) - 12582912.0F;
    float r = clamped - n * 0.693359375F;
    r -= n * -2.12194440e-4F;
    float p = 1.0F / 720;
    p = p * r + 1.0F / 120;
    p = p * r + 1.0F / 24;
    p = p * r + 1.0F / 6;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.0F ? 0.0F : p * scale;
}

float fm__exp_negative(float x)
{
    return exp_negative(x);
}

static void extremes(const float *x, int32_t n, struct fm__score *out)
{
    float high[BLOCK], low[BLOCK];
    for (int j = 0; j < BLOCK; j++) high[j] = low[j] = x[0];
    int32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        for (int j = 0; j < BLOCK; j++) high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
        for (int j = 0; j < BLOCK; j++) low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
    }
    for (; i < n; i++) {
        high[0] = x[i] > high[0] ? x[i] : high[0];
        low[0] = x[i] < low[0] ? x[i] : low[0];
    }
    out->max = high[0];
    out->min = low[0];
    for (int j = 1; j < BLOCK; j++) {
        out->max = high[j] > out->max ? high[j] : out->max;
        out->min = low[j] < out->min ? low[j] : out->min;
    }
    out->top = 0;
    while (out->top + 1 < n && x[out->top] != out->max) out->top++;
}

void fm__score_row(const float *logits, int32_t n_vocab, struct fm__score *out)
{
    extremes(logits, n_vocab, out);
    double sum = 0;
    int32_t i = 0;
    for (; i + BLOCK <= n_vocab; i += BLOCK) {
        float e[BLOCK];
        for (int j = 0; j < BLOCK; j++) e[j] = exp_negative(logits[i + j] - out->max);
        for (int half = BLOCK / 2; half; half /= 2) {
            for (int j = 0; j < half; j++) e[j] += e[j + half];
        }
        sum += (double)e[0];
    }
    for (; i < n_vocab; i++) sum += (double)exp_negative(logits[i] - out->max);
    out->log_sum = (float)log(sum);
}
