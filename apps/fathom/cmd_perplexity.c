// SPDX-License-Identifier: MIT
// fathom perplexity: how well a model predicts a text, and how far it is from a base model whose log-probabilities were
// kept. Windowing and file are llama.cpp's.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli_engine.h"
#include "cli_input.h"
#include "cli_interrupt.h"
#include "cli_out.h"
#include "cli_settings.h"
#include "cli_stats.h"
#include "cli_trace.h"
#include "commands.h"
#include "eval/kl.h"
#include "eval/logprobs.h"
#include "eval/perplexity.h"

struct command {
    bool json, against; // --kl-divergence
    int ctx, n_chunks;
    const char *base; // --kl-divergence-base
    struct fm_cli_engine_args args;
    struct fm_cli_input input;
    struct fm_cli_stats stats;
    struct fm_cli_trace trace;
    struct fm_cli_engine engine;
    struct fm_cli_progress bar;
    // one of the two, or none
    struct fm__file_writer *writer;
    struct fm__logprobs_file file;
    struct fm__kl kl;
    unsigned char *row;
};

static fm_status write_row(void *context, int32_t chunk, int32_t i, const float *logits, int32_t next,
                           struct fm_error *err)
{
    (void)chunk, (void)i, (void)next;
    struct command *c = context;
    struct fm__score score;
    fm__score_row(logits, c->engine.info.n_vocab, &score);
    fm__logprobs_encode(logits, c->engine.info.n_vocab, &score, c->row);
    return fm__file_writer_write(c->writer, c->row, fm__logprobs_row_bytes(c->engine.info.n_vocab), err);
}

static fm_status compare_row(void *context, int32_t chunk, int32_t i, const float *logits, int32_t next,
                             struct fm_error *err)
{
    struct command *c = context;
    FM_TRY(fm__logprobs_read(&c->file, chunk, i, c->row, err));
    fm__kl_add(&c->kl, logits, c->row, next);
    return FM_OK;
}

static fm_status run_traced(void *context, struct fm_batcher *batcher, struct fm_error *err)
{
    (void)batcher;
    struct command *c = context;
    return fm__cli_trace_run(&c->trace, &c->engine, err);
}

static void on_chunk(void *context, int32_t done, int32_t n_chunks, struct fm__mean so_far)
{
    (void)n_chunks;
    struct command *c = context;
    static const size_t label_size = 64;
    char *label = (char *)(uintptr_t)c->bar.label;
    snprintf(label, label_size, "ppl %.4f, windows", so_far.value);
    fm__cli_progress_update(&c->bar, (uint64_t)done);
}

// The text's tokens; or, for a comparison, the file's.
static fm_status get_tokens(struct command *c, int32_t **tokens, int *n, struct fm_error *err)
{
    if (c->against) {
        FM_TRY(fm__logprobs_open(c->base, &c->file, err));
        if (c->file.head.n_vocab != c->engine.info.n_vocab)
            return fm__fail(err, FM_E_SHAPE, "%s: vocabulary of %d, the model's has %d", c->base, c->file.head.n_vocab,
                            c->engine.info.n_vocab);
        c->ctx = c->file.head.ctx;
        if (!c->n_chunks || c->n_chunks > c->file.head.n_chunks) c->n_chunks = c->file.head.n_chunks;
        *n = c->file.head.n_chunks * c->file.head.ctx;
        *tokens = malloc((size_t)*n * sizeof **tokens);
        if (!*tokens) return fm__fail_nomem(err, "tokens", (size_t)*n * sizeof **tokens);
        memcpy(*tokens, c->file.tokens, (size_t)*n * sizeof **tokens);
        return fm__kl_init(&c->kl, c->engine.info.n_vocab, c->n_chunks, fm__scored_count(c->ctx), err);
    }
    char *text;
    size_t bytes;
    FM_TRY(fm__cli_input_text(&c->input, &text, &bytes, err));
    fm_status status = fm__cli_encode(
        c->engine.tok, &(struct fm_encode_args){.text = text, .n = bytes, .flags = FM_ENCODE_ADD_SPECIAL}, tokens, n,
        err);
    fm__free(text);
    if (status == FM_OK && *n < c->ctx)
        status = fm__fail(err, FM_E_ARG, "the text has %d tokens, want at least a window of %d (--ctx)", *n, c->ctx);
    return status;
}

