// SPDX-License-Identifier: MIT
// Values of a running template and the run itself: what Python's objects are to jinja2. All values live in the run's
// arena and die with it; strings, lists and maps never change once a template can see them (the sandbox forbids it),
// only namespaces do. Every function that can fail has filled the run's error when it returns other than FM_OK.
#ifndef FM_TEXT_JINJA_VALUE_H
#define FM_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "text/jinja_ast.h"

enum fm__jkind {
    J_UNDEFINED, // str: why, for the error that using it brings
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST, // lists, tuples and everything else that is walked in order: see fm__jflavor
    J_MAP,
    J_NAMESPACE, // map
    J_FUNC,
    J_LOOP,
    J_MISSING, // an argument that was not given; never seen by a template
};

// What Python type a J_LIST is.
enum fm__jflavor { J_PLAIN, J_TUPLE, J_GROUP, J_RANGE, J_KEYS, J_VALUES, J_ITEMS, J_LAZY };

struct fm__jlist;
struct fm__jmap;
struct fm__jfunc;
struct fm__jloop;

struct fm__jv {
    enum fm__jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const struct fm__jstr *str;
        struct fm__jlist *list;
        struct fm__jmap *map;
        struct fm__jfunc *func;
        struct fm__jloop *loop;
    };
};

struct fm__jlist {
    enum fm__jflavor flavor;
    int64_t n, cap;
    int64_t next; // J_LAZY: how many were taken; a generator gives each item once
    struct fm__jv *v;
    int64_t range[3]; // J_RANGE: start, stop, step
};

struct fm__jentry {
    struct fm__jv key, value;
    uint64_t hash;
};

// Ordered by insertion, like a dict. `slots` holds entry numbers + 1, open addressing; NULL up to 8 entries.
struct fm__jmap {
    struct fm__jentry *e;
    int64_t n, cap;
    uint32_t *slots;
    uint64_t n_slots;
};

struct fm__jscope;
struct fm__jrun;
struct fm__jcall;
struct fm__jbuiltin;

struct fm__jfunc {
    const struct fm__jbuiltin *builtin; // a global function or method; NULL: a macro
    struct fm__jv self;                 // of a method
    const struct fm__jnode *macro;
    struct fm__jscope *scope; // where the macro was defined
};

// One application of a template.
struct fm__jrun {
    struct fm__arena arena;
    struct fm_error *err;
    int64_t steps_left;
    size_t memory_left;
    int depth; // of evaluation: bounds the C stack
    int line;  // of the node at work, for errors
    char *out; // rendered text; captures (macros, set blocks) take their tail off again
    size_t n_out, cap_out, max_out;
    struct fm__jscope *scope;
    int flow;                     // break or continue on its way to the loop
    struct fm__jv pending_caller; // of a call block, for the call it opens with; else J_MISSING
    struct fm__jv block_text;     // of a filter or set block, for the first filter of its chain
    int64_t unix_time;
};

// Nesting of evaluation and of values. 400 levels of evaluation take below 1 MiB of stack, also with sanitizers.
enum { FM__J_MAX_DEPTH = 400, FM__J_MAX_VALUE_DEPTH = 100 };

// Fails with "template line N: …".
#define fm__j_fail(run, code, ...) \
    fm__same_code((code), fm__jrun_error((run), (code), FM__FILE_NAME ":" FM__STR(__LINE__), __VA_ARGS__))
fm_status fm__jrun_error(struct fm__jrun *run, fm_status code, const char *where, const char *fmt, ...) FM_PRINTF(4, 5);

// Accounts for work on `bytes` bytes (one step and one more for every 32).
fm_status fm__j_work(struct fm__jrun *run, size_t bytes);
// Zeroed memory of the run, accounted as memory and work.
fm_status fm__j_alloc(struct fm__jrun *run, size_t bytes, void **out);

