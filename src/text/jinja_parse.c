// SPDX-License-Identifier: MIT
// Statements: tokens to the tree of a template. A text is normalised first as jinja2 does (every newline is \n, the one
// at the very end is dropped).
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "text/jinja_parser.h"
#include "text/jinja_unicode.h"

fm_status fm__jp_node(struct fm__jparser *p, enum fm__jnode_kind kind, struct fm__jnode **out)
{
    struct fm__jnode *node = fm__arena_alloc(p->arena, sizeof *node);
    *out = node;
    if (!node) return fm__fail_nomem(p->err, "template node", sizeof *node);
    node->kind = kind;
    node->line = p->t->line;
    return FM_OK;
}

fm_status fm__jp_add(struct fm__jparser *p, struct fm__jpending *list, struct fm__jnode *node)
{
    if (list->n == list->cap) {
        int cap = list->cap ? list->cap * 2 : 4;
        struct fm__jnode **v = fm__arena_alloc(p->arena, (size_t)cap * sizeof(struct fm__jnode *));
        if (!v) return fm__fail_nomem(p->err, "template nodes", (size_t)cap * sizeof(struct fm__jnode *));
        if (list->n) memcpy(v, list->v, (size_t)list->n * sizeof(struct fm__jnode *));
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = node;
    return FM_OK;
}

struct fm__jnodes fm__jp_done(const struct fm__jpending *list)
{
    return (struct fm__jnodes){list->v, list->n};
}

struct fm__jstr fm__jp_str(const struct fm__jtoken *t)
{
    return (struct fm__jstr){.p = t->p, .n = t->n, .chars = fm__utf8_chars(t->p, t->n)};
}

bool fm__jp_is_name(const struct fm__jtoken *t, const char *name)
{
    return t->kind == J_T_NAME && t->n == strlen(name) && !memcmp(t->p, name, t->n);
}

bool fm__jp_is_op(const struct fm__jtoken *t, int op)
{
    return t->kind == J_T_OP && t->op == op;
}

bool fm__jp_skip_name(struct fm__jparser *p, const char *name)
{
    bool yes = fm__jp_is_name(p->t, name);
    p->t += yes;
    return yes;
}

bool fm__jp_skip_op(struct fm__jparser *p, int op)
{
    bool yes = fm__jp_is_op(p->t, op);
    p->t += yes;
    return yes;
}

fm_status fm__jp_unexpected(struct fm__jparser *p, const char *wanted)
{
    const struct fm__jtoken *t = p->t;
    switch (t->kind) {
    case J_T_EOF:
        return fm__fail(p->err, FM_E_FORMAT, "template line %d: ends here, want %s", t->line, wanted);
    case J_T_VAR_END:
    case J_T_BLOCK_END:
        return fm__fail(p->err, FM_E_FORMAT, "template line %d: tag ends, want %s", t->line, wanted);
    default:
        return fm__fail(p->err, FM_E_FORMAT, "template line %d: found \"%.*s\", want %s", t->line,
                        (int)(t->n < 60 ? t->n : 60), t->p ? t->p : "", wanted);
    }
}

fm_status fm__jp_expect_op(struct fm__jparser *p, int op)
{
    if (fm__jp_skip_op(p, op)) return FM_OK;
    char wanted[8] = {'"', (char)op, '"'};
    return fm__jp_unexpected(p, wanted);
}

fm_status fm__jp_enter(struct fm__jparser *p)
{
    if (p->depth >= FM__J_MAX_PARSE_DEPTH)
        return fm__fail(p->err, FM_E_LIMIT, "template line %d: nested more than %d deep", p->t->line, p->depth);
    p->depth++;
    return FM_OK;
}

static fm_status parse_body(struct fm__jparser *p, const char *const *ends, struct fm__jnodes *out);

static fm_status expect_block_end(struct fm__jparser *p)
{
    if (p->t->kind != J_T_BLOCK_END) return fm__jp_unexpected(p, "\"%}\"");
    p->t++;
    return FM_OK;
}

// Statements up to a tag named in `ends`; that name is the current token afterwards. The opening tag's end comes first.
static fm_status parse_until(struct fm__jparser *p, const char *const *ends, struct fm__jnodes *out)
{
    fm__jp_skip_op(p, ':');
    FM_TRY(expect_block_end(p));
    FM_TRY(fm__jp_enter(p));
    FM_TRY(parse_body(p, ends, out));
    p->depth--;
    return FM_OK;
}

static fm_status parse_until_one(struct fm__jparser *p, const char *end, struct fm__jnodes *out)
{
    const char *const ends[] = {end, NULL};
    FM_TRY(parse_until(p, ends, out));
    p->t++;
    return FM_OK;
}

static fm_status parse_for(struct fm__jparser *p, struct fm__jnode *node)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    node->kind = J_N_FOR;
    FM_TRY(fm__jp_target(p, false, &node->a));
    if (!fm__jp_skip_name(p, "in")) return fm__jp_unexpected(p, "\"in\"");
    FM_TRY(fm__jp_tuple(p, false, "recursive", &node->b));
    if (fm__jp_skip_name(p, "if")) FM_TRY(fm__jp_expression(p, true, &node->c));
    if (fm__jp_skip_name(p, "recursive")) node->flags = J_RECURSIVE;
    p->n_loops++;
    FM_TRY(parse_until(p, ends, &node->body));
    p->n_loops--;
    if (fm__jp_is_name(p->t++, "else")) return parse_until_one(p, "endfor", &node->orelse);
    return FM_OK;
}

