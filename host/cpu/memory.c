/* Memory of CPU plans. */
#include "cpu/cpu.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE = 2 << 20, SMALL = 64 };

/* *total grows by the size. False: it is not representable. */
bool attend_cpu_count_bytes(int64_t elements, size_t bytes, size_t *total)
{
    int64_t size;
    if (!attend_multiply(elements, (int64_t)bytes, &size) || size > INT64_MAX - HUGE) {
        *total = SIZE_MAX;
        return false;
    }
    const int64_t alignment = size >= HUGE ? HUGE : SMALL;
    if (__builtin_add_overflow(*total, (size_t)((size + alignment) / alignment * alignment), total))
        *total = SIZE_MAX;
    return true;
}

/* Large allocations use huge pages: each task reads all tiled panels of keys, and with small pages each page
   costs a page table walk. */
void *attend_cpu_allocate(int64_t elements, size_t bytes, size_t *total)
{
    size_t size = 0;
    if (!attend_cpu_count_bytes(elements, bytes, &size)) {
        *total = SIZE_MAX;
        return NULL;
    }
    if (__builtin_add_overflow(*total, size, total)) *total = SIZE_MAX;
    const bool huge = size >= HUGE;
    void *memory = aligned_alloc(huge ? HUGE : SMALL, size);
    if (!memory) return NULL;
    /* optional: a failure is ignored */
    if (huge) madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}
