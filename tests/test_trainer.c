// SPDX-License-Identifier: MIT
// Training on real architectures (tiny random models of tests/data/tiny): the graph of training computes what sessions
// compute; gradients are the slope of the loss; detours begin as nothing; packed documents do not see one another;
// the same bytes at any number of threads, on sim, and after a checkpoint.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fathom/session.h"
#include "train/checkpoint.h"
#include "train/loop.h"

enum { N = 48, N_VOCAB = 288, CUT = 19 };

static const char *const archs[] = {"llama", "llama-tied", "qwen2", "qwen3", "gemma3", "gpt2"};
enum { N_ARCHS = sizeof archs / sizeof *archs };
static int32_t tokens[300];

struct bench {
    struct fm_device *device;
    struct fm_model *model;
    struct fm__trainer *t;
};

static struct bench open_bench(const char *arch, const char *device, int threads, struct fm__trainer_opts opts)
{
    struct bench b;
    struct fm_error err;
    char path[4096], file[64];
    snprintf(file, sizeof file, "tiny/%s.gguf", arch);
    snprintf(path, sizeof path, "%s", test_data(file));
    assert_ok(fm_device_open(device, &(struct fm_device_opts){.threads = threads}, &b.device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = b.device, .for_training = 1}, &b.model, &err), err);
    opts.model = b.model;
    if (!opts.n_rows) opts.n_rows = 64;
    assert_ok(fm__trainer_new(&opts, &b.t, &err), err);
    return b;
}

static void close_bench(struct bench *b)
{
    fm__trainer_free(b->t);
    fm_model_free(b->model);
    fm_device_close(b->device);
}

// Rows of documents [0, cut) and [cut, n) of the text, each token to be predicted from those before it.
static struct fm__microbatch micro(int from, int n, int cut)
{
    struct fm__microbatch mb;
    struct fm_error err;
    assert_ok(fm__microbatch_init(&mb, 64, &err), err);
    for (int i = 0; i < n; i++) {
        const int document = i >= cut, position = document ? i - cut : i;
        const bool last = i == cut - 1 || i == n - 1;
        mb.tokens[i] = tokens[from + i];
        mb.targets[i] = last ? -1 : tokens[from + i + 1];
        mb.weights[i] = last ? 0 : 1.0f / 32;
        memcpy(mb.rows + i * FM__ROW_FIELDS, ((int32_t[]){document, position, -1, i}), 4 * sizeof(int32_t));
        mb.n_targets += !last;
        mb.weight += (double)mb.weights[i];
    }
    mb.n_rows = n;
    mb.ends_step = true;
    return mb;
}

static void keep_logits(void *context, struct fm_session *s, int position, const float *logits)
{
    (void)s;
    memcpy((float *)context + (size_t)position * N_VOCAB, logits, N_VOCAB * sizeof *logits);
}

// -log p of each next token as sessions see the text, f32 cache.
static void session_losses(const char *arch, double *losses)
{
    struct fm_error err;
    struct fm_device *device;
    struct fm_model *model;
    struct fm_batcher *batcher;
    struct fm_session *s;
    char path[4096], file[64];
    float *logits = malloc((size_t)N * N_VOCAB * sizeof *logits);
    snprintf(file, sizeof file, "tiny/%s.gguf", arch);
    snprintf(path, sizeof path, "%s", test_data(file));
    assert_ok(fm_device_open("cpu", NULL, &device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = device}, &model, &err), err);
    assert_ok(fm_batcher_new(model, &(struct fm_batcher_opts){.kv_format = "f32"}, &batcher, &err), err);
    assert_ok(fm_session_new(batcher, &s, &err), err);
    fm_session_on_logits(s, 0, keep_logits, logits);
    assert_ok(fm_session_append(s, tokens, N, &err), err);
    assert_ok(fm_batcher_run(batcher, &err), err);
    for (int i = 0; i < N - 1; i++) {
        const float *row = logits + (size_t)i * N_VOCAB;
        double top = row[0], sum = 0;
        for (int v = 1; v < N_VOCAB; v++) top = fmax(top, row[v]);
        for (int v = 0; v < N_VOCAB; v++) sum += exp(row[v] - top);
        losses[i] = top + log(sum) - row[tokens[i + 1]];
    }
    fm_session_free(s);
    fm_batcher_free(batcher);
    fm_model_free(model);
    fm_device_close(device);
    free(logits);
}

