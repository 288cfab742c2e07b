// SPDX-License-Identifier: MIT
// Sampling options in llama.cpp's spelling. Unlike there, the default temperature is 0: the same command gives the same
// answer. With --temp the filters have llama.cpp's defaults.
#include "cli_sampling.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"

void fm__cli_sampling_defaults(struct fm_cli_sampling *s)
{
    *s = (struct fm_cli_sampling){.top_k = 40,
                                  .top_p = 0.95,
                                  .min_p = 0.05,
                                  .typical = 1,
                                  .repeat = 1,
                                  .dry_base = 1.75,
                                  .dry_allowed = 2,
                                  .dry_last_n = -1,
                                  .repeat_last_n = 64,
                                  .mirostat_tau = 5,
                                  .mirostat_eta = 0.1};
    s->biases = (struct fm_cli_list){s->bias_items, FM_CLI_MAX_BIASES, 0};
    s->breakers = (struct fm_cli_list){s->breaker_items, FM_CLI_MAX_BREAKERS, 0};
}

static size_t filter_opts(struct fm_cli_sampling *s, struct fm_cli_opt *out)
{
    const struct fm_cli_opt opts[] = {
        {.names = "-s,--seed",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &s->seed,
         .min = -1,
         .max = 9007199254740992,
         .help = "seed of the draws; -1 another one each time [0]"},
        {.names = "--temp,--temperature",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->temp,
         .max = 100,
         .help = "temperature; 0 takes the likeliest token [0]"},
        {.names = "--top-k",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &s->top_k,
         .max = 1 << 30,
         .help = "only the N likeliest; 0 all [40]"},
        {.names = "--top-p",
         .type = FM_CLI_F64,
         .arg = "P",
         .out = &s->top_p,
         .max = 1,
         .help = "only the likeliest that together reach P; 1 all [0.95]"},
        {.names = "--min-p",
         .type = FM_CLI_F64,
         .arg = "P",
         .out = &s->min_p,
         .max = 1,
         .help = "only those at least P times as likely as the likeliest; 0 all [0.05]"},
        {.names = "--typical,--typical-p",
         .type = FM_CLI_F64,
         .arg = "P",
         .out = &s->typical,
         .max = 1,
         .help = "locally typical sampling; 1 off [1]"},
        {.names = "--mirostat",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &s->mirostat,
         .max = 2,
         .help = "2: mirostat 2.0 instead of the filters [0]"},
        {.names = "--mirostat-ent",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->mirostat_tau,
         .min = 0.01,
         .max = 100,
         .help = "its target entropy [5]"},
        {.names = "--mirostat-lr",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->mirostat_eta,
         .min = 0.0001,
         .max = 10,
         .help = "its learning rate [0.1]"},
        {.names = "-l,--logit-bias",
         .type = FM_CLI_STRS,
         .arg = "ID±X",
         .out = &s->biases,
         .help = "add to a token's logit: 15043+1, 15043-inf; may be repeated"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

static size_t penalty_opts(struct fm_cli_sampling *s, struct fm_cli_opt *out)
{
    const struct fm_cli_opt opts[] = {
        {.names = "--repeat-penalty",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->repeat,
         .max = 100,
         .help = "penalty of tokens seen lately; 1 off [1]"},
        {.names = "--repeat-last-n",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &s->repeat_last_n,
         .min = -1,
         .max = 1 << 24,
         .help = "tokens that count as lately; -1 all [64]"},
        {.names = "--presence-penalty",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->presence,
         .min = -100,
         .max = 100,
         .help = "subtracted once from tokens seen lately [0]"},
        {.names = "--frequency-penalty",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->frequency,
         .min = -100,
         .max = 100,
         .help = "subtracted for each time [0]"},
        {.names = "--dry-multiplier",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->dry_multiplier,
         .max = 100,
         .help = "DRY penalty of repeated sequences; 0 off [0]"},
        {.names = "--dry-base",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &s->dry_base,
         .min = 1,
         .max = 100,
         .help = "its growth a token [1.75]"},
        {.names = "--dry-allowed-length",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &s->dry_allowed,
         .min = 1,
         .max = 1 << 20,
         .help = "repetitions shorter than this are free [2]"},
        {.names = "--dry-penalty-last-n",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &s->dry_last_n,
         .min = -1,
         .max = 1 << 24,
         .help = "tokens looked at; -1 all [-1]"},
        {.names = "--dry-sequence-breaker",
         .type = FM_CLI_STRS,
         .arg = "TEXT",
         .out = &s->breakers,
         .help = "repetitions do not reach over it; \"none\" for none [newline : \" *]"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

size_t fm__cli_sampling_opts(struct fm_cli_sampling *s, struct fm_cli_opt out[FM_CLI_SAMPLING_OPTS])
{
    size_t n = filter_opts(s, out);
    return n + penalty_opts(s, out + n);
}

static fm_status read_bias(const char *text, int32_t n_vocab, struct fm_logit_bias *out, struct fm_error *err)
{
    char *end, *rest;
    errno = 0;
    long id = strtol(text, &end, 10);
    double bias = strtod(end, &rest);
    if (end == text || errno || (*end != '+' && *end != '-') || rest == end || *rest || isnan(bias))
        return fm__fail(err, FM_E_ARG, "--logit-bias \"%s\": want ID+X or ID-X", text);
    if (id < 0 || id >= n_vocab)
        return fm__fail(err, FM_E_ARG, "--logit-bias \"%s\": token %ld, want 0 … %d", text, id, n_vocab - 1);
    *out = (struct fm_logit_bias){(int32_t)id, (float)bias};
    return FM_OK;
}

// The user's biases, and with no_end minus infinity on every token that ends a text.
static fm_status biases(const struct fm_cli_sampling *s, const struct fm_cli_engine *e, bool no_end,
                        struct fm_sampler_opts *opts, struct fm_error *err)
{
    size_t n = s->biases.n;
    for (int32_t id = 0; no_end && id < e->info.n_vocab; id++) n += fm_tokenizer_is_eog(e->tok, id);
    if (n == 0) return FM_OK;
    struct fm_logit_bias *list = calloc(n, sizeof *list);
    if (!list) return fm__fail_nomem(err, "logit biases", n * sizeof *list);
    opts->bias = list; // freed by the caller
    for (size_t i = 0; i < s->biases.n; i++) {
        FM_TRY(read_bias(s->bias_items[i], e->info.n_vocab, &list[opts->n_bias], err));
        opts->n_bias++;
    }
    for (int32_t id = 0; no_end && id < e->info.n_vocab; id++) {
        if (fm_tokenizer_is_eog(e->tok, id)) list[opts->n_bias++] = (struct fm_logit_bias){id, -INFINITY};
    }
    return FM_OK;
}

// Breakers are texts; the tokens that contain one break.
static fm_status breakers(const struct fm_cli_sampling *s, const struct fm_cli_engine *e, struct fm_sampler_opts *opts,
                          struct fm_error *err)
{
    static const char *const defaults[] = {"\n", ":", "\"", "*"};
    if (s->dry_multiplier <= 0) return FM_OK;
    const char *const *texts = s->breakers.n ? (const char *const *)s->breakers.items : defaults;
    size_t n_texts = s->breakers.n ? s->breakers.n : sizeof defaults / sizeof *defaults;
    int32_t *list = calloc((size_t)e->info.n_vocab, sizeof *list);
    if (!list) return fm__fail_nomem(err, "dry breakers", (size_t)e->info.n_vocab * sizeof *list);
    opts->dry_breakers = list; // freed by the caller
    for (int32_t id = 0; id < e->info.n_vocab; id++) {
        struct fm_str piece = fm_tokenizer_token_bytes(e->tok, id);
        bool breaks = false;
        for (size_t i = 0; i < n_texts && !breaks; i++)
            breaks = strcmp(texts[i], "none") != 0 && memmem(piece.p, piece.n, texts[i], strlen(texts[i]));
        if (breaks) list[opts->n_dry_breakers++] = id;
    }
    return FM_OK;
}

static fm_status pick_seed(const struct fm_cli_sampling *s, uint64_t index, uint64_t *seed, struct fm_error *err)
{
    if (s->seed >= 0) {
        *seed = (uint64_t)s->seed + index;
        return FM_OK;
    }
    if (getrandom(seed, sizeof *seed, 0) == (ssize_t)sizeof *seed) return FM_OK;
    return fm__fail(err, FM_E_IO, "seed: the system gives no random bytes: %s", strerror(errno));
}

fm_status fm__cli_sampler_new(const struct fm_cli_sampling *s, const struct fm_cli_engine *e, uint64_t index,
                              bool no_end, struct fm_sampler **out, struct fm_error *err)
{
    *out = NULL;
    struct fm_sampler_opts opts = {.temperature = (float)s->temp,
                                   .top_k = s->top_k,
                                   .top_p = (float)s->top_p,
                                   .min_p = (float)s->min_p,
                                   .typical_p = (float)s->typical,
                                   .penalty_last_n = s->repeat_last_n,
                                   .penalty_repeat = (float)s->repeat,
                                   .penalty_frequency = (float)s->frequency,
                                   .penalty_presence = (float)s->presence,
                                   .dry_multiplier = (float)s->dry_multiplier,
                                   .dry_base = (float)s->dry_base,
                                   .dry_allowed_length = s->dry_allowed,
                                   .dry_last_n = s->dry_last_n,
                                   .mirostat = s->mirostat,
                                   .mirostat_tau = (float)s->mirostat_tau,
                                   .mirostat_eta = (float)s->mirostat_eta};
    if (s->repeat_last_n == 0) opts.penalty_repeat = opts.penalty_frequency = opts.penalty_presence = 0; // 0 here: none
    if (s->dry_last_n == 0) opts.dry_multiplier = 0;
    fm_status status = pick_seed(s, index, &opts.seed, err);
    if (status == FM_OK) status = biases(s, e, no_end, &opts, err);
    if (status == FM_OK) status = breakers(s, e, &opts, err);
    if (status == FM_OK) status = fm_sampler_new(e->info.n_vocab, &opts, out, err);
    free((void *)(uintptr_t)opts.bias);
    free((void *)(uintptr_t)opts.dry_breakers);
    return status;
}
