/* The structs of the public headers as they were in the first release whose callers must work for ever: fields in their order, R where
   reserved. Nothing in this file ever changes: what a struct gains afterwards is not here. */
#ifndef ATTEND_TEST_SUPPORT_FIRST_LAYOUT_H
#define ATTEND_TEST_SUPPORT_FIRST_LAYOUT_H

#include <attend/attend.h>

#define FIRST_attend_tensor(F, R, S) \
    F(S, void *, data) F(S, attend_dtype, dtype) F(S, int, rank) F(S, int64_t, shape, [ATTEND_MAX_RANK]) \
    F(S, int64_t, stride, [ATTEND_MAX_RANK])

#define FIRST_attend_element(F, R, S) \
    F(S, int64_t, batch) F(S, int64_t, head) F(S, int64_t, row) F(S, int64_t, column) F(S, double, actual) \
    F(S, double, expected) F(S, double, bound)

#define FIRST_attend_key_window(F, R, S) \
    F(S, int64_t, first) F(S, int64_t, last) F(S, bool, absolute) R(S, uint8_t, reserved, [7])

#define FIRST_attend_projection_work(F, R, S) \
    F(S, int64_t, rows) F(S, int64_t, in) F(S, int64_t, out) F(S, int, call) R(S, int, reserved, [3]) \
    F(S, double, flops) F(S, double, bytes)

#define FIRST_attend_comparison(F, R, S) \
    F(S, bool, passed) R(S, uint8_t, reserved, [39]) F(S, int64_t, elements) F(S, double, bound_ratio) \
    F(S, double, quality_ratio) F(S, double, lse_bound_ratio) F(S, double, max_error) \
    F(S, double, rms_error) F(S, attend_element, worst) F(S, attend_element, worst_lse)

#define FIRST_attend_problem(F, R, S) \
    F(S, int64_t, batch) F(S, int64_t, seqlen_q) F(S, int64_t, seqlen_k) F(S, int64_t, num_heads) \
    F(S, int64_t, num_kv_heads) F(S, int64_t, head_dim) F(S, int64_t, head_dim_v) \
    F(S, attend_dtype, dtype) F(S, attend_causal, causal) F(S, float, softmax_scale) F(S, float, softcap) \
    F(S, int64_t, hidden_size) F(S, int64_t, context_hidden_size) F(S, int64_t, output_size) \
    F(S, int64_t, window_left) F(S, int64_t, window_right) F(S, int64_t, chunk) F(S, int64_t, prefix) \
    F(S, int64_t, block_q) F(S, int64_t, block_k) F(S, int64_t, block_list) F(S, int64_t, total_q) \
    F(S, int64_t, total_k) F(S, int, mask_axes) F(S, int, block_axes) F(S, bool, packed) \
    F(S, bool, align_bottom_right) F(S, bool, windowed) F(S, bool, left_padded) F(S, bool, segments) \
    F(S, bool, head_scales) F(S, bool, sinks) F(S, bool, relative_bidirectional) F(S, int, bias_axes) \
    F(S, attend_alibi, alibi) F(S, int, relative_buckets) F(S, int, relative_max_distance) \
    F(S, attend_rotary, rotary) F(S, attend_rotary_scaling, rotary_scaling) F(S, int64_t, rotary_dim) \
    F(S, int64_t, first_position) F(S, double, rotary_base) F(S, double, rotary_factor) \
    F(S, int64_t, rotary_original_seqlen) F(S, double, rotary_low) F(S, double, rotary_high) \
    F(S, double, rotary_attention_factor) F(S, attend_qk_norm, qk_norm) F(S, float, qk_norm_epsilon) \
    F(S, bool, rotary_untruncated) R(S, uint8_t, reserved, [3]) F(S, attend_absolute, absolute) \
    F(S, double, absolute_base) F(S, int64_t, max_positions)