static void losses_are_those_of_sessions(void **state)
{
    (void)state;
    for (int a = 0; a < N_ARCHS; a++) {
        struct bench b = open_bench(archs[a], "cpu", 2, (struct fm__trainer_opts){0});
        struct fm__microbatch mb = micro(0, N, N);
        struct fm__trainer_eval e;
        struct fm_error err;
        double want[N], worst = 0;
        session_losses(archs[a], want);
        assert_ok(fm__trainer_eval(b.t, &mb, &e, &err), err);
        for (int i = 0; i < N - 1; i++) worst = fmax(worst, fabs(32.0 * (double)e.losses[i] - want[i]) / want[i]);
        printf("%s: largest difference to the session's losses %.2g\n", archs[a], worst);
        assert_true(worst < 1e-5);
        assert_true(e.losses[N - 1] == 0); // nothing follows
        fm__microbatch_deinit(&mb);
        close_bench(&b);
    }
}

// --- gradients ---

static const struct fm__state *state_of(struct bench *b, const char *prefix, int i)
{
    char name[160];
    snprintf(name, sizeof name, "%s%s", prefix, fm__trainer_param(b->t, i));
    return fm__states_find(fm__trainer_states(b->t), name);
}

static float *values(struct bench *b, const struct fm__state *s)
{
    struct fm_error err;
    float *x = malloc(fm_tensor_bytes(&s->tensor));
    assert_ok(fm__states_read(fm__trainer_states(b->t), s, x, &err), err);
    return x;
}

static double loss_of(struct bench *b, const struct fm__microbatch *mb)
{
    struct fm__trainer_eval e;
    struct fm_error err;
    double sum = 0;
    assert_ok(fm__trainer_eval(b->t, mb, &e, &err), err);
    for (int i = 0; i < mb->n_rows; i++) sum += (double)e.losses[i];
    return sum;
}

// The loss after every parameter moved by `along` times its gradient; the parameters are put back.
static double loss_along(struct bench *b, const struct fm__microbatch *mb, double along)
{
    struct fm_error err;
    struct fm__states *states = fm__trainer_states(b->t);
    const int n = fm__trainer_n_params(b->t);
    float **old = malloc((size_t)n * sizeof *old);
    for (int i = 0; i < n; i++) {
        const struct fm__state *p = state_of(b, "", i);
        float *d = values(b, state_of(b, "grad.", i)), *x = values(b, p);
        old[i] = values(b, p);
        for (int64_t k = 0; k < fm_tensor_elements(&p->tensor); k++) x[k] += (float)(along * (double)d[k]);
        assert_ok(fm__states_write(states, p, x, &err), err);
        free(d), free(x);
    }
    const double loss = loss_of(b, mb);
    for (int i = 0; i < n; i++) {
        assert_ok(fm__states_write(states, state_of(b, "", i), old[i], &err), err);
        free(old[i]);
    }
    free(old);
    return loss;
}

static double square_of_gradients(struct bench *b)
{
    double sum = 0;
    for (int i = 0; i < fm__trainer_n_params(b->t); i++) {
        const struct fm__state *s = state_of(b, "grad.", i);
        float *d = values(b, s);
        for (int64_t k = 0; k < fm_tensor_elements(&s->tensor); k++) sum += (double)d[k] * (double)d[k];
        free(d);
    }
    return sum;
}

// Along the gradient g the loss rises by |g|² a unit: central differences at a step that moves the loss by about 2e-3,
// so that f32 rounding of the loss (1e-6) stays below 1e-3 of it, and the third derivative too (seen).
static void expect_slope(struct bench *b, const char *what)
{
    struct fm__microbatch mb = micro(0, N, CUT);
    struct fm_error err;
    double loss;
    assert_ok(fm__trainer_micro(b->t, &mb, &loss, &err), err);
    assert_true(fabs(loss - loss_of(b, &mb)) < 1e-5 * loss);
    const double g2 = square_of_gradients(b), step = 1e-3 / g2;
    const double slope = (loss_along(b, &mb, step) - loss_along(b, &mb, -step)) / (2 * step);
    printf("%s: loss %.4f, |g| %.4g, slope / |g|^2 = %.5f\n", what, loss, sqrt(g2), slope / g2);
    assert_true(g2 > 1e-6 && fabs(slope / g2 - 1) < 5e-3);
    double norm;
    assert_ok(fm__trainer_norm(b->t, &norm, &err), err);
    assert_true(fabs(norm - sqrt(g2)) < 1e-5 * norm);
    fm__microbatch_deinit(&mb);
}

