// SPDX-License-Identifier: MIT
// Contexts and continuations through a tiny model: the same numbers as one session that is given each text alone,
// however many run together, with shared beginnings and repeated contexts; hidden states; greedy answers; nothing
// evaluated twice; examples made into tokens; a classifier's head.
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "eval/answers.h"
#include "eval/classifier.h"
#include "eval/labelled.h"
#include "eval/likelihood.h"
#include "eval/prepare.h"
#include "eval/score.h"
#include "fathom/model.h"

enum { N_VOCAB = 288, D_MODEL = 64, N_CTX = 256, N_CONTEXTS = 23, MOST_CHOICES = 4, MOST_TOKENS = 5, PREFIX = 70 };

static struct fm_error err;
static struct fm_device *device;
static struct fm_model *model;
static struct fm_tokenizer *tok;

static int32_t context_tokens[N_CONTEXTS][N_CTX], choice_tokens[N_CONTEXTS][MOST_CHOICES][MOST_TOKENS];
static int32_t tops[N_CONTEXTS][MOST_CHOICES][MOST_TOKENS];
static struct fm__continuation continuations[N_CONTEXTS][MOST_CHOICES];
static struct fm__context contexts[N_CONTEXTS];
static float hidden[N_CONTEXTS][D_MODEL];

static int setup(void **unused)
{
    (void)unused;
    char path[4096];
    snprintf(path, sizeof path, "%s", test_data("tiny/llama.gguf"));
    assert_ok(fm_device_open("cpu", &(struct fm_device_opts){.threads = 2}, &device, &err), err);
    assert_ok(fm_model_open(path, &(struct fm_model_opts){.device = device}, &model, &err), err);
    assert_ok(fm_tokenizer_new(fm_model_gguf(model), &tok, &err), err);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    fm_tokenizer_free(tok);
    fm_model_free(model);
    fm_device_close(device);
    return 0;
}

static uint32_t state = 5;
static int random_below(int n)
{
    state = state * 1664525U + 1013904223U;
    return (int)((state >> 8) % (uint32_t)n);
}

// Contexts that begin alike (PREFIX tokens), one that occurs twice in a row, choices of 1 to 5 tokens.
static void make_contexts(void)
{
    state = 5;
    for (int i = 0; i < N_CONTEXTS; i++) {
        struct fm__context *c = &contexts[i];
        int n = PREFIX + 1 + random_below(60);
        for (int k = 0; k < n; k++) context_tokens[i][k] = k < PREFIX ? (k * 31) % 286 : random_below(286);
        *c = (struct fm__context){context_tokens[i], n, continuations[i], 1 + i % MOST_CHOICES};
        if (i % 5 == 4) { // the one before once more
            memcpy(context_tokens[i], context_tokens[i - 1], sizeof context_tokens[i]);
            c->n = contexts[i - 1].n;
        }
        for (int j = 0; j < c->n_continuations; j++) {
            int length = i % 5 == 3 ? 1 : 1 + random_below(MOST_TOKENS); // before the repeated one: only first tokens
            for (int k = 0; k < length; k++) choice_tokens[i][j][k] = random_below(286);
            continuations[i][j] =
                (struct fm__continuation){.tokens = choice_tokens[i][j], .n = length, .top = tops[i][j]};
        }
    }
}

static void keep_hidden(void *context, int64_t index, const float *state_of)
{
    (void)context;
    memcpy(hidden[index], state_of, sizeof hidden[index]);
}

static struct fm_batcher *new_batcher(int n_sessions)
{
    struct fm_batcher *batcher;
    struct fm_batcher_opts opts = {.n_ctx = N_CTX, .n_sessions = n_sessions, .n_batch = 64};
    assert_ok(fm_batcher_new(model, &opts, &batcher, &err), err);
    return batcher;
}

