// SPDX-License-Identifier: MIT
// Replay with changes: a map from old values to new ones carries the graph over node by node.
#include "graph/passes.h"

#include <string.h>

#include "base/alloc.h"
#include "ops/op.h"

struct replay {
    const struct fm__graph *from;
    struct fm__graph *to;
    fm__val *map;        // old value -> new value
    int32_t *n_readers;  // of each old value; outputs count as one more
    unsigned char *skip; // old nodes that are not replayed by themselves
};

static void replay_end(struct replay *r)
{
    fm__free(r->map);
    fm__free(r->n_readers);
    fm__free(r->skip);
}

static bool replay_begin(struct replay *r, const struct fm__graph *g)
{
    *r = (struct replay){.from = g,
                         .to = fm__graph_new(),
                         .map = fm__malloc((size_t)g->n_values * sizeof(fm__val)),
                         .n_readers = fm__calloc((size_t)g->n_values, sizeof(int32_t)),
                         .skip = fm__calloc((size_t)g->n_nodes, 1)};
    if (!r->to || !r->map || !r->n_readers || !r->skip) {
        fm__graph_free(r->to);
        replay_end(r);
        return false;
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] != FM__NONE) r->n_readers[g->nodes[i].in[k]]++;
    for (int i = 0; i < g->n_outputs; i++) r->n_readers[g->outputs[i]]++;
    for (int i = 0; i < g->n_values; i++) {
        const struct fm__value *v = &g->values[i];
        r->map[i] = v->node >= 0 ? FM__NONE : fm__graph_leaf(r->to, v->kind, v->name, v->dtype, v->rank, v->dims);
    }
    return true;
}

// Adds old node `i` with the inputs and attributes given; its outputs map to the new node's.
static void emit(struct replay *r, int i, int n_in, const fm__val *in, const union fm__attrs *attrs)
{
    const struct fm__node *node = &r->from->nodes[i];
    fm__val first = fm__graph_add(r->to, node->op, n_in, in, attrs);
    if (first == FM__NONE) return;
    r->to->nodes[r->to->values[first].node].backward = node->backward;
    if (node->after != FM__NONE) fm__graph_after(r->to, first, r->map[node->after]);
    for (int k = 0; k < node->n_out; k++) r->map[node->out[k]] = fm__graph_out(r->to, first, k);
}

static void map_inputs(const struct replay *r, const struct fm__node *node, fm__val *in)
{
    for (int k = 0; k < node->n_in; k++) in[k] = node->in[k] == FM__NONE ? FM__NONE : r->map[node->in[k]];
}

static struct fm__graph *finish(struct replay *r)
{
    for (int i = 0; i < r->from->n_outputs; i++) {
        fm__val old = r->from->outputs[i];
        fm__graph_output(r->to, r->map[old], r->from->values[old].name);
    }
    if (r->to->status == FM_OK && r->from->status != FM_OK) fm__graph_fail(r->to, &r->from->error);
    replay_end(r);
    return r->to;
}

struct fm__graph *fm__pass_activations(const struct fm__graph *g, fm__choose_activation *choose, void *context)
{
    struct replay r;
    if (!replay_begin(&r, g)) return NULL;
    // casts[v]: the cast of old value v; a value is only ever wanted in one activation type besides f32
    fm__val *casts = fm__malloc((size_t)g->n_values * sizeof *casts);
    for (int i = 0; casts && i < g->n_values; i++) casts[i] = FM__NONE;
    for (int i = 0; casts && i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        fm__val in[FM__MAX_IN];
        map_inputs(&r, node, in);
        if (node->op == FM__OP_LINEAR && !node->attrs.linear.transpose_w && g->values[node->in[0]].dtype == FM_F32) {
            fm_dtype want = choose(context, &g->values[node->in[1]]);
            fm__val *cast = &casts[node->in[0]];
            union fm__attrs attrs = {.cast = {.dtype = want}};
            if (want != FM_F32 && (*cast == FM__NONE || r.to->values[*cast].dtype != want))
                *cast = fm__graph_add(r.to, FM__OP_CAST, 1, in, &attrs);
            if (want != FM_F32) in[0] = *cast;
        }
        emit(&r, i, node->n_in, in, &node->attrs);
    }
    struct fm__graph *to = finish(&r);
    if (!casts) {
        fm__graph_free(to);
        return NULL;
    }
    fm__free(casts);
    return to;
}

// How many of its first inputs a product takes as bf16.
static int n_bf16_rows(enum fm__op_id op)
{
    switch (op) {
    case FM__OP_LINEAR_DW:
        return 2;
    case FM__OP_LINEAR:
    case FM__OP_LINEAR_CROSS_ENTROPY:
    case FM__OP_LINEAR_CROSS_ENTROPY_GRAD:
    case FM__OP_LINEAR_CROSS_ENTROPY_DX:
        return 1;
    default:
        return 0;
    }
}

