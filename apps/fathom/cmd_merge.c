// SPDX-License-Identifier: MIT
// fathom merge: a model and its adapters as one model file; measured against the two apart where weights are rounded
// again, and given up where the difference is too large.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "cli_engine.h"
#include "cli_input.h"
#include "cli_out.h"
#include "commands.h"
#include "eval/compare.h"
#include "merge_text.h"

// KL above which the result is not kept: 0.02 nats a token is what Q4 quantisers of such models do by themselves.
static const double most_kl = 0.02;

struct command {
    bool json, force;
    const char *out, *type_name;
    int ctx;
    struct fm_cli_engine_args args;
    struct fm_cli_input input;
    struct fm_cli_engine engine, merged;
    struct fm_cli_progress bar;
    fm_dtype type; // FM_DTYPE_COUNT: the base's
    char *temp;    // where the result lies until it is found good
    bool measured;
    struct fm__kl_result kl;
};

static void on_bytes(void *context, uint64_t done, uint64_t total)
{
    struct command *c = context;
    if (!c->bar.label) fm__cli_progress_begin(&c->bar, "merging", 0, total);
    fm__cli_progress_update(&c->bar, done);
}

static fm_status check_args(struct command *c, struct fm_error *err)
{
    if (!c->out) return fm__fail(err, FM_E_ARG, "where to? -o FILE");
    if (!c->args.adapters.plain.n && !c->args.adapters.scaled.n)
        return fm__fail(err, FM_E_ARG, "nothing to merge: --adapter PATH");
    c->type = strcmp(c->type_name, "base") ? fm_dtype_from_name(c->type_name) : FM_DTYPE_COUNT;
    if (c->type == FM_DTYPE_COUNT && strcmp(c->type_name, "base"))
        return fm__fail(err, FM_E_ARG, "--type %s: not known, want f16, f32, bf16, base, or a type of weights as q8_0",
                        c->type_name);
    const size_t n = strlen(c->out) + sizeof ".merging";
    c->temp = fm__malloc(n);
    if (!c->temp) return fm__fail_nomem(err, "path", n);
    snprintf(c->temp, n, "%s.merging", c->out);
    return FM_OK;
}

static fm_status merge(struct command *c, struct fm_error *err)
{
    struct fm_adapter_use uses[FM_CLI_MAX_ADAPTERS];
    const struct fm_cli_adapters *a = &c->engine.adapters;
    for (int i = 0; i < a->n; i++) uses[i] = (struct fm_adapter_use){a->items[i], a->scales[i]};
    const struct fm_adapter_merge_args args = {.base = fm_model_gguf(c->engine.model),
                                               .uses = uses,
                                               .n_uses = a->n,
                                               .type = c->type,
                                               .progress = on_bytes,
                                               .context = c};
    fm_status status = fm_adapter_merge(&args, c->temp, err);
    if (c->bar.label) fm__cli_progress_end(&c->bar);
    return status;
}

static fm_status get_tokens(struct command *c, int32_t **tokens, int *n, struct fm_error *err)
{
    char *text = NULL;
    size_t bytes = strlen(fm__merge_text);
    if (fm__cli_input_given(&c->input)) FM_TRY(fm__cli_input_text(&c->input, &text, &bytes, err));
    const struct fm_encode_args encode = {
        .text = text ? text : fm__merge_text, .n = bytes, .flags = FM_ENCODE_ADD_SPECIAL};
    fm_status status = fm__cli_encode(c->engine.tok, &encode, tokens, n, err);
    fm__free(text);
    return status;
}

// The model with its adapters against the merged one: exact activations and a cache of 16 bits, so that what is left is
// the rounding of the weights.
static fm_status measure(struct command *c, struct fm_error *err)
{
    struct fm_cli_engine_args args = c->args;
    int32_t *tokens = NULL;
    int n = 0;
    args.n_ctx = c->ctx;
    args.activations = 1;
    args.kv_k = args.kv_v = 0;
    fm_status status = get_tokens(c, &tokens, &n, err);
    if (status == FM_OK) status = fm__cli_engine_batcher(&c->engine, &args, 1, err);
    args.model = c->temp;
    args.adapters.plain.n = args.adapters.scaled.n = 0;
    if (status == FM_OK) status = fm__cli_engine_open(&c->merged, &args, err);
    if (status == FM_OK) status = fm__cli_engine_batcher(&c->merged, &args, 1, err);
    if (status == FM_OK) {
        const int32_t bos = fm_tokenizer_role(c->engine.tok, FM_TOKEN_BOS);
        const struct fm__compare_args compare = {.base = c->engine.batcher,
                                                 .other = c->merged.batcher,
                                                 .tokens = tokens,
                                                 .n_tokens = n,
                                                 .ctx = c->ctx,
                                                 .n_vocab = c->engine.info.n_vocab,
                                                 .bos = fm_tokenizer_adds_bos(c->engine.tok) ? bos : -1};
        status = fm__compare(&compare, &c->kl, err);
    }
    free(tokens);
    c->measured = status == FM_OK;
    if (status == FM_OK && !c->force && !(c->kl.kl.value <= most_kl))
        return fm__fail(err, FM_E_VERIFY,
                        "the merged model differs by a KL of %.4f from the adapter's, want at most %g:"
                        " nothing was written (--force, or another --type)",
                        c->kl.kl.value, most_kl);
    return status;
}

