// SPDX-License-Identifier: MIT
// Reading adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors, whose tensors are
//   base_model.model.MODULE.lora_A.weight [r, K]       .lora_B.weight [O, r]       .lora_magnitude_vector [O]
//   base_model.model.MODULE.lora_embedding_A [r, V]    .lora_embedding_B [D, r]    (our b = A^T, a = B^T)
//   base_model.model.MODULE.weight, .bias              a whole tensor; MODULE "score" or "classifier": the head
// Source of names and settings: github.com/huggingface/peft, src/peft/tuners/lora and utils/save_and_load.py.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/quote.h"
#include "fathom/safetensors.h"
#include "model/adapter_file.h"
#include "model/hf_names.h"
#include "tensor/blocks.h"

enum { MAX_CONFIG = 1 << 20, MAX_NAME = 512 };

struct peft {
    const json_t *config;
    const struct fm_safetensors *file;
    const struct fm_gguf *base;
    const char *arch;
    struct fm_adapter *adapter;
    float alpha;
};

// --- the configuration ---

// Settings that change the mathematics to something that is not done here: absent, null, false, empty and the value
// given are fine.
static fm_status check_settings(const json_t *config, struct fm_error *err)
{
    static const struct {
        const char *key, *fine;
    } settings[] = {{"bias", "none"},
                    {"lora_bias", NULL},
                    {"use_qalora", NULL},
                    {"layer_replication", NULL},
                    {"trainable_token_indices", NULL},
                    {"target_parameters", NULL},
                    {"alora_invocation_tokens", NULL},
                    {"megatron_core_module", NULL}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const json_t *v = json_object_get(config, settings[i].key);
        const char *text = json_string_value(v);
        if (!v || json_is_null(v) || json_is_false(v) || json_array_size(v) + json_object_size(v) == 0) {
            if (!json_is_true(v) && !json_is_number(v) && !text) continue;
        }
        if (text && settings[i].fine && !strcmp(text, settings[i].fine)) continue;
        return fm__fail(err, FM_E_UNSUPPORTED, "adapter_config.json: \"%s\" is set, want %s", settings[i].key,
                        settings[i].fine ? settings[i].fine : "none");
    }
    return FM_OK;
}

static fm_status check_config(struct peft *p, struct fm_error *err)
{
    const char *type = json_string_value(json_object_get(p->config, "peft_type"));
    const json_t *alpha = json_object_get(p->config, "lora_alpha");
    if (!json_is_object(p->config)) return fm__fail(err, FM_E_FORMAT, "adapter_config.json: not an object");
    if (!type || strcmp(type, "LORA")) {
        const struct fm__quoted shown = fm__quote(type ? type : "", type ? strlen(type) : 0);
        return fm__fail(err, FM_E_UNSUPPORTED, "adapter_config.json: peft_type \"%s\", want \"LORA\"", shown.text);
    }
    if (!json_is_number(alpha) || !isfinite((float)json_number_value(alpha)))
        return fm__fail(err, FM_E_FORMAT, "adapter_config.json: lora_alpha is missing or not a number");
    p->alpha = (float)json_number_value(alpha);
    p->adapter->rs_lora = json_is_true(json_object_get(p->config, "use_rslora"));
    p->adapter->dropout = (float)json_number_value(json_object_get(p->config, "lora_dropout"));
    return check_settings(p->config, err);
}

// alpha_pattern: {"MODULE": alpha}, where MODULE is a whole name or its end. PEFT takes it for a regular expression;
// names are what its own users and tools put there.
static fm_status alpha_of(const struct peft *p, const char *module, float *alpha, struct fm_error *err)
{
    const char *key;
    json_t *value;
    const size_t n = strlen(module);
    *alpha = p->alpha;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(p->config, "alpha_pattern"), key, value)
    {
        const size_t length = strlen(key);
        if (strpbrk(key, "*+?[](){}|^$\\"))
            return fm__fail(err, FM_E_UNSUPPORTED,
                            "adapter_config.json: alpha_pattern with a regular expression, want"
                            " names of modules");
        if (!json_is_number(value))
            return fm__fail(err, FM_E_FORMAT, "adapter_config.json: alpha_pattern of %s is not a number", module);
        if (length > n || strcmp(module + n - length, key) || (length < n && module[n - length - 1] != '.')) continue;
        *alpha = (float)json_number_value(value);
        return FM_OK;
    }
    return FM_OK;
}

