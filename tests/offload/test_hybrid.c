/* One query decoded over keys of which the first half lies on the device and the rest on the host: each side leaves the state of its keys,
   and a merge on the host gives what all keys give; the same placement gives the same bits. docs/offload.md. */
#include <attend/attend.h>

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { KEYS = 3000, HALF = 2048, HEADS = 4, KV_HEADS = 2, DIM = 16, ROW = KV_HEADS * DIM };

static const attend_problem problem = {.batch = 1, .seqlen_q = 1, .seqlen_k = KEYS, .num_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim = DIM,
                                       .causal = ATTEND_CAUSAL_BOTTOM_RIGHT};
static float q[HEADS * DIM], k[KEYS * ROW], v[KEYS * ROW], out[2][HEADS * DIM], sums[2][HEADS * DIM], numbers[2][2][HEADS];

static attend_tensor queries(float *at) { return attend_tensor_4d(at, ATTEND_F32, 1, 1, HEADS, DIM); }
static attend_tensor keys(float *at, int64_t n) { return attend_tensor_4d(at, ATTEND_F32, 1, n, KV_HEADS, DIM); }

static attend_state state_of(int side)
{
    return (attend_state){queries(sums[side]), attend_tensor_3d(numbers[side][0], ATTEND_F32, 1, HEADS, 1),
                          attend_tensor_3d(numbers[side][1], ATTEND_F32, 1, HEADS, 1)};
}

static void decode(attend_context *const contexts[2], attend_plan *const plans[2], float *on_device[2], float *to)
{
    const attend_state states[2] = {state_of(0), state_of(1)};
    const attend_attention_args args[2] = {
        {.q = queries(q), .k = keys(on_device[0], HALF), .v = keys(on_device[1], HALF), .end_key = HALF, .into = &states[0]},
        {.q = queries(q), .k = keys(k + HALF * ROW, KEYS - HALF), .v = keys(v + HALF * ROW, KEYS - HALF), .first_key = HALF, .into = &states[1]}};
    for (int side = 0; side < 2; side++)
        if (attend_attention_forward(plans[side], &args[side])) fail_msg("%s", attend_error_message());
    if (attend_synchronize(contexts[0]) ||
        attend_merge(contexts[1], &problem, &(attend_merge_args){.states = states, .count = 2, .out = queries(to)}, NULL))
        fail_msg("%s", attend_error_message());
}

static void sides_merge_to_what_all_keys_give(void **state)
{
    (void)state;
    const attend_context_options sides[2] = {{.device = ATTEND_CUDA}, {.device = ATTEND_CPU, .threads = 2}};
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL};
    attend_context *contexts[2];
    attend_plan *plans[2];
    attend_comparison r;
    float *on_device[2];
    for (int i = 0; i < HEADS * DIM; i++) q[i] = (float)(i * 3511 % 991) / 99 - 5;
    for (int i = 0; i < KEYS * ROW; i++) k[i] = (float)(i * 7919 % 1009) / 1009 - 0.5f, v[i] = (float)(i * 6007 % 997) / 997 - 0.5f;
    for (int i = 0; i < 2; i++) {
        if (attend_context_create(&sides[i], &contexts[i]) || attend_attention_plan_with(contexts[i], &problem, &options, &plans[i]))
            fail_msg("%s", attend_error_message());
        assert_int_equal(cudaMalloc((void **)&on_device[i], HALF * ROW * sizeof(float)), cudaSuccess);
        assert_int_equal(cudaMemcpy(on_device[i], i ? v : k, HALF * ROW * sizeof(float), cudaMemcpyDefault), cudaSuccess);
    }
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    for (int again = 0; again < 2; again++) decode(contexts, plans, on_device, out[again]);
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    const attend_attention_args all = {.q = queries(q), .k = keys(k, KEYS), .v = keys(v, KEYS), .out = queries(out[0])};
    if (attend_compare(&problem, &all, NULL, &r)) fail_msg("%s", attend_error_message());
    if (!r.passed) fail_msg("%.3g of the bound", r.bound_ratio);
    for (int i = 0; i < 2; i++) cudaFree(on_device[i]), attend_plan_destroy(plans[i]), attend_context_destroy(contexts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sides_merge_to_what_all_keys_give)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
