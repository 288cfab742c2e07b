// SPDX-License-Identifier: MIT
// Opening what a command runs on, in the order device, model, tokenizer, batcher.
#include "cli_engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/error.h"
#include "catalog.h"
#include "cli_out.h"

static const char *const kv_names[] = {"f16", "int8", "bf16", "f32"}; // as the choices below
#define KV_CHOICES "f16|int8=q8_0=q8|bf16|f32"
enum { MAX_TOKENS = 1 << 29 };

void fm__cli_engine_defaults(struct fm_cli_engine_args *args)
{
    *args = (struct fm_cli_engine_args){.mmap = true, .kv_k = -1, .kv_v = -1, .n_parallel = 1, .device = "cpu"};
    args->overrides = (struct fm_cli_list){args->override_items, FM_CLI_MAX_OVERRIDES, 0};
    fm__cli_adapter_defaults(&args->adapters);
}

size_t fm__cli_model_opts(struct fm_cli_engine_args *a, struct fm_cli_opt out[FM_CLI_MODEL_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "-m,--model",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &a->model,
         .help = "model file, or a name that `fathom models` lists [smollm2]"},
        {.names = "--override-kv",
         .type = FM_CLI_STRS,
         .arg = "KEY=TYPE:VALUE",
         .out = &a->overrides,
         .help = "replace a metadata value (TYPE int, float, bool, str); may be repeated"},
        {.names = "--rope-scaling",
         .type = FM_CLI_CHOICE,
         .arg = "KIND",
         .choices = "model|none|linear|ntk|yarn",
         .out = &a->rope_scaling,
         .help = "how positions beyond the trained context are made to fit [model]"},
        {.names = "--rope-scale",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &a->rope_scale,
         .min = 1,
         .max = 1024,
         .help = "contexts X times longer than trained"},
        {.names = "--rope-freq-base",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &a->rope_freq_base,
         .min = 1,
         .max = 1e12,
         .help = "RoPE's base [the model's]"},
        {.names = "--mlock", .type = FM_CLI_FLAG, .out = &a->mlock, .help = "keep everything in memory, never swapped"},
        {.names = "--no-mmap",
         .type = FM_CLI_UNFLAG,
         .out = &a->mmap,
         .hidden = true,
         .help = "accepted: weights are packed as they are read, the file is never mapped"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

size_t fm__cli_run_opts(struct fm_cli_engine_args *a, struct fm_cli_opt out[FM_CLI_RUN_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "-c,--ctx-size,--ctx",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &a->n_ctx,
         .max = 1 << 24,
         .help = "tokens a conversation may have [the model's trained context]"},
        {.names = "-t,--threads",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &a->threads,
         .max = 1024,
         .help = "threads [every CPU the process may use]"},
        {.names = "-b,--batch-size",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &a->n_batch,
         .min = 1,
         .max = 8192,
         .help = "most rows a step [512]"},
        {.names = "-ub,--ubatch-size",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &a->n_ubatch,
         .min = 1,
         .max = 8192,
         .help = "the same; the smaller of the two counts"},
        {.names = "-ctk,--cache-type-k",
         .type = FM_CLI_CHOICE,
         .arg = "TYPE",
         .choices = KV_CHOICES,
         .out = &a->kv_k,
         .help = "format of the key/value cache [the model's]"},
        {.names = "-ctv,--cache-type-v",
         .type = FM_CLI_CHOICE,
         .arg = "TYPE",
         .choices = KV_CHOICES,
         .out = &a->kv_v,
         .help = "the same: keys and values share one format"},
        {.names = "--kv",
         .type = FM_CLI_CHOICE,
         .arg = "TYPE",
         .choices = KV_CHOICES,
         .out = &a->kv_k,
         .help = "short for -ctk and -ctv",
         .hidden = true},
        {.names = "--activations",
         .type = FM_CLI_CHOICE,
         .arg = "TYPE",
         .choices = "q8|f32",
         .out = &a->activations,
         .help = "what quantised weights are multiplied with; f32 is exact and several times slower [q8]"},
        {.names = "--device",
         .type = FM_CLI_STR,
         .arg = "NAME",
         .out = &a->device,
         .help = "cpu, or sim (tests) [cpu]"},
        {.names = "-fa,--flash-attn",
         .type = FM_CLI_STR,
         .arg = "X",
         .out = &a->ignored,
         .hidden = true,
         .help = "accepted: attention is always one pass"},
        {.names = "-tb,--threads-batch",
         .type = FM_CLI_STR,
         .arg = "N",
         .out = &a->ignored,
         .hidden = true,
         .help = "accepted: -t serves prompts too"},
        {.names = "-ngl,--n-gpu-layers",
         .type = FM_CLI_STR,
         .arg = "N",
         .out = &a->ignored,
         .hidden = true,
         .help = "accepted: there is no GPU device"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts) + fm__cli_adapter_opts(&a->adapters, out + FM_CLI_N(opts));
}

const char *fm__cli_kv_name(const struct fm_cli_engine_args *args)
{
    int kv = args->kv_k >= 0 ? args->kv_k : args->kv_v;
    return kv < 0 ? NULL : kv_names[kv];
}

struct loading {
    struct fm_cli_progress bar;
    bool begun;
};

static void on_progress(void *context, size_t done, size_t total)
{
    struct loading *loading = context;
    if (!loading->begun) fm__cli_progress_begin(&loading->bar, "loading", 0, total);
    loading->begun = true;
    fm__cli_progress_update(&loading->bar, done);
}

static fm_status open_model(struct fm_cli_engine *e, const struct fm_cli_engine_args *args, struct fm_error *err)
{
    struct loading loading = {0};
    struct fm_model_opts opts = {.device = e->device,
                                 .overrides = args->override_items,
                                 .n_overrides = (int)args->overrides.n,
                                 .rope_scaling = args->rope_scaling,
                                 .rope_scale = args->rope_scale,
                                 .rope_freq_base = args->rope_freq_base,
                                 .for_training = args->for_training,
                                 .progress = on_progress,
                                 .progress_context = &loading};
    fm_status status = fm_model_open(e->path, &opts, &e->model, err);
    if (loading.begun) fm__cli_progress_end(&loading.bar);
    return status;
}

fm_status fm__cli_engine_open(struct fm_cli_engine *e, const struct fm_cli_engine_args *args, struct fm_error *err)
{
    double begun = fm__seconds();
    *e = (struct fm_cli_engine){0};
    if (args->kv_k >= 0 && args->kv_v >= 0 && args->kv_k != args->kv_v)
        return fm__fail(err, FM_E_UNSUPPORTED, "keys as %s and values as %s: the cache has one format for both",
                        kv_names[args->kv_k], kv_names[args->kv_v]);
    FM_TRY(fm__catalog_resolve(args->model, &e->path, err));
    struct fm_device_opts device = {.threads = args->threads};
    FM_TRY(fm_device_open(args->device, &device, &e->device, err));
    FM_TRY(open_model(e, args, err));
    fm_model_get_info(e->model, &e->info);
    fm_device_get_props(e->device, &e->props);
    fm_status status = fm_tokenizer_new(fm_model_gguf(e->model), &e->tok, err);
    if (status != FM_OK) return fm__error_prefix(err, status, "%s", e->path);
    FM_TRY(fm__cli_adapters_open(&e->adapters, &args->adapters, e->model, err));
    e->load_seconds = fm__seconds() - begun;
    return FM_OK;
}

fm_status fm__cli_engine_batcher(struct fm_cli_engine *e, const struct fm_cli_engine_args *args, int n_sessions,
                                 struct fm_error *err)
{
    double begun = fm__seconds();
    int ub = args->n_ubatch ? args->n_ubatch : 8192, b = args->n_batch ? args->n_batch : 8192;
    int rows = ub < b ? ub : b;
    struct fm_batcher_opts opts = {.n_ctx = args->n_ctx,
                                   .n_sessions = n_sessions ? n_sessions : args->n_parallel,
                                   .kv_tokens = args->kv_tokens,
                                   .kv_format = fm__cli_kv_name(args),
                                   .n_batch = rows < 8192 ? rows : 0,
                                   .exact_activations = args->activations,
                                   .adapters = e->adapters.set,
                                   .session_adapter = e->adapters.set ? 1 : 0};
    e->n_ctx = args->n_ctx ? args->n_ctx : e->info.n_ctx_train;
    FM_TRY(fm_batcher_new(e->model, &opts, &e->batcher, err));
    if (args->mlock && mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        fprintf(stderr, "fathom: --mlock: the system refuses (%s): going on without\n", strerror(errno));
    e->load_seconds += fm__seconds() - begun;
    return FM_OK;
}

void fm__cli_engine_close(struct fm_cli_engine *e)
{
    fm_batcher_free(e->batcher);
    fm__cli_adapters_close(&e->adapters);
    fm_tokenizer_free(e->tok);
    fm_model_free(e->model);
    fm_device_close(e->device);
    free(e->path);
    *e = (struct fm_cli_engine){0};
}

fm_status fm__cli_open_vocab(const struct fm_cli_engine_args *args, char **path, struct fm_gguf **gguf,
                             struct fm_tokenizer **tok, struct fm_error *err)
{
    struct fm_gguf_open_opts opts = {.vocab_only = true};
    *path = NULL;
    *gguf = NULL;
    if (tok) *tok = NULL;
    FM_TRY(fm__catalog_resolve(args->model, path, err));
    FM_TRY(fm_gguf_open(*path, &opts, gguf, err));
    for (size_t i = 0; i < args->overrides.n; i++) FM_TRY(fm_gguf_override(*gguf, args->override_items[i], err));
    if (!tok) return FM_OK;
    fm_status status = fm_tokenizer_new(*gguf, tok, err);
    return status == FM_OK ? FM_OK : fm__error_prefix(err, status, "%s", *path);
}

fm_status fm__cli_encode(const struct fm_tokenizer *tok, const struct fm_encode_args *args, int32_t **ids, int *n_ids,
                         struct fm_error *err)
{
    size_t cap = args->n + 16, count = 0;
    *ids = NULL;
    *n_ids = 0;
    for (;;) {
        free(*ids);
        *ids = malloc(cap * sizeof **ids);
        if (!*ids) return fm__fail_nomem(err, "tokens", cap * sizeof **ids);
        fm_status status = fm_tokenizer_encode(tok, args, *ids, cap, &count, err);
        if (status == FM_OK && count > MAX_TOKENS)
            status = fm__fail(err, FM_E_LIMIT, "text: %zu tokens, want at most %d", count, MAX_TOKENS);
        if (status != FM_OK) {
            free(*ids);
            *ids = NULL;
            return status;
        }
        if (count <= cap) break;
        cap = count;
    }
    *n_ids = (int)count;
    return FM_OK;
}