#define FIRST_attend_context_options(F, R, S) \
    F(S, attend_device, device) F(S, int, device_index) F(S, int, threads) F(S, bool, device_tensors_only) \
    F(S, bool, strict) R(S, uint8_t, reserved, [2]) F(S, attend_progress *, progress) \
    F(S, void *, progress_user)

#define FIRST_attend_compare_options(F, R, S) \
    F(S, int, threads) R(S, int, reserved) F(S, attend_progress *, progress) F(S, void *, progress_user)

#define FIRST_attend_plan_options(F, R, S) \
    F(S, bool, caller_workspace) R(S, uint8_t, reserved, [7])

#define FIRST_attend_run(F, R, S) \
    F(S, struct CUstream_st *, stream) F(S, void *, workspace) F(S, size_t, workspace_bytes)

#define FIRST_attend_lists(F, R, S) \
    F(S, const int64_t *, seqlens_q) F(S, const int64_t *, seqlens_k) F(S, const int64_t *, starts_k) \
    F(S, const int64_t *, cu_seqlens_q) F(S, const int64_t *, cu_seqlens_k)

#define FIRST_attend_feature_args(F, R, S) \
    F(S, const int64_t *, seqlens_q) F(S, const int64_t *, seqlens_k) F(S, const int64_t *, starts_k) \
    F(S, const int64_t *, cu_seqlens_q) F(S, const int64_t *, cu_seqlens_k) \
    F(S, attend_tensor, segments_q) F(S, attend_tensor, segments_k) F(S, attend_tensor, mask) \
    F(S, attend_tensor, block_mask) F(S, attend_tensor, block_offsets) F(S, attend_tensor, block_indices) \
    F(S, attend_tensor, bias) F(S, attend_tensor, alibi_slopes) F(S, attend_tensor, relative_table) \
    F(S, attend_tensor, head_scales) F(S, attend_tensor, sinks) F(S, attend_tensor, positions)

#define FIRST_attend_attention_args(F, R, S) \
    F(S, attend_tensor, q) F(S, attend_tensor, k) F(S, attend_tensor, v) F(S, attend_tensor, out) \
    F(S, attend_tensor, lse) F(S, const attend_feature_args *, features)

#define FIRST_attend_state(F, R, S) \
    F(S, attend_tensor, out) F(S, attend_tensor, max) F(S, attend_tensor, sum)

#define FIRST_attend_cache(F, R, S) \
    F(S, attend_tensor, k) F(S, attend_tensor, v) F(S, attend_tensor, block_table) \
    F(S, const int64_t *, seqlens) R(S, uint64_t, reserved, [47])

#define FIRST_attend_cache_append_args(F, R, S) \
    F(S, attend_tensor, k) F(S, attend_tensor, v) F(S, const attend_feature_args *, features) \
    F(S, attend_tensor, k_norm) F(S, attend_tensor, k_norm_bias)

#define FIRST_attend_merge_args(F, R, S) \
    F(S, const attend_state *, states) F(S, int64_t, count) F(S, attend_tensor, out) F(S, attend_tensor, lse) \
    F(S, const attend_state *, into) F(S, attend_tensor, sinks)

#define FIRST_attend_layer_weights(F, R, S) \
    F(S, attend_tensor, wq) F(S, attend_tensor, wk) F(S, attend_tensor, wv) F(S, attend_tensor, wo) \
    F(S, attend_tensor, bq) F(S, attend_tensor, bk) F(S, attend_tensor, bv) F(S, attend_tensor, bo) \
    F(S, attend_tensor, q_norm) F(S, attend_tensor, k_norm) F(S, attend_tensor, q_norm_bias) \
    F(S, attend_tensor, k_norm_bias) F(S, attend_tensor, position_table)

#define FIRST_attend_layer_args(F, R, S) \
    F(S, attend_tensor, x) F(S, attend_tensor, context) F(S, attend_tensor, out) F(S, attend_tensor, lse) \
    F(S, attend_tensor, q) F(S, attend_tensor, k) F(S, attend_tensor, v) F(S, attend_tensor, heads) \
    F(S, const attend_feature_args *, features)

