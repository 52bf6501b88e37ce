/* Barriers of the block, and fences. */
#include "engine/lanes.h"

static int lane_value(const warp *w, const operand *o, uint32_t mask) { return (int)lanes32(w, o)[__builtin_ctz(mask)]; }

static void sync(warp *w, const insn *i, uint32_t mask)
{
    int threads = i->s_count > 1 ? lane_value(w, &i->s[1], mask) : 0;
    block_arrive(w, i, mask, lane_value(w, &i->s[0], mask), threads, true, 0);
}

static void arrive(warp *w, const insn *i, uint32_t mask)
{
    block_arrive(w, i, mask, lane_value(w, &i->s[0], mask), lane_value(w, &i->s[1], mask), false, 0);
}

/* bar.red.op d, barrier{, threads}, predicate */
static void reduce(warp *w, const insn *i, uint32_t mask)
{
    int threads = i->s_count > 2 ? lane_value(w, &i->s[1], mask) : 0;
    block_arrive(w, i, mask, lane_value(w, &i->s[0], mask), threads, true, predicate(w, &i->s[i->s_count - 1]));
}

static void fence(warp *w, const insn *i, uint32_t mask)
{
    (void)i, (void)mask;
    if (w->block->races) race_fence(w->block->races, w->number);
}

static void proxy_fence(warp *w, const insn *i, uint32_t mask)
{
    (void)i, (void)mask;
    if (w->block->races) race_proxy_fence(w->block->races, w->number);
}

const ptx_row ptx_barrier_rows[] = {
    {"bar.sync", "", 0, "", "s=32 s=32?", PIPE_BARRIER, 0, sync, NULL},
    {"bar.cta.sync", "", 0, "", "s=32 s=32?", PIPE_BARRIER, 0, sync, NULL},
    {"barrier.sync", "", F_ALIGNED, "", "s=32 s=32?", PIPE_BARRIER, 0, sync, NULL},
    {"barrier.cta.sync", "", F_ALIGNED, "", "s=32 s=32?", PIPE_BARRIER, 0, sync, NULL},
    {"bar.arrive", "", 0, "", "s=32 s=32", PIPE_BARRIER, 0, arrive, NULL},
    {"bar.cta.arrive", "", 0, "", "s=32 s=32", PIPE_BARRIER, 0, arrive, NULL},
    {"barrier.arrive", "", F_ALIGNED, "", "s=32 s=32", PIPE_BARRIER, 0, arrive, NULL},
    {"barrier.cta.arrive", "", F_ALIGNED, "", "s=32 s=32", PIPE_BARRIER, 0, arrive, NULL},
    {"bar.red", "u32", 0, "c", "d s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"bar.red", "pred", 0, "c", "p s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"bar.cta.red", "u32", 0, "c", "d s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"bar.cta.red", "pred", 0, "c", "p s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"barrier.red", "u32", F_ALIGNED, "c", "d s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"barrier.red", "pred", F_ALIGNED, "c", "p s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"barrier.cta.red", "u32", F_ALIGNED, "c", "d s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"barrier.cta.red", "pred", F_ALIGNED, "c", "p s=32 s=0 q?", PIPE_BARRIER, 0, reduce, NULL},
    {"membar", "", 0, "o", "", PIPE_GLOBAL, 0, fence, NULL},
    {"fence", "", 0, "o", "", PIPE_GLOBAL, 0, fence, NULL},
    {"fence.proxy.async", "", 0, "s", "", PIPE_GLOBAL, 0, proxy_fence, NULL},
    {"fence.mbarrier_init", "", 0, "o", "", PIPE_GLOBAL, 0, fence, NULL},
    {0},
};
