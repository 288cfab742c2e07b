// SPDX-License-Identifier: MIT
// fathom tokenizer train: a tokenizer from text files, written as a GGUF file without tensors.
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli_interrupt.h"
#include "cli_opts.h"
#include "cli_out.h"
#include "cli_stats.h"
#include "commands.h"
#include "text/tok_train.h"

enum { MAX_FILES = 4096, MAX_SPECIAL = 1024 };
static const char *const kind_names[] = {[FM__TOK_BPE] = "bpe", [FM__TOK_CHAR] = "char", [FM__TOK_BYTE] = "byte"};

struct command {
    bool json, no_special;
    int kind, vocab_size;
    int64_t min_count;
    const char *output;
    const char *files[MAX_FILES], *special[MAX_SPECIAL];
    struct fm_cli_list positionals, specials;
    struct fm__tok_train_args args;
    struct fm_cli_stats stats;
    struct fm_cli_progress bar;
    struct fm__tok_trainer *trainer;
    double read_seconds, train_seconds;
};

static bool on_progress(void *context, uint64_t done, uint64_t total)
{
    struct command *c = context;
    c->bar.total = total;
    fm__cli_progress_update(&c->bar, done);
    return !fm__cli_interrupted();
}

static fm_status check(struct command *c, struct fm_error *err)
{
    if (strcmp(c->files[0], "train"))
        return fm__fail(err, FM_E_ARG, "\"%s\": not known, want: fathom tokenizer train FILE…", c->files[0]);
    if (c->positionals.n < 2 && c->kind != FM__TOK_BYTE) return fm__fail(err, FM_E_ARG, "no text file to learn from");
    if (!c->output) return fm__fail(err, FM_E_ARG, "where to? -o FILE.gguf");
    static const char *const end[] = {"<|endoftext|>"};
    c->args.kind = (enum fm__tok_kind)c->kind;
    c->args.vocab_size = c->vocab_size;
    c->args.min_count = c->min_count;
    c->args.special = c->specials.n ? c->special : end;
    c->args.n_special = c->no_special ? 0 : c->specials.n ? (int)c->specials.n : 1;
    c->args.progress = on_progress;
    c->args.context = c;
    if (c->no_special && c->specials.n) return fm__fail(err, FM_E_ARG, "--special and --no-special exclude each other");
    return FM_OK;
}

static fm_status train(struct command *c, struct fm_error *err)
{
    double begun = fm__seconds();
    for (size_t i = 1; i < c->positionals.n; i++) {
        fm__cli_progress_begin(&c->bar, c->files[i], 0, 0);
        fm_status status = fm__tok_trainer_add_file(c->trainer, c->files[i], err);
        fm__cli_progress_end(&c->bar);
        FM_TRY(status);
    }
    c->read_seconds = fm__seconds() - begun;
    fm__cli_progress_begin(&c->bar, "merging", 0, 0);
    c->bar.count = true;
    fm_status status = fm__tok_trainer_train(c->trainer, err);
    fm__cli_progress_end(&c->bar);
    c->train_seconds = fm__seconds() - begun - c->read_seconds;
    return status;
}

static fm_status run(struct command *c, struct fm_error *err)
{
    FM_TRY(check(c, err));
    FM_TRY(fm__tok_trainer_new(&c->args, &c->trainer, err));
    fm__cli_interrupt_begin(NULL);
    fm_status status = train(c, err);
    if (status == FM_OK) status = fm__tok_trainer_write(c->trainer, c->output, err);
    fm__cli_interrupt_end();
    return status;
}

