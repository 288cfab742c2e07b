// SPDX-License-Identifier: MIT
// Values as text: str(), repr() and JSON as Python writes them.
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

fm_status fm__jbuf_add(struct fm__jrun *run, struct fm__jbuf *buf, const char *p, size_t n)
{
    if (buf->cap - buf->n < n) {
        size_t want, cap = buf->cap ? buf->cap * 2 : 64;
        if (!fm__add_size(buf->n, n, &want)) return fm__j_fail(run, FM_E_LIMIT, "text larger than memory");
        if (cap < want) cap = want;
        void *memory;
        FM_TRY(fm__j_alloc(run, cap, &memory));
        if (buf->n) memcpy(memory, buf->p, buf->n);
        buf->p = memory;
        buf->cap = cap;
    }
    if (n) memcpy(buf->p + buf->n, p, n);
    buf->n += n;
    return fm__j_work(run, n);
}

fm_status fm__jbuf_text(struct fm__jrun *run, struct fm__jbuf *buf, const char *text)
{
    return fm__jbuf_add(run, buf, text, strlen(text));
}

fm_status fm__jbuf_fill(struct fm__jrun *run, struct fm__jbuf *buf, char c, int64_t n)
{
    char block[64];
    memset(block, c, sizeof block);
    for (; n > 0; n -= (int64_t)sizeof block)
        FM_TRY(fm__jbuf_add(run, buf, block, n < (int64_t)sizeof block ? (size_t)n : sizeof block));
    return FM_OK;
}

fm_status fm__jbuf_code(struct fm__jrun *run, struct fm__jbuf *buf, int32_t code)
{
    char bytes[4];
    int n = fm__utf8_put(code, bytes);
    if (!n) return fm__j_fail(run, FM_E_FORMAT, "U+%04X is not a character", (unsigned)code);
    return fm__jbuf_add(run, buf, bytes, (size_t)n);
}

fm_status fm__jbuf_value(struct fm__jrun *run, const struct fm__jbuf *buf, struct fm__jv *out)
{
    return fm__jv_view(run, buf->n ? buf->p : "", buf->n, out);
}

void fm__j_float_repr(double f, char out[FM__J_FLOAT_TEXT])
{
    if (isnan(f) || isinf(f)) {
        snprintf(out, FM__J_FLOAT_TEXT, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    char text[40], digits[20];
    int precision = 0;
    do snprintf(text, sizeof text, "%.*e", precision, f); // 17 significant digits always read back
    while (precision++ < 16 && strtod(text, NULL) != f);
    int n = 0;
    const char *s = text;
    for (; *s && *s != 'e'; s++) { // whatever the locale's decimal point is
        if (*s >= '0' && *s <= '9') digits[n++] = *s;
    }
    while (n > 1 && digits[n - 1] == '0') n--;
    digits[n] = 0;
    int exponent = *s ? atoi(s + 1) : 0;
    char *o = out;
    if (signbit(f)) *o++ = '-';
    if (exponent < -4 || exponent >= 16) {
        snprintf(o, FM__J_FLOAT_TEXT - 1, "%c%s%se%c%02d", digits[0], n > 1 ? "." : "", digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        snprintf(o, FM__J_FLOAT_TEXT - 1, "0.%.*s%s", -exponent - 1, "0000", digits);
    } else if (n <= exponent + 1) {
        snprintf(o, FM__J_FLOAT_TEXT - 1, "%s%.*s.0", digits, exponent + 1 - n, "0000000000000000");
    } else {
        snprintf(o, FM__J_FLOAT_TEXT - 1, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
    }
}

static fm_status add_int(struct fm__jrun *run, struct fm__jbuf *buf, int64_t i)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)i);
    return fm__jbuf_text(run, buf, text);
}

static fm_status add_float(struct fm__jrun *run, struct fm__jbuf *buf, double f)
{
    char text[FM__J_FLOAT_TEXT];
    fm__j_float_repr(f, text);
    return fm__jbuf_text(run, buf, text);
}

// 'text' with Python's escapes; double quotes where that saves escaping.
static fm_status repr_str(struct fm__jrun *run, struct fm__jbuf *buf, const struct fm__jstr *s)
{
    bool single = s->n && memchr(s->p, '\'', s->n), dbl = s->n && memchr(s->p, '"', s->n);
    char quote = single && !dbl ? '"' : '\'', text[16];
    FM_TRY(fm__jbuf_add(run, buf, &quote, 1));
    for (size_t at = 0; at < s->n;) {
        int len;
        int32_t c = fm__utf8_get(s->p + at, s->n - at, &len);
        text[0] = '\\', text[1] = 0;
        if (c == quote || c == '\\')
            text[1] = (char)c, text[2] = 0;
        else if (c == '\n' || c == '\r' || c == '\t')
            text[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : 't', text[2] = 0;
        else if (!fm__uni_is_printable(c))
            snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)c);
        if (text[1])
            FM_TRY(fm__jbuf_text(run, buf, text));
        else
            FM_TRY(fm__jbuf_add(run, buf, s->p + at, (size_t)len));
        at += (size_t)len;
    }
    return fm__jbuf_add(run, buf, &quote, 1);
}

