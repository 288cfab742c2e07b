// SPDX-License-Identifier: MIT
// Measures: log-softmax against libm in f64, the file of base log-probabilities (bytes, round trip, damage), divergence
// against its definition, streams and peak loops.
#include "support/support.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"
#include "base/pool.h"
#include "device/cpu/linear.h"
#include "device/device.h"
#include "eval/bench_linear.h"
#include "eval/kl.h"
#include "eval/logprobs.h"
#include "eval/machine.h"
#include "eval/perplexity.h"
#include "eval/speed.h"
#include "eval/stream.h"

static struct fm_error err;

static uint32_t state = 1;
static float uniform(void) // [0, 1)
{
    state = state * 1664525U + 1013904223U;
    return (float)(state >> 8) / 16777216.0F;
}

static void fill(float *logits, int32_t n, float spread)
{
    for (int32_t i = 0; i < n; i++) logits[i] = spread * (uniform() + uniform() + uniform() - 1.5F);
}

static void exp_is_exp(void **unused)
{
    (void)unused;
    for (float x = 0; x > -86; x -= 0.00137F) {
        double want = exp((double)x), got = (double)fm__exp_negative(x);
        assert_true(fabs(got - want) <= 2.5e-7 * want);
    }
    assert_true(fm__exp_negative(-88) == 0);
    assert_true(fm__exp_negative(-INFINITY) == 0);
    assert_true(fm__exp_negative(0) == 1);
}

static double log_sum(const float *x, int32_t n)
{
    double max = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (int32_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

static void scores(void **unused)
{
    (void)unused;
    static const int32_t sizes[] = {1, 2, 15, 16, 17, 33, 1000, 49152};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t n = sizes[s];
        float *x = malloc((size_t)n * sizeof *x);
        assert_non_null(x);
        fill(x, n, 20);
        struct fm__score score;
        fm__score_row(x, n, &score);
        double want = log_sum(x, n);
        assert_true(fabs((double)score.max + (double)score.log_sum - want) <= 1e-6 * (1 + fabs(want)));
        int32_t top = 0;
        float min = x[0];
        for (int32_t i = 0; i < n; i++) {
            if (x[i] > x[top]) top = i;
            if (x[i] < min) min = x[i];
        }
        assert_int_equal(score.top, top);
        assert_true(score.min == min && score.max == x[top]);
        assert_true(fabs(fm__score_nll(&score, x, n - 1) - (want - (double)x[n - 1])) <= 1e-5);
        free(x);
    }
}

enum { V = 301, CTX = 10, CHUNKS = 3 };

static const char *write_file(const float *logits)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/base", test_tmpdir());
    struct fm__file_writer *w;
    assert_ok(fm__file_writer_open(path, &w, &err), err);
    struct fm__logprobs_head head = {CTX, V, CHUNKS};
    int32_t tokens[CTX * CHUNKS];
    for (int i = 0; i < CTX * CHUNKS; i++) tokens[i] = i * 7 % V;
    assert_ok(fm__logprobs_begin(w, &head, tokens, &err), err);
    size_t bytes = fm__logprobs_row_bytes(V);
    assert_int_equal(bytes, 2 * (302 + 4));
    unsigned char *row = malloc(bytes);
    assert_non_null(row);
    for (int i = 0; i < fm__scored_count(CTX) * CHUNKS; i++) {
        struct fm__score score;
        fm__score_row(logits + (size_t)i * V, V, &score);
        fm__logprobs_encode(logits + (size_t)i * V, V, &score, row);
        assert_ok(fm__file_writer_write(w, row, bytes, &err), err);
    }
    free(row);
    assert_ok(fm__file_writer_commit(w, &err), err);
    fm__file_writer_close(w);
    return path;
}

static float *some_logits(void)
{
    size_t n = (size_t)fm__scored_count(CTX) * CHUNKS * V;
    float *logits = malloc(n * sizeof *logits);
    assert_non_null(logits);
    fill(logits, (int32_t)n, 12);
    for (int i = 0; i < V; i++) logits[i] = 3; // a row of equals: scale 0
    return logits;
}

