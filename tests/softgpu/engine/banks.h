/* What an access costs: wavefronts of shared memory (32 banks of 4 bytes) and 32-byte sectors of global memory. Pure functions. */
#ifndef SOFTGPU_ENGINE_BANKS_H
#define SOFTGPU_ENGINE_BANKS_H

#include <stdint.h>

typedef struct access_cost {
    int units; /* wavefronts, or sectors */
    int ideal; /* what the same bytes would take, laid out best */
} access_cost;

/* Lanes of `mask` access `bytes` bytes (1 to 16) each. 8 bytes go by half warps, 16 by quarter warps, each as one wavefront unless two
   different words fall into one bank (CUDA programming guide, shared memory). */
access_cost shared_cost(const uint64_t *addresses, uint32_t mask, int bytes);
access_cost global_cost(const uint64_t *addresses, uint32_t mask, int bytes);

#endif
