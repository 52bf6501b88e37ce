/* Accesses against what each 4 bytes remember; copies in flight. */
#include "engine/race_state.h"

#include <stdlib.h>
#include <string.h>

enum { GRANULE = 4, NEIGHBOURS = 32 /* granules that share a lock */ };

/* ---- launches and blocks ---------------------------------------------------------------------------------------------------- */

static uint32_t launch_serials, block_serials;

race_launch *race_launch_begin(race_report *report, void *context, uint32_t before)
{
    race_launch *launch = malloc(sizeof *launch);
    if (!launch) return NULL;
    *launch = (race_launch){__atomic_add_fetch(&launch_serials, 1, __ATOMIC_RELAXED), before, report, context};
    race_clocks_forget();
    return launch;
}

void race_launch_end(race_launch *launch) { free(launch); }

uint32_t race_launch_serial(const race_launch *launch) { return launch->serial; }

void race_grid_wait(race_block *block) { block->waited = true; }

race_block *race_block_create(void) { return calloc(1, sizeof(race_block)); }

bool race_block_begin(race_block *block, race_launch *launch, uint32_t id, int warps, int64_t shared_bytes)
{
    int64_t granules = (shared_bytes + GRANULE - 1) / GRANULE;
    if (granules > block->shared_granules) {
        free(block->shared);
        block->shared = calloc((size_t)granules, sizeof *block->shared);
        block->shared_granules = block->shared ? granules : 0;
        if (!block->shared) return false;
    }
    block->launch = launch;
    block->waited = !launch->before;
    block->id = id;
    block->warps = warps;
    block->serial = __atomic_add_fetch(&block_serials, 1, __ATOMIC_RELAXED); /* empties the granules */
    block->pending_count = block->held_count = 0;
    memset(block->group, 0, sizeof block->group);
    race_clocks_begin(block);
    return true;
}

void race_block_destroy(race_block *block)
{
    if (!block) return;
    race_clocks_free(block);
    free(block->shared);
    free(block->pending);
    free(block->held);
    free(block);
}

/* ---- one lane's access to one granule ---------------------------------------------------------------------------------- */

typedef struct visit {
    race_block *block;
    const race_access *access;
    const uint32_t *seen; /* by the warp, of its block's others */
    struct race_stamp stamp;
    bool writes, reads, strong, shared, of_product;
} visit;

static inline bool ordered(const visit *v, const struct race_stamp *earlier)
{
    const struct race_stamp *now = &v->stamp;
    if (earlier->clock == IN_FLIGHT) return false;
    if (earlier->block != now->block)
        return earlier->clock <= race_seen_of(v->block, now->warp, earlier->block, earlier->warp);
    if (earlier->warp != now->warp) return earlier->clock <= v->seen[earlier->warp];
    return earlier->lane == now->lane || earlier->lane == MIXED_LANES || earlier->clock < now->clock || earlier->step == now->step;
}

static race_point point(const struct race_stamp *stamp, bool write)
{
    return (race_point){stamp->block, stamp->place, stamp->warp, stamp->lane, write};
}

__attribute__((cold, noinline)) static void report(const visit *v, const char *kind, uint64_t address, const struct race_stamp *earlier, bool write)
{
    race_point first = point(earlier, write), now = point(&v->stamp, v->writes);
    v->block->launch->report(v->block->launch->context, kind, v->shared, address, &first, &now);
}

/* In two halves: a copy of 16 bytes would wait for the lane's byte to be written. */
static inline void copy_stamp(struct race_stamp *to, const struct race_stamp *from) { to->when = from->when, to->where = from->where; }

