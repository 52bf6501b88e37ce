/* A tensor is read where its strides lead, and nowhere else: one element for all along a stride of 0, also
   along every axis at once; strides that lead nowhere, along an extent of 1, do not matter; strides that no
   backend reads are refused. */
#include "support/fixture.h"
#include "support/forget.h"
#include "support/plans.h"
#include "support/refusal.h"
#include "support/run.h"
#include "core/arguments.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BATCH = 2, QUERIES = 5, KEYS = 7, HEADS = 4, DIM = 8, MOST = 512 };

static void put(unsigned char *to, attend_dtype dtype, double value)
{
    const float f = (float)value;
    const int32_t i = (int32_t)value;
    const int64_t wide = (int64_t)value;
    if (dtype == ATTEND_U8)
        *to = (unsigned char)value;
    else
        memcpy(to,
               dtype == ATTEND_F32   ? (const void *)&f
               : dtype == ATTEND_I64 ? (const void *)&wide
                                     : &i,
               attend_dtype_bytes(dtype));
}

/* ---- what features bring, one element for all ---- */

static const struct {
    attend_feature_tensor feature;
    attend_problem features;
    attend_dtype dtype;
    double value;
    int rank;
    int64_t shape[4];
} features[] = {
    {ATTEND_FEATURE_TENSOR_SEGMENTS_Q, {.segments = true}, ATTEND_I32, 3, 2, {BATCH, QUERIES}},
    {ATTEND_FEATURE_TENSOR_SEGMENTS_K, {.segments = true}, ATTEND_I32, 3, 2, {BATCH, KEYS}},
    {ATTEND_FEATURE_TENSOR_MASK, {.mask_axes = 15}, ATTEND_U8, 1, 4, {BATCH, HEADS, QUERIES, KEYS}},
    {ATTEND_FEATURE_TENSOR_BLOCK_MASK,
     {.block_q = 2, .block_k = 3, .block_axes = 3},
     ATTEND_U8,
     1,
     4,
     {BATCH, HEADS, 3, 3}},
    {ATTEND_FEATURE_TENSOR_BIAS, {.bias_axes = 15, .softcap = 2}, ATTEND_F32, 0.75, 4, {BATCH, HEADS, QUERIES, KEYS}},
    {ATTEND_FEATURE_TENSOR_SLOPES, {.alibi = ATTEND_ALIBI_SYMMETRIC}, ATTEND_F32, 0.3, 1, {HEADS}},
    {ATTEND_FEATURE_TENSOR_RELATIVE_TABLE,
     {.relative_buckets = 4, .relative_max_distance = 6},
     ATTEND_F32,
     0.4,
     2,
     {HEADS, 4}},
    {ATTEND_FEATURE_TENSOR_HEAD_SCALES, {.head_scales = true}, ATTEND_F32, 1.5, 1, {HEADS}},
    {ATTEND_FEATURE_TENSOR_SINKS, {.sinks = true}, ATTEND_F32, 0.5, 1, {HEADS}},
    {ATTEND_FEATURE_TENSOR_BLOCK_OFFSETS,
     {.block_q = 2, .block_k = 3, .block_axes = 3, .block_list = 4},
     ATTEND_I64,
     2,
     3,
     {BATCH, HEADS, 4}},
    {ATTEND_FEATURE_TENSOR_BLOCK_INDICES,
     {.block_q = 5, .block_k = 7, .block_axes = 3, .block_list = 4},
     ATTEND_I32,
     0,
     1,
     {4}},
};
enum { FEATURES = sizeof features / sizeof *features };

static test_run run_for(attend_problem features)
{
    test_run r = test_run_make(ATTEND_F32, DIM, BATCH, QUERIES, KEYS, HEADS, 2, ATTEND_CAUSAL_NONE);
    features.batch = r.p.batch, features.seqlen_q = r.p.seqlen_q, features.seqlen_k = r.p.seqlen_k,
    features.num_heads = HEADS;
    features.num_kv_heads = 2, features.head_dim = DIM;
    r.p = features;
    return r;
}