static fm_status repr_at(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v, int depth);

static fm_status repr_range(struct fm__jrun *run, struct fm__jbuf *buf, const struct fm__jlist *list)
{
    FM_TRY(fm__jbuf_text(run, buf, "range("));
    FM_TRY(add_int(run, buf, list->range[0]));
    FM_TRY(fm__jbuf_text(run, buf, ", "));
    FM_TRY(add_int(run, buf, list->range[1]));
    if (list->range[2] != 1) {
        FM_TRY(fm__jbuf_text(run, buf, ", "));
        FM_TRY(add_int(run, buf, list->range[2]));
    }
    return fm__jbuf_text(run, buf, ")");
}

static fm_status repr_list(struct fm__jrun *run, struct fm__jbuf *buf, const struct fm__jlist *list, int depth)
{
    static const char *const opens[] = {"[", "(", "(", "", "dict_keys([", "dict_values([", "dict_items(["};
    static const char *const closes[] = {"]", ")", ")", "", "])", "])", "])"};
    if (list->flavor == J_LAZY) return fm__jbuf_text(run, buf, "<generator object>");
    if (list->flavor == J_RANGE) return repr_range(run, buf, list);
    FM_TRY(fm__jbuf_text(run, buf, opens[list->flavor]));
    for (int64_t i = 0; i < list->n; i++) {
        if (i) FM_TRY(fm__jbuf_text(run, buf, ", "));
        FM_TRY(repr_at(run, buf, list->v[i], depth + 1));
    }
    bool tuple = list->flavor == J_TUPLE || list->flavor == J_GROUP;
    if (tuple && list->n == 1) FM_TRY(fm__jbuf_text(run, buf, ","));
    return fm__jbuf_text(run, buf, closes[list->flavor]);
}

static fm_status repr_map(struct fm__jrun *run, struct fm__jbuf *buf, const struct fm__jmap *map, int depth)
{
    FM_TRY(fm__jbuf_text(run, buf, "{"));
    for (int64_t i = 0; i < map->n; i++) {
        if (i) FM_TRY(fm__jbuf_text(run, buf, ", "));
        FM_TRY(repr_at(run, buf, map->e[i].key, depth + 1));
        FM_TRY(fm__jbuf_text(run, buf, ": "));
        FM_TRY(repr_at(run, buf, map->e[i].value, depth + 1));
    }
    return fm__jbuf_text(run, buf, "}");
}

