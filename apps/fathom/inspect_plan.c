// SPDX-License-Identifier: MIT
// Runs a step with the device's clocks on and sets each op beside its cost (eval/cost.h) and the machine's limits.
#include "inspect_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli_out.h"
#include "cli_settings.h"
#include "eval/cost.h"
#include "infer/batcher.h"
#include "ops/op.h"

struct job {
    const struct fm_inspect_plan *what;
    struct fm_cli_engine engine;
    struct fm_session *session;
    struct fm__machine machine;
    struct fm__plan *plans[2]; // trunk, head
    double *seconds[2];        // a run, by step of the plan
    double total;
};

static fm_status append(struct job *j, int n, struct fm_error *err)
{
    for (int i = 0; i < n; i++) {
        int32_t token = (int32_t)(((uint32_t)i * 2654435761U >> 8) % (uint32_t)j->engine.info.n_vocab);
        FM_TRY(fm_session_append(j->session, &token, 1, err));
    }
    return FM_OK;
}

static fm_status measure(struct job *j, struct fm_error *err)
{
    struct fm_batcher *b = j->engine.batcher;
    FM_TRY(append(j, j->what->depth, err));
    FM_TRY(fm_batcher_run(b, err));
    for (int rep = -1; rep < j->what->reps && b->device->v->profile; rep++) { // -1 warms up
        FM_TRY(fm_session_rewind(j->session, j->what->depth, err));
        FM_TRY(append(j, j->what->rows, err));
        for (int head = 0; head < 2; head++) b->device->v->profile(b->device, j->plans[head]->program, 1, NULL);
        FM_TRY(fm_batcher_run(b, err));
        for (int head = 0; head < 2 && rep >= 0; head++) {
            double *once = j->seconds[head] + j->plans[head]->n_steps; // the upper half is this run's
            b->device->v->profile(b->device, j->plans[head]->program, 1, once);
            for (int i = 0; i < j->plans[head]->n_steps; i++) j->seconds[head][i] += once[i] / j->what->reps;
        }
    }
    for (int head = 0; head < 2; head++)
        for (int i = 0; i < j->plans[head]->n_steps; i++) j->total += j->seconds[head][i];
    return FM_OK;
}

struct line {
    const char *part, *op, *kernel;
    char shape[64];
    struct fm__cost cost;
    double seconds, bound;
};

static void print_value(const struct fm__graph *g, fm__val v, char *out, size_t size)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    if (!to) return;
    fm__graph_print_value(g, v, to);
    if (fclose(to) == 0) snprintf(out, size, "%s", text);
    free(text);
}

static void fill_line(const struct job *j, int head, int i, struct line *line)
{
    const struct fm__plan *plan = j->plans[head];
    const struct fm__node *node = fm__plan_node(plan, i);
    struct fm__call call;
    fm__plan_call(plan, i, &call);
    int rows = head ? 1 : j->what->rows;
    *line = (struct line){
        .part = head ? "head" : "trunk",
        .op = fm__op(node->op)->name,
        .kernel = plan->device->v->kernel_name ? plan->device->v->kernel_name(plan->device, node, &call) : "ref",
        .cost = fm__cost_of(plan, i, rows, j->what->depth),
        .seconds = j->seconds[head][i]};
    line->bound = fm__cost_bound(&line->cost, &j->machine);
    fm__val shown = node->out[0];
    for (int k = 0; k < node->n_in; k++) // a product is told by its weight
        if (node->in[k] != FM__NONE && plan->graph->values[node->in[k]].kind == FM__WEIGHT) shown = node->in[k];
    print_value(plan->graph, shown, line->shape, sizeof line->shape);
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static void print_json(const struct job *j, const struct line *l)
{
    double bytes = l->cost.weight_bytes + l->cost.cache_bytes + l->cost.other_bytes;
    json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f}", "part", l->part, "op", l->op, "kernel",
                            l->kernel, "value", l->shape, "bytes", bytes, "weight_bytes", l->cost.weight_bytes,
                            "operations", l->cost.operations, "bound_s", l->bound);
    if (j->total > 0) {
        json_object_set_new(all, "seconds", json_real(l->seconds));
        json_object_set_new(all, "share_of_step", json_real(share(l->seconds, j->total)));
        json_object_set_new(all, "share_of_bound", json_real(share(l->bound, l->seconds)));
    }
    fm__cli_json(all);
}

