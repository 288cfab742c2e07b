// SPDX-License-Identifier: MIT
// Filters that walk sequences and mappings. What is a generator in jinja2 comes out as a J_LAZY list: each item once,
// no length. The work itself is done at once, so an error shows where the filter stands and not where it is walked.
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

static struct fm__jv argument(const struct fm__jin *in, int i, struct fm__jv missing)
{
    return in->arg[i].kind == J_MISSING ? missing : in->arg[i];
}

static bool truthy_argument(const struct fm__jin *in, int i)
{
    return in->arg[i].kind != J_MISSING && fm__jv_truthy(in->arg[i]);
}

// item["a.b.0"]: parts between dots, those of digits are numbers. attribute none or missing: the item itself. Any part
// that is undefined becomes `missing` unless that is none.
static fm_status get_path_or(struct fm__jrun *run, struct fm__jv item, struct fm__jv attribute, struct fm__jv missing,
                             struct fm__jv *out)
{
    *out = item;
    if (attribute.kind == J_MISSING || attribute.kind == J_NONE) return FM_OK;
    if (attribute.kind != J_STR) {
        FM_TRY(fm__j_item(run, item, attribute, out));
        if (out->kind == J_UNDEFINED && missing.kind != J_NONE) *out = missing;
        return FM_OK;
    }
    const struct fm__jstr *path = attribute.str;
    for (size_t at = 0;;) {
        size_t end = at;
        bool digits = true;
        int64_t number = 0;
        for (; end < path->n && path->p[end] != '.'; end++) {
            if (path->p[end] < '0' || path->p[end] > '9')
                digits = false;
            else if (number < (int64_t)1 << 50)
                number = number * 10 + path->p[end] - '0';
        }
        struct fm__jv key = fm__jv_int(number);
        if (!digits || end == at) FM_TRY(fm__jv_view(run, path->p + at, end - at, &key));
        FM_TRY(fm__j_item(run, *out, key, out));
        if (out->kind == J_UNDEFINED && missing.kind != J_NONE) *out = missing;
        if (end >= path->n) return FM_OK;
        at = end + 1;
    }
}

static fm_status get_path(struct fm__jrun *run, struct fm__jv item, struct fm__jv attribute, struct fm__jv *out)
{
    return get_path_or(run, item, attribute, fm__jv_none(), out);
}

// Lower case where it is text: how sort, unique, min, max and groupby compare by default.
static fm_status fold_case(struct fm__jrun *run, struct fm__jv *v)
{
    static const struct fm__jcall none = {0};
    if (v->kind != J_STR) return FM_OK;
    const struct fm__jbuiltin *lower = fm__j_find_builtin(fm__j_str_methods, "lower", 5);
    return fm__j_call_builtin(run, lower, "method", *v, &none, v);
}

static fm_status get_key(struct fm__jrun *run, struct fm__jv item, struct fm__jv attribute, bool case_sensitive,
                         struct fm__jv *out)
{
    FM_TRY(get_path(run, item, attribute, out));
    return case_sensitive ? FM_OK : fold_case(run, out);
}

// --- first, last, join, list ---

static fm_status do_first(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    if (in->self.kind == J_LIST && in->self.list->flavor == J_LAZY) {
        struct fm__jlist *list = in->self.list;
        if (list->next < list->n) {
            *out = list->v[list->next++];
            return FM_OK;
        }
        return fm__jv_undefined(run, out, "No first item, sequence was empty.");
    }
    struct fm__jv *items;
    int64_t n;
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    if (!n) return fm__jv_undefined(run, out, "No first item, sequence was empty.");
    *out = items[0];
    return FM_OK;
}

static fm_status need_reversible(struct fm__jrun *run, struct fm__jv v)
{
    if (v.kind != J_LIST || v.list->flavor != J_LAZY) return FM_OK;
    return fm__j_fail(run, FM_E_FORMAT, "'generator' object is not reversible");
}

static fm_status do_last(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items;
    int64_t n;
    FM_TRY(need_reversible(run, in->self));
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    if (!n) return fm__jv_undefined(run, out, "No last item, sequence was empty.");
    *out = items[n - 1];
    return FM_OK;
}

