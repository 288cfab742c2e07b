// SPDX-License-Identifier: MIT
// Plans of a training step over one set of states.
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"
#include "tensor/blocks.h"
#include "train/exchange.h"
#include "train/trainer_graph.h"
#include "train/trainer_internal.h"

static uint64_t hash_name(const char *name) // FNV-1a
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

// Values of the file's tensor as f32.
static fm_status read_weight(const struct fm_gguf *gguf, const struct fm_gguf_tensor *t, float *to,
                             struct fm_error *err)
{
    const fm_dtype dtype = t->view.dtype;
    const int64_t row = t->view.dims[t->view.rank - 1], n_rows = fm_tensor_elements(&t->view) / row;
    const size_t bytes = fm_dtype_row_bytes(dtype, row);
    void *piece = fm__malloc(bytes);
    if (!piece) return fm__fail_nomem(err, "weight row", bytes);
    fm_status status = FM_OK;
    for (int64_t r = 0; status == FM_OK && r < n_rows; r++) {
        status = fm_gguf_read(gguf, t, (size_t)r * bytes, piece, bytes, err);
        if (status == FM_OK && !fm__dequantise_row(dtype, piece, row, to + r * row))
            status = fm__fail(err, FM_E_UNSUPPORTED, "%s: %s cannot be trained", t->name.p, fm_dtype_info(dtype)->name);
    }
    fm__free(piece);
    return status;
}

// First values: the file's; A uniform and B zero, so that a detour begins as nothing (arXiv 2106.09685, 4.1, with the
// bound of its reference, 1 / sqrt(K)); a head's weights normal with deviation 0.02, its bias zero.
static fm_status first_values(const struct fm__trainer_opts *opts, const struct fm__state *s, float *x,
                              struct fm_error *err)
{
    const struct fm_gguf *gguf = fm_model_gguf(opts->model);
    const struct fm_gguf_tensor *t = fm_gguf_find_tensor(gguf, s->name);
    if (t) return read_weight(gguf, t, x, err);
    const int64_t n = fm_tensor_elements(&s->tensor), columns = s->tensor.dims[s->tensor.rank - 1];
    struct fm__rng rng = fm__rng_new(opts->seed, hash_name(s->name));
    memset(x, 0, (size_t)n * sizeof *x);
    if (ends_with(s->name, ".lora_a"))
        for (int64_t i = 0; i < n; i++) x[i] = (float)((2 * fm__rng_uniform(&rng) - 1) / sqrt((double)columns));
    else if (!strcmp(s->name, "cls.output.weight"))
        for (int64_t i = 0; i < n; i++) x[i] = (float)(0.02 * fm__rng_normal(&rng));
    return FM_OK;
}

static fm_status init_param(struct fm__trainer *t, int i, struct fm_error *err)
{
    const struct fm__state *s = &t->states.items[i];
    float *x = fm__malloc(fm_tensor_bytes(&s->tensor));
    if (!x) return fm__fail_nomem(err, s->name, fm_tensor_bytes(&s->tensor));
    fm_status status = first_values(&t->opts, s, x, err);
    if (status == FM_OK) status = fm__states_write(&t->states, s, x, err);
    fm__free(x);
    return status;
}

// Who moves which parameter; as many ranks as there are share the moments' memory.
static fm_status deal_params(struct fm__trainer *t, struct fm_error *err)
{
    int64_t *elements = fm__malloc(((size_t)t->n_params + 1) * sizeof *elements);
    int *owners = fm__malloc(((size_t)t->n_params + 1) * sizeof *owners);
    fm_status status =
        elements && owners ? FM_OK : fm__fail_nomem(err, "parameters", (size_t)t->n_params * sizeof *elements);
    for (int i = 0; status == FM_OK && i < t->n_params; i++)
        elements[i] = fm_tensor_elements(&t->states.items[i].tensor);
    if (status == FM_OK) status = fm__exchange_deal(elements, t->n_params, fm__comm_size(t->states.comm), owners, err);
    for (int i = 0; status == FM_OK && i < t->n_params; i++) t->states.items[i].owner = owners[i];
    fm__free(elements);
    fm__free(owners);
    return status;
}

