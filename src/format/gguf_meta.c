// SPDX-License-Identifier: MIT
// Looking up what an opened GGUF file says, with integers of any width, and overriding it as --override-kv asks.
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "format/gguf_internal.h"

uint64_t fm_gguf_n_kv(const struct fm_gguf *g)
{
    return g->meta.n;
}

const struct fm_gguf_kv *fm_gguf_kv_at(const struct fm_gguf *g, uint64_t i)
{
    return i < g->meta.n ? g->meta.kvs[i] : NULL;
}

const struct fm_gguf_kv *fm_gguf_find(const struct fm_gguf *g, const char *key)
{
    return fm__gguf_meta_find(&g->meta, key);
}

uint64_t fm_gguf_n_tensors(const struct fm_gguf *g)
{
    return g->n_tensors;
}

const struct fm_gguf_tensor *fm_gguf_tensor_at(const struct fm_gguf *g, uint64_t i)
{
    return i < g->n_tensors ? g->tensors[i] : NULL;
}

const struct fm_gguf_tensor *fm_gguf_find_tensor(const struct fm_gguf *g, const char *name)
{
    int64_t i = fm__names_find(&g->tensor_names, name, strlen(name));
    return i < 0 ? NULL : g->tensors[i];
}

// --- typed values ---

static fm_gguf_type element_type(const struct fm_gguf_kv *kv)
{
    return kv->type == FM_GGUF_ARRAY ? kv->array_type : kv->type;
}

bool fm_gguf_kv_i64_at(const struct fm_gguf_kv *kv, uint64_t i, int64_t *out)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
    } v;
    fm_gguf_type type = element_type(kv);
    size_t bytes = fm__gguf_scalar_bytes(type);
    if (i >= kv->n || !bytes || type == FM_GGUF_F32 || type == FM_GGUF_F64) return false;
    memcpy(&v, (const char *)kv->data + i * bytes, bytes);
    switch (type) {
    case FM_GGUF_BOOL:
    case FM_GGUF_U8:
        *out = v.u8;
        return true;
    case FM_GGUF_I8:
        *out = v.i8; // NOLINT(bugprone-signed-char-misuse): a number, not a character
        return true;
    case FM_GGUF_U16:
        *out = v.u16;
        return true;
    case FM_GGUF_I16:
        *out = v.i16;
        return true;
    case FM_GGUF_U32:
        *out = v.u32;
        return true;
    case FM_GGUF_I32:
        *out = v.i32;
        return true;
    case FM_GGUF_I64:
        *out = v.i64;
        return true;
    default:
        break;
    }
    if (v.u64 > INT64_MAX) return false;
    *out = (int64_t)v.u64;
    return true;
}

bool fm_gguf_kv_f64_at(const struct fm_gguf_kv *kv, uint64_t i, double *out)
{
    fm_gguf_type type = element_type(kv);
    if (i >= kv->n || type == FM_GGUF_BOOL) return false;
    if (type == FM_GGUF_F32) {
        float f;
        memcpy(&f, (const char *)kv->data + i * sizeof f, sizeof f);
        *out = f;
    } else if (type == FM_GGUF_F64) {
        memcpy(out, (const char *)kv->data + i * sizeof *out, sizeof *out);
    } else if (type == FM_GGUF_U64) { // beyond int64_t too
        uint64_t u;
        memcpy(&u, (const char *)kv->data + i * sizeof u, sizeof u);
        *out = (double)u;
    } else {
        int64_t integer;
        if (!fm_gguf_kv_i64_at(kv, i, &integer)) return false;
        *out = (double)integer;
    }
    return true;
}

bool fm_gguf_kv_str_at(const struct fm_gguf_kv *kv, uint64_t i, struct fm_str *out)
{
    if (i >= kv->n || element_type(kv) != FM_GGUF_STRING) return false;
    *out = ((const struct fm_str *)kv->data)[i];
    return true;
}

// The entry of `key` if it is a scalar.
static const struct fm_gguf_kv *find_scalar(const struct fm_gguf *g, const char *key)
{
    const struct fm_gguf_kv *kv = fm_gguf_find(g, key);
    return kv && kv->type != FM_GGUF_ARRAY ? kv : NULL;
}

bool fm_gguf_get_i64(const struct fm_gguf *g, const char *key, int64_t *out)
{
    const struct fm_gguf_kv *kv = find_scalar(g, key);
    return kv && fm_gguf_kv_i64_at(kv, 0, out);
}

bool fm_gguf_get_f64(const struct fm_gguf *g, const char *key, double *out)
{
    const struct fm_gguf_kv *kv = find_scalar(g, key);
    return kv && fm_gguf_kv_f64_at(kv, 0, out);
}

bool fm_gguf_get_bool(const struct fm_gguf *g, const char *key, bool *out)
{
    const struct fm_gguf_kv *kv = find_scalar(g, key);
    if (!kv || kv->type != FM_GGUF_BOOL) return false;
    *out = *(const uint8_t *)kv->data != 0;
    return true;
}

bool fm_gguf_get_str(const struct fm_gguf *g, const char *key, struct fm_str *out)
{
    const struct fm_gguf_kv *kv = find_scalar(g, key);
    return kv && fm_gguf_kv_str_at(kv, 0, out);
}

// --- override ---

struct override {
    const char *key, *value; // not zero terminated: n_key
    size_t n_key;
    fm_gguf_type type; // I64, F64, BOOL or STRING
    int64_t integer;
    double real;
};

