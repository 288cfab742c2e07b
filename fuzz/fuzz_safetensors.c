// SPDX-License-Identifier: MIT
// Any bytes as a safetensors file. What opens covers the data exactly, and is read completely.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_safetensors *s;
    struct fm_error err = {0};
    fm_status status = fm_safetensors_open_memory(data, size, &s, &err);
    if (status != FM_OK) {
        if (s || err.code != status || !err.text[0] || strchr(err.text, '\n')) abort();
        return 0;
    }
    uint64_t n_header, n_data = 0;
    memcpy(&n_header, data, sizeof n_header);
    for (uint64_t i = 0; i < fm_safetensors_n_tensors(s); i++) {
        const struct fm_safetensors_tensor *t = fm_safetensors_tensor_at(s, i);
        if (fm_safetensors_find_tensor(s, t->name.p) != t) abort();
        void *bytes = malloc(t->bytes ? t->bytes : 1);
        if (!bytes || fm_safetensors_read(s, t, 0, bytes, t->bytes, NULL) != FM_OK) abort();
        if (t->bytes && memcmp(bytes, data + t->file_offset, t->bytes)) abort();
        free(bytes);
        n_data += t->bytes;
    }
    if (8 + n_header + n_data != size) abort();
    struct fm_str key, value;
    for (uint64_t i = 0; i < fm_safetensors_n_metadata(s); i++)
        if (!fm_safetensors_metadata_at(s, i, &key, &value) || !fm_safetensors_get(s, key.p, &value)) abort();
    fm_safetensors_close(s);
    return 0;
}
