/* docs/features.md says what the code says: which backend and which row of the kernel table supports which feature. */
#include "core/feature_set.h"
#include "support/document.h"

#include <attend/attend.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The fields of attend_problem that ask for each feature, in the order of the bits. */
static const char *const fields[] = {
    "`causal`", "`windowed`, `window_left`, `window_right`", "`chunk`", "`prefix`", "`segments`", "`mask_axes`",
    "`block_q`, `block_k`, `block_axes`, `block_list`", "`packed`, `total_q`, `total_k`", "`softcap`", "`alibi`",
    "`relative_buckets`, `relative_max_distance`, `relative_bidirectional`", "`bias_axes`", "`head_scales`", "`sinks`", "`left_padded`",
    "`rotary`, `rotary_…`, `first_position`; layers", "`qk_norm`, `qk_norm_epsilon`; layers",
    "`absolute`, `absolute_base`, `max_positions`, `first_position`; layers",
};

static uint64_t features_of(attend_device device)
{
    attend_kernel_info info;
    uint64_t features = 0;
    for (size_t i = 0; attend_kernel(i, &info); i++)
        if (info.device == device) features |= info.features | ATTEND_FEATURES_LAYER;
    return features;
}

static const char *mark(uint64_t features, int bit) { return features >> bit & 1 ? "yes" : "–"; }

static void add_features(test_document *t)
{
    const uint64_t cpu = features_of(ATTEND_CPU), cuda = features_of(ATTEND_CUDA);
    test_print(t, "| feature | asked for by | reference | CPU | CUDA |\n|---|---|---|---|---|\n");
    for (int bit = 0; attend_feature_name(bit); bit++) {
        assert_true((size_t)bit < sizeof fields / sizeof *fields);
        test_print(t, "| %s | %s | yes | %s | %s |\n", attend_feature_name(bit), fields[bit], mark(cpu, bit), mark(cuda, bit));
    }
}

static void add_kernels(test_document *t)
{
    static const char *const devices[] = {"", "CPU", "CUDA", ""};
    attend_kernel_info info;
    test_print(t, "| kernel | device | dtype | lacks |\n|---|---|---|---|\n");
    for (size_t i = 0; attend_kernel(i, &info); i++) {
        char lacking[512];
        uint64_t all = 0;
        for (int bit = 0; attend_feature_name(bit); bit++) all |= (uint64_t)1 << bit;
        attend_features_text(all & ~(info.features | ATTEND_FEATURES_LAYER), lacking, sizeof lacking);
        test_print(t, "| `%s` | %s | %s | %s |\n", info.name, devices[info.device], attend_dtype_name(info.dtype), *lacking ? lacking : "nothing");
    }
}

static void the_document_is_current(void **state)
{
    (void)state;
    if (!features_of(ATTEND_CUDA) || !ATTEND_TEST_X86 || ATTEND_TEST_LEAVES_ROWS_OUT) skip(); /* all rows are part of the table */
    test_document t = {NULL};
    test_print(&t, "# Features\n\nGenerated from the code; `ATTEND_WRITE_DOCS=1 build/release/tests/test_feature_table` writes this\n"
            "file anew. What each feature means is said once, in [`problem.h`](../include/attend/problem.h). Any\n"
            "of them go together unless the header says otherwise; a kernel that lacks one is not chosen, and\n"
            "where none is left the plan is refused with a sentence that names what is lacking.\n\n"
            "Plans made with `backward` ([`backward.h`](../include/attend/backward.h)) take all of attention's\n"
            "features on every backend, and a layer's ([`layer_backward.h`](../include/attend/layer_backward.h)).\n\n");
    add_features(&t);
    test_print(&t, "\n## Kernel rows\n\nRotary embedding, QK-norm and absolute positions come before attention; no kernel of attention sees\n"
            "them. The first two are also an operation by themselves, on Q and K that a caller brings:\n"
            "[`rotary.h`](../include/attend/rotary.h).\n\n");
    add_kernels(&t);
    test_print(&t, "\n## What excludes what\n\nAll else goes together, on every backend (`test_features` runs each pair). A combination without a\n"
            "meaning is INVALID_ARGUMENT, one that a backend lacks UNSUPPORTED, with both names in the sentence\n"
            "(`test_strict`):\n\n"
            "| | with | because |\n|---|---|---|\n"
            "| `packed` | `left_padded` | packed sequences have no padding |\n"
            "| `packed` | `seqlens_q`, `seqlens_k` | `cu_seqlens_q` and `cu_seqlens_k` say the lengths |\n"
            "| `ATTEND_CAUSAL_TOP_LEFT` | `align_bottom_right` | they put query 0 in two places |\n"
            "| `rotary`, `qk_norm`, `absolute` | `context_hidden_size` | cross-attention's keys have no place among the queries |\n"
            "| `window_left`, `rotary_dim`, `total_q`, … | the switch that they belong to left off | they would do nothing |\n\n"
            "Nothing falls back in silence, strict or not: no dtype is exchanged (fp32 never becomes TF32; the\n"
            "CPU projects 16-bit layers in fp32 and rounds once), no algorithm is approximate, and a device that\n"
            "is named is the one used. Two things are chosen for the caller, and said: `ATTEND_AUTO` takes the\n"
            "CPU where no CUDA device can be used (`attend_context_device_name()`), and on CUDA tensors whose\n"
            "rows are not at multiples of 16 bytes take the row that `attend_plan_explain()` names as\n"
            "`kernel_unaligned`. With `strict` in `attend_context_options`, and the command's `--strict`, both\n"
            "are errors.\n");
    test_document_expect(&t, "features.md", "test_feature_table");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_document_is_current)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
