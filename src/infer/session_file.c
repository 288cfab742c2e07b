// SPDX-License-Identifier: MIT
// Saving and loading sessions. A file is checked whole (checksum, model, format, sizes) before the session changes.
#include "infer/session_file.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "infer/batcher.h"

static const uint8_t magic[8] = {'F', 'M', 'S', 'E', 'S', 'S', '0', '2'};

void fm__session_header_write(const struct fm__session_header *h, uint8_t bytes[FM__SESSION_HEADER])
{
    memset(bytes, 0, FM__SESSION_HEADER);
    memcpy(bytes, magic, 8);
    memcpy(bytes + 8, &h->fingerprint, 8);
    for (int i = 0; i < 16 && h->kv_format[i]; i++) bytes[16 + i] = (uint8_t)h->kv_format[i];
    memcpy(bytes + 32, &h->page_bytes, 8);
    memcpy(bytes + 40, (const uint32_t[]){h->n_layers, h->n_tokens, h->n_done, h->n_vocab}, 16);
    memcpy(bytes + 56, h->adapter, FM__SESSION_ADAPTER);
}

// Bytes of the whole file that such a header announces; false on overflow.
static bool announced_size(const struct fm__session_header *h, uint64_t *size)
{
    uint64_t n_pages = ((uint64_t)h->n_done + FM__KV_BLOCK - 1) / FM__KV_BLOCK, pages;
    if (__builtin_mul_overflow(n_pages * h->n_layers, h->page_bytes, &pages)) return false; // first product < 2^58
    return !__builtin_add_overflow(pages, FM__SESSION_HEADER + FM__SHA256_BYTES + 4 * (uint64_t)h->n_tokens, size);
}

fm_status fm__session_header_read(const uint8_t *bytes, size_t n, uint64_t file_size, struct fm__session_header *h,
                                  struct fm_error *err)
{
    *h = (struct fm__session_header){0};
    if (n < FM__SESSION_HEADER)
        return fm__fail(err, FM_E_FORMAT, "session file: %zu bytes, want at least %d", n, FM__SESSION_HEADER);
    if (memcmp(bytes, magic, 8)) return fm__fail(err, FM_E_FORMAT, "session file: magic is not FMSESS02");
    uint32_t counts[4];
    memcpy(&h->fingerprint, bytes + 8, 8);
    memcpy(h->kv_format, bytes + 16, 16);
    memcpy(&h->page_bytes, bytes + 32, 8);
    memcpy(counts, bytes + 40, sizeof counts);
    memcpy(h->adapter, bytes + 56, FM__SESSION_ADAPTER);
    h->n_layers = counts[0], h->n_tokens = counts[1], h->n_done = counts[2], h->n_vocab = counts[3];
    uint64_t want;
    if (h->n_done > h->n_tokens || h->n_tokens > INT32_MAX || !announced_size(h, &want) || want != file_size)
        return fm__fail(
            err, FM_E_FORMAT,
            "session file: %u of %u tokens, %u layers, pages of %llu bytes do not make a file of %llu bytes", h->n_done,
            h->n_tokens, h->n_layers, (unsigned long long)h->page_bytes, (unsigned long long)file_size);
    return FM_OK;
}

static struct fm__session_header header_of(const struct fm_session *s)
{
    const struct fm_batcher *b = s->batcher;
    const struct fm__hparams *hp = fm__model_hparams(b->model);
    struct fm__session_header h = {.fingerprint = fm__model_fingerprint(b->model),
                                   .page_bytes = b->page_bytes,
                                   .n_layers = (uint32_t)hp->n_layers,
                                   .n_tokens = (uint32_t)s->n_tokens,
                                   .n_done = (uint32_t)s->n_done,
                                   .n_vocab = (uint32_t)hp->n_vocab};
    fm__adapter_set_id(b->dims.adapters, s->adapter, h.adapter);
    strncpy(h.kv_format, fm__kv_format(b->dims.kv_format)->name, sizeof h.kv_format - 1);
    return h;
}

