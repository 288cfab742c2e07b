// SPDX-License-Identifier: MIT
// Pre-tokenisation of byte-level BPE: the patterns that cut a text into pieces, and running them.
//
// The patterns are run by PCRE2, but over classes of code points, not over UTF-8: when a tokenizer is made, all
// character classes of its patterns are read, the code points beyond ASCII that no class tells apart share one of the
// byte values 128 … 255, and the patterns are rewritten over those. So one byte of the subject is one code point,
// Unicode is our version of it and not that of whichever PCRE2 is installed, and invalid input cannot arise. ASCII
// stands for itself: an ASCII text is its own subject.
#ifndef FM_TEXT_TOK_PRE_H
#define FM_TEXT_TOK_PRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/gguf.h"

enum { // what else a name of tokenizer.ggml.pre implies
    FM__PRE_IGNORE_MERGES = 1,
    FM__PRE_ADD_BOS = 2,
};

#define FM__PRE_PATTERNS_MAX 6

struct fm__pre_entry {
    const char *name;
    const char *const *patterns; // NULL at the end
    unsigned flags;
};

// The entry of a name, or NULL.
const struct fm__pre_entry *fm__pre_find(struct fm_str name);
const struct fm__pre_entry *fm__pre_at(size_t i); // NULL behind the last; for tests and docs

struct fm__pre;
fm_status fm__pre_new(const struct fm__pre_entry *entry, struct fm__pre **out, struct fm_error *err);
void fm__pre_free(struct fm__pre *pre); // NULL is fine

// The subject for canonical UTF-8: a byte a code point. `out` has room for n bytes; returns the number of code points.
size_t fm__pre_classes(const struct fm__pre *pre, const char *p, size_t n, unsigned char *out);

struct fm__pre_run;
fm_status fm__pre_run_new(const struct fm__pre *pre, struct fm__pre_run **out, struct fm_error *err);
void fm__pre_run_free(struct fm__pre_run *run); // NULL is fine

// Calls piece(user, number of code points) for each piece, in order; the pieces cover the subject. Stops at its
// failure.
typedef fm_status fm__piece_fn(void *user, size_t n_code_points);
struct fm__piece_sink {
    fm__piece_fn *piece;
    void *user;
};
fm_status fm__pre_split(struct fm__pre_run *run, const unsigned char *subject, size_t n,
                        const struct fm__piece_sink *sink, struct fm_error *err);

#endif
