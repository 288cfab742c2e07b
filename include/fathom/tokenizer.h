// SPDX-License-Identifier: MIT
// Text to token ids and back, as the metadata of a GGUF file says (tokenizer.ggml.*).
//
// Four styles, chosen by tokenizer.ggml.model:
//   "gpt2"   byte-level BPE. The text is cut into pieces by the patterns that tokenizer.ggml.pre names, each byte of a
//            piece becomes a symbol, and the pair of neighbours with the lowest merge rank is joined until none is
//            left. Every text can be encoded and comes back byte for byte, if the vocabulary holds all 256 bytes.
//   "llama"  SentencePiece BPE. Spaces become U+2581, a space is put before the text (add_space_prefix), and the pair
//   of
//            neighbours whose union is the token with the highest score is joined. What is no token becomes byte
//            tokens.
//   "t5"     SentencePiece unigram. The text is normalised by the model's own table; the segmentation with the highest
//            sum of scores wins (Viterbi). Lossy: normalisation cannot be undone.
//   "bert"   WordPiece. Lower case, accents off (unless the file says otherwise), words cut at spaces and punctuation,
//            each word matched by the longest token from the left; a word without a match is the unknown token. Lossy.
//
// Invalid UTF-8 is never an error: "gpt2" and "t5" read each wrong byte as U+FFFD, "bert" drops it, "llama" keeps it as
// a byte token.
//
// Sources: Sennrich et al. 2016 (BPE), Kudo 2018 (unigram), Kudo & Richardson 2018 (SentencePiece), Devlin et al. 2019
// (WordPiece); ids are those of llama.cpp, and for "t5" those of sentencepiece.
//
// A tokenizer is immutable and may be used by any number of threads at once. A stream decoder belongs to one thread.
#ifndef FATHOM_TOKENIZER_H
#define FATHOM_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/gguf.h"
#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_tokenizer;

typedef enum fm_tokenizer_style {
    FM_TOKENIZER_BPE,       // "gpt2"
    FM_TOKENIZER_SPM,       // "llama"
    FM_TOKENIZER_UNIGRAM,   // "t5"
    FM_TOKENIZER_WORDPIECE, // "bert"
} fm_tokenizer_style;

// Kinds of token; the numbers are those of tokenizer.ggml.token_type.
typedef enum fm_token_type {
    FM_TOKEN_NORMAL = 1,
    FM_TOKEN_UNKNOWN = 2,      // stands for text that cannot be encoded
    FM_TOKEN_CONTROL = 3,      // markers such as <|im_start|>: matched in text only with FM_ENCODE_PARSE_SPECIAL
    FM_TOKEN_USER_DEFINED = 4, // added words: always matched whole, before anything else
    FM_TOKEN_UNUSED = 5,
    FM_TOKEN_BYTE = 6, // <0x00> … <0xFF>
} fm_token_type;

// Tokens with a role. Not every tokenizer has every one.
typedef enum fm_token_role {
    FM_TOKEN_BOS,  // begins a text
    FM_TOKEN_EOS,  // ends a text
    FM_TOKEN_EOT,  // ends a turn of a conversation
    FM_TOKEN_EOM,  // ends a message that expects a tool's answer
    FM_TOKEN_UNK,  // unknown text
    FM_TOKEN_SEP,  // separator (WordPiece: ends a text)
    FM_TOKEN_PAD,  // fills batches
    FM_TOKEN_MASK, // masked position
    FM_TOKEN_FIM_PREFIX,
    FM_TOKEN_FIM_SUFFIX,
    FM_TOKEN_FIM_MIDDLE,
    FM_TOKEN_FIM_PAD,
    FM_TOKEN_FIM_REPO,
    FM_TOKEN_FIM_FILE,
    FM_TOKEN_ROLE_COUNT,
} fm_token_role;

// Builds a tokenizer from the metadata of an open file, which is copied: `gguf` may be closed afterwards.
// *out: owned by the caller (fm_tokenizer_free); NULL on failure.
// Errors: FM_E_FORMAT (missing or contradictory metadata, two equal tokens), FM_E_UNSUPPORTED (a tokenizer.ggml.model
// or tokenizer.ggml.pre that is not known, by name), FM_E_LIMIT (a token longer than 16 KiB), FM_E_NOMEM.
FM_API fm_status fm_tokenizer_new(const struct fm_gguf *gguf, struct fm_tokenizer **out, struct fm_error *err);
FM_API void fm_tokenizer_free(struct fm_tokenizer *tok); // NULL is fine

enum {
    FM_ENCODE_ADD_SPECIAL = 1,   // add the BOS and EOS (WordPiece: CLS and SEP) that the model expects
    FM_ENCODE_PARSE_SPECIAL = 2, // control tokens written in the text become their ids. Never for text of a stranger:
                                 // it could then close the turn it is quoted in
};

