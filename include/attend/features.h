/* Lists and tensors of features: the same struct for attention, its gradients, layers, inspection and
 * comparison. */
#ifndef ATTEND_FEATURES_H
#define ATTEND_FEATURES_H

#include <attend/tensor.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The tensors and lists that the problem asks for, and no others; NULL or absent: not given. A NULL pointer
   to the struct means that all are absent. The struct itself is read during the call only. An axis along
   which mask, bias, block_mask or block_offsets does not vary has extent 1, or its full extent with stride 0.
   In a packed problem queries and keys count from their sequence's first. */
typedef struct attend_feature_args {
    /* Optional lengths [batch], each in [0, seqlen]. Rows of out past a query length become 0 (of a layer:
     * what its output projection makes of zeros, bo or 0), their LSE -infinity; q, k and v past the lengths
     * are not read. Lists on the host are checked and read before the call returns; those on the device are
     * read by the kernels, which clamp them to the range. */
    const int64_t *seqlens_q, *seqlens_k;
    /* With left_padded, [batch]: the first key that is not padding; keys [starts_k, seqlens_k) are there. */
    const int64_t *starts_k;
    /* If packed, [batch + 1]: sequence b has the rows [cu_seqlens[b], cu_seqlens[b + 1]); from 0 to the
       total. Checked and clamped as lengths. Without cu_seqlens_k, keys of self-attention layers lie as
       queries. */
    const int64_t *cu_seqlens_q, *cu_seqlens_k;
    /* i32 [batch, seqlen_q] and [batch, seqlen_k]; packed: [1, total] */
    attend_tensor segments_q, segments_k;
    attend_tensor mask; /* u8 [batch, num_heads, seqlen_q, seqlen_k]; not 0: visible */
    /* u8 [batch, num_heads, ceil(seqlen_q/block_q), ceil(seqlen_k/block_k)] */
    attend_tensor block_mask;
    /* With block_list: block i of queries sees the blocks of keys indices[offsets[i]] … indices[offsets[i +
     * 1] - 1], ascending. Offsets are i64 [batch, num_heads, blocks of queries + 1], indices i32
     * [block_list]; on the host they are checked, on the device clamped. */
    attend_tensor block_offsets, block_indices;
    /* f32 or the problem's dtype, shaped as mask; -infinity hides a key as a mask does */
    attend_tensor bias;
    attend_tensor alibi_slopes; /* optional with alibi: f32 [num_heads] */
    /* f32 [num_heads, relative_buckets]; T5 stores it transposed: strides {1, num_heads} */
    attend_tensor relative_table;
    attend_tensor head_scales; /* f32 [num_heads] */
    attend_tensor sinks;       /* f32 [num_heads] */
    /* Optional, of layers with rotary or absolute: i32 [batch, seqlen_q]; packed: [1, total_q]. Given
     * elsewhere they are refused; attend_rotary_apply() has its own. */
    attend_tensor positions;
} attend_feature_args;

#ifdef __cplusplus
}
#endif

#endif
