/* Every access of a kernel to memory: where it lies, whether it may, who else is there, what it costs. */
#include "engine/banks.h"
#include "engine/finding.h"
#include "engine/warp.h"
#include "engine/watch.h"

#include <stdio.h>
#include <string.h>

void warp_addresses(const warp *w, const insn *i, int at, int64_t displacement, uint64_t addresses[LANES])
{
    const operand *o = &i->s[at];
    const void *base = w->bases[o->constant] + o->offset;
    if (o->bits == 64)
        for (int l = 0; l < LANES; l++) addresses[l] = ((const uint64_t *)base)[l] + (uint64_t)displacement;
    else
        for (int l = 0; l < LANES; l++) addresses[l] = (uint32_t)(((const uint32_t *)base)[l] + (uint32_t)displacement);
}

static const char *const verbs[] = {"reading", "writing", "atomically changing"};

static void refuse(warp *w, const warp_access *a, int lane, const char *kind, sg_status status, const char *where)
{
    warp_finding(w, a->insn, lane, kind, "%s %d bytes at 0x%llx, %s", verbs[a->kind], a->bytes, (unsigned long long)a->addresses[lane], where);
    launch_fail(w->block->launch, status);
}

static bool aligned(warp *w, const warp_access *a, uint32_t lanes)
{
    uint64_t low = 0, below = (uint64_t)(a->align ? a->align : a->bytes) - 1;
    for (uint32_t rest = lanes; rest; rest &= rest - 1) low |= a->addresses[__builtin_ctz(rest)];
    if (!(low & below)) return true;
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (!(a->addresses[lane] & below)) continue;
        refuse(w, a, lane, "misaligned", SG_MISALIGNED_ADDRESS, "an address that is no multiple of it");
        return false;
    }
    return true;
}

/* ---- written marks ---------------------------------------------------------------------------------------------------------- */

/* The first byte that was never written, of those that are used; NULL: none. */
static const uint8_t *first_unwritten(const uint8_t *marks, int bytes, uint32_t unused)
{
    for (int at = 0; at < bytes; at++)
        if (!marks[at] && !(at < 32 && unused >> at & 1)) return marks + at;
    return NULL;
}

static bool all_written(const uint8_t *marks, int bytes)
{
    uint64_t word, other = UINT64_C(0x0101010101010101);
    if (bytes == 4) {
        uint32_t half;
        memcpy(&half, marks, 4);
        return half == 0x01010101;
    }
    if (bytes % 8) return !memchr(marks, 0, (size_t)bytes);
    for (int at = 0; at < bytes; at += 8) {
        memcpy(&word, marks + at, 8);
        if (word != other) return false;
    }
    return true;
}

/* An atomic reads and writes. */
static void use_marks(warp *w, const warp_access *a, int lane, uint8_t *marks, const char *where)
{
    const uint8_t *unwritten = NULL;
    if (a->kind != ACCESS_WRITE && !all_written(marks, a->bytes)) unwritten = first_unwritten(marks, a->bytes, a->insn->unused);
    if (unwritten && a->insn->speculates) {
        if (a->insn->d[0].doubtful) w->marks[a->insn->d[0].reg] &= ~(1u << lane);
    } else if (unwritten) {
        char text[256];
        if (!where) sg_address_describe(a->addresses[lane] + (uint64_t)(unwritten - marks), text, sizeof text);
        warp_finding(w, a->insn, lane, "uninitialised", "%s %d bytes at 0x%llx that were never written: %s", verbs[a->kind], a->bytes,
                     (unsigned long long)a->addresses[lane], where ? where : text);
    }
    if (a->kind != ACCESS_READ) memset(marks, 1, (size_t)a->bytes);
}

static race_access race_of(const warp *w, const warp_access *a, uint32_t lanes, const uint64_t *addresses)
{
    static const race_kind weak[] = {RACE_READ, RACE_WRITE, RACE_ATOMIC}, strong[] = {RACE_STRONG_READ, RACE_STRONG_WRITE, RACE_ATOMIC};
    return (race_access){.warp = w->number, .lanes = lanes, .addresses = addresses, .bytes = a->bytes,
                         .kind = a->strong ? strong[a->kind] : weak[a->kind], .place = (uint32_t)(a->insn - w->block->launch->function->code), .async = a->async, .product = a->product};
}

static void count_cost(warp *w, const warp_access *a, uint32_t lanes, const uint64_t *addresses, bool shared)
{
    counts *c = w->block->counts;
    if (!c || !lanes) return;
    c += a->insn - w->block->launch->function->code;
    access_cost cost = shared ? shared_cost(addresses, lanes, a->bytes) : global_cost(addresses, lanes, a->bytes);
    *(shared ? &c->wavefronts : &c->sectors) += cost.units;
    *(shared ? &c->ideal_wavefronts : &c->ideal_sectors) += cost.ideal;
    c->bytes += (int64_t)__builtin_popcount(lanes) * a->bytes;
}