// A state for every one that the graph has, and for each parameter its first values.
static fm_status make_params(struct fm__trainer *t, const struct fm__graph *g, struct fm_error *err)
{
    for (int pass = 0; pass < 2; pass++) // parameters first
        for (fm__val v = 0; v < g->n_values; v++) {
            const struct fm__value *value = &g->values[v];
            const bool gradient = !strncmp(value->name, "grad.", 5);
            if (value->kind != FM__STATE || value->node >= 0 || gradient != (pass == 1)) continue;
            struct fm__state s = {.tensor = {.dtype = value->dtype, .rank = value->rank}, .kept = !gradient};
            memcpy(s.tensor.dims, value->dims, sizeof s.tensor.dims);
            if (strlen(value->name) >= sizeof s.name)
                return fm__fail(err, FM_E_LIMIT, "%s: a name of more than %zu bytes", value->name, sizeof s.name - 1);
            snprintf(s.name, sizeof s.name, "%s", value->name);
            FM_TRY(fm__states_add(&t->states, &s, err));
            t->n_params += !gradient;
        }
    FM_TRY(deal_params(t, err));
    if (t->n_params == 0)
        return fm__fail(err, FM_E_ARG, "nothing to train: no product is named \"%s\"", t->opts.lora.targets);
    for (int i = 0; i < t->n_params; i++) FM_TRY(init_param(t, i, err));
    return FM_OK;
}

static fm_status make_plan(struct fm__trainer *t, const struct fm__graph *g, struct fm__plan **out,
                           struct fm_error *err)
{
    const struct fm__plan_opts opts = {.device = t->states.device,
                                       .rows = t->opts.n_rows,
                                       .bind = fm__states_bind,
                                       .bind_context = &t->states,
                                       .arena = t->train ? t->train->arena : NULL, // never run at once
                                       .arena_budget = t->train ? 0 : t->opts.arena_budget,
                                       .exact_activations = 1};
    return fm__plan_new(g, &opts, out, err);
}

// The stage in which the gradient of each parameter has all its terms.
static void stages_of_gradients(const struct fm__trainer *t, const struct fm__plan *plan, int *stages)
{
    const struct fm__graph *g = plan->graph;
    for (int i = 0; i < t->n_params; i++) stages[i] = INT_MAX;
    for (int i = 0; i < plan->n_steps; i++) {
        const struct fm__node *node = fm__plan_node(plan, i);
        for (int k = 0; k < node->n_out; k++) {
            fm__val v = node->out[k];
            while (g->values[v].alias_of != FM__NONE) v = g->values[v].alias_of;
            if (g->values[v].kind != FM__STATE || strncmp(g->values[v].name, "grad.", 5) != 0) continue;
            for (int p = 0; p < t->n_params; p++)
                if (!strcmp(t->states.items[p].name, g->values[v].name + 5))
                    stages[p] =
                        stages[p] == INT_MAX || stages[p] < plan->steps[i].stage ? plan->steps[i].stage : stages[p];
        }
    }
}

static fm_status make_exchange(struct fm__trainer *t, struct fm_error *err)
{
    if (fm__comm_size(t->states.comm) == 1) return FM_OK;
    int *stages = fm__malloc(((size_t)t->n_params + 1) * sizeof *stages);
    if (!stages) return fm__fail_nomem(err, "stages", (size_t)t->n_params * sizeof *stages);
    stages_of_gradients(t, t->train, stages);
    const fm_status status = fm__exchange_new(&t->states, t->n_params, stages, &t->exchange, err);
    fm__free(stages);
    return status;
}

static fm_status build(struct fm__trainer *t, struct fm_error *err)
{
    struct fm__graph *train = fm__trainer_graph(&t->opts, true), *eval = fm__trainer_graph(&t->opts, false);
    fm_status status = train && eval ? fm__graph_check(train, err) : fm__fail_nomem(err, "graph", sizeof *train);
    if (status == FM_OK) status = make_params(t, train, err);
    if (status == FM_OK) status = make_plan(t, train, &t->train, err);
    if (status == FM_OK) status = make_plan(t, eval, &t->eval, err);
    fm__graph_free(train);
    fm__graph_free(eval);
    if (status == FM_OK) status = fm__optimiser_new(&t->opts.optimiser, &t->states, t->n_params, &t->optimiser, err);
    if (status == FM_OK) status = make_exchange(t, err);
    return status;
}