static fm_status put(struct fm__file_writer *w, struct fm__sha256 *hash, const void *bytes, size_t n,
                     struct fm_error *err)
{
    FM_TRY(fm__sha256_update(hash, bytes, n, err));
    return fm__file_writer_write(w, bytes, n, err);
}

static fm_status write_session(const struct fm_session *s, struct fm__file_writer *w, struct fm__sha256 *hash,
                               void *page, struct fm_error *err)
{
    struct fm__session_header h = header_of(s);
    uint8_t bytes[FM__SESSION_HEADER], digest[FM__SHA256_BYTES];
    fm__session_header_write(&h, bytes);
    FM_TRY(put(w, hash, bytes, sizeof bytes, err));
    FM_TRY(put(w, hash, s->tokens, (size_t)s->n_tokens * sizeof *s->tokens, err));
    for (int i = 0; i < (s->n_done + FM__KV_BLOCK - 1) / FM__KV_BLOCK; i++)
        for (uint32_t layer = 0; layer < h.n_layers; layer++) {
            FM_TRY(fm__batcher_read_page(s->batcher, (int)layer, s->pages[i], page, err));
            FM_TRY(put(w, hash, page, h.page_bytes, err));
        }
    FM_TRY(fm__sha256_final(hash, digest, err));
    FM_TRY(fm__file_writer_write(w, digest, sizeof digest, err));
    return fm__file_writer_commit(w, err);
}

fm_status fm_session_save(const struct fm_session *s, const char *path, struct fm_error *err)
{
    struct fm__file_writer *w = NULL;
    struct fm__sha256 *hash = fm__sha256_new();
    void *page = fm__malloc(s->batcher->page_bytes);
    fm_status status = hash && page ? fm__file_writer_open(path, &w, err)
                                    : fm__fail_nomem(err, "session file", s->batcher->page_bytes);
    if (status == FM_OK) status = write_session(s, w, hash, page, err);
    fm__file_writer_close(w);
    fm__sha256_free(hash);
    fm__free(page);
    return status;
}

// The file's last 32 bytes against the hash of the others.
static fm_status check_sum(const struct fm__file *file, struct fm_error *err)
{
    enum { PIECE = 1 << 20 };
    uint8_t digest[FM__SHA256_BYTES] = {0}, stored[FM__SHA256_BYTES] = {0}, *piece = fm__malloc(PIECE);
    struct fm__sha256 *hash = fm__sha256_new();
    fm_status status = piece && hash ? FM_OK : fm__fail_nomem(err, "session file", PIECE);
    uint64_t end = file->size - FM__SHA256_BYTES;
    for (uint64_t at = 0; status == FM_OK && at < end; at += PIECE) {
        size_t n = end - at < PIECE ? (size_t)(end - at) : PIECE;
        status = fm__file_pread(file, at, piece, n, err);
        if (status == FM_OK) status = fm__sha256_update(hash, piece, n, err);
    }
    if (status == FM_OK) status = fm__sha256_final(hash, digest, err);
    if (status == FM_OK) status = fm__file_pread(file, end, stored, sizeof stored, err);
    if (status == FM_OK && memcmp(digest, stored, sizeof digest))
        status = fm__fail(err, FM_E_VERIFY, "session file: checksum does not match, the file is damaged");
    fm__sha256_free(hash);
    fm__free(piece);
    return status;
}

static fm_status check_model(const struct fm_session *s, const struct fm__session_header *h, struct fm_error *err)
{
    struct fm__session_header want = header_of(s);
    if (h->fingerprint != want.fingerprint || h->n_layers != want.n_layers || h->n_vocab != want.n_vocab)
        return fm__fail(err, FM_E_VERIFY, "session file: made with another model (or other RoPE settings)");
    if (strcmp(h->kv_format, want.kv_format) || h->page_bytes != want.page_bytes)
        return fm__fail(err, FM_E_VERIFY, "session file: kv format %s, want %s", h->kv_format, want.kv_format);
    return FM_OK;
}

