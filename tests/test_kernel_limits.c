/* Problems that are too large for what kernels count in are refused with a sentence, or go to another row: never cut to 32 bits. */
#include "support/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TWO_31 ((int64_t)1 << 31)

/* A part of the name of the plan's kernel, or of the sentence. */
static const struct {
    const char *name;
    attend_problem problem;
    const char *kernel, *sentence;
} cases[] = {
    {"the most keys", {.batch = 1, .seqlen_q = 1, .seqlen_k = TWO_31 - 256, .num_heads = 1, .head_dim = 8}, "flash_fma_f32", NULL},
    {"keys", {.batch = 1, .seqlen_q = 1, .seqlen_k = TWO_31 - 255, .num_heads = 1, .head_dim = 8}, NULL, "takes seqlen_k up to 2147483392, the problem has 2147483393"},
    {"keys, fp32, 2^31", {.batch = 1, .seqlen_q = 100, .seqlen_k = TWO_31, .num_heads = 1, .head_dim = 256}, NULL, "the problem has 2147483648"},
    {"keys, fp16, 2^31", {.batch = 1, .seqlen_q = 100, .seqlen_k = TWO_31, .num_heads = 1, .head_dim = 8, .dtype = ATTEND_F16}, NULL, "the problem has 2147483648"},
    {"keys, bf16, 2^33 + 5", {.batch = 1, .seqlen_q = 1, .seqlen_k = 4 * TWO_31 + 5, .num_heads = 1, .head_dim = 8, .dtype = ATTEND_BF16}, NULL, "the problem has 8589934597"},
    {"rows that are merged", {.batch = 1, .seqlen_q = 64, .seqlen_k = 2048, .num_heads = TWO_31 / 64, .num_kv_heads = TWO_31 / 64, .head_dim = 8, .dtype = ATTEND_F16}, "mma_f16", NULL}, /* not split; by wgmma on Hopper */
    {"heads of a group", {.batch = 1, .seqlen_q = 1, .seqlen_k = 8, .num_heads = 2 * TWO_31, .num_kv_heads = 1, .head_dim = 8, .dtype = ATTEND_F16}, NULL, "would need more than 2147483647 blocks"},
    {"blocks", {.batch = TWO_31, .seqlen_q = 1, .seqlen_k = 8, .num_heads = 1, .head_dim = 8}, NULL, "would need more than 2147483647 blocks"},
};

static void nothing_is_cut_to_32_bits(void **state)
{
    (void)state;
    attend_context *context;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .device_tensors_only = true}, &context), ATTEND_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attend_plan *plan;
        const attend_status status = attend_attention_plan(context, &cases[i].problem, &plan);
        if (cases[i].sentence) {
            if (status != ATTEND_UNSUPPORTED || !strstr(attend_error_message(), cases[i].sentence))
                fail_msg("%s: %s: %s", cases[i].name, attend_status_name(status), status ? attend_error_message() : "");
            continue;
        }
        attend_explanation e;
        if (status || attend_plan_explain(plan, NULL, &e)) fail_msg("%s: %s", cases[i].name, attend_error_message());
        if (!strstr(e.kernel, cases[i].kernel)) fail_msg("%s: %s runs", cases[i].name, e.kernel);
        attend_plan_destroy(plan);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_cut_to_32_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