static fm_status do_join(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items, item;
    int64_t n;
    struct fm__jbuf buf = {0};
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    for (int64_t i = 0; i < n; i++) {
        if (i && in->arg[0].kind != J_MISSING) FM_TRY(fm__jbuf_str(run, &buf, in->arg[0]));
        FM_TRY(get_path(run, items[i], in->arg[1], &item));
        FM_TRY(fm__jbuf_str(run, &buf, item));
    }
    return fm__jbuf_value(run, &buf, out);
}

// The items of any iterable as a list of this flavour.
static fm_status copy_items(struct fm__jrun *run, struct fm__jv from, enum fm__jflavor flavor, struct fm__jv *out)
{
    struct fm__jv *items;
    int64_t n;
    FM_TRY(fm__jv_iterate(run, from, &items, &n));
    FM_TRY(fm__jv_list(run, flavor, n, out));
    for (int64_t i = 0; i < n; i++) FM_TRY(fm__jv_push(run, out->list, items[i]));
    return FM_OK;
}

static fm_status do_list(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return copy_items(run, in->self, J_PLAIN, out);
}

static fm_status do_reverse(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    if (in->self.kind == J_STR) {
        struct fm__jv bounds[3] = {fm__jv_none(), fm__jv_none(), fm__jv_int(-1)};
        return fm__j_slice(run, in->self, bounds, out);
    }
    bool lazy = in->self.kind == J_LIST && in->self.list->flavor == J_LAZY;
    FM_TRY(copy_items(run, in->self, lazy ? J_PLAIN : J_LAZY, out));
    struct fm__jlist *list = out->list;
    for (int64_t i = 0; i < list->n / 2; i++) {
        struct fm__jv swap = list->v[i];
        list->v[i] = list->v[list->n - 1 - i];
        list->v[list->n - 1 - i] = swap;
    }
    return FM_OK;
}

static fm_status do_items(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    FM_TRY(fm__jv_list(run, J_LAZY, 0, out));
    if (in->self.kind == J_UNDEFINED) return FM_OK;
    if (in->self.kind != J_MAP)
        return fm__j_fail(run, FM_E_FORMAT, "items of %s, want a mapping", fm__jv_type(in->self));
    for (int64_t i = 0; i < in->self.map->n; i++) {
        struct fm__jv pair;
        FM_TRY(fm__jv_pair(run, in->self.map->e[i].key, in->self.map->e[i].value, &pair));
        FM_TRY(fm__jv_push(run, out->list, pair));
    }
    return FM_OK;
}

static fm_status do_attr(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *name;
    FM_TRY(fm__j_arg_str(run, in->arg[0], &name));
    if (in->self.kind == J_MAP && !fm__j_find_method(in->self, name->p, name->n)) // keys are no attributes
        return fm__jv_undefined(run, out, "'dict' object has no attribute '%.*s'", (int)name->n, name->p);
    return fm__j_attribute(run, in->self, name, out);
}

// --- map, select ---

static const struct fm__jstr *keyword(const struct fm__jcall *call, const char *name, struct fm__jv *out)
{
    for (int64_t i = 0; i < call->n_named; i++) {
        if (call->names[i]->n != strlen(name) || memcmp(call->names[i]->p, name, call->names[i]->n)) continue;
        *out = call->named[i];
        return call->names[i];
    }
    return NULL;
}

static fm_status do_map(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items, attribute = {.kind = J_MISSING}, missing = {.kind = J_NONE}, item;
    int64_t n;
    struct fm__jcall rest = *in->call;
    const struct fm__jstr *filter = NULL;
    FM_TRY(fm__jv_list(run, J_LAZY, 0, out));
    if (!fm__jv_truthy(in->self)) return FM_OK;
    if (!rest.n && keyword(&rest, "attribute", &attribute)) {
        bool has_default = keyword(&rest, "default", &missing) != NULL;
        if (rest.n_named > 1 + has_default) return fm__j_fail(run, FM_E_FORMAT, "map: unexpected named argument");
    } else {
        if (!rest.n) return fm__j_fail(run, FM_E_FORMAT, "map wants a filter or attribute=");
        FM_TRY(fm__j_arg_str(run, rest.v[0], &filter));
        rest.v++, rest.n--;
    }
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    for (int64_t i = 0; i < n; i++) {
        if (filter)
            FM_TRY(fm__j_apply_filter(run, filter, items[i], &rest, &item));
        else
            FM_TRY(get_path_or(run, items[i], attribute, missing, &item));
        FM_TRY(fm__jv_push(run, out->list, item));
    }
    return FM_OK;
}