/* What else the case's features ask for: segments of the other side, offsets or indices of a list. */
static void add_partner(attend_feature_tensor feature, attend_feature_args *args, unsigned char *memory)
{
    int64_t *offsets = (int64_t *)memory;
    memset(memory, 0, MOST * 8);
    for (int i = 0; i < KEYS; i++) ((int32_t *)memory)[i] = i < 5 ? 3 : 4;
    if (feature == ATTEND_FEATURE_TENSOR_SEGMENTS_Q)
        args->segments_k = attend_tensor_2d(memory, ATTEND_I32, 1, KEYS), args->segments_k.shape[0] = BATCH,
        args->segments_k.stride[0] = 0;
    if (feature == ATTEND_FEATURE_TENSOR_SEGMENTS_K)
        args->segments_q = attend_tensor_2d(memory, ATTEND_I32, 1, QUERIES),
        args->segments_q.shape[0] = BATCH, args->segments_q.stride[0] = 0;
    if (feature == ATTEND_FEATURE_TENSOR_BLOCK_OFFSETS) args->block_indices = attend_tensor_1d(memory, ATTEND_I32, 4);
    if (feature != ATTEND_FEATURE_TENSOR_BLOCK_INDICES) return;
    for (int i = 0; i < BATCH * HEADS; i++) offsets[2 * i] = 0, offsets[2 * i + 1] = 1;
    args->block_offsets = attend_tensor_3d(memory, ATTEND_I64, BATCH, HEADS, 2);
}

/* The case's tensor in full, and then as its first element alone, before bytes that must not be read. */
static void one_element_serves_all(void **state)
{
    (void)state;
    static _Alignas(8) unsigned char memory[MOST * 8], partner[MOST * 8];
    attend_context *context = test_context();
    for (int n = 0; n < FEATURES; n++) {
        test_run r = run_for(features[n].features);
        const size_t bytes = attend_dtype_bytes(features[n].dtype),
                     out_bytes = BATCH * QUERIES * HEADS * DIM * sizeof(float);
        void *full = malloc(out_bytes);
        attend_feature_args given = {0};
        const attend_attention_args args = {.q = r.q, .k = r.k, .v = r.v, .out = r.out, .lse = r.lse, .features = &given};
        attend_tensor *tensor = attend_feature_tensor_of(&given, features[n].feature);
        attend_plan *plan;
        add_partner(features[n].feature, &given, partner);
        *tensor = (attend_tensor){.data = memory, .dtype = features[n].dtype, .rank = features[n].rank};
        memcpy(tensor->shape, features[n].shape, sizeof tensor->shape);
        *tensor = attend_tensor_row_major(*tensor);
        for (int i = 0; i < MOST; i++) put(memory + (size_t)i * bytes, features[n].dtype, features[n].value);
        if (test_attention_plan(context, &r.p, &plan) || attend_attention_forward(plan, &args) ||
            attend_synchronize(context))
            fail_msg("%s in full: %s", attend_feature_tensor_name(features[n].feature), attend_error_message());
        memcpy(full, r.out.data, out_bytes);
        memset(memory + bytes, 0xff, sizeof memory - bytes);
        memset(tensor->stride, 0, sizeof tensor->stride), memset(r.out.data, 0xff, out_bytes);
        test_forget_runs(plan);
        if (attend_attention_forward(plan, &args) || attend_synchronize(context))
            fail_msg("%s of one element: %s", attend_feature_tensor_name(features[n].feature), attend_error_message());
        if (memcmp(full, r.out.data, out_bytes))
            fail_msg("%s of one element: another result", attend_feature_tensor_name(features[n].feature));
        attend_plan_destroy(plan);
        test_run_free(&r);
        free(full);
    }
    attend_context_destroy(context);
}

/* ---- strides that lead nowhere ---- */

/* Along extents of 1 any stride will do. */
static void send_far(attend_tensor *t)
{
    static const int64_t far[] = {(int64_t)1 << 62, 0, INT64_MAX, INT64_MAX - 7};
    for (int axis = 0; axis < t->rank; axis++)
        if (t->shape[axis] == 1) t->stride[axis] = far[axis];
}