static struct fm_batcher_stats run_together(int n_lanes)
{
    struct fm_batcher *batcher = new_batcher(n_lanes);
    struct fm__likelihood l = {.together = {.batcher = batcher, .n_lanes = n_lanes},
                               .contexts = contexts,
                               .n = N_CONTEXTS,
                               .n_vocab = N_VOCAB,
                               .hidden = keep_hidden};
    make_contexts();
    memset(hidden, 0, sizeof hidden);
    assert_ok(fm__likelihood_run(&l, &err), err);
    struct fm_batcher_stats stats;
    fm_batcher_get_stats(batcher, &stats);
    fm_batcher_free(batcher);
    return stats;
}

struct alone {
    const struct fm__context *c;
    const struct fm__continuation *continuation;
    double log_p;
    bool greedy;
};

static void add_token(void *context, struct fm_session *session, int position, const float *logits)
{
    (void)session;
    struct alone *a = context;
    int at = position - (a->c->n - 1);
    if (at >= a->continuation->n) return;
    struct fm__score score;
    fm__score_row(logits, N_VOCAB, &score);
    a->log_p -= fm__score_nll(&score, logits, a->continuation->tokens[at]);
    a->greedy &= score.top == a->continuation->tokens[at];
    assert_int_equal(score.top, a->continuation->top[at]);
}

// Every text alone, in a session of its own, against what `continuations` holds.
static void check_alone(void)
{
    struct fm_batcher *batcher = new_batcher(1);
    for (int i = 0; i < N_CONTEXTS; i++)
        for (int j = 0; j < contexts[i].n_continuations; j++) {
            const struct fm__continuation *c = &continuations[i][j];
            struct alone alone = {.c = &contexts[i], .continuation = c, .greedy = true};
            struct fm_session *s;
            assert_ok(fm_session_new(batcher, &s, &err), err);
            fm_session_on_logits(s, contexts[i].n - 1, add_token, &alone);
            assert_ok(fm_session_append(s, contexts[i].tokens, contexts[i].n, &err), err);
            assert_ok(fm_batcher_run(batcher, &err), err);
            assert_memory_equal(hidden[i], fm_session_hidden(s), sizeof hidden[i]);
            assert_ok(fm_session_append(s, c->tokens, c->n, &err), err);
            assert_ok(fm_batcher_run(batcher, &err), err);
            assert_true(alone.log_p == c->log_p && alone.greedy == c->greedy);
            assert_true(c->log_p < 0);
            fm_session_free(s);
        }
    fm_batcher_free(batcher);
}

static void together_as_alone(void **unused)
{
    (void)unused;
    static const int lanes[] = {1, 3, 16, 30};
    for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++) {
        run_together(lanes[i]);
        check_alone();
    }
}

// One lane: the prefix once, what contexts do not share once, every continuation without its last token.
static void nothing_twice(void **unused)
{
    (void)unused;
    struct fm_batcher_stats stats = run_together(1);
    uint64_t rows = PREFIX;
    for (int i = 0; i < N_CONTEXTS; i++) {
        rows += i % 5 == 4 ? 1 : (uint64_t)(contexts[i].n - PREFIX); // the last row once more, for its logits
        for (int j = 0; j < contexts[i].n_continuations; j++) rows += (uint64_t)continuations[i][j].n - 1;
    }
    assert_true(stats.n_rows <= rows && stats.n_rows + N_CONTEXTS >= rows);
}

static void run_one(struct fm__context *context)
{
    struct fm_batcher *batcher = new_batcher(1);
    struct fm__likelihood l = {
        .together = {.batcher = batcher, .n_lanes = 1}, .contexts = context, .n = 1, .n_vocab = N_VOCAB};
    assert_ok(fm__likelihood_run(&l, &err), err);
    fm_batcher_free(batcher);
}

