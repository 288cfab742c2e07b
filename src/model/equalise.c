// SPDX-License-Identifier: MIT
// How large each channel of keys and queries will be, from weights alone, and the factors that make them alike.
#include "model/equalise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "model/arch.h"
#include "ops/attention.h"
#include "tensor/blocks.h"

// Where int8 is no default any more. Gemma 3 270M: expected noise 0.069, divergence 0.0075 as it is; 0.035 and 0.0016
// with factors (docs/claims.md), so 0.04 is where 0.002 would be.
static const double MOST_NOISE = 0.04;

// Below it the factors would not pay for themselves: of the squared error that is expected without them.
static const double WORTH = 0.7;

static int partner(const struct fm__attr_rope *rope, int e)
{
    if (e >= rope->n_rot) return e;
    if (!rope->neox) return e ^ 1;
    return e < rope->n_rot / 2 ? e + rope->n_rot / 2 : e - rope->n_rot / 2;
}

// Squared error of q·k, up to a constant, when each is rounded to codes of its largest channel: max² |other|², both
// ways.
static double error_of(int n, const double *q2, const double *k2, const float *s)
{
    double q_top = 0, k_top = 0, q_sum = 0, k_sum = 0;
    for (int e = 0; e < n; e++) {
        double f = (double)s[e] * (double)s[e];
        q_top = fmax(q_top, q2[e] * f), q_sum += q2[e] * f;
        k_top = fmax(k_top, k2[e] / f), k_sum += k2[e] / f;
    }
    return k_top * q_sum + q_top * k_sum;
}

// The power of two nearest to k^(share/2) / q^((1-share)/2) of a pair's mean squares.
static float factor_of(double q, double k, double share)
{
    if (!(q > 0 && k > 0)) return 1;
    return (float)exp2(fmax(-16, fmin(16, rint(0.5 * (share * log2(k) - (1 - share) * log2(q))))));
}

double fm__equalise_head(const struct fm__attr_rope *rope, int n, const double *q2, const double *k2, float *s)
{
    // shares of k in the factor: 1 makes keys flat, 0 queries, 1/2 both alike
    static const double shares[] = {0.5, 0.25, 0.75, 0, 1};
    float try[FM__ATTEND_MAX_HEAD];
    for (int e = 0; e < n; e++) s[e] = 1;
    double as_it_is = error_of(n, q2, k2, s), best = as_it_is;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        for (int e = 0; e < n; e++)
            try[e] = factor_of(q2[e] + q2[partner(rope, e)], k2[e] + k2[partner(rope, e)], shares[i]);
        double error = error_of(n, q2, k2, try);
        if (!(error < best && error < WORTH * as_it_is)) continue;
        best = error;
        memcpy(s, try, (size_t)n * sizeof *s);
    }
    return best;
}

// Variance of a rounded score: a step is max / 127, uniform errors have step² / 12. A channel's largest is sqrt(8)
// times its root mean square (normal numbers, some hundred of them).
static double noise_of(const struct fm__hparams *hp, double error)
{
    return (double)hp->attn_scale * (double)hp->attn_scale * error * 8 / (12 * 127.0 * 127.0);
}

// The tensor blk.LAYER.WHAT of these dims, or NULL (a wrong one is the graph's to report).
static const struct fm_gguf_tensor *find(const struct fm_gguf *gguf, int64_t layer, const char *what, int rank,
                                         const int64_t *dims)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%lld.%s", (long long)layer, what);
    const struct fm_gguf_tensor *t = fm_gguf_find_tensor(gguf, name);
    if (!t || t->view.rank != rank) return NULL;
    for (int d = 0; d < rank; d++)
        if (t->view.dims[d] != dims[d]) return NULL;
    return rank == 2 || t->view.dtype == FM_F32 ? t : NULL;
}

static fm_status read_vector(const struct fm_gguf *gguf, const struct fm_gguf_tensor *t, float *x, struct fm_error *err)
{
    return fm_gguf_read(gguf, t, 0, x, (size_t)t->view.dims[0] * sizeof *x, err);
}

static fm_status make(struct fm__equal *l, int64_t n_q, int64_t n_k, struct fm_error *err)
{
    l->n_q = n_q, l->n_k = n_k;
    l->q = fm__malloc((size_t)n_q * sizeof *l->q);
    l->k = fm__malloc((size_t)n_k * sizeof *l->k);
    return l->q && l->k ? FM_OK : fm__fail_nomem(err, "channel factors", (size_t)n_q * sizeof *l->q);
}

