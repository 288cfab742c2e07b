// SPDX-License-Identifier: MIT
// Rows of JSON lines and plain texts made into examples. A bad row is skipped while the allowance lasts.
#include "eval/examples.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

const char *const fm__eval_task_names[FM__EVAL_TASKS] = {"classify",   "choice",   "lambada",
                                                         "perplexity", "generate", "regress"};

enum { MAX_CHOICES = 1024 };
static const size_t max_file = (size_t)4 << 30, max_line = (size_t)64 << 20;

struct reading {
    const struct fm__examples_args *args;
    struct fm__examples *out;
    struct fm_error *err;
};

static fm_status set_text(struct reading *r, const char *p, size_t n, struct fm__text *out)
{
    *out = (struct fm__text){fm__arena_strndup(&r->out->arena, p, n), n};
    return out->p ? FM_OK : fm__fail_nomem(r->err, "examples", n);
}

// A member that is a string; with `also` a number or true and false as well, as they are written.
static fm_status get_text(struct reading *r, const json_t *row, const char *name, bool also, struct fm__text *out)
{
    const json_t *value = json_object_get(row, name);
    if (json_is_string(value)) return set_text(r, json_string_value(value), json_string_length(value), out);
    if (!value) return fm__fail(r->err, FM_E_FORMAT, "no member \"%s\"", name);
    if (!also || !(json_is_number(value) || json_is_boolean(value)))
        return fm__fail(r->err, FM_E_FORMAT, "\"%s\" is no string", name);
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (!text) return fm__fail_nomem(r->err, "examples", 32);
    fm_status status = set_text(r, text, strlen(text), out);
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    release(text);
    return status;
}

// The answer is a place, or one of the choices.
static fm_status get_answer(struct reading *r, const json_t *row, struct fm__example *e)
{
    const json_t *answer = json_object_get(row, "answer");
    if (json_is_integer(answer)) {
        json_int_t place = json_integer_value(answer);
        if (place < 0 || place >= e->n_choices)
            return fm__fail(r->err, FM_E_FORMAT, "\"answer\" is %lld, want 0 to %d", (long long)place,
                            e->n_choices - 1);
        e->gold = (int)place;
        return FM_OK;
    }
    if (!json_is_string(answer)) return fm__fail(r->err, FM_E_FORMAT, "\"answer\" is neither a place nor a choice");
    for (int i = 0; i < e->n_choices; i++) {
        if (e->choices[i].n != json_string_length(answer) ||
            memcmp(e->choices[i].p, json_string_value(answer), e->choices[i].n) != 0)
            continue;
        e->gold = i;
        return FM_OK;
    }
    return fm__fail(r->err, FM_E_FORMAT, "\"answer\" \"%.60s\" is none of the %d choices", json_string_value(answer),
                    e->n_choices);
}

static fm_status read_choice(struct reading *r, const json_t *row, struct fm__example *e)
{
    FM_TRY(get_text(r, row, "context", false, &e->text));
    const json_t *choices = json_object_get(row, "choices");
    size_t n = json_array_size(choices);
    if (n < 2 || n > MAX_CHOICES)
        return fm__fail(r->err, FM_E_FORMAT, "\"choices\": %zu, want a list of 2 to %d", n, MAX_CHOICES);
    e->choices = fm__arena_alloc(&r->out->arena, n * sizeof *e->choices);
    if (!e->choices) return fm__fail_nomem(r->err, "examples", n * sizeof *e->choices);
    e->n_choices = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(choices, i);
        if (!json_is_string(value) || !json_string_length(value))
            return fm__fail(r->err, FM_E_FORMAT, "\"choices\"[%zu] is no text", i);
        FM_TRY(set_text(r, json_string_value(value), json_string_length(value), &e->choices[i]));
    }
    return get_answer(r, row, e);
}

// The last word and the space before it become the answer.
static fm_status cut_last_word(struct reading *r, const char *p, size_t n, struct fm__example *e)
{
    while (n && strchr(" \t\r\n", p[n - 1])) n--;
    size_t at = n;
    while (at && p[at - 1] != ' ') at--;
    if (at < 2) return fm__fail(r->err, FM_E_FORMAT, "a text of fewer than two words");
    FM_TRY(set_text(r, p, at - 1, &e->text));
    return set_text(r, p + at - 1, n - at + 1, &e->answer);
}

