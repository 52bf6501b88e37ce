/* Allocates arrays read from files, and computes their sizes. */
#include "file/array.h"
#include "file/fail.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "file data is little-endian and used without conversion");

size_t attend_array_type_bytes(attend_array_type type)
{
    switch (type) {
    case ATTEND_ARRAY_F32:
    case ATTEND_ARRAY_I32: return 4;
    case ATTEND_ARRAY_F16:
    case ATTEND_ARRAY_BF16: return 2;
    case ATTEND_ARRAY_I64: return 8;
    case ATTEND_ARRAY_U8: return 1;
    case ATTEND_ARRAY_OTHER: break;
    }
    return 0;
}

int64_t attend_array_elements(const attend_array *array)
{
    int64_t elements = 1;
    for (int axis = 0; axis < array->rank; axis++)
        if (array->shape[axis] == 0) return 0; /* first, since the product of the others may overflow */
    for (int axis = 0; axis < array->rank; axis++) elements *= array->shape[axis];
    return elements;
}

int64_t attend_memory_available(void)
{
    char line[256];
    int64_t kilobytes = INT64_MAX / 1024;
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file) return INT64_MAX;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %" SCNd64, &kilobytes) == 1) break;
    fclose(file);
    return kilobytes * 1024;
}

attend_status attend_memory_allocate(const char *name, int64_t bytes, void **data)
{
    const int64_t never_short = 1 << 20;
    *data = NULL;
    if (bytes <= INT64_MAX - 128 && (bytes <= never_short || bytes <= attend_memory_available()))
        *data = aligned_alloc(64, ((size_t)bytes + 64) / 64 * 64);
    if (!*data)
        return attend_file_fail(ATTEND_OUT_OF_MEMORY,
                                "%s needs %" PRId64 " bytes, more than the available memory", name, bytes);
    return ATTEND_OK;
}

void attend_array_free(attend_array *array)
{
    if (array->mapping.base)
        attend_mapping_free(&array->mapping);
    else
        free(array->data);
    memset(array, 0, sizeof *array);
}
