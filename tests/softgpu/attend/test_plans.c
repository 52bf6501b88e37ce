/* A CUDA plan has copied what it needs from host memory when the call returns, however long the lists are:
   results are compared to the CPU's. */
#include "support/plans.h"
#include <attend/attend.h>

#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define CUDA(call) assert_int_equal(call, cudaSuccess)
#define OK(call)   assert_int_equal(call, ATTEND_OK)

enum { HIDDEN = 24, DIM = 8, HEADS = 3, ROWS = 7, TABLE = 16, MATRIX = HIDDEN * HIDDEN };

static float *values(int64_t count, int seed)
{
    float *made;
    CUDA(cudaMallocHost((void **)&made,
                        (size_t)count * sizeof *made)); /* pinned: copies are asynchronous */
    for (int64_t i = 0; i < count; i++) made[i] = (float)((i * 7919 + seed * 131) % 1009) / 1009.0f - 0.5f;
    return made;
}

static void expect_close(const float *found, const float *wanted, int64_t count, const char *what,
                         int64_t which)
{
    for (int64_t i = 0; i < count; i++)
        if (!(fabsf(found[i] - wanted[i]) < 2e-5f))
            fail_msg("%s %d: element %d is %g, the CPU's %g", what, (int)which, (int)i, (double)found[i],
                     (double)wanted[i]);
}

/* ---- weights ---- */

/* All weights, without the bias of one projection; unbiased -1: with all biases. */
static attend_layer_weights weights_in(float *at, int unbiased)
{
    attend_layer_weights w = {0};
    attend_tensor *const matrices[] = {&w.wq, &w.wk, &w.wv, &w.wo}, *const biases[] = {&w.bq, &w.bk, &w.bv,
                                                                                       &w.bo};
    attend_tensor *const norms[] = {&w.q_norm, &w.k_norm, &w.q_norm_bias, &w.k_norm_bias};
    for (int i = 0; i < 4; i++, at += MATRIX) *matrices[i] = attend_tensor_2d(at, ATTEND_F32, HIDDEN, HIDDEN);
    for (int i = 0; i < 4; i++, at += HIDDEN) *biases[i] = attend_tensor_1d(at, ATTEND_F32, HIDDEN);
    for (int i = 0; i < 4; i++, at += DIM) *norms[i] = attend_tensor_1d(at, ATTEND_F32, DIM);
    if (unbiased >= 0) *biases[unbiased] = (attend_tensor){0};
    w.position_table = attend_tensor_2d(at, ATTEND_F32, TABLE, HIDDEN);
    return w;
}

enum { WEIGHTS = 4 * MATRIX + 4 * HIDDEN + 4 * DIM + TABLE * HIDDEN };