static fm_status begin_file(struct command *c, const int32_t *tokens, int n, struct fm_error *err)
{
    struct fm__logprobs_head head = {c->ctx, c->engine.info.n_vocab, n / c->ctx};
    if (c->n_chunks && c->n_chunks < head.n_chunks) head.n_chunks = c->n_chunks;
    FM_TRY(fm__file_writer_open(c->base, &c->writer, err));
    return fm__logprobs_begin(c->writer, &head, tokens, err);
}

static fm_status evaluate(struct command *c, struct fm__perplexity_result *result, struct fm_error *err)
{
    int32_t *tokens = NULL;
    int n = 0;
    char label[64] = "windows";
    fm_status status = get_tokens(c, &tokens, &n, err);
    int batch = c->args.n_ubatch ? c->args.n_ubatch : c->args.n_batch ? c->args.n_batch : 512;
    int together = c->base || batch <= c->ctx ? 1 : batch / c->ctx;
    c->args.n_ctx = c->ctx;
    if (status == FM_OK) status = fm__cli_engine_batcher(&c->engine, &c->args, together, err);
    if (status == FM_OK && c->base) {
        c->row = fm__malloc(fm__logprobs_row_bytes(c->engine.info.n_vocab));
        if (!c->row) status = fm__fail_nomem(err, "row", fm__logprobs_row_bytes(c->engine.info.n_vocab));
    }
    fm__cli_interrupt_begin(c->engine.batcher); // from here on a file may be half-written
    if (status == FM_OK && c->base && !c->against) status = begin_file(c, tokens, n, err);
    if (status == FM_OK) {
        int32_t bos = fm_tokenizer_role(c->engine.tok, FM_TOKEN_BOS);
        struct fm__perplexity_args args = {.tokens = tokens,
                                           .n_tokens = n,
                                           .ctx = c->ctx,
                                           .n_chunks = c->n_chunks,
                                           .bos = fm_tokenizer_adds_bos(c->engine.tok) ? bos : -1,
                                           .n_vocab = c->engine.info.n_vocab,
                                           .n_sessions = together,
                                           .row = !c->base     ? NULL
                                                  : c->against ? compare_row
                                                               : write_row,
                                           .run = run_traced,
                                           .progress = on_chunk,
                                           .context = c};
        int windows = n / c->ctx;
        fm__cli_progress_begin(&c->bar, label, 0,
                               (uint64_t)(c->n_chunks && c->n_chunks < windows ? c->n_chunks : windows));
        c->bar.count = true;
        status = fm__perplexity(c->engine.batcher, &args, result, err);
        fm__cli_progress_end(&c->bar);
    }
    if (status == FM_OK && c->writer) status = fm__file_writer_commit(c->writer, err);
    if (c->writer && status != FM_OK) fm__file_writer_close(c->writer), c->writer = NULL;
    fm__cli_interrupt_end();
    free(tokens);
    return status;
}

static json_t *mean_json(struct fm__mean m)
{
    return json_pack("{s:f, s:f}", "value", m.value, "error", m.error);
}

