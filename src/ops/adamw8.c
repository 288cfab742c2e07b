// SPDX-License-Identifier: MIT
// adamw8: adamw with moments of 8 bits (ops/codes8.h): decoded, stepped in f32, coded again; a quarter of the memory.
//   p, g f32, m, v i8 of p's shape (codes), scales f32 [2, blocks of 256 elements]: of m, then of v; knobs f32 [4] ->
//   the next versions of p, m, v, scales, in place.
#include "ops/adamw.h"
#include "ops/codes8.h"
#include "ops/optimiser.h"

static fm_status shape(struct fm__shape *s)
{
    FM_TRY(fm__want_alike(s, 0, 2, FM_F32));
    FM_TRY(fm__want_alike(s, 2, 2, FM_I8));
    FM_TRY(fm__want_dtype(s, 4, FM_F32));
    FM_TRY(fm__want_rank(s, 4, 2));
    FM_TRY(fm__want_dim(s, 4, 0, 2));
    FM_TRY(fm__want_knobs(s, 5));
    int64_t n = 1;
    for (int d = 0; d < s->in[0]->rank; d++) n *= s->in[0]->dims[d];
    FM_TRY(fm__want_dim(s, 4, 1, (n + FM__CODES8_BLOCK - 1) / FM__CODES8_BLOCK));
    for (int i = 0; i < 3; i++) fm__shape_like(s, i, 0);
    s->out[1].dtype = s->out[2].dtype = FM_I8;
    fm__shape_like(s, 3, 4);
    return FM_OK;
}

static void reference(const struct fm__call *c)
{
    const struct fm__adamw a = fm__adamw(&c->attrs->adamw, c->in[5].data);
    const float *g = c->in[1].data;
    float *p = c->out[0].data, *scales = c->out[3].data, m[FM__CODES8_BLOCK], v[FM__CODES8_BLOCK];
    float m_of[256], v_of[256];
    uint8_t *m_codes = c->out[1].data, *v_codes = c->out[2].data;
    const int64_t total = fm_tensor_elements(&c->out[0]), n_blocks = c->out[3].dims[1];
    fm__codes8_table(7, m_of);
    fm__codes8_table(8, v_of);
    for (int64_t b = 0; b < n_blocks; b++) {
        const int64_t at = b * FM__CODES8_BLOCK;
        const int n = total - at < FM__CODES8_BLOCK ? (int)(total - at) : FM__CODES8_BLOCK;
        for (int i = 0; i < n; i++) {
            m[i] = m_of[m_codes[at + i]] * scales[b];
            v[i] = v_of[v_codes[at + i]] * scales[n_blocks + b];
            fm__adamw_element(&a, g[at + i], &p[at + i], &m[i], &v[i]);
        }
        scales[b] = fm__codes8_encode(1, m, n, m_codes + at);
        scales[n_blocks + b] = fm__codes8_encode(0, v, n, v_codes + at);
    }
}

const struct fm__op fm__op_adamw8 = {
    .name = "adamw8",
    .doc = "p, m, v, scales of one AdamW step, moments in 8 bits",
    .min_in = 6,
    .max_in = 6,
    .n_out = 4,
    .shape = shape,
    .alias = {1, 3, 4, 5},
    .print = fm__adamw_print,
    .reference = reference,
};
