// SPDX-License-Identifier: MIT
// fathom generate: continues a text as it is, without a chat template; or every prompt of a JSONL file, several
// together.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli_engine.h"
#include "cli_input.h"
#include "cli_interrupt.h"
#include "cli_jobs.h"
#include "cli_out.h"
#include "cli_reply.h"
#include "cli_sampling.h"
#include "cli_settings.h"
#include "cli_stats.h"
#include "cli_trace.h"
#include "commands.h"

struct command {
    bool json, jsonl, no_special, echo, special, ignored;
    int n_logprobs;
    struct fm_cli_answer answer;
    struct fm_cli_engine_args args;
    struct fm_cli_input input;
    struct fm_cli_sampling sampling;
    struct fm_cli_stats stats;
    struct fm_cli_trace trace;
    struct fm_cli_engine engine;
};

static struct fm_cli_reply_args reply_args(const struct command *c)
{
    struct fm_cli_reply_args args = fm__cli_answer_args(&c->answer);
    args.special = c->special;
    args.n_logprobs = c->n_logprobs;
    return args;
}

static int print_json(struct command *c, const struct fm_cli_reply *r)
{
    json_t *all = fm__cli_reply_json(r);
    char hash[FM_CLI_SETTINGS_HEX];
    fm__cli_settings_hash(&c->engine, &c->args, hash);
    json_object_set_new(all, "settings", json_string(hash));
    fm__cli_stats_json(&c->stats, all);
    return fm__cli_json(all);
}

static fm_status one(struct command *c, const char *text, size_t n, struct fm_error *err)
{
    struct fm_session *session = NULL;
    struct fm_sampler *sampler = NULL;
    struct fm_cli_reply reply = {0};
    struct fm_cli_reply_args args = reply_args(c);
    int32_t *ids = NULL;
    int n_ids = 0;
    if (!c->json) args.emit = fm__cli_to_stdout;
    unsigned flags = FM_ENCODE_ADD_SPECIAL | (c->no_special ? 0U : FM_ENCODE_PARSE_SPECIAL);
    fm_status status = fm__cli_encode(c->engine.tok, &(struct fm_encode_args){.text = text, .n = n, .flags = flags},
                                      &ids, &n_ids, err);
    if (status == FM_OK && fm_tokenizer_adds_eos(c->engine.tok) && n_ids > 1) n_ids--; // the text goes on
    if (status == FM_OK) status = fm_session_new(c->engine.batcher, &session, err);
    if (status == FM_OK) status = fm__cli_sampler_new(&c->sampling, &c->engine, 0, c->answer.ignore_eos, &sampler, err);
    if (status == FM_OK) status = fm__cli_reply_begin(&reply, &c->engine, session, sampler, &args, err);
    if (status == FM_OK) status = fm__cli_reply_prompt(&reply, ids, n_ids, err);
    if (status == FM_OK && c->echo && !c->json) fm__cli_to_stdout(NULL, text, n);
    if (status == FM_OK) status = fm__cli_reply_run(&reply, &c->trace, err);
    if (status == FM_OK) {
        fm__cli_stats_reply(&c->stats, &reply);
        fm__cli_stats_end(&c->stats, &c->engine);
        if (c->json) {
            print_json(c, &reply);
        } else {
            putchar('\n');
            fm__cli_stats_print(&c->stats);
        }
        if (reply.finish == FM_CLI_CANCELLED) status = fm__fail(err, FM_E_CANCELLED, "interrupted");
    }
    fm__cli_reply_end(&reply);
    fm_sampler_free(sampler);
    fm_session_free(session);
    free(ids);
    return status;
}

static fm_status many(struct command *c, const char *text, size_t n, struct fm_error *err)
{
    struct fm_cli_jobs jobs = {.engine = &c->engine,
                               .sampling = &c->sampling,
                               .trace = &c->trace,
                               .stats = &c->stats,
                               .reply = reply_args(c),
                               .n_together = c->args.n_parallel,
                               .no_special = c->no_special};
    FM_TRY(fm__cli_jobs_run(&jobs, text, n, err));
    fm__cli_stats_show(&c->stats, &c->engine, true);
    return FM_OK;
}

static bool is_jsonl(const struct command *c)
{
    const char *name = c->input.file;
    size_t n = name ? strlen(name) : 0;
    return c->jsonl || (n > 6 && strcmp(name + n - 6, ".jsonl") == 0);
}

