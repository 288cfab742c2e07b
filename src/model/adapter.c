// SPDX-License-Identifier: MIT
// An adapter in memory: what it is made of, whether it fits a model, and its hashes.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/sha256.h"
#include "model/adapter_file.h"
#include "model/hf_names.h"
#include "tensor/blocks.h"

fm_status fm_adapter_new(const char *base_name, struct fm_adapter **out, struct fm_error *err)
{
    *out = NULL;
    struct fm_adapter *adapter = fm__calloc(1, sizeof *adapter);
    if (adapter) adapter->base_name = fm__strdup(base_name ? base_name : "");
    if (!adapter || !adapter->base_name) {
        fm__free(adapter);
        return fm__fail_nomem(err, "adapter", sizeof *adapter);
    }
    *out = adapter;
    return FM_OK;
}

static void drop_target(struct fm_adapter_target *t)
{
    fm__free(t->name);
    fm__free(t->a);
    fm__free(t->b);
    fm__free(t->magnitude);
}

static void drop_tensor(struct fm_adapter_tensor *t)
{
    fm__free(t->name);
    fm__free(t->data);
}

static void drop_head(struct fm_adapter_head *head)
{
    for (int64_t i = 0; head->labels && i < head->n_classes; i++) fm__free(head->labels[i]);
    fm__free((void *)head->labels);
    fm__free(head->weight);
    fm__free(head->bias);
    *head = (struct fm_adapter_head){0};
}

void fm_adapter_free(struct fm_adapter *adapter)
{
    if (!adapter) return;
    for (int i = 0; i < adapter->n_targets; i++) drop_target(&adapter->targets[i]);
    for (int i = 0; i < adapter->n_tensors; i++) drop_tensor(&adapter->tensors[i]);
    drop_head(&adapter->head);
    fm__free(adapter->targets);
    fm__free(adapter->tensors);
    fm__free(adapter->base_name);
    fm__free(adapter);
}

// A copy of rows * n floats; NULL without memory, or where they do not fit an address space.
static float *copy_floats(const float *from, int64_t rows, int64_t n)
{
    size_t bytes;
    if (!fm__mul_size((size_t)rows, (size_t)n, &bytes) || !fm__mul_size(bytes, sizeof(float), &bytes)) return NULL;
    float *to = fm__malloc(bytes);
    if (to) memcpy(to, from, bytes);
    return to;
}

const struct fm_adapter_target *fm_adapter_find(const struct fm_adapter *adapter, const char *name)
{
    for (int i = 0; i < adapter->n_targets; i++)
        if (!strcmp(adapter->targets[i].name, name)) return &adapter->targets[i];
    return NULL;
}

static const struct fm_adapter_tensor *find_tensor(const struct fm_adapter *adapter, const char *name)
{
    for (int i = 0; i < adapter->n_tensors; i++)
        if (!strcmp(adapter->tensors[i].name, name)) return &adapter->tensors[i];
    return NULL;
}

float fm_adapter_scale(const struct fm_adapter *adapter, const struct fm_adapter_target *target)
{
    const float r = (float)target->r;
    return target->alpha / (adapter->rs_lora ? sqrtf(r) : r);
}

static fm_status check_finite(const char *name, const float *values, int64_t n, struct fm_error *err)
{
    for (int64_t i = 0; values && i < n; i++)
        if (!isfinite(values[i]))
            return fm__fail(err, FM_E_ARG, "adapter: %s: value %lld is %g, want finite numbers", name, (long long)i,
                            (double)values[i]);
    return FM_OK;
}

// Room for one more entry of `size` bytes; entries stay where they are on failure.
static fm_status grow(void **entries, int n, size_t size, struct fm_error *err)
{
    if (n & (n - 1)) return FM_OK; // there is room until the next power of two
    void *more = fm__realloc(*entries, (size_t)(n ? 2 * n : 1) * size);
    if (!more) return fm__fail_nomem(err, "adapter", (size_t)n * size);
    *entries = more;
    return FM_OK;
}