static void files_round_trip(void **unused)
{
    (void)unused;
    float *logits = some_logits();
    const char *path = write_file(logits);
    struct fm__logprobs_file f;
    assert_ok(fm__logprobs_open(path, &f, &err), err);
    assert_int_equal(f.head.ctx, CTX);
    assert_int_equal(f.head.n_chunks, CHUNKS);
    assert_int_equal(f.tokens[29], 29 * 7 % V);
    size_t bytes = fm__logprobs_row_bytes(V);
    unsigned char *row = malloc(bytes);
    assert_non_null(row);
    float log_p[V];
    for (int32_t chunk = 0; chunk < CHUNKS; chunk++) {
        for (int32_t i = 0; i < fm__scored_count(CTX); i++) {
            assert_ok(fm__logprobs_read(&f, chunk, i, row, &err), err);
            fm__logprobs_decode(row, V, log_p);
            const float *x = logits + ((size_t)chunk * (size_t)fm__scored_count(CTX) + (size_t)i) * V;
            double all = log_sum(x, V), best = -INFINITY;
            for (int t = 0; t < V; t++) best = fmax(best, (double)x[t] - all);
            for (int t = 0; t < V; t++) {
                // a step is a 65535th of at most 16 nats; half of it and the floats' own rounding
                double want = fmax((double)x[t] - all, best - 16);
                assert_true(fabs((double)log_p[t] - want) <= 16.0 / 65535 / 2 + 4e-6);
            }
        }
    }
    free(row);
    fm__logprobs_close(&f);
    free(logits);
}

static void damaged_files(void **unused)
{
    (void)unused;
    float *logits = some_logits();
    const char *path = write_file(logits);
    free(logits);
    size_t n;
    uint8_t *bytes = test_read_file(path, &n);
    char other[512];
    snprintf(other, sizeof other, "%s/damaged", test_tmpdir());
    struct fm__logprobs_file f;
    for (size_t cut = 0; cut < n; cut += cut < 200 ? 1 : 511) {
        assert_ok(fm__file_write_all(other, bytes, cut, &err), err);
        fm_status status = fm__logprobs_open(other, &f, &err);
        assert_true(status == FM_E_FORMAT || status == FM_E_IO);
        assert_null(f.tokens);
    }
    static const struct {
        size_t at;
        uint32_t value;
    } changes[] = {{0, 0},  {8, 3},           {8, 0x80000000}, {8, 0x7fffffff}, {12, 0},         {12, 0x7fffffff},
                   {16, 0}, {16, 0x7fffffff}, {16, 4},         {24, V},         {24, 0xffffffff}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        uint32_t old;
        memcpy(&old, bytes + changes[i].at, 4);
        memcpy(bytes + changes[i].at, &changes[i].value, 4);
        assert_ok(fm__file_write_all(other, bytes, n, &err), err);
        memcpy(bytes + changes[i].at, &old, 4);
        assert_int_equal(fm__logprobs_open(other, &f, &err), FM_E_FORMAT);
    }
    assert_int_equal(fm__logprobs_open("/nonexistent/x", &f, &err), FM_E_NOT_FOUND);
    free(bytes);
}

