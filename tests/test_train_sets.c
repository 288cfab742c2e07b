// SPDX-License-Identifier: MIT
// Real data sets of ../shared: they load with the counts that its README states, and a real model's chat template and
// tokenizer show what the assistant says.
// test-labels: long noasan
#include "support/train_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/gguf.h"

// Unpacks a set below the temporary folder; false, said aloud, where it or tar's zstd is absent.
static bool unpack(const char *set)
{
    char name[100], command[1024];
    snprintf(name, sizeof name, "data/%s.tar.zst", set);
    const char *archive = test_shared(name);
    if (!archive) return false;
    snprintf(command, sizeof command, "tar --zstd -xf '%s' -C '%s'", archive, test_tmpdir());
    if (system(command) == 0) return true;
    printf("skipped: tar --zstd does not unpack %s\n", name);
    return false;
}

struct expected {
    const char *file;
    int64_t samples;
    int32_t labels;
    int64_t of_first; // samples of the first label, -1: unknown
};

static void check_tables(const struct expected *sets, int n, enum fm__data_kind kind)
{
    struct fm_tokenizer *tok = test_byte_tokenizer();
    for (int i = 0; i < n; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", test_tmpdir(), sets[i].file);
        const char *paths[] = {path};
        struct fm__data_opts opts = {.kind = kind, .paths = paths, .n_paths = 1, .tok = tok, .length = 4096};
        struct fm__dataset *data;
        struct fm_error err = {0};
        assert_ok(fm__dataset_open(&opts, &data, &err), err);
        assert_int_equal(fm__dataset_n_samples(data, FM__DATA_ALL), sets[i].samples);
        assert_int_equal(fm__dataset_counts(data)->rows, sets[i].samples);
        assert_int_equal(fm__dataset_n_labels(data), sets[i].labels);
        if (sets[i].of_first >= 0) assert_int_equal(fm__dataset_label_count(data, FM__DATA_ALL, 0), sets[i].of_first);
        fm__dataset_close(data);
    }
    fm_tokenizer_free(tok);
}

static void sst2(void **state)
{
    (void)state;
    static const struct expected sets[] = {{"sst2/data/SST-2/train.tsv", 60614, 2, -1},
                                           {"sst2/data/SST-2/dev.tsv", 6735, 2, -1},
                                           {"sst2/data/SST-2/test.tsv", 872, 2, 428}};
    if (!unpack("sst2")) skip();
    check_tables(sets, 3, FM__DATA_CLASSIFY);
}

static void agnews(void **state)
{
    (void)state;
    static const struct expected sets[] = {{"agnews/data/agnews/dev.tsv", 10001, 4, -1},
                                           {"agnews/data/agnews/test.tsv", 7600, 4, 1900}};
    if (!unpack("agnews")) skip();
    check_tables(sets, 2, FM__DATA_CLASSIFY);
}

static void banking77(void **state)
{
    (void)state;
    static const struct expected sets[] = {{"polyai-intents/banking_data/train.csv", 10003, 77, -1},
                                           {"polyai-intents/banking_data/test.csv", 3080, 77, 40}};
    if (!unpack("polyai-intents")) skip();
    check_tables(sets, 2, FM__DATA_CLASSIFY);
}

static void mnist(void **state)
{
    (void)state;
    static const struct expected sets[] = {{"mnist/train-images-idx3-ubyte.gz", 60000, 10, 5923},
                                           {"mnist/t10k-images-idx3-ubyte.gz", 10000, 10, 980}};
    if (!unpack("mnist")) skip();
    check_tables(sets, 2, FM__DATA_IMAGES);
}

static void shakespeare(void **state)
{
    (void)state;
    if (!unpack("tinyshakespeare")) skip();
    char path[600];
    snprintf(path, sizeof path, "%s/tinyshakespeare/data/tinyshakespeare/input.txt", test_tmpdir());
    const char *paths[] = {path};
    struct fm_tokenizer *tok = test_byte_tokenizer();
    struct fm__data_opts opts = {.kind = FM__DATA_TEXT,
                                 .paths = paths,
                                 .n_paths = 1,
                                 .tok = tok,
                                 .length = 256,
                                 .end = FM__END_NONE,
                                 .validation = 0.1};
    struct fm__dataset *data;
    struct fm_error err = {0};
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    int64_t n = fm__dataset_counts(data)->tokens; // bytes, less one for each "th" and each two newlines
    assert_true(n > 1000000 && n < 1115394);
    int64_t aside = (n + 5) / 10;
    assert_int_equal(fm__dataset_n_samples(data, FM__DATA_VALID), (aside - 1 + 255) / 256);
    assert_int_equal(fm__dataset_n_samples(data, FM__DATA_TRAIN), (n - aside - 1 + 255) / 256);
    fm__dataset_close(data);
    fm_tokenizer_free(tok);
}

