// SPDX-License-Identifier: MIT
// Methods of str, counting characters and not bytes. Work is accounted where bytes are read.
#include <string.h>

#include "text/jinja_run.h"
#include "text/jinja_unicode.h"

// Upper, lower or title case of all characters, word by word for title.
enum caser { UPPER, LOWER, TITLE, CAPITAL, SWAP };

static fm_status recase(struct fm__jrun *run, const struct fm__jstr *s, enum caser how, struct fm__jv *out)
{
    struct fm__jbuf buf = {0};
    bool word = false;
    for (size_t at = 0; at < s->n;) {
        int len, n;
        int32_t c = fm__utf8_get(s->p + at, s->n - at, &len), to[3];
        bool cased = fm__uni_is_upper(c) || fm__uni_is_lower(c);
        bool title = (how == TITLE && !word) || (how == CAPITAL && at == 0);
        if (how == UPPER || (how == SWAP && fm__uni_is_lower(c)))
            n = fm__uni_upper(c, to);
        else
            n = title ? fm__uni_title(c, to) : fm__uni_lower(c, to);
        for (int i = 0; i < n; i++) FM_TRY(fm__jbuf_code(run, &buf, to[i]));
        word = cased;
        at += (size_t)len;
    }
    return fm__jbuf_value(run, &buf, out);
}

#define RECASE(name, how)                                                                     \
    static fm_status name(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out) \
    {                                                                                         \
        return recase(run, in->self.str, how, out);                                           \
    }
RECASE(str_upper, UPPER)
RECASE(str_lower, LOWER)
RECASE(str_title, TITLE)
RECASE(str_capitalize, CAPITAL)
RECASE(str_swapcase, SWAP)

static bool in_set(int32_t c, const struct fm__jstr *set)
{
    if (!set) return fm__uni_is_space(c);
    for (size_t at = 0; at < set->n;) {
        int len;
        if (fm__utf8_get(set->p + at, set->n - at, &len) == c) return true;
        at += (size_t)len;
    }
    return false;
}

static fm_status strip(struct fm__jrun *run, const struct fm__jin *in, bool left, bool right, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, *set = NULL;
    if (in->arg[0].kind != J_MISSING && in->arg[0].kind != J_NONE) FM_TRY(fm__j_arg_str(run, in->arg[0], &set));
    size_t begin = 0, end = s->n;
    int len;
    while (left && begin < end && in_set(fm__utf8_get(s->p + begin, end - begin, &len), set)) {
        begin += (size_t)len;
        FM_TRY(fm__j_work(run, set ? set->n : 0));
    }
    while (right && end > begin) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)s->p[last] & 0xc0) == 0x80) last--;
        if (!in_set(fm__utf8_get(s->p + last, end - last, &len), set)) break;
        end = last;
        FM_TRY(fm__j_work(run, set ? set->n : 0));
    }
    return fm__jv_view(run, s->p + begin, end - begin, out);
}

static fm_status str_strip(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return strip(run, in, true, true, out);
}

static fm_status str_lstrip(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return strip(run, in, true, false, out);
}

static fm_status str_rstrip(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return strip(run, in, false, true, out);
}

static const char *find_last(const char *p, size_t n, const struct fm__jstr *what)
{
    for (size_t at = n + 1; at-- > 0;) {
        if (n - at >= what->n && !memcmp(p + at, what->p, what->n)) return p + at;
    }
    return NULL;
}

// [start, stop) of characters, as arguments 1 and 2 give it, in bytes. False when start is beyond the end.
static fm_status range_of(struct fm__jrun *run, const struct fm__jin *in, size_t *begin, size_t *end, bool *valid)
{
    const struct fm__jstr *s = in->self.str;
    int64_t n = (int64_t)s->chars, bounds[2] = {0, n};
    for (int i = 0; i < 2; i++) {
        if (in->arg[i + 1].kind != J_NONE) FM_TRY(fm__j_arg_int(run, in->arg[i + 1], bounds[i], &bounds[i]));
        if (bounds[i] < 0) bounds[i] = bounds[i] < -n ? 0 : bounds[i] + n;
    }
    *valid = bounds[0] <= n && bounds[0] <= bounds[1];
    if (bounds[1] > n) bounds[1] = n;
    if (!*valid || bounds[0] > bounds[1]) return FM_OK;
    FM_TRY(fm__j_work(run, s->n));
    *begin = fm__utf8_offset(s->p, s->n, (size_t)bounds[0]);
    *end = *begin + fm__utf8_offset(s->p + *begin, s->n - *begin, (size_t)(bounds[1] - bounds[0]));
    return FM_OK;
}

