/* Tensor views inside the library: sizes that cannot overflow, strides made explicit, shapes and overlaps
   checked. */
#ifndef ATTEND_CORE_TENSOR_H
#define ATTEND_CORE_TENSOR_H

#include <attend/attend.h>

/* a·b, or false where it does not fit; a, b >= 0. */
static inline bool attend_multiply(int64_t a, int64_t b, int64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* Number of elements; the shape of a checked tensor never overflows. */
int64_t attend_tensor_elements(const attend_tensor *tensor);

/* The tensor's first and one-past-last byte; empty tensors give equal ends. False where an address does not
   fit. */
bool attend_tensor_extent(const attend_tensor *tensor, uintptr_t *begin, uintptr_t *end);

typedef enum attend_tensor_role { ATTEND_INPUT, ATTEND_OUTPUT } attend_tensor_role;

/* Checks one argument called `name` against what the problem asks for, and returns it with strides that count
   along every axis, and at an address even if it is empty. Requires dtype, rank, shape, natural alignment, no
   negative stride, addresses that fit, and of outputs that no two elements share memory. */
attend_status attend_tensor_resolve(const char *name, const attend_tensor *tensor, attend_tensor_role role,
                                    attend_dtype dtype, int rank, const int64_t *shape,
                                    attend_tensor *resolved);

/* Fails unless the elements of the last axis are neighbours. */
attend_status attend_tensor_check_rows(const char *name, const attend_tensor *tensor);

/* Fails if an output shares a byte with any other tensor of the list. Absent tensors (data NULL) are skipped.
   */
typedef struct attend_named_tensor {
    const char *name;
    const attend_tensor *tensor;
    attend_tensor_role role;
} attend_named_tensor;
attend_status attend_tensors_disjoint(const attend_named_tensor *tensors, int count);

#endif
