/* What an Nsight Systems timeline shows of a plan and a run: this program is the profiler, and writes down the ranges that NVTX
 * is told. */
#include "support/plans.h"
#include <attend/attend.h>
#include <nvtx3/nvToolsExt.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static char timeline[4096];
static int depth;

static void put(const char *text)
{
    size_t used = strlen(timeline);
    snprintf(timeline + used, sizeof timeline - used, "%*s%s\n", 2 * depth, "", text);
}

static int push(const char *name)
{
    put(name);
    return depth++;
}

static int pop(void) { return --depth; }

/* How NVTX finds a profiler that is linked in. */
static int start(NvtxGetExportTableFunc_t get_table)
{
    const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable functions;
    unsigned size;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &size)) return 0;
    *functions[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
    *functions[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
    return 1;
}

NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = start;

enum { TOKENS = 8, HEADS = 2, DIM = 16, HIDDEN = HEADS * DIM };
static float x[TOKENS * HIDDEN], out[TOKENS * HIDDEN], weights[4][HIDDEN * HIDDEN];

static void expect(const char *wanted)
{
    assert_string_equal(timeline, wanted);
    assert_int_equal(depth, 0);
    timeline[0] = '\0';
}

static void expect_ok(attend_status status)
{
    if (status) fail_msg("%s", attend_error_message());
}

/* Which kernel runs is the table's affair: its row is in the plan's words. */
static const char *kernel_of(const attend_plan *plan)
{
    static char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(attend_plan_kernel(plan), ", "), attend_plan_kernel(plan));
    return name;
}

static void a_layer_reads_by_itself(void **state)
{
    attend_plan *plan;
    char wanted[512];
    attend_problem p = {.batch = 1, .seqlen_q = TOKENS, .num_heads = HEADS, .head_dim = DIM, .hidden_size = HIDDEN};
    attend_tensor w[4];
    for (int i = 0; i < 4; i++) w[i] = attend_tensor_2d(weights[i], ATTEND_F32, HIDDEN, HIDDEN);
    const attend_layer_weights layer = {.wq = w[0], .wk = w[1], .wv = w[2], .wo = w[3]};
    const attend_layer_args args = {.x = attend_tensor_3d(x, ATTEND_F32, 1, TOKENS, HIDDEN),
                                    .out = attend_tensor_3d(out, ATTEND_F32, 1, TOKENS, HIDDEN)};
    expect_ok(test_layer_plan(*state, &p, &layer, &plan));
    expect("attend: plan\n"
           "  attend: copy in\n"
           "  attend: copy in\n"
           "  attend: copy in\n"
           "  attend: copy in\n");
    expect_ok(attend_layer_forward(plan, &args));
    snprintf(wanted, sizeof wanted,
             "attend: layer\n"
             "  attend: copy in\n"
             "  attend: project Q, K, V\n"
             "  %s\n"
             "  attend: project output\n"
             "  attend: copy out\n",
             kernel_of(plan));
    expect(wanted);
    attend_plan_destroy(plan);
}

static void attention_reads_by_itself(void **state)
{
    attend_plan *plan;
    char wanted[512];
    attend_problem p = {.batch = 1, .seqlen_q = TOKENS, .seqlen_k = TOKENS, .num_heads = HEADS, .head_dim = DIM};
    attend_tensor t = attend_tensor_4d(x, ATTEND_F32, 1, TOKENS, HEADS, DIM);
    const attend_attention_args args = {.q = t, .k = t, .v = t, .out = attend_tensor_4d(out, ATTEND_F32, 1, TOKENS, HEADS, DIM)};
    expect_ok(test_attention_plan(*state, &p, &plan));
    expect("attend: plan\n");
    expect_ok(attend_attention_forward(plan, &args));
    snprintf(wanted, sizeof wanted,
             "attend: attention\n"
             "  attend: stream\n"
             "    attend: copy in, through pinned memory\n"
             "    attend: copy in, through pinned memory\n"
             "    attend: copy in, through pinned memory\n"
             "    attend: part\n"
             "      %s\n"
             "      attend: copy out, through pinned memory\n",
             kernel_of(plan));
    expect(wanted);
    attend_plan_destroy(plan);
}

/* What a layer with rotary positions does besides, and what looking inside one of its runs does. */
static void turning_and_looking_read_by_themselves(void **state)
{
    static float q[TOKENS * HIDDEN], k[TOKENS * HIDDEN], entropy[HEADS * TOKENS];
    attend_plan *plan;
    char wanted[512];
    attend_problem p = {.batch = 1, .seqlen_q = TOKENS, .num_heads = HEADS, .head_dim = DIM, .hidden_size = HIDDEN, .rotary = ATTEND_ROTARY_HALVES};
    const attend_tensor w = attend_tensor_2d(weights[0], ATTEND_F32, HIDDEN, HIDDEN);
    const attend_layer_weights layer = {.wq = w, .wk = w, .wv = w, .wo = w};
    const attend_layer_args args = {.x = attend_tensor_3d(x, ATTEND_F32, 1, TOKENS, HIDDEN),
                                    .q = attend_tensor_4d(q, ATTEND_F32, 1, TOKENS, HEADS, DIM),
                                    .k = attend_tensor_4d(k, ATTEND_F32, 1, TOKENS, HEADS, DIM),
                                    .out = attend_tensor_3d(out, ATTEND_F32, 1, TOKENS, HIDDEN)};
    expect_ok(test_layer_plan(*state, &p, &layer, &plan));
    timeline[0] = '\0';
    expect_ok(attend_layer_forward(plan, &args));
    snprintf(wanted, sizeof wanted, "attend: project Q, K, V\n  attend: rotate Q and K\n  %s\n", kernel_of(plan));
    assert_non_null(strstr(timeline, wanted));
    timeline[0] = '\0';
    expect_ok(attend_layer_inspect(plan, &args, &(attend_inspection){.entropy = attend_tensor_3d(entropy, ATTEND_F32, 1, HEADS, TOKENS)}));
    expect("attend: inspect\n"
           "  attend: copy in\n"
           "  attend: copy in\n"
           "  attend: copy out\n");
    attend_plan_destroy(plan);
}

static int open_device(void **state)
{
    attend_context *context;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context)) return -1;
    *state = context;
    return 0;
}

static int close_device(void **state)
{
    attend_context_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_layer_reads_by_itself), cmocka_unit_test(attention_reads_by_itself),
                                       cmocka_unit_test(turning_and_looking_read_by_themselves)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
