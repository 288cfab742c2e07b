// SPDX-License-Identifier: MIT
// A small byte-level BPE tokenizer in memory, for tests and fuzz targets: the 256 bytes (a byte's id is its value),
// then the control tokens below, then two merges, "th" and two newlines. BOS is <s>, EOS <|im_end|>; neither is added.
#ifndef FM_TESTS_BYTE_TOKENIZER_H
#define FM_TESTS_BYTE_TOKENIZER_H

#include <stdio.h>

#include "fathom/tokenizer.h"
#include "gguf_bytes.h"

enum {
    TEST_IM_START = 256,
    TEST_IM_END,
    TEST_S,     // <s>
    TEST_SLASH, // </s>
    TEST_USER,  // <|user|>
    TEST_ASSISTANT,
    TEST_END, // <|end|>
    TEST_TH,
    TEST_NEWLINES,
    TEST_N_VOCAB
};

// The character that stands for a byte in byte-level BPE: itself where it is printable, else the next free one from
// U+0100.
static inline size_t byte_alphabet(int byte, char out[3])
{
    unsigned cp = 256;
    bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    for (int b = 0; b < byte; b++) cp += !((b >= '!' && b <= '~') || (b >= 0xa1 && b != 0xad));
    if (printable) cp = (unsigned)byte;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    out[0] = (char)(0xc0 | cp >> 6), out[1] = (char)(0x80 | (cp & 63));
    return 2;
}

// The caller frees *out.
static inline fm_status byte_tokenizer_new(struct fm_tokenizer **out, struct fm_error *err)
{
    static const char *const controls[] = {"<|im_start|>", "<|im_end|>",    "<s>",    "</s>",
                                           "<|user|>",     "<|assistant|>", "<|end|>"};
    static char bytes[256][3], newlines[5], merge[8];
    struct fm_str tokens[TEST_N_VOCAB], merges[2] = {{"t h", 3}, {merge, 0}};
    int32_t types[TEST_N_VOCAB];
    for (int i = 0; i < 256; i++) tokens[i] = (struct fm_str){bytes[i], byte_alphabet(i, bytes[i])};
    for (int i = 256; i < TEST_TH; i++) tokens[i] = (struct fm_str){controls[i - 256], strlen(controls[i - 256])};
    snprintf(newlines, sizeof newlines, "%.2s%.2s", bytes['\n'], bytes['\n']);
    snprintf(merge, sizeof merge, "%.2s %.2s", bytes['\n'], bytes['\n']);
    merges[1].n = strlen(merge);
    tokens[TEST_TH] = (struct fm_str){"th", 2}, tokens[TEST_NEWLINES] = (struct fm_str){newlines, 4};
    for (int i = 0; i < TEST_N_VOCAB; i++) types[i] = i >= 256 && i < TEST_TH ? FM_TOKEN_CONTROL : FM_TOKEN_NORMAL;
    struct gguf_bytes g = {0};
    struct fm_gguf *gguf;
    gguf_add_str(&g, "tokenizer.ggml.model", "gpt2");
    gguf_add_str(&g, "tokenizer.ggml.pre", "gpt-2");
    gguf_add_strs(&g, "tokenizer.ggml.tokens", tokens, TEST_N_VOCAB);
    gguf_add_array(&g, "tokenizer.ggml.token_type", FM_GGUF_I32, types, TEST_N_VOCAB);
    gguf_add_strs(&g, "tokenizer.ggml.merges", merges, 2);
    gguf_add_u32(&g, "tokenizer.ggml.bos_token_id", TEST_S);
    gguf_add_u32(&g, "tokenizer.ggml.eos_token_id", TEST_IM_END);
    gguf_add_bool(&g, "tokenizer.ggml.add_bos_token", 0);
    fm_status status = gguf_bytes_open(&g, &gguf, err);
    if (status == FM_OK) {
        status = fm_tokenizer_new(gguf, out, err);
        fm_gguf_close(gguf);
    }
    free(g.p);
    return status;
}

#endif
