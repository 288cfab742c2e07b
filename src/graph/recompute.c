// SPDX-License-Identifier: MIT
#include "graph/recompute.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "ops/op.h"

struct work {
    const struct fm__graph *g;
    const struct fm__recompute *r;
    // of nodes
    unsigned char *late;   // of the backward pass, or fed by it
    unsigned char *drop;   // what late nodes read of it is computed again
    unsigned char *needed; // scratch of cones
    int32_t *segment;
    double *cost;
    size_t *across; // bytes alive after the node for early nodes to come
    int32_t *cuts;  // nodes after which `across` has a valley, n_cuts
    int32_t *order; // nodes that can be dropped, best first, n_order; room for twice as many
    // of values
    unsigned char *saved;  // made early, read late
    unsigned char *pinned; // kept whatever happens
    int32_t *last_early;   // last early reader, -1: none
    fm__val *map, *clones; // old value -> new one; -> its clone
    int n_cuts, n_order;
};

static void end_work(struct work *w)
{
    void *const all[] = {w->late,  w->drop,  w->needed, w->segment,    w->cost, w->across, w->cuts,
                         w->order, w->saved, w->pinned, w->last_early, w->map,  w->clones};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) fm__free(all[i]);
}

static fm_status begin_work(struct work *w, struct fm_error *err)
{
    const size_t nodes = (size_t)w->g->n_nodes + 1, values = (size_t)w->g->n_values + 1;
    w->late = fm__calloc(nodes, 1);
    w->drop = fm__calloc(nodes, 1);
    w->needed = fm__calloc(nodes, 1);
    w->segment = fm__calloc(nodes, sizeof *w->segment);
    w->cost = fm__calloc(nodes, sizeof *w->cost);
    w->across = fm__calloc(nodes, sizeof *w->across);
    w->cuts = fm__calloc(nodes, sizeof *w->cuts);
    w->order = fm__calloc(2 * nodes, sizeof *w->order);
    w->saved = fm__calloc(values, 1);
    w->pinned = fm__calloc(values, 1);
    w->last_early = fm__calloc(values, sizeof *w->last_early);
    w->map = fm__calloc(values, sizeof *w->map);
    w->clones = fm__calloc(values, sizeof *w->clones);
    if (w->late && w->drop && w->needed && w->segment && w->cost && w->across && w->cuts && w->order && w->saved &&
        w->pinned && w->last_early && w->map && w->clones)
        return FM_OK;
    return fm__fail_nomem(err, "recomputation", nodes * 32 + values * 16);
}

static struct fm_tensor tensor_of(const struct work *w, fm__val v)
{
    if (v == FM__NONE) return (struct fm_tensor){.dtype = FM_DTYPE_COUNT};
    const struct fm__value *value = &w->g->values[v];
    struct fm_tensor t = {.dtype = value->dtype, .rank = value->rank};
    for (int d = 0; d < t.rank; d++) t.dims[d] = value->dims[d] == FM__ROWS ? w->r->rows : value->dims[d];
    fm_tensor_set_contiguous(&t);
    return t;
}

static size_t bytes_of(const struct work *w, fm__val v)
{
    const struct fm_tensor t = tensor_of(w, v);
    return fm_tensor_bytes(&t);
}

// Made by a node of the forward pass (not a leaf), and no version of a state.
static bool is_early(const struct work *w, fm__val v)
{
    const struct fm__value *value = &w->g->values[v];
    return value->node >= 0 && value->kind == FM__TEMP && !w->late[value->node];
}

// Running it twice would change a state twice.
static bool changes_state(const struct fm__node *node)
{
    for (int k = 0; k < node->n_out; k++)
        if (fm__op(node->op)->alias[k]) return true;
    return false;
}

static void find_early_and_late(struct work *w)
{
    const struct fm__graph *g = w->g;
    for (int v = 0; v < g->n_values; v++) w->last_early[v] = -1;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        w->late[i] = node->backward;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE && g->values[node->in[k]].node >= 0)
                w->late[i] |= w->late[g->values[node->in[k]].node];
        for (int k = 0; k < node->n_in; k++) {
            if (node->in[k] == FM__NONE || !is_early(w, node->in[k])) continue;
            if (w->late[i])
                w->saved[node->in[k]] = 1;
            else
                w->last_early[node->in[k]] = i;
        }
        struct fm__call call = {.n_in = node->n_in, .n_out = node->n_out, .attrs = &node->attrs, .rows = w->r->rows};
        for (int k = 0; k < node->n_in; k++) call.in[k] = tensor_of(w, node->in[k]);
        for (int k = 0; k < node->n_out; k++) call.out[k] = tensor_of(w, node->out[k]);
        const struct fm__op *op = fm__op(node->op);
        w->cost[i] = op->flops ? op->flops(&call) : (double)fm_tensor_elements(&call.out[0]);
    }
}