static void drop(struct fm__equal *l)
{
    fm__free(l->q), fm__free(l->k);
    l->q = l->k = NULL;
}

static bool all_ones(const float *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (s[i] != 1) return false;
    return true;
}

// Norms make every channel as large as their weight is, and take the factors in themselves.
static fm_status from_norms(struct fm__equal *l, double *noise, const struct fm__hparams *hp,
                            const struct fm_gguf *gguf, int64_t layer, struct fm_error *err)
{
    const struct fm_gguf_tensor *qn = find(gguf, layer, "attn_q_norm.weight", 1, &hp->head_k),
                                *kn = find(gguf, layer, "attn_k_norm.weight", 1, &hp->head_k);
    if (!qn || !kn) return FM_OK;
    double q2[FM__ATTEND_MAX_HEAD] = {0}, k2[FM__ATTEND_MAX_HEAD] = {0};
    float s[FM__ATTEND_MAX_HEAD];
    FM_TRY(make(l, hp->head_k, hp->head_k, err));
    FM_TRY(read_vector(gguf, qn, l->q, err));
    FM_TRY(read_vector(gguf, kn, l->k, err));
    for (int e = 0; e < hp->head_k; e++) {
        q2[e] = (double)l->q[e] * (double)l->q[e];
        k2[e] = (double)l->k[e] * (double)l->k[e];
    }
    struct fm__attr_rope rope = fm__layer_rope(hp, (int)layer);
    *noise += noise_of(hp, fm__equalise_head(&rope, (int)hp->head_k, q2, k2, s));
    if (all_ones(s, hp->head_k)) {
        drop(l);
        return FM_OK;
    }
    for (int e = 0; e < hp->head_k; e++) l->q[e] = s[e], l->k[e] = 1 / s[e];
    l->in_norms = true;
    snprintf(l->q_name, sizeof l->q_name, "%s", qn->name.p);
    snprintf(l->k_name, sizeof l->k_name, "%s", kn->name.p);
    return FM_OK;
}

struct product {
    const struct fm_gguf_tensor *w, *bias; // [n, D], [n]
    int64_t n;
};

static bool find_product(const struct fm__hparams *hp, const struct fm_gguf *gguf, int64_t layer, const char *name,
                         struct product *p)
{
    char weight[32], bias[32];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    p->w = find(gguf, layer, weight, 2, (int64_t[]){p->n, hp->d_model});
    p->bias = find(gguf, layer, bias, 1, &p->n);
    return p->w && p->bias;
}

// Mean square of each output for inputs of variance gain²: bias² + the sum of (w gain)².
static fm_status mean_squares(const struct product *p, const struct fm_gguf *gguf, const float *gain, double *out,
                              struct fm_error *err)
{
    int64_t D = p->w->view.dims[1];
    size_t row_bytes = fm_dtype_row_bytes(p->w->view.dtype, D), floats = (size_t)(D > p->n ? D : p->n) * sizeof(float);
    unsigned char *bytes = fm__malloc(row_bytes);
    float *x = fm__malloc(floats);
    fm_status status = bytes && x ? read_vector(gguf, p->bias, x, err) : fm__fail_nomem(err, "channel sizes", floats);
    for (int64_t r = 0; status == FM_OK && r < p->n; r++) out[r] = (double)x[r] * (double)x[r];
    for (int64_t r = 0; status == FM_OK && r < p->n; r++) {
        status = fm_gguf_read(gguf, p->w, (size_t)r * row_bytes, bytes, row_bytes, err);
        if (status != FM_OK || !fm__dequantise_row(p->w->view.dtype, bytes, D, x)) continue;
        for (int64_t i = 0; i < D; i++) out[r] += (double)x[i] * (double)x[i] * (double)gain[i] * (double)gain[i];
    }
    fm__free(bytes);
    fm__free(x);
    return status;
}

// Factors of all kv heads; a head's queries share them. Returns the heads' mean noise.
static double fill_heads(struct fm__equal *l, const struct fm__hparams *hp, int64_t layer, const double *q2_all,
                         const double *k2_all)
{
    int64_t E = hp->head_k, group = hp->n_heads / hp->n_kv;
    struct fm__attr_rope rope = fm__layer_rope(hp, (int)layer);
    double error = 0;
    for (int64_t h = 0; h < hp->n_kv; h++) {
        double q2[FM__ATTEND_MAX_HEAD] = {0};
        float s[FM__ATTEND_MAX_HEAD];
        for (int64_t i = 0; i < group * E; i++) q2[i % E] += q2_all[h * group * E + i] / (double)group;
        error += fm__equalise_head(&rope, (int)E, q2, k2_all + h * E, s);
        for (int64_t i = 0; i < group * E; i++) l->q[h * group * E + i] = s[i % E];
        for (int64_t e = 0; e < E; e++) l->k[h * E + e] = 1 / s[e];
    }
    return noise_of(hp, error / (double)hp->n_kv);
}

