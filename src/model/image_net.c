// SPDX-License-Identifier: MIT
#include "model/image_net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"

enum { MAX_SIZE = 1 << 16, MAX_NUMBERS = 4 };
#define BATCHNORM_EPS 1e-5f // PyTorch's defaults
#define BATCHNORM_MOMENTUM 0.1f

// One layer's text, and the shape of what it gets.
struct reader {
    struct fm__image_net *net;
    int channels, height, width;
    char word[16];
    double numbers[MAX_NUMBERS];
    int n_numbers;
    struct fm_error *err;
};

static fm_status bad(const struct reader *r, const char *text, const char *want)
{
    return fm__fail(r->err, FM_E_FORMAT, "layer %d (\"%.40s\"): want %s", r->net->n_layers + 1, text, want);
}

// "conv 32 3" up to a comma; *text moves behind it.
static fm_status read_words(struct reader *r, const char **text)
{
    const char *at = *text + strspn(*text, " \n\t");
    const size_t n = strcspn(at, " ,\n\t");
    if (n == 0 || n >= sizeof r->word) return bad(r, at, "the name of a layer");
    memcpy(r->word, at, n);
    r->word[n] = 0;
    r->n_numbers = 0;
    for (at += n; *(at += strspn(at, " \n\t")) && *at != ',';) {
        char *end;
        const double number = strtod(at, &end);
        if (end == at || r->n_numbers == MAX_NUMBERS || !(number >= 0 && number < MAX_SIZE))
            return bad(r, at, "at most four numbers from 0 to 65535");
        r->numbers[r->n_numbers++] = number;
        at = end;
    }
    *text = at + (*at == ',');
    return FM_OK;
}

static int number(const struct reader *r, int i, int otherwise)
{
    return i < r->n_numbers ? (int)r->numbers[i] : otherwise;
}

static fm_status add_window(struct reader *r, struct fm__image_layer *layer)
{
    const bool conv = layer->kind == FM__IMAGE_CONV;
    const int kernel = number(r, conv, conv ? 3 : 2), stride = number(r, conv + 1, conv ? 1 : kernel);
    const int padding = number(r, conv + 2, conv ? kernel / 2 : 0);
    if (kernel < 1 || stride < 1 || padding >= kernel || kernel > r->height + 2 * padding ||
        kernel > r->width + 2 * padding)
        return bad(r, r->word, "a kernel that fits the image, a stride above 0, a padding below the kernel");
    struct fm__attr_conv *a = &layer->attrs.conv;
    a->channels = r->channels, a->height = r->height, a->width = r->width;
    a->kernel_h = a->kernel_w = kernel, a->stride = stride, a->padding = padding;
    r->height = (r->height + 2 * padding - kernel) / stride + 1;
    r->width = (r->width + 2 * padding - kernel) / stride + 1;
    if (conv) r->channels = layer->n_out;
    return FM_OK;
}

static const struct word {
    const char *name;
    enum fm__image_layer_kind kind;
    int which, needs, takes; // which: activation or kind of pool; numbers needed and taken
} words[] = {
    {"conv", FM__IMAGE_CONV, 0, 1, 4},
    {"max", FM__IMAGE_POOL, FM__POOL_MAX, 0, 3},
    {"mean", FM__IMAGE_POOL, FM__POOL_MEAN, 0, 3},
    {"linear", FM__IMAGE_LINEAR, 0, 1, 1},
    {"relu", FM__IMAGE_ACT, FM__ACT_RELU, 0, 0},
    {"gelu", FM__IMAGE_ACT, FM__ACT_GELU_ERF, 0, 0},
    {"silu", FM__IMAGE_ACT, FM__ACT_SILU, 0, 0},
    {"batchnorm", FM__IMAGE_BATCHNORM, 0, 0, 0},
    {"groupnorm", FM__IMAGE_GROUPNORM, 0, 1, 1},
    {"dropout", FM__IMAGE_DROPOUT, 0, 1, 1},
};

static fm_status fill_layer(struct reader *r, const struct word *w, struct fm__image_layer *layer)
{
    struct fm__attr_channels *norm = &layer->attrs.channels;
    *layer = (struct fm__image_layer){.kind = w->kind, .n_out = number(r, 0, 0)};
    switch (w->kind) {
    case FM__IMAGE_CONV:
    case FM__IMAGE_POOL:
        if (w->kind == FM__IMAGE_CONV && layer->n_out < 1) return bad(r, r->word, "channels above 0");
        layer->attrs.conv.kind = w->which;
        return add_window(r, layer);
    case FM__IMAGE_LINEAR:
        if (layer->n_out < 1) return bad(r, r->word, "features above 0");
        r->channels = layer->n_out, r->height = r->width = 1;
        return FM_OK;
    case FM__IMAGE_ACT:
        layer->attrs.act.act = w->which;
        return FM_OK;
    case FM__IMAGE_DROPOUT:
        if (!(r->numbers[0] < 1)) return bad(r, r->word, "a share below 1");
        layer->attrs.dropout.p = (float)r->numbers[0];
        layer->attrs.dropout.stream = r->net->n_layers;
        return FM_OK;
    default:
        *norm = (struct fm__attr_channels){.channels = r->channels, .groups = layer->n_out, .eps = BATCHNORM_EPS};
        if (w->kind == FM__IMAGE_BATCHNORM) norm->momentum = BATCHNORM_MOMENTUM;
        if (w->kind == FM__IMAGE_GROUPNORM && (layer->n_out < 1 || r->channels % layer->n_out))
            return bad(r, r->word, "groups that divide the channels");
        return FM_OK;
    }
}

