/* mbarriers: objects in shared memory whose phases end when enough threads have arrived and all announced bytes have come. The state of
   a phase, as arrive gives it, is its number above the count of arrivals that were still to come. */
#include "engine/finding.h"
#include "engine/lanes.h"

#include <stdio.h>
#include <string.h>

enum { COUNT_MOST = (1 << 20) - 1, BYTES = 8 };

/* Where a lane's address operand points. */
typedef struct place {
    block *owner;
    uint32_t at;
} place;

static uint64_t state_of(const phase_barrier *p) { return (uint64_t)p->phase << 32 | (uint32_t)p->pending; }

static void tell_races(const warp *w, const insn *i, uint32_t lanes, const place places[LANES], race_kind kind)
{
    for (uint32_t rest = w->block->races ? lanes : 0; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint64_t at[LANES];
        at[lane] = places[lane].at;
        race_access race = {.warp = w->number, .lanes = 1u << lane, .addresses = at, .bytes = BYTES, .kind = kind,
                            .place = (uint32_t)(i - w->block->launch->function->code)};
        if (places[lane].owner == w->block) race_shared(w->block->races, &race);
    }
}

/* The lanes whose address holds 8 bytes of shared memory. To begin and to end an mbarrier writes its bytes; all else only reads them. */
static uint32_t find_places(warp *w, const insn *i, uint32_t mask, race_kind kind, place places[LANES])
{
    uint64_t addresses[LANES];
    char *hosts[LANES];
    uint32_t good = 0;
    warp_addresses(w, i, 0, i->offset[0], addresses);
    warp_access access = {.insn = i, .space = i->space, .lanes = mask, .addresses = addresses, .bytes = BYTES, .kind = ACCESS_WRITE, .later = true};
    warp_access_hosts(w, &access, hosts);
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint64_t offset, address = addresses[lane] - (i->space == SPACE_GENERIC ? SHARED_WINDOW : 0);
        if (!hosts[lane]) continue;
        places[lane].owner = address < SHARED_WINDOW_BYTES ? shared_block(w, address, &offset) : NULL;
        if (!places[lane].owner) {
            warp_finding(w, i, lane, "barrier", "0x%llx is no address in shared memory", (unsigned long long)addresses[lane]);
            launch_fail(w->block->launch, SG_ILLEGAL_ADDRESS);
            continue;
        }
        places[lane].at = (uint32_t)offset;
        good |= 1u << lane;
    }
    tell_races(w, i, good, places, kind);
    return good;
}

