/* 16-bit tensors on the device whose rows begin at any element: the tensor-core rows cannot copy them by 16 bytes, so a slower row takes
   them, where they lie, and gives its own bits. */
#include "support/plans.h"
#include "support/run.h"

#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { QUERIES = 70, KEYS = 90, DIM = 64 };

static test_run make(attend_dtype dtype) { return test_run_make(dtype, DIM, 1, QUERIES, KEYS, 2, 1, ATTEND_CAUSAL_TOP_LEFT); }

/* Runs with tensors in host memory and the row that is named; NULL: the one that is chosen. */
static void run_row(test_run *r, const char *row)
{
    if (row) setenv("ATTEND_KERNEL", row, 1);
    attend_context *context;
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context), ATTEND_OK);
    test_run_go(r, context, row ? row : "the chosen row");
    attend_context_destroy(context);
    unsetenv("ATTEND_KERNEL");
}

/* A copy on the device that begins `shift` elements into its block, and has rows that are `gap` elements longer. */
typedef struct placed {
    void *block;
    attend_tensor tensor;
} placed;

static size_t span(const attend_tensor *t, int64_t gap) { return (size_t)(t->shape[1] * (t->shape[2] * t->shape[3] + gap)); }

static placed place(const attend_tensor *t, int64_t shift, int64_t gap)
{
    const size_t row = test_row_bytes(t), element = attend_dtype_bytes(t->dtype);
    placed p = {NULL, *t};
    p.tensor.stride[3] = 1, p.tensor.stride[2] = t->shape[3], p.tensor.stride[1] = t->shape[2] * t->shape[3] + gap;
    p.tensor.stride[0] = t->shape[1] * p.tensor.stride[1];
    assert_int_equal(cudaMalloc(&p.block, (span(t, gap) + (size_t)shift) * element), cudaSuccess);
    p.tensor.data = (char *)p.block + (size_t)shift * element;
    assert_int_equal(cudaMemcpy2D(p.tensor.data, row + (size_t)gap * element, t->data, row, row, (size_t)t->shape[1], cudaMemcpyHostToDevice),
                     cudaSuccess);
    return p;
}

/* The same problem with tensors on the device, one of them (0: q, 1: k, 2: v, 3: out) out of line. */
static void run_placed(test_run *r, int odd, int64_t shift, int64_t gap)
{
    attend_context *context;
    attend_plan *plan;
    attend_tensor *const tensors[] = {&r->q, &r->k, &r->v, &r->out};
    placed p[4];
    for (int i = 0; i < 4; i++) p[i] = place(tensors[i], i == odd ? shift : 0, i == odd ? gap : 0);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
    const attend_attention_args args = {.q = p[0].tensor, .k = p[1].tensor, .v = p[2].tensor, .out = p[3].tensor};
    assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context), ATTEND_OK);
    if (test_attention_plan(context, &r->p, &plan) || attend_attention_forward(plan, &args) || attend_synchronize(context))
        fail_msg("tensor %d, %d elements on, gap %d: %s", odd, (int)shift, (int)gap, attend_error_message());
    const size_t row = test_row_bytes(&r->out);
    assert_int_equal(cudaMemcpy2D(r->out.data, row, p[3].tensor.data, (size_t)p[3].tensor.stride[1] * attend_dtype_bytes(r->p.dtype), row,
                                  QUERIES, cudaMemcpyDeviceToHost),
                     cudaSuccess);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    for (int i = 0; i < 4; i++) cudaFree(p[i].block);
}

static int same_bits(const test_run *a, const test_run *b) { return !memcmp(a->out.data, b->out.data, QUERIES * test_row_bytes(&a->out)); }

static void unaligned_inputs_go_to_the_slower_row(void **state)
{
    static const struct {
        int64_t shift, gap;
    } ways[] = {{1, 0}, {4, 0}, {0, 1}, {3, 4}}; /* begun at an odd element, at half a chunk; rows of an odd length; both */
    (void)state;
    for (attend_dtype dtype = ATTEND_F16; dtype <= ATTEND_BF16; dtype++) {
        test_run chosen = make(dtype), slower = make(dtype), odd = make(dtype);
        run_row(&chosen, NULL);
        run_row(&slower, dtype == ATTEND_F16 ? "flash_fma_f16_d128" : "flash_fma_bf16_d128");
        assert_false(same_bits(&chosen, &slower)); /* else this test could not tell them apart */
        for (int tensor = 0; tensor < 3; tensor++)
            for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
                run_placed(&odd, tensor, ways[way].shift, ways[way].gap);
                if (!same_bits(&odd, &slower)) fail_msg("tensor %d, way %zu: not the bits of the slower row", tensor, way);
            }
        test_run_free(&chosen), test_run_free(&slower), test_run_free(&odd);
    }
}

/* Aligned inputs keep the fast row, wherever the output begins. */
static void an_unaligned_output_keeps_the_fast_row(void **state)
{
    (void)state;
    for (attend_dtype dtype = ATTEND_F16; dtype <= ATTEND_BF16; dtype++) {
        test_run chosen = make(dtype), odd = make(dtype);
        run_row(&chosen, NULL);
        run_placed(&odd, 3, 1, 1);
        assert_true(same_bits(&chosen, &odd));
        run_placed(&odd, 0, 8, 8); /* 16 bytes on */
        assert_true(same_bits(&chosen, &odd));
        test_run_free(&chosen), test_run_free(&odd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(unaligned_inputs_go_to_the_slower_row),
                                       cmocka_unit_test(an_unaligned_output_keeps_the_fast_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