// Greedy are continuations of first choices only: the last one alone is not enough.
static void greedy(void **unused)
{
    (void)unused;
    int32_t tokens[3] = {1, 2, 3}, top[3];
    struct fm__continuation c = {.tokens = tokens, .n = 3, .top = top};
    make_contexts();
    struct fm__context context = {contexts[0].tokens, contexts[0].n, &c, 1};
    for (int k = 0; k < 3; k++) {
        run_one(&context);
        assert_false(c.greedy);
        tokens[k] = top[k];
    }
    run_one(&context);
    assert_true(c.greedy);
    tokens[0] = (tokens[0] + 1) % N_VOCAB;
    for (int k = 1; k < 3; k++) {
        run_one(&context);
        tokens[k] = top[k];
    }
    run_one(&context);
    assert_int_equal(top[2], tokens[2]);
    assert_false(c.greedy);
}

static void refused(void **unused)
{
    (void)unused;
    struct fm_batcher *batcher = new_batcher(1);
    struct fm__likelihood l = {
        .together = {.batcher = batcher, .n_lanes = 1}, .contexts = contexts, .n = 1, .n_vocab = N_VOCAB};
    make_contexts();
    contexts[0].n = 0;
    assert_int_equal(fm__likelihood_run(&l, &err), FM_E_ARG);
    make_contexts();
    continuations[0][0].n = 0;
    assert_int_equal(fm__likelihood_run(&l, &err), FM_E_ARG);
    make_contexts();
    choice_tokens[0][0][0] = N_VOCAB;
    assert_int_equal(fm__likelihood_run(&l, &err), FM_E_ARG);
    make_contexts();
    contexts[0].n = N_CTX + 1;
    assert_int_equal(fm__likelihood_run(&l, &err), FM_E_LIMIT);
    fm_batcher_free(batcher);
}

// --- greedy answers ---

static void answer_alone(const struct fm__question *q, int n_predict, char *out, size_t size)
{
    struct fm_batcher *batcher = new_batcher(1);
    struct fm_session *s;
    int32_t ids[64];
    size_t n = 0, n_bytes = 0;
    assert_ok(fm_session_new(batcher, &s, &err), err);
    assert_ok(fm_session_append(s, q->tokens, q->n, &err), err);
    while (n < (size_t)n_predict) {
        assert_ok(fm_batcher_run(batcher, &err), err);
        struct fm__score score;
        fm__score_row(fm_session_logits(s), N_VOCAB, &score);
        if (fm_tokenizer_is_eog(tok, score.top)) break;
        ids[n++] = score.top;
        assert_ok(fm_session_append(s, &score.top, 1, &err), err);
    }
    struct fm_decode_args args = {.ids = ids, .n = n, .flags = FM_DECODE_KEEP_PREFIX};
    assert_ok(fm_tokenizer_decode(tok, &args, out, size - 1, &n_bytes, &err), err);
    assert_true(n_bytes < size);
    out[n_bytes] = 0;
    fm_session_free(s);
    fm_batcher_free(batcher);
}

static void ask(struct fm__question *questions, int64_t n, int n_lanes, const char *stop)
{
    struct fm_batcher *batcher = new_batcher(n_lanes);
    struct fm__answers a = {.together = {.batcher = batcher, .n_lanes = n_lanes},
                            .tok = tok,
                            .questions = questions,
                            .n = n,
                            .n_predict = 12,
                            .stops = &stop,
                            .n_stops = stop != NULL,
                            .n_ctx = N_CTX,
                            .n_vocab = N_VOCAB};
    assert_ok(fm__answers_run(&a, &err), err);
    fm_batcher_free(batcher);
}

