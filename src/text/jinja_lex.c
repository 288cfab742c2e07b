// SPDX-License-Identifier: MIT
// Template text to tokens, as jinja2's lexer does with trim_blocks and lstrip_blocks on: text between tags loses
// whitespace where a tag says so (`-`), before a block tag that stands first on its line, and the one newline after a
// block tag. Everything is cut here, so that the parser sees final text.
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "text/jinja_ast.h"
#include "text/jinja_unicode.h"

struct lexer {
    const char *p;
    size_t n, at;
    int line;
    bool at_line_start; // the text before `at` ended a line
    struct fm__arena *arena;
    struct fm__jtokens *out;
    struct fm_error *err;
};

static fm_status fail_at(struct lexer *x, int line, const char *what)
{
    return fm__fail(x->err, FM_E_FORMAT, "template line %d: %s", line, what);
}

static fm_status push(struct lexer *x, struct fm__jtoken token)
{
    struct fm__jtokens *t = x->out;
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64, bytes;
        if (!fm__mul_size(cap, sizeof *t->v, &bytes)) return fm__fail_nomem(x->err, "template tokens", SIZE_MAX);
        struct fm__jtoken *v = fm__realloc(t->v, bytes);
        if (!v) return fm__fail_nomem(x->err, "template tokens", bytes);
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = token;
    return FM_OK;
}

static bool starts(const struct lexer *x, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at <= x->n && x->n - at >= n && !memcmp(x->p + at, text, n);
}

// Bytes of the whitespace character at `at`; 0: none there.
static size_t space_at(const struct lexer *x, size_t at)
{
    if (at >= x->n) return 0;
    int len;
    int32_t code = fm__utf8_get(x->p + at, x->n - at, &len);
    return fm__uni_is_space(code) ? (size_t)len : 0;
}

static size_t skip_space(const struct lexer *x, size_t at)
{
    for (size_t len; (len = space_at(x, at)) > 0;) at += len;
    return at;
}

// Moves to `to`, counting lines.
static void advance(struct lexer *x, size_t to)
{
    for (size_t i = x->at; i < to; i++) x->line += x->p[i] == '\n';
    x->at_line_start = to > 0 && x->p[to - 1] == '\n';
    x->at = to;
}

// End of [begin, end) without the whitespace at its end.
static size_t rstrip(const struct lexer *x, size_t begin, size_t end)
{
    while (end > begin) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)x->p[last] & 0xc0) == 0x80) last--;
        if (!space_at(x, last)) break;
        end = last;
    }
    return end;
}

// Text before a tag that begins at `end`; sign is the character after the opening brace pair.
static fm_status push_data(struct lexer *x, size_t end, char sign, bool is_variable)
{
    size_t begin = x->at, stop = end;
    if (sign == '-') {
        stop = rstrip(x, begin, end);
    } else if (sign != '+' && !is_variable) {
        size_t line = end;
        while (line > begin && x->p[line - 1] != '\n') line--;
        bool starts_line = line > begin || x->at_line_start || begin == 0;
        if (starts_line && rstrip(x, line, end) == line) stop = line;
    }
    struct fm__jtoken token = {.kind = J_T_DATA, .line = x->line, .p = x->p + begin, .n = stop - begin};
    return token.n ? push(x, token) : FM_OK;
}

// Where a closing tag that starts at `at` with `end` ("%}") leaves off: `-` eats all whitespace, a plain block or
// comment end one newline.
static size_t after_end(const struct lexer *x, size_t at, const char *end, char sign, bool eats_newline)
{
    at += strlen(end);
    if (sign == '-') return skip_space(x, at);
    if (sign != '+' && eats_newline && at < x->n && x->p[at] == '\n') at++;
    return at;
}

static fm_status lex_comment(struct lexer *x)
{
    int line = x->line;
    size_t at = x->at + 2;
    // the sign of the opening brace belongs to the tag, the one of the end too
    if (at < x->n && (x->p[at] == '-' || x->p[at] == '+')) at++;
    for (; at < x->n; at++) {
        char sign = 0;
        size_t end = at;
        if ((x->p[at] == '-' || x->p[at] == '+') && starts(x, at + 1, "#}")) sign = x->p[at], end = at + 1;
        if (!starts(x, end, "#}")) continue;
        advance(x, after_end(x, end, "#}", sign, true));
        return FM_OK;
    }
    return fail_at(x, line, "missing end of comment \"#}\"");
}

