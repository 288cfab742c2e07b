// SPDX-License-Identifier: MIT
// Ctrl-C while a model runs: the first one ends the answer after the step at hand, a second one before that was seen
// ends the program as if there were no handler.
#ifndef FM_APP_CLI_INTERRUPT_H
#define FM_APP_CLI_INTERRUPT_H

#include <stdbool.h>

struct fm_batcher;

// From here to fm__cli_interrupt_end, SIGINT and SIGTERM set the flag and cancel `batcher` (NULL: only the flag).
void fm__cli_interrupt_begin(struct fm_batcher *batcher);
void fm__cli_interrupt_end(void);

// A conversation at a terminal: from here on SIGINT stops answers (between begin and end) and else does nothing,
// however often it comes; SIGTERM ends the program.
void fm__cli_interrupt_ignore(void);

bool fm__cli_interrupted(void); // since the last begin

#endif
