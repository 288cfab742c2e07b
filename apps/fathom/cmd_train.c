// SPDX-License-Identifier: MIT
// fathom train: a new model of a known architecture, from random weights. The new model is written first, as a file
// like any other; what follows is what finetune does with all weights.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "catalog.h"
#include "commands.h"
#include "fathom/gguf.h"
#include "model/init.h"
#include "train_run.h"

struct command {
    struct fm_train_run run;
    const char *arch, *tokenizer;
    int64_t layers, d_model, heads, kv_heads, ff, ctx;
    bool untied;
    double deviation;
    char *path; // of the new model
};

static fm_status set(struct fm_gguf *meta, const char *arch, const char *key, const char *type_and_value,
                     struct fm_error *err)
{
    char spec[256];
    snprintf(spec, sizeof spec, "%s%s%s=%s", arch, arch[0] ? "." : "", key, type_and_value);
    return fm_gguf_override(meta, spec, err);
}

static fm_status set_sizes(const struct command *c, struct fm_gguf *meta, struct fm_error *err)
{
    const int64_t ff = c->ff ? c->ff : !strcmp(c->arch, "gpt2") ? 4 * c->d_model : (8 * c->d_model / 3 + 63) / 64 * 64;
    const struct {
        const char *key;
        int64_t value;
    } sizes[] = {{"block_count", c->layers},
                 {"embedding_length", c->d_model},
                 {"attention.head_count", c->heads},
                 {"attention.head_count_kv", c->kv_heads ? c->kv_heads : c->heads},
                 {"feed_forward_length", ff},
                 {"context_length", c->ctx},
                 {"rope.dimension_count", c->d_model / c->heads},
                 {"attention.key_length", c->d_model / c->heads},
                 {"attention.value_length", c->d_model / c->heads}};
    char value[128];
    if (c->d_model % c->heads)
        return fm__fail(err, FM_E_ARG, "--d-model %lld: not a multiple of --heads %lld", (long long)c->d_model,
                        (long long)c->heads);
    snprintf(value, sizeof value, "str:%.100s", c->arch);
    FM_TRY(set(meta, "", "general.architecture", value, err));
    FM_TRY(set(meta, "", "general.name", "str:trained by fathom", err));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(value, sizeof value, "int:%lld", (long long)sizes[i].value);
        FM_TRY(set(meta, c->arch, sizes[i].key, value, err));
    }
    const bool layer_norms = !strcmp(c->arch, "gpt2");
    return set(meta, c->arch, layer_norms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
               "float:1e-5", err);
}

// A run that goes on finds the file that it began with.
static fm_status prepare(void *context, const char *folder, bool make, struct fm_error *err)
{
    struct command *c = context;
    char *tokenizer;
    if (asprintf(&c->path, "%s/initial.gguf", folder) < 0) {
        c->path = NULL;
        return fm__fail_nomem(err, "path", strlen(folder) + 16);
    }
    c->run.args.model = c->path;
    if (!make || (c->run.opts.resume && access(c->path, F_OK) == 0)) return FM_OK;
    struct fm_gguf *meta = NULL;
    FM_TRY(fm__catalog_resolve(c->tokenizer, &tokenizer, err));
    fm_status status = fm_gguf_open(tokenizer, &(struct fm_gguf_open_opts){.vocab_only = true}, &meta, err);
    free(tokenizer);
    if (status == FM_OK) status = set_sizes(c, meta, err);
    for (size_t i = 0; status == FM_OK && i < c->run.args.overrides.n; i++)
        status = fm_gguf_override(meta, c->run.args.override_items[i], err);
    const struct fm__init_opts init = {
        .seed = (uint64_t)c->run.opts.seed, .deviation = c->deviation, .untied = c->untied};
    if (status == FM_OK) status = fm__model_init(c->path, meta, &init, err);
    fm_gguf_close(meta);
    return status;
}

static size_t shape_opts(struct command *c, struct fm_cli_opt out[FM_FINETUNE_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "-o,--out", .type = FM_CLI_STR, .arg = "FILE", .out = &c->run.opts.out, .help = "the model file"},
        {.names = "--tokenizer",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &c->tokenizer,
         .help = "a GGUF file with the vocabulary: `fathom tokenizer train`, or any model [smollm2]"},
        {.names = "--arch",
         .type = FM_CLI_STR,
         .arg = "NAME",
         .out = &c->arch,
         .help = "architecture: llama, qwen2, qwen3, gemma3, gpt2 [llama]"},
        {.names = "--layers",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &c->layers,
         .min = 1,
         .max = 4096,
         .help = "blocks [6]"},
        {.names = "--d-model",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &c->d_model,
         .min = 2,
         .max = 1 << 20,
         .help = "width of the residual stream [384]"},
        {.names = "--heads",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &c->heads,
         .min = 1,
         .max = 1 << 16,
         .help = "heads of attention [6]"},
        {.names = "--kv-heads",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &c->kv_heads,
         .min = 1,
         .max = 1 << 16,
         .help = "of keys and values [as many]"},
        {.names = "--ff",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &c->ff,
         .min = 1,
         .max = 1 << 22,
         .help = "width of the feed-forward [8/3, gpt2 4 times D]"},
        {.names = "--ctx",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &c->ctx,
         .min = 2,
         .max = 1 << 24,
         .help = "longest context [256]"},
        {.names = "--untied", .type = FM_CLI_FLAG, .out = &c->untied, .help = "an output matrix of its own"},
        {.names = "--init",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &c->deviation,
         .max = 10,
         .help = "deviation of first weights [0.02]"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

int fm_cmd_train(int argc, char **argv)
{
    struct command c = {.run = {.name = "train", .prepare = prepare},
                        .arch = "llama",
                        .layers = 6,
                        .d_model = 384,
                        .heads = 6,
                        .ctx = 256};
    struct fm_cli_opt model[FM_CLI_MODEL_OPTS], data[FM_FINETUNE_OPTS], shape[FM_FINETUNE_OPTS],
        steps[FM_FINETUNE_OPTS], rates[FM_FINETUNE_OPTS], runs[FM_FINETUNE_OPTS];
    fm__finetune_defaults(&c.run.opts);
    fm__cli_engine_defaults(&c.run.args);
    c.run.context = &c;
    c.run.opts.rate = 1e-3;
    c.run.opts.dropout = 0;
    c.run.opts.decay = 0.1;
    c.run.opts.type = 1;
    struct fm_cli_spec spec = {
        .name = "train",
        .summary = "a new model, from random weights",
        .args = "FILE…",
        .examples = "  fathom tokenizer train --kind char input.txt -o chars.gguf\n"
                    "  fathom train input.txt --tokenizer chars.gguf --steps 2000 --validation 0.1 -o small.gguf\n"
                    "  fathom generate -m small.gguf -p \"The \"\n",
        .groups = {{"Data", data, fm__finetune_data_opts(&c.run.opts, data)},
                   {"The model", shape, shape_opts(&c, shape)},
                   {"Steps", steps, fm__finetune_step_opts(&c.run.opts, steps)},
                   {"Rates", rates, fm__finetune_rate_opts(&c.run.opts, rates)},
                   {"Run", runs, fm__finetune_run_opts(&c.run.opts, &c.run.args.threads, runs)},
                   {"More", model, fm__cli_model_opts(&c.run.args, model)}},
        .json = &c.run.json,
        .stats = &c.run.stats.on,
        .positionals = &c.run.opts.positionals,
        .min_positionals = 1,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    code = fm__train_run(&c.run);
    free(c.path);
    return code;
}
