#include "support/rotations.h"
#include "core/problem.h"
#include "reference/reference.h"
#include "core/tensor.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SHAPE .batch = 2, .seqlen_q = 37, .num_heads = 6, .num_kv_heads = 2
#define LLAMA3 .rotary_base = 500000, .rotary_scaling = ATTEND_ROTARY_LLAMA3, .rotary_factor = 8, .rotary_original_seqlen = 8192

const rotary_case test_rotations[TEST_ROTATIONS] = {
    {"halves", {SHAPE, .head_dim = 64, .rotary = ATTEND_ROTARY_HALVES}, COUNTED, false, false, false, false},
    {"interleaved", {SHAPE, .head_dim = 64, .rotary = ATTEND_ROTARY_INTERLEAVED}, COUNTED, false, false, false, true},
    {"Llama 3, decoding at 2^17", {.batch = 3, .seqlen_q = 1, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .dtype = ATTEND_BF16, .rotary = ATTEND_ROTARY_HALVES, LLAMA3}, FIRSTS, false, false, false, true},
    {"Llama 3, from 2^20 on", {SHAPE, .head_dim = 128, .rotary = ATTEND_ROTARY_HALVES, LLAMA3, .first_position = 1 << 20}, COUNTED, false, false, false, false},
    {"GPT-J, partial, given", {SHAPE, .head_dim = 80, .dtype = ATTEND_F16, .rotary = ATTEND_ROTARY_INTERLEAVED, .rotary_dim = 32}, GIVEN, true, false, false, true},
    {"partial halves, lengths", {SHAPE, .head_dim = 33, .rotary = ATTEND_ROTARY_HALVES, .rotary_dim = 10}, FIRSTS, true, false, false, true},
    {"YaRN, packed", {.batch = 4, .seqlen_q = 30, .packed = true, .total_q = 61, .num_heads = 8, .num_kv_heads = 1, .head_dim = 64, .dtype = ATTEND_BF16, .rotary = ATTEND_ROTARY_HALVES,
      .rotary_base = 150000, .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 32, .rotary_original_seqlen = 4096}, FIRSTS, false, false, false, false},
    {"packed, counted", {.batch = 4, .seqlen_q = 30, .packed = true, .total_q = 61, .num_heads = 3, .head_dim = 32, .rotary = ATTEND_ROTARY_INTERLEAVED}, COUNTED, false, false, false, true},
    {"packed, given", {.batch = 4, .seqlen_q = 30, .packed = true, .total_q = 61, .num_heads = 3, .head_dim = 32, .dtype = ATTEND_F16, .rotary = ATTEND_ROTARY_HALVES}, GIVEN, false, false, false, false},
    {"left-padded, linear", {SHAPE, .head_dim = 40, .dtype = ATTEND_F16, .left_padded = true, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_LINEAR, .rotary_factor = 4}, COUNTED, false, false, false, false},
    {"left-padded, firsts, dynamic NTK", {SHAPE, .seqlen_k = 5000, .head_dim = 64, .left_padded = true, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_NTK, .rotary_factor = 2,
      .rotary_original_seqlen = 2048}, FIRSTS, false, false, false, false},
    {"backward of YaRN", {SHAPE, .head_dim = 64, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 16, .rotary_original_seqlen = 4096}, GIVEN, false, true, false, true},
    {"backward, interleaved, bf16", {SHAPE, .head_dim = 128, .dtype = ATTEND_BF16, .rotary = ATTEND_ROTARY_INTERLEAVED}, FIRSTS, true, true, false, false},
    {"k alone, the largest head", {.batch = 1, .seqlen_q = 70, .num_heads = 1, .head_dim = 512, .rotary = ATTEND_ROTARY_HALVES}, COUNTED, false, false, true, false},
    {"a head wider than its rotated elements", {.batch = 1, .seqlen_q = 9, .num_heads = 2, .head_dim = 576, .dtype = ATTEND_BF16, .rotary = ATTEND_ROTARY_INTERLEAVED, .rotary_dim = 64}, GIVEN, false, false, true, true},
    {"Qwen 3, RMS norm", {SHAPE, .head_dim = 128, .dtype = ATTEND_BF16, .rotary = ATTEND_ROTARY_HALVES, .rotary_base = 1e6, .qk_norm = ATTEND_QK_NORM_RMS}, FIRSTS, true, false, false, true},
    {"layer norm, partial, f32", {SHAPE, .head_dim = 96, .rotary = ATTEND_ROTARY_HALVES, .rotary_dim = 48, .qk_norm = ATTEND_QK_NORM_LAYER}, COUNTED, false, false, false, false},
    {"norm alone", {SHAPE, .head_dim = 72, .dtype = ATTEND_F16, .qk_norm = ATTEND_QK_NORM_RMS}, COUNTED, false, false, false, true},
    {"one element a pair", {.batch = 1, .seqlen_q = 1, .num_heads = 1, .head_dim = 2, .rotary = ATTEND_ROTARY_HALVES}, GIVEN, false, false, false, false},
    {"packed, firsts", {.batch = 4, .seqlen_q = 30, .packed = true, .total_q = 61, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .rotary = ATTEND_ROTARY_HALVES}, FIRSTS, false, false, false, true},
    {"no tokens", {.batch = 2, .seqlen_q = 0, .num_heads = 2, .head_dim = 8, .rotary = ATTEND_ROTARY_HALVES}, COUNTED, false, false, false, false},
    {"no batch", {.batch = 0, .seqlen_q = 5, .num_heads = 2, .head_dim = 8, .rotary = ATTEND_ROTARY_HALVES}, FIRSTS, false, false, false, false},
    {"YaRN, a ramp beyond the last pair", {SHAPE, .head_dim = 64, .rotary = ATTEND_ROTARY_HALVES, .rotary_scaling = ATTEND_ROTARY_YARN, .rotary_factor = 8,
      .rotary_original_seqlen = 1 << 20}, FIRSTS, false, false, false, false},
    {"layer norm, all tensors at once", {SHAPE, .head_dim = 24, .rotary = ATTEND_ROTARY_HALVES, .qk_norm = ATTEND_QK_NORM_LAYER}, GIVEN, false, false, false, false},
};
static void *block(rotated *t, size_t bytes)
{
    assert_true(t->count < TEST_ROTATION_BLOCKS);
    void *data = t->blocks[t->count] = malloc(bytes + 64);
    assert_non_null(data);
    t->bytes[t->count++] = bytes + 64;
    memset(data, 0xff, bytes + 64);
    return data;
}

