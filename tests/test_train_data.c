// SPDX-License-Identifier: MIT
// Reading training data: the samples of every kind (tokens, what is to be predicted, classes, numbers), which part of a
// conversation the assistant says under each template, bad rows, the cache, files that change, no memory.
#include "support/train_data.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "text/tok_hash.h"

static struct fm_tokenizer *tok;

static int setup(void **state)
{
    (void)state;
    tok = test_byte_tokenizer();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fm_tokenizer_free(tok);
    return 0;
}

static struct fm__data_opts opts_of(enum fm__data_kind kind, const char *const *path)
{
    return (struct fm__data_opts){.kind = kind, .paths = path, .n_paths = 1, .tok = tok, .length = 200};
}

// Opens and reads all samples in the files' order into one micro-batch of up to 4096 rows.
struct read {
    struct fm__dataset *data;
    struct fm__loader *loader;
    struct fm__microbatch mb;
};

static struct read read_all(const struct fm__data_opts *opts)
{
    struct read r = {.mb = test_microbatch(4096, opts->kind == FM__DATA_IMAGES ? 64 : 0)};
    struct fm_error err = {0};
    assert_ok(fm__dataset_open(opts, &r.data, &err), err);
    struct fm__loader_opts walk = {.rows = 4096, .batch = 1000, .order = FM__ORDER_SEQUENTIAL};
    assert_ok(fm__loader_new(r.data, &walk, &r.loader, &err), err);
    assert_ok(fm__loader_next(r.loader, &r.mb, &err), err);
    return r;
}

static void read_deinit(struct read *r)
{
    fm__loader_free(r->loader);
    fm__dataset_close(r->data);
    test_microbatch_deinit(&r->mb);
}

// The text of a document's tokens. Static buffer.
static const char *document_text(const struct fm__microbatch *mb, int64_t document)
{
    static char out[4096];
    size_t n = 0;
    for (int32_t r = document ? mb->ends[document - 1] : 0; r < mb->ends[document]; r++) {
        bool control = fm_tokenizer_token_type(tok, mb->tokens[r]) == FM_TOKEN_CONTROL;
        struct fm_str s =
            control ? fm_tokenizer_token_text(tok, mb->tokens[r]) : fm_tokenizer_token_bytes(tok, mb->tokens[r]);
        memcpy(out + n, s.p, s.n);
        n += s.n;
    }
    out[n] = '\0';
    return out;
}

// Opening must fail with the code and a text that holds all of `parts` (NULL ends them).
static void refused(const struct fm__data_opts *opts, fm_status code, const char *const *parts)
{
    struct fm_error err = {0};
    struct fm__dataset *data = (struct fm__dataset *)1;
    fm_status status = fm__dataset_open(opts, &data, &err);
    if (status == FM_OK) fail_msg("it opened, want an error with \"%s\"", parts[0]);
    assert_null(data);
    if (status != code) fail_msg("%s: %s", fm_status_text(status), err.text);
    for (; *parts; parts++)
        if (!strstr(err.text, *parts)) fail_msg("\"%s\" lacks \"%s\"", err.text, *parts);
}

// --- text ---

static void text_is_packed_across_documents(void **state)
{
    (void)state;
    const char *path = test_write_text("packed.txt", "one two\nthree\n\n\nfour\n\n");
    struct fm__data_opts opts = opts_of(FM__DATA_TEXT, &path);
    opts.unit = FM__UNIT_PARAGRAPH;
    struct read r = read_all(&opts);
    const struct fm__data_counts *c = fm__dataset_counts(r.data);
    // "one two\nthree" with "th" as one token and an end: 13; "four" and its end: 5
    assert_int_equal(c->rows, 2), assert_int_equal(c->used, 2);
    assert_int_equal(c->tokens, 18), assert_int_equal(c->targets, 16);
    assert_int_equal(r.mb.n_samples, 1), assert_int_equal(r.mb.n_documents, 2);
    assert_int_equal(r.mb.n_rows, 17), assert_int_equal(r.mb.n_targets, 16);
    assert_string_equal(document_text(&r.mb, 0), "one two\nthree<|im_end|>");
    assert_string_equal(test_predicted(tok, &r.mb, 0), "ne two\nthree<|im_end|>");
    assert_string_equal(document_text(&r.mb, 1), "four");
    assert_string_equal(test_predicted(tok, &r.mb, 1), "our<|im_end|>");
    assert_int_equal(r.mb.rows[4 * 13 + 0], 1); // slot, position, adapter, index of the fourteenth row
    assert_int_equal(r.mb.rows[4 * 13 + 1], 0);
    assert_int_equal(r.mb.rows[4 * 13 + 2], -1);
    assert_int_equal(r.mb.rows[4 * 13 + 3], 13);
    assert_int_equal(r.mb.targets[12], -1); // the end of a document predicts nothing
    read_deinit(&r);
    opts.one_slot = true;
    r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 1), assert_int_equal(r.mb.n_targets, 17);
    assert_int_equal(r.mb.targets[12], 'f');
    read_deinit(&r);
}

static void text_by_lines_files_and_json(void **state)
{
    (void)state;
    const char *paths[2] = {test_write_text("lines.txt", "\xef\xbb\xbfone\r\ntwo\n\nx"), NULL};
    struct fm__data_opts opts = opts_of(FM__DATA_TEXT, paths);
    opts.unit = FM__UNIT_LINE, opts.whole = true;
    struct read r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 3);
    assert_string_equal(test_predicted(tok, &r.mb, 0), "ne<|im_end|>");
    assert_string_equal(document_text(&r.mb, 0), "one"); // the last token is a target only
    assert_string_equal(test_predicted(tok, &r.mb, 2), "<|im_end|>");
    char where[100];
    fm__dataset_where(r.data, r.mb.samples[2], where, sizeof where);
    assert_non_null(strstr(where, "lines.txt:4"));
    read_deinit(&r);

    opts.unit = FM__UNIT_FILE, opts.end = FM__END_NONE;
    paths[1] = test_write_text("second.txt", "abc");
    opts.n_paths = 2;
    r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 2);
    assert_string_equal(document_text(&r.mb, 0), "one\r\ntwo\n\n");
    assert_string_equal(test_predicted(tok, &r.mb, 1), "bc");
    read_deinit(&r);

    paths[0] = test_write_text("rows.jsonl", "{\"text\": \"ab\"}\n\n{\"text\": \"c\\u00e9\", \"id\": 7}\n");
    opts.n_paths = 1, opts.end = FM__END_EOS;
    r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 2);
    assert_string_equal(document_text(&r.mb, 1), "cé");
    read_deinit(&r);
}