static int report(struct command *c)
{
    char size[24];
    struct stat info;
    const uint64_t bytes = stat(c->out, &info) == 0 ? (uint64_t)info.st_size : 0;
    if (c->json) {
        json_t *all = json_pack("{s:o, s:s, s:i, s:I}", "out", fm__cli_text(c->out, strlen(c->out)), "type",
                                c->type_name, "adapters", c->engine.adapters.n, "bytes", (json_int_t)bytes);
        if (c->measured) {
            json_object_set_new(all, "kl", json_real(c->kl.kl.value));
            json_object_set_new(all, "ppl_before", json_real(c->kl.ppl_base.value));
            json_object_set_new(all, "ppl_after", json_real(c->kl.ppl.value));
            json_object_set_new(all, "scored", json_integer((json_int_t)c->kl.n));
        }
        return fm__cli_json(all);
    }
    printf("%s: %s, %d adapter%s merged as %s\n", c->out, fm__cli_bytes(size, bytes), c->engine.adapters.n,
           c->engine.adapters.n > 1 ? "s" : "", c->type_name);
    if (!c->measured) return 0;
    printf("ppl before           %12.4f ± %.4f (model and adapters)\n", c->kl.ppl_base.value, c->kl.ppl_base.error);
    printf("ppl after            %12.4f ± %.4f (merged)\n", c->kl.ppl.value, c->kl.ppl.error);
    printf("mean KL              %12.6f ± %.6f (%lld positions)\n", c->kl.kl.value, c->kl.kl.error, (long long)c->kl.n);
    return 0;
}

// f16, bf16 and f32 hold what a base of blocks and its adapters make but for their own rounding.
static bool rounds_again(const struct command *c)
{
    return c->type == FM_DTYPE_COUNT || fm_dtype_info(c->type)->block_elements > 1;
}

static fm_status run(struct command *c, struct fm_error *err)
{
    FM_TRY(check_args(c, err));
    FM_TRY(fm__cli_engine_open(&c->engine, &c->args, err));
    FM_TRY(merge(c, err));
    fm_status status = FM_OK;
    if (rounds_again(c) || fm__cli_input_given(&c->input)) status = measure(c, err);
    fm__cli_engine_close(&c->merged);
    if (status == FM_OK) status = fm__file_publish(c->temp, c->out, err);
    if (status != FM_OK) unlink(c->temp);
    return status;
}

int fm_cmd_merge(int argc, char **argv)
{
    struct command c = {.type_name = "f16", .ctx = 128};
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS], input_opts[FM_CLI_INPUT_OPTS];
    fm__cli_engine_defaults(&c.args);
    fm__cli_input_init(&c.input);
    struct fm_cli_opt opts[] = {
        {.names = "-o,--output", .type = FM_CLI_STR, .arg = "FILE", .out = &c.out, .help = "the new model file"},
        {.names = "--type",
         .type = FM_CLI_STR,
         .arg = "TYPE",
         .out = &c.type_name,
         .help = "of its matrices: f16, f32, bf16, base (each as it was), or any type of weights [f16]"},
        {.names = "--force",
         .type = FM_CLI_FLAG,
         .out = &c.force,
         .help = "keep the result also where it differs by a KL above 0.02"},
        {.names = "--ctx",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.ctx,
         .min = 4,
         .max = 1 << 20,
         .help = "tokens of a window of the text [128]"},
    };
    struct fm_cli_spec spec = {
        .name = "merge",
        .summary = "a model and its adapters as one model file",
        .args = "[TEXT]",
        .text =
            "Types of blocks round the changed weights again: then the result is compared with model and adapters on "
            "a\n"
            "text (the argument, -p, -f; else one of its own), and not kept where their KL divergence is above 0.02.\n"
            "With f16, bf16 and f32 that is done where a text is given.",
        .examples = "  fathom merge --adapter my-adapter -o merged.gguf\n"
                    "  fathom merge -m base.gguf --adapter tone.gguf --type base -f wiki.txt -o tone-q4.gguf\n"
                    "  fathom merge --adapter-scaled a.gguf:0.5 --adapter-scaled b.gguf:0.5 -o both.gguf\n",
        .groups = {{"Merge", opts, FM_CLI_N(opts)},
                   {"Text", input_opts, fm__cli_input_opts(&c.input, input_opts)},
                   {"Model", model_opts, fm__cli_model_opts(&c.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&c.args, run_opts)}},
        .json = &c.json,
        .positionals = &c.input.positionals,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    fm_status status = run(&c, &err);
    code = status == FM_OK ? report(&c) : fm__cli_error("merge", &err, c.json);
    fm__cli_engine_close(&c.merged);
    fm__cli_engine_close(&c.engine);
    fm__free(c.temp);
    return code;
}