static fm_status select_items(struct fm__jrun *run, const struct fm__jin *in, bool by_attribute, bool keep,
                              struct fm__jv *out)
{
    struct fm__jv *items, attribute = {.kind = J_MISSING}, item;
    int64_t n;
    struct fm__jcall rest = *in->call;
    const struct fm__jstr *test = NULL;
    FM_TRY(fm__jv_list(run, J_LAZY, 0, out));
    if (!fm__jv_truthy(in->self)) return FM_OK;
    if (by_attribute) {
        if (!rest.n) return fm__j_fail(run, FM_E_FORMAT, "the name of an attribute is missing");
        attribute = rest.v[0];
        rest.v++, rest.n--;
    }
    if (rest.n) {
        FM_TRY(fm__j_arg_str(run, rest.v[0], &test));
        rest.v++, rest.n--;
    }
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    for (int64_t i = 0; i < n; i++) {
        FM_TRY(get_path(run, items[i], attribute, &item));
        bool yes = fm__jv_truthy(item);
        if (test) FM_TRY(fm__j_apply_test(run, test, item, &rest, &yes));
        if (yes == keep) FM_TRY(fm__jv_push(run, out->list, items[i]));
    }
    return FM_OK;
}

static fm_status do_select(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return select_items(run, in, false, true, out);
}

static fm_status do_reject(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return select_items(run, in, false, false, out);
}

static fm_status do_selectattr(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return select_items(run, in, true, true, out);
}

static fm_status do_rejectattr(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return select_items(run, in, true, false, out);
}

// --- sort, dictsort, groupby, unique, min, max, sum ---

// What one merge works on: [0, middle) and [middle, n) of v are sorted; `to` has room for both.
struct merging {
    struct fm__jv *v, *to;
    int64_t middle, n;
    int by;
    bool reverse;
};

// A tie keeps the left one first.
static fm_status merge(struct fm__jrun *run, const struct merging *m)
{
    int64_t i = 0, k = m->middle, at = 0;
    while (i < m->middle && k < m->n) {
        int order;
        FM_TRY(fm__jv_compare(run, m->v[k].list->v[m->by], m->v[i].list->v[m->by], &order));
        bool right = m->reverse ? order == 1 : order == -1;
        m->to[at++] = right ? m->v[k++] : m->v[i++];
    }
    while (i < m->middle) m->to[at++] = m->v[i++];
    while (k < m->n) m->to[at++] = m->v[k++];
    memcpy(m->v, m->to, (size_t)m->n * sizeof *m->v);
    return FM_OK;
}

fm_status fm__j_sort_pairs(struct fm__jrun *run, struct fm__jlist *pairs, int by, bool reverse)
{
    void *memory;
    if (pairs->n < 2) return FM_OK;
    FM_TRY(fm__j_alloc(run, (size_t)pairs->n * sizeof *pairs->v, &memory));
    for (int64_t width = 1; width < pairs->n; width *= 2) {
        for (int64_t i = 0; i + width < pairs->n; i += 2 * width) {
            int64_t n = pairs->n - i < 2 * width ? pairs->n - i : 2 * width;
            struct merging m = {pairs->v + i, memory, width, n, by, reverse};
            FM_TRY(merge(run, &m));
        }
    }
    return FM_OK;
}

// Sorts (key, item) pairs made with the comma separated attributes, then keeps the items.
static fm_status sort_by(struct fm__jrun *run, struct fm__jv value, struct fm__jv attribute, bool case_sensitive,
                         bool reverse, struct fm__jv *pairs)
{
    struct fm__jv *items, key, pair, part;
    int64_t n;
    FM_TRY(fm__jv_iterate(run, value, &items, &n));
    FM_TRY(fm__jv_list(run, J_PLAIN, n, pairs));
    for (int64_t i = 0; i < n; i++) {
        FM_TRY(fm__jv_list(run, J_PLAIN, 1, &key));
        size_t at = 0, length = attribute.kind == J_STR ? attribute.str->n : 0;
        for (bool more = true; more;) {
            struct fm__jv name = attribute;
            size_t end = at;
            while (end < length && attribute.str->p[end] != ',') end++;
            if (length) FM_TRY(fm__jv_view(run, attribute.str->p + at, end - at, &name));
            FM_TRY(get_key(run, items[i], name, case_sensitive, &part));
            FM_TRY(fm__jv_push(run, key.list, part));
            more = end < length;
            at = end + 1;
        }
        FM_TRY(fm__jv_pair(run, key, items[i], &pair));
        FM_TRY(fm__jv_push(run, pairs->list, pair));
    }
    return fm__j_sort_pairs(run, pairs->list, 0, reverse);
}