// --- tensors ---

static fm_status read_tensor(const struct peft *p, const struct fm_safetensors_tensor *t, float **out,
                             struct fm_error *err)
{
    const fm_dtype type = t->view.dtype;
    const int64_t n = fm_tensor_elements(&t->view);
    size_t bytes;
    *out = NULL;
    if ((type != FM_F32 && type != FM_F16 && type != FM_BF16) || n < 1)
        return fm__fail(err, FM_E_UNSUPPORTED, "adapter: %s: %lld values of %s, want f32, f16 or bf16", t->name.p,
                        (long long)n, fm_dtype_info(type)->name);
    if (!fm__mul_size((size_t)n, sizeof(float), &bytes)) return fm__fail_nomem(err, t->name.p, SIZE_MAX);
    void *raw = fm__malloc(t->bytes);
    float *values = fm__malloc(bytes);
    fm_status status =
        raw && values ? fm_safetensors_read(p->file, t, 0, raw, t->bytes, err) : fm__fail_nomem(err, t->name.p, bytes);
    if (status == FM_OK) fm__dequantise_row(type, raw, n, values);
    fm__free(raw);
    if (status == FM_OK)
        *out = values;
    else
        fm__free(values);
    return status;
}

// The tensor of "base_model.model." MODULE end; NULL: none.
static const struct fm_safetensors_tensor *find(const struct peft *p, const char *module, const char *end)
{
    char name[MAX_NAME + 64];
    snprintf(name, sizeof name, "base_model.model.%s%s", module, end);
    return fm_safetensors_find_tensor(p->file, name);
}

static fm_status gguf_name(const struct peft *p, const char *module, const char *end, char out[FM__HF_NAME],
                           struct fm_error *err)
{
    char name[MAX_NAME + 16];
    snprintf(name, sizeof name, "%s%s", module, end);
    if (fm__hf_to_gguf(p->arch, name, out)) return FM_OK;
    return fm__fail(err, FM_E_NOT_FOUND, "adapter: module %s: a %s model has none of this name",
                    fm__quote(module, strlen(module)).text, p->arch);
}

void fm__adapter_turn(const float *from, int64_t n_rows, int64_t n_columns, float *to)
{
    for (int64_t row = 0; row < n_rows; row++)
        for (int64_t column = 0; column < n_columns; column++)
            to[column * n_rows + row] = from[row * n_columns + column];
}

fm_status fm__adapter_rows(const struct fm_gguf *base, const struct fm__adapter_rows *rows, const float *from,
                           float *to, struct fm_error *err)
{
    struct fm__hf_layout layout;
    FM_TRY(fm__hf_layout(base, rows->name, &layout, err));
    const struct fm__hf_rows order = {rows->n_rows, rows->n, layout.head_rows};
    if (layout.head_rows && (layout.head_rows % 2 || rows->n_rows % layout.head_rows))
        return fm__fail(err, FM_E_SHAPE, "adapter: %s: %lld rows, want whole heads of %lld", rows->name,
                        (long long)rows->n_rows, (long long)layout.head_rows);
    if (!layout.head_rows)
        memcpy(to, from, (size_t)(rows->n_rows * rows->n) * sizeof *to);
    else
        (rows->to_gguf ? fm__hf_rows_to_gguf : fm__hf_rows_from_gguf)(&order, from, to);
    return FM_OK;
}

// Puts rows of Hugging Face's order into the file's, in place of the old.
static fm_status reorder(const struct peft *p, const char *tensor, int64_t n_rows, int64_t n, float **values,
                         struct fm_error *err)
{
    const struct fm__adapter_rows rows = {tensor, n_rows, n, true};
    float *to = fm__malloc((size_t)(n_rows * n) * sizeof *to);
    if (!to) return fm__fail_nomem(err, tensor, (size_t)(n_rows * n) * sizeof *to);
    fm_status status = fm__adapter_rows(p->base, &rows, *values, to, err);
    if (status != FM_OK) {
        fm__free(to);
        return status;
    }
    fm__free(*values);
    *values = to;
    return FM_OK;
}

