/* Positions on the device, which the host cannot check: one outside the table makes its row of x NaN, and
   only rows that see that row; first positions of a rotary call beyond 31 bits are clamped. */
#include <attend/attend.h>

#include <cuda_runtime_api.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 9, WIDTH = 8, TABLE = 6, BYTES = ROWS * WIDTH * sizeof(float) };

#define CUDA(call) assert_int_equal(call, cudaSuccess)
#define OK(call)   assert_int_equal(call, ATTEND_OK)

static void *to_device(const void *from, size_t bytes)
{
    void *to;
    CUDA(cudaMalloc(&to, bytes));
    CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    CUDA(cudaDeviceSynchronize());
    return to;
}

/* A causal layer with identity projections, all tensors but the weights on the device: q is x plus its
   positions. */
static void run_layer(const attend_problem *p, const int32_t *positions, const int64_t *starts, const float *x, const float *table, float *q, float *out)
{
    static float identity[WIDTH * WIDTH];
    for (int i = 0; i < WIDTH; i++) identity[i * (WIDTH + 1)] = 1;
    const attend_tensor w = attend_tensor_2d(identity, ATTEND_F32, WIDTH, WIDTH);
    const attend_layer_weights weights = {.wq = w, .wk = w, .wv = w, .wo = w, .position_table = attend_tensor_2d((void *)(uintptr_t)table, ATTEND_F32, TABLE, WIDTH)};
    void *device_x = to_device(x, BYTES), *device_q = to_device(x, BYTES), *device_out = to_device(x, BYTES);
    attend_feature_args features = {0};
    attend_layer_args args = {.x = attend_tensor_3d(device_x, ATTEND_F32, 1, ROWS, WIDTH),
                              .out = attend_tensor_3d(device_out, ATTEND_F32, 1, ROWS, WIDTH),
                              .q = attend_tensor_4d(device_q, ATTEND_F32, 1, ROWS, 1, WIDTH),
                              .features = &features};
    if (positions) features.positions = attend_tensor_2d(to_device(positions, ROWS * sizeof *positions), ATTEND_I32, 1, ROWS);
    if (starts) features.starts_k = to_device(starts, sizeof *starts);
    attend_context *context;
    attend_plan *plan;
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .device_tensors_only = true}, &context));
    OK(attend_layer_plan(context, p, &weights, &plan));
    OK(attend_layer_forward(plan, &args));
    OK(attend_synchronize(context));
    CUDA(cudaMemcpy(q, device_q, BYTES, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(out, device_out, BYTES, cudaMemcpyDeviceToHost));
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    cudaFree(device_x), cudaFree(device_q), cudaFree(device_out), cudaFree(features.positions.data), cudaFree((void *)(uintptr_t)features.starts_k);
}

/* Row i of q is x plus row positions[i] of the table, NaN outside the table; in a causal out that row and all
   later rows are NaN. */
static void expect_rows(const int32_t *positions, const float *x, const float *table, const float *q, const float *out)
{
    bool seen = false;
    for (int i = 0; i < ROWS; i++) {
        const bool there = positions[i] >= 0 && positions[i] < TABLE;
        seen |= !there;
        for (int c = 0; c < WIDTH; c++) {
            if (there)
                assert_true(q[i * WIDTH + c] == x[i * WIDTH + c] + table[positions[i] * WIDTH + c]);
            else
                assert_true(isnan(q[i * WIDTH + c]));
            assert_int_equal(isnan(out[i * WIDTH + c]) != 0, seen);
        }
    }
}

static void fill(float *x, int count)
{
    for (int i = 0; i < count; i++) x[i] = (float)((i * 37 + 11) % 64 - 32) / 16;
}

static void outside_the_table_is_nan(void **state)
{
    (void)state;
    static const int32_t wrong[] = {TABLE, -1, INT32_MAX, INT32_MIN};
    float x[ROWS * WIDTH], table[TABLE * WIDTH], q[ROWS * WIDTH], out[ROWS * WIDTH];
    fill(x, ROWS * WIDTH), fill(table, TABLE * WIDTH);
    const attend_problem p = {.batch = 1, .seqlen_q = ROWS, .num_heads = 1, .head_dim = WIDTH, .hidden_size = WIDTH, .causal = ATTEND_CAUSAL_TOP_LEFT,
                              .absolute = ATTEND_ABSOLUTE_LEARNED, .max_positions = TABLE};
    for (size_t n = 0; n < sizeof wrong / sizeof *wrong; n++) {
        int32_t positions[ROWS] = {0, 5, 2, 2, 4, wrong[n], 1, 3, 0};
        run_layer(&p, positions, NULL, x, table, q, out);
        expect_rows(positions, x, table, q, out);
    }
}

/* Positions counted from starts on the device. */
static void counted_beyond_the_table_is_nan(void **state)
{
    (void)state;
    float x[ROWS * WIDTH], table[TABLE * WIDTH], q[ROWS * WIDTH], out[ROWS * WIDTH];
    const int32_t positions[ROWS] = {0, 0, 0, 1, 2, 3, 4, 5, 6};
    const int64_t start = 2;
    fill(x, ROWS * WIDTH), fill(table, TABLE * WIDTH);
    const attend_problem p = {.batch = 1, .seqlen_q = ROWS, .num_heads = 1, .head_dim = WIDTH, .hidden_size = WIDTH, .causal = ATTEND_CAUSAL_TOP_LEFT, .left_padded = true,
                              .absolute = ATTEND_ABSOLUTE_LEARNED, .max_positions = TABLE};
    run_layer(&p, NULL, &start, x, table, q, out);
    expect_rows(positions, x, table, q, out);
}

static void rotate(const int64_t *first, float *x)
{
    const attend_problem p = {.batch = 1, .seqlen_q = ROWS, .num_heads = 1, .head_dim = WIDTH, .rotary = ATTEND_ROTARY_HALVES};
    void *device_x = to_device(x, BYTES), *device_first = to_device(first, sizeof *first);
    attend_context *context;
    OK(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA, .device_tensors_only = true}, &context));
    OK(attend_rotary_apply(context, &p, &(attend_rotary_args){.q = attend_tensor_4d(device_x, ATTEND_F32, 1, ROWS, 1, WIDTH), .first_positions = device_first}));
    OK(attend_synchronize(context));
    CUDA(cudaMemcpy(x, device_x, BYTES, cudaMemcpyDeviceToHost));
    attend_context_destroy(context);
    cudaFree(device_x), cudaFree(device_first);
}

static void first_positions_on_the_device_are_clamped(void **state)
{
    (void)state;
    for (int sign = -1; sign < 2; sign += 2) {
        float last[ROWS * WIDTH], beyond[ROWS * WIDTH];
        fill(last, ROWS * WIDTH), fill(beyond, ROWS * WIDTH);
        rotate(&(int64_t){sign * (int64_t)INT32_MAX}, last);
        rotate(&(int64_t){sign * (INT64_MAX / 2)}, beyond);
        assert_memory_equal(last, beyond, BYTES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outside_the_table_is_nan),
        cmocka_unit_test(counted_beyond_the_table_is_nan),
        cmocka_unit_test(first_positions_on_the_device_are_clamped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
