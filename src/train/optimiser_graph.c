// SPDX-License-Identifier: MIT
// Which op steps which parameter, with which decay; Muon's orthogonalisation as ordinary products.
#include "train/optimiser_graph.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/passes.h"
#include "ops/codes8.h"
#include "ops/optimiser.h"

static bool is_embedding(const struct fm__param *p)
{
    return strstr(p->name, "embd") || strstr(p->name, "token_types");
}

bool fm__param_decays(const struct fm__param *p)
{
    return p->rank >= 2 && !is_embedding(p);
}

bool fm__param_is_hidden(const struct fm__param *p)
{
    return p->rank == 2 && !is_embedding(p) && strncmp(p->name, "output.", 7) != 0 && strncmp(p->name, "cls.", 4) != 0;
}

static double or_default(double x, double value)
{
    return x == 0 ? value : x;
}

static double momentum_of(const struct fm__optimiser_opts *o)
{
    return o->momentum < 0 ? 0 : or_default(o->momentum, o->kind == FM__OPTIMISER_MUON ? 0.95 : 0.9);
}

void fm__optimiser_knobs(const struct fm__optimiser_opts *opts, int64_t step, double rate, double scale, float knobs[4])
{
    knobs[FM__KNOB_RATE] = (float)rate;
    knobs[FM__KNOB_ADAM1] = (float)(1 - pow(or_default(opts->beta1, 0.9), (double)step));
    knobs[FM__KNOB_ADAM2] = (float)(1 - pow(or_default(opts->beta2, 0.999), (double)step));
    knobs[FM__KNOB_SCALE] = (float)scale;
}

// The state "PREFIX.NAME" of a parameter, of its dims.
static fm__val leaf(struct fm__graph *g, const struct fm__param *p, const char *prefix, fm_dtype dtype)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    return fm__graph_leaf(g, FM__STATE, name, dtype, p->rank, p->dims);
}

struct fm__graph *fm__norm_graph(int n, const struct fm__param *params)
{
    struct fm__graph *g = fm__graph_new();
    for (int i = 0; g && i < n; i++) {
        const fm__val d = leaf(g, &params[i], "grad.", FM_F32);
        fm__graph_output(g, fm__graph_add(g, FM__OP_SUM_SQUARES, 1, &d, NULL), params[i].name);
    }
    return g;
}

struct step {
    struct fm__graph *g;
    const struct fm__optimiser_opts *opts;
    fm__val knobs;
    fm__val previous; // what Muon's last matrix ended with
};

static float decay_of(const struct step *s, const struct fm__param *p)
{
    return s->opts->decay_all || fm__param_decays(p) ? (float)s->opts->weight_decay : 0.0f;
}

static void add_adamw(struct step *s, const struct fm__param *p, bool codes)
{
    const struct fm__optimiser_opts *o = s->opts;
    const union fm__attrs attrs = {.adamw = {.beta1 = (float)or_default(o->beta1, 0.9),
                                             .beta2 = (float)or_default(o->beta2, 0.999),
                                             .eps = (float)or_default(o->eps, 1e-8),
                                             .weight_decay = decay_of(s, p)}};
    const fm_dtype dtype = codes ? FM_I8 : FM_F32;
    const fm__val w = leaf(s->g, p, "", FM_F32), d = leaf(s->g, p, "grad.", FM_F32);
    const fm__val m = leaf(s->g, p, "m.", dtype), v = leaf(s->g, p, "v.", dtype);
    if (!codes) {
        fm__graph_add(s->g, FM__OP_ADAMW, 5, (fm__val[]){w, d, m, v, s->knobs}, &attrs);
        return;
    }
    struct fm__param scales = {.name = p->name, .rank = 2, .dims = {2, 1}};
    for (int i = 0; i < p->rank; i++) scales.dims[1] *= p->dims[i];
    scales.dims[1] = (scales.dims[1] + FM__CODES8_BLOCK - 1) / FM__CODES8_BLOCK;
    const fm__val in[] = {w, d, m, v, leaf(s->g, &scales, "s.", FM_F32), s->knobs};
    fm__graph_add(s->g, FM__OP_ADAMW8, 6, in, &attrs);
}

static void add_sgd(struct step *s, const struct fm__param *p)
{
    const union fm__attrs attrs = {.momentum = {.momentum = (float)momentum_of(s->opts),
                                                .weight_decay = decay_of(s, p),
                                                .nesterov = !s->opts->plain_momentum}};
    const fm__val w = leaf(s->g, p, "", FM_F32), d = leaf(s->g, p, "grad.", FM_F32), m = leaf(s->g, p, "m.", FM_F32);
    fm__graph_add(s->g, FM__OP_SGD, 4, (fm__val[]){w, d, m, s->knobs}, &attrs);
}

