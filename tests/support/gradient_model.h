/* Gradients by plain loops, with the roundings of a tensor-core kernel and, on demand, one defect: what the rules must pass and what they
   must catch. */
#ifndef ATTEND_TEST_SUPPORT_GRADIENT_MODEL_H
#define ATTEND_TEST_SUPPORT_GRADIENT_MODEL_H

#include "support/gradients.h"

typedef enum gradient_defect {
    GRADIENT_CORRECT,
    GRADIENT_NO_DELTA,         /* dS = P∘dP */
    GRADIENT_ROUNDED_DELTA,    /* Σ dO·O from an O that was rounded to 16 bits */
    GRADIENT_NO_SCALE_ON_DK,
    GRADIENT_UNMASKED_TAIL,    /* the last tile of 64 keys is not masked */
    GRADIENT_DROPPED_TAIL,     /* dQ lacks the keys of a tile that is not full */
    GRADIENT_NARROW_GROUP,     /* dK of grouped heads is summed in 16 bits, block of 16 queries by block */
    GRADIENT_BIAS_NOT_REDUCED, /* over an axis along which it does not vary: the last one stands */
    GRADIENT_DLSE_IGNORED,
    GRADIENT_WRONG_KV_HEAD,
    GRADIENT_DEFECTS
} gradient_defect;

const char *gradient_defect_name(gradient_defect defect);

/* Whether the defect can change anything in this problem. */
bool gradient_defect_applies(gradient_defect defect, const attend_problem *problem, const attend_attention_grads *grads);

/* Fills all gradients of q, k, v and bias. Without softcap, packed sequences and lengths. */
void gradient_model_run(gradient_defect defect, const test_fixture *fixture, test_gradients *gradients);

#endif