static phase_barrier *find_barrier(warp *w, const insn *i, int lane, const place *at)
{
    phase_barrier *p = block_phase(at->owner, at->at);
    if (p) return p;
    warp_finding(w, i, lane, "barrier", "there is no mbarrier at %u of shared memory: none was initialised, or it was made invalid", at->at);
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    return NULL;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------------------- */

static void init(warp *w, const insn *i, uint32_t mask)
{
    place places[LANES];
    const uint32_t *counts = lanes32(w, &i->s[1]);
    for (uint32_t rest = find_places(w, i, mask, RACE_WRITE, places); rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (counts[lane] < 1 || counts[lane] > COUNT_MOST) {
            warp_finding(w, i, lane, "barrier", "expects %u arrivals; 1 to %d are possible", counts[lane], COUNT_MOST);
            launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
            continue;
        }
        memset(places[lane].owner->shared + places[lane].at, 0, BYTES);
        block_phase_create(places[lane].owner, places[lane].at, (int32_t)counts[lane]);
    }
}

static void invalidate(warp *w, const insn *i, uint32_t mask)
{
    place places[LANES];
    for (uint32_t rest = find_places(w, i, mask, RACE_WRITE, places); rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (find_barrier(w, i, lane, &places[lane])) block_phase_remove(places[lane].owner, places[lane].at);
    }
}

/* ---- arriving ---------------------------------------------------------------------------------------------------------------- */

/* `count` arrivals of a lane. */
static void arrive_lane(warp *w, const insn *i, int lane, const place *at, phase_barrier *p, uint32_t count)
{
    if (count > (uint32_t)p->pending || !count) {
        warp_finding(w, i, lane, "barrier", "%u arrivals where the phase of the mbarrier at %u still lacks %d", count, at->at, p->pending);
        launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
        return;
    }
    p->pending -= (int32_t)count;
    if (w->block->races) race_arrive(w->block->races, w->number, at->owner->races, at->at);
    block_phase_settle(at->owner, p);
}

typedef enum arrival { PLAIN, EXPECTING, DROPPING, DROPPING_EXPECTING } arrival;

static void arrive_any(warp *w, const insn *i, uint32_t mask, arrival how)
{
    place places[LANES];
    bool expecting = how == EXPECTING || how == DROPPING_EXPECTING;
    const uint32_t *number = i->s_count > 1 ? lanes32(w, &i->s[1]) : NULL;
    for (uint32_t rest = find_places(w, i, mask, RACE_READ, places); rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint32_t count = number && !expecting ? number[lane] : 1;
        phase_barrier *p = find_barrier(w, i, lane, &places[lane]);
        if (!p) continue;
        if (i->d_count) lanes64(w, &i->d[0])[lane] = state_of(p);
        if (expecting) p->transactions += number[lane];
        if (how >= DROPPING) p->expected -= (int32_t)count;
        arrive_lane(w, i, lane, &places[lane], p, count);
    }
}

static void arrive(warp *w, const insn *i, uint32_t mask) { arrive_any(w, i, mask, PLAIN); }
static void arrive_expect(warp *w, const insn *i, uint32_t mask) { arrive_any(w, i, mask, EXPECTING); }
static void arrive_drop(warp *w, const insn *i, uint32_t mask) { arrive_any(w, i, mask, DROPPING); }
static void arrive_drop_expect(warp *w, const insn *i, uint32_t mask) { arrive_any(w, i, mask, DROPPING_EXPECTING); }

static void transact(warp *w, const insn *i, uint32_t mask, int sign)
{
    place places[LANES];
    const uint32_t *bytes = lanes32(w, &i->s[1]);
    for (uint32_t rest = find_places(w, i, mask, RACE_READ, places); rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        phase_barrier *p = find_barrier(w, i, lane, &places[lane]);
        if (!p) continue;
        p->transactions += sign * (int64_t)bytes[lane];
        block_phase_settle(places[lane].owner, p);
    }
}

static void expect(warp *w, const insn *i, uint32_t mask) { transact(w, i, mask, 1); }
static void complete(warp *w, const insn *i, uint32_t mask) { transact(w, i, mask, -1); }

static void pending_count(warp *w, const insn *i, uint32_t mask)
{
    const uint64_t *state = lanes64(w, &i->s[0]);
    SET_LANES(lanes32(w, &i->d[0]), (uint32_t)state[l]);
}

/* The thread's copies in flight arrive for it. Without .noinc their arrival is one more than the phase expected. */
static void arrive_with_copies(warp *w, const insn *i, uint32_t mask)
{
    place places[LANES];
    for (uint32_t rest = find_places(w, i, mask, RACE_READ, places); rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        phase_barrier *p = find_barrier(w, i, lane, &places[lane]);
        if (!p) continue;
        if (!(i->flags & F_NOINC)) p->pending++;
        p->late++;
        warp_tie_copies(w, lane, places[lane].at);
    }
}

/* ---- waiting --------------------------------------------------------------------------------------------------------------------- */

/* Whoever has to wait sees what is under way arrive, and lets the others go first. */
static void wait(warp *w, const insn *i, uint32_t mask)
{
    place places[LANES];
    uint32_t passed = 0, asked = find_places(w, i, mask, RACE_READ, places);
    for (uint32_t rest = asked; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        phase_barrier *p = find_barrier(w, i, lane, &places[lane]);
        uint32_t parity = i->s[1].bits == 32 ? lanes32(w, &i->s[1])[lane] & 1 : (uint32_t)(lanes64(w, &i->s[1])[lane] >> 32) & 1;
        if (!p) continue;
        if (!block_phase_passed(p, parity)) block_phase_deliver(places[lane].owner, p);
        if (!block_phase_passed(p, parity)) continue;
        passed |= 1u << lane;
        if (w->block->races && i->order != ORDER_RELAXED) race_phase_wait(w->block->races, w->number, places[lane].owner->races, places[lane].at);
    }
    set_predicate(w, &i->d[0], mask, passed);
    if (passed != mask) warp_poll(w, i);
    else w->waits = false;
}

#define ARRIVALS(name, exec, operands) {"mbarrier." name, "b64", 0, "so", operands, PIPE_ATOMIC, 0, exec, NULL}

const ptx_row ptx_mbarrier_rows[] = {
    {"mbarrier.init", "b64", 0, "s", "a s=32", PIPE_SHARED, 0, init, NULL},
    {"mbarrier.inval", "b64", 0, "s", "a", PIPE_SHARED, 0, invalidate, NULL},
    ARRIVALS("arrive.expect_tx", arrive_expect, "d=64 a s=32"),
    ARRIVALS("arrive.noComplete", arrive, "d=64 a s=32"),
    ARRIVALS("arrive", arrive, "d=64 a s=32?"),
    ARRIVALS("arrive_drop.expect_tx", arrive_drop_expect, "d=64 a s=32"),
    ARRIVALS("arrive_drop.noComplete", arrive_drop, "d=64 a s=32"),
    ARRIVALS("arrive_drop", arrive_drop, "d=64 a s=32?"),
    ARRIVALS("expect_tx", expect, "a s=32"),
    ARRIVALS("complete_tx", complete, "a s=32"),
    {"mbarrier.test_wait.parity", "b64", 0, "so", "p a s=32", PIPE_SHARED, 0, wait, NULL},
    {"mbarrier.test_wait", "b64", 0, "so", "p a s=64", PIPE_SHARED, 0, wait, NULL},
    {"mbarrier.try_wait.parity", "b64", 0, "so", "p a s=32 s=32?", PIPE_SHARED, 0, wait, NULL},
    {"mbarrier.try_wait", "b64", 0, "so", "p a s=64 s=32?", PIPE_SHARED, 0, wait, NULL},
    {"mbarrier.pending_count", "b64", 0, "", "d=32 s=64", PIPE_ALU, 0, pending_count, NULL},
    {"cp.async.mbarrier.arrive", "b64", F_NOINC, "s", "a", PIPE_ASYNC, 0, arrive_with_copies, NULL},
    {0},
};
