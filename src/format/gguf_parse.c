// SPDX-License-Identifier: MIT
// The cursor and the metadata entries of a GGUF file. Nothing is allocated for a length before the bytes that it
// promises are known to lie in the file; every message ends with the byte position.
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "format/gguf_internal.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "values of a GGUF file are used as they lie: a big-endian host would have to swap them here"
#endif

static const struct {
    const char *name;
    size_t bytes; // of a scalar
} types[FM__GGUF_N_TYPES] = {
    [FM_GGUF_U8] = {"u8", 1},       [FM_GGUF_I8] = {"i8", 1},     [FM_GGUF_U16] = {"u16", 2},
    [FM_GGUF_I16] = {"i16", 2},     [FM_GGUF_U32] = {"u32", 4},   [FM_GGUF_I32] = {"i32", 4},
    [FM_GGUF_F32] = {"f32", 4},     [FM_GGUF_BOOL] = {"bool", 1}, [FM_GGUF_STRING] = {"string", 0},
    [FM_GGUF_ARRAY] = {"array", 0}, [FM_GGUF_U64] = {"u64", 8},   [FM_GGUF_I64] = {"i64", 8},
    [FM_GGUF_F64] = {"f64", 8},
};

size_t fm__gguf_scalar_bytes(uint32_t type)
{
    return type < FM__GGUF_N_TYPES ? types[type].bytes : 0;
}

const char *fm__gguf_type_name(uint32_t type)
{
    return type < FM__GGUF_N_TYPES ? types[type].name : "invalid";
}

// --- cursor ---

static fm_status need(const struct fm__gguf_cursor *c, uint64_t n, const char *what, struct fm_error *err)
{
    if (n <= c->end - c->at) return FM_OK;
    if (c->end < c->source->size)
        return fm__fail(err, FM_E_LIMIT, "%s: %" PRIu64 " bytes, the header may have %" PRIu64 " (at byte %" PRIu64 ")",
                        what, n, c->end, c->at);
    return fm__fail(err, FM_E_FORMAT,
                    "%s: want %" PRIu64 " bytes, the file ends after %" PRIu64 " (at byte %" PRIu64 ")", what, n,
                    c->end - c->at, c->at);
}

fm_status fm__gguf_take(struct fm__gguf_cursor *c, void *dst, uint64_t n, const char *what, struct fm_error *err)
{
    FM_TRY(need(c, n, what, err));
    uint64_t in_window =
        c->at >= c->window_at && c->at - c->window_at <= c->window_n ? c->window_n - (c->at - c->window_at) : 0;
    if (!c->window || n >= FM__GGUF_WINDOW) {
        FM_TRY(fm__source_read(c->source, c->at, dst, (size_t)n, err));
    } else {
        if (n > in_window) {
            uint64_t left = c->end - c->at;
            c->window_at = c->at;
            c->window_n = 0; // in case the read fails
            size_t fill = left < FM__GGUF_WINDOW ? (size_t)left : FM__GGUF_WINDOW;
            FM_TRY(fm__source_read(c->source, c->at, c->window, fill, err));
            c->window_n = fill;
        }
        memcpy(dst, c->window + (c->at - c->window_at), (size_t)n);
    }
    c->at += n;
    return FM_OK;
}

fm_status fm__gguf_take_u32(struct fm__gguf_cursor *c, uint32_t *out, const char *what, struct fm_error *err)
{
    return fm__gguf_take(c, out, sizeof *out, what, err);
}

fm_status fm__gguf_take_u64(struct fm__gguf_cursor *c, uint64_t *out, const char *what, struct fm_error *err)
{
    return fm__gguf_take(c, out, sizeof *out, what, err);
}

// Room for `n` bytes and a zero in the model's lifetime. A vocabulary has 10^5 strings of a few bytes: those share
// blocks of 64 KiB instead of costing 16 bytes each.
static char *string_space(struct fm_gguf *g, uint64_t n)
{
    enum { BLOCK = 64 * 1024, SMALL = 256 };
    if (n >= SMALL) return n < SIZE_MAX ? fm__arena_alloc(&g->arena, (size_t)n + 1) : NULL;
    if (g->pool_left < n + 1) {
        char *block = fm__arena_alloc(&g->arena, BLOCK);
        if (!block) return NULL;
        g->pool = block;
        g->pool_left = BLOCK;
    }
    char *p = g->pool;
    g->pool += n + 1;
    g->pool_left -= (size_t)n + 1;
    return p;
}

char *fm__gguf_strndup(struct fm_gguf *g, const char *p, size_t n)
{
    char *copy = string_space(g, n);
    if (copy && n) memcpy(copy, p, n); // arena bytes are zero: so is the one after
    return copy;
}

fm_status fm__gguf_take_str(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm_str *out, const char *what,
                            struct fm_error *err)
{
    uint64_t n;
    FM_TRY(fm__gguf_take_u64(c, &n, what, err));
    FM_TRY(need(c, n, what, err));
    char *p = string_space(g, n);
    if (!p) return fm__fail_nomem(err, what, n);
    FM_TRY(fm__gguf_take(c, p, n, what, err));
    *out = (struct fm_str){p, (size_t)n};
    return FM_OK;
}

