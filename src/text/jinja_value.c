// SPDX-License-Identifier: MIT
// Values: making, hashing, comparing, walking. Equality and order follow Python: True == 1 == 1.0 and is the same key.
#include "text/jinja_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_unicode.h"

fm_status fm__jrun_error(struct fm__jrun *run, fm_status code, const char *where, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return fm__error_set(run->err, code, where, "template line %d: %s", run->line, text);
}

fm_status fm__j_work(struct fm__jrun *run, size_t bytes)
{
    int64_t steps = 1 + (int64_t)(bytes / 32);
    if (run->steps_left < steps) {
        run->steps_left = 0;
        return fm__j_fail(run, FM_E_LIMIT, "more steps than a template may take (endless?)");
    }
    run->steps_left -= steps;
    return FM_OK;
}

fm_status fm__j_alloc(struct fm__jrun *run, size_t bytes, void **out)
{
    *out = NULL;
    FM_TRY(fm__j_work(run, bytes));
    if (bytes > run->memory_left) return fm__j_fail(run, FM_E_LIMIT, "more memory than a template may take");
    void *p = fm__arena_alloc(&run->arena, bytes);
    if (!p) return fm__j_fail(run, FM_E_NOMEM, "cannot allocate %zu bytes", bytes);
    run->memory_left -= bytes;
    *out = p;
    return FM_OK;
}

fm_status fm__jv_view(struct fm__jrun *run, const char *p, size_t n, struct fm__jv *out)
{
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jstr), &memory));
    FM_TRY(fm__j_work(run, n));
    struct fm__jstr *s = memory;
    *s = (struct fm__jstr){.p = p, .n = n, .chars = fm__utf8_chars(p, n)};
    *out = (struct fm__jv){.kind = J_STR, .str = s};
    return FM_OK;
}

fm_status fm__jv_str(struct fm__jrun *run, const char *p, size_t n, struct fm__jv *out)
{
    void *copy;
    FM_TRY(fm__j_alloc(run, n + 1, &copy));
    if (n) memcpy(copy, p, n);
    return fm__jv_view(run, copy, n, out);
}

fm_status fm__jv_text(struct fm__jrun *run, const char *text, struct fm__jv *out)
{
    return fm__jv_str(run, text, strlen(text), out);
}

fm_status fm__jv_markup(struct fm__jrun *run, const struct fm__jstr *s, struct fm__jv *out)
{
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jstr), &memory));
    struct fm__jstr *copy = memory;
    *copy = *s;
    copy->markup = true;
    *out = (struct fm__jv){.kind = J_STR, .str = copy};
    return FM_OK;
}

fm_status fm__jv_escape(struct fm__jrun *run, const struct fm__jstr *s, struct fm__jv *out)
{
    struct fm__jbuf buf = {0};
    for (size_t i = 0; i < s->n; i++) {
        char c = s->p[i];
        const char *to = c == '&'    ? "&amp;"
                         : c == '<'  ? "&lt;"
                         : c == '>'  ? "&gt;"
                         : c == '"'  ? "&#34;"
                         : c == '\'' ? "&#39;"
                                     : NULL;
        FM_TRY(to ? fm__jbuf_text(run, &buf, to) : fm__jbuf_add(run, &buf, &c, 1));
    }
    FM_TRY(fm__jbuf_value(run, &buf, out));
    return fm__jv_markup(run, out->str, out);
}

fm_status fm__jv_undefined(struct fm__jrun *run, struct fm__jv *out, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    FM_TRY(fm__jv_text(run, text, out));
    out->kind = J_UNDEFINED;
    return FM_OK;
}

fm_status fm__jv_list(struct fm__jrun *run, enum fm__jflavor flavor, int64_t cap, struct fm__jv *out)
{
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jlist), &memory));
    struct fm__jlist *list = memory;
    list->flavor = flavor;
    if (cap > 0) {
        if ((uint64_t)cap > run->memory_left / sizeof *list->v)
            return fm__j_fail(run, FM_E_LIMIT, "more memory than a template may take");
        FM_TRY(fm__j_alloc(run, (size_t)cap * sizeof *list->v, &memory));
        list->v = memory;
        list->cap = cap;
    }
    *out = (struct fm__jv){.kind = J_LIST, .list = list};
    return FM_OK;
}

