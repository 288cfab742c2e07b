// SPDX-License-Identifier: MIT
// A model: metadata read, graph built once to learn which weights there are, weights streamed to the device.
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "device/device.h"
#include "ops/kv_format.h"
#include "tensor/buffer.h"

// Rows are read and packed in pieces of about this size: large enough for the disk, small enough for the cache.
enum { PIECE_BYTES = 4 << 20, PIECE_ROWS = 64 };

struct weight {
    const char *name; // of the gguf's tensor
    struct fm_tensor tensor;
    const struct fm_gguf_tensor *source; // NULL: the equaliser's
};

struct fm_model {
    struct fm_gguf *gguf;
    struct fm_device *device;
    const struct fm__arch *arch;
    struct fm__hparams hp;
    struct fm__equaliser equaliser;
    struct weight *weights; // sorted by name
    int n_weights;
    struct fm_buffer *buffer; // all weights
    uint64_t fingerprint;
};

const struct fm__hparams *fm__model_hparams(const struct fm_model *model)
{
    return &model->hp;
}

struct fm_device *fm__model_device(const struct fm_model *model)
{
    return model->device;
}

const struct fm_gguf *fm_model_gguf(const struct fm_model *model)
{
    return model->gguf;
}

int fm__model_kv_format(const struct fm_model *model)
{
    return fm__equaliser_allows_int8(&model->equaliser) ? FM__KV_INT8 : FM__KV_F16;
}

uint64_t fm__model_fingerprint(const struct fm_model *model)
{
    return model->fingerprint;
}

struct fm__graph *fm__model_trunk(const struct fm_model *model, const struct fm__cache_dims *dims)
{
    struct fm__graph *g = fm__graph_new();
    if (!g) return NULL;
    struct fm__builder b = {.g = g,
                            .hp = &model->hp,
                            .gguf = model->gguf,
                            .equaliser = &model->equaliser,
                            .adapters = dims->adapters,
                            .kv_format = dims->kv_format,
                            .n_slots = dims->n_slots,
                            .n_slot_pages = dims->n_slot_pages,
                            .n_pages = dims->n_pages,
                            .hidden = FM__NONE};
    b.tokens = fm__graph_leaf(g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    b.rows = fm__graph_leaf(g, FM__INPUT, "rows", FM_I32, 2, (int64_t[]){FM__ROWS, FM__ROW_FIELDS});
    b.pages = fm__graph_leaf(g, FM__INPUT, "pages", FM_I32, 2, (int64_t[]){dims->n_slots, dims->n_slot_pages});
    fm__graph_output(g, model->arch->trunk(&b), "x");
    return g;
}

static struct fm__graph *make_head(const struct fm_model *model, const struct fm_adapter_set *adapters,
                                   bool with_logits)
{
    struct fm__graph *g = fm__graph_new();
    if (!g) return NULL;
    struct fm__builder b = {.g = g,
                            .hp = &model->hp,
                            .gguf = model->gguf,
                            .adapters = adapters,
                            .tokens = FM__NONE,
                            .rows = FM__NONE,
                            .pages = FM__NONE};
    fm__val normed = FM__NONE;
    b.hidden = fm__graph_leaf(g, FM__INPUT, "hidden", FM_F32, 2, (int64_t[]){FM__ROWS, model->hp.d_model});
    if (fm__adapter_set_has(adapters, "output.weight"))
        b.rows = fm__graph_leaf(g, FM__INPUT, "rows", FM_I32, 2, (int64_t[]){FM__ROWS, FM__ROW_FIELDS});
    fm__val logits = model->arch->head(&b, &normed);
    if (with_logits) fm__graph_output(g, logits, "logits");
    fm__graph_output(g, normed, "normed");
    return g;
}

struct fm__graph *fm__model_head(const struct fm_model *model, const struct fm_adapter_set *adapters)
{
    return make_head(model, adapters, true);
}

struct fm__graph *fm__model_norm(const struct fm_model *model)
{
    return make_head(model, NULL, false);
}

struct fm__training_graph fm__model_training(const struct fm_model *model, const struct fm__training *training)
{
    struct fm__training_graph t = {fm__graph_new(), FM__NONE, FM__NONE, FM__NONE, model->hp.softcap_logits};
    if (!t.g) return t;
    struct fm__builder b = {
        .g = t.g, .hp = &model->hp, .gguf = model->gguf, .training = training, .pages = FM__NONE, .hidden = FM__NONE};
    b.tokens = fm__graph_leaf(t.g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    b.rows = fm__graph_leaf(t.g, FM__INPUT, "rows", FM_I32, 2, (int64_t[]){FM__ROWS, FM__ROW_FIELDS});
    b.key = fm__graph_leaf(t.g, FM__INPUT, "key", FM_I32, 1, (int64_t[]){4});
    b.hidden = model->arch->trunk(&b);
    t.logits = model->arch->head(&b, &t.normed);
    t.head = fm__block_lm_weight(&b);
    return t;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weight *)a)->name, ((const struct weight *)b)->name);
}

