/* Bad input gets a sentence that names the argument and the limit: problems, tensors, weights and lengths. */
#include "support/refusal.h"
#include "core/arguments.h"
#include "core/layer_arguments.h"
#include "core/problem.h"
#include "core/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define HUGE_SIZE ((int64_t)1 << 40)

static float memory[4096];

static attend_problem small_problem(void)
{
    return (attend_problem){.batch = 2, .seqlen_q = 3, .seqlen_k = 5, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8};
}

static attend_problem small_layer(void)
{
    return (attend_problem){.batch = 2, .seqlen_q = 3, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .hidden_size = 16};
}

static void defaults_are_filled(void **state)
{
    (void)state;
    attend_problem p = small_layer(), r;
    p.num_kv_heads = 0;
    assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r), ATTEND_OK);
    assert_int_equal(r.num_kv_heads, 4);
    assert_int_equal(r.head_dim_v, 8);
    assert_int_equal(r.seqlen_k, 3);
    assert_int_equal(r.output_size, 16);
    assert_float_equal(r.softmax_scale, 1 / sqrtf(8), 1e-7f);
}

static void bad_problems_are_named(void **state)
{
    (void)state;
    const struct {
        const char *sentence;
        attend_operation operation;
        attend_problem change; /* fields that are not 0 replace those of the small problem */
    } cases[] = {
        {"batch is -1, expected at least 0", ATTEND_ATTENTION, {.batch = -1}},
        {"seqlen_q is -7, expected at least 0", ATTEND_ATTENTION, {.seqlen_q = -7}},
        {"seqlen_k is -7, expected at least 0", ATTEND_ATTENTION, {.seqlen_k = -7}},
        {"num_heads is -4, expected at least 1", ATTEND_ATTENTION, {.num_heads = -4}},
        {"num_heads (5) is not a multiple of num_kv_heads (2)", ATTEND_ATTENTION, {.num_heads = 5}},
        {"num_kv_heads is -2, expected at least 0", ATTEND_ATTENTION, {.num_kv_heads = -2}},
        {"head_dim is -8, expected at least 1", ATTEND_ATTENTION, {.head_dim = -8}},
        {"head_dim_v is -8, expected at least 0", ATTEND_ATTENTION, {.head_dim_v = -8}},
        {"dtype is 9", ATTEND_ATTENTION, {.dtype = (attend_dtype)9}},
        {"causal is 3", ATTEND_ATTENTION, {.causal = (attend_causal)3}},
        {"softmax_scale is nan, expected a finite number", ATTEND_ATTENTION, {.softmax_scale = NAN}},
        {"softmax_scale is -inf, expected a finite number", ATTEND_ATTENTION, {.softmax_scale = -INFINITY}},
        {"belong to layers", ATTEND_ATTENTION, {.hidden_size = 16}},
        {"hidden_size is 0, expected at least 1", ATTEND_LAYER, {.batch = 2}},
        {"context_hidden_size is -1", ATTEND_LAYER, {.hidden_size = 16, .context_hidden_size = -1}},
        {"output_size is -1", ATTEND_LAYER, {.hidden_size = 16, .output_size = -1}},
        {"seqlen_k (2) is less than seqlen_q (3) in self-attention", ATTEND_LAYER, {.seqlen_k = 2, .hidden_size = 16}},
        {"align_bottom_right is set", ATTEND_ATTENTION, {.causal = ATTEND_CAUSAL_TOP_LEFT, .align_bottom_right = true}},
        {"count only with windowed", ATTEND_ATTENTION, {.window_left = 4}},
        {"window_left is -2, expected at least -1", ATTEND_ATTENTION, {.windowed = true, .window_left = -2}},
        {"window_right is -5, expected at least -1", ATTEND_ATTENTION, {.windowed = true, .window_right = -5}},
        {"chunk is -1, expected at least 0", ATTEND_ATTENTION, {.chunk = -1}},
        {"prefix is -1, expected at least 0", ATTEND_ATTENTION, {.prefix = -1}},
        {"mask_axes is 16", ATTEND_ATTENTION, {.mask_axes = 16}},
        {"bias_axes is -1", ATTEND_ATTENTION, {.bias_axes = -1}},
        {"block_q (64) and block_k (0) are given both or neither", ATTEND_ATTENTION, {.block_q = 64}},
        {"block_axes is 4", ATTEND_ATTENTION, {.block_q = 64, .block_k = 64, .block_axes = ATTEND_PER_QUERY}},
        {"total_q and total_k count only with packed", ATTEND_ATTENTION, {.total_q = 6}},
        {"total_k is -6, expected at least 0", ATTEND_ATTENTION, {.packed = true, .total_k = -6}},
        {"packed and left_padded exclude each other", ATTEND_ATTENTION, {.packed = true, .left_padded = true}},
        {"total_k (5) differs from total_q (6)", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .packed = true, .total_q = 6, .total_k = 5}},
        {"softcap is -1, expected a finite number from 0 up", ATTEND_ATTENTION, {.softcap = -1}},
        {"softcap is inf, expected a finite number", ATTEND_ATTENTION, {.softcap = INFINITY}},
        {"alibi is 3", ATTEND_ATTENTION, {.alibi = (attend_alibi)3}},
        {"relative_buckets is 1, expected 2 to", ATTEND_ATTENTION, {.relative_buckets = 1}},
        {"relative_buckets is 7, expected an even number from 4", ATTEND_ATTENTION, {.relative_buckets = 7, .relative_bidirectional = true}},
        {"relative_max_distance is 16, expected 17 to", ATTEND_ATTENTION, {.relative_buckets = 32, .relative_max_distance = 16}},
        {"rotary is 3", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = (attend_rotary)3}},
        {"rotary_scaling is 5", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = (attend_rotary_scaling)5}},
        {"count only with rotary", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary_dim = 4}},
        {"rotary_dim is 10, expected an even number up to head_dim (8)", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_dim = 10}},
        {"rotary_dim is 3", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_dim = 3}},
        {"rotary_base is 0.5", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_base = 0.5}},
        {"rotary_base is inf, expected a finite number above 1", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_base = INFINITY}},
        {"first_position is -1", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .first_position = -1}},
        {"rotary_factor is 0, expected a finite number from 1 up", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_LINEAR}},
        {"rotary_original_seqlen is 0, expected at least 1", ATTEND_LAYER,
         {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 2}},
        {"rotary_low (5) and rotary_high (4) must be", ATTEND_LAYER,
         {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_LLAMA3, .rotary_factor = 2, .rotary_original_seqlen = 8, .rotary_low = 5}},
        {"rotary_low (1) and rotary_high (inf) must be finite", ATTEND_LAYER,
         {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_LLAMA3, .rotary_factor = 2, .rotary_original_seqlen = 8, .rotary_high = INFINITY}},
        {"rotary_attention_factor is inf, expected a finite number above 0", ATTEND_LAYER,
         {.hidden_size = 16, .seqlen_k = 3, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 2, .rotary_original_seqlen = 8, .rotary_attention_factor = INFINITY}},
        {"qk_norm is 3", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .qk_norm = (attend_qk_norm)3}},
        {"qk_norm_epsilon is -1", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .qk_norm_epsilon = -1}},
        {"qk_norm_epsilon is inf, expected a finite number from 0 up", ATTEND_LAYER, {.hidden_size = 16, .seqlen_k = 3, .qk_norm_epsilon = INFINITY}},
        {"belong to layers, which project Q and K", ATTEND_ATTENTION, {.rotary = ATTEND_ROTARY_HALVES}},
        {"are for self-attention", ATTEND_LAYER, {.hidden_size = 16, .context_hidden_size = 16, .qk_norm = ATTEND_QK_NORM_RMS}},
        {"more bytes than 63 bits", ATTEND_ATTENTION, {.batch = HUGE_SIZE, .seqlen_k = HUGE_SIZE}},
        {"the layer's tensors have more bytes", ATTEND_LAYER, {.seqlen_k = 3, .hidden_size = INT64_MAX / 4}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const attend_problem *c = &cases[i].change, small = small_problem();
        attend_problem p = *c, r;
        p.batch = small.batch, p.seqlen_q = small.seqlen_q, p.seqlen_k = small.seqlen_k;
        p.num_heads = small.num_heads, p.num_kv_heads = small.num_kv_heads, p.head_dim = small.head_dim;
        if (c->batch) p.batch = c->batch;
        if (c->seqlen_q) p.seqlen_q = c->seqlen_q;
        if (c->seqlen_k) p.seqlen_k = c->seqlen_k;
        if (c->num_heads) p.num_heads = c->num_heads;
        if (c->num_kv_heads) p.num_kv_heads = c->num_kv_heads;
        if (c->head_dim) p.head_dim = c->head_dim;
        test_expect_failure(attend_problem_resolve(&p, sizeof p, cases[i].operation, &r), ATTEND_INVALID_ARGUMENT,
                       cases[i].sentence);
    }
}