fm_status fm__gguf_take_name(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm_str *out, const char *what,
                             struct fm_error *err)
{
    uint64_t start = c->at;
    FM_TRY(fm__gguf_take_str(c, g, out, what, err));
    if (out->n == 0) return fm__fail(err, FM_E_FORMAT, "%s: empty (at byte %" PRIu64 ")", what, start);
    if (memchr(out->p, 0, out->n))
        return fm__fail(err, FM_E_FORMAT, "%s \"%s\": zero byte in it (at byte %" PRIu64 ")", what,
                        fm__quote(out->p, out->n).text, start);
    return FM_OK;
}

// --- values ---

static fm_status take_type(struct fm__gguf_cursor *c, uint32_t *type, struct fm_error *err)
{
    uint64_t start = c->at;
    FM_TRY(fm__gguf_take_u32(c, type, "value type", err));
    if (*type < FM__GGUF_N_TYPES) return FM_OK;
    return fm__fail(err, FM_E_FORMAT, "value type %" PRIu32 ", want 0 to %d (at byte %" PRIu64 ")", *type,
                    FM__GGUF_N_TYPES - 1, start);
}

// Element type and count of an array; the count's elements can lie in the rest of the file.
static fm_status take_array_head(struct fm__gguf_cursor *c, uint32_t *type, uint64_t *n, struct fm_error *err)
{
    FM_TRY(take_type(c, type, err));
    uint64_t start = c->at;
    FM_TRY(fm__gguf_take_u64(c, n, "array length", err));
    // a string takes at least its length of 8 bytes, an array a type of 4 and a length
    uint64_t least = *type == FM_GGUF_STRING ? 8 : *type == FM_GGUF_ARRAY ? 12 : fm__gguf_scalar_bytes(*type);
    if (*n <= (c->end - c->at) / least) return FM_OK;
    return fm__fail(err, FM_E_FORMAT,
                    "array of %" PRIu64 " elements, the %" PRIu64 " bytes left hold at most %" PRIu64
                    " (at byte %" PRIu64 ")",
                    *n, c->end - c->at, (c->end - c->at) / least, start);
}

static fm_status check_bools(const uint8_t *p, uint64_t n, uint64_t start, struct fm_error *err)
{
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return fm__fail(err, FM_E_FORMAT, "bool of value %d, want 0 or 1 (at byte %" PRIu64 ")", p[i], start + i);
    return FM_OK;
}

static fm_status take_scalars(struct fm__gguf_cursor *c, struct fm_gguf *g, uint32_t type, struct fm_gguf_kv *kv,
                              struct fm_error *err)
{
    uint64_t start = c->at;
    size_t bytes;
    if (kv->n > SIZE_MAX || !fm__mul_size((size_t)kv->n, fm__gguf_scalar_bytes(type), &bytes))
        return fm__fail(err, FM_E_FORMAT, "array of %" PRIu64 " elements (at byte %" PRIu64 ")", kv->n, start);
    FM_TRY(need(c, bytes, "value", err));
    void *p = fm__arena_alloc(&g->arena, bytes ? bytes : 1);
    if (!p) return fm__fail_nomem(err, "value", bytes);
    FM_TRY(fm__gguf_take(c, p, bytes, "value", err));
    if (type == FM_GGUF_BOOL) FM_TRY(check_bools(p, kv->n, start, err));
    kv->data = p;
    return FM_OK;
}

static fm_status take_strings(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm_gguf_kv *kv, struct fm_error *err)
{
    size_t bytes;
    if (kv->n > SIZE_MAX || !fm__mul_size((size_t)kv->n, sizeof(struct fm_str), &bytes))
        return fm__fail(err, FM_E_FORMAT, "array of %" PRIu64 " strings (at byte %" PRIu64 ")", kv->n, c->at);
    struct fm_str *strings = fm__arena_alloc(&g->arena, bytes ? bytes : 1);
    if (!strings) return fm__fail_nomem(err, "strings", bytes);
    for (uint64_t i = 0; i < kv->n; i++) FM_TRY(fm__gguf_take_str(c, g, &strings[i], "string", err));
    kv->data = strings;
    return FM_OK;
}

// Moves the cursor over `n` elements of a nested array, checking them.
static fm_status skip_elements(struct fm__gguf_cursor *c, uint32_t type, uint64_t n, int depth, struct fm_error *err)
{
    if (depth > FM__GGUF_MAX_NESTING)
        return fm__fail(err, FM_E_LIMIT, "arrays nested deeper than %d (at byte %" PRIu64 ")", FM__GGUF_MAX_NESTING,
                        c->at);
    size_t scalar = fm__gguf_scalar_bytes(type);
    if (scalar) { // take_array_head has seen that they fit
        c->at += n * scalar;
        return FM_OK;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t n_inner;
        uint32_t inner;
        if (type == FM_GGUF_STRING) {
            FM_TRY(fm__gguf_take_u64(c, &n_inner, "string", err));
            FM_TRY(need(c, n_inner, "string", err));
            c->at += n_inner;
        } else {
            FM_TRY(take_array_head(c, &inner, &n_inner, err));
            FM_TRY(skip_elements(c, inner, n_inner, depth + 1, err));
        }
    }
    return FM_OK;
}

