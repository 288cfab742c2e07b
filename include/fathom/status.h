// SPDX-License-Identifier: MIT
// Status codes and the error a failing call describes itself with.
//
// Every call that can fail returns an fm_status (0 is success, failures are negative) and takes, last, a
// `struct fm_error *err`, which may be NULL. On failure the callee fills *err; on success it leaves *err alone.
// On failure outputs are NULL or zero and nothing leaks. The library never prints, exits or aborts.
#ifndef FATHOM_STATUS_H
#define FATHOM_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FM_API __attribute__((visibility("default")))
#define FM_PRINTF(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))
#else
#define FM_API
#define FM_PRINTF(fmt_at, args_at)
#endif

typedef enum fm_status {
#define X(name, number, text, exit_code) name = number,
#include "fathom/status.def"
#undef X
} fm_status;

// What went wrong. `text` names the thing, what was found and what was expected, in one line without a newline:
// "blk.3.attn_q: dtype q5_0, want q4_k (at byte 81920)". `where` is the source position that refused, for bug reports.
struct fm_error {
    fm_status code;
    char where[48];
    char text[464];
};

// The short text of a code ("out of memory"); "unknown status" for a number that is none. Never NULL; static.
FM_API const char *fm_status_text(fm_status code);

// The process exit code that the fathom binary uses for a status (docs/cli.md lists them). 1 for a number that is none.
FM_API int fm_status_exit_code(fm_status code);

#ifdef __cplusplus
}
#endif
#endif
