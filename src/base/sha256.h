// SPDX-License-Identifier: MIT
// SHA-256 of streams, bytes and files (by libcrypto, which uses the CPU's instructions for it).
#ifndef FM_BASE_SHA256_H
#define FM_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

enum { FM__SHA256_BYTES = 32, FM__SHA256_HEX = 65 }; // the hex text is lower case with its zero byte

// A running hash: new, update any number of times, final once, free.
struct fm__sha256;

struct fm__sha256 *fm__sha256_new(void);       // NULL when memory is out
void fm__sha256_free(struct fm__sha256 *hash); // NULL is fine
fm_status fm__sha256_update(struct fm__sha256 *hash, const void *bytes, size_t n, struct fm_error *err);
fm_status fm__sha256_final(struct fm__sha256 *hash, uint8_t digest[FM__SHA256_BYTES], struct fm_error *err);

void fm__sha256_hex(const uint8_t digest[FM__SHA256_BYTES], char hex[FM__SHA256_HEX]);

fm_status fm__sha256_bytes(const void *bytes, size_t n, uint8_t digest[FM__SHA256_BYTES], struct fm_error *err);
// Reads the file in pieces of 1 MiB; *hex is "" on failure.
fm_status fm__sha256_file(const char *path, char hex[FM__SHA256_HEX], struct fm_error *err);

#endif
