// SPDX-License-Identifier: MIT
// fathom eval: a set of examples put to a model, and what came of each.
#ifndef FM_APP_EVAL_RUN_H
#define FM_APP_EVAL_RUN_H

#include "cli_engine.h"
#include "cli_out.h"
#include "cli_stats.h"
#include "cli_trace.h"
#include "eval/classifier.h"
#include "eval/examples.h"
#include "eval/labelled.h"
#include "eval/match.h"
#include "eval/outcomes.h"
#include "eval/prepare.h"

enum { FM_EVAL_MAX_STOPS = 32 };

struct fm_eval {
    // options
    int task, match, interval; // enum fm__eval_task, enum fm__match; 1: exact
    const char *data, *prompt, *delimiter, *predictions, *report, *log, *label_words;
    const char *stop_items[FM_EVAL_MAX_STOPS];
    struct fm_cli_list stops, text_columns;
    const char *text_items[FM__DATA_TEXT_COLUMNS], *label_column;
    int header, end; // enum fm__data_header, enum fm__data_end
    bool json, ignore_case, zero_shot, chat;
    int n_predict, n_together, n_resamples;
    int64_t limit, skip_bad, seed;
    double confidence;
    struct fm_cli_engine_args args;
    // what runs
    struct fm_cli_engine engine;
    struct fm_cli_stats stats;
    struct fm_cli_trace trace;
    struct fm_cli_progress bar;
    // what there is
    struct fm__classifier classifier;
    struct fm__examples examples;
    struct fm__prepared prepared;
    struct fm__question *questions; // generate: [prepared.n]
    struct fm__outcome *outcomes;   // [prepared.n]
    struct fm__arena arena;         // of the outcomes
    char *before, *after, *between; // of the prompt's {text}; the delimiter
    struct fm__text *words;         // what labels are called; NULL: their names
    int n_lanes;
    double seconds; // of the model's work
    struct fm__measures measures;
};

// Opens the model, reads the set, asks, scores. The caller closes in any case.
fm_status fm__eval_run(struct fm_eval *e, struct fm_error *err);
void fm__eval_close(struct fm_eval *e);

bool fm__eval_uses_head(const struct fm_eval *e); // classify and regress with the model's head

#endif
