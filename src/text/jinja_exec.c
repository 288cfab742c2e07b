// SPDX-License-Identifier: MIT
// Statements: writing, branching, loops, macros. Scopes are jinja2's: a loop's body, a macro and every block with a
// body but `if` have their own, read outwards and never write outwards (namespaces do that).
#include <string.h>

#include "text/jinja_run.h"

fm_status fm__j_write(struct fm__jrun *run, const char *p, size_t n)
{
    FM_TRY(fm__j_work(run, n));
    if (n > run->max_out - run->n_out) return fm__j_fail(run, FM_E_LIMIT, "output longer than %zu bytes", run->max_out);
    if (run->cap_out - run->n_out < n) {
        size_t cap = run->cap_out ? run->cap_out * 2 : 4096;
        if (cap < run->n_out + n) cap = run->n_out + n;
        char *out = fm__realloc(run->out, cap + 1); // and its final zero
        if (!out) return fm__j_fail(run, FM_E_NOMEM, "cannot allocate %zu bytes of output", cap);
        run->out = out;
        run->cap_out = cap;
    }
    if (n) memcpy(run->out + run->n_out, p, n);
    run->n_out += n;
    return FM_OK;
}

fm_status fm__j_capture(struct fm__jrun *run, const struct fm__jnodes *body, struct fm__jscope *scope,
                        struct fm__jv *out)
{
    struct fm__jscope *outer = run->scope;
    size_t begin = run->n_out;
    run->scope = scope;
    FM_TRY(fm__j_exec(run, body));
    run->scope = outer;
    FM_TRY(fm__jv_str(run, run->out ? run->out + begin : "", run->n_out - begin, out));
    run->n_out = begin;
    return FM_OK;
}

static fm_status exec_scoped(struct fm__jrun *run, const struct fm__jnodes *body, struct fm__jscope *scope)
{
    struct fm__jscope *outer = run->scope;
    run->scope = scope;
    FM_TRY(fm__j_exec(run, body));
    run->scope = outer;
    return FM_OK;
}

// --- assignment ---

static fm_status assign(struct fm__jrun *run, struct fm__jscope *scope, const struct fm__jnode *target,
                        struct fm__jv v);

static fm_status unpack(struct fm__jrun *run, struct fm__jscope *scope, const struct fm__jnode *target, struct fm__jv v)
{
    struct fm__jv *items;
    int64_t n;
    FM_TRY(fm__jv_iterate(run, v, &items, &n));
    if (n != target->list.n)
        return fm__j_fail(run, FM_E_FORMAT, "cannot unpack %lld values into %d names", (long long)n, target->list.n);
    for (int i = 0; i < target->list.n; i++) FM_TRY(assign(run, scope, target->list.v[i], items[i]));
    return FM_OK;
}

static fm_status assign(struct fm__jrun *run, struct fm__jscope *scope, const struct fm__jnode *target, struct fm__jv v)
{
    if (target->kind == J_N_TUPLE) return unpack(run, scope, target, v);
    if (target->kind == J_N_NAME) return fm__j_scope_set(run, scope, &target->str, v);
    struct fm__jv *space = fm__j_scope_find(run->scope, &target->str);
    if (!space || space->kind != J_NAMESPACE)
        return fm__j_fail(run, FM_E_FORMAT, "'%.*s' is not a namespace: its attributes cannot be set",
                          (int)(target->str.n < 60 ? target->str.n : 60), target->str.p);
    return fm__jv_map_set(run, space->map, (struct fm__jv){.kind = J_STR, .str = &target->attr}, v);
}

// --- loops ---

// The next item that passes the loop's filter.
static fm_status next_item(struct fm__jrun *run, struct fm__jloop *loop, struct fm__jv *item, bool *more)
{
    const struct fm__jnode *node = loop->node;
    while (loop->at < loop->n) {
        *item = loop->items[loop->at++];
        *more = true;
        if (!node->c || loop->filtered) return FM_OK;
        struct fm__jscope *outer = run->scope, *scope;
        struct fm__jv keep;
        FM_TRY(fm__j_scope_new(run, loop->outer, &scope));
        FM_TRY(assign(run, scope, node->a, *item));
        run->scope = scope;
        FM_TRY(fm__j_eval(run, node->c, &keep));
        run->scope = outer;
        if (fm__jv_truthy(keep)) return FM_OK;
    }
    *more = false;
    return FM_OK;
}

