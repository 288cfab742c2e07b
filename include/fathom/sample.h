// SPDX-License-Identifier: MIT
// From logits to the next token: penalties, filters, temperature, a draw.
//
// The order is that of llama.cpp's default chain: logit bias, repetition/frequency/presence penalties, DRY, top-k,
// typical-p, top-p, min-p, temperature, draw. With mirostat the filters between DRY and temperature are left out and
// mirostat cuts and draws. A zeroed struct fm_sampler_opts switches everything off and takes the largest logit
// (greedy); fm_sampler_opts_defaults gives llama.cpp's defaults.
//
// Reproducible: the same seed, options, history and logits give the same token. Among equal logits the lower token id
// comes first. Logits that are NaN or −infinity have probability zero and are never among the candidates.
#ifndef FATHOM_SAMPLE_H
#define FATHOM_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_logit_bias {
    int32_t token;
    float bias; // added to the logit; -INFINITY forbids the token
};

// Zero: off, or the value written beside the field.
struct fm_sampler_opts {
    uint64_t seed;     // any number; 0 is a seed like any other
    float temperature; // logits are divided by it; 0: greedy. Must not be negative
    int32_t top_k;     // keep the k most likely; 0 (or less): all
    float top_p;       // keep the most likely until their probabilities reach p (Holtzman et al. 2020); 0 or ≥ 1: all
    float min_p;       // keep those at least p times as likely as the most likely (Nguyen et al. 2024); 0: all
    float typical_p; // keep those whose surprise is nearest the entropy until p (Meister et al. 2023); 0 or ≥ 1: all
    // Penalties on the tokens of the last penalty_last_n accepted ones (Keskar et al. 2019 for repeat).
    int32_t penalty_last_n;  // 0: 64; −1: all remembered
    float penalty_repeat;    // positive logits are divided, others multiplied by it; 0 or 1: off
    float penalty_frequency; // subtracted once per occurrence
    float penalty_presence;  // subtracted once
    // DRY ("don't repeat yourself", by pi6am): a token that would lengthen a repetition of the end of the history of L
    // tokens, L ≥ allowed, loses multiplier · base^(L − allowed). Repetitions do not reach over a breaker.
    float dry_multiplier;        // 0: off
    float dry_base;              // 0: 1.75
    int32_t dry_allowed_length;  // 0: 2
    int32_t dry_last_n;          // history looked at; 0: 64; −1: all remembered
    const int32_t *dry_breakers; // token ids, copied; NULL: none
    size_t n_dry_breakers;
    // Mirostat 2 (Basu et al. 2021): keeps the surprise of the text near tau.
    int mirostat;                     // 0: off; 2: on. Other versions are not supported
    float mirostat_tau;               // bits; 0: 5
    float mirostat_eta;               // learning rate; 0: 0.1
    const struct fm_logit_bias *bias; // copied; NULL: none
    size_t n_bias;
    int32_t max_history; // tokens remembered where a last_n is −1; 0: 32768
};

// temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, the rest off.
FM_API void fm_sampler_opts_defaults(struct fm_sampler_opts *opts);

// A sampler belongs to one thread at a time and to one text: it remembers the tokens accepted.
struct fm_sampler;

// All memory is taken here (about 20 bytes a vocabulary entry); no later call but clone allocates. opts NULL: greedy.
// Errors: FM_E_ARG names the option that is out of range; FM_E_NOMEM.
FM_API fm_status fm_sampler_new(int32_t n_vocab, const struct fm_sampler_opts *opts, struct fm_sampler **out,
                                struct fm_error *err);
FM_API void fm_sampler_free(struct fm_sampler *sampler); // NULL is fine
// The same options and state in a sampler of its own.
FM_API fm_status fm_sampler_clone(const struct fm_sampler *sampler, struct fm_sampler **out, struct fm_error *err);

// Chooses from logits [n_vocab], which are not changed. Does not remember the choice: accept does. Errors: FM_E_ARG
// when no logit is finite; the state is then as before.
FM_API fm_status fm_sampler_sample(struct fm_sampler *sampler, const float *logits, int32_t *token,
                                   struct fm_error *err);
// Remembers a token of the text, chosen or from the prompt. Tokens outside the vocabulary are ignored.
FM_API void fm_sampler_accept(struct fm_sampler *sampler, int32_t token);
// Forgets the history, starts the random numbers and mirostat again.
FM_API void fm_sampler_reset(struct fm_sampler *sampler);

struct fm_token_prob {
    int32_t token;
    float logit; // as the chain left it
    float p;     // fm_sampler_candidates: probability; fm_sampler_logprobs: natural logarithm of the probability
};

// What the last sample call chose from, after all filters, probabilities adding to 1; most likely first unless no
// filter was on. Valid until the next call. Greedy: the one token. *n is 0 before the first call.
FM_API const struct fm_token_prob *fm_sampler_candidates(const struct fm_sampler *sampler, size_t *n);

struct fm_logprobs {
    int32_t token;             // in: whose log-probability; −1: nobody's
    float chosen;              // out: of that token; −infinity where it has none
    int32_t n_top;             // in: how many of the most likely
    struct fm_token_prob *top; // out [n_top], most likely first; may be NULL when n_top is 0
};

// Log-probabilities under softmax(logits) as the model gave them, before any of the options. Changes no state but that
// fm_sampler_candidates is empty afterwards. Errors: FM_E_ARG for a token outside the vocabulary, n_top over n_vocab,
// or no finite logit. Where fewer than n_top logits are finite the rest has token −1.
FM_API fm_status fm_sampler_logprobs(struct fm_sampler *sampler, const float *logits, struct fm_logprobs *want,
                                     struct fm_error *err);

// The state (random numbers, mirostat, history; not the options) as bytes for a session file: little endian, the same
// on every machine. save writes at most `size` bytes to `bytes` and returns how many the state takes; bytes may be
// NULL.
FM_API size_t fm_sampler_save(const struct fm_sampler *sampler, void *bytes, size_t size);
// Errors: FM_E_FORMAT when the bytes are no state of a sampler with this vocabulary; the state is then as before. A
// history longer than this sampler remembers keeps its end.
FM_API fm_status fm_sampler_load(struct fm_sampler *sampler, const void *bytes, size_t size, struct fm_error *err);

#ifdef __cplusplus
}
#endif
#endif
