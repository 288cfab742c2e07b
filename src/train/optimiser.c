// SPDX-License-Identifier: MIT
// Two plans over the states: norm and step.
#include "train/optimiser.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "train/optimiser_graph.h"

struct fm__optimiser {
    struct fm__optimiser_opts opts;
    struct fm__states *states;
    int n_params, bad;            // bad: the parameter with the first gradient that is not finite, -1: none
    int *mine, n_mine;            // parameters that this process moves
    float *squares;               // [ranks + 1, n_params] of their gradients
    struct fm__plan *norm, *step; // NULL: nothing is this process's
};

static const char *const names[] = {"adamw", "adamw8", "sgd", "muon"};

fm_status fm__optimiser_parse(const char *name, enum fm__optimiser_kind *kind, struct fm_error *err)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) {
            *kind = (enum fm__optimiser_kind)i;
            return FM_OK;
        }
    return fm__fail(err, FM_E_ARG, "optimiser: \"%s\", want adamw, adamw8, sgd or muon", name);
}

const char *fm__optimiser_name(enum fm__optimiser_kind kind)
{
    return names[kind];
}

static fm_status check_opts(const struct fm__optimiser_opts *o, struct fm_error *err)
{
    if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1) || !(o->momentum < 1))
        return fm__fail(err, FM_E_ARG, "optimiser: betas %g and %g, momentum %g, want them below 1", o->beta1, o->beta2,
                        o->momentum);
    if (!(o->eps >= 0) || !(o->weight_decay >= 0) || !isfinite(o->weight_decay))
        return fm__fail(err, FM_E_ARG, "optimiser: eps %g, weight decay %g, want them at least 0", o->eps,
                        o->weight_decay);
    return FM_OK;
}

// Zeros for every state of the graph that is not there yet: the moments.
static fm_status add_moments(struct fm__states *states, const struct fm__graph *g, struct fm_error *err)
{
    for (fm__val i = 0; i < g->n_values; i++) {
        const struct fm__value *v = &g->values[i];
        if (v->kind != FM__STATE || v->node >= 0 || fm__states_find(states, v->name)) continue;
        struct fm__state s = {.tensor = {.dtype = v->dtype, .rank = v->rank}, .kept = true};
        if (!strncmp(v->name, "grad.", 5)) return fm__fail(err, FM_E_NOT_FOUND, "%s: no state of this name", v->name);
        if (strlen(v->name) >= sizeof s.name)
            return fm__fail(err, FM_E_LIMIT, "%s: a name of more than %zu bytes", v->name, sizeof s.name - 1);
        memcpy(s.tensor.dims, v->dims, sizeof s.tensor.dims);
        memcpy(s.name, v->name, strlen(v->name));
        const struct fm__state *of = fm__states_find(states, v->name + 2); // "m.NAME"
        s.owner = of ? of->owner : 0;
        s.only_owners = fm__comm_size(states->comm) > 1;
        FM_TRY(fm__states_add(states, &s, err));
    }
    return FM_OK;
}

static fm_status make_plan(struct fm__optimiser *o, struct fm__graph *g, struct fm__plan **out, struct fm_error *err)
{
    if (out && o->n_mine == 0) {
        fm__graph_free(g);
        return FM_OK;
    }
    if (!g) return fm__fail_nomem(err, "optimiser", sizeof *g);
    const struct fm__plan_opts opts = {.device = o->states->device,
                                       .rows = 1,
                                       .bind = fm__states_bind,
                                       .bind_context = o->states,
                                       .exact_activations = 1};
    fm_status status = fm__graph_check(g, err);
    if (status == FM_OK) status = add_moments(o->states, g, err);
    if (status == FM_OK && out) status = fm__plan_new(g, &opts, out, err); // else only its states are wanted
    fm__graph_free(g);
    return status;
}