static fm_status parse_number(struct override *o, const char *spec, struct fm_error *err)
{
    char *end;
    errno = 0;
    if (o->type == FM_GGUF_I64)
        o->integer = strtoll(o->value, &end, 10);
    else
        o->real = strtod(o->value, &end);
    if (end != o->value && *end == '\0' && !(errno == ERANGE && (o->type == FM_GGUF_I64 || isinf(o->real))))
        return FM_OK;
    return fm__fail(err, FM_E_ARG, "override \"%s\": value \"%s\", want a number", spec, o->value);
}

static fm_status parse_override(const char *spec, struct override *o, struct fm_error *err)
{
    static const struct {
        const char *prefix;
        fm_gguf_type type;
    } kinds[] = {{"int:", FM_GGUF_I64}, {"float:", FM_GGUF_F64}, {"bool:", FM_GGUF_BOOL}, {"str:", FM_GGUF_STRING}};
    const char *equals = strchr(spec, '=');
    if (!equals || equals == spec) return fm__fail(err, FM_E_ARG, "override \"%s\": want KEY=TYPE:VALUE", spec);
    o->key = spec, o->n_key = (size_t)(equals - spec);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t n = strlen(kinds[i].prefix);
        if (!strncmp(equals + 1, kinds[i].prefix, n)) o->value = equals + 1 + n, o->type = kinds[i].type;
    }
    if (!o->value) return fm__fail(err, FM_E_ARG, "override \"%s\": type must be int, float, bool or str", spec);
    if (o->type == FM_GGUF_I64 || o->type == FM_GGUF_F64) return parse_number(o, spec, err);
    if (o->type == FM_GGUF_STRING) return FM_OK;
    o->integer = !strcmp(o->value, "true");
    if (o->integer || !strcmp(o->value, "false")) return FM_OK;
    return fm__fail(err, FM_E_ARG, "override \"%s\": value \"%s\", want true or false", spec, o->value);
}

// Keeps the width that the entry has, so that a file written from here is one that other programs read.
static fm_status fit_type(const struct fm_gguf_kv *old, struct override *o, struct fm_error *err)
{
    static const struct {
        int64_t least, most;
    } ranges[FM__GGUF_N_TYPES] = {
        [FM_GGUF_U8] = {0, UINT8_MAX},   [FM_GGUF_I8] = {INT8_MIN, INT8_MAX},
        [FM_GGUF_U16] = {0, UINT16_MAX}, [FM_GGUF_I16] = {INT16_MIN, INT16_MAX},
        [FM_GGUF_U32] = {0, UINT32_MAX}, [FM_GGUF_I32] = {INT32_MIN, INT32_MAX},
        [FM_GGUF_U64] = {0, INT64_MAX},  [FM_GGUF_I64] = {INT64_MIN, INT64_MAX},
    };
    if (old->type == FM_GGUF_ARRAY || old->type == o->type) return FM_OK; // one value for all layers replaces a list
    bool integers = o->type == FM_GGUF_I64 && ranges[old->type].most;
    bool reals = o->type == FM_GGUF_F64 && old->type == FM_GGUF_F32;
    if (integers && (o->integer < ranges[old->type].least || o->integer > ranges[old->type].most))
        return fm__fail(err, FM_E_ARG, "override of \"%.*s\": %" PRId64 " does not fit its type %s", (int)o->n_key,
                        o->key, o->integer, fm__gguf_type_name(old->type));
    if (!integers && !reals)
        return fm__fail(err, FM_E_ARG, "override of \"%.*s\": a value of type %s, the file has %s", (int)o->n_key,
                        o->key,
                        o->type == FM_GGUF_I64   ? "int"
                        : o->type == FM_GGUF_F64 ? "float"
                                                 : fm__gguf_type_name(o->type),
                        fm__gguf_type_name(old->type));
    o->type = old->type;
    return FM_OK;
}

// The value's bytes, in the model's lifetime; NULL when memory is out.
static const void *make_value(struct fm_gguf *g, const struct override *o)
{
    void *data = fm__arena_alloc(&g->arena, sizeof(struct fm_str));
    if (!data) return NULL;
    if (o->type == FM_GGUF_STRING) {
        size_t n = strlen(o->value);
        char *text = fm__gguf_strndup(g, o->value, n);
        if (!text) return NULL;
        *(struct fm_str *)data = (struct fm_str){text, n};
    } else if (o->type == FM_GGUF_F32) {
        *(float *)data = (float)o->real;
    } else if (o->type == FM_GGUF_F64) {
        *(double *)data = o->real;
    } else {
        *(int64_t *)data = o->integer; // little endian: the narrow value is its first bytes
    }
    return data;
}

fm_status fm_gguf_override(struct fm_gguf *g, const char *spec, struct fm_error *err)
{
    struct override o = {0};
    FM_TRY(parse_override(spec, &o, err));
    int64_t i = fm__names_find(&g->meta.names, o.key, o.n_key);
    if (i >= 0) FM_TRY(fit_type(g->meta.kvs[i], &o, err));
    const void *data = make_value(g, &o);
    if (!data) return fm__fail_nomem(err, spec, sizeof(struct fm_str));
    if (i < 0) {
        struct fm_gguf_kv *kv = fm__arena_alloc(&g->arena, sizeof *kv);
        char *key = fm__gguf_strndup(g, o.key, o.n_key);
        if (!kv || !key || !fm__gguf_reserve((void **)&g->meta.kvs, &g->meta.space, g->meta.n))
            return fm__fail_nomem(err, spec, sizeof *kv);
        kv->key = (struct fm_str){key, o.n_key};
        FM_TRY(fm__names_add(&g->meta.names, kv->key, err));
        i = (int64_t)g->meta.n++;
        g->meta.kvs[i] = kv;
    }
    struct fm_gguf_kv *kv = g->meta.kvs[i];
    kv->type = o.type;
    kv->array_type = (fm_gguf_type)0;
    kv->n = 1;
    kv->data = data;
    return FM_OK;
}