fm_status fm__j_loop_peek(struct fm__jrun *run, struct fm__jloop *loop, bool *more)
{
    if (!loop->has_next) {
        bool got;
        FM_TRY(next_item(run, loop, &loop->next, &got));
        loop->has_next = got;
    }
    *more = loop->has_next;
    return FM_OK;
}

// How many items the loop has in all. With a filter those to come must be found first, and then take the items' place.
static fm_status loop_length(struct fm__jrun *run, struct fm__jloop *loop, int64_t *length)
{
    *length = loop->length;
    if (loop->length >= 0) return FM_OK;
    struct fm__jv rest, item;
    bool more;
    FM_TRY(fm__jv_list(run, J_PLAIN, 0, &rest));
    for (;;) {
        FM_TRY(next_item(run, loop, &item, &more));
        if (!more) break;
        FM_TRY(fm__jv_push(run, rest.list, item));
    }
    loop->items = rest.list->v;
    loop->n = rest.list->n;
    loop->at = 0;
    loop->filtered = true;
    *length = loop->length = loop->index0 + 1 + loop->has_next + loop->n;
    return FM_OK;
}

fm_status fm__j_loop_attribute(struct fm__jrun *run, struct fm__jloop *loop, const struct fm__jstr *name,
                               struct fm__jv *out)
{
    static const char *const names[] = {"index0",   "index",  "first", "last",     "length",  "revindex0",
                                        "revindex", "depth0", "depth", "previtem", "nextitem"};
    size_t which = 0, count = sizeof names / sizeof names[0];
    int64_t length;
    bool more;
    while (which < count && (strlen(names[which]) != name->n || memcmp(names[which], name->p, name->n))) which++;
    switch (which) {
    case 0:
    case 1:
        *out = fm__jv_int(loop->index0 + (int64_t)which);
        return FM_OK;
    case 2:
        *out = fm__jv_bool(loop->index0 == 0);
        return FM_OK;
    case 3:
        FM_TRY(fm__j_loop_peek(run, loop, &more));
        *out = fm__jv_bool(!more);
        return FM_OK;
    case 4:
        FM_TRY(loop_length(run, loop, &length));
        *out = fm__jv_int(length);
        return FM_OK;
    case 5:
    case 6:
        FM_TRY(loop_length(run, loop, &length));
        *out = fm__jv_int(length - loop->index0 - (which == 5));
        return FM_OK;
    case 7:
    case 8:
        *out = fm__jv_int(loop->depth0 + (which == 8));
        return FM_OK;
    case 9:
        *out = loop->before;
        return loop->index0 ? FM_OK : fm__jv_undefined(run, out, "there is no previous item");
    case 10:
        FM_TRY(fm__j_loop_peek(run, loop, &more));
        *out = loop->next;
        return more ? FM_OK : fm__jv_undefined(run, out, "there is no next item");
    default:
        out->kind = J_MISSING;
        return FM_OK;
    }
}

static fm_status loop_over(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv iterable, int depth0)
{
    static const struct fm__jstr loop_name = {.p = "loop", .n = 4, .chars = 4};
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jloop), &memory));
    struct fm__jloop *loop = memory;
    struct fm__jscope *scope;
    bool any = false, more;
    FM_TRY(fm__jv_iterate(run, iterable, &loop->items, &loop->n));
    loop->length = node->c ? -1 : loop->n;
    loop->node = node, loop->outer = run->scope, loop->index0 = -1, loop->depth0 = depth0;
    loop->last_changed.kind = J_MISSING;
    for (;;) {
        FM_TRY(fm__j_work(run, 0));
        FM_TRY(fm__j_loop_peek(run, loop, &more));
        if (!more) break;
        loop->before = loop->current, loop->current = loop->next;
        loop->has_next = false;
        loop->index0++;
        FM_TRY(fm__j_scope_new(run, loop->outer, &scope));
        FM_TRY(fm__j_scope_set(run, scope, &loop_name, (struct fm__jv){.kind = J_LOOP, .loop = loop}));
        FM_TRY(assign(run, scope, node->a, loop->current));
        FM_TRY(exec_scoped(run, &node->body, scope));
        int flow = run->flow;
        run->flow = J_FLOW_NONE;
        any |= flow == J_FLOW_NONE; // jinja2 runs `else` when no body came to its end, also after break and continue
        if (flow == J_FLOW_BREAK) break;
    }
    if (any || !node->orelse.n) return FM_OK;
    FM_TRY(fm__j_scope_new(run, run->scope, &scope));
    return exec_scoped(run, &node->orelse, scope);
}

