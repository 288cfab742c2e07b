// SPDX-License-Identifier: MIT
// Classifiers of images: a chain of layers written as text, and its graph for training and for inference. Rows are
// images [C * H * W].
#ifndef FM_MODEL_IMAGE_NET_H
#define FM_MODEL_IMAGE_NET_H

#include "graph/graph.h"

enum fm__image_layer_kind {
    FM__IMAGE_CONV,
    FM__IMAGE_POOL,
    FM__IMAGE_LINEAR,
    FM__IMAGE_ACT,
    FM__IMAGE_BATCHNORM,
    FM__IMAGE_GROUPNORM,
    FM__IMAGE_DROPOUT
};

struct fm__image_layer {
    enum fm__image_layer_kind kind;
    int n_out;             // channels of conv, features of linear, groups of groupnorm
    union fm__attrs attrs; // of the op
};

enum { FM__IMAGE_MAX_LAYERS = 64 };
struct fm__image_net {
    int channels, height, width; // of the images
    int n_layers;                // the last one is linear, to the classes
    struct fm__image_layer layers[FM__IMAGE_MAX_LAYERS];
};

// Layers with commas between, each a word and its numbers (those in brackets may be left out):
//   conv OUT [KERNEL 3 [STRIDE 1 [PADDING: half the kernel]]] · max [KERNEL 2 [STRIDE: the kernel]] · mean, likewise ·
//   linear OUT · relu · gelu · silu · batchnorm · groupnorm GROUPS · dropout P
// "conv 32, relu, max, conv 64, relu, max, linear 128, relu" for instance; a linear layer to the classes is added. Only
// `channels`, `height` and `width` of *net are read. Errors: FM_E_FORMAT with the layer's number and what it says.
fm_status fm__image_net_parse(struct fm__image_net *net, const char *text, int n_classes, struct fm_error *err);

// The graph from x f32 [N, C * H * W] to logits f32 [N, n_classes]. Parameters are states "layers.I.weight", ".bias";
// batchnorm's running statistics ".mean", ".var", which training moves and inference takes. key: what dropout draws
// from (ops/dropout.h); FM__NONE: inference.
fm__val fm__image_net_logits(struct fm__graph *g, const struct fm__image_net *net, fm__val x, fm__val key);

// Whether a state is moved by gradients: all but running statistics.
bool fm__image_net_trains(const char *name);
// First values of a state: normal with variance 2 / fan-in for matrices (arXiv 1502.01852), ones for norms' weights and
// running variances, zeros for the rest. `number`: the state's own, so that each draws from a stream of its own.
void fm__image_net_start(const struct fm__value *state, uint64_t seed, uint64_t number, float *values);

#endif
