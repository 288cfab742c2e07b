// SPDX-License-Identifier: MIT
// Trained states to files.
#include "train/export.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "tensor/blocks.h"
#include "train/trainer_internal.h"

// The values of a state; *out is the caller's.
static fm_status values_of(const struct fm__trainer *t, const struct fm__state *s, float **out, struct fm_error *err)
{
    *out = fm__malloc(fm_tensor_bytes(&s->tensor));
    if (!*out) return fm__fail_nomem(err, s->name, fm_tensor_bytes(&s->tensor));
    const fm_status status = fm__states_read(&t->states, s, *out, err);
    if (status == FM_OK) return FM_OK;
    fm__free(*out);
    *out = NULL;
    return status;
}

// --- adapter ---

static fm_status add_target(struct fm__trainer *t, const struct fm__state *a, struct fm_adapter *adapter,
                            struct fm_error *err)
{
    char name[sizeof a->name];
    const size_t n = strlen(a->name) - strlen(".lora_a");
    memcpy(name, a->name, n);
    memcpy(name + n, ".lora_b", sizeof ".lora_b");
    const struct fm__state *b = fm__states_find(&t->states, name);
    name[n] = 0;
    struct fm_adapter_target target = {.name = name,
                                       .r = a->tensor.dims[0],
                                       .n_in = a->tensor.dims[1],
                                       .n_out = b->tensor.dims[0],
                                       .alpha = t->opts.lora.alpha};
    fm_status status = values_of(t, a, &target.a, err);
    if (status == FM_OK) status = values_of(t, b, &target.b, err);
    if (status == FM_OK) status = fm_adapter_add(adapter, &target, err);
    fm__free(target.a);
    fm__free(target.b);
    return status;
}

static fm_status add_head(struct fm__trainer *t, const char *const *labels, struct fm_adapter *adapter,
                          struct fm_error *err)
{
    const struct fm__state *w = fm__states_find(&t->states, "cls.output.weight"),
                           *bias = fm__states_find(&t->states, "cls.output.bias");
    if (!w) return FM_OK;
    struct fm_adapter_head head = {
        .n_classes = w->tensor.dims[0], .n_in = w->tensor.dims[1], .labels = (char **)(uintptr_t)labels};
    fm_status status = values_of(t, w, &head.weight, err);
    if (status == FM_OK) status = values_of(t, bias, &head.bias, err);
    if (status == FM_OK) status = fm_adapter_set_head(adapter, &head, err);
    fm__free(head.weight);
    fm__free(head.bias);
    return status;
}

fm_status fm__export_adapter(struct fm__trainer *t, const char *base_name, const char *const *labels,
                             struct fm_adapter **out, struct fm_error *err)
{
    struct fm_adapter *adapter;
    *out = NULL;
    FM_TRY(fm_adapter_new(base_name, &adapter, err));
    adapter->rs_lora = t->opts.lora.rank_stabilised;
    adapter->dropout = t->opts.lora.dropout;
    fm_status status = fm_adapter_base_hash(fm_model_gguf(t->opts.model), adapter->base_hash, err);
    for (int i = 0; status == FM_OK && i < t->n_params; i++) {
        const struct fm__state *s = &t->states.items[i];
        const size_t n = strlen(s->name), end = strlen(".lora_a");
        if (n > end && !strcmp(s->name + n - end, ".lora_a")) status = add_target(t, s, adapter, err);
    }
    if (status == FM_OK) status = add_head(t, labels, adapter, err);
    if (status == FM_OK) {
        *out = adapter;
        return FM_OK;
    }
    fm_adapter_free(adapter);
    return status;
}

// --- model file ---

// Metadata that says what this file no longer is: its type, and that it is a part of several files.
static bool is_replaced(const struct fm_str key)
{
    static const char *const keys[] = {"general.file_type", FM__LABELS_KEY};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (key.n == strlen(keys[i]) && !memcmp(key.p, keys[i], key.n)) return true;
    return key.n > 6 && !memcmp(key.p, "split.", 6);
}

static fm_status write_metadata(struct fm__trainer *t, struct fm_gguf_writer *w, fm_dtype dtype,
                                const char *const *labels, struct fm_error *err)
{
    const struct fm_gguf *base = fm_model_gguf(t->opts.model);
    for (uint64_t i = 0; i < fm_gguf_n_kv(base); i++)
        if (!is_replaced(fm_gguf_kv_at(base, i)->key)) FM_TRY(fm_gguf_writer_kv(w, fm_gguf_kv_at(base, i), err));
    const uint32_t type = dtype == FM_F16 ? 1 : 0; // as llama.cpp numbers them
    const struct fm_str type_key = {"general.file_type", strlen("general.file_type")};
    FM_TRY(
        fm_gguf_writer_kv(w, &(struct fm_gguf_kv){.key = type_key, .type = FM_GGUF_U32, .n = 1, .data = &type}, err));
    if (!labels || t->opts.task != FM__TASK_CLASSIFY) return FM_OK;
    const uint64_t n = (uint64_t)t->opts.n_classes;
    struct fm_str *texts = fm__malloc(n * sizeof *texts);
    if (!texts) return fm__fail_nomem(err, "labels", n * sizeof *texts);
    for (uint64_t i = 0; i < n; i++) texts[i] = (struct fm_str){labels[i], strlen(labels[i])};
    const struct fm_gguf_kv kv = {.key = {FM__LABELS_KEY, strlen(FM__LABELS_KEY)},
                                  .type = FM_GGUF_ARRAY,
                                  .array_type = FM_GGUF_STRING,
                                  .n = n,
                                  .data = texts};
    const fm_status status = fm_gguf_writer_kv(w, &kv, err);
    fm__free(texts);
    return status;
}

