// SPDX-License-Identifier: MIT
// From graph to plan: passes, binding, stages, memory, the device's program. Then the run.
#include "device/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "graph/memory.h"
#include "graph/passes.h"
#include "graph/recompute.h"
#include "graph/stages.h"
#include "ops/op.h"
#include "tensor/buffer.h"

struct chooser {
    const struct fm__plan_opts *opts;
    fm_status status;
    struct fm_error *err;
};

static fm_dtype choose_activation(void *context, const struct fm__value *weight)
{
    struct chooser *c = context;
    struct fm_tensor w = {0};
    if (weight->kind != FM__WEIGHT || c->status != FM_OK || !c->opts->device->v->activation) return FM_F32;
    c->status = c->opts->bind(c->opts->bind_context, weight->name, &w, c->err);
    return c->status == FM_OK ? c->opts->device->v->activation(c->opts->device, &w) : FM_F32;
}

// Replaces plan->graph by `next`, the result of a pass.
static fm_status take_graph(struct fm__plan *plan, struct fm__graph *next, struct fm_error *err)
{
    if (!next) return fm__fail_nomem(err, "graph pass", sizeof *next);
    fm__graph_free(plan->graph);
    plan->graph = next;
    return fm__graph_check(next, err);
}

static fm_status run_passes(struct fm__plan *plan, const struct fm__graph *g, struct fm_error *err)
{
    FM_TRY(fm__graph_check(g, err));
    FM_TRY(take_graph(plan, fm__pass_drop_dead(g), err));
    if (!plan->opts.exact_activations) {
        struct chooser chooser = {.opts = &plan->opts, .err = err};
        struct fm__graph *next = fm__pass_activations(plan->graph, choose_activation, &chooser);
        if (chooser.status != FM_OK) {
            fm__graph_free(next);
            return chooser.status;
        }
        FM_TRY(take_graph(plan, next, err));
    }
    if (plan->opts.no_fusion) return FM_OK;
    FM_TRY(take_graph(plan, fm__pass_share_angles(plan->graph), err));
    return take_graph(plan, fm__pass_fuse(plan->graph), err);
}

static bool same_dims(const struct fm__value *v, const struct fm_tensor *t)
{
    if (v->dtype != t->dtype || v->rank != t->rank) return false;
    for (int d = 0; d < v->rank; d++)
        if (v->dims[d] != t->dims[d]) return false;
    return true;
}

static fm_status bind_leaf(struct fm__plan *plan, const struct fm__value *v, struct fm__plan_value *p,
                           struct fm_error *err)
{
    p->place = FM__PLACE_BOUND;
    FM_TRY(plan->opts.bind(plan->opts.bind_context, v->name, &p->tensor, err));
    if (same_dims(v, &p->tensor)) return FM_OK;
    return fm__fail(err, FM_E_SHAPE, "%s: bound to %s of rank %d (%lld, …), want %s of rank %d (%lld, …)", v->name,
                    fm_dtype_info(p->tensor.dtype)->name, p->tensor.rank, (long long)p->tensor.dims[0],
                    fm_dtype_info(v->dtype)->name, v->rank, (long long)v->dims[0]);
}

// Sets shapes and places (not yet arena offsets) of all values.
static fm_status place_values(struct fm__plan *plan, struct fm_error *err)
{
    const struct fm__graph *g = plan->graph;
    for (int i = 0; i < g->n_values; i++) {
        const struct fm__value *v = &g->values[i];
        struct fm__plan_value *p = &plan->values[i];
        *p = (struct fm__plan_value){.input = -1, .first = INT32_MAX, .last = -1};
        if (v->alias_of != FM__NONE) {
            *p = plan->values[v->alias_of];
            continue;
        }
        p->tensor = (struct fm_tensor){.dtype = v->dtype, .rank = v->rank};
        for (int d = 0; d < v->rank; d++) p->tensor.dims[d] = v->dims[d] == FM__ROWS ? plan->opts.rows : v->dims[d];
        fm_tensor_set_contiguous(&p->tensor);
        if (v->node < 0 && v->kind != FM__INPUT) {
            FM_TRY(bind_leaf(plan, v, p, err));
        } else if (v->kind == FM__INPUT) {
            p->place = FM__PLACE_INPUT;
            p->input = plan->n_inputs++;
        }
    }
    return FM_OK;
}

