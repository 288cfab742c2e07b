// SPDX-License-Identifier: MIT
// Runs each loop on all workers at once: clocks and ports are shared, so one thread's peak times n would flatter.
#include "eval/machine.h"

#include "base/clock.h"
#include "base/cpuinfo.h"
#include "base/error.h"
#include "base/pool.h"
#include "device/device.h"
#include "eval/stream.h"

enum { LANES = 64 };

static const struct fm__machine_loop loops[] = {
    {"f32 plain", FM__MACHINE_F32, FM__CPU_REF, 2 * LANES, fm__machine_f32_plain},
#if defined(__x86_64__)
    {"f32 fma avx2", FM__MACHINE_F32, FM__CPU_AVX2, 12 * 8 * 2, fm__machine_f32_avx2},
    {"int8 maddubs avx2", FM__MACHINE_INT8, FM__CPU_AVX2, 8 * 32 * 2, fm__machine_int8_avx2},
    {"f32 fma avx512", FM__MACHINE_F32, FM__CPU_AVX512, 12 * 16 * 2, fm__machine_f32_avx512},
    {"int8 dpbusd vnni", FM__MACHINE_INT8, FM__CPU_VNNI, 12 * 64 * 2, fm__machine_int8_vnni},
    {"bf16 dpbf16 avx512", FM__MACHINE_BF16, FM__CPU_BF16, 12 * 32 * 2, fm__machine_bf16_bf16},
    {"int8 tiles amx", FM__MACHINE_INT8, FM__CPU_AMX, 4 * 16 * 16 * 64 * 2, fm__machine_int8_amx},
    {"bf16 tiles amx", FM__MACHINE_BF16, FM__CPU_AMX, 4 * 16 * 16 * 32 * 2, fm__machine_bf16_amx},
#elif defined(__aarch64__)
    {"f32 fma neon", FM__MACHINE_F32, FM__CPU_NEON, 12 * 4 * 2, fm__machine_f32_neon},
    {"int8 dot neon", FM__MACHINE_INT8, FM__CPU_DOTPROD, 12 * 16 * 2, fm__machine_int8_dotprod},
    {"int8 mmla neon", FM__MACHINE_INT8, FM__CPU_I8MM, 12 * 32 * 2, fm__machine_int8_i8mm},
#endif
};

const struct fm__machine_loop *fm__machine_loops(int *n)
{
    *n = (int)(sizeof loops / sizeof *loops);
    return loops;
}

float fm__machine_f32_plain(int64_t iterations)
{
    float sums[LANES];
    for (int j = 0; j < LANES; j++) sums[j] = (float)j;
    volatile float factor_seen = 0.999F, term_seen = 0.001F; // else the compiler works it out beforehand
    float factor = factor_seen, term = term_seen;
    for (int64_t i = 0; i < iterations; i++) {
        for (int j = 0; j < LANES; j++) sums[j] = sums[j] * factor + term;
    }
    for (int j = 1; j < LANES; j++) sums[0] += sums[j];
    return sums[0];
}

struct run {
    const struct fm__machine_loop *loop;
    int64_t iterations;
    float sink[256];
};

static void worker(void *context, int index, int count)
{
    (void)count;
    struct run *run = context;
    run->sink[index & 255] = run->loop->run(run->iterations);
}

static double seconds(struct fm__pool *pool, struct run *run)
{
    double begun = fm__seconds();
    fm__pool_run(pool, worker, run);
    return fm__seconds() - begun;
}

double fm__machine_measure(struct fm__pool *pool, const struct fm__machine_loop *loop, int reps)
{
    struct run run = {.loop = loop, .iterations = 1000};
    double best = 0;
    while (seconds(pool, &run) < 0.015 && run.iterations < INT64_C(1) << 40) run.iterations *= 2;
    for (int i = 0; i < reps; i++) {
        double t = seconds(pool, &run);
        double rate = (double)run.iterations * (double)loop->ops * fm__pool_size(pool) / t;
        if (rate > best) best = rate;
    }
    return best;
}

fm_status fm__machine_run(struct fm__pool *pool, int level, struct fm__machine *out, struct fm_error *err)
{
    *out = (struct fm__machine){0};
    fm_status status = fm__stream_measure(pool, (size_t)256 << 20, 5, &out->stream, err);
    if (status != FM_OK) return status;
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        if (loops[i].level > level || !fm__cpu_has(loops[i].level)) continue;
        double rate = fm__machine_measure(pool, &loops[i], 5) * 1e-9;
        if (rate <= out->peak[loops[i].kind]) continue;
        out->peak[loops[i].kind] = rate;
        out->peak_of[loops[i].kind] = loops[i].name;
    }
    return FM_OK;
}

fm_status fm__machine_of(struct fm_device *device, struct fm__machine *out, struct fm_error *err)
{
    struct fm_device_props props;
    struct fm__pool *own = NULL, *pool = fm__device_pool(device);
    int level;
    fm_device_get_props(device, &props);
    FM_TRY(fm__cpu_choose(props.level, &level, err));
    if (!pool) FM_TRY(fm__pool_new(0, &own, err));
    fm_status status = fm__machine_run(pool ? pool : own, level, out, err);
    fm__pool_free(own);
    return status;
}
