// SPDX-License-Identifier: MIT
// The text a command works on: its argument, -p TEXT, -f FILE, or standard input.
#ifndef FM_APP_CLI_INPUT_H
#define FM_APP_CLI_INPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "cli_opts.h"
#include "fathom/status.h"

enum { FM_CLI_INPUT_OPTS = 2, FM_CLI_MAX_PROMPTS = 1024 };

struct fm_cli_input {
    const char *words[FM_CLI_MAX_PROMPTS];
    struct fm_cli_list positionals;
    const char *prompt, *file;
};

void fm__cli_input_init(struct fm_cli_input *input);
size_t fm__cli_input_opts(struct fm_cli_input *input, struct fm_cli_opt out[FM_CLI_INPUT_OPTS]); // -p, -f

bool fm__cli_input_given(const struct fm_cli_input *input); // by argument or option

// The text; *text from the library's allocator: the caller frees with fm__free. More than one source is FM_E_ARG;
// without any, standard input is read to its end ("-f -" too), unless that is a terminal: FM_E_ARG then.
fm_status fm__cli_input_text(const struct fm_cli_input *input, char **text, size_t *n, struct fm_error *err);

#endif
