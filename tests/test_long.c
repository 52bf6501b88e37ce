/* Offsets have 64 bits everywhere: attention, inspection and whole layers give the same bits where one axis after the other, of every
   tensor at once, steps over 2^31 elements and more; and the comparison finds the same there. */
#include "support/far.h"
#include "support/inspection.h"
#include "support/plans.h"
#include "core/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#ifdef ATTEND_TEST_MANAGED /* memory that a device reads where it lies */
#include <cuda_runtime_api.h>
static void *reserve(size_t bytes)
{
    void *memory;
    return cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) ? NULL : memory;
}
static void release(void *memory, size_t bytes) { (void)bytes, cudaFree(memory); }
static const test_far_memory managed = {reserve, release, 1}, *const far = &managed;
static const size_t all_bytes = (size_t)256 << 30;
#else
static const test_far_memory *const far = &test_far_host;
static const size_t all_bytes = (size_t)64 << 40;
#endif

enum { TURNS = 4, FIELDS = 24 };

/* All of them for each case, or half of them by turns. */
static int first_turn(int n) { return getenv("ATTEND_TEST_SHORT") ? n % 2 : 0; }
static int turn_step(void) { return getenv("ATTEND_TEST_SHORT") ? 2 : 1; }

/* Skips the test where so much address space is not to be had. */
static void need_space(void)
{
    void *memory = far->reserve(all_bytes);
    if (!memory) print_message("skipped: %zu GB of address space are refused here\n", all_bytes >> 30);
    if (!memory) skip();
    far->release(memory, all_bytes);
}

typedef struct spread {
    test_far_field fields[FIELDS];
    int count;
} spread;

static void add(spread *s, attend_tensor *tensor, int kept, bool output)
{
    assert_true(s->count < FIELDS);
    s->fields[s->count++] = (test_far_field){.tensor = tensor, .kept = kept, .output = output};
}

static void free_spread(spread *s)
{
    for (int i = 0; i < s->count; i++) test_far_free(&s->fields[i], far);
}

static void make_far(spread *s, int turn)
{
    for (int i = 0; i < s->count; i++)
        if (!test_far_spread(&s->fields[i], turn, far)) fail_msg("%zu bytes of address space are refused", s->fields[i].bytes);
}

/* The fields of `dense`, which are in the order of the spread ones. */
static void expect_same_bits(const spread *s, const spread *dense, const char *name, int turn)
{
    for (int i = 0; i < s->count; i++)
        if (s->fields[i].tensor->data && !test_far_equal(dense->fields[i].tensor, s->fields[i].tensor))
            fail_msg("%s: tensor %d of the arguments differs where axes step far (turn %d)", name, i, turn);
}

static void expect_ok(attend_status status, const char *name)
{
    if (status) fail_msg("%s: %s: %s", name, attend_status_name(status), attend_error_message());
}

/* ---- attention and inspection ----------------------------------------------------------------------------------- */

static spread fields_of_attention(attend_attention_args *a, attend_feature_args *features)
{
    spread s = {0};
    add(&s, &a->q, 1, false), add(&s, &a->k, 1, false), add(&s, &a->v, 1, false);
    add(&s, &a->out, 1, true), add(&s, &a->lse, 0, true);
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) add(&s, attend_feature_tensor_of(features, (attend_feature_tensor)i), 0, false);
    return s;
}

static spread fields_of_inspection(attend_inspection *i)
{
    spread s = {0};
    attend_tensor *const tensors[] = {&i->top_keys, &i->top_weights, &i->entropy, &i->mass, &i->distance, &i->weights, &i->map};
    for (int n = 0; n < 7; n++) add(&s, tensors[n], tensors[n] == &i->weights, true);
    return s;
}

enum { ALL_AXES = ATTEND_PER_BATCH | ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY };

