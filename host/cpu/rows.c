/* Converts rows of stored elements to floats and back. */
#include "cpu/task.h"
#include "shared/float16.h"

#include <string.h>

void attend_cpu_load_row(float *to, const void *from, int64_t offset, int64_t n, attend_dtype dtype)
{
    const uint16_t *half = (const uint16_t *)from + offset;
    if (dtype == ATTEND_F32)
        memcpy(to, (const float *)from + offset, (size_t)n * sizeof *to);
    else
        for (int64_t i = 0; i < n; i++) to[i] = attend_from_bits16(dtype, half[i]);
}

void attend_cpu_store_row(void *to, int64_t offset, const float *from, int64_t n, attend_dtype dtype)
{
    uint16_t *half = (uint16_t *)to + offset;
    if (dtype == ATTEND_F32)
        memcpy((float *)to + offset, from, (size_t)n * sizeof *from);
    else
        for (int64_t i = 0; i < n; i++) half[i] = attend_to_bits16(dtype, from[i]);
}
