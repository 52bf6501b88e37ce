/* Conversions by loops that vectorise; int8 and int32 travel as doubles, in which their products' sums are exact. */
#include "cublas/element.h"

#include "numbers/clones.h"
#include "numbers/numbers.h"

int64_t element_bytes(cudaDataType type)
{
    switch (type) {
    case CUDA_R_8I: return 1;
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    case CUDA_R_32F:
    case CUDA_R_32I: return 4;
    case CUDA_R_64F: return 8;
    default: return 0;
    }
}

static void round_inputs(element_rounding rounding, float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        switch (rounding) {
        case ELEMENT_TO_TF32: /* half away from zero, as cvt.rna.tf32 does */
            values[i] = sg_bits_float(sg_encode(&sg_tf32, (double)values[i], SG_RNA, 0));
            break;
        case ELEMENT_TO_F16: values[i] = sg_f16_to_float(sg_f16_from_float(values[i])); break;
        case ELEMENT_TO_BF16: values[i] = sg_bf16_to_float(sg_bf16_from_float(values[i])); break;
        case ELEMENT_EXACT: return;
        }
}

SG_VECTOR_CLONES
void element_widen_float(cudaDataType type, const void *from, int64_t count, element_rounding rounding, float *to)
{
    const uint16_t *halves = from;
    const int8_t *bytes = from;
    if (type == CUDA_R_16F)
        for (int64_t i = 0; i < count; i++) to[i] = sg_f16_to_float(halves[i]);
    else if (type == CUDA_R_16BF)
        for (int64_t i = 0; i < count; i++) to[i] = sg_bf16_to_float(halves[i]);
    else if (type == CUDA_R_8I)
        for (int64_t i = 0; i < count; i++) to[i] = bytes[i];
    else
        memcpy(to, from, (size_t)count * sizeof *to);
    if (rounding != ELEMENT_EXACT) round_inputs(rounding, to, count);
}

void element_widen_double(cudaDataType type, const void *from, int64_t count, double *to)
{
    const float *floats = from;
    const int8_t *bytes = from;
    const int32_t *words = from;
    const uint16_t *halves = from;
    for (int64_t i = 0; i < count; i++)
        switch (type) {
        case CUDA_R_8I: to[i] = bytes[i]; break;
        case CUDA_R_32I: to[i] = words[i]; break;
        case CUDA_R_32F: to[i] = (double)floats[i]; break;
        case CUDA_R_16F: to[i] = (double)sg_f16_to_float(halves[i]); break;
        case CUDA_R_16BF: to[i] = (double)sg_bf16_to_float(halves[i]); break;
        default: to[i] = ((const double *)from)[i];
        }
}

SG_VECTOR_CLONES
void element_narrow_float(cudaDataType type, const float *from, int64_t count, void *to)
{
    uint16_t *halves = to;
    if (type == CUDA_R_16F)
        for (int64_t i = 0; i < count; i++) halves[i] = sg_f16_from_float(from[i]);
    else if (type == CUDA_R_16BF)
        for (int64_t i = 0; i < count; i++) halves[i] = sg_bf16_from_float(from[i]);
    else
        memcpy(to, from, (size_t)count * sizeof *from);
}

void element_narrow_double(cudaDataType type, const double *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i++)
        switch (type) {
        case CUDA_R_32I: ((int32_t *)to)[i] = (int32_t)(uint32_t)(uint64_t)(int64_t)from[i]; break;
        case CUDA_R_32F: ((float *)to)[i] = (float)from[i]; break;
        case CUDA_R_16F: ((uint16_t *)to)[i] = (uint16_t)sg_encode(&sg_f16, from[i], SG_RN, 0); break;
        case CUDA_R_16BF: ((uint16_t *)to)[i] = (uint16_t)sg_encode(&sg_bf16, from[i], SG_RN, 0); break;
        default: ((double *)to)[i] = from[i];
        }
}