#define FIRST_attend_rotary_args(F, R, S) \
    F(S, attend_tensor, q) F(S, attend_tensor, k) F(S, attend_tensor, q_out) F(S, attend_tensor, k_out) \
    F(S, attend_tensor, positions) F(S, const int64_t *, first_positions) F(S, const int64_t *, seqlens_q) \
    F(S, const int64_t *, starts_k) F(S, const int64_t *, cu_seqlens_q) F(S, bool, backward) \
    R(S, uint8_t, reserved, [7]) F(S, attend_tensor, q_norm) F(S, attend_tensor, k_norm) \
    F(S, attend_tensor, q_norm_bias) F(S, attend_tensor, k_norm_bias)

#define FIRST_attend_inspection(F, R, S) \
    F(S, attend_tensor, top_keys) F(S, attend_tensor, top_weights) F(S, attend_tensor, entropy) \
    F(S, attend_tensor, mass) F(S, const attend_key_window *, windows) F(S, int64_t, num_windows) \
    F(S, attend_tensor, distance) F(S, attend_tensor, weights) F(S, const int64_t *, queries) \
    F(S, int64_t, num_queries) F(S, attend_tensor, map) F(S, int64_t, first_query) \
    F(S, int64_t, map_queries) F(S, int64_t, first_key) F(S, int64_t, map_keys)

#define FIRST_attend_plan_memory(F, R, S) \
    F(S, size_t, host_bytes) F(S, size_t, device_workspace_bytes) F(S, size_t, device_staging_bytes)

#define FIRST_attend_explanation(F, R, S) \
    F(S, const char *, kernel) F(S, const char *, kernel_unaligned) F(S, attend_device, device) \
    F(S, int, tile_q) F(S, int, tile_k) F(S, int, threads) F(S, int, projection_count) F(S, bool, grouped) \
    R(S, uint8_t, reserved, [3]) F(S, int64_t, shared_bytes) F(S, int64_t, splits) F(S, int64_t, blocks) \
    F(S, int64_t, blocks_at_once) F(S, size_t, host_bytes) F(S, size_t, device_workspace_bytes) \
    F(S, size_t, device_staging_bytes) F(S, double, pairs) F(S, double, pairs_computed) \
    F(S, double, flops) F(S, double, bytes) F(S, attend_projection_work, projections, [4]) \
    F(S, const char *, projection_library) F(S, double, rope_bytes) F(S, double, position_bytes)

#define FIRST_attend_kernel_choice(F, R, S) \
    F(S, const char *, name) F(S, attend_device, device) F(S, attend_dtype, dtype) F(S, bool, chosen) \
    F(S, bool, chosen_unaligned) R(S, uint8_t, reserved, [6]) F(S, char, reason, [ATTEND_REASON_BYTES])

#define FIRST_attend_kernel_info(F, R, S) \
    F(S, const char *, name) F(S, attend_device, device) F(S, attend_dtype, dtype) \
    F(S, int64_t, head_dim_max) F(S, int64_t, head_dim_v_max) F(S, int, architecture_min) \
    F(S, int, tile_q) F(S, int, tile_k) F(S, int, threads) F(S, int64_t, shared_bytes) \
    F(S, uint64_t, features)

#define FIRST_attend_kernel_resources(F, R, S) \
    F(S, int, architecture) F(S, int, registers) F(S, int64_t, spill_bytes) F(S, int64_t, shared_bytes) \
    F(S, int, blocks) F(S, int, warps)

#define FIRST_attend_layer_comparison(F, R, S) \
    F(S, bool, passed) R(S, uint8_t, reserved, [7]) F(S, double, projection_ratio, [3]) \
    F(S, attend_comparison, attention) F(S, double, output_ratio) F(S, double, quality_ratio) \
    F(S, double, max_error) F(S, double, rms_error) F(S, attend_element, worst)