// Fills steps in (stage, node) order.
static fm_status assign_stages(struct fm__plan *plan, struct fm_error *err)
{
    const struct fm__graph *g = plan->graph;
    int32_t *stage_of = fm__malloc(((size_t)g->n_nodes + 1) * sizeof *stage_of), n_stages = 0;
    int *at = NULL;
    fm_status status = stage_of ? fm__stages(g, plan->opts.rows, stage_of, &n_stages, err)
                                : fm__fail_nomem(err, "plan stages", (size_t)g->n_nodes * sizeof *stage_of);
    if (status == FM_OK) {
        at = fm__calloc((size_t)n_stages + 1, sizeof *at); // where the next step of a stage goes
        if (!at) status = fm__fail_nomem(err, "plan stages", (size_t)n_stages * sizeof *at);
    }
    if (status == FM_OK) {
        for (int i = 0; i < g->n_nodes; i++) at[stage_of[i] + 1]++;
        for (int32_t s = 0; s < n_stages; s++) at[s + 1] += at[s];
        for (int i = 0; i < g->n_nodes; i++)
            plan->steps[at[stage_of[i]]++] = (struct fm__plan_step){.node = i, .stage = stage_of[i]};
        plan->n_steps = g->n_nodes;
        plan->n_stages = n_stages;
    }
    fm__free(stage_of);
    fm__free(at);
    return status;
}

// A later version of a value lies where the first lies: that one lives as long.
static void touch(struct fm__plan *plan, fm__val v, int32_t stage)
{
    while (plan->graph->values[v].alias_of != FM__NONE) v = plan->graph->values[v].alias_of;
    struct fm__plan_value *p = &plan->values[v];
    if (stage < p->first) p->first = stage;
    if (stage > p->last) p->last = stage;
}

static void find_lifetimes(struct fm__plan *plan, bool host_visible)
{
    const struct fm__graph *g = plan->graph;
    for (int i = 0; i < plan->n_steps; i++) {
        const struct fm__node *node = fm__plan_node(plan, i);
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE) touch(plan, node->in[k], plan->steps[i].stage);
        for (int k = 0; k < node->n_out; k++) touch(plan, node->out[k], plan->steps[i].stage);
    }
    for (int i = 0; i < g->n_outputs; i++) touch(plan, g->outputs[i], plan->n_stages);
    for (int i = 0; i < g->n_values; i++) // copied in before the first stage
        if (!host_visible && plan->values[i].place == FM__PLACE_INPUT) touch(plan, i, 0);
}

static bool needs_arena(const struct fm__plan *plan, int v, bool host_visible)
{
    const struct fm__plan_value *p = &plan->values[v];
    if (plan->graph->values[v].alias_of != FM__NONE || p->last < 0) return false;
    return p->place == FM__PLACE_ARENA || (p->place == FM__PLACE_INPUT && !host_visible);
}

// The input whose place output o may take: of the same bytes, read for the last time, by this operand alone. The
// readers of one stage run side by side, so there may be no other in it.
static fm__val dying_input(const struct fm__plan *plan, const struct fm__plan_step *step, int o,
                           const int32_t *last_readers)
{
    const struct fm__node *node = &plan->graph->nodes[step->node];
    const struct fm_tensor *y = &plan->values[node->out[o]].tensor;
    for (int k = 0; k < node->n_in; k++) {
        const fm__val v = node->in[k];
        if (!(fm__op(node->op)->in_place[o] >> k & 1) || v == FM__NONE) continue;
        if (plan->graph->values[v].alias_of != FM__NONE || plan->graph->values[v].replaced) continue;
        const struct fm__plan_value *p = &plan->values[v];
        if (p->place != FM__PLACE_ARENA || p->tensor.dtype != y->dtype || p->last != step->stage) continue;
        if (fm_tensor_bytes(&p->tensor) == fm_tensor_bytes(y) && last_readers[v] == 1) return v;
    }
    return FM__NONE;
}