static void long_texts_are_cut_or_refused(void **state)
{
    (void)state;
    const char *path = test_write_text("long.txt", "abcdefghij\nxyz\n");
    struct fm__data_opts opts = opts_of(FM__DATA_TEXT, &path);
    opts.unit = FM__UNIT_LINE, opts.whole = true, opts.length = 4;
    struct read r = read_all(&opts);
    assert_int_equal(fm__dataset_counts(r.data)->truncated, 1);
    assert_int_equal(fm__dataset_counts(r.data)->longest, 4);
    assert_string_equal(test_predicted(tok, &r.mb, 0), "bcde");
    assert_string_equal(test_predicted(tok, &r.mb, 1), "yz<|im_end|>");
    read_deinit(&r);
    opts.refuse_long = true;
    refused(&opts, FM_E_FORMAT, (const char *[]){"long.txt:1: 11 tokens, want at most 5", NULL});
    opts.skip_bad = 1;
    r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 1);
    assert_int_equal(fm__dataset_counts(r.data)->skipped[FM__SKIP_LONG], 1);
    assert_int_equal(fm__dataset_counts(r.data)->truncated, 0);
    assert_non_null(strstr(fm__dataset_bad_row(r.data, 0), "long.txt:1: 11 tokens"));
    assert_null(fm__dataset_bad_row(r.data, 1));
    read_deinit(&r);
}

// --- chats ---

static char *template_text(const char *name, size_t *n)
{
    char path[100];
    snprintf(path, sizeof path, "templates/%s.jinja", name);
    return (char *)test_read_file(test_data(path), n);
}

// What is to be predicted of the conversation under the template; NULL: the row is refused, and *reason says why.
static const char *predicted_of(const char *template, const char *row, char reason[300])
{
    size_t n;
    char *text = template_text(template, &n);
    const char *path = test_write_text("chat.jsonl", row), *out = NULL;
    struct fm__data_opts opts = opts_of(FM__DATA_CHAT, &path);
    opts.chat_template = text, opts.n_chat_template = n, opts.length = 1000;
    struct fm_error err = {0};
    struct fm__dataset *data;
    fm_status status = fm__dataset_open(&opts, &data, &err);
    snprintf(reason, 300, "%s", err.text);
    if (status == FM_OK) {
        fm__dataset_close(data);
        struct read r = read_all(&opts);
        out = test_predicted(tok, &r.mb, 0);
        snprintf(reason, 300, "turns %d lost %d", (int)fm__dataset_counts(r.data)->turns,
                 (int)fm__dataset_counts(r.data)->turns_lost);
        read_deinit(&r);
    }
    free(text);
    return out;
}

#define TWO_TURNS                                                                                                 \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}, {\"role\": \"assistant\", \"content\": \"Hi, " \
    "you.\"},"                                                                                                    \
    "{\"role\": \"user\", \"content\": \"Bye\"}, {\"role\": \"assistant\", \"content\": \"\\n\\nSo long!\"}]}\n"

static void assistant_spans(void **state)
{
    (void)state;
    static const struct {
        const char *template, *want;
    } cases[] = {
        // the newline behind <|im_end|> is not said; a token of two newlines straddles the start: predicted
        {"smollm2", "Hi, you.<|im_end|>…\n\n\nSo long!<|im_end|>"},
        // asks for an answer with two newlines: the second is none of the model's where the content begins with it
        {"chatml", "Hi, you.<|im_end|>…\nSo long!<|im_end|>"},
        {"phi-3", "Hi, you.<|end|>…\n\n\nSo long!<|end|>"},
        {"inst-style", " Hi, you.<|im_end|>… So long!<|im_end|>"}, // trims, ends with the EOS
        {"zephyr-style", "Hi, you.<|im_end|>…\n\n\nSo long!<|im_end|>"},
        // thoughts stand in the last turn only: the first turn is found by replacing its content
        {"thinking-style", "Hi, you.<|im_end|>…<think>\n\n</think>\n\nSo long!<|im_end|>"},
    };
    char reason[300];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = predicted_of(cases[i].template, TWO_TURNS, reason);
        if (!got) fail_msg("%s: %s", cases[i].template, reason);
        if (got && strcmp(got, cases[i].want) != 0)
            fail_msg("%s: \"%s\", want \"%s\"", cases[i].template, got, cases[i].want);
        assert_string_equal(reason, "turns 2 lost 0");
    }
}

// Thoughts in the last turn only, a closing token of the answer besides that of the turn, an EOS behind all.
static void turns_that_close_twice(void **state)
{
    (void)state;
    static const char template[] =
        "{% for m in messages %}{% if m.role == 'user' %}<|user|>{{ m.content }}<|end|>{% else %}<|assistant|>"
        "{% if loop.last %}<s>{% endif %}{{ m.content }}<s><|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% else %}<|im_end|>{% endif %}";
    const char *path = test_write_text("chat.jsonl", TWO_TURNS);
    struct fm__data_opts opts = opts_of(FM__DATA_CHAT, &path);
    opts.chat_template = template, opts.n_chat_template = sizeof template - 1;
    struct read r = read_all(&opts);
    // the first turn is found by replacing: its closing tokens are taken up to the one that ends generation
    assert_string_equal(test_predicted(tok, &r.mb, 0), "Hi, you.<s><|end|>…<s>\n\nSo long!<s><|end|>");
    read_deinit(&r);
}

