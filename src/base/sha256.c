// SPDX-License-Identifier: MIT
// SHA-256 through libcrypto's EVP interface.
#include "base/sha256.h"

#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/file.h"

struct fm__sha256 {
    EVP_MD_CTX *context;
};

struct fm__sha256 *fm__sha256_new(void)
{
    struct fm__sha256 *hash = fm__calloc(1, sizeof *hash);
    if (!hash) return NULL;
    hash->context = EVP_MD_CTX_new();
    if (!hash->context || EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) != 1) {
        fm__sha256_free(hash);
        return NULL;
    }
    return hash;
}

void fm__sha256_free(struct fm__sha256 *hash)
{
    if (!hash) return;
    EVP_MD_CTX_free(hash->context);
    fm__free(hash);
}

fm_status fm__sha256_update(struct fm__sha256 *hash, const void *bytes, size_t n, struct fm_error *err)
{
    if (n == 0 || EVP_DigestUpdate(hash->context, bytes, n) == 1) return FM_OK;
    return fm__fail(err, FM_E_NOMEM, "sha-256: libcrypto refused %zu bytes", n);
}

fm_status fm__sha256_final(struct fm__sha256 *hash, uint8_t digest[FM__SHA256_BYTES], struct fm_error *err)
{
    if (EVP_DigestFinal_ex(hash->context, digest, NULL) == 1) return FM_OK;
    return fm__fail(err, FM_E_NOMEM, "sha-256: libcrypto cannot finish the digest");
}

void fm__sha256_hex(const uint8_t digest[FM__SHA256_BYTES], char hex[FM__SHA256_HEX])
{
    for (int i = 0; i < FM__SHA256_BYTES; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[FM__SHA256_HEX - 1] = '\0';
}

fm_status fm__sha256_bytes(const void *bytes, size_t n, uint8_t digest[FM__SHA256_BYTES], struct fm_error *err)
{
    struct fm__sha256 *hash = fm__sha256_new();
    if (!hash) return fm__fail_nomem(err, "sha-256", sizeof *hash);
    fm_status status = fm__sha256_update(hash, bytes, n, err);
    if (status == FM_OK) status = fm__sha256_final(hash, digest, err);
    fm__sha256_free(hash);
    return status;
}

static fm_status hash_file(struct fm__sha256 *hash, const struct fm__file *file, struct fm_error *err)
{
    enum { STEP = 1 << 20 };
    char *piece = fm__malloc(STEP);
    if (!piece) return fm__fail_nomem(err, "sha-256", STEP);
    fm_status status = FM_OK;
    for (uint64_t at = 0; at < file->size && status == FM_OK; at += STEP) {
        size_t n = file->size - at < STEP ? (size_t)(file->size - at) : STEP;
        status = fm__file_pread(file, at, piece, n, err);
        if (status == FM_OK) status = fm__sha256_update(hash, piece, n, err);
    }
    fm__free(piece);
    return status;
}

fm_status fm__sha256_file(const char *path, char hex[FM__SHA256_HEX], struct fm_error *err)
{
    hex[0] = '\0';
    struct fm__file file;
    FM_TRY(fm__file_open(path, &file, err));
    struct fm__sha256 *hash = fm__sha256_new();
    uint8_t digest[FM__SHA256_BYTES];
    fm_status status = hash ? hash_file(hash, &file, err) : fm__fail_nomem(err, "sha-256", sizeof *hash);
    if (status == FM_OK) status = fm__sha256_final(hash, digest, err);
    if (status == FM_OK)
        fm__sha256_hex(digest, hex);
    else
        fm__error_prefix(err, status, "%s", path);
    fm__sha256_free(hash);
    fm__file_close(&file);
    return status;
}
