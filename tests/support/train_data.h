// SPDX-License-Identifier: MIT
// What the tests of training data share: a tokenizer of bytes, small files, a loader's arrays.
#ifndef FM_TESTS_TRAIN_DATA_H
#define FM_TESTS_TRAIN_DATA_H

#include "support/byte_tokenizer.h"
#include "support/support.h"
#include "train/data.h"

// support/byte_tokenizer.h; free with fm_tokenizer_free.
struct fm_tokenizer *test_byte_tokenizer(void);

// Writes a file below test_tmpdir(); the path lives as long as the process.
const char *test_write(const char *name, const char *bytes, size_t n);
const char *test_write_text(const char *name, const char *text);

// Arrays of `rows` rows (features of `n_features` each; 0: none), freed by test_microbatch_deinit.
struct fm__microbatch test_microbatch(int64_t rows, int64_t n_features);
void test_microbatch_deinit(struct fm__microbatch *mb);

// The bytes of the rows of a document that are to be predicted ("…" for what is not between two runs of them), with
// control tokens by name. Static buffer.
const char *test_predicted(const struct fm_tokenizer *tok, const struct fm__microbatch *mb, int64_t document);

#endif