static void strides_along_one_element_do_not_matter(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t batch, queries, keys, heads, dim;
    } shapes[] = {{"one row", 1, 1, 1, 1, 8},      {"one head", 2, 5, 7, 1, 8},
                  {"one query", 1, 1, 300, 4, 16}, {"one key", 3, 40, 1, 2, 8},
                  {"one column", 2, 33, 20, 2, 1}, {"one entry", 1, 70, 70, 3, 8}};
    attend_context *context = test_context();
    for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++) {
        test_run r = test_run_make(ATTEND_F32, shapes[n].dim, shapes[n].batch, shapes[n].queries,
                                   shapes[n].keys, shapes[n].heads, shapes[n].heads, ATTEND_CAUSAL_NONE);
        const size_t bytes = test_row_bytes(&r.out) * (size_t)(shapes[n].batch * shapes[n].queries);
        void *near_by = malloc(bytes);
        attend_comparison c;
        test_run_go(&r, context, shapes[n].name);
        memcpy(near_by, r.out.data, bytes);
        memset(r.out.data, 0xff, bytes);
        send_far(&r.q), send_far(&r.k), send_far(&r.v), send_far(&r.out), send_far(&r.lse);
        test_run_go(&r, context, shapes[n].name);
        if (memcmp(near_by, r.out.data, bytes)) fail_msg("%s: another result", shapes[n].name);
        attend_attention_args args = {.q = r.q, .k = r.k, .v = r.v, .out = r.out, .lse = r.lse};
        if (attend_compare(&r.p, &args, &(attend_compare_options){.threads = 1}, &c))
            fail_msg("%s: %s", shapes[n].name, attend_error_message());
        assert_true(c.bound_ratio <= 1 && c.lse_bound_ratio <= 1);
        test_run_free(&r);
        free(near_by);
    }
    attend_context_destroy(context);
}

/* An empty tensor may be NULL, with any strides. */
static void empty_tensors_lie_nowhere(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t batch, queries, keys;
        attend_problem features;
    } cases[] = {{"no batch", 0, 5, 7, {.windowed = false}},
                 {"no queries", 2, 0, 7, {.windowed = false}},
                 {"no keys", 2, 5, 0, {.windowed = false}},
                 {"no keys for few rows", 2, 1, 0, {.windowed = false}},
                 {"no keys, with features",
                  2,
                  5,
                  0,
                  {.bias_axes = 15, .mask_axes = 15, .segments = true, .sinks = true}}};
    attend_context *context = test_context();
    static float memory[MOST], inputs[MOST];
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        const int64_t b = cases[n].batch, m = cases[n].queries, k = cases[n].keys;
        attend_problem p = cases[n].features;
        attend_plan *plan;
        p.batch = b, p.seqlen_q = m, p.seqlen_k = k, p.num_heads = HEADS, p.num_kv_heads = 2,
        p.head_dim = DIM;
        attend_feature_args given = {0};
        attend_attention_args args = {.q = attend_tensor_4d(inputs, ATTEND_F32, b, m, HEADS, DIM),
                                      .k = attend_tensor_4d(inputs, ATTEND_F32, b, k, 2, DIM),
                                      .v = attend_tensor_4d(inputs, ATTEND_F32, b, k, 2, DIM),
                                      .out = attend_tensor_4d(memory, ATTEND_F32, b, m, HEADS, DIM),
                                      .lse = attend_tensor_3d(NULL, ATTEND_F32, b, HEADS, m),
                                      .features = &given};
        if (p.bias_axes) {
            given.bias = attend_tensor_4d(NULL, ATTEND_F32, b, HEADS, m, k),
            given.mask = attend_tensor_4d(NULL, ATTEND_U8, b, HEADS, m, k);
            given.segments_q = attend_tensor_2d(memory + 400, ATTEND_I32, b, m),
            given.segments_k = attend_tensor_2d(NULL, ATTEND_I32, b, k);
            given.sinks = attend_tensor_1d(memory + 450, ATTEND_F32, HEADS);
        }
        attend_tensor *const tensors[] = {&args.q,    &args.k,    &args.v,         &args.out,
                                          &given.bias, &given.mask, &given.segments_k};
        for (int i = 0; i < 7; i++)
            if (b * (i == 0 || i == 3 ? m : k) == 0) {
                tensors[i]->data = NULL;
                for (int axis = 0; axis < tensors[i]->rank; axis++)
                    tensors[i]->stride[axis] = INT64_MAX / 2 - axis;
            }
        memset(memory, 0xff, 400 * sizeof(float));
        if (test_attention_plan(context, &p, &plan) || attend_attention_forward(plan, &args) ||
            attend_synchronize(context))
            fail_msg("%s: %s", cases[n].name, attend_error_message());
        for (int64_t i = 0; i < b * m * HEADS * DIM; i++)
            if (memory[i] != 0)
                fail_msg("%s: element %d is %g, not 0", cases[n].name, (int)i, (double)memory[i]);
        attend_plan_destroy(plan);
    }
    attend_context_destroy(context);
}

