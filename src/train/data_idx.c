// SPDX-License-Identifier: MIT
#include "train/data_idx.h"

#include <stdbool.h>
#include <zlib.h>

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"

#define FILE_MAX ((size_t)1 << 30)
enum { ELEMENT_MAX = 1 << 24 };

static voidpf zlib_alloc(voidpf context, uInt n, uInt size)
{
    (void)context;
    return fm__calloc(n, size);
}

static void zlib_free(voidpf context, voidpf p)
{
    (void)context;
    fm__free(p);
}

static fm_status open_gzip(struct fm__idx *idx, struct fm_error *err)
{
    z_stream *z = idx->inflate = fm__calloc(1, sizeof *z);
    if (!z) return fm__fail_nomem(err, idx->path, sizeof *z);
    z->zalloc = zlib_alloc, z->zfree = zlib_free;
    z->next_in = (Bytef *)idx->bytes, z->avail_in = (uInt)idx->n;
    if (inflateInit2(z, 15 + 16) == Z_OK) return FM_OK; // the largest window, gzip's header
    fm__free(z);
    idx->inflate = NULL;
    return fm__fail_nomem(err, idx->path, 1 << 15);
}

static fm_status read_head(struct fm__idx *idx, int rank, struct fm_error *err)
{
    uint8_t head[4];
    FM_TRY(fm__idx_read(idx, head, 4, err));
    if (head[0] || head[1] || head[2] != 8 || head[3] != rank)
        return fm__fail(err, FM_E_FORMAT, "%s: begins with %02x%02x%02x%02x, want 000008%02x (bytes of rank %d)",
                        idx->path, head[0], head[1], head[2], head[3], rank, rank);
    uint64_t each = 1;
    for (int i = 0; i < rank; i++) {
        FM_TRY(fm__idx_read(idx, head, 4, err));
        idx->dims[i] = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
        if (i > 0) each *= idx->dims[i];
        if (!idx->dims[i] || each > ELEMENT_MAX)
            return fm__fail(err, FM_E_FORMAT, "%s: dimension %d is %u", idx->path, i + 1, idx->dims[i]);
    }
    return FM_OK;
}

fm_status fm__idx_open(const char *path, int rank, struct fm__idx *out, struct fm_error *err)
{
    *out = (struct fm__idx){.path = path, .dims = {1, 1, 1}};
    fm_status status = fm__file_read_all(path, FILE_MAX, &out->bytes, &out->n, err);
    bool gzip = status == FM_OK && out->n >= 2 && memcmp(out->bytes, "\x1f\x8b", 2) == 0;
    if (gzip) status = open_gzip(out, err);
    if (status == FM_OK) status = read_head(out, rank, err);
    if (status != FM_OK) fm__idx_close(out);
    return status;
}

void fm__idx_close(struct fm__idx *idx)
{
    if (idx->inflate) inflateEnd(idx->inflate);
    fm__free(idx->inflate);
    fm__free(idx->bytes);
    *idx = (struct fm__idx){0};
}

static fm_status inflate_some(struct fm__idx *idx, void *out, size_t n, size_t *got, struct fm_error *err)
{
    z_stream *z = idx->inflate;
    z->next_out = out, z->avail_out = (uInt)n; // at most ELEMENT_MAX
    int code = inflate(z, Z_SYNC_FLUSH);
    *got = n - z->avail_out;
    if (code == Z_MEM_ERROR) return fm__fail_nomem(err, idx->path, 1 << 15);
    if (code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR) return FM_OK; // the last: its input has ended
    return fm__fail(err, FM_E_FORMAT, "%s: its gzip stream is damaged (%s)", idx->path, z->msg ? z->msg : "zlib's no");
}

fm_status fm__idx_read(struct fm__idx *idx, void *out, size_t n, struct fm_error *err)
{
    size_t got = 0;
    if (idx->inflate) {
        FM_TRY(inflate_some(idx, out, n, &got, err));
    } else {
        got = idx->n - idx->at < n ? idx->n - idx->at : n;
        memcpy(out, idx->bytes + idx->at, got);
        idx->at += got;
    }
    if (got < n) return fm__fail(err, FM_E_FORMAT, "%s: ends too early, %zu more bytes are wanted", idx->path, n - got);
    return FM_OK;
}

fm_status fm__idx_end(struct fm__idx *idx, struct fm_error *err)
{
    uint8_t more;
    size_t got = idx->n - idx->at;
    if (idx->inflate) FM_TRY(inflate_some(idx, &more, 1, &got, err));
    if (got) return fm__fail(err, FM_E_FORMAT, "%s: goes on behind its last element", idx->path);
    return FM_OK;
}
