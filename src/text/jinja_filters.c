// SPDX-License-Identifier: MIT
// Filters that work on one value: text, numbers, JSON. Those that walk sequences are in jinja_filters_seq.c.
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

// Runs a method of str on str(self).
static fm_status as_str(struct fm__jrun *run, const char *method, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jin text = *in;
    text.self.kind = J_STR;
    FM_TRY(fm__jv_to_str(run, in->self, &text.self.str));
    FM_TRY(fm__j_find_builtin(fm__j_str_methods, method, strlen(method))->fn(run, &text, out));
    bool markup = text.self.str->markup && out->kind == J_STR;
    return markup ? fm__jv_markup(run, out->str, out) : FM_OK;
}

#define STR_FILTER(filter, method)                                                              \
    static fm_status filter(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out) \
    {                                                                                           \
        return as_str(run, method, in, out);                                                    \
    }
STR_FILTER(do_trim, "strip")
STR_FILTER(do_upper, "upper")
STR_FILTER(do_lower, "lower")
STR_FILTER(do_capitalize, "capitalize")

static fm_status do_replace(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jin text = *in;
    for (int i = 0; i < 2; i++) {
        text.arg[i].kind = J_STR;
        FM_TRY(fm__jv_to_str(run, in->arg[i], &text.arg[i].str));
    }
    if (text.arg[2].kind == J_NONE) text.arg[2].kind = J_MISSING;
    FM_TRY(as_str(run, "replace", &text, out));
    return fm__jv_view(run, out->str->p, out->str->n, out); // plain, even from markup
}

// Words begin after space, - ( { [ <; unlike str.title after nothing else.
static fm_status do_title(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s;
    struct fm__jbuf buf = {0};
    FM_TRY(fm__jv_to_str(run, in->self, &s));
    bool first = true;
    for (size_t at = 0; at < s->n;) {
        int len;
        int32_t c = fm__utf8_get(s->p + at, s->n - at, &len), to[3];
        bool separator = fm__uni_is_space(c) || (c < 128 && c && strchr("-({[<", c));
        int n = first && !separator ? fm__uni_upper(c, to) : fm__uni_lower(c, to);
        for (int i = 0; i < n; i++) FM_TRY(fm__jbuf_code(run, &buf, to[i]));
        first = separator;
        at += (size_t)len;
    }
    return fm__jbuf_value(run, &buf, out);
}

static fm_status do_string(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    *out = (struct fm__jv){.kind = J_STR};
    return fm__jv_to_str(run, in->self, &out->str);
}

static fm_status do_safe(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s;
    FM_TRY(fm__jv_to_str(run, in->self, &s));
    return fm__jv_markup(run, s, out);
}

static fm_status do_forceescape(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s;
    FM_TRY(fm__jv_to_str(run, in->self, &s));
    return fm__jv_escape(run, s, out);
}

static fm_status do_escape(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    *out = in->self;
    return in->self.kind == J_STR && in->self.str->markup ? FM_OK : do_forceescape(run, in, out);
}

static fm_status do_default(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    bool boolean = in->arg[1].kind != J_MISSING && fm__jv_truthy(in->arg[1]);
    bool take = in->self.kind == J_UNDEFINED || (boolean && !fm__jv_truthy(in->self));
    *out = take ? in->arg[0] : in->self;
    return out->kind == J_MISSING ? fm__jv_text(run, "", out) : FM_OK;
}

static fm_status do_length(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    *out = fm__jv_int(0);
    return fm__jv_length(run, in->self, &out->i);
}