fm_status fm_adapter_add(struct fm_adapter *adapter, const struct fm_adapter_target *t, struct fm_error *err)
{
    if (fm_adapter_find(adapter, t->name) || find_tensor(adapter, t->name))
        return fm__fail(err, FM_E_ARG, "adapter: %s: twice", t->name);
    if (t->r < 1 || t->r > FM_ADAPTER_MAX_RANK || t->n_in < 1 || t->n_out < 1)
        return fm__fail(err, FM_E_ARG, "adapter: %s: rank %lld of [%lld, %lld], want 1 to %d", t->name, (long long)t->r,
                        (long long)t->n_out, (long long)t->n_in, FM_ADAPTER_MAX_RANK);
    if (!isfinite(t->alpha)) return fm__fail(err, FM_E_ARG, "adapter: %s: alpha is not a finite number", t->name);
    FM_TRY(check_finite(t->name, t->a, t->r * t->n_in, err));
    FM_TRY(check_finite(t->name, t->b, t->r * t->n_out, err));
    FM_TRY(check_finite(t->name, t->magnitude, t->n_out, err));
    FM_TRY(grow((void **)&adapter->targets, adapter->n_targets, sizeof *adapter->targets, err));
    struct fm_adapter_target copy = *t;
    copy.name = fm__strdup(t->name);
    copy.a = copy_floats(t->a, t->r, t->n_in);
    copy.b = copy_floats(t->b, t->n_out, t->r);
    copy.magnitude = t->magnitude ? copy_floats(t->magnitude, t->n_out, 1) : NULL;
    if (!copy.name || !copy.a || !copy.b || (t->magnitude && !copy.magnitude)) {
        drop_target(&copy);
        return fm__fail_nomem(err, t->name, (size_t)(t->n_in + t->n_out) * (size_t)t->r * sizeof *t->a);
    }
    adapter->targets[adapter->n_targets++] = copy;
    return FM_OK;
}

fm_status fm_adapter_add_tensor(struct fm_adapter *adapter, const struct fm_adapter_tensor *t, struct fm_error *err)
{
    if (fm_adapter_find(adapter, t->name) || find_tensor(adapter, t->name))
        return fm__fail(err, FM_E_ARG, "adapter: %s: twice", t->name);
    const int64_t columns = t->rank == 2 ? t->dims[1] : 1;
    if (t->rank < 1 || t->rank > 2 || t->dims[0] < 1 || columns < 1)
        return fm__fail(err, FM_E_ARG, "adapter: %s: rank %d with %lld rows, want 1 or 2 and some", t->name, t->rank,
                        (long long)t->dims[0]);
    FM_TRY(check_finite(t->name, t->data, t->dims[0] * columns, err));
    FM_TRY(grow((void **)&adapter->tensors, adapter->n_tensors, sizeof *adapter->tensors, err));
    struct fm_adapter_tensor copy = *t;
    copy.name = fm__strdup(t->name);
    copy.data = copy_floats(t->data, t->dims[0], columns);
    if (!copy.name || !copy.data) {
        drop_tensor(&copy);
        return fm__fail_nomem(err, t->name, (size_t)(t->dims[0] * columns) * sizeof *t->data);
    }
    adapter->tensors[adapter->n_tensors++] = copy;
    return FM_OK;
}

fm_status fm_adapter_set_head(struct fm_adapter *adapter, const struct fm_adapter_head *head, struct fm_error *err)
{
    if (head->n_classes < 1 || head->n_classes > 1 << 20 || head->n_in < 1)
        return fm__fail(err, FM_E_ARG, "adapter: a head of %lld classes on %lld inputs, want 1 to 2^20 on some",
                        (long long)head->n_classes, (long long)head->n_in);
    FM_TRY(check_finite("head", head->weight, head->n_classes * head->n_in, err));
    FM_TRY(check_finite("head bias", head->bias, head->n_classes, err));
    struct fm_adapter_head copy = {.n_classes = head->n_classes, .n_in = head->n_in};
    copy.weight = copy_floats(head->weight, head->n_classes, head->n_in);
    copy.bias = head->bias ? copy_floats(head->bias, head->n_classes, 1) : NULL;
    copy.labels = head->labels ? fm__calloc((size_t)head->n_classes, sizeof *copy.labels) : NULL;
    bool all = copy.weight && (copy.bias || !head->bias) && (copy.labels || !head->labels);
    for (int64_t i = 0; all && copy.labels && i < head->n_classes; i++)
        all = (copy.labels[i] = fm__strdup(head->labels[i])) != NULL;
    if (!all) {
        drop_head(&copy);
        return fm__fail_nomem(err, "adapter head", (size_t)(head->n_classes * head->n_in) * sizeof *head->weight);
    }
    drop_head(&adapter->head);
    adapter->head = copy;
    return FM_OK;
}

