// SPDX-License-Identifier: MIT
// The library from a program of one's own: a question through the model's chat template, the answer as it comes.
// Build: cc answer.c $(pkg-config --cflags --libs fathom) -o answer. Run: ./answer model.gguf "What is …?"
#include <fathom/fathom.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call) \
    if ((call) != FM_OK) fprintf(stderr, "answer: %s\n", err.text), exit(fm_status_exit_code(err.code))

int main(int argc, char **argv)
{
    struct fm_error err;
    struct fm_model_opts opts = {0};
    struct fm_model *model;
    struct fm_tokenizer *tokenizer;
    struct fm_batcher *batcher;
    struct fm_session *session;
    struct fm_sampler *sampler;
    struct fm_detok *detok;
    struct fm_chat_template *tmpl;
    struct fm_str text = {NULL, 0}, piece;
    if (argc != 3) return fprintf(stderr, "usage: answer model.gguf QUESTION\n"), 2;

    MUST(fm_device_open("cpu", NULL, &opts.device, &err));
    MUST(fm_model_open(argv[1], &opts, &model, &err));
    MUST(fm_tokenizer_new(fm_model_gguf(model), &tokenizer, &err));
    MUST(fm_detok_new(tokenizer, FM_DETOK_VALID, &detok, &err));
    MUST(fm_batcher_new(model, NULL, &batcher, &err));
    MUST(fm_session_new(batcher, &session, &err));
    MUST(fm_sampler_new(fm_tokenizer_n_vocab(tokenizer), NULL, &sampler, &err)); // no options: the likeliest token
    fm_gguf_get_str(fm_model_gguf(model), "tokenizer.chat_template", &text);
    MUST(fm_chat_template_new(text.p, text.n, &tmpl, &err));

    struct fm_chat_message question = {"user", argv[2], strlen(argv[2])};
    struct fm_chat_args chat = {.messages = &question, .n_messages = 1, .add_generation_prompt = true};
    struct fm_encode_args encode = {.flags = FM_ENCODE_PARSE_SPECIAL};
    int32_t ids[4096];
    char *prompt;
    size_t n;
    MUST(fm_chat_apply(tmpl, &chat, &prompt, &encode.n, &err));
    encode.text = prompt;
    MUST(fm_tokenizer_encode(tokenizer, &encode, ids, 4096, &n, &err));
    MUST(fm_session_sync(session, ids, (int)(n < 4096 ? n : 4096), &err));
    for (int i = 0; i < 256; i++) {
        int32_t token;
        MUST(fm_batcher_run(batcher, &err));
        MUST(fm_sampler_sample(sampler, fm_session_logits(session), &token, &err));
        if (fm_tokenizer_is_eog(tokenizer, token)) break;
        MUST(fm_detok_push(detok, token, &piece, &err));
        fwrite(piece.p, 1, piece.n, stdout);
        MUST(fm_session_append(session, &token, 1, &err));
    }
    puts("");
    fm_chat_text_free(prompt);
    fm_chat_template_free(tmpl);
    fm_sampler_free(sampler);
    fm_session_free(session);
    fm_batcher_free(batcher);
    fm_detok_free(detok);
    fm_tokenizer_free(tokenizer);
    fm_model_free(model);
    fm_device_close(opts.device);
    return 0;
}
