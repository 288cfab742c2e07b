// SPDX-License-Identifier: MIT
// Attention over a paged cache: the arithmetic every implementation follows to the bit, and the reference.
//
// One row (token, head) against the keys it sees, in blocks of 64 keys at absolute indexes:
//   t_j = s_j (+ value bias)            s_j: score, soft-capped, plus ALiBi, all in units of log2
//   m_b = max t_j - log2_top, p_j = exp2(t_j - m_b), l_b = sum p_j * inv_j, o_b = sum p_j * code_j
//   (exp2 of p_j is the shorter fm__exp2_code where a format rounds p_j to 8 bits anyway: log2_top > 0)
//   join: m' = max(m, m_b); a = exp2(m - m'), b = exp2(m_b - m'); l = l a + l_b b; o = o a + o_b b
// Eight blocks make a chunk, joined left to right from (m, l, o) = (-inf, 0, 0); chunks are joined left to right by the
// same rule, which is what lets workers share a long row. A block that a row does not see at all changes nothing:
// whether it is visited (because a neighbour sees it) or skipped, the bytes are the same.
#ifndef FM_OPS_ATTENTION_H
#define FM_OPS_ATTENTION_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ops/call.h"
#include "ops/kv_format.h"

enum { FM__ATTEND_ROWS = 16 }; // rows a tile: the height of an AMX tile
enum { FM__ATTEND_BLOCKS = FM__KV_CHUNK / FM__KV_BLOCK };
enum { FM__ATTEND_MAX_HEAD = 512 }; // largest head_k and head_v

// Up to 16 rows of one session and one kv head against one chunk of keys.
struct fm__attend {
    struct fm__kv_dims dims;
    int n_rows;
    const void *prepared;                  // [n_rows, query_bytes], with room for 16 rows
    const void *blocks[FM__ATTEND_BLOCKS]; // this head's block of each page; NULL: no row sees a key of it
    const void *then[FM__ATTEND_BLOCKS];   // blocks worth prefetching: of the work that likely follows; or NULL
    // Row r sees keys first[r] <= j < last[r] of the chunk (0…512); none where first >= last.
    int32_t first[FM__ATTEND_ROWS], last[FM__ATTEND_ROWS];
    float cap_in, cap_out; // t = cap_out * tanh(s * cap_in); 0: none
    int alibi;             // 1: t += slope[r] * (j - at[r]), j and at relative to the chunk
    float slope[FM__ATTEND_ROWS];
    int32_t at[FM__ATTEND_ROWS];
    float *m, *l;           // out [n_rows]
    float *o;               // out [n_rows, o_stride]
    int64_t o_stride;       // multiple of 16, at least head_v; columns from head_v on are undefined
    unsigned char *scratch; // FM__ATTEND_SCRATCH bytes, 64-byte aligned
};

enum { FM__ATTEND_SCRATCH = FM__ATTEND_ROWS * (4 * FM__KV_BLOCK + 2 * FM__ATTEND_MAX_HEAD) * (int)sizeof(float) };

typedef void fm__attend_fn(const struct fm__kv_format *format, const struct fm__attend *tile);

// Any format, through its table. The reference.
fm__attend_fn fm__attend_ref;

// What softmax remembers of the keys so far: a row, or rows m [n_rows], l [n_rows], o [n_rows, stride].
struct fm__attend_state {
    float *m, *l, *o;
};
// `to` joined with the state of the next keys, one row of n columns.
void fm__attend_join(const struct fm__attend_state *to, const struct fm__attend_state *from, int n);
// out [n] = o / l, after adding the sink (log2 units; -INFINITY: none) to l. A row that saw no key gives zeros.
typedef void fm__attend_finish_fn(const struct fm__attend_state *row, float sink, float *out, int n);
fm__attend_finish_fn fm__attend_finish;