fm_status fm__model_bind(void *context, const char *name, struct fm_tensor *out, struct fm_error *err)
{
    const struct fm_model *model = context;
    struct weight key = {.name = name};
    const struct weight *w = bsearch(&key, model->weights, (size_t)model->n_weights, sizeof key, by_name);
    if (!w) return fm__fail(err, FM_E_NOT_FOUND, "%s: no weight of this name", name);
    *out = w->tensor;
    return FM_OK;
}

// The weight for a leaf that no tensor of the file is: the equaliser's, each in one graph only.
static struct weight equal_weight(const struct fm_model *model, const char *leaf)
{
    struct weight w = {.tensor = {.dtype = FM_F32, .rank = 1}};
    for (int64_t i = 0; i < model->equaliser.n_layers; i++) {
        const struct fm__equal *l = &model->equaliser.layers[i];
        if (!strcmp(leaf, l->q_name)) w.name = l->q_name;
        if (!strcmp(leaf, l->k_name)) w.name = l->k_name;
    }
    fm__equaliser_find(&model->equaliser, w.name, &w.tensor.dims[0]);
    fm_tensor_set_contiguous(&w.tensor);
    return w;
}

static size_t file_bytes(const struct weight *w)
{
    return w->source ? w->source->bytes : 0;
}

// Adds the graph's weights that are not listed yet.
static fm_status list_weights(struct fm_model *model, const struct fm__graph *g, struct fm_error *err)
{
    FM_TRY(fm__graph_check(g, err));
    struct weight *more = fm__realloc(model->weights, (size_t)(model->n_weights + g->n_values) * sizeof *more);
    if (!more) return fm__fail_nomem(err, "weight list", (size_t)g->n_values * sizeof *more);
    model->weights = more;
    for (int i = 0; i < g->n_values; i++) {
        if (g->values[i].kind != FM__WEIGHT) continue;
        const struct fm_gguf_tensor *t = fm_gguf_find_tensor(model->gguf, g->values[i].name);
        if (!t) {
            more[model->n_weights++] = equal_weight(model, g->values[i].name);
            continue;
        }
        bool known = false;
        for (int k = 0; k < model->n_weights; k++) known |= model->weights[k].source == t;
        if (!known) more[model->n_weights++] = (struct weight){.name = t->name.p, .tensor = t->view, .source = t};
    }
    return FM_OK;
}

static fm_status find_weights(struct fm_model *model, struct fm_error *err)
{
    struct fm__cache_dims dims = {.kv_format = FM__KV_F32, .n_slots = 1, .n_slot_pages = 1, .n_pages = 1};
    struct fm__graph *trunk = fm__model_trunk(model, &dims), *head = fm__model_head(model, NULL);
    fm_status status = trunk && head ? FM_OK : fm__fail_nomem(err, "graph", sizeof *trunk);
    if (status == FM_OK) status = list_weights(model, trunk, err);
    if (status == FM_OK) status = list_weights(model, head, err);
    fm__graph_free(trunk);
    fm__graph_free(head);
    if (status == FM_OK) qsort(model->weights, (size_t)model->n_weights, sizeof *model->weights, by_name);
    return status;
}