static json_t *kl_json(const struct fm__kl_result *r, int32_t first)
{
    json_t *kl_at = json_object(), *dp_at = json_object(), *depths = json_array();
    for (int i = 0; i < FM__KL_RANGES; i++)
        if (r->range_begin[i] < r->range_begin[i + 1])
            json_array_append_new(depths, json_pack("{s:i, s:i, s:f}", "from", first + r->range_begin[i], "to",
                                                    first + r->range_begin[i + 1] - 1, "kl", r->kl_range[i]));
    for (int i = 0; i < FM__KL_PERCENTILES; i++) {
        char key[16];
        snprintf(key, sizeof key, "%g", 100 * fm__kl_percentiles[i]);
        json_object_set_new(kl_at, key, json_real(r->kl_at[i]));
        json_object_set_new(dp_at, key, json_real(r->dp_at[i]));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o}", "ppl_base", mean_json(r->ppl_base),
                     "log_ratio", mean_json(r->log_ratio), "kl", mean_json(r->kl), "dp", mean_json(r->dp), "dp_rms",
                     mean_json(r->dp_rms), "same_top", mean_json(r->same_top), "correlation", r->correlation,
                     "kl_percentiles", kl_at, "dp_percentiles", dp_at, "kl_by_depth", depths);
}

static void print_kl(const struct fm__kl_result *r, int32_t first)
{
    printf("ppl(base)            %12.4f ± %.5f\n", r->ppl_base.value, r->ppl_base.error);
    printf("ln(ppl/ppl(base))    %12.6f ± %.6f\n", r->log_ratio.value, r->log_ratio.error);
    printf("correlation          %11.3f %%\n", 100 * r->correlation);
    printf("mean KL              %12.6f ± %.6f\n", r->kl.value, r->kl.error);
    for (int i = FM__KL_PERCENTILES - 1; i >= 0; i--)
        printf("  KL at %5.1f %%       %12.6f\n", 100 * fm__kl_percentiles[i], r->kl_at[i]);
    for (int i = 0; i < FM__KL_RANGES; i++)
        if (r->range_begin[i] < r->range_begin[i + 1])
            printf("  at depth %7d … %7d %9.6f\n", first + r->range_begin[i], first + r->range_begin[i + 1] - 1,
                   r->kl_range[i]);
    printf("mean Δp              %11.3f %% ± %.3f\n", 100 * r->dp.value, 100 * r->dp.error);
    printf("RMS Δp               %11.3f %% ± %.3f\n", 100 * r->dp_rms.value, 100 * r->dp_rms.error);
    printf("same top token       %11.3f %% ± %.3f\n", 100 * r->same_top.value, 100 * r->same_top.error);
}

static int report(struct command *c, const struct fm__perplexity_result *r, double seconds)
{
    char hash[FM_CLI_SETTINGS_HEX];
    struct fm__kl_result kl;
    fm__cli_settings_hash(&c->engine, &c->args, hash);
    if (c->against) fm__kl_finish(&c->kl, &kl);
    double tokens_per_s = (double)r->n_chunks * c->ctx / seconds;
    if (c->json) {
        json_t *all =
            json_pack("{s:f, s:f, s:i, s:i, s:I, s:f, s:f, s:s, s:s, s:s, s:i}", "ppl", r->ppl.value, "error",
                      r->ppl.error, "chunks", r->n_chunks, "ctx", c->ctx, "scored", (json_int_t)r->n_scored, "seconds",
                      seconds, "tokens_per_s", tokens_per_s, "settings", hash, "kv", fm__cli_kv_in_use(&c->engine),
                      "level", c->engine.props.level, "threads", c->engine.props.threads);
        json_object_set_new(all, "model", fm__cli_text(c->engine.path, strlen(c->engine.path)));
        if (c->against) json_object_update_new(all, kl_json(&kl, fm__scored_first(c->ctx)));
        fm__cli_stats_json(&c->stats, all);
        return fm__cli_json(all);
    }
    printf("ppl                  %12.4f ± %.5f\n", r->ppl.value, r->ppl.error);
    if (c->against) print_kl(&kl, fm__scored_first(c->ctx));
    printf("windows              %12d of %d tokens, %lld positions scored\n", r->n_chunks, c->ctx,
           (long long)r->n_scored);
    printf("settings             %12s (%s, KV %s, %s, %d threads; %.0f tokens/s)\n", hash, c->engine.info.type,
           fm__cli_kv_in_use(&c->engine), c->engine.props.level, c->engine.props.threads, tokens_per_s);
    fm__cli_stats_print(&c->stats);
    return 0;
}

