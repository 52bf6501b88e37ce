// Gradients on the tensor cores in bf16.
#define ATTEND_FAMILY  backward_mma_bf16
#define ATTEND_ELEMENT __nv_bfloat16
#define ATTEND_DTYPE   ATTEND_BF16
#include "backward_mma_rows.cuh"
