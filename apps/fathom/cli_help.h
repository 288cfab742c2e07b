// SPDX-License-Identifier: MIT
// Three printings of a command's tables: --help for people, --help=man (a man page section), --help=words (completion).
#ifndef FM_APP_CLI_HELP_H
#define FM_APP_CLI_HELP_H

#include <stdbool.h>

#include "cli_opts.h"

bool fm__cli_help_word(const char *word); // is it -h, --help, --help=man or --help=words?

// Prints what `word` asks for to stdout; returns 0.
int fm__cli_help(const struct fm_cli_spec *spec, const char *word);

// `text` to stdout with what troff would interpret escaped.
void fm__cli_troff(const char *text);

#endif