// The two matrices of a pair as they lie in the file, with their shapes.
struct pair {
    const char *module;
    char tensor[FM__HF_NAME];
    const struct fm_safetensors_tensor *a, *b, *magnitude;
    struct fm_adapter_target target;
};

static fm_status check_pair(const struct peft *p, const struct pair *pair, struct fm_error *err)
{
    const struct fm_tensor *a = &pair->a->view, *b = pair->b ? &pair->b->view : NULL;
    const struct fm_tensor *m = pair->magnitude ? &pair->magnitude->view : NULL;
    if (!b) return fm__fail(err, FM_E_FORMAT, "adapter: %s: its lora_B is missing", pair->a->name.p);
    if (a->rank != 2 || b->rank != 2 || a->dims[0] != b->dims[1])
        return fm__fail(err, FM_E_SHAPE, "adapter: %s: A [%lld, %lld] and B [%lld, %lld], want [r, K] and [O, r]",
                        pair->module, (long long)a->dims[0], (long long)a->dims[1], (long long)b->dims[0],
                        (long long)b->dims[1]);
    if (m && (fm_tensor_elements(m) != b->dims[0] || fm__adapter_is_embedding(pair->tensor)))
        return fm__fail(err, FM_E_SHAPE, "adapter: %s: %lld magnitudes, want %lld of a product's outputs", pair->module,
                        (long long)fm_tensor_elements(m), (long long)b->dims[0]);
    if (!m && json_is_true(json_object_get(p->config, "use_dora")))
        return fm__fail(err, FM_E_FORMAT, "adapter: %s: its lora_magnitude_vector is missing", pair->module);
    return FM_OK;
}

// token_embd: the file's A [r, V] and B [D, r] become b [V, r] and a [r, D].
static fm_status turn_embedding(struct fm_adapter_target *t, struct fm_error *err)
{
    float *a = t->a, *b = t->b;
    const int64_t n_vocab = t->n_in, d = t->n_out;
    t->a = fm__malloc((size_t)(t->r * d) * sizeof *a);
    t->b = fm__malloc((size_t)(n_vocab * t->r) * sizeof *b);
    t->n_in = d, t->n_out = n_vocab;
    const bool fits = t->a && t->b;
    if (fits) {
        fm__adapter_turn(b, d, t->r, t->a);
        fm__adapter_turn(a, t->r, n_vocab, t->b);
    }
    fm__free(a);
    fm__free(b);
    return fits ? FM_OK : fm__fail_nomem(err, t->name, (size_t)(n_vocab * t->r) * sizeof *b);
}

static fm_status fill_pair(const struct peft *p, struct pair *pair, struct fm_error *err)
{
    struct fm_adapter_target *t = &pair->target;
    int64_t dims[2];
    int rank;
    t->name = pair->tensor;
    t->r = pair->a->view.dims[0], t->n_in = pair->a->view.dims[1], t->n_out = pair->b->view.dims[0];
    FM_TRY(alpha_of(p, pair->module, &t->alpha, err));
    FM_TRY(read_tensor(p, pair->a, &t->a, err));
    FM_TRY(read_tensor(p, pair->b, &t->b, err));
    if (pair->magnitude) FM_TRY(read_tensor(p, pair->magnitude, &t->magnitude, err));
    if (fm__adapter_is_embedding(t->name)) FM_TRY(turn_embedding(t, err));
    FM_TRY(fm__adapter_base_dims(p->base, t->name, dims, &rank, err));
    if (rank != 2 || dims[0] != t->n_out || dims[1] != t->n_in)
        return fm__fail(err, FM_E_SHAPE, "adapter: %s: made for [%lld, %lld], the model's %s is [%lld, %lld]",
                        pair->module, (long long)t->n_out, (long long)t->n_in, t->name, (long long)dims[0],
                        (long long)dims[1]);
    FM_TRY(reorder(p, t->name, t->n_out, t->r, &t->b, err));
    return t->magnitude ? reorder(p, t->name, t->n_out, 1, &t->magnitude, err) : FM_OK;
}

