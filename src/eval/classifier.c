// SPDX-License-Identifier: MIT
// Reading and applying a head.
#include "eval/classifier.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "tensor/blocks.h"

// All rows of a tensor as f32 [n_rows, n].
static fm_status read_rows(const struct fm_gguf *gguf, const struct fm_gguf_tensor *t, int64_t n_rows, float *to,
                           struct fm_error *err)
{
    void *raw = fm__malloc(t->bytes);
    if (!raw) return fm__fail_nomem(err, "classifier", t->bytes);
    fm_status status = fm_gguf_read(gguf, t, 0, raw, t->bytes, err);
    size_t row_bytes = t->bytes / (size_t)n_rows;
    int64_t n = t->view.dims[t->view.rank - 1];
    for (int64_t i = 0; status == FM_OK && i < n_rows; i++)
        if (!fm__dequantise_row(t->view.dtype, (const char *)raw + (size_t)i * row_bytes, n, to + i * n))
            status = fm__fail(err, FM_E_UNSUPPORTED, "%.*s: of a type that cannot be read", (int)t->name.n, t->name.p);
    fm__free(raw);
    return status;
}

static fm_status read_labels(const struct fm_gguf *gguf, struct fm__classifier *c, struct fm_error *err)
{
    const struct fm_gguf_kv *kv = fm_gguf_find(gguf, "fathom.classifier.labels");
    if (!kv) return FM_OK;
    if (kv->type != FM_GGUF_ARRAY || kv->array_type != FM_GGUF_STRING || kv->n != (uint64_t)c->n_classes)
        return fm__fail(err, FM_E_SHAPE, "fathom.classifier.labels: %llu entries, want %d strings, one a class",
                        (unsigned long long)kv->n, c->n_classes);
    c->labels = fm__calloc((size_t)c->n_classes, sizeof *c->labels);
    if (!c->labels) return fm__fail_nomem(err, "classifier", (size_t)c->n_classes * sizeof *c->labels);
    for (int32_t i = 0; i < c->n_classes; i++) fm_gguf_kv_str_at(kv, (uint64_t)i, &c->labels[i]);
    return FM_OK;
}

static fm_status read_head(const struct fm_gguf *gguf, const struct fm_gguf_tensor *weight, struct fm__classifier *c,
                           struct fm_error *err)
{
    const struct fm_gguf_tensor *bias = fm_gguf_find_tensor(gguf, "cls.output.bias");
    const struct fm_tensor *w = &weight->view;
    if (w->rank != 2 || w->dims[1] != c->d_model || w->dims[0] < 1 || w->dims[0] > 1 << 20)
        return fm__fail(err, FM_E_SHAPE, "cls.output.weight: [%lld, %lld], want [classes, %d]", (long long)w->dims[0],
                        (long long)w->dims[1], c->d_model);
    if (bias && (bias->view.rank != 1 || bias->view.dims[0] != w->dims[0]))
        return fm__fail(err, FM_E_SHAPE, "cls.output.bias: [%lld], want [%lld]", (long long)bias->view.dims[0],
                        (long long)w->dims[0]);
    c->n_classes = (int32_t)w->dims[0];
    c->weight = fm__calloc((size_t)c->n_classes * (size_t)c->d_model, sizeof *c->weight);
    c->bias = fm__calloc((size_t)c->n_classes, sizeof *c->bias);
    if (!c->weight || !c->bias)
        return fm__fail_nomem(err, "classifier", (size_t)c->n_classes * (size_t)c->d_model * sizeof *c->weight);
    FM_TRY(read_rows(gguf, weight, c->n_classes, c->weight, err));
    if (bias) FM_TRY(read_rows(gguf, bias, 1, c->bias, err));
    return read_labels(gguf, c, err);
}

fm_status fm__classifier_read(const struct fm_gguf *gguf, int32_t d_model, struct fm__classifier *out,
                              struct fm_error *err)
{
    *out = (struct fm__classifier){.d_model = d_model};
    const struct fm_gguf_tensor *weight = fm_gguf_find_tensor(gguf, "cls.output.weight");
    if (!weight) return FM_OK;
    fm_status status = read_head(gguf, weight, out, err);
    if (status != FM_OK) fm__classifier_deinit(out);
    return status;
}

static fm_status copy_head(const struct fm_adapter_head *head, struct fm__classifier *c, struct fm_error *err)
{
    size_t n = (size_t)head->n_classes, n_weights = n * (size_t)c->d_model;
    c->n_classes = (int32_t)head->n_classes;
    c->weight = fm__calloc(n_weights, sizeof *c->weight);
    c->bias = fm__calloc(n, sizeof *c->bias);
    if (head->labels) c->labels = fm__calloc(n, sizeof *c->labels);
    if (!c->weight || !c->bias || (head->labels && !c->labels))
        return fm__fail_nomem(err, "classifier", n_weights * sizeof *c->weight);
    memcpy(c->weight, head->weight, n_weights * sizeof *c->weight);
    if (head->bias) memcpy(c->bias, head->bias, n * sizeof *c->bias);
    for (size_t i = 0; head->labels && i < n; i++)
        c->labels[i] = (struct fm_str){head->labels[i], strlen(head->labels[i])};
    return FM_OK;
}

fm_status fm__classifier_of_head(const struct fm_adapter_head *head, int32_t d_model, struct fm__classifier *out,
                                 struct fm_error *err)
{
    *out = (struct fm__classifier){.d_model = d_model};
    if (head->n_in != d_model || head->n_classes < 1 || head->n_classes > 1 << 20)
        return fm__fail(err, FM_E_SHAPE, "the adapter's head: [%lld, %lld], want [classes, %d]",
                        (long long)head->n_classes, (long long)head->n_in, d_model);
    fm_status status = copy_head(head, out, err);
    if (status != FM_OK) fm__classifier_deinit(out);
    return status;
}

void fm__classifier_deinit(struct fm__classifier *c)
{
    fm__free(c->weight);
    fm__free(c->bias);
    fm__free(c->labels);
    *c = (struct fm__classifier){0};
}

void fm__classifier_scores(const struct fm__classifier *c, const float *hidden, double *scores)
{
    for (int32_t i = 0; i < c->n_classes; i++) {
        const float *w = c->weight + (int64_t)i * c->d_model;
        double sum = (double)c->bias[i];
        for (int32_t k = 0; k < c->d_model; k++) sum += (double)w[k] * (double)hidden[k];
        scores[i] = sum;
    }
}
