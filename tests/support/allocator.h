/* The program's allocator, for tests that count blocks or let allocations fail: include it in one file of a
   program. A sanitizer has its own, so that nothing is counted and nothing fails there. */
#ifndef ATTEND_TEST_SUPPORT_ALLOCATOR_H
#define ATTEND_TEST_SUPPORT_ALLOCATOR_H

#include "support/sanitized.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static struct {
    atomic_long countdown; /* the allocation at 1 fails; below: none */
    atomic_long allocations;
    atomic_long own;  /* asked for by code of this program, which libattend is linked into */
    atomic_long live; /* blocks that are not freed */
} allocator;

#if !TEST_SANITIZED
extern char __executable_start, etext;

static bool fails(const void *caller)
{
    atomic_fetch_add(&allocator.allocations, 1);
    if ((const char *)caller >= &__executable_start && (const char *)caller < &etext)
        atomic_fetch_add(&allocator.own, 1);
    return atomic_load(&allocator.countdown) > 0 && atomic_fetch_sub(&allocator.countdown, 1) == 1;
}

static void *counted(void *memory)
{
    if (memory) atomic_fetch_add(&allocator.live, 1);
    return memory;
}

#pragma GCC visibility push(default) /* libraries are to find these */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
#define OR_FAIL(memory) (fails(__builtin_return_address(0)) ? (errno = ENOMEM, (void *)NULL) : (memory))

void *malloc(size_t bytes) { return OR_FAIL(counted(__libc_malloc(bytes))); }
void *calloc(size_t count, size_t bytes) { return OR_FAIL(counted(__libc_calloc(count, bytes))); }
void *realloc(void *old, size_t bytes)
{
    return OR_FAIL(old ? __libc_realloc(old, bytes) : counted(__libc_malloc(bytes)));
}
void *aligned_alloc(size_t alignment, size_t bytes) { return OR_FAIL(counted(__libc_memalign(alignment, bytes))); }
void *memalign(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes) { return OR_FAIL(counted(__libc_memalign(alignment, bytes))); }
int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    *memory = OR_FAIL(counted(__libc_memalign(alignment, bytes)));
    return *memory ? 0 : ENOMEM;
}
void free(void *memory)
{
    const int kept = errno;
    if (memory) atomic_fetch_sub(&allocator.live, 1);
    __libc_free(memory);
    errno = kept;
}
#pragma GCC visibility pop
#endif

#endif
