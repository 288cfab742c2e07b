// SPDX-License-Identifier: MIT
#include "device/calls.h"

#include "base/alloc.h"
#include "base/error.h"
#include "tensor/buffer.h"

static void bind_tensor(struct fm__calls *c, const struct fm__plan *plan, fm__val v, struct fm_tensor *t)
{
    const struct fm__value *value = &plan->graph->values[v];
    if (t->buffer) t->data = (char *)t->buffer->device + t->offset;
    if (plan->values[v].place == FM__PLACE_INPUT && !t->buffer)
        c->inputs[c->n_inputs++] = (struct fm__input_slot){.data = &t->data, .input = plan->values[v].input};
    for (int d = 0; d < value->rank; d++)
        if (value->dims[d] == FM__ROWS) c->row_dims[c->n_row_dims++] = &t->dims[d];
}

fm_status fm__calls_init(struct fm__calls *c, const struct fm__plan *plan, struct fm_error *err)
{
    size_t n = (size_t)plan->n_steps, operands = n * (FM__MAX_IN + FM__MAX_OUT);
    *c = (struct fm__calls){.n = plan->n_steps};
    c->calls = fm__calloc(n, sizeof *c->calls);
    c->counters = fm__calloc(n, sizeof *c->counters);
    c->row_dims = fm__calloc(operands * FM_MAX_RANK + n, sizeof *c->row_dims);
    c->inputs = fm__calloc(operands, sizeof *c->inputs);
    if (!c->calls || !c->counters || !c->row_dims || !c->inputs) {
        fm__calls_deinit(c);
        return fm__fail_nomem(err, "plan calls", operands * sizeof *c->row_dims);
    }
    for (int i = 0; i < c->n; i++) {
        struct fm__call *call = &c->calls[i];
        const struct fm__node *node = fm__plan_node(plan, i);
        fm__plan_call(plan, i, call);
        call->next = &c->counters[i];
        c->row_dims[c->n_row_dims++] = &call->rows;
        if (call->workspace_bytes) call->workspace = (char *)plan->arena->device + plan->steps[i].workspace_offset;
        for (int k = 0; k < node->n_in; k++)
            if (node->in[k] != FM__NONE) bind_tensor(c, plan, node->in[k], &call->in[k]);
        for (int k = 0; k < node->n_out; k++) bind_tensor(c, plan, node->out[k], &call->out[k]);
    }
    return FM_OK;
}

void fm__calls_deinit(struct fm__calls *c)
{
    fm__free(c->calls);
    fm__free(c->counters);
    fm__free(c->row_dims);
    fm__free(c->inputs);
    *c = (struct fm__calls){0};
}

void fm__calls_set(struct fm__calls *c, const struct fm__run *run)
{
    for (int i = 0; i < c->n_row_dims; i++) *c->row_dims[i] = run->rows;
    if (run->inputs)
        for (int i = 0; i < c->n_inputs; i++) *c->inputs[i].data = (void *)(uintptr_t)run->inputs[c->inputs[i].input];
    for (int i = 0; i < c->n; i++) atomic_store_explicit(&c->counters[i], 0, memory_order_relaxed);
}
