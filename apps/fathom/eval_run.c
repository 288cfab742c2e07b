// SPDX-License-Identifier: MIT
// From options to outcomes.
#include "eval_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli_interrupt.h"
#include "cli_template.h"
#include "eval/answers.h"

// Together at most this many rows of cache are set aside, and this many sessions: more do not fill steps any fuller.
enum { MAX_CACHE_ROWS = 65536, MAX_TOGETHER = 128, STEP_ROWS = 512, PASSAGE = 1024, LONGEST = 1 << 24 };

bool fm__eval_uses_head(const struct fm_eval *e)
{
    return e->task == FM__EVAL_REGRESS || (e->task == FM__EVAL_CLASSIFY && e->classifier.n_classes && !e->zero_shot);
}

// \n, \t and \\ in an option become what they stand for: not every shell makes it easy to type them.
static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at; at++, to++) {
        bool known = at[0] == '\\' && (at[1] == 'n' || at[1] == 't' || at[1] == '\\');
        *to = !known ? *at : at[1] == 'n' ? '\n' : at[1] == 't' ? '\t' : '\\';
        at += known;
    }
    *to = 0;
}

// The parts of the prompt around "{text}".
static fm_status split_prompt(struct fm_eval *e, struct fm_error *err)
{
    e->between = fm__strdup(e->delimiter ? e->delimiter : " ");
    if (!e->between) return fm__fail_nomem(err, "delimiter", 2);
    unescape(e->between);
    if (!e->prompt) return FM_OK;
    const char *at = strstr(e->prompt, "{text}");
    if (!at) return fm__fail(err, FM_E_ARG, "--prompt \"%.60s\" has no {text}", e->prompt);
    e->before = fm__strndup(e->prompt, (size_t)(at - e->prompt));
    e->after = fm__strdup(at + strlen("{text}"));
    if (!e->before || !e->after) return fm__fail_nomem(err, "prompt", strlen(e->prompt));
    unescape(e->before);
    unescape(e->after);
    return FM_OK;
}

static fm_status check_head(const struct fm_eval *e, struct fm_error *err)
{
    int32_t n = e->classifier.n_classes;
    if (e->task == FM__EVAL_REGRESS && n != 1)
        return fm__fail(err, FM_E_ARG, "%s: %s, want one of 1 output (fathom finetune --task regress makes it)",
                        e->engine.path, n ? "its head has several outputs" : "no head (cls.output.weight)");
    if (e->task == FM__EVAL_CLASSIFY && n && !e->zero_shot && !e->classifier.labels && n < e->examples.n_labels)
        return fm__fail(err, FM_E_SHAPE, "%s has %d labels, the model's head %d classes", e->data, e->examples.n_labels,
                        n);
    return FM_OK;
}

// The head that classifies: the one that an adapter has, else the model file's own.
static fm_status find_head(struct fm_eval *e, struct fm_error *err)
{
    const struct fm_adapter_head *head = NULL;
    for (int i = 0; i < e->engine.adapters.n; i++) {
        if (!e->engine.adapters.items[i]->head.n_classes) continue;
        if (head) return fm__fail(err, FM_E_ARG, "two of the adapters have a head");
        head = &e->engine.adapters.items[i]->head;
    }
    int32_t d = e->engine.info.d_model;
    return head ? fm__classifier_of_head(head, d, &e->classifier, err)
                : fm__classifier_read(fm_model_gguf(e->engine.model), d, &e->classifier, err);
}

// --label-words "negative,positive": what the labels are called after the prompt, in the order of their places.
static fm_status name_labels(struct fm_eval *e, struct fm_error *err)
{
    int n = 0;
    if (!e->label_words || fm__eval_uses_head(e)) return FM_OK;
    e->words = fm__arena_alloc(&e->arena, (size_t)(e->examples.n_labels + 1) * sizeof *e->words);
    if (!e->words) return fm__fail_nomem(err, "labels", (size_t)e->examples.n_labels * sizeof *e->words);
    for (const char *at = e->label_words;; n++) {
        size_t length = strcspn(at, ",");
        if (n < e->examples.n_labels) {
            e->words[n] = (struct fm__text){fm__arena_strndup(&e->arena, at, length), length};
            if (!e->words[n].p) return fm__fail_nomem(err, "labels", length);
        }
        if (!at[length]) break;
        at += length + 1;
    }
    if (n + 1 == e->examples.n_labels) return FM_OK;
    return fm__fail(err, FM_E_ARG, "--label-words has %d words, %s has %d labels", n + 1, e->data,
                    e->examples.n_labels);
}

