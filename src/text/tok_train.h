// SPDX-License-Identifier: MIT
// Making a tokenizer from text: bytes, characters, or byte-level BPE (Sennrich et al. 2016, over the bytes of the
// pieces that a pre-tokeniser cuts, as GPT-2 does). Texts are added, then training merges the pair of neighbours that
// occurs most often until the vocabulary is full. Equal counts: the pair with the smaller left id, then the smaller
// right id; so are Hugging Face's tokenizers, whose merges these are, id for id.
//
//     fm__tok_trainer_new(&args, &trainer, err);
//     fm__tok_trainer_add_file(trainer, "corpus.txt", err);            // any number of files and texts
//     fm__tok_trainer_train(trainer, err);
//     fm__tok_trainer_write(trainer, "tokenizer.gguf", err);
#ifndef FM_TEXT_TOK_TRAIN_H
#define FM_TEXT_TOK_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"
#include "text/tok_strtab.h"

enum fm__tok_kind {
    FM__TOK_BPE,  // special tokens, the 256 bytes, then a token a merge
    FM__TOK_CHAR, // special tokens, then the characters of the text by code point (those of several bytes by merges)
    FM__TOK_BYTE, // the 256 bytes, whose ids they are, then the special tokens
};

struct fm__tok_train_args {
    enum fm__tok_kind kind;
    const char *pre;            // a name of tok_pre.def; NULL: "gpt-2"
    int32_t vocab_size;         // BPE: tokens in all, the special ones too
    int64_t min_count;          // BPE: a pair must occur so often to be merged; 0: 2
    bool all_bytes;             // CHAR: the 256 bytes as well, so that unknown characters are not lost
    const char *name;           // general.name of the file; NULL: "tokenizer"
    const char *const *special; // n_special control tokens; the first begins and ends texts
    int n_special;
    // Called now and then with what was done of how much: bytes of a file, then merges. NULL: nobody asks. False ends
    // the training with FM_E_CANCELLED.
    bool (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

struct fm__tok_merge {
    int32_t left, right, merged;
};

struct fm__tok_trainer {
    struct fm__tok_train_args args;
    struct fm__pre *pre;
    struct fm__pre_run *pre_run;
    struct fm__strtab pieces; // each distinct piece once
    int64_t *counts;          // [cap_counts], how often it occurs
    size_t cap_counts;
    uint8_t *characters; // CHAR: a bit a code point
    char *text;          // scratch: canonical UTF-8
    unsigned char *classes;
    size_t cap_text, cap_classes;
    uint64_t n_bytes, n_pieces; // added so far
    // what training makes
    struct fm__strtab tokens; // bytes of each token; of special ones their text
    int32_t n_tokens;         // of the vocabulary; what stands behind them only merges know
    int32_t first_special;    // n_special of them from here
    struct fm__tok_merge *merges;
    size_t n_merges, cap_merges;
};

// Errors: FM_E_ARG (an unknown pre-tokeniser, a vocabulary too small for bytes and special tokens, two equal special
// tokens), FM_E_NOMEM.
fm_status fm__tok_trainer_new(const struct fm__tok_train_args *args, struct fm__tok_trainer **out,
                              struct fm_error *err);
void fm__tok_trainer_free(struct fm__tok_trainer *trainer); // NULL is fine

// Adds a text. Wrong UTF-8 counts as U+FFFD, as it does in encoding.
fm_status fm__tok_trainer_add(struct fm__tok_trainer *trainer, const char *text, size_t n, struct fm_error *err);
// Adds a file, in blocks that end where a line does, between a letter and a letter: no piece crosses that.
fm_status fm__tok_trainer_add_file(struct fm__tok_trainer *trainer, const char *path, struct fm_error *err);

// Errors: FM_E_ARG (no text), FM_E_LIMIT, FM_E_NOMEM, FM_E_CANCELLED. Ends the adding.
fm_status fm__tok_trainer_train(struct fm__tok_trainer *trainer, struct fm_error *err);

// Writes what was learned as a GGUF file without tensors, all or nothing: fathom and llama.cpp load it.
fm_status fm__tok_trainer_write(const struct fm__tok_trainer *trainer, const char *path, struct fm_error *err);

// tok_train_bpe.c: merges until the vocabulary is full. trainer->tokens holds special tokens and bytes; byte_token says
// which is which.
fm_status fm__tok_train_bpe(struct fm__tok_trainer *trainer, const int32_t byte_token[256], struct fm_error *err);
fm_status fm__tok_train_add_merge(struct fm__tok_trainer *trainer, struct fm__tok_merge merge, struct fm_error *err);

#endif