/* An axis that a mask leaves out may have its full extent with stride 0 also where there are no queries. */
static void empty_masks_may_be_broadcast(void **state)
{
    (void)state;
    const attend_problem problem = {.batch = 1, .seqlen_q = 0, .seqlen_k = KEYS, .num_heads = HEADS, .head_dim = DIM,
                                    .mask_axes = ATTEND_PER_QUERY};
    float nothing[1];
    unsigned char mask[1];
    static float keys[KEYS * HEADS * DIM];
    const attend_attention_args args = {
        .q = attend_tensor_4d(nothing, ATTEND_F32, 1, 0, HEADS, DIM),
        .k = attend_tensor_4d(keys, ATTEND_F32, 1, KEYS, HEADS, DIM),
        .v = attend_tensor_4d(keys, ATTEND_F32, 1, KEYS, HEADS, DIM),
        .out = attend_tensor_4d(nothing, ATTEND_F32, 1, 0, HEADS, DIM),
        .features = &(attend_feature_args){.mask = {mask, ATTEND_U8, 4, {1, HEADS, 0, KEYS}, {0, 0, 1, 0}}},
    };
    attend_context *context = test_context();
    attend_plan *plan;
    if (test_attention_plan(context, &problem, &plan) || attend_attention_forward(plan, &args))
        fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

/* ---- weights ---- */

/* Matrices of one row or column; the other stride is any that keeps elements apart. */
static void thin_matrices_have_any_orientation(void **state)
{
    (void)state;
    static const struct {
        int64_t hidden, heads, dim;
        int64_t step; /* of the axis that has an extent; 1: neighbours */
        const char *sentence;
    } cases[] = {{5, 1, 1, 1, NULL},
                 {5, 1, 1, 3, NULL},
                 {1, 2, 4, 1, NULL},
                 {1, 2, 4, 6, NULL},
                 {1, 1, 1, 9, NULL},
                 {5, 1, 1, 0, "wq has strides [0, 0]: one must be 1"},
                 {1, 2, 4, 0, "wq has strides [0, 1]: one must be 1"}};
    attend_context *context = test_context();
    static float dense[64], apart[4][64], x[64], out[2][64];
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        const int64_t q = cases[n].heads * cases[n].dim, hidden = cases[n].hidden,
                      extent = q > hidden ? q : hidden, step = cases[n].step;
        const attend_problem p = {.batch = 1,
                                  .seqlen_q = 3,
                                  .num_heads = cases[n].heads,
                                  .head_dim = cases[n].dim,
                                  .hidden_size = hidden};
        attend_layer_weights weights[2];
        for (int i = 0; i < 64; i++)
            dense[i] = (float)(i * 7 % 11 - 5) / 4, x[i] = (float)(i * 5 % 13 - 6) / 4;
        memset(apart, 0xff, sizeof apart), memset(out, 0xff, sizeof out);
        for (int j = 0; j < 2; j++) {
            attend_tensor *const w[] = {&weights[j].wq, &weights[j].wk, &weights[j].wv, &weights[j].wo};
            memset(&weights[j], 0, sizeof weights[j]);
            for (int i = 0; i < 4; i++)
                *w[i] = attend_tensor_2d(dense, ATTEND_F32, i < 3 ? q : hidden, i < 3 ? hidden : q);
            for (int i = 0; j && i < 4; i++) {
                const int along = w[i]->shape[1] > 1 ? 1 : 0;
                w[i]->data = apart[i], w[i]->stride[along] = step, w[i]->stride[1 - along] = (int64_t)1 << 61;
                for (int64_t e = 0; e < extent; e++) apart[i][e * step] = dense[e];
            }
        }
        for (int j = 0; j < 2; j++) {
            attend_plan *plan;
            const attend_layer_args args = {.x = attend_tensor_3d(x, ATTEND_F32, 1, 3, hidden),
                                            .out = attend_tensor_3d(out[j], ATTEND_F32, 1, 3, hidden)};
            if (j && cases[n].sentence) {
                test_expect_failure(test_layer_plan(context, &p, &weights[j], &plan),
                                    ATTEND_INVALID_ARGUMENT, cases[n].sentence);
                continue;
            }
            if (test_layer_plan(context, &p, &weights[j], &plan) || attend_layer_forward(plan, &args) ||
                attend_synchronize(context))
                fail_msg("case %d: %s", (int)n, attend_error_message());
            attend_plan_destroy(plan);
        }
        if (!cases[n].sentence && memcmp(out[0], out[1], sizeof out[0]))
            fail_msg("case %d: another result with step %d", (int)n, (int)step);
    }
    attend_context_destroy(context);
}

