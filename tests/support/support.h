// SPDX-License-Identifier: MIT
// What every test shares: cmocka with its prerequisites, paths of fixtures, skipping said aloud, temporary folders.
#ifndef FM_TESTS_SUPPORT_H
#define FM_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fathom/status.h"

// tests/data/NAME of the source tree. Static buffer, valid until the next call.
const char *test_data(const char *name);
// A path below ../shared of the checkout (data sets and models that are not in the repository), or NULL where it is
// absent: then the line "skipped: NAME is not here (needs ../shared)" has been printed; the test calls skip().
const char *test_shared(const char *name);
// The file of a catalogue model ("smollm2", "gemma3"): in $FATHOM_MODELS, else where `fathom pull` puts it. NULL where
// it is absent: then the line "skipped: …" has been printed; the test calls skip(). Static buffer.
const char *test_model(const char *name);
// Makes a fresh folder below the system's temporary folder; removed with all its files at exit. Static buffer.
const char *test_tmpdir(void);
// Whole file; the caller frees. Fails the test if it cannot be read. A zero byte follows the contents.
uint8_t *test_read_file(const char *path, size_t *size);

#define assert_ok(call, err)                                                              \
    do {                                                                                  \
        fm_status s__ = (call);                                                           \
        if (s__ != FM_OK) fail_msg("%s: %s: %s", #call, fm_status_text(s__), (err).text); \
    } while (0)

#endif