/* q 192 elements, k and v 160 each, out 192, lse 24, all apart. */
static attend_attention_args small_args(void)
{
    return (attend_attention_args){
        .q = attend_tensor_4d(memory, ATTEND_F32, 2, 3, 4, 8),
        .k = attend_tensor_4d(memory + 512, ATTEND_F32, 2, 5, 2, 8),
        .v = attend_tensor_4d(memory + 1024, ATTEND_F32, 2, 5, 2, 8),
        .out = attend_tensor_4d(memory + 1536, ATTEND_F32, 2, 3, 4, 8),
        .lse = attend_tensor_3d(memory + 2048, ATTEND_F32, 2, 4, 3),
    };
}

static attend_status resolve_for(const attend_problem *p, const attend_attention_args *args, attend_attention_args *resolved,
                                 attend_feature_args *features)
{
    attend_key_part part;
    assert_int_equal(attend_attention_args_read(args, sizeof *args, sizeof *features, resolved, features), ATTEND_OK);
    return attend_attention_args_resolve(p, 0, resolved, features, &part);
}

static attend_status resolve_args(const attend_attention_args *args, attend_attention_args *resolved)
{
    attend_problem p = small_problem(), r;
    attend_feature_args features;
    assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_ATTENTION, &r), ATTEND_OK);
    return resolve_for(&r, args, resolved, &features);
}