// shares[v]: the older value in whose place v lies, or v itself. Only in training: there the arena is what costs.
static fm_status share_places(const struct fm__plan *plan, fm__val *shares, struct fm_error *err)
{
    const struct fm__graph *g = plan->graph;
    int32_t *last_readers = fm__calloc((size_t)g->n_values + 1, sizeof *last_readers); // reads in the last stage
    if (!last_readers) return fm__fail_nomem(err, "plan memory", (size_t)g->n_values * sizeof *last_readers);
    for (int v = 0; v < g->n_values; v++) shares[v] = v;
    for (int i = 0; i < plan->n_steps; i++) {
        const struct fm__node *node = fm__plan_node(plan, i);
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE && plan->values[node->in[k]].last == plan->steps[i].stage)
                last_readers[node->in[k]]++;
    }
    const bool trains = fm__graph_trains(g);
    for (int i = 0; i < plan->n_steps && trains; i++) // in time: the input's own place is known
        for (int o = 0; o < fm__plan_node(plan, i)->n_out; o++) {
            const fm__val y = fm__plan_node(plan, i)->out[o], x = dying_input(plan, &plan->steps[i], o, last_readers);
            if (x != FM__NONE && plan->values[y].last >= 0) shares[y] = shares[x];
        }
    fm__free(last_readers);
    return FM_OK;
}

// Of all values and workspaces; spans of values that share a place are one.
static int collect_spans(struct fm__plan *plan, bool host_visible, const fm__val *shares, struct fm__span *spans,
                         int32_t *span_of)
{
    int n = 0;
    for (int i = 0; i < plan->graph->n_values; i++) {
        const struct fm__plan_value *p = &plan->values[i];
        span_of[i] = -1;
        if (!needs_arena(plan, i, host_visible) || shares[i] != i) continue;
        span_of[i] = n;
        spans[n++] = (struct fm__span){.bytes = fm_tensor_bytes(&p->tensor), .first = p->first, .last = p->last};
    }
    for (int i = 0; i < plan->graph->n_values; i++) {
        if (shares[i] == i) continue;
        struct fm__span *s = &spans[span_of[i] = span_of[shares[i]]];
        if (plan->values[i].last > s->last) s->last = plan->values[i].last;
    }
    for (int i = 0; i < plan->n_steps; i++) {
        struct fm__plan_step *step = &plan->steps[i];
        struct fm__call call;
        fm__plan_call(plan, i, &call);
        step->workspace_bytes = plan->device->v->workspace(plan->device, fm__plan_node(plan, i), &call);
        if (step->workspace_bytes)
            spans[n++] = (struct fm__span){.bytes = step->workspace_bytes, .first = step->stage, .last = step->stage};
    }
    return n;
}

static fm_status plan_memory(struct fm__plan *plan, const struct fm_device_props *props, struct fm_error *err)
{
    const int n_values = plan->graph->n_values;
    size_t alignment = props->alignment > 64 ? props->alignment : 64;
    struct fm__span *spans = fm__malloc((size_t)(n_values + plan->n_steps + 1) * sizeof *spans);
    fm__val *shares = fm__malloc(2 * ((size_t)n_values + 1) * sizeof *shares);
    int32_t *span_of = shares ? shares + n_values : NULL;
    fm_status status = spans && shares ? share_places(plan, shares, err)
                                       : fm__fail_nomem(err, "plan memory", (size_t)n_values * sizeof *spans);
    if (status == FM_OK) {
        const int n = collect_spans(plan, props->host_visible, shares, spans, span_of);
        status = fm__memory_plan(spans, n, alignment, &plan->arena_bytes, err);
        plan->live_bytes = fm__memory_peak(spans, n, NULL);
        for (int i = 0; i < n_values; i++)
            if (span_of[i] >= 0) plan->values[i].tensor.offset = spans[span_of[i]].offset;
        for (int i = plan->n_steps - 1, at = n; i >= 0; i--)
            if (plan->steps[i].workspace_bytes) plan->steps[i].workspace_offset = spans[--at].offset;
    }
    fm__free(spans);
    fm__free(shares);
    return status;
}

