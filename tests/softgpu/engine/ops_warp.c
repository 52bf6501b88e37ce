/* Instructions in which the lanes of a warp look at each other. */
#include "engine/lanes.h"

#include <string.h>

/* The member mask, which all lanes give alike. */
static uint32_t members_of(const warp *w, const insn *i, uint32_t mask) { return lanes32(w, &i->s[i->s_count - 1])[__builtin_ctz(mask)]; }

static bool gather(warp *w, const insn *i, uint32_t mask)
{
    uint32_t members = members_of(w, i, mask), strangers = mask & ~members;
    if (strangers) warp_finding(w, i, __builtin_ctz(strangers), "barrier", "its mask %08x leaves itself out", members);
    return warp_gather(w, mask, members);
}

/* Lanes that are at one place but give different masks, as tiles of a warp do, have nothing to do with each other. */
static void by_members(warp *w, const insn *i, uint32_t mask, ptx_exec *run)
{
    const operand *o = &i->s[i->s_count - 1];
    uint32_t members[LANES];
    memcpy(members, lanes32(w, o), sizeof members);
    while (mask && !o->constant) {
        uint32_t same = 0;
        for (uint32_t rest = mask; rest; rest &= rest - 1)
            if (members[__builtin_ctz(rest)] == members[__builtin_ctz(mask)]) same |= rest & -rest;
        run(w, i, same);
        mask &= ~same;
    }
    if (mask) run(w, i, mask);
}
#define BY_MEMBERS(name, run)                                                                                          \
    static void name(warp *w, const insn *i, uint32_t mask) { by_members(w, i, mask, run); }

/* ---- shfl ----------------------------------------------------------------------------------------------------------------- */

/* The lane that lane l reads, and whether it lies in range (PTX ISA, shfl.sync). */
static int shuffle_source(const insn *i, int l, uint32_t b, uint32_t c, bool *in_range)
{
    int segment = (int)(c >> 8 & 31), clamp = (int)(c & 31), step = (int)(b & 31);
    int last = (l & segment) | (clamp & ~segment), first = l & segment, j;
    switch (i->op) {
    case W_UP: j = l - step, *in_range = j >= last; break;
    case W_DOWN: j = l + step, *in_range = j <= last; break;
    case W_BFLY: j = l ^ step, *in_range = j <= last; break;
    default: j = first | (step & ~segment), *in_range = j <= last; break;
    }
    return *in_range ? j : l;
}

static void shuffle_of(warp *w, const insn *i, uint32_t mask)
{
    if (!gather(w, i, mask)) return;
    uint32_t from[LANES], *d = lanes32(w, &i->d[0]), in = 0;
    const uint32_t *b = lanes32(w, &i->s[1]), *c = lanes32(w, &i->s[2]);
    memcpy(from, lanes32(w, &i->s[0]), sizeof from);
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1)) continue;
        bool in_range;
        int j = shuffle_source(i, l, b[l], c[l], &in_range);
        if (!(mask >> j & 1)) warp_finding(w, i, l, "uninitialised", "reads lane %d, which takes no part", j);
        d[l] = from[j];
        in |= (uint32_t)in_range << l;
    }
    if (i->d_count > 1) set_predicate(w, &i->d[1], mask, in);
}

/* ---- vote, match, redux ------------------------------------------------------------------------------------------------------ */

static void vote_of(warp *w, const insn *i, uint32_t mask)
{
    if (!gather(w, i, mask)) return;
    uint32_t yes = predicate(w, &i->s[0]) & mask;
    bool result = i->op == W_ALL ? yes == mask : i->op == W_ANY ? yes != 0 : yes == mask || !yes;
    set_predicate(w, &i->d[0], mask, result ? UINT32_MAX : 0);
}

static void ballot_of(warp *w, const insn *i, uint32_t mask)
{
    if (!gather(w, i, mask)) return;
    uint32_t yes = predicate(w, &i->s[0]) & mask, *d = lanes32(w, &i->d[0]);
    SET_LANES(d, yes);
}

static uint64_t value_of(const warp *w, const operand *o, int lane) { return o->bits == 64 ? lanes64(w, o)[lane] : lanes32(w, o)[lane]; }

static uint32_t alike(const warp *w, const operand *o, uint32_t mask, int lane)
{
    uint32_t same = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1)
        if (value_of(w, o, __builtin_ctz(rest)) == value_of(w, o, lane)) same |= rest & -rest;
    return same;
}