struct fm__graph *fm__pass_bf16(const struct fm__graph *g)
{
    struct replay r;
    if (!replay_begin(&r, g)) return NULL;
    const union fm__attrs bf16 = {.cast = {.dtype = FM_BF16}};
    fm__val *casts = fm__malloc((size_t)g->n_values * sizeof *casts); // of old values
    for (int i = 0; casts && i < g->n_values; i++) casts[i] = FM__NONE;
    for (int i = 0; casts && i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        fm__val in[FM__MAX_IN];
        map_inputs(&r, node, in);
        for (int k = 0; k < n_bf16_rows(node->op); k++) {
            fm__val *cast = &casts[node->in[k]];
            if (g->values[node->in[k]].dtype != FM_F32) continue;
            if (*cast == FM__NONE) *cast = fm__graph_add(r.to, FM__OP_CAST, 1, &in[k], &bf16);
            in[k] = *cast;
        }
        emit(&r, i, node->n_in, in, &node->attrs);
    }
    struct fm__graph *to = finish(&r);
    if (!casts) {
        fm__graph_free(to);
        return NULL;
    }
    fm__free(casts);
    return to;
}

// What decides the angles of a rope node: the attributes without those that only say where they are applied.
static union fm__attrs angle_attrs(const struct fm__node *rope)
{
    union fm__attrs attrs = rope->attrs;
    attrs.rope.head_dim = attrs.rope.neox = attrs.rope.backward = 0;
    return attrs;
}

static bool same_angles(const struct fm__attr_rope *a, const struct fm__attr_rope *b)
{
    return a->n_rot == b->n_rot && a->scaling == b->scaling && a->base == b->base && a->factor == b->factor &&
           a->attn_factor == b->attn_factor && a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow &&
           a->ext_factor == b->ext_factor && a->n_ctx_orig == b->n_ctx_orig;
}

// The angles of an earlier node of the new graph, or FM__NONE.
static fm__val find_angles(const struct fm__graph *g, const fm__val in[2], const union fm__attrs *attrs)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        if (node->op == FM__OP_ROPE_ANGLES && node->in[0] == in[0] && node->in[1] == in[1] &&
            same_angles(&node->attrs.rope, &attrs->rope))
            return node->out[0];
    }
    return FM__NONE;
}

struct fm__graph *fm__pass_share_angles(const struct fm__graph *g)
{
    struct replay r;
    if (!replay_begin(&r, g)) return NULL;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        fm__val in[FM__MAX_IN];
        for (int k = 0; k < FM__MAX_IN; k++) in[k] = FM__NONE;
        map_inputs(&r, node, in);
        int n_in = node->n_in;
        if (node->op == FM__OP_ROPE && in[3] == FM__NONE) {
            union fm__attrs attrs = angle_attrs(node);
            in[3] = find_angles(r.to, in + 1, &attrs);
            if (in[3] == FM__NONE)
                in[3] = fm__graph_add(r.to, FM__OP_ROPE_ANGLES, in[2] == FM__NONE ? 1 : 2, in + 1, &attrs);
            n_in = 4;
        }
        emit(&r, i, n_in, in, &node->attrs);
    }
    return finish(&r);
}

// The out_dtype of an op that can store its rows in an activation format; NULL for the others.
static int *out_dtype_of(enum fm__op_id op, union fm__attrs *attrs)
{
    switch (op) {
    case FM__OP_RMSNORM:
    case FM__OP_LAYERNORM:
        return &attrs->norm.out_dtype;
    case FM__OP_ACT:
    case FM__OP_ACT_MUL:
        return &attrs->act.out_dtype;
    case FM__OP_ATTENTION:
        return &attrs->attention.out_dtype;
    default:
        return NULL;
    }
}

static int32_t producer(const struct fm__graph *g, fm__val v)
{
    return v == FM__NONE ? -1 : g->values[v].node;
}

// Marks the linear that this add can take as its residual form; returns which input of the add it is, or -1.
static int linear_to_fold(const struct replay *r, const struct fm__node *add)
{
    const struct fm__graph *g = r->from;
    if (g->values[add->in[1]].rank != 2) return -1; // a bias-like addend is repeated over rows: no residual
    for (int k = 1; k >= 0; k--) {
        int32_t p = producer(g, add->in[k]);
        if (p < 0 || g->nodes[p].op != FM__OP_LINEAR || r->n_readers[add->in[k]] != 1) continue;
        if (g->nodes[p].n_in > 3 && g->nodes[p].in[3] != FM__NONE) continue;
        return k;
    }
    return -1;
}

