// SPDX-License-Identifier: MIT
// fathom eval: how good a model is at a task, with an interval, its predictions and a report.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "commands.h"
#include "eval_out.h"
#include "eval_report.h"
#include "eval_run.h"

static fm_status check(const struct fm_eval *e, const struct fm_cli_list *files, struct fm_error *err)
{
    if (e->task < 0) return fm__fail(err, FM_E_ARG, "no task: want --task classify, choice, lambada, …");
    if (files->n > 1) return fm__fail(err, FM_E_ARG, "%zu files, want one set of examples", files->n);
    if (e->chat && e->task != FM__EVAL_GENERATE) return fm__fail(err, FM_E_ARG, "--chat is for --task generate");
    if (e->log && !e->report) return fm__fail(err, FM_E_ARG, "--training-log is for a report: --report FILE.html");
    if (e->confidence <= 0 || e->confidence >= 1)
        return fm__fail(err, FM_E_ARG, "--confidence %g, want more than 0 and less than 1", e->confidence);
    return FM_OK;
}

static fm_status run(struct fm_eval *e, const struct fm_cli_list *files, struct fm_error *err)
{
    FM_TRY(check(e, files, err));
    e->data = ((const char *const *)files->items)[0];
    FM_TRY(fm__cli_trace_begin(&e->trace, err));
    fm_status status = fm__eval_run(e, err);
    fm_status trace = fm__cli_trace_end(&e->trace, status == FM_OK, status ? NULL : err);
    FM_TRY(status);
    FM_TRY(trace);
    fm__cli_stats_end(&e->stats, &e->engine);
    if (e->predictions) FM_TRY(fm__eval_write_predictions(e, e->predictions, err));
    return e->report ? fm__eval_write_report(e, e->report, err) : FM_OK;
}

