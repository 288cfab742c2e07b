// SPDX-License-Identifier: MIT
// A dataset walked once in the order of its files, a sample at a time.
#include "eval/labelled.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

struct walking {
    const struct fm__labelled_args *args;
    struct fm__examples *out;
    struct fm__dataset *data;
    struct fm__loader *loader;
    struct fm__microbatch mb;
    struct fm_error *err;
};

static fm_status open_data(struct walking *w)
{
    const struct fm__labelled_args *a = w->args;
    struct fm__data_opts opts = {.kind = a->task == FM__EVAL_REGRESS ? FM__DATA_REGRESS : FM__DATA_CLASSIFY,
                                 .paths = &a->path,
                                 .n_paths = 1,
                                 .tok = a->tok,
                                 .length = a->length,
                                 .skip_bad = a->skip_bad,
                                 .end = a->end,
                                 .columns = a->columns,
                                 .labels = a->labels,
                                 .n_labels = (size_t)a->n_labels};
    FM_TRY(fm__dataset_open(&opts, &w->data, w->err));
    const struct fm__data_counts *counts = fm__dataset_counts(w->data);
    struct fm__loader_opts walk = {
        .part = FM__DATA_ALL, .order = FM__ORDER_SEQUENTIAL, .rows = counts->longest, .batch = 1};
    FM_TRY(fm__loader_new(w->data, &walk, &w->loader, w->err));
    size_t n = (size_t)counts->longest;
    w->mb.cap = counts->longest;
    w->mb.tokens = fm__calloc(n, sizeof *w->mb.tokens);
    w->mb.targets = fm__calloc(n, sizeof *w->mb.targets);
    w->mb.values = fm__calloc(n, sizeof *w->mb.values);
    w->mb.samples = fm__calloc(n, sizeof *w->mb.samples);
    if (!w->mb.tokens || !w->mb.targets || !w->mb.values || !w->mb.samples)
        return fm__fail_nomem(w->err, "examples", n * sizeof *w->mb.tokens);
    return FM_OK;
}

static fm_status set_labels(struct walking *w)
{
    int n = fm__dataset_n_labels(w->data);
    w->out->labels = fm__arena_alloc(&w->out->arena, (size_t)(n > 0 ? n : 1) * sizeof *w->out->labels);
    if (!w->out->labels) return fm__fail_nomem(w->err, "labels", (size_t)n * sizeof *w->out->labels);
    for (int i = 0; i < n; i++) {
        const char *name = fm__dataset_label(w->data, i);
        size_t length = strlen(name);
        w->out->labels[i] = (struct fm__text){fm__arena_strndup(&w->out->arena, name, length), length};
        if (!w->out->labels[i].p) return fm__fail_nomem(w->err, "labels", length);
    }
    w->out->n_labels = n;
    return FM_OK;
}

static fm_status spell(struct walking *w, int64_t n_ids, struct fm__text *out)
{
    struct fm_decode_args args = {.ids = w->mb.tokens, .n = (size_t)n_ids};
    FM_TRY(fm_tokenizer_decode(w->args->tok, &args, NULL, 0, &out->n, w->err));
    out->p = fm__arena_alloc(&w->out->arena, out->n + 1);
    if (!out->p) return fm__fail_nomem(w->err, "examples", out->n);
    return fm_tokenizer_decode(w->args->tok, &args, out->p, out->n, &out->n, w->err);
}

// The sample at hand, whose class or number stands at its last row.
static fm_status take(struct walking *w, struct fm__example *e)
{
    char where[4096];
    int64_t last = w->mb.n_rows - 1;
    size_t bytes = (size_t)w->mb.n_rows * sizeof *w->mb.tokens;
    int32_t *tokens = fm__arena_alloc(&w->out->arena, bytes);
    if (!tokens) return fm__fail_nomem(w->err, "examples", bytes);
    memcpy(tokens, w->mb.tokens, bytes);
    fm__dataset_where(w->data, w->mb.samples[0], where, sizeof where);
    const char *line = strrchr(where, ':');
    *e = (struct fm__example){.line = line ? strtoll(line + 1, NULL, 10) : 0,
                              .tokens = tokens,
                              .n_tokens = (int)w->mb.n_rows,
                              .gold = w->mb.targets[last],
                              .value = (double)w->mb.values[last]};
    if (w->out->n_labels) e->answer = w->out->labels[e->gold];
    return spell(w, w->mb.n_rows, &e->text);
}

static fm_status walk(struct walking *w)
{
    const struct fm__data_counts *counts = fm__dataset_counts(w->data);
    int64_t n = fm__dataset_n_samples(w->data, FM__DATA_ALL);
    if (w->args->limit > 0 && w->args->limit < n) n = w->args->limit;
    FM_TRY(set_labels(w));
    w->out->items = fm__calloc((size_t)(n > 0 ? n : 1), sizeof *w->out->items);
    if (!w->out->items) return fm__fail_nomem(w->err, "examples", (size_t)n * sizeof *w->out->items);
    for (w->out->cap = n; w->out->n < n; w->out->n++) {
        FM_TRY(fm__loader_next(w->loader, &w->mb, w->err));
        FM_TRY(take(w, &w->out->items[w->out->n]));
    }
    for (int i = 1; i < FM__SKIP_COUNT; i++) w->out->n_skipped += counts->skipped[i];
    w->out->n_truncated = counts->truncated;
    const char *bad = fm__dataset_bad_row(w->data, 0);
    if (bad) snprintf(w->out->first_skipped, sizeof w->out->first_skipped, "%s", bad);
    return FM_OK;
}

fm_status fm__labelled_read(const struct fm__labelled_args *args, struct fm__examples *out, struct fm_error *err)
{
    *out = (struct fm__examples){0};
    struct walking w = {.args = args, .out = out, .err = err};
    fm_status status = open_data(&w);
    if (status == FM_OK) status = walk(&w);
    fm__loader_free(w.loader);
    fm__dataset_close(w.data);
    fm__free(w.mb.tokens);
    fm__free(w.mb.targets);
    fm__free(w.mb.values);
    fm__free(w.mb.samples);
    if (status != FM_OK) fm__examples_deinit(out);
    return status;
}