/* ---- spaces ------------------------------------------------------------------------------------------------------------------ */

block *shared_block(const warp *w, uint64_t address, uint64_t *offset)
{
    block *b = w->block;
    uint64_t rank = address / SHARED_RANK;
    *offset = address % SHARED_RANK;
    if (rank == 0) return b;
    return (int64_t)rank <= b->launch->cluster ? b - b->rank + rank - 1 : NULL;
}

/* Many lanes read one address, and what a third one does there tells no check anything new: the lanes without such. */
static uint32_t telling_lanes(const warp_access *a, uint32_t lanes, const uint64_t *addresses)
{
    enum { SLOTS = 64 };
    uint64_t address_of[SLOTS], taken = 0, taken_twice = 0;
    uint32_t telling = lanes;
    for (uint32_t rest = a->kind == ACCESS_READ ? lanes : 0; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint64_t slot = addresses[lane] / (uint64_t)a->bytes % SLOTS, bit = UINT64_C(1) << slot;
        if (!(taken & bit))
            address_of[slot] = addresses[lane], taken |= bit;
        else if (address_of[slot] == addresses[lane] && (taken_twice & bit))
            telling &= ~(1u << lane);
        else if (address_of[slot] == addresses[lane])
            taken_twice |= bit;
    }
    return telling;
}

/* `addresses`: of this block's shared memory, or of the cluster's. */
static void shared_hosts(warp *w, const warp_access *a, uint32_t lanes, const uint64_t *addresses, bool cluster, char *hosts[LANES])
{
    launch *l = w->block->launch;
    uint64_t inside[LANES];
    uint32_t good = 0, others = 0, telling = telling_lanes(a, lanes, addresses);
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint64_t offset = addresses[lane];
        block *b = w->block;
        if (cluster) b = shared_block(w, addresses[lane], &offset);
        hosts[lane] = NULL;
        inside[lane] = offset;
        bool ended = b && b != w->block && !b->live_warps;
        if (!b || ended || (int64_t)offset + a->bytes > l->shared_bytes || offset > SHARED_WINDOW_BYTES) {
            char where[96];
            snprintf(where, sizeof where, ended ? "shared memory of a block that has ended" : "beyond the block's %lld bytes of shared memory",
                     (long long)l->shared_bytes);
            refuse(w, a, lane, "out of bounds", SG_ILLEGAL_ADDRESS, where);
            continue;
        }
        hosts[lane] = (char *)b->shared + offset;
        if (b->shared_written && telling >> lane & 1) use_marks(w, a, lane, b->shared_written + offset, "shared memory");
        *(b == w->block ? &good : &others) |= 1u << lane;
        if (l->races && b != w->block && !a->later) {
            race_access race = race_of(w, a, 1u << lane, inside);
            race_shared_of(w->block->races, b->races, &race);
        }
    }
    if (l->races && good && !a->later) {
        race_access race = race_of(w, a, good & telling, inside);
        race_shared(w->block->races, &race);
    }
    count_cost(w, a, good | others, inside, true);
}

static sg_region *region_of(warp *w, uint64_t address, int bytes)
{
    sg_region *r = w->block->last_region;
    if (r && !r->freed && address - r->address < (uint64_t)r->bytes && (int64_t)(address - r->address) + bytes <= r->bytes) return r;
    r = sg_region_at(address);
    if (!r || r->freed || (int64_t)(address - r->address) + bytes > r->bytes) return NULL;
    return w->block->last_region = r;
}

static void refuse_global(warp *w, const warp_access *a, int lane)
{
    uint64_t address = a->addresses[lane];
    const sg_region *r = sg_region_at(address);
    char where[256];
    bool freed = r && r->freed;
    sg_address_describe(!freed && r ? r->address + (uint64_t)r->bytes : address, where, sizeof where);
    refuse(w, a, lane, freed ? "use after free" : "out of bounds", SG_ILLEGAL_ADDRESS, where);
}

/* Lanes of one region go to the race detector together. */
static void race_global_lanes(warp *w, const warp_access *a, uint32_t lanes, sg_region *regions[LANES])
{
    while (lanes) {
        sg_region *r = regions[__builtin_ctz(lanes)];
        uint32_t same = 0;
        for (uint32_t rest = lanes; rest; rest &= rest - 1)
            if (regions[__builtin_ctz(rest)] == r) same |= rest & -rest;
        race_access race = race_of(w, a, same, a->addresses);
        if (r->kind != SG_MEMORY_MODULE || a->space != SPACE_CONST) race_global(w->block->races, r, &race);
        lanes &= ~same;
    }
}

static void host_came_first(warp *w, const warp_access *a, int lane)
{
    uint64_t address = a->addresses[lane];
    bool whole_system = a->strong && (a->insn->scope == SCOPE_SYS || a->insn->order == ORDER_VOLATILE);
    const char *kind = whole_system ? NULL : watch_clash(&address, a->bytes, a->kind != ACCESS_READ);
    char where[256];
    if (!kind) return;
    sg_address_describe(address, where, sizeof where);
    warp_finding(w, a->insn, lane, kind, "%s %s, which the host used before it had waited for this launch", verbs[a->kind], where);
}

