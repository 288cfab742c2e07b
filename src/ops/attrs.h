// SPDX-License-Identifier: MIT
// Attributes of ops: what a node knows besides its inputs. Plain data, compared and printed bytewise, zero where
// unused.
#ifndef FM_OPS_ATTRS_H
#define FM_OPS_ATTRS_H

#include <stdint.h>

#include "fathom/tensor.h"

struct fm__attr_norm {
    float eps;
    int out_dtype; // FM_F32, or FM_Q8A when the plan fused the cast that followed
};

// Rotary embedding. Pair (i, i + n_rot/2) when `neox`, (2i, 2i+1) otherwise. theta_i = base^(-2i/n_rot), then the
// scaling: linear divides positions by `factor`; yarn as arXiv 2309.00071 with ramp [beta_fast, beta_slow].
enum { FM__ROPE_NONE, FM__ROPE_LINEAR, FM__ROPE_YARN };
struct fm__attr_rope {
    int head_dim; // x is [N, H * head_dim]; the first n_rot elements of each head turn
    int n_rot;
    int neox;
    int scaling;
    float base;
    float factor;      // positions (or contexts) are this many times longer than in training; 0 and 1: none
    float attn_factor; // multiplies cos and sin; 0 is 1
    float beta_fast, beta_slow, ext_factor;
    int n_ctx_orig;
    int backward; // turns by -theta: the gradient
};

// q [N, H, E] against cached keys. Row r sees the keys of its session at indexes kv_r - window < j <= kv_r.
struct fm__attr_attention {
    float scale;        // multiplies q·k
    float softcap;      // c * tanh(s / c) before the mask; 0: none
    float alibi_max;    // slopes 2^(-alibi_max * i / H); 0: none
    int window;         // 0: everything before
    int kv_format;      // index in the table of ops/kv_format.h
    int n_kv;           // K heads of the cache
    int head_k, head_v; // E of keys and of values
    int out_dtype;      // FM_F32 or FM_Q8A
};

enum { FM__ACT_NONE, FM__ACT_SILU, FM__ACT_GELU_TANH, FM__ACT_GELU_ERF, FM__ACT_RELU };
struct fm__attr_act {
    int act;
    int out_dtype; // FM_F32 or FM_Q8A
};

struct fm__attr_cast {
    int dtype; // of the output
};

struct fm__attr_scale {
    float factor, bias; // y = x * factor + bias
};

struct fm__attr_linear {
    int transpose_w; // y = x W instead of x W^T: the activation gradient
};

struct fm__attr_adamw {
    float beta1, beta2, eps, weight_decay;
};

// sgd and Muon
struct fm__attr_momentum {
    float momentum, weight_decay;
    float factor; // muon: multiplies the rate
    int nesterov; // the step looks ahead along the new momentum
};

struct fm__attr_slice {
    int64_t begin, count; // of the last dim
    int64_t total;        // pad: its length
};

struct fm__attr_sum {
    int mean; // divided by the number of elements
};

struct fm__attr_dropout {
    float p;
    int stream; // one a node: masks of different nodes are independent
};

enum { FM__LOSS_MSE, FM__LOSS_BCE, FM__LOSS_KL };
struct fm__attr_loss {
    int kind;          // of row_loss
    float temperature; // divides logits (kl) or scores (contrastive)
    float softcap;     // of the logits: c tanh(z / c); 0: none
    float smoothing;   // this share of the target goes to all classes alike; 0: none
};

enum { FM__POOL_MAX, FM__POOL_MEAN };
struct fm__attr_conv {
    int channels, height, width; // x is [N, channels * height * width]
    int kernel_h, kernel_w, stride, padding;
    int kind; // of pool2d
};

struct fm__attr_channels {
    int channels;
    int groups; // of channels: groupnorm
    float eps;
    float momentum; // of batchnorm's running statistics: what the new batch weighs
};

union fm__attrs {
    struct fm__attr_norm norm;
    struct fm__attr_rope rope;
    struct fm__attr_attention attention;
    struct fm__attr_act act;
    struct fm__attr_cast cast;
    struct fm__attr_scale scale;
    struct fm__attr_linear linear;
    struct fm__attr_adamw adamw;
    struct fm__attr_momentum momentum;
    struct fm__attr_slice slice;
    struct fm__attr_sum sum;
    struct fm__attr_loss loss;
    struct fm__attr_conv conv;
    struct fm__attr_channels channels;
    struct fm__attr_dropout dropout;
    unsigned char bytes[64];
};

#endif
