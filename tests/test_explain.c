/* attend_plan_explain(): counts are what the problem makes visible, the kernel named is the one that runs, and every other row of
   the table has a reason. */
#include "support/feature_cases.h"
#include "support/fixture.h"
#include "support/plans.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum {
    COUNTED = ATTEND_FEATURE_CAUSAL | ATTEND_FEATURE_WINDOW | ATTEND_FEATURE_CHUNK | ATTEND_FEATURE_PREFIX |
              ATTEND_FEATURE_PACKED | ATTEND_FEATURE_LEFT_PADDING
};

static attend_plan *plan_of(attend_context *context, const attend_problem *problem)
{
    attend_plan *plan;
    if (test_attention_plan(context, problem, &plan)) fail_msg("%s", attend_error_message());
    return plan;
}

static attend_explanation explain(const attend_plan *plan, const attend_lists *lists)
{
    attend_explanation e;
    if (attend_plan_explain(plan, lists, &e)) fail_msg("%s", attend_error_message());
    return e;
}

/* With queries of zeros each visible key weighs the same, and exp(lse) is their number. */
static double count_by_running(test_fixture *f, attend_context *context)
{
    const attend_tensor *lse = &f->args.lse;
    double pairs = 0;
    memset(f->q.bytes, 0, f->q.size);
    test_fixture_run(f, context);
    for (int64_t b = 0; b < lse->shape[0]; b++)
        for (int64_t h = 0; h < lse->shape[1]; h++)
            for (int64_t i = 0; i < lse->shape[2]; i++)
                pairs += rint(exp(((const float *)lse->data)[b * lse->stride[0] + h * lse->stride[1] + i * lse->stride[2]]));
    return pairs;
}

static void pairs_are_those_that_a_run_sees(void **state)
{
    (void)state;
    int count;
    attend_context *context = test_context();
    test_case *cases = test_feature_cases(COUNTED, getenv("ATTEND_TEST_SHORT"), &count);
    for (int i = 0; i < count; i++) {
        test_fixture f;
        char text[TEST_CASE_TEXT];
        test_fixture_make(&f, &cases[i]);
        attend_plan *plan = plan_of(context, &f.c.problem);
        const attend_lists lists = attend_lists_of(&f.features);
        attend_explanation e = explain(plan, &lists);
        const double pairs = count_by_running(&f, context);
        const int64_t dims = f.problem.head_dim + f.problem.head_dim_v;
        if (e.pairs != pairs) fail_msg("%s: %.17g pairs said, %.17g seen", test_case_text(&cases[i], text), e.pairs, pairs);
        if (e.pairs_computed < pairs) fail_msg("%s: tiles hold less than what is visible", test_case_text(&cases[i], text));
        assert_true(e.flops == 2 * pairs * (double)dims);
        attend_plan_destroy(plan);
        test_fixture_free(&f);
    }
    attend_context_destroy(context);
    free(cases);
}

