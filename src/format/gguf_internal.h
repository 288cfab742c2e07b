// SPDX-License-Identifier: MIT
// What the GGUF reader's files share: the opened model, the byte sources and the cursor that reads them.
// A GGUF file is: "GGUF", u32 version, u64 tensors, u64 metadata entries; the entries {string key, u32 type, value};
// the tensor table {string name, u32 rank, u64 dims innermost first, u32 type, u64 offset}; padding; the data.
#ifndef FM_FORMAT_GGUF_INTERNAL_H
#define FM_FORMAT_GGUF_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "fathom/gguf.h"
#include "format/names.h"
#include "format/source.h"

enum {
    FM__GGUF_N_TYPES = 13,
    FM__GGUF_ALIGNMENT = 32, // of the data where general.alignment does not say
    FM__GGUF_MAX_NESTING = 8,
    FM__GGUF_MAX_SHARDS = 1024,
    FM__GGUF_WINDOW = 64 * 1024, // bytes a cursor holds of a file
};
// Everything before the data must end here: real files use up to 20 MiB, a sparse file could claim terabytes.
#define FM__GGUF_MAX_HEADER ((uint64_t)1 << 30)

struct fm__gguf_meta {
    struct fm_gguf_kv **kvs; // each in the arena, so that its address stays
    size_t n, space;
    struct fm__names names;
};

struct fm_gguf {
    struct fm__arena arena; // entries, tensors, strings
    char *pool;             // unused rest of the last block of small strings
    size_t pool_left;
    struct fm__source *shards;
    int n_shards;
    struct fm__gguf_meta meta; // of the first shard
    struct fm_gguf_tensor **tensors;
    size_t n_tensors, tensor_space;
    struct fm__names tensor_names;
};

// A copy in the model's lifetime, a zero byte after it; NULL when memory is out. Small strings share blocks.
char *fm__gguf_strndup(struct fm_gguf *g, const char *p, size_t n);
// Makes room for one more pointer in a growing array.
bool fm__gguf_reserve(void **array, size_t *space, size_t n);

// Reads one source forwards through a window; every read is checked against the end first.
struct fm__gguf_cursor {
    const struct fm__source *source;
    uint64_t at, end; // next byte; end of what may be read
    uint8_t *window;  // NULL for memory
    uint64_t window_at;
    size_t window_n;
};

fm_status fm__gguf_take(struct fm__gguf_cursor *c, void *dst, uint64_t n, const char *what, struct fm_error *err);
fm_status fm__gguf_take_u32(struct fm__gguf_cursor *c, uint32_t *out, const char *what, struct fm_error *err);
fm_status fm__gguf_take_u64(struct fm__gguf_cursor *c, uint64_t *out, const char *what, struct fm_error *err);
fm_status fm__gguf_take_str(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm_str *out, const char *what,
                            struct fm_error *err);
// A key or tensor name: not empty, no zero byte in it (look-ups take C strings).
fm_status fm__gguf_take_name(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm_str *out, const char *what,
                             struct fm_error *err);

// Bytes of one scalar of this type in the file; 0 for strings, arrays and numbers that are no type.
size_t fm__gguf_scalar_bytes(uint32_t type);
const char *fm__gguf_type_name(uint32_t type); // "u8" … ; "invalid"

// Reads `n` entries into `meta`.
fm_status fm__gguf_read_meta(struct fm__gguf_cursor *c, struct fm_gguf *g, uint64_t n, struct fm__gguf_meta *meta,
                             struct fm_error *err);
void fm__gguf_meta_deinit(struct fm__gguf_meta *meta);
const struct fm_gguf_kv *fm__gguf_meta_find(const struct fm__gguf_meta *meta, const char *key);

// general.alignment of `meta`, or the default.
fm_status fm__gguf_alignment(const struct fm__gguf_meta *meta, size_t *out, struct fm_error *err);
// The same check for one entry that is general.alignment.
fm_status fm__gguf_check_alignment(const struct fm_gguf_kv *kv, size_t *out, struct fm_error *err);

#endif
