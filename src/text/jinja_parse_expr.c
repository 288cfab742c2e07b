// SPDX-License-Identifier: MIT
// Expressions: recursive descent with jinja2's precedence (condition, or, and, not, comparison, + −, ~, * / // %, **,
// sign, postfix, filter and test).
#include <string.h>

#include "base/error.h"
#include "text/jinja_parser.h"
#include "text/jinja_unicode.h"

static fm_status parse_unary(struct fm__jparser *p, bool with_filter, struct fm__jnode **out);
static fm_status parse_arguments(struct fm__jparser *p, struct fm__jarguments **out);

static fm_status parse_binary(struct fm__jparser *p, struct fm__jnode *left, struct fm__jnode *right, int op,
                              struct fm__jnode **out)
{
    FM_TRY(fm__jp_node(p, J_N_BINARY, out));
    (*out)->a = left, (*out)->b = right, (*out)->op = op;
    (*out)->line = left->line;
    return FM_OK;
}

static fm_status parse_pow(struct fm__jparser *p, struct fm__jnode **out)
{
    struct fm__jnode *left, *right;
    FM_TRY(parse_unary(p, true, &left));
    while (fm__jp_skip_op(p, FM__J_OP2('*', '*'))) {
        FM_TRY(parse_unary(p, true, &right));
        FM_TRY(parse_binary(p, left, right, FM__J_OP2('*', '*'), &left));
    }
    *out = left;
    return FM_OK;
}

static fm_status parse_product(struct fm__jparser *p, struct fm__jnode **out)
{
    struct fm__jnode *left, *right;
    FM_TRY(parse_pow(p, &left));
    while (fm__jp_is_op(p->t, '*') || fm__jp_is_op(p->t, '/') || fm__jp_is_op(p->t, '%') ||
           fm__jp_is_op(p->t, FM__J_OP2('/', '/'))) {
        int op = p->t->op;
        p->t++;
        FM_TRY(parse_pow(p, &right));
        FM_TRY(parse_binary(p, left, right, op, &left));
    }
    *out = left;
    return FM_OK;
}

static fm_status parse_concat(struct fm__jparser *p, struct fm__jnode **out)
{
    struct fm__jnode *first, *next;
    FM_TRY(parse_product(p, &first));
    *out = first;
    if (!fm__jp_is_op(p->t, '~')) return FM_OK;
    struct fm__jpending list = {0};
    FM_TRY(fm__jp_add(p, &list, first));
    while (fm__jp_skip_op(p, '~')) {
        FM_TRY(parse_product(p, &next));
        FM_TRY(fm__jp_add(p, &list, next));
    }
    FM_TRY(fm__jp_node(p, J_N_CONCAT, out));
    (*out)->list = fm__jp_done(&list);
    (*out)->line = first->line;
    return FM_OK;
}

static fm_status parse_sum(struct fm__jparser *p, struct fm__jnode **out)
{
    struct fm__jnode *left, *right;
    FM_TRY(parse_concat(p, &left));
    while (fm__jp_is_op(p->t, '+') || fm__jp_is_op(p->t, '-')) {
        int op = p->t->op;
        p->t++;
        FM_TRY(parse_concat(p, &right));
        FM_TRY(parse_binary(p, left, right, op, &left));
    }
    *out = left;
    return FM_OK;
}

// The comparison operator at the current token, moved over; 0: none. `in` is 'i', `not in` is 'n'.
static int comparison(struct fm__jparser *p)
{
    static const int ops[] = {
        '<', '>', FM__J_OP2('=', '='), FM__J_OP2('!', '='), FM__J_OP2('<', '='), FM__J_OP2('>', '=')};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (fm__jp_skip_op(p, ops[i])) return ops[i];
    }
    if (fm__jp_skip_name(p, "in")) return 'i';
    if (fm__jp_is_name(p->t, "not") && fm__jp_is_name(p->t + 1, "in")) {
        p->t += 2;
        return 'n';
    }
    return 0;
}

