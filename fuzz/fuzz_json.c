// SPDX-License-Identifier: MIT
// Any bytes as JSON: what parses, written and parsed again, is equal; what does not is described in one line.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct fm__json_limits limits = {.bytes = 1 << 16, .values = 1000, .depth = 20};
    struct fm_error err = {0};
    json_t *value, *again;
    fm_status status = fm__json_parse((const char *)data, size, &limits, &value, &err);
    if (status != FM_OK) {
        if (value || err.code != status || !err.text[0] || strchr(err.text, '\n')) abort();
        return 0;
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    if (!text || fm__json_parse(text, strlen(text), NULL, &again, NULL) != FM_OK || !json_equal(value, again)) abort();
    fm__free(text);
    json_decref(value);
    json_decref(again);
    return 0;
}