struct fm_encode_args {
    const char *text; // n bytes, need not be UTF-8 nor end in a zero; NULL is fine where n is 0
    size_t n;         // at most 512 MiB
    unsigned flags;   // FM_ENCODE_*
};

// Encodes a text. Writes the first `cap` ids to `ids` (NULL is fine where cap is 0) and the number that the whole text
// has to *n_ids, which may exceed cap: call again with more room. n + 16 ids nearly always suffice;
// more come of wrong UTF-8 (U+FFFD has 3 bytes). Memory during the call, given back before it returns: a few bytes a
// byte for ordinary text, about 150 where all of it is one piece (a run of one letter); time O(n log n). Errors:
// FM_E_LIMIT (text too long), FM_E_FORMAT (the normalisation table of a "t5" model points outside itself), FM_E_NOMEM.
// *n_ids is then 0; `ids` may have been written to.
FM_API fm_status fm_tokenizer_encode(const struct fm_tokenizer *tok, const struct fm_encode_args *args, int32_t *ids,
                                     size_t cap, size_t *n_ids, struct fm_error *err);

enum {
    FM_DECODE_SPECIAL = 1, // control and unknown tokens appear as their text; else they are left out
    FM_DECODE_KEEP_PREFIX =
        2, // keep the space that encoding put before the text; wanted when the ids go on from others
};

struct fm_decode_args {
    const int32_t *ids; // ids outside the vocabulary are FM_E_ARG
    size_t n;
    unsigned flags; // FM_DECODE_*
};

// The text of ids, byte for byte (it may end inside a character). Writes the first `cap` bytes to `text` and the length
// of the whole to *n_bytes, as fm_tokenizer_encode does; no zero is added. BOS and EOS at the ends need no care: they
// are control tokens.
FM_API fm_status fm_tokenizer_decode(const struct fm_tokenizer *tok, const struct fm_decode_args *args, char *text,
                                     size_t cap, size_t *n_bytes, struct fm_error *err);

// --- what the tokenizer is ---
FM_API fm_tokenizer_style fm_tokenizer_get_style(const struct fm_tokenizer *tok);
FM_API int32_t fm_tokenizer_n_vocab(const struct fm_tokenizer *tok);
FM_API int32_t fm_tokenizer_role(const struct fm_tokenizer *tok, fm_token_role role); // -1: the model has none
FM_API bool fm_tokenizer_is_eog(const struct fm_tokenizer *tok, int32_t id); // generation ends here (EOS, EOT, …)
FM_API bool fm_tokenizer_adds_bos(const struct fm_tokenizer *tok);           // with FM_ENCODE_ADD_SPECIAL
FM_API bool fm_tokenizer_adds_eos(const struct fm_tokenizer *tok);

// One token. `id` outside 0 … n_vocab-1 gives an empty string, score 0, type FM_TOKEN_UNUSED. Strings live as long as
// the tokenizer. Text is what the file says ("Ġthe"); bytes are what the token stands for (" the").
FM_API struct fm_str fm_tokenizer_token_text(const struct fm_tokenizer *tok, int32_t id);
FM_API struct fm_str fm_tokenizer_token_bytes(const struct fm_tokenizer *tok, int32_t id);
FM_API float fm_tokenizer_token_score(const struct fm_tokenizer *tok, int32_t id);
FM_API fm_token_type fm_tokenizer_token_type(const struct fm_tokenizer *tok, int32_t id);
// The id of the token whose text in the file is exactly this, or -1.
FM_API int32_t fm_tokenizer_find(const struct fm_tokenizer *tok, struct fm_str text);

// --- text while it is generated ---
struct fm_detok;

enum {
    FM_DETOK_SPECIAL = FM_DECODE_SPECIAL,
    FM_DETOK_KEEP_PREFIX = FM_DECODE_KEEP_PREFIX,
    FM_DETOK_VALID = 4, // bytes that are no UTF-8 come out as U+FFFD (for JSON); without it they come out as they are
};

// A stream decoder: ids in, whole characters out. A character whose bytes are spread over several tokens is held back
// until it is complete. `tok` must outlive it. Only this call allocates.
FM_API fm_status fm_detok_new(const struct fm_tokenizer *tok, unsigned flags, struct fm_detok **out,
                              struct fm_error *err);
FM_API void fm_detok_free(struct fm_detok *d); // NULL is fine
// Adds a token. *out: the characters now complete, maybe none; valid until the next call on `d`.
// Errors: FM_E_ARG for an id outside the vocabulary; the state is then unchanged.
FM_API fm_status fm_detok_push(struct fm_detok *d, int32_t id, struct fm_str *out, struct fm_error *err);
// The end: what is still held back (at most 3 bytes of a broken character; U+FFFD with FM_DETOK_VALID), and starts
// anew.
FM_API struct fm_str fm_detok_finish(struct fm_detok *d);

#ifdef __cplusplus
}
#endif
#endif