static void expect_bad_args(const attend_attention_args *args, const char *sentence)
{
    attend_attention_args resolved;
    test_expect_failure(resolve_args(args, &resolved), ATTEND_INVALID_ARGUMENT, sentence);
}

static void good_tensors_get_strides(void **state)
{
    (void)state;
    attend_attention_args args = small_args(), r;
    assert_int_equal(resolve_args(&args, &r), ATTEND_OK);
    assert_int_equal(r.q.stride[0], 96);
    assert_int_equal(r.q.stride[1], 32);
    assert_int_equal(r.q.stride[3], 1);
    args.lse.data = NULL;
    assert_int_equal(resolve_args(&args, &r), ATTEND_OK);
}

static void bad_tensors_are_named(void **state)
{
    (void)state;
    attend_attention_args a;
    a = small_args(), a.q.data = NULL, expect_bad_args(&a, "q is NULL");
    a = small_args(), a.k.rank = 3, expect_bad_args(&a, "k has rank 3, expected 4");
    a = small_args(), a.v.shape[1] = 6, expect_bad_args(&a, "v has shape [2, 6, 2, 8], expected [2, 5, 2, 8]");
    a = small_args(), a.q.dtype = (attend_dtype)77, expect_bad_args(&a, "q has dtype 77, which is none of attend_dtype, expected f32");
    a = small_args(), a.q.dtype = ATTEND_F16, expect_bad_args(&a, "q is f16, expected f32");
    a = small_args(), a.q.data = (char *)memory + 2, expect_bad_args(&a, "q is not aligned to its 4-byte elements");
    a = small_args(), a.lse.dtype = ATTEND_BF16, expect_bad_args(&a, "lse is bf16, expected f32");
    a = small_args(), memcpy(a.k.stride, (int64_t[]){80, -16, 8, 1}, 32), expect_bad_args(&a, "k has a negative stride[1]");
    a = small_args(), memcpy(a.k.stride, (int64_t[]){80, -1, 8, 1}, 32), expect_bad_args(&a, "k has a negative stride[1]");
    a = small_args(), memcpy(a.v.stride, (int64_t[]){80, 1, 40, 5}, 32), expect_bad_args(&a, "v has last stride 5");
    a = small_args(), memcpy(a.v.stride, (int64_t[]){INT64_MAX / 2, INT64_MAX / 2, 8, 1}, 32),
    expect_bad_args(&a, "v reaches beyond the address space");
    a = small_args(), memcpy(a.out.stride, (int64_t[]){0, 32, 8, 1}, 32), expect_bad_args(&a, "out overlaps itself");
    a = small_args(), memcpy(a.out.stride, (int64_t[]){96, 32, 7, 1}, 32), expect_bad_args(&a, "out overlaps itself: stride[2] is 7");
}

