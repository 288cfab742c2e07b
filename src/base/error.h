// SPDX-License-Identifier: MIT
// Filling struct fm_error. `return fm__fail(err, FM_E_SHAPE, "%s: rank %d, want 2", name, rank);`
#ifndef FM_BASE_ERROR_H
#define FM_BASE_ERROR_H

#include <stddef.h>

#include "fathom/status.h"

// gcc 12 and clang 14 both have __FILE_NAME__; the full path would leak the builder's folders into binaries
#ifdef __FILE_NAME__
#define FM__FILE_NAME __FILE_NAME__
#else
#define FM__FILE_NAME __FILE__
#endif
#define FM__STR2(x) #x
#define FM__STR(x) FM__STR2(x)

// Fills *err (may be NULL) and returns `code`, so that a failing line is one line.
#define fm__fail(err, code, ...) \
    fm__same_code((code), fm__error_set((err), (code), FM__FILE_NAME ":" FM__STR(__LINE__), __VA_ARGS__))
// The usual out-of-memory failure: names what was to be allocated and how large.
#define fm__fail_nomem(err, what, bytes) \
    fm__fail((err), FM_E_NOMEM, "%s: cannot allocate %zu bytes", (what), (size_t)(bytes))

fm_status fm__error_set(struct fm_error *err, fm_status code, const char *where, const char *fmt, ...) FM_PRINTF(4, 5);

// The first of two equal codes, inline so that the compiler and analysers of one file see that a failure is no FM_OK.
static inline fm_status fm__same_code(fm_status code, fm_status filled)
{
    (void)filled;
    return code;
}

// Puts "prefix: " before the text of an error that a callee filled, so that the reader learns which file or tensor it
// was. Returns err->code, or `code` where err is NULL.
fm_status fm__error_prefix(struct fm_error *err, fm_status code, const char *fmt, ...) FM_PRINTF(3, 4);

// Returns from the calling function if `call` fails.
#define FM_TRY(call)                                        \
    do {                                                    \
        fm_status fm__try_status = (call);                  \
        if (fm__try_status != FM_OK) return fm__try_status; \
    } while (0)

#endif
