// SPDX-License-Identifier: MIT
// A model file and adapters made one: tensor by tensor, row by row, through the GGUF writer.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "model/adapter_file.h"
#include "tensor/blocks.h"

enum { PIECE_BYTES = 1 << 20 };

// A tensor of the result.
struct output {
    struct fm_str name;
    const struct fm_gguf_tensor *source;
    fm_dtype dtype;
};

struct merge {
    const struct fm_adapter_merge_args *args;
    struct fm_gguf_writer *w;
    struct output *outputs;
    uint64_t n_outputs;
    uint64_t done, total; // bytes
    // of the tensor at hand
    const struct fm_adapter_tensor *whole;    // NULL: none
    const struct fm_adapter_target **targets; // [n_uses], NULL where a use does not change it
    float *row, *sum, *changed;               // one row: the base's, the result, one use's
};

static struct fm_str str(const char *text)
{
    return (struct fm_str){text, strlen(text)};
}

// --- what the result holds ---

static const struct fm_adapter_tensor *find_whole(const struct fm_adapter *adapter, const char *name)
{
    for (int i = 0; i < adapter->n_tensors; i++)
        if (!strcmp(adapter->tensors[i].name, name)) return &adapter->tensors[i];
    return NULL;
}

static bool is_changed(const struct fm_adapter_merge_args *args, const char *name)
{
    for (int i = 0; i < args->n_uses; i++)
        if (fm_adapter_find(args->uses[i].adapter, name) || find_whole(args->uses[i].adapter, name)) return true;
    return false;
}

static bool is_matrix(const struct fm_gguf_tensor *t)
{
    return t->view.rank == 2 && fm__is_weight_type(t->view.dtype);
}

static fm_dtype result_type(const struct fm_adapter_merge_args *args, const struct fm_gguf_tensor *t)
{
    if (args->type == FM_DTYPE_COUNT || !is_matrix(t) || !strcmp(t->name.p, "position_embd.weight"))
        return t->view.dtype;
    return t->view.dims[1] % fm_dtype_info(args->type)->block_elements ? FM_F16 : args->type;
}

static fm_status list_outputs(struct merge *m, struct fm_error *err)
{
    const struct fm_gguf *base = m->args->base;
    const uint64_t n = fm_gguf_n_tensors(base);
    const struct fm_gguf_tensor *embedding = fm_gguf_find_tensor(base, "token_embd.weight");
    m->outputs = fm__malloc((size_t)(n + 1) * sizeof *m->outputs);
    if (!m->outputs) return fm__fail_nomem(err, "merge", (size_t)n * sizeof *m->outputs);
    for (uint64_t i = 0; i < n; i++) {
        const struct fm_gguf_tensor *t = fm_gguf_tensor_at(base, i);
        m->outputs[m->n_outputs++] = (struct output){t->name, t, result_type(m->args, t)};
    }
    // tied: from now on the output is a tensor of its own, with what only the embeddings or only the logits got
    const bool apart = is_changed(m->args, "token_embd.weight") || is_changed(m->args, "output.weight");
    if (apart && embedding && !fm_gguf_find_tensor(base, "output.weight"))
        m->outputs[m->n_outputs++] = (struct output){str("output.weight"), embedding, result_type(m->args, embedding)};
    return FM_OK;
}

static fm_status check_uses(const struct fm_adapter_merge_args *args, struct fm_error *err)
{
    for (int i = 0; i < args->n_uses; i++) {
        const struct fm_adapter *adapter = args->uses[i].adapter;
        FM_TRY(fm_adapter_check(adapter, args->base, err));
        if (adapter->head.n_classes)
            return fm__fail(err, FM_E_UNSUPPORTED,
                            "merge: a model file has no place for the adapter's head of %lld classes: run it as an"
                            " adapter",
                            (long long)adapter->head.n_classes);
        for (int k = 0; k < adapter->n_tensors; k++)
            for (int j = 0; j < args->n_uses; j++) {
                const char *name = adapter->tensors[k].name;
                const struct fm_adapter *other = args->uses[j].adapter;
                if (j != i && (fm_adapter_find(other, name) || find_whole(other, name)))
                    return fm__fail(err, FM_E_ARG, "merge: %s: one adapter replaces what another changes", name);
            }
    }
    return FM_OK;
}