fm_status fm__j_loop_recurse(struct fm__jrun *run, struct fm__jloop *loop, struct fm__jv items, struct fm__jv *out)
{
    if (!(loop->node->flags & J_RECURSIVE)) return fm__j_fail(run, FM_E_FORMAT, "loop() needs a loop marked recursive");
    struct fm__jscope *outer = run->scope;
    size_t begin = run->n_out;
    if (run->depth >= FM__J_MAX_DEPTH) return fm__j_fail(run, FM_E_LIMIT, "nested more than %d deep", FM__J_MAX_DEPTH);
    run->scope = loop->outer;
    run->depth++;
    FM_TRY(loop_over(run, loop->node, items, loop->depth0 + 1));
    run->depth--;
    run->scope = outer;
    FM_TRY(fm__jv_str(run, run->out ? run->out + begin : "", run->n_out - begin, out));
    run->n_out = begin;
    return FM_OK;
}

// --- macros ---

// Takes the named argument `name` out of what is left; false: not there.
static bool take_named(struct fm__jcall *call, const struct fm__jstr *name, struct fm__jv *out)
{
    for (int64_t i = 0; i < call->n_named; i++) {
        if (call->names[i]->n != name->n || memcmp(call->names[i]->p, name->p, name->n)) continue;
        *out = call->named[i];
        call->n_named--;
        memmove(&call->names[i], &call->names[i + 1], (size_t)(call->n_named - i) * sizeof(const struct fm__jstr *));
        memmove(&call->named[i], &call->named[i + 1], (size_t)(call->n_named - i) * sizeof *call->named);
        return true;
    }
    return false;
}

// What is left after the parameters: caller, kwargs and varargs for macros that mention them, an error for others.
static fm_status bind_rest(struct fm__jrun *run, const struct fm__jnode *macro, struct fm__jcall *call,
                           bool found_caller, struct fm__jscope *scope)
{
    static const struct fm__jstr caller = {.p = "caller", .n = 6, .chars = 6},
                                 kwargs = {.p = "kwargs", .n = 6, .chars = 6},
                                 varargs = {.p = "varargs", .n = 7, .chars = 7};
    struct fm__jv v;
    int n = macro->args->n_kw;
    if ((macro->flags & J_USES_CALLER) && !found_caller) {
        if (!take_named(call, &caller, &v)) FM_TRY(fm__jv_undefined(run, &v, "No caller defined"));
        FM_TRY(fm__j_scope_set(run, scope, &caller, v));
    }
    if (macro->flags & J_USES_KWARGS) {
        FM_TRY(fm__jv_map(run, &v));
        for (int64_t i = 0; i < call->n_named; i++)
            FM_TRY(fm__jv_map_set(run, v.map, (struct fm__jv){.kind = J_STR, .str = call->names[i]}, call->named[i]));
        FM_TRY(fm__j_scope_set(run, scope, &kwargs, v));
    } else if (call->n_named) {
        return fm__j_fail(run, FM_E_FORMAT, "macro '%.*s' takes no keyword argument '%.*s'", (int)macro->str.n,
                          macro->str.p, (int)(call->names[0]->n < 60 ? call->names[0]->n : 60), call->names[0]->p);
    }
    if (macro->flags & J_USES_VARARGS) {
        FM_TRY(fm__jv_list(run, J_TUPLE, 0, &v));
        for (int64_t i = n; i < call->n; i++) FM_TRY(fm__jv_push(run, v.list, call->v[i]));
        return fm__j_scope_set(run, scope, &varargs, v);
    }
    if (call->n <= n) return FM_OK;
    return fm__j_fail(run, FM_E_FORMAT, "macro '%.*s' takes not more than %d argument(s)", (int)macro->str.n,
                      macro->str.p, n);
}