static fm_status parse_compare(struct fm__jparser *p, struct fm__jnode **out)
{
    struct fm__jnode *first, *operand;
    FM_TRY(parse_sum(p, &first));
    struct fm__jpending list = {0};
    for (int op; (op = comparison(p)) != 0;) {
        FM_TRY(fm__jp_node(p, J_N_OPERAND, &operand));
        operand->op = op;
        FM_TRY(parse_sum(p, &operand->a));
        FM_TRY(fm__jp_add(p, &list, operand));
    }
    *out = first;
    if (!list.n) return FM_OK;
    FM_TRY(fm__jp_node(p, J_N_COMPARE, out));
    (*out)->a = first, (*out)->list = fm__jp_done(&list);
    (*out)->line = first->line;
    return FM_OK;
}

static fm_status parse_not(struct fm__jparser *p, struct fm__jnode **out)
{
    if (!fm__jp_is_name(p->t, "not")) return parse_compare(p, out);
    FM_TRY(fm__jp_enter(p));
    FM_TRY(fm__jp_node(p, J_N_NOT, out));
    p->t++;
    struct fm__jnode *node = *out;
    FM_TRY(parse_not(p, &node->a));
    p->depth--;
    return FM_OK;
}

static fm_status parse_logic(struct fm__jparser *p, bool is_or, struct fm__jnode **out)
{
    struct fm__jnode *left, *node;
    FM_TRY(is_or ? parse_logic(p, false, &left) : parse_not(p, &left));
    while (fm__jp_skip_name(p, is_or ? "or" : "and")) {
        FM_TRY(fm__jp_node(p, is_or ? J_N_OR : J_N_AND, &node));
        node->a = left;
        FM_TRY(is_or ? parse_logic(p, false, &node->b) : parse_not(p, &node->b));
        left = node;
    }
    *out = left;
    return FM_OK;
}

fm_status fm__jp_expression(struct fm__jparser *p, bool with_condition, struct fm__jnode **out)
{
    FM_TRY(fm__jp_enter(p));
    struct fm__jnode *then, *node;
    FM_TRY(parse_logic(p, true, &then));
    while (with_condition && fm__jp_is_name(p->t, "if")) {
        FM_TRY(fm__jp_node(p, J_N_COND, &node));
        p->t++;
        node->b = then;
        FM_TRY(parse_logic(p, true, &node->a));
        if (fm__jp_skip_name(p, "else")) FM_TRY(fm__jp_expression(p, true, &node->c));
        then = node;
    }
    *out = then;
    p->depth--;
    return FM_OK;
}

// Comma separated expressions up to `close`, which is consumed.
static fm_status parse_items(struct fm__jparser *p, int close, bool pairs, struct fm__jnodes *out)
{
    struct fm__jpending list = {0};
    struct fm__jnode *item;
    while (!fm__jp_is_op(p->t, close)) {
        if (list.n) FM_TRY(fm__jp_expect_op(p, ','));
        if (fm__jp_is_op(p->t, close)) break;
        FM_TRY(fm__jp_expression(p, true, &item));
        FM_TRY(fm__jp_add(p, &list, item));
        if (!pairs) continue;
        FM_TRY(fm__jp_expect_op(p, ':'));
        FM_TRY(fm__jp_expression(p, true, &item));
        FM_TRY(fm__jp_add(p, &list, item));
    }
    *out = fm__jp_done(&list);
    return fm__jp_expect_op(p, close);
}

static fm_status parse_name(struct fm__jparser *p, struct fm__jnode **out)
{
    const struct fm__jtoken *t = p->t;
    bool yes = fm__jp_is_name(t, "true") || fm__jp_is_name(t, "True");
    bool no = fm__jp_is_name(t, "false") || fm__jp_is_name(t, "False");
    bool none = fm__jp_is_name(t, "none") || fm__jp_is_name(t, "None");
    FM_TRY(fm__jp_node(p, none ? J_N_NONE : yes || no ? J_N_BOOL : J_N_NAME, out));
    (*out)->i = yes;
    (*out)->str = fm__jp_str(t);
    if (fm__jp_is_name(t, "caller")) p->uses |= J_USES_CALLER;
    if (fm__jp_is_name(t, "kwargs")) p->uses |= J_USES_KWARGS;
    if (fm__jp_is_name(t, "varargs")) p->uses |= J_USES_VARARGS;
    p->t++;
    return FM_OK;
}

