// SPDX-License-Identifier: MIT
// Models: immutable weights on a device, with the recipe (architecture and hyper-parameters) of their computation.
#ifndef FATHOM_MODEL_H
#define FATHOM_MODEL_H

#include <stdint.h>

#include "fathom/device.h"
#include "fathom/gguf.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_model;

enum { FM_ROPE_FROM_MODEL, FM_ROPE_NO_SCALING, FM_ROPE_LINEAR, FM_ROPE_NTK, FM_ROPE_YARN };

struct fm_model_opts {
    struct fm_device *device;     // required; outlives the model
    const char *const *overrides; // n_overrides metadata overrides "KEY=TYPE:VALUE", applied before anything is read
    int n_overrides;
    int rope_scaling;      // FM_ROPE_*; how positions beyond the trained context are made to fit
    double rope_scale;     // contexts become this many times longer than trained; 0: the model's own
    double rope_freq_base; // 0: the model's own
    int for_training; // 1: weights exactly as the file has them; such a model is trained, not run with an int8 cache
    void (*progress)(void *context, size_t done, size_t total); // bytes of weights; NULL: none. Any thread's caller
    void *progress_context;
};

struct fm_model_info {
    char arch[32];  // "llama"
    char name[128]; // general.name, or ""
    char type[16];  // most common weight type, "q4_1"
    int32_t n_layers, n_vocab, d_model, n_heads, n_kv_heads;
    int32_t n_ctx_train;   // tokens
    uint64_t n_params;     // elements of all weights
    uint64_t file_bytes;   // of tensor data in the file
    uint64_t weight_bytes; // on the device
};

// Opens a GGUF file and puts its weights on the device, each in the layout the device wants.
// Errors: those of fm_gguf_open; FM_E_UNSUPPORTED for an unknown architecture (named, with those known); FM_E_SHAPE and
// FM_E_NOT_FOUND name the tensor or key. Thread safe afterwards: a model is never changed.
FM_API fm_status fm_model_open(const char *path, const struct fm_model_opts *opts, struct fm_model **out,
                               struct fm_error *err);
// The same from an open file, which the model takes over on success.
FM_API fm_status fm_model_from_gguf(struct fm_gguf *gguf, const struct fm_model_opts *opts, struct fm_model **out,
                                    struct fm_error *err);
FM_API void fm_model_free(struct fm_model *model); // NULL is fine; after every batcher on it
FM_API void fm_model_get_info(const struct fm_model *model, struct fm_model_info *info);
FM_API const struct fm_gguf *fm_model_gguf(const struct fm_model *model); // metadata; the model's, lives as long

// Names of the architectures this build knows; NULL after the last.
FM_API const char *fm_model_arch_name(int i);

#ifdef __cplusplus
}
#endif
#endif
