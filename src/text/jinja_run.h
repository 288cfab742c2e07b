// SPDX-License-Identifier: MIT
// What the parts of the evaluator share: calls and their arguments, operators, the tables of filters, tests, methods
// and functions.
#ifndef FM_TEXT_JINJA_RUN_H
#define FM_TEXT_JINJA_RUN_H

#include "base/alloc.h"
#include "text/jinja_value.h"

// Arguments of a call as they were given.
struct fm__jcall {
    struct fm__jv *v;
    int64_t n;
    const struct fm__jstr **names;
    struct fm__jv *named;
    int64_t n_named;
};

enum { FM__J_MAX_PARAMETERS = 6 };

// What a builtin gets: the value it works on (methods, filters, tests) and its parameters by position, J_MISSING where
// none was given. Builtins with parameters NULL take `call` as it is.
struct fm__jin {
    struct fm__jv self;
    struct fm__jv arg[FM__J_MAX_PARAMETERS];
    const struct fm__jcall *call;
};

typedef fm_status fm__jfn(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out);

struct fm__jbuiltin {
    const char *name;
    fm__jfn *fn;            // NULL: known to Python, not to us; calling it says so
    const char *parameters; // "name other": names by position; "" none; NULL: raw
    int n_required;
};

// Binds the arguments to the parameters and calls. `what` ("filter") is for errors.
fm_status fm__j_call_builtin(struct fm__jrun *run, const struct fm__jbuiltin *b, const char *what, struct fm__jv self,
                             const struct fm__jcall *call, struct fm__jv *out);
// NULL: no such name.
const struct fm__jbuiltin *fm__j_find_builtin(const struct fm__jbuiltin *table, const char *name, size_t n);

// Tables end with a NULL name.
extern const struct fm__jbuiltin fm__j_filters[], fm__j_filters_seq[], fm__j_tests[], fm__j_globals[];
const struct fm__jbuiltin *fm__j_find_filter(const char *name, size_t n);
// The method `name` of v's type; NULL: none.
const struct fm__jbuiltin *fm__j_find_method(struct fm__jv v, const char *name, size_t n);
extern const struct fm__jbuiltin fm__j_str_methods[], fm__j_loop_methods[];

// x|name and x is name, with arguments: what map and select call.
fm_status fm__j_apply_filter(struct fm__jrun *run, const struct fm__jstr *name, struct fm__jv self,
                             const struct fm__jcall *call, struct fm__jv *out);
fm_status fm__j_apply_test(struct fm__jrun *run, const struct fm__jstr *name, struct fm__jv self,
                           const struct fm__jcall *call, bool *out);

// --- jinja_ops.c ---
fm_status fm__j_binary(struct fm__jrun *run, int op, struct fm__jv a, struct fm__jv b, struct fm__jv *out);
fm_status fm__j_negate(struct fm__jrun *run, struct fm__jv a, bool negative, struct fm__jv *out);
fm_status fm__j_compare_op(struct fm__jrun *run, int op, struct fm__jv a, struct fm__jv b, bool *out);
fm_status fm__j_contains(struct fm__jrun *run, struct fm__jv item, struct fm__jv in, bool *out);
fm_status fm__j_attribute(struct fm__jrun *run, struct fm__jv v, const struct fm__jstr *name, struct fm__jv *out);
fm_status fm__j_item(struct fm__jrun *run, struct fm__jv v, struct fm__jv key, struct fm__jv *out);
// bounds[0..2]: start, stop, step; J_NONE: left out.
fm_status fm__j_slice(struct fm__jrun *run, struct fm__jv v, const struct fm__jv bounds[3], struct fm__jv *out);
// "a % b" with a text; the same as the filter format.
fm_status fm__j_percent(struct fm__jrun *run, const struct fm__jstr *format, const struct fm__jv *args, int64_t n,
                        const struct fm__jmap *named, struct fm__jv *out);
fm_status fm__j_str_format(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out); // str.format

// --- arguments of builtins ---
// All name the function in their error. Defaults serve for J_MISSING.
fm_status fm__j_arg_int(struct fm__jrun *run, struct fm__jv v, int64_t missing, int64_t *out);
fm_status fm__j_arg_str(struct fm__jrun *run, struct fm__jv v, const struct fm__jstr **out); // a str or an error
// Any use of an undefined value fails with its reason.
fm_status fm__j_need_defined(struct fm__jrun *run, struct fm__jv v);

// Stable sort of pairs (tuples) by their item `by`, of any list by keys.
fm_status fm__j_sort_pairs(struct fm__jrun *run, struct fm__jlist *pairs, int by, bool reverse);

// --- loops (jinja_exec.c) ---
struct fm__jloop {
    struct fm__jv *items;
    int64_t n, at;  // of items; at: the next one to look at
    bool has_next;  // next was looked up ahead
    int64_t length; // −1: not known yet (a filter, a lazy list)
    struct fm__jv current, before, next;
    int64_t index0;
    int depth0;
    const struct fm__jnode *node;
    bool filtered;            // items have passed the filter already
    struct fm__jscope *outer; // where the loop stands: its filter sees this
    struct fm__jv last_changed;
};
// Looks one item ahead; false at the end.
fm_status fm__j_loop_peek(struct fm__jrun *run, struct fm__jloop *loop, bool *more);
fm_status fm__j_loop_attribute(struct fm__jrun *run, struct fm__jloop *loop, const struct fm__jstr *name,
                               struct fm__jv *out);
// loop(items): the body of a recursive loop again, one level deeper.
fm_status fm__j_loop_recurse(struct fm__jrun *run, struct fm__jloop *loop, struct fm__jv items, struct fm__jv *out);

// --- evaluation (jinja_eval.c, jinja_exec.c) ---
struct fm__jbinding {
    const struct fm__jstr *name;
    struct fm__jv value;
};
struct fm__jscope {
    struct fm__jscope *parent;
    struct fm__jbinding *v;
    int n, cap;
};
enum { J_FLOW_NONE, J_FLOW_BREAK, J_FLOW_CONTINUE };

fm_status fm__j_scope_new(struct fm__jrun *run, struct fm__jscope *parent, struct fm__jscope **out);
fm_status fm__j_scope_set(struct fm__jrun *run, struct fm__jscope *scope, const struct fm__jstr *name, struct fm__jv v);
struct fm__jv *fm__j_scope_find(struct fm__jscope *scope, const struct fm__jstr *name);

fm_status fm__j_eval(struct fm__jrun *run, const struct fm__jnode *node, struct fm__jv *out);
fm_status fm__j_eval_arguments(struct fm__jrun *run, const struct fm__jarguments *args, struct fm__jcall *call);
fm_status fm__j_call(struct fm__jrun *run, struct fm__jv callee, const struct fm__jcall *call, struct fm__jv *out);
fm_status fm__j_call_macro(struct fm__jrun *run, const struct fm__jfunc *func, const struct fm__jcall *call,
                           struct fm__jv *out);
fm_status fm__j_exec(struct fm__jrun *run, const struct fm__jnodes *body);
// Runs `body` in a scope of its own and takes what it wrote.
fm_status fm__j_capture(struct fm__jrun *run, const struct fm__jnodes *body, struct fm__jscope *scope,
                        struct fm__jv *out);
fm_status fm__j_write(struct fm__jrun *run, const char *p, size_t n);

#endif
