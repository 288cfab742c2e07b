// SPDX-License-Identifier: MIT
// Opening adapters and giving them names.
#include "cli_adapters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"

void fm__cli_adapter_defaults(struct fm_cli_adapter_args *args)
{
    args->plain = (struct fm_cli_list){args->items, FM_CLI_MAX_ADAPTERS, 0};
    args->scaled = (struct fm_cli_list){args->scaled_items, FM_CLI_MAX_ADAPTERS, 0};
}

size_t fm__cli_adapter_opts(struct fm_cli_adapter_args *args, struct fm_cli_opt out[FM_CLI_ADAPTER_OPTS])
{
    const struct fm_cli_opt opts[] = {
        {.names = "--adapter,--lora",
         .type = FM_CLI_STRS,
         .arg = "PATH",
         .out = &args->plain,
         .help = "run with this adapter: a GGUF file or PEFT's folder; may be repeated, all apply together"},
        {.names = "--adapter-scaled,--lora-scaled",
         .type = FM_CLI_STRS,
         .arg = "PATH:S",
         .out = &args->scaled,
         .help = "the same, its change times S"},
    };
    memcpy(out, opts, sizeof opts);
    return FM_CLI_N(opts);
}

// "dir/tone.gguf" and "dir/tone/" are "tone".
static char *name_of(const char *path)
{
    size_t end = strlen(path), begin;
    while (end > 1 && path[end - 1] == '/') end--;
    for (begin = end; begin > 0 && path[begin - 1] != '/';) begin--;
    if (end - begin > 5 && !memcmp(path + end - 5, ".gguf", 5)) end -= 5;
    return fm__strndup(path + begin, end - begin);
}

static fm_status add(struct fm_cli_adapters *a, const char *path, float scale, const struct fm_model *model,
                     struct fm_error *err)
{
    if (a->n == FM_CLI_MAX_ADAPTERS) return fm__fail(err, FM_E_LIMIT, "more than %d adapters", FM_CLI_MAX_ADAPTERS);
    a->names[a->n] = name_of(path);
    a->scales[a->n] = scale;
    if (!a->names[a->n]) return fm__fail_nomem(err, "adapter", strlen(path));
    FM_TRY(fm_adapter_open(path, fm_model_gguf(model), &a->items[a->n], err));
    a->n++;
    return FM_OK;
}

// "PATH:S", cut at its last colon.
static fm_status add_scaled(struct fm_cli_adapters *a, char *item, const struct fm_model *model, struct fm_error *err)
{
    char *colon = strrchr(item, ':'), *end = NULL;
    const float scale = colon ? strtof(colon + 1, &end) : 0;
    if (!colon || colon == item || end == colon + 1 || *end || !isfinite(scale))
        return fm__fail(err, FM_E_ARG, "--adapter-scaled %s: want PATH:NUMBER", item);
    *colon = '\0';
    return add(a, item, scale, model, err);
}

// One value of an option: a path as it is, or several with commas between, as llama.cpp has them.
static fm_status add_all(struct fm_cli_adapters *a, const char *value, bool scaled, const struct fm_model *model,
                         struct fm_error *err)
{
    if (!scaled && access(value, F_OK) == 0) return add(a, value, 1, model, err);
    char *copy = fm__strdup(value), *next = copy;
    fm_status status = copy ? FM_OK : fm__fail_nomem(err, "adapter", strlen(value));
    while (status == FM_OK && next) {
        char *item = next, *comma = strchr(next, ',');
        if (comma) *comma = '\0';
        next = comma ? comma + 1 : NULL;
        status = scaled ? add_scaled(a, item, model, err) : add(a, item, 1, model, err);
    }
    fm__free(copy);
    return status;
}

// Choice 0: all together; 1 …: each alone, where there are several.
static fm_status make_set(struct fm_cli_adapters *a, const struct fm_model *model, struct fm_error *err)
{
    struct fm_adapter_use uses[FM_CLI_MAX_ADAPTERS];
    struct fm_adapter_choice choices[FM_CLI_MAX_ADAPTERS + 1] = {{uses, a->n}};
    for (int i = 0; i < a->n; i++) {
        uses[i] = (struct fm_adapter_use){a->items[i], a->scales[i]};
        choices[i + 1] = (struct fm_adapter_choice){&uses[i], 1};
    }
    return fm_adapter_set_new(model, choices, a->n > 1 ? a->n + 1 : 1, &a->set, err);
}

fm_status fm__cli_adapters_open(struct fm_cli_adapters *a, const struct fm_cli_adapter_args *args,
                                const struct fm_model *model, struct fm_error *err)
{
    for (size_t i = 0; i < args->plain.n; i++) FM_TRY(add_all(a, args->items[i], false, model, err));
    for (size_t i = 0; i < args->scaled.n; i++) FM_TRY(add_all(a, args->scaled_items[i], true, model, err));
    return a->n ? make_set(a, model, err) : FM_OK;
}

void fm__cli_adapters_close(struct fm_cli_adapters *a)
{
    fm_adapter_set_free(a->set);
    for (int i = 0; i < FM_CLI_MAX_ADAPTERS; i++) { // one that failed to open has a name already
        fm_adapter_free(a->items[i]);
        fm__free(a->names[i]);
    }
    *a = (struct fm_cli_adapters){0};
}

fm_status fm__cli_adapters_find(const struct fm_cli_adapters *a, const char *name, int *choice, struct fm_error *err)
{
    char known[160] = "";
    int found = -1;
    for (int i = 0; i < a->n; i++) {
        const size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", a->names[i]);
        if (strcmp(a->names[i], name)) continue;
        if (found >= 0) return fm__fail(err, FM_E_ARG, "adapter \"%.60s\": two have this name", name);
        found = i;
    }
    if (found < 0)
        return fm__fail(err, FM_E_NOT_FOUND, "adapter \"%.60s\": not given, want one of: %s", name,
                        a->n ? known : "(none; --adapter PATH)");
    *choice = a->n > 1 ? found + 1 : 0;
    return FM_OK;
}