// Numbers of general.file_type for models of one type; those of mixtures stay the base's.
static int64_t file_type(fm_dtype type)
{
    switch (type) {
    case FM_F32:
        return 0;
    case FM_F16:
        return 1;
    case FM_Q4_0:
        return 2;
    case FM_Q4_1:
        return 3;
    case FM_Q8_0:
        return 7;
    case FM_Q5_0:
        return 8;
    case FM_Q5_1:
        return 9;
    case FM_BF16:
        return 32;
    default:
        return -1;
    }
}

static fm_status put_metadata(struct merge *m, struct fm_error *err)
{
    const struct fm_gguf *base = m->args->base;
    for (uint64_t i = 0; i < fm_gguf_n_kv(base); i++) {
        struct fm_gguf_kv kv = *fm_gguf_kv_at(base, i);
        const uint32_t type = (uint32_t)file_type(m->args->type);
        if (kv.key.n > 6 && !memcmp(kv.key.p, "split.", 6)) continue; // the result is one file
        if (kv.key.n == 17 && !memcmp(kv.key.p, "general.file_type", 17) && file_type(m->args->type) >= 0)
            kv = (struct fm_gguf_kv){.key = kv.key, .type = FM_GGUF_U32, .n = 1, .data = &type};
        FM_TRY(fm_gguf_writer_kv(m->w, &kv, err));
    }
    for (uint64_t i = 0; i < m->n_outputs; i++) {
        struct fm_tensor view = m->outputs[i].source->view;
        view.dtype = m->outputs[i].dtype;
        fm_tensor_set_contiguous(&view);
        m->total += fm_tensor_bytes(&view);
        FM_TRY(fm_gguf_writer_tensor(m->w, m->outputs[i].name, &view, err));
    }
    return FM_OK;
}

// --- rows ---

// The base's row o as f32.
static fm_status read_row(const struct merge *m, const struct output *out, int64_t o, char *raw, struct fm_error *err)
{
    const struct fm_tensor *view = &out->source->view;
    const int64_t n = view->dims[view->rank - 1];
    const size_t bytes = fm_dtype_row_bytes(view->dtype, n);
    FM_TRY(fm_gguf_read(m->args->base, out->source, (size_t)o * bytes, raw, bytes, err));
    fm__dequantise_row(view->dtype, raw, n, m->row);
    return FM_OK;
}

// sum = the result's row o: the base's, plus what each use makes of it less itself.
static void change_row(const struct merge *m, int64_t o, int64_t n)
{
    memcpy(m->sum, m->row, (size_t)n * sizeof *m->sum);
    for (int i = 0; i < m->args->n_uses; i++) {
        const struct fm_adapter_target *t = m->targets[i];
        if (!t) continue;
        const float s = fm_adapter_scale(m->args->uses[i].adapter, t) * m->args->uses[i].scale;
        if (!t->magnitude) {
            fm__adapter_add_row(t, s, o, m->sum);
            continue;
        }
        double squares = 0;
        memcpy(m->changed, m->row, (size_t)n * sizeof *m->changed);
        fm__adapter_add_row(t, s, o, m->changed);
        for (int64_t k = 0; k < n; k++) squares += (double)m->changed[k] * (double)m->changed[k];
        const float g = squares > 0 ? (float)((double)t->magnitude[o] / sqrt(squares)) : 0;
        for (int64_t k = 0; k < n; k++) m->sum[k] += g * m->changed[k] - m->row[k];
    }
}

static fm_status check_row(const struct output *out, const float *row, int64_t n, struct fm_error *err)
{
    const float most = out->dtype == FM_F16 ? 65504.0f : 3.3e38f; // f16's largest number
    for (int64_t k = 0; k < n; k++)
        if (!(fabsf(row[k]) <= most))
            return fm__fail(err, FM_E_LIMIT, "merge: %.*s: a value of %g does not fit %s (--type bf16 or f32)",
                            (int)out->name.n, out->name.p, (double)row[k], fm_dtype_info(out->dtype)->name);
    return FM_OK;
}

static fm_status put(struct merge *m, const void *bytes, size_t n, struct fm_error *err)
{
    m->done += n;
    if (m->args->progress) m->args->progress(m->args->context, m->done, m->total);
    return fm_gguf_writer_data(m->w, bytes, n, err);
}

