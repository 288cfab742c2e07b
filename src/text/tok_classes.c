// SPDX-License-Identifier: MIT
// Reading the character classes of patterns, sorting code points by them, writing patterns over bytes.
#include "text/tok_classes.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/error.h"

static const struct {
    const char *name;
    fm__category_set set;
} categories[] = {
    {"L", FM__CAT_L},
    {"M", FM__CAT_M},
    {"N", FM__CAT_N},
    {"P", FM__CAT_P},
    {"S", FM__CAT_S},
    {"Lu", FM__CAT(UTF8PROC_CATEGORY_LU)},
    {"Ll", FM__CAT(UTF8PROC_CATEGORY_LL)},
    {"Lt", FM__CAT(UTF8PROC_CATEGORY_LT)},
    {"Lm", FM__CAT(UTF8PROC_CATEGORY_LM)},
    {"Lo", FM__CAT(UTF8PROC_CATEGORY_LO)},
};

static fm_status add_range(struct fm__classes *c, struct fm__class *k, uint32_t low, uint32_t high,
                           struct fm_error *err)
{
    if (c->n_ranges == c->cap_ranges) {
        size_t cap = c->cap_ranges * 2 + 16;
        void *ranges = fm__realloc(c->ranges, cap * sizeof *c->ranges);
        if (!ranges) return fm__fail_nomem(err, "tokenizer patterns", cap * sizeof *c->ranges);
        c->ranges = ranges;
        c->cap_ranges = cap;
    }
    // insertion keeps them ascending
    size_t i = c->n_ranges++;
    for (; i > k->first_range && c->ranges[i - 1].low > low; i--) c->ranges[i] = c->ranges[i - 1];
    c->ranges[i] = (struct fm__class_range){low, high};
    k->n_ranges++;
    return FM_OK;
}

// \p{Name} at p: adds its categories, returns its length; 0 if it is none that we know.
static size_t read_property(struct fm__class *k, const char *p)
{
    const char *end = strchr(p, '}');
    if (strncmp(p, "\\p{", 3) != 0 || !end) return 0;
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++) {
        size_t n = strlen(categories[i].name);
        if ((size_t)(end - p) != n + 3 || memcmp(p + 3, categories[i].name, n) != 0) continue;
        k->categories |= categories[i].set;
        return n + 4;
    }
    return 0;
}

// One character inside a class, escaped or not; returns its length.
static size_t read_char(const char *p, uint32_t *cp)
{
    bool ok;
    if (*p != '\\') return fm__utf8_decode(p, strlen(p), cp, &ok);
    *cp = p[1] == 'r' ? '\r' : p[1] == 'n' ? '\n' : p[1] == 't' ? '\t' : (unsigned char)p[1];
    return 2;
}

// [ … ] at p; *length up to and with the bracket.
static fm_status read_brackets(struct fm__classes *c, struct fm__class *k, const char *p, size_t *length,
                               struct fm_error *err)
{
    const char *q = p + 1;
    if (*q == '^') k->negated = true, q++;
    while (*q && *q != ']') {
        if (q[0] == '\\' && (q[1] == 's' || q[1] == 'S')) {
            if (q[1] == 's') k->space = true;
            if (q[1] == 'S') k->not_space = true;
            q += 2;
            continue;
        }
        size_t used = read_property(k, q);
        if (used) {
            q += used;
            continue;
        }
        uint32_t low, high;
        q += read_char(q, &low);
        high = low;
        if (q[0] == '-' && q[1] && q[1] != ']') q += 1 + read_char(q + 1, &high);
        FM_TRY(add_range(c, k, low, high, err));
    }
    if (!*q) return fm__fail(err, FM_E_FORMAT, "tokenizer pattern \"%s\": class without its ]", p);
    *length = (size_t)(q + 1 - p);
    return FM_OK;
}

// Reads the element of a pattern at p: a class (*is_class), or text that stays as it is.
static fm_status read_element(struct fm__classes *c, struct fm__class *k, const char *p, size_t *length, bool *is_class,
                              struct fm_error *err)
{
    *k = (struct fm__class){.first_range = (uint32_t)c->n_ranges};
    *length = 0;
    *is_class = true;
    if (*p == '[') return read_brackets(c, k, p, length, err);
    *length = 2;
    if (p[0] == '\\' && p[1] == 's') return k->space = true, FM_OK;
    if (p[0] == '\\' && p[1] == 'S') return k->not_space = true, FM_OK;
    if (p[0] == '\\' && p[1] == 'p') {
        *length = read_property(k, p);
        return *length ? FM_OK : fm__fail(err, FM_E_FORMAT, "tokenizer pattern: unknown property at \"%s\"", p);
    }
    if ((unsigned char)*p >= 0x80) {
        uint32_t cp;
        *length = read_char(p, &cp);
        return add_range(c, k, cp, cp, err);
    }
    *is_class = false;
    *length = p[0] == '\\' && p[1] ? 2 : 1;
    return FM_OK;
}

fm_status fm__classes_read(struct fm__classes *c, const char *pattern, struct fm_error *err)
{
    for (const char *p = pattern; *p;) {
        struct fm__class k;
        size_t length;
        bool is_class;
        FM_TRY(read_element(c, &k, p, &length, &is_class, err));
        if (is_class && c->n == FM__CLASSES_MAX)
            return fm__fail(err, FM_E_LIMIT, "tokenizer patterns: more than %d character classes", FM__CLASSES_MAX);
        if (is_class) c->list[c->n++] = k;
        p += length;
    }
    return FM_OK;
}