static void a_real_template(void **state)
{
    (void)state;
    const char *model = test_model("smollm2");
    if (!model) skip();
    struct fm_gguf *gguf;
    struct fm_tokenizer *tok;
    struct fm_str text;
    struct fm_error err = {0};
    assert_ok(fm_gguf_open(model, &(struct fm_gguf_open_opts){.vocab_only = true}, &gguf, &err), err);
    assert_ok(fm_tokenizer_new(gguf, &tok, &err), err);
    assert_true(fm_gguf_get_str(gguf, "tokenizer.chat_template", &text));
    const char *path = test_write_text(
        "real.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Where is Oslo?\"}, {\"role\": \"assistant\", "
        "\"content\": \"In Norway.\"}, {\"role\": \"user\", \"content\": \"Thanks\"}, {\"role\": \"assistant\", "
        "\"content\": \"You are welcome!\"}]}\n");
    struct fm__data_opts opts = {.kind = FM__DATA_CHAT,
                                 .paths = &path,
                                 .n_paths = 1,
                                 .tok = tok,
                                 .length = 512,
                                 .chat_template = text.p,
                                 .n_chat_template = text.n};
    struct fm__loader_opts walk = {.rows = 512, .batch = 1};
    struct fm__microbatch mb = test_microbatch(512, 0);
    struct fm__dataset *data;
    struct fm__loader *loader;
    assert_ok(fm__dataset_open(&opts, &data, &err), err);
    assert_ok(fm__loader_new(data, &walk, &loader, &err), err);
    assert_ok(fm__loader_next(loader, &mb, &err), err);
    assert_string_equal(test_predicted(tok, &mb, 0), "In Norway.<|im_end|>…You are welcome!<|im_end|>");
    fm__loader_free(loader);
    fm__dataset_close(data);
    test_microbatch_deinit(&mb);
    fm_tokenizer_free(tok);
    fm_gguf_close(gguf);
}

// Templates of published models on one conversation: both turns are found. (Others of the folder want tools.)
static void published_templates(void **state)
{
    (void)state;
    static const char *const names[] = {"CohereForAI-c4ai-command-r7b-12-2024-tool_use",
                                        "Qwen-Qwen2.5-7B-Instruct",
                                        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
                                        "google-gemma-2-2b-it",
                                        "llama-cpp-deepseek-r1",
                                        "meetkai-functionary-medium-v3.1",
                                        "meetkai-functionary-medium-v3.2",
                                        "meta-llama-Llama-3.1-8B-Instruct",
                                        "meta-llama-Llama-3.3-70B-Instruct",
                                        "microsoft-Phi-3.5-mini-instruct",
                                        "mistralai-Mistral-Nemo-Instruct-2407"};
    if (!unpack("gguf-vocabs")) skip();
    struct fm_tokenizer *tok = test_byte_tokenizer();
    const char *path = test_write_text(
        "published.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}, {\"role\": \"assistant\", "
                           "\"content\": \"Hi, you.\"}, {\"role\": \"user\", \"content\": \"Bye\"}, {\"role\": "
                           "\"assistant\", \"content\": \"So long!\"}]}\n");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[600];
        size_t n;
        snprintf(file, sizeof file, "%s/gguf-vocabs/models/templates/%s.jinja", test_tmpdir(), names[i]);
        char *text = (char *)test_read_file(file, &n);
        struct fm__data_opts opts = {.kind = FM__DATA_CHAT,
                                     .paths = &path,
                                     .n_paths = 1,
                                     .tok = tok,
                                     .length = 4000,
                                     .chat_template = text,
                                     .n_chat_template = n};
        struct fm__loader_opts walk = {.rows = 4000, .batch = 1};
        struct fm__microbatch mb = test_microbatch(4000, 0);
        struct fm__dataset *data;
        struct fm__loader *loader;
        struct fm_error err = {0};
        assert_ok(fm__dataset_open(&opts, &data, &err), err);
        assert_int_equal(fm__dataset_counts(data)->turns, 2);
        assert_ok(fm__loader_new(data, &walk, &loader, &err), err);
        assert_ok(fm__loader_next(loader, &mb, &err), err);
        const char *got = test_predicted(tok, &mb, 0), *second = strstr(got, "…");
        const char *first_text = strstr(got, "Hi, you."), *second_text = strstr(got, "So long!");
        if (!second || !first_text || !second_text || first_text > second || second_text < second || strstr(got, "Bye"))
            fail_msg("%s: \"%s\"", names[i], got);
        fm__loader_free(loader);
        fm__dataset_close(data);
        test_microbatch_deinit(&mb);
        free(text);
    }
    fm_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sst2),
        cmocka_unit_test(agnews),
        cmocka_unit_test(banking77),
        cmocka_unit_test(mnist),
        cmocka_unit_test(shakespeare),
        cmocka_unit_test(a_real_template),
        cmocka_unit_test(published_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