static bool is_labelled(const struct fm_eval *e)
{
    return e->task == FM__EVAL_CLASSIFY || e->task == FM__EVAL_REGRESS;
}

static int context_of(const struct fm_eval *e)
{
    return e->args.n_ctx ? e->args.n_ctx : e->engine.info.n_ctx_train;
}

// Texts with a label: as training reads them. The head's names, where it has some, are the labels.
static fm_status read_labelled(struct fm_eval *e, struct fm_error *err)
{
    struct fm__labelled_args args = {.path = e->data,
                                     .task = (enum fm__eval_task)e->task,
                                     .tok = e->engine.tok,
                                     .length = fm__eval_uses_head(e) ? context_of(e) : LONGEST,
                                     .skip_bad = e->skip_bad,
                                     .limit = e->limit,
                                     .end = fm__eval_uses_head(e) ? (enum fm__data_end)e->end : FM__END_NONE};
    for (size_t i = 0; i < e->text_columns.n; i++) args.columns.text[i] = e->text_items[i];
    args.columns.label = e->label_column;
    args.columns.header = (enum fm__data_header)e->header;
    const char **labels = NULL;
    if (e->task == FM__EVAL_CLASSIFY && e->classifier.labels) {
        args.n_labels = e->classifier.n_classes;
        labels = fm__calloc((size_t)args.n_labels, sizeof *labels);
        if (!labels) return fm__fail_nomem(err, "labels", (size_t)args.n_labels * sizeof *labels);
        for (int i = 0; i < args.n_labels; i++) labels[i] = e->classifier.labels[i].p;
        args.labels = labels;
    }
    fm_status status = fm__labelled_read(&args, &e->examples, err);
    fm__free(labels);
    return status;
}

static fm_status read_examples(struct fm_eval *e, struct fm_error *err)
{
    struct fm__examples_args args = {
        .path = e->data, .task = (enum fm__eval_task)e->task, .skip_bad = e->skip_bad, .limit = e->limit};
    FM_TRY(is_labelled(e) ? read_labelled(e, err) : fm__examples_read(&args, &e->examples, err));
    return check_head(e, err);
}

// A prompt as the first message of a conversation, up to where the model's answer begins.
static fm_status ask_as_user(struct fm_eval *e, const struct fm_chat_template *tmpl, struct fm__example *example,
                             struct fm_error *err)
{
    struct fm_chat_message message = {"user", NULL, 0};
    char *text =
        fm__malloc(strlen(e->before ? e->before : "") + example->text.n + strlen(e->after ? e->after : "") + 1);
    if (!text) return fm__fail_nomem(err, "prompt", example->text.n);
    message.n_content = (size_t)sprintf(text, "%s", e->before ? e->before : "");
    memcpy(text + message.n_content, example->text.p, example->text.n);
    message.n_content += example->text.n;
    message.n_content += (size_t)sprintf(text + message.n_content, "%s", e->after ? e->after : "");
    message.content = text;
    struct fm_chat_args talk = {.messages = &message, .n_messages = 1};
    int32_t *ids = NULL, *kept = NULL;
    fm_status status = fm__cli_chat_ids(&e->engine, tmpl, &talk, &ids, &example->n_tokens, err);
    fm__free(text);
    if (status == FM_OK) {
        kept = fm__arena_alloc(&e->arena, (size_t)example->n_tokens * sizeof *kept + 1);
        if (!kept) status = fm__fail_nomem(err, "prompt", (size_t)example->n_tokens * sizeof *kept);
    }
    if (kept) memcpy(kept, ids, (size_t)example->n_tokens * sizeof *kept);
    example->tokens = kept;
    free(ids);
    return status == FM_OK ? FM_OK : fm__error_prefix(err, status, "%s:%lld", e->data, (long long)example->line);
}