static fm_status find(struct fm__jrun *run, const struct fm__jin *in, bool last, int64_t *at)
{
    const struct fm__jstr *s = in->self.str, *what;
    size_t begin = 0, end = 0;
    bool valid;
    *at = -1;
    FM_TRY(fm__j_arg_str(run, in->arg[0], &what));
    FM_TRY(range_of(run, in, &begin, &end, &valid));
    if (!valid) return FM_OK;
    FM_TRY(fm__j_work(run, (end - begin) * (last ? what->n + 1 : 1)));
    const char *hit = last      ? find_last(s->p + begin, end - begin, what)
                      : what->n ? memmem(s->p + begin, end - begin, what->p, what->n)
                                : s->p + begin;
    if (hit) *at = (int64_t)fm__utf8_chars(s->p, (size_t)(hit - s->p));
    return FM_OK;
}

static fm_status str_find(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    *out = fm__jv_int(-1);
    return find(run, in, false, &out->i);
}

static fm_status str_rfind(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    *out = fm__jv_int(-1);
    return find(run, in, true, &out->i);
}

static fm_status str_index(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    FM_TRY(str_find(run, in, out));
    return out->i < 0 ? fm__j_fail(run, FM_E_FORMAT, "substring not found") : FM_OK;
}

static fm_status str_rindex(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    FM_TRY(str_rfind(run, in, out));
    return out->i < 0 ? fm__j_fail(run, FM_E_FORMAT, "substring not found") : FM_OK;
}

static fm_status str_count(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, *what;
    size_t begin = 0, end = 0;
    bool valid;
    FM_TRY(fm__j_arg_str(run, in->arg[0], &what));
    FM_TRY(range_of(run, in, &begin, &end, &valid));
    *out = fm__jv_int(0);
    if (!valid) return FM_OK;
    if (!what->n) {
        out->i = (int64_t)fm__utf8_chars(s->p + begin, end - begin) + 1;
        return FM_OK;
    }
    const char *p = s->p + begin;
    while ((p = memmem(p, (size_t)(s->p + end - p), what->p, what->n)) != NULL) out->i++, p += what->n;
    return FM_OK;
}

static fm_status starts_or_ends(struct fm__jrun *run, const struct fm__jin *in, bool ends, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str;
    struct fm__jv one = in->arg[0], *options = &one;
    int64_t n = 1;
    if (one.kind == J_LIST && one.list->flavor == J_TUPLE) options = one.list->v, n = one.list->n;
    size_t begin = 0, end = 0;
    bool valid;
    FM_TRY(range_of(run, in, &begin, &end, &valid));
    *out = fm__jv_bool(false);
    for (int64_t i = 0; i < n; i++) {
        const struct fm__jstr *what;
        FM_TRY(fm__j_arg_str(run, options[i], &what));
        if (!valid || what->n > end - begin) continue;
        FM_TRY(fm__j_work(run, what->n));
        const char *p = ends ? s->p + end - what->n : s->p + begin;
        if (!what->n || !memcmp(p, what->p, what->n)) out->b = true;
    }
    return FM_OK;
}

static fm_status str_startswith(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return starts_or_ends(run, in, false, out);
}

static fm_status str_endswith(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return starts_or_ends(run, in, true, out);
}

static fm_status remove_affix(struct fm__jrun *run, const struct fm__jin *in, bool suffix, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, *what;
    FM_TRY(fm__j_arg_str(run, in->arg[0], &what));
    *out = in->self;
    if (!what->n || what->n > s->n || memcmp(suffix ? s->p + s->n - what->n : s->p, what->p, what->n)) return FM_OK;
    return fm__jv_view(run, suffix ? s->p : s->p + what->n, s->n - what->n, out);
}

static fm_status str_removeprefix(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return remove_affix(run, in, false, out);
}

static fm_status str_removesuffix(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return remove_affix(run, in, true, out);
}

// Text between every pair of characters and at both ends.
static fm_status replace_nothing(struct fm__jrun *run, const struct fm__jstr *s, const struct fm__jstr *to,
                                 int64_t count, struct fm__jv *out)
{
    struct fm__jbuf buf = {0};
    size_t at = 0;
    for (; count != 0; count--) {
        FM_TRY(fm__jbuf_add(run, &buf, to->p, to->n));
        if (at >= s->n) break;
        size_t len = (size_t)fm__utf8_len(s->p + at);
        FM_TRY(fm__jbuf_add(run, &buf, s->p + at, len));
        at += len;
    }
    FM_TRY(fm__jbuf_add(run, &buf, s->p + at, s->n - at));
    return fm__jbuf_value(run, &buf, out);
}

