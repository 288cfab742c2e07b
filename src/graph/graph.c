// SPDX-License-Identifier: MIT
// Building graphs: growth, shape rules, the sticky error.
#include "graph/graph.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "ops/op.h"

struct fm__graph *fm__graph_new(void)
{
    return fm__calloc(1, sizeof(struct fm__graph));
}

void fm__graph_free(struct fm__graph *g)
{
    if (!g) return;
    fm__arena_deinit(&g->names);
    fm__free(g->values);
    fm__free(g->nodes);
    fm__free(g->outputs);
    fm__free(g);
}

fm_status fm__graph_check(const struct fm__graph *g, struct fm_error *err)
{
    if (g->status != FM_OK && err) *err = g->error;
    return g->status;
}

fm_status fm__graph_fail(struct fm__graph *g, const struct fm_error *err)
{
    if (g->status == FM_OK) {
        g->error = *err;
        g->status = err->code;
    }
    return g->status;
}

// Makes room for one more element in *array; false: no memory, and the graph has failed.
static bool grow(struct fm__graph *g, void **array, int n, int *cap, size_t element)
{
    if (n < *cap) return true;
    int wanted = *cap ? *cap * 2 : 64;
    void *bigger = fm__realloc(*array, (size_t)wanted * element);
    if (!bigger) {
        struct fm_error err;
        fm__fail_nomem(&err, "graph", (size_t)wanted * element);
        fm__graph_fail(g, &err);
        return false;
    }
    *array = bigger;
    *cap = wanted;
    return true;
}

static fm__val add_value(struct fm__graph *g, const struct fm__value *value)
{
    if (!grow(g, (void **)&g->values, g->n_values, &g->cap_values, sizeof *g->values)) return FM__NONE;
    struct fm__value *v = &g->values[g->n_values];
    *v = *value;
    v->name = fm__arena_strndup(&g->names, value->name, strlen(value->name));
    if (!v->name) {
        struct fm_error err;
        fm__fail_nomem(&err, "graph: name", strlen(value->name));
        fm__graph_fail(g, &err);
        return FM__NONE;
    }
    return g->n_values++;
}

fm__val fm__graph_leaf(struct fm__graph *g, enum fm__kind kind, const char *name, fm_dtype dtype, int rank,
                       const int64_t *dims)
{
    if (g->status != FM_OK) return FM__NONE;
    struct fm__value v = {.name = name, .kind = kind, .dtype = dtype, .rank = rank, .node = -1, .alias_of = FM__NONE};
    for (int i = 0; i < rank; i++) v.dims[i] = dims[i];
    return add_value(g, &v);
}

static fm_status check_inputs(struct fm__graph *g, const struct fm__op *op, int n_in, const fm__val *in,
                              struct fm__shape *s)
{
    if (n_in < op->min_in || n_in > op->max_in)
        return fm__fail(s->err, FM_E_ARG, "%s: %d inputs, want %d to %d", op->name, n_in, op->min_in, op->max_in);
    for (int i = 0; i < n_in; i++) {
        if (in[i] == FM__NONE && i >= op->min_in) continue;
        if (in[i] < 0 || in[i] >= g->n_values)
            return fm__fail(s->err, FM_E_ARG, "%s: input %d is value %d, want 0 to %d", op->name, i, in[i],
                            g->n_values - 1);
        if (g->values[in[i]].replaced)
            return fm__fail(s->err, FM_E_ARG, "%s: input %d reads an old version of %s, want the newest", op->name, i,
                            g->values[in[i]].name);
        s->in[i] = &g->values[in[i]];
    }
    return FM_OK;
}

static fm__val add_node(struct fm__graph *g, enum fm__op_id id, const struct fm__shape *s, const fm__val *in,
                        const union fm__attrs *attrs)
{
    const struct fm__op *op = fm__op(id);
    if (!grow(g, (void **)&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes)) return FM__NONE;
    struct fm__node node = {.op = id, .n_in = s->n_in, .n_out = op->n_out, .after = FM__NONE};
    if (attrs) node.attrs = *attrs;
    for (int i = 0; i < FM__MAX_IN; i++) node.in[i] = i < s->n_in ? in[i] : FM__NONE;
    for (int i = 0; i < op->n_out; i++) {
        struct fm__value v = {.name = op->name,
                              .kind = FM__TEMP,
                              .dtype = s->out[i].dtype,
                              .rank = s->out[i].rank,
                              .node = g->n_nodes,
                              .alias_of = FM__NONE};
        memcpy(v.dims, s->out[i].dims, sizeof v.dims);
        if (op->alias[i]) {
            fm__val old = in[op->alias[i] - 1];
            g->values[old].replaced = true;
            v.name = g->values[old].name;
            v.kind = g->values[old].kind;
            v.alias_of = old;
        }
        node.out[i] = add_value(g, &v);
        if (node.out[i] == FM__NONE) return FM__NONE;
    }
    g->nodes[g->n_nodes++] = node;
    return node.out[0];
}

