// SPDX-License-Identifier: MIT
// Where a command's text comes from.
#include "cli_input.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"

static const size_t max_text = (size_t)512 << 20; // what a tokenizer takes

void fm__cli_input_init(struct fm_cli_input *input)
{
    *input = (struct fm_cli_input){0};
    input->positionals = (struct fm_cli_list){input->words, FM_CLI_MAX_PROMPTS, 0};
}

size_t fm__cli_input_opts(struct fm_cli_input *input, struct fm_cli_opt out[FM_CLI_INPUT_OPTS])
{
    out[0] = (struct fm_cli_opt){
        .names = "-p,--prompt", .type = FM_CLI_STR, .arg = "TEXT", .out = &input->prompt, .help = "the text"};
    out[1] = (struct fm_cli_opt){.names = "-f,--file",
                                 .type = FM_CLI_STR,
                                 .arg = "FILE",
                                 .out = &input->file,
                                 .help = "the text is this file's; - is standard input"};
    return FM_CLI_INPUT_OPTS;
}

bool fm__cli_input_given(const struct fm_cli_input *input)
{
    return input->positionals.n > 0 || input->prompt || input->file;
}

static fm_status copy(const char *from, char **text, size_t *n, struct fm_error *err)
{
    *n = strlen(from);
    *text = fm__strndup(from, *n);
    return *text ? FM_OK : fm__fail_nomem(err, "text", *n);
}

fm_status fm__cli_input_text(const struct fm_cli_input *input, char **text, size_t *n, struct fm_error *err)
{
    *text = NULL;
    *n = 0;
    if ((input->positionals.n > 0) + (input->prompt != NULL) + (input->file != NULL) > 1 || input->positionals.n > 1)
        return fm__fail(err, FM_E_ARG, "more than one text: want one argument, -p, or -f");
    if (input->positionals.n == 1) return copy(input->words[0], text, n, err);
    if (input->prompt) return copy(input->prompt, text, n, err);
    if (input->file && strcmp(input->file, "-") != 0) return fm__file_read_all(input->file, max_text, text, n, err);
    if (!input->file && isatty(0))
        return fm__fail(err, FM_E_ARG, "no text: want an argument, -p TEXT, -f FILE, or standard input");
    return fm__file_read_all("/dev/stdin", max_text, text, n, err);
}