static int run(struct command *c)
{
    struct fm_error err = {0};
    struct fm__perplexity_result result = {0};
    fm_status status = FM_OK;
    if (c->against && !c->base)
        status = fm__fail(&err, FM_E_ARG, "--kl-divergence needs the base: --kl-divergence-base FILE");
    if (c->ctx < 4) status = fm__fail(&err, FM_E_ARG, "--ctx %d, want at least 4", c->ctx);
    fm__cli_stats_begin(&c->stats);
    if (status == FM_OK) status = fm__cli_trace_begin(&c->trace, &err);
    double began = fm__seconds();
    if (status == FM_OK) status = fm__cli_engine_open(&c->engine, &c->args, &err);
    double begun = fm__seconds();
    if (status == FM_OK) status = fm__cli_trace_span(&c->trace, "load", began, begun, &err);
    if (status == FM_OK) status = evaluate(c, &result, &err);
    if (status == FM_OK) {
        c->stats.prompt_tokens = (int64_t)result.n_chunks * c->ctx;
        c->stats.prompt_seconds = fm__seconds() - begun;
        fm__cli_stats_end(&c->stats, &c->engine);
    }
    fm_status trace = fm__cli_trace_end(&c->trace, status == FM_OK, status ? NULL : &err);
    if (status == FM_OK) status = trace;
    int code = status == FM_OK ? report(c, &result, fm__seconds() - begun) : fm__cli_error("perplexity", &err, c->json);
    fm__file_writer_close(c->writer);
    fm__logprobs_close(&c->file);
    fm__kl_deinit(&c->kl);
    fm__free(c->row);
    fm__cli_engine_close(&c->engine);
    return code;
}

int fm_cmd_perplexity(int argc, char **argv)
{
    struct command c = {.ctx = 512, .file.file.fd = -1};
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS], input_opts[FM_CLI_INPUT_OPTS],
        trace_opts[FM_CLI_TRACE_OPTS];
    fm__cli_engine_defaults(&c.args);
    fm__cli_input_init(&c.input);
    struct fm_cli_opt opts[] = {
        {.names = "--ctx,-c,--ctx-size",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.ctx,
         .max = 1 << 22,
         .help = "tokens a window [512]"},
        {.names = "--chunks",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.n_chunks,
         .max = 1 << 30,
         .help = "only the first N windows [all]"},
        {.names = "--kl-divergence-base,--save-all-logits",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &c.base,
         .help = "write log-probabilities to FILE, or with --kl-divergence read them from it"},
        {.names = "--kl-divergence",
         .type = FM_CLI_FLAG,
         .out = &c.against,
         .help = "compare this model with the base's file (its tokens, its windows)"},
    };
    struct fm_cli_spec spec = {
        .name = "perplexity",
        .summary = "how well a model predicts a text; how far it is from another",
        .args = "[TEXT]",
        .text =
            "The text is cut into windows; the second half of each is scored. Files of log-probabilities are those of\n"
            "llama.cpp's tool, both ways.",
        .examples = "  fathom perplexity -f wiki.txt --chunks 100\n"
                    "  fathom perplexity -m base.gguf -f wiki.txt --kl-divergence-base base.kl\n"
                    "  fathom perplexity -m small.gguf --kl-divergence-base base.kl --kl-divergence --json\n",
        .groups = {{"Text", input_opts, fm__cli_input_opts(&c.input, input_opts)},
                   {"Measure", opts, FM_CLI_N(opts)},
                   {"Model", model_opts, fm__cli_model_opts(&c.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&c.args, run_opts)},
                   {"Output", trace_opts, fm__cli_trace_opts(&c.trace, trace_opts)}},
        .json = &c.json,
        .stats = &c.stats.on,
        .positionals = &c.input.positionals,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    return run(&c);
}