static fm_status str_replace(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, *from, *to;
    int64_t count;
    FM_TRY(fm__j_arg_str(run, in->arg[0], &from));
    FM_TRY(fm__j_arg_str(run, in->arg[1], &to));
    FM_TRY(fm__j_arg_int(run, in->arg[2], -1, &count));
    if (!from->n) return replace_nothing(run, s, to, count, out);
    struct fm__jbuf buf = {0};
    const char *p = s->p, *end = s->p + s->n, *hit;
    for (; count != 0 && p < end && (hit = memmem(p, (size_t)(end - p), from->p, from->n)) != NULL; count--) {
        FM_TRY(fm__jbuf_add(run, &buf, p, (size_t)(hit - p)));
        FM_TRY(fm__jbuf_add(run, &buf, to->p, to->n));
        p = hit + from->n;
    }
    FM_TRY(fm__jbuf_add(run, &buf, p, (size_t)(end - p)));
    return fm__jbuf_value(run, &buf, out);
}

static fm_status push_piece(struct fm__jrun *run, struct fm__jv *list, const char *p, const char *end)
{
    struct fm__jv piece;
    FM_TRY(fm__jv_view(run, p, (size_t)(end - p), &piece));
    return fm__jv_push(run, list->list, piece);
}

static const char *skip_class(const char *p, const char *end, bool space)
{
    int len;
    while (p < end && fm__uni_is_space(fm__utf8_get(p, (size_t)(end - p), &len)) == space) p += len;
    return p;
}

// Words between whitespace; after `max` cuts the rest as it is.
static fm_status split_words(struct fm__jrun *run, const struct fm__jstr *s, int64_t max, struct fm__jv *out)
{
    const char *end = s->p + s->n, *p = skip_class(s->p, end, true);
    while (p < end) {
        const char *stop = max-- == 0 ? end : skip_class(p, end, false);
        FM_TRY(push_piece(run, out, p, stop));
        p = skip_class(stop, end, true);
    }
    return FM_OK;
}

static fm_status str_split(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, *by;
    int64_t max;
    FM_TRY(fm__j_arg_int(run, in->arg[1], -1, &max));
    FM_TRY(fm__j_work(run, s->n));
    FM_TRY(fm__jv_list(run, J_PLAIN, 0, out));
    if (max < 0) max = INT64_MAX;
    if (in->arg[0].kind == J_MISSING || in->arg[0].kind == J_NONE) return split_words(run, s, max, out);
    FM_TRY(fm__j_arg_str(run, in->arg[0], &by));
    if (!by->n) return fm__j_fail(run, FM_E_FORMAT, "empty separator");
    const char *p = s->p, *end = s->p + s->n, *hit;
    for (; max > 0 && (hit = memmem(p, (size_t)(end - p), by->p, by->n)) != NULL; max--) {
        FM_TRY(push_piece(run, out, p, hit));
        p = hit + by->n;
    }
    return push_piece(run, out, p, end);
}

static fm_status reverse_list(struct fm__jlist *list)
{
    for (int64_t i = 0; i < list->n / 2; i++) {
        struct fm__jv swap = list->v[i];
        list->v[i] = list->v[list->n - 1 - i];
        list->v[list->n - 1 - i] = swap;
    }
    return FM_OK;
}

static fm_status str_rsplit(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, *by;
    int64_t max;
    FM_TRY(fm__j_arg_int(run, in->arg[1], -1, &max));
    if (max < 0) return str_split(run, in, out);
    if (in->arg[0].kind == J_MISSING || in->arg[0].kind == J_NONE)
        return fm__j_fail(run, FM_E_UNSUPPORTED, "rsplit by whitespace with a limit is not supported");
    FM_TRY(fm__j_arg_str(run, in->arg[0], &by));
    if (!by->n) return fm__j_fail(run, FM_E_FORMAT, "empty separator");
    FM_TRY(fm__jv_list(run, J_PLAIN, 0, out));
    const char *end = s->p + s->n, *hit;
    for (; max > 0; max--) {
        FM_TRY(fm__j_work(run, (size_t)(end - s->p) * (by->n + 1)));
        hit = find_last(s->p, (size_t)(end - s->p), by);
        if (!hit) break;
        FM_TRY(push_piece(run, out, hit + by->n, end));
        end = hit;
    }
    FM_TRY(push_piece(run, out, s->p, end));
    return reverse_list(out->list);
}