static void answers(void **unused)
{
    (void)unused;
    enum { N = 7 };
    struct fm__question questions[N];
    char want[N][512], whole[N][512];
    make_contexts();
    for (int i = 0; i < N; i++) {
        questions[i] = (struct fm__question){.tokens = contexts[i].tokens, .n = contexts[i].n};
        answer_alone(&questions[i], 12, want[i], sizeof want[i]);
    }
    for (int lanes = 1; lanes <= 4; lanes += 3) {
        ask(questions, N, lanes, NULL);
        for (int i = 0; i < N; i++) {
            // tiny models write broken characters too, which answers hold as U+FFFD
            bool plain = !strstr(questions[i].answer, "\xef\xbf\xbd");
            if (plain) assert_string_equal(questions[i].answer, want[i]);
            assert_int_equal(questions[i].n_answer, strlen(questions[i].answer));
            snprintf(whole[i], sizeof whole[i], "%s", questions[i].answer);
            fm__free(questions[i].answer);
            questions[i] = (struct fm__question){.tokens = contexts[i].tokens, .n = contexts[i].n};
        }
    }
    // a stop string ends an answer before it, also where it lies across tokens
    int n_stopped = 0;
    for (int i = 0; i < N; i++) {
        if (strlen(whole[i]) < 6) continue;
        char stop[4] = {whole[i][3], whole[i][4], whole[i][5], 0};
        ask(&questions[i], 1, 1, stop);
        assert_int_equal(questions[i].n_answer, (size_t)(strstr(whole[i], stop) - whole[i]));
        assert_memory_equal(questions[i].answer, whole[i], questions[i].n_answer);
        fm__free(questions[i].answer);
        n_stopped++;
    }
    assert_true(n_stopped > 3);
}

// --- examples to tokens ---

static struct fm__text text_of(const char *text)
{
    return (struct fm__text){(char *)(uintptr_t)text, strlen(text)};
}

static void encode(const char *text, int32_t ids[64], size_t *n)
{
    struct fm_encode_args args = {.text = text, .n = strlen(text), .flags = FM_ENCODE_ADD_SPECIAL};
    assert_ok(fm_tokenizer_encode(tok, &args, ids, 64, n, &err), err);
}

static void prepares(void **unused)
{
    (void)unused;
    struct fm__text choices[2] = {text_of("the thing"), text_of("a")};
    struct fm__example example = {
        .line = 3, .text = text_of("over the in \n"), .choices = choices, .n_choices = 2, .gold = 1};
    struct fm__examples examples = {.items = &example, .n = 1};
    struct fm__prepare_args args = {.tok = tok, .examples = &examples, .as = FM__AS_CHOICES, .n_ctx = 32};
    struct fm__prepared p;
    int32_t whole[64];
    size_t n;
    assert_ok(fm__prepare(&args, &p, &err), err);
    const struct fm__context *c = &p.contexts[0];
    encode("over the in", whole, &n); // without the white space at its end
    assert_int_equal(c->n, n);
    assert_memory_equal(c->tokens, whole, n * sizeof *whole);
    encode("over the in \n the thing", whole, &n); // which begins the continuation
    assert_int_equal(c->n + c->continuations[0].n, n);
    assert_memory_equal(c->continuations[0].tokens, whole + c->n, (size_t)c->continuations[0].n * sizeof *whole);
    fm__prepared_deinit(&p);

    // the beginning goes where there is no room
    args.n_ctx = 10;
    assert_ok(fm__prepare(&args, &p, &err), err);
    assert_int_equal(p.n_truncated, 1);
    c = &p.contexts[0];
    assert_int_equal(c->n + c->continuations[0].n - 1, 10);
    encode("over the in", whole, &n);
    assert_memory_equal(c->tokens, whole + (n - (size_t)c->n), (size_t)c->n * sizeof *whole);
    fm__prepared_deinit(&p);
    args.n_ctx = 2;
    assert_int_equal(fm__prepare(&args, &p, &err), FM_E_LIMIT);
    assert_non_null(strstr(err.text, "line 3"));
}

