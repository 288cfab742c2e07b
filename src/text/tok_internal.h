// SPDX-License-Identifier: MIT
// What the files of the tokenizer share: the tokenizer itself, and the state of one encoding. The tokenizer never
// changes after fm_tokenizer_new, but for `whole`, whose bytes any thread may fill in with the same value.
#ifndef FM_TEXT_TOK_INTERNAL_H
#define FM_TEXT_TOK_INTERNAL_H

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/error.h"
#include "fathom/tokenizer.h"
#include "text/tok_strtab.h"

// The longest token a file may have, and thereby the depth of every trie.
#define FM__TOKEN_MAX 16384
// U+2581, which stands for a space inside the tokens of SentencePiece.
#define FM__SPACE_MARK "\xe2\x96\x81"

enum { // attributes of a token; the first six mirror fm_token_type
    FM__ATTR_NORMAL = 1,
    FM__ATTR_UNKNOWN = 2,
    FM__ATTR_CONTROL = 4,
    FM__ATTR_USER = 8,
    FM__ATTR_UNUSED = 16,
    FM__ATTR_BYTE = 32,
    FM__ATTR_LSTRIP = 64,  // as a special token it swallows the white space before it
    FM__ATTR_RSTRIP = 128, // … after it
    FM__ATTR_EOG = 256,
};

enum { FM__WHOLE_UNKNOWN, FM__WHOLE_YES, FM__WHOLE_NO };

struct fm__pre;     // tok_pre.h
struct fm__pre_run; // tok_pre.h

// A pair of symbols that may be merged: the key is left << 32 | right + 1, 0 for a free slot.
struct fm__pair {
    uint64_t key;
    uint32_t rank, merged;
};

struct fm_tokenizer {
    fm_tokenizer_style style;
    int32_t n_vocab;
    // Texts of the tokens as the file has them. All but BPE look text up here.
    struct fm__strtab text;
    // Bytes that the tokens stand for when decoded.
    struct fm__strtab piece;
    // BPE looks bytes up here: tokens outside its alphabet cannot be found, and symbols that only merges know are
    // behind n_vocab.
    struct fm__strtab key;
    float *score;
    uint16_t *attr;
    // For each token: does encoding its own bytes give just this token? Found out on first use (FM__WHOLE_*); so most
    // words of a text cost one look-up. Relaxed atomics: every thread writes the same answer.
    _Atomic uint8_t *whole;
    int32_t roles[FM_TOKEN_ROLE_COUNT];
    bool add_bos, add_eos, add_space_prefix;
    bool ignore_merges;            // BPE: a piece that is a token is not merged up to it
    bool lowercase, strip_accents; // WordPiece
    bool merge_spaces;             // unigram: runs of spaces become one
    bool byte_fallback;            // SPM, unigram: all of <0x00> … <0xFF> are there
    int32_t byte_token[256];       // token of one byte, -1: none
    struct fm__trie special;       // tokens cut out before anything else; FM_ENCODE_PARSE_SPECIAL
    struct fm__trie user_special;  // … without it: user-defined ones only
    struct fm__trie matcher;       // unigram, WordPiece: tokens that text may match
    // BPE
    struct fm__pre *pre;
    const char *pre_name; // of its patterns; static
    struct fm__pair *pairs;
    uint32_t n_pairs; // slots, a power of two
    int32_t byte_symbol[256];
    // SPM: bytes that precede U+2581 inside some token; elsewhere no merge crosses to the next U+2581
    bool crosses[256];
    // unigram
    float unknown_score;
    uint32_t *charsmap; // units of the double array
    size_t n_charsmap;
    char *replacements; // zero-terminated strings
    size_t n_replacements;
};

// Memory that grows and is used anew; contents are lost when it grows.
struct fm__buf {
    void *p;
    size_t cap;
};

// One call of fm_tokenizer_encode.
struct fm__run {
    const struct fm_tokenizer *tok;
    int32_t *ids;
    size_t cap, n;   // n counts on beyond cap
    bool add_prefix; // SPM: the next text begins a text or follows a special token
    struct fm__buf text, symbols, heap, classes, lattice;
    struct fm__pre_run *pre;
    struct fm_error *err;
};

// Writes U+2581; returns its length.
static inline size_t fm__put_space_mark(char *out)
{
    out[0] = FM__SPACE_MARK[0], out[1] = FM__SPACE_MARK[1], out[2] = FM__SPACE_MARK[2];
    return 3;
}

static inline void fm__emit(struct fm__run *run, int32_t id)
{
    if (run->n < run->cap) run->ids[run->n] = id;
    run->n++;
}

// Room for `bytes`; NULL when there is none, and then the error is filled.
void *fm__buf_reserve(struct fm__buf *buf, size_t bytes, struct fm_error *err);

// The encoders: text that holds no special token any more.
fm_status fm__bpe_encode(struct fm__run *run, const char *p, size_t n);
fm_status fm__spm_encode(struct fm__run *run, const char *p, size_t n);
fm_status fm__unigram_encode(struct fm__run *run, const char *p, size_t n);
fm_status fm__wordpiece_encode(struct fm__run *run, const char *p, size_t n);

// Their parts of fm_tokenizer_new.
fm_status fm__bpe_load(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err);
fm_status fm__spm_load(struct fm_tokenizer *tok, struct fm_error *err);
fm_status fm__unigram_load(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err);
fm_status fm__wordpiece_load(struct fm_tokenizer *tok, struct fm_error *err);
// Roles, end-of-generation, corrections of types, tries of special tokens.
fm_status fm__special_load(struct fm_tokenizer *tok, const struct fm_gguf *g, struct fm_error *err);
// Fills tok->piece from tok->text (all styles).
fm_status fm__pieces_load(struct fm_tokenizer *tok, struct fm_error *err);

// Cuts text at special tokens and encodes what lies between with `encode`.
typedef fm_status fm__encode_fn(struct fm__run *run, const char *p, size_t n);
fm_status fm__special_encode(struct fm__run *run, const struct fm_encode_args *args, fm__encode_fn *encode);

// The bytes that a token text of byte-level BPE stands for ("Ġthe" → " the"). False if some character is outside the
// alphabet of 256; *n_out is then undefined. out has room for n bytes.
bool fm__bpe_unalphabet(const char *p, size_t n, char *out, size_t *n_out);

#endif
