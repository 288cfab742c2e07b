// SPDX-License-Identifier: MIT
// Costs by op: linear, attention, embed and kv_write have their own rule; every other op works an element at a time.
#include "eval/cost.h"

#include "ops/kv_format.h"
#include "ops/op.h"

static double tensor_bytes(const struct fm_tensor *t)
{
    return t->dtype == FM_DTYPE_COUNT ? 0 : (double)fm_tensor_bytes(t);
}

// Keys that the rows see, summed over them.
static double visible(int64_t rows, int64_t depth, int64_t window)
{
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) {
        int64_t keys = depth + r + 1;
        sum += (double)(window && keys > window ? window : keys);
    }
    return sum;
}

static void attention(const struct fm__node *node, const struct fm__call *call, int64_t rows, int64_t depth,
                      struct fm__cost *cost)
{
    const struct fm__attr_attention *a = &node->attrs.attention;
    int64_t keys = depth + rows; // the first row's window begins where the others' do or before
    if (a->window && keys > a->window + rows - 1) keys = a->window + rows - 1;
    double page = (double)fm__kv_page_bytes(a->kv_format, a->n_kv, a->head_k, a->head_v) / FM__KV_BLOCK;
    double heads = (double)fm_tensor_elements(&call->in[0]) / (double)call->in[0].dims[0] / a->head_k; // [N, H*E]
    cost->operations = visible(rows, depth, a->window) * heads * 2 * (a->head_k + a->head_v);
    cost->cache_bytes = (double)keys * page;
    cost->kind = a->kv_format == FM__KV_INT8  ? FM__MACHINE_INT8
                 : a->kv_format == FM__KV_F32 ? FM__MACHINE_F32
                                              : FM__MACHINE_BF16;
}

static bool is_weight(const struct fm__plan *plan, const struct fm__node *node, int k)
{
    return node->in[k] != FM__NONE && plan->graph->values[node->in[k]].kind == FM__WEIGHT;
}

static bool is_state(const struct fm__plan *plan, fm__val v)
{
    for (; v != FM__NONE; v = plan->graph->values[v].alias_of)
        if (plan->graph->values[v].kind == FM__STATE) return true;
    return false;
}

static void add_bytes(const struct fm__plan *plan, const struct fm__node *node, const struct fm__call *call,
                      double share, struct fm__cost *cost)
{
    for (int k = 0; k < node->n_in; k++) {
        if (node->in[k] == FM__NONE || is_state(plan, node->in[k])) continue;
        if (!is_weight(plan, node, k)) {
            cost->other_bytes += share * tensor_bytes(&call->in[k]);
        } else if (node->op != FM__OP_EMBED) {
            cost->weight_bytes += (double)fm__device_weight_bytes(plan->device, &call->in[k]);
        }
    }
    for (int k = 0; k < node->n_out; k++)
        if (!is_state(plan, node->out[k])) cost->other_bytes += share * tensor_bytes(&call->out[k]);
}

struct fm__cost fm__cost_of(const struct fm__plan *plan, int i, int64_t rows, int64_t depth)
{
    const struct fm__node *node = fm__plan_node(plan, i);
    struct fm__call call;
    struct fm__cost cost = {.kind = FM__MACHINE_F32};
    fm__plan_call(plan, i, &call);
    double share = (double)rows / (double)plan->opts.rows; // calls have the bucket's rows
    add_bytes(plan, node, &call, share, &cost);
    if (node->op == FM__OP_LINEAR) {
        int weight = is_weight(plan, node, 1) ? 1 : 0;
        const struct fm_tensor *w = &call.in[weight];
        cost.operations = 2.0 * (double)rows * (double)fm_tensor_elements(w);
        const fm_dtype act = call.in[1 - weight].dtype;
        if (act == FM_Q8A || act == FM_Q8R)
            cost.kind = FM__MACHINE_INT8;
        else if (w->dtype != FM_F32)
            cost.kind = FM__MACHINE_BF16;
    } else if (node->op == FM__OP_ATTENTION) {
        attention(node, &call, rows, depth, &cost);
    } else if (node->op == FM__OP_EMBED && node->n_in > 0 && is_weight(plan, node, 0)) {
        cost.other_bytes += (double)rows * (double)fm_dtype_row_bytes(call.in[0].dtype, call.in[0].dims[1]);
    } else if (node->op == FM__OP_ADAPT) {
        cost.operations = share * fm__op(node->op)->flops(&call);
    } else if (node->n_out > 0 && !is_state(plan, node->out[0])) {
        cost.operations = share * (double)fm_tensor_elements(&call.out[0]);
    }
    return cost;
}

double fm__cost_bound(const struct fm__cost *cost, const struct fm__machine *machine)
{
    // bf16 that is slower than f32 (some CPUs) is no limit: f32 would be used
    double peak = machine->peak[cost->kind];
    if (machine->peak[FM__MACHINE_F32] > peak) peak = machine->peak[FM__MACHINE_F32];
    double products = peak > 0 ? cost->operations / (peak * 1e9) : 0;
    double bytes = machine->stream > 0 ? (cost->weight_bytes + cost->cache_bytes) / (machine->stream * 1e9) : 0;
    return products > bytes ? products : bytes;
}
