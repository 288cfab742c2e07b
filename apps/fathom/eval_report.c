// SPDX-License-Identifier: MIT
// Writing the page.
#include "eval_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/error.h"
#include "base/file.h"
#include "cli_settings.h"
#include "eval_out.h"

enum { WORST = 20, TEXT_SHOWN = 600, MATRIX_MOST = 40, PAIRS_SHOWN = 30 };

static const char style[] =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#1b1f24}"
    "table{border-collapse:collapse;margin:.6em 0}td,th{padding:.25em .7em;border:1px solid #d5d9de;text-align:left;"
    "vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}td.hit{background:#e5f3e8}"
    "pre{white-space:pre-wrap;margin:0;font:13px/1.4 ui-monospace,monospace}.note{color:#59636e}"
    "svg{max-width:100%;height:auto}.grid{stroke:#e3e6ea}svg text{font-size:11px;fill:#59636e}"
    "polyline{fill:none;stroke-width:1.5}polyline.training{stroke:#4878a8}polyline.validation{stroke:#b5532a}"
    "circle.validation{fill:#b5532a}.bar{fill:#cfe0f0}.at{stroke:#1f4e79;stroke-width:2}";

void fm__html_text(FILE *to, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &point);
        if (len <= 0) {
            fputs("\xef\xbf\xbd", to);
            i++;
            continue;
        }
        const char *name = point == '&'    ? "&amp;"
                           : point == '<'  ? "&lt;"
                           : point == '>'  ? "&gt;"
                           : point == '"'  ? "&quot;"
                           : point == '\'' ? "&#39;"
                                           : NULL;
        if (name)
            fputs(name, to);
        else if (point >= 0x20 || point == '\n' || point == '\t')
            fwrite(text + i, 1, (size_t)len, to);
        i += (size_t)len;
    }
}

// At most TEXT_SHOWN bytes, the end of a longer text: that is where the question stands.
static void short_text(FILE *to, const char *text, size_t n)
{
    size_t from = n > TEXT_SHOWN ? n - TEXT_SHOWN : 0;
    while (from && from < n && ((unsigned char)text[from] & 0xc0) == 0x80) from++;
    if (from) fputs("…", to);
    fm__html_text(to, text + from, n - from);
}

static void put(FILE *to, const char *text)
{
    fm__html_text(to, text, strlen(text));
}

static void head(FILE *to, const struct fm_eval *e)
{
    char hash[FM_CLI_SETTINGS_HEX];
    fm__cli_settings_hash(&e->engine, &e->args, hash);
    fprintf(to,
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>fathom eval: %s</title>\n"
            "<style>%s</style>\n<h1>%s</h1>\n<table>\n<tr><th>model<td>",
            fm__eval_task_names[e->task], style, fm__eval_task_names[e->task]);
    put(to, e->engine.path);
    fprintf(to, "<tr><th>examples<td>");
    put(to, e->data);
    fprintf(to, ": %lld (%lld bad rows skipped, %lld cut to the context)\n", (long long)e->prepared.n,
            (long long)e->examples.n_skipped, (long long)e->prepared.n_truncated);
    fprintf(to, "<tr><th>settings<td>%s (%s, KV %s, %s)\n</table>\n", hash, e->engine.info.type,
            fm__cli_kv_in_use(&e->engine), e->engine.props.level);
}

// A share as a bar from 0 to 1: the interval shaded, the value a line.
static void draw_share(FILE *to, const struct fm__measure *m)
{
    fprintf(to,
            "<svg viewBox=\"0 0 200 14\" width=\"200\" height=\"14\"><line class=\"grid\" x1=\"0\" x2=\"200\" y1=\"7\" "
            "y2=\"7\"/><rect class=\"bar\" x=\"%.1f\" width=\"%.1f\" y=\"2\" height=\"10\"/><line class=\"at\" "
            "x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"14\"/></svg>",
            200 * m->interval.low, fmax(0, 200 * (m->interval.high - m->interval.low)), 200 * m->value, 200 * m->value);
}

