// SPDX-License-Identifier: MIT
// Reverse accumulation: nodes backwards, each op's rule appending to the same graph.
#include "graph/gradient.h"

#include "base/alloc.h"
#include "base/error.h"
#include "ops/op.h"

bool fm__grad_needs(const struct fm__grad *grad, fm__val v)
{
    return v != FM__NONE && grad->needed[v];
}

void fm__grad_add(struct fm__grad *grad, fm__val v, fm__val d)
{
    if (!fm__grad_needs(grad, v) || d == FM__NONE) return;
    fm__val *sum = &grad->sums[v];
    *sum = *sum == FM__NONE ? d : fm__graph_add(grad->g, FM__OP_ADD, 2, (fm__val[]){*sum, d}, NULL);
}

static void mark_needed(const struct fm__graph *g, int n, const fm__val *of, unsigned char *needed)
{
    for (int i = 0; i < n; i++) needed[of[i]] = 1;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        int reads = 0;
        for (int k = 0; k < node->n_in; k++) reads |= node->in[k] != FM__NONE && needed[node->in[k]];
        for (int k = 0; reads && k < node->n_out; k++) needed[node->out[k]] = 1;
    }
}

static fm_status back_through(struct fm__grad *grad, int i, struct fm_error *err)
{
    const struct fm__node node = grad->g->nodes[i]; // a copy: the array grows
    const struct fm__op *op = fm__op(node.op);
    fm__val d_out[FM__MAX_OUT];
    bool reached = false, wanted = false;
    for (int k = 0; k < node.n_out; k++) {
        d_out[k] = grad->sums[node.out[k]];
        reached |= d_out[k] != FM__NONE;
    }
    for (int k = 0; k < node.n_in; k++) wanted |= fm__grad_needs(grad, node.in[k]);
    if (!reached || !wanted) return FM_OK;
    if (!op->gradient) return fm__fail(err, FM_E_UNSUPPORTED, "%s: has no gradient", op->name);
    return op->gradient(grad, &node, d_out);
}

static fm_status differentiate(struct fm__grad *grad, fm__val y, int n, const fm__val *of, struct fm_error *err)
{
    struct fm__graph *g = grad->g;
    const int n_values = g->n_values, n_nodes = g->n_nodes;
    grad->sums = fm__malloc((size_t)n_values * sizeof *grad->sums);
    grad->needed = fm__calloc((size_t)n_values, 1);
    if (!grad->sums || !grad->needed) return fm__fail_nomem(err, "gradient", (size_t)n_values * sizeof *grad->sums);
    for (int i = 0; i < n_values; i++) grad->sums[i] = FM__NONE;
    for (int i = 0; i < n; i++)
        if (g->values[of[i]].dtype != FM_F32)
            return fm__fail(err, FM_E_SHAPE, "gradient: %s is %s, want f32", g->values[of[i]].name,
                            fm_dtype_info(g->values[of[i]].dtype)->name);
    mark_needed(g, n, of, grad->needed);
    const union fm__attrs one = {.scale = {.factor = 0, .bias = 1}};
    if (grad->needed[y]) grad->sums[y] = fm__graph_add(g, FM__OP_SCALE, 1, &y, &one);
    for (int i = n_nodes - 1; i >= 0 && g->status == FM_OK; i--) FM_TRY(back_through(grad, i, err));
    return FM_OK;
}

void fm__graph_gradient(struct fm__graph *g, fm__val y, int n, const fm__val *of, fm__val *out)
{
    struct fm_error err;
    struct fm__grad grad = {.g = g};
    const int n_nodes = g->n_nodes;
    for (int i = 0; i < n; i++) out[i] = FM__NONE;
    if (g->status == FM_OK && differentiate(&grad, y, n, of, &err) != FM_OK) fm__graph_fail(g, &err);
    for (int i = n_nodes; i < g->n_nodes; i++) g->nodes[i].backward = true;
    for (int i = 0; i < n && g->status == FM_OK; i++) out[i] = grad.sums[of[i]];
    fm__free(grad.sums);
    fm__free(grad.needed);
}

static bool same_dims(const struct fm__value *a, const struct fm__value *b)
{
    if (a->rank != b->rank) return false;
    for (int d = 0; d < a->rank; d++)
        if (a->dims[d] != b->dims[d]) return false;
    return true;
}

fm__val fm__graph_accumulate(struct fm__graph *g, fm__val acc, fm__val d, fm__val keep)
{
    if (g->status != FM_OK || acc == FM__NONE || d == FM__NONE) return FM__NONE;
    const struct fm__node *node = g->values[d].node < 0 ? NULL : &g->nodes[g->values[d].node];
    if (node && node->op == FM__OP_ADD && same_dims(&g->values[node->in[0]], &g->values[node->in[1]])) {
        const fm__val first = node->in[0], second = node->in[1]; // the array of nodes grows
        return fm__graph_accumulate(g, fm__graph_accumulate(g, acc, first, keep), second, FM__NONE);
    }
    if (node && node->op == FM__OP_SCATTER_ROWS)
        return fm__graph_add(g, FM__OP_SCATTER_ADD, 4, (fm__val[]){acc, node->in[1], node->in[2], keep}, NULL);
    return fm__graph_add(g, FM__OP_ACCUMULATE, 3, (fm__val[]){acc, d, keep}, NULL);
}
