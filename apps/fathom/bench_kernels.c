// SPDX-License-Identifier: MIT
// The types and sizes of bench --kernels. Peaks are those of the instructions that the level in use may take, so that
// FATHOM_CPU=vnni holds VNNI's kernels against VNNI's peak on a machine that has tiles.
#include "bench_kernels.h"

#include <inttypes.h>

#include "base/cpuinfo.h"
#include "base/error.h"
#include "base/pool.h"
#include "eval/bench_linear.h"
#include "eval/machine.h"

// Rows of x, rows and columns of W: a prompt through a small and a large model's matrices, then single tokens.
static const struct {
    int64_t N, O, K;
} sizes[] = {{512, 1536, 576}, {2048, 1536, 1536}, {1, 1536, 576}, {1, 1536, 1536}};

// Products of a training step: of a small model and of GPT-2's feed-forward layer, W in rows order.
static const struct {
    int64_t N, O, K;
} training[] = {{512, 1536, 576}, {4096, 3072, 768}};

// Weights of single tokens come from memory: many copies in turn, more than caches hold.
enum { COLD_BYTES = 128 << 20, SINGLE_REPS = 51 };

static const fm_dtype acts[] = {FM_F32, FM_BF16, FM_Q8A, FM_Q8R};
enum { N_ACTS = sizeof acts / sizeof *acts };

static enum fm__machine_kind kind_of(fm_dtype act)
{
    return act == FM_F32 ? FM__MACHINE_F32 : act == FM_BF16 ? FM__MACHINE_BF16 : FM__MACHINE_INT8;
}

// Pairs that have a line though there may be no kernel: plain types with themselves, blocks with blocks of int8.
static bool wanted(fm_dtype dtype, fm_dtype act)
{
    if (dtype == FM_F32 || dtype == FM_BF16) return act == dtype;
    if (dtype == FM_I8) return act == FM_Q8R;
    if (dtype == FM_F16) return act == FM_F32;
    return act == FM_Q8A;
}

static bool is_plain(fm_dtype dtype)
{
    return dtype == FM_F32 || dtype == FM_F16 || dtype == FM_BF16 || dtype == FM_I8;
}

// The line of a measure: GOP/s beside the lower of the peak and what the weights' bytes let through.
static void fill_line(const struct fm__bench_linear_args *a, const struct fm__bench_linear *got,
                      const struct fm__machine *machine, struct fm_bench_line *line)
{
    enum fm__machine_kind kind = kind_of(a->act);
    if (machine->peak[kind] < machine->peak[FM__MACHINE_F32]) kind = FM__MACHINE_F32; // then that is the better way
    double by_bytes = got->stream_seconds > 0 ? got->gops * got->seconds / got->stream_seconds : machine->peak[kind];
    bool streamed = by_bytes < machine->peak[kind];
    line->kernel = got->kernel;
    line->value = got->gops;
    line->bound = streamed ? by_bytes : machine->peak[kind];
    line->bound_of = streamed ? "bytes streamed" : machine->peak_of[kind];
    line->share = line->value / line->bound;
    line->spread = got->spread;
}

static fm_status one(struct fm_bench_out *out, struct fm__pool *pool, struct fm__bench_linear_args *args,
                     const struct fm__machine *machine, struct fm_error *err)
{
    struct fm__bench_linear got;
    struct fm_bench_line line = {.unit = "GOP/s"};
    FM_TRY(fm__bench_linear(pool, args, &got, err));
    if (!got.kernel && !wanted(args->dtype, args->act)) return FM_OK;
    static const char *const forms[] = {[FM__BENCH_Y] = "", [FM__BENCH_DX] = "dx ", [FM__BENCH_DW] = "dw "};
    snprintf(line.name, sizeof line.name, "%s%s x %s%s %" PRId64 "x%" PRId64 "x%" PRId64, forms[args->form],
             fm_dtype_info(args->act)->name, fm_dtype_info(args->dtype)->name, args->rows ? " rows" : "", args->N,
             args->O, args->K);
    line.kernel = "reference";
    line.none = !got.kernel;
    if (got.kernel) fill_line(args, &got, machine, &line);
    fm__bench_line(out, &line);
    return FM_OK;
}

static fm_status of_type(struct fm_bench_out *out, struct fm__pool *pool, struct fm__bench_linear_args *args,
                         const struct fm__machine *machine, struct fm_error *err)
{
    const int reps = args->reps;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        args->N = sizes[i].N;
        args->O = sizes[i].O;
        args->K = sizes[i].K;
        int64_t bytes = args->O * (int64_t)fm_dtype_row_bytes(args->dtype, args->K);
        if (bytes == 0) continue; // a K that is no whole number of this type's blocks
        args->copies = args->N == 1 ? COLD_BYTES / bytes + 1 : 1;
        args->reps = args->N == 1 ? SINGLE_REPS : reps;
        fm_status status = one(out, pool, args, machine, err);
        args->reps = reps;
        FM_TRY(status);
    }
    return FM_OK;
}

// y, dx and dW in f32 and bf16; W is f32.
static fm_status of_training(struct fm_bench_out *out, struct fm__pool *pool, int level, int reps,
                             const struct fm__machine *machine, struct fm_error *err)
{
    for (size_t i = 0; i < 2 * sizeof training / sizeof *training; i++)
        for (int form = FM__BENCH_Y; form <= FM__BENCH_DW; form++) {
            const fm_dtype act = i & 1 ? FM_BF16 : FM_F32;
            struct fm__bench_linear_args args = {.form = (enum fm__bench_form)form,
                                                 .dtype = form == FM__BENCH_DW ? act : FM_F32,
                                                 .act = act,
                                                 .rows = form != FM__BENCH_DW,
                                                 .level = level,
                                                 .N = training[i / 2].N,
                                                 .O = training[i / 2].O,
                                                 .K = training[i / 2].K,
                                                 .reps = reps};
            FM_TRY(one(out, pool, &args, machine, err));
        }
    return FM_OK;
}

fm_status fm__bench_kernels(struct fm_bench_out *out, int threads, int reps, struct fm_error *err)
{
    struct fm__pool *pool;
    struct fm__machine machine;
    int level;
    FM_TRY(fm__cpu_detect(&level, err));
    FM_TRY(fm__pool_new(threads, &pool, err));
    out->level = fm__cpu_level_name(level);
    out->threads = fm__pool_size(pool);
    fm_status status = fm__machine_run(pool, level, &machine, err);
    for (int d = 0; d < FM_DTYPE_COUNT && status == FM_OK; d++) {
        bool blocks = fm_dtype_info((fm_dtype)d)->block_elements >= 32 && fm_dtype_info((fm_dtype)d)->gguf_type >= 0;
        if (!blocks && !is_plain((fm_dtype)d)) continue;
        for (int i = 0; i < N_ACTS && status == FM_OK; i++) {
            if (blocks && acts[i] != FM_Q8A) continue; // what inference takes
            struct fm__bench_linear_args args = {.dtype = (fm_dtype)d, .act = acts[i], .level = level, .reps = reps};
            status = of_type(out, pool, &args, &machine, err);
        }
    }
    if (status == FM_OK) status = of_training(out, pool, level, reps, &machine, err);
    fm__pool_free(pool);
    return status;
}
