// SPDX-License-Identifier: MIT
// Operators, attributes, subscripts and slices with Python's rules: who wins when a map has both a key and a method,
// floor division and modulo that follow the divisor's sign, indices that count characters.
#include <math.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

fm_status fm__j_need_defined(struct fm__jrun *run, struct fm__jv v)
{
    if (v.kind != J_UNDEFINED) return FM_OK;
    return fm__j_fail(run, FM_E_FORMAT, "%.*s", (int)v.str->n, v.str->p);
}

static fm_status overflow(struct fm__jrun *run)
{
    return fm__j_fail(run, FM_E_LIMIT, "integer larger than 64 bits");
}

static fm_status power(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, struct fm__jv *out)
{
    bool whole = fm__jv_is_integer(a) && fm__jv_is_integer(b) && fm__jv_as_int(b) >= 0;
    if (!whole) {
        double x = fm__jv_as_double(a), y = fm__jv_as_double(b);
        if (x == 0 && y < 0) return fm__j_fail(run, FM_E_FORMAT, "0.0 cannot be raised to a negative power");
        if (x < 0 && y != floor(y)) return fm__j_fail(run, FM_E_UNSUPPORTED, "complex numbers are not supported");
        double z = pow(x, y);
        if (isinf(z) && !isinf(x) && !isinf(y)) return fm__j_fail(run, FM_E_FORMAT, "result of ** is too large");
        *out = fm__jv_float(z);
        return FM_OK;
    }
    int64_t base = fm__jv_as_int(a), exponent = fm__jv_as_int(b), result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return overflow(run);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) return overflow(run);
    }
    *out = fm__jv_int(result);
    return FM_OK;
}

static fm_status divide_ints(struct fm__jrun *run, int op, int64_t a, int64_t b, struct fm__jv *out)
{
    if (b == 0) return fm__j_fail(run, FM_E_FORMAT, "division by zero");
    if (op == '/') {
        *out = fm__jv_float((double)a / (double)b);
        return FM_OK;
    }
    if (b == -1) { // the one quotient that can overflow
        int64_t negative;
        if (__builtin_sub_overflow((int64_t)0, a, &negative))
            return op == '%' ? (*out = fm__jv_int(0), FM_OK) : overflow(run);
        *out = fm__jv_int(op == '%' ? 0 : negative);
        return FM_OK;
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest && ((rest < 0) != (b < 0))) quotient--, rest += b;
    *out = fm__jv_int(op == '%' ? rest : quotient);
    return FM_OK;
}

static fm_status divide_floats(struct fm__jrun *run, int op, double a, double b, struct fm__jv *out)
{
    if (b == 0) return fm__j_fail(run, FM_E_FORMAT, "division by zero");
    if (op == '/') {
        *out = fm__jv_float(a / b);
        return FM_OK;
    }
    double rest = fmod(a, b);
    double quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) rest += b, quotient -= 1;
    if (rest == 0) rest = copysign(0, b);
    double whole = floor(quotient);
    if (quotient - whole > 0.5) whole += 1;
    if (quotient == 0) whole = copysign(0, a / b);
    *out = fm__jv_float(op == '%' ? rest : whole);
    return FM_OK;
}

static fm_status numbers(struct fm__jrun *run, int op, struct fm__jv a, struct fm__jv b, struct fm__jv *out)
{
    bool ints = fm__jv_is_integer(a) && fm__jv_is_integer(b);
    int64_t i = 0, x = ints ? fm__jv_as_int(a) : 0, y = ints ? fm__jv_as_int(b) : 0;
    double f = fm__jv_as_double(a), g = fm__jv_as_double(b);
    bool over = false;
    switch (op) {
    case '+':
        over = __builtin_add_overflow(x, y, &i), f += g;
        break;
    case '-':
        over = __builtin_sub_overflow(x, y, &i), f -= g;
        break;
    case '*':
        over = __builtin_mul_overflow(x, y, &i), f *= g;
        break;
    case FM__J_OP2('*', '*'):
        return power(run, a, b, out);
    default:
        return ints ? divide_ints(run, op, x, y, out) : divide_floats(run, op, f, g, out);
    }
    if (ints && over) return overflow(run);
    *out = ints ? fm__jv_int(i) : fm__jv_float(f);
    return FM_OK;
}