static fm_status place_weights(struct fm_model *model, struct fm_error *err)
{
    struct fm_device_props props;
    fm_device_get_props(model->device, &props);
    size_t alignment = props.alignment > 64 ? props.alignment : 64, total = 0;
    for (int i = 0; i < model->n_weights; i++) {
        struct fm_tensor *t = &model->weights[i].tensor;
        t->layout = fm__device_weight_layout(model->device, t);
        size_t bytes = fm__align_up(fm__device_weight_bytes(model->device, t), alignment);
        t->offset = total;
        if (!fm__add_size(total, bytes, &total))
            return fm__fail(err, FM_E_LIMIT, "%s: weights larger than the address space", model->weights[i].name);
    }
    FM_TRY(model->device->v->alloc(model->device, total, &model->buffer, err));
    for (int i = 0; i < model->n_weights; i++) {
        struct fm_tensor *t = &model->weights[i].tensor;
        t->buffer = model->buffer;
        t->data = props.host_visible ? (char *)model->buffer->host + t->offset : NULL;
    }
    return FM_OK;
}

// FNV-1a (Fowler, Noll, Vo), 64 bits.
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

static fm_status load_weight(struct fm_model *model, const struct weight *w, void *piece, struct fm_error *err)
{
    const struct fm_tensor *t = &w->tensor;
    int64_t n_factors;
    const float *factors = fm__equaliser_find(&model->equaliser, w->name, &n_factors);
    if (factors) model->fingerprint = hash_bytes(model->fingerprint, factors, (size_t)n_factors * sizeof *factors);
    if (!w->source) return fm__device_weight_write(model->device, t, 0, 1, factors, err);
    int64_t n_rows = fm_tensor_elements(t) / t->dims[t->rank - 1];
    size_t row_bytes = fm_dtype_row_bytes(t->dtype, t->dims[t->rank - 1]);
    int64_t step = (int64_t)(PIECE_BYTES / row_bytes) / PIECE_ROWS * PIECE_ROWS;
    if (step < PIECE_ROWS) step = PIECE_ROWS;
    for (int64_t row = 0; row < n_rows; row += step) {
        int64_t n = n_rows - row < step ? n_rows - row : step;
        FM_TRY(fm_gguf_read(model->gguf, w->source, (size_t)row * row_bytes, piece, (size_t)n * row_bytes, err));
        if (row == 0) model->fingerprint = hash_bytes(model->fingerprint, piece, row_bytes < 64 ? row_bytes : 64);
        for (int64_t i = 0; factors && i < n_factors; i++) ((float *)piece)[i] *= factors[i]; // a norm: one row of f32
        FM_TRY(fm__device_weight_write(model->device, t, row, n, piece, err));
    }
    return FM_OK;
}

static fm_status load_weights(struct fm_model *model, const struct fm_model_opts *opts, struct fm_error *err)
{
    size_t largest = PIECE_BYTES, done = 0, total = 0;
    for (int i = 0; i < model->n_weights; i++) {
        const struct fm_tensor *t = &model->weights[i].tensor;
        size_t piece = fm_dtype_row_bytes(t->dtype, t->dims[t->rank - 1]) * PIECE_ROWS;
        if (piece > largest) largest = piece;
        total += file_bytes(&model->weights[i]);
    }
    void *piece = fm__aligned(64, largest);
    if (!piece) return fm__fail_nomem(err, "loading weights", largest);
    fm_status status = FM_OK;
    model->fingerprint = hash_bytes(0xcbf29ce484222325u, &model->hp.rope, sizeof model->hp.rope);
    for (int i = 0; status == FM_OK && i < model->n_weights; i++) {
        status = load_weight(model, &model->weights[i], piece, err);
        done += file_bytes(&model->weights[i]);
        if (opts->progress) opts->progress(opts->progress_context, done, total);
    }
    fm__free(piece);
    return status;
}

