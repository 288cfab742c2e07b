// SPDX-License-Identifier: MIT
#include "format/source.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"

fm_status fm__source_open(const char *path, struct fm__source *out, struct fm_error *err)
{
    *out = (struct fm__source){.file.fd = -1};
    FM_TRY(fm__file_open(path, &out->file, err));
    out->size = out->file.size;
    return FM_OK;
}

struct fm__source fm__source_of_memory(const void *bytes, size_t n)
{
    static const uint8_t none[1]; // NULL would mean a file
    return (struct fm__source){.file.fd = -1, .bytes = n ? bytes : none, .size = n};
}

void fm__source_close(struct fm__source *source)
{
    fm__file_close(&source->file);
    *source = (struct fm__source){.file.fd = -1};
}

fm_status fm__source_read(const struct fm__source *source, uint64_t offset, void *dst, size_t n, struct fm_error *err)
{
    if (!source->bytes) return fm__file_pread(&source->file, offset, dst, n, err);
    if (offset > source->size || n > source->size - offset)
        return fm__fail(err, FM_E_IO, "bytes end at %" PRIu64 ", want %zu at %" PRIu64, source->size, n, offset);
    if (n) memcpy(dst, source->bytes + offset, n);
    return FM_OK;
}