static fm_status partition(struct fm__jrun *run, const struct fm__jin *in, bool last, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, *by;
    FM_TRY(fm__j_arg_str(run, in->arg[0], &by));
    if (!by->n) return fm__j_fail(run, FM_E_FORMAT, "empty separator");
    FM_TRY(fm__j_work(run, s->n * (last ? by->n + 1 : 1)));
    const char *end = s->p + s->n, *hit = last ? find_last(s->p, s->n, by) : memmem(s->p, s->n, by->p, by->n);
    const char *a = hit ? hit : last ? s->p : end, *b = hit ? hit + by->n : a;
    FM_TRY(fm__jv_list(run, J_TUPLE, 3, out));
    FM_TRY(push_piece(run, out, s->p, a));
    FM_TRY(push_piece(run, out, a, b));
    return push_piece(run, out, b, end);
}

static fm_status str_partition(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return partition(run, in, false, out);
}

static fm_status str_rpartition(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return partition(run, in, true, out);
}

// Where str.splitlines ends a line.
static bool is_line_end(int32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

static fm_status str_splitlines(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str;
    bool keep = in->arg[0].kind != J_MISSING && fm__jv_truthy(in->arg[0]);
    FM_TRY(fm__jv_list(run, J_PLAIN, 0, out));
    size_t begin = 0;
    for (size_t at = 0; at < s->n;) {
        int len;
        int32_t c = fm__utf8_get(s->p + at, s->n - at, &len);
        size_t end = at;
        at += (size_t)len;
        if (!is_line_end(c)) continue;
        if (c == '\r' && at < s->n && s->p[at] == '\n') at++;
        FM_TRY(push_piece(run, out, s->p + begin, s->p + (keep ? at : end)));
        begin = at;
    }
    return begin < s->n ? push_piece(run, out, s->p + begin, s->p + s->n) : FM_OK;
}

static fm_status str_join(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    struct fm__jv *items;
    int64_t n;
    struct fm__jbuf buf = {0};
    FM_TRY(fm__jv_iterate(run, in->arg[0], &items, &n));
    for (int64_t i = 0; i < n; i++) {
        const struct fm__jstr *item;
        FM_TRY(fm__j_arg_str(run, items[i], &item));
        if (i) FM_TRY(fm__jbuf_add(run, &buf, in->self.str->p, in->self.str->n));
        FM_TRY(fm__jbuf_add(run, &buf, item->p, item->n));
    }
    return fm__jbuf_value(run, &buf, out);
}

// `align`: < > or ^.
static fm_status pad(struct fm__jrun *run, const struct fm__jin *in, char align, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str, space = {.p = " ", .n = 1, .chars = 1}, *fill = &space;
    int64_t width, n = (int64_t)s->chars;
    FM_TRY(fm__j_arg_int(run, in->arg[0], 0, &width));
    if (in->arg[1].kind != J_MISSING) FM_TRY(fm__j_arg_str(run, in->arg[1], &fill));
    if (fill->chars != 1) return fm__j_fail(run, FM_E_FORMAT, "the fill character must be one character");
    *out = in->self;
    if (width <= n) return FM_OK;
    int64_t room = width - n;
    int64_t left = align == '<' ? 0 : align == '>' ? room : room / 2 + (room & width & 1); // CPython's centre
    struct fm__jbuf buf = {0};
    for (int64_t i = 0; i < left; i++) FM_TRY(fm__jbuf_add(run, &buf, fill->p, fill->n));
    FM_TRY(fm__jbuf_add(run, &buf, s->p, s->n));
    for (int64_t i = left; i < room; i++) FM_TRY(fm__jbuf_add(run, &buf, fill->p, fill->n));
    return fm__jbuf_value(run, &buf, out);
}

static fm_status str_ljust(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return pad(run, in, '<', out);
}

static fm_status str_rjust(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return pad(run, in, '>', out);
}

static fm_status str_center(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return pad(run, in, '^', out);
}

static fm_status str_zfill(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    const struct fm__jstr *s = in->self.str;
    int64_t width;
    FM_TRY(fm__j_arg_int(run, in->arg[0], 0, &width));
    struct fm__jbuf buf = {0};
    size_t sign = s->n && (s->p[0] == '+' || s->p[0] == '-');
    FM_TRY(fm__jbuf_add(run, &buf, s->p, sign));
    FM_TRY(fm__jbuf_fill(run, &buf, '0', width - (int64_t)s->chars));
    FM_TRY(fm__jbuf_add(run, &buf, s->p + sign, s->n - sign));
    return fm__jbuf_value(run, &buf, out);
}

// True when there is at least one character and `is` holds for all.
static fm_status all_are(struct fm__jrun *run, const struct fm__jstr *s, bool (*is)(int32_t code), struct fm__jv *out)
{
    FM_TRY(fm__j_work(run, s->n));
    *out = fm__jv_bool(s->n > 0);
    for (size_t at = 0; at < s->n && out->b;) {
        int len;
        out->b = is(fm__utf8_get(s->p + at, s->n - at, &len));
        at += (size_t)len;
    }
    return FM_OK;
}

static bool is_alnum(int32_t c)
{
    return fm__uni_is_alpha(c) || fm__uni_is_digit(c);
}

static bool is_ascii(int32_t c)
{
    return c < 128;
}

#define ALL_ARE(name, is)                                                                     \
    static fm_status name(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out) \
    {                                                                                         \
        return all_are(run, in->self.str, is, out);                                           \
    }
ALL_ARE(str_isalpha, fm__uni_is_alpha)
ALL_ARE(str_isdigit, fm__uni_is_digit)
ALL_ARE(str_isalnum, is_alnum)
ALL_ARE(str_isspace, fm__uni_is_space)

static fm_status str_isascii(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    FM_TRY(all_are(run, in->self.str, is_ascii, out));
    out->b |= in->self.str->n == 0;
    return FM_OK;
}

static fm_status all_cased(struct fm__jrun *run, const struct fm__jstr *s, bool upper, struct fm__jv *out)
{
    FM_TRY(fm__j_work(run, s->n));
    *out = fm__jv_bool(false);
    for (size_t at = 0; at < s->n;) {
        int len;
        int32_t c = fm__utf8_get(s->p + at, s->n - at, &len);
        bool is_upper = fm__uni_is_upper(c), is_lower = fm__uni_is_lower(c);
        if (upper ? is_lower : is_upper) {
            out->b = false;
            return FM_OK;
        }
        out->b |= upper ? is_upper : is_lower;
        at += (size_t)len;
    }
    return FM_OK;
}

static fm_status str_isupper(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return all_cased(run, in->self.str, true, out);
}

static fm_status str_islower(struct fm__jrun *run, const struct fm__jin *in, struct fm__jv *out)
{
    return all_cased(run, in->self.str, false, out);
}

const struct fm__jbuiltin fm__j_str_methods[] = {
    {"strip", str_strip, "chars", 0},
    {"lstrip", str_lstrip, "chars", 0},
    {"rstrip", str_rstrip, "chars", 0},
    {"split", str_split, "sep maxsplit", 0},
    {"rsplit", str_rsplit, "sep maxsplit", 0},
    {"splitlines", str_splitlines, "keepends", 0},
    {"startswith", str_startswith, "prefix start end", 1},
    {"endswith", str_endswith, "suffix start end", 1},
    {"removeprefix", str_removeprefix, "prefix", 1},
    {"removesuffix", str_removesuffix, "suffix", 1},
    {"upper", str_upper, "", 0},
    {"lower", str_lower, "", 0},
    {"casefold", str_lower, "", 0},
    {"title", str_title, "", 0},
    {"capitalize", str_capitalize, "", 0},
    {"swapcase", str_swapcase, "", 0},
    {"replace", str_replace, "old new count", 2},
    {"find", str_find, "sub start end", 1},
    {"rfind", str_rfind, "sub start end", 1},
    {"index", str_index, "sub start end", 1},
    {"rindex", str_rindex, "sub start end", 1},
    {"count", str_count, "sub start end", 1},
    {"join", str_join, "iterable", 1},
    {"partition", str_partition, "sep", 1},
    {"rpartition", str_rpartition, "sep", 1},
    {"ljust", str_ljust, "width fillchar", 1},
    {"rjust", str_rjust, "width fillchar", 1},
    {"center", str_center, "width fillchar", 1},
    {"zfill", str_zfill, "width", 1},
    {"format", fm__j_str_format, NULL, 0},
    {"isalpha", str_isalpha, "", 0},
    {"isdigit", str_isdigit, "", 0},
    {"isdecimal", str_isdigit, "", 0},
    {"isnumeric", str_isdigit, "", 0},
    {"isalnum", str_isalnum, "", 0},
    {"isspace", str_isspace, "", 0},
    {"isascii", str_isascii, "", 0},
    {"isupper", str_isupper, "", 0},
    {"islower", str_islower, "", 0},
    {"encode", NULL, "", 0},
    {"expandtabs", NULL, "", 0},
    {"format_map", NULL, "", 0},
    {"isidentifier", NULL, "", 0},
    {"isprintable", NULL, "", 0},
    {"istitle", NULL, "", 0},
    {"maketrans", NULL, "", 0},
    {"translate", NULL, "", 0},
    {NULL, NULL, NULL, 0},
};
