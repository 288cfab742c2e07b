// SPDX-License-Identifier: MIT
// `x is name`, and the global functions.
#include <math.h>
#include <string.h>
#include <time.h>

#include "text/jinja_run.h"

#define TEST(function, expression)                                                                \
    static fm_status function(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out) \
    {                                                                                             \
        struct fm__jv x = in->self;                                                               \
        (void)run, (void)x;                                                                       \
        *out = fm__jv_bool(expression);                                                           \
        return FM_OK;                                                                             \
    }
TEST(is_defined, x.kind != J_UNDEFINED)
TEST(is_undefined, x.kind == J_UNDEFINED)
TEST(is_none, x.kind == J_NONE)
TEST(is_boolean, x.kind == J_BOOL)
TEST(is_true, x.kind == J_BOOL && x.b)
TEST(is_false, x.kind == J_BOOL && !x.b)
TEST(is_integer, x.kind == J_INT)
TEST(is_float, x.kind == J_FLOAT)
TEST(is_number, fm__jv_is_number(x))
TEST(is_string, x.kind == J_STR)
TEST(is_mapping, x.kind == J_MAP)
TEST(is_iterable, fm__jv_is_iterable(x))
TEST(is_sequence,
     x.kind == J_STR || x.kind == J_MAP || x.kind == J_UNDEFINED || (x.kind == J_LIST && x.list->flavor <= J_RANGE))
TEST(is_callable, x.kind == J_FUNC || x.kind == J_LOOP || x.kind == J_UNDEFINED) // Python's undefined has a __call__
TEST(is_escaped, false)
TEST(is_filter, x.kind == J_STR && fm__j_find_filter(x.str->p, x.str->n))
TEST(is_test, x.kind == J_STR && fm__j_find_builtin(fm__j_tests, x.str->p, x.str->n))

static fm_status divides(struct fm__jrun *run, struct fm__jv x, struct fm__jv by, int64_t rest, struct fm__jv *out)
{
    bool equal;
    FM_TRY(fm__j_binary(run, '%', x, by, out));
    FM_TRY(fm__jv_equal(run, *out, fm__jv_int(rest), &equal));
    *out = fm__jv_bool(equal);
    return FM_OK;
}

static fm_status is_odd(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return divides(run, in->self, fm__jv_int(2), 1, out);
}

static fm_status is_even(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return divides(run, in->self, fm__jv_int(2), 0, out);
}

static fm_status is_divisible(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return divides(run, in->self, in->arg[0], 0, out);
}

static fm_status cased(struct fm__jrun *run, const struct fm__jin *in, const char *method, struct fm__jv *out)
{
    struct fm__jin text = {.self = {.kind = J_STR}};
    FM_TRY(fm__jv_to_str(run, in->self, &text.self.str));
    return fm__j_find_builtin(fm__j_str_methods, method, strlen(method))->fn(run, &text, out);
}

static fm_status is_lower(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return cased(run, in, "islower", out);
}

static fm_status is_upper(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return cased(run, in, "isupper", out);
}

static fm_status is_same(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv a = in->self, b = in->arg[0];
    bool equal = a.kind == b.kind;
    if (equal && a.kind == J_LIST)
        equal = a.list == b.list;
    else if (equal && a.kind == J_MAP)
        equal = a.map == b.map;
    else if (equal)
        FM_TRY(fm__jv_equal(run, a, b, &equal));
    *out = fm__jv_bool(equal);
    return FM_OK;
}

static fm_status is_in(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    *out = fm__jv_bool(false);
    return fm__j_contains(run, in->self, in->arg[0], &out->b);
}

#define COMPARE(function, op)                                                                     \
    static fm_status function(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out) \
    {                                                                                             \
        *out = fm__jv_bool(false);                                                                \
        return fm__j_compare_op(run, op, in->self, in->arg[0], &out->b);                          \
    }
COMPARE(is_eq, FM__J_OP2('=', '='))
COMPARE(is_ne, FM__J_OP2('!', '='))
COMPARE(is_gt, '>')
COMPARE(is_ge, FM__J_OP2('>', '='))
COMPARE(is_lt, '<')
COMPARE(is_le, FM__J_OP2('<', '='))

const struct fm__jbuiltin fm__j_tests[] = {
    {"defined", is_defined, "", 0},
    {"undefined", is_undefined, "", 0},
    {"none", is_none, "", 0},
    {"boolean", is_boolean, "", 0},
    {"true", is_true, "", 0},
    {"false", is_false, "", 0},
    {"integer", is_integer, "", 0},
    {"float", is_float, "", 0},
    {"number", is_number, "", 0},
    {"string", is_string, "", 0},
    {"mapping", is_mapping, "", 0},
    {"iterable", is_iterable, "", 0},
    {"sequence", is_sequence, "", 0},
    {"callable", is_callable, "", 0},
    {"escaped", is_escaped, "", 0},
    {"filter", is_filter, "", 0},
    {"test", is_test, "", 0},
    {"odd", is_odd, "", 0},
    {"even", is_even, "", 0},
    {"divisibleby", is_divisible, "num", 1},
    {"lower", is_lower, "", 0},
    {"upper", is_upper, "", 0},
    {"sameas", is_same, "other", 1},
    {"in", is_in, "seq", 1},
    {"==", is_eq, "b", 1},
    {"eq", is_eq, "b", 1},
    {"equalto", is_eq, "b", 1},
    {"!=", is_ne, "b", 1},
    {"ne", is_ne, "b", 1},
    {">", is_gt, "b", 1},
    {"gt", is_gt, "b", 1},
    {"greaterthan", is_gt, "b", 1},
    {">=", is_ge, "b", 1},
    {"ge", is_ge, "b", 1},
    {"<", is_lt, "b", 1},
    {"lt", is_lt, "b", 1},
    {"lessthan", is_lt, "b", 1},
    {"<=", is_le, "b", 1},
    {"le", is_le, "b", 1},
    {NULL, NULL, NULL, 0},
};

