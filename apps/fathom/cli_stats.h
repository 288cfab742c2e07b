// SPDX-License-Identifier: MIT
// --stats of any command: time to the first token, tokens/s, peak memory, operations, and energy where the machine
// tells it. A command gives `on` to the parser, calls begin first, and show when its results are out.
#ifndef FM_APP_CLI_STATS_H
#define FM_APP_CLI_STATS_H

#include <jansson.h>

#include "cli_engine.h"

enum { FM_CLI_MAX_RAPL = 8 };

struct fm_cli_stats {
    bool on;
    // the command fills these
    int64_t prompt_tokens, made_tokens;
    double prompt_seconds, made_seconds;
    double first_token; // seconds from the command's start, or an answer's question; 0: no token was made
    bool conversation;  // of several answers: the last one's first token, from its question
    double attended;    // sum over evaluated rows of the keys each attended to
    // begin and end fill these
    double begun, seconds, load_seconds, operations, joules; // joules < 0: not available
    uint64_t peak_bytes;
    uint64_t kv_used_bytes, kv_reserved_bytes; // the most in use at once; room set aside, untouched until used
    uint64_t rapl_uj[FM_CLI_MAX_RAPL];
    int n_rapl;
};

struct fm_cli_reply;
// Adds what a finished reply did.
void fm__cli_stats_reply(struct fm_cli_stats *stats, const struct fm_cli_reply *reply);

void fm__cli_stats_begin(struct fm_cli_stats *stats);
void fm__cli_stats_end(struct fm_cli_stats *stats, const struct fm_cli_engine *engine); // NULL: no model ran

// To stderr; nothing without --stats.
void fm__cli_stats_print(const struct fm_cli_stats *stats);
// As member "stats" of `to`; nothing without --stats.
void fm__cli_stats_json(const struct fm_cli_stats *stats, json_t *to);
// End and print; with json as a line {"stats": …} of its own, for commands that print a line a thing.
void fm__cli_stats_show(struct fm_cli_stats *stats, const struct fm_cli_engine *engine, bool json);

// Multiply-adds times two that evaluating rows takes: products with every weight matrix, and attention.
double fm__cli_row_operations(const struct fm_model *model);       // of one row, without attention and logits
double fm__cli_head_operations(const struct fm_model *model);      // of one row's logits
double fm__cli_attention_operations(const struct fm_model *model); // of one row for each key it attends to

#endif
