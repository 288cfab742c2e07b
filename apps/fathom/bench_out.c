// SPDX-License-Identifier: MIT
// Lines of bench in four formats.
#include "bench_out.h"

#include <jansson.h>

#include "cli_out.h"
#include "commit.h"

static void json_line(const struct fm_bench_out *out, const struct fm_bench_line *l)
{
    json_t *all = json_pack("{s:s, s:s}", "name", l->name, "unit", l->unit);
    json_object_set_new(all, "value", l->none ? json_null() : json_real(l->value));
    json_object_set_new(all, "spread", l->none ? json_null() : json_real(l->spread));
    if (l->kernel) json_object_set_new(all, "kernel", json_string(l->kernel));
    if (l->bound_of) {
        json_object_set_new(all, "bound", json_real(l->bound));
        json_object_set_new(all, "bound_of", json_string(l->bound_of));
        json_object_set_new(all, "share", json_real(l->share));
    }
    if (l->result) {
        json_t *samples = json_array();
        for (int i = 0; i < l->result->n_reps; i++) json_array_append_new(samples, json_real(l->result->samples[i]));
        json_object_set_new(all, "samples", samples);
    }
    if (l->result && l->test) {
        json_object_set_new(all, "bytes", json_real(l->result->bytes));
        json_object_set_new(all, "operations", json_real(l->result->operations));
        json_object_set_new(all, "stream_gb_per_s", json_real(l->result->stream));
    }
    if (l->test) {
        json_object_set_new(all, "depth", json_integer(l->test->depth));
        json_object_set_new(all, "tokens", json_integer(l->test->n));
        json_object_set_new(all, "sessions", json_integer(l->test->n_sessions));
    }
    if (out->model) {
        json_object_set_new(all, "model", json_string(out->model));
        if (out->type) json_object_set_new(all, "type", json_string(out->type));
        if (out->kv) json_object_set_new(all, "kv", json_string(out->kv));
        if (out->settings) json_object_set_new(all, "settings", json_string(out->settings));
        if (out->n_batch) json_object_set_new(all, "batch", json_integer(out->n_batch));
    }
    json_object_set_new(all, "level", json_string(out->level));
    json_object_set_new(all, "threads", json_integer(out->threads));
    json_object_set_new(all, "commit", json_string(FM_COMMIT));
    fm__cli_json(all);
}

static void text_line(const struct fm_bench_line *l)
{
    if (l->none) {
        printf("%-28s no kernel (reference)\n", l->name);
        return;
    }
    printf("%-*s %10.*f %-8s ±%5.1f %%", l->kernel ? 28 : 22, l->name, l->value < 100 ? 2 : 1, l->value, l->unit,
           50 * l->spread);
    if (l->bound_of) printf("   bound %9.1f   share %5.1f %%   (%s)", l->bound, 100 * l->share, l->bound_of);
    if (l->kernel) printf("   %s", l->kernel);
    putchar('\n');
}

static void md_line(const struct fm_bench_out *out, const struct fm_bench_line *l)
{
    if (!out->begun) printf("| test | value | spread | bound | share |\n|---|---|---|---|---|\n");
    if (l->none) {
        printf("| %s | no kernel (reference) | | | |\n", l->name);
        return;
    }
    printf("| %s | %.1f %s | ±%.1f %% | ", l->name, l->value, l->unit, 50 * l->spread);
    if (l->bound_of) {
        printf("%.1f (%s) | %.1f %% |\n", l->bound, l->bound_of, 100 * l->share);
    } else {
        printf("| |\n");
    }
}

static void csv_line(const struct fm_bench_out *out, const struct fm_bench_line *l)
{
    if (!out->begun) printf("name,value,unit,spread,bound,share,bound_of,kernel,model,kv,threads,settings,commit\n");
    if (l->none)
        printf("%s,,%s,,", l->name, l->unit);
    else
        printf("%s,%.6g,%s,%.4f,", l->name, l->value, l->unit, l->spread);
    if (l->bound_of)
        printf("%.6g,%.4f,", l->bound, l->share);
    else
        printf(",,");
    printf("%s,%s,%s,%s,%d,%s,%s\n", l->bound_of ? l->bound_of : "", l->kernel ? l->kernel : "",
           out->model ? out->model : "", out->kv ? out->kv : "", out->threads, out->settings ? out->settings : "",
           FM_COMMIT);
}

void fm__bench_line(struct fm_bench_out *out, const struct fm_bench_line *l)
{
    switch (out->format) {
    case FM_BENCH_TEXT:
        text_line(l);
        break;
    case FM_BENCH_MD:
        md_line(out, l);
        break;
    case FM_BENCH_CSV:
        csv_line(out, l);
        break;
    case FM_BENCH_JSON:
        json_line(out, l);
        break;
    }
    out->begun = true;
    fflush(stdout);
    // a model of a few kilobytes is bounded by waking threads, not by bytes
    if (l->bound_of && !l->limit && l->share > 1 && (!l->result || l->result->bytes >= 1 << 20)) {
        out->failed = true;
        fprintf(stderr, "fathom bench: %s: %.1f %% of the bound: above 100 %% the measurement failed\n", l->name,
                100 * l->share);
    }
}