// If a {% raw %} tag starts here: its end in *end.
static bool raw_tag(const struct lexer *x, size_t at, size_t *end)
{
    at += 2;
    if (at < x->n && (x->p[at] == '-' || x->p[at] == '+')) at++;
    at = skip_space(x, at);
    if (!starts(x, at, "raw")) return false;
    at = skip_space(x, at + 3);
    if (starts(x, at, "-%}")) {
        *end = skip_space(x, at + 3);
        return true;
    }
    if (!starts(x, at, "%}")) return false;
    *end = at + 2;
    return true;
}

static fm_status lex_raw(struct lexer *x, size_t body)
{
    int line = x->line;
    advance(x, body);
    for (size_t at = body; at < x->n; at++) {
        if (!starts(x, at, "{%")) continue;
        size_t i = at + 2;
        char sign = i < x->n && (x->p[i] == '-' || x->p[i] == '+') ? x->p[i++] : 0;
        i = skip_space(x, i);
        if (!starts(x, i, "endraw")) continue;
        i = skip_space(x, i + 6);
        char end_sign = i < x->n && (x->p[i] == '-' || x->p[i] == '+') ? x->p[i++] : 0;
        if (!starts(x, i, "%}")) continue;
        FM_TRY(push_data(x, at, sign, false));
        advance(x, after_end(x, i, "%}", end_sign, true));
        return FM_OK;
    }
    return fail_at(x, line, "missing end of raw block \"{% endraw %}\"");
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Runs of digits with single underscores between; the end of the run.
static size_t digits(const struct lexer *x, size_t at)
{
    while (at < x->n && (is_digit(x->p[at]) || (x->p[at] == '_' && at + 1 < x->n && is_digit(x->p[at + 1])))) at++;
    return at;
}

static int digit_of(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 99;
}

static fm_status lex_integer(struct lexer *x, size_t begin, size_t end, int base)
{
    int64_t value = 0;
    for (size_t i = begin; i < end; i++) {
        if (x->p[i] == '_') continue;
        if (__builtin_mul_overflow(value, (int64_t)base, &value) ||
            __builtin_add_overflow(value, (int64_t)digit_of(x->p[i]), &value))
            return fm__fail(x->err, FM_E_LIMIT, "template line %d: integer larger than 64 bits", x->line);
    }
    struct fm__jtoken token = {.kind = J_T_INT, .line = x->line, .p = x->p + x->at, .n = end - x->at, .i = value};
    advance(x, end);
    return push(x, token);
}

// strtod on a copy with the locale's decimal point and without underscores.
static double parse_double(const char *p, size_t n)
{
    char text[400];
    size_t k = 0;
    const char *point = localeconv()->decimal_point;
    for (size_t i = 0; i < n && k < sizeof text - 16; i++) {
        if (p[i] == '_') continue;
        if (p[i] == '.')
            for (const char *d = point; *d && k < sizeof text - 8; d++) text[k++] = *d;
        else
            text[k++] = p[i];
    }
    text[k] = 0;
    return strtod(text, NULL);
}

static fm_status lex_number(struct lexer *x)
{
    size_t begin = x->at;
    if (x->p[begin] == '0' && begin + 2 < x->n && strchr("bBoOxX", x->p[begin + 1])) {
        int base = (x->p[begin + 1] | 32) == 'b' ? 2 : (x->p[begin + 1] | 32) == 'o' ? 8 : 16;
        size_t end = begin + 2;
        while (end < x->n &&
               (digit_of(x->p[end]) < base || (x->p[end] == '_' && end + 1 < x->n && digit_of(x->p[end + 1]) < base)))
            end++;
        if (end > begin + 2) return lex_integer(x, begin + 2, end, base);
    }
    size_t end = digits(x, begin), whole = end;
    bool after_dot = begin > 0 && x->p[begin - 1] == '.'; // x.0.1 is two subscripts
    if (!after_dot && end + 1 < x->n && x->p[end] == '.' && is_digit(x->p[end + 1])) end = digits(x, end + 1);
    if (!after_dot && end < x->n && (x->p[end] | 32) == 'e') {
        size_t e = end + 1;
        if (e < x->n && (x->p[e] == '+' || x->p[e] == '-')) e++;
        if (e < x->n && is_digit(x->p[e])) end = digits(x, e);
    }
    if (end > whole) {
        struct fm__jtoken token = {.kind = J_T_FLOAT, .line = x->line, .p = x->p + begin, .n = end - begin};
        token.f = parse_double(token.p, token.n);
        advance(x, end);
        return push(x, token);
    }
    if (x->p[begin] == '0') { // 0_0 is zero, 012 is 0 and 12: jinja2 refuses that later
        end = begin + 1;
        while (end < x->n && (x->p[end] == '0' || (x->p[end] == '_' && end + 1 < x->n && x->p[end + 1] == '0'))) end++;
    }
    return lex_integer(x, begin, end, 10);
}

// One escape of a string literal; *i stands after the backslash and moves behind it. Bytes written to `to`, −1: error.
static int unescape(const struct lexer *x, size_t *i, size_t end, char *to)
{
    static const char simple[] = "a\ab\bf\fn\nr\rt\tv\v\\\\'\'\"\"";
    char c = x->p[(*i)++];
    for (const char *s = simple; *s; s += 2) {
        if (s[0] == c) return *to = s[1], 1;
    }
    if (c == '\n') return 0;
    int32_t code = 0;
    if (c >= '0' && c <= '7') {
        code = c - '0';
        for (int k = 0; k < 2 && *i < end && x->p[*i] >= '0' && x->p[*i] <= '7'; k++)
            code = code * 8 + x->p[(*i)++] - '0';
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int want = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        for (int k = 0; k < want; k++) {
            int d = *i < end ? digit_of(x->p[*i]) : 99;
            if (d > 15 || code > 0x10ffff) return -1;
            code = code * 16 + d;
            (*i)++;
        }
    } else {
        to[0] = '\\', to[1] = c;
        return 2;
    }
    int len = fm__utf8_put(code, to);
    return len ? len : -1;
}

static fm_status lex_string(struct lexer *x)
{
    char quote = x->p[x->at];
    size_t end = x->at + 1;
    while (end < x->n && x->p[end] != quote) end += x->p[end] == '\\' ? 2 : 1;
    if (end >= x->n) return fail_at(x, x->line, "string without an end");
    size_t room = end - x->at + 4; // an escape is never shorter than what it stands for
    char *text = fm__arena_alloc(x->arena, room);
    if (!text) return fm__fail_nomem(x->err, "template string", room);
    size_t n = 0;
    for (size_t i = x->at + 1; i < end;) {
        if (x->p[i] != '\\') {
            text[n++] = x->p[i++];
            continue;
        }
        i++;
        int len = unescape(x, &i, end, text + n);
        if (len < 0) return fail_at(x, x->line, "invalid \\x, \\u or \\U escape in a string");
        n += (size_t)len;
    }
    struct fm__jtoken token = {.kind = J_T_STRING, .line = x->line, .p = text, .n = n};
    advance(x, end + 1);
    return push(x, token);
}

static fm_status lex_operator(struct lexer *x, char *stack, int *depth)
{
    static const char pairs[][3] = {"//", "**", "==", "!=", ">=", "<="};
    char c = x->p[x->at];
    struct fm__jtoken token = {.kind = J_T_OP, .line = x->line, .p = x->p + x->at, .n = 1, .op = c};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (starts(x, x->at, pairs[i])) token.op = FM__J_OP2(pairs[i][0], pairs[i][1]), token.n = 2;
    }
    if (token.n == 1 && !strchr("+-/*%~[](){}><=.:|,;", c)) {
        int len;
        int32_t code = fm__utf8_get(x->p + x->at, x->n - x->at, &len);
        return fm__fail(x->err, FM_E_FORMAT, "template line %d: unexpected character U+%04X in a tag", x->line,
                        (unsigned)code);
    }
    if (strchr("([{", c)) {
        if (*depth >= FM__J_MAX_PARSE_DEPTH)
            return fm__fail(x->err, FM_E_LIMIT, "template line %d: more than %d nested brackets", x->line, *depth);
        stack[(*depth)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr(")]}", c)) {
        if (*depth == 0 || stack[*depth - 1] != c) return fail_at(x, x->line, "bracket closed that was not opened");
        (*depth)--;
    }
    advance(x, x->at + token.n);
    return push(x, token);
}

// The inside of {{ … }} or {% … %}: `end` is "}}" or "%}".
static fm_status lex_tag(struct lexer *x, const char *end)
{
    bool is_block = end[0] == '%';
    char stack[FM__J_MAX_PARSE_DEPTH];
    int depth = 0, line = x->line;
    while (x->at < x->n) {
        char c = x->p[x->at], sign = 0;
        if (c == '-' || (c == '+' && is_block)) sign = c;
        if (depth == 0 && starts(x, x->at + (sign != 0), end)) {
            struct fm__jtoken token = {.kind = is_block ? J_T_BLOCK_END : J_T_VAR_END, .line = x->line};
            advance(x, after_end(x, x->at + (sign != 0), end, sign, is_block));
            return push(x, token);
        }
        size_t space = space_at(x, x->at);
        if (space) {
            advance(x, x->at + space);
        } else if (is_digit(c)) {
            FM_TRY(lex_number(x));
        } else if (is_name_start(c)) {
            size_t to = x->at + 1;
            while (to < x->n && (is_name_start(x->p[to]) || is_digit(x->p[to])) && !space_at(x, to)) to++;
            struct fm__jtoken token = {.kind = J_T_NAME, .line = x->line, .p = x->p + x->at, .n = to - x->at};
            advance(x, to);
            FM_TRY(push(x, token));
        } else if (c == '\'' || c == '"') {
            FM_TRY(lex_string(x));
        } else {
            FM_TRY(lex_operator(x, stack, &depth));
        }
    }
    return fm__fail(x->err, FM_E_FORMAT, "template line %d: tag without its end \"%s\"", line, end);
}

static fm_status lex_all(struct lexer *x)
{
    for (;;) {
        size_t tag = x->at;
        while (tag < x->n && !(x->p[tag] == '{' && tag + 1 < x->n && strchr("{%#", x->p[tag + 1]) && x->p[tag + 1]))
            tag++;
        if (tag >= x->n) break;
        char kind = x->p[tag + 1], sign = tag + 2 < x->n ? x->p[tag + 2] : 0;
        FM_TRY(push_data(x, tag, sign, kind == '{'));
        advance(x, tag);
        size_t raw;
        if (kind == '#') {
            FM_TRY(lex_comment(x));
        } else if (kind == '%' && raw_tag(x, tag, &raw)) {
            FM_TRY(lex_raw(x, raw));
        } else {
            struct fm__jtoken token = {.kind = kind == '{' ? J_T_VAR_BEGIN : J_T_BLOCK_BEGIN, .line = x->line};
            FM_TRY(push(x, token));
            advance(x, tag + 2 + (sign == '-' || sign == '+'));
            FM_TRY(lex_tag(x, kind == '{' ? "}}" : "%}"));
        }
    }
    if (x->at < x->n) {
        struct fm__jtoken token = {.kind = J_T_DATA, .line = x->line, .p = x->p + x->at, .n = x->n - x->at};
        FM_TRY(push(x, token));
    }
    return push(x, (struct fm__jtoken){.kind = J_T_EOF, .line = x->line});
}

fm_status fm__jinja_lex(const char *source, size_t n, struct fm__arena *arena, struct fm__jtokens *out,
                        struct fm_error *err)
{
    struct lexer x = {.p = source, .n = n, .line = 1, .at_line_start = true, .arena = arena, .out = out, .err = err};
    *out = (struct fm__jtokens){0};
    fm_status status = lex_all(&x);
    if (status != FM_OK) {
        fm__free(out->v);
        *out = (struct fm__jtokens){0};
    }
    return status;
}