// Valleys of what lies across: where layers meet. A valley counts if the hill before it is half as high again: chains
// of equal widths have none.
static void find_cuts(struct work *w)
{
    const struct fm__graph *g = w->g;
    int32_t last = -1; // early node
    for (int v = 0; v < g->n_values; v++) {
        if (!is_early(w, v) || w->last_early[v] < 0) continue;
        const size_t bytes = bytes_of(w, v);
        for (int32_t i = g->values[v].node; i < w->last_early[v]; i++) w->across[i] += bytes;
        if (w->last_early[v] > last) last = w->last_early[v];
    }
    size_t hill = 0;
    bool falling = false;
    for (int32_t i = 0, before = -1; i < last; i++) {
        if (w->late[i]) continue;
        if (before >= 0 && w->across[i] > w->across[before]) {
            if (falling && w->across[before] + w->across[before] / 2 <= hill) {
                w->cuts[w->n_cuts++] = before;
                hill = 0;
            }
            falling = false;
        } else if (before >= 0 && w->across[i] < w->across[before]) {
            falling = true;
        }
        if (w->across[i] > hill) hill = w->across[i];
        before = i;
    }
}

// Takes out valleys that lie half as high again as the lowest before and the lowest behind them: those are inside a
// layer (a feed-forward's middle where an adapter reads it too).
static void drop_high_cuts(struct work *w)
{
    int n = 0;
    for (int i = 0; i < w->n_cuts; i++) {
        size_t before = SIZE_MAX, behind = SIZE_MAX;
        for (int k = 0; k < w->n_cuts; k++) {
            size_t *side = k < i ? &before : &behind;
            if (k != i && w->across[w->cuts[k]] < *side) *side = w->across[w->cuts[k]];
        }
        const size_t low = before > behind ? before : behind, height = w->across[w->cuts[i]];
        w->order[i] = low == SIZE_MAX || height - height / 3 <= low; // order: scratch here
    }
    for (int i = 0; i < w->n_cuts; i++)
        if (w->order[i]) w->cuts[n++] = w->cuts[i];
    w->n_cuts = n;
}

// Every `step`-th cut counts, the last ones first: segments, and what is kept.
static void cut(struct work *w, int step)
{
    const struct fm__graph *g = w->g;
    int32_t segment = 0;
    int next = 0;
    while (next < w->n_cuts && (w->n_cuts - 1 - next) % step) next++;
    for (int i = 0; i < g->n_nodes; i++) {
        w->segment[i] = segment;
        if (next < w->n_cuts && i == w->cuts[next]) {
            segment++;
            for (next++; next < w->n_cuts && (w->n_cuts - 1 - next) % step;) next++;
        }
    }
    for (int v = 0; v < g->n_values; v++) {
        if (!is_early(w, v)) continue;
        const int32_t node = g->values[v].node, last = w->last_early[v];
        w->pinned[v] = (last >= 0 && w->segment[last] != w->segment[node]) || changes_state(&g->nodes[node]);
    }
    for (int i = 0; i < g->n_outputs; i++) w->pinned[g->outputs[i]] = 1;
}

// Whether an input of a clone is there anyhow.
static bool is_kept(const struct work *w, fm__val v)
{
    if (v == FM__NONE || !is_early(w, v) || w->pinned[v]) return true;
    return w->saved[v] && !w->drop[w->g->values[v].node];
}

// Marks in w->needed what must run again for the marked nodes up to `last`; returns its FLOPs.
static double close_cone(struct work *w, int32_t last)
{
    double cost = 0;
    for (int32_t i = last; i >= 0 && w->segment[i] == w->segment[last]; i--) {
        const struct fm__node *node = &w->g->nodes[i];
        if (!w->needed[i]) continue;
        cost += w->cost[i];
        for (int k = 0; k < node->n_in; k++)
            if (!is_kept(w, node->in[k])) w->needed[w->g->values[node->in[k]].node] = 1;
    }
    return cost;
}

// Bytes that dropping the node frees.
static size_t droppable(const struct work *w, int32_t i)
{
    const struct fm__node *node = &w->g->nodes[i];
    size_t bytes = 0;
    for (int k = 0; k < node->n_out; k++)
        if (is_early(w, node->out[k]) && w->saved[node->out[k]] && !w->pinned[node->out[k]])
            bytes += bytes_of(w, node->out[k]);
    return bytes;
}

