// SPDX-License-Identifier: MIT
// Angles of rotary embedding, shared by the reference and the CPU kernels.
#ifndef FM_OPS_ROPE_H
#define FM_OPS_ROPE_H

#include <stdint.h>

#include "ops/attrs.h"

// cos and sin of the n_rot/2 angles at a position, already multiplied by the attention factor (YaRN). factors: per-pair
// divisors of the base frequency (llama 3's rope_freqs), NULL for none. Computed in double: the same on every machine.
void fm__rope_angles(const struct fm__attr_rope *a, int64_t position, const float *factors, float *cosines,
                     float *sines);

#endif
