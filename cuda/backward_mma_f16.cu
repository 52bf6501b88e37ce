// Gradients on the tensor cores in fp16.
#define ATTEND_FAMILY  backward_mma_f16
#define ATTEND_ELEMENT __half
#define ATTEND_DTYPE   ATTEND_F16
#include "backward_mma_rows.cuh"
