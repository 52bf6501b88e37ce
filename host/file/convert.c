/* Converts arrays between float types. */
#include "file/array.h"
#include "file/fail.h"
#include "shared/dtype.h"
#include "shared/float16.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

attend_status attend_array_dtype(const char *path, const attend_array *array, attend_dtype *dtype)
{
    switch (array->type) {
    case ATTEND_ARRAY_F32: *dtype = ATTEND_F32; return ATTEND_OK;
    case ATTEND_ARRAY_F16: *dtype = ATTEND_F16; return ATTEND_OK;
    case ATTEND_ARRAY_BF16: *dtype = ATTEND_BF16; return ATTEND_OK;
    default: return attend_file_fail(ATTEND_BAD_FILE, "%s has integers or booleans, expected floats", path);
    }
}

float attend_array_load(const void *data, attend_dtype dtype, int64_t i)
{
    if (dtype == ATTEND_F32) return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return attend_from_bits16(dtype, bits);
}

void attend_array_store(void *data, attend_dtype dtype, int64_t i, float value)
{
    if (dtype == ATTEND_F32)
        ((float *)data)[i] = value;
    else
        ((uint16_t *)data)[i] = attend_to_bits16(dtype, value);
}

attend_status attend_array_convert(const char *path, attend_array *array, attend_dtype dtype)
{
    static const attend_array_type types[] = {
        [ATTEND_F32] = ATTEND_ARRAY_F32, [ATTEND_F16] = ATTEND_ARRAY_F16, [ATTEND_BF16] = ATTEND_ARRAY_BF16};
    const int64_t elements = attend_array_elements(array);
    attend_dtype from = dtype;
    void *data;
    if (dtype == ATTEND_U8 && array->type == ATTEND_ARRAY_U8) return ATTEND_OK;
    ATTEND_TRY(attend_array_dtype(path, array, &from));
    if (from == dtype) return ATTEND_OK;
    ATTEND_TRY(attend_memory_allocate(path, elements * attend_dtypes[dtype].bytes, &data));
    for (int64_t i = 0; i < elements; i++) {
        float value = attend_array_load(array->data, from, i);
        attend_array_store(data, dtype, i, value);
        if (!isfinite(value) || isfinite(attend_array_load(data, dtype, i))) continue;
        free(data);
        return attend_file_fail(ATTEND_INVALID_ARGUMENT, "%s: element %" PRId64 " is %g, which overflows %s",
                                path, i, (double)value, attend_dtypes[dtype].name);
    }
    attend_array converted = *array;
    converted.mapping = (attend_mapping){0}, converted.data = data, converted.type = types[dtype];
    attend_array_free(array);
    *array = converted;
    return ATTEND_OK;
}