static fm_status from_products(struct fm__equal *l, double *noise, const struct fm__hparams *hp,
                               const struct fm_gguf *gguf, int64_t layer, struct fm_error *err)
{
    struct product q = {.n = hp->n_heads * hp->head_k}, k = {.n = hp->n_kv * hp->head_k};
    const struct fm_gguf_tensor *norm = find(gguf, layer, "attn_norm.weight", 1, &hp->d_model);
    if (!norm || !find_product(hp, gguf, layer, "attn_q", &q) || !find_product(hp, gguf, layer, "attn_k", &k))
        return FM_OK;
    FM_TRY(make(l, q.n, k.n, err));
    float *gain = fm__malloc((size_t)hp->d_model * sizeof *gain);
    double *q2 = fm__malloc((size_t)(q.n + k.n) * sizeof *q2), *k2 = q2 ? q2 + q.n : NULL;
    fm_status status =
        gain && q2 ? read_vector(gguf, norm, gain, err) : fm__fail_nomem(err, "channel sizes", (size_t)q.n * 8);
    if (status == FM_OK) status = mean_squares(&q, gguf, gain, q2, err);
    if (status == FM_OK) status = mean_squares(&k, gguf, gain, k2, err);
    if (status == FM_OK) *noise += fill_heads(l, hp, layer, q2, k2);
    if (status == FM_OK && all_ones(l->q, q.n)) drop(l);
    fm__free(gain);
    fm__free(q2);
    snprintf(l->q_name, sizeof l->q_name, "blk.%lld.attn_q.equal", (long long)layer);
    snprintf(l->k_name, sizeof l->k_name, "blk.%lld.attn_k.equal", (long long)layer);
    return status;
}

fm_status fm__equaliser_init(struct fm__equaliser *e, const struct fm__hparams *hp, const struct fm_gguf *gguf,
                             struct fm_error *err)
{
    *e = (struct fm__equaliser){.n_layers = hp->n_layers};
    if (hp->head_k > FM__ATTEND_MAX_HEAD || hp->n_heads % hp->n_kv) return FM_OK; // refused elsewhere, with words
    e->layers = fm__calloc((size_t)hp->n_layers, sizeof *e->layers);
    if (!e->layers) return fm__fail_nomem(err, "channel factors", (size_t)hp->n_layers * sizeof *e->layers);
    fm_status status = FM_OK;
    for (int64_t i = 0; status == FM_OK && i < hp->n_layers; i++) {
        status = from_norms(&e->layers[i], &e->noise, hp, gguf, i, err);
        char norm[64];
        snprintf(norm, sizeof norm, "blk.%lld.attn_k_norm.weight", (long long)i);
        if (status == FM_OK && !fm_gguf_find_tensor(gguf, norm))
            status = from_products(&e->layers[i], &e->noise, hp, gguf, i, err);
    }
    e->noise /= (double)hp->n_layers;
    e->unknown = fm_gguf_find_tensor(gguf, "blk.0.attn_qkv.bias") != NULL;
    if (status != FM_OK) fm__equaliser_deinit(e);
    return status;
}

bool fm__equaliser_allows_int8(const struct fm__equaliser *e)
{
    return !e->unknown && e->noise <= MOST_NOISE; // not for a NaN
}

void fm__equaliser_deinit(struct fm__equaliser *e)
{
    for (int64_t i = 0; e->layers && i < e->n_layers; i++) drop(&e->layers[i]);
    fm__free(e->layers);
    *e = (struct fm__equaliser){0};
}

const float *fm__equaliser_find(const struct fm__equaliser *e, const char *name, int64_t *n)
{
    long layer;
    if (strncmp(name, "blk.", 4) || !e->layers) return NULL;
    layer = strtol(name + 4, NULL, 10);
    if (layer < 0 || layer >= e->n_layers || !e->layers[layer].q) return NULL;
    const struct fm__equal *l = &e->layers[layer];
    bool q = !strcmp(name, l->q_name);
    if (!q && strcmp(name, l->k_name) != 0) return NULL;
    *n = q ? l->n_q : l->n_k;
    return q ? l->q : l->k;
}