static void templates_that_hide_the_answer(void **state)
{
    (void)state;
    char reason[300];
    // counts messages by role and prints contents cut to a width: no turn can be told
    assert_null(
        predicted_of("channels-style", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}", reason));
    assert_non_null(strstr(reason, "does not show which part the assistant says"));
    // this one demands that turns alternate
    assert_null(predicted_of("inst-style", "{\"messages\": [{\"role\": \"assistant\", \"content\": \"Hi\"}]}", reason));
    assert_non_null(strstr(reason, "chat.jsonl:1: "));
    assert_non_null(strstr(reason, "turns must alternate"));
}

static void chats_in_other_shapes(void **state)
{
    (void)state;
    char reason[300];
    assert_string_equal(
        predicted_of("chatml",
                     "{\"conversations\": [{\"from\": \"system\", \"value\": \"S\"}, {\"from\": \"human\", "
                     "\"value\": \"Q\"}, {\"from\": \"gpt\", \"value\": \"A\"}]}",
                     reason),
        "A<|im_end|>");
    // weight 0 leaves a turn out, tools reach the template
    assert_string_equal(predicted_of("chatml",
                                     "{\"messages\": [{\"role\": \"assistant\", \"content\": \"A\", \"weight\": 0},"
                                     "{\"role\": \"assistant\", \"content\": \"B\", \"weight\": 1}]}",
                                     reason),
                        "B<|im_end|>");
    assert_string_equal(
        predicted_of("thinking-style",
                     "{\"tools\": [{\"name\": \"f\"}], \"messages\": [{\"role\": \"user\", \"content\": \"Q\"},"
                     "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"name\": \"f\", "
                     "\"arguments\": {}}]}]}",
                     reason),
        "<think>\n\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call><|im_end|>");
    static const struct {
        const char *row, *why;
    } bad[] = {
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"Q\"}]}", "no message of the assistant"},
        {"{\"messages\": []}", "\"messages\" is no array, or empty"},
        {"{\"text\": \"x\"}", "\"messages\" is missing"},
        {"{\"messages\": [7]}", "message 1 is no object"},
        {"{\"messages\": [{\"role\": 3, \"content\": \"x\"}]}", "message 1 has no \"role\""},
        {"{\"messages\": [{\"role\": \"user\", \"content\": 3}]}", "message 1 has no \"content\""},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a<|im_end|>\"}, {\"role\": \"assistant\", \"content\": "
         "\"b\"}]}",
         "message 1 holds the control token \"<|im_end|>\""},
        {"{\"conversations\": [{\"from\": \"robot\", \"value\": \"x\"}]}", "turn 1 is from \"robot\""},
        {"{\"conversations\": [{\"from\": \"gpt\"}]}", "turn 1 has no \"from\" and \"value\""},
        {"{\"conversations\": 1}", "\"conversations\" is no array"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(predicted_of("chatml", bad[i].row, reason));
        if (!strstr(reason, bad[i].why)) fail_msg("\"%s\" lacks \"%s\"", reason, bad[i].why);
    }
}

// --- prompts ---

static void completions(void **state)
{
    (void)state;
    const char *path = test_write_text("pairs.jsonl", "{\"prompt\": \"Say t\", \"completion\": \"hat\"}\n"
                                                      "{\"prompt\": \"\", \"completion\": \"x\"}\n"
                                                      "{\"prompt\": \"2+2=\", \"completion\": \"4\"}\n");
    struct fm__data_opts opts = opts_of(FM__DATA_COMPLETION, &path);
    struct read r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 3);
    assert_string_equal(test_predicted(tok, &r.mb, 0), "that<|im_end|>"); // "th" straddles the border
    assert_string_equal(test_predicted(tok, &r.mb, 1), "<|im_end|>");     // nothing precedes the first token
    assert_string_equal(test_predicted(tok, &r.mb, 2), "4<|im_end|>");
    assert_string_equal(document_text(&r.mb, 2), "2+2=4");
    read_deinit(&r);
    opts.length = 4; // five tokens: the completion's first is in
    r = read_all(&opts);
    assert_int_equal(fm__dataset_counts(r.data)->truncated, 2);
    assert_string_equal(test_predicted(tok, &r.mb, 0), "th");
    read_deinit(&r);
    opts.length = 3;
    refused(&opts, FM_E_FORMAT, (const char *[]){"pairs.jsonl:1: no token of completion within the first 4", NULL});
    opts.skip_bad = 2;
    r = read_all(&opts);
    assert_int_equal(fm__dataset_counts(r.data)->truncated, 0);
    assert_int_equal(fm__dataset_counts(r.data)->skipped[FM__SKIP_NO_TARGET], 2);
    read_deinit(&r);
}

static void preferences(void **state)
{
    (void)state;
    size_t n;
    char *text = template_text("chatml", &n);
    const char *path =
        test_write_text("prefer.jsonl", "{\"prompt\": \"Q:\", \"chosen\": \"good\", \"rejected\": \"bad\"}\n"
                                        "{\"prompt\": [{\"role\": \"user\", \"content\": \"Q\"}], \"chosen\": "
                                        "[{\"role\": \"assistant\", \"content\": \"yes\"}],"
                                        "\"rejected\": [{\"role\": \"assistant\", \"content\": \"no\"}]}\n"
                                        "{\"chosen\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": "
                                        "\"assistant\", \"content\": \"A\"}, {\"role\": "
                                        "\"assistant\", \"content\": \"up\"}],"
                                        "\"rejected\": [{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": "
                                        "\"assistant\", \"content\": \"A\"}, {\"role\": "
                                        "\"assistant\", \"content\": \"down\"}]}\n");
    struct fm__data_opts opts = opts_of(FM__DATA_PREFERENCE, &path);
    opts.chat_template = text, opts.n_chat_template = n;
    struct read r = read_all(&opts);
    static const char *const want[] = {"good<|im_end|>", "bad<|im_end|>", "yes<|im_end|>",
                                       "no<|im_end|>",   "up<|im_end|>",  "down<|im_end|>"};
    assert_int_equal(r.mb.n_samples, 3), assert_int_equal(r.mb.n_documents, 6);
    for (int i = 0; i < 6; i++) {
        assert_string_equal(test_predicted(tok, &r.mb, i), want[i]);
        assert_int_equal(r.mb.samples[i], i / 2);
    }
    read_deinit(&r);
    path = test_write_text("prefer.jsonl", "{\"prompt\": \"Q:\", \"chosen\": \"same\", \"rejected\": \"same\"}\n");
    refused(&opts, FM_E_FORMAT, (const char *[]){"prefer.jsonl:1", "are the same", NULL});
    path = test_write_text("prefer.jsonl", "{\"prompt\": \"Q:\", \"chosen\": \"same\"}\n");
    refused(&opts, FM_E_FORMAT, (const char *[]){"\"rejected\" is missing", NULL});
    opts.chat_template = NULL, opts.n_chat_template = 0;
    path = test_write_text("prefer.jsonl", "{\"chosen\": [], \"rejected\": []}\n");
    refused(&opts, FM_E_FORMAT, (const char *[]){"has no chat template", NULL});
    free(text);
}

