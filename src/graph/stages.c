// SPDX-License-Identifier: MIT
#include "graph/stages.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/error.h"
#include "ops/op.h"

size_t fm__value_bytes(const struct fm__value *v, int64_t rows)
{
    struct fm_tensor t = {.dtype = v->dtype, .rank = v->rank};
    for (int d = 0; d < t.rank; d++) t.dims[d] = v->dims[d] == FM__ROWS ? rows : v->dims[d];
    fm_tensor_set_contiguous(&t);
    return fm_tensor_bytes(&t);
}

bool fm__graph_trains(const struct fm__graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].backward) return true;
    return false;
}

static int32_t as_early_as_possible(const struct fm__graph *g, int32_t *ready, int32_t *read_until, int32_t *stage_of)
{
    int32_t n_stages = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        const struct fm__op *op = fm__op(node->op);
        int32_t stage = 0;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE && ready[node->in[k]] > stage) stage = ready[node->in[k]];
        if (node->after != FM__NONE && ready[node->after] > stage) stage = ready[node->after];
        for (int k = 0; k < node->n_out; k++)
            if (op->alias[k] && read_until[node->in[op->alias[k] - 1]] > stage)
                stage = read_until[node->in[op->alias[k] - 1]];
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE && read_until[node->in[k]] < stage + 1) read_until[node->in[k]] = stage + 1;
        for (int k = 0; k < node->n_out; k++) ready[node->out[k]] = stage + 1;
        stage_of[i] = stage;
        if (stage + 1 > n_stages) n_stages = stage + 1;
    }
    return n_stages;
}

// Who reads or waits for value v: nodes list[first[v]] … list[first[v + 1] - 1].
struct readers {
    int32_t *first, *list;
};

static bool find_readers(const struct fm__graph *g, struct readers *r)
{
    r->first = fm__calloc((size_t)g->n_values + 2, sizeof *r->first);
    r->list = fm__calloc((size_t)g->n_nodes * (FM__MAX_IN + 1) + 1, sizeof *r->list);
    if (!r->first || !r->list) return false;
    for (int pass = 0; pass < 2; pass++) { // counts at v + 2, sums, then first[v + 1] walks from v's start to its end
        for (int i = 0; i < g->n_nodes; i++)
            for (int k = 0; k <= g->nodes[i].n_in; k++) {
                const fm__val v = k < g->nodes[i].n_in ? g->nodes[i].in[k] : g->nodes[i].after;
                if (v == FM__NONE) continue;
                if (pass == 0)
                    r->first[v + 2]++;
                else
                    r->list[r->first[v + 1]++] = i;
            }
        for (int v = 0; pass == 0 && v < g->n_values; v++) r->first[v + 2] += r->first[v + 1];
    }
    return true;
}

// The last stage in which node i may run, given where its readers stand; -1: nobody reads it.
static int32_t latest(const struct fm__graph *g, const struct readers *r, const int32_t *stage_of, int i)
{
    const struct fm__node *node = &g->nodes[i];
    int32_t stage = INT32_MAX;
    for (int k = 0; k < node->n_out; k++)
        for (int32_t j = r->first[node->out[k]]; j < r->first[node->out[k] + 1]; j++)
            if (stage_of[r->list[j]] - 1 < stage) stage = stage_of[r->list[j]] - 1;
    if (stage == INT32_MAX) return -1;
    for (int k = 0; k < node->n_in; k++) { // before whoever replaces a state that it reads
        if (node->in[k] == FM__NONE || !g->values[node->in[k]].replaced) continue;
        for (int32_t j = r->first[node->in[k]]; j < r->first[node->in[k] + 1]; j++) {
            const struct fm__node *writer = &g->nodes[r->list[j]];
            for (int o = 0; o < writer->n_out && r->list[j] != i; o++)
                if (fm__op(writer->op)->alias[o] && writer->in[fm__op(writer->op)->alias[o] - 1] == node->in[k] &&
                    stage_of[r->list[j]] - 1 < stage)
                    stage = stage_of[r->list[j]] - 1;
        }
    }
    return stage;
}

// Bytes times stages that moving node i to `stage` frees: its outputs come later, its inputs may die later.
static double gain(const struct fm__graph *g, const struct readers *r, const int32_t *stage_of, int i, int32_t stage,
                   int64_t rows)
{
    const struct fm__node *node = &g->nodes[i];
    double bytes = 0;
    for (int k = 0; k < node->n_out; k++)
        if (g->values[node->out[k]].kind == FM__TEMP)
            bytes += (double)fm__value_bytes(&g->values[node->out[k]], rows) * (stage - stage_of[i]);
    for (int k = 0; k < node->n_in; k++) {
        const fm__val v = node->in[k];
        if (v == FM__NONE || g->values[v].kind != FM__TEMP) continue;
        int32_t last = stage_of[i];
        for (int32_t j = r->first[v]; j < r->first[v + 1]; j++)
            if (r->list[j] != i && stage_of[r->list[j]] > last) last = stage_of[r->list[j]];
        if (last < stage) bytes -= (double)fm__value_bytes(&g->values[v], rows) * (stage - last);
    }
    return bytes;
}

// From the end, so that a node sees where its readers ended up.
static bool move_later(const struct fm__graph *g, int64_t rows, int32_t *stage_of)
{
    struct readers r = {0};
    const bool found = find_readers(g, &r);
    unsigned char *output = found ? fm__calloc((size_t)g->n_values + 1, 1) : NULL;
    for (int i = 0; output && i < g->n_outputs; i++) output[g->outputs[i]] = 1;
    for (int i = g->n_nodes - 1; output && i >= 0; i--) {
        const int32_t stage = latest(g, &r, stage_of, i);
        bool fixed = false; // an output is alive to the end: nothing to gain; a state's turn is not ours to move
        for (int k = 0; k < g->nodes[i].n_out; k++)
            fixed |= output[g->nodes[i].out[k]] || fm__op(g->nodes[i].op)->alias[k];
        if (stage > stage_of[i] && !fixed && gain(g, &r, stage_of, i, stage, rows) > 0) stage_of[i] = stage;
    }
    fm__free(r.first);
    fm__free(r.list);
    fm__free(output);
    return output != NULL;
}

fm_status fm__stages(const struct fm__graph *g, int64_t rows, int32_t *stage_of, int32_t *n_stages,
                     struct fm_error *err)
{
    int32_t *ready = fm__calloc((size_t)g->n_values * 2 + 1, sizeof *ready); // first stage that may read the value
    if (!ready) return fm__fail_nomem(err, "plan stages", (size_t)g->n_values * 2 * sizeof *ready);
    *n_stages = as_early_as_possible(g, ready, ready + g->n_values, stage_of); // … first stage after its last reader
    fm__free(ready);
    if (fm__graph_trains(g) && !move_later(g, rows, stage_of)) return fm__fail_nomem(err, "plan stages", 0);
    return FM_OK;
}
