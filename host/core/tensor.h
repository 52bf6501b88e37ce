/* Tensor views inside the library: sizes are checked for overflow, strides are explicit, shapes and overlaps
   are checked. */
#ifndef ATTEND_CORE_TENSOR_H
#define ATTEND_CORE_TENSOR_H

#include <attend/attend.h>

/* a·b; false on overflow. a, b >= 0. */
static inline bool attend_multiply(int64_t a, int64_t b, int64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* Number of elements; the shape of a checked tensor never overflows. */
int64_t attend_tensor_elements(const attend_tensor *tensor);

/* The stride along an axis; 0 where there is one element. */
static inline int64_t attend_tensor_step(const attend_tensor *t, int axis)
{
    return axis < t->rank && t->shape[axis] > 1 ? t->stride[axis] : 0;
}

/* The tensor's first and one-past-last byte, equal if it is empty. False if an address overflows. */
bool attend_tensor_extent(const attend_tensor *tensor, uintptr_t *begin, uintptr_t *end);

typedef enum attend_tensor_role { ATTEND_INPUT, ATTEND_OUTPUT } attend_tensor_role;

/* [batch, seqlen, width] as a tensor with one head. */
attend_tensor attend_tensor_one_head(const attend_tensor *rows);
/* A matrix as its transpose: the same memory, the axes exchanged. */
attend_tensor attend_tensor_transposed(const attend_tensor *matrix);

/* Checks the argument called `name` against the expected dtype, rank and shape, and returns it with explicit
   strides and a valid address, even if it is empty. Also requires natural alignment, no negative stride,
   addresses that do not overflow, and, of outputs, that no two elements share memory. */
attend_status attend_tensor_resolve(const char *name, const attend_tensor *tensor, attend_tensor_role role,
                                    attend_dtype dtype, int rank, const int64_t *shape,
                                    attend_tensor *resolved);

/* Fails unless the last axis is contiguous. */
attend_status attend_tensor_check_rows(const char *name, const attend_tensor *tensor);

/* Fails if an output shares a byte with any other tensor of the list. Absent tensors (data NULL) are
   skipped. */
typedef struct attend_named_tensor {
    const char *name;
    const attend_tensor *tensor;
    attend_tensor_role role;
} attend_named_tensor;
attend_status attend_tensors_disjoint(const attend_named_tensor *tensors, int count);

#endif