static fm_status repr_at(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v, int depth)
{
    if (depth > FM__J_MAX_VALUE_DEPTH) return fm__j_fail(run, FM_E_LIMIT, "values nested too deeply to print");
    switch (v.kind) {
    case J_UNDEFINED:
    case J_MISSING:
        return fm__jbuf_text(run, buf, "Undefined");
    case J_NONE:
        return fm__jbuf_text(run, buf, "None");
    case J_BOOL:
        return fm__jbuf_text(run, buf, v.b ? "True" : "False");
    case J_INT:
        return add_int(run, buf, v.i);
    case J_FLOAT:
        return add_float(run, buf, v.f);
    case J_STR:
        return repr_str(run, buf, v.str);
    case J_LIST:
        return repr_list(run, buf, v.list, depth);
    case J_MAP:
        return repr_map(run, buf, v.map, depth);
    case J_NAMESPACE:
        FM_TRY(fm__jbuf_text(run, buf, "<Namespace "));
        FM_TRY(repr_map(run, buf, v.map, depth + 1));
        return fm__jbuf_text(run, buf, ">");
    case J_FUNC:
        if (!v.func->macro) {
            FM_TRY(fm__jbuf_text(run, buf, "<function "));
            FM_TRY(fm__jbuf_text(run, buf, v.func->builtin->name));
            return fm__jbuf_text(run, buf, ">");
        }
        FM_TRY(fm__jbuf_text(run, buf, "<Macro "));
        FM_TRY(repr_str(run, buf, &v.func->macro->str));
        return fm__jbuf_text(run, buf, ">");
    case J_LOOP:
        return fm__jbuf_text(run, buf, "<LoopContext>");
    }
    return FM_OK;
}

fm_status fm__jbuf_repr(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v)
{
    return repr_at(run, buf, v, 0);
}

fm_status fm__jbuf_str(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v)
{
    if (v.kind == J_STR) return fm__jbuf_add(run, buf, v.str->p, v.str->n);
    return v.kind == J_UNDEFINED ? FM_OK : repr_at(run, buf, v, 0);
}

fm_status fm__jv_to_str(struct fm__jrun *run, struct fm__jv v, const struct fm__jstr **out)
{
    struct fm__jbuf buf = {0};
    if (v.kind != J_STR) {
        FM_TRY(fm__jbuf_str(run, &buf, v));
        FM_TRY(fm__jbuf_value(run, &buf, &v));
    }
    *out = v.str;
    return FM_OK;
}

// --- JSON ---

static fm_status json_str(struct fm__jrun *run, struct fm__jbuf *buf, const struct fm__jstr *s, bool ascii)
{
    static const char plain[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    FM_TRY(fm__jbuf_text(run, buf, "\""));
    size_t done = 0;
    for (size_t at = 0; at < s->n;) {
        int len;
        int32_t c = fm__utf8_get(s->p + at, s->n - at, &len);
        char text[16] = "";
        for (const char *e = plain; *e; e += 2) {
            if (c == (unsigned char)e[0]) snprintf(text, sizeof text, "\\%c", e[1]);
        }
        if (!text[0] && c < 0x20) snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
        if (ascii && c > 0x7f && c < 0x10000) snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
        if (ascii && c >= 0x10000)
            snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800u + ((unsigned)(c - 0x10000) >> 10),
                     0xdc00u + ((unsigned)c & 0x3ffu));
        if (text[0]) {
            FM_TRY(fm__jbuf_add(run, buf, s->p + done, at - done));
            FM_TRY(fm__jbuf_text(run, buf, text));
            done = at + (size_t)len;
        }
        at += (size_t)len;
    }
    FM_TRY(fm__jbuf_add(run, buf, s->p + done, s->n - done));
    return fm__jbuf_text(run, buf, "\"");
}

static fm_status json_break(struct fm__jrun *run, struct fm__jbuf *buf, const struct fm__jjson_style *style, int depth)
{
    if (style->indent < 0 && !style->indent_text) return FM_OK;
    FM_TRY(fm__jbuf_text(run, buf, "\n"));
    if (!style->indent_text) {
        int64_t n;
        if (__builtin_mul_overflow(style->indent, (int64_t)depth, &n)) n = INT64_MAX;
        return fm__jbuf_fill(run, buf, ' ', n);
    }
    for (int i = 0; i < depth; i++) FM_TRY(fm__jbuf_add(run, buf, style->indent_text->p, style->indent_text->n));
    return FM_OK;
}

static fm_status json_at(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v,
                         const struct fm__jjson_style *style, int depth);