// D(P‖Q) of a few rows from its definition.
static void divergence(void **unused)
{
    (void)unused;
    enum { ROWS = 40, WINDOW = 10 }; // four windows; of the eight ranges, 0 holds position 0 only, 7 the last two
    double first = 0, last = 0;
    float p[V], q[V], log_p[V];
    unsigned char *row = malloc(fm__logprobs_row_bytes(V));
    assert_non_null(row);
    struct fm__kl kl;
    assert_ok(fm__kl_init(&kl, V, ROWS / WINDOW, WINDOW, &err), err);
    double want = 0, biggest = 0, nll = 0;
    int same = 0;
    for (int r = 0; r < ROWS; r++) {
        fill(p, V, 6);
        for (int i = 0; i < V; i++) q[i] = p[i] + 0.4F * (uniform() - 0.5F);
        struct fm__score sp, sq;
        fm__score_row(p, V, &sp);
        fm__score_row(q, V, &sq);
        fm__logprobs_encode(p, V, &sp, row);
        fm__logprobs_decode(row, V, log_p);
        double all = log_sum(q, V), d = 0;
        for (int i = 0; i < V; i++) d += exp((double)log_p[i]) * ((double)log_p[i] - ((double)q[i] - all));
        want += d;
        biggest = fmax(biggest, d);
        if (r % WINDOW == 0) first += d / (ROWS / WINDOW);
        if (r % WINDOW >= WINDOW - 2) last += d / (2 * ROWS / WINDOW);
        nll += all - (double)q[r];
        same += sp.top == sq.top;
        fm__kl_add(&kl, q, row, r);
    }
    struct fm__kl_result result;
    fm__kl_finish(&kl, &result);
    assert_int_equal(result.n, ROWS);
    assert_true(fabs(result.kl.value - want / ROWS) <= 1e-6);
    assert_true(fabs(result.kl_at[FM__KL_PERCENTILES - 1] - biggest) <= 1e-6);
    assert_true(fabs(result.kl_range[0] - first) <= 1e-6 && fabs(result.kl_range[7] - last) <= 1e-6);
    assert_int_equal(result.range_begin[1], 1);
    assert_int_equal(result.range_begin[7], 8);
    assert_int_equal(result.range_begin[8], WINDOW);
    assert_true(fabs(result.same_top.value - (double)same / ROWS) < 1e-12);
    assert_true(fabs(log(result.ppl.value) - nll / ROWS) <= 1e-5);
    assert_true(result.kl_at[0] <= result.kl_at[4] && result.kl_at[4] <= result.kl_at[8]);
    fm__kl_deinit(&kl);
    free(row);
}

static void means(void **unused)
{
    (void)unused;
    struct fm__mean m = fm__mean_of(1 + 2 + 6, 1 + 4 + 36, 3); // variance of the sample: (4 + 1 + 9) / 2, over 3
    assert_true(fabs(m.value - 3) < 1e-12 && fabs(m.error - sqrt(7.0 / 3)) < 1e-12);
    assert_true(fm__mean_of(0, 0, 0).value == 0);
    assert_int_equal(fm__scored_count(512), 255);
    assert_int_equal(fm__scored_first(512), 256);
}

static void streams_read_everything(void **unused)
{
    (void)unused;
    enum { N = 64 * 37 };
    unsigned char *bytes = malloc(N);
    assert_non_null(bytes);
    for (int i = 0; i < N; i++) bytes[i] = (unsigned char)(uniform() * 256);
    for (size_t n = 0; n <= N; n += 64) {
        uint64_t plain = fm__stream_plain(bytes, n);
#if defined(__x86_64__)
        if (fm__cpu_has(FM__CPU_AVX2)) assert_true(fm__stream_avx2(bytes, n) == plain);
        if (fm__cpu_has(FM__CPU_AVX512)) assert_true(fm__stream_avx512(bytes, n) == plain);
#endif
        if (n == 0) continue;
        bytes[n - 1] ^= 1; // the last line counts
        assert_true(fm__stream_plain(bytes, n) != plain);
        bytes[n - 1] ^= 1;
    }
    struct fm__pool *pool;
    assert_ok(fm__pool_new(3, &pool, &err), err);
    struct fm__stream_part parts[3] = {{bytes, 100}, {bytes, 0}, {bytes + 64, N - 64}};
    assert_true(fm__stream_read(pool, parts, 3) > 0);
    fm__pool_free(pool);
    free(bytes);
}

static void loops_run(void **unused)
{
    (void)unused;
    struct fm__pool *pool;
    assert_ok(fm__pool_new(1, &pool, &err), err);
    int n;
    const struct fm__machine_loop *loops = fm__machine_loops(&n);
    for (int i = 0; i < n; i++) {
        if (!fm__cpu_has(loops[i].level)) {
            printf("skipped: %s does not run here\n", loops[i].name);
            continue;
        }
        assert_true(fm__machine_measure(pool, &loops[i], 1) > 1e6);
    }
    fm__pool_free(pool);
}