static bool is_tuple(struct fm__jv v)
{
    return v.kind == J_LIST && (v.list->flavor == J_TUPLE || v.list->flavor == J_GROUP);
}

static bool is_plain(struct fm__jv v)
{
    return v.kind == J_LIST && v.list->flavor == J_PLAIN;
}

static fm_status join_two(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, struct fm__jv *out)
{
    if (a.kind == J_STR) {
        void *memory;
        size_t n;
        bool markup = a.str->markup || b.str->markup;
        if (markup && !a.str->markup) FM_TRY(fm__jv_escape(run, a.str, &a));
        if (markup && !b.str->markup) FM_TRY(fm__jv_escape(run, b.str, &b));
        if (!fm__add_size(a.str->n, b.str->n, &n)) return overflow(run);
        FM_TRY(fm__j_alloc(run, n + 1, &memory));
        char *text = memory;
        if (a.str->n) memcpy(text, a.str->p, a.str->n);
        if (b.str->n) memcpy(text + a.str->n, b.str->p, b.str->n);
        FM_TRY(fm__jv_view(run, text, n, out));
        return markup ? fm__jv_markup(run, out->str, out) : FM_OK;
    }
    FM_TRY(fm__jv_list(run, is_tuple(a) ? J_TUPLE : J_PLAIN, a.list->n + b.list->n, out));
    for (int64_t i = 0; i < a.list->n; i++) FM_TRY(fm__jv_push(run, out->list, a.list->v[i]));
    for (int64_t i = 0; i < b.list->n; i++) FM_TRY(fm__jv_push(run, out->list, b.list->v[i]));
    return FM_OK;
}

static fm_status repeat(struct fm__jrun *run, struct fm__jv v, int64_t times, struct fm__jv *out)
{
    if (times < 0) times = 0;
    if (v.kind == J_STR) {
        struct fm__jbuf buf = {0};
        if (v.str->n)
            for (int64_t i = 0; i < times; i++) FM_TRY(fm__jbuf_add(run, &buf, v.str->p, v.str->n));
        return fm__jbuf_value(run, &buf, out);
    }
    FM_TRY(fm__jv_list(run, is_tuple(v) ? J_TUPLE : J_PLAIN, 0, out));
    for (int64_t i = 0; v.list->n && i < times; i++) {
        FM_TRY(fm__j_work(run, (size_t)v.list->n * sizeof v));
        for (int64_t k = 0; k < v.list->n; k++) FM_TRY(fm__jv_push(run, out->list, v.list->v[k]));
    }
    return FM_OK;
}

fm_status fm__j_binary(struct fm__jrun *run, int op, struct fm__jv a, struct fm__jv b, struct fm__jv *out)
{
    FM_TRY(fm__j_work(run, 0));
    if (fm__jv_is_number(a) && fm__jv_is_number(b)) return numbers(run, op, a, b, out);
    if (op == '%' && a.kind == J_STR) {
        if (is_tuple(b)) return fm__j_percent(run, a.str, b.list->v, b.list->n, NULL, out);
        static const struct fm__jmap empty = {0};
        bool subscripted = b.kind == J_UNDEFINED || (b.kind == J_LIST && b.list->flavor <= J_RANGE); // may stay unused
        return fm__j_percent(run, a.str, &b, 1, b.kind == J_MAP ? b.map : subscripted ? &empty : NULL, out);
    }
    FM_TRY(fm__j_need_defined(run, a));
    FM_TRY(fm__j_need_defined(run, b));
    bool alike = (a.kind == J_STR && b.kind == J_STR) || (is_plain(a) && is_plain(b)) || (is_tuple(a) && is_tuple(b));
    if (op == '+' && alike) return join_two(run, a, b, out);
    if (op == '*' && (a.kind == J_STR || is_plain(a) || is_tuple(a)) && fm__jv_is_integer(b))
        return repeat(run, a, fm__jv_as_int(b), out);
    if (op == '*' && (b.kind == J_STR || is_plain(b) || is_tuple(b)) && fm__jv_is_integer(a))
        return repeat(run, b, fm__jv_as_int(a), out);
    char text[3] = {(char)(op & 255), (char)(op >> 8), 0};
    return fm__j_fail(run, FM_E_FORMAT, "'%s' between '%s' and '%s'", text, fm__jv_type(a), fm__jv_type(b));
}