// An array of arrays: walked once to find its end, then kept as the file's bytes.
static fm_status take_nested(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm_gguf_kv *kv, struct fm_error *err)
{
    uint64_t start = c->at;
    FM_TRY(skip_elements(c, FM_GGUF_ARRAY, kv->n, 1, err));
    uint64_t bytes = c->at - start;
    void *p = bytes < SIZE_MAX ? fm__arena_alloc(&g->arena, bytes ? (size_t)bytes : 1) : NULL;
    if (!p) return fm__fail_nomem(err, "nested arrays", bytes);
    c->at = start;
    FM_TRY(fm__gguf_take(c, p, bytes, "nested arrays", err));
    kv->data = p;
    return FM_OK;
}

static fm_status take_value(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm_gguf_kv *kv, struct fm_error *err)
{
    uint32_t type, element;
    FM_TRY(take_type(c, &type, err));
    kv->type = (fm_gguf_type)type;
    kv->n = 1;
    element = type;
    if (type == FM_GGUF_ARRAY) {
        FM_TRY(take_array_head(c, &element, &kv->n, err));
        kv->array_type = (fm_gguf_type)element;
    }
    if (element == FM_GGUF_STRING) return take_strings(c, g, kv, err);
    if (element == FM_GGUF_ARRAY) return take_nested(c, g, kv, err);
    return take_scalars(c, g, element, kv, err);
}

// --- entries ---

bool fm__gguf_reserve(void **array, size_t *space, size_t n)
{
    if (n < *space) return true;
    size_t wanted = *space ? *space * 2 : 32, bytes;
    if (!fm__mul_size(wanted, sizeof(void *), &bytes)) return false;
    void *grown = fm__realloc(*array, bytes);
    if (!grown) return false;
    *array = grown;
    *space = wanted;
    return true;
}

static fm_status read_entry(struct fm__gguf_cursor *c, struct fm_gguf *g, struct fm__gguf_meta *meta,
                            struct fm_error *err)
{
    uint64_t start = c->at;
    struct fm_gguf_kv *kv = fm__arena_alloc(&g->arena, sizeof *kv);
    if (!kv || !fm__gguf_reserve((void **)&meta->kvs, &meta->space, meta->n))
        return fm__fail_nomem(err, "metadata entry", sizeof *kv);
    FM_TRY(fm__gguf_take_name(c, g, &kv->key, "metadata key", err));
    fm_status status = fm__names_add(&meta->names, kv->key, err);
    if (status != FM_OK) return fm__error_prefix(err, status, "metadata key at byte %" PRIu64, start);
    meta->kvs[meta->n++] = kv;
    status = take_value(c, g, kv, err);
    if (status == FM_OK) return FM_OK;
    return fm__error_prefix(err, status, "metadata \"%s\"", fm__quote(kv->key.p, kv->key.n).text);
}

fm_status fm__gguf_read_meta(struct fm__gguf_cursor *c, struct fm_gguf *g, uint64_t n, struct fm__gguf_meta *meta,
                             struct fm_error *err)
{
    for (uint64_t i = 0; i < n; i++) FM_TRY(read_entry(c, g, meta, err));
    return FM_OK;
}

void fm__gguf_meta_deinit(struct fm__gguf_meta *meta)
{
    fm__free(meta->kvs);
    fm__names_deinit(&meta->names);
    *meta = (struct fm__gguf_meta){0};
}

const struct fm_gguf_kv *fm__gguf_meta_find(const struct fm__gguf_meta *meta, const char *key)
{
    int64_t i = fm__names_find(&meta->names, key, strlen(key));
    return i < 0 ? NULL : meta->kvs[i];
}

fm_status fm__gguf_check_alignment(const struct fm_gguf_kv *kv, size_t *out, struct fm_error *err)
{
    if (kv->type != FM_GGUF_U32)
        return fm__fail(err, FM_E_FORMAT, "general.alignment: type %s, want u32", fm__gguf_type_name(kv->type));
    uint32_t value;
    memcpy(&value, kv->data, sizeof value);
    if (value == 0 || (value & (value - 1)))
        return fm__fail(err, FM_E_FORMAT, "general.alignment: %" PRIu32 ", want a power of two", value);
    *out = value;
    return FM_OK;
}

fm_status fm__gguf_alignment(const struct fm__gguf_meta *meta, size_t *out, struct fm_error *err)
{
    *out = FM__GGUF_ALIGNMENT;
    const struct fm_gguf_kv *kv = fm__gguf_meta_find(meta, "general.alignment");
    return kv ? fm__gguf_check_alignment(kv, out, err) : FM_OK;
}