struct candidate {
    double gain;
    int32_t node;
};

static int better_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->gain != y->gain) return x->gain < y->gain ? 1 : -1;
    return x->node < y->node ? -1 : 1; // what would wait longest goes first
}

static fm_status sort_candidates(struct work *w, struct fm_error *err)
{
    const size_t n = (size_t)w->g->n_nodes + 1;
    struct candidate *list = fm__malloc(n * sizeof *list);
    if (!list) return fm__fail_nomem(err, "recomputation", n * sizeof *list);
    w->n_order = 0;
    memset(w->drop, 0, n);
    for (int32_t i = 0; i < w->g->n_nodes; i++) {
        const size_t bytes = droppable(w, i);
        if (!bytes) continue;
        memset(w->needed, 0, n);
        w->needed[i] = 1;
        list[w->n_order++] = (struct candidate){(double)bytes / (close_cone(w, i) + 1), i};
    }
    qsort(list, (size_t)w->n_order, sizeof *list, better_first);
    for (int i = 0; i < w->n_order; i++) w->order[i] = list[i].node;
    fm__free(list);
    return FM_OK;
}

// --- the new graph ---

static void emit(struct work *w, struct fm__graph *to, int32_t i, fm__val after, bool clone)
{
    const struct fm__node *node = &w->g->nodes[i];
    fm__val in[FM__MAX_IN];
    for (int k = 0; k < node->n_in; k++) {
        const fm__val v = node->in[k];
        const bool again = v != FM__NONE && (clone || w->late[i]) && w->clones[v] != FM__NONE;
        in[k] = v == FM__NONE ? FM__NONE : again ? w->clones[v] : w->map[v];
    }
    const fm__val first = fm__graph_add(to, node->op, node->n_in, in, &node->attrs);
    if (first == FM__NONE) return;
    to->nodes[to->values[first].node].backward = node->backward || clone;
    fm__graph_after(to, first, after);
    for (int k = 0; k < node->n_out; k++) {
        const fm__val made = fm__graph_out(to, first, k);
        if (!clone)
            w->map[node->out[k]] = made;
        else if (!w->pinned[node->out[k]])
            w->clones[node->out[k]] = made;
    }
}

// The newest gradient that a late node reads: when it is there, the node's turn has come.
static fm__val arrival(const struct work *w, const struct fm__node *node)
{
    fm__val newest = FM__NONE;
    for (int k = 0; k < node->n_in; k++) {
        const fm__val v = node->in[k];
        if (v != FM__NONE && w->g->values[v].node >= 0 && w->late[w->g->values[v].node] && v > newest) newest = v;
    }
    return newest == FM__NONE ? FM__NONE : w->map[newest];
}

// All that the backward pass wants of a segment again, in the order of the forward pass.
static void emit_clones(struct work *w, struct fm__graph *to, int32_t segment, fm__val after)
{
    int32_t last = -1;
    for (int32_t i = 0; i < w->g->n_nodes; i++) {
        w->needed[i] = w->drop[i] && w->segment[i] == segment && !w->late[i];
        if (w->needed[i]) last = i;
    }
    if (last >= 0) close_cone(w, last);
    for (int32_t i = 0; i <= last; i++)
        if (w->needed[i]) emit(w, to, i, after, true);
}

// The first segment of which the node reads something dropped and not yet computed again; -1: none.
static int32_t waits_for(const struct work *w, const struct fm__node *node)
{
    for (int k = 0; k < node->n_in; k++) {
        const fm__val v = node->in[k];
        if (v != FM__NONE && is_early(w, v) && w->drop[w->g->values[v].node] && !w->pinned[v] &&
            w->clones[v] == FM__NONE)
            return w->segment[w->g->values[v].node];
    }
    return -1;
}

// The graph with the nodes of w->drop dropped; NULL: no memory.
static struct fm__graph *rewrite(struct work *w)
{
    const struct fm__graph *g = w->g;
    struct fm__graph *to = fm__graph_new();
    if (!to) return NULL;
    for (int i = 0; i < g->n_values; i++) {
        const struct fm__value *v = &g->values[i];
        w->clones[i] = FM__NONE;
        w->map[i] = v->node >= 0 ? FM__NONE : fm__graph_leaf(to, v->kind, v->name, v->dtype, v->rank, v->dims);
    }
    for (int32_t i = 0; i < g->n_nodes && to->status == FM_OK; i++) {
        const struct fm__node *node = &g->nodes[i];
        for (int32_t s; w->late[i] && to->status == FM_OK && (s = waits_for(w, node)) >= 0;)
            emit_clones(w, to, s, arrival(w, node));
        emit(w, to, i, node->after == FM__NONE ? FM__NONE : w->map[node->after], false);
    }
    for (int i = 0; i < g->n_outputs; i++) fm__graph_output(to, w->map[g->outputs[i]], g->values[g->outputs[i]].name);
    return to;
}

