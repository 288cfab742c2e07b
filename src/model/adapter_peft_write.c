// SPDX-License-Identifier: MIT
// Writing PEFT's folder: the weights first, the configuration last, so that a folder with a configuration is whole.
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "fathom/safetensors.h"
#include "model/adapter_file.h"
#include "model/hf_names.h"

struct write {
    const struct fm_adapter *adapter;
    const struct fm_gguf *base;
    const char *arch;
    struct fm_safetensors_writer *w;
};

static struct fm_str str(const char *text)
{
    return (struct fm_str){text, strlen(text)};
}

// "model.layers.0.self_attn.q_proj" of a target.
static fm_status module_of(const struct write *w, const char *tensor, char out[FM__HF_NAME], struct fm_error *err)
{
    if (!fm__hf_from_gguf(w->arch, tensor, out))
        return fm__fail(err, FM_E_UNSUPPORTED, "adapter: %s: it has no name in Hugging Face's %s", tensor, w->arch);
    char *end = strrchr(out, '.'); // ".weight" or ".bias"
    *end = '\0';
    return FM_OK;
}

// --- the weights ---

static fm_status declare(const struct write *w, const char *name, const char *end, int64_t rows, int64_t columns,
                         struct fm_error *err)
{
    char full[FM__HF_NAME + 64];
    struct fm_tensor view = {.dtype = FM_F32, .rank = columns ? 2 : 1, .dims = {rows, columns}};
    snprintf(full, sizeof full, "base_model.model.%s%s", name, end);
    return fm_safetensors_writer_tensor(w->w, str(full), &view, err);
}

static fm_status declare_target(const struct write *w, const struct fm_adapter_target *t, struct fm_error *err)
{
    char module[FM__HF_NAME];
    FM_TRY(module_of(w, t->name, module, err));
    if (fm__adapter_is_embedding(t->name)) {
        FM_TRY(declare(w, module, ".lora_embedding_A", t->r, t->n_out, err));
        return declare(w, module, ".lora_embedding_B", t->n_in, t->r, err);
    }
    FM_TRY(declare(w, module, ".lora_A.weight", t->r, t->n_in, err));
    FM_TRY(declare(w, module, ".lora_B.weight", t->n_out, t->r, err));
    return t->magnitude ? declare(w, module, ".lora_magnitude_vector", t->n_out, 0, err) : FM_OK;
}

static fm_status declare_tensor(const struct write *w, const struct fm_adapter_tensor *t, struct fm_error *err)
{
    char name[FM__HF_NAME];
    struct fm__hf_layout layout;
    if (!fm__hf_from_gguf(w->arch, t->name, name))
        return fm__fail(err, FM_E_UNSUPPORTED, "adapter: %s: it has no name in Hugging Face's %s", t->name, w->arch);
    FM_TRY(fm__hf_layout(w->base, t->name, &layout, err));
    const bool turned = layout.transposed && t->rank == 2;
    return declare(w, name, "", t->dims[turned ? 1 : 0], t->rank < 2 ? 0 : t->dims[turned ? 0 : 1], err);
}

static fm_status declare_all(const struct write *w, struct fm_error *err)
{
    const struct fm_adapter *adapter = w->adapter;
    FM_TRY(fm_safetensors_writer_metadata(w->w, str("format"), str("pt"), err));
    if (adapter->base_hash[0])
        FM_TRY(fm_safetensors_writer_metadata(w->w, str("fathom.base_hash"), str(adapter->base_hash), err));
    if (adapter->head.labels) {
        json_t *list = json_array();
        for (int64_t i = 0; i < adapter->head.n_classes; i++)
            json_array_append_new(list, json_string(adapter->head.labels[i]));
        const bool all = json_array_size(list) == (size_t)adapter->head.n_classes;
        char *text = all ? json_dumps(list, JSON_COMPACT) : NULL;
        json_decref(list);
        if (!text) return fm__fail(err, FM_E_ARG, "adapter: labels that are not UTF-8, or no memory for them");
        fm_status status = fm_safetensors_writer_metadata(w->w, str("fathom.labels"), str(text), err);
        fm__free(text);
        FM_TRY(status);
    }
    for (int i = 0; i < adapter->n_targets; i++) FM_TRY(declare_target(w, &adapter->targets[i], err));
    for (int i = 0; i < adapter->n_tensors; i++) FM_TRY(declare_tensor(w, &adapter->tensors[i], err));
    if (!adapter->head.n_classes) return FM_OK;
    FM_TRY(declare(w, "score", ".weight", adapter->head.n_classes, adapter->head.n_in, err));
    return adapter->head.bias ? declare(w, "score", ".bias", adapter->head.n_classes, 0, err) : FM_OK;
}

