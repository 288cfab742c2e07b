// SPDX-License-Identifier: MIT
// What the two halves of the parser share: jinja_parse.c (statements) and jinja_parse_expr.c (expressions).
#ifndef FM_TEXT_JINJA_PARSER_H
#define FM_TEXT_JINJA_PARSER_H

#include "text/jinja_ast.h"

struct fm__jparser {
    const struct fm__jtoken *t; // the current token; the array ends with J_T_EOF, which is never passed
    struct fm__arena *arena;
    struct fm_error *err;
    int depth;
    int n_loops; // open for blocks of this macro: where break may stand
    int uses;    // J_USES_* seen since the innermost macro began
};

// Children collected before their number is known.
struct fm__jpending {
    struct fm__jnode **v;
    int n, cap;
};

fm_status fm__jp_node(struct fm__jparser *p, enum fm__jnode_kind kind, struct fm__jnode **out);
fm_status fm__jp_add(struct fm__jparser *p, struct fm__jpending *list, struct fm__jnode *node);
struct fm__jnodes fm__jp_done(const struct fm__jpending *list); // the list as it is, owned by the arena
struct fm__jstr fm__jp_str(const struct fm__jtoken *t);

bool fm__jp_is_name(const struct fm__jtoken *t, const char *name);
bool fm__jp_is_op(const struct fm__jtoken *t, int op);
bool fm__jp_skip_name(struct fm__jparser *p, const char *name);
bool fm__jp_skip_op(struct fm__jparser *p, int op);
fm_status fm__jp_expect_op(struct fm__jparser *p, int op);
fm_status fm__jp_unexpected(struct fm__jparser *p, const char *wanted);

// Every function that recurses calls enter first and leaves with depth--.
fm_status fm__jp_enter(struct fm__jparser *p);

fm_status fm__jp_expression(struct fm__jparser *p, bool with_condition, struct fm__jnode **out);
// An expression, or a tuple where a comma follows; `end_name` ("in", NULL: none) ends the tuple beside the usual ends.
fm_status fm__jp_tuple(struct fm__jparser *p, bool with_condition, const char *end_name, struct fm__jnode **out);
// Targets of set and for: names, tuples of names, with namespaces also ns.attr.
fm_status fm__jp_target(struct fm__jparser *p, bool with_namespace, struct fm__jnode **out);
fm_status fm__jp_target_name(struct fm__jparser *p, struct fm__jstr *out);
// A chain `|name(args)|name…`; inline_start: the first name comes without its bar. *out NULL when there is none.
fm_status fm__jp_filters(struct fm__jparser *p, struct fm__jnode *inner, bool inline_start, struct fm__jnode **out);

#endif