// Adjacent strings are one.
static fm_status parse_string(struct fm__jparser *p, struct fm__jnode **out)
{
    FM_TRY(fm__jp_node(p, J_N_STR, out));
    const struct fm__jtoken *first = p->t;
    size_t n = 0;
    while (p->t->kind == J_T_STRING) n += p->t++->n;
    (*out)->str = fm__jp_str(first);
    if (p->t == first + 1) return FM_OK;
    char *text = fm__arena_alloc(p->arena, n + 1);
    if (!text) return fm__fail_nomem(p->err, "template string", n);
    size_t at = 0;
    for (const struct fm__jtoken *t = first; t < p->t; t++) {
        memcpy(text + at, t->p, t->n);
        at += t->n;
    }
    (*out)->str = (struct fm__jstr){.p = text, .n = n, .chars = fm__utf8_chars(text, n)};
    return FM_OK;
}

static fm_status parse_primary(struct fm__jparser *p, struct fm__jnode **out)
{
    const struct fm__jtoken *t = p->t;
    switch (t->kind) {
    case J_T_NAME:
        return parse_name(p, out);
    case J_T_STRING:
        return parse_string(p, out);
    case J_T_INT:
    case J_T_FLOAT:
        FM_TRY(fm__jp_node(p, t->kind == J_T_INT ? J_N_INT : J_N_FLOAT, out));
        (*out)->i = t->i, (*out)->f = t->f;
        p->t++;
        return FM_OK;
    default:
        break;
    }
    if (fm__jp_skip_op(p, '(')) {
        if (fm__jp_is_op(p->t, ')'))
            FM_TRY(fm__jp_node(p, J_N_TUPLE, out));
        else
            FM_TRY(fm__jp_tuple(p, true, NULL, out));
        return fm__jp_expect_op(p, ')');
    }
    if (!fm__jp_is_op(t, '[') && !fm__jp_is_op(t, '{')) return fm__jp_unexpected(p, "an expression");
    FM_TRY(fm__jp_node(p, t->op == '[' ? J_N_LIST : J_N_DICT, out));
    p->t++;
    return parse_items(p, t->op == '[' ? ']' : '}', t->op == '{', &(*out)->list);
}

// One subscript: an expression, or a slice a:b:c with any part left out.
static fm_status parse_subscribed(struct fm__jparser *p, struct fm__jnode **out)
{
    struct fm__jnode *start = NULL;
    if (!fm__jp_is_op(p->t, ':')) {
        FM_TRY(fm__jp_expression(p, true, &start));
        *out = start;
        if (!fm__jp_is_op(p->t, ':')) return FM_OK;
    }
    FM_TRY(fm__jp_node(p, J_N_SLICE, out));
    struct fm__jnode *slice = *out;
    slice->b = start;
    p->t++;
    if (!fm__jp_is_op(p->t, ':') && !fm__jp_is_op(p->t, ']') && !fm__jp_is_op(p->t, ','))
        FM_TRY(fm__jp_expression(p, true, &slice->c));
    if (fm__jp_skip_op(p, ':') && !fm__jp_is_op(p->t, ']') && !fm__jp_is_op(p->t, ','))
        FM_TRY(fm__jp_expression(p, true, &slice->d));
    return FM_OK;
}

static fm_status parse_subscript(struct fm__jparser *p, struct fm__jnode *inner, struct fm__jnode **out)
{
    struct fm__jnode *index;
    if (fm__jp_skip_op(p, '.')) {
        FM_TRY(fm__jp_node(p, p->t->kind == J_T_INT ? J_N_ITEM : J_N_ATTR, out));
        (*out)->a = inner;
        if (p->t->kind == J_T_INT) return parse_primary(p, &(*out)->b);
        if (p->t->kind != J_T_NAME) return fm__jp_unexpected(p, "a name or number after \".\"");
        (*out)->str = fm__jp_str(p->t++);
        return FM_OK;
    }
    FM_TRY(fm__jp_expect_op(p, '['));
    struct fm__jpending list = {0};
    while (!fm__jp_is_op(p->t, ']')) {
        if (list.n) FM_TRY(fm__jp_expect_op(p, ','));
        FM_TRY(parse_subscribed(p, &index));
        FM_TRY(fm__jp_add(p, &list, index));
    }
    p->t++;
    if (list.n == 1 && list.v[0]->kind == J_N_SLICE) {
        *out = list.v[0];
        (*out)->a = inner;
        return FM_OK;
    }
    for (int i = 0; i < list.n; i++) {
        if (list.v[i]->kind == J_N_SLICE)
            return fm__fail(p->err, FM_E_UNSUPPORTED, "template line %d: a tuple of slices", list.v[i]->line);
    }
    if (list.n == 1) {
        index = list.v[0];
    } else {
        FM_TRY(fm__jp_node(p, J_N_TUPLE, &index));
        index->list = fm__jp_done(&list);
    }
    FM_TRY(fm__jp_node(p, J_N_ITEM, out));
    (*out)->a = inner, (*out)->b = index;
    return FM_OK;
}

