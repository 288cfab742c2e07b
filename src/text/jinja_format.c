// SPDX-License-Identifier: MIT
// "…" % args and "…".format(args): Python's two ways to fill a text. Both end in one formatter of a value with fill,
// alignment, sign, width, precision and type.
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

// Width and precision: beyond these Python would only make spaces and zeros.
enum { MAX_WIDTH = 100000, MAX_PRECISION = 300 };

struct spec {
    char fill[4];
    int n_fill;
    char align; // < > ^ =, 0: by type
    char sign;  // + or space, 0: only minus
    bool alternate, comma;
    int64_t width, precision; // precision −1: none
    char type;                // 0: by value
};

static fm_status add_padded(struct fm__jrun *run, struct fm__jbuf *buf, const struct spec *s, const char *prefix,
                            const struct fm__jstr *body)
{
    int64_t room = s->width - (int64_t)strlen(prefix) - (int64_t)body->chars;
    if (room < 0) room = 0;
    int64_t left = s->align == '>' ? room : s->align == '^' ? room / 2 : 0;
    int64_t inside = s->align == '=' ? room : 0;
    for (int64_t i = 0; i < left; i++) FM_TRY(fm__jbuf_add(run, buf, s->fill, (size_t)s->n_fill));
    FM_TRY(fm__jbuf_text(run, buf, prefix));
    for (int64_t i = 0; i < inside; i++) FM_TRY(fm__jbuf_add(run, buf, s->fill, (size_t)s->n_fill));
    FM_TRY(fm__jbuf_add(run, buf, body->p, body->n));
    for (int64_t i = left + inside; i < room; i++) FM_TRY(fm__jbuf_add(run, buf, s->fill, (size_t)s->n_fill));
    return FM_OK;
}

static fm_status add_number(struct fm__jrun *run, struct fm__jbuf *buf, const struct spec *s, bool negative,
                            const char *base, const char *digits)
{
    char prefix[4], text[1024];
    snprintf(prefix, sizeof prefix, "%s%s", negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "", base);
    size_t n = strlen(digits), whole = strspn(digits, "0123456789"), k = 0;
    for (size_t i = 0; i < n && k < sizeof text - 2; i++) {
        if (s->comma && i && i < whole && (whole - i) % 3 == 0) text[k++] = ',';
        text[k++] = digits[i];
    }
    struct spec right = *s;
    if (!right.align) right.align = '>';
    struct fm__jstr body = {.p = text, .n = k, .chars = k};
    return add_padded(run, buf, &right, prefix, &body);
}

