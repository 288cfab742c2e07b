// SPDX-License-Identifier: MIT
// fathom embed: a text as a vector: the model's hidden state (after the final norm) at its last token, or the mean over
// its tokens; of length 1 unless told otherwise. Or what an adapter's head says about it (--classify).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli_engine.h"
#include "cli_input.h"
#include "cli_out.h"
#include "cli_settings.h"
#include "cli_stats.h"
#include "cli_trace.h"
#include "commands.h"

struct command {
    bool json, mean, raw, lines, classify;
    struct fm_cli_engine_args args;
    struct fm_cli_input input;
    struct fm_cli_stats stats;
    struct fm_cli_trace trace;
    struct fm_cli_engine engine;
    struct fm_session *session;
    double *sum;                   // [D]
    const struct fm_adapter *head; // --classify: the adapter whose head it is
    float *hidden, *scores;        // [D], [C]
};

static void add_hidden(void *context, struct fm_session *session, int position, const float *hidden)
{
    (void)session, (void)position;
    struct command *c = context;
    for (int32_t i = 0; i < c->engine.info.d_model; i++) c->sum[i] += (double)hidden[i];
}

// Rewound and appended, not synced: a cached page would leave its tokens out of the mean.
static fm_status evaluate(struct command *c, const int32_t *ids, int n, struct fm_error *err)
{
    memset(c->sum, 0, (size_t)c->engine.info.d_model * sizeof *c->sum);
    FM_TRY(fm_session_rewind(c->session, 0, err));
    fm_session_on_hidden(c->session, c->mean ? 0 : n - 1, add_hidden, c);
    FM_TRY(fm_session_append(c->session, ids, n, err));
    FM_TRY(fm__cli_trace_run(&c->trace, &c->engine, err));
    c->stats.attended += 0.5 * (double)n * (n + 1);
    c->stats.prompt_tokens += n;
    double scale = c->mean ? 1.0 / n : 1, squares = 0;
    for (int32_t i = 0; i < c->engine.info.d_model; i++) {
        c->sum[i] *= scale;
        squares += c->sum[i] * c->sum[i];
    }
    for (int32_t i = 0; !c->raw && squares > 0 && i < c->engine.info.d_model; i++) c->sum[i] /= sqrt(squares);
    return FM_OK;
}

// The one head among the adapters, and room for its scores.
static fm_status find_head(struct command *c, struct fm_error *err)
{
    if (!c->classify) return FM_OK;
    for (int i = 0; i < c->engine.adapters.n; i++) {
        if (!c->engine.adapters.items[i]->head.n_classes) continue;
        if (c->head) return fm__fail(err, FM_E_ARG, "--classify: two of the adapters have a head");
        c->head = c->engine.adapters.items[i];
    }
    if (!c->head) return fm__fail(err, FM_E_ARG, "--classify: no adapter with a head was given (--adapter PATH)");
    c->raw = true;
    c->hidden = calloc((size_t)c->engine.info.d_model, sizeof *c->hidden);
    c->scores = calloc((size_t)c->head->head.n_classes, sizeof *c->scores);
    if (c->hidden && c->scores) return FM_OK;
    return fm__fail_nomem(err, "scores", (size_t)c->head->head.n_classes * sizeof *c->scores);
}

// Scores, and for more than one class the probabilities by softmax.
static fm_status classify(struct command *c, int index, int n_ids, struct fm_error *err)
{
    const struct fm_adapter_head *head = &c->head->head;
    const int64_t n = head->n_classes;
    int64_t best = 0;
    double total = 0;
    char number[24];
    for (int32_t i = 0; i < c->engine.info.d_model; i++) c->hidden[i] = (float)c->sum[i];
    FM_TRY(fm_adapter_scores(c->head, c->hidden, c->engine.info.d_model, c->scores, err));
    for (int64_t i = 1; i < n; i++)
        if (c->scores[i] > c->scores[best]) best = i;
    for (int64_t i = 0; i < n; i++) total += exp((double)(c->scores[i] - c->scores[best]));
    json_t *classes = c->json ? json_array() : NULL;
    for (int64_t i = 0; i < n; i++) {
        const double p = exp((double)(c->scores[i] - c->scores[best])) / total;
        snprintf(number, sizeof number, "%lld", (long long)i);
        const char *label = head->labels ? head->labels[i] : number;
        if (c->json)
            json_array_append_new(classes, json_pack("{s:o, s:f, s:f}", "label", fm__cli_text(label, strlen(label)),
                                                     "score", (double)c->scores[i], "p", p));
        else if (n == 1)
            printf("%.7g\n", (double)c->scores[0]);
        else
            printf("%s%s %.4f", i ? "  " : "", label, p);
    }
    if (!c->json && n > 1) putchar('\n');
    if (!c->json) return FM_OK;
    fm__cli_json(json_pack("{s:i, s:i, s:I, s:o}", "index", index, "tokens", n_ids, "best", (json_int_t)best, "classes",
                           classes));
    return FM_OK;
}

static void print_vector(const struct command *c, int index, int n_ids)
{
    const int32_t d = c->engine.info.d_model;
    if (c->json) {
        json_t *vector = json_array();
        for (int32_t i = 0; i < d; i++) json_array_append_new(vector, json_real(c->sum[i]));
        json_t *all = json_pack("{s:i, s:i, s:s, s:b, s:o}", "index", index, "tokens", n_ids, "pooling",
                                c->mean ? "mean" : "last", "normalised", !c->raw, "embedding", vector);
        fm__cli_json(all);
    } else {
        for (int32_t i = 0; i < d; i++) printf("%s%.7g", i ? " " : "", c->sum[i]);
        putchar('\n');
    }
}