// Parameters in order, so that a default sees those before it.
static fm_status bind_parameters(struct fm__jrun *run, const struct fm__jnode *macro, const struct fm__jcall *given,
                                 struct fm__jscope *scope)
{
    struct fm__jcall call = *given;
    const struct fm__jarguments *args = macro->args;
    bool found_caller = false;
    void *memory; // not on the stack: macros call macros
    FM_TRY(fm__j_alloc(run, (size_t)args->n_kw * sizeof(struct fm__jv), &memory));
    struct fm__jv *bound = memory;
    for (int i = 0; i < args->n_kw; i++) {
        bool is_caller = args->kw_names[i].n == 6 && !memcmp(args->kw_names[i].p, "caller", 6);
        found_caller |= is_caller;
        bound[i].kind = J_MISSING;
        if (i < call.n)
            bound[i] = call.v[i];
        else
            take_named(&call, &args->kw_names[i], &bound[i]);
    }
    FM_TRY(bind_rest(run, macro, &call, found_caller, scope));
    for (int i = 0; i < args->n_kw; i++) {
        const struct fm__jstr *name = &args->kw_names[i];
        if (bound[i].kind == J_MISSING && args->kw[i])
            FM_TRY(fm__j_eval(run, args->kw[i], &bound[i]));
        else if (bound[i].kind == J_MISSING)
            FM_TRY(fm__jv_undefined(run, &bound[i], "parameter '%.*s' was not provided",
                                    (int)(name->n < 80 ? name->n : 80), name->p));
        FM_TRY(fm__j_scope_set(run, scope, name, bound[i]));
    }
    return FM_OK;
}

fm_status fm__j_call_macro(struct fm__jrun *run, const struct fm__jfunc *func, const struct fm__jcall *call,
                           struct fm__jv *out)
{
    struct fm__jscope *outer = run->scope, *scope;
    FM_TRY(fm__j_scope_new(run, func->scope, &scope));
    run->scope = scope;
    FM_TRY(bind_parameters(run, func->macro, call, scope));
    FM_TRY(fm__j_capture(run, &func->macro->body, scope, out));
    run->scope = outer;
    return FM_OK;
}

static fm_status new_macro(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    void *memory;
    FM_TRY(fm__j_alloc(run, sizeof(struct fm__jfunc), &memory));
    struct fm__jfunc *func = memory;
    func->macro = node;
    func->scope = run->scope;
    *out = (struct fm__jv){.kind = J_FUNC, .func = func};
    return FM_OK;
}

// --- statements ---

static fm_status exec_output(struct fm__jrun *run, const struct fm__jnode *node)
{
    for (int i = 0; i < node->list.n; i++) {
        struct fm__jv v;
        const struct fm__jstr *s;
        FM_TRY(fm__j_eval(run, node->list.v[i], &v));
        FM_TRY(fm__jv_to_str(run, v, &s));
        FM_TRY(fm__j_write(run, s->p, s->n));
    }
    return FM_OK;
}

static fm_status exec_data(struct fm__jrun *run, const struct fm__jnode *node)
{
    return fm__j_write(run, node->str.p, node->str.n);
}

static fm_status exec_if(struct fm__jrun *run, const struct fm__jnode *node)
{
    for (int i = 0; i < node->list.n; i++) {
        const struct fm__jnode *branch = node->list.v[i];
        struct fm__jv v = fm__jv_bool(true);
        if (branch->a) FM_TRY(fm__j_eval(run, branch->a, &v));
        if (fm__jv_truthy(v)) return fm__j_exec(run, &branch->body);
    }
    return FM_OK;
}

static fm_status exec_for(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jv iterable;
    FM_TRY(fm__j_eval(run, node->b, &iterable));
    return loop_over(run, node, iterable, 0);
}

