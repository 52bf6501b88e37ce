// flash_mma in fp16.
#define ATTEND_FAMILY  flash_mma_f16
#define ATTEND_ELEMENT __half
#define ATTEND_DTYPE   ATTEND_F16
#include "flash_mma_rows.cuh"
