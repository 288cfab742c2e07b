// SPDX-License-Identifier: MIT
// Slots take lines as they become free; finished answers wait until all before them are out.
#include "cli_jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli_interrupt.h"
#include "cli_out.h"

struct slot {
    bool busy;
    int index; // of the line
    json_t *line;
    const char **stops;
    struct fm_session *session;
    struct fm_sampler *sampler;
    struct fm_cli_reply reply;
};

struct run {
    const struct fm_cli_jobs *jobs;
    const char *at, *end;
    int line_number, n_started, n_printed;
    json_t **done; // [cap], answers by index; NULL: not yet
    int cap;
    struct slot *slots;
    fm_status first_failure;
    struct fm_error first_error;
};

// The next line that is not empty; false at the end.
static bool next_line(struct run *run, const char **line, size_t *n)
{
    while (run->at < run->end) {
        const char *newline = memchr(run->at, '\n', (size_t)(run->end - run->at));
        const char *stop = newline ? newline : run->end;
        *line = run->at;
        *n = (size_t)(stop - run->at);
        run->at = newline ? newline + 1 : run->end;
        run->line_number++;
        if (strspn(*line, " \t\r") < *n) return true;
    }
    return false;
}

static fm_status put_done(struct run *run, int index, json_t *answer, struct fm_error *err)
{
    if (!answer) return fm__fail_nomem(err, "answer", 0);
    if (!run->done || index >= run->cap) {
        int cap = 2 * index + 16;
        json_t **more = realloc(run->done, (size_t)cap * sizeof *more);
        if (!more) {
            json_decref(answer);
            return fm__fail_nomem(err, "answers", (size_t)cap * sizeof *more);
        }
        memset(more + run->cap, 0, (size_t)(cap - run->cap) * sizeof *more);
        run->done = more;
        run->cap = cap;
    }
    run->done[index] = answer;
    while (run->n_printed < run->cap && run->done[run->n_printed]) {
        fm__cli_json(run->done[run->n_printed]);
        run->done[run->n_printed++] = NULL;
        fflush(stdout);
    }
    return FM_OK;
}

static fm_status put_error(struct run *run, const struct slot *slot, const struct fm_error *why, struct fm_error *err)
{
    json_t *answer = json_pack("{s:i, s:{s:s, s:o}}", "index", slot->index, "error", "code", fm_status_text(why->code),
                               "text", fm__cli_text(why->text, strlen(why->text)));
    json_t *id = json_is_object(slot->line) ? json_object_get(slot->line, "id") : NULL;
    if (id) json_object_set(answer, "id", id);
    if (run->first_failure == FM_OK) {
        run->first_failure = why->code;
        run->first_error = *why;
    }
    return put_done(run, slot->index, answer, err);
}

static void clear(struct slot *slot)
{
    fm__cli_reply_end(&slot->reply);
    fm_sampler_free(slot->sampler);
    fm_session_free(slot->session);
    json_decref(slot->line);
    free(slot->stops);
    *slot = (struct slot){0};
}

static fm_status read_stops(struct slot *slot, struct fm_cli_reply_args *args, int line, struct fm_error *err)
{
    json_t *stop = json_object_get(slot->line, "stop");
    if (!stop) return FM_OK;
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    slot->stops = calloc(n + 1, sizeof *slot->stops);
    if (!slot->stops) return fm__fail_nomem(err, "stop strings", n * sizeof *slot->stops);
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_is_array(stop) ? json_array_get(stop, i) : stop);
        if (!text || !text[0])
            return fm__fail(err, FM_E_ARG, "line %d: \"stop\" is not a string or a list of strings", line);
        slot->stops[i] = text;
    }
    args->stops = slot->stops;
    args->n_stops = (int)n;
    return FM_OK;
}