// Peaks belong to the instructions that a level may take.
static void peaks_of_a_level(void **unused)
{
    (void)unused;
    struct fm__pool *pool;
    struct fm__machine m;
    assert_ok(fm__pool_new(1, &pool, &err), err);
    assert_ok(fm__machine_run(pool, FM__CPU_REF, &m, &err), err);
    assert_string_equal(m.peak_of[FM__MACHINE_F32], "f32 plain");
    assert_true(m.stream > 0 && m.peak[FM__MACHINE_F32] > 0);
    assert_true(m.peak[FM__MACHINE_INT8] == 0 && m.peak[FM__MACHINE_BF16] == 0);
    fm__pool_free(pool);
}

static void record_cpu(void *context, int index, int count)
{
    (void)count;
    ((int *)context)[index] = sched_getcpu();
}

// A pool of one's own beside the device's has all its threads on one CPU: its creator is pinned there, and threads
// inherit that. What is measured for a device runs on the device's threads.
static void devices_lend_their_threads(void **unused)
{
    (void)unused;
    struct fm_device *device;
    int cpus[2] = {-1, -1};
    int n_threads = fm__pool_default_threads();
    if (n_threads < 2) {
        printf("skipped: one CPU only\n");
        skip();
    }
    assert_ok(fm_device_open("cpu", &(struct fm_device_opts){.threads = 2}, &device, &err), err);
    struct fm__pool *pool = fm__device_pool(device);
    assert_non_null(pool);
    assert_int_equal(fm__pool_size(pool), 2);
    fm__pool_run(pool, record_cpu, cpus);
    assert_int_not_equal(cpus[0], cpus[1]);
    struct fm__machine m;
    assert_ok(fm__machine_of(device, &m, &err), err);
    assert_true(m.stream > 0);
    fm_device_close(device);
    assert_int_equal(fm__pool_default_threads(), n_threads); // the creator has its CPUs back
    assert_ok(fm_device_open("sim", NULL, &device, &err), err);
    assert_null(fm__device_pool(device));
    fm_device_close(device);
}

static void products_alone(void **unused)
{
    (void)unused;
    int level;
    struct fm__pool *pool;
    struct fm__bench_linear got;
    assert_ok(fm__cpu_detect(&level, &err), err);
    assert_ok(fm__pool_new(2, &pool, &err), err);
    struct fm__bench_linear_args args = {
        .dtype = FM_Q4_1, .act = FM_Q8A, .level = FM__CPU_REF, .N = 3, .O = 40, .K = 64, .reps = 5};
    assert_ok(fm__bench_linear(pool, &args, &got, &err), err);
    assert_true(!got.kernel && got.gops == 0); // no kernel at this level, said so
    args.level = level;
    if (fm__linear_kernel(args.dtype, args.act, level, args.N).run) {
        assert_ok(fm__bench_linear(pool, &args, &got, &err), err);
        assert_true(got.kernel && got.seconds > 0 && got.spread >= 0 && got.stream_seconds == 0);
        assert_true(fabs(got.gops * got.seconds * 1e9 / (2.0 * 3 * 40 * 64) - 1) < 1e-9);
        args.copies = 4;
        assert_ok(fm__bench_linear(pool, &args, &got, &err), err);
        assert_true(got.stream_seconds > 0);
        args.K = 65; // half a block
        assert_int_equal(fm__bench_linear(pool, &args, &got, &err), FM_E_ARG);
    } else {
        printf("skipped: no kernel here\n");
    }
    fm__pool_free(pool);
}

static void medians(void **unused)
{
    (void)unused;
    struct fm__speed_result r = {.n_reps = 4, .samples = {4, 1, 3, 2}};
    fm__speed_summarise(&r);
    assert_true(r.value == 2.5 && fabs(r.spread - 3 / 2.5) < 1e-12);
    r.n_reps = 3;
    fm__speed_summarise(&r);
    assert_true(r.value == 3 && r.spread == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_lend_their_threads),
        cmocka_unit_test(exp_is_exp),
        cmocka_unit_test(scores),
        cmocka_unit_test(files_round_trip),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(divergence),
        cmocka_unit_test(means),
        cmocka_unit_test(streams_read_everything),
        cmocka_unit_test(loops_run),
        cmocka_unit_test(peaks_of_a_level),
        cmocka_unit_test(products_alone),
        cmocka_unit_test(medians),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
