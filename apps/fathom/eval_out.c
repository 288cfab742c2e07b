// SPDX-License-Identifier: MIT
// Printing measures and writing predictions.
#include "eval_out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "cli_settings.h"

const char *fm__eval_class(const struct fm_eval *e, int32_t class, char buf[32])
{
    if (class < e->examples.n_labels) return e->examples.labels[class].p;
    snprintf(buf, 32, "class %d", class);
    return buf;
}

void fm__eval_hash(const struct fm_eval *e, int64_t outcome, char hex[FM_EVAL_HASH_HEX])
{
    const struct fm__text *text = &e->examples.items[e->outcomes[outcome].example].text;
    uint8_t digest[FM__SHA256_BYTES];
    char full[FM__SHA256_HEX] = "";
    if (fm__sha256_bytes(text->p, text->n, digest, NULL) == FM_OK) fm__sha256_hex(digest, full);
    snprintf(hex, FM_EVAL_HASH_HEX, "%.16s", full);
}

// --- JSON ---

static json_t *measures_json(const struct fm__measures *measures)
{
    json_t *all = json_object();
    for (int i = 0; i < measures->n; i++) {
        const struct fm__measure *m = &measures->items[i];
        json_object_set_new(all, m->name,
                            json_pack("{s:f, s:f, s:f, s:s}", "value", m->value, "low", m->interval.low, "high",
                                      m->interval.high, "interval", m->method));
    }
    return all;
}

static void confusion_json(const struct fm_eval *e, json_t *to)
{
    json_t *labels = json_array(), *rows = json_array();
    for (int32_t c = 0; c < e->measures.n_classes; c++) {
        char buf[32];
        const char *name = fm__eval_class(e, c, buf);
        json_t *row = json_array();
        for (int32_t j = 0; j < e->measures.n_classes; j++)
            json_array_append_new(
                row, json_integer((json_int_t)e->measures.confusion[(int64_t)c * e->measures.n_classes + j]));
        json_array_append_new(labels, fm__cli_text(name, strlen(name)));
        json_array_append_new(rows, row);
    }
    json_object_set_new(to, "labels", labels);
    json_object_set_new(to, "confusion", rows);
}

static int print_json(const struct fm_eval *e, const char *hash)
{
    json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:o, s:f, s:b, s:i, s:f, s:f, s:s, s:s, s:s, s:i}", "task",
                            fm__eval_task_names[e->task], "n", (json_int_t)e->prepared.n, "skipped",
                            (json_int_t)e->examples.n_skipped, "truncated", (json_int_t)e->prepared.n_truncated,
                            "metrics", measures_json(&e->measures), "confidence", e->confidence, "head",
                            fm__eval_uses_head(e), "together", e->n_lanes, "seconds", e->seconds, "examples_per_s",
                            (double)e->prepared.n / e->seconds, "settings", hash, "kv", fm__cli_kv_in_use(&e->engine),
                            "level", e->engine.props.level, "threads", e->engine.props.threads);
    json_object_set_new(all, "model", fm__cli_text(e->engine.path, strlen(e->engine.path)));
    json_object_set_new(all, "data", fm__cli_text(e->data, strlen(e->data)));
    if (e->measures.confusion) confusion_json(e, all);
    fm__cli_stats_json(&e->stats, all);
    return fm__cli_json(all);
}

int fm__eval_print(const struct fm_eval *e)
{
    char hash[FM_CLI_SETTINGS_HEX];
    fm__cli_settings_hash(&e->engine, &e->args, hash);
    if (e->json) return print_json(e, hash);
    for (int i = 0; i < e->measures.n; i++) {
        const struct fm__measure *m = &e->measures.items[i];
        printf("%-20s %12.5f   %g %%: %.5f … %.5f (%s)\n", m->name, m->value, 100 * e->confidence, m->interval.low,
               m->interval.high, m->method);
    }
    printf("examples             %12lld (%lld bad rows skipped, %lld cut to the context)\n", (long long)e->prepared.n,
           (long long)e->examples.n_skipped, (long long)e->prepared.n_truncated);
    if (e->examples.n_skipped) printf("first bad row        %s\n", e->examples.first_skipped);
    printf("settings             %12s (%s, KV %s, %s, %d threads, %d together; %.1f examples/s)\n", hash,
           e->engine.info.type, fm__cli_kv_in_use(&e->engine), e->engine.props.level, e->engine.props.threads,
           e->n_lanes, (double)e->prepared.n / e->seconds);
    fm__cli_stats_print(&e->stats);
    return 0;
}