/* Beyond the number of rows that are looked at one by one, a sample gives the same. */
static void very_long_problems_are_sampled(void **state)
{
    (void)state;
    const int64_t n = (int64_t)1 << 26, window = 1000;
    attend_context *context;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_REFERENCE}, &context), ATTEND_OK);
    attend_problem p = {
        .batch = 2, .seqlen_q = n, .seqlen_k = n, .num_heads = 3, .head_dim = 8, .causal = ATTEND_CAUSAL_TOP_LEFT};
    attend_plan *plan = plan_of(context, &p);
    const double causal = 6 * 0.5 * (double)n * (double)(n + 1), local = 6 * (double)n * (double)(window + 1);
    /* One row in 33: their mean is off by half a step in n/2 at most, 5e-7. */
    assert_true(fabs(explain(plan, NULL).pairs / causal - 1) < 1e-6);
    attend_plan_destroy(plan);
    p.windowed = true, p.window_left = window, p.window_right = 0;
    plan = plan_of(context, &p);
    /* `local` counts keys before the first one too: half a window in n rows, 7.5e-6. */
    assert_true(fabs(explain(plan, NULL).pairs / local - 1) < 1e-4);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void tiles_count_what_a_window_makes_of_them(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_problem p = {.batch = 1,
                        .seqlen_q = 4096,
                        .seqlen_k = 4096,
                        .num_heads = 2,
                        .head_dim = 64,
                        .windowed = true,
                        .window_right = 0,
                        .window_left = 127};
    attend_plan *plan = plan_of(context, &p);
    attend_explanation e = explain(plan, NULL);
    assert_true(e.tile_q > 0 && e.tile_k > 0);
    /* A tile's rows see 127 keys before its first and no key after its last, and no tile has more than one partial tile at each
     * end. */
    const double rows = e.tile_q, most = (rows + 127 + 2 * e.tile_k) / 128;
    assert_true(e.pairs_computed > e.pairs && e.pairs_computed < e.pairs * most * 1.05);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void every_row_that_is_not_chosen_has_a_reason(void **state)
{
    (void)state;
    attend_context *context = test_context();
    const bool cuda = attend_context_device(context) == ATTEND_CUDA;
    attend_plan *plan = plan_of(
        context,
        &(attend_problem){.batch = 1, .seqlen_q = 100, .seqlen_k = 70, .num_heads = 8, .num_kv_heads = 2, .head_dim = 80});
    attend_explanation e = explain(plan, NULL);
    attend_kernel_choice choice;
    attend_kernel_info info;
    int chosen = 0, dtype = 0, other = 0, small = 0;
    size_t i = 0;
    for (; attend_plan_choice(plan, i, &choice); i++) {
        assert_true(attend_kernel(i, &info));
        assert_string_equal(choice.name, info.name);
        assert_int_equal(choice.dtype, info.dtype);
        assert_int_equal(choice.device, info.device);
        if (choice.chosen) {
            assert_string_equal(choice.name, e.kernel);
            chosen++;
        } else if (!choice.chosen_unaligned) {
            assert_true(choice.reason[0] != 0);
        }
        dtype += strstr(choice.reason, "takes f16, the problem is f32") != NULL;
        other += strstr(choice.reason, "runs on") != NULL;
        small += strstr(choice.reason, "takes head_dim up to 64, the problem has 80") != NULL;
    }
    assert_false(attend_kernel(i, &info));
    assert_int_equal(chosen, 1);
    assert_true(dtype > 0);
    assert_int_equal(small > 0, cuda);
    if (cuda) assert_true(other > 0 && e.blocks > 0 && e.blocks_at_once > 0 && e.shared_bytes > 0);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void a_forced_row_is_named_with_what_it_lacks(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_plan *plan;
    attend_problem p = {.batch = 1, .seqlen_q = 8, .seqlen_k = 8, .num_heads = 1};
    if (attend_context_device(context) != ATTEND_CUDA) {
        attend_context_destroy(context);
        skip();
    }
    /* A build has the rows that it was asked for, in each family from the narrowest to the widest. */
    attend_kernel_info row, half = {.name = NULL}, rows[8] = {{.name = NULL}};
    int count = 0;
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        if (row.device != ATTEND_CUDA || row.backward) continue;
        if (row.dtype == ATTEND_F32 && count < 8) rows[count++] = row;
        if (row.dtype == ATTEND_F16 && !half.name) half = row;
    }
    const attend_kernel_info narrow = rows[0], wide = rows[count - 1];
    p.head_dim = narrow.head_dim_max + 16;
    char sentences[3][256];
    const char *const names[3] = {"bogus", half.name, narrow.name};
    snprintf(sentences[0], 256, "ATTEND_KERNEL is \"bogus\", which is not in CUDA's kernel table; attend info --kernels lists them");
    snprintf(sentences[1], 256, "ATTEND_KERNEL is %s, which takes f16, the problem is f32", half.name);
    snprintf(sentences[2], 256, "ATTEND_KERNEL is %s, which takes head_dim up to %d, the problem has %d", narrow.name,
             (int)narrow.head_dim_max, (int)p.head_dim);
    for (int i = 0; i < 3; i++) {
        setenv("ATTEND_KERNEL", names[i], 1);
        assert_int_not_equal(test_attention_plan(context, &p, &plan), ATTEND_OK);
        assert_string_equal(attend_error_message(), sentences[i]);
    }
    if (count > 2) {
        setenv("ATTEND_KERNEL", wide.name, 1);
        plan = plan_of(context, &p);
        attend_kernel_choice choice;
        bool said = false;
        snprintf(sentences[0], 256, "would fit, but ATTEND_KERNEL forces %s", wide.name);
        for (size_t i = 0; attend_plan_choice(plan, i, &choice); i++)
            said |= !strcmp(choice.name, rows[1].name) && !strcmp(choice.reason, sentences[0]);
        assert_true(said);
        attend_plan_destroy(plan);
    }
    unsetenv("ATTEND_KERNEL");
    p.head_dim = 300;
    assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_UNSUPPORTED);
    snprintf(sentences[0], 256, "no CUDA kernel fits; the nearest, %s, takes head_dim up to %d, the problem has 300", wide.name,
             (int)wide.head_dim_max);
    assert_memory_equal(attend_error_message(), sentences[0], strlen(sentences[0])); /* then what the build left out */
    attend_context_destroy(context);
}