// The batcher's choice with the file's hash; -1 for none.
static fm_status find_adapter(const struct fm_session *s, const struct fm__session_header *h, int *choice,
                              struct fm_error *err)
{
    const struct fm_adapter_set *set = s->batcher->dims.adapters;
    for (*choice = -1; *choice < fm_adapter_set_size(set); ++*choice) {
        uint8_t id[FM__SESSION_ADAPTER];
        fm__adapter_set_id(set, *choice, id);
        if (!memcmp(id, h->adapter, sizeof id)) return FM_OK;
    }
    return fm__fail(err, FM_E_VERIFY, "session file: made with an adapter (hash %02x%02x%02x%02x…) that is not loaded",
                    h->adapter[0], h->adapter[1], h->adapter[2], h->adapter[3]);
}

static fm_status read_pages(struct fm_session *s, const struct fm__file *file, const struct fm__session_header *h,
                            struct fm_error *err)
{
    uint64_t at = FM__SESSION_HEADER + 4 * (uint64_t)h->n_tokens;
    void *page = fm__malloc(h->page_bytes);
    if (!page) return fm__fail_nomem(err, "session file", h->page_bytes);
    fm_status status = FM_OK;
    for (int i = 0; i < ((int)h->n_done + FM__KV_BLOCK - 1) / FM__KV_BLOCK; i++)
        for (int layer = 0; status == FM_OK && layer < (int)h->n_layers; layer++, at += h->page_bytes) {
            status = fm__file_pread(file, at, page, h->page_bytes, err);
            if (status == FM_OK) status = fm__batcher_write_page(s->batcher, layer, s->pages[i], page, err);
        }
    fm__free(page);
    return status;
}

static fm_status load_from(struct fm_session *s, const struct fm__file *file, struct fm_error *err)
{
    uint8_t bytes[FM__SESSION_HEADER];
    struct fm__session_header h;
    FM_TRY(fm__file_pread(file, 0, bytes, file->size < sizeof bytes ? (size_t)file->size : sizeof bytes, err));
    FM_TRY(fm__session_header_read(bytes, file->size < sizeof bytes ? (size_t)file->size : sizeof bytes, file->size, &h,
                                   err));
    FM_TRY(check_sum(file, err));
    FM_TRY(check_model(s, &h, err));
    int choice;
    FM_TRY(find_adapter(s, &h, &choice, err));
    int32_t *tokens = fm__malloc((size_t)h.n_tokens * sizeof *tokens);
    if (!tokens) return fm__fail_nomem(err, "session file", (size_t)h.n_tokens * sizeof *tokens);
    fm_status status = fm__file_pread(file, FM__SESSION_HEADER, tokens, (size_t)h.n_tokens * sizeof *tokens, err);
    // sync checks tokens and room before it changes anything
    if (status == FM_OK) status = fm_session_sync(s, tokens, (int)h.n_tokens, err);
    if (status == FM_OK) status = fm_session_rewind(s, 0, err);
    if (status == FM_OK) s->adapter = choice; // nothing is cached now
    if (status == FM_OK) status = fm_session_append(s, tokens, (int)h.n_tokens, err);
    fm__free(tokens);
    if (status == FM_OK) status = read_pages(s, file, &h, err);
    // the last token is evaluated again, so that the loaded session has logits after the next run
    if (status == FM_OK) s->n_done = (int)h.n_done == s->n_tokens && s->n_tokens > 0 ? s->n_tokens - 1 : (int)h.n_done;
    return status;
}

fm_status fm_session_load(struct fm_session *s, const char *path, struct fm_error *err)
{
    struct fm__file file;
    FM_TRY(fm__file_open(path, &file, err));
    fm_status status = load_from(s, &file, err);
    fm__file_close(&file);
    if (status != FM_OK) fm__error_prefix(err, status, "%s", path);
    return status;
}
