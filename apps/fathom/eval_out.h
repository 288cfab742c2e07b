// SPDX-License-Identifier: MIT
// What fathom eval says: text, JSON, and a file of predictions.
#ifndef FM_APP_EVAL_OUT_H
#define FM_APP_EVAL_OUT_H

#include "eval_run.h"

enum { FM_EVAL_HASH_HEX = 17 };

// The name of a class: its label, or "class 3". buf [32] is for the latter.
const char *fm__eval_class(const struct fm_eval *e, int32_t class, char buf[32]);

// First 16 hex digits of the SHA-256 of an example's input (for choices: the context).
void fm__eval_hash(const struct fm_eval *e, int64_t outcome, char hex[FM_EVAL_HASH_HEX]);

int fm__eval_print(const struct fm_eval *e); // an exit code

// JSON lines, one an outcome, in order; docs/cli.md has their members. scripts/score_predictions.py scores them anew.
fm_status fm__eval_write_predictions(const struct fm_eval *e, const char *path, struct fm_error *err);

#endif