static fm_status parse_if(struct fm__jparser *p, struct fm__jnode *node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    node->kind = J_N_IF;
    struct fm__jpending list = {0};
    for (;;) {
        struct fm__jnode *branch;
        FM_TRY(fm__jp_node(p, J_N_BRANCH, &branch));
        FM_TRY(fm__jp_tuple(p, false, NULL, &branch->a));
        FM_TRY(parse_until(p, ends, &branch->body));
        FM_TRY(fm__jp_add(p, &list, branch));
        const struct fm__jtoken *t = p->t++;
        if (fm__jp_is_name(t, "elif")) continue;
        if (fm__jp_is_name(t, "endif")) break;
        FM_TRY(fm__jp_node(p, J_N_BRANCH, &branch));
        FM_TRY(parse_until_one(p, "endif", &branch->body));
        FM_TRY(fm__jp_add(p, &list, branch));
        break;
    }
    node->list = fm__jp_done(&list);
    return FM_OK;
}

static fm_status parse_set(struct fm__jparser *p, struct fm__jnode *node)
{
    FM_TRY(fm__jp_target(p, true, &node->a));
    if (fm__jp_skip_op(p, '=')) {
        node->kind = J_N_SET;
        return fm__jp_tuple(p, true, NULL, &node->b);
    }
    node->kind = J_N_SET_BLOCK;
    FM_TRY(fm__jp_filters(p, NULL, false, &node->b));
    return parse_until_one(p, "endset", &node->body);
}

// "(a, b=1)": parameters and defaults of a macro or of a call block's body.
static fm_status parse_signature(struct fm__jparser *p, struct fm__jnode *macro)
{
    struct fm__jarguments *args = macro->args;
    struct fm__jpending defaults = {0};
    struct fm__jnode *value = NULL;
    FM_TRY(fm__jp_expect_op(p, '('));
    while (!fm__jp_is_op(p->t, ')')) {
        if (args->n_kw) FM_TRY(fm__jp_expect_op(p, ','));
        if (args->n_kw >= FM__J_MAX_NAMED)
            return fm__fail(p->err, FM_E_LIMIT, "template line %d: more than %d parameters", p->t->line, args->n_kw);
        struct fm__jstr *names = fm__arena_alloc(p->arena, (size_t)(args->n_kw + 1) * sizeof *names);
        if (!names) return fm__fail_nomem(p->err, "template macro", sizeof *names);
        if (args->n_kw) memcpy(names, args->kw_names, (size_t)args->n_kw * sizeof *names);
        bool needs_default = value != NULL; // the one before has one
        value = NULL;
        FM_TRY(fm__jp_target_name(p, &names[args->n_kw]));
        if (fm__jp_skip_op(p, '='))
            FM_TRY(fm__jp_expression(p, true, &value));
        else if (needs_default)
            return fm__jp_unexpected(p, "\"=\" (a parameter after one with a default needs one)");
        FM_TRY(fm__jp_add(p, &defaults, value));
        args->kw_names = names;
        args->n_kw++;
    }
    args->kw = defaults.v;
    return fm__jp_expect_op(p, ')');
}

