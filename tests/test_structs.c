/* Programs of other releases: structs of the first layout, with fields that this library does not know, and
   of sizes that no release had, through every call that takes a struct. */
#include "support/first_layout.h"
#include "support/fixture.h"
#include "support/refusal.h"
#include "core/struct.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* No field ever moves. */
#define STAYS(owner, type, name, ...) \
    _Static_assert(offsetof(owner, name) == offsetof(first_##owner, name), #owner "." #name " has moved");
#define NAMELESS(owner, type, name, ...)
#define CHECK_LAYOUT(type) FIRST_##type(STAYS, NAMELESS, type)
FIRST_LAYOUTS(CHECK_LAYOUT)

/* ---- every call, on structs that lie anywhere and have any size ---- */

/* A struct as a caller has it. */
typedef struct given {
    void *at;
    size_t bytes;
} given;

enum { BATCH = 2, SEQLEN = 3, HEADS = 2, DIM = 4, WIDTH = 8, ACTIVATION = BATCH * SEQLEN * HEADS * DIM };

static struct world {
    attend_context *context;
    attend_plan *attention, *layer;
    given structs[ATTEND_STRUCT_COUNT]; /* what calls pass */
    given own[ATTEND_STRUCT_COUNT];     /* this test's: of this release, and valid */
} w;

static float memory[16][256];

#define PASS(type) w.structs[ATTEND_STRUCT_##type].at, w.structs[ATTEND_STRUCT_##type].bytes
/* Args, which point to what features bring, and the bytes of both. */
#define PASS_WITH_FEATURES(type)                                                                          \
    (((type *)w.structs[ATTEND_STRUCT_##type].at)->features = w.structs[ATTEND_STRUCT_attend_feature_args].at, \
     w.structs[ATTEND_STRUCT_##type].at),                                                                 \
        w.structs[ATTEND_STRUCT_##type].bytes, w.structs[ATTEND_STRUCT_attend_feature_args].bytes

static attend_status create_context(void)
{
    attend_context *context;
    const attend_status status = attend_context_create_sized(PASS(attend_context_options), &context);
    attend_context_destroy(context);
    return status;
}

static attend_status plan_attention(void)
{
    attend_plan *plan;
    const attend_status status =
        attend_attention_plan_sized(w.context, PASS(attend_problem), PASS(attend_plan_options), &plan);
    attend_plan_destroy(plan);
    return status;
}

static attend_status plan_layer(void)
{
    attend_plan *plan;
    const attend_status status = attend_layer_plan_sized(
        w.context, PASS(attend_problem), PASS(attend_layer_weights), PASS(attend_plan_options), &plan);
    attend_plan_destroy(plan);
    return status;
}

static attend_status run_attention(void)
{
    return attend_attention_run_sized(w.attention, PASS_WITH_FEATURES(attend_attention_args), PASS(attend_run));
}
static attend_status run_layer(void)
{
    return attend_layer_run_sized(w.layer, PASS_WITH_FEATURES(attend_layer_args), PASS(attend_run));
}
static attend_status run_layer_backward(void)
{
    return attend_layer_backward_sized(w.layer, PASS_WITH_FEATURES(attend_layer_args), PASS(attend_layer_grads), sizeof(attend_layer_weights),
                                       sizeof(attend_feature_grads), PASS(attend_run));
}
static attend_status reload_layer(void) { return attend_layer_reload_sized(w.layer, PASS(attend_run)); }
static attend_status merge(void)
{
    return attend_merge_sized(w.context, PASS(attend_problem), PASS(attend_merge_args), PASS(attend_run));
}
static attend_status rotate(void)
{
    return attend_rotary_apply_sized(w.context, PASS(attend_problem), PASS(attend_rotary_args));
}

static attend_status append(void)
{
    const attend_tensor rows = attend_tensor_4d(memory[14], ATTEND_F32, BATCH, SEQLEN, HEADS, DIM),
                        others = attend_tensor_4d(memory[15], ATTEND_F32, BATCH, SEQLEN, HEADS, DIM);
    const attend_cache cache = {.k = rows, .v = others};
    return attend_cache_append_sized(w.context, PASS(attend_problem), &cache, PASS_WITH_FEATURES(attend_cache_append_args), PASS(attend_run));
}

static attend_status inspect_attention(void)
{
    return attend_attention_inspect_sized(w.attention, PASS_WITH_FEATURES(attend_attention_args), PASS(attend_inspection));
}

static attend_status inspect_layer(void)
{
    return attend_layer_inspect_sized(w.layer, PASS_WITH_FEATURES(attend_layer_args), PASS(attend_inspection));
}

static attend_status compare_attention(void)
{
    return attend_compare_sized(PASS(attend_problem), PASS_WITH_FEATURES(attend_attention_args),
                                PASS(attend_compare_options), PASS(attend_comparison));
}

static attend_status compare_layer(void)
{
    return attend_layer_compare_sized(PASS(attend_problem), PASS(attend_layer_weights),
                                      PASS_WITH_FEATURES(attend_layer_args), PASS(attend_compare_options),
                                      PASS(attend_layer_comparison));
}

static attend_status compare_rotary(void)
{
    return attend_rotary_compare_sized(PASS(attend_problem), PASS(attend_rotary_args),
                                       PASS(attend_compare_options), PASS(attend_rotary_comparison));
}

static attend_status compare_backward(void)
{
    return attend_backward_compare_sized(PASS(attend_problem), PASS_WITH_FEATURES(attend_attention_args),
                                         PASS(attend_attention_grads), sizeof(attend_feature_grads),
                                         PASS(attend_compare_options), PASS(attend_backward_comparison));
}

static attend_status explain(void)
{
    return attend_plan_explain_sized(w.attention, PASS(attend_lists), PASS(attend_explanation));
}
static attend_status ask_memory(void)
{
    return attend_plan_memory_usage_sized(w.attention, PASS(attend_plan_memory));
}

/* Calls that answer with a bool, or with a set of features that this problem is not without. */
static attend_status of_answer(bool answer) { return answer ? ATTEND_OK : ATTEND_INVALID_ARGUMENT; }
static attend_status ask_features(void)
{
    return of_answer(attend_problem_features_sized(PASS(attend_problem)) != 0);
}
static attend_status ask_kernel(void) { return of_answer(attend_kernel_sized(0, PASS(attend_kernel_info))); }
static attend_status ask_choice(void)
{
    return of_answer(attend_plan_choice_sized(w.attention, 0, PASS(attend_kernel_choice)));
}

static attend_status ask_resources(void)
{
    return of_answer(attend_kernel_resources_sized(0, 0, PASS(attend_kernel_resources)));
}

typedef enum kind { ATTENTION, LAYER, ROTATION } kind;

static const struct call {
    const char *name;
    attend_status (*make)(void);
    kind kind;            /* of the problem */
    int reads[6], writes; /* structs; -1: no more, none */
} calls[] = {
#define S(type) ATTEND_STRUCT_##type
    {"context_create", create_context, ATTENTION, {S(attend_context_options), -1}, -1},
    {"attention_plan", plan_attention, ATTENTION, {S(attend_problem), S(attend_plan_options), -1}, -1},
    {"attention_run", run_attention, ATTENTION, {S(attend_attention_args), S(attend_feature_args), S(attend_run), -1}, -1},
    {"attention_inspect",
     inspect_attention,
     ATTENTION,
     {S(attend_attention_args), S(attend_feature_args), S(attend_inspection), -1},
     -1},
    {"compare",
     compare_attention,
     ATTENTION,
     {S(attend_problem), S(attend_attention_args), S(attend_feature_args), S(attend_compare_options), -1},
     S(attend_comparison)},
    {"backward_compare",
     compare_backward,
     ATTENTION,
     {S(attend_problem), S(attend_attention_args), S(attend_feature_args), S(attend_attention_grads),
      S(attend_compare_options), -1},
     S(attend_backward_comparison)},
    {"layer_plan",
     plan_layer,
     LAYER,
     {S(attend_problem), S(attend_layer_weights), S(attend_plan_options), -1},
     -1},
    {"merge", merge, ATTENTION, {S(attend_problem), S(attend_merge_args), S(attend_run), -1}, -1},
    {"layer_run", run_layer, LAYER, {S(attend_layer_args), S(attend_feature_args), S(attend_run), -1}, -1},
    {"layer_backward", run_layer_backward, LAYER, {S(attend_layer_args), S(attend_feature_args), S(attend_layer_grads), S(attend_run), -1}, -1},
    {"layer_reload", reload_layer, LAYER, {S(attend_run), -1}, -1},
    {"layer_inspect", inspect_layer, LAYER, {S(attend_layer_args), S(attend_feature_args), S(attend_inspection), -1}, -1},
    {"layer_compare",
     compare_layer,
     LAYER,
     {S(attend_problem), S(attend_layer_weights), S(attend_layer_args), S(attend_feature_args), S(attend_compare_options), -1},
     S(attend_layer_comparison)},
    {"rotary_apply", rotate, ROTATION, {S(attend_problem), S(attend_rotary_args), -1}, -1},
    {"cache_append", append, ROTATION, {S(attend_problem), S(attend_cache_append_args), S(attend_feature_args), S(attend_run), -1}, -1},
    {"rotary_compare",
     compare_rotary,
     ROTATION,
     {S(attend_problem), S(attend_rotary_args), S(attend_compare_options), -1},
     S(attend_rotary_comparison)},
    {"plan_explain", explain, ATTENTION, {S(attend_lists), -1}, S(attend_explanation)},
    {"plan_memory_usage", ask_memory, ATTENTION, {-1}, S(attend_plan_memory)},
    {"problem_features", ask_features, ATTENTION, {S(attend_problem), -1}, -1},
    {"kernel", ask_kernel, ATTENTION, {-1}, S(attend_kernel_info)},
    {"plan_choice", ask_choice, ATTENTION, {-1}, S(attend_kernel_choice)},
    {"kernel_resources",
     ask_resources,
     ATTENTION,
     {-1},
     S(attend_kernel_resources)}, /* last: a build without CUDA has none */
#undef S
};
static const struct call *end_of_calls;

/* The structs of a call, its result last; how many. */
static int structs_of(const struct call *c, int structs[6])
{
    int count = 0;
    while (c->reads[count] >= 0) structs[count] = c->reads[count], count++;
    if (c->writes >= 0) structs[count++] = c->writes;
    return count;
}

/* ---- the structs of this release ---- */

static attend_problem problems[] = {
    [ATTENTION] = {.batch = BATCH,
                   .seqlen_q = SEQLEN,
                   .seqlen_k = SEQLEN,
                   .num_heads = HEADS,
                   .head_dim = DIM,
                   .causal = ATTEND_CAUSAL_TOP_LEFT},
    [LAYER] = {.batch = BATCH, .seqlen_q = SEQLEN, .num_heads = HEADS, .head_dim = DIM, .hidden_size = WIDTH},
    [ROTATION] = {.batch = BATCH,
                  .seqlen_q = SEQLEN,
                  .num_heads = HEADS,
                  .head_dim = DIM,
                  .rotary = ATTEND_ROTARY_HALVES},
};
static attend_context_options options;
static attend_compare_options compare_options;
static attend_plan_options plan_options;
static attend_run run_alone;
static attend_feature_args features;
static attend_attention_args args;
static attend_attention_grads grads;
static attend_merge_args merge_args;
static attend_cache_append_args append_args;
static attend_layer_args layer_args;
static attend_layer_grads layer_grads;
static attend_layer_weights weights;
static attend_rotary_args rotary_args;
static attend_inspection inspection;
static attend_lists lists;

static attend_tensor heads_at(int i)
{
    return attend_tensor_4d(memory[i], ATTEND_F32, BATCH, SEQLEN, HEADS, DIM);
}

static int make_world(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 256; j++) memory[i][j] = (float)((i * 37 + j * 11) % 23 - 11) / 8;
    attend_kernel_resources resources;
    end_of_calls = calls + sizeof calls / sizeof *calls - !attend_kernel_resources_of(0, 0, &resources);
    w.context = test_context();
    options.device = attend_context_device(w.context);
    args = (attend_attention_args){.q = heads_at(0), .k = heads_at(1), .v = heads_at(2), .out = heads_at(3)};
    grads = (attend_attention_grads){.dout = heads_at(12), .dq = heads_at(13)};
    merge_args = (attend_merge_args){.out = heads_at(3)};
    append_args = (attend_cache_append_args){.k = heads_at(1), .v = heads_at(2)};
    layer_args = (attend_layer_args){.x = attend_tensor_3d(memory[0], ATTEND_F32, BATCH, SEQLEN, WIDTH),
                                     .out = attend_tensor_3d(memory[4], ATTEND_F32, BATCH, SEQLEN, WIDTH),
                                     .q = heads_at(5),
                                     .k = heads_at(6),
                                     .v = heads_at(7),
                                     .heads = heads_at(8)};
    layer_grads = (attend_layer_grads){.dout = layer_args.x, .dx = attend_tensor_3d(memory[13], ATTEND_F32, BATCH, SEQLEN, WIDTH)};
    const attend_tensor matrix = attend_tensor_2d(memory[9], ATTEND_F32, HEADS * DIM, WIDTH);
    weights = (attend_layer_weights){.wq = matrix, .wk = matrix, .wv = matrix, .wo = matrix};
    rotary_args = (attend_rotary_args){.q = heads_at(0), .q_out = heads_at(10)};
    inspection.entropy = attend_tensor_3d(memory[11], ATTEND_F32, BATCH, HEADS, SEQLEN);
#define OWN(type, value) w.own[ATTEND_STRUCT_##type] = (given){&(value), sizeof(value)}
    OWN(attend_context_options, options), OWN(attend_compare_options, compare_options),
        OWN(attend_attention_args, args), OWN(attend_attention_grads, grads),
        OWN(attend_merge_args, merge_args), OWN(attend_cache_append_args, append_args);
    OWN(attend_feature_args, features), OWN(attend_layer_args, layer_args), OWN(attend_layer_grads, layer_grads), OWN(attend_layer_weights, weights),
        OWN(attend_rotary_args, rotary_args);
    OWN(attend_inspection, inspection), OWN(attend_lists, lists), OWN(attend_plan_options, plan_options),
        OWN(attend_run, run_alone);
    return attend_attention_plan(w.context, &problems[ATTENTION], &w.attention) ||
           attend_layer_plan_with(w.context, &problems[LAYER], &weights, &(attend_plan_options){.backward = true}, &w.layer);
}

static int free_world(void **state)
{
    (void)state;
    attend_plan_destroy(w.attention), attend_plan_destroy(w.layer);
    attend_context_destroy(w.context);
    return 0;
}

/* Gives struct `s` so many bytes of its own: what this release knows of an input, then zeros; of a result,
 * all set. */
static void give(const struct call *c, int s, size_t bytes)
{
    if (s == ATTEND_STRUCT_attend_problem) w.own[s] = (given){&problems[c->kind], sizeof problems[c->kind]};
    const given *own = &w.own[s];
    free(w.structs[s].at);
    w.structs[s] = (given){malloc(bytes + !bytes), bytes};
    memset(w.structs[s].at, own->at ? 0 : 0xff, bytes);
    if (own->at) memcpy(w.structs[s].at, own->at, bytes < own->bytes ? bytes : own->bytes);
}

/* All that a call takes: `more` bytes beyond what this release has, or the first release's. */
static void give_all(const struct call *c, bool first, size_t more)
{
    int structs[6], count = structs_of(c, structs);
    for (int i = 0; i < count; i++)
        give(c, structs[i],
             (first ? attend_structs[structs[i]].first : attend_structs[structs[i]].bytes) + more);
}

static void free_given(void)
{
    for (int s = 0; s < ATTEND_STRUCT_COUNT; s++) free(w.structs[s].at), w.structs[s] = (given){0};
}

/* Calls that return no status say the rest in their sentence all the same. */
static void expect_refused(const struct call *c, const char *sentence)
{
    const attend_status status = c->make();
    if (status != ATTEND_INVALID_ARGUMENT)
        fail_msg("%s: status %d, expected a sentence with \"%s\"", c->name, (int)status, sentence);
    if (!strstr(attend_error_message(), sentence))
        fail_msg("%s: \"%s\", expected \"%s\"", c->name, attend_error_message(), sentence);
}

static void expect_unwritten(const struct call *c)
{
    const given *result = &w.structs[c->writes >= 0 ? c->writes : 0];
    for (size_t i = 0; c->writes >= 0 && i < result->bytes; i++)
        if (((unsigned char *)result->at)[i] != 0xff)
            fail_msg("%s wrote byte %zu of its result, and failed", c->name, i);
}

/* ---- the promises ---- */

static void sizes_are_known_by_name(void **state)
{
    (void)state;
#define SIZE(type)                                        \
    assert_int_equal(attend_sizeof(#type), sizeof(type)); \
    assert_true(sizeof(type) >= sizeof(first_##type));
    FIRST_LAYOUTS(SIZE)
#define FIRST(type, bytes) assert_int_equal(sizeof(first_##type), bytes);
    ATTEND_STRUCTS(FIRST, FIRST, FIRST)
    assert_int_equal(attend_sizeof("attend_plan"), 0);
    assert_int_equal(attend_sizeof(NULL), 0);
}

static void callers_of_the_first_layout_are_served(void **state)
{
    (void)state;
    for (const struct call *c = calls; c < end_of_calls; c++) {
        give_all(c, true, 0);
        if (c->make()) fail_msg("%s: %s", c->name, attend_error_message());
    }
    free_given();
}

/* A struct that grows here, by fields that are not pointers. */
static void what_an_older_caller_lacks_is_zero(void **state)
{
    (void)state;
    struct {
        attend_problem known;
        int64_t added[2];
    } grown;
    attend_struct type = attend_structs[ATTEND_STRUCT_attend_problem];
    type.bytes = sizeof grown;
    memset(&grown, 0xff, sizeof grown);
    assert_int_equal(attend_struct_read(&type, "problem", &grown, &problems[LAYER], sizeof problems[LAYER]),
                     ATTEND_OK);
    assert_memory_equal(&grown.known, &problems[LAYER], sizeof grown.known);
    assert_true(grown.added[0] == 0 && grown.added[1] == 0);
}

static void newer_callers_are_served_where_they_use_nothing_new(void **state)
{
    (void)state;
    for (const struct call *c = calls; c < end_of_calls; c++) {
        give_all(c, false, 24);
        if (c->make()) fail_msg("%s: %s", c->name, attend_error_message());
        const given *result = &w.structs[c->writes >= 0 ? c->writes : 0];
        if (c->writes < 0) continue;
        for (size_t i = result->bytes - 24; i < result->bytes; i++)
            if (((unsigned char *)result->at)[i])
                fail_msg("%s left byte %zu of a larger result as it was", c->name, i);
    }
    free_given();
}

static void newer_callers_are_refused_where_they_use_what_is_new(void **state)
{
    (void)state;
    for (const struct call *c = calls; c < end_of_calls; c++)
        for (int i = 0; c->reads[i] >= 0; i++) {
            const given *changed = &w.structs[c->reads[i]];
            give_all(c, false, 24);
            ((unsigned char *)changed->at)[changed->bytes - 1] = 1;
            expect_refused(c, "the program uses a newer attend");
            expect_unwritten(c);
        }
    free_given();
}

static void reserved_fields_are_zero(void **state)
{
    (void)state;
    for (const struct call *c = calls; c < end_of_calls; c++)
        for (int i = 0; c->reads[i] >= 0; i++) {
            const attend_struct *type = &attend_structs[c->reads[i]];
            for (size_t byte = 0; byte < type->reserved_bytes; byte++) {
                give_all(c, false, 0);
                ((unsigned char *)w.structs[c->reads[i]].at)[type->reserved_at + byte] = 7;
                expect_refused(c, "of reserved set to 7, expected 0");
                expect_unwritten(c);
            }
        }
    free_given();
    attend_key_window window = {.first = -1, .last = 0, .reserved = {[6] = 1}};
    attend_inspection look = inspection;
    look.mass = attend_tensor_4d(memory[12], ATTEND_F32, BATCH, HEADS, SEQLEN, 1), look.windows = &window,
    look.num_windows = 1;
    test_expect_failure(attend_attention_inspect(w.attention, &args, &look), ATTEND_INVALID_ARGUMENT,
                        "windows[0] has byte 6 of reserved set to 1");
}

static void sizes_of_no_release_are_refused(void **state)
{
    (void)state;
    for (const struct call *c = calls; c < end_of_calls; c++) {
        int structs[6], count = structs_of(c, structs);
        for (int i = 0; i < count; i++) {
            const size_t first = attend_structs[structs[i]].first,
                         sizes[] = {0, first - 8, first + 4, 65544, SIZE_MAX};
            for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
                give_all(c, false, 0);
                w.structs[structs[i]].bytes = sizes[k];
                expect_refused(c, "has a multiple of 8 from");
            }
        }
    }
    free_given();
    static const unsigned char largest[65536];
    for (int i = 0; i < ATTEND_STRUCT_COUNT; i++) assert_int_equal(attend_struct_check(&attend_structs[i], "it", largest, sizeof largest), ATTEND_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_known_by_name),
        cmocka_unit_test(callers_of_the_first_layout_are_served),
        cmocka_unit_test(what_an_older_caller_lacks_is_zero),
        cmocka_unit_test(newer_callers_are_served_where_they_use_nothing_new),
        cmocka_unit_test(newer_callers_are_refused_where_they_use_what_is_new),
        cmocka_unit_test(reserved_fields_are_zero),
        cmocka_unit_test(sizes_of_no_release_are_refused),
    };
    return cmocka_run_group_tests(tests, make_world, free_world);
}