static fm_status do_sort(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    FM_TRY(sort_by(run, in->self, in->arg[2], truthy_argument(in, 1), truthy_argument(in, 0), out));
    for (int64_t i = 0; i < out->list->n; i++) out->list->v[i] = out->list->v[i].list->v[1];
    return FM_OK;
}

static fm_status do_dictsort(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv by = argument(in, 1, fm__jv_none()), sorted, pair, key;
    bool value = by.kind == J_STR && by.str->n == 5 && !memcmp(by.str->p, "value", 5);
    if (by.kind != J_NONE && !value && (by.kind != J_STR || by.str->n != 3 || memcmp(by.str->p, "key", 3)))
        return fm__j_fail(run, FM_E_FORMAT, "dictsort: by must be \"key\" or \"value\"");
    FM_TRY(fm__j_need_defined(run, in->self));
    if (in->self.kind != J_MAP) return fm__j_fail(run, FM_E_FORMAT, "dictsort of %s", fm__jv_type(in->self));
    FM_TRY(fm__jv_list(run, J_PLAIN, 0, &sorted));
    for (int64_t i = 0; i < in->self.map->n; i++) {
        const struct fm__jentry *e = &in->self.map->e[i];
        key = value ? e->value : e->key;
        if (!truthy_argument(in, 0)) FM_TRY(fold_case(run, &key));
        FM_TRY(fm__jv_pair(run, e->key, e->value, &pair));
        FM_TRY(fm__jv_pair(run, key, pair, &pair));
        FM_TRY(fm__jv_push(run, sorted.list, pair));
    }
    FM_TRY(fm__j_sort_pairs(run, sorted.list, 0, truthy_argument(in, 2)));
    for (int64_t i = 0; i < sorted.list->n; i++) sorted.list->v[i] = sorted.list->v[i].list->v[1];
    *out = sorted;
    return FM_OK;
}

static fm_status do_groupby(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv pairs, group = {.kind = J_MISSING}, key, members = {.kind = J_MISSING};
    FM_TRY(sort_by(run, in->self, in->arg[0], truthy_argument(in, 2), false, &pairs));
    FM_TRY(fm__jv_list(run, J_PLAIN, 0, out));
    for (int64_t i = 0; i < pairs.list->n; i++) {
        struct fm__jv *pair = pairs.list->v[i].list->v;
        bool same = false;
        if (i) FM_TRY(fm__jv_equal(run, pairs.list->v[i - 1].list->v[0], pair[0], &same));
        if (!same) {
            FM_TRY(get_path(run, pair[1], in->arg[0], &key)); // the first one's own spelling
            if (key.kind == J_UNDEFINED) key = argument(in, 1, key);
            FM_TRY(fm__jv_list(run, J_PLAIN, 0, &members));
            FM_TRY(fm__jv_pair(run, key, members, &group));
            group.list->flavor = J_GROUP;
            FM_TRY(fm__jv_push(run, out->list, group));
        }
        FM_TRY(fm__jv_push(run, members.list, pair[1]));
    }
    return FM_OK;
}

static fm_status do_unique(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items, seen, key, *old;
    int64_t n;
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    FM_TRY(fm__jv_list(run, J_LAZY, 0, out));
    FM_TRY(fm__jv_map(run, &seen));
    for (int64_t i = 0; i < n; i++) {
        FM_TRY(get_key(run, items[i], in->arg[1], truthy_argument(in, 0), &key));
        FM_TRY(fm__jv_map_get(run, seen.map, key, &old));
        if (old) continue;
        FM_TRY(fm__jv_map_set(run, seen.map, key, fm__jv_none()));
        FM_TRY(fm__jv_push(run, out->list, items[i]));
    }
    return FM_OK;
}

static fm_status extreme(struct fm__jrun *run, const struct fm__jin *in, int wanted, struct fm__jv *out)
{
    struct fm__jv *items, best, key;
    int64_t n;
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    if (!n) return fm__jv_undefined(run, out, "No aggregated item, sequence was empty.");
    FM_TRY(get_key(run, items[0], in->arg[1], truthy_argument(in, 0), &best));
    *out = items[0];
    for (int64_t i = 1; i < n; i++) {
        int order;
        FM_TRY(get_key(run, items[i], in->arg[1], truthy_argument(in, 0), &key));
        FM_TRY(fm__jv_compare(run, key, best, &order));
        if (order != wanted) continue;
        best = key;
        *out = items[i];
    }
    return FM_OK;
}