fm_status fm_adapter_scores(const struct fm_adapter *adapter, const float *hidden, int64_t d_model, float *scores,
                            struct fm_error *err)
{
    const struct fm_adapter_head *head = &adapter->head;
    if (head->n_classes < 1) return fm__fail(err, FM_E_ARG, "adapter: it has no head");
    if (head->n_in != d_model)
        return fm__fail(err, FM_E_ARG, "adapter: a head on %lld inputs, the model has %lld", (long long)head->n_in,
                        (long long)d_model);
    for (int64_t c = 0; c < head->n_classes; c++) {
        float sum = 0;
        for (int64_t i = 0; i < d_model; i++) sum = fmaf(hidden[i], head->weight[c * d_model + i], sum);
        scores[c] = head->bias ? sum + head->bias[c] : sum;
    }
    return FM_OK;
}

// --- whether it fits ---

fm_status fm__adapter_base_dims(const struct fm_gguf *base, const char *name, int64_t dims[2], int *rank,
                                struct fm_error *err)
{
    const struct fm_gguf_tensor *t = fm_gguf_find_tensor(base, name);
    if (!t && !strcmp(name, "output.weight")) t = fm_gguf_find_tensor(base, "token_embd.weight"); // tied
    if (!t || t->view.rank < 1 || t->view.rank > 2)
        return fm__fail(err, FM_E_NOT_FOUND, "adapter: %s: the model has no such tensor", name);
    dims[0] = t->view.dims[0];
    dims[1] = t->view.rank == 2 ? t->view.dims[1] : 1;
    *rank = t->view.rank;
    return FM_OK;
}

static fm_status check_hash(const struct fm_adapter *adapter, const struct fm_gguf *base, struct fm_error *err)
{
    char hash[FM_ADAPTER_HASH];
    if (!adapter->base_hash[0]) return FM_OK;
    FM_TRY(fm_adapter_base_hash(base, hash, err));
    if (!strcmp(hash, adapter->base_hash)) return FM_OK;
    return fm__fail(err, FM_E_VERIFY, "adapter: made for another model (base hash %.16s…, this model's is %.16s…)",
                    adapter->base_hash, hash);
}

fm_status fm_adapter_check(const struct fm_adapter *adapter, const struct fm_gguf *base, struct fm_error *err)
{
    int64_t dims[2], d_model = 0;
    int rank;
    FM_TRY(check_hash(adapter, base, err));
    for (int i = 0; i < adapter->n_targets; i++) {
        const struct fm_adapter_target *t = &adapter->targets[i];
        FM_TRY(fm__adapter_base_dims(base, t->name, dims, &rank, err));
        if (rank != 2 || dims[0] != t->n_out || dims[1] != t->n_in)
            return fm__fail(err, FM_E_SHAPE, "adapter: %s: made for [%lld, %lld], the model's is [%lld, %lld]", t->name,
                            (long long)t->n_out, (long long)t->n_in, (long long)dims[0], (long long)dims[1]);
    }
    for (int i = 0; i < adapter->n_tensors; i++) {
        const struct fm_adapter_tensor *t = &adapter->tensors[i];
        FM_TRY(fm__adapter_base_dims(base, t->name, dims, &rank, err));
        if (rank != t->rank || dims[0] != t->dims[0] || (rank == 2 && dims[1] != t->dims[1]))
            return fm__fail(err, FM_E_SHAPE, "adapter: %s: [%lld, …] of rank %d, the model's is [%lld, …] of rank %d",
                            t->name, (long long)t->dims[0], t->rank, (long long)dims[0], rank);
    }
    if (!adapter->head.n_classes) return FM_OK;
    FM_TRY(fm__adapter_base_dims(base, "token_embd.weight", dims, &rank, err));
    d_model = rank == 2 ? dims[1] : 0;
    if (adapter->head.n_in == d_model) return FM_OK;
    return fm__fail(err, FM_E_SHAPE, "adapter: a head on %lld inputs, the model has %lld",
                    (long long)adapter->head.n_in, (long long)d_model);
}

