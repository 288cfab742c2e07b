// SPDX-License-Identifier: MIT
// Rewrites regular expressions over Unicode into expressions over bytes, where a byte ≥ 128 stands for all code points
// that no character class of the expressions tells apart (why: tok_pre.h).
//
// Understood: what PCRE2 understands of ASCII, with \p{L} \p{Lu} … (general categories), \s and \S (White_Space) inside
// and outside of classes, and any characters and ranges in classes. Not: \P, \d, \w, '.', nested classes.
#ifndef FM_TEXT_TOK_CLASSES_H
#define FM_TEXT_TOK_CLASSES_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"
#include "text/tok_utf8.h"

#define FM__CLASSES_MAX 64 // character classes of all patterns of one tokenizer together; the largest has 30

struct fm__class {
    fm__category_set categories;
    uint32_t first_range, n_ranges; // in fm__classes.ranges, ascending and disjoint
    bool negated, space, not_space; // space: \s is in it; not_space: \S is
};

struct fm__classes {
    struct fm__class list[FM__CLASSES_MAX];
    int n;
    struct fm__class_range {
        uint32_t low, high;
    } * ranges;
    size_t n_ranges, cap_ranges;
    uint64_t members[256]; // bit i: this symbol is in class i
    int n_symbols;         // 128 + the symbols beyond ASCII
    uint16_t page_of[0x1100];
    unsigned char (*pages)[256]; // symbol of code point c: pages[page_of[c >> 8]][c & 255]
    size_t n_pages, cap_pages;
};

// Reads the classes of a pattern (UTF-8, zero-terminated), in the order in which rewriting will meet them.
fm_status fm__classes_read(struct fm__classes *c, const char *pattern, struct fm_error *err);
// Once all patterns are read: symbols and pages.
fm_status fm__classes_build(struct fm__classes *c, struct fm_error *err);
// The pattern over symbols. *i_class: the first class of this pattern; afterwards the first of the next. *out is the
// caller's (fm__free).
fm_status fm__classes_rewrite(const struct fm__classes *c, const char *pattern, int *i_class, char **out,
                              struct fm_error *err);
void fm__classes_deinit(struct fm__classes *c);

static inline unsigned char fm__classes_symbol(const struct fm__classes *c, uint32_t cp)
{
    return c->pages[c->page_of[cp >> 8]][cp & 255];
}

#endif