static void broadcast_inputs_are_fine(void **state)
{
    (void)state;
    attend_attention_args args = small_args(), r;
    memcpy(args.k.stride, (int64_t[]){0, 16, 8, 1}, 32);
    memcpy(args.v.stride, (int64_t[]){0, 16, 0, 1}, 32);
    assert_int_equal(resolve_args(&args, &r), ATTEND_OK);
}

/* Tensors that a problem asks for must be given, and no others; broadcast axes in either form. */
static void side_tensors_are_announced(void **state)
{
    (void)state;
    attend_problem p = small_problem(), r;
    attend_feature_args f, brought;
    attend_attention_args a = small_args(), resolved;
    const int64_t cu[] = {0, 3, 6}, bad_cu[] = {0, 4, 3}, long_cu[] = {0, 2, 6}, starts[] = {0, 1};
    a.features = &f;
    f = (attend_feature_args){0}, f.mask = attend_tensor_4d(memory, ATTEND_U8, 2, 4, 3, 5), expect_bad_args(&a, "mask is given, but the problem does not ask for it (mask_axes)");
    f = (attend_feature_args){0}, f.starts_k = starts, expect_bad_args(&a, "starts_k is given, but the problem does not ask for it (left_padded)");
    f = (attend_feature_args){0}, f.cu_seqlens_q = cu, expect_bad_args(&a, "cu_seqlens_q is given, but the problem does not ask for it (packed)");
    f = (attend_feature_args){.positions = attend_tensor_2d(memory, ATTEND_I32, 2, 3)};
    expect_bad_args(&a, "positions is given, but the problem does not ask for it (rotary or absolute, which belong to layers)");
    p.bias_axes = ATTEND_PER_HEAD | ATTEND_PER_KEY, p.sinks = true;
    assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_ATTENTION, &r), ATTEND_OK);
    a.features = NULL;
    test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT, "bias is missing");
    a.features = &f, f = (attend_feature_args){0};
    test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT, "bias is missing");
    f.bias = attend_tensor_4d(memory, ATTEND_F32, 1, 4, 1, 5);
    test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT, "sinks is missing");
    f.sinks = attend_tensor_1d(memory, ATTEND_F32, 4);
    assert_int_equal(resolve_for(&r, &a, &resolved, &brought), ATTEND_OK);
    assert_int_equal(brought.bias.stride[0], 0);
    assert_int_equal(brought.bias.stride[1], 5);
    assert_int_equal(brought.bias.stride[2], 0);
    f.bias = attend_tensor_4d(memory, ATTEND_F32, 2, 4, 3, 5), memcpy(f.bias.stride, (int64_t[]){0, 5, 0, 1}, 32);
    assert_int_equal(resolve_for(&r, &a, &resolved, &brought), ATTEND_OK);
    memcpy(f.bias.stride, (int64_t[]){0, 5, 20, 1}, 32);
    test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT,
                   "bias varies along queries (stride[2] is 20), which the problem's axes leave out");
    memcpy(f.bias.stride, (int64_t[]){60, 5, 0, 1}, 32);
    test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT,
                   "bias varies along batch entries (stride[0] is 60), which the problem's axes leave out");
    f.bias = attend_tensor_4d(memory, ATTEND_BF16, 1, 4, 1, 5);
    test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT, "bias is bf16, expected f32");
    f.bias = attend_tensor_4d(memory, ATTEND_F32, 1, 2, 1, 5);
    test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT,
                   "bias has shape [1, 2, 1, 5], expected [1, 4, 1, 5]");
    assert_int_equal(attend_cu_seqlens_check("cu_seqlens_q", cu, 2, 3, 6), ATTEND_OK);
    test_expect_failure(attend_cu_seqlens_check("cu_seqlens_q", cu + 1, 1, 3, 6), ATTEND_INVALID_ARGUMENT, "cu_seqlens_q[0] is 3, expected 0");
    test_expect_failure(attend_cu_seqlens_check("cu_seqlens_q", bad_cu, 2, 4, 6), ATTEND_INVALID_ARGUMENT, "cu_seqlens_q[2] is 3, expected 4");
    test_expect_failure(attend_cu_seqlens_check("cu_seqlens_q", long_cu, 2, 3, 6), ATTEND_INVALID_ARGUMENT, "gives sequence 1 4 rows, the problem allows 3");
    test_expect_failure(attend_cu_seqlens_check("cu_seqlens_q", cu, 2, 3, 7), ATTEND_INVALID_ARGUMENT, "ends with 6, expected the total, 7");
}

