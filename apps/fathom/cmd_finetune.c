// SPDX-License-Identifier: MIT
// fathom finetune: a model learns from a file of examples; all of its weights, or low-rank detours beside them.
#include "commands.h"
#include "train_run.h"

int fm_cmd_finetune(int argc, char **argv)
{
    struct fm_train_run c = {.name = "finetune"};
    struct fm_cli_opt model[FM_CLI_MODEL_OPTS], data[FM_FINETUNE_OPTS], what[FM_FINETUNE_OPTS], steps[FM_FINETUNE_OPTS],
        rates[FM_FINETUNE_OPTS], runs[FM_FINETUNE_OPTS];
    fm__finetune_defaults(&c.opts);
    fm__cli_engine_defaults(&c.args);
    struct fm_cli_spec spec = {
        .name = "finetune",
        .summary = "teach a model with a file of examples",
        .args = "FILE…",
        .text = "Without --lora all weights are trained and PATH is a new model file. With it the base is left as it "
                "is, of\n"
                "whatever type, and PATH is an adapter for `--adapter`. Ctrl-C saves; --resume goes on bit for bit.",
        .examples = "  fathom finetune --data chat talk.jsonl --lora 16 -o talk\n"
                    "  fathom finetune --data classify train.tsv --validation-data dev.tsv --lora 16 -o sentiment\n"
                    "  fathom finetune -m model.gguf book.txt --epochs 2 -o taught.gguf\n",
        .groups = {{"Data", data, fm__finetune_data_opts(&c.opts, data)},
                   {"What is trained", what, fm__finetune_what_opts(&c.opts, what)},
                   {"Steps", steps, fm__finetune_step_opts(&c.opts, steps)},
                   {"Rates", rates, fm__finetune_rate_opts(&c.opts, rates)},
                   {"Run", runs, fm__finetune_run_opts(&c.opts, &c.args.threads, runs)},
                   {"Model", model, fm__cli_model_opts(&c.args, model)}},
        .json = &c.json,
        .stats = &c.stats.on,
        .positionals = &c.opts.positionals,
        .min_positionals = 1,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    return fm__train_run(&c);
}