// --- making values ---
static inline struct fm__jv fm__jv_bool(bool b)
{
    return (struct fm__jv){.kind = J_BOOL, .b = b};
}
static inline struct fm__jv fm__jv_int(int64_t i)
{
    return (struct fm__jv){.kind = J_INT, .i = i};
}
static inline struct fm__jv fm__jv_float(double f)
{
    return (struct fm__jv){.kind = J_FLOAT, .f = f};
}
static inline struct fm__jv fm__jv_none(void)
{
    return (struct fm__jv){.kind = J_NONE};
}
fm_status fm__jv_str(struct fm__jrun *run, const char *p, size_t n, struct fm__jv *out); // copies
fm_status fm__jv_text(struct fm__jrun *run, const char *text, struct fm__jv *out);       // zero-terminated, copies
// A string over bytes that live as long as the run.
fm_status fm__jv_view(struct fm__jrun *run, const char *p, size_t n, struct fm__jv *out);
// The same text as markup, the same text escaped as markup.
fm_status fm__jv_markup(struct fm__jrun *run, const struct fm__jstr *s, struct fm__jv *out);
fm_status fm__jv_escape(struct fm__jrun *run, const struct fm__jstr *s, struct fm__jv *out);
fm_status fm__jv_undefined(struct fm__jrun *run, struct fm__jv *out, const char *fmt, ...) FM_PRINTF(3, 4);
fm_status fm__jv_list(struct fm__jrun *run, enum fm__jflavor flavor, int64_t cap, struct fm__jv *out);
fm_status fm__jv_push(struct fm__jrun *run, struct fm__jlist *list, struct fm__jv item);
fm_status fm__jv_pair(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, struct fm__jv *out); // a tuple of two
fm_status fm__jv_map(struct fm__jrun *run, struct fm__jv *out);
fm_status fm__jv_map_set(struct fm__jrun *run, struct fm__jmap *map, struct fm__jv key, struct fm__jv value);
// *out NULL: no such key. Keys that cannot be hashed (lists, maps) fail.
fm_status fm__jv_map_get(struct fm__jrun *run, const struct fm__jmap *map, struct fm__jv key, struct fm__jv **out);
fm_status fm__jv_map_text(struct fm__jrun *run, const struct fm__jmap *map, const char *key, struct fm__jv **out);

// --- looking at values ---
const char *fm__jv_type(struct fm__jv v); // Python's name: "str", "dict"
bool fm__jv_truthy(struct fm__jv v);
bool fm__jv_is_number(struct fm__jv v);  // bool, int or float
bool fm__jv_is_integer(struct fm__jv v); // bool or int
int64_t fm__jv_as_int(struct fm__jv v);
double fm__jv_as_double(struct fm__jv v);
bool fm__jv_hashable(struct fm__jv v);
fm_status fm__jv_equal(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, bool *out);
// *out < 0, 0, > 0. Fails for types that have no order ("'<' not supported between …").
fm_status fm__jv_compare(struct fm__jrun *run, struct fm__jv a, struct fm__jv b, int *out);
// len(); fails where Python has none.
fm_status fm__jv_length(struct fm__jrun *run, struct fm__jv v, int64_t *out);
bool fm__jv_is_iterable(struct fm__jv v);
// All items in order; takes the rest of a lazy list. The array lives as long as the run.
fm_status fm__jv_iterate(struct fm__jrun *run, struct fm__jv v, struct fm__jv **items, int64_t *n);

// --- text forms (jinja_text.c) ---
// Bytes growing in the run's arena.
struct fm__jbuf {
    char *p;
    size_t n, cap;
};
fm_status fm__jbuf_add(struct fm__jrun *run, struct fm__jbuf *buf, const char *p, size_t n);
fm_status fm__jbuf_text(struct fm__jrun *run, struct fm__jbuf *buf, const char *text);
fm_status fm__jbuf_fill(struct fm__jrun *run, struct fm__jbuf *buf, char c, int64_t n);
fm_status fm__jbuf_code(struct fm__jrun *run, struct fm__jbuf *buf, int32_t code);
fm_status fm__jbuf_value(struct fm__jrun *run, const struct fm__jbuf *buf, struct fm__jv *out);
fm_status fm__jbuf_str(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v);  // str(v)
fm_status fm__jbuf_repr(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v); // repr(v)
// str(v); a J_STR comes back as it is.
fm_status fm__jv_to_str(struct fm__jrun *run, struct fm__jv v, const struct fm__jstr **out);
enum { FM__J_FLOAT_TEXT = 32 };
void fm__j_float_repr(double f, char out[FM__J_FLOAT_TEXT]); // shortest text that reads back, Python's form

struct fm__jjson_style {
    int64_t indent;                              // −1: one line
    struct fm__jv item_separator, key_separator; // J_STR
    bool ascii, sort_keys;
    const struct fm__jstr *indent_text; // overrides indent
};
fm_status fm__jbuf_json(struct fm__jrun *run, struct fm__jbuf *buf, struct fm__jv v,
                        const struct fm__jjson_style *style);
// A JSON text (length n) to a value; `what` names it in errors.
fm_status fm__jv_from_json(struct fm__jrun *run, const char *what, const char *text, size_t n, struct fm__jv *out);

#endif