fm_status fm_model_from_gguf(struct fm_gguf *gguf, const struct fm_model_opts *opts, struct fm_model **out,
                             struct fm_error *err)
{
    *out = NULL;
    struct fm_model *model = fm__calloc(1, sizeof *model);
    if (!model) return fm__fail_nomem(err, "model", sizeof *model);
    model->gguf = gguf;
    model->device = opts->device;
    fm_status status = FM_OK;
    for (int i = 0; status == FM_OK && i < opts->n_overrides; i++)
        status = fm_gguf_override(gguf, opts->overrides[i], err);
    if (status == FM_OK) status = fm__arch_of(gguf, &model->arch, err);
    if (status == FM_OK) status = fm__hparams_read(model->arch, gguf, &model->hp, err);
    if (status == FM_OK) status = fm__hparams_rope(&model->hp, opts, err);
    if (status == FM_OK && !opts->for_training) status = fm__equaliser_init(&model->equaliser, &model->hp, gguf, err);
    if (status == FM_OK) status = find_weights(model, err);
    if (status == FM_OK) status = place_weights(model, err);
    if (status == FM_OK) status = load_weights(model, opts, err);
    if (status != FM_OK) {
        model->gguf = NULL; // still the caller's
        fm_model_free(model);
        return status;
    }
    *out = model;
    return FM_OK;
}

fm_status fm_model_open(const char *path, const struct fm_model_opts *opts, struct fm_model **out, struct fm_error *err)
{
    struct fm_gguf *gguf;
    *out = NULL;
    FM_TRY(fm_gguf_open(path, NULL, &gguf, err));
    fm_status status = fm_model_from_gguf(gguf, opts, out, err);
    if (status != FM_OK) {
        fm__error_prefix(err, status, "%s", path);
        fm_gguf_close(gguf);
    }
    return status;
}

void fm_model_free(struct fm_model *model)
{
    if (!model) return;
    fm_buffer_unref(model->buffer);
    fm__free(model->weights);
    fm__equaliser_deinit(&model->equaliser);
    fm_gguf_close(model->gguf);
    fm__free(model);
}

// The dtype that holds most bytes.
static fm_dtype main_type(const struct fm_model *model)
{
    size_t bytes[FM_DTYPE_COUNT] = {0};
    fm_dtype most = FM_F32;
    for (int i = 0; i < model->n_weights; i++) bytes[model->weights[i].tensor.dtype] += file_bytes(&model->weights[i]);
    for (int i = 0; i < FM_DTYPE_COUNT; i++)
        if (bytes[i] > bytes[most]) most = (fm_dtype)i;
    return most;
}

void fm_model_get_info(const struct fm_model *model, struct fm_model_info *info)
{
    const struct fm__hparams *hp = &model->hp;
    struct fm_str name = {"", 0};
    fm_gguf_get_str(model->gguf, "general.name", &name);
    *info = (struct fm_model_info){.n_layers = (int32_t)hp->n_layers,
                                   .n_vocab = (int32_t)hp->n_vocab,
                                   .d_model = (int32_t)hp->d_model,
                                   .n_heads = (int32_t)hp->n_heads,
                                   .n_kv_heads = (int32_t)hp->n_kv,
                                   .n_ctx_train = (int32_t)hp->n_ctx_train};
    snprintf(info->arch, sizeof info->arch, "%s", model->arch->name);
    snprintf(info->name, sizeof info->name, "%.*s", (int)(name.n < 120 ? name.n : 120), name.p);
    snprintf(info->type, sizeof info->type, "%s", fm_dtype_info(main_type(model))->name);
    for (int i = 0; i < model->n_weights; i++) {
        if (model->weights[i].source) info->n_params += (uint64_t)fm_tensor_elements(&model->weights[i].tensor);
        info->file_bytes += file_bytes(&model->weights[i]);
        info->weight_bytes += fm__device_weight_bytes(model->device, &model->weights[i].tensor);
    }
}
