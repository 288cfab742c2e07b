// SPDX-License-Identifier: MIT
#include "train/schedule.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

static const char *const names[] = {"constant", "linear", "cosine", "wsd"};
enum { N_KINDS = sizeof names / sizeof *names };

// 0 at step `first`, 1 at the last step; a fall of one step is over at once.
static double progress(const struct fm__schedule *s, int64_t first, int64_t step)
{
    const int64_t last = s->n_steps - 1;
    if (step >= last) return 1;
    return step <= first ? 0 : (double)(step - first) / (double)(last - first);
}

double fm__schedule_rate(const struct fm__schedule *s, int64_t step)
{
    if (step < s->n_warmup) return s->max * (double)(step + 1) / (double)s->n_warmup;
    const double fall = s->max - s->min;
    switch (s->kind) {
    case FM__SCHEDULE_LINEAR:
        return s->max - fall * progress(s, s->n_warmup, step);
    case FM__SCHEDULE_COSINE:
        return s->min + fall * 0.5 * (1 + cos(acos(-1.0) * progress(s, s->n_warmup, step)));
    case FM__SCHEDULE_WSD: // the last stable step is the fall's step 0
        if (s->n_decay <= 0) return s->max;
        return s->max - fall * progress(s, s->n_steps - 1 - s->n_decay, step);
    default:
        return s->max;
    }
}

fm_status fm__schedule_parse(const char *name, enum fm__schedule_kind *kind, struct fm_error *err)
{
    for (int i = 0; i < N_KINDS; i++)
        if (!strcmp(name, names[i])) {
            *kind = (enum fm__schedule_kind)i;
            return FM_OK;
        }
    return fm__fail(err, FM_E_ARG, "schedule: \"%s\", want constant, linear, cosine or wsd", name);
}

const char *fm__schedule_name(enum fm__schedule_kind kind)
{
    return names[kind];
}

fm_status fm__schedule_check(const struct fm__schedule *s, struct fm_error *err)
{
    if (!(s->max >= 0) || !isfinite(s->max) || !(s->min >= 0) || s->min > s->max)
        return fm__fail(err, FM_E_ARG, "schedule: rate from %g to %g, want 0 <= min <= max", s->max, s->min);
    const int64_t decay = s->kind == FM__SCHEDULE_WSD ? s->n_decay : 0;
    if (s->n_steps < 1 || s->n_warmup < 0 || decay < 0 || s->n_warmup > s->n_steps || decay > s->n_steps - s->n_warmup)
        return fm__fail(err, FM_E_ARG, "schedule: %lld steps with %lld of warm-up and %lld of decay, want them to fit",
                        (long long)s->n_steps, (long long)s->n_warmup, (long long)decay);
    return FM_OK;
}
