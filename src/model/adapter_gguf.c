// SPDX-License-Identifier: MIT
// Adapters as GGUF files, the way llama.cpp holds them: general.type "adapter", adapter.type "lora", one
// adapter.lora.alpha, and a pair of tensors a target: NAME.lora_a [r, K], NAME.lora_b [O, r]; scale alpha / r, or 1
// where alpha is 0. token_embd.weight: lora_a [V, r], lora_b [D, r] (our b, and a turned). Rows of q and k stand as in
// the model file. Source: github.com/ggml-org/llama.cpp, src/llama-adapter.cpp, convert_lora_to_gguf.py.
#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/quote.h"
#include "model/adapter_file.h"
#include "model/hf_names.h"
#include "tensor/blocks.h"

enum { MAX_NAME = 160 };

// --- reading ---

static bool is(struct fm_str text, const char *want)
{
    return text.n == strlen(want) && !memcmp(text.p, want, text.n);
}

static fm_status want_text(const struct fm_gguf *file, const char *key, const char *want, struct fm_error *err)
{
    struct fm_str text = {"", 0};
    fm_gguf_get_str(file, key, &text);
    if (is(text, want)) return FM_OK;
    return fm__fail(err, FM_E_UNSUPPORTED, "%s: \"%s\", want \"%s\"", key, fm__quote(text.p, text.n).text, want);
}

static fm_status read_header(const struct fm_gguf *file, const struct fm_gguf *base, double *alpha,
                             struct fm_adapter *adapter, struct fm_error *err)
{
    struct fm_str arch = {"", 0}, hash;
    char want[64];
    fm_gguf_get_str(base, "general.architecture", &arch);
    snprintf(want, sizeof want, "%.*s", arch.n < 60 ? (int)arch.n : 60, arch.p);
    FM_TRY(want_text(file, "general.type", "adapter", err));
    FM_TRY(want_text(file, "adapter.type", "lora", err));
    FM_TRY(want_text(file, "general.architecture", want, err));
    if (fm_gguf_find(file, "adapter.alora.invocation_tokens"))
        return fm__fail(err, FM_E_UNSUPPORTED, "adapter.alora.invocation_tokens: an activated LoRA, want a plain one");
    *alpha = 0;
    fm_gguf_get_f64(file, "adapter.lora.alpha", alpha);
    if (!isfinite((float)*alpha)) return fm__fail(err, FM_E_FORMAT, "adapter.lora.alpha: %g", *alpha);
    if (!fm_gguf_get_str(file, "fathom.base_hash", &hash)) return FM_OK;
    if (hash.n != FM_ADAPTER_HASH - 1)
        return fm__fail(err, FM_E_FORMAT, "fathom.base_hash: %zu characters, want %d", hash.n, FM_ADAPTER_HASH - 1);
    memcpy(adapter->base_hash, hash.p, hash.n);
    return FM_OK;
}

static fm_status read_tensor(const struct fm_gguf *file, const struct fm_gguf_tensor *t, float **out,
                             struct fm_error *err)
{
    const int64_t n = fm_tensor_elements(&t->view), width = t->view.dims[t->view.rank - 1];
    size_t bytes;
    *out = NULL;
    if (!fm__is_weight_type(t->view.dtype) || n < 1)
        return fm__fail(err, FM_E_UNSUPPORTED, "%s: %lld values of %s, want a type of weights", t->name.p, (long long)n,
                        fm_dtype_info(t->view.dtype)->name);
    if (!fm__mul_size((size_t)n, sizeof(float), &bytes)) return fm__fail_nomem(err, t->name.p, SIZE_MAX);
    const size_t row_bytes = fm_dtype_row_bytes(t->view.dtype, width);
    char *raw = fm__malloc(t->bytes);
    float *values = fm__malloc(bytes);
    fm_status status =
        raw && values ? fm_gguf_read(file, t, 0, raw, t->bytes, err) : fm__fail_nomem(err, t->name.p, bytes);
    for (int64_t i = 0; status == FM_OK && i < n / width; i++)
        fm__dequantise_row(t->view.dtype, raw + (size_t)i * row_bytes, width, values + i * width);
    fm__free(raw);
    if (status == FM_OK)
        *out = values;
    else
        fm__free(values);
    return status;
}

// The model's tensor that NAME.lora_a or NAME.lora_b belongs to; false: neither.
static bool cut(const struct fm_gguf_tensor *t, const char *end, char name[MAX_NAME])
{
    const size_t n = t->name.n, n_end = strlen(end);
    if (n <= n_end || n - n_end >= MAX_NAME || memcmp(t->name.p + n - n_end, end, n_end)) return false;
    memcpy(name, t->name.p, n - n_end);
    name[n - n_end] = '\0';
    return true;
}

static const struct fm_gguf_tensor *find(const struct fm_gguf *file, const char *name, const char *end)
{
    char full[MAX_NAME + 8];
    snprintf(full, sizeof full, "%s%s", name, end);
    return fm_gguf_find_tensor(file, full);
}

struct read {
    const struct fm_gguf *file;
    struct fm_adapter *adapter;
    double alpha;
};