// Whether node i, an accumulate, takes its linear_dw into itself.
static bool takes_product(const struct replay *r, const struct fm__node *node)
{
    const int32_t p = producer(r->from, node->in[1]);
    return node->op == FM__OP_ACCUMULATE && p >= 0 && r->from->nodes[p].op == FM__OP_LINEAR_DW &&
           r->n_readers[node->in[1]] == 1;
}

static void mark_fusions(struct replay *r)
{
    const struct fm__graph *g = r->from;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        if (node->op == FM__OP_CAST) {
            int32_t p = producer(g, node->in[0]);
            union fm__attrs probe;
            if (p >= 0 && r->n_readers[node->in[0]] == 1 && out_dtype_of(g->nodes[p].op, &probe)) r->skip[p] = 1;
        } else if (node->op == FM__OP_ADD) {
            int k = linear_to_fold(r, node);
            if (k >= 0) r->skip[producer(g, node->in[k])] = 1;
        } else if (takes_product(r, node)) {
            r->skip[producer(g, node->in[1])] = 1;
        }
    }
}

// A cast whose producer waits for it: the producer is emitted here with the cast's type.
static void emit_cast(struct replay *r, int i)
{
    const struct fm__node *cast = &r->from->nodes[i];
    int32_t p = producer(r->from, cast->in[0]);
    fm__val in[FM__MAX_IN];
    if (p < 0 || !r->skip[p]) {
        map_inputs(r, cast, in);
        emit(r, i, cast->n_in, in, &cast->attrs);
        return;
    }
    const struct fm__node *node = &r->from->nodes[p];
    union fm__attrs attrs = node->attrs;
    *out_dtype_of(node->op, &attrs) = cast->attrs.cast.dtype;
    map_inputs(r, node, in);
    emit(r, p, node->n_in, in, &attrs);
    r->map[cast->out[0]] = r->map[node->out[0]];
}

static void emit_add(struct replay *r, int i)
{
    const struct fm__node *add = &r->from->nodes[i];
    int k = linear_to_fold(r, add);
    fm__val in[FM__MAX_IN];
    if (k < 0) {
        map_inputs(r, add, in);
        emit(r, i, add->n_in, in, &add->attrs);
        return;
    }
    int32_t p = producer(r->from, add->in[k]);
    const struct fm__node *linear = &r->from->nodes[p];
    map_inputs(r, linear, in);
    if (linear->n_in < 3) in[2] = FM__NONE;
    in[3] = r->map[add->in[1 - k]];
    emit(r, p, 4, in, &linear->attrs);
    r->map[add->out[0]] = r->map[linear->out[0]];
}

static void emit_accumulate(struct replay *r, const struct fm__node *sum)
{
    const struct fm__node *product = &r->from->nodes[producer(r->from, sum->in[1])];
    const fm__val keep = sum->n_in > 2 && sum->in[2] != FM__NONE ? r->map[sum->in[2]] : FM__NONE;
    const fm__val in[] = {r->map[product->in[0]], r->map[product->in[1]], r->map[sum->in[0]], keep};
    const fm__val next = fm__graph_add(r->to, FM__OP_LINEAR_DW_ADD, 4, in, NULL);
    if (next != FM__NONE) r->to->nodes[r->to->values[next].node].backward = product->backward;
    r->map[sum->out[0]] = next;
}

struct fm__graph *fm__pass_fuse(const struct fm__graph *g)
{
    struct replay r;
    if (!replay_begin(&r, g)) return NULL;
    mark_fusions(&r);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct fm__node *node = &g->nodes[i];
        if (r.skip[i]) continue;
        if (node->op == FM__OP_CAST) {
            emit_cast(&r, i);
        } else if (node->op == FM__OP_ADD) {
            emit_add(&r, i);
        } else if (takes_product(&r, node)) {
            emit_accumulate(&r, node);
        } else {
            fm__val in[FM__MAX_IN];
            map_inputs(&r, node, in);
            emit(&r, i, node->n_in, in, &node->attrs);
        }
    }
    return finish(&r);
}

struct fm__graph *fm__pass_drop_dead(const struct fm__graph *g)
{
    struct replay r;
    if (!replay_begin(&r, g)) return NULL;
    // backwards: a node without a reader takes its own reads away; state writers stay, their effect is the point
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct fm__node *node = &g->nodes[i];
        bool read = fm__op(node->op)->alias[0] != 0;
        for (int k = 0; k < node->n_out; k++) read |= r.n_readers[node->out[k]] > 0;
        if (read) continue;
        r.skip[i] = 1;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE) r.n_readers[node->in[k]]--;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        if (r.skip[i]) continue;
        fm__val in[FM__MAX_IN];
        map_inputs(&r, &g->nodes[i], in);
        emit(&r, i, g->nodes[i].n_in, in, &g->nodes[i].attrs);
    }
    return finish(&r);
}