static const struct fm__lora_opts some_lora = {.rank = 4, .alpha = 8, .targets = "all-linear"};

// B not zero, so that A has a gradient too.
static void stir(struct bench *b)
{
    struct fm_error err;
    for (int i = 0; i < fm__trainer_n_params(b->t); i++) {
        const struct fm__state *s = state_of(b, "", i);
        if (!strstr(s->name, ".lora_b")) continue;
        float *x = values(b, s);
        for (int64_t k = 0; k < fm_tensor_elements(&s->tensor); k++) x[k] = 0.05f * (float)((k * 37 + i) % 11 - 5);
        assert_ok(fm__states_write(fm__trainer_states(b->t), s, x, &err), err);
        free(x);
    }
}

static void gradients_are_slopes(void **state)
{
    (void)state;
    for (int a = 0; a < N_ARCHS; a++) {
        struct bench b = open_bench(archs[a], "cpu", 2, (struct fm__trainer_opts){0});
        expect_slope(&b, archs[a]);
        close_bench(&b);
        b = open_bench(archs[a], "cpu", 2, (struct fm__trainer_opts){.lora = some_lora});
        stir(&b);
        expect_slope(&b, "  with detours");
        close_bench(&b);
    }
    struct bench b = open_bench("llama-q4_1", "cpu", 2, (struct fm__trainer_opts){.lora = some_lora});
    stir(&b);
    expect_slope(&b, "detours of a quantised base");
    close_bench(&b);
}

static void heads_have_slopes(void **state)
{
    (void)state;
    struct fm__microbatch mb = micro(0, N, CUT);
    for (int i = 0; i < N; i++) mb.targets[i] = -1, mb.weights[i] = 0;
    mb.targets[CUT - 1] = 2, mb.targets[N - 1] = 0;
    mb.values[CUT - 1] = 0.7f, mb.values[N - 1] = -1.5f;
    mb.weights[CUT - 1] = mb.weights[N - 1] = 0.5f;
    static const char *const bases[] = {"llama",
                                        "llama-tied"}; // with an output matrix that a head makes idle, and without
    for (int i = 0; i < 8; i++) {
        struct fm__trainer_opts opts = {
            .task = i % 2 ? FM__TASK_CLASSIFY : FM__TASK_REGRESS, .n_classes = 3, .lora = some_lora};
        if (i / 2 % 2) opts.lora.rank = 0;
        struct bench b = open_bench(bases[i / 4], "cpu", 2, opts);
        struct fm_error err;
        double loss;
        stir(&b);
        assert_ok(fm__trainer_micro(b.t, &mb, &loss, &err), err);
        const double g2 = square_of_gradients(&b), step = 1e-3 / g2;
        const double slope = (loss_along(&b, &mb, step) - loss_along(&b, &mb, -step)) / (2 * step);
        printf("%s, task %d, rank %d: loss %.4f, slope / |g|^2 = %.5f\n", bases[i / 4], opts.task, opts.lora.rank, loss,
               slope / g2);
        assert_true(fabs(slope / g2 - 1) < 5e-3);
        close_bench(&b);
    }
    fm__microbatch_deinit(&mb);
}

static void detours_begin_as_nothing(void **state)
{
    (void)state;
    struct bench plain = open_bench("llama-q4_1", "cpu", 1, (struct fm__trainer_opts){0});
    struct bench with = open_bench("llama-q4_1", "cpu", 1, (struct fm__trainer_opts){.lora = some_lora});
    struct fm__microbatch mb = micro(0, N, N);
    assert_true(loss_of(&plain, &mb) == loss_of(&with, &mb));
    stir(&with);
    assert_true(fabs(loss_of(&plain, &mb) - loss_of(&with, &mb)) > 1e-4);
    fm__microbatch_deinit(&mb);
    close_bench(&plain), close_bench(&with);
}

static void evaluation_has_no_dropout(void **state)
{
    (void)state;
    struct bench plain = open_bench("llama", "cpu", 1, (struct fm__trainer_opts){0});
    struct bench with = open_bench("llama", "cpu", 1, (struct fm__trainer_opts){.dropout = 0.3f, .seed = 2});
    struct fm__microbatch mb = micro(0, N, N);
    struct fm_error err;
    double loss;
    assert_true(loss_of(&plain, &mb) == loss_of(&with, &mb));
    assert_ok(fm__trainer_micro(with.t, &mb, &loss, &err), err);
    assert_true(fabs(loss - loss_of(&with, &mb)) > 1e-3);
    fm__microbatch_deinit(&mb);
    close_bench(&plain), close_bench(&with);
}

