// SPDX-License-Identifier: MIT
// Continuing a text. Order of a token: sample, tell the sampler, end of generation?, text, stop strings, length, room,
// append.
#include "cli_reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli_interrupt.h"
#include "cli_out.h"

const char *fm__cli_finish_name(enum fm_cli_finish finish)
{
    static const char *const names[] = {"running", "end", "stop", "length", "context", "cancelled"};
    return names[finish];
}

size_t fm__cli_answer_opts(struct fm_cli_answer *a, struct fm_cli_opt out[FM_CLI_ANSWER_OPTS])
{
    a->stops = (struct fm_cli_list){a->stop_items, FM_CLI_MAX_STOPS, 0};
    const struct fm_cli_opt opts[] = {
        {.names = "-n,--predict,--n-predict",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &a->n_predict,
         .min = -2,
         .max = 1 << 30,
         .help = a->n_predict == FM_CLI_NO_END
                     ? "tokens to make; -1 as many as it takes, -2 until the context is full [-1]"
                     : "tokens to make; -1 as many as it takes, -2 until the context is full [-2]"},
        {.names = "-r,--reverse-prompt,--stop",
         .type = FM_CLI_STRS,
         .arg = "TEXT",
         .out = &a->stops,
         .help = "stop before this text; may be repeated"},
        {.names = "--ignore-eos", .type = FM_CLI_FLAG, .out = &a->ignore_eos, .help = "the model may not end its text"},
        {.names = "--keep",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &a->keep,
         .min = -1,
         .max = 1 << 24,
         .help = a->keep ? "tokens at the start that a full context keeps; -1 the prompt [4]"
                         : "tokens at the start that a full context keeps; -1 the prompt [0]"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

fm_status fm__cli_answer_check(const struct fm_cli_answer *a, struct fm_error *err)
{
    for (size_t i = 0; i < a->stops.n; i++) {
        if (!a->stop_items[i][0]) return fm__fail(err, FM_E_ARG, "-r: an empty stop string, want at least a byte");
    }
    return FM_OK;
}

struct fm_cli_reply_args fm__cli_answer_args(const struct fm_cli_answer *a)
{
    return (struct fm_cli_reply_args){.n_predict = a->n_predict,
                                      .keep = a->keep,
                                      .ignore_eos = a->ignore_eos,
                                      .stops = a->stop_items,
                                      .n_stops = (int)a->stops.n,
                                      .n_logprobs = -1};
}

void fm__cli_to_stdout(void *context, const char *text, size_t n)
{
    (void)context;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
}

fm_status fm__cli_reply_begin(struct fm_cli_reply *r, struct fm_cli_engine *e, struct fm_session *session,
                              struct fm_sampler *sampler, const struct fm_cli_reply_args *args, struct fm_error *err)
{
    *r = (struct fm_cli_reply){
        .args = *args, .engine = e, .session = session, .sampler = sampler, .begun = fm__seconds()};
    unsigned flags =
        FM_DETOK_KEEP_PREFIX | (args->special ? FM_DETOK_SPECIAL : 0U) | (args->valid ? FM_DETOK_VALID : 0U);
    return fm_detok_new(e->tok, flags, &r->detok, err);
}

fm_status fm__cli_reply_prompt(struct fm_cli_reply *r, const int32_t *ids, int n, struct fm_error *err)
{
    if (n < 1) return fm__fail(err, FM_E_ARG, "the prompt has no tokens, want at least one");
    if (n > r->engine->n_ctx)
        return fm__fail(err, FM_E_LIMIT,
                        "the prompt has %d tokens, the context holds %d (-c N; --rope-scale X beyond %d)", n,
                        r->engine->n_ctx, r->engine->info.n_ctx_train);
    FM_TRY(fm_session_sync(r->session, ids, n, err));
    int pending = fm_session_pending(r->session);
    r->n_prompt = n;
    r->attended = 0.5 * ((double)n * (n + 1) - (double)(n - pending) * (n - pending + 1));
    fm_sampler_reset(r->sampler);
    for (int i = 0; i < n; i++) fm_sampler_accept(r->sampler, ids[i]); // penalties look back into the prompt
    return FM_OK;
}

static fm_status emit(struct fm_cli_reply *r, const char *text, size_t n, struct fm_error *err)
{
    if (n == 0) return FM_OK;
    if (!fm__cli_text_add(&r->text, text, n)) return fm__fail_nomem(err, "text", n);
    if (r->args.emit) r->args.emit(r->args.context, text, n);
    return FM_OK;
}

// How much of the end of `text` could be the beginning of a stop string.
static size_t held_back(const struct fm_cli_reply *r, const struct fm_cli_text *text)
{
    size_t most = 0;
    for (int i = 0; i < r->args.n_stops; i++) {
        size_t n = strlen(r->args.stops[i]);
        for (size_t k = n - 1 < text->n ? n - 1 : text->n; k > most; k--) {
            if (memcmp(text->p + text->n - k, r->args.stops[i], k) == 0) most = k;
        }
    }
    return most;
}

// First stop string in the text; its position, or text->n.
static size_t find_stop(const struct fm_cli_reply *r, const struct fm_cli_text *text)
{
    size_t first = text->n;
    for (int i = 0; i < r->args.n_stops; i++) {
        const char *at = memmem(text->p, text->n, r->args.stops[i], strlen(r->args.stops[i]));
        if (at && (size_t)(at - text->p) < first) first = (size_t)(at - text->p);
    }
    return first;
}

static fm_status add_text(struct fm_cli_reply *r, struct fm_str piece, struct fm_error *err)
{
    if (r->args.n_stops == 0) return emit(r, piece.p, piece.n, err);
    if (piece.n == 0) return FM_OK;
    if (!fm__cli_text_add(&r->held, piece.p, piece.n)) return fm__fail_nomem(err, "text", piece.n);
    size_t stop = find_stop(r, &r->held);
    size_t ready = stop < r->held.n ? stop : r->held.n - held_back(r, &r->held);
    FM_TRY(emit(r, r->held.p, ready, err));
    if (stop < r->held.n) {
        r->finish = FM_CLI_STOP;
        r->held.n = 0;
        return FM_OK;
    }
    fm__cli_text_drop(&r->held, ready);
    return FM_OK;
}

static fm_status finish(struct fm_cli_reply *r, enum fm_cli_finish how, struct fm_error *err)
{
    if (r->finish != FM_CLI_STOP) { // what is still held back was text after all
        FM_TRY(add_text(r, fm_detok_finish(r->detok), err));
        if (r->finish != FM_CLI_STOP) FM_TRY(emit(r, r->held.p, r->held.n, err));
        r->held.n = 0;
    }
    if (r->finish == FM_CLI_RUNNING) r->finish = how;
    return FM_OK;
}

static fm_status keep_id(struct fm_cli_reply *r, int32_t id, struct fm_error *err)
{
    if (r->n_made == r->cap_ids) {
        int cap = 2 * r->cap_ids + 64;
        int32_t *more = realloc(r->ids, (size_t)cap * sizeof *more);
        if (!more) return fm__fail_nomem(err, "tokens", (size_t)cap * sizeof *more);
        r->ids = more;
        r->cap_ids = cap;
    }
    r->ids[r->n_made++] = id;
    r->last = fm__seconds();
    if (r->n_made == 1) r->first = r->last;
    return FM_OK;
}

// Room for one more token: shifts where that is wanted. Context positions are the user's business, so it is said.
static fm_status make_room(struct fm_cli_reply *r, struct fm_error *err)
{
    int n, keep = r->args.keep < 0 ? r->n_prompt : r->args.keep;
    fm_session_tokens(r->session, &n);
    if (n < r->engine->n_ctx) return FM_OK;
    if (r->args.n_predict == FM_CLI_UNTIL_FULL) return finish(r, FM_CLI_CONTEXT, err);
    if (keep > n - 2) keep = n - 2 > 0 ? n - 2 : 0;
    int discard = (n - keep) / 2;
    if (discard < 1) discard = 1;
    struct fm_error why = {0};
    fm_status status = fm_session_shift(r->session, keep, discard, &why);
    if (status == FM_E_UNSUPPORTED) {
        fprintf(stderr, "\nfathom: the context of %d tokens is full (%s)\n", r->engine->n_ctx, why.text);
        return finish(r, FM_CLI_CONTEXT, err);
    }
    if (status != FM_OK) return fm__fail(err, status, "context shift: %s", why.text);
    fprintf(stderr, "\nfathom: the context of %d tokens is full: tokens %d to %d are forgotten\n", r->engine->n_ctx,
            keep, keep + discard - 1);
    r->n_shifts++;
    return FM_OK;
}

static json_t *token_json(const struct fm_cli_reply *r, int32_t id, float logprob)
{
    struct fm_str piece = fm_tokenizer_token_bytes(r->engine->tok, id);
    if (piece.n == 0) piece = fm_tokenizer_token_text(r->engine->tok, id);
    return json_pack("{s:i, s:o, s:f}", "id", id, "piece", fm__cli_text(piece.p, piece.n), "logprob", (double)logprob);
}

static fm_status add_logprobs(struct fm_cli_reply *r, const float *logits, int32_t id, struct fm_error *err)
{
    int32_t n = r->args.n_logprobs < r->engine->info.n_vocab ? r->args.n_logprobs : r->engine->info.n_vocab;
    struct fm_token_prob *top = malloc(((size_t)n + 1) * sizeof *top);
    if (!top) return fm__fail_nomem(err, "log-probabilities", (size_t)n * sizeof *top);
    struct fm_logprobs asked = {.token = id, .n_top = n, .top = top};
    fm_status status = fm_sampler_logprobs(r->sampler, logits, &asked, err);
    if (status == FM_OK) {
        json_t *entry = token_json(r, id, asked.chosen), *list = json_array();
        for (int32_t i = 0; i < n && top[i].token >= 0; i++)
            json_array_append_new(list, token_json(r, top[i].token, top[i].p));
        json_object_set_new(entry, "top", list);
        if (!r->logprobs) r->logprobs = json_array();
        json_array_append_new(r->logprobs, entry);
    }
    free(top);
    return status;
}

fm_status fm__cli_reply_advance(struct fm_cli_reply *r, struct fm_error *err)
{
    const float *logits = fm_session_logits(r->session);
    if (!logits || r->finish != FM_CLI_RUNNING) return FM_OK;
    if (r->args.n_predict == 0) return finish(r, FM_CLI_LENGTH, err);
    int32_t id;
    FM_TRY(fm_sampler_sample(r->sampler, logits, &id, err));
    fm_sampler_accept(r->sampler, id);
    if (r->args.n_logprobs >= 0) FM_TRY(add_logprobs(r, logits, id, err));
    FM_TRY(keep_id(r, id, err));
    if (!r->args.ignore_eos && fm_tokenizer_is_eog(r->engine->tok, id)) return finish(r, FM_CLI_END, err);
    struct fm_str piece;
    FM_TRY(fm_detok_push(r->detok, id, &piece, err));
    FM_TRY(add_text(r, piece, err));
    if (r->finish != FM_CLI_RUNNING) return FM_OK;
    if (r->args.n_predict > 0 && r->n_made >= r->args.n_predict) return finish(r, FM_CLI_LENGTH, err);
    FM_TRY(make_room(r, err));
    if (r->finish != FM_CLI_RUNNING) return FM_OK;
    int n;
    fm_session_tokens(r->session, &n);
    r->attended += n + 1;
    return fm_session_append(r->session, &id, 1, err);
}

fm_status fm__cli_reply_run(struct fm_cli_reply *r, struct fm_cli_trace *trace, struct fm_error *err)
{
    while (r->finish == FM_CLI_RUNNING) {
        int n_rows;
        if (fm__cli_interrupted()) return finish(r, FM_CLI_CANCELLED, err);
        FM_TRY(fm__cli_trace_step(trace, r->engine, &n_rows, err));
        FM_TRY(fm__cli_reply_advance(r, err));
    }
    return FM_OK;
}

json_t *fm__cli_reply_json(const struct fm_cli_reply *r)
{
    json_t *ids = json_array();
    for (int i = 0; i < r->n_made; i++) json_array_append_new(ids, json_integer(r->ids[i]));
    json_t *all =
        json_pack("{s:o, s:s, s:i, s:i, s:o, s:i}", "text", fm__cli_text(r->text.p ? r->text.p : "", r->text.n),
                  "finish", fm__cli_finish_name(r->finish), "prompt_tokens", r->n_prompt, "generated_tokens", r->n_made,
                  "ids", ids, "shifts", r->n_shifts);
    if (r->logprobs) json_object_set(all, "logprobs", r->logprobs);
    return all;
}

void fm__cli_reply_end(struct fm_cli_reply *r)
{
    fm_detok_free(r->detok);
    fm__cli_text_free(&r->text);
    fm__cli_text_free(&r->held);
    json_decref(r->logprobs);
    free(r->ids);
    *r = (struct fm_cli_reply){0};
}