static inline void remember_read(race_granule *g, const struct race_stamp *stamp, uint8_t mask, bool strong)
{
    struct race_stamp *last = &g->reads[0];
    bool same_warp = last->block == stamp->block && last->warp == stamp->warp;
    if (g->read_mask[0] && same_warp && last->clock == stamp->clock) {
        uint8_t lane = last->lane;
        if (lane != stamp->lane) lane = g->read_mask[0] == mask && lane != MIXED_LANES ? SEVERAL_LANES : MIXED_LANES;
        g->read_mask[0] |= mask;
        g->read_strong[0] &= strong;
        last->where = stamp->where;
        last->lane = lane;
        return;
    }
    if (g->read_mask[0] && !same_warp) {
        copy_stamp(&g->reads[1], &g->reads[0]);
        g->read_mask[1] = g->read_mask[0];
        g->read_strong[1] = g->read_strong[0];
    }
    copy_stamp(&g->reads[0], stamp);
    g->read_mask[0] = mask;
    g->read_strong[0] = strong;
}

static inline bool came_before(const visit *v, const race_granule *g, uint8_t mask)
{
    return (g->write_mask & mask) || (v->writes && ((g->read_mask[0] | g->read_mask[1]) & mask));
}

/* Written by a thread of the block since its last fence.proxy.async. */
static inline bool by_thread(const race_block *block, const struct race_stamp *w)
{
    return w->block == block->id && w->warp < RACE_ASYNC && w->clock > block->proxied[w->warp];
}

/* Inlined into each loop over granules: half of what a kernel costs here is spent in it. */
__attribute__((always_inline)) static inline void visit_granule(const visit *v, race_granule *g, uint32_t serial, uint8_t mask, uint64_t address)
{
    if (!v->shared && !v->block->waited && g->launch == v->block->launch->before && came_before(v, g, mask)) {
        race_point now = point(&v->stamp, v->writes);
        v->block->launch->report(v->block->launch->context, "race", false, address, NULL, &now);
    }
    if (g->launch != serial) {
        uint8_t busy = g->busy;
        *g = (race_granule){.launch = serial, .busy = busy};
    }
    bool told = g->pending;
    if (g->pending) {
        report(v, "async copy", address, &g->write, true);
        g->pending = 0;
    } else if ((g->write_mask & mask) && !(v->strong && g->write_strong) && !ordered(v, &g->write)) {
        report(v, g->write.clock == IN_FLIGHT ? "async copy" : "race", address, &g->write, true);
        told = true;
    } else if (v->access->async && (g->write_mask & mask) && by_thread(v->block, &g->write)) {
        report(v, "proxy fence", address, &g->write, true);
        told = true;
    }
    for (int r = 0; v->writes && !told && r < 2; r++)
        if ((g->read_mask[r] & mask) && !(v->strong && g->read_strong[r]) && !ordered(v, &g->reads[r])) {
            report(v, "race", address, &g->reads[r], false);
            told = true;
        }
    if (v->reads && v->of_product) {
        struct race_stamp reader = v->stamp;
        reader.warp = (uint8_t)(RACE_PRODUCTS + v->access->warp / 4);
        reader.clock = v->access->product;
        remember_read(g, &reader, mask, v->strong);
    } else if (v->reads) {
        remember_read(g, &v->stamp, mask, v->strong);
    }
    if (v->writes) {
        copy_stamp(&g->write, &v->stamp);
        g->write_mask = mask;
        g->write_strong = v->strong;
    }
}

/* The bytes of a granule that an access covers. */
static inline uint8_t bytes_mask(uint64_t granule_start, uint64_t from, uint64_t to)
{
    unsigned first = from > granule_start ? (unsigned)(from - granule_start) : 0;
    unsigned last = to < granule_start + GRANULE ? (unsigned)(to - granule_start) : GRANULE;
    return (uint8_t)((1u << last) - (1u << first));
}

static visit begin_visit(race_block *block, const race_access *access, bool shared)
{
    int w = access->warp;
    bool writes = access->kind == RACE_WRITE || access->kind == RACE_STRONG_WRITE || access->kind == RACE_ATOMIC;
    bool reads = access->kind == RACE_READ || access->kind == RACE_STRONG_READ || access->kind == RACE_ATOMIC;
    return (visit){.block = block, .access = access, .seen = block->now[w], .writes = writes, .reads = reads, .shared = shared, .of_product = access->product != 0,
                   .strong = access->kind >= RACE_STRONG_READ,
                   .stamp = {.block = block->id, .clock = block->now[w][w], .place = access->place, .step = ++block->step[w],
                             .warp = (uint8_t)w}};
}

