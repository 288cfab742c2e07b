// SPDX-License-Identifier: MIT
// The counted allocator and its failure hook.
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_int_fast64_t n_allocations;
static int64_t fail_after = -1; // test hook, see header
static bool fail_sticky;

static bool must_fail(void)
{
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    if (fail_after < 0) return false;
    if (fail_after > 0) {
        fail_after--;
        return false;
    }
    if (!fail_sticky) fail_after = -1;
    return true;
}

void *fm__malloc(size_t bytes)
{
    return must_fail() ? NULL : malloc(bytes ? bytes : 1);
}

void *fm__calloc(size_t n, size_t bytes)
{
    return must_fail() ? NULL : calloc(n ? n : 1, bytes ? bytes : 1);
}

void *fm__realloc(void *old, size_t bytes)
{
    return must_fail() ? NULL : realloc(old, bytes ? bytes : 1);
}

void *fm__aligned(size_t alignment, size_t bytes)
{
    if (must_fail()) return NULL;
    size_t rounded = fm__align_up(bytes ? bytes : 1, alignment);
    return rounded < bytes ? NULL : aligned_alloc(alignment, rounded);
}

char *fm__strndup(const char *text, size_t n)
{
    char *copy = fm__malloc(n + 1);
    if (!copy) return NULL;
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

char *fm__strdup(const char *text)
{
    return fm__strndup(text, strlen(text));
}

void fm__free(void *p)
{
    free(p);
}

void fm__alloc_fail_after(int64_t n, bool sticky)
{
    fail_after = n;
    fail_sticky = sticky;
}

int64_t fm__alloc_count(void)
{
    return atomic_load_explicit(&n_allocations, memory_order_relaxed);
}
