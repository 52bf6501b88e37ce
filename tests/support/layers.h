/* Small layers with contiguous tensors, for tests that compare one result to another, not to the
   reference. */
#ifndef ATTEND_TEST_SUPPORT_LAYERS_H
#define ATTEND_TEST_SUPPORT_LAYERS_H

#include <attend/attend.h>

enum { TEST_LAYER_BLOCKS = 20 };

typedef struct test_layer {
    attend_problem given, p; /* p: resolved */
    attend_layer_weights weights;
    attend_layer_args args; /* x, context, out and lse are set; feature tensors are the caller's */
    void *blocks[TEST_LAYER_BLOCKS];
    int count;
} test_layer;

/* Normally distributed weights, biases and x, equal for equal shapes. */
void test_layer_make(test_layer *layer, const attend_problem *problem);
void test_layer_free(test_layer *layer);
/* A contiguous tensor in memory of the layer, zeroed. */
attend_tensor test_layer_tensor(test_layer *layer, attend_dtype dtype, int rank, const int64_t *shape);
/* Plans and runs; fails the test on an error. */
void test_layer_go(const test_layer *layer, attend_context *context);
/* Runs a plan, with out, lse and what earlier runs left in the plan filled with NaN before. */
void test_layer_go_again(const test_layer *layer, attend_plan *plan);

#endif