static void match_any_of(warp *w, const insn *i, uint32_t mask)
{
    if (!gather(w, i, mask)) return;
    uint32_t found[LANES], *d = lanes32(w, &i->d[0]);
    for (int l = 0; l < LANES; l++) found[l] = alike(w, &i->s[0], mask, l);
    SET_LANES(d, found[l]);
}

static void match_all_of(warp *w, const insn *i, uint32_t mask)
{
    if (!gather(w, i, mask)) return;
    bool same = alike(w, &i->s[0], mask, __builtin_ctz(mask)) == mask;
    uint32_t *d = lanes32(w, &i->d[0]);
    SET_LANES(d, same ? mask : 0);
    if (i->d_count > 1) set_predicate(w, &i->d[1], mask, same ? UINT32_MAX : 0);
}

static uint32_t reduced(const insn *i, uint32_t a, uint32_t b)
{
    bool sign = i->type[0] == T_S32;
    switch (i->op) {
    case W_ADD: return a + b;
    case W_MIN: return (sign ? (int32_t)a < (int32_t)b : a < b) ? a : b;
    case W_MAX: return (sign ? (int32_t)a > (int32_t)b : a > b) ? a : b;
    case W_AND: return a & b;
    case W_OR: return a | b;
    default: return a ^ b;
    }
}

static void reduce_of(warp *w, const insn *i, uint32_t mask)
{
    if (!gather(w, i, mask)) return;
    const uint32_t *a = lanes32(w, &i->s[0]);
    uint32_t total = a[__builtin_ctz(mask)], *d = lanes32(w, &i->d[0]);
    for (uint32_t rest = mask & (mask - 1); rest; rest &= rest - 1) total = reduced(i, total, a[__builtin_ctz(rest)]);
    SET_LANES(d, total);
}

/* ---- who is here ------------------------------------------------------------------------------------------------------------------ */

static void active(warp *w, const insn *i, uint32_t mask)
{
    uint32_t *d = lanes32(w, &i->d[0]);
    SET_LANES(d, mask);
}

static void elect_of(warp *w, const insn *i, uint32_t mask)
{
    if (!gather(w, i, mask)) return;
    uint32_t *d = lanes32(w, &i->d[0]), leader = (uint32_t)__builtin_ctz(mask);
    SET_LANES(d, leader);
    if (i->d_count > 1) set_predicate(w, &i->d[1], mask, 1u << leader);
}

/* Lanes may meet here from different places. */
static void warp_barrier_of(warp *w, const insn *i, uint32_t mask)
{
    uint32_t members = members_of(w, i, mask) & w->live, here = mask;
    for (int g = 0; g < w->group_count; g++)
        if (w->groups[g].members == members && w->block->launch->function->code[w->groups[g].pc].exec == i->exec) here |= w->groups[g].lanes;
    if (here == mask || (members & ~here)) {
        if (!gather(w, i, mask)) return;
    } else {
        for (int g = 0; g < w->group_count; g++)
            if (w->groups[g].members == members) w->groups[g].members = 0, w->groups[g].pc++;
    }
    if (w->block->races) race_warp_sync(w->block->races, w->number);
}

BY_MEMBERS(shuffle, shuffle_of)
BY_MEMBERS(vote, vote_of)
BY_MEMBERS(ballot, ballot_of)
BY_MEMBERS(match_any, match_any_of)
BY_MEMBERS(match_all, match_all_of)
BY_MEMBERS(reduce, reduce_of)
BY_MEMBERS(elect, elect_of)
BY_MEMBERS(warp_barrier, warp_barrier_of)

const ptx_row ptx_warp_rows[] = {
    {"shfl.sync", "b32", 0, "c", "d s s s s=32", PIPE_SHUFFLE, 0, shuffle, NULL},
    {"vote.sync.ballot", "b32", 0, "", "d q s=32", PIPE_ALU, 0, ballot, NULL},
    {"vote.sync", "pred", 0, "c", "p q s=32", PIPE_ALU, 0, vote, NULL},
    {"match.any.sync", "b32|b64", 0, "", "d=32 s s=32", PIPE_ALU, 0, match_any, NULL},
    {"match.all.sync", "b32|b64", 0, "", "d=32 s s=32", PIPE_ALU, 0, match_all, NULL},
    {"redux.sync", "u32|s32|b32", 0, "c", "d s s=32", PIPE_ALU, 0, reduce, NULL},
    {"activemask", "b32", 0, "", "d", PIPE_ALU, 0, active, NULL},
    {"elect.sync", "", 0, "", "d=32 s=32", PIPE_ALU, 0, elect, NULL},
    {"bar.warp.sync", "", 0, "", "s=32", PIPE_CONTROL, 0, warp_barrier, NULL},
    {0},
};