/* Vectors of weights lie without gaps; others were read so whatever their stride said. */
static void vectors_of_weights_have_no_gaps(void **state)
{
    (void)state;
    static float memory[256];
    attend_context *context = test_context();
    const attend_tensor matrix = attend_tensor_2d(memory, ATTEND_F32, 8, 8);
    const attend_problem p = {.batch = 1,
                              .seqlen_q = 2,
                              .num_heads = 2,
                              .head_dim = 4,
                              .hidden_size = 8,
                              .qk_norm = ATTEND_QK_NORM_LAYER};
    static const char *const names[] = {"bq",     "bk",     "bv",          "bo",
                                        "q_norm", "k_norm", "q_norm_bias", "k_norm_bias"};
    for (int i = 0; i < 8; i++)
        for (int stride = 0; stride <= 2; stride += 2) {
            attend_layer_weights w = {.wq = matrix, .wk = matrix, .wv = matrix, .wo = matrix};
            attend_rotary_args r = {.q = attend_tensor_4d(memory, ATTEND_F32, 1, 2, 2, 4)};
            attend_tensor *const vectors[] = {&w.bq,     &w.bk,     &w.bv,          &w.bo,
                                              &w.q_norm, &w.k_norm, &w.q_norm_bias, &w.k_norm_bias};
            attend_tensor *const norms[] = {&r.q_norm, &r.k_norm, &r.q_norm_bias, &r.k_norm_bias};
            attend_plan *plan;
            char sentence[64];
            snprintf(sentence, sizeof sentence, "%s has last stride %d, but rows must be contiguous",
                     names[i], stride);
            *vectors[i] = attend_tensor_1d(memory + 128, ATTEND_F32, i < 4 ? 8 : 4),
            vectors[i]->stride[0] = stride;
            test_expect_failure(test_layer_plan(context, &p, &w, &plan), ATTEND_INVALID_ARGUMENT, sentence);
            if (i < 4) continue;
            attend_problem rotated = p;
            rotated.hidden_size = 0;
            *norms[i - 4] = *vectors[i];
            test_expect_failure(attend_rotary_apply(context, &rotated, &r), ATTEND_INVALID_ARGUMENT, sentence);
        }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_element_serves_all),
        cmocka_unit_test(strides_along_one_element_do_not_matter),
        cmocka_unit_test(empty_tensors_lie_nowhere),
        cmocka_unit_test(empty_masks_may_be_broadcast),
        cmocka_unit_test(thin_matrices_have_any_orientation),
        cmocka_unit_test(vectors_of_weights_have_no_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