// --- tables ---

static void expect_labels(const struct fm__dataset *data, const char *const *names, int n)
{
    assert_int_equal(fm__dataset_n_labels(data), n);
    for (int i = 0; i < n; i++) assert_string_equal(fm__dataset_label(data, i), names[i]);
    assert_null(fm__dataset_label(data, n));
}

static void csv_with_quotes(void **state)
{
    (void)state;
    const char *path =
        test_write_text("a.csv", "text,category\r\n\"a, \"\"b\"\"\r\nc\",pos\r\nd \"e\",neg\r\n\r\nf,pos");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    struct read r = read_all(&opts);
    expect_labels(r.data, (const char *[]){"neg", "pos"}, 2); // by name
    assert_int_equal(r.mb.n_documents, 3);
    assert_string_equal(document_text(&r.mb, 0), "a, \"b\"\nc<|im_end|>");
    assert_string_equal(document_text(&r.mb, 1), "d \"e\"<|im_end|>");
    assert_int_equal(r.mb.targets[r.mb.ends[0] - 1], 1);
    assert_int_equal(r.mb.targets[r.mb.ends[1] - 1], 0);
    assert_int_equal(r.mb.targets[r.mb.ends[2] - 1], 1);
    assert_int_equal(r.mb.targets[0], -1);
    assert_int_equal(r.mb.n_targets, 3);
    assert_int_equal(fm__dataset_label_count(r.data, FM__DATA_ALL, 1), 2);
    char where[100];
    fm__dataset_where(r.data, 2, where, sizeof where);
    assert_non_null(strstr(where, "a.csv:6"));
    read_deinit(&r);
}

static void headers_and_columns(void **state)
{
    (void)state;
    // no usual name in the first row: it is data
    const char *path = test_write_text("b.tsv", "\"a \"\"b\"\"\"\t10\n\"c\t9\nd\t10\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    struct read r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 3);
    expect_labels(r.data, (const char *[]){"9", "10"}, 2); // integers by value
    assert_string_equal(document_text(&r.mb, 0), "a \"b\"<|im_end|>");
    assert_string_equal(document_text(&r.mb, 1), "\"c<|im_end|>"); // a quote that nothing closes is a character
    read_deinit(&r);
    // by number, by name, several, joined
    path = test_write_text("c.csv", "id;first;second;kind\n1;a;b;x\n2;c;d;y\n");
    opts.columns = (struct fm__data_columns){.text = {"first", "3"}, .join = " | ", .label = "kind", .delimiter = ';'};
    r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 2);
    assert_string_equal(document_text(&r.mb, 1), "c | d<|im_end|>");
    read_deinit(&r);
    opts.columns.label = "sort";
    refused(&opts, FM_E_FORMAT,
            (const char *[]){"c.csv:1: no column \"sort\"; the header has id, first, second, kind", NULL});
    opts.columns.label = "9";
    refused(&opts, FM_E_FORMAT, (const char *[]){"c.csv:1: column 9: the first row has 4", NULL});
    opts.columns = (struct fm__data_columns){.label = "kind", .delimiter = ';', .header = FM__HEADER_NO};
    refused(&opts, FM_E_ARG, (const char *[]){"there is no header; give its number", NULL});
    opts.columns = (struct fm__data_columns){.delimiter = ';', .header = FM__HEADER_NO, .text = {"2"}};
    r = read_all(&opts);
    expect_labels(r.data, (const char *[]){"kind", "x", "y"}, 3);
    read_deinit(&r);
    opts.columns = (struct fm__data_columns){0};
    refused(&opts, FM_E_FORMAT, (const char *[]){"has one column", NULL});
}

