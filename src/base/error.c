// SPDX-License-Identifier: MIT
// Status texts and error filling. No allocation: an error about memory must not need any.
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *fm_status_text(fm_status code)
{
    switch (code) {
#define X(name, number, text, exit_code) \
    case name:                           \
        return text;
#include "fathom/status.def"
#undef X
    }
    return "unknown status";
}

int fm_status_exit_code(fm_status code)
{
    switch (code) {
#define X(name, number, text, exit_code) \
    case name:                           \
        return exit_code;
#include "fathom/status.def"
#undef X
    }
    return 1;
}

fm_status fm__error_set(struct fm_error *err, fm_status code, const char *where, const char *fmt, ...)
{
    if (!err) return code;
    err->code = code;
    snprintf(err->where, sizeof err->where, "%s", where);
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return code;
}

fm_status fm__error_prefix(struct fm_error *err, fm_status code, const char *fmt, ...)
{
    if (!err) return code;
    char text[sizeof err->text];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0) n = 0;
    if ((size_t)n < sizeof text) snprintf(text + n, sizeof text - (size_t)n, ": %s", err->text);
    memcpy(err->text, text, sizeof text);
    return err->code;
}
