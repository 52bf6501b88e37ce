/* Memory of CPU plans. */
#include "cpu/cpu.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Large allocations use huge pages: each task reads all tiled panels of keys, and with small pages each page
   costs a page table walk. */
void *attend_cpu_allocate(int64_t elements, size_t bytes, size_t *total)
{
    const int64_t huge = 2 << 20;
    int64_t size, alignment = 64;
    if (!attend_multiply(elements, (int64_t)bytes, &size) || size > INT64_MAX - huge) {
        *total = SIZE_MAX;
        return NULL;
    }
    if (size >= huge) alignment = huge;
    size = (size + alignment) / alignment * alignment;
    if (__builtin_add_overflow(*total, (size_t)size, total)) *total = SIZE_MAX;
    void *memory = aligned_alloc((size_t)alignment, (size_t)size);
    if (!memory) return NULL;
    /* optional: a failure is ignored */
    if (alignment == huge) madvise(memory, (size_t)size, MADV_HUGEPAGE);
    return memory;
}
