// SPDX-License-Identifier: MIT
// JSON text to values, through jansson. Numbers outside of 64 bits and duplicate keys are handled as json.loads does as
// far as the values can hold them (the last key wins; a larger integer is an error).
#include <jansson.h>
#include <string.h>

#include "text/jinja_run.h"

static fm_status convert(struct fm__jrun *run, const json_t *json, int depth, struct fm__jv *out);

static fm_status convert_array(struct fm__jrun *run, const json_t *json, int depth, struct fm__jv *out)
{
    size_t n = json_array_size(json);
    FM_TRY(fm__jv_list(run, J_PLAIN, (int64_t)n, out));
    for (size_t i = 0; i < n; i++) {
        struct fm__jv item;
        FM_TRY(convert(run, json_array_get(json, i), depth + 1, &item));
        FM_TRY(fm__jv_push(run, out->list, item));
    }
    return FM_OK;
}

static fm_status convert_object(struct fm__jrun *run, json_t *json, int depth, struct fm__jv *out)
{
    FM_TRY(fm__jv_map(run, out));
    for (void *at = json_object_iter(json); at; at = json_object_iter_next(json, at)) {
        struct fm__jv key, value;
        FM_TRY(fm__jv_text(run, json_object_iter_key(at), &key));
        FM_TRY(convert(run, json_object_iter_value(at), depth + 1, &value));
        FM_TRY(fm__jv_map_set(run, out->map, key, value));
    }
    return FM_OK;
}

static fm_status convert(struct fm__jrun *run, const json_t *json, int depth, struct fm__jv *out)
{
    if (depth > FM__J_MAX_VALUE_DEPTH)
        return fm__fail(run->err, FM_E_LIMIT, "JSON nested more than %d deep", FM__J_MAX_VALUE_DEPTH);
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return convert_object(run, (json_t *)(uintptr_t)json, depth, out); // iterators want it mutable
    case JSON_ARRAY:
        return convert_array(run, json, depth, out);
    case JSON_STRING:
        return fm__jv_str(run, json_string_value(json), json_string_length(json), out);
    case JSON_INTEGER:
        *out = fm__jv_int(json_integer_value(json));
        return FM_OK;
    case JSON_REAL:
        *out = fm__jv_float(json_real_value(json));
        return FM_OK;
    case JSON_TRUE:
        *out = fm__jv_bool(true);
        return FM_OK;
    case JSON_FALSE:
        *out = fm__jv_bool(false);
        return FM_OK;
    case JSON_NULL:
        break;
    }
    *out = fm__jv_none();
    return FM_OK;
}

fm_status fm__jv_from_json(struct fm__jrun *run, const char *what, const char *text, size_t n, struct fm__jv *out)
{
    json_error_t problem;
    json_t *json = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    if (!json) {
        bool memory = json_error_code(&problem) == json_error_out_of_memory;
        return fm__fail(run->err, memory ? FM_E_NOMEM : FM_E_FORMAT, "%s: line %d: %s", what, problem.line,
                        problem.text);
    }
    fm_status status = convert(run, json, 0, out);
    json_decref(json);
    return status;
}
