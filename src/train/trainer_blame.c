// SPDX-License-Identifier: MIT
// Where a number that is none came from: parameters first, then the nodes of a step. The step is run again with some
// values kept, 32 at a time, first far apart and then between the last good and the first bad one: what is not finite
// stays so on the way to the loss, so a few runs are enough.
#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "device/plan.h"
#include "ops/op.h"
#include "train/trainer_graph.h"
#include "train/trainer_internal.h"

enum { KEPT = 32 };

static bool all_finite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

// The first parameter that is not finite, or -1.
static int bad_param(struct fm__trainer *t)
{
    struct fm_error err;
    for (int i = 0; i < t->n_params; i++) {
        const struct fm__state *s = &t->states.items[i];
        float *x = fm__malloc(fm_tensor_bytes(&s->tensor));
        const bool bad =
            x && fm__states_read(&t->states, s, x, &err) == FM_OK && !all_finite(x, fm_tensor_elements(&s->tensor));
        fm__free(x);
        if (bad) return i;
    }
    return -1;
}

static bool worth_keeping(const struct fm__graph *g, int node)
{
    const fm__val v = g->nodes[node].out[0];
    return g->values[v].dtype == FM_F32 && g->values[v].alias_of == FM__NONE;
}

// Runs the step with the nodes first, first + step, … kept, KEPT of them at most; returns the first that is not
// finite, or -1.
static int first_bad(struct fm__trainer *t, const struct fm__microbatch *m, int first, int step, char *what,
                     size_t size)
{
    struct fm_error err;
    struct fm__plan *plan = NULL;
    int nodes[KEPT], n = 0, bad = -1;
    struct fm__graph *g = fm__trainer_graph(&t->opts, true);
    if (!g) return -1;
    const int first_output = g->n_outputs;
    for (int i = first; i < g->n_nodes && n < KEPT; i += step) {
        while (i < g->n_nodes && !worth_keeping(g, i)) i++;
        if (i >= g->n_nodes) break;
        nodes[n++] = i;
        fm__graph_output(g, g->nodes[i].out[0], g->values[g->nodes[i].out[0]].name);
    }
    const struct fm__plan_opts opts = {.device = t->states.device,
                                       .rows = t->opts.n_rows,
                                       .bind = fm__states_bind,
                                       .bind_context = &t->states,
                                       .exact_activations = 1,
                                       .no_fusion = 1};
    const struct fm__trainer_inputs in = fm__trainer_inputs(t, m, 0);
    const void *inputs[] = {m->tokens, m->rows, in.key, in.targets, m->weights, &in.keep};
    if (fm__plan_new(g, &opts, &plan, &err) == FM_OK && fm__plan_run(plan, m->n_rows, inputs, &err) == FM_OK)
        for (int i = 0; i < n && bad < 0; i++) {
            const struct fm__node *node = &g->nodes[nodes[i]];
            const struct fm__value *v = &g->values[node->out[0]];
            int64_t elements = 1;
            for (int d = 0; d < v->rank; d++) elements *= v->dims[d] == FM__ROWS ? m->n_rows : v->dims[d];
            if (all_finite(fm__plan_output(plan, first_output + i), elements)) continue;
            bad = nodes[i];
            const fm__val from = node->n_in > 1 && node->in[1] != FM__NONE ? node->in[1] : node->in[0];
            snprintf(what, size, "%s (node %d, of %s)", fm__op(node->op)->name, bad, g->values[from].name);
        }
    fm__plan_free(plan);
    fm__graph_free(g);
    return bad;
}

void fm__trainer_blame(struct fm__trainer *t, const struct fm__microbatch *micro, char *out, size_t size)
{
    out[0] = 0;
    const int param = bad_param(t);
    if (param >= 0) {
        snprintf(out, size, "the parameter %s", t->states.items[param].name);
        return;
    }
    struct fm__graph *g = fm__trainer_graph(&t->opts, true);
    if (!g) return;
    int step = (g->n_nodes + KEPT - 1) / KEPT, first = step - 1;
    fm__graph_free(g);
    for (;;) {
        const int bad = first_bad(t, micro, first, step, out, size);
        if (bad < 0 || step == 1) return;
        first = bad >= step ? bad - step + 1 : 0;
        step = (step + KEPT - 1) / KEPT;
    }
}