static fm_status embed(struct command *c, const char *text, size_t n, int index, struct fm_error *err)
{
    int32_t *ids;
    int n_ids;
    FM_TRY(fm__cli_encode(
        c->engine.tok,
        &(struct fm_encode_args){.text = text, .n = n, .flags = FM_ENCODE_ADD_SPECIAL | FM_ENCODE_PARSE_SPECIAL}, &ids,
        &n_ids, err));
    fm_status status = FM_OK;
    if (n_ids < 1) status = fm__fail(err, FM_E_ARG, "text %d has no tokens", index);
    if (n_ids > c->engine.n_ctx)
        status = fm__fail(err, FM_E_LIMIT, "text %d has %d tokens, the context holds %d (-c N)", index, n_ids,
                          c->engine.n_ctx);
    if (status == FM_OK) status = evaluate(c, ids, n_ids, err);
    free(ids);
    if (status != FM_OK) return status;
    if (c->classify) return classify(c, index, n_ids, err);
    print_vector(c, index, n_ids);
    return FM_OK;
}

static fm_status all_texts(struct command *c, const char *text, size_t n, struct fm_error *err)
{
    if (!c->lines) return embed(c, text, n, 0, err);
    int index = 0;
    for (const char *at = text, *end = text + n; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;
        if (stop > at) FM_TRY(embed(c, at, (size_t)(stop - at), index++, err));
        at = newline ? newline + 1 : end;
    }
    return FM_OK;
}

static fm_status run(struct command *c, struct fm_error *err)
{
    char *text = NULL;
    size_t n = 0;
    fm__cli_stats_begin(&c->stats);
    fm_status status = fm__cli_input_text(&c->input, &text, &n, err);
    if (status == FM_OK) status = fm__cli_trace_begin(&c->trace, err);
    if (status == FM_OK) status = fm__cli_engine_open(&c->engine, &c->args, err);
    if (status == FM_OK) status = fm__cli_engine_batcher(&c->engine, &c->args, 1, err);
    if (status == FM_OK) status = fm_session_new(c->engine.batcher, &c->session, err);
    if (status == FM_OK) {
        c->sum = calloc((size_t)c->engine.info.d_model, sizeof *c->sum);
        if (!c->sum) status = fm__fail_nomem(err, "embedding", (size_t)c->engine.info.d_model * sizeof *c->sum);
    }
    if (status == FM_OK) status = find_head(c, err);
    double begun = fm__seconds();
    if (status == FM_OK) status = all_texts(c, text, n, err);
    c->stats.prompt_seconds = fm__seconds() - begun;
    fm_status trace = fm__cli_trace_end(&c->trace, status == FM_OK, status ? NULL : err);
    if (status == FM_OK) status = trace;
    if (status == FM_OK) {
        fm__cli_stats_show(&c->stats, &c->engine, c->json);
    }
    fm__free(text);
    free(c->sum);
    free(c->hidden);
    free(c->scores);
    fm_session_free(c->session);
    fm__cli_engine_close(&c->engine);
    return status;
}

int fm_cmd_embed(int argc, char **argv)
{
    struct command c = {0};
    int pooling = 0;
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS], input_opts[FM_CLI_INPUT_OPTS],
        trace_opts[FM_CLI_TRACE_OPTS];
    fm__cli_engine_defaults(&c.args);
    fm__cli_input_init(&c.input);
    struct fm_cli_opt opts[] = {
        {.names = "--pooling",
         .type = FM_CLI_CHOICE,
         .arg = "KIND",
         .choices = "last|mean",
         .out = &pooling,
         .help = "the last token's state, or the mean over all [last]"},
        {.names = "--no-normalise,--no-normalize",
         .type = FM_CLI_FLAG,
         .out = &c.raw,
         .help = "leave the vector as long as it is"},
        {.names = "--classify",
         .type = FM_CLI_FLAG,
         .out = &c.classify,
         .help = "the classes of the adapter's head instead of the vector"},
        {.names = "--lines", .type = FM_CLI_FLAG, .out = &c.lines, .help = "every line is a text of its own"},
    };
    struct fm_cli_spec spec = {
        .name = "embed",
        .summary = "a text as a vector",
        .args = "[TEXT]",
        .text = "The text is the argument, -p, a file (-f), or what comes in on standard input.",
        .examples = "  fathom embed \"a text\" --json\n  fathom embed -f lines.txt --lines --pooling mean\n"
                    "  fathom embed --adapter sentiment --classify \"what a film\"\n",
        .groups = {{"Text", input_opts, fm__cli_input_opts(&c.input, input_opts)},
                   {"Embedding", opts, FM_CLI_N(opts)},
                   {"Model", model_opts, fm__cli_model_opts(&c.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&c.args, run_opts)},
                   {"Output", trace_opts, fm__cli_trace_opts(&c.trace, trace_opts)}},
        .json = &c.json,
        .stats = &c.stats.on,
        .positionals = &c.input.positionals,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    c.mean = pooling == 1;
    struct fm_error err = {0};
    fm_status status = run(&c, &err);
    return status == FM_OK ? 0 : fm__cli_error("embed", &err, c.json);
}
