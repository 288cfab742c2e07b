// SPDX-License-Identifier: MIT
// fathom bench: speed of a model beside its bound, and what the machine can do.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpuinfo.h"
#include "base/error.h"
#include "base/pool.h"
#include "bench_kernels.h"
#include "bench_out.h"
#include "bench_start.h"
#include "cli_engine.h"
#include "cli_out.h"
#include "cli_settings.h"
#include "cli_stats.h"
#include "commands.h"
#include "eval/machine.h"
#include "eval/speed.h"
#include "eval/stream.h"

enum { MAX_LIST = 32, MAX_TESTS = 256 };

struct command {
    bool json, machine, kernels, start;
    int format, reps;
    int64_t pp_items[MAX_LIST], tg_items[MAX_LIST], depth_items[MAX_LIST], together_items[MAX_LIST];
    struct fm_cli_list pp, tg, depth, together;
    const char *svg;
    struct fm_cli_engine_args args;
    struct fm_cli_engine engine;
    struct fm_cli_stats stats;
    struct fm_bench_out out;
    struct fm__speed_test tests[MAX_TESTS];
    struct fm__speed_result *results;
    struct fm_bench_line *lines;
    int n_tests, deepest, most_together;
    char settings[FM_CLI_SETTINGS_HEX];
};

static int ascending(const void *a, const void *b)
{
    return (int)(*(const int64_t *)a > *(const int64_t *)b) - (int)(*(const int64_t *)a < *(const int64_t *)b);
}

static fm_status add_test(struct command *c, const struct fm__speed_test *test, struct fm_error *err)
{
    if (test->n == 0) return FM_OK; // "-p 0" leaves a kind out
    if (c->n_tests == MAX_TESTS) return fm__fail(err, FM_E_ARG, "more than %d tests", MAX_TESTS);
    c->tests[c->n_tests++] = *test;
    if (test->depth + test->n + 1 > c->deepest) c->deepest = test->depth + test->n + 1;
    if (test->n_sessions > c->most_together) c->most_together = test->n_sessions;
    return FM_OK;
}

// The lists' defaults, and the tests in order of depth: contexts are filled once.
static fm_status list_tests(struct command *c, struct fm_error *err)
{
    if (!c->depth.n) c->depth_items[c->depth.n++] = 0;
    if (!c->together.n) c->together_items[c->together.n++] = 1;
    if (!c->pp.n && !c->tg.n) {
        c->pp_items[c->pp.n++] = 512;
        c->tg_items[c->tg.n++] = 128;
    }
    qsort(c->depth_items, c->depth.n, sizeof *c->depth_items, ascending);
    qsort(c->together_items, c->together.n, sizeof *c->together_items, ascending);
    for (size_t d = 0; d < c->depth.n; d++) {
        struct fm__speed_test test = {FM__SPEED_PREFILL, 0, (int)c->depth_items[d], 1};
        for (size_t i = 0; i < c->pp.n; i++) {
            test.n = (int)c->pp_items[i];
            FM_TRY(add_test(c, &test, err));
        }
        test.kind = FM__SPEED_DECODE;
        for (size_t k = 0; k < c->together.n; k++) {
            test.n_sessions = (int)c->together_items[k];
            for (size_t i = 0; i < c->tg.n; i++) {
                test.n = (int)c->tg_items[i];
                FM_TRY(add_test(c, &test, err));
            }
        }
    }
    return FM_OK;
}

static void name_test(const struct fm__speed_test *t, char name[64])
{
    int n = snprintf(name, 64, "%s%d", t->kind == FM__SPEED_DECODE ? "tg" : "pp", t->n);
    if (t->n_sessions > 1) n += snprintf(name + n, 64 - (size_t)n, " x%d", t->n_sessions);
    if (t->depth) snprintf(name + n, 64 - (size_t)n, " @ d%d", t->depth);
}

// What the counted repeats did, for --stats.
static void count(struct command *c, const struct fm__speed_test *t, const struct fm__speed_result *r)
{
    bool decode = t->kind == FM__SPEED_DECODE;
    for (int i = 0; i < r->n_reps; i++) {
        int64_t tokens = (int64_t)t->n * t->n_sessions;
        *(decode ? &c->stats.made_tokens : &c->stats.prompt_tokens) += tokens;
        *(decode ? &c->stats.made_seconds : &c->stats.prompt_seconds) += (double)tokens / r->samples[i];
    }
}