// Points arena values (and older versions' aliases) at the arena's buffer.
static fm_status make_arena(struct fm__plan *plan, bool host_visible, struct fm_error *err)
{
    if (plan->opts.arena && fm_buffer_size(plan->opts.arena) >= plan->arena_bytes)
        plan->arena = fm_buffer_ref(plan->opts.arena);
    else
        FM_TRY(plan->device->v->alloc(plan->device, plan->arena_bytes, &plan->arena, err));
    for (int i = 0; i < plan->graph->n_values; i++) {
        struct fm__plan_value *p = &plan->values[i];
        if (needs_arena(plan, i, host_visible)) {
            p->tensor.buffer = plan->arena;
            if (plan->arena->host) p->tensor.data = (char *)plan->arena->host + p->tensor.offset;
        }
        fm__val old = plan->graph->values[i].alias_of;
        if (old != FM__NONE) {
            p->tensor = plan->values[old].tensor;
            p->place = plan->values[old].place;
        }
    }
    return FM_OK;
}

static fm_status make_staging(struct fm__plan *plan, struct fm_error *err)
{
    size_t total = 0;
    plan->staging_offsets = fm__calloc((size_t)plan->graph->n_outputs + 1, sizeof *plan->staging_offsets);
    if (!plan->staging_offsets) return fm__fail_nomem(err, "plan outputs", sizeof *plan->staging_offsets);
    for (int i = 0; i < plan->graph->n_outputs; i++) {
        plan->staging_offsets[i] = total;
        total += fm__align_up(fm_tensor_bytes(&plan->values[plan->graph->outputs[i]].tensor), 64);
    }
    plan->staging = fm__aligned(64, total);
    return plan->staging ? FM_OK : fm__fail_nomem(err, "plan outputs", total);
}

// Shapes, stages and places of all values of plan->graph.
static fm_status lay_out(struct fm__plan *plan, struct fm_error *err)
{
    struct fm_device_props props;
    fm_device_get_props(plan->device, &props);
    plan->n_inputs = 0;
    plan->values = fm__calloc((size_t)plan->graph->n_values, sizeof *plan->values);
    plan->steps = fm__calloc((size_t)plan->graph->n_nodes, sizeof *plan->steps);
    if (!plan->values || !plan->steps)
        return fm__fail_nomem(err, "plan", (size_t)plan->graph->n_values * sizeof *plan->values);
    FM_TRY(place_values(plan, err));
    FM_TRY(assign_stages(plan, err));
    find_lifetimes(plan, props.host_visible);
    return plan_memory(plan, &props, err);
}

// The arena that another graph would need under this plan's options.
static fm_status measure(void *context, const struct fm__graph *g, size_t *bytes, struct fm_error *err)
{
    const struct fm__plan *plan = context;
    struct fm__plan other = {.opts = plan->opts, .device = plan->device, .graph = (struct fm__graph *)(uintptr_t)g};
    const fm_status status = lay_out(&other, err);
    *bytes = other.arena_bytes;
    fm__free(other.values);
    fm__free(other.steps);
    return status;
}

static fm_status recompute(struct fm__plan *plan, struct fm_error *err)
{
    const struct fm__recompute opts = {
        .rows = plan->opts.rows, .budget = plan->opts.arena_budget, .measure = measure, .context = plan};
    struct fm__graph *next;
    FM_TRY(fm__pass_recompute(plan->graph, &opts, &next, err));
    return next ? take_graph(plan, next, err) : FM_OK;
}

static fm_status build(struct fm__plan *plan, const struct fm__graph *g, struct fm_error *err)
{
    struct fm_device_props props;
    fm_device_get_props(plan->device, &props);
    FM_TRY(run_passes(plan, g, err));
    if (plan->opts.arena_budget) FM_TRY(recompute(plan, err));
    FM_TRY(lay_out(plan, err));
    FM_TRY(make_arena(plan, props.host_visible, err));
    if (!props.host_visible) FM_TRY(make_staging(plan, err));
    return plan->device->v->prepare(plan->device, plan, &plan->program, err);
}

fm_status fm__plan_new(const struct fm__graph *g, const struct fm__plan_opts *opts, struct fm__plan **out,
                       struct fm_error *err)
{
    *out = NULL;
    struct fm__plan *plan = fm__calloc(1, sizeof *plan);
    if (!plan) return fm__fail_nomem(err, "plan", sizeof *plan);
    plan->opts = *opts;
    plan->device = opts->device;
    fm_status status = build(plan, g, err);
    if (status != FM_OK) {
        fm__plan_free(plan);
        return status;
    }
    *out = plan;
    return FM_OK;
}

