/* Small problems with contiguous tensors, for tests that compare one result to another, not to the
   reference. */
#ifndef ATTEND_TEST_SUPPORT_RUN_H
#define ATTEND_TEST_SUPPORT_RUN_H

#include <attend/attend.h>
#include <stddef.h>

typedef struct test_run {
    attend_problem p;
    attend_tensor q, k, v, out, lse; /* host memory; [batch, seqlen, heads, dim] */
    attend_tensor mask;              /* set by the caller; absent by default */
} test_run;

/* Normally distributed inputs, equal for equal shapes; softmax_scale is 1/8. */
test_run test_run_make(attend_dtype dtype, int64_t head_dim, int64_t batch, int64_t seqlen_q, int64_t seqlen_k, int64_t heads,
                       int64_t kv_heads, attend_causal causal);
void test_run_free(test_run *run);
/* Plans and runs; fails the test on an error, with a message that begins with `who`. */
void test_run_go(test_run *run, attend_context *context, const char *who);

/* Row i of a batch entry, all heads; one element. */
size_t test_row_bytes(const attend_tensor *tensor);
char *test_row(const attend_tensor *tensor, int64_t b, int64_t i);
float test_get(const attend_tensor *tensor, int64_t b, int64_t i, int64_t h, int64_t c);
void test_set(const attend_tensor *tensor, int64_t b, int64_t i, int64_t h, int64_t c, float value);

#endif
