// SPDX-License-Identifier: MIT
// From graph to plan: passes, binding, stages, memory, the device's program. Then the run.
#include "device/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "graph/memory.h"
#include "graph/passes.h"
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

// Stage of each node: after those that make what it reads and, if it changes a state, after all readers of the version
// it replaces. Fills steps in (stage, node) order.
static fm_status assign_stages(struct fm__plan *plan, struct fm_error *err)
{
    const struct fm__graph *g = plan->graph;
    int32_t *ready = fm__calloc((size_t)g->n_values * 2, sizeof *ready); // first stage that may read the value
    int32_t *read_until = ready ? ready + g->n_values : NULL;            // first stage after its last reader so far
    int32_t *stage_of = fm__malloc((size_t)g->n_nodes * sizeof *stage_of);
    if (!ready || !stage_of) {
        fm__free(ready), fm__free(stage_of);
        return fm__fail_nomem(err, "plan stages", (size_t)g->n_values * 2 * sizeof *ready);
    }
    plan->n_stages = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        const struct fm__op *op = fm__op(node->op);
        int32_t stage = 0;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE && ready[node->in[k]] > stage) stage = ready[node->in[k]];
        for (int k = 0; k < node->n_out; k++)
            if (op->alias[k] && read_until[node->in[op->alias[k] - 1]] > stage)
                stage = read_until[node->in[op->alias[k] - 1]];
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE && read_until[node->in[k]] < stage + 1) read_until[node->in[k]] = stage + 1;
        for (int k = 0; k < node->n_out; k++) ready[node->out[k]] = stage + 1;
        stage_of[i] = stage;
        if (stage + 1 > plan->n_stages) plan->n_stages = stage + 1;
    }
    plan->n_steps = 0;
    for (int32_t stage = 0; stage < plan->n_stages; stage++)
        for (int i = 0; i < g->n_nodes; i++)
            if (stage_of[i] == stage) plan->steps[plan->n_steps++] = (struct fm__plan_step){.node = i, .stage = stage};
    fm__free(ready);
    fm__free(stage_of);
    return FM_OK;
}

static void touch(struct fm__plan_value *p, int32_t stage)
{
    if (stage < p->first) p->first = stage;
    if (stage > p->last) p->last = stage;
}

static void find_lifetimes(struct fm__plan *plan, bool host_visible)
{
    const struct fm__graph *g = plan->graph;
    for (int i = 0; i < plan->n_steps; i++) {
        const struct fm__node *node = fm__plan_node(plan, i);
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE) touch(&plan->values[node->in[k]], plan->steps[i].stage);
        for (int k = 0; k < node->n_out; k++) touch(&plan->values[node->out[k]], plan->steps[i].stage);
    }
    for (int i = 0; i < g->n_outputs; i++) touch(&plan->values[g->outputs[i]], plan->n_stages);
    for (int i = 0; i < g->n_values; i++) // copied in before the first stage
        if (!host_visible && plan->values[i].place == FM__PLACE_INPUT) touch(&plan->values[i], 0);
}

static bool needs_arena(const struct fm__plan *plan, int v, bool host_visible)
{
    const struct fm__plan_value *p = &plan->values[v];
    if (plan->graph->values[v].alias_of != FM__NONE || p->last < 0) return false;
    return p->place == FM__PLACE_ARENA || (p->place == FM__PLACE_INPUT && !host_visible);
}

static fm_status plan_memory(struct fm__plan *plan, const struct fm_device_props *props, struct fm_error *err)
{
    const struct fm__graph *g = plan->graph;
    size_t alignment = props->alignment > 64 ? props->alignment : 64;
    struct fm__span *spans = fm__malloc((size_t)(g->n_values + plan->n_steps) * sizeof *spans);
    if (!spans) return fm__fail_nomem(err, "plan memory", (size_t)g->n_values * sizeof *spans);
    int n = 0;
    for (int i = 0; i < g->n_values; i++) {
        const struct fm__plan_value *p = &plan->values[i];
        if (needs_arena(plan, i, props->host_visible))
            spans[n++] = (struct fm__span){.bytes = fm_tensor_bytes(&p->tensor), .first = p->first, .last = p->last};
    }
    for (int i = 0; i < plan->n_steps; i++) {
        struct fm__plan_step *step = &plan->steps[i];
        struct fm__call call;
        fm__plan_call(plan, i, &call);
        step->workspace_bytes = plan->device->v->workspace(plan->device, fm__plan_node(plan, i), &call);
        if (step->workspace_bytes)
            spans[n++] = (struct fm__span){.bytes = step->workspace_bytes, .first = step->stage, .last = step->stage};
    }
    fm_status status = fm__memory_plan(spans, n, alignment, &plan->arena_bytes, err);
    n = 0;
    for (int i = 0; i < g->n_values; i++)
        if (needs_arena(plan, i, props->host_visible)) plan->values[i].tensor.offset = spans[n++].offset;
    for (int i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].workspace_bytes) plan->steps[i].workspace_offset = spans[n++].offset;
    fm__free(spans);
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

static fm_status build(struct fm__plan *plan, const struct fm__graph *g, struct fm_error *err)
{
    struct fm_device_props props;
    fm_device_get_props(plan->device, &props);
    FM_TRY(run_passes(plan, g, err));
    plan->values = fm__calloc((size_t)plan->graph->n_values, sizeof *plan->values);
    plan->steps = fm__calloc((size_t)plan->graph->n_nodes, sizeof *plan->steps);
    if (!plan->values || !plan->steps)
        return fm__fail_nomem(err, "plan", (size_t)plan->graph->n_values * sizeof *plan->values);
    FM_TRY(place_values(plan, err));
    FM_TRY(assign_stages(plan, err));
    find_lifetimes(plan, props.host_visible);
    FM_TRY(plan_memory(plan, &props, err));
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
    struct fm__run run = {.rows = rows, .inputs = inputs};
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
        for (int k = 0; k < node->n_out; k++) dump_place(plan, node->out[k], to);
        if (plan->steps[i].workspace_bytes)
            fprintf(to, " work=%zu@%zu", plan->steps[i].workspace_bytes, plan->steps[i].workspace_offset);
        fputc('\n', to);
    }
}
