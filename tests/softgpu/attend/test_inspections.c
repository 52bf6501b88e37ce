/* Inspections beside runs with workspaces of the caller's. */
#include "attend/work.h"

/* Inspects with the LSE that the run writes; the run has its own workspace, so that plans do not order it. */
static void inspections_wait_for_their_run(void **state)
{
    (void)state;
    enum { ROWS = 64, DIM = 16, ELEMENTS = ROWS * DIM };
    const attend_problem problem = {.batch = 1, .seqlen_q = ROWS, .seqlen_k = ROWS, .num_heads = 1, .head_dim = DIM};
    const attend_plan_options options = {.caller_workspace = true};
    float numbers[ELEMENTS], entropy[2][ROWS], *memory;
    attend_context *context;
    attend_plan *plan;
    attend_plan_memory needs;
    void *workspace;
    cudaStream_t stream;
    for (int i = 0; i < ELEMENTS; i++) numbers[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    OK(attend_attention_plan_with(context, &problem, &options, &plan));
    OK(attend_plan_memory_usage(plan, &needs));
    CUDA(cudaMalloc(&workspace, needs.run_workspace_bytes + 256));
    CUDA(cudaMalloc((void **)&memory, (2 * ELEMENTS + ROWS) * sizeof *memory));
    CUDA(cudaMemcpy(memory, numbers, sizeof numbers, cudaMemcpyHostToDevice));
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const attend_tensor in = attend_tensor_4d(memory, ATTEND_F32, 1, ROWS, 1, DIM);
    const attend_attention_args args = {.q = in,
                                        .k = in,
                                        .v = in,
                                        .out = attend_tensor_4d(memory + ELEMENTS, ATTEND_F32, 1, ROWS, 1, DIM),
                                        .lse = attend_tensor_3d(memory + 2 * ELEMENTS, ATTEND_F32, 1, 1, ROWS)};
    for (int n = 0; n < 2; n++) {
        const attend_run how = {.stream = stream, .workspace = workspace, .workspace_bytes = needs.run_workspace_bytes};
        const attend_inspection want = {.entropy = attend_tensor_3d(entropy[n], ATTEND_F32, 1, 1, ROWS)};
        CUDA(cudaMemset(memory + 2 * ELEMENTS, 0xff, ROWS * sizeof *memory));
        CUDA(cudaDeviceSynchronize());
        OK(attend_attention_run(plan, &args, &how));
        if (n == 0) CUDA(cudaDeviceSynchronize());
        OK(attend_attention_inspect(plan, &args, &want));
    }
    assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
    attend_plan_destroy(plan);
    OK(attend_context_destroy(context));
    CUDA(cudaStreamDestroy(stream));
    CUDA(cudaFree(memory));
    CUDA(cudaFree(workspace));
}

static size_t least_free;
static bool note_free_memory(void *unused, int64_t done, int64_t total)
{
    size_t free_bytes, all;
    (void)unused, (void)done, (void)total;
    CUDA(cudaMemGetInfo(&free_bytes, &all));
    if (free_bytes < least_free) least_free = free_bytes;
    return true;
}

/* For a layer whose runs have a workspace of the caller's, an inspection allocates what it writes itself:
   neither cuBLAS's workspace nor memory for Q, K and V. */
static void inspections_take_no_workspace_of_a_run(void **state)
{
    (void)state;
    enum { ROWS = 9, HEADS = 2, DIM = 16, HEAD_BYTES = ROWS * HIDDEN * 4 };
    const attend_problem problem = {.batch = 1, .seqlen_q = ROWS, .num_heads = HEADS, .head_dim = DIM, .hidden_size = HIDDEN};
    const attend_context_options options = {.device = ATTEND_CUDA, .progress = note_free_memory};
    static float numbers[HIDDEN * HIDDEN], entropy[2][HEADS * ROWS];
    const attend_tensor weight = attend_tensor_2d(numbers, ATTEND_F32, HIDDEN, HIDDEN);
    const attend_layer_weights weights = {.wq = weight, .wk = weight, .wv = weight, .wo = weight};
    static const int64_t length[] = {ROWS - 2};
    attend_context *context;
    char *memory;
    for (int i = 0; i < HIDDEN * HIDDEN; i++) numbers[i] = (float)(i * 37 % 101) / 101.0f - 0.5f;
    OK(attend_context_create(&options, &context));
    CUDA(cudaMalloc((void **)&memory, 4 * HEAD_BYTES));
    CUDA(cudaMemcpy(memory, numbers, HEAD_BYTES, cudaMemcpyHostToDevice));
    CUDA(cudaDeviceSynchronize());
    attend_layer_args args = {.x = attend_tensor_3d(memory, ATTEND_F32, 1, ROWS, HIDDEN),
                              .out = attend_tensor_3d(memory + HEAD_BYTES, ATTEND_F32, 1, ROWS, HIDDEN),
                              .q = attend_tensor_4d(memory + 2 * HEAD_BYTES, ATTEND_F32, 1, ROWS, HEADS, DIM),
                              .k = attend_tensor_4d(memory + 3 * HEAD_BYTES, ATTEND_F32, 1, ROWS, HEADS, DIM),
                              .features = &(attend_feature_args){.seqlens_k = length}};
    for (int callers = 0; callers < 2; callers++) {
        const attend_plan_options own = {.caller_workspace = callers};
        const attend_inspection want = {.entropy = attend_tensor_3d(entropy[callers], ATTEND_F32, 1, HEADS, ROWS)};
        attend_plan *made;
        attend_plan_memory needs;
        attend_run how = {0};
        size_t before, all;
        OK(attend_layer_plan_with(context, &problem, &weights, &own, &made));
        OK(attend_plan_memory_usage(made, &needs));
        how.workspace_bytes = needs.run_workspace_bytes;
        if (callers) CUDA(cudaMalloc(&how.workspace, needs.run_workspace_bytes));
        OK(attend_layer_run(made, &args, &how));
        CUDA(cudaMemGetInfo(&before, &all));
        least_free = before;
        OK(attend_layer_inspect(made, &args, &want));
        if (before - least_free > 1 << 16) fail_msg("%zu bytes were taken to inspect %d rows", before - least_free, ROWS);
        attend_plan_destroy(made);
        CUDA(cudaFree(how.workspace));
    }
    assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
    /* tensors on the host are refused, as in a run */
    attend_plan *made;
    OK(attend_layer_plan_with(context, &problem, &weights, &(attend_plan_options){.caller_workspace = true}, &made));
    args.q.data = numbers;
    assert_int_equal(attend_layer_inspect(made, &args, &(attend_inspection){.entropy = attend_tensor_3d(entropy[0], ATTEND_F32, 1, HEADS, ROWS)}),
                     ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "q lies on the host, but the plan was made with caller_workspace");
    attend_plan_destroy(made);
    OK(attend_context_destroy(context));
    CUDA(cudaFree(memory));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inspections_wait_for_their_run),
        cmocka_unit_test(inspections_take_no_workspace_of_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
