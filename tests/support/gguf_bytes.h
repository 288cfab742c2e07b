// SPDX-License-Identifier: MIT
// GGUF metadata in memory, for tests and fuzz targets that need a file with chosen (or wrong) entries. Little endian
// hosts.
#ifndef FM_TESTS_GGUF_BYTES_H
#define FM_TESTS_GGUF_BYTES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/gguf.h"

struct gguf_bytes {
    uint8_t *p;
    size_t n, cap;
    uint64_t n_kv;
};

static inline void gguf_put(struct gguf_bytes *g, const void *p, size_t n)
{
    if (g->n + n > g->cap) {
        g->cap = (g->n + n) * 2;
        g->p = realloc(g->p, g->cap);
        if (!g->p) abort();
    }
    if (n) memcpy(g->p + g->n, p, n);
    g->n += n;
}

static inline void gguf_put_u32(struct gguf_bytes *g, uint32_t v)
{
    gguf_put(g, &v, 4);
}

static inline void gguf_put_str(struct gguf_bytes *g, const void *p, uint64_t n)
{
    gguf_put(g, &n, 8);
    gguf_put(g, p, n);
}

static inline void gguf_key(struct gguf_bytes *g, const char *key, fm_gguf_type type)
{
    if (!g->n) {
        static const uint32_t head[6] = {0x46554747, 3}; // "GGUF", version; counts are filled in at the end
        gguf_put(g, head, sizeof head);
    }
    gguf_put_str(g, key, strlen(key));
    gguf_put_u32(g, type);
    g->n_kv++;
}

static inline void gguf_add_str(struct gguf_bytes *g, const char *key, const char *value)
{
    gguf_key(g, key, FM_GGUF_STRING);
    gguf_put_str(g, value, strlen(value));
}

static inline void gguf_add_u32(struct gguf_bytes *g, const char *key, uint32_t value)
{
    gguf_key(g, key, FM_GGUF_U32);
    gguf_put_u32(g, value);
}

static inline void gguf_add_bool(struct gguf_bytes *g, const char *key, uint8_t value)
{
    gguf_key(g, key, FM_GGUF_BOOL);
    gguf_put(g, &value, 1);
}

static inline void gguf_add_array(struct gguf_bytes *g, const char *key, fm_gguf_type type, const void *p, uint64_t n)
{
    static const uint8_t width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    gguf_key(g, key, FM_GGUF_ARRAY);
    gguf_put_u32(g, type);
    gguf_put(g, &n, 8);
    gguf_put(g, p, n * width[type]);
}

static inline void gguf_add_strs(struct gguf_bytes *g, const char *key, const struct fm_str *strs, uint64_t n)
{
    gguf_key(g, key, FM_GGUF_ARRAY);
    gguf_put_u32(g, FM_GGUF_STRING);
    gguf_put(g, &n, 8);
    for (uint64_t i = 0; i < n; i++) gguf_put_str(g, strs[i].p, strs[i].n);
}

// Opens what was added; the bytes must stay until the file is closed.
static inline fm_status gguf_bytes_open(struct gguf_bytes *g, struct fm_gguf **out, struct fm_error *err)
{
    struct fm_gguf_open_opts opts = {.vocab_only = true};
    memcpy(g->p + 16, &g->n_kv, 8);
    return fm_gguf_open_memory(g->p, g->n, &opts, out, err);
}

#endif
