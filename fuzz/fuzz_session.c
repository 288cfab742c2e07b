// SPDX-License-Identifier: MIT
// The header of session files: any bytes, any file size.
#include <string.h>

#include "infer/session_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm__session_header h;
    struct fm_error err;
    uint64_t file_size = size;
    if (size >= 8) memcpy(&file_size, data + size - 8, 8); // lets the fuzzer choose a size that fits the counts
    fm__session_header_read(data, size, size, &h, &err);
    if (fm__session_header_read(data, size, file_size, &h, &err) == FM_OK) {
        uint8_t again[FM__SESSION_HEADER];
        fm__session_header_write(&h, again);
    }
    return 0;
}