static fm_status check_opts(const struct fm__trainer_opts *o, struct fm_error *err)
{
    if (o->n_rows < 1)
        return fm__fail(err, FM_E_ARG, "micro-batch of %lld rows, want at least 1", (long long)o->n_rows);
    if (o->task == FM__TASK_CLASSIFY && o->n_classes < 2)
        return fm__fail(err, FM_E_ARG, "%d classes, want at least 2", o->n_classes);
    if (o->lora.rank < 0 || o->lora.rank > 1024)
        return fm__fail(err, FM_E_ARG, "rank %d, want 0 (all weights) to 1024", o->lora.rank);
    if (!(o->dropout >= 0 && o->dropout < 1) || !(o->lora.dropout >= 0 && o->lora.dropout < 1))
        return fm__fail(err, FM_E_ARG, "dropout %g (of detours %g), want at least 0 and below 1", (double)o->dropout,
                        (double)o->lora.dropout);
    return FM_OK;
}

fm_status fm__trainer_new(const struct fm__trainer_opts *opts, struct fm__trainer **out, struct fm_error *err)
{
    *out = NULL;
    FM_TRY(check_opts(opts, err));
    struct fm__trainer *t = fm__calloc(1, sizeof *t);
    if (!t) return fm__fail_nomem(err, "trainer", sizeof *t);
    t->opts = *opts;
    t->opts.optimiser.bf16 |= opts->bf16;
    t->fresh = true;
    t->states = (struct fm__states){.device = fm__model_device(opts->model),
                                    .comm = opts->comm,
                                    .next = fm__model_bind,
                                    .next_context = (void *)(uintptr_t)opts->model};
    fm_status status = build(t, err);
    if (status != FM_OK) {
        fm__trainer_free(t);
        return status;
    }
    *out = t;
    return FM_OK;
}

void fm__trainer_free(struct fm__trainer *t)
{
    if (!t) return;
    fm__exchange_free(t->exchange);
    fm__optimiser_free(t->optimiser);
    fm__plan_free(t->train);
    fm__plan_free(t->eval);
    fm__states_deinit(&t->states);
    fm__free(t);
}

void fm__trainer_rest(struct fm__trainer *t)
{
    fm__plan_free(t->train);
    fm__plan_free(t->eval);
    t->train = t->eval = NULL;
}

static fm_status check_micro(const struct fm__trainer *t, const struct fm__microbatch *m, struct fm_error *err)
{
    if (m->n_rows < 1 || m->n_rows > t->opts.n_rows)
        return fm__fail(err, FM_E_LIMIT, "micro-batch of %lld rows, want 1 to %lld", (long long)m->n_rows,
                        (long long)t->opts.n_rows);
    const int64_t n_vocab = fm__model_hparams(t->opts.model)->n_vocab;
    for (int64_t i = 0; i < m->n_rows; i++)
        if (m->tokens[i] < 0 || m->tokens[i] >= n_vocab)
            return fm__fail(err, FM_E_ARG, "token %d in row %lld, want 0 to %lld", m->tokens[i], (long long)i,
                            (long long)n_vocab - 1);
    return FM_OK;
}

struct fm__trainer_inputs fm__trainer_inputs(const struct fm__trainer *t, const struct fm__microbatch *m, float keep)
{
    const uint64_t seed = t->opts.seed;
    return (struct fm__trainer_inputs){
        .key = {(int32_t)(uint32_t)seed, (int32_t)(uint32_t)(seed >> 32), (int32_t)(uint32_t)t->counters.micros,
                // rows of other ranks have masks of their own
                (int32_t)(fm__comm_rank(t->states.comm) * t->opts.n_rows)},
        .keep = keep,
        .targets = t->opts.task == FM__TASK_REGRESS ? (const void *)m->values : m->targets};
}