/* In one write: the stamp's half is read right behind it. */
static inline void set_lane(visit *v, int lane) { v->stamp.where = (v->stamp.where & UINT64_MAX >> 8) | (uint64_t)lane << 56; }

/* Keys of shared memory's strong accesses: no device address is that small. */
static uint64_t carrier_key(const race_block *block, bool shared, uint64_t address)
{
    return shared ? (uint64_t)(block->id + 1) << 20 | address : address;
}

static void carry_order(const visit *v, const race_block *owner, uint64_t address)
{
    uint64_t key = carrier_key(owner, v->shared, address);
    if (!v->strong) return;
    if (v->reads) race_strong_read(v->block, v->access->warp, key);
    if (v->writes) race_strong_write(v->block, v->access->warp, key);
}

/* A write to what a bulk copy still reads. */
static void check_held(const visit *v, const race_block *owner, uint64_t from, uint64_t to)
{
    for (int i = 0; i < owner->held_count; i++) {
        const race_held *h = &owner->held[i];
        if (h->from >= to || h->from + (uint64_t)h->bytes <= from) continue;
        report(v, "async copy", from, &h->stamp, false);
        return;
    }
}

void race_shared(race_block *block, const race_access *access) { race_shared_of(block, block, access); }

void race_shared_of(race_block *block, race_block *owner, const race_access *access)
{
    visit v = begin_visit(block, access, true);
    for (uint32_t rest = access->lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint64_t from = access->addresses[lane], to = from + (uint64_t)access->bytes;
        set_lane(&v, lane);
        if (to > (uint64_t)owner->shared_granules * GRANULE) continue; /* out of bounds: another check's */
        for (uint64_t g = from / GRANULE; g * GRANULE < to; g++)
            visit_granule(&v, &owner->shared[g], owner->serial, bytes_mask(g * GRANULE, from, to), from);
        if (v.writes && owner->held_count) check_held(&v, owner, from, to);
        carry_order(&v, owner, from);
    }
}

/* ---- global memory ------------------------------------------------------------------------------------------------------------ */

