// SPDX-License-Identifier: MIT
// Context shift: tokens in the middle are forgotten, later ones move down. A cached key was turned by its old position;
// RoPE angles are linear in the position, so turning it back by the distance moved gives the key of the new one.
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "infer/batcher.h"
#include "ops/rope.h"

struct shift {
    struct fm_session *session;
    int keep, discard, n_new; // tokens [0, n_new) exist afterwards; those from `keep` on come from `discard` later
    int first_page, n_pages;  // pages that are rebuilt
    int32_t *from;            // old pages of the whole timeline
    unsigned char *old_bytes, *new_bytes; // of one layer: all old pages, the rebuilt pages
    float *factors;                       // RoPE factors of the model, or NULL
    float cosines[256], sines[256];       // of turning back, for one layer; heads have at most 512 elements
};

// Unit-length (cos, sin): a key keeps the attention factor it was stored with.
static void turn_angles(struct shift *sh, const struct fm__attr_rope *rope)
{
    for (int i = 0; i < rope->n_rot / 2; i++) {
        double theta = -(double)sh->discard * fm__rope_frequency(rope, i, sh->factors);
        sh->cosines[i] = (float)cos(theta);
        sh->sines[i] = (float)sin(theta);
    }
}

static void turn(const struct shift *sh, const struct fm__attr_rope *rope, float *k)
{
    int half = rope->n_rot / 2, step = rope->neox ? 1 : 2, mate = rope->neox ? half : 1;
    for (int i = 0; i < half; i++) {
        float *k0 = k + i * step, *k1 = k0 + mate, x0 = *k0, x1 = *k1;
        *k0 = x0 * sh->cosines[i] - x1 * sh->sines[i];
        *k1 = x0 * sh->sines[i] + x1 * sh->cosines[i];
    }
}

// Rebuilds the pages of one layer in new_bytes.
static void rebuild_layer(struct shift *sh, int layer)
{
    const struct fm_batcher *b = sh->session->batcher;
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    const struct fm__kv_format *format = fm__kv_format(b->dims.kv_format);
    const struct fm__attr_rope rope = fm__layer_rope(hp, layer);
    const struct fm__kv_dims dims = {.head_k = (int)hp->head_k, .head_v = (int)hp->head_v};
    size_t head_bytes = format->block_bytes(&dims);
    float k[512], v[512];
    turn_angles(sh, &rope);
    for (int to = sh->first_page * FM__KV_BLOCK; to < sh->n_new; to++) {
        int from = to < sh->keep ? to : to + sh->discard;
        const unsigned char *old_page = sh->old_bytes + (size_t)(from / FM__KV_BLOCK) * b->page_bytes;
        unsigned char *new_page = sh->new_bytes + (size_t)(to / FM__KV_BLOCK - sh->first_page) * b->page_bytes;
        for (int h = 0; h < hp->n_kv; h++) {
            format->decode(&dims, old_page + (size_t)h * head_bytes, from % FM__KV_BLOCK, k, v);
            if (from != to) turn(sh, &rope, k);
            format->encode(&dims, new_page + (size_t)h * head_bytes, to % FM__KV_BLOCK, k, v);
        }
    }
}

static fm_status shift_layers(struct shift *sh, struct fm_error *err)
{
    struct fm_session *s = sh->session;
    struct fm_batcher *b = s->batcher;
    int n_old = (s->n_done + FM__KV_BLOCK - 1) / FM__KV_BLOCK;
    for (int layer = 0; layer < fm__model_hparams(b->model)->n_layers; layer++) {
        for (int i = 0; i < n_old; i++)
            FM_TRY(fm__batcher_read_page(b, layer, sh->from[i], sh->old_bytes + (size_t)i * b->page_bytes, err));
        rebuild_layer(sh, layer);
        for (int i = 0; i < sh->n_pages; i++)
            FM_TRY(fm__batcher_write_page(b, layer, s->pages[sh->first_page + i],
                                          sh->new_bytes + (size_t)i * b->page_bytes, err));
    }
    return FM_OK;
}

