// SPDX-License-Identifier: MIT
// What every command that runs a model does first: options of model and run, then device, model, tokenizer, batcher.
#ifndef FM_APP_CLI_ENGINE_H
#define FM_APP_CLI_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "cli_adapters.h"
#include "cli_opts.h"
#include "fathom/device.h"
#include "fathom/model.h"
#include "fathom/session.h"
#include "fathom/tokenizer.h"

enum { FM_CLI_MAX_OVERRIDES = 32, FM_CLI_MODEL_OPTS = 10, FM_CLI_RUN_OPTS = 17 };

// Values of the options. Zeroed by fm__cli_engine_defaults; a command may change a default before parsing.
struct fm_cli_engine_args {
    const char *model; // NULL: the default model of the catalogue
    const char *override_items[FM_CLI_MAX_OVERRIDES];
    struct fm_cli_list overrides;
    int rope_scaling;
    double rope_scale, rope_freq_base;
    bool mlock, mmap;
    int threads, n_ctx, n_batch, n_ubatch, n_parallel;
    int kv_k, kv_v;  // index into the choices; -1: the model's default
    int activations; // likewise; 0: the device's
    int64_t kv_tokens;
    bool for_training; // the model is opened to be trained: weights exactly as the file has them
    const char *device, *ignored;
    struct fm_cli_adapter_args adapters;
};

void fm__cli_engine_defaults(struct fm_cli_engine_args *args);

// The shared option tables with their targets in `args`: fill, then name them as groups of the command's spec.
// Each returns how many it wrote.
size_t fm__cli_model_opts(struct fm_cli_engine_args *args, struct fm_cli_opt out[FM_CLI_MODEL_OPTS]);
size_t fm__cli_run_opts(struct fm_cli_engine_args *args, struct fm_cli_opt out[FM_CLI_RUN_OPTS]);

struct fm_cli_engine {
    char *path; // of the model file
    struct fm_device *device;
    struct fm_model *model;
    struct fm_tokenizer *tok;
    struct fm_cli_adapters adapters;
    struct fm_batcher *batcher;
    struct fm_model_info info;
    struct fm_device_props props;
    int n_ctx; // of a session
    double load_seconds;
};

// The parts, each after the one before. n_sessions 0: args->n_parallel. On failure the caller still closes.
fm_status fm__cli_engine_open(struct fm_cli_engine *e, const struct fm_cli_engine_args *args, struct fm_error *err);
fm_status fm__cli_engine_batcher(struct fm_cli_engine *e, const struct fm_cli_engine_args *args, int n_sessions,
                                 struct fm_error *err);
void fm__cli_engine_close(struct fm_cli_engine *e); // a zeroed one is fine

// Only the file's metadata and its tokenizer (tokenize, inspect).
fm_status fm__cli_open_vocab(const struct fm_cli_engine_args *args, char **path, struct fm_gguf **gguf,
                             struct fm_tokenizer **tok, struct fm_error *err);

const char *fm__cli_kv_name(const struct fm_cli_engine_args *args); // "int8"; NULL: the model's default

// Ids of a text. *ids malloc'ed, the caller frees.
fm_status fm__cli_encode(const struct fm_tokenizer *tok, const struct fm_encode_args *args, int32_t **ids, int *n_ids,
                         struct fm_error *err);

#endif
