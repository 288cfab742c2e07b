// SPDX-License-Identifier: MIT
// UTF-8 walking and character classes through utf8proc. Case mapping is one to one but for the letters of
// special_upper: Python maps some hundred rare ones to several letters; those that occur in running text are here.
#include "text/jinja_unicode.h"

#include <utf8proc.h>

size_t fm__utf8_bad_at(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if ((unsigned char)p[i] < 0x80) {
            i++;
            continue;
        }
        utf8proc_int32_t code;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)p + i, (utf8proc_ssize_t)(n - i), &code);
        if (len <= 0) return i;
        i += (size_t)len;
    }
    return n;
}

size_t fm__utf8_chars(const char *p, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)p[i] & 0xc0) != 0x80;
    return chars;
}

int fm__utf8_len(const char *p)
{
    unsigned char c = (unsigned char)*p;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

size_t fm__utf8_offset(const char *p, size_t n, size_t i)
{
    size_t at = 0;
    while (i-- > 0 && at < n) at += (size_t)fm__utf8_len(p + at);
    return at < n ? at : n;
}

int32_t fm__utf8_get(const char *p, size_t n, int *len)
{
    utf8proc_int32_t code;
    utf8proc_ssize_t got = utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &code);
    *len = got > 0 ? (int)got : 1;
    return got > 0 ? code : 0xfffd;
}

int fm__utf8_put(int32_t code, char out[4])
{
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
    return (int)utf8proc_encode_char(code, (utf8proc_uint8_t *)out);
}

bool fm__uni_is_space(int32_t code)
{
    if (code < 0x80) return (code >= 9 && code <= 13) || (code >= 28 && code <= 32);
    return code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool fm__uni_is_printable(int32_t code)
{
    if (code < 0x7f) return code >= 32;
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

bool fm__uni_is_alpha(int32_t code)
{
    utf8proc_category_t c = utf8proc_category(code);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_LO;
}

bool fm__uni_is_digit(int32_t code)
{
    return utf8proc_category(code) == UTF8PROC_CATEGORY_ND;
}

bool fm__uni_is_upper(int32_t code)
{
    utf8proc_category_t c = utf8proc_category(code);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LT;
}

bool fm__uni_is_lower(int32_t code)
{
    return utf8proc_category(code) == UTF8PROC_CATEGORY_LL;
}

// Full upper-case forms of common letters whose simple mapping is themselves (Unicode SpecialCasing.txt).
static const int32_t special_upper[][4] = {
    {0xdf, 'S', 'S', 0},          {0x149, 0x2bc, 'N', 0}, {0x1f0, 'J', 0x30c, 0},   {0xfb00, 'F', 'F', 0},
    {0xfb01, 'F', 'I', 0},        {0xfb02, 'F', 'L', 0},  {0xfb03, 'F', 'F', 'I'},  {0xfb04, 'F', 'F', 'L'},
    {0xfb05, 'S', 'T', 0},        {0xfb06, 'S', 'T', 0},  {0x587, 0x535, 0x552, 0}, {0x390, 0x399, 0x308, 0x301},
    {0x3b0, 0x3a5, 0x308, 0x301},
};

int fm__uni_upper(int32_t code, int32_t out[3])
{
    for (size_t i = 0; code >= 0xdf && i < sizeof special_upper / sizeof special_upper[0]; i++) {
        if (special_upper[i][0] != code) continue;
        int n = 0;
        while (n < 3 && special_upper[i][n + 1]) {
            out[n] = special_upper[i][n + 1];
            n++;
        }
        return n;
    }
    out[0] = utf8proc_toupper(code);
    return 1;
}

int fm__uni_lower(int32_t code, int32_t out[3])
{
    if (code == 0x130) { // capital I with dot: the dot stays
        out[0] = 'i', out[1] = 0x307;
        return 2;
    }
    out[0] = utf8proc_tolower(code);
    return 1;
}

int fm__uni_title(int32_t code, int32_t out[3])
{
    int n = fm__uni_upper(code, out);
    if (n == 1) {
        out[0] = utf8proc_totitle(code);
        return 1;
    }
    int32_t lower[3];
    for (int i = 1; i < n; i++) {
        fm__uni_lower(out[i], lower);
        out[i] = lower[0];
    }
    return n;
}