static race_granule *global_granules(sg_region *region)
{
    race_granule *granules = __atomic_load_n((race_granule **)&region->shadow, __ATOMIC_ACQUIRE);
    if (granules) return granules;
    race_granule *made = calloc((size_t)(region->bytes / GRANULE + 2), sizeof *made);
    if (!made) return NULL;
    void *expected = NULL;
    if (__atomic_compare_exchange_n(&region->shadow, &expected, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return made;
    free(made);
    return expected;
}

/* The granule whose lock is that of granule g. */
static race_granule *lock_of(race_granule *granules, uint64_t g) { return &granules[g - g % NEIGHBOURS]; }

static void lock_granules(race_granule *lock)
{
    while (__atomic_test_and_set(&lock->busy, __ATOMIC_ACQUIRE)) __builtin_ia32_pause();
}

static void unlock_granules(race_granule *lock) { __atomic_clear(&lock->busy, __ATOMIC_RELEASE); }

/* A write to what a copy in flight still reads. */
static void check_sources(const visit *v, uint64_t from, uint64_t to)
{
    for (int i = 0; i < v->block->pending_count; i++) {
        const race_pending *p = &v->block->pending[i];
        if (p->source >= to || p->source + (uint64_t)p->bytes <= from) continue;
        struct race_stamp issuer = {.block = v->block->id, .place = p->place, .warp = p->warp, .lane = p->lane};
        report(v, "async copy", from, &issuer, false);
        return;
    }
}

void race_global(race_block *block, sg_region *region, const race_access *access)
{
    visit v = begin_visit(block, access, false);
    race_granule *granules = global_granules(region), *held = NULL;
    uint32_t serial = block->launch->serial;
    for (uint32_t rest = granules ? access->lanes : 0; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint64_t address = access->addresses[lane], from = address - region->address, to = from + (uint64_t)access->bytes;
        set_lane(&v, lane);
        for (uint64_t g = from / GRANULE; g * GRANULE < to; g++) {
            if (lock_of(granules, g) != held) {
                if (held) unlock_granules(held);
                lock_granules(held = lock_of(granules, g));
            }
            visit_granule(&v, &granules[g], serial, bytes_mask(g * GRANULE, from, to), address);
        }
    }
    if (held) unlock_granules(held);
    for (uint32_t rest = granules && (v.strong || (v.writes && block->pending_count)) ? access->lanes : 0; rest; rest &= rest - 1) {
        uint64_t address = access->addresses[__builtin_ctz(rest)];
        set_lane(&v, __builtin_ctz(rest));
        if (v.writes && block->pending_count) check_sources(&v, address, address + (uint64_t)access->bytes);
        carry_order(&v, block, address);
    }
}

/* ---- cp.async ------------------------------------------------------------------------------------------------------------------ */

static void remember_copy(race_block *block, race_pending copy)
{
    if (block->pending_count == block->pending_capacity) {
        int capacity = block->pending_capacity ? 2 * block->pending_capacity : 256;
        race_pending *grown = realloc(block->pending, (size_t)capacity * sizeof *grown);
        if (!grown) return;
        block->pending = grown;
        block->pending_capacity = capacity;
    }
    block->pending[block->pending_count++] = copy;
}

static void set_pending(race_block *block, uint32_t offset, int bytes, bool pending, const struct race_stamp *stamp)
{
    for (uint64_t g = offset / GRANULE; g * GRANULE < (uint64_t)offset + (uint64_t)bytes; g++) {
        race_granule *granule = &block->shared[g];
        if (stamp && granule->pending) granule->write = *stamp;
        granule->pending = pending;
    }
}

void race_copy(race_block *block, const race_access *access, const uint64_t *sources)
{
    race_access write = *access;
    write.kind = RACE_WRITE;
    race_shared(block, &write);
    for (uint32_t rest = access->lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        uint64_t offset = access->addresses[lane];
        if (offset + (uint64_t)access->bytes > (uint64_t)block->shared_granules * GRANULE) continue;
        set_pending(block, (uint32_t)offset, access->bytes, true, NULL);
        remember_copy(block, (race_pending){.offset = (uint32_t)offset, .place = access->place, .source = sources[lane], .bytes = access->bytes,
                                            .group = block->group[access->warp][lane], .warp = (uint8_t)access->warp, .lane = (uint8_t)lane});
    }
}

void race_copy_commit(race_block *block, int warp, uint32_t lanes)
{
    for (uint32_t rest = lanes; rest; rest &= rest - 1) block->group[warp][__builtin_ctz(rest)]++;
}

/* Copies that a wait completes become plain writes of the waiting thread, at its present time. */
void race_copy_wait(race_block *block, int warp, uint32_t lanes, int groups_left)
{
    int kept = 0;
    for (int i = 0; i < block->pending_count; i++) {
        race_pending *p = &block->pending[i];
        bool mine = p->warp == warp && (lanes >> p->lane & 1);
        if (!mine || p->group >= block->group[warp][p->lane] - groups_left) {
            block->pending[kept++] = *p;
            continue;
        }
        struct race_stamp stamp = {.block = block->id, .clock = block->now[warp][warp], .place = p->place,
                                   .step = block->step[warp], .warp = (uint8_t)warp, .lane = p->lane};
        set_pending(block, p->offset, p->bytes, false, &stamp);
    }
    block->pending_count = kept;
}

void race_copy_tie(race_block *block, int warp, uint32_t lanes, uint64_t barrier)
{
    for (int i = 0; i < block->pending_count; i++) {
        race_pending *p = &block->pending[i];
        if (p->warp != warp || !(lanes >> p->lane & 1) || p->tied) continue;
        p->tied = true;
        p->barrier = barrier;
    }
}

void race_copy_arrive(race_block *block, uint64_t barrier)
{
    int kept = 0;
    struct race_stamp stamp = {.block = block->id, .clock = race_async_clock(block, barrier), .warp = RACE_ASYNC};
    for (int i = 0; i < block->pending_count; i++) {
        race_pending *p = &block->pending[i];
        if (!p->tied || p->barrier != barrier) {
            block->pending[kept++] = *p;
            continue;
        }
        stamp.place = p->place;
        stamp.lane = p->lane;
        set_pending(block, p->offset, p->bytes, false, &stamp);
    }
    block->pending_count = kept;
}

/* ---- bulk copies --------------------------------------------------------------------------------------------------------------- */

void race_in_flight(race_block *owner, uint32_t offset, int64_t bytes) { set_pending(owner, offset, (int)bytes, true, NULL); }

/* What is there has been written by nobody's program, at a time that the barrier's phase passes on. */
void race_arrived(race_block *owner, uint32_t offset, int64_t bytes, uint64_t barrier, bool reduced)
{
    uint32_t clock = race_async_clock(owner, barrier);
    for (uint64_t g = offset / GRANULE; g * GRANULE < (uint64_t)offset + (uint64_t)bytes; g++) {
        race_granule *granule = &owner->shared[g];
        if (!granule->pending && !reduced) continue;
        granule->pending = 0;
        granule->write.block = owner->id;
        granule->write.clock = clock;
        granule->write.warp = RACE_ASYNC;
    }
}

void race_global_in_flight(race_block *block, sg_region *region, const race_access *access, bool begins)
{
    race_granule *granules = global_granules(region);
    int lane = __builtin_ctz(access->lanes);
    uint64_t from = access->addresses[lane] - region->address, to = from + (uint64_t)access->bytes;
    uint32_t now = block->now[access->warp][access->warp];
    for (uint64_t g = (from + GRANULE - 1) / GRANULE; granules && (g + 1) * GRANULE <= to; g++) { /* whole ones: a neighbour's copy may share one */
        lock_granules(lock_of(granules, g));
        if (!begins && granules[g].pending) granules[g].write.clock = now;
        granules[g].pending = begins;
        unlock_granules(lock_of(granules, g));
    }
}

/* Reductions may meet each other on their way; what is no reduction is told from them until they have landed. */
void race_global_reducing(race_block *block, sg_region *region, const race_access *access, bool begins)
{
    race_granule *granules = global_granules(region);
    int lane = __builtin_ctz(access->lanes);
    uint64_t from = access->addresses[lane] - region->address, to = from + (uint64_t)access->bytes;
    for (uint64_t g = from / GRANULE; granules && g * GRANULE < to; g++) {
        lock_granules(lock_of(granules, g));
        struct race_stamp *w = &granules[g].write;
        bool mine = w->block == block->id && w->warp == access->warp && (begins || w->clock == IN_FLIGHT);
        if (mine) w->clock = begins ? IN_FLIGHT : block->now[access->warp][access->warp];
        unlock_granules(lock_of(granules, g));
    }
}

void race_source(race_block *block, const race_access *access, uint64_t id)
{
    int lane = __builtin_ctz(access->lanes);
    if (block->held_count == block->held_capacity) {
        int capacity = block->held_capacity ? 2 * block->held_capacity : 16;
        race_held *grown = realloc(block->held, (size_t)capacity * sizeof *grown);
        if (!grown) return;
        block->held = grown;
        block->held_capacity = capacity;
    }
    block->held[block->held_count++] = (race_held){id, access->addresses[lane], access->bytes,
                                                   {.block = block->id, .place = access->place, .warp = (uint8_t)access->warp, .lane = (uint8_t)lane}};
}

void race_source_done(race_block *block, uint64_t id)
{
    for (int i = 0; i < block->held_count; i++)
        if (block->held[i].id == id) block->held[i--] = block->held[--block->held_count];
}
