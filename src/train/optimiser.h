// SPDX-License-Identifier: MIT
// Optimisers over states: a parameter is the state NAME (f32), its gradient, summed over micro-batches, "grad.NAME";
// moments are states of their own: "m.NAME", "v.NAME", with 8-bit moments also "s.NAME" (scales), with SGD and Muon
// only "m.NAME". They begin as zeros and belong into checkpoints. Of several processes (states->comm) each moves the
// parameters that it owns and has their moments alone; the norm is that of all, the same everywhere.
#ifndef FM_TRAIN_OPTIMISER_H
#define FM_TRAIN_OPTIMISER_H

#include "train/states.h"

enum fm__optimiser_kind { FM__OPTIMISER_ADAMW, FM__OPTIMISER_ADAMW8, FM__OPTIMISER_SGD, FM__OPTIMISER_MUON };

// Zero means the default in brackets.
struct fm__optimiser_opts {
    enum fm__optimiser_kind kind; // (AdamW)
    double beta1, beta2;          // of AdamW (0.9, 0.999)
    double eps;                   // (1e-8)
    double momentum;              // of SGD (0.9) and Muon (0.95); negative: none
    double weight_decay;          // 0 is none
    int plain_momentum;           // 1: not Nesterov's (SGD, Muon)
    int decay_all;                // 1: also norms, biases, embeddings
    int bf16;                     // 1: Muon's products take rows of bf16
};

// "adamw", "adamw8", "sgd" or "muon".
fm_status fm__optimiser_parse(const char *name, enum fm__optimiser_kind *kind, struct fm_error *err);
const char *fm__optimiser_name(enum fm__optimiser_kind kind);

struct fm__optimiser;

// For the first n_params states and their "grad." states, which must be there; adds the moments. `states` outlives it.
fm_status fm__optimiser_new(const struct fm__optimiser_opts *opts, struct fm__states *states, int n_params,
                            struct fm__optimiser **out, struct fm_error *err);
void fm__optimiser_free(struct fm__optimiser *o); // NULL is fine

// The norm of all gradients together: squares summed in double, in the order of the parameters. Not finite where a
// gradient is not.
fm_status fm__optimiser_norm(struct fm__optimiser *o, double *norm, struct fm_error *err);
// The first parameter whose gradient was not finite in the last fm__optimiser_norm; NULL: all were. Owned by `states`.
const char *fm__optimiser_bad_gradient(const struct fm__optimiser *o);
// Step 1, 2, …: moves the parameters by gradients times `scale`.
fm_status fm__optimiser_update(struct fm__optimiser *o, int64_t step, double rate, double scale, struct fm_error *err);

#endif