// The callable part of a macro or call block: parameters are parsed by the caller of this, the body here.
static fm_status parse_macro_body(struct fm__jparser *p, const char *end, struct fm__jnode *macro)
{
    int outer_uses = p->uses, outer_loops = p->n_loops;
    p->uses = 0, p->n_loops = 0;
    FM_TRY(parse_until_one(p, end, &macro->body));
    macro->flags = p->uses;
    p->uses |= outer_uses; // a body inside mentions the name for the one outside too, as in jinja2
    p->n_loops = outer_loops;
    return FM_OK;
}

static fm_status new_macro(struct fm__jparser *p, struct fm__jnode *node)
{
    node->kind = J_N_MACRO;
    node->args = fm__arena_alloc(p->arena, sizeof *node->args);
    return node->args ? FM_OK : fm__fail_nomem(p->err, "template macro", sizeof *node->args);
}

static fm_status parse_macro(struct fm__jparser *p, struct fm__jnode *node)
{
    FM_TRY(new_macro(p, node));
    FM_TRY(fm__jp_target_name(p, &node->str));
    FM_TRY(parse_signature(p, node));
    return parse_macro_body(p, "endmacro", node);
}

static fm_status parse_call_block(struct fm__jparser *p, struct fm__jnode *node)
{
    node->kind = J_N_CALL_BLOCK;
    FM_TRY(fm__jp_node(p, J_N_MACRO, &node->c));
    FM_TRY(new_macro(p, node->c));
    node->c->str = (struct fm__jstr){.p = "caller", .n = 6, .chars = 6};
    if (fm__jp_is_op(p->t, '(')) FM_TRY(parse_signature(p, node->c));
    FM_TRY(fm__jp_expression(p, true, &node->a));
    if (node->a->kind != J_N_CALL)
        return fm__fail(p->err, FM_E_FORMAT, "template line %d: call block without a call", node->line);
    return parse_macro_body(p, "endcall", node->c);
}

static fm_status parse_filter_block(struct fm__jparser *p, struct fm__jnode *node)
{
    node->kind = J_N_FILTER_BLOCK;
    FM_TRY(fm__jp_filters(p, NULL, true, &node->b));
    return parse_until_one(p, "endfilter", &node->body);
}

static fm_status parse_with(struct fm__jparser *p, struct fm__jnode *node)
{
    node->kind = J_N_WITH;
    struct fm__jpending list = {0};
    while (p->t->kind != J_T_BLOCK_END) {
        struct fm__jnode *item;
        if (list.n) FM_TRY(fm__jp_expect_op(p, ','));
        FM_TRY(fm__jp_target(p, false, &item));
        FM_TRY(fm__jp_add(p, &list, item));
        FM_TRY(fm__jp_expect_op(p, '='));
        FM_TRY(fm__jp_expression(p, true, &item));
        FM_TRY(fm__jp_add(p, &list, item));
    }
    node->list = fm__jp_done(&list);
    return parse_until_one(p, "endwith", &node->body);
}

static fm_status parse_generation(struct fm__jparser *p, struct fm__jnode *node)
{
    int outer = p->n_loops;
    p->n_loops = 0; // jinja2 makes it a function
    node->kind = J_N_SCOPE;
    FM_TRY(parse_until_one(p, "endgeneration", &node->body));
    p->n_loops = outer;
    return FM_OK;
}

static fm_status parse_print(struct fm__jparser *p, struct fm__jnode *node)
{
    node->kind = J_N_OUTPUT;
    struct fm__jpending list = {0};
    while (p->t->kind != J_T_BLOCK_END) {
        struct fm__jnode *item;
        if (list.n) FM_TRY(fm__jp_expect_op(p, ','));
        FM_TRY(fm__jp_expression(p, true, &item));
        FM_TRY(fm__jp_add(p, &list, item));
    }
    node->list = fm__jp_done(&list);
    return FM_OK;
}

static fm_status parse_loop_control(struct fm__jparser *p, struct fm__jnode *node)
{
    node->kind = fm__jp_is_name(p->t - 1, "break") ? J_N_BREAK : J_N_CONTINUE;
    if (p->n_loops) return FM_OK;
    return fm__fail(p->err, FM_E_FORMAT, "template line %d: break or continue outside of a loop", node->line);
}