/* Q and the output of all heads, K and V of the KV heads, and what features bring along the axes where it varies. */
static void bytes_are_those_of_the_tensors(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_problem p = {.batch = 2, .seqlen_q = 5, .seqlen_k = 7, .num_heads = 4, .num_kv_heads = 2, .head_dim = 8, .head_dim_v = 6, .dtype = ATTEND_F16};
    const double alone = (2 * 5 * 4 + 2 * 7 * 2) * (8 + 6) * 2;
    attend_plan *plan = plan_of(context, &p);
    assert_true(explain(plan, NULL).bytes == alone);
    attend_plan_destroy(plan);
    p.segments = true, p.mask_axes = ATTEND_PER_BATCH | ATTEND_PER_KEY, p.bias_axes = ATTEND_PER_HEAD | ATTEND_PER_QUERY, p.block_q = 2, p.block_k = 3;
    plan = plan_of(context, &p);
    assert_true(explain(plan, NULL).bytes == alone + 2 * (5 + 7) * 4 + 2 * 7 + 4 * 5 * 2 + 3 * 3);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void a_layer_has_its_projections(void **state)
{
    (void)state;
    static float weights[256 * 128];
    attend_context *context = test_context();
    attend_problem p = {.batch = 3,
                        .seqlen_q = 10,
                        .num_heads = 8,
                        .num_kv_heads = 2,
                        .head_dim = 16,
                        .hidden_size = 64,
                        .output_size = 32,
                        .rotary = ATTEND_ROTARY_HALVES};
    attend_layer_weights w = {.wq = attend_tensor_2d(weights, ATTEND_F32, 128, 64),
                              .wk = attend_tensor_2d(weights, ATTEND_F32, 32, 64),
                              .wv = attend_tensor_2d(weights, ATTEND_F32, 32, 64),
                              .wo = attend_tensor_2d(weights, ATTEND_F32, 32, 128)};
    for (int cross = 0; cross < 2; cross++) {
        const int64_t expected[4][3] = {{30, 64, 128}, {cross ? 21 : 30, cross ? 48 : 64, 32}, {cross ? 21 : 30, cross ? 48 : 64, 32}, {30, 128, 32}};
        attend_plan *plan;
        if (cross) {
            p.seqlen_k = 7, p.context_hidden_size = 48, p.rotary = ATTEND_ROTARY_NONE;
            w.wk = w.wv = attend_tensor_2d(weights, ATTEND_F32, 32, 48);
        }
        if (test_layer_plan(context, &p, &w, &plan)) fail_msg("%s", attend_error_message());
        attend_explanation e = explain(plan, NULL);
        assert_int_equal(e.projection_count, 4);
        for (int i = 0; i < 4; i++) {
            const attend_projection_work *x = &e.projections[i];
            const double rows = (double)expected[i][0], in = (double)expected[i][1], out = (double)expected[i][2];
            assert_int_equal(x->rows, expected[i][0]);
            assert_int_equal(x->in, expected[i][1]);
            assert_int_equal(x->out, expected[i][2]);
            assert_true(x->flops == 2 * rows * in * out);
            assert_true(x->bytes == 4 * (rows * in + in * out + rows * out));
        }
        assert_non_null(e.projection_library);
        assert_true(e.rope_bytes == (cross ? 0 : 2.0 * 30 * (8 + 2) * 16 * 4));
        attend_plan_destroy(plan);
    }
    attend_context_destroy(context);
}

static void the_text_fits_the_room_that_it_is_given(void **state)
{
    (void)state;
    attend_context *context = test_context();
    attend_plan *plan =
        plan_of(context, &(attend_problem){.batch = 1, .seqlen_q = 100, .seqlen_k = 100, .num_heads = 1, .head_dim = 64});
    const size_t length = attend_plan_explain_text(plan, NULL, NULL, 0);
    char *text = malloc(length + 2), few[5] = "....";
    assert_true(length > 100);
    text[length + 1] = '!';
    assert_int_equal(attend_plan_explain_text(plan, NULL, text, length + 1), length);
    assert_int_equal(strlen(text), length);
    assert_true(text[length + 1] == '!');
    assert_int_equal(attend_plan_explain_text(plan, NULL, few, 4), length);
    assert_memory_equal(few, "dev\0", 5);
    assert_non_null(strstr(text, explain(plan, NULL).kernel));
    assert_non_null(strstr(text, "not chosen  "));
    assert_null(strstr(text, ": \n"));
    free(text);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void expect_line(const char *text, const char *format, ...)
{
    char line[300];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    const char *found = strstr(text, line);
    if (!found || (found > text && found[-1] != '\n' && *line != ';')) fail_msg("no line \"%s\" in\n%s", line, text);
}

/* Each line of the text, of few rows whose keys are split, of many rows, and of a layer. */
static void the_text_says_the_numbers(void **state)
{
    (void)state;
    static float weights[64 * 64];
    const attend_tensor w = attend_tensor_2d(weights, ATTEND_F32, 64, 64);
    attend_context *context = test_context();
    for (int n = 0; n < 3; n++) {
        attend_problem p = {.batch = 2, .seqlen_q = n ? 70 : 1, .seqlen_k = n ? 70 : 5000, .num_heads = 4, .num_kv_heads = n == 2 ? 4 : 2, .head_dim = 16};
        attend_plan *plan = NULL;
        if (n == 2) {
            p.hidden_size = 64, p.rotary = ATTEND_ROTARY_HALVES, p.absolute = ATTEND_ABSOLUTE_SINUSOIDAL_HALVES;
            const attend_layer_weights all = {.wq = w, .wk = w, .wv = w, .wo = w};
            if (test_layer_plan(context, &p, &all, &plan)) fail_msg("%s", attend_error_message());
        } else {
            plan = plan_of(context, &p);
        }
        const attend_explanation e = explain(plan, NULL);
        static char text[8192];
        assert_true(attend_plan_explain_text(plan, NULL, text, sizeof text) < sizeof text);
        expect_line(text, "device      %s\n", attend_context_device_name(context));
        char tiles[120] = "", shared[80] = "";
        const int64_t group = p.num_heads / p.num_kv_heads;
        if (e.tile_q && e.grouped && group > 1)
            snprintf(tiles, sizeof tiles, ", tiles of %d rows (queries of %lld heads side by side) by %d keys", e.tile_q, (long long)group, e.tile_k);
        else if (e.tile_q)
            snprintf(tiles, sizeof tiles, ", tiles of %d queries by %d keys", e.tile_q, e.tile_k);
        if (e.device == ATTEND_CUDA) snprintf(shared, sizeof shared, ", %d threads, %lld bytes of shared memory", e.threads, (long long)e.shared_bytes);
        expect_line(text, "kernel      %s%s%s\n", e.kernel, tiles, shared);
        if (e.device == ATTEND_CUDA && e.blocks_at_once)
            expect_line(text, "blocks      %lld, %lld at once: %.2f waves", (long long)e.blocks, (long long)e.blocks_at_once,
                        (double)e.blocks / (double)e.blocks_at_once);
        else if (e.device == ATTEND_CUDA) /* built as PTX alone */
            expect_line(text, "blocks      %lld", (long long)e.blocks);
        else
            expect_line(text, "units       %lld for %lld thread", (long long)e.blocks, (long long)e.blocks_at_once);
        if (n == 0 && e.device == ATTEND_CPU) assert_true(e.splits > 1);
        if (e.splits > 1) expect_line(text, "; keys split in %lld parts, merged in order\n", (long long)e.splits);
        expect_line(text, "memory      %zu bytes on the host, on the device %zu of workspace, %zu of staging\n", e.host_bytes,
                    e.device_workspace_bytes, e.device_staging_bytes);
        expect_line(text, "pairs       %.6g visible", e.pairs);
        expect_line(text, "attention   %.4g GFLOP, %.4g MB in and out, %.4g FLOP a byte\n", e.flops * 1e-9, e.bytes * 1e-6, e.flops / e.bytes);
        for (int i = 0; i < e.projection_count; i++)
            expect_line(text, "project %-6s [140, 64] x [64, 64], %.4g GFLOP", (const char *[]){"Q", "K", "V", "output"}[i], 2 * 140 * 64 * 64e-9);
        if (n < 2) assert_null(strstr(text, "project"));
        if (n == 2) expect_line(text, "projections %.4g GFLOP by %s\n", 4 * 2 * 140 * 64 * 64e-9, e.projection_library);
        if (n == 2) expect_line(text, "positions   added to x: %.4g MB\n", e.position_bytes * 1e-6);
        if (n == 2) expect_line(text, "turning     Q and K once more: %.4g MB for", e.rope_bytes * 1e-6);
        attend_plan_destroy(plan);
    }
    attend_context_destroy(context);
}

static void misuse_is_refused(void **state)
{
    (void)state;
    attend_explanation e;
    attend_kernel_choice choice;
    attend_context *context = test_context();
    attend_plan *plan =
        plan_of(context, &(attend_problem){.batch = 1, .seqlen_q = 10, .seqlen_k = 10, .num_heads = 1, .head_dim = 8});
    assert_int_equal(attend_plan_explain(NULL, NULL, &e), ATTEND_INVALID_ARGUMENT);
    assert_int_equal(attend_plan_explain(plan, NULL, NULL), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "explanation is NULL");
    assert_int_equal(attend_plan_explain_sized(plan, NULL, 0, &e, sizeof e + 1), ATTEND_INVALID_ARGUMENT);
    assert_int_equal(attend_plan_explain(plan, &(attend_lists){.seqlens_k = (int64_t[]){11}}, &e), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "seqlens_k[0] is 11, expected 0 to 10");
    assert_int_equal(attend_plan_explain_text(NULL, NULL, NULL, 0), 0);
    assert_false(attend_plan_choice(NULL, 0, &choice));
    assert_false(attend_plan_choice(plan, 0, NULL));
    assert_false(attend_plan_choice(plan, 10000, &choice));
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_those_that_a_run_sees),          cmocka_unit_test(very_long_problems_are_sampled),
        cmocka_unit_test(tiles_count_what_a_window_makes_of_them),  cmocka_unit_test(every_row_that_is_not_chosen_has_a_reason),
        cmocka_unit_test(a_forced_row_is_named_with_what_it_lacks), cmocka_unit_test(bytes_are_those_of_the_tensors),
        cmocka_unit_test(a_layer_has_its_projections),
        cmocka_unit_test(the_text_says_the_numbers),
        cmocka_unit_test(the_text_fits_the_room_that_it_is_given),  cmocka_unit_test(misuse_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
