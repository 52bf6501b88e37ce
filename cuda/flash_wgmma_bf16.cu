// flash_wgmma in bf16.
#define ATTEND_FAMILY  flash_wgmma_bf16
#define ATTEND_ELEMENT __nv_bfloat16
#define ATTEND_DTYPE   ATTEND_BF16
#include "flash_wgmma_rows.cuh"