static fm_status read_pair(struct peft *p, const struct fm_safetensors_tensor *a, const char *module, bool embedding,
                           struct fm_error *err)
{
    struct pair pair = {.module = module, .a = a};
    FM_TRY(gguf_name(p, module, ".weight", pair.tensor, err));
    pair.b = find(p, module, embedding ? ".lora_embedding_B" : ".lora_B.weight");
    pair.magnitude = find(p, module, ".lora_magnitude_vector");
    if (!pair.magnitude) pair.magnitude = find(p, module, ".lora_magnitude_vector.weight");
    FM_TRY(check_pair(p, &pair, err));
    if (embedding != fm__adapter_is_embedding(pair.tensor))
        return fm__fail(err, FM_E_UNSUPPORTED, "adapter: %s: %s, want it of %s", a->name.p,
                        embedding ? "an embedding's pair" : "a product's pair",
                        embedding ? "the token embeddings" : "a product");
    fm_status status = fill_pair(p, &pair, err);
    if (status == FM_OK) status = fm_adapter_add(p->adapter, &pair.target, err);
    fm__free(pair.target.a);
    fm__free(pair.target.b);
    fm__free(pair.target.magnitude);
    return status;
}

// --- whole tensors and the head ---

// A Hugging Face tensor turned into the file's: Conv1D's dims swapped, q and k's rows, Gemma's norms.
static fm_status to_file_layout(const struct peft *p, struct fm_adapter_tensor *t, struct fm_error *err)
{
    struct fm__hf_layout layout;
    FM_TRY(fm__hf_layout(p->base, t->name, &layout, err));
    const int64_t n = t->dims[0] * t->dims[1];
    for (int64_t i = 0; layout.value_offset != 0 && i < n; i++) t->data[i] += layout.value_offset;
    if (layout.transposed && t->rank == 2) {
        float *to = fm__malloc((size_t)n * sizeof *to);
        if (!to) return fm__fail_nomem(err, t->name, (size_t)n * sizeof *to);
        fm__adapter_turn(t->data, t->dims[0], t->dims[1], to);
        fm__free(t->data);
        t->data = to;
        const int64_t rows = t->dims[0];
        t->dims[0] = t->dims[1], t->dims[1] = rows;
    }
    return reorder(p, t->name, t->dims[0], t->dims[1], &t->data, err);
}

static fm_status read_whole(struct peft *p, const struct fm_safetensors_tensor *from, const char *module,
                            const char *end, struct fm_error *err)
{
    char name[FM__HF_NAME];
    FM_TRY(gguf_name(p, module, end, name, err));
    struct fm_adapter_tensor t = {.name = name, .rank = from->view.rank, .dims = {from->view.dims[0], 1}};
    if (t.rank == 2) t.dims[1] = from->view.dims[1];
    if (t.rank < 1 || t.rank > 2) return fm__fail(err, FM_E_SHAPE, "adapter: %s: rank %d, want 1 or 2", name, t.rank);
    fm_status status = read_tensor(p, from, &t.data, err);
    if (status == FM_OK) status = to_file_layout(p, &t, err);
    if (status == FM_OK) status = fm_adapter_add_tensor(p->adapter, &t, err);
    fm__free(t.data);
    return status;
}

// Labels as our writer puts them into the file's metadata: a JSON list of strings. *labels: an array to free.
static fm_status read_labels(const struct peft *p, int64_t n, json_t **list, char ***labels, struct fm_error *err)
{
    struct fm_str text;
    if (!fm_safetensors_get(p->file, "fathom.labels", &text)) return FM_OK;
    FM_TRY(fm__json_parse(text.p, text.n, NULL, list, err));
    if (!json_is_array(*list) || (int64_t)json_array_size(*list) != n)
        return fm__fail(err, FM_E_FORMAT, "adapter: %zu labels, want %lld", json_array_size(*list), (long long)n);
    *labels = fm__calloc((size_t)n, sizeof **labels);
    if (!*labels) return fm__fail_nomem(err, "labels", (size_t)n * sizeof **labels);
    for (int64_t i = 0; i < n; i++) {
        const char *label = json_string_value(json_array_get(*list, (size_t)i));
        if (!label) return fm__fail(err, FM_E_FORMAT, "adapter: label %lld is not a text", (long long)i);
        (*labels)[i] = (char *)(uintptr_t)label;
    }
    return FM_OK;
}

