// SPDX-License-Identifier: MIT
// Tables of options.
#include "finetune_opts.h"

#include <string.h>

#include "train/loop.h"

static const char kinds[] = "text|chat|completion|classify|regress"; // as enum fm__data_kind begins
static const char schedules[] = "constant|linear|cosine|wsd";        // as enum fm__schedule_kind
static const char optimisers[] = "adamw|adamw8|sgd|muon";            // as enum fm__optimiser_kind

void fm__finetune_defaults(struct fm_finetune_opts *o)
{
    *o = (struct fm_finetune_opts){.schedule = FM__SCHEDULE_COSINE,
                                   .targets = "all-linear",
                                   .batch = 16,
                                   .epochs = 1,
                                   .keep = 2,
                                   .rate_min = -1,
                                   .decay = 0.01,
                                   .dropout = 0.1,
                                   .clip = 1,
                                   .eval_every = 100,
                                   .save_every = 100};
    o->positionals = (struct fm_cli_list){o->files, FM_FINETUNE_FILES, 0};
    o->valid_list = (struct fm_cli_list){o->valid_files, FM_FINETUNE_FILES, 0};
}

size_t fm__finetune_data_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "--data",
         .type = FM_CLI_CHOICE,
         .arg = "KIND",
         .choices = kinds,
         .out = &o->kind,
         .help = "what the files hold [text]"},
        {.names = "--validation-data",
         .type = FM_CLI_STRS,
         .arg = "FILE",
         .out = &o->valid_list,
         .help = "evaluate on this file; may be repeated"},
        {.names = "--validation",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &o->validation,
         .max = 0.9,
         .help = "or on this fraction of the training data [0]"},
        {.names = "--length",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->length,
         .min = 2,
         .max = 1 << 20,
         .help = "tokens a sample may have; longer ones are cut [512]"},
        {.names = "--skip-bad",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->skip_bad,
         .min = -1,
         .max = 1e15,
         .help = "leave out up to N malformed rows; -1 any number [0]"},
        {.names = "--balance",
         .type = FM_CLI_FLAG,
         .out = &o->balance,
         .help = "classes weigh the same, however many rows they have"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

size_t fm__finetune_what_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "-o,--out",
         .type = FM_CLI_STR,
         .arg = "PATH",
         .out = &o->out,
         .help = "the result: a model file; with --lora a folder, or an adapter NAME.gguf"},
        {.names = "--lora,--lora-rank",
         .type = FM_CLI_INT,
         .arg = "RANK",
         .out = &o->rank,
         .min = 1,
         .max = 1024,
         .help = "train low-rank detours, the base stays as it is"},
        {.names = "--lora-alpha",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &o->alpha,
         .max = 1e6,
         .help = "their scale times RANK [2 RANK]"},
        {.names = "--lora-dropout",
         .type = FM_CLI_F64,
         .arg = "P",
         .out = &o->lora_dropout,
         .max = 0.99,
         .help = "dropout before them [0]"},
        {.names = "--lora-targets",
         .type = FM_CLI_STR,
         .arg = "LIST",
         .out = &o->targets,
         .help = "products that get one: attn_q,attn_v,… [all-linear]"},
        {.names = "--rslora", .type = FM_CLI_FLAG, .out = &o->rs_lora, .help = "scale by the root of RANK"},
        {.names = "--type",
         .type = FM_CLI_CHOICE,
         .arg = "TYPE",
         .choices = "f16|f32",
         .out = &o->type,
         .help = "of the matrices in a model file [f16]"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

size_t fm__finetune_step_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "--epochs",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->epochs,
         .min = 1,
         .max = 1e9,
         .help = "passes over the data [1]"},
        {.names = "--steps",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->steps,
         .min = 1,
         .max = 1e12,
         .help = "or this many updates"},
        {.names = "-b,--batch",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->batch,
         .min = 1,
         .max = 1 << 24,
         .help = "samples an update [16]"},
        {.names = "--rows",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->rows,
         .min = 2,
         .max = 1 << 20,
         .help = "tokens that are computed at once: memory against speed [512]"},
        {.names = "--activation-memory",
         .type = FM_CLI_I64,
         .arg = "MIB",
         .out = &o->activations,
         .max = 1 << 24,
         .help = "most memory for activations, the others are computed again; 1 the least there is [all kept]"},
        {.names = "--precision",
         .type = FM_CLI_CHOICE,
         .arg = "TYPE",
         .choices = "f32|bf16",
         .out = &o->precision,
         .help = "of what products are formed from; parameters are f32 [f32]"},
        {.names = "-s,--seed",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->seed,
         .max = 9e15,
         .help = "of order, first values and dropout [0]"},
        {.names = "--skip-nonfinite",
         .type = FM_CLI_FLAG,
         .out = &o->skip_nonfinite,
         .help = "go on without an update whose loss is not finite, instead of stopping"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

size_t fm__finetune_rate_opts(struct fm_finetune_opts *o, struct fm_cli_opt out[FM_FINETUNE_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "--lr",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &o->rate,
         .min = 1e-12,
         .max = 10,
         .help = "learning rate [1e-5; with --lora 1e-4]"},
        {.names = "--lr-min",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &o->rate_min,
         .max = 10,
         .help = "and at the end [a tenth]"},
        {.names = "--schedule",
         .type = FM_CLI_CHOICE,
         .arg = "KIND",
         .choices = schedules,
         .out = &o->schedule,
         .help = "between the two [cosine]"},
        {.names = "--warmup",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->warmup,
         .max = 1e12,
         .help = "updates in which the rate rises [0]"},
        {.names = "--optimizer",
         .type = FM_CLI_CHOICE,
         .arg = "KIND",
         .choices = optimisers,
         .out = &o->optimiser,
         .help = "[adamw]"},
        {.names = "--weight-decay",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &o->decay,
         .max = 10,
         .help = "of matrices [0.01]"},
        {.names = "--dropout",
         .type = FM_CLI_F64,
         .arg = "P",
         .out = &o->dropout,
         .max = 0.99,
         .help = "of what each block adds, without --lora [0.1]"},
        {.names = "--clip",
         .type = FM_CLI_F64,
         .arg = "X",
         .out = &o->clip,
         .max = 1e9,
         .help = "largest norm of an update's gradients; 0 any [1]"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

size_t fm__finetune_run_opts(struct fm_finetune_opts *o, int *threads, struct fm_cli_opt out[FM_FINETUNE_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "--eval-every",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->eval_every,
         .min = 1,
         .max = 1e12,
         .help = "updates between evaluations [100]"},
        {.names = "--patience",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->patience,
         .min = 1,
         .max = 1e9,
         .help = "stop after N evaluations without a better loss"},
        {.names = "--save-every",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->save_every,
         .min = 1,
         .max = 1e12,
         .help = "updates between checkpoints [100]"},
        {.names = "--keep",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &o->keep,
         .min = 1,
         .max = 1e6,
         .help = "last checkpoints to keep, beside the best [2]"},
        {.names = "--checkpoints",
         .type = FM_CLI_STR,
         .arg = "DIR",
         .out = &o->folder,
         .help = "their folder [PATH.run]"},
        {.names = "--resume",
         .type = FM_CLI_FLAG,
         .out = &o->resume,
         .help = "go on from the last checkpoint, bit for bit"},
        {.names = "--log",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &o->log_path,
         .help = "a JSON line an update [PATH.run/log.jsonl]"},
        {.names = "-t,--threads",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = threads,
         .min = 1,
         .max = 4096,
         .help = "threads [every CPU the process may use]"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}