static fm_status read_object(struct reading *r, const json_t *row, struct fm__example *e)
{
    if (!json_is_object(row)) return fm__fail(r->err, FM_E_FORMAT, "no JSON object");
    switch (r->args->task) {
    case FM__EVAL_CHOICE:
        return read_choice(r, row, e);
    case FM__EVAL_GENERATE:
        FM_TRY(get_text(r, row, "prompt", false, &e->text));
        return get_text(r, row, "answer", true, &e->answer);
    case FM__EVAL_LAMBADA: {
        struct fm__text whole;
        FM_TRY(get_text(r, row, "text", false, &whole));
        return cut_last_word(r, whole.p, whole.n, e);
    }
    default:
        return get_text(r, row, "text", false, &e->text);
    }
}

static fm_status read_row(struct reading *r, bool json, const char *p, size_t n, struct fm__example *e)
{
    if (!json && r->args->task == FM__EVAL_LAMBADA) return cut_last_word(r, p, n, e);
    if (!json) return set_text(r, p, n, &e->text);
    struct fm__json_limits limits = {.bytes = max_line};
    json_t *row;
    FM_TRY(fm__json_parse(p, n, &limits, &row, r->err));
    fm_status status = read_object(r, row, e);
    json_decref(row);
    return status;
}

static fm_status add_example(struct reading *r, const struct fm__example *e)
{
    struct fm__examples *out = r->out;
    if (out->n == out->cap) {
        int64_t cap = 2 * out->cap + 256;
        struct fm__example *items = fm__realloc(out->items, (size_t)cap * sizeof *items);
        if (!items) return fm__fail_nomem(r->err, "examples", (size_t)cap * sizeof *items);
        out->items = items;
        out->cap = cap;
    }
    out->items[out->n++] = *e;
    return FM_OK;
}

// A row failed: counted and left out, or the end.
static fm_status forgive(struct reading *r, fm_status status, int64_t line)
{
    bool bad_row = status == FM_E_FORMAT || status == FM_E_LIMIT;
    if (bad_row && r->out->n_skipped < r->args->skip_bad) {
        if (r->out->n_skipped++ == 0 && r->err)
            snprintf(r->out->first_skipped, sizeof r->out->first_skipped, "line %lld: %.200s", (long long)line,
                     r->err->text);
        return FM_OK;
    }
    return fm__error_prefix(r->err, status, "%s:%lld", r->args->path, (long long)line);
}

static fm_status read_lines(struct reading *r, bool json, const char *text, size_t n)
{
    int64_t line = 1;
    for (const char *at = text, *end = text + n; at < end; line++) {
        if (r->args->limit > 0 && r->out->n >= r->args->limit) break;
        const char *newline = memchr(at, '\n', (size_t)(end - at)), *stop = newline ? newline : end;
        size_t length = (size_t)(stop - at);
        if (strspn(at, " \t\r") < length) {
            struct fm__example e = {.line = line};
            fm_status status = read_row(r, json, at, length, &e);
            if (status == FM_OK) status = add_example(r, &e);
            if (status != FM_OK) FM_TRY(forgive(r, status, line));
        }
        at = stop + 1;
    }
    return FM_OK;
}

static bool ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && strcmp(path + n - m, ending) == 0;
}

static fm_status read_all(struct reading *r, const char *text, size_t n)
{
    const struct fm__examples_args *args = r->args;
    bool json =
        !(args->task == FM__EVAL_LAMBADA || args->task == FM__EVAL_PERPLEXITY) || ends_with(args->path, ".jsonl");
    if (!json && args->task == FM__EVAL_PERPLEXITY) {
        struct fm__example e = {.line = 1};
        FM_TRY(read_row(r, false, text, n, &e));
        if (n) FM_TRY(add_example(r, &e));
    } else {
        FM_TRY(read_lines(r, json, text, n));
    }
    if (!r->out->n)
        return fm__fail(r->err, FM_E_ARG, "%s: no example%s%s", args->path,
                        r->out->n_skipped ? "; the first row was bad: " : "", r->out->first_skipped);
    return FM_OK;
}

fm_status fm__examples_read(const struct fm__examples_args *args, struct fm__examples *out, struct fm_error *err)
{
    struct fm_error own = {0};
    *out = (struct fm__examples){0};
    char *text;
    size_t n;
    struct reading r = {args, out, err ? err : &own};
    FM_TRY(fm__file_read_all(strcmp(args->path, "-") ? args->path : "/dev/stdin", max_file, &text, &n, r.err));
    fm_status status = read_all(&r, text, n);
    fm__free(text);
    if (status != FM_OK) fm__examples_deinit(out);
    return status;
}

void fm__examples_deinit(struct fm__examples *examples)
{
    fm__free(examples->items);
    fm__arena_deinit(&examples->arena);
    *examples = (struct fm__examples){0};
}