fm__val fm__graph_add(struct fm__graph *g, enum fm__op_id id, int n_in, const fm__val *in, const union fm__attrs *attrs)
{
    if (g->status != FM_OK) return FM__NONE;
    static const union fm__attrs none;
    const struct fm__op *op = fm__op(id);
    struct fm_error err;
    struct fm__shape s = {.op = op->name, .n_in = n_in, .attrs = attrs ? attrs : &none, .err = &err};
    fm_status status = check_inputs(g, op, n_in, in, &s);
    if (status == FM_OK) status = op->shape(&s);
    if (status != FM_OK) {
        fm__graph_fail(g, &err);
        return FM__NONE;
    }
    return add_node(g, id, &s, in, attrs);
}

fm__val fm__graph_out(const struct fm__graph *g, fm__val first, int i)
{
    return first == FM__NONE ? FM__NONE : g->nodes[g->values[first].node].out[i];
}

void fm__graph_after(struct fm__graph *g, fm__val v, fm__val other)
{
    if (v == FM__NONE || other == FM__NONE) return;
    struct fm__node *node = &g->nodes[g->values[v].node];
    if (other < node->out[0]) {
        node->after = other;
        return;
    }
    struct fm_error err;
    fm__fail(&err, FM_E_ARG, "%s: waits for value %d, want an earlier one than %d", g->values[v].name, other,
             node->out[0]);
    fm__graph_fail(g, &err);
}

void fm__graph_output(struct fm__graph *g, fm__val v, const char *name)
{
    if (g->status != FM_OK || v == FM__NONE) return;
    if (!grow(g, (void **)&g->outputs, g->n_outputs, &g->cap_outputs, sizeof *g->outputs)) return;
    const char *copy = fm__arena_strndup(&g->names, name, strlen(name));
    if (copy) g->values[v].name = copy;
    g->outputs[g->n_outputs++] = v;
}

void fm__graph_print_value(const struct fm__graph *g, fm__val v, FILE *to)
{
    const struct fm__value *value = &g->values[v];
    fprintf(to, "%s[", fm_dtype_info(value->dtype)->name);
    for (int i = 0; i < value->rank; i++) {
        if (i) fputc(',', to);
        if (value->dims[i] == FM__ROWS)
            fputc('N', to);
        else
            fprintf(to, "%lld", (long long)value->dims[i]);
    }
    fputc(']', to);
}

static void dump_node(const struct fm__graph *g, const struct fm__node *node, FILE *to)
{
    const struct fm__op *op = fm__op(node->op);
    for (int i = 0; i < node->n_out; i++) {
        fprintf(to, "%s%%%d ", i ? ", " : "", node->out[i]);
        fm__graph_print_value(g, node->out[i], to);
    }
    fprintf(to, " = %s(", op->name);
    for (int i = 0; i < node->n_in; i++) {
        if (i) fputs(", ", to);
        if (node->in[i] == FM__NONE)
            fputc('-', to);
        else
            fprintf(to, "%%%d", node->in[i]);
    }
    fputc(')', to);
    if (op->print) op->print(&node->attrs, to);
    if (node->after != FM__NONE) fprintf(to, " after=%%%d", node->after);
    fputc('\n', to);
}

void fm__graph_dump(const struct fm__graph *g, FILE *to)
{
    static const char *const kinds[] = {"input", "weight", "state", "temp"};
    for (int i = 0; i < g->n_values; i++) {
        if (g->values[i].node >= 0) continue;
        fprintf(to, "%%%d ", i);
        fm__graph_print_value(g, i, to);
        fprintf(to, " = %s \"%s\"\n", kinds[g->values[i].kind], g->values[i].name);
    }
    for (int i = 0; i < g->n_nodes; i++) dump_node(g, &g->nodes[i], to);
    for (int i = 0; i < g->n_outputs; i++)
        fprintf(to, "output \"%s\" = %%%d\n", g->values[g->outputs[i]].name, g->outputs[i]);
}
