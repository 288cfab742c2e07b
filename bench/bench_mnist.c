// SPDX-License-Identifier: MIT
// Trains a classifier of MNIST from a line of layers: AdamW, cosine to 0, images moved by up to 2 pixels, then says the
// accuracy on the test images and the seconds it took, wall and CPU. What `fathom train` is held against, from the ops
// up. Usage: bench_mnist DIR [LAYERS [EPOCHS [THREADS [RATE]]]]   (DIR: the four files, unpacked)
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "graph/gradient.h"
#include "model/image_net.h"
#include "ops/op.h"
#include "train/states.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, BATCH = 128, SHIFT = 2, CLASSES = 10 };

struct set {
    int64_t n;
    uint8_t *images, *labels;
};

struct training {
    struct fm__image_net net;
    struct fm__states states;
    struct fm__plan *step, *infer;
    float images[BATCH * PIXELS];
    int32_t labels[BATCH];
};

static void need(fm_status status, const struct fm_error *err)
{
    if (status == FM_OK) return;
    fprintf(stderr, "bench_mnist: %s\n", err->text);
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// The bytes behind an IDX file's header.
static uint8_t *read_idx(const char *dir, const char *name, size_t header, size_t bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(header + bytes);
    if (!f || fread(data, 1, header + bytes, f) != header + bytes) {
        fprintf(stderr, "bench_mnist: %s: cannot read %zu bytes\n", path, header + bytes);
        exit(1);
    }
    fclose(f);
    return data + header;
}

static struct set read_set(const char *dir, const char *name, int64_t n)
{
    char images[64], labels[64];
    snprintf(images, sizeof images, "%s-images-idx3-ubyte", name);
    snprintf(labels, sizeof labels, "%s-labels-idx1-ubyte", name);
    return (struct set){
        .n = n, .images = read_idx(dir, images, 16, (size_t)n * PIXELS), .labels = read_idx(dir, labels, 8, (size_t)n)};
}

static void add_state(struct training *t, const struct fm__value *v, const char *suffix, uint64_t number)
{
    struct fm_error err;
    struct fm__state state = {.tensor = {.dtype = FM_F32, .rank = v->rank}};
    snprintf(state.name, sizeof state.name, "%s%s", v->name, suffix);
    memcpy(state.tensor.dims, v->dims, sizeof v->dims);
    fm_tensor_set_contiguous(&state.tensor);
    need(fm__states_add(&t->states, &state, &err), &err);
    if (*suffix) return;
    float *values = malloc(fm_tensor_bytes(&state.tensor));
    fm__image_net_start(v, 1, number, values);
    need(fm__states_write(&t->states, fm__states_find(&t->states, state.name), values, &err), &err);
    free(values);
}

// One AdamW step for each parameter; no decay on vectors.
static void add_steps(struct training *t, struct fm__graph *g, fm__val loss)
{
    fm__val of[4 * FM__IMAGE_MAX_LAYERS], d[4 * FM__IMAGE_MAX_LAYERS];
    int n = 0;
    const int n_values = g->n_values;
    for (fm__val v = 0; v < n_values; v++) {
        if (g->values[v].kind != FM__STATE || g->values[v].node >= 0) continue;
        add_state(t, &g->values[v], "", (uint64_t)v);
        if (fm__image_net_trains(g->values[v].name)) of[n++] = v;
    }
    const fm__val knobs = fm__graph_leaf(g, FM__INPUT, "knobs", FM_F32, 1, (int64_t[]){4});
    fm__graph_gradient(g, loss, n, of, d);
    for (int i = 0; i < n; i++) {
        const struct fm__value p = g->values[of[i]];
        char name[2][64];
        snprintf(name[0], 64, "%.50s.m", p.name), snprintf(name[1], 64, "%.50s.v", p.name);
        const fm__val m = fm__graph_leaf(g, FM__STATE, name[0], FM_F32, p.rank, p.dims);
        const fm__val v = fm__graph_leaf(g, FM__STATE, name[1], FM_F32, p.rank, p.dims);
        add_state(t, &p, ".m", 0), add_state(t, &p, ".v", 0);
        const union fm__attrs attrs = {
            .adamw = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = p.rank > 1 ? 0.01f : 0}};
        fm__graph_add(g, FM__OP_ADAMW, 5, (fm__val[]){of[i], d[i], m, v, knobs}, &attrs);
    }
}

static struct fm__plan *plan(struct training *t, bool train)
{
    struct fm_error err;
    struct fm__plan *p;
    struct fm__graph *g = fm__graph_new();
    const fm__val x = fm__graph_leaf(g, FM__INPUT, "x", FM_F32, 2, (int64_t[]){FM__ROWS, PIXELS});
    if (train) {
        const fm__val labels = fm__graph_leaf(g, FM__INPUT, "labels", FM_I32, 1, (int64_t[]){FM__ROWS});
        const fm__val key = fm__graph_leaf(g, FM__INPUT, "key", FM_I32, 1, (int64_t[]){4});
        const fm__val logits = fm__image_net_logits(g, &t->net, x, key);
        fm__val loss = fm__graph_add(g, FM__OP_CROSS_ENTROPY, 2, (fm__val[]){logits, labels}, NULL);
        loss = fm__graph_add(g, FM__OP_SUM, 1, &loss, &(union fm__attrs){.sum = {.mean = 1}});
        fm__graph_output(g, loss, "loss");
        add_steps(t, g, loss);
    } else {
        fm__graph_output(g, fm__image_net_logits(g, &t->net, x, FM__NONE), "logits");
    }
    const struct fm__plan_opts opts = {.device = t->states.device,
                                       .rows = BATCH,
                                       .bind = fm__states_bind,
                                       .bind_context = &t->states,
                                       .exact_activations = 1};
    need(fm__graph_check(g, &err), &err);
    need(fm__plan_new(g, &opts, &p, &err), &err);
    fm__graph_free(g);
    return p;
}