static int report(struct command *c)
{
    const struct fm__tok_trainer *t = c->trainer;
    double seconds = c->read_seconds + c->train_seconds, rate = (double)t->n_bytes / 1e6 / (seconds > 0 ? seconds : 1);
    fm__cli_stats_end(&c->stats, NULL);
    if (c->json) {
        json_t *all = json_pack("{s:s, s:s, s:i, s:I, s:i, s:I, s:I, s:I, s:f, s:f, s:f}", "kind", kind_names[c->kind],
                                "pre", t->args.pre, "tokens", t->n_tokens, "merges", (json_int_t)t->n_merges, "special",
                                c->args.n_special, "bytes", (json_int_t)t->n_bytes, "pieces", (json_int_t)t->n_pieces,
                                "distinct_pieces", (json_int_t)t->pieces.n, "read_s", c->read_seconds, "train_s",
                                c->train_seconds, "mb_per_s", rate);
        json_object_set_new(all, "path", fm__cli_text(c->output, strlen(c->output)));
        fm__cli_stats_json(&c->stats, all);
        return fm__cli_json(all);
    }
    printf("%s: %d tokens (%s, %s), %zu merges, %d special\n", c->output, t->n_tokens, kind_names[c->kind], t->args.pre,
           t->n_merges, c->args.n_special);
    printf("%.1f MB of text in %.2f s (%.1f MB/s): %.2f s counting, %.2f s merging; %u different pieces of %llu\n",
           (double)t->n_bytes / 1e6, seconds, rate, c->read_seconds, c->train_seconds, t->pieces.n,
           (unsigned long long)t->n_pieces);
    if (c->kind == FM__TOK_BPE && t->n_tokens < c->vocab_size)
        fprintf(stderr, "fathom tokenizer: the text gives no more than %d tokens, %d were asked for\n", t->n_tokens,
                c->vocab_size);
    fm__cli_stats_print(&c->stats);
    return 0;
}

int fm_cmd_tokenizer(int argc, char **argv)
{
    struct command c = {.vocab_size = 8192};
    c.positionals = (struct fm_cli_list){c.files, MAX_FILES, 0};
    c.specials = (struct fm_cli_list){c.special, MAX_SPECIAL, 0};
    struct fm_cli_opt opts[] = {
        {.names = "-o,--output", .type = FM_CLI_STR, .arg = "FILE", .out = &c.output, .help = "the file to write"},
        {.names = "--kind",
         .type = FM_CLI_CHOICE,
         .arg = "KIND",
         .choices = "bpe|char|byte",
         .out = &c.kind,
         .help = "what tokens are: merged bytes, characters, single bytes [bpe]"},
        {.names = "--vocab-size",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &c.vocab_size,
         .min = 1,
         .max = 1 << 24,
         .help = "bpe: tokens in all, bytes and special ones among them [8192]"},
        {.names = "--pre",
         .type = FM_CLI_STR,
         .arg = "NAME",
         .out = &c.args.pre,
         .help = "how text is cut before merging, a name that llama.cpp knows too (llama-bpe, qwen2) [gpt-2]"},
        {.names = "--min-count",
         .type = FM_CLI_I64,
         .arg = "N",
         .out = &c.min_count,
         .min = 1,
         .max = 1e15,
         .help = "bpe: how often a pair must occur to become a token [2]"},
        {.names = "--all-bytes",
         .type = FM_CLI_FLAG,
         .out = &c.args.all_bytes,
         .help = "char: the 256 bytes too, so that characters the text has not are not lost"},
        {.names = "--special",
         .type = FM_CLI_STRS,
         .arg = "TEXT",
         .out = &c.specials,
         .help = "a control token; may be given several times, the first begins and ends texts [<|endoftext|>]"},
        {.names = "--no-special", .type = FM_CLI_FLAG, .out = &c.no_special, .help = "no control token at all"},
        {.names = "--name", .type = FM_CLI_STR, .arg = "TEXT", .out = &c.args.name, .help = "general.name of the file"},
    };
    struct fm_cli_spec spec = {
        .name = "tokenizer",
        .summary = "make a tokenizer from text",
        .args = "train FILE...",
        .text =
            "Writes a GGUF file without tensors, for fathom train, fathom tokenize and llama.cpp. The same text gives\n"
            "the same file.",
        .examples = "  fathom tokenizer train book.txt -o book.gguf --vocab-size 4096\n"
                    "  fathom tokenizer train shakespeare.txt -o chars.gguf --kind char\n"
                    "  fathom tokenize -m book.gguf \"a text\"\n",
        .groups = {{"Tokenizer", opts, FM_CLI_N(opts)}},
        .json = &c.json,
        .stats = &c.stats.on,
        .positionals = &c.positionals,
        .min_positionals = 1,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    fm__cli_stats_begin(&c.stats);
    code = run(&c, &err) == FM_OK ? report(&c) : fm__cli_error("tokenizer", &err, c.json);
    fm__tok_trainer_free(c.trainer);
    return code;
}
