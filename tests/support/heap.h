/* What the process has allocated, of the main thread's: calls that give everything back leave it as it was. */
#ifndef ATTEND_TEST_SUPPORT_HEAP_H
#define ATTEND_TEST_SUPPORT_HEAP_H

#include <malloc.h>
#include <stddef.h>

#if defined __GLIBC__ && __GLIBC_PREREQ(2, 33)
static inline size_t test_heap_bytes(void)
{
    const struct mallinfo2 all = mallinfo2();
    return all.uordblks + all.hblkhd;
}
#else
static inline size_t test_heap_bytes(void) { return 0; } /* unknown */
#endif

#endif
