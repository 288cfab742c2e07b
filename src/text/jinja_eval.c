// SPDX-License-Identifier: MIT
// Expressions to values. One function a node kind, in a table; each level of nesting is counted, because it is a few
// frames of the C stack.
#include <string.h>

#include "text/jinja_run.h"

typedef fm_status eval_fn(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out);

// --- scopes ---

fm_status fm__j_scope_new(struct fm__jrun *run, struct fm__jscope *parent, struct fm__jscope **out)
{
    void *memory;
    *out = NULL;
    FM_TRY(fm__j_alloc(run, sizeof **out, &memory));
    *out = memory;
    (*out)->parent = parent;
    return FM_OK;
}

static struct fm__jv *find_here(struct fm__jscope *scope, const struct fm__jstr *name)
{
    for (int i = 0; i < scope->n; i++) {
        const struct fm__jstr *s = scope->v[i].name;
        if (s->n == name->n && !memcmp(s->p, name->p, s->n)) return &scope->v[i].value;
    }
    return NULL;
}

struct fm__jv *fm__j_scope_find(struct fm__jscope *scope, const struct fm__jstr *name)
{
    struct fm__jv *value = NULL;
    for (; scope && !value; scope = scope->parent) value = find_here(scope, name);
    return value;
}

fm_status fm__j_scope_set(struct fm__jrun *run, struct fm__jscope *scope, const struct fm__jstr *name, struct fm__jv v)
{
    struct fm__jv *old = find_here(scope, name);
    FM_TRY(fm__j_work(run, 0));
    if (old) {
        *old = v;
        return FM_OK;
    }
    if (scope->n == scope->cap) {
        int cap = scope->cap ? scope->cap * 2 : 4;
        void *memory;
        if (cap > 1 << 16) return fm__j_fail(run, FM_E_LIMIT, "more than %d variables", scope->n);
        FM_TRY(fm__j_alloc(run, (size_t)cap * sizeof *scope->v, &memory));
        if (scope->n) memcpy(memory, scope->v, (size_t)scope->n * sizeof *scope->v);
        scope->v = memory;
        scope->cap = cap;
    }
    scope->v[scope->n++] = (struct fm__jbinding){name, v};
    return FM_OK;
}

// --- leaves ---

static fm_status eval_constant(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    (void)run;
    switch (node->kind) {
    case J_N_BOOL:
        *out = fm__jv_bool(node->i != 0);
        break;
    case J_N_INT:
        *out = fm__jv_int(node->i);
        break;
    case J_N_FLOAT:
        *out = fm__jv_float(node->f);
        break;
    case J_N_STR:
        *out = (struct fm__jv){.kind = J_STR, .str = &node->str};
        break;
    default:
        *out = fm__jv_none();
    }
    return FM_OK;
}

static fm_status eval_name(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv *value = fm__j_scope_find(run->scope, &node->str);
    if (value) {
        *out = *value;
        return FM_OK;
    }
    const struct fm__jbuiltin *global = fm__j_find_builtin(fm__j_globals, node->str.p, node->str.n);
    if (!global)
        return fm__jv_undefined(run, out, "'%.*s' is undefined", (int)(node->str.n < 80 ? node->str.n : 80),
                                node->str.p);
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jfunc), &memory));
    ((struct fm__jfunc *)memory)->builtin = global;
    *out = (struct fm__jv){.kind = J_FUNC, .func = memory};
    return FM_OK;
}

static fm_status eval_list(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv list, item;
    FM_TRY(fm__jv_list(run, node->kind == J_N_TUPLE ? J_TUPLE : J_PLAIN, node->list.n, &list));
    for (int i = 0; i < node->list.n; i++) {
        FM_TRY(fm__j_eval(run, node->list.v[i], &item));
        FM_TRY(fm__jv_push(run, list.list, item));
    }
    *out = list;
    return FM_OK;
}

static fm_status eval_dict(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv map, key, value;
    FM_TRY(fm__jv_map(run, &map));
    for (int i = 0; i < node->list.n; i += 2) {
        FM_TRY(fm__j_eval(run, node->list.v[i], &key));
        FM_TRY(fm__j_eval(run, node->list.v[i + 1], &value));
        FM_TRY(fm__jv_map_set(run, map.map, key, value));
    }
    *out = map;
    return FM_OK;
}

// --- access ---

static fm_status eval_attribute(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v;
    FM_TRY(fm__j_eval(run, node->a, &v));
    return fm__j_attribute(run, v, &node->str, out);
}

static fm_status eval_item(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v, key;
    FM_TRY(fm__j_eval(run, node->a, &v));
    FM_TRY(fm__j_eval(run, node->b, &key));
    return fm__j_item(run, v, key, out);
}

