// SPDX-License-Identifier: MIT
// Steps, evaluations, checkpoints.
#include "train/loop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "train/checkpoints.h"

fm_status fm__microbatch_init(struct fm__microbatch *mb, int64_t n_rows, struct fm_error *err)
{
    const size_t n = (size_t)n_rows;
    *mb = (struct fm__microbatch){.cap = n_rows,
                                  .tokens = fm__calloc(n, sizeof *mb->tokens),
                                  .targets = fm__calloc(n, sizeof *mb->targets),
                                  .values = fm__calloc(n, sizeof *mb->values),
                                  .weights = fm__calloc(n, sizeof *mb->weights),
                                  .rows = fm__calloc(n, sizeof *mb->rows * FM__ROW_FIELDS),
                                  .samples = fm__calloc(n, sizeof *mb->samples),
                                  .ends = fm__calloc(n, sizeof *mb->ends)};
    if (mb->tokens && mb->targets && mb->values && mb->weights && mb->rows && mb->samples && mb->ends) return FM_OK;
    fm__microbatch_deinit(mb);
    return fm__fail_nomem(err, "micro-batch", n * 48);
}

void fm__microbatch_deinit(struct fm__microbatch *mb)
{
    fm__free(mb->tokens), fm__free(mb->targets), fm__free(mb->values), fm__free(mb->weights);
    fm__free(mb->rows), fm__free(mb->samples), fm__free(mb->ends);
    *mb = (struct fm__microbatch){0};
}

// --- evaluation ---

// Sums over the processes, in the order of their ranks: the same on all of them.
static fm_status sum_of_ranks(struct fm__comm *comm, double *x, int n, struct fm_error *err)
{
    const size_t size = (size_t)fm__comm_size(comm);
    if (size == 1) return FM_OK;
    double *all = fm__malloc(size * (size_t)n * sizeof *all);
    if (!all) return fm__fail_nomem(err, "sums", size * (size_t)n * sizeof *all);
    const fm_status status = fm__comm_gather(comm, x, (size_t)n * sizeof *x, all, err);
    for (int i = 0; status == FM_OK && i < n; i++) {
        x[i] = all[i];
        for (size_t r = 1; r < size; r++) x[i] += all[r * (size_t)n + (size_t)i];
    }
    fm__free(all);
    return status;
}

static bool hit(const float *outputs, int64_t n_classes, int32_t target)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n_classes; i++)
        if (outputs[i] > outputs[best]) best = i;
    return best == target;
}

fm_status fm__loop_evaluate(struct fm__trainer *t, struct fm__loader *valid, struct fm__microbatch *mb,
                            struct fm__eval_figures *out, struct fm_error *err)
{
    const int64_t n_classes = fm__trainer_n_classes(t);
    enum { LOSS, WEIGHT, HITS, ROWS, N };
    double sums[N] = {0};
    *out = (struct fm__eval_figures){0};
    do {
        struct fm__trainer_eval e;
        FM_TRY(fm__loader_next(valid, mb, err));
        if (mb->n_rows == 0) continue;
        FM_TRY(fm__trainer_eval(t, mb, &e, err));
        for (int64_t i = 0; i < mb->n_rows; i++) {
            sums[LOSS] += e.losses[i];
            sums[WEIGHT] += mb->weights[i];
            if (n_classes && mb->targets[i] >= 0)
                sums[HITS] += hit(e.outputs + i * n_classes, n_classes, mb->targets[i]);
        }
        sums[ROWS] += (double)mb->n_targets;
    } while (!mb->ends_epoch);
    FM_TRY(sum_of_ranks(fm__trainer_states(t)->comm, sums, N, err));
    if (!(sums[WEIGHT] > 0)) return fm__fail(err, FM_E_ARG, "evaluation: no row has a loss");
    out->loss = sums[LOSS] / sums[WEIGHT];
    out->rows = (int64_t)sums[ROWS];
    out->accuracy = out->rows ? sums[HITS] / sums[ROWS] : 0;
    return FM_OK;
}