static fm__val times(struct fm__graph *g, fm__val x, double factor)
{
    const union fm__attrs attrs = {.scale = {.factor = (float)factor}};
    return fm__graph_add(g, FM__OP_SCALE, 1, &x, &attrs);
}

// x [R, C] of norm 1 -> about the nearest matrix with orthonormal rows or columns: five steps of the quintic
//   A = x x^T,  x = a x + (b A + c A A) x
// with K. Jordan's coefficients, which take singular values of 1e-3 … 1 into 0.7 … 1.2. The smaller Gram matrix is
// taken; with A = x^T x the step is a x + x (b A + c A A). A is symmetric, so every product has its second factor in
// rows: linear, its transpose, and linear_dw.
static fm__val orthogonalise(struct fm__graph *g, fm__val x, bool tall)
{
    const union fm__attrs turned = {.linear = {.transpose_w = 1}};
    for (int i = 0; i < 5; i++) {
        const fm__val a = fm__graph_add(g, tall ? FM__OP_LINEAR_DW : FM__OP_LINEAR, 2, (fm__val[]){x, x}, NULL);
        const fm__val b = fm__graph_add(g, FM__OP_LINEAR, 4,
                                        (fm__val[]){times(g, a, 2.0315), a, FM__NONE, times(g, a, -4.7750)}, NULL);
        const fm__val ax = times(g, x, 3.4445);
        x = tall ? fm__graph_add(g, FM__OP_LINEAR, 4, (fm__val[]){x, b, FM__NONE, ax}, NULL)
                 : fm__graph_add(g, FM__OP_LINEAR, 4, (fm__val[]){b, x, FM__NONE, ax}, &turned);
    }
    return x;
}

// One matrix after the other: side by side, their temporaries would be larger than the model.
static void add_muon(struct step *s, const struct fm__param *p)
{
    struct fm__graph *g = s->g;
    const double larger = (double)(p->dims[0] > p->dims[1] ? p->dims[0] : p->dims[1]);
    const union fm__attrs attrs = {.momentum = {.momentum = (float)momentum_of(s->opts),
                                                .weight_decay = decay_of(s, p),
                                                // the length of AdamW's steps, so that one rate serves both
                                                .factor = (float)(0.2 * sqrt(larger)), // arXiv 2502.16982, 2.2
                                                .nesterov = !s->opts->plain_momentum}};
    const fm__val w = leaf(g, p, "", FM_F32), d = leaf(g, p, "grad.", FM_F32), m = leaf(g, p, "m.", FM_F32);
    const fm__val next = fm__graph_add(g, FM__OP_MUON_DIRECTION, 3, (fm__val[]){m, d, s->knobs}, &attrs);
    fm__graph_after(g, next, s->previous);
    const fm__val u = fm__graph_out(g, next, 1), squares = fm__graph_add(g, FM__OP_SUM_SQUARES, 1, &u, NULL);
    fm__val x = fm__graph_add(g, FM__OP_UNIT, 2, (fm__val[]){u, squares}, NULL);
    x = orthogonalise(g, x, p->dims[0] > p->dims[1]);
    s->previous = fm__graph_add(g, FM__OP_MUON, 3, (fm__val[]){w, x, s->knobs}, &attrs);
}

struct fm__graph *fm__step_graph(const struct fm__optimiser_opts *opts, int n, const struct fm__param *params)
{
    struct step s = {.g = fm__graph_new(), .opts = opts, .previous = FM__NONE};
    if (!s.g) return NULL;
    s.knobs = fm__graph_leaf(s.g, FM__INPUT, "knobs", FM_F32, 1, (int64_t[]){FM__KNOBS});
    for (int i = 0; i < n; i++) {
        const struct fm__param *p = &params[i];
        if (opts->kind == FM__OPTIMISER_SGD)
            add_sgd(&s, p);
        else if (opts->kind == FM__OPTIMISER_MUON && fm__param_is_hidden(p))
            add_muon(&s, p);
        else
            add_adamw(&s, p, opts->kind == FM__OPTIMISER_ADAMW8);
    }
    if (opts->kind != FM__OPTIMISER_MUON || !opts->bf16) return s.g;
    struct fm__graph *bf16 = fm__pass_bf16(s.g);
    fm__graph_free(s.g);
    return bf16;
}