// Drops the first n of the order; *to is the caller's.
static fm_status drop_first(struct work *w, int n, struct fm__graph **to, size_t *bytes, struct fm_error *err)
{
    memset(w->drop, 0, (size_t)w->g->n_nodes);
    for (int i = 0; i < n; i++) w->drop[w->order[i]] = 1;
    *to = rewrite(w);
    if (!*to) return fm__fail_nomem(err, "recomputation", sizeof **to);
    fm_status status = fm__graph_check(*to, err);
    if (status == FM_OK) status = w->r->measure(w->r->context, *to, bytes, err);
    if (status != FM_OK) {
        fm__graph_free(*to);
        *to = NULL;
    }
    return status;
}

struct best {
    struct fm__graph *graph; // NULL: the one there was
    size_t bytes;
};

static void offer(struct best *best, struct fm__graph *graph, size_t bytes)
{
    fm__graph_free(best->graph);
    *best = (struct best){graph, bytes};
}

// The fewest drops that fit, by bisection: every drop is taken to shrink the arena.
static fm_status fewest(struct work *w, struct best *best, struct fm_error *err)
{
    int low = 0, high = w->n_order; // high fits
    while (high - low > 1 && w->r->budget > 1) {
        const int n = low + (high - low) / 2;
        struct fm__graph *to;
        size_t bytes;
        FM_TRY(drop_first(w, n, &to, &bytes, err));
        if (bytes <= w->r->budget) {
            offer(best, to, bytes);
            high = n;
        } else {
            fm__graph_free(to);
            low = n;
        }
    }
    return FM_OK;
}

// What the backward pass begins with is wanted again at once: from the last segment on, dropping is taken back while
// that costs nothing.
static fm_status take_back(struct work *w, struct best *best, struct fm_error *err)
{
    for (int32_t s = w->segment[w->g->n_nodes - 1]; s >= 0; s--) {
        int n = 0, n_of = 0;
        for (int i = 0; i < w->n_order; i++) { // those of the segment go to the end, order kept
            if (w->segment[w->order[i]] == s)
                w->order[w->n_order + n_of++] = w->order[i];
            else
                w->order[n++] = w->order[i];
        }
        memmove(w->order + n, w->order + w->n_order, (size_t)n_of * sizeof *w->order);
        if (n_of == 0) continue;
        struct fm__graph *to;
        size_t bytes;
        FM_TRY(drop_first(w, n, &to, &bytes, err));
        if (bytes > best->bytes) {
            fm__graph_free(to);
            break;
        }
        offer(best, to, bytes);
        w->n_order = n;
    }
    return FM_OK;
}

enum { MOST_JOINED = 8 }; // segments of that many valleys at most

static fm_status search(struct work *w, struct best *best, struct fm_error *err)
{
    FM_TRY(w->r->measure(w->r->context, w->g, &best->bytes, err));
    if (best->bytes <= w->r->budget) return FM_OK;
    for (int step = 1; step <= MOST_JOINED && (step == 1 || step < w->n_cuts); step++) {
        struct fm__graph *to;
        size_t bytes;
        cut(w, step);
        FM_TRY(sort_candidates(w, err));
        if (w->n_order == 0) break;
        FM_TRY(drop_first(w, w->n_order, &to, &bytes, err));
        if (bytes >= best->bytes) {
            fm__graph_free(to);
            continue;
        }
        offer(best, to, bytes);
        FM_TRY(take_back(w, best, err));
        if (best->bytes <= w->r->budget) return fewest(w, best, err);
    }
    return FM_OK;
}

fm_status fm__pass_recompute(const struct fm__graph *g, const struct fm__recompute *r, struct fm__graph **out,
                             struct fm_error *err)
{
    struct work w = {.g = g, .r = r};
    struct best best = {0};
    *out = NULL;
    fm_status status = begin_work(&w, err);
    if (status == FM_OK) {
        find_early_and_late(&w);
        find_cuts(&w);
        drop_high_cuts(&w);
        status = search(&w, &best, err);
    }
    end_work(&w);
    if (status == FM_OK)
        *out = best.graph;
    else
        fm__graph_free(best.graph);
    return status;
}
