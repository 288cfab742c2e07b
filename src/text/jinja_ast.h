// SPDX-License-Identifier: MIT
// The parsed form of a template: tokens (die with the parse) and nodes (live as long as the template, in its arena,
// never written after the parse so that threads may share them).
#ifndef FM_TEXT_JINJA_AST_H
#define FM_TEXT_JINJA_AST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "fathom/status.h"

// Bounds of the parse. Depth counts nested brackets, filters' arguments and blocks alike, each a few C frames.
enum { FM__J_MAX_SOURCE = 1 << 18, FM__J_MAX_PARSE_DEPTH = 150, FM__J_MAX_NAMED = 255 };

// Bytes that never change; `chars` is the number of code points, which is what Python counts. `markup`: what `safe` and
// `escape` make of a text; joined to a plain one it escapes that, even with autoescape off (templates do depend on it).
struct fm__jstr {
    const char *p;
    size_t n, chars;
    bool markup;
};

enum fm__jtoken_kind {
    J_T_EOF,
    J_T_DATA,
    J_T_VAR_BEGIN,
    J_T_VAR_END,
    J_T_BLOCK_BEGIN,
    J_T_BLOCK_END,
    J_T_NAME,
    J_T_STRING, // unescaped, in the arena
    J_T_INT,
    J_T_FLOAT,
    J_T_OP, // op holds its one or two characters
};

#define FM__J_OP1(a) (a)
#define FM__J_OP2(a, b) ((a) | (b) << 8)

struct fm__jtoken {
    enum fm__jtoken_kind kind;
    int op;
    int line;
    const char *p;
    size_t n;
    int64_t i;
    double f;
};

struct fm__jtokens {
    struct fm__jtoken *v; // fm__free
    size_t n, cap;
};

// `source` must be normalised (newlines are \n) and outlive the tokens. On failure the tokens are freed.
fm_status fm__jinja_lex(const char *source, size_t n, struct fm__arena *arena, struct fm__jtokens *out,
                        struct fm_error *err);

enum fm__jnode_kind {
    // expressions
    J_N_NONE,
    J_N_BOOL,   // i
    J_N_INT,    // i
    J_N_FLOAT,  // f
    J_N_STR,    // str
    J_N_NAME,   // str
    J_N_LIST,   // list
    J_N_TUPLE,  // list
    J_N_DICT,   // list: key, value, key, value …
    J_N_ATTR,   // a.str
    J_N_ITEM,   // a[b]
    J_N_SLICE,  // a[b:c:d]
    J_N_CALL,   // a(args)
    J_N_FILTER, // a|str(args); a NULL in a filter block or set block: the body
    J_N_TEST,   // a is str(args)
    J_N_NOT,
    J_N_NEG,
    J_N_POS,
    J_N_AND, // a and b
    J_N_OR,
    J_N_BINARY,  // a op b
    J_N_CONCAT,  // list joined by ~
    J_N_COMPARE, // a, then list of J_N_OPERAND
    J_N_OPERAND, // op a
    J_N_COND,    // b if a else c; c NULL: undefined
    J_N_NSREF,   // str.attr, only as a target
    // statements
    J_N_DATA,         // str
    J_N_OUTPUT,       // list
    J_N_IF,           // list of J_N_BRANCH (a NULL: else)
    J_N_BRANCH,       // a, body
    J_N_FOR,          // a target, b iterable, c filter; body, orelse; flag: recursive
    J_N_SET,          // a target, b value
    J_N_SET_BLOCK,    // a target, b filter chain or NULL, body
    J_N_MACRO,        // str, args (names and defaults), body; flags J_USES_*
    J_N_CALL_BLOCK,   // a call, c J_N_MACRO of its body
    J_N_FILTER_BLOCK, // b filter chain, body
    J_N_WITH,         // list: target, value, target, value …; body
    J_N_SCOPE,        // body in a scope of its own (the generation tag)
    J_N_BREAK,
    J_N_CONTINUE,
};

enum { J_USES_CALLER = 1, J_USES_KWARGS = 2, J_USES_VARARGS = 4, J_RECURSIVE = 8 };

struct fm__jnode;

struct fm__jnodes {
    struct fm__jnode **v;
    int n;
};

// Arguments of a call; of a macro: kw_names and kw are the parameters and their defaults (NULL: none).
struct fm__jarguments {
    struct fm__jnodes positional;
    struct fm__jstr *kw_names;
    struct fm__jnode **kw;
    int n_kw;
    struct fm__jnode *star, *star_star;
};

struct fm__jnode {
    enum fm__jnode_kind kind;
    int op, flags, line;
    struct fm__jnode *a, *b, *c, *d;
    struct fm__jnodes list, body, orelse;
    struct fm__jarguments *args;
    struct fm__jstr str, attr;
    int64_t i;
    double f;
};

// Parses a whole template; *root is a J_N_SCOPE.
fm_status fm__jinja_parse(const char *source, size_t n, struct fm__arena *arena, struct fm__jnode **root,
                          struct fm_error *err);

#endif
