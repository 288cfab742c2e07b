// SPDX-License-Identifier: MIT
// For drivers that are one source for all levels but must know theirs, since a kernel is a function of call and worker
// only: X(LEVEL, suffix of the vector file that serves it), ascending.
#ifndef FM_DEVICE_CPU_LEVELS_H
#define FM_DEVICE_CPU_LEVELS_H

#if defined(__x86_64__)
#define FM__VECTOR_LEVELS(X) X(AVX2, avx2) X(AVX512, avx512) X(VNNI, avx512) X(BF16, avx512) X(AMX, avx512)
#elif defined(__aarch64__)
#define FM__VECTOR_LEVELS(X) X(NEON, neon) X(DOTPROD, neon) X(I8MM, neon)
#else
#define FM__VECTOR_LEVELS(X)
#endif

#endif
