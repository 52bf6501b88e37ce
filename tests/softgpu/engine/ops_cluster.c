/* Clusters: blocks that run side by side. Their barrier, and the addresses of each other's shared memory. */
#include "engine/lanes.h"

/* ---- addresses ---------------------------------------------------------------------------------------------------------------------- */

/* A shared address, generic or not, of block `rank`. */
static uint64_t mapped(uint64_t address, uint64_t window, uint32_t rank)
{
    return window + (rank + UINT64_C(1)) * SHARED_RANK + (address - window) % SHARED_RANK;
}

static void map_address(warp *w, const insn *i, uint32_t mask)
{
    const uint32_t *rank = lanes32(w, &i->s[1]);
    uint64_t window = i->space == SPACE_GENERIC ? SHARED_WINDOW : 0;
    if (i->d[0].bits == 64) {
        const uint64_t *a = lanes64(w, &i->s[0]);
        SET_LANES(lanes64(w, &i->d[0]), mapped(a[l], window, rank[l]));
    } else {
        const uint32_t *a = lanes32(w, &i->s[0]);
        SET_LANES(lanes32(w, &i->d[0]), (uint32_t)mapped(a[l], 0, rank[l]));
    }
}

static void rank_of(warp *w, const insn *i, uint32_t mask)
{
    uint32_t own = (uint32_t)w->block->rank;
    uint64_t window = i->space == SPACE_GENERIC ? SHARED_WINDOW : 0, ranks[LANES];
    for (int l = 0; l < LANES; l++) {
        uint64_t address = i->s[0].bits == 64 ? lanes64(w, &i->s[0])[l] - window : lanes32(w, &i->s[0])[l];
        ranks[l] = address / SHARED_RANK;
    }
    SET_LANES(lanes32(w, &i->d[0]), ranks[l] ? (uint32_t)ranks[l] - 1 : own);
}

/* ---- the barrier ----------------------------------------------------------------------------------------------------------------------- */

static void arrive(warp *w, const insn *i, uint32_t mask)
{
    if (w->at_cluster & mask) {
        warp_finding(w, i, __builtin_ctz(w->at_cluster & mask), "barrier", "arrives again before it waited for the arrivals of the time before");
        launch_fail(w->block->launch, SG_TIMEOUT);
        return;
    }
    w->at_cluster |= mask;
    block_cluster_arrive(w, i->order == ORDER_RELAXED);
}

static void wait(warp *w, const insn *i, uint32_t mask)
{
    if (block_cluster_passed(w, mask)) {
        w->waits = false;
        return;
    }
    w->next = w->pc; /* to ask again */
    warp_poll(w, i);
}

const ptx_row ptx_cluster_rows[] = {
    {"mapa", "u32|u64", 0, "s", "d s s=32", PIPE_ALU, 0, map_address, NULL},
    {"getctarank", "u32|u64", 0, "s", "d=32 s", PIPE_ALU, 0, rank_of, NULL},
    {"barrier.cluster.arrive", "", F_ALIGNED, "o", "", PIPE_BARRIER, 0, arrive, NULL},
    {"barrier.cluster.wait", "", F_ALIGNED, "o", "", PIPE_BARRIER, 0, wait, NULL},
    {0},
};
