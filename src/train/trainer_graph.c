// SPDX-License-Identifier: MIT
// What is trained, and the loss on top of the model's graph.
#include "train/trainer_graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "graph/gradient.h"
#include "graph/passes.h"

static bool trains(void *context, const char *name)
{
    const struct fm__trainer_opts *opts = context;
    if (opts->task != FM__TASK_LM && !strcmp(name, "output.weight")) return false; // no logits are formed
    return opts->lora.rank == 0 && strcmp(name, "rope_freqs.weight") != 0; // these are constants of the architecture
}

// "blk.12.attn_q.weight": layer 12, part "attn_q". False for what is in no block.
static bool split_name(const char *name, int *layer, char part[64])
{
    int end = 0;
    if (sscanf(name, "blk.%d.%n", layer, &end) != 1 || end == 0) return false;
    const char *dot = strchr(name + end, '.');
    const size_t n = dot ? (size_t)(dot - name - end) : strlen(name + end);
    if (n >= 64) return false;
    memcpy(part, name + end, n);
    part[n] = 0;
    return true;
}

static bool in_list(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (!strncmp(at, word, n) && (at[n] == 0 || at[n] == ',')) return true;
    }
    return false;
}

static struct fm__lora lora(void *context, const char *name)
{
    const struct fm__lora_opts *o = &((const struct fm__trainer_opts *)context)->lora;
    char part[64];
    int layer;
    if (o->rank == 0 || !split_name(name, &layer, part)) return (struct fm__lora){0};
    if (o->n_layers && (layer < o->first_layer || layer >= o->first_layer + o->n_layers)) return (struct fm__lora){0};
    if (strcmp(o->targets, "all-linear") != 0 && !in_list(o->targets, part)) return (struct fm__lora){0};
    const float root = o->rank_stabilised ? sqrtf((float)o->rank) : (float)o->rank;
    return (struct fm__lora){.rank = o->rank, .scale = o->alpha / root, .dropout = o->dropout};
}

static struct fm__lora lora_without_dropout(void *context, const char *name)
{
    struct fm__lora l = lora(context, name);
    l.dropout = 0;
    return l;
}

// The head on the last hidden states: f32 [N, C].
static fm__val head(struct fm__graph *g, fm__val x, int64_t n_classes, int64_t d_model)
{
    const fm__val w = fm__graph_leaf(g, FM__STATE, "cls.output.weight", FM_F32, 2, (int64_t[]){n_classes, d_model});
    const fm__val bias = fm__graph_leaf(g, FM__STATE, "cls.output.bias", FM_F32, 1, &n_classes);
    return fm__graph_add(g, FM__OP_LINEAR, 3, (fm__val[]){x, w, bias}, NULL);
}

// Without a matrix of logits.
static fm__val lm_loss(const struct fm__training_graph *t, fm__val targets, fm__val weights)
{
    const union fm__attrs attrs = {.loss = {.softcap = t->softcap}};
    return fm__graph_add(t->g, FM__OP_LINEAR_CROSS_ENTROPY, 4, (fm__val[]){t->normed, t->head, targets, weights},
                         &attrs);
}

static void accumulate_gradients(struct fm__graph *g, fm__val loss)
{
    const fm__val keep = fm__graph_leaf(g, FM__INPUT, "keep", FM_F32, 1, (int64_t[]){1});
    fm__val *of = fm__malloc(2 * (size_t)g->n_values * sizeof *of), *d = of ? of + g->n_values : NULL;
    struct fm_error err;
    if (!of) {
        fm__fail_nomem(&err, "gradient", (size_t)g->n_values * sizeof *of);
        fm__graph_fail(g, &err);
        return;
    }
    int n = 0;
    for (fm__val v = 0; v < g->n_values; v++)
        if (g->values[v].kind == FM__STATE) of[n++] = v;
    fm__graph_gradient(g, loss, n, of, d);
    for (int i = 0; i < n && g->status == FM_OK; i++) {
        const struct fm__value p = g->values[of[i]]; // a copy: the array grows
        char name[128];
        snprintf(name, sizeof name, "grad.%.120s", p.name);
        const fm__val sum = fm__graph_leaf(g, FM__STATE, name, FM_F32, p.rank, p.dims);
        if (d[i] == FM__NONE) {
            fm__fail(&err, FM_E_ARG, "%s: the loss does not depend on it", p.name);
            fm__graph_fail(g, &err);
            break;
        }
        fm__graph_accumulate(g, sum, d[i], keep);
    }
    fm__free(of);
}

struct fm__graph *fm__trainer_graph(const struct fm__trainer_opts *opts, bool train)
{
    const struct fm__training training = {.context = (void *)(uintptr_t)opts,
                                          .trains = trains,
                                          .lora = train ? lora : lora_without_dropout,
                                          .dropout = train ? opts->dropout : 0};
    struct fm__training_graph t = fm__model_training(opts->model, &training);
    if (!t.g) return NULL;
    struct fm__graph *g = t.g;
    const bool regress = opts->task == FM__TASK_REGRESS;
    const fm__val targets = fm__graph_leaf(g, FM__INPUT, regress ? "values" : "targets", regress ? FM_F32 : FM_I32, 1,
                                           (int64_t[]){FM__ROWS});
    const fm__val weights = fm__graph_leaf(g, FM__INPUT, "weights", FM_F32, 1, (int64_t[]){FM__ROWS});
    fm__val y = FM__NONE;
    if (opts->task != FM__TASK_LM)
        y = head(g, t.normed, regress ? 1 : opts->n_classes, fm__model_hparams(opts->model)->d_model);
    const union fm__attrs mse = {.loss = {.kind = FM__LOSS_MSE}};
    const fm__val in[] = {y, targets, weights};
    const fm__val losses = opts->task == FM__TASK_LM ? lm_loss(&t, targets, weights)
                           : regress                 ? fm__graph_add(g, FM__OP_ROW_LOSS, 3, in, &mse)
                                                     : fm__graph_add(g, FM__OP_CROSS_ENTROPY, 3, in, NULL);
    const fm__val loss = fm__graph_add(g, FM__OP_SUM, 1, &losses, NULL);
    if (train) accumulate_gradients(g, loss);
    fm__graph_output(g, loss, "loss");
    fm__graph_output(g, losses, "losses");
    if (opts->task != FM__TASK_LM) fm__graph_output(g, y, "outputs");
    if (!opts->bf16) return g;
    struct fm__graph *rounded = fm__pass_bf16(g);
    fm__graph_free(g);
    return rounded;
}
