// SPDX-License-Identifier: MIT
// --adapter and --adapter-scaled (llama.cpp's --lora, --lora-scaled): the adapters that a command runs its model with.
// All that are given apply together, to every session, as choice 0 of the set; each also is a choice of its own, for
// prompts of a JSONL file that name one.
#ifndef FM_APP_CLI_ADAPTERS_H
#define FM_APP_CLI_ADAPTERS_H

#include "cli_opts.h"
#include "fathom/adapter.h"
#include "fathom/model.h"

enum { FM_CLI_MAX_ADAPTERS = 32, FM_CLI_ADAPTER_OPTS = 2 };

// Values of the options.
struct fm_cli_adapter_args {
    const char *items[FM_CLI_MAX_ADAPTERS], *scaled_items[FM_CLI_MAX_ADAPTERS];
    struct fm_cli_list plain, scaled;
};
void fm__cli_adapter_defaults(struct fm_cli_adapter_args *args);
size_t fm__cli_adapter_opts(struct fm_cli_adapter_args *args, struct fm_cli_opt out[FM_CLI_ADAPTER_OPTS]);

struct fm_cli_adapters {
    struct fm_adapter *items[FM_CLI_MAX_ADAPTERS];
    char *names[FM_CLI_MAX_ADAPTERS]; // of file or folder, without its ending
    float scales[FM_CLI_MAX_ADAPTERS];
    int n;
    struct fm_adapter_set *set; // NULL: no adapters
};

// Opens them all. On failure the caller still closes.
fm_status fm__cli_adapters_open(struct fm_cli_adapters *a, const struct fm_cli_adapter_args *args,
                                const struct fm_model *model, struct fm_error *err);
void fm__cli_adapters_close(struct fm_cli_adapters *a); // a zeroed one is fine

// The choice of this name. FM_E_NOT_FOUND says which names there are; FM_E_ARG for a name that two have.
fm_status fm__cli_adapters_find(const struct fm_cli_adapters *a, const char *name, int *choice, struct fm_error *err);

#endif