static fm_status run(struct fm__trainer *t, struct fm__plan *plan, const struct fm__microbatch *m, float keep,
                     struct fm_error *err)
{
    if (!plan) return fm__fail(err, FM_E_ARG, "trainer: at rest, its plans are gone");
    FM_TRY(check_micro(t, m, err));
    const struct fm__trainer_inputs in = fm__trainer_inputs(t, m, keep);
    return fm__plan_run(plan, m->n_rows, (const void *[]){m->tokens, m->rows, in.key, in.targets, m->weights, &in.keep},
                        err);
}

static void after_stage(void *context, int stage)
{
    fm__exchange_stage(context, stage);
}

// The gradients of a rank that had no row in this step.
static fm_status no_gradients(struct fm__trainer *t, struct fm_error *err)
{
    for (int i = 0; i < t->states.n; i++) {
        const struct fm__state *s = &t->states.items[i];
        if (strncmp(s->name, "grad.", 5) != 0) continue;
        float *zeros = fm__calloc(1, fm_tensor_bytes(&s->tensor));
        if (!zeros) return fm__fail_nomem(err, s->name, fm_tensor_bytes(&s->tensor));
        const fm_status status = fm__states_write(&t->states, s, zeros, err);
        fm__free(zeros);
        FM_TRY(status);
    }
    t->fresh = false;
    return FM_OK;
}

fm_status fm__trainer_micro(struct fm__trainer *t, const struct fm__microbatch *micro, double *loss,
                            struct fm_error *err)
{
    *loss = 0;
    const bool sends = t->exchange && micro->ends_step;
    if (sends) fm__exchange_begin(t->exchange);
    if (micro->n_rows == 0) return sends && t->fresh ? no_gradients(t, err) : FM_OK;
    if (t->train) { // else at rest
        t->train->after = sends ? after_stage : NULL;
        t->train->after_context = t->exchange;
    }
    FM_TRY(run(t, t->train, micro, t->fresh ? 0 : 1, err));
    t->fresh = false;
    t->counters.micros++;
    *loss = *(const float *)fm__plan_output(t->train, 0);
    return FM_OK;
}

fm_status fm__trainer_eval(struct fm__trainer *t, const struct fm__microbatch *micro, struct fm__trainer_eval *out,
                           struct fm_error *err)
{
    FM_TRY(run(t, t->eval, micro, 0, err));
    out->losses = fm__plan_output(t->eval, 1);
    out->outputs = t->opts.task == FM__TASK_LM ? NULL : fm__plan_output(t->eval, 2);
    return FM_OK;
}

fm_status fm__trainer_norm(struct fm__trainer *t, double *norm, struct fm_error *err)
{
    if (t->exchange) FM_TRY(fm__exchange_end(t->exchange, err));
    return fm__optimiser_norm(t->optimiser, norm, err);
}

fm_status fm__trainer_update(struct fm__trainer *t, double rate, double scale, struct fm_error *err)
{
    if (t->fresh) return fm__fail(err, FM_E_ARG, "update: no micro-batch in this step");
    FM_TRY(fm__optimiser_update(t->optimiser, t->counters.steps + 1, rate, scale, err));
    if (t->exchange) FM_TRY(fm__exchange_parameters(t->exchange, err));
    t->counters.steps++;
    t->fresh = true;
    return FM_OK;
}

void fm__trainer_drop(struct fm__trainer *t)
{
    t->fresh = true;
}

struct fm__states *fm__trainer_states(struct fm__trainer *t)
{
    return &t->states;
}

struct fm__trainer_counters *fm__trainer_counters(struct fm__trainer *t)
{
    return &t->counters;
}

int64_t fm__trainer_n_outputs(const struct fm__trainer *t)
{
    return t->opts.task == FM__TASK_CLASSIFY ? t->opts.n_classes : t->opts.task == FM__TASK_REGRESS ? 1 : 0;
}

int64_t fm__trainer_n_classes(const struct fm__trainer *t)
{
    return t->opts.task == FM__TASK_CLASSIFY ? t->opts.n_classes : 0;
}

int fm__trainer_n_params(const struct fm__trainer *t)
{
    return t->n_params;
}

const char *fm__trainer_param(const struct fm__trainer *t, int i)
{
    return t->states.items[i].name;
}
