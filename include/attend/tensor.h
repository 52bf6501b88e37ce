/* Views of memory that the caller owns. */
#ifndef ATTEND_TENSOR_H
#define ATTEND_TENSOR_H

#include <attend/status.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Activations and weights are of the first three; masks are ATTEND_U8, segment ids ATTEND_I32, indices of
   keys ATTEND_I64. */
typedef enum attend_dtype {
    ATTEND_F32 = 0,
    ATTEND_F16,
    ATTEND_BF16,
    ATTEND_U8,
    ATTEND_I32,
    ATTEND_I64
} attend_dtype;

/* Bytes of one element. */
ATTEND_API size_t attend_dtype_bytes(attend_dtype dtype);
/* "f32", "f16", "bf16", "u8", "i32", "i64". */
ATTEND_API const char *attend_dtype_name(attend_dtype dtype);

#define ATTEND_MAX_RANK 4

/* A view of memory that the caller owns, on the host or on the device. Element (i, j, …) lies at data +
 * i·stride[0] + j·stride[1] + …; strides count elements, and attend_tensor_4d() and its like fill them in. A
 * stride of 0 broadcasts an input: one element serves the axis. Along an axis of extent 1, and in an empty
 * tensor, strides do not matter. Outputs must not overlap themselves or any input. */
typedef struct attend_tensor {
    void *data; /* NULL: absent. Inputs are never written through it. */
    attend_dtype dtype;
    int rank;
    int64_t shape[ATTEND_MAX_RANK];
    int64_t stride[ATTEND_MAX_RANK];
} attend_tensor;

/* The tensor with the strides of its shape, row-major without gaps; what 63 bits cannot count is refused
   where it is passed. */
static inline attend_tensor attend_tensor_row_major(attend_tensor t)
{
    int64_t stride = 1;
    for (int axis = t.rank - 1; axis >= 0; axis--) {
        t.stride[axis] = stride;
        if (t.shape[axis] > 1)
            stride = stride > INT64_MAX / t.shape[axis] ? INT64_MAX : stride * t.shape[axis];
    }
    return t;
}

/* Row-major views without gaps. Activations of attention are [batch, seqlen, heads, head_dim]: permute the
 * strides where memory holds [batch, heads, seqlen, head_dim], offset `data` into packed QKV. */
static inline attend_tensor attend_tensor_4d(void *data, attend_dtype dtype, int64_t n0, int64_t n1,
                                             int64_t n2, int64_t n3)
{
    attend_tensor t = {data, dtype, 4, {n0, n1, n2, n3}, {0, 0, 0, 0}};
    return attend_tensor_row_major(t);
}
static inline attend_tensor attend_tensor_3d(void *data, attend_dtype dtype, int64_t n0, int64_t n1,
                                             int64_t n2)
{
    attend_tensor t = {data, dtype, 3, {n0, n1, n2, 0}, {0, 0, 0, 0}};
    return attend_tensor_row_major(t);
}
static inline attend_tensor attend_tensor_2d(void *data, attend_dtype dtype, int64_t n0, int64_t n1)
{
    attend_tensor t = {data, dtype, 2, {n0, n1, 0, 0}, {0, 0, 0, 0}};
    return attend_tensor_row_major(t);
}
static inline attend_tensor attend_tensor_1d(void *data, attend_dtype dtype, int64_t n0)
{
    attend_tensor t = {data, dtype, 1, {n0, 0, 0, 0}, {0, 0, 0, 0}};
    return attend_tensor_row_major(t);
}

#ifdef __cplusplus
}
#endif

#endif