static fm_status read_line(struct run *run, struct slot *slot, const char *line, size_t n, struct fm_error *err)
{
    json_error_t why;
    slot->line = json_loadb(line, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    if (!slot->line)
        return fm__fail(err, FM_E_FORMAT, "line %d: %s (column %d)", run->line_number, why.text, why.column);
    json_t *prompt = json_is_object(slot->line) ? json_object_get(slot->line, "prompt") : slot->line;
    if (!json_is_string(prompt))
        return fm__fail(err, FM_E_ARG, "line %d: no string \"prompt\"; want {\"prompt\": \"…\"} or a string",
                        run->line_number);
    return FM_OK;
}

// "adapter": a name, or null for the model alone; a line without it runs with all that were given.
static fm_status choose_adapter(struct run *run, struct slot *slot, struct fm_error *err)
{
    const json_t *adapter = json_is_object(slot->line) ? json_object_get(slot->line, "adapter") : NULL;
    int choice = -1;
    if (!adapter) return FM_OK;
    if (!json_is_null(adapter) && !json_is_string(adapter))
        return fm__fail(err, FM_E_ARG, "line %d: \"adapter\" is a name or null", run->line_number);
    if (json_is_string(adapter)) {
        fm_status status =
            fm__cli_adapters_find(&run->jobs->engine->adapters, json_string_value(adapter), &choice, err);
        if (status != FM_OK) return fm__error_prefix(err, status, "line %d", run->line_number);
    }
    return fm_session_set_adapter(slot->session, choice, err);
}

// A line becomes a reply under way. The error is the line's, not the machinery's.
static fm_status start(struct run *run, struct slot *slot, const char *line, size_t n, struct fm_error *err)
{
    const struct fm_cli_jobs *jobs = run->jobs;
    struct fm_cli_reply_args args = jobs->reply;
    struct fm_cli_sampling sampling = *jobs->sampling;
    uint64_t add = (uint64_t)slot->index;
    FM_TRY(read_line(run, slot, line, n, err));
    json_t *prompt = slot->line;
    if (json_is_object(slot->line)) {
        prompt = json_object_get(slot->line, "prompt");
        json_t *tokens = json_object_get(slot->line, "n"), *seed = json_object_get(slot->line, "seed");
        if ((tokens && !json_is_integer(tokens)) || (seed && !json_is_integer(seed)))
            return fm__fail(err, FM_E_ARG, "line %d: \"n\" and \"seed\" are whole numbers", run->line_number);
        if (tokens && (json_integer_value(tokens) < -2 || json_integer_value(tokens) > 1 << 30))
            return fm__fail(err, FM_E_ARG, "line %d: \"n\" is %lld, want -2 … %d", run->line_number,
                            (long long)json_integer_value(tokens), 1 << 30);
        if (tokens) args.n_predict = (int)json_integer_value(tokens);
        if (seed) {
            sampling.seed = json_integer_value(seed);
            add = 0;
        }
        FM_TRY(read_stops(slot, &args, run->line_number, err));
    }
    FM_TRY(fm_session_new(jobs->engine->batcher, &slot->session, err));
    FM_TRY(choose_adapter(run, slot, err));
    FM_TRY(fm__cli_sampler_new(&sampling, jobs->engine, add, args.ignore_eos, &slot->sampler, err));
    FM_TRY(fm__cli_reply_begin(&slot->reply, jobs->engine, slot->session, slot->sampler, &args, err));
    int32_t *ids;
    int n_ids;
    unsigned flags = FM_ENCODE_ADD_SPECIAL | (jobs->no_special ? 0U : FM_ENCODE_PARSE_SPECIAL);
    FM_TRY(fm__cli_encode(
        jobs->engine->tok,
        &(struct fm_encode_args){.text = json_string_value(prompt), .n = json_string_length(prompt), .flags = flags},
        &ids, &n_ids, err));
    if (fm_tokenizer_adds_eos(jobs->engine->tok) && n_ids > 1) n_ids--;
    fm_status status = fm__cli_reply_prompt(&slot->reply, ids, n_ids, err);
    free(ids);
    return status;
}

// Fills free slots from the file. False when nothing runs any more.
static fm_status fill(struct run *run, bool *any, struct fm_error *err)
{
    *any = false;
    for (int i = 0; i < run->jobs->n_together; i++) {
        struct slot *slot = &run->slots[i];
        const char *line;
        size_t n;
        while (!slot->busy && next_line(run, &line, &n)) {
            struct fm_error why = {0};
            slot->index = run->n_started++;
            if (start(run, slot, line, n, &why) == FM_OK) {
                slot->busy = true;
            } else {
                FM_TRY(put_error(run, slot, &why, err));
                clear(slot);
            }
        }
        *any |= slot->busy;
    }
    return FM_OK;
}

static fm_status collect(struct run *run, struct fm_error *err)
{
    for (int i = 0; i < run->jobs->n_together; i++) {
        struct slot *slot = &run->slots[i];
        if (!slot->busy) continue;
        FM_TRY(fm__cli_reply_advance(&slot->reply, err));
        if (slot->reply.finish == FM_CLI_RUNNING) continue;
        fm__cli_stats_reply(run->jobs->stats, &slot->reply);
        json_t *answer = fm__cli_reply_json(&slot->reply);
        json_object_set_new(answer, "index", json_integer(slot->index));
        json_t *id = json_is_object(slot->line) ? json_object_get(slot->line, "id") : NULL;
        if (id) json_object_set(answer, "id", id);
        FM_TRY(put_done(run, slot->index, answer, err));
        clear(slot);
    }
    return FM_OK;
}

static fm_status loop(struct run *run, struct fm_error *err)
{
    for (;;) {
        bool any;
        int n_rows;
        if (fm__cli_interrupted()) return fm__fail(err, FM_E_CANCELLED, "interrupted");
        FM_TRY(fill(run, &any, err));
        if (!any) return FM_OK;
        FM_TRY(fm__cli_trace_step(run->jobs->trace, run->jobs->engine, &n_rows, err));
        FM_TRY(collect(run, err));
    }
}

fm_status fm__cli_jobs_run(const struct fm_cli_jobs *jobs, const char *text, size_t n, struct fm_error *err)
{
    struct run run = {.jobs = jobs, .at = text, .end = text + n};
    run.slots = calloc((size_t)jobs->n_together, sizeof *run.slots);
    if (!run.slots) return fm__fail_nomem(err, "slots", (size_t)jobs->n_together * sizeof *run.slots);
    fm_status status = loop(&run, err);
    for (int i = 0; i < jobs->n_together; i++) clear(&run.slots[i]);
    for (int i = 0; i < run.cap; i++) json_decref(run.done[i]);
    free(run.slots);
    free(run.done);
    if (status == FM_OK && run.first_failure != FM_OK) {
        status = run.first_failure;
        if (err) *err = run.first_error;
    }
    return status;
}
