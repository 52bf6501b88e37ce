/* Design: what features bring, the same struct for attention, layers, gradients and inspection. */
#ifndef ATTEND_DESIGN_FEATURES_H
#define ATTEND_DESIGN_FEATURES_H

#include <attend/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lists and tensors that a problem asks for; NULL or absent: not given. An axis along which a tensor does not
 * vary has extent 1, or its full extent with stride 0. In a packed problem queries and keys count within
 * their sequence. */
typedef struct attend_feature_args {
    /* Lengths [batch], host or device. Host lists are checked and read before the call returns; lists on the
     * device are read by the kernels, which clamp them. */
    const int64_t *seqlens_q, *seqlens_k;
    const int64_t *starts_k;                    /* with left_padded: the first key that is not padding */
    const int64_t *cu_seqlens_q, *cu_seqlens_k; /* if packed: [batch + 1], from 0 to the total */
    attend_tensor segments_q, segments_k;       /* i32 [batch, seqlen] */
    /* u8 [batch, num_heads, seqlen_q, seqlen_k]; not 0: visible */
    attend_tensor mask;
    attend_tensor block_mask;                   /* u8 [batch, num_heads, blocks of queries, blocks of keys] */
    attend_tensor block_offsets, block_indices; /* the same as a list: i64 and i32 */
    attend_tensor bias;                         /* f32 or the problem's dtype, shaped as mask */
    attend_tensor alibi_slopes;                 /* f32 [num_heads] */
    attend_tensor relative_table;               /* f32 [num_heads, relative_buckets] */
    attend_tensor head_scales;                  /* f32 [num_heads] */
    attend_tensor sinks;                        /* f32 [num_heads] */
    attend_tensor positions;                    /* i32 [batch, seqlen_q]; with rotary or absolute positions */
    /* with dropout: i64 [2], Philox's key and offset, host or device */
    attend_tensor dropout_seed;
} attend_feature_args;

/* The gradients of what has one, each shaped as its tensor above and f32; absent: not wanted. Summed over the
 * axes along which the tensor does not vary, in an order that is always the same. */
typedef struct attend_feature_grads {
    attend_tensor bias;
    attend_tensor alibi_slopes;
    attend_tensor relative_table;
    attend_tensor head_scales;
    attend_tensor sinks;
} attend_feature_grads;

#ifdef __cplusplus
}
#endif

#endif