fm_status fm__j_negate(struct fm__jrun *run, struct fm__jv a, bool negative, struct fm__jv *out)
{
    FM_TRY(fm__j_need_defined(run, a));
    if (!fm__jv_is_number(a)) return fm__j_fail(run, FM_E_FORMAT, "sign before '%s'", fm__jv_type(a));
    if (a.kind == J_FLOAT) {
        *out = fm__jv_float(negative ? -a.f : a.f);
        return FM_OK;
    }
    int64_t i = fm__jv_as_int(a);
    if (negative && __builtin_sub_overflow((int64_t)0, i, &i)) return overflow(run);
    *out = fm__jv_int(i);
    return FM_OK;
}

fm_status fm__j_contains(struct fm__jrun *run, struct fm__jv item, struct fm__jv in, bool *out)
{
    *out = false;
    if (in.kind == J_STR) {
        if (item.kind != J_STR)
            return fm__j_fail(run, FM_E_FORMAT, "'in <string>' wants a string on the left, not %s", fm__jv_type(item));
        FM_TRY(fm__j_work(run, in.str->n));
        *out = !item.str->n || (in.str->n && memmem(in.str->p, in.str->n, item.str->p, item.str->n));
        return FM_OK;
    }
    if (in.kind == J_MAP || (in.kind == J_LIST && in.list->flavor == J_KEYS)) {
        if (!fm__jv_hashable(item)) return fm__j_fail(run, FM_E_FORMAT, "unhashable type: '%s'", fm__jv_type(item));
    }
    if (in.kind == J_MAP) {
        struct fm__jv *found;
        FM_TRY(fm__jv_map_get(run, in.map, item, &found));
        *out = found != NULL;
        return FM_OK;
    }
    if (in.kind == J_LIST) {
        struct fm__jlist *list = in.list;
        int64_t i = list->next;
        while (i < list->n && !*out) FM_TRY(fm__jv_equal(run, item, list->v[i++], out));
        if (list->flavor == J_LAZY) list->next = i;
        return FM_OK;
    }
    if (in.kind == J_UNDEFINED) return FM_OK;
    return fm__j_fail(run, FM_E_FORMAT, "'%s' object is not a container", fm__jv_type(in));
}

fm_status fm__j_compare_op(struct fm__jrun *run, int op, struct fm__jv a, struct fm__jv b, bool *out)
{
    int order = 0;
    FM_TRY(fm__j_work(run, 0));
    switch (op) {
    case FM__J_OP2('=', '='):
        return fm__jv_equal(run, a, b, out);
    case FM__J_OP2('!', '='):
        FM_TRY(fm__jv_equal(run, a, b, out));
        *out = !*out;
        return FM_OK;
    case 'i':
        return fm__j_contains(run, a, b, out);
    case 'n':
        FM_TRY(fm__j_contains(run, a, b, out));
        *out = !*out;
        return FM_OK;
    default:
        FM_TRY(fm__jv_compare(run, a, b, &order));
    }
    *out = op == '<'                   ? order == -1
           : op == '>'                 ? order == 1
           : op == FM__J_OP2('<', '=') ? order == -1 || order == 0
                                       : order == 1 || order == 0;
    return FM_OK;
}

static fm_status bound_method(struct fm__jrun *run, const struct fm__jbuiltin *method, struct fm__jv self,
                              struct fm__jv *out)
{
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jfunc), &memory));
    struct fm__jfunc *func = memory;
    func->builtin = method;
    func->self = self;
    *out = (struct fm__jv){.kind = J_FUNC, .func = func};
    return FM_OK;
}