static fm_status read_head(struct peft *p, const struct fm_safetensors_tensor *w,
                           const struct fm_safetensors_tensor *bias, struct fm_error *err)
{
    struct fm_adapter_head head = {.n_classes = w->view.dims[0], .n_in = w->view.dims[1]};
    json_t *list = NULL;
    if (w->view.rank != 2 || (bias && fm_tensor_elements(&bias->view) != head.n_classes))
        return fm__fail(err, FM_E_SHAPE, "adapter: %s: rank %d and %lld biases, want [C, D] and C", w->name.p,
                        w->view.rank, bias ? (long long)fm_tensor_elements(&bias->view) : 0);
    fm_status status = read_tensor(p, w, &head.weight, err);
    if (status == FM_OK && bias) status = read_tensor(p, bias, &head.bias, err);
    if (status == FM_OK) status = read_labels(p, head.n_classes, &list, &head.labels, err);
    if (status == FM_OK) status = fm_adapter_set_head(p->adapter, &head, err);
    fm__free(head.weight);
    fm__free(head.bias);
    fm__free((void *)head.labels);
    json_decref(list);
    return status;
}

// --- the file ---

// If the name ends so: the module before it, without "modules_to_save" in between.
static bool cut(const char *name, const char *end, char module[MAX_NAME])
{
    static const char prefix[] = "base_model.model.", saved[] = ".modules_to_save";
    const size_t n = strlen(name), skip = sizeof prefix - 1, n_end = strlen(end);
    if (n < skip + n_end + 1 || n - skip - n_end >= MAX_NAME || memcmp(name, prefix, skip) ||
        strcmp(name + n - n_end, end))
        return false;
    memcpy(module, name + skip, n - skip - n_end);
    module[n - skip - n_end] = '\0';
    const size_t length = strlen(module);
    if (length >= sizeof saved && !strcmp(module + length - (sizeof saved - 1), saved))
        module[length - (sizeof saved - 1)] = '\0';
    return true;
}

static bool is_head(const char *module)
{
    return !strcmp(module, "score") || !strcmp(module, "classifier");
}

static fm_status read_one(struct peft *p, const struct fm_safetensors_tensor *t, struct fm_error *err)
{
    static const char *const with_others[] = {".lora_B.weight", ".lora_embedding_B", ".lora_magnitude_vector",
                                              ".lora_magnitude_vector.weight", ".base_layer.weight"};
    static const char *const firsts[] = {".lora_A.weight", ".lora_embedding_A"};
    const char *name = t->name.p;
    char module[MAX_NAME];
    if (cut(name, ".lora_A.weight", module)) return read_pair(p, t, module, false, err);
    if (cut(name, ".lora_embedding_A", module)) return read_pair(p, t, module, true, err);
    for (int i = 0; i < 4; i++) // come with their A
        if (cut(name, with_others[i], module)) {
            if (find(p, module, firsts[i == 1]) || (i > 1 && find(p, module, firsts[1]))) return FM_OK;
            return fm__fail(err, FM_E_FORMAT, "adapter: %s: its lora_A is missing", name);
        }
    if (cut(name, with_others[4], module)) return FM_OK; // the base's own weight beside a pair
    if (cut(name, ".weight", module))
        return is_head(module) ? read_head(p, t, find(p, module, ".bias"), err)
                               : read_whole(p, t, module, ".weight", err);
    if (cut(name, ".bias", module)) return is_head(module) ? FM_OK : read_whole(p, t, module, ".bias", err);
    return fm__fail(err, FM_E_UNSUPPORTED, "adapter: tensor %s: not a LoRA pair, a magnitude, or a saved weight",
                    fm__quote(name, strlen(name)).text);
}