static fm_status put(const struct write *w, const float *values, int64_t n, struct fm_error *err)
{
    return fm_safetensors_writer_data(w->w, values, (size_t)n * sizeof *values, err);
}

// Rows [n_rows, n] in Hugging Face's order.
static fm_status put_rows(const struct write *w, const char *name, int64_t n_rows, int64_t n, const float *values,
                          struct fm_error *err)
{
    const struct fm__adapter_rows rows = {name, n_rows, n, false};
    float *to = fm__malloc((size_t)(n_rows * n) * sizeof *to);
    if (!to) return fm__fail_nomem(err, name, (size_t)(n_rows * n) * sizeof *to);
    fm_status status = fm__adapter_rows(w->base, &rows, values, to, err);
    if (status == FM_OK) status = put(w, to, n_rows * n, err);
    fm__free(to);
    return status;
}

static fm_status put_turned(const struct write *w, const float *values, int64_t n_rows, int64_t n, struct fm_error *err)
{
    float *to = fm__malloc((size_t)(n_rows * n) * sizeof *to);
    if (!to) return fm__fail_nomem(err, "adapter", (size_t)(n_rows * n) * sizeof *to);
    fm__adapter_turn(values, n_rows, n, to);
    fm_status status = put(w, to, n_rows * n, err);
    fm__free(to);
    return status;
}

static fm_status put_target(const struct write *w, const struct fm_adapter_target *t, struct fm_error *err)
{
    if (fm__adapter_is_embedding(t->name)) {
        FM_TRY(put_turned(w, t->b, t->n_out, t->r, err));
        return put_turned(w, t->a, t->r, t->n_in, err);
    }
    FM_TRY(put(w, t->a, t->r * t->n_in, err));
    FM_TRY(put_rows(w, t->name, t->n_out, t->r, t->b, err));
    return t->magnitude ? put_rows(w, t->name, t->n_out, 1, t->magnitude, err) : FM_OK;
}