static void packed_documents_do_not_see_one_another(void **state)
{
    (void)state;
    struct bench b = open_bench("llama", "cpu", 2, (struct fm__trainer_opts){0});
    struct fm__microbatch both = micro(0, N, CUT), first = micro(0, CUT, CUT), second = micro(CUT, N - CUT, N);
    struct fm__trainer_eval e;
    struct fm_error err;
    float packed[N];
    assert_ok(fm__trainer_eval(b.t, &both, &e, &err), err);
    memcpy(packed, e.losses, sizeof packed);
    assert_ok(fm__trainer_eval(b.t, &first, &e, &err), err);
    assert_memory_equal(packed, e.losses, CUT * sizeof *packed);
    assert_ok(fm__trainer_eval(b.t, &second, &e, &err), err);
    assert_memory_equal(packed + CUT, e.losses, (N - CUT) * sizeof *packed);
    fm__microbatch_deinit(&both), fm__microbatch_deinit(&first), fm__microbatch_deinit(&second);
    close_bench(&b);
}

// Two micro-batches add up to one that holds both.
static void micro_batches_add_up(void **state)
{
    (void)state;
    struct bench b = open_bench("llama", "cpu", 2, (struct fm__trainer_opts){0});
    struct fm__microbatch both = micro(0, N, CUT), first = micro(0, CUT, CUT), second = micro(CUT, N - CUT, N);
    struct fm_error err;
    double loss, other, norm_one, norm_two;
    assert_ok(fm__trainer_micro(b.t, &both, &loss, &err), err);
    assert_ok(fm__trainer_norm(b.t, &norm_one, &err), err);
    fm__trainer_drop(b.t);
    assert_ok(fm__trainer_micro(b.t, &first, &other, &err), err);
    loss -= other;
    assert_ok(fm__trainer_micro(b.t, &second, &other, &err), err);
    assert_true(fabs(loss - other) < 1e-5);
    assert_ok(fm__trainer_norm(b.t, &norm_two, &err), err);
    assert_true(fabs(norm_one - norm_two) < 1e-5 * norm_one);
    fm__microbatch_deinit(&both), fm__microbatch_deinit(&first), fm__microbatch_deinit(&second);
    close_bench(&b);
}

// --- steps ---

static void steps(struct bench *b, int from, int to)
{
    struct fm_error err;
    for (int i = from; i < to; i++) {
        struct fm__microbatch mb = micro(7 * i, N, CUT);
        double loss;
        assert_ok(fm__trainer_micro(b->t, &mb, &loss, &err), err);
        assert_ok(fm__trainer_update(b->t, 1e-3, 1 / mb.weight, &err), err);
        fm__microbatch_deinit(&mb);
    }
}

static float *all_params(struct bench *b, size_t *n)
{
    float *all = NULL;
    *n = 0;
    for (int i = 0; i < fm__trainer_n_params(b->t); i++) {
        const struct fm__state *s = state_of(b, "", i);
        const size_t more = (size_t)fm_tensor_elements(&s->tensor);
        float *x = values(b, s);
        all = realloc(all, (*n + more) * sizeof *all);
        memcpy(all + *n, x, more * sizeof *all);
        *n += more;
        free(x);
    }
    return all;
}

static void same_bytes_everywhere(void **state)
{
    (void)state;
    struct fm__trainer_opts opts = {.dropout = 0.1f, .seed = 7, .optimiser = {.weight_decay = 0.01}};
    struct bench b = open_bench("llama", "cpu", 1, opts);
    size_t n, m;
    steps(&b, 0, 3);
    float *want = all_params(&b, &n);
    close_bench(&b);
    static const struct {
        const char *device;
        int threads;
        size_t budget;
    } others[] = {{"cpu", 2, 0}, {"cpu", 3, 1}, {"sim", 1, 0}, {"sim", 1, 1}}; // 1: with recomputation
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        opts.arena_budget = others[i].budget;
        b = open_bench("llama", others[i].device, others[i].threads, opts);
        steps(&b, 0, 3);
        float *got = all_params(&b, &m);
        assert_int_equal(n, m);
        assert_memory_equal(want, got, n * sizeof *want);
        free(got);
        close_bench(&b);
    }
    free(want);
}