static fm_status json_list(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v,
                           const struct fm__jjson_style *style, int depth)
{
    struct fm__jv *items;
    int64_t n;
    FM_TRY(fm__jv_iterate(run, v, &items, &n));
    if (!n) return fm__jbuf_text(run, buf, "[]");
    FM_TRY(fm__jbuf_text(run, buf, "["));
    for (int64_t i = 0; i < n; i++) {
        if (i) FM_TRY(fm__jbuf_add(run, buf, style->item_separator.str->p, style->item_separator.str->n));
        FM_TRY(json_break(run, buf, style, depth + 1));
        FM_TRY(json_at(run, buf, items[i], style, depth + 1));
    }
    FM_TRY(json_break(run, buf, style, depth));
    return fm__jbuf_text(run, buf, "]");
}

static fm_status json_scalar(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v)
{
    switch (v.kind) {
    case J_NONE:
        return fm__jbuf_text(run, buf, "null");
    case J_BOOL:
        return fm__jbuf_text(run, buf, v.b ? "true" : "false");
    case J_INT:
        return add_int(run, buf, v.i);
    case J_FLOAT:
        if (isnan(v.f)) return fm__jbuf_text(run, buf, "NaN");
        if (isinf(v.f)) return fm__jbuf_text(run, buf, v.f < 0 ? "-Infinity" : "Infinity");
        return add_float(run, buf, v.f);
    default:
        return fm__j_fail(run, FM_E_FORMAT, "%s cannot be written as JSON", fm__jv_type(v));
    }
}

static fm_status json_key(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv key, bool ascii)
{
    if (key.kind == J_STR) return json_str(run, buf, key.str, ascii);
    FM_TRY(fm__jbuf_text(run, buf, "\""));
    FM_TRY(json_scalar(run, buf, key));
    return fm__jbuf_text(run, buf, "\"");
}

static fm_status json_map(struct fm__jrun *run, struct fm__jbuf *buf, const struct fm__jmap *map,
                          const struct fm__jjson_style *style, int depth)
{
    if (!map->n) return fm__jbuf_text(run, buf, "{}");
    struct fm__jv order;
    FM_TRY(fm__jv_list(run, J_PLAIN, map->n, &order));
    for (int64_t i = 0; i < map->n; i++) {
        struct fm__jv pair;
        FM_TRY(fm__jv_pair(run, map->e[i].key, map->e[i].value, &pair));
        FM_TRY(fm__jv_push(run, order.list, pair));
    }
    if (style->sort_keys) FM_TRY(fm__j_sort_pairs(run, order.list, 0, false));
    FM_TRY(fm__jbuf_text(run, buf, "{"));
    for (int64_t i = 0; i < order.list->n; i++) {
        const struct fm__jv *pair = order.list->v[i].list->v;
        if (i) FM_TRY(fm__jbuf_add(run, buf, style->item_separator.str->p, style->item_separator.str->n));
        FM_TRY(json_break(run, buf, style, depth + 1));
        FM_TRY(json_key(run, buf, pair[0], style->ascii));
        FM_TRY(fm__jbuf_add(run, buf, style->key_separator.str->p, style->key_separator.str->n));
        FM_TRY(json_at(run, buf, pair[1], style, depth + 1));
    }
    FM_TRY(json_break(run, buf, style, depth));
    return fm__jbuf_text(run, buf, "}");
}

static fm_status json_at(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v,
                         const struct fm__jjson_style *style, int depth)
{
    if (depth > FM__J_MAX_VALUE_DEPTH) return fm__j_fail(run, FM_E_LIMIT, "values nested too deeply for JSON");
    switch (v.kind) {
    case J_STR:
        return json_str(run, buf, v.str, style->ascii);
    case J_MAP:
        return json_map(run, buf, v.map, style, depth);
    case J_LIST:
        return json_list(run, buf, v, style, depth);
    default:
        return json_scalar(run, buf, v);
    }
}

fm_status fm__jbuf_json(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v,
                        const struct fm__jjson_style *style)
{
    return json_at(run, buf, v, style, 0);
}
