/* All gradients of a fixture: tensors in its layout, rows that may not be read NaN, memory that may not be written NaN. */
#ifndef ATTEND_TEST_SUPPORT_GRADIENTS_H
#define ATTEND_TEST_SUPPORT_GRADIENTS_H

#include "core/backward.h"
#include "support/fixture.h"

typedef struct test_gradients {
    test_memory dout, dlse, out_f32, of[ATTEND_GRADIENTS];
    attend_attention_grads grads;
    attend_feature_grads features;
} test_gradients;

/* stored: of dq, dk and dv. An even seed has no dlse, one in three has out_f32. */
void test_gradients_make(test_gradients *gradients, const test_fixture *fixture, attend_dtype stored);
void test_gradients_free(test_gradients *gradients);

/* Makes a plan, runs it forward and backward; fails the test with the library's sentence where that does not work. */
void test_gradients_run(test_gradients *gradients, test_fixture *fixture, attend_context *context);

/* Whether both rules hold and nothing else was written; else a sentence says what does not. */
bool test_gradients_judge(const test_gradients *gradients, const test_fixture *fixture, attend_backward_comparison *comparison,
                          char sentence[TEST_SENTENCE]);

/* The worst of a comparison over all gradients, by either rule. */
double test_gradients_worst(const attend_backward_comparison *comparison, bool rule_2);

#endif