static void training_lowers_the_loss(void **state)
{
    (void)state;
    struct bench b = open_bench("llama", "cpu", 2, (struct fm__trainer_opts){0});
    struct fm__microbatch mb = micro(0, N, CUT);
    const double before = loss_of(&b, &mb);
    for (int i = 0; i < 5; i++) steps(&b, 0, 1);
    const double after = loss_of(&b, &mb);
    printf("loss %.4f, after five steps %.4f\n", before, after);
    assert_true(after < 0.95 * before);
    fm__microbatch_deinit(&mb);
    close_bench(&b);
}

// --- checkpoints ---

static struct fm__checkpoint notes(const struct bench *b, uint64_t step)
{
    return (struct fm__checkpoint){.model = fm__model_fingerprint(b->model),
                                   .data = 42,
                                   .settings = "0123456789abcdef",
                                   .steps = step,
                                   .micros = step,
                                   .best = 1.25,
                                   .seconds = 0.1};
}

static void a_checkpoint_goes_on_bit_for_bit(void **state)
{
    (void)state;
    const struct fm__trainer_opts opts = {.lora = {.rank = 4, .alpha = 8, .dropout = 0.1f, .targets = "all-linear"},
                                          .seed = 3};
    struct fm_error err;
    char path[4096];
    size_t n, m;
    snprintf(path, sizeof path, "%s/c.safetensors", test_tmpdir());
    struct bench b = open_bench("llama-q4_1", "cpu", 2, opts);
    steps(&b, 0, 2);
    struct fm__checkpoint c = notes(&b, 2), got;
    assert_ok(fm__checkpoint_save(path, fm__trainer_states(b.t), &c, &err), err);
    steps(&b, 2, 4);
    float *want = all_params(&b, &n);
    close_bench(&b);
    b = open_bench("llama-q4_1", "cpu", 1, opts);
    steps(&b, 0, 1); // whatever was there is replaced
    assert_ok(fm__checkpoint_load(path, fm__trainer_states(b.t), &c, &got, &err), err);
    assert_int_equal(got.steps, 2);
    assert_true(got.best == 1.25 && got.seconds == 0.1 && got.data == 42);
    *fm__trainer_counters(b.t) = (struct fm__trainer_counters){got.steps, got.micros};
    steps(&b, 2, 4);
    float *found = all_params(&b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(want, found, n * sizeof *want);
    free(want), free(found);

    // Of something else, or damaged: nothing changes.
    want = all_params(&b, &n);
    struct fm__checkpoint other = c;
    other.model++;
    assert_int_equal(fm__checkpoint_load(path, fm__trainer_states(b.t), &other, &got, &err), FM_E_ARG);
    other = c, other.data++;
    assert_int_equal(fm__checkpoint_load(path, fm__trainer_states(b.t), &other, &got, &err), FM_E_ARG);
    other = c, other.settings[0] = 'f';
    assert_int_equal(fm__checkpoint_load(path, fm__trainer_states(b.t), &other, &got, &err), FM_E_ARG);
    size_t size;
    uint8_t *bytes = test_read_file(path, &size);
    for (size_t at = 0; at < size; at += size / 41) { // any byte
        bytes[at] ^= 0x10;
        FILE *f = fopen(path, "wb");
        assert_int_equal(fwrite(bytes, 1, size, f), size);
        fclose(f);
        assert_int_not_equal(fm__checkpoint_load(path, fm__trainer_states(b.t), &c, &got, &err), FM_OK);
        bytes[at] ^= 0x10;
    }
    for (size_t cut = 0; cut < size; cut += size / 17) {
        assert_int_equal(truncate(path, 0), 0);
        FILE *f = fopen(path, "wb");
        assert_int_equal(fwrite(bytes, 1, cut, f), cut);
        fclose(f);
        assert_int_not_equal(fm__checkpoint_load(path, fm__trainer_states(b.t), &c, &got, &err), FM_OK);
    }
    free(bytes);
    found = all_params(&b, &m);
    assert_memory_equal(want, found, n * sizeof *want);
    free(want), free(found);
    close_bench(&b);
    struct bench full = open_bench("llama-q4_1", "cpu", 1, (struct fm__trainer_opts){0});
    assert_int_not_equal(fm__checkpoint_load(path, fm__trainer_states(full.t), &c, &got, &err), FM_OK);
    close_bench(&full);
}

// --- what is refused, and what is said ---

static void refusals(void **state)
{
    (void)state;
    struct fm_error err;
    struct bench b = open_bench("llama", "cpu", 1, (struct fm__trainer_opts){0});
    static const struct {
        struct fm__trainer_opts opts;
        const char *words;
    } bad[] = {
        {{.n_rows = 8, .task = FM__TASK_CLASSIFY, .n_classes = 1}, "1 classes"},
        {{.n_rows = 0}, "0 rows"},
        {{.n_rows = 8, .dropout = 1}, "dropout 1"},
        {{.n_rows = 8, .lora = {.rank = 2000, .targets = "all-linear"}}, "rank 2000"},
        {{.n_rows = 8, .lora = {.rank = 2, .targets = "attn_x"}}, "attn_x"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fm__trainer_opts opts = bad[i].opts;
        struct fm__trainer *t;
        opts.model = b.model;
        assert_int_not_equal(fm__trainer_new(&opts, &t, &err), FM_OK);
        if (!strstr(err.text, bad[i].words)) fail_msg("\"%s\" does not say %s", err.text, bad[i].words);
    }
    struct fm__microbatch mb = micro(0, N, N);
    double loss;
    mb.tokens[3] = N_VOCAB;
    assert_int_equal(fm__trainer_micro(b.t, &mb, &loss, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "token 288 in row 3"));
    mb.tokens[3] = 0, mb.n_rows = 65;
    assert_int_equal(fm__trainer_micro(b.t, &mb, &loss, &err), FM_E_LIMIT);
    assert_int_equal(fm__trainer_update(b.t, 1, 1, &err), FM_E_ARG); // no gradients yet
    fm__trainer_rest(b.t);
    mb.n_rows = N;
    assert_int_equal(fm__trainer_micro(b.t, &mb, &loss, &err), FM_E_ARG);
    assert_non_null(strstr(err.text, "at rest"));
    assert_non_null(state_of(&b, "", 0)); // what was learnt is there
    fm__microbatch_deinit(&mb);
    close_bench(&b);
}

static void blame_names_the_place(void **state)
{
    (void)state;
    struct fm_error err;
    struct bench b = open_bench("llama", "cpu", 1, (struct fm__trainer_opts){0});
    struct fm__microbatch mb = micro(0, N, N);
    char where[160];
    double loss;
    fm__trainer_blame(b.t, &mb, where, sizeof where);
    assert_string_equal(where, "");
    const struct fm__state *s = fm__states_find(fm__trainer_states(b.t), "blk.1.ffn_down.weight");
    float *x = values(&b, s);
    x[5] = 3e38f; // finite, but its products are not
    assert_ok(fm__states_write(fm__trainer_states(b.t), s, x, &err), err);
    assert_ok(fm__trainer_micro(b.t, &mb, &loss, &err), err);
    assert_false(isfinite(loss));
    fm__trainer_blame(b.t, &mb, where, sizeof where);
    printf("blamed: %s\n", where);
    x[5] = NAN;
    assert_ok(fm__states_write(fm__trainer_states(b.t), s, x, &err), err);
    fm__trainer_blame(b.t, &mb, where, sizeof where);
    assert_string_equal(where, "the parameter blk.1.ffn_down.weight");
    free(x);
    fm__microbatch_deinit(&mb);
    close_bench(&b);
}

static int read_tokens(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = test_read_file(test_data("tiny/tokens.i32"), &size);
    assert_int_equal(size, sizeof tokens);
    memcpy(tokens, bytes, sizeof tokens);
    free(bytes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_those_of_sessions),
        cmocka_unit_test(gradients_are_slopes),
        cmocka_unit_test(heads_have_slopes),
        cmocka_unit_test(detours_begin_as_nothing),
        cmocka_unit_test(evaluation_has_no_dropout),
        cmocka_unit_test(packed_documents_do_not_see_one_another),
        cmocka_unit_test(micro_batches_add_up),
        cmocka_unit_test(same_bytes_everywhere),
        cmocka_unit_test(training_lowers_the_loss),
        cmocka_unit_test(a_checkpoint_goes_on_bit_for_bit),
        cmocka_unit_test(refusals),
        cmocka_unit_test(blame_names_the_place),
    };
    return cmocka_run_group_tests_name("trainer", tests, read_tokens, NULL);
}
