// flash_wgmma in fp16.
#define ATTEND_FAMILY  flash_wgmma_f16
#define ATTEND_ELEMENT __half
#define ATTEND_DTYPE   ATTEND_F16
#include "flash_wgmma_rows.cuh"
