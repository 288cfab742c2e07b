// SPDX-License-Identifier: MIT
// Methods of dict, list and loop, and the binding of arguments to the parameters of any builtin. A table row without a
// function is a method Python has and we do not (calling it says so); parameters "!" mark those the sandbox forbids.
#include <string.h>

#include "text/jinja_run.h"

const struct fm__jbuiltin *fm__j_find_builtin(const struct fm__jbuiltin *table, const char *name, size_t n)
{
    for (; table->name; table++) {
        if (strlen(table->name) == n && !memcmp(table->name, name, n)) return table;
    }
    return NULL;
}

// Position of `name` in "first second third"; −1: not there.
static int parameter_index(const char *parameters, const struct fm__jstr *name)
{
    for (int i = 0; *parameters; i++) {
        size_t n = strcspn(parameters, " ");
        if (n == name->n && !memcmp(parameters, name->p, n)) return i;
        parameters += n;
        while (*parameters == ' ') parameters++;
    }
    return -1;
}

static int parameter_count(const char *parameters)
{
    int n = *parameters != 0;
    for (; *parameters; parameters++) n += *parameters == ' ';
    return n;
}

fm_status fm__j_call_builtin(struct fm__jrun *run, const struct fm__jbuiltin *b, const char *what, struct fm__jv self,
                             const struct fm__jcall *call, struct fm__jv *out)
{
    struct fm__jin in = {.self = self, .call = call};
    FM_TRY(fm__j_work(run, 0));
    if (!b->fn) return fm__j_fail(run, FM_E_UNSUPPORTED, "%s '%s' is not supported", what, b->name);
    if (!b->parameters) return b->fn(run, &in, out);
    int n_parameters = parameter_count(b->parameters);
    for (int i = 0; i < FM__J_MAX_PARAMETERS; i++) in.arg[i].kind = J_MISSING;
    if (call->n > n_parameters)
        return fm__j_fail(run, FM_E_FORMAT, "%s '%s' takes at most %d arguments, not %lld", what, b->name, n_parameters,
                          (long long)call->n);
    for (int64_t i = 0; i < call->n; i++) in.arg[i] = call->v[i];
    for (int64_t i = 0; i < call->n_named; i++) {
        int at = parameter_index(b->parameters, call->names[i]);
        if (at < 0 || in.arg[at].kind != J_MISSING)
            return fm__j_fail(run, FM_E_FORMAT, "%s '%s': unexpected argument '%.*s'", what, b->name,
                              (int)(call->names[i]->n < 60 ? call->names[i]->n : 60), call->names[i]->p);
        in.arg[at] = call->named[i];
    }
    for (int i = 0; i < b->n_required; i++) {
        if (in.arg[i].kind == J_MISSING)
            return fm__j_fail(run, FM_E_FORMAT, "%s '%s' wants %d arguments", what, b->name, b->n_required);
    }
    FM_TRY(b->fn(run, &in, out));
    bool markup = self.kind == J_STR && self.str->markup && out->kind == J_STR && !strcmp(what, "function");
    return markup ? fm__jv_markup(run, out->str, out) : FM_OK; // methods of markup give markup
}

fm_status fm__j_arg_int(struct fm__jrun *run, struct fm__jv v, int64_t missing, int64_t *out)
{
    *out = missing;
    if (v.kind == J_MISSING) return FM_OK;
    FM_TRY(fm__j_need_defined(run, v));
    if (!fm__jv_is_integer(v)) return fm__j_fail(run, FM_E_FORMAT, "want an integer, not %s", fm__jv_type(v));
    *out = fm__jv_as_int(v);
    return FM_OK;
}

fm_status fm__j_arg_str(struct fm__jrun *run, struct fm__jv v, const struct fm__jstr **out)
{
    FM_TRY(fm__j_need_defined(run, v));
    if (v.kind != J_STR) return fm__j_fail(run, FM_E_FORMAT, "want a string, not %s", fm__jv_type(v));
    *out = v.str;
    return FM_OK;
}

// --- dict ---

static fm_status map_get(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *value;
    FM_TRY(fm__jv_map_get(run, in->self.map, in->arg[0], &value));
    *out = value ? *value : in->arg[1].kind == J_MISSING ? fm__jv_none() : in->arg[1];
    return FM_OK;
}

static fm_status map_view(struct fm__jrun *run, struct fm__jv map, enum fm__jflavor flavor, struct fm__jv *out)
{
    FM_TRY(fm__jv_list(run, flavor, map.map->n, out));
    for (int64_t i = 0; i < map.map->n; i++) {
        struct fm__jentry *e = &map.map->e[i];
        struct fm__jv item = flavor == J_KEYS ? e->key : e->value;
        if (flavor == J_ITEMS) FM_TRY(fm__jv_pair(run, e->key, e->value, &item));
        FM_TRY(fm__jv_push(run, out->list, item));
    }
    return FM_OK;
}