static fm_status read_pair(const struct read *r, const char *name, const struct fm_gguf_tensor *a,
                           const struct fm_gguf_tensor *b, struct fm_error *err)
{
    const bool embedding = fm__adapter_is_embedding(name);
    if (a->view.rank != 2 || b->view.rank != 2 || a->view.dims[embedding ? 1 : 0] != b->view.dims[1])
        return fm__fail(err, FM_E_SHAPE, "%s: lora_a [%lld, …] and lora_b [%lld, %lld], want [r, K] and [O, r]", name,
                        (long long)a->view.dims[0], (long long)b->view.dims[0], (long long)b->view.dims[1]);
    struct fm_adapter_target t = {.name = (char *)(uintptr_t)name, .r = b->view.dims[1]};
    float *turned = NULL;
    t.alpha = r->alpha != 0 ? (float)r->alpha : (float)t.r;
    fm_status status = read_tensor(r->file, a, embedding ? &t.b : &t.a, err);
    if (status == FM_OK) status = read_tensor(r->file, b, embedding ? &t.a : &t.b, err);
    t.n_in = embedding ? b->view.dims[0] : a->view.dims[1];
    t.n_out = embedding ? a->view.dims[0] : b->view.dims[0];
    if (status == FM_OK && embedding) { // lora_b [D, r] is a [r, D] turned
        turned = fm__malloc((size_t)(t.r * t.n_in) * sizeof *turned);
        if (!turned) status = fm__fail_nomem(err, name, (size_t)(t.r * t.n_in) * sizeof *turned);
        if (turned) fm__adapter_turn(t.a, t.n_in, t.r, turned);
        fm__free(t.a);
        t.a = turned;
    }
    if (status == FM_OK) status = fm_adapter_add(r->adapter, &t, err);
    fm__free(t.a);
    fm__free(t.b);
    return status;
}

static fm_status read_norm(const struct read *r, const struct fm_gguf_tensor *from, struct fm_error *err)
{
    struct fm_adapter_tensor t = {.name = (char *)(uintptr_t)from->name.p, .rank = 1, .dims = {from->view.dims[0], 1}};
    FM_TRY(read_tensor(r->file, from, &t.data, err));
    fm_status status = fm_adapter_add_tensor(r->adapter, &t, err);
    fm__free(t.data);
    return status;
}

static fm_status read_one(const struct read *r, const struct fm_gguf_tensor *t, struct fm_error *err)
{
    char name[MAX_NAME];
    const struct fm_gguf_tensor *other;
    if (cut(t, ".lora_a", name)) {
        if ((other = find(r->file, name, ".lora_b"))) return read_pair(r, name, t, other, err);
        return fm__fail(err, FM_E_FORMAT, "%s.lora_a: its lora_b is missing", name);
    }
    if (cut(t, ".lora_b", name)) {
        if (find(r->file, name, ".lora_a")) return FM_OK;
        return fm__fail(err, FM_E_FORMAT, "%s.lora_b: its lora_a is missing", name);
    }
    if (cut(t, "_norm.weight", name) && t->view.rank == 1) return read_norm(r, t, err); // converters put norms there
    return fm__fail(err, FM_E_UNSUPPORTED, "tensor %s: want names that end in .lora_a or .lora_b",
                    fm__quote(t->name.p, t->name.n).text);
}

fm_status fm_adapter_from_gguf(const struct fm_gguf *file, const struct fm_gguf *base, struct fm_adapter **out,
                               struct fm_error *err)
{
    struct read r = {.file = file};
    *out = NULL;
    FM_TRY(fm_adapter_new(NULL, &r.adapter, err));
    fm_status status = read_header(file, base, &r.alpha, r.adapter, err);
    for (uint64_t i = 0; status == FM_OK && i < fm_gguf_n_tensors(file); i++)
        status = read_one(&r, fm_gguf_tensor_at(file, i), err);
    if (status == FM_OK && !r.adapter->n_targets) status = fm__fail(err, FM_E_FORMAT, "adapter: no pair is in it");
    if (status == FM_OK) status = fm_adapter_check(r.adapter, base, err);
    if (status != FM_OK) {
        fm_adapter_free(r.adapter);
        return status;
    }
    *out = r.adapter;
    return FM_OK;
}

// --- writing ---

static fm_status check_writable(const struct fm_adapter *adapter, const struct fm_gguf *base, struct fm_error *err)
{
    static const char instead[] = "write it as a PEFT folder, or merge it";
    FM_TRY(fm_adapter_check(adapter, base, err));
    if (adapter->head.n_classes)
        return fm__fail(err, FM_E_UNSUPPORTED, "GGUF adapter: it has no place for a head of %lld classes: %s",
                        (long long)adapter->head.n_classes, instead);
    if (adapter->n_tensors)
        return fm__fail(err, FM_E_UNSUPPORTED, "GGUF adapter: it has no place for the whole tensor %s: %s",
                        adapter->tensors[0].name, instead);
    for (int i = 0; i < adapter->n_targets; i++)
        if (adapter->targets[i].magnitude)
            return fm__fail(err, FM_E_UNSUPPORTED, "GGUF adapter: it has no place for DoRA's magnitudes (%s): %s",
                            adapter->targets[i].name, instead);
    if (adapter->n_targets) return FM_OK;
    return fm__fail(err, FM_E_ARG, "GGUF adapter: the adapter has no target");
}

