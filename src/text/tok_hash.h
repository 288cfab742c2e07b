// SPDX-License-Identifier: MIT
// A hash of everything that encoding depends on: tokenizers of equal hash give the same ids, whichever file they came
// from. For caches of tokens.
#ifndef FM_TEXT_TOK_HASH_H
#define FM_TEXT_TOK_HASH_H

#include "base/sha256.h"
#include "fathom/tokenizer.h"

// Reads the whole vocabulary: some milliseconds. Errors: FM_E_NOMEM.
fm_status fm__tokenizer_hash(const struct fm_tokenizer *tok, uint8_t digest[FM__SHA256_BYTES], struct fm_error *err);

#endif