static fm_status map_items(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return map_view(run, in->self, J_ITEMS, out);
}

static fm_status map_keys(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return map_view(run, in->self, J_KEYS, out);
}

static fm_status map_values(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return map_view(run, in->self, J_VALUES, out);
}

static fm_status same(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out) // copies cannot be told apart
{
    (void)run;
    *out = in->self;
    return FM_OK;
}

static const struct fm__jbuiltin map_methods[] = {
    {"get", map_get, "key default", 1},
    {"items", map_items, "", 0},
    {"keys", map_keys, "", 0},
    {"values", map_values, "", 0},
    {"copy", same, "", 0},
    {"fromkeys", NULL, "", 0},
    {"clear", NULL, "!", 0},
    {"pop", NULL, "!", 0},
    {"popitem", NULL, "!", 0},
    {"setdefault", NULL, "!", 0},
    {"update", NULL, "!", 0},
    {NULL, NULL, NULL, 0},
};

// --- list, tuple, range ---

static fm_status list_index(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    int64_t start, stop, n = in->self.list->n;
    FM_TRY(fm__j_arg_int(run, in->arg[1], 0, &start));
    FM_TRY(fm__j_arg_int(run, in->arg[2], n, &stop));
    if (start < 0) start = start < -n ? 0 : start + n;
    if (stop < 0) stop = stop < -n ? 0 : stop + n;
    for (int64_t i = start; i < n && i < stop; i++) {
        bool same_item;
        FM_TRY(fm__jv_equal(run, in->self.list->v[i], in->arg[0], &same_item));
        if (!same_item) continue;
        *out = fm__jv_int(i);
        return FM_OK;
    }
    return fm__j_fail(run, FM_E_FORMAT, "index: the item is not in the list");
}

static fm_status list_count(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    int64_t count = 0;
    for (int64_t i = 0; i < in->self.list->n; i++) {
        bool same_item;
        FM_TRY(fm__jv_equal(run, in->self.list->v[i], in->arg[0], &same_item));
        count += same_item;
    }
    *out = fm__jv_int(count);
    return FM_OK;
}

static const struct fm__jbuiltin list_methods[] = {
    {"count", list_count, "value", 1},
    {"index", list_index, "value start stop", 1},
    {"copy", same, "", 0},
    {"append", NULL, "!", 0},
    {"clear", NULL, "!", 0},
    {"extend", NULL, "!", 0},
    {"insert", NULL, "!", 0},
    {"pop", NULL, "!", 0},
    {"remove", NULL, "!", 0},
    {"reverse", NULL, "!", 0},
    {"sort", NULL, "!", 0},
    {NULL, NULL, NULL, 0},
};

// --- loop ---

static fm_status loop_cycle(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    if (!in->call->n) return fm__j_fail(run, FM_E_FORMAT, "loop.cycle wants items");
    *out = in->call->v[in->self.loop->index0 % in->call->n];
    return FM_OK;
}

static fm_status loop_changed(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jloop *loop = in->self.loop;
    struct fm__jv now;
    FM_TRY(fm__jv_list(run, J_TUPLE, in->call->n, &now));
    for (int64_t i = 0; i < in->call->n; i++) FM_TRY(fm__jv_push(run, now.list, in->call->v[i]));
    bool equal = false;
    if (loop->last_changed.kind != J_MISSING) FM_TRY(fm__jv_equal(run, loop->last_changed, now, &equal));
    loop->last_changed = now;
    *out = fm__jv_bool(!equal);
    return FM_OK;
}

const struct fm__jbuiltin fm__j_loop_methods[] = {
    {"cycle", loop_cycle, NULL, 0},
    {"changed", loop_changed, NULL, 0},
    {NULL, NULL, NULL, 0},
};

const struct fm__jbuiltin *fm__j_find_method(struct fm__jv v, const char *name, size_t n)
{
    switch (v.kind) {
    case J_STR:
        return fm__j_find_builtin(fm__j_str_methods, name, n);
    case J_MAP:
        return fm__j_find_builtin(map_methods, name, n);
    case J_LOOP:
        return fm__j_find_builtin(fm__j_loop_methods, name, n);
    case J_LIST:
        break;
    default:
        return NULL;
    }
    if (v.list->flavor == J_PLAIN) return fm__j_find_builtin(list_methods, name, n);
    bool indexed = v.list->flavor == J_TUPLE || v.list->flavor == J_GROUP || v.list->flavor == J_RANGE;
    const struct fm__jbuiltin *method = indexed ? fm__j_find_builtin(list_methods, name, n) : NULL;
    return method == &list_methods[0] || method == &list_methods[1] ? method : NULL; // tuples have count and index
}
