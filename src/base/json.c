// SPDX-License-Identifier: MIT
// JSON through jansson, behind a scan that bounds what its tree can cost.
#include "base/json.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/error.h"

// Set when jansson found no memory in this thread. Not shared, and only read around one call of the parser: jansson
// gives its allocation functions no argument of ours.
static _Thread_local bool no_memory;

static void *allocate(size_t bytes)
{
    void *p = fm__malloc(bytes);
    if (!p) no_memory = true;
    return p;
}

static void install_allocation(void)
{
    json_malloc_t current;
    json_get_alloc_funcs(&current, NULL);
    if (current == malloc) json_set_alloc_funcs(allocate, fm__free); // same heap: what lived before may be freed after
}

// Counts what may start a value (an opening bracket, a comma) and the depth outside strings. Malformed text is the
// parser's business: this only has to count at least as much as the parser will.
static fm_status check_limits(const char *text, size_t n, const struct fm__json_limits *most, struct fm_error *err)
{
    size_t values = 1;
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c == '"') in_string = false;
            continue;
        }
        in_string = c == '"';
        values += c == ',' || c == '[' || c == '{';
        depth += (c == '[' || c == '{') - (c == ']' || c == '}');
        if (depth > most->depth)
            return fm__fail(err, FM_E_LIMIT, "JSON nested deeper than %d (at byte %zu)", most->depth, i);
        if (values > most->values)
            return fm__fail(err, FM_E_LIMIT, "JSON of more than %zu values (at byte %zu)", most->values, i);
    }
    return FM_OK;
}

fm_status fm__json_parse(const char *text, size_t n, const struct fm__json_limits *limits, json_t **out,
                         struct fm_error *err)
{
    *out = NULL;
    struct fm__json_limits most = {.bytes = 100 * 1000 * 1000, .values = (size_t)1 << 22, .depth = 64};
    if (limits && limits->bytes) most.bytes = limits->bytes;
    if (limits && limits->values) most.values = limits->values;
    if (limits && limits->depth) most.depth = limits->depth;
    if (n > most.bytes) return fm__fail(err, FM_E_LIMIT, "JSON of %zu bytes, want at most %zu", n, most.bytes);
    FM_TRY(check_limits(text, n, &most, err));
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_allocation);
    json_error_t e = {0};
    no_memory = false;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (*out && !no_memory) return FM_OK;
    json_decref(*out);
    *out = NULL;
    if (no_memory || json_error_code(&e) == json_error_out_of_memory) return fm__fail_nomem(err, "JSON", n);
    for (char *p = e.text; *p; p++) // it quotes the input
        if ((unsigned char)*p < ' ' || (unsigned char)*p > 126) *p = '?';
    return fm__fail(err, FM_E_FORMAT, "JSON line %d column %d (at byte %d): %s", e.line, e.column, e.position, e.text);
}