static fm_status do_min(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return extreme(run, in, -1, out);
}

static fm_status do_max(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return extreme(run, in, 1, out);
}

static fm_status do_sum(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items, item;
    int64_t n;
    *out = argument(in, 1, fm__jv_int(0));
    if (out->kind == J_STR) return fm__j_fail(run, FM_E_FORMAT, "sum cannot join strings");
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    for (int64_t i = 0; i < n; i++) {
        FM_TRY(get_path(run, items[i], in->arg[0], &item));
        FM_TRY(fm__j_binary(run, '+', *out, item, out));
    }
    return FM_OK;
}

// --- batch, slice ---

static fm_status do_batch(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items, row = {.kind = J_MISSING};
    int64_t n, width;
    FM_TRY(fm__j_arg_int(run, in->arg[0], 0, &width));
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    FM_TRY(fm__jv_list(run, J_LAZY, 0, out));
    for (int64_t i = 0; i < n; i++) {
        if (row.kind == J_MISSING || row.list->n == width) {
            if (i == 0 && width == 0) { // Python starts with the empty row it then finds full
                FM_TRY(fm__jv_list(run, J_PLAIN, 0, &row));
                FM_TRY(fm__jv_push(run, out->list, row));
            }
            FM_TRY(fm__jv_list(run, J_PLAIN, 0, &row));
            FM_TRY(fm__jv_push(run, out->list, row));
        }
        FM_TRY(fm__jv_push(run, row.list, items[i]));
    }
    bool fill = in->arg[1].kind != J_MISSING && in->arg[1].kind != J_NONE && n;
    while (fill && row.list->n < width) FM_TRY(fm__jv_push(run, row.list, in->arg[1]));
    return FM_OK;
}

static fm_status do_slice(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items, row;
    int64_t n, slices, at = 0;
    FM_TRY(fm__j_arg_int(run, in->arg[0], 0, &slices));
    FM_TRY(fm__jv_iterate(run, in->self, &items, &n));
    if (slices == 0) return fm__j_fail(run, FM_E_FORMAT, "slice into 0 parts");
    FM_TRY(fm__jv_list(run, J_LAZY, 0, out));
    for (int64_t i = 0; i < slices; i++) {
        bool longer = i < n % slices;
        FM_TRY(fm__jv_list(run, J_PLAIN, 0, &row));
        for (int64_t k = 0; k < n / slices + longer; k++) FM_TRY(fm__jv_push(run, row.list, items[at++]));
        bool fill = in->arg[1].kind != J_MISSING && in->arg[1].kind != J_NONE && !longer;
        if (fill) FM_TRY(fm__jv_push(run, row.list, in->arg[1]));
        FM_TRY(fm__jv_push(run, out->list, row));
    }
    return FM_OK;
}

const struct fm__jbuiltin fm__j_filters_seq[] = {
    {"first", do_first, "", 0},
    {"last", do_last, "", 0},
    {"join", do_join, "d attribute", 0},
    {"list", do_list, "", 0},
    {"reverse", do_reverse, "", 0},
    {"items", do_items, "", 0},
    {"attr", do_attr, "name", 1},
    {"map", do_map, NULL, 0},
    {"select", do_select, NULL, 0},
    {"reject", do_reject, NULL, 0},
    {"selectattr", do_selectattr, NULL, 0},
    {"rejectattr", do_rejectattr, NULL, 0},
    {"sort", do_sort, "reverse case_sensitive attribute", 0},
    {"dictsort", do_dictsort, "case_sensitive by reverse", 0},
    {"groupby", do_groupby, "attribute default case_sensitive", 1},
    {"unique", do_unique, "case_sensitive attribute", 0},
    {"min", do_min, "case_sensitive attribute", 0},
    {"max", do_max, "case_sensitive attribute", 0},
    {"sum", do_sum, "attribute start", 0},
    {"batch", do_batch, "linecount fill_with", 1},
    {"slice", do_slice, "slices fill_with", 1},
    {NULL, NULL, NULL, 0},
};
