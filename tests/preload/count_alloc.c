// SPDX-License-Identifier: MIT
// A library to preload: counts every allocation and every mmap of the process, wherever they come from.
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

__attribute__((visibility("default"))) int64_t count_alloc_calls(void);

static atomic_int_fast64_t calls;

int64_t count_alloc_calls(void)
{
    return atomic_load(&calls);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

#define COUNTED __attribute__((visibility("default")))

COUNTED void *malloc(size_t n)
{
    atomic_fetch_add(&calls, 1);
    return __libc_malloc(n);
}

COUNTED void *calloc(size_t n, size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __libc_calloc(n, size);
}

COUNTED void *realloc(void *p, size_t n)
{
    atomic_fetch_add(&calls, 1);
    return __libc_realloc(p, n);
}

COUNTED void *aligned_alloc(size_t alignment, size_t n)
{
    atomic_fetch_add(&calls, 1);
    return __libc_memalign(alignment, n);
}

COUNTED void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);
    atomic_fetch_add(&calls, 1);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    return real(at, n, protection, flags, fd, offset);
}