static fm_status ask_as_users(struct fm_eval *e, struct fm_error *err)
{
    struct fm_chat_template *tmpl;
    if (!e->chat) return FM_OK;
    FM_TRY(fm__cli_template(&e->engine, NULL, &tmpl, err));
    fm_status status = FM_OK;
    for (int64_t i = 0; status == FM_OK && i < e->examples.n; i++)
        status = ask_as_user(e, tmpl, &e->examples.items[i], err);
    fm_chat_template_free(tmpl);
    return status;
}

static fm_status prepare(struct fm_eval *e, struct fm_error *err)
{
    static const enum fm__prepare_as as[FM__EVAL_TASKS] = {
        [FM__EVAL_CLASSIFY] = FM__AS_LABELS,   [FM__EVAL_CHOICE] = FM__AS_CHOICES,
        [FM__EVAL_LAMBADA] = FM__AS_LAST_WORD, [FM__EVAL_PERPLEXITY] = FM__AS_PASSAGE,
        [FM__EVAL_GENERATE] = FM__AS_TEXT,     [FM__EVAL_REGRESS] = FM__AS_TEXT,
    };
    int n_ctx = context_of(e);
    if (e->task == FM__EVAL_PERPLEXITY && !e->args.n_ctx && n_ctx > PASSAGE) n_ctx = PASSAGE;
    if (e->task == FM__EVAL_GENERATE && e->n_predict >= n_ctx)
        return fm__fail(err, FM_E_ARG, "-n %d: the context holds %d tokens", e->n_predict, n_ctx);
    struct fm__prepare_args args = {.tok = e->engine.tok,
                                    .examples = &e->examples,
                                    .labels = e->words,
                                    .as = fm__eval_uses_head(e) ? FM__AS_TEXT : as[e->task],
                                    .n_ctx = n_ctx,
                                    .room = e->task == FM__EVAL_GENERATE ? e->n_predict : 0,
                                    .before = e->before,
                                    .after = e->after,
                                    .delimiter = e->between,
                                    .parse_special = true};
    return fm__prepare(&args, &e->prepared, err);
}

// A batcher with as many sessions as fill its steps, and no more room than the longest example takes.
static fm_status make_batcher(struct fm_eval *e, struct fm_error *err)
{
    int64_t n = e->prepared.n, mean = e->prepared.n_tokens / n + 1;
    int room = fm__likelihood_room(e->prepared.contexts, n);
    if (e->task == FM__EVAL_GENERATE) room += e->n_predict;
    int64_t together = e->task == FM__EVAL_GENERATE ? 32 : 2 * STEP_ROWS / mean + 2;
    if (together > MAX_CACHE_ROWS / room) together = MAX_CACHE_ROWS / room;
    if (together > MAX_TOGETHER) together = MAX_TOGETHER;
    if (e->n_together > 0) together = e->n_together;
    if (together > n) together = n;
    if (together < 1) together = 1;
    e->n_lanes = (int)together;
    e->args.n_ctx = room;
    return fm__cli_engine_batcher(&e->engine, &e->args, e->n_lanes, err);
}

static fm_status step(void *context, struct fm_batcher *batcher, struct fm_error *err)
{
    (void)batcher;
    struct fm_eval *e = context;
    int n_rows;
    if (fm__cli_interrupted()) return fm__fail(err, FM_E_CANCELLED, "interrupted");
    return fm__cli_trace_step(&e->trace, &e->engine, &n_rows, err);
}

static void on_progress(void *context, int64_t done, int64_t n_jobs)
{
    (void)n_jobs;
    struct fm_eval *e = context;
    fm__cli_progress_update(&e->bar, (uint64_t)done);
}

static void on_hidden(void *context, int64_t index, const float *hidden)
{
    struct fm_eval *e = context;
    fm__classifier_scores(&e->classifier, hidden, e->outcomes[index].scores);
}

