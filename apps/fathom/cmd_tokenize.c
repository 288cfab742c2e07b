// SPDX-License-Identifier: MIT
// fathom tokenize: the ids of a text and the pieces they stand for.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli_engine.h"
#include "cli_input.h"
#include "cli_out.h"
#include "cli_stats.h"
#include "commands.h"

struct options {
    bool json, ids_only, no_bos, no_special, count;
    struct fm_cli_stats stats;
};

// The piece with what a terminal would act on written as \xNN.
static void print_piece(struct fm_str piece)
{
    for (size_t i = 0; i < piece.n; i++) {
        unsigned char c = (unsigned char)piece.p[i];
        if (c < 0x20 || c == 0x7f || c == '\\') {
            printf(c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\\' ? "\\\\" : "\\x%02x", c);
        } else {
            putchar(c);
        }
    }
}

static struct fm_str piece_of(const struct fm_tokenizer *tok, int32_t id)
{
    fm_token_type type = fm_tokenizer_token_type(tok, id);
    bool marker = type == FM_TOKEN_CONTROL || type == FM_TOKEN_UNKNOWN;
    return marker ? fm_tokenizer_token_text(tok, id) : fm_tokenizer_token_bytes(tok, id);
}

static int print_json(const struct options *o, const struct fm_tokenizer *tok, const int32_t *ids, int n)
{
    json_t *list = json_array(), *pieces = json_array();
    for (int i = 0; i < n; i++) {
        struct fm_str piece = piece_of(tok, ids[i]);
        json_array_append_new(list, json_integer(ids[i]));
        json_array_append_new(pieces, fm__cli_text(piece.p, piece.n));
    }
    json_t *all = json_pack("{s:i, s:o, s:o}", "n", n, "ids", list, "pieces", pieces);
    fm__cli_stats_json(&o->stats, all);
    return fm__cli_json(all);
}

static int print(const struct options *o, const struct fm_tokenizer *tok, const int32_t *ids, int n)
{
    if (o->json) return print_json(o, tok, ids, n);
    if (o->count) {
        printf("%d\n", n);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        if (o->ids_only) {
            printf("%s%d", i ? " " : "", ids[i]);
            continue;
        }
        printf("%7d  ", ids[i]);
        print_piece(piece_of(tok, ids[i]));
        putchar('\n');
    }
    if (o->ids_only) putchar('\n');
    return 0;
}

static fm_status run(const struct fm_cli_engine_args *args, struct options *o, struct fm_cli_input *input,
                     struct fm_error *err)
{
    char *path = NULL, *text = NULL;
    struct fm_gguf *gguf = NULL;
    struct fm_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    size_t n = 0;
    int n_ids = 0;
    unsigned flags = (o->no_bos ? 0U : FM_ENCODE_ADD_SPECIAL) | (o->no_special ? 0U : FM_ENCODE_PARSE_SPECIAL);
    fm__cli_stats_begin(&o->stats);
    fm_status status = fm__cli_input_text(input, &text, &n, err);
    if (status == FM_OK) status = fm__cli_open_vocab(args, &path, &gguf, &tok, err);
    double begun = fm__seconds();
    o->stats.load_seconds = begun - o->stats.begun;
    if (status == FM_OK)
        status = fm__cli_encode(tok, &(struct fm_encode_args){.text = text, .n = n, .flags = flags}, &ids, &n_ids, err);
    if (status == FM_OK) {
        o->stats.prompt_tokens = n_ids;
        o->stats.prompt_seconds = fm__seconds() - begun;
        fm__cli_stats_end(&o->stats, NULL);
        print(o, tok, ids, n_ids);
        if (!o->json) fm__cli_stats_print(&o->stats);
    }
    free(ids);
    fm__free(text);
    fm_tokenizer_free(tok);
    fm_gguf_close(gguf);
    free(path);
    return status;
}

int fm_cmd_tokenize(int argc, char **argv)
{
    struct options o = {0};
    struct fm_cli_engine_args args;
    struct fm_cli_input input;
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], input_opts[FM_CLI_INPUT_OPTS];
    fm__cli_engine_defaults(&args);
    fm__cli_input_init(&input);
    struct fm_cli_opt opts[] = {
        {.names = "--ids", .type = FM_CLI_FLAG, .out = &o.ids_only, .help = "only the ids, on one line"},
        {.names = "--count,--show-count", .type = FM_CLI_FLAG, .out = &o.count, .help = "only how many there are"},
        {.names = "--no-bos",
         .type = FM_CLI_FLAG,
         .out = &o.no_bos,
         .help = "without the BOS and EOS that the model expects"},
        {.names = "--no-parse-special",
         .type = FM_CLI_FLAG,
         .out = &o.no_special,
         .help = "read markers like <|im_start|> as plain text"},
    };
    struct fm_cli_spec spec = {
        .name = "tokenize",
        .summary = "the ids of a text and the pieces they stand for",
        .args = "[TEXT]",
        .text = "The text is the argument, -p, a file (-f), or what comes in on standard input.",
        .examples = "  fathom tokenize \"Hello, world\"\n  fathom tokenize -m gemma3 --ids -f notes.txt\n",
        .groups = {{"Text", input_opts, fm__cli_input_opts(&input, input_opts)},
                   {"Output", opts, FM_CLI_N(opts)},
                   {"Model", model_opts, fm__cli_model_opts(&args, model_opts)}},
        .json = &o.json,
        .stats = &o.stats.on,
        .positionals = &input.positionals,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    fm_status status = run(&args, &o, &input, &err);
    return status == FM_OK ? 0 : fm__cli_error("tokenize", &err, o.json);
}