static fm_status copy(struct merge *m, const struct output *out, char *piece, struct fm_error *err)
{
    for (size_t at = 0; at < out->source->bytes; at += PIECE_BYTES) {
        const size_t n = out->source->bytes - at < PIECE_BYTES ? out->source->bytes - at : PIECE_BYTES;
        FM_TRY(fm_gguf_read(m->args->base, out->source, at, piece, n, err));
        FM_TRY(put(m, piece, n, err));
    }
    return FM_OK;
}

static fm_status put_rows(struct merge *m, const struct output *out, char *raw, char *codes, struct fm_error *err)
{
    const struct fm_tensor *view = &out->source->view;
    const int64_t n = view->dims[view->rank - 1], n_rows = fm_tensor_elements(view) / n;
    for (int64_t o = 0; o < n_rows; o++) {
        const float *row = m->whole ? m->whole->data + o * n : m->sum;
        if (!m->whole) {
            FM_TRY(read_row(m, out, o, raw, err));
            change_row(m, o, n);
        }
        FM_TRY(check_row(out, row, n, err));
        fm__quantise_row(out->dtype, row, n, codes);
        FM_TRY(put(m, codes, fm_dtype_row_bytes(out->dtype, n), err));
    }
    return FM_OK;
}

static fm_status put_output(struct merge *m, const struct output *out, struct fm_error *err)
{
    const struct fm_tensor *view = &out->source->view;
    const int64_t n = view->dims[view->rank ? view->rank - 1 : 0];
    const bool weight = fm__is_weight_type(view->dtype) && view->rank >= 1 && view->rank <= 2;
    bool same = out->dtype == view->dtype;
    m->whole = NULL;
    for (int i = 0; i < m->args->n_uses; i++) {
        m->targets[i] = fm_adapter_find(m->args->uses[i].adapter, out->name.p);
        if (!m->whole) m->whole = find_whole(m->args->uses[i].adapter, out->name.p);
        same &= !m->targets[i] && !m->whole;
    }
    const size_t bytes = (size_t)n * sizeof(float), raw_bytes = weight ? fm_dtype_row_bytes(view->dtype, n) : 0;
    char *raw = fm__malloc(raw_bytes > PIECE_BYTES ? raw_bytes : PIECE_BYTES);
    char *codes = fm__malloc(weight ? fm_dtype_row_bytes(out->dtype, n) : 1);
    m->row = fm__malloc(bytes), m->sum = fm__malloc(bytes), m->changed = fm__malloc(bytes);
    fm_status status = FM_OK;
    if (!raw || !codes || !m->row || !m->sum || !m->changed) status = fm__fail_nomem(err, "merge", bytes);
    if (status == FM_OK) status = same || !weight ? copy(m, out, raw, err) : put_rows(m, out, raw, codes, err);
    fm__free(raw);
    fm__free(codes);
    fm__free(m->row);
    fm__free(m->sum);
    fm__free(m->changed);
    return status;
}

fm_status fm_adapter_merge(const struct fm_adapter_merge_args *args, const char *path, struct fm_error *err)
{
    struct merge m = {.args = args};
    if (args->type != FM_DTYPE_COUNT && !fm__is_weight_type(args->type))
        return fm__fail(err, FM_E_ARG, "merge: %s is no type of weights", fm_dtype_info(args->type)->name);
    FM_TRY(check_uses(args, err));
    m.targets = fm__calloc((size_t)args->n_uses + 1, sizeof *m.targets);
    fm_status status =
        m.targets ? fm_gguf_writer_new(path, &m.w, err) : fm__fail_nomem(err, "merge", sizeof *m.targets);
    if (status == FM_OK) status = list_outputs(&m, err);
    if (status == FM_OK) status = put_metadata(&m, err);
    for (uint64_t i = 0; status == FM_OK && i < m.n_outputs; i++) status = put_output(&m, &m.outputs[i], err);
    if (status == FM_OK) status = fm_gguf_writer_finish(m.w, err);
    fm_gguf_writer_free(m.w);
    fm__free(m.outputs);
    fm__free((void *)m.targets);
    return status;
}