// The first line as it is (unless `first`), every other one behind the indentation, empty ones only with `blank`.
static fm_status do_indent(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jbuf indent = {0}, buf = {0};
    FM_TRY(fm__j_need_defined(run, in->self));
    if (in->self.kind != J_STR)
        return fm__j_fail(run, FM_E_FORMAT, "indent wants a string, not %s", fm__jv_type(in->self));
    int64_t width;
    if (in->arg[0].kind == J_STR) {
        FM_TRY(fm__jbuf_str(run, &indent, in->arg[0]));
    } else {
        FM_TRY(fm__j_arg_int(run, in->arg[0], 4, &width));
        FM_TRY(fm__jbuf_fill(run, &indent, ' ', width));
    }
    bool first = in->arg[1].kind != J_MISSING && fm__jv_truthy(in->arg[1]);
    bool blank = in->arg[2].kind != J_MISSING && fm__jv_truthy(in->arg[2]);
    struct fm__jin text = {.self = in->self};
    struct fm__jv newline, lines;
    FM_TRY(fm__jv_text(run, "\n", &newline));
    FM_TRY(fm__j_binary(run, '+', text.self, newline, &text.self));
    for (int i = 0; i < FM__J_MAX_PARAMETERS; i++) text.arg[i].kind = J_MISSING;
    FM_TRY(as_str(run, "splitlines", &text, &lines));
    for (int64_t i = 0; i < lines.list->n; i++) {
        const struct fm__jstr *line = lines.list->v[i].str;
        if (i) FM_TRY(fm__jbuf_text(run, &buf, "\n"));
        if (i ? (blank || line->n) : first) FM_TRY(fm__jbuf_add(run, &buf, indent.p, indent.n));
        FM_TRY(fm__jbuf_add(run, &buf, line->p, line->n));
    }
    return fm__jbuf_value(run, &buf, out);
}

static fm_status do_center(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jin text = *in;
    if (text.arg[0].kind == J_MISSING) text.arg[0] = fm__jv_int(80);
    return as_str(run, "center", &text, out);
}

static fm_status do_truncate(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    static const struct fm__jstr dots = {.p = "...", .n = 3, .chars = 3};
    int64_t length, leeway;
    const struct fm__jstr *s, *end = &dots;
    FM_TRY(fm__j_arg_int(run, in->arg[0], 255, &length));
    FM_TRY(fm__j_arg_int(run, in->arg[3], 5, &leeway));
    if (in->arg[2].kind != J_MISSING) FM_TRY(fm__j_arg_str(run, in->arg[2], &end));
    if (length < (int64_t)end->chars || leeway < 0) return fm__j_fail(run, FM_E_FORMAT, "truncate: length too small");
    int64_t n;
    FM_TRY(fm__jv_length(run, in->self, &n)); // whatever is short enough stays what it is
    *out = in->self;
    if (leeway > INT64_MAX - length || n <= length + leeway) return FM_OK;
    FM_TRY(fm__j_arg_str(run, in->self, &s));
    size_t keep = fm__utf8_offset(s->p, s->n, (size_t)(length - (int64_t)end->chars));
    if (in->arg[1].kind == J_MISSING || !fm__jv_truthy(in->arg[1])) {
        const char *space = keep ? memrchr(s->p, ' ', keep) : NULL;
        if (space) keep = (size_t)(space - s->p);
    }
    struct fm__jbuf buf = {0};
    FM_TRY(fm__jbuf_add(run, &buf, s->p, keep));
    FM_TRY(fm__jbuf_add(run, &buf, end->p, end->n));
    return fm__jbuf_value(run, &buf, out);
}

static fm_status do_wordcount(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s;
    FM_TRY(fm__jv_to_str(run, in->self, &s));
    FM_TRY(fm__j_work(run, s->n));
    *out = fm__jv_int(0);
    bool word = false;
    for (size_t at = 0; at < s->n;) {
        int len;
        int32_t c = fm__utf8_get(s->p + at, s->n - at, &len);
        bool letter = c == '_' || fm__uni_is_alpha(c) || fm__uni_is_digit(c);
        out->i += letter && !word;
        word = letter;
        at += (size_t)len;
    }
    return FM_OK;
}