// --- the run ---

struct run {
    const struct fm__loop_opts *o;
    struct fm__microbatch mb;
    struct fm__checkpoint c; // where the run is
    double began;            // clock at which `c.seconds` would be 0
    struct fm__checkpoints files;
    bool saved;      // the last step is in a checkpoint
    bool stop;       // asked of any process
    char where[160]; // what first made a number of this step none, where this process knows
};

static void note(const struct run *r, const char *text)
{
    if (r->o->on_note && text[0] && fm__comm_rank(r->o->comm) == 0) r->o->on_note(r->o->context, text);
}

static fm_status save(struct run *r, bool best, struct fm_error *err)
{
    const struct fm__data_position at = fm__loader_position(r->o->loader);
    r->c.epoch = (uint64_t)at.epoch;
    r->c.sample = (uint64_t)at.sample;
    r->c.micros = fm__trainer_counters(r->o->trainer)->micros;
    r->c.seconds = fm__seconds() - r->began;
    r->saved = true;
    return fm__checkpoints_save(&r->files, fm__trainer_states(r->o->trainer), &r->c, best, err);
}

// All have read the same checkpoint: a folder that is another one on another host would be seen here.
static fm_status same_step(const struct run *r, struct fm_error *err)
{
    uint64_t steps = r->c.steps;
    FM_TRY(fm__comm_broadcast(r->o->comm, &steps, sizeof steps, 0, err));
    if (steps == r->c.steps) return FM_OK;
    return fm__fail(err, FM_E_VERIFY, "%s: step %llu, rank 0 is at %llu: is it the same folder?", r->o->folder,
                    (unsigned long long)r->c.steps, (unsigned long long)steps);
}

static fm_status resume(struct run *r, struct fm_error *err)
{
    char text[FM__CHECKPOINT_PATH + 64];
    const struct fm__checkpoint want = r->c;
    const fm_status status =
        fm__checkpoints_resume(r->o->folder, fm__trainer_states(r->o->trainer), &want, &r->c, text, err);
    note(r, text);
    FM_TRY(fm__comm_agree(r->o->comm, status == FM_E_NOT_FOUND ? FM_OK : status, err));
    FM_TRY(fm__comm_agree(r->o->comm, same_step(r, err), err));
    if (status == FM_E_NOT_FOUND) return FM_OK; // nothing yet: from the start
    *fm__trainer_counters(r->o->trainer) = (struct fm__trainer_counters){r->c.steps, r->c.micros};
    r->began -= r->c.seconds;
    r->saved = true;
    snprintf(text, sizeof text, "going on after step %llu", (unsigned long long)r->c.steps);
    note(r, text);
    const struct fm__data_position at = {
        .epoch = (int64_t)r->c.epoch, .sample = (int64_t)r->c.sample, .data = r->c.data};
    return fm__loader_seek(r->o->loader, &at, err);
}

// Where the first number that is none stands: the micro-batch once more, looked at node by node.
static fm_status not_finite(struct run *r, const struct fm__loop_step *s, struct fm_error *err)
{
    struct fm__comm *comm = r->o->comm;
    const int size = fm__comm_size(comm);
    char *where = fm__calloc((size_t)size, sizeof r->where);
    if (!where) return fm__fail_nomem(err, "ranks", (size_t)size * sizeof r->where);
    if (r->mb.n_rows && !r->where[0]) fm__trainer_blame(r->o->trainer, &r->mb, r->where, sizeof r->where);
    fm_status status = fm__comm_gather(comm, r->where, sizeof r->where, where, err);
    const char *what = where;
    for (int i = 1; i < size && !what[0]; i++) what = where + (size_t)i * sizeof r->where; // the first that knows
    if (status == FM_OK)
        status = fm__comm_agree(comm,
                                fm__fail(err, FM_E_VERIFY,
                                         "step %llu: loss %g, gradient norm %g%s%s; parameters are those of step %llu",
                                         (unsigned long long)s->step, s->loss, s->norm, what[0] ? ": first in " : "",
                                         what, (unsigned long long)r->c.steps),
                                err);
    fm__free(where);
    return status;
}