static fm_status build(struct fm__optimiser *o, struct fm_error *err)
{
    FM_TRY(check_opts(&o->opts, err));
    const size_t n = (size_t)o->n_params, n_squares = n * ((size_t)fm__comm_size(o->states->comm) + 1);
    o->mine = fm__calloc(n + 1, sizeof *o->mine);
    o->squares = fm__calloc(n_squares + 1, sizeof *o->squares);
    if (!o->mine || !o->squares) return fm__fail_nomem(err, "optimiser", n_squares * sizeof *o->squares);
    for (int i = 0; i < o->n_params; i++)
        if (o->states->items[i].owner == fm__comm_rank(o->states->comm)) o->mine[o->n_mine++] = i;
    char(*copies)[sizeof o->states->items->name] = fm__calloc(n + 1, sizeof *copies); // adding states moves their names
    struct fm__param *params = fm__calloc(n + 1, sizeof *params);
    fm_status status = copies && params ? FM_OK : fm__fail_nomem(err, "optimiser", n * sizeof *copies);
    for (size_t i = 0; status == FM_OK && i < n; i++) {
        const struct fm__state *s = &o->states->items[i];
        memcpy(copies[i], s->name, sizeof *copies);
        params[i] = (struct fm__param){.name = copies[i], .rank = s->tensor.rank};
        memcpy(params[i].dims, s->tensor.dims, sizeof params[i].dims);
    }
    // moments of all, in one order on all ranks; steps of this rank's
    if (status == FM_OK) status = make_plan(o, fm__step_graph(&o->opts, o->n_params, params), NULL, err);
    for (int i = 0; status == FM_OK && i < o->n_mine; i++) params[i] = params[o->mine[i]];
    if (status == FM_OK) status = make_plan(o, fm__norm_graph(o->n_mine, params), &o->norm, err);
    if (status == FM_OK) status = make_plan(o, fm__step_graph(&o->opts, o->n_mine, params), &o->step, err);
    fm__free(copies);
    fm__free(params);
    return status;
}

fm_status fm__optimiser_new(const struct fm__optimiser_opts *opts, struct fm__states *states, int n_params,
                            struct fm__optimiser **out, struct fm_error *err)
{
    *out = NULL;
    struct fm__optimiser *o = fm__calloc(1, sizeof *o);
    if (!o) return fm__fail_nomem(err, "optimiser", sizeof *o);
    *o = (struct fm__optimiser){.opts = *opts, .states = states, .n_params = n_params, .bad = -1};
    const fm_status status = build(o, err);
    if (status != FM_OK) {
        fm__optimiser_free(o);
        return status;
    }
    *out = o;
    return FM_OK;
}

void fm__optimiser_free(struct fm__optimiser *o)
{
    if (!o) return;
    fm__plan_free(o->norm);
    fm__plan_free(o->step);
    fm__free(o->mine);
    fm__free(o->squares);
    fm__free(o);
}

fm_status fm__optimiser_norm(struct fm__optimiser *o, double *norm, struct fm_error *err)
{
    double sum = 0;
    *norm = 0;
    o->bad = -1;
    struct fm__comm *comm = o->states->comm;
    float *all = o->squares + o->n_params;
    if (o->norm) FM_TRY(fm__plan_run(o->norm, 1, NULL, err));
    for (int i = 0; i < o->n_mine; i++) o->squares[o->mine[i]] = *(const float *)fm__plan_output(o->norm, i);
    FM_TRY(fm__comm_gather(comm, o->squares, (size_t)o->n_params * sizeof *all, all, err));
    for (int i = 0; i < o->n_params; i++) {
        const float squares = all[o->states->items[i].owner * o->n_params + i];
        if (!isfinite(squares) && o->bad < 0) o->bad = i;
        sum += squares;
    }
    *norm = sqrt(sum);
    return FM_OK;
}

const char *fm__optimiser_bad_gradient(const struct fm__optimiser *o)
{
    return o->bad < 0 ? NULL : o->states->items[o->bad].name;
}

fm_status fm__optimiser_update(struct fm__optimiser *o, int64_t step, double rate, double scale, struct fm_error *err)
{
    float knobs[4];
    if (step < 1) return fm__fail(err, FM_E_ARG, "optimiser: step %lld, want 1 or more", (long long)step);
    fm__optimiser_knobs(&o->opts, step, rate, scale, knobs);
    return o->step ? fm__plan_run(o->step, 1, (const void *[]){knobs}, err) : FM_OK;
}