static fm_status read_all(struct peft *p, struct fm_error *err)
{
    struct fm_str hash;
    FM_TRY(fm__hf_arch(p->base, &p->arch, err));
    FM_TRY(check_config(p, err));
    if (fm_safetensors_get(p->file, "fathom.base_hash", &hash)) {
        if (hash.n != FM_ADAPTER_HASH - 1)
            return fm__fail(err, FM_E_FORMAT, "adapter: base hash of %zu characters, want %d", hash.n,
                            FM_ADAPTER_HASH - 1);
        memcpy(p->adapter->base_hash, hash.p, hash.n);
    }
    for (uint64_t i = 0; i < fm_safetensors_n_tensors(p->file); i++)
        FM_TRY(read_one(p, fm_safetensors_tensor_at(p->file, i), err));
    if (!p->adapter->n_targets && !p->adapter->n_tensors && !p->adapter->head.n_classes)
        return fm__fail(err, FM_E_FORMAT, "adapter: no tensor is in it");
    return fm_adapter_check(p->adapter, p->base, err);
}

static fm_status from_parts(const json_t *config, const struct fm_safetensors *file, const struct fm_gguf *base,
                            struct fm_adapter **out, struct fm_error *err)
{
    struct peft p = {.config = config, .file = file, .base = base};
    const char *name = json_string_value(json_object_get(config, "base_model_name_or_path"));
    FM_TRY(fm_adapter_new(name, &p.adapter, err));
    fm_status status = read_all(&p, err);
    if (status != FM_OK) {
        fm_adapter_free(p.adapter);
        return status;
    }
    *out = p.adapter;
    return FM_OK;
}

fm_status fm_adapter_from_peft(const struct fm_adapter_peft *parts, const struct fm_gguf *base, struct fm_adapter **out,
                               struct fm_error *err)
{
    json_t *config = NULL;
    struct fm_safetensors *file = NULL;
    *out = NULL;
    fm_status status = fm__json_parse(parts->config, parts->config_bytes, NULL, &config, err);
    if (status != FM_OK) fm__error_prefix(err, status, "adapter_config.json");
    if (status == FM_OK) status = fm_safetensors_open_memory(parts->weights, parts->weights_bytes, &file, err);
    if (status == FM_OK) status = from_parts(config, file, base, out, err);
    fm_safetensors_close(file);
    json_decref(config);
    return status;
}

static fm_status open_folder(const char *dir, const struct fm_gguf *base, struct fm_adapter **out, struct fm_error *err)
{
    char path[4096], *text = NULL;
    size_t n = 0;
    json_t *config = NULL;
    struct fm_safetensors *file = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/adapter_config.json", dir) >= sizeof path - 16)
        return fm__fail(err, FM_E_ARG, "adapter: a path of %zu bytes, want at most 4000", strlen(dir));
    fm_status status = fm__file_read_all(path, MAX_CONFIG, &text, &n, err);
    if (status == FM_OK) {
        status = fm__json_parse(text, n, NULL, &config, err);
        if (status != FM_OK) fm__error_prefix(err, status, "%s", path);
    }
    fm__free(text);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    if (status == FM_OK) status = fm_safetensors_open(path, &file, err);
    if (status == FM_OK) {
        status = from_parts(config, file, base, out, err);
        if (status != FM_OK) fm__error_prefix(err, status, "%s", dir);
    }
    fm_safetensors_close(file);
    json_decref(config);
    return status;
}

static bool ends(const char *text, const char *end)
{
    const size_t n = strlen(text), length = strlen(end);
    return n >= length && !strcmp(text + n - length, end);
}

fm_status fm_adapter_open(const char *path, const struct fm_gguf *base, struct fm_adapter **out, struct fm_error *err)
{
    struct stat info;
    *out = NULL;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return open_folder(path, base, out, err);
    if (ends(path, "adapter_model.safetensors") || ends(path, "adapter_config.json")) {
        const char *slash = strrchr(path, '/');
        char *dir = slash ? fm__strndup(path, (size_t)(slash - path)) : fm__strdup(".");
        if (!dir) return fm__fail_nomem(err, "path", strlen(path));
        fm_status status = open_folder(dir[0] ? dir : "/", base, out, err);
        fm__free(dir);
        return status;
    }
    struct fm_gguf *file;
    FM_TRY(fm_gguf_open(path, NULL, &file, err));
    fm_status status = fm_adapter_from_gguf(file, base, out, err);
    if (status != FM_OK) fm__error_prefix(err, status, "%s", path);
    fm_gguf_close(file);
    return status;
}