static void run_layer(attend_device device, float *memory, int unbiased, float *x, float *out)
{
    const attend_problem p = {.batch = 2,
                              .seqlen_q = ROWS,
                              .num_heads = HEADS,
                              .head_dim = DIM,
                              .hidden_size = HIDDEN,
                              .qk_norm = ATTEND_QK_NORM_LAYER,
                              .absolute = ATTEND_ABSOLUTE_LEARNED,
                              .max_positions = TABLE};
    const attend_layer_weights weights = weights_in(memory, unbiased);
    attend_context *context;
    attend_plan *plan;
    OK(attend_context_create(&(attend_context_options){.device = device, .threads = 1}, &context));
    OK(test_layer_plan(context, &p, &weights, &plan));
    if (device == ATTEND_CUDA) memset(memory, 0xff, WEIGHTS * sizeof *memory);
    for (int run = 0; run < 2; run++) {
        OK(attend_layer_forward(
            plan, &(attend_layer_args){.x = attend_tensor_3d(x, ATTEND_F32, 2, ROWS, HIDDEN),
                                       .out = attend_tensor_3d(out, ATTEND_F32, 2, ROWS, HIDDEN)}));
        OK(attend_synchronize(context));
    }
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

static void host_weights_may_change_once_the_plan_is_there(void **state)
{
    (void)state;
    float *x = values(2 * ROWS * HIDDEN, 2), wanted[2 * ROWS * HIDDEN], found[2 * ROWS * HIDDEN];
    for (int unbiased = -1; unbiased < 4; unbiased++) { /* Q, K and V are one product, whichever of them have a bias */
        float *memory = values(WEIGHTS, 1);
        run_layer(ATTEND_CPU, memory, unbiased, x, wanted);
        run_layer(ATTEND_CUDA, memory, unbiased, x, found);
        expect_close(found, wanted, 2 * ROWS * HIDDEN, "layer without bias", unbiased);
        CUDA(cudaFreeHost(memory));
    }
    CUDA(cudaFreeHost(x));
}

/* ---- lists ---- */

/* Lengths from 0 to `longest` for a batch, or the cumulative sums of these lengths. */
static int64_t *list(int64_t batch, int64_t longest, bool cumulative, int seed)
{
    int64_t *made = malloc((size_t)(batch + 1) * sizeof *made), total = 0;
    assert_non_null(made);
    for (int64_t b = 0; b <= batch; b++) {
        const int64_t length = (b * 5 + seed * 3 + b / 7) % (longest + 1);
        made[b] = cumulative ? total : length;
        total += length;
    }
    return made;
}

static void run_lists(attend_device device, const attend_problem *p, float *const in[3],
                      const int64_t *lists[2], bool change, float *out)
{
    const int64_t batch = p->packed ? 1 : p->batch, rows_q = p->packed ? p->total_q : p->seqlen_q,
                  rows_k = p->packed ? p->total_k : p->seqlen_k;
    int64_t *given[2];
    attend_context *context;
    attend_plan *plan;
    OK(attend_context_create(&(attend_context_options){.device = device, .threads = 1}, &context));
    OK(test_attention_plan(context, p, &plan));
    attend_feature_args features = {0};
    attend_attention_args args = {.q = attend_tensor_4d(in[0], ATTEND_F32, batch, rows_q, 1, DIM),
                                  .k = attend_tensor_4d(in[1], ATTEND_F32, batch, rows_k, 1, DIM),
                                  .v = attend_tensor_4d(in[2], ATTEND_F32, batch, rows_k, 1, DIM),
                                  .out = attend_tensor_4d(out, ATTEND_F32, batch, rows_q, 1, DIM),
                                  .features = &features};
    for (int i = 0; i < 2; i++) {
        given[i] = malloc((size_t)(p->batch + 1) * sizeof *given[i]);
        assert_non_null(given[i]);
        memcpy(given[i], lists[i], (size_t)(p->batch + 1) * sizeof *given[i]);
        if (p->packed)
            *(i ? &features.cu_seqlens_k : &features.cu_seqlens_q) = given[i];
        else
            *(i ? &features.seqlens_k : &features.seqlens_q) = given[i];
    }
    OK(attend_attention_forward(plan, &args));
    for (int i = 0; i < 2 && change; i++) memset(given[i], 0x7f, (size_t)(p->batch + 1) * sizeof *given[i]);
    OK(attend_synchronize(context));
    for (int i = 0; i < 2; i++) free(given[i]);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
}

/* Batches around the 448 lengths of one launch, and of a list of batch + 1 that ends at a multiple of 256
   bytes. */
static void host_lists_of_any_length(void **state)
{
    (void)state;
    static const int64_t batches[] = {32, 64, 449};
    for (int packed = 0; packed < 2; packed++) {
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            const int64_t batch = batches[i], longest = 3;
            int64_t *lists[] = {list(batch, longest, packed, 1), list(batch, longest, packed, 2)};
            const attend_problem p = {.batch = batch,
                                      .seqlen_q = longest,
                                      .seqlen_k = longest,
                                      .num_heads = 1,
                                      .head_dim = DIM,
                                      .packed = packed,
                                      .total_q = packed ? lists[0][batch] : 0,
                                      .total_k = packed ? lists[1][batch] : 0};
            const int64_t count = batch * longest * DIM;
            float *in[] = {values(count, 3), values(count, 4), values(count, 5)},
                  *wanted = calloc((size_t)count, sizeof(float)),
                  *found = calloc((size_t)count, sizeof(float));
            assert_true(wanted && found);
            run_lists(ATTEND_CPU, &p, in, (const int64_t *[]){lists[0], lists[1]}, false, wanted);
            run_lists(ATTEND_CUDA, &p, in, (const int64_t *[]){lists[0], lists[1]}, true, found);
            expect_close(found, wanted, packed ? p.total_q * DIM : count, packed ? "packed batch" : "batch",
                         batch);
            for (int t = 0; t < 3; t++) CUDA(cudaFreeHost(in[t]));
            free(wanted), free(found), free(lists[0]), free(lists[1]);
        }
    }
}

/* ---- block lists on the device ---- */

enum { BLOCK = 16, KEYS = 2 * BLOCK, LISTED = 3 };

/* The library does not read offsets on the device: the kernels clamp those that lie beyond the indices. */
static void a_block_list_on_the_device_ends_with_its_indices(void **state)
{
    (void)state;
    static const int64_t right[] = {0, 2, LISTED}, beyond[] = {0, 2, 1 << 20};
    static const int32_t indices[LISTED] = {0, 1, 1};
    const attend_problem p = {.batch = 1,
                              .seqlen_q = KEYS,
                              .seqlen_k = KEYS,
                              .num_heads = 1,
                              .head_dim = DIM,
                              .block_q = BLOCK,
                              .block_k = BLOCK,
                              .block_list = LISTED};
    float *in = values(KEYS * DIM, 6), out[2][KEYS * DIM];
    int64_t *offsets;
    int32_t *listed;
    attend_context *context;
    attend_plan *plan;
    CUDA(cudaMalloc((void **)&offsets, sizeof right));
    CUDA(cudaMalloc((void **)&listed, sizeof indices));
    CUDA(cudaMemcpy(listed, indices, sizeof indices, cudaMemcpyHostToDevice));
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
    OK(test_attention_plan(context, &p, &plan));
    const attend_tensor t = attend_tensor_4d(in, ATTEND_F32, 1, KEYS, 1, DIM);
    const attend_feature_args features = {.block_offsets = attend_tensor_3d(offsets, ATTEND_I64, 1, 1, 3),
                                          .block_indices = attend_tensor_1d(listed, ATTEND_I32, LISTED)};
    for (int i = 0; i < 2; i++) {
        CUDA(cudaMemcpy(offsets, i ? beyond : right, sizeof right, cudaMemcpyHostToDevice));
        CUDA(cudaDeviceSynchronize()); /* the context's stream does not wait for the default one */
        OK(attend_attention_forward(
            plan, &(attend_attention_args){.q = t,
                                           .k = t,
                                           .v = t,
                                           .out = attend_tensor_4d(out[i], ATTEND_F32, 1, KEYS, 1, DIM),
                                           .features = &features}));
        OK(attend_synchronize(context));
    }
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    attend_plan_destroy(plan);
    OK(attend_context_destroy(context));
    CUDA(cudaFree(offsets));
    CUDA(cudaFree(listed));
    CUDA(cudaFreeHost(in));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(host_weights_may_change_once_the_plan_is_there),
                                       cmocka_unit_test(host_lists_of_any_length),
                                       cmocka_unit_test(a_block_list_on_the_device_ends_with_its_indices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
