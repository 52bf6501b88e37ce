/* Between mma.c and the summation under it. */
#ifndef SOFTGPU_MMA_SUM_H
#define SOFTGPU_MMA_SUM_H

#include "mma.h"

/* One copy of a function for each vector width, chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define SG_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SG_VECTOR_CLONES
#endif

/* sum += the dot product of `count` pairs, by the rule at sg_mma_mode with `fraction_bits`, in integers and for any
   values: the definition that the vector code must equal. Returns the new sum. */
float sg_mma_cut_sum(const float *a, const float *b, int count, float sum, int fraction_bits);

#endif