static fm_status eval_slice(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v, bounds[3] = {fm__jv_none(), fm__jv_none(), fm__jv_none()};
    FM_TRY(fm__j_eval(run, node->a, &v));
    if (node->b) FM_TRY(fm__j_eval(run, node->b, &bounds[0]));
    if (node->c) FM_TRY(fm__j_eval(run, node->c, &bounds[1]));
    if (node->d) FM_TRY(fm__j_eval(run, node->d, &bounds[2]));
    return fm__j_slice(run, v, bounds, out);
}

// --- operators ---

static fm_status eval_not(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v;
    FM_TRY(fm__j_eval(run, node->a, &v));
    *out = fm__jv_bool(!fm__jv_truthy(v));
    return FM_OK;
}

static fm_status eval_sign(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v;
    FM_TRY(fm__j_eval(run, node->a, &v));
    return fm__j_negate(run, v, node->kind == J_N_NEG, out);
}

static fm_status eval_logic(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    FM_TRY(fm__j_eval(run, node->a, out));
    return fm__jv_truthy(*out) == (node->kind == J_N_AND) ? fm__j_eval(run, node->b, out) : FM_OK;
}

static fm_status eval_binary(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv a, b;
    FM_TRY(fm__j_eval(run, node->a, &a));
    FM_TRY(fm__j_eval(run, node->b, &b));
    return fm__j_binary(run, node->op, a, b, out);
}

static fm_status eval_concat(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jbuf buf = {0};
    for (int i = 0; i < node->list.n; i++) {
        struct fm__jv item;
        FM_TRY(fm__j_eval(run, node->list.v[i], &item));
        FM_TRY(fm__jbuf_str(run, &buf, item));
    }
    return fm__jbuf_value(run, &buf, out);
}

// a < b < c: every neighbour, stops at the first that does not hold.
static fm_status eval_compare(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv left, right;
    bool holds = true;
    FM_TRY(fm__j_eval(run, node->a, &left));
    for (int i = 0; i < node->list.n && holds; i++) {
        FM_TRY(fm__j_eval(run, node->list.v[i]->a, &right));
        FM_TRY(fm__j_compare_op(run, node->list.v[i]->op, left, right, &holds));
        left = right;
    }
    *out = fm__jv_bool(holds);
    return FM_OK;
}

static fm_status eval_condition(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v;
    FM_TRY(fm__j_eval(run, node->a, &v));
    if (fm__jv_truthy(v)) return fm__j_eval(run, node->b, out);
    if (node->c) return fm__j_eval(run, node->c, out);
    return fm__jv_undefined(run, out, "the inline if-expression on line %d evaluated to false and has no else",
                            node->line);
}

// --- calls ---

static fm_status add_star(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *positional)
{
    struct fm__jv v, *items;
    int64_t n;
    FM_TRY(fm__j_eval(run, node, &v));
    FM_TRY(fm__jv_iterate(run, v, &items, &n));
    for (int64_t i = 0; i < n; i++) FM_TRY(fm__jv_push(run, positional->list, items[i]));
    return FM_OK;
}

static fm_status has_name(struct fm__jrun *run, const struct fm__jcall *call, const struct fm__jstr *name)
{
    for (int64_t i = 0; i < call->n_named; i++) {
        if (call->names[i]->n == name->n && !memcmp(call->names[i]->p, name->p, name->n))
            return fm__j_fail(run, FM_E_FORMAT, "argument '%.*s' given twice", (int)(name->n < 60 ? name->n : 60),
                              name->p);
    }
    return FM_OK;
}

static fm_status eval_named(struct fm__jrun *run, const struct fm__jarguments *args, struct fm__jcall *call)
{
    struct fm__jv more = {.kind = J_NONE};
    void *memory;
    if (args->star_star) {
        FM_TRY(fm__j_eval(run, args->star_star, &more));
        if (more.kind != J_MAP) return fm__j_fail(run, FM_E_FORMAT, "** wants a mapping, not %s", fm__jv_type(more));
        if (more.map->n > FM__J_MAX_NAMED)
            return fm__j_fail(run, FM_E_LIMIT, "more than %d named arguments", FM__J_MAX_NAMED);
    }
    size_t n = (size_t)args->n_kw + (more.kind == J_MAP ? (size_t)more.map->n : 0) + 1; // one free, for a caller
    FM_TRY(fm__j_alloc(run, n * sizeof *call->named, &memory));
    call->named = memory;
    FM_TRY(fm__j_alloc(run, n * sizeof(const struct fm__jstr *), &memory));
    call->names = memory;
    for (int i = 0; i < args->n_kw; i++) {
        FM_TRY(fm__j_eval(run, args->kw[i], &call->named[call->n_named]));
        call->names[call->n_named++] = &args->kw_names[i];
    }
    for (int64_t i = 0; more.kind == J_MAP && i < more.map->n; i++) {
        const struct fm__jstr *name;
        FM_TRY(fm__j_arg_str(run, more.map->e[i].key, &name));
        FM_TRY(has_name(run, call, name));
        call->named[call->n_named] = more.map->e[i].value;
        call->names[call->n_named++] = name;
    }
    return FM_OK;
}

