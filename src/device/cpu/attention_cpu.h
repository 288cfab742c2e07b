// SPDX-License-Identifier: MIT
// Attention and kv_write on CPU workers. One driver for all levels; a level brings faster twins of the table functions
// of ops/kv_format.h, and of what stands between them. Whatever is chosen, the bytes are those of the reference.
#ifndef FM_DEVICE_CPU_ATTENTION_CPU_H
#define FM_DEVICE_CPU_ATTENTION_CPU_H

#include "device/cpu/worker.h"
#include "ops/attention.h"

// Twins for one built-in format; NULL: the next lower level's, at last the reference's.
struct fm__attend_twin {
    fm__attend_fn *attend;
    void (*prepare)(const struct fm__kv_dims *d, int n_rows, const float *q, int64_t q_stride, void *prepared);
    void (*encode)(const struct fm__kv_dims *d, void *block, int i, const float *k, const float *v);
};

// fm__attend_join of n columns, row by row.
typedef void fm__attend_join_fn(int n_rows, int n, int64_t stride, const struct fm__attend_state *to,
                                const struct fm__attend_state *from);

struct fm__attend_level {
    int cpu_level; // enum fm__cpu_level
    struct fm__attend_twin formats[FM__KV_BUILTIN];
    fm__attend_join_fn *join; // NULL as above, finish too
    fm__attend_finish_fn *finish;
};

// What the driver calls for a format at a level: never NULL inside. Formats beyond the built-in ones get the reference.
struct fm__attend_kernels {
    const struct fm__kv_format *format;
    struct fm__attend_twin twin;
    fm__attend_join_fn *join;
    fm__attend_finish_fn *finish;
};
struct fm__attend_kernels fm__attend_kernels(int format, int cpu_level);

// Levels that a CPU file defines.
#if defined(__x86_64__)
extern const struct fm__attend_level fm__attend_avx2, fm__attend_avx512, fm__attend_vnni, fm__attend_amx;
#elif defined(__aarch64__)
extern const struct fm__attend_level fm__attend_neon, fm__attend_dotprod;
#endif

// The kernels of the ops: one per level, all the same driver; never NULL (levels without twins get the reference's).
fm__kernel_fn *fm__cpu_attention(int cpu_level);
fm__kernel_fn *fm__cpu_kv_write(int cpu_level);

// Shared workspace of the attention kernel for a call with `call->rows` rows at most and this page table.
size_t fm__cpu_attention_workspace(const struct fm__call *call, int n_workers);

#endif