static fm_status ask(struct fm_eval *e, struct fm_error *err)
{
    struct fm__together together = {
        .batcher = e->engine.batcher, .n_lanes = e->n_lanes, .step = step, .step_context = e, .progress = on_progress};
    if (e->task != FM__EVAL_GENERATE) {
        struct fm__likelihood likelihood = {.together = together,
                                            .contexts = e->prepared.contexts,
                                            .n = e->prepared.n,
                                            .n_vocab = e->engine.info.n_vocab,
                                            .hidden = fm__eval_uses_head(e) ? on_hidden : NULL,
                                            .hidden_context = e};
        return fm__likelihood_run(&likelihood, err);
    }
    struct fm__answers answers = {.together = together,
                                  .tok = e->engine.tok,
                                  .questions = e->questions,
                                  .n = e->prepared.n,
                                  .n_predict = e->n_predict,
                                  .stops = e->stop_items,
                                  .n_stops = (int)e->stops.n,
                                  .n_ctx = e->args.n_ctx,
                                  .n_vocab = e->engine.info.n_vocab};
    return fm__answers_run(&answers, err);
}

// --- what came of an example ---

static fm_status make_outcomes(struct fm_eval *e, struct fm_error *err)
{
    size_t n = (size_t)e->prepared.n;
    e->outcomes = fm__calloc(n, sizeof *e->outcomes);
    e->questions = fm__calloc(n, sizeof *e->questions);
    if (!e->outcomes || !e->questions) return fm__fail_nomem(err, "outcomes", n * sizeof *e->outcomes);
    for (size_t i = 0; i < n; i++) {
        struct fm__outcome *o = &e->outcomes[i];
        const struct fm__context *c = &e->prepared.contexts[i];
        o->example = e->prepared.example[i];
        o->gold = e->examples.items[o->example].gold;
        o->gold_value = e->examples.items[o->example].value;
        e->questions[i] = (struct fm__question){.tokens = c->tokens, .n = c->n};
        o->n_scores = fm__eval_uses_head(e) ? e->classifier.n_classes : c->n_continuations;
        o->scores = fm__arena_alloc(&e->arena, (size_t)(o->n_scores + 1) * sizeof *o->scores);
        if (!o->scores) return fm__fail_nomem(err, "scores", (size_t)o->n_scores * sizeof *o->scores);
    }
    return FM_OK;
}

static fm_status pick(struct fm_eval *e, struct fm__outcome *o, const struct fm__context *c, struct fm_error *err)
{
    const struct fm__example *example = &e->examples.items[o->example];
    double *lengths = NULL;
    for (int i = 0; i < c->n_continuations; i++) o->scores[i] = c->continuations[i].log_p;
    if (e->task == FM__EVAL_CHOICE) {
        lengths = fm__arena_alloc(&e->arena, (size_t)o->n_scores * sizeof *lengths);
        if (!lengths) return fm__fail_nomem(err, "lengths", (size_t)o->n_scores * sizeof *lengths);
        for (int i = 0; i < o->n_scores; i++) lengths[i] = (double)fm__count_characters(&example->choices[i]);
    }
    fm__outcome_pick(o, lengths);
    return FM_OK;
}

// The text of tokens.
static fm_status decode(struct fm_eval *e, const int32_t *ids, int n, struct fm__text *out, struct fm_error *err)
{
    struct fm_decode_args args = {.ids = ids, .n = (size_t)n, .flags = FM_DECODE_SPECIAL | FM_DECODE_KEEP_PREFIX};
    FM_TRY(fm_tokenizer_decode(e->engine.tok, &args, NULL, 0, &out->n, err));
    out->p = fm__arena_alloc(&e->arena, out->n + 1);
    if (!out->p) return fm__fail_nomem(err, "text", out->n);
    return fm_tokenizer_decode(e->engine.tok, &args, out->p, out->n, &out->n, err);
}

static fm_status last_word(struct fm_eval *e, struct fm__outcome *o, const struct fm__continuation *c,
                           struct fm_error *err)
{
    o->log_p = c->log_p;
    o->n_tokens = c->n;
    o->correct = c->greedy;
    return decode(e, c->top, c->n, &o->text, err);
}

