// SPDX-License-Identifier: MIT
// UTF-8 and the character classes of Python's str, over bytes already known to be valid UTF-8.
#ifndef FM_TEXT_JINJA_UNICODE_H
#define FM_TEXT_JINJA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Position of the first byte that is not UTF-8 (surrogates and overlong forms are not); n when all is well.
size_t fm__utf8_bad_at(const char *p, size_t n);
size_t fm__utf8_chars(const char *p, size_t n);
// Bytes of the character at p (1 to 4).
int fm__utf8_len(const char *p);
// Byte offset of character `i` (at most `n` bytes).
size_t fm__utf8_offset(const char *p, size_t n, size_t i);
int32_t fm__utf8_get(const char *p, size_t n, int *len); // the code point at p and its bytes
int fm__utf8_put(int32_t code, char out[4]);             // bytes written; 0 for a surrogate or beyond U+10FFFF

bool fm__uni_is_space(int32_t code);     // str.isspace
bool fm__uni_is_printable(int32_t code); // str.isprintable: what repr leaves alone
bool fm__uni_is_alpha(int32_t code);
bool fm__uni_is_digit(int32_t code); // decimal digits
bool fm__uni_is_upper(int32_t code); // has case, upper or title
bool fm__uni_is_lower(int32_t code);
// Case mappings of one character: up to 3 code points, returns how many.
int fm__uni_upper(int32_t code, int32_t out[3]);
int fm__uni_lower(int32_t code, int32_t out[3]);
int fm__uni_title(int32_t code, int32_t out[3]);

#endif