static void passages(void **unused)
{
    (void)unused;
    struct fm__example example = {.line = 1,
                                  .text = text_of("The thing about the other is that the one in the boat. ")};
    struct fm__examples examples = {.items = &example, .n = 1};
    struct fm__prepare_args args = {.tok = tok, .examples = &examples, .as = FM__AS_PASSAGE, .n_ctx = 7};
    struct fm__prepared p;
    int32_t whole[64];
    size_t n, scored = 0;
    encode(example.text.p, whole, &n);
    assert_ok(fm__prepare(&args, &p, &err), err);
    assert_int_equal(p.n, (n - 1 + 6) / 7);
    for (int64_t i = 0; i < p.n; i++) {
        const struct fm__context *c = &p.contexts[i];
        assert_true(c->n == 1 && c->n_continuations == 1 && c->continuations->n <= 7);
        assert_int_equal(c->tokens[0], whole[scored]);
        assert_memory_equal(c->continuations->tokens, whole + scored + 1, (size_t)c->continuations->n * sizeof *whole);
        scored += (size_t)c->continuations->n;
    }
    assert_int_equal(scored, n - 1); // all but the first, each once
    assert_int_equal(fm__likelihood_room(p.contexts, p.n), 7);
    fm__prepared_deinit(&p);
}

