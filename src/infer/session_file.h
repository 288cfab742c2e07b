// SPDX-License-Identifier: MIT
// The session file:
//   magic "FMSESS02" | fingerprint u64 | kv format char[16] | page_bytes u64 | n_layers u32 | n_tokens u32 | n_done u32
//   | n_vocab u32 | adapter u8[32] (model/adapter_set.h; zeros: none) | tokens i32[n_tokens] | pages: for each of
//   ceil(n_done / 64) pages, for each layer, page_bytes | SHA-256 of all that came before
// Little endian. The header's parser is apart, so that it can be fuzzed without a model.
#ifndef FM_INFER_SESSION_FILE_H
#define FM_INFER_SESSION_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

enum { FM__SESSION_HEADER = 88, FM__SESSION_ADAPTER = 32 };

struct fm__session_header {
    uint64_t fingerprint;
    char kv_format[17]; // zero terminated
    uint64_t page_bytes;
    uint32_t n_layers, n_tokens, n_done, n_vocab;
    uint8_t adapter[FM__SESSION_ADAPTER];
};

void fm__session_header_write(const struct fm__session_header *h, uint8_t bytes[FM__SESSION_HEADER]);
// Reads and checks a header against the size of its whole file. Errors: FM_E_FORMAT with what was found.
fm_status fm__session_header_read(const uint8_t *bytes, size_t n, uint64_t file_size, struct fm__session_header *h,
                                  struct fm_error *err);

#endif
