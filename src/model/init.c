// SPDX-License-Identifier: MIT
// The graph is built without a file behind it: its leaves are the tensors of the new one.
#include "model/init.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"
#include "model/arch.h"
#include "ops/kv_format.h"

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

static uint64_t hash_name(const char *name) // FNV-1a
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

// Norms begin as 1, biases as 0, matrices normal.
static void fill(const struct fm__value *v, const struct fm__init_opts *opts, int64_t n_layers, float *x, int64_t n)
{
    if (v->rank == 1) {
        const float one = ends_with(v->name, ".bias") ? 0 : 1;
        for (int64_t i = 0; i < n; i++) x[i] = one;
        return;
    }
    double deviation = opts->deviation > 0 ? opts->deviation : 0.02;
    if (ends_with(v->name, "attn_output.weight") || ends_with(v->name, "ffn_down.weight"))
        deviation /= sqrt(2.0 * (double)n_layers);
    struct fm__rng rng = fm__rng_new(opts->seed, hash_name(v->name));
    for (int64_t i = 0; i < n; i++) x[i] = (float)(deviation * fm__rng_normal(&rng));
}

static int64_t elements(const struct fm__value *v)
{
    int64_t n = 1;
    for (int d = 0; d < v->rank; d++) n *= v->dims[d];
    return n;
}

static fm_status write_tensors(const struct fm__graph *g, struct fm_gguf_writer *w, const struct fm__init_opts *opts,
                               int64_t n_layers, struct fm_error *err)
{
    int64_t most = 0;
    for (fm__val v = 0; v < g->n_values; v++) {
        const struct fm__value *value = &g->values[v];
        if (value->kind != FM__WEIGHT) continue;
        const struct fm_tensor view = {.dtype = FM_F32, .rank = value->rank, .dims = {value->dims[0], value->dims[1]}};
        FM_TRY(fm_gguf_writer_tensor(w, (struct fm_str){value->name, strlen(value->name)}, &view, err));
        if (elements(value) > most) most = elements(value);
    }
    float *x = fm__malloc((size_t)most * sizeof *x);
    if (!x) return fm__fail_nomem(err, "new weights", (size_t)most * sizeof *x);
    fm_status status = FM_OK;
    for (fm__val v = 0; status == FM_OK && v < g->n_values; v++) {
        if (g->values[v].kind != FM__WEIGHT) continue;
        const int64_t n = elements(&g->values[v]);
        fill(&g->values[v], opts, n_layers, x, n);
        status = fm_gguf_writer_data(w, x, (size_t)n * sizeof *x, err);
    }
    fm__free(x);
    return status == FM_OK ? fm_gguf_writer_finish(w, err) : status;
}

static fm_status write_file(const char *path, const struct fm_gguf *meta, const struct fm__graph *g,
                            const struct fm__init_opts *opts, int64_t n_layers, struct fm_error *err)
{
    struct fm_gguf_writer *w;
    FM_TRY(fm_gguf_writer_new(path, &w, err));
    fm_status status = FM_OK;
    for (uint64_t i = 0; status == FM_OK && i < fm_gguf_n_kv(meta); i++)
        status = fm_gguf_writer_kv(w, fm_gguf_kv_at(meta, i), err);
    if (status == FM_OK) status = write_tensors(g, w, opts, n_layers, err);
    fm_gguf_writer_free(w);
    return status;
}

fm_status fm__model_init(const char *path, const struct fm_gguf *meta, const struct fm__init_opts *opts,
                         struct fm_error *err)
{
    const struct fm__arch *arch;
    struct fm__hparams hp;
    FM_TRY(fm__arch_of(meta, &arch, err));
    FM_TRY(fm__hparams_read(arch, meta, &hp, err));
    struct fm__graph *g = fm__graph_new();
    if (!g) return fm__fail_nomem(err, "graph", sizeof *g);
    const struct fm__new_model fresh = {.untied = opts->untied, .optional = arch->optional};
    struct fm__builder b = {.g = g,
                            .hp = &hp,
                            .gguf = meta,
                            .fresh = &fresh,
                            .kv_format = FM__KV_F32,
                            .n_slots = 1,
                            .n_slot_pages = 1,
                            .n_pages = 1};
    b.tokens = fm__graph_leaf(g, FM__INPUT, "tokens", FM_I32, 1, (int64_t[]){FM__ROWS});
    b.rows = fm__graph_leaf(g, FM__INPUT, "rows", FM_I32, 2, (int64_t[]){FM__ROWS, FM__ROW_FIELDS});
    b.pages = fm__graph_leaf(g, FM__INPUT, "pages", FM_I32, 2, (int64_t[]){1, 1});
    b.hidden = arch->trunk(&b);
    fm__val normed;
    arch->head(&b, &normed);
    fm_status status = fm__graph_check(g, err);
    if (status == FM_OK) status = write_file(path, meta, g, opts, hp.n_layers, err);
    fm__graph_free(g);
    return status;
}
