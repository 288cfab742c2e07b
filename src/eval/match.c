// SPDX-License-Identifier: MIT
// Comparing answers.
#include "eval/match.h"

#include <ctype.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct fm__text trim(const struct fm__text *text)
{
    struct fm__text t = *text;
    while (t.n && is_space(t.p[t.n - 1])) t.n--;
    while (t.n && is_space(*t.p)) t.p++, t.n--;
    return t;
}

static bool same(const char *a, const char *b, size_t n, bool ignore_case)
{
    for (size_t i = 0; i < n; i++) {
        bool upper_a = a[i] >= 'A' && a[i] <= 'Z', upper_b = b[i] >= 'A' && b[i] <= 'Z';
        char x = ignore_case && upper_a ? (char)(a[i] + 32) : a[i],
             y = ignore_case && upper_b ? (char)(b[i] + 32) : b[i];
        if (x != y) return false;
    }
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// The last number as text without commas, zeros that say nothing and plus: "-1234.5". Empty: there is none, or it is
// longer than the room.
static void last_number(const struct fm__text *text, char out[64])
{
    size_t end = text->n, n = 0;
    out[0] = 0;
    while (end && !is_digit(text->p[end - 1])) end--;
    size_t begin = end;
    bool point = false;
    while (begin) {
        char c = text->p[begin - 1];
        bool inside = begin < end && is_digit(text->p[begin]); // a sign before the digits that c would lead
        if (!is_digit(c) &&
            !(inside && (c == ',' || (c == '.' && !point)) && begin > 1 && is_digit(text->p[begin - 2])))
            break;
        point |= c == '.';
        begin--;
    }
    if (begin == end || end - begin > 60) return;
    bool minus = begin && text->p[begin - 1] == '-' && !(begin > 1 && isalnum((unsigned char)text->p[begin - 2]));
    char digits[64];
    for (size_t i = begin; i < end; i++)
        if (text->p[i] != ',') digits[n++] = text->p[i];
    digits[n] = 0;
    char *fraction = memchr(digits, '.', n);
    while (fraction && n && (digits[n - 1] == '0' || digits[n - 1] == '.')) {
        bool at_point = digits[n - 1] == '.';
        digits[--n] = 0;
        if (at_point) break;
    }
    size_t zeros = 0;
    while (zeros + 1 < n && digits[zeros] == '0' && is_digit(digits[zeros + 1])) zeros++;
    bool zero = n - zeros == 1 && digits[zeros] == '0';
    out[0] = '-';
    memcpy(out + (minus && !zero), digits + zeros, n - zeros + 1);
}

bool fm__match(enum fm__match how, bool ignore_case, const struct fm__text *answer, const struct fm__text *gold)
{
    struct fm__text a = trim(answer), g = trim(gold);
    if (how == FM__MATCH_NUMBER) {
        char x[64], y[64];
        last_number(&a, x);
        last_number(&g, y);
        return x[0] && strcmp(x, y) == 0;
    }
    if (how == FM__MATCH_EXACT) return a.n == g.n && same(a.p, g.p, g.n, ignore_case);
    size_t last = how == FM__MATCH_CONTAINS && a.n >= g.n ? a.n - g.n : 0;
    for (size_t at = 0; at <= last && at + g.n <= a.n; at++)
        if (same(a.p + at, g.p, g.n, ignore_case)) return true;
    return false;
}