static struct fm_str str(const char *text)
{
    return (struct fm_str){text, strlen(text)};
}

static fm_status put_text(struct fm_gguf_writer *w, const char *key, struct fm_str text, struct fm_error *err)
{
    const struct fm_gguf_kv kv = {.key = str(key), .type = FM_GGUF_STRING, .n = 1, .data = &text};
    return fm_gguf_writer_kv(w, &kv, err);
}

static fm_status put_header(struct fm_gguf_writer *w, const struct fm_adapter *adapter, const struct fm_gguf *base,
                            float alpha, struct fm_error *err)
{
    struct fm_str arch = {"", 0};
    fm_gguf_get_str(base, "general.architecture", &arch);
    const struct fm_gguf_kv kv = {.key = str("adapter.lora.alpha"), .type = FM_GGUF_F32, .n = 1, .data = &alpha};
    FM_TRY(put_text(w, "general.architecture", arch, err));
    FM_TRY(put_text(w, "general.type", str("adapter"), err));
    FM_TRY(put_text(w, "adapter.type", str("lora"), err));
    FM_TRY(fm_gguf_writer_kv(w, &kv, err));
    return adapter->base_hash[0] ? put_text(w, "fathom.base_hash", str(adapter->base_hash), err) : FM_OK;
}

static fm_status declare(struct fm_gguf_writer *w, const struct fm_adapter_target *t, struct fm_error *err)
{
    const bool embedding = fm__adapter_is_embedding(t->name);
    const int64_t a_dims[2] = {embedding ? t->n_out : t->r, embedding ? t->r : t->n_in};
    char name[MAX_NAME + 8];
    struct fm_tensor view = {.dtype = FM_F32, .rank = 2, .dims = {a_dims[0], a_dims[1]}};
    snprintf(name, sizeof name, "%s.lora_a", t->name);
    FM_TRY(fm_gguf_writer_tensor(w, str(name), &view, err));
    view.dims[0] = embedding ? t->n_in : t->n_out, view.dims[1] = t->r;
    snprintf(name, sizeof name, "%s.lora_b", t->name);
    return fm_gguf_writer_tensor(w, str(name), &view, err);
}

// The pair's data; the factor makes up for a scale that is not the file's alpha over rank.
static fm_status put_pair(struct fm_gguf_writer *w, const struct fm_adapter_target *t, float factor,
                          struct fm_error *err)
{
    const bool embedding = fm__adapter_is_embedding(t->name);
    const int64_t n_a = t->r * t->n_in, n_b = t->n_out * t->r, n = embedding ? n_a : n_b;
    float *second = fm__malloc((size_t)n * sizeof *second);
    if (!second) return fm__fail_nomem(err, t->name, (size_t)n * sizeof *second);
    if (embedding)
        fm__adapter_turn(t->a, t->r, t->n_in, second);
    else
        memcpy(second, t->b, (size_t)n * sizeof *second);
    for (int64_t i = 0; factor != 1 && i < n; i++) second[i] *= factor;
    fm_status status =
        fm_gguf_writer_data(w, embedding ? t->b : t->a, (size_t)(embedding ? n_b : n_a) * sizeof(float), err);
    if (status == FM_OK) status = fm_gguf_writer_data(w, second, (size_t)n * sizeof *second, err);
    fm__free(second);
    return status;
}

static fm_status write_all(struct fm_gguf_writer *w, const struct fm_adapter *adapter, const struct fm_gguf *base,
                           struct fm_error *err)
{
    // llama.cpp multiplies by alpha / r of each pair: what the first target's scale asks for is the file's alpha
    const float alpha = fm_adapter_scale(adapter, &adapter->targets[0]) * (float)adapter->targets[0].r;
    FM_TRY(put_header(w, adapter, base, alpha, err));
    for (int i = 0; i < adapter->n_targets; i++) FM_TRY(declare(w, &adapter->targets[i], err));
    for (int i = 0; i < adapter->n_targets; i++) {
        const struct fm_adapter_target *t = &adapter->targets[i];
        const float want = fm_adapter_scale(adapter, t) * (float)t->r;
        FM_TRY(put_pair(w, t, alpha == want ? 1 : alpha != 0 ? want / alpha : want / (float)t->r, err));
    }
    return fm_gguf_writer_finish(w, err);
}

fm_status fm_adapter_write_gguf(const struct fm_adapter *adapter, const struct fm_gguf *base, const char *path,
                                struct fm_error *err)
{
    struct fm_gguf_writer *w = NULL;
    FM_TRY(check_writable(adapter, base, err));
    fm_status status = fm_gguf_writer_new(path, &w, err);
    if (status == FM_OK) status = write_all(w, adapter, base, err);
    fm_gguf_writer_free(w);
    return status;
}