static fm_status parse_statement(struct fm__jparser *p, struct fm__jnode **out)
{
    static const struct {
        const char *name;
        fm_status (*parse)(struct fm__jparser *p, struct fm__jnode *node);
    } tags[] = {
        {"for", parse_for},
        {"if", parse_if},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"generation", parse_generation},
        {"print", parse_print},
        {"break", parse_loop_control},
        {"continue", parse_loop_control},
    };
    static const char *const missing[] = {"include", "import", "from", "extends", "block", "autoescape", NULL};
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (!fm__jp_is_name(p->t, tags[i].name)) continue;
        FM_TRY(fm__jp_node(p, J_N_SCOPE, out));
        p->t++;
        return tags[i].parse(p, *out);
    }
    for (int i = 0; missing[i]; i++) {
        if (fm__jp_is_name(p->t, missing[i]))
            return fm__fail(p->err, FM_E_UNSUPPORTED, "template line %d: tag \"%s\": a chat template stands alone",
                            p->t->line, missing[i]);
    }
    return fm__jp_unexpected(p, "the name of a tag");
}

// Output, data and statements until the end (`ends` NULL) or a tag of `ends`.
static fm_status parse_body(struct fm__jparser *p, const char *const *ends, struct fm__jnodes *out)
{
    struct fm__jpending list = {0};
    for (;;) {
        struct fm__jnode *node = NULL, *item;
        if (p->t->kind == J_T_EOF) {
            if (ends)
                return fm__fail(p->err, FM_E_FORMAT, "template line %d: ends, want {%% %s %%}", p->t->line, ends[0]);
            break;
        }
        if (p->t->kind == J_T_DATA) {
            FM_TRY(fm__jp_node(p, J_N_DATA, &node));
            node->str = fm__jp_str(p->t++);
        } else if (p->t->kind == J_T_VAR_BEGIN) {
            struct fm__jpending outputs = {0};
            FM_TRY(fm__jp_node(p, J_N_OUTPUT, &node));
            p->t++;
            FM_TRY(fm__jp_tuple(p, true, NULL, &item));
            FM_TRY(fm__jp_add(p, &outputs, item));
            node->list = fm__jp_done(&outputs);
            if (p->t->kind != J_T_VAR_END) return fm__jp_unexpected(p, "\"}}\"");
            p->t++;
        } else {
            p->t++; // J_T_BLOCK_BEGIN: the lexer pairs tags
            for (int i = 0; ends && ends[i]; i++) {
                if (!fm__jp_is_name(p->t, ends[i])) continue;
                *out = fm__jp_done(&list);
                return FM_OK;
            }
            FM_TRY(parse_statement(p, &node));
            FM_TRY(expect_block_end(p));
        }
        FM_TRY(fm__jp_add(p, &list, node));
    }
    *out = fm__jp_done(&list);
    return FM_OK;
}

static size_t normalise_newlines(const char *source, size_t n, char *to)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (source[i] != '\r') {
            to[k++] = source[i];
            continue;
        }
        to[k++] = '\n';
        if (i + 1 < n && source[i + 1] == '\n') i++;
    }
    return k > 0 && to[k - 1] == '\n' ? k - 1 : k;
}

fm_status fm__jinja_parse(const char *source, size_t n, struct fm__arena *arena, struct fm__jnode **root,
                          struct fm_error *err)
{
    *root = NULL;
    if (n > FM__J_MAX_SOURCE)
        return fm__fail(err, FM_E_LIMIT, "template: %zu bytes, at most %d", n, (int)FM__J_MAX_SOURCE);
    size_t bad = fm__utf8_bad_at(source, n);
    if (bad < n) return fm__fail(err, FM_E_FORMAT, "template: byte %zu is not UTF-8", bad);
    char *text = fm__arena_alloc(arena, n + 1);
    if (!text) return fm__fail_nomem(err, "template text", n);
    n = normalise_newlines(source, n, text);
    struct fm__jtokens tokens;
    FM_TRY(fm__jinja_lex(text, n, arena, &tokens, err));
    struct fm__jparser p = {.t = tokens.v, .arena = arena, .err = err};
    struct fm__jnode *top;
    fm_status status = fm__jp_node(&p, J_N_SCOPE, &top);
    if (status == FM_OK) status = parse_body(&p, NULL, &top->body);
    if (status == FM_OK) *root = top;
    fm__free(tokens.v);
    return status;
}