void fm__adapter_add_row(const struct fm_adapter_target *t, float s, int64_t o, float *row)
{
    for (int64_t j = 0; j < t->r; j++) {
        const float b = s * t->b[o * t->r + j], *a = t->a + j * t->n_in;
        for (int64_t k = 0; k < t->n_in; k++) row[k] += b * a[k];
    }
}

// --- hashes ---

static fm_status hash_text(struct fm__sha256 *hash, const char *text, struct fm_error *err)
{
    return fm__sha256_update(hash, text, strlen(text) + 1, err);
}

static fm_status hash_numbers(struct fm__sha256 *hash, int64_t a, int64_t b, struct fm_error *err)
{
    return fm__sha256_update(hash, (const int64_t[]){a, b}, 2 * sizeof(int64_t), err);
}

static fm_status finish_hash(struct fm__sha256 *hash, fm_status status, char hex[FM_ADAPTER_HASH], struct fm_error *err)
{
    uint8_t digest[FM__SHA256_BYTES];
    if (status == FM_OK) status = fm__sha256_final(hash, digest, err);
    if (status == FM_OK) fm__sha256_hex(digest, hex);
    fm__sha256_free(hash);
    return status;
}

static fm_status hash_target(struct fm__sha256 *hash, const struct fm_adapter *adapter,
                             const struct fm_adapter_target *t, struct fm_error *err)
{
    const float scale = fm_adapter_scale(adapter, t);
    FM_TRY(hash_text(hash, t->name, err));
    FM_TRY(hash_numbers(hash, t->n_out, t->n_in, err));
    FM_TRY(hash_numbers(hash, t->r, t->magnitude != NULL, err));
    FM_TRY(fm__sha256_update(hash, &scale, sizeof scale, err));
    FM_TRY(fm__sha256_update(hash, t->a, (size_t)(t->r * t->n_in) * sizeof *t->a, err));
    FM_TRY(fm__sha256_update(hash, t->b, (size_t)(t->n_out * t->r) * sizeof *t->b, err));
    return t->magnitude ? fm__sha256_update(hash, t->magnitude, (size_t)t->n_out * sizeof *t->magnitude, err) : FM_OK;
}

static fm_status hash_tensor(struct fm__sha256 *hash, const struct fm_adapter_tensor *t, struct fm_error *err)
{
    const int64_t columns = t->rank == 2 ? t->dims[1] : 1;
    FM_TRY(hash_text(hash, t->name, err));
    FM_TRY(hash_numbers(hash, t->dims[0], columns, err));
    return fm__sha256_update(hash, t->data, (size_t)(t->dims[0] * columns) * sizeof *t->data, err);
}

// The i-th target or tensor by name, whatever order a file had: names are unique.
static int by_name(const void *a, const void *b)
{
    return strcmp(**(char *const *const *)a, **(char *const *const *)b);
}

static fm_status hash_parts(struct fm__sha256 *hash, const struct fm_adapter *adapter, char ***order,
                            struct fm_error *err)
{
    const struct fm_adapter_head *head = &adapter->head;
    for (int i = 0; i < adapter->n_targets; i++) order[i] = &adapter->targets[i].name;
    qsort((void *)order, (size_t)adapter->n_targets, sizeof *order, by_name);
    for (int i = 0; i < adapter->n_targets; i++) // name is a target's first member
        FM_TRY(hash_target(hash, adapter, (const struct fm_adapter_target *)(const void *)order[i], err));
    for (int i = 0; i < adapter->n_tensors; i++) order[i] = &adapter->tensors[i].name;
    qsort((void *)order, (size_t)adapter->n_tensors, sizeof *order, by_name);
    for (int i = 0; i < adapter->n_tensors; i++)
        FM_TRY(hash_tensor(hash, (const struct fm_adapter_tensor *)(const void *)order[i], err));
    FM_TRY(hash_numbers(hash, head->n_classes, head->bias != NULL, err));
    if (!head->n_classes) return FM_OK;
    FM_TRY(fm__sha256_update(hash, head->weight, (size_t)(head->n_classes * head->n_in) * sizeof(float), err));
    return head->bias ? fm__sha256_update(hash, head->bias, (size_t)head->n_classes * sizeof(float), err) : FM_OK;
}