static fm_status run_tests(struct command *c, struct fm__speed *speed, struct fm_error *err)
{
    struct fm_cli_progress bar;
    fm__cli_progress_begin(&bar, "bench", 0, (uint64_t)c->n_tests);
    bar.count = true;
    for (int i = 0; i < c->n_tests; i++) {
        fm__cli_progress_update(&bar, (uint64_t)i);
        fm_status status = fm__speed_run(speed, &c->tests[i], c->reps, &c->results[i], err);
        fm__cli_progress_end(&bar);
        FM_TRY(status);
        count(c, &c->tests[i], &c->results[i]);
        struct fm_bench_line *line = &c->lines[i];
        *line = (struct fm_bench_line){.unit = "tok/s",
                                       .value = c->results[i].value,
                                       .spread = c->results[i].spread,
                                       .bound = c->results[i].bound,
                                       .share = c->results[i].share,
                                       .bound_of = c->results[i].bound_of,
                                       .test = &c->tests[i],
                                       .result = &c->results[i]};
        name_test(&c->tests[i], line->name);
        fm__bench_line(&c->out, line);
    }
    return FM_OK;
}

static fm_status bench_model(struct command *c, struct fm_error *err)
{
    struct fm__speed speed = {0};
    FM_TRY(list_tests(c, err));
    FM_TRY(fm__cli_engine_open(&c->engine, &c->args, err));
    if (!c->args.n_ctx) c->args.n_ctx = c->deepest;
    FM_TRY(fm__cli_engine_batcher(&c->engine, &c->args, c->most_together, err));
    fm__cli_settings_hash(&c->engine, &c->args, c->settings);
    c->out.model = c->engine.info.name;
    c->out.type = c->engine.info.type;
    c->out.kv = fm__cli_kv_in_use(&c->engine);
    c->out.level = c->engine.props.level;
    c->out.threads = c->engine.props.threads;
    c->out.n_batch = c->args.n_ubatch ? c->args.n_ubatch : c->args.n_batch ? c->args.n_batch : 512;
    c->out.settings = c->settings;
    c->results = calloc((size_t)c->n_tests + 1, sizeof *c->results);
    c->lines = calloc((size_t)c->n_tests + 1, sizeof *c->lines);
    if (!c->results || !c->lines) return fm__fail_nomem(err, "results", (size_t)c->n_tests * sizeof *c->results);
    if (c->out.format == FM_BENCH_TEXT)
        printf("%s (%s), KV %s, %s, %d threads, settings %s; tokens/s, median of %d\n", c->out.model, c->out.type,
               c->out.kv, c->out.level, c->out.threads, c->settings, c->reps);
    fm_status status = fm__speed_init(&speed, c->engine.batcher, err);
    if (status == FM_OK) status = run_tests(c, &speed, err);
    c->stats.attended = speed.attended;
    fm__speed_deinit(&speed);
    if (status == FM_OK && c->svg) status = fm__bench_svg(c->svg, &c->out, c->lines, c->n_tests, err);
    return status;
}

static fm_status bench_machine(struct command *c, struct fm_error *err)
{
    struct fm__pool *pool;
    int level, n;
    FM_TRY(fm__cpu_detect(&level, err));
    FM_TRY(fm__pool_new(c->args.threads, &pool, err));
    c->out.level = fm__cpu_level_name(level);
    c->out.threads = fm__pool_size(pool);
    static const struct {
        const char *name;
        size_t bytes;
    } sizes[] = {{"read 256 MiB", (size_t)256 << 20}, {"read 2 MiB", (size_t)2 << 20}, {"read 256 KiB", 256 << 10}};
    fm_status status = FM_OK;
    for (size_t i = 0; status == FM_OK && i < sizeof sizes / sizeof *sizes; i++) {
        struct fm_bench_line line = {.unit = "GB/s"};
        snprintf(line.name, sizeof line.name, "%s", sizes[i].name);
        status = fm__stream_measure(pool, sizes[i].bytes, sizes[i].bytes > 1 << 24 ? 10 : 400, &line.value, err);
        if (status == FM_OK) fm__bench_line(&c->out, &line);
    }
    const struct fm__machine_loop *loops = fm__machine_loops(&n);
    for (int i = 0; status == FM_OK && i < n; i++) {
        if (!fm__cpu_has(loops[i].level)) continue;
        struct fm_bench_line line = {.unit = "GOP/s", .value = fm__machine_measure(pool, &loops[i], 5) * 1e-9};
        snprintf(line.name, sizeof line.name, "%s", loops[i].name);
        fm__bench_line(&c->out, &line);
    }
    fm__pool_free(pool);
    return status;
}

