// SPDX-License-Identifier: MIT
#include "support/guarded.h"

#include <string.h>
#include <sys/mman.h>

#include "support/support.h"

enum { PAGE = 4096 };

struct test_guarded test_guarded_new(size_t bytes, enum test_guard where)
{
    const size_t inside = (bytes + PAGE - 1) / PAGE * PAGE + (bytes == 0 ? PAGE : 0);
    struct test_guarded m = {.bytes = bytes, .map_bytes = inside + 2 * PAGE};
    m.map = mmap(NULL, m.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(m.map != MAP_FAILED);
    char *first = (char *)m.map + PAGE;
    assert_int_equal(mprotect(m.map, PAGE, PROT_NONE), 0);
    assert_int_equal(mprotect(first + inside, PAGE, PROT_NONE), 0);
    memset(first, 0xa5, inside);
    m.p = where == TEST_GUARD_AFTER ? first + inside - bytes : first;
    return m;
}

void test_guarded_free(struct test_guarded *memory)
{
    munmap(memory->map, memory->map_bytes);
    *memory = (struct test_guarded){0};
}