void fm__plan_free(struct fm__plan *plan)
{
    if (!plan) return;
    if (plan->program) plan->device->v->release(plan->device, plan->program);
    fm_buffer_unref(plan->arena);
    fm__graph_free(plan->graph);
    fm__free(plan->values);
    fm__free(plan->steps);
    fm__free(plan->staging);
    fm__free(plan->staging_offsets);
    fm__free(plan);
}

const struct fm__node *fm__plan_node(const struct fm__plan *plan, int i)
{
    return &plan->graph->nodes[plan->steps[i].node];
}

void fm__plan_call(const struct fm__plan *plan, int i, struct fm__call *call)
{
    const struct fm__node *node = fm__plan_node(plan, i);
    *call = (struct fm__call){.n_in = node->n_in, .n_out = node->n_out, .attrs = &node->attrs, .rows = plan->opts.rows};
    for (int k = 0; k < FM__MAX_IN; k++) {
        if (k < node->n_in && node->in[k] != FM__NONE)
            call->in[k] = plan->values[node->in[k]].tensor;
        else
            call->in[k].dtype = FM_DTYPE_COUNT;
    }
    for (int k = 0; k < node->n_out; k++) call->out[k] = plan->values[node->out[k]].tensor;
    call->workspace_bytes = plan->steps[i].workspace_bytes;
    if (plan->arena && plan->arena->host && call->workspace_bytes)
        call->workspace = (char *)plan->arena->host + plan->steps[i].workspace_offset;
}

static size_t live_bytes(const struct fm__plan *plan, fm__val v, int64_t rows)
{
    struct fm_tensor t = plan->values[v].tensor;
    for (int d = 0; d < t.rank; d++)
        if (plan->graph->values[v].dims[d] == FM__ROWS) t.dims[d] = rows;
    return fm_tensor_bytes(&t);
}

static fm_status copy_inputs(struct fm__plan *plan, int64_t rows, const void *const *inputs, struct fm_error *err)
{
    for (int i = 0; i < plan->graph->n_values; i++) {
        const struct fm__plan_value *p = &plan->values[i];
        if (p->place == FM__PLACE_INPUT && p->tensor.buffer)
            FM_TRY(fm__device_copy_in(plan->device, p->tensor.buffer, p->tensor.offset, inputs[p->input],
                                      live_bytes(plan, i, rows), err));
    }
    return FM_OK;
}

static fm_status copy_outputs(struct fm__plan *plan, int64_t rows, struct fm_error *err)
{
    for (int i = 0; i < plan->graph->n_outputs; i++) {
        fm__val v = plan->graph->outputs[i];
        const struct fm_tensor *t = &plan->values[v].tensor;
        FM_TRY(fm__device_copy_out(plan->device, t->buffer, t->offset, (char *)plan->staging + plan->staging_offsets[i],
                                   live_bytes(plan, v, rows), err));
    }
    return FM_OK;
}

fm_status fm__plan_run(struct fm__plan *plan, int64_t rows, const void *const *inputs, struct fm_error *err)
{
    if (rows < 1 || rows > plan->opts.rows)
        return fm__fail(err, FM_E_ARG, "plan: %lld rows, want 1 to %lld", (long long)rows, (long long)plan->opts.rows);
    struct fm__run run = {.rows = rows, .inputs = inputs, .after = plan->after, .after_context = plan->after_context};
    if (plan->staging) FM_TRY(copy_inputs(plan, rows, inputs, err));
    FM_TRY(plan->device->v->submit(plan->device, plan->program, &run, err));
    FM_TRY(plan->device->v->wait(plan->device, plan->program, err));
    return plan->staging ? copy_outputs(plan, rows, err) : FM_OK;
}

const void *fm__plan_output(const struct fm__plan *plan, int i)
{
    if (plan->staging) return (const char *)plan->staging + plan->staging_offsets[i];
    const struct fm_tensor *t = &plan->values[plan->graph->outputs[i]].tensor;
    return (const char *)t->buffer->host + t->offset;
}

