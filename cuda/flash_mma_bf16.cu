// flash_mma in bf16.
#define ATTEND_FAMILY  flash_mma_bf16
#define ATTEND_ELEMENT __nv_bfloat16
#define ATTEND_DTYPE   ATTEND_BF16
#include "flash_mma_rows.cuh"