static void no_memory(void **unused)
{
    (void)unused;
    struct fm__text choices[2] = {text_of("the thing"), text_of("a")};
    struct fm__example example = {.line = 1, .text = text_of("over the in"), .choices = choices, .n_choices = 2};
    struct fm__examples examples = {.items = &example, .n = 1};
    struct fm__prepare_args args = {.tok = tok, .examples = &examples, .as = FM__AS_CHOICES, .n_ctx = 64};
    struct fm_batcher *batcher = new_batcher(2);
    for (int64_t n = 0;; n++) {
        struct fm__prepared p;
        fm__alloc_fail_after(n, true);
        fm_status status = fm__prepare(&args, &p, &err);
        struct fm__likelihood l = {
            .together = {.batcher = batcher, .n_lanes = 2}, .contexts = p.contexts, .n = p.n, .n_vocab = N_VOCAB};
        if (status == FM_OK) status = fm__likelihood_run(&l, &err);
        fm__alloc_fail_after(-1, false);
        fm__prepared_deinit(&p);
        if (status == FM_OK) break;
        assert_int_equal(status, FM_E_NOMEM);
        assert_true(n < 1000);
    }
    fm_batcher_free(batcher);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static void no_memory_reading(void **unused)
{
    (void)unused;
    char choice[4096], labelled[4096];
    snprintf(choice, sizeof choice, "%s/choice.jsonl", test_tmpdir());
    snprintf(labelled, sizeof labelled, "%s/labelled.tsv", test_tmpdir());
    write_text(choice, "{\"context\": \"the\", \"choices\": [\"in\", \"a\"], \"answer\": \"a\"}\n"
                       "{\"context\": \"a\", \"choices\": [\"in\", \"the\"], \"answer\": 0}\n");
    write_text(labelled, "text\tlabel\nthe thing\tgood\na thing\tbad\n");
    for (int turn = 0; turn < 2; turn++)
        for (int64_t n = 0;; n++) {
            struct fm__examples_args args = {.path = choice, .task = FM__EVAL_CHOICE};
            struct fm__labelled_args rows = {.path = labelled, .task = FM__EVAL_CLASSIFY, .tok = tok, .length = 64};
            struct fm__examples examples;
            fm__alloc_fail_after(n, true);
            fm_status status =
                turn ? fm__labelled_read(&rows, &examples, &err) : fm__examples_read(&args, &examples, &err);
            fm__alloc_fail_after(-1, false);
            if (status == FM_OK) {
                assert_true(examples.n == 2 && examples.items[0].gold == 1);
                if (turn) assert_string_equal(examples.items[1].text.p, "a thing");
                fm__examples_deinit(&examples);
                break;
            }
            assert_int_equal(status, FM_E_NOMEM);
            assert_true(n < 5000);
        }
}

// --- the head ---

static void write_head(const char *path, int64_t d, bool bias, int n_labels)
{
    static float weight[3 * D_MODEL], biases[3] = {0.5F, -1, 0};
    static const struct fm_str labels[3] = {{"bad", 3}, {"good", 4}, {"so so", 5}};
    struct fm_gguf_writer *w;
    struct fm_tensor view = {.dtype = FM_F32, .rank = 2, .dims = {3, d}};
    struct fm_gguf_kv kv = {.key = {"fathom.classifier.labels", 24},
                            .type = FM_GGUF_ARRAY,
                            .array_type = FM_GGUF_STRING,
                            .n = (uint64_t)n_labels,
                            .data = labels};
    for (int i = 0; i < 3 * d; i++) weight[i] = (float)(i % 13) - 6;
    assert_ok(fm_gguf_writer_new(path, &w, &err), err);
    if (n_labels) assert_ok(fm_gguf_writer_kv(w, &kv, &err), err);
    assert_ok(fm_gguf_writer_tensor(w, (struct fm_str){"cls.output.weight", 17}, &view, &err), err);
    view = (struct fm_tensor){.dtype = FM_F32, .rank = 1, .dims = {3}};
    if (bias) assert_ok(fm_gguf_writer_tensor(w, (struct fm_str){"cls.output.bias", 15}, &view, &err), err);
    assert_ok(fm_gguf_writer_data(w, weight, (size_t)(3 * d) * sizeof *weight, &err), err);
    if (bias) assert_ok(fm_gguf_writer_data(w, biases, sizeof biases, &err), err);
    assert_ok(fm_gguf_writer_finish(w, &err), err);
    fm_gguf_writer_free(w);
}

static fm_status read_head(const char *path, struct fm_gguf **gguf, struct fm__classifier *head)
{
    assert_ok(fm_gguf_open(path, NULL, gguf, &err), err);
    return fm__classifier_read(*gguf, 8, head, &err);
}

static void heads(void **unused)
{
    (void)unused;
    char path[4096];
    struct fm_gguf *gguf;
    struct fm__classifier head;
    float h[8] = {1, 0, -2, 0.5F, 3, 0, 1, -1};
    double scores[3];
    snprintf(path, sizeof path, "%s/head.gguf", test_tmpdir());
    write_head(path, 8, true, 3);
    assert_ok(read_head(path, &gguf, &head), err);
    assert_true(head.n_classes == 3 && head.labels[2].n == 5);
    fm__classifier_scores(&head, h, scores);
    for (int c = 0; c < 3; c++) {
        double want = c == 0 ? 0.5 : c == 1 ? -1 : 0;
        for (int k = 0; k < 8; k++) want += ((c * 8 + k) % 13 - 6) * (double)h[k];
        assert_true(scores[c] == want);
    }
    fm__classifier_deinit(&head);
    fm_gguf_close(gguf);

    write_head(path, 8, false, 0);
    assert_ok(read_head(path, &gguf, &head), err);
    assert_true(head.n_classes == 3 && !head.labels && head.bias[0] == 0);
    fm__classifier_deinit(&head);
    fm_gguf_close(gguf);

    write_head(path, 7, true, 3);
    assert_int_equal(read_head(path, &gguf, &head), FM_E_SHAPE);
    fm_gguf_close(gguf);
    write_head(path, 8, true, 2);
    assert_int_equal(read_head(path, &gguf, &head), FM_E_SHAPE);
    fm_gguf_close(gguf);
    assert_ok(fm__classifier_read(fm_model_gguf(model), D_MODEL, &head, &err), err);
    assert_int_equal(head.n_classes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together_as_alone), cmocka_unit_test(nothing_twice),
        cmocka_unit_test(refused),           cmocka_unit_test(greedy),
        cmocka_unit_test(answers),           cmocka_unit_test(prepares),
        cmocka_unit_test(passages),          cmocka_unit_test(no_memory),
        cmocka_unit_test(no_memory_reading), cmocka_unit_test(heads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