static void global_hosts(warp *w, const warp_access *a, uint32_t lanes, char *hosts[LANES])
{
    sg_region *regions[LANES];
    uint32_t good = 0;
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        sg_region *r = regions[lane] = region_of(w, a->addresses[lane], a->bytes);
        hosts[lane] = NULL;
        if (!r) {
            refuse_global(w, a, lane);
            continue;
        }
        hosts[lane] = sg_region_host(r, a->addresses[lane]);
        if (r->written) use_marks(w, a, lane, r->written + (a->addresses[lane] - r->address), NULL);
        if (watch_is_needed(r)) host_came_first(w, a, lane);
        good |= 1u << lane;
    }
    if (w->block->launch->races && good && !a->later) race_global_lanes(w, a, good, regions);
    if (a->space != SPACE_CONST) count_cost(w, a, good, a->addresses, false);
}

static void local_hosts(warp *w, const warp_access *a, uint32_t lanes, const uint64_t *offsets, char *hosts[LANES])
{
    int64_t bytes = w->block->launch->function->local_bytes;
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        hosts[lane] = NULL;
        if (offsets[lane] >= (uint64_t)bytes || (int64_t)offsets[lane] + a->bytes > bytes) {
            char where[96];
            snprintf(where, sizeof where, "beyond the thread's %lld bytes of local memory", (long long)bytes);
            refuse(w, a, lane, "out of bounds", SG_ILLEGAL_ADDRESS, where);
            continue;
        }
        int64_t at = lane * bytes + (int64_t)offsets[lane];
        hosts[lane] = (char *)w->local + at;
        if (w->local_written) use_marks(w, a, lane, w->local_written + at, "local memory");
    }
}

static void parameter_hosts(warp *w, const warp_access *a, uint32_t lanes, const uint64_t *offsets, char *hosts[LANES])
{
    int64_t bytes = w->block->launch->function->parameter_total;
    for (uint32_t rest = lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        bool inside = offsets[lane] < (uint64_t)bytes && (int64_t)offsets[lane] + a->bytes <= bytes;
        hosts[lane] = inside ? (char *)w->block->launch->parameters + offsets[lane] : NULL;
        if (!inside) refuse(w, a, lane, "out of bounds", SG_ILLEGAL_ADDRESS, "beyond the kernel's parameters");
        else if (a->kind != ACCESS_READ) refuse(w, a, lane, "out of bounds", SG_ILLEGAL_ADDRESS, "a kernel's parameters, which cannot be written");
    }
}

/* ---- generic addresses ---------------------------------------------------------------------------------------------------------- */

static bool within(uint64_t address, uint64_t start, uint64_t bytes) { return address - start < bytes; }

static void generic_hosts(warp *w, const warp_access *a, char *hosts[LANES])
{
    static const struct {
        uint64_t start, bytes;
    } windows[] = {{SHARED_WINDOW, SHARED_WINDOW_BYTES}, {LOCAL_WINDOW, LOCAL_WINDOW_BYTES}, {PARAM_WINDOW, PARAM_WINDOW_BYTES}};
    uint32_t global = a->lanes;
    for (int s = 0; s < 3; s++) {
        uint64_t offsets[LANES];
        uint32_t here = 0;
        for (uint32_t rest = global; rest; rest &= rest - 1) {
            int lane = __builtin_ctz(rest);
            if (!within(a->addresses[lane], windows[s].start, windows[s].bytes)) continue;
            offsets[lane] = a->addresses[lane] - windows[s].start;
            here |= 1u << lane;
        }
        global &= ~here;
        if (here && s == 0) shared_hosts(w, a, here, offsets, true, hosts);
        if (here && s == 1) local_hosts(w, a, here, offsets, hosts);
        if (here && s == 2) parameter_hosts(w, a, here, offsets, hosts);
    }
    if (global) global_hosts(w, a, global, hosts);
}

void warp_access_hosts(warp *w, const warp_access *a, char *hosts[LANES])
{
    if (!aligned(w, a, a->lanes)) {
        memset(hosts, 0, LANES * sizeof *hosts);
        return;
    }
    switch (a->space) {
    case SPACE_SHARED: shared_hosts(w, a, a->lanes, a->addresses, false, hosts); break;
    case SPACE_CLUSTER: shared_hosts(w, a, a->lanes, a->addresses, true, hosts); break;
    case SPACE_LOCAL: local_hosts(w, a, a->lanes, a->addresses, hosts); break;
    case SPACE_PARAM: parameter_hosts(w, a, a->lanes, a->addresses, hosts); break;
    case SPACE_GLOBAL:
    case SPACE_CONST: global_hosts(w, a, a->lanes, hosts); break;
    default: generic_hosts(w, a, hosts);
    }
}
