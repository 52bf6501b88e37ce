/* alpha, beta and the like: on the host they are taken at the call, on the device when the work runs. */
#ifndef SOFTGPU_CUBLAS_SCALAR_H
#define SOFTGPU_CUBLAS_SCALAR_H

#include "cublas/handle.h"

typedef struct scalar {
    cudaDataType type;
    uint64_t address; /* on the device; 0: value holds it */
    double value;
} scalar;

scalar scalar_take(cublasHandle_t handle, const void *pointer, cudaDataType type);
bool scalar_read(const scalar *scalar, const char *what, double *value);

/* `count` elements of a type, `step` elements apart, from device memory; only those bytes are read. False after a finding, which
   names the call (`what`) and the operand. */
bool device_read(const char *what, const char *operand, const void *address, int64_t bytes, const void **data);
bool device_write(const char *what, const char *operand, void *address, int64_t bytes, void **data);

#endif
