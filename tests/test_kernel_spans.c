/* The order of summation (cuda/spans.cuh), for every row of the CUDA kernel table: a row of the result has the same bits whether one
   block takes all of its keys or each span goes to a block of its own, with any batch, and in plans for longer keys. ATTEND_TEST_ROWS,
   a part of a name, leaves the other rows out. */
#include "support/fixture.h"
#include "support/run.h"

#include <attend/attend_cuda.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct span_case {
    const char *name;
    int64_t queries, few; /* more than fit a tile of split rows, and the last of them alone */
    int64_t keys;
    attend_causal causal;
    int64_t window; /* keys that a query sees before itself; 0: all */
} span_case;

static const span_case cases[] = {
    {"keys end within the second span", 33, 3, 1300, ATTEND_CAUSAL_NONE, 0},
    {"a window begins within the first span", 33, 3, 1300, ATTEND_CAUSAL_BOTTOM_RIGHT, 600},
    {"keys end with the second span", 33, 1, 2048, ATTEND_CAUSAL_BOTTOM_RIGHT, 0},
    {"the causal edge lies in three spans", 1100, 30, 2100, ATTEND_CAUSAL_BOTTOM_RIGHT, 0},
};

static attend_context *context;
static attend_kernel_info row;

static void expect_same(const span_case *c, const test_run *a, int64_t row_a, const test_run *b, int64_t row_b, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++) {
        if (memcmp(test_row(&a->out, 0, row_a + i), test_row(&b->out, 0, row_b + i), test_row_bytes(&a->out)))
            fail_msg("%s, %s: query %d has other bits among fewer", row.name, c->name, (int)(row_a + i));
        for (int64_t h = 0; h < a->p.num_heads; h++) {
            const float *lse_a = (const float *)a->lse.data + h * a->lse.stride[1] + row_a + i,
                        *lse_b = (const float *)b->lse.data + h * b->lse.stride[1] + row_b + i;
            if (memcmp(lse_a, lse_b, sizeof *lse_a)) fail_msg("%s, %s: the LSE of query %d has other bits", row.name, c->name, (int)(row_a + i));
        }
    }
}

static void few_rows_have_the_bits_of_many(const span_case *c)
{
    test_run all = test_run_make(row.dtype, row.head_dim_max, 1, c->queries, c->keys, 2, 1, c->causal),
             few = test_run_make(row.dtype, row.head_dim_max, 1, c->few, c->keys, 2, 1, c->causal);
    const int64_t first = c->queries - c->few;
    memcpy(few.q.data, test_row(&all.q, 0, first), (size_t)c->few * test_row_bytes(&all.q));
    memcpy(few.k.data, all.k.data, (size_t)c->keys * test_row_bytes(&all.k));
    memcpy(few.v.data, all.v.data, (size_t)c->keys * test_row_bytes(&all.v));
    all.p.windowed = few.p.windowed = c->window > 0, all.p.window_left = few.p.window_left = c->window;
    test_run_go(&all, context, row.name), test_run_go(&few, context, row.name);
    expect_same(c, &all, first, &few, 0, c->few);
    test_run_free(&all), test_run_free(&few);
}

static void for_each_row(void **state)
{
    (void)state;
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        if (!test_wants_row(&row)) continue;
        const bool splits = strstr(row.name, "mma_") != NULL;
        setenv("ATTEND_KERNEL", row.name, 1);
        context = test_context();
        /* which does not wait for what making the context enqueued */
        assert_int_equal(attend_context_set_stream(context, cudaStreamPerThread), ATTEND_OK);
        /* The last case is large: for the rows that it costs least. */
        for (int n = 0; n < (splits && row.head_dim_max <= 64 ? 4 : splits ? 3 : 2); n++)
            if (test_wants_promise(&row, n)) few_rows_have_the_bits_of_many(&cases[n]);
        attend_context_destroy(context);
        unsetenv("ATTEND_KERNEL");
    }
}

int main(void)
{
    setenv("ATTEND_TEST_DEVICE", "cuda", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(for_each_row)};
    return cmocka_run_group_tests_name("few rows have the bits of many", tests, NULL, NULL);
}