static fm_status do_urlencode(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s;
    struct fm__jbuf buf = {0};
    if (in->self.kind == J_MAP || in->self.kind == J_LIST)
        return fm__j_fail(run, FM_E_UNSUPPORTED, "urlencode of %s is not supported", fm__jv_type(in->self));
    FM_TRY(fm__jv_to_str(run, in->self, &s));
    for (size_t i = 0; i < s->n; i++) {
        char c = s->p[i], text[4];
        bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("_.-~/", c));
        snprintf(text, sizeof text, plain ? "%c" : "%%%02X", plain ? c : (unsigned char)c);
        FM_TRY(fm__jbuf_text(run, &buf, text));
    }
    return fm__jbuf_value(run, &buf, out);
}

// --- numbers ---

// int(text, base) of Python: whitespace around, a sign, digits with single underscores, a prefix its base allows.
static bool parse_int(const struct fm__jstr *s, int64_t base, int64_t *out, bool *too_large)
{
    char text[80];
    size_t n = 0, at = 0, end = s->n;
    int len;
    while (at < end && fm__uni_is_space(fm__utf8_get(s->p + at, end - at, &len))) at += (size_t)len;
    while (end > at && fm__uni_is_space((unsigned char)s->p[end - 1])) end--;
    for (; at < end; at++) {
        char c = s->p[at];
        bool joint = c == '_' && at + 1 < end && s->p[at + 1] != '_' && n && text[n - 1] != '+' && text[n - 1] != '-';
        if (joint) continue;
        if (n >= sizeof text - 1 || c == '_' || (unsigned char)c > 127) return false;
        text[n++] = c;
    }
    text[n] = 0;
    char *p = text + (text[0] == '+' || text[0] == '-'), kind = (char)(p[0] == '0' ? p[1] | 32 : 0);
    if (!((*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z'))) return false;
    int64_t prefix = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (prefix && (base == prefix || base == 0)) memmove(p, p + 2, strlen(p + 2) + 1), base = prefix;
    if (base == 0) base = 10;
    if (base < 2 || base > 36 || !*p) return false;
    char *stop;
    errno = 0;
    *out = strtoll(text, &stop, (int)base);
    *too_large = errno == ERANGE;
    return !*stop && stop != text;
}

// float(text) of Python: decimal only (strtod would take hexadecimal), any locale.
static bool parse_float(const struct fm__jstr *s, double *out)
{
    char text[512];
    size_t n = 0, at = 0, end = s->n;
    int len;
    while (at < end && fm__uni_is_space(fm__utf8_get(s->p + at, end - at, &len))) at += (size_t)len;
    while (end > at && fm__uni_is_space((unsigned char)s->p[end - 1])) end--;
    for (; at < end && n < sizeof text - 16; at++) {
        char c = s->p[at];
        bool between = n && s->p[at - 1] >= '0' && s->p[at - 1] <= '9' && at + 1 < end && s->p[at + 1] >= '0' &&
                       s->p[at + 1] <= '9';
        if (c == '_' && between) continue;
        if (!c || !strchr("0123456789+-.eEinfatyINFATY", c)) return false;
        if (c == '.')
            for (const char *d = localeconv()->decimal_point; *d; d++) text[n++] = *d;
        else
            text[n++] = c;
    }
    text[n] = 0;
    char *stop;
    *out = strtod(text, &stop);
    return n && at == end && !*stop;
}

static fm_status float_to_int(struct fm__jrun *run, double f, struct fm__jv *out)
{
    if (isnan(f) || !(fabs(f) < 9.2e18)) return fm__j_fail(run, FM_E_LIMIT, "float does not fit a 64-bit integer");
    *out = fm__jv_int((int64_t)f);
    return FM_OK;
}

static fm_status do_int(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    int64_t base, i;
    double f;
    bool too_large = false;
    FM_TRY(fm__j_need_defined(run, in->self));
    FM_TRY(fm__j_arg_int(run, in->arg[1], 10, &base));
    *out = in->arg[0].kind == J_MISSING ? fm__jv_int(0) : in->arg[0];
    if (fm__jv_is_integer(in->self)) *out = fm__jv_int(fm__jv_as_int(in->self));
    if (in->self.kind == J_FLOAT && !isnan(in->self.f)) return float_to_int(run, in->self.f, out);
    if (in->self.kind != J_STR) return FM_OK;
    if (parse_int(in->self.str, base, &i, &too_large)) {
        if (too_large) return fm__j_fail(run, FM_E_LIMIT, "integer larger than 64 bits");
        *out = fm__jv_int(i);
    } else if (parse_float(in->self.str, &f) && !isnan(f) && !isinf(f)) {
        return float_to_int(run, f, out);
    }
    return FM_OK;
}

static fm_status do_float(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    double f;
    FM_TRY(fm__j_need_defined(run, in->self));
    *out = in->arg[0].kind == J_MISSING ? fm__jv_float(0) : in->arg[0];
    if (fm__jv_is_number(in->self)) *out = fm__jv_float(fm__jv_as_double(in->self));
    if (in->self.kind == J_STR && parse_float(in->self.str, &f)) *out = fm__jv_float(f);
    return FM_OK;
}

static fm_status do_abs(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    FM_TRY(fm__j_need_defined(run, in->self));
    if (!fm__jv_is_number(in->self)) return fm__j_fail(run, FM_E_FORMAT, "abs of %s", fm__jv_type(in->self));
    return fm__j_negate(run, in->self, fm__jv_as_double(in->self) < 0, out);
}

// Rounds to the nearest decimal, ties to even, exact in the binary value: printf does just that.
static double round_to(double f, int64_t precision)
{
    char text[700];
    if (precision < 0) {
        double scale = pow(10, (double)-precision);
        return rint(f / scale) * scale;
    }
    if (precision > 320 || isnan(f) || isinf(f)) return f;
    snprintf(text, sizeof text, "%.*f", (int)precision, f);
    return strtod(text, NULL);
}

static fm_status do_round(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    int64_t precision;
    const struct fm__jstr *method = NULL;
    FM_TRY(fm__j_need_defined(run, in->self));
    FM_TRY(fm__j_arg_int(run, in->arg[0], 0, &precision));
    if (in->arg[1].kind != J_MISSING) FM_TRY(fm__j_arg_str(run, in->arg[1], &method));
    if (!fm__jv_is_number(in->self)) return fm__j_fail(run, FM_E_FORMAT, "round of %s", fm__jv_type(in->self));
    bool ceiling = method && method->n == 4 && !memcmp(method->p, "ceil", 4);
    bool floors = method && method->n == 5 && !memcmp(method->p, "floor", 5);
    if (method && !ceiling && !floors && (method->n != 6 || memcmp(method->p, "common", 6)))
        return fm__j_fail(run, FM_E_FORMAT, "round: method must be common, ceil or floor");
    double f = fm__jv_as_double(in->self);
    if (ceiling || floors) {
        double scale = pow(10, (double)precision);
        *out = fm__jv_float(((ceiling ? ceil(f * scale) : floor(f * scale)) + 0.0) / scale);
        return FM_OK;
    }
    if (in->self.kind == J_FLOAT)
        *out = fm__jv_float(round_to(f, precision));
    else if (precision >= 0)
        *out = fm__jv_int(fm__jv_as_int(in->self));
    else
        return float_to_int(run, round_to(f, precision), out);
    return FM_OK;
}

// --- formats ---

static fm_status do_format(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s;
    struct fm__jv named = {.kind = J_NONE};
    FM_TRY(fm__jv_to_str(run, in->self, &s));
    if (in->call->n && in->call->n_named)
        return fm__j_fail(run, FM_E_FORMAT, "format: positional and named arguments at the same time");
    if (in->call->n_named) {
        FM_TRY(fm__jv_map(run, &named));
        for (int64_t i = 0; i < in->call->n_named; i++)
            FM_TRY(fm__jv_map_set(run, named.map, (struct fm__jv){.kind = J_STR, .str = in->call->names[i]},
                                  in->call->named[i]));
        return fm__j_percent(run, s, &named, 1, named.map, out);
    }
    return fm__j_percent(run, s, in->call->v, in->call->n, NULL, out);
}

static fm_status do_tojson(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jjson_style style = {.indent = -1};
    const struct fm__jv *separators = &in->arg[2];
    bool pretty = in->arg[1].kind != J_MISSING && in->arg[1].kind != J_NONE;
    if (pretty && in->arg[1].kind == J_STR) {
        style.indent_text = in->arg[1].str;
    } else if (pretty) {
        FM_TRY(fm__j_arg_int(run, in->arg[1], 0, &style.indent));
        if (style.indent < 0) style.indent = 0; // Python: new lines without indentation
    }
    FM_TRY(fm__jv_text(run, pretty ? "," : ", ", &style.item_separator));
    FM_TRY(fm__jv_text(run, ": ", &style.key_separator));
    if (separators->kind == J_LIST) {
        if (separators->list->n != 2 || separators->list->v[0].kind != J_STR || separators->list->v[1].kind != J_STR)
            return fm__j_fail(run, FM_E_FORMAT, "tojson: separators must be two strings");
        style.item_separator = separators->list->v[0];
        style.key_separator = separators->list->v[1];
    }
    style.ascii = in->arg[0].kind != J_MISSING && fm__jv_truthy(in->arg[0]);
    style.sort_keys = in->arg[3].kind != J_MISSING && fm__jv_truthy(in->arg[3]);
    struct fm__jbuf buf = {0};
    FM_TRY(fm__jbuf_json(run, &buf, in->self, &style));
    return fm__jbuf_value(run, &buf, out);
}

const struct fm__jbuiltin fm__j_filters[] = {
    {"trim", do_trim, "chars", 0},
    {"upper", do_upper, "", 0},
    {"lower", do_lower, "", 0},
    {"capitalize", do_capitalize, "", 0},
    {"title", do_title, "", 0},
    {"replace", do_replace, "old new count", 2},
    {"string", do_string, "", 0},
    {"safe", do_safe, "", 0},
    {"escape", do_escape, "", 0},
    {"e", do_escape, "", 0},
    {"forceescape", do_forceescape, "", 0},
    {"default", do_default, "default_value boolean", 0},
    {"d", do_default, "default_value boolean", 0},
    {"length", do_length, "", 0},
    {"count", do_length, "", 0},
    {"indent", do_indent, "width first blank", 0},
    {"center", do_center, "width", 0},
    {"truncate", do_truncate, "length killwords end leeway", 0},
    {"wordcount", do_wordcount, "", 0},
    {"urlencode", do_urlencode, "", 0},
    {"int", do_int, "default base", 0},
    {"float", do_float, "default", 0},
    {"abs", do_abs, "", 0},
    {"round", do_round, "precision method", 0},
    {"format", do_format, NULL, 0},
    {"tojson", do_tojson, "ensure_ascii indent separators sort_keys", 0},
    {"filesizeformat", NULL, "", 0},
    {"pprint", NULL, "", 0},
    {"random", NULL, "", 0},
    {"striptags", NULL, "", 0},
    {"urlize", NULL, "", 0},
    {"wordwrap", NULL, "", 0},
    {"xmlattr", NULL, "", 0},
    {NULL, NULL, NULL, 0},
};

const struct fm__jbuiltin *fm__j_find_filter(const char *name, size_t n)
{
    const struct fm__jbuiltin *filter = fm__j_find_builtin(fm__j_filters, name, n);
    return filter ? filter : fm__j_find_builtin(fm__j_filters_seq, name, n);
}

fm_status fm__j_apply_filter(struct fm__jrun *run, const struct fm__jstr *name, struct fm__jv self,
                             const struct fm__jcall *call, struct fm__jv *out)
{
    const struct fm__jbuiltin *filter = fm__j_find_filter(name->p, name->n);
    if (!filter)
        return fm__j_fail(run, FM_E_FORMAT, "no filter named '%.*s'", (int)(name->n < 60 ? name->n : 60), name->p);
    return fm__j_call_builtin(run, filter, "filter", self, call, out);
}
