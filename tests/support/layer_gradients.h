/* Layers with all that running them backwards needs: weights of either orientation, features, lists, and a tensor for every gradient. */
#ifndef ATTEND_TEST_SUPPORT_LAYER_GRADIENTS_H
#define ATTEND_TEST_SUPPORT_LAYER_GRADIENTS_H

#include "core/layer_backward.h"

typedef struct test_layer_case {
    const char *name;
    attend_problem problem;
    bool by_columns; /* weights and their gradients, as GPT-2 stores them */
    bool biases, lengths, positions;
} test_layer_case;

extern const test_layer_case test_layer_cases[];
extern const int test_layer_case_count;

enum { TEST_TRAINED_BLOCKS = 64, TEST_TRAINED_TENSORS = 2 + ATTEND_LAYER_WEIGHTS + 5 };

/* x, context, the weights, then tensors of features: what has a gradient, and its gradient. data NULL: there is none. */
typedef struct test_trained_tensor {
    const char *name;
    attend_tensor *value, *gradient;
} test_trained_tensor;

typedef struct test_trained {
    const test_layer_case *c;
    attend_problem given, p; /* p: resolved */
    attend_layer_weights weights, dweights;
    attend_feature_args features;
    attend_feature_grads dfeatures;
    attend_layer_args args;
    attend_layer_grads grads;
    int64_t lengths_q[4], lengths_k[4];
    void *feature[ATTEND_FEATURE_TENSORS];
    void *blocks[TEST_TRAINED_BLOCKS];
    int count;
    uint64_t seed;
    int64_t gap; /* elements between lines of all tensors but weights that are stored by columns */
} test_trained;

/* Where tensors lie: on the host unless a test says otherwise. */
extern void *(*test_trained_memory)(size_t bytes);
extern void (*test_trained_release)(void *memory);

/* The case, or a few tokens of few channels of it. q, k, v, heads and lse are there but not set in args; x and context are NaN past the
   lengths, gradients NaN in all their memory. */
void test_trained_make(test_trained *layer, const test_layer_case *c, bool small);
void test_trained_make_views(test_trained *layer, const test_layer_case *c, int64_t gap);
/* The same in another dtype that holds all of the values: f32, or the reference's doubles, which only its own functions take. */
void test_trained_widen(test_trained *wide, const test_trained *layer, attend_dtype dtype);
void test_trained_free(test_trained *layer);
test_trained_tensor test_trained_tensor_of(test_trained *layer, int index);
/* A tensor of the layer's, in new memory, all NaN. */
attend_tensor test_trained_reserve(test_trained *layer, attend_dtype dtype, int rank, const int64_t *shape);

/* Makes a plan and runs it backwards; fails the test with the library's sentence where that does not work. */
void test_trained_run(test_trained *layer, attend_context *context);
/* What a run's arguments become. */
void test_trained_resolve(const test_trained *layer, attend_layer_args *args, attend_feature_args *features,
                          attend_layer_gradients *gradients);

#endif