static void overlaps_are_told_from_interleaving(void **state)
{
    (void)state;
    attend_attention_args a = small_args(), r;
    a.out.data = memory + 191;
    expect_bad_args(&a, "out overlaps q in memory");
    a.out.data = memory + 192;
    assert_int_equal(resolve_args(&a, &r), ATTEND_OK);
    /* q and out side by side in rows of 64: [b, s, 2, h, d], both ways round */
    for (int swap = 0; swap < 2; swap++) {
        a = small_args();
        a.q.data = memory + (swap ? 32 : 0);
        a.out.data = memory + (swap ? 0 : 32);
        memcpy(a.q.stride, (int64_t[]){192, 64, 8, 1}, 32);
        memcpy(a.out.stride, (int64_t[]){192, 64, 8, 1}, 32);
        assert_int_equal(resolve_args(&a, &r), ATTEND_OK);
        a.out.data = memory + (swap ? 1 : 31);
        expect_bad_args(&a, "out overlaps q in memory");
    }
    /* rows of 64 and of 96, which begin beside each other and meet in the second and third, both ways round */
    for (int swap = 0; swap < 2; swap++) {
        a = small_args(), a.q.data = memory + (swap ? 32 : 0), a.out.data = memory + (swap ? 0 : 32);
        memcpy(swap ? a.out.stride : a.q.stride, (int64_t[]){192, 64, 8, 1}, 32);
        memcpy(swap ? a.q.stride : a.out.stride, (int64_t[]){288, 96, 8, 1}, 32);
        expect_bad_args(&a, "out overlaps q in memory");
    }
    a = small_args(), a.lse.data = memory + 1536, expect_bad_args(&a, "overlaps");
}

