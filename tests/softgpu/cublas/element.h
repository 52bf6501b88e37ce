/* Elements of every type the library takes, to and from the two types it computes in. */
#ifndef SOFTGPU_CUBLAS_ELEMENT_H
#define SOFTGPU_CUBLAS_ELEMENT_H

#include <library_types.h>
#include <stdbool.h>
#include <stdint.h>

/* What inputs lose before they are multiplied. */
typedef enum element_rounding { ELEMENT_EXACT, ELEMENT_TO_TF32, ELEMENT_TO_F16, ELEMENT_TO_BF16 } element_rounding;

int64_t element_bytes(cudaDataType type); /* 0 for a type that is not known here */
void element_widen_float(cudaDataType type, const void *from, int64_t count, element_rounding rounding, float *to);
void element_widen_double(cudaDataType type, const void *from, int64_t count, double *to);
/* Nearest even; integers wrap, as the device's accumulators do. */
void element_narrow_float(cudaDataType type, const float *from, int64_t count, void *to);
void element_narrow_double(cudaDataType type, const double *from, int64_t count, void *to);

#endif