// --- predictions ---

static json_t *text_json(const struct fm__text *text)
{
    return fm__cli_text(text->p ? text->p : "", text->n);
}

static void classify_json(const struct fm_eval *e, const struct fm__outcome *o, json_t *row)
{
    char buf[32];
    const char *gold = fm__eval_class(e, o->gold, buf);
    json_object_set_new(row, "gold", fm__cli_text(gold, strlen(gold)));
    const char *predicted = fm__eval_class(e, o->predicted, buf);
    json_object_set_new(row, "predicted", fm__cli_text(predicted, strlen(predicted)));
    json_object_set_new(row, "confidence", json_real(o->confidence));
    json_t *scores = json_object();
    for (int i = 0; i < o->n_scores; i++) {
        json_t *name = fm__cli_text(fm__eval_class(e, i, buf), strlen(fm__eval_class(e, i, buf)));
        json_object_set_new(scores, json_string_value(name), json_real(o->scores[i]));
        json_decref(name);
    }
    json_object_set_new(row, "scores", scores);
}

static void choice_json(const struct fm_eval *e, const struct fm__outcome *o, json_t *row)
{
    const struct fm__example *example = &e->examples.items[o->example];
    json_t *scores = json_array(), *lengths = json_array();
    for (int i = 0; i < o->n_scores; i++) {
        json_array_append_new(scores, json_real(o->scores[i]));
        json_array_append_new(lengths, json_integer((json_int_t)fm__count_characters(&example->choices[i])));
    }
    json_object_set_new(row, "gold", json_integer(o->gold));
    json_object_set_new(row, "predicted", json_integer(o->predicted));
    json_object_set_new(row, "predicted_norm", json_integer(o->by_length));
    json_object_set_new(row, "confidence", json_real(o->confidence));
    json_object_set_new(row, "scores", scores);
    json_object_set_new(row, "lengths", lengths);
}

static void words_json(const struct fm_eval *e, const struct fm__outcome *o, json_t *row)
{
    json_object_set_new(row, "gold", text_json(&e->examples.items[o->example].answer));
    json_object_set_new(row, "predicted", text_json(&o->text));
    json_object_set_new(row, "correct", json_boolean(o->correct));
}

static json_t *prediction(const struct fm_eval *e, int64_t i)
{
    const struct fm__outcome *o = &e->outcomes[i];
    char hash[FM_EVAL_HASH_HEX];
    fm__eval_hash(e, i, hash);
    json_t *row = json_pack("{s:s, s:I, s:s}", "task", fm__eval_task_names[e->task], "line",
                            (json_int_t)e->examples.items[o->example].line, "hash", hash);
    switch (e->task) {
    case FM__EVAL_CLASSIFY:
        classify_json(e, o, row);
        break;
    case FM__EVAL_CHOICE:
        choice_json(e, o, row);
        break;
    case FM__EVAL_LAMBADA:
        words_json(e, o, row);
        json_object_set_new(row, "log_p", json_real(o->log_p));
        break;
    case FM__EVAL_PERPLEXITY:
        json_object_set_new(row, "log_p", json_real(o->log_p));
        json_object_set_new(row, "tokens", json_integer((json_int_t)o->n_tokens));
        json_object_set_new(row, "bytes", json_integer((json_int_t)o->n_bytes));
        break;
    case FM__EVAL_REGRESS:
        json_object_set_new(row, "gold", json_real(o->gold_value));
        json_object_set_new(row, "predicted", json_real(o->value));
        break;
    default:
        words_json(e, o, row);
        break;
    }
    return row;
}

fm_status fm__eval_write_predictions(const struct fm_eval *e, const char *path, struct fm_error *err)
{
    struct fm__file_writer *w;
    FM_TRY(fm__file_writer_open(path, &w, err));
    fm_status status = FM_OK;
    for (int64_t i = 0; status == FM_OK && i < e->prepared.n; i++) {
        json_t *row = prediction(e, i);
        char *line = row ? json_dumps(row, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
        json_decref(row);
        if (!line) {
            status = fm__fail_nomem(err, "prediction", 256);
            break;
        }
        status = fm__file_writer_write(w, line, strlen(line), err);
        if (status == FM_OK) status = fm__file_writer_write(w, "\n", 1, err);
        free(line);
    }
    if (status == FM_OK) status = fm__file_writer_commit(w, err);
    fm__file_writer_close(w);
    return status;
}