#define FIRST_attend_rotary_comparison(F, R, S) \
    F(S, bool, passed) R(S, uint8_t, reserved, [7]) F(S, int64_t, elements) F(S, double, bound_ratio) \
    F(S, double, quality_ratio) F(S, double, max_error) F(S, double, rms_error) \
    F(S, attend_element, worst)

#define FIRST_attend_feature_grads(F, R, S) \
    F(S, attend_tensor, bias) F(S, attend_tensor, alibi_slopes) F(S, attend_tensor, relative_table) \
    F(S, attend_tensor, head_scales) F(S, attend_tensor, sinks)

#define FIRST_attend_attention_grads(F, R, S) \
    F(S, attend_tensor, dout) F(S, attend_tensor, dlse) F(S, attend_tensor, dq) F(S, attend_tensor, dk) \
    F(S, attend_tensor, dv) F(S, const attend_feature_grads *, features) F(S, attend_tensor, out_f32) \
    F(S, bool, accumulate) R(S, uint8_t, reserved, [7])

#define FIRST_attend_layer_grads(F, R, S) \
    F(S, attend_tensor, dout) F(S, attend_tensor, dlse) F(S, attend_tensor, dx) F(S, attend_tensor, dcontext) \
    F(S, const attend_layer_weights *, weights) F(S, const attend_feature_grads *, features) F(S, bool, accumulate) \
    R(S, uint8_t, reserved, [7])

#define FIRST_attend_gradient_comparison(F, R, S) \
    F(S, int64_t, elements) F(S, double, bound_ratio) F(S, double, quality_ratio) F(S, double, max_error) \
    F(S, double, rms_error) F(S, attend_element, worst)

#define FIRST_attend_backward_comparison(F, R, S) \
    F(S, bool, passed) R(S, uint8_t, reserved, [7]) F(S, attend_gradient_comparison, dq) \
    F(S, attend_gradient_comparison, dk) F(S, attend_gradient_comparison, dv) \
    F(S, attend_gradient_comparison, bias) F(S, attend_gradient_comparison, alibi_slopes) \
    F(S, attend_gradient_comparison, relative_table) F(S, attend_gradient_comparison, head_scales) \
    F(S, attend_gradient_comparison, sinks)

/* first_attend_problem and so on, as a program compiled then has them. */
#define FIRST_FIELD(owner, type, name, ...) type name __VA_ARGS__;
#define FIRST_STRUCT(type)           typedef struct first_##type { FIRST_##type(FIRST_FIELD, FIRST_FIELD, type) } first_##type;

#define FIRST_LAYOUTS(X) \
    X(attend_tensor) \
    X(attend_element) \
    X(attend_key_window) \
    X(attend_projection_work) \
    X(attend_comparison) \
    X(attend_problem) \
    X(attend_context_options) \
    X(attend_compare_options) \
    X(attend_plan_options) \
    X(attend_run) \
    X(attend_lists) \
    X(attend_feature_args) \
    X(attend_attention_args) \
    X(attend_state) \
    X(attend_cache) \
    X(attend_cache_append_args) \
    X(attend_merge_args) \
    X(attend_layer_weights) \
    X(attend_layer_args) \
    X(attend_rotary_args) \
    X(attend_inspection) \
    X(attend_plan_memory) \
    X(attend_explanation) \
    X(attend_kernel_choice) \
    X(attend_kernel_info) \
    X(attend_kernel_resources) \
    X(attend_layer_comparison) \
    X(attend_feature_grads) \
    X(attend_attention_grads) \
    X(attend_layer_grads) \
    X(attend_gradient_comparison) \
    X(attend_backward_comparison) \
    X(attend_rotary_comparison)

FIRST_LAYOUTS(FIRST_STRUCT)

#endif