// Pages from first_page on become this session's own; shared ones are replaced (old ones stay referenced by sh->from).
static fm_status own_pages(struct shift *sh, struct fm_error *err)
{
    struct fm_session *s = sh->session;
    for (int i = sh->first_page; i < sh->first_page + sh->n_pages; i++) {
        if (fm__pages_make_writable(s->batcher->pages, s->pages[i])) continue;
        int32_t page = fm__pages_take(s->batcher->pages);
        if (page == FM__NO_PAGE)
            return fm__fail(err, FM_E_LIMIT, "context shift: no key/value page is left for a copy of a shared one");
        s->pages[i] = page;
    }
    return FM_OK;
}

static fm_status read_factors(struct shift *sh, struct fm_error *err)
{
    const struct fm_gguf *gguf = fm_model_gguf(sh->session->batcher->model);
    const struct fm_gguf_tensor *t = fm_gguf_find_tensor(gguf, "rope_freqs.weight");
    if (!t) return FM_OK;
    sh->factors = fm__malloc(t->bytes);
    if (!sh->factors) return fm__fail_nomem(err, "context shift", t->bytes);
    return fm_gguf_read(gguf, t, 0, sh->factors, t->bytes, err);
}

static fm_status shift_pages(struct shift *sh, struct fm_error *err)
{
    struct fm_session *s = sh->session;
    size_t page_bytes = s->batcher->page_bytes;
    sh->from = fm__malloc((size_t)(s->n_pages + 1) * sizeof *sh->from);
    sh->old_bytes = fm__malloc((size_t)(s->n_pages + 1) * page_bytes);
    sh->new_bytes = fm__calloc((size_t)sh->n_pages + 1, page_bytes);
    if (!sh->from || !sh->old_bytes || !sh->new_bytes)
        return fm__fail_nomem(err, "context shift", (size_t)s->n_pages * page_bytes);
    FM_TRY(read_factors(sh, err));
    memcpy(sh->from, s->pages, (size_t)s->n_pages * sizeof *sh->from);
    fm_status status = own_pages(sh, err);
    if (status == FM_OK) status = shift_layers(sh, err);
    for (int i = sh->first_page; i < sh->first_page + sh->n_pages; i++) {
        if (s->pages[i] == sh->from[i]) continue;
        int32_t drop = status == FM_OK ? sh->from[i] : s->pages[i];
        if (status != FM_OK) s->pages[i] = sh->from[i];
        fm__pages_unref(s->batcher->pages, drop);
    }
    return status;
}

fm_status fm_session_shift(struct fm_session *s, int keep, int discard, struct fm_error *err)
{
    const struct fm__hparams *hp = fm__model_hparams(s->batcher->model);
    if (keep < 0 || discard < 0 || keep > s->n_done || discard > s->n_done - keep)
        return fm__fail(err, FM_E_ARG, "context shift: keep %d and discard %d of %d evaluated tokens", keep, discard,
                        s->n_done);
    if (discard == 0) return FM_OK;
    if (hp->rope.n_rot == 0 && keep + discard < s->n_done)
        return fm__fail(err, FM_E_UNSUPPORTED, "context shift: %s has learned positions, its keys cannot be moved",
                        hp->arch);
    struct shift sh = {.session = s, .keep = keep, .discard = discard, .n_new = s->n_done - discard};
    sh.first_page = keep / FM__KV_BLOCK;
    sh.n_pages = (sh.n_new + FM__KV_BLOCK - 1) / FM__KV_BLOCK - sh.first_page;
    if (sh.n_pages < 0) sh.n_pages = 0;
    fm_status status = shift_pages(&sh, err);
    fm__free(sh.from);
    fm__free(sh.old_bytes);
    fm__free(sh.new_bytes);
    fm__free(sh.factors);
    if (status != FM_OK) return status;
    memmove(s->tokens + keep, s->tokens + keep + discard, (size_t)(s->n_tokens - keep - discard) * sizeof *s->tokens);
    s->n_tokens -= discard;
    s->n_done -= discard;
    while (s->n_pages > (s->n_tokens + FM__KV_BLOCK - 1) / FM__KV_BLOCK)
        fm__pages_unref(s->batcher->pages, s->pages[--s->n_pages]);
    return FM_OK;
}