static fm_status add_integer(struct fm__jrun *run, struct fm__jbuf *buf, const struct spec *s, int64_t i)
{
    char digits[400] = "";
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    const char *base = "";
    int at = 0, radix = s->type == 'x' || s->type == 'X' ? 16 : s->type == 'o' ? 8 : s->type == 'b' ? 2 : 10;
    char reversed[65];
    do reversed[at++] = (s->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[magnitude % (unsigned)radix];
    while (magnitude /= (unsigned)radix);
    int n = 0;
    for (int64_t zeros = s->precision - at; zeros > 0; zeros--) digits[n++] = '0'; // "%.3d"
    while (at > 0) digits[n++] = reversed[--at];
    digits[n] = 0;
    if (s->alternate) base = radix == 16 ? (s->type == 'X' ? "0X" : "0x") : radix == 8 ? "0o" : radix == 2 ? "0b" : "";
    return add_number(run, buf, s, i < 0, base, digits);
}

static fm_status add_double(struct fm__jrun *run, struct fm__jbuf *buf, const struct spec *s, double f)
{
    char text[1024] = "", format[16];
    char type = s->type == '%' ? 'f' : s->type ? s->type : 'g';
    if (s->type == '%') f *= 100;
    snprintf(format, sizeof format, "%%%s.*%c", s->alternate ? "#" : "", type);
    snprintf(text, sizeof text, format, (int)(s->precision < 0 ? 6 : s->precision), fabs(f));
    const char *point = localeconv()->decimal_point;
    char *at = strcmp(point, ".") ? strstr(text, point) : NULL;
    if (at) {
        *at = '.';
        memmove(at + 1, at + strlen(point), strlen(at + strlen(point)) + 1);
    }
    if (s->type == '%') strncat(text, "%", sizeof text - strlen(text) - 1);
    return add_number(run, buf, s, signbit(f) && !isnan(f), "", text);
}

static fm_status add_text(struct fm__jrun *run, struct fm__jbuf *buf, const struct spec *s, const struct fm__jstr *text,
                          char align)
{
    struct spec here = *s;
    struct fm__jstr cut = *text;
    if (!here.align) here.align = align;
    if (s->precision >= 0 && (uint64_t)s->precision < cut.chars) {
        cut.n = fm__utf8_offset(cut.p, cut.n, (size_t)s->precision);
        cut.chars = (size_t)s->precision;
    }
    return add_padded(run, buf, &here, "", &cut);
}

static fm_status check_spec(struct fm__jrun *run, const struct spec *s)
{
    if (s->width <= MAX_WIDTH && s->precision <= MAX_PRECISION) return FM_OK;
    return fm__j_fail(run, FM_E_LIMIT, "format wider than %d or with more than %d digits", MAX_WIDTH, MAX_PRECISION);
}

// --- % ---

struct percent {
    const char *p;
    size_t n, at;
    const struct fm__jv *args;
    int64_t n_args, used;
    const struct fm__jmap *named;
};

static int64_t read_number(const char *p, size_t n, size_t *at)
{
    int64_t value = 0;
    while (*at < n && p[*at] >= '0' && p[*at] <= '9') {
        if (value < 1 << 28) value = value * 10 + p[*at] - '0';
        (*at)++;
    }
    return value;
}

static fm_status next_argument(struct fm__jrun *run, struct percent *x, struct fm__jv *out)
{
    if (x->used >= x->n_args) return fm__j_fail(run, FM_E_FORMAT, "not enough arguments for format string");
    *out = x->args[x->used++];
    return FM_OK;
}

static fm_status named_argument(struct fm__jrun *run, struct percent *x, struct fm__jv *out)
{
    size_t begin = x->at;
    while (x->at < x->n && x->p[x->at] != ')') x->at++;
    if (!x->named || x->at >= x->n) return fm__j_fail(run, FM_E_FORMAT, "format requires a mapping");
    struct fm__jv key, *value;
    FM_TRY(fm__jv_view(run, x->p + begin, x->at - begin, &key));
    FM_TRY(fm__jv_map_get(run, x->named, key, &value));
    if (!value) return fm__j_fail(run, FM_E_FORMAT, "format: no key '%.*s'", (int)key.str->n, key.str->p);
    x->at++;
    x->used = x->n_args;
    *out = *value;
    return FM_OK;
}

static fm_status percent_number(struct fm__jrun *run, struct fm__jbuf *buf, struct spec *s, struct fm__jv v, char type)
{
    FM_TRY(fm__j_need_defined(run, v));
    if (!fm__jv_is_number(v)) return fm__j_fail(run, FM_E_FORMAT, "%%%c wants a number, not %s", type, fm__jv_type(v));
    s->type = type == 'i' || type == 'u' ? 'd' : type;
    if (strchr("eEfFgG", type)) return add_double(run, buf, s, fm__jv_as_double(v));
    if (v.kind == J_FLOAT) {
        if (s->type != 'd' || !(fabs(v.f) < 9e18))
            return fm__j_fail(run, FM_E_FORMAT, "%%%c wants an integer, not %s", type, fm__jv_type(v));
        return add_integer(run, buf, s, (int64_t)v.f);
    }
    return add_integer(run, buf, s, fm__jv_as_int(v));
}

static fm_status percent_one(struct fm__jrun *run, struct fm__jbuf *buf, struct percent *x)
{
    struct spec s = {.fill = " ", .n_fill = 1, .precision = -1};
    struct fm__jv value = {.kind = J_MISSING};
    bool left = false, zero = false;
    if (x->at < x->n && x->p[x->at] == '(') {
        x->at++;
        FM_TRY(named_argument(run, x, &value));
    }
    for (; x->at < x->n && x->p[x->at] && strchr("#0- +", x->p[x->at]); x->at++) {
        char c = x->p[x->at];
        if (c == '#') s.alternate = true;
        if (c == '0') zero = true;
        if (c == '-') left = true;
        if (c == '+' || (c == ' ' && s.sign != '+')) s.sign = c;
    }
    s.width = read_number(x->p, x->n, &x->at);
    if (x->at < x->n && x->p[x->at] == '.') {
        x->at++;
        s.precision = read_number(x->p, x->n, &x->at);
    }
    while (x->at < x->n && x->p[x->at] && strchr("hlL", x->p[x->at])) x->at++;
    FM_TRY(check_spec(run, &s));
    if (x->at >= x->n) return fm__j_fail(run, FM_E_FORMAT, "incomplete format");
    char type = x->p[x->at++];
    if (type == '%') return fm__jbuf_text(run, buf, "%");
    if (!type || !strchr("diouxXeEfFgGrsac", type))
        return fm__j_fail(run, FM_E_FORMAT, "unsupported format character '%c'", type);
    if (value.kind == J_MISSING) FM_TRY(next_argument(run, x, &value));
    if (left) s.align = '<';
    if (strchr("rsac", type)) {
        struct fm__jbuf text = {0};
        if (type == 'c' && fm__jv_is_integer(value))
            FM_TRY(fm__jbuf_code(run, &text, (int32_t)fm__jv_as_int(value)));
        else
            FM_TRY(type == 'r' || type == 'a' ? fm__jbuf_repr(run, &text, value) : fm__jbuf_str(run, &text, value));
        FM_TRY(fm__jbuf_value(run, &text, &value));
        return add_text(run, buf, &s, value.str, '>');
    }
    if (zero && !left) s.align = '=', s.fill[0] = '0';
    return percent_number(run, buf, &s, value, type);
}

fm_status fm__j_percent(struct fm__jrun *run, const struct fm__jstr *format, const struct fm__jv *args, int64_t n,
                        const struct fm__jmap *named, struct fm__jv *out)
{
    struct percent x = {.p = format->p, .n = format->n, .args = args, .n_args = n, .named = named};
    struct fm__jbuf buf = {0};
    size_t done = 0;
    while (x.at < x.n) {
        if (x.p[x.at] != '%') {
            x.at++;
            continue;
        }
        FM_TRY(fm__jbuf_add(run, &buf, x.p + done, x.at - done));
        x.at++;
        FM_TRY(percent_one(run, &buf, &x));
        done = x.at;
    }
    FM_TRY(fm__jbuf_add(run, &buf, x.p + done, x.n - done));
    if (x.used < x.n_args && !named)
        return fm__j_fail(run, FM_E_FORMAT, "not all arguments converted during string formatting");
    return fm__jbuf_value(run, &buf, out);
}

// --- str.format ---

static fm_status parse_spec(struct fm__jrun *run, const char *p, size_t n, struct spec *s)
{
    *s = (struct spec){.fill = " ", .n_fill = 1, .precision = -1};
    size_t at = 0, first = n ? (size_t)fm__utf8_len(p) : 0;
    if (n > first && strchr("<>^=", p[first]) && p[first]) {
        memcpy(s->fill, p, first);
        s->n_fill = (int)first;
        s->align = p[first];
        at = first + 1;
    } else if (n && p[0] && strchr("<>^=", p[0])) {
        s->align = p[0];
        at = 1;
    }
    if (at < n && (p[at] == '+' || p[at] == '-' || p[at] == ' ')) s->sign = p[at] == '-' ? 0 : p[at], at++;
    if (at < n && p[at] == '#') s->alternate = true, at++;
    if (at < n && p[at] == '0') {
        if (!s->align) s->align = '=', s->fill[0] = '0', s->n_fill = 1;
        at++;
    }
    s->width = read_number(p, n, &at);
    if (at < n && p[at] == ',') s->comma = true, at++;
    if (at < n && p[at] == '.') {
        at++;
        s->precision = read_number(p, n, &at);
    }
    if (at < n && p[at] && strchr("sdxXobeEfFgG%", p[at])) s->type = p[at++];
    if (at < n) return fm__j_fail(run, FM_E_FORMAT, "invalid format specifier '%.*s'", (int)(n < 40 ? n : 40), p);
    return check_spec(run, s);
}

static fm_status format_value(struct fm__jrun *run, struct fm__jbuf *buf, const char *p, size_t n, struct fm__jv v)
{
    struct spec s;
    if (!n) return fm__jbuf_str(run, buf, v);
    FM_TRY(parse_spec(run, p, n, &s));
    bool number = fm__jv_is_integer(v) && (v.kind == J_INT || s.type);
    if (v.kind == J_STR && (!s.type || s.type == 's') && s.align != '=') return add_text(run, buf, &s, v.str, '<');
    if (number && (!s.type || strchr("dxXob", s.type)) && s.precision < 0)
        return add_integer(run, buf, &s, fm__jv_as_int(v));
    if (fm__jv_is_number(v) && s.type && strchr("eEfFgG%", s.type))
        return add_double(run, buf, &s, fm__jv_as_double(v));
    if (v.kind == J_FLOAT && !s.type && s.precision < 0) {
        char text[FM__J_FLOAT_TEXT];
        fm__j_float_repr(fabs(v.f), text);
        return add_number(run, buf, &s, signbit(v.f), "", text);
    }
    return fm__j_fail(run, FM_E_FORMAT, "unsupported format '%.*s' for %s", (int)(n < 40 ? n : 40), p, fm__jv_type(v));
}

// The value a replacement field names: "", "0", "name", then .attribute and [index].
static fm_status find_field(struct fm__jrun *run, const struct fm__jin *in, const char *p, size_t n, int64_t *automatic,
                            struct fm__jv *out)
{
    size_t at = 0;
    while (at < n && p[at] != '.' && p[at] != '[') at++;
    size_t digit = 0;
    int64_t i = read_number(p, at, &digit);
    if (at == 0) i = (*automatic)++;
    if (digit == at) { // nothing or only digits
        if (i >= in->call->n) return fm__j_fail(run, FM_E_FORMAT, "format: no argument %lld", (long long)i);
        *out = in->call->v[i];
    } else {
        int64_t k = 0;
        while (k < in->call->n_named && (in->call->names[k]->n != at || memcmp(in->call->names[k]->p, p, at))) k++;
        if (k == in->call->n_named) return fm__j_fail(run, FM_E_FORMAT, "format: no argument '%.*s'", (int)at, p);
        *out = in->call->named[k];
    }
    while (at < n) {
        bool index = p[at] == '[';
        size_t begin = ++at;
        while (at < n && (index ? p[at] != ']' : p[at] != '.' && p[at] != '[')) at++;
        struct fm__jv key;
        FM_TRY(fm__jv_view(run, p + begin, at - begin, &key));
        digit = begin;
        i = read_number(p, at, &digit);
        if (index && digit == at && at > begin)
            FM_TRY(fm__j_item(run, *out, fm__jv_int(i), out));
        else
            FM_TRY(index ? fm__j_item(run, *out, key, out) : fm__j_attribute(run, *out, key.str, out));
        at += index;
    }
    return FM_OK;
}

static fm_status format_field(struct fm__jrun *run, const struct fm__jin *in, const char *p, size_t n,
                              int64_t *automatic, struct fm__jbuf *buf)
{
    size_t name = 0;
    while (name < n && p[name] != '!' && p[name] != ':') name++;
    struct fm__jv value;
    FM_TRY(find_field(run, in, p, name, automatic, &value));
    if (name < n && p[name] == '!') {
        char how = name + 1 < n ? p[name + 1] : 0;
        if (how != 'r' && how != 's') return fm__j_fail(run, FM_E_FORMAT, "format: conversion must be !r or !s");
        struct fm__jbuf text = {0};
        FM_TRY(how == 'r' ? fm__jbuf_repr(run, &text, value) : fm__jbuf_str(run, &text, value));
        FM_TRY(fm__jbuf_value(run, &text, &value));
        name += 2;
        if (name < n && p[name] != ':') return fm__j_fail(run, FM_E_FORMAT, "format: want ':' after the conversion");
    }
    return name < n ? format_value(run, buf, p + name + 1, n - name - 1, value) : fm__jbuf_str(run, buf, value);
}

fm_status fm__j_str_format(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str;
    struct fm__jbuf buf = {0};
    int64_t automatic = 0;
    for (size_t at = 0; at < s->n;) {
        char c = s->p[at];
        bool doubled = at + 1 < s->n && s->p[at + 1] == c;
        if ((c != '{' && c != '}') || doubled) {
            FM_TRY(fm__jbuf_add(run, &buf, s->p + at, 1));
            at += (c == '{' || c == '}') ? 2 : 1;
            continue;
        }
        size_t end = at + 1;
        while (c == '{' && end < s->n && s->p[end] != '}' && s->p[end] != '{') end++;
        if (c == '}' || end >= s->n || s->p[end] == '{')
            return fm__j_fail(run, FM_E_FORMAT, "format: single or nested '%c' in the text", c);
        FM_TRY(format_field(run, in, s->p + at + 1, end - at - 1, &automatic, &buf));
        at = end + 1;
    }
    return fm__jbuf_value(run, &buf, out);
}
