// SPDX-License-Identifier: MIT
// What this machine can do at most: bytes streamed, and multiply-accumulates that touch no memory. The limits that
// speeds are held against, measured rather than looked up: the same CPU in another virtual machine has others.
#ifndef FM_EVAL_MACHINE_H
#define FM_EVAL_MACHINE_H

#include <stdint.h>

#include "fathom/status.h"

struct fm__pool;
struct fm_device;

enum fm__machine_kind { FM__MACHINE_F32, FM__MACHINE_BF16, FM__MACHINE_INT8, FM__MACHINE_KINDS };

// A loop of independent multiply-accumulates, kept in registers.
struct fm__machine_loop {
    const char *name; // "int8 vnni"
    enum fm__machine_kind kind;
    int level;                        // enum fm__cpu_level that it needs
    int64_t ops;                      // an iteration: a multiply and an addition are two
    float (*run)(int64_t iterations); // returns something that depends on all of it
};

// The loops compiled into this build, by architecture; n of them. Not all run here: see `level`.
const struct fm__machine_loop *fm__machine_loops(int *n);

// Operations a second of all workers together, the best of `reps` runs of about 30 ms.
double fm__machine_measure(struct fm__pool *pool, const struct fm__machine_loop *loop, int reps);

struct fm__machine {
    double stream;                          // GB/s from memory, 256 MiB read
    double peak[FM__MACHINE_KINDS];         // GOP/s, the best loop of the kind; 0: no such instruction here
    const char *peak_of[FM__MACHINE_KINDS]; // which loop that was
};

// With the loops that kernels of `level` (enum fm__cpu_level) and below may use.
fm_status fm__machine_run(struct fm__pool *pool, int level, struct fm__machine *out, struct fm_error *err);
// The same with a device's own threads and level.
fm_status fm__machine_of(struct fm_device *device, struct fm__machine *out, struct fm_error *err);

float fm__machine_f32_plain(int64_t iterations);
float fm__machine_f32_avx2(int64_t iterations);
float fm__machine_int8_avx2(int64_t iterations);
float fm__machine_f32_avx512(int64_t iterations);
float fm__machine_int8_vnni(int64_t iterations);
float fm__machine_bf16_bf16(int64_t iterations);
float fm__machine_int8_amx(int64_t iterations);
float fm__machine_bf16_amx(int64_t iterations);
float fm__machine_f32_neon(int64_t iterations);
float fm__machine_int8_dotprod(int64_t iterations);
float fm__machine_int8_i8mm(int64_t iterations);

#endif
