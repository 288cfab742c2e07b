// SPDX-License-Identifier: MIT
// UTF-8 both ways, and what Unicode knows of a code point.
#include "text/tok_utf8.h"

#include <string.h>
#include <utf8proc.h>

int fm__cp_category(uint32_t cp)
{
    if (cp > 0x10ffff) return UTF8PROC_CATEGORY_CN;
    int category = (int)utf8proc_category((utf8proc_int32_t)cp);
    if (category != UTF8PROC_CATEGORY_CN) return category;
    // what Unicode 15.1 added: CJK extension I, ideographic description characters
    if (cp >= 0x2ebf0 && cp <= 0x2ee5d) return UTF8PROC_CATEGORY_LO;
    if ((cp >= 0x2ffc && cp <= 0x2fff) || cp == 0x31ef) return UTF8PROC_CATEGORY_SO;
    return category;
}

bool fm__cp_is_space(uint32_t cp)
{
    if (cp <= 0x20) return cp == 0x20 || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

uint32_t fm__cp_lower(uint32_t cp)
{
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    return cp > 0x10ffff ? cp : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

uint32_t fm__cp_base(uint32_t cp)
{
    if (cp < 0x80 || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) return cp;
    utf8proc_int32_t parts[32]; // the longest canonical decomposition has 4
    int last = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
    return n > 0 ? (uint32_t)parts[0] : cp;
}

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

size_t fm__utf8_decode(const char *p, size_t n, uint32_t *cp, bool *ok)
{
    unsigned char lead = (unsigned char)p[0];
    *ok = true;
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    size_t want = lead < 0xc0 || lead >= 0xf8 ? 0 : fm__utf8_announced(lead);
    bool whole = want && want <= n;
    for (size_t i = 1; whole && i < want; i++) whole = is_continuation(p[i]);
    if (whole) {
        uint32_t value = lead & (0x7fu >> want);
        for (size_t i = 1; i < want; i++) value = value << 6 | ((unsigned char)p[i] & 0x3f);
        if (value <= 0x10ffff) {
            *cp = value;
            return want;
        }
    }
    *ok = false;
    *cp = FM__REPLACEMENT;
    return 1;
}

size_t fm__utf8_decode_strict(const char *p, size_t n, uint32_t *cp, bool *ok)
{
    size_t used = fm__utf8_decode(p, n, cp, ok);
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (*ok && *cp >= smallest[used] && !(*cp >= 0xd800 && *cp <= 0xdfff)) return used;
    *ok = false;
    *cp = FM__REPLACEMENT;
    return 1;
}

size_t fm__utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((0xf00u >> n & 0xff) | cp);
    return n;
}

bool fm__is_ascii(const char *p, size_t n)
{
    uint64_t bits = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        bits |= word;
    }
    for (; i < n; i++) bits |= (unsigned char)p[i];
    return !(bits & 0x8080808080808080u);
}

bool fm__utf8_is_canonical(const char *p, size_t n)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok;
        size_t used = fm__utf8_decode(p + i, n - i, &cp, &ok);
        if (!ok || cp < smallest[used]) return false;
        i += used;
    }
    return true;
}

size_t fm__utf8_canonical(const char *p, size_t n, char *out)
{
    size_t written = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        bool ok;
        i += fm__utf8_decode(p + i, n - i, &cp, &ok);
        written += fm__utf8_encode(cp, out + written);
    }
    return written;
}
