// SPDX-License-Identifier: MIT
// Options of sampling, and samplers made from them.
#ifndef FM_APP_CLI_SAMPLING_H
#define FM_APP_CLI_SAMPLING_H

#include "cli_engine.h"
#include "fathom/sample.h"

enum { FM_CLI_SAMPLING_OPTS = 28, FM_CLI_MAX_BIASES = 64, FM_CLI_MAX_BREAKERS = 16 };

struct fm_cli_sampling {
    int64_t seed; // -1: from the system's entropy
    double temp, top_p, min_p, typical, repeat, presence, frequency;
    double dry_multiplier, dry_base, mirostat_tau, mirostat_eta;
    int top_k, repeat_last_n, dry_allowed, dry_last_n, mirostat;
    const char *bias_items[FM_CLI_MAX_BIASES], *breaker_items[FM_CLI_MAX_BREAKERS];
    struct fm_cli_list biases, breakers;
};

void fm__cli_sampling_defaults(struct fm_cli_sampling *s);
size_t fm__cli_sampling_opts(struct fm_cli_sampling *s, struct fm_cli_opt out[FM_CLI_SAMPLING_OPTS]);

// A sampler with seed + `index` (so that the i-th prompt of a file draws the same alone or among others). no_end: the
// tokens that end a text get no chance. *out: the caller's, fm_sampler_free.
fm_status fm__cli_sampler_new(const struct fm_cli_sampling *s, const struct fm_cli_engine *e, uint64_t index,
                              bool no_end, struct fm_sampler **out, struct fm_error *err);

#endif
