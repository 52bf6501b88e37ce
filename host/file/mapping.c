/* Maps files into memory. */
#include "file/mapping.h"
#include "file/fail.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

attend_status attend_mapping_make(const char *path, int descriptor, int64_t bytes, bool shared,
                                  attend_mapping *mapping)
{
    void *base = mmap(NULL, (size_t)bytes, shared ? PROT_READ | PROT_WRITE : PROT_READ,
                      shared ? MAP_SHARED : MAP_PRIVATE, descriptor, 0);
    *mapping = (attend_mapping){0};
    if (base == MAP_FAILED)
        return attend_file_fail(ATTEND_IO_ERROR, "%s cannot be mapped into memory: %s", path,
                                strerror(errno));
    *mapping = (attend_mapping){base, (size_t)bytes};
    return ATTEND_OK;
}

/* Not of a private mapping that was written to; ours are not. */
void attend_mapping_release(const attend_mapping *mapping)
{
    if (mapping->base) madvise(mapping->base, mapping->bytes, MADV_DONTNEED);
}

void attend_mapping_free(attend_mapping *mapping)
{
    if (mapping->base) munmap(mapping->base, mapping->bytes);
    *mapping = (attend_mapping){0};
}