// What the processes of a step tell one another.
enum { LOSS, WEIGHT, ROWS, TARGETS, STOP, N_SUMS };

// Dropout's masks are numbered by micro-batches: all ranks go on behind the one that had most.
static fm_status agree_on_micros(struct run *r, uint64_t before, struct fm_error *err)
{
    struct fm__trainer_counters *counters = fm__trainer_counters(r->o->trainer);
    const size_t size = (size_t)fm__comm_size(r->o->comm);
    uint64_t *all = fm__malloc(size * sizeof *all), mine = counters->micros;
    if (!all) return fm__fail_nomem(err, "ranks", size * sizeof *all);
    const fm_status status = fm__comm_gather(r->o->comm, &mine, sizeof mine, all, err);
    counters->micros = before;
    for (size_t i = 0; status == FM_OK && i < size; i++)
        if (all[i] > counters->micros) counters->micros = all[i];
    fm__free(all);
    return status;
}

// The micro-batches of a step. One process leaves at the first that has no finite loss; several go on, since the others
// wait for gradients, whatever they are.
static fm_status run_micros(struct run *r, double sums[N_SUMS], struct fm_error *err)
{
    const bool alone = fm__comm_size(r->o->comm) == 1;
    r->where[0] = 0;
    do {
        double part;
        FM_TRY(fm__loader_next(r->o->loader, &r->mb, err));
        FM_TRY(fm__trainer_micro(r->o->trainer, &r->mb, &part, err));
        sums[LOSS] += part;
        sums[WEIGHT] += r->mb.weight;
        sums[ROWS] += (double)r->mb.n_rows;
        sums[TARGETS] += (double)r->mb.n_targets;
        if (isfinite(part)) continue;
        if (alone) return FM_OK; // this micro-batch is the one to look at
        if (!r->o->skip_nonfinite && !r->where[0]) fm__trainer_blame(r->o->trainer, &r->mb, r->where, sizeof r->where);
    } while (!r->mb.ends_step);
    return FM_OK;
}

// Micro-batches until the step is complete; then its norm.
static fm_status gather(struct run *r, struct fm__loop_step *s, double *weight, struct fm_error *err)
{
    const bool alone = fm__comm_size(r->o->comm) == 1;
    const uint64_t micros = fm__trainer_counters(r->o->trainer)->micros;
    double sums[N_SUMS] = {0};
    FM_TRY(run_micros(r, sums, err));
    if (!alone || isfinite(sums[LOSS])) FM_TRY(fm__trainer_norm(r->o->trainer, &s->norm, err));
    if (!alone) {
        sums[STOP] = r->o->stop && *r->o->stop;
        FM_TRY(sum_of_ranks(r->o->comm, sums, N_SUMS, err));
        FM_TRY(agree_on_micros(r, micros, err));
        r->stop = sums[STOP] > 0;
    }
    *weight = sums[WEIGHT];
    s->epoch = r->mb.epoch;
    s->rows = (int64_t)sums[ROWS];
    s->targets = (int64_t)sums[TARGETS];
    s->loss = *weight > 0 ? sums[LOSS] / *weight : sums[LOSS];
    s->norm = isfinite(sums[LOSS]) && *weight > 0 ? s->norm / *weight : s->loss;
    return FM_OK;
}

static fm_status skip_rest_of_step(struct run *r, struct fm_error *err)
{
    while (!r->mb.ends_step) FM_TRY(fm__loader_next(r->o->loader, &r->mb, err));
    fm__trainer_drop(r->o->trainer);
    return FM_OK;
}

