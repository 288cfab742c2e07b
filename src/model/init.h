// SPDX-License-Identifier: MIT
// New models: metadata in, a file with random weights out.
#ifndef FM_MODEL_INIT_H
#define FM_MODEL_INIT_H

#include "fathom/gguf.h"

struct fm__init_opts {
    uint64_t seed;
    double deviation; // of matrices; 0: 0.02 (GPT-2's). Those that write to the residual stream have it over sqrt(2 L)
    bool untied;      // an output matrix of its own
};

// Writes a model of the architecture and sizes that `meta` names (with its tokenizer and all other metadata; its
// tensors are not looked at), f32, as the architecture declares it. Each tensor's values depend on seed and name alone.
// Errors: FM_E_UNSUPPORTED, FM_E_NOT_FOUND, FM_E_FORMAT as fm_model_from_gguf has them; those of writing. All or
// nothing.
fm_status fm__model_init(const char *path, const struct fm_gguf *meta, const struct fm__init_opts *opts,
                         struct fm_error *err);

#endif