static void bad_lengths_are_named(void **state)
{
    (void)state;
    const int64_t negative[] = {3, -1}, long_one[] = {6, 0}, good[] = {5, 0};
    test_expect_failure(attend_lengths_check("seqlens_k", negative, 2, 5), ATTEND_INVALID_ARGUMENT,
                   "seqlens_k[1] is -1, expected 0 to 5");
    test_expect_failure(attend_lengths_check("seqlens_k", long_one, 2, 5), ATTEND_INVALID_ARGUMENT,
                   "seqlens_k[0] is 6, expected 0 to 5");
    assert_int_equal(attend_lengths_check("seqlens_k", good, 2, 5), ATTEND_OK);
    assert_int_equal(attend_lengths_check("seqlens_k", NULL, 2, 5), ATTEND_OK);
}

static attend_layer_weights small_weights(void)
{
    return (attend_layer_weights){
        .wq = attend_tensor_2d(memory, ATTEND_F32, 32, 16),
        .wk = attend_tensor_2d(memory, ATTEND_F32, 16, 16),
        .wv = attend_tensor_2d(memory, ATTEND_F32, 16, 16),
        .wo = attend_tensor_2d(memory, ATTEND_F32, 16, 32),
    };
}

static attend_status resolve_weights(const attend_layer_weights *weights)
{
    attend_problem p = small_layer(), r;
    attend_layer_weights resolved;
    assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r), ATTEND_OK);
    return attend_layer_weights_resolve(&r, weights, sizeof *weights, &resolved);
}

/* What a norm multiplies and adds is taken where there is such a norm. */
static void parameters_of_norms_go_with_their_norm(void **state)
{
    (void)state;
    static const char *const names[] = {"q_norm", "k_norm", "q_norm_bias", "k_norm_bias"};
    for (int norm = ATTEND_QK_NORM_NONE; norm <= ATTEND_QK_NORM_LAYER; norm++)
        for (int i = 0; i < 4; i++) {
            attend_problem p = small_layer(), r;
            attend_layer_weights w = small_weights(), resolved;
            char sentence[80];
            p.qk_norm = (attend_qk_norm)norm;
            assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r), ATTEND_OK);
            *(attend_tensor *[]){&w.q_norm, &w.k_norm, &w.q_norm_bias, &w.k_norm_bias}[i] = attend_tensor_1d(memory, ATTEND_F32, 8);
            const attend_status status = attend_layer_weights_resolve(&r, &w, sizeof w, &resolved);
            snprintf(sentence, sizeof sentence, "%s is given, but the problem's qk_norm does not use it", names[i]);
            if (norm >= (i < 2 ? ATTEND_QK_NORM_RMS : ATTEND_QK_NORM_LAYER))
                assert_int_equal(status, ATTEND_OK);
            else
                test_expect_failure(status, ATTEND_INVALID_ARGUMENT, sentence);
        }
}

static void weights_in_either_orientation(void **state)
{
    (void)state;
    attend_layer_weights w = small_weights();
    assert_int_equal(resolve_weights(&w), ATTEND_OK);
    memcpy(w.wq.stride, (int64_t[]){1, 96}, 16); /* a slice of a fused Conv1D matrix */
    assert_int_equal(resolve_weights(&w), ATTEND_OK);
    memcpy(w.wq.stride, (int64_t[]){16, 2}, 16);
    test_expect_failure(resolve_weights(&w), ATTEND_INVALID_ARGUMENT, "wq has strides [16, 2]: one must be 1");
    w = small_weights(), w.wk.shape[0] = 32;
    test_expect_failure(resolve_weights(&w), ATTEND_INVALID_ARGUMENT, "wk has shape [32, 16], expected [16, 16]");
    w = small_weights(), w.bo = attend_tensor_1d(memory, ATTEND_F32, 15);
    test_expect_failure(resolve_weights(&w), ATTEND_INVALID_ARGUMENT, "bo has shape [15], expected [16]");
    w = small_weights(), w.wo.data = NULL;
    test_expect_failure(resolve_weights(&w), ATTEND_INVALID_ARGUMENT, "wo is NULL");
}

