// SPDX-License-Identifier: MIT
// Sets of examples to measure a model with: JSON lines, one object a line (plain text for LAMBADA, a passage a line,
// and for perplexity, the whole file a text):
//
//     choice      {"context": "Question: … Answer:", "choices": ["red", "blue"], "answer": 1}   a place, or the choice
//     lambada     {"text": "… the last word"}
//     perplexity  {"text": "…"}
//     generate    {"prompt": "…", "answer": "…"}
//
// Other members are ignored. Labelled texts (classify, regress) come from eval/labelled.h.
#ifndef FM_EVAL_EXAMPLES_H
#define FM_EVAL_EXAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "fathom/status.h"

enum fm__eval_task {
    FM__EVAL_CLASSIFY,
    FM__EVAL_CHOICE,
    FM__EVAL_LAMBADA,
    FM__EVAL_PERPLEXITY,
    FM__EVAL_GENERATE,
    FM__EVAL_REGRESS,
    FM__EVAL_TASKS
};
extern const char *const fm__eval_task_names[FM__EVAL_TASKS];

// Strings are the set's; each is followed by a zero byte and may hold more of them.
struct fm__text {
    char *p;
    size_t n;
};

struct fm__example {
    int64_t line;          // of the file, from 1; of a plain text 1
    struct fm__text text;  // what stands before: context, text, prompt; of LAMBADA all but the last word
    const int32_t *tokens; // of the text, where they are known already: [n_tokens], the set's; else NULL
    int n_tokens;
    struct fm__text answer;   // LAMBADA: the last word with its space. generate: the answer. classify: the label's name
    struct fm__text *choices; // choice
    int n_choices;
    int gold;     // choice: place of the answer; classify: of the label in the set's labels
    double value; // regress
};

struct fm__examples {
    struct fm__example *items;
    int64_t n, cap;
    struct fm__text *labels; // classify: names by place
    int n_labels;
    int64_t n_skipped;       // bad rows
    int64_t n_truncated;     // texts whose tokens were cut
    char first_skipped[256]; // why, of the first
    struct fm__arena arena;  // of the strings
};

struct fm__examples_args {
    const char *path;        // "-": standard input
    enum fm__eval_task task; // not FM__EVAL_CLASSIFY, FM__EVAL_REGRESS
    int64_t skip_bad;        // this many bad rows are left out and counted; one more is an error
    int64_t limit;           // only the first so many; 0: all
};

// Errors: those of reading a file; FM_E_FORMAT, "FILE:LINE: why"; FM_E_ARG (no example at all).
fm_status fm__examples_read(const struct fm__examples_args *args, struct fm__examples *out, struct fm_error *err);
void fm__examples_deinit(struct fm__examples *examples); // zeroed ones are fine

#endif