static const struct {
    const char *name;
    attend_problem problem;
} attentions[] = {
    {"few rows", {.batch = 2, .seqlen_q = 1, .seqlen_k = 1100, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16}},
    {"whole rows", {.batch = 2, .seqlen_q = 150, .seqlen_k = 150, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .causal = ATTEND_CAUSAL_TOP_LEFT}},
    {"split keys", {.batch = 2, .seqlen_q = 20, .seqlen_k = 1100, .num_heads = 2, .head_dim = 16}},
    {"16 bits", {.batch = 2, .seqlen_q = 70, .seqlen_k = 70, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .dtype = ATTEND_BF16}},
    {"few rows of 16 bits", {.batch = 2, .seqlen_q = 2, .seqlen_k = 70, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .dtype = ATTEND_F16}},
    {"packed", {.batch = 3, .seqlen_q = 40, .seqlen_k = 60, .packed = true, .num_heads = 2, .head_dim = 8, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
    {"masks", {.batch = 2, .seqlen_q = 40, .seqlen_k = 50, .num_heads = 2, .head_dim = 8, .mask_axes = ALL_AXES, .block_q = 16, .block_k = 16,
               .block_axes = ATTEND_PER_BATCH | ATTEND_PER_HEAD, .segments = true}},
    {"block list", {.batch = 2, .seqlen_q = 40, .seqlen_k = 150, .num_heads = 2, .head_dim = 8, .block_q = 16, .block_k = 16, .block_list = 400,
                    .block_axes = ATTEND_PER_BATCH | ATTEND_PER_HEAD}},
    {"terms of scores", {.batch = 2, .seqlen_q = 40, .seqlen_k = 50, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .bias_axes = ALL_AXES, .sinks = true,
                         .alibi = ATTEND_ALIBI_SYMMETRIC, .relative_buckets = 8, .relative_max_distance = 32, .head_scales = true, .softcap = 5}},
    {"decoding with terms", {.batch = 2, .seqlen_q = 1, .seqlen_k = 300, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .bias_axes = ALL_AXES, .sinks = true,
                             .mask_axes = ALL_AXES, .dtype = ATTEND_F16}},
};
enum { ATTENTIONS = sizeof attentions / sizeof *attentions };

static void run_attention(attend_context *context, const attend_problem *problem, const attend_attention_args *args, const char *name)
{
    attend_plan *plan;
    expect_ok(test_attention_plan(context, problem, &plan), name);
    expect_ok(attend_attention_forward(plan, args), name);
    expect_ok(attend_synchronize(context), name);
    attend_plan_destroy(plan);
}

static void compare_far(const attend_problem *problem, const attend_attention_args *args, const attend_attention_args *dense, const char *name)
{
    attend_comparison near_by, far_away;
    expect_ok(attend_compare(problem, dense, &(attend_compare_options){.threads = 1}, &near_by), name);
    expect_ok(attend_compare(problem, args, &(attend_compare_options){.threads = 1}, &far_away), name);
    if (!far_away.passed || far_away.bound_ratio != near_by.bound_ratio || far_away.quality_ratio != near_by.quality_ratio)
        fail_msg("%s: the comparison finds %g and %g, without gaps %g and %g", name, far_away.bound_ratio, far_away.quality_ratio,
                 near_by.bound_ratio, near_by.quality_ratio);
}

static void attention_gives_the_same_bits(void **state)
{
    (void)state;
    need_space();
    attend_context *context = test_context();
    for (int n = 0; n < ATTENTIONS; n++) {
        const test_case c = {.problem = attentions[n].problem, .seed = 2};
        test_fixture f;
        test_fixture_make(&f, &c);
        test_fixture_run(&f, context);
        for (int turn = first_turn(n); turn < TURNS; turn += turn_step()) {
            attend_attention_args args = f.args;
            attend_feature_args features = f.features;
            spread s = fields_of_attention(&args, &features), dense = fields_of_attention(&f.args, &f.features);
            args.features = &features;
            make_far(&s, turn);
            run_attention(context, &f.c.problem, &args, attentions[n].name);
            expect_same_bits(&s, &dense, attentions[n].name, turn);
            compare_far(&f.c.problem, &args, &f.args, attentions[n].name);
            free_spread(&s);
        }
        test_fixture_free(&f);
    }
    attend_context_destroy(context);
}

static void inspection_gives_the_same_bits(void **state)
{
    (void)state;
    need_space();
    attend_context *context = test_context();
    for (int n = 0; n < ATTENTIONS; n++) {
        const test_case c = {.problem = attentions[n].problem, .seed = 2};
        test_fixture f;
        test_inspection t;
        attend_plan *plan;
        test_fixture_make(&f, &c);
        test_fixture_run(&f, context);
        test_inspection_make(&t, &f.problem);
        expect_ok(test_attention_plan(context, &f.c.problem, &plan), attentions[n].name);
        expect_ok(attend_attention_inspect(plan, &f.args, &t.want), attentions[n].name);
        for (int turn = first_turn(n); turn < TURNS; turn += turn_step()) {
            attend_attention_args args = f.args;
            attend_feature_args features = f.features;
            attend_inspection want = t.want;
            args.features = &features;
            spread s = fields_of_attention(&args, &features), seen = fields_of_inspection(&want), dense = fields_of_inspection(&t.want);
            s.fields[4].output = false; /* the LSE is read */
            make_far(&s, turn);
            make_far(&seen, turn);
            expect_ok(attend_attention_inspect(plan, &args, &want), attentions[n].name);
            expect_same_bits(&seen, &dense, attentions[n].name, turn);
            free_spread(&s);
            free_spread(&seen);
        }
        attend_plan_destroy(plan);
        test_inspection_free(&t);
        test_fixture_free(&f);
    }
    attend_context_destroy(context);
}

/* ---- layers ----------------------------------------------------------------------------------------------------- */

static const attend_problem layers[] = {
    {.batch = 2, .seqlen_q = 40, .num_heads = 4, .num_kv_heads = 2, .head_dim = 16, .hidden_size = 48, .causal = ATTEND_CAUSAL_TOP_LEFT,
     .rotary = ATTEND_ROTARY_HALVES, .qk_norm = ATTEND_QK_NORM_RMS},
    {.batch = 2, .seqlen_q = 20, .seqlen_k = 40, .num_heads = 2, .head_dim = 16, .hidden_size = 24, .context_hidden_size = 32, .dtype = ATTEND_F16},
};
enum { LAYERS = sizeof layers / sizeof *layers };

typedef struct layer {
    attend_problem p; /* resolved */
    attend_layer_weights weights;
    attend_feature_args features;
    attend_layer_args args;
    void *memory[FIELDS];
    int count;
} layer;

static attend_tensor tensor(layer *l, attend_dtype dtype, int rank, const int64_t *shape)
{
    attend_tensor t = {.dtype = dtype, .rank = rank};
    int64_t elements = 1;
    for (int axis = rank - 1; axis >= 0; axis--) t.shape[axis] = shape[axis], t.stride[axis] = elements, elements *= shape[axis];
    t.data = l->memory[l->count++] = calloc((size_t)elements + 1, 8);
    assert_non_null(t.data);
    if (dtype != ATTEND_I32) attend_values_gauss((uint64_t)l->count, 0.5f, &t);
    for (int64_t i = 0; i < elements && dtype == ATTEND_I32; i++) ((int32_t *)t.data)[i] = (int32_t)(i * 7 % 1000);
    return t;
}

static void make_layer(layer *l, const attend_problem *given)
{
    *l = (layer){0};
    expect_ok(attend_problem_resolve(given, sizeof *given, ATTEND_LAYER, &l->p), "the layer");
    const attend_problem *p = &l->p;
    const int64_t q = p->num_heads * p->head_dim, k = p->num_kv_heads * p->head_dim, hidden = p->hidden_size;
    const int64_t source = p->context_hidden_size ? p->context_hidden_size : hidden;
    l->weights.wq = tensor(l, p->dtype, 2, (int64_t[]){q, hidden}), l->weights.wk = tensor(l, p->dtype, 2, (int64_t[]){k, source});
    l->weights.wv = tensor(l, p->dtype, 2, (int64_t[]){k, source}), l->weights.wo = tensor(l, p->dtype, 2, (int64_t[]){hidden, q});
    l->weights.bq = tensor(l, p->dtype, 1, &q), l->weights.bk = tensor(l, p->dtype, 1, &k);
    l->weights.bv = tensor(l, p->dtype, 1, &k), l->weights.bo = tensor(l, p->dtype, 1, &hidden);
    if (p->qk_norm) l->weights.q_norm = tensor(l, p->dtype, 1, &p->head_dim), l->weights.k_norm = tensor(l, p->dtype, 1, &p->head_dim);
    attend_layer_args *a = &l->args;
    a->features = &l->features;
    a->x = tensor(l, p->dtype, 3, (int64_t[]){p->batch, p->seqlen_q, hidden});
    if (p->context_hidden_size) a->context = tensor(l, p->dtype, 3, (int64_t[]){p->batch, p->seqlen_k, source});
    a->out = tensor(l, p->dtype, 3, (int64_t[]){p->batch, p->seqlen_q, hidden});
    a->lse = tensor(l, ATTEND_F32, 3, (int64_t[]){p->batch, p->num_heads, p->seqlen_q});
    a->q = tensor(l, p->dtype, 4, (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim});
    a->k = tensor(l, p->dtype, 4, (int64_t[]){p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim});
    a->v = tensor(l, p->dtype, 4, (int64_t[]){p->batch, p->seqlen_k, p->num_kv_heads, p->head_dim});
    a->heads = tensor(l, p->dtype, 4, (int64_t[]){p->batch, p->seqlen_q, p->num_heads, p->head_dim});
    if (p->rotary) l->features.positions = tensor(l, ATTEND_I32, 2, (int64_t[]){p->batch, p->seqlen_q});
}

/* Heads lie side by side: the CPU writes them so. */
static spread fields_of_layer(attend_layer_args *a, attend_feature_args *features)
{
    spread s = {0};
    attend_tensor *const outputs[] = {&a->out, &a->lse, &a->q, &a->k, &a->v, &a->heads};
    for (int i = 0; i < 6; i++) add(&s, outputs[i], i < 2 ? 1 - i : 2, true);
    add(&s, &a->x, 1, false), add(&s, &a->context, 1, false), add(&s, &features->positions, 0, false);
    return s;
}

/* A matrix keeps one of its strides 1. */
static spread fields_of_weights(attend_layer_weights *w)
{
    spread s = {0};
    add(&s, &w->wq, 1, false), add(&s, &w->wk, 1, false), add(&s, &w->wv, 1, false), add(&s, &w->wo, 1, false);
    return s;
}

static void run_layer(attend_context *context, const attend_problem *problem, const attend_layer_weights *weights, const attend_layer_args *args)
{
    attend_plan *plan;
    expect_ok(test_layer_plan(context, problem, weights, &plan), "the layer");
    expect_ok(attend_layer_forward(plan, args), "the layer");
    expect_ok(attend_synchronize(context), "the layer");
    attend_plan_destroy(plan);
}

static void layers_give_the_same_bits(void **state)
{
    (void)state;
    need_space();
    attend_context *context = test_context();
    for (int n = 0; n < LAYERS; n++) {
        layer l;
        make_layer(&l, &layers[n]);
        run_layer(context, &layers[n], &l.weights, &l.args);
        for (int turn = first_turn(n); turn < TURNS; turn += turn_step()) {
            attend_layer_args args = l.args;
            attend_feature_args features = l.features;
            attend_layer_weights weights = l.weights;
            attend_layer_comparison c;
            spread s = fields_of_layer(&args, &features), w = fields_of_weights(&weights), dense = fields_of_layer(&l.args, &l.features);
            args.features = &features;
            make_far(&s, turn);
            make_far(&w, turn);
            run_layer(context, &layers[n], &weights, &args);
            expect_same_bits(&s, &dense, "the layer", turn);
            expect_ok(attend_layer_compare(&layers[n], &weights, &args, &(attend_compare_options){.threads = 1}, &c), "the layer");
            assert_true(c.passed);
            free_spread(&s);
            free_spread(&w);
        }
        for (int i = 0; i < l.count; i++) free(l.memory[i]);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_gives_the_same_bits),
        cmocka_unit_test(inspection_gives_the_same_bits),
        cmocka_unit_test(layers_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