fm_status fm__jv_push(struct fm__jrun *run, struct fm__jlist *list, struct fm__jv item)
{
    if (list->n == list->cap) {
        int64_t cap = list->cap ? list->cap * 2 : 4;
        void *memory;
        FM_TRY(fm__j_alloc(run, (size_t)cap * sizeof item, &memory));
        if (list->n) memcpy(memory, list->v, (size_t)list->n * sizeof item);
        list->v = memory;
        list->cap = cap;
    }
    list->v[list->n++] = item;
    return FM_OK;
}

fm_status fm__jv_pair(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, struct fm__jv *out)
{
    FM_TRY(fm__jv_list(run, J_TUPLE, 2, out));
    out->list->v[0] = a, out->list->v[1] = b;
    out->list->n = 2;
    return FM_OK;
}

fm_status fm__jv_map(struct fm__jrun *run, struct fm__jv *out)
{
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jmap), &memory));
    *out = (struct fm__jv){.kind = J_MAP, .map = memory};
    return FM_OK;
}

bool fm__jv_is_integer(struct fm__jv v)
{
    return v.kind == J_BOOL || v.kind == J_INT;
}

bool fm__jv_is_number(struct fm__jv v)
{
    return fm__jv_is_integer(v) || v.kind == J_FLOAT;
}

int64_t fm__jv_as_int(struct fm__jv v)
{
    return v.kind == J_BOOL ? v.b : v.i;
}

double fm__jv_as_double(struct fm__jv v)
{
    return v.kind == J_FLOAT ? v.f : (double)fm__jv_as_int(v);
}

const char *fm__jv_type(struct fm__jv v)
{
    static const char *const lists[] = {"list",      "tuple",       "tuple",      "range",
                                        "dict_keys", "dict_values", "dict_items", "generator"};
    static const char *const kinds[] = {"Undefined", "NoneType", "bool",      "int",      "float",       "str",
                                        "list",      "dict",     "Namespace", "function", "LoopContext", "missing"};
    return v.kind == J_LIST ? lists[v.list->flavor] : kinds[v.kind];
}

bool fm__jv_truthy(struct fm__jv v)
{
    switch (v.kind) {
    case J_UNDEFINED:
    case J_NONE:
    case J_MISSING:
        return false;
    case J_BOOL:
        return v.b;
    case J_INT:
        return v.i != 0;
    case J_FLOAT:
        return v.f != 0;
    case J_STR:
        return v.str->n > 0;
    case J_LIST:
        return v.list->flavor == J_LAZY || v.list->n > 0;
    case J_MAP:
        return v.map->n > 0;
    default:
        return true;
    }
}

bool fm__jv_hashable(struct fm__jv v)
{
    if (v.kind == J_MAP) return false;
    if (v.kind != J_LIST) return true;
    if (v.list->flavor == J_PLAIN || v.list->flavor == J_KEYS || v.list->flavor == J_ITEMS) return false;
    if (v.list->flavor != J_TUPLE && v.list->flavor != J_GROUP) return true;
    for (int64_t i = 0; i < v.list->n; i++) {
        if (v.list->v[i].kind == J_LIST && v.list->v[i].list->flavor == J_TUPLE) continue; // one level is looked at
        if (!fm__jv_hashable(v.list->v[i])) return false;
    }
    return true;
}