attend_tensor test_rotation_heads(rotated *t, int64_t count, bool filled)
{
    const int64_t batch = attend_tensor_batch(&t->p), rows = attend_rows_q(&t->p), d = t->p.head_dim, gap = t->c->gaps ? 5 : 0;
    const int64_t row = count * (d + gap) + gap, size = batch * rows * row;
    attend_tensor x = attend_tensor_4d(block(t, (size_t)size * attend_dtype_bytes(t->p.dtype)), t->p.dtype, batch, rows, count, d);
    memcpy(x.stride, (int64_t[]){rows * row, row, d + gap, 1}, sizeof x.stride);
    if (filled) attend_values_gauss(t->seed++, 1, &x);
    return x;
}

static attend_tensor norm(rotated *t)
{
    attend_tensor x = attend_tensor_1d(block(t, (size_t)t->p.head_dim * 4), t->p.dtype, t->p.head_dim);
    x.stride[0] = 1;
    attend_values_gauss(t->seed++, 0.5f, &x);
    return x;
}

static void set_positions(rotated *t)
{
    const attend_problem *p = &t->p;
    const int64_t tokens = attend_tensor_batch(p) * attend_rows_q(p);
    for (int64_t b = 0; b < 4; b++) {
        t->firsts[b] = ((int64_t)1 << 17) * (b % 2) - 13 * b, t->lengths[b] = b == 1 ? p->seqlen_q / 2 : p->seqlen_q, t->starts[b] = 4 * b;
        t->cu[b] = b * p->total_q / 4, t->cu[b + 1] = (b + 1) * p->total_q / 4;
    }
    if (t->c->where == FIRSTS) t->args.first_positions = t->firsts;
    if (t->c->lengths) t->args.seqlens_q = t->lengths;
    if (p->left_padded) t->args.starts_k = t->starts;
    if (p->packed) t->args.cu_seqlens_q = t->cu;
    if (t->c->where != GIVEN) return;
    t->args.positions = attend_tensor_2d(block(t, (size_t)tokens * 4), ATTEND_I32, attend_tensor_batch(p), attend_rows_q(p));
    for (int64_t i = 0; i < tokens; i++) ((int32_t *)t->args.positions.data)[i] = (int32_t)(i * 7919 % 1000003 - 500);
}

void test_rotation_make(rotated *t, const rotary_case *c)
{
    *t = (rotated){.c = c, .seed = 100 * (uint64_t)(c - test_rotations + 1)};
    if (attend_problem_resolve(&c->problem, sizeof c->problem, ATTEND_ROTATION, &t->p)) fail_msg("%s: %s", c->name, attend_error_message());
    t->args.k = test_rotation_heads(t, t->p.num_kv_heads, true), t->args.k_out = test_rotation_heads(t, t->p.num_kv_heads, false);
    if (!c->one_tensor) t->args.q = test_rotation_heads(t, t->p.num_heads, true), t->args.q_out = test_rotation_heads(t, t->p.num_heads, false);
    if (t->p.qk_norm) t->args.k_norm = norm(t), t->args.q_norm = norm(t);
    if (t->p.qk_norm == ATTEND_QK_NORM_LAYER) t->args.k_norm_bias = norm(t);
    if (t->args.k_norm_bias.data && c->where == GIVEN) t->args.q_norm_bias = norm(t);
    t->args.backward = c->backward;
    set_positions(t);
}

void test_rotation_free(rotated *t)
{
    for (int i = 0; i < t->count; i++) free(t->blocks[i]);
}

bool test_rotation_has(const rotated *t, int64_t b, int64_t i) { return !t->c->lengths || i < (b == 1 ? t->p.seqlen_q / 2 : t->p.seqlen_q); }

int64_t test_rotation_position(const rotated *t, int64_t b, int64_t i)
{
    int64_t begin = t->p.left_padded ? t->starts[b] : 0;
    if (t->c->where == GIVEN) return ((int32_t *)t->args.positions.data)[b * attend_rows_q(&t->p) + i];
    for (int s = 0; t->p.packed && s < t->p.batch; s++)
        if (t->cu[s] <= i) b = s, begin = t->cu[s];
    return (t->c->where == FIRSTS ? t->firsts[b] : t->p.first_position) + (i > begin ? i - begin : 0);
}

double test_rotation_at(const attend_tensor *t, int64_t b, int64_t i, int64_t h, int64_t c)
{
    return attend_load(t, b * t->stride[0] + i * t->stride[1] + h * t->stride[2] + c * t->stride[3]);
}

