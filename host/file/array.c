/* Memory and sizes of arrays from files. */
#include "array.h"
#include "fail.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "files hold little-endian numbers, which are used as they are");

size_t attend_array_type_bytes(attend_array_type type) {
    switch (type) {
    case ATTEND_ARRAY_F32:
    case ATTEND_ARRAY_I32: return 4;
    case ATTEND_ARRAY_F16:
    case ATTEND_ARRAY_BF16: return 2;
    case ATTEND_ARRAY_I64: return 8;
    case ATTEND_ARRAY_OTHER: break;
    }
    return 0;
}

int64_t attend_array_elements(const attend_array *array) {
    int64_t elements = 1;
    for (int axis = 0; axis < array->rank; axis++)
        if (array->shape[axis] == 0) return 0; /* whatever the others are: their product may not fit */
    for (int axis = 0; axis < array->rank; axis++) elements *= array->shape[axis];
    return elements;
}

attend_status attend_array_allocate(const char *path, int64_t bytes, attend_array *array) {
    if (bytes <= INT64_MAX - 128) array->data = aligned_alloc(64, ((size_t)bytes + 64) / 64 * 64);
    if (!array->data)
        return attend_file_fail(ATTEND_OUT_OF_MEMORY, "%s: no memory for %" PRId64 " bytes", path, bytes);
    return ATTEND_OK;
}

void attend_array_free(attend_array *array) {
    free(array->data);
    memset(array, 0, sizeof *array);
}
