// SPDX-License-Identifier: MIT
// Labelled texts (CSV, TSV, JSON lines) as examples, through the reader that training uses: the same rows are good, a
// text has the same tokens, a label the same place.
#ifndef FM_EVAL_LABELLED_H
#define FM_EVAL_LABELLED_H

#include "eval/examples.h"
#include "train/data.h"

struct fm__labelled_args {
    const char *path;
    enum fm__eval_task task; // FM__EVAL_CLASSIFY or FM__EVAL_REGRESS
    const struct fm_tokenizer *tok;
    int64_t length;          // tokens a text may have; a longer one is cut and counted
    int64_t skip_bad, limit; // as of fm__examples_args
    const char *const
        *labels; // names in the order of their places; NULL: those that occur, numbers by value, else by bytes
    int n_labels;
    struct fm__data_columns columns;
    enum fm__data_end end; // what the tokens end with
};

// Examples have `text` (spelt from its tokens) and `tokens`. Errors: those of fm__dataset_open.
fm_status fm__labelled_read(const struct fm__labelled_args *args, struct fm__examples *out, struct fm_error *err);

#endif
