/* wgmma: the part of a warpgroup's product that one warp holds, 16 of its 64 rows. Operands lie in shared memory as descriptors say. */
#ifndef SOFTGPU_ENGINE_WGMMA_H
#define SOFTGPU_ENGINE_WGMMA_H

#include "engine/warp.h"

enum { WGMMA_ROWS = 16, WGMMA_K_BYTES = 32, WGMMA_N_MOST = 256, WGMMA_K_MOST = 32 };

/* A multiplication on its way. */
struct wgmma {
    const insn *insn;
    uint64_t a, b;                  /* descriptors; a: of the whole warpgroup's 64 rows */
    uint32_t fragment[4][LANES];    /* a, where it comes from registers */
    bool accumulates, done;         /* done: computed, but not yet waited for by this warp */
    int32_t group;
    uint32_t serial;                /* its number in the warpgroup */
};

bool wgmma_a_in_registers(const insn *i);
/* Lets the checks see the shared memory that is read, when it begins and again when it ends. False after a finding. */
bool wgmma_read(warp *w, const wgmma *m, bool again);
/* Multiplies, into the result's registers. */
void wgmma_run(warp *w, const wgmma *m);

#endif
