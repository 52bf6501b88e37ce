/* Storage dtypes: roundoff, rounding, loads and stores in fp64. */
#include "reference/reference.h"
#include "shared/float16.h"

double attend_unit_roundoff(attend_dtype dtype)
{
    return dtype == ATTEND_F32 ? 0x1p-24 : dtype == ATTEND_F16 ? 0x1p-11 : 0x1p-8;
}

double attend_half_least(attend_dtype dtype)
{
    return dtype == ATTEND_F32 ? 0x1p-150 : dtype == ATTEND_F16 ? 0x1p-25 : 0x1p-134;
}

double attend_round(double value, attend_dtype dtype)
{
    switch (dtype) {
    case ATTEND_F32: return (float)value;
    case ATTEND_F16: return attend_from_f16(attend_to_f16(attend_double_to_odd(value)));
    case ATTEND_BF16: return attend_from_bf16(attend_to_bf16(attend_double_to_odd(value)));
    default: return value;
    }
}

double attend_load(const attend_tensor *tensor, int64_t offset)
{
    switch (tensor->dtype) {
    case ATTEND_F32: return ((const float *)tensor->data)[offset];
    case ATTEND_F16: return attend_from_f16(((const uint16_t *)tensor->data)[offset]);
    case ATTEND_BF16: return attend_from_bf16(((const uint16_t *)tensor->data)[offset]);
    case ATTEND_U8: return ((const uint8_t *)tensor->data)[offset];
    case ATTEND_I32: return ((const int32_t *)tensor->data)[offset];
    case ATTEND_I64: return (double)((const int64_t *)tensor->data)[offset];
    }
    return ((const double *)tensor->data)[offset];
}

void attend_store(const attend_tensor *tensor, int64_t offset, double value)
{
    switch (tensor->dtype) {
    case ATTEND_F32: ((float *)tensor->data)[offset] = (float)value; return;
    case ATTEND_F16: ((uint16_t *)tensor->data)[offset] = attend_to_f16(attend_double_to_odd(value)); return;
    case ATTEND_BF16:
        ((uint16_t *)tensor->data)[offset] = attend_to_bf16(attend_double_to_odd(value));
        return;
    case ATTEND_U8: ((uint8_t *)tensor->data)[offset] = (uint8_t)value; return;
    case ATTEND_I32: ((int32_t *)tensor->data)[offset] = (int32_t)value; return;
    case ATTEND_I64: ((int64_t *)tensor->data)[offset] = (int64_t)value; return;
    }
    ((double *)tensor->data)[offset] = value;
}