// getattr(): *found false where Python raises AttributeError.
static fm_status get_attribute(struct fm__jrun *run, struct fm__jv v, const struct fm__jstr *name, struct fm__jv *out,
                               bool *found)
{
    *found = true;
    if (v.kind == J_LOOP) {
        const struct fm__jbuiltin *method = fm__j_find_method(v, name->p, name->n);
        if (method) return bound_method(run, method, v, out);
        FM_TRY(fm__j_loop_attribute(run, v.loop, name, out));
        *found = out->kind != J_MISSING;
        return FM_OK;
    }
    if (v.kind == J_NAMESPACE) {
        struct fm__jv *value;
        FM_TRY(fm__jv_map_get(run, v.map, (struct fm__jv){.kind = J_STR, .str = name}, &value));
        *found = value != NULL;
        if (value) *out = *value;
        return FM_OK;
    }
    if (v.kind == J_LIST && v.list->flavor == J_GROUP) {
        bool grouper = name->n == 7 && !memcmp(name->p, "grouper", 7);
        if (grouper || (name->n == 4 && !memcmp(name->p, "list", 4))) {
            *out = v.list->v[grouper ? 0 : 1];
            return FM_OK;
        }
    }
    if (v.kind == J_FUNC && v.func->macro && name->n == 4 && !memcmp(name->p, "name", 4)) {
        *out = (struct fm__jv){.kind = J_STR, .str = &v.func->macro->str};
        return FM_OK;
    }
    const struct fm__jbuiltin *method = fm__j_find_method(v, name->p, name->n);
    if (method && !strcmp(method->parameters ? method->parameters : "", "!")) // would change the value: the sandbox
        return fm__jv_undefined(run, out, "access to attribute '%s' of '%s' object is unsafe", method->name,
                                fm__jv_type(v));
    *found = method != NULL;
    return method ? bound_method(run, method, v, out) : FM_OK;
}

// obj[key]: *found false where Python raises TypeError or LookupError.
static fm_status get_item(struct fm__jrun *run, struct fm__jv v, struct fm__jv key, struct fm__jv *out, bool *found)
{
    *found = false;
    if (v.kind == J_MAP) {
        struct fm__jv *value = NULL;
        if (fm__jv_hashable(key)) FM_TRY(fm__jv_map_get(run, v.map, key, &value));
        *found = value != NULL;
        if (value) *out = *value;
        return FM_OK;
    }
    bool sequence = v.kind == J_STR || (v.kind == J_LIST && (v.list->flavor <= J_RANGE));
    if (!sequence || !fm__jv_is_integer(key)) return FM_OK;
    int64_t n = v.kind == J_STR ? (int64_t)v.str->chars : v.list->n, i = fm__jv_as_int(key);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return FM_OK;
    *found = true;
    if (v.kind == J_LIST) {
        *out = v.list->v[i];
        return FM_OK;
    }
    bool ascii = v.str->n == v.str->chars;
    if (!ascii) FM_TRY(fm__j_work(run, v.str->n));
    size_t at = ascii ? (size_t)i : fm__utf8_offset(v.str->p, v.str->n, (size_t)i);
    return fm__jv_view(run, v.str->p + at, (size_t)fm__utf8_len(v.str->p + at), out);
}

static fm_status no_attribute(struct fm__jrun *run, struct fm__jv v, struct fm__jv key, struct fm__jv *out)
{
    if (key.kind == J_STR)
        return fm__jv_undefined(run, out, "'%s' object has no attribute '%.*s'", fm__jv_type(v),
                                (int)(key.str->n < 80 ? key.str->n : 80), key.str->p);
    struct fm__jbuf buf = {0};
    FM_TRY(fm__jbuf_repr(run, &buf, key));
    return fm__jv_undefined(run, out, "%s object has no element %.*s", fm__jv_type(v), (int)(buf.n < 80 ? buf.n : 80),
                            buf.p);
}