static fm_dtype type_of(const struct fm_tensor *t, fm_dtype matrices)
{
    return t->rank > 1 ? matrices : FM_F32;
}

static bool is_head(const struct fm__state *s)
{
    return !strncmp(s->name, "cls.", 4);
}

static fm_status declare_tensors(struct fm__trainer *t, struct fm_gguf_writer *w, fm_dtype dtype, struct fm_error *err)
{
    const struct fm_gguf *base = fm_model_gguf(t->opts.model);
    for (uint64_t i = 0; i < fm_gguf_n_tensors(base); i++) {
        const struct fm_gguf_tensor *from = fm_gguf_tensor_at(base, i);
        struct fm_tensor view = from->view;
        if (fm__states_find(&t->states, from->name.p)) view.dtype = type_of(&view, dtype);
        FM_TRY(fm_gguf_writer_tensor(w, from->name, &view, err));
    }
    for (int i = 0; i < t->n_params; i++) {
        const struct fm__state *s = &t->states.items[i];
        if (is_head(s))
            FM_TRY(fm_gguf_writer_tensor(w, (struct fm_str){s->name, strlen(s->name)},
                                         &(struct fm_tensor){.dtype = FM_F32,
                                                             .rank = s->tensor.rank,
                                                             .dims = {s->tensor.dims[0], s->tensor.dims[1]}},
                                         err));
    }
    return FM_OK;
}

static fm_status write_state(struct fm__trainer *t, struct fm_gguf_writer *w, const struct fm__state *s, fm_dtype dtype,
                             struct fm_error *err)
{
    float *x;
    FM_TRY(values_of(t, s, &x, err));
    const int64_t n = fm_tensor_elements(&s->tensor);
    const size_t bytes = fm_dtype_row_bytes(dtype, n);
    void *out = dtype == FM_F32 ? x : fm__malloc(bytes);
    fm_status status = out ? FM_OK : fm__fail_nomem(err, s->name, bytes);
    if (status == FM_OK && dtype != FM_F32 && !fm__quantise_row(dtype, x, n, out))
        status = fm__fail(err, FM_E_UNSUPPORTED, "%s: cannot be written as %s", s->name, fm_dtype_info(dtype)->name);
    if (status == FM_OK) status = fm_gguf_writer_data(w, out, bytes, err);
    if (out != x) fm__free(out);
    fm__free(x);
    return status;
}

static fm_status copy_tensor(const struct fm_gguf *base, const struct fm_gguf_tensor *from, struct fm_gguf_writer *w,
                             struct fm_error *err)
{
    enum { PIECE = 1 << 20 };
    void *piece = fm__malloc(PIECE);
    fm_status status = piece ? FM_OK : fm__fail_nomem(err, "copy", PIECE);
    for (size_t at = 0; status == FM_OK && at < from->bytes; at += PIECE) {
        const size_t n = from->bytes - at < PIECE ? from->bytes - at : PIECE;
        status = fm_gguf_read(base, from, at, piece, n, err);
        if (status == FM_OK) status = fm_gguf_writer_data(w, piece, n, err);
    }
    fm__free(piece);
    return status;
}

static fm_status write_tensors(struct fm__trainer *t, struct fm_gguf_writer *w, fm_dtype dtype, struct fm_error *err)
{
    const struct fm_gguf *base = fm_model_gguf(t->opts.model);
    for (uint64_t i = 0; i < fm_gguf_n_tensors(base); i++) {
        const struct fm_gguf_tensor *from = fm_gguf_tensor_at(base, i);
        const struct fm__state *s = fm__states_find(&t->states, from->name.p);
        FM_TRY(s ? write_state(t, w, s, type_of(&s->tensor, dtype), err) : copy_tensor(base, from, w, err));
    }
    for (int i = 0; i < t->n_params; i++)
        if (is_head(&t->states.items[i])) FM_TRY(write_state(t, w, &t->states.items[i], FM_F32, err));
    return fm_gguf_writer_finish(w, err);
}

fm_status fm__export_gguf(struct fm__trainer *t, const char *path, fm_dtype dtype, const char *const *labels,
                          struct fm_error *err)
{
    struct fm_gguf_writer *w;
    if (t->opts.lora.rank > 0)
        return fm__fail(err, FM_E_ARG, "%s: a run with low-rank detours leaves an adapter, not a model", path);
    if (dtype != FM_F16 && dtype != FM_F32)
        return fm__fail(err, FM_E_ARG, "%s: type %s, want f16 or f32", path, fm_dtype_info(dtype)->name);
    FM_TRY(fm_gguf_writer_new(path, &w, err));
    fm_status status = write_metadata(t, w, dtype, labels, err);
    if (status == FM_OK) status = declare_tensors(t, w, dtype, err);
    if (status == FM_OK) status = write_tensors(t, w, dtype, err);
    fm_gguf_writer_free(w);
    return status;
}