static fm_status put_tensor(const struct write *w, const struct fm_adapter_tensor *t, struct fm_error *err)
{
    struct fm__hf_layout layout;
    const int64_t columns = t->rank == 2 ? t->dims[1] : 1, n = t->dims[0] * columns;
    FM_TRY(fm__hf_layout(w->base, t->name, &layout, err));
    if (layout.transposed && t->rank == 2) return put_turned(w, t->data, t->dims[0], columns, err);
    float *values = fm__malloc((size_t)n * sizeof *values);
    if (!values) return fm__fail_nomem(err, t->name, (size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = t->data[i] - layout.value_offset;
    fm_status status = put_rows(w, t->name, t->dims[0], columns, values, err);
    fm__free(values);
    return status;
}

static fm_status put_all(const struct write *w, struct fm_error *err)
{
    const struct fm_adapter *adapter = w->adapter;
    const struct fm_adapter_head *head = &adapter->head;
    for (int i = 0; i < adapter->n_targets; i++) FM_TRY(put_target(w, &adapter->targets[i], err));
    for (int i = 0; i < adapter->n_tensors; i++) FM_TRY(put_tensor(w, &adapter->tensors[i], err));
    if (head->n_classes) FM_TRY(put(w, head->weight, head->n_classes * head->n_in, err));
    if (head->n_classes && head->bias) FM_TRY(put(w, head->bias, head->n_classes, err));
    return fm_safetensors_writer_finish(w->w, err);
}

static fm_status write_weights(struct write *w, const char *path, struct fm_error *err)
{
    fm_status status = fm_safetensors_writer_new(path, &w->w, err);
    if (status == FM_OK) status = declare_all(w, err);
    if (status == FM_OK) status = put_all(w, err);
    fm_safetensors_writer_free(w->w);
    return status;
}

// --- the configuration ---

// Rank and alpha that most targets have: the file's own; the others stand in rank_pattern and alpha_pattern.
static const struct fm_adapter_target *commonest(const struct fm_adapter *adapter)
{
    const struct fm_adapter_target *best = NULL;
    int most = 0;
    for (int i = 0; i < adapter->n_targets; i++) {
        int n = 0;
        for (int k = 0; k < adapter->n_targets; k++)
            n += adapter->targets[k].r == adapter->targets[i].r &&
                 adapter->targets[k].alpha == adapter->targets[i].alpha;
        if (n > most) most = n, best = &adapter->targets[i];
    }
    return best;
}

static fm_status put_targets(const struct write *w, json_t *config, struct fm_error *err)
{
    const struct fm_adapter_target *common = commonest(w->adapter);
    json_t *modules = json_array(), *ranks = json_object(), *alphas = json_object();
    char module[FM__HF_NAME];
    int missing = json_object_set_new(config, "r", json_integer(common ? common->r : 8));
    missing |= json_object_set_new(config, "lora_alpha", json_real(common ? (double)common->alpha : 8));
    missing |= json_object_set_new(config, "target_modules", modules);
    missing |= json_object_set_new(config, "rank_pattern", ranks);
    missing |= json_object_set_new(config, "alpha_pattern", alphas);
    for (int i = 0; common && !missing && i < w->adapter->n_targets; i++) {
        const struct fm_adapter_target *t = &w->adapter->targets[i];
        FM_TRY(module_of(w, t->name, module, err));
        missing |= json_array_append_new(modules, json_string(module));
        if (t->r != common->r) missing |= json_object_set_new(ranks, module, json_integer(t->r));
        if (t->alpha != common->alpha) missing |= json_object_set_new(alphas, module, json_real((double)t->alpha));
    }
    return missing ? fm__fail_nomem(err, "adapter_config.json", 0) : FM_OK;
}

static fm_status put_saved(const struct write *w, json_t *config, struct fm_error *err)
{
    json_t *saved = json_array();
    char module[FM__HF_NAME];
    int missing = json_object_set_new(config, "modules_to_save", saved);
    for (int i = 0; !missing && i < w->adapter->n_tensors; i++) {
        FM_TRY(module_of(w, w->adapter->tensors[i].name, module, err));
        bool there = false; // a weight and its bias are one module
        for (size_t k = 0; k < json_array_size(saved); k++)
            there |= !strcmp(json_string_value(json_array_get(saved, k)), module);
        if (!there) missing |= json_array_append_new(saved, json_string(module));
    }
    if (w->adapter->head.n_classes) missing |= json_array_append_new(saved, json_string("score"));
    if (!missing && !json_array_size(saved)) missing = json_object_set_new(config, "modules_to_save", json_null());
    return missing ? fm__fail_nomem(err, "adapter_config.json", 0) : FM_OK;
}

static bool uses_dora(const struct fm_adapter *adapter)
{
    for (int i = 0; i < adapter->n_targets; i++)
        if (adapter->targets[i].magnitude) return true;
    return false;
}

static fm_status make_config(const struct write *w, json_t *config, struct fm_error *err)
{
    const struct fm_adapter *adapter = w->adapter;
    json_t *name = json_string(adapter->base_name);
    const struct {
        const char *key;
        json_t *value;
    } settings[] = {{"peft_type", json_string("LORA")},
                    {"task_type", json_string(adapter->head.n_classes ? "SEQ_CLS" : "CAUSAL_LM")},
                    {"base_model_name_or_path", name ? name : json_string("")}, // "": not UTF-8
                    {"bias", json_string("none")},
                    {"fan_in_fan_out", json_boolean(!strcmp(w->arch, "gpt2"))}, // of Conv1D
                    {"inference_mode", json_true()},
                    {"init_lora_weights", json_true()},
                    {"lora_dropout", json_real((double)adapter->dropout)},
                    {"use_rslora", json_boolean(adapter->rs_lora)},
                    {"use_dora", json_boolean(uses_dora(adapter))}};
    int missing = 0;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        missing |= json_object_set_new(config, settings[i].key, settings[i].value);
    if (missing) return fm__fail_nomem(err, "adapter_config.json", 0);
    FM_TRY(put_targets(w, config, err));
    return put_saved(w, config, err);
}

static fm_status write_config(const struct write *w, const char *path, struct fm_error *err)
{
    json_t *config = json_object();
    char *text = NULL;
    fm_status status = make_config(w, config, err);
    if (status == FM_OK) text = json_dumps(config, JSON_INDENT(2));
    if (status == FM_OK && !text) status = fm__fail_nomem(err, "adapter_config.json", 0);
    if (status == FM_OK) status = fm__file_write_all(path, text, strlen(text), err);
    fm__free(text);
    json_decref(config);
    return status;
}

fm_status fm_adapter_write_peft(const struct fm_adapter *adapter, const struct fm_gguf *base, const char *dir,
                                struct fm_error *err)
{
    struct write w = {.adapter = adapter, .base = base};
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir) >= sizeof path)
        return fm__fail(err, FM_E_ARG, "adapter: a path of %zu bytes, want at most 4000", strlen(dir));
    FM_TRY(fm_adapter_check(adapter, base, err));
    FM_TRY(fm__hf_arch(base, &w.arch, err));
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return fm__fail(err, FM_E_IO, "%s: cannot make the folder: %s", dir, strerror(errno));
    FM_TRY(write_weights(&w, path, err));
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    return write_config(&w, path, err);
}