static fm_status exec_set(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jv v;
    FM_TRY(fm__j_eval(run, node->b, &v));
    return assign(run, run->scope, node->a, v);
}

// The text of a body through the filters of the tag that opens it.
static fm_status filtered_text(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out)
{
    struct fm__jscope *scope;
    FM_TRY(fm__j_scope_new(run, run->scope, &scope));
    FM_TRY(fm__j_capture(run, &node->body, scope, out));
    if (!node->b || run->flow != J_FLOW_NONE) return FM_OK;
    struct fm__jv outer = run->block_text;
    run->block_text = *out;
    FM_TRY(fm__j_eval(run, node->b, out));
    run->block_text = outer;
    return FM_OK;
}

static fm_status exec_set_block(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jv v;
    FM_TRY(filtered_text(run, node, &v));
    if (run->flow != J_FLOW_NONE) return FM_OK; // break inside: the text is lost
    return assign(run, run->scope, node->a, v);
}

static fm_status exec_filter_block(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jv v;
    const struct fm__jstr *s;
    FM_TRY(filtered_text(run, node, &v));
    if (run->flow != J_FLOW_NONE) return FM_OK;
    FM_TRY(fm__jv_to_str(run, v, &s));
    return fm__j_write(run, s->p, s->n);
}

static fm_status exec_macro(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jv v;
    FM_TRY(new_macro(run, node, &v));
    return fm__j_scope_set(run, run->scope, &node->str, v);
}

static fm_status exec_call_block(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jv v;
    const struct fm__jstr *s;
    FM_TRY(new_macro(run, node->c, &run->pending_caller));
    FM_TRY(fm__j_eval(run, node->a, &v));
    FM_TRY(fm__jv_to_str(run, v, &s));
    return fm__j_write(run, s->p, s->n);
}

static fm_status exec_with(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jscope *scope;
    FM_TRY(fm__j_scope_new(run, run->scope, &scope));
    for (int i = 0; i < node->list.n; i += 2) {
        struct fm__jv v;
        FM_TRY(fm__j_eval(run, node->list.v[i + 1], &v)); // values see the scope outside
        FM_TRY(assign(run, scope, node->list.v[i], v));
    }
    return exec_scoped(run, &node->body, scope);
}

static fm_status exec_scope(struct fm__jrun *run, const struct fm__jnode *node)
{
    struct fm__jscope *scope;
    FM_TRY(fm__j_scope_new(run, run->scope, &scope));
    return exec_scoped(run, &node->body, scope);
}

static fm_status exec_loop_control(struct fm__jrun *run, const struct fm__jnode *node)
{
    run->flow = node->kind == J_N_BREAK ? J_FLOW_BREAK : J_FLOW_CONTINUE;
    return FM_OK;
}

static fm_status exec_one(struct fm__jrun *run, const struct fm__jnode *node)
{
    switch (node->kind) {
    case J_N_DATA:
        return exec_data(run, node);
    case J_N_OUTPUT:
        return exec_output(run, node);
    case J_N_IF:
        return exec_if(run, node);
    case J_N_FOR:
        return exec_for(run, node);
    case J_N_SET:
        return exec_set(run, node);
    case J_N_SET_BLOCK:
        return exec_set_block(run, node);
    case J_N_MACRO:
        return exec_macro(run, node);
    case J_N_CALL_BLOCK:
        return exec_call_block(run, node);
    case J_N_FILTER_BLOCK:
        return exec_filter_block(run, node);
    case J_N_WITH:
        return exec_with(run, node);
    case J_N_SCOPE:
        return exec_scope(run, node);
    default:
        return exec_loop_control(run, node);
    }
}

fm_status fm__j_exec(struct fm__jrun *run, const struct fm__jnodes *body)
{
    if (run->depth >= FM__J_MAX_DEPTH) return fm__j_fail(run, FM_E_LIMIT, "nested more than %d deep", FM__J_MAX_DEPTH);
    run->depth++;
    for (int i = 0; i < body->n && run->flow == J_FLOW_NONE; i++) {
        run->line = body->v[i]->line;
        FM_TRY(exec_one(run, body->v[i]));
    }
    run->depth--;
    return FM_OK;
}
