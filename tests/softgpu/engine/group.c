/* Divergence. Lanes of a warp at different places form groups. The group at the lowest place runs, so that those behind catch up and
   meet the others where control flow joins; one that spins is put aside after a while, as independent thread scheduling promises. */
#include "engine/lanes.h"

enum { PATIENCE = 4096, HOLD = 1024 };

static void add_group(warp *w, group g) { w->groups[w->group_count++] = g; }
static void remove_group(warp *w, int index) { w->groups[index] = w->groups[--w->group_count]; }

void warp_branch(warp *w, const insn *i, uint32_t taken, int32_t target)
{
    uint32_t rest = w->active & ~taken;
    if (!taken) return;
    if (!rest) {
        w->next = target;
        return;
    }
    if (w->block->counts) w->block->counts[i - w->block->launch->function->code].divergent++;
    add_group(w, (group){.pc = target, .lanes = taken});
    w->active = rest;
    w->patience = PATIENCE;
}

void warp_exit(warp *w, uint32_t lanes)
{
    w->live &= ~lanes;
    w->active &= ~lanes;
    for (int g = 0; g < w->group_count; g++) {
        group *waiting = &w->groups[g];
        if (!(waiting->members &= w->live) || waiting->members & ~waiting->lanes) continue;
        waiting->members = 0; /* who was missing has left */
    }
    if (w->live) return;
    w->state = WARP_DONE;
    w->yields = true;
    w->block->live_warps--;
    block_warp_ended(w->block);
}

bool warp_gather(warp *w, uint32_t mask, uint32_t members)
{
    members &= w->live; /* a mask may name lanes that have exited: nobody waits for them (PTX ISA, shfl.sync: "all non-exited threads") */
    if (!(members & ~mask)) return true;
    add_group(w, (group){.pc = w->pc, .lanes = mask, .members = members});
    w->active &= ~mask;
    return false;
}

/* Those inside calls go first, so that they come back to where the others are; among them the lowest place. */
static bool goes_first(const warp *w, const group *a, const group *b)
{
    int deep = w->depth[__builtin_ctz(a->lanes)], other = w->depth[__builtin_ctz(b->lanes)];
    return deep != other ? deep > other : a->pc < b->pc;
}

/* The group to go first among those that do not wait; -1: none. */
static int lowest(const warp *w)
{
    int best = -1;
    for (int g = 0; g < w->group_count; g++)
        if (!w->groups[g].members && (best < 0 || goes_first(w, &w->groups[g], &w->groups[best]))) best = g;
    return best;
}

static void take(warp *w, int index)
{
    group g = w->groups[index];
    remove_group(w, index);
    if (w->active) add_group(w, (group){.pc = w->pc, .lanes = w->active});
    w->pc = g.pc;
    w->active = g.lanes;
}

static void merge(warp *w)
{
    for (int g = 0; g < w->group_count;)
        if (w->groups[g].pc == w->pc && w->active) {
            w->active |= w->groups[g].lanes;
            remove_group(w, g);
        } else {
            g++;
        }
}

bool warp_regroup(warp *w)
{
    merge(w);
    int other = lowest(w);
    if (!w->active) {
        for (int g = 0; other < 0 && g < w->group_count; g++)
            if (!(w->groups[g].members & w->live & ~w->groups[g].lanes)) other = g; /* those it waited for have exited */
        if (other < 0 && w->group_count) {
            const group *g = &w->groups[0];
            const insn *i = w->block->launch->function->code + g->pc;
            warp_finding(w, i, __builtin_ctz(g->lanes), "barrier", "lanes %08x wait for lanes %08x, which never come", g->lanes,
                         g->members & ~g->lanes);
            launch_fail(w->block->launch, SG_TIMEOUT);
        }
        if (other < 0) return false;
        take(w, other);
        merge(w);
        return true;
    }
    if (other < 0 || (w->hold > 0 && --w->hold)) return true;
    if (--w->patience <= 0) {
        w->patience = PATIENCE;
        w->hold = HOLD;
        int any = (int)random_below(worker_random(w->block->worker), (uint32_t)w->group_count);
        take(w, w->groups[any].members ? other : any);
    } else if (goes_first(w, &w->groups[other], &(group){.pc = w->pc, .lanes = w->active})) {
        take(w, other);
    }
    merge(w);
    return true;
}