// Which classes hold a code point. White space beyond ASCII is in no range: llama.cpp sees a vertical tab in its place,
// so that [ࠀ-一], say, does not hold U+2003. `cursor[i]`: the first range of class i that does not end before it; code
// points come in ascending order.
static uint64_t members_of(const struct fm__classes *c, uint32_t cp, uint32_t cursor[FM__CLASSES_MAX])
{
    fm__category_set category = FM__CAT(fm__cp_category(cp));
    bool space = fm__cp_is_space(cp);
    uint64_t members = 0;
    for (int i = 0; i < c->n; i++) {
        const struct fm__class *k = &c->list[i];
        const struct fm__class_range *ranges = k->n_ranges ? c->ranges + k->first_range : NULL;
        while (cursor[i] < k->n_ranges && ranges[cursor[i]].high < cp) cursor[i]++;
        bool in = (category & k->categories) || (space ? k->space : k->not_space) ||
                  (cursor[i] < k->n_ranges && ranges[cursor[i]].low <= cp && !(space && cp >= 0x80));
        members |= (uint64_t)(in != k->negated) << i;
    }
    return members;
}

// The symbol of a set of classes, a new one if need be; -1 when all 128 are taken.
static int symbol_of(struct fm__classes *c, uint64_t members)
{
    for (int s = 128; s < c->n_symbols; s++)
        if (c->members[s] == members) return s;
    if (c->n_symbols == 256) return -1;
    c->members[c->n_symbols] = members;
    return c->n_symbols++;
}

// Files a page, shared with an equal one.
static fm_status add_page(struct fm__classes *c, uint32_t page, const unsigned char symbols[256], struct fm_error *err)
{
    for (size_t i = c->n_pages; i-- > 0;) {
        if (memcmp(c->pages[i], symbols, 256) != 0) continue;
        c->page_of[page] = (uint16_t)i;
        return FM_OK;
    }
    if (c->n_pages == c->cap_pages) {
        size_t cap = c->cap_pages * 2 + 64;
        void *pages = fm__realloc(c->pages, cap * 256);
        if (!pages) return fm__fail_nomem(err, "tokenizer patterns", cap * 256);
        c->pages = pages;
        c->cap_pages = cap;
    }
    memcpy(c->pages[c->n_pages], symbols, 256);
    c->page_of[page] = (uint16_t)c->n_pages++;
    return FM_OK;
}

fm_status fm__classes_build(struct fm__classes *c, struct fm_error *err)
{
    uint32_t cursor[FM__CLASSES_MAX] = {0};
    c->n_symbols = 128;
    for (uint32_t page = 0; page < 0x1100; page++) {
        // planes 4 to 13 are unassigned, 15 and 16 private but for their last two code points: one page stands for all
        if ((page > 0x400 && page < 0xe00) || (page > 0xf00 && page < 0xfff) || (page > 0x1000 && page < 0x10ff)) {
            c->page_of[page] = c->page_of[page - 1];
            continue;
        }
        unsigned char symbols[256];
        uint64_t last = 0;
        int symbol = -1;
        for (uint32_t i = 0; i < 256; i++) {
            uint64_t members = members_of(c, page << 8 | i, cursor);
            if (page == 0 && i < 128) {
                symbols[i] = (unsigned char)i;
                c->members[i] = members;
                continue;
            }
            if (symbol < 0 || members != last) symbol = symbol_of(c, members);
            if (symbol < 0) return fm__fail(err, FM_E_LIMIT, "tokenizer patterns: more than 128 kinds of characters");
            last = members;
            symbols[i] = (unsigned char)symbol;
        }
        FM_TRY(add_page(c, page, symbols, err));
    }
    return FM_OK;
}

// Writes class i as a class of bytes, at most 8 bytes a run and 128 runs.
static size_t write_class(const struct fm__classes *c, int i, char *out)
{
    size_t n = 0;
    out[n++] = '[';
    for (int s = 0; s < c->n_symbols; s++) {
        if (!(c->members[s] >> i & 1)) continue;
        int last = s;
        while (last + 1 < c->n_symbols && (c->members[last + 1] >> i & 1)) last++;
        n += (size_t)sprintf(out + n, "\\x%02x-\\x%02x", (unsigned)s, (unsigned)last);
        s = last;
    }
    if (n == 1) n += (size_t)sprintf(out + n, "^\\x00-\\xff"); // nothing at all
    out[n++] = ']';
    return n;
}

fm_status fm__classes_rewrite(const struct fm__classes *c, const char *pattern, int *i_class, char **out,
                              struct fm_error *err)
{
    enum { CLASS_BYTES = 2 + 128 * 9 + 1 }; // sprintf's zero too
    size_t cap = strlen(pattern) + 1 + (size_t)c->n * CLASS_BYTES, n = 0;
    char *text = fm__malloc(cap);
    if (!text) return fm__fail_nomem(err, "tokenizer patterns", cap);
    struct fm__classes scratch = {0}; // the ranges read again, to be thrown away
    for (const char *p = pattern; *p;) {
        struct fm__class k;
        size_t length;
        bool is_class;
        fm_status status = read_element(&scratch, &k, p, &length, &is_class, err);
        if (status != FM_OK) {
            fm__free(text), fm__free(scratch.ranges);
            return status;
        }
        if (is_class) {
            n += write_class(c, (*i_class)++, text + n);
        } else {
            memcpy(text + n, p, length);
            n += length;
        }
        p += length;
    }
    text[n] = '\0';
    fm__free(scratch.ranges);
    *out = text;
    return FM_OK;
}

void fm__classes_deinit(struct fm__classes *c)
{
    fm__free(c->ranges), fm__free(c->pages);
    memset(c, 0, sizeof *c);
}