static void print_line(const struct job *j, const struct line *l)
{
    char bytes[24];
    printf("%-5s %-12s %-22s %-24s %9s %9.3g %9.2f", l->part, l->op, l->kernel, l->shape,
           fm__cli_bytes(bytes, (uint64_t)(l->cost.weight_bytes + l->cost.cache_bytes + l->cost.other_bytes)),
           l->cost.operations, l->bound * 1e6);
    if (j->total > 0)
        printf(" %9.2f %6.1f %% %6.1f %%", l->seconds * 1e6, 100 * share(l->seconds, j->total),
               100 * share(l->bound, l->seconds));
    putchar('\n');
}

static void report(const struct job *j)
{
    struct line line;
    double bound = 0;
    if (!j->what->json)
        printf("%-5s %-12s %-22s %-24s %9s %9s %9s%s\n", "part", "op", "kernel", "value", "bytes", "op", "bound µs",
               j->total > 0 ? "  took µs  of step of bound" : "");
    for (int head = 0; head < 2; head++) {
        for (int i = 0; i < j->plans[head]->n_steps; i++) {
            fill_line(j, head, i, &line);
            bound += line.bound;
            if (j->what->json)
                print_json(j, &line);
            else
                print_line(j, &line);
        }
    }
    if (j->what->json) return;
    printf("%d rows after %d tokens, KV %s, %s, %d threads: bound %.1f µs", j->what->rows, j->what->depth,
           fm__cli_kv_in_use(&j->engine), j->engine.props.level, j->engine.props.threads, bound * 1e6);
    if (j->total > 0)
        printf(", took %.1f µs (clocks on: every op ends at a barrier), %.1f %%", j->total * 1e6,
               100 * bound / j->total);
    printf("\nmachine: %.1f GB/s, f32 %.0f, bf16 %.0f, int8 %.0f GOP/s\n", j->machine.stream, j->machine.peak[0],
           j->machine.peak[1], j->machine.peak[2]);
}

static fm_status prepare(struct job *j, struct fm_cli_engine_args *args, struct fm_error *err)
{
    const struct fm_inspect_plan *w = j->what;
    if (!args->n_ctx) args->n_ctx = w->rows + w->depth + 1;
    if (!args->n_batch && w->rows > 512) args->n_batch = w->rows;
    FM_TRY(fm__cli_engine_open(&j->engine, args, err));
    FM_TRY(fm__cli_engine_batcher(&j->engine, args, 1, err));
    for (int head = 0; head < 2; head++) {
        FM_TRY(fm__batcher_plan(j->engine.batcher, head, head ? 1 : w->rows, &j->plans[head], err));
        size_t n = (size_t)j->plans[head]->n_steps * 2 + 1;
        j->seconds[head] = calloc(n, sizeof **j->seconds);
        if (!j->seconds[head]) return fm__fail_nomem(err, "clocks", n * sizeof **j->seconds);
    }
    return fm_session_new(j->engine.batcher, &j->session, err);
}

static fm_status run(struct job *j, struct fm_cli_engine_args *args, struct fm_error *err)
{
    FM_TRY(prepare(j, args, err));
    if (j->what->dump) {
        FM_TRY(fm_batcher_dump_plan(j->engine.batcher, j->what->rows, stdout, err));
        fm__plan_dump(j->plans[1], stdout);
        return FM_OK;
    }
    fm_status status = fm__machine_of(j->engine.device, &j->machine, err);
    if (status == FM_OK && j->what->reps > 0) status = measure(j, err);
    if (status == FM_OK) report(j);
    return status;
}

fm_status fm__inspect_plan(const struct fm_inspect_plan *what, struct fm_cli_engine_args *args, struct fm_error *err)
{
    struct job job = {.what = what};
    fm_status status = run(&job, args, err);
    if (status == FM_OK) fm__cli_stats_show(what->stats, &job.engine, what->json && !what->dump);
    fm_session_free(job.session);
    free(job.seconds[0]);
    free(job.seconds[1]);
    fm__cli_engine_close(&job.engine);
    return status;
}