// What heads need beside the tensors, from attributes alone.
struct fm__attend_heads {
    float q_scale; // q is multiplied by this before prepare
    float cap_in, cap_out;
};
struct fm__attend_heads fm__attend_heads(const struct fm__attr_attention *a);
float fm__attend_slope(const struct fm__attr_attention *a, int head, int n_heads); // ALiBi, log2 units; 0: none
int fm__attend_n_heads(const struct fm__call *call); // H, from q [N, H * head_k] or [N, H, head_k]

// References of the ops (kernels of level ref; see ops/call.h).
void fm__ref_attention(const struct fm__call *call);
void fm__ref_kv_write(const struct fm__call *call);
size_t fm__ref_attention_workspace(const struct fm__call *call);

#define FM__LOG2E 1.44269504088896340736f

// exp2 for x <= 8: 0 below -126 (and for NaN), else 2^round(x) times a polynomial on [-1/2, 1/2], relative error
// 1e-7 and exactly 1 at 0. Coefficients: weighted minimax fit of (2^f - 1) / f, degree 4.
#define FM__EXP2_C1 0x1.62e42ap-1f
#define FM__EXP2_C2 0x1.ebf9bcp-3f
#define FM__EXP2_C3 0x1.c6b752p-5f
#define FM__EXP2_C4 0x1.3cea88p-7f
#define FM__EXP2_C5 0x1.5bba14p-10f
static inline float fm__exp2(float x)
{
    if (!(x >= -126.0f)) return 0.0f;
    float n = rintf(x), f = x - n;
    float p = fmaf(FM__EXP2_C5, f, FM__EXP2_C4);
    p = fmaf(p, f, FM__EXP2_C3);
    p = fmaf(p, f, FM__EXP2_C2);
    p = fmaf(p, f, FM__EXP2_C1);
    p = fmaf(p, f, 1.0f);
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

// exp2 for x <= 8 where the result is about to be rounded to 8 bits: relative error 1.1e-4, exactly 1 at 0, 2^-100 at
// least (and for NaN), so that no lane needs a mask. Degree 3, fitted as above.
#define FM__EXP2_CODE_C1 0x1.62f5fap-1f
#define FM__EXP2_CODE_C2 0x1.f00c52p-3f
#define FM__EXP2_CODE_C3 0x1.c2a218p-5f
#define FM__EXP2_CODE_LEAST -100.0f
static inline float fm__exp2_code(float x)
{
    x = x > FM__EXP2_CODE_LEAST ? x : FM__EXP2_CODE_LEAST;
    float n = rintf(x), f = x - n;
    float p = fmaf(FM__EXP2_CODE_C3, f, FM__EXP2_CODE_C2);
    p = fmaf(p, f, FM__EXP2_CODE_C1);
    p = fmaf(p, f, 1.0f);
    int32_t bits;
    memcpy(&bits, &p, sizeof bits);
    bits += (int32_t)n * (1 << 23);
    memcpy(&p, &bits, sizeof p);
    return p;
}

// What o is multiplied by in the end.
static inline float fm__attend_inverse(float m, float l, float sink)
{
    float top = fmaxf(m, sink), a = fm__exp2(m - top);
    l = fmaf(l, a, fm__exp2(sink - top));
    return l > 0.0f ? a / l : 0.0f;
}

// tanh by exp2, absolute error 1e-7: (1 - e) / (1 + e) with e = exp(-2|x|), and the sign.
static inline float fm__tanh(float x)
{
    float e = fm__exp2(fabsf(x) * (-2.0f * FM__LOG2E));
    return copysignf((1.0f - e) / (1.0f + e), x);
}

// The sum of 16 lanes: i + (i+8), then +4, +2, +1.
static inline float fm__sum16(const float *x)
{
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = x[i] + x[i + 8];
    for (int i = 0; i < 4; i++) s[i] += s[i + 4];
    for (int i = 0; i < 2; i++) s[i] += s[i + 2];
    return s[0] + s[1];
}

#endif
