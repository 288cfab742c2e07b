// SPDX-License-Identifier: MIT
// Memory with a page that nobody may touch right behind it, or right before it: a kernel that reads or writes one byte
// beside its tensors dies at once.
#ifndef FM_TESTS_GUARDED_H
#define FM_TESTS_GUARDED_H

#include <stddef.h>

struct test_guarded {
    void *p; // `bytes` of them, filled with 0xa5; aligned to 4 bytes at least where `bytes` is a multiple of 4
    size_t bytes;
    void *map;
    size_t map_bytes;
};

enum test_guard { TEST_GUARD_AFTER, TEST_GUARD_BEFORE };

struct test_guarded test_guarded_new(size_t bytes, enum test_guard where);
void test_guarded_free(struct test_guarded *memory);

#endif