static fm_status add_layer(struct reader *r)
{
    const struct word *w = NULL;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i].name, r->word)) w = &words[i];
    if (!w) return bad(r, r->word, "conv, max, mean, linear, relu, gelu, silu, batchnorm, groupnorm or dropout");
    if (r->n_numbers < w->needs || r->n_numbers > w->takes) return bad(r, r->word, "another number of numbers");
    if (r->net->n_layers == FM__IMAGE_MAX_LAYERS) return bad(r, r->word, "at most 64 layers");
    FM_TRY(fill_layer(r, w, &r->net->layers[r->net->n_layers]));
    if ((int64_t)r->channels * r->height * r->width > (int64_t)1 << 26)
        return bad(r, r->word, "at most 2^26 values of an image");
    r->net->n_layers++;
    return FM_OK;
}

fm_status fm__image_net_parse(struct fm__image_net *net, const char *text, int n_classes, struct fm_error *err)
{
    struct reader r = {.net = net, .channels = net->channels, .height = net->height, .width = net->width, .err = err};
    net->n_layers = 0;
    if (net->channels < 1 || net->height < 1 || net->width < 1 || n_classes < 1)
        return fm__fail(err, FM_E_ARG, "images of %d x %d x %d, %d classes: want all above 0", net->channels,
                        net->height, net->width, n_classes);
    while (text[strspn(text, " \n\t")]) {
        FM_TRY(read_words(&r, &text));
        FM_TRY(add_layer(&r));
    }
    snprintf(r.word, sizeof r.word, "linear");
    r.numbers[0] = n_classes, r.n_numbers = 1;
    return add_layer(&r);
}

static fm__val parameter(struct fm__graph *g, int layer, const char *what, int64_t d0, int64_t d1)
{
    char name[48];
    snprintf(name, sizeof name, "layers.%d.%s", layer, what);
    return fm__graph_leaf(g, FM__STATE, name, FM_F32, d1 ? 2 : 1, (int64_t[]){d0, d1});
}

static fm__val norm(struct fm__graph *g, const struct fm__image_layer *layer, int i, fm__val x, bool train)
{
    const int64_t C = layer->attrs.channels.channels;
    fm__val in[] = {x, parameter(g, i, "weight", C, 0), parameter(g, i, "bias", C, 0), FM__NONE, FM__NONE};
    if (layer->kind == FM__IMAGE_GROUPNORM) return fm__graph_add(g, FM__OP_GROUPNORM, 3, in, &layer->attrs);
    in[3] = parameter(g, i, "mean", C, 0), in[4] = parameter(g, i, "var", C, 0);
    return fm__graph_add(g, train ? FM__OP_BATCHNORM : FM__OP_BATCHNORM_FIXED, 5, in, &layer->attrs);
}

static fm__val one_layer(struct fm__graph *g, const struct fm__image_layer *layer, int i, fm__val x, fm__val key)
{
    const struct fm__attr_conv *a = &layer->attrs.conv;
    const int64_t width = g->values[x].dims[1];
    fm__val in[3] = {x, FM__NONE, FM__NONE};
    switch (layer->kind) {
    case FM__IMAGE_CONV:
        in[1] = parameter(g, i, "weight", layer->n_out, (int64_t)a->channels * a->kernel_h * a->kernel_w);
        in[2] = parameter(g, i, "bias", layer->n_out, 0);
        return fm__graph_add(g, FM__OP_CONV2D, 3, in, &layer->attrs);
    case FM__IMAGE_LINEAR:
        in[1] = parameter(g, i, "weight", layer->n_out, width), in[2] = parameter(g, i, "bias", layer->n_out, 0);
        return fm__graph_add(g, FM__OP_LINEAR, 3, in, NULL);
    case FM__IMAGE_POOL:
        return fm__graph_add(g, FM__OP_POOL2D, 1, in, &layer->attrs);
    case FM__IMAGE_ACT:
        return fm__graph_add(g, FM__OP_ACT, 1, in, &layer->attrs);
    case FM__IMAGE_DROPOUT:
        in[1] = key;
        if (key == FM__NONE || layer->attrs.dropout.p == 0) return x;
        return fm__graph_add(g, FM__OP_DROPOUT, 2, in, &layer->attrs);
    default:
        return norm(g, layer, i, x, key != FM__NONE);
    }
}

fm__val fm__image_net_logits(struct fm__graph *g, const struct fm__image_net *net, fm__val x, fm__val key)
{
    for (int i = 0; i < net->n_layers && x != FM__NONE; i++) x = one_layer(g, &net->layers[i], i, x, key);
    return x;
}

static bool ends(const char *name, const char *with)
{
    const size_t n = strlen(name), m = strlen(with);
    return n >= m && !strcmp(name + n - m, with);
}

bool fm__image_net_trains(const char *name)
{
    return !ends(name, ".mean") && !ends(name, ".var");
}

void fm__image_net_start(const struct fm__value *state, uint64_t seed, uint64_t number, float *values)
{
    const int64_t n = state->dims[0] * (state->rank > 1 ? state->dims[1] : 1);
    struct fm__rng rng = fm__rng_new(seed, number);
    const bool one = ends(state->name, ".weight") || ends(state->name, ".var");
    const double deviation = state->rank > 1 ? sqrt(2.0 / (double)state->dims[1]) : 0;
    for (int64_t i = 0; i < n; i++)
        values[i] = state->rank > 1 ? (float)(deviation * fm__rng_normal(&rng)) : one ? 1.0f : 0.0f;
}
