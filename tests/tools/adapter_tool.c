// SPDX-License-Identifier: MIT
// What scripts/check_adapters.py compares with peers: logits of a model with adapters, and adapters turned from one
// file format into the other.
//   adapter_tool logits MODEL TOKENS.i32 OUT.f32 [ADAPTER:SCALE …]   f32 [n tokens, V]: f32 cache, exact activations
//   adapter_tool scores MODEL TOKENS.i32 OUT.f32 ADAPTER:SCALE       f32 [C] of the head after the last token
//   adapter_tool peft|gguf MODEL ADAPTER OUT                         ADAPTER written as PEFT's folder or as GGUF
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/fathom.h"

enum { MOST = 8 };

static int failed(const struct fm_error *err)
{
    fprintf(stderr, "adapter_tool: %s\n", err->text);
    return 1;
}

static int32_t *read_tokens(const char *path, int *n)
{
    static int32_t tokens[1 << 16];
    FILE *f = fopen(path, "rb");
    *n = f ? (int)fread(tokens, 4, sizeof tokens / 4, f) : 0;
    if (f) fclose(f);
    return tokens;
}

struct run {
    struct fm_device *device;
    struct fm_model *model;
    struct fm_adapter *adapters[MOST];
    struct fm_adapter_use uses[MOST];
    struct fm_adapter_set *set;
    struct fm_batcher *batcher;
    struct fm_session *session;
    FILE *out;
    struct fm_model_info info;
};

static void put(void *context, struct fm_session *session, int position, const float *logits)
{
    struct run *r = context;
    (void)session, (void)position;
    fwrite(logits, sizeof *logits, (size_t)r->info.n_vocab, r->out);
}

static fm_status open_all(struct run *r, const char *model, int n, char **items, struct fm_error *err)
{
    fm_status status = fm_device_open("cpu", NULL, &r->device, err);
    if (status == FM_OK) status = fm_model_open(model, &(struct fm_model_opts){.device = r->device}, &r->model, err);
    if (status == FM_OK) fm_model_get_info(r->model, &r->info);
    for (int i = 0; status == FM_OK && i < n; i++) {
        char *colon = strrchr(items[i], ':');
        const float scale = colon ? strtof(colon + 1, NULL) : 1;
        if (colon) *colon = '\0';
        status = fm_adapter_open(items[i], fm_model_gguf(r->model), &r->adapters[i], err);
        r->uses[i] = (struct fm_adapter_use){r->adapters[i], scale};
    }
    const struct fm_adapter_choice choice = {r->uses, n};
    if (status == FM_OK && n > 0) status = fm_adapter_set_new(r->model, &choice, 1, &r->set, err);
    return status;
}

static fm_status evaluate(struct run *r, const int32_t *tokens, int n, int scores, struct fm_error *err)
{
    const struct fm_batcher_opts opts = {
        .n_ctx = n, .kv_format = "f32", .exact_activations = 1, .adapters = r->set, .session_adapter = r->set ? 1 : 0};
    fm_status status = fm_batcher_new(r->model, &opts, &r->batcher, err);
    if (status == FM_OK) status = fm_session_new(r->batcher, &r->session, err);
    if (status == FM_OK && !scores) fm_session_on_logits(r->session, 0, put, r);
    if (status == FM_OK) status = fm_session_append(r->session, tokens, n, err);
    if (status == FM_OK) status = fm_batcher_run(r->batcher, err);
    if (status == FM_OK && scores) {
        float of[1024];
        if (r->adapters[0]->head.n_classes > 1024) return FM_E_LIMIT;
        status = fm_adapter_scores(r->adapters[0], fm_session_hidden(r->session), r->info.d_model, of, err);
        if (status == FM_OK) fwrite(of, sizeof *of, (size_t)r->adapters[0]->head.n_classes, r->out);
    }
    return status;
}

static int run_model(int argc, char **argv)
{
    struct run r = {0};
    struct fm_error err = {0};
    int n;
    const int32_t *tokens = read_tokens(argv[3], &n);
    if (argc - 5 > MOST || n < 1) return 2;
    fm_status status = open_all(&r, argv[2], argc - 5, argv + 5, &err);
    if (status == FM_OK) {
        r.out = fopen(argv[4], "wb");
        status = r.out ? evaluate(&r, tokens, n, !strcmp(argv[1], "scores"), &err) : FM_E_IO;
    }
    if (r.out) fclose(r.out);
    fm_session_free(r.session);
    fm_batcher_free(r.batcher);
    fm_adapter_set_free(r.set);
    for (int i = 0; i < MOST; i++) fm_adapter_free(r.adapters[i]);
    fm_model_free(r.model);
    fm_device_close(r.device);
    return status == FM_OK ? 0 : failed(&err);
}

static int convert(char **argv)
{
    struct fm_error err = {0};
    struct fm_gguf *base = NULL;
    struct fm_adapter *adapter = NULL;
    fm_status status = fm_gguf_open(argv[2], NULL, &base, &err);
    if (status == FM_OK) status = fm_adapter_open(argv[3], base, &adapter, &err);
    if (status == FM_OK)
        status =
            (!strcmp(argv[1], "gguf") ? fm_adapter_write_gguf : fm_adapter_write_peft)(adapter, base, argv[4], &err);
    fm_adapter_free(adapter);
    fm_gguf_close(base);
    return status == FM_OK ? 0 : failed(&err);
}

int main(int argc, char **argv)
{
    if (argc >= 5 && (!strcmp(argv[1], "logits") || !strcmp(argv[1], "scores"))) return run_model(argc, argv);
    if (argc == 5 && (!strcmp(argv[1], "peft") || !strcmp(argv[1], "gguf"))) return convert(argv);
    fprintf(stderr,
            "usage: adapter_tool logits|scores MODEL TOKENS OUT [ADAPTER:SCALE …] | peft|gguf MODEL ADAPTER OUT\n");
    return 2;
}