static void scores(FILE *to, const struct fm_eval *e)
{
    fprintf(to, "<h2>Scores</h2>\n<table>\n<tr><th>score<th>value<th>%g %% interval<th>by<th>\n", 100 * e->confidence);
    for (int i = 0; i < e->measures.n; i++) {
        const struct fm__measure *m = &e->measures.items[i];
        fprintf(to, "<tr><td>%s<td class=\"n\">%.5f<td class=\"n\">%.5f … %.5f<td>%s<td>", m->name, m->value,
                m->interval.low, m->interval.high, m->method);
        if (m->interval.low >= 0 && m->interval.high <= 1) draw_share(to, m);
        fputc('\n', to);
    }
    fprintf(to, "</table>\n");
}

static int64_t count_at(const struct fm_eval *e, int32_t gold, int32_t predicted)
{
    return e->measures.confusion[(int64_t)gold * e->measures.n_classes + predicted];
}

static void class_cell(FILE *to, const struct fm_eval *e, int32_t class, const char *tag)
{
    char buf[32];
    fprintf(to, "<%s>", tag);
    put(to, fm__eval_class(e, class, buf));
}

static void matrix(FILE *to, const struct fm_eval *e)
{
    int32_t n = e->measures.n_classes;
    fprintf(to, "<p class=\"note\">Rows: gold. Columns: predicted.</p>\n<table>\n<tr><th>");
    for (int32_t j = 0; j < n; j++) class_cell(to, e, j, "th");
    fprintf(to, "<th>recall\n");
    for (int32_t i = 0; i < n; i++) {
        int64_t total = 0;
        class_cell(to, e, i, "tr><th");
        for (int32_t j = 0; j < n; j++) total += count_at(e, i, j);
        for (int32_t j = 0; j < n; j++) {
            double share = total ? (double)count_at(e, i, j) / (double)total : 0;
            fprintf(to, "<td class=\"n\" style=\"background:rgba(%s,%.3f)\">%lld", i == j ? "46,125,50" : "181,83,42",
                    0.75 * share, (long long)count_at(e, i, j));
        }
        fprintf(to, "<td class=\"n\">%.1f %%\n", total ? 100.0 * (double)count_at(e, i, i) / (double)total : 0.0);
    }
    fprintf(to, "</table>\n");
}

// Many classes: the confusions that occur most, largest first, found one after the other.
static void most_confused(FILE *to, const struct fm_eval *e)
{
    int32_t n = e->measures.n_classes;
    int64_t limit = INT64_MAX;
    int shown = 0;
    fprintf(to, "<table>\n<tr><th>gold<th>predicted<th>times\n");
    while (shown < PAIRS_SHOWN) {
        int64_t best = 0;
        for (int64_t k = 0; k < (int64_t)n * n; k++) {
            int64_t count = k / n == k % n ? 0 : e->measures.confusion[k];
            if (count > best && count < limit) best = count;
        }
        if (!best) break;
        for (int64_t k = 0; k < (int64_t)n * n && shown < PAIRS_SHOWN; k++) {
            if (k / n == k % n || e->measures.confusion[k] != best) continue;
            class_cell(to, e, (int32_t)(k / n), "tr><td");
            class_cell(to, e, (int32_t)(k % n), "td");
            fprintf(to, "<td class=\"n\">%lld\n", (long long)best);
            shown++;
        }
        limit = best;
    }
    fprintf(to, "</table>\n<p class=\"note\">%d classes: the most frequent confusions%s.</p>\n", n,
            shown ? "" : " (none)");
}

// How bad an outcome is; below 0: it is right.
static double badness(const struct fm_eval *e, const struct fm__outcome *o)
{
    switch (e->task) {
    case FM__EVAL_CLASSIFY:
    case FM__EVAL_CHOICE:
        return o->correct ? -1 : o->confidence;
    case FM__EVAL_LAMBADA:
        return o->correct ? -1 : -o->log_p;
    case FM__EVAL_PERPLEXITY:
        return o->n_tokens ? -o->log_p / (double)o->n_tokens : -1;
    case FM__EVAL_REGRESS:
        return fabs(o->value - o->gold_value);
    default:
        return o->correct ? -1 : 1;
    }
}

struct ranked {
    double badness;
    int64_t i;
};