fm_status fm__j_apply_test(struct fm__jrun *run, const struct fm__jstr *name, struct fm__jv self,
                           const struct fm__jcall *call, bool *out)
{
    const struct fm__jbuiltin *test = fm__j_find_builtin(fm__j_tests, name->p, name->n);
    if (!test) return fm__j_fail(run, FM_E_FORMAT, "no test named '%.*s'", (int)(name->n < 60 ? name->n : 60), name->p);
    struct fm__jv answer;
    FM_TRY(fm__j_call_builtin(run, test, "test", self, call, &answer));
    *out = fm__jv_truthy(answer);
    return FM_OK;
}

// --- functions ---

static fm_status call_range(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    enum { MAX_RANGE = 100000 }; // the sandbox's
    int64_t start = 0, stop, step;
    FM_TRY(fm__j_arg_int(run, in->arg[in->arg[1].kind == J_MISSING ? 0 : 1], 0, &stop));
    if (in->arg[1].kind != J_MISSING) FM_TRY(fm__j_arg_int(run, in->arg[0], 0, &start));
    FM_TRY(fm__j_arg_int(run, in->arg[2], 1, &step));
    if (step == 0) return fm__j_fail(run, FM_E_FORMAT, "range: step must not be zero");
    FM_TRY(fm__jv_list(run, J_RANGE, 0, out));
    out->list->range[0] = start, out->list->range[1] = stop, out->list->range[2] = step;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (out->list->n >= MAX_RANGE) return fm__j_fail(run, FM_E_LIMIT, "range of more than %d", MAX_RANGE);
        FM_TRY(fm__jv_push(run, out->list, fm__jv_int(i)));
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return FM_OK;
}

// dict(mapping or pairs, name=value …)
static fm_status call_dict(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jcall *call = in->call;
    FM_TRY(fm__jv_map(run, out));
    if (call->n > 1) return fm__j_fail(run, FM_E_FORMAT, "dict takes one positional argument");
    if (call->n && call->v[0].kind == J_MAP) {
        const struct fm__jmap *from = call->v[0].map;
        for (int64_t i = 0; i < from->n; i++) FM_TRY(fm__jv_map_set(run, out->map, from->e[i].key, from->e[i].value));
    } else if (call->n) {
        struct fm__jv *pairs, *pair;
        int64_t n, two;
        FM_TRY(fm__jv_iterate(run, call->v[0], &pairs, &n));
        for (int64_t i = 0; i < n; i++) {
            FM_TRY(fm__jv_iterate(run, pairs[i], &pair, &two));
            if (two != 2) return fm__j_fail(run, FM_E_FORMAT, "dict wants pairs");
            FM_TRY(fm__jv_map_set(run, out->map, pair[0], pair[1]));
        }
    }
    for (int64_t i = 0; i < call->n_named; i++)
        FM_TRY(fm__jv_map_set(run, out->map, (struct fm__jv){.kind = J_STR, .str = call->names[i]}, call->named[i]));
    return FM_OK;
}

static fm_status call_namespace(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    FM_TRY(call_dict(run, in, out));
    out->kind = J_NAMESPACE;
    return FM_OK;
}

static fm_status call_raise(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s;
    FM_TRY(fm__jv_to_str(run, in->arg[0], &s));
    *out = fm__jv_none();
    return fm__j_fail(run, FM_E_ARG, "the template refuses: %.*s", (int)(s->n < 300 ? s->n : 300), s->p);
}

static fm_status call_strftime(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *format;
    FM_TRY(fm__j_arg_str(run, in->arg[0], &format));
    time_t now = run->unix_time ? (time_t)run->unix_time : time(NULL);
    struct tm local;
    char text[512], pattern[128];
    if (format->n >= sizeof pattern || memchr(format->p, 0, format->n))
        return fm__j_fail(run, FM_E_LIMIT, "strftime_now: format of %zu bytes, at most %zu", format->n,
                          sizeof pattern - 1);
    if (!localtime_r(&now, &local)) return fm__j_fail(run, FM_E_ARG, "strftime_now: no such time");
    memcpy(pattern, format->p, format->n);
    pattern[format->n] = 0;
    size_t n = strftime(text, sizeof text, pattern, &local);
    if (!n && format->n) return fm__j_fail(run, FM_E_LIMIT, "strftime_now: result longer than %zu", sizeof text);
    return fm__jv_str(run, text, n, out);
}

const struct fm__jbuiltin fm__j_globals[] = {
    {"range", call_range, "start stop step", 1},  {"dict", call_dict, NULL, 0},
    {"namespace", call_namespace, NULL, 0},       {"raise_exception", call_raise, "message", 1},
    {"strftime_now", call_strftime, "format", 1}, {NULL, NULL, NULL, 0},
};