static fm_status run(struct command *c, struct fm_error *err)
{
    if (c->machine + c->kernels + c->start > 1)
        return fm__fail(err, FM_E_ARG, "--machine, --kernels and --start are measures of their own: want one");
    if (c->machine) return bench_machine(c, err);
    if (c->kernels) return fm__bench_kernels(&c->out, c->args.threads, c->reps, err);
    if (c->start) return fm__bench_start(&c->out, &c->args, c->reps, err);
    return bench_model(c, err);
}

int fm_cmd_bench(int argc, char **argv)
{
    struct command c = {.reps = 5, .most_together = 1};
    c.pp = (struct fm_cli_list){c.pp_items, MAX_LIST, 0};
    c.tg = (struct fm_cli_list){c.tg_items, MAX_LIST, 0};
    c.depth = (struct fm_cli_list){c.depth_items, MAX_LIST, 0};
    c.together = (struct fm_cli_list){c.together_items, MAX_LIST, 0};
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS];
    fm__cli_engine_defaults(&c.args);
    struct fm_cli_opt opts[] = {
        {.names = "--pp,-p,--n-prompt",
         .type = FM_CLI_INTS,
         .arg = "N,…",
         .out = &c.pp,
         .max = 1 << 22,
         .help = "tokens of a prompt [512]"},
        {.names = "--tg,-n,--n-gen",
         .type = FM_CLI_INTS,
         .arg = "N,…",
         .out = &c.tg,
         .max = 1 << 22,
         .help = "tokens made one after another [128]"},
        {.names = "--depth,-d,--n-depth",
         .type = FM_CLI_INTS,
         .arg = "N,…",
         .out = &c.depth,
         .max = 1 << 22,
         .help = "tokens before them [0]"},
        {.names = "-np,--parallel",
         .type = FM_CLI_INTS,
         .arg = "N,…",
         .out = &c.together,
         .min = 1,
         .max = 1024,
         .help = "sessions decoding together [1]"},
        {.names = "-r,--reps",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.reps,
         .min = 1,
         .max = FM__SPEED_MAX_REPS,
         .help = "repeats; the median counts [5]"},
        {.names = "--machine",
         .type = FM_CLI_FLAG,
         .out = &c.machine,
         .help = "what the machine can do: bytes read, products made"},
        {.names = "--kernels",
         .type = FM_CLI_FLAG,
         .out = &c.kernels,
         .help = "matrix products alone, by type and size"},
        {.names = "--start",
         .type = FM_CLI_FLAG,
         .out = &c.start,
         .help = "processes: seconds from start to first token, peak memory"},
    };
    struct fm_cli_opt output_opts[] = {
        {.names = "-o,--output",
         .type = FM_CLI_CHOICE,
         .arg = "FORMAT",
         .choices = "text|md|csv|json",
         .out = &c.format,
         .help = "format of the lines [text]"},
        {.names = "--svg", .type = FM_CLI_STR, .arg = "FILE", .out = &c.svg, .help = "draw speed against depth"},
    };
    struct fm_cli_spec spec = {
        .name = "bench",
        .summary = "how fast a model runs, beside what this machine could do at most",
        .text =
            "Each line: median and spread of the repeats, the bound measured among them, and the share of it reached.\n"
            "Decoding is bounded by the bytes it must read, prompts by their products.",
        .examples = "  fathom bench\n  fathom bench --pp 512 --tg 128 --depth 0,4096,8192 --kv int8 --svg speed.svg\n"
                    "  fathom bench --depth 4096,14000 --rope-scaling linear --rope-scale 2 -np 1,16\n"
                    "  fathom bench --machine --json\n  fathom bench --kernels -o md\n  fathom bench --start\n",
        .groups = {{"Tests", opts, FM_CLI_N(opts)},
                   {"Output", output_opts, FM_CLI_N(output_opts)},
                   {"Model", model_opts, fm__cli_model_opts(&c.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&c.args, run_opts)}},
        .json = &c.json,
        .stats = &c.stats.on,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    c.out.format = c.json ? FM_BENCH_JSON : (enum fm_bench_format)c.format;
    struct fm_error err = {0};
    fm__cli_stats_begin(&c.stats);
    fm_status status = run(&c, &err);
    free(c.results);
    free(c.lines);
    if (status == FM_OK) fm__cli_stats_show(&c.stats, &c.engine, c.out.format == FM_BENCH_JSON);
    fm__cli_engine_close(&c.engine);
    if (status != FM_OK) return fm__cli_error("bench", &err, c.json);
    return c.out.failed ? 1 : 0;
}