static size_t task_opts(struct fm_eval *e, struct fm_cli_opt *out)
{
    const struct fm_cli_opt opts[] = {
        {.names = "--task",
         .type = FM_CLI_CHOICE,
         .arg = "TASK",
         .choices = "classify|choice|lambada|perplexity|generate|regress",
         .out = &e->task,
         .help = "what the examples are"},
        {.names = "--prompt",
         .type = FM_CLI_STR,
         .arg = "TEXT",
         .out = &e->prompt,
         .help = "what a text is put into, where it says {text} [the text alone]"},
        {.names = "--delimiter",
         .type = FM_CLI_STR,
         .arg = "TEXT",
         .out = &e->delimiter,
         .help = "between a context and a choice or label [a space]"},
        {.names = "--label-words",
         .type = FM_CLI_STR,
         .arg = "A,B,…",
         .out = &e->label_words,
         .help = "classify without a head: what labels are called, in order of numbers or bytes [their names]"},
        {.names = "--zero-shot",
         .type = FM_CLI_FLAG,
         .out = &e->zero_shot,
         .help = "classify by the likelihood of the labels even if the model has a head"},
        {.names = "-n,--predict,--n-predict",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &e->n_predict,
         .min = 1,
         .max = 1 << 20,
         .help = "generate: tokens an answer may have [64]"},
        {.names = "--chat",
         .type = FM_CLI_FLAG,
         .out = &e->chat,
         .help = "generate: a prompt is a user's message, put into the model's chat template"},
        {.names = "--stop",
         .type = FM_CLI_STRS,
         .arg = "TEXT",
         .out = &e->stops,
         .help = "generate: an answer ends before this; may be given several times"},
        {.names = "--match",
         .type = FM_CLI_CHOICE,
         .arg = "HOW",
         .choices = "exact|prefix|contains|number",
         .out = &e->match,
         .help = "generate: when an answer is right; number: the last number in each is the same [exact]"},
        {.names = "--ignore-case", .type = FM_CLI_FLAG, .out = &e->ignore_case, .help = "generate: A is a"},
        {.names = "--text-column",
         .type = FM_CLI_STRS,
         .arg = "NAME",
         .out = &e->text_columns,
         .help = "classify, regress: column of the text, a name or a number from 1; several are joined [text, "
                 "sentence, …]"},
        {.names = "--label-column",
         .type = FM_CLI_STR,
         .arg = "NAME",
         .out = &e->label_column,
         .help = "classify, regress: column of the label [label, category, …, else the last]"},
        {.names = "--header",
         .type = FM_CLI_CHOICE,
         .arg = "X",
         .choices = "auto|yes|no",
         .out = &e->header,
         .help = "classify, regress: whether the first row names the columns [auto]"},
        {.names = "--end",
         .type = FM_CLI_CHOICE,
         .arg = "X",
         .choices = "eos|none",
         .out = &e->end,
         .help = "classify, regress with a head: what texts end with, as in its training [eos]"},
        {.names = "--limit",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &e->limit,
         .max = 1e15,
         .help = "only the first N examples [all]"},
        {.names = "--skip-bad",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &e->skip_bad,
         .max = 1e15,
         .help = "leave out as many as N bad rows, and say so [0]"},
        {.names = "-np,--parallel",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &e->n_together,
         .min = 1,
         .max = 4096,
         .help = "examples evaluated together; results are the same [what fills a step]"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

static size_t result_opts(struct fm_eval *e, struct fm_cli_opt *out)
{
    const struct fm_cli_opt opts[] = {
        {.names = "--interval",
         .type = FM_CLI_CHOICE,
         .arg = "KIND",
         .choices = "wilson|exact",
         .out = &e->interval,
         .help = "of shares; exact: Clopper and Pearson's. Other scores have a bootstrap's [wilson]"},
        {.names = "--confidence",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &e->confidence,
         .help = "how often intervals hold the truth [0.95]"},
        {.names = "--resamples",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &e->n_resamples,
         .min = 1,
         .max = 1 << 24,
         .help = "of the bootstrap [1000]"},
        {.names = "-s,--seed",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &e->seed,
         .help = "of the bootstrap: the same seed, the same interval [0]"},
        {.names = "--predictions",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &e->predictions,
         .help = "write every example's gold, prediction and scores as JSON lines"},
        {.names = "--report",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &e->report,
         .help = "write a page of HTML: scores, confusion matrix, worst examples"},
        {.names = "--training-log",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &e->log,
         .help = "JSON lines of a training run: the report gets its loss curve"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

int fm_cmd_eval(int argc, char **argv)
{
    struct fm_eval e = {.task = -1, .n_predict = 64, .n_resamples = 1000, .confidence = 0.95};
    const char *files[2];
    struct fm_cli_list positionals = {files, FM_CLI_N(files), 0};
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS], trace_opts[FM_CLI_TRACE_OPTS];
    struct fm_cli_opt tasks[24], results[16];
    e.stops = (struct fm_cli_list){e.stop_items, FM_EVAL_MAX_STOPS, 0};
    e.text_columns = (struct fm_cli_list){e.text_items, FM__DATA_TEXT_COLUMNS, 0};
    fm__cli_engine_defaults(&e.args);
    struct fm_cli_spec spec = {
        .name = "eval",
        .summary = "how good a model is at a task: scores with intervals, predictions, a report",
        .args = "FILE",
        .text = "FILE holds the examples: labelled texts (CSV, TSV, JSON lines) for classify and regress, else JSON "
                "lines:\n"
                "choice {context, choices, answer}, lambada and perplexity {text} (or plain text), generate {prompt, "
                "answer}.\n"
                "classify takes the model's own classifier where it has one, else the likelihood of the labels.",
        .examples =
            "  fathom eval --task choice arc.jsonl --report arc.html\n"
            "  fathom eval --task lambada lambada_test.jsonl --limit 500 --json\n"
            "  fathom eval --task classify reviews.tsv --prompt 'Review: {text}\\nSentiment:' --label-words bad,good\n"
            "  fathom eval --task classify reviews.tsv --adapter sentiment --predictions out.jsonl\n"
            "  fathom eval --task generate gsm8k.jsonl --match number -n 256 --stop Question:\n",
        .groups = {{"Task", tasks, task_opts(&e, tasks)},
                   {"Results", results, result_opts(&e, results)},
                   {"Model", model_opts, fm__cli_model_opts(&e.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&e.args, run_opts)},
                   {"Output", trace_opts, fm__cli_trace_opts(&e.trace, trace_opts)}},
        .json = &e.json,
        .stats = &e.stats.on,
        .positionals = &positionals,
        .min_positionals = 1,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    fm__cli_stats_begin(&e.stats);
    fm_status status = run(&e, &positionals, &err);
    code = status == FM_OK ? fm__eval_print(&e) : fm__cli_error("eval", &err, e.json);
    fm__eval_close(&e);
    return code;
}
