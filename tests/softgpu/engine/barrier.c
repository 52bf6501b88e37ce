/* Barriers of a block: the 16 named ones, and mbarriers with their phases. */
#include "engine/lanes.h"

#include <stdlib.h>
#include <string.h>

static void settle_cluster(block *b);

/* ---- bar.sync, bar.arrive, bar.red ----------------------------------------------------------------------------------------- */

static uint32_t running_warps(const block *b)
{
    uint32_t mask = 0;
    for (int w = 0; w < b->warp_count; w++)
        if (b->warps[w].state != WARP_DONE) mask |= 1u << w;
    return mask;
}

/* The value that bar.red gives: how many, all or any of the threads had a true predicate. */
static void give_result(warp *w, const named_barrier *n, int threads)
{
    const insn *i = w->at_barrier;
    uint32_t mask = w->live;
    if (!i->d_count) return;
    if (i->op2 == W_POPC || i->op == W_POPC) {
        SET_LANES(lanes32(w, &i->d[0]), (uint32_t)n->count);
        return;
    }
    bool all = i->op == W_AND || i->op2 == W_AND;
    set_predicate(w, &i->d[0], mask, (all ? n->count == threads : n->count > 0) ? UINT32_MAX : 0);
}

static void complete(block *b, named_barrier *n)
{
    if (b->races) race_barrier(b->races, n->warps);
    int threads = n->expected ? n->expected : b->launch->threads;
    for (uint32_t rest = n->waiting; rest; rest &= rest - 1) {
        warp *w = &b->warps[__builtin_ctz(rest)];
        give_result(w, n, threads);
        w->state = WARP_READY;
    }
    *n = (named_barrier){0};
}

static void complete_if_all_came(block *b, named_barrier *n)
{
    if (!n->warps) return;
    bool all = n->expected ? n->arrived >= n->expected : !(running_warps(b) & ~n->warps);
    if (all) complete(b, n);
}

void block_warp_ended(block *b)
{
    if (!b->live_warps) {
        int64_t steps = block_steps(b) - b->steps_before;
        atomic_fetch_add_explicit(&b->launch->blocks_by_work[63 - __builtin_clzll((unsigned long long)steps | 1)], 1, memory_order_relaxed);
        block_bulk_end(b);
    }
    if (b->launch->cluster > 1) settle_cluster(b);
    for (int n = 0; n < NAMED_BARRIERS; n++)
        if (!b->barriers[n].expected) complete_if_all_came(b, &b->barriers[n]);
}

void block_arrive(warp *w, const insn *i, uint32_t mask, int barrier, int threads, bool waits, uint32_t predicate)
{
    block *b = w->block;
    char place[300];
    if (barrier < 0 || barrier >= NAMED_BARRIERS || threads % LANES) {
        warp_finding(w, i, -1, "barrier", "barrier %d with %d threads: there are %d barriers, and whole warps meet", barrier, threads, NAMED_BARRIERS);
        launch_fail(b->launch, SG_ILLEGAL_INSTRUCTION);
        return;
    }
    if (!warp_gather(w, mask, w->live)) return; /* the warp's other lanes may be on their way */
    named_barrier *n = &b->barriers[barrier];
    if (n->warps && n->expected != threads) {
        insn_place(b->launch->function, n->first, place, sizeof place);
        warp_finding(w, i, -1, "barrier", "barrier %d is to hold %d threads here, but %d at %s", barrier, threads, n->expected, place);
        launch_fail(b->launch, SG_TIMEOUT);
        return;
    }
    if (!n->warps) n->first = i;
    n->expected = threads;
    n->arrived += LANES;
    n->warps |= 1u << w->number;
    n->count += __builtin_popcount(predicate & mask);
    if (waits) {
        n->waiting |= 1u << w->number;
        w->state = WARP_AT_BARRIER;
        w->at_barrier = i;
        w->yields = true;
    }
    complete_if_all_came(b, n);
}

/* ---- mbarriers ---------------------------------------------------------------------------------------------------------------- */

phase_barrier *block_phase(block *b, uint32_t at)
{
    for (int p = 0; p < b->phase_count; p++)
        if (b->phases[p].at == at) return &b->phases[p];
    return NULL;
}

phase_barrier *block_phase_create(block *b, uint32_t at, int32_t expected)
{
    phase_barrier *p = block_phase(b, at);
    if (!p) {
        if (b->phase_count == b->phase_capacity) {
            b->phase_capacity = b->phase_capacity ? 2 * b->phase_capacity : 16;
            phase_barrier *grown = realloc(b->phases, (size_t)b->phase_capacity * sizeof *grown);
            if (!grown) abort();
            b->phases = grown;
        }
        p = &b->phases[b->phase_count++];
    }
    *p = (phase_barrier){.at = at, .expected = expected, .pending = expected};
    return p;
}

void block_phase_remove(block *b, uint32_t at)
{
    phase_barrier *p = block_phase(b, at);
    if (p) *p = b->phases[--b->phase_count];
}

void block_phase_settle(block *b, phase_barrier *p)
{
    if (p->pending > 0 || p->transactions != 0) return;
    p->phase++;
    p->pending = p->expected;
    if (b->races) race_phase_complete(b->races, p->at);
}

bool block_phase_passed(const phase_barrier *p, uint32_t parity) { return (p->phase & 1) != parity; }

void block_phase_deliver(block *b, phase_barrier *p)
{
    block_bulk_deliver(b, p);
    if (p->late) {
        block_deliver_tied(b, p->at);
        p->pending -= p->late;
        p->late = 0;
    }
    block_phase_settle(b, p);
}

void warp_poll(warp *w, const insn *i)
{
    w->waits = w->yields = true;
    w->state = WARP_POLLING;
    w->at_barrier = i;
    w->patience = 0; /* lanes elsewhere may be who is waited for */
}

/* ---- clusters ---------------------------------------------------------------------------------------------------------------------- */

static const uint64_t CLUSTER = UINT64_MAX; /* as the race detector knows its barrier, among those of the first block */

static block *first_of_cluster(block *b) { return b - b->rank; }

/* Threads that have exited count as arrived. */
static void settle_cluster(block *b)
{
    block *first = first_of_cluster(b);
    bool any = false;
    for (int r = 0; r < b->launch->cluster; r++)
        for (int w = 0; w < first[r].warp_count; w++) {
            const warp *each = &first[r].warps[w];
            if (each->live & ~each->at_cluster) return;
            any |= each->at_cluster != 0;
        }
    if (!any) return;
    if (first->races) race_phase_complete(first->races, CLUSTER);
    for (int r = 0; r < b->launch->cluster; r++)
        for (int w = 0; w < first[r].warp_count; w++) first[r].warps[w].at_cluster = 0;
}

void block_cluster_arrive(warp *w, bool relaxed)
{
    block *first = first_of_cluster(w->block);
    if (first->races && relaxed) race_arrive_relaxed(w->block->races, w->number, first->races, CLUSTER);
    if (first->races && !relaxed) race_arrive(w->block->races, w->number, first->races, CLUSTER);
    settle_cluster(w->block);
}

bool block_cluster_passed(warp *w, uint32_t lanes)
{
    block *first = first_of_cluster(w->block);
    if (w->at_cluster & lanes) settle_cluster(w->block);
    if (w->at_cluster & lanes) return false;
    if (first->races) race_phase_wait(w->block->races, w->number, first->races, CLUSTER);
    return true;
}