static void passage(const struct fm_eval *e, struct fm__outcome *o, const struct fm__continuation *c)
{
    o->log_p = c->log_p;
    o->n_tokens = c->n;
    for (int i = 0; i < c->n; i++) o->n_bytes += (int64_t)fm_tokenizer_token_bytes(e->engine.tok, c->tokens[i]).n;
}

static fm_status finish(struct fm_eval *e, int64_t i, struct fm_error *err)
{
    struct fm__outcome *o = &e->outcomes[i];
    const struct fm__context *c = &e->prepared.contexts[i];
    switch (e->task) {
    case FM__EVAL_LAMBADA:
        return last_word(e, o, c->continuations, err);
    case FM__EVAL_PERPLEXITY:
        passage(e, o, c->continuations);
        return FM_OK;
    case FM__EVAL_REGRESS:
        o->value = o->scores[0];
        return FM_OK;
    case FM__EVAL_GENERATE:
        o->text = (struct fm__text){e->questions[i].answer, e->questions[i].n_answer};
        o->correct =
            fm__match((enum fm__match)e->match, e->ignore_case, &o->text, &e->examples.items[o->example].answer);
        return FM_OK;
    default:
        return pick(e, o, c, err);
    }
}

static fm_status score(struct fm_eval *e, struct fm_error *err)
{
    int64_t n = e->prepared.n;
    for (int64_t i = 0; i < n; i++) FM_TRY(finish(e, i, err));
    int32_t n_classes = e->examples.n_labels;
    if (fm__eval_uses_head(e) && e->classifier.n_classes > n_classes) n_classes = e->classifier.n_classes;
    struct fm__measure_args args = {.task = (enum fm__eval_task)e->task,
                                    .outcomes = e->outcomes,
                                    .n = n,
                                    .n_classes = n_classes,
                                    .confidence = e->confidence,
                                    .exact = e->interval == 1,
                                    .n_resamples = e->n_resamples,
                                    .seed = (uint64_t)e->seed};
    return fm__measure_all(&args, &e->measures, err);
}

static void count_work(struct fm_eval *e)
{
    struct fm_batcher_stats stats;
    fm_batcher_get_stats(e->engine.batcher, &stats);
    e->stats.prompt_tokens = (int64_t)stats.n_rows;
    e->stats.prompt_seconds = e->seconds;
    for (int64_t i = 0; i < e->prepared.n; i++) {
        e->stats.attended += 0.5 * (double)e->prepared.contexts[i].n * (e->prepared.contexts[i].n + 1);
        e->stats.made_tokens += e->questions[i].n_made;
    }
}

fm_status fm__eval_run(struct fm_eval *e, struct fm_error *err)
{
    FM_TRY(split_prompt(e, err));
    FM_TRY(fm__cli_engine_open(&e->engine, &e->args, err));
    FM_TRY(find_head(e, err));
    FM_TRY(read_examples(e, err));
    FM_TRY(name_labels(e, err));
    FM_TRY(ask_as_users(e, err));
    FM_TRY(prepare(e, err));
    e->prepared.n_truncated += e->examples.n_truncated;
    FM_TRY(make_batcher(e, err));
    FM_TRY(make_outcomes(e, err));
    fm__cli_progress_begin(&e->bar, fm__eval_task_names[e->task], 0, (uint64_t)e->prepared.n);
    e->bar.count = true;
    fm__cli_interrupt_begin(e->engine.batcher);
    double begun = fm__seconds();
    fm_status status = ask(e, err);
    e->seconds = fm__seconds() - begun;
    fm__cli_interrupt_end();
    fm__cli_progress_end(&e->bar);
    FM_TRY(status);
    count_work(e);
    return score(e, err);
}

void fm__eval_close(struct fm_eval *e)
{
    for (int64_t i = 0; e->questions && i < e->prepared.n; i++) fm__free(e->questions[i].answer);
    fm__free(e->questions);
    fm__free(e->outcomes);
    fm__measures_deinit(&e->measures);
    fm__prepared_deinit(&e->prepared);
    fm__examples_deinit(&e->examples);
    fm__classifier_deinit(&e->classifier);
    fm__arena_deinit(&e->arena);
    fm__free(e->between);
    fm__free(e->before);
    fm__free(e->after);
    fm__cli_engine_close(&e->engine);
}