static fm_status parse_call(struct fm__jparser *p, struct fm__jnode *inner, struct fm__jnode **out)
{
    FM_TRY(fm__jp_node(p, J_N_CALL, out));
    (*out)->a = inner;
    return parse_arguments(p, &(*out)->args);
}

static fm_status parse_postfix(struct fm__jparser *p, struct fm__jnode *inner, struct fm__jnode **out)
{
    for (int n = 0;; n++) {
        if (n > FM__J_MAX_PARSE_DEPTH) // the chain is a tree as deep as it is long
            return fm__fail(p->err, FM_E_LIMIT, "template line %d: more than %d subscripts in a row", p->t->line,
                            n - 1);
        if (fm__jp_is_op(p->t, '.') || fm__jp_is_op(p->t, '['))
            FM_TRY(parse_subscript(p, inner, &inner));
        else if (fm__jp_is_op(p->t, '('))
            FM_TRY(parse_call(p, inner, &inner));
        else
            break;
    }
    *out = inner;
    return FM_OK;
}

// "name.name": dots belong to the names of filters and tests, so that x|first.y is no attribute of x|first.
static fm_status parse_dotted(struct fm__jparser *p, const char *what, struct fm__jstr *out)
{
    if (p->t->kind != J_T_NAME) return fm__jp_unexpected(p, what);
    const struct fm__jtoken *first = p->t++;
    *out = fm__jp_str(first);
    while (fm__jp_is_op(p->t, '.')) {
        p->t++;
        if (p->t->kind != J_T_NAME) return fm__jp_unexpected(p, what);
        struct fm__jtoken whole = {.p = first->p, .n = (size_t)(p->t->p + p->t->n - first->p)};
        *out = fm__jp_str(&whole);
        p->t++;
    }
    return FM_OK;
}

static fm_status parse_test(struct fm__jparser *p, struct fm__jnode *inner, struct fm__jnode **out)
{
    struct fm__jnode *test, *arg = NULL;
    FM_TRY(fm__jp_node(p, J_N_TEST, &test));
    p->t++;
    bool negated = fm__jp_skip_name(p, "not");
    test->a = inner;
    FM_TRY(parse_dotted(p, "the name of a test", &test->str));
    const struct fm__jtoken *t = p->t;
    bool takes_argument = t->kind == J_T_NAME || t->kind == J_T_STRING || t->kind == J_T_INT || t->kind == J_T_FLOAT ||
                          fm__jp_is_op(t, '[') || fm__jp_is_op(t, '{');
    if (fm__jp_is_op(t, '(')) {
        FM_TRY(parse_arguments(p, &test->args));
    } else if (takes_argument && !fm__jp_is_name(t, "else") && !fm__jp_is_name(t, "or") && !fm__jp_is_name(t, "and")) {
        if (fm__jp_is_name(t, "is"))
            return fm__fail(p->err, FM_E_FORMAT, "template line %d: tests cannot be chained with \"is\"", t->line);
        FM_TRY(parse_primary(p, &arg));
        FM_TRY(parse_postfix(p, arg, &arg));
        struct fm__jpending list = {0};
        FM_TRY(fm__jp_add(p, &list, arg));
        test->args = fm__arena_alloc(p->arena, sizeof *test->args);
        if (!test->args) return fm__fail_nomem(p->err, "template test", sizeof *test->args);
        test->args->positional = fm__jp_done(&list);
    }
    *out = test;
    if (!negated) return FM_OK;
    FM_TRY(fm__jp_node(p, J_N_NOT, out));
    (*out)->a = test;
    return FM_OK;
}