static int worst_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->badness != y->badness) return x->badness > y->badness ? -1 : 1;
    return (x->i > y->i) - (x->i < y->i);
}

static void worst_row(FILE *to, const struct fm_eval *e, const struct fm__outcome *o, double bad)
{
    const struct fm__example *example = &e->examples.items[o->example];
    char buf[32];
    fprintf(to, "<tr><td class=\"n\">%lld<td><pre>", (long long)example->line);
    short_text(to, example->text.p, example->text.n);
    fprintf(to, "</pre><td>");
    if (e->task == FM__EVAL_CLASSIFY) put(to, fm__eval_class(e, o->gold, buf));
    if (e->task == FM__EVAL_CHOICE) put(to, example->choices[o->gold].p);
    if (e->task == FM__EVAL_LAMBADA || e->task == FM__EVAL_GENERATE)
        short_text(to, example->answer.p, example->answer.n);
    if (e->task == FM__EVAL_REGRESS) fprintf(to, "%.6g", o->gold_value);
    fprintf(to, "<td>");
    if (e->task == FM__EVAL_CLASSIFY) put(to, fm__eval_class(e, o->predicted, buf));
    if (e->task == FM__EVAL_CHOICE) put(to, example->choices[o->predicted].p);
    if (e->task == FM__EVAL_LAMBADA || e->task == FM__EVAL_GENERATE) short_text(to, o->text.p, o->text.n);
    if (e->task == FM__EVAL_REGRESS) fprintf(to, "%.6g", o->value);
    fprintf(to, "<td class=\"n\">%.4g\n", bad);
}

static fm_status worst(FILE *to, const struct fm_eval *e, struct fm_error *err)
{
    static const char *const what[FM__EVAL_TASKS] = {
        [FM__EVAL_CLASSIFY] = "confidence",       [FM__EVAL_CHOICE] = "confidence", [FM__EVAL_LAMBADA] = "−log p",
        [FM__EVAL_PERPLEXITY] = "−log p a token", [FM__EVAL_GENERATE] = "wrong",    [FM__EVAL_REGRESS] = "off by",
    };
    size_t n = (size_t)e->prepared.n;
    struct ranked *ranked = malloc(n * sizeof *ranked);
    if (!ranked) return fm__fail_nomem(err, "report", n * sizeof *ranked);
    for (size_t i = 0; i < n; i++) ranked[i] = (struct ranked){badness(e, &e->outcomes[i]), (int64_t)i};
    qsort(ranked, n, sizeof *ranked, worst_first);
    fprintf(to, "<h2>Worst examples</h2>\n<table>\n<tr><th>line<th>text<th>gold<th>predicted<th>%s\n", what[e->task]);
    size_t shown = 0;
    for (; shown < n && shown < WORST && ranked[shown].badness >= 0; shown++)
        worst_row(to, e, &e->outcomes[ranked[shown].i], ranked[shown].badness);
    fprintf(to, "</table>\n<p class=\"note\">%s</p>\n", shown ? "Worst first." : "No mistakes.");
    free(ranked);
    return FM_OK;
}

static fm_status page(FILE *to, const struct fm_eval *e, struct fm_error *err)
{
    head(to, e);
    scores(to, e);
    if (e->measures.confusion) {
        fprintf(to, "<h2>Confusion matrix</h2>\n");
        if (e->measures.n_classes <= MATRIX_MOST)
            matrix(to, e);
        else
            most_confused(to, e);
    }
    FM_TRY(worst(to, e, err));
    if (e->log) {
        fprintf(to, "<h2>Loss</h2>\n");
        FM_TRY(fm__html_loss_curve(to, e->log, err));
    }
    fprintf(to, "</html>\n");
    return FM_OK;
}

fm_status fm__eval_write_report(const struct fm_eval *e, const char *path, struct fm_error *err)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    if (!to) return fm__fail_nomem(err, "report", 1 << 16);
    fm_status status = page(to, e, err);
    bool whole = fclose(to) == 0;
    if (status == FM_OK && !whole) status = fm__fail_nomem(err, "report", n);
    if (status == FM_OK) status = fm__file_write_all(path, text, n, err);
    free(text);
    return status;
}