/* Of every feature, one at a time; with a block mask, then with a block list. */
static void no_output_overlaps_what_a_feature_brings(void **state)
{
    (void)state;
    static int64_t places[ATTEND_FEATURE_TENSORS][256];
    int checked = 0;
    for (int list = 0; list < 2; list++)
        for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) {
            attend_problem p = small_problem(), r;
            p.segments = p.head_scales = p.sinks = true, p.mask_axes = p.bias_axes = 15, p.alibi = ATTEND_ALIBI_SYMMETRIC;
            p.relative_buckets = 4, p.relative_max_distance = 8, p.block_q = p.block_k = 2, p.block_list = list ? 4 : 0;
            assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_ATTENTION, &r), ATTEND_OK);
            attend_feature_args f = {0}, brought;
            attend_attention_args a = small_args(), resolved;
            for (int n = 0; n < ATTEND_FEATURE_TENSORS; n++) {
                const attend_feature_shape shape = attend_feature_expected(&r, (attend_feature_tensor)n);
                attend_tensor t = {.data = n == i ? a.out.data : places[n], .dtype = attend_feature_dtype((attend_feature_tensor)n), .rank = shape.rank};
                for (int axis = 0; axis < shape.rank; axis++) t.shape[axis] = shape.varies[axis] ? shape.shape[axis] : 1;
                if (shape.rank) *attend_feature_tensor_of(&f, (attend_feature_tensor)n) = attend_tensor_row_major(t);
            }
            if (!attend_feature_tensor_of(&f, (attend_feature_tensor)i)->data) continue;
            char sentence[80];
            a.features = &f;
            snprintf(sentence, sizeof sentence, "out overlaps %s in memory", attend_feature_tensor_name((attend_feature_tensor)i));
            test_expect_failure(resolve_for(&r, &a, &resolved, &brought), ATTEND_INVALID_ARGUMENT, sentence);
            checked++;
        }
    assert_int_equal(checked, 9 + 10);
}

/* A plan's weights are read by every run. Only addresses matter here. */
static void no_output_overlaps_a_weight(void **state)
{
    (void)state;
    static float places[21][1024];
    attend_problem p = small_layer(), r;
    p.qk_norm = ATTEND_QK_NORM_LAYER, p.absolute = ATTEND_ABSOLUTE_LEARNED, p.max_positions = 10;
    p.head_dim_v = 6, p.output_size = 20; /* so that no two of the sizes are the same */
    assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r), ATTEND_OK);
    attend_layer_weights w = {0}, resolved;
    attend_layer_args args = {.x = attend_tensor_3d(places[0], ATTEND_F32, 2, 3, 16),
                              .out = attend_tensor_3d(places[1], ATTEND_F32, 2, 3, 20),
                              .lse = attend_tensor_3d(places[2], ATTEND_F32, 2, 4, 3),
                              .q = attend_tensor_4d(places[3], ATTEND_F32, 2, 3, 4, 8),
                              .k = attend_tensor_4d(places[4], ATTEND_F32, 2, 3, 2, 8),
                              .v = attend_tensor_4d(places[5], ATTEND_F32, 2, 3, 2, 6),
                              .heads = attend_tensor_4d(places[6], ATTEND_F32, 2, 3, 4, 6)};
    const struct {
        const char *name;
        attend_tensor *tensor;
        int64_t rows, columns; /* columns 0: one axis */
    } weights[] = {{"wq", &w.wq, 32, 16}, {"wk", &w.wk, 16, 16}, {"wv", &w.wv, 12, 16}, {"wo", &w.wo, 20, 24}, {"bq", &w.bq, 32, 0},
                   {"bk", &w.bk, 16, 0}, {"bv", &w.bv, 12, 0}, {"bo", &w.bo, 20, 0}, {"q_norm", &w.q_norm, 8, 0}, {"k_norm", &w.k_norm, 8, 0},
                   {"q_norm_bias", &w.q_norm_bias, 8, 0}, {"k_norm_bias", &w.k_norm_bias, 8, 0}, {"position_table", &w.position_table, 10, 16}};
    enum { WEIGHTS = sizeof weights / sizeof *weights };
    for (int i = 0; i < WEIGHTS; i++)
        *weights[i].tensor = weights[i].columns ? attend_tensor_2d(places[7 + i], ATTEND_F32, weights[i].rows, weights[i].columns)
                                                : attend_tensor_1d(places[7 + i], ATTEND_F32, weights[i].rows);
    assert_int_equal(attend_layer_weights_resolve(&r, &w, sizeof w, &resolved), ATTEND_OK);
    const struct {
        const char *name;
        attend_tensor *tensor;
    } outputs[] = {{"out", &args.out}, {"lse", &args.lse}, {"q", &args.q}, {"k", &args.k}, {"v", &args.v}, {"heads", &args.heads}};
    for (int o = -1; o < 6; o++)
        for (int i = 0; i < (o < 0 ? 1 : WEIGHTS); i++) {
            void *const before = o < 0 ? NULL : outputs[o].tensor->data;
            attend_layer_args read;
            attend_feature_args features;
            char sentence[80];
            if (o >= 0) outputs[o].tensor->data = (float *)weights[i].tensor->data + weights[i].rows - 1;
            assert_int_equal(attend_layer_args_read(&r, &args, sizeof args, 0, &read, &features, NULL), ATTEND_OK);
            const attend_status status = attend_layer_args_resolve(&r, &resolved, &read, &features, NULL);
            if (o < 0) {
                assert_int_equal(status, ATTEND_OK);
                continue;
            }
            outputs[o].tensor->data = before;
            snprintf(sentence, sizeof sentence, "%s overlaps %s in memory", outputs[o].name, weights[i].name);
            test_expect_failure(status, ATTEND_INVALID_ARGUMENT, sentence);
        }
}