fm_status fm_adapter_hash(const struct fm_adapter *adapter, char hex[FM_ADAPTER_HASH], struct fm_error *err)
{
    const int n = adapter->n_targets > adapter->n_tensors ? adapter->n_targets : adapter->n_tensors;
    struct fm__sha256 *hash = fm__sha256_new();
    char ***order = fm__malloc((size_t)(n + 1) * sizeof *order);
    hex[0] = '\0';
    fm_status status = hash && order ? hash_parts(hash, adapter, order, err)
                                     : fm__fail_nomem(err, "adapter hash", (size_t)n * sizeof *order);
    fm__free((void *)order);
    return finish_hash(hash, status, hex, err);
}

// --- the base ---

static int by_tensor_name(const void *a, const void *b)
{
    return strcmp((*(const struct fm_gguf_tensor *const *)a)->name.p,
                  (*(const struct fm_gguf_tensor *const *)b)->name.p);
}

static fm_status hash_values(struct fm__sha256 *hash, const struct fm_gguf *base, const struct fm_gguf_tensor *t,
                             struct fm_error *err)
{
    const int64_t n = t->view.dims[0];
    size_t bytes;
    if (!fm__mul_size((size_t)n, sizeof(float), &bytes)) return fm__fail_nomem(err, t->name.p, SIZE_MAX);
    void *raw = fm__malloc(t->bytes);
    float *values = fm__malloc(bytes);
    fm_status status =
        raw && values ? fm_gguf_read(base, t, 0, raw, t->bytes, err) : fm__fail_nomem(err, t->name.p, bytes);
    if (status == FM_OK && fm__dequantise_row(t->view.dtype, raw, n, values)) {
        status = hash_text(hash, t->name.p, err);
        if (status == FM_OK) status = fm__sha256_update(hash, values, bytes, err);
    }
    fm__free(raw);
    fm__free(values);
    return status;
}

// RoPE's factors and the like are recipes that converters add or leave out: not the model's identity.
static bool is_identity(const struct fm_gguf_tensor *t)
{
    return t->view.rank == 1 && (!strncmp(t->name.p, "blk.", 4) || !strncmp(t->name.p, "output_norm.", 12)) &&
           fm__is_weight_type(t->view.dtype);
}

static fm_status hash_base(struct fm__sha256 *hash, const struct fm_gguf *base, const struct fm_gguf_tensor **order,
                           struct fm_error *err)
{
    const struct fm_gguf_tensor *embedding = fm_gguf_find_tensor(base, "token_embd.weight");
    struct fm_str arch = {"", 0};
    size_t n = 0;
    fm_gguf_get_str(base, "general.architecture", &arch);
    FM_TRY(fm__sha256_update(hash, arch.p, arch.n, err));
    if (embedding) FM_TRY(hash_numbers(hash, embedding->view.dims[0], embedding->view.dims[1], err));
    for (uint64_t i = 0; i < fm_gguf_n_tensors(base); i++)
        if (is_identity(fm_gguf_tensor_at(base, i))) order[n++] = fm_gguf_tensor_at(base, i);
    qsort((void *)order, n, sizeof *order, by_tensor_name);
    for (size_t i = 0; i < n; i++) FM_TRY(hash_values(hash, base, order[i], err));
    return FM_OK;
}

fm_status fm_adapter_base_hash(const struct fm_gguf *base, char hex[FM_ADAPTER_HASH], struct fm_error *err)
{
    const size_t bytes = (size_t)(fm_gguf_n_tensors(base) + 1) * sizeof(struct fm_gguf_tensor *);
    struct fm__sha256 *hash = fm__sha256_new();
    const struct fm_gguf_tensor **order = fm__malloc(bytes);
    hex[0] = '\0';
    fm_status status = hash && order ? hash_base(hash, base, order, err) : fm__fail_nomem(err, "base hash", bytes);
    fm__free((void *)order);
    return finish_hash(hash, status, hex, err);
}