static fm_status parse_filter(struct fm__jparser *p, struct fm__jnode *inner, struct fm__jnode **out)
{
    FM_TRY(fm__jp_node(p, J_N_FILTER, out));
    (*out)->a = inner;
    FM_TRY(parse_dotted(p, "the name of a filter", &(*out)->str));
    return fm__jp_is_op(p->t, '(') ? parse_arguments(p, &(*out)->args) : FM_OK;
}

fm_status fm__jp_filters(struct fm__jparser *p, struct fm__jnode *inner, bool inline_start, struct fm__jnode **out)
{
    *out = inner;
    for (int n = 0; inline_start || fm__jp_is_op(p->t, '|'); n++, inline_start = false) {
        if (n > FM__J_MAX_PARSE_DEPTH)
            return fm__fail(p->err, FM_E_LIMIT, "template line %d: more than %d filters in a row", p->t->line, n - 1);
        if (!inline_start) p->t++;
        FM_TRY(parse_filter(p, *out, out));
    }
    return FM_OK;
}

static fm_status parse_unary(struct fm__jparser *p, bool with_filter, struct fm__jnode **out)
{
    FM_TRY(fm__jp_enter(p));
    struct fm__jnode *node = NULL;
    if (fm__jp_is_op(p->t, '-') || fm__jp_is_op(p->t, '+')) {
        FM_TRY(fm__jp_node(p, p->t->op == '-' ? J_N_NEG : J_N_POS, &node));
        p->t++;
        FM_TRY(parse_unary(p, false, &node->a));
    } else {
        FM_TRY(parse_primary(p, &node));
    }
    FM_TRY(parse_postfix(p, node, &node));
    for (int n = 0; with_filter; n++) {
        if (n > FM__J_MAX_PARSE_DEPTH)
            return fm__fail(p->err, FM_E_LIMIT, "template line %d: more than %d filters in a row", p->t->line, n - 1);
        if (fm__jp_skip_op(p, '|'))
            FM_TRY(parse_filter(p, node, &node));
        else if (fm__jp_is_name(p->t, "is"))
            FM_TRY(parse_test(p, node, &node));
        else if (fm__jp_is_op(p->t, '('))
            FM_TRY(parse_call(p, node, &node));
        else
            break;
    }
    *out = node;
    p->depth--;
    return FM_OK;
}

static fm_status parse_keyword(struct fm__jparser *p, struct fm__jarguments *args, struct fm__jpending *values)
{
    if (args->n_kw >= FM__J_MAX_NAMED)
        return fm__fail(p->err, FM_E_LIMIT, "template line %d: more than %d named arguments", p->t->line, args->n_kw);
    // names grow in step with the values; a call has few of them
    struct fm__jstr *names = fm__arena_alloc(p->arena, (size_t)(args->n_kw + 1) * sizeof *names);
    if (!names) return fm__fail_nomem(p->err, "template arguments", sizeof *names);
    if (args->n_kw) memcpy(names, args->kw_names, (size_t)args->n_kw * sizeof *names);
    names[args->n_kw] = fm__jp_str(p->t);
    for (int i = 0; i < args->n_kw; i++) {
        if (names[i].n == p->t->n && !memcmp(names[i].p, p->t->p, p->t->n))
            return fm__fail(p->err, FM_E_FORMAT, "template line %d: argument %.*s given twice", p->t->line,
                            (int)p->t->n, p->t->p);
    }
    p->t += 2;
    struct fm__jnode *value;
    FM_TRY(fm__jp_expression(p, true, &value));
    args->kw_names = names;
    args->n_kw++;
    return fm__jp_add(p, values, value);
}

