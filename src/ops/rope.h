// SPDX-License-Identifier: MIT
// Angles of rotary embedding, shared by rope, rope_angles and the CPU kernels. In double: the same on every machine,
// and exact enough at a million positions.
#ifndef FM_OPS_ROPE_H
#define FM_OPS_ROPE_H

#include <stdint.h>

#include "ops/attrs.h"

// Radians a position of pair i. factors: per-pair divisors (llama 3's rope_freqs), NULL for none.
double fm__rope_frequency(const struct fm__attr_rope *a, int i, const float *factors);

// angles [n_rot] = the cosines of the n_rot/2 pairs at a position, then their sines, times the attention factor (YaRN).
void fm__rope_turn(const struct fm__attr_rope *a, const double *frequencies, int64_t position, float *angles);

#endif