static void context_only_where_the_problem_has_one(void **state)
{
    (void)state;
    attend_problem p = small_layer(), r;
    attend_layer_args args = {.x = attend_tensor_3d(memory, ATTEND_F32, 2, 3, 16),
                              .out = attend_tensor_3d(memory + 512, ATTEND_F32, 2, 3, 16),
                              .context = attend_tensor_3d(memory, ATTEND_F32, 2, 3, 16)},
                      read;
    attend_feature_args features;
    assert_int_equal(attend_problem_resolve(&p, sizeof p, ATTEND_LAYER, &r), ATTEND_OK);
    assert_int_equal(attend_layer_args_read(&r, &args, sizeof args, 0, &read, &features, NULL), ATTEND_OK);
    const attend_layer_weights none = {0};
    test_expect_failure(attend_layer_args_resolve(&r, &none, &read, &features, NULL), ATTEND_INVALID_ARGUMENT,
                   "context is given, but the problem's context_hidden_size is 0");
    r.context_hidden_size = 16, read.context = (attend_tensor){0};
    test_expect_failure(attend_layer_args_resolve(&r, &none, &read, &features, NULL), ATTEND_INVALID_ARGUMENT,
                   "context is missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_filled),
        cmocka_unit_test(bad_problems_are_named),
        cmocka_unit_test(good_tensors_get_strides),
        cmocka_unit_test(bad_tensors_are_named),
        cmocka_unit_test(broadcast_inputs_are_fine),
        cmocka_unit_test(side_tensors_are_announced),
        cmocka_unit_test(overlaps_are_told_from_interleaving),
        cmocka_unit_test(bad_lengths_are_named),
        cmocka_unit_test(weights_in_either_orientation),
        cmocka_unit_test(parameters_of_norms_go_with_their_norm),
        cmocka_unit_test(context_only_where_the_problem_has_one),
        cmocka_unit_test(no_output_overlaps_what_a_feature_brings),
        cmocka_unit_test(no_output_overlaps_a_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