// "(a, b, name=c, *d, **e)": the parenthesis is the current token.
static fm_status parse_arguments(struct fm__jparser *p, struct fm__jarguments **out)
{
    FM_TRY(fm__jp_expect_op(p, '('));
    struct fm__jarguments *args = *out = fm__arena_alloc(p->arena, sizeof *args);
    if (!args) return fm__fail_nomem(p->err, "template arguments", sizeof *args);
    struct fm__jpending positional = {0}, values = {0};
    struct fm__jnode *value;
    for (bool first = true; !fm__jp_is_op(p->t, ')'); first = false) {
        if (!first) FM_TRY(fm__jp_expect_op(p, ','));
        if (fm__jp_is_op(p->t, ')')) break;
        if (!args->star && !args->star_star && fm__jp_skip_op(p, '*')) {
            FM_TRY(fm__jp_expression(p, true, &args->star));
        } else if (!args->star_star && fm__jp_skip_op(p, FM__J_OP2('*', '*'))) {
            FM_TRY(fm__jp_expression(p, true, &args->star_star));
        } else if (!args->star_star && p->t->kind == J_T_NAME && fm__jp_is_op(p->t + 1, '=')) {
            FM_TRY(parse_keyword(p, args, &values));
        } else {
            if (args->star || args->star_star || args->n_kw)
                return fm__fail(p->err, FM_E_FORMAT, "template line %d: positional argument after named ones",
                                p->t->line);
            FM_TRY(fm__jp_expression(p, true, &value));
            FM_TRY(fm__jp_add(p, &positional, value));
        }
    }
    args->positional = fm__jp_done(&positional);
    args->kw = values.v;
    return fm__jp_expect_op(p, ')');
}

fm_status fm__jp_tuple(struct fm__jparser *p, bool with_condition, const char *end_name, struct fm__jnode **out)
{
    struct fm__jpending list = {0};
    struct fm__jnode *item;
    int line = p->t->line;
    bool is_tuple = false;
    for (;;) {
        if (list.n && is_tuple) {
            const struct fm__jtoken *t = p->t;
            if (t->kind == J_T_VAR_END || t->kind == J_T_BLOCK_END || fm__jp_is_op(t, ')')) break;
            if (end_name && fm__jp_is_name(t, end_name)) break;
        }
        FM_TRY(fm__jp_expression(p, with_condition, &item));
        FM_TRY(fm__jp_add(p, &list, item));
        if (!fm__jp_skip_op(p, ',')) break;
        is_tuple = true;
    }
    *out = list.v[0];
    if (!is_tuple) return FM_OK;
    FM_TRY(fm__jp_node(p, J_N_TUPLE, out));
    (*out)->list = fm__jp_done(&list);
    (*out)->line = line;
    return FM_OK;
}

fm_status fm__jp_target_name(struct fm__jparser *p, struct fm__jstr *out)
{
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    if (p->t->kind != J_T_NAME) return fm__jp_unexpected(p, "a name to assign to");
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (fm__jp_is_name(p->t, reserved[i])) return fm__jp_unexpected(p, "a name to assign to");
    }
    *out = fm__jp_str(p->t++);
    return FM_OK;
}

static fm_status parse_one_target(struct fm__jparser *p, bool with_namespace, struct fm__jnode **out)
{
    FM_TRY(fm__jp_enter(p));
    if (fm__jp_skip_op(p, '(')) {
        FM_TRY(fm__jp_target(p, with_namespace, out));
        FM_TRY(fm__jp_expect_op(p, ')'));
    } else {
        FM_TRY(fm__jp_node(p, J_N_NAME, out));
        FM_TRY(fm__jp_target_name(p, &(*out)->str));
        if (with_namespace && fm__jp_skip_op(p, '.')) {
            (*out)->kind = J_N_NSREF;
            if (p->t->kind != J_T_NAME) return fm__jp_unexpected(p, "a name after \".\"");
            (*out)->attr = fm__jp_str(p->t++);
        }
    }
    p->depth--;
    return FM_OK;
}

fm_status fm__jp_target(struct fm__jparser *p, bool with_namespace, struct fm__jnode **out)
{
    struct fm__jnode *item;
    FM_TRY(parse_one_target(p, with_namespace, &item));
    *out = item;
    if (!fm__jp_is_op(p->t, ',')) return FM_OK;
    struct fm__jpending list = {0};
    FM_TRY(fm__jp_add(p, &list, item));
    while (fm__jp_skip_op(p, ',')) {
        const struct fm__jtoken *t = p->t;
        if (fm__jp_is_op(t, '=') || fm__jp_is_op(t, ')') || fm__jp_is_name(t, "in") || t->kind == J_T_BLOCK_END) break;
        FM_TRY(parse_one_target(p, with_namespace, &item));
        FM_TRY(fm__jp_add(p, &list, item));
    }
    FM_TRY(fm__jp_node(p, J_N_TUPLE, out));
    (*out)->list = fm__jp_done(&list);
    return FM_OK;
}
