/* Between mma.c and the summation under it. */
#ifndef SOFTGPU_NUMBERS_MMA_SUM_H
#define SOFTGPU_NUMBERS_MMA_SUM_H

#include "numbers/clones.h"
#include "numbers/mma.h"

/* sum += the dot product of `count` pairs, by the rule at sg_mma_mode with `fraction_bits`, in integers and for any
   values: the definition that the vector code must equal. Returns the new sum. */
float sg_mma_cut_sum(const float *a, const float *b, int count, float sum, int fraction_bits);

#endif