fm_status fm__j_attribute(struct fm__jrun *run, struct fm__jv v, const struct fm__jstr *name, struct fm__jv *out)
{
    FM_TRY(fm__j_work(run, 0));
    FM_TRY(fm__j_need_defined(run, v));
    struct fm__jv key = {.kind = J_STR, .str = name};
    bool found;
    FM_TRY(get_attribute(run, v, name, out, &found));
    if (found) return FM_OK;
    FM_TRY(get_item(run, v, key, out, &found));
    return found ? FM_OK : no_attribute(run, v, key, out);
}

fm_status fm__j_item(struct fm__jrun *run, struct fm__jv v, struct fm__jv key, struct fm__jv *out)
{
    FM_TRY(fm__j_work(run, 0));
    FM_TRY(fm__j_need_defined(run, v));
    bool found;
    FM_TRY(get_item(run, v, key, out, &found));
    if (found) return FM_OK;
    if (key.kind == J_STR) FM_TRY(get_attribute(run, v, key.str, out, &found));
    return found ? FM_OK : no_attribute(run, v, key, out);
}

// One bound of a slice as Python clips it.
static int64_t clip(struct fm__jv bound, int64_t n, int64_t low, int64_t high, int64_t missing)
{
    if (bound.kind == J_NONE) return missing;
    int64_t i = fm__jv_as_int(bound);
    if (i < 0) i = i < -n ? -1 : i + n;
    return i < low ? low : i > high ? high : i;
}

fm_status fm__j_slice(struct fm__jrun *run, struct fm__jv v, const struct fm__jv bounds[3], struct fm__jv *out)
{
    FM_TRY(fm__j_need_defined(run, v));
    bool list = v.kind == J_LIST && v.list->flavor <= J_RANGE;
    if (!list && v.kind != J_STR) return fm__j_fail(run, FM_E_FORMAT, "'%s' object cannot be sliced", fm__jv_type(v));
    for (int i = 0; i < 3; i++) {
        if (bounds[i].kind != J_NONE && !fm__jv_is_integer(bounds[i]))
            return fm__j_fail(run, FM_E_FORMAT, "slice indices must be integers or none, not %s",
                              fm__jv_type(bounds[i]));
    }
    int64_t n = list ? v.list->n : (int64_t)v.str->chars;
    int64_t step = bounds[2].kind == J_NONE ? 1 : fm__jv_as_int(bounds[2]);
    if (step == 0) return fm__j_fail(run, FM_E_FORMAT, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    int64_t start = clip(bounds[0], n, low, high, step < 0 ? n - 1 : 0);
    int64_t stop = clip(bounds[1], n, low, high, step < 0 ? -1 : n);
    if (list) {
        FM_TRY(fm__jv_list(run, is_tuple(v) ? J_TUPLE : v.list->flavor, 0, out));
        for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
            FM_TRY(fm__jv_push(run, out->list, v.list->v[i]));
            if (__builtin_add_overflow(i, step, &i)) break;
        }
        for (int i = 0; v.list->flavor == J_RANGE && i < 2; i++) // unsigned: only printed, and may wrap
            out->list->range[i] =
                (int64_t)((uint64_t)v.list->range[0] + (uint64_t)(i ? stop : start) * (uint64_t)v.list->range[2]);
        out->list->range[2] = (int64_t)((uint64_t)v.list->range[2] * (uint64_t)step);
        return FM_OK;
    }
    FM_TRY(fm__j_work(run, v.str->n));
    if (step == 1) {
        size_t from = fm__utf8_offset(v.str->p, v.str->n, (size_t)start);
        size_t to =
            stop > start ? from + fm__utf8_offset(v.str->p + from, v.str->n - from, (size_t)(stop - start)) : from;
        return fm__jv_view(run, v.str->p + from, to - from, out);
    }
    struct fm__jv *chars;
    struct fm__jbuf buf = {0};
    FM_TRY(fm__jv_iterate(run, v, &chars, &n));
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        FM_TRY(fm__jbuf_str(run, &buf, chars[i]));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return fm__jbuf_value(run, &buf, out);
}