static fm_status one_step(struct run *r, struct fm__loop_step *s, struct fm_error *err)
{
    const struct fm__loop_opts *o = r->o;
    const double began = fm__seconds();
    double weight;
    *s = (struct fm__loop_step){.step = r->c.steps + 1, .n_steps = o->n_steps};
    FM_TRY(gather(r, s, &weight, err));
    s->rate = fm__schedule_rate(&o->schedule, r->c.steps);
    s->skipped = !isfinite(s->loss) || !isfinite(s->norm);
    if (s->skipped && !o->skip_nonfinite) return not_finite(r, s, err);
    if (s->skipped || !(weight > 0)) { // nothing to be learnt from samples without a target
        FM_TRY(skip_rest_of_step(r, err));
        fm__trainer_counters(o->trainer)->steps++;
    } else {
        const double clip = o->clip > 0 && s->norm > o->clip ? o->clip / s->norm : 1;
        FM_TRY(fm__trainer_update(o->trainer, s->rate, clip / weight, err));
    }
    r->c.steps = s->step;
    r->c.tokens += (uint64_t)s->rows;
    r->saved = false;
    s->tokens = r->c.tokens;
    s->seconds = fm__seconds() - began;
    return FM_OK;
}

static fm_status evaluate(struct run *r, struct fm__loop_step *s, struct fm_error *err)
{
    FM_TRY(fm__loop_evaluate(r->o->trainer, r->o->valid, &r->mb, &s->eval, err));
    s->evaluated = true;
    s->best = r->c.best_step == 0 || s->eval.loss < r->c.best;
    r->c.bad_evals = s->best ? 0 : r->c.bad_evals + 1;
    if (!s->best) return FM_OK;
    r->c.best = s->eval.loss;
    r->c.best_step = s->step;
    return FM_OK;
}

static bool due(uint64_t step, uint64_t every)
{
    return every && step % every == 0;
}

// Several processes stop after the same step: the one in which they told one another.
static bool asked_to_stop(const struct run *r)
{
    return fm__comm_size(r->o->comm) > 1 ? r->stop : r->o->stop && *r->o->stop;
}

static fm_status steps(struct run *r, enum fm__loop_end *end, struct fm_error *err)
{
    const struct fm__loop_opts *o = r->o;
    *end = FM__LOOP_DONE;
    while (r->c.steps < o->n_steps && !asked_to_stop(r)) {
        struct fm__loop_step s;
        FM_TRY(one_step(r, &s, err));
        const bool last = s.step == o->n_steps;
        if (o->valid && (last || due(s.step, o->eval_every))) FM_TRY(evaluate(r, &s, err));
        if (o->folder && (last || s.best || due(s.step, o->save_every))) FM_TRY(save(r, s.best, err));
        s.checkpoint = r->saved ? r->files.path : NULL;
        s.total = fm__seconds() - r->began;
        if (o->on_step && fm__comm_rank(o->comm) == 0) o->on_step(o->context, &s);
        if (o->patience && r->c.bad_evals >= o->patience) {
            *end = FM__LOOP_NO_BETTER;
            return FM_OK;
        }
    }
    if (asked_to_stop(r) && r->c.steps < o->n_steps) *end = FM__LOOP_STOPPED;
    return FM_OK;
}

fm_status fm__loop_run(const struct fm__loop_opts *opts, struct fm__loop_result *result, struct fm_error *err)
{
    struct run r = {
        .o = opts, .c = opts->identity, .began = fm__seconds(), .files = {.folder = opts->folder, .keep = opts->keep}};
    *result = (struct fm__loop_result){0};
    FM_TRY(fm__microbatch_init(&r.mb, opts->n_rows, err));
    fm_status status = opts->folder && fm__comm_rank(opts->comm) == 0 ? fm__checkpoints_begin(&r.files, err) : FM_OK;
    status = fm__comm_agree(opts->comm, status, err);
    if (status == FM_OK && opts->folder && opts->resume) status = resume(&r, err);
    if (status == FM_OK) status = steps(&r, &result->end, err);
    if (status == FM_OK && opts->folder && !r.saved && r.c.steps > 0) status = save(&r, false, err);
    fm__microbatch_deinit(&r.mb);
    result->steps = r.c.steps;
    result->best_step = r.c.best_step;
    result->best = r.c.best;
    snprintf(result->checkpoint, sizeof result->checkpoint, "%s", r.files.path);
    return status;
}