// Image `from` to row `row` of the batch, moved by (dy, dx); MNIST's mean and deviation taken out.
static void put(struct training *t, const struct set *set, int64_t from, int row, const int moved[2])
{
    const uint8_t *image = set->images + from * PIXELS;
    t->labels[row] = set->labels[from];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const int sy = y - moved[0], sx = x - moved[1];
            const bool inside = sy >= 0 && sy < SIDE && sx >= 0 && sx < SIDE;
            t->images[row * PIXELS + y * SIDE + x] =
                ((inside ? (float)image[sy * SIDE + sx] / 255 : 0) - 0.1307f) / 0.3081f;
        }
}

static double accuracy(struct training *t, const struct set *test)
{
    struct fm_error err;
    int64_t right = 0;
    for (int64_t at = 0; at < test->n; at += BATCH) {
        const int n = test->n - at < BATCH ? (int)(test->n - at) : BATCH;
        for (int i = 0; i < n; i++) put(t, test, at + i, i, (int[]){0, 0});
        need(fm__plan_run(t->infer, n, (const void *[]){t->images}, &err), &err);
        const float *logits = fm__plan_output(t->infer, 0);
        for (int i = 0; i < n; i++) {
            int top = 0;
            for (int k = 1; k < CLASSES; k++)
                if (logits[i * CLASSES + k] > logits[i * CLASSES + top]) top = k;
            right += top == t->labels[i];
        }
    }
    return 100.0 * (double)right / (double)test->n;
}

static void train(struct training *t, const struct set *set, const struct set *test, int epochs, double rate)
{
    struct fm_error err;
    struct fm__rng rng = fm__rng_new(1, 1);
    int64_t *order = malloc((size_t)set->n * sizeof *order), step = 0;
    const int64_t per_epoch = set->n / BATCH;
    const double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int64_t i = 0; i < set->n; i++) order[i] = i;
    for (int epoch = 1; epoch <= epochs; epoch++) {
        double loss = 0;
        for (int64_t i = set->n - 1; i > 0; i--) {
            const int64_t k = (int64_t)fm__rng_below(&rng, (uint64_t)i + 1), kept = order[i];
            order[i] = order[k], order[k] = kept;
        }
        for (int64_t b = 0; b < per_epoch; b++) {
            const double done = (double)++step / (double)(per_epoch * epochs);
            const float knobs[] = {(float)(rate * 0.5 * (1 + cos(M_PI * done))), (float)(1 - pow(0.9, (double)step)),
                                   (float)(1 - pow(0.999, (double)step)), 1};
            for (int i = 0; i < BATCH; i++)
                put(t, set, order[b * BATCH + i], i,
                    (int[]){(int)fm__rng_below(&rng, 2 * SHIFT + 1) - SHIFT,
                            (int)fm__rng_below(&rng, 2 * SHIFT + 1) - SHIFT});
            const int32_t key[] = {1, 0, (int32_t)step, 0};
            need(fm__plan_run(t->step, BATCH, (const void *[]){t->images, t->labels, key, knobs}, &err), &err);
            loss += *(const float *)fm__plan_output(t->step, 0);
        }
        printf("epoch %d: loss %.4f, test accuracy %.2f %%, %.0f s, CPU %.0f s\n", epoch, loss / (double)per_epoch,
               accuracy(t, test), seconds(CLOCK_MONOTONIC) - start, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    }
    free(order);
}

int main(int argc, char **argv)
{
    static struct training t = {.net = {.channels = 1, .height = SIDE, .width = SIDE}};
    const char *layers = argc > 2 ? argv[2]
                                  : "conv 32, batchnorm, relu, max, conv 64, batchnorm, relu, max, "
                                    "linear 128, relu, dropout 0.3";
    const struct fm_device_opts opts = {.threads = argc > 4 ? atoi(argv[4]) : 0};
    struct fm_error err;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_mnist DIR [LAYERS [EPOCHS [THREADS [RATE]]]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    const struct set training = read_set(argv[1], "train", 60000), test = read_set(argv[1], "t10k", 10000);
    need(fm__image_net_parse(&t.net, layers, CLASSES, &err), &err);
    need(fm_device_open("cpu", &opts, &t.states.device, &err), &err);
    t.step = plan(&t, true);
    t.infer = plan(&t, false);
    train(&t, &training, &test, argc > 3 ? atoi(argv[3]) : 10, argc > 5 ? atof(argv[5]) : 2e-3);
    fm__plan_free(t.step);
    fm__plan_free(t.infer);
    fm__states_deinit(&t.states);
    fm_device_close(t.states.device);
    return 0;
}