static void labels_in_json_and_given(void **state)
{
    (void)state;
    const char *path = test_write_text("d.jsonl", "{\"text\": \"a\", \"label\": 3}\n{\"text\": \"b\", \"label\": -1}\n"
                                                  "{\"sentence\": \"c\", \"category\": \"3\"}\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    struct read r = read_all(&opts);
    expect_labels(r.data, (const char *[]){"-1", "3"}, 2);
    assert_int_equal(r.mb.targets[r.mb.ends[2] - 1], 1);
    read_deinit(&r);
    static const char *const given[] = {"3", "other", "-1"};
    opts.labels = given, opts.n_labels = 3;
    r = read_all(&opts);
    expect_labels(r.data, given, 3);
    assert_int_equal(r.mb.targets[r.mb.ends[1] - 1], 2);
    read_deinit(&r);
    opts.n_labels = 2;
    refused(&opts, FM_E_FORMAT, (const char *[]){"d.jsonl:2: unknown label \"-1\", want one of the 2 given", NULL});
    static const char *const twice[] = {"3", "3"};
    opts.labels = twice;
    refused(&opts, FM_E_ARG, (const char *[]){"label \"3\" is given twice", NULL});
}

static void regression(void **state)
{
    (void)state;
    const char *path = test_write_text("e.csv", "sentence,score\na,1.5\nbb,-2e-1\n");
    struct fm__data_opts opts = opts_of(FM__DATA_REGRESS, &path);
    opts.end = FM__END_NONE;
    struct read r = read_all(&opts);
    assert_int_equal(r.mb.n_rows, 3);
    assert_true(r.mb.values[0] == 1.5f && r.mb.values[1] == 0 && r.mb.values[2] == -0.2f);
    assert_true(r.mb.weights[0] == 1 && r.mb.weights[1] == 0 && r.mb.weights[2] == 1);
    assert_int_equal(r.mb.targets[0], -1);
    read_deinit(&r);
    path = test_write_text("e.csv", "sentence,score\na,1.5x\n");
    refused(&opts, FM_E_FORMAT, (const char *[]){"e.csv:2: \"1.5x\" is no finite number", NULL});
    path = test_write_text("e.csv", "sentence,score\na,nan\n");
    refused(&opts, FM_E_FORMAT, (const char *[]){"\"nan\" is no finite number", NULL});
    path = test_write_text("e.jsonl", "{\"sentence\": \"a\", \"score\": 0.25}\n");
    r = read_all(&opts);
    assert_true(r.mb.values[0] == 0.25f);
    read_deinit(&r);
}

static void the_end_of_a_long_row_stays(void **state)
{
    (void)state;
    const char *path = test_write_text("long.csv", "abcdefgh,x\nab,y\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    opts.length = 4;
    struct read r = read_all(&opts);
    assert_int_equal(fm__dataset_counts(r.data)->truncated, 1);
    assert_string_equal(document_text(&r.mb, 0), "abc<|im_end|>");
    assert_string_equal(document_text(&r.mb, 1), "ab<|im_end|>");
    read_deinit(&r);
}

// --- bad rows ---

static void bad_rows(void **state)
{
    (void)state;
    static const struct {
        enum fm__data_kind kind;
        const char *name, *bytes, *why;
        size_t n; // 0: up to the zero byte
    } cases[] = {
        {FM__DATA_CLASSIFY, "z.csv", "text,label\na,x\n\"b,y\n", "z.csv:3: a quoted field is not closed", 0},
        {FM__DATA_CLASSIFY, "z.csv", "text,label\n\"b\"c,y\n", "z.csv:2: a quoted field goes on behind", 0},
        {FM__DATA_CLASSIFY, "z.csv", "text,label\nb\n", "z.csv:2: 1 columns, want at least 2", 0},
        {FM__DATA_CLASSIFY, "z.csv", "text,label\n,x\n", "z.csv:2: the text is empty", 0},
        {FM__DATA_CLASSIFY, "z.csv", "text,label\na,\n", "z.csv:2: the label is empty", 0},
        {FM__DATA_CLASSIFY, "z.csv", "text,label\na\xff,x\n", "z.csv:2: byte 0xff is no UTF-8 (byte 1", 0},
        {FM__DATA_CLASSIFY, "z.csv", "text,label\na\0b,x\n", "z.csv:2: a zero byte (byte 1", 17},
        {FM__DATA_CLASSIFY, "z.jsonl", "{\"text\": \"a\"}\n", "z.jsonl:1: \"label\" is missing", 0},
        {FM__DATA_CLASSIFY, "z.jsonl", "{\"text\": 3, \"label\": 1}\n", "z.jsonl:1: \"text\" is missing or no string",
         0},
        {FM__DATA_CLASSIFY, "z.jsonl", "{\"text\": \"a\", \"label\": 1.5}\n", "\"label\" is missing or no label", 0},
        {FM__DATA_TEXT, "z.jsonl", "{\"text\": \"a\"}\n{\"text\": \n", "z.jsonl:2: JSON line 1", 0},
        {FM__DATA_TEXT, "z.jsonl", "[\n{\"text\": \"a\"}\n]\n", "z.jsonl:1: begins with [: want one JSON object a line",
         0},
        {FM__DATA_TEXT, "z.jsonl", "[1]\n", "z.jsonl:1: want one JSON object a line", 0},
        {FM__DATA_TEXT, "z.jsonl", "{\"text\": \"\xc0\x80\"}\n", "z.jsonl:1: byte 0xc0 is no UTF-8", 0},
        {FM__DATA_TEXT, "z.jsonl", "{\"text\": \"a\\u0000\"}\n", "z.jsonl:1: JSON line 1", 0},
        {FM__DATA_TEXT, "z.jsonl", "{\"text\": \"\"}\n", "z.jsonl:1: a document without text", 0},
        {FM__DATA_TEXT, "z.txt", "one\ntwo\n\xed\xa0\x80", "z.txt:3: byte 0xed is no UTF-8 (byte 8", 0},
        {FM__DATA_TEXT, "z.txt", "", "z.txt:1: a document without text", 0},
        {FM__DATA_COMPLETION, "z.jsonl", "{\"completion\": \"x\"}\n", "\"prompt\" is missing", 0},
        {FM__DATA_COMPLETION, "z.jsonl", "{\"prompt\": \"x\"}\n", "\"completion\" is missing", 0},
        {FM__DATA_COMPLETION, "z.jsonl", "{\"prompt\": \"x\", \"completion\": \"\"}\n", "\"completion\" is empty", 0},
        {FM__DATA_COMPLETION, "z.jsonl", "\n\n", "no samples (0 rows", 0},
        {FM__DATA_CLASSIFY, "z.csv", "", "no samples (0 rows", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = test_write(cases[i].name, cases[i].bytes, cases[i].n ? cases[i].n : strlen(cases[i].bytes));
        struct fm__data_opts opts = opts_of(cases[i].kind, &path);
        refused(&opts, FM_E_FORMAT, (const char *[]){cases[i].why, NULL});
    }
}

static void bad_rows_may_be_skipped(void **state)
{
    (void)state;
    // the unclosed quote of line 3 costs its line only: what follows is read again
    const char *path = test_write_text("skip.csv", "text,label\na,x\n\"b,y\nc,x\n,x\nd,z\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    opts.skip_bad = 2;
    struct read r = read_all(&opts);
    const struct fm__data_counts *c = fm__dataset_counts(r.data);
    assert_int_equal(c->rows, 5), assert_int_equal(c->used, 3);
    assert_int_equal(c->skipped[FM__SKIP_SYNTAX], 1), assert_int_equal(c->skipped[FM__SKIP_EMPTY], 1);
    assert_non_null(strstr(fm__dataset_bad_row(r.data, 0), "skip.csv:3: a quoted field"));
    assert_non_null(strstr(fm__dataset_bad_row(r.data, 1), "skip.csv:5: the text is empty"));
    expect_labels(r.data, (const char *[]){"x", "z"}, 2); // a skipped row leaves no label
    read_deinit(&r);
    opts.skip_bad = 1;
    refused(&opts, FM_E_FORMAT,
            (const char *[]){"skip.csv:5: the text is empty (bad row 2, at most 1 may be skipped)", NULL});
    opts.skip_bad = -1;
    r = read_all(&opts);
    assert_int_equal(r.mb.n_documents, 3);
    read_deinit(&r);
    path = test_write_text("all.csv", ",x\n,y\n");
    refused(&opts, FM_E_FORMAT, (const char *[]){"no samples (2 rows", NULL});
}

static void bad_options(void **state)
{
    (void)state;
    const char *path = test_write_text("ok.csv", "a,x\nb,y\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path), bad = opts;
    bad.n_paths = 0;
    refused(&bad, FM_E_ARG, (const char *[]){"no data file", NULL});
    bad = opts, bad.length = 0;
    refused(&bad, FM_E_ARG, (const char *[]){"length 0", NULL});
    bad = opts, bad.tok = NULL;
    refused(&bad, FM_E_ARG, (const char *[]){"need a tokenizer", NULL});
    bad = opts, bad.validation = 1;
    refused(&bad, FM_E_ARG, (const char *[]){"validation fraction 1", NULL});
    bad = opts, bad.kind = FM__DATA_CHAT;
    refused(&bad, FM_E_ARG, (const char *[]){"need a chat template", NULL});
    const char *none = "/nonexistent/x.csv";
    bad = opts, bad.paths = &none;
    refused(&bad, FM_E_NOT_FOUND, (const char *[]){"/nonexistent/x.csv", NULL});
    path = test_write_text("one.csv", "a,x\n");
    bad = opts, bad.validation = 0.5;
    refused(&bad, FM_E_ARG, (const char *[]){"1 samples cannot be split", NULL});
    assert_int_equal(fm__data_kind_of("chat"), FM__DATA_CHAT);
    assert_int_equal(fm__data_kind_of("gossip"), -1);
    assert_string_equal(fm__data_skip_text(FM__SKIP_UTF8), "invalid UTF-8");
}

// --- the cache ---

static char cache[300];

static void make_cache(void)
{
    snprintf(cache, sizeof cache, "%s/cache", test_tmpdir());
    mkdir(cache, 0700);
}

// The path at the end of a dataset's note, up to `stop`. Static buffer.
static char *store_of(const struct fm__dataset *data)
{
    static char path[512];
    const char *at = strchr(fm__dataset_note(data), '/');
    assert_non_null(at);
    snprintf(path, sizeof path, "%.*s", (int)strcspn(at, " "), at);
    return path;
}

static void same_batches(struct fm__dataset *a, struct fm__dataset *b)
{
    struct fm__loader *x, *y;
    struct fm__microbatch p = test_microbatch(64, 0), q = test_microbatch(64, 0);
    struct fm_error err = {0};
    struct fm__loader_opts walk = {.rows = 64, .batch = 2, .seed = 5};
    assert_ok(fm__loader_new(a, &walk, &x, &err), err);
    assert_ok(fm__loader_new(b, &walk, &y, &err), err);
    do {
        assert_ok(fm__loader_next(x, &p, &err), err);
        assert_ok(fm__loader_next(y, &q, &err), err);
        assert_int_equal(p.n_rows, q.n_rows);
        assert_memory_equal(p.tokens, q.tokens, (size_t)p.n_rows * 4);
        assert_memory_equal(p.targets, q.targets, (size_t)p.n_rows * 4);
    } while (!p.ends_epoch);
    fm__loader_free(x), fm__loader_free(y);
    test_microbatch_deinit(&p), test_microbatch_deinit(&q);
}

static void samples_come_from_the_cache(void **state)
{
    (void)state;
    make_cache();
    const char *path = test_write_text("cached.csv", "text,label\naa,x\nbbb,y\n,z\ncccc,x\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    struct fm__dataset *first, *second, *memory;
    struct fm_error err = {0};
    opts.cache = cache, opts.skip_bad = 1;
    assert_ok(fm__dataset_open(&opts, &first, &err), err);
    assert_memory_equal(fm__dataset_note(first), "samples kept in ", 16);
    assert_ok(fm__dataset_open(&opts, &second, &err), err);
    assert_memory_equal(fm__dataset_note(second), "samples read from ", 18);
    assert_memory_equal(fm__dataset_counts(first), fm__dataset_counts(second), sizeof(struct fm__data_counts));
    assert_string_equal(fm__dataset_bad_row(second, 0), fm__dataset_bad_row(first, 0));
    expect_labels(second, (const char *[]){"x", "y"}, 2);
    assert_true(fm__dataset_fingerprint(first) == fm__dataset_fingerprint(second));
    same_batches(first, second);
    opts.cache = NULL;
    assert_ok(fm__dataset_open(&opts, &memory, &err), err);
    assert_string_equal(fm__dataset_note(memory), "samples kept in memory");
    same_batches(first, memory);
    fm__dataset_close(first), fm__dataset_close(second), fm__dataset_close(memory);
    // the same bytes under another name are the same data; another option is another store
    opts.cache = cache;
    path = test_write_text("renamed.csv", "text,label\naa,x\nbbb,y\n,z\ncccc,x\n");
    assert_ok(fm__dataset_open(&opts, &first, &err), err);
    assert_memory_equal(fm__dataset_note(first), "samples read from ", 18);
    assert_non_null(strstr(fm__dataset_bad_row(first, 0), "renamed.csv:4:"));
    opts.length = 3;
    assert_ok(fm__dataset_open(&opts, &second, &err), err);
    assert_memory_equal(fm__dataset_note(second), "samples kept in ", 16);
    assert_true(fm__dataset_fingerprint(first) != fm__dataset_fingerprint(second));
    fm__dataset_close(first), fm__dataset_close(second);
}

// A bit of a store flipped, or cut short, at every third byte: made anew with the same samples, and said.
static void damaged_stores_are_made_anew(void **state)
{
    (void)state;
    make_cache();
    const char *path = test_write_text("damaged.csv", "text,label\naa,x\nbbb,y\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    struct fm__dataset *first, *again;
    struct fm_error err = {0};
    opts.cache = cache;
    assert_ok(fm__dataset_open(&opts, &first, &err), err);
    char *store = store_of(first);
    size_t n;
    uint8_t *bytes = test_read_file(store, &n);
    const char *name = strrchr(store, '/') + 1;
    fm__dataset_close(first);
    char below[100];
    snprintf(below, sizeof below, "cache/%s", name);
    for (size_t i = 0; i < 2 * n; i += 3) { // first a byte, then the length
        if (i < n) bytes[i] ^= 0x10;
        test_write(below, (char *)bytes, i < n ? n : i - n);
        if (i < n) bytes[i] ^= 0x10;
        assert_ok(fm__dataset_open(&opts, &again, &err), err);
        if (!strstr(fm__dataset_note(again), ": made anew")) fail_msg("byte %zu: %s", i, fm__dataset_note(again));
        assert_int_equal(fm__dataset_n_samples(again, FM__DATA_ALL), 2);
        fm__dataset_close(again);
    }
    size_t n_again;
    uint8_t *written = test_read_file(store, &n_again);
    assert_int_equal(n, n_again);
    assert_memory_equal(bytes, written, n);
    assert_ok(fm__dataset_open(&opts, &again, &err), err);
    assert_memory_equal(fm__dataset_note(again), "samples read from ", 18);
    fm__dataset_close(again);
    free(bytes), free(written);
}

static void a_cache_that_cannot_be_written(void **state)
{
    (void)state;
    const char *path = test_write_text("nocache.csv", "a,x\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    opts.cache = "/nonexistent/folder";
    refused(&opts, FM_E_NOT_FOUND, (const char *[]){"/nonexistent/folder", NULL});
    const char *now = getenv("XDG_CACHE_HOME");
    char *folder, *old = now ? strdup(now) : NULL;
    struct fm_error err = {0};
    char wanted[400];
    setenv("XDG_CACHE_HOME", test_tmpdir(), 1);
    assert_ok(fm__data_cache_folder(&folder, &err), err);
    snprintf(wanted, sizeof wanted, "%s/fathom/data", test_tmpdir());
    assert_string_equal(folder, wanted);
    assert_int_equal(access(folder, W_OK), 0);
    fm__free(folder);
    if (old)
        setenv("XDG_CACHE_HOME", old, 1);
    else
        unsetenv("XDG_CACHE_HOME");
    free(old);
}

static void a_full_disk(void **state)
{
    (void)state;
    make_cache();
    char text[40000];
    for (size_t i = 0; i < sizeof text; i += 8) memcpy(text + i, "lines.\n\n", 8); // NOLINT: no string
    const char *path = test_write("full.txt", text, sizeof text);
    struct fm__data_opts opts = opts_of(FM__DATA_TEXT, &path);
    struct rlimit before, small;
    opts.cache = cache, opts.unit = FM__UNIT_LINE;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before, small.rlim_cur = 70000; // of the store's 140,000 bytes
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct fm_error err = {0};
    struct fm__dataset *data;
    fm_status status = fm__dataset_open(&opts, &data, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, FM_E_IO);
    assert_non_null(strstr(err.text, ".samples: cannot write after "));
    assert_ok(fm__dataset_open(&opts, &data, &err), err); // nothing half-written is in its way
    assert_memory_equal(fm__dataset_note(data), "samples kept in ", 16);
    fm__dataset_close(data);
}

// Equal for the same file, different for every other of the fixtures, so that no tokenizer gets another's tokens.
static void tokenizers_have_hashes(void **state)
{
    (void)state;
    static const char *const names[] = {"bpe", "spm", "unigram", "unigram_bytes", "wordpiece"};
    enum { N = sizeof names / sizeof *names };
    uint8_t digests[N + 1][FM__SHA256_BYTES];
    struct fm_error err = {0};
    for (int i = 0; i <= N; i++) {
        char name[100];
        struct fm_gguf *gguf;
        struct fm_tokenizer *t;
        snprintf(name, sizeof name, "tokenizers/%s.gguf", names[i % N]);
        assert_ok(fm_gguf_open(test_data(name), NULL, &gguf, &err), err);
        assert_ok(fm_tokenizer_new(gguf, &t, &err), err);
        assert_ok(fm__tokenizer_hash(t, digests[i], &err), err);
        fm_tokenizer_free(t);
        fm_gguf_close(gguf);
        for (int k = 0; k < i; k++)
            assert_int_equal(memcmp(digests[i], digests[k], FM__SHA256_BYTES) == 0, i == N && k == 0);
    }
}

// --- files that change ---

// Writes after the clock of the file system has ticked, so that the time of the write tells.
static void rewrite(const char *name, const char *text)
{
    usleep(30000);
    test_write_text(name, text);
}

static void data_that_changes_while_in_use(void **state)
{
    (void)state;
    make_cache();
    const char *path = test_write_text("moving.csv", "aa,x\nbbb,y\ncc,x\n");
    struct fm__data_opts opts = opts_of(FM__DATA_CLASSIFY, &path);
    struct fm__dataset *data;
    struct fm__loader *loader;
    struct fm__microbatch mb = test_microbatch(64, 0);
    struct fm_error err = {0};
    opts.cache = cache;
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    struct fm__loader_opts walk = {.rows = 64, .batch = 1};
    assert_ok(fm__loader_new(data, &walk, &loader, &err), err);
    assert_ok(fm__loader_next(loader, &mb, &err), err);
    rewrite("moving.csv", "aa,x\nbbb,y\ncc,x\n"); // written anew with the same bytes
    assert_ok(fm__loader_next(loader, &mb, &err), err);
    struct fm__data_position before = fm__loader_position(loader);
    rewrite("moving.csv", "aa,x\nbbb,y\ncc,y\n"); // same size
    assert_int_equal(fm__loader_next(loader, &mb, &err), FM_E_IO);
    assert_non_null(strstr(err.text, "moving.csv: changed while it is in use"));
    assert_int_equal(mb.n_rows, 0);
    unlink(path);
    assert_int_equal(fm__loader_next(loader, &mb, &err), FM_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "moving.csv"));
    struct fm__data_position after = fm__loader_position(loader);
    assert_memory_equal(&before, &after, sizeof before);
    rewrite("moving.csv", "aa,x\nbbb,y\ncc,x\n"); // as it was: it goes on
    assert_ok(fm__loader_next(loader, &mb, &err), err);
    // a byte of the store, its times put back: the sample's hash sees it
    char *store = store_of(data);
    struct stat st;
    assert_int_equal(stat(store, &st), 0);
    int fd = open(store, O_WRONLY);
    for (int i = 0; i < 12; i++) assert_int_equal(pwrite(fd, "\xff", 1, 64 + 4 * i), 1);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    assert_int_equal(fm__loader_next(loader, &mb, &err), FM_E_IO);
    assert_non_null(strstr(err.text, "is not what was written"));
    assert_int_equal(pwrite(fd, "\xff", 1, 64), 1); // and now its times tell
    close(fd);
    assert_int_equal(fm__loader_next(loader, &mb, &err), FM_E_IO);
    assert_non_null(strstr(err.text, "the cached samples changed"));
    fm__loader_free(loader);
    fm__dataset_close(data);
    test_microbatch_deinit(&mb);
}

// --- no memory ---

static fm_status open_and_walk(const struct fm__data_opts *opts, struct fm__microbatch *mb, struct fm_error *err)
{
    struct fm__dataset *data = NULL;
    struct fm__loader *loader = NULL;
    fm_status status = fm__dataset_open(opts, &data, err);
    struct fm__loader_opts walk = {.rows = 300, .batch = 2, .order = FM__ORDER_BUCKETED, .seed = 1};
    if (status == FM_OK) status = fm__loader_new(data, &walk, &loader, err);
    if (status == FM_OK) status = fm__loader_next(loader, mb, err);
    fm__loader_free(loader);
    fm__dataset_close(data);
    return status;
}

static void no_memory(void **state)
{
    (void)state;
    make_cache();
    size_t n;
    char *text = template_text("thinking-style", &n);
    const char *paths[] = {
        test_write_text("nomem.jsonl", TWO_TURNS "{}\n"),
        test_write_text("nomem.csv", "text,label\n\"a\",x\n,y\nb,z\n"),
        test_write_text("prefers.jsonl", "{\"prompt\": \"Q:\", \"chosen\": \"a\", \"rejected\": \"b\"}\n"),
        test_write_text("nomem.txt", "one\n\ntwo\n")};
    struct fm__data_opts cases[] = {opts_of(FM__DATA_CHAT, &paths[0]), opts_of(FM__DATA_CLASSIFY, &paths[1]),
                                    opts_of(FM__DATA_PREFERENCE, &paths[2]), opts_of(FM__DATA_TEXT, &paths[3])};
    struct fm__microbatch mb = test_microbatch(300, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fm_error err = {0};
        cases[i].chat_template = text, cases[i].n_chat_template = n, cases[i].skip_bad = 1, cases[i].cache = cache;
        cases[i].validation = 0.2 * (i == 1);
        fm_status status = FM_E_NOMEM;
        for (int64_t k = 0; status != FM_OK; k += k < 400 ? 1 : 1 + k / 16) {
            fm__alloc_fail_after(k, true);
            status = open_and_walk(&cases[i], &mb, &err);
            fm__alloc_fail_after(-1, false);
            if (status != FM_OK && status != FM_E_NOMEM)
                fail_msg("%zu, allocation %lld: %s", i, (long long)k, err.text);
            if (status != FM_OK) assert_true(err.text[0] != '\0');
        }
    }
    test_microbatch_deinit(&mb);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_packed_across_documents),
        cmocka_unit_test(text_by_lines_files_and_json),
        cmocka_unit_test(long_texts_are_cut_or_refused),
        cmocka_unit_test(assistant_spans),
        cmocka_unit_test(turns_that_close_twice),
        cmocka_unit_test(templates_that_hide_the_answer),
        cmocka_unit_test(chats_in_other_shapes),
        cmocka_unit_test(completions),
        cmocka_unit_test(preferences),
        cmocka_unit_test(csv_with_quotes),
        cmocka_unit_test(headers_and_columns),
        cmocka_unit_test(labels_in_json_and_given),
        cmocka_unit_test(regression),
        cmocka_unit_test(the_end_of_a_long_row_stays),
        cmocka_unit_test(bad_rows),
        cmocka_unit_test(bad_rows_may_be_skipped),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(samples_come_from_the_cache),
        cmocka_unit_test(damaged_stores_are_made_anew),
        cmocka_unit_test(a_cache_that_cannot_be_written),
        cmocka_unit_test(a_full_disk),
        cmocka_unit_test(tokenizers_have_hashes),
        cmocka_unit_test(data_that_changes_while_in_use),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