// FNV-1a (Fowler, Noll, Vo). Colliding keys cost steps, which are bounded.
static uint64_t hash_bytes(const void *p, size_t n, uint64_t hash)
{
    for (size_t i = 0; i < n; i++) hash = (hash ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t hash_value(struct fm__jv v)
{
    uint64_t seed = 0xcbf29ce484222325u;
    switch (v.kind) {
    case J_STR:
        return hash_bytes(v.str->p, v.str->n, seed);
    case J_BOOL:
    case J_INT: {
        int64_t i = fm__jv_as_int(v);
        return hash_bytes(&i, sizeof i, seed ^ 1);
    }
    case J_FLOAT:
        if (v.f == floor(v.f) && fabs(v.f) < 9e18) return hash_value(fm__jv_int((int64_t)v.f));
        return hash_bytes(&v.f, sizeof v.f, seed ^ 2);
    case J_LIST:
        return seed ^ (uint64_t)v.list->n; // tuples as keys are rare: their length must do
    default:
        return seed ^ ((uint64_t)v.kind << 8);
    }
}

static fm_status find_entry(struct fm__jrun *run, const struct fm__jmap *map, struct fm__jv key, uint64_t hash,
                            struct fm__jentry **out)
{
    *out = NULL;
    if (!map->slots) {
        for (int64_t i = 0; i < map->n && !*out; i++) {
            bool same = false;
            if (map->e[i].hash == hash) FM_TRY(fm__jv_equal(run, map->e[i].key, key, &same));
            if (same) *out = &map->e[i];
        }
        return FM_OK;
    }
    for (uint64_t at = hash & (map->n_slots - 1); map->slots[at]; at = (at + 1) & (map->n_slots - 1)) {
        struct fm__jentry *e = &map->e[map->slots[at] - 1];
        bool same = false;
        FM_TRY(fm__j_work(run, 0));
        if (e->hash == hash) FM_TRY(fm__jv_equal(run, e->key, key, &same));
        if (!same) continue;
        *out = e;
        break;
    }
    return FM_OK;
}

static void put_slot(struct fm__jmap *map, int64_t entry)
{
    uint64_t at = map->e[entry].hash & (map->n_slots - 1);
    while (map->slots[at]) at = (at + 1) & (map->n_slots - 1);
    map->slots[at] = (uint32_t)entry + 1;
}

static fm_status grow_map(struct fm__jrun *run, struct fm__jmap *map)
{
    int64_t cap = map->cap ? map->cap * 2 : 4;
    if (cap > (int64_t)1 << 30) return fm__j_fail(run, FM_E_LIMIT, "mapping too large");
    void *memory;
    FM_TRY(fm__j_alloc(run, (size_t)cap * sizeof *map->e, &memory));
    if (map->n) memcpy(memory, map->e, (size_t)map->n * sizeof *map->e);
    map->e = memory;
    map->cap = cap;
    if (cap <= 8) return FM_OK;
    FM_TRY(fm__j_alloc(run, (size_t)cap * 2 * sizeof *map->slots, &memory));
    map->slots = memory;
    map->n_slots = (uint64_t)cap * 2;
    for (int64_t i = 0; i < map->n; i++) put_slot(map, i);
    return FM_OK;
}

fm_status fm__jv_map_get(struct fm__jrun *run, const struct fm__jmap *map, struct fm__jv key, struct fm__jv **out)
{
    *out = NULL;
    if (!fm__jv_hashable(key)) return fm__j_fail(run, FM_E_FORMAT, "unhashable type: '%s'", fm__jv_type(key));
    struct fm__jentry *e;
    FM_TRY(find_entry(run, map, key, hash_value(key), &e));
    if (e) *out = &e->value;
    return FM_OK;
}

fm_status fm__jv_map_set(struct fm__jrun *run, struct fm__jmap *map, struct fm__jv key, struct fm__jv value)
{
    struct fm__jv *old;
    FM_TRY(fm__jv_map_get(run, map, key, &old));
    if (old) {
        *old = value;
        return FM_OK;
    }
    if (map->n == map->cap) FM_TRY(grow_map(run, map));
    map->e[map->n] = (struct fm__jentry){key, value, hash_value(key)};
    if (map->slots) put_slot(map, map->n);
    map->n++;
    return FM_OK;
}

fm_status fm__jv_map_text(struct fm__jrun *run, const struct fm__jmap *map, const char *key, struct fm__jv **out)
{
    struct fm__jstr s = {.p = key, .n = strlen(key), .chars = strlen(key)};
    return fm__jv_map_get(run, map, (struct fm__jv){.kind = J_STR, .str = &s}, out);
}

static fm_status equal_at(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, int depth, bool *out);

static fm_status equal_lists(struct fm__jrun *run, const struct fm__jlist *a, const struct fm__jlist *b, int depth,
                             bool *out)
{
    enum fm__jflavor fa = a->flavor == J_GROUP ? J_TUPLE : a->flavor, fb = b->flavor == J_GROUP ? J_TUPLE : b->flavor;
    *out = a == b;
    if (*out || fa != fb || fa == J_LAZY || fa == J_VALUES || a->n != b->n) return FM_OK;
    for (int64_t i = 0; i < a->n; i++) {
        FM_TRY(equal_at(run, a->v[i], b->v[i], depth + 1, out));
        if (!*out) return FM_OK;
    }
    *out = true;
    return FM_OK;
}

static fm_status equal_maps(struct fm__jrun *run, const struct fm__jmap *a, const struct fm__jmap *b, int depth,
                            bool *out)
{
    *out = a == b;
    if (*out || a->n != b->n) return FM_OK;
    for (int64_t i = 0; i < a->n; i++) {
        struct fm__jv *other;
        FM_TRY(fm__jv_map_get(run, b, a->e[i].key, &other));
        if (!other) return FM_OK;
        bool same;
        FM_TRY(equal_at(run, a->e[i].value, *other, depth + 1, &same));
        if (!same) return FM_OK;
    }
    *out = true;
    return FM_OK;
}

static fm_status equal_at(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, int depth, bool *out)
{
    *out = false;
    FM_TRY(fm__j_work(run, 0));
    if (depth > FM__J_MAX_VALUE_DEPTH) return fm__j_fail(run, FM_E_LIMIT, "values nested too deeply to compare");
    if (fm__jv_is_number(a) && fm__jv_is_number(b)) {
        if (a.kind == J_FLOAT || b.kind == J_FLOAT) // long double holds every int64 exactly
            *out = (a.kind == J_FLOAT ? (long double)a.f : (long double)fm__jv_as_int(a)) ==
                   (b.kind == J_FLOAT ? (long double)b.f : (long double)fm__jv_as_int(b));
        else
            *out = fm__jv_as_int(a) == fm__jv_as_int(b);
        return FM_OK;
    }
    if (a.kind != b.kind) return FM_OK;
    switch (a.kind) {
    case J_STR:
        if (a.str->n != b.str->n) return FM_OK;
        FM_TRY(fm__j_work(run, a.str->n));
        *out = !a.str->n || !memcmp(a.str->p, b.str->p, a.str->n);
        return FM_OK;
    case J_LIST:
        return equal_lists(run, a.list, b.list, depth, out);
    case J_MAP:
        return equal_maps(run, a.map, b.map, depth, out);
    case J_NAMESPACE:
        *out = a.map == b.map;
        return FM_OK;
    case J_FUNC:
        *out = a.func == b.func;
        return FM_OK;
    case J_LOOP:
        *out = a.loop == b.loop;
        return FM_OK;
    default:
        *out = true;
        return FM_OK; // none, undefined
    }
}

fm_status fm__jv_equal(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, bool *out)
{
    return equal_at(run, a, b, 0, out);
}

static fm_status compare_at(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, int depth, int *out)
{
    *out = 0;
    if (depth > FM__J_MAX_VALUE_DEPTH) return fm__j_fail(run, FM_E_LIMIT, "values nested too deeply to compare");
    if (fm__jv_is_number(a) && fm__jv_is_number(b)) {
        long double x = a.kind == J_FLOAT ? a.f : (long double)fm__jv_as_int(a);
        long double y = b.kind == J_FLOAT ? b.f : (long double)fm__jv_as_int(b);
        *out = x < y ? -1 : x > y ? 1 : x == y ? 0 : 2; // 2: not ordered (NaN)
        return fm__j_work(run, 0);
    }
    if (a.kind == J_STR && b.kind == J_STR) {
        size_t n = a.str->n < b.str->n ? a.str->n : b.str->n;
        FM_TRY(fm__j_work(run, n));
        int order = n ? memcmp(a.str->p, b.str->p, n) : 0; // UTF-8 keeps the order of code points
        *out = order ? (order < 0 ? -1 : 1) : (a.str->n > b.str->n) - (a.str->n < b.str->n);
        return FM_OK;
    }
    bool sequences = a.kind == J_LIST && b.kind == J_LIST;
    if (sequences) {
        bool tuples = (a.list->flavor == J_TUPLE || a.list->flavor == J_GROUP) &&
                      (b.list->flavor == J_TUPLE || b.list->flavor == J_GROUP);
        sequences = tuples || (a.list->flavor == J_PLAIN && b.list->flavor == J_PLAIN);
    }
    if (a.kind == J_UNDEFINED || b.kind == J_UNDEFINED) {
        const struct fm__jstr *why = a.kind == J_UNDEFINED ? a.str : b.str;
        return fm__j_fail(run, FM_E_FORMAT, "%.*s", (int)why->n, why->p);
    }
    if (!sequences)
        return fm__j_fail(run, FM_E_FORMAT, "no order between '%s' and '%s'", fm__jv_type(a), fm__jv_type(b));
    for (int64_t i = 0; i < a.list->n && i < b.list->n; i++) {
        bool same;
        FM_TRY(fm__jv_equal(run, a.list->v[i], b.list->v[i], &same));
        if (!same) return compare_at(run, a.list->v[i], b.list->v[i], depth + 1, out);
    }
    *out = (a.list->n > b.list->n) - (a.list->n < b.list->n);
    return FM_OK;
}

fm_status fm__jv_compare(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, int *out)
{
    return compare_at(run, a, b, 0, out);
}

fm_status fm__jv_length(struct fm__jrun *run, struct fm__jv v, int64_t *out)
{
    *out = 0;
    switch (v.kind) {
    case J_UNDEFINED:
        return FM_OK;
    case J_STR:
        *out = (int64_t)v.str->chars;
        return FM_OK;
    case J_MAP:
        *out = v.map->n;
        return FM_OK;
    case J_LIST:
        *out = v.list->n;
        if (v.list->flavor != J_LAZY) return FM_OK;
        break;
    default:
        break;
    }
    return fm__j_fail(run, FM_E_FORMAT, "object of type '%s' has no length", fm__jv_type(v));
}

bool fm__jv_is_iterable(struct fm__jv v)
{
    return v.kind == J_UNDEFINED || v.kind == J_STR || v.kind == J_LIST || v.kind == J_MAP || v.kind == J_LOOP;
}

static fm_status iterate_chars(struct fm__jrun *run, const struct fm__jstr *s, struct fm__jv *list)
{
    FM_TRY(fm__jv_list(run, J_PLAIN, (int64_t)s->chars, list));
    for (size_t at = 0; at < s->n;) {
        size_t len = (size_t)fm__utf8_len(s->p + at);
        struct fm__jv item;
        FM_TRY(fm__jv_view(run, s->p + at, len, &item));
        FM_TRY(fm__jv_push(run, list->list, item));
        at += len;
    }
    return FM_OK;
}

fm_status fm__jv_iterate(struct fm__jrun *run, struct fm__jv v, struct fm__jv **items, int64_t *n)
{
    struct fm__jv list;
    *items = NULL, *n = 0;
    switch (v.kind) {
    case J_UNDEFINED:
        return FM_OK;
    case J_LIST:
        if (v.list->v) *items = v.list->v + v.list->next;
        *n = v.list->n - v.list->next;
        if (v.list->flavor == J_LAZY) v.list->next = v.list->n;
        return FM_OK;
    case J_STR:
        FM_TRY(iterate_chars(run, v.str, &list));
        break;
    case J_MAP:
        FM_TRY(fm__jv_list(run, J_PLAIN, v.map->n, &list));
        for (int64_t i = 0; i < v.map->n; i++) FM_TRY(fm__jv_push(run, list.list, v.map->e[i].key));
        break;
    default:
        return fm__j_fail(run, FM_E_FORMAT, "'%s' object is not iterable", fm__jv_type(v));
    }
    *items = list.list->v;
    *n = list.list->n;
    return FM_OK;
}
