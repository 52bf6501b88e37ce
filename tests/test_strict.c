/* What does not go together is refused by both names; what could stand in for something else does not where the context is strict. */
#include <attend/attend.h>
#include "support/fixture.h"
#include "support/plans.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void conflicts_are_named_by_both_sides(void **state)
{
    (void)state;
    const struct {
        attend_problem problem; /* of a layer where hidden_size is given */
        const char *one, *other;
    } cases[] = {
        {{.packed = true, .left_padded = true}, "packed", "left_padded"},
        {{.causal = ATTEND_CAUSAL_TOP_LEFT, .align_bottom_right = true}, "ATTEND_CAUSAL_TOP_LEFT", "align_bottom_right"},
        {{.hidden_size = 8, .context_hidden_size = 8, .rotary = ATTEND_ROTARY_HALVES}, "rotary", "context_hidden_size"},
        {{.hidden_size = 8, .context_hidden_size = 8, .qk_norm = ATTEND_QK_NORM_RMS}, "qk_norm", "context_hidden_size"},
        {{.window_left = 3}, "window_left", "windowed"},
        {{.total_q = 3}, "total_q", "packed"},
        {{.block_q = 3}, "block_q", "block_k"},
        {{.block_axes = ATTEND_PER_HEAD}, "block_axes", "block_q"},
        {{.hidden_size = 8, .rotary_dim = 2}, "rotary_dim", "rotary"},
        {{.hidden_size = 8, .rotary_scaling = ATTEND_ROTARY_YARN}, "rotary_scaling", "rotary"},
    };
    static float values[64];
    attend_context *context = test_context();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attend_problem p = cases[i].problem;
        attend_plan *plan = NULL;
        attend_tensor w = attend_tensor_2d(values, ATTEND_F32, 8, 8);
        attend_layer_weights weights = {.wq = w, .wk = w, .wv = w, .wo = w};
        p.batch = 1, p.seqlen_q = p.seqlen_k = 4, p.num_heads = 1, p.head_dim = 8;
        attend_status status = p.hidden_size ? test_layer_plan(context, &p, &weights, &plan) : test_attention_plan(context, &p, &plan);
        assert_int_equal(status, ATTEND_INVALID_ARGUMENT);
        if (!strstr(attend_error_message(), cases[i].one) || !strstr(attend_error_message(), cases[i].other))
            fail_msg("\"%s\" does not name %s and %s", attend_error_message(), cases[i].one, cases[i].other);
    }
    attend_context_destroy(context);
}

static void lengths_of_packed_sequences_are_refused(void **state)
{
    (void)state;
    static float values[64];
    attend_context *context = test_context();
    attend_plan *plan;
    attend_tensor t = attend_tensor_4d(values, ATTEND_F32, 1, 4, 1, 8);
    attend_problem p = {.batch = 1, .seqlen_q = 4, .seqlen_k = 4, .num_heads = 1, .head_dim = 8, .packed = true, .total_q = 4, .total_k = 4};
    assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_OK);
    attend_feature_args features = {.cu_seqlens_q = (int64_t[]){0, 4}, .cu_seqlens_k = (int64_t[]){0, 4}};
    attend_attention_args args = {.q = t, .k = t, .v = t, .out = t, .features = &features};
    args.out.data = malloc(sizeof values);
    features.seqlens_k = (int64_t[]){3};
    assert_int_equal(attend_attention_forward(plan, &args), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "seqlens_k and packed exclude each other: cu_seqlens_k gives the lengths of packed sequences");
    free(args.out.data);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void strict_contexts_name_their_device(void **state)
{
    (void)state;
    attend_context *context;
    assert_int_equal(attend_context_create(&(attend_context_options){.strict = true}, &context), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "device is ATTEND_AUTO, which may take the CPU, but strict is set: name the device");
    assert_int_equal(attend_context_create(&(attend_context_options){.strict = true, .device = ATTEND_CPU}, &context), ATTEND_OK);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conflicts_are_named_by_both_sides),
        cmocka_unit_test(lengths_of_packed_sequences_are_refused),
        cmocka_unit_test(strict_contexts_name_their_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