fm_status fm__j_eval_arguments(struct fm__jrun *run, const struct fm__jarguments *args, struct fm__jcall *call)
{
    static const struct fm__jarguments none = {0};
    struct fm__jv positional, item;
    *call = (struct fm__jcall){0};
    if (!args) args = &none;
    FM_TRY(fm__jv_list(run, J_PLAIN, args->positional.n, &positional));
    for (int i = 0; i < args->positional.n; i++) {
        FM_TRY(fm__j_eval(run, args->positional.v[i], &item));
        FM_TRY(fm__jv_push(run, positional.list, item));
    }
    if (args->star) FM_TRY(add_star(run, args->star, &positional));
    call->v = positional.list->v;
    call->n = positional.list->n;
    return eval_named(run, args, call);
}

fm_status fm__j_call(struct fm__jrun *run, struct fm__jv callee, const struct fm__jcall *call, struct fm__jv *out)
{
    FM_TRY(fm__j_need_defined(run, callee));
    if (callee.kind == J_LOOP) {
        if (call->n != 1 || call->n_named) return fm__j_fail(run, FM_E_FORMAT, "loop() wants one iterable");
        return fm__j_loop_recurse(run, callee.loop, call->v[0], out);
    }
    if (callee.kind != J_FUNC) return fm__j_fail(run, FM_E_FORMAT, "'%s' object is not callable", fm__jv_type(callee));
    if (callee.func->macro) return fm__j_call_macro(run, callee.func, call, out);
    return fm__j_call_builtin(run, callee.func->builtin, "function", callee.func->self, call, out);
}

static fm_status eval_call(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv callee, caller = run->pending_caller;
    struct fm__jcall call;
    run->pending_caller.kind = J_MISSING; // it is for this call alone, not for those in its arguments
    FM_TRY(fm__j_eval(run, node->a, &callee));
    FM_TRY(fm__j_eval_arguments(run, node->args, &call));
    if (caller.kind != J_MISSING) {
        static const struct fm__jstr name = {.p = "caller", .n = 6, .chars = 6};
        FM_TRY(has_name(run, &call, &name));
        call.named[call.n_named] = caller;
        call.names[call.n_named++] = &name;
    }
    return fm__j_call(run, callee, &call, out);
}

static fm_status eval_filter(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v = run->block_text;
    struct fm__jcall call;
    if (node->a) FM_TRY(fm__j_eval(run, node->a, &v));
    FM_TRY(fm__j_eval_arguments(run, node->args, &call));
    return fm__j_apply_filter(run, &node->str, v, &call, out);
}

static fm_status eval_test(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jv v;
    struct fm__jcall call;
    bool yes;
    FM_TRY(fm__j_eval(run, node->a, &v));
    FM_TRY(fm__j_eval_arguments(run, node->args, &call));
    FM_TRY(fm__j_apply_test(run, &node->str, v, &call, &yes));
    *out = fm__jv_bool(yes);
    return FM_OK;
}

static eval_fn *const evaluators[] = {
    [J_N_NONE] = eval_constant, [J_N_BOOL] = eval_constant,  [J_N_INT] = eval_constant,    [J_N_FLOAT] = eval_constant,
    [J_N_STR] = eval_constant,  [J_N_NAME] = eval_name,      [J_N_LIST] = eval_list,       [J_N_TUPLE] = eval_list,
    [J_N_DICT] = eval_dict,     [J_N_ATTR] = eval_attribute, [J_N_ITEM] = eval_item,       [J_N_SLICE] = eval_slice,
    [J_N_CALL] = eval_call,     [J_N_FILTER] = eval_filter,  [J_N_TEST] = eval_test,       [J_N_NOT] = eval_not,
    [J_N_NEG] = eval_sign,      [J_N_POS] = eval_sign,       [J_N_AND] = eval_logic,       [J_N_OR] = eval_logic,
    [J_N_BINARY] = eval_binary, [J_N_CONCAT] = eval_concat,  [J_N_COMPARE] = eval_compare, [J_N_COND] = eval_condition,
};

fm_status fm__j_eval(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    int line = run->line;
    run->line = node->line;
    FM_TRY(fm__j_work(run, 0));
    if (run->depth >= FM__J_MAX_DEPTH) return fm__j_fail(run, FM_E_LIMIT, "nested more than %d deep", FM__J_MAX_DEPTH);
    run->depth++;
    *out = fm__jv_none();
    FM_TRY(evaluators[node->kind](run, node, out));
    run->depth--;
    run->line = line;
    return FM_OK;
}
