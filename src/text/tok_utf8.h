// SPDX-License-Identifier: MIT
// Code points: decoding that never fails, categories and mappings of Unicode. Categories are utf8proc's (Unicode 15.0)
// with the additions of 15.1, the version that llama.cpp's table has, so that both cut the same text alike.
#ifndef FM_TEXT_TOK_UTF8_H
#define FM_TEXT_TOK_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FM__REPLACEMENT 0xFFFDu

// One bit a general category, numbered as utf8proc numbers them (Cn 0 … Co 29).
typedef uint32_t fm__category_set;
#define FM__CAT(x) (1u << (x))
enum {
    FM__CAT_L = 0x3e,       // Lu Ll Lt Lm Lo
    FM__CAT_M = 0x1c0,      // Mn Mc Me
    FM__CAT_N = 0xe00,      // Nd Nl No
    FM__CAT_P = 0x7f000,    // Pc Pd Ps Pe Pi Pf Po
    FM__CAT_S = 0x780000,   // Sm Sc Sk So
    FM__CAT_Z = 0x3800000,  // Zs Zl Zp
    FM__CAT_C = 0x3c000000, // Cc Cf Cs Co; unassigned (Cn) is not among them
};

int fm__cp_category(uint32_t cp);   // 0 … 29; Cn (0) beyond U+10FFFF
bool fm__cp_is_space(uint32_t cp);  // property White_Space
uint32_t fm__cp_lower(uint32_t cp); // simple lower case
uint32_t fm__cp_base(uint32_t cp);  // first code point of the canonical decomposition ("é" → "e")

// Length that the first byte of a sequence announces; 1 for a continuation byte.
static inline size_t fm__utf8_announced(unsigned char lead)
{
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

// Decodes the code point at p (n > 0 bytes left); returns its length. Lenient as llama.cpp is: overlong forms and
// surrogates decode; what is no sequence at all, or beyond U+10FFFF, gives U+FFFD and length 1, and *ok false.
size_t fm__utf8_decode(const char *p, size_t n, uint32_t *cp, bool *ok);
// As above, but overlong forms and surrogates are wrong too (the standard's UTF-8, which sentencepiece wants).
size_t fm__utf8_decode_strict(const char *p, size_t n, uint32_t *cp, bool *ok);
size_t fm__utf8_encode(uint32_t cp, char out[4]); // cp at most U+10FFFF

// True if every sequence decodes leniently and re-encodes to the same bytes.
bool fm__utf8_is_canonical(const char *p, size_t n);
// Re-encodes p leniently into out, which has room for 3 n bytes; returns the length.
size_t fm__utf8_canonical(const char *p, size_t n, char *out);
bool fm__is_ascii(const char *p, size_t n);

#endif
