// SPDX-License-Identifier: MIT
// One text being continued: tokens sampled, text handed out as whole characters, stop strings, the end of the context.
// Several replies may be under way in one batcher; each has its own session, sampler and seed, so that what comes out
// does not depend on the others.
#ifndef FM_APP_CLI_REPLY_H
#define FM_APP_CLI_REPLY_H

#include <jansson.h>

#include "cli_engine.h"
#include "cli_text.h"
#include "cli_trace.h"
#include "fathom/sample.h"

enum fm_cli_finish {
    FM_CLI_RUNNING,
    FM_CLI_END,     // the model ended its text
    FM_CLI_STOP,    // a stop string
    FM_CLI_LENGTH,  // as many tokens as asked for
    FM_CLI_CONTEXT, // the context is full and may not be shifted
    FM_CLI_CANCELLED
};
const char *fm__cli_finish_name(enum fm_cli_finish finish); // "end", "stop", …

enum { FM_CLI_NO_END = -1, FM_CLI_UNTIL_FULL = -2, FM_CLI_MAX_STOPS = 32, FM_CLI_ANSWER_OPTS = 4 };

struct fm_cli_reply_args {
    int n_predict; // tokens; FM_CLI_NO_END: until the model ends, shifting; FM_CLI_UNTIL_FULL: or the context is full
    int keep;      // tokens at the beginning that a shift keeps; -1: the whole prompt
    bool ignore_eos, special, valid; // special: markers are text too; valid: broken characters become U+FFFD
    const char *const *stops;
    int n_stops, n_logprobs;                                 // n_logprobs < 0: none are kept
    void (*emit)(void *context, const char *text, size_t n); // whole characters; NULL: only gathered
    void *context;
};

// The options about an answer's length and end, of every command that makes one.
struct fm_cli_answer {
    int n_predict, keep;
    bool ignore_eos;
    const char *stop_items[FM_CLI_MAX_STOPS];
    struct fm_cli_list stops;
};
// Defaults are what n_predict and keep hold; --help shows them.
size_t fm__cli_answer_opts(struct fm_cli_answer *answer, struct fm_cli_opt out[FM_CLI_ANSWER_OPTS]);
fm_status fm__cli_answer_check(const struct fm_cli_answer *answer, struct fm_error *err);
struct fm_cli_reply_args fm__cli_answer_args(const struct fm_cli_answer *answer);
void fm__cli_to_stdout(void *context, const char *text, size_t n); // an emit; flushes

struct fm_cli_reply {
    struct fm_cli_reply_args args;
    struct fm_cli_engine *engine;
    struct fm_session *session;
    struct fm_sampler *sampler;
    struct fm_detok *detok;
    struct fm_cli_text text, held; // what came out; what may still become a stop string
    json_t *logprobs;              // array, one entry a token
    int32_t *ids;                  // generated
    int n_made, cap_ids, n_prompt, n_shifts;
    enum fm_cli_finish finish;
    double begun, first, last; // fm__seconds; first token, latest token
    double attended;           // see fm_cli_stats
};

// Sets the session's timeline to the prompt. The session and the sampler stay the caller's.
// FM_E_LIMIT: the prompt does not fit into the context.
fm_status fm__cli_reply_begin(struct fm_cli_reply *r, struct fm_cli_engine *e, struct fm_session *session,
                              struct fm_sampler *sampler, const struct fm_cli_reply_args *args, struct fm_error *err);
fm_status fm__cli_reply_prompt(struct fm_cli_reply *r, const int32_t *ids, int n, struct fm_error *err);
// Does what can be done without a step: once logits are there, takes the next token. r->finish tells whether it ended.
fm_status fm__cli_reply_advance(struct fm_cli_reply *r, struct fm_error *err);
void fm__cli_reply_end(struct fm_cli_reply *r); // a zeroed one is fine

// {"text", "finish", "prompt_tokens", "generated_tokens", "ids", "shifts"}, and "logprobs" where they were asked for.
json_t *fm__cli_reply_json(const struct fm_cli_reply *r);

// Runs one reply to its end: steps and advances, ends as FM_CLI_CANCELLED on an interrupt.
fm_status fm__cli_reply_run(struct fm_cli_reply *r, struct fm_cli_trace *trace, struct fm_error *err);

#endif