static void dump_place(const struct fm__plan *plan, fm__val v, FILE *to)
{
    const struct fm__plan_value *p = &plan->values[v];
    fm__graph_print_value(plan->graph, v, to);
    if (p->place == FM__PLACE_ARENA)
        fprintf(to, "@%zu", p->tensor.offset);
    else
        fprintf(to, "@%s", plan->graph->values[v].name);
}

void fm__plan_dump(const struct fm__plan *plan, FILE *to)
{
    fprintf(to, "plan rows=%lld steps=%d stages=%d arena=%zu\n", (long long)plan->opts.rows, plan->n_steps,
            plan->n_stages, plan->arena_bytes);
    for (int i = 0; i < plan->n_steps; i++) {
        const struct fm__node *node = fm__plan_node(plan, i);
        struct fm__call call;
        fm__plan_call(plan, i, &call);
        fprintf(to, "%3d %s/%s", plan->steps[i].stage, fm__op(node->op)->name,
                plan->device->v->kernel_name(plan->device, node, &call));
        if (fm__op(node->op)->print) fm__op(node->op)->print(&node->attrs, to);
        fputs(" (", to);
        for (int k = 0; k < node->n_in; k++) {
            if (k) fputs(", ", to);
            if (node->in[k] == FM__NONE)
                fputc('-', to);
            else
                dump_place(plan, node->in[k], to);
        }
        fputs(") -> ", to);
        for (int k = 0; k < node->n_out; k++) {
            if (k) fputs(", ", to);
            dump_place(plan, node->out[k], to);
        }
        if (plan->steps[i].workspace_bytes)
            fprintf(to, " work=%zu@%zu", plan->steps[i].workspace_bytes, plan->steps[i].workspace_offset);
        fputc('\n', to);
    }
}

// Bytes of the arena that value v takes in `stage`; 0: none, or an older value that it shares the place with counts.
static size_t bytes_at(const struct fm__plan *plan, fm__val v, int32_t stage)
{
    const struct fm__plan_value *p = &plan->values[v];
    if (p->tensor.buffer != plan->arena || plan->graph->values[v].alias_of != FM__NONE) return 0;
    if (p->first > stage || p->last < stage) return 0;
    for (fm__val i = 0; i < v; i++) {
        const struct fm__plan_value *other = &plan->values[i];
        if (other->tensor.buffer == plan->arena && other->tensor.offset == p->tensor.offset && other->first <= stage &&
            other->last >= stage)
            return 0;
    }
    return fm_tensor_bytes(&p->tensor);
}

static size_t alive_at(const struct fm__plan *plan, int32_t stage)
{
    size_t sum = 0;
    for (fm__val v = 0; v < plan->graph->n_values; v++) sum += bytes_at(plan, v, stage);
    for (int i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].stage == stage) sum += plan->steps[i].workspace_bytes;
    return sum;
}

void fm__plan_dump_peak(const struct fm__plan *plan, int n, FILE *to)
{
    int32_t peak = 0;
    size_t most = 0;
    for (int32_t s = 0; s < plan->n_stages; s++) {
        const size_t alive = alive_at(plan, s);
        if (alive > most) most = alive, peak = s;
    }
    fprintf(to, "peak stage=%d alive=%zu arena=%zu\n", peak, most, plan->arena_bytes);
    size_t below = SIZE_MAX;
    fm__val after = -1; // of those with `below` bytes the last one shown
    for (; n > 0; n--) {
        fm__val next = FM__NONE;
        for (fm__val v = 0; v < plan->graph->n_values; v++) {
            const size_t bytes = bytes_at(plan, v, peak);
            if (!bytes || bytes > below || (bytes == below && v <= after)) continue;
            if (next == FM__NONE || bytes > bytes_at(plan, next, peak)) next = v;
        }
        if (next == FM__NONE) break;
        below = bytes_at(plan, next, peak);
        after = next;
        fprintf(to, "%12zu %s ", below, plan->graph->values[next].name);
        fm__graph_print_value(plan->graph, next, to);
        fprintf(to, " stages %d to %d\n", plan->values[next].first, plan->values[next].last);
    }
}