static fm_status run(struct command *c, struct fm_error *err)
{
    char *text = NULL;
    size_t n = 0;
    FM_TRY(fm__cli_answer_check(&c->answer, err));
    if (!is_jsonl(c)) c->args.n_parallel = 1;
    fm__cli_stats_begin(&c->stats);
    fm_status status = fm__cli_input_text(&c->input, &text, &n, err);
    if (status == FM_OK) status = fm__cli_trace_begin(&c->trace, err);
    double begun = fm__seconds();
    if (status == FM_OK) status = fm__cli_engine_open(&c->engine, &c->args, err);
    if (status == FM_OK) status = fm__cli_engine_batcher(&c->engine, &c->args, 0, err);
    if (status == FM_OK) status = fm__cli_trace_span(&c->trace, "load", begun, fm__seconds(), err);
    fm__cli_interrupt_begin(c->engine.batcher);
    if (status == FM_OK) status = is_jsonl(c) ? many(c, text, n, err) : one(c, text, n, err);
    fm__cli_interrupt_end();
    fm_status trace = fm__cli_trace_end(&c->trace, status == FM_OK || status == FM_E_CANCELLED, status ? NULL : err);
    fm__free(text);
    fm__cli_engine_close(&c->engine);
    return status ? status : trace;
}

int fm_cmd_generate(int argc, char **argv)
{
    struct command c = {.answer = {.n_predict = FM_CLI_UNTIL_FULL}, .n_logprobs = -1};
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS], input_opts[FM_CLI_INPUT_OPTS],
        sampling_opts[FM_CLI_SAMPLING_OPTS], answer_opts[FM_CLI_ANSWER_OPTS], output_opts[8];
    fm__cli_engine_defaults(&c.args);
    fm__cli_input_init(&c.input);
    fm__cli_sampling_defaults(&c.sampling);
    struct fm_cli_opt opts[] = {
        {.names = "-np,--parallel",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.args.n_parallel,
         .min = 1,
         .max = 1024,
         .help = "prompts of a JSONL file run together [1]"},
        {.names = "--jsonl",
         .type = FM_CLI_FLAG,
         .out = &c.jsonl,
         .help = "the input is JSONL: {\"prompt\": …, \"n\": …, \"id\": …} a line (so is any *.jsonl)"},
        {.names = "-no-cnv,--no-conversation,--no-display-prompt,--no-warmup,--simple-io",
         .type = FM_CLI_FLAG,
         .out = &c.ignored,
         .hidden = true,
         .help = "accepted: so it is here"},
        {.names = "--no-parse-special",
         .type = FM_CLI_FLAG,
         .out = &c.no_special,
         .help = "read markers like <|im_start|> in prompts as plain text"},
    };
    size_t n_output = fm__cli_trace_opts(&c.trace, output_opts);
    output_opts[n_output++] = (struct fm_cli_opt){
        .names = "--echo", .type = FM_CLI_FLAG, .out = &c.echo, .help = "print the prompt before its continuation"};
    output_opts[n_output++] = (struct fm_cli_opt){
        .names = "--special", .type = FM_CLI_FLAG, .out = &c.special, .help = "markers of the model are text too"};
    output_opts[n_output++] = (struct fm_cli_opt){.names = "--logprobs,--n-probs",
                                                  .type = FM_CLI_INT,
                                                  .arg = "N",
                                                  .out = &c.n_logprobs,
                                                  .max = 1000,
                                                  .help = "with --json: log-probabilities, and those of the N best"};
    struct fm_cli_spec spec = {
        .name = "generate",
        .summary = "continue a text, or every prompt of a JSONL file",
        .args = "[TEXT]",
        .text = "The text is the argument, -p, a file (-f), or what comes in on standard input. It is taken as it is:\n"
                "questions and answers are what `fathom chat` is for.",
        .examples = "  fathom generate \"Once upon a time\" -n 64\n"
                    "  fathom generate -f prompts.jsonl -np 8 -n 128 > answers.jsonl\n",
        .groups = {{"Text", input_opts, fm__cli_input_opts(&c.input, input_opts)},
                   {"Generation", opts, FM_CLI_N(opts)},
                   {"Length", answer_opts, fm__cli_answer_opts(&c.answer, answer_opts)},
                   {"Sampling", sampling_opts, fm__cli_sampling_opts(&c.sampling, sampling_opts)},
                   {"Model", model_opts, fm__cli_model_opts(&c.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&c.args, run_opts)},
                   {"Output", output_opts, n_output}},
        .json = &c.json,
        .stats = &c.stats.on,
        .positionals = &c.input.positionals,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    fm_status status = run(&c, &err);
    if (status == FM_E_CANCELLED) return fm_status_exit_code(status); // what came so far was printed
    return status == FM_OK ? 0 : fm__cli_error("generate", &err, c.json);
}
